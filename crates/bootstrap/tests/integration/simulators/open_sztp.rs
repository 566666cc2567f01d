//! Devices of open-sztp: plain media types, headers of their own, and two rounds: a signed redirect
//! first, then onboarding information.

use super::{Wire, element, lab_with, post};
use crate::content_world::{FOLDER, stage, voucher};
use crate::harness::{GET, Lab};

async fn lab(enable: &[&str]) -> Lab {
    let mut lab = lab_with("open-sztp", enable).await;
    let id = lab.register_as("acme", "OS-1", "open-sztp").await;
    voucher(&lab, id, "OS-1").await;
    let everybody = "\n[[rule]]\nname = \"all\"\nbundle = \"shared\"\n";
    stage(&lab, &format!("{FOLDER}{everybody}")).await;
    lab.serve().await;
    lab
}

async fn ask(lab: &Lab, media: &str, body: &str) -> super::Reply {
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("OS-1").unwrap();
    let request = post(
        GET,
        &[
            ("Host", &host),
            ("Content-Type", media),
            ("X-MAC", "00:00:5e:00:53:01"),
            ("X-Vendor-Serial", "SOMEBODY-ELSE"),
            ("Content-Length", &body.len().to_string()),
        ],
        body,
    );
    Wire::open(lab.address(), Some(identity))
        .await
        .exchange(&request)
        .await
}

const JSON: &str = r#"{"ietf-sztp-bootstrap-server:input":{"signed-data-preferred":[null]}}"#;
const XML: &str = "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/>";

#[tokio::test]
async fn plain_media_types_are_read_by_name_only() {
    let lab_without = lab(&[]).await;
    assert_eq!(
        ask(&lab_without, "application/json", JSON).await.status,
        415
    );
    assert_eq!(ask(&lab_without, "text/xml", XML).await.status, 415);
    lab_without.stop().await;

    let lab = lab(&["content-type-legacy"]).await;
    let reply = ask(&lab, "application/json", JSON).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.text().contains("\"owner-certificate\""));
    let reply = ask(&lab, "text/xml", XML).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(element(&reply.text(), "conveyed-information").is_some());
    assert!(element(&reply.text(), "owner-certificate").is_none());
    // A header of a serial number says nothing: the certificate does.
    assert_eq!(lab.line().await.serial.as_deref(), Some("OS-1"));
    lab.stop().await;
}
