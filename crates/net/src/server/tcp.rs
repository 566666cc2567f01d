//! HTTP/1.1 and HTTP/2 over TCP, with TLS or, for the administrator, without.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pki::Certificate;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::Shared;
use super::guard::{Activity, Gate, Place, WatchedIo, watch_interval};
use super::{Counters, Pkcs1, ServerIdentities};
use crate::peer::PeerTlsInner;
use crate::tls::CHANNEL_BINDING_LABEL;
use crate::{HttpVersion, Peer, PeerTls, TlsVersion, tls};

/// Time that a connection gets to say goodbye once it is not wanted any more.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// Pause after a failed `accept`, say for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The TLS side of the TCP listener: one configuration, copied for each connection.
pub(super) struct TcpTls {
    pub(super) config: rustls::ServerConfig,
    pub(super) identities: ServerIdentities,
    pub(super) pkcs1: Pkcs1,
}

/// Takes connections until told to stop.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<TcpTls>>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = gate.enter(address.ip()) else {
            tracing::debug!(peer = %address, "too many connections");
            continue;
        };
        let connection = Tcp {
            tls: tls.clone(),
            shared: Arc::clone(&shared),
            address,
            shutdown: shutdown.clone(),
            _place: place,
        };
        tracker.spawn(connection.run(stream));
    }
}

struct Tcp {
    tls: Option<Arc<TcpTls>>,
    shared: Arc<Shared>,
    address: SocketAddr,
    shutdown: CancellationToken,
    _place: Place,
}

impl Tcp {
    async fn run(self, stream: TcpStream) {
        // Answers are small and whole; waiting for more to send only adds delay.
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.clone() else {
            return self.http1(stream, None).await;
        };
        let resolver = Arc::new(Resolver::new(tls.identities.clone(), tls.pkcs1));
        let mut config = tls.config.clone();
        config.cert_resolver = Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>;
        let accept = Box::pin(TlsAcceptor::from(Arc::new(config)).accept(stream));
        let stream = tokio::select! {
            () = self.shutdown.cancelled() => return,
            result = timeout(self.shared.limits.handshake_time_max, accept) => match result {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return self.handshake_failed(&error.to_string()),
                Err(_) => return self.handshake_failed("it took too long"),
            },
        };
        let peer = peer_of(stream.get_ref().1, resolver.chosen());
        let http2 = peer.0.alpn.as_deref() == Some(HttpVersion::Http2.alpn());
        if http2 {
            Box::pin(self.http2(stream, Some(peer))).await;
        } else {
            Box::pin(self.http1(stream, Some(peer))).await;
        }
    }

    fn handshake_failed(&self, reason: &str) {
        Counters::add(&self.shared.counters.handshakes_failed);
        tracing::info!(peer = %self.address, code = "net.handshake", reason, "TLS handshake failed");
        if let Some(observer) = &self.shared.observer {
            observer.handshake_failed(self.address, reason);
        }
    }

