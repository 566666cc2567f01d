//! Messages that leave after a decision: webhooks, mail, alarms.
//!
//! A message is a row written in the decision's own transaction, so it exists exactly if the
//! decision does. A worker claims a batch for a limited time, sends it, and marks each message
//! done or failed; a worker that dies lets its claim run out. Delivery is at least once.

use time::{Duration, OffsetDateTime};

use crate::{Connection, Error, Row, params};

pub(crate) const SCHEMA: &str = "\
CREATE TABLE outbox (
  id {identity},
  topic TEXT NOT NULL,
  payload {blob} NOT NULL,
  created_us BIGINT NOT NULL,
  due_us BIGINT NOT NULL,
  attempts BIGINT NOT NULL,
  claim TEXT,
  claimed_until_us BIGINT NOT NULL,
  last_error TEXT,
  dead_us BIGINT
);
CREATE INDEX outbox_due ON outbox (due_us) WHERE dead_us IS NULL;
CREATE INDEX outbox_topic ON outbox (topic, due_us) WHERE dead_us IS NULL;
CREATE INDEX outbox_dead ON outbox (topic, id) WHERE dead_us IS NOT NULL;
";

/// First pause after a failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::seconds(2);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::hours(1);
/// Attempts before a message is kept as dead for a human to look at.
pub const ATTEMPTS_MAX: i64 = 24;
/// Longest error text that is kept.
const ERROR_LENGTH_MAX: usize = 1024;

/// A message that a worker holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub id: i64,
    /// What kind of message it is.
    pub topic: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// Which attempt this is, from 1.
    pub attempt: i64,
    /// When the decision was made.
    pub created: OffsetDateTime,
}

fn message(row: &Row) -> Result<Message, Error> {
    Ok(Message {
        id: row.integer("id")?,
        topic: row.text("topic")?,
        payload: row.bytes("payload")?,
        attempt: row.integer("attempts")?,
        created: row.time("created_us")?,
    })
}

/// Adds a message, in the decision's transaction.
///
/// # Errors
/// What the database said.
pub async fn push(
    transaction: &mut Connection,
    topic: &str,
    payload: &[u8],
    now: OffsetDateTime,
) -> Result<i64, Error> {
    transaction
        .fetch_one(
            "INSERT INTO outbox (topic, payload, created_us, due_us, attempts, claimed_until_us) \
             VALUES ($1, $2, $3, $3, 0, 0) RETURNING id",
            params![topic, payload, now],
        )
        .await?
        .integer("id")
}

/// Claims up to `limit` due messages for `lease`. `worker` is unique to this claim.
///
/// # Errors
/// What the database said.
pub async fn claim(
    transaction: &mut Connection,
    worker: &str,
    limit: i64,
    lease: Duration,
    now: OffsetDateTime,
) -> Result<Vec<Message>, Error> {
    // The outer conditions repeat the inner ones: under READ COMMITTED a row that another worker
    // took between the two is checked again when its lock is granted, and left alone.
    let rows = transaction
        .fetch_all(
            "UPDATE outbox SET claim = $1, claimed_until_us = $2, attempts = attempts + 1 \
             WHERE id IN (SELECT id FROM outbox WHERE dead_us IS NULL AND due_us <= $3 \
                          AND claimed_until_us <= $3 ORDER BY due_us, id LIMIT $4) \
               AND dead_us IS NULL AND due_us <= $3 AND claimed_until_us <= $3 \
             RETURNING id, topic, payload, attempts, created_us",
            params![worker, now + lease, now, limit],
        )
        .await?;
    let mut messages = rows.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    messages.sort_by_key(|message| message.id);
    Ok(messages)
}

/// Removes a message that was delivered. False: the claim had run out and another worker has it.
///
/// # Errors
/// What the database said.
pub async fn done(transaction: &mut Connection, worker: &str, id: i64) -> Result<bool, Error> {
    let rows = transaction
        .execute(
            "DELETE FROM outbox WHERE id = $1 AND claim = $2",
            params![id, worker],
        )
        .await?;
    Ok(rows == 1)
}

