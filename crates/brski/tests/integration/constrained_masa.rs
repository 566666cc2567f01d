//! Registrars' requests in COSE, as a MASA sees them.

use artifacts::{
    Assertion, Envelope, IdevidIssuer, OLD_COSE_MEDIA_TYPE, RequestFields, Tolerances,
    VoucherRequest, sign_request,
};
use brski::masa::{Decision, Pin};
use pki::{
    Certificate, Coded, Identity,
    cose::{self, CoseCertificates, CoseOptions},
    issue::{CertificateBuilder, Profile, name},
};
use time::Duration;

use crate::{
    constrained::COSE,
    masa_refusals::Scene,
    world::{Ca, Manufacturer, NOW, serial},
};

/// A registrar's request in COSE to a MASA.
fn at_the_masa() -> Scene {
    let mut scene = Scene::new();
    scene.envelope = Envelope::Cose;
    scene.content_type = COSE.to_owned();
    scene.extra = scene.idevid.chain.clone();
    scene
}

/// Requirements: CBR-102, CBR-117, CBR-119, COS-014, COS-015
#[test]
fn the_masa_finds_its_way_in_any_bag() {
    let noise: Vec<Certificate> = (0..6)
        .flat_map(|_| Ca::root("Domain").registrar("noise").chain)
        .collect();
    type Row = (&'static str, fn(&mut Scene, &[Certificate]));
    let rows: &[Row] = &[
        ("as it is", |_, _| {}),
        ("without the root of the device's manufacturer", |s, _| {
            s.extra.truncate(1);
        }),
        ("shuffled, doubled, and with strangers", |s, noise| {
            let mut all = noise.to_vec();
            all.extend(s.registrar.chain.iter().rev().cloned());
            all.extend(s.idevid.chain.iter().rev().cloned());
            all.extend(s.idevid.chain.clone());
            s.extra = all;
        }),
    ];
    for (row, change) in rows {
        let mut scene = at_the_masa();
        change(&mut scene, &noise);
        let grant = scene.grant();
        assert_eq!(grant.voucher.assertion, Some(Assertion::Proximity), "{row}");
        assert_eq!(grant.pinned, scene.domain.certificate, "{row}");
        assert_eq!(grant.envelope, Envelope::Cose, "{row}");
    }
    // Nobody vouches for a device whose certificate is missing.
    let mut scene = at_the_masa();
    scene.extra.clear();
    match scene.decide() {
        Decision::Refuse { refusal, .. } => assert_eq!(refusal.code(), "masa.prior-signature"),
        other => panic!("{other:?}"),
    }
    // A random kid changes nothing.
    let scene = at_the_masa();
    let mut outer = scene.outer.clone();
    let inner = VoucherRequest::new(scene.inner.clone().unwrap().0).unwrap();
    let inner = sign_request(&inner, Envelope::Cose, &scene.idevid, None).unwrap();
    outer.prior_signed_voucher_request = Some(inner);
    let outer = VoucherRequest::new(outer).unwrap();
    let options = CoseOptions {
        certificates: CoseCertificates::Bag(scene.idevid.chain.clone()),
        key_id: Some(b"who knows".to_vec()),
    };
    let body = cose::sign(&outer.to_cbor(), &scene.registrar, &options).unwrap();
    let policy = &scene.masa.policy;
    let anchors = scene.masa.anchors();
    brski::masa::open_request(scene.inbound(&body), &anchors, policy, NOW).unwrap();
}

/// The bag is not under the signature: whoever is on the way can put another certificate of the
/// same key into it. Who is authorised does not change by that.
///
/// Requirements: COS-017
#[test]
fn another_certificate_of_the_same_key_gives_no_other_rights() {
    let mut scene = at_the_masa();
    // The domain is an owner's, and the device was sold to it.
    let certificate = scene.domain.certificate.clone();
    scene.owner("owner-1", certificate);
    scene.device().sold_to = Some("owner-1".to_owned());
    assert_eq!(scene.grant().voucher.assertion, Some(Assertion::Verified));
    let registrar = scene.registrar.clone();
    let make = |issuer: Option<&Ca>| {
        let builder = CertificateBuilder::new(
            Profile::Registrar,
            name("CN=somebody else").unwrap(),
            registrar.signer.public_key().clone(),
            serial(),
            NOW - Duration::days(1),
            NOW + Duration::days(30),
        )
        .dns_name("else.example");
        match issuer {
            Some(ca) => builder.issue(&ca.certificate, ca.key.as_ref()).unwrap(),
            None => builder.self_sign(registrar.signer.as_ref()).unwrap(),
        }
    };
    let other_domain = Ca::root("Other domain");
    for (row, chain) in [
        ("self-signed", vec![make(None)]),
        (
            "of another domain",
            vec![make(Some(&other_domain)), other_domain.certificate.clone()],
        ),
    ] {
        let mut scene = at_the_masa();
        scene.masa = std::mem::replace(
            &mut scene.masa,
            crate::sim::Masa::new(Manufacturer::new("x")),
        );
        scene.registrar = Identity::new(chain, registrar.signer.clone()).unwrap();
        let inner = scene.inner();
        inner.proximity_registrar_cert = None;
        inner.proximity_registrar_pubk = Some(registrar.signer.public_key().clone());
        let domain = scene.domain.certificate.clone();
        scene.owner("owner-1", domain);
        scene.device().sold_to = Some("owner-1".to_owned());
        match scene.decide() {
            Decision::Refuse { refusal, .. } => {
                assert_eq!(refusal.code(), "masa.not-the-owner", "{row}");
            }
            other => panic!("{row}: {other:?}"),
        }
    }
}

/// Requirements: CBR-132, VCB-035, VCB-037
#[test]
fn proximity_is_what_the_pledge_saw_and_not_what_the_registrar_says() {
    type Row = (
        &'static str,
        Option<&'static str>,
        fn(&mut RequestFields, &Certificate, &Certificate),
    );
    let rows: &[Row] = &[
        ("key", None, |f, own, _| {
            f.proximity_registrar_pubk = Some(own.public_key().clone());
        }),
        ("hash", None, |f, own, _| {
            f.proximity_registrar_pubk_sha256 = Some(own.public_key().sha256());
        }),
        (
            "other key",
            Some("masa.proximity-mismatch"),
            |f, _, other| {
                f.proximity_registrar_pubk = Some(other.public_key().clone());
            },
        ),
        (
            "other hash",
            Some("masa.proximity-mismatch"),
            |f, _, other| {
                f.proximity_registrar_pubk_sha256 = Some(other.public_key().sha256());
            },
        ),
        (
            "right certificate, other hash",
            Some("masa.proximity-mismatch"),
            |f, own, other| {
                f.proximity_registrar_cert = Some(own.clone());
                f.proximity_registrar_pubk_sha256 = Some(other.public_key().sha256());
            },
        ),
        ("nothing", Some("masa.proximity-missing"), |_, _, _| {}),
    ];
    for (row, code, change) in rows {
        let mut scene = at_the_masa();
        let own = scene.registrar.chain[0].clone();
        let other = Ca::root("Domain").registrar("registrar").chain[0].clone();
        // What the registrar puts beside its chain is no evidence.
        scene.extra.push(other.clone());
        scene.outer.assertion = Some(Assertion::Proximity);
        let inner = scene.inner();
        inner.proximity_registrar_cert = None;
        change(inner, &own, &other);
        match (scene.decide(), code) {
            (Decision::Refuse { refusal, .. }, Some(code)) => {
                assert_eq!(refusal.code(), *code, "{row}");
            }
            (Decision::Grant(grant), None) => {
                assert_eq!(grant.voucher.assertion, Some(Assertion::Proximity), "{row}");
                assert_eq!(grant.pinned, own, "{row}");
                assert!(grant.voucher.pinned_domain_cert.is_none(), "{row}");
            }
            (other, _) => panic!("{row}: {other:?}"),
        }
    }
    // The pledge says logged, the registrar says proximity.
    let mut scene = at_the_masa();
    scene.outer.assertion = Some(Assertion::Proximity);
    scene.inner().assertion = Some(Assertion::Logged);
    match scene.decide() {
        Decision::Refuse { refusal, .. } => assert_eq!(refusal.code(), "masa.proximity-missing"),
        other => panic!("{other:?}"),
    }
}

/// Requirements: CBR-103, CBR-104, CBR-105, CBR-138, VCB-026, VCB-030
#[test]
fn the_masa_pins_by_policy_what_the_pledge_can_use() {
    let two_levels = |scene: &mut Scene| {
        scene.domain = Ca::root("Domain").below("Site");
        scene.registrar = scene.domain.registrar("registrar");
        scene.inner().proximity_registrar_cert = scene.registrar.certificate().cloned();
    };
    let mut scene = at_the_masa();
    two_levels(&mut scene);
    assert_eq!(scene.grant().pinned, scene.domain.certificate);
    scene.masa.policy.constrained_pin = Pin::TopOfChain;
    assert_eq!(scene.grant().pinned, scene.domain.above[0]);
    // An owner with a rule of its own.
    let root = scene.domain.above[0].clone();
    scene.owner("owner-1", root).pin = Some(Pin::EndEntity);
    assert_eq!(scene.grant().pinned, scene.registrar.chain[0]);

    // Nonceless: the highest.
    let mut scene = at_the_masa();
    two_levels(&mut scene);
    scene.nonceless();
    let root = scene.domain.above[0].clone();
    scene.owner("owner-1", root.clone()).nonceless = true;
    scene.device().sold_to = Some("owner-1".to_owned());
    scene.device().has_clock = true;
    let grant = scene.grant();
    assert_eq!(grant.pinned, root);
    let expires_on = grant.voucher.expires_on.unwrap();
    assert!(grant.voucher.nonce.is_none() && expires_on <= root.not_after());

    // Keys are pinned where that is asked for and policy has nothing against it.
    let mut scene = at_the_masa();
    let own = scene.registrar.chain[0].clone();
    scene.inner().proximity_registrar_cert = None;
    scene.inner().proximity_registrar_pubk_sha256 = Some(own.public_key().sha256());
    let grant = scene.grant();
    assert_eq!(grant.voucher.pins().count(), 1);
    assert_eq!(
        grant.voucher.pinned_domain_pubk_sha256,
        Some(own.public_key().sha256())
    );
    assert!(grant.voucher.domain_cert_revocation_checks.is_none());
    assert!(grant.voucher.idevid_issuer.is_none());
    scene.masa.policy.key_pins = false;
    let grant = scene.grant();
    assert_eq!(
        grant.voucher.pinned_domain_cert,
        Some(scene.domain.certificate.clone())
    );
}

/// Requirements: VCB-021, VCB-024, VCB-025
#[test]
fn idevid_issuer_is_taken_in_all_three_forms() {
    for form in 0..3 {
        let mut scene = at_the_masa();
        let idevid = scene.idevid.chain[0].clone();
        let whole = IdevidIssuer::of(&idevid);
        let bytes = match form {
            0 => whole.as_bytes().to_vec(),
            1 => idevid.authority_key_id_extension().unwrap(),
            _ => idevid.authority_key_id().unwrap(),
        };
        scene.outer.idevid_issuer = IdevidIssuer::from_bytes(&bytes);
        scene.masa.policy.tolerances = Tolerances::from_names(["idevid-issuer-forms"]).unwrap();
        scene.device().serial_ambiguous = true;
        let grant = scene.grant();
        assert!(
            grant.voucher.idevid_issuer.clone().unwrap().matches(&whole),
            "{form}"
        );
        // Another device's issuer.
        let other = Manufacturer::new("Other").device("SN-1").chain[0].clone();
        let other = match form {
            0 => IdevidIssuer::of(&other).as_bytes().to_vec(),
            1 => other.authority_key_id_extension().unwrap(),
            _ => other.authority_key_id().unwrap(),
        };
        scene.outer.idevid_issuer = IdevidIssuer::from_bytes(&other);
        match scene.decide() {
            Decision::Refuse { refusal, .. } => {
                assert_eq!(refusal.code(), "masa.idevid-issuer-mismatch", "{form}");
            }
            other => panic!("{form}: {other:?}"),
        }
    }
}

/// The MASA's answer is named as it was asked for, and formats that nobody knows are refused.
///
/// Requirements: CBR-041, CBR-092, CBR-093
#[test]
fn the_masa_takes_cose_under_both_names() {
    for (content_type, accept, expect) in [
        (COSE, Some(COSE), Ok(COSE)),
        (COSE, None, Ok(COSE)),
        (
            OLD_COSE_MEDIA_TYPE,
            Some(OLD_COSE_MEDIA_TYPE),
            Ok(OLD_COSE_MEDIA_TYPE),
        ),
        (OLD_COSE_MEDIA_TYPE, None, Ok(OLD_COSE_MEDIA_TYPE)),
        (OLD_COSE_MEDIA_TYPE, Some(COSE), Ok(COSE)),
        ("text/plain", Some(COSE), Err(415)),
        ("application/cose", Some(COSE), Err(415)),
        (COSE, Some("application/foo"), Err(415)),
        (COSE, Some("application/voucher+cose;q=0"), Err(406)),
    ] {
        let mut scene = at_the_masa();
        scene.content_type = content_type.to_owned();
        scene.accept = accept.map(str::to_owned);
        let response = scene.send();
        match expect {
            Ok(name) => {
                assert_eq!(response.status, 200, "{content_type} {accept:?}");
                assert_eq!(response.header("content-type"), Some(name));
                // The same request again gets the same octets.
                assert_eq!(scene.send().body, response.body);
            }
            Err(status) => assert_eq!(response.status, status, "{content_type} {accept:?}"),
        }
    }
}
