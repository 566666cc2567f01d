//! Bootstrapping data as a device judges it: what is right passes every check, and each wrong that
//! a device can meet fails at its own.

use artifacts::bundle::{BootstrappingData, CHECKS, Judgement, judge};
use artifacts::conveyed::{
    self, BootstrapServer, ContentType, ConveyedInformation, RedirectInformation, TrustAnchor,
};
use artifacts::verify::{CheckResult, ExpectedNonce};
use artifacts::{Assertion, Encoding, IdevidIssuer, Tolerances, VoucherFields, owner};
use pki::cms::{self, ID_DATA};
use pki::path::Anchors;
use pki::{Certificate, Crl, Identity, SignOptions};
use testkit::NOW;
use time::Duration;

use crate::conveyed::onboarding;
use crate::sztp::{SERIAL, Sztp, code, crl, nonce, verdict};

fn redirect(world: &Sztp) -> ConveyedInformation {
    ConveyedInformation::Redirect(RedirectInformation {
        bootstrap_servers: vec![BootstrapServer {
            address: "a.example".to_owned(),
            port: Some(8443),
            trust_anchor: Some(TrustAnchor::encode(&world.root.chain, &[]).unwrap()),
        }],
    })
}

fn anchors_of(judgement: &Judgement) -> usize {
    match judgement.result.as_ref().unwrap() {
        ConveyedInformation::Redirect(redirect) => redirect
            .bootstrap_servers
            .iter()
            .filter(|server| server.trust_anchor.is_some())
            .count(),
        ConveyedInformation::Onboarding(_) => unreachable!(),
    }
}

/// Every check that a whole context allows passes, in the order of the standard.
///
/// Requirements: SZTP-8572-5.3-08, SZTP-8572-5.4-04, SZTP-8572-3.2-03, SZTP-8572-3.3-02, SZTP-8572-3.1-05
#[test]
fn signed_data_that_is_right_passes_every_check_in_order() {
    let world = Sztp::new();
    let judgement = world.untrusted(&world.data());
    assert_eq!(judgement.result.as_ref().unwrap(), &onboarding());
    assert!(judgement.trusted);
    assert_eq!(judgement.signed, Some(true));
    assert_eq!(judgement.encoding, Some(Encoding::Json));
    assert!(judgement.oddities.is_empty(), "{:?}", judgement.oddities);
    assert_eq!(judgement.owner_path.len(), 3);
    let names: Vec<_> = judgement.checks.iter().map(|check| check.name).collect();
    let expected: Vec<_> = CHECKS
        .iter()
        .copied()
        .filter(|name| !name.ends_with("-decryption"))
        .collect();
    assert_eq!(names, expected);
    for check in &judgement.checks {
        let open = [
            "voucher-expires-on",
            "voucher-idevid-issuer",
            "voucher-nonce",
            "owner-revocation",
        ];
        match check.result {
            CheckResult::Passed => {}
            CheckResult::NotMade { .. } => assert!(open.contains(&check.name), "{check:?}"),
            CheckResult::Failed { .. } => panic!("{check:?}"),
        }
    }
}

/// Encoding and content type of the information are independent of all else.
///
/// Requirements: SZTP-8572-3.1-03, SZTP-8572-3.1-05, SZTP-8572-3.1_10.3-01, SZTP-8572-10.3-01
#[test]
fn both_encodings_and_id_data() {
    let world = Sztp::new();
    for encoding in Encoding::ALL {
        for content_type in [ContentType::Registered, ContentType::IdData] {
            let content = onboarding().encode(encoding).unwrap();
            let signed = conveyed::sign(&content, encoding, content_type, &world.owner).unwrap();
            let data = BootstrappingData {
                conveyed_information: signed,
                ..world.data()
            };
            let judgement = world.untrusted(&data);
            assert_eq!(code(&judgement), None);
            assert_eq!(judgement.encoding, Some(encoding));
            let unsigned = BootstrappingData {
                conveyed_information: conveyed::unsigned_with(&content, encoding, content_type),
                ..BootstrappingData::default()
            };
            let strict = Tolerances::strict();
            let judgement = judge(&unsigned, true, &world.context(&strict));
            assert_eq!(judgement.result.unwrap(), onboarding());
        }
    }
    let artefact = conveyed::unsigned(b"{}", Encoding::Json);
    assert!(
        artefact
            .windows(13)
            .any(|part| hex::encode(part) == "060b2a864886f70d010910012b")
    );
    let artefact = conveyed::unsigned(b"<x/>", Encoding::Xml);
    assert!(
        artefact
            .windows(13)
            .any(|part| hex::encode(part) == "060b2a864886f70d010910012a")
    );
}

