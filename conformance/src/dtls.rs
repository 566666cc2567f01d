//! A DTLS 1.2 client that does what a case wants: offers anything, cuts its messages into any
//! fragments, shows any certificate, signs wrongly, sends records that no session made.
//!
//! It is written by hand on OpenSSL's primitives, because no library makes wrong handshakes. It
//! believes no server: what the server's certificate is worth is the business of cases.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::net::UdpSocket;

pub use crate::dtls_wire::*;
use crate::{
    dtls_handshake::{Handshaking, alert_of},
    evidence::Recorder,
    forge::{key::Key, x509::Identity},
    outcome::Finding,
};

/// The first time after which a flight is sent again.
pub(crate) const FLIGHT_TIME: Duration = Duration::from_secs(1);
/// The largest datagram.
const DATAGRAM_MAX_BYTES: usize = 1 << 16;

/// Why there is no session, or no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DtlsError {
    /// Nobody listens, or the name does not resolve.
    Connect(String),
    /// Nothing came in time.
    Silence(String),
    /// An alert: level and description.
    Alert(u8, u8),
    /// What came is no DTLS, or does not fit.
    Broken(String),
    /// The suite itself failed.
    Suite(String),
}

impl fmt::Display for DtlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Silence(what) => write!(f, "no {what} came in time"),
            Self::Alert(level, description) => {
                write!(f, "an alert of level {level}: {description}")
            }
            Self::Broken(why) => write!(f, "the handshake: {why}"),
            Self::Suite(why) => write!(f, "the suite failed: {why}"),
        }
    }
}

impl From<DtlsError> for Finding {
    /// Most cases are about what is said within a session, so no session leaves them undecided.
    fn from(error: DtlsError) -> Self {
        Self::could_not_test(error.to_string())
    }
}

/// What a client does differently in its handshake.
#[derive(Clone, Debug, Default)]
pub struct Tricks {
    /// Octets of a fragment of a handshake message at most.
    pub fragment: Option<usize>,
    /// Fragments go in another order.
    pub shuffled: bool,
    /// Fragments overlap, and some come twice.
    pub overlapping: bool,
    /// The second fragment of each message says another total length.
    pub other_total: bool,
    /// CertificateVerify is by another key.
    pub signed_by_another: bool,
    /// There is no CertificateVerify.
    pub unsigned: bool,
    /// Finished is wrong.
    pub wrong_finished: bool,
    /// The server's first flight is thrown away until it comes again.
    pub deaf_to_first_flight: bool,
    /// The server's last flight is thrown away until it comes again.
    pub deaf_to_last_flight: bool,
    /// Resume this.
    pub resume: Option<Resumption>,
}

/// What resumes a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    pub(crate) session_id: Vec<u8>,
    pub(crate) ticket: Vec<u8>,
    pub(crate) master: Vec<u8>,
}

/// How to reach a server, and as whom.
#[derive(Clone)]
pub struct Client {
    /// Where to connect: `host:port`.
    pub address: String,
    /// Chain, leaf first, and key.
    pub identity: Option<(Vec<Vec<u8>>, Key)>,
    /// What is offered.
    pub hello: Hello,
    /// What is done differently.
    pub tricks: Tricks,
    /// How long one answer may take.
    pub patience: Duration,
}

