use proptest::prelude::*;

use super::*;
use crate::dhcp::{encode_list, encode_v4, encode_v6};

fn uri(text: &str) -> BootstrapUri {
    BootstrapUri::parse(text).unwrap()
}

fn entry(text: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

fn list(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| entry(text.as_bytes()))
        .collect()
}

fn v4(data: &[u8]) -> Vec<u8> {
    let mut out = vec![143, u8::try_from(data.len()).unwrap()];
    out.extend_from_slice(data);
    out
}

/// Codes of the mistakes, then what a device uses, then what was meant.
fn summary(input: &[u8]) -> String {
    let report = inspect(input).unwrap();
    let codes: Vec<_> = report.mistakes.iter().map(|mistake| mistake.code).collect();
    let texts = |uris: &[BootstrapUri]| {
        let texts: Vec<_> = uris.iter().map(ToString::to_string).collect();
        texts.join(" ")
    };
    format!(
        "{} | {} | {}",
        codes.join(" "),
        texts(&report.usable()),
        texts(&report.meant)
    )
}

const URI: &str = "https://b.example.net:8443";

/// Requirements: SZTP-8572-8.1-04, SZTP-8572-8.1-05, SZTP-8572-8.2-03, SZTP-8572-8.3-01,
/// SZTP-8572-8.3-02, SZTP-8572-8.3-03
#[test]
fn each_mistake_is_named_with_what_was_meant() {
    let good = list(&[URI]);
    let nul = entry(format!("{URI}\0").as_bytes());
    let mut behind = good.clone();
    behind.push(0);
    let mut one_octet = vec![u8::try_from(URI.len()).unwrap()];
    one_octet.extend_from_slice(URI.as_bytes());
    let mut little = vec![u8::try_from(URI.len()).unwrap(), 0];
    little.extend_from_slice(URI.as_bytes());
    let mut itself = vec![0, u8::try_from(URI.len() + 2).unwrap()];
    itself.extend_from_slice(URI.as_bytes());
    let mut short = vec![0, 15];
    short.extend_from_slice(URI.as_bytes());
    let mut long = vec![0, 200];
    long.extend_from_slice(URI.as_bytes());
    let mut lower_code = good.clone();
    lower_code.splice(0..0, [136, u8::try_from(good.len()).unwrap()]);
    let mut other_code = good.clone();
    other_code.splice(0..0, [67, u8::try_from(good.len()).unwrap()]);
    let mut v6_swapped = encode_v6(&[uri(URI)]).unwrap();
    v6_swapped[1] = 143;
    let mut v4_length = v4(&good);
    v4_length[1] += 3;
    let mut v6_length = encode_v6(&[uri(URI)]).unwrap();
    v6_length[3] += 3;
    let halves = {
        let (a, b) = URI.as_bytes().split_at(12);
        [v4(&entry(a)), v4(&entry(b))].concat()
    };
    let needless = {
        let (a, b) = good.split_at(7);
        [v4(a), v4(b)].concat()
    };
    let repeated = [
        encode_v6(&[uri(URI)]).unwrap(),
        encode_v6(&[uri(URI)]).unwrap(),
    ]
    .concat();
    let rpc = "https://10.0.0.1:8443/restconf/operations/ietf-sztp-bootstrap-server:get-bootstrapping-data";
    #[rustfmt::skip]
    let cases: Vec<(Vec<u8>, String)> = vec![
        (good.clone(), format!(" | {URI} | ")),
        (v4(&good), format!(" | {URI} | ")),
        (encode_v6(&[uri(URI)]).unwrap(), format!(" | {URI} | ")),
        (hex::encode(v4(&good)).into_bytes(), format!(" | {URI} | ")),
        // The four forms that are in use.
        (rpc.as_bytes().to_vec(), "dhcp.length-missing dhcp.uri-path |  | https://10.0.0.1:8443".into()),
        (b"b.example.net:8443".to_vec(), format!("dhcp.length-missing dhcp.uri-scheme-missing |  | {URI}")),
        (list(&["bootz://b.example.net:8443"]), format!("dhcp.uri-bootz |  | {URI}")),
        // Lengths.
        (URI.as_bytes().to_vec(), format!("dhcp.length-missing |  | {URI}")),
        (v4(URI.as_bytes()), format!("dhcp.length-missing |  | {URI}")),
        (one_octet, format!("dhcp.length-one-octet |  | {URI}")),
        (little, format!("dhcp.length-byte-order |  | {URI}")),
        (itself, format!("dhcp.length-wrong |  | {URI}")),
        (short, format!("dhcp.length-wrong |  | {URI}")),
        (long, format!("dhcp.length-wrong |  | {URI}")),
        // URIs.
        (list(&["http://b.example.net:8443"]), format!("dhcp.uri-http |  | {URI}")),
        (list(&["ftp://b.example.net:8443"]), format!("dhcp.uri-scheme |  | {URI}")),
        (list(&["https://b.example.net:8443/restconf"]), format!("dhcp.uri-path |  | {URI}")),
        (list(&["https://b.example.net:8443/"]), format!("dhcp.uri-slash |  | {URI}")),
        (list(&["https://b.example.net:8443?a=b"]), format!("dhcp.uri-query |  | {URI}")),
        (list(&["https://b.example.net:8443#a"]), format!("dhcp.uri-query |  | {URI}")),
        (list(&["https://me:pw@b.example.net:8443"]), format!("dhcp.uri-userinfo |  | {URI}")),
        (list(&["\"https://b.example.net:8443\""]), format!("dhcp.uri-text |  | {URI}")),
        (list(&["https://b.example.net:8443\n"]), format!("dhcp.uri-text |  | {URI}")),
        (list(&["https://b.example.net:8443,https://c.example"]), format!("dhcp.uri-text |  | {URI} https://c.example")),
        (list(&["https://2001:db8::1"]), "dhcp.uri-host |  | https://[2001:db8::1]".into()),
        (list(&["https://b.example.net:0"]), "dhcp.uri-port |  | ".into()),
        (list(&["https://b.example.net:99999"]), "dhcp.uri-port |  | ".into()),
        (list(&["https://"]), "dhcp.uri-host |  | ".into()),
        (list(&["https://256.1.1.1"]), "dhcp.uri-host |  | ".into()),
        (nul, format!("dhcp.uri-text |  | {URI}")),
        (behind, format!("dhcp.trailing-nul | {URI} | {URI}")),
        // One entry is good, so the option is used.
        (list(&["http://a.example", URI, ""]), format!("dhcp.uri-http dhcp.uri-empty | {URI} | https://a.example {URI}")),
        // Codes and headers.
        (lower_code, "dhcp.option-swapped |  | ".into()),
        (v6_swapped, "dhcp.option-swapped |  | ".into()),
        (other_code, "dhcp.option-code |  | ".into()),
        (v4_length, "dhcp.option-length |  | ".into()),
        (v6_length, "dhcp.option-length |  | ".into()),
        (vec![143, 0], "dhcp.empty |  | ".into()),
        // Splitting.
        (needless, format!("dhcp.split-needless | {URI} | ")),
        (halves, format!("dhcp.split-needless dhcp.split-length |  | {URI}")),
        (repeated, "dhcp.repeated |  | ".into()),
        // The digits themselves were sent.
        (v4(hex::encode(&good).as_bytes()), format!("dhcp.hex-as-text |  | {URI}")),
        (b"dhcp-option=136,00:0b:68:74:74:70:73:3a:2f:2f:61:2e:62".to_vec(), "dhcp.option-swapped |  | ".into()),
        (vec![0, 3, 1, 2, 3], "dhcp.uri-text |  | ".into()),
        (vec![1, 2, 3], "dhcp.length-wrong |  | ".into()),
    ];
    for (input, want) in cases {
        assert_eq!(summary(&input), want, "{}", String::from_utf8_lossy(&input));
    }
}

