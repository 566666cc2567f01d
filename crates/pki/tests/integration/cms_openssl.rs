//! `openssl cms` and this crate read each other.

use std::sync::Arc;

use pki::cms::{self, CmsPolicy, ID_CT_ANIMA_JSON_VOUCHER, ID_DATA, SignedData};
use pki::{
    Certificate, Coded as _, Identity, KeyKind, Oddity, SeveralSigners, SignOptions,
    SignatureAlgorithm, SoftwareKey, pkcs7,
};
use time::macros::datetime;

use crate::support::{OpenSsl, Template, identity, issue};

const JSON: &[u8] = b"{\n  \"ietf-voucher:voucher\": {}\n}\n";

/// Requirements: CMS-5.3-01, CMS-5.3-02, CMS-5.4-01, VOUCHER-5.4-04, VOUCHERBIS-7.1-05
#[test]
fn openssl_signs_and_we_verify() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    let keys = [
        ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
        ("rsa", "rsa:2048"),
    ];
    let strict = CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER);
    let ber = CmsPolicy {
        allow_ber: true,
        ..strict.clone()
    };
    for (name, new_key) in keys {
        let certificate = openssl.identity(name, new_key);
        for digest in ["sha256", "sha384", "sha512"] {
            for form in ["", "-keyid", "-stream -indef"] {
                let command = format!(
                    "cms -sign -in in -out out -outform DER -binary -nodetach -signer {name}.crt \
                     -inkey {name}.key -md {digest} -econtent_type 1.2.840.113549.1.9.16.1.40 {form}"
                );
                openssl.run(&command);
                let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
                assert_eq!(signed_data.content(), Some(JSON), "{command}");
                let streamed = form.contains("indef");
                let policy = if streamed { &ber } else { &strict };
                let signer = signed_data
                    .verify(policy, &[])
                    .unwrap_or_else(|error| panic!("{command}: {error}"));
                assert_eq!(signer.certificate(), &certificate);
                assert_eq!(
                    signer.oddities().contains(&Oddity::Ber),
                    streamed,
                    "{command}"
                );
                if streamed {
                    let refused = signed_data.verify(&strict, &[]).unwrap_err();
                    assert_eq!(refused.code(), "cms.not-der");
                }
            }
        }
    }
}

/// Without `-binary`, OpenSSL makes CR LF of each LF. The digest is over what was sent.
#[test]
fn text_mode_content_is_taken_as_it_came() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    openssl.identity("signer", "rsa:2048");
    openssl.run(
        "cms -sign -in in -out out -outform DER -nodetach -signer signer.crt -inkey signer.key",
    );
    let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
    let with_cr = String::from_utf8(JSON.to_vec())
        .unwrap()
        .replace('\n', "\r\n");
    assert_eq!(signed_data.content(), Some(with_cr.as_bytes()));
    let signer = signed_data
        .verify(&CmsPolicy::strict(ID_DATA), &[])
        .unwrap();
    assert_eq!(signer.oddities(), []);
}

/// Requirements: CMS-5.2-01, VOUCHERBIS-7.1-02
#[test]
fn detached_signatures_are_refused() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    openssl.identity("signer", "rsa:2048");
    openssl
        .run("cms -sign -in in -out out -outform DER -binary -signer signer.crt -inkey signer.key");
    let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
    let refused = signed_data
        .verify(&CmsPolicy::strict(ID_DATA), &[])
        .unwrap_err();
    assert_eq!(refused.code(), "cms.content-missing");
}

#[test]
fn rsassa_pss_from_openssl() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    openssl.identity("signer", "rsa:2048");
    let sign = "cms -sign -in in -out out -outform DER -binary -nodetach -signer signer.crt \
                -inkey signer.key -keyopt rsa_padding_mode:pss";
    for (options, algorithm) in [
        (
            "-md sha256 -keyopt rsa_pss_saltlen:-1",
            SignatureAlgorithm::RsaPssSha256,
        ),
        (
            "-md sha384 -keyopt rsa_pss_saltlen:-1",
            SignatureAlgorithm::RsaPssSha384,
        ),
        // The salt is as long as the key allows, which is OpenSSL's default.
        ("-md sha512", SignatureAlgorithm::RsaPssSha512),
        (
            "-md sha256 -keyopt rsa_pss_saltlen:20",
            SignatureAlgorithm::RsaPssSha256,
        ),
    ] {
        openssl.run(&format!("{sign} {options}"));
        let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
        let signer = signed_data
            .verify(&CmsPolicy::strict(ID_DATA), &[])
            .unwrap_or_else(|error| panic!("{options}: {error}"));
        assert_eq!(signer.algorithm(), algorithm);
    }
    // With SHA-1 the parameters are all defaults; the hash is not one of ours.
    openssl.run(&format!("{sign} -md sha1"));
    let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
    let refused = signed_data
        .verify(&CmsPolicy::strict(ID_DATA), &[])
        .unwrap_err();
    assert_eq!(refused.code(), "pki.algorithm-legacy");
}

