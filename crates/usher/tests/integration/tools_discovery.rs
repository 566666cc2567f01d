//! `usher dhcp` and `usher dns` as an operator uses them.

use serde_json::{Value, json};

use crate::tools::usher;

const URI: &str = "https://boot.example.net:8443";
/// The same as an option's data.
const DATA: &str = "001d68747470733a2f2f626f6f742e6578616d706c652e6e65743a38343433";

fn answer(arguments: &[&str], input: &[u8]) -> (i32, Value) {
    let output = usher(&[arguments, &["--json"]].concat(), input);
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), value)
}

/// Requirements: SZTP-8572-8.1-01, SZTP-8572-8.2-01, SZTP-8572-8.3-01
#[test]
fn options_are_written_for_every_server() {
    let (code, value) = answer(&["dhcp", "encode", URI], b"");
    assert_eq!((code, &value["ok"]), (0, &json!(true)));
    assert_eq!(value["data"]["hex"], DATA);
    assert_eq!(value["v4"]["option"]["hex"], format!("8f1f{DATA}"));
    assert_eq!(value["v6"]["option"]["hex"], format!("0088001f{DATA}"));
    let of = |family: &str, server: &str| {
        value[family]["snippets"][server]
            .as_str()
            .unwrap_or("-")
            .to_owned()
    };
    assert!(of("v4", "kea").contains(&format!("\"data\": \"{DATA}\"")));
    assert!(of("v4", "dnsmasq").starts_with("dhcp-option=143,00:1d:68:"));
    assert!(of("v6", "dnsmasq").starts_with("dhcp-option=option6:136,00:1d:68:"));
    assert!(of("v4", "isc-dhcpd").contains("code 143 = string"));
    assert!(of("v4", "cisco-ios").contains("option 143 hex 001d.6874.7470."));
    assert!(of("v6", "junos").contains("family inet6 dhcp-attributes option 136 hex-string 001d"));
    assert_eq!(of("v6", "cisco-ios"), "-");
    // Each line is read back as what it is.
    for (family, server) in [
        ("v4", "kea"),
        ("v4", "dnsmasq"),
        ("v4", "cisco-ios"),
        ("v6", "junos"),
        ("v6", "dnsmasq"),
    ] {
        let lines = of(family, server);
        let line = lines
            .lines()
            .filter(|line| !line.starts_with('!'))
            .collect::<Vec<_>>()
            .join("\n");
        let (code, read) = answer(&["dhcp", "decode", "-"], line.as_bytes());
        assert_eq!(
            (code, &read["uris"]),
            (0, &json!([URI])),
            "{server}: {read:#}"
        );
        assert_eq!(read["family"], family, "{server}");
        assert_eq!(read["mistakes"], json!([]), "{server}");
    }
    let plain = usher(
        &["dhcp", "encode", URI, "--family", "v4", "--for", "hex"],
        b"",
    );
    assert_eq!(String::from_utf8_lossy(&plain.stdout).trim(), DATA);
}

/// Requirements: SZTP-8572-8.3-02, SZTP-8572-8.3-03
#[test]
fn what_the_option_cannot_carry_is_refused() {
    let long = format!("https://{}", ["x".repeat(60).as_str(); 5].join("."));
    let many: Vec<String> = (0..60)
        .map(|n| format!("https://server-{n}.example.net"))
        .collect();
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["https://a.example/restconf"], "dhcp.uri-path"),
        (vec!["https://a.example/"], "dhcp.uri-slash"),
        (vec!["https://me@a.example"], "dhcp.uri-userinfo"),
        (vec!["http://a.example"], "dhcp.uri-http"),
        (vec!["bootz://a.example"], "dhcp.uri-bootz"),
        (vec!["a.example:443"], "dhcp.uri-scheme-missing"),
        (vec!["https://2001:db8::1"], "dhcp.uri-host"),
        (vec!["https://[fe80::1%25eth0]"], "dhcp.uri-host"),
        (vec!["https://a.example:0"], "dhcp.uri-port"),
        (vec![&long], "dhcp.uri-host"),
        (many.iter().map(String::as_str).collect(), "dhcp.too-long"),
    ];
    for (uris, want) in cases {
        let (code, value) = answer(&[&["dhcp", "encode"], uris.as_slice()].concat(), b"");
        assert_eq!((code, &value["code"]), (1, &json!(want)), "{uris:?}");
    }
    // A list that is too long for one server's configuration.
    let ten: Vec<&str> = many.iter().take(10).map(String::as_str).collect();
    let arguments = [
        &["dhcp", "encode", "--family", "v4", "--for", "dnsmasq"],
        ten.as_slice(),
    ]
    .concat();
    let (code, value) = answer(&arguments, b"");
    assert_eq!((code, &value["code"]), (1, &json!("dhcp.server-cannot")));
    assert_eq!(usher(&["dhcp", "encode"], b"").status.code(), Some(2));
}

