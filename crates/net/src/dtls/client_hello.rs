//! A small strict reader for the one message that is read before there is any state.

use super::record::{FRAGMENT_HEADER_LENGTH, Fragment, HANDSHAKE, Record, Records, SEQUENCE_MAX};

const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const DTLS_1_0: [u8; 2] = [0xFE, 0xFF];
const DTLS_1_2: [u8; 2] = [0xFE, 0xFD];
pub(super) const DTLS_1_3: [u8; 2] = [0xFE, 0xFC];

const SERVER_NAME: u16 = 0;
const MAX_FRAGMENT_LENGTH: u16 = 1;
const CLIENT_CERTIFICATE_TYPE: u16 = 19;
const SERVER_CERTIFICATE_TYPE: u16 = 20;
const PADDING: u16 = 21;
const COOKIE: u16 = 44;
const SUPPORTED_GROUPS: u16 = 10;
pub(super) const KEY_SHARE: u16 = 51;
pub(super) const RECORD_SIZE_LIMIT: u16 = 28;
const SUPPORTED_VERSIONS: u16 = 43;

/// A ClientHello that fills the first record of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct ClientHello<'a> {
    /// The number of the record.
    pub record_sequence: u64,
    /// The number of the message: 0 without cookie, 1 with one.
    pub message_sequence: u16,
    /// The highest version that the client has, by the field that DTLS 1.3 froze.
    pub version: [u8; 2],
    /// The client's random.
    pub random: [u8; 32],
    /// The session that the client would like to take up again.
    pub session_id: &'a [u8],
    /// What a HelloVerifyRequest gave.
    pub cookie: &'a [u8],
    /// The suites, two bytes each.
    pub suites: &'a [u8],
    /// The compression methods, one byte each.
    pub compression: &'a [u8],
    /// The extensions, without the length before them.
    pub extensions: &'a [u8],
    record_version: [u8; 2],
    body: &'a [u8],
}

/// What the first ClientHello of DTLS 1.3 had and the second one need not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    /// How much padding there was, where there was any.
    pub(super) padding: Option<usize>,
    /// Where an empty list of key shares stood among the extensions other than padding, if there
    /// was one: the client waits to be told a group. wolfSSL has its list in another place then.
    pub(super) empty_share_at: Option<usize>,
}

impl<'a> ClientHello<'a> {
    /// Whether a datagram begins with an unprotected ClientHello, sound or not: such a datagram is
    /// for the [`super::Front`] first.
    #[must_use]
    pub fn begins(datagram: &[u8]) -> bool {
        Records(datagram).next().is_some_and(|record| {
            record.content_type == HANDSHAKE
                && record.epoch == 0
                && record.body.first() == Some(&CLIENT_HELLO)
        })
    }

