//! Alarms reach the operator's webhook, once it takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use net::CancellationToken;
use net::server::{ListenerConfig, ServerIdentities, serve};
use testkit::Pki;
use tokio::sync::mpsc;

use crate::support::{Ask, Masa, NOW, assert_refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_are_delivered_until_they_are_taken() {
    let receiver = Pki::p256(NOW).unwrap();
    let (sender, mut received) = mpsc::unbounded_channel::<(Option<String>, serde_json::Value)>();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let router = Router::new().route(
        "/alarm",
        post(move |headers: HeaderMap, body: Bytes| {
            let (sender, count) = (sender.clone(), Arc::clone(&count));
            async move {
                // The first attempt fails: it has to come again.
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    return StatusCode::SERVICE_UNAVAILABLE;
                }
                let token = headers
                    .get("authorization")
                    .map(|v| v.to_str().unwrap().to_owned());
                sender
                    .send((token, serde_json::from_slice(&body).unwrap()))
                    .unwrap();
                StatusCode::NO_CONTENT
            }
        }),
    );
    let stop = CancellationToken::new();
    let identities = ServerIdentities::new(std::slice::from_ref(&receiver.masa_tls)).unwrap();
    let config = ListenerConfig::new(([127, 0, 0, 1], 0).into(), identities);
    let listener = serve(config, router, stop.clone()).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    let anchors = files.path().join("ca.pem");
    std::fs::write(&anchors, receiver.manufacturer_root.chain[0].to_pem()).unwrap();
    let token = files.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let url = format!("https://localhost:{}/alarm", listener.address().port());
    let masa = Masa::with(|config| {
        config.alarms.webhook = Some(url);
        config.alarms.anchors = Some(anchors);
        config.alarms.token_file = Some(token);
    })
    .await;
    let buyer = masa.pki.other_domain("Buyer").unwrap();
    let thief = masa.pki.other_domain("Thief").unwrap();
    masa.owner("buyer", &buyer, false).await;
    masa.device_rows(&["SN-1"], Some("buyer"), "").await;
    let ask = Ask::new(&masa.pki, &thief, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
    assert_refused(&masa.ask(&thief, &ask).await, 403, "masa.not-the-owner");
    // The clock of the test stands still, so the second attempt is due when it is moved on.
    let taken = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        loop {
            tokio::select! {
                taken = received.recv() => return taken.unwrap(),
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {
                    masa.hand.advance(std::time::Duration::from_secs(3));
                }
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(taken.0.as_deref(), Some("Bearer s3cret"));
    assert_eq!(taken.1["alarm"], "sold-to-another");
    assert_eq!(taken.1["serial"], "SN-1");
    assert!(taken.1["id"].is_i64() && taken.1["raised"].is_string());
    assert!(calls.load(Ordering::SeqCst) >= 2);
    stop.cancel();
    masa.stop().await;
}

#[tokio::test]
async fn a_webhook_without_anchors_or_tls_is_refused() {
    for (url, anchors) in [
        ("http://x/", true),
        ("https://x/", false),
        ("nonsense", true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = masa::InitOptions::new(directory.path());
        let made = masa::init(&options, NOW).await.unwrap();
        let flags = daemon::config::Flags::new();
        let mut config = masa::Config::load(&made.config, &flags).unwrap();
        config.alarms.webhook = Some(url.to_owned());
        config.alarms.anchors = anchors.then(|| "masa-ca.pem".into());
        let error = masa::serve(config, daemon::Clock::fixed(NOW))
            .await
            .unwrap_err();
        assert_eq!(pki::Coded::code(&error), "masa.usage", "{url}: {error}");
    }
}
