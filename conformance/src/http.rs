//! An HTTP/1.1 client that says exactly what a case wants said, over TLS that offers exactly what a
//! case wants offered.
//!
//! It believes no server: what the server's certificate is worth is the business of cases.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use openssl::{
    pkey::{PKey, Private},
    ssl::{Ssl, SslContext, SslMethod, SslStream, SslVerifyMode, SslVersion},
    x509::X509,
};

use crate::{decode, evidence::Recorder, forge::x509::Identity, outcome::Finding};

/// Octets of an answer that are read.
const ANSWER_SIZE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How to reach a server, and as whom.
#[derive(Clone)]
pub struct Client {
    /// Where to connect: `host:port`.
    pub address: String,
    /// The Host header.
    pub host: String,
    /// The name in the ClientHello.
    pub server_name: Option<String>,
    /// The client's chain, leaf first, and key.
    pub identity: Option<(Vec<Vec<u8>>, PKey<Private>)>,
    /// The oldest version that is offered.
    pub version_min: SslVersion,
    /// The newest version that is offered.
    pub version_max: SslVersion,
    /// The suites of TLS 1.2 that are offered, in OpenSSL's words, if not the usual ones.
    pub suites: Option<String>,
    /// How long one answer may take.
    pub patience: Duration,
}

impl Client {
    /// For `https://host:port`, or another address for the same name.
    ///
    /// # Errors
    /// If the URL is not of that form.
    pub fn new(url: &str, address: Option<&str>, patience: Duration) -> anyhow::Result<Self> {
        let rest = url
            .strip_prefix("https://")
            .ok_or_else(|| anyhow::anyhow!("{url}: an endpoint begins with https://"))?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, "443"),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_name = bare.parse::<std::net::IpAddr>().is_err();
        Ok(Self {
            address: address.map_or_else(|| format!("{host}:{port}"), str::to_owned),
            host: authority.to_owned(),
            // An address is no name for SNI.
            server_name: is_name.then(|| bare.to_owned()),
            identity: None,
            version_min: SslVersion::TLS1_2,
            version_max: SslVersion::TLS1_3,
            suites: None,
            patience,
        })
    }

    /// The same as this client.
    #[must_use]
    pub fn with_identity(&self, identity: &Identity) -> Self {
        let mut client = self.clone();
        client.identity = Some((identity.chain(), identity.key().pkey().clone()));
        client
    }

    /// The same offering these versions only.
    #[must_use]
    pub fn with_versions(&self, min: SslVersion, max: SslVersion) -> Self {
        let mut client = self.clone();
        client.version_min = min;
        client.version_max = max;
        client
    }

    /// The same in TLS 1.2 with a list of suites in OpenSSL's words.
    #[must_use]
    pub fn with_suites(&self, suites: &str) -> Self {
        let mut client = self.with_versions(SslVersion::TLS1_2, SslVersion::TLS1_2);
        client.suites = Some(suites.to_owned());
        client
    }

    /// Sends one request on a connection of its own.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(&self, record: &Recorder, request: Request) -> Result<Answer, HttpError> {
        let client = self.clone();
        let record = record.clone();
        blocking(move || {
            let mut connection = Connection::open(&client, &record)?;
            connection.exchange(&request)
        })
        .await
    }

    /// Opens a connection, for cases that look at the handshake or send several requests.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self, record: &Recorder) -> Result<Connection, HttpError> {
        let client = self.clone();
        let record = record.clone();
        blocking(move || Connection::open(&client, &record)).await
    }
}

/// Runs what waits for sockets beside the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HttpError> + Send + 'static,
) -> Result<T, HttpError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(HttpError::Suite(error.to_string())))
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// Nobody listens, or the name does not resolve.
    Connect(String),
    /// The handshake failed, or an alert ended the connection.
    Tls(String),
    /// The connection ended without an answer.
    Closed(String),
    /// Nothing came in time.
    Silence,
    /// What came is no HTTP.
    Malformed(String),
    /// The suite itself failed.
    Suite(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Closed(why) => write!(f, "the connection ended without an answer: {why}"),
            Self::Silence => write!(f, "no answer in time"),
            Self::Malformed(why) => write!(f, "the answer is no HTTP: {why}"),
            Self::Suite(why) => write!(f, "the suite failed: {why}"),
        }
    }
}

impl From<HttpError> for Finding {
    /// Most cases are about what an answer says, so no answer leaves them undecided. A case that
    /// is about the answer's being there looks at the error itself.
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Silence | HttpError::Closed(_) | HttpError::Malformed(_) => {
                Self::fail(format!("a request has to be answered; {error}"))
            }
            HttpError::Connect(_) | HttpError::Tls(_) | HttpError::Suite(_) => {
                Self::could_not_test(error.to_string())
            }
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers beside Host and Content-Length.
    pub headers: Vec<(String, String)>,
    /// The body; none sends no Content-Length.
    pub body: Option<Vec<u8>>,
    /// What it is, for the record.
    pub title: String,
}

