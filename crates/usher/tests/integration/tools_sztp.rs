//! `usher artifact` on the artefacts of RFC 8572: those that the fuzz targets start from.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::tools::{json_of, usher};

const AT: &str = "2026-06-01T12:00:00Z";
const SERIAL: &str = "JADA123456789";
/// 16 octets of 7.
const NONCE: &str = "BwcHBwcHBwcHBwcHBwcHBw==";

fn fuzz(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz")
        .join(path)
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// The three artefacts of a seed, each as a file.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for seed in ["signed", "encrypted", "unsigned"] {
            let bytes = std::fs::read(fuzz("seeds/bundle").join(seed)).unwrap();
            let mut rest = bytes.as_slice();
            for part in ["conveyed", "owner", "voucher"] {
                let (length, after) = rest.split_at(2);
                let length = usize::from(u16::from_be_bytes(length.try_into().unwrap()));
                let (artefact, after) = after.split_at(length);
                rest = after;
                std::fs::write(folder.path().join(format!("{seed}-{part}")), artefact).unwrap();
            }
        }
        Self { folder }
    }

    fn path(&self, file: &str) -> String {
        name(&self.folder.path().join(file))
    }

    /// The options with which a device judges.
    fn context(&self, seed: &str) -> Vec<String> {
        let device = name(&fuzz("world/sztp-device.der"));
        [
            "--anchors",
            &name(&fuzz("world/sztp-manufacturer.der")),
            "--owner-certificate",
            &self.path(&format!("{seed}-owner")),
            "--voucher",
            &self.path(&format!("{seed}-voucher")),
            "--idevid",
            &device,
            "--nonce",
            NONCE,
            "--at",
            AT,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

fn verify(file: &str, options: &[String]) -> (i32, Value) {
    let mut arguments = vec!["artifact", "verify", "--json", file];
    arguments.extend(options.iter().map(String::as_str));
    let output = usher(&arguments, b"");
    (output.status.code().unwrap(), json_of(&output))
}

fn inspect(file: &str, options: &[&str]) -> (i32, Value) {
    let mut arguments = vec!["artifact", "inspect", "--json", file];
    arguments.extend(options);
    let output = usher(&arguments, b"");
    (output.status.code().unwrap(), json_of(&output))
}

fn check<'v>(verdict: &'v Value, name: &str) -> &'v Value {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()
}

/// Requirements: SZTP-8572-5.4-08, SZTP-8572-5.4-03, SZTP-8572-5.3-07
#[test]
fn bootstrapping_data_is_judged_as_a_device_does() {
    let files = Files::new();
    let signed = files.path("signed-conveyed");
    let context = files.context("signed");
    let (exit, verdict) = verify(&signed, &context);
    assert_eq!(
        (exit, &verdict["verdict"]),
        (0, &json!("valid")),
        "{verdict}"
    );
    assert_eq!(verdict["kind"], "conveyed-information");
    assert_eq!(verdict["verified"]["information"], "onboarding");
    assert_eq!(verdict["verified"]["trust_state"], true);
    assert_eq!(verdict["verified"]["serial_number"], SERIAL);
    assert_eq!(check(&verdict, "owner-revocation")["result"], "passed");

    let with = |more: &[&str]| {
        let more = more.iter().map(|option| (*option).to_owned());
        context.iter().cloned().chain(more).collect::<Vec<_>>()
    };
    let (exit, verdict) = verify(&signed, &with(&["--serial", "another"]));
    assert_eq!(
        (exit, &verdict["code"]),
        (1, &json!("voucher.serial-mismatch"))
    );
    assert_eq!(check(&verdict, "signature")["result"], "not made");
    let (exit, verdict) = verify(&signed, &["--at".to_owned(), AT.to_owned()]);
    assert_eq!(
        (exit, &verdict["code"]),
        (1, &json!("bundle.voucher-missing"))
    );

    let encrypted = files.path("encrypted-conveyed");
    let (exit, verdict) = verify(&encrypted, &context);
    assert_eq!(
        (exit, &verdict["code"]),
        (1, &json!("bundle.decryption-key-missing"))
    );
    let key = name(&fuzz("world/sztp-device.p8"));
    let (exit, verdict) = verify(&encrypted, &with(&["--key", &key]));
    assert_eq!(
        (exit, &verdict["verdict"]),
        (0, &json!("valid")),
        "{verdict}"
    );
    let decryption = check(&verdict, "conveyed-information-decryption");
    assert_eq!(decryption["result"], "passed");

    let batch = json!({
        "id": 1, "file": signed, "at": AT, "serial": SERIAL, "nonce": NONCE,
        "anchors": name(&fuzz("world/sztp-manufacturer.der")),
        "owner_certificate": files.path("signed-owner"), "voucher": files.path("signed-voucher"),
    });
    let output = usher(
        &["artifact", "verify", "--batch"],
        batch.to_string().as_bytes(),
    );
    assert_eq!(json_of(&output)["verdict"], "valid");
}

