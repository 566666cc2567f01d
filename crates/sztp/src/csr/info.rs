//! AlgorithmIdentifier and CertificationRequestInfo (RFC 2986) as RFC 9646 carries them.

use pki::Csr;

use super::tlv::{self, BIT_STRING, Reader, SEQUENCE};
use super::{KeyAlgorithm, Template};

const EC_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
const EC_P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];
const EC_P521: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x23,
];
const ED25519: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// Without the NULL that RFC 3279 wants; some devices leave it out.
const RSA_BARE: &[u8] = &[
    0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
];
const ML_DSA_44: &[u8] = &[
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11,
];
const ML_DSA_65: &[u8] = &[
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12,
];
const ML_DSA_87: &[u8] = &[
    0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x13,
];

/// The DER AlgorithmIdentifier of a type of key.
pub(super) fn identifier(algorithm: KeyAlgorithm) -> &'static [u8] {
    match algorithm {
        KeyAlgorithm::EcP256 => EC_P256,
        KeyAlgorithm::EcP384 => EC_P384,
        KeyAlgorithm::EcP521 => EC_P521,
        KeyAlgorithm::Ed25519 => ED25519,
        KeyAlgorithm::Rsa => RSA,
        KeyAlgorithm::MlDsa44 => ML_DSA_44,
        KeyAlgorithm::MlDsa65 => ML_DSA_65,
        KeyAlgorithm::MlDsa87 => ML_DSA_87,
    }
}

/// The type of key that an AlgorithmIdentifier names.
pub(super) fn algorithm(der: &[u8]) -> Option<KeyAlgorithm> {
    if der == RSA_BARE {
        return Some(KeyAlgorithm::Rsa);
    }
    KeyAlgorithm::ALL
        .iter()
        .copied()
        .find(|algorithm| identifier(*algorithm) == der)
}

/// The AlgorithmIdentifier of a SubjectPublicKeyInfo.
pub(super) fn key_algorithm(spki: &[u8]) -> Option<&[u8]> {
    let content = tlv::whole(spki, SEQUENCE, "a SubjectPublicKeyInfo").ok()?;
    let mut fields = Reader::new(content.value);
    fields
        .expect(SEQUENCE, "an AlgorithmIdentifier")
        .ok()
        .map(|tlv| tlv.raw)
}

/// A SubjectPublicKeyInfo that only says which type of key the device shall generate: the
/// server cannot know the key, and the structure must name one. The bits are none at all, so
/// nobody can take them for a key.
pub(super) fn placeholder(identifier: &[u8]) -> Vec<u8> {
    let bits = tlv::element(BIT_STRING, &[&[0]]);
    tlv::element(SEQUENCE, &[identifier, &bits])
}

/// A DER CertificationRequestInfo.
pub(super) fn encode(template: &Template, spki: &[u8]) -> Vec<u8> {
    // The attributes are a SET OF, so DER sorts them.
    let mut sorted: Vec<&[u8]> = template.attributes.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    let attributes = tlv::element(0xa0, &sorted);
    tlv::element(
        SEQUENCE,
        &[&[0x02, 0x01, 0x00], &template.subject, spki, &attributes],
    )
}

/// Whether a CSR is the CertificationRequestInfo that was given, its key aside.
pub(super) fn matches(info: &[u8], csr: &Csr) -> Result<(), &'static str> {
    let wanted = fields(info).ok_or("the cert-req-info that was given cannot be read")?;
    let request = tlv::whole(csr.der(), SEQUENCE, "a CertificationRequest")
        .ok()
        .and_then(|request| {
            Reader::new(request.value)
                .expect(SEQUENCE, "a CertificationRequestInfo")
                .ok()
        })
        .and_then(|info| fields(info.raw))
        .ok_or("the CSR cannot be read")?;
    if request.subject != wanted.subject {
        return Err("the CSR's subject is not the one of cert-req-info");
    }
    if request.attributes != wanted.attributes {
        return Err("the CSR's attributes are not those of cert-req-info");
    }
    Ok(())
}

struct Fields<'a> {
    subject: &'a [u8],
    /// Sorted, since a SET OF has no order.
    attributes: Vec<&'a [u8]>,
}

fn fields(info: &[u8]) -> Option<Fields<'_>> {
    let content = tlv::whole(info, SEQUENCE, "a CertificationRequestInfo").ok()?;
    let mut reader = Reader::new(content.value);
    reader.expect(tlv::INTEGER, "a version").ok()?;
    let subject = reader.expect(SEQUENCE, "a subject").ok()?.raw;
    reader.expect(SEQUENCE, "a SubjectPublicKeyInfo").ok()?;
    let mut attributes = Vec::new();
    if let Some(set) = reader.optional(0xa0).ok()? {
        let mut entries = Reader::new(set.value);
        while !entries.is_empty() {
            attributes.push(entries.next().ok()?.raw);
        }
    }
    attributes.sort_unstable();
    Some(Fields {
        subject,
        attributes,
    })
}
