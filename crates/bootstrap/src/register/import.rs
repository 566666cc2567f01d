//! Bringing devices into the register from an order's file.
//!
//! All or nothing by default: one refused row and nothing is written. The same file again changes
//! nothing, since a device is known by (vendor, serial). Rows stream from the file through one
//! transaction, so memory does not grow with the file, but for eight octets a row by which a
//! serial number that stands there twice is found.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::json;
use store::{AssertSqlSafe, Connection, Store, Value, params};
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::device::{DEVICE_COLUMNS, DeviceRow, device_by_key, device_of, variables_text, write};
use super::rows::{self, Form, ImportRow};
use super::state::State;
use super::{operator, record, touch};
use crate::Error;

/// Rows that are looked up in one statement.
const CHUNK: usize = 256;
/// Rows that are inserted in one statement: SQLite finds a numbered parameter by walking the list
/// of them, so long statements cost the square of their length.
const INSERT_CHUNK: usize = 32;
/// Chunks that wait between the file and the database.
const QUEUE: usize = 4;

/// How an import goes.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Only say what would happen.
    pub dry_run: bool,
    /// Import the good rows although others were refused.
    pub partial: bool,
    /// Change devices that are there with other values.
    pub overwrite: bool,
    /// The vendor of rows that name none.
    pub vendor: Option<String>,
    /// The vendors that there are.
    pub vendors: HashSet<String>,
    /// The device types that there are; `None` takes any.
    pub types: Option<HashSet<String>>,
    /// The form of the file; `None` goes by its name.
    pub form: Option<Form>,
}

/// What became, or would become, of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum RowOutcome {
    /// New in the register.
    Created,
    /// Changed.
    Updated {
        /// What differed.
        changed: Vec<String>,
    },
    /// Was there just like this.
    Unchanged,
    /// Refused.
    Refused {
        /// The stable code.
        code: &'static str,
        /// In words.
        detail: String,
    },
}

/// A row and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowResult {
    /// Its place in the file, from 1; a header line does not count.
    pub row: u64,
    /// Its vendor, if it could be read.
    pub vendor: String,
    /// Its serial number, if it could be read.
    pub serial: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: RowOutcome,
}

/// What an import tells while it goes on.
#[derive(Debug)]
pub enum Heard<'a> {
    /// It begins, or begins again because another transaction was in the way: what was heard
    /// before does not count.
    Begin,
    /// So many more rows were worked on.
    Rows(&'a [RowResult]),
}

/// Who listens to an import.
pub type Listener = Arc<dyn Fn(Heard<'_>) + Send + Sync>;

/// What became of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Rows in the file.
    pub rows: u64,
    /// New devices.
    pub created: u64,
    /// Changed devices.
    pub updated: u64,
    /// Devices that were there just like this.
    pub unchanged: u64,
    /// Refused rows.
    pub refused: u64,
    /// Whether anything was written.
    pub written: bool,
}

impl ImportReport {
    fn count(&mut self, outcome: &RowOutcome) {
        self.rows += 1;
        match outcome {
            RowOutcome::Created => self.created += 1,
            RowOutcome::Updated { .. } => self.updated += 1,
            RowOutcome::Unchanged => self.unchanged += 1,
            RowOutcome::Refused { .. } => self.refused += 1,
        }
    }
}

