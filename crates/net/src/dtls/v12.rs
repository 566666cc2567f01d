//! One association of DTLS 1.2, by OpenSSL.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use coap::Moment;
use openssl::ssl::{ErrorCode, NameType, Ssl, SslStream, SslVersion};
use pki::Certificate;

use super::context::{self, HAS_FRAGMENT_LENGTH, PEER_RECORD_LIMIT, PLAINTEXT_MAX, ServerContext};
use super::record::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER_LENGTH, Record, Records, Window,
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
const EARLY_RECORDS_MAX: u32 = 16;

/// What is waiting to be read by the application; more is dropped, as a full socket would do.
const INBOX_MAX: usize = 64;

/// Datagrams between OpenSSL and the caller. OpenSSL reads and writes a whole one at a time.
#[derive(Default)]
struct Pipe {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    /// Added to the number of every unprotected record that goes out.
    shift: u64,
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
        if self.shift == 0 {
            self.outgoing.push_back(datagram.to_vec());
            return Ok(datagram.len());
        }
        let mut moved = Vec::with_capacity(datagram.len());
        for record in Records(datagram) {
            let shift = if record.epoch == 0 { self.shift } else { 0 };
            record.append_with_sequence(record.sequence.saturating_add(shift), &mut moved);
        }
        self.outgoing.push_back(moved);
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Limits {
    handshake_message_bytes_max: usize,
    forgery_limit: u32,
}

/// One association of DTLS 1.2.
pub(super) struct Session12 {
    stream: SslStream<Pipe>,
    state: State,
    limits: Limits,
    /// The server's own certificate; a client learns the server's from the handshake.
    own_certificate: Option<Certificate>,
    client_random: Option<[u8; 32]>,
    /// Added to the number of every unprotected record that comes in.
    shift: u64,
    /// What the peer can take in one record.
    payload_max: usize,
    early_records: u32,
    forgeries: u32,
    forgery_limit: u32,
    window: Window,
    inbox: VecDeque<Vec<u8>>,
    peer: Option<SessionPeer>,
    handshake_ends: Moment,
    flight_due: Option<Moment>,
    flight_interval: Duration,
}

impl Session12 {
    /// Begins an association as client; the ClientHello is ready to be sent.
    ///
    /// # Errors
    /// A configuration or an identity that cannot be used.
    pub(super) fn client(config: &ClientConfig, now: Moment) -> Result<Self, Error> {
        let context = context::client(config)?;
        let mut ssl = Ssl::new(&context)?;
        ssl.set_mtu(u32::try_from(config.mtu).unwrap_or(u32::MAX))?;
        if let Some(name) = &config.server_name {
            ssl.set_hostname(name)?;
        }
        ssl.set_connect_state();
        let mut session = Self {
            stream: SslStream::new(ssl, Pipe::default())?,
            state: State::Handshaking,
            limits: Limits {
                handshake_message_bytes_max: config.handshake_message_bytes_max,
                forgery_limit: config.forgery_limit,
            },
            own_certificate: None,
            client_random: None,
            shift: 0,
            payload_max: PLAINTEXT_MAX,
            early_records: 0,
            forgeries: 0,
            forgery_limit: u32::MAX,
            window: Window::default(),
            inbox: VecDeque::new(),
            peer: None,
            handshake_ends: now.saturating_add(config.handshake_time),
            flight_due: None,
            flight_interval: FLIGHT_INTERVAL,
        };
        session.drive();
        session.schedule(now, FLIGHT_INTERVAL);
        Ok(session)
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
        let mut session = Self {
            stream: SslStream::new(ssl, Pipe::default())?,
            state: State::Handshaking,
            limits: Limits {
                handshake_message_bytes_max: config.handshake_message_bytes_max,
                forgery_limit: config.forgery_limit,
            },
            own_certificate: Some(context.certificate.clone()),
            client_random: Some(hello.random),
            // The ClientHello as it was without cookie has the number of the one with the cookie,
            // so everything after it moves on by one.
            shift: 1,
            payload_max,
            early_records: 0,
            forgeries: 0,
            forgery_limit: u32::MAX,
            window: Window::default(),
            inbox: VecDeque::new(),
            peer: None,
            handshake_ends: now.saturating_add(config.handshake_time),
            flight_due: None,
            flight_interval: FLIGHT_INTERVAL,
        };
        let first = hello.first_flight(hello.record_sequence);
        session.stream.get_mut().incoming.push_back(first);
        session.drive();
        if session.is_closed() {
            return Ok(session);
        }
        // OpenSSL's own HelloVerifyRequest, number 0; the client has had ours.
        let pipe = session.stream.get_mut();
        pipe.outgoing.clear();
        pipe.shift = hello.record_sequence.saturating_sub(1);
        session.receive(now, datagram)?;
        Ok(session)
    }

    pub(super) fn client_random(&self) -> Option<&[u8; 32]> {
        self.client_random.as_ref()
    }

