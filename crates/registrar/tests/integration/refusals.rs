//! Devices and MASAs that are refused, each for its own reason.

use std::time::Duration;

use artifacts::SerialNumber;
use pki::Identity;

use crate::harness::{Device, History, Lab, Masa, Script, find};

const ALLOW: &str = "[policy]\ndefault = \"allow\"\n";
const GOOD: &str = "{\"version\":1,\"status\":true}";

impl Lab {
    fn with_identity(&self, identity: Identity, serial: &str) -> Device {
        Device::new(identity, serial, self.address())
    }
}

/// The state of the only device in the list that satisfies `filter`.
async fn only(lab: &Lab, filter: &str) -> serde_json::Value {
    let (_, body) = lab.admin(&format!("/api/devices?{filter}")).await;
    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value["devices"].as_array().unwrap().len(), 1, "{body}");
    value["devices"][0].clone()
}

/// Requirements: BRSKI-11.5-01, BRSKI-5.1-07, BRSKI-5.1-06, BRSKI-7.3-02, BRSKI-5.3-01
pub(crate) async fn strangers_are_refused_seen_and_never_lead_to_a_masa() {
    let lab = Lab::start(ALLOW).await;
    let rogue = lab.with_identity(lab.pki.self_signed_device("SN-R").unwrap(), "SN-R");
    let got = rogue.ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.manufacturer-unknown")
    );
    let seen = only(&lab, "state=untrusted").await;
    assert_eq!(seen["serial"], "SN-R");
    assert_eq!(seen["code"], "registrar.manufacturer-unknown");
    assert!(
        seen["next_action"]
            .as_str()
            .unwrap()
            .contains("trust import")
    );
    // The correlation id in the device's answer leads to the line in the timeline.
    let line = lab.line("SN-R", "voucher-request").await;
    assert!(
        got.text().contains(line["correlation"].as_str().unwrap()),
        "{}",
        got.text()
    );

    // A forger copies the name of the manufacturer's CA: the signature does not hold.
    let forged = lab.with_identity(lab.pki.forged_idevid("SN-F").unwrap(), "SN-F");
    assert_eq!(forged.ask().await.status, 403);

    let mut nobody = lab.device("SN-N");
    let body = nobody.request().await;
    nobody.identity = None;
    let got = nobody.ask_with(body).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.no-client-certificate")
    );

    assert!(lab.masa.seen().is_empty());
    let (_, metrics) = lab.admin("/metrics").await;
    let counted = "code=\"registrar.manufacturer-unknown\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    lab.stop().await;
}

/// Requirements: BRSKI-2.3.1-04, BRSKI-5.2-11, BRSKI-5.2-12, BRSKI-5.2-13, BRSKI-5.2-14,
/// BRSKI-5.2-15, BRSKI-5.5-11
pub(crate) async fn a_request_that_does_not_fit_its_device_or_its_registrar_is_refused() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let registrar = device.connect().await.peer_chain()[0].clone();
    let leaves = || device.leaves(&registrar);

    let mut serial = leaves();
    serial.serial_number = SerialNumber::new("SN-2").unwrap();
    let mut assertion = leaves();
    assertion.assertion = None;
    let mut proximity = leaves();
    proximity.proximity_registrar_cert = None;
    let mut other = leaves();
    let stranger = lab.pki.other_domain("Mallory").unwrap();
    other.proximity_registrar_cert = Some(stranger.registrar.chain[0].clone());
    let mut nonce = leaves();
    nonce.nonce = None;

    for (fields, status, code) in [
        (serial, 403, "registrar.serial-mismatch"),
        (assertion, 401, "registrar.assertion-not-proximity"),
        (proximity, 401, "registrar.proximity-missing"),
        (other, 401, "registrar.proximity-mismatch"),
        (nonce, 400, "registrar.nonce-missing"),
    ] {
        let mut connection = device.connect().await;
        let media_type = device.envelope.media_type();
        let path = brski::paths::REQUEST_VOUCHER;
        let got = device
            .post(&mut connection, path, media_type, device.sign(fields))
            .await;
        assert_eq!((got.status, got.code().as_str()), (status, code));
        // BRSKI-5.2-12: after the 401 the connection is closed.
        assert_eq!(
            got.header("connection") == Some("close"),
            status == 401,
            "{code}"
        );
        let line = lab.line("SN-1", "voucher-request").await;
        assert_eq!(line["code"], code);
    }

    // Signed by one device, sent by another.
    let thief = lab.clone_of("SN-1");
    let stolen = device.sign(leaves());
    let got = thief.ask_with(stolen).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.signer-mismatch")
    );
    assert!(lab.masa.seen().is_empty());
    lab.stop().await;
}