/// The figure of RFC 8572 section 5.3: who may provide what.
///
/// Requirements: SZTP-8572-2.1-01, SZTP-8572-2.1-02, SZTP-8572-2.2-01, SZTP-8572-5.3-13, SZTP-8572-5.3-14, SZTP-8572-9.5-01, SZTP-8572-5.4-01
#[test]
fn who_may_provide_what() {
    let world = Sztp::new();
    let strict = Tolerances::strict();
    let context = world.context(&strict);
    for information in [redirect(&world), onboarding()] {
        for trusted_source in [false, true] {
            let content = information.encode(Encoding::Xml).unwrap();
            let unsigned = BootstrappingData {
                conveyed_information: conveyed::unsigned(&content, Encoding::Xml),
                ..BootstrappingData::default()
            };
            let judgement = judge(&unsigned, trusted_source, &context);
            assert_eq!(judgement.signed, Some(false));
            assert_eq!(judgement.trusted, trusted_source);
            match (&information, trusted_source) {
                (ConveyedInformation::Onboarding(_), false) => {
                    assert_eq!(code(&judgement), Some("bundle.untrusted-onboarding"));
                    assert_eq!(verdict(&judgement, "content"), "passed");
                }
                (ConveyedInformation::Redirect(_), false) => {
                    // The anchors of untrusted redirect information are discarded.
                    assert_eq!(anchors_of(&judgement), 0);
                }
                (_, true) => assert_eq!(judgement.result.unwrap(), information),
            }
            let signed = BootstrappingData {
                conveyed_information: world.signed(&information, Encoding::Xml),
                ..world.data()
            };
            let judgement = judge(&signed, trusted_source, &context);
            assert!(judgement.trusted);
            assert_eq!(judgement.result.unwrap(), information);
        }
    }
}

/// What was signed and does not hold is refused even from a source that is trusted.
///
/// Requirements: SZTP-8572-5.3-09, SZTP-8572-5.4-01, SZTP-8572-5.4-13
#[test]
fn a_trusted_source_does_not_mend_a_broken_signature() {
    let world = Sztp::new();
    let strict = Tolerances::strict();
    let mut data = world.data();
    let last = data.conveyed_information.len() - 1;
    data.conveyed_information[last] ^= 1;
    for trusted_source in [false, true] {
        let judgement = judge(&data, trusted_source, &world.context(&strict));
        assert_eq!(code(&judgement), Some("cms.signature-invalid"));
        assert!(!judgement.trusted);
        assert!(judgement.voucher.is_none());
        assert_eq!(verdict(&judgement, "content"), "not made");
    }
}

/// Requirements: SZTP-8572-5.4-03, SZTP-8572-3.5-01
#[test]
fn signed_data_is_whole_or_refused_and_unsigned_data_is_alone() {
    let world = Sztp::new();
    let whole = world.data();
    let without_voucher = BootstrappingData {
        ownership_voucher: None,
        ..whole.clone()
    };
    let judgement = world.untrusted(&without_voucher);
    assert_eq!(code(&judgement), Some("bundle.voucher-missing"));
    let without_owner = BootstrappingData {
        owner_certificate: None,
        ..whole.clone()
    };
    let judgement = world.untrusted(&without_owner);
    assert_eq!(code(&judgement), Some("bundle.owner-certificate-missing"));
    assert_eq!(verdict(&judgement, "voucher-signature"), "not made");

    let content = onboarding().encode(Encoding::Json).unwrap();
    let unsigned = BootstrappingData {
        conveyed_information: conveyed::unsigned(&content, Encoding::Json),
        ..whole
    };
    let strict = Tolerances::strict();
    let judgement = judge(&unsigned, true, &world.context(&strict));
    assert_eq!(code(&judgement), Some("bundle.grouping"));
    let loose = Tolerances::from_names(["loose-grouping"]).unwrap();
    let judgement = judge(&unsigned, true, &world.context(&loose));
    assert_eq!(code(&judgement), None);
    assert_eq!(judgement.oddities[0].name, "loose-grouping");
}

/// One change to a good voucher, and the check and code that it fails with.
type VoucherCase = (
    &'static str,
    fn(&Sztp, &mut VoucherFields),
    &'static str,
    &'static str,
);

