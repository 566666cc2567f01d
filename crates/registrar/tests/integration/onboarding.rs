//! The way it should go.

use artifacts::Envelope;
use net::HttpVersion;
use pki::issue::{CertificateBuilder, Profile};
use pki::{Certificate, KeyKind, Signer as _, SoftwareKey};
use testkit::NOW;

use crate::harness::{History, Lab, read};

const ALLOW: &str = "[policy]\ndefault = \"allow\"\n";
const ACCEPT: &str = "application/voucher-cms+json, application/voucher-jws+json;q=0.9";
const GOOD: &str = "{\"version\":1,\"status\":true}";

/// Requirements: BRSKI-5.5-01, BRSKI-5.5-09, BRSKI-5.5-10, BRSKI-5.5-12, BRSKI-5.5-13,
/// BRSKI-5.5-14, BRSKI-5.6-02, BRSKI-3-02, BRSKI-3.4-05, BRSKI-5.4-07, BRSKI-2.3.2-01,
/// BRSKI-2.3.2-02, BRSKI-5.5-07, BRSKI-5.2-17, JWS-8-01
pub(crate) async fn a_device_gets_its_voucher_over_every_http_version_and_format() {
    let lab = Lab::start(ALLOW).await;
    let mut number = 0;
    for http in [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http3] {
        for envelope in [Envelope::Cms, Envelope::Jws] {
            number += 1;
            let serial = format!("SN-{number}");
            let mut device = lab.device(&serial);
            device.http = http;
            device.envelope = envelope;
            let request = device.request().await;
            let got = device.ask_with_accept(request.clone(), ACCEPT).await;
            assert_eq!(got.status, 200, "{http} {envelope:?}: {}", got.text());
            assert_eq!(got.header("content-type"), Some(envelope.media_type()));

            let seen = lab.masa.seen().pop().unwrap();
            assert_eq!(seen.path, "/.well-known/brski/requestvoucher");
            assert_eq!(seen.content_type, envelope.media_type());
            assert_eq!(seen.server_name.as_deref(), Some(crate::harness::MASA_HOST));
            // BRSKI-5.5-07: the device's own list is handed on.
            assert_eq!(seen.accept, ACCEPT);
            assert!(seen.client.unwrap().has_cmc_ra());
            let (inner, ..) = read(&request);
            let (outer, top, _) = read(&seen.body);
            assert_eq!(
                outer.prior_signed_voucher_request.as_deref(),
                Some(&request[..])
            );
            assert_eq!(outer.nonce, inner.nonce);
            assert_eq!(outer.serial_number.as_str(), serial);
            assert!(outer.proximity_registrar_cert.is_none());
            let idevid = &device.identity.as_ref().unwrap().chain[0];
            let issuer = artifacts::IdevidIssuer::of(idevid);
            assert_eq!(
                outer.idevid_issuer.as_ref().unwrap().as_bytes(),
                issuer.as_bytes()
            );
            assert!(top.is_ca());

            // The same request again is the same exchange, and the MASA is not asked again.
            let calls = lab.masa.seen().len();
            let again = device.ask_with(request).await;
            assert_eq!((again.status, &again.body), (200, &got.body));
            assert_eq!(lab.masa.seen().len(), calls);

            let shown = lab.shown(&serial).await;
            assert_eq!(shown["state"], "vouchered");
            assert_eq!(shown["vendor"], "acme");
            let steps: Vec<_> = shown["timeline"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line["step"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(
                steps[..5],
                [
                    "identity",
                    "voucher-request",
                    "policy",
                    "masa-request",
                    "voucher"
                ]
            );
        }
    }
    let (_, metrics) = lab.admin("/metrics").await;
    assert!(
        metrics.contains("usher_registrar_steps_total{step=\"voucher\",code=\"ok\"}"),
        "{metrics}"
    );
    lab.stop().await;
}

/// Requirements: BRSKI-5.7-07, BRSKI-5.7-09, BRSKI-5.7-10, BRSKI-5.7-12, BRSKI-5.7-13,
/// BRSKI-5.8-01, BRSKI-5.8-06, BRSKI-5.8.2-02
pub(crate) async fn telemetry_is_recorded_and_the_history_fetched() {
    let lab = Lab::start(ALLOW).await;
    for (serial, history) in [
        ("SN-1", History::Clean),
        ("SN-2", History::Elsewhere("/logs/secret".to_owned())),
    ] {
        lab.masa.tells(history);
        let device = lab.device(serial);
        assert_eq!(device.ask().await.status, 200);
        let voucher_call = lab.masa.seen().pop().unwrap();
        let report = "{\"version\":2,\"status\":true,\"colour\":\"red\"}";
        let got = device.report(brski::paths::VOUCHER_STATUS, report).await;
        assert_eq!(got.status, 200, "{}", got.text());
        let line = lab.line(serial, "voucher-status").await;
        assert_eq!(line["outcome"], "notice");
        assert_eq!(line["detail"]["newer_version"], 2);
        assert_eq!(line["detail"]["unknown_members"][0], "colour");

        let line = lab.line(serial, "audit-log").await;
        assert_eq!(line["outcome"], "ok", "{line:#}");
        let log_call = lab
            .masa
            .seen()
            .into_iter()
            .rfind(|seen| seen.path == "/.well-known/brski/requestauditlog")
            .unwrap();
        assert_eq!(log_call.body, voucher_call.body);
        assert_eq!(log_call.content_type, voucher_call.content_type);
        if serial == "SN-1" {
            assert_eq!(lab.shown(serial).await["history"], "accepted");
        }
        lab.masa.forget();
    }
    lab.stop().await;
}

/// Requirements: BRSKI-5.9.4-05, BRSKI-5.9.4-06
pub(crate) async fn an_enrolment_status_is_recorded_with_the_certificate_it_came_under() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let got = device.report(brski::paths::ENROL_STATUS, GOOD).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (404, "registrar.exchange-unknown")
    );
    assert_eq!(device.ask().await.status, 200);
    assert_eq!(
        device
            .report(brski::paths::VOUCHER_STATUS, GOOD)
            .await
            .status,
        200
    );
    let bad = "{\"version\":1,\"status\":false,\"reason\":\"no space left\"}";
    assert_eq!(
        device.report(brski::paths::ENROL_STATUS, bad).await.status,
        200
    );
    let line = lab.line("SN-1", "enrol-status").await;
    assert_eq!(line["detail"]["matching_certificate"], false);
    assert_eq!(line["code"], "registrar.enrolment-failed-at-device");
    assert_eq!(lab.shown("SN-1").await["state"], "failed");
    lab.stop().await;
}

