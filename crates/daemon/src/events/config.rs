//! The `[events]` section of a configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Severity;
use crate::Error;

/// Sinks; more is a mistake.
const SINKS_MAX: usize = 32;
/// Longest name of a sink.
const NAME_LENGTH_MAX: usize = 40;

/// The `[events]` section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Receivers of signed HTTP posts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhook: Vec<WebhookConfig>,
    /// Receivers of syslog messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syslog: Vec<SyslogConfig>,
}

/// One `[[events.webhook]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its name, which its queue bears too.
    pub name: String,
    /// `https://…`, or `http://` on this machine.
    pub url: String,
    /// PEM file: who signs the receiver's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchors: Option<PathBuf>,
    /// Files with a `whsec_…` each. Every one of them signs, so a receiver can change from the old
    /// to the new at any time. They are read again for each batch.
    pub secrets: Vec<PathBuf>,
    /// File with a token for `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// What the body looks like: `standard`, or a format that the service offers.
    #[serde(default = "standard")]
    pub format: String,
    /// Kinds of events that are sent; `device.*` stands for all that begin so, none for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Events that matter less than this are not sent.
    #[serde(default = "info")]
    pub severity_min: Severity,
    /// Time for one delivery.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Attempts before an event is kept as dead.
    #[serde(default = "attempts_max")]
    pub attempts_max: u32,
}

/// One `[[events.syslog]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// Its name, which its queue bears too.
    pub name: String,
    /// `udp://host:514`, `tcp://host:601` or `tls://host:6514`.
    pub url: String,
    /// PEM file: who signs the receiver's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchors: Option<PathBuf>,
    /// PEM file with our own certificate, if the receiver wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What a message looks like.
    #[serde(default)]
    pub format: SyslogFormat,
    /// Facility, 0 to 23; 16 is local0.
    #[serde(default = "facility")]
    pub facility: u8,
    /// The private enterprise number in the name of the structured data. 32473 is the one for
    /// documentation (RFC 5612); put your own here.
    #[serde(default = "enterprise")]
    pub enterprise: u32,
    /// The name of this machine in messages; otherwise what the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// When events over TCP and TLS count as delivered.
    #[serde(default)]
    pub confirm: Confirm,
    /// Kinds of events that are sent; `device.*` stands for all that begin so, none for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Events that matter less than this are not sent.
    #[serde(default = "info")]
    pub severity_min: Severity,
    /// Time for one batch.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
    /// Attempts before an event is kept as dead.
    #[serde(default = "attempts_max")]
    pub attempts_max: u32,
}

/// What a syslog message looks like. The header is that of RFC 5424 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyslogFormat {
    /// Structured data and a sentence.
    #[default]
    Rfc5424,
    /// A CEF record as the message.
    Cef,
}

/// When events over TCP and TLS count as delivered. Syslog has no answer, and what a kernel took
/// is lost when the receiver dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirm {
    /// When the receiver closed the connection after it read to the end of a batch. What did not
    /// come so far is sent again.
    #[default]
    Close,
    /// When it was written. For receivers that never close; a crash of theirs loses events.
    None,
}

fn standard() -> String {
    "standard".to_owned()
}

const fn info() -> Severity {
    Severity::Info
}

const fn timeout_seconds() -> u64 {
    10
}

const fn attempts_max() -> u32 {
    40
}

const fn facility() -> u8 {
    16
}

const fn enterprise() -> u32 {
    32473
}

impl EventsConfig {
    /// Whether any sink wants such an event. If none does it need not be written.
    #[must_use]
    pub fn wants(&self, kind: &str, severity: Severity) -> bool {
        let webhooks = self
            .webhook
            .iter()
            .map(|one| (&one.kinds, one.severity_min));
        let syslogs = self.syslog.iter().map(|one| (&one.kinds, one.severity_min));
        webhooks
            .chain(syslogs)
            .any(|(kinds, least)| wanted(kinds, least, kind, severity))
    }
}

/// Whether a sink with this choice wants such an event.
pub(super) fn wanted(kinds: &[String], least: Severity, kind: &str, severity: Severity) -> bool {
    severity >= least
        && (kinds.is_empty()
            || kinds.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => kind.starts_with(start),
                None => kind == pattern,
            }))
}

/// The names of all sinks.
///
/// # Errors
/// [`Error::Config`]: a name is not one, or stands twice.
pub fn sink_names(config: &EventsConfig) -> Result<Vec<&str>, Error> {
    let mut names = Vec::new();
    let all = config
        .webhook
        .iter()
        .map(|one| one.name.as_str())
        .chain(config.syslog.iter().map(|one| one.name.as_str()));
    for name in all {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.chars().all(plain) {
            return Err(refuse(format!(
                "the name of a sink has 1 to {NAME_LENGTH_MAX} lower-case letters, digits and \
                 hyphens, not {name:?}"
            )));
        }
        if names.contains(&name) {
            return Err(refuse(format!("two sinks are named {name}")));
        }
        names.push(name);
    }
    if names.len() > SINKS_MAX {
        return Err(refuse(format!("more than {SINKS_MAX} sinks")));
    }
    Ok(names)
}

pub(super) fn refuse(reason: String) -> Error {
    Error::Config {
        file: "[events]".to_owned(),
        reason,
    }
}
