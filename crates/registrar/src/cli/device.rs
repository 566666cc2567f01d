//! `usher registrar device …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use daemon::cli::Progress;
use daemon::{Format, Outcome};
use serde::Serialize;
use store::Store;
use time::OffsetDateTime;

use super::{Context, plain, table};
use crate::Error;
use crate::policy::Action;
use crate::records::{
    self, Admission, Decision, Device, DeviceFilter, Entry, Outcome as StepOutcome, State,
};

/// The most rows of one import.
const IMPORT_ROWS_MAX: usize = 5_000_000;
/// Rows that are written in one transaction.
const IMPORT_BATCH: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Devices that were seen, the refused and the unknown too.
    List(ListArguments),
    /// One device with its timeline.
    Show(ShowArguments),
    /// Let a device join.
    Approve(ApproveArguments),
    /// Refuse a device.
    Deny(DenyArguments),
    /// Read a list of devices that may join (or may not) from a CSV file.
    ///
    /// The first line names the columns: `serial`, and if wanted `vendor`, `product`, `action`
    /// (allow, deny, ask, webhook) and `note`. All rows are written, or none.
    Import(ImportArguments),
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// In this state only.
    #[arg(long)]
    state: Option<State>,
    /// Of this vendor only.
    #[arg(long)]
    vendor: Option<String>,
    /// Whose last attempt ended with this code.
    #[arg(long)]
    code: Option<String>,
    /// With this text in the serial number.
    #[arg(long)]
    serial: Option<String>,
    /// Seen within the last hours.
    #[arg(long, value_name = "HOURS")]
    within: Option<u32>,
    /// After this device id, which the last answer gave as `next`.
    #[arg(long, value_name = "DEVICE-ID")]
    after: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    limit: u32,
    /// Show the list that was imported instead of what was seen.
    #[arg(long)]
    imported: bool,
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The serial number, or a device id.
    serial: String,
    /// The vendor, if several use that serial number.
    #[arg(long)]
    vendor: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    which: Which,
    /// At most so many lines of the timeline.
    #[arg(long, default_value_t = 200)]
    entries: u32,
    /// Show the decoded messages too.
    #[arg(long)]
    detail: bool,
}

#[derive(Debug, Args)]
pub(super) struct ApproveArguments {
    #[command(flatten)]
    which: Which,
    /// Why, for the record.
    #[arg(long)]
    note: Option<String>,
    /// Accept the key that was presented last in place of the one known so far.
    #[arg(long)]
    rebind: bool,
    /// Let it join whatever its audit log at the MASA says.
    #[arg(long)]
    ignore_history: bool,
    /// Who decides; the account's name if absent.
    #[arg(long)]
    by: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DenyArguments {
    #[command(flatten)]
    which: Which,
    /// Why, for the record.
    #[arg(long)]
    note: Option<String>,
    /// Who decides; the account's name if absent.
    #[arg(long)]
    by: Option<String>,
}

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

pub(super) async fn run(context: &Context, command: &DeviceCommand) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let now = context.clock.now();
    match command {
        DeviceCommand::List(arguments) if arguments.imported => {
            imported(context.format, &store, arguments.limit).await
        }
        DeviceCommand::List(arguments) => list(context.format, &store, arguments, now).await,
        DeviceCommand::Show(arguments) => show(context.format, &store, arguments).await,
        DeviceCommand::Approve(arguments) => {
            let order = Order {
                decision: Decision::Approved,
                note: arguments.note.clone(),
                by: who(arguments.by.as_deref()),
                rebind: arguments.rebind,
                ignore_history: arguments.ignore_history,
            };
            decide(context.format, &store, &arguments.which, order, now).await
        }
        DeviceCommand::Deny(arguments) => {
            let order = Order {
                decision: Decision::Denied,
                note: arguments.note.clone(),
                by: who(arguments.by.as_deref()),
                rebind: false,
                ignore_history: false,
            };
            decide(context.format, &store, &arguments.which, order, now).await
        }
        DeviceCommand::Import(arguments) => {
            let vendors = crate::vendor::Vendors::load(&config.vendors.directory)?;
            import(context.format, &store, arguments, &vendors, now).await
        }
    }
}

