//! Verifying a SignerInfo.

use time::OffsetDateTime;

use super::{CmsPolicy, ID_DATA, SignedAttributes, SignedData, SignerIdentifier, SignerInfo};
use crate::algorithm::{Identifier, Scheme};
use crate::fuzz_mock::taken_on_trust;
use crate::public_key::Kind;
use crate::tlv::{self, Reader};
use crate::{
    Certificate, DigestAlgorithm, Document, Error, Oddity, PublicKey, SignatureAlgorithm,
    VerifiedSigner, oid, times,
};

/// How many certificates that a signer identifier matches are tried. More than one is met when a
/// certificate was renewed under the same key identifier.
const MATCHING_CERTIFICATES_MAX: usize = 4;

pub(super) fn verify(
    message: &SignedData,
    signer: &SignerInfo,
    policy: &CmsPolicy,
    extra_certs: &[Certificate],
) -> Result<VerifiedSigner, Error> {
    let mut oddities = message.oddities.clone();
    if oddities.contains(&Oddity::Ber) && !policy.allow_ber {
        return Err(Error::CmsNotDer);
    }
    if oddities
        .iter()
        .any(|oddity| matches!(oddity, Oddity::TrailingData(_)))
        && !policy.allow_trailing_data
    {
        return Err(Error::malformed(
            Document::Cms,
            "octets after the end of the message",
        ));
    }
    check_content_type(message, policy, &mut oddities)?;
    let content = message.content.as_deref().ok_or(Error::CmsContentMissing)?;
    let expected_version = match signer.sid {
        SignerIdentifier::IssuerAndSerialNumber { .. } => 1,
        SignerIdentifier::SubjectKeyIdentifier(_) => 3,
    };
    if signer.version != expected_version {
        oddities.push(Oddity::SignerInfoVersion);
    }
    if !message.digest_algorithms.contains(&signer.digest_algorithm) {
        oddities.push(Oddity::DigestAlgorithmNotListed);
    }

    let mut signing_time = None;
    let signed: &[u8] = match &signer.signed_attributes {
        Some(attributes) => {
            let digest = digest_algorithm(signer, policy, &mut oddities)?;
            signing_time =
                check_attributes(attributes, message, content, digest, policy, &mut oddities)?;
            &attributes.der
        }
        None => {
            check_bare_content(content, policy)?;
            oddities.push(Oddity::NoSignedAttributes);
            content
        }
    };

    let (certificate, algorithm, from_message) =
        find_signer(message, signer, signed, policy, extra_certs, &mut oddities)?;
    if !from_message {
        oddities.push(Oddity::SignerCertificateElsewhere);
    }
    let candidates = message
        .certificates
        .iter()
        .filter(|other| **other != certificate)
        .cloned()
        .collect();
    Ok(VerifiedSigner {
        certificate,
        candidates,
        signing_time,
        algorithm,
        oddities,
    })
}

fn check_content_type(
    message: &SignedData,
    policy: &CmsPolicy,
    oddities: &mut Vec<Oddity>,
) -> Result<(), Error> {
    let Some(expected) = policy.content_type else {
        return Ok(());
    };
    if message.content_type == expected {
        return Ok(());
    }
    if message.content_type == ID_DATA && policy.allow_id_data {
        oddities.push(Oddity::IdData);
        return Ok(());
    }
    Err(Error::CmsContentType {
        found: message.content_type.to_string(),
        expected: expected.to_string(),
    })
}

fn digest_algorithm(
    signer: &SignerInfo,
    policy: &CmsPolicy,
    oddities: &mut Vec<Oddity>,
) -> Result<DigestAlgorithm, Error> {
    let digest = DigestAlgorithm::from_oid(signer.digest_algorithm)
        .ok_or_else(|| Error::UnsupportedAlgorithm(signer.digest_algorithm.to_string()))?;
    if digest == DigestAlgorithm::Sha1 {
        if !policy.allow_legacy_algorithms {
            return Err(Error::LegacyAlgorithm(digest.to_string()));
        }
        push_once(oddities, Oddity::LegacyAlgorithm);
    }
    Ok(digest)
}

/// A signature without signedAttrs covers the content itself.
fn check_bare_content(content: &[u8], policy: &CmsPolicy) -> Result<(), Error> {
    // RFC 5652 §5.3: signedAttrs "MUST be present if the content type of the
    // EncapsulatedContentInfo value being signed is not id-data". rfc8366bis §7.1 has decoders
    // verify their presence.
    if !policy.allow_missing_signed_attributes {
        return Err(Error::CmsSignedAttributesMissing);
    }
    // Without the attributes, the SET OF Attribute of any other message by this signer would pass
    // as content. Nothing that we exchange starts like an ASN.1 SET.
    if content.first() == Some(&tlv::SET)
        && Reader::der(content)
            .expect(tlv::SET)
            .is_ok_and(|set| set.raw.len() == content.len())
    {
        return Err(Error::CmsSignedAttributesMissing);
    }
    Ok(())
}

