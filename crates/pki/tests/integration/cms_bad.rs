//! Broken CMS messages: each fails, and for the right reason.

use der::Encode as _;
use pki::cms::{self, CmsPolicy, ID_CT_ANIMA_JSON_VOUCHER, ID_DATA, SignedData};
use pki::{
    Coded as _, DigestAlgorithm, Error, Identity, KeyKind, ObjectIdentifier, Oddity, SignOptions,
    SignatureAlgorithm, SoftwareKey, VerifiedSigner, limits,
};
use time::macros::datetime;

use crate::support::{element, identity, identity_of};

const CONTENT: &[u8] = br#"{"ietf-voucher:voucher":{"serial-number":"X"}}"#;
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";

fn oid(id: &str) -> Vec<u8> {
    ObjectIdentifier::new_unwrap(id).to_der().unwrap()
}

fn verify(message: &[u8], policy: &CmsPolicy) -> Result<VerifiedSigner, Error> {
    SignedData::parse(message)?.verify(policy, &[])
}

fn code(message: &[u8], policy: &CmsPolicy) -> &'static str {
    match verify(message, policy) {
        Ok(signer) => panic!("accepted: {signer:?}"),
        Err(error) => error.code(),
    }
}

fn strict() -> CmsPolicy {
    CmsPolicy::strict(ID_CT_ANIMA_JSON_VOUCHER)
}

/// The position of `needle`, counted from the end if it is there several times.
fn find_last(haystack: &[u8], needle: &[u8]) -> usize {
    (0..=haystack.len() - needle.len())
        .rev()
        .find(|at| haystack[*at..].starts_with(needle))
        .expect("it is in the message")
}

/// Requirements: CMS-5.6-01, CMS-5.6-02, VOUCHER-5.4-03, BRSKI-5.2-13, BRSKI-5.5.3-01
#[test]
fn a_flipped_bit_in_each_part() {
    let identity = identity(KeyKind::EcdsaP256);
    let options = SignOptions {
        signing_time: Some(datetime!(2026-11-23 12:00:00 UTC)),
        ..SignOptions::default()
    };
    let message = cms::sign(CONTENT, ID_CT_ANIMA_JSON_VOUCHER, &identity, &options).unwrap();
    verify(&message, &strict()).unwrap();
    let certificate = &identity.chain[0];
    let econtent_type = oid("1.2.840.113549.1.9.16.1.40");
    let parts: [(&str, usize, &str); 12] = [
        (
            "content type of the ContentInfo",
            find_last(&message, &oid("1.2.840.113549.1.7.2")) + 10,
            "cms.not-signed-data",
        ),
        (
            "content",
            find_last(&message, CONTENT) + 3,
            "cms.digest-mismatch",
        ),
        (
            "eContentType",
            find_last(&message, CONTENT) - 5,
            "cms.content-type",
        ),
        (
            "contentType attribute",
            find_last(&message, &econtent_type) + 12,
            "cms.content-type-attribute",
        ),
        (
            "messageDigest attribute",
            find_last(&message, &DigestAlgorithm::Sha256.hash(CONTENT)) + 9,
            "cms.digest-mismatch",
        ),
        (
            "signingTime attribute",
            find_last(&message, b"261123120000Z") + 1,
            "cms.signature-invalid",
        ),
        (
            "type of the signingTime attribute",
            find_last(&message, &oid(SIGNING_TIME)) + 10,
            "cms.signed-attributes-invalid",
        ),
        ("signature", message.len() - 1, "cms.signature-invalid"),
        (
            "signature algorithm",
            find_last(&message, &SignatureAlgorithm::EcdsaP256Sha256.identifier()) + 11,
            "cms.algorithm-mismatch",
        ),
        (
            "digest algorithm",
            find_last(&message, &oid("2.16.840.1.101.3.4.2.1")) + 10,
            "cms.digest-mismatch",
        ),
        (
            "serial number of the signer",
            find_last(&message, &[2, 1, 7]) + 2,
            "cms.signer-certificate-missing",
        ),
        (
            "the certificate's key",
            find_last(&message, certificate.public_key().key_bits()) + 20,
            "cms.signature-invalid",
        ),
    ];
    for (part, at, expected) in parts {
        let mut broken = message.clone();
        broken[at] ^= if part == "digest algorithm" { 3 } else { 1 };
        assert_eq!(code(&broken, &strict()), expected, "{part}");
    }
}

