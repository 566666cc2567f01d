//! When a server is believed, and that possession of the key is asked for in every mode.

use std::sync::Arc;

use net::client::{ClientConfig, Connection, Host, ServerTrust, Target};
use net::{HttpVersion, TlsVersions};
use pki::path::{Anchors, PathOptions, Purpose};
use pki::{Coded, Identity};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::macros::datetime;

use crate::support::{Server, Subject, VERSIONS, client};

#[tokio::test(flavor = "multi_thread")]
async fn a_provisional_connection_keeps_the_chain_for_later() {
    let identity = Subject {
        years: (1990, 1991),
        ..Subject::default()
    }
    .issued();
    let server = Server::with(std::slice::from_ref(&identity), |_| {}).await;
    for http in VERSIONS {
        let connection = Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let chain: Vec<_> = connection
            .peer_chain()
            .iter()
            .map(pki::Certificate::der)
            .collect();
        let sent: Vec<_> = identity.chain.iter().map(pki::Certificate::der).collect();
        assert_eq!(chain, sent, "{http}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_one_certificate() {
    let identity = Subject::default().self_signed();
    let other = Subject::default().self_signed();
    let server = Server::with(std::slice::from_ref(&identity), |_| {}).await;
    for http in VERSIONS {
        let pinned = |identity: &Identity| ClientConfig {
            trust: ServerTrust::Pinned(identity.chain.clone()),
            ..client(http)
        };
        Connection::open(&server.target(), &pinned(&identity))
            .await
            .expect("the pinned one");
        let error = Connection::open(&server.target(), &pinned(&other))
            .await
            .expect_err("another");
        assert_eq!(error.code(), "net.untrusted", "{http}");
        let net::Error::Untrusted { code, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(code, "net.not-pinned");
    }
    server.stop().await;
}

/// Requirements: BRSKI-5.4-02
#[tokio::test(flavor = "multi_thread")]
async fn anchors_want_the_right_name_at_the_right_time() {
    let identity = Subject {
        names: &["masa.example", "127.0.0.1"],
        years: (2020, 2030),
        ..Subject::default()
    }
    .issued();
    let server = Server::with(std::slice::from_ref(&identity), |_| {}).await;
    let mut anchors = Anchors::new();
    anchors.add(identity.chain.last().cloned().expect("a CA"));
    let anchors = Arc::new(anchors);
    let mut strangers = Anchors::new();
    strangers.add(
        Subject {
            ca: "other",
            ..Subject::default()
        }
        .issued()
        .chain
        .last()
        .cloned()
        .expect("a CA"),
    );
    let strangers = Arc::new(strangers);
    let today = datetime!(2026-01-01 00:00 UTC);
    let name = |name: &str| Target::new(Host::Name(name.to_owned()), 443);
    let cases = [
        (name("masa.example"), &anchors, today, None),
        (server.target(), &anchors, today, None),
        (
            name("masa.example"),
            &anchors,
            datetime!(2031-01-01 00:00 UTC),
            Some("path.expired"),
        ),
        (
            name("other.example"),
            &anchors,
            today,
            Some("path.name-mismatch"),
        ),
        (
            name("masa.example"),
            &strangers,
            today,
            Some("path.unknown-issuer"),
        ),
    ];
    for http in VERSIONS {
        for (target, anchors, at, expected) in &cases {
            let options = PathOptions::new(Purpose::Server, *at);
            let config = ClientConfig {
                trust: ServerTrust::anchors(Arc::clone(anchors), options),
                address: Some(server.address),
                ..client(http)
            };
            let result = Connection::open(target, &config).await;
            let code = match &result {
                Ok(_) => None,
                Err(net::Error::Untrusted { code, .. }) => Some(*code),
                Err(other) => panic!("{http} {target}: {other}"),
            };
            assert_eq!(code, *expected, "{http} {target} {at}: {result:?}");
        }
    }
    server.stop().await;
}

/// A certificate and a key that do not belong together, as someone has who only saw the
/// certificate.
fn stolen() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = Subject::default()
        .self_signed()
        .chain
        .first()
        .expect("a leaf")
        .der()
        .to_vec();
    let key = rcgen::KeyPair::generate().expect("a key").serialize_der();
    (
        vec![certificate.into()],
        PrivateKeyDer::try_from(key).expect("a key"),
    )
}

fn stolen_key() -> Arc<rustls::sign::CertifiedKey> {
    let (chain, key) = stolen();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
    Arc::new(rustls::sign::CertifiedKey::new(chain, key))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Requirements: BRSKI-5.1-08
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_key_is_refused_even_provisionally() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let target = Target::from_address(listener.local_addr().expect("an address"));
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                stolen_key().as_ref().clone(),
            )));
        let impostor = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepted");
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
                .accept(stream)
                .await
                .is_ok()
        });
        let error = Connection::open(&target, &client(HttpVersion::Http1))
            .await
            .expect_err("possession is not proven");
        assert_eq!(error.code(), "net.handshake");
        assert!(!impostor.await.expect("no panic"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_key_never_reaches_a_handler() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = Server::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let judge = Arc::new(AcceptAll);
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(judge)
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                stolen_key().as_ref().clone(),
            )));
        let stream = tokio::net::TcpStream::connect(server.address)
            .await
            .expect("connected");
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let connected = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        // In TLS 1.3 the client is done before the server has looked.
        if let Ok(mut stream) = connected {
            let _ = stream
                .write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n")
                .await;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect_err("an alert");
            assert!(answer.is_empty());
        }
    }
    assert_eq!(
        server
            .counters
            .requests
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    assert_eq!(
        server
            .counters
            .handshakes_failed
            .load(std::sync::atomic::Ordering::Relaxed),
        2
    );
    server.stop().await;
}

#[derive(Debug)]
struct AcceptAll;

impl rustls::client::danger::ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A server that speaks no TLS 1.3, as old MASAs do.
#[tokio::test(flavor = "multi_thread")]
async fn versions_without_overlap_fail_in_the_handshake() {
    let server = Server::with(&[Subject::default().self_signed()], |config| {
        if let Some(tls) = &mut config.tls {
            tls.versions = TlsVersions::Only12;
        }
    })
    .await;
    let both = Connection::open(&server.target(), &client(HttpVersion::Http2)).await;
    assert_eq!(
        both.expect("connected").tls_version(),
        Some(net::TlsVersion::Tls12)
    );
    let config = ClientConfig {
        tls: TlsVersions::Only13,
        ..client(HttpVersion::Http2)
    };
    let error = Connection::open(&server.target(), &config)
        .await
        .expect_err("no common version");
    assert_eq!(error.code(), "net.handshake");
    server.stop().await;
}
