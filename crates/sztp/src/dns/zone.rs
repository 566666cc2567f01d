//! Records as lines of a zone file, for the owner's DNS server.

use super::message::labels_of;
use super::{Artefacts, Error, Question};

/// Largest content of a record.
pub const RDATA_MAX_BYTES: usize = 65_535;
/// Longest character-string of a TXT record.
const STRING_MAX_BYTES: usize = 255;
/// Seconds for which resolvers keep the records of a device: a change gets through within it.
const TXT_TTL_SECONDS: u32 = 3600;
const SRV_TTL_SECONDS: u32 = 1800;
/// Most lines of a zone that are looked at.
const LINES_MAX: usize = 10_000;

/// The TXT records of a device, for a zone file.
///
/// # Errors
///
/// [`Error::Name`] for names that DNS does not take, [`Error::Incomplete`] for artefacts that do
/// not go together, [`Error::NotBinary`] for one that is not DER, [`Error::ArtefactTooLarge`]
/// for one that no record holds.
pub fn txt_zone(serial: &str, domain: &str, artefacts: &Artefacts) -> Result<String, Error> {
    // Refuses the names that cannot be asked for.
    Question::device(serial, domain)?;
    artefacts.check()?;
    let owner = format!("{}._sztp.{}", escaped_label(serial), absolute(domain));
    let mut zone = String::new();
    for (key, value) in artefacts.pairs() {
        // SZTP-8572-4.2.2-02: the value being the binary artifact.
        if value.first() != Some(&0x30) {
            return Err(Error::NotBinary(key));
        }
        let mut content = format!("{key}=").into_bytes();
        content.extend_from_slice(value);
        let lengths = content.len().div_ceil(STRING_MAX_BYTES);
        // SZTP-8572-4.2.4-01: all resource records have an upper size limit of 65535 bytes.
        if content.len() + lengths > RDATA_MAX_BYTES {
            return Err(Error::ArtefactTooLarge {
                key,
                size: value.len(),
            });
        }
        zone.push_str(&format!("{owner} {TXT_TTL_SECONDS} IN TXT (\n"));
        for string in content.chunks(STRING_MAX_BYTES) {
            zone.push_str("  \"");
            for octet in string {
                push_octet(&mut zone, *octet);
            }
            zone.push_str("\"\n");
        }
        zone.push_str(")\n");
    }
    Ok(zone)
}

/// The SRV records of a domain, for a zone file: the servers in the order in which devices are
/// to try them. Addresses cannot be targets.
///
/// # Errors
///
/// [`Error::Name`] for a domain or host that is no name.
pub fn service_zone(domain: &str, servers: &[(String, u16)]) -> Result<String, Error> {
    Question::service(domain)?;
    let mut zone = String::new();
    for (priority, (host, port)) in servers.iter().enumerate() {
        labels_of(host)?;
        if host.parse::<std::net::IpAddr>().is_ok() {
            return Err(Error::Name {
                name: host.clone(),
                reason: "the target of an SRV record is a name, not an address",
            });
        }
        zone.push_str(&format!(
            "_sztp._tcp.{} {SRV_TTL_SECONDS} IN SRV {priority} 0 {port} {}\n",
            absolute(domain),
            absolute(host)
        ));
    }
    Ok(zone)
}

fn absolute(name: &str) -> String {
    format!("{}.", name.strip_suffix('.').unwrap_or(name))
}

/// A label in a zone file: what is special there is escaped.
fn escaped_label(label: &str) -> String {
    let mut out = String::new();
    for octet in label.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("\\{octet:03}"));
        }
    }
    out
}

fn push_octet(zone: &mut String, octet: u8) {
    match octet {
        b'"' | b'\\' => {
            zone.push('\\');
            zone.push(char::from(octet));
        }
        b' '..=b'~' => zone.push(char::from(octet)),
        _ => zone.push_str(&format!("\\{octet:03}")),
    }
}

