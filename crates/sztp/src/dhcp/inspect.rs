//! What is wrong with an option, in words that say how to mend it.

use pki::Coded;

use super::codec::{self, Entry, decode_list, v4_instances, v6_options};
use super::pasted::{self, Pasted};
use super::{BootstrapUri, Error, Family, UriFault, V4_INSTANCE_MAX_BYTES};

/// How much of an option was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The data alone.
    List,
    /// A whole DHCP message.
    Message,
    /// The option with its code and length, once or several times.
    Option,
}

impl Framing {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Message => "message",
            Self::Option => "option",
        }
    }
}

/// One departure from the standard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its stable code.
    pub code: &'static str,
    /// Where, and what.
    pub detail: String,
    /// What mends it.
    pub fix: &'static str,
    /// Whether a device that follows the standard is led astray by it, rather than only passing
    /// over one entry.
    pub fatal: bool,
}

/// What an option holds and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it was written: `hex`, `hex-colons`, `hex-dotted`, `base64`, `decimal`, `escaped`,
    /// `octets`, or `text` for a value that is the text itself.
    pub form: &'static str,
    /// What was around the list.
    pub framing: Framing,
    /// The DHCP version, where the input shows it.
    pub family: Option<Family>,
    /// How many instances of the option there are.
    pub instances: usize,
    /// The option's data.
    pub list: Vec<u8>,
    /// Its entries as a device reads them.
    pub entries: Vec<Entry>,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
    /// The URIs that were probably meant, where something is wrong.
    pub meant: Vec<BootstrapUri>,
}

impl Report {
    /// The URIs that a device which follows the standard tries, in order.
    #[must_use]
    pub fn usable(&self) -> Vec<BootstrapUri> {
        if self.mistakes.iter().any(|mistake| mistake.fatal) {
            return Vec::new();
        }
        self.entries
            .iter()
            .filter_map(|entry| entry.uri.clone().ok())
            .collect()
    }

    fn mistake(&mut self, code: &'static str, fix: &'static str, detail: impl Into<String>) {
        self.add(code, fix, detail.into(), true);
    }

    fn add(&mut self, code: &'static str, fix: &'static str, detail: String, fatal: bool) {
        // A list of a thousand wrong entries has the same few mistakes.
        if self.mistakes.len() < MISTAKES_MAX {
            self.mistakes.push(Mistake {
                code,
                detail,
                fix,
                fatal,
            });
        }
    }
}

/// Most mistakes that are listed.
const MISTAKES_MAX: usize = 40;

const FIX_ENCODE: &str = "write the value that `usher dhcp encode` prints";
const FIX_LENGTH: &str =
    "put the number of octets of each URI before it, as two octets with the higher one first";
const FIX_BINARY: &str = "configure the value as hexadecimal or binary, not as text";

/// Looks at what was pasted, whatever form it is in.
///
/// # Errors
///
/// [`Error::Input`] for what is no octets at all, [`Error::InputTooLong`] for too much.
pub fn inspect(input: &[u8]) -> Result<Report, Error> {
    inspect_as(input, None)
}

/// As [`inspect`], for an option that is known to be of this DHCP version.
///
/// # Errors
///
/// As [`inspect`].
pub fn inspect_as(input: &[u8], family: Option<Family>) -> Result<Report, Error> {
    let pasted = pasted::read(input)?;
    let mut report = Report {
        form: pasted.form,
        framing: Framing::List,
        family: family.or(pasted.family),
        instances: 1,
        list: Vec::new(),
        entries: Vec::new(),
        mistakes: Vec::new(),
        meant: Vec::new(),
    };
    if let (Some(family), Some(code)) = (report.family, pasted.code) {
        check_code(&mut report, family, code);
    } else if let Some(code) = pasted.code {
        report.family = match code {
            143 => Some(Family::V4),
            136 => Some(Family::V6),
            _ => None,
        };
    }
    let parts = unframe(&mut report, &pasted);
    report.instances = parts.len();
    report.list = parts.concat();
    let decoded = decode_list(&report.list);
    report.entries.clone_from(&decoded.entries);
    let cut = parts.len() > 1 && check_split(&mut report, &parts);
    if report.list.len() > codec::LIST_MAX_BYTES {
        let detail = format!("the list has {} octets", report.list.len());
        report.add(
            "dhcp.too-long",
            "name fewer servers: no DHCP message has room for this",
            detail,
            false,
        );
    }
    if !decoded.is_clean() && !cut {
        let list = report.list.clone();
        diagnose(&mut report, &list, decoded.left_over);
    }
    report.meant.dedup();
    if report.mistakes.is_empty() {
        report.meant.clear();
    }
    Ok(report)
}

