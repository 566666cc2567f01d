//! Who may join: list, rules, a person, a webhook, and vouchers that were loaded beforehand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use artifacts::{Assertion, Envelope, SerialNumber, Voucher, VoucherFields};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use daemon::{CancellationToken, Outcome};
use http::StatusCode;
use net::server::ListenerConfig;
use pki::Certificate;
use testkit::NOW;

use crate::harness::{Lab, Script};

/// Requirements: BRSKI-7.3-01, BRSKI-5.3-02, BRSKI-5.3-04, BRSKI-5.6-18, BRSKI-9.1.2-01
pub(crate) async fn list_rules_and_default_decide_in_this_order() {
    let lab = Lab::start(
        "[policy]\n[[policy.rule]]\nmanufacturer = \"acme\"\nserial = \"GOOD-*\"\naction = \"allow\"\n\
         [[policy.rule]]\nname = \"stolen\"\nserial = [\"BAD-*\"]\naction = \"deny\"\n",
    )
    .await;
    let list = lab.path("list.csv");
    std::fs::write(
        &list,
        "serial,vendor,action\nGOOD-13,acme,deny\nLISTED-1,,allow\n",
    )
    .unwrap();
    let imported = lab
        .run(&["device", "import", &list.display().to_string()])
        .await;
    assert_eq!(imported, Outcome::Yes);
    for (serial, status, code) in [
        ("GOOD-1", 200, ""),
        ("GOOD-13", 404, "registrar.device-denied"),
        ("LISTED-1", 200, ""),
        ("BAD-1", 404, "registrar.device-denied"),
        ("OTHER", 403, "registrar.vendor-denied"),
    ] {
        let calls = lab.masa.seen().len();
        let got = lab.device(serial).ask().await;
        assert_eq!(got.status, status, "{serial}: {}", got.text());
        if status != 200 {
            assert_eq!(got.code(), code, "{serial}");
            // BRSKI-5.3-01: no MASA hears of a device that may not join.
            assert_eq!(lab.masa.seen().len(), calls);
            assert_eq!(lab.shown(serial).await["state"], "refused");
        }
    }
    lab.stop().await;
}

/// Requirements: BRSKI-5.6-06, BRSKI-5.6-09, BRSKI-5.6-32
pub(crate) async fn a_device_waits_for_a_person_and_the_same_request_then_succeeds() {
    let lab = Lab::start("[policy]\ndefault = \"ask\"\nretry_after_seconds = 17\n").await;
    let device = lab.device("SN-1");
    let request = device.request().await;
    for _ in 0..3 {
        let got = device.ask_with(request.clone()).await;
        assert_eq!((got.status, got.header("retry-after")), (202, Some("17")));
    }
    assert!(lab.masa.seen().is_empty());
    let shown = lab.shown("SN-1").await;
    assert_eq!(
        (&shown["state"], &shown["code"]),
        (&"pending".into(), &"registrar.pending".into())
    );
    assert!(
        shown["next_action"]
            .as_str()
            .unwrap()
            .contains("device approve")
    );

    let approved = lab
        .run(&[
            "device", "approve", "SN-1", "--by", "ann", "--note", "ticket 7",
        ])
        .await;
    assert_eq!(approved, Outcome::Yes);
    let got = device.ask_with(request).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let shown = lab.shown("SN-1").await;
    assert_eq!(shown["decided_by"], "ann");
    assert_eq!(shown["state"], "vouchered");

    // Another one is denied, and what is denied stays denied.
    let other = lab.device("SN-2");
    let request = other.request().await;
    assert_eq!(other.ask_with(request.clone()).await.status, 202);
    assert_eq!(
        lab.run(&["device", "deny", "SN-2", "--by", "ann"]).await,
        Outcome::Yes
    );
    let got = other.ask_with(request).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (404, "registrar.device-denied")
    );
    assert_eq!(other.ask().await.code(), "registrar.device-denied");
    assert_eq!(lab.shown("SN-2").await["state"], "denied");
    lab.stop().await;
}