/// Whatever single octet is changed: what still passes says the same, signed by the same key.
#[test]
fn every_flipped_octet() {
    let identity = identity(KeyKind::EcdsaP256);
    let options = SignOptions {
        signing_time: Some(datetime!(2026-11-23 12:00:00 UTC)),
        ..SignOptions::default()
    };
    let message = cms::sign(CONTENT, ID_CT_ANIMA_JSON_VOUCHER, &identity, &options).unwrap();
    for policy in [
        strict(),
        CmsPolicy::tolerant(Some(ID_CT_ANIMA_JSON_VOUCHER)),
    ] {
        for at in 0..message.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut broken = message.clone();
                broken[at] ^= change;
                let Ok(signed_data) = SignedData::parse(&broken) else {
                    continue;
                };
                let Ok(signer) = signed_data.verify(&policy, &[]) else {
                    continue;
                };
                assert_eq!(signed_data.content(), Some(CONTENT), "octet {at}");
                assert_eq!(
                    signer.certificate().public_key(),
                    identity.signer.public_key(),
                    "octet {at}"
                );
                assert_eq!(signer.signing_time(), options.signing_time, "octet {at}");
            }
        }
    }
}

/// Builds messages that [`cms::sign`] does not.
struct Forge<'a> {
    identity: &'a Identity,
    content: &'a [u8],
    econtent_type: String,
    digest: DigestAlgorithm,
    digest_identifier: Vec<u8>,
    signature_identifier: Vec<u8>,
    /// Encoded attributes in the order of the message; `None` leaves signedAttrs out.
    attributes: Option<Vec<Vec<u8>>>,
    sort: bool,
    copies_of_signer: usize,
    copies_of_certificate: usize,
}

fn attribute(id: &str, values: &[&[u8]]) -> Vec<u8> {
    element(0x30, &[&oid(id), &element(0x31, values)])
}

impl<'a> Forge<'a> {
    fn new(identity: &'a Identity) -> Self {
        let algorithm = identity.signer.algorithm();
        let digest = algorithm.digest().unwrap_or(DigestAlgorithm::Sha512);
        let mut forge = Self {
            identity,
            content: CONTENT,
            econtent_type: ID_CT_ANIMA_JSON_VOUCHER.to_string(),
            digest,
            digest_identifier: Vec::new(),
            signature_identifier: algorithm.identifier(),
            attributes: None,
            sort: true,
            copies_of_signer: 1,
            copies_of_certificate: 1,
        };
        forge.set_digest(digest);
        forge
    }

    fn set_digest(&mut self, digest: DigestAlgorithm) {
        let last = match digest {
            DigestAlgorithm::Sha384 => 2,
            DigestAlgorithm::Sha512 => 3,
            _ => 1,
        };
        self.digest = digest;
        self.digest_identifier = element(0x30, &[&oid(&format!("2.16.840.1.101.3.4.2.{last}"))]);
        self.attributes = Some(vec![self.content_type(), self.message_digest()]);
    }

    fn content_type(&self) -> Vec<u8> {
        attribute(CONTENT_TYPE, &[&oid(&self.econtent_type)])
    }

    fn message_digest(&self) -> Vec<u8> {
        attribute(
            MESSAGE_DIGEST,
            &[&element(4, &[&self.digest.hash(self.content)])],
        )
    }

    fn build(&self) -> Vec<u8> {
        let (signed_attributes, signature) = match &self.attributes {
            Some(attributes) => {
                let mut attributes = attributes.clone();
                if self.sort {
                    attributes.sort();
                }
                let parts: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
                let signature = self.identity.signer.sign(&element(0x31, &parts)).unwrap();
                (element(0xa0, &parts), signature)
            }
            None => (Vec::new(), self.identity.signer.sign(self.content).unwrap()),
        };
        let certificate = &self.identity.chain[0];
        let serial = element(2, &[certificate.serial_number()]);
        let signer = element(
            0x30,
            &[
                &[2, 1, 1],
                &element(0x30, &[certificate.issuer_der(), &serial]),
                &self.digest_identifier,
                &signed_attributes,
                &self.signature_identifier,
                &element(4, &[&signature]),
            ],
        );
        let version = if self.econtent_type == ID_DATA.to_string() {
            1
        } else {
            3
        };
        let certificates = vec![certificate.der(); self.copies_of_certificate];
        let signers = vec![signer.as_slice(); self.copies_of_signer];
        let content = element(0xa0, &[&element(4, &[self.content])]);
        let signed_data = element(
            0x30,
            &[
                &[2, 1, version],
                &element(0x31, &[&self.digest_identifier]),
                &element(0x30, &[&oid(&self.econtent_type), &content]),
                &element(0xa0, &certificates),
                &element(0x31, &signers),
            ],
        );
        element(
            0x30,
            &[
                &oid("1.2.840.113549.1.7.2"),
                &element(0xa0, &[&signed_data]),
            ],
        )
    }
}

