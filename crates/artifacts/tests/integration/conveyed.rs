//! Conveyed information: the documents that RFC 8572 prints, the rules of its YANG module in both
//! encodings, and what known peers do differently.

use artifacts::conveyed::{
    BootImage, BootstrapServer, ConfigurationHandling, ConveyedInformation, HashAlgorithm,
    ImageVerification, OnboardingInformation, RedirectInformation,
};
use artifacts::{Encoding, Fault, Tolerances};
use pki::Coded as _;

use crate::common::file;

const NS: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info";
const M: &str = "ietf-sztp-conveyed-info";

fn read(text: &str, encoding: Encoding, names: &[&str]) -> Result<Vec<&'static str>, Fault> {
    let tolerances = Tolerances::from_names(names.iter().copied()).unwrap();
    match ConveyedInformation::decode_noting(text.as_bytes(), encoding, &tolerances) {
        Ok((_, oddities)) => Ok(oddities.iter().map(|oddity| oddity.name).collect()),
        Err(error) => Err(error.fault().expect("the document is at fault")),
    }
}

fn hash() -> Vec<u8> {
    (0..32).collect()
}

fn colons() -> String {
    let octets: Vec<String> = hash().iter().map(|octet| format!("{octet:02x}")).collect();
    octets.join(":")
}

pub(crate) fn onboarding() -> ConveyedInformation {
    ConveyedInformation::Onboarding(OnboardingInformation {
        boot_image: Some(BootImage {
            os_name: Some("Vendor <OS> & \"more\"".to_owned()),
            os_version: Some(" 17.2R1.6\r\n".to_owned()),
            download_uris: vec![
                "https://example.com/a?b=c&d=e".to_owned(),
                "ftp://[2001:db8::1]/image".to_owned(),
            ],
            image_verifications: vec![ImageVerification {
                algorithm: HashAlgorithm::Sha256,
                value: hash(),
            }],
        }),
        pre_configuration_script: Some(b"#!/bin/sh\n\x00\xff".to_vec()),
        configuration_handling: Some(ConfigurationHandling::Merge),
        configuration: Some(Vec::new()),
        post_configuration_script: Some(vec![0xfb; 1000]),
    })
}

fn redirect(address: &str) -> ConveyedInformation {
    ConveyedInformation::Redirect(RedirectInformation {
        bootstrap_servers: vec![BootstrapServer {
            address: address.to_owned(),
            port: None,
            trust_anchor: None,
        }],
    })
}

/// Requirements: SZTP-8572-3.1-02, SZTP-8572-6.3-08, SZTP-8572-6.3-15
#[test]
fn what_is_written_is_read_in_both_encodings() {
    for information in [onboarding(), redirect("a.example")] {
        for encoding in Encoding::ALL {
            let text = information.encode(encoding).unwrap();
            let strict = Tolerances::strict();
            let back = ConveyedInformation::decode(&text, encoding, &strict);
            assert_eq!(back.unwrap(), information, "{encoding}");
        }
    }
    let json = String::from_utf8(redirect("a.example").encode(Encoding::Json).unwrap()).unwrap();
    // SZTP-8040-8-02: the name of the template is nowhere.
    let expected = format!(
        "{{\"{M}:redirect-information\":{{\"bootstrap-server\":[{{\"address\":\"a.example\"}}]}}}}"
    );
    assert_eq!(json, expected);
    let json = String::from_utf8(onboarding().encode(Encoding::Json).unwrap()).unwrap();
    assert!(json.contains(&format!("\"hash-value\":\"{}\"", colons())));
    assert!(json.contains("\"hash-algorithm\":\"ietf-sztp-conveyed-info:sha-256\""));
}

