//! COSE vouchers and requests: the published ones, and who may sign what.

use artifacts::cbor::Item;
use artifacts::verify::{
    PledgeRequestContext, ProximityTarget, RegistrarRequestContext, Trust, VoucherContext,
    verify_pledge_request, verify_registrar_request, verify_voucher,
};
use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Signed,
    Tolerances, Voucher, VoucherFields, VoucherRequest, open, sign_request, sign_request_with,
    sign_voucher,
};
use ciborium::Value;
use pki::cose::{self, CoseCertificates, CoseOptions};
use pki::issue::{CertificateBuilder, Profile, name};
use pki::path::Anchors;
use pki::{Certificate, Coded, Identity, IncludeCertificates, KeyKind, SignOptions, Unverified};
use proptest::prelude::*;
use testkit::{Pki, PkiOptions};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::common::file;

/// When the certificates of the draft are all valid.
const AT: OffsetDateTime = datetime!(2023-06-01 00:00 UTC);
const NOW: OffsetDateTime = datetime!(2026-11-23 20:00 UTC);

fn example(name: &str) -> Vec<u8> {
    file(&format!("cbrski-31/{name}"))
}

fn certificate(name: &str) -> Certificate {
    Certificate::from_der(&example(&format!("{name}.der"))).unwrap()
}

fn opened(bytes: &[u8]) -> Unverified<Signed> {
    opened_by(bytes, &Tolerances::strict())
}

fn opened_by(bytes: &[u8], tolerances: &Tolerances) -> Unverified<Signed> {
    open(Document::Request, bytes, Some(Envelope::Cose), tolerances).unwrap()
}

/// The four parts of a COSE_Sign1 as ciborium sees them.
fn parts(bytes: &[u8]) -> [Value; 4] {
    let Value::Tag(18, inner) = ciborium::from_reader(bytes).unwrap() else {
        panic!("tag 18 is missing")
    };
    inner.into_array().unwrap().try_into().unwrap()
}

fn joined(parts: [Value; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Value::Tag(18, Box::new(Value::Array(parts.to_vec())));
    ciborium::into_writer(&message, &mut out).unwrap();
    out
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

/// The two numbers of an ECDSA signature over P-256, 32 octets each.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[2..];
    while let [2, length, more @ ..] = rest {
        let (number, after) = more.split_at(usize::from(*length));
        let number = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - number.len()));
        out.extend_from_slice(number);
        rest = after;
    }
    out
}

/// The draft's documents, read by us and by ciborium, and written again octet for octet.
///
/// Requirements: VCB-001, VCB-002, VCB-003, VCB-004, VCB-006, VCB-012, VCB-013, VCB-014, VCB-015, CBR-112
#[test]
fn published_documents_are_read_and_written_alike() {
    let strict = Tolerances::strict();
    for name in ["pvr", "rvr", "voucher"] {
        let payload = example(&format!("{name}-payload.cbor"));
        let diag = String::from_utf8(example(&format!("{name}-payload.diag"))).unwrap();
        let (item, form) = Item::parse(&payload).unwrap();
        assert_eq!(item.to_string(), diag.trim(), "{name}");
        assert_eq!(item.encode(), payload, "{name}");
        assert!(!form.indefinite && !form.longer && !form.unsorted, "{name}");
        let foreign: Value = ciborium::from_reader(&payload[..]).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&foreign, &mut again).unwrap();
        assert_eq!(again, payload, "{name}");

        let message = example(&format!("{name}.cbor"));
        let diag = String::from_utf8(example(&format!("{name}.diag"))).unwrap();
        assert_eq!(
            Item::parse(&message).unwrap().0.to_string(),
            diag.trim(),
            "{name}"
        );
        let [_, _, inner, _] = parts(&message);
        assert_eq!(inner, Value::Bytes(payload.clone()), "{name}");
        let signed = opened(&message);
        assert_eq!(
            signed.dangerous_peek().payload(),
            Some(&payload[..]),
            "{name}"
        );

        let (again, oddities, unknown) = if name == "voucher" {
            let (voucher, oddities) = Voucher::from_cbor(&payload, &strict).unwrap();
            (voucher.to_cbor(), oddities, voucher.unknown.clone())
        } else {
            let (request, oddities) = VoucherRequest::from_cbor(&payload, &strict).unwrap();
            (request.to_cbor(), oddities, request.unknown.clone())
        };
        assert_eq!(again, payload, "{name}");
        assert!(oddities.is_empty() && unknown.is_empty(), "{name}");
    }
}

/// Requirements: VCB-040, CBR-107, CBR-124, CBR-131, CBR-134
#[test]
fn the_published_pledge_request_verifies() {
    let (pledge, registrar) = (certificate("pledge"), certificate("registrar"));
    let anchors: Anchors = certificate("masa_ca").into();
    let own = std::slice::from_ref(&registrar);
    let signed = opened(&example("pvr.cbor"));
    let context = PledgeRequestContext {
        peer: Some(&pledge),
        proximity: ProximityTarget::ServerCertificate(own),
        ..PledgeRequestContext::new(Trust::new(&anchors, Some(AT)))
    };
    let judged = verify_pledge_request(&signed, &context, &Tolerances::strict());
    let verified = judged.complete(&["idevid-issuer"]).unwrap().unwrap();
    assert_eq!(verified.serial_number.as_str(), "JADA123456789");
    assert_eq!(verified.request.assertion, Some(Assertion::Proximity));
    let nonce = hex::decode("23bfbbc9c2bcf213").unwrap();
    assert_eq!(verified.request.nonce.as_ref().unwrap().octets(), nonce);
    // It saw that registrar's key and no other.
    let other = std::slice::from_ref(&pledge);
    let elsewhere = PledgeRequestContext {
        proximity: ProximityTarget::ServerCertificate(other),
        ..context
    };
    let code = |context: &PledgeRequestContext<'_>| {
        let judged = verify_pledge_request(&signed, context, &Tolerances::strict());
        judged.result().err().map(Coded::code)
    };
    assert_eq!(code(&elsewhere), Some("request.proximity-mismatch"));
    // On another device's connection.
    let other_peer = PledgeRequestContext {
        peer: Some(&registrar),
        ..context
    };
    assert_eq!(code(&other_peer), Some("cose.signature-invalid"));
}

