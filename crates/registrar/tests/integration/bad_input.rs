//! Every endpoint, fed with what no device should send, answers properly and goes on.

use std::time::Duration;

use artifacts::Envelope;
use brski::paths;
use bytes::Bytes;
use http::{HeaderMap, Method, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Lab;

const ALLOW: &str = "[policy]\ndefault = \"allow\"\n";

fn nested(depth: usize) -> Vec<u8> {
    let mut text = "{\"a\":".repeat(depth);
    text.push('1');
    text.push_str(&"}".repeat(depth));
    text.into_bytes()
}

pub(crate) async fn stray_requests_have_a_code_too() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let cases = [
        (Method::GET, paths::REQUEST_VOUCHER, 405, "registrar.method"),
        (Method::PUT, paths::ENROL_STATUS, 405, "registrar.method"),
        (Method::POST, "/crl", 405, "registrar.method"),
        (Method::POST, "/", 404, "registrar.no-such-resource"),
        (
            Method::GET,
            "/.well-known/est/%2e%2e/est/cacerts",
            404,
            "registrar.no-such-resource",
        ),
    ];
    for (method, path, status, code) in cases {
        let mut connection = device.connect().await;
        let response = connection
            .request(method, path, HeaderMap::new(), Bytes::new())
            .await
            .unwrap();
        assert_eq!(response.status.as_u16(), status, "{path}");
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert!(text.starts_with(code), "{path}: {text}");
        assert_eq!(
            response.headers.contains_key(header::ALLOW),
            status == 405,
            "{path}"
        );
    }
    lab.stop().await;
}

/// Requirements: BRSKI-5.2-04, BRSKI-5.3-03, BRSKI-5.7-11
pub(crate) async fn each_bad_input_has_its_status_and_its_line() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let good = device.request().await;
    let cms = Envelope::Cms.media_type();
    let jws = Envelope::Jws.media_type();
    let json = "application/json";
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let requests: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        ("empty", cms, Vec::new(), 406),
        ("one octet", cms, vec![0x30], 406),
        ("truncated", cms, good[..good.len() / 2].to_vec(), 406),
        ("bit flipped", cms, flipped, 403),
        (
            "with octets after it",
            cms,
            [good.clone(), vec![0]].concat(),
            403,
        ),
        ("garbage", cms, vec![0xff; 5000], 406),
        ("deeply nested DER", cms, [0x30, 0x80].repeat(2000), 406),
        (
            "a length of gigabytes",
            cms,
            vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            406,
        ),
        ("JSON in CMS", cms, b"{}".to_vec(), 406),
        ("empty JWS", jws, b"{}".to_vec(), 406),
        ("nested JWS", jws, nested(5000), 406),
        (
            "JWS with twice the same member",
            jws,
            b"{\"payload\":\"e30\",\"payload\":\"e30\",\"signatures\":[]}".to_vec(),
            406,
        ),
        (
            "JWS with wrong types",
            jws,
            b"{\"payload\":7,\"signatures\":\"none\"}".to_vec(),
            406,
        ),
        ("CMS as JWS", jws, good.clone(), 406),
        ("unknown type", "application/foo", good.clone(), 415),
        ("COSE", "application/voucher-cose+cbor", good.clone(), 415),
        ("no type at all", "", good.clone(), 415),
        ("too large", cms, vec![0x30; 150 * 1024], 413),
        ("far too large", cms, vec![0x30; 1024 * 1024], 413),
    ];
    for (name, content_type, body, status) in requests {
        let mut connection = device.connect().await;
        let got = device
            .post(&mut connection, paths::REQUEST_VOUCHER, content_type, body)
            .await;
        assert_eq!(got.status, status, "{name}: {}", got.text());
        assert!(!got.body.is_empty(), "{name}");
        // What the transport refuses is written down a moment later.
        let mut code = String::new();
        for _ in 0..100 {
            code = lab.shown("SN-1").await["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if got.text().contains(&code) && !code.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            got.text().contains(&code) && !code.is_empty(),
            "{name}: {code} {}",
            got.text()
        );
    }
    assert!(lab.masa.seen().is_empty());
    assert_eq!(device.ask_with(good).await.status, 200);

    let reports: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("truncated", b"{\"version\":1,\"sta".to_vec()),
        ("an array", b"[1,true]".to_vec()),
        (
            "wrong types",
            b"{\"version\":\"one\",\"status\":\"yes\"}".to_vec(),
        ),
        ("no status", b"{\"version\":1}".to_vec()),
        ("no version", b"{\"status\":true}".to_vec()),
        (
            "twice the same member",
            b"{\"version\":1,\"status\":true,\"status\":false}".to_vec(),
        ),
        ("deeply nested", nested(3000)),
        (
            "not UTF-8",
            b"{\"version\":1,\"status\":true,\"reason\":\"\xff\"}".to_vec(),
        ),
        ("too large", vec![b' '; 20 * 1024]),
    ];
    for path in [paths::VOUCHER_STATUS, paths::ENROL_STATUS] {
        for (name, body) in &reports {
            let mut connection = device.connect().await;
            let got = device.post(&mut connection, path, json, body.clone()).await;
            assert_eq!(
                (got.status, got.code().as_str()),
                (400, "registrar.telemetry-malformed"),
                "{path} {name}: {}",
                got.text()
            );
            assert_eq!(
                lab.shown("SN-1").await["code"],
                "registrar.telemetry-malformed"
            );
        }
        let mut connection = device.connect().await;
        let got = device
            .post(&mut connection, path, json, vec![b' '; 150 * 1024])
            .await;
        assert_eq!(got.status, 413);
    }
    // Nothing of that moved the exchange.
    let got = device
        .report(paths::VOUCHER_STATUS, "{\"version\":1,\"status\":true}")
        .await;
    assert_eq!(got.status, 200);
    lab.stop().await;
}

