//! Who is at the other end, as far as the transport can tell.
//!
//! TLS proves here that the peer holds the private key of the certificate that it shows, and
//! nothing more. Whether the certificate is trusted, in date or meant for this use is judged by
//! the services, which can answer with a reason and write it down.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use pki::Certificate;

/// What the listener knows of the sender; every request carries it as an extension.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address and port of the sender.
    pub address: SocketAddr,
    /// The HTTP version of this request.
    pub http_version: HttpVersion,
    /// The TLS connection, or `None` on a plain listener.
    pub tls: Option<PeerTls>,
}

impl Peer {
    /// The parsed client certificates, leaf first; empty without a client certificate.
    ///
    /// # Errors
    /// The reason why the chain that the peer sent cannot be read.
    pub fn chain(&self) -> Result<&[Certificate], &pki::Error> {
        match &self.tls {
            Some(tls) => tls.chain(),
            None => Ok(&[]),
        }
    }
}

/// The name of one request in logs and timelines; every request carries it as an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    process: u32,
    number: u64,
}

impl RequestId {
    pub(crate) fn next() -> Self {
        static PROCESS: OnceLock<u32> = OnceLock::new();
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        // Tells the processes of a fleet, and restarts, apart; nothing depends on it being secret.
        let process = *PROCESS.get_or_init(|| {
            let random = RandomState::new().hash_one(std::process::id());
            u32::try_from(random >> 32).unwrap_or_default()
        });
        Self {
            process,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.process, self.number)
    }
}

/// The TLS side of a [`Peer`]. Cheap to clone.
#[derive(Clone)]
pub struct PeerTls(pub(crate) Arc<PeerTlsInner>);

pub(crate) struct PeerTlsInner {
    pub(crate) chain: Result<Vec<Certificate>, pki::Error>,
    pub(crate) raw_chain: Vec<Vec<u8>>,
    pub(crate) version: TlsVersion,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) own_certificate: Option<Certificate>,
    pub(crate) exporter: Option<[u8; 32]>,
    pub(crate) server_name: Option<String>,
    pub(crate) resumed: bool,
}

impl PeerTls {
    /// The peer's certificates as parsed, leaf first and in the order they were sent; empty when
    /// it showed none. Possession of the leaf's key is proven, trust is not.
    ///
    /// # Errors
    /// One of the certificates does not parse. The handshake is let through all the same, so that
    /// the service can refuse with a reason.
    pub fn chain(&self) -> Result<&[Certificate], &pki::Error> {
        match &self.0.chain {
            Ok(chain) => Ok(chain),
            Err(error) => Err(error),
        }
    }

    /// The peer's certificates as sent, DER each.
    #[must_use]
    pub fn raw_chain(&self) -> &[Vec<u8>] {
        &self.0.raw_chain
    }

    /// The negotiated version.
    #[must_use]
    pub fn version(&self) -> TlsVersion {
        self.0.version
    }

    /// The negotiated application protocol (`h2`, `http/1.1`, `h3`).
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.0.alpn.as_deref()
    }

    /// The certificate that this side showed: of several server identities, the one chosen.
    #[must_use]
    pub fn own_certificate(&self) -> Option<&Certificate> {
        self.0.own_certificate.as_ref()
    }

    /// DER of [`Self::own_certificate`].
    #[must_use]
    pub fn server_certificate_der(&self) -> Option<&[u8]> {
        self.0.own_certificate.as_ref().map(Certificate::der)
    }

    /// The channel binding `tls-exporter` of
    /// [RFC 9266 §2](https://www.rfc-editor.org/rfc/rfc9266.html#section-2): 32 bytes exported
    /// with the label `EXPORTER-Channel-Binding` and an empty context.
    ///
    /// `None` on TLS 1.2 without extended master secret, where the value would not be unique.
    #[must_use]
    pub fn exporter(&self) -> Option<[u8; 32]> {
        self.0.exporter
    }

    /// The host name that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// Whether the session was resumed; the chain is then the one of the first handshake.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.0.resumed
    }
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls")
            .field("version", &self.0.version)
            .field("alpn", &self.0.alpn.as_deref().map(String::from_utf8_lossy))
            .field("certificates", &self.0.raw_chain.len())
            .field("resumed", &self.0.resumed)
            .finish_non_exhaustive()
    }
}

/// The versions of TLS that are spoken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// The versions of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpVersion {
    /// RFC 9112.
    #[default]
    Http1,
    /// RFC 9113.
    Http2,
    /// RFC 9114, over QUIC.
    Http3,
}

impl HttpVersion {
    /// The name that ALPN has for it.
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
            Self::Http3 => b"h3",
        }
    }
}

impl fmt::Display for HttpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Http3 => "http/3",
        })
    }
}

impl std::str::FromStr for HttpVersion {
    type Err = String;

    /// Reads `1.1`, `2`, `3`, with or without `http/` before it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        match lower.trim_start_matches("http/").trim_start_matches('h') {
            "1" | "1.1" => Ok(Self::Http1),
            "2" | "2.0" => Ok(Self::Http2),
            "3" | "3.0" => Ok(Self::Http3),
            _ => Err(format!("unknown HTTP version {text:?}; use 1.1, 2 or 3")),
        }
    }
}