/// The documents of RFC 8572 section 6.2 and of its working group's repository. Their placeholders
/// are no base64 in its canonical form, and one has a configuration in place of its encoding.
///
/// Requirements: SZTP-8572-6.3-01, SZTP-8572-6.3-15
#[test]
fn published_documents_are_as_right_as_they_are_known_to_be() {
    #[rustfmt::skip]
    let files = [
        ("rfc8572/6.2-onboarding-information.json", Encoding::Json, true),
        ("rfc8572/6.2-redirect-information.json", Encoding::Json, true),
        ("wg-repo-zero-touch/ex-file-onboarding-information.json", Encoding::Json, true),
        ("wg-repo-zero-touch/ex-file-redirect-information.json", Encoding::Json, true),
        ("wg-repo-zero-touch/ex-file-redirect-information.xml", Encoding::Xml, true),
        ("wg-repo-zero-touch/ex-file-onboarding-information.xml", Encoding::Xml, false),
    ];
    for (name, encoding, right) in files {
        let text = String::from_utf8(file(name)).unwrap();
        if !right {
            assert_eq!(
                read(&text, encoding, &["lenient"]),
                Err(Fault::WrongType),
                "{name}"
            );
            continue;
        }
        assert_eq!(read(&text, encoding, &[]), Err(Fault::BadBase64), "{name}");
        let oddities = read(&text, encoding, &["base64-non-canonical"]).unwrap();
        assert!(oddities.iter().all(|name| *name == "base64-non-canonical"));
        // With the placeholder replaced it is right.
        let mended = text.replace("base64encodedvalue==", "QUJD");
        assert_eq!(read(&mended, encoding, &[]), Ok(vec![]), "{name}");
    }
}

/// JSON of onboarding information with these members.
fn onboarding_json(members: &str) -> String {
    format!("{{\"{M}:onboarding-information\":{{{members}}}}}")
}

fn onboarding_xml(elements: &str) -> String {
    format!("<onboarding-information xmlns=\"{NS}\">{elements}</onboarding-information>")
}

fn redirect_json(entry: &str) -> String {
    format!("{{\"{M}:redirect-information\":{{\"bootstrap-server\":[{entry}]}}}}")
}

fn redirect_xml(entries: &str) -> String {
    format!("<redirect-information xmlns=\"{NS}\">{entries}</redirect-information>")
}

/// One rule: the document, what a strict reader says, and the switch that tolerates it.
struct Case {
    id: &'static str,
    text: String,
    want: Option<Fault>,
    tolerance: &'static str,
}

fn case(id: &'static str, text: String, want: Option<Fault>, tolerance: &'static str) -> Case {
    Case {
        id,
        text,
        want,
        tolerance,
    }
}

fn check(cases: Vec<Case>, encoding: Encoding) {
    for Case {
        id,
        text,
        want,
        tolerance,
    } in cases
    {
        let strict = read(&text, encoding, &[]);
        assert_eq!(strict.err(), want, "{id} {text}");
        if tolerance == "-" {
            // Something else is wrong with it then.
            let found = read(&text, encoding, &["lenient"]);
            assert!(found.is_err(), "{id} {text}");
        } else if !tolerance.is_empty() {
            let found = read(&text, encoding, &[tolerance]);
            assert_eq!(found, Ok(vec![tolerance]), "{id} {text}");
        } else if want.is_some() {
            let found = read(&text, encoding, &["lenient", "trust-anchor-form"]);
            assert_eq!(found.err(), want, "{id} {text}");
        }
    }
}

