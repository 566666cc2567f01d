//! `usher artifact` on what constrained devices exchange.

use serde_json::{Value, json};

use crate::tools::{json_of, line, usher};

/// When the certificates of draft-ietf-anima-constrained-voucher-31 are all valid.
const AT: &str = "2023-06-01T00:00:00Z";

fn inspected(file: &str, input: &[u8]) -> (i32, Value) {
    let output = usher(&["artifact", "inspect", "--json", file], input);
    (output.status.code().unwrap(), json_of(&output))
}

fn example(name: &str) -> Vec<u8> {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifacts/tests/data");
    std::fs::read(data.join("cbrski-31").join(name)).unwrap()
}

/// Requirements: CBR-003, CBR-107, CBR-109, CBR-124, CBR-139, VCB-028
#[test]
fn published_examples_get_the_right_verdict() {
    let masa = ["--anchors", "masa_ca.der"];
    let domain = ["--anchors", "domain_ca.der"];
    let none: [&str; 0] = [];
    let cases: &[(&str, &[&str], &[&str], &str)] = &[
        (
            "voucher.cbor",
            &masa,
            &["--registrar", "registrar.der", "domain_ca.der"],
            "0 valid voucher cose -",
        ),
        (
            "voucher.cbor",
            &masa,
            &["--serial", "JADA123456789"],
            "0 valid voucher cose -",
        ),
        (
            "voucher.cbor",
            &masa,
            &["--serial", "x"],
            "1 invalid voucher cose voucher.serial-mismatch",
        ),
        (
            "voucher.cbor",
            &masa,
            &["--request", "pvr.cbor"],
            "1 invalid voucher cose voucher.nonce-mismatch",
        ),
        (
            "voucher.cbor",
            &domain,
            &[],
            "1 invalid voucher cose cose.signature-invalid",
        ),
        (
            "voucher.cbor",
            &masa,
            &["--kind", "pvr"],
            "1 invalid pledge-voucher-request cose request.top-level-name",
        ),
        (
            "pvr.cbor",
            &masa,
            &["--peer", "pledge.der", "--registrar", "registrar.der"],
            "0 valid pledge-voucher-request cose -",
        ),
        (
            "pvr.cbor",
            &masa,
            &["--peer", "pledge.der", "--registrar", "domain_ca.der"],
            "1 invalid pledge-voucher-request cose request.proximity-mismatch",
        ),
        (
            "pvr.cbor",
            &masa,
            &["--peer", "registrar.der"],
            "1 invalid pledge-voucher-request cose cose.signature-invalid",
        ),
        (
            "pvr.cbor",
            &masa,
            &[],
            "1 invalid pledge-voucher-request cose cose.signature-invalid",
        ),
        (
            "rvr.cbor",
            &masa,
            &[
                "--domain",
                "domain_ca.der",
                "--idevid",
                "pledge.der",
                "--request",
                "pvr.cbor",
            ],
            "0 valid registrar-voucher-request cose -",
        ),
        (
            "rvr.cbor",
            &masa,
            &["--idevid", "pledge.der"],
            "0 valid registrar-voucher-request cose -",
        ),
        (
            "rvr.cbor",
            &masa,
            &[],
            "1 invalid registrar-voucher-request cose path.unknown-issuer",
        ),
        (
            "pvr-payload.cbor",
            &masa,
            &[],
            "1 invalid unknown cbor cose.malformed",
        ),
        (
            "telemetry-vs-failure.cbor",
            &none,
            &[],
            "0 valid telemetry cbor -",
        ),
        (
            "telemetry-vs-failure.cbor",
            &none,
            &["--kind", "voucher"],
            "1 invalid telemetry cbor voucher.wrong-kind",
        ),
    ];
    for (file, anchors, options, want) in cases {
        let in_folder = |name: &&str| {
            let is_file = name.ends_with(".der") || name.ends_with(".cbor");
            let folder = if is_file { "cbrski-31/" } else { "" };
            format!("{folder}{name}")
        };
        let mut arguments: Vec<String> = ["artifact", "verify", "--at", AT]
            .map(str::to_owned)
            .to_vec();
        arguments.push(in_folder(file));
        arguments.extend(anchors.iter().chain(*options).map(in_folder));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(line(&arguments), *want, "{arguments:?}");
    }
}

