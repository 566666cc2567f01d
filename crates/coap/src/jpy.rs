//! JPY: what a stateless join proxy and a registrar exchange,
//! [draft-ietf-anima-constrained-join-proxy §4.5](https://datatracker.ietf.org/doc/html/draft-ietf-anima-constrained-join-proxy-21#section-4.5).
//!
//! A CBOR array of two byte strings: a header that only the proxy reads, and the pledge's datagram.

use crate::Error;

/// Longest header in bytes that we take; the draft asks proxies for at most 32.
pub const HEADER_LENGTH_MAX: usize = 256;
/// Bytes that JPY adds to a datagram, for a header of 32 bytes,
/// [§4.5.4](https://datatracker.ietf.org/doc/html/draft-ietf-anima-constrained-join-proxy-21#section-4.5.4).
pub const OVERHEAD: usize = 38;

const MAJOR_BYTES: u8 = 2;
const MAJOR_ARRAY: u8 = 4;

/// A JPY message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jpy<'a> {
    /// The proxy's; a registrar gives it back as it came and does not look into it.
    pub header: &'a [u8],
    /// The datagram of the pledge or for it.
    pub content: &'a [u8],
}

impl<'a> Jpy<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::Jpy`] for what is no array of at least two elements that begins with two byte
    /// strings. Such a message is dropped in silence.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, Error> {
        let (major, count, rest) = head(datagram)?;
        if major != MAJOR_ARRAY {
            return Err(Error::Jpy("not an array"));
        }
        // JPX-033: An array with fewer than 2 elements is discarded.
        if count < 2 {
            return Err(Error::Jpy("fewer than two elements"));
        }
        // JPX-034: Arrays with more than 2 elements are accepted, extra elements ignored.
        let (header, rest) = bytes(rest)?;
        let (content, rest) = bytes(rest)?;
        if count == 2 && !rest.is_empty() {
            return Err(Error::Jpy("bytes follow the array"));
        }
        if header.len() > HEADER_LENGTH_MAX {
            return Err(Error::Jpy("the header is longer than 256 bytes"));
        }
        Ok(Self { header, content })
    }

    /// Writes the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.header.len() + self.content.len() + 11);
        put_head(&mut out, MAJOR_ARRAY, 2);
        for part in [self.header, self.content] {
            put_head(&mut out, MAJOR_BYTES, part.len() as u64);
            out.extend(part);
        }
        out
    }
}

fn bytes(input: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let (major, length, rest) = head(input)?;
    // JPX-025: A JPY message is a CBOR array whose first two elements are byte strings: header,
    // content.
    if major != MAJOR_BYTES {
        return Err(Error::Jpy("an element is not a byte string"));
    }
    usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(Error::Jpy("a byte string is cut off"))
}

/// Major type, argument, and what follows. Indefinite lengths are refused.
fn head(input: &[u8]) -> Result<(u8, u64, &[u8]), Error> {
    const CUT: Error = Error::Jpy("the message is cut off");
    let (first, rest) = input.split_first().ok_or(CUT)?;
    let (value, rest) = match first & 0x1f {
        24 => {
            let (byte, rest) = rest.split_first().ok_or(CUT)?;
            (u64::from(*byte), rest)
        }
        25 => {
            let (value, rest) = rest.split_first_chunk().ok_or(CUT)?;
            (u64::from(u16::from_be_bytes(*value)), rest)
        }
        26 => {
            let (value, rest) = rest.split_first_chunk().ok_or(CUT)?;
            (u64::from(u32::from_be_bytes(*value)), rest)
        }
        27 => {
            let (value, rest) = rest.split_first_chunk().ok_or(CUT)?;
            (u64::from_be_bytes(*value), rest)
        }
        small @ 0..24 => (u64::from(small), rest),
        _ => return Err(Error::Jpy("a length is missing")),
    };
    Ok((first >> 5, value, rest))
}

fn put_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    let [.., a, b, c, d] = value.to_be_bytes();
    match value {
        0..24 => out.push(major | d),
        24..=0xff => out.extend([major | 24, d]),
        0x100..=0xffff => out.extend([major | 25, c, d]),
        // Datagrams are far below 4 GiB.
        _ => out.extend([major | 26, a, b, c, d]),
    }
}
