//! What the device is doing, as it happens: the trace.

use pki::Certificate;
use serde::Serialize;
use serde_json::{Value, json};
use sztp::agent::{Note, Request, What, excerpt};

/// Texts above this are cut in the trace.
const TEXT_CHARS_MAX: usize = 160;
/// Members of an object or an array that are shown. A peer must not fill the device's memory with
/// what it says.
const MEMBERS_MAX: usize = 64;
/// Values of a body that are shown, at any depth.
const VALUES_MAX: usize = 512;
/// Bodies above this are not decoded for the trace.
const DECODED_SIZE_MAX_BYTES: usize = 256 * 1024;

/// An event and its moment.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Milliseconds since the run began.
    pub ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// The agent found, judged or decided something.
    Agent(Note),
    /// The device did something.
    Device(DeviceEvent),
}

/// What the device did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum DeviceEvent {
    /// A host name was looked up.
    Resolved {
        /// The name.
        host: String,
        /// Its addresses.
        addresses: Vec<String>,
    },
    /// A connection is up.
    Connected {
        /// Host and port.
        server: String,
        /// The address at the other end.
        address: String,
        /// The HTTP version.
        http: String,
        /// The TLS version.
        tls: Option<String>,
        /// What the server showed, the leaf first.
        chain: Vec<Value>,
    },
    /// A connection could not be made, or broke.
    Disconnected {
        /// Host and port.
        server: String,
        /// The code of the reason.
        code: String,
        /// Why.
        text: String,
    },
    /// A request was answered.
    Exchanged(Message),
    /// A key and a certification request were made.
    CsrMade {
        /// Whether the key is a new one.
        new_key: bool,
        /// SHA-256 of the public key.
        key_sha256: String,
    },
    /// The configuration holds a certificate for the key of the certification request.
    CertificateReceived {
        /// The certificate.
        certificate: Value,
    },
    /// A script, before it runs or instead.
    ScriptShown {
        /// Which.
        stage: &'static str,
        /// The beginning of the script.
        script: String,
        /// Whether it runs.
        runs: bool,
    },
    /// What an onboarding had done was taken back.
    RolledBack,
    /// The device reboots into another boot image.
    Rebooting {
        /// The operating system's name.
        os_name: Option<String>,
        /// Its version.
        os_version: Option<String>,
        /// SHA-256 of the image.
        image_sha256: Option<String>,
    },
    /// The device waits.
    Waiting {
        /// How long.
        wait_ms: u64,
        /// The code of the last failure.
        code: String,
        /// Why.
        text: String,
    },
}

/// A request and its answer, decoded.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// `host-meta`, `get-bootstrapping-data` or `report-progress`.
    pub what: What,
    /// Method and path.
    pub request_line: String,
    /// The request's body.
    pub request: Value,
    /// The answer's status.
    pub status: u16,
    /// The answer's media type.
    pub content_type: Option<String>,
    /// The answer's body.
    pub answer: Value,
    /// Octets in the answer's body.
    pub answer_bytes: usize,
    /// Time from request to answer.
    pub exchange_ms: u64,
}

impl Message {
    pub(super) fn new(request: &Request, response: &net::client::Response, ms: u64) -> Self {
        Self {
            what: request.what,
            request_line: format!("{} {}", request.method, request.path),
            request: body(&request.body),
            status: response.status.as_u16(),
            content_type: response
                .header("content-type")
                .map(|text| excerpt(text.as_bytes(), TEXT_CHARS_MAX)),
            answer: body(&response.body),
            answer_bytes: response.body.len(),
            exchange_ms: ms,
        }
    }
}

/// A body for people: JSON with its long texts cut, the beginning of anything else.
fn body(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    if bytes.len() <= DECODED_SIZE_MAX_BYTES
        && let Ok(mut value) = serde_json::from_slice::<Value>(bytes)
    {
        shorten(&mut value, &mut VALUES_MAX.clone());
        return value;
    }
    json!(excerpt(bytes, 4 * TEXT_CHARS_MAX))
}

fn shorten(value: &mut Value, left: &mut usize) {
    *left = left.saturating_sub(1);
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if length > TEXT_CHARS_MAX {
                let cut: String = text.chars().take(TEXT_CHARS_MAX).collect();
                *text = format!("{cut}… ({length} characters)");
            }
        }
        Value::Array(items) => {
            let shown = items.drain(..).take(MEMBERS_MAX).map_while(|mut item| {
                (*left > 0).then(|| {
                    shorten(&mut item, left);
                    item
                })
            });
            // Collected anew, as what is taken out leaves its room behind.
            *items = shown.collect();
        }
        Value::Object(members) => {
            let members_shown = std::mem::take(members).into_iter().take(MEMBERS_MAX);
            *members = members_shown
                .map_while(|(name, mut item)| {
                    (*left > 0).then(|| {
                        shorten(&mut item, left);
                        (excerpt(name.as_bytes(), TEXT_CHARS_MAX), item)
                    })
                })
                .collect();
        }
        _ => {}
    }
}

/// A certificate in a few words.
pub(super) fn certificate(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject(),
        "issuer": certificate.issuer(),
        "not_after": certificate.not_after().to_string(),
        "sha256": hex::encode(certificate.sha256()),
    })
}

/// An event in a line, for people.
pub(super) fn line(event: &Event) -> String {
    match event {
        Event::Agent(note) => note_line(note),
        Event::Device(event) => device_line(event),
    }
}

