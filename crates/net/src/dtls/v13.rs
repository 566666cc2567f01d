//! One association of DTLS 1.3, by dimpl.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use coap::Moment;
use dimpl::{Dtls, DtlsCertificate, Output};
use pki::{Certificate, Identity};

use super::client_hello::{DTLS_1_3, First, KEY_SHARE};
use super::record::{
    CHANGE_CIPHER_SPEC, Fragment, HANDSHAKE, HEADER_LENGTH, Record, Records, handshake_is_sound,
};
use super::session::{Closed, SessionPeer, State};
use super::{ClientConfig, ClientHello, Error, ServerConfig, Suite, Version, provider};

const SERVER_HELLO: u8 = 2;
const COOKIE: u16 = 44;
/// There was no padding in the first ClientHello.
const NO_PADDING: u16 = 0x7FFF;
/// There was an empty list of key shares in the first ClientHello. Then six bits say where, and nine
/// are left for the padding, of which such clients have none.
const NO_SHARE: u16 = 0x8000;
const NO_PADDING_NOR_SHARE: u16 = 0x01FF;
const SUPPORTED_VERSIONS: u16 = 43;

/// The random that makes a ServerHello a HelloRetryRequest
/// ([RFC 8446 §4.1.3](https://www.rfc-editor.org/rfc/rfc8446.html#section-4.1.3)).
const RETRY_RANDOM: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
    0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// Groups that dimpl has, in its order. The client has to send a share of one of them; if its first
/// ClientHello has none at all it is told the first that it has.
const GROUPS: [u16; 3] = [0x001D, 0x0017, 0x0018];

/// The longest plaintext of a record that is sent in one datagram.
const PLAINTEXT_MAX: usize = 16_000;

/// The longest datagram that dimpl is shown: one record of the largest size, with its header and
/// what encryption adds. dimpl has no limit of its own, and keeps its buffers.
const DATAGRAM_MAX: usize = (1 << 14) + 256 + HEADER_LENGTH;

/// The largest handshake message, until the configuration has said otherwise.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A peer's handshake may be this many times as long as its largest message may be: messages are
/// repeated, in new records, where an acknowledgement is lost.
const HANDSHAKE_LENGTHS_MAX: usize = 8;

/// Everything that a server's associations share.
pub(super) struct ServerContext {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    own: Certificate,
    /// Nothing stands between our certificate and a root that the peer has to have anyway.
    is_whole: bool,
    suites: Vec<Suite>,
    message_bytes_max: usize,
    handshake_time: Duration,
}

impl ServerContext {
    /// `None` when DTLS 1.3 is not wanted, or no identity or suite goes with it.
    pub(super) fn new(config: &ServerConfig) -> Result<Option<Self>, Error> {
        if !config.versions.contains(&Version::Dtls13) {
            return Ok(None);
        }
        let suites = of_1_3(&config.suites);
        let identity = config.identities.iter().find(|one| is_usable(one));
        let (Some(identity), false) = (identity, suites.is_empty()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            config: provider::config(&suites, config.mtu, config.handshake_time)?,
            certificate: certificate_of(identity)?,
            own: leaf_of(identity)?,
            is_whole: identity
                .chain
                .get(1)
                .is_none_or(|next| next.subject_der() == next.issuer_der()),
            suites,
            message_bytes_max: config.handshake_message_bytes_max,
            handshake_time: config.handshake_time,
        }))
    }

    /// The suite that dimpl takes for this client, if it is to take it.
    pub(super) fn suite_for(&self, hello: &ClientHello<'_>) -> Option<Suite> {
        // Clients that send no share (wolfSSL, to keep the ClientHello small) choose by the answer.
        let has_group = hello.has_key_share(&GROUPS)
            || (hello.first().empty_share_at.is_some() && hello.group_of(&GROUPS).is_some());
        if !hello.has_dtls_1_3() || !has_group {
            return None;
        }
        // dimpl would not show the intermediate certificates, and DTLS 1.2 does.
        if hello.has_dtls_1_2() && !self.is_whole {
            return None;
        }
        hello.suites.chunks_exact(2).find_map(|offered| {
            let mut ours = self.suites.iter().copied();
            ours.find(|suite| suite.number().to_be_bytes() == offered)
        })
    }
}

