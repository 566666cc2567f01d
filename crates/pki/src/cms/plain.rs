//! ContentInfo as such: its content type, and content that is a bare OCTET STRING.

use std::cell::Cell;

use const_oid::ObjectIdentifier;
use zeroize::Zeroizing;

use super::sign::content_info;
use crate::limits::SIGNED_MESSAGE_SIZE_MAX_BYTES;
use crate::tlv::{self, Reader, TlvError};
use crate::{Document, Error, Oddity};

fn malformed(error: TlvError) -> Error {
    Error::malformed(Document::Cms, error)
}

/// A DER ContentInfo whose content is an OCTET STRING, as id-data has it.
pub fn plain(content_type: ObjectIdentifier, content: &[u8]) -> Vec<u8> {
    let octets = tlv::element(tlv::OCTET_STRING, &[content]);
    tlv::element(
        tlv::SEQUENCE,
        &[
            &tlv::encode_oid(content_type),
            &tlv::element(0xa0, &[&octets]),
        ],
    )
}

/// The topmost content type of a ContentInfo, DER or BER. The content is not looked at.
///
/// # Errors
/// If it is no ContentInfo.
pub fn content_type_of(bytes: &[u8]) -> Result<ObjectIdentifier, Error> {
    let ber = Cell::new(false);
    let mut content_info = open(bytes, &ber)?.0;
    content_info.oid().map_err(malformed)
}

/// The content type and content of a ContentInfo around an OCTET STRING, if `accepted` says that
/// the content type is right.
///
/// # Errors
/// If it is malformed, over a limit, or of another content type.
pub fn parse_plain(
    bytes: &[u8],
    accepted: impl Fn(ObjectIdentifier) -> bool,
) -> Result<(ObjectIdentifier, Vec<u8>, Vec<Oddity>), Error> {
    let ber = Cell::new(false);
    let (mut content_info, trailing) = open(bytes, &ber)?;
    let content_type = content_info.oid().map_err(malformed)?;
    if !accepted(content_type) {
        return Err(Error::CmsUnexpectedType(content_type.to_string()));
    }
    let mut explicit = content_info.enter(0xa0).map_err(malformed)?;
    let content = explicit.string(tlv::OCTET_STRING).map_err(malformed)?;
    explicit.finish().map_err(malformed)?;
    content_info.finish().map_err(malformed)?;
    let mut oddities = Vec::new();
    if ber.get() {
        oddities.push(Oddity::Ber);
    }
    if trailing > 0 {
        oddities.push(Oddity::TrailingData(trailing));
    }
    Ok((content_type, content.into_owned(), oddities))
}

/// The fields of a ContentInfo, and how many octets come after it.
pub(super) fn open<'a, 'f>(
    bytes: &'a [u8],
    ber: &'f Cell<bool>,
) -> Result<(Reader<'a, 'f>, usize), Error> {
    if bytes.len() > SIGNED_MESSAGE_SIZE_MAX_BYTES {
        return Err(Error::LimitExceeded {
            document: Document::Cms,
            what: "octets",
            limit: SIGNED_MESSAGE_SIZE_MAX_BYTES,
        });
    }
    let mut file = Reader::ber(bytes, ber);
    let content_info = file.enter(tlv::SEQUENCE).map_err(malformed)?;
    Ok((content_info, file.rest().len()))
}

/// What was encrypted as id-signedData, as a ContentInfo. RFC 5652 read to the letter encrypts the
/// SignedData without its ContentInfo; who encrypts a file encrypts both.
pub fn signed_data_as_content_info(content: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let ber = Cell::new(false);
    let fields = Reader::ber(&content, &ber).enter(tlv::SEQUENCE);
    // A SignedData begins with its version, a ContentInfo with its content type.
    let is_bare = fields.is_ok_and(|fields| fields.peek() == Some(tlv::INTEGER));
    if is_bare {
        Zeroizing::new(content_info(&content))
    } else {
        content
    }
}