/// Why the import's transaction was rolled back.
enum Undo {
    Report(ImportReport),
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

/// Imports a device file. `heard` is told of each row.
///
/// A dry run, and an import with refused rows that is not partial, write nothing; the report says
/// so.
///
/// # Errors
/// The file is no table, or the database.
pub async fn import(
    store: &Store,
    file: &Path,
    options: ImportOptions,
    now: OffsetDateTime,
    heard: Listener,
) -> Result<ImportReport, Error> {
    let options = Arc::new(options);
    let file: Arc<Path> = file.into();
    let result = store
        .transaction("device-import", move |connection| {
            let (options, file) = (Arc::clone(&options), Arc::clone(&file));
            let heard = Arc::clone(&heard);
            async move {
                heard(Heard::Begin);
                let mut work = Work::new(connection, &options, now);
                let mut chunks = chunks_of(file.to_path_buf(), options.form);
                while let Some(chunk) = chunks.recv().await {
                    let results = work.chunk(chunk?).await?;
                    heard(Heard::Rows(&results));
                }
                let mut report = work.report;
                if options.dry_run || (!options.partial && report.refused > 0) {
                    return Err(Undo::Report(report));
                }
                report.written = report.created + report.updated > 0;
                if report.written {
                    touch(connection).await?;
                    let data = json!({
                        "file": file.display().to_string(),
                        "created": report.created, "updated": report.updated,
                    });
                    let kind = "devices-imported";
                    record(connection, kind, &operator(), "register", data, now).await?;
                }
                Ok(report)
            }
            .boxed()
        })
        .await;
    match result {
        Ok(report) | Err(Undo::Report(report)) => Ok(report),
        Err(Undo::Error(error)) => Err(error),
    }
}

type Chunk = Vec<Result<ImportRow, rows::Refused>>;

/// Reads the file on a thread of its own, a few chunks ahead.
fn chunks_of(file: PathBuf, form: Option<Form>) -> mpsc::Receiver<Result<Chunk, Error>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let form = form.unwrap_or_else(|| Form::of(&file.to_string_lossy()));
        let opened = match std::fs::File::open(&file) {
            Ok(opened) => opened,
            Err(error) => {
                // Nobody listens any more: the transaction was rolled back.
                let _ = sender.blocking_send(Err(Error::file(&file, error)));
                return;
            }
        };
        let mut chunk = Vec::with_capacity(CHUNK);
        let result = rows::read(opened, form, &mut |row| {
            chunk.push(row);
            if chunk.len() < CHUNK {
                return true;
            }
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
            sender.blocking_send(Ok(full)).is_ok()
        });
        if !chunk.is_empty() {
            let _ = sender.blocking_send(Ok(chunk));
        }
        if let Err(refused) = result {
            let _ = sender.blocking_send(Err(Error::malformed(&file, refused.detail)));
        }
    });
    receiver
}

/// An import inside its transaction.
struct Work<'c, 'o> {
    connection: &'c mut Connection,
    options: &'o ImportOptions,
    now: OffsetDateTime,
    report: ImportReport,
    hasher: RandomState,
    seen: HashSet<u64>,
    /// Rows that are created and not yet written.
    new: Vec<DeviceRow>,
}

