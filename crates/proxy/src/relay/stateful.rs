//! The flows of the stateful proxy.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;

use super::{AMPLIFICATION_MAX, Moment, Pledge, Refusal};

/// The limits of the flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateLimits {
    /// Flows of one address at once.
    pub per_pledge: usize,
    /// Flows of one link at once.
    pub per_link: usize,
    /// How long a flow is kept after its last datagram.
    pub idle: Moment,
    /// How long a flow whose pledge never spoke after an answer is kept on a link that is full.
    pub unanswered: Option<Moment>,
}

/// The number of a flow; numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(u64);

/// A flow: one address and port of a pledge, and what the caller keeps with it, which is the
/// socket towards the registrar.
#[derive(Debug)]
pub struct Flow<T> {
    /// The pledge.
    pub pledge: Pledge,
    /// What the caller keeps.
    pub value: T,
    link: u32,
    began: Moment,
    last: Moment,
    received: u64,
    sent: u64,
    answered: bool,
    confirmed: bool,
}

impl<T> Flow<T> {
    /// Whether the pledge spoke after it was answered.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}

/// The flows of one registrar.
#[derive(Debug)]
pub struct Table<T> {
    limits: StateLimits,
    flows: HashMap<FlowId, Flow<T>>,
    by_pledge: HashMap<Pledge, FlowId>,
    of_address: HashMap<(u32, IpAddr), usize>,
    of_link: HashMap<u32, usize>,
    timers: BinaryHeap<Reverse<(Moment, FlowId)>>,
    /// Those that were not confirmed when they began, oldest first, for each link.
    strangers: HashMap<u32, VecDeque<FlowId>>,
    next: u64,
}

impl<T> Table<T> {
    /// A table without flows.
    #[must_use]
    pub fn new(limits: StateLimits) -> Self {
        Self {
            limits,
            flows: HashMap::new(),
            by_pledge: HashMap::new(),
            of_address: HashMap::new(),
            of_link: HashMap::new(),
            timers: BinaryHeap::new(),
            strangers: HashMap::new(),
            next: 0,
        }
    }

    /// A datagram of this length came from a pledge. Gives its flow if there is one; else
    /// [`begin`](Self::begin) begins one.
    pub fn from_pledge(&mut self, now: Moment, pledge: &Pledge, length: usize) -> Option<&Flow<T>> {
        let id = self.by_pledge.get(pledge)?;
        let flow = self.flows.get_mut(id)?;
        flow.last = now;
        flow.received += length as u64;
        flow.confirmed |= flow.answered;
        Some(flow)
    }

    /// Whether a flow may begin for a pledge that has none. May give back the flow that had to go
    /// for it.
    ///
    /// # Errors
    /// [`Refusal::PledgeFull`] and [`Refusal::LinkFull`]: the pledge is told that it is
    /// administratively prohibited.
    pub fn make_room(
        &mut self,
        now: Moment,
        link: u32,
        pledge: &Pledge,
    ) -> Result<Option<Flow<T>>, Refusal> {
        let count = |count: Option<&usize>| count.copied().unwrap_or_default();
        // JPX-013: At most 2 simultaneous state tuples per pledge IP.
        let of_address = count(self.of_address.get(&(link, pledge.address.ip())));
        if of_address >= self.limits.per_pledge && !defects::seeded!("join-proxy-serves-one-only") {
            return Err(Refusal::PledgeFull);
        }
        // JPX-014: At most 10 simultaneous state tuples per interface.
        if count(self.of_link.get(&link)) < self.limits.per_link
            || defects::seeded!("join-proxy-has-no-limit")
        {
            return Ok(None);
        }
        self.oldest_stranger(now, link)
            .and_then(|id| self.remove(id))
            .map(Some)
            .ok_or(Refusal::LinkFull)
    }

    /// Begins a flow for a pledge for which [`make_room`](Self::make_room) said yes.
    pub fn begin(
        &mut self,
        now: Moment,
        link: u32,
        pledge: Pledge,
        length: usize,
        value: impl FnOnce(FlowId) -> T,
    ) -> FlowId {
        self.next += 1;
        let id = FlowId(self.next);
        let flow = Flow {
            pledge,
            value: value(id),
            link,
            began: now,
            last: now,
            received: length as u64,
            sent: 0,
            answered: false,
            confirmed: false,
        };
        self.flows.insert(id, flow);
        self.by_pledge.insert(pledge, id);
        *self
            .of_address
            .entry((link, pledge.address.ip()))
            .or_default() += 1;
        *self.of_link.entry(link).or_default() += 1;
        self.timers.push(Reverse((now + self.life(), id)));
        self.strangers.entry(link).or_default().push_back(id);
        id
    }