impl Request {
    /// GET.
    pub fn get(path: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            method: "GET".into(),
            title: format!("GET {path}"),
            path,
            headers: Vec::new(),
            body: None,
        }
    }

    /// POST with a media type.
    pub fn post(path: impl Into<String>, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let path = path.into();
        Self {
            method: "POST".into(),
            title: format!("POST {path}"),
            path,
            headers: vec![("Content-Type".into(), media_type.into())],
            body: Some(body.into()),
        }
    }

    /// Another header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// HTTP Basic.
    #[must_use]
    pub fn basic(self, user: &str, password: &str) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", format!("Basic {credentials}"))
    }

    fn encode(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut octets = head.into_bytes();
        octets.extend(self.body.iter().flatten());
        octets
    }

    fn shown(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\n", self.method, self.path);
        for (name, value) in &self.headers {
            // Credentials of the implementation's operator do not belong into a report.
            let value = if name.eq_ignore_ascii_case("authorization") {
                "(left out)"
            } else {
                value
            };
            text.push_str(&format!("{name}: {value}\n"));
        }
        if let Some(body) = &self.body {
            text.push('\n');
            text.push_str(&decode::describe(body));
        }
        text
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The media type in lower case without parameters.
    #[must_use]
    pub fn media_type(&self) -> String {
        let value = self.header("content-type").unwrap_or_default();
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    /// 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// 4xx.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status)
    }

    /// The body as text, shortened.
    #[must_use]
    pub fn text(&self) -> String {
        const SHOWN_MAX: usize = 300;
        let media_type = self.media_type();
        let is_text = media_type.starts_with("text/") || media_type.ends_with("json");
        // The whole body is in the evidence.
        if !is_text && self.body.len() > SHOWN_MAX {
            return format!("{} octets of {media_type}", self.body.len());
        }
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(SHOWN_MAX)
            .collect()
    }
}

/// A TLS connection.
pub struct Connection {
    stream: SslStream<TcpStream>,
    host: String,
    record: Recorder,
    rest: Vec<u8>,
}

impl Connection {
    fn open(client: &Client, record: &Recorder) -> Result<Self, HttpError> {
        let connect = |error: std::io::Error| HttpError::Connect(error.to_string());
        let address = client
            .address
            .to_socket_addrs()
            .map_err(connect)?
            .next()
            .ok_or_else(|| HttpError::Connect(format!("{} has no address", client.address)))?;
        let socket = TcpStream::connect_timeout(&address, client.patience).map_err(connect)?;
        socket
            .set_read_timeout(Some(client.patience))
            .and_then(|()| socket.set_write_timeout(Some(client.patience)))
            .and_then(|()| socket.set_nodelay(true))
            .map_err(connect)?;
        let suite = |error: openssl::error::ErrorStack| HttpError::Suite(error.to_string());
        let context = context(client).map_err(suite)?;
        let mut ssl = Ssl::new(&context).map_err(suite)?;
        if let Some(name) = &client.server_name {
            ssl.set_hostname(name).map_err(suite)?;
        }
        match ssl.connect(socket) {
            Ok(stream) => {
                let peer = stream
                    .ssl()
                    .peer_certificate()
                    .map(|certificate| format!("{:?}", certificate.subject_name()))
                    .unwrap_or_default();
                record.note(format!(
                    "{} with {}, server {peer}",
                    stream.ssl().version_str(),
                    client.address
                ));
                Ok(Self {
                    stream,
                    host: client.host.clone(),
                    record: record.clone(),
                    rest: Vec::new(),
                })
            }
            Err(error) => {
                record.note(format!("TLS handshake with {}: {error}", client.address));
                Err(HttpError::Tls(error.to_string()))
            }
        }
    }

    /// The server's chain, leaf first.
    #[must_use]
    pub fn server_chain(&self) -> Vec<Vec<u8>> {
        self.stream
            .ssl()
            .peer_cert_chain()
            .map(|chain| {
                chain
                    .iter()
                    .filter_map(|certificate| certificate.to_der().ok())
                    .collect()
            })
            .unwrap_or_default()
    }