/// Requirements: BRSKI-5.1-14
pub(crate) async fn a_server_certificate_can_be_exchanged_while_it_runs() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let before = device.connect().await.peer_chain()[0].clone();
    // A second registrar certificate of another domain takes the place of the first.
    let other = tempfile::tempdir().unwrap();
    let dir = other.path().display().to_string();
    crate::harness::command(&lab.clock, &["init", "--dir", &dir, "--json"]).await;
    for name in ["registrar.pem", "registrar.key", "domain-ca.pem"] {
        std::fs::copy(other.path().join(name), lab.path(name)).unwrap();
    }
    lab.running().service().reload().unwrap();
    let after = device.connect().await.peer_chain()[0].clone();
    assert_ne!(before, after);
    assert_eq!(device.ask().await.status, 200);
    // A file that cannot be read changes nothing.
    std::fs::write(lab.path("registrar.pem"), "nonsense").unwrap();
    assert!(lab.running().service().reload().is_err());
    assert_eq!(device.connect().await.peer_chain()[0], after);
    // Whoever watches hears of a certificate that ran out.
    assert_eq!(lab.admin("/health").await.0, 200);
    assert_eq!(lab.admin("/ready").await.0, 200);
    lab.hand
        .advance(std::time::Duration::from_secs(3 * 365 * 86_400));
    let (status, body) = lab.admin("/ready").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("is not valid now"), "{body}");
    lab.stop().await;
}

/// Requirements: BRSKI-5.6-32
pub(crate) async fn one_request_sixteen_times_at_once_is_one_exchange() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let request = device.request().await;
    let all = (0..16).map(|_| {
        let (device, request) = (device.clone(), request.clone());
        tokio::spawn(async move { device.ask_with(request).await })
    });
    let mut bodies = Vec::new();
    for one in all.collect::<Vec<_>>() {
        let got = one.await.unwrap();
        assert_eq!(got.status, 200, "{}", got.text());
        bodies.push(got.body);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(lab.masa.seen().len(), 1);
    lab.stop().await;
}