impl Client {
    /// For `coaps://host:port`, or another address for the same name.
    ///
    /// # Errors
    /// If the URL is not of that form.
    pub fn new(url: &str, address: Option<&str>, patience: Duration) -> anyhow::Result<Self> {
        let rest = url
            .strip_prefix("coaps://")
            .ok_or_else(|| anyhow::anyhow!("{url}: an endpoint begins with coaps://"))?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let usual = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:5684")
        };
        Ok(Self {
            address: address.map_or(usual, str::to_owned),
            identity: None,
            hello: Hello::usual(),
            tricks: Tricks::default(),
            patience,
        })
    }

    /// The same as somebody.
    #[must_use]
    pub fn with_identity(&self, identity: &Identity) -> Self {
        let mut client = self.clone();
        client.identity = Some((identity.chain(), identity.key().clone()));
        client
    }

    /// The same with another offer.
    #[must_use]
    pub fn with_hello(&self, change: impl FnOnce(Hello) -> Hello) -> Self {
        let mut client = self.clone();
        client.hello = change(client.hello);
        client
    }

    /// The same doing something differently.
    #[must_use]
    pub fn with_tricks(&self, change: impl FnOnce(&mut Tricks)) -> Self {
        let mut client = self.clone();
        change(&mut client.tricks);
        client
    }

    async fn wire(&self, record: &Recorder) -> Result<Wire, DtlsError> {
        let connect = |error: std::io::Error| DtlsError::Connect(error.to_string());
        let peer: SocketAddr = tokio::net::lookup_host(&self.address)
            .await
            .map_err(connect)?
            .next()
            .ok_or_else(|| DtlsError::Connect(format!("{} is no address", self.address)))?;
        let any = if peer.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).await.map_err(connect)?;
        socket.connect(peer).await.map_err(connect)?;
        Ok(Wire::new(socket, record, self.hello.record_version))
    }

    /// Says hello, brings the cookie back, and tells what the server says then.
    ///
    /// # Errors
    /// If nobody listens, or what came is no DTLS.
    pub async fn probe(&self, record: &Recorder) -> Result<Probe, DtlsError> {
        let mut wire = self.wire(record).await?;
        wire.probe(&self.hello, self.patience).await
    }

    /// Sends a ClientHello with a cookie that nobody gave, and tells which handshake message comes.
    ///
    /// # Errors
    /// If nobody listens.
    pub async fn hello_with_cookie(
        &self,
        record: &Recorder,
        cookie: &[u8],
    ) -> Result<Option<u8>, DtlsError> {
        let mut wire = self.wire(record).await?;
        let random = rand::random::<[u8; 32]>();
        wire.hello_kind(&self.hello, &random, cookie, self.patience)
            .await
    }

    /// Gets a cookie at one port and uses it at another; which handshake message comes there.
    ///
    /// # Errors
    /// If nobody listens, or there is no cookie.
    pub async fn cookie_of_another(&self, record: &Recorder) -> Result<Option<u8>, DtlsError> {
        let random = rand::random::<[u8; 32]>();
        let mut one = self.wire(record).await?;
        one.hello_kind(&self.hello, &random, &[], self.patience)
            .await?;
        let cookie = one
            .last_cookie
            .clone()
            .ok_or_else(|| DtlsError::Broken("there is no HelloVerifyRequest".into()))?;
        let mut other = self.wire(record).await?;
        other
            .hello_kind(&self.hello, &random, &cookie, self.patience)
            .await
    }

    /// Begins a handshake and goes on with a certificate that says that it has 2^24-1 octets.
    ///
    /// # Errors
    /// If there is no handshake to begin.
    pub async fn huge_message(&self, record: &Recorder) -> Result<(), DtlsError> {
        let mut wire = self.wire(record).await?;
        let probe = wire.probe(&self.hello, self.patience).await?;
        probe.hello()?;
        let message = Handshake {
            kind: CERTIFICATE,
            number: probe.sent.number + 1,
            body: vec![0; 100],
        };
        for from in [0, 50] {
            let fragment = message.fragment(from, from + 50, (1 << 24) - 1);
            let datagram = wire.clear(HANDSHAKE, fragment).encode();
            wire.record
                .sent("a fragment of a huge message", &datagram, "");
            wire.send(&datagram).await?;
        }
        Ok(())
    }

    /// Opens a session.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, record: &Recorder) -> Result<Session, DtlsError> {
        let wire = self.wire(record).await?;
        self.connect_on(wire).await
    }

    /// Opens a session from the port of another, which is forgotten.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect_again(&self, session: Session) -> Result<Session, DtlsError> {
        let record = session.wire.record.clone();
        let wire = Wire::new(session.wire.socket, &record, self.hello.record_version);
        self.connect_on(wire).await
    }

    async fn connect_on(&self, mut wire: Wire) -> Result<Session, DtlsError> {
        let mut hello = self.hello.clone();
        if let Some(resumption) = &self.tricks.resume {
            hello.session_id.clone_from(&resumption.session_id);
            if !resumption.ticket.is_empty() {
                hello = hello.set(SESSION_TICKET, resumption.ticket.clone());
                if hello.session_id.is_empty() {
                    hello.session_id = vec![7; 32];
                }
            }
        }
        let probe = wire.probe(&hello, self.patience).await?;
        let server = probe.hello()?.clone();
        let handshaking = Handshaking {
            client: self,
            hello,
            transcript: [probe.sent.encode(), probe.received()].concat(),
            wire,
            probe,
            server,
            next: 0,
        };
        handshaking.finish().await
    }
}

