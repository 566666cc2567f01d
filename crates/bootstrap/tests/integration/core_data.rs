//! What devices get over the wire.

use artifacts::conveyed::{self, ConveyedInformation, Parsed};
use artifacts::{Encoding, Tolerances};
use serde_json::json;
use sztp::Leniency;
use sztp::message::GetBootstrappingDataOutput;

use crate::harness::{GET, Got, JSON, Lab, XML};

/// One bundle for everybody.
pub(crate) const CONTENT: &str = r#"
[[script]]
name = "before"
file = "before.sh"

[[template]]
name = "base"
file = "templates/base.cfg"
format = "text"

[[bundle]]
name = "access"
pre-script = "before"
template = "base"
handling = "merge"

[[rule]]
name = "all"
bundle = "access"
"#;

pub(crate) const FILES: &[(&str, &str)] = &[
    ("before.sh", "#!/bin/sh\nexit 0\n"),
    ("templates/base.cfg", "hostname {{ device.serial }}\n"),
];

/// The output of a 200 in either encoding.
pub(crate) fn output(got: &Got) -> GetBootstrappingDataOutput {
    assert_eq!(got.status, 200, "{}", got.text());
    let encoding = match got.header("content-type") {
        Some(JSON) => Encoding::Json,
        Some(XML) => Encoding::Xml,
        other => panic!("{other:?}"),
    };
    let (output, oddities) =
        GetBootstrappingDataOutput::decode(&got.body, encoding, &Leniency::strict()).unwrap();
    assert!(oddities.is_empty(), "{oddities:?}");
    output
}