    /// The version of TLS.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.stream.ssl().version_str()
    }

    /// `tls-unique` of RFC 5929 in TLS 1.2: the Finished of whoever sent it first.
    #[must_use]
    pub fn tls_unique(&self) -> Vec<u8> {
        const FINISHED_MAX_BYTES: usize = 64;
        let mut buffer = [0; FINISHED_MAX_BYTES];
        let length = self.stream.ssl().finished(&mut buffer);
        buffer.get(..length).unwrap_or_default().to_vec()
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn exchange(&mut self, request: &Request) -> Result<Answer, HttpError> {
        let octets = request.encode(&self.host);
        self.record
            .sent(request.title.clone(), &octets, request.shown());
        self.exchange_octets(&octets)
    }

    /// Sends octets as they are and reads an answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn exchange_octets(&mut self, octets: &[u8]) -> Result<Answer, HttpError> {
        // A server may answer, and close, before it has read everything; what it said counts.
        let written = self.stream.write_all(octets);
        match self.read_answer() {
            Ok(answer) => {
                let mut head = format!("{}\n", answer.status);
                for (name, value) in &answer.headers {
                    head.push_str(&format!("{name}: {value}\n"));
                }
                head.push('\n');
                head.push_str(&decode::describe(&answer.body));
                self.record
                    .received(format!("answer {}", answer.status), &answer.body, head);
                Ok(answer)
            }
            Err(error) => {
                let error = match written {
                    Err(written) if matches!(error, HttpError::Closed(_)) => {
                        HttpError::Closed(written.to_string())
                    }
                    _ => error,
                };
                self.record.note(error.to_string());
                Err(error)
            }
        }
    }

    /// Whether the server closes the connection within this time.
    #[must_use]
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        if self.stream.get_ref().set_read_timeout(Some(time)).is_err() {
            return true;
        }
        let mut octet = [0];
        match self.stream.read(&mut octet) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        }
    }

    fn read_answer(&mut self) -> Result<Answer, HttpError> {
        loop {
            let head_end = loop {
                if let Some(end) = find(&self.rest, b"\r\n\r\n") {
                    break end;
                }
                if self.fill()? == 0 {
                    return Err(HttpError::Closed(format!(
                        "{} octets of an answer",
                        self.rest.len()
                    )));
                }
            };
            let mut head: Vec<u8> = self.rest.drain(..head_end + 4).collect();
            head.truncate(head_end);
            let (status, headers) = parse_head(&head)?;
            if (100..200).contains(&status) {
                continue;
            }
            let body = self.read_body(status, &headers)?;
            return Ok(Answer {
                status,
                headers,
                body,
            });
        }
    }

    fn read_body(
        &mut self,
        status: u16,
        headers: &[(String, String)],
    ) -> Result<Vec<u8>, HttpError> {
        let header = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.as_str())
        };
        if status == 204 || status == 304 {
            return Ok(Vec::new());
        }
        if header("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
        {
            let mut body = Vec::new();
            loop {
                let line = self.read_line()?;
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size = usize::from_str_radix(digits, 16)
                    .map_err(|_| HttpError::Malformed(format!("chunk size {digits:?}")))?;
                if size == 0 {
                    while !self.read_line()?.is_empty() {}
                    return Ok(body);
                }
                body.extend(self.take(size)?);
                self.read_line()?;
            }
        }
        match header("content-length") {
            Some(length) => {
                let length = length
                    .trim()
                    .parse()
                    .map_err(|_| HttpError::Malformed(format!("Content-Length {length:?}")))?;
                self.take(length)
            }
            None => {
                while self.fill()? > 0 {}
                Ok(std::mem::take(&mut self.rest))
            }
        }
    }

    fn read_line(&mut self) -> Result<String, HttpError> {
        loop {
            if let Some(end) = find(&self.rest, b"\r\n") {
                let line: Vec<u8> = self.rest.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.fill()? == 0 {
                return Err(HttpError::Malformed("it ends within a chunk".into()));
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, HttpError> {
        if length > ANSWER_SIZE_MAX_BYTES {
            return Err(HttpError::Malformed(format!("{length} octets")));
        }
        while self.rest.len() < length {
            if self.fill()? == 0 {
                return Err(HttpError::Malformed(format!(
                    "it ends after {} of {length} octets",
                    self.rest.len()
                )));
            }
        }
        Ok(self.rest.drain(..length).collect())
    }

    fn fill(&mut self) -> Result<usize, HttpError> {
        const STEP_BYTES: usize = 16 * 1024;
        if self.rest.len() > ANSWER_SIZE_MAX_BYTES {
            return Err(HttpError::Malformed("it does not end".into()));
        }
        let mut buffer = vec![0; STEP_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.rest.extend(buffer.get(..length).unwrap_or_default());
                Ok(length)
            }
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    Err(HttpError::Silence)
                }
                // A TLS 1.3 server refuses a client's certificate after the client's handshake.
                _ if error.to_string().contains("alert") => Err(HttpError::Tls(error.to_string())),
                _ => Err(HttpError::Closed(error.to_string())),
            },
        }
    }
}

fn context(client: &Client) -> Result<SslContext, openssl::error::ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_verify(SslVerifyMode::NONE);
    if client.version_max == SslVersion::TLS1 || client.version_max == SslVersion::TLS1_1 {
        // Old versions have only what this level allows.
        context.set_cipher_list("ALL:@SECLEVEL=0")?;
    }
    if let Some(suites) = &client.suites {
        context.set_cipher_list(suites)?;
    }
    context.set_min_proto_version(Some(client.version_min))?;
    context.set_max_proto_version(Some(client.version_max))?;
    if let Some((chain, key)) = &client.identity {
        let mut chain = chain.iter();
        if let Some(leaf) = chain.next() {
            context.set_certificate(X509::from_der(leaf)?.as_ref())?;
        }
        for certificate in chain {
            context.add_extra_chain_cert(X509::from_der(certificate)?)?;
        }
        context.set_private_key(key)?;
    }
    Ok(context.build())
}

fn parse_head(head: &[u8]) -> Result<(u16, Vec<(String, String)>), HttpError> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let malformed = || HttpError::Malformed(format!("it begins with {first:?}"));
    if !first.starts_with("HTTP/1.") {
        return Err(malformed());
    }
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(malformed)?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    Ok((status, headers))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
