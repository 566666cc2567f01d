//! DTLS 1.2 for constrained devices, without sockets and without tasks: datagrams in, datagrams out.
//!
//! [`Front`] is the part of a server that keeps no state. It reads a ClientHello, answers with a
//! HelloVerifyRequest that is no longer than what came, and makes a [`Session`] only when the
//! cookie has come back from the same peer. A [`Session`] is one association, of a server or of a
//! client: [`Session::receive`] takes a datagram, [`Session::transmit`] gives those to be sent,
//! [`Session::read`] the application's, and [`Session::deadline`] says when
//! [`Session::advance`] wants to be called.
//!
//! The handshake proves that the peer holds the key of the certificate that it shows, and nothing
//! more, as with TLS in this crate: the chain goes up to the services, which can answer with a
//! reason. The client's side shows the server's chain to its caller, who judges it.
//!
//! # What is OpenSSL's and what is done here
//! OpenSSL (of our own, vendored) does the handshake and the records. Around it, in this module:
//!
//! - **Cookies before any state.** The ClientHello is read by a small strict reader
//!   ([`ClientHello`]). The cookie is an HMAC over the peer (its address, or behind a join proxy
//!   the proxy's address and header), the client's random, session id, suites and compression
//!   methods, under a key that changes every minute; the key before is still accepted.
//!   Only then is an OpenSSL object made. It is shown the ClientHello as it was without cookie,
//!   its own HelloVerifyRequest is thrown away, and then it is shown the real one: so message
//!   numbers and transcript are what the client has.
//! - **Record numbers.** The ServerHello continues with the record number of the ClientHello
//!   ([RFC 6347 §4.2.1](https://www.rfc-editor.org/rfc/rfc6347.html#section-4.2.1)). OpenSSL would
//!   begin at 1, which a client that had to repeat its first ClientHello takes for a replay; so
//!   the numbers of the unprotected records are moved on both ways.
//! - **Limits** on handshake messages, on records held for the next epoch, and on records that
//!   fail authentication ([`ServerConfig::forgery_limit`]).
//! - **No renegotiation and no resumption.** A session made with an IDevID never turns into one
//!   with another identity; a device that comes back makes a full handshake.
//!
//! # Time
//! OpenSSL repeats lost flights by a clock of its own: 1 s after a flight was sent, then 2 s, 4 s
//! and so on up to 60 s, at most 12 times. Its interface in safe Rust offers no way to set another
//! clock or another first interval. [`Session::deadline`] follows those times in the caller's
//! clock; [`Session::advance`] makes OpenSSL look at its own. With a simulated clock lost flights
//! are therefore repeated in real time only.

mod client_hello;
mod config;
mod context;
mod front;
mod protected;
mod provider;
mod record;
mod session;
mod v12;
mod v13;

pub use client_hello::ClientHello;
pub use config::{ClientConfig, ServerConfig, Suite, Version};
pub use front::{Front, Hello};
pub use session::{Closed, Session, SessionPeer, State};

use pki::{Blame, Coded};

/// What can go wrong with a DTLS association.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The association is closed.
    #[error("the DTLS association is closed: {0}")]
    Closed(Closed),
    /// A configuration that cannot be used.
    #[error("DTLS configuration: {0}")]
    Config(String),
    /// The handshake is not finished, so nothing can be sent.
    #[error("the DTLS handshake is not finished")]
    Handshaking,
    /// The own certificate and key cannot be used for DTLS.
    #[error("identity unusable for DTLS: {0}")]
    Identity(String),
    /// OpenSSL failed for a reason that is not the peer's.
    #[error("OpenSSL: {0}")]
    Library(String),
    /// More than fits into one record to this peer.
    #[error("{length} bytes do not fit into one DTLS record of {limit}")]
    TooLarge {
        /// What was to be sent.
        length: usize,
        /// What can be sent.
        limit: usize,
    },
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Closed(_) => "dtls.closed",
            Self::Config(_) => "dtls.config",
            Self::Handshaking => "dtls.handshaking",
            Self::Identity(_) => "dtls.identity",
            Self::Library(_) => "dtls.library",
            Self::TooLarge { .. } => "dtls.too-large",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Closed(closed) => closed.blame(),
            Self::Config(_) | Self::Identity(_) | Self::Library(_) => Blame::Ours,
            Self::Handshaking | Self::TooLarge { .. } => Blame::Caller,
        }
    }
}

impl From<openssl::error::ErrorStack> for Error {
    fn from(stack: openssl::error::ErrorStack) -> Self {
        Self::Library(stack.to_string())
    }
}
