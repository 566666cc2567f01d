//! COSE_Sign1: published examples, both ways, and what must be refused.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use coset::{CborSerializable as _, CoseSign1, TaggedCborSerializable as _};
use pki::cose::{self, CoseCertificates, CoseOptions, CosePolicy, Sign1};
use pki::{Certificate, Coded as _, Identity, KeyKind, PublicKey, Signer};
use proptest::prelude::*;

use crate::support::identity;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

fn certificate(name: &str) -> Certificate {
    Certificate::from_der(&std::fs::read(data(&format!("cbrski/{name}.der"))).unwrap()).unwrap()
}

/// The public key of an example, as SubjectPublicKeyInfo.
fn example_key(example: &serde_json::Value) -> PublicKey {
    let key = &example["input"]["sign0"]["key"];
    let part = |name: &str| {
        if let Some(text) = key[name].as_str() {
            return URL_SAFE_NO_PAD.decode(text).unwrap();
        }
        hex::decode(key[format!("{name}_hex")].as_str().unwrap()).unwrap()
    };
    let (prefix, point) = match key["crv"].as_str().unwrap() {
        "Ed25519" => ("302a300506032b6570032100", part("x")),
        "Ed448" => ("3043300506032b6571033a00", part("x")),
        curve => {
            let prefix = match curve {
                "P-256" => "3059301306072a8648ce3d020106082a8648ce3d030107034200",
                "P-384" => "3076301006072a8648ce3d020106052b81040022036200",
                "P-521" => "30819b301006072a8648ce3d020106052b8104002303818600",
                other => panic!("{other}"),
            };
            (prefix, [vec![4], part("x"), part("y")].concat())
        }
    };
    let spki = [hex::decode(prefix).unwrap(), point].concat();
    PublicKey::from_spki_der(&spki).unwrap()
}

/// Requirements: COS-004, COS-007, COS-009, COS-010, COS-011, COS-012, COS-020
#[test]
fn examples_of_the_working_group() {
    // The code with which it is refused; none for what verifies.
    let cases = [
        ("ecdsa-sig-01", None),
        ("ecdsa-sig-02", None),
        ("ecdsa-sig-03", None),
        // Legal in COSE; our policy pairs each curve with its hash.
        ("ecdsa-sig-04", Some("pki.algorithm-key-mismatch")),
        ("eddsa-sig-01", None),
        // Ed448 is not among our algorithms.
        ("eddsa-sig-02", Some("pki.algorithm-key-mismatch")),
        ("sign-fail-01", Some("cose.tag")),
        ("sign-fail-02", Some("cose.signature-invalid")),
        ("sign-fail-03", Some("cose.header")),
        ("sign-fail-04", Some("cose.algorithm")),
        ("sign-fail-06", Some("cose.signature-invalid")),
        ("sign-fail-07", Some("cose.signature-invalid")),
        // Its algorithm stands outside the signature, which COSE allows and we do not.
        ("sign-pass-01", Some("cose.header")),
        // It signs external data too, which no voucher has.
        ("sign-pass-02", Some("cose.signature-invalid")),
        ("sign-pass-03", None),
        ("signed-01", Some("cose.tag")),
        ("signed-02", Some("cose.tag")),
        ("signed-03", Some("cose.tag")),
        ("signed-04", Some("cose.tag")),
        ("signed-05", Some("cose.tag")),
    ];
    for (name, refused) in cases {
        let text = std::fs::read_to_string(data(&format!("cose-wg/{name}.json"))).unwrap();
        let example: serde_json::Value = serde_json::from_str(&text).unwrap();
        let message = hex::decode(example["output"]["cbor"].as_str().unwrap()).unwrap();
        let result = Sign1::parse(&message)
            .and_then(|sign1| sign1.verify_with_key(&example_key(&example)).map(|_| sign1));
        let code = result.as_ref().err().map(pki::Coded::code);
        assert_eq!(code, refused, "{name}");
        if let Ok(sign1) = result {
            assert_eq!(sign1.payload(), b"This is the content.", "{name}");
            assert_eq!(sign1.is_tagged(), name != "sign-pass-03");
        }
    }
}

