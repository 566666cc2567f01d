//! Voucher data that a trusted signer signed and that is still not right.

use artifacts::verify::{VoucherContext, verify_voucher};
use artifacts::{Document, Envelope, Fault, Tolerances, Voucher, VoucherRequest, open};
use pki::cms::{self, ID_CT_ANIMA_JSON_VOUCHER, ID_DATA};
use pki::jws::{self, TYPE_VOUCHER};
use pki::{Coded, SignOptions};

use crate::common::{NONCE, World, opened};

/// Changes to a good voucher, what a strict reader says, and the switch that tolerates it.
type Case<'a> = (&'a [(&'a str, &'a str)], Option<Fault>, &'a str);

/// A voucher with one leaf replaced or added, as JSON text.
fn text(changes: &[(&str, &str)]) -> String {
    let world = World::new();
    let voucher = Voucher::new(world.voucher_fields()).unwrap().to_json();
    let mut value: serde_json::Value = serde_json::from_slice(&voucher).unwrap();
    let members = value["ietf-voucher:voucher"].as_object_mut().unwrap();
    for (name, json) in changes {
        match *json {
            "" => {
                members.shift_remove(*name);
            }
            json => {
                members.insert((*name).to_owned(), serde_json::from_str(json).unwrap());
            }
        }
    }
    value.to_string()
}

