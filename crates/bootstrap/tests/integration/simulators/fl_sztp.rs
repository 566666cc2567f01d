//! The fl-sztp client at 07f2e5b: host-meta first, a new connection for each request, Accept, and
//! 204 for a report.

use super::opi_agent::{BODY, CONTENT, FILES, NEEDED, Taken, complete, progress, take};
use super::{Reply, Wire, base64, lab_with, post};
use crate::harness::Lab;

async fn once(lab: &Lab, request: &[u8]) -> Reply {
    let identity = lab.pki.idevid("FL-1").unwrap();
    Wire::open(lab.address(), Some(identity))
        .await
        .exchange(request)
        .await
}

fn request(host: &str, path: &str, body: &str) -> Vec<u8> {
    post(
        path,
        &[
            ("Host", host),
            ("User-Agent", "Go-http-client/1.1"),
            ("Content-Length", &body.len().to_string()),
            ("Accept", "application/yang-data+json"),
            ("Authorization", &format!("Basic {}", base64(b"FL-1:pass"))),
            ("Content-Type", "application/yang-data+json"),
            ("Accept-Encoding", "gzip"),
        ],
        body,
    )
}

#[tokio::test]
async fn it_discovers_asks_and_reports_over_connections_of_their_own() {
    let mut lab = lab_with("fl-sztp", NEEDED).await;
    lab.register_as("acme", "FL-1", "fl-sztp").await;
    lab.stage(CONTENT, FILES).await;
    lab.serve().await;
    let host = lab.address().to_string();
    let discovery = format!(
        "GET /.well-known/host-meta HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Accept: application/xrd+xml\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    let reply = once(&lab, discovery.as_bytes()).await;
    assert_eq!(reply.status, 200);
    // Its reader takes the first Link whose rel is restconf.
    let text = reply.text();
    let link = text.split("<Link ").nth(1).unwrap();
    assert!(
        link.contains("rel=\"restconf\"") || link.contains("rel='restconf'"),
        "{text}"
    );
    let (_, root) = link.split_once("href=").unwrap();
    let root = root[1..].split(['"', '\'']).next().unwrap();
    let rpc = |name: &str| format!("{root}/operations/ietf-sztp-bootstrap-server:{name}");
    let reply = once(&lab, &request(&host, &rpc("get-bootstrapping-data"), BODY)).await;
    assert!(
        matches!(take(&reply), Ok(Taken::Onboarding(_))),
        "{reply:?}"
    );
    for body in [progress("bootstrap-initiated", ""), complete()] {
        let reply = once(&lab, &request(&host, &rpc("report-progress"), &body)).await;
        // Anything but 204 is an error to it.
        assert_eq!(reply.status, 204);
        assert!(reply.body.is_empty());
    }
    assert_eq!(lab.state("FL-1").await, "complete");
    lab.stop().await;
}