/// Requirements: COS-014, COS-015
#[test]
fn messages_of_the_constrained_voucher_draft() {
    let read = |name: &str| std::fs::read(data(&format!("cbrski/{name}.cbor"))).unwrap();
    let strict = CosePolicy::default();
    let request = Sign1::parse(&read("pvr")).unwrap();
    assert!(request.certificates().is_empty());
    let pledge = certificate("pledge");
    let signer = request
        .verify(&strict, std::slice::from_ref(&pledge))
        .unwrap();
    assert_eq!(signer.certificate(), &pledge);
    let nobody = request.verify(&strict, &[]).unwrap_err();
    assert_eq!(nobody.code(), "cose.signer-certificate-missing");
    let other = request
        .verify(&strict, &[certificate("masa_ca")])
        .unwrap_err();
    assert_eq!(other.code(), "cose.signature-invalid");

    let request = Sign1::parse(&read("rvr")).unwrap();
    assert_eq!(request.certificates().len(), 2);
    let signer = request.verify(&strict, &[]).unwrap();
    assert_eq!(
        signer.certificate().public_key(),
        certificate("registrar").public_key()
    );
    assert_eq!(signer.candidates().len(), 1);

    let voucher = Sign1::parse(&read("voucher")).unwrap();
    voucher.verify(&strict, &[certificate("masa_ca")]).unwrap();
}

fn bag(others: Vec<Certificate>) -> CoseOptions {
    CoseOptions {
        certificates: CoseCertificates::Bag(others),
        key_id: None,
    }
}

/// Requirements: COS-007, COS-009, COS-014, COS-016, COS-021
#[test]
fn every_algorithm_both_ways() {
    let kinds = [
        (KeyKind::EcdsaP256, -7, 64),
        (KeyKind::EcdsaP384, -35, 96),
        (KeyKind::EcdsaP521, -36, 132),
        (KeyKind::Ed25519, -8, 64),
        (KeyKind::MlDsa44, -48, 2420),
        (KeyKind::MlDsa65, -49, 3309),
        (KeyKind::MlDsa87, -50, 4627),
    ];
    let other = identity(KeyKind::EcdsaP256);
    // A length that CBOR writes in one, two and three bytes.
    for payload in [vec![1; 10], vec![2; 200], vec![3; 70_000]] {
        for (kind, number, length) in kinds {
            let signer = identity(kind);
            let others = vec![other.chain[0].clone()];
            let chain = CoseOptions {
                certificates: CoseCertificates::Chain,
                key_id: None,
            };
            for options in [CoseOptions::default(), bag(vec![]), bag(others), chain] {
                let message = cose::sign(&payload, &signer, &options).unwrap();
                let read = CoseSign1::from_tagged_slice(&message).unwrap();
                assert_eq!(read.signature.len(), length);
                let sign1 = Sign1::parse(&message).unwrap();
                assert_eq!(sign1.algorithm_number(), number);
                assert_eq!(sign1.payload(), payload);
                let known = signer.chain.clone();
                let verified = sign1.verify(&CosePolicy::default(), &known).unwrap();
                assert_eq!(verified.certificate(), &signer.chain[0]);
                // Without certificates it is shorter and verifies as before.
                let bare = sign1.without_certificates().unwrap();
                let stripped = Sign1::parse(&bare).unwrap();
                assert!(stripped.certificates().is_empty());
                stripped.verify(&CosePolicy::default(), &known).unwrap();
                let again = CoseSign1::from_tagged_slice(&bare).unwrap();
                assert_eq!(again.signature, read.signature);
                assert_eq!(again.protected, read.protected);
                assert_eq!(again.payload, read.payload);
            }
        }
    }
    let rsa = identity(KeyKind::Rsa2048);
    let refused = cose::sign(b"x", &rsa, &CoseOptions::default()).unwrap_err();
    assert_eq!(refused.code(), "pki.algorithm-unsupported");
}

