//! What can be wrong with a message.

use pki::{Blame, Coded};

/// An error of the codecs of this crate. What an exchange can end with is a
/// [`Failure`](crate::Failure).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a message of version 1; such datagrams are ignored in silence. The peer's fault.
    #[error("the datagram is not CoAP of version 1")]
    Version,
    /// The message breaks the format. The peer's fault.
    #[error("message format: {0}")]
    Format(&'static str),
    /// The message has more options, or longer ones, than we read. The peer's fault.
    #[error("{0}")]
    Limit(&'static str),
    /// A message that is to be sent cannot be written. The caller's fault.
    #[error("message cannot be written: {0}")]
    Unwritable(&'static str),
    /// A document in link format breaks its syntax. The peer's fault.
    #[error("link format, byte {at}: {cause}")]
    Link {
        /// Where, counted in bytes from 0.
        at: usize,
        /// What was expected.
        cause: &'static str,
    },
    /// A JPY message breaks its format. The peer's fault.
    #[error("JPY: {0}")]
    Jpy(&'static str),
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Version => "coap.version",
            Self::Format(_) => "coap.format",
            Self::Limit(_) => "coap.limit",
            Self::Unwritable(_) => "coap.unwritable",
            Self::Link { .. } => "coap.link-format",
            Self::Jpy(_) => "coap.jpy",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Unwritable(_) => Blame::Caller,
            Self::Limit(_) => Blame::PeerIncompatible,
            Self::Version | Self::Format(_) | Self::Link { .. } | Self::Jpy(_) => {
                Blame::PeerMisbehaved
            }
        }
    }
}
