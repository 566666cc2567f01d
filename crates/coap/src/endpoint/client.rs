//! Asking: requests taken apart into their blocks, responses put together from theirs.

use std::hash::Hash;

use super::{
    Endpoint, Event, Failure, Handle, Moment,
    peer::{Seen, Subject},
    timers::Timer,
};
use crate::{Block, Code, Kind, Message, Request, Response, Token, option};

/// How often a request begins anew because the peer wants smaller blocks, lost some, or wants an
/// Echo value.
const RESTARTS_MAX: u32 = 4;

/// A request of ours.
#[derive(Debug)]
pub(super) struct Call<P> {
    peer: P,
    request: Request,
    multicast: bool,
    exponent: u8,
    /// Where the block of the request that is under way begins, and its bytes.
    offset: usize,
    length: usize,
    /// Ties the blocks of the request together.
    tag: u32,
    token: Option<Token>,
    round: u32,
    restarts: u32,
    /// When its first message was sent.
    begun: Option<Moment>,
    received: Option<Received>,
}

/// A response that comes block by block.
#[derive(Debug)]
struct Received {
    body: Vec<u8>,
    exponent: u8,
    code: Code,
    etag: Option<Vec<u8>>,
    content_format: Option<u16>,
}

impl<P: Clone + Eq + Hash + AsRef<[u8]>> Endpoint<P> {
    /// Asks a peer. The answer, or why there is none, comes as an event.
    pub fn request(&mut self, now: Moment, peer: &P, request: Request) -> Handle {
        let handle = self.insert(peer, request, false);
        self.touch(now, peer);
        let limit = self.config.waiting_per_peer;
        match self.peers.get_mut(peer) {
            Some(state) if state.waiting.len() < limit.max(1) => state.waiting.push_back(handle),
            _ => self.fail(now, handle, Failure::Busy),
        }
        self.start_waiting(now, peer);
        handle
    }

    /// Asks everyone who listens at a multicast address; the answers come as events until
    /// [`Config::response_wait`](super::Config::response_wait) is over, then [`Failure::TimedOut`].
    pub fn request_multicast(&mut self, now: Moment, group: &P, request: Request) -> Handle {
        let handle = self.insert(group, request, true);
        self.touch(now, group);
        self.send_block(now, handle);
        handle
    }

    /// The multicast request that a token belongs to: the answers come from addresses that nothing
    /// is known of.
    fn multicast_call(&self, token: Token) -> Option<Handle> {
        self.calls
            .iter()
            .find(|(_, call)| call.multicast && call.token == Some(token))
            .map(|(handle, _)| *handle)
    }

    fn insert(&mut self, peer: &P, request: Request, multicast: bool) -> Handle {
        let handle = Handle(self.number());
        let ours = self.exponent_of(peer);
        let exponent = request
            .block_exponent
            .map_or(ours, |exponent| exponent.min(ours));
        let [.., a, b, c, d] = handle.0.to_be_bytes();
        // Comes again after four thousand million requests.
        let tag = u32::from_be_bytes([a, b, c, d]);
        self.calls.insert(
            handle,
            Call {
                peer: peer.clone(),
                request,
                multicast,
                exponent,
                offset: 0,
                length: 0,
                tag,
                token: None,
                round: 0,
                restarts: 0,
                begun: None,
                received: None,
            },
        );
        handle
    }

    /// Starts requests that wait for their turn.
    pub(super) fn start_waiting(&mut self, now: Moment, peer: &P) {
        loop {
            let nstart = self.config.nstart.max(1);
            let Some(state) = self.peers.get_mut(peer) else {
                return;
            };
            // COA-015: NSTART is 1 towards one peer by default.
            if state.active.len() >= nstart {
                return;
            }
            let Some(handle) = state.waiting.pop_front() else {
                return;
            };
            state.active.push(handle);
            self.send_block(now, handle);
        }
    }