impl<'c, 'o> Work<'c, 'o> {
    fn new(
        connection: &'c mut Connection,
        options: &'o ImportOptions,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            connection,
            options,
            now,
            report: ImportReport::default(),
            hasher: RandomState::new(),
            seen: HashSet::new(),
            new: Vec::new(),
        }
    }

    async fn chunk(&mut self, chunk: Chunk) -> Result<Vec<RowResult>, Error> {
        let present = self.present(&chunk).await?;
        let mut results = Vec::with_capacity(chunk.len());
        for row in chunk {
            let number = self.report.rows + 1;
            let result = match row {
                Err(refused) => RowResult {
                    row: number,
                    vendor: String::new(),
                    serial: String::new(),
                    outcome: RowOutcome::Refused {
                        code: refused.code,
                        detail: refused.detail,
                    },
                },
                Ok(row) => {
                    let vendor = row.vendor.clone().or_else(|| self.options.vendor.clone());
                    let vendor = vendor.unwrap_or_default();
                    let serial = row.serial.clone();
                    let outcome = self.row(&vendor, row, &present).await?;
                    RowResult {
                        row: number,
                        vendor,
                        serial,
                        outcome,
                    }
                }
            };
            self.report.count(&result.outcome);
            results.push(result);
        }
        self.flush().await?;
        Ok(results)
    }

    /// The devices of a chunk that are in the register.
    async fn present(
        &mut self,
        chunk: &Chunk,
    ) -> Result<HashMap<(String, String), DeviceRow>, Error> {
        let serials: Vec<&str> = chunk
            .iter()
            .filter_map(|row| row.as_ref().ok())
            .map(|row| row.serial.as_str())
            .collect();
        if serials.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT {DEVICE_COLUMNS} FROM device WHERE serial IN ({})",
            places(1, serials.len())
        );
        let values = serials.iter().map(|serial| Value::from(*serial)).collect();
        let rows = self
            .connection
            .fetch_all(AssertSqlSafe(sql), values)
            .await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let device = device_of(row)?;
            found.insert((device.vendor.clone(), device.serial.clone()), device);
        }
        Ok(found)
    }

    async fn row(
        &mut self,
        vendor: &str,
        row: ImportRow,
        present: &HashMap<(String, String), DeviceRow>,
    ) -> Result<RowOutcome, Error> {
        if let Some(refused) = self.unknown(vendor, &row) {
            return Ok(refused);
        }
        let again = !self
            .seen
            .insert(self.hasher.hash_one((vendor, &row.serial)));
        let key = (vendor.to_owned(), row.serial.clone());
        let before = if again {
            // An earlier row was about it: what that one made of it counts.
            self.flush().await?;
            device_by_key(self.connection, vendor, &row.serial).await?
        } else {
            present.get(&key).cloned()
        };
        let alias_of = match &row.alias_of {
            None => None,
            Some(serial) => match self.whole(vendor, serial).await? {
                Some(id) => Some(id),
                None => {
                    return Ok(refuse(
                        "bootstrap.import-alias",
                        format!("{serial} is neither in the register nor in an earlier row"),
                    ));
                }
            },
        };
        if let Some(owner) = &row.owner
            && !self.has_owner(owner).await?
        {
            return Ok(refuse(
                "bootstrap.import-owner",
                format!("there is no owner {owner}; `usher bootstrap owner add {owner}`"),
            ));
        }
        let Some(before) = before else {
            let device = merged(blank(vendor, &row.serial, self.now), row, alias_of);
            self.new.push(device);
            return Ok(RowOutcome::Created);
        };
        let after = merged(before.clone(), row, alias_of);
        let changed = super::device::differences(&before, &after);
        if changed.is_empty() {
            return Ok(RowOutcome::Unchanged);
        }
        if again {
            return Ok(refuse(
                "bootstrap.import-duplicate",
                format!("an earlier row has another {}", changed.join(", ")),
            ));
        }
        if !self.options.overwrite {
            return Ok(refuse(
                "bootstrap.import-differs",
                format!(
                    "it is in the register with another {}; --overwrite takes the new values",
                    changed.join(", ")
                ),
            ));
        }
        write(self.connection, &after, self.now).await?;
        Ok(RowOutcome::Updated { changed })
    }

    fn unknown(&self, vendor: &str, row: &ImportRow) -> Option<RowOutcome> {
        if vendor.is_empty() {
            return Some(refuse(
                "bootstrap.import-vendor",
                "no vendor: a column vendor, or --vendor".to_owned(),
            ));
        }
        if !self.options.vendors.contains(vendor) {
            return Some(refuse(
                "bootstrap.import-vendor",
                format!(
                    "there is no vendor {vendor}; `usher bootstrap trust import FILE --vendor \
                     {vendor}`"
                ),
            ));
        }
        let types = self.options.types.as_ref()?;
        let kind = row.device_type.as_ref()?;
        (!types.contains(kind)).then(|| {
            refuse(
                "bootstrap.import-type",
                format!("there is no device type {kind}; `usher bootstrap profiles list`"),
            )
        })
    }

    /// The number of the device that a part belongs to.
    async fn whole(&mut self, vendor: &str, serial: &str) -> Result<Option<i64>, Error> {
        let pending = |device: &DeviceRow| device.vendor == vendor && device.serial == serial;
        if self.new.iter().any(pending) {
            self.flush().await?;
        }
        let device = device_by_key(self.connection, vendor, serial).await?;
        // A part of a part is a part of the whole.
        Ok(device.map(|device| device.alias_of.unwrap_or(device.id)))
    }

    async fn has_owner(&mut self, owner: &str) -> Result<bool, Error> {
        let row = self
            .connection
            .fetch_optional("SELECT id FROM owner WHERE id = $1", params![owner])
            .await?;
        Ok(row.is_some())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let new = std::mem::take(&mut self.new);
        for rows in new.chunks(INSERT_CHUNK) {
            insert(self.connection, rows).await?;
        }
        Ok(())
    }
}

