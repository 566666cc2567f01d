//! What can go wrong between two hosts, each cause with its stable code.

use std::net::SocketAddr;
use std::time::Duration;

use pki::{Blame, Coded};

/// Errors of listeners and clients.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address could not be bound; the operator's configuration is usually at fault.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The connection was closed before an answer came.
    #[error("the peer closed the connection before its answer was complete: {0}")]
    Closed(String),
    /// No address of the target took the connection.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// Host and port as asked for.
        target: String,
        /// Why, in the words of the operating system.
        reason: String,
    },
    /// The connection attempt took too long.
    #[error("no connection to {target} within {limit:?}")]
    ConnectTimeout {
        /// Host and port as asked for.
        target: String,
        /// The limit that was reached.
        limit: Duration,
    },
    /// TLS or QUIC failed on the wire.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// The handshake took too long.
    #[error("TLS handshake not finished within {0:?}")]
    HandshakeTimeout(Duration),
    /// The peer broke HTTP.
    #[error("HTTP exchange failed: {0}")]
    Http(String),
    /// DTLS failed.
    #[error(transparent)]
    Dtls(#[from] crate::dtls::Error),
    /// A CoAP exchange came to nothing.
    #[error("CoAP exchange failed: {0}")]
    Exchange(#[from] ::coap::Failure),
    /// The own certificate and key cannot be used for TLS.
    #[error("identity unusable for TLS: {0}")]
    Identity(String),
    /// The host name cannot be resolved.
    #[error("cannot resolve {name}: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What the resolver said.
        reason: String,
    },
    /// The peer does not speak the HTTP version that was asked for.
    #[error("the peer did not agree to {0}")]
    Protocol(&'static str),
    /// A request that cannot be sent: bad path, header or body.
    #[error("request cannot be sent: {0}")]
    Request(String),
    /// The answer took too long.
    #[error("no complete answer within {0:?}")]
    ResponseTimeout(Duration),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {limit_bytes} bytes")]
    ResponseTooLarge {
        /// The limit that was passed.
        limit_bytes: usize,
    },
    /// The server's certificate does not lead to a trust anchor, or names another host.
    #[error("server certificate not trusted: {source}")]
    Untrusted {
        /// The stable code of the path validation.
        code: &'static str,
        /// What path validation found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A URL that cannot be used here.
    #[error("URL {url:?} unusable: {reason}")]
    Url {
        /// The text.
        url: String,
        /// Why.
        reason: &'static str,
    },
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } => "net.bind",
            Self::Closed(_) => "net.closed",
            Self::Connect { .. } => "net.connect",
            Self::ConnectTimeout { .. } => "net.connect-timeout",
            Self::Dtls(error) => error.code(),
            Self::Exchange(failure) => failure.code(),
            Self::Handshake(_) => "net.handshake",
            Self::HandshakeTimeout(_) => "net.handshake-timeout",
            Self::Http(_) => "net.http",
            Self::Identity(_) => "net.identity",
            Self::Name { .. } => "net.name",
            Self::Protocol(_) => "net.protocol",
            Self::Request(_) => "net.request",
            Self::ResponseTimeout(_) => "net.response-timeout",
            Self::ResponseTooLarge { .. } => "net.response-too-large",
            Self::Untrusted { .. } => "net.untrusted",
            Self::Url { .. } => "net.url",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Closed(_)
            | Self::ConnectTimeout { .. }
            | Self::Handshake(_)
            | Self::HandshakeTimeout(_)
            | Self::Http(_)
            | Self::ResponseTimeout(_)
            | Self::ResponseTooLarge { .. }
            | Self::Untrusted { .. } => Blame::PeerMisbehaved,
            Self::Dtls(error) => error.blame(),
            Self::Exchange(failure) => failure.blame(),
            Self::Protocol(_) => Blame::PeerIncompatible,
            Self::Bind { .. } | Self::Connect { .. } | Self::Identity(_) | Self::Name { .. } => {
                Blame::Ours
            }
            Self::Request(_) | Self::Url { .. } => Blame::Caller,
        }
    }
}