fn of_1_3(suites: &[Suite]) -> Vec<Suite> {
    let of_1_3 = suites.iter().copied().filter(|suite| suite.is_of_1_3());
    of_1_3.collect()
}

/// dimpl signs with ECDSA on P-256 and P-384 only.
fn is_usable(identity: &Identity) -> bool {
    use pki::SignatureAlgorithm::{EcdsaP256Sha256, EcdsaP384Sha384};
    let algorithm = identity.signer.algorithm();
    matches!(algorithm, EcdsaP256Sha256 | EcdsaP384Sha384) && identity.signer.to_pkcs8().is_some()
}

fn leaf_of(identity: &Identity) -> Result<Certificate, Error> {
    let leaf = identity.certificate().cloned();
    leaf.ok_or_else(|| Error::Identity("no certificate".to_owned()))
}

/// dimpl shows one certificate and no chain.
fn certificate_of(identity: &Identity) -> Result<DtlsCertificate, Error> {
    let leaf = leaf_of(identity)?;
    if !leaf.public_key().is_same_key(identity.signer.public_key()) {
        return Err(Error::Identity(
            "certificate and key do not match".to_owned(),
        ));
    }
    let key = identity
        .signer
        .to_pkcs8()
        .ok_or_else(|| Error::Identity("the private key cannot leave its token".to_owned()))?;
    Ok(DtlsCertificate {
        certificate: leaf.der().to_vec(),
        private_key: key.to_vec(),
    })
}

/// A cookie: two bytes about the first ClientHello's padding and key shares, and a MAC. dimpl wants
/// 32 bytes.
#[derive(Clone, Copy)]
pub(super) struct Cookie {
    bytes: [u8; 32],
}

impl Cookie {
    /// `mac` is given what is said of the first ClientHello and the whole ClientHello without
    /// padding and cookie, and without key shares where the first one had none, so that the first
    /// one can be had from the second.
    pub(super) fn new(
        hello: &ClientHello<'_>,
        first: First,
        mac: impl FnOnce(&[&[u8]]) -> hmac::Tag,
    ) -> Self {
        let padding = first.padding.and_then(|length| u16::try_from(length).ok());
        let place = first.empty_share_at.map(|at| u16::try_from(at).ok());
        let head = match place {
            None => padding.map_or(NO_PADDING, |length| length.min(NO_PADDING)),
            Some(at) => {
                let none = NO_PADDING_NOR_SHARE;
                let padding = padding.map_or(none, |length| length.min(none));
                NO_SHARE | (at.unwrap_or_default() & 63) << 9 | padding
            }
        };
        let head = head.to_be_bytes();
        let padding = None;
        let body = hello.body_of_1_3(First { padding, ..first });
        let mac = mac(&[b"DTLS 1.3", &head, &body]);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(head.iter().chain(mac.as_ref())) {
            *to = *from;
        }
        Self { bytes }
    }

    /// What a cookie of a client says of its first ClientHello.
    pub(super) fn first_in(cookie: &[u8]) -> First {
        let head = cookie.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        let head = head.unwrap_or(NO_PADDING);
        let (none, empty_share_at) = match head & NO_SHARE {
            0 => (NO_PADDING, None),
            _ => (NO_PADDING_NOR_SHARE, Some(usize::from((head >> 9) & 63))),
        };
        let padding = Some(head & none).filter(|length| *length != none);
        First {
            padding: padding.map(usize::from),
            empty_share_at,
        }
    }

    fn first(&self) -> First {
        Self::first_in(&self.bytes)
    }

    pub(super) fn is(&self, shown: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.bytes, shown).is_ok()
    }
}

