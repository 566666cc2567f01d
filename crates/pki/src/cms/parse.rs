//! Reading SignedData.

use std::cell::Cell;

use super::{SignedAttributes, SignedData, SignerIdentifier, SignerInfo};
use crate::algorithm::Identifier;
use crate::limits::{
    ATTRIBUTES_MAX, CERTIFICATES_PER_SET_MAX, CRLS_PER_SET_MAX, DIGEST_ALGORITHMS_MAX,
    SIGNED_MESSAGE_SIZE_MAX_BYTES, SIGNERS_MAX,
};
use crate::tlv::{self, Reader, Tlv, TlvError};
use crate::{Certificate, Document, Error, Oddity, oid};

const UNIVERSAL_SET_CONSTRUCTED: u8 = tlv::SET;
/// Members of CertificateSet that are not certificates: extended certificates, attribute
/// certificates and other formats.
const OTHER_CERTIFICATE_TAGS: std::ops::RangeInclusive<u8> = 0xa0..=0xa3;

fn malformed(error: TlvError) -> Error {
    Error::malformed(Document::Cms, error)
}

fn over(what: &'static str, limit: usize) -> Error {
    Error::LimitExceeded {
        document: Document::Cms,
        what,
        limit,
    }
}

/// Reads a ContentInfo with SignedData.
pub(super) fn parse(bytes: &[u8]) -> Result<SignedData, Error> {
    if bytes.len() > SIGNED_MESSAGE_SIZE_MAX_BYTES {
        return Err(over("octets", SIGNED_MESSAGE_SIZE_MAX_BYTES));
    }
    let ber = Cell::new(false);
    let mut file = Reader::ber(bytes, &ber);
    let mut content_info = file.enter(tlv::SEQUENCE).map_err(malformed)?;
    let trailing = file.rest().len();
    let content_type = content_info.oid().map_err(malformed)?;
    if content_type != oid::SIGNED_DATA {
        return Err(Error::CmsNotSignedData(content_type.to_string()));
    }
    let mut explicit = content_info.enter(0xa0).map_err(malformed)?;
    let fields = explicit.enter(tlv::SEQUENCE).map_err(malformed)?;
    explicit.finish().map_err(malformed)?;
    content_info.finish().map_err(malformed)?;

    let mut signed_data = read_signed_data(fields)?;
    if ber.get() {
        signed_data.oddities.insert(0, Oddity::Ber);
    }
    if trailing > 0 {
        signed_data.oddities.push(Oddity::TrailingData(trailing));
    }
    Ok(signed_data)
}

fn read_signed_data(mut fields: Reader<'_, '_>) -> Result<SignedData, Error> {
    let mut oddities = Vec::new();
    let version = fields.small_integer().map_err(malformed)?;
    let digest_algorithms = read_digest_algorithms(fields.enter(tlv::SET).map_err(malformed)?)?;

    let mut encapsulated = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
    let content_type = encapsulated.oid().map_err(malformed)?;
    let content = if encapsulated.is_empty() {
        None
    } else {
        let mut explicit = encapsulated.enter(0xa0).map_err(malformed)?;
        let content = explicit.string(tlv::OCTET_STRING).map_err(malformed)?;
        explicit.finish().map_err(malformed)?;
        Some(content.into_owned())
    };
    encapsulated.finish().map_err(malformed)?;

    let mut certificates = Vec::new();
    let mut others = 0_usize;
    if let Some(set) = fields.optional(0xa0).map_err(malformed)? {
        let set = fields.inside(&set).map_err(malformed)?;
        others = read_certificates(set, &mut certificates, &mut oddities)?;
    }
    let mut crls = Vec::new();
    if let Some(set) = fields.optional(0xa1).map_err(malformed)? {
        let mut set = fields.inside(&set).map_err(malformed)?;
        while !set.is_empty() {
            if crls.len() == CRLS_PER_SET_MAX {
                return Err(over("CRLs", CRLS_PER_SET_MAX));
            }
            crls.push(set.any().map_err(malformed)?.raw.to_vec());
        }
    }
    let mut signers = Vec::new();
    let mut infos = fields.enter(tlv::SET).map_err(malformed)?;
    while !infos.is_empty() {
        if signers.len() == SIGNERS_MAX {
            return Err(over("SignerInfos", SIGNERS_MAX));
        }
        signers.push(read_signer(infos.enter(tlv::SEQUENCE).map_err(malformed)?)?);
    }
    fields.finish().map_err(malformed)?;

    if others > 0 {
        oddities.push(Oddity::OtherCertificates(others));
    }
    let by_key_id = signers
        .iter()
        .any(|signer| matches!(signer.sid, SignerIdentifier::SubjectKeyIdentifier(_)));
    let expected = match others {
        0 => version_of(content_type, by_key_id),
        // Attribute certificates and other formats ask for 3, 4 or 5; which one is not told apart.
        _ => version,
    };
    if version != expected {
        oddities.push(Oddity::CmsVersion {
            found: version,
            expected,
        });
    }
    Ok(SignedData {
        content_type,
        content,
        certificates,
        crls,
        digest_algorithms,
        signers,
        oddities,
    })
}

/// The CMSVersion of [RFC 5652 §5.1](https://www.rfc-editor.org/rfc/rfc5652.html#section-5.1) for
/// a SignedData with X.509 certificates and ordinary CRLs only.
pub(super) fn version_of(content_type: const_oid::ObjectIdentifier, by_key_id: bool) -> u8 {
    if by_key_id || content_type != super::ID_DATA {
        3
    } else {
        1
    }
}