fn refuse(code: &'static str, detail: String) -> RowOutcome {
    RowOutcome::Refused { code, detail }
}

/// A device of which nothing is known but who it is.
pub(super) fn blank(vendor: &str, serial: &str, now: OffsetDateTime) -> DeviceRow {
    DeviceRow {
        id: 0,
        vendor: vendor.to_owned(),
        serial: serial.to_owned(),
        alias_of: None,
        group: String::new(),
        site: String::new(),
        device_type: String::new(),
        hw_model: None,
        os_name: None,
        os_version: None,
        variables: std::collections::BTreeMap::new(),
        state: State::Registered,
        owner: None,
        basic_hash: None,
        blocked: None,
        note: String::new(),
        version: 0,
        created: now,
        changed: now,
        first_seen: None,
        last_seen: None,
        last_progress: None,
        last_progress_at: None,
        waiting_since: None,
        released: None,
        replaced_by: None,
    }
}

/// What a row makes of a device. A value that the row does not give stays.
fn merged(mut device: DeviceRow, row: ImportRow, alias_of: Option<i64>) -> DeviceRow {
    let texts = [
        (row.group, &mut device.group),
        (row.site, &mut device.site),
        (row.device_type, &mut device.device_type),
    ];
    for (value, into) in texts {
        if let Some(value) = value {
            *into = value;
        }
    }
    let options = [
        (row.hw_model, &mut device.hw_model),
        (row.os_name, &mut device.os_name),
        (row.os_version, &mut device.os_version),
        (row.owner, &mut device.owner),
    ];
    for (value, into) in options {
        if value.is_some() {
            *into = value;
        }
    }
    if alias_of.is_some() {
        device.alias_of = alias_of;
    }
    device.variables.extend(row.variables);
    // Who was released and is ordered again begins anew.
    if !device.state.is_ours() {
        device.state = State::Registered;
        device.released = None;
        device.replaced_by = None;
    }
    device
}

/// `$1, $2, …`
pub(super) fn places(from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|n| format!("${n}")).collect();
    names.join(", ")
}

/// Writes new devices.
pub(super) async fn insert(connection: &mut Connection, rows: &[DeviceRow]) -> Result<(), Error> {
    const WIDTH: usize = 14;
    if rows.is_empty() {
        return Ok(());
    }
    let mut sql = String::from(
        "INSERT INTO device (vendor, serial, alias_of, group_name, site, device_type, hw_model, \
         os_name, os_version, variables, state, owner, note, created_us, changed_us) VALUES ",
    );
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * WIDTH);
    for (index, row) in rows.iter().enumerate() {
        let first = index * WIDTH + 1;
        let comma = if index == 0 { "" } else { ", " };
        let time = first + WIDTH - 1;
        sql.push_str(&format!("{comma}({}, ${time})", places(first, WIDTH)));
        values.extend(params![
            &row.vendor,
            &row.serial,
            row.alias_of,
            &row.group,
            &row.site,
            &row.device_type,
            row.hw_model.clone(),
            row.os_name.clone(),
            row.os_version.clone(),
            variables_text(&row.variables)?,
            row.state.as_str(),
            row.owner.clone(),
            &row.note,
            row.created
        ]);
    }
    connection.execute(AssertSqlSafe(sql), values).await?;
    Ok(())
}
