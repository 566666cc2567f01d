//! SIGHUP reloads, SIGTERM stops.

use std::process::Command;
use std::sync::Arc;

use daemon::{CancellationToken, signals};
use tokio::sync::Notify;

fn send(signal: &str) {
    let status = Command::new("kill")
        .args([&format!("-{signal}"), &std::process::id().to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

#[tokio::test]
async fn hangup_reloads_and_terminate_stops() {
    let shutdown = CancellationToken::new();
    let reloaded = Arc::new(Notify::new());
    let hook = Arc::clone(&reloaded);
    signals::watch(shutdown.clone(), move || hook.notify_one()).expect("watching");
    send("HUP");
    reloaded.notified().await;
    assert!(!shutdown.is_cancelled());
    send("TERM");
    shutdown.cancelled().await;
}