/// The registrar's request of the draft is older than the draft: the device's certificate is not
/// in its bag. With the device known from elsewhere all of it fits.
///
/// Requirements: CBR-102, CBR-117, CBR-132, CBR-133, VCB-022, VCB-024
#[test]
fn the_published_registrar_request_lacks_the_device() {
    let pledge = certificate("pledge");
    let anchors: Anchors = certificate("masa_ca").into();
    let signed = opened(&example("rvr.cbor"));
    assert_eq!(signed.dangerous_peek().certificates().len(), 2);
    let context =
        RegistrarRequestContext::new(Some(AT)).with_pledge(Trust::new(&anchors, Some(AT)));
    let judged = verify_registrar_request(&signed, &context, &Tolerances::strict());
    assert_eq!(
        judged.result().unwrap_err().code(),
        "request.prior-invalid",
        "{:?}",
        judged.checks()
    );
    let known = RegistrarRequestContext {
        idevid: Some(&pledge),
        ..context
    };
    let prior = example("pvr.cbor");
    let known = RegistrarRequestContext {
        prior: Some(&prior),
        ..known
    };
    let judged = verify_registrar_request(&signed, &known, &Tolerances::strict());
    let verified = judged.into_result().unwrap();
    assert!(verified.proximity_proven);
    let issuer = verified.request.idevid_issuer.as_ref().unwrap();
    assert_eq!(issuer.as_bytes()[..6], [0x04, 0x18, 0x30, 0x16, 0x80, 0x14]);
}

/// The voucher of the draft verifies and answers another request.
///
/// Requirements: CBR-109, CBR-139, CBR-155, VCB-028
#[test]
fn the_published_voucher_answers_another_request() {
    let anchors: Anchors = certificate("masa_ca").into();
    let signed = opened(&example("voucher.cbor"));
    let chain = [certificate("registrar"), certificate("domain_ca")];
    let serial = SerialNumber::new("JADA123456789").unwrap();
    let (request, _) =
        VoucherRequest::from_cbor(&example("pvr-payload.cbor"), &Tolerances::strict()).unwrap();
    let alone = VoucherContext {
        serial_number: Some(&serial),
        registrar_chain: Some(&chain),
        ..VoucherContext::new(Trust::new(&anchors, Some(AT)))
    };
    let judged = verify_voucher(&signed, &alone, &Tolerances::strict());
    let verified = judged.into_result().unwrap();
    assert!(verified.registrar_path.is_some());
    let answering = VoucherContext {
        request: Some(&request),
        ..alone.clone()
    };
    let judged = verify_voucher(&signed, &answering, &Tolerances::strict());
    assert_eq!(
        judged.result().unwrap_err().code(),
        "voucher.nonce-mismatch"
    );
    let other: Anchors = certificate("domain_ca").into();
    let untrusting = VoucherContext {
        trust: Trust::new(&other, Some(AT)),
        ..alone
    };
    let judged = verify_voucher(&signed, &untrusting, &Tolerances::strict());
    assert_eq!(
        judged.result().unwrap_err().code(),
        "cose.signature-invalid"
    );
}

struct Scene {
    pki: Pki,
    pledge: Identity,
    nonce: Nonce,
    serial: SerialNumber,
}

impl Scene {
    fn new() -> Self {
        let pki = Pki::new(PkiOptions::new(NOW).with_kind(KeyKind::EcdsaP256)).unwrap();
        Self {
            pledge: pki.idevid("JADA123456789").unwrap(),
            pki,
            nonce: Nonce::from_octets(&[7; 8]).unwrap(),
            serial: SerialNumber::new("JADA123456789").unwrap(),
        }
    }

    fn registrar(&self) -> &Identity {
        &self.pki.domain.registrar
    }

    fn pledge_fields(&self) -> RequestFields {
        let key = self.registrar().chain[0].public_key();
        RequestFields {
            assertion: Some(Assertion::Proximity),
            nonce: Some(self.nonce.clone()),
            proximity_registrar_pubk_sha256: Some(key.sha256()),
            ..RequestFields::new(self.serial.clone())
        }
    }

    fn pledge_payload(&self) -> Vec<u8> {
        VoucherRequest::new(self.pledge_fields()).unwrap().to_cbor()
    }

    fn pledge_request(&self) -> Vec<u8> {
        let request = VoucherRequest::new(self.pledge_fields()).unwrap();
        sign_request(&request, Envelope::Cose, &self.pledge, None).unwrap()
    }

    fn registrar_request(&self, prior: Vec<u8>, extra: Vec<Certificate>) -> Vec<u8> {
        let fields = RequestFields {
            created_on: Some(NOW),
            idevid_issuer: Some(IdevidIssuer::of(&self.pledge.chain[0])),
            nonce: Some(self.nonce.clone()),
            prior_signed_voucher_request: Some(prior),
            ..RequestFields::new(self.serial.clone())
        };
        let request = VoucherRequest::new(fields).unwrap();
        let options = SignOptions {
            extra_certs: extra,
            ..SignOptions::default()
        };
        sign_request_with(&request, Envelope::Cose, self.registrar(), &options).unwrap()
    }

