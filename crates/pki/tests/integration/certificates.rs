//! Certificates and public keys.

use pki::{Certificate, Coded as _, KeyKind, Signer as _, SoftwareKey};
use time::macros::datetime;

use crate::support::{OpenSsl, Template, element, extension, issue, issue_der};

#[test]
fn every_accessor_against_openssl() {
    let openssl = OpenSsl::new();
    openssl.write(
        "config",
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n\
         [dn]\nC=DE\nO=Example, Ltd\nCN=device one\nserialNumber=SN-0001\n\
         [ext]\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n\
         basicConstraints=critical,CA:true\n\
         extendedKeyUsage=serverAuth,clientAuth,1.3.6.1.5.5.7.3.28\n\
         subjectAltName=DNS:one.example,DNS:*.two.example,IP:192.0.2.1,\
         otherName:1.3.6.1.5.5.7.8.4;SEQUENCE:hw\n\
         1.3.6.1.5.5.7.1.32=ASN1:IA5STRING:masa.example.com:9443\n\
         [hw]\ntype=OID:1.3.6.1.4.1.99999.1\nserial=FORMAT:HEX,OCTETSTRING:0102ff\n",
    );
    openssl.run(
        "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout key -out cert.pem \
         -config config -days 100 -set_serial 0x00e1b2c3d4",
    );
    let certificate = Certificate::load(openssl.path("cert.pem")).unwrap();
    let shown =
        openssl.run("x509 -in cert.pem -noout -subject -nameopt RFC2253 -fingerprint -sha256");
    let subject = certificate.subject();
    // OpenSSL writes the attribute type by name, RFC 4514 knows no name for it.
    assert!(subject.contains("CN=device one"), "{subject}");
    assert!(subject.contains(r"O=Example\, Ltd"), "{subject} {shown}");
    assert!(subject.ends_with("C=DE"), "{subject}");
    assert_eq!(certificate.issuer(), subject);
    let fingerprint = hex::encode_upper(certificate.sha256());
    assert!(shown.replace(':', "").contains(&fingerprint), "{shown}");
    assert_eq!(certificate.serial_number(), [0, 0xe1, 0xb2, 0xc3, 0xd4]);
    assert_eq!(
        certificate.subject_serial_number().as_deref(),
        Some("SN-0001")
    );
    let key_id = certificate.public_key().sha1_key_id().to_vec();
    assert_eq!(certificate.subject_key_id(), Some(key_id.clone()));
    assert_eq!(certificate.authority_key_id(), Some(key_id.clone()));
    let extension = element(0x30, &[&element(0x80, &[&key_id])]);
    assert_eq!(certificate.authority_key_id_extension(), Some(extension));
    assert!(certificate.is_ca() && certificate.has_cmc_ra() && certificate.is_self_issued());
    assert_eq!(certificate.extended_key_usages().len(), 3);
    assert_eq!(certificate.dns_names(), ["one.example", "*.two.example"]);
    assert_eq!(
        certificate.masa_url().as_deref(),
        Some("masa.example.com:9443")
    );
    let module = certificate.hardware_module_name().unwrap();
    assert_eq!(module.hardware_type.to_string(), "1.3.6.1.4.1.99999.1");
    assert_eq!(module.serial_number, [1, 2, 0xff]);
    certificate
        .verify_signature_by(certificate.public_key())
        .unwrap();
    let days = (certificate.not_after() - certificate.not_before()).whole_days();
    assert_eq!(days, 100);

    assert_eq!(
        Certificate::from_pem(&certificate.to_pem()).unwrap(),
        certificate
    );
    openssl.write("cert.der", certificate.der());
    assert_eq!(
        Certificate::load(openssl.path("cert.der")).unwrap(),
        certificate
    );
    openssl.write("text.pem", openssl.run("x509 -in cert.pem -text").repeat(3));
    assert_eq!(
        Certificate::load_all(openssl.path("text.pem"))
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        Certificate::load(openssl.path("absent"))
            .unwrap_err()
            .code(),
        "pki.file-unreadable"
    );
}

