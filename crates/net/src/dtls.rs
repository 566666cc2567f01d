//! DTLS for constrained devices, without sockets and without tasks: datagrams in, datagrams out.
//!
//! [`Front`] is the part of a server that keeps no state. It reads a ClientHello, answers with a
//! HelloVerifyRequest (DTLS 1.2) or a HelloRetryRequest (1.3) that is no longer than what came, and
//! makes a [`Session`] only when the cookie has come back from the same peer. A [`Session`] is one
//! association, of a server or of a client: [`Session::receive`] takes a datagram,
//! [`Session::transmit`] gives those to be sent, [`Session::read`] the application's, and
//! [`Session::deadline`] says when [`Session::advance`] wants to be called.
//!
//! The handshake proves that the peer holds the key of the certificate that it shows, and nothing
//! more, as with TLS in this crate: the chain goes up to the services, which can answer with a
//! reason. The client's side shows the server's chain to its caller, who judges it.
//!
//! # Which datagram is for whom
//! A datagram that [`ClientHello::begins`] goes to the session of its peer if
//! [`Session::began_with`] it, else to the [`Front`]: a device that has lost its memory begins
//! anew from the same port. The session that was there stays until the new one is established.
//! Every other datagram goes to the session of its peer.
//!
//! # What is whose
//! OpenSSL (of our own, vendored) does the handshake of DTLS 1.2, dimpl all of DTLS 1.3. Around
//! them, in this module:
//!
//! - **Cookies before any state.** The ClientHello is read by a small strict reader. The cookie is
//!   an HMAC over the peer (its address, or behind a join proxy the proxy's address and header) and
//!   the ClientHello, under a key that changes every minute; the key before is still accepted. Only
//!   then is there a session. Its library is shown the ClientHello as it was without cookie, its
//!   own request for a cookie is thrown away, and then it is shown the real one: so message numbers
//!   and transcript are what the client has.
//! - **Record numbers.** The ServerHello continues with the record number of the ClientHello
//!   ([RFC 6347 §4.2.1](https://www.rfc-editor.org/rfc/rfc6347.html#section-4.2.1)). OpenSSL would
//!   begin at 1, which a client that had to repeat its first ClientHello takes for a replay; so
//!   the numbers of the records in the clear are moved on both ways.
//! - **The records of DTLS 1.2 after the handshake.** OpenSSL's object is dropped then, as it is
//!   ten times as large as what is needed; and each record that fails authentication is counted
//!   ([`ServerConfig::forgery_limit`]).
//! - **Limits** on handshake messages and on records that are held for the next epoch.
//! - **No renegotiation and no resumption.** A session made with an IDevID never turns into one
//!   with another identity; a device that comes back makes a full handshake.
//!
//! What the libraries lack is listed in `docs/decisions/0007-dtls.md`.
//!
//! # Time
//! DTLS 1.3 runs on the caller's clock alone. In DTLS 1.2 OpenSSL repeats lost flights by a clock of
//! its own: 1 s after a flight was sent, then 2 s, 4 s and so on up to 60 s, at most 12 times. Its
//! interface in safe Rust offers no way to set another clock or another first interval.
//! [`Session::deadline`] follows those times in the caller's clock; [`Session::advance`] makes
//! OpenSSL look at its own. With a simulated clock lost flights are repeated in real time only.

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
