//! Reading EnvelopedData.

use std::cell::Cell;

use super::algorithms::{Kdf, Wrap};
use super::{Cipher, EnvelopedData, ID_ENVELOPED_DATA, KeyTransport, Recipient, Way};
use crate::algorithm::Identifier;
use crate::cms::SignerIdentifier;
use crate::cms::parse::read_identifier;
use crate::limits::{RECIPIENTS_MAX, SIGNED_MESSAGE_SIZE_MAX_BYTES};
use crate::tlv::{self, Reader, TlvError};
use crate::{Document, Error, Oddity};

fn malformed(error: TlvError) -> Error {
    Error::malformed(Document::Enveloped, error)
}

fn over(what: &'static str, limit: usize) -> Error {
    Error::LimitExceeded {
        document: Document::Enveloped,
        what,
        limit,
    }
}

/// Reads a ContentInfo with EnvelopedData.
pub(super) fn parse(bytes: &[u8]) -> Result<EnvelopedData, Error> {
    if bytes.len() > SIGNED_MESSAGE_SIZE_MAX_BYTES {
        return Err(over("octets", SIGNED_MESSAGE_SIZE_MAX_BYTES));
    }
    let ber = Cell::new(false);
    let mut file = Reader::ber(bytes, &ber);
    let mut content_info = file.enter(tlv::SEQUENCE).map_err(malformed)?;
    let trailing = file.rest().len();
    let content_type = content_info.oid().map_err(malformed)?;
    // SZTP-5083-implied_by_8572_3.1_3.4-01: AuthEnvelopedData and others have no place here.
    if content_type != ID_ENVELOPED_DATA {
        return Err(Error::EnvelopedNotEnvelopedData(content_type.to_string()));
    }
    let mut explicit = content_info.enter(0xa0).map_err(malformed)?;
    let fields = explicit.enter(tlv::SEQUENCE).map_err(malformed)?;
    explicit.finish().map_err(malformed)?;
    content_info.finish().map_err(malformed)?;
    let mut enveloped = read(fields)?;
    if ber.get() {
        enveloped.oddities.insert(0, Oddity::Ber);
    }
    if trailing > 0 {
        enveloped.oddities.push(Oddity::TrailingData(trailing));
    }
    Ok(enveloped)
}

fn read(mut fields: Reader<'_, '_>) -> Result<EnvelopedData, Error> {
    let version = fields.small_integer().map_err(malformed)?;
    // Certificates and CRLs of the sender say nothing that is needed.
    let originator = fields.optional(0xa0).map_err(malformed)?;
    let mut recipients = Vec::new();
    let mut others = 0;
    // The version that RFC 5652 §6.1 gives; the rules of the first line need the originator's.
    let mut expected = 0;
    let mut infos = fields.enter(tlv::SET).map_err(malformed)?;
    while !infos.is_empty() {
        if recipients.len() + others >= RECIPIENTS_MAX {
            return Err(over("recipients", RECIPIENTS_MAX));
        }
        let tag = infos.peek();
        let info = infos.any().map_err(malformed)?;
        let inside = infos.inside(&info).map_err(malformed)?;
        let read = match tag {
            Some(tlv::SEQUENCE) => transport(inside),
            Some(0xa1) => agreement(inside),
            // Shared keys, passwords, and what is not known yet: nothing for a certificate's key.
            _ => {
                others += 1;
                expected = 3;
                continue;
            }
        };
        match read {
            Ok((info_version, read)) => {
                if info_version != 0 {
                    expected = expected.max(2);
                }
                recipients.extend(read);
            }
            // A recipient with an algorithm that is not known is somebody else's.
            Err(Error::UnsupportedAlgorithm(_)) => {
                others += 1;
                expected = version;
            }
            Err(error) => return Err(error),
        }
        if recipients.len() > RECIPIENTS_MAX {
            return Err(over("recipients", RECIPIENTS_MAX));
        }
    }
    let mut encrypted_info = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
    let content_type = encrypted_info.oid().map_err(malformed)?;
    let algorithm = encrypted_info.enter(tlv::SEQUENCE).map_err(malformed)?;
    let algorithm = Identifier::read(algorithm).map_err(malformed)?;
    let cipher = Cipher::from_oid(algorithm.id)?;
    let iv = algorithm
        .parameters
        .and_then(|parameters| Reader::der(parameters).expect(tlv::OCTET_STRING).ok())
        .and_then(|octets| <[u8; 16]>::try_from(octets.value).ok())
        .ok_or_else(|| malformed(TlvError("the initialisation vector is not 16 octets")))?;
    if encrypted_info.is_empty() {
        return Err(Error::EnvelopedContentMissing);
    }
    let encrypted = encrypted_info.string(0x80).map_err(malformed)?.into_owned();
    encrypted_info.finish().map_err(malformed)?;
    let attributes = fields.optional(0xa1).map_err(malformed)?;
    fields.finish().map_err(malformed)?;

    if attributes.is_some() {
        expected = expected.max(2);
    }
    if originator.is_some() {
        expected = version;
    }
    let mut oddities = Vec::new();
    if version != expected {
        oddities.push(Oddity::CmsVersion {
            found: version,
            expected,
        });
    }
    Ok(EnvelopedData {
        content_type,
        recipients,
        others,
        cipher,
        iv,
        encrypted,
        oddities,
    })
}

