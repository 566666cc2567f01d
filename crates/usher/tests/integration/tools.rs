//! `usher artifact`, `usher cert` and `usher whois` on the published examples and on junk.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use expect_test::expect;
use serde_json::{Value, json};

const AT: &str = "2021-06-01T00:00:00Z";

/// Runs `usher` in the folder of the published examples.
pub(crate) fn usher(arguments: &[&str], input: &[u8]) -> Output {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../artifacts/tests/data");
    let mut child = Command::new(env!("CARGO_BIN_EXE_usher"))
        .args(arguments)
        .current_dir(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early closes its end.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(crate) fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// The verdict in one line, with its exit code.
pub(crate) fn line(arguments: &[&str]) -> String {
    let output = usher(arguments, b"");
    let value = json_of(&output);
    let text = |name: &str| value[name].as_str().unwrap_or("-").to_owned();
    format!(
        "{} {} {} {} {}",
        output.status.code().unwrap(),
        text("verdict"),
        text("kind"),
        text("encoding"),
        text("code")
    )
}

/// Requirements: VOUCHER-5.4-02, VOUCHERBIS-7.1-01
#[test]
fn published_examples_get_the_right_verdict() {
    let vendor = ["--anchors", "rfc8995/vendor.crt", "--at", AT];
    let jws = [
        "--anchors",
        "jws-voucher/8.3-voucher-2.crt",
        "--at",
        "2024-12-01T00:00:00Z",
    ];
    let voucher = "rfc8995/voucher_00-D0-E5-F2-00-02.der";
    let pledge = "rfc8995/vr_00-D0-E5-F2-00-02.der";
    let registrar = "rfc8995/parboiled_vr_00-D0-E5-F2-00-02.der";
    let idevid = "rfc8995/idevid_00-D0-E5-F2-00-02.crt";
    let jrc = "rfc8995/jrc_prime256v1.crt";
    let owner = "rfc8995/ownerca_secp384r1.crt";
    let lenient = "--lenient";
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &[&str], &str)] = &[
        (voucher, &vendor, &[], "1 invalid voucher cms cms.content-type"),
        (voucher, &vendor, &[lenient], "0 valid voucher cms -"),
        (voucher, &vendor, &["--tolerate", "id-data"], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--serial", "x"], "1 invalid voucher cms voucher.serial-mismatch"),
        (voucher, &vendor, &[lenient, "--nonce", "-_XE9zK9q8Ll1qylMtLKeg"], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--nonce", "AAAAAAAAAAA="], "1 invalid voucher cms voucher.nonce-mismatch"),
        (voucher, &vendor, &[lenient, "--request", pledge], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--request", registrar, "--idevid", idevid], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--registrar", jrc], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--peer", jrc], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--registrar", owner], "1 invalid voucher cms voucher.pin-mismatch"),
        (voucher, &vendor, &[lenient, "--domain", owner], "0 valid voucher cms -"),
        (voucher, &vendor, &[lenient, "--domain", "rfc8995/vendor.crt"], "1 invalid voucher cms voucher.domain-mismatch"),
        (voucher, &vendor, &[lenient, "--kind", "pvr"], "1 invalid pledge-voucher-request cms request.top-level-name"),
        (voucher, &["--anchors", owner, "--at", AT], &[lenient], "1 invalid voucher cms path.unknown-issuer"),
        (voucher, &["--anchors", "rfc8995/vendor.crt", "--at", "2030-01-01T00:00:00Z"], &[lenient], "1 invalid voucher cms path.expired"),
        (voucher, &["--anchors", "rfc8995/vendor.crt", "--no-clock"], &[lenient], "0 valid voucher cms -"),
        ("rfc8995/voucher_00-D0-E5-F2-00-02.b64", &vendor, &[], "1 invalid unknown base64 voucher.not-binary"),
        ("rfc8995/voucher_00-D0-E5-F2-00-02.b64", &vendor, &[lenient], "0 valid voucher cms -"),
        (pledge, &vendor, &[lenient, "--registrar", jrc], "0 valid pledge-voucher-request cms -"),
        (pledge, &vendor, &[lenient, "--registrar", owner], "1 invalid pledge-voucher-request cms request.proximity-mismatch"),
        // The printed IDevID was issued again for the same key.
        (pledge, &vendor, &[lenient, "--idevid", idevid], "0 valid pledge-voucher-request cms -"),
        (pledge, &vendor, &[lenient, "--peer", idevid], "1 invalid pledge-voucher-request cms request.signer-mismatch"),
        (registrar, &vendor, &[lenient, "--domain", owner], "0 valid registrar-voucher-request cms -"),
        // One anchor alone is the manufacturer's, and the domain is then not known, or the domain's,
        // and then nothing is known about the device.
        (registrar, &vendor, &[lenient], "0 valid registrar-voucher-request cms -"),
        (registrar, &["--anchors", owner, "--at", AT], &[lenient], "0 valid registrar-voucher-request cms -"),
        (registrar, &["--anchors", owner, "rfc8995/vendor.crt", "--at", AT], &[lenient], "0 valid registrar-voucher-request cms -"),
        (registrar, &["--anchors", "jws-voucher/8.2-rvr-2.crt", "rfc8995/vendor.crt", "--at", AT], &[lenient], "1 invalid registrar-voucher-request cms path.unknown-issuer"),
        (registrar, &["--anchors", "jws-voucher/8.2-rvr-2.crt", "--no-clock"], &[lenient], "1 invalid registrar-voucher-request cms path.unknown-issuer"),
        (registrar, &vendor, &[lenient, "--domain", owner, "--request", pledge, "--registrar", jrc], "0 valid registrar-voucher-request cms -"),
        (registrar, &vendor, &["--tolerate", "id-data", "--domain", owner], "1 invalid registrar-voucher-request cms request.idevid-issuer-missing"),
        ("jws-voucher/8.3-voucher.jws.json", &jws, &[], "0 valid voucher jws -"),
        ("jws-voucher/8.1-pvr.jws.json", &jws, &[], "0 valid pledge-voucher-request jws -"),
        ("jws-voucher/8.2-rvr.jws.json", &jws, &["--domain", "jws-voucher/8.2-rvr-2.crt"], "1 invalid registrar-voucher-request jws request.assertion-not-proximity"),
        ("jws-voucher/8.2-rvr.jws.json", &jws, &["--domain", "jws-voucher/8.2-rvr-2.crt", lenient], "1 invalid registrar-voucher-request jws request.proximity-mismatch"),
        ("rfc8995/masa.crt", &vendor, &[], "0 valid certificate pem -"),
        (jrc, &vendor, &[], "1 invalid certificate pem path.unknown-issuer"),
        ("rfc8995/fig16-voucher-status.json", &[], &[], "0 valid telemetry json -"),
        ("rfc8995/fig18-audit-log-response.json", &[], &[], "1 invalid audit-log json audit.wrong-type"),
        ("rfc8995/fig18-audit-log-response.json", &[], &[lenient], "0 valid audit-log json -"),
        ("rfc8995/fig14-voucher.json", &vendor, &[], "1 invalid unknown json jws.no-signer"),
        ("rfc8995/masa.key", &vendor, &[], "2 unsupported unsupported pem request.unsupported"),
    ];
    for (file, context, options, want) in cases {
        let arguments: Vec<_> = ["artifact", "verify", file]
            .iter()
            .chain(*context)
            .chain(*options)
            .copied()
            .collect();
        assert_eq!(line(&arguments), *want, "{arguments:?}");
    }
}