fn check_code(report: &mut Report, family: Family, code: u16) {
    if code == family.code() {
        return;
    }
    let wanted = family.code();
    if matches!(code, 136 | 143) {
        report.mistake(
            "dhcp.option-swapped",
            "use 143 for DHCPv4 and 136 for DHCPv6",
            format!(
                "option {code} is the other DHCP version's: in DHCP{} it is {wanted}",
                family.name()
            ),
        );
    } else {
        report.mistake(
            "dhcp.option-code",
            "use 143 for DHCPv4 and 136 for DHCPv6",
            format!(
                "option {code} is not the SZTP redirect option, which is {wanted} in DHCP{}",
                family.name()
            ),
        );
    }
}

/// Takes messages and option headers off; what is left is the data, a part for each instance.
fn unframe(report: &mut Report, pasted: &Pasted) -> Vec<Vec<u8>> {
    let octets = pasted.octets.as_slice();
    if pasted.form == "text" || octets.is_empty() {
        return vec![octets.to_vec()];
    }
    if codec::is_v4_message(octets) {
        return v4_message(report, octets);
    }
    if let Some(options) = v6_message(octets) {
        report.framing = Framing::Message;
        report.family = Some(Family::V6);
        return v6_parts(report, &options);
    }
    if let Ok(options) = v6_options(octets)
        && matches!(options.first(), Some((136 | 143, _)))
    {
        report.framing = Framing::Option;
        report.family = Some(Family::V6);
        return v6_parts(report, &options);
    }
    // Code 136 or 143 in two octets, then a length that does not fit.
    if let [0, code @ (136 | 143), l0, l1, rest @ ..] = octets
        && begins_like_a_list(rest)
    {
        report.framing = Framing::Option;
        report.family = Some(Family::V6);
        check_code(report, Family::V6, u16::from(*code));
        option_length(report, usize::from(*l0) << 8 | usize::from(*l1), rest.len());
        return vec![rest.to_vec()];
    }
    v4_parts(report, octets)
}

fn option_length(report: &mut Report, said: usize, there: usize) {
    report.mistake(
        "dhcp.option-length",
        "the option's length is the number of octets behind it; DHCP servers write it themselves, so configure the data alone",
        format!("the option's length is {said}, but {there} octets follow"),
    );
}

fn v4_message(report: &mut Report, octets: &[u8]) -> Vec<Vec<u8>> {
    report.framing = Framing::Message;
    report.family = Some(Family::V4);
    match codec::v4_option(octets, codec::V4_CODE) {
        Ok(Some(data)) => return vec![data],
        Ok(None) => {}
        Err(error) => {
            report.mistake("dhcp.options", FIX_ENCODE, error.to_string());
            return vec![Vec::new()];
        }
    }
    if let Ok(Some(data)) = codec::v4_option(octets, 136)
        && decode_list(&data).is_clean()
    {
        check_code(report, Family::V4, 136);
        return vec![data];
    }
    absent(report, 143);
    vec![Vec::new()]
}

fn absent(report: &mut Report, code: u8) {
    report.mistake(
        "dhcp.option-absent",
        "configure the option for this network, and look whether the device asks for it",
        format!("the message has no option {code}"),
    );
}

/// The options of an octet string that is a DHCPv6 Advertise or Reply.
fn v6_message(octets: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let [2 | 7, _, _, _, rest @ ..] = octets else {
        return None;
    };
    let options = v6_options(rest).ok()?;
    // Options 1 and 2, the identifiers of client and server, are in each of them.
    options
        .iter()
        .any(|(code, _)| matches!(code, 1 | 2))
        .then_some(options)
}

