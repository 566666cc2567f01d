//! One socket's peers, without the socket: datagrams and answers come in with a time; datagrams
//! and requests go out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ::coap::jpy::Jpy;
use ::coap::{Code, Endpoint, Event, Exchange, Moment, Request, Response, Statistics, Via};
use bytes::Bytes;

use super::counters::Counters;
use super::fair::Fair;
use super::origins::{Origin, Origins};
use super::peer::{Name, Named, canonical};
use super::place::{Association, Place, Tenants, block_exponent, push};
use super::records::{self, Record};
use super::{CoapLimits, CoapPeer, DtlsPeer};
use crate::dtls::{Front, Hello, Session, State};

/// Of the associations that are idle longest, so many are looked at for one that can go.
const EVICTION_TRIES: usize = 64;
/// Seconds after which to come back when we do too much at once.
const RETRY_AFTER: u32 = 10;

/// A request for the handler.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) peer: Arc<CoapPeer>,
    pub(super) ticket: Ticket,
    pub(super) request: Request,
}

/// What to give back with the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    exchange: Exchange,
    name: Name,
}

/// How a socket is spoken to.
#[derive(Clone)]
pub(super) enum Speech {
    /// DTLS.
    Secured(Front),
    /// DTLS in JPY.
    Proxied(Front),
    /// In the clear.
    Open,
}

/// What all sockets of a listener share.
pub(super) struct Shared {
    pub(super) limits: CoapLimits,
    pub(super) counters: Counters,
    pub(super) origins: Origins,
}

pub(super) struct Shard {
    shared: Arc<Shared>,
    speech: Speech,
    local: SocketAddr,
    /// How what is in the clear came.
    via: Via,
    endpoint: Endpoint<Name>,
    /// What of the endpoint's statistics is counted already.
    counted: Statistics,
    tenants: HashMap<Place, Tenants>,
    associations: HashMap<u64, Association>,
    /// By the time when they were heard of.
    quiet: BTreeSet<(Moment, u64)>,
    /// Those whose handshake is not done, by the time when it was begun.
    unfinished: BTreeSet<(Moment, u64)>,
    timers: BTreeSet<(Moment, u64)>,
    waiting: Fair<Place>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    asked: VecDeque<Asked>,
    /// Requests that are being answered.
    answering: usize,
    /// Handshakes begun so far.
    admitted: u64,
}

