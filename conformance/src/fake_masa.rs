//! A MASA that does what a case wants: the suite's own side of RFC 8995 section 5.4.
//!
//! Requests are kept by the serial number in them, so that cases that run at the same time do not
//! meet. Each connection has a thread of its own, which ends with the connection or after a while.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use openssl::{
    ssl::{SslAcceptor, SslMethod, SslVerifyMode, SslVersion},
    x509::X509,
};
use serde_json::Value;

use crate::{
    forge::x509::Identity,
    inspect::{self, Signed},
    outcome::Finding,
};

/// How long a peer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest request.
const REQUEST_SIZE_MAX_BYTES: usize = 1024 * 1024;

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Came {
    /// Method and path.
    pub line: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The version of TLS.
    pub tls: String,
    /// The name in the ClientHello.
    pub server_name: Option<String>,
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

    /// The operation: the last part of the path.
    #[must_use]
    pub fn operation(&self) -> &str {
        let path = self.line.split(' ').nth(1).unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// The voucher request in the body.
    ///
    /// # Errors
    /// If it is none.
    pub fn request(&self) -> Result<Signed, Finding> {
        inspect::open(&self.body)
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers beside Content-Length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer with a media type.
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), media_type.into())],
            body: body.into(),
        }
    }

    /// A status and nothing else.
    #[must_use]
    pub fn bare(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// What is answered to a request.
pub type Behaviour = Arc<dyn Fn(&Came) -> Reply + Send + Sync>;

#[derive(Default)]
struct Memory {
    came: HashMap<String, Vec<Came>>,
    behaviours: HashMap<String, Behaviour>,
    connections: usize,
}

/// A listener with its memory. It ends when it is dropped.
pub struct FakeMasa {
    address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    stopped: Arc<AtomicBool>,
}

impl FakeMasa {
    /// Listens with a TLS identity; `usual` answers where a case said nothing else.
    ///
    /// # Errors
    /// If the address cannot be bound or the identity is not usable.
    pub fn start(listen: &str, identity: &Identity, usual: Behaviour) -> Result<Self> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        // Whoever asks may show a certificate; it is the case's business what it is worth.
        acceptor.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        for (place, der) in identity.chain().iter().enumerate() {
            let certificate = X509::from_der(der)?;
            if place == 0 {
                acceptor.set_certificate(&certificate)?;
            } else {
                acceptor.add_extra_chain_cert(certificate)?;
            }
        }
        acceptor.set_private_key(identity.key().pkey())?;
        acceptor.set_session_id_context(b"usher-conformance")?;
        let acceptor = acceptor.build();
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let memory: Arc<Mutex<Memory>> = Arc::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&memory), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(socket) = socket else { continue };
                let acceptor = acceptor.clone();
                let memory = Arc::clone(&shared);
                let usual = Arc::clone(&usual);
                std::thread::spawn(move || serve(&acceptor, socket, &memory, &usual));
            }
        });
        Ok(Self {
            address,
            memory,
            stopped,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests for this serial number are answered like this from now on.
    pub fn behave(&self, serial: &str, behaviour: Behaviour) {
        self.lock().behaviours.insert(serial.to_owned(), behaviour);
    }

    /// What came for this serial number.
    #[must_use]
    pub fn came(&self, serial: &str) -> Vec<Came> {
        self.lock().came.get(serial).cloned().unwrap_or_default()
    }

    /// TCP connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakeMasa {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The listener looks whether it shall stop when somebody connects.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn serve(acceptor: &SslAcceptor, socket: TcpStream, memory: &Mutex<Memory>, usual: &Behaviour) {
    let lock = || memory.lock().unwrap_or_else(PoisonError::into_inner);
    lock().connections += 1;
    if socket.set_read_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    let Ok(mut stream) = acceptor.accept(socket) else {
        return;
    };
    let tls = stream.ssl().version_str().to_owned();
    let server_name = stream
        .ssl()
        .servername(openssl::ssl::NameType::HOST_NAME)
        .map(str::to_owned);
    while let Some((line, headers, body)) = read_request(&mut stream) {
        let came = Came {
            line,
            headers,
            body,
            tls: tls.clone(),
            server_name: server_name.clone(),
        };
        let serial = serial_of(&came).unwrap_or_default();
        let behaviour = {
            let mut memory = lock();
            memory
                .came
                .entry(serial.clone())
                .or_default()
                .push(came.clone());
            memory.behaviours.get(&serial).cloned()
        };
        let reply = behaviour.as_ref().unwrap_or(usual)(&came);
        let mut head = format!("HTTP/1.1 {} Answer\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", reply.body.len()));
        let octets = [head.as_bytes(), &reply.body].concat();
        if stream.write_all(&octets).is_err() {
            return;
        }
    }
}

/// The serial number in a voucher request.
pub(crate) fn serial_of(came: &Came) -> Option<String> {
    if came.header("content-type") == Some("application/voucher+cose") {
        return crate::coaps_voucher::serial_of(&came.body);
    }
    let signed = inspect::open(&came.body).ok()?;
    signed
        .json
        .pointer("/ietf-voucher-request:voucher/serial-number")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

type Read1 = (String, Vec<(String, String)>, Vec<u8>);

fn read_request(stream: &mut impl Read) -> Option<Read1> {
    let mut octets = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if let Some(end) = octets.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        if octets.len() > REQUEST_SIZE_MAX_BYTES {
            return None;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => octets.extend(buffer.get(..length)?),
        }
    };
    let head = String::from_utf8_lossy(octets.get(..end)?).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default();
    if length > REQUEST_SIZE_MAX_BYTES {
        return None;
    }
    let mut body = octets.get(end + 4..)?.to_vec();
    while body.len() < length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend(buffer.get(..count)?),
        }
    }
    Some((line, headers, body))
}
