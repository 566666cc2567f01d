//! The examples of the draft, and what deployed stacks send.

use super::*;
use artifacts::cbor::Item;
use pki::cose::{self, CoseCertificates, CoseOptions};

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

/// Requirements: VCB-040, CBR-124, CBR-131
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
/// Requirements: CBR-117, CBR-132, VCB-024
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
/// Requirements: CBR-109, CBR-139, VCB-028
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

/// What stacks of older drafts have in their documents: the numbers of modules from before 2019, and
/// those of the autumn of 2021. Each is refused, and by a code that says so.
///
/// Requirements: VCB-001, VCB-002, VCB-004
#[test]
fn numbers_of_older_drafts_are_refused() {
    let scene = Scene::new();
    let int = |number: i64| Value::Integer(number.into());
    let serial = Value::Text("JADA123456789".to_owned());
    let proximity = Value::Text("proximity".to_owned());
    let nonce = Value::Bytes(vec![7; 8]);
    let of = |top: i64, leaves: Vec<(i64, Value)>| {
        let leaves = leaves.into_iter().map(|(key, value)| (int(key), value));
        let map = Value::Map(vec![(int(top), Value::Map(leaves.collect()))]);
        let mut out = Vec::new();
        ciborium::into_writer(&map, &mut out).unwrap();
        out
    };
    for (what, payload, code) in [
        (
            "modules of 2017 to 2019",
            of(
                1_001_154,
                vec![(1, proximity), (7, nonce.clone()), (10, serial.clone())],
            ),
            "request.top-level-name",
        ),
        (
            "a voucher's module of that time",
            of(1_001_100, vec![(7, nonce.clone()), (10, serial.clone())]),
            "request.top-level-name",
        ),
        (
            "the numbering of 2021",
            of(
                2501,
                vec![(19, int(2)), (25, nonce.clone()), (31, serial.clone())],
            ),
            "request.missing-member",
        ),
        (
            "a voucher where a request belongs",
            of(2451, vec![(7, nonce), (11, serial)]),
            "request.top-level-name",
        ),
    ] {
        for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
            let read = VoucherRequest::from_cbor(&payload, &tolerances);
            assert_eq!(read.err().map(|error| error.code()), Some(code), "{what}");
        }
        let options = CoseOptions::default();
        let message = cose::sign(&payload, &scene.pledge, &options).unwrap();
        assert_eq!(
            scene.judge_pledge(&message, &scene.pledge.chain[0]),
            code,
            "{what}"
        );
    }
}

#[test]
fn text_armour_is_taken_off_where_that_is_tolerated() {
    use base64::Engine as _;
    for name in ["pvr", "rvr", "voucher"] {
        let bytes = example(&format!("{name}.cbor"));
        for message in [&bytes[..], &bytes[1..]] {
            let armoured = base64::engine::general_purpose::STANDARD.encode(message);
            let read = |tolerances: &Tolerances| {
                open(Document::Voucher, armoured.as_bytes(), None, tolerances)
                    .map(|signed| signed.dangerous_peek().bytes().to_vec())
                    .map_err(|error| error.code())
            };
            assert_eq!(
                read(&Tolerances::strict()),
                Err("voucher.not-binary"),
                "{name}"
            );
            assert_eq!(
                read(&Tolerances::lenient()).as_deref(),
                Ok(message),
                "{name}"
            );
        }
    }
}
