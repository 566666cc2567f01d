//! What is kept of one peer.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{Exchange, Handle, Moment};
use crate::{Response, Token};

/// Parts of the space of message ids; each remembers when it was begun.
const SECTORS: usize = 16;
/// Bytes of what was said to one peer's messages that are kept to be said again: some blocks of the
/// largest size. A client waits for one answer before it asks again, as a rule.
const REPLIES_BYTES_MAX: usize = 8 * 1024;

/// Whom a confirmable message of ours is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    Call(Handle),
    Response,
}

/// A confirmable message that is not acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) datagram: Vec<u8>,
    pub(super) rounds: u32,
    pub(super) timeout: Duration,
    pub(super) subject: Subject,
}

/// A message of the peer that came before.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) until: Moment,
    /// What is said to a duplicate.
    pub(super) reply: Option<Vec<u8>>,
}

/// A body that comes block by block.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) key: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// Where the last block began.
    pub(super) last: usize,
    pub(super) at: Moment,
}

/// A body that is fetched block by block.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) key: Vec<u8>,
    pub(super) response: Response,
    pub(super) at: Moment,
}

#[derive(Debug)]
pub(super) struct PeerState {
    next_id: u16,
    sectors: [Option<Moment>; SECTORS],
    pub(super) sent: HashMap<u16, Sent>,
    pub(super) seen: HashMap<u16, Seen>,
    order: VecDeque<u16>,
    pub(super) tokens: HashMap<Token, Handle>,
    pub(super) active: Vec<Handle>,
    pub(super) waiting: VecDeque<Handle>,
    pub(super) assemblies: Vec<Assembly>,
    pub(super) served: Vec<Served>,
    pub(super) open: Vec<Exchange>,
}

impl PeerState {
    pub(super) fn new(first_id: u16) -> Self {
        Self {
            next_id: first_id,
            sectors: [None; SECTORS],
            sent: HashMap::new(),
            seen: HashMap::new(),
            order: VecDeque::new(),
            tokens: HashMap::new(),
            active: Vec::new(),
            waiting: VecDeque::new(),
            assemblies: Vec::new(),
            served: Vec::new(),
            open: Vec::new(),
        }
    }

    /// The next message id, `None` while all of them were used a moment ago.
    pub(super) fn message_id(&mut self, now: Moment, lifetime: Duration) -> Option<u16> {
        let id = self.next_id;
        let size = (usize::from(u16::MAX) + 1) / SECTORS;
        let sector = self.sectors.get_mut(usize::from(id) / size)?;
        // COA-011: The same Message ID is not reused within EXCHANGE_LIFETIME (247 s) to one
        // endpoint.
        // A sector is free again when the last of its ids is.
        if usize::from(id) % size == 0 && sector.is_some_and(|last| last + lifetime > now) {
            return None;
        }
        *sector = Some(now);
        self.next_id = id.wrapping_add(1);
        Some(id)
    }

    pub(super) fn note(&mut self, id: u16, seen: Seen, limit: usize) {
        if self.seen.insert(id, seen).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > limit.max(1) {
            if let Some(oldest) = self.order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
    }

    /// Keeps what was said to a message. Where that is too much, the oldest go: duplicates of those
    /// messages are known still, and nothing is said to them.
    pub(super) fn remember_reply(&mut self, id: u16, datagram: Vec<u8>) {
        match self.seen.get_mut(&id) {
            Some(seen) => seen.reply = Some(datagram),
            None => return,
        }
        let kept = |seen: &Seen| seen.reply.as_ref().map_or(0, Vec::len);
        let mut bytes: usize = self.seen.values().map(kept).sum();
        for oldest in self.order.iter().filter(|other| **other != id) {
            if bytes <= REPLIES_BYTES_MAX {
                return;
            }
            if let Some(seen) = self.seen.get_mut(oldest) {
                bytes -= kept(seen);
                seen.reply = None;
            }
        }
    }

    pub(super) fn held(&self) -> usize {
        let assemblies: usize = self.assemblies.iter().map(|a| a.body.len()).sum();
        let served: usize = self.served.iter().map(|s| s.response.payload.len()).sum();
        assemblies + served
    }

    pub(super) fn expire(&mut self, now: Moment, lifetime: Duration) {
        self.seen.retain(|_, seen| seen.until > now);
        self.order.retain(|id| self.seen.contains_key(id));
        // COA-060: Partial bodies are discarded after EXCHANGE_LIFETIME (247 s) at the latest or
        // under memory pressure (4.08/4.13).
        self.assemblies
            .retain(|assembly| assembly.at + lifetime > now);
        self.served.retain(|served| served.at + lifetime > now);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
            && self.seen.is_empty()
            && self.tokens.is_empty()
            && self.active.is_empty()
            && self.waiting.is_empty()
            && self.assemblies.is_empty()
            && self.served.is_empty()
            && self.open.is_empty()
    }
}
