//! The admin listener as a probe, a scraper and an operator see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::routing::get;
use bytes::Bytes;
use daemon::admin::AdminConfig;
use daemon::{Admin, CancellationToken, Metrics};
use http::{HeaderMap, Method};
use net::client::{ClientConfig, Response, fetch};

async fn ask(address: std::net::SocketAddr, path: &str) -> Response {
    let url = format!("http://{address}{path}").parse().expect("a URL");
    let config = ClientConfig::default();
    fetch(&url, Method::GET, HeaderMap::new(), Bytes::new(), &config)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn health_readiness_metrics_and_own_routes() {
    let database_up = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&database_up);
    let shutdown = CancellationToken::new();
    let listener = Admin::new(Metrics::new("usher_test"))
        .check("key", || async { Ok(()) })
        .check("database", move || {
            let up = seen.load(Ordering::Relaxed);
            async move {
                if up {
                    Ok(())
                } else {
                    Err("connection refused".to_owned())
                }
            }
        })
        .routes(axum::Router::new().route("/devices", get(|| async { "[]" })))
        .serve(&AdminConfig::default(), shutdown.clone())
        .await
        .expect("it listens");
    let address = listener.address();

    assert_eq!(ask(address, "/health").await.status, 200);
    assert_eq!(ask(address, "/devices").await.body, "[]");
    assert_eq!(ask(address, "/nothing").await.status, 404);
    let ready = ask(address, "/ready").await;
    assert_eq!(ready.status, 200);
    database_up.store(false, Ordering::Relaxed);
    let ready = ask(address, "/ready").await;
    assert_eq!(ready.status, 503);
    let report: serde_json::Value = serde_json::from_slice(&ready.body).expect("JSON");
    assert_eq!(
        report,
        serde_json::json!({
            "ready": false,
            "checks": [
                { "name": "key", "ok": true },
                { "name": "database", "ok": false, "detail": "connection refused" },
            ],
        })
    );
    let metrics = ask(address, "/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|text| text.contains("openmetrics"))
    );
    assert!(metrics.body.ends_with(b"# EOF\n"));
    let mut headers = HeaderMap::new();
    headers.insert(
        http::header::HOST,
        "attacker.example:80".parse().expect("a value"),
    );
    let url = format!("http://{address}/health").parse().expect("a URL");
    let config = ClientConfig::default();
    let rebound = fetch(&url, Method::GET, headers, Bytes::new(), &config).await;
    assert_eq!(rebound.expect("an answer").status, 403);
    shutdown.cancel();
    listener.stopped().await;
}