fn v6_parts(report: &mut Report, options: &[(u16, &[u8])]) -> Vec<Vec<u8>> {
    let data = |wanted: u16| -> Vec<Vec<u8>> {
        options
            .iter()
            .filter(|(code, _)| *code == wanted)
            .map(|(_, data)| data.to_vec())
            .collect()
    };
    let mut parts = data(136);
    if parts.is_empty() {
        parts = data(143);
        if parts.is_empty() {
            absent(report, 136);
            return vec![Vec::new()];
        }
        check_code(report, Family::V6, 143);
    }
    if parts.len() > 1 {
        // SZTP-8572-8.2-04: The OPTION_V6_SZTP_REDIRECT option is a singleton.
        report.mistake(
            "dhcp.repeated",
            "put all URIs into one option 136: DHCPv6 options are never split",
            format!("option 136 is there {} times", parts.len()),
        );
    }
    parts
}

fn v4_parts(report: &mut Report, octets: &[u8]) -> Vec<Vec<u8>> {
    let whole = vec![octets.to_vec()];
    let [code, length, rest @ ..] = octets else {
        return whole;
    };
    let fits = usize::from(*length) == rest.len();
    match code {
        143 | 136 => {
            if let Ok(instances) = v4_instances(octets) {
                let parts: Vec<Vec<u8>> = instances
                    .iter()
                    .filter(|instance| instance.code == *code)
                    .map(|instance| instance.data.to_vec())
                    .collect();
                report.framing = Framing::Option;
                report.family = Some(Family::V4);
                check_code(report, Family::V4, u16::from(*code));
                return parts;
            }
            report.framing = Framing::Option;
            report.family = Some(Family::V4);
            check_code(report, Family::V4, u16::from(*code));
            option_length(report, usize::from(*length), rest.len());
            vec![rest.to_vec()]
        }
        code if fits && decode_list(rest).is_clean() => {
            report.framing = Framing::Option;
            report.family = Some(Family::V4);
            check_code(report, Family::V4, u16::from(*code));
            vec![rest.to_vec()]
        }
        _ => whole,
    }
}

/// Whether the octets look like a length of two octets and a URI, or like a URI.
fn begins_like_a_list(octets: &[u8]) -> bool {
    let tail = octets.get(2..).unwrap_or_default();
    is_uri_like(tail) || is_uri_like(octets)
}

fn is_uri_like(octets: &[u8]) -> bool {
    let head = octets.get(..octets.len().min(8)).unwrap_or_default();
    head.windows(3).any(|three| three == b"://")
}

/// Whether the pieces were cut so that the entries mean nothing.
fn check_split(report: &mut Report, parts: &[Vec<u8>]) -> bool {
    if report.family == Some(Family::V6) {
        return false;
    }
    // SZTP-8572-8.1-06: If the length of 'bootstrap-server-list' is small enough to fit into a
    // single instance of OPTION_V4_SZTP_REDIRECT, the server MUST NOT send more than one.
    let total: usize = parts.iter().map(Vec::len).sum();
    if total <= V4_INSTANCE_MAX_BYTES {
        let detail = format!("{} instances carry {total} octets", parts.len());
        report.add(
            "dhcp.split-needless",
            "write one option: up to 255 octets fit into it, and several options are one list that was split",
            detail,
            false,
        );
    }
    // A length before each piece of one URI makes entries of the pieces.
    let chunks: Option<Vec<&[u8]>> = parts
        .iter()
        .map(|part| {
            let [high, low, tail @ ..] = part.as_slice() else {
                return None;
            };
            let said = usize::from(*high) << 8 | usize::from(*low);
            (said == tail.len()).then_some(tail)
        })
        .collect();
    let Some(chunks) = chunks else { return false };
    let cut = chunks.iter().skip(1).any(|chunk| !is_uri_like(chunk));
    if cut {
        report.mistake(
            "dhcp.split-length",
            "split the encoded list as it is: only URIs have lengths, the pieces of a split option do not (RFC 3396)",
            "each instance begins with a length of its own, which cuts a URI into pieces",
        );
        mean(report, &chunks.concat());
    }
    cut
}

