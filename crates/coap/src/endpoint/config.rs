//! What can be set, and what is counted.

use std::time::Duration;

use crate::SIZE_EXPONENT_MAX;

/// A moment on the caller's clock: time since any fixed beginning.
pub type Moment = Duration;

/// How a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// Over a security association that proves the peer's address.
    Secured,
    /// In the clear, from an address that may be forged: nothing is kept, and an answer is not
    /// larger than three times the request before the peer has shown with an Echo value that it is
    /// there.
    Open,
    /// To a multicast address, in the clear.
    Multicast,
}

/// What can be set. Times are those of
/// [RFC 7252 §4.8](https://www.rfc-editor.org/rfc/rfc7252.html#section-4.8).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Largest block that we send and ask for, as exponent: 0 for 16 bytes to 6 for 1024.
    pub block_exponent: u8,
    /// Largest body in bytes, received or sent.
    pub body_max: usize,
    /// Bodies under way from one peer to us; an older one gives way.
    pub assemblies_per_peer: usize,
    /// Bodies kept for one peer that fetches them block by block; an older one gives way.
    pub bodies_per_peer: usize,
    /// Bytes of bodies kept for all peers together.
    pub held_max: usize,
    /// Message ids kept of one peer to know duplicates.
    pub duplicates_per_peer: usize,
    /// Requests of ours that wait for their turn, for each peer.
    pub waiting_per_peer: usize,
    /// Requests of ours under way at once to one peer (NSTART).
    pub nstart: usize,
    /// Time until the first retransmission (ACK_TIMEOUT).
    pub ack_timeout: Duration,
    /// The first retransmission comes at a random time up to this factor later (ACK_RANDOM_FACTOR).
    pub ack_random: f64,
    /// Retransmissions (MAX_RETRANSMIT).
    pub retransmissions_max: u32,
    /// How long we think about an answer before the request is acknowledged without one.
    pub ack_delay: Duration,
    /// How long a message id is known (EXCHANGE_LIFETIME), and a body without progress is kept.
    pub exchange_lifetime: Duration,
    /// The same for unreliable messages (NON_LIFETIME).
    pub non_lifetime: Duration,
    /// How long to wait for a response once the request is acknowledged or was sent unreliably.
    pub response_wait: Duration,
    /// How long a request of ours may take with all its blocks, those of the response among them.
    pub transfer_time: Duration,
    /// Answers to multicast are spread over this time (Leisure).
    pub leisure: Duration,
    /// How long an Echo value counts.
    pub echo_lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        Self {
            block_exponent: SIZE_EXPONENT_MAX,
            body_max: 64 * 1024,
            assemblies_per_peer: 2,
            bodies_per_peer: 2,
            held_max: 64 * 1024 * 1024,
            duplicates_per_peer: 64,
            waiting_per_peer: 16,
            nstart: 1,
            ack_timeout: 2 * SECOND,
            ack_random: 1.5,
            retransmissions_max: 4,
            ack_delay: SECOND,
            exchange_lifetime: 247 * SECOND,
            non_lifetime: 145 * SECOND,
            response_wait: 247 * SECOND,
            transfer_time: 3600 * SECOND,
            leisure: 5 * SECOND,
            echo_lifetime: 60 * SECOND,
        }
    }
}

/// Counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent, retransmissions among them.
    pub sent: u64,
    /// Datagrams sent again.
    pub retransmitted: u64,
    /// Datagrams that were here before.
    pub duplicates: u64,
    /// Datagrams that break the format.
    pub malformed: u64,
    /// Datagrams that mean nothing to us.
    pub ignored: u64,
}
