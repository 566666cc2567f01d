//! Certification requests.

use std::str::FromStr as _;

use pki::csr::CsrAttribute;
use pki::{Coded as _, Csr, CsrBuilder, KeyKind, ObjectIdentifier, Signer as _, SoftwareKey};
use x509_cert::name::Name;

use crate::support::{OpenSsl, element};

/// Requirements: EST-4.2.1-03, EST-3.5-01
#[test]
fn we_build_and_openssl_reads() {
    let openssl = OpenSsl::new();
    for kind in [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::Rsa2048,
        KeyKind::Ed25519,
    ] {
        let key = SoftwareKey::generate(kind).unwrap();
        let csr = CsrBuilder::new(Name::from_str("CN=device,O=Example").unwrap())
            .challenge_password("YWJjZA==")
            .dns_names(&["device.example"])
            .unwrap()
            .attribute(CsrAttribute {
                id: ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.7"),
                values: vec![vec![0x05, 0x00]],
            })
            .sign(&key)
            .unwrap();
        openssl.write("csr", csr.to_pem());
        let shown = openssl.run("req -in csr -verify -text -noout");
        for expected in ["OK", "CN = device", "YWJjZA==", "DNS:device.example"] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        let again = Csr::from_pem(&csr.to_pem()).unwrap();
        assert_eq!(again, csr);
        assert_eq!(
            again.challenge_password().unwrap().as_deref(),
            Some("YWJjZA==")
        );
        assert_eq!(again.dns_names().unwrap(), ["device.example"]);
        assert_eq!(again.attributes().len(), 3);
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(again.subject(), "CN=device,O=Example");
    }
}

#[test]
fn openssl_builds_and_we_read() {
    let openssl = OpenSsl::new();
    openssl.write(
        "config",
        "[req]\ndistinguished_name=dn\nattributes=attr\nreq_extensions=ext\nprompt=no\n\
         [dn]\nCN=device\nserialNumber=SN-7\n[attr]\nchallengePassword=secret word\n\
         [ext]\nsubjectAltName=DNS:a.example,DNS:b.example\nkeyUsage=digitalSignature\n",
    );
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384", "ed25519"] {
        openssl.run(&format!(
            "req -new -nodes -newkey {key} -keyout key -out csr -config config"
        ));
        let csr = Csr::from_pem(&String::from_utf8(openssl.read("csr")).unwrap()).unwrap();
        csr.verify().unwrap();
        assert_eq!(
            csr.challenge_password().unwrap().as_deref(),
            Some("secret word")
        );
        assert_eq!(csr.dns_names().unwrap(), ["a.example", "b.example"]);
        assert_eq!(csr.extension_request().unwrap().len(), 2);
        assert_eq!(csr.subject_serial_number().as_deref(), Some("SN-7"));
    }
}

#[test]
fn the_subject_of_a_certificate_is_kept_octet_for_octet() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject = crate::support::certificate("published/rfc8995/idevid_00-D0-E5-F2-00-02.crt")
        .subject_der()
        .to_vec();
    let csr = CsrBuilder::with_subject_der(&subject)
        .unwrap()
        .sign(&key)
        .unwrap();
    assert_eq!(csr.subject_der(), subject);
    assert_eq!(
        csr.subject_serial_number().as_deref(),
        Some("00-D0-E5-F2-00-02")
    );
    assert_eq!(
        CsrBuilder::with_subject_der(b"\x30\x01\x00")
            .unwrap_err()
            .code(),
        "pki.encoding-failed"
    );
}

/// Requirements: EST-4.2.1-02
#[test]
fn broken_requests() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let other = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let csr = CsrBuilder::new(Name::default()).sign(&key).unwrap();
    let code = |der: &[u8]| Csr::from_der(der).unwrap_err().code();
    assert_eq!(code(&[]), "csr.malformed");
    assert_eq!(code(&[csr.der(), &[0]].concat()), "csr.malformed");
    assert_eq!(code(&vec![0x30; 70_000]), "csr.limit-exceeded");

    // Somebody else's key, put into the request of one's own.
    let at = csr
        .der()
        .windows(csr.public_key().spki_der().len())
        .position(|window| window == csr.public_key().spki_der())
        .unwrap();
    let mut swapped = csr.der().to_vec();
    let spki = other.public_key().spki_der();
    swapped[at..at + spki.len()].copy_from_slice(spki);
    let swapped = Csr::from_der(&swapped).unwrap();
    assert_eq!(swapped.public_key(), other.public_key());
    assert_eq!(
        swapped.verify().unwrap_err().code(),
        "csr.proof-of-possession"
    );

    // Two values where one belongs.
    let password = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
    let value = |text: &[u8]| element(0x0c, &[text]);
    let twice = CsrBuilder::new(Name::default())
        .attribute(CsrAttribute {
            id: password,
            values: vec![value(b"a"), value(b"b")],
        })
        .sign(&key)
        .unwrap();
    twice.verify().unwrap();
    assert_eq!(
        twice.challenge_password().unwrap_err().code(),
        "csr.malformed"
    );
    let request = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
    let bad = CsrBuilder::new(Name::default())
        .attribute(CsrAttribute {
            id: request,
            values: vec![vec![0x05, 0x00]],
        })
        .sign(&key)
        .unwrap();
    assert_eq!(bad.extension_request().unwrap_err().code(), "csr.malformed");
    assert_eq!(bad.dns_names().unwrap_err().code(), "csr.malformed");
}
