//! Every version of HTTP and TLS with every type of key.

use net::{HttpVersion, TlsVersions};
use pki::{Identity, KeyKind, SoftwareKey};
use rcgen::SignatureAlgorithm;
use serde_json::json;

use crate::support::{Server, Subject, VERSIONS, client, client_with};

const KEYS: [(&str, &SignatureAlgorithm); 5] = [
    ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
    ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
    ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
    ("Ed25519", &rcgen::PKCS_ED25519),
    ("RSA", &rcgen::PKCS_RSA_SHA256),
];

fn transports() -> Vec<(HttpVersion, TlsVersions)> {
    vec![
        (HttpVersion::Http1, TlsVersions::Only12),
        (HttpVersion::Http1, TlsVersions::Only13),
        (HttpVersion::Http2, TlsVersions::Only12),
        (HttpVersion::Http2, TlsVersions::Only13),
        (HttpVersion::Http3, TlsVersions::Only13),
    ]
}

/// Requirements: EST-3.3.2-01, BRSKI-5.1-02, BRSKI-5.1-03, BRSKI-5.1-04
#[tokio::test(flavor = "multi_thread")]
async fn every_key_type_serves_and_authenticates_on_every_transport() {
    for (name, key) in KEYS {
        let server_identity = Subject {
            name: "the server",
            key,
            ..Subject::default()
        }
        .issued();
        let server = Server::with(std::slice::from_ref(&server_identity), |_| {}).await;
        let device = Subject {
            name,
            key,
            names: &[],
            ..Subject::default()
        }
        .issued();
        for (http, tls) in transports() {
            let seen = server.ask(&client_with(http, tls, device.clone())).await;
            let what = format!("{name}, {http}, {tls:?}: {seen}");
            assert_eq!(seen["http"], http.to_string(), "{what}");
            let version = if tls == TlsVersions::Only12 {
                "TLS 1.2"
            } else {
                "TLS 1.3"
            };
            assert_eq!(seen["tls"], version, "{what}");
            assert_eq!(
                seen["chain"],
                json!([format!("CN={name}"), "CN=ca"]),
                "{what}"
            );
            assert_eq!(seen["own"], "CN=the server", "{what}");
            assert_eq!(seen["resumed"], false, "{what}");
        }
        server.stop().await;
    }
}

/// ML-DSA certificates by hand: rcgen makes the certificate around our own key.
#[tokio::test(flavor = "multi_thread")]
async fn ml_dsa_authenticates_in_tls_1_3() {
    for kind in [KeyKind::MlDsa44, KeyKind::MlDsa65, KeyKind::MlDsa87] {
        let key = SoftwareKey::generate(kind).expect("a key");
        let identity = ml_dsa_identity(key);
        let server = Server::with(std::slice::from_ref(&identity), |_| {}).await;
        for http in VERSIONS {
            let config = client_with(http, TlsVersions::Only13, identity.clone());
            let seen = server.ask(&config).await;
            assert_eq!(seen["raw"], 1, "{kind:?} {http}: {seen}");
        }
        server.stop().await;
    }
}

/// A certificate is a frame around a key: here with an empty signature, since TLS proves
/// possession by the handshake and nobody asks for more.
fn ml_dsa_identity(key: SoftwareKey) -> Identity {
    use pki::Signer as _;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len())
            .expect("short enough")
            .to_be_bytes();
        [&[tag, 0x82][..], &length, &content].concat()
    }
    let algorithm = key.algorithm().identifier();
    let name = tlv(0x30, &[]);
    let time = |text: &[u8]| tlv(0x17, &[text]);
    let tbs = tlv(
        0x30,
        &[
            &tlv(0xa0, &[&[0x02, 0x01, 0x02]]),
            &[0x02, 0x01, 0x01],
            &algorithm,
            &name,
            &tlv(0x30, &[&time(b"250101000000Z"), &time(b"350101000000Z")]),
            &name,
            key.public_key().spki_der(),
        ],
    );
    // Lengths in the long form are not DER where the short form would do; re-encode what is short.
    let certificate = tlv(0x30, &[&tbs, &algorithm, &[0x03, 0x02, 0x00, 0x00]]);
    let der = shorten(&certificate);
    let certificate = pki::Certificate::from_der(&der).expect("parses");
    Identity::new(vec![certificate], std::sync::Arc::new(key)).expect("belong together")
}

