//! One end of CoAP: requests and responses over datagrams that get lost.
//!
//! The endpoint is told of every datagram ([`Endpoint::receive`]) and of the time
//! ([`Endpoint::advance`]); it says what to send ([`Endpoint::transmit`]), what happened
//! ([`Endpoint::event`]) and when it wants to be told of the time again ([`Endpoint::deadline`]).

mod client;
mod config;
mod peer;
mod random;
mod server;
mod timers;

use std::collections::{HashMap, VecDeque};

use pki::{Blame, Coded};

pub use self::config::{Config, Moment, Statistics, Via};
use self::{
    client::Call,
    peer::{PeerState, Seen, Sent, Subject},
    random::Random,
    server::Serving,
    timers::{Timer, Timers},
};
use crate::{Code, EchoKey, Error, Kind, Message, Request, Response, option};

/// A request that we sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(u64);

/// A request that we answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exchange(u64);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit<P> {
    /// To whom.
    pub peer: P,
    /// The message.
    pub datagram: Vec<u8>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// A request arrived whole; [`Endpoint::respond`] answers it.
    Request {
        /// Who asks.
        peer: P,
        /// What to name in the answer.
        exchange: Exchange,
        /// What is asked.
        request: Request,
    },
    /// A response arrived whole. A multicast request can have many.
    Response {
        /// Who answers.
        peer: P,
        /// Our request.
        handle: Handle,
        /// What is answered.
        response: Response,
    },
    /// A request of ours came to nothing.
    Failed {
        /// To whom it went.
        peer: P,
        /// Our request.
        handle: Handle,
        /// Why.
        failure: Failure,
    },
}

/// Why a request of ours came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The peer rejected the message.
    #[error("the peer rejected the message")]
    Reset,
    /// The response has a critical option that we do not know, or one of the wrong form.
    #[error("the response has option {0}, which is critical and not understood")]
    BadOption(u16),
    /// The blocks of the response do not fit together.
    #[error("the blocks of the response do not fit together: {0}")]
    Blocks(&'static str),
    /// The response is larger than we take.
    #[error("the response is too large")]
    TooLarge,
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Unwritable(&'static str),
    /// Too much is under way to this peer.
    #[error("too much is under way to this peer")]
    Busy,
    /// The peer was forgotten ([`Endpoint::forget`]), as when its session ends.
    #[error("the peer is gone")]
    Gone,
}

impl Coded for Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::TimedOut => "coap.timed-out",
            Self::Reset => "coap.reset",
            Self::BadOption(_) => "coap.bad-option",
            Self::Blocks(_) => "coap.blocks",
            Self::TooLarge => "coap.too-large",
            Self::Unwritable(_) => "coap.unwritable",
            Self::Busy => "coap.busy",
            Self::Gone => "coap.gone",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::TimedOut | Self::Reset | Self::BadOption(_) | Self::Blocks(_) | Self::Gone => {
                Blame::PeerMisbehaved
            }
            Self::TooLarge => Blame::PeerIncompatible,
            Self::Unwritable(_) | Self::Busy => Blame::Caller,
        }
    }
}

/// One end of CoAP; `P` names a peer together with the security association, so that a new DTLS
/// session or epoch is another peer
/// ([RFC 7252 §9.1.1](https://www.rfc-editor.org/rfc/rfc7252.html#section-9.1.1)).
pub struct Endpoint<P> {
    config: Config,
    random: Random,
    echo: EchoKey,
    peers: HashMap<P, PeerState>,
    /// Peers that take smaller blocks than ours.
    small: HashMap<P, u8>,
    calls: HashMap<Handle, Call<P>>,
    servings: HashMap<Exchange, Serving<P>>,
    events: VecDeque<Event<P>>,
    out: VecDeque<Transmit<P>>,
    timers: Timers<P>,
    statistics: Statistics,
    /// Bytes of bodies that are kept, all peers together.
    held: usize,
    /// Answers to multicast that wait for their time.
    delayed: usize,
    next: u64,
    tokens: u32,
}

impl<P: Clone + Eq + std::hash::Hash + AsRef<[u8]>> Endpoint<P> {
    /// An endpoint. The random numbers make message ids, tokens, jitter and the key of Echo values;
    /// whoever foresees them can forge answers on links without security.
    #[must_use]
    pub fn new(config: Config, random: impl FnMut() -> u64 + Send + 'static) -> Self {
        let mut random = Random(Box::new(random));
        let echo = EchoKey::new(random.key());
        let [a, b, c, d, ..] = random.number().to_be_bytes();
        let tokens = u32::from_be_bytes([a, b, c, d]);
        Self {
            config,
            random,
            echo,
            peers: HashMap::new(),
            small: HashMap::new(),
            calls: HashMap::new(),
            servings: HashMap::new(),
            events: VecDeque::new(),
            out: VecDeque::new(),
            timers: Timers::default(),
            statistics: Statistics::default(),
            held: 0,
            delayed: 0,
            next: 0,
            tokens,
        }
    }

