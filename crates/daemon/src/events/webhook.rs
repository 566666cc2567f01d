//! Signed webhooks, as Standard Webhooks 1.0 has them: `webhook-id`, `webhook-timestamp`, and in
//! `webhook-signature` an HMAC-SHA-256 over both and the body for each secret.

use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use net::client::{ClientConfig, ClientLimits, Connection, ServerTrust, Target};
use pki::path::{Anchors, PathOptions, Purpose};
use time::OffsetDateTime;
use url::Url;

use super::config::{WebhookConfig, refuse};
use crate::Error;

/// Largest answer that is read.
const ANSWER_SIZE_MAX_BYTES: usize = 64 * 1024;
/// Sizes of a secret that Standard Webhooks allows.
const SECRET_LENGTH_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Longest pause that a receiver can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// A secret shared with a receiver. It has no `Debug`.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// What is wrong with it, without saying what it is.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text
            .trim()
            .strip_prefix("whsec_")
            .ok_or("it does not begin with whsec_")?;
        let key = STANDARD
            .decode(encoded)
            .map_err(|_| "after whsec_ there is no base64")?;
        if !SECRET_LENGTH_BYTES.contains(&key.len()) {
            return Err("it does not have 24 to 64 octets");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }
}

/// The value of `webhook-signature`.
#[must_use]
pub fn signature(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    let each: Vec<String> = secrets
        .iter()
        .map(|secret| format!("v1,{}", STANDARD.encode(hmac::sign(&secret.0, &signed))))
        .collect();
    each.join(" ")
}

/// A receiver.
pub(super) struct Webhook {
    url: Url,
    target: Target,
    anchors: Anchors,
    secrets: Vec<PathBuf>,
    token: Option<PathBuf>,
    limit: Duration,
}

/// What came of one delivery.
pub(super) enum Answer {
    /// The receiver has it.
    Taken,
    /// It could not be reached at all.
    Unreachable(String),
    /// It was reached, and did not take it.
    Refused {
        reason: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// Whether other events will fare no better.
        busy: bool,
    },
}

impl Webhook {
    pub(super) fn new(
        config: &WebhookConfig,
        resolve: &dyn Fn(&std::path::Path) -> PathBuf,
    ) -> Result<Self, Error> {
        let refuse = |reason: String| refuse(format!("webhook {}: {reason}", config.name));
        let url = Url::parse(&config.url).map_err(|error| refuse(error.to_string()))?;
        let target = Target::from_url(&url).map_err(|error| refuse(error.to_string()))?;
        let local = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        if !target.secure && !local {
            return Err(refuse(
                "http is spoken on this machine only; use https".to_owned(),
            ));
        }
        let anchors = match &config.anchors {
            Some(path) => {
                let path = resolve(path);
                Anchors::load(&path)
                    .map_err(|error| refuse(format!("{}: {error}", path.display())))?
            }
            None if target.secure => {
                return Err(refuse("`anchors` names the CA of the receiver".to_owned()));
            }
            None => Anchors::default(),
        };
        if config.secrets.is_empty() {
            return Err(refuse("`secrets` names no file".to_owned()));
        }
        let webhook = Self {
            url,
            target,
            anchors,
            secrets: config.secrets.iter().map(|path| resolve(path)).collect(),
            token: config.token_file.as_deref().map(resolve),
            limit: Duration::from_secs(config.timeout_seconds.clamp(1, 300)),
        };
        // A server whose secrets cannot be read should say so when it starts.
        webhook.secrets().map_err(refuse)?;
        webhook.token().map_err(refuse)?;
        Ok(webhook)
    }

    /// Reads the secrets, each time anew: they can be changed without a restart.
    fn secrets(&self) -> Result<Vec<Secret>, String> {
        self.secrets
            .iter()
            .map(|path| {
                let shown = path.display();
                let text =
                    std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
                let line = text.lines().next().unwrap_or_default();
                Secret::parse(line).map_err(|reason| format!("{shown}: {reason}"))
            })
            .collect()
    }

    fn token(&self) -> Result<Option<HeaderValue>, String> {
        let Some(path) = &self.token else {
            return Ok(None);
        };
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let token = text.lines().next().unwrap_or_default().trim();
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| format!("{shown}: no token"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Opens a session for a batch.
    pub(super) fn session(&self, now: OffsetDateTime) -> Result<Session<'_>, String> {
        Ok(Session {
            webhook: self,
            secrets: self.secrets()?,
            token: self.token()?,
            config: ClientConfig {
                trust: ServerTrust::anchors(
                    self.anchors.clone(),
                    PathOptions::new(Purpose::Server, now),
                ),
                limits: ClientLimits {
                    connect_time_max: self.limit,
                    handshake_time_max: self.limit,
                    response_time_max: self.limit,
                    response_bytes_max: ANSWER_SIZE_MAX_BYTES,
                },
                ..ClientConfig::default()
            },
            connection: None,
        })
    }
}

/// Deliveries one after the other over one connection.
pub(super) struct Session<'a> {
    webhook: &'a Webhook,
    secrets: Vec<Secret>,
    token: Option<HeaderValue>,
    config: ClientConfig,
    connection: Option<Connection>,
}

impl Session<'_> {
    pub(super) async fn post(&mut self, id: &str, body: Vec<u8>, now: OffsetDateTime) -> Answer {
        let refused = |reason: String, busy: bool| Answer::Refused {
            reason,
            retry_after: None,
            busy,
        };
        let timestamp = now.unix_timestamp();
        let signature = signature(&self.secrets, id, timestamp, &body);
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        for (name, value) in [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp.to_string().as_str()),
            ("webhook-signature", signature.as_str()),
        ] {
            match HeaderValue::from_str(value) {
                Ok(value) => {
                    headers.insert(name, value);
                }
                Err(error) => return refused(error.to_string(), false),
            }
        }
        if let Some(token) = &self.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        let url = &self.webhook.url;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let body = Bytes::from(body);
        // A connection that the receiver closed meanwhile is no failure of the receiver's.
        let kept = self.connection.take();
        let reused = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => match Connection::open(&self.webhook.target, &self.config).await {
                Ok(connection) => connection,
                Err(error) => return Answer::Unreachable(error.to_string()),
            },
        };
        let mut sent = connection
            .request(Method::POST, &path, headers.clone(), body.clone())
            .await;
        if reused && matches!(sent, Err(net::Error::Closed(_))) {
            connection = match Connection::open(&self.webhook.target, &self.config).await {
                Ok(connection) => connection,
                Err(error) => return Answer::Unreachable(error.to_string()),
            };
            sent = connection.request(Method::POST, &path, headers, body).await;
        }
        let response = match sent {
            Ok(response) => response,
            // It was reached, so this event may be what it cannot stand.
            Err(error) => return refused(error.to_string(), true),
        };
        if response
            .header("connection")
            .is_none_or(|value| !value.eq_ignore_ascii_case("close"))
        {
            self.connection = Some(connection);
        }
        let status = response.status;
        if status.is_success() {
            return Answer::Taken;
        }
        let retry_after = response
            .header("retry-after")
            .and_then(|value| value.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        Answer::Refused {
            reason: format!("status {}", status.as_u16()),
            retry_after,
            busy: status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::REQUEST_TIMEOUT,
        }
    }

    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}