/// Requirements: SZTP-8572-5.4-05, SZTP-8572-5.4-06, SZTP-8572-5.4-07, SZTP-8572-5.4-08, SZTP-8572-5.4-09, SZTP-8366-5.3-02, SZTP-8366-5.3-06, SZTP-8366-5.3-07, SZTP-8366-5.3-08, SZTP-8366-5.3-15
#[test]
fn each_leaf_of_the_voucher() {
    let world = Sztp::new();
    #[rustfmt::skip]
    let cases: &[VoucherCase] = &[
        ("the same", |_, _| {}, "voucher-content", "passed"),
        ("of tomorrow", |_, v| v.created_on = Some(NOW + Duration::DAY), "voucher-created-on", "voucher.in-future"),
        ("of now", |_, v| v.created_on = Some(NOW), "voucher-created-on", "passed"),
        ("of a second ahead", |_, v| v.created_on = Some(NOW + Duration::SECOND), "voucher-created-on", "voucher.in-future"),
        ("ends tomorrow", |_, v| v.expires_on = Some(NOW + Duration::DAY), "voucher-expires-on", "passed"),
        ("ended a second ago", |_, v| v.expires_on = Some(NOW - Duration::SECOND), "voucher-expires-on", "voucher.expired"),
        ("another assertion", |_, v| v.assertion = Some(Assertion::Proximity), "voucher-assertion", "voucher.assertion-refused"),
        ("another device", |_, v| v.serial_number = artifacts::SerialNumber::new("JADA12345678").unwrap(), "voucher-serial-number", "voucher.serial-mismatch"),
        ("another case", |_, v| v.serial_number = artifacts::SerialNumber::new(SERIAL.to_lowercase()).unwrap(), "voucher-serial-number", "voucher.serial-mismatch"),
        ("the issuer's extension", |w, v| v.idevid_issuer = Some(w.idevid_issuer()), "voucher-idevid-issuer", "passed"),
        ("the issuer's key identifier", |w, v| v.idevid_issuer = IdevidIssuer::from_bytes(w.idevid_issuer().key_id().unwrap()), "voucher-idevid-issuer", "passed"),
        ("another issuer", |_, v| v.idevid_issuer = IdevidIssuer::from_bytes(&[7; 20]), "voucher-idevid-issuer", "voucher.idevid-issuer-mismatch"),
        ("a nonce nobody sent", |_, v| v.nonce = Some(nonce(&[1; 16])), "voucher-nonce", "voucher.nonce-mismatch"),
        ("a certificate of nobody's", |w, v| v.pinned_domain_cert = Some(w.device.chain[0].clone()), "owner-trust", "owner.not-pinned"),
    ];
    for (what, change, check, want) in cases {
        let mut fields = world.voucher_fields();
        change(&world, &mut fields);
        let data = BootstrappingData {
            ownership_voucher: Some(world.voucher(fields)),
            ..world.data()
        };
        let judgement = world.untrusted(&data);
        assert_eq!(verdict(&judgement, check), *want, "{what}");
        if *want == "passed" {
            assert_eq!(code(&judgement), None, "{what}");
        } else {
            assert_eq!(code(&judgement), Some(*want), "{what}");
            assert!(!judgement.trusted);
            assert_eq!(verdict(&judgement, "signature"), "not made", "{what}");
        }
    }
}

/// Requirements: SZTP-8366-5.3-15, SZTP-8572-5.4-08
#[test]
fn the_nonce_binds_the_voucher_to_the_request() {
    let world = Sztp::new();
    let sent = nonce(&[7; 16]);
    let strict = Tolerances::strict();
    let mut fields = world.voucher_fields();
    for (in_voucher, expected, want) in [
        (Some(sent.clone()), ExpectedNonce::Exactly(&sent), None),
        (
            Some(nonce(&[8; 16])),
            ExpectedNonce::ExactlyOrNonceless(&sent),
            Some("voucher.nonce-mismatch"),
        ),
        (
            None,
            ExpectedNonce::Exactly(&sent),
            Some("voucher.nonce-missing"),
        ),
        (None, ExpectedNonce::ExactlyOrNonceless(&sent), None),
    ] {
        fields.nonce = in_voucher;
        let data = BootstrappingData {
            ownership_voucher: Some(world.voucher(fields.clone())),
            ..world.data()
        };
        let mut context = world.context(&strict);
        context.nonce = expected;
        assert_eq!(code(&judge(&data, false, &context)), want);
    }
}

