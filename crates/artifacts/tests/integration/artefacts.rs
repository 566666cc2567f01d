//! The artefacts by themselves: encryption, content types, owner certificates, trust anchors.

use artifacts::bundle::{BootstrappingData, judge};
use artifacts::conveyed::{self, ContentType, TrustAnchor, encrypt_with};
use artifacts::{Encoding, Tolerances, owner};
use pki::cms::{self, EnvelopOptions, ID_DATA, ID_ENVELOPED_DATA};
use pki::{Certificate, SignOptions, SoftwareKey};

use crate::conveyed::onboarding;
use crate::sztp::{Sztp, code, verdict};

/// The devices of the tests have a certificate without keyUsage, as IDevIDs should.
fn encrypted(artefact: &[u8], recipient: &Certificate) -> Vec<u8> {
    let recipients = std::slice::from_ref(recipient);
    encrypt_with(artefact, recipients, &EnvelopOptions::default()).unwrap()
}

/// Requirements: SZTP-8572-3.1-04, SZTP-8572-3.1-06, SZTP-8572-3.2-06, SZTP-8572-3.3-03, SZTP-8572-3.4-01, SZTP-8572-3.4-04, SZTP-8572-5.1-12, SZTP-8572-5.3-07
#[test]
fn each_artefact_may_be_encrypted_by_itself() {
    let world = Sztp::new();
    let certificate = &world.device.chain[0];
    let whole = world.data();
    let owner = whole.owner_certificate.clone().unwrap();
    let voucher = whole.ownership_voucher.clone().unwrap();
    let names = [
        "conveyed-information-decryption",
        "owner-certificate-decryption",
        "ownership-voucher-decryption",
    ];
    for bits in 0..8_u8 {
        let maybe = |bit: u8, artefact: &[u8]| {
            if bits & bit == 0 {
                artefact.to_vec()
            } else {
                encrypted(artefact, certificate)
            }
        };
        let data = BootstrappingData {
            conveyed_information: maybe(1, &whole.conveyed_information),
            owner_certificate: Some(maybe(2, &owner)),
            ownership_voucher: Some(maybe(4, &voucher)),
        };
        let judgement = world.untrusted(&data);
        assert_eq!(code(&judgement), None, "{bits}");
        for (place, name) in names.into_iter().enumerate() {
            let want = if bits & (1 << place) == 0 {
                "absent"
            } else {
                "passed"
            };
            assert_eq!(verdict(&judgement, name), want);
        }
        let strict = Tolerances::strict();
        let mut context = world.context(&strict);
        context.decryption_key = None;
        let judgement = judge(&data, false, &context);
        let want = (bits > 0).then_some("bundle.decryption-key-missing");
        assert_eq!(code(&judgement), want);
        let other = SoftwareKey::generate(pki::KeyKind::EcdsaP256).unwrap();
        context.decryption_key = Some(&other);
        let judgement = judge(&data, false, &context);
        let want = (bits > 0).then_some("enveloped.decryption-failed");
        assert_eq!(code(&judgement), want);
        context.decryption_certificate = world.owner.chain.first();
        let judgement = judge(&data, false, &context);
        let want = (bits > 0).then_some("enveloped.no-recipient");
        assert_eq!(code(&judgement), want);
    }
    // Unsigned and encrypted, for a device that trusts the server.
    for encoding in Encoding::ALL {
        for content_type in [ContentType::Registered, ContentType::IdData] {
            let content = onboarding().encode(encoding).unwrap();
            let artefact = conveyed::unsigned_with(&content, encoding, content_type);
            let data = BootstrappingData {
                conveyed_information: encrypted(&artefact, certificate),
                ..BootstrappingData::default()
            };
            let strict = Tolerances::strict();
            let judgement = judge(&data, true, &world.context(&strict));
            assert_eq!(judgement.result.unwrap(), onboarding());
            let parsed = cms::EnvelopedData::parse(&data.conveyed_information).unwrap();
            assert_eq!(parsed.content_type(), content_type.oid(encoding));
        }
    }
}