    async fn http1<T>(self, stream: T, tls: Option<PeerTls>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.shared.limits;
        let activity = Activity::new();
        let io = WatchedIo::new(stream, Arc::clone(&activity), limits.write_stall_time_max);
        let peer = Peer {
            address: self.address,
            http_version: HttpVersion::Http1,
            tls,
        };
        let service = service_fn(|request| {
            let in_progress = activity.begin();
            let (shared, peer) = (Arc::clone(&self.shared), peer.clone());
            async move {
                let response = shared.answer(peer, request).await;
                drop(in_progress);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            // The own watch tells an idle connection from a slow header; hyper's timer does not.
            .header_read_timeout(None)
            .max_headers(limits.request_header_fields_max)
            .max_buf_size(limits.request_header_bytes_max.max(8192))
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let mut watch = Watch::new(&self, true);
        loop {
            let told = tokio::select! {
                _ = connection.as_mut() => return,
                told = watch.next(&activity) => told,
            };
            match told {
                Told::Close => connection.as_mut().graceful_shutdown(),
                Told::Drop => return,
            }
        }
    }

    async fn http2<T>(self, stream: T, tls: Option<PeerTls>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.shared.limits;
        let activity = Activity::new();
        let io = WatchedIo::new(stream, Arc::clone(&activity), limits.write_stall_time_max);
        let peer = Peer {
            address: self.address,
            http_version: HttpVersion::Http2,
            tls,
        };
        let service = service_fn(|request| {
            let in_progress = activity.begin();
            let (shared, peer) = (Arc::clone(&self.shared), peer.clone());
            async move {
                let response = shared.answer(peer, request).await;
                drop(in_progress);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let header_bytes = u32::try_from(limits.request_header_bytes_max).unwrap_or(u32::MAX);
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_per_connection_max)
            .max_header_list_size(header_bytes)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        let mut watch = Watch::new(&self, false);
        loop {
            let told = tokio::select! {
                _ = connection.as_mut() => return,
                told = watch.next(&activity) => told,
            };
            match told {
                Told::Close => connection.as_mut().graceful_shutdown(),
                Told::Drop => return,
            }
        }
    }
}

/// Says when a connection has to go.
struct Watch<'a> {
    tcp: &'a Tcp,
    http1: bool,
    tick: tokio::time::Interval,
    /// Set once the connection was asked to close; when it is over, it is dropped.
    last: Option<Instant>,
}

enum Told {
    Close,
    Drop,
}

impl<'a> Watch<'a> {
    fn new(tcp: &'a Tcp, http1: bool) -> Self {
        let period = watch_interval(&tcp.shared.limits);
        let mut tick = tokio::time::interval_at(Instant::now() + period, period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self {
            tcp,
            http1,
            tick,
            last: None,
        }
    }

    async fn next(&mut self, activity: &Activity) -> Told {
        if let Some(last) = self.last {
            tokio::time::sleep_until(last).await;
            return Told::Drop;
        }
        let limits = &self.tcp.shared.limits;
        loop {
            tokio::select! {
                () = self.tcp.shutdown.cancelled() => {
                    self.last = Some(Instant::now() + limits.drain_time_max);
                    return Told::Close;
                }
                _ = self.tick.tick() => {
                    if activity.is_overdue(limits, self.http1) {
                        Counters::add(&self.tcp.shared.counters.connections_shed);
                        tracing::debug!(peer = %self.tcp.address, "idle or slow connection closed");
                        self.last = Some(Instant::now() + GOODBYE_TIME);
                        return Told::Close;
                    }
                }
            }
        }
    }
}

/// Picks the identity for one connection and remembers which it was.
#[derive(Debug)]
pub(super) struct Resolver {
    identities: ServerIdentities,
    pkcs1: Pkcs1,
    chosen: OnceLock<Certificate>,
}

impl Resolver {
    pub(super) fn new(identities: ServerIdentities, pkcs1: Pkcs1) -> Self {
        Self {
            identities,
            pkcs1,
            chosen: OnceLock::new(),
        }
    }

    pub(super) fn chosen(&self) -> Option<Certificate> {
        self.chosen.get().cloned()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut offered = hello.signature_schemes().to_vec();
        if self.pkcs1 == Pkcs1::Refused {
            offered.retain(|scheme| !tls::is_pkcs1(*scheme));
        }
        let identity = self.identities.choose(&offered)?;
        // A second hello after HelloRetryRequest has the same schemes, hence the same choice.
        let _ = self.chosen.set(identity.certificate);
        Some(identity.key)
    }
}

/// Reads what TLS knows of the peer.
fn peer_of(connection: &rustls::ServerConnection, own: Option<Certificate>) -> PeerTls {
    let raw_chain: Vec<Vec<u8>> = connection
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|certificate| certificate.as_ref().to_vec())
        .collect();
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
        _ => TlsVersion::Tls12,
    };
    // RFC 9266 section 4.2 wants extended master secret with TLS 1.2, and rustls does not say
    // whether the peer had it.
    let exporter = (version == TlsVersion::Tls13)
        .then(|| {
            connection
                .export_keying_material([0; 32], CHANNEL_BINDING_LABEL, Some(&[]))
                .ok()
        })
        .flatten();
    let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    PeerTls(Arc::new(PeerTlsInner {
        chain: parse_chain(&raw_chain),
        raw_chain,
        version,
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        own_certificate: own,
        exporter,
        server_name: connection.server_name().map(str::to_owned),
        resumed,
    }))
}

/// Parses the chain as a whole: half a chain is of no use to anyone.
pub(super) fn parse_chain(raw: &[Vec<u8>]) -> Result<Vec<Certificate>, pki::Error> {
    raw.iter().map(|der| Certificate::from_der(der)).collect()
}