/// The HelloRetryRequest with which dimpl asks for a cookie: made here, so that nothing has to be
/// kept until the cookie comes back, and held against dimpl's own then.
pub(super) fn retry_request(hello: &ClientHello<'_>, suite: Suite, cookie: &Cookie) -> Vec<u8> {
    let mut body = vec![0xFE, 0xFD];
    body.extend_from_slice(&RETRY_RANDOM);
    body.push(0);
    body.extend_from_slice(&suite.number().to_be_bytes());
    body.push(0);
    // RFC 8446 §4.1.4: the group is named only where the client has to send another share.
    let told = cookie.first().empty_share_at;
    let group = told.and_then(|_| hello.group_of(&GROUPS));
    let group_length = if group.is_some() { 6 } else { 0 };
    body.extend_from_slice(&[0, 6 + group_length + 38]);
    body.extend_from_slice(&SUPPORTED_VERSIONS.to_be_bytes());
    body.extend_from_slice(&[0, 2]);
    body.extend_from_slice(&DTLS_1_3);
    if let Some(group) = group {
        body.extend_from_slice(&KEY_SHARE.to_be_bytes());
        body.extend_from_slice(&[0, 2]);
        body.extend_from_slice(&group.to_be_bytes());
    }
    body.extend_from_slice(&COOKIE.to_be_bytes());
    body.extend_from_slice(&[0, 34, 0, 32]);
    body.extend_from_slice(&cookie.bytes);
    hello.answer(SERVER_HELLO, &body)
}

/// One association of DTLS 1.3.
pub(super) struct Session13 {
    dtls: Dtls,
    state: State,
    /// The server's own certificate; a client learns the server's from the handshake.
    own: Option<Certificate>,
    client_random: Option<[u8; 32]>,
    server_name: Option<String>,
    message_bytes_max: usize,
    /// Bytes of encrypted handshake messages that the peer may still send.
    handshake_bytes_left: usize,
    /// Added to the number of every record in the clear that goes out.
    shift: u64,
    suite: Option<Suite>,
    leaf: Option<Vec<u8>>,
    /// The chains that went through the transcript.
    chains: provider::Chains,
    peer: Option<SessionPeer>,
    handshake_ends: Moment,
    due: Option<Moment>,
    outgoing: VecDeque<Vec<u8>>,
    inbox: VecDeque<Vec<u8>>,
}

/// dimpl counts time from some `Instant`, everything else here from some beginning.
fn instant(now: Moment) -> Instant {
    let beginning = beginning();
    beginning.checked_add(now).unwrap_or(beginning)
}

fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}

impl Session13 {
    /// Begins an association; the ClientHello is ready to be sent.
    pub(super) fn client(config: &ClientConfig, now: Moment) -> Result<Self, Error> {
        let identity = config.identity.as_ref().filter(|one| is_usable(one));
        let identity = identity.ok_or_else(|| {
            Error::Identity("DTLS 1.3 needs a P-256 or P-384 identity with its key".to_owned())
        })?;
        let suites = of_1_3(&config.suites);
        if suites.is_empty() {
            return Err(Error::Config("no suite of DTLS 1.3".to_owned()));
        }
        let shared = provider::config(&suites, config.mtu, config.handshake_time)?;
        let mut dtls = Dtls::new_13(shared, certificate_of(identity)?, instant(now));
        dtls.set_active(true);
        let mut session = Self::new(dtls, now, config.handshake_time);
        session.limit_messages(config.handshake_message_bytes_max);
        session.advance(now);
        Ok(session)
    }

    fn new(dtls: Dtls, now: Moment, handshake_time: Duration) -> Self {
        Self {
            dtls,
            state: State::Handshaking,
            own: None,
            client_random: None,
            server_name: None,
            message_bytes_max: MESSAGE_BYTES_MAX,
            handshake_bytes_left: MESSAGE_BYTES_MAX * HANDSHAKE_LENGTHS_MAX,
            shift: 0,
            suite: None,
            leaf: None,
            chains: Vec::new(),
            peer: None,
            handshake_ends: now.saturating_add(handshake_time),
            due: None,
            outgoing: VecDeque::new(),
            inbox: VecDeque::new(),
        }
    }

