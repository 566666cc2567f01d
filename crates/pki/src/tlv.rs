//! A bounded reader for BER and DER elements, and a small DER writer.
//!
//! The reader borrows and never copies, so that what a signature covers stays the octets that
//! were received. Indefinite lengths and constructed strings are read where the caller allows
//! BER, and a flag remembers that some were met.

use std::borrow::Cow;
use std::cell::Cell;

use const_oid::ObjectIdentifier;

use crate::limits::ASN1_DEPTH_MAX;

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const T61_STRING: u8 = 0x14;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const BMP_STRING: u8 = 0x1e;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const CONSTRUCTED: u8 = 0x20;

/// Why an element does not parse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TlvError(pub(crate) &'static str);

impl std::fmt::Display for TlvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

pub(crate) type Result<T> = std::result::Result<T, TlvError>;

/// One element: its identifier octet, its content, and all of its octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    pub(crate) raw: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a, 'f> {
    rest: &'a [u8],
    depth: usize,
    /// Absent: DER only. Present: BER is taken, and the cell says whether any was met.
    ber: Option<&'f Cell<bool>>,
}

impl<'a, 'f> Reader<'a, 'f> {
    /// Reads DER; BER is an error.
    pub(crate) const fn der(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            depth: 0,
            ber: None,
        }
    }

    /// Reads BER; the cell becomes true when something is met that DER forbids.
    pub(crate) const fn ber(bytes: &'a [u8], met: &'f Cell<bool>) -> Self {
        Self {
            rest: bytes,
            depth: 0,
            ber: Some(met),
        }
    }

    /// What has not been read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element's identifier octet.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Tlv<'a>> {
        let (tlv, rest) = read(self.rest, self.depth, self.ber)?;
        self.rest = rest;
        Ok(tlv)
    }

    /// The next element, which must have this identifier octet.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Tlv<'a>> {
        if self.peek() != Some(tag) {
            return Err(TlvError("an element of another type is expected"));
        }
        self.any()
    }

    /// The next element if it has this identifier octet.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Tlv<'a>>> {
        if self.peek() == Some(tag) {
            self.any().map(Some)
        } else {
            Ok(None)
        }
    }

    /// A reader over the content of a constructed element read from this reader.
    pub(crate) fn inside(&self, tlv: &Tlv<'a>) -> Result<Self> {
        if self.depth >= ASN1_DEPTH_MAX {
            return Err(TlvError("nested too deeply"));
        }
        Ok(Self {
            rest: tlv.value,
            depth: self.depth + 1,
            ber: self.ber,
        })
    }

    /// The content of the next element, which must have this identifier octet.
    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self> {
        let tlv = self.expect(tag)?;
        self.inside(&tlv)
    }

    pub(crate) fn oid(&mut self) -> Result<ObjectIdentifier> {
        oid(self.expect(OID)?.value)
    }

    /// An INTEGER's content octets.
    pub(crate) fn integer(&mut self) -> Result<&'a [u8]> {
        let value = self.expect(INTEGER)?.value;
        match value {
            [] => Err(TlvError("INTEGER without content")),
            [0x00, next, ..] if next & 0x80 == 0 => self.note_ber("INTEGER is not minimal", value),
            [0xff, next, ..] if next & 0x80 != 0 => self.note_ber("INTEGER is not minimal", value),
            _ => Ok(value),
        }
    }

    /// A small non-negative INTEGER.
    pub(crate) fn small_integer(&mut self) -> Result<u8> {
        match self.integer()? {
            [value] if *value < 0x80 => Ok(*value),
            _ => Err(TlvError("INTEGER is out of range")),
        }
    }

    /// A BIT STRING without unused bits.
    pub(crate) fn bit_string(&mut self) -> Result<&'a [u8]> {
        match self.expect(BIT_STRING)?.value {
            [0, bits @ ..] => Ok(bits),
            _ => Err(TlvError("BIT STRING with unused bits")),
        }
    }

    /// The content of a string element whose primitive identifier octet is `tag`. BER may cut it
    /// into segments, which are joined.
    pub(crate) fn string(&mut self, tag: u8) -> Result<Cow<'a, [u8]>> {
        match self.peek() {
            Some(found) if found == tag => Ok(Cow::Borrowed(self.any()?.value)),
            Some(found) if found == tag | CONSTRUCTED => {
                if self.ber.is_none() {
                    return Err(TlvError("constructed string"));
                }
                self.note_ber("constructed string", &[])?;
                let segments = self.enter(found)?;
                let mut joined = Vec::new();
                join_segments(segments, &mut joined)?;
                Ok(Cow::Owned(joined))
            }
            _ => Err(TlvError("a string is expected")),
        }
    }

    /// The end of what is to be read here.
    pub(crate) fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(TlvError("trailing octets"))
        }
    }

    fn note_ber(&self, what: &'static str, value: &'a [u8]) -> Result<&'a [u8]> {
        match self.ber {
            Some(met) => {
                met.set(true);
                Ok(value)
            }
            None => Err(TlvError(what)),
        }
    }
}