/// Requirements: SZTP-8572-6.3-01, SZTP-8572-6.3-02, SZTP-8572-6.3-03, SZTP-8572-6.3-11, SZTP-8572-6.3-12, SZTP-8572-6.3-13, SZTP-8572-6.3-15, SZTP-8040-8-02, SZTP-7951-6.1-01
#[test]
fn each_rule_of_the_model_in_json() {
    let image = |members: &str| onboarding_json(&format!("\"boot-image\":{{{members}}}"));
    let uri = "\"download-uri\":[\"https://a/b\"]";
    let verification = |entries: &str| image(&format!("{uri},\"image-verification\":[{entries}]"));
    let entry = |algorithm: &str, value: &str| {
        format!("{{\"hash-algorithm\":\"{algorithm}\",\"hash-value\":\"{value}\"}}")
    };
    let right = entry("sha-256", &colons());
    let plain = entry("sha-256", &hex::encode(hash()));
    let unknown = entry("sha-512", &colons());
    let configuration = "\"configuration\":\"QQ==\",\"configuration-handling\":\"merge\"";
    let address = |address: &str| redirect_json(&format!("{{\"address\":\"{address}\"}}"));
    let both = format!(
        "{{\"{M}:redirect-information\":{{\"bootstrap-server\":[{{\"address\":\"a\"}}]}},\"{M}:onboarding-information\":{{}}}}"
    );
    use Fault as F;
    #[rustfmt::skip]
    let cases = vec![
        case("6.3-01", "{}".to_owned(), Some(F::MissingMember), ""),
        case("6.3-01", "[]".to_owned(), Some(F::WrongType), ""),
        case("6.3-01", both, Some(F::BothKinds), ""),
        case("6.3-01", onboarding_json(""), None, ""),
        case("8040-8-02", format!("{{\"{M}:conveyed-information\":{}}}", onboarding_json("")), Some(F::TopLevelName), "conveyed-wrapper"),
        case("7951-4", "{\"onboarding-information\":{}}".to_owned(), Some(F::TopLevelName), "top-level-names"),
        case("7951-4", onboarding_json(&format!("\"{M}:boot-image\":{{}}")), Some(F::UnknownMember), "unknown-members"),
        case("", format!("{{\"{M}:onboarding-information\":{{}},\"x\":1}}"), Some(F::UnknownMember), "unknown-members"),
        case("", onboarding_json("\"x\":1"), Some(F::UnknownMember), "unknown-members"),
        case("", onboarding_json("\"boot-image\":[]"), Some(F::WrongType), ""),
        case("", onboarding_json("\"boot-image\":null"), Some(F::WrongType), "wrong-json-types"),
        case("", onboarding_json("\"boot-image\":{},\"boot-image\":{}"), Some(F::DuplicateMember), ""),
        case("", image("\"os-name\":1"), Some(F::WrongType), "wrong-json-types"),
        case("", image("\"os-name\":\"\""), None, ""),
        case("", image("\"os-name\":\"\\u0001\""), Some(F::WrongType), ""),
        case("", image("\"download-uri\":\"https://a/b\""), Some(F::WrongType), "wrong-json-types"),
        case("", image("\"download-uri\":[\"no uri\"]"), Some(F::BadUri), ""),
        case("", image("\"download-uri\":[\"/path\"]"), Some(F::BadUri), ""),
        case("", image("\"download-uri\":[\"https://a/b\",\"https://a/b\"]"), Some(F::DuplicateUri), ""),
        case("", image("\"download-uri\":[\"file:///disk2:/image.iso\"]"), None, ""),
        case("6.3-11", image(&format!("\"image-verification\":[{right}]")), Some(F::VerificationWithoutUri), ""),
        case("6.3-11", verification(&right), None, ""),
        case("6.3-12", verification(&entry("ietf-sztp-conveyed-info:sha-256", &colons().to_uppercase())), None, ""),
        case("6.3-12", verification(&plain), Some(F::BadHash), "hash-without-colons"),
        case("6.3-12", verification(&entry("sha-256", "ba:ec")), Some(F::BadHash), ""),
        case("6.3-12", verification(&entry("sha-256", "ba:e")), Some(F::BadHash), ""),
        case("6.3-12", verification(&entry("sha-256", "")), Some(F::BadHash), ""),
        case("6.3-12", verification(&entry("ietf-other:sha-256", &colons())), Some(F::UnknownHash), "unknown-members"),
        case("6.3-12", verification(&format!("{right},{unknown}")), Some(F::UnknownHash), "unknown-members"),
        case("6.3-12", verification(&format!("{right},{right}")), Some(F::DuplicateHash), "verification-per-uri"),
        case("6.3-12", verification("{\"hash-algorithm\":\"sha-256\"}"), Some(F::MissingMember), ""),
        case("6.3-12", verification(&format!("{{\"hash-value\":\"{}\"}}", colons())), Some(F::MissingMember), ""),
        case("6.3-13", onboarding_json("\"configuration\":\"QQ==\""), Some(F::ConfigurationWithoutHandling), ""),
        case("6.3-13", onboarding_json("\"configuration-handling\":\"merge\""), Some(F::HandlingWithoutConfiguration), ""),
        case("6.3-13", onboarding_json(configuration), None, ""),
        case("6.3-14", onboarding_json("\"configuration\":\"QQ==\",\"configuration-handling\":\"Replace\""), Some(F::BadHandling), ""),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"Q\""), Some(F::BadBase64), ""),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"QQ\""), Some(F::BadBase64), "binary-base64url"),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"QUJD\\nREVG\\n\""), Some(F::BadBase64), "base64-white-space"),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"QR==\""), Some(F::BadBase64), "base64-non-canonical"),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"-_-_\""), Some(F::BadBase64), "binary-base64url"),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"#!/bin/sh\""), Some(F::BadBase64), ""),
        case("6.3-15", onboarding_json("\"pre-configuration-script\":\"\""), None, ""),
        case("6.3-02", redirect_json(""), Some(F::MissingMember), ""),
        case("6.3-02", redirect_json("{\"address\":\"a\",\"port\":1},{\"address\":\"A\",\"port\":2}"), Some(F::DuplicateServer), ""),
        case("6.3-02", redirect_json("{\"address\":\"a\"},{\"address\":\"b\"}"), None, ""),
        case("6.3-03", redirect_json("{\"port\":443}"), Some(F::MissingMember), ""),
        case("6.3-03", address("https://a.example"), Some(F::BadAddress), ""),
        case("6.3-03", address("a.example:8443"), Some(F::BadAddress), ""),
        case("6.3-03", address("[2001:db8::1]"), Some(F::BadAddress), ""),
        case("6.3-03", address(""), Some(F::BadAddress), ""),
        case("6.3-03", address("a..example"), Some(F::BadAddress), ""),
        case("6.3-03", address("-a.example"), Some(F::BadAddress), ""),
        case("6.3-03", address("2001:db8::1"), None, ""),
        case("6.3-03", address("fe80::1%eth0"), None, ""),
        case("6.3-03", address("192.0.2.1"), None, ""),
        case("6.3-03", address("_x.a-b.example."), None, ""),
        case("6.3-04", redirect_json("{\"address\":\"a\",\"port\":65536}"), Some(F::BadPort), ""),
        case("6.3-04", redirect_json("{\"address\":\"a\",\"port\":-1}"), Some(F::BadPort), ""),
        case("6.3-04", redirect_json("{\"address\":\"a\",\"port\":1.5}"), Some(F::BadPort), ""),
        case("6.3-04", redirect_json("{\"address\":\"a\",\"port\":\"443\"}"), Some(F::WrongType), "wrong-json-types"),
        case("", format!("\u{feff}{}", onboarding_json("")), Some(F::ByteOrderMark), "byte-order-mark"),
        case("", onboarding_json("").replace('{', "{\r\n"), None, ""),
        case("", "{".to_owned(), Some(F::NotJson), ""),
        case("", onboarding_xml(""), Some(F::NotJson), ""),
        case("", onboarding_json(&format!("\"boot-image\":{}1{}", "[".repeat(40), "]".repeat(40))), Some(F::TooDeep), ""),
        case("", " ".repeat(1024 * 1024 + 1), Some(F::TooLarge), ""),
    ];
    check(cases, Encoding::Json);
}

