//! The published examples: their signatures verify, and what is odd about them is seen.

use pki::cms::{CmsPolicy, ID_CT_ANIMA_JSON_VOUCHER, ID_DATA, SignedData};
use pki::jws::{Jws, JwsPolicy, TYPE_VOUCHER};
use pki::{Coded as _, Csr, Oddity, SeveralSigners, Signer as _, SoftwareKey, pkcs7};

use crate::support::{certificate, data, text};

/// Requirements: VOUCHER-7.1-01
#[test]
fn cms_vouchers_and_requests() {
    let vendor = certificate("published/rfc8995/vendor.crt");
    let owner = certificate("published/rfc8995/ownerca_secp384r1.crt");
    let cases = [
        (
            "published/rfc8995/vr_00-D0-E5-F2-00-02.der",
            &vendor,
            "2021-04-13 21:43:23",
        ),
        (
            "published/rfc8995/parboiled_vr_00-D0-E5-F2-00-02.der",
            &owner,
            "2021-04-13 21:43:23",
        ),
        (
            "published/rfc8995/voucher_00-D0-E5-F2-00-02.der",
            &vendor,
            "2021-04-13 21:43:24",
        ),
        ("published/rfc8366bis/A2-pvr.der", &vendor, ""),
        ("published/rfc8366bis/A3-voucher.der", &vendor, ""),
    ];
    for (file, issuer, time) in cases {
        let signed_data = SignedData::parse(&data(file)).unwrap();
        assert_eq!(signed_data.content_type(), ID_DATA, "{file}");

        // Strictly, the voucher's own content type is demanded.
        let strict = CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER);
        let refused = signed_data.verify(&strict, &[]).unwrap_err();
        assert_eq!(refused.code(), "cms.content-type", "{file}");

        let lenient = CmsPolicy {
            allow_id_data: true,
            ..strict
        };
        let signer = signed_data.verify(&lenient, &[]).unwrap();
        signer
            .certificate()
            .verify_signature_by(issuer.public_key())
            .unwrap();
        assert_eq!(signer.oddities(), [Oddity::IdData], "{file}");
        let signing_time = signer.signing_time().unwrap().to_string();
        assert!(signing_time.starts_with(time), "{file}: {signing_time}");

        let content: serde_json::Value =
            serde_json::from_slice(signed_data.content().unwrap()).unwrap();
        assert!(content.is_object(), "{file}");
    }
}

#[test]
fn certificates_and_keys_of_rfc_8995() {
    for name in [
        "vendor",
        "masa",
        "ownerca_secp384r1",
        "jrc_prime256v1",
        "idevid_00-D0-E5-F2-00-02",
    ] {
        let certificate = certificate(&format!("published/rfc8995/{name}.crt"));
        let key =
            SoftwareKey::from_pem(&text(&format!("published/rfc8995/{name}.key")), None).unwrap();
        assert_eq!(key.public_key(), certificate.public_key(), "{name}");
    }
    let vendor = certificate("published/rfc8995/vendor.crt");
    let idevid = certificate("published/rfc8995/idevid_00-D0-E5-F2-00-02.crt");
    idevid.verify_signature_by(vendor.public_key()).unwrap();
    assert_eq!(
        idevid.masa_url().as_deref(),
        Some("highway-test.example.com:9443")
    );
    assert_eq!(
        idevid.subject_serial_number().as_deref(),
        Some("00-D0-E5-F2-00-02")
    );
    assert_eq!(idevid.authority_key_id(), None);
    assert_eq!(idevid.not_after().year(), 2999);
    let registrar = certificate("published/rfc8995/jrc_prime256v1.crt");
    assert!(registrar.has_cmc_ra());
    assert!(!registrar.is_ca());
    let owner = certificate("published/rfc8995/ownerca_secp384r1.crt");
    assert!(owner.is_ca());
    let key_id = hex::encode(owner.subject_key_id().unwrap());
    assert!(key_id.starts_with("b9a5f6cb"), "{key_id}");

    // The "CA that created the IDevID" that rfc8366bis prints did not.
    let printed = certificate("published/rfc8366bis/idevid-ca-rsa.crt");
    let idevid = certificate("published/rfc8366bis/idevid.crt");
    assert_eq!(
        idevid
            .verify_signature_by(printed.public_key())
            .unwrap_err()
            .code(),
        "pki.algorithm-key-mismatch"
    );
    idevid.verify_signature_by(vendor.public_key()).unwrap();
}

