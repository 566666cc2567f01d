//! NetEngine: XML within XML, images over HTTPS only, and by name a wrapper and one hash for each
//! URI.

use super::{Reply, Wire, element, lab_with, octets_of_content_info, post, unbase64};
use crate::content_world::{FOLDER, stage};
use crate::harness::{GET, Lab};

const FILES: &str = r#"
[[image]]
name = "ne"
uri = ["https://images.example.net/ne.cc", "https://mirror.example.net/ne.cc"]
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

[[bundle]]
name = "ne"
image = "ne"

[[rule]]
name = "all"
bundle = "ne"
"#;

async fn lab(enable: &[&str]) -> Lab {
    let mut lab = lab_with("huawei", enable).await;
    lab.register_as("acme", "HW-1", "huawei").await;
    stage(&lab, &format!("{FOLDER}{FILES}")).await;
    lab.serve().await;
    lab
}

async fn ask(lab: &Lab) -> Reply {
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("HW-1").unwrap();
    let body = "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/>";
    let request = post(
        GET,
        &[
            ("Host", &host),
            ("Content-Type", "application/yang-data+xml"),
            ("Content-Length", &body.len().to_string()),
        ],
        body,
    );
    Wire::open(lab.address(), Some(identity))
        .await
        .exchange(&request)
        .await
}

fn content(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let der = unbase64(&element(&reply.text(), "conveyed-information").unwrap());
    String::from_utf8(octets_of_content_info(&der).unwrap()).unwrap()
}

#[tokio::test]
async fn as_it_is_delivered_the_content_keeps_to_the_model() {
    let lab = lab(&[]).await;
    let text = content(&ask(&lab).await);
    assert!(text.contains("<onboarding-information xmlns="), "{text}");
    assert!(!text.contains("<conveyed-information"));
    assert_eq!(text.matches("<image-verification>").count(), 1);
    assert_eq!(text.matches("<download-uri>").count(), 2);
    lab.stop().await;
}

#[tokio::test]
async fn the_wrapper_and_a_hash_for_each_file_are_there_by_name() {
    let lab = lab(&[
        "wrapped-conveyed-information",
        "positional-image-verification",
    ])
    .await;
    let text = content(&ask(&lab).await);
    assert!(text.starts_with("<conveyed-information xmlns="), "{text}");
    assert!(text.trim_end().ends_with("</conveyed-information>"));
    assert_eq!(text.matches("<image-verification>").count(), 2);
    lab.stop().await;
}

/// An image that has a source without TLS is not given.
#[tokio::test]
async fn images_come_over_https_only() {
    let lab = lab(&[]).await;
    lab.change(
        "UPDATE device SET site = 'bonn' WHERE serial = $1",
        store::params!["HW-1"],
    )
    .await;
    let reply = ask(&lab).await;
    assert!((400..500).contains(&reply.status), "{}", reply.status);
    assert!(lab.line().await.next.contains("https-images"));
    lab.stop().await;
}
