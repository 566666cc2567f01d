//! The two options' octets: entries, option headers, splitting.

use super::{BootstrapUri, Error, UriFault};

/// Code of `OPTION_V4_SZTP_REDIRECT`.
pub const V4_CODE: u8 = 143;
/// Code of `OPTION_V6_SZTP_REDIRECT`.
pub const V6_CODE: u16 = 136;
/// Most octets of data that one DHCPv4 option instance has.
pub const V4_INSTANCE_MAX_BYTES: usize = 255;
/// Longest list that is encoded. A DHCPv4 message is 576 octets where nothing else was agreed
/// ([RFC 2131 §2](https://www.rfc-editor.org/rfc/rfc2131.html#section-2)), and a client that
/// takes more says so; beyond this no client does.
pub const LIST_MAX_BYTES: usize = 1200;
/// Most entries that a device takes from a list.
pub const ENTRIES_MAX: usize = 64;

const PAD: u8 = 0;
const END: u8 = 255;
const OVERLOAD: u8 = 52;
const MAGIC_COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Where the options of a DHCPv4 message begin, cookie included.
const V4_OPTIONS_OFFSET: usize = 236;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// `bootstrap-server-list` of
/// [RFC 8572 §8.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-8.3): the data of either
/// option.
///
/// # Errors
///
/// [`Error::Empty`] without a URI, [`Error::TooLong`] beyond [`LIST_MAX_BYTES`].
pub fn encode_list(uris: &[BootstrapUri]) -> Result<Vec<u8>, Error> {
    if uris.is_empty() {
        return Err(Error::Empty);
    }
    let mut list = Vec::new();
    for uri in uris {
        let text = uri.to_string();
        // SZTP-8572-8.3-01: uri-length: 2 octets long; specifies the length of the URI data.
        let length = u16::try_from(text.len()).map_err(|_| Error::TooLong(text.len()))?;
        list.extend_from_slice(&length.to_be_bytes());
        list.extend_from_slice(text.as_bytes());
    }
    if list.len() > LIST_MAX_BYTES {
        return Err(Error::TooLong(list.len()));
    }
    Ok(list)
}

/// The whole DHCPv4 option, code and length included; a list of more than 255 octets is split
/// over several instances ([RFC 3396](https://www.rfc-editor.org/rfc/rfc3396.html)).
///
/// # Errors
///
/// As [`encode_list`].
pub fn encode_v4(uris: &[BootstrapUri]) -> Result<Vec<u8>, Error> {
    Ok(split_v4(V4_CODE, &encode_list(uris)?))
}

/// The whole DHCPv6 option, code and length included.
///
/// # Errors
///
/// As [`encode_list`].
pub fn encode_v6(uris: &[BootstrapUri]) -> Result<Vec<u8>, Error> {
    let list = encode_list(uris)?;
    let length = u16::try_from(list.len()).map_err(|_| Error::TooLong(list.len()))?;
    let mut option = V6_CODE.to_be_bytes().to_vec();
    option.extend_from_slice(&length.to_be_bytes());
    option.extend_from_slice(&list);
    Ok(option)
}

/// A DHCPv4 option of any length: one instance where the data fits, and else as many as it
/// needs, in order.
pub(super) fn split_v4(code: u8, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // SZTP-3396-6-01: No split portion of an option that has been split can contain more than
    // 255 octets, and they are stored in sequential order.
    for part in data.chunks(V4_INSTANCE_MAX_BYTES) {
        // Truncation safety: a chunk has 255 octets at most.
        let length = u8::try_from(part.len()).unwrap_or(u8::MAX);
        out.push(code);
        out.push(length);
        out.extend_from_slice(part);
    }
    out
}

/// One entry of a received list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where its length stands in the list.
    pub offset: usize,
    /// The octets of the URI.
    pub octets: Vec<u8>,
    /// The URI, or why the device ignores it.
    pub uri: Result<BootstrapUri, UriFault>,
}

/// A received list, as a device sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The entries in the order of the list.
    pub entries: Vec<Entry>,
    /// How many octets at the end are no whole entry.
    pub left_over: usize,
}

impl List {
    /// The URIs that the device tries, in order. If there is none it discards the option.
    #[must_use]
    pub fn usable(&self) -> Vec<BootstrapUri> {
        self.entries
            .iter()
            .filter_map(|entry| entry.uri.clone().ok())
            .collect()
    }

    /// Whether nothing in it departs from the standard.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left_over == 0
            && !self.entries.is_empty()
            && self.entries.iter().all(|entry| entry.uri.is_ok())
    }
}

