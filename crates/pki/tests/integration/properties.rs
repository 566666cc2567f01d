//! No parser panics, whatever it is given; what was written is read back.

use std::sync::OnceLock;

use pki::cms::{self, CmsPolicy, EnvelopOptions, EnvelopedData, ID_DATA, SignedData};
use pki::jws::{self, Jws, JwsPolicy};
use pki::{Certificate, Crl, Csr, Identity, KeyKind, PublicKey, SignOptions, SoftwareKey, pkcs7};
use proptest::prelude::*;

use crate::support::{Template, data, identity, issue};

fn signer() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| identity(KeyKind::EcdsaP256))
}

fn recipient() -> &'static SoftwareKey {
    static KEY: OnceLock<SoftwareKey> = OnceLock::new();
    KEY.get_or_init(|| SoftwareKey::generate(KeyKind::EcdsaP256).unwrap())
}

fn enveloped(content: &[u8]) -> Vec<u8> {
    let certificate = issue(&Template::default(), recipient(), recipient());
    cms::envelop(content, ID_DATA, &[certificate], &EnvelopOptions::default()).unwrap()
}

/// Everything that reads what a peer sent.
fn read_all(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(certificate) = Certificate::from_der(bytes) {
        let _ = certificate.verify_signature_by(certificate.public_key());
        let _ = certificate.verify_signature_by_legacy(certificate.public_key());
        let _ = (certificate.subject(), certificate.subject_serial_number());
        let _ = (certificate.masa_url(), certificate.hardware_module_name());
        let _ = (certificate.extended_key_usages(), certificate.dns_names());
        let _ = (certificate.subject_key_id(), certificate.authority_key_id());
        let _ = (certificate.is_ca(), certificate.to_pem());
    }
    let _ = Certificate::from_pem(&text);
    let _ = Certificate::all_from_pem(&text);
    let _ = PublicKey::from_spki_der(bytes);
    let _ = SoftwareKey::from_pkcs8_der(bytes);
    let _ = SoftwareKey::from_pem(&text, Some("x"));
    if let Ok(csr) = Csr::from_der(bytes) {
        let _ = (
            csr.verify(),
            csr.challenge_password(),
            csr.extension_request(),
        );
        let _ = (csr.dns_names(), csr.subject(), csr.subject_serial_number());
    }
    let _ = Csr::from_pem(&text);
    if let Ok(crl) = Crl::from_der(bytes) {
        let _ = (
            crl.issuer(),
            crl.this_update(),
            crl.next_update(),
            crl.revocation(&[1]),
        );
    }
    let _ = Crl::from_pem(&text);
    let _ = pkcs7::parse_certs_only(bytes);
    if let Ok(signed_data) = SignedData::parse(bytes) {
        let _ = signed_data.verify(&CmsPolicy::tolerant(None), &signer().chain);
        let _ = signed_data.verify(&CmsPolicy::strict(ID_DATA), &[]);
    }
    if let Ok(enveloped) = EnvelopedData::parse(bytes) {
        let _ = enveloped.describe();
        let _ = enveloped.decrypt(recipient(), None);
    }
    let _ = cms::content_type_of(bytes);
    let _ = cms::parse_plain(bytes, |_| true);
    if let Ok(jws) = Jws::parse(bytes) {
        let _ = jws.verify(&JwsPolicy::tolerant(None), &signer().chain);
        let _ = jws.verify(&JwsPolicy::strict("x"), &[]);
    }
}

/// Good documents of each kind, to be damaged.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let options = SignOptions::default();
        let csr = pki::CsrBuilder::default()
            .challenge_password("x")
            .dns_names(&["a.example"])
            .unwrap()
            .sign(signer().signer.as_ref())
            .unwrap();
        vec![
            data("published/rfc8995/voucher_00-D0-E5-F2-00-02.der"),
            data("published/rfc8995/idevid_00-D0-E5-F2-00-02.crt"),
            data("published/rfc8366bis/A2-pvr.der"),
            data("published/rfc7030/A1-cacerts-response.der"),
            data("published/jws-voucher/8.3-voucher.jws.json"),
            signer().chain[0].der().to_vec(),
            csr.der().to_vec(),
            cms::sign(b"{}", ID_DATA, signer(), &options).unwrap(),
            jws::sign(b"{}", None, signer(), &options).unwrap(),
            enveloped(b"{}"),
        ]
    })
}

/// Requirements: BRSKI-5.1-11
mod parsers {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn take_arbitrary_octets(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            read_all(&bytes);
        }

        #[test]
        fn take_asn1_like_octets(
            bytes in prop::collection::vec(
                prop_oneof![
                    Just(0x30_u8), Just(0x31), Just(0xa0), Just(0x80), Just(0x00), Just(0x02),
                    Just(0x03), Just(0x04), Just(0x06), Just(0x24), Just(0x82), 0_u8..16
                ],
                0..512,
            )
        ) {
            read_all(&bytes);
        }

        #[test]
        fn take_damaged_documents(
            sample in 0_usize..10,
            damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = samples()[sample].clone();
            for (at, value) in damages {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            read_all(&bytes);
        }

        #[test]
        fn take_arbitrary_text(text in "\\PC{0,300}") {
            read_all(text.as_bytes());
        }
    }
}

/// Requirements: CMS-5.4-01, JWS-3.3-01
mod round_trips {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cms_content(content in prop::collection::vec(any::<u8>(), 0..5000)) {
            let message = cms::sign(&content, ID_DATA, signer(), &SignOptions::default()).unwrap();
            let signed_data = SignedData::parse(&message).unwrap();
            prop_assert_eq!(signed_data.content(), Some(content.as_slice()));
            prop_assert!(signed_data.verify(&CmsPolicy::strict(ID_DATA), &[]).is_ok());
        }

        #[test]
        fn enveloped_content(content in prop::collection::vec(any::<u8>(), 0..5000)) {
            let parsed = EnvelopedData::parse(&enveloped(&content)).unwrap();
            prop_assert_eq!(&*parsed.decrypt(recipient(), None).unwrap(), &content);
        }

        #[test]
        fn jws_payload(payload in prop::collection::vec(any::<u8>(), 0..5000)) {
            let message = jws::sign(&payload, None, signer(), &SignOptions::default()).unwrap();
            let jws = Jws::parse(&message).unwrap();
            prop_assert_eq!(jws.payload(), payload.as_slice());
            prop_assert!(jws.verify(&JwsPolicy::default(), &[]).is_ok());
        }

        #[test]
        fn challenge_passwords(password in "\\PC{0,64}") {
            let csr = pki::CsrBuilder::default()
                .challenge_password(password.clone())
                .sign(signer().signer.as_ref())
                .unwrap();
            prop_assert_eq!(csr.challenge_password().unwrap(), Some(password));
            prop_assert!(csr.verify().is_ok());
        }
    }
}