/// Requirements: SZTP-8572-2.2-01, SZTP-8572-9.5-01
#[test]
fn unsigned_information_is_as_good_as_its_source() {
    let files = Files::new();
    let unsigned = files.path("unsigned-conveyed");
    let (exit, verdict) = verify(&unsigned, &[]);
    assert_eq!(
        (exit, &verdict["code"]),
        (1, &json!("bundle.untrusted-onboarding"))
    );
    let (exit, verdict) = verify(&unsigned, &["--trusted-source".to_owned()]);
    assert_eq!((exit, &verdict["signed"]), (0, &json!(false)));
    let redirect = name(&fuzz("seeds/conveyed/redirect-xml-unsigned"));
    let (exit, verdict) = verify(&redirect, &[]);
    assert_eq!(exit, 0);
    let server = &verdict["verified"]["content"]["bootstrap_servers"][0];
    assert_eq!(
        (&server["trust_anchor"], &server["port"]),
        (&Value::Null, &json!(8443))
    );
    // The document alone.
    for encoding in ["json", "xml"] {
        let document = name(&fuzz(&format!("seeds/conveyed/onboarding-{encoding}")));
        let (exit, verdict) = verify(&document, &[]);
        assert_eq!((exit, &verdict["encoding"]), (0, &json!(encoding)));
        assert_eq!(verdict["kind"], "conveyed-information-document");
    }
}

/// Requirements: SZTP-8572-3.2-02, SZTP-8572-3.2-01
#[test]
fn an_owner_certificate_is_judged_by_what_is_pinned() {
    let files = Files::new();
    let owner = files.path("signed-owner");
    let options = |anchors: &str| {
        [
            "--kind",
            "owner-certificate",
            "--anchors",
            anchors,
            "--at",
            AT,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let (exit, verdict) = verify(
        &owner,
        &options(&name(&fuzz("world/sztp-manufacturer.der"))),
    );
    assert_eq!((exit, &verdict["code"]), (1, &json!("path.unknown-issuer")));
    let (_, described) = inspect(&files.path("signed-voucher"), &[]);
    let pinned = described["content"]["ietf-voucher:voucher"]["pinned-domain-cert"].as_str();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        pinned.unwrap()
    );
    std::fs::write(files.folder.path().join("pin.pem"), pem).unwrap();
    let (exit, verdict) = verify(&owner, &options(&files.path("pin.pem")));
    assert_eq!(
        (exit, &verdict["kind"]),
        (0, &json!("owner-certificate")),
        "{verdict}"
    );
    assert_eq!(
        verdict["verified"]["owner_path"].as_array().unwrap().len(),
        3
    );
    let signed = files.path("signed-conveyed");
    let (exit, verdict) = verify(&signed, &options(&files.path("pin.pem")));
    assert_eq!((exit, &verdict["code"]), (1, &json!("voucher.wrong-kind")));
}

#[test]
fn inspect_shows_what_is_inside() {
    let files = Files::new();
    let (exit, shown) = inspect(&files.path("signed-conveyed"), &[]);
    assert_eq!((exit, &shown["kind"]), (0, &json!("conveyed-information")));
    assert_eq!(shown["content_type"], "id-ct-sztpConveyedInfoJSON");
    assert_eq!(shown["signature"]["holds"], true);
    assert_eq!(shown["information"], "onboarding");
    assert_eq!(shown["strict_reader"], "accepts it");
    let image = &shown["content"]["boot_image"];
    assert_eq!(image["download_uris"].as_array().unwrap().len(), 2);

    let encrypted = files.path("encrypted-conveyed");
    let (exit, shown) = inspect(&encrypted, &[]);
    assert_eq!((exit, &shown["kind"]), (0, &json!("enveloped")));
    assert_eq!(shown["content_type"], "id-signedData");
    assert_eq!(shown["cipher"], "AES-256-CBC");
    let key = name(&fuzz("world/sztp-device.p8"));
    let (exit, shown) = inspect(&encrypted, &["--key", &key]);
    assert_eq!(
        (exit, &shown["content"]["information"]),
        (0, &json!("onboarding"))
    );

    let (_, shown) = inspect(&name(&fuzz("seeds/conveyed/redirect-xml-signed")), &[]);
    assert_eq!(
        (&shown["content_encoding"], &shown["content_type"]),
        (&json!("xml"), &json!("id-data"))
    );
    let anchor = &shown["content"]["bootstrap_servers"][0]["trust_anchor"];
    assert_eq!(anchor.as_array().unwrap().len(), 1);
    let (_, shown) = inspect(&files.path("signed-owner"), &[]);
    assert_eq!(shown["kind"], "certs-only");
    assert_eq!(shown["certificates"].as_array().unwrap().len(), 2);
}

/// Requirements: SZTP-8572-8.3-01, SZTP-8572-8.3-02
#[test]
fn a_dhcp_option_is_known_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let list = b"\x00\x11https://a.example".to_vec();
    let option = [&[143, 19][..], &list].concat();
    let with_path = b"\x00\x13https://a.example/x".to_vec();
    let hexadecimal = b"0011 6874 7470 733a 2f2f 612e 6578 616d 706c 65".to_vec();
    let only_text = b"https://a.example".to_vec();
    for (what, bytes, valid) in [
        ("list", list, true),
        ("option", option, true),
        ("hexadecimal", hexadecimal, true),
        ("path", with_path, false),
        ("text", only_text, false),
    ] {
        let file = folder.path().join(what);
        std::fs::write(&file, bytes).unwrap();
        let (exit, shown) = inspect(&name(&file), &[]);
        assert_eq!(shown["kind"], "dhcp-option", "{what} {shown}");
        assert_eq!(exit == 0, valid, "{what} {shown}");
        let (exit, verdict) = verify(&name(&file), &[]);
        assert_eq!(verdict["kind"], "dhcp-option", "{what}");
        assert_eq!(exit == 0, valid, "{what} {verdict}");
        let code = verdict["code"].as_str().unwrap_or("dhcp.");
        assert!(code.starts_with("dhcp."), "{what} {verdict}");
    }
}