/// Reads the data of either option as a device has to: invalid entries are kept apart, and what
/// does not even make an entry is left over.
#[must_use]
pub fn decode_list(list: &[u8]) -> List {
    let mut out = List::default();
    let mut rest = list;
    while let Some((head, tail)) = rest.split_at_checked(2) {
        if out.entries.len() == ENTRIES_MAX {
            break;
        }
        let length = head
            .iter()
            .fold(0_usize, |sum, octet| sum << 8 | usize::from(*octet));
        let Some((octets, tail)) = tail.split_at_checked(length) else {
            break;
        };
        // SZTP-8572-8.1-04: Any invalid URI entries received in the uri-data field are ignored
        // by the client.
        out.entries.push(Entry {
            offset: list.len() - rest.len(),
            octets: octets.to_vec(),
            uri: BootstrapUri::from_octets(octets),
        });
        rest = tail;
    }
    out.left_over = rest.len();
    out
}

/// One option instance of a DHCPv4 buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance<'a> {
    /// Its code.
    pub code: u8,
    /// Its data.
    pub data: &'a [u8],
}

/// The option instances of one DHCPv4 option buffer, up to its end option.
///
/// # Errors
///
/// [`Error::Options`] where an option is longer than what is left.
pub fn v4_instances(buffer: &[u8]) -> Result<Vec<Instance<'_>>, Error> {
    let mut out = Vec::new();
    let mut rest = buffer;
    loop {
        match rest {
            [] | [END, ..] => return Ok(out),
            [PAD, tail @ ..] => rest = tail,
            [code, length, tail @ ..] => {
                let (data, tail) = tail
                    .split_at_checked(usize::from(*length))
                    .ok_or(Error::Options("an option is longer than what is left"))?;
                out.push(Instance { code: *code, data });
                rest = tail;
            }
            [_] => return Err(Error::Options("an option has no length")),
        }
    }
}

/// The data of one option in a whole DHCPv4 message, put together from all instances of it in
/// the options, `file` and `sname` fields; nothing where the message does not have it.
///
/// # Errors
///
/// [`Error::Options`] where the message or its options are broken.
pub fn v4_option(message: &[u8], code: u8) -> Result<Option<Vec<u8>>, Error> {
    let cookie = message.get(V4_OPTIONS_OFFSET..V4_OPTIONS_OFFSET + MAGIC_COOKIE.len());
    if cookie != Some(&MAGIC_COOKIE[..]) {
        return Err(Error::Options("this is no DHCPv4 message"));
    }
    // Indexing safety: the cookie, which lies behind all fields, is there.
    let mut instances = v4_instances(&message[V4_OPTIONS_OFFSET + MAGIC_COOKIE.len()..])?;
    let overload = instances
        .iter()
        .find(|instance| instance.code == OVERLOAD)
        .and_then(|instance| instance.data.first().copied())
        .unwrap_or_default();
    // SZTP-3396-7-01: two or more options with the same code are split portions, reassembled in
    // the order options, file, sname.
    if overload & 1 != 0 {
        instances.extend(v4_instances(&message[FILE])?);
    }
    if overload & 2 != 0 {
        instances.extend(v4_instances(&message[SNAME])?);
    }
    let mut parts = instances
        .iter()
        .filter(|instance| instance.code == code)
        .peekable();
    if parts.peek().is_none() {
        return Ok(None);
    }
    Ok(Some(
        parts.flat_map(|part| part.data.iter().copied()).collect(),
    ))
}

/// The options of a DHCPv6 option buffer.
///
/// # Errors
///
/// [`Error::Options`] where an option is longer than what is left.
pub fn v6_options(buffer: &[u8]) -> Result<Vec<(u16, &[u8])>, Error> {
    let mut out = Vec::new();
    let mut rest = buffer;
    while !rest.is_empty() {
        let [c0, c1, l0, l1, tail @ ..] = rest else {
            return Err(Error::Options("an option has no length"));
        };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (data, tail) = tail
            .split_at_checked(length)
            .ok_or(Error::Options("an option is longer than what is left"))?;
        out.push((u16::from_be_bytes([*c0, *c1]), data));
        rest = tail;
    }
    Ok(out)
}

/// Whether the octets begin as a DHCPv4 message does.
pub(super) fn is_v4_message(octets: &[u8]) -> bool {
    octets.get(V4_OPTIONS_OFFSET..V4_OPTIONS_OFFSET + MAGIC_COOKIE.len()) == Some(&MAGIC_COOKIE[..])
}
