//! What the records carry.

use std::net::IpAddr;

use super::Error;

/// The artefacts of a device as TXT records carry them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artefacts {
    /// Conveyed information: key `ci`.
    pub conveyed_information: Option<Vec<u8>>,
    /// Owner certificate: key `oc`.
    pub owner_certificate: Option<Vec<u8>>,
    /// Ownership voucher: key `ov`.
    pub ownership_voucher: Option<Vec<u8>>,
}

impl Artefacts {
    /// Takes the content of one TXT record, its character-strings put together. Says whether it
    /// was one of ours.
    pub fn take(&mut self, content: &[u8]) -> bool {
        let Some(at) = content.iter().position(|octet| *octet == b'=') else {
            return false;
        };
        let (key, value) = content.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        // Keys have no case, and nothing is called by an empty value.
        let slot = match key.to_ascii_lowercase().as_slice() {
            b"ci" => &mut self.conveyed_information,
            b"oc" => &mut self.owner_certificate,
            b"ov" => &mut self.ownership_voucher,
            // SZTP-8572-4.2.2-01: Devices MUST ignore any other keys that may be returned.
            _ => return false,
        };
        // SZTP-6763-6.4-01: of a key that appears more than once, only the first counts.
        if slot.is_none() && !value.is_empty() {
            *slot = Some(value.to_vec());
        }
        true
    }

    /// Whether they go together.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`].
    pub fn check(&self) -> Result<(), Error> {
        if self.conveyed_information.is_none() {
            return Err(Error::Incomplete("there is no ci"));
        }
        if self.owner_certificate.is_some() != self.ownership_voucher.is_some() {
            return Err(Error::Incomplete("of oc and ov there is only one"));
        }
        Ok(())
    }

    /// Keys and values, in the order in which they are written.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, &[u8])> {
        [
            ("ci", &self.conveyed_information),
            ("oc", &self.owner_certificate),
            ("ov", &self.ownership_voucher),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)))
        .collect()
    }
}

/// A server in an SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower ones are tried first.
    pub priority: u16,
    /// The share of those of equal priority.
    pub weight: u16,
    /// The TCP port.
    pub port: u16,
    /// The host's name, without a dot at its end.
    pub target: String,
    /// Addresses of the host that came in the same answer.
    pub addresses: Vec<IpAddr>,
}

/// The servers in the order in which they are to be tried
/// ([RFC 2782](https://www.rfc-editor.org/rfc/rfc2782.html)): by priority, and among equals by
/// chance in proportion to their weights. `random` gives a number from 0 up to and including its
/// argument.
#[must_use]
pub fn order(mut services: Vec<Service>, mut random: impl FnMut(u32) -> u32) -> Vec<Service> {
    // SZTP-8572-4.2.3-02, SZTP-2782--01: the target host with the lowest-numbered priority it can
    // reach is tried first; target hosts with the same priority are tried in an order defined by
    // the weight field. Those of weight 0 stand at the beginning of their group.
    services.sort_by_key(|service| (service.priority, service.weight != 0));
    let mut out: Vec<Service> = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let group = services
            .iter()
            .take_while(|service| service.priority == priority);
        let total: u32 = group.clone().map(|service| u32::from(service.weight)).sum();
        let chosen = random(total).min(total);
        let mut sum = 0_u32;
        let at = group
            .map(|service| {
                sum += u32::from(service.weight);
                sum
            })
            .position(|running| running >= chosen)
            .unwrap_or_default();
        out.push(services.remove(at));
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(priority: u16, weight: u16, target: &str) -> Service {
        Service {
            priority,
            weight,
            port: 443,
            target: target.to_owned(),
            addresses: Vec::new(),
        }
    }

    fn targets(services: &[Service]) -> Vec<&str> {
        services.iter().map(|one| one.target.as_str()).collect()
    }

    /// Requirements: SZTP-2782--01, SZTP-8572-4.2.3-02
    #[test]
    fn lower_priorities_come_first_and_weights_decide_among_equals() {
        let four = vec![
            service(2, 10, "d"),
            service(1, 0, "b"),
            service(2, 30, "c"),
            service(0, 0, "a"),
        ];
        // Nothing chosen goes to the first of the group, everything to the last.
        assert_eq!(targets(&order(four.clone(), |_| 0)), ["a", "b", "d", "c"]);
        assert_eq!(
            targets(&order(four.clone(), |total| total)),
            ["a", "b", "c", "d"]
        );
        let mut c_first = 0;
        for chosen in 0..=40 {
            let mut draws = 0;
            let ordered = order(four.clone(), |total| {
                draws += 1;
                if total == 40 { chosen } else { 0 }
            });
            assert_eq!(draws, 4);
            c_first += u32::from(ordered[2].target == "c");
        }
        // 11 to 40 are c's share.
        assert_eq!(c_first, 30);
        let zero = vec![service(0, 1, "heavy"), service(0, 0, "zero")];
        assert_eq!(targets(&order(zero, |_| 0)), ["zero", "heavy"]);
    }

    /// Requirements: SZTP-8572-4.2.2-01, SZTP-8572-4.2.2-04, SZTP-6763-6.4-01, SZTP-6763-6.5-01
    #[test]
    fn values_are_octets_behind_the_first_equals_sign() {
        let mut found = Artefacts::default();
        assert!(found.take(b"CI=0=\0\xff="));
        assert!(found.take(b"ci=second"));
        assert!(found.take(b"oc="));
        for other in [&b"=x"[..], b"xx=1", b"ci", b""] {
            assert!(!found.take(other), "{other:?}");
        }
        assert_eq!(
            found.conveyed_information.as_deref(),
            Some(&b"0=\0\xff="[..])
        );
        assert_eq!(found.owner_certificate, None);
        assert!(found.check().is_ok());
        found.take(b"ov=x");
        assert!(matches!(found.check(), Err(Error::Incomplete(_))));
        assert!(matches!(
            Artefacts::default().check(),
            Err(Error::Incomplete(_))
        ));
    }

    proptest! {
        #[test]
        fn ordering_keeps_every_server_and_the_priorities(
            all in prop::collection::vec((0_u16..4, any::<u16>()), 0..20),
            draws in prop::collection::vec(any::<u32>(), 20),
        ) {
            let services: Vec<_> = all
                .iter()
                .enumerate()
                .map(|(n, (priority, weight))| service(*priority, *weight, &n.to_string()))
                .collect();
            let mut draws = draws.into_iter();
            let ordered = order(services.clone(), |total| {
                draws.next().unwrap_or_default() % (total + 1)
            });
            prop_assert!(ordered.windows(2).all(|two| two[0].priority <= two[1].priority));
            let mut names = targets(&ordered);
            let mut wanted = targets(&services);
            names.sort_unstable();
            wanted.sort_unstable();
            prop_assert_eq!(names, wanted);
        }
    }
}