/// Requirements: SZTP-8572-6.3-01, SZTP-8572-6.3-02, SZTP-8572-6.3-12, SZTP-8572-6.3-13, SZTP-8040-8-02
#[test]
fn each_rule_of_the_model_in_xml() {
    let image = |elements: &str| onboarding_xml(&format!("<boot-image>{elements}</boot-image>"));
    let hash = |algorithm: &str, value: &str| {
        image(&format!(
            "<download-uri>https://a/b</download-uri><image-verification>\
             <hash-algorithm>{algorithm}</hash-algorithm><hash-value>{value}</hash-value>\
             </image-verification>"
        ))
    };
    let prefixed = format!(
        "<x:onboarding-information xmlns:x=\"{NS}\"><x:boot-image><x:download-uri>https://a/b\
         </x:download-uri><x:image-verification><x:hash-algorithm>x:sha-256</x:hash-algorithm>\
         <x:hash-value>{}</x:hash-value></x:image-verification></x:boot-image>\
         </x:onboarding-information>",
        colons()
    );
    let entry = "<bootstrap-server><address>a</address></bootstrap-server>";
    let doctype = format!(
        "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{}",
        image("<os-name>&e;</os-name>")
    );
    use Fault as F;
    #[rustfmt::skip]
    let cases = vec![
        case("6.3-01", onboarding_xml(""), None, ""),
        case("6.3-01", format!("<onboarding-information xmlns=\"{NS}\"/>"), None, ""),
        case("6.3-01", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x -->{}\n", onboarding_xml("")), None, ""),
        case("6.3-01", format!("<whatever xmlns=\"{NS}\"/>"), Some(F::UnknownMember), "-"),
        case("6.3-01", format!("<conveyed-information xmlns=\"{NS}\"/>"), Some(F::TopLevelName), "-"),
        case("6.3-01", format!("<conveyed-information xmlns=\"{NS}\"><redirect-information>{entry}</redirect-information><onboarding-information/></conveyed-information>"), Some(F::TopLevelName), "-"),
        case("8040-8-02", format!("<conveyed-information xmlns=\"{NS}\"><redirect-information>{entry}</redirect-information></conveyed-information>"), Some(F::TopLevelName), "conveyed-wrapper"),
        case("", "<onboarding-information/>".to_owned(), Some(F::WrongNamespace), ""),
        case("", onboarding_xml("").replace("sztp", "SZTP"), Some(F::WrongNamespace), "namespace-case"),
        case("", onboarding_xml("<boot-image xmlns=\"urn:x\"/>"), Some(F::WrongNamespace), ""),
        case("", onboarding_xml("<x/>"), Some(F::UnknownMember), "unknown-members"),
        case("", onboarding_xml("<boot-image x=\"1\"/>"), Some(F::UnknownMember), "unknown-members"),
        case("", onboarding_xml("text"), Some(F::WrongType), ""),
        case("", onboarding_xml("<boot-image/><boot-image/>"), Some(F::DuplicateMember), ""),
        case("", image("<os-name>a</os-name><os-name>b</os-name>"), Some(F::DuplicateMember), ""),
        case("", image("<os-name>a<b/></os-name>"), Some(F::WrongType), ""),
        case("", image("<os-name><![CDATA[a<b]]>&amp;&#65;</os-name>"), None, ""),
        case("", image("<os-name>&#1;</os-name>"), Some(F::NotXml), ""),
        case("", image("<os-name>&e;</os-name>"), Some(F::XmlEntity), ""),
        case("", doctype, Some(F::XmlDoctype), ""),
        case("", format!("<?xml-stylesheet href=\"x\"?>{}", onboarding_xml("")), Some(F::NotXml), ""),
        case("", onboarding_xml("<boot-image>"), Some(F::NotXml), ""),
        case("", onboarding_xml("") + &onboarding_xml(""), Some(F::NotXml), ""),
        case("", onboarding_xml("") + "text", Some(F::NotXml), ""),
        case("", String::new(), Some(F::NotXml), ""),
        case("", onboarding_json(""), Some(F::NotXml), ""),
        case("", format!("\u{feff}{}", onboarding_xml("")), Some(F::ByteOrderMark), "byte-order-mark"),
        case("", onboarding_xml(&format!("{}{}", "<x>".repeat(40), "</x>".repeat(40))), Some(F::TooDeep), ""),
        case("", onboarding_xml(&"<x/>".repeat(20_001)), Some(F::TooLarge), ""),
        // Each element has its namespace: with 20 000 of them half a megabyte would become ten
        // gigabytes, before anybody asks who says so.
        case("", onboarding_xml(&format!("<x xmlns=\"{}\"/>", "u".repeat(2000))), Some(F::TooLarge), ""),
        case("", onboarding_xml(&format!("<x xmlns:p=\"{}\">p:x</x>", "u".repeat(2000))), Some(F::TooLarge), ""),
        case("6.3-12", prefixed, None, ""),
        case("6.3-12", hash("sha-256", &colons()), None, ""),
        case("6.3-12", hash("y:sha-256", &colons()), Some(F::UnknownHash), "unknown-members"),
        case("6.3-12", hash("sha-1", &colons()), Some(F::UnknownHash), "unknown-members"),
        case("6.3-12", hash("sha-256", &colons().replace(':', "")), Some(F::BadHash), "hash-without-colons"),
        case("6.3-13", onboarding_xml("<configuration>QQ==</configuration>"), Some(F::ConfigurationWithoutHandling), ""),
        case("6.3-13", onboarding_xml("<configuration-handling>replace</configuration-handling>"), Some(F::HandlingWithoutConfiguration), ""),
        // RFC 7950 section 7.5.7: the children of a container may come in any order.
        case("6.3-13", onboarding_xml("<configuration>QQ==</configuration><configuration-handling>replace</configuration-handling>"), None, ""),
        case("6.3-15", onboarding_xml("<pre-configuration-script>\nQUJD\nREVG\n</pre-configuration-script>"), Some(F::BadBase64), "base64-white-space"),
        case("6.3-02", redirect_xml(""), Some(F::MissingMember), ""),
        case("6.3-02", redirect_xml(entry), None, ""),
        case("6.3-02", redirect_xml(&entry.repeat(2)), Some(F::DuplicateServer), ""),
        case("6.3-04", redirect_xml("<bootstrap-server><address>a</address><port>x</port></bootstrap-server>"), Some(F::BadPort), ""),
    ];
    check(cases, Encoding::Xml);
}

/// What is written keeps every rule too.
///
/// Requirements: SZTP-8572-6.3-02, SZTP-8572-6.3-05, SZTP-8572-6.3-11, SZTP-8572-6.3-13
#[test]
fn nothing_is_written_that_breaks_a_rule() {
    let image = |image: BootImage| {
        ConveyedInformation::Onboarding(OnboardingInformation {
            boot_image: Some(image),
            ..OnboardingInformation::default()
        })
    };
    let hashes = |count: usize| {
        let verification = ImageVerification {
            algorithm: HashAlgorithm::Sha256,
            value: hash(),
        };
        BootImage {
            download_uris: vec!["https://a/b".to_owned(), "https://a/c".to_owned()],
            image_verifications: vec![verification; count],
            ..BootImage::default()
        }
    };
    let mut without_uri = hashes(1);
    without_uri.download_uris.clear();
    let with_anchor = |anchor: &[u8]| {
        ConveyedInformation::Redirect(RedirectInformation {
            bootstrap_servers: vec![BootstrapServer {
                address: "a".to_owned(),
                port: Some(443),
                trust_anchor: Some(anchor.to_vec()),
            }],
        })
    };
    let cases = [
        (redirect("https://a"), "conveyed.bad-address"),
        (
            ConveyedInformation::Redirect(RedirectInformation::default()),
            "conveyed.missing-member",
        ),
        (
            ConveyedInformation::Onboarding(OnboardingInformation::default()),
            "conveyed.empty",
        ),
        (image(BootImage::default()), "conveyed.empty"),
        (with_anchor(b"no CMS"), "conveyed.bad-trust-anchor"),
        (image(without_uri), "conveyed.verification-without-uri"),
        (image(hashes(2)), "conveyed.duplicate-hash-algorithm"),
        (
            ConveyedInformation::Onboarding(OnboardingInformation {
                configuration: Some(b"x".to_vec()),
                ..OnboardingInformation::default()
            }),
            "conveyed.configuration-without-handling",
        ),
        (
            ConveyedInformation::Onboarding(OnboardingInformation {
                configuration: Some(vec![0; 1024 * 1024]),
                configuration_handling: Some(ConfigurationHandling::Replace),
                ..OnboardingInformation::default()
            }),
            "conveyed.too-large",
        ),
    ];
    for (information, code) in cases {
        for encoding in Encoding::ALL {
            let refused = information.encode(encoding).unwrap_err();
            assert_eq!(refused.code(), code);
        }
    }
    // Devices that want one hash for each URI get it when their profile says so.
    let per_uri = Tolerances::from_names(["verification-per-uri"]).unwrap();
    for encoding in Encoding::ALL {
        let information = image(hashes(2));
        let text = information.encode_with(encoding, &per_uri).unwrap();
        let back = ConveyedInformation::decode(&text, encoding, &per_uri);
        assert_eq!(back.unwrap(), information);
    }
}
