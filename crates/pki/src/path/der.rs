//! A strict DER reader over borrowed bytes.
//!
//! Path validation reads what a stranger sent, so it reads it itself: no allocation, no recursion
//! here, minimal lengths only, and times before 1970, large pathLenConstraints and negative serial
//! numbers as what they are. (The structures of `x509-cert` cannot represent all of these.)

use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// A context-specific tag, primitive.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// A context-specific tag, constructed.
pub(crate) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// What is wrong with an encoding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) type Result<T> = std::result::Result<T, Malformed>;

/// One element: its tag, its content and its whole encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) encoding: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn element(&mut self) -> Result<Element<'a>> {
        let start = self.rest;
        let (&tag, after_tag) = start.split_first().ok_or(Malformed("truncated"))?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("a tag number over 30"));
        }
        let (&first, mut after_length) = after_tag.split_first().ok_or(Malformed("truncated"))?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return Err(Malformed("an indefinite or absurd length"));
            }
            let (octets, rest) = after_length
                .split_at_checked(count)
                .ok_or(Malformed("truncated"))?;
            after_length = rest;
            let length = octets
                .iter()
                .fold(0_usize, |sum, &octet| (sum << 8) | usize::from(octet));
            if octets.first() == Some(&0) || length < 0x80 {
                return Err(Malformed("a length that is not minimal"));
            }
            length
        };
        let (content, rest) = after_length
            .split_at_checked(length)
            .ok_or(Malformed("truncated"))?;
        let encoding = start
            .get(..start.len() - rest.len())
            .ok_or(Malformed("truncated"))?;
        self.rest = rest;
        Ok(Element {
            tag,
            content,
            encoding,
        })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>> {
        let element = self.element()?;
        if element.tag == tag {
            Ok(element)
        } else {
            Err(Malformed("an element of another type than expected"))
        }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>> {
        if self.rest.first() == Some(&tag) {
            self.element().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed("trailing data"))
        }
    }
}

/// The one element that `bytes` consist of.
pub(crate) fn single(bytes: &[u8], tag: u8) -> Result<&[u8]> {
    let mut reader = Reader::new(bytes);
    let element = reader.expect(tag)?;
    reader.end()?;
    Ok(element.content)
}

/// The content of a BOOLEAN.
pub(crate) fn boolean(content: &[u8]) -> Result<bool> {
    match content {
        [0x00] => Ok(false),
        [0xff] => Ok(true),
        _ => Err(Malformed("a BOOLEAN that is neither 00 nor FF")),
    }
}

/// The content of an INTEGER: minimal, not empty.
pub(crate) fn integer(content: &[u8]) -> Result<&[u8]> {
    match content {
        [] => Err(Malformed("an empty INTEGER")),
        [0x00, second, ..] if *second < 0x80 => Err(Malformed("an INTEGER that is not minimal")),
        [0xff, second, ..] if *second >= 0x80 => Err(Malformed("an INTEGER that is not minimal")),
        _ => Ok(content),
    }
}

/// A non-negative INTEGER that counts something; numbers that do not fit saturate.
pub(crate) fn count(content: &[u8]) -> Result<u32> {
    let octets = integer(content)?;
    if octets.first().is_some_and(|&first| first >= 0x80) {
        return Err(Malformed("a negative number"));
    }
    Ok(octets.iter().fold(0_u32, |sum, &octet| {
        sum.checked_mul(256)
            .and_then(|shifted| shifted.checked_add(u32::from(octet)))
            .unwrap_or(u32::MAX)
    }))
}

/// The content of an OBJECT IDENTIFIER, checked for form and kept as bytes.
pub(crate) fn oid(content: &[u8]) -> Result<&[u8]> {
    let last = content
        .last()
        .ok_or(Malformed("an empty OBJECT IDENTIFIER"))?;
    let mut starts = std::iter::once(true).chain(content.iter().map(|octet| octet & 0x80 == 0));
    let padded = content
        .iter()
        .any(|&octet| starts.next() == Some(true) && octet == 0x80);
    if last & 0x80 != 0 || padded {
        return Err(Malformed("an OBJECT IDENTIFIER that is not minimal"));
    }
    Ok(content)
}