    /// Takes a datagram of the peer. Whatever cannot be used in it is dropped; what that leads to
    /// is seen by [`Self::state`], [`Self::read`] and [`Self::transmit`].
    ///
    /// # Errors
    /// The association is closed.
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
                if self.early_records >= EARLY_RECORDS_MAX {
                    return;
                }
                self.early_records += 1;
            }
            _ => return,
        }
        let shift = if record.epoch == 0 { self.shift } else { 0 };
        let moved = record.with_sequence(record.sequence.saturating_add(shift));
        let pipe = self.stream.get_mut();
        pipe.incoming.push_back(moved);
        let before = pipe.outgoing.len();
        self.drive();
        if self.stream.get_ref().outgoing.len() > before {
            self.schedule(now, FLIGHT_INTERVAL);
        }
    }

    fn receive_established(&mut self, record: &Record<'_>) {
        if record.epoch != 1 || record.content_type == CHANGE_CIPHER_SPEC {
            return;
        }
        let repeated = self.window.has(record.sequence);
        let pipe = self.stream.get_mut();
        pipe.incoming
            .push_back(record.with_sequence(record.sequence));
        let before = (pipe.outgoing.len(), self.inbox.len());
        self.drive();
        let after = (self.stream.get_ref().outgoing.len(), self.inbox.len());
        if before != after || self.is_closed() {
            self.window.insert(record.sequence);
        } else if !repeated {
            // DTL-011, DTL-012, CBR-017: OpenSSL drops it without a word. A record that is sound
            // and leads to nothing (empty, or a warning) is counted too.
            self.forgeries = self.forgeries.saturating_add(1);
            if self.forgeries >= self.forgery_limit {
                let _ = self.stream.shutdown();
                self.end(Closed::Forgeries);
            }
        }
    }

    /// A datagram that is to be sent to the peer.
    pub(super) fn transmit(&mut self) -> Option<Vec<u8>> {
        self.stream.get_mut().outgoing.pop_front()
    }

    /// What the peer's application sent, one record at a time.
    pub(super) fn read(&mut self) -> Option<Vec<u8>> {
        self.inbox.pop_front()
    }

    /// Sends one record of the application.
    ///
    /// # Errors
    /// Not established, or more than [`Self::payload_max`].
    pub(super) fn send(&mut self, _now: Moment, plaintext: &[u8]) -> Result<(), Error> {
        match self.stream.ssl_write(plaintext) {
            Ok(_) => Ok(()),
            Err(error) => {
                let closed = Closed::Library(error.to_string());
                self.end(closed.clone());
                Err(Error::Closed(closed))
            }
        }
    }

    /// The largest payload that the peer can take in one record.
    #[must_use]
    pub(super) fn payload_max(&self) -> usize {
        self.payload_max
    }

    /// When [`Self::advance`] wants to be called; `None` when nothing is waited for.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Moment> {
        if self.state != State::Handshaking {
            return None;
        }
        let ends = self.handshake_ends;
        Some(self.flight_due.map_or(ends, |due| due.min(ends)))
    }

    /// Repeats a lost flight, or gives the handshake up, when its time has come.
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
        let before = self.stream.get_ref().outgoing.len();
        self.drive();
        if self.stream.get_ref().outgoing.len() > before {
            let interval = self
                .flight_interval
                .saturating_mul(2)
                .min(FLIGHT_INTERVAL_MAX);
            self.schedule(now, interval);
        } else {
            self.flight_due = Some(now.saturating_add(FLIGHT_LATER));
        }
    }

    fn schedule(&mut self, now: Moment, interval: Duration) {
        self.flight_interval = interval;
        self.flight_due = Some(now.saturating_add(interval));
    }

    /// How far the association is.
    #[must_use]
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether it is over.
    #[must_use]
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Who is at the other end, once the handshake is done.
    #[must_use]
    pub(super) fn peer(&self) -> Option<&SessionPeer> {
        self.peer.as_ref()
    }

    /// Ends the association; a close_notify is ready to be sent.
    pub(super) fn close(&mut self) {
        if self.state == State::Established {
            let _ = self.stream.shutdown();
        }
        if !self.is_closed() {
            self.end(Closed::Ours);
        }
    }

    fn end(&mut self, closed: Closed) {
        self.state = State::Closed(closed);
        self.flight_due = None;
        self.stream.get_mut().incoming.clear();
    }

    /// Lets OpenSSL work on what has come.
    fn drive(&mut self) {
        if self.state == State::Handshaking {
            match self.stream.do_handshake() {
                Ok(()) => self.establish(),
                Err(error) => match error.code() {
                    ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => return,
                    _ => {
                        let closed = why(&error).unwrap_or_else(|reason| Closed::Handshake(reason));
                        self.end(closed);
                        return;
                    }
                },
            }
        }
        let mut buffer = Vec::new();
        while self.state == State::Established {
            buffer.resize(PLAINTEXT_MAX, 0);
            match self.stream.ssl_read(&mut buffer) {
                Ok(length) => {
                    if self.inbox.len() < INBOX_MAX {
                        self.inbox
                            .push_back(buffer.get(..length).unwrap_or_default().to_vec());
                    }
                }
                Err(error) => match error.code() {
                    ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => return,
                    ErrorCode::ZERO_RETURN => {
                        let _ = self.stream.shutdown();
                        self.end(Closed::Peer);
                    }
                    _ => {
                        let closed = why(&error).unwrap_or_else(|reason| Closed::Library(reason));
                        self.end(closed);
                    }
                },
            }
        }
    }

    fn establish(&mut self) {
        match self.learn_peer() {
            Ok(peer) => {
                if let Some(limit) = PEER_RECORD_LIMIT
                    .as_ref()
                    .and_then(|index| self.stream.ssl().ex_data(*index))
                {
                    self.payload_max = self.payload_max.min(usize::from(*limit));
                }
                let short = Suite::ALL
                    .iter()
                    .any(|suite| suite.name() == peer.suite && suite.has_short_tag());
                if short {
                    self.forgery_limit = self.limits.forgery_limit;
                }
                self.peer = Some(peer);
                self.state = State::Established;
                self.flight_due = None;
            }
            Err(closed) => {
                let _ = self.stream.shutdown();
                self.end(closed);
            }
        }
    }

    fn learn_peer(&self) -> Result<SessionPeer, Closed> {
        let ssl = self.stream.ssl();
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
