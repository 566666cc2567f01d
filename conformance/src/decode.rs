//! Octets for people: JSON, DER and CBOR as an outline, text as text.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Lines of an outline.
const LINES_MAX: usize = 400;
/// Nesting of an outline.
const DEPTH_MAX: usize = 24;

/// What some octets are, in lines.
#[must_use]
pub fn describe(octets: &[u8]) -> String {
    if octets.is_empty() {
        return "(empty)".into();
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(octets) {
        return serde_json::to_string_pretty(&value).unwrap_or_default();
    }
    if octets.first() == Some(&0x30)
        && let Some(outline) = der(octets)
    {
        return outline;
    }
    let text = String::from_utf8_lossy(octets);
    let bare: String = text.split_whitespace().collect();
    if let Ok(inner) = STANDARD.decode(&bare)
        && inner.first() == Some(&0x30)
        && let Some(outline) = der(&inner)
    {
        return format!("base64 of\n{outline}");
    }
    let printable = text
        .chars()
        .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    if printable && !text.contains('\u{fffd}') {
        return text.into_owned();
    }
    if let Ok(value) = ciborium::from_reader::<ciborium::Value, _>(octets) {
        return format!("CBOR {value:?}");
    }
    format!("{} octets of binary", octets.len())
}

/// An outline of DER, or none if it is not even nested lengths.
#[must_use]
pub fn der(octets: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut lines = 0;
    outline(octets, 0, &mut text, &mut lines)?;
    Some(text)
}

fn outline(mut octets: &[u8], depth: usize, text: &mut String, lines: &mut usize) -> Option<()> {
    while let Some((&tag, rest)) = octets.split_first() {
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (number, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if number.is_empty() || number.len() > 4 {
                return None;
            }
            let length = number
                .iter()
                .fold(0_usize, |length, octet| length << 8 | usize::from(*octet));
            (length, rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        octets = rest;
        *lines += 1;
        if *lines > LINES_MAX {
            return Some(());
        }
        let indent = "  ".repeat(depth);
        // Writing to a string does not fail.
        let _ = write!(text, "{indent}{}", tag_name(tag));
        if tag & 0x20 != 0 && depth < DEPTH_MAX {
            text.push('\n');
            let before = text.len();
            if outline(value, depth + 1, text, lines).is_none() {
                text.truncate(before);
                let _ = writeln!(text, "{indent}  {}", short(value));
            }
        } else {
            let _ = writeln!(text, " {}", primitive(tag, value));
        }
    }
    Some(())
}

fn tag_name(tag: u8) -> String {
    match tag {
        0x01 => "BOOLEAN".into(),
        0x02 => "INTEGER".into(),
        0x03 => "BIT STRING".into(),
        0x04 => "OCTET STRING".into(),
        0x05 => "NULL".into(),
        0x06 => "OID".into(),
        0x0c => "UTF8String".into(),
        0x13 => "PrintableString".into(),
        0x16 => "IA5String".into(),
        0x17 => "UTCTime".into(),
        0x18 => "GeneralizedTime".into(),
        0x30 => "SEQUENCE".into(),
        0x31 => "SET".into(),
        tag if tag & 0xc0 == 0x80 => format!("[{}]", tag & 0x1f),
        tag => format!("tag {tag:#04x}"),
    }
}

fn primitive(tag: u8, value: &[u8]) -> String {
    match tag {
        0x06 => dotted(value),
        0x0c | 0x13 | 0x16 | 0x17 | 0x18 => String::from_utf8_lossy(value).into_owned(),
        _ => short(value),
    }
}

fn short(value: &[u8]) -> String {
    const SHOWN_MAX: usize = 64;
    let readable = value.len() > 3
        && std::str::from_utf8(value)
            .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()));
    if readable {
        const TEXT_MAX: usize = 2000;
        return String::from_utf8_lossy(value)
            .chars()
            .take(TEXT_MAX)
            .collect();
    }
    let shown = value.get(..SHOWN_MAX).unwrap_or(value);
    let dots = if shown.len() < value.len() { "…" } else { "" };
    format!("{}{dots} ({} octets)", hex::encode(shown), value.len())
}

fn dotted(value: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for octet in value {
        arc = arc << 7 | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - first * 40]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    let arcs: Vec<String> = arcs.iter().map(u64::to_string).collect();
    arcs.join(".")
}