/// Puts a message back with a pause that doubles each time; after [`ATTEMPTS_MAX`] it stays as
/// dead. False: the claim had run out.
///
/// # Errors
/// What the database said.
pub async fn failed(
    transaction: &mut Connection,
    worker: &str,
    message: &Message,
    error: &str,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let exponent = u32::try_from(message.attempt.clamp(1, 16) - 1).unwrap_or(0);
    let pause = (PAUSE_MIN * 2_i32.pow(exponent)).min(PAUSE_MAX);
    let dead = (message.attempt >= ATTEMPTS_MAX).then_some(now);
    let error: String = error.chars().take(ERROR_LENGTH_MAX).collect();
    let rows = transaction
        .execute(
            "UPDATE outbox SET claim = NULL, claimed_until_us = 0, due_us = $1, last_error = $2, \
             dead_us = $3 WHERE id = $4 AND claim = $5",
            params![now + pause, error, dead, message.id, worker],
        )
        .await?;
    Ok(rows == 1)
}

/// How many messages wait, and how many are dead.
///
/// # Errors
/// What the database said.
pub async fn depth(transaction: &mut Connection) -> Result<(i64, i64), Error> {
    let row = transaction
        .fetch_one(
            "SELECT COUNT(*) AS total, COUNT(dead_us) AS dead FROM outbox",
            params![],
        )
        .await?;
    let (total, dead) = (row.integer("total")?, row.integer("dead")?);
    Ok((total - dead, dead))
}

/// A message that nobody tries to deliver any more, or that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub id: i64,
    /// What kind of message it is.
    pub topic: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// When the decision was made.
    pub created: OffsetDateTime,
    /// When it is tried next.
    pub due: OffsetDateTime,
    /// How often it was tried.
    pub attempts: i64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Since when it is dead.
    pub dead: Option<OffsetDateTime>,
}

/// As [`claim`], for the messages of one topic: each topic is a queue of its own.
///
/// # Errors
/// What the database said.
pub async fn claim_topic(
    transaction: &mut Connection,
    worker: &str,
    topic: &str,
    limit: i64,
    lease: Duration,
    now: OffsetDateTime,
) -> Result<Vec<Message>, Error> {
    let rows = transaction
        .fetch_all(
            "UPDATE outbox SET claim = $1, claimed_until_us = $2, attempts = attempts + 1 \
             WHERE id IN (SELECT id FROM outbox WHERE topic = $5 AND dead_us IS NULL \
                          AND due_us <= $3 AND claimed_until_us <= $3 \
                          ORDER BY due_us, id LIMIT $4) \
               AND dead_us IS NULL AND due_us <= $3 AND claimed_until_us <= $3 \
             RETURNING id, topic, payload, attempts, created_us",
            params![worker, now + lease, now, limit, topic],
        )
        .await?;
    let mut messages = rows.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    messages.sort_by_key(|message| message.id);
    Ok(messages)
}

/// When the next message of a topic is due that nobody holds; none if there is none.
///
/// # Errors
/// What the database said.
pub async fn next_due(
    connection: &mut Connection,
    topic: &str,
) -> Result<Option<OffsetDateTime>, Error> {
    let row = connection
        .fetch_optional(
            "SELECT due_us, claimed_until_us FROM outbox \
             WHERE topic = $1 AND dead_us IS NULL ORDER BY due_us LIMIT 1",
            params![topic],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(row.time("due_us")?.max(row.time("claimed_until_us")?)))
}

/// Gives a message back untried, as if it had not been claimed: its receiver is away, which is not
/// the message's fault. False: the claim had run out.
///
/// # Errors
/// What the database said.
pub async fn release(transaction: &mut Connection, worker: &str, id: i64) -> Result<bool, Error> {
    let rows = transaction
        .execute(
            "UPDATE outbox SET claim = NULL, claimed_until_us = 0, attempts = attempts - 1 \
             WHERE id = $1 AND claim = $2",
            params![id, worker],
        )
        .await?;
    Ok(rows == 1)
}