/// A record of a zone and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The record's owner name as it was written.
    pub name: String,
    /// `TXT` or `SRV`.
    pub record_type: &'static str,
    /// What it says: a key with a size, or priority, weight, port and target.
    pub content: String,
    /// The value of a TXT record.
    pub value: Option<(String, Vec<u8>)>,
    /// Codes and sentences.
    pub mistakes: Vec<(&'static str, String)>,
}

/// Reads the TXT and SRV records in lines of a zone file or of `dig`'s answer, and says what a
/// device would not take. Other records are passed over.
#[must_use]
pub fn inspect_zone(text: &str) -> Vec<Finding> {
    let mut out = Vec::new();
    for tokens in lines(text) {
        let kind = tokens
            .iter()
            .position(|token| !token.quoted && matches!(token.text().as_str(), "TXT" | "SRV"));
        let Some(at) = kind.filter(|at| *at > 0) else {
            continue;
        };
        let (head, rest) = tokens.split_at(at);
        let (Some(owner), Some((kind, data))) = (head.first(), rest.split_first()) else {
            continue;
        };
        let name = String::from_utf8_lossy(&owner.octets).into_owned();
        out.push(if kind.text() == "TXT" {
            txt_finding(name, data)
        } else {
            srv_finding(name, data)
        });
    }
    out
}

fn txt_finding(name: String, data: &[Token]) -> Finding {
    let mut mistakes = Vec::new();
    let lower = name.to_ascii_lowercase();
    let below = lower.split_once("._sztp").map(|(_, rest)| rest);
    if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        mistakes.push((
            "dns.owner-name",
            "TXT records are at <serial-number>._sztp.<domain>".to_owned(),
        ));
    }
    if data
        .iter()
        .any(|token| token.octets.len() > STRING_MAX_BYTES)
    {
        mistakes.push((
            "dns.string-too-long",
            "a character-string has 255 octets at most: split the value".to_owned(),
        ));
    }
    let content: Vec<u8> = data.iter().flat_map(|token| token.octets.clone()).collect();
    let at = content.iter().position(|octet| *octet == b'=');
    let (key, value) = match at {
        Some(at) => {
            let (key, value) = content.split_at(at);
            let key = String::from_utf8_lossy(key).to_ascii_lowercase();
            (key, value.get(1..).unwrap_or_default().to_vec())
        }
        None => (String::new(), content.clone()),
    };
    if !matches!(key.as_str(), "ci" | "oc" | "ov") {
        mistakes.push((
            "dns.key",
            "devices take the keys ci, oc and ov and ignore all others".to_owned(),
        ));
    } else if value.first() != Some(&0x30) {
        let text = value.iter().all(u8::is_ascii_graphic);
        let why = if value.is_empty() {
            "there is no value"
        } else if text {
            "the value is text (base64 or hexadecimal?) where the binary artefact belongs"
        } else {
            "the value is no DER"
        };
        mistakes.push(("dns.not-binary", why.to_owned()));
    }
    if content.len() + data.len() > RDATA_MAX_BYTES {
        mistakes.push((
            "dns.artefact-too-large",
            "a record has 65535 octets at most".to_owned(),
        ));
    }
    Finding {
        name,
        record_type: "TXT",
        content: format!("{key}, {} octets", value.len()),
        value: Some((key, value)),
        mistakes,
    }
}

