//! A CoAP client that says exactly what a case wants said, over [`crate::dtls`].

use std::{
    fmt,
    time::{Duration, Instant},
};

pub use crate::coaps_message::*;
use crate::{
    dtls::{Client, DtlsError, Incoming, Session},
    evidence::Recorder,
    outcome::Finding,
};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoapError {
    /// The session.
    Dtls(DtlsError),
    /// Nothing came in time.
    Silence,
    /// The request was reset.
    Reset,
    /// The session was ended by an alert.
    Alert(u8, u8),
    /// What came is no CoAP, or does not fit.
    Malformed(String),
}

impl fmt::Display for CoapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dtls(error) => error.fmt(f),
            Self::Silence => write!(f, "no answer came in time"),
            Self::Reset => write!(f, "it was answered with a reset"),
            Self::Alert(level, description) => write!(
                f,
                "the session ended with an alert of level {level}: {description}"
            ),
            Self::Malformed(why) => write!(f, "the answer: {why}"),
        }
    }
}

impl From<DtlsError> for CoapError {
    fn from(error: DtlsError) -> Self {
        Self::Dtls(error)
    }
}

impl From<CoapError> for Finding {
    /// No session leaves a case undecided; within one a request has to be answered.
    fn from(error: CoapError) -> Self {
        match error {
            CoapError::Dtls(error) => error.into(),
            other => Self::fail(format!("a request has to be answered; {other}")),
        }
    }
}

/// A request, which may take several messages.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: Code,
    /// Options beside those for blocks.
    pub options: Vec<(u16, Vec<u8>)>,
    /// The body.
    pub payload: Vec<u8>,
    /// The exponent of the blocks of the body.
    pub exponent: u8,
    /// The exponent of the blocks of the answer, if it is said beforehand.
    pub wanted: Option<u8>,
}

impl Ask {
    /// GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new(Code::GET, path)
    }

    /// POST.
    #[must_use]
    pub fn post(path: &str, format: u16, payload: &[u8]) -> Self {
        let mut ask =
            Self::new(Code::POST, path).option(option::CONTENT_FORMAT, uint(u64::from(format)));
        ask.payload = payload.to_vec();
        ask
    }

    /// Any method; the path may have a query.
    #[must_use]
    pub fn new(method: Code, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = path.strip_prefix('/').unwrap_or(path);
        let mut options = Vec::new();
        if !path.is_empty() {
            for segment in path.split('/') {
                options.push((option::URI_PATH, segment.as_bytes().to_vec()));
            }
        }
        if !query.is_empty() {
            for argument in query.split('&') {
                options.push((option::URI_QUERY, argument.as_bytes().to_vec()));
            }
        }
        Self {
            method,
            options,
            payload: Vec::new(),
            exponent: 6,
            wanted: None,
        }
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, number: u16, value: impl Into<Vec<u8>>) -> Self {
        self.options.push((number, value.into()));
        self
    }

    /// Takes an option out.
    #[must_use]
    pub fn without(mut self, number: u16) -> Self {
        self.options.retain(|(found, _)| *found != number);
        self
    }

    /// Accept.
    #[must_use]
    pub fn accept(self, format: u16) -> Self {
        self.option(option::ACCEPT, uint(u64::from(format)))
    }

    /// Blocks of 16 octets for 0, of 1024 for 6, both ways.
    #[must_use]
    pub fn blocks(mut self, exponent: u8) -> Self {
        self.exponent = exponent;
        self.wanted = Some(exponent);
        self
    }
}

/// The answer to one message.
#[derive(Clone, Debug)]
pub struct Reply {
    /// It.
    pub message: Message,
    /// After what time the request was acknowledged without an answer, if it was.
    pub acknowledged_after: Option<Duration>,
    /// After what time the answer came.
    pub after: Duration,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The code of the last message.
    pub code: Code,
    /// The body, put together.
    pub payload: Vec<u8>,
    /// The replies, first to last.
    pub replies: Vec<Reply>,
}

