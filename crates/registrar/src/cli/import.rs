//! `usher registrar device import`.

use std::path::PathBuf;

use clap::Args;
use daemon::cli::Progress;
use daemon::{Format, Outcome};
use serde::Serialize;
use store::Store;
use time::OffsetDateTime;

use crate::Error;
use crate::policy::Action;
use crate::records::{self, Admission};

/// The most rows of one import.
const IMPORT_ROWS_MAX: usize = 5_000_000;
/// Rows that are written in one transaction.
const IMPORT_BATCH: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The CSV file.
    file: PathBuf,
    /// Check every row and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// The vendor of rows that name none; without it they hold for any vendor.
    #[arg(long)]
    vendor: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct RowOutcome {
    line: u64,
    serial: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize)]
struct ImportReport {
    ok: bool,
    dry_run: bool,
    rows: usize,
    changed: u64,
    unchanged: u64,
    errors: usize,
    outcomes: Vec<RowOutcome>,
}

pub(super) async fn import(
    format: Format,
    store: &Store,
    arguments: &ImportArguments,
    vendors: &crate::vendor::Vendors,
    now: OffsetDateTime,
) -> Result<Outcome, Error> {
    let bytes =
        std::fs::read(&arguments.file).map_err(|error| Error::file(&arguments.file, &error))?;
    let (rows, mut outcomes) = read_csv(&bytes, arguments.vendor.as_deref(), vendors)?;
    let errors = outcomes.iter().filter(|row| row.outcome == "error").count();
    let (mut changed, mut unchanged) = (0, 0);
    if errors == 0 {
        let progress = Progress::new(format, rows.len() as u64, "devices");
        let written = write_rows(store, rows.clone(), arguments.dry_run, now).await?;
        for ((line, admission), is_new) in rows.iter().zip(written) {
            if is_new {
                changed += 1;
            } else {
                unchanged += 1;
            }
            outcomes.push(RowOutcome {
                line: *line,
                serial: admission.serial.clone(),
                outcome: if is_new { "changed" } else { "unchanged" },
                detail: None,
            });
            progress.add(1);
        }
        progress.finish();
    }
    if errors > 0 {
        // Nothing is written while one row is wrong; the good ones are named all the same.
        outcomes.extend(rows.iter().map(|(line, admission)| RowOutcome {
            line: *line,
            serial: admission.serial.clone(),
            outcome: "good",
            detail: None,
        }));
    }
    outcomes.sort_by_key(|row| row.line);
    let report = ImportReport {
        ok: errors == 0,
        dry_run: arguments.dry_run,
        rows: outcomes.len(),
        changed,
        unchanged,
        errors,
        outcomes,
    };
    format.print(&report, |report| {
        let mut lines: Vec<String> = report
            .outcomes
            .iter()
            .filter(|row| row.outcome == "error")
            .map(|row| {
                format!(
                    "line {}: {}",
                    row.line,
                    row.detail.as_deref().unwrap_or_default()
                )
            })
            .collect();
        lines.push(format!(
            "{} rows: {} changed, {} unchanged, {} errors{}",
            report.rows,
            report.changed,
            report.unchanged,
            report.errors,
            if report.dry_run {
                "; nothing was written (--dry-run)"
            } else if report.errors > 0 {
                "; nothing was written"
            } else {
                ""
            },
        ));
        lines.join("\n")
    });
    Ok(Outcome::of(errors == 0))
}

type Rows = Vec<(u64, Admission)>;

