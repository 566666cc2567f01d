//! Name constraints, RFC 5280 §4.2.1.10 and §6.1.4 (g).
//!
//! The permitted subtrees of each CA are kept as a list of their own and a name must be within each
//! of the lists, so nothing is ever intersected and nothing can explode. Each comparison counts
//! against a budget.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::identity::is_dns_name;
use super::name::{DistinguishedName, GeneralName};
use super::view::{NameConstraints, View};

/// Why a certificate's names do not hold.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// A name is where no name may be.
    Outside(String),
    /// A constraint or the name that it applies to has no valid form.
    Malformed(String),
    /// The budget of comparisons is used up.
    TooComplex,
}

/// The constraints of all CAs above a certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct Constraints<'a> {
    permitted: Vec<Vec<GeneralName<'a>>>,
    excluded: Vec<GeneralName<'a>>,
}

impl<'a> Constraints<'a> {
    /// §6.1.4 (g). A constraint that has no valid form refuses the CA that makes it.
    pub(super) fn add(&mut self, constraints: &NameConstraints<'a>) -> Result<(), Refusal> {
        for base in constraints.permitted.iter().chain(&constraints.excluded) {
            check_form(base)?;
        }
        if !constraints.permitted.is_empty() {
            self.permitted.push(constraints.permitted.clone());
        }
        self.excluded.extend(constraints.excluded.iter().cloned());
        Ok(())
    }

    /// §6.1.3 (b) and (c): the subject, each subject alternative name, and the e-mail addresses in
    /// the subject if no alternative name is one.
    pub(super) fn check(&self, view: &View<'_>, budget: &mut usize) -> Result<(), Refusal> {
        if self.permitted.is_empty() && self.excluded.is_empty() {
            return Ok(());
        }
        if !view.subject.is_empty() {
            self.check_name(&GeneralName::Directory(view.subject.clone()), budget)?;
        }
        let names = view
            .subject_alt_name
            .as_ref()
            .map_or(&[][..], |names| &names.value);
        for name in names {
            self.check_name(name, budget)?;
        }
        if !names
            .iter()
            .any(|name| matches!(name, GeneralName::Email(_)))
        {
            for address in &view.subject.email_addresses {
                self.check_name(&GeneralName::Email(address), budget)?;
            }
        }
        Ok(())
    }

    fn check_name(&self, name: &GeneralName<'_>, budget: &mut usize) -> Result<(), Refusal> {
        let mut matches = |base: &GeneralName<'_>, excluding: bool| {
            *budget = budget.checked_sub(1).ok_or(Refusal::TooComplex)?;
            is_within(name, base, excluding)
        };
        for base in self.excluded.iter().filter(|base| same_form(base, name)) {
            if matches(base, true)? {
                return Err(Refusal::Outside(format!("{} is excluded", show(name))));
            }
        }
        for permitted in &self.permitted {
            let mut constrained = false;
            let mut allowed = false;
            for base in permitted.iter().filter(|base| same_form(base, name)) {
                constrained = true;
                allowed = matches(base, false)?;
                if allowed {
                    break;
                }
            }
            if constrained && !allowed {
                return Err(Refusal::Outside(format!("{} is not permitted", show(name))));
            }
        }
        Ok(())
    }
}

/// Whether a constraint speaks of names like this one. Each type of otherName is a form of its own,
/// so constraints on DNS names or on other types do not touch a hardwareModuleName.
fn same_form(base: &GeneralName<'_>, name: &GeneralName<'_>) -> bool {
    match (base, name) {
        (GeneralName::Other(base, _), GeneralName::Other(name, _)) => base == name,
        (GeneralName::Rare(base, _), GeneralName::Rare(name, _)) => base == name,
        _ => std::mem::discriminant(base) == std::mem::discriminant(name),
    }
}

fn check_form(base: &GeneralName<'_>) -> Result<(), Refusal> {
    let good = match base {
        GeneralName::Dns(base) => base.is_empty() || is_dns_name(base),
        GeneralName::Email(base) => match base.rsplit_once('@') {
            Some((local, host)) => !local.is_empty() && is_dns_name(host),
            None => base.is_empty() || is_dns_name(base.strip_prefix('.').unwrap_or(base)),
        },
        GeneralName::Uri(base) => {
            base.is_empty() || is_dns_name(base.strip_prefix('.').unwrap_or(base))
        }
        GeneralName::Ip(base) => match base.len() {
            8 | 32 => {
                let mask = base.iter().skip(base.len() / 2);
                let bits: Vec<bool> = mask
                    .flat_map(|octet| (0..8).map(move |bit| octet & (0x80 >> bit) != 0))
                    .collect();
                // RFC 4632 §3.1: the ones of a mask stand on the left.
                bits.is_sorted_by(|left, right| left >= right)
            }
            _ => false,
        },
        GeneralName::Directory(_) | GeneralName::Other(..) | GeneralName::Rare(..) => true,
    };
    if good {
        Ok(())
    } else {
        Err(Refusal::Malformed(format!(
            "the constraint {} has no valid form",
            show(base)
        )))
    }
}

