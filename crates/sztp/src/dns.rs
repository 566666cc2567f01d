//! The DNS records of
//! [RFC 8572 §4.2](https://www.rfc-editor.org/rfc/rfc8572.html#section-4.2): artefacts of one
//! device in TXT records below `<serial-number>._sztp`, and bootstrap servers for everybody in
//! SRV records at `_sztp._tcp`.
//!
//! ```text
//! <serial-number>._sztp.example.com. 3600 IN TXT "ci=<binary data>"
//! <serial-number>._sztp.example.com. 3600 IN TXT "oc=<binary data>"
//! <serial-number>._sztp.example.com. 3600 IN TXT "ov=<binary data>"
//! _sztp._tcp.example.com.            1800 IN SRV 0 0 443 sztp1.example.com.
//! ```
//!
//! A TXT record is a sequence of character-strings of 255 octets at most, and RFC 8572 does not
//! say how an artefact of kilobytes lies in it. The reading here is the only one that works: one
//! record for each key, its character-strings put together without anything between them
//! (as [RFC 7208 §3.3](https://www.rfc-editor.org/rfc/rfc7208.html#section-3.3) does it), and the
//! value is all that stands behind the first `=`.
//!
//! The message format is hickory-proto's. Sockets are not opened here.

mod message;
mod records;
mod responder;
mod zone;

use pki::{Blame, Coded};

pub use self::message::{
    Answer, MDNS_MESSAGE_MAX_BYTES, MESSAGE_MAX_BYTES, Question, UDP_MESSAGE_MAX_BYTES,
};
pub use self::records::{Artefacts, Service, order};
pub use self::responder::{Responder, Response};
pub use self::zone::{Finding, RDATA_MAX_BYTES, inspect_zone, service_zone, txt_zone};

/// The domain of multicast DNS.
pub const LOCAL: &str = "local";
/// Its port.
pub const MULTICAST_PORT: u16 = 5353;

/// Why a record cannot be asked for, written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An artefact with its key is larger than any record. The caller's fault.
    #[error("{key} has {size} octets and a TXT record 65535; serve redirect information instead")]
    ArtefactTooLarge {
        /// The key.
        key: &'static str,
        /// Octets of the artefact.
        size: usize,
    },
    /// The server cannot or will not answer. The peer's fault.
    #[error("the DNS server answered {0}")]
    Failed(String),
    /// Signed data without its owner certificate or voucher, or these without conveyed
    /// information. The peer's fault, or the caller's who would serve it.
    #[error("ci, oc and ov do not go together: {0}")]
    Incomplete(&'static str),
    /// A message is no DNS message. The peer's fault.
    #[error("this is no DNS message: {0}")]
    Malformed(String),
    /// A domain or serial number makes no DNS name. The caller's fault.
    #[error("{name:?} makes no DNS name: {reason}")]
    Name {
        /// What was given.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// An artefact is not the binary one. The caller's fault.
    #[error("{0} has to be the binary (DER) artefact, not text")]
    NotBinary(&'static str),
    /// The message answers another question. The peer's fault.
    #[error("the message is not the answer to this question")]
    Unrelated,
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::ArtefactTooLarge { .. } => "dns.artefact-too-large",
            Self::Failed(_) => "dns.failed",
            Self::Incomplete(_) => "dns.incomplete",
            Self::Malformed(_) => "dns.malformed",
            Self::Name { .. } => "dns.name",
            Self::NotBinary(_) => "dns.not-binary",
            Self::Unrelated => "dns.unrelated",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Failed(_) | Self::Malformed(_) | Self::Unrelated => Blame::PeerMisbehaved,
            Self::ArtefactTooLarge { .. }
            | Self::Incomplete(_)
            | Self::Name { .. }
            | Self::NotBinary(_) => Blame::Caller,
        }
    }
}
