//! Producing SignedData.

use const_oid::ObjectIdentifier;

use super::parse::version_of;
use crate::limits::CERTIFICATES_PER_SET_MAX;
use crate::tlv;
use crate::{
    Certificate, DigestAlgorithm, Document, Error, Identity, IncludeCertificates, SignOptions,
    SignatureAlgorithm, oid, times,
};

/// Signs content as a DER ContentInfo with SignedData: contentType, messageDigest and, if a time
/// is given, signingTime are signed.
///
/// # Errors
/// If the identity is inconsistent or signing fails.
pub fn sign(
    content: &[u8],
    econtent_type: ObjectIdentifier,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    let certificate = identity.certificate().ok_or(Error::IdentityMismatch)?;
    let algorithm = identity.signer.algorithm();
    let digest = message_digest_algorithm(algorithm);

    let mut attributes = vec![
        attribute(oid::CONTENT_TYPE, &tlv::encode_oid(econtent_type)),
        attribute(
            oid::MESSAGE_DIGEST,
            &tlv::element(tlv::OCTET_STRING, &[&digest.hash(content)]),
        ),
    ];
    if let Some(time) = options.signing_time {
        attributes.push(attribute(oid::SIGNING_TIME, &times::encode(time)));
    }
    // RFC 5652 §5.4: what is signed has the universal tag of SET OF, what is sent has [0].
    let mut signed_attributes = if defects::seeded!("cms-signs-unsorted-attributes") {
        attributes.reverse();
        let parts: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
        tlv::element(tlv::SET, &parts)
    } else {
        tlv::set_of(tlv::SET, attributes)
    };
    let signature = identity.signer.sign(&signed_attributes)?;
    if let Some(tag) = signed_attributes.first_mut() {
        *tag = 0xa0;
    }

    let (mut signer_version, sid) = signer_identifier(certificate, options.by_subject_key_id);
    if defects::seeded!("cms-signs-wrong-version") {
        signer_version = 4;
    }
    let signer_info = tlv::element(
        tlv::SEQUENCE,
        &[
            &[tlv::INTEGER, 1, signer_version],
            &sid,
            digest.identifier_der(),
            &signed_attributes,
            algorithm.identifier_der(),
            &tlv::element(tlv::OCTET_STRING, &[&signature]),
        ],
    );
    let encapsulated = tlv::element(
        tlv::SEQUENCE,
        &[
            &tlv::encode_oid(econtent_type),
            &tlv::element(0xa0, &[&tlv::element(tlv::OCTET_STRING, &[content])]),
        ],
    );
    let certificates = if defects::seeded!("cms-signs-without-certificates") {
        Vec::new()
    } else {
        certificate_set(identity, options)?
    };
    let version = version_of(econtent_type, options.by_subject_key_id);
    let signed_data = tlv::element(
        tlv::SEQUENCE,
        &[
            &[tlv::INTEGER, 1, version],
            &tlv::element(tlv::SET, &[digest.identifier_der()]),
            &encapsulated,
            &certificates,
            &tlv::element(tlv::SET, &[&signer_info]),
        ],
    );
    Ok(content_info(&signed_data))
}

/// Wraps a SignedData in its ContentInfo.
pub(crate) fn content_info(signed_data: &[u8]) -> Vec<u8> {
    tlv::element(
        tlv::SEQUENCE,
        &[
            &tlv::encode_oid(oid::SIGNED_DATA),
            &tlv::element(0xa0, &[signed_data]),
        ],
    )
}

/// The hash of the content: that of the signature algorithm. RFC 8419 §3.1 has SHA-512 for
/// Ed25519 and RFC 9882 §3.3 recommends it for ML-DSA.
fn message_digest_algorithm(algorithm: SignatureAlgorithm) -> DigestAlgorithm {
    algorithm.digest().unwrap_or(DigestAlgorithm::Sha512)
}

fn attribute(id: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    tlv::element(
        tlv::SEQUENCE,
        &[&tlv::encode_oid(id), &tlv::element(tlv::SET, &[value])],
    )
}

/// The SignerInfo version and the signer identifier of RFC 5652 §5.3.
fn signer_identifier(certificate: &Certificate, by_subject_key_id: bool) -> (u8, Vec<u8>) {
    if by_subject_key_id {
        let id = certificate
            .subject_key_id()
            .unwrap_or_else(|| certificate.public_key().sha1_key_id().to_vec());
        return (3, tlv::element(0x80, &[&id]));
    }
    let serial = tlv::element(tlv::INTEGER, &[certificate.serial_number()]);
    (
        1,
        tlv::element(tlv::SEQUENCE, &[certificate.issuer_der(), &serial]),
    )
}

fn certificate_set(identity: &Identity, options: &SignOptions) -> Result<Vec<u8>, Error> {
    let chain: &[Certificate] = match options.include_certs {
        IncludeCertificates::Chain => &identity.chain,
        IncludeCertificates::Signer => identity.chain.get(..1).unwrap_or_default(),
        IncludeCertificates::None => &[],
    };
    let mut members: Vec<Vec<u8>> = Vec::with_capacity(chain.len() + options.extra_certs.len());
    for certificate in chain.iter().chain(&options.extra_certs) {
        if !members.iter().any(|member| member == certificate.der()) {
            members.push(certificate.der().to_vec());
        }
    }
    if members.len() > CERTIFICATES_PER_SET_MAX {
        return Err(Error::LimitExceeded {
            document: Document::Cms,
            what: "certificates",
            limit: CERTIFICATES_PER_SET_MAX,
        });
    }
    // The set is OPTIONAL, so an empty one is left out.
    Ok(if members.is_empty() {
        Vec::new()
    } else {
        tlv::set_of(0xa0, members)
    })
}
