//! The whole exchange with each kind of key, in each envelope.

use artifacts::verify::{
    ExpectedNonce, PledgeRequestContext, ProximityTarget, RegistrarRequestContext, Trust,
    VoucherContext, verify_pledge_request, verify_registrar_request, verify_voucher,
};
use artifacts::{
    Assertion, Document, Envelope, IdevidIssuer, Nonce, RequestFields, SerialNumber, Signed,
    Tolerances, Voucher, VoucherFields, VoucherRequest, open, sign_request, sign_request_with,
    sign_voucher,
};
use pki::issue::{CertificateBuilder, CrlBuilder, Profile, RevocationReason};
use pki::{Certificate, Coded, Identity, KeyKind, SignOptions, Unverified};
use testkit::{Pki, PkiOptions};
use time::OffsetDateTime;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

fn opened(bytes: &[u8], envelope: Envelope) -> Unverified<Signed> {
    open(
        Document::Request,
        bytes,
        Some(envelope),
        &Tolerances::strict(),
    )
    .unwrap()
}

/// Requirements: BRSKI-3-01, BRSKI-3-02, BRSKI-5.5-09, BRSKI-5.5-12, BRSKI-5.5-13, BRSKI-5.6.2-06, JWS-3-02, JWS-3.1-01, JWS-3.2-01, JWS-3.3-02, VOUCHER-5-01, VOUCHERBIS-6.1-02, CBR-101, CBR-110, CBR-111, CBR-112, CBR-117, CBR-126
fn exchange(kind: KeyKind, envelope: Envelope) {
    let pki = Pki::new(PkiOptions::new(NOW).with_kind(kind)).unwrap();
    let strict = Tolerances::strict();
    let pledge = pki.idevid("SN-1").unwrap();
    let registrar = &pki.domain.registrar;
    let manufacturer = pki.manufacturer_anchors();
    let domain = pki.domain.anchors();
    let nonce = Nonce::from_octets(&[7; 16]).unwrap();

    let fields = RequestFields {
        assertion: Some(Assertion::Proximity),
        nonce: Some(nonce.clone()),
        proximity_registrar_cert: Some(registrar.chain[0].clone()),
        ..RequestFields::new(SerialNumber::new("SN-1").unwrap())
    };
    let request = VoucherRequest::new(fields).unwrap();
    let pvr = sign_request(&request, envelope, &pledge, None).unwrap();
    let context = PledgeRequestContext {
        peer: Some(&pledge.chain[0]),
        // With COSE they came in the handshake.
        candidates: &pledge.chain,
        proximity: ProximityTarget::ServerCertificate(&registrar.chain[..1]),
        ..PledgeRequestContext::new(Trust::new(&manufacturer, Some(NOW)))
    };
    let judged = verify_pledge_request(&opened(&pvr, envelope), &context, &strict);
    // The pledge has no clock, and says nothing of idevid-issuer.
    let verified = judged.complete(&["idevid-issuer"]).unwrap().unwrap();

    let fields = RequestFields {
        created_on: Some(NOW),
        nonce: verified.request.nonce.clone(),
        idevid_issuer: Some(IdevidIssuer::of(&pledge.chain[0])),
        prior_signed_voucher_request: Some(pvr),
        ..RequestFields::new(verified.serial_number)
    };
    let request = VoucherRequest::new(fields).unwrap();
    let options = SignOptions {
        signing_time: Some(NOW),
        extra_certs: match envelope {
            Envelope::Cms | Envelope::Jws => Vec::new(),
            Envelope::Cose => pledge.chain.clone(),
        },
        ..SignOptions::default()
    };
    let rvr = sign_request_with(&request, envelope, registrar, &options).unwrap();
    let context =
        RegistrarRequestContext::new(Some(NOW)).with_pledge(Trust::new(&manufacturer, Some(NOW)));
    let judged = verify_registrar_request(&opened(&rvr, envelope), &context, &strict);
    let verified = judged
        .into_result()
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(verified.proximity_proven && !verified.domain_known);

    let fields = VoucherFields {
        created_on: Some(NOW),
        assertion: Some(Assertion::Proximity),
        pinned_domain_cert: verified.signer_path.last().cloned(),
        nonce: verified.request.nonce.clone(),
        ..VoucherFields::new(verified.request.serial_number.clone())
    };
    let sign = |identity: &Identity| {
        let voucher = Voucher::new(fields.clone()).unwrap();
        sign_voucher(&voucher, envelope, identity, NOW).unwrap()
    };
    let serial = SerialNumber::new("SN-1").unwrap();
    let context = VoucherContext {
        serial_number: Some(&serial),
        nonce: ExpectedNonce::Exactly(&nonce),
        idevid: Some(&pledge.chain[0]),
        accepted_assertions: Some(&[Assertion::Proximity]),
        registrar_chain: Some(&registrar.chain[..1]),
        domain: domain.iter().next(),
        ..VoucherContext::new(Trust::new(&manufacturer, Some(NOW)))
    };
    let judge = |bytes: &[u8]| {
        let judged = verify_voucher(&opened(bytes, envelope), &context, &strict);
        match judged.complete(&["idevid-issuer", "expires-on"]) {
            Ok(result) => result.map_or_else(|error| error.code(), |_| "valid"),
            Err(open) => open,
        }
    };
    assert_eq!(judge(&sign(&pki.masa_signer)), "valid", "{kind:?}");
    // The MASA's web server, a device and a registrar sign no vouchers.
    assert_eq!(
        judge(&sign(&pki.masa_tls)),
        "voucher.signer-mismatch",
        "{kind:?}"
    );
    assert_eq!(judge(&sign(&pledge)), "voucher.signer-mismatch", "{kind:?}");
    assert_eq!(judge(&sign(registrar)), "path.unknown-issuer", "{kind:?}");
}

