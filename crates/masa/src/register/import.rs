//! Bringing devices into the register from the factory's or the shop's files.
//!
//! All or nothing by default: one refused row and nothing is written. The same file again changes
//! nothing. An import never takes a device away from the owner who has it: that is `transfer`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use artifacts::{Assertion, Envelope, SerialNumber};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{AssertSqlSafe, Connection, Store, Value, params};
use time::OffsetDateTime;

use super::owner::is_owner_id;
use super::{TEXT_LENGTH_MAX_BYTES, next_epoch, record};
use crate::Error;

/// Rows in one import.
pub const ROWS_MAX: usize = 5_000_000;
/// Octets of one JSON import file.
const JSON_SIZE_MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Rows that are looked up in one statement.
const CHUNK: usize = 256;
/// Rows that are inserted in one statement. SQLite finds a numbered parameter by walking the list
/// of all of them, so long statements cost the square of their length: 32 rows are eight times
/// faster than 500.
const INSERT_CHUNK: usize = 32;

/// A row as the file has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportRow {
    /// Serial number.
    #[serde(alias = "serial-number", alias = "serial_number")]
    pub serial: String,
    /// Key identifier of the issuer of the IDevID, in hex.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What it is.
    #[serde(default)]
    pub product: Option<String>,
    /// The owner who bought it.
    #[serde(default, alias = "sold_to", alias = "owner")]
    pub sold_to: Option<String>,
    /// Ship date, `YYYY-MM-DD`.
    #[serde(default, alias = "ship_date", alias = "shipped")]
    pub ship_date: Option<String>,
    /// Whether it has a clock it can trust from the factory on.
    #[serde(default, alias = "has_clock")]
    pub has_clock: Option<Flag>,
    /// Voucher formats it can process, separated by blanks.
    #[serde(default)]
    pub formats: Option<String>,
    /// The least assertion under which it is handed over.
    #[serde(default, alias = "assertion_min")]
    pub assertion_min: Option<String>,
    /// SHA-256 of the public key of its IDevID, in hex.
    #[serde(default, alias = "idevid_key")]
    pub idevid_key: Option<String>,
}

/// A yes or no that CSV can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bool(bool),
            Number(u8),
            Text(String),
        }
        let refuse = || serde::de::Error::custom("expected yes or no");
        match Either::deserialize(deserializer)? {
            Either::Bool(value) => Ok(Self(value)),
            Either::Number(value @ (0 | 1)) => Ok(Self(value == 1)),
            Either::Number(_) => Err(refuse()),
            Either::Text(text) => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "1" => Ok(Self(true)),
                "no" | "false" | "0" | "" => Ok(Self(false)),
                _ => Err(refuse()),
            },
        }
    }
}

/// Form of an import file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// CSV with a header line.
    Csv,
    /// A JSON array of objects.
    Json,
    /// One JSON object a line.
    JsonLines,
}

impl ImportSource {
    /// By the name of the file.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path
            .extension()
            .and_then(|e| e.to_str())
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("json") => Self::Json,
            Some("jsonl" | "ndjson") => Self::JsonLines,
            _ => Self::Csv,
        }
    }
}

/// Rows of a file: each parsed, or the reason why it could not be.
pub type Rows = Vec<Result<ImportRow, String>>;

