//! What a registrar gets, and what is written down about it.

use artifacts::{Assertion, AuditLog, Document, Envelope, Tolerances, Voucher};
use masa::register::{block, block_owner, find_device, release, transfer};
use net::HttpVersion;
use net::client::Response;
use pki::path::Anchors;
use pki::{Certificate, Identity};
use store::params;
use time::Duration;

use crate::on_both;
use crate::support::{AUDIT_LOG, Ask, Masa, NOW, VOUCHER, assert_refused};

const NONCE: &str = "bm9uY2Utbm9uY2UtMQ==";

/// The voucher of an answer, its signature verified against the MASA's CA as a pledge would.
fn voucher(masa: &Masa, response: &Response) -> (Voucher, Certificate) {
    assert_eq!(
        response.status,
        200,
        "{}",
        String::from_utf8_lossy(&response.body)
    );
    let media = response.header("content-type").unwrap();
    let (envelope, _) = Envelope::from_media_type(media, &Tolerances::strict()).unwrap();
    open(masa, &response.body, envelope)
}

fn open(masa: &Masa, body: &[u8], envelope: Envelope) -> (Voucher, Certificate) {
    let tolerances = Tolerances::strict();
    let signed = artifacts::open(Document::Voucher, body, Some(envelope), &tolerances).unwrap();
    let ca = Certificate::load(masa.config.resolve("masa-ca.pem".as_ref())).unwrap();
    let anchors: Anchors = std::iter::once(ca).collect();
    let trust = artifacts::verify::Trust::new(&anchors, Some(masa.now()));
    let context = artifacts::verify::VoucherContext::new(trust);
    let outcome = artifacts::verify::verify_voucher(&signed, &context, &tolerances);
    let (_, _, result) = outcome.into_parts();
    let verified = result.unwrap();
    (verified.voucher, verified.signer_path[0].clone())
}

async fn proven_device_gets_a_voucher(masa: Masa) {
    masa.devices(&["SN-1", "SN-2"]).await;
    let domain = &masa.pki.domain;
    for (serial, envelope) in [("SN-1", Envelope::Cms), ("SN-2", Envelope::Jws)] {
        let mut ask = Ask::new(&masa.pki, domain, serial, NONCE);
        ask.envelope = envelope;
        let response = masa.ask(domain, &ask).await;
        assert_eq!(response.header("content-type"), Some(envelope.media_type()));
        let (voucher, _) = voucher(&masa, &response);
        assert_eq!(voucher.serial_number.as_str(), serial);
        assert_eq!(voucher.nonce.as_ref().unwrap().as_str(), NONCE);
        assert_eq!(voucher.assertion, Some(Assertion::Proximity));
        assert_eq!(voucher.created_on, Some(NOW));
        assert_eq!(voucher.expires_on, None);
        // The default pins what is farthest from the registrar in its own chain.
        let pinned = voucher.pinned_domain_cert.as_ref().unwrap();
        assert!(domain.registrar.chain.contains(pinned) || *pinned == domain.ca.chain[0]);
        let events = masa.timeline(Some(serial)).await;
        assert_eq!(events.len(), 1);
        assert_eq!(
            (events[0].outcome.as_str(), events[0].code.as_str()),
            ("granted", "ok")
        );
        assert_eq!(events[0].summary["nonce"], NONCE);
        assert_eq!(events[0].summary["prior"]["proximity"], true);
        let device = find_device(masa.store(), serial, None).await.unwrap();
        assert!(device.holder_domain.is_some() && device.idevid_key.is_some());
    }
    assert_eq!(
        masa.count("audit_entry").await,
        3,
        "an import and two vouchers"
    );
    masa.stop().await;
}

