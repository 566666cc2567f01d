//! Answering: requests put together from their blocks, responses taken apart into theirs.

use std::hash::Hash;

use aws_lc_rs::digest;

use super::{
    Endpoint, Event, Exchange, Moment, Via, key,
    peer::{Assembly, PeerState, Seen, Served, Subject},
    timers::Timer,
};
use crate::{Block, Code, Kind, Message, Request, Response, Token, option};

/// Highest detail of a method that is registered (iPATCH).
const METHOD_DETAIL_MAX: u8 = 7;
/// An answer in the clear may be this many times as large as what it answers
/// ([RFC 9175 §2.4](https://www.rfc-editor.org/rfc/rfc9175.html#section-2.4)).
const AMPLIFICATION_MAX: usize = 3;
/// Answers to multicast that wait for their time. A question may come from a forged address, so
/// there are no more of them than a link with many curious nodes needs.
const DELAYED_MAX: usize = 256;
/// When three quarters of the room for bodies is taken, so much is for each peer in the rest: more
/// than a voucher request or a certificate request has, so that a few peers that begin large bodies
/// and do not end them keep nobody out.
const SMALL_BODIES: usize = 4096;
/// Bytes of an ETag that we make.
const ETAG_LENGTH: usize = 4;
/// Seconds after which to come back when we hold too much.
const RETRY_AFTER: u32 = 30;

/// A request on its way to being answered.
#[derive(Debug)]
pub(super) struct Serving<P> {
    pub(super) peer: P,
    via: Via,
    kind: Kind,
    id: u16,
    token: Token,
    /// Whether an empty acknowledgement was sent.
    acknowledged: bool,
    /// The block of the request that was the last.
    block1: Option<Block>,
    /// The block of the response that is wanted.
    block2: Option<Block>,
    /// Resource, to find the body again.
    key: Vec<u8>,
    etags: Vec<Vec<u8>>,
    get: bool,
    size_wanted: bool,
    /// Bytes of the datagram, and whether the peer proved that it is there.
    length: usize,
    reachable: bool,
}

/// What came of a block of a request.
enum Assembled {
    /// The body is whole.
    Whole(Vec<u8>),
    /// This is to be answered now.
    Reply(Response, Option<Block>),
}

impl<P: Clone + Eq + Hash + AsRef<[u8]>> Endpoint<P> {
    /// A request arrived, or a block of one.
    pub(super) fn requested(
        &mut self,
        now: Moment,
        peer: &P,
        via: Via,
        mut message: Message,
        length: usize,
    ) {
        // COA-036: Multicast requests are NON; a multicast CON is not answered.
        if via == Via::Multicast && message.kind == Kind::Confirmable {
            self.statistics.ignored += 1;
            return;
        }
        if via == Via::Secured {
            if self.is_duplicate(now, peer, message.id)
                && !defects::seeded!("coap-answers-repetitions")
            {
                return;
            }
            let lifetime = match message.kind {
                Kind::Confirmable => self.config.exchange_lifetime,
                _ => self.config.non_lifetime,
            };
            let seen = Seen {
                until: now + lifetime,
                reply: None,
            };
            self.note(peer, message.id, seen);
        }
        let mut serving = Serving {
            peer: peer.clone(),
            via,
            kind: message.kind,
            id: message.id,
            token: message.token,
            acknowledged: false,
            block1: None,
            block2: None,
            key: Vec::new(),
            etags: Vec::new(),
            get: message.code == Code::GET,
            size_wanted: false,
            length,
            reachable: via == Via::Secured,
        };
        match self.read(now, &mut serving, &mut message) {
            Ok(Some(request)) => self.ask(now, serving, request),
            Ok(None) => {}
            Err(response) => self.answer(now, &mut serving, response),
        }
    }

    /// The application's turn.
    fn ask(&mut self, now: Moment, serving: Serving<P>, request: Request) {
        let exchange = Exchange(self.number());
        let peer = serving.peer.clone();
        if serving.kind == Kind::Confirmable && serving.via == Via::Secured {
            // COA-016: A server answers or sends an empty ACK before the client's ACK_TIMEOUT (2 s).
            self.timers.set(
                now + self.config.ack_delay
                    * if defects::seeded!("coap-acknowledges-late") {
                        8
                    } else {
                        1
                    },
                Timer::Acknowledge(exchange),
            );
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.open.push(exchange);
        }
        self.servings.insert(exchange, serving);
        self.events.push_back(Event::Request {
            peer,
            exchange,
            request,
        });
    }