/// Reads an import file.
///
/// # Errors
/// When the file cannot be read, is no table at all, or has too many rows.
pub fn read_rows(path: &Path, source: ImportSource) -> Result<Rows, Error> {
    let file = std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
    let mut rows = Vec::new();
    let mut push = |row: Result<ImportRow, String>| {
        if rows.len() >= ROWS_MAX {
            return Err(Error::malformed(path, format!("more than {ROWS_MAX} rows")));
        }
        rows.push(row);
        Ok(())
    };
    match source {
        ImportSource::Csv => {
            let mut reader = csv::ReaderBuilder::new()
                .trim(csv::Trim::All)
                .flexible(false)
                .comment(Some(b'#'))
                .from_reader(std::io::BufReader::new(file));
            let headers = reader
                .headers()
                .map_err(|e| Error::malformed(path, e))?
                .clone();
            let names: csv::StringRecord = headers
                .iter()
                .map(|name| name.trim_start_matches('\u{feff}').to_ascii_lowercase())
                .collect();
            for record in reader.records() {
                let row = record
                    .map_err(|error| error.to_string())
                    .and_then(|record| {
                        record
                            .deserialize::<ImportRow>(Some(&names))
                            .map_err(|e| match e.kind() {
                                csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
                                _ => e.to_string(),
                            })
                    });
                push(row)?;
            }
        }
        ImportSource::Json => {
            use std::io::Read as _;
            let mut text = String::new();
            std::io::BufReader::new(file)
                .take(JSON_SIZE_MAX_BYTES)
                .read_to_string(&mut text)
                .map_err(|error| Error::file(path, error))?;
            let values: Vec<serde_json::Value> =
                serde_json::from_str(&text).map_err(|e| Error::malformed(path, e))?;
            for value in values {
                push(serde_json::from_value(value).map_err(|error| error.to_string()))?;
            }
        }
        ImportSource::JsonLines => {
            use std::io::BufRead as _;
            for line in std::io::BufReader::new(file).lines() {
                let line = line.map_err(|error| Error::file(path, error))?;
                if !line.trim().is_empty() {
                    push(serde_json::from_str(&line).map_err(|error| error.to_string()))?;
                }
            }
        }
    }
    Ok(rows)
}

/// How an import goes.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Import the good rows although others were refused.
    pub partial: bool,
    /// Issuer of rows that name none, as key identifier.
    pub issuer: Vec<u8>,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowOutcome {
    /// New in the register.
    Created,
    /// Changed.
    Updated,
    /// Was there just like this.
    Unchanged,
    /// Refused: code and reason.
    Refused(&'static str, String),
}

/// What became of an import.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImportReport {
    /// Rows in the file.
    pub rows: usize,
    /// New devices.
    pub created: usize,
    /// Changed devices.
    pub updated: usize,
    /// Devices that were there just like this.
    pub unchanged: usize,
    /// Refused rows.
    pub refused: usize,
    /// Whether anything was written.
    pub written: bool,
    /// The outcome of each row, in order.
    #[serde(skip)]
    pub outcomes: Vec<RowOutcome>,
}

/// A row that can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ready {
    /// Its place in the file.
    at: usize,
    serial: String,
    issuer: Vec<u8>,
    product: Option<String>,
    sold_to: Option<String>,
    shipped: Option<String>,
    has_clock: Option<bool>,
    formats: Option<String>,
    assertion_min: Option<String>,
    idevid_key: Option<Vec<u8>>,
}

type Refusal = (&'static str, String);

fn text(value: Option<&String>) -> Result<Option<String>, Refusal> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    if value.len() > TEXT_LENGTH_MAX_BYTES || value.chars().any(char::is_control) {
        return Err((
            "masa.import-value",
            format!("{value:?} is too long or not text"),
        ));
    }
    Ok(Some(value.clone()))
}

fn ready(at: usize, row: &ImportRow, options: &ImportOptions) -> Result<Ready, Refusal> {
    let bad = |what: &str| ("masa.import-value", what.to_owned());
    let serial = SerialNumber::new(row.serial.clone())
        .ok_or_else(|| bad("the serial number is empty, too long or has control characters"))?;
    let octets = |value: Option<&String>, what: &str| match value.filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(value) => hex::decode(value.replace(':', ""))
            .map(Some)
            .map_err(|_| bad(&format!("{what} is not hexadecimal"))),
    };
    let issuer = octets(row.issuer.as_ref(), "the issuer")?;
    if issuer.as_ref().is_some_and(|issuer| issuer.len() > 64) {
        return Err(bad("the issuer is longer than 64 octets"));
    }
    let idevid_key = octets(row.idevid_key.as_ref(), "the IDevID's key")?;
    if idevid_key.as_ref().is_some_and(|key| key.len() != 32) {
        return Err(bad("the IDevID's key is not a SHA-256 fingerprint"));
    }
    let sold_to = text(row.sold_to.as_ref())?;
    if sold_to.as_ref().is_some_and(|owner| !is_owner_id(owner)) {
        return Err(bad("sold-to is not an owner's identifier"));
    }
    let shipped = text(row.ship_date.as_ref())?;
    let date = time::macros::format_description!("[year]-[month]-[day]");
    if shipped
        .as_ref()
        .is_some_and(|text| time::Date::parse(text, &date).is_err())
    {
        return Err(bad("the ship date is not YYYY-MM-DD"));
    }
    let formats = text(row.formats.as_ref())?;
    if let Some(formats) = &formats {
        let known = |name: &str| Envelope::ALL.iter().any(|envelope| envelope.name() == name);
        if !formats.split_whitespace().all(known) {
            return Err(bad("formats are cms, jws or both"));
        }
    }
    let assertion_min = text(row.assertion_min.as_ref())?;
    if assertion_min
        .as_ref()
        .is_some_and(|name| Assertion::from_name(name).is_none())
    {
        return Err(bad("assertion-min is not an assertion"));
    }
    Ok(Ready {
        at,
        serial: serial.as_str().to_owned(),
        issuer: issuer.unwrap_or_else(|| options.issuer.clone()),
        product: text(row.product.as_ref())?,
        sold_to,
        shipped,
        has_clock: row.has_clock.map(|flag| flag.0),
        formats,
        assertion_min,
        idevid_key,
    })
}