pub(crate) async fn nobody_waits_for_ever() {
    let lab = Lab::start("[policy]\ndefault = \"ask\"\npending_max_hours = 2\n").await;
    let device = lab.device("SN-1");
    let request = device.request().await;
    assert_eq!(device.ask_with(request.clone()).await.status, 202);
    lab.hand.advance(Duration::from_secs(3 * 3600));
    let got = device.ask_with(request).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "registrar.pending-expired")
    );
    // With a new request it waits anew.
    assert_eq!(device.ask().await.status, 202);
    lab.stop().await;
}

/// A webhook of the test's own.
struct Hook {
    url: String,
    asked: Arc<Mutex<Vec<serde_json::Value>>>,
    _shutdown: tokio_util_drop::DropGuard,
}

/// Stops a listener at the end of its test.
mod tokio_util_drop {
    pub(super) struct DropGuard(pub(super) daemon::CancellationToken);

    impl Drop for DropGuard {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
}

type Asked = (
    Arc<Mutex<Vec<serde_json::Value>>>,
    StatusCode,
    &'static str,
    Duration,
);

async fn hook(status: StatusCode, answer: &'static str, delay: Duration) -> Hook {
    async fn decide(State(state): State<Asked>, body: bytes::Bytes) -> Response {
        let (asked, status, answer, delay) = state;
        asked
            .lock()
            .unwrap()
            .push(serde_json::from_slice(&body).unwrap());
        tokio::time::sleep(delay).await;
        (status, answer).into_response()
    }
    let asked = Arc::new(Mutex::new(Vec::new()));
    let state: Asked = (Arc::clone(&asked), status, answer, delay);
    let router = axum::Router::new().fallback(decide).with_state(state);
    let config = ListenerConfig::plain("127.0.0.1:0".parse().unwrap());
    let shutdown = CancellationToken::new();
    let listener = net::server::serve(config, router, shutdown.clone())
        .await
        .unwrap();
    Hook {
        url: format!("http://{}/decide", listener.address()),
        asked,
        _shutdown: tokio_util_drop::DropGuard(shutdown),
    }
}

pub(crate) async fn a_webhook_decides_and_its_failure_has_a_stated_outcome() {
    let now = Duration::ZERO;
    let late = Duration::from_secs(30);
    let ok = StatusCode::OK;
    for (status, answer, delay, on_failure, expected, code) in [
        (ok, "{\"decision\":\"allow\"}", now, "deny", 200, ""),
        (
            ok,
            "{\"decision\":\"ask\"}",
            now,
            "deny",
            202,
            "registrar.pending",
        ),
        (
            ok,
            "{\"decision\":\"deny\",\"reason\":\"not in NetBox\"}",
            now,
            "allow",
            403,
            "registrar.webhook-denied",
        ),
        (
            ok,
            "{\"decision\":\"perhaps\"}",
            now,
            "deny",
            503,
            "registrar.webhook-failed",
        ),
        (ok, "yes", now, "ask", 202, "registrar.pending"),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "{\"decision\":\"allow\"}",
            now,
            "deny",
            503,
            "registrar.webhook-failed",
        ),
        (
            ok,
            "{\"decision\":\"allow\"}",
            late,
            "deny",
            503,
            "registrar.webhook-failed",
        ),
        (ok, "{\"decision\":\"deny\"}", late, "allow", 200, ""),
    ] {
        let hook = hook(status, answer, delay).await;
        let lab = Lab::start(&format!(
            "[policy]\ndefault = \"webhook\"\n[policy.webhook]\nurl = \"{}\"\ntimeout_seconds = 1\n\
             on_failure = \"{on_failure}\"\n",
            hook.url
        ))
        .await;
        let got = lab.device("SN-1").ask().await;
        let line = lab.line("SN-1", "webhook").await;
        assert_eq!(
            got.status,
            expected,
            "{answer} {on_failure}: {} {line:#}",
            got.text()
        );
        if !code.is_empty() {
            assert_eq!(lab.shown("SN-1").await["code"], code);
        }
        let asked = hook.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0]["serial"], "SN-1");
        assert_eq!(asked[0]["vendor"], "acme");
        if expected == 403 {
            // The reason is the operator's and stays inside.
            assert!(!got.text().contains("NetBox"));
            let line = lab.line("SN-1", "webhook").await;
            assert_eq!(line["detail"]["reason"], "not in NetBox");
        }
        lab.stop().await;
    }
}

