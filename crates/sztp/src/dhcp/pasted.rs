//! What somebody pastes: the octets of an option in any form that tools, logs and configuration
//! files show them in.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::{Error, Family};

/// Most octets of input that are looked at.
pub const INPUT_MAX_BYTES: usize = 16 * 1024;

/// Octets and where they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pasted {
    pub(super) form: &'static str,
    pub(super) octets: Vec<u8>,
    /// DHCP version of the configuration line around it.
    pub(super) family: Option<Family>,
    /// Option code in the configuration line around it.
    pub(super) code: Option<u16>,
}

/// Takes the armour off.
pub(super) fn read(input: &[u8]) -> Result<Pasted, Error> {
    if input.len() > INPUT_MAX_BYTES {
        return Err(Error::InputTooLong(input.len()));
    }
    let pasted = |form, octets| Pasted {
        form,
        octets,
        family: None,
        code: None,
    };
    let text = match std::str::from_utf8(input) {
        Ok(text) if !text.bytes().any(is_binary) => text.trim(),
        _ => return Ok(pasted("octets", input.to_vec())),
    };
    let line = configuration(text);
    let value = line.value.trim().trim_end_matches(';').trim();
    let quoted = unquoted(value);
    let found = if value.contains("\\x") {
        escaped(quoted).map(|octets| ("escaped", octets))
    } else if quoted.contains("://") || is_ipv4_text(quoted) {
        Some(("text", quoted.as_bytes().to_vec()))
    } else {
        None
    };
    let (form, octets) = found
        .or_else(|| hexadecimal(quoted))
        .or_else(|| decimal(quoted).map(|octets| ("decimal", octets)))
        .or_else(|| in_base64(quoted).map(|octets| ("base64", octets)))
        .or_else(|| is_host_text(quoted).then(|| ("text", quoted.as_bytes().to_vec())))
        .ok_or(Error::Input)?;
    Ok(Pasted {
        form,
        octets,
        family: line.family,
        code: line.code,
    })
}

fn is_binary(octet: u8) -> bool {
    octet.is_ascii_control() && !matches!(octet, b'\n' | b'\r' | b'\t')
}

struct Line<'a> {
    value: &'a str,
    family: Option<Family>,
    code: Option<u16>,
}

/// The value in a line of a known configuration, and what the line says about the option.
fn configuration(text: &str) -> Line<'_> {
    // Kea: { "code": 143, "space": "dhcp4", "data": "0019…" }
    if let Some(value) = json_member(text, "\"data\"") {
        let code = json_member(text, "\"code\"").and_then(leading_number);
        let family = match json_member(text, "\"space\"").map(unquoted) {
            Some("dhcp4") => Some(Family::V4),
            Some("dhcp6") => Some(Family::V6),
            _ => None,
        };
        return Line {
            value,
            family,
            code,
        };
    }
    // dnsmasq: dhcp-option=143,00:19:… and dhcp-option=option6:136,00:19:…
    let bare = text.trim_start_matches('-');
    let dnsmasq = ["dhcp-option-force", "dhcp-option"]
        .into_iter()
        .find_map(|name| bare.strip_prefix(name));
    if let Some((head, value)) = dnsmasq.and_then(|rest| rest.split_once(',')) {
        let head = head.trim_start_matches(['=', ' ']);
        let (family, number) = match head.strip_prefix("option6:") {
            Some(number) => (Family::V6, number),
            None => (Family::V4, head.strip_prefix("option:").unwrap_or(head)),
        };
        return Line {
            value,
            family: Some(family),
            code: leading_number(number),
        };
    }
    // IOS: option 143 hex 0019.6874… and Junos: … option 143 hex-string 00196874…
    for keyword in [" hex-string ", " hex "] {
        if let Some((head, value)) = text.split_once(keyword) {
            let family = match head {
                head if head.contains("inet6") => Family::V6,
                _ => Family::V4,
            };
            return Line {
                value,
                family: Some(family),
                code: head.rsplit(' ').next().and_then(leading_number),
            };
        }
    }
    // ISC: option NAME 0:19:…; and of a lease file: option unknown-143 0:19:…;
    if let Some((name, value)) = text
        .strip_prefix("option ")
        .and_then(|rest| rest.trim_start().split_once(' '))
    {
        let v6 = name.starts_with("dhcp6.");
        let number = name.rsplit_once("unknown-").map(|(_, number)| number);
        return Line {
            value,
            family: v6.then_some(Family::V6),
            code: number.and_then(leading_number),
        };
    }
    Line {
        value: text,
        family: None,
        code: None,
    }
}

/// What stands behind the colon of a member, up to the comma or brace that ends it.
fn json_member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(name)?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        return quoted.split('"').next();
    }
    rest.split([',', '}', '\n']).next().map(str::trim)
}

