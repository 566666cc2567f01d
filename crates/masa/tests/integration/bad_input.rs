//! Whatever is sent: the standard's status, our code, a line in the timeline, and on with others.

use artifacts::Envelope;
use bytes::Bytes;
use http::{HeaderMap, Method};
use net::client::{ClientConfig, Connection, Target};
use pki::SignOptions;
use pki::cms;

use crate::support::{AUDIT_LOG, Ask, Masa, NOW, VOUCHER, assert_refused};

const CMS: &str = "application/voucher-cms+json";
const JWS: &str = "application/voucher-jws+json";

/// A CMS message of a good registrar around any content.
fn around(masa: &Masa, content: &[u8]) -> Vec<u8> {
    let oid = pki::ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.40");
    cms::sign(
        content,
        oid,
        &masa.pki.domain.registrar,
        &SignOptions::default(),
    )
    .unwrap()
}

/// Requirements: BRSKI-5.5.3-01, BRSKI-5.6-03
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bodies_are_refused_and_written_down() {
    let masa = Masa::sqlite().await;
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    let nonce = "bm9uY2Utbm9uY2UtMQ==";
    let good = Ask::new(&masa.pki, domain, "SN-1", nonce).sign(NOW);
    let good_jws = Ask::new(&masa.pki, domain, "SN-1", nonce).jws().sign(NOW);
    let flip = |bytes: &[u8], from_end: usize| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() - from_end;
        bytes[at] ^= 0x10;
        bytes
    };
    let deep = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let request = |text: &str| around(&masa, text.as_bytes());
    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("empty", CMS, vec![], 400, "masa.request-malformed"),
        ("empty JWS", JWS, vec![], 400, "masa.request-malformed"),
        ("one octet", CMS, vec![0x30], 400, "masa.request-malformed"),
        (
            "noise",
            CMS,
            vec![0xff; 4096],
            400,
            "masa.request-malformed",
        ),
        (
            "truncated",
            CMS,
            good[..good.len() / 2].to_vec(),
            400,
            "masa.request-malformed",
        ),
        (
            "truncated JWS",
            JWS,
            good_jws[..good_jws.len() / 2].to_vec(),
            400,
            "masa.request-malformed",
        ),
        (
            "CMS as JWS",
            JWS,
            good.clone(),
            400,
            "masa.request-malformed",
        ),
        (
            "JWS as CMS",
            CMS,
            good_jws.clone(),
            400,
            "masa.request-malformed",
        ),
        (
            "signature flipped",
            CMS,
            flip(&good, 3),
            403,
            "masa.request-signature",
        ),
        (
            "not JSON",
            CMS,
            request("hello"),
            400,
            "masa.request-malformed",
        ),
        (
            "not an object",
            CMS,
            request("[1]"),
            400,
            "masa.request-malformed",
        ),
        ("deep", CMS, request(&deep), 400, "masa.request-malformed"),
        (
            "duplicate key",
            CMS,
            request(
                r#"{"ietf-voucher-request:voucher":{"serial-number":"SN-1","serial-number":"SN-2"}}"#,
            ),
            400,
            "masa.request-malformed",
        ),
        (
            "wrong type",
            CMS,
            request(r#"{"ietf-voucher-request:voucher":{"serial-number":17}}"#),
            400,
            "masa.request-malformed",
        ),
        (
            "no serial number",
            CMS,
            request(r#"{"ietf-voucher-request:voucher":{"created-on":"2026-11-23T12:00:00Z"}}"#),
            400,
            "masa.request-malformed",
        ),
        (
            "nonce too short",
            CMS,
            request(&format!(
                r#"{{"ietf-voucher-request:voucher":{{"serial-number":"SN-1","nonce":"YQ==","created-on":"{}"}}}}"#,
                "2026-11-23T12:00:00Z"
            )),
            400,
            "masa.nonce-length",
        ),
        (
            "a voucher instead of a request",
            CMS,
            request(r#"{"ietf-voucher:voucher":{"serial-number":"SN-1"}}"#),
            400,
            "masa.request-malformed",
        ),
    ];
    let mut lines = 0;
    for path in [VOUCHER, AUDIT_LOG] {
        for (name, media, body, status, code) in &cases {
            let client = Some(&domain.registrar);
            let response = masa.post(path, client, media, None, body.clone()).await;
            let body = String::from_utf8_lossy(&response.body).into_owned();
            assert!(
                body.starts_with(code),
                "{name} at {path}: {} {body}",
                response.status
            );
            assert_refused(&response, *status, code);
            let events = masa.timeline(None).await;
            lines += 1;
            assert_eq!(events.len(), lines, "{name} at {path}");
            assert_eq!(
                (events[0].code.as_str(), events[0].http),
                (*code, *status),
                "{name}"
            );
        }
    }
    assert_eq!(masa.count("voucher").await, 0);
    let response = masa
        .post(VOUCHER, Some(&domain.registrar), CMS, None, good)
        .await;
    assert_eq!(response.status, 200);
    masa.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_flipped_octet_gets_a_voucher() {
    let masa = Masa::sqlite().await;
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    for envelope in Envelope::JSON {
        let mut ask = Ask::new(&masa.pki, domain, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
        ask.envelope = envelope;
        let body = ask.sign(NOW);
        let target = Target::from_address(masa.running.device_address());
        let mut connection = Connection::open(&target, &ClientConfig::default())
            .await
            .unwrap();
        let mut headers = HeaderMap::new();
        let media = envelope.media_type().parse().unwrap();
        headers.insert(http::header::CONTENT_TYPE, media);
        // Every 23rd octet of the signed content and its signature, on one connection.
        for at in (0..body.len()).step_by(23) {
            let mut flipped = body.clone();
            flipped[at] ^= 0x01;
            let response = connection
                .request(Method::POST, VOUCHER, headers.clone(), Bytes::from(flipped))
                .await
                .unwrap();
            let status = response.status.as_u16();
            // Octets outside what is signed (an unused certificate, white space) may change.
            if status == 200 {
                continue;
            }
            assert!((400..500).contains(&status), "octet {at}: {status}");
        }
        connection.close().await;
    }
    // Whatever was let pass, it was one and the same decision.
    assert!(masa.count("voucher").await <= 1);
    masa.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_bodies_get_413() {
    let masa = Masa::sqlite().await;
    let domain = &masa.pki.domain;
    let client = Some(&domain.registrar);
    let huge = vec![0x30_u8; 600 * 1024];
    let response = masa.post(VOUCHER, client, CMS, None, huge).await;
    assert_eq!(response.status, 413);
    let events = masa.timeline(None).await;
    assert_eq!(events.len(), 1);
    assert!(events[0].code.starts_with("net."), "{:?}", events[0]);
    masa.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_and_paths_are_refused() {
    let masa = Masa::sqlite().await;
    let target = Target::from_address(masa.running.device_address());
    let mut connection = Connection::open(&target, &ClientConfig::default())
        .await
        .unwrap();
    for (method, path, status) in [
        (Method::GET, VOUCHER, 405),
        (Method::PUT, AUDIT_LOG, 405),
        (Method::POST, "/", 404),
        (Method::GET, "/metrics", 404),
        (Method::POST, "/.well-known/brski/voucher_status", 404),
    ] {
        let response = connection
            .request(method.clone(), path, HeaderMap::new(), Bytes::new())
            .await
            .unwrap();
        assert_eq!(response.status, status, "{method} {path}");
        assert!(!response.body.is_empty());
    }
    connection.close().await;
    assert_eq!(masa.timeline(None).await.len(), 5);
    masa.stop().await;
}
