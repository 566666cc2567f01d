//! The timeline: every request, the unknown and the refused ones too, with what came of it.
//!
//! A request hands in its lines ([`Ledger::write`]) and is answered when they are durable. Lines
//! of many requests share one transaction and a few statements: while one commit reaches the disk
//! the next lines gather. A transaction that fails is repeated request by request, so that only
//! the request whose lines make it fail is told so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::Value;
use store::{AssertSqlSafe, Connection, Store, params};
use time::{Duration, OffsetDateTime};
use tokio::sync::{mpsc, oneshot};

use crate::config::TimelineConfig;
use crate::content::rollout;
use crate::register::State;
use crate::{Error, events};

/// Requests that wait to be written; more make theirs wait.
const QUEUE_LENGTH_MAX: usize = 8192;
/// Requests in one transaction.
const BATCH_MAX: usize = 256;
/// Lines in one INSERT: a statement has at most 32,766 parameters on SQLite.
const ROWS_PER_STATEMENT_MAX: usize = 128;
/// Keys of one device that are kept, besides others of the report that the last of them came with.
const KEYS_KEPT_MAX: i64 = 128;
/// Longest text of a field.
const FIELD_LENGTH_MAX: usize = 1024;

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When it came.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The device's number in the register, if it was recognised.
    pub device: Option<i64>,
    /// The manufacturer whose anchors vouch for it. Without one the serial number is what a peer
    /// says that it is, and proves nothing.
    pub vendor: Option<String>,
    /// Its serial number, if that could be read.
    pub serial: Option<String>,
    /// `get-bootstrapping-data`, `report-progress`, or what else was asked.
    pub operation: String,
    /// `served`, `redirected`, `recorded`, `asked`, `answered`, `refused`, `failed`.
    pub outcome: String,
    /// Stable code; `ok` if nothing was wrong.
    pub code: String,
    /// HTTP status of the answer.
    pub http: u16,
    /// Address of the peer.
    pub peer: String,
    /// Who the peer is: what was proven, or shown.
    pub identity: String,
    /// The decoded request, abridged.
    pub summary: Value,
    /// What happens next, or what a human could do.
    pub next: String,
}

/// A report of progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The progress type.
    pub kind: &'static str,
    /// The message with it.
    pub message: Option<String>,
    /// SSH host keys and trust anchors that came with it.
    pub keys: Vec<DeviceKey>,
}

/// A key or certificate that a device reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// `ssh-host-key` or `trust-anchor`.
    pub kind: &'static str,
    /// The algorithm of an SSH host key.
    pub algorithm: String,
    /// SHA-256 of the value.
    pub sha256: [u8; 32],
    /// The value.
    pub value: Vec<u8>,
}

/// Everything that one request leaves behind.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its line.
    pub line: Line,
    /// Whether the device itself was here, so that it counts as seen.
    pub seen: bool,
    /// Whether nothing more is expected of it, however long it says nothing.
    pub silent: bool,
    /// What becomes of it; nothing if unset.
    pub state: Option<State>,
    /// What it reported.
    pub progress: Option<Progress>,
    /// Who else hears of it.
    pub event: Option<events::Event>,
}

/// Text that every database takes and nobody needs longer: PostgreSQL has no text with NUL in it.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars()
        .take(FIELD_LENGTH_MAX)
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

struct Job {
    entry: Arc<Entry>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// Takes entries and writes them together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    sender: mpsc::Sender<Job>,
}

impl Ledger {
    /// Starts the task that writes.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let (sender, mut receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        tokio::spawn(async move {
            let mut jobs = Vec::new();
            while receiver.recv_many(&mut jobs, BATCH_MAX).await > 0 {
                write_jobs(&store, std::mem::take(&mut jobs)).await;
            }
        });
        Self { sender }
    }

    /// Writes an entry and waits until it is durable.
    ///
    /// # Errors
    /// What the database said.
    pub async fn write(&self, entry: Entry) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let job = Job {
            entry: Arc::new(entry),
            done,
        };
        if self.sender.send(job).await.is_err() {
            return Err(store::Error::Closed.into());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(store::Error::Closed.into()))
    }
}