    /// Reads a request; `None` if it was one block of more, or of an answer that we have.
    fn read(
        &mut self,
        now: Moment,
        serving: &mut Serving<P>,
        message: &mut Message,
    ) -> Result<Option<Request>, Response> {
        // COA-023: Unknown critical option in a CON request gives 4.02.
        // COA-024: Unknown critical option in a NON request: 4.02 (updated rule; RFC 7252 said
        // reject/RST). Not processed in any case.
        option::understand(message).map_err(|number| {
            let text = format!("option {number} is critical and not understood");
            Response::diagnostic(Code::BAD_OPTION, &text)
        })?;
        // COA-029: Unsupported method gives 4.05 (piggybacked for CON).
        if message.code.detail() > METHOD_DETAIL_MAX {
            return Err(Response::diagnostic(
                Code::METHOD_NOT_ALLOWED,
                "unknown method",
            ));
        }
        let block = |number| {
            message
                .value(number)
                .map(|value| {
                    // COA-049: SZX 7 in Block1/Block2 over UDP is reserved: a request with it gets
                    // 4.00.
                    Block::decode(value).ok_or_else(|| {
                        Response::diagnostic(Code::BAD_REQUEST, "a block has the reserved size 7")
                    })
                })
                .transpose()
        };
        let block1 = block(option::BLOCK1)?;
        let block2 = block(option::BLOCK2)?;
        serving.block2 = block2;
        serving.key = key(message, false);
        serving.etags = message.values(option::ETAG).map(<[u8]>::to_vec).collect();
        serving.size_wanted = message.uint(option::SIZE2) == Some(0);
        if let Some(echo) = message.value(option::ECHO) {
            serving.reachable |=
                self.echo
                    .holds(now, self.config.echo_lifetime, serving.peer.as_ref(), echo);
        }
        let size = message.uint(option::SIZE1).unwrap_or_default();
        let payload = std::mem::take(&mut message.payload);
        // Errors of the path and of its query come before any block is kept.
        let mut request = Request::read(message, Vec::new())?;
        request.payload = match block1 {
            None => {
                if payload.len() > self.config.body_max {
                    return Err(self.too_large());
                }
                payload
            }
            Some(block) => match self.assemble(now, serving, message, block, &payload, size) {
                Assembled::Whole(body) => {
                    serving.block1 = Some(block);
                    body
                }
                Assembled::Reply(response, echoed) => {
                    serving.block1 = echoed;
                    serving.block2 = None;
                    return Err(response);
                }
            },
        };
        request.block_exponent = block2.or(block1).map(Block::exponent);
        // COA-063: The follow-up POST with Block2 NUM>0 does not execute the operation again.
        if block2.is_some_and(|block| block.number() > 0) && !defects::seeded!("coap-does-it-again")
        {
            let kept = self.peers.get_mut(&serving.peer).and_then(|state| {
                let kept = state.served.iter_mut().rfind(|s| s.key == serving.key)?;
                kept.at = now;
                Some(kept.response.clone())
            });
            return match kept {
                Some(response) => {
                    self.deliver(now, serving, &response);
                    Ok(None)
                }
                // Asking again for a representation changes nothing.
                None if serving.get => Ok(Some(request)),
                None => Err(Response::diagnostic(
                    Code::REQUEST_ENTITY_INCOMPLETE,
                    "the response is not kept any more",
                )),
            };
        }
        Ok(Some(request))
    }

    fn too_large(&self) -> Response {
        // COA-035: 4.13 carries Size1 with the maximum accepted size.
        Response {
            size1: u32::try_from(self.config.body_max).ok(),
            ..Response::diagnostic(Code::REQUEST_ENTITY_TOO_LARGE, "the body is too large")
        }
    }