/// Requirements: VOUCHERBIS-7.1-04, CMS-5.3-03
#[test]
fn signatures_without_signed_attributes() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-256"] {
        openssl.identity("signer", key);
        openssl.run(
            "cms -sign -in in -out out -outform DER -binary -nodetach -noattr -md sha256 \
             -signer signer.crt -inkey signer.key",
        );
        let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
        let refused = signed_data
            .verify(&CmsPolicy::strict(ID_DATA), &[])
            .unwrap_err();
        assert_eq!(refused.code(), "cms.signed-attributes-missing");
        let lenient = CmsPolicy {
            allow_missing_signed_attributes: true,
            ..CmsPolicy::strict(ID_DATA)
        };
        let signer = signed_data.verify(&lenient, &[]).unwrap();
        assert!(signer.oddities().contains(&Oddity::NoSignedAttributes));
        assert_eq!(signer.signing_time(), None);
    }
}

#[test]
fn sha1_needs_the_legacy_switch() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    openssl.identity("signer", "rsa:2048");
    openssl.run(
        "cms -sign -in in -out out -outform DER -binary -nodetach -md sha1 -signer signer.crt \
         -inkey signer.key",
    );
    let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
    let strict = CmsPolicy::strict(ID_DATA);
    assert_eq!(
        signed_data.verify(&strict, &[]).unwrap_err().code(),
        "pki.algorithm-legacy"
    );
    let legacy = CmsPolicy {
        allow_legacy_algorithms: true,
        ..strict
    };
    let signer = signed_data.verify(&legacy, &[]).unwrap();
    assert!(signer.oddities().contains(&Oddity::LegacyAlgorithm));
}

#[test]
fn certificates_elsewhere() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    let signer = openssl.identity("signer", "rsa:2048");
    let stranger = openssl.identity("stranger", "rsa:2048");
    openssl.run(
        "cms -sign -in in -out out -outform DER -binary -nodetach -nocerts -signer signer.crt \
         -inkey signer.key -certfile stranger.crt",
    );
    let signed_data = SignedData::parse(&openssl.read("out")).unwrap();
    let strict = CmsPolicy::strict(ID_DATA);
    let refused = signed_data.verify(&strict, &[]).unwrap_err();
    assert_eq!(refused.code(), "cms.signer-certificate-missing");
    let known = [stranger, signer.clone()];
    let verified = signed_data.verify(&strict, &known).unwrap();
    assert_eq!(verified.certificate(), &signer);
    assert!(
        verified
            .oddities()
            .contains(&Oddity::SignerCertificateElsewhere)
    );
    assert_eq!(signed_data.signer_certificate(0, &[]), None);
    assert_eq!(signed_data.signer_certificate(0, &known), Some(signer));
}

#[test]
fn several_signers() {
    let openssl = OpenSsl::new();
    openssl.write("in", JSON);
    let one = openssl.identity("one", "rsa:2048");
    let two = openssl.identity("two", "ec -pkeyopt ec_paramgen_curve:P-256");
    openssl.run(
        "cms -sign -in in -out out -outform DER -binary -nodetach -signer one.crt -inkey one.key \
         -signer two.crt -inkey two.key",
    );
    let message = openssl.read("out");
    let strict = CmsPolicy::strict(ID_DATA);
    let signed_data = SignedData::parse(&message).unwrap();
    assert_eq!(signed_data.signer_count(), 2);
    assert_eq!(
        signed_data.verify(&strict, &[]).unwrap_err().code(),
        "cms.several-signers"
    );
    let mut signers: Vec<Certificate> = signed_data
        .verify_each(&strict, &[])
        .into_iter()
        .map(|result| result.unwrap().certificate().clone())
        .collect();
    signers.sort_by_key(Certificate::subject);
    assert_eq!(signers, [one, two]);

    // With a broken signature, one of them is left.
    let mut broken = message;
    *broken.last_mut().unwrap() ^= 1;
    let signed_data = SignedData::parse(&broken).unwrap();
    let all = CmsPolicy {
        several_signers: SeveralSigners::All,
        ..strict.clone()
    };
    assert_eq!(
        signed_data.verify(&all, &[]).unwrap_err().code(),
        "cms.signature-invalid"
    );
    let any = CmsPolicy {
        several_signers: SeveralSigners::Any,
        ..strict
    };
    let verified = signed_data.verify(&any, &[]).unwrap();
    assert!(verified.oddities().contains(&Oddity::SeveralSigners(2)));
}

