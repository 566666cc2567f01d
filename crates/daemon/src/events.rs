//! Events leave the house: signed webhooks and syslog, out of the outbox.
//!
//! A service writes an [`Event`] with [`emit`] in the transaction that decided it, so the event
//! exists exactly if the decision does. [`Delivery`] copies it into one queue for each configured
//! sink and works on each queue by itself: a sink that is down, slow or broken holds up nobody
//! else and loses nothing. Delivery is at least once; the event's `id` stays the same over every
//! repetition, a crash and a restart, and by it a receiver tells repetitions apart.
//!
//! Two things can go wrong with a delivery. A sink that cannot be reached is paused as a whole, and
//! its events wait for as long as it takes. A receiver that was reached and said no, or nothing,
//! costs that event one of its attempts; when they are used up the event is dead, which means that
//! it is kept until a person replays or discards it.

mod cef;
mod config;
mod delivery;
mod sink;
mod syslog;
mod webhook;

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{Connection, outbox};
use time::OffsetDateTime;

pub use self::cef::cef;
pub use self::config::{
    Confirm, EventsConfig, SyslogConfig, SyslogFormat, WebhookConfig, sink_names,
};
pub use self::delivery::{Delivery, Timing};
pub use self::sink::{Format, Formats, Status};
pub use self::syslog::{Header, SYSLOG_LENGTH_MAX_BYTES, frame, rfc5424};
pub use self::webhook::{Secret, signature};

/// The topic of events that were not yet given to the sinks.
pub const TOPIC: &str = "event";
/// The topic of a sink's own queue begins with this.
pub const SINK_TOPIC_PREFIX: &str = "event/";

/// How much an event matters. The numbers are those of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something goes its way.
    Info,
    /// Something is done.
    Notice,
    /// A person should look at it.
    Warning,
    /// Something failed.
    Error,
}

impl Severity {
    /// As in RFC 5424 section 6.2.1.
    #[must_use]
    pub const fn syslog(self) -> u8 {
        match self {
            Self::Info => 6,
            Self::Notice => 5,
            Self::Warning => 4,
            Self::Error => 3,
        }
    }

    /// As in CEF: 0 to 10.
    #[must_use]
    pub const fn cef(self) -> u8 {
        match self {
            Self::Info => 3,
            Self::Notice => 4,
            Self::Warning => 6,
            Self::Error => 8,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that others are told of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same over all repetitions.
    pub id: String,
    /// When it happened.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened, as words with dots between: `device.bootstrap-complete`.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// Whom it is about, such as a serial number.
    pub subject: String,
    /// One sentence for people.
    pub summary: String,
    /// What else there is to know. Strings, numbers and truth values reach syslog too.
    pub data: Map<String, Value>,
}

impl Event {
    /// An event with a new id and without data.
    #[must_use]
    pub fn new(
        at: OffsetDateTime,
        kind: impl Into<String>,
        severity: Severity,
        subject: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        let random: [u8; 16] = rand::rng().random();
        Self {
            id: format!("evt_{}", hex::encode(random)),
            at,
            kind: kind.into(),
            severity,
            subject: subject.into(),
            summary: summary.into(),
            data: Map::new(),
        }
    }

    /// The same with one more thing to know.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }
}

/// Puts an event into the outbox, in the caller's transaction. Returns its number there.
///
/// # Errors
/// What the database said.
pub async fn emit(connection: &mut Connection, event: &Event) -> Result<i64, store::Error> {
    // An event has string keys only, so it always serialises.
    let payload = serde_json::to_vec(event).unwrap_or_default();
    outbox::push(connection, TOPIC, &payload, event.at).await
}