fn read_csv(
    bytes: &[u8],
    vendor: Option<&str>,
    vendors: &crate::vendor::Vendors,
) -> Result<(Rows, Vec<RowOutcome>), Error> {
    let unreadable = |detail: String| Error::Import { detail };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(bytes);
    let header = reader
        .headers()
        .map_err(|error| unreadable(error.to_string()))?
        .clone();
    let known = ["serial", "vendor", "product", "action", "note"];
    if let Some(unknown) = header.iter().find(|name| !known.contains(name)) {
        return Err(unreadable(format!(
            "there is no column {unknown:?}; the columns are {}",
            known.join(", ")
        )));
    }
    let place = |name: &str| header.iter().position(|column| column == name);
    let serial_place =
        place("serial").ok_or_else(|| unreadable("there is no column serial".to_owned()))?;
    let (vendor_place, product_place) = (place("vendor"), place("product"));
    let (action_place, note_place) = (place("action"), place("note"));
    let mut rows: Rows = Vec::new();
    let mut outcomes = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for record in reader.records() {
        if rows.len() >= IMPORT_ROWS_MAX {
            return Err(unreadable(format!("more than {IMPORT_ROWS_MAX} rows")));
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                outcomes.push(row_error(line, "", error.to_string()));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let field = |place: Option<usize>| {
            place
                .and_then(|place| record.get(place))
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let Some(serial) = field(Some(serial_place)) else {
            outcomes.push(row_error(line, "", "the serial number is empty".to_owned()));
            continue;
        };
        let vendor = field(vendor_place)
            .or_else(|| vendor.map(str::to_owned))
            .unwrap_or_default();
        let action = match field(action_place).as_deref() {
            None | Some("allow") => Action::Allow,
            Some("deny") => Action::Deny,
            Some("ask") => Action::Ask,
            Some("webhook") => Action::Webhook,
            Some(other) => {
                outcomes.push(row_error(
                    line,
                    &serial,
                    format!("there is no action {other:?}"),
                ));
                continue;
            }
        };
        if record.len() > header.len() {
            outcomes.push(row_error(
                line,
                &serial,
                "more fields than columns".to_owned(),
            ));
            continue;
        }
        if !vendor.is_empty() && vendors.named(&vendor).is_none() {
            outcomes.push(row_error(
                line,
                &serial,
                format!("there is no vendor {vendor:?}"),
            ));
            continue;
        }
        if serial.len() > brski::SERIAL_LENGTH_MAX_BYTES || serial.chars().any(char::is_control) {
            outcomes.push(row_error(
                line,
                "",
                "this cannot be a serial number".to_owned(),
            ));
            continue;
        }
        if let Some(first) = seen.insert((vendor.clone(), serial.clone()), line) {
            outcomes.push(row_error(
                line,
                &serial,
                format!("the same device as in line {first}"),
            ));
            continue;
        }
        let admission = Admission {
            vendor,
            serial,
            product: field(product_place),
            action,
            note: field(note_place),
        };
        rows.push((line, admission));
    }
    Ok((rows, outcomes))
}

fn row_error(line: u64, serial: &str, detail: String) -> RowOutcome {
    RowOutcome {
        line,
        serial: serial.to_owned(),
        outcome: "error",
        detail: Some(detail),
    }
}

/// A transaction that is to be rolled back although nothing failed: a rehearsal.
enum Stop {
    Rehearsed(Vec<bool>),
    Failed(Error),
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Writes the rows in one transaction, all or none; says for each whether it changed anything.
async fn write_rows(
    store: &Store,
    rows: Rows,
    dry_run: bool,
    now: OffsetDateTime,
) -> Result<Vec<bool>, Error> {
    let count = rows.len();
    let rows = std::sync::Arc::new(rows);
    if dry_run {
        let mut outcomes = Vec::with_capacity(count);
        for start in (0..count).step_by(IMPORT_BATCH) {
            let rows = std::sync::Arc::clone(&rows);
            let rehearsal: Result<(), Stop> = store
                .transaction("device-import", move |connection| {
                    let rows = std::sync::Arc::clone(&rows);
                    Box::pin(async move {
                        let changed = write_batch(connection, &rows, start, now).await?;
                        Err(Stop::Rehearsed(changed))
                    })
                })
                .await;
            match rehearsal {
                Err(Stop::Rehearsed(changed)) => outcomes.extend(changed),
                Err(Stop::Failed(error)) => return Err(error),
                Ok(()) => {}
            }
        }
        return Ok(outcomes);
    }
    store
        .transaction("device-import", move |connection| {
            let rows = std::sync::Arc::clone(&rows);
            Box::pin(async move {
                let mut outcomes = Vec::with_capacity(rows.len());
                for start in (0..rows.len()).step_by(IMPORT_BATCH) {
                    outcomes.extend(write_batch(connection, &rows, start, now).await?);
                }
                Ok::<_, Error>(outcomes)
            })
        })
        .await
}

async fn write_batch(
    connection: &mut store::Connection,
    rows: &Rows,
    start: usize,
    now: OffsetDateTime,
) -> Result<Vec<bool>, store::Error> {
    let mut changed = Vec::new();
    for (_, admission) in rows.iter().skip(start).take(IMPORT_BATCH) {
        changed.push(records::put_admission(connection, admission, now).await?);
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_csv_file_has_its_outcome() {
        let vendors = crate::vendor::Vendors::default();
        let text = "\u{feff}serial,action,note\nSN-1,allow,first\n,allow,\nSN-1,deny,\n\
                    SN-2,maybe,\nSN-3,deny,\"a, b\"\nSN-4\nSN-5,allow,x,y\n";
        let (rows, outcomes) = read_csv(text.as_bytes(), None, &vendors).unwrap();
        let good: Vec<_> = rows
            .iter()
            .map(|(line, row)| (*line, row.serial.as_str(), row.action))
            .collect();
        assert_eq!(
            good,
            [
                (2, "SN-1", Action::Allow),
                (6, "SN-3", Action::Deny),
                (7, "SN-4", Action::Allow)
            ]
        );
        assert_eq!(rows[1].1.note.as_deref(), Some("a, b"));
        let bad: Vec<_> = outcomes
            .iter()
            .map(|row| (row.line, row.detail.clone().unwrap_or_default()))
            .collect();
        assert_eq!(
            bad,
            [
                (3, "the serial number is empty".to_owned()),
                (4, "the same device as in line 2".to_owned()),
                (5, "there is no action \"maybe\"".to_owned()),
                (8, "more fields than columns".to_owned()),
            ]
        );
    }

    #[test]
    fn a_file_with_other_columns_is_refused_whole() {
        let vendors = crate::vendor::Vendors::default();
        for (text, expected) in [
            ("serial,colour\n1,red\n", "there is no column \"colour\""),
            ("vendor\nacme\n", "there is no column serial"),
            ("", "there is no column serial"),
        ] {
            let error = read_csv(text.as_bytes(), None, &vendors)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let (rows, outcomes) = read_csv(b"serial,vendor\n1,acme\n", None, &vendors).unwrap();
        assert!(rows.is_empty());
        assert_eq!(
            outcomes[0].detail.as_deref(),
            Some("there is no vendor \"acme\"")
        );
    }
}
