//! What the pledges of one link may send.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::net::SocketAddr;

use super::{AMPLIFICATION_MAX, Generation, Moment, Refusal};

/// A pledge of which nothing was heard for this long is forgotten.
const IDLE: Moment = Moment::from_secs(600);
/// Places in the queue that are looked at to find one to give up.
const LOOKS_MAX: usize = 8;

/// The rates of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Datagrams of one pledge each second.
    pub pledge_per_second: u32,
    /// Datagrams of one pledge at once.
    pub pledge_burst: u32,
    /// Datagrams of all pledges each second.
    pub link_per_second: u32,
    /// Datagrams of all pledges at once.
    pub link_burst: u32,
    /// Pledges that are remembered.
    pub tracked_max: usize,
    /// Largest datagram.
    pub datagram_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Moment,
}

impl Bucket {
    fn full(now: Moment, burst: u32) -> Self {
        Self {
            tokens: f64::from(burst),
            at: now,
        }
    }

    fn fill(&mut self, now: Moment, per_second: u32, burst: u32) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * f64::from(per_second)).min(f64::from(burst));
        self.at = now.max(self.at);
    }

    fn has(&self) -> bool {
        self.tokens >= 1.0
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
    }
}

/// What a pledge has shown of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It sent something; its address may be anybody's.
    Fresh,
    /// Something was sent to it.
    Answered,
    /// It sent something after it was answered.
    Known,
}

#[derive(Debug)]
struct Entry {
    bucket: Bucket,
    last: Moment,
    standing: Standing,
    received: u64,
    sent: u64,
    generation: Option<Generation>,
}

/// The limits of one link: a rate for each pledge, one for all, and of that at most half for
/// pledges that never showed that they get what is sent to them. So a flood of forged addresses
/// stops neither those who are under way nor grows what is kept.
///
/// What is kept here is of use and not of need: when it is lost, nothing breaks.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    pledges: HashMap<IpAddr, Entry>,
    fresh: VecDeque<IpAddr>,
    known: VecDeque<(Moment, IpAddr)>,
    link: Bucket,
    strangers: Bucket,
}

impl Limiter {
    /// A limiter of which nothing is used up.
    #[must_use]
    pub fn new(rates: Rates, now: Moment) -> Self {
        Self {
            rates,
            pledges: HashMap::new(),
            fresh: VecDeque::new(),
            known: VecDeque::new(),
            link: Bucket::full(now, rates.link_burst),
            strangers: Bucket::full(now, rates.link_burst.div_ceil(2)),
        }
    }

    /// A datagram of this length came from a pledge.
    ///
    /// # Errors
    /// Why it is not relayed.
    pub fn admit(&mut self, now: Moment, from: SocketAddr, length: usize) -> Result<(), Refusal> {
        if length == 0 || from.port() == 0 {
            return Err(Refusal::Empty);
        }
        if length > self.rates.datagram_max {
            return Err(Refusal::TooLarge);
        }
        let rates = self.rates;
        self.link.fill(now, rates.link_per_second, rates.link_burst);
        self.strangers.fill(
            now,
            rates.link_per_second.div_ceil(2),
            rates.link_burst.div_ceil(2),
        );
        if !self.link.has() {
            return Err(Refusal::LinkRate);
        }
        let ip = from.ip();
        let is_stranger = self
            .pledges
            .get(&ip)
            .is_none_or(|entry| entry.standing == Standing::Fresh);
        if is_stranger && !self.strangers.has() {
            return Err(Refusal::LinkRate);
        }
        if !self.pledges.contains_key(&ip) {
            self.make_room();
            self.fresh.push_back(ip);
        }
        let entry = self.pledges.entry(ip).or_insert_with(|| Entry {
            bucket: Bucket::full(now, rates.pledge_burst),
            last: now,
            standing: Standing::Fresh,
            received: 0,
            sent: 0,
            generation: None,
        });
        entry
            .bucket
            .fill(now, rates.pledge_per_second, rates.pledge_burst);
        if !entry.bucket.has() {
            return Err(Refusal::PledgeRate);
        }
        entry.bucket.take();
        entry.last = now;
        entry.received = entry.received.saturating_add(length as u64);
        if entry.standing == Standing::Answered {
            entry.standing = Standing::Known;
            self.known.push_back((now, ip));
        }
        self.link.take();
        if is_stranger {
            self.strangers.take();
        }
        Ok(())
    }

    /// A datagram of this length is to go to a pledge. One that is not remembered gets it: whoever
    /// answers knows of it by something that this proxy sealed.
    ///
    /// # Errors
    /// [`Refusal::Amplified`] for more than three times what came from a pledge that has not shown
    /// that it gets answers.
    pub fn answer(&mut self, to: IpAddr, length: usize) -> Result<(), Refusal> {
        let Some(entry) = self.pledges.get_mut(&to) else {
            return Ok(());
        };
        if entry.standing == Standing::Known {
            return Ok(());
        }
        entry.standing = Standing::Answered;
        let sent = entry.sent.saturating_add(length as u64);
        if sent > entry.received.saturating_mul(AMPLIFICATION_MAX) {
            return Err(Refusal::Amplified);
        }
        entry.sent = sent;
        Ok(())
    }

    /// With which key the pledge's header was sealed last.
    #[must_use]
    pub fn generation(&self, of: IpAddr) -> Option<Generation> {
        self.pledges.get(&of)?.generation
    }