/// One certificate is a byte string and several are an array, in what is sent.
///
/// Requirements: COS-014
#[test]
fn one_certificate_is_no_array() {
    let signer = identity(KeyKind::EcdsaP256);
    let value = |message: &[u8]| {
        let read = CoseSign1::from_tagged_slice(message).unwrap();
        read.unprotected.rest[0].1.clone()
    };
    let alone = Identity {
        chain: signer.chain[..1].to_vec(),
        signer: signer.signer.clone(),
    };
    let one = cose::sign(b"x", &alone, &bag(vec![alone.chain[0].clone()])).unwrap();
    assert!(value(&one).is_bytes());
    let other = identity(KeyKind::EcdsaP256);
    let two = cose::sign(b"x", &alone, &bag(vec![other.chain[0].clone()])).unwrap();
    assert_eq!(value(&two).as_array().unwrap().len(), 2);
}

/// A message with these headers, signed as they stand.
fn made(protected: &Value, unprotected: Value, key: &dyn Signer) -> Vec<u8> {
    let mut header = Vec::new();
    ciborium::into_writer(protected, &mut header).unwrap();
    let payload = Value::Bytes(b"payload".to_vec());
    let structure = Value::Array(vec![
        Value::Text("Signature1".to_owned()),
        Value::Bytes(header.clone()),
        Value::Bytes(Vec::new()),
        payload.clone(),
    ]);
    let mut signed = Vec::new();
    ciborium::into_writer(&structure, &mut signed).unwrap();
    let der = key.sign(&signed).unwrap();
    let signature = fixed(&der);
    let message = Value::Array(vec![
        Value::Bytes(header),
        unprotected,
        payload,
        Value::Bytes(signature),
    ]);
    tagged(18, message)
}

fn tagged(tag: u64, message: Value) -> Vec<u8> {
    Value::Tag(tag, Box::new(message)).to_vec().unwrap()
}

/// R and S of a P-256 signature side by side.
fn fixed(der: &[u8]) -> Vec<u8> {
    let length = usize::from(der[3]);
    let (r, s) = (&der[4..4 + length], &der[6 + length..]);
    [r, s]
        .into_iter()
        .flat_map(|part| {
            let part = part.strip_prefix(&[0]).unwrap_or(part);
            [vec![0; 32 - part.len()], part.to_vec()].concat()
        })
        .collect()
}

fn map(entries: &[(i64, Value)]) -> Value {
    let entry = |(label, value): &(i64, Value)| (Value::from(*label), value.clone());
    Value::Map(entries.iter().map(entry).collect())
}