/// Requirements: BRSKI-5.6.1-05, BRSKI-5.6.1-04, VOUCHER-5.3-02, VOUCHER-5.3-03, VOUCHER-5.3-04, VOUCHER-5.3-06, VOUCHER-5.3-07, VOUCHER-5.3-12, VOUCHER-5.3-22, VOUCHERBIS-8.6-01, VOUCHERBIS-8.6-02, VOUCHERBIS-8.7-01, BRSKI-3.3-01, SZTP-8366-5.3-01, SZTP-8366-5.3-03, SZTP-8366-5.3-05, SZTP-8366-5.3-10, SZTP-8366-5.3-13, SZTP-8366-5.3-14, SZTP-8366-6.2-01, SZTP-7951-6.3-01
#[test]
fn each_leaf_has_its_faults_and_its_tolerance() {
    let key_id = "\"AQIDBAUGBwgJCgsMDQ4PEBESExQ=\"";
    let pem = serde_json::json!(World::new().owner.iter().next().unwrap().to_pem()).to_string();
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        (&[], None, ""),
        (&[("created-on", "")], None, ""),
        (&[("assertion", "")], None, ""),
        (&[("whatever", "[1]")], None, ""),
        (&[("manufacturer-private", "\"x\"")], None, ""),
        (&[("extensions", "[\"a-b\"]"), ("extension:a-b", "{\"x\":1}")], None, ""),
        (&[("extensions", "[\"a-b\"]")], None, ""),
        (&[("extensions", "[\"a\",\"a\"]")], Some(Fault::BadExtension), ""),
        (&[("extensions", "[1]")], Some(Fault::WrongType), ""),
        (&[("extensions", "\"a\"")], Some(Fault::WrongType), ""),
        (&[("serial-number", "")], Some(Fault::MissingMember), ""),
        (&[("serial-number", "\"\"")], Some(Fault::BadSerialNumber), ""),
        (&[("serial-number", "12345")], Some(Fault::WrongType), "wrong-json-types"),
        (&[("serial-number", "[\"a\"]")], Some(Fault::WrongType), ""),
        (&[("serial-number", "null")], Some(Fault::WrongType), ""),
        (&[("assertion", "\"foo\"")], Some(Fault::BadAssertion), ""),
        (&[("assertion", "\"Logged\"")], Some(Fault::BadAssertion), ""),
        (&[("assertion", "1")], Some(Fault::WrongType), ""),
        (&[("assertion", "\"agent-proximity\"")], None, ""),
        (&[("created-on", "\"yesterday\"")], Some(Fault::BadDate), ""),
        (&[("created-on", "1")], Some(Fault::WrongType), ""),
        (&[("nonce", "\"AAAAAAAAAA==\"")], Some(Fault::BadNonce), ""),
        (&[("nonce", "\"!!!!!!!!!!!!\"")], Some(Fault::BadNonce), "nonce-text"),
        (&[("nonce", "\"-_-_-_-_-_-_-_\"")], None, ""),
        (&[("nonce", "null")], Some(Fault::WrongType), "wrong-json-types"),
        (&[("expires-on", "\"2021-07-01T00:00:00Z\"")], Some(Fault::NonceAndExpiresOn), "nonce-and-expires-on"),
        (&[("nonce", ""), ("expires-on", "\"2021-07-01T00:00:00Z\"")], None, ""),
        (&[("nonce", ""), ("expires-on", "\"2022-02-24T21:31:46Z\"")], Some(Fault::ExpiresAfterPin), ""),
        (&[("last-renewal-date", "\"2021-07-01T00:00:00Z\"")], Some(Fault::RenewalWithoutExpiry), "last-renewal-without-expires-on"),
        (&[("pinned-domain-cert", "")], Some(Fault::NoPin), ""),
        (&[("pinned-domain-cert", "\"AAAA\"")], Some(Fault::BadCertificate), ""),
        (&[("pinned-domain-cert", "\"****\"")], Some(Fault::BadBase64), ""),
        (&[("pinned-domain-cert", &pem)], Some(Fault::BadBase64), "pem-certificate"),
        (&[("pinned-domain-pubk", "\"AAAA\"")], Some(Fault::BadPublicKey), ""),
        (&[("pinned-domain-pubk-sha256", "\"AAAA\"")], Some(Fault::BadPublicKey), ""),
        (&[("domain-cert-revocation-checks", "\"true\"")], Some(Fault::WrongType), "wrong-json-types"),
        (&[("domain-cert-revocation-checks", "\"yes\"")], Some(Fault::WrongType), ""),
        (&[("idevid-issuer", key_id)], Some(Fault::BadIdevidIssuer), "idevid-issuer-forms"),
        (&[("idevid-issuer", "\"AQI=\"")], Some(Fault::BadIdevidIssuer), ""),
        (&[("est-domain", "\"https://est.example/x\"")], None, ""),
        (&[("est-domain", "\"not a uri\"")], Some(Fault::BadUri), ""),
    ];
    for (changes, want, tolerance) in cases {
        let json = text(changes);
        let found = Voucher::from_json(json.as_bytes(), &Tolerances::strict());
        assert_eq!(
            found.err().and_then(|error| error.fault()),
            *want,
            "{changes:?}"
        );
        if !tolerance.is_empty() {
            let tolerances = Tolerances::from_names([*tolerance]).unwrap();
            let (_, oddities) = Voucher::from_json(json.as_bytes(), &tolerances).unwrap();
            assert!(
                oddities.iter().all(|odd| odd.name == *tolerance),
                "{oddities:?}"
            );
            assert!(!oddities.is_empty(), "{changes:?}");
        } else if want.is_some() {
            let lenient = Voucher::from_json(json.as_bytes(), &Tolerances::lenient());
            assert!(lenient.is_err(), "{changes:?} is refused by every reader");
        }
    }
}