/// Requirements: CMS-5.3-05, CMS-5.3-03
#[test]
fn signed_attributes() {
    let identity = identity(KeyKind::EcdsaP256);
    let forge = Forge::new(&identity);
    verify(&forge.build(), &strict()).unwrap();
    let content_type = forge.content_type();
    let digest = forge.message_digest();
    let digest_value = element(4, &[&DigestAlgorithm::Sha256.hash(CONTENT)]);
    let time = attribute(SIGNING_TIME, &[b"\x17\x0d261123120000Z"]);
    let generalized = attribute(SIGNING_TIME, &[b"\x18\x0f20261123120000Z"]);
    let no_time = attribute(SIGNING_TIME, &[b"\x17\x0d269923120000Z"]);
    let other_type = attribute(CONTENT_TYPE, &[&oid("1.2.840.113549.1.7.1")]);
    let two_digests = attribute(MESSAGE_DIGEST, &[&digest_value, &digest_value]);
    let no_digest = attribute(MESSAGE_DIGEST, &[]);
    let invalid = "cms.signed-attributes-invalid";
    let cases: [(&str, Vec<&Vec<u8>>, &str); 10] = [
        ("no attribute", vec![], invalid),
        ("no messageDigest", vec![&content_type], invalid),
        ("no contentType", vec![&digest], invalid),
        (
            "two messageDigests",
            vec![&content_type, &digest, &digest],
            invalid,
        ),
        (
            "two contentTypes",
            vec![&content_type, &content_type, &digest],
            invalid,
        ),
        ("two values", vec![&content_type, &two_digests], invalid),
        ("no value", vec![&content_type, &no_digest], invalid),
        (
            "two times",
            vec![&content_type, &digest, &time, &time],
            invalid,
        ),
        (
            "no such time",
            vec![&content_type, &digest, &no_time],
            invalid,
        ),
        (
            "another type",
            vec![&other_type, &digest],
            "cms.content-type-attribute",
        ),
    ];
    for (name, attributes, expected) in cases {
        let attributes = Some(attributes.into_iter().cloned().collect());
        let message = Forge {
            attributes,
            ..Forge::new(&identity)
        }
        .build();
        assert_eq!(code(&message, &strict()), expected, "{name}");
        let tolerant = CmsPolicy::tolerant(Some(ID_CT_ANIMA_JSON_VOUCHER));
        assert_eq!(code(&message, &tolerant), expected, "{name}, tolerantly");
    }

    let attributes = Some(vec![content_type, digest, generalized]);
    let message = Forge {
        attributes,
        ..Forge::new(&identity)
    }
    .build();
    let signer = verify(&message, &strict()).unwrap();
    assert_eq!(
        signer.signing_time(),
        Some(datetime!(2026-11-23 12:00:00 UTC))
    );
    assert_eq!(signer.oddities(), [Oddity::SigningTimeForm]);
}

/// Requirements: CMS-5.3-04
#[test]
fn signed_attributes_in_another_order() {
    let identity = identity(KeyKind::EcdsaP256);
    let mut forge = Forge::new(&identity);
    forge.sort = false;
    forge.attributes = Some(vec![forge.message_digest(), forge.content_type()]);
    let message = forge.build();
    assert_eq!(code(&message, &strict()), "cms.signed-attributes-not-der");
    let lenient = CmsPolicy {
        allow_unsorted_signed_attributes: true,
        ..strict()
    };
    let signer = verify(&message, &lenient).unwrap();
    assert!(signer.oddities().contains(&Oddity::SignedAttributesNotDer));
}

