//! The listener: one router behind HTTP/1.1, HTTP/2 and HTTP/3.

mod exchange;
mod guard;
mod limits;
mod quic;
mod tcp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use pki::{Certificate, Identity};
use rustls::DigitallySignedStruct;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::exchange::Shared;
use self::guard::Gate;
pub use self::limits::*;
use self::quic::Quic;
use self::tcp::{Resolver, TcpTls};
use crate::{Error, HttpVersion, Peer, TlsVersions, tls};

/// TLS sessions that can be resumed at a time; each keeps the client's certificates.
const RESUMABLE_SESSIONS_MAX: usize = 1024;
/// How often a free port is looked for that both TCP and UDP can have.
const PORT_TRIES_MAX: usize = 16;

/// Where and how to listen.
#[derive(Clone)]
pub struct ListenerConfig {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS, or `None` for plain HTTP/1.1.
    pub tls: Option<TlsConfig>,
    /// The limits on every peer.
    pub limits: Limits,
    /// Who is told of what never reaches the router.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Is told of peers whom the transport refuses, so that they show in a timeline all the same.
///
/// The methods are called on the connection's task and must not block.
pub trait Observer: Send + Sync {
    /// A request was answered by the transport: its body was too large, too slow or broken, or the
    /// handler failed. `code` is one of the stable `net.…` codes.
    fn refused(
        &self,
        peer: &Peer,
        method: &http::Method,
        uri: &http::Uri,
        code: &'static str,
        detail: &str,
    ) {
        let _ = (peer, method, uri, code, detail);
    }

    /// The answer to such a request, for services whose errors have a form of their own. `asked`
    /// is what the request said about the form; `None` leaves it to the transport.
    fn answer(
        &self,
        asked: &Asked,
        uri: &http::Uri,
        status: http::StatusCode,
        code: &'static str,
    ) -> Option<http::Response<axum::body::Body>> {
        let _ = (asked, uri, status, code);
        None
    }

    /// A TLS or QUIC handshake failed.
    fn handshake_failed(&self, address: SocketAddr, reason: &str) {
        let _ = (address, reason);
    }
}

/// What a request says about the form of its answer.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The field Accept.
    pub accept: Option<http::HeaderValue>,
    /// The field Content-Type.
    pub content_type: Option<http::HeaderValue>,
}

impl std::fmt::Debug for ListenerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerConfig")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl ListenerConfig {
    /// A TLS listener with HTTP/1.1, HTTP/2 and HTTP/3, and the default limits.
    #[must_use]
    pub fn new(address: SocketAddr, identities: ServerIdentities) -> Self {
        let tls = TlsConfig {
            identities,
            versions: TlsVersions::Both,
            http3: true,
            pkcs1: Pkcs1::Accepted,
        };
        Self {
            address,
            tls: Some(tls),
            limits: Limits::default(),
            observer: None,
        }
    }

    /// A plain HTTP/1.1 listener: for the administrator's own machine only.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            limits: Limits::default(),
            observer: None,
        }
    }
}

/// The TLS side of a [`ListenerConfig`].
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Certificates and keys of the server; keep a clone to replace them while it runs.
    pub identities: ServerIdentities,
    /// TLS versions on TCP; QUIC always has 1.3.
    pub versions: TlsVersions,
    /// Whether to serve HTTP/3 on the UDP port of the same number.
    pub http3: bool,
    /// What is done with peers that know RSA with PKCS#1 v1.5 only.
    pub pkcs1: Pkcs1,
}

/// Whether signatures of RSA with PKCS#1 v1.5 count in a handshake of TLS 1.2. In TLS 1.3 they
/// never do, and with SHA-1 in neither.
///
/// It is about proof of possession and the server's own signature. With what the certificates of
/// the peer are signed is judged above the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pkcs1 {
    /// They do.
    #[default]
    Accepted,
    /// They do not: such peers belong to a listener of their own.
    Refused,
}

/// The identities that a server shows, side by side (say ECDSA and RSA): each client gets the
/// first whose key it can verify. Clones share one set, which can be replaced at any time;
/// connections made before keep the old one.
#[derive(Clone)]
pub struct ServerIdentities(Arc<ArcSwap<Vec<OneIdentity>>>);