/// Requirements: BRSKI-11.4-01, BRSKI-5.8-09
pub(crate) async fn an_enrolled_device_that_starts_anew_is_noticed_and_its_history_asked_again() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    assert_eq!(device.ask().await.status, 200);
    assert_eq!(
        device
            .report(brski::paths::VOUCHER_STATUS, GOOD)
            .await
            .status,
        200
    );
    assert_eq!(
        device.report(brski::paths::ENROL_STATUS, GOOD).await.status,
        200
    );
    lab.line("SN-1", "audit-log").await;
    assert_eq!(lab.shown("SN-1").await["state"], "enrolled");
    let logs = || {
        let seen = lab.masa.seen();
        seen.iter()
            .filter(|seen| seen.path.ends_with("requestauditlog"))
            .count()
    };
    assert_eq!(logs(), 1);

    // A device that the domain knows as enrolled comes as if it were new.
    lab.masa.tells(History::Foreign);
    assert_eq!(device.ask().await.status, 200);
    let line = lab.line("SN-1", "bootstrap-again").await;
    assert_eq!(line["outcome"], "notice");
    assert_eq!(
        device
            .report(brski::paths::VOUCHER_STATUS, GOOD)
            .await
            .status,
        200
    );
    for _ in 0..200 {
        if logs() == 2 && lab.line("SN-1", "audit-log").await["outcome"] == "refused" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(lab.shown("SN-1").await["history"], "violated");

    // An operator can ask once more.
    assert_eq!(
        lab.run(&["device", "history", "SN-1"]).await,
        daemon::Outcome::No
    );
    lab.masa.tells(History::Clean);
    assert_eq!(
        lab.run(&["device", "history", "SN-1"]).await,
        daemon::Outcome::Yes
    );
    assert_eq!(logs(), 4);
    assert_eq!(lab.shown("SN-1").await["history"], "accepted");
    lab.stop().await;
}

/// Requirements: BRSKI-5.4-05
pub(crate) async fn a_masa_can_want_a_password_or_no_certificate() {
    let lab = Lab::prepare(ALLOW).await;
    std::fs::write(lab.path("vendors.d/password"), "swordfish\n").unwrap();
    let profile = lab.path("vendors.d/acme.toml");
    let text = std::fs::read_to_string(&profile).unwrap();
    let masa = "[masa]\nwithout_client_certificate = true\nuser = \"campus\"\n\
                password_file = \"password\"";
    std::fs::write(&profile, text.replace("[masa]", masa)).unwrap();
    let lab = lab.serving().await;
    assert_eq!(lab.device("SN-1").ask().await.status, 200);
    let seen = lab.masa.seen().pop().unwrap();
    assert!(seen.client.is_none());
    // campus:swordfish
    assert_eq!(seen.authorization, "Basic Y2FtcHVzOnN3b3JkZmlzaA==");
    lab.stop().await;
}

/// With several server identities the one that the device saw has to sign, or the MASA would take
/// the registrar for somebody in between.
///
/// Requirements: BRSKI-3-02
pub(crate) async fn the_identity_that_a_device_saw_signs_the_request_to_its_masa() {
    let lab = Lab::prepare(ALLOW).await;
    let ca = Certificate::load(lab.path("domain-ca.pem")).unwrap();
    let ca_key = SoftwareKey::load(lab.path("domain-ca.key"), None).unwrap();
    let key = SoftwareKey::generate(KeyKind::EcdsaP384).unwrap();
    let second = CertificateBuilder::new(
        Profile::Registrar,
        pki::issue::name("CN=second").unwrap(),
        key.public_key().clone(),
        rand::random(),
        NOW - time::Duration::hours(1),
        NOW + time::Duration::days(100),
    )
    .dns_name("localhost")
    .issue(&ca, &ca_key)
    .unwrap();
    std::fs::write(lab.path("second.pem"), second.to_pem()).unwrap();
    std::fs::write(
        lab.path("second.key"),
        key.to_pkcs8_pem().unwrap().as_bytes(),
    )
    .unwrap();
    let file = lab.path("registrar.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let pair = "[[identity.tls]]\ncertificate = \"second.pem\"\nkey = \"second.key\"\n\n";
    let text = text.replace(
        "[identity.audit_key]",
        &format!("{pair}[identity.audit_key]"),
    );
    std::fs::write(&file, text).unwrap();
    let lab = lab.serving().await;

    let device = lab.device("SN-1");
    let mut connection = device.connect().await;
    let seen = connection.peer_chain()[0].clone();
    // The two change places while the device is connected.
    for kind in ["pem", "key"] {
        let (first, second) = (format!("registrar.{kind}"), format!("second.{kind}"));
        std::fs::rename(lab.path(&first), lab.path("aside")).unwrap();
        std::fs::rename(lab.path(&second), lab.path(&first)).unwrap();
        std::fs::rename(lab.path("aside"), lab.path(&second)).unwrap();
    }
    lab.running().service().reload().unwrap();
    assert_ne!(device.connect().await.peer_chain()[0], seen);
    let request = device.sign(device.leaves(&seen));
    let media_type = device.envelope.media_type();
    let path = brski::paths::REQUEST_VOUCHER;
    let got = device
        .post(&mut connection, path, media_type, request)
        .await;
    assert_eq!(got.status, 200, "{}", got.text());
    let body = lab.masa.seen().pop().unwrap().body;
    let tolerances = artifacts::Tolerances::strict();
    let signed = artifacts::open(artifacts::Document::Request, &body, None, &tolerances).unwrap();
    assert_eq!(signed.dangerous_peek().signer_certificate().unwrap(), seen);
    lab.stop().await;
}