fn leading_number(text: &str) -> Option<u16> {
    let digits = text.trim().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

/// `\x00\x19https://…`, as C and shells write octets.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let [b'x', tail @ ..] = tail
            && *first == b'\\'
        {
            let (digits, tail) = tail.split_at_checked(2)?;
            out.extend(hex::decode(digits).ok()?);
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    Some(out)
}

/// Hexadecimal in groups of any size. A single digit between separators is an octet, as ISC's
/// lease files have it.
pub(super) fn hexadecimal(text: &str) -> Option<(&'static str, Vec<u8>)> {
    let mut digits = String::new();
    let mut groups = 0_usize;
    let is_separator = |c: char| matches!(c, ':' | '-' | '.' | ',' | '_') || c.is_whitespace();
    for group in text.split(is_separator).filter(|group| !group.is_empty()) {
        let group = group
            .strip_prefix("0x")
            .or_else(|| group.strip_prefix("0X"))
            .unwrap_or(group);
        groups += 1;
        if group.len() == 1 {
            digits.push('0');
        }
        digits.push_str(group);
    }
    if digits.is_empty() || (groups == 1 && digits.len() < 4) {
        return None;
    }
    let octets = hex::decode(&digits).ok()?;
    let form = match text {
        text if groups > 1 && text.contains('.') => "hex-dotted",
        text if text.contains(':') => "hex-colons",
        _ => "hex",
    };
    Some((form, octets))
}

/// Decimal numbers of octets, some with three digits, so that they are no hexadecimal.
fn decimal(text: &str) -> Option<Vec<u8>> {
    let groups: Vec<&str> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|group| !group.is_empty())
        .collect();
    if groups.len() < 4 {
        return None;
    }
    groups.iter().map(|group| group.parse().ok()).collect()
}

/// Base64 of something that has to do with URIs; other words are base64 by accident.
fn in_base64(text: &str) -> Option<Vec<u8>> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let octets = STANDARD
        .decode(&compact)
        .or_else(|_| STANDARD_NO_PAD.decode(&compact))
        .ok()?;
    let plausible = matches!(octets.first(), Some(0 | 136 | 143))
        || octets.windows(3).any(|three| three == b"://");
    plausible.then_some(octets)
}

/// An IPv4 address, with or without a port: its digits would pass for hexadecimal.
fn is_ipv4_text(text: &str) -> bool {
    let host = text.split(':').next().unwrap_or_default();
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// `host`, `host:port` or `host/path`, as agents that want no URI are told their server.
fn is_host_text(text: &str) -> bool {
    let host = text.split(['/', ':']).next().unwrap_or_default();
    host.contains('.')
        && text.bytes().all(|octet| octet.is_ascii_graphic())
        && host
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_octets_is_read() {
        let octets = b"\x00\x0bhttps://a.b".to_vec();
        let cases: &[(&str, &str)] = &[
            ("000b68747470733a2f2f612e62", "hex"),
            ("0x000b68747470733a2f2f612e62", "hex"),
            ("000B 6874 7470 733A 2F2F 612E 62", "hex"),
            (
                "0x00 0x0b 0x68 0x74 0x74 0x70 0x73 0x3a 0x2f 0x2f 0x61 0x2e 0x62",
                "hex",
            ),
            ("00:0b:68:74:74:70:73:3a:2f:2f:61:2e:62", "hex-colons"),
            ("0:b:68:74:74:70:73:3a:2f:2f:61:2e:62", "hex-colons"),
            ("000b.6874.7470.733a.2f2f.612e.62", "hex-dotted"),
            ("AAtodHRwczovL2EuYg==", "base64"),
            ("AAtodHRwczovL2EuYg", "base64"),
            (
                "0, 11, 104, 116, 116, 112, 115, 58, 47, 47, 97, 46, 98",
                "decimal",
            ),
            ("\\x00\\x0bhttps://a.b", "escaped"),
            (
                "option 143 hex 000b.6874.7470.733a.2f2f.612e.62",
                "hex-dotted",
            ),
            (
                "dhcp-option=143,00:0b:68:74:74:70:73:3a:2f:2f:61:2e:62",
                "hex-colons",
            ),
            (
                "option unknown-143 0:b:68:74:74:70:73:3a:2f:2f:61:2e:62;",
                "hex-colons",
            ),
            (
                "{ \"code\": 143, \"data\": \"000b68747470733a2f2f612e62\" }",
                "hex",
            ),
        ];
        for (text, form) in cases {
            let pasted = read(text.as_bytes()).unwrap();
            assert_eq!(
                (pasted.octets, pasted.form),
                (octets.clone(), *form),
                "{text}"
            );
        }
        assert_eq!(read(&octets).unwrap().form, "octets");
        assert_eq!(read(b"https://a.b").unwrap().form, "text");
        assert_eq!(read(b"10.0.0.1:8443").unwrap().form, "text");
        assert_eq!(read(b"boot.example.com:8443").unwrap().form, "text");
        for junk in ["", "hello", "what is this?", "zz:zz"] {
            assert_eq!(read(junk.as_bytes()), Err(Error::Input), "{junk}");
        }
        assert_eq!(
            read(&[b'0'; INPUT_MAX_BYTES + 1]),
            Err(Error::InputTooLong(INPUT_MAX_BYTES + 1))
        );
    }

    #[test]
    fn configuration_lines_say_which_option_they_are_of() {
        let cases: &[(&str, Option<Family>, Option<u16>)] = &[
            ("dhcp-option=option6:136,00:0b", Some(Family::V6), Some(136)),
            ("dhcp-option=136,00:0b", Some(Family::V4), Some(136)),
            ("option 143 hex 000b", Some(Family::V4), Some(143)),
            (
                "set access address-assignment pool p family inet6 dhcp-attributes option 143 hex-string 000b",
                Some(Family::V6),
                Some(143),
            ),
            (
                "{\"code\":136, \"space\":\"dhcp6\", \"data\":\"000b\"}",
                Some(Family::V6),
                Some(136),
            ),
            ("000b", None, None),
        ];
        for (text, family, code) in cases {
            let pasted = read(text.as_bytes()).unwrap();
            assert_eq!((pasted.family, pasted.code), (*family, *code), "{text}");
        }
    }
}