async fn same_request_gets_the_same_bytes(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    let ask = Ask::new(&masa.pki, domain, "SN-1", NONCE);
    let first = masa.ask(domain, &ask).await;
    assert_eq!(first.status, 200);
    // The very same octets, then signed again a minute later.
    masa.hand.advance(std::time::Duration::from_secs(60));
    let again = masa.ask(domain, &ask).await;
    assert_eq!(again.body, first.body);
    assert_eq!(masa.count("voucher").await, 1);
    let outcomes: Vec<_> = masa
        .timeline(Some("SN-1"))
        .await
        .into_iter()
        .map(|event| event.outcome)
        .collect();
    assert_eq!(outcomes, ["again", "granted"]);
    // Another nonce is another attempt of the pledge and gets another voucher.
    let mut next = ask.clone();
    next.nonce = Some("bm9uY2Utbm9uY2UtMg==".to_owned());
    let second = masa.ask(domain, &next).await;
    assert_ne!(second.body, first.body);
    assert_eq!(masa.count("voucher").await, 2);
    masa.stop().await;
}

async fn each_refusal_has_its_status_code_and_line(masa: Masa) {
    masa.devices(&["SN-1", "SN-BLOCKED", "SN-LOST"]).await;
    let domain = masa.pki.other_domain("Refused").unwrap();
    let stranger = masa.pki.other_domain("Stranger").unwrap();
    let device = find_device(masa.store(), "SN-BLOCKED", None).await.unwrap();
    block(masa.store(), &device, Some("stolen from the ramp"), NOW)
        .await
        .unwrap();
    let good = Ask::new(&masa.pki, &domain, "SN-1", NONCE);
    let other = |change: &dyn Fn(&mut Ask)| {
        let mut ask = good.clone();
        change(&mut ask);
        ask
    };
    let impostor = masa.pki.impostor_registrar().unwrap();
    let forged = masa.pki.forged_idevid("SN-1").unwrap();
    let rogue = masa.pki.self_signed_device("SN-1").unwrap();
    let cases: Vec<(&str, Ask, u16, &str)> = vec![
        (
            "BRSKI-5.6-16",
            other(&|a| {
                *a = Ask::new(&masa.pki, &domain, "SN-UNKNOWN", NONCE);
            }),
            404,
            "masa.serial-unknown",
        ),
        (
            "blocked",
            Ask::new(&masa.pki, &domain, "SN-BLOCKED", NONCE),
            403,
            "masa.device-blocked",
        ),
        (
            "BRSKI-5.5.4-01",
            other(&|a| a.signer = impostor.clone()),
            403,
            "masa.registrar-not-ra",
        ),
        (
            "BRSKI-5.5.5-01",
            other(&|a| a.idevid = Some(forged.clone())),
            403,
            "masa.prior-not-our-device",
        ),
        (
            "self-signed",
            other(&|a| a.idevid = Some(rogue.clone())),
            403,
            "masa.prior-not-our-device",
        ),
        (
            "BRSKI-5.5.5-02",
            other(&|a| a.seen = Some(stranger.registrar.clone())),
            403,
            "masa.proximity-mismatch",
        ),
        (
            "no proximity",
            other(&|a| a.seen = None),
            403,
            "masa.proximity-missing",
        ),
        (
            "BRSKI-5.5.5-03",
            other(&|a| a.serial = "SN-LOST".to_owned()),
            403,
            "masa.prior-serial-mismatch",
        ),
        (
            "BRSKI-5.5.6-01",
            other(&|a| {
                a.inner_nonce = Some("YW5vdGhlci1ub25jZQ==".to_owned());
            }),
            403,
            "masa.prior-nonce-mismatch",
        ),
        (
            "BRSKI-5.6-15",
            other(&|a| a.age = Duration::hours(2)),
            403,
            "masa.request-stale",
        ),
        (
            "future",
            other(&|a| a.age = Duration::hours(-2)),
            403,
            "masa.request-from-future",
        ),
        (
            "BRSKI-5.5-15",
            other(&|a| a.own_proximity = true),
            403,
            "masa.proximity-cert-in-request",
        ),
        (
            "prior missing",
            other(&|a| a.idevid = None),
            403,
            "masa.prior-missing",
        ),
        (
            "BRSKI-5.5.4-02",
            Ask::nonceless(&masa.pki, &domain, "SN-1"),
            403,
            "masa.nonceless-unauthenticated",
        ),
    ];
    let mut expected = 0;
    for (name, ask, status, code) in cases {
        let response = masa.ask(&domain, &ask).await;
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert!(body.starts_with(code), "{name}: {} {body}", response.status);
        assert_refused(&response, status, code);
        let events = masa.timeline(None).await;
        expected += 1;
        assert_eq!(events.len(), expected, "{name}");
        assert_eq!(
            (events[0].code.as_str(), events[0].http),
            (code, status),
            "{name}"
        );
        assert!(
            events[0].identity.contains("Refused"),
            "{name}: {}",
            events[0].identity
        );
    }
    assert_eq!(masa.count("voucher").await, 0);
    // And it still serves the others.
    assert_eq!(masa.ask(&domain, &good).await.status, 200);
    masa.stop().await;
}