impl Answer {
    /// An option of the first reply that is about the body.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<&[u8]> {
        self.replies
            .iter()
            .filter(|reply| reply.message.code != Code::CONTINUE)
            .find_map(|reply| reply.message.get(number))
    }

    /// The same as a number.
    #[must_use]
    pub fn uint(&self, option: u16) -> Option<u64> {
        self.get(option).map(number)
    }

    /// Content-Format.
    #[must_use]
    pub fn format(&self) -> Option<u64> {
        self.uint(option::CONTENT_FORMAT)
    }

    /// The code and what the diagnostic payload says.
    #[must_use]
    pub fn said(&self) -> String {
        if self.code.is_success() {
            return self.code.to_string();
        }
        format!("{} {}", self.code, String::from_utf8_lossy(&self.payload))
    }
}

/// A CoAP client on a session.
pub struct Coaps {
    /// The session.
    pub session: Session,
    id: u16,
    token: u32,
    patience: Duration,
}

/// The first time after which a message is sent again.
const ACK_TIMEOUT: Duration = Duration::from_millis(2500);

impl Coaps {
    /// Opens a session.
    ///
    /// # Errors
    /// If there is none.
    pub async fn open(client: &Client, record: &Recorder) -> Result<Self, DtlsError> {
        Ok(Self::on(client.connect(record).await?, client.patience))
    }

    /// On a session that is open.
    #[must_use]
    pub fn on(session: Session, patience: Duration) -> Self {
        Self {
            session,
            id: rand::random(),
            token: rand::random(),
            patience,
        }
    }

    /// The next message id.
    pub fn next_id(&mut self) -> u16 {
        self.id = self.id.wrapping_add(1);
        self.id
    }

    /// The next token.
    pub fn next_token(&mut self) -> Vec<u8> {
        self.token = self.token.wrapping_add(1);
        self.token.to_be_bytes().to_vec()
    }

