//! An HTTPS server that answers as a case wants and keeps everything that came.
//!
//! It asks for a client certificate and believes any. Each connection has a thread of its own.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use openssl::{
    pkey::{PKey, Private},
    ssl::{SslAcceptor, SslMethod, SslRef, SslSessionCacheMode, SslVerifyMode, SslVersion},
    x509::X509,
};

use crate::{
    decode,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{der, key::Key, x509::Identity},
};

/// How long a peer may be silent.
const PATIENCE: Duration = Duration::from_secs(80);
/// The largest request.
const REQUEST_SIZE_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What is shown in handshakes.
#[derive(Clone)]
pub struct Tls {
    /// The chain, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The key.
    pub key: PKey<Private>,
    /// The oldest version.
    pub version_min: SslVersion,
    /// The newest version.
    pub version_max: SslVersion,
}

impl Tls {
    /// TLS 1.2 and 1.3 with this identity.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        Self {
            chain: identity.chain(),
            key: identity.key().pkey().clone(),
            version_min: SslVersion::TLS1_2,
            version_max: SslVersion::TLS1_3,
        }
    }

    /// The same with these versions only.
    #[must_use]
    pub fn versions(mut self, min: SslVersion, max: SslVersion) -> Self {
        self.version_min = min;
        self.version_max = max;
        self
    }

    /// The same with one more certificate at the end, such as the root.
    #[must_use]
    pub fn and(mut self, certificate: &[u8]) -> Self {
        self.chain.push(certificate.to_vec());
        self
    }

    fn acceptor(&self) -> Result<SslAcceptor> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        if self.version_max == SslVersion::TLS1 || self.version_max == SslVersion::TLS1_1 {
            // Old versions have only what this level allows.
            acceptor.set_cipher_list("ALL:@SECLEVEL=0")?;
        }
        acceptor.clear_options(
            openssl::ssl::SslOptions::NO_TLSV1 | openssl::ssl::SslOptions::NO_TLSV1_1,
        );
        acceptor.set_min_proto_version(Some(self.version_min))?;
        acceptor.set_max_proto_version(Some(self.version_max))?;
        acceptor.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        // A session that is resumed would not show the device's certificate.
        acceptor.set_session_cache_mode(SslSessionCacheMode::OFF);
        acceptor.set_num_tickets(0)?;
        acceptor.set_options(openssl::ssl::SslOptions::NO_TICKET);
        let mut chain = self.chain.iter();
        let leaf = chain.next().context("a server needs a certificate")?;
        acceptor.set_certificate(X509::from_der(leaf)?.as_ref())?;
        for der in chain {
            acceptor.add_extra_chain_cert(X509::from_der(der)?)?;
        }
        acceptor.set_private_key(&self.key)?;
        Ok(acceptor.build())
    }
}

/// A private key that claims to belong to a certificate of `victim`'s: what it signs does not hold.
///
/// # Errors
/// If the library does not take it.
pub fn mismatched(victim: &Key) -> Result<PKey<Private>> {
    // The scalar is anyone's, the public point is the victim's; the library believes the file.
    const SCALAR: [u8; 32] = [0x17; 32];
    let bits = der::inside(victim.spki())
        .map(der::elements)
        .and_then(|parts| parts.into_iter().nth(1))
        .unwrap_or_default();
    let private = der::seq(&[der::int(1), der::octets(&SCALAR), der::explicit(1, &bits)]);
    let pkcs8 = der::seq(&[
        der::int(0),
        der::seq(&[
            der::oid("1.2.840.10045.2.1"),
            der::oid("1.2.840.10045.3.1.7"),
        ]),
        der::octets(&private),
    ]);
    Ok(PKey::private_key_from_pkcs8(&pkcs8)?)
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Came {
    /// When.
    pub at: Instant,
    /// The number of the connection, from 0.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The device's chain in the handshake, leaf first.
    pub client: Vec<Vec<u8>>,
    /// The version of TLS.
    pub tls: String,
    /// `tls-unique` of RFC 5929.
    pub tls_unique: Vec<u8>,
}

impl Came {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    /// The media type of the body, in lower case without parameters.
    #[must_use]
    pub fn media_type(&self) -> String {
        self.header("content-type")
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    /// The last part of the path, without a module's name before a colon.
    #[must_use]
    pub fn operation(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        last.rsplit(':').next().unwrap_or(last)
    }
}

/// What a server does about a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answers.
    Reply(Reply),
    /// Answers and closes the connection.
    Last(Reply),
    /// Writes these octets and closes the connection.
    Raw(Vec<u8>),
    /// Closes the connection without an answer.
    Close,
    /// Says nothing for so long, then closes the connection.
    Hang(Duration),
}

impl From<Reply> for Action {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Answers requests; it is told what came so far, the request itself last.
pub type Handler = Arc<dyn Fn(&Came, &[Came]) -> Action + Send + Sync>;

/// How a handshake went.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// When it ended.
    pub at: Instant,
    /// Whether it succeeded.
    pub ok: bool,
    /// The version, or why it failed.
    pub detail: String,
    /// The name in the ClientHello.
    pub server_name: Option<String>,
    /// The device's chain, leaf first.
    pub client: Vec<Vec<u8>>,
}

/// Everything that a server has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The requests, in order.
    pub requests: Vec<Came>,
    /// The handshakes, in order; the index is the number of the connection.
    pub handshakes: Vec<Handshake>,
    /// TCP connections.
    pub connections: usize,
}