/// The columns of a device that an import can set, as they are now.
struct Present {
    product: String,
    sold_to: Option<String>,
    shipped: Option<String>,
    has_clock: bool,
    formats: String,
    assertion_min: Option<String>,
    idevid_key: Option<Vec<u8>>,
}

/// An import that was read and checked, ready to be written.
#[derive(Clone)]
pub struct Import {
    ready: Arc<Vec<Ready>>,
    outcomes: Vec<Option<RowOutcome>>,
    options: ImportOptions,
    source: String,
}

impl Import {
    /// Checks each row by itself and against the others of the file.
    #[must_use]
    pub fn prepare(rows: &Rows, options: ImportOptions, source: &str) -> Self {
        let mut outcomes = vec![None; rows.len()];
        let mut ready_rows: Vec<Ready> = Vec::with_capacity(rows.len());
        let mut seen: HashMap<(String, Vec<u8>), usize> = HashMap::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let checked = match row {
                Ok(row) => ready(at, row, &options),
                Err(reason) => Err(("masa.import-row", reason.clone())),
            };
            let outcome = match checked {
                Err((code, reason)) => RowOutcome::Refused(code, reason),
                Ok(row) => {
                    let key = (row.serial.clone(), row.issuer.clone());
                    let earlier = seen.get(&key).and_then(|place| ready_rows.get(*place));
                    match earlier {
                        None => {
                            seen.insert(key, ready_rows.len());
                            ready_rows.push(row);
                            continue;
                        }
                        Some(earlier)
                            if (Ready {
                                at: earlier.at,
                                ..row.clone()
                            }) == *earlier =>
                        {
                            RowOutcome::Unchanged
                        }
                        Some(earlier) => RowOutcome::Refused(
                            "masa.import-duplicate",
                            format!(
                                "row {} has the same device with other values",
                                earlier.at + 1
                            ),
                        ),
                    }
                }
            };
            if let Some(slot) = outcomes.get_mut(at) {
                *slot = Some(outcome);
            }
        }
        Self {
            ready: Arc::new(ready_rows),
            outcomes,
            options,
            source: source.to_owned(),
        }
    }

    fn refused(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|o| matches!(o, Some(RowOutcome::Refused(..))))
            .count()
    }

    /// Writes the import. `progress` hears how many more rows were worked on.
    ///
    /// A dry run, and an import with refused rows that is not partial, write nothing; the report
    /// says so and what became, or would become, of each row.
    ///
    /// # Errors
    /// What the database said.
    pub async fn run(
        &self,
        store: &Store,
        now: OffsetDateTime,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<ImportReport, Error> {
        let progress = Arc::new(progress);
        let strict = !self.options.partial;
        let before = self.refused();
        let rows = Arc::clone(&self.ready);
        let dry = self.options.dry_run || (strict && before > 0);
        let source = self.source.clone();
        // Undoing everything is done by refusing the transaction, so the outcomes travel in the
        // refusal.
        let result = store
            .transaction("device-import", move |connection| {
                let (rows, progress) = (Arc::clone(&rows), Arc::clone(&progress));
                let source = source.clone();
                async move {
                    let mut outcomes = Vec::with_capacity(rows.len());
                    let owners = owners(connection).await?;
                    for chunk in rows.chunks(CHUNK) {
                        outcomes.extend(write(connection, chunk, &owners, now).await?);
                        progress(u64::try_from(chunk.len()).unwrap_or(0));
                    }
                    let refused = outcomes
                        .iter()
                        .any(|o| matches!(o, RowOutcome::Refused(..)));
                    if dry || (strict && refused) {
                        return Err(Undo::Outcomes(outcomes));
                    }
                    let count = |wanted: &RowOutcome| {
                        outcomes.iter().filter(|outcome| *outcome == wanted).count()
                    };
                    let created = count(&RowOutcome::Created);
                    let updated = count(&RowOutcome::Updated);
                    if created + updated > 0 {
                        next_epoch(connection).await?;
                        let data = json!({
                            "file": source, "created": created, "updated": updated,
                        });
                        let actor = super::operator();
                        record(
                            connection,
                            "devices-imported",
                            &actor,
                            "register",
                            data,
                            now,
                        )
                        .await?;
                    }
                    Ok(outcomes)
                }
                .boxed()
            })
            .await;
        let (written, outcomes) = match result {
            Ok(outcomes) => (true, outcomes),
            Err(Undo::Outcomes(outcomes)) => (false, outcomes),
            Err(Undo::Error(error)) => return Err(error),
        };
        Ok(self.report(outcomes, written))
    }

    fn report(&self, written_rows: Vec<RowOutcome>, written: bool) -> ImportReport {
        let mut all = self.outcomes.clone();
        for (row, outcome) in self.ready.iter().zip(written_rows) {
            if let Some(slot) = all.get_mut(row.at) {
                *slot = Some(outcome);
            }
        }
        let outcomes: Vec<RowOutcome> = all
            .into_iter()
            .map(|outcome| outcome.unwrap_or(RowOutcome::Unchanged))
            .collect();
        let mut report = ImportReport {
            rows: outcomes.len(),
            written,
            ..ImportReport::default()
        };
        for outcome in &outcomes {
            match outcome {
                RowOutcome::Created => report.created += 1,
                RowOutcome::Updated => report.updated += 1,
                RowOutcome::Unchanged => report.unchanged += 1,
                RowOutcome::Refused(..) => report.refused += 1,
            }
        }
        report.outcomes = outcomes;
        report
    }
}