    /// Sends a message once.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn send(&mut self, message: &Message) -> Result<(), CoapError> {
        let octets = message.encode();
        self.session.record().sent("CoAP", &octets, message.shown());
        self.session.send(&octets).await?;
        Ok(())
    }

    /// Sends any octets as one record.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn send_octets(&mut self, octets: &[u8]) -> Result<(), CoapError> {
        self.session
            .record()
            .sent("octets in the place of CoAP", octets, hex::encode(octets));
        self.session.send(octets).await?;
        Ok(())
    }

    /// The next message, if one comes in time.
    ///
    /// # Errors
    /// If what came is none.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<Message>, CoapError> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.session.receive(left).await? {
                None => return Ok(None),
                Some(Incoming::Data(octets)) => {
                    let message = Message::decode(&octets).map_err(CoapError::Malformed)?;
                    self.session
                        .record()
                        .received("CoAP", &octets, message.shown());
                    return Ok(Some(message));
                }
                Some(Incoming::Alert(level, description)) => {
                    self.session
                        .record()
                        .note(format!("an alert of level {level} came: {description}"));
                    if level == 2 || description == 0 {
                        return Err(CoapError::Alert(level, description));
                    }
                }
                Some(Incoming::Handshake(_)) => {}
            }
        }
    }

    /// Sends a message, again if it is lost, and waits for its response.
    ///
    /// # Errors
    /// If none comes.
    pub async fn exchange(&mut self, message: &Message) -> Result<Reply, CoapError> {
        let begun = Instant::now();
        let until = begun + self.patience;
        let mut again = ACK_TIMEOUT;
        let mut acknowledged = None;
        self.send(message).await?;
        let mut due = begun + again;
        loop {
            let deadline = if acknowledged.is_some() {
                until
            } else {
                due.min(until)
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next(left).await? {
                Some(reply) => {
                    if reply.kind == RST && reply.id == message.id {
                        return Err(CoapError::Reset);
                    }
                    if reply.kind == ACK && reply.id == message.id && reply.code == Code::EMPTY {
                        acknowledged.get_or_insert_with(|| begun.elapsed());
                        continue;
                    }
                    let mine = reply.code != Code::EMPTY && reply.token == message.token;
                    let fits = match reply.kind {
                        ACK => reply.id == message.id,
                        CON | NON => true,
                        _ => false,
                    };
                    if reply.kind == CON {
                        let acknowledgement = Message::new(ACK, Code::EMPTY, reply.id);
                        self.send(&acknowledgement).await?;
                    }
                    if reply.kind == ACK && reply.id == message.id && !mine {
                        return Err(CoapError::Malformed(format!(
                            "its token is {} and not {}",
                            hex::encode(&reply.token),
                            hex::encode(&message.token)
                        )));
                    }
                    if mine && fits {
                        return Ok(Reply {
                            message: reply,
                            acknowledged_after: acknowledged,
                            after: begun.elapsed(),
                        });
                    }
                }
                None if Instant::now() >= until => return Err(CoapError::Silence),
                None => {
                    again *= 2;
                    due = Instant::now() + again;
                    self.send(message).await?;
                }
            }
        }
    }

    /// A message of a request, with an id and a token of its own.
    pub fn message(&mut self, ask: &Ask) -> Message {
        let mut message = Message::new(CON, ask.method, self.next_id());
        message.token = self.next_token();
        message.options.clone_from(&ask.options);
        message
    }

    /// Sends a request, block by block, and puts the answer together.
    ///
    /// # Errors
    /// If there is no answer, or its blocks do not fit.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer, CoapError> {
        const BLOCKS_MAX: usize = 4096;
        let mut replies = Vec::new();
        let mut exponent = ask.exponent;
        let mut from = 0;
        let is_long = ask.payload.len() > size(exponent);
        // The body.
        let mut reply = loop {
            let mut message = self.message(ask);
            let length = size(exponent);
            let to = (from + length).min(ask.payload.len());
            let more = to < ask.payload.len();
            message.payload = ask.payload.get(from..to).unwrap_or_default().to_vec();
            if is_long {
                let place = u32::try_from(from / length).unwrap_or_default();
                message = message.option(option::BLOCK1, block(place, more, exponent));
            }
            if let Some(wanted) = ask.wanted.filter(|_| !more) {
                message = message.option(option::BLOCK2, block(0, false, wanted));
            }
            let reply = self.exchange(&message).await?;
            if !more || reply.message.code != Code::CONTINUE {
                break reply;
            }
            if let Some((_, _, smaller)) = reply.message.block(option::BLOCK1)
                && smaller < exponent
            {
                exponent = smaller;
            }
            from = to;
            replies.push(reply);
        };
        // The answer's body.
        let mut payload = reply.message.payload.clone();
        let mut next = 1;
        while let Some((place, true, exponent)) = reply.message.block(option::BLOCK2) {
            if place + 1 != u64::from(next) || payload.len() != next as usize * size(exponent) {
                return Err(CoapError::Malformed(format!(
                    "block {place} came with {} octets so far",
                    payload.len()
                )));
            }
            replies.push(reply);
            if replies.len() > BLOCKS_MAX {
                return Err(CoapError::Malformed("its blocks do not end".into()));
            }
            let message = self
                .message(ask)
                .option(option::BLOCK2, block(next, false, exponent));
            reply = self.exchange(&message).await?;
            payload.extend_from_slice(&reply.message.payload);
            next += 1;
            if !reply.message.code.is_success() {
                break;
            }
        }
        let code = reply.message.code;
        replies.push(reply);
        Ok(Answer {
            code,
            payload,
            replies,
        })
    }

    /// Sends octets, then a ping, and returns what came until the ping was answered and a little
    /// longer: so silence can be told without waiting long.
    ///
    /// # Errors
    /// If the ping is not answered.
    pub async fn fenced(&mut self, sent: &[Vec<u8>]) -> Result<Vec<Message>, CoapError> {
        const AFTER: Duration = Duration::from_millis(300);
        for octets in sent {
            self.send_octets(octets).await?;
        }
        self.fence(AFTER).await
    }

    /// What comes until a ping is answered and for some time after.
    ///
    /// # Errors
    /// If the ping is not answered.
    pub async fn fence(&mut self, after: Duration) -> Result<Vec<Message>, CoapError> {
        let ping = Message::new(CON, Code::EMPTY, self.next_id());
        let mut came = Vec::new();
        let until = Instant::now() + self.patience;
        self.send(&ping).await?;
        let mut due = Instant::now() + ACK_TIMEOUT;
        loop {
            let left = due.min(until).saturating_duration_since(Instant::now());
            match self.next(left).await? {
                Some(message) if message.kind == RST && message.id == ping.id => break,
                Some(message) => came.push(message),
                None if Instant::now() >= until => return Err(CoapError::Silence),
                None => {
                    due = Instant::now() + ACK_TIMEOUT;
                    self.send(&ping).await?;
                }
            }
        }
        while let Some(message) = self.next(after).await? {
            came.push(message);
        }
        Ok(came)
    }
}

/// Octets of a block.
#[must_use]
pub fn size(exponent: u8) -> usize {
    1 << (exponent.min(6) + 4)
}
