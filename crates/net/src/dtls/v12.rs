//! One association of DTLS 1.2, by OpenSSL.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use coap::Moment;
use openssl::ssl::{ErrorCode, NameType, Ssl, SslRef, SslStream, SslVersion};
use pki::Certificate;

use super::context::{self, HAS_FRAGMENT_LENGTH, PEER_RECORD_LIMIT, ServerContext};
use super::protected::{Opened, PLAINTEXT_MAX, Protected};
use super::record::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER_LENGTH, Record, Records,
    handshake_is_sound,
};
use super::session::{Closed, SessionPeer, State};
use super::{ClientConfig, ClientHello, Error, ServerConfig, Suite};

/// OpenSSL's first interval before a lost flight is repeated, and its longest.
const FLIGHT_INTERVAL: Duration = Duration::from_secs(1);
const FLIGHT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// When OpenSSL's clock is behind the caller's by a little.
const FLIGHT_LATER: Duration = Duration::from_millis(50);

/// OpenSSL holds back records of the next epoch, each in a buffer of 16 KiB. More than these are
/// not shown to it in one handshake.
const EARLY_RECORDS_MAX: usize = 16;

/// The longest record with what encryption adds.
const SEALED_MAX: usize = PLAINTEXT_MAX + 64;

/// How often a server's last flight is repeated.
const REPEATS_MAX: u32 = 16;

const FINISHED: u8 = 20;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const NO_RENEGOTIATION: [u8; 2] = [1, 100];
const DTLS_1_2: [u8; 2] = [0xFE, 0xFD];

/// What is waiting to be read by the application; more is dropped, as a full socket would do.
const INBOX_MAX: usize = 64;

/// Datagrams between OpenSSL and the caller. OpenSSL reads and writes a whole one at a time.
#[derive(Default)]
struct Pipe {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    /// Added to the number of every unprotected record that goes out.
    shift: u64,
    /// The number of the next unprotected record that would go out.
    next_in_clear: u64,
    /// The highest number of a protected record that went out.
    highest: Option<u64>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(datagram) = self.incoming.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        // The rest of a datagram that is too long is lost, as with a socket.
        let length = datagram.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(&datagram) {
            *to = *from;
        }
        Ok(length)
    }
}

impl Write for Pipe {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        let mut moved = Vec::with_capacity(datagram.len());
        for record in Records(datagram) {
            if record.epoch == 0 {
                let sequence = record.sequence.saturating_add(self.shift);
                record.append_with_sequence(sequence, &mut moved);
                self.next_in_clear = sequence.saturating_add(1);
            } else {
                record.append_with_sequence(record.sequence, &mut moved);
                self.highest = self.highest.max(Some(record.sequence));
            }
        }
        self.outgoing.push_back(moved);
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What an association may do.
struct Limits {
    handshake_message_bytes_max: usize,
    forgery_limit: u32,
}

enum Engine {
    /// OpenSSL, as long as it takes.
    Handshake(Box<SslStream<Pipe>>),
    /// What the handshake left.
    Records(Box<Records12>),
    /// Over.
    Gone,
}

/// An association after its handshake.
struct Records12 {
    protected: Protected,
    /// A server's last message and the number of the next record in the clear, for a client that
    /// did not get them.
    finished: Option<Vec<u8>>,
    next_in_clear: u64,
    repeats: u32,
    forgeries: u32,
    forgery_limit: u32,
}

/// One association of DTLS 1.2.
pub(super) struct Session12 {
    engine: Engine,
    state: State,
    limits: Limits,
    /// The server's own certificate; a client learns the server's from the handshake.
    own_certificate: Option<Certificate>,
    client_random: Option<[u8; 32]>,
    /// Added to the number of every unprotected record that comes in.
    shift: u64,
    /// What the peer can take in one record.
    payload_max: usize,
    /// Protected records that came before the handshake was over.
    early: Vec<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    inbox: VecDeque<Vec<u8>>,
    peer: Option<Arc<SessionPeer>>,
    handshake_ends: Moment,
    flight_due: Option<Moment>,
    flight_interval: Duration,
}

impl Session12 {
    /// Begins an association; the ClientHello is ready to be sent.
    pub(super) fn client(config: &ClientConfig, now: Moment) -> Result<Self, Error> {
        let context = context::client(config)?;
        let mut ssl = Ssl::new(&context)?;
        ssl.set_mtu(u32::try_from(config.mtu).unwrap_or(u32::MAX))?;
        if let Some(name) = &config.server_name {
            ssl.set_hostname(name)?;
        }
        ssl.set_connect_state();
        let limits = Limits {
            handshake_message_bytes_max: config.handshake_message_bytes_max,
            forgery_limit: config.forgery_limit,
        };
        let ends = now.saturating_add(config.handshake_time);
        let mut session = Self::new(ssl, limits, ends)?;
        session.drive();
        session.schedule(now, FLIGHT_INTERVAL);
        Ok(session)
    }