    fn judge_pledge(&self, bytes: &[u8], peer: &Certificate) -> &'static str {
        let manufacturer = self.pki.manufacturer_anchors();
        let context = PledgeRequestContext {
            peer: Some(peer),
            candidates: &self.pledge.chain[1..],
            proximity: ProximityTarget::ServerCertificate(&self.registrar().chain[..1]),
            ..PledgeRequestContext::new(Trust::new(&manufacturer, Some(NOW)))
        };
        let signed = match open(Document::Request, bytes, None, &Tolerances::strict()) {
            Ok(signed) => signed,
            Err(error) => return error.code(),
        };
        let judged = verify_pledge_request(&signed, &context, &Tolerances::strict());
        judged.result().map_or_else(Coded::code, |_| "valid")
    }

    fn judge_registrar(&self, bytes: &[u8]) -> &'static str {
        let manufacturer = self.pki.manufacturer_anchors();
        let context = RegistrarRequestContext::new(Some(NOW))
            .with_pledge(Trust::new(&manufacturer, Some(NOW)));
        let judged = verify_registrar_request(&opened(bytes), &context, &Tolerances::strict());
        match judged.result() {
            Ok(verified) if verified.proximity_proven => "proximity",
            Ok(_) => "valid",
            Err(error) => error.code(),
        }
    }

    fn voucher_fields(&self) -> VoucherFields {
        VoucherFields {
            created_on: Some(NOW),
            assertion: Some(Assertion::Proximity),
            nonce: Some(self.nonce.clone()),
            ..VoucherFields::new(self.serial.clone())
        }
    }

    fn voucher(&self, fields: VoucherFields) -> Vec<u8> {
        let voucher = Voucher::new(fields).unwrap();
        sign_voucher(&voucher, Envelope::Cose, &self.pki.masa_signer, NOW).unwrap()
    }

    fn stripped(bytes: &[u8]) -> Vec<u8> {
        let signed = opened(bytes);
        let cose = signed.dangerous_peek().cose().unwrap();
        cose.without_certificates().unwrap()
    }

    /// As a device with the MASA's signing certificate built in.
    fn judge_voucher(&self, bytes: &[u8], request: &VoucherRequest) -> &'static str {
        let anchors: Anchors = self.pki.masa_signer.chain[0].clone().into();
        let context = VoucherContext {
            request: Some(request),
            idevid: Some(&self.pledge.chain[0]),
            registrar_chain: Some(&self.registrar().chain[..1]),
            ..VoucherContext::new(Trust::new(&anchors, None))
        };
        let judged = verify_voucher(&opened(bytes), &context, &Tolerances::strict());
        judged.result().map_or_else(Coded::code, |_| "valid")
    }
}

/// What stands in the headers of each message.
///
/// Requirements: CBR-001, CBR-002, CBR-112, CBR-113, CBR-115, CBR-116, CBR-120, CBR-122, CBR-125, CBR-126, COS-014, COS-020
#[test]
fn each_message_has_the_certificates_that_its_reader_needs() {
    let scene = Scene::new();
    let pledge = scene.pledge_request();
    let [protected, unprotected, payload, signature] = parts(&pledge);
    assert_eq!(protected, Value::Bytes(vec![0xa1, 0x01, 0x26]));
    assert_eq!(unprotected, Value::Map(vec![]));
    assert_eq!(payload, Value::Bytes(scene.pledge_payload()));
    assert_eq!(signature.as_bytes().unwrap().len(), 64);

    let bag_of = |bytes: &[u8]| {
        let [protected, unprotected, _, _] = parts(bytes);
        assert_eq!(protected, Value::Bytes(vec![0xa1, 0x01, 0x26]));
        let [(label, bag)] = <[_; 1]>::try_from(unprotected.into_map().unwrap()).unwrap();
        assert_eq!(label, Value::Integer(32.into()));
        match bag {
            Value::Bytes(one) => vec![one],
            Value::Array(several) => several
                .into_iter()
                .map(|one| one.into_bytes().unwrap())
                .collect(),
            other => panic!("{other:?}"),
        }
    };
    let ders = |chain: &[Certificate]| -> Vec<Vec<u8>> {
        chain.iter().map(|one| one.der().to_vec()).collect()
    };
    let registrar = scene.registrar_request(pledge, scene.pledge.chain.clone());
    let both = [&scene.registrar().chain[..], &scene.pledge.chain].concat();
    assert_eq!(bag_of(&registrar), ders(&both));

    let key = scene.registrar().chain[0].public_key();
    let voucher = scene.voucher(VoucherFields {
        pinned_domain_pubk_sha256: Some(key.sha256()),
        ..scene.voucher_fields()
    });
    assert_eq!(bag_of(&voucher), ders(&scene.pki.masa_signer.chain));
    let [_, unprotected, _, _] = parts(&Scene::stripped(&voucher));
    assert_eq!(unprotected, Value::Map(vec![]));

    // Just the signer's certificate, and by itself no array.
    let request = VoucherRequest::new(scene.pledge_fields()).unwrap();
    let options = SignOptions {
        include_certs: IncludeCertificates::Signer,
        ..SignOptions::default()
    };
    let bytes = sign_request_with(&request, Envelope::Cose, scene.registrar(), &options).unwrap();
    assert_eq!(bag_of(&bytes), ders(&scene.registrar().chain[..1]));
}

