//! What a device makes of a voucher, and how large it is.

use super::*;

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

/// Requirements: CBR-107, CBR-108, CBR-128, CBR-139, CBR-155, COS-015, VCB-033, VCB-034, VCB-041
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