    /// A datagram arrived.
    pub fn receive(&mut self, now: Moment, peer: &P, via: Via, datagram: &[u8]) {
        self.statistics.received += 1;
        let message = match Message::decode(datagram) {
            Ok(message) => message,
            Err(Error::Version) => {
                self.statistics.ignored += 1;
                return;
            }
            Err(_) => {
                self.statistics.malformed += 1;
                // COA-006: A CON that cannot be processed (format error) is rejected with RST with
                // same Message ID.
                // COA-037: No RST in reply to multicast.
                if let Some((Kind::Confirmable, id)) = Message::peek(datagram)
                    && via != Via::Multicast
                {
                    self.reset(peer, id);
                }
                return;
            }
        };
        if via == Via::Secured {
            self.touch(now, peer);
        }
        match (message.kind, message.code) {
            // COA-008: An ACK or RST is never answered with RST/ACK.
            (Kind::Acknowledgement, Code::EMPTY) => self.acknowledged(now, peer, message.id),
            (Kind::Reset, Code::EMPTY) => self.was_reset(now, peer, message.id),
            // COA-007: CON Empty (CoAP ping) is answered with RST.
            (Kind::Confirmable, Code::EMPTY) if via != Via::Multicast => {
                self.reset(peer, message.id);
            }
            (Kind::Acknowledgement, code) if code.is_response() => {
                self.acknowledged(now, peer, message.id);
                self.responded(now, peer, message);
            }
            (Kind::Confirmable | Kind::NonConfirmable, code) if code.is_response() => {
                self.responded(now, peer, message);
            }
            (Kind::Confirmable | Kind::NonConfirmable, code) if code.is_request() => {
                self.requested(now, peer, via, message, datagram.len());
            }
            (Kind::Confirmable, _) if via != Via::Multicast => self.reset(peer, message.id),
            _ => self.statistics.ignored += 1,
        }
        self.start_waiting(now, peer);
    }