/// The first sixteen bits of a BIT STRING, bit 0 of the standard being the highest.
pub(crate) fn flags(content: &[u8]) -> Result<u16> {
    let (&unused, octets) = content
        .split_first()
        .ok_or(Malformed("an empty BIT STRING"))?;
    let last = octets.last().copied().unwrap_or(0);
    let stray = u16::from(last) & ((1_u16 << unused.min(8)) - 1);
    if unused > 7 || (octets.is_empty() && unused != 0) || stray != 0 {
        return Err(Malformed("a BIT STRING with stray bits"));
    }
    let mut octets = octets.iter().copied();
    let high = octets.next().unwrap_or(0);
    let low = octets.next().unwrap_or(0);
    Ok(u16::from_be_bytes([high, low]))
}

/// UTCTime or GeneralizedTime in the form of RFC 5280 §4.1.2.5: with seconds, without fractions, in Z.
pub(crate) fn time(element: Element<'_>) -> Result<OffsetDateTime> {
    const BAD: Malformed = Malformed("a time that is not of the form of RFC 5280");
    let text = element.content.strip_suffix(b"Z").ok_or(BAD)?;
    let mut digits = text.iter().map(|&octet| {
        if octet.is_ascii_digit() {
            Ok(octet - b'0')
        } else {
            Err(BAD)
        }
    });
    let mut two = || -> Result<u8> {
        match (digits.next(), digits.next()) {
            (Some(tens), Some(ones)) => Ok(tens? * 10 + ones?),
            _ => Err(BAD),
        }
    };
    let year = match element.tag {
        UTC_TIME => {
            let year = i32::from(two()?);
            if year >= 50 { 1900 + year } else { 2000 + year }
        }
        GENERALIZED_TIME => i32::from(two()?) * 100 + i32::from(two()?),
        _ => return Err(BAD),
    };
    let (month, day, hour, minute, second) = (two()?, two()?, two()?, two()?, two()?);
    if digits.next().is_some() {
        return Err(BAD);
    }
    let month = Month::try_from(month).map_err(|_| BAD)?;
    let date = Date::from_calendar_date(year, month, day).map_err(|_| BAD)?;
    let time = Time::from_hms(hour, minute, second).map_err(|_| BAD)?;
    Ok(OffsetDateTime::new_in_offset(date, time, UtcOffset::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_minimal_and_present() {
        for bad in [
            &[0x30][..],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x02, 0],
            &[0x1f, 0x81, 0x00, 0x00],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
        ] {
            assert!(Reader::new(bad).element().is_err(), "{bad:x?}");
        }
    }

    #[test]
    fn integers_oids_and_flags_must_be_minimal() {
        assert!(integer(&[]).is_err());
        assert!(integer(&[0, 1]).is_err());
        assert!(integer(&[0xff, 0x80]).is_err());
        assert!(integer(&[0xff]).is_ok());
        assert!(count(&[0xff]).is_err());
        assert_eq!(count(&[1, 0, 0, 0, 0]), Ok(u32::MAX));
        assert_eq!(count(&[1, 2]), Ok(258));
        assert!(oid(&[0x55, 0x80, 0x01]).is_err());
        assert!(oid(&[0x80, 0x01]).is_err());
        assert!(oid(&[0x55, 0x81]).is_err());
        assert!(oid(&[0x55, 0x81, 0x00]).is_ok());
        assert_eq!(flags(&[5, 0xa0]), Ok(0xa000));
        assert!(flags(&[5, 0xa1]).is_err());
        assert!(flags(&[8, 0x00]).is_err());
    }

    #[test]
    fn times_of_both_kinds() {
        let read = |tag, text: &str| {
            time(Element {
                tag,
                content: text.as_bytes(),
                encoding: &[],
            })
            .map(|time| time.year())
        };
        assert_eq!(read(UTC_TIME, "500101120001Z"), Ok(1950));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Ok(2049));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Ok(9999));
        for bad in [
            "5001011200Z",
            "500101120001",
            "501301120001Z",
            "500101120001+0100",
            "50010112000aZ",
        ] {
            assert!(read(UTC_TIME, bad).is_err(), "{bad}");
        }
        assert!(read(GENERALIZED_TIME, "20200101000000.5Z").is_err());
    }
}