async fn formats_follow_accept(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    let cms = "application/voucher-cms+json";
    let jws = "application/voucher-jws+json";
    let ask = Ask::new(&masa.pki, domain, "SN-1", NONCE);
    for (content_type, accept, expect) in [
        (cms, None, Ok(cms)),
        (cms, Some("*/*"), Ok(cms)),
        (
            cms,
            Some("text/html, application/voucher-jws+json;q=0.9, */*;q=0.1"),
            Ok(jws),
        ),
        (cms, Some(jws), Ok(jws)),
        (
            cms,
            Some("application/voucher-cms+json;q=0"),
            Err((406, "masa.not-acceptable")),
        ),
        (
            cms,
            Some("application/voucher+cose"),
            Ok("application/voucher+cose"),
        ),
        (
            cms,
            Some("text/html"),
            Err((415, "masa.accept-not-understood")),
        ),
        ("application/foo", Some(cms), Err((415, "masa.media-type"))),
        ("", Some(cms), Err((415, "masa.media-type"))),
        (
            "APPLICATION/Voucher-CMS+JSON; charset=utf-8",
            Some(cms),
            Ok(cms),
        ),
    ] {
        let body = ask.sign(NOW);
        let client = Some(&domain.registrar);
        let response = masa.post(VOUCHER, client, content_type, accept, body).await;
        match expect {
            Ok(media) => {
                assert_eq!(response.status, 200, "{content_type} {accept:?}");
                assert_eq!(response.header("content-type"), Some(media));
                voucher(&masa, &response);
            }
            Err((status, code)) => assert_refused(&response, status, code),
        }
    }
    masa.stop().await;
}

async fn buyer_is_verified_and_others_raise_an_alarm(masa: Masa) {
    let buyer = masa.pki.other_domain("Buyer").unwrap();
    let thief = masa.pki.other_domain("Thief").unwrap();
    masa.owner("buyer", &buyer, false).await;
    masa.device_rows(&["SN-1"], Some("buyer"), "").await;
    for _ in 0..3 {
        let response = masa
            .ask(&thief, &Ask::new(&masa.pki, &thief, "SN-1", NONCE))
            .await;
        assert_refused(&response, 403, "masa.not-the-owner");
    }
    assert_eq!(
        masa.count("alarm").await,
        1,
        "the same alarm is counted, not repeated"
    );
    assert_eq!(masa.count("outbox").await, 1);
    let events = masa.timeline(Some("SN-1")).await;
    assert_eq!(events.len(), 3);
    assert!(
        events
            .iter()
            .all(|event| event.outcome == "alarm" && !event.next.is_empty())
    );
    let response = masa
        .ask(&buyer, &Ask::new(&masa.pki, &buyer, "SN-1", NONCE))
        .await;
    let (voucher, _) = voucher(&masa, &response);
    assert_eq!(voucher.assertion, Some(Assertion::Verified));
    // The registrar sent its own certificate only, and nothing else can be pinned.
    assert_eq!(
        voucher.pinned_domain_cert.as_ref(),
        Some(&buyer.registrar.chain[0])
    );
    block_owner(masa.store(), "buyer", true, NOW).await.unwrap();
    let mut again = Ask::new(&masa.pki, &buyer, "SN-1", "YW5vdGhlci1ub25jZQ==");
    again.idevid = None;
    let response = masa.ask(&buyer, &again).await;
    assert!([403].contains(&response.status.as_u16()));
    masa.stop().await;
}

