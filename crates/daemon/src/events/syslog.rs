//! Syslog: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) and TLS
//! (RFC 5425).

use std::time::{Duration, Instant};

use net::client::{ClientConfig, Stream, Target};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::{timeout, timeout_at};

use super::{Confirm, Event};
use crate::cli::plain;

/// Longest message that is sent over TCP and TLS: what RFC 5425 section 4.3.1 wants receivers to
/// take.
pub const SYSLOG_LENGTH_MAX_BYTES: usize = 8192;
/// Longest datagram: what RFC 5426 section 3.2 wants receivers to take.
pub(super) const DATAGRAM_LENGTH_MAX_BYTES: usize = 2048;
/// Shortest time between the last message of a batch and the end of the connection.
const PAUSE_BEFORE_END: Duration = Duration::from_millis(50);
/// Longest value of a parameter.
const VALUE_LENGTH_MAX_BYTES: usize = 512;

/// What all messages of one sender have in common.
#[derive(Clone, Debug)]
pub struct Header {
    /// 0 to 23.
    pub facility: u8,
    /// The name of this machine.
    pub hostname: String,
    /// The name of the program.
    pub application: String,
    /// The private enterprise number of the structured data's name.
    pub enterprise: u32,
}

/// One message of RFC 5424. `message` stands for the event's own sentence and structured data if
/// it is given, as CEF does. It is never longer than `length_max_bytes`: the message is cut
/// first, then parameters are left out from the end.
#[must_use]
pub fn rfc5424(
    event: &Event,
    header: &Header,
    message: Option<&str>,
    length_max_bytes: usize,
) -> Vec<u8> {
    let priority = u16::from(header.facility.min(23)) * 8 + u16::from(event.severity.syslog());
    let start = format!(
        "<{priority}>1 {} {} {} {} {} ",
        timestamp(event.at),
        word(&header.hostname, 255),
        word(&header.application, 48),
        std::process::id(),
        // The last word alone: MSGID has 32 characters.
        word(event.kind.rsplit('.').next().unwrap_or_default(), 32),
    );
    let text = message.unwrap_or(&event.summary);
    let mut parameters = Vec::new();
    if message.is_none() {
        let subject = Value::from(event.subject.as_str());
        let id = Value::from(event.id.as_str());
        let first = [("id", &id), ("subject", &subject)];
        let rest = event
            .data
            .iter()
            .map(|(name, value)| (name.as_str(), value));
        for (name, value) in first.into_iter().chain(rest) {
            if let Some(parameter) = parameter(name, value) {
                parameters.push(parameter);
            }
        }
    }
    // The header and the id alone are far below any limit.
    let structured = loop {
        let structured = if parameters.is_empty() {
            "-".to_owned()
        } else {
            format!("[usher@{}{}]", header.enterprise, parameters.concat())
        };
        if start.len() + structured.len() < length_max_bytes || parameters.len() <= 1 {
            break structured;
        }
        parameters.pop();
    };
    let mut bytes = start.into_bytes();
    bytes.extend_from_slice(structured.as_bytes());
    let text = plain(text);
    // MSG-UTF8 begins with a byte order mark; text in ASCII needs none, and some receivers show it.
    let mark: &[u8] = if text.is_ascii() {
        b""
    } else {
        b"\xef\xbb\xbf"
    };
    let room = length_max_bytes.saturating_sub(bytes.len() + 1 + mark.len());
    let text = cut(&text, room);
    if !text.is_empty() {
        bytes.push(b' ');
        bytes.extend_from_slice(mark);
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// Octet counting, as RFC 6587 section 3.4.1 and RFC 5425 section 4.3 have it.
#[must_use]
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = format!("{} ", message.len()).into_bytes();
    framed.extend_from_slice(message);
    framed
}

/// RFC 3339 in UTC with six digits of the second at most.
fn timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.microsecond()
    )
}

/// A header field: visible ASCII without blanks, `-` if nothing is left.
fn word(text: &str, length_max: usize) -> String {
    let word: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(length_max)
        .collect();
    if word.is_empty() {
        "-".to_owned()
    } else {
        word
    }
}