/// Requirements: JWS-3-01, JWS-3-02, JWS-3-03, JWS-3.3-01
#[test]
fn jws_vouchers_and_requests() {
    let strict = JwsPolicy::strict(TYPE_VOUCHER);
    let cases: [(&str, &[Oddity]); 7] = [
        ("jws-voucher/8.1-pvr.jws.json", &[]),
        ("jws-voucher/8.2-rvr.jws.json", &[]),
        ("jws-voucher/8.3-voucher.jws.json", &[]),
        ("rfc8366bis/A4-voucher.jws.json", &[]),
        ("brski-prm/A1-pvr.jws.json", &[]),
        ("brski-prm/A2-rvr.jws.json", &[]),
        ("brski-prm/A3-voucher.jws.json", &[Oddity::NoType]),
    ];
    for (file, odd) in cases {
        let jws = Jws::parse(&data(&format!("published/{file}"))).unwrap();
        let signer = jws
            .verify(&strict, &[])
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(signer.oddities(), odd, "{file}");
        assert_eq!(signer.certificate(), &jws.certificates(0)[0], "{file}");
        assert!(
            serde_json::from_slice::<serde_json::Value>(jws.payload()).is_ok(),
            "{file}"
        );
    }

    // The voucher that the registrar has signed as well.
    let jws = Jws::parse(&data(
        "published/brski-prm/A4-voucher-countersigned.jws.json",
    ))
    .unwrap();
    assert_eq!(jws.signer_count(), 2);
    assert_eq!(
        jws.verify(&strict, &[]).unwrap_err().code(),
        "jws.several-signers"
    );
    let each = jws.verify_each(&strict, &[]);
    assert!(each.iter().all(Result::is_ok));
    let all = JwsPolicy {
        several_signers: SeveralSigners::All,
        ..strict
    };
    let signer = jws.verify(&all, &[]).unwrap();
    assert!(signer.oddities().contains(&Oddity::SeveralSigners(2)));
}

#[test]
fn keys_of_the_jws_draft() {
    for name in ["8.1-pvr", "8.2-rvr", "8.3-voucher"] {
        let key = text(&format!("published/jws-voucher/{name}-0.key"));
        let key = SoftwareKey::from_pem(&key, None).unwrap();
        let jws = Jws::parse(&data(&format!("published/jws-voucher/{name}.jws.json"))).unwrap();
        assert_eq!(
            key.public_key(),
            jws.certificates(0)[0].public_key(),
            "{name}"
        );
    }
}

#[test]
fn est_messages_of_rfc_7030() {
    let bag = pkcs7::parse_certs_only(&data("published/rfc7030/A1-cacerts-response.der")).unwrap();
    assert_eq!(bag.len(), 4);
    // OldWithOld, NewWithOld, OldWithNew, NewWithNew: two self-signed roots, RSA with SHA-1.
    let roots: Vec<_> = bag.iter().filter(|root| root.is_self_issued()).collect();
    assert!(!roots.is_empty());
    let verified = bag
        .iter()
        .filter(|one| {
            bag.iter()
                .any(|ca| one.verify_signature_by_legacy(ca.public_key()).is_ok())
        })
        .count();
    assert_eq!(verified, 4);
    assert!(bag.iter().all(|one| {
        bag.iter()
            .all(|ca| one.verify_signature_by(ca.public_key()).is_err())
    }));

    for name in ["A3-simpleenroll-response", "A4-serverkeygen-cert"] {
        let issued =
            pkcs7::parse_certs_only(&data(&format!("published/rfc7030/{name}.der"))).unwrap();
        assert_eq!(issued.len(), 1, "{name}");
    }
    for name in ["A3-simpleenroll-csr", "A4-serverkeygen-csr"] {
        let csr = Csr::from_der(&data(&format!("published/rfc7030/{name}.der"))).unwrap();
        assert_eq!(
            csr.verify().unwrap_err().code(),
            "pki.algorithm-legacy",
            "{name}"
        );
        csr.verify_legacy()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    SoftwareKey::from_pkcs8_der(&data("published/rfc7030/A4-serverkeygen-pkcs8.der")).unwrap();
}

#[test]
fn ml_dsa_certificates_and_keys_of_rfc_9881() {
    for size in ["44", "65", "87"] {
        let certificate = certificate(&format!("published/rfc9881/ML-DSA-{size}.crt"));
        certificate
            .verify_signature_by(certificate.public_key())
            .unwrap();
        for form in ["seed", "both", "expanded"] {
            let pem = text(&format!("published/rfc9881/ML-DSA-{size}-{form}.priv"));
            let key = SoftwareKey::from_pem(&pem, None).unwrap_or_else(|error| {
                panic!("{size} {form}: {error}");
            });
            assert_eq!(key.public_key(), certificate.public_key(), "{size} {form}");
            let signature = key.sign(b"message").unwrap();
            certificate
                .public_key()
                .verify(key.algorithm(), b"message", &signature)
                .unwrap();
        }
    }
    // Seed and expanded key do not belong together.
    for number in 1..=3 {
        let pem = text(&format!("published/rfc9881/bad-ML-DSA-44-{number}.priv"));
        let refused = SoftwareKey::from_pem(&pem, None).unwrap_err();
        assert_eq!(refused.code(), "pki.key-rejected", "{number}");
    }
}

#[test]
fn ml_dsa_messages_of_rfc_9882() {
    for size in ["44", "65", "87"] {
        let pem = text(&format!("published/rfc9882/mldsa{size}-signed-attrs.pem"));
        let body: String = pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let message = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, body).unwrap();
        let signed_data = SignedData::parse(&message).unwrap();
        let certificate = certificate(&format!("published/rfc9881/ML-DSA-{size}.crt"));
        let signer = signed_data
            .verify(
                &CmsPolicy::strict(ID_DATA),
                std::slice::from_ref(&certificate),
            )
            .unwrap_or_else(|error| panic!("{size}: {error}"));
        assert_eq!(signer.certificate(), &certificate, "{size}");
    }
}
