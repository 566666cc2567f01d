//! Junos: what its maker's pages say is within the model, so the profile has no quirk and the
//! device gets what the model gives to one that asks for signed data with a nonce.

use super::{Wire, lab_with, post};
use crate::content_world::{FOLDER, stage, voucher};
use crate::harness::GET;

#[tokio::test]
async fn it_asks_for_signed_data_and_gets_all_three_artefacts() {
    let mut lab = lab_with("juniper", &[]).await;
    let id = lab.register_as("acme", "JN-1", "juniper").await;
    voucher(&lab, id, "JN-1").await;
    let everybody = "\n[[rule]]\nname = \"all\"\nbundle = \"shared\"\n";
    stage(&lab, &format!("{FOLDER}{everybody}")).await;
    lab.serve().await;
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("JN-1").unwrap();
    let mut wire = Wire::open(lab.address(), Some(identity)).await;
    for (asks, artefacts) in [("<signed-data-preferred/>", true), ("", false)] {
        let body = format!(
            "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\">{asks}</input>"
        );
        let request = post(
            GET,
            &[
                ("Host", &host),
                ("Content-Type", "application/yang-data+xml"),
                ("Content-Length", &body.len().to_string()),
            ],
            &body,
        );
        let reply = wire.exchange(&request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        for name in ["owner-certificate", "ownership-voucher"] {
            assert_eq!(
                super::element(&reply.text(), name).is_some(),
                artefacts,
                "{name}"
            );
        }
    }
    lab.stop().await;
}