/// A nonceless voucher as a MASA sells it.
fn offline(lab: &Lab, serial: &str, pin: &Certificate, days: i64) -> Vec<u8> {
    let mut fields = VoucherFields::new(SerialNumber::new(serial).unwrap());
    fields.created_on = Some(NOW);
    fields.assertion = Some(Assertion::Verified);
    fields.pinned_domain_cert = Some(pin.clone());
    fields.expires_on = Some(NOW + time::Duration::days(days));
    let voucher = Voucher::new(fields).unwrap();
    artifacts::sign_voucher(&voucher, Envelope::Cms, &lab.pki.masa_nonceless_signer, NOW).unwrap()
}

/// Requirements: BRSKI-5.6.2-06, BRSKI-3.1-01
pub(crate) async fn vouchers_loaded_beforehand_take_the_place_of_a_masa_that_is_away() {
    for mode in ["fallback", "prefer", "only"] {
        let lab = Lab::prepare(&format!(
            "[policy]\ndefault = \"allow\"\noffline = \"{mode}\"\n"
        ))
        .await;
        let signer = lab.pki.masa_nonceless_signer.chain.last().unwrap().to_pem();
        let anchors = lab.path("nonceless.pem");
        std::fs::write(&anchors, signer).unwrap();
        let anchors = anchors.display().to_string();
        let imported = lab
            .run(&[
                "trust", "import", &anchors, "--vendor", "acme", "--use", "voucher",
            ])
            .await;
        assert_eq!(imported, Outcome::Yes);
        let domain = Certificate::load(lab.path("domain-ca.pem")).unwrap();
        let vouchers = lab.path("vouchers");
        std::fs::create_dir(&vouchers).unwrap();
        let voucher = offline(&lab, "SN-1", &domain, 365);
        std::fs::write(vouchers.join("SN-1.vcj"), &voucher).unwrap();
        let folder = vouchers.display().to_string();
        assert_eq!(lab.run(&["voucher", "import", &folder]).await, Outcome::Yes);
        // Once more is no error.
        assert_eq!(lab.run(&["voucher", "import", &folder]).await, Outcome::Yes);
        assert_eq!(lab.run(&["voucher", "list"]).await, Outcome::Yes);

        let other = lab.pki.other_domain("Other").unwrap().ca.chain[0].clone();
        for (name, bytes) in [
            ("SN-2.vcj", offline(&lab, "SN-2", &domain, -1)),
            ("SN-3.vcj", offline(&lab, "SN-3", &other, 365)),
            ("SN-4.vcj", offline(&lab, "SN-5", &domain, 365)),
            ("SN-6.vcj", voucher[..200].to_vec()),
            ("SN-7.vcj", b"garbage".to_vec()),
        ] {
            let file = lab.path(name);
            std::fs::write(&file, bytes).unwrap();
            let file = file.display().to_string();
            assert_eq!(
                lab.run(&["voucher", "import", &file]).await,
                Outcome::No,
                "{name}"
            );
        }

        let lab = lab.serving().await;
        if mode == "fallback" {
            lab.masa.goes_away();
        }
        lab.masa.plays(Script::Status(500, "must not be asked"));
        let device = lab.device("SN-1");
        let request = device.request().await;
        let got = device.ask_with(request.clone()).await;
        assert_eq!(
            (got.status, &got.body[..]),
            (200, &voucher[..]),
            "{mode}: {}",
            got.text()
        );
        assert_eq!(device.ask_with(request).await.body, got.body);
        assert!(lab.masa.seen().is_empty());
        let got = lab.device("SN-9").ask().await;
        let (status, code) = match mode {
            "only" => (503, "registrar.offline-voucher-missing"),
            "prefer" => (502, "registrar.masa-refused"),
            _ => (504, "registrar.masa-unreachable"),
        };
        assert_eq!((got.status, got.code().as_str()), (status, code), "{mode}");
        lab.stop().await;
    }
}