/// Requirements: CBR-003, CBR-121, CBR-122, CBR-123, CBR-124, COS-008, COS-015
#[test]
fn only_the_key_of_the_connection_signs_a_pledges_request() {
    let scene = Scene::new();
    let peer = &scene.pledge.chain[0];
    let other = scene.pki.idevid("JADA123456789").unwrap();
    let request = scene.pledge_request();
    assert_eq!(scene.judge_pledge(&request, peer), "valid");
    assert_eq!(
        scene.judge_pledge(&request, &other.chain[0]),
        "cose.signature-invalid"
    );

    let payload = scene.pledge_payload();
    let made = |identity: &Identity, certificates: CoseCertificates, key_id: Option<Vec<u8>>| {
        let options = CoseOptions {
            certificates,
            key_id,
        };
        cose::sign(&payload, identity, &options).unwrap()
    };
    // Another's key with its certificates along, over this device's connection.
    for certificates in [CoseCertificates::Bag(vec![]), CoseCertificates::Chain] {
        let bytes = made(&other, certificates, None);
        assert_eq!(scene.judge_pledge(&bytes, &other.chain[0]), "valid");
        assert_eq!(scene.judge_pledge(&bytes, peer), "cose.signature-invalid");
    }
    // A kid that is nobody's, and certificates that are not the signer's, change nothing.
    let bytes = made(&scene.pledge, CoseCertificates::None, Some(vec![1, 2, 3]));
    assert_eq!(scene.judge_pledge(&bytes, peer), "valid");
    let mut message = parts(&request);
    let chain = Value::Bytes(other.chain[0].der().to_vec());
    message[1] = Value::Map(vec![(Value::Integer(33.into()), chain)]);
    assert_eq!(scene.judge_pledge(&joined(message), peer), "valid");

    // Not signed at all.
    assert_eq!(
        scene.judge_pledge(&payload, peer),
        "request.unrecognised-format"
    );
}

/// Requirements: CBR-113, CBR-114, COS-005, COS-006, COS-020, COS-025, CBR-130
#[test]
fn shapes_that_are_no_voucher_request() {
    let scene = Scene::new();
    let peer = &scene.pledge.chain[0];
    let request = scene.pledge_request();
    let untagged = &request[1..];
    assert_eq!(scene.judge_pledge(untagged, peer), "cose.malformed");
    let tolerant = Tolerances::from_names(["cose-untagged"]).unwrap();
    let signed = open(Document::Request, untagged, None, &tolerant).unwrap();
    let manufacturer = scene.pki.manufacturer_anchors();
    let context = PledgeRequestContext {
        peer: Some(peer),
        candidates: &scene.pledge.chain[1..],
        ..PledgeRequestContext::new(Trust::new(&manufacturer, Some(NOW)))
    };
    let judged = verify_pledge_request(&signed, &context, &tolerant);
    assert!(judged.result().is_ok());
    assert_eq!(judged.oddities()[0].name, "cose-untagged");

    for tag in [16_u8, 17] {
        let other = [&[0xc0 | tag], untagged].concat();
        assert_eq!(scene.judge_pledge(&other, peer), "cose.tag", "{tag}");
    }
    for tag in [96_u8, 97, 98] {
        let other = [&[0xd8, tag], untagged].concat();
        assert_eq!(scene.judge_pledge(&other, peer), "cose.tag", "{tag}");
    }
    let mut detached = parts(&request);
    detached[2] = Value::Null;
    assert_eq!(
        scene.judge_pledge(&joined(detached), peer),
        "cose.payload-missing"
    );
    let mut moved = parts(&request);
    moved[0] = Value::Bytes(vec![]);
    moved[1] = Value::Map(vec![(
        Value::Integer(1.into()),
        Value::Integer((-7).into()),
    )]);
    assert_eq!(scene.judge_pledge(&joined(moved), peer), "cose.header");
    let mut changed = parts(&request);
    changed[0] = Value::Bytes(vec![0xa1, 0x01, 0x38, 0x22]);
    assert_ne!(scene.judge_pledge(&joined(changed), peer), "valid");
    let mut flipped = parts(&request);
    let mut signature = flipped[3].as_bytes().unwrap().clone();
    signature[10] ^= 1;
    flipped[3] = Value::Bytes(signature);
    assert_eq!(
        scene.judge_pledge(&joined(flipped), peer),
        "cose.signature-invalid"
    );
    // An unprotected header that is not known is passed over.
    let mut claims = parts(&request);
    let time = Value::Map(vec![(Value::Integer(6.into()), Value::Integer(1.into()))]);
    claims[1] = Value::Map(vec![(Value::Integer(15.into()), time)]);
    assert_eq!(scene.judge_pledge(&joined(claims), peer), "valid");
    let trailing = [&request[..], &[0]].concat();
    assert_eq!(scene.judge_pledge(&trailing, peer), "cose.malformed");
}