async fn list(
    format: Format,
    store: &Store,
    arguments: &ListArguments,
    now: OffsetDateTime,
) -> Result<Outcome, Error> {
    let filter = DeviceFilter {
        state: arguments.state,
        vendor: arguments.vendor.clone(),
        code: arguments.code.clone(),
        serial_contains: arguments.serial.clone(),
        seen_since: arguments
            .within
            .map(|hours| now - time::Duration::hours(i64::from(hours))),
        after: arguments.after.clone(),
        limit: arguments.limit,
    };
    let mut snapshot = store.snapshot().await?;
    let devices = records::devices(&mut snapshot, &filter).await?;
    let full = devices.len() >= usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let next = devices
        .last()
        .filter(|_| full)
        .map(|device| device.device_id.clone());
    format.print(
        &serde_json::json!({ "devices": devices, "next": next }),
        |_| {
            if devices.is_empty() {
                return "no device".to_owned();
            }
            let rows: Vec<Vec<String>> = devices
                .iter()
                .map(|device| {
                    vec![
                        plain(if device.serial.is_empty() {
                            &device.device_id
                        } else {
                            &device.serial
                        }),
                        plain(if device.vendor.is_empty() {
                            "-"
                        } else {
                            &device.vendor
                        }),
                        device.state.as_str().to_owned(),
                        device.code.clone().unwrap_or_default(),
                        records::rfc3339(device.last_seen),
                    ]
                })
                .collect();
            table(&["SERIAL", "VENDOR", "STATE", "CODE", "LAST SEEN"], &rows)
        },
    );
    Ok(Outcome::Yes)
}

async fn imported(format: Format, store: &Store, limit: u32) -> Result<Outcome, Error> {
    let mut snapshot = store.snapshot().await?;
    let list = records::admissions(&mut snapshot, None, limit).await?;
    format.print(&serde_json::json!({ "imported": list }), |_| {
        let rows: Vec<Vec<String>> = list
            .iter()
            .map(|line| {
                vec![
                    line.serial.clone(),
                    if line.vendor.is_empty() {
                        "(any)".to_owned()
                    } else {
                        line.vendor.clone()
                    },
                    line.action.as_str().to_owned(),
                    line.product.clone().unwrap_or_default(),
                    line.note.clone().unwrap_or_default(),
                ]
            })
            .collect();
        table(&["SERIAL", "VENDOR", "ACTION", "PRODUCT", "NOTE"], &rows)
    });
    Ok(Outcome::Yes)
}

#[derive(Serialize)]
struct Exchanged {
    exchange_id: String,
    begun: String,
    updated: String,
    offline: bool,
    #[serde(flatten)]
    exchange: brski::registrar::Exchange,
}

async fn show(format: Format, store: &Store, arguments: &ShowArguments) -> Result<Outcome, Error> {
    let which = &arguments.which;
    let mut snapshot = store.snapshot().await?;
    let devices =
        records::find_devices(&mut snapshot, &which.serial, which.vendor.as_deref()).await?;
    if devices.is_empty() {
        let error = Error::DeviceUnknown {
            serial: which.serial.clone(),
        };
        format.error(&error);
        return Ok(Outcome::No);
    }
    let mut shown = Vec::new();
    for device in devices {
        let id = &device.device_id;
        let timeline = records::timeline(&mut snapshot, id, arguments.entries).await?;
        let exchanges: Vec<Exchanged> = records::exchanges(&mut snapshot, id, 10)
            .await?
            .into_iter()
            .map(|row| Exchanged {
                exchange_id: row.exchange_id,
                begun: records::rfc3339(row.exchange.begun_at),
                updated: records::rfc3339(row.updated),
                offline: row.offline,
                exchange: row.exchange,
            })
            .collect();
        shown.push((device, timeline, exchanges));
    }
    let json: Vec<serde_json::Value> = shown
        .iter()
        .map(|(device, timeline, exchanges)| {
            serde_json::json!({ "device": device, "timeline": timeline, "exchanges": exchanges })
        })
        .collect();
    format.print(&serde_json::json!({ "devices": json }), |_| {
        shown
            .iter()
            .map(|(device, timeline, _)| device_text(device, timeline, arguments.detail))
            .collect::<Vec<_>>()
            .join("\n\n")
    });
    Ok(Outcome::Yes)
}

fn device_text(device: &Device, timeline: &[records::Recorded], detail: bool) -> String {
    let mut lines = vec![format!(
        "{}  {}  {}",
        plain(if device.serial.is_empty() {
            "(no serial number)"
        } else {
            &device.serial
        }),
        plain(if device.vendor.is_empty() {
            "(no vendor vouches for it)"
        } else {
            &device.vendor
        }),
        device.state.as_str(),
    )];
    lines.push(format!("  subject      {}", plain(&device.subject)));
    if let Some(product) = &device.product {
        lines.push(format!("  product      {}", plain(product)));
    }
    lines.push(format!("  device id    {}", device.device_id));
    lines.push(format!(
        "  first seen   {}",
        records::rfc3339(device.first_seen)
    ));
    lines.push(format!(
        "  last seen    {}",
        records::rfc3339(device.last_seen)
    ));
    lines.push(format!("  history      {}", device.history.as_str()));
    if let Some(decision) = device.decision {
        let word = match decision {
            Decision::Approved => "approved",
            Decision::Denied => "denied",
        };
        lines.push(format!(
            "  decision     {word} by {}{}",
            device.decided_by.as_deref().unwrap_or("?"),
            device
                .decision_note
                .as_deref()
                .map(|note| format!(": {note}"))
                .unwrap_or_default(),
        ));
    }
    if let Some(code) = &device.code {
        lines.push(format!("  code         {code}"));
    }
    if let Some(action) = &device.next_action {
        lines.push(format!("  next         {action}"));
    }
    lines.push(String::new());
    for entry in timeline {
        let code = entry
            .code
            .as_deref()
            .map(|code| format!(" [{code}]"))
            .unwrap_or_default();
        lines.push(format!(
            "  {}  {}  {:8} {:16} {}{code}",
            entry.at,
            entry.correlation,
            entry.outcome,
            entry.step,
            plain(&entry.summary),
        ));
        if detail && !entry.detail.is_null() {
            let text = serde_json::to_string_pretty(&entry.detail).unwrap_or_default();
            lines.extend(text.lines().map(|line| format!("      {line}")));
        }
    }
    lines.join("\n")
}