#[derive(Clone)]
pub(crate) struct OneIdentity {
    pub(crate) certificate: Certificate,
    pub(crate) key: Arc<CertifiedKey>,
}

impl ServerIdentities {
    /// Takes identities in order of preference.
    ///
    /// # Errors
    /// [`Error::Identity`] if there is none, or a key does not fit its certificate or TLS.
    pub fn new(identities: &[Identity]) -> Result<Self, Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(prepare(identities)?))))
    }

    /// Replaces all identities for the connections to come.
    ///
    /// # Errors
    /// As [`Self::new`]; the old identities then stay in use.
    pub fn replace(&self, identities: &[Identity]) -> Result<(), Error> {
        self.0.store(Arc::new(prepare(identities)?));
        Ok(())
    }

    /// The leaf certificates now in use, in order of preference.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        self.0
            .load()
            .iter()
            .map(|one| one.certificate.clone())
            .collect()
    }

    pub(crate) fn choose(&self, schemes: &[rustls::SignatureScheme]) -> Option<OneIdentity> {
        let identities = self.0.load();
        let fitting = identities
            .iter()
            .find(|one| tls::can_sign_for(&one.key, schemes));
        // Some clients list fewer schemes than they can do; then the first choice is the best bet.
        fitting.or_else(|| identities.first()).cloned()
    }
}

impl std::fmt::Debug for ServerIdentities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.certificates().iter().map(Certificate::subject))
            .finish()
    }
}

fn prepare(identities: &[Identity]) -> Result<Vec<OneIdentity>, Error> {
    if identities.is_empty() {
        return Err(Error::Identity(
            "a TLS server needs at least one identity".to_owned(),
        ));
    }
    identities
        .iter()
        .map(|identity| {
            let key = tls::certified_key(identity)?;
            let certificate = identity
                .chain
                .first()
                .cloned()
                .ok_or_else(|| Error::Identity("the chain is empty".to_owned()))?;
            Ok(OneIdentity { certificate, key })
        })
        .collect()
}

/// Counters of one listener, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken, TCP and QUIC.
    pub connections_accepted: AtomicU64,
    /// Connections refused because of a limit on their number.
    pub connections_refused: AtomicU64,
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// TLS or QUIC handshakes that failed or took too long.
    pub handshakes_failed: AtomicU64,
    /// Connections closed by us because they were idle, slow or stalled.
    pub connections_shed: AtomicU64,
    /// Requests handed to the router.
    pub requests: AtomicU64,
    /// Requests refused before the router: too large, too slow, malformed.
    pub requests_refused: AtomicU64,
    /// Handlers that panicked.
    pub panics: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A listener that is up.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    counters: Arc<Counters>,
    task: tokio::task::JoinHandle<()>,
}

impl Listener {
    /// The bound address, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Waits until the listener has stopped: `shutdown` was cancelled and the requests in progress
    /// were answered, or their time was up.
    pub async fn stopped(self) {
        // The task does not panic by itself; if it was aborted there is nothing left to wait for.
        let _ = self.task.await;
    }
}