/// Requirements: CBR-102, CBR-115, CBR-116, CBR-117, CBR-119, CBR-132, CBR-158, COS-014, COS-015, VCB-039
#[test]
fn a_masa_finds_the_device_in_the_registrars_bag() {
    let scene = Scene::new();
    let device = scene.pledge.chain.clone();
    let good = scene.registrar_request(scene.pledge_request(), device.clone());
    assert_eq!(scene.judge_registrar(&good), "proximity");
    // Without the device's certificates nothing proves anything.
    let bare = scene.registrar_request(scene.pledge_request(), Vec::new());
    assert_eq!(scene.judge_registrar(&bare), "request.prior-invalid");
    // Another device's request inside, whose certificate says another serial number.
    let stranger = scene.pki.idevid("OTHER").unwrap();
    let request = VoucherRequest::new(scene.pledge_fields()).unwrap();
    let theirs = sign_request(&request, Envelope::Cose, &stranger, None).unwrap();
    let all = [&device[..], &stranger.chain].concat();
    let bytes = scene.registrar_request(theirs, all);
    assert_eq!(
        scene.judge_registrar(&bytes),
        "request.prior-serial-mismatch"
    );
    // A device that saw another registrar.
    let fields = RequestFields {
        proximity_registrar_pubk_sha256: Some([1; 32]),
        ..scene.pledge_fields()
    };
    let request = VoucherRequest::new(fields).unwrap();
    let elsewhere = sign_request(&request, Envelope::Cose, &scene.pledge, None).unwrap();
    let bytes = scene.registrar_request(elsewhere, device.clone());
    assert_eq!(scene.judge_registrar(&bytes), "request.proximity-mismatch");

    // The bag in any order, with strangers, some of them twice, and no kid that fits.
    let mut message = parts(&good);
    let mut bag = match &message[1] {
        Value::Map(entries) => entries[0].1.as_array().unwrap().clone(),
        other => panic!("{other:?}"),
    };
    bag.reverse();
    let strangers = scene.pki.other_domain("Somebody else").unwrap();
    for one in strangers.registrar.chain.iter().chain(&stranger.chain) {
        bag.insert(0, Value::Bytes(one.der().to_vec()));
    }
    bag.push(bag[0].clone());
    message[1] = Value::Map(vec![
        (Value::Integer(4.into()), Value::Bytes(b"nobody".to_vec())),
        (Value::Integer(32.into()), Value::Array(bag)),
    ]);
    assert_eq!(scene.judge_registrar(&joined(message)), "proximity");

    // A request in a request in a request: only the first two are looked at.
    let mut nested = scene.pledge_request();
    for _ in 0..20 {
        let fields = RequestFields {
            prior_signed_voucher_request: Some(nested),
            ..scene.pledge_fields()
        };
        let request = VoucherRequest::new(fields).unwrap();
        nested = sign_request(&request, Envelope::Cose, &scene.pledge, None).unwrap();
    }
    let bytes = scene.registrar_request(nested, device);
    assert_eq!(scene.judge_registrar(&bytes), "proximity");
}

/// Requirements: CBR-107, CBR-108, CBR-128, CBR-138, CBR-139, CBR-155, COS-015, VCB-033, VCB-034, VCB-041
#[test]
fn a_device_takes_the_pin_that_it_asked_for() {
    let scene = Scene::new();
    let leaf = &scene.registrar().chain[0];
    let key = leaf.public_key();
    let other = scene.pki.other_domain("Somebody else").unwrap();
    let stranger = &other.registrar.chain[0];
    let asked = |fields: RequestFields| VoucherRequest::new(fields).unwrap();
    let by_hash = asked(scene.pledge_fields());
    let by_key = asked(RequestFields {
        proximity_registrar_pubk_sha256: None,
        proximity_registrar_pubk: Some(key.clone()),
        ..scene.pledge_fields()
    });
    let nonceless = asked(RequestFields {
        nonce: None,
        proximity_registrar_pubk_sha256: None,
        ..scene.pledge_fields()
    });
    let fields = || scene.voucher_fields();
    let bits = |spki: &[u8]| spki[spki.len() - 65..].to_vec();
    let hash_of_bits = sha256(&bits(key.spki_der()));
    let bogus = stranger.public_key();
    let cases: Vec<(&str, &VoucherRequest, VoucherFields, &str)> = vec![
        (
            "hash",
            &by_hash,
            VoucherFields {
                pinned_domain_pubk_sha256: Some(key.sha256()),
                ..fields()
            },
            "valid",
        ),
        (
            "another hash",
            &by_hash,
            VoucherFields {
                pinned_domain_pubk_sha256: Some(bogus.sha256()),
                ..fields()
            },
            "voucher.pin-mismatch",
        ),
        (
            "hash of the bare point",
            &by_hash,
            VoucherFields {
                pinned_domain_pubk_sha256: Some(hash_of_bits),
                ..fields()
            },
            "voucher.pin-mismatch",
        ),
        (
            "key",
            &by_key,
            VoucherFields {
                pinned_domain_pubk: Some(key.clone()),
                ..fields()
            },
            "valid",
        ),
        (
            "another key",
            &by_key,
            VoucherFields {
                pinned_domain_pubk: Some(bogus.clone()),
                ..fields()
            },
            "voucher.pin-mismatch",
        ),
        (
            "asked by key, a bogus hash beside it",
            &by_key,
            VoucherFields {
                pinned_domain_pubk: Some(key.clone()),
                pinned_domain_pubk_sha256: Some([1; 32]),
                ..fields()
            },
            "valid",
        ),
        (
            "asked by key, a bogus certificate beside it",
            &by_key,
            VoucherFields {
                pinned_domain_pubk: Some(key.clone()),
                pinned_domain_cert: Some(stranger.clone()),
                ..fields()
            },
            "valid",
        ),
        (
            "asked by hash, only the key beside it is right",
            &by_hash,
            VoucherFields {
                pinned_domain_pubk: Some(key.clone()),
                pinned_domain_pubk_sha256: Some([1; 32]),
                ..fields()
            },
            "voucher.pin-mismatch",
        ),
        (
            "nonceless: the hash counts first",
            &nonceless,
            VoucherFields {
                nonce: None,
                pinned_domain_pubk_sha256: Some(key.sha256()),
                pinned_domain_pubk: Some(bogus.clone()),
                pinned_domain_cert: Some(stranger.clone()),
                ..fields()
            },
            "valid",
        ),
        (
            "nonceless: then the key",
            &nonceless,
            VoucherFields {
                nonce: None,
                pinned_domain_pubk: Some(bogus.clone()),
                pinned_domain_cert: Some(leaf.clone()),
                ..fields()
            },
            "voucher.pin-mismatch",
        ),
        (
            "another nonce",
            &by_hash,
            VoucherFields {
                nonce: Nonce::from_octets(&[8; 8]),
                pinned_domain_pubk_sha256: Some(key.sha256()),
                ..fields()
            },
            "voucher.nonce-mismatch",
        ),
        (
            "no nonce",
            &by_hash,
            VoucherFields {
                nonce: None,
                pinned_domain_pubk_sha256: Some(key.sha256()),
                ..fields()
            },
            "voucher.nonce-missing",
        ),
    ];
    for (what, request, fields, want) in cases {
        let bytes = scene.voucher(fields);
        assert_eq!(scene.judge_voucher(&bytes, request), want, "{what}");
        let stripped = Scene::stripped(&bytes);
        assert_eq!(
            scene.judge_voucher(&stripped, request),
            want,
            "{what}, stripped"
        );
    }
    // Whoever signs with certificates of his own along, protected or not, is not believed.
    let voucher = Voucher::new(VoucherFields {
        pinned_domain_pubk_sha256: Some(key.sha256()),
        ..fields()
    })
    .unwrap();
    let rogue = sign_voucher(&voucher, Envelope::Cose, &other.ca, NOW).unwrap();
    assert_eq!(scene.judge_voucher(&rogue, &by_hash), "path.unknown-issuer");
    assert_eq!(
        scene.judge_voucher(&Scene::stripped(&rogue), &by_hash),
        "cose.signature-invalid"
    );
    let mut header = vec![0xa2, 0x01, 0x26, 0x18, 0x20];
    ciborium::into_writer(&Value::Bytes(other.ca.chain[0].der().to_vec()), &mut header).unwrap();
    let mut message = parts(&Scene::stripped(&rogue));
    let mut structure = Vec::new();
    let to_sign = Value::Array(vec![
        Value::Text("Signature1".to_owned()),
        Value::Bytes(header.clone()),
        Value::Bytes(Vec::new()),
        message[2].clone(),
    ]);
    ciborium::into_writer(&to_sign, &mut structure).unwrap();
    let der = other.ca.signer.sign(&structure).unwrap();
    message[0] = Value::Bytes(header);
    message[3] = Value::Bytes(fixed(&der));
    assert_eq!(
        scene.judge_voucher(&joined(message), &by_hash),
        "path.unknown-issuer"
    );
}