fn srv_finding(name: String, data: &[Token]) -> Finding {
    let mut mistakes = Vec::new();
    let lower = name.to_ascii_lowercase();
    if lower != "_sztp._tcp" && !lower.starts_with("_sztp._tcp.") {
        mistakes.push((
            "dns.owner-name",
            "SRV records are at _sztp._tcp.<domain>".to_owned(),
        ));
    }
    let fields: Vec<String> = data.iter().map(Token::text).collect();
    let numbers: Option<Vec<u16>> = fields
        .iter()
        .take(3)
        .map(|field| field.parse().ok())
        .collect();
    match (numbers.as_deref(), fields.get(3)) {
        (Some([_, _, port]), Some(target)) => {
            if target == "." {
                mistakes.push((
                    "dns.no-service",
                    "the target . says that there is no bootstrap server".to_owned(),
                ));
            } else if *port == 0 {
                mistakes.push(("dns.port", "the port is 0".to_owned()));
            }
            let bare = target.strip_suffix('.').unwrap_or(target);
            if bare.parse::<std::net::IpAddr>().is_ok() {
                mistakes.push((
                    "dns.target",
                    "the target is an address, and has to be a name".to_owned(),
                ));
            }
        }
        _ => mistakes.push((
            "dns.record",
            "priority, weight, port and target belong here".to_owned(),
        )),
    }
    Finding {
        name,
        record_type: "SRV",
        content: fields.join(" "),
        value: None,
        mistakes,
    }
}

#[derive(Clone, Debug, Default)]
struct Token {
    octets: Vec<u8>,
    quoted: bool,
}

impl Token {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets).into_owned()
    }
}

/// Tokens of each entry of a zone file; parentheses join lines, `;` begins a comment.
fn lines(text: &str) -> Vec<Vec<Token>> {
    let mut out = Vec::new();
    let mut entry: Vec<Token> = Vec::new();
    let mut token: Option<Token> = None;
    let mut open = 0_usize;
    let mut quoted = false;
    let mut comment = false;
    let mut rest = text.as_bytes();
    while let [octet, tail @ ..] = rest {
        rest = tail;
        if comment {
            comment = *octet != b'\n';
            if comment {
                continue;
            }
        }
        match octet {
            b'\\' => {
                let (value, tail) = unescape(rest);
                rest = tail;
                token.get_or_insert_default().octets.extend(value);
            }
            b'"' if quoted => {
                quoted = false;
                entry.extend(token.take());
            }
            b'"' => {
                entry.extend(token.take());
                quoted = true;
                token = Some(Token {
                    octets: Vec::new(),
                    quoted: true,
                });
            }
            octet if quoted => token.get_or_insert_default().octets.push(*octet),
            b';' => comment = true,
            b'(' => open += 1,
            b')' => {
                entry.extend(token.take());
                open = open.saturating_sub(1);
            }
            b'\n' if open == 0 => {
                entry.extend(token.take());
                if !entry.is_empty() {
                    out.push(std::mem::take(&mut entry));
                }
                if out.len() >= LINES_MAX {
                    return out;
                }
            }
            octet if octet.is_ascii_whitespace() => entry.extend(token.take()),
            octet => token.get_or_insert_default().octets.push(*octet),
        }
    }
    entry.extend(token);
    if !entry.is_empty() {
        out.push(entry);
    }
    out
}

