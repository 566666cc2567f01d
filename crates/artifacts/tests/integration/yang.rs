//! yanglint has the last word on whether a document is an instance of the YANG module.

use std::path::Path;
use std::process::Command;

use artifacts::Encoding;
use artifacts::conveyed::{
    BootImage, BootstrapServer, ConveyedInformation, OnboardingInformation, RedirectInformation,
    TrustAnchor,
};
use pki::KeyKind;
use testkit::{PkiOptions, root};

use crate::common::AT_8995;
use crate::conveyed::onboarding;

/// Whether yanglint takes the document. It has no way to be given a template of RFC 8040, so the
/// template's content is made the module's own.
fn is_valid(text: &[u8], encoding: Encoding) -> (bool, String) {
    const MODULE: &str = "ietf-sztp-conveyed-info@2019-04-30.yang";
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sztp/yang");
    let folder = tempfile::tempdir().unwrap();
    let module = std::fs::read_to_string(modules.join(MODULE)).unwrap();
    let module = module.replace("rc:yang-data conveyed-information {", "grouping conveyed {");
    let end = module.rfind('}').unwrap();
    let module = format!("{}uses conveyed;\n}}\n", &module[..end]);
    std::fs::write(folder.path().join(MODULE), module).unwrap();
    let data = format!("data.{}", encoding.name());
    std::fs::write(folder.path().join(&data), text).unwrap();
    let output = Command::new("yanglint")
        .current_dir(folder.path())
        .arg("-p")
        .arg(modules.canonicalize().unwrap())
        .args(["-t", "config", MODULE, &data])
        .output()
        .expect("yanglint is installed");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

fn redirect() -> ConveyedInformation {
    let ca = root(
        &PkiOptions::new(AT_8995).with_kind(KeyKind::EcdsaP256),
        "CN=CA",
    )
    .unwrap();
    let server = |address: &str, port| BootstrapServer {
        address: address.to_owned(),
        port,
        trust_anchor: Some(TrustAnchor::encode(&ca.chain, &[]).unwrap()),
    };
    ConveyedInformation::Redirect(RedirectInformation {
        bootstrap_servers: vec![
            server("a.example", None),
            server("192.0.2.1", Some(8443)),
            server("2001:db8::1", Some(443)),
            server("fe80::1%eth0", Some(1)),
        ],
    })
}

/// Requirements: SZTP-8572-3.1-02, SZTP-8572-6.3-01, SZTP-8572-6.3-02, SZTP-8572-6.3-03, SZTP-8572-6.3-11, SZTP-8572-6.3-12, SZTP-8572-6.3-13, SZTP-8572-6.3-15
#[test]
fn what_is_written_is_valid() {
    let image_only = ConveyedInformation::Onboarding(OnboardingInformation {
        boot_image: Some(BootImage {
            os_version: Some("1".to_owned()),
            ..BootImage::default()
        }),
        ..OnboardingInformation::default()
    });
    for information in [onboarding(), redirect(), image_only] {
        for encoding in Encoding::ALL {
            let text = information.encode(encoding).unwrap();
            let (valid, said) = is_valid(&text, encoding);
            assert!(valid, "{said}\n{}", String::from_utf8_lossy(&text));
        }
    }
}

/// The strict reader and yanglint agree on what is wrong, as far as the module says it.
#[test]
fn what_a_strict_reader_refuses_is_invalid() {
    let onboarding = |members: &str| {
        format!("{{\"ietf-sztp-conveyed-info:onboarding-information\":{{{members}}}}}")
    };
    let image = |members: &str| onboarding(&format!("\"boot-image\":{{{members}}}"));
    let redirect = |entries: &str| {
        format!(
            "{{\"ietf-sztp-conveyed-info:redirect-information\":{{\"bootstrap-server\":[{entries}]}}}}"
        )
    };
    let hash = "{\"hash-algorithm\":\"sha-256\",\"hash-value\":\"aa:bb\"}";
    for (text, valid) in [
        (onboarding("\"configuration\":\"QQ==\""), false),
        (onboarding("\"configuration-handling\":\"merge\""), false),
        (
            onboarding("\"configuration\":\"QQ==\",\"configuration-handling\":\"merge\""),
            true,
        ),
        (onboarding("\"pre-configuration-script\":\"QQ\""), false),
        (onboarding("\"x\":1"), false),
        (image("\"os-name\":1"), false),
        (
            image("\"download-uri\":[\"https://a\",\"https://a\"]"),
            false,
        ),
        (image(&format!("\"image-verification\":[{hash}]")), false),
        (
            image(&format!(
                "\"download-uri\":[\"https://a\"],\"image-verification\":[{hash},{hash}]"
            )),
            false,
        ),
        (redirect(""), false),
        (redirect("{\"port\":1}"), false),
        (redirect("{\"address\":\"https://a\"}"), false),
        (redirect("{\"address\":\"a\",\"port\":\"1\"}"), false),
        (redirect("{\"address\":\"a\"},{\"address\":\"a\"}"), false),
        (
            redirect("{\"address\":\"_x.a-b.example.\",\"port\":0}"),
            true,
        ),
    ] {
        let read = ConveyedInformation::decode(
            text.as_bytes(),
            Encoding::Json,
            &artifacts::Tolerances::strict(),
        );
        let (by_yanglint, said) = is_valid(text.as_bytes(), Encoding::Json);
        assert_eq!(by_yanglint, valid, "{text} {said}");
        assert_eq!(read.is_ok(), valid, "{text}");
    }
}