/// Requirements: COS-002, COS-003, COS-004, COS-005, COS-014, COS-015, COS-016, COS-018, COS-019,
/// COS-024
#[test]
fn headers() {
    let signer = identity(KeyKind::EcdsaP256);
    let stranger = identity(KeyKind::EcdsaP256);
    let own = Value::Bytes(signer.chain[0].der().to_vec());
    let other = Value::Bytes(stranger.chain[0].der().to_vec());
    let alg = (1, Value::from(-7));
    let hash = |certificate: &Certificate| {
        Value::Array(vec![
            Value::from(-16),
            Value::Bytes(certificate.sha256().to_vec()),
        ])
    };
    let good = hash(&signer.chain[0]);
    let bad = hash(&stranger.chain[0]);
    let sha1 = Value::Array(vec![Value::from(-14), Value::Bytes(vec![0; 20])]);
    let id = || Value::Bytes(b"id".to_vec());
    let crit = |label: i64| (2, Value::Array(vec![Value::from(label)]));
    type Entries = Vec<(i64, Value)>;
    let cases: Vec<(&str, Entries, Entries, Option<&str>)> = vec![
        ("plain", vec![alg.clone()], vec![], None),
        (
            "a bag of two",
            vec![alg.clone()],
            vec![(32, Value::Array(vec![other.clone(), own.clone()]))],
            None,
        ),
        (
            "a chain",
            vec![alg.clone()],
            vec![(33, Value::Array(vec![own.clone(), other.clone()]))],
            None,
        ),
        (
            "a chain in disorder",
            vec![alg.clone()],
            vec![(33, Value::Array(vec![other.clone(), own.clone()]))],
            Some("cose.signature-invalid"),
        ),
        (
            "an array of one",
            vec![alg.clone()],
            vec![(32, Value::Array(vec![own.clone()]))],
            Some("cose.certificates"),
        ),
        (
            "an empty bag",
            vec![alg.clone()],
            vec![(32, Value::Array(vec![]))],
            Some("cose.certificates"),
        ),
        (
            "33 certificates",
            vec![alg.clone()],
            vec![(32, Value::Array(vec![own.clone(); 33]))],
            Some("cose.certificates"),
        ),
        (
            "a bag that is text",
            vec![alg.clone()],
            vec![(32, Value::from("x"))],
            Some("cose.certificates"),
        ),
        (
            "bag and chain",
            vec![alg.clone()],
            vec![(32, own.clone()), (33, own.clone())],
            Some("cose.certificates"),
        ),
        ("no alg", vec![], vec![], Some("cose.algorithm")),
        (
            "alg unprotected",
            vec![],
            vec![alg.clone()],
            Some("cose.header"),
        ),
        (
            "alg in both",
            vec![alg.clone()],
            vec![alg.clone()],
            Some("cose.header"),
        ),
        (
            "alg twice",
            vec![alg.clone(), alg.clone()],
            vec![],
            Some("cose.header"),
        ),
        (
            "a MAC",
            vec![(1, Value::from(5))],
            vec![],
            Some("cose.algorithm"),
        ),
        (
            "two bags",
            vec![alg.clone()],
            vec![(32, own.clone()), (32, own.clone())],
            Some("cose.header"),
        ),
        (
            "kid in both",
            vec![alg.clone(), (4, id())],
            vec![(4, id())],
            Some("cose.header"),
        ),
        (
            "99 in both",
            vec![alg.clone(), (99, id())],
            vec![(99, id())],
            Some("cose.header"),
        ),
        ("crit of alg", vec![alg.clone(), crit(1)], vec![], None),
        (
            "crit of 99",
            vec![alg.clone(), crit(99), (99, id())],
            vec![],
            Some("cose.header"),
        ),
        (
            "crit of a label that is registered and not ours",
            vec![
                alg.clone(),
                crit(35),
                (35, Value::from("http://127.0.0.1:1/")),
            ],
            vec![],
            Some("cose.critical"),
        ),
        (
            "crit unprotected",
            vec![alg.clone()],
            vec![crit(1)],
            Some("cose.header"),
        ),
        ("x5t", vec![alg.clone(), (34, good)], vec![], None),
        (
            "x5t of another",
            vec![alg.clone(), (34, bad)],
            vec![],
            Some("cose.certificates"),
        ),
        (
            "x5t with SHA-1",
            vec![alg.clone(), (34, sha1)],
            vec![],
            Some("cose.certificates"),
        ),
        (
            "x5u is not followed",
            vec![alg.clone()],
            vec![(35, Value::from("http://127.0.0.1:1/"))],
            None,
        ),
        (
            "unknown labels",
            vec![alg.clone(), (-70_001, id())],
            vec![(70_002, id())],
            None,
        ),
    ];
    for (name, protected, unprotected, refused) in cases {
        let message = made(&map(&protected), map(&unprotected), signer.signer.as_ref());
        let result = Sign1::parse(&message)
            .and_then(|sign1| sign1.verify(&CosePolicy::default(), &signer.chain));
        assert_eq!(
            result.as_ref().err().map(pki::Coded::code),
            refused,
            "{name}"
        );
        if let Ok(verified) = result {
            assert_eq!(verified.certificate(), &signer.chain[0], "{name}");
        }
        if name == "an array of one" {
            let lenient = CosePolicy {
                allow_array_of_one: true,
                ..CosePolicy::default()
            };
            let sign1 = Sign1::parse(&message).unwrap();
            let verified = sign1.verify(&lenient, &[]).unwrap();
            assert_eq!(verified.oddities(), [pki::Oddity::ArrayOfOneCertificate]);
        }
    }
}