async fn write_jobs(store: &Store, jobs: Vec<Job>) {
    let entries: Arc<[Arc<Entry>]> = jobs.iter().map(|job| Arc::clone(&job.entry)).collect();
    let result = write_entries(store, entries).await;
    let Err(error) = result else {
        for job in jobs {
            // Whoever waited may be gone.
            let _ = job.done.send(Ok(()));
        }
        return;
    };
    let mut jobs = jobs;
    if let [_] = jobs.as_slice()
        && let Some(job) = jobs.pop()
    {
        let _ = job.done.send(Err(error));
        return;
    }
    tracing::warn!(%error, requests = jobs.len(), "lines are written one by one");
    for job in jobs {
        let result = write_entries(store, [Arc::clone(&job.entry)].into()).await;
        let _ = job.done.send(result);
    }
}

async fn write_entries(store: &Store, entries: Arc<[Arc<Entry>]>) -> Result<(), Error> {
    store
        .locking_transaction("timeline", move |connection| {
            let entries = Arc::clone(&entries);
            async move { write_all(connection, &entries).await }.boxed()
        })
        .await
}

/// Writes entries in the caller's transaction.
///
/// # Errors
/// What the database said.
pub async fn write_all(connection: &mut Connection, entries: &[Arc<Entry>]) -> Result<(), Error> {
    // The devices first, in the order of their numbers: two writers then never wait for each other.
    update_devices(connection, entries).await?;
    for part in parts(entries) {
        insert_lines(connection, part).await?;
    }
    let reports: Vec<&Arc<Entry>> = entries
        .iter()
        .filter(|entry| entry.progress.is_some() && entry.line.device.is_some())
        .collect();
    for part in parts(&reports) {
        insert_progress(connection, part).await?;
    }
    for entry in entries {
        if let (Some(progress), Some(device)) = (&entry.progress, entry.line.device) {
            for key in &progress.keys {
                insert_key(connection, device, key, entry.line.at).await?;
            }
            if !progress.keys.is_empty() {
                forget_keys(connection, device).await?;
            }
            if let Some(ended @ (State::Complete | State::Failed)) = entry.state {
                let failed = ended == State::Failed;
                rollout::note_report(connection, device, failed, entry.line.at).await?;
            }
        }
        if let Some(event) = &entry.event {
            events::emit(connection, event).await?;
        }
    }
    Ok(())
}

/// Rows in parts whose lengths are powers of two: so there are few different statements, and the
/// database keeps them all prepared.
pub(crate) fn parts<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = rest.len().min(ROWS_PER_STATEMENT_MAX);
        let power = length.checked_ilog2()?;
        let (part, after) = rest.split_at(1 << power);
        rest = after;
        Some(part)
    })
}

/// `($1, $2, …), ($n, …)` for rows of this width.
fn placeholders(rows: usize, width: usize) -> String {
    let mut sql = String::new();
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            // Writing to a String does not fail.
            let _ = write!(sql, "{comma}${}", row * width + column + 1);
        }
        sql.push(')');
    }
    sql
}

async fn insert_lines(connection: &mut Connection, entries: &[Arc<Entry>]) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO event (at_us, device, vendor, serial, operation, outcome, code, http, peer, \
         identity, summary, next) VALUES {}",
        placeholders(entries.len(), 12)
    );
    let mut values = Vec::with_capacity(entries.len() * 12);
    for entry in entries {
        let line = &entry.line;
        values.extend(params![
            line.at,
            line.device,
            line.vendor.as_deref().map(clean),
            line.serial.as_deref().map(clean),
            &line.operation,
            &line.outcome,
            &line.code,
            i64::from(line.http),
            &line.peer,
            clean(&line.identity),
            line.summary.to_string().replace('\0', "\u{fffd}"),
            clean(&line.next)
        ]);
    }
    connection.execute(AssertSqlSafe(sql), values).await?;
    Ok(())
}