    /// Puts a block of a request to those before it.
    fn assemble(
        &mut self,
        now: Moment,
        serving: &Serving<P>,
        message: &Message,
        block: Block,
        payload: &[u8],
        size: u32,
    ) -> Assembled {
        let no = |code, text| Assembled::Reply(Response::diagnostic(code, text), None);
        let body_max = self.config.body_max;
        if serving.via != Via::Secured && (block.more() || block.number() > 0) {
            // Nothing is kept for who may not be there.
            return no(Code::REQUEST_ENTITY_TOO_LARGE, "no bodies in the clear");
        }
        // COA-050: With M=1 the payload length equals the block size; other length is rejected with
        // 4.00.
        let odd = payload.len() > block.size() || (block.more() && payload.len() != block.size());
        if odd && !defects::seeded!("coap-takes-odd-blocks") {
            return no(Code::BAD_REQUEST, "the payload is not of the block's size");
        }
        let offset = block.offset();
        // COA-064: 4.13 for bodies above the limit, with smaller SZX or Size1 hint.
        // COA-065: Size1 in a request is only a hint, never an allocation size.
        let hinted = usize::try_from(size).unwrap_or(usize::MAX);
        let large = hinted > body_max || offset.saturating_add(payload.len()) > body_max;
        if large && !defects::seeded!("coap-takes-endless-bodies") {
            self.drop_assembly(serving, message);
            return Assembled::Reply(self.too_large(), None);
        }
        if !block.more() && offset == 0 {
            self.drop_assembly(serving, message);
            return Assembled::Whole(payload.to_vec());
        }
        let held = self.held.saturating_add(payload.len());
        let of_peer = self.peers.get(&serving.peer).map_or(0, PeerState::held);
        let scarce = held > self.config.held_max / 4 * 3;
        if held > self.config.held_max || (scarce && of_peer + payload.len() > SMALL_BODIES) {
            return Assembled::Reply(
                Response {
                    max_age: Some(RETRY_AFTER),
                    ..Response::diagnostic(Code::SERVICE_UNAVAILABLE, "too many bodies at once")
                },
                None,
            );
        }
        // COA-061: Block1 transfers of one endpoint are matched by endpoint, resource (and
        // Request-Tag), not by token or Message ID.
        // COA-073: Block1 messages with different Request-Tag values (absence is its own value) are
        // not assembled together.
        // COA-052: Content-Format must be the same on all blocks; a mismatch is not assembled
        // (4.08).
        let key = key(message, true);
        let limit = self.config.assemblies_per_peer.max(1);
        let Some(state) = self.peers.get_mut(&serving.peer) else {
            return no(
                Code::REQUEST_ENTITY_INCOMPLETE,
                "earlier blocks are missing",
            );
        };
        if offset == 0 {
            // COA-059: A new NUM=0 from the same endpoint to the same resource restarts the
            // assembly.
            let before = state.held();
            state.assemblies.retain(|assembly| assembly.key != key);
            // COA-066: Per-peer and global limits on concurrent partial bodies and body size
            // (4.13/5.03).
            while state.assemblies.len() >= limit {
                state.assemblies.remove(0);
            }
            state.assemblies.push(Assembly {
                key,
                body: payload.to_vec(),
                last: 0,
                at: now,
            });
            self.held = (self.held + state.held()).saturating_sub(before);
        } else {
            // COA-057: Missing earlier blocks at the final block give 4.08.
            let Some(at) = state.assemblies.iter().position(|a| a.key == key) else {
                return no(
                    Code::REQUEST_ENTITY_INCOMPLETE,
                    "earlier blocks are missing",
                );
            };
            let Some(assembly) = state.assemblies.get_mut(at) else {
                return no(
                    Code::REQUEST_ENTITY_INCOMPLETE,
                    "earlier blocks are missing",
                );
            };
            let again = offset == assembly.last
                && block.more()
                && assembly.body.get(offset..) == Some(payload);
            if !again {
                // COA-058: Out-of-sequence blocks give 4.08.
                if offset != assembly.body.len()
                    && !defects::seeded!("coap-takes-blocks-in-any-order")
                {
                    return no(
                        Code::REQUEST_ENTITY_INCOMPLETE,
                        "a block is out of sequence",
                    );
                }
                assembly.body.extend(payload);
                assembly.last = offset;
                self.held += payload.len();
            }
            assembly.at = now;
            if !block.more() {
                let assembly = state.assemblies.remove(at);
                self.held = self.held.saturating_sub(assembly.body.len());
                return Assembled::Whole(assembly.body);
            }
        }
        // COA-056: Atomic Block1: non-final blocks answered 2.31, operation runs only at the last
        // block.
        // COA-051: Final response: Block1 control value acknowledges NUM and repeats or lowers SZX.
        let exponent = block.exponent().min(self.exponent_of(&serving.peer));
        Assembled::Reply(
            Response::new(Code::CONTINUE),
            Block::new(block.number(), true, exponent),
        )
    }