/// Checks contentType and messageDigest; the answer is the signing time.
fn check_attributes(
    attributes: &SignedAttributes,
    message: &SignedData,
    content: &[u8],
    digest: DigestAlgorithm,
    policy: &CmsPolicy,
    oddities: &mut Vec<Oddity>,
) -> Result<Option<OffsetDateTime>, Error> {
    let malformed = |error: tlv::TlvError| Error::CmsSignedAttributes(error.to_string());
    if !attributes.received_as_der {
        // RFC 5652 §5.3: SignedAttributes MUST be DER encoded, even if the rest of the structure
        // is BER encoded.
        if !policy.allow_unsorted_signed_attributes {
            return Err(Error::CmsSignedAttributesNotDer);
        }
        oddities.push(Oddity::SignedAttributesNotDer);
    }
    let mut content_type = None;
    let mut message_digest = None;
    let mut signing_time = None;
    let mut set = Reader::der(&attributes.der)
        .enter(tlv::SET)
        .map_err(malformed)?;
    while !set.is_empty() {
        let mut attribute = set.enter(tlv::SEQUENCE).map_err(malformed)?;
        let id = attribute.oid().map_err(malformed)?;
        let slot = match id {
            oid::CONTENT_TYPE => &mut content_type,
            oid::MESSAGE_DIGEST => &mut message_digest,
            oid::SIGNING_TIME => &mut signing_time,
            _ => continue,
        };
        // RFC 5652 §11.1, §11.2, §11.3: the SignedAttributes MUST NOT include multiple instances
        // of the attribute, and it MUST have a single attribute value.
        if slot.is_some() {
            return Err(Error::CmsSignedAttributes(format!("{id} appears twice")));
        }
        let mut values = attribute.enter(tlv::SET).map_err(malformed)?;
        *slot = Some(values.any().map_err(malformed)?);
        values.finish().map_err(malformed)?;
        attribute.finish().map_err(malformed)?;
    }

    let content_type = content_type
        .ok_or_else(|| Error::CmsSignedAttributes("contentType is missing".to_owned()))?;
    // RFC 5652 §5.6 and §11.1: the content-type attribute value MUST match the
    // SignedData encapContentInfo eContentType value.
    let same = content_type.value == message.content_type.as_bytes();
    if content_type.tag != tlv::OID || !(same || defects::seeded!("cms-skips-content-type")) {
        return Err(Error::CmsContentTypeAttribute);
    }
    let message_digest = message_digest
        .ok_or_else(|| Error::CmsSignedAttributes("messageDigest is missing".to_owned()))?;
    // RFC 5652 §5.6: the message digest calculated by the recipient MUST be the same as the value
    // of the messageDigest attribute.
    let is_right = message_digest.value == digest.hash(content);
    if message_digest.tag != tlv::OCTET_STRING
        || !(is_right
            || taken_on_trust(message_digest.value)
            || defects::seeded!("cms-skips-digest"))
    {
        return Err(Error::CmsDigest);
    }
    let Some(element) = signing_time else {
        oddities.push(Oddity::NoSigningTime);
        return Ok(None);
    };
    let time = times::read(&element).map_err(malformed)?;
    // RFC 5652 §11.3: dates between 1 January 1950 and 31 December 2049 MUST be UTCTime.
    if times::encode(time) != element.raw {
        oddities.push(Oddity::SigningTimeForm);
    }
    Ok(Some(time))
}

