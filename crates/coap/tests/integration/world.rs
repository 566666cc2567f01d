//! One endpoint under test, spoken to in single messages.

use std::time::Duration;

use coap::{Config, Endpoint, Event, Exchange, Kind, Message, Moment, Request, Token, Via};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PEER: [u8; 4] = [10, 0, 0, 1];

pub(crate) type Peer = [u8; 4];

/// Random numbers that are the same in every run.
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> u64 + Send + 'static {
    let mut random = StdRng::seed_from_u64(seed);
    move || random.random()
}

pub(crate) struct World {
    pub(crate) endpoint: Endpoint<Peer>,
    pub(crate) now: Moment,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            endpoint: Endpoint::new(config, numbers(7)),
            now: SECOND,
        }
    }

    /// Sends a message as [`PEER`], over a security association, and returns what is said at once.
    pub(crate) fn say(&mut self, message: &Message) -> Vec<Message> {
        self.say_as(PEER, Via::Secured, &message.encode().unwrap())
    }

    pub(crate) fn say_as(&mut self, peer: Peer, via: Via, datagram: &[u8]) -> Vec<Message> {
        self.endpoint.receive(self.now, &peer, via, datagram);
        self.heard()
    }

    pub(crate) fn later(&mut self, time: Duration) -> Vec<Message> {
        self.now += time;
        self.endpoint.advance(self.now);
        self.heard()
    }

    pub(crate) fn heard(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.endpoint.transmit())
            .map(|transmit| Message::decode(&transmit.datagram).unwrap())
            .collect()
    }

    pub(crate) fn asked(&mut self) -> Option<(Exchange, Request)> {
        match self.endpoint.event()? {
            Event::Request {
                exchange, request, ..
            } => Some((exchange, request)),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn message(kind: Kind, code: coap::Code, id: u16, token: &[u8]) -> Message {
    Message::new(kind, code, id, Token::new(token).unwrap())
}

pub(crate) fn with_path(mut message: Message, path: &str) -> Message {
    for segment in path.split('/') {
        message.add(coap::option::URI_PATH, segment.as_bytes());
    }
    message
}