    /// Takes up a client that has brought back this cookie.
    pub(super) fn server(
        context: &ServerContext,
        now: Moment,
        hello: &ClientHello<'_>,
        suite: Suite,
        cookie: Cookie,
        datagram: &[u8],
    ) -> Result<Self, Error> {
        let failed = |reason: &str| Error::Library(reason.to_owned());
        let before = hello.record_sequence.checked_sub(1);
        let before = before.ok_or_else(|| failed("the second ClientHello has number 0"))?;
        let dtls = Dtls::new_13(
            Arc::clone(&context.config),
            context.certificate.clone(),
            instant(now),
        );
        let mut session = Self::new(dtls, now, context.handshake_time);
        session.own = Some(context.own.clone());
        session.client_random = Some(hello.random);
        session.server_name = hello.server_name().map(str::to_owned);
        session.limit_messages(context.message_bytes_max);
        provider::with_cookie(cookie.bytes, || {
            let first = hello.first_flight_of_1_3(before, cookie.first());
            session.guard(|session| session.handle(now, &first));
            let asked = session.outgoing.pop_front();
            let wanted = retry_request(hello, suite, &cookie);
            // The client has had ours, and its transcript is over that.
            let same = asked
                .is_some_and(|asked| asked.get(HEADER_LENGTH..) == wanted.get(HEADER_LENGTH..));
            if !same || !session.outgoing.is_empty() || session.is_closed() {
                return Err(failed("dimpl asks for another second ClientHello"));
            }
            session.shift = before;
            session.guard(|session| session.handle(now, datagram));
            Ok(())
        })?;
        Ok(session)
    }

    fn limit_messages(&mut self, bytes_max: usize) {
        self.message_bytes_max = bytes_max;
        self.handshake_bytes_left = bytes_max.saturating_mul(HANDSHAKE_LENGTHS_MAX);
    }

    pub(super) fn client_random(&self) -> Option<&[u8; 32]> {
        self.client_random.as_ref()
    }

    pub(super) fn receive(&mut self, now: Moment, datagram: &[u8]) -> Result<(), Error> {
        if let State::Closed(closed) = &self.state {
            return Err(Error::Closed(closed.clone()));
        }
        // DTL-016: messages in the clear are bounded before dimpl sees them; those that are
        // encrypted when they are decrypted.
        let sound = datagram.len() <= DATAGRAM_MAX
            && Records(datagram)
                .take_while(is_clear)
                .filter(|record| record.content_type == HANDSHAKE)
                .all(|record| handshake_is_sound(record.body, self.message_bytes_max));
        if sound {
            self.guard(|session| session.handle(now, datagram));
        }
        Ok(())
    }

    /// dimpl asserts what it takes for granted. A peer that finds a way to bring that about ends
    /// its own association, and not the task of all of them.
    fn guard(&mut self, call: impl FnOnce(&mut Self)) {
        if panic::catch_unwind(AssertUnwindSafe(|| call(self))).is_err() {
            self.end(Closed::Library("dimpl panicked".to_owned()));
        }
    }

    fn handle(&mut self, now: Moment, datagram: &[u8]) {
        self.note_suite(datagram);
        let (result, mut noted) = provider::noting(self.message_bytes_max, || {
            self.dtls.handle_timeout(instant(now))?;
            self.dtls.handle_packet(datagram)
        });
        if self.state == State::Handshaking {
            self.chains.append(&mut noted.chains);
        }
        // dimpl holds back what comes out of turn. Only what is authentic is counted, so nobody
        // else can use it up.
        let left = self.handshake_bytes_left.checked_sub(noted.handshake_bytes);
        self.handshake_bytes_left = left.unwrap_or_default();
        self.poll(now);
        if let Err(error) = result {
            self.fail(&error);
        } else if left.is_none() && !self.is_closed() {
            let _ = self.dtls.close();
            self.poll(now);
            self.end(Closed::Handshake("too many handshake messages".to_owned()));
        }
    }