    fn new(ssl: Ssl, limits: Limits, handshake_ends: Moment) -> Result<Self, Error> {
        Ok(Self {
            engine: Engine::Handshake(Box::new(SslStream::new(ssl, Pipe::default())?)),
            state: State::Handshaking,
            limits,
            own_certificate: None,
            client_random: None,
            shift: 0,
            payload_max: PLAINTEXT_MAX,
            early: Vec::new(),
            outgoing: VecDeque::new(),
            inbox: VecDeque::new(),
            peer: None,
            handshake_ends,
            flight_due: None,
            flight_interval: FLIGHT_INTERVAL,
        })
    }

    /// Takes up a client that has proven its address.
    pub(super) fn server(
        config: &ServerConfig,
        context: &ServerContext,
        now: Moment,
        hello: &ClientHello<'_>,
        datagram: &[u8],
    ) -> Result<Self, Error> {
        let mut ssl = Ssl::new(&context.context)?;
        let payload_max = hello
            .record_limit()
            .unwrap_or(PLAINTEXT_MAX)
            .min(PLAINTEXT_MAX);
        let mtu = config.mtu.min(payload_max.saturating_add(HEADER_LENGTH));
        ssl.set_mtu(u32::try_from(mtu).unwrap_or(u32::MAX))?;
        if let Some(index) = *HAS_FRAGMENT_LENGTH {
            ssl.set_ex_data(index, hello.extension(1).is_some());
        }
        ssl.set_accept_state();
        let limits = Limits {
            handshake_message_bytes_max: config.handshake_message_bytes_max,
            forgery_limit: config.forgery_limit,
        };
        let mut session = Self::new(ssl, limits, now.saturating_add(config.handshake_time))?;
        session.own_certificate = Some(context.certificate.clone());
        session.client_random = Some(hello.random);
        session.payload_max = payload_max;
        // The ClientHello as it was without cookie has the number of the one with the cookie, so
        // everything after it moves on by one.
        session.shift = 1;
        session.feed(hello.first_flight(hello.record_sequence));
        if session.is_closed() {
            return Ok(session);
        }
        // OpenSSL's own HelloVerifyRequest, number 0; the client has had ours.
        session.outgoing.clear();
        if let Engine::Handshake(stream) = &mut session.engine {
            stream.get_mut().shift = hello.record_sequence.saturating_sub(1);
        }
        session.receive(now, datagram)?;
        Ok(session)
    }

    pub(super) fn client_random(&self) -> Option<&[u8; 32]> {
        self.client_random.as_ref()
    }

    pub(super) fn receive(&mut self, now: Moment, datagram: &[u8]) -> Result<(), Error> {
        for record in Records(datagram) {
            match &self.state {
                State::Closed(closed) => return Err(Error::Closed(closed.clone())),
                State::Handshaking => self.receive_handshaking(now, &record),
                State::Established => self.receive_established(&record),
            }
        }
        Ok(())
    }

