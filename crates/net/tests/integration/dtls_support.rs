//! Two ends of DTLS in memory, and what passes between them.

use std::collections::BTreeMap;
use std::time::Duration;

use net::dtls::{ClientConfig, Front, Hello, ServerConfig, Session, State};
use testkit::Pki;
use time::OffsetDateTime;

/// The peer's address as the cookie sees it.
pub(crate) const PEER: &[u8] = b"[2001:db8::1]:5684";

pub(crate) fn pki() -> Pki {
    Pki::p256(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)).expect("identities")
}

pub(crate) fn front_with(pki: &Pki, change: impl FnOnce(&mut ServerConfig)) -> Front {
    let mut config = ServerConfig::new(vec![pki.domain.registrar.clone()]);
    change(&mut config);
    Front::new(config, [7; 32]).expect("front")
}

/// A client and a server of which the network passes everything at once.
pub(crate) struct Pair {
    pub(crate) now: Duration,
    pub(crate) front: Front,
    pub(crate) client: Session,
    pub(crate) server: Option<Session>,
    /// Every datagram in the order it was sent; `true` from the client.
    pub(crate) wire: Vec<(bool, Vec<u8>)>,
}

impl Pair {
    pub(crate) fn new(front: &Front, config: &ClientConfig) -> Self {
        let now = Duration::from_secs(1000);
        Self {
            now,
            front: front.clone(),
            client: Session::client(config, now).expect("client"),
            server: None,
            wire: Vec::new(),
        }
    }

    /// Passes on until nobody has anything to send.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(datagram) = self.client.transmit() {
                quiet = false;
                self.wire.push((true, datagram.clone()));
                self.arrive_at_server(&datagram);
            }
            while let Some(datagram) = self.server.as_mut().and_then(Session::transmit) {
                quiet = false;
                self.wire.push((false, datagram.clone()));
                let _ = self.client.receive(self.now, &datagram);
            }
            if quiet {
                return;
            }
        }
    }

    pub(crate) fn arrive_at_server(&mut self, datagram: &[u8]) {
        if let Some(server) = &mut self.server {
            let _ = server.receive(self.now, datagram);
            return;
        }
        match self.front.receive(self.now, PEER, datagram) {
            Hello::Answer(answer) => {
                self.wire.push((false, answer.clone()));
                let _ = self.client.receive(self.now, &answer);
            }
            Hello::Accept(session) => self.server = Some(*session),
            Hello::Dropped(reason) => panic!("dropped: {reason}"),
        }
    }

    pub(crate) fn server(&mut self) -> &mut Session {
        self.server.as_mut().expect("a server session")
    }

    pub(crate) fn established(mut self) -> Self {
        self.settle();
        assert_eq!(*self.client.state(), State::Established, "client");
        assert_eq!(*self.server().state(), State::Established, "server");
        self
    }

    /// Something there and something back.
    pub(crate) fn talk(&mut self) {
        let now = self.now;
        self.client.send(now, b"ping").expect("sent");
        self.settle();
        assert_eq!(self.server().read().as_deref(), Some(&b"ping"[..]));
        self.server().send(now, b"pong").expect("sent");
        self.settle();
        assert_eq!(self.client.read().as_deref(), Some(&b"pong"[..]));
    }
}

/// Where the records of a datagram stand.
pub(crate) fn records(datagram: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    while let Some(header) = datagram.get(start..start + 13) {
        let end = start + 13 + usize::from(u16::from_be_bytes([header[11], header[12]]));
        spans.push(start..end);
        start = end;
    }
    spans
}

/// Handshake messages in the clear, each put together of its fragments: type, number and body.
pub(crate) fn messages<'a>(
    datagrams: impl IntoIterator<Item = &'a Vec<u8>>,
) -> Vec<(u8, u16, Vec<u8>)> {
    let mut found: BTreeMap<u16, (u8, Vec<u8>)> = BTreeMap::new();
    for datagram in datagrams {
        for span in records(datagram) {
            let record = &datagram[span];
            if record[0] != 22 || record[3..5] != [0, 0] {
                continue;
            }
            let mut rest = &record[13..];
            while let Some((header, body)) = rest.split_first_chunk::<12>() {
                let number = |bytes: &[u8]| {
                    let value = bytes
                        .iter()
                        .fold(0, |value, byte| value << 8 | u32::from(*byte));
                    value as usize
                };
                let (offset, length) = (number(&header[6..9]), number(&header[9..12]));
                let sequence = u16::from_be_bytes([header[4], header[5]]);
                let whole = vec![0; number(&header[1..4])];
                let message = found.entry(sequence).or_insert((header[0], whole));
                message.1[offset..offset + length].copy_from_slice(&body[..length]);
                rest = &body[length..];
            }
        }
    }
    let found = found.into_iter();
    found
        .map(|(sequence, (kind, body))| (kind, sequence, body))
        .collect()
}

/// The extensions of a ClientHello.
pub(crate) fn extensions(datagram: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let hello = net::dtls::ClientHello::parse(datagram).expect("a ClientHello");
    let (mut rest, mut found) = (hello.extensions, Vec::new());
    while let Some((header, after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let (content, after) = after.split_at(length);
        found.push((u16::from_be_bytes([header[0], header[1]]), content.to_vec()));
        rest = after;
    }
    found
}

/// A ClientHello with another cookie and message number and one extension more.
pub(crate) fn with_extension(
    datagram: &[u8],
    cookie: &[u8],
    message_number: u8,
    extension: u16,
    content: &[u8],
) -> Vec<u8> {
    let mut all = extensions(datagram);
    all.push((extension, content.to_vec()));
    with_extensions(datagram, cookie, message_number, &all)
}

/// A ClientHello with another cookie and message number and these extensions.
pub(crate) fn with_extensions(
    datagram: &[u8],
    cookie: &[u8],
    message_number: u8,
    extensions: &[(u16, Vec<u8>)],
) -> Vec<u8> {
    let hello = net::dtls::ClientHello::parse(datagram).expect("a ClientHello");
    let vector8 = |bytes: &[u8]| [&[u8::try_from(bytes.len()).expect("short")], bytes].concat();
    let vector16 = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short");
        [&length.to_be_bytes()[..], bytes].concat()
    };
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(number, content)| [&number.to_be_bytes()[..], &vector16(content)].concat())
        .collect();
    let body = [
        &hello.version[..],
        &hello.random,
        &vector8(hello.session_id),
        &vector8(cookie),
        &vector16(hello.suites),
        &vector8(hello.compression),
        &vector16(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [
        &[1][..],
        &length[1..],
        &[0, message_number, 0, 0, 0],
        &length[1..],
        &body,
    ]
    .concat();
    let header = [22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, message_number];
    [&header[..], &vector16(&message)].concat()
}