async fn insert_progress(
    connection: &mut Connection,
    entries: &[&Arc<Entry>],
) -> Result<(), Error> {
    let mut values = Vec::new();
    let mut rows = 0;
    for entry in entries {
        if let (Some(progress), Some(device)) = (&entry.progress, entry.line.device) {
            rows += 1;
            values.extend(params![
                device,
                entry.line.at,
                progress.kind,
                progress.message.as_deref().map(clean),
                &entry.line.peer
            ]);
        }
    }
    if rows == 0 {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO progress (device, at_us, type, message, peer) VALUES {}",
        placeholders(rows, 5)
    );
    connection.execute(AssertSqlSafe(sql), values).await?;
    Ok(())
}

/// Leaves the keys of the newest reports: a device may report others as often as it likes.
async fn forget_keys(connection: &mut Connection, device: i64) -> Result<(), Error> {
    connection
        .execute(
            "DELETE FROM device_key WHERE device = $1 AND at_us < (SELECT MIN(at_us) FROM \
             (SELECT at_us FROM device_key WHERE device = $1 ORDER BY at_us DESC LIMIT $2) \
             AS newest)",
            params![device, KEYS_KEPT_MAX],
        )
        .await?;
    Ok(())
}

async fn insert_key(
    connection: &mut Connection,
    device: i64,
    key: &DeviceKey,
    at: OffsetDateTime,
) -> Result<(), Error> {
    connection
        .execute(
            "INSERT INTO device_key (device, kind, algorithm, sha256, value, at_us) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (device, kind, sha256) DO UPDATE SET at_us = excluded.at_us",
            params![
                device,
                key.kind,
                clean(&key.algorithm),
                &key.sha256,
                &key.value,
                at
            ],
        )
        .await?;
    Ok(())
}