/// Requirements: SZTP-8572-3.4-02, SZTP-8572-3.1-08
#[test]
fn nothing_else_is_inside() {
    let world = Sztp::new();
    let whole = world.data();
    let certificate = &world.device.chain[0];
    let envelope = encrypted(&whole.conveyed_information, certificate);
    let sign = |content: &[u8], oid| {
        cms::sign(content, oid, &world.owner, &SignOptions::default()).unwrap()
    };
    let seal = |content: &[u8], oid| {
        let recipients = std::slice::from_ref(certificate);
        cms::envelop(content, oid, recipients, &EnvelopOptions::default()).unwrap()
    };
    let voucher_type = cms::ID_CT_ANIMA_JSON_VOUCHER;
    for (what, artefact, want) in [
        (
            "encrypted, then signed",
            sign(&envelope, ID_ENVELOPED_DATA),
            "conveyed.content-type",
        ),
        (
            "a voucher",
            whole.ownership_voucher.clone().unwrap(),
            "conveyed.content-type",
        ),
        (
            "an owner certificate",
            whole.owner_certificate.clone().unwrap(),
            "cms.content-missing",
        ),
        (
            "encrypted twice",
            seal(&envelope, cms::ID_SIGNED_DATA),
            "conveyed.content-type",
        ),
        (
            "encrypted as a voucher's content",
            seal(b"{}", voucher_type),
            "conveyed.content-type",
        ),
        (
            "unsigned as a voucher's content",
            cms::plain(voucher_type, b"{}"),
            "cms.unexpected-type",
        ),
        (
            "encrypted as id-data",
            seal(&whole.conveyed_information, ID_DATA),
            "conveyed.unrecognised-format",
        ),
        (
            "neither JSON nor XML",
            cms::plain(ID_DATA, b"\x30\x03abc"),
            "conveyed.unrecognised-format",
        ),
        (
            "XML as JSON",
            conveyed::unsigned(b"<x/>", Encoding::Json),
            "conveyed.encoding-mismatch",
        ),
        (
            "JSON as XML",
            conveyed::unsigned(b" {}", Encoding::Xml),
            "conveyed.encoding-mismatch",
        ),
        (
            "no CMS",
            b"{\"ietf-sztp-conveyed-info:onboarding-information\":{}}".to_vec(),
            "cms.malformed",
        ),
        ("nothing", Vec::new(), "cms.malformed"),
        (
            "trailing octets",
            [whole.conveyed_information.clone(), vec![0]].concat(),
            "conveyed.not-der",
        ),
    ] {
        let data = BootstrappingData {
            conveyed_information: artefact,
            ..whole.clone()
        };
        assert_eq!(code(&world.untrusted(&data)), Some(want), "{what}");
    }
    // Who encrypts a file with `openssl cms -encrypt` writes id-data.
    let data = BootstrappingData {
        conveyed_information: seal(&whole.conveyed_information, ID_DATA),
        owner_certificate: whole
            .owner_certificate
            .map(|artefact| seal(&artefact, ID_DATA)),
        ownership_voucher: whole
            .ownership_voucher
            .map(|artefact| seal(&artefact, ID_DATA)),
    };
    let as_data = Tolerances::from_names(["enveloped-as-data"]).unwrap();
    let judgement = judge(&data, false, &world.context(&as_data));
    assert_eq!(code(&judgement), None);
    assert!(
        judgement
            .oddities
            .iter()
            .all(|oddity| oddity.name == "enveloped-as-data")
    );
}

/// What RFC 5652 calls the content of id-signedData is a SignedData without its ContentInfo.
///
/// Requirements: SZTP-8572-3.1-06
#[test]
fn a_signed_data_that_was_encrypted_without_its_content_info() {
    let world = Sztp::new();
    let mut data = world.data();
    // The ContentInfo has a four-octet header, an identifier of eleven and a tag of four.
    let bare = &data.conveyed_information[4 + 11 + 4..];
    assert_eq!(bare[0], 0x30);
    let recipients = &world.device.chain;
    let options = EnvelopOptions::default();
    data.conveyed_information =
        cms::envelop(bare, cms::ID_SIGNED_DATA, recipients, &options).unwrap();
    assert_eq!(code(&world.untrusted(&data)), None);
}