/// Starts a listener for this router. It is bound when this returns.
///
/// Cancelling `shutdown` stops it gracefully.
///
/// # Errors
/// [`Error::Bind`] when the address cannot be had.
pub async fn serve(
    config: ListenerConfig,
    router: axum::Router,
    shutdown: CancellationToken,
) -> Result<Listener, Error> {
    let ListenerConfig {
        address,
        tls,
        limits,
        observer,
    } = config;
    let http3 = tls.as_ref().is_some_and(|tls| tls.http3);
    let (tcp, udp) = bind(address, http3).await?;
    let local = tcp
        .local_addr()
        .map_err(|source| Error::Bind { address, source })?;
    let shared = Shared::new(router, limits, observer);
    let counters = Arc::clone(&shared.counters);
    let gate = Gate::new(&shared.limits, Arc::clone(&counters));
    let tracker = TaskTracker::new();

    let mut endpoint = None;
    let mut tcp_tls = None;
    if let Some(tls) = tls {
        if let Some(udp) = udp {
            let quic = Quic {
                config: rustls_config(&tls, TlsVersions::Only13, &[HttpVersion::Http3])?,
                identities: tls.identities.clone(),
                transport: quic::transport(&shared.limits),
            };
            let server_config = quic.server_config(&quic.resolver())?;
            let new = quinn::Endpoint::new(
                quinn::EndpointConfig::default(),
                Some(server_config),
                udp,
                Arc::new(quinn::TokioRuntime),
            )
            .map_err(|source| Error::Bind {
                address: local,
                source,
            })?;
            endpoint = Some(new.clone());
            let accept = quic::accept(
                new,
                quic,
                Arc::clone(&shared),
                Arc::clone(&gate),
                tracker.clone(),
                shutdown.clone(),
            );
            tracker.spawn(accept);
        }
        let versions = [HttpVersion::Http2, HttpVersion::Http1];
        let config = rustls_config(&tls, tls.versions, &versions)?;
        tcp_tls = Some(Arc::new(TcpTls {
            config,
            identities: tls.identities,
            pkcs1: tls.pkcs1,
        }));
    }
    tracker.spawn(tcp::accept(
        tcp,
        tcp_tls,
        shared,
        gate,
        tracker.clone(),
        shutdown.clone(),
    ));

    let task = tokio::spawn(async move {
        shutdown.cancelled().await;
        tracker.close();
        tracker.wait().await;
        if let Some(endpoint) = endpoint {
            endpoint.close(0_u32.into(), b"");
            // Each connection is closed by now; a lost packet is no reason to wait longer.
            let _ = tokio::time::timeout(DRAIN_TIME_MAX, endpoint.wait_idle()).await;
        }
    });
    Ok(Listener {
        address: local,
        counters,
        task,
    })
}

/// Binds TCP and, for HTTP/3, UDP on the same port number.
async fn bind(
    address: SocketAddr,
    http3: bool,
) -> Result<(TcpListener, Option<std::net::UdpSocket>), Error> {
    let refuse = |source| Error::Bind { address, source };
    let mut tries = if address.port() == 0 {
        PORT_TRIES_MAX
    } else {
        1
    };
    loop {
        tries -= 1;
        let tcp = TcpListener::bind(address).await.map_err(refuse)?;
        if !http3 {
            return Ok((tcp, None));
        }
        let same = tcp.local_addr().map_err(refuse)?;
        match UdpSocket::bind(same).await.and_then(UdpSocket::into_std) {
            Ok(udp) => return Ok((tcp, Some(udp))),
            // Someone else has that UDP port; another free TCP port may go with a free UDP port.
            Err(_) if tries > 0 => {}
            Err(source) => {
                return Err(Error::Bind {
                    address: same,
                    source,
                });
            }
        }
    }
}

fn rustls_config(
    tls: &TlsConfig,
    versions: TlsVersions,
    alpn: &[HttpVersion],
) -> Result<rustls::ServerConfig, Error> {
    let resolver = Arc::new(Resolver::new(tls.identities.clone(), tls.pkcs1));
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(versions.rustls())
        .map_err(|error| Error::Identity(error.to_string()))?
        .with_client_cert_verifier(Arc::new(PossessionOnly(tls.pkcs1)))
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|version| version.alpn().to_vec()).collect();
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(RESUMABLE_SESSIONS_MAX);
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Asks for a client certificate, takes none for an answer, and of a certificate checks only that
/// the peer holds its key.
#[derive(Debug)]
struct PossessionOnly(Pkcs1);

impl ClientCertVerifier for PossessionOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    // An empty list says "whatever you have": IDevIDs come from manufacturers not known yet.
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.0 == Pkcs1::Refused && tls::is_pkcs1(signed.scheme) {
            return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        tls::verify_possession(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        tls::verify_possession(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let mut schemes = tls::verify_schemes();
        if self.0 == Pkcs1::Refused {
            schemes.retain(|scheme| !tls::is_pkcs1(*scheme));
        }
        schemes
    }
}
