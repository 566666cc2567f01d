//! Who signs a request, and what stands in the headers.

use super::*;
use pki::IncludeCertificates;
use pki::cose::{self, CoseCertificates, CoseOptions};
use pki::issue::{CertificateBuilder, Profile, name};
use proptest::prelude::*;

/// What stands in the headers of each message.
///
/// Requirements: CBR-084, CBR-112, CBR-113, CBR-115, CBR-120, CBR-122, CBR-125, CBR-126, COS-014, COS-020
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
    let [protected, _, payload, signature] = parts(&voucher);
    let bare = [protected, Value::Map(vec![]), payload, signature];
    assert_eq!(parts(&Scene::stripped(&voucher)), bare);

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

/// Requirements: CBR-102, CBR-117, CBR-119, CBR-132, COS-014, COS-015, VCB-039
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