    /// Notes with which key the pledge's header was sealed.
    pub fn set_generation(&mut self, of: IpAddr, generation: Generation) {
        if let Some(entry) = self.pledges.get_mut(&of) {
            entry.generation = Some(generation);
        }
    }

    /// Forgets who was quiet for long.
    pub fn sweep(&mut self, now: Moment) {
        self.pledges
            .retain(|_, entry| now.saturating_sub(entry.last) < IDLE);
        let pledges = &self.pledges;
        self.fresh.retain(|ip| {
            pledges
                .get(ip)
                .is_some_and(|entry| entry.standing != Standing::Known)
        });
        self.known.retain(|(_, ip)| pledges.contains_key(ip));
    }

    /// How many pledges are remembered.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.pledges.len()
    }

    fn make_room(&mut self) {
        while self.pledges.len() >= self.rates.tracked_max.max(1) {
            if !self.forget_a_stranger() && !self.forget_a_known() {
                // The queues hold everybody who is in the map, so this is never reached.
                self.pledges.clear();
            }
        }
        // Those who became known stay in the queue of strangers until it is looked at.
        while self.fresh.len() > 2 * self.rates.tracked_max {
            self.fresh.pop_front();
        }
    }

    fn forget_a_stranger(&mut self) -> bool {
        while let Some(ip) = self.fresh.pop_front() {
            let is_stranger = self
                .pledges
                .get(&ip)
                .is_some_and(|entry| entry.standing != Standing::Known);
            if is_stranger {
                self.pledges.remove(&ip);
                return true;
            }
        }
        false
    }

    fn forget_a_known(&mut self) -> bool {
        let mut looks = 0;
        while let Some((noted, ip)) = self.known.pop_front() {
            let Some(entry) = self.pledges.get(&ip) else {
                continue;
            };
            looks += 1;
            if entry.last > noted && looks < LOOKS_MAX {
                let last = entry.last;
                self.known.push_back((last, ip));
                continue;
            }
            self.pledges.remove(&ip);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        Rates {
            pledge_per_second: 10,
            pledge_burst: 20,
            link_per_second: 100,
            link_burst: 200,
            tracked_max: 50,
            datagram_max: 1500,
        }
    }

    fn address(number: u16) -> SocketAddr {
        SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, number], 40_000))
    }

    fn admitted(limiter: &mut Limiter, now: Moment, from: SocketAddr, count: usize) -> usize {
        (0..count)
            .filter(|_| limiter.admit(now, from, 100).is_ok())
            .count()
    }

    #[test]
    fn a_pledge_has_its_rate() {
        let mut limiter = Limiter::new(rates(), Moment::ZERO);
        assert_eq!(admitted(&mut limiter, Moment::ZERO, address(1), 50), 20);
        assert_eq!(
            limiter.admit(Moment::ZERO, address(1), 100),
            Err(Refusal::PledgeRate)
        );
        let later = Moment::from_secs(1);
        assert_eq!(admitted(&mut limiter, later, address(1), 50), 10);
        assert_eq!(
            limiter.admit(later, address(2), 1501),
            Err(Refusal::TooLarge)
        );
        assert_eq!(limiter.admit(later, address(2), 0), Err(Refusal::Empty));
        let nobody = SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, 1], 0));
        assert_eq!(limiter.admit(later, nobody, 1), Err(Refusal::Empty));
    }

    #[test]
    fn a_forged_address_gets_no_more_than_three_times_what_it_sent() {
        let mut limiter = Limiter::new(rates(), Moment::ZERO);
        let [forged, unknown] = [1, 2].map(address);
        limiter.admit(Moment::ZERO, forged, 100).unwrap();
        assert_eq!(limiter.answer(forged.ip(), 300), Ok(()));
        for _ in 0..1000 {
            assert_eq!(limiter.answer(forged.ip(), 1), Err(Refusal::Amplified));
        }
        // One that goes on gets what it is sent.
        limiter.admit(Moment::ZERO, forged, 100).unwrap();
        assert_eq!(limiter.answer(forged.ip(), 5000), Ok(()));
        assert_eq!(limiter.answer(unknown.ip(), 5000), Ok(()));
        assert_eq!(limiter.tracked(), 1);
    }

    #[test]
    fn a_flood_of_forged_addresses_neither_grows_nor_stops_those_under_way() {
        let mut limiter = Limiter::new(rates(), Moment::ZERO);
        let mut now = Moment::ZERO;
        let honest = address(1);
        limiter.admit(now, honest, 100).unwrap();
        limiter.answer(honest.ip(), 100).unwrap();
        limiter.admit(now, honest, 100).unwrap();
        let mut relayed = 0;
        // Ten seconds with a thousand forged datagrams each tenth of a second.
        for round in 0..100_u16 {
            now += Moment::from_millis(100);
            for number in 0..1000 {
                let forged = address(2 + (round % 60) * 1000 + number);
                if limiter.admit(now, forged, 100).is_ok() {
                    relayed += 1;
                }
            }
            assert_eq!(limiter.admit(now, honest, 100), Ok(()));
            assert!(limiter.tracked() <= 50);
            assert!(limiter.fresh.len() <= 101 && limiter.known.len() <= 51);
        }
        // Half of 100 each second, and half of what may come at once.
        assert!(relayed <= 50 * 10 + 100, "{relayed}");
        limiter.sweep(now + IDLE);
        assert_eq!(limiter.tracked(), 0);
        assert_eq!(limiter.fresh.len() + limiter.known.len(), 0);
    }
}