/// Requirements: SZTP-8572-9.1-02, SZTP-8572-5.4-05
#[test]
fn without_a_clock_what_depends_on_it_is_not_checked() {
    let world = Sztp::new();
    let strict = Tolerances::strict();
    let mut fields = world.voucher_fields();
    fields.expires_on = Some(NOW - Duration::DAY);
    fields.created_on = Some(NOW + Duration::DAY);
    let data = BootstrappingData {
        ownership_voucher: Some(world.voucher(fields)),
        ..world.data()
    };
    let mut context = world.context(&strict);
    context.at = None;
    let judgement = judge(&data, false, &context);
    assert_eq!(code(&judgement), None);
    for check in ["voucher-created-on", "voucher-expires-on"] {
        assert_eq!(verdict(&judgement, check), "not made");
    }
    // Clocks that are nearly right.
    let mut fields = world.voucher_fields();
    fields.created_on = Some(NOW + Duration::MINUTE);
    let data = BootstrappingData {
        ownership_voucher: Some(world.voucher(fields)),
        ..world.data()
    };
    context.at = Some(NOW);
    context.clock_skew = Duration::MINUTE;
    assert_eq!(code(&judge(&data, false, &context)), None);
}

/// Requirements: SZTP-8572-5.4-04, SZTP-8572-3.3-01
#[test]
fn the_voucher_is_the_manufacturers() {
    let world = Sztp::new();
    let other = Sztp::new();
    let strict = Tolerances::strict();
    let mut context = world.context(&strict);
    context.voucher_anchors = &other.anchors;
    let judgement = judge(&world.data(), false, &context);
    assert_eq!(verdict(&judgement, "voucher-signature"), "passed");
    // The other manufacturer's CA has the same name.
    assert_eq!(verdict(&judgement, "voucher-trust"), "path.signature");
    assert_eq!(code(&judgement), Some("path.signature"));
    let none = Anchors::new();
    context.voucher_anchors = &none;
    assert_eq!(
        code(&judge(&world.data(), false, &context)),
        Some("path.no-anchors")
    );

    // id-data is what many vouchers have, and RFC 8572 allows it.
    let json = artifacts::Voucher::new(world.voucher_fields())
        .unwrap()
        .to_json();
    let signer = &world.pki.masa_signer;
    let options = SignOptions {
        signing_time: Some(NOW),
        ..SignOptions::default()
    };
    let sign = |oid| cms::sign(&json, oid, signer, &options).unwrap();
    let data = BootstrappingData {
        ownership_voucher: Some(sign(ID_DATA)),
        ..world.data()
    };
    let judgement = world.untrusted(&data);
    assert_eq!(code(&judgement), None);
    assert!(judgement.oddities.is_empty());
    // The identifier that RFC 8572 printed before its erratum is of nothing.
    let data = BootstrappingData {
        ownership_voucher: Some(sign(pki::ObjectIdentifier::new_unwrap(
            "1.2.840.113549.1.9.16.1",
        ))),
        ..world.data()
    };
    assert_eq!(code(&world.untrusted(&data)), Some("cms.content-type"));
}

/// The pinned certificate may be any of the chain, the owner certificate included.
///
/// Requirements: SZTP-8366-5.3-11, SZTP-8572-3.2-03, SZTP-8572-3.2-04, SZTP-8572-3.3-04, SZTP-8572-5.4-10
#[test]
fn the_pin_is_a_root_an_intermediate_or_the_owner_certificate() {
    let world = Sztp::new();
    let [owner, intermediate] = world.owner.chain.as_slice() else {
        panic!("two certificates")
    };
    let root = &world.root.chain[0];
    let every = [owner.clone(), intermediate.clone(), root.clone()];
    let judged = |pinned: &Certificate, chain: &[Certificate], identity: &Identity| {
        let mut fields = world.voucher_fields();
        fields.pinned_domain_cert = Some(pinned.clone());
        let content = onboarding().encode(Encoding::Json).unwrap();
        let signed =
            conveyed::sign(&content, Encoding::Json, ContentType::Registered, identity).unwrap();
        let data = BootstrappingData {
            conveyed_information: signed,
            owner_certificate: Some(owner::encode(chain, &[]).unwrap()),
            ownership_voucher: Some(world.voucher(fields)),
        };
        world.untrusted(&data)
    };
    for pinned in &every {
        for chain in [&every[..], &every[..2]] {
            let judgement = judged(pinned, chain, &world.owner);
            assert_eq!(code(&judgement), None, "{}", pinned.subject());
            assert_eq!(judgement.owner_path.last(), Some(pinned));
        }
    }
    // Without the intermediate, the root is out of reach.
    let judgement = judged(root, &every[..1], &world.owner);
    assert_eq!(code(&judgement), Some("owner.not-pinned"));
    assert_eq!(code(&judged(owner, &every[..1], &world.owner)), None);
    // A self-signed owner certificate that is itself pinned; here it is a CA's, which may not
    // make other signatures than over certificates.
    let refused = conveyed::sign(b"{}", Encoding::Json, ContentType::Registered, &world.root);
    assert_eq!(pki::Coded::code(&refused.unwrap_err()), "owner.key-usage");
}

