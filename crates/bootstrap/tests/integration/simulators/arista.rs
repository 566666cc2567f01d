//! EOS as a test library of its maker played its server in 2021: XML, id-data, `replace` only, and
//! with the switches that break the model, line feeds in base64 and capitals in the namespace.

use super::{Wire, content_type_by_openssl, element, lab_with, post, unbase64};
use crate::content_world::{FOLDER, stage, voucher};
use crate::harness::{GET, Lab};

const LIBRARYS: &str = "urn:ietf:params:xml:ns:yang:ietf-SZTP-bootstrap-server";
const MODELS: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server";

async fn lab(enable: &[&str]) -> Lab {
    let mut lab = lab_with("arista", enable).await;
    let id = lab.register_as("acme", "AR-1", "arista").await;
    voucher(&lab, id, "AR-1").await;
    let everybody = "\n[[rule]]\nname = \"all\"\nbundle = \"shared\"\n";
    stage(&lab, &format!("{FOLDER}{everybody}")).await;
    lab.serve().await;
    lab
}

async fn ask(lab: &Lab, body: &str) -> super::Reply {
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("AR-1").unwrap();
    let request = post(
        GET,
        &[
            ("Host", &host),
            ("Content-Type", "application/yang-data+json"),
            ("Content-Length", &body.len().to_string()),
        ],
        body,
    );
    Wire::open(lab.address(), Some(identity))
        .await
        .exchange(&request)
        .await
}

const INPUT: &str = r#"{"ietf-sztp-bootstrap-server:input":{}}"#;

#[tokio::test]
async fn as_it_is_delivered_the_reply_keeps_to_the_model() {
    let lab = lab(&[]).await;
    let reply = ask(&lab, INPUT).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.content_type(), "application/yang-data+xml");
    let text = reply.text();
    assert!(text.contains(MODELS) && !text.contains(LIBRARYS));
    let conveyed = element(&text, "conveyed-information").unwrap();
    assert!(!conveyed.contains('\n'));
    assert!(content_type_by_openssl(&lab, &unbase64(&conveyed)).contains("pkcs7-data"));
    assert!(element(&text, "owner-certificate").is_some());
    assert_eq!(ask(&lab, "whatever it sends").await.status, 400);
    lab.stop().await;
}

#[tokio::test]
async fn as_the_library_had_it_by_name_only() {
    let lab = lab(&[
        "line-feeds-in-reply",
        "namespace-case-in-reply",
        "ignore-request-body",
    ])
    .await;
    for body in [INPUT, "whatever it sends"] {
        let reply = ask(&lab, body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = reply.text();
        assert!(text.contains(LIBRARYS) && !text.contains(MODELS));
        for name in [
            "conveyed-information",
            "owner-certificate",
            "ownership-voucher",
        ] {
            let wrapped = element(&text, name).unwrap();
            assert!(
                wrapped
                    .trim()
                    .lines()
                    .all(|line| (1..=64).contains(&line.len()))
            );
            assert!(!unbase64(&wrapped.replace('\n', "")).is_empty());
        }
    }
    lab.stop().await;
}

/// A configuration that is to be merged is not given.
#[tokio::test]
async fn merging_is_not_for_it() {
    let lab = lab(&[]).await;
    lab.change(
        "UPDATE device SET site = 'bonn' WHERE serial = $1",
        store::params!["AR-1"],
    )
    .await;
    let reply = ask(&lab, INPUT).await;
    assert!((400..500).contains(&reply.status), "{}", reply.status);
    let line = lab.line().await;
    assert!(line.next.contains("replace-only"), "{}", line.next);
    lab.stop().await;
}