/// Requirements: COS-006, COS-020, COS-009, COS-013
#[test]
fn shapes() {
    let signer = identity(KeyKind::EcdsaP256);
    let message = cose::sign(b"payload", &signer, &CoseOptions::default()).unwrap();
    let Value::Tag(18, inner) = Value::from_slice(&message).unwrap() else {
        panic!("no tag");
    };
    let parts = inner.as_array().unwrap().clone();
    let with = |at: usize, value: Value| {
        let mut parts = parts.clone();
        parts[at] = value;
        tagged(18, Value::Array(parts))
    };
    let zeros = [vec![0; 32], vec![1; 32]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "three elements",
            tagged(18, Value::Array(parts[..3].to_vec())),
            "cose.malformed",
        ),
        (
            "five elements",
            tagged(
                18,
                Value::Array([parts.clone(), vec![Value::Null]].concat()),
            ),
            "cose.malformed",
        ),
        ("a map", tagged(18, Value::Map(vec![])), "cose.malformed"),
        ("detached", with(2, Value::Null), "cose.payload-missing"),
        (
            "payload as text",
            with(2, Value::from("payload")),
            "cose.malformed",
        ),
        (
            "protected as map",
            with(0, map(&[(1, Value::from(-7))])),
            "cose.malformed",
        ),
        (
            "unprotected as bytes",
            with(1, Value::Bytes(vec![0xa0])),
            "cose.malformed",
        ),
        (
            "signature as text",
            with(3, Value::from("x")),
            "cose.malformed",
        ),
        (
            "signature empty",
            with(3, Value::Bytes(vec![])),
            "cose.signature-invalid",
        ),
        (
            "signature of 63 bytes",
            with(3, Value::Bytes(vec![1; 63])),
            "cose.signature-invalid",
        ),
        (
            "r is 0",
            with(3, Value::Bytes(zeros)),
            "cose.signature-invalid",
        ),
        (
            "r and s above n",
            with(3, Value::Bytes(vec![0xff; 64])),
            "cose.signature-invalid",
        ),
        ("COSE_Mac0", tagged(17, *inner.clone()), "cose.tag"),
        ("COSE_Encrypt0", tagged(16, *inner.clone()), "cose.tag"),
        ("COSE_Sign", tagged(98, *inner.clone()), "cose.tag"),
        (
            "tagged twice",
            tagged(18, Value::Tag(18, inner.clone())),
            "cose.malformed",
        ),
        (
            "untagged",
            inner.clone().to_vec().unwrap(),
            "cose.malformed",
        ),
        (
            "a byte behind",
            [message.clone(), vec![0]].concat(),
            "cose.malformed",
        ),
        (
            "cut off",
            message[..message.len() - 1].to_vec(),
            "cose.malformed",
        ),
        ("nothing", vec![], "cose.malformed"),
        (
            "an array of 2^60",
            vec![0xd2, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0],
            "cose.malformed",
        ),
        (
            "nested 100,000 times",
            vec![0x81; 100_000],
            "cose.malformed",
        ),
        (
            "more than a mebibyte",
            vec![0; 1024 * 1024 + 1],
            "cose.limit-exceeded",
        ),
    ];
    for (name, message, refused) in cases {
        let result = Sign1::parse(&message)
            .and_then(|sign1| sign1.verify(&CosePolicy::default(), &signer.chain));
        assert_eq!(result.err().map(|e| e.code()), Some(refused), "{name}");
    }
    let untagged = Sign1::parse(&inner.clone().to_vec().unwrap()).unwrap();
    let lenient = CosePolicy {
        allow_untagged: true,
        ..CosePolicy::default()
    };
    let verified = untagged.verify(&lenient, &signer.chain).unwrap();
    assert!(verified.oddities().contains(&pki::Oddity::Untagged));

    // A signature in DER is none.
    let der = signer.signer.sign(b"x").unwrap();
    let result = Sign1::parse(&with(3, Value::Bytes(der))).unwrap();
    let refused = result.verify(&CosePolicy::default(), &signer.chain);
    assert_eq!(refused.unwrap_err().code(), "cose.signature-invalid");
}