    fn drop_assembly(&mut self, serving: &Serving<P>, message: &Message) {
        let key = key(message, true);
        if let Some(state) = self.peers.get_mut(&serving.peer) {
            let before = state.held();
            state.assemblies.retain(|assembly| assembly.key != key);
            self.held = self
                .held
                .saturating_sub(before.saturating_sub(state.held()));
        }
    }

    /// Answers a request. An exchange that is not known any more, because its peer was forgotten,
    /// is passed over.
    pub fn respond(&mut self, now: Moment, exchange: Exchange, response: Response) {
        let Some(mut serving) = self.servings.remove(&exchange) else {
            return;
        };
        if let Some(state) = self.peers.get_mut(&serving.peer) {
            state.open.retain(|open| *open != exchange);
        }
        self.answer(now, &mut serving, response);
    }

    /// Keeps what is answered block by block, and sends the first block.
    fn answer(&mut self, now: Moment, serving: &mut Serving<P>, mut response: Response) {
        // COA-034: A GET with a matching ETag gets 2.03 Valid with that ETag and no payload; several
        // ETag options possible.
        if serving.get && response.code == Code::CONTENT {
            let matching = response
                .etag
                .as_ref()
                .is_some_and(|etag| serving.etags.contains(etag));
            if matching && !defects::seeded!("coap-ignores-etags") {
                response.code = Code::VALID;
                response.content_format = None;
                response.payload = Vec::new();
            }
        }
        let size = 16_usize << self.exponent(serving);
        if response.payload.len() > size {
            if response.etag.is_none() {
                // COA-055: ETag on each Block2 response of a changing resource.
                let hash = digest::digest(&digest::SHA256, &response.payload);
                response.etag = hash.as_ref().get(..ETAG_LENGTH).map(<[u8]>::to_vec);
            }
            let known = self.peers.get_mut(&serving.peer);
            if let Some(state) = known.filter(|_| serving.via == Via::Secured) {
                let before = state.held();
                state.served.retain(|served| served.key != serving.key);
                while state.served.len() >= self.config.bodies_per_peer.max(1) {
                    state.served.remove(0);
                }
                state.served.push(Served {
                    key: serving.key.clone(),
                    response: response.clone(),
                    at: now,
                });
                self.held = (self.held + state.held()).saturating_sub(before);
            }
        }
        self.deliver(now, serving, &response);
    }

    /// The exponent of the blocks of a response: ours, or a smaller one that was asked for.
    fn exponent(&self, serving: &Serving<P>) -> u8 {
        // COA-053: Server uses the block size asked or a smaller one; M of request Block2 is
        // ignored.
        let asked = serving.block2.or(serving.block1).map(Block::exponent);
        let ours = self.exponent_of(&serving.peer);
        asked.map_or(ours, |asked| asked.min(ours))
    }

    /// Sends the block of the response that is wanted.
    fn deliver(&mut self, now: Moment, serving: &mut Serving<P>, response: &Response) {
        let mut number = serving.block2.map_or(0, Block::number);
        let wanted = serving.block2.map(Block::exponent);
        let ours = self.exponent_of(&serving.peer);
        // A block asked for by number counts in the sizes of the asker.
        let exponent = match wanted {
            Some(asked) if number > 0 => {
                // What is too large for the peer's session begins at the same byte.
                number = number.saturating_mul(1 << asked.saturating_sub(ours));
                asked.min(ours)
            }
            _ => self.exponent(serving),
        };
        let mut message = Message::new(Kind::NonConfirmable, response.code, 0, serving.token);
        response.write(&mut message);
        if let Some(block1) = serving.block1 {
            let exponent = block1.exponent().min(ours);
            let more = response.code == Code::CONTINUE;
            if let Some(block1) = Block::new(block1.number(), more, exponent) {
                message.add(option::BLOCK1, block1.encode());
            }
        }
        match Block::of(&response.payload, number, exponent) {
            Some((block, bytes)) => {
                if block.more() || serving.block2.is_some() {
                    message.add(option::BLOCK2, block.encode());
                }
                if serving.size_wanted || (block.more() && number == 0) {
                    let size = u32::try_from(response.payload.len()).unwrap_or(u32::MAX);
                    message.add_uint(option::SIZE2, size);
                }
                message.payload = bytes.to_vec();
            }
            None => {
                // COA-054: Block2 NUM beyond the end gives 4.00 (Bad Request) or 4.02, never
                // out-of-range memory.
                let refusal = Response::diagnostic(Code::BAD_REQUEST, "no such block");
                message = Message::new(Kind::NonConfirmable, refusal.code, 0, serving.token);
                message.payload = refusal.payload;
            }
        }
        self.dispatch(now, serving, message);
    }