/// A socket and what came through it.
pub(crate) struct Wire {
    socket: UdpSocket,
    pub(crate) record: Recorder,
    record_version: u16,
    /// Records that came and were not read.
    pub(crate) came: VecDeque<Record>,
    pub(crate) assembler: Assembler,
    /// Octets of each datagram that came.
    pub(crate) datagrams: Vec<usize>,
    /// The number of the next record in the clear.
    number: u64,
    /// Datagrams that went.
    sent: Vec<Vec<u8>>,
    /// Octets of the largest record in the clear that came.
    pub(crate) records_max: usize,
    last_cookie: Option<Vec<u8>>,
}

/// What came of a hello.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The ClientHello that was answered.
    pub sent: Handshake,
    pub(crate) random: Vec<u8>,
    /// The cookie that had to be brought back.
    pub cookie: Option<Vec<u8>>,
    /// The HelloRetryRequest of DTLS 1.3.
    pub retry: Option<ServerHello>,
    /// Octets of the first ClientHello's datagram, and of what came before the cookie went back.
    pub first: (usize, usize),
    answer: Answered,
}

#[derive(Clone, Debug)]
enum Answered {
    Hello(Handshake, ServerHello),
    Alert(u8, u8),
    Nothing,
}

impl Probe {
    /// The ServerHello.
    ///
    /// # Errors
    /// If there is none.
    pub fn hello(&self) -> Result<&ServerHello, DtlsError> {
        match &self.answer {
            Answered::Hello(_, hello) => Ok(hello),
            Answered::Alert(level, description) => Err(DtlsError::Alert(*level, *description)),
            Answered::Nothing => Err(DtlsError::Silence("ServerHello".into())),
        }
    }

    fn received(&self) -> Vec<u8> {
        match &self.answer {
            Answered::Hello(message, _) => message.encode(),
            _ => Vec::new(),
        }
    }
}

impl Wire {
    fn new(socket: UdpSocket, record: &Recorder, record_version: u16) -> Self {
        Self {
            socket,
            record: record.clone(),
            record_version,
            came: VecDeque::new(),
            assembler: Assembler::default(),
            datagrams: Vec::new(),
            number: 0,
            sent: Vec::new(),
            records_max: 0,
            last_cookie: None,
        }
    }

    /// Sends a ClientHello and tells which handshake message comes first.
    async fn hello_kind(
        &mut self,
        hello: &Hello,
        random: &[u8],
        cookie: &[u8],
        patience: Duration,
    ) -> Result<Option<u8>, DtlsError> {
        let message = Handshake {
            kind: CLIENT_HELLO,
            number: u16::from(!cookie.is_empty()),
            body: hello.encode(random, cookie),
        };
        // Whoever takes the cookie for none counts anew, whoever takes it goes on.
        let short = patience.min(Duration::from_secs(3));
        let (mut answer, _) = self.hello_once(&message, short).await?;
        if let Answered::Nothing = answer {
            self.assembler = Assembler::default();
            self.assembler.next = message.number;
            answer = self.hello_once(&message, short).await?.0;
        }
        match answer {
            Answered::Hello(message, _) => {
                if message.kind == HELLO_VERIFY_REQUEST {
                    let mut reader = Reader(&message.body);
                    reader.u16();
                    self.last_cookie = reader.vector(1).map(<[u8]>::to_vec);
                }
                Ok(Some(message.kind))
            }
            _ => Ok(None),
        }
    }

    pub(crate) async fn send(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        self.sent.push(datagram.to_vec());
        // A port that is closed answers an earlier datagram here; the time limit tells.
        let _ = self.socket.send(datagram).await;
        Ok(())
    }

    pub(crate) fn clear(&mut self, kind: u8, body: Vec<u8>) -> Record {
        let record = Record {
            kind,
            version: self.record_version,
            epoch: 0,
            number: self.number,
            body,
        };
        self.number += 1;
        record
    }