/// Finds the mistake behind a list that is not clean.
fn diagnose(report: &mut Report, list: &[u8], left_over: usize) {
    let before = report.mistakes.len();
    if list.is_empty() {
        if report.mistakes.is_empty() {
            report.mistake("dhcp.empty", FIX_ENCODE, "the option has no data");
        }
        return;
    }
    if let Some(inner) = hexadecimal_text(list) {
        report.mistake(
            "dhcp.hex-as-text",
            FIX_BINARY,
            "the data is hexadecimal digits as text, not the octets that they stand for",
        );
        let decoded = decode_list(&inner);
        for entry in &decoded.entries {
            mean(report, &entry.octets);
        }
        if decoded.entries.is_empty() {
            mean(report, &inner);
        }
        return;
    }
    if is_printable_prefix(list) {
        text_without_length(report, list);
        return;
    }
    if let Some(uris) = chain(list, Length::OneOctet) {
        report.mistake(
            "dhcp.length-one-octet",
            FIX_LENGTH,
            "each URI has a length of one octet before it, as many other options have",
        );
        entries_meant(report, &uris);
        return;
    }
    if let Some(uris) = chain(list, Length::LittleEndian) {
        report.mistake(
            "dhcp.length-byte-order",
            FIX_LENGTH,
            "the lengths have their lower octet first",
        );
        entries_meant(report, &uris);
        return;
    }
    if let Some(uris) = chain(list, Length::CountsItself) {
        report.mistake(
            "dhcp.length-wrong",
            FIX_LENGTH,
            "the lengths count their own two octets too",
        );
        entries_meant(report, &uris);
        return;
    }
    let entries = report.entries.clone();
    for (index, entry) in entries.iter().enumerate() {
        match &entry.uri {
            Ok(uri) => report.meant.push(uri.clone()),
            Err(fault) => {
                let number = index + 1;
                let detail = format!("entry {number} ({}): {fault}", shown(&entry.octets));
                report.add(fault.code(), fix_of(*fault), detail, false);
                mean(report, &entry.octets);
            }
        }
    }
    if left_over > 0 {
        after_the_entries(report, list, left_over);
    }
    if report.mistakes.len() == before {
        report.mistake("dhcp.list", FIX_ENCODE, "the data is no list of URIs");
    }
}

/// Octets that do not make an entry.
fn after_the_entries(report: &mut Report, list: &[u8], left_over: usize) {
    let tail = list.get(list.len() - left_over..).unwrap_or_default();
    if tail.iter().all(|octet| *octet == 0) && !report.entries.is_empty() {
        report.add(
            "dhcp.trailing-nul",
            "end the data with the last octet of the last URI: nothing stands behind it",
            format!("{left_over} NUL octets stand behind the last URI"),
            false,
        );
        return;
    }
    // More entries than anybody takes are no wrong length.
    if report.entries.len() >= codec::ENTRIES_MAX {
        report.add(
            "dhcp.too-long",
            "name fewer servers",
            format!("a device looks at {} entries", codec::ENTRIES_MAX),
            false,
        );
        return;
    }
    // The last entry and what it leaves over belong together, or the last length is too great.
    let start = report.entries.last().map_or(0, |entry| entry.offset + 2);
    let whole = list.get(start..).unwrap_or_default();
    let (said, there) = match report.entries.last() {
        Some(entry) if !is_uri_like(tail.get(2..).unwrap_or_default()) => {
            (entry.octets.len(), whole.len())
        }
        _ => {
            let head = tail.iter().take(2);
            let said = head.fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet));
            (said, left_over.saturating_sub(2))
        }
    };
    report.mistake(
        "dhcp.length-wrong",
        FIX_LENGTH,
        format!("a length says {said} where the URI has {there} octets"),
    );
    if is_uri_like(tail.get(2..).unwrap_or_default()) {
        mean(report, tail.get(2..).unwrap_or_default());
    } else if !report.entries.is_empty() {
        report.meant.pop();
        mean(report, whole);
    }
}

#[derive(Clone, Copy)]
enum Length {
    OneOctet,
    LittleEndian,
    CountsItself,
}

