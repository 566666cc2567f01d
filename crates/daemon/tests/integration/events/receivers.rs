//! Receivers of webhooks that behave as they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn id(&self) -> String {
        self.headers["webhook-id"].clone()
    }
}

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers with this status and header lines.
    Answer(u16, String),
    /// Reads, and never answers.
    Hang,
    /// Reads, and closes without an answer.
    Drop,
    /// Answers octet by octet with a pause before each.
    Slow(std::time::Duration),
}

impl Behaviour {
    pub(crate) fn ok() -> Self {
        Self::Answer(204, String::new())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, String::new())
    }
}

type Rule = Arc<dyn Fn(&Request, usize) -> Behaviour + Send + Sync>;

/// A receiver on a port of its own.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// `rule` gets each request and how many came before it.
    pub(crate) async fn start(
        rule: impl Fn(&Request, usize) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), rule).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        rule: impl Fn(&Request, usize) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).expect("the port is free");
        let listener = socket.listen(64).expect("it listens");
        Self::on(listener, rule)
    }

    fn on(
        listener: TcpListener,
        rule: impl Fn(&Request, usize) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let rule: Rule = Arc::new(rule);
        let task = tokio::spawn(async move {
            // Dropped with the task, so that a receiver that is gone keeps no connection open.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                let (seen, rule) = (Arc::clone(&seen), Arc::clone(&rule));
                connections.spawn(async move {
                    let _ = serve(stream, &seen, &rule).await;
                });
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.requests().iter().map(Request::id).collect()
    }

    /// It goes, with its port and its connections.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

/// Requests of one connection, one after the other.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    seen: &Mutex<Vec<Request>>,
    rule: &Rule,
) -> std::io::Result<()> {
    loop {
        let Some(request) = read(&mut stream).await? else {
            return Ok(());
        };
        let behaviour = {
            let mut seen = seen.lock().expect("no panic");
            let before = seen.len();
            seen.push(request.clone());
            rule(&request, before)
        };
        match behaviour {
            Behaviour::Answer(status, lines) => {
                let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{lines}\r\n");
                // 204 must not have a length.
                let text = text.replace("204 X\r\nContent-Length: 0\r\n", "204 X\r\n");
                stream.write_all(text.as_bytes()).await?;
            }
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Drop => return Ok(()),
            Behaviour::Slow(pause) => {
                for byte in b"HTTP/1.1 204 X\r\n\r\n" {
                    tokio::time::sleep(pause).await;
                    stream.write_all(&[*byte]).await?;
                }
            }
        }
    }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..count]);
    };
    let text = String::from_utf8(bytes[..head].to_vec()).expect("ASCII");
    let mut lines = text.split("\r\n");
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .expect("a request line")
        .to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers["content-length"].parse().expect("a length");
    let mut body = bytes[head + 4..].to_vec();
    while body.len() < length {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(None);
        }
        body.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(body.len(), length, "one request at a time");
    Ok(Some(Request {
        path,
        headers,
        body,
    }))
}