    /// Reads it from the first record of a datagram.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, &'static str> {
        let record = Records(datagram).next().ok_or("no record")?;
        if record.content_type != HANDSHAKE || record.epoch != 0 {
            return Err("no handshake");
        }
        // DTL-031: OpenSSL and libcoap have the old version in the record of the first ClientHello.
        if record.version != DTLS_1_0 && record.version != DTLS_1_2 {
            return Err("record version");
        }
        // One is added to the numbers of these records on their way in.
        if record.sequence >= SEQUENCE_MAX {
            return Err("record number");
        }
        let (fragment, body) = Fragment::parse(record.body).ok_or("handshake header")?;
        if fragment.message_type != CLIENT_HELLO {
            return Err("no ClientHello");
        }
        // A server that keeps no state cannot join fragments.
        if fragment.offset != 0
            || fragment.fragment_length != fragment.length
            || body.len() != fragment.length
        {
            return Err("ClientHello in fragments");
        }
        if fragment.message_sequence > 1 {
            return Err("message number");
        }
        let mut reader = Reader(body);
        let version = reader.array::<2>().ok_or("version")?;
        let random = reader.array::<32>().ok_or("random")?;
        let session_id = reader.vector8().ok_or("session id")?;
        let cookie = reader.vector8().ok_or("cookie")?;
        let suites = reader.vector16().ok_or("suites")?;
        let compression = reader.vector8().ok_or("compression methods")?;
        if session_id.len() > 32 {
            return Err("session id");
        }
        if suites.is_empty() || suites.len() % 2 != 0 {
            return Err("suites");
        }
        if !compression.contains(&0) {
            return Err("compression methods");
        }
        let extensions = if reader.0.is_empty() {
            &[]
        } else {
            reader.vector16().ok_or("extensions")?
        };
        if !reader.0.is_empty() {
            return Err("bytes after the ClientHello");
        }
        let hello = Self {
            record_sequence: record.sequence,
            message_sequence: fragment.message_sequence,
            version,
            random,
            session_id,
            cookie,
            suites,
            compression,
            extensions,
            record_version: record.version,
            body,
        };
        hello.check_extensions()?;
        Ok(hello)
    }

    fn check_extensions(&self) -> Result<(), &'static str> {
        let mut reader = Reader(self.extensions);
        let mut seen: Vec<u16> = Vec::new();
        while !reader.0.is_empty() {
            let number = reader.array().map(u16::from_be_bytes).ok_or("extensions")?;
            reader.vector16().ok_or("extensions")?;
            if seen.contains(&number) {
                return Err("an extension twice");
            }
            // Nobody has half as many; it bounds the search above.
            if seen.len() >= 64 {
                return Err("too many extensions");
            }
            seen.push(number);
        }
        Ok(())
    }

    /// The content of an extension.
    #[must_use]
    pub fn extension(&self, wanted: u16) -> Option<&'a [u8]> {
        let mut reader = Reader(self.extensions);
        loop {
            let number = reader.array().map(u16::from_be_bytes)?;
            let content = reader.vector16()?;
            if number == wanted {
                return Some(content);
            }
        }
    }

    /// Whether the client has a suite.
    #[must_use]
    pub fn offers(&self, suite: u16) -> bool {
        self.suites
            .chunks_exact(2)
            .any(|offered| offered == suite.to_be_bytes())
    }

    /// Whether the client has DTLS 1.2.
    #[must_use]
    pub fn has_dtls_1_2(&self) -> bool {
        match self.versions() {
            Some(mut versions) => versions.any(|version| version == DTLS_1_2),
            // The numbers of the versions go down: 1.0 is fe ff, 1.2 is fe fd.
            None => self.version[0] == 0xFE && self.version[1] <= DTLS_1_2[1],
        }
    }

    /// Whether the client has DTLS 1.3.
    #[must_use]
    pub fn has_dtls_1_3(&self) -> bool {
        self.versions()
            .is_some_and(|mut versions| versions.any(|version| version == DTLS_1_3))
    }

    /// Whether certificates of X.509 go in either direction, as they do where nothing is said.
    pub(super) fn has_x509(&self) -> bool {
        const X509: u8 = 0;
        [CLIENT_CERTIFICATE_TYPE, SERVER_CERTIFICATE_TYPE]
            .into_iter()
            .filter_map(|number| self.extension(number))
            .all(|content| {
                let types = Reader(content).vector8();
                types.is_some_and(|types| types.contains(&X509))
            })
    }

    /// The cookie of DTLS 1.3.
    pub(super) fn cookie_of_1_3(&self) -> Option<&'a [u8]> {
        Reader(self.extension(COOKIE)?).vector16()
    }

    /// Whether there is a cookie of either version.
    pub(super) fn has_cookie(&self) -> bool {
        !self.cookie.is_empty() || self.cookie_of_1_3().is_some()
    }

    /// Whether there is a key share for one of these groups.
    pub(super) fn has_key_share(&self, groups: &[u16]) -> bool {
        let content = self.extension(KEY_SHARE).unwrap_or_default();
        let mut shares = Reader(Reader(content).vector16().unwrap_or_default());
        while let Some(group) = shares.array().map(u16::from_be_bytes) {
            if shares.vector16().is_some_and(|share| !share.is_empty()) && groups.contains(&group) {
                return true;
            }
        }
        false
    }

    /// The host name that the client asks for.
    pub(super) fn server_name(&self) -> Option<&'a str> {
        let mut names = Reader(Reader(self.extension(SERVER_NAME)?).vector16()?);
        let [kind] = names.array()?;
        let name = names.vector16()?;
        (kind == 0).then(|| std::str::from_utf8(name).ok())?
    }

    /// The first of these groups that the client has.
    pub(super) fn group_of(&self, groups: &[u16]) -> Option<u16> {
        let content = self.extension(SUPPORTED_GROUPS)?;
        let list = Reader(content).vector16()?;
        let has = |group: &u16| list.chunks_exact(2).any(|one| one == group.to_be_bytes());
        groups.iter().copied().find(has)
    }

    /// What this one has of that in which the second may differ.
    pub(super) fn first(&self) -> First {
        let mut counted = self.list().filter(|(number, _)| *number != PADDING);
        let share = counted.position(|(number, content)| number == KEY_SHARE && content == [0, 0]);
        First {
            padding: self.extension(PADDING).map(<[u8]>::len),
            empty_share_at: share,
        }
    }

    /// All extensions but the cookie.
    fn list(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut reader = Reader(self.extensions);
        let all = std::iter::from_fn(move || {
            let number = reader.array().map(u16::from_be_bytes)?;
            Some((number, reader.vector16()?))
        });
        all.filter(|(number, _)| *number != COOKIE)
    }

    /// The message without the cookie of DTLS 1.3, with this much padding and with or without key
    /// shares: what the first one was. Clients may pad their second one otherwise.
    pub(super) fn body_of_1_3(&self, first: First) -> Vec<u8> {
        let head = self.body.len() - self.extensions.len();
        let head = self.body.get(..head.saturating_sub(2)).unwrap_or_default();
        let mut extensions = Vec::with_capacity(self.extensions.len());
        let mut add = |number: u16, content: &[u8]| {
            let length = u16::try_from(content.len()).unwrap_or_default();
            extensions.extend_from_slice(&number.to_be_bytes());
            extensions.extend_from_slice(&length.to_be_bytes());
            extensions.extend_from_slice(content);
        };
        let mut padding = first.padding.map(|length| vec![0; length]);
        let mut list: Vec<(u16, &[u8])> = self.list().collect();
        if let Some(at) = first.empty_share_at {
            list.retain(|(number, _)| *number != KEY_SHARE);
            let mut counted = list.iter().enumerate().filter(|(_, one)| one.0 != PADDING);
            let place = counted.nth(at).map_or(list.len(), |(place, _)| place);
            list.insert(place, (KEY_SHARE, &[0, 0]));
        }
        for (number, content) in list {
            if number != PADDING {
                add(number, content);
            } else if let Some(padding) = padding.take() {
                add(PADDING, &padding);
            }
        }
        if let Some(padding) = padding {
            add(PADDING, &padding);
        }
        let length = u16::try_from(extensions.len()).unwrap_or_default();
        [head, &length.to_be_bytes(), &extensions].concat()
    }

    /// The record with this ClientHello as it was before the client had a cookie of DTLS 1.3.
    pub(super) fn first_flight_of_1_3(&self, sequence: u64, first: First) -> Vec<u8> {
        let message = message(CLIENT_HELLO, &self.body_of_1_3(first));
        self.record(&message).with_sequence(sequence)
    }

    /// The server's first message in the clear, under the number of the ClientHello.
    pub(super) fn answer(&self, message_type: u8, body: &[u8]) -> Vec<u8> {
        let message = message(message_type, body);
        let mut record = self.record(&message);
        record.version = DTLS_1_2;
        record.with_sequence(self.record_sequence)
    }

    fn versions(&self) -> Option<impl Iterator<Item = [u8; 2]> + use<'a>> {
        let content = self.extension(SUPPORTED_VERSIONS)?;
        let list = Reader(content).vector8()?;
        Some(list.chunks_exact(2).filter_map(|v| v.try_into().ok()))
    }

    /// The largest plaintext of a record that the client can take, where it said so.
    #[must_use]
    pub fn record_limit(&self) -> Option<usize> {
        let fragment = match self.extension(MAX_FRAGMENT_LENGTH) {
            Some([code @ 1..=4]) => Some(256 << code),
            _ => None,
        };
        let Some(content) = self.extension(RECORD_SIZE_LIMIT) else {
            return fragment;
        };
        let limit: [u8; 2] = content.try_into().ok()?;
        let limit = usize::from(u16::from_be_bytes(limit));
        // DTL-026: record_size_limit wins where both are there. OpenSSL answers the other one all
        // the same, so both are kept.
        Some(fragment.map_or(limit, |fragment: usize| fragment.min(limit)))
    }

    /// What the cookie is computed over besides the peer: everything that must be the same in the
    /// second ClientHello.
    pub(super) fn parameters(&self) -> [&'a [u8]; 3] {
        [self.session_id, self.suites, self.compression]
    }

    /// The record with this ClientHello as it was before the client had a cookie.
    pub(super) fn first_flight(&self, sequence: u64) -> Vec<u8> {
        // Version, random and session id stand before the cookie, the rest after it.
        let before = 2 + 32 + 1 + self.session_id.len();
        let after = before + 1 + self.cookie.len();
        let head = self.body.get(..before).unwrap_or_default();
        let tail = self.body.get(after..).unwrap_or_default();
        let message = message(CLIENT_HELLO, &[head, &[0], tail].concat());
        self.record(&message).with_sequence(sequence)
    }

    /// A HelloVerifyRequest for it.
    pub(super) fn verify_request(&self, cookie: &[u8]) -> Vec<u8> {
        // RFC 6347 section 4.2.1: version 1.0 whatever is negotiated later.
        let mut body = DTLS_1_0.to_vec();
        body.push(u8::try_from(cookie.len()).unwrap_or_default());
        body.extend_from_slice(cookie);
        let message = message(HELLO_VERIFY_REQUEST, &body);
        let mut record = self.record(&message);
        record.version = DTLS_1_0;
        record.with_sequence(self.record_sequence)
    }

    /// A fatal alert for it, in the clear.
    pub(super) fn alert(&self, description: u8) -> Vec<u8> {
        let body = [2, description];
        let mut record = self.record(&body);
        record.content_type = super::record::ALERT;
        record.version = DTLS_1_0;
        record.with_sequence(self.record_sequence)
    }

    fn record<'b>(&self, body: &'b [u8]) -> Record<'b> {
        Record {
            content_type: HANDSHAKE,
            epoch: 0,
            sequence: 0,
            version: self.record_version,
            body,
        }
    }
}

/// A handshake message in one fragment, with number 0.
fn message(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(FRAGMENT_HEADER_LENGTH + body.len());
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
    message.push(message_type);
    message.extend_from_slice(&length);
    message.extend_from_slice(&[0, 0, 0, 0, 0]);
    message.extend_from_slice(&length);
    message.extend_from_slice(body);
    message
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.array().map(u16::from_be_bytes)?;
        self.take(usize::from(length))
    }
}
