//! The timeline: what happened with a device, in the order in which it happened.

use serde::{Deserialize, Serialize};
use store::{Connection, Error, params};
use time::OffsetDateTime;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should.
    Ok,
    /// Something to look at, that did not stop the device.
    Notice,
    /// It waits.
    Pending,
    /// The device was refused.
    Refused,
    /// It failed, and not by the device's fault.
    Failed,
}

impl Outcome {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notice => "notice",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One line to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: OffsetDateTime,
    /// The step, such as `voucher-request` or `audit-log`.
    pub step: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// The code, if something is to be said about it.
    pub code: Option<String>,
    /// One sentence.
    pub summary: String,
    /// What can be done.
    pub next_action: Option<String>,
    /// The messages decoded, the rule that fired, and what else explains the step.
    pub detail: serde_json::Value,
}

impl Entry {
    /// A step that went well.
    #[must_use]
    pub fn new(at: OffsetDateTime, step: &'static str, summary: impl Into<String>) -> Self {
        Self {
            at,
            step,
            outcome: Outcome::Ok,
            code: None,
            summary: summary.into(),
            next_action: None,
            detail: serde_json::Value::Null,
        }
    }

    /// With that outcome.
    #[must_use]
    pub const fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// With that code.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// With that advice.
    #[must_use]
    pub fn next_action(mut self, action: impl Into<String>) -> Self {
        self.next_action = Some(action.into());
        self
    }

    /// With those details.
    #[must_use]
    pub fn detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = detail;
        self
    }
}

/// One line as it stands in the database.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// Its number.
    pub entry_id: i64,
    /// When.
    pub at: String,
    /// The correlation id of the request, as it stands in the logs and in the device's answer.
    pub correlation: String,
    /// The step.
    pub step: String,
    /// How it ended.
    pub outcome: String,
    /// The code.
    pub code: Option<String>,
    /// One sentence.
    pub summary: String,
    /// What can be done.
    pub next_action: Option<String>,
    /// Details.
    pub detail: serde_json::Value,
}

/// The longest detail that is kept; a peer's message is shown by its beginning.
const DETAIL_LENGTH_MAX_BYTES: usize = 16 * 1024;

/// Writes lines.
///
/// # Errors
/// The database failed.
pub async fn append(
    connection: &mut Connection,
    device_id: &str,
    correlation: &str,
    entries: &[Entry],
) -> Result<(), Error> {
    for entry in entries {
        let mut detail = entry.detail.to_string();
        if detail.len() > DETAIL_LENGTH_MAX_BYTES {
            // The signed bytes are the first to go: post-quantum signatures are long, and what they
            // say stands decoded beside them.
            let mut shorter = entry.detail.clone();
            if let Some(object) = shorter.as_object_mut() {
                object.remove("bytes");
            }
            detail = shorter.to_string();
        }
        if detail.len() > DETAIL_LENGTH_MAX_BYTES {
            detail =
                serde_json::json!({ "omitted": "too long", "length": detail.len() }).to_string();
        }
        connection
            .execute(
                "INSERT INTO timeline (device_id, at_us, correlation, step, outcome, code, summary, \
                 next_action, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                params![
                    device_id,
                    entry.at,
                    correlation,
                    entry.step,
                    entry.outcome.as_str(),
                    entry.code.clone(),
                    storable(&entry.summary),
                    entry.next_action.clone(),
                    // NUL cannot be kept as text by PostgreSQL, and JSON writes it as an escape.
                    detail
                ],
            )
            .await?;
    }
    Ok(())
}

/// Text without NUL, which PostgreSQL cannot keep.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The newest lines of a device, oldest first.
///
/// # Errors
/// The database failed.
pub async fn timeline(
    connection: &mut Connection,
    device_id: &str,
    limit: u32,
) -> Result<Vec<Recorded>, Error> {
    let rows = connection
        .fetch_all(
            "SELECT entry_id, at_us, correlation, step, outcome, code, summary, next_action, detail \
             FROM timeline WHERE device_id = $1 ORDER BY entry_id DESC LIMIT $2",
            params![device_id, limit],
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows.iter().rev() {
        entries.push(Recorded {
            entry_id: row.integer("entry_id")?,
            at: super::rfc3339(row.time("at_us")?),
            correlation: row.text("correlation")?,
            step: row.text("step")?,
            outcome: row.text("outcome")?,
            code: row.optional_text("code")?,
            summary: row.text("summary")?,
            next_action: row.optional_text("next_action")?,
            detail: serde_json::from_str(&row.text("detail")?).unwrap_or(serde_json::Value::Null),
        });
    }
    Ok(entries)
}