fn read_digest_algorithms(
    mut set: Reader<'_, '_>,
) -> Result<Vec<const_oid::ObjectIdentifier>, Error> {
    let mut algorithms = Vec::new();
    while !set.is_empty() {
        if algorithms.len() == DIGEST_ALGORITHMS_MAX {
            return Err(over("digest algorithms", DIGEST_ALGORITHMS_MAX));
        }
        let identifier = set.enter(tlv::SEQUENCE).map_err(malformed)?;
        algorithms.push(Identifier::read(identifier).map_err(malformed)?.id);
    }
    Ok(algorithms)
}

/// Reads a CertificateSet; the answer is the number of members that are not X.509 certificates.
/// One that does not parse is left out: it can be no signer and no part of a path.
pub(crate) fn read_certificates(
    mut set: Reader<'_, '_>,
    certificates: &mut Vec<Certificate>,
    oddities: &mut Vec<Oddity>,
) -> Result<usize, Error> {
    let mut others = 0;
    while !set.is_empty() {
        if certificates.len() + others == CERTIFICATES_PER_SET_MAX {
            return Err(over("certificates", CERTIFICATES_PER_SET_MAX));
        }
        let member = set.any().map_err(malformed)?;
        if OTHER_CERTIFICATE_TAGS.contains(&member.tag) {
            others += 1;
            continue;
        }
        if member.tag != tlv::SEQUENCE {
            return Err(Error::malformed(
                Document::Cms,
                "certificate set has a foreign member",
            ));
        }
        // The octets as received come first: they are what the certificate's signature covers.
        let certificate =
            Certificate::from_der(member.raw).or_else(|error| match tlv::to_definite(&member, 0) {
                Ok(std::borrow::Cow::Owned(definite)) => Certificate::from_der(&definite),
                _ => Err(error),
            });
        match certificate {
            Ok(certificate) if certificates.contains(&certificate) => {}
            Ok(certificate) => certificates.push(certificate),
            Err(_) => {
                others += 1;
                oddities.push(Oddity::UnreadableCertificate);
            }
        }
    }
    Ok(others)
}

/// Issuer and serial number, or a key identifier tagged [0].
pub(super) fn read_identifier(fields: &mut Reader<'_, '_>) -> tlv::Result<SignerIdentifier> {
    if fields.peek() == Some(tlv::SEQUENCE) {
        let mut pair = fields.enter(tlv::SEQUENCE)?;
        let issuer = pair.expect(tlv::SEQUENCE)?;
        let issuer = tlv::to_definite(&issuer, 0)?.into_owned();
        let serial_number = pair.integer()?.to_vec();
        pair.finish()?;
        return Ok(SignerIdentifier::IssuerAndSerialNumber {
            issuer,
            serial_number,
        });
    }
    let id = fields.string(0x80)?;
    Ok(SignerIdentifier::SubjectKeyIdentifier(id.into_owned()))
}

fn read_signer(mut fields: Reader<'_, '_>) -> Result<SignerInfo, Error> {
    let version = fields.small_integer().map_err(malformed)?;
    let sid = read_identifier(&mut fields).map_err(malformed)?;
    let digest_algorithm = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
    let digest_algorithm = Identifier::read(digest_algorithm).map_err(malformed)?.id;
    let signed_attributes = match fields.optional(0xa0).map_err(malformed)? {
        Some(set) => Some(read_signed_attributes(&fields, &set).map_err(malformed)?),
        None => None,
    };
    let signature_algorithm = fields.expect(tlv::SEQUENCE).map_err(malformed)?;
    let signature_algorithm = tlv::to_definite(&signature_algorithm, 0)
        .map_err(malformed)?
        .into_owned();
    let signature = fields
        .string(tlv::OCTET_STRING)
        .map_err(malformed)?
        .into_owned();
    // Unsigned attributes say nothing that could be relied on; they are read past.
    fields.optional(0xa1).map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    Ok(SignerInfo {
        version,
        sid,
        digest_algorithm,
        signed_attributes,
        signature_algorithm,
        signature,
    })
}

/// RFC 5652 §5.4: the signature covers the DER encoding of the SET OF, whatever the encoding and
/// tag in the message. DER is taken as it is; BER is encoded again. An order other than that of
/// DER is kept, because signers that do not sort also sign what they did not sort; the policy
/// decides whether that passes.
fn read_signed_attributes(reader: &Reader<'_, '_>, set: &Tlv<'_>) -> tlv::Result<SignedAttributes> {
    let definite = tlv::to_definite(set, 0)?;
    let mut der = definite.to_vec();
    if let Some(first) = der.first_mut() {
        *first = UNIVERSAL_SET_CONSTRUCTED;
    }
    let mut attributes = reader.inside(set)?;
    let mut count = 0_usize;
    while !attributes.is_empty() {
        attributes.expect(tlv::SEQUENCE)?;
        count += 1;
        if count > ATTRIBUTES_MAX {
            return Err(TlvError("too many signed attributes"));
        }
    }
    let mut sorted = true;
    let mut previous: &[u8] = &[];
    let mut attributes = Reader::der(&der).enter(tlv::SET)?;
    while !attributes.is_empty() {
        let attribute = attributes.any()?;
        sorted &= previous <= attribute.raw;
        previous = attribute.raw;
    }
    Ok(SignedAttributes {
        received_as_der: sorted && *definite == *set.raw,
        der,
    })
}