/// Whether `name` lies in the subtree of `base`, both of one form. `excluding` asks whether any
/// name that a wildcard stands for does.
fn is_within(
    name: &GeneralName<'_>,
    base: &GeneralName<'_>,
    excluding: bool,
) -> Result<bool, Refusal> {
    match (name, base) {
        (GeneralName::Directory(name), GeneralName::Directory(base)) => Ok(name.is_within(base)),
        (GeneralName::Dns(name), GeneralName::Dns(base)) => dns_within(name, base, excluding),
        (GeneralName::Email(name), GeneralName::Email(base)) => email_within(name, base),
        (GeneralName::Ip(name), GeneralName::Ip(base)) => ip_within(name, base),
        (GeneralName::Uri(name), GeneralName::Uri(base)) => uri_within(name, base),
        // RFC 4108 defines no subtrees below a hardwareModuleName and RFC 5280 none for otherName in
        // general: an excluded type is excluded whatever the value, a permitted one must be equal.
        (GeneralName::Other(_, name), GeneralName::Other(_, base)) => Ok(excluding || name == base),
        // RFC 5280 §4.2.1.10: a constraint on a name form that is not understood refuses the names.
        _ => Ok(excluding),
    }
}

/// Zero or more labels added on the left of the constraint.
fn dns_within(name: &str, base: &str, excluding: bool) -> Result<bool, Refusal> {
    let parent = name.strip_prefix("*.");
    if !is_dns_name(parent.unwrap_or(name)) {
        return Err(Refusal::Malformed(format!(
            "the DNS name {name:?} has no valid form"
        )));
    }
    if host_within(name, base) {
        return Ok(true);
    }
    // `*.example.com` stands for `a.example.com` too, so excluding that excludes the wildcard.
    let child = base.split_once('.').map_or("", |(_, parent)| parent);
    Ok(excluding && parent.is_some_and(|parent| parent.eq_ignore_ascii_case(child)))
}

fn host_within(host: &str, base: &str) -> bool {
    match host.len().checked_sub(base.len()) {
        None => false,
        Some(_) if base.is_empty() => true,
        Some(0) => host.eq_ignore_ascii_case(base),
        Some(extra) => {
            let (labels, suffix) = host.split_at_checked(extra).unwrap_or(("", ""));
            labels.ends_with('.') && suffix.eq_ignore_ascii_case(base)
        }
    }
}

/// A mailbox, all mailboxes of a host, or with a leading period all hosts of a domain.
fn email_within(name: &str, base: &str) -> Result<bool, Refusal> {
    let malformed = || Refusal::Malformed(format!("the e-mail address {name:?} has no valid form"));
    let (local, host) = name.rsplit_once('@').ok_or_else(malformed)?;
    if local.is_empty() || !is_dns_name(host) || !is_local_part(local) {
        return Err(malformed());
    }
    Ok(match base.rsplit_once('@') {
        // RFC 5280 §7.5: the local part is compared exactly, the host without case.
        Some((base_local, base_host)) => {
            local == base_local && host.eq_ignore_ascii_case(base_host)
        }
        None => host_or_domain(host, base),
    })
}

/// Dot-atom or quoted string, as far as a certificate may use them: no spaces or control characters
/// outside quotes, no second at-sign.
fn is_local_part(local: &str) -> bool {
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    quoted || (local.chars().all(plain) && !local.starts_with('.') && !local.ends_with('.'))
}

/// The host of the URI; RFC 5280 demands that a URI without one is refused where URIs are constrained.
fn uri_within(name: &str, base: &str) -> Result<bool, Refusal> {
    let malformed =
        || Refusal::Malformed(format!("the URI {name:?} has no host name to constrain"));
    let (_, rest) = name.split_once("://").ok_or_else(malformed)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    if !is_dns_name(host) {
        return Err(malformed());
    }
    Ok(host_or_domain(host, base))
}

/// With a leading period the hosts below a domain, otherwise the very host.
fn host_or_domain(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(domain) => host.len() > domain.len() && host_within(host, domain),
        None => base.is_empty() || host.eq_ignore_ascii_case(base),
    }
}

fn ip_within(name: &[u8], base: &[u8]) -> Result<bool, Refusal> {
    if name.len() != 4 && name.len() != 16 {
        return Err(Refusal::Malformed(
            "an IP address has neither 4 nor 16 octets".into(),
        ));
    }
    let Some((network, mask)) = base.split_at_checked(name.len()) else {
        return Ok(false);
    };
    Ok(mask.len() == name.len()
        && name
            .iter()
            .zip(network)
            .zip(mask)
            .all(|((name, network), mask)| name & mask == network & mask))
}