impl Shard {
    pub(super) fn new(
        shared: Arc<Shared>,
        speech: Speech,
        local: SocketAddr,
        endpoint: Endpoint<Name>,
    ) -> Self {
        let limits = &shared.limits;
        let waiting = Fair::new(limits.queue_per_peer_max, limits.queue_bytes_max);
        Self {
            shared,
            speech,
            local,
            via: Via::Open,
            endpoint,
            counted: Statistics::default(),
            tenants: HashMap::new(),
            associations: HashMap::new(),
            quiet: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            timers: BTreeSet::new(),
            waiting,
            out: VecDeque::new(),
            asked: VecDeque::new(),
            answering: 0,
            admitted: 0,
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// A datagram arrived. The answer is whether it cost as much as many others: whether a
    /// handshake was begun.
    pub(super) fn receive(
        &mut self,
        now: Moment,
        from: SocketAddr,
        via: Via,
        datagram: &[u8],
    ) -> bool {
        let before = self.admitted;
        self.take(now, from, via, datagram);
        self.admitted != before
    }

    fn take(&mut self, now: Moment, from: SocketAddr, via: Via, datagram: &[u8]) {
        let counters = &self.shared.counters;
        Counters::add(&counters.datagrams_received);
        Counters::add_many(&counters.bytes_received, datagram.len());
        match &self.speech {
            Speech::Open => {
                self.via = via;
                self.endpoint
                    .receive(now, &Name::address(from), via, datagram);
                self.settle(now);
            }
            Speech::Secured(front) => {
                let front = front.clone();
                let place = Place {
                    address: from,
                    header: None,
                };
                self.sort(now, &front, place, datagram);
            }
            Speech::Proxied(front) => {
                // JPX-033: An array with fewer than 2 elements is discarded.
                let Ok(jpy) = Jpy::decode(datagram) else {
                    Counters::add(&counters.jpy_malformed);
                    return;
                };
                let front = front.clone();
                // JPX-017: The registrar makes no attempt to decode the JPY header.
                let place = Place {
                    address: from,
                    header: Some(Bytes::copy_from_slice(jpy.header)),
                };
                self.sort(now, &front, place, jpy.content);
            }
        }
    }

    /// Who is known waits for his turn; a stranger, or who calls himself known and begins anew, is
    /// answered at once or not at all, since nothing is kept of him.
    fn sort(&mut self, now: Moment, front: &Front, place: Place, datagram: &[u8]) {
        let known = self.tenants.get(&place).is_some_and(|tenants| {
            let Record::Hello(random) = records::first(datagram) else {
                return true;
            };
            self.began_with(*tenants, random).is_some()
        });
        if !known {
            self.knock(now, front, place, datagram);
        } else if !self.waiting.push(&place, datagram) {
            Counters::add(&self.shared.counters.datagrams_crowded);
        }
    }

    /// Whose association began with this random number.
    fn began_with(&self, tenants: Tenants, random: [u8; 32]) -> Option<u64> {
        [Some(tenants.current), tenants.rival]
            .into_iter()
            .flatten()
            .find(|id| {
                let association = self.associations.get(id);
                association.is_some_and(|association| association.hello == random)
            })
    }

    /// Handles what waits, at most so many datagrams.
    pub(super) fn work(&mut self, now: Moment, at_most: usize) {
        for _ in 0..at_most {
            let Some((place, datagram)) = self.waiting.pop() else {
                return;
            };
            self.handle(now, place, &datagram);
        }
    }

    /// Whether something waits for its turn.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn handle(&mut self, now: Moment, place: Place, datagram: &[u8]) {
        let front = match &self.speech {
            Speech::Secured(front) | Speech::Proxied(front) => front.clone(),
            Speech::Open => return,
        };
        let Some(tenants) = self.tenants.get(&place).copied() else {
            // The association ended while this waited.
            return self.knock(now, &front, place, datagram);
        };
        let record = records::first(datagram);
        let id = match record {
            // The same ClientHello again: our answer was lost.
            Record::Hello(random) => match self.began_with(tenants, random) {
                Some(id) => id,
                // DTL-049: A client that rebooted can make a new handshake from the same 5-tuple.
                None => return self.knock(now, &front, place, datagram),
            },
            Record::Handshake => tenants.rival.unwrap_or(tenants.current),
            Record::Other => tenants.current,
        };
        self.feed(now, id, datagram);
    }

    /// A datagram for an association.
    fn feed(&mut self, now: Moment, id: u64, datagram: &[u8]) {
        let Some(association) = self.associations.get_mut(&id) else {
            return;
        };
        // What is wrong with it shows in the state.
        let _ = association.session.receive(now, datagram);
        self.pump(now, id);
        self.settle(now);
    }

    /// A datagram of somebody who is not known, or who begins anew.
    fn knock(&mut self, now: Moment, front: &Front, place: Place, datagram: &[u8]) {
        let counters = &self.shared.counters;
        let Record::Hello(random) = records::first(datagram) else {
            Counters::add(&counters.datagrams_dropped);
            return;
        };
        let origin = Origin::of(place.address, place.header.is_some());
        let limits = &self.shared.limits;
        let busy = counters.requests.load(Ordering::Relaxed) >= limits.requests_busy;
        let full = counters.handshakes.load(Ordering::Relaxed) >= limits.handshakes_max
            && self.stuck(now, None).is_none();
        if busy || full || !self.shared.origins.may_begin(now, origin, limits) {
            // It comes again when it is not answered.
            Counters::add(&counters.handshakes_refused);
            return;
        }
        // DTL-001: Every new handshake without valid cookie is answered by a stateless
        // HelloVerifyRequest with cookie, allocating no state.
        let key = place.key();
        let session = match front.receive(now, &key, datagram) {
            Hello::Answer(answer) => {
                counters.answered(place.address, &answer);
                return self.send(&place, answer);
            }
            Hello::Dropped(_) => {
                Counters::add(&counters.datagrams_dropped);
                return;
            }
            Hello::Accept(session) => session,
        };
        // From here on the address is proven. What it cost to come here is counted also if there is
        // no room: who is refused may not make us do it again and again.
        self.shared.origins.charge(now, origin, &self.shared.limits);
        if !self.make_room(now, origin) {
            Counters::add(&self.shared.counters.handshakes_refused);
            return;
        }
        self.admit(now, place, origin, random, session);
    }

    /// Takes a place among the handshakes and one among the associations, which may cost another
    /// peer his: one of the same network if that has as many as it may have.
    fn make_room(&mut self, now: Moment, origin: Origin) -> bool {
        let shared = Arc::clone(&self.shared);
        let (counters, limits) = (&shared.counters, &shared.limits);
        if shared.origins.is_full(origin, limits) && !self.evict(now, Some(origin)) {
            return false;
        }
        if shared.origins.has_its_share(origin, limits) && !self.give_up(now, Some(origin)) {
            return false;
        }
        let taken = Counters::take(&counters.handshakes, limits.handshakes_max)
            || (self.give_up(now, None)
                && Counters::take(&counters.handshakes, limits.handshakes_max));
        if !taken {
            return false;
        }
        if Counters::take(&counters.peers, limits.peers_max)
            || (self.evict(now, None) && Counters::take(&counters.peers, limits.peers_max))
        {
            return true;
        }
        Counters::give_back(&counters.handshakes);
        false
    }

    /// The handshake that was begun first, if it takes longer than it should.
    fn stuck(&self, now: Moment, of: Option<Origin>) -> Option<u64> {
        let time = self.shared.limits.handshake_time_min;
        self.unfinished
            .iter()
            .take_while(|(begun, _)| *begun + time <= now)
            .map(|(_, id)| *id)
            .find(|id| {
                of.is_none_or(|origin| {
                    let association = self.associations.get(id);
                    association.is_some_and(|association| association.origin == origin)
                })
            })
    }

    /// Ends such a handshake, so that another one can be begun: whoever does not go on with his
    /// keeps nobody out.
    fn give_up(&mut self, now: Moment, of: Option<Origin>) -> bool {
        let Some(id) = self.stuck(now, of) else {
            return false;
        };
        Counters::add(&self.shared.counters.handshakes_late);
        self.dismiss(now, id);
        true
    }

    /// Ends the association that is idle longest, if one is idle for long enough.
    fn evict(&mut self, now: Moment, of: Option<Origin>) -> bool {
        let idle = self.shared.limits.idle_time_min;
        let longest = self
            .quiet
            .iter()
            .take_while(|(heard, _)| *heard + idle <= now)
            .filter_map(|(_, id)| Some((*id, self.associations.get(id)?)))
            // Others' associations and handshakes are none of those that are tried.
            .filter(|(_, association)| {
                association.peer.is_some() && of.is_none_or(|origin| origin == association.origin)
            })
            .take(EVICTION_TRIES)
            .find(|(_, association)| association.open == 0)
            .map(|(id, _)| id);
        let Some(id) = longest else {
            return false;
        };
        Counters::add(&self.shared.counters.peers_evicted);
        self.dismiss(now, id);
        true
    }

    fn admit(
        &mut self,
        now: Moment,
        place: Place,
        origin: Origin,
        random: [u8; 32],
        session: Box<Session>,
    ) {
        let id = session.id();
        self.admitted += 1;
        self.shared.origins.begin(origin);
        Counters::add(&self.shared.counters.handshakes_begun);
        self.associations.insert(
            id,
            Association {
                place: place.clone(),
                origin,
                session,
                hello: random,
                begun: now,
                heard: now,
                timer: None,
                peer: None,
                open: 0,
            },
        );
        self.quiet.insert((now, id));
        self.unfinished.insert((now, id));
        let before = self.tenants.get(&place).copied();
        let gone = match before {
            None => {
                let tenants = Tenants {
                    current: id,
                    rival: None,
                };
                self.tenants.insert(place, tenants);
                None
            }
            Some(tenants) => {
                let established = self
                    .associations
                    .get(&tenants.current)
                    .is_some_and(|association| association.peer.is_some());
                // DTL-021: Association takeover: a new ClientHello from the same address/port (or
                // JPY header) does not remove the old association until the new handshake is
                // validated.
                let (next, gone) = if established {
                    let next = Tenants {
                        rival: Some(id),
                        ..tenants
                    };
                    (next, tenants.rival)
                } else {
                    let next = Tenants {
                        current: id,
                        rival: None,
                    };
                    (next, Some(tenants.current))
                };
                self.tenants.insert(place, next);
                gone
            }
        };
        if let Some(gone) = gone {
            Counters::add(&self.shared.counters.peers_replaced);
            self.forget(gone);
        }
        self.pump(now, id);
        self.settle(now);
    }

    /// What an association has to say, to us and to its peer.
    fn pump(&mut self, now: Moment, id: u64) {
        let Some(association) = self.associations.get_mut(&id) else {
            return;
        };
        let mut authentic = false;
        while let Some(datagram) = association.session.transmit() {
            let place = &association.place;
            push(&mut self.out, place, datagram);
        }
        if association.peer.is_none() && *association.session.state() == State::Established {
            self.establish(now, id);
            authentic = true;
        }
        while let Some(association) = self.associations.get_mut(&id) {
            let Some(message) = association.session.read() else {
                break;
            };
            authentic = true;
            self.endpoint
                .receive(now, &Name::session(id), Via::Secured, &message);
        }
        let Some(association) = self.associations.get_mut(&id) else {
            return;
        };
        if authentic {
            self.quiet.remove(&(association.heard, id));
            association.heard = now;
            self.quiet.insert((now, id));
        }
        if association.session.is_closed() {
            let counters = &self.shared.counters;
            match association.peer {
                Some(_) => Counters::add(&counters.peers_closed),
                None => counters.failed(association.place.address, association.session.state()),
            }
            self.forget(id);
            return;
        }
        self.set_timer(id);
    }

    /// The handshake is done.
    fn establish(&mut self, _now: Moment, id: u64) {
        let Some(association) = self.associations.get_mut(&id) else {
            return;
        };
        let Some(shown) = association.session.peer() else {
            return;
        };
        let session = Arc::new(DtlsPeer::of(shown, id));
        association.peer = Some(Arc::new(CoapPeer {
            address: canonical(association.place.address),
            proxied: association.place.header.clone(),
            session: Some(session),
            via: Via::Secured,
            local: self.local,
            id,
        }));
        // CBR-024: A negotiated max_fragment_length or record_size_limit is honoured: no plaintext
        // record exceeds it, larger CoAP payloads go block-wise.
        if let Some(exponent) = block_exponent(association.session.payload_max()) {
            self.endpoint.limit_blocks(&Name::session(id), exponent);
        }
        let counters = &self.shared.counters;
        Counters::add(&counters.handshakes_completed);
        Counters::give_back(&counters.handshakes);
        self.shared.origins.finish(association.origin);
        self.unfinished.remove(&(association.begun, id));
        let Some(tenants) = self.tenants.get_mut(&association.place) else {
            return;
        };
        if tenants.rival == Some(id) {
            let gone = std::mem::replace(&mut tenants.current, id);
            tenants.rival = None;
            Counters::add(&counters.peers_replaced);
            self.forget(gone);
        }
    }

    /// Ends an association with a word to its peer.
    fn dismiss(&mut self, _now: Moment, id: u64) {
        if let Some(association) = self.associations.get_mut(&id) {
            association.session.close();
            while let Some(datagram) = association.session.transmit() {
                push(&mut self.out, &association.place, datagram);
            }
        }
        self.forget(id);
    }

    fn forget(&mut self, id: u64) {
        let Some(association) = self.associations.remove(&id) else {
            return;
        };
        let shared = &self.shared;
        shared.origins.end(association.origin);
        Counters::give_back(&shared.counters.peers);
        if association.peer.is_none() {
            Counters::give_back(&shared.counters.handshakes);
            shared.origins.finish(association.origin);
            self.unfinished.remove(&(association.begun, id));
        }
        self.quiet.remove(&(association.heard, id));
        if let Some(timer) = association.timer {
            self.timers.remove(&(timer, id));
        }
        self.endpoint.forget(&Name::session(id));
        if let Some(tenants) = self.tenants.get_mut(&association.place) {
            if tenants.rival == Some(id) {
                tenants.rival = None;
            } else if tenants.current == id {
                match tenants.rival.take() {
                    Some(rival) => tenants.current = rival,
                    None => {
                        self.tenants.remove(&association.place);
                    }
                }
            }
        }
    }

    /// When an association is to be looked at again, at the latest.
    fn set_timer(&mut self, id: u64) {
        let limits = &self.shared.limits;
        let Some(association) = self.associations.get_mut(&id) else {
            return;
        };
        let end = if association.peer.is_some() {
            association.heard + limits.idle_time_max
        } else {
            association.begun + limits.handshake_time_max
        };
        let next = association.session.deadline().map_or(end, |at| at.min(end));
        // A timer that goes off too early does no harm; one is moved only if it would be too late.
        if association.timer.is_none_or(|timer| next < timer) {
            if let Some(timer) = association.timer.replace(next) {
                self.timers.remove(&(timer, id));
            }
            self.timers.insert((next, id));
        }
    }

    /// It is later now.
    pub(super) fn advance(&mut self, now: Moment) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, id));
            let limits = &self.shared.limits;
            let Some(association) = self.associations.get_mut(&id) else {
                continue;
            };
            association.timer = None;
            let counters = &self.shared.counters;
            let established = association.peer.is_some();
            if !established && association.begun + limits.handshake_time_max <= now {
                Counters::add(&counters.handshakes_late);
                self.dismiss(now, id);
                continue;
            }
            if established
                && association.open == 0
                && association.heard + limits.idle_time_max <= now
            {
                Counters::add(&counters.peers_idle);
                self.dismiss(now, id);
                continue;
            }
            if association.session.deadline().is_some_and(|at| at <= now) {
                association.session.advance(now);
            }
            if established && association.heard + limits.idle_time_max <= now {
                // A request of it is being answered: nothing is to be done before that.
                self.quiet.remove(&(association.heard, id));
                association.heard = now;
                self.quiet.insert((now, id));
            }
            self.pump(now, id);
        }
        if self.endpoint.deadline().is_some_and(|at| at <= now) {
            self.endpoint.advance(now);
        }
        self.settle(now);
    }

    /// When [`Self::advance`] is to be called.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.endpoint.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The handler's answer.
    pub(super) fn answer(&mut self, now: Moment, ticket: Ticket, response: Response) {
        let counters = &self.shared.counters;
        self.answering = self.answering.saturating_sub(1);
        match ticket.name.what() {
            Named::Session(id) => {
                Counters::give_back(&counters.requests);
                if let Some(association) = self.associations.get_mut(&id) {
                    association.open = association.open.saturating_sub(1);
                }
            }
            Named::Address(_) => Counters::give_back(&counters.open_requests),
        }
        self.endpoint.respond(now, ticket.exchange, response);
        self.settle(now);
    }

    /// Carries out what the endpoint wants.
    fn settle(&mut self, now: Moment) {
        loop {
            while let Some(event) = self.endpoint.event() {
                if let Event::Request {
                    peer,
                    exchange,
                    request,
                } = event
                {
                    self.ask(now, peer, exchange, request);
                }
            }
            let Some(transmit) = self.endpoint.transmit() else {
                break;
            };
            match transmit.peer.what() {
                Named::Address(address) => self.out.push_back((address, transmit.datagram)),
                Named::Session(id) => {
                    if let Some(association) = self.associations.get_mut(&id) {
                        // COA-040: A response is sent only in the same DTLS session and epoch as
                        // the request.
                        // What cannot be sent shows in the state; CoAP sends it again.
                        let _ = association.session.send(now, &transmit.datagram);
                        while let Some(datagram) = association.session.transmit() {
                            push(&mut self.out, &association.place, datagram);
                        }
                        self.set_timer(id);
                    }
                }
            }
        }
        self.count();
    }

    /// A request for the handler, if there is room for it.
    fn ask(&mut self, now: Moment, name: Name, exchange: Exchange, request: Request) {
        let shared = Arc::clone(&self.shared);
        let (counters, limits) = (&shared.counters, &shared.limits);
        let refusal = |code, text| Response {
            max_age: Some(RETRY_AFTER),
            ..Response::diagnostic(code, text)
        };
        let taken = match name.what() {
            Named::Session(id) => match self.associations.get_mut(&id) {
                Some(association) if association.open >= limits.requests_per_peer_max => Err(
                    refusal(Code::TOO_MANY_REQUESTS, "too many requests at once"),
                ),
                Some(association) => match &association.peer {
                    Some(peer) if Counters::take(&counters.requests, limits.requests_max) => {
                        association.open += 1;
                        Ok(Arc::clone(peer))
                    }
                    _ => Err(refusal(Code::SERVICE_UNAVAILABLE, "too busy")),
                },
                None => return,
            },
            Named::Address(address) => {
                if Counters::take(&counters.open_requests, limits.open_requests_max) {
                    Ok(Arc::new(CoapPeer {
                        address,
                        proxied: None,
                        session: None,
                        via: self.via,
                        local: self.local,
                        id: 0,
                    }))
                } else {
                    Err(refusal(Code::SERVICE_UNAVAILABLE, "too busy"))
                }
            }
        };
        match taken {
            Ok(peer) => {
                Counters::add(&counters.requests_taken);
                self.answering += 1;
                let ticket = Ticket { exchange, name };
                self.asked.push_back(Asked {
                    peer,
                    ticket,
                    request,
                });
            }
            Err(response) => {
                Counters::add(&counters.requests_refused);
                self.endpoint.respond(now, exchange, response);
            }
        }
    }

    /// The next request for the handler.
    pub(super) fn asked(&mut self) -> Option<Asked> {
        self.asked.pop_front()
    }

    /// The next datagram to send.
    pub(super) fn transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let (to, datagram) = self.out.pop_front()?;
        let counters = &self.shared.counters;
        Counters::add(&counters.datagrams_sent);
        Counters::add_many(&counters.bytes_sent, datagram.len());
        Some((to, datagram))
    }

    /// Requests that are being answered.
    pub(super) fn is_answering(&self) -> bool {
        self.answering > 0
    }

    /// Ends all associations.
    pub(super) fn close(&mut self, now: Moment) {
        let all: Vec<u64> = self.associations.keys().copied().collect();
        for id in all {
            self.dismiss(now, id);
        }
    }

    fn send(&mut self, place: &Place, datagram: Vec<u8>) {
        push(&mut self.out, place, datagram);
    }

    fn count(&mut self) {
        let now = self.endpoint.statistics();
        let before = std::mem::replace(&mut self.counted, now);
        let counters = &self.shared.counters;
        for (counter, now, before) in [
            (
                &counters.messages_malformed,
                now.malformed + now.ignored,
                before.malformed + before.ignored,
            ),
            (
                &counters.messages_duplicate,
                now.duplicates,
                before.duplicates,
            ),
            (
                &counters.messages_retransmitted,
                now.retransmitted,
                before.retransmitted,
            ),
        ] {
            counter.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