/// Requirements: VOUCHERBIS-7.1-04, CMS-5.6-03
#[test]
fn attributes_passed_off_as_content() {
    let identity = identity(KeyKind::EcdsaP256);
    let lenient = CmsPolicy {
        content_type: Some(ID_DATA),
        allow_missing_signed_attributes: true,
        ..CmsPolicy::default()
    };
    let mut forge = Forge::new(&identity);
    forge.econtent_type = ID_DATA.to_string();
    forge.attributes = None;
    verify(&forge.build(), &lenient).unwrap();

    // The attributes of a genuine message become the content of a forged one; the signature over
    // both is the same.
    let mut attributes = [Forge::new(&identity).content_type(), forge.message_digest()];
    attributes.sort();
    let set = element(0x31, &[&attributes[0], &attributes[1]]);
    forge.content = &set;
    assert_eq!(
        code(&forge.build(), &lenient),
        "cms.signed-attributes-missing"
    );
    assert_eq!(
        code(&forge.build(), &CmsPolicy::strict(ID_DATA)),
        "cms.signed-attributes-missing"
    );
}

#[test]
fn digests_that_do_not_go_with_the_signature() {
    use DigestAlgorithm::{Sha256, Sha384, Sha512};
    let lenient = CmsPolicy {
        allow_algorithm_mismatch: true,
        ..strict()
    };
    let cases = [
        (KeyKind::EcdsaP256, Sha256, true),
        (KeyKind::EcdsaP256, Sha384, false),
        (KeyKind::EcdsaP384, Sha256, false),
        (KeyKind::EcdsaP521, Sha512, true),
        (KeyKind::Rsa2048, Sha512, false),
        // RFC 8419 §3.1.
        (KeyKind::Ed25519, Sha256, false),
        (KeyKind::Ed25519, Sha512, true),
        // RFC 9882 §3.3, table 1.
        (KeyKind::MlDsa44, Sha256, true),
        (KeyKind::MlDsa65, Sha256, false),
        (KeyKind::MlDsa65, Sha384, true),
        (KeyKind::MlDsa87, Sha384, false),
        (KeyKind::MlDsa87, Sha512, true),
    ];
    for (kind, digest, fits) in cases {
        let identity = identity(kind);
        let mut forge = Forge::new(&identity);
        forge.set_digest(digest);
        let message = forge.build();
        if fits {
            let signer = verify(&message, &strict()).unwrap();
            assert!(!signer.oddities().contains(&Oddity::AlgorithmMismatch));
        } else {
            assert_eq!(
                code(&message, &strict()),
                "cms.algorithm-mismatch",
                "{kind:?} {digest}"
            );
            let signer = verify(&message, &lenient).unwrap();
            assert!(signer.oddities().contains(&Oddity::AlgorithmMismatch));
        }
    }
}

#[test]
fn missing_pss_parameters() {
    let key = SoftwareKey::generate(KeyKind::Rsa2048).unwrap();
    let identity = identity_of(
        key.with_algorithm(SignatureAlgorithm::RsaPssSha256)
            .unwrap(),
    );
    let mut forge = Forge::new(&identity);
    forge.signature_identifier = element(0x30, &[&oid("1.2.840.113549.1.1.10")]);
    let message = forge.build();
    assert_eq!(code(&message, &strict()), "cms.pss-parameters-missing");
    let lenient = CmsPolicy {
        allow_missing_pss_parameters: true,
        ..strict()
    };
    let signer = verify(&message, &lenient).unwrap();
    assert_eq!(signer.algorithm(), SignatureAlgorithm::RsaPssSha256);
    assert!(signer.oddities().contains(&Oddity::PssParametersMissing));
}

/// Requirements: VOUCHER-5.4-03, BRSKI-5.1-11
#[test]
fn counts_sizes_and_depth() {
    let identity = identity(KeyKind::EcdsaP256);
    let forge = |signers, certificates| {
        let mut forge = Forge::new(&identity);
        forge.copies_of_signer = signers;
        forge.copies_of_certificate = certificates;
        forge.build()
    };
    assert_eq!(code(&forge(0, 1), &strict()), "cms.no-signer");
    assert_eq!(
        code(&forge(1, 0), &strict()),
        "cms.signer-certificate-missing"
    );
    assert_eq!(code(&forge(2, 1), &strict()), "cms.several-signers");
    assert_eq!(
        code(&forge(limits::SIGNERS_MAX + 1, 1), &strict()),
        "cms.limit-exceeded"
    );
    // The same certificate many times is one certificate.
    verify(&forge(1, limits::CERTIFICATES_PER_SET_MAX), &strict()).unwrap();

    let huge = vec![0x30; limits::SIGNED_MESSAGE_SIZE_MAX_BYTES + 1];
    assert_eq!(
        SignedData::parse(&huge).unwrap_err().code(),
        "cms.limit-exceeded"
    );
    assert_eq!(SignedData::parse(&[]).unwrap_err().code(), "cms.malformed");
    let deep: Vec<u8> = [0x30, 0x80].repeat(100_000);
    assert_eq!(
        SignedData::parse(&deep).unwrap_err().code(),
        "cms.malformed"
    );

    let mut trailing = forge(1, 1);
    trailing.extend_from_slice(b"\r\n");
    assert_eq!(code(&trailing, &strict()), "cms.malformed");
    let lenient = CmsPolicy {
        allow_trailing_data: true,
        ..strict()
    };
    assert!(
        verify(&trailing, &lenient)
            .unwrap()
            .oddities()
            .contains(&Oddity::TrailingData(2))
    );

    let whole = forge(1, 1);
    for length in 0..whole.len() {
        assert!(
            SignedData::parse(&whole[..length]).is_err(),
            "{length} octets"
        );
    }
}

