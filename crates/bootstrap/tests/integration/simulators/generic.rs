//! A device that does what the standards say and takes nothing else, against a profile with no
//! quirk on.

use artifacts::Encoding;
use sztp::Leniency;
use sztp::message::GetBootstrappingDataOutput;

use super::{Wire, lab_with, post};
use crate::harness::{GET, REPORT};

/// Requirements: SZTP-8040-3.6.1-01, SZTP-8040-5.2-02
#[tokio::test]
async fn it_is_served_in_both_encodings() {
    let mut lab = lab_with("generic", &[]).await;
    lab.register("GEN-1").await;
    lab.stage(super::opi_agent::CONTENT, super::opi_agent::FILES)
        .await;
    lab.serve().await;
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("GEN-1").unwrap();
    let mut wire = Wire::open(lab.address(), Some(identity)).await;
    for (media, encoding, body) in [
        (
            "application/yang-data+json",
            Encoding::Json,
            r#"{"ietf-sztp-bootstrap-server:input":{"hw-model":"model-x","nonce":"AAECAwQFBgcICQoLDA0ODw=="}}"#,
        ),
        (
            "application/yang-data+xml",
            Encoding::Xml,
            r#"<input xmlns="urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server"><hw-model>model-x</hw-model></input>"#,
        ),
    ] {
        let request = post(
            GET,
            &[
                ("Host", &host),
                ("Content-Type", media),
                ("Content-Length", &body.len().to_string()),
            ],
            body,
        );
        let reply = wire.exchange(&request).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.content_type(), media);
        let strict = Leniency::strict();
        let read = GetBootstrappingDataOutput::decode(&reply.body, encoding, &strict).unwrap();
        assert!(read.1.is_empty(), "{:?}", read.1);
    }
    let body = r#"{"ietf-sztp-bootstrap-server:input":{"progress-type":"bootstrap-complete"}}"#;
    let request = post(
        REPORT,
        &[
            ("Host", &host),
            ("Content-Type", "application/yang-data+json"),
            ("Content-Length", &body.len().to_string()),
        ],
        body,
    );
    assert_eq!(wire.exchange(&request).await.status, 204);
    lab.stop().await;
}

/// Whatever a profile can let pass is refused while nothing in it is on.
///
/// Requirements: SZTP-8572-7.3-17
#[tokio::test]
async fn nothing_is_let_pass() {
    let mut lab = lab_with("generic", &[]).await;
    lab.register("GEN-1").await;
    lab.stage(super::opi_agent::CONTENT, super::opi_agent::FILES)
        .await;
    lab.serve().await;
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("GEN-1").unwrap();
    let json = "application/yang-data+json";
    let xml = "application/yang-data+xml";
    let input = |members: &str| format!(r#"{{"ietf-sztp-bootstrap-server:input":{{{members}}}}}"#);
    let spaced = r#"<input xmlns="urn:ietf:params:xml:ns:yang:ietf-SZTP-bootstrap-server"/>"#;
    let cases = [
        ("empty-nonce", GET, json, input(r#""nonce":"""#)),
        ("unknown-members", GET, json, input(r#""serial":"GEN-1""#)),
        (
            "empty-type",
            GET,
            json,
            input(r#""signed-data-preferred":true"#),
        ),
        (
            "base64-padding",
            GET,
            json,
            input(r#""nonce":"AAECAwQFBgcICQoLDA0ODw""#),
        ),
        (
            "base64-white-space",
            GET,
            json,
            input(r#""nonce":"AAECAwQFBgcI\nCQoLDA0ODw==""#),
        ),
        ("content-type-legacy", GET, "application/json", input("")),
        ("namespace-spelling", GET, xml, spaced.to_owned()),
        (
            "empty-containers",
            REPORT,
            json,
            input(r#""progress-type":"config-complete","ssh-host-keys":{}"#),
        ),
        (
            "trust-anchor-not-cms",
            REPORT,
            json,
            input(
                r#""progress-type":"bootstrap-complete","trust-anchor-certs":{"trust-anchor-cert":["bXlzc2hwYXNz"]}"#,
            ),
        ),
    ];
    for (quirk, path, media, body) in cases {
        let mut wire = Wire::open(lab.address(), Some(identity.clone())).await;
        let request = post(
            path,
            &[
                ("Host", &host),
                ("Content-Type", media),
                ("Content-Length", &body.len().to_string()),
            ],
            &body,
        );
        let reply = wire.exchange(&request).await;
        assert!(
            (400..500).contains(&reply.status),
            "{quirk}: {}",
            reply.status
        );
    }
    lab.stop().await;
}