/// The newest of what several requests of one device say.
struct Change {
    at: OffsetDateTime,
    state: Option<State>,
    silent: bool,
    progress: Option<(&'static str, OffsetDateTime)>,
}

async fn update_devices(connection: &mut Connection, entries: &[Arc<Entry>]) -> Result<(), Error> {
    let mut changes: BTreeMap<i64, Change> = BTreeMap::new();
    for entry in entries {
        let Some(device) = entry.line.device.filter(|_| entry.seen) else {
            continue;
        };
        let at = entry.line.at;
        let change = changes.entry(device).or_insert(Change {
            at,
            state: None,
            silent: false,
            progress: None,
        });
        if at >= change.at {
            change.at = at;
            change.state = entry.state.or(change.state);
            change.silent = entry.silent;
        }
        if let Some(progress) = &entry.progress {
            change.progress = Some((progress.kind, at));
        }
    }
    let all: Vec<(i64, Change)> = changes.into_iter().collect();
    for part in parts(&all) {
        let sql = format!(
            "WITH change (id, at_us, state, waiting_us, type, type_us) AS (VALUES {}) \
             UPDATE device SET state = COALESCE(change.state, device.state), \
             last_seen_us = change.at_us, \
             first_seen_us = COALESCE(device.first_seen_us, change.at_us), \
             waiting_since_us = CASE WHEN change.state IS NOT NULL THEN change.waiting_us \
               WHEN device.waiting_since_us IS NOT NULL THEN change.at_us END, \
             last_progress = COALESCE(change.type, device.last_progress), \
             last_progress_us = COALESCE(change.type_us, device.last_progress_us) \
             FROM change WHERE device.id = change.id \
             AND device.state NOT IN ('released', 'replaced')",
            placeholders(part.len(), 6)
        );
        let mut values = Vec::with_capacity(part.len() * 6);
        for (device, change) in part {
            let waits =
                matches!(change.state, Some(State::Started | State::InProgress)) && !change.silent;
            values.extend(params![
                *device,
                change.at,
                change.state.map(State::as_str),
                waits.then_some(change.at),
                change.progress.map(|(kind, _)| kind),
                change.progress.map(|(_, at)| at)
            ]);
        }
        connection.execute(AssertSqlSafe(sql), values).await?;
    }
    Ok(())
}

/// What a line is made of.
const COLUMNS: &str = "at_us, device, vendor, serial, operation, outcome, code, http, peer, \
                       identity, summary, next";

/// Lines of a device, of a serial number, or of everything, newest first.
///
/// # Errors
/// What the database said.
pub async fn list(
    store: &Store,
    device: Option<i64>,
    serial: Option<&str>,
    limit: u32,
) -> Result<Vec<Line>, Error> {
    let mut sql = format!("SELECT {COLUMNS} FROM event ");
    let mut values = params![limit];
    if let Some(device) = device {
        sql.push_str("WHERE device = $2 ");
        values.push(device.into());
    } else if let Some(serial) = serial {
        sql.push_str("WHERE serial = $2 ");
        values.push(serial.into());
    }
    fetch(store, sql, values).await
}

/// Refusals of peers that are no device of the register: those that gave this serial number, proven
/// or not, or any; newest first.
///
/// # Errors
/// What the database said.
pub async fn strangers(
    store: &Store,
    serial: Option<&str>,
    limit: u32,
) -> Result<Vec<Line>, Error> {
    let mut sql = format!("SELECT {COLUMNS} FROM event WHERE device IS NULL ");
    let mut values = params![limit];
    match serial {
        Some(serial) => {
            sql.push_str("AND serial IS NOT NULL AND serial = $2 ");
            values.push(clean(serial).into());
        }
        None => sql.push_str("AND identity <> '' "),
    }
    fetch(store, sql, values).await
}

async fn fetch(
    store: &Store,
    mut sql: String,
    values: Vec<store::Value>,
) -> Result<Vec<Line>, Error> {
    sql.push_str("ORDER BY id DESC LIMIT $1");
    let rows = store.fetch_all(AssertSqlSafe(sql), values).await?;
    rows.iter()
        .map(|row| {
            Ok(Line {
                at: row.time("at_us")?,
                device: row.optional_integer("device")?,
                vendor: row.optional_text("vendor")?,
                serial: row.optional_text("serial")?,
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

/// Removes lines beyond what is kept, in short transactions. Returns how many.
///
/// # Errors
/// What the database said.
pub async fn prune(
    store: &Store,
    keep: &TimelineConfig,
    now: OffsetDateTime,
) -> Result<u64, Error> {
    const AT_ONCE: i64 = 10_000;
    let rows_max = i64::try_from(keep.rows_max).unwrap_or(i64::MAX);
    let oldest = now - Duration::days(i64::from(keep.days_max));
    let mut total = 0;
    for table in ["event", "progress"] {
        loop {
            let removed = store
                .locking_transaction("timeline-prune", move |connection| {
                    async move { prune_some(connection, table, rows_max, oldest, AT_ONCE).await }
                        .boxed()
                })
                .await?;
            total += removed;
            if removed < AT_ONCE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(total)
}

async fn prune_some(
    connection: &mut Connection,
    table: &'static str,
    rows_max: i64,
    oldest: OffsetDateTime,
    at_once: i64,
) -> Result<u64, Error> {
    let newest = connection
        .fetch_one(
            AssertSqlSafe(format!("SELECT COALESCE(MAX(id), 0) AS id FROM {table}")),
            params![],
        )
        .await?
        .integer("id")?;
    // Numbers are given in order, so the highest one says which are too many; and an older line
    // has a lower number, so only the oldest few are looked at.
    let sql = format!(
        "DELETE FROM {table} WHERE id IN (SELECT id FROM (SELECT id, at_us FROM {table} \
         ORDER BY id LIMIT $3) AS oldest WHERE id <= $1 OR at_us < $2)"
    );
    Ok(connection
        .execute(
            AssertSqlSafe(sql),
            params![newest.saturating_sub(rows_max), oldest, at_once],
        )
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_kinds_and_leave_nothing_out() {
        for count in [0, 1, 2, 3, 100, 127, 128, 129, 300] {
            let rows: Vec<usize> = (0..count).collect();
            let found: Vec<&[usize]> = parts(&rows).collect();
            assert!(found.iter().all(|part| part.len().is_power_of_two()));
            assert!(
                found
                    .iter()
                    .all(|part| part.len() <= ROWS_PER_STATEMENT_MAX)
            );
            assert_eq!(found.concat(), rows);
        }
    }

    #[test]
    fn placeholders_count_on() {
        assert_eq!(placeholders(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }

    #[test]
    fn what_no_database_takes_is_replaced() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert_eq!(clean(&"x".repeat(5000)).len(), FIELD_LENGTH_MAX);
    }
}