async fn second_domain_waits_for_a_release(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let first = masa.pki.other_domain("First").unwrap();
    let second = masa.pki.other_domain("Second").unwrap();
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let ask = |domain: &testkit::Domain, nonce: &str| {
        let mut ask = Ask::new(&masa.pki, domain, "SN-1", nonce);
        ask.idevid = Some(idevid.clone());
        ask
    };
    assert_eq!(masa.ask(&first, &ask(&first, NONCE)).await.status, 200);
    let response = masa.ask(&second, &ask(&second, NONCE)).await;
    assert_refused(&response, 403, "masa.already-owned");
    assert_eq!(masa.count("alarm").await, 1);
    // The first one can ask as often as it wants (BRSKI-5.5.1-01).
    let response = masa.ask(&first, &ask(&first, "cmVuZXdhbC1yZW5ld2Fs")).await;
    assert_eq!(response.status, 200);
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    release(masa.store(), &device, false, NOW).await.unwrap();
    // What the device once said to the first one does not get it back.
    for old in [NONCE, "cmVuZXdhbC1yZW5ld2Fs"] {
        let response = masa.ask(&first, &ask(&first, old)).await;
        assert_refused(&response, 403, "masa.nonce-replayed");
    }
    let response = masa
        .ask(&second, &ask(&second, "bmV3LWRvbWFpbi1ub25jZQ=="))
        .await;
    assert_eq!(response.status, 200);
    // A device with another key under the same name is a clone, whoever asks.
    let mut clone = ask(&second, "Y2xvbmUtY2xvbmUtY2xvbmU=");
    clone.idevid = Some(masa.pki.cloned_idevid("SN-1").unwrap());
    let response = masa.ask(&second, &clone).await;
    assert_refused(&response, 403, "masa.clone-suspected");
    assert_eq!(masa.count("alarm").await, 2);
    masa.stop().await;
}

async fn a_domain_with_many_names_does_not_fill_the_audit_log(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let idevid = masa.pki.idevid("SN-1").unwrap();
    for number in 0..70 {
        let domain = masa.pki.other_domain(&format!("Domain {number}")).unwrap();
        let mut ask = Ask::new(&masa.pki, &domain, "SN-1", NONCE);
        ask.idevid = Some(idevid.clone());
        let status = masa.ask(&domain, &ask).await.status;
        assert_eq!(status, if number == 0 { 200 } else { 403 });
    }
    let rows = masa
        .store()
        .fetch_all("SELECT asked, count FROM alarm", vec![])
        .await
        .unwrap();
    assert_eq!(rows.len(), 65);
    let others = rows
        .iter()
        .find(|row| row.text("asked").unwrap() == "others")
        .unwrap();
    assert_eq!(others.integer("count").unwrap(), 69 - 64);
    masa.stop().await;
}

async fn nonceless_needs_a_contract_and_another_key(masa: Masa) {
    let customer = masa.pki.other_domain("Customer").unwrap();
    let walk_in = masa.pki.other_domain("Walk-in").unwrap();
    masa.owner("customer", &customer, true).await;
    masa.owner("walk-in", &walk_in, false).await;
    masa.device_rows(
        &["SN-1"],
        Some("customer"),
        r#"{"serial":"","has-clock":true}"#,
    )
    .await;
    masa.device_rows(&["SN-2"], Some("walk-in"), "").await;
    let response = masa
        .ask(&walk_in, &Ask::nonceless(&masa.pki, &walk_in, "SN-2"))
        .await;
    assert_refused(&response, 403, "masa.nonceless-not-authorised");
    let response = masa
        .ask(&customer, &Ask::nonceless(&masa.pki, &customer, "SN-1"))
        .await;
    let (nonceless, signer) = voucher(&masa, &response);
    assert_eq!(nonceless.nonce, None);
    assert_eq!(nonceless.expires_on, Some(NOW + Duration::minutes(20)));
    let ask = Ask::new(&masa.pki, &customer, "SN-1", NONCE);
    let (_, other) = voucher(&masa, &masa.ask(&customer, &ask).await);
    assert_ne!(signer.public_key(), other.public_key());
    // The same nonceless request: the same bytes until it has expired, then a new voucher.
    let again = masa
        .ask(&customer, &Ask::nonceless(&masa.pki, &customer, "SN-1"))
        .await;
    assert_eq!(again.body, response.body);
    masa.hand.advance(std::time::Duration::from_secs(3600));
    let later = masa
        .ask(&customer, &Ask::nonceless(&masa.pki, &customer, "SN-1"))
        .await;
    let (renewed, _) = voucher(&masa, &later);
    assert_eq!(renewed.expires_on, Some(masa.now() + Duration::minutes(20)));
    assert_ne!(later.body, response.body);
    masa.stop().await;
}