/// Puts a message back until `due`, or keeps it as dead. False: the claim had run out.
///
/// # Errors
/// What the database said.
pub async fn postpone(
    transaction: &mut Connection,
    worker: &str,
    id: i64,
    error: &str,
    due: OffsetDateTime,
    dead: Option<OffsetDateTime>,
) -> Result<bool, Error> {
    let error: String = error.chars().take(ERROR_LENGTH_MAX).collect();
    let rows = transaction
        .execute(
            "UPDATE outbox SET claim = NULL, claimed_until_us = 0, due_us = $1, last_error = $2, \
             dead_us = $3 WHERE id = $4 AND claim = $5",
            params![due, error, dead, id, worker],
        )
        .await?;
    Ok(rows == 1)
}

/// Messages in the order of their numbers, from the one after `after`; only dead ones, if asked.
///
/// # Errors
/// What the database said.
pub async fn list(
    connection: &mut Connection,
    dead_only: bool,
    after: i64,
    limit: i64,
) -> Result<Vec<Waiting>, Error> {
    let sql = if dead_only {
        "SELECT id, topic, payload, created_us, due_us, attempts, last_error, dead_us \
         FROM outbox WHERE dead_us IS NOT NULL AND id > $1 ORDER BY id LIMIT $2"
    } else {
        "SELECT id, topic, payload, created_us, due_us, attempts, last_error, dead_us \
         FROM outbox WHERE id > $1 ORDER BY id LIMIT $2"
    };
    let rows = connection.fetch_all(sql, params![after, limit]).await?;
    rows.iter().map(waiting).collect()
}

/// The oldest messages of a topic that wait, by their numbers.
///
/// # Errors
/// What the database said.
pub async fn list_topic(
    connection: &mut Connection,
    topic: &str,
    limit: i64,
) -> Result<Vec<Waiting>, Error> {
    let rows = connection
        .fetch_all(
            "SELECT id, topic, payload, created_us, due_us, attempts, last_error, dead_us \
             FROM outbox WHERE topic = $1 AND dead_us IS NULL ORDER BY id LIMIT $2",
            params![topic, limit],
        )
        .await?;
    rows.iter().map(waiting).collect()
}

fn waiting(row: &Row) -> Result<Waiting, Error> {
    Ok(Waiting {
        id: row.integer("id")?,
        topic: row.text("topic")?,
        payload: row.bytes("payload")?,
        created: row.time("created_us")?,
        due: row.time("due_us")?,
        attempts: row.integer("attempts")?,
        last_error: row.optional_text("last_error")?,
        dead: row.optional_time("dead_us")?,
    })
}

/// Lets a dead message live again; it is due at once. False: it is not there or not dead.
///
/// # Errors
/// What the database said.
pub async fn replay(
    transaction: &mut Connection,
    id: i64,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let rows = transaction
        .execute(
            "UPDATE outbox SET dead_us = NULL, attempts = 0, due_us = $1, claim = NULL, \
             claimed_until_us = 0 WHERE id = $2 AND dead_us IS NOT NULL",
            params![now, id],
        )
        .await?;
    Ok(rows == 1)
}

/// Removes a dead message for good. False: it is not there or not dead.
///
/// # Errors
/// What the database said.
pub async fn discard(transaction: &mut Connection, id: i64) -> Result<bool, Error> {
    let rows = transaction
        .execute(
            "DELETE FROM outbox WHERE id = $1 AND dead_us IS NOT NULL",
            params![id],
        )
        .await?;
    Ok(rows == 1)
}

/// How many messages of each topic wait, and how many are dead.
///
/// # Errors
/// What the database said.
pub async fn depths(connection: &mut Connection) -> Result<Vec<(String, i64, i64)>, Error> {
    let rows = connection
        .fetch_all(
            "SELECT topic, COUNT(*) AS total, COUNT(dead_us) AS dead FROM outbox \
             GROUP BY topic ORDER BY topic",
            params![],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let (total, dead) = (row.integer("total")?, row.integer("dead")?);
            Ok((row.text("topic")?, total - dead, dead))
        })
        .collect()
}