/// Requirements: BRSKI-5-03, BRSKI-1.5-02
pub(crate) async fn other_methods_and_paths_are_refused_and_old_paths_need_their_switch() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let mut connection = device.connect().await;
    for (method, path, status) in [
        (http::Method::GET, paths::REQUEST_VOUCHER, 405),
        (http::Method::PUT, paths::VOUCHER_STATUS, 405),
        (http::Method::POST, "/.well-known/brski/nothing", 404),
        (http::Method::GET, "/", 404),
    ] {
        let response = connection
            .request(
                method.clone(),
                path,
                http::HeaderMap::new(),
                bytes::Bytes::new(),
            )
            .await
            .unwrap();
        assert_eq!(response.status.as_u16(), status, "{method} {path}");
    }
    let old = "/.well-known/est/requestvoucher";
    let body = device.request().await;
    let got = device
        .post(
            &mut device.connect().await,
            old,
            device.envelope.media_type(),
            body,
        )
        .await;
    assert_eq!(got.status, 404, "{}", got.text());
    lab.stop().await;

    let lab = Lab::start(&format!(
        "{ALLOW}\n[compatibility]\nlegacy_est_paths = true\n"
    ))
    .await;
    let device = lab.device("SN-1");
    let body = device.request().await;
    let got = device
        .post(
            &mut device.connect().await,
            old,
            device.envelope.media_type(),
            body,
        )
        .await;
    assert_eq!(got.status, 200, "{}", got.text());
    lab.stop().await;
}

/// One bad peer never blocks the others.
pub(crate) async fn peers_that_hang_or_flood_do_not_hold_up_a_proper_device() {
    let lab = Lab::start(ALLOW).await;
    let address = lab.address();
    // Connections that never speak, and connections that speak no TLS.
    let mut held = Vec::new();
    for index in 0..64 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        if index % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        }
        held.push(stream);
    }
    // A rogue that asks as fast as it can.
    let rogue =
        crate::harness::Device::new(lab.pki.self_signed_device("SN-R").unwrap(), "SN-R", address);
    let body = rogue.request().await;
    let flood = tokio::spawn(async move {
        loop {
            let _ = rogue.ask_with(body.clone()).await;
        }
    });
    let got = tokio::time::timeout(Duration::from_secs(10), lab.device("SN-1").ask()).await;
    assert_eq!(got.unwrap().status, 200);
    flood.abort();
    // What speaks no TLS gets no HTTP answer either.
    let mut answer = Vec::new();
    let read = held[0].read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(15), read).await;
    assert!(!answer.starts_with(b"HTTP"));
    drop(held);
    lab.stop().await;
}
