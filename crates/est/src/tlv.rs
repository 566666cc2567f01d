//! The few DER moves that the CSR attributes need and that no ready type offers: values with an
//! absent part, and sets that a peer did not sort.

use der::{
    Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged,
    asn1::{AnyRef, ObjectIdentifier},
};

/// Most elements that one SEQUENCE or SET of a peer may hold here.
pub(crate) const ELEMENTS_MAX: usize = 128;

/// Reads exactly one value that fills `bytes`.
pub(crate) fn one(bytes: &[u8]) -> Result<AnyRef<'_>, der::Error> {
    AnyRef::from_der(bytes)
}

/// Reads the values inside a constructed value, in their order.
pub(crate) fn children<'a>(value: AnyRef<'a>) -> Result<Vec<AnyRef<'a>>, der::Error> {
    if !value.tag().is_constructed() {
        return Err(value.tag().unexpected_error(Some(Tag::Sequence)).into());
    }
    let mut reader = SliceReader::new(value.value())?;
    let mut all = Vec::new();
    while !reader.is_finished() {
        if all.len() == ELEMENTS_MAX {
            return Err(value.tag().length_error().into());
        }
        all.push(AnyRef::decode(&mut reader)?);
    }
    Ok(all)
}

/// Reads an object identifier.
pub(crate) fn oid(value: AnyRef<'_>) -> Result<ObjectIdentifier, der::Error> {
    value.decode_as::<ObjectIdentifier>()
}

/// Whether that is a well-formed object identifier whose first octet goes on (an arc beyond 2.47),
/// which [`ObjectIdentifier`] has no room for.
pub(crate) fn is_unusual_oid(value: AnyRef<'_>) -> bool {
    let octets = value.value();
    value.tag() == Tag::ObjectIdentifier
        && octets.first().is_some_and(|first| *first > 0x80)
        && octets.last().is_some_and(|last| *last < 0x80)
}

/// The whole encoding of `value`, tag and length included.
pub(crate) fn bytes(value: AnyRef<'_>) -> Result<Vec<u8>, der::Error> {
    value.to_der()
}

/// Encodes `content` under `tag`.
pub(crate) fn wrap(tag: Tag, content: &[u8]) -> Result<Vec<u8>, der::Error> {
    AnyRef::new(tag, content)?.to_der()
}

/// Encodes the concatenation of `parts` as a SEQUENCE.
pub(crate) fn sequence(parts: &[Vec<u8>]) -> Result<Vec<u8>, der::Error> {
    wrap(Tag::Sequence, &parts.concat())
}

/// Encodes `parts` as a SET OF, in the order that DER asks for.
pub(crate) fn set_of(parts: &[Vec<u8>]) -> Result<Vec<u8>, der::Error> {
    let mut sorted = parts.to_vec();
    sorted.sort();
    wrap(Tag::Set, &sorted.concat())
}

/// The tag `[number]`, constructed.
pub(crate) fn context(number: u32) -> Tag {
    TagNumber(number).context_specific(true)
}

/// The tag `[number]`, primitive.
pub(crate) fn context_primitive(number: u32) -> Tag {
    TagNumber(number).context_specific(false)
}