    /// Sends the block of the request, or asks for the block of the response, that is next.
    fn send_block(&mut self, now: Moment, handle: Handle) {
        // COA-075: Clients over DTLS never reuse tokens so that responses can be mismatched; SHOULD
        // use counters.
        self.tokens = self.tokens.wrapping_add(1);
        let counter = self.tokens.to_be_bytes();
        let Some(call) = self.calls.get_mut(&handle) else {
            return;
        };
        let Some(token) = Token::new(&counter) else {
            return;
        };
        // Each block may take its time; a peer that lets each of them take all of it would hold us
        // for days.
        let begun = *call.begun.get_or_insert(now);
        if now.saturating_sub(begun) > self.config.transfer_time {
            return self.fail(now, handle, Failure::TimedOut);
        }
        let before = call.token.replace(token);
        let peer = call.peer.clone();
        let confirmable = !call.request.non_confirmable && !call.multicast;
        let kind = if confirmable {
            Kind::Confirmable
        } else {
            Kind::NonConfirmable
        };
        let mut message = Message::new(kind, call.request.code(), 0, token);
        call.request.write(&mut message);
        let body = &call.request.payload;
        let size = 16_usize << call.exponent;
        let blocks = body.len() > size;
        if blocks {
            // One tag for all blocks of a body, and for the asking after the blocks of its answer.
            message.add_uint(option::REQUEST_TAG, call.tag);
        }
        let asked = match &call.received {
            Some(received) => {
                let number = u32::try_from(received.body.len() >> (received.exponent + 4)).ok();
                let block = number.and_then(|n| Block::new(n, false, received.exponent));
                let Some(block) = block else {
                    return self.fail(now, handle, Failure::TooLarge);
                };
                // COA-062: later blocks are requested with the same method and options, without
                // payload and Block1, in order.
                message.add(option::BLOCK2, block.encode());
                message.remove(option::SIZE2);
                true
            }
            None => false,
        };
        if !asked {
            let number = u32::try_from(call.offset / size).unwrap_or(u32::MAX);
            let Some((block, bytes)) = Block::of(body, number, call.exponent) else {
                return self.fail(now, handle, Failure::TooLarge);
            };
            call.length = bytes.len();
            message.payload = bytes.to_vec();
            if blocks {
                message.add(option::BLOCK1, block.encode());
                if number == 0 {
                    message.add_uint(option::SIZE1, u32::try_from(body.len()).unwrap_or(u32::MAX));
                }
            }
            let smaller = call.exponent < crate::SIZE_EXPONENT_MAX;
            if smaller && !block.more() && !call.multicast {
                // Says before the answer how large its blocks may be.
                if let Some(hint) = Block::new(0, false, call.exponent) {
                    message.add(option::BLOCK2, hint.encode());
                }
            }
        }
        let Some(id) = self.message_id(now, &peer) else {
            return self.fail(now, handle, Failure::Busy);
        };
        message.id = id;
        if let Some(state) = self.peers.get_mut(&peer) {
            if let Some(before) = before {
                state.tokens.remove(&before);
            }
            state.tokens.insert(token, handle);
        }
        if confirmable {
            if !self.send_confirmable(now, &peer, &message, Subject::Call(handle)) {
                self.fail(now, handle, Failure::Unwritable("an option is too long"));
            }
            return;
        }
        match message.encode() {
            Ok(datagram) => {
                self.send(&peer, datagram);
                self.await_response(now, handle);
            }
            Err(_) => self.fail(now, handle, Failure::Unwritable("an option is too long")),
        }
    }

    /// The request has arrived, or nobody will ever say so: the response gets its time.
    pub(super) fn await_response(&mut self, now: Moment, handle: Handle) {
        let wait = self.config.response_wait;
        if let Some(call) = self.calls.get_mut(&handle) {
            call.round += 1;
            let round = call.round;
            self.timers.set(now + wait, Timer::Call { handle, round });
        }
    }

    pub(super) fn overdue(&mut self, now: Moment, handle: Handle, round: u32) {
        if self
            .calls
            .get(&handle)
            .is_some_and(|call| call.round == round)
        {
            self.fail(now, handle, Failure::TimedOut);
        }
    }

    pub(super) fn fail(&mut self, now: Moment, handle: Handle, failure: Failure) {
        if let Some(peer) = self.end(handle) {
            self.events.push_back(Event::Failed {
                peer: peer.clone(),
                handle,
                failure,
            });
            self.start_waiting(now, &peer);
        }
    }

    /// Forgets a request of ours.
    fn end(&mut self, handle: Handle) -> Option<P> {
        let call = self.calls.remove(&handle)?;
        if let Some(state) = self.peers.get_mut(&call.peer) {
            state.active.retain(|active| *active != handle);
            state.waiting.retain(|waiting| *waiting != handle);
            state.tokens.retain(|_, owner| *owner != handle);
            state
                .sent
                .retain(|_, sent| !matches!(sent.subject, Subject::Call(of) if of == handle));
        }
        Some(call.peer)
    }

    /// A response arrived, or a block of one.
    pub(super) fn responded(&mut self, now: Moment, peer: &P, mut message: Message) {
        let separate = message.kind == Kind::Confirmable;
        if message.kind != Kind::Acknowledgement && self.is_duplicate(now, peer, message.id) {
            return;
        }
        let known = self
            .peers
            .get(peer)
            .and_then(|state| state.tokens.get(&message.token).copied());
        let Some(handle) = known.or_else(|| self.multicast_call(message.token)) else {
            self.statistics.ignored += 1;
            if separate {
                self.reset(peer, message.id);
            }
            return;
        };
        // COA-025: Unknown critical option in a response makes the client reject the response.
        if let Err(number) = option::understand(&mut message) {
            if separate {
                self.reset(peer, message.id);
            }
            return self.fail(now, handle, Failure::BadOption(number));
        }
        // COA-017: Both piggybacked and separate responses are accepted.
        if message.kind != Kind::Acknowledgement {
            let acknowledgement = Message::empty(Kind::Acknowledgement, message.id).encode();
            let reply = acknowledgement.ok().filter(|_| separate);
            if let Some(reply) = &reply {
                self.send(peer, reply.clone());
            }
            let lifetime = if separate {
                self.config.exchange_lifetime
            } else {
                self.config.non_lifetime
            };
            let until = now + lifetime;
            self.note(peer, message.id, Seen { until, reply });
            // A response says that the request arrived, acknowledged or not.
            if let Some(state) = self.peers.get_mut(peer) {
                state
                    .sent
                    .retain(|_, sent| !matches!(sent.subject, Subject::Call(of) if of == handle));
            }
        }
        self.progress(now, peer, handle, message);
    }