    fn fail(&mut self, error: &dimpl::Error) {
        let closed = match self.state {
            State::Handshaking => Closed::Handshake(error.to_string()),
            State::Established => Closed::Library(error.to_string()),
            State::Closed(_) => return,
        };
        self.end(closed);
    }

    fn end(&mut self, closed: Closed) {
        self.state = State::Closed(closed);
        self.due = None;
    }

    /// Takes out everything that dimpl has to give.
    fn poll(&mut self, now: Moment) {
        // What is longer than this is asked for again, but for a certificate: there dimpl would panic.
        let certificate = match self.state {
            State::Handshaking => self.message_bytes_max,
            State::Established | State::Closed(_) => 0,
        };
        let mut buffer = vec![0; certificate.max(2048)];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => {
                    let datagram = moved(datagram, self.shift);
                    self.note_suite(&datagram);
                    self.outgoing.push_back(datagram);
                }
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    let due = at.saturating_duration_since(beginning());
                    self.due = Some(due.max(now));
                    return;
                }
                Output::Connected => self.establish(),
                Output::PeerCert(leaf) => self.leaf = Some(leaf.to_vec()),
                Output::ApplicationData(plaintext) => self.inbox.push_back(plaintext.to_vec()),
                Output::CloseNotify => self.end(Closed::Peer),
                _ => {}
            }
            if self.is_closed() && self.outgoing.len() > 16 {
                return;
            }
        }
    }

    /// The suite stands in the ServerHello, which goes in the clear.
    fn note_suite(&mut self, datagram: &[u8]) {
        if self.state != State::Handshaking {
            return;
        }
        for record in Records(datagram).take_while(is_clear) {
            if record.content_type != HANDSHAKE {
                continue;
            }
            let Some((fragment, body)) = Fragment::parse(record.body) else {
                continue;
            };
            if fragment.message_type != SERVER_HELLO || fragment.offset != 0 {
                continue;
            }
            // Version and random, and then the session id with its length.
            let suite = body.get(34).and_then(|length| {
                let place = 35 + usize::from(*length);
                let number: [u8; 2] = body.get(place..place + 2)?.try_into().ok()?;
                let number = u16::from_be_bytes(number);
                Suite::ALL
                    .into_iter()
                    .find(|suite| suite.number() == number)
            });
            self.suite = suite.or(self.suite);
        }
    }

    fn establish(&mut self) {
        let chain = self.leaf.take().map_or(Ok(Vec::new()), |leaf| {
            // dimpl gives the leaf alone. The chain went through the transcript.
            let chain = self
                .chains
                .drain(..)
                .find(|chain| chain.first() == Some(&leaf));
            let chain = chain.unwrap_or_else(|| vec![leaf]);
            let parsed = chain.iter().map(|der| Certificate::from_der(der));
            parsed.collect::<Result<Vec<_>, _>>()
        });
        let chain = match chain {
            Ok(chain) => chain,
            Err(error) => {
                let _ = self.dtls.close();
                self.end(Closed::Certificate(error.to_string()));
                return;
            }
        };
        let server = self.own.as_ref().or_else(|| chain.first());
        self.peer = Some(SessionPeer {
            suite: self.suite.map_or("unknown", Suite::name),
            version: "DTLS 1.3",
            server_name: self.server_name.take(),
            server_certificate_der: server.map(|own| own.der().to_vec()).unwrap_or_default(),
            exporter: None,
            chain,
        });
        self.chains = Vec::new();
        // What comes from now on are new keys and tickets.
        self.handshake_bytes_left = self.message_bytes_max;
        self.state = State::Established;
    }

    pub(super) fn transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        self.inbox.pop_front()
    }

    pub(super) fn send(&mut self, now: Moment, plaintext: &[u8]) -> Result<(), Error> {
        self.guard(|session| {
            let result = session.dtls.handle_timeout(instant(now));
            let result = result.and_then(|()| session.dtls.send_application_data(plaintext));
            session.poll(now);
            if let Err(error) = result {
                session.end(Closed::Library(error.to_string()));
            }
        });
        match &self.state {
            // Closed by the peer just before is found out by whoever asks next.
            State::Closed(closed @ Closed::Library(_)) => Err(Error::Closed(closed.clone())),
            _ => Ok(()),
        }
    }

    pub(super) fn payload_max(&self) -> usize {
        PLAINTEXT_MAX
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Handshaking => {
                let ends = self.handshake_ends;
                Some(self.due.map_or(ends, |due| due.min(ends)))
            }
            State::Established => self.due,
            State::Closed(_) => None,
        }
    }

    pub(super) fn advance(&mut self, now: Moment) {
        if self.is_closed() {
            return;
        }
        if self.state == State::Handshaking && now >= self.handshake_ends {
            self.end(Closed::HandshakeTime);
            return;
        }
        self.guard(|session| {
            let result = session.dtls.handle_timeout(instant(now));
            session.poll(now);
            if let Err(error) = result {
                session.fail(&error);
            }
        });
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    pub(super) fn peer(&self) -> Option<&SessionPeer> {
        self.peer.as_ref()
    }

    pub(super) fn close(&mut self) {
        if self.is_closed() {
            return;
        }
        self.guard(|session| {
            let _ = session.dtls.close();
            session.poll(beginning().elapsed());
        });
        self.end(Closed::Ours);
    }
}