/// One parameter with the blank before it. Lists and objects have no form here.
fn parameter(name: &str, value: &Value) -> Option<String> {
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"'))
        .take(32)
        .collect();
    if name.is_empty() {
        return None;
    }
    let value = match value {
        Value::String(value) => value.clone(),
        Value::Number(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    let value = plain(cut(&value, VALUE_LENGTH_MAX_BYTES));
    let mut escaped = String::with_capacity(value.len() + 8);
    for character in value.chars() {
        // RFC 5424 section 6.3.3: these three are escaped, and nothing else.
        if matches!(character, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    Some(format!(" {name}=\"{escaped}\""))
}

/// The longest start of a text that has so many octets at most.
fn cut(text: &str, length_max_bytes: usize) -> &str {
    if text.len() <= length_max_bytes {
        return text;
    }
    let mut end = length_max_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // The loop ends on a boundary, at 0 at the latest.
    text.get(..end).unwrap_or_default()
}

/// How messages travel.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    /// One datagram for each.
    Udp(String),
    /// One connection for each batch.
    Stream {
        target: Target,
        config: Box<ClientConfig>,
        confirm: Confirm,
    },
}

/// Why a batch was not delivered.
pub(super) enum Failure {
    /// There was no connection.
    Unreachable(String),
    /// There was one, and it broke before the receiver had read everything.
    Broken(String),
}

impl Transport {
    /// Sends a batch. It is delivered as a whole or not.
    pub(super) async fn send(&self, messages: &[Vec<u8>], limit: Duration) -> Result<(), Failure> {
        match self {
            Self::Udp(address) => datagrams(address, messages).await,
            Self::Stream {
                target,
                config,
                confirm,
            } => {
                let started = Instant::now();
                let stream = Stream::open(target, config)
                    .await
                    .map_err(|error| Failure::Unreachable(error.to_string()))?;
                // The pause before the end must leave time for the end.
                let round_trip = started.elapsed().min(limit / 4);
                timeout(limit, batch(stream, messages, *confirm, round_trip))
                    .await
                    .map_err(|_| {
                        Failure::Broken(format!("not confirmed by closing within {limit:?}"))
                    })?
                    .map_err(|error| Failure::Broken(error.to_string()))
            }
        }
    }
}

async fn datagrams(address: &str, messages: &[Vec<u8>]) -> Result<(), Failure> {
    let unreachable = |error: std::io::Error| Failure::Unreachable(error.to_string());
    let target = tokio::net::lookup_host(address)
        .await
        .map_err(unreachable)?
        .next()
        .ok_or_else(|| Failure::Unreachable(format!("{address} has no address")))?;
    let own: std::net::SocketAddr = if target.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(own).await.map_err(unreachable)?;
    socket.connect(target).await.map_err(unreachable)?;
    for message in messages {
        socket.send(message).await.map_err(unreachable)?;
    }
    Ok(())
}

async fn batch(
    mut stream: Stream,
    messages: &[Vec<u8>],
    confirm: Confirm,
    round_trip: Duration,
) -> Result<(), std::io::Error> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend_from_slice(&frame(message));
    }
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    let mut scratch = [0; 512];
    if confirm == Confirm::Close {
        // An end that comes before ours confirms nothing: it was on its way while we wrote. After
        // this pause everything has arrived over there, and whoever closes without having read it
        // sends a reset and no end.
        let pause = (round_trip * 2).max(PAUSE_BEFORE_END);
        let until = tokio::time::Instant::now() + pause;
        while let Ok(read) = timeout_at(until, stream.read(&mut scratch)).await {
            if read? == 0 {
                return Err(std::io::Error::other("closed before the end of the batch"));
            }
        }
    }
    stream.shutdown().await?;
    if confirm == Confirm::None {
        return Ok(());
    }
    // The receiver sees the end only behind the last message, so its own end says that it read so
    // far. Whatever it may say before is not looked at, and not kept.
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}