/// Unsigned conveyed information, decoded.
pub(crate) fn unsigned(output: &GetBootstrappingDataOutput) -> ConveyedInformation {
    let tolerances = Tolerances::default();
    match conveyed::parse(&output.conveyed_information, &tolerances).unwrap() {
        Parsed::Unsigned {
            encoding, content, ..
        } => ConveyedInformation::decode(&content, encoding, &tolerances).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A known device gets its own onboarding information, in the encoding that it asked for, and
/// reports until it is done.
///
/// Requirements: SZTP-8572-3.5-01, SZTP-8572-4.4-04, SZTP-8572-7.1-02, SZTP-8572-7.3-08,
/// SZTP-8572-7.3-09, SZTP-8572-4.4-05, SZTP-8572-9.16-02, SZTP-8040-3.6.2-01, SZTP-8040-4.4-01,
/// SZTP-8040-4.4.2-01, SZTP-8040-5.2-02, SZTP-8040-5.2-06, SZTP-8040-5.2-08
pub(crate) async fn a_known_device_gets_its_own_data() {
    let lab = Lab::start("").await;
    for serial in ["OB-1", "OB-2"] {
        lab.register(serial).await;
    }
    lab.stage(CONTENT, FILES).await;
    let empty_xml = "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/>";
    let empty_json = "{\"ietf-sztp-bootstrap-server:input\":{}}";
    for serial in ["OB-1", "OB-2"] {
        for (accept, content_type, body, expected) in [
            (None, None, "", JSON),
            (None, Some(JSON), empty_json, JSON),
            (None, Some(XML), empty_xml, XML),
            (Some("*/*"), Some(XML), empty_xml, XML),
            (Some("application/*"), Some(JSON), empty_json, JSON),
            (
                Some("application/yang-data+xml"),
                Some(JSON),
                empty_json,
                XML,
            ),
            (
                Some("application/yang-data+json;q=0.1, application/yang-data+xml"),
                None,
                "",
                XML,
            ),
        ] {
            let mut device = lab.device(serial);
            if let Some(accept) = accept {
                device = device.with("accept", accept);
            }
            let got = device.send("POST", GET, content_type, body).await;
            assert_eq!(
                got.header("content-type"),
                Some(expected),
                "{accept:?} {}",
                got.text()
            );
            let output = output(&got);
            assert!(output.owner_certificate.is_none() && output.ownership_voucher.is_none());
            let ConveyedInformation::Onboarding(information) = unsigned(&output) else {
                panic!("a redirect");
            };
            let configuration = information.configuration.unwrap();
            assert_eq!(configuration, format!("hostname {serial}\n").as_bytes());
            assert!(information.pre_configuration_script.is_some());
        }
        assert_eq!(lab.state(serial).await, "started");
        let line = lab.line().await;
        assert_eq!(
            (line.outcome.as_str(), line.serial.as_deref()),
            ("served", Some(serial))
        );
        assert_eq!(line.summary["rule"], "all");
    }
    let device = lab.device("OB-1");
    for (kind, state) in [
        ("bootstrap-initiated", "in-progress"),
        ("config-complete", "in-progress"),
        ("bootstrap-complete", "complete"),
    ] {
        assert_eq!(
            device.report(json!({ "progress-type": kind })).await.status,
            204
        );
        assert_eq!(lab.state("OB-1").await, state);
    }
    assert_eq!(lab.state("OB-2").await, "started");
    lab.stop().await;
}

/// Requirements: SZTP-8572-7.3-02, SZTP-8572-7.3-03, SZTP-8572-4.4-02
pub(crate) async fn who_asks_for_signed_data_never_gets_unsigned_onboarding() {
    let lab = Lab::start("").await;
    lab.register("SG-1").await;
    lab.stage(CONTENT, FILES).await;
    let got = lab
        .device("SG-1")
        .ask(json!({ "signed-data-preferred": [null] }))
        .await;
    // There is no voucher, so there can be no signed data.
    let (status, tag, code) = got.refusal();
    assert_eq!(status, 409, "{}", got.text());
    assert_eq!(tag, "data-missing");
    assert!(code.starts_with("sztp."), "{code}");
    assert_eq!(lab.state("SG-1").await, "waiting");
    lab.stop().await;
}

const REDIRECT: &str = r#"
[[redirect]]
name = "owner"
[[redirect.server]]
address = "sztp.owner.example"
port = 8443
trust-anchor = "anchor.pem"

[[rule]]
name = "all"
redirect = "owner"
"#;

/// A manufacturer's redirect server sends a device that trusts it to its owner, with the owner's
/// anchor.
///
/// Requirements: SZTP-8572-1.2-01, SZTP-8572-3.1-09, SZTP-8572-7.3-02, SZTP-8572-7.3-10
pub(crate) async fn a_redirect_server_sends_devices_to_their_owner() {
    let lab = Lab::start("role = \"redirect\"").await;
    lab.register("RD-1").await;
    let anchor = lab.ca.chain[0].to_pem();
    lab.stage(REDIRECT, &[("anchor.pem", &anchor)]).await;
    for input in [json!({}), json!({ "signed-data-preferred": [null] })] {
        let got = lab.device("RD-1").ask(input).await;
        let output = output(&got);
        // Unsigned redirect information may also be given to a device that does not trust us.
        let ConveyedInformation::Redirect(redirect) = unsigned(&output) else {
            panic!("onboarding information");
        };
        let [server] = redirect.bootstrap_servers.as_slice() else {
            panic!("{redirect:?}");
        };
        assert_eq!(
            (server.address.as_str(), server.port),
            ("sztp.owner.example", Some(8443))
        );
        assert!(server.trust_anchor.is_some());
        assert!(output.reporting_level.is_none());
    }
    assert_eq!(lab.state("RD-1").await, "redirected");
    assert_eq!(lab.line().await.outcome, "redirected");
    // Onboarding information is not what this server gives.
    lab.stage(CONTENT, FILES).await;
    let got = lab.device("RD-1").ask(json!({})).await;
    assert_eq!(got.refusal().0, 409, "{}", got.text());
    lab.stop().await;
}

/// A device that installed an image comes again, and a change of the content holds at once.
pub(crate) async fn a_new_revision_is_served_at_once() {
    let lab = Lab::start("").await;
    lab.register("RV-1").await;
    let device = lab.device("RV-1");
    for number in 0..4 {
        let text = format!("hostname {{{{ device.serial }}}}\nversion {number}\n");
        let files = [FILES[0], ("templates/base.cfg", text.as_str())];
        lab.stage(CONTENT, &files).await;
        for _ in 0..2 {
            let got = device
                .ask(json!({ "hw-model": "X", "os-version": "1" }))
                .await;
            let ConveyedInformation::Onboarding(information) = unsigned(&output(&got)) else {
                panic!("a redirect");
            };
            let expected = format!("hostname RV-1\nversion {number}\n");
            assert_eq!(information.configuration.unwrap(), expected.as_bytes());
        }
    }
    lab.stop().await;
}