/// Requirements: SZTP-8572-3.3-04, SZTP-8572-5.4-10, SZTP-8572-3.2-08
#[test]
fn a_self_signed_end_entity_is_owner_certificate_and_pin() {
    let world = Sztp::new();
    let owner = crate::openssl::self_signed("-days 3650", "/");
    let mut fields = world.voucher_fields();
    fields.pinned_domain_cert = Some(owner.chain[0].clone());
    let content = onboarding().encode(Encoding::Json).unwrap();
    let signed = conveyed::sign(&content, Encoding::Json, ContentType::Registered, &owner).unwrap();
    let data = BootstrappingData {
        conveyed_information: signed,
        owner_certificate: Some(owner::encode(&owner.chain, &[]).unwrap()),
        ownership_voucher: Some(world.voucher(fields)),
    };
    let strict = Tolerances::strict();
    let mut context = world.context(&strict);
    // OpenSSL makes it of the day.
    context.at = Some(owner.chain[0].not_before() + Duration::DAY);
    let judgement = judge(&data, false, &context);
    assert_eq!(code(&judgement), None, "{:?}", judgement.result);
    assert_eq!(judgement.owner_path, owner.chain);
    // Pinned or not, the owner certificate's own validity counts.
    context.at = Some(owner.chain[0].not_after() + Duration::DAY);
    assert_eq!(code(&judge(&data, false, &context)), Some("path.expired"));
}

/// Requirements: SZTP-8572-5.4-12, SZTP-8572-3.2-07
#[test]
fn another_certificate_of_the_same_owner_does_not_sign() {
    let world = Sztp::new();
    let sibling = world.sibling(|builder| builder);
    let content = onboarding().encode(Encoding::Json).unwrap();
    let by_sibling =
        conveyed::sign(&content, Encoding::Json, ContentType::Registered, &sibling).unwrap();
    let data = BootstrappingData {
        conveyed_information: by_sibling.clone(),
        ..world.data()
    };
    // It comes along with the signature, but not in the owner certificate.
    let judgement = world.untrusted(&data);
    assert_eq!(code(&judgement), Some("bundle.signer-not-owner"));
    assert_eq!(
        verdict(&judgement, "owner-signer"),
        "bundle.signer-not-owner"
    );
    // An artefact with both has the signer found, whatever the order.
    let both = [world.owner.chain.clone(), sibling.chain].concat();
    let data = BootstrappingData {
        conveyed_information: by_sibling,
        owner_certificate: Some(owner::encode(&both, &[]).unwrap()),
        ..world.data()
    };
    assert_eq!(code(&world.untrusted(&data)), None);
}

/// Requirements: SZTP-8572-5.4-10, SZTP-5280-6-01
#[test]
fn the_owners_chain_is_validated() {
    let world = Sztp::new();
    let other = Sztp::new();
    let data = BootstrappingData {
        conveyed_information: other.data().conveyed_information,
        owner_certificate: other.data().owner_certificate,
        ..world.data()
    };
    let judgement = world.untrusted(&data);
    assert_eq!(verdict(&judgement, "owner-trust"), "owner.not-pinned");
    let strict = Tolerances::strict();
    let mut context = world.context(&strict);
    context.at = Some(NOW + Duration::days(4000));
    let judgement = judge(&world.data(), false, &context);
    // The voucher's signer is over by then too, and comes first.
    assert_eq!(code(&judgement), Some("path.expired"));
    assert_eq!(verdict(&judgement, "voucher-trust"), "path.expired");
    assert_eq!(verdict(&judgement, "owner-trust"), "not made");
}

/// Whether the voucher demands revocation checks, the lists that come along, what comes of it.
type RevocationCase<'a> = (Option<bool>, &'a [Crl], &'a str, Option<&'a str>);