/// Joins the segments of a constructed OCTET STRING, which may be nested again.
fn join_segments(mut segments: Reader<'_, '_>, joined: &mut Vec<u8>) -> Result<()> {
    while !segments.is_empty() {
        match segments.peek() {
            Some(OCTET_STRING) => joined.extend_from_slice(segments.any()?.value),
            Some(tag) if tag == OCTET_STRING | CONSTRUCTED => {
                let inner = segments.enter(tag)?;
                join_segments(inner, joined)?;
            }
            _ => {
                return Err(TlvError(
                    "segment of a constructed string is no OCTET STRING",
                ));
            }
        }
    }
    Ok(())
}

/// Reads one element from the front of `input`.
fn read<'a>(
    input: &'a [u8],
    depth: usize,
    ber: Option<&Cell<bool>>,
) -> Result<(Tlv<'a>, &'a [u8])> {
    let truncated = TlvError("truncated");
    let (&tag, mut rest) = input.split_first().ok_or(truncated)?;
    if tag & 0x1f == 0x1f {
        // A tag number in several octets. No structure of ours has one, but unknown attributes
        // may; five octets hold any sensible number.
        let end = rest.iter().take(5).position(|octet| octet & 0x80 == 0);
        let end = end.ok_or(TlvError("tag number is too large"))?;
        rest = rest.get(end + 1..).ok_or(truncated)?;
    }
    let (&first, mut rest) = rest.split_first().ok_or(truncated)?;
    let length = match first {
        0x00..=0x7f => usize::from(first),
        0x80 => return read_indefinite(input, tag, rest, depth, ber),
        0x81..=0x84 => {
            let (octets, after) = rest
                .split_at_checked(usize::from(first & 0x7f))
                .ok_or(truncated)?;
            rest = after;
            let length = octets
                .iter()
                .fold(0_usize, |sum, octet| (sum << 8) | usize::from(*octet));
            let minimal = length >= 0x80 && octets.first() != Some(&0);
            if !minimal {
                note(ber, "length is not minimal")?;
            }
            length
        }
        _ => return Err(TlvError("length is too large")),
    };
    let (value, rest) = rest.split_at_checked(length).ok_or(truncated)?;
    let raw_length = input.len() - rest.len();
    let raw = input.get(..raw_length).ok_or(truncated)?;
    Ok((Tlv { tag, value, raw }, rest))
}

fn note(ber: Option<&Cell<bool>>, what: &'static str) -> Result<()> {
    match ber {
        Some(met) => {
            met.set(true);
            Ok(())
        }
        None => Err(TlvError(what)),
    }
}

/// Finds the end-of-contents octets of an element of indefinite length by reading its content.
/// Each level of nesting reads the levels below once more, so the depth limit bounds the work.
fn read_indefinite<'a>(
    input: &'a [u8],
    tag: u8,
    content: &'a [u8],
    depth: usize,
    ber: Option<&Cell<bool>>,
) -> Result<(Tlv<'a>, &'a [u8])> {
    note(ber, "indefinite length")?;
    if tag & CONSTRUCTED == 0 {
        return Err(TlvError("indefinite length of a primitive element"));
    }
    if depth >= ASN1_DEPTH_MAX {
        return Err(TlvError("nested too deeply"));
    }
    let mut rest = content;
    loop {
        if let [0, 0, after @ ..] = rest {
            let truncated = TlvError("truncated");
            let value = content.get(..content.len() - rest.len()).ok_or(truncated)?;
            let raw = input.get(..input.len() - after.len()).ok_or(truncated)?;
            return Ok((Tlv { tag, value, raw }, after));
        }
        (_, rest) = read(rest, depth + 1, ber)?;
    }
}

/// Whether an element and everything in it has definite, minimal lengths and primitive strings.
fn is_definite(raw: &[u8], depth: usize) -> bool {
    let Ok((tlv, _)) = read(raw, depth, None) else {
        return false;
    };
    if tlv.tag & CONSTRUCTED == 0 {
        return true;
    }
    if tlv.tag == OCTET_STRING | CONSTRUCTED || depth >= ASN1_DEPTH_MAX {
        return false;
    }
    let mut rest = tlv.value;
    while !rest.is_empty() {
        let Ok((child, after)) = read(rest, depth, None) else {
            return false;
        };
        if !is_definite(child.raw, depth + 1) {
            return false;
        }
        rest = after;
    }
    true
}