    /// It is later now.
    pub fn advance(&mut self, now: Moment) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Retransmit { peer, id, round } => self.retransmit(now, &peer, id, round),
                Timer::Acknowledge(exchange) => self.acknowledge_late(&exchange),
                Timer::Call { handle, round } => self.overdue(now, handle, round),
                Timer::Send(transmit) => {
                    self.delayed = self.delayed.saturating_sub(1);
                    self.send(&transmit.peer, transmit.datagram);
                }
                Timer::Sweep(peer) => self.sweep(now, &peer),
            }
        }
    }

    /// When [`advance`](Self::advance) is to be called; `None` while nothing is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// The next datagram to send.
    pub fn transmit(&mut self) -> Option<Transmit<P>> {
        self.out.pop_front()
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event<P>> {
        self.events.pop_front()
    }

    /// What was counted since the beginning.
    #[must_use]
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Peers of whom something is kept.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Bytes of bodies that are kept, all peers together.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// From now on no block to or from this peer is larger than this exponent says, as when its
    /// session has small records. Holds until the peer is forgotten.
    pub fn limit_blocks(&mut self, peer: &P, exponent: u8) {
        if exponent < self.config.block_exponent {
            self.small.insert(peer.clone(), exponent);
        }
    }

    /// The exponent of the largest block between this peer and us.
    fn exponent_of(&self, peer: &P) -> u8 {
        let ours = self.config.block_exponent;
        self.small.get(peer).map_or(ours, |small| ours.min(*small))
    }

    /// Drops everything about a peer: its session ended. Requests to it fail.
    pub fn forget(&mut self, peer: &P) {
        self.small.remove(peer);
        if let Some(state) = self.peers.remove(peer) {
            self.held = self.held.saturating_sub(state.held());
            for handle in state.active.into_iter().chain(state.waiting) {
                if self.calls.remove(&handle).is_some() {
                    self.events.push_back(Event::Failed {
                        peer: peer.clone(),
                        handle,
                        failure: Failure::Gone,
                    });
                }
            }
        }
        self.servings.retain(|_, serving| serving.peer != *peer);
        self.out.retain(|transmit| transmit.peer != *peer);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn send(&mut self, peer: &P, datagram: Vec<u8>) {
        self.statistics.sent += 1;
        self.out.push_back(Transmit {
            peer: peer.clone(),
            datagram,
        });
    }

    fn reset(&mut self, peer: &P, id: u16) {
        if let Ok(datagram) = Message::empty(Kind::Reset, id).encode() {
            self.send(peer, datagram);
        }
    }

    /// Something is kept of this peer from now on; it is looked at again when it may be dropped.
    fn touch(&mut self, now: Moment, peer: &P) {
        let random = &mut self.random;
        if !self.peers.contains_key(peer) {
            self.timers.set(
                now + self.config.exchange_lifetime,
                Timer::Sweep(peer.clone()),
            );
            self.peers.insert(peer.clone(), PeerState::new(random.id()));
        }
    }

    fn sweep(&mut self, now: Moment, peer: &P) {
        let Some(state) = self.peers.get_mut(peer) else {
            return;
        };
        let before = state.held();
        state.expire(now, self.config.exchange_lifetime);
        self.held = self
            .held
            .saturating_sub(before.saturating_sub(state.held()));
        if state.is_idle() {
            self.peers.remove(peer);
        } else {
            self.timers.set(
                now + self.config.exchange_lifetime,
                Timer::Sweep(peer.clone()),
            );
        }
    }

    /// Sends a confirmable message, and sends it again until it is acknowledged.
    fn send_confirmable(
        &mut self,
        now: Moment,
        peer: &P,
        message: &Message,
        subject: Subject,
    ) -> bool {
        let Ok(datagram) = message.encode() else {
            return false;
        };
        // COA-009: CON responses are retransmitted with exponential back-off (2-3 s initial, x2, 4
        // retransmits).
        let spread = self.config.ack_random.max(1.0);
        let timeout = self
            .config
            .ack_timeout
            .mul_f64(1.0 + (spread - 1.0) * self.random.fraction());
        self.touch(now, peer);
        if let Some(state) = self.peers.get_mut(peer) {
            state.sent.insert(
                message.id,
                Sent {
                    datagram: datagram.clone(),
                    rounds: 0,
                    timeout,
                    subject,
                },
            );
        }
        self.timers.set(
            now + timeout,
            Timer::Retransmit {
                peer: peer.clone(),
                id: message.id,
                round: 0,
            },
        );
        self.send(peer, datagram);
        true
    }

    fn retransmit(&mut self, now: Moment, peer: &P, id: u16, round: u32) {
        let Some(sent) = self
            .peers
            .get_mut(peer)
            .and_then(|state| state.sent.get_mut(&id))
            .filter(|sent| sent.rounds == round)
        else {
            return;
        };
        if sent.rounds < self.config.retransmissions_max {
            sent.rounds += 1;
            sent.timeout *= 2;
            let (round, timeout, datagram) = (sent.rounds, sent.timeout, sent.datagram.clone());
            self.statistics.retransmitted += 1;
            self.timers.set(
                now + timeout,
                Timer::Retransmit {
                    peer: peer.clone(),
                    id,
                    round,
                },
            );
            self.send(peer, datagram);
            return;
        }
        let subject = sent.subject;
        if let Some(state) = self.peers.get_mut(peer) {
            state.sent.remove(&id);
        }
        if let Subject::Call(handle) = subject {
            self.fail(now, handle, Failure::TimedOut);
        }
    }

    fn acknowledged(&mut self, now: Moment, peer: &P, id: u16) {
        let sent = self
            .peers
            .get_mut(peer)
            .and_then(|state| state.sent.remove(&id));
        if let Some(Sent {
            subject: Subject::Call(handle),
            ..
        }) = sent
        {
            // The response comes in a message of its own, or is in this one.
            self.await_response(now, handle);
        }
    }

    fn was_reset(&mut self, now: Moment, peer: &P, id: u16) {
        // COA-019: A separate CON response is retransmitted until ACK or RST; RST cancels it.
        let sent = self
            .peers
            .get_mut(peer)
            .and_then(|state| state.sent.remove(&id));
        if let Some(Sent {
            subject: Subject::Call(handle),
            ..
        }) = sent
        {
            self.fail(now, handle, Failure::Reset);
        }
    }

    /// The next message id towards a peer.
    fn message_id(&mut self, now: Moment, peer: &P) -> Option<u16> {
        self.touch(now, peer);
        let lifetime = self.config.exchange_lifetime;
        self.peers.get_mut(peer)?.message_id(now, lifetime)
    }

    /// Notes a message of a peer, so that its duplicates are known.
    fn note(&mut self, peer: &P, id: u16, seen: Seen) {
        let limit = self.config.duplicates_per_peer;
        if let Some(state) = self.peers.get_mut(peer) {
            state.note(id, seen, limit);
        }
    }

    /// Whether this message was here before; then what was said to it is said again.
    fn is_duplicate(&mut self, now: Moment, peer: &P, id: u16) -> bool {
        let Some(seen) = self
            .peers
            .get(peer)
            .and_then(|state| state.seen.get(&id))
            .filter(|seen| seen.until > now)
        else {
            return false;
        };
        // COA-012: A duplicate CON within EXCHANGE_LIFETIME gets the same ACK/response again and is
        // processed once.
        // COA-013: A duplicate NON within NON_LIFETIME (145 s) is ignored.
        let reply = seen.reply.clone();
        self.statistics.duplicates += 1;
        if let Some(reply) = reply {
            self.send(peer, reply);
        }
        true
    }
}

/// What requests must have in common so that their blocks belong together: method and options but
/// those that change from block to block,
/// [RFC 7959 §2.5](https://www.rfc-editor.org/rfc/rfc7959.html#section-2.5).
fn key(message: &Message, strict: bool) -> Vec<u8> {
    let mut key = vec![message.code.0];
    for (number, value) in message.options() {
        let left_out = matches!(number, option::BLOCK1 | option::BLOCK2 | option::OBSERVE)
            || option::is_no_cache_key(number)
            || (!strict
                && matches!(
                    number,
                    option::CONTENT_FORMAT | option::REQUEST_TAG | option::ETAG
                ));
        if !left_out {
            key.extend(number.to_be_bytes());
            key.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            key.extend(value);
        }
    }
    key
}