    fn progress(&mut self, now: Moment, peer: &P, handle: Handle, mut message: Message) {
        let body_max = self.config.body_max;
        let Some(call) = self.calls.get_mut(&handle) else {
            return;
        };
        let payload = std::mem::take(&mut message.payload);
        let response = Response::read(&message, Vec::new());
        if call.multicast {
            self.events.push_back(Event::Response {
                peer: peer.clone(),
                handle,
                response: Response {
                    payload,
                    ..response
                },
            });
            return;
        }
        // Many may answer to a multicast request: its time goes on. Any other has its answer.
        call.round += 1;
        let block1 = message.value(option::BLOCK1).and_then(Block::decode);
        let block2 = message.value(option::BLOCK2).and_then(Block::decode);
        let last = call.offset + call.length >= call.request.payload.len();
        match response.code {
            Code::CONTINUE => {
                if last {
                    let cause = "2.31 after the last block";
                    return self.fail(now, handle, Failure::Blocks(cause));
                }
                call.offset += call.length;
                if let Some(block1) = block1 {
                    call.exponent = call.exponent.min(block1.exponent());
                }
                return self.send_block(now, handle);
            }
            // COA-068: Clients answer 4.01 with Echo by resending with that Echo value.
            Code::UNAUTHORIZED if response.echo.is_some() && call.restarts < RESTARTS_MAX => {
                call.request.echo = response.echo;
                return self.restart(now, handle, None);
            }
            Code::REQUEST_ENTITY_TOO_LARGE
                if call.restarts < RESTARTS_MAX
                    && block1.is_some_and(|block| block.exponent() < call.exponent) =>
            {
                let exponent = block1.map(Block::exponent);
                return self.restart(now, handle, exponent);
            }
            // The peer lost what it had, as when it began anew.
            Code::REQUEST_ENTITY_INCOMPLETE if call.offset > 0 && call.restarts < RESTARTS_MAX => {
                return self.restart(now, handle, None);
            }
            _ => {}
        }
        let Some(block) = block2 else {
            if call.received.is_some() && response.code.is_success() {
                return self.fail(now, handle, Failure::Blocks("Block2 is missing"));
            }
            if payload.len() > body_max {
                return self.fail(now, handle, Failure::TooLarge);
            }
            return self.finish(
                now,
                handle,
                Response {
                    payload,
                    ..response
                },
            );
        };
        let received = call.received.get_or_insert_with(|| Received {
            body: Vec::new(),
            exponent: block.exponent(),
            code: response.code,
            etag: response.etag.clone(),
            content_format: response.content_format,
        });
        if received.code != response.code && !response.code.is_success() {
            return self.finish(
                now,
                handle,
                Response {
                    payload,
                    ..response
                },
            );
        }
        // COA-055: clients must compare ETags.
        if received.etag != response.etag || received.content_format != response.content_format {
            return self.fail(now, handle, Failure::Blocks("the resource has changed"));
        }
        if block.offset() != received.body.len() {
            return self.fail(
                now,
                handle,
                Failure::Blocks("not the block that was asked for"),
            );
        }
        if payload.len() > block.size() || (block.more() && payload.len() != block.size()) {
            return self.fail(now, handle, Failure::Blocks("a block of another size"));
        }
        if received.body.len() + payload.len() > body_max {
            return self.fail(now, handle, Failure::TooLarge);
        }
        received.body.extend(&payload);
        received.exponent = received.exponent.min(block.exponent());
        if block.more() {
            return self.send_block(now, handle);
        }
        let payload = std::mem::take(&mut received.body);
        self.finish(
            now,
            handle,
            Response {
                payload,
                ..response
            },
        );
    }

    /// Begins the request anew.
    fn restart(&mut self, now: Moment, handle: Handle, exponent: Option<u8>) {
        if let Some(call) = self.calls.get_mut(&handle) {
            call.restarts += 1;
            call.offset = 0;
            call.received = None;
            if let Some(exponent) = exponent {
                call.exponent = exponent;
            }
        }
        self.send_block(now, handle);
    }

    fn finish(&mut self, now: Moment, handle: Handle, response: Response) {
        if let Some(peer) = self.end(handle) {
            self.events.push_back(Event::Response {
                peer: peer.clone(),
                handle,
                response,
            });
            self.start_waiting(now, &peer);
        }
    }
}