async fn audit_log(masa: &Masa, client: &Identity, ask: &Ask) -> Response {
    let media = ask.envelope.media_type();
    masa.post(
        AUDIT_LOG,
        Some(client),
        media,
        Some("application/json"),
        ask.sign(masa.now()),
    )
    .await
}

/// Requirements: BRSKI-5.8-09
async fn past_and_present_owners_read_the_log(masa: Masa) {
    let first = masa.pki.other_domain("First").unwrap();
    let second = masa.pki.other_domain("Second").unwrap();
    let stranger = masa.pki.other_domain("Stranger").unwrap();
    masa.owner("second", &second, true).await;
    masa.devices(&["SN-1"]).await;
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let ask = |domain: &testkit::Domain, nonce: &str| {
        let mut ask = Ask::new(&masa.pki, domain, "SN-1", nonce);
        ask.idevid = Some(idevid.clone());
        ask
    };
    for nonce in [NONCE, "c2Vjb25kLW5vbmNlLTE="] {
        assert_eq!(masa.ask(&first, &ask(&first, nonce)).await.status, 200);
    }
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    transfer(masa.store(), &device, "second", NOW)
        .await
        .unwrap();
    masa.hand.advance(std::time::Duration::from_secs(60));
    let nonceless = Ask::nonceless(&masa.pki, &second, "SN-1");
    assert_eq!(masa.ask(&second, &nonceless).await.status, 200);
    for domain in [&first, &second] {
        let response = audit_log(&masa, &domain.registrar, &ask(domain, NONCE)).await;
        assert_eq!(
            response.status,
            200,
            "{}",
            String::from_utf8_lossy(&response.body)
        );
        assert_eq!(response.header("content-type"), Some("application/json"));
        let (log, _) = AuditLog::from_json(&response.body, &Tolerances::strict()).unwrap();
        assert_eq!(log.events.len(), 2);
        assert_eq!(
            (log.events[0].nonce.as_deref(), log.events[0].assertion),
            (None, Assertion::Verified)
        );
        assert_eq!(log.events[1].nonce.as_deref(), Some("c2Vjb25kLW5vbmNlLTE="));
        assert_eq!(log.events[1].truncated, Some(1));
        assert_eq!(log.truncation.nonced_duplicates, 1);
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert!(json["events"][0]["nonce"].is_null() && json["version"].is_u64());
    }
    let response = audit_log(&masa, &stranger.registrar, &ask(&stranger, NONCE)).await;
    assert_refused(&response, 404, "masa.never-owner");
    let unknown = Ask::new(&masa.pki, &stranger, "SN-404", NONCE);
    let response = audit_log(&masa, &stranger.registrar, &unknown).await;
    assert_refused(&response, 404, "masa.never-owner");
    // An altered request is refused, an old one is not: the log may be read at any later time.
    let mut old = ask(&first, NONCE);
    old.age = Duration::days(30);
    assert_eq!(audit_log(&masa, &first.registrar, &old).await.status, 200);
    let mut body = ask(&first, NONCE).sign(masa.now());
    let last = body.len() - 1;
    body[last] ^= 1;
    let media = "application/voucher-cms+json";
    let response = masa
        .post(AUDIT_LOG, Some(&first.registrar), media, None, body)
        .await;
    assert_refused(&response, 403, "masa.request-signature");
    let operations: Vec<_> = masa
        .timeline(Some("SN-1"))
        .await
        .into_iter()
        .map(|e| e.operation)
        .collect();
    assert!(
        operations.iter().any(|o| o == "requestauditlog"),
        "{operations:?}"
    );
    masa.stop().await;
}