impl Seen {
    /// The requests of an operation.
    #[must_use]
    pub fn all(&self, operation: &str) -> Vec<&Came> {
        self.requests
            .iter()
            .filter(|came| came.operation() == operation)
            .collect()
    }

    /// The first request of an operation.
    #[must_use]
    pub fn first(&self, operation: &str) -> Option<&Came> {
        self.requests
            .iter()
            .find(|came| came.operation() == operation)
    }

    /// The last request of an operation.
    #[must_use]
    pub fn last(&self, operation: &str) -> Option<&Came> {
        self.requests
            .iter()
            .rfind(|came| came.operation() == operation)
    }

    /// When anything happened last.
    #[must_use]
    pub fn latest(&self) -> Option<Instant> {
        let request = self.requests.iter().map(|came| came.at).max();
        let handshake = self.handshakes.iter().map(|one| one.at).max();
        request.max(handshake)
    }
}

struct Shared {
    seen: Mutex<Seen>,
    tls: Mutex<Tls>,
    handler: Handler,
    record: Recorder,
    label: String,
    stopped: AtomicBool,
}

/// A listener. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// If the address cannot be bound or the identity is not usable.
    pub fn start(
        listen: SocketAddr,
        label: &str,
        tls: Tls,
        record: &Recorder,
        handler: Handler,
    ) -> Result<Self> {
        // A wrong identity is the suite's mistake and shows here, not in a thread.
        tls.acceptor()?;
        let listener = TcpListener::bind(listen).with_context(|| listen.to_string())?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            tls: Mutex::new(tls),
            handler,
            record: record.clone(),
            label: label.to_owned(),
            stopped: AtomicBool::new(false),
        });
        let here = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if here.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(socket) = socket else { continue };
                let shared = Arc::clone(&here);
                std::thread::spawn(move || serve(&shared, socket));
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows something else in handshakes from now on.
    pub fn show(&self, tls: Tls) {
        *self
            .shared
            .tls
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.lock().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The listener looks whether it shall stop when somebody connects.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client_chain(ssl: &SslRef) -> Vec<Vec<u8>> {
    let leaf = ssl.peer_certificate().and_then(|leaf| leaf.to_der().ok());
    let mut chain: Vec<Vec<u8>> = leaf.into_iter().collect();
    for one in ssl.peer_cert_chain().into_iter().flatten() {
        if let Ok(der) = one.to_der()
            && !chain.contains(&der)
        {
            chain.push(der);
        }
    }
    chain
}

fn serve(shared: &Shared, socket: TcpStream) {
    shared.lock().connections += 1;
    if socket.set_read_timeout(Some(PATIENCE)).is_err() || socket.set_nodelay(true).is_err() {
        return;
    }
    let acceptor = shared
        .tls
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .acceptor();
    let Ok(acceptor) = acceptor else { return };
    let mut stream = match acceptor.accept(socket) {
        Ok(stream) => stream,
        Err(error) => {
            let detail = error.to_string();
            shared
                .record
                .note(format!("{}: TLS handshake failed: {detail}", shared.label));
            shared.lock().handshakes.push(Handshake {
                at: Instant::now(),
                ok: false,
                detail,
                server_name: None,
                client: Vec::new(),
            });
            return;
        }
    };
    let client = client_chain(stream.ssl());
    let tls = stream.ssl().version_str().to_owned();
    let tls_unique = {
        const FINISHED_MAX_BYTES: usize = 64;
        let mut buffer = [0; FINISHED_MAX_BYTES];
        let length = stream.ssl().peer_finished(&mut buffer);
        buffer.get(..length).unwrap_or_default().to_vec()
    };
    let connection = {
        let mut seen = shared.lock();
        seen.handshakes.push(Handshake {
            at: Instant::now(),
            ok: true,
            detail: tls.clone(),
            server_name: stream
                .ssl()
                .servername(openssl::ssl::NameType::HOST_NAME)
                .map(str::to_owned),
            client: client.clone(),
        });
        seen.handshakes.len() - 1
    };
    shared.record.note(format!(
        "{}: {tls}, connection {connection}, the device shows {} certificates",
        shared.label,
        client.len()
    ));
    let mut rest = Vec::new();
    while let Some((line, headers, body)) = read_request(&mut stream, &mut rest) {
        let mut words = line.split(' ');
        let came = Came {
            at: Instant::now(),
            connection,
            method: words.next().unwrap_or_default().to_owned(),
            path: words.next().unwrap_or_default().to_owned(),
            headers,
            body,
            client: client.clone(),
            tls: tls.clone(),
            tls_unique: tls_unique.clone(),
        };
        let mut shown = format!("{line}\n");
        for (name, value) in &came.headers {
            // Writing to a string does not fail.
            let _ = writeln!(shown, "{name}: {value}");
        }
        shown.push('\n');
        shown.push_str(&decode::describe(&came.body));
        shared.record.received(
            format!("{}: {} {}", shared.label, came.method, came.path),
            &came.body,
            shown,
        );
        let history = {
            let mut seen = shared.lock();
            seen.requests.push(came.clone());
            seen.requests.clone()
        };
        let (octets, ends) = match (shared.handler)(&came, &history) {
            Action::Reply(reply) => (encode(shared, &reply, false), false),
            Action::Last(reply) => (encode(shared, &reply, true), true),
            Action::Raw(octets) => {
                shared
                    .record
                    .sent(format!("{}: octets", shared.label), &octets, String::new());
                (octets, true)
            }
            Action::Close => (Vec::new(), true),
            Action::Hang(time) => {
                std::thread::park_timeout(time);
                (Vec::new(), true)
            }
        };
        if stream.write_all(&octets).is_err() {
            break;
        }
        if ends {
            // A close_notify, so that the answer is not taken for a cut one.
            let _ = stream.shutdown();
            break;
        }
    }
}

fn encode(shared: &Shared, reply: &Reply, ends: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} Answer\r\n", reply.status);
    for (name, value) in &reply.headers {
        // Writing to a string does not fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if ends {
        head.push_str("Connection: close\r\n");
    }
    if reply.status != 204 {
        let _ = write!(head, "Content-Length: {}\r\n", reply.body.len());
    }
    shared.record.sent(
        format!("{}: answer {}", shared.label, reply.status),
        &reply.body,
        format!("{head}\n{}", decode::describe(&reply.body)),
    );
    head.push_str("\r\n");
    [head.as_bytes(), &reply.body].concat()
}

