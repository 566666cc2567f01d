//! What happened to devices, for those who wait for it.
//!
//! An event is written into the outbox by the transaction that decided it ([`emit`]), and leaves by
//! [`daemon::events`]: signed webhooks and syslog, each sink with a queue of its own.

pub mod cli;

use std::sync::Arc;

pub use daemon::events::EventsConfig;
use daemon::events::{self as sinks, Delivery, Formats, Severity};
use daemon::{CancellationToken, Clock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Connection, Store};
use time::OffsetDateTime;

use crate::handover::{self, Handover};
use crate::{Config, Error};

/// The name under which sinks see this program.
pub const PRODUCT: &str = "usher-bootstrap";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A device fetched its bootstrapping data.
    Served,
    /// A device reported progress.
    Progress,
    /// A device reported `bootstrap-complete`.
    Complete,
    /// A device reported an error.
    Failed,
    /// A device began and has been silent for too long.
    Stuck,
    /// A device was refused.
    Refused,
    /// A device got a certificate.
    Certificate,
}

/// Something that happened to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What.
    pub kind: Kind,
    /// The device's number in the register.
    pub device: i64,
    /// Its manufacturer.
    pub vendor: String,
    /// Its serial number.
    pub serial: String,
    /// The progress type, the code, and what else there is to know.
    pub detail: Value,
}

impl Event {
    /// The name by which sinks know it: `device.` and the progress type, or what else happened.
    #[must_use]
    pub fn name(&self) -> String {
        let word = match self.kind {
            Kind::Served => "served",
            Kind::Progress => self.progress().unwrap_or("progress"),
            Kind::Complete => "bootstrap-complete",
            Kind::Failed => "failed",
            Kind::Stuck => "stuck",
            Kind::Refused => "refused",
            Kind::Certificate => "certificate",
        };
        format!("device.{word}")
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self.kind {
            Kind::Progress
                if self
                    .progress()
                    .is_some_and(|word| word.ends_with("-warning")) =>
            {
                Severity::Warning
            }
            Kind::Served | Kind::Progress => Severity::Info,
            Kind::Complete | Kind::Certificate => Severity::Notice,
            Kind::Stuck | Kind::Refused => Severity::Warning,
            Kind::Failed => Severity::Error,
        }
    }

    /// Whether any sink of a configuration wants it. If none does it is not written.
    #[must_use]
    pub fn wanted(&self, config: &EventsConfig) -> bool {
        config.wants(&self.name(), self.severity())
    }

    fn progress(&self) -> Option<&str> {
        self.text("progress")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.detail.get(name).and_then(Value::as_str)
    }

    fn summary(&self) -> String {
        let who = format!("{} {}", self.vendor, self.serial);
        let message = self
            .text("message")
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        match self.kind {
            Kind::Served => format!(
                "{who} was given {}",
                self.text("target").unwrap_or("its bootstrapping data")
            ),
            Kind::Progress => format!("{who} reports {}{message}", self.progress().unwrap_or("-")),
            Kind::Complete => format!("{who} is up{message}"),
            Kind::Failed => format!(
                "{who} failed with {}{message}",
                self.progress().unwrap_or("an error")
            ),
            Kind::Stuck => format!(
                "{who} has been silent since {}",
                self.text("last_progress").unwrap_or("it was served")
            ),
            Kind::Refused => format!(
                "{who} was refused: {}",
                self.text("code").unwrap_or("no reason is known")
            ),
            Kind::Certificate => format!("{who} was issued a certificate"),
        }
    }
}

/// Puts an event into the outbox, in the caller's transaction. That a device is complete is said
/// together with what is needed to take it over.
///
/// # Errors
/// What the database said.
pub async fn emit(connection: &mut Connection, event: &Event) -> Result<(), Error> {
    let mut outgoing = sinks::Event::new(
        event.at,
        event.name(),
        event.severity(),
        event.serial.clone(),
        event.summary(),
    )
    .with("vendor", event.vendor.clone())
    .with("serial", event.serial.clone())
    .with("device", event.device);
    if let Value::Object(members) = &event.detail {
        for (name, value) in members {
            if !value.is_null() {
                outgoing = outgoing.with(name, value.clone());
            }
        }
    }
    if event.kind == Kind::Complete
        && let Some(device) = handover::of_device(connection, event.device).await?
    {
        outgoing = outgoing.with("handover", device.json());
    }
    sinks::emit(connection, &outgoing).await?;
    Ok(())
}

/// The formats that webhooks can ask for beside `standard`.
#[must_use]
pub fn formats() -> Formats {
    let netbox: sinks::Format = Arc::new(|event| {
        let handover = event.data.get("handover")?;
        let device: Handover = serde_json::from_value(handover.clone()).ok()?;
        Some(handover::netbox::payload(&device, &event.id, event.at))
    });
    Formats::from([("netbox".to_owned(), netbox)])
}

/// Sets the sinks of a configuration up.
///
/// # Errors
/// One of them cannot be used as it is written.
pub fn delivery(config: &Config, store: Store, clock: Clock) -> Result<Delivery, Error> {
    Ok(Delivery::new(
        store,
        clock,
        &config.events,
        &config.directory,
        PRODUCT,
        &formats(),
    )?)
}

/// Starts to deliver, until `shutdown`. Without a sink there is still somebody to empty the outbox
/// of what was written when there was one.
///
/// # Errors
/// As [`delivery`].
pub fn start(
    config: &Config,
    store: Store,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, Error> {
    let delivery = Arc::new(delivery(config, store, clock)?);
    Ok(tokio::spawn(delivery.run(shutdown)))
}