/// Requirements: VOUCHER-5.3-19, VOUCHER-5.3-20
#[test]
fn a_voucher_says_whether_revocation_counts() {
    let pki = Pki::p256(NOW).unwrap();
    let manufacturer = pki.manufacturer_anchors();
    let registrar = &pki.domain.registrar;
    let ca = &pki.domain.ca;
    let crl = |revoked: bool, until: OffsetDateTime| {
        let mut builder = CrlBuilder::new(1, NOW - time::Duration::days(2), until);
        if revoked {
            let serial = registrar.chain[0].serial_number();
            builder = builder.revoke(serial, NOW, RevocationReason::KeyCompromise);
        }
        builder.issue(&ca.chain[0], ca.signer.as_ref()).unwrap()
    };
    let tomorrow = NOW + time::Duration::days(1);
    let yesterday = NOW - time::Duration::days(1);
    let good = [crl(false, tomorrow)];
    let stale = [crl(false, yesterday)];
    let revoked = [crl(true, tomorrow)];
    for (checks, crls, want) in [
        (None, None, "valid"),
        (None, Some(&revoked[..]), "path.revoked"),
        (None, Some(&stale), "valid"),
        (Some(true), None, "voucher.revocation-unknown"),
        (Some(true), Some(&[]), "voucher.revocation-unknown"),
        (Some(true), Some(&good), "valid"),
        (Some(true), Some(&stale), "path.crl-expired"),
        (Some(true), Some(&revoked), "path.revoked"),
        (Some(false), Some(&revoked), "valid"),
    ] {
        let fields = VoucherFields {
            created_on: Some(NOW),
            assertion: Some(Assertion::Logged),
            pinned_domain_cert: ca.chain.last().cloned(),
            domain_cert_revocation_checks: checks,
            ..VoucherFields::new(SerialNumber::new("SN-1").unwrap())
        };
        let voucher = Voucher::new(fields).unwrap();
        let bytes = sign_voucher(&voucher, Envelope::Cms, &pki.masa_signer, NOW).unwrap();
        let context = VoucherContext {
            registrar_chain: Some(&registrar.chain),
            domain_crls: crls,
            ..VoucherContext::new(Trust::new(&manufacturer, Some(NOW)))
        };
        let judged = verify_voucher(
            &opened(&bytes, Envelope::Cms),
            &context,
            &Tolerances::strict(),
        );
        assert_eq!(
            judged.result().map_or_else(Coded::code, |_| "valid"),
            want,
            "{checks:?}"
        );
    }
}

/// Requirements: VOUCHER-5.4-05, VOUCHERBIS-7.1-06, BRSKI-5.5-06
#[test]
fn the_whole_chain_travels_along() {
    let pki = Pki::p256(NOW).unwrap();
    let fields = RequestFields::new(SerialNumber::new("SN-1").unwrap());
    let request = VoucherRequest::new(fields).unwrap();
    for envelope in Envelope::JSON {
        for identity in [&pki.idevid("SN-1").unwrap(), &pki.domain.registrar] {
            let bytes = sign_request(&request, envelope, identity, Some(NOW)).unwrap();
            let signed = opened(&bytes, envelope);
            let found = signed.dangerous_peek().certificates();
            assert_eq!(found.len(), identity.chain.len());
            assert!(
                identity
                    .chain
                    .iter()
                    .all(|one| found.iter().any(|other| other.der() == one.der()))
            );
        }
    }
}

/// Requirements: BRSKI-5.5.2-01, BRSKI-5.5.2-03
#[test]
fn a_stray_certificate_of_the_same_name_is_neither_needed_nor_pinned() {
    let pki = Pki::p256(NOW).unwrap();
    let manufacturer = pki.manufacturer_anchors();
    let namesake = pki.other_domain("Usher Test Owner").unwrap();
    let registrar = &pki.domain.registrar;
    let root = pki.domain.ca.chain.last().unwrap();
    let stray = namesake.ca.chain.last().unwrap();
    assert_eq!(root.subject_der(), stray.subject_der());
    let mut fields = RequestFields::new(SerialNumber::new("SN-1").unwrap());
    fields.idevid_issuer = Some(IdevidIssuer::of(&pki.idevid("SN-1").unwrap().chain[0]));
    let request = VoucherRequest::new(fields).unwrap();
    let leaf = &registrar.chain[0];
    for (extra, top) in [
        (vec![stray, root], root),
        (vec![root, stray], root),
        (vec![stray], leaf),
        (vec![], leaf),
    ] {
        let identity = Identity {
            chain: vec![leaf.clone()],
            signer: std::sync::Arc::clone(&registrar.signer),
        };
        let options = SignOptions {
            extra_certs: extra.into_iter().cloned().collect(),
            ..SignOptions::default()
        };
        let bytes = sign_request_with(&request, Envelope::Cms, &identity, &options).unwrap();
        let context = RegistrarRequestContext::new(Some(NOW))
            .with_pledge(Trust::new(&manufacturer, Some(NOW)));
        let signed = opened(&bytes, Envelope::Cms);
        let judged = verify_registrar_request(&signed, &context, &Tolerances::strict());
        let verified = judged
            .into_result()
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(verified.signer_path.last().unwrap().der(), top.der());
        assert!(!verified.domain_known && !verified.proximity_proven);
    }
}