on_both!(
    /// Requirements: BRSKI-5-04, BRSKI-5.6-01, BRSKI-5.6-20, BRSKI-5.6-21, BRSKI-5.6-22,
    /// BRSKI-5.6-23, BRSKI-5.6-25, BRSKI-5.6-28, BRSKI-5.5.2-01, BRSKI-5.5.2-02, BRSKI-5.5.5-04,
    /// BRSKI-11.6-01
    proven_device_gets_a_voucher,
    same_request_gets_the_same_bytes,
    /// Requirements: BRSKI-5.5.4-01, BRSKI-5.5.4-02, BRSKI-5.5.5-01, BRSKI-5.5.5-02,
    /// BRSKI-5.5.5-03, BRSKI-5.5.6-01, BRSKI-5.5-15, BRSKI-5.6-03, BRSKI-5.6-15, BRSKI-5.6-16
    each_refusal_has_its_status_code_and_line,
    /// Requirements: BRSKI-5.5-03, BRSKI-5.6-17, BRSKI-5.6-19, BRSKI-5.6-20, BRSKI-5.2-17
    formats_follow_accept,
    buyer_is_verified_and_others_raise_an_alarm,
    /// Requirements: BRSKI-5.5.1-01
    second_domain_waits_for_a_release,
    a_domain_with_many_names_does_not_fill_the_audit_log,
    /// Requirements: BRSKI-7.4.1-01, BRSKI-5.6-25, BRSKI-5.6-26, BRSKI-5.6-27, BRSKI-11.6.2-01
    nonceless_needs_a_contract_and_another_key,
    /// Requirements: BRSKI-5.8-03, BRSKI-5.8-04, BRSKI-5.8.1-01, BRSKI-5.8.1-02, BRSKI-5.8.1-03,
    /// BRSKI-5.8.1-05, BRSKI-5.5.6-02, BRSKI-9.1.1-03
    past_and_present_owners_read_the_log,
);

/// Requirements: BRSKI-5.1-04
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_http_version_serves() {
    let masa = Masa::sqlite().await;
    masa.devices(&["SN-1", "SN-2", "SN-3"]).await;
    let domain = &masa.pki.domain;
    for (serial, http) in [
        ("SN-1", HttpVersion::Http1),
        ("SN-2", HttpVersion::Http2),
        ("SN-3", HttpVersion::Http3),
    ] {
        let ask = Ask::new(&masa.pki, domain, serial, NONCE).jws();
        let media = ask.envelope.media_type();
        let body = ask.sign(NOW);
        let client = Some(&domain.registrar);
        let response = masa
            .post_over(http, VOUCHER, client, media, Some(media), body)
            .await;
        voucher(&masa, &response);
    }
    masa.stop().await;
}

/// Requirements: VOUCHER-7.4-01
#[tokio::test]
async fn nothing_is_answered_in_the_clear() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let masa = Masa::sqlite().await;
    let address = masa.running.device_address();
    let mut plain = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("POST {VOUCHER} HTTP/1.1\r\nhost: masa\r\ncontent-length: 0\r\n\r\n");
    plain.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Whether the end is an orderly one does not matter.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    masa.stop().await;
}