/// Records with the long header and without encryption: alert, handshake, acknowledgement.
fn is_clear(record: &Record<'_>) -> bool {
    record.epoch == 0 && matches!(record.content_type, CHANGE_CIPHER_SPEC..=26)
}

/// A datagram with the numbers of its records in the clear moved on.
fn moved(datagram: &[u8], shift: u64) -> Vec<u8> {
    let mut wire = Vec::with_capacity(datagram.len());
    for record in Records(datagram).take_while(is_clear) {
        record.append_with_sequence(record.sequence.saturating_add(shift), &mut wire);
    }
    // Everything after them is encrypted, numbers and all.
    let rest = datagram.get(wire.len()..).unwrap_or_default();
    wire.extend_from_slice(rest);
    wire
}

#[cfg(test)]
mod tests {
    use dimpl::crypto::NamedGroup;

    use super::*;
    use crate::dtls::{Front, Hello, Session};

    /// A device that has one group only.
    ///
    /// Requirements: CBR-016
    #[test]
    fn each_group_is_enough() {
        const NOW: Moment = Duration::from_secs(1000);
        let today = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let pki = testkit::Pki::p256(today).expect("identities");
        let server = ServerConfig::new(vec![pki.domain.registrar.clone()]);
        let front = Front::new(server, [7; 32]).expect("front");
        let device = certificate_of(&pki.idevid("1").expect("device")).expect("usable");
        for group in [NamedGroup::X25519, NamedGroup::Secp256r1] {
            let config = provider::builder(&[Suite::Aes128Gcm], 1024, Duration::from_secs(90))
                .kx_groups(&[group])
                .build()
                .expect("a configuration");
            let mut dtls = Dtls::new_13(Arc::new(config), device.clone(), instant(NOW));
            dtls.set_active(true);
            let mut client = Session13::new(dtls, NOW, Duration::from_secs(90));
            client.advance(NOW);
            let mut client = Session::from(client);
            let mut server: Option<Session> = None;
            for _ in 0..20 {
                while let Some(datagram) = client.transmit() {
                    match &mut server {
                        Some(server) => server.receive(NOW, &datagram).expect("received"),
                        None => match front.receive(NOW, b"peer", &datagram) {
                            Hello::Answer(answer) => {
                                client.receive(NOW, &answer).expect("received");
                            }
                            Hello::Accept(session) => server = Some(*session),
                            Hello::Dropped(reason) => panic!("{group:?}: {reason}"),
                        },
                    }
                }
                while let Some(datagram) = server.as_mut().and_then(Session::transmit) {
                    client.receive(NOW, &datagram).expect("received");
                }
            }
            assert_eq!(*client.state(), State::Established, "{group:?}");
            let server = server.expect("a session");
            assert_eq!(*server.state(), State::Established, "{group:?}");
        }
    }
}

#[cfg(test)]
mod hostile;