    fn receive_handshaking(&mut self, now: Moment, record: &Record<'_>) {
        // DTL-009, DTL-019: what has no place here is dropped without an answer.
        match (record.epoch, record.content_type) {
            (0, HANDSHAKE) => {
                if !handshake_is_sound(record.body, self.limits.handshake_message_bytes_max) {
                    return;
                }
            }
            (0, CHANGE_CIPHER_SPEC | ALERT) => {}
            (1, HANDSHAKE | ALERT | APPLICATION_DATA) => {
                if self.early.len() >= EARLY_RECORDS_MAX || record.body.len() > SEALED_MAX {
                    return;
                }
                self.early.push(record.with_sequence(record.sequence));
            }
            _ => return,
        }
        let shift = if record.epoch == 0 { self.shift } else { 0 };
        let before = self.outgoing.len();
        self.feed(record.with_sequence(record.sequence.saturating_add(shift)));
        if self.outgoing.len() > before && self.state == State::Handshaking {
            self.schedule(now, FLIGHT_INTERVAL);
        }
    }

    fn receive_established(&mut self, record: &Record<'_>) {
        let Engine::Records(records) = &mut self.engine else {
            return;
        };
        if record.epoch != 1 || record.content_type == CHANGE_CIPHER_SPEC {
            return;
        }
        let plaintext = match records.protected.open(record) {
            Opened::Plaintext(plaintext) => plaintext,
            Opened::Repeated => return,
            Opened::Forged => {
                // DTL-011, DTL-012, CBR-017: counted, and too many end the association.
                records.forgeries = records.forgeries.saturating_add(1);
                if records.forgeries >= records.forgery_limit
                    && !defects::seeded!("dtls-counts-no-forgeries")
                {
                    self.say(&CLOSE_NOTIFY);
                    self.end(Closed::Forgeries);
                }
                return;
            }
        };
        match (record.content_type, plaintext.as_slice()) {
            (APPLICATION_DATA, _) if self.inbox.len() < INBOX_MAX => {
                self.inbox.push_back(plaintext);
            }
            (ALERT, [_, 0]) => {
                self.say(&CLOSE_NOTIFY);
                self.end(Closed::Peer);
            }
            (ALERT, [2, description]) => {
                self.end(Closed::Alert(format!("alert {description}")));
            }
            // DTL-020: HelloRequest and ClientHello would begin the handshake anew.
            (HANDSHAKE, [0 | 1, ..]) => self.say(&NO_RENEGOTIATION),
            (HANDSHAKE, [FINISHED, ..]) => self.repeat_last_flight(),
            _ => {}
        }
    }

    /// The client says Finished once more: it has not got ours.
    fn repeat_last_flight(&mut self) {
        let Engine::Records(records) = &mut self.engine else {
            return;
        };
        let Some(finished) = &records.finished else {
            return;
        };
        if records.repeats >= REPEATS_MAX {
            return;
        }
        records.repeats += 1;
        let Ok(Some(finished)) = records.protected.seal(HANDSHAKE, finished) else {
            return;
        };
        let change = Record {
            content_type: CHANGE_CIPHER_SPEC,
            epoch: 0,
            sequence: records.next_in_clear,
            version: DTLS_1_2,
            body: &[1],
        };
        records.next_in_clear += 1;
        let mut datagram = change.with_sequence(change.sequence);
        datagram.extend_from_slice(&finished);
        self.outgoing.push_back(datagram);
    }

    /// Sends an alert, if that is possible.
    fn say(&mut self, alert: &[u8; 2]) {
        if let Engine::Records(records) = &mut self.engine
            && let Ok(Some(record)) = records.protected.seal(ALERT, alert)
        {
            self.outgoing.push_back(record);
        }
    }

    pub(super) fn transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        self.inbox.pop_front()
    }