/// Requirements: BRSKI-2.6.1-02
#[test]
fn validity_at_the_ends_of_time() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let template = Template {
        not_before: "500101120100Z",
        not_after: "99991231235959Z",
        ..Template::default()
    };
    let certificate = issue(&template, &key, &key);
    assert_eq!(certificate.not_before(), datetime!(1950-01-01 12:01:00 UTC));
    assert_eq!(certificate.not_after(), datetime!(9999-12-31 23:59:59 UTC));
    // The signature is over what was received, not over what the decoder can hold.
    certificate.verify_signature_by(key.public_key()).unwrap();
}

#[test]
fn ambiguous_serial_numbers_are_none() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let serial = |subject: &str| {
        issue(
            &Template {
                subject,
                ..Template::default()
            },
            &key,
            &key,
        )
        .subject_serial_number()
    };
    assert_eq!(serial("2.5.4.5=#13024131").as_deref(), Some("A1"));
    assert_eq!(serial("2.5.4.5=#0c024131,CN=x").as_deref(), Some("A1"));
    assert_eq!(
        serial("2.5.4.5=#13024131,2.5.4.5=#13024131").as_deref(),
        Some("A1")
    );
    assert_eq!(serial("2.5.4.5=#13024131,2.5.4.5=#13024132"), None);
    assert_eq!(serial("CN=A1"), None);
}

#[test]
fn broken_certificates() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let good = issue(&Template::default(), &key, &key);
    let code = |der: &[u8]| Certificate::from_der(der).unwrap_err().code();
    assert_eq!(code(&[]), "pki.certificate-malformed");
    assert_eq!(
        code(&[good.der(), &[0]].concat()),
        "pki.certificate-malformed"
    );
    assert_eq!(
        code(&good.der()[..good.der().len() - 1]),
        "pki.certificate-malformed"
    );
    assert_eq!(code(&vec![0x30; 70_000]), "pki.limit-exceeded");

    let mut flipped = good.der().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let flipped = Certificate::from_der(&flipped).unwrap();
    let refused = flipped.verify_signature_by(key.public_key()).unwrap_err();
    assert_eq!(refused.code(), "pki.signature-invalid");

    // signatureAlgorithm differs from the signed one.
    let identifier = key.algorithm().identifier();
    let mut differs = good.der().to_vec();
    let at = (0..differs.len() - identifier.len())
        .rev()
        .find(|at| differs[*at..].starts_with(&identifier))
        .unwrap();
    differs[at + identifier.len() - 1] = 3;
    let differs = Certificate::from_der(&differs).unwrap();
    let refused = differs.verify_signature_by(key.public_key()).unwrap_err();
    assert_eq!(refused.code(), "pki.certificate-malformed");
}

#[test]
fn an_extension_twice_is_malformed() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let template = |copies: usize| Template {
        extensions: vec![extension("2.5.29.17", &element(0x30, &[b"\x82\x01a"])); copies],
        ..Template::default()
    };
    let once = issue(&template(1), &key, &key);
    assert_eq!(once.dns_names(), ["a"]);
    let twice = Certificate::from_der(&issue_der(&template(2), &key, &key)).unwrap_err();
    assert_eq!(twice.code(), "pki.certificate-malformed");
}

#[test]
fn pem_with_header_lines() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let certificate = issue(&Template::default(), &key, &key);
    let begin = "-----BEGIN CERTIFICATE-----\n";
    for end in ["\n", "\r\n"] {
        let headers = format!("{begin}X-One: a{end} folded{end}X-Two: b{end}{end}");
        let with_headers = certificate.to_pem().replace(begin, &headers);
        assert_eq!(Certificate::from_pem(&with_headers).unwrap(), certificate);
    }
    let encrypted = format!("{begin}Proc-Type: 4,ENCRYPTED\n\n");
    let encrypted = certificate.to_pem().replace(begin, &encrypted);
    assert_eq!(
        Certificate::from_pem(&encrypted).unwrap_err().code(),
        "pki.pem-malformed"
    );
}

#[test]
fn pem_that_is_none() {
    for text in [
        "",
        "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN X-----\nAAAA\n-----END X-----\n",
    ] {
        assert_eq!(
            Certificate::from_pem(text).unwrap_err().code(),
            "pki.pem-malformed",
            "{text}"
        );
    }
}
