//! The listener: one router behind HTTP/1.1, HTTP/2 and HTTP/3.

mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use pki::{Certificate, Identity};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

pub use self::limits::*;
use crate::{Error, TlsVersions, tls};

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS, or `None` for plain HTTP/1.1.
    pub tls: Option<TlsConfig>,
    /// The limits on every peer.
    pub limits: Limits,
}

impl ListenerConfig {
    /// A TLS listener with HTTP/1.1, HTTP/2 and HTTP/3, and the default limits.
    #[must_use]
    pub fn new(address: SocketAddr, identities: ServerIdentities) -> Self {
        let tls = TlsConfig {
            identities,
            versions: TlsVersions::Both,
            http3: true,
        };
        Self {
            address,
            tls: Some(tls),
            limits: Limits::default(),
        }
    }

    /// A plain HTTP/1.1 listener: for the administrator's own machine only.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            limits: Limits::default(),
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
    let _ = (router, shutdown);
    Err(Error::Bind {
        address: config.address,
        source: std::io::Error::other("not yet"),
    })
}