/// Rewrites the two-byte lengths of [`ml_dsa_identity`] as DER.
fn shorten(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let tag = rest[0];
        let (length, header) = match rest[1] {
            0x82 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
            0x81 => (usize::from(rest[2]), 3),
            short => (usize::from(short), 2),
        };
        let content = &rest[header..header + length];
        let content = if tag & 0x20 != 0 {
            shorten(content)
        } else {
            content.to_vec()
        };
        out.push(tag);
        match content.len() {
            length @ 0..=127 => out.push(u8::try_from(length).expect("short")),
            length @ 128..=255 => out.extend([0x81, u8::try_from(length).expect("short")]),
            length => {
                out.push(0x82);
                out.extend(u16::try_from(length).expect("short").to_be_bytes());
            }
        }
        out.extend(content);
        rest = &rest[header + length..];
    }
    out
}

/// The registrar has to serve devices without a certificate too, and tell them apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_certificate_is_served() {
    let server = Server::start().await;
    for http in VERSIONS {
        let seen = server.ask(&client(http)).await;
        assert_eq!(seen["chain"], json!([]), "{seen}");
        assert_eq!(seen["raw"], 0, "{seen}");
    }
    server.stop().await;
}

/// Expired, not yet valid and self-signed certificates are a decision of the services.
#[tokio::test(flavor = "multi_thread")]
async fn any_client_certificate_reaches_the_handler() {
    let server = Server::start().await;
    for years in [(1990, 1991), (2098, 2099)] {
        let device = Subject {
            name: "device",
            years,
            ..Subject::default()
        }
        .self_signed();
        for http in VERSIONS {
            let config = client_with(http, TlsVersions::Both, device.clone());
            assert_eq!(server.ask(&config).await["chain"], json!(["CN=device"]));
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_export_the_same_channel_binding() {
    let server = Server::start().await;
    for http in VERSIONS {
        let mut connection = net::client::Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        let seen = crate::support::get_json(&mut connection, "/peer").await;
        let own = connection.exporter().expect("TLS 1.3 has one");
        assert_eq!(seen["exporter"], json!(own), "{http}");
        let mut other = net::client::Connection::open(&server.target(), &client(http))
            .await
            .expect("connected");
        crate::support::get_json(&mut other, "/peer").await;
        assert_ne!(
            other.exporter(),
            Some(own),
            "another connection, another value"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_gets_the_identity_it_can_verify_and_reload_takes_effect() {
    let ecdsa = Subject::named("ecdsa").self_signed();
    let rsa = Subject {
        key: &rcgen::PKCS_RSA_SHA256,
        ..Subject::named("rsa")
    }
    .self_signed();
    let server = Server::with(&[ecdsa.clone(), rsa.clone()], |_| {}).await;
    let mut kept = net::client::Connection::open(&server.target(), &client(HttpVersion::Http1))
        .await
        .expect("connected");
    assert_eq!(
        crate::support::get_json(&mut kept, "/peer").await["own"],
        "CN=ecdsa"
    );
    let cases: [(&[&str], &str); 4] = [
        (&["-sigalgs", "RSA-PSS+SHA256"], "CN=rsa"),
        (&["-sigalgs", "ECDSA+SHA256"], "CN=ecdsa"),
        // Cipher suites name the kind of key in TLS 1.2.
        (
            &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            "CN=rsa",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
            "CN=ecdsa",
        ),
    ];
    for (arguments, subject) in cases {
        let shown = crate::outside::openssl_subject(server.address, arguments);
        assert_eq!(shown, subject, "{arguments:?}");
    }

    let next = Subject::named("next").self_signed();
    server
        .identities
        .replace(std::slice::from_ref(&next))
        .expect("usable");
    for http in VERSIONS {
        assert_eq!(server.ask(&client(http)).await["own"], "CN=next", "{http}");
    }
    assert_eq!(
        crate::support::get_json(&mut kept, "/peer").await["own"],
        "CN=ecdsa"
    );

    // A key that does not belong to its certificate is refused, and the old set stays.
    let wrong = Identity {
        chain: next.chain.clone(),
        signer: rsa.signer,
    };
    let refused = server.identities.replace(&[wrong]).expect_err("refused");
    assert_eq!(pki::Coded::code(&refused), "net.identity");
    assert_eq!(
        server.ask(&client(HttpVersion::Http2)).await["own"],
        "CN=next"
    );
    server.stop().await;
}

/// A resumed session shows the certificate of the first handshake, and only that.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_session_keeps_its_client_certificate() {
    let server = Server::start().await;
    let device = Subject {
        name: "device",
        names: &[],
        ..Subject::default()
    }
    .self_signed();
    for version in ["-tls1_2", "-tls1_3"] {
        let (first, second) = crate::outside::openssl_resume(server.address, &device, version);
        assert_eq!(first["resumed"], false, "{version} {first}");
        assert_eq!(second["resumed"], true, "{version} {second}");
        assert_eq!(first["chain"], json!(["CN=device"]), "{version}");
        assert_eq!(second["chain"], json!(["CN=device"]), "{version}");
        assert_eq!(first["own"], second["own"], "{version}");
    }
    server.stop().await;
}
