//! The timeline: every request, the unknown and the refused ones too, with what came of it.
//!
//! A granted voucher's row is written in the decision's transaction. All others go through a
//! bounded queue and are written together, so that a flood of bad requests costs few commits and
//! no answer waits for its row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::Value;
use store::{AssertSqlSafe, Connection, Store, params};
use time::{Duration, OffsetDateTime};
use tokio::sync::{mpsc, oneshot};

use crate::{Error, EventsConfig};

/// Rows that wait to be written; more are dropped and counted.
const QUEUE_LENGTH_MAX: usize = 10_000;
/// Rows in one transaction.
const BATCH_MAX: usize = 256;
/// Longest text of a field.
const FIELD_LENGTH_MAX: usize = 1024;

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it came.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The device it was about, if that could be read.
    pub serial: Option<String>,
    /// Issuer key id of the device, in hex.
    pub issuer: Option<String>,
    /// `requestvoucher`, `requestauditlog`, or what else was asked.
    pub operation: String,
    /// `granted`, `again`, `answered`, `refused`, `alarm`, `failed`.
    pub outcome: String,
    /// Stable code; `ok` if nothing was wrong.
    pub code: String,
    /// HTTP status of the answer.
    pub http: u16,
    /// Address of the peer.
    pub peer: String,
    /// Who the peer is: subjects and keys that were proven, or shown.
    pub identity: String,
    /// The decoded request, abridged.
    pub summary: Value,
    /// What a human could do next.
    pub next: String,
}

fn shorten(text: &str) -> String {
    text.chars().take(FIELD_LENGTH_MAX).collect()
}

/// Writes a line in the caller's transaction.
///
/// # Errors
/// What the database said.
pub async fn write(connection: &mut Connection, event: &Event) -> Result<(), store::Error> {
    let issuer = event
        .issuer
        .as_ref()
        .and_then(|issuer| hex::decode(issuer).ok());
    // PostgreSQL has no text with NUL in it.
    let clean = |text: &str| shorten(text).replace('\0', "\u{fffd}");
    connection
        .execute(
            "INSERT INTO event (at_us, serial, issuer, operation, outcome, code, http, peer, \
             identity, summary, next) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            params![
                event.at,
                event.serial.as_deref().map(clean),
                issuer,
                &event.operation,
                &event.outcome,
                &event.code,
                i64::from(event.http),
                &event.peer,
                clean(&event.identity),
                event.summary.to_string(),
                clean(&event.next)
            ],
        )
        .await?;
    Ok(())
}

enum Message {
    Row(Box<Event>),
    Flush(oneshot::Sender<()>),
}

/// Takes lines and writes them soon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the task that writes.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let (sender, mut receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        tokio::spawn(async move {
            let mut messages = Vec::new();
            while receiver.recv_many(&mut messages, BATCH_MAX).await > 0 {
                let mut rows = Vec::new();
                let mut waiting = Vec::new();
                for message in messages.drain(..) {
                    match message {
                        Message::Row(event) => rows.push(*event),
                        Message::Flush(done) => waiting.push(done),
                    }
                }
                if let Err(error) = write_all(&store, rows).await {
                    tracing::error!(code = error.code(), %error, "timeline rows were lost");
                }
                for done in waiting {
                    // Whoever waited may be gone.
                    let _ = done.send(());
                }
            }
        });
        Self {
            sender,
            dropped: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Adds a line. When too many wait it is dropped and counted, not waited for.
    pub fn record(&self, event: Event) {
        if self.sender.try_send(Message::Row(Box::new(event))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines that were added before are written.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            // The task ends only with the process.
            let _ = wait.await;
        }
    }

    /// How many lines were dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn write_all(store: &Store, rows: Vec<Event>) -> Result<(), store::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = Arc::new(rows);
    store
        .locking_transaction("timeline", move |connection| {
            let rows = Arc::clone(&rows);
            async move {
                for event in rows.iter() {
                    write(connection, event).await?;
                }
                Ok(())
            }
            .boxed()
        })
        .await
}

/// Removes lines beyond what is kept, in short transactions. Returns how many.
///
/// # Errors
/// What the database said.
pub async fn prune(store: &Store, keep: &EventsConfig, now: OffsetDateTime) -> Result<u64, Error> {
    const AT_ONCE: i64 = 10_000;
    let rows_max = i64::try_from(keep.rows_max).unwrap_or(i64::MAX);
    let oldest = now - Duration::days(i64::from(keep.days_max));
    let mut total = 0;
    loop {
        let removed = store
            .locking_transaction("timeline-prune", move |connection| {
                async move {
                    let newest = connection
                        .fetch_one("SELECT COALESCE(MAX(id), 0) AS id FROM event", params![])
                        .await?
                        .integer("id")?;
                    // Numbers are given in order, so the highest one says which are too many.
                    connection
                        .execute(
                            "DELETE FROM event WHERE id IN (SELECT id FROM event \
                             WHERE id <= $1 OR at_us < $2 ORDER BY id LIMIT $3)",
                            params![newest.saturating_sub(rows_max), oldest, AT_ONCE],
                        )
                        .await
                }
                .boxed()
            })
            .await?;
        total += removed;
        if removed < u64::try_from(AT_ONCE).unwrap_or(u64::MAX) {
            return Ok(total);
        }
    }
}

/// Lines of a device, or of everything, newest first.
///
/// # Errors
/// What the database said.
pub async fn list(store: &Store, serial: Option<&str>, limit: u32) -> Result<Vec<Event>, Error> {
    let mut sql = String::from(
        "SELECT at_us, serial, issuer, operation, outcome, code, http, peer, identity, summary, \
         next FROM event ",
    );
    let mut values = params![limit];
    if let Some(serial) = serial {
        sql.push_str("WHERE serial = $2 ");
        values.push(serial.into());
    }
    sql.push_str("ORDER BY id DESC LIMIT $1");
    let rows = store.fetch_all(AssertSqlSafe(sql), values).await?;
    rows.iter()
        .map(|row| {
            Ok(Event {
                at: row.time("at_us")?,
                serial: row.optional_text("serial")?,
                issuer: row.optional_bytes("issuer")?.map(hex::encode),
                operation: row.text("operation")?,
                outcome: row.text("outcome")?,
                code: row.text("code")?,
                http: u16::try_from(row.integer("http")?).unwrap_or(0),
                peer: row.text("peer")?,
                identity: row.text("identity")?,
                summary: serde_json::from_str(&row.text("summary")?).unwrap_or(Value::Null),
                next: row.text("next")?,
            })
        })
        .collect()
}
