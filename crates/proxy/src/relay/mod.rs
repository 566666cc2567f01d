//! What is relayed, and what is not: decisions without socket, task, clock or randomness.
//!
//! - [`Limiter`]: what the pledges of one link may send.
//! - [`Keys`] and [`stateless`]: the sealed header of JPY messages.
//! - [`Table`]: the flows of the stateful proxy.
//! - [`Gate`]: the connections of the circuit proxy.

mod gate;
mod header;
mod limit;
mod stateful;
pub mod stateless;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub use coap::Moment;

pub use self::gate::{Gate, GateLimits};
pub use self::header::{Generation, HEADER_LENGTH_MAX, KEY_LENGTH, Keys};
pub use self::limit::{Limiter, Rates};
pub use self::stateful::{Flow, FlowId, StateLimits, Table};

/// How much larger than what a pledge sent an answer may be before the pledge has shown that it
/// gets answers.
const AMPLIFICATION_MAX: u64 = 3;

/// A pledge, as the proxy can tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pledge {
    /// The number of the listener at which it spoke. Listeners are numbered across interfaces and
    /// registrars, so this says both.
    pub listener: u16,
    /// Its address and port. Scope and flow label count as nothing: the listener says the link.
    pub address: SocketAddr,
}

impl Pledge {
    /// A pledge at this listener.
    #[must_use]
    pub fn new(listener: u16, address: SocketAddr) -> Self {
        Self {
            listener,
            address: SocketAddr::new(address.ip(), address.port()),
        }
    }
}

/// Why something is not relayed. Nothing is said to whoever sent it, except where a method says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The source is not an address of the link.
    #[error("the source address is not link-local")]
    NotLinkLocal,
    /// No payload, or port 0: there is nothing to relay, or nobody to answer.
    #[error("the datagram is empty or has no source port")]
    Empty,
    /// Larger than a pledge's datagrams may be.
    #[error("the datagram is too large")]
    TooLarge,
    /// The pledge sends too much.
    #[error("the pledge sends too much")]
    PledgeRate,
    /// All pledges of the link together send too much.
    #[error("the pledges of this link send too much")]
    LinkRate,
    /// The pledge has as many flows or connections as it may have.
    #[error("the pledge has too many flows or connections")]
    PledgeFull,
    /// The link has as many flows or connections as it may have.
    #[error("the link has too many flows or connections")]
    LinkFull,
    /// What came from the registrar is not JPY.
    #[error("the message is not JPY")]
    NotJpy,
    /// The header of a JPY message is not ours, or was changed.
    #[error("the header is forged or of a key that is gone")]
    Header,
    /// An answer of more than three times what a pledge sent that has not shown that it is there.
    #[error("the answer is too large for a pledge that may not be there")]
    Amplified,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NotLinkLocal,
        Self::Empty,
        Self::TooLarge,
        Self::PledgeRate,
        Self::LinkRate,
        Self::PledgeFull,
        Self::LinkFull,
        Self::NotJpy,
        Self::Header,
        Self::Amplified,
    ];

    /// The stable code, for metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotLinkLocal => "proxy.not-link-local",
            Self::Empty => "proxy.empty",
            Self::TooLarge => "proxy.too-large",
            Self::PledgeRate => "proxy.pledge-rate",
            Self::LinkRate => "proxy.link-rate",
            Self::PledgeFull => "proxy.pledge-full",
            Self::LinkFull => "proxy.link-full",
            Self::NotJpy => "proxy.not-jpy",
            Self::Header => "proxy.header",
            Self::Amplified => "proxy.amplified",
        }
    }
}

/// Whether an address is one of the link alone.
#[must_use]
pub const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => is_link_local_v6(address),
    }
}

pub(crate) const fn is_link_local_v6(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}
