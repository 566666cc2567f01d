//! Identities, a server that tells what it sees, and ways to call it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post as posted};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http::{HeaderMap, Method};
use net::client::{ClientConfig, Connection, Target};
use net::server::{Counters, Listener, ListenerConfig, ServerIdentities, serve};
use net::{CancellationToken, HttpVersion, Peer, TlsVersions};
use pki::{Certificate, Identity, SoftwareKey};
use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};

pub(crate) const VERSIONS: [HttpVersion; 3] =
    [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http3];

/// What a certificate of a test is like.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) names: &'a [&'a str],
    pub(crate) key: &'static SignatureAlgorithm,
    pub(crate) years: (i32, i32),
    pub(crate) ca: &'a str,
}

impl Default for Subject<'_> {
    fn default() -> Self {
        Self {
            name: "server",
            names: &["localhost", "127.0.0.1"],
            key: &rcgen::PKCS_ECDSA_P256_SHA256,
            years: (2020, 2099),
            ca: "ca",
        }
    }
}

impl Subject<'_> {
    pub(crate) fn named(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    fn params(&self) -> CertificateParams {
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params
            .distinguished_name
            .push(DnType::CommonName, self.name);
        params.not_before = rcgen::date_time_ymd(self.years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(self.years.1, 1, 1);
        params
    }

    fn key_pair(&self) -> KeyPair {
        KeyPair::generate_for(self.key).expect("a key")
    }

    pub(crate) fn self_signed(&self) -> Identity {
        let key = self.key_pair();
        let certificate = self.params().self_signed(&key).expect("a certificate");
        identity(vec![certificate.der().to_vec()], &key)
    }

    /// A certificate under a new CA; the chain is leaf and CA.
    pub(crate) fn issued(&self) -> Identity {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.distinguished_name.push(DnType::CommonName, self.ca);
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = self.key_pair();
        let certificate = self
            .params()
            .signed_by(&key, &issuer)
            .expect("a certificate");
        identity(
            vec![certificate.der().to_vec(), ca_certificate.der().to_vec()],
            &key,
        )
    }
}

fn identity(chain: Vec<Vec<u8>>, key: &KeyPair) -> Identity {
    let chain = chain
        .iter()
        .map(|der| Certificate::from_der(der).expect("parses"))
        .collect();
    let signer = SoftwareKey::from_pkcs8_der(&key.serialize_der()).expect("a key");
    Identity::new(chain, Arc::new(signer)).expect("key and certificate belong together")
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) identities: ServerIdentities,
    shutdown: CancellationToken,
    listener: Listener,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[Subject::default().self_signed()], |_| {}).await
    }

    pub(crate) async fn with(
        identities: &[Identity],
        change: impl FnOnce(&mut ListenerConfig),
    ) -> Self {
        let identities = ServerIdentities::new(identities).expect("usable identities");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ListenerConfig::new(address, identities.clone());
        change(&mut config);
        let shutdown = CancellationToken::new();
        let listener = serve(config, router(), shutdown.clone())
            .await
            .expect("it listens");
        Self {
            address: listener.address(),
            counters: listener.counters(),
            identities,
            shutdown,
            listener,
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target::from_address(self.address)
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let stopped = tokio::time::timeout(Duration::from_secs(20), self.listener.stopped());
        stopped.await.expect("it stops in time");
    }

    pub(crate) fn tell_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Asks `/peer` on a connection of its own.
    pub(crate) async fn ask(&self, config: &ClientConfig) -> serde_json::Value {
        let mut connection = Connection::open(&self.target(), config)
            .await
            .expect("connected");
        let answer = get_json(&mut connection, "/peer").await;
        connection.close().await;
        answer
    }
}

pub(crate) async fn get_json(connection: &mut Connection, path: &str) -> serde_json::Value {
    let response = connection
        .request(Method::GET, path, HeaderMap::new(), Bytes::new())
        .await
        .expect("an answer");
    assert_eq!(response.status, 200);
    serde_json::from_slice(&response.body).expect("JSON")
}

pub(crate) async fn post(
    connection: &mut Connection,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<net::client::Response, net::Error> {
    connection
        .request(Method::POST, path, HeaderMap::new(), body.into())
        .await
}

pub(crate) fn client(http: HttpVersion) -> ClientConfig {
    ClientConfig {
        http,
        ..ClientConfig::default()
    }
}

pub(crate) fn client_with(http: HttpVersion, tls: TlsVersions, identity: Identity) -> ClientConfig {
    ClientConfig {
        http,
        tls,
        identity: Some(identity),
        ..ClientConfig::default()
    }
}

fn router() -> Router {
    Router::new()
        .route("/peer", get(peer).post(peer))
        .route("/echo", post_route())
        .route("/panic", get(|| async { panic_on_purpose() }))
        .route("/slow", get(slow))
        .route("/large", get(|| async { vec![b'x'; 3_000_000] }))
}

fn post_route() -> axum::routing::MethodRouter {
    posted(|body: Bytes| async move { body })
}

fn panic_on_purpose() -> &'static str {
    panic!("a secret in a panic message")
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(400)).await;
    "done"
}

async fn peer(Extension(peer): Extension<Peer>) -> Json<serde_json::Value> {
    let tls = peer.tls.as_ref();
    let chain = match peer.chain() {
        Ok(chain) => serde_json::json!(chain.iter().map(Certificate::subject).collect::<Vec<_>>()),
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    };
    Json(serde_json::json!({
        "http": peer.http_version.to_string(),
        "tls": tls.map(|tls| tls.version().to_string()),
        "alpn": tls.and_then(|tls| tls.alpn()).map(String::from_utf8_lossy),
        "chain": chain,
        "raw": tls.map(|tls| tls.raw_chain().len()),
        "own": tls.and_then(|tls| tls.own_certificate()).map(Certificate::subject),
        "sni": tls.and_then(|tls| tls.server_name()),
        "exporter": tls.and_then(|tls| tls.exporter()),
        "resumed": tls.map(|tls| tls.resumed()),
    }))
}