/// Requirements: SZTP-8572-5.4-11, SZTP-8366-5.3-12, SZTP-8572-3.2-05
#[test]
fn revocation_is_checked_as_the_voucher_says() {
    let world = Sztp::new();
    let [owner, intermediate] = world.owner.chain.as_slice() else {
        panic!("two certificates")
    };
    let of_root = world.crl(&world.root, &[]);
    let good = world.crl(&world.intermediate, &[]);
    let bad = world.crl(&world.intermediate, &[owner]);
    let bad_root = world.crl(&world.root, &[intermediate]);
    let stale = crl(&world.intermediate, &[], NOW - Duration::days(30));
    let forged = crl(&Sztp::new().intermediate, &[], NOW - Duration::HOUR);
    let sets = [
        vec![],
        vec![good.clone(), of_root.clone()],
        vec![bad.clone(), of_root.clone()],
        vec![good.clone()],
        vec![good, bad_root],
        vec![stale, of_root.clone()],
        vec![forged, of_root],
    ];
    #[rustfmt::skip]
    let cases: &[RevocationCase<'_>] = &[
        (None, &sets[0], "not made", None),
        (None, &sets[1], "passed", None),
        (None, &sets[2], "path.revoked", Some("path.revoked")),
        (Some(false), &sets[1], "not made", None),
        (Some(false), &sets[2], "not made", None),
        (Some(true), &sets[0], "path.crl-missing", Some("path.crl-missing")),
        (Some(true), &sets[1], "passed", None),
        (Some(true), &sets[2], "path.revoked", Some("path.revoked")),
        (Some(true), &sets[3], "path.crl-missing", Some("path.crl-missing")),
        (Some(true), &sets[4], "path.revoked", Some("path.revoked")),
        (Some(true), &sets[5], "path.crl-expired", Some("path.crl-expired")),
        (Some(true), &sets[6], "path.crl-invalid", Some("path.crl-invalid")),
    ];
    for (checks, crls, revocation, want) in cases {
        let mut fields = world.voucher_fields();
        fields.domain_cert_revocation_checks = *checks;
        let data = BootstrappingData {
            owner_certificate: Some(owner::encode(&world.owner.chain, crls).unwrap()),
            ownership_voucher: Some(world.voucher(fields)),
            ..world.data()
        };
        let judgement = world.untrusted(&data);
        let at = format!("{checks:?} with {} lists", crls.len());
        assert_eq!(verdict(&judgement, "owner-revocation"), *revocation, "{at}");
        assert_eq!(verdict(&judgement, "owner-trust"), "passed", "{at}");
        assert_eq!(code(&judgement), *want, "{at}");
    }
}

/// A pinned owner certificate has no path on which a list would be asked; its status has to be
/// known all the same.
///
/// Requirements: SZTP-8572-5.4-11, SZTP-8366-5.3-12
#[test]
fn a_pinned_owner_certificate_can_be_revoked() {
    let world = Sztp::new();
    let [owner, intermediate] = world.owner.chain.as_slice() else {
        panic!("two certificates")
    };
    let good = world.crl(&world.intermediate, &[]);
    let bad = world.crl(&world.intermediate, &[owner]);
    let of_root = world.crl(&world.root, &[]);
    let both = [owner.clone(), intermediate.clone()];
    let unknown = "voucher.revocation-unknown";
    #[rustfmt::skip]
    let cases: &[(&[Certificate], &[Crl], &str)] = &[
        (&both[..1], &[], unknown),
        (&both, &[], "path.crl-missing"),
        (&both, std::slice::from_ref(&of_root), "path.crl-missing"),
        (&both[..1], std::slice::from_ref(&good), unknown),
        (&both, std::slice::from_ref(&bad), "path.revoked"),
        (&both, std::slice::from_ref(&good), "passed"),
    ];
    for (chain, crls, want) in cases {
        let mut fields = world.voucher_fields();
        fields.pinned_domain_cert = Some(owner.clone());
        fields.domain_cert_revocation_checks = Some(true);
        let data = BootstrappingData {
            owner_certificate: Some(owner::encode(chain, crls).unwrap()),
            ownership_voucher: Some(world.voucher(fields)),
            ..world.data()
        };
        let judgement = world.untrusted(&data);
        assert_eq!(verdict(&judgement, "owner-trust"), "passed");
        assert_eq!(verdict(&judgement, "owner-revocation"), *want);
        let refusal = (*want != "passed").then_some(*want);
        assert_eq!(code(&judgement), refusal);
    }
}
