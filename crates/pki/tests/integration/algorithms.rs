//! Every algorithm through every envelope.

use pki::cms::{self, CmsPolicy, ID_CT_ANIMA_JSON_VOUCHER, SignedData};
use pki::jws::{self, Jws, JwsPolicy, TYPE_VOUCHER};
use pki::{
    Coded as _, CsrBuilder, IncludeCertificates, KeyKind, Oddity, SignOptions, SignatureAlgorithm,
    Signer as _, SoftwareKey,
};
use time::macros::datetime;
use x509_cert::name::Name;

use crate::support::{identity, identity_of};

const CONTENT: &[u8] = br#"{"ietf-voucher:voucher":{"serial-number":"X"}}"#;

const KINDS: [KeyKind; 8] = [
    KeyKind::EcdsaP256,
    KeyKind::EcdsaP384,
    KeyKind::EcdsaP521,
    KeyKind::Ed25519,
    KeyKind::Rsa2048,
    KeyKind::MlDsa44,
    KeyKind::MlDsa65,
    KeyKind::MlDsa87,
];

/// Requirements: CMS-5.1-01, CMS-5.3-01, CMS-5.4-01, VOUCHER-5.4-01
#[test]
fn cms_round_trip_of_every_key() {
    let time = datetime!(2026-11-23 12:00:00 UTC);
    let strict = CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER);
    for kind in KINDS {
        let identity = identity(kind);
        for by_subject_key_id in [false, true] {
            let options = SignOptions {
                signing_time: Some(time),
                by_subject_key_id,
                ..SignOptions::default()
            };
            let message =
                cms::sign(CONTENT, ID_CT_ANIMA_JSON_VOUCHER, &identity, &options).unwrap();
            let signed_data = SignedData::parse(&message).unwrap();
            assert_eq!(signed_data.content(), Some(CONTENT));
            let signer = signed_data
                .verify(&strict, &[])
                .unwrap_or_else(|e| panic!("{kind:?}: {e}"));
            assert_eq!(signer.certificate(), &identity.chain[0]);
            assert_eq!(signer.algorithm(), identity.signer.algorithm());
            assert_eq!(signer.signing_time(), Some(time));
            // The certificate's own signature, with the same key.
            signer
                .certificate()
                .verify_signature_by(identity.signer.public_key())
                .unwrap();
            // No oddity: above all, the CMSVersion is the one of RFC 5652 §5.1.
            assert_eq!(signer.oddities(), [], "{kind:?}");
        }
    }
}

#[test]
fn rsa_paddings_and_hashes() {
    use SignatureAlgorithm as A;
    let key = SoftwareKey::generate(KeyKind::Rsa3072).unwrap();
    let pkcs8 = key.to_pkcs8_der().unwrap();
    let algorithms = [
        A::RsaPkcs1Sha256,
        A::RsaPkcs1Sha384,
        A::RsaPkcs1Sha512,
        A::RsaPssSha256,
        A::RsaPssSha384,
        A::RsaPssSha512,
    ];
    for algorithm in algorithms {
        let key = SoftwareKey::from_pkcs8_der(&pkcs8)
            .unwrap()
            .with_algorithm(algorithm)
            .unwrap();
        let identity = identity_of(key);
        let options = SignOptions::default();
        let message = cms::sign(CONTENT, ID_CT_ANIMA_JSON_VOUCHER, &identity, &options).unwrap();
        let strict = CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER);
        let signer = SignedData::parse(&message)
            .unwrap()
            .verify(&strict, &[])
            .unwrap();
        assert_eq!(signer.algorithm(), algorithm);
        assert_eq!(signer.oddities(), [Oddity::NoSigningTime]);

        let message = jws::sign(CONTENT, Some(TYPE_VOUCHER), &identity, &options).unwrap();
        let strict = JwsPolicy::strict(TYPE_VOUCHER);
        let signer = Jws::parse(&message).unwrap().verify(&strict, &[]).unwrap();
        assert_eq!(signer.algorithm(), algorithm);
    }
    let refused = key.with_algorithm(A::EcdsaP256Sha256).unwrap_err();
    assert_eq!(refused.code(), "pki.algorithm-key-mismatch");
}

/// Requirements: JWS-3-01, JWS-3-02
#[test]
fn jws_round_trip_of_every_key() {
    let strict = JwsPolicy::strict(TYPE_VOUCHER);
    for kind in KINDS {
        let identity = identity(kind);
        let message = jws::sign(
            CONTENT,
            Some(TYPE_VOUCHER),
            &identity,
            &SignOptions::default(),
        )
        .unwrap();
        let parsed = Jws::parse(&message).unwrap();
        assert_eq!(parsed.payload(), CONTENT);
        let signer = parsed
            .verify(&strict, &[])
            .unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_eq!(signer.certificate(), &identity.chain[0]);
        assert_eq!(signer.oddities(), []);

        // Without certificates, the verifier finds the signer by key identifier.
        let bare = SignOptions {
            include_certs: IncludeCertificates::None,
            ..Default::default()
        };
        let message = jws::sign(CONTENT, Some(TYPE_VOUCHER), &identity, &bare).unwrap();
        let parsed = Jws::parse(&message).unwrap();
        let missing = parsed.verify(&strict, &[]).unwrap_err();
        assert_eq!(missing.code(), "jws.signer-certificate-missing");
        let signer = parsed.verify(&strict, &identity.chain).unwrap();
        assert_eq!(signer.oddities(), [Oddity::SignerCertificateElsewhere]);
    }
}

/// Requirements: EST-4.2.1-02, EST-4.2.1-03
#[test]
fn csr_round_trip_of_every_key() {
    for kind in KINDS {
        let key = SoftwareKey::generate(kind).unwrap();
        let csr = CsrBuilder::new(Name::default()).sign(&key).unwrap();
        csr.verify().unwrap_or_else(|e| panic!("{kind:?}: {e}"));
        assert_eq!(csr.algorithm().unwrap(), key.algorithm());

        let mut broken = csr.der().to_vec();
        *broken.last_mut().unwrap() ^= 1;
        let refused = pki::Csr::from_der(&broken).unwrap().verify().unwrap_err();
        assert_eq!(refused.code(), "csr.proof-of-possession", "{kind:?}");
    }
}

#[test]
fn wrong_key_and_wrong_algorithm() {
    let p256 = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let other = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let signature = p256.sign(b"message").unwrap();
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
    p256.public_key()
        .verify(algorithm, b"message", &signature)
        .unwrap();
    let code = |result: Result<(), pki::Error>| result.unwrap_err().code();
    assert_eq!(
        code(other.public_key().verify(algorithm, b"message", &signature)),
        "pki.signature-invalid"
    );
    assert_eq!(
        code(p256.public_key().verify(algorithm, b"messagf", &signature)),
        "pki.signature-invalid"
    );
    assert_eq!(
        code(
            p256.public_key()
                .verify(SignatureAlgorithm::Ed25519, b"message", &signature)
        ),
        "pki.algorithm-key-mismatch"
    );
    assert_eq!(
        code(
            p256.public_key()
                .verify(SignatureAlgorithm::EcdsaSha1, b"message", &signature)
        ),
        "pki.algorithm-legacy"
    );
}

#[test]
fn identifiers_read_as_they_are_written() {
    for kind in KINDS {
        let key = SoftwareKey::generate(kind).unwrap();
        let read =
            SignatureAlgorithm::from_identifier(&key.algorithm().identifier(), key.public_key());
        assert_eq!(read.unwrap(), key.algorithm());
    }
}