fn note_line(note: &Note) -> String {
    match note {
        Note::Round { round } => format!("round {round} over all sources"),
        Note::Source {
            source,
            finding,
            kind,
        } => format!("{source}: found {kind} in {finding}"),
        Note::SourceEmpty { source } => format!("{source}: nothing more"),
        Note::SourceFailed { source, failure } => format!("{source}: {failure}"),
        Note::Server {
            server,
            redirects,
            authenticate,
        } => format!("trying {server}, {redirects} redirects, it has to prove {authenticate}"),
        Note::ServerLeft { server, failure } => format!("leaving {server}: {failure}"),
        Note::Trust(trust) => match (&trust.anchors, &trust.refusal) {
            (Some(anchors), _) => format!("{} is trusted by {anchors} anchors", trust.server),
            (None, Some(why)) => format!("{} is not trusted: {why}", trust.server),
            (None, None) => format!("{} is not trusted", trust.server),
        },
        Note::Root { root, discovered } => {
            let how = if *discovered {
                "says host-meta"
            } else {
                "by default"
            };
            format!("RESTCONF root {root:?} {how}")
        }
        Note::Oddity { code, detail } => format!("tolerated: {code}: {detail}"),
        Note::Check(check) => match (&check.code, &check.detail) {
            (Some(code), Some(detail)) => {
                format!("check {}: {} {detail} ({code})", check.name, check.verdict)
            }
            (_, Some(detail)) => format!("check {}: {}: {detail}", check.name, check.verdict),
            _ => format!("check {}: {}", check.name, check.verdict),
        },
        Note::Verdict {
            kind,
            signed,
            trust_state,
            refusal,
        } => {
            let how = if *signed { "signed" } else { "unsigned" };
            match refusal {
                Some(failure) => format!("the data is refused: {failure}"),
                None => format!(
                    "{how} {}, trust-state {trust_state}",
                    kind.unwrap_or("data")
                ),
            }
        }
        Note::CsrRequested { new_key, .. } => {
            let key = if *new_key {
                "a new key"
            } else {
                "the factory key"
            };
            format!("the server asks for a certification request with {key}")
        }
        Note::Report {
            progress_type,
            status,
            ..
        } => match status {
            Some(status) => format!("reported {progress_type}: {status}"),
            None => format!("reported {progress_type}: no answer"),
        },
        Note::BootImage { satisfied, detail } => {
            let verdict = if *satisfied { "right" } else { "not right" };
            format!("the boot image is {verdict}: {detail}")
        }
        Note::ImageFetched { uri, refusal } => match refusal {
            Some(failure) => format!("boot image from {uri}: {failure}"),
            None => format!("boot image from {uri}: fetched and verified"),
        },
        Note::Script {
            stage,
            outcome,
            output,
        } => format!("{stage:?} script: {outcome:?} {output}"),
        Note::Committed { handling, .. } => format!("configuration committed by {handling}"),
        Note::OnboardingFailed(failure) => format!("onboarding failed: {failure}"),
        Note::Bootstrapped => "bootstrapped".to_owned(),
    }
}

fn device_line(event: &DeviceEvent) -> String {
    match event {
        DeviceEvent::Resolved { host, addresses } => {
            format!("{host} is at {}", addresses.join(", "))
        }
        DeviceEvent::Connected {
            server, http, tls, ..
        } => format!(
            "connected to {server} over {http}, {}",
            tls.as_deref().unwrap_or("no TLS")
        ),
        DeviceEvent::Disconnected { server, text, .. } => {
            format!("no connection to {server}: {text}")
        }
        DeviceEvent::Exchanged(message) => format!(
            "{}: {} in {} ms",
            message.request_line, message.status, message.exchange_ms
        ),
        DeviceEvent::CsrMade { key_sha256, .. } => {
            let short = key_sha256.get(..16).unwrap_or(key_sha256);
            format!("made a certification request for key {short}")
        }
        DeviceEvent::CertificateReceived { certificate } => {
            let subject = certificate.get("subject").and_then(Value::as_str);
            format!("received a certificate for {}", subject.unwrap_or_default())
        }
        DeviceEvent::ScriptShown {
            stage,
            script,
            runs,
        } => {
            let what = if *runs { "runs" } else { "is only shown" };
            format!("the {stage} script {what}:\n{script}")
        }
        DeviceEvent::RolledBack => "took back what was done".to_owned(),
        DeviceEvent::Rebooting { os_version, .. } => {
            format!("rebooting into {}", os_version.as_deref().unwrap_or("?"))
        }
        DeviceEvent::Waiting { wait_ms, text, .. } => {
            format!("waiting {:.1} s: {text}", *wait_ms as f64 / 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(values).sum(),
            Value::Object(members) => members.values().map(values).sum(),
            _ => 0,
        }
    }

    /// There are thousands of events, and whoever answers decides what stands in them.
    #[test]
    fn a_body_takes_little_room_in_the_trace() {
        let row = format!("[{}]", ["1"; 60].join(","));
        let square = format!("[{}]", vec![row; 60].join(","));
        let cube = format!("[{}]", vec![square; 30].join(","));
        assert!(cube.len() <= DECODED_SIZE_MAX_BYTES);
        let name = "n".repeat(100_000);
        for text in [
            cube,
            format!("{{\"{name}\":1}}"),
            format!("{{\"a\":\"{name}\"}}"),
            "[".repeat(200_000),
        ] {
            let shown = body(text.as_bytes());
            assert!(values(&shown) <= 2 * VALUES_MAX, "{}", values(&shown));
            assert!(shown.to_string().len() < 16 * 1024);
        }
        // What is said in earnest is shown as it is.
        let text = r#"{"a":[1,{"b":[null]}],"c":"d"}"#;
        assert_eq!(body(text.as_bytes()).to_string(), text);
    }
}