#[derive(Clone)]
struct Order {
    decision: Decision,
    note: Option<String>,
    by: String,
    rebind: bool,
    ignore_history: bool,
}

/// Who sits at the terminal, for the record.
fn who(named: Option<&str>) -> String {
    named
        .map(str::to_owned)
        .or_else(|| std::env::var("SUDO_USER").ok())
        .or_else(|| std::env::var("USER").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "operator".to_owned())
}

async fn decide(
    format: Format,
    store: &Store,
    which: &Which,
    order: Order,
    now: OffsetDateTime,
) -> Result<Outcome, Error> {
    let (serial, vendor, kept) = (which.serial.clone(), which.vendor.clone(), order.clone());
    let device: Device = store
        .transaction("decision", move |connection| {
            let (serial, vendor, order) = (serial.clone(), vendor.clone(), kept.clone());
            Box::pin(async move {
                let mut found =
                    records::find_devices(connection, &serial, vendor.as_deref()).await?;
                // A stranger that claims somebody's serial number does not stand in the way.
                if found.iter().any(|device| device.trusted) {
                    found.retain(|device| device.trusted);
                }
                let count = found.len();
                let device = match (found.pop(), count) {
                    (Some(device), 1) => device,
                    (None, _) => return Err(Error::DeviceUnknown { serial }),
                    (Some(_), count) => return Err(Error::DeviceAmbiguous { serial, count }),
                };
                write_decision(connection, &device, &order, now).await?;
                Ok::<_, Error>(device)
            })
        })
        .await?;
    let word = match order.decision {
        Decision::Approved => "approved",
        Decision::Denied => "denied",
    };
    let answer = serde_json::json!({
        "ok": true, "serial": device.serial, "vendor": device.vendor,
        "device_id": device.device_id, "decision": word, "by": order.by,
    });
    format.print(&answer, |_| {
        format!(
            "{} of {}: {word} by {}",
            device.serial, device.vendor, order.by
        )
    });
    Ok(Outcome::Yes)
}

async fn write_decision(
    connection: &mut store::Connection,
    device: &Device,
    order: &Order,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let id = &device.device_id;
    if !device.trusted && order.decision == Decision::Approved {
        // Approval says that a device may join, not that its manufacturer is to be believed.
        return Err(Error::Untrusted {
            serial: device.serial.clone(),
        });
    }
    records::decide(
        connection,
        id,
        order.decision,
        &order.by,
        order.note.as_deref(),
        order.rebind,
        order.ignore_history,
        now,
    )
    .await?;
    let (state, summary, kind) = match order.decision {
        Decision::Approved => (State::Approved, "approved", "device-approved"),
        Decision::Denied => (State::Denied, "denied", "device-denied"),
    };
    // A device that is further along stays where it is when it is approved once more.
    if order.decision == Decision::Denied
        || !matches!(device.state, State::Vouchered | State::Enrolled)
    {
        records::set_state(connection, id, state, None, None).await?;
    }
    if order.ignore_history {
        records::set_history(connection, id, records::History::Unknown).await?;
    }
    let data = serde_json::json!({
        "note": order.note, "rebind": order.rebind, "ignore_history": order.ignore_history,
        "device": id, "key": device.presented_key,
    });
    let mut entry =
        Entry::new(now, "decision", format!("{summary} by {}", order.by)).detail(data.clone());
    if order.decision == Decision::Denied {
        entry = entry
            .outcome(StepOutcome::Refused)
            .code("registrar.device-denied");
    }
    records::append(connection, id, "-", &[entry]).await?;
    let audit = store::audit::Entry {
        at: now,
        kind: kind.to_owned(),
        actor: order.by.clone(),
        subject: format!("{}/{}", device.vendor, device.serial),
        data,
    };
    store::audit::append(connection, &audit).await?;
    Ok(())
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

async fn import(
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