type Read1 = (String, Vec<(String, String)>, Vec<u8>);

/// Reads one request; what came after it stays in `rest`.
fn read_request(stream: &mut impl Read, rest: &mut Vec<u8>) -> Option<Read1> {
    let end = loop {
        if let Some(end) = rest.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        fill(stream, rest)?;
    };
    let head = String::from_utf8_lossy(rest.get(..end)?).into_owned();
    rest.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let header = |wanted: &str| {
        headers
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        let mut body = Vec::new();
        loop {
            let line = read_line(stream, rest)?;
            let digits = line.split(';').next().unwrap_or_default().trim().to_owned();
            let size = usize::from_str_radix(&digits, 16).ok()?;
            if size == 0 {
                while !read_line(stream, rest)?.is_empty() {}
                return Some((line_of(&head), headers, body));
            }
            body.extend(take(stream, rest, size)?);
            read_line(stream, rest)?;
        }
    }
    let length: usize = header("content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or_default();
    let body = take(stream, rest, length)?;
    Some((line, headers, body))
}

fn line_of(head: &str) -> String {
    head.split("\r\n").next().unwrap_or_default().to_owned()
}

fn read_line(stream: &mut impl Read, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = rest.windows(2).position(|part| part == b"\r\n") {
            let line: Vec<u8> = rest.drain(..end + 2).collect();
            return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        fill(stream, rest)?;
    }
}

fn take(stream: &mut impl Read, rest: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    if length > REQUEST_SIZE_MAX_BYTES {
        return None;
    }
    while rest.len() < length {
        fill(stream, rest)?;
    }
    Some(rest.drain(..length).collect())
}

fn fill(stream: &mut impl Read, rest: &mut Vec<u8>) -> Option<()> {
    const STEP_BYTES: usize = 16 * 1024;
    if rest.len() > REQUEST_SIZE_MAX_BYTES {
        return None;
    }
    let mut buffer = vec![0; STEP_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(length) => {
                rest.extend(buffer.get(..length)?);
                return Some(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}