/// Requirements: CBR-083, CBR-084
#[test]
fn a_voucher_that_fits_a_datagram() {
    let scene = Scene::new();
    let leaf = &scene.registrar().chain[0];
    let key = leaf.public_key();
    let ca = scene.registrar().chain.last().unwrap();
    let size = |fields: VoucherFields| {
        let bytes = scene.voucher(fields);
        (Scene::stripped(&bytes).len(), bytes.len())
    };
    let (hash, _) = size(VoucherFields {
        pinned_domain_pubk_sha256: Some(key.sha256()),
        ..scene.voucher_fields()
    });
    let (raw, _) = size(VoucherFields {
        pinned_domain_pubk: Some(key.clone()),
        ..scene.voucher_fields()
    });
    let (with_certificate, along) = size(VoucherFields {
        pinned_domain_cert: Some(ca.clone()),
        ..scene.voucher_fields()
    });
    println!("hash {hash}, key {raw}, certificate {with_certificate}, as issued {along}");
    assert!(hash < 200, "{hash}");
    assert!(raw < 256, "{raw}");
    // OpenThread's buffer for a voucher.
    assert!(with_certificate < 1024, "{with_certificate}");
    let (pledge, draft) = (scene.pledge_request().len(), example("pvr.cbor").len());
    println!("request with the hash {pledge}, the draft's with the key {draft}");
    assert!(pledge < draft);
}