/// Requirements: SZTP-3396-6-01, SZTP-8572-8.1-06, SZTP-8572-8.1-05, SZTP-8572-8.1-07
#[test]
fn long_lists_are_split_and_put_together() {
    let uris: Vec<_> = (0..20)
        .map(|n| uri(&format!("https://server-{n}.example.net")))
        .collect();
    let list = encode_list(&uris).unwrap();
    assert!(list.len() > 510);
    let option = encode_v4(&uris).unwrap();
    let instances = v4_instances(&option).unwrap();
    assert!(
        instances
            .iter()
            .all(|one| one.code == 143 && one.data.len() <= 255)
    );
    assert_eq!(instances.len(), list.len().div_ceil(255));
    let report = inspect(&option).unwrap();
    assert_eq!((report.usable(), report.mistakes), (uris, Vec::new()));
    // Exactly 255 octets still are one option, one more is two.
    let pad = |total: usize| {
        let label = "x".repeat(60);
        let host = format!("{label}.{label}.{label}.{label}");
        let text = format!("https://{host}");
        let host = &text[..total - 2];
        vec![uri(host)]
    };
    let option = encode_v4(&pad(253)).unwrap();
    assert_eq!(encode_list(&pad(253)).unwrap().len(), 253);
    assert_eq!(v4_instances(&option).unwrap().len(), 1);
    for (extra, count) in [(0, 1), (1, 2)] {
        let first = pad(200);
        let second = uri(&format!("https://{}.net", "y".repeat(41 + extra)));
        let both = [first[0].clone(), second];
        assert_eq!(encode_list(&both).unwrap().len(), 255 + extra);
        let option = encode_v4(&both).unwrap();
        assert_eq!(v4_instances(&option).unwrap().len(), count);
    }
}