    pub(super) fn send(&mut self, _now: Moment, plaintext: &[u8]) -> Result<(), Error> {
        let Engine::Records(records) = &mut self.engine else {
            return Err(Error::Handshaking);
        };
        let failed = match records.protected.seal(APPLICATION_DATA, plaintext) {
            Ok(Some(record)) => {
                self.outgoing.push_back(record);
                return Ok(());
            }
            Ok(None) => Closed::Library("all record numbers are used up".to_owned()),
            Err(error) => Closed::Library(error.to_string()),
        };
        self.end(failed.clone());
        Err(Error::Closed(failed))
    }

    pub(super) fn payload_max(&self) -> usize {
        self.payload_max
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        if self.state != State::Handshaking {
            return None;
        }
        let ends = self.handshake_ends;
        Some(self.flight_due.map_or(ends, |due| due.min(ends)))
    }

    pub(super) fn advance(&mut self, now: Moment) {
        if self.state != State::Handshaking {
            return;
        }
        if now >= self.handshake_ends {
            self.end(Closed::HandshakeTime);
            return;
        }
        if self.flight_due.is_none_or(|due| now < due) {
            return;
        }
        let before = self.outgoing.len();
        self.drive();
        if self.state != State::Handshaking {
            return;
        }
        if self.outgoing.len() > before {
            let interval = self.flight_interval.saturating_mul(2);
            self.schedule(now, interval.min(FLIGHT_INTERVAL_MAX));
        } else {
            self.flight_due = Some(now.saturating_add(FLIGHT_LATER));
        }
    }

    fn schedule(&mut self, now: Moment, interval: Duration) {
        self.flight_interval = interval;
        self.flight_due = Some(now.saturating_add(interval));
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    pub(super) fn peer(&self) -> Option<&SessionPeer> {
        self.peer.as_deref()
    }

    pub(super) fn close(&mut self) {
        if !self.is_closed() {
            self.say(&CLOSE_NOTIFY);
            self.end(Closed::Ours);
        }
    }

    fn end(&mut self, closed: Closed) {
        self.state = State::Closed(closed);
        self.flight_due = None;
        self.engine = Engine::Gone;
    }

    /// Gives OpenSSL a datagram.
    fn feed(&mut self, datagram: Vec<u8>) {
        if let Engine::Handshake(stream) = &mut self.engine {
            stream.get_mut().incoming.push_back(datagram);
            self.drive();
        }
    }

    /// Lets OpenSSL work on what has come.
    fn drive(&mut self) {
        let Engine::Handshake(stream) = &mut self.engine else {
            return;
        };
        let result = stream.do_handshake();
        let sent: Vec<Vec<u8>> = stream.get_mut().outgoing.drain(..).collect();
        match result {
            Ok(()) => self.establish(&sent),
            Err(error) => match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => {}
                _ => self.end(why(&error).unwrap_or_else(Closed::Handshake)),
            },
        }
        self.outgoing.extend(sent);
    }

    /// The handshake is done: its results are taken over, and OpenSSL is let go.
    fn establish(&mut self, last_flight: &[Vec<u8>]) {
        let Engine::Handshake(mut stream) = std::mem::replace(&mut self.engine, Engine::Gone)
        else {
            return;
        };
        match self.take_over(&mut stream, last_flight) {
            Ok(records) => {
                self.engine = Engine::Records(Box::new(records));
                self.state = State::Established;
                self.flight_due = None;
            }
            Err(closed) => self.end(closed),
        }
    }