/// Requirements: BRSKI-5-07, BRSKI-5.6-05
pub(crate) async fn a_clone_of_a_serial_number_and_a_replay_are_refused() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let request = device.request().await;
    assert_eq!(device.ask_with(request.clone()).await.status, 200);

    let clone = lab.clone_of("SN-1");
    let got = clone.ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.clone-suspected")
    );

    // The real device is not locked out by its clone.
    assert_eq!(device.ask_with(request.clone()).await.status, 200);
    assert_eq!(
        device
            .report(brski::paths::VOUCHER_STATUS, GOOD)
            .await
            .status,
        200
    );
    // When the exchange is over its request is worth nothing any more.
    let got = device.ask_with(request).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.request-replayed")
    );

    // The operator found out that the board was exchanged, and says so.
    let approved = lab
        .run(&["device", "approve", "SN-1", "--rebind", "--by", "ann"])
        .await;
    assert_eq!(approved, daemon::Outcome::Yes);
    // --rebind takes the key that was presented last: ask with the clone once more before.
    assert_eq!(clone.ask().await.status, 403);
    lab.run(&["device", "approve", "SN-1", "--rebind", "--by", "ann"])
        .await;
    assert_eq!(clone.ask().await.status, 200);
    assert_eq!(device.ask().await.code(), "registrar.clone-suspected");
    lab.stop().await;
}

/// Requirements: BRSKI-5.6-04, BRSKI-5.4-06, BRSKI-5.6.2-06, BRSKI-5.4-01
pub(crate) async fn whatever_a_masa_answers_its_device_gets_a_clear_refusal_and_others_go_on() {
    let lab = Lab::start(ALLOW).await;
    let cases = [
        (
            Script::Status(403, "not sold to you"),
            403,
            "registrar.masa-refused",
        ),
        (
            Script::Status(404, "never heard of it"),
            404,
            "registrar.masa-refused",
        ),
        (
            Script::Status(401, "who are you"),
            502,
            "registrar.masa-unauthorised",
        ),
        (Script::Status(500, "oops"), 502, "registrar.masa-refused"),
        (
            Script::Status(302, "over there"),
            502,
            "registrar.masa-refused",
        ),
        (
            Script::Bytes(b"garbage".to_vec()),
            502,
            "registrar.masa-answer",
        ),
        (Script::Bytes(Vec::new()), 502, "registrar.masa-answer"),
        (Script::Huge(2 * 1024 * 1024), 502, "registrar.masa-answer"),
        (Script::WrongSerial, 502, "registrar.voucher-unfit"),
        (Script::WrongNonce, 502, "registrar.voucher-unfit"),
        (Script::WrongPin, 502, "registrar.voucher-unfit"),
        (Script::WrongSigner, 502, "registrar.voucher-unfit"),
        (Script::Tampered, 502, "registrar.masa-answer"),
    ];
    for (index, (script, status, code)) in cases.into_iter().enumerate() {
        let serial = format!("SN-{index}");
        let device = lab.device(&serial);
        lab.masa.plays(script.clone());
        let request = device.request().await;
        let got = device.ask_with(request.clone()).await;
        assert_eq!(
            (got.status, got.code().as_str()),
            (status, code),
            "{script:?}"
        );
        assert!(
            !got.text().contains("oops"),
            "what the MASA said stays inside"
        );
        let shown = lab.shown(&serial).await;
        assert_eq!(shown["code"], code, "{script:?}: {shown:#}");
        // The same request gets its voucher as soon as the MASA comes to its senses.
        lab.masa.plays(Script::Honest);
        let got = device.ask_with(request).await;
        assert_eq!(got.status, 200, "{script:?}: {}", got.text());
    }
    lab.stop().await;
}