/// A device puts a certificate beside its own that has the same issuer and certificate serial
/// number, and another device's serial number. The signature decides which one counts.
///
/// Requirements: BRSKI-5.5.5-03
#[test]
fn a_device_cannot_borrow_a_serial_number_with_a_forged_certificate() {
    let pki = Pki::p256(NOW).unwrap();
    let manufacturer = pki.manufacturer_anchors();
    let thief = pki.idevid("SN-2").unwrap();
    let genuine = &thief.chain[0];
    let forger = testkit::root(pki.options(), &genuine.issuer()).unwrap();
    let mut serial = [0; 16];
    let used = genuine.serial_number();
    serial[16 - used.len()..].copy_from_slice(used);
    let subject = pki::issue::name("serialNumber=SN-1").unwrap();
    let key = forger.signer.public_key().clone();
    let (from, until) = (genuine.not_before(), genuine.not_after());
    let forged = CertificateBuilder::new(Profile::Idevid, subject, key, serial, from, until)
        .issue(&forger.chain[0], forger.signer.as_ref())
        .unwrap();

    let fields = RequestFields {
        assertion: Some(Assertion::Proximity),
        nonce: Nonce::from_octets(&[7; 16]),
        proximity_registrar_cert: Some(pki.domain.registrar.chain[0].clone()),
        ..RequestFields::new(SerialNumber::new("SN-1").unwrap())
    };
    let request = VoucherRequest::new(fields.clone()).unwrap();
    let options = SignOptions {
        extra_certs: vec![forged.clone()],
        ..SignOptions::default()
    };
    let pvr = sign_request_with(&request, Envelope::Cms, &thief, &options).unwrap();
    let claimed = opened(&pvr, Envelope::Cms)
        .dangerous_peek()
        .signer_certificate();
    assert_eq!(
        claimed.unwrap().der(),
        forged.der(),
        "the forged one is found first"
    );

    let fields = RequestFields {
        idevid_issuer: Some(IdevidIssuer::of(genuine)),
        prior_signed_voucher_request: Some(pvr.clone()),
        proximity_registrar_cert: None,
        ..fields
    };
    let request = VoucherRequest::new(fields).unwrap();
    let rvr = sign_request(&request, Envelope::Cms, &pki.domain.registrar, Some(NOW)).unwrap();
    let rule = |certificate: &Certificate| {
        certificate
            .subject_serial_number()
            .and_then(SerialNumber::new)
    };
    let trust = Trust::new(&manufacturer, Some(NOW));
    let context = RegistrarRequestContext {
        serial_rule: Some(&rule),
        ..RegistrarRequestContext::new(Some(NOW)).with_pledge(trust)
    };
    let strict = Tolerances::strict();
    let judged = verify_registrar_request(&opened(&rvr, Envelope::Cms), &context, &strict);
    assert_eq!(
        judged.result().unwrap_err().code(),
        "request.prior-serial-mismatch"
    );
    let context = PledgeRequestContext {
        serial_rule: Some(&rule),
        ..PledgeRequestContext::new(trust)
    };
    let judged = verify_pledge_request(&opened(&pvr, Envelope::Cms), &context, &strict);
    assert_eq!(
        judged.result().unwrap_err().code(),
        "request.serial-mismatch"
    );
}

macro_rules! kinds {
    ($( $name:ident = $kind:ident ),* $(,)?) => {
        $( #[test]
        fn $name() {
            // COSE has no number for RSA with the padding of PKCS #1 v1.5.
            let rsa = matches!(KeyKind::$kind, KeyKind::Rsa2048);
            let envelopes = if rsa { &Envelope::JSON[..] } else { &Envelope::ALL };
            for envelope in envelopes {
                exchange(KeyKind::$kind, *envelope);
            }
        } )*
    };
}

kinds! {
    ecdsa_p256 = EcdsaP256,
    ecdsa_p384 = EcdsaP384,
    ecdsa_p521 = EcdsaP521,
    ed25519 = Ed25519,
    rsa_2048 = Rsa2048,
    ml_dsa_44 = MlDsa44,
    ml_dsa_65 = MlDsa65,
    ml_dsa_87 = MlDsa87,
}