    /// A datagram of this length came from the registrar.
    ///
    /// # Errors
    /// [`Refusal::Amplified`] for more than three times what came from a pledge that has not shown
    /// that it gets answers. `None` if the flow is gone.
    pub fn from_registrar(
        &mut self,
        now: Moment,
        id: FlowId,
        length: usize,
    ) -> Option<Result<&Flow<T>, Refusal>> {
        let flow = self.flows.get_mut(&id)?;
        let sent = flow.sent.saturating_add(length as u64);
        flow.answered = true;
        if !flow.confirmed && sent > flow.received.saturating_mul(AMPLIFICATION_MAX) {
            return Some(Err(Refusal::Amplified));
        }
        flow.sent = sent;
        // JPX-010: Default state lifetime is 30 s after the last relayed packet in either
        // direction.
        flow.last = now;
        Some(Ok(flow))
    }

    /// A flow, without any effect on it.
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<&Flow<T>> {
        self.flows.get(&id)
    }

    /// Ends the flows whose time is over.
    pub fn advance(&mut self, now: Moment) -> Vec<Flow<T>> {
        let mut ended = Vec::new();
        while let Some(Reverse((at, id))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            let Some(flow) = self.flows.get(&id) else {
                continue;
            };
            let until = flow.last + self.life();
            if until > now {
                self.timers.push(Reverse((until, id)));
            } else {
                ended.extend(self.remove(id));
            }
        }
        ended
    }

    fn life(&self) -> Moment {
        let mut life = self.limits.idle;
        if defects::seeded!("join-proxy-forgets-late") {
            life *= 2;
        }
        if defects::seeded!("join-proxy-forgets-early") {
            life /= 2;
        }
        life
    }

    /// When [`advance`](Self::advance) has something to do, at the earliest.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Ends the flows of a listener that is gone.
    pub fn close_listener(&mut self, listener: u16) -> Vec<Flow<T>> {
        let ids: Vec<FlowId> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.pledge.listener == listener)
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// How many flows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// The flow of a full link that has waited longest for its pledge to speak again, if that is
    /// long enough.
    fn oldest_stranger(&mut self, now: Moment, link: u32) -> Option<FlowId> {
        let patience = self.limits.unanswered?;
        let queue = self.strangers.get_mut(&link)?;
        while let Some(id) = queue.front().copied() {
            match self.flows.get(&id) {
                Some(flow) if !flow.confirmed => {
                    let waited = now.saturating_sub(flow.began) >= patience;
                    return waited.then_some(id);
                }
                _ => {
                    queue.pop_front();
                }
            }
        }
        None
    }