/// Requirements: BRSKI-5.4-04, BRSKI-5.5.4-03, MASACONS-2.1-01, BRSKI-5.4.1-01, MASACONS-2.1-01
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_are_optional_or_required() {
    for (required, status) in [(false, 200), (true, 403)] {
        let masa = Masa::with(|config| {
            if required {
                config.policy.client_certificate = masa::ClientCertificate::Required;
            }
        })
        .await;
        masa.devices(&["SN-1"]).await;
        let domain = &masa.pki.domain;
        let ask = Ask::new(&masa.pki, domain, "SN-1", NONCE);
        let media = ask.envelope.media_type();
        let response = masa.post(VOUCHER, None, media, None, ask.sign(NOW)).await;
        assert_eq!(response.status.as_u16(), status);
        if required {
            assert_refused(&response, 403, "masa.client-certificate-missing");
            assert_eq!(masa.ask(domain, &ask).await.status, 200);
        }
        masa.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_tell() {
    let masa = Masa::sqlite().await;
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    assert_eq!(
        masa.ask(domain, &Ask::new(&masa.pki, domain, "SN-1", NONCE))
            .await
            .status,
        200
    );
    let target = net::client::Target {
        secure: false,
        ..net::client::Target::from_address(masa.running.admin_address())
    };
    let mut admin = net::client::Connection::open(&target, &Default::default())
        .await
        .unwrap();
    for (path, part) in [
        ("/health", "ok"),
        ("/ready", "\"ready\":true"),
        (
            "/metrics",
            "usher_masa_answers_total{operation=\"requestvoucher\",code=\"ok\"} 1",
        ),
        (
            "/metrics",
            "usher_masa_transactions_committed_total{name=\"voucher-issue\"} 1",
        ),
    ] {
        let response = admin
            .request(
                http::Method::GET,
                path,
                http::HeaderMap::new(),
                bytes::Bytes::new(),
            )
            .await
            .unwrap();
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(
            response.status == 200 && body.contains(part),
            "{path}: {body}"
        );
    }
    admin.close().await;
    masa.stop().await;
}

/// A voucher that was answered is there after the process is gone, with its audit entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_in_the_database() {
    let masa = Masa::sqlite().await;
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    let response = masa
        .ask(domain, &Ask::new(&masa.pki, domain, "SN-1", NONCE))
        .await;
    // Not stopped: a second reader of the same file, as after a crash.
    let store = store::Store::open(&masa.config.database.url, &masa::SCHEMA)
        .await
        .unwrap();
    let row = store
        .fetch_optional("SELECT body, serial FROM voucher", params![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.bytes("body").unwrap(), response.body);
    let entries = store
        .fetch_all(
            "SELECT kind FROM audit_entry WHERE kind = 'voucher-issued'",
            params![],
        )
        .await
        .unwrap();
    assert_eq!(entries.len(), 1);
    store.close().await;
    masa.stop().await;
}

/// Requirements: CBR-156, VOUCHER-5.3-16, VOUCHERBIS-6.2-01, VOUCHERBIS-6.2-02
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serial_number_of_two_issuers_names_the_issuer() {
    let masa = Masa::sqlite().await;
    let issuer = masa.pki.manufacturer_ca.chain[0].subject_key_id().unwrap();
    let domain = &masa.pki.domain;
    masa.devices(&["SN-UNIQUE"]).await;
    let extra = format!(r#"{{"serial":"","issuer":"{}"}}"#, hex::encode(&issuer));
    masa.device_rows(&["SN-TWICE"], None, &extra).await;
    masa.device_rows(&["SN-TWICE"], None, r#"{"serial":"","issuer":"0badcafe"}"#)
        .await;
    let (unique, _) = voucher(
        &masa,
        &masa
            .ask(domain, &Ask::new(&masa.pki, domain, "SN-UNIQUE", NONCE))
            .await,
    );
    assert!(unique.idevid_issuer.is_none());
    let (twice, _) = voucher(
        &masa,
        &masa
            .ask(domain, &Ask::new(&masa.pki, domain, "SN-TWICE", NONCE))
            .await,
    );
    assert_eq!(
        twice.idevid_issuer.as_ref().unwrap().key_id(),
        Some(issuer.as_slice())
    );
    // The right one of the two is held now.
    let device = find_device(masa.store(), "SN-TWICE", Some(&issuer))
        .await
        .unwrap();
    assert!(device.holder_domain.is_some());
    let other = find_device(masa.store(), "SN-TWICE", Some(&[0x0b, 0xad, 0xca, 0xfe])).await;
    assert!(other.unwrap().holder_domain.is_none());
    // And without a nonce, where the serial number is all that binds the voucher to its device.
    masa.owner("acme", domain, true).await;
    let issuers = [hex::encode(&issuer), "0badcafe".to_owned()];
    for one in issuers {
        let extra = format!(r#"{{"serial":"","issuer":"{one}"}}"#);
        masa.device_rows(&["SN-SOLD"], Some("acme"), &extra).await;
    }
    let asked = Ask::nonceless(&masa.pki, domain, "SN-SOLD");
    let (sold, _) = voucher(&masa, &masa.ask(domain, &asked).await);
    assert!(sold.nonce.is_none());
    assert_eq!(
        sold.idevid_issuer.as_ref().unwrap().key_id(),
        Some(issuer.as_slice())
    );
    masa.stop().await;
}