/// Why the import's transaction was rolled back.
enum Undo {
    Outcomes(Vec<RowOutcome>),
    Error(Error),
}

impl From<store::Error> for Undo {
    fn from(error: store::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<Error> for Undo {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn owners(connection: &mut Connection) -> Result<HashMap<String, ()>, Error> {
    let rows = connection
        .fetch_all("SELECT id FROM owner", params![])
        .await?;
    rows.iter().map(|row| Ok((row.text("id")?, ()))).collect()
}

fn places(from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|n| format!("${n}")).collect();
    names.join(", ")
}

async fn present(
    connection: &mut Connection,
    chunk: &[Ready],
) -> Result<HashMap<(String, Vec<u8>), Present>, Error> {
    let sql = format!(
        "SELECT serial, issuer, product, sold_to, shipped, has_clock, formats, assertion_min, \
         idevid_key FROM device WHERE serial IN ({})",
        places(1, chunk.len())
    );
    let values = chunk.iter().map(|row| Value::from(&row.serial)).collect();
    let rows = connection.fetch_all(AssertSqlSafe(sql), values).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let present = Present {
            product: row.text("product")?,
            sold_to: row.optional_text("sold_to")?,
            shipped: row.optional_text("shipped")?,
            has_clock: row.boolean("has_clock")?,
            formats: row.text("formats")?,
            assertion_min: row.optional_text("assertion_min")?,
            idevid_key: row.optional_bytes("idevid_key")?,
        };
        found.insert((row.text("serial")?, row.bytes("issuer")?), present);
    }
    Ok(found)
}

/// What an import would do to a device that is there. A value that the row does not give stays.
fn compare(row: &Ready, present: &Present) -> RowOutcome {
    if let (Some(buyer), Some(owner)) = (&row.sold_to, &present.sold_to)
        && buyer != owner
    {
        return RowOutcome::Refused(
            "masa.import-other-owner",
            format!("the device was sold to {owner}; use transfer"),
        );
    }
    if let (Some(key), Some(known)) = (&row.idevid_key, &present.idevid_key)
        && key != known
    {
        return RowOutcome::Refused(
            "masa.import-other-key",
            "another IDevID key is known for this device".to_owned(),
        );
    }
    fn same<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
        wanted.is_none() || wanted == is
    }
    let unchanged = same(row.product.as_ref(), Some(&present.product))
        && same(row.sold_to.as_ref(), present.sold_to.as_ref())
        && same(row.shipped.as_ref(), present.shipped.as_ref())
        && same(row.has_clock.as_ref(), Some(&present.has_clock))
        && same(row.formats.as_ref(), Some(&present.formats))
        && same(row.assertion_min.as_ref(), present.assertion_min.as_ref())
        && same(row.idevid_key.as_ref(), present.idevid_key.as_ref());
    if unchanged {
        RowOutcome::Unchanged
    } else {
        RowOutcome::Updated
    }
}