    fn remove(&mut self, id: FlowId) -> Option<Flow<T>> {
        let flow = self.flows.remove(&id)?;
        self.by_pledge.remove(&flow.pledge);
        let address = (flow.link, flow.pledge.address.ip());
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
        if let Some(count) = self.of_link.get_mut(&flow.link) {
            *count -= 1;
            if *count == 0 {
                self.of_link.remove(&flow.link);
            }
        }
        let flows = &self.flows;
        if let Some(queue) = self.strangers.get_mut(&flow.link) {
            // Confirmed flows and ended ones leave the queue when there are many of them.
            if queue.len() > 2 * flows.len() + 16 {
                queue.retain(|id| flows.get(id).is_some_and(|flow| !flow.confirmed));
            }
        }
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Moment = Moment::from_secs(1);

    fn limits() -> StateLimits {
        StateLimits {
            per_pledge: 2,
            per_link: 10,
            idle: 30 * SECOND,
            unanswered: Some(10 * SECOND),
        }
    }

    fn pledge(host: u16, port: u16) -> Pledge {
        Pledge::new(
            0,
            SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, host], port)),
        )
    }

    /// As the proxy does it.
    fn send(table: &mut Table<u16>, now: Moment, from: Pledge) -> Result<FlowId, Refusal> {
        if table.from_pledge(now, &from, 100).is_some() {
            return Ok(*table.by_pledge.get(&from).unwrap());
        }
        table.make_room(now, 7, &from)?;
        let port = u16::try_from(table.next).unwrap();
        Ok(table.begin(now, 7, from, 100, |_| 50_000 + port))
    }

    /// Requirements: JPX-008, JPX-010
    #[test]
    fn a_pledge_has_its_own_port_until_30_seconds_of_silence() {
        let mut table = Table::new(limits());
        let one = send(&mut table, Moment::ZERO, pledge(1, 5000)).unwrap();
        let two = send(&mut table, Moment::ZERO, pledge(2, 5000)).unwrap();
        assert_ne!(table.get(one).unwrap().value, table.get(two).unwrap().value);
        // Each direction keeps it.
        assert!(table.advance(29 * SECOND).is_empty());
        assert!(table.from_registrar(29 * SECOND, one, 60).unwrap().is_ok());
        let ended = table.advance(31 * SECOND);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].pledge, pledge(2, 5000));
        assert_eq!(send(&mut table, 58 * SECOND, pledge(1, 5000)), Ok(one));
        assert!(table.advance(87 * SECOND).is_empty());
        assert_eq!(table.deadline(), Some(88 * SECOND));
        assert_eq!(table.advance(88 * SECOND).len(), 1);
        assert!(table.from_registrar(88 * SECOND, one, 60).is_none());
        let again = send(&mut table, 89 * SECOND, pledge(1, 5000)).unwrap();
        assert_ne!(again, one);
    }

    /// Requirements: JPX-013, JPX-014
    #[test]
    fn an_address_has_two_flows_and_a_link_ten() {
        let mut table = Table::new(limits());
        for port in [5000, 5001] {
            send(&mut table, Moment::ZERO, pledge(1, port)).unwrap();
        }
        assert_eq!(
            send(&mut table, Moment::ZERO, pledge(1, 5002)),
            Err(Refusal::PledgeFull)
        );
        for host in 2..10 {
            send(&mut table, Moment::ZERO, pledge(host, 5000)).unwrap();
        }
        assert_eq!(
            send(&mut table, 9 * SECOND, pledge(10, 5000)),
            Err(Refusal::LinkFull)
        );
        // Flows that exist go on.
        assert!(send(&mut table, 9 * SECOND, pledge(1, 5001)).is_ok());
        assert_eq!(table.len(), 10);
    }

    #[test]
    fn who_never_spoke_again_gives_way_and_nobody_else() {
        let mut table = Table::new(limits());
        let mut ids = Vec::new();
        for host in 1..=10 {
            ids.push(send(&mut table, Moment::ZERO, pledge(host, 5000)).unwrap());
        }
        // All but the fourth are in conversation.
        for (host, id) in (1..=10).zip(&ids) {
            table.from_registrar(SECOND, *id, 60).unwrap().unwrap();
            if host != 4 {
                send(&mut table, 2 * SECOND, pledge(host, 5000)).unwrap();
            }
        }
        assert_eq!(
            send(&mut table, 9 * SECOND, pledge(11, 5000)),
            Err(Refusal::LinkFull)
        );
        send(&mut table, 10 * SECOND, pledge(11, 5000)).unwrap();
        assert!(table.get(ids[3]).is_none());
        assert_eq!(table.len(), 10);
        assert_eq!(
            send(&mut table, 19 * SECOND, pledge(12, 5000)),
            Err(Refusal::LinkFull)
        );
    }

    #[test]
    fn a_forged_address_gets_no_more_than_three_times_what_it_sent() {
        let mut table = Table::new(limits());
        let id = send(&mut table, Moment::ZERO, pledge(1, 5000)).unwrap();
        assert!(table.from_registrar(SECOND, id, 250).unwrap().is_ok());
        assert_eq!(
            table.from_registrar(SECOND, id, 51).unwrap().err(),
            Some(Refusal::Amplified)
        );
        send(&mut table, SECOND, pledge(1, 5000)).unwrap();
        assert!(table.from_registrar(SECOND, id, 5000).unwrap().is_ok());
    }

    #[derive(Clone, Debug)]
    enum Act {
        Send { host: u16, port: u16 },
        Answer { pick: usize, length: usize },
        Wait(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (1..30_u16, 5000..5004_u16).prop_map(|(host, port)| Act::Send { host, port }),
            3 => (0..40_usize, 1..2000_usize).prop_map(|(pick, length)| Act::Answer { pick, length }),
            1 => (0..20_000_u64).prop_map(Act::Wait),
        ]
    }

    proptest! {
        #[test]
        fn the_table_never_holds_more_than_it_may(acts in prop::collection::vec(act(), 0..300)) {
            let mut table = Table::new(limits());
            let mut now = Moment::ZERO;
            let mut ids = Vec::new();
            for act in acts {
                match act {
                    Act::Send { host, port } => ids.extend(send(&mut table, now, pledge(host, port))),
                    Act::Answer { pick, length } => {
                        if let Some(id) = ids.get(pick) {
                            let _ = table.from_registrar(now, *id, length);
                        }
                    }
                    Act::Wait(milliseconds) => {
                        now += Moment::from_millis(milliseconds);
                        for flow in table.advance(now) {
                            prop_assert!(flow.last + limits().idle <= now);
                        }
                    }
                }
                prop_assert!(table.len() <= 10);
                prop_assert_eq!(table.by_pledge.len(), table.len());
                prop_assert_eq!(table.of_address.values().sum::<usize>(), table.len());
                prop_assert_eq!(table.of_link.values().sum::<usize>(), table.len());
                prop_assert!(table.of_address.values().all(|count| (1..=2).contains(count)));
                prop_assert!(table.strangers.values().all(|queue| queue.len() <= 50));
                for flow in table.flows.values() {
                    prop_assert!(flow.last + limits().idle >= now);
                }
            }
            table.advance(now + 31 * SECOND);
            prop_assert!(table.is_empty() && table.deadline().is_none());
        }
    }
}