/// Requirements: SZTP-8572-3.2-01, SZTP-8572-3.2-02, SZTP-5652-5.1-01, SZTP-8572-3.1-01
#[test]
fn the_owner_certificate_is_degenerate_and_may_sign() {
    let world = Sztp::new();
    let artefact = owner::encode(&world.owner.chain, &[world.crl(&world.root, &[])]).unwrap();
    let read = owner::decode(&artefact).unwrap();
    assert_eq!(read.leaf(), world.owner.chain.first());
    assert_eq!(read.crls().len(), 1);
    assert!(read.oddities().is_empty());
    let signed_data = cms::SignedData::parse(&artefact).unwrap();
    assert_eq!(
        (signed_data.signer_count(), signed_data.content()),
        (0, None)
    );

    let refused =
        |result: Result<Vec<u8>, artifacts::Error>| pki::Coded::code(&result.unwrap_err());
    assert_eq!(refused(owner::encode(&[], &[])), "owner.no-certificates");
    // keyUsage of a CA has no digitalSignature.
    assert_eq!(
        refused(owner::encode(&world.root.chain, &[])),
        "owner.key-usage"
    );

    let code = |artefact: &[u8]| pki::Coded::code(&owner::decode(artefact).unwrap_err());
    assert_eq!(
        code(&world.data().conveyed_information),
        "owner.not-degenerate"
    );
    assert_eq!(
        code(&pki::pkcs7::certs_only(&[]).unwrap()),
        "owner.no-certificates"
    );
    assert_eq!(code(&[artefact, vec![0]].concat()), "owner.not-der");
    assert_eq!(code(world.owner.chain[0].der()), "cms.malformed");
}

/// Requirements: SZTP-8572-6.3-05, SZTP-8572-6.3-06, SZTP-8572-6.3-07
#[test]
fn a_trust_anchor_is_one_chain_with_its_root() {
    let world = Sztp::new();
    let strict = Tolerances::strict();
    let (root, intermediate) = (&world.root.chain[0], &world.intermediate.chain[0]);
    let crl = world.crl(&world.root, &[]);
    for chain in [[root, intermediate], [intermediate, root]] {
        let cms = TrustAnchor::encode(&chain.map(Clone::clone), std::slice::from_ref(&crl));
        let anchor = TrustAnchor::decode(&cms.unwrap(), &strict).unwrap();
        assert_eq!(anchor.chain(), [intermediate.clone(), root.clone()]);
        // The server's certificate is issued by the lowest of them, by no other.
        assert_eq!(anchor.issuer(), Some(intermediate));
        assert_eq!(anchor.crls().len(), 1);
    }
    let bag = |certificates: &[&Certificate]| {
        let certificates: Vec<_> = certificates.iter().copied().cloned().collect();
        pki::pkcs7::certs_only(&certificates).unwrap()
    };
    let other = Sztp::new();
    let form = Tolerances::from_names(["trust-anchor-form"]).unwrap();
    for (what, cms, tolerated) in [
        ("no root", bag(&[intermediate]), true),
        ("two chains", bag(&[root, &other.root.chain[0]]), false),
        ("nothing", bag(&[]), false),
        ("a certificate", root.der().to_vec(), true),
        ("a certificate in PEM", root.to_pem().into_bytes(), true),
        ("signed", world.data().conveyed_information, false),
        ("no CMS", b"x".to_vec(), false),
    ] {
        let refused = TrustAnchor::decode(&cms, &strict).unwrap_err();
        assert_eq!(
            pki::Coded::code(&refused),
            "conveyed.bad-trust-anchor",
            "{what}"
        );
        let result = TrustAnchor::decode(&cms, &form);
        assert_eq!(result.is_ok(), tolerated, "{what}");
        assert!(result.is_err() || result.unwrap().oddities()[0].name == "trust-anchor-form");
    }
}