#[test]
fn inspect_shows_sizes_and_diagnostic_notation() {
    for (file, kind, encoding) in [
        ("pvr.cbor", "pledge-voucher-request", "cose"),
        ("rvr.cbor", "registrar-voucher-request", "cose"),
        ("voucher.cbor", "voucher", "cose"),
        ("pvr-payload.cbor", "pledge-voucher-request", "cbor"),
        ("rvr-payload.cbor", "registrar-voucher-request", "cbor"),
        ("voucher-payload.cbor", "voucher", "cbor"),
        ("telemetry-es-success.cbor", "telemetry", "cbor"),
        ("telemetry-es-failure.cbor", "telemetry", "cbor"),
    ] {
        let (exit, value) = inspected(&format!("cbrski-31/{file}"), b"");
        assert_eq!(exit, 0, "{file}: {value:#}");
        assert_eq!(
            (&value["kind"], &value["encoding"]),
            (&json!(kind), &json!(encoding))
        );
        // The diagnostic notation that the draft's own tool printed.
        let printed = file.replace("pvr.", "pvr-payload.");
        let printed = printed.replace("rvr.", "rvr-payload.");
        let printed = printed.replace("voucher.", "voucher-payload.");
        let printed = String::from_utf8(example(&printed.replace(".cbor", ".diag"))).unwrap();
        assert_eq!(value["diagnostic"], printed.trim(), "{file}");
    }
    let (_, voucher) = inspected("cbrski-31/voucher.cbor", b"");
    let sizes = &voucher["sizes"];
    assert_eq!(sizes["message"], 724);
    assert_eq!(sizes["if_pinned_by"]["pinned-domain-cert"], 724);
    assert_eq!(sizes["if_pinned_by"]["pinned-domain-pubk-sha256"], 171);
    assert_eq!(sizes["fits_in"]["a datagram of 1024"], true);
    assert_eq!(sizes["fits_in"]["a block of 512"], false);
    assert_eq!(
        voucher["content"]["ietf-voucher:voucher"]["assertion"],
        "proximity"
    );
    assert_eq!(voucher["signature"]["holds"], Value::Null);
    let (_, request) = inspected("cbrski-31/rvr.cbor", b"");
    assert_eq!(request["signature"]["holds"], true);
    assert_eq!(request["headers"]["certificates_in"], "x5bag");
    assert_eq!(request["sizes"]["message"], 1604);
    assert_eq!(request["sizes"]["without_certificates"], 368);
    let prior = &request["decoded"]["prior-signed-voucher-request"];
    assert_eq!(prior["kind"], "pledge-voucher-request");
    assert_eq!(prior["sizes"]["message"], 201);
    // As a draft prints it.
    let printed: String = example("pvr.cbor")
        .chunks(16)
        .map(|line| {
            line.iter()
                .map(|octet| format!("{octet:02X}"))
                .collect::<String>()
                + "\n"
        })
        .collect();
    let (exit, pasted) = inspected("-", printed.as_bytes());
    assert_eq!((exit, &pasted["wrapped_in"]), (0, &json!(["hex"])));
    assert_eq!(pasted["sizes"]["message"], 201);
}

#[test]
fn junk_is_named_and_breaks_nothing() {
    for (bytes, kind, exit) in [
        (&b"\xd2\x84\x43\xa1\x01\x26\xa0\x40\x40"[..], "unknown", 1),
        (b"\xd1\x84\x43\xa1\x01\x05\xa0\x40\x40", "unknown", 1),
        (b"\xd8\x62\x84\x40\xa0\x40\x80", "unknown", 1),
        (b"\x84\x40\xa0\x40\x40", "unknown", 1),
        (b"\xa1\x01\x02", "unknown", 1),
        (b"\xa1\x19\x09\x93\x01", "unknown", 1),
        (b"\xa1\x19\x09\x93", "unknown", 1),
        (b"\xbf", "unknown", 1),
        (b"\xa1\x66status\x01", "telemetry", 1),
        (&[0x81; 100_000], "unknown", 1),
        (&[0xd2; 100_000], "unknown", 1),
    ] {
        let (found, value) = inspected("-", bytes);
        let head = &bytes[..bytes.len().min(9)];
        assert_eq!(
            (&value["kind"], found),
            (&json!(kind), exit),
            "{head:02x?}: {value:#}"
        );
    }
}