/// Requirements: SZTP-3396-7-01
#[test]
fn pieces_in_options_file_and_sname_are_put_together_in_that_order() {
    let list = encode_list(&[uri(URI)]).unwrap();
    let (a, rest) = list.split_at(5);
    let (b, c) = rest.split_at(9);
    let mut message = vec![0_u8; 236];
    let field = |data: &[u8]| [v4(data), vec![255]].concat();
    message[108..108 + b.len() + 3].copy_from_slice(&field(b));
    message[44..44 + c.len() + 3].copy_from_slice(&field(c));
    message.extend_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 5, 52, 1, 3]);
    message.extend_from_slice(&v4(a));
    message.push(255);
    assert_eq!(codec::v4_option(&message, 143).unwrap(), Some(list.clone()));
    assert_eq!(inspect(&message).unwrap().usable(), [uri(URI)]);
    // Without overload the two fields are what their names say.
    assert_eq!(message[243..246], [52, 1, 3]);
    message[245] = 0;
    assert_eq!(codec::v4_option(&message, 143).unwrap(), Some(a.to_vec()));
}

#[test]
fn a_dhcpv6_reply_is_taken_apart() {
    let option = encode_v6(&[uri(URI)]).unwrap();
    let mut reply = vec![7, 1, 2, 3, 0, 1, 0, 2, 9, 9];
    reply.extend_from_slice(&option);
    let report = inspect(&reply).unwrap();
    assert_eq!(
        (report.usable(), report.framing),
        (vec![uri(URI)], Framing::Message)
    );
    let without = inspect(&reply[..10]).unwrap();
    assert_eq!(without.mistakes[0].code, "dhcp.option-absent");
}

/// Requirements: SZTP-8572-8.1-01, SZTP-8572-8.2-01, SZTP-8572-8.2-04, SZTP-8572-4.3-02,
/// SZTP-8572-4.3-03
#[test]
fn encoded_options_have_their_codes_and_nothing_but_uris() {
    let uris = [uri("https://a.b"), uri("https://[2001:db8::1]:8443")];
    let body = "000b68747470733a2f2f612e62001a68747470733a2f2f5b323030313a6462383a3a315d3a38343433";
    assert_eq!(
        hex::encode(encode_v4(&uris).unwrap()),
        format!("8f29{body}")
    );
    assert_eq!(
        hex::encode(encode_v6(&uris).unwrap()),
        format!("00880029{body}")
    );
    let option = encode_v6(&uris).unwrap();
    assert_eq!(crate::dhcp::v6_options(&option).unwrap().len(), 1);
    assert_eq!(encode_v4(&[]), Err(Error::Empty));
    let many: Vec<_> = (0..200)
        .map(|n| uri(&format!("https://s{n}.example")))
        .collect();
    assert!(matches!(encode_v6(&many), Err(Error::TooLong(_))));
}

proptest! {
    /// Requirements: SZTP-8572-8.3-01
    #[test]
    fn what_is_encoded_is_read_back(
        hosts in prop::collection::vec(("[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,10}){0,3}", proptest::option::of(1_u16..)), 1..20)
    ) {
        let uris: Vec<_> = hosts
            .iter()
            .map(|(host, port)| BootstrapUri::new(host, *port).unwrap())
            .collect();
        for octets in [encode_list(&uris).unwrap(), encode_v4(&uris).unwrap(), encode_v6(&uris).unwrap()] {
            let report = inspect(hex::encode(&octets).as_bytes()).unwrap();
            prop_assert_eq!(report.usable(), uris.clone());
            prop_assert!(report.mistakes.is_empty(), "{:?}", report.mistakes);
        }
    }

    #[test]
    fn nothing_that_is_pasted_fails_badly(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(report) = inspect(&octets) {
            prop_assert!(report.usable().is_empty() || report.mistakes.iter().all(|one| !one.fatal));
        }
        let _ = codec::v4_option(&octets, 143);
    }
}