/// Requirements: SZTP-8572-8.1-04
#[test]
fn a_pasted_option_is_explained() {
    let swapped = format!("dhcp-option=143,{DATA}");
    let cases: &[(&[&str], i32, &str, Value)] = &[
        (&[DATA], 0, "", json!([URI])),
        (
            &[
                "00",
                "1d",
                "68747470733a2f2f626f6f742e6578616d706c652e6e65743a38343433",
            ],
            0,
            "",
            json!([URI]),
        ),
        (&["option 143 hex", DATA], 0, "", json!([URI])),
        (
            &["--family", "v6", &swapped],
            1,
            "dhcp.option-swapped",
            json!([]),
        ),
        (&[URI], 1, "dhcp.length-missing", json!([])),
        (
            &["boot.example.net:8443"],
            1,
            "dhcp.length-missing",
            json!([]),
        ),
        (
            &["1d68747470733a2f2f626f6f742e6578616d706c652e6e65743a38343433"],
            1,
            "dhcp.length-one-octet",
            json!([]),
        ),
    ];
    for (words, want, code, uris) in cases {
        let (exit, value) = answer(&[&["dhcp", "decode"], *words].concat(), b"");
        assert_eq!(
            (exit, &value["uris"]),
            (*want, uris),
            "{words:?}: {value:#}"
        );
        let first = value["mistakes"][0]["code"].as_str().unwrap_or_default();
        assert_eq!(first, *code, "{words:?}");
        if !code.is_empty() && *code != "dhcp.option-swapped" {
            assert_eq!(value["corrected"]["data_hex"], DATA, "{words:?}");
        }
    }
    let (exit, value) = answer(
        &["dhcp", "decode", "-"],
        &hex::decode(format!("8f1f{DATA}")).unwrap(),
    );
    assert_eq!(
        (exit, &value["framing"], &value["encoding"]),
        (0, &json!("option"), &json!("octets"))
    );
    for junk in ["", "what is this"] {
        assert_eq!(answer(&["dhcp", "decode", junk], b"").0, 2);
    }
    let huge = vec![b'0'; 1 << 20];
    let (exit, value) = answer(&["dhcp", "decode", "-"], &huge);
    assert_eq!((exit, &value["code"]), (2, &json!("dhcp.input-too-long")));
    // What a stranger put into it does not reach the terminal.
    let output = usher(&["dhcp", "decode", "-"], b"\x00\x0bhttps://\x1b[2");
    assert!(!output.stdout.contains(&0x1b));
}

/// Requirements: SZTP-8572-10.6-01, SZTP-8572-4.2.2-02, SZTP-8572-4.2.2-04
#[test]
fn records_are_written_and_explained() {
    let voucher = "rfc8995/voucher_00-D0-E5-F2-00-02.der";
    let device = [
        "dns",
        "encode",
        "--domain",
        "example.com",
        "--serial",
        "SN 1",
        "--conveyed-information",
        voucher,
    ];
    let (code, value) = answer(&device, b"");
    assert_eq!(code, 0);
    let zone = value["zone"].as_str().unwrap();
    assert!(zone.starts_with("SN\\0321._sztp.example.com. 3600 IN TXT (\n  \"ci=0\\130"));
    let (code, read) = answer(&["dns", "decode", "-"], zone.as_bytes());
    assert_eq!((code, &read["ok"]), (0, &json!(true)));
    assert_eq!(read["devices"][0]["complete"], true);
    let (_, value) = answer(
        &["dns", "encode", "--domain", "example.com", "--server", URI],
        b"",
    );
    assert_eq!(
        value["zone"],
        "_sztp._tcp.example.com. 1800 IN SRV 0 0 8443 boot.example.net.\n"
    );
    let cases: &[(&[u8], &str)] = &[
        (
            b"s._sztp.example.com. IN TXT \"ci=MIIB\"\n",
            "dns.not-binary",
        ),
        (
            b"_sztp._tcp.example.com. IN SRV 0 0 443 .\n",
            "dns.no-service",
        ),
    ];
    for (zone, want) in cases {
        let (code, read) = answer(&["dns", "decode", "-"], zone);
        assert_eq!(
            (code, &read["records"][0]["mistakes"][0]["code"]),
            (1, &json!(want))
        );
    }
    let (code, read) = answer(&["dns", "decode", "-"], b"no records here");
    assert_eq!(code, 1);
    assert!(read["detail"].is_string(), "{read}");
    let (code, value) = answer(&["dns", "encode", "--domain", "a b", "--server", URI], b"");
    assert_eq!((code, &value["code"]), (1, &json!("dns.name")));
    let (code, value) = answer(
        &[
            "dns",
            "encode",
            "--domain",
            "example.com",
            "--server",
            "https://10.0.0.1",
        ],
        b"",
    );
    assert_eq!((code, &value["code"]), (1, &json!("dns.name")));
}