/// Requirements: VOUCHER-5.4-04, VOUCHERBIS-7.1-03, VOUCHERBIS-7.1-05
#[test]
fn versions_are_odd_and_not_fatal() {
    let identity = identity(KeyKind::EcdsaP256);
    let message = Forge::new(&identity).build();
    let at = message
        .windows(3)
        .position(|window| window == [2, 1, 3])
        .unwrap()
        + 2;
    for found in [0, 1, 4, 5] {
        let mut other = message.clone();
        other[at] = found;
        let signer = verify(&other, &strict()).unwrap();
        assert!(
            signer
                .oddities()
                .contains(&Oddity::CmsVersion { found, expected: 3 })
        );
    }
}

/// Encodes DER as differently as BER allows: indefinite lengths, octet strings in segments.
fn to_ber(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = der;
    while let [tag, length, after @ ..] = rest {
        let (length, after) = match length {
            0x81 => (usize::from(after[0]), &after[1..]),
            0x82 => (
                usize::from(u16::from_be_bytes([after[0], after[1]])),
                &after[2..],
            ),
            short => (usize::from(*short), after),
        };
        let (value, after) = after.split_at(length);
        rest = after;
        let content = match tag {
            0x04 => value
                .chunks(100)
                .map(|chunk| element(0x04, &[chunk]))
                .collect::<Vec<_>>()
                .concat(),
            tag if tag & 0x20 != 0 => to_ber(value),
            _ => {
                out.extend(element(*tag, &[value]));
                continue;
            }
        };
        out.extend([tag | 0x20, 0x80]);
        out.extend(content);
        out.extend([0, 0]);
    }
    out
}

/// Requirements: CMS-5.3-04
#[test]
fn everything_in_ber() {
    let identity = identity(KeyKind::EcdsaP256);
    let content: Vec<u8> = CONTENT.repeat(20);
    let options = SignOptions::default();
    let der = cms::sign(&content, ID_CT_ANIMA_JSON_VOUCHER, &identity, &options).unwrap();
    let ber = to_ber(&der);
    assert_eq!(code(&ber, &strict()), "cms.not-der");
    let lenient = CmsPolicy {
        allow_ber: true,
        ..strict()
    };
    // signedAttrs have to be DER even then.
    assert_eq!(code(&ber, &lenient), "cms.signed-attributes-not-der");
    let lenient = CmsPolicy {
        allow_unsorted_signed_attributes: true,
        ..lenient
    };
    let signed_data = SignedData::parse(&ber).unwrap();
    assert_eq!(signed_data.content(), Some(content.as_slice()));
    let signer = signed_data.verify(&lenient, &[]).unwrap();
    assert_eq!(signer.certificate(), &identity.chain[0]);
    assert!(signer.oddities().contains(&Oddity::Ber));
    assert!(signer.oddities().contains(&Oddity::SignedAttributesNotDer));

    for at in 0..ber.len() {
        let mut broken = ber.clone();
        broken[at] ^= 0x01;
        let Ok(signed_data) = SignedData::parse(&broken) else {
            continue;
        };
        if let Ok(signer) = signed_data.verify(&lenient, &[]) {
            assert_eq!(
                signed_data.content(),
                Some(content.as_slice()),
                "octet {at}"
            );
            assert_eq!(
                signer.certificate().public_key(),
                identity.signer.public_key()
            );
        }
    }
}