/// Re-encodes an element with definite, minimal lengths and primitive strings. What was DER comes
/// out octet for octet as it was.
pub(crate) fn to_definite<'a>(tlv: &Tlv<'a>, depth: usize) -> Result<Cow<'a, [u8]>> {
    if is_definite(tlv.raw, depth) {
        return Ok(Cow::Borrowed(tlv.raw));
    }
    if tlv.tag & CONSTRUCTED == 0 {
        return Ok(element(tlv.tag, &[tlv.value]).into());
    }
    if depth >= ASN1_DEPTH_MAX {
        return Err(TlvError("nested too deeply"));
    }
    let met = Cell::new(false);
    let mut reader = Reader {
        rest: tlv.value,
        depth,
        ber: Some(&met),
    };
    let mut content = Vec::with_capacity(tlv.value.len());
    if tlv.tag == OCTET_STRING | CONSTRUCTED {
        join_segments(reader, &mut content)?;
        return Ok(element(OCTET_STRING, &[&content]).into());
    }
    while !reader.is_empty() {
        let child = reader.any()?;
        content.extend_from_slice(&to_definite(&child, depth + 1)?);
    }
    Ok(element(tlv.tag, &[&content]).into())
}

fn encoded_length(content: usize) -> usize {
    let octets = match content {
        0..=0x7f => 0,
        0x80..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xff_ffff => 3,
        _ => 4,
    };
    2 + octets + content
}

pub(crate) fn oid(content: &[u8]) -> Result<ObjectIdentifier> {
    ObjectIdentifier::from_bytes(content).map_err(|_| TlvError("OBJECT IDENTIFIER is malformed"))
}

/// Encodes an element from the parts of its content.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(encoded_length(length));
    push_header(&mut out, tag, length);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Appends an identifier octet and a length.
pub(crate) fn push_header(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    let octets = length.to_be_bytes();
    let significant = octets
        .iter()
        .position(|octet| *octet != 0)
        .unwrap_or(octets.len());
    let octets = octets.get(significant..).unwrap_or_default();
    match length {
        // The cast keeps the value: it is below 0x80.
        0..=0x7f => out.push(octets.first().copied().unwrap_or(0)),
        _ => {
            // At most eight octets, so the sum stays within one octet.
            out.push(0x80 | u8::try_from(octets.len()).unwrap_or(0));
            out.extend_from_slice(octets);
        }
    }
}

pub(crate) fn encode_oid(id: ObjectIdentifier) -> Vec<u8> {
    element(OID, &[id.as_bytes()])
}

/// A SET OF from encoded elements, in DER order.
pub(crate) fn set_of(tag: u8, mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort();
    let parts: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    element(tag, &parts)
}

/// The text of a directory string or IA5String element.
pub(crate) fn text(tlv: &Tlv<'_>) -> Option<String> {
    match tlv.tag {
        UTF8_STRING => String::from_utf8(tlv.value.to_vec()).ok(),
        PRINTABLE_STRING | IA5_STRING => tlv
            .value
            .is_ascii()
            .then(|| String::from_utf8_lossy(tlv.value).into_owned()),
        // T.61 in certificates is Latin-1 in practice.
        T61_STRING => Some(tlv.value.iter().map(|octet| char::from(*octet)).collect()),
        BMP_STRING => {
            let units = tlv.value.chunks_exact(2);
            if !units.remainder().is_empty() {
                return None;
            }
            let units: Vec<u16> = units
                .filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_round_trip() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7_u8; length];
            let encoded = element(OCTET_STRING, &[&content]);
            assert_eq!(encoded.len(), encoded_length(length));
            let mut reader = Reader::der(&encoded);
            assert_eq!(reader.expect(OCTET_STRING).unwrap().value, content);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn indefinite_lengths_and_segments() {
        // SEQUENCE { [0] { OCTET STRING { "ab", { "cd" } } } } with indefinite lengths throughout.
        let ber = hex::decode("3080a0802480040261622480040263640000000000000000").unwrap();
        assert_eq!(Reader::der(&ber).any().unwrap_err().0, "indefinite length");
        let met = Cell::new(false);
        let mut reader = Reader::ber(&ber, &met);
        let mut inner = reader.enter(SEQUENCE).unwrap().enter(0xa0).unwrap();
        assert_eq!(&*inner.string(OCTET_STRING).unwrap(), b"abcd");
        reader.finish().unwrap();
        assert!(met.get());

        let whole = Reader::ber(&ber, &met).any().unwrap();
        assert_eq!(
            hex::encode(to_definite(&whole, 0).unwrap()),
            "3008a006040461626364"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let mut deep = vec![];
        for _ in 0..100_000 {
            deep.extend_from_slice(&[0x30, 0x80]);
        }
        let met = Cell::new(false);
        assert_eq!(
            Reader::ber(&deep, &met).any().unwrap_err().0,
            "nested too deeply"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_octets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let met = Cell::new(false);
            let mut reader = Reader::ber(&bytes, &met);
            while let Ok(tlv) = reader.any() {
                prop_assert!(tlv.raw.len() <= bytes.len());
                let _ = to_definite(&tlv, 0);
            }
        }
    }
}