/// Requirements: VOUCHER-5-01, VOUCHER-5.4-01, CMS-5.1-01, CMS-5.4-01
#[test]
fn we_sign_and_openssl_verifies() {
    let openssl = OpenSsl::new();
    // OpenSSL 3.0 has no Ed25519 with signedAttrs in CMS, in neither direction.
    let kinds = [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::EcdsaP521,
        KeyKind::Rsa2048,
    ];
    for kind in kinds {
        let identity = identity(kind);
        openssl.write("ca.crt", identity.chain[0].to_pem());
        for by_subject_key_id in [false, true] {
            let options = SignOptions {
                signing_time: Some(datetime!(2026-11-23 12:00:00 UTC)),
                by_subject_key_id,
                ..SignOptions::default()
            };
            let message = cms::sign(JSON, ID_CT_ANIMA_JSON_VOUCHER, &identity, &options).unwrap();
            openssl.write("message", &message);
            let command = "cms -verify -in message -inform DER -CAfile ca.crt -purpose any \
                           -binary -out content";
            openssl.run(command);
            assert_eq!(openssl.read("content"), JSON);
            // What OpenSSL reads and writes again is what we wrote: it is DER.
            openssl.run("cms -cmsout -in message -inform DER -outform DER -out again");
            assert_eq!(openssl.read("again"), message);
        }
    }
}

#[test]
fn we_sign_rsassa_pss_and_openssl_verifies() {
    let openssl = OpenSsl::new();
    let key = SoftwareKey::generate(KeyKind::Rsa2048).unwrap();
    let key = key
        .with_algorithm(SignatureAlgorithm::RsaPssSha384)
        .unwrap();
    let identity = crate::support::identity_of(key);
    openssl.write("ca.crt", identity.chain[0].to_pem());
    let message = cms::sign(JSON, ID_DATA, &identity, &SignOptions::default()).unwrap();
    openssl.write("message", &message);
    openssl.run(
        "cms -verify -in message -inform DER -CAfile ca.crt -purpose any -binary -out content",
    );
    assert_eq!(openssl.read("content"), JSON);
}

/// Requirements: EST-4.1.3-01
#[test]
fn certificate_bags_both_ways() {
    let openssl = OpenSsl::new();
    let mut certificates: Vec<Certificate> = (0..3)
        .map(|_| identity(KeyKind::EcdsaP256).chain.remove(0))
        .collect();
    let pem: String = certificates.iter().map(Certificate::to_pem).collect();
    openssl.write("in.pem", pem);
    let sorted = |mut certificates: Vec<Certificate>| {
        certificates.sort_by(|a, b| a.der().cmp(b.der()));
        certificates
    };
    certificates = sorted(certificates);

    openssl.run("crl2pkcs7 -nocrl -certfile in.pem -outform DER -out bag");
    let read = pkcs7::parse_certs_only(&openssl.read("bag")).unwrap();
    assert_eq!(sorted(read), certificates);
    openssl.run("crl2pkcs7 -nocrl -certfile in.pem -outform PEM -out bag.pem");
    let read = pkcs7::parse_certs_only(&openssl.read("bag.pem")).unwrap();
    assert_eq!(sorted(read), certificates);

    let ours = pkcs7::certs_only(&certificates).unwrap();
    assert_eq!(
        sorted(pkcs7::parse_certs_only(&ours).unwrap()),
        certificates
    );
    openssl.write("ours", &ours);
    let printed = openssl.run("pkcs7 -in ours -inform DER -print_certs");
    assert_eq!(printed.matches("BEGIN CERTIFICATE").count(), 3);
}

/// A certificate of another key under the signer's issuer and serial number, put into the set by
/// somebody on the way, neither passes for the signer nor hides it.
#[test]
fn namesakes_in_the_set() {
    let signer_key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let namesake_key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let issuer_key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let signer = issue(&Template::default(), &signer_key, &issuer_key);
    let namesake = issue(&Template::default(), &namesake_key, &issuer_key);
    let strict = CmsPolicy::strict(ID_DATA);

    let options = SignOptions {
        extra_certs: vec![namesake.clone()],
        ..SignOptions::default()
    };
    let identity = Identity::new(vec![signer.clone()], Arc::new(signer_key)).unwrap();
    let message = cms::sign(JSON, ID_DATA, &identity, &options).unwrap();
    let verified = SignedData::parse(&message)
        .unwrap()
        .verify(&strict, &[])
        .unwrap();
    assert_eq!(verified.certificate(), &signer);
    assert_eq!(verified.candidates(), std::slice::from_ref(&namesake));

    let alone = SignOptions {
        include_certs: pki::IncludeCertificates::None,
        extra_certs: vec![namesake],
        ..SignOptions::default()
    };
    let message = cms::sign(JSON, ID_DATA, &identity, &alone).unwrap();
    let signed_data = SignedData::parse(&message).unwrap();
    assert_eq!(
        signed_data.verify(&strict, &[]).unwrap_err().code(),
        "cms.signature-invalid"
    );
    assert_eq!(
        signed_data
            .verify(&strict, std::slice::from_ref(&signer))
            .unwrap()
            .certificate(),
        &signer
    );
}