    /// Sends a message in the way that the request came.
    fn dispatch(&mut self, now: Moment, serving: &mut Serving<P>, mut message: Message) {
        let peer = serving.peer.clone();
        match (serving.via, serving.kind) {
            (Via::Multicast, _) => {
                // COA-038: Multicast responses are delayed randomly within Leisure (default 5 s) and
                // errors are suppressed.
                let room = self.delayed < DELAYED_MAX;
                if message.code.is_success() && !message.payload.is_empty() && room {
                    message.id = self.random.id();
                    let delay = self.config.leisure.mul_f64(self.random.fraction());
                    if let Ok(datagram) = message.encode() {
                        let transmit = super::Transmit { peer, datagram };
                        self.delayed += 1;
                        self.timers.set(now + delay, Timer::Send(transmit));
                    }
                }
            }
            (Via::Open, kind) => {
                if kind == Kind::Confirmable {
                    message.kind = Kind::Acknowledgement;
                    message.id = serving.id;
                } else {
                    message.id = self.random.id();
                }
                let Ok(datagram) = message.encode() else {
                    return;
                };
                let limit = serving.length.saturating_mul(AMPLIFICATION_MAX);
                if serving.reachable || datagram.len() <= limit {
                    self.send(&peer, datagram);
                    return;
                }
                // COA-042: No large amplification for unauthenticated requests.
                // COA-070: Servers limit responses to an unverified NoSec peer to 3x the request or
                // use 4.01 + Echo.
                // COA-071: An Echo challenge for amplification is piggybacked or NON, never separate
                // CON.
                let mut challenge =
                    Message::new(message.kind, Code::UNAUTHORIZED, message.id, message.token);
                challenge.add(option::ECHO, self.echo.value(now, peer.as_ref()));
                if let Ok(datagram) = challenge.encode() {
                    self.send(&peer, datagram);
                }
            }
            (Via::Secured, Kind::Confirmable) if !serving.acknowledged => {
                message.kind = Kind::Acknowledgement;
                message.id = serving.id;
                if let Ok(datagram) = message.encode() {
                    self.remember_reply(&peer, serving.id, datagram.clone());
                    self.send(&peer, datagram);
                }
            }
            (Via::Secured, kind) => {
                let Some(id) = self.message_id(now, &peer) else {
                    return;
                };
                message.id = id;
                if kind == Kind::Confirmable {
                    // COA-018: After an empty ACK the response is sent only as separate message.
                    message.kind = Kind::Confirmable;
                    self.send_confirmable(now, &peer, &message, Subject::Response);
                } else if let Ok(datagram) = message.encode() {
                    // COA-010: A NON is never acknowledged with ACK.
                    // COA-020: NON request gets a NON response.
                    self.send(&peer, datagram);
                }
            }
        }
    }

    /// Acknowledges a request whose answer takes longer.
    pub(super) fn acknowledge_late(&mut self, exchange: &Exchange) {
        let Some(serving) = self.servings.get_mut(exchange) else {
            return;
        };
        serving.acknowledged = true;
        let (peer, id) = (serving.peer.clone(), serving.id);
        if let Ok(datagram) = Message::empty(Kind::Acknowledgement, id).encode() {
            self.remember_reply(&peer, id, datagram.clone());
            self.send(&peer, datagram);
        }
    }

    fn remember_reply(&mut self, peer: &P, id: u16, datagram: Vec<u8>) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.remember_reply(id, datagram);
        }
    }
}