async fn write(
    connection: &mut Connection,
    chunk: &[Ready],
    owners: &HashMap<String, ()>,
    now: OffsetDateTime,
) -> Result<Vec<RowOutcome>, Error> {
    let present = present(connection, chunk).await?;
    let mut outcomes = Vec::with_capacity(chunk.len());
    let mut new = Vec::new();
    for row in chunk {
        let unknown = row
            .sold_to
            .as_ref()
            .filter(|owner| !owners.contains_key(*owner));
        let outcome = if let Some(owner) = unknown {
            let text = format!("there is no owner {owner:?}; add it first");
            RowOutcome::Refused("masa.import-unknown-owner", text)
        } else {
            match present.get(&(row.serial.clone(), row.issuer.clone())) {
                Some(present) => compare(row, present),
                None => RowOutcome::Created,
            }
        };
        match outcome {
            RowOutcome::Created => new.push(row),
            RowOutcome::Updated => update(connection, row, now).await?,
            RowOutcome::Unchanged | RowOutcome::Refused(..) => {}
        }
        outcomes.push(outcome);
    }
    for rows in new.chunks(INSERT_CHUNK) {
        insert(connection, rows, now).await?;
    }
    Ok(outcomes)
}

async fn insert(
    connection: &mut Connection,
    rows: &[&Ready],
    now: OffsetDateTime,
) -> Result<(), Error> {
    const WIDTH: usize = 10;
    let mut sql = String::from(
        "INSERT INTO device (serial, issuer, product, sold_to, shipped, has_clock, formats, \
         assertion_min, idevid_key, created_us, changed_us, version) VALUES ",
    );
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * WIDTH);
    for (index, row) in rows.iter().enumerate() {
        let first = index * WIDTH + 1;
        let comma = if index == 0 { "" } else { ", " };
        let time = first + WIDTH - 1;
        sql.push_str(&format!("{comma}({}, ${time}, 0)", places(first, WIDTH)));
        values.extend(params![
            &row.serial,
            &row.issuer,
            row.product.clone().unwrap_or_default(),
            row.sold_to.clone(),
            row.shipped.clone(),
            row.has_clock.unwrap_or(false),
            row.formats.clone().unwrap_or_default(),
            row.assertion_min.clone(),
            row.idevid_key.clone(),
            now
        ]);
    }
    connection.execute(AssertSqlSafe(sql), values).await?;
    Ok(())
}

async fn update(
    connection: &mut Connection,
    row: &Ready,
    now: OffsetDateTime,
) -> Result<(), Error> {
    connection
        .execute(
            "UPDATE device SET product = COALESCE($1, product), sold_to = COALESCE($2, sold_to), \
             shipped = COALESCE($3, shipped), has_clock = COALESCE($4, has_clock), \
             formats = COALESCE($5, formats), assertion_min = COALESCE($6, assertion_min), \
             idevid_key = COALESCE($7, idevid_key), changed_us = $8, version = version + 1 \
             WHERE serial = $9 AND issuer = $10",
            params![
                row.product.clone(),
                row.sold_to.clone(),
                row.shipped.clone(),
                row.has_clock.map(i64::from),
                row.formats.clone(),
                row.assertion_min.clone(),
                row.idevid_key.clone(),
                now,
                &row.serial,
                &row.issuer
            ],
        )
        .await?;
    Ok(())
}
