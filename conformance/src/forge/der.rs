//! DER by hand.

/// Tag, length and value.
#[must_use]
pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(length(value.len()));
    out.extend_from_slice(value);
    out
}

/// A definite length in the fewest octets.
#[must_use]
pub fn length(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => vec![short],
        _ => {
            let octets: Vec<u8> = length
                .to_be_bytes()
                .into_iter()
                .skip_while(|octet| *octet == 0)
                .collect();
            let mut out = vec![0x80 | u8::try_from(octets.len()).unwrap_or(8)];
            out.extend(octets);
            out
        }
    }
}

/// Tag, a length in one octet too many, value: BER, and no DER.
#[must_use]
pub fn tlv_long(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let short = length(value.len());
    match short.split_first() {
        Some((first, rest)) if *first & 0x80 != 0 => {
            out.push(first + 1);
            out.push(0);
            out.extend_from_slice(rest);
        }
        _ => {
            out.push(0x81);
            out.extend(short);
        }
    }
    out.extend_from_slice(value);
    out
}

/// An indefinite length: BER, and no DER.
#[must_use]
pub fn tlv_indefinite(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, 0x80];
    out.extend_from_slice(value);
    out.extend([0, 0]);
    out
}

/// SEQUENCE.
#[must_use]
pub fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// SET OF in DER order.
#[must_use]
pub fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut sorted = parts.to_vec();
    sorted.sort();
    tlv(0x31, &sorted.concat())
}

/// SET in the order given.
#[must_use]
pub fn set_as_given(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

/// OBJECT IDENTIFIER from dotted text.
#[must_use]
pub fn oid(dotted: &str) -> Vec<u8> {
    let mut arcs = dotted.split('.').filter_map(|arc| arc.parse::<u64>().ok());
    let first = arcs.next().unwrap_or_default();
    let second = arcs.next().unwrap_or_default();
    let mut body = base128(first * 40 + second);
    for arc in arcs {
        body.extend(base128(arc));
    }
    tlv(0x06, &body)
}

fn base128(mut value: u64) -> Vec<u8> {
    let low = |value: u64| u8::try_from(value & 0x7f).unwrap_or_default();
    let mut octets = vec![low(value)];
    value >>= 7;
    while value > 0 {
        octets.push(0x80 | low(value));
        value >>= 7;
    }
    octets.reverse();
    octets
}

/// A small INTEGER.
#[must_use]
pub fn int(value: u8) -> Vec<u8> {
    uint(&[value])
}

/// A non-negative INTEGER from big-endian octets.
#[must_use]
pub fn uint(octets: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = octets
        .iter()
        .copied()
        .skip_while(|octet| *octet == 0)
        .collect();
    if body.first().is_none_or(|first| first & 0x80 != 0) {
        body.insert(0, 0);
    }
    tlv(0x02, &body)
}

/// OCTET STRING.
#[must_use]
pub fn octets(value: &[u8]) -> Vec<u8> {
    tlv(0x04, value)
}

/// BIT STRING without unused bits.
#[must_use]
pub fn bits(value: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], value].concat())
}

/// BOOLEAN.
#[must_use]
pub fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xff } else { 0 }])
}

/// NULL.
#[must_use]
pub fn null() -> Vec<u8> {
    vec![0x05, 0]
}

/// UTF8String.
#[must_use]
pub fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// PrintableString.
#[must_use]
pub fn printable(text: &str) -> Vec<u8> {
    tlv(0x13, text.as_bytes())
}

/// IA5String.
#[must_use]
pub fn ia5(text: &str) -> Vec<u8> {
    tlv(0x16, text.as_bytes())
}

/// Context tag around a value, constructed.
#[must_use]
pub fn explicit(number: u8, value: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, value)
}

/// Context tag in place of another, primitive.
#[must_use]
pub fn implicit(number: u8, value: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, value)
}

/// Time as certificates write it: UTCTime through 2049, GeneralizedTime after.
#[must_use]
pub fn time(at: time::OffsetDateTime) -> Vec<u8> {
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if (1950..2050).contains(&at.year()) {
        tlv(0x17, format!("{:02}{rest}", at.year() % 100).as_bytes())
    } else {
        tlv(0x18, format!("{:04}{rest}", at.year()).as_bytes())
    }
}

/// The value inside the outermost tag, for building a wrong variant of something right. Nothing if
/// it is no definite-length element.
#[must_use]
pub fn inside(der: &[u8]) -> Option<&[u8]> {
    let first = *der.get(1)?;
    let header = if first < 0x80 {
        2
    } else {
        2 + usize::from(first & 0x7f)
    };
    der.get(header..)
}

/// Splits the content of a constructed element into its elements.
#[must_use]
pub fn elements(mut content: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some(&first) = content.get(1) {
        let (header, length) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            let count = usize::from(first & 0x7f);
            let Some(octets) = content.get(2..2 + count) else {
                break;
            };
            let length = octets
                .iter()
                .fold(0_usize, |length, octet| length << 8 | usize::from(*octet));
            (2 + count, length)
        };
        let Some((part, rest)) = content.split_at_checked(header + length) else {
            break;
        };
        parts.push(part.to_vec());
        content = rest;
    }
    parts
}