/// What stands behind a backslash: three decimal digits, or any octet itself.
fn unescape(rest: &[u8]) -> (Option<u8>, &[u8]) {
    if let Some((digits, tail)) = rest.split_at_checked(3)
        && digits.iter().all(u8::is_ascii_digit)
    {
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok());
        return (number, tail);
    }
    match rest {
        [octet, tail @ ..] => (Some(*octet), tail),
        [] => (None, rest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unsigned(size: usize) -> Artefacts {
        let mut value = vec![0x30];
        value.extend((1..size).map(|n| u8::try_from(n % 256).unwrap()));
        Artefacts {
            conveyed_information: Some(value),
            ..Artefacts::default()
        }
    }

    /// Requirements: SZTP-8572-4.2.2-02, SZTP-8572-4.2.2-03, SZTP-6763-6.3-01,
    /// SZTP-8572-4.2.4-01
    #[test]
    fn artefacts_are_written_as_strings_of_255_octets() {
        let zone = txt_zone("SN.1", "example.com", &unsigned(600)).unwrap();
        assert!(zone.starts_with("SN\\0461._sztp.example.com. 3600 IN TXT (\n  \"ci=0\\001"));
        let found = inspect_zone(&zone);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].content, "ci, 600 octets");
        assert!(found[0].mistakes.is_empty(), "{found:?}");
        assert_eq!(
            found[0].value.as_ref().unwrap().1,
            unsigned(600).conveyed_information.unwrap()
        );
        assert!(matches!(
            txt_zone("SN", "example.com", &unsigned(65_400)),
            Err(Error::ArtefactTooLarge {
                key: "ci",
                size: 65_400
            })
        ));
        let text = Artefacts {
            conveyed_information: Some(b"MIIB".to_vec()),
            ..Artefacts::default()
        };
        assert_eq!(
            txt_zone("SN", "example.com", &text),
            Err(Error::NotBinary("ci"))
        );
        assert!(txt_zone(&"x".repeat(64), "example.com", &unsigned(5)).is_err());
        assert!(txt_zone("SN", "exa mple", &unsigned(5)).is_err());
    }

    /// Requirements: SZTP-8572-10.6-01, SZTP-8572-4.2.3-01
    #[test]
    fn servers_are_written_in_order_of_priority() {
        let servers = [
            ("a.example.com".to_owned(), 443),
            ("b.example.com.".to_owned(), 8443),
        ];
        assert_eq!(
            service_zone("example.com", &servers).unwrap(),
            "_sztp._tcp.example.com. 1800 IN SRV 0 0 443 a.example.com.\n\
             _sztp._tcp.example.com. 1800 IN SRV 1 0 8443 b.example.com.\n"
        );
        assert!(service_zone("example.com", &[("10.0.0.1".to_owned(), 443)]).is_err());
    }

    #[test]
    fn what_a_device_would_not_take_is_named() {
        let cases = [
            ("s._sztp.example.com. IN TXT \"ci=MIIB\"", "dns.not-binary"),
            ("s._sztp.example.com. IN TXT \"xx=0\"", "dns.key"),
            ("s.example.com. 60 IN TXT \"ci=0\"", "dns.owner-name"),
            (
                "_sztp._udp.example.com. IN SRV 0 0 443 a.",
                "dns.owner-name",
            ),
            ("_sztp._tcp.example.com. IN SRV 0 0 443 .", "dns.no-service"),
            ("_sztp._tcp.example.com. IN SRV 0 0 0 a.", "dns.port"),
            (
                "_sztp._tcp.example.com. IN SRV 0 0 443 10.0.0.1.",
                "dns.target",
            ),
            ("_sztp._tcp.example.com. IN SRV 443 a.", "dns.record"),
            ("_sztp._tcp.example.com. 1800 IN SRV 0 0 443 a. ; fine", ""),
            (
                "s._sztp.example.com. 3600 IN TXT ( \"oc=\\048\" \"\\000\" )",
                "",
            ),
        ];
        for (line, code) in cases {
            let found = inspect_zone(line);
            assert_eq!(found.len(), 1, "{line}");
            let codes: Vec<_> = found[0].mistakes.iter().map(|(code, _)| *code).collect();
            assert_eq!(codes.join(" "), code, "{line}");
        }
        assert!(inspect_zone("; nothing\n$ORIGIN example.com.\n@ IN A 10.0.0.1\n").is_empty());
    }

    proptest! {
        /// Requirements: SZTP-6763-6.5-01
        #[test]
        fn any_octets_survive_the_zone_file(tail in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut value = vec![0x30];
            value.extend(tail);
            let artefacts = Artefacts {
                conveyed_information: Some(value.clone()),
                ..Artefacts::default()
            };
            let zone = txt_zone("S", "e.x", &artefacts).unwrap();
            let found = inspect_zone(&zone);
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&found[0].value.as_ref().unwrap().1, &value);
        }

        #[test]
        fn no_text_fails_badly(text in "\\PC{0,200}") {
            let _ = inspect_zone(&text);
        }
    }
}
