//! CBOR by hand.

/// A head: major type and argument in the fewest octets.
#[must_use]
pub fn head(major: u8, argument: u64) -> Vec<u8> {
    let octets = argument.to_be_bytes();
    let (info, count) = match argument {
        0..=23 => return vec![major << 5 | octets[7]],
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    let mut out = vec![major << 5 | info];
    out.extend(octets.iter().skip(8 - count));
    out
}

/// A head in eight octets, whatever the argument: well-formed and not preferred.
#[must_use]
pub fn head_long(major: u8, argument: u64) -> Vec<u8> {
    let mut out = vec![major << 5 | 27];
    out.extend(argument.to_be_bytes());
    out
}

/// An integer.
#[must_use]
pub fn int(value: i64) -> Vec<u8> {
    match u64::try_from(value) {
        Ok(value) => head(0, value),
        Err(_) => head(1, value.unsigned_abs() - 1),
    }
}

/// A byte string.
#[must_use]
pub fn bytes(value: &[u8]) -> Vec<u8> {
    let mut out = head(2, value.len() as u64);
    out.extend_from_slice(value);
    out
}

/// A text string.
#[must_use]
pub fn text(value: &str) -> Vec<u8> {
    let mut out = head(3, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
    out
}

/// An array.
#[must_use]
pub fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = head(4, items.len() as u64);
    out.extend(items.concat());
    out
}

/// A map in the order given, duplicates and all.
#[must_use]
pub fn map(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = head(5, entries.len() as u64);
    for (key, value) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

/// A map of indefinite length.
#[must_use]
pub fn map_indefinite(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xbf];
    for (key, value) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out.push(0xff);
    out
}

/// A tag.
#[must_use]
pub fn tag(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = head(6, number);
    out.extend_from_slice(value);
    out
}

/// true or false.
#[must_use]
pub fn boolean(value: bool) -> Vec<u8> {
    vec![if value { 0xf5 } else { 0xf4 }]
}

/// null.
#[must_use]
pub fn null() -> Vec<u8> {
    vec![0xf6]
}
