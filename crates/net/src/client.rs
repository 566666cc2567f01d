//! One connection to one server, whose certificate is trusted provisionally, by anchors or by pin.

mod stream;
mod trust;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use pki::path::{Anchors, PathOptions};
use pki::{Certificate, Identity};
use tokio::time::timeout;
use url::Url;

pub use self::stream::Stream;
use self::wire::Wire;
use crate::{Error, HttpVersion, PeerTls, TlsVersion, TlsVersions};

/// Time for the connection (TCP) to come up.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the TLS or QUIC handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Time from a request to the end of its answer.
pub const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);
/// Size of an answer's body.
pub const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// Host and port of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// DNS name or address.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub secure: bool,
}

/// What stands for the host in a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Target {
    /// A TLS server.
    #[must_use]
    pub fn new(host: Host, port: u16) -> Self {
        Self {
            host,
            port,
            secure: true,
        }
    }

    /// A TLS server by its socket address.
    #[must_use]
    pub fn from_address(address: SocketAddr) -> Self {
        Self::new(Host::Address(address.ip()), address.port())
    }

    /// Host and port of an `https` or `http` URL; 443 and 80 if it names no port.
    ///
    /// # Errors
    /// [`Error::Url`] for another scheme, or without a host.
    pub fn from_url(url: &Url) -> Result<Self, Error> {
        let refuse = |reason| Error::Url {
            url: url.to_string(),
            reason,
        };
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("only https and http are spoken here")),
        };
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
            Some(url::Host::Ipv4(address)) => Host::Address(address.into()),
            Some(url::Host::Ipv6(address)) => Host::Address(address.into()),
            None => return Err(refuse("there is no host in it")),
        };
        let port = url
            .port_or_known_default()
            .ok_or_else(|| refuse("there is no port in it"))?;
        Ok(Self { host, port, secure })
    }
}

/// When a server is believed. In every mode it has to prove possession of its key.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ServerTrust {
    /// Any certificate is accepted; the caller judges [`Connection::peer_chain`] later. This is
    /// the provisional connection of RFC 8995 section 5.1.
    #[default]
    Provisional,
    /// The server's certificate leads to one of these anchors and names the host.
    Anchors {
        /// What is trusted.
        anchors: Arc<Anchors>,
        /// Time, purpose and the rest. Without a name in it, the target's host is demanded.
        options: Box<PathOptions>,
    },
    /// The leaf certificate is exactly one of these; names and dates are not looked at.
    Pinned(Vec<Certificate>),
}

impl ServerTrust {
    /// Trust in whatever leads to these anchors, as [`Self::Anchors`].
    #[must_use]
    pub fn anchors(anchors: impl Into<Arc<Anchors>>, options: PathOptions) -> Self {
        Self::Anchors {
            anchors: anchors.into(),
            options: Box::new(options),
        }
    }
}

impl std::fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Provisional => "Provisional",
            Self::Anchors { .. } => "Anchors",
            Self::Pinned(_) => "Pinned",
        })
    }
}

/// Whether the client says in clear which host it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sni {
    /// The host name of the target, if it is a name.
    #[default]
    HostName,
    /// Nothing.
    None,
}

/// How a client connects.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// When the server is believed.
    pub trust: ServerTrust,
    /// The client's own certificate and key.
    pub identity: Option<Identity>,
    /// The HTTP version to speak.
    pub http: HttpVersion,
    /// TLS versions on TCP.
    pub tls: TlsVersions,
    /// Server name indication.
    pub sni: Sni,
    /// Connect here, whatever the name resolves to; name checks stay with the name.
    pub address: Option<SocketAddr>,
    /// Time and size limits.
    pub limits: ClientLimits,
}