fn show(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::Directory(name) => format!("directory name {}", show_directory(name)),
        GeneralName::Dns(name) => format!("DNS name {name:?}"),
        GeneralName::Email(name) => format!("e-mail address {name:?}"),
        GeneralName::Ip(octets) => {
            match (<[u8; 4]>::try_from(*octets), <[u8; 16]>::try_from(*octets)) {
                (Ok(octets), _) => format!("IP address {}", Ipv4Addr::from(octets)),
                (_, Ok(octets)) => format!("IP address {}", Ipv6Addr::from(octets)),
                _ => format!("IP address {}", hex::encode(octets)),
            }
        }
        GeneralName::Other(kind, _) => format!("other name of type {}", show_oid(kind)),
        GeneralName::Rare(number, _) => format!("general name of choice {number}"),
        GeneralName::Uri(uri) => format!("URI {uri:?}"),
    }
}

fn show_directory(name: &DistinguishedName<'_>) -> String {
    use der::Decode as _;
    x509_cert::name::Name::from_der(name.der).map_or_else(
        |_| hex::encode(name.der),
        |name| format!("{:?}", name.to_string()),
    )
}

/// An OID's content octets in dotted form.
pub(super) fn show_oid(content: &[u8]) -> String {
    const_oid::ObjectIdentifier::from_bytes(content)
        .map_or_else(|_| hex::encode(content), |oid| oid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Option<bool> {
        is_within(name, base, false).ok()
    }

    #[test]
    fn dns() {
        let cases = [
            ("example.com", "example.com", Some(true)),
            ("A.Example.com", "example.COM", Some(true)),
            ("a.b.example.com", "example.com", Some(true)),
            ("badexample.com", "example.com", Some(false)),
            ("example.com", "a.example.com", Some(false)),
            ("*.example.com", "example.com", Some(true)),
            ("*.example.com", "a.example.com", Some(false)),
            ("any.thing", "", Some(true)),
            ("a..b", "b", None),
            ("a*.example.com", "example.com", None),
        ];
        for (name, base, expected) in cases {
            assert_eq!(
                within(&GeneralName::Dns(name), &GeneralName::Dns(base)),
                expected,
                "{name} in {base}"
            );
        }
        assert_eq!(dns_within("*.example.com", "a.example.com", true), Ok(true));
        assert_eq!(
            dns_within("*.example.com", "b.a.example.com", true),
            Ok(false)
        );
        assert_eq!(
            dns_within("b.example.com", "a.example.com", true),
            Ok(false)
        );
    }

    #[test]
    fn email_and_uri() {
        let email = |name, base| within(&GeneralName::Email(name), &GeneralName::Email(base));
        assert_eq!(email("Me@Host.example", "Me@host.Example"), Some(true));
        assert_eq!(email("me@host.example", "Me@host.example"), Some(false));
        assert_eq!(email("me@host.example", "host.example"), Some(true));
        assert_eq!(email("me@host.example", "example"), Some(false));
        assert_eq!(email("me@host.example", ".example"), Some(true));
        assert_eq!(email("me@example", ".example"), Some(false));
        assert_eq!(email("no-at-sign", "example"), None);
        let uri = |name, base| within(&GeneralName::Uri(name), &GeneralName::Uri(base));
        assert_eq!(
            uri("https://u@host.example:8443/x?y", "host.example"),
            Some(true)
        );
        assert_eq!(uri("https://host.example/", ".example"), Some(true));
        assert_eq!(uri("https://host.example/", "example"), Some(false));
        assert_eq!(uri("https://192.0.2.1/", "example"), None);
        assert_eq!(uri("urn:x:y", "example"), None);
    }

    #[test]
    fn ip_ranges_and_forms() {
        let base = [192, 0, 2, 0, 255, 255, 255, 0];
        let ip = |name| within(&GeneralName::Ip(name), &GeneralName::Ip(&base));
        assert_eq!(ip(&[192, 0, 2, 9]), Some(true));
        assert_eq!(ip(&[192, 0, 3, 9]), Some(false));
        assert_eq!(ip(&[0; 16]), Some(false));
        assert_eq!(ip(&[0; 5]), None);
        for bad in [
            GeneralName::Ip(&[192, 0, 2, 0, 255, 0, 255, 0]),
            GeneralName::Ip(&[192, 0, 2, 0]),
            GeneralName::Dns(".example.com"),
            GeneralName::Dns("*.example.com"),
            GeneralName::Email("@example.com"),
            GeneralName::Uri("https://example.com"),
        ] {
            assert!(check_form(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn another_type_of_other_name_is_not_touched() {
        let hardware = GeneralName::Other(&[0x2b, 6, 1], b"a");
        assert!(!same_form(&GeneralName::Dns("example.com"), &hardware));
        assert!(!same_form(
            &GeneralName::Other(&[0x2b, 6, 2], b"a"),
            &hardware
        ));
        let same_type = GeneralName::Other(&[0x2b, 6, 1], b"b");
        assert!(same_form(&same_type, &hardware));
        assert_eq!(is_within(&hardware, &same_type, true), Ok(true));
        assert_eq!(is_within(&hardware, &same_type, false), Ok(false));
    }
}