/// Requirements: BRSKI-5.6-04
pub(crate) async fn a_masa_that_is_slow_or_away_holds_back_its_own_devices_only() {
    let lab = Lab::start(ALLOW).await;
    lab.masa.plays(Script::Slow(Duration::from_secs(60)));
    let slow = lab.device("SN-SLOW");
    let waiting = tokio::spawn(async move { slow.ask().await });
    // Meanwhile others are served, and refused.
    let rogue = lab.with_identity(lab.pki.self_signed_device("SN-R").unwrap(), "SN-R");
    let begun = std::time::Instant::now();
    assert_eq!(rogue.ask().await.status, 403);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let got = waiting.await.unwrap();
    assert_eq!(
        (got.status, got.code().as_str()),
        (504, "registrar.masa-unreachable")
    );
    assert!(got.header("retry-after").is_some());
    assert_eq!(lab.shown("SN-SLOW").await["state"], "failed");

    lab.masa.goes_away();
    let got = lab.device("SN-2").ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (504, "registrar.masa-unreachable")
    );
    lab.stop().await;
}

/// Requirements: BRSKI-5.4-02, BRSKI-2.5.3-01, CBR-095
pub(crate) async fn a_masa_with_another_name_or_another_anchor_gets_nothing() {
    let lab = Lab::prepare(ALLOW).await;
    let mut lab = lab;
    // Under the right CA, with another host's name.
    let mut options = testkit::PkiOptions::new(testkit::NOW);
    options.masa_host = "elsewhere.example".to_owned();
    options.masa_url = Some(crate::harness::MASA_HOST.to_owned());
    let strange = std::sync::Arc::new(testkit::Pki::new(options).unwrap());
    let impostor = Masa::start(
        std::sync::Arc::clone(&strange),
        strange.masa_tls.clone(),
        lab.clock.clone(),
    )
    .await;
    lab.masa = impostor;
    let text = std::fs::read_to_string(lab.path("registrar.toml")).unwrap();
    let (kept, _) = text.split_once("[masa.addresses]").unwrap();
    let text = format!(
        "{kept}[masa.addresses]\n\"{}\" = \"{}\"\n",
        crate::harness::MASA_HOST,
        lab.masa.address
    );
    std::fs::write(lab.path("registrar.toml"), text).unwrap();
    let lab = lab.serving().await;
    // The certificate does not lead to the vendor's anchors for MASAs.
    let got = lab.device("SN-1").ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (502, "registrar.masa-untrusted")
    );

    // Now it does, but it bears another name; and the manufacturer's own CA vouches for nothing.
    let anchor = strange.masa_tls.chain.last().unwrap().to_pem();
    std::fs::write(lab.path("vendors.d/acme/masa-tls.pem"), anchor).unwrap();
    lab.running().service().reload().unwrap();
    let got = lab.device("SN-2").ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (502, "registrar.masa-untrusted")
    );
    let line = lab.line("SN-2", "masa-request").await;
    assert!(
        line["summary"].as_str().unwrap().contains("name"),
        "{line:#}"
    );
    assert!(lab.masa.seen().is_empty());
    lab.stop().await;
}