/// KeyTransRecipientInfo.
fn transport(mut fields: Reader<'_, '_>) -> Result<(u8, Vec<Recipient>), Error> {
    let version = fields.small_integer().map_err(malformed)?;
    let id = read_identifier(&mut fields).map_err(malformed)?;
    let algorithm = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
    let algorithm = Identifier::read(algorithm).map_err(malformed)?;
    let encrypted_key = fields.string(tlv::OCTET_STRING).map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    let way = Way::Transport(KeyTransport::read(&algorithm)?);
    let recipient = Recipient {
        id,
        encrypted_key: encrypted_key.into_owned(),
        way,
    };
    Ok((version, vec![recipient]))
}

/// KeyAgreeRecipientInfo, whose encrypted keys may be for several recipients.
fn agreement(mut fields: Reader<'_, '_>) -> Result<(u8, Vec<Recipient>), Error> {
    let version = fields.small_integer().map_err(malformed)?;
    let mut originator = fields.enter(0xa0).map_err(malformed)?;
    let point = match originator.optional(0xa1).map_err(malformed)? {
        Some(key) => {
            let mut key = originator.inside(&key).map_err(malformed)?;
            // The curve is the recipient's, whatever the parameters say or do not say.
            key.expect(tlv::SEQUENCE).map_err(malformed)?;
            let point = key.bit_string().map_err(malformed)?.to_vec();
            key.finish().map_err(malformed)?;
            point
        }
        None => return Err(Error::UnsupportedAlgorithm("static ECDH".to_owned())),
    };
    originator.finish().map_err(malformed)?;
    let user_keying_material = match fields.optional(0xa1).map_err(malformed)? {
        Some(explicit) => {
            let mut explicit = fields.inside(&explicit).map_err(malformed)?;
            let material = explicit.string(tlv::OCTET_STRING).map_err(malformed)?;
            Some(material.into_owned())
        }
        None => None,
    };
    let algorithm = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
    let algorithm = Identifier::read(algorithm).map_err(malformed)?;
    let kdf = Kdf::from_oid(algorithm.id)?;
    let key_info = algorithm.parameters.unwrap_or_default();
    let wrap = Wrap::read(&Identifier::from_der(key_info).map_err(malformed)?)?;
    let mut recipients = Vec::new();
    let mut keys = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
    while !keys.is_empty() {
        if recipients.len() >= RECIPIENTS_MAX {
            return Err(over("recipients", RECIPIENTS_MAX));
        }
        let mut key = keys.enter(tlv::SEQUENCE).map_err(malformed)?;
        let id = agreement_identifier(&mut key).map_err(malformed)?;
        let encrypted_key = key.string(tlv::OCTET_STRING).map_err(malformed)?;
        key.finish().map_err(malformed)?;
        recipients.push(Recipient {
            id,
            encrypted_key: encrypted_key.into_owned(),
            way: Way::Agreement {
                kdf,
                wrap,
                key_info: key_info.to_vec(),
                point: point.clone(),
                user_keying_material: user_keying_material.clone(),
            },
        });
    }
    fields.finish().map_err(malformed)?;
    Ok((version, recipients))
}

/// KeyAgreeRecipientIdentifier: as elsewhere, but the key identifier is within a SEQUENCE.
fn agreement_identifier(fields: &mut Reader<'_, '_>) -> tlv::Result<SignerIdentifier> {
    match fields.optional(0xa0)? {
        Some(key_identifier) => {
            let mut inside = fields.inside(&key_identifier)?;
            let id = inside.string(tlv::OCTET_STRING)?.into_owned();
            Ok(SignerIdentifier::SubjectKeyIdentifier(id))
        }
        None => read_identifier(fields),
    }
}