/// Time and size limits of a client.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is documented at its constant")]
pub struct ClientLimits {
    pub connect_time_max: Duration,
    pub handshake_time_max: Duration,
    pub response_time_max: Duration,
    pub response_bytes_max: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_time_max: CONNECT_TIME_MAX,
            handshake_time_max: HANDSHAKE_TIME_MAX,
            response_time_max: RESPONSE_TIME_MAX,
            response_bytes_max: RESPONSE_BYTES_MAX,
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Response {
    /// A header field as text, if it is there once and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Takes an answer piece by piece. An error ends the exchange.
pub trait Sink: Send {
    /// Status and header fields.
    ///
    /// # Errors
    /// The answer is not wanted.
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Error>;

    /// The next piece of the body.
    ///
    /// # Errors
    /// It cannot be taken.
    fn data(&mut self, piece: &[u8]) -> Result<(), Error>;
}

/// One open connection. Requests go one after the other; dropping it closes it.
pub struct Connection {
    wire: Wire,
    target: Target,
    http_version: HttpVersion,
    limits: ClientLimits,
}

impl Connection {
    /// Connects, and shakes hands if the target is secure.
    ///
    /// # Errors
    /// Why there is no connection; [`Error::Untrusted`] when the server is not believed.
    pub async fn open(target: &Target, config: &ClientConfig) -> Result<Self, Error> {
        let wire = Wire::open(target, config).await?;
        let (target, limits) = (target.clone(), config.limits.clone());
        Ok(Self {
            wire,
            target,
            http_version: config.http,
            limits,
        })
    }

    /// Sends a request and waits for the whole answer. The path starts with `/` and may have a
    /// query. Redirects are answers like any other.
    ///
    /// # Errors
    /// Why there is no answer. The connection cannot be used any more after most errors.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, Error> {
        let request = self.prepare(method, path, headers, body)?;
        let limit = self.limits.response_time_max;
        let exchange = self.wire.exchange(request, self.limits.response_bytes_max);
        timeout(limit, exchange)
            .await
            .map_err(|_| Error::ResponseTimeout(limit))?
    }

    /// Sends a request whose answer may be too large to be held: it goes to the sink piece by
    /// piece. The time limit of the client is that from one piece to the next, and the sink has to
    /// keep the limit on the size. Not over HTTP/3.
    ///
    /// # Errors
    /// Why there is no whole answer, or what the sink said.
    pub async fn download(
        &mut self,
        path: &str,
        headers: HeaderMap,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let request = self.prepare(Method::GET, path, headers, Bytes::new())?;
        let idle_max = self.limits.response_time_max;
        self.wire.exchange_into(request, idle_max, sink).await
    }

    fn prepare(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Bytes>, Error> {
        if !path.starts_with('/') {
            return Err(Error::Request(format!(
                "path {path:?} does not start with /"
            )));
        }
        let refuse = |error: http::Error| Error::Request(error.to_string());
        let authority = match (self.target.secure, self.target.port) {
            (true, 443) | (false, 80) => self.target.host.to_string(),
            _ => self.target.to_string(),
        };
        let scheme = if self.target.secure { "https" } else { "http" };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        *request.uri_mut() = if self.http_version == HttpVersion::Http1 {
            if !request.headers().contains_key(header::HOST) {
                let host =
                    HeaderValue::from_str(&authority).map_err(|error| refuse(error.into()))?;
                request.headers_mut().insert(header::HOST, host);
            }
            path.parse()
                .map_err(|error: http::uri::InvalidUri| refuse(error.into()))?
        } else {
            http::Uri::builder()
                .scheme(scheme)
                .authority(authority)
                .path_and_query(path)
                .build()
                .map_err(refuse)?
        };
        *request.version_mut() = match self.http_version {
            HttpVersion::Http1 => http::Version::HTTP_11,
            HttpVersion::Http2 => http::Version::HTTP_2,
            HttpVersion::Http3 => http::Version::HTTP_3,
        };
        Ok(request)
    }

    /// The server's certificates, leaf first, in the order it sent them. Empty without TLS.
    #[must_use]
    pub fn peer_chain(&self) -> &[Certificate] {
        // A chain that does not parse was refused when the connection was made.
        self.wire
            .tls
            .as_ref()
            .and_then(|tls| tls.chain().ok())
            .unwrap_or_default()
    }

    /// Channel binding of RFC 9266 (`tls-exporter`), if the connection has one.
    #[must_use]
    pub fn exporter(&self) -> Option<[u8; 32]> {
        self.wire.tls.as_ref().and_then(PeerTls::exporter)
    }

    /// The TLS version, or `None` on a plain connection.
    #[must_use]
    pub fn tls_version(&self) -> Option<TlsVersion> {
        self.wire.tls.as_ref().map(PeerTls::version)
    }

    /// The TLS side as a whole, or `None` on a plain connection.
    #[must_use]
    pub fn tls(&self) -> Option<&PeerTls> {
        self.wire.tls.as_ref()
    }

    /// The HTTP version that is spoken.
    #[must_use]
    pub fn http_version(&self) -> HttpVersion {
        self.http_version
    }

    /// The address at the other end.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.wire.remote_address
    }

    /// Says goodbye (close_notify, GOAWAY) and closes.
    pub async fn close(self) {
        self.wire.close().await;
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("target", &self.target)
            .field("http_version", &self.http_version)
            .finish_non_exhaustive()
    }
}

/// One request to an absolute `https` or `http` URL on a connection of its own, as for webhooks.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::request`].
pub async fn fetch(
    url: &Url,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    config: &ClientConfig,
) -> Result<Response, Error> {
    let target = Target::from_url(url)?;
    let mut connection = Connection::open(&target, config).await?;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let response = connection.request(method, &path, headers, body).await?;
    connection.close().await;
    Ok(response)
}