/// What a voucher for later says about time, policy and the device.
///
/// Requirements: VCB-020, VCB-021, VCB-023, VCB-029, VCB-042, VCB-043
#[test]
fn leaves_that_a_device_holds_against_itself() {
    let scene = Scene::new();
    let key = scene.registrar().chain[0].public_key();
    let anchors: Anchors = scene.pki.masa_signer.chain[0].clone().into();
    let hour = time::Duration::hours(1);
    let device = scene.pledge.chain[0].clone();
    let fields = |change: &dyn Fn(&mut VoucherFields)| {
        let mut fields = VoucherFields {
            nonce: None,
            expires_on: Some(NOW + hour),
            pinned_domain_pubk_sha256: Some(key.sha256()),
            ..scene.voucher_fields()
        };
        change(&mut fields);
        Scene::stripped(&scene.voucher(fields))
    };
    let judge = |bytes: &[u8], now: Option<OffsetDateTime>, idevid: &Certificate| {
        let context = VoucherContext {
            serial_number: Some(&scene.serial),
            idevid: Some(idevid),
            nonce: artifacts::verify::ExpectedNonce::Nonceless,
            accepted_assertions: Some(&[Assertion::Proximity]),
            registrar_chain: Some(&scene.registrar().chain[..1]),
            ..VoucherContext::new(Trust::new(&anchors, now))
        };
        let judged = verify_voucher(&opened(bytes), &context, &Tolerances::strict());
        judged.result().map_or_else(Coded::code, |_| "valid")
    };
    let good = fields(&|_| {});
    assert_eq!(judge(&good, Some(NOW), &device), "valid");
    assert_eq!(
        judge(&good, Some(NOW + hour * 2), &device),
        "voucher.expired"
    );
    assert_eq!(judge(&good, None, &device), "voucher.clock-needed");
    let mismatch = IdevidIssuer::of(&certificate("masa_ca"));
    let own = IdevidIssuer::of(&device);
    type Change<'a> = &'a dyn Fn(&mut VoucherFields);
    let cases: [(&str, Change<'_>); 6] = [
        ("voucher.assertion-refused", &|f| {
            f.assertion = Some(Assertion::Logged);
        }),
        ("voucher.serial-mismatch", &|f| {
            f.serial_number = SerialNumber::new("x").unwrap();
        }),
        ("valid", &|f| f.idevid_issuer = Some(own.clone())),
        ("voucher.idevid-issuer-mismatch", &|f| {
            f.idevid_issuer = Some(mismatch.clone());
        }),
        ("valid", &|f| f.domain_cert_revocation_checks = Some(false)),
        ("voucher.revocation-unknown", &|f| {
            f.domain_cert_revocation_checks = Some(true);
        }),
    ];
    for (want, change) in cases {
        assert_eq!(judge(&fields(change), Some(NOW), &device), want);
    }
    // The key of a certificate that names no issuer's key stands for it.
    let root = certificate("masa_ca");
    assert!(root.authority_key_id().is_none());
    let issuer = IdevidIssuer::of(&root);
    assert_eq!(issuer.key_id(), Some(&root.public_key().sha1_key_id()[..]));
}

/// Requirements: COS-017, COS-023
#[test]
fn another_certificate_for_the_same_key_changes_no_authority() {
    let scene = Scene::new();
    let device = scene.pledge.chain.clone();
    let good = scene.registrar_request(scene.pledge_request(), device);
    let manufacturer = scene.pki.manufacturer_anchors();
    let domain = scene.pki.domain.anchors();
    let judge = |bytes: &[u8]| {
        let context = RegistrarRequestContext {
            domain: Some(Trust::new(&domain, Some(NOW))),
            ..RegistrarRequestContext::new(Some(NOW))
                .with_pledge(Trust::new(&manufacturer, Some(NOW)))
        };
        let judged = verify_registrar_request(&opened(bytes), &context, &Tolerances::strict());
        judged.result().map_or_else(Coded::code, |_| "valid")
    };
    assert_eq!(judge(&good), "valid");
    // The bag is not under the signature, so whoever holds the message can put another in.
    let stranger = scene.pki.other_domain("Somebody else").unwrap();
    let leaf = &scene.registrar().chain[0];
    let swapped = CertificateBuilder::new(
        Profile::Registrar,
        name("CN=Registrar").unwrap(),
        leaf.public_key().clone(),
        [7; 16],
        NOW - time::Duration::days(1),
        NOW + time::Duration::days(1),
    )
    .issue(&stranger.ca.chain[0], stranger.ca.signer.as_ref())
    .unwrap();
    let mut message = parts(&good);
    let Value::Map(entries) = &mut message[1] else {
        panic!("no map")
    };
    let bag = entries[0].1.as_array_mut().unwrap();
    bag[0] = Value::Bytes(swapped.der().to_vec());
    for one in &stranger.ca.chain {
        bag.push(Value::Bytes(one.der().to_vec()));
    }
    assert_eq!(judge(&joined(message.clone())), "path.unknown-issuer");
    // With the right one beside it, in whatever order, the right one counts.
    for at in [0, 1] {
        let mut message = message.clone();
        let Value::Map(entries) = &mut message[1] else {
            panic!("no map")
        };
        let bag = entries[0].1.as_array_mut().unwrap();
        bag.insert(at, Value::Bytes(leaf.der().to_vec()));
        assert_eq!(judge(&joined(message)), "valid", "{at}");
    }
    // A countersignature is no signature.
    let mut message = parts(&good);
    message[3] = Value::Bytes(vec![1; 64]);
    let Value::Map(entries) = &mut message[1] else {
        panic!("no map")
    };
    let Value::Bytes(signature) = &parts(&good)[3] else {
        panic!("no octets")
    };
    entries.push((Value::Integer(12.into()), Value::Bytes(signature.clone())));
    assert_eq!(judge(&joined(message)), "cose.signature-invalid");
}

/// What stacks in the field do otherwise than ours, built from their descriptions: the order of
/// OpenThread's device, the names of the draft's second example, the arrays and the identifiers of
/// registrars in use.
///
/// Requirements: CBR-160, CBR-161, COS-014, VCB-008, VCB-009, VCB-024
#[test]
fn what_deployed_stacks_send() {
    let scene = Scene::new();
    let (lenient, strict) = (Tolerances::lenient(), Tolerances::strict());
    let int = |number: i64| Value::Integer(number.into());
    let text = |text: &str| Value::Text(text.to_owned());
    let written = |value: &Value| {
        let mut out = Vec::new();
        ciborium::into_writer(value, &mut out).unwrap();
        out
    };
    let device = &scene.pledge;
    let spki = scene.registrar().chain[0].public_key().spki_der().to_vec();
    let signed = |identity: &Identity, payload: &[u8], certificates: CoseCertificates| {
        let options = CoseOptions {
            certificates,
            key_id: None,
        };
        cose::sign(payload, identity, &options).unwrap()
    };

    // OpenThread: assertion, nonce, serial number, key; in this order.
    let openthread = written(&Value::Map(vec![(
        int(2501),
        Value::Map(vec![
            (int(1), int(2)),
            (int(7), Value::Bytes(vec![7; 8])),
            (int(13), text("JADA123456789")),
            (int(12), Value::Bytes(spki)),
        ]),
    )]));
    assert!(Item::parse(&openthread).unwrap().1.unsorted);
    let pvr = signed(device, &openthread, CoseCertificates::None);
    assert_eq!(scene.judge_pledge(&pvr, &device.chain[0]), "valid");

    // The draft's second example of a request: names under a name, and its idevid-issuer in each
    // of the forms that are in use.
    let issuer = IdevidIssuer::of(&device.chain[0]);
    let whole = issuer.as_bytes().to_vec();
    let sequence = whole[2..].to_vec();
    let key_id = issuer.key_id().unwrap().to_vec();
    for (form, issuer, tolerated) in [
        ("extension", whole, false),
        ("sequence", sequence, true),
        ("key identifier", key_id, true),
    ] {
        let payload = written(&Value::Map(vec![(
            text("ietf-voucher-request:voucher"),
            Value::Map(vec![
                (text("assertion"), int(2)),
                (text("created-on"), text("2026-11-23T19:19:19.536Z")),
                (text("nonce"), Value::Bytes(vec![7; 8])),
                (text("idevid-issuer"), Value::Bytes(issuer)),
                (text("serial-number"), text("JADA123456789")),
                (
                    text("prior-signed-voucher-request"),
                    Value::Bytes(pvr.clone()),
                ),
            ]),
        )]));
        let bag = CoseCertificates::Bag(device.chain.clone());
        let rvr = signed(scene.registrar(), &payload, bag);
        let judge = |tolerances: &Tolerances| {
            let manufacturer = scene.pki.manufacturer_anchors();
            let context = RegistrarRequestContext::new(Some(NOW))
                .with_pledge(Trust::new(&manufacturer, Some(NOW)));
            let judged = verify_registrar_request(&opened(&rvr), &context, tolerances);
            let odd = judged.oddities().first().map(|oddity| oddity.name);
            let code = judged.result().map_or_else(Coded::code, |_| "valid");
            (code, odd)
        };
        if tolerated {
            assert_eq!(judge(&strict).0, "request.bad-idevid-issuer", "{form}");
            assert_eq!(
                judge(&lenient),
                ("valid", Some("idevid-issuer-forms")),
                "{form}"
            );
        } else {
            assert_eq!(judge(&strict), ("valid", None), "{form}");
        }
    }

    // One certificate in an array.
    let key = scene.registrar().chain[0].public_key();
    let voucher = scene.voucher(VoucherFields {
        pinned_domain_pubk_sha256: Some(key.sha256()),
        ..scene.voucher_fields()
    });
    let mut message = parts(&voucher);
    let masa = Value::Bytes(scene.pki.masa_signer.chain[0].der().to_vec());
    message[1] = Value::Map(vec![(int(32), Value::Array(vec![masa]))]);
    let array = joined(message);
    let anchors: Anchors = scene.pki.masa_signer.chain[0].clone().into();
    let judge = |bytes: &[u8], tolerances: &Tolerances| {
        let context = VoucherContext::new(Trust::new(&anchors, Some(NOW)));
        let judged = verify_voucher(&opened_by(bytes, tolerances), &context, tolerances);
        judged.result().map_or_else(Coded::code, |_| "valid")
    };
    assert_eq!(judge(&array, &strict), "cose.certificates");
    assert_eq!(judge(&array, &lenient), "valid");
    let bare = Scene::stripped(&array);
    assert_eq!(judge(&bare, &strict), "valid");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a signer puts inside, and whatever is changed around it, is judged and no danger.
    #[test]
    fn any_signed_payload_is_judged(
        which in prop::sample::select(vec!["pvr", "rvr", "voucher"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        around in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
    ) {
        let identity = &SIGNER;
        let change = |bytes: &mut Vec<u8>, changes: &[(prop::sample::Index, u8)]| {
            for (index, octet) in changes {
                let at = index.index(bytes.len());
                bytes[at] = *octet;
            }
        };
        let mut payload = example(&format!("{which}-payload.cbor"));
        change(&mut payload, &changes);
        let options = CoseOptions {
            certificates: CoseCertificates::Bag(vec![certificate("pledge")]),
            key_id: None,
        };
        let mut bytes = cose::sign(&payload, identity, &options).unwrap();
        change(&mut bytes, &around);
        let anchors: Anchors = identity.chain[0].clone().into();
        let trust = Trust::new(&anchors, Some(AT));
        for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
            let Ok(signed) = open(Document::Voucher, &bytes, None, &tolerances) else {
                continue;
            };
            let signed_inside = signed.dangerous_peek();
            if let Some(message) = signed_inside.cose() {
                let bare = message.without_certificates().unwrap();
                let bare = opened_by(&bare, &tolerances);
                prop_assert_eq!(bare.dangerous_peek().payload(), signed_inside.payload());
            }
            let judged = verify_voucher(&signed, &VoucherContext::new(trust), &tolerances);
            if let Ok(verified) = judged.result() {
                prop_assert!(verified.voucher.pins().next().is_some());
            }
            let _ = verify_pledge_request(&signed, &PledgeRequestContext::new(trust), &tolerances);
            let context = RegistrarRequestContext::new(Some(AT)).with_pledge(trust);
            let _ = verify_registrar_request(&signed, &context, &tolerances);
        }
    }
}

static SIGNER: std::sync::LazyLock<Identity> =
    std::sync::LazyLock::new(|| Scene::new().pki.masa_signer);
