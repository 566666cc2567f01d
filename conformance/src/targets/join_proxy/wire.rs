//! JPY messages, written and read by hand.

use ciborium::Value;

use crate::{
    oracle::agree,
    outcome::{Finding, must},
};

/// A JPY message with these two byte strings.
pub(super) fn jpy(header: &[u8], content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82];
    bytes(&mut out, header);
    bytes(&mut out, content);
    out
}

/// A byte string.
pub(super) fn bytes(out: &mut Vec<u8>, octets: &[u8]) {
    let length = octets.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..=23), _) => out.push(0x40 | length),
        (Ok(length), _) => out.extend([0x58, length]),
        (_, Ok(length)) => {
            out.push(0x59);
            out.extend(length.to_be_bytes());
        }
        _ => {
            out.push(0x5b);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(octets);
}

/// Header and content of a message, by two parsers.
pub(super) fn read(octets: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Finding> {
    let by_hand = by_hand(octets);
    let theirs = by_ciborium(octets);
    let (ours, theirs) = agree(
        by_hand.ok_or("it is no array of two byte strings"),
        theirs.ok_or("it is no array of two byte strings"),
        "what the proxy sent to the registrar is no JPY message",
    )?;
    must(
        ours == theirs,
        "the two parsers of the suite read other octets",
    )
    .map_err(|finding| Finding::could_not_test(finding.why))?;
    Ok(ours)
}

fn by_hand(octets: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (first, rest) = octets.split_first()?;
    if !(0x82..=0x97).contains(first) {
        return None;
    }
    let (header, rest) = string(rest)?;
    let (content, _) = string(rest)?;
    Some((header.to_vec(), content.to_vec()))
}

fn string(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = octets.split_first()?;
    let (length, rest) = match first {
        0x40..=0x57 => (usize::from(first & 0x1f), rest),
        0x58 => rest
            .split_first()
            .map(|(one, rest)| (usize::from(*one), rest))?,
        0x59 => rest
            .split_first_chunk::<2>()
            .map(|(two, rest)| (usize::from(u16::from_be_bytes(*two)), rest))?,
        0x5a => rest.split_first_chunk::<4>().and_then(|(four, rest)| {
            Some((usize::try_from(u32::from_be_bytes(*four)).ok()?, rest))
        })?,
        0x5b => rest.split_first_chunk::<8>().and_then(|(eight, rest)| {
            Some((usize::try_from(u64::from_be_bytes(*eight)).ok()?, rest))
        })?,
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn by_ciborium(octets: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let value: Value = ciborium::from_reader(octets).ok()?;
    let list = value.into_array().ok()?;
    let mut list = list.into_iter();
    let header = list.next()?.into_bytes().ok()?;
    let content = list.next()?.into_bytes().ok()?;
    Some((header, content))
}

/// What a registrar may not send, and a proxy has to survive.
pub(super) fn malformed(header: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let content = b"malformed";
    let good = jpy(header, content);
    let mut one = vec![0x81];
    bytes(&mut one, header);
    let mut text = vec![0x82, 0x78, u8::try_from(header.len()).unwrap_or_default()];
    text.extend_from_slice(header);
    bytes(&mut text, content);
    let mut map = vec![0xa1];
    bytes(&mut map, header);
    bytes(&mut map, content);
    let mut number = vec![0x82];
    bytes(&mut number, header);
    number.push(0x07);
    vec![
        ("an empty array", vec![0x80]),
        ("an array of the header alone", one),
        ("a header that is text", text),
        ("a content that is a number", number),
        ("a map", map),
        (
            "a message without its last octet",
            good[..good.len() - 1].to_vec(),
        ),
        ("one octet", vec![0x82]),
        (
            "a byte string that says it is endless",
            [&[0x82, 0x5b], [0xff; 8].as_slice()].concat(),
        ),
        ("arrays nested a thousand deep", vec![0x82; 1000]),
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            "DTLS without JPY",
            vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        ),
    ]
}
