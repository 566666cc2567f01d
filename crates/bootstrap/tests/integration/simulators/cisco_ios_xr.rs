//! IOS-XR: no serial number in the request, SignedData with id-data over JSON, owner certificate
//! and voucher.

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::verify::ExpectedNonce;
use artifacts::{SerialNumber, Tolerances};
use pki::path::Anchors;

use super::{Wire, content_by_openssl, content_type_by_openssl, lab_with, post, unbase64};
use crate::content_world::{FOLDER, stage, voucher};
use crate::harness::GET;

#[tokio::test]
async fn it_is_always_given_signed_data_as_its_tool_makes_it() {
    let mut lab = lab_with("cisco-ios-xr", &[]).await;
    let id = lab.register_as("acme", "XR-1", "cisco-ios-xr").await;
    voucher(&lab, id, "XR-1").await;
    let everybody = "\n[[rule]]\nname = \"all\"\nbundle = \"access\"\n";
    lab.change(
        "UPDATE device SET site = 'bonn' WHERE id = $1",
        store::params![id],
    )
    .await;
    stage(&lab, &format!("{FOLDER}{everybody}")).await;
    lab.serve().await;
    let host = lab.address().to_string();
    let identity = lab.pki.idevid("XR-1").unwrap();
    let body = r#"{"ietf-sztp-bootstrap-server:input":{}}"#;
    let request = post(
        GET,
        &[
            ("Host", &host),
            ("Content-Type", "application/yang-data+json"),
            ("Content-Length", &body.len().to_string()),
        ],
        body,
    );
    let reply = Wire::open(lab.address(), Some(identity))
        .await
        .exchange(&request)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let output: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let output = &output["ietf-sztp-bootstrap-server:output"];
    let leaf = |name: &str| unbase64(output[name].as_str().unwrap());
    let conveyed = leaf("conveyed-information");
    assert!(content_type_by_openssl(&lab, &conveyed).contains("pkcs7-data"));
    assert_eq!(
        content_by_openssl(&lab, &conveyed).unwrap().first(),
        Some(&b'{')
    );
    let data = BootstrappingData {
        conveyed_information: conveyed,
        owner_certificate: Some(leaf("owner-certificate")),
        ownership_voucher: Some(leaf("ownership-voucher")),
    };
    let mut anchors = Anchors::new();
    anchors.add(lab.pki.masa_signer.chain.last().unwrap().clone());
    let mut tolerances = Tolerances::strict();
    tolerances.id_data = true;
    let serial = SerialNumber::new("XR-1").unwrap();
    let mut context = DeviceContext::new(&anchors, &tolerances);
    context.serial = Some(&serial);
    context.at = Some(lab.clock.now());
    context.nonce = ExpectedNonce::Nonceless;
    let judgement = judge(&data, false, &context);
    assert!(judgement.result.is_ok(), "{:?}", judgement.checks);
    lab.stop().await;
}