/// Finds the certificate that the signer identifier names and whose key verifies the signature.
/// That it is in the set gives it no weight; the set is searched first because it usually is.
fn find_signer(
    message: &SignedData,
    signer: &SignerInfo,
    signed: &[u8],
    policy: &CmsPolicy,
    extra_certs: &[Certificate],
    oddities: &mut Vec<Oddity>,
) -> Result<(Certificate, SignatureAlgorithm, bool), Error> {
    let mut reason = Error::CmsSignerCertificateMissing;
    let matching = named_certificates(signer, &message.certificates, extra_certs);
    for (certificate, from_message) in matching.take(MATCHING_CERTIFICATES_MAX) {
        let mut found = Vec::new();
        let result = scheme(signer, certificate.public_key(), policy, &mut found)
            .and_then(|scheme| {
                let key = certificate.public_key();
                let legacy = policy.allow_legacy_algorithms;
                let holds = key.verify_scheme(scheme, signed, &signer.signature, legacy);
                if !defects::seeded!("cms-skips-signature") {
                    holds?;
                }
                Ok(scheme.algorithm)
            })
            .map_err(|error| match error {
                Error::SignatureInvalid(_) => Error::CmsSignature,
                other => other,
            });
        match result {
            Ok(algorithm) => {
                if algorithm.is_legacy() {
                    push_once(oddities, Oddity::LegacyAlgorithm);
                }
                oddities.append(&mut found);
                return Ok((certificate.clone(), algorithm, from_message));
            }
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// The certificates that a signer identifier names, those of the message first. The flag says
/// whether one came with the message.
pub(super) fn named_certificates<'a>(
    signer: &'a SignerInfo,
    in_message: &'a [Certificate],
    extra_certs: &'a [Certificate],
) -> impl Iterator<Item = (&'a Certificate, bool)> {
    let extra = extra_certs
        .iter()
        .filter(|extra| !in_message.contains(extra));
    in_message
        .iter()
        .map(|certificate| (certificate, true))
        .chain(extra.map(|certificate| (certificate, false)))
        .filter(|(certificate, _)| is_named(&signer.sid, certificate))
}

pub(super) fn is_named(sid: &SignerIdentifier, certificate: &Certificate) -> bool {
    match sid {
        SignerIdentifier::IssuerAndSerialNumber {
            issuer,
            serial_number,
        } => {
            certificate.issuer_der() == issuer
                && significant(certificate.serial_number()) == significant(serial_number)
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => match certificate.subject_key_id() {
            Some(own) => own == *id,
            // RFC 5652 §5.3 speaks of the extension only; certificates without one are named by
            // the hash of their key in the field.
            None => certificate.public_key().sha1_key_id().as_slice() == id.as_slice(),
        },
    }
}

/// An INTEGER without the leading zero octets that a sloppy encoder adds.
fn significant(integer: &[u8]) -> &[u8] {
    let start = integer
        .iter()
        .position(|octet| *octet != 0)
        .unwrap_or(integer.len());
    integer.get(start..).unwrap_or_default()
}

/// The signature algorithm of a SignerInfo for a key.
fn scheme(
    signer: &SignerInfo,
    key: &PublicKey,
    policy: &CmsPolicy,
    oddities: &mut Vec<Oddity>,
) -> Result<Scheme, Error> {
    let identifier = Identifier::from_der(&signer.signature_algorithm)
        .map_err(|error| Error::malformed(Document::Cms, error))?;
    let digest = DigestAlgorithm::from_oid(signer.digest_algorithm);
    let unsupported = || Error::UnsupportedAlgorithm(signer.digest_algorithm.to_string());
    match identifier.id {
        // RFC 3370 §3.2: rsaEncryption with the hash named by digestAlgorithm is the usual form.
        oid::RSA_ENCRYPTION => {
            let digest = digest.ok_or_else(unsupported)?;
            return match key.kind_of() {
                Kind::Rsa {
                    pss_only: false, ..
                } => Ok(SignatureAlgorithm::rsa_pkcs1(digest).into()),
                _ => Err(Error::AlgorithmKeyMismatch {
                    algorithm: "rsaEncryption".to_owned(),
                    key: key.describe(),
                }),
            };
        }
        // RFC 4055 §3.1: the parameters MUST be present in a signature's identifier.
        oid::RSA_PSS if identifier.parameters.is_none() => {
            if !policy.allow_missing_pss_parameters {
                return Err(Error::CmsPssParameters);
            }
            let Kind::Rsa { .. } = key.kind_of() else {
                return Err(Error::AlgorithmKeyMismatch {
                    algorithm: "RSASSA-PSS".to_owned(),
                    key: key.describe(),
                });
            };
            oddities.push(Oddity::PssParametersMissing);
            let algorithm = digest.and_then(SignatureAlgorithm::rsa_pss);
            return algorithm.map(Scheme::from).ok_or_else(unsupported);
        }
        _ => {}
    }
    let scheme = Scheme::read(&identifier, key)?;
    if !digest_fits(scheme.algorithm, digest, signer.signed_attributes.is_some()) {
        if !policy.allow_algorithm_mismatch {
            return Err(Error::CmsAlgorithmMismatch {
                digest: digest.map_or_else(
                    || signer.digest_algorithm.to_string(),
                    |known| known.to_string(),
                ),
                signature: scheme.algorithm.to_string(),
            });
        }
        oddities.push(Oddity::AlgorithmMismatch);
    }
    Ok(scheme)
}

fn digest_fits(
    algorithm: SignatureAlgorithm,
    digest: Option<DigestAlgorithm>,
    signed_attributes: bool,
) -> bool {
    use DigestAlgorithm::{Sha256, Sha384, Sha512};
    match algorithm {
        // RFC 8419 §3.1: with signedAttrs the digest is SHA-512.
        SignatureAlgorithm::Ed25519 => digest == Some(Sha512) || !signed_attributes,
        // RFC 9882 §3.3: without signedAttrs digestAlgorithm has no meaning and is ignored; with
        // them, its strength has to reach that of the parameter set.
        _ if algorithm.is_ml_dsa() && !signed_attributes => true,
        SignatureAlgorithm::MlDsa44 => matches!(digest, Some(Sha256 | Sha384 | Sha512)),
        SignatureAlgorithm::MlDsa65 => matches!(digest, Some(Sha384 | Sha512)),
        SignatureAlgorithm::MlDsa87 => digest == Some(Sha512),
        // RFC 5652 §5.4: the signature is over the result of the message digest process.
        _ => algorithm.digest() == digest,
    }
}

fn push_once(oddities: &mut Vec<Oddity>, oddity: Oddity) {
    if !oddities.contains(&oddity) {
        oddities.push(oddity);
    }
}