/// The texts of a list whose lengths are written in another way, if that way covers all of it.
fn chain(list: &[u8], length: Length) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (said, tail) = match (length, rest) {
            (Length::OneOctet, [one, tail @ ..]) => (usize::from(*one), tail),
            (Length::LittleEndian, [low, high, tail @ ..]) => {
                (usize::from(*high) << 8 | usize::from(*low), tail)
            }
            (Length::CountsItself, [high, low, tail @ ..]) => (
                (usize::from(*high) << 8 | usize::from(*low)).checked_sub(2)?,
                tail,
            ),
            _ => return None,
        };
        let (text, tail) = tail.split_at_checked(said)?;
        if text.is_empty() || !text.iter().all(|octet| octet.is_ascii_graphic()) {
            return None;
        }
        out.push(text.to_vec());
        rest = tail;
    }
    Some(out)
}

/// The octets of digits that were sent as text.
fn hexadecimal_text(list: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(list).ok()?;
    let text = text.trim_matches(['"', '\'', '\0', '\n', '\r', ' ']);
    let (_, octets) = pasted::hexadecimal(text)?;
    let decoded = decode_list(&octets);
    (decoded.is_clean() || octets.windows(3).any(|three| three == b"://")).then_some(octets)
}

fn is_printable_prefix(list: &[u8]) -> bool {
    list.iter().take(8).all(|octet| octet.is_ascii_graphic())
}

/// The text itself in place of the list.
fn text_without_length(report: &mut Report, list: &[u8]) {
    let text = String::from_utf8_lossy(list);
    let detail = if text.contains("ietf-sztp-bootstrap-server") {
        "the data is the RPC's URL as text, which only the OPI agent takes"
    } else if !text.contains("://") {
        "the data is host and port as text, which only the fl-sztp client takes"
    } else {
        "the data is text: the length of two octets before the URI is missing"
    };
    report.mistake("dhcp.length-missing", FIX_LENGTH, detail);
    let pieces = text.split(|c: char| matches!(c, ',' | ';') || c.is_whitespace());
    for piece in pieces.filter(|piece| !piece.trim_matches('\0').is_empty()) {
        text_fault(report, piece.as_bytes());
        mean(report, piece.as_bytes());
    }
}

fn entries_meant(report: &mut Report, uris: &[Vec<u8>]) {
    for text in uris {
        text_fault(report, text);
        mean(report, text);
    }
}

/// What is wrong with a text besides what is around it.
fn text_fault(report: &mut Report, text: &[u8]) {
    if let Err(fault) = BootstrapUri::from_octets(text) {
        let detail = format!("{}: {fault}", shown(text));
        report.add(fault.code(), fix_of(fault), detail, false);
    }
}

fn shown(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    format!("{:?}", text.chars().take(120).collect::<String>())
}

fn fix_of(fault: UriFault) -> &'static str {
    match fault {
        UriFault::Bootz => "name an SZTP server with https://, and configure Bootz separately",
        UriFault::Empty => "leave entries without a URI out",
        UriFault::Fragment | UriFault::Query | UriFault::Path | UriFault::Slash => {
            "end the URI behind host and port"
        }
        UriFault::Host(_) => "use a host name, an IPv4 address, or an IPv6 address in brackets",
        UriFault::Http | UriFault::SchemeOther | UriFault::SchemeMissing => {
            "begin the URI with https://"
        }
        UriFault::Port => "use a port from 1 to 65535, or none for 443",
        UriFault::Text(_) => "write nothing but the URI into the entry, and count nothing else",
        UriFault::UserInformation => "leave user and password out; devices have certificates",
    }
}

/// Notes the URI that was probably meant by a text.
fn mean(report: &mut Report, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    for piece in text.split(|c: char| matches!(c, ',' | ';' | '\0') || c.is_whitespace()) {
        if report.meant.len() >= codec::ENTRIES_MAX {
            return;
        }
        report.meant.extend(meant_by(piece));
    }
}

fn meant_by(text: &str) -> Option<BootstrapUri> {
    let text = text.trim_matches(['"', '\'']);
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next()?;
    if authority.is_empty() {
        return None;
    }
    // An IPv6 address that lacks its brackets.
    if let Ok(address) = authority.parse::<std::net::Ipv6Addr>() {
        return BootstrapUri::new(&address.to_string(), None).ok();
    }
    BootstrapUri::parse(&format!("https://{authority}")).ok()
}

#[cfg(test)]
mod tests;
