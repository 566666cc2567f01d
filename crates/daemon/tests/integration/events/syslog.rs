//! Syslog over UDP, TCP and TLS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio_rustls::{TlsAcceptor, rustls};

use super::forms::parse;
use super::{House, until};

/// A CA and a server for localhost under it.
pub(crate) struct Authority {
    pub(crate) ca: String,
    pub(crate) acceptor: TlsAcceptor,
}

pub(crate) fn authority() -> Authority {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a CA");
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = rcgen::CertificateParams::new(names).expect("names");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a configuration");
    Authority {
        ca: ca.pem(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
    }
}

/// Takes octet-counted frames off the front, strictly.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let blank = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .expect("a blank");
        let length = std::str::from_utf8(&bytes[..blank]).expect("ASCII");
        assert!(!length.starts_with('0'), "NONZERO-DIGIT first");
        let length: usize = length.parse().expect("a number");
        frames.push(bytes[blank + 1..blank + 1 + length].to_vec());
        bytes = &bytes[blank + 1 + length..];
    }
    frames
}

fn ids(frames: &[Vec<u8>]) -> Vec<String> {
    frames
        .iter()
        .map(|frame| parse(frame).parameter("id").expect("an id"))
        .collect()
}

type Frames = Arc<Mutex<Vec<Vec<u8>>>>;

async fn read_all(mut stream: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn sink(url: &str, more: &str) -> String {
    format!("[[syslog]]\nname = \"log\"\nurl = \"{url}\"\ntimeout_seconds = 1\n{more}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_hold_one_message_each() {
    let house = House::sqlite().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let address = socket.local_addr().expect("an address");
    let worker = house.start(&sink(
        &format!("udp://{address}"),
        "hostname = \"host.example\"",
    ));
    let sent = house.emit_some(3).await;
    let mut got = Vec::new();
    for _ in 0..3 {
        let mut buffer = [0; 4096];
        let received = tokio::time::timeout(super::PATIENCE, socket.recv(&mut buffer)).await;
        let count = received.expect("in time").expect("a datagram");
        let message = parse(&buffer[..count]);
        assert_eq!(message.priority, 16 * 8 + 5);
        assert_eq!(message.hostname, "host.example");
        assert_eq!(message.application, "usher-test");
        assert_eq!(message.parameter("vendor").as_deref(), Some("acme"));
        got.push(message.parameter("id").expect("an id"));
    }
    got.sort();
    let mut sent = sent;
    sent.sort();
    assert_eq!(got, sent);
    house.until_empty().await;
    worker.stop().await;
}

/// The receiver dies in the middle of a batch, without having read it; then it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_dies_in_the_middle_loses_nothing() {
    let house = House::sqlite().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("bound");
    let listener = socket.listen(16).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let got: Frames = Arc::default();
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            match turn {
                // Reads a little and is gone: what is unread makes the kernel send a reset.
                0 => {
                    let mut few = [0; 50];
                    stream.read_exact(&mut few).await.expect("a start");
                    stream.set_zero_linger().expect("an option");
                }
                // Takes the connection and is gone.
                1 => drop(stream),
                // Reads to the end and forgets to close.
                2 => {
                    let mut all = Vec::new();
                    let _ = stream.read_to_end(&mut all).await;
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(10)).await;
                        drop(stream);
                    });
                }
                _ => {
                    let bytes = read_all(stream).await.expect("read");
                    kept.lock().expect("no panic").extend(frames(&bytes));
                }
            }
        }
    });
    let sent = house.emit_some(40).await;
    let worker = house.start(&sink(&format!("tcp://{address}"), ""));
    house.until_empty().await;
    worker.stop().await;
    let mut got = ids(&got.lock().expect("no panic"));
    got.sort();
    got.dedup();
    let mut sent = sent;
    sent.sort();
    assert_eq!(got, sent);
}

/// For a receiver that never closes, writing is enough if one says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_confirmation_nobody_waits_for_the_end() {
    let house = House::sqlite().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.expect("accepts"));
        }
    });
    let worker = house.start(&sink(&format!("tcp://{address}"), "confirm = \"none\""));
    house.emit_some(3).await;
    house.until_empty().await;
    assert_eq!(worker.delivery.status()["log"].failed, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_only_the_right_receiver_hears_anything() {
    let house = House::sqlite().await;
    let (ours, other) = (authority(), authority());
    house.file("ca.pem", &ours.ca);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let got: Frames = Arc::default();
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        for turn in 0.. {
            let (stream, _) = listener.accept().await.expect("accepts");
            let acceptor = if turn < 3 {
                &other.acceptor
            } else {
                &ours.acceptor
            };
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            assert!(turn >= 3, "an impostor was believed");
            let mut bytes = Vec::new();
            stream
                .read_to_end(&mut bytes)
                .await
                .expect("read to close_notify");
            stream.shutdown().await.expect("closed");
            kept.lock().expect("no panic").extend(frames(&bytes));
        }
    });
    let sent = house.emit_some(5).await;
    let url = format!("tls://localhost:{}", address.port());
    let worker = house.start(&sink(&url, "anchors = \"ca.pem\"\nformat = \"cef\""));
    until("the impostor was refused", async || {
        worker.delivery.status()["log"].failed >= 3
    })
    .await;
    house.until_empty().await;
    worker.stop().await;
    let got = got.lock().expect("no panic");
    assert_eq!(got.len(), 5);
    for (frame, id) in got.iter().zip(&sent) {
        let message = parse(frame);
        assert!(message.structured.is_empty());
        assert!(message.text.starts_with("CEF:0|Usher|usher-test|"));
        assert!(message.text.contains(&format!("externalId={id}")));
    }
}

#[tokio::test]
async fn sinks_that_cannot_be_used_are_refused_at_the_start() {
    let house = House::sqlite().await;
    let good = sink("tcp://127.0.0.1:1", "");
    let cases = [
        (good.replace("tcp:", "http:"), "udp, tcp and tls"),
        (good.replace("tcp:", "tls:"), "anchors"),
        (format!("{good}facility = 24\n"), "0 to 23"),
        (format!("{good}anchors = \"x\"\n"), "for tls"),
        (good.replace("tcp://127.0.0.1:1", "tcp:"), "host"),
    ];
    for (toml, reason) in cases {
        let error = house.try_delivery(&toml).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    house.delivery(&good.replace("127.0.0.1", "[::1]"));
}
