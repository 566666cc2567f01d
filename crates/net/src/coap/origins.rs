//! How much of what is there for all is taken by one network.
//!
//! Only addresses that were proven with a cookie are written down here, so a flood from forged
//! ones leaves no trace.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::coap::Moment;

use super::CoapLimits;

/// Bits of an IPv6 address that one subscriber has to himself at least.
const V6_PREFIX: u32 = 64;
/// Seconds' worth of handshakes that may be begun at once.
const BURST_SECONDS: f64 = 2.0;
/// Of the handshakes at once one network may have one in so many.
const HANDSHAKES_SHARE: usize = 4;
/// Networks in the books before those that are at rest are struck out.
const ROWS_BEFORE_SWEEP: usize = 1024;

/// A network whose peers are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    network: IpAddr,
    /// Whether it is a stateless join proxy: its pledges are many.
    proxy: bool,
}

impl Origin {
    pub(super) fn of(address: SocketAddr, proxy: bool) -> Self {
        let network = match address.ip().to_canonical() {
            // Behind one proxy's address there is one proxy.
            ip if proxy => ip,
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (u128::BITS - V6_PREFIX);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        Self { network, proxy }
    }
}

#[derive(Debug)]
struct Row {
    associations: usize,
    /// Those of them whose handshake is not done.
    handshakes: usize,
    /// Handshakes that may be begun now.
    credit: f64,
    at: Moment,
}

/// The books, shared by all sockets of a listener.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<HashMap<Origin, Row>>);

impl Origins {
    /// Whether a network may begin a handshake now; writes nothing down.
    pub(super) fn may_begin(&self, now: Moment, origin: Origin, limits: &CoapLimits) -> bool {
        let rows = self.rows();
        rows.get(&origin)
            .is_none_or(|row| credit(row, now, limits) >= 1.0)
    }

    /// Whether a network has as many associations as it may have.
    pub(super) fn is_full(&self, origin: Origin, limits: &CoapLimits) -> bool {
        let max = if origin.proxy {
            limits.peers_per_proxy_max
        } else {
            limits.peers_per_address_max
        };
        let rows = self.rows();
        rows.get(&origin).is_some_and(|row| row.associations >= max)
    }

    /// Whether a network has as many handshakes under way as one network may have: the others
    /// shall not wait for it.
    pub(super) fn has_its_share(&self, origin: Origin, limits: &CoapLimits) -> bool {
        let share = limits.handshakes_max.div_ceil(HANDSHAKES_SHARE);
        let rows = self.rows();
        rows.get(&origin).is_some_and(|row| row.handshakes >= share)
    }

    /// A network whose address is proven made us do what it takes to begin a handshake, whether or
    /// not there is room for it then.
    pub(super) fn charge(&self, now: Moment, origin: Origin, limits: &CoapLimits) {
        let mut rows = self.rows();
        if rows.len() >= ROWS_BEFORE_SWEEP && !rows.contains_key(&origin) {
            let full = burst(limits);
            rows.retain(|_, row| row.associations > 0 || credit(row, now, limits) < full);
        }
        let row = rows.entry(origin).or_insert_with(|| Row {
            associations: 0,
            handshakes: 0,
            credit: burst(limits),
            at: now,
        });
        row.credit = credit(row, now, limits) - 1.0;
        row.at = now;
    }

    /// A network that was charged for it begins a handshake.
    pub(super) fn begin(&self, origin: Origin) {
        if let Some(row) = self.rows().get_mut(&origin) {
            row.associations += 1;
            row.handshakes += 1;
        }
    }

    /// A handshake is done or given up.
    pub(super) fn finish(&self, origin: Origin) {
        if let Some(row) = self.rows().get_mut(&origin) {
            row.handshakes = row.handshakes.saturating_sub(1);
        }
    }

    /// An association ended.
    pub(super) fn end(&self, origin: Origin) {
        if let Some(row) = self.rows().get_mut(&origin) {
            row.associations = row.associations.saturating_sub(1);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rows().len()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Origin, Row>> {
        // Nothing in here panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn burst(limits: &CoapLimits) -> f64 {
    (f64::from(limits.handshakes_per_second_max) * BURST_SECONDS).max(1.0)
}

fn credit(row: &Row, now: Moment, limits: &CoapLimits) -> f64 {
    let gained = now.saturating_sub(row.at).as_secs_f64();
    let credit = row.credit + gained * f64::from(limits.handshakes_per_second_max);
    credit.min(burst(limits))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().expect("an address"), false)
    }

    #[test]
    fn a_network_is_an_address_or_a_64() {
        assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff]:2"));
        assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
        assert_eq!(origin("192.0.2.1:1"), origin("192.0.2.1:2"));
        assert_ne!(origin("192.0.2.1:1"), origin("192.0.2.2:1"));
        assert_eq!(origin("192.0.2.1:1"), origin("[::ffff:192.0.2.1]:1"));
        let address = "192.0.2.1:1".parse().expect("an address");
        assert_ne!(Origin::of(address, true), Origin::of(address, false));
    }

    #[test]
    fn handshakes_come_at_a_rate_and_only_so_many() {
        let limits = CoapLimits {
            handshakes_per_second_max: 2,
            peers_per_address_max: 7,
            ..CoapLimits::default()
        };
        let origins = Origins::default();
        let one = origin("192.0.2.1:1");
        let other = origin("192.0.2.2:1");
        let try_all = |now: u64| {
            let now = Duration::from_secs(now);
            let mut begun = 0;
            while origins.may_begin(now, one, &limits) {
                origins.charge(now, one, &limits);
                origins.begin(one);
                begun += 1;
            }
            begun
        };
        assert_eq!(try_all(10), 4, "the burst");
        assert_eq!(try_all(10), 0);
        assert!(origins.may_begin(Duration::from_secs(10), other, &limits));
        assert_eq!(try_all(11), 2, "the rate");
        assert!(!origins.is_full(one, &limits));
        assert_eq!(try_all(100), 4, "the burst and no more");
        assert!(origins.is_full(one, &limits) && !origins.is_full(other, &limits));
        for _ in 0..4 {
            origins.end(one);
        }
        assert!(!origins.is_full(one, &limits));
    }

    #[test]
    fn networks_at_rest_are_struck_out() {
        let limits = CoapLimits::default();
        let origins = Origins::default();
        for number in 0..5_000_u32 {
            let address = SocketAddr::new(IpAddr::V4(number.into()), 1);
            let now = Duration::from_secs(u64::from(number));
            origins.charge(now, Origin::of(address, false), &limits);
            origins.begin(Origin::of(address, false));
            origins.finish(Origin::of(address, false));
            origins.end(Origin::of(address, false));
        }
        assert!(origins.len() <= ROWS_BEFORE_SWEEP, "{}", origins.len());
    }
}