/// Requirements: BRSKI-5.8.3-01, BRSKI-5.8.3-02, BRSKI-5.8.3-04, BRSKI-5.8.1-08, BRSKI-5.8.1-09,
/// BRSKI-5-09
pub(crate) async fn a_history_that_breaks_the_policy_is_an_alarm_and_ends_in_refusal() {
    let lab = Lab::start(ALLOW).await;
    for (serial, history, state, code) in [
        (
            "SN-1",
            History::Foreign,
            "refused",
            "registrar.audit-violation",
        ),
        (
            "SN-2",
            History::Empty,
            "refused",
            "registrar.audit-violation",
        ),
        (
            "SN-3",
            History::None,
            "failed",
            "registrar.audit-unavailable",
        ),
        (
            "SN-4",
            History::Text("{\"what\":".to_owned()),
            "failed",
            "registrar.audit-unavailable",
        ),
        (
            "SN-5",
            History::Elsewhere("https://127.0.0.1:1/steal".to_owned()),
            "failed",
            "registrar.audit-unavailable",
        ),
    ] {
        lab.masa.tells(history.clone());
        let device = lab.device(serial);
        assert_eq!(device.ask().await.status, 200);
        assert_eq!(
            device
                .report(brski::paths::VOUCHER_STATUS, GOOD)
                .await
                .status,
            200
        );
        let line = lab.line(serial, "audit-log").await;
        assert_eq!(line["code"], code, "{history:?}: {line:#}");
        let shown = lab.shown(serial).await;
        assert_eq!(
            (shown["state"].as_str(), shown["code"].as_str()),
            (Some(state), Some(code))
        );
    }
    lab.stop().await;
}

/// Requirements: BRSKI-2.6.2-02, ESC-005
pub(crate) async fn an_expired_idevid_is_refused_unless_its_profile_says_otherwise() {
    let lab = Lab::start(ALLOW).await;
    let short = lab.pki.idevid_with("SN-1", |idevid| idevid).unwrap();
    let device = lab.with_identity(short, "SN-1");
    assert_eq!(device.ask().await.status, 200);
    // All IDevIDs of the test's manufacturer begin in 2026: before that they are not valid.
    lab.hand.set(time::macros::datetime!(2020-01-01 00:00 UTC));
    let got = lab.device("SN-2").ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.idevid-invalid")
    );
    let profile = lab.path("vendors.d/acme.toml");
    let text = std::fs::read_to_string(&profile).unwrap();
    let text = text.replace(
        "accept_expired_idevid = false",
        "accept_expired_idevid = true",
    );
    std::fs::write(&profile, text).unwrap();
    lab.running().service().reload().unwrap();
    // The device is believed now; the MASA's own certificates are not yet valid in 2020.
    let got = lab.device("SN-2").ask().await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (502, "registrar.masa-untrusted")
    );
    lab.stop().await;
}

/// A bit that flips anywhere in a request never yields a voucher, a 500 or an empty answer.
pub(crate) async fn no_flipped_bit_gets_through() {
    let lab = Lab::start(ALLOW).await;
    let device = lab.device("SN-1");
    let good = device.request().await;
    // The content and the signed attributes; certificates beside the signer's are not signed.
    let content = find(&good, b"ietf-voucher-request").unwrap();
    for offset in (0..400).step_by(23) {
        let mut bad = good.clone();
        bad[content + offset] ^= 0x04;
        let got = device.ask_with(bad).await;
        assert!((400..500).contains(&got.status), "{offset}: {}", got.status);
        assert!(
            got.code().starts_with("registrar."),
            "{offset}: {}",
            got.text()
        );
    }
    assert!(lab.masa.seen().is_empty());
    assert_eq!(device.ask_with(good).await.status, 200);
    lab.stop().await;
}

/// A slow MASA with many devices leaves room for the devices of others.
pub(crate) async fn a_crowd_before_a_slow_masa_does_not_take_every_place() {
    let lab = Lab::prepare(ALLOW).await;
    let file = lab.path("registrar.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("[masa]\n", "[masa]\nconcurrency_max_per_vendor = 1\n");
    std::fs::write(&file, text).unwrap();
    let lab = lab.serving().await;
    lab.masa.plays(Script::Slow(Duration::from_secs(60)));
    let crowd: Vec<_> = (0..12)
        .map(|number| {
            let device = lab.device(&format!("SN-{number}"));
            tokio::spawn(async move { device.ask().await })
        })
        .collect();
    let mut codes = Vec::new();
    for one in crowd {
        let got = one.await.unwrap();
        assert!(got.header("retry-after").is_some(), "{}", got.text());
        codes.push(got.code());
    }
    codes.sort();
    codes.dedup();
    assert_eq!(codes, ["registrar.busy", "registrar.masa-unreachable"]);
    lab.stop().await;
}
