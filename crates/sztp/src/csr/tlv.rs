//! A small reader and writer of DER elements, for the envelopes of certificate requests.

use crate::restconf::{Fault, RestconfError};

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// One element: its tag, its content, and all of its octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    pub(crate) raw: &'a [u8],
}

/// Reads elements one after the other. Low tag numbers and definite lengths only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

pub(crate) fn malformed(detail: &str) -> RestconfError {
    RestconfError::new(Fault::CsrMalformed, detail)
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(crate) fn next(&mut self) -> Result<Tlv<'a>, RestconfError> {
        let (tlv, rest) = split(self.0).ok_or_else(|| malformed("not DER"))?;
        self.0 = rest;
        Ok(tlv)
    }

    pub(crate) fn expect(&mut self, tag: u8, what: &str) -> Result<Tlv<'a>, RestconfError> {
        match self.peek() {
            Some(found) if found == tag => self.next(),
            _ => Err(malformed(&format!("{what} is expected"))),
        }
    }

    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Tlv<'a>>, RestconfError> {
        match self.peek() {
            Some(found) if found == tag => self.next().map(Some),
            _ => Ok(None),
        }
    }
}

/// The one element that fills `bytes`.
pub(crate) fn whole<'a>(bytes: &'a [u8], tag: u8, what: &str) -> Result<Tlv<'a>, RestconfError> {
    let mut reader = Reader::new(bytes);
    let tlv = reader.expect(tag, what)?;
    if reader.is_empty() {
        Ok(tlv)
    } else {
        Err(malformed(&format!("octets after {what}")))
    }
}

fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
            let is_shortest = length > 0x7f && digits.first() != Some(&0);
            if !is_shortest {
                return None;
            }
            (length, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    let raw = bytes.get(..bytes.len() - rest.len())?;
    Some((Tlv { tag, value, raw }, rest))
}

/// Writes one element.
pub(crate) fn element(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let length: usize = content.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let digits = length.to_be_bytes();
    let significant: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            // A length has at most eight octets, so the count fits beside the flag.
            out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
            out.extend(significant);
        }
    }
    for part in content {
        out.extend_from_slice(part);
    }
    out
}