/// Requirements: COS-008
#[test]
fn a_key_id_names_the_signer() {
    let signer = identity(KeyKind::EcdsaP256);
    let stranger = identity(KeyKind::EcdsaP256);
    let id = signer.chain[0].public_key().sha1_key_id().to_vec();
    let options = CoseOptions {
        certificates: CoseCertificates::None,
        key_id: Some(id.clone()),
    };
    let message = cose::sign(b"x", &signer, &options).unwrap();
    let sign1 = Sign1::parse(&message).unwrap();
    assert_eq!(sign1.key_id(), Some(id.as_slice()));
    let known = [stranger.chain[0].clone(), signer.chain[0].clone()];
    let verified = sign1.verify(&CosePolicy::default(), &known).unwrap();
    assert_eq!(verified.certificate(), &signer.chain[0]);
    let missing = sign1
        .verify(&CosePolicy::default(), &known[..1])
        .unwrap_err();
    assert_eq!(missing.code(), "cose.signer-certificate-missing");
}

/// Requirements: CBR-119, CBR-121
#[test]
fn a_key_id_that_names_nobody_changes_nothing() {
    let signer = identity(KeyKind::EcdsaP256);
    let stranger = identity(KeyKind::EcdsaP256);
    let options = CoseOptions {
        certificates: CoseCertificates::Bag(stranger.chain.clone()),
        key_id: Some(b"nobody".to_vec()),
    };
    let message = cose::sign(b"x", &signer, &options).unwrap();
    let sign1 = Sign1::parse(&message).unwrap();
    let verified = sign1.verify(&CosePolicy::default(), &[]).unwrap();
    assert_eq!(verified.certificate(), &signer.chain[0]);
}

/// Whoever is known to be the signer is looked at, whomever the message names.
///
/// Requirements: CBR-121, CBR-123, CBR-124
#[test]
fn a_known_signer_is_not_changed_by_what_the_message_says() {
    let signer = identity(KeyKind::EcdsaP256);
    let stranger = identity(KeyKind::EcdsaP256);
    let strict = CosePolicy::default();
    for certificates in [
        CoseCertificates::None,
        CoseCertificates::Chain,
        CoseCertificates::Bag(stranger.chain.clone()),
    ] {
        let options = CoseOptions {
            certificates,
            key_id: Some(b"nobody".to_vec()),
        };
        let message = cose::sign(b"x", &signer, &options).unwrap();
        let sign1 = Sign1::parse(&message).unwrap();
        let verified = sign1.verify_by(&strict, &signer.chain[0]).unwrap();
        assert_eq!(verified.certificate(), &signer.chain[0]);
        assert!(verified.candidates().is_empty());
        let refused = sign1.verify_by(&strict, &stranger.chain[0]).unwrap_err();
        assert_eq!(refused.code(), "cose.signature-invalid");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_no_danger(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Sign1::parse(&bytes);
        let _ = Sign1::parse(&[&[0xd2, 0x84], bytes.as_slice()].concat());
    }

    /// No octet of a signed message can be changed without notice.
    #[test]
    fn every_octet_counts(at in 0_usize..1000, flip in 1_u8..) {
        let signer = identity(KeyKind::EcdsaP256);
        let message = cose::sign(&[7; 100], &signer, &CoseOptions::default()).unwrap();
        let mut changed = message.clone();
        let at = at % changed.len();
        changed[at] ^= flip;
        let verified = Sign1::parse(&changed)
            .and_then(|sign1| sign1.verify(&CosePolicy::default(), &signer.chain));
        prop_assert!(verified.is_err(), "octet {at}");
    }
}
