//! What the client makes of servers and networks that do not work.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use net::HttpVersion;
use net::client::{ClientConfig, Connection, Host, Sni, Target, fetch};
use pki::Coded;

use crate::support::{Server, VERSIONS, client, get_json};

/// Requirements: BRSKI-5.4-07
#[tokio::test(flavor = "multi_thread")]
async fn the_host_name_goes_out_as_sni_unless_told_otherwise() {
    let server = Server::start().await;
    let target = Target::new(Host::Name("masa.example".to_owned()), 443);
    for http in VERSIONS {
        for (sni, expected) in [
            (Sni::HostName, serde_json::json!("masa.example")),
            (Sni::None, serde_json::Value::Null),
        ] {
            let config = ClientConfig {
                sni,
                address: Some(server.address),
                ..client(http)
            };
            let mut connection = Connection::open(&target, &config).await.expect("connected");
            assert_eq!(
                get_json(&mut connection, "/peer").await["sni"],
                expected,
                "{http}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_have_limits() {
    let server = Server::start().await;
    for http in VERSIONS {
        let mut config = client(http);
        config.limits.response_bytes_max = 1_000_000;
        config.limits.response_time_max = Duration::from_secs(20);
        let mut connection = Connection::open(&server.target(), &config)
            .await
            .expect("connected");
        let error = connection
            .request(Method::GET, "/large", HeaderMap::new(), Bytes::new())
            .await
            .expect_err("too large");
        assert_eq!(error.code(), "net.response-too-large", "{http}");

        config.limits.response_time_max = Duration::from_millis(100);
        let mut connection = Connection::open(&server.target(), &config)
            .await
            .expect("connected");
        let error = connection
            .request(Method::GET, "/slow", HeaderMap::new(), Bytes::new())
            .await
            .expect_err("too slow");
        assert_eq!(error.code(), "net.response-timeout", "{http}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_to_connect_has_its_code() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let silent_address = silent.local_addr().expect("an address");
    let closed = {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        gone.local_addr().expect("an address")
    };
    let mut config = client(HttpVersion::Http1);
    config.limits.handshake_time_max = Duration::from_millis(200);
    let at = |address: SocketAddr| Target::from_address(address);
    let code = |result: Result<Connection, net::Error>| result.expect_err("no connection").code();

    assert_eq!(
        code(Connection::open(&at(closed), &config).await),
        "net.connect"
    );
    assert_eq!(
        code(Connection::open(&at(silent_address), &config).await),
        "net.handshake-timeout"
    );
    let quic = ClientConfig {
        http: HttpVersion::Http3,
        ..config.clone()
    };
    let refused = code(Connection::open(&at(closed), &quic).await);
    assert!(
        ["net.handshake-timeout", "net.handshake"].contains(&refused),
        "{refused}"
    );
    let unknown = Target::new(Host::Name("nobody.invalid".to_owned()), 443);
    assert_eq!(code(Connection::open(&unknown, &config).await), "net.name");
    let url = url::Url::parse("ftp://localhost/").expect("a URL");
    let result = fetch(&url, Method::GET, HeaderMap::new(), Bytes::new(), &config).await;
    assert_eq!(result.expect_err("no FTP").code(), "net.url");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_an_error_and_not_a_hang() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let mut target = Target::from_address(listener.local_addr().expect("an address"));
    target.secure = false;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepted");
        drop(stream);
    });
    let mut connection = Connection::open(&target, &client(HttpVersion::Http1))
        .await
        .expect("connected");
    server.await.expect("no panic");
    let error = connection
        .request(Method::GET, "/", HeaderMap::new(), Bytes::new())
        .await
        .expect_err("gone");
    assert!(
        ["net.closed", "net.http"].contains(&error.code()),
        "{error}"
    );
}

/// A server that shakes hands and then lets no stream be opened must not hold a device for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_quic_server_that_takes_no_stream_is_left() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a configuration");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("QUIC");
    let mut server = quinn::ServerConfig::with_crypto(std::sync::Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_uni_streams(0_u32.into())
        .max_idle_timeout(None);
    server.transport_config(std::sync::Arc::new(transport));
    let any = "127.0.0.1:0".parse().expect("an address");
    let endpoint = quinn::Endpoint::server(server, any).expect("bound");
    let address = endpoint.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let connection = endpoint.accept().await.expect("a client").await;
        std::future::pending::<()>().await;
        drop(connection);
    });
    let mut config = client(HttpVersion::Http3);
    config.limits.handshake_time_max = Duration::from_secs(1);
    let target = Target::from_address(address);
    let opening = tokio::time::timeout(Duration::from_secs(20), Connection::open(&target, &config));
    let error = opening.await.expect("an end").expect_err("no streams");
    assert_eq!(error.code(), "net.handshake-timeout");
    serving.abort();
}