    fn take_over(
        &mut self,
        stream: &mut SslStream<Pipe>,
        last_flight: &[Vec<u8>],
    ) -> Result<Records12, Closed> {
        // What came before the last message of the handshake, and was held back.
        let mut buffer = vec![0; PLAINTEXT_MAX];
        while let Ok(length) = stream.ssl_read(&mut buffer) {
            if length == 0 || self.inbox.len() >= INBOX_MAX {
                break;
            }
            let plaintext = buffer.get(..length).unwrap_or_default();
            self.inbox.push_back(plaintext.to_vec());
        }
        let is_server = stream.ssl().is_server();
        let ssl = stream.ssl();
        let peer = self.learn_peer(ssl)?;
        let limit = PEER_RECORD_LIMIT
            .as_ref()
            .and_then(|index| ssl.ex_data(*index));
        if let Some(limit) = limit {
            self.payload_max = self.payload_max.min(usize::from(*limit));
        }
        let library = |error: Error| Closed::Library(error.to_string());
        let suite = Suite::ALL
            .into_iter()
            .find(|suite| suite.name() == peer.suite);
        let suite = suite.ok_or_else(|| Closed::Handshake("another suite".to_owned()))?;
        // All protected records so far are in these flights: a client may have repeated its last.
        let highest = stream.get_ref().highest;
        let next = highest.map_or(0, |highest| highest + 1);
        let mut protected = Protected::take_over(ssl, suite, next).map_err(library)?;
        // What OpenSSL was shown counts as seen, but only what is authentic: a stranger's record
        // with the highest number of all would make all others too old.
        for early in std::mem::take(&mut self.early) {
            for record in Records(&early) {
                let _ = protected.open(&record);
            }
        }
        let own = last_flight.iter().flat_map(|datagram| Records(datagram));
        let finished = own
            .filter(|record| is_server && record.epoch == 1)
            .find_map(|record| protected.open_own(&record));
        self.peer = Some(Arc::new(peer));
        Ok(Records12 {
            protected,
            finished,
            next_in_clear: stream.get_ref().next_in_clear,
            repeats: 0,
            forgeries: 0,
            forgery_limit: if suite.has_short_tag() {
                self.limits.forgery_limit
            } else {
                u32::MAX
            },
        })
    }

    fn learn_peer(&self, ssl: &SslRef) -> Result<SessionPeer, Closed> {
        if ssl.version2() != Some(SslVersion::DTLS1_2) {
            return Err(Closed::Handshake(
                "another version than DTLS 1.2".to_owned(),
            ));
        }
        let unreadable = |error: &dyn fmt::Display| Closed::Certificate(error.to_string());
        let mut chain = Vec::new();
        if let Some(leaf) = ssl.peer_certificate() {
            let der = leaf.to_der().map_err(|error| unreadable(&error))?;
            chain.push(Certificate::from_der(&der).map_err(|error| unreadable(&error))?);
        }
        for certificate in ssl.peer_cert_chain().into_iter().flatten() {
            let der = certificate.to_der().map_err(|error| unreadable(&error))?;
            // A client's chain begins with the leaf, a server's with what comes after it.
            if chain.first().is_some_and(|leaf| leaf.der() == der) {
                continue;
            }
            chain.push(Certificate::from_der(&der).map_err(|error| unreadable(&error))?);
        }
        let suite = ssl
            .current_cipher()
            .and_then(|cipher| cipher.standard_name())
            .unwrap_or("unknown");
        let mut exporter = [0; 32];
        let exported = ssl.extms_support() == Some(true)
            && ssl
                .export_keying_material(&mut exporter, "EXPORTER-Channel-Binding", Some(&[]))
                .is_ok();
        let server = self.own_certificate.as_ref().or_else(|| {
            // Only a client has none of its own here.
            chain.first()
        });
        Ok(SessionPeer {
            suite,
            version: "DTLS 1.2",
            server_name: ssl.servername(NameType::HOST_NAME).map(str::to_owned),
            server_certificate_der: server.map(|own| own.der().to_vec()).unwrap_or_default(),
            exporter: exported.then_some(exporter),
            chain,
        })
    }
}

/// Whether the peer sent an alert, or what OpenSSL says.
fn why(error: &openssl::ssl::Error) -> Result<Closed, String> {
    let Some(stack) = error.ssl_error() else {
        return Err(error.to_string());
    };
    let reasons: Vec<&str> = stack.errors().iter().filter_map(|e| e.reason()).collect();
    let text = reasons.join("; ");
    if text.contains("alert") {
        return Ok(Closed::Alert(text));
    }
    Err(if text.is_empty() {
        error.to_string()
    } else {
        text
    })
}

#[cfg(test)]
mod hostile;