/// Requirements: BRSKI-3-03, SZTP-8366-5.1-01
#[test]
fn the_top_level_member_names_the_document() {
    let inner = r#"{"serial-number":"1","pinned-domain-pubk-sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#;
    let top = Some(Fault::TopLevelName);
    for (text, voucher, request) in [
        (format!(r#"{{"ietf-voucher:voucher":{inner}}}"#), None, top),
        (
            format!(r#"{{"ietf-voucher-request:voucher":{inner}}}"#),
            top,
            None,
        ),
        (
            format!(r#"{{"ietf-voucher-request-prm:voucher":{inner}}}"#),
            top,
            top,
        ),
        (format!(r#"{{"voucher":{inner}}}"#), top, top),
        (
            format!(r#"{{"ietf-voucher:voucher":{inner},"x":1}}"#),
            top,
            top,
        ),
        (
            format!(r#"{{"ietf-voucher:voucher":{inner},"ietf-voucher-request:voucher":{inner}}}"#),
            top,
            top,
        ),
        (inner.to_owned(), top, top),
        ("{}".to_owned(), top, top),
        (
            r#"{"ietf-voucher:voucher":[]}"#.to_owned(),
            Some(Fault::WrongType),
            top,
        ),
        (
            "[]".to_owned(),
            Some(Fault::WrongType),
            Some(Fault::WrongType),
        ),
    ] {
        let strict = Tolerances::strict();
        let found = Voucher::from_json(text.as_bytes(), &strict)
            .err()
            .and_then(|e| e.fault());
        assert_eq!(found, voucher, "as voucher: {text}");
        let found = VoucherRequest::from_json(text.as_bytes(), &strict)
            .err()
            .and_then(|e| e.fault());
        assert_eq!(found, request, "as request: {text}");
    }
    let draft = format!(r#"{{"ietf-voucher-request-prm:voucher":{inner}}}"#);
    assert!(VoucherRequest::from_json(draft.as_bytes(), &Tolerances::lenient()).is_ok());
    assert!(Voucher::from_json(draft.as_bytes(), &Tolerances::lenient()).is_err());
}

/// Requirements: BRSKI-3.4-01, BRSKI-3.4-02, BRSKI-3.4-03, VOUCHERBIS-9.2-01
#[test]
fn what_has_no_meaning_in_a_request_is_not_even_parsed() {
    let json = format!(
        r#"{{"ietf-voucher-request:voucher":{{"serial-number":"1","nonce":"{NONCE}","pinned-domain-cert":"bogus",
        "last-renewal-date":7,"domain-cert-revocation-checks":"true","x":1}}}}"#
    );
    let (request, _) = VoucherRequest::from_json(json.as_bytes(), &Tolerances::strict()).unwrap();
    let mut ignored = request.ignored.clone();
    ignored.sort();
    assert_eq!(
        ignored,
        [
            "domain-cert-revocation-checks",
            "last-renewal-date",
            "pinned-domain-cert"
        ]
    );
    assert_eq!(request.unknown, ["x"]);
    let again = String::from_utf8(request.to_json()).unwrap();
    assert!(!again.contains("pinned") && !again.contains("renewal") && !again.contains("checks"));
}

/// Requirements: JWS-3-01
#[test]
fn signed_nonsense_is_refused_with_the_fault_of_its_content() {
    let world = World::new();
    let good = text(&[]);
    let twice = good.replacen(
        "\"serial-number\"",
        "\"serial-number\":\"x\",\"serial-number\"",
        1,
    );
    let hidden = good.replacen(
        "\"serial-number\"",
        "\"serial\\u002dnumber\":\"x\",\"serial-number\"",
        1,
    );
    let deep = format!(
        "{{\"ietf-voucher:voucher\":{{\"x\":{}1{}}}}}",
        "[".repeat(100),
        "]".repeat(100)
    );
    let bom = format!("\u{feff}{good}");
    let not_utf8 = [good.as_bytes(), b"\xff"].concat();
    let trailing = format!("{good}{{}}");
    for (payload, want) in [
        (good.as_bytes(), "valid"),
        (twice.as_bytes(), "voucher.duplicate-member"),
        (hidden.as_bytes(), "voucher.duplicate-member"),
        (deep.as_bytes(), "voucher.too-deep"),
        (bom.as_bytes(), "voucher.byte-order-mark"),
        (&not_utf8, "voucher.not-utf8"),
        (trailing.as_bytes(), "voucher.not-json"),
        (b"", "voucher.not-json"),
        (b"null", "voucher.wrong-type"),
    ] {
        let options = SignOptions::default();
        let cms = cms::sign(payload, ID_CT_ANIMA_JSON_VOUCHER, &world.masa, &options).unwrap();
        let jws = jws::sign(payload, Some(TYPE_VOUCHER), &world.masa, &options).unwrap();
        for bytes in [cms, jws] {
            let context = VoucherContext::new(world.vendor_trust());
            let strict = Tolerances::strict();
            let judged = verify_voucher(&opened(&bytes, &strict), &context, &strict);
            let found = judged.result().map_or_else(Coded::code, |_| "valid");
            assert_eq!(found, want, "{}", String::from_utf8_lossy(payload));
        }
    }
}

/// Requirements: VOUCHER-5.4-02, JWS-3.2-02, VOUCHER-8.3-01
#[test]
fn the_envelope_says_what_it_carries() {
    let world = World::new();
    let payload = text(&[]).into_bytes();
    let options = SignOptions::default();
    let id_data = cms::sign(&payload, ID_DATA, &world.masa, &options).unwrap();
    let wrong_typ = jws::sign(&payload, Some("JWT"), &world.masa, &options).unwrap();
    let no_typ = jws::sign(&payload, None, &world.masa, &options).unwrap();
    let code = |bytes: &[u8], tolerances: &Tolerances| match open(
        Document::Voucher,
        bytes,
        None,
        tolerances,
    ) {
        Err(error) => error.code(),
        Ok(signed) => {
            let context = VoucherContext::new(world.vendor_trust());
            let judged = verify_voucher(&signed, &context, tolerances);
            judged.result().map_or_else(Coded::code, |_| "valid")
        }
    };
    let strict = Tolerances::strict();
    let lenient = Tolerances::lenient();
    assert_eq!(code(&id_data, &strict), "cms.content-type");
    assert_eq!(code(&id_data, &lenient), "valid");
    assert_eq!(code(&wrong_typ, &strict), "jws.type");
    assert_eq!(code(&wrong_typ, &lenient), "jws.type");
    assert_eq!(code(&no_typ, &strict), "valid");
    let good = world.voucher(Envelope::Cms, world.voucher_fields());
    let trailing = [good.as_slice(), b"\n"].concat();
    assert_ne!(code(&trailing, &strict), "valid");
    assert_eq!(code(&trailing, &lenient), "valid");
    let base64 = file_base64("rfc8995/voucher_00-D0-E5-F2-00-02.b64");
    assert_eq!(code(&base64, &strict), "voucher.not-binary");
    assert_eq!(code(&base64, &lenient), "valid");
    for (junk, want) in [
        (&b""[..], "voucher.unrecognised-format"),
        (b"hello", "voucher.unrecognised-format"),
        (b"\xd2\x84\x43\xa1\x01\x26", "cose.malformed"),
        (b"\xa1\x01\x02", "voucher.unrecognised-format"),
        (b"<voucher/>", "voucher.unrecognised-format"),
        (b"{", "jws.malformed"),
        (b"\x30\x80", "cms.malformed"),
        (&vec![b'x'; 2 * 1024 * 1024], "voucher.too-large"),
    ] {
        assert_eq!(
            code(junk, &strict),
            want,
            "{:?}",
            &junk[..junk.len().min(9)]
        );
    }
    for (media, want) in [
        ("application/voucher-cms+json", Some(Envelope::Cms)),
        (
            "APPLICATION/Voucher-CMS+JSON ; charset=utf-8",
            Some(Envelope::Cms),
        ),
        ("application/voucher-jws+json", Some(Envelope::Jws)),
        ("application/pkcs7-mime; smime-type=voucher-request", None),
        ("application/voucher+cose", Some(Envelope::Cose)),
        ("application/voucher-cose+cbor", None),
        ("application/cose; cose-type=\"cose-sign1\"", None),
        ("application/json", None),
        ("", None),
    ] {
        let found = Envelope::from_media_type(media, &strict)
            .ok()
            .map(|(envelope, _)| envelope);
        assert_eq!(found, want, "{media}");
    }
    let old = Envelope::from_media_type("application/pkcs7-mime", &lenient).unwrap();
    assert_eq!(old.0, Envelope::Cms);
    for old in [
        "application/voucher-cose+cbor",
        "application/cose; cose-type=\"cose-sign1\"",
    ] {
        let (envelope, oddity) = Envelope::from_media_type(old, &lenient).unwrap();
        assert_eq!(envelope, Envelope::Cose, "{old}");
        assert_eq!(oddity.unwrap().name, "old-cose-media-type", "{old}");
    }
    assert!(old.1.is_some());
}

fn file_base64(name: &str) -> Vec<u8> {
    crate::common::file(name)
}