    /// Waits for a datagram; whether one came.
    pub(crate) async fn wait(&mut self, until: Instant) -> Result<bool, DtlsError> {
        let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
        match tokio::time::timeout_at(until.into(), self.socket.recv(&mut buffer)).await {
            Err(_) => Ok(false),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(DtlsError::Connect(error.to_string()))
            }
            Ok(Err(error)) => Err(DtlsError::Suite(error.to_string())),
            Ok(Ok(length)) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                self.datagrams.push(length);
                let records = Record::all(datagram);
                for record in records.iter().filter(|record| record.epoch == 0) {
                    self.records_max = self.records_max.max(record.body.len());
                }
                self.came.extend(records);
                Ok(true)
            }
        }
    }

    /// The next record, if one comes in time.
    pub(crate) async fn next(&mut self, until: Instant) -> Result<Option<Record>, DtlsError> {
        loop {
            if let Some(record) = self.came.pop_front() {
                return Ok(Some(record));
            }
            if !self.wait(until).await? {
                return Ok(None);
            }
        }
    }

    async fn hello_once(
        &mut self,
        message: &Handshake,
        patience: Duration,
    ) -> Result<(Answered, usize), DtlsError> {
        let until = Instant::now() + patience;
        let mut again = FLIGHT_TIME;
        let mut sent = 0;
        while Instant::now() < until {
            let record = self.clear(HANDSHAKE, message.encode());
            let datagram = record.encode();
            sent = datagram.len();
            self.record.sent("ClientHello", &datagram, "");
            self.send(&datagram).await?;
            let deadline = (Instant::now() + again).min(until);
            again *= 2;
            while let Some(record) = self.next(deadline).await? {
                match record.kind {
                    ALERT if record.epoch == 0 => {
                        let mut alert = Reader(&record.body);
                        let alert = (
                            alert.u8().unwrap_or_default(),
                            alert.u8().unwrap_or_default(),
                        );
                        self.record.received("alert", &record.encode(), "");
                        // A warning does not end it.
                        if alert.0 == 2 {
                            return Ok((Answered::Alert(alert.0, alert.1), sent));
                        }
                    }
                    HANDSHAKE if record.epoch == 0 => {
                        self.assembler.take(&record.body);
                        if let Some(answer) = self.assembler.message() {
                            self.record.received(
                                format!("handshake message {}", answer.kind),
                                &answer.encode(),
                                "",
                            );
                            let hello = if answer.kind == HELLO_VERIFY_REQUEST {
                                ServerHello::default()
                            } else {
                                ServerHello::read(&answer.body).ok_or_else(|| {
                                    DtlsError::Broken("the ServerHello cannot be read".into())
                                })?
                            };
                            return Ok((Answered::Hello(answer, hello), sent));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok((Answered::Nothing, sent))
    }

    async fn probe(&mut self, hello: &Hello, patience: Duration) -> Result<Probe, DtlsError> {
        let random: Vec<u8> = rand::random::<[u8; 32]>().to_vec();
        let mut hello = hello.clone();
        let mut message = Handshake {
            kind: CLIENT_HELLO,
            number: 0,
            body: hello.encode(&random, &[]),
        };
        let (answer, sent) = self.hello_once(&message, patience).await?;
        let mut probe = Probe {
            sent: message.clone(),
            random: random.clone(),
            cookie: None,
            retry: None,
            first: (sent, self.datagrams.iter().sum()),
            answer,
        };
        let cookie = match &probe.answer {
            Answered::Hello(verify, _) if verify.kind == HELLO_VERIFY_REQUEST => {
                let mut reader = Reader(&verify.body);
                reader.u16();
                reader.vector(1).map(<[u8]>::to_vec)
            }
            Answered::Hello(_, retry) if retry.is_retry() => {
                let cookie = retry.extension(COOKIE).map(<[u8]>::to_vec);
                if let Some(cookie) = &cookie {
                    hello = hello.set(COOKIE, cookie.clone());
                }
                probe.retry = Some(retry.clone());
                cookie
            }
            _ => return Ok(probe),
        };
        let plain = if probe.retry.is_some() {
            Vec::new()
        } else {
            cookie.clone().unwrap_or_default()
        };
        probe.cookie = cookie;
        message.number = 1;
        message.body = hello.encode(&random, &plain);
        let (answer, _) = self.hello_once(&message, patience).await?;
        probe.sent = message;
        probe.answer = answer;
        Ok(probe)
    }

    /// The next handshake message of the first epoch.
    pub(crate) async fn message(&mut self, until: Instant) -> Result<Handshake, DtlsError> {
        loop {
            if let Some(message) = self.assembler.message() {
                self.record.received(
                    format!("handshake message {}", message.kind),
                    &message.encode(),
                    "",
                );
                return Ok(message);
            }
            let record = self
                .next(until)
                .await?
                .ok_or_else(|| DtlsError::Silence("handshake message".into()))?;
            match (record.kind, record.epoch) {
                (HANDSHAKE, 0) => self.assembler.take(&record.body),
                (ALERT, 0) => return Err(alert_of(&record.body)),
                // What follows the next ChangeCipherSpec waits.
                _ => {
                    self.came.push_front(record);
                    return Err(DtlsError::Broken("a record came out of turn".into()));
                }
            }
        }
    }
}

/// What came within a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Application data.
    Data(Vec<u8>),
    /// An alert: level and description.
    Alert(u8, u8),
    /// A handshake message, in whatever epoch.
    Handshake(Vec<u8>),
}

/// An open session.
pub struct Session {
    pub(crate) wire: Wire,
    /// What was offered.
    pub hello: Hello,
    /// The ServerHello.
    pub server: ServerHello,
    /// The server's chain.
    pub chain: Vec<Vec<u8>>,
    /// Octets of each datagram of the server's in the handshake.
    pub handshake_datagrams: Vec<usize>,
    /// Octets of the largest record in the clear.
    pub handshake_records_max: usize,
    /// The value that binds a request to this session (RFC 9266).
    pub exporter: Vec<u8>,
    /// What resumes it.
    pub resumption: Resumption,
    /// Whether it is one that was resumed.
    pub is_resumed: bool,
    pub(crate) writing: Protection,
    pub(crate) reading: Protection,
    pub(crate) number: u64,
    /// Octets of the largest plaintext that came.
    pub plaintext_max: usize,
}

impl Session {
    /// Where what happens is written down.
    #[must_use]
    pub fn record(&self) -> &Recorder {
        &self.wire.record
    }

    /// A record of this session, which is not sent.
    pub fn seal(&mut self, kind: u8, plaintext: &[u8]) -> Record {
        let record = Record {
            kind,
            version: DTLS_1_2,
            epoch: 1,
            number: self.number,
            body: plaintext.to_vec(),
        };
        self.number += 1;
        self.writing.seal(record)
    }

    /// Sends application data.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn send(&mut self, plaintext: &[u8]) -> Result<(), DtlsError> {
        let record = self.seal(APPLICATION_DATA, plaintext);
        self.send_raw(&record.encode()).await
    }

    /// Sends any datagram.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn send_raw(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        self.wire.send(datagram).await
    }

    /// The datagram that went last.
    #[must_use]
    pub fn last_datagram(&self) -> Vec<u8> {
        self.wire.sent.last().cloned().unwrap_or_default()
    }

    /// What comes next, if something comes in time. Repetitions of the handshake are left out.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn receive(&mut self, patience: Duration) -> Result<Option<Incoming>, DtlsError> {
        let until = Instant::now() + patience;
        while let Some(record) = self.wire.next(until).await? {
            if record.epoch == 0 {
                if record.kind == HANDSHAKE && record.body.first() == Some(&HELLO_VERIFY_REQUEST) {
                    return Ok(Some(Incoming::Handshake(record.body)));
                }
                continue;
            }
            let Some(plain) = self.reading.open(&record) else {
                continue;
            };
            self.plaintext_max = self.plaintext_max.max(plain.len());
            match record.kind {
                APPLICATION_DATA => return Ok(Some(Incoming::Data(plain))),
                ALERT => {
                    let DtlsError::Alert(level, description) = alert_of(&plain) else {
                        continue;
                    };
                    return Ok(Some(Incoming::Alert(level, description)));
                }
                HANDSHAKE if plain.first() != Some(&FINISHED) => {
                    return Ok(Some(Incoming::Handshake(plain)));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