#[test]
fn misuse_exits_with_2() {
    let voucher = "rfc8995/voucher_00-D0-E5-F2-00-02.der";
    let anchors = ["--anchors", "rfc8995/vendor.crt"];
    for arguments in [
        &["artifact", "verify", "--lenient", voucher][..],
        &["artifact", "verify", "no-such-file", anchors[0], anchors[1]],
        &[
            "artifact",
            "verify",
            voucher,
            "--lenient",
            "--anchors",
            "no-such-file",
        ],
        &[
            "artifact",
            "verify",
            voucher,
            "--lenient",
            "--anchors",
            voucher,
        ],
        &[
            "artifact", "verify", voucher, anchors[0], anchors[1], "--at", "tomorrow",
        ],
        &[
            "artifact",
            "verify",
            voucher,
            anchors[0],
            anchors[1],
            "--tolerate",
            "everything",
        ],
        &[
            "artifact", "verify", voucher, anchors[0], anchors[1], "--kind", "thing",
        ],
        &["artifact", "verify"],
        &["artifact", "inspect"],
        &["artifact", "inspect", "no-such-file"],
        &["artifact"],
        &["cert", "verify", "--anchors", "rfc8995/vendor.crt"],
        &[
            "cert",
            "verify",
            "--anchors",
            "no-such-file",
            "--chain",
            "rfc8995/masa.crt",
        ],
        &[
            "cert",
            "verify",
            "--anchors",
            "rfc8995/vendor.crt",
            "--chain",
            "rfc8995/masa.crt",
            "--purpose",
            "x",
        ],
        &["whois", "no-such-file"],
        &["whois"],
    ] {
        let output = usher(arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let with_json: Vec<_> = arguments.iter().chain(&["--json"]).copied().collect();
        let output = usher(&with_json, b"");
        assert_eq!(output.status.code(), Some(2), "{with_json:?}");
    }
}

/// A harness sends thousands of lines; whatever one of them is, the others are answered.
#[test]
fn a_batch_answers_each_line() {
    let defaults = [
        "artifact",
        "verify",
        "--batch",
        "--at",
        AT,
        "--anchors",
        "rfc8995/vendor.crt",
    ];
    let voucher = "rfc8995/voucher_00-D0-E5-F2-00-02.der";
    let scratch = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let good = std::fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../artifacts/tests/data")
            .join(voucher),
    )
    .unwrap();
    let mut flipped = good.clone();
    flipped[200] ^= 1;
    let junk = [
        write("empty", b""),
        write("truncated", &good[..700]),
        write("flipped", &flipped),
        write("trailing", &[&good[..], b"x"].concat()),
        write("deep", "[".repeat(100_000).as_bytes()),
        write("nested.der", &[0x30, 0x80].repeat(50_000)),
        write("zeros", &[0; 4096]),
        write("huge", &vec![b'A'; 3 * 1024 * 1024]),
        write("cose", b"\xd2\x84\x43\xa1\x01\x26\xa0\x40\x40"),
        write("xml", b"<?xml version='1.0'?><conveyed-information/>"),
        write("jws", br#"{"payload":"e30","signatures":[]}"#),
        write("none", br#"{"payload":"e30","signatures":[{"protected":"eyJhbGciOiJub25lIn0","signature":""}]}"#),
    ];
    let mut lines = vec![
        json!({ "id": 1, "file": voucher, "lenient": true }).to_string(),
        json!({ "id": "two", "file": voucher }).to_string(),
        json!({ "id": 3, "file": voucher, "lenient": true, "serial": "x", "expect": "invalid" }).to_string(),
        json!({ "id": 4, "file": voucher, "lenient": true, "anchors": ["rfc8995/ownerca_secp384r1.crt"] }).to_string(),
        json!({ "id": 5, "file": "no-such-file" }).to_string(),
        json!({ "id": 6, "file": voucher, "lenient": "yes" }).to_string(),
        json!({ "id": 7 }).to_string(),
        json!([8]).to_string(),
        "{\"id\": 9".to_owned(),
        String::new(),
    ];
    lines.extend(
        junk.iter()
            .map(|file| json!({ "id": file, "file": file, "lenient": true }).to_string()),
    );
    let mut input = lines.join("\n").into_bytes();
    input.extend_from_slice(b"\n\xff\xfe\n");
    input.extend_from_slice(
        json!({ "id": "last", "file": voucher, "lenient": true })
            .to_string()
            .as_bytes(),
    );
    let output = usher(&defaults, &input);
    assert_eq!(output.status.code(), Some(1), "not all are valid");
    let text = String::from_utf8(output.stdout).unwrap();
    let shown = text.lines().map(|line| {
        let value: Value = serde_json::from_str(line).unwrap();
        let id = value["id"].as_str().map_or_else(
            || value["id"].to_string(),
            |id| id.rsplit('/').next().unwrap_or_default().to_owned(),
        );
        format!(
            "{id} {} {}\n",
            value["verdict"].as_str().unwrap(),
            value["code"].as_str().unwrap_or("-")
        )
    });
    expect![[r#"
        1 valid -
        two invalid cms.content-type
        3 invalid voucher.serial-mismatch
        4 invalid path.unknown-issuer
        5 error config.file-unreadable
        6 error config.usage
        7 error config.usage
        null error config.usage
        null error config.usage
        empty invalid voucher.unrecognised-format
        truncated invalid cms.malformed
        flipped invalid cms.digest-mismatch
        trailing valid -
        deep invalid voucher.unrecognised-format
        nested.der invalid cms.malformed
        zeros invalid voucher.unrecognised-format
        huge invalid voucher.too-large
        cose invalid pki.algorithm-key-mismatch
        xml unsupported request.unsupported
        jws invalid jws.no-signer
        none invalid jws.algorithm
        null error config.usage
        last valid -
    "#]]
    .assert_eq(&shown.collect::<String>());
    let third: Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
    assert_eq!(third["ignored"], json!(["expect"]));
    let ninth: Value = serde_json::from_str(text.lines().nth(8).unwrap()).unwrap();
    assert_eq!(ninth["error"]["code"], "config.usage");
}

#[test]
fn a_batch_of_valid_ones_says_yes() {
    let file = "jws-voucher/8.3-voucher.jws.json";
    let line = json!({ "id": 1, "file": file, "anchors": "jws-voucher/8.3-voucher-2.crt", "at": "2024-12-01T00:00:00Z" });
    let output = usher(
        &["artifact", "verify", "--batch"],
        line.to_string().as_bytes(),
    );
    assert_eq!(output.status.code(), Some(0));
    let pem = "jws-voucher/8.3-voucher-2.crt";
    let line = json!({ "id": 1, "anchors": pem, "chain": ["jws-voucher/8.3-voucher-1.crt"], "at": "2024-12-01T00:00:00Z", "purpose": "masa" });
    let output = usher(&["cert", "verify", "--batch"], line.to_string().as_bytes());
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Requirements: X509-4.2.1.12-01
#[test]
fn certificates_are_judged_for_a_purpose() {
    let verify = |anchor: &str, chain: &str, options: &[&str]| {
        let fixed = [
            "cert",
            "verify",
            "--at",
            AT,
            "--anchors",
            anchor,
            "--chain",
            chain,
        ];
        let arguments: Vec<_> = fixed.iter().chain(options).copied().collect();
        let output = usher(&arguments, b"");
        let value = json_of(&output);
        let code = value["code"].as_str().unwrap_or("-").to_owned();
        format!("{} {}", output.status.code().unwrap(), code)
    };
    let (vendor, owner) = ("rfc8995/vendor.crt", "rfc8995/ownerca_secp384r1.crt");
    let (masa, jrc) = ("rfc8995/masa.crt", "rfc8995/jrc_prime256v1.crt");
    let idevid = "rfc8995/idevid_00-D0-E5-F2-00-02.crt";
    assert_eq!(verify(vendor, masa, &["--purpose", "masa"]), "0 -");
    assert_eq!(verify(vendor, idevid, &["--purpose", "idevid"]), "0 -");
    assert_eq!(verify(owner, jrc, &["--purpose", "registrar"]), "0 -");
    let any_profile = ["--purpose", "server", "--strict-profile=false"];
    assert_eq!(verify(owner, jrc, &any_profile), "1 path.eku");
    assert_eq!(
        verify(vendor, masa, &["--purpose", "registrar"]),
        "1 path.eku"
    );
    assert_eq!(verify(vendor, jrc, &[]), "1 path.unknown-issuer");
    assert_eq!(verify(masa, masa, &[]), "0 -");
    assert_eq!(
        verify(vendor, "rfc8995/fig14-voucher.json", &[]),
        "1 pki.pem-malformed"
    );
    assert_eq!(
        verify(vendor, masa, &["--name", "masa.example"]),
        "1 path.name-mismatch"
    );
}

#[test]
fn whois_names_the_identity_and_its_rule() {
    let output = usher(&["whois", "rfc8995/idevid_00-D0-E5-F2-00-02.crt"], b"");
    assert_eq!(output.status.code(), Some(0));
    expect![[r#"
        serial_number: 00-D0-E5-F2-00-02
        rule: subject-serial-number
        profile: none
        product: none
        issuer_key_id: 4588cc9696006437b0ba236564645408066c56ad
        idevid_issuer: BBgwFoAURYjMlpYAZDewuiNlZGRUCAZsVq0=
        masa_url: highway-test.example.com:9443
        masa_authority: highway-test.example.com:9443
        other_serial_numbers
          hardware_module_name: none
        subject: SERIALNUMBER=00-D0-E5-F2-00-02
        issuer: CN=highway-test.example.com CA
        not_after: 2999-12-31T00:00:00Z
        key: EC P-256
        certificate_sha256: 3e2cdfa2467282baec1c298b54698fb85a8c3cc677b4e6a9e774b32fe8079082
        notes: no authority key identifier: idevid-issuer is made of the device's own key
    "#]]
    .assert_eq(&String::from_utf8_lossy(&output.stdout));
    let output = usher(&["whois", "rfc8995/vendor.crt", "--json"], b"");
    assert_eq!(output.status.code(), Some(1), "a CA is no device");
    assert_eq!(json_of(&output)["serial_number"], Value::Null);
}

/// Requirements: BRSKI-2.3.1-02
#[test]
fn whois_follows_a_vendor_profile() {
    let scratch = tempfile::tempdir().unwrap();
    let profile = scratch.path().join("vendor.toml");
    let text =
        "name = \"acme\"\nserial = \"common-name\"\n[masa]\nurl = \"https://masa.acme.example\"\n";
    std::fs::write(&profile, text).unwrap();
    let profile = profile.display().to_string();
    let idevid = "jws-voucher/8.1-pvr-1.crt";
    let value = json_of(&usher(
        &["whois", idevid, "--profile", &profile, "--json"],
        b"",
    ));
    assert_eq!(value["serial_number"], "ABC3.E75-100A");
    assert_eq!(value["rule"], "common-name");
    assert_eq!(value["masa_authority"], "masa.acme.example");
    let value = json_of(&usher(&["whois", idevid, "--json"], b""));
    assert_eq!(value["serial_number"], "kit-987654321");
    assert_eq!(value["masa_url"], "masa-test.xyzmanufacturer.com:9443");
    std::fs::write(&profile, "serial = 7").unwrap();
    let output = usher(&["whois", idevid, "--profile", &profile], b"");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn inspect_decodes_what_it_is_given() {
    for (file, kind, code) in [
        ("rfc8995/voucher_00-D0-E5-F2-00-02.der", "voucher", 0),
        ("rfc8995/voucher_00-D0-E5-F2-00-02.b64", "voucher", 0),
        (
            "rfc8995/parboiled_vr_00-D0-E5-F2-00-02.der",
            "registrar-voucher-request",
            0,
        ),
        ("rfc8366bis/A2-pvr.der", "pledge-voucher-request", 0),
        (
            "jws-voucher/8.2-rvr.jws.json",
            "registrar-voucher-request",
            0,
        ),
        ("brski-prm/A1-pvr.jws.json", "pledge-voucher-request", 0),
        ("brski-prm/A4-voucher-countersigned.jws.json", "voucher", 0),
        (
            "rfc8995/fig06-pledge-voucher-request.json",
            "pledge-voucher-request",
            1,
        ),
        ("rfc8995/fig18-audit-log-response.json", "audit-log", 0),
        ("rfc8995/fig20-enrollstatus.json", "telemetry", 0),
        ("rfc8995/jrc_prime256v1.crt", "certificate", 0),
        ("rfc8995/masa.key", "unsupported", 2),
        ("rfc8951/csrattrs.b64", "csr-attributes", 0),
        ("rfc7030/A3-simpleenroll-csr.b64", "csr", 0),
        ("rfc7030/A1-cacerts-response.b64", "certs-only", 0),
        ("README.md", "unknown", 1),
    ] {
        let output = usher(&["artifact", "inspect", "--json", file], b"");
        let value = json_of(&output);
        assert_eq!(value["kind"], kind, "{file}");
        assert_eq!(value["file"], file);
        assert_eq!(output.status.code(), Some(code), "{file}: {value:#}");
    }
    let output = usher(
        &[
            "artifact",
            "inspect",
            "jws-voucher/8.2-rvr.jws.json",
            "--json",
        ],
        b"",
    );
    let value = json_of(&output);
    let prior = &value["decoded"]["prior-signed-voucher-request"];
    assert_eq!(prior["kind"], "pledge-voucher-request");
    assert_eq!(prior["signature"]["holds"], true);
    assert_eq!(
        prior["signature"]["signer"]["device_serial_number"],
        "kit-987654321"
    );
    assert_eq!(value["decoded"]["idevid-issuer"]["form"], "ExtensionValue");
    // Several files are an array; the worst of them decides.
    let output = usher(
        &[
            "artifact",
            "inspect",
            "--json",
            "rfc8995/masa.crt",
            "README.md",
        ],
        b"",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json_of(&output).as_array().unwrap().len(), 2);
}

/// A request that claims another device's serial number is not saved by expecting that number.
///
/// Requirements: BRSKI-5.5-10
#[test]
fn a_claimed_serial_number_is_held_against_the_certificate() {
    let read = |name: &str| {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../artifacts/tests/data");
        std::fs::read_to_string(data.join(name)).unwrap()
    };
    let sign = |certificate: &str, key: &str, serial: &str| {
        let identity = pki::Identity {
            chain: pki::Certificate::all_from_pem(&read(certificate)).unwrap(),
            signer: std::sync::Arc::new(pki::SoftwareKey::from_pem(&read(key), None).unwrap()),
        };
        let mut fields =
            artifacts::RequestFields::new(artifacts::SerialNumber::new(serial).unwrap());
        fields.nonce = artifacts::Nonce::from_octets(&[1; 16]);
        let request = artifacts::VoucherRequest::new(fields).unwrap();
        artifacts::sign_request(&request, artifacts::Envelope::Cms, &identity, None).unwrap()
    };
    let device = (
        "rfc8995/idevid_00-D0-E5-F2-00-02.crt",
        "rfc8995/idevid_00-D0-E5-F2-00-02.key",
    );
    let masa = ("rfc8995/masa.crt", "rfc8995/masa.key");
    let (own, other) = ("00-D0-E5-F2-00-02", "00-D0-E5-F2-00-03");
    let mismatch = "1 request.serial-mismatch";
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("request").display().to_string();
    for ((certificate, key), claimed, expected, want) in [
        (device, own, own, "0 -"),
        (device, own, other, mismatch),
        (device, other, other, mismatch),
        (device, other, own, mismatch),
        (masa, own, own, mismatch),
    ] {
        std::fs::write(&file, sign(certificate, key, claimed)).unwrap();
        let fixed = [
            "artifact",
            "verify",
            &file,
            "--anchors",
            "rfc8995/vendor.crt",
            "--at",
            AT,
        ];
        let arguments: Vec<_> = fixed.into_iter().chain(["--serial", expected]).collect();
        let output = usher(&arguments, b"");
        let code = json_of(&output)["code"].as_str().unwrap_or("-").to_owned();
        let found = format!("{} {code}", output.status.code().unwrap());
        assert_eq!(
            found, want,
            "{certificate} claims {claimed}, expected {expected}"
        );
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let output = usher(&["artifact", "inspect", "--json", "-"], b"<voucher/>");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(json_of(&output)["unsupported"], "XML");
}

#[test]
fn inspect_for_a_person() {
    let output = usher(
        &["artifact", "inspect", "rfc8366bis/A4-voucher.jws.json"],
        b"",
    );
    expect![[r#"
        file: rfc8366bis/A4-voucher.jws.json
        kind: voucher
        encoding: jws
        signatures: 1
        signature
          holds: true
          signer
            subject: CN=highway-test.example.com MASA
            issuer: CN=highway-test.example.com CA
            certificate_serial: 0b870a31
            not_before: 2021-04-13T21:40:16Z
            not_after: 2023-04-13T21:40:16Z
            key: EC P-256
            key_sha256: 8291c7534b666d25a0525ed22f8d7218f1074061058793399059b580cf45968a
            signature_algorithm: ECDSA with SHA-256
            ca: false
            subject_key_id: none
            authority_key_id: none
            extensions: basicConstraints (critical)
            sha256: 0cea608d31a86c57550e62c6d61dc797dc74771833f1cb6f4150f14c6855604c
          algorithm: EcdsaP256Sha256
          signing_time: none
          trusted: not judged; use `usher artifact verify`
        certificates: CN=highway-test.example.com MASA (issued by CN=highway-test.example.com CA, until 2023-04-13T21:40:16Z)
        envelope_oddities:
        content
          ietf-voucher:voucher
            assertion: proximity
            serial-number: caffe-98745
            nonce: 62a2e7693d82fcda2624de58fb6722e5
            created-on: 2025-10-15T00:00:00Z
            pinned-domain-cert: MIIBgzCCASqgAwIBAgIGAWOWe0RFMAoGCCqGSM49BAMCMDUxEzARBgNVBAoMCk15QnVzaW5lc3MxDTALBgNVBAcMBFNpdGUxDzANBgNVBAMMBlRlc3RDQTAeFw0xODA1MjUwODQ3MzBaFw0yODA1MjUwODQ3MzBa… (364 more)
        decoded
          nonce
            octets: 24
            hex: eb66b67bbebddddf367dc75adbadb875ee7c7dbebbdb67b9
          pinned-domain-cert
            subject: CN=TestCA,L=Site,O=MyBusiness
            issuer: CN=TestCA,L=Site,O=MyBusiness
            certificate_serial: 0163967b4445
            not_before: 2018-05-25T08:47:30Z
            not_after: 2028-05-25T08:47:30Z
            key: EC P-256
            key_sha256: b67e1095eda77e3292b4c552adb7a7b470e5850d1f55a45a4eb5a91e8be3ab07
            signature_algorithm: ECDSA with SHA-256
            ca: true
            subject_key_id: none
            authority_key_id: none
            extensions: basicConstraints (critical), keyUsage (critical)
            sha256: ffe4817e2dfd4d7de60f5cbbfa15bb895a2f58b6a5d30c61df683e8a97ef9883
        strict_reader: accepts it
        lenient_reader: accepts it
        oddities:
    "#]].assert_eq(&String::from_utf8_lossy(&output.stdout));
}

#[test]
fn verify_for_a_person() {
    let arguments = [
        "artifact",
        "verify",
        "rfc8995/voucher_00-D0-E5-F2-00-02.der",
        "--anchors",
        "rfc8995/vendor.crt",
        "--at",
        AT,
        "--lenient",
        "--serial",
        "x",
    ];
    let output = usher(&arguments, b"");
    expect![[r#"
        invalid: voucher
          voucher.serial-mismatch (voucher: voucher for 00-D0-E5-F2-00-02, this is x)
          passed    signature
          passed    trust
          passed    content
          not made  assertion            no policy on assertions was given
          failed    serial-number        voucher: voucher for 00-D0-E5-F2-00-02, this is x
          not made  idevid-issuer        no IDevID was given
          not made  nonce                no nonce was given
          not made  expires-on           the voucher has none
          not made  pin                  no certificate of the registrar was given
          not made  domain               no certificate of the domain was given
          tolerated id-data: IdData
    "#]]
    .assert_eq(&String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_documentation_names_each_tolerance_and_its_part_in_lenient() {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/tools.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lenient = artifacts::Tolerances::lenient().names();
    for name in artifacts::Tolerances::NAMES {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/tools.md has no row for {name}"));
        assert_eq!(row.ends_with("| yes |"), lenient.contains(name), "{row}");
    }
}
