//! `usher masa device …` and `usher masa events`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use daemon::Outcome;
use daemon::cli::Progress;
use serde_json::{Value, json};
use store::{Store, params};

use super::{Context, issuer, show, table, with_store};
use crate::Error;
use crate::register::{
    Device, DeviceFilter, Import, ImportOptions, ImportReport, ImportRow, ImportSource, RowOutcome,
    block, find_device, find_devices, list_devices, read_rows, release, transfer,
};
use crate::timeline::{self, Event};

/// Refused rows that are shown; the report file has all.
const REFUSED_SHOWN_MAX: usize = 20;
/// Lines of a device's timeline that are shown.
const TIMELINE_SHOWN: u32 = 50;

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Bring devices into the register from a CSV or JSON file.
    ///
    /// Columns: issuer, serial, product, sold-to, ship-date, has-clock, formats, assertion-min,
    /// idevid-key. Only serial is needed. The same file again changes nothing.
    Import(ImportArguments),
    /// List devices by serial number.
    List(ListArguments),
    /// Show a device with its vouchers, alarms and timeline, or the timeline of an unknown one.
    Show(OneArguments),
    /// Issue no more vouchers for a device.
    Block(BlockArguments),
    /// Give a device to another owner.
    Transfer(TransferArguments),
    /// Take a device from the domain that holds it, so that another can claim it.
    Release(ReleaseArguments),
    /// Make the IDevID of a trial device under the CA that `init` made, and register it.
    Try(TryArguments),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Csv,
    Json,
    Jsonl,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The file.
    file: PathBuf,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Import the good rows although others are refused.
    #[arg(long)]
    partial: bool,
    /// Form of the file, if its name does not tell.
    #[arg(long, value_enum)]
    form: Option<Form>,
    /// PEM certificate of the CA that issued the devices of rows without an issuer.
    #[arg(long, value_name = "FILE")]
    issuer_ca: Option<PathBuf>,
    /// Write the outcome of each row into this CSV file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Serial numbers that begin like this.
    #[arg(long)]
    serial: Option<String>,
    /// Of this product.
    #[arg(long)]
    product: Option<String>,
    /// Sold to this owner.
    #[arg(long)]
    owner: Option<String>,
    /// Blocked devices only.
    #[arg(long)]
    blocked: bool,
    /// Devices that some domain holds only.
    #[arg(long)]
    held: bool,
    /// Serial numbers after this one.
    #[arg(long)]
    after: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct OneArguments {
    /// Serial number.
    serial: String,
    /// Issuer key id in hex, if several issuers use the serial number.
    #[arg(long)]
    issuer: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct BlockArguments {
    #[command(flatten)]
    device: OneArguments,
    /// Why; it is shown to the registrar that asks.
    #[arg(long, required_unless_present = "lift", conflicts_with = "lift")]
    reason: Option<String>,
    /// Lift the block.
    #[arg(long)]
    lift: bool,
}

#[derive(Debug, Args)]
pub(super) struct TransferArguments {
    #[command(flatten)]
    device: OneArguments,
    /// The new owner.
    #[arg(long)]
    to: String,
}

#[derive(Debug, Args)]
pub(super) struct ReleaseArguments {
    #[command(flatten)]
    device: OneArguments,
    /// Also forget who bought it.
    #[arg(long)]
    unsold: bool,
}

#[derive(Debug, Args)]
pub(super) struct TryArguments {
    /// Serial number.
    serial: String,
    /// The folder for `idevid.pem` and `idevid.key`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The owner who bought it.
    #[arg(long)]
    sold_to: Option<String>,
    /// The MASA URL in the IDevID; without it the name in the TLS certificate and the port.
    #[arg(long, value_name = "HOST:PORT")]
    masa_url: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct EventsArguments {
    /// About this device only.
    #[arg(long)]
    serial: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(super) async fn run(context: &Context, command: &DeviceCommand) -> Result<Outcome, Error> {
    match command {
        DeviceCommand::Import(arguments) => import(context, arguments).await,
        DeviceCommand::List(arguments) => list(context, arguments).await,
        DeviceCommand::Show(arguments) => show_device(context, arguments).await,
        DeviceCommand::Try(arguments) => try_device(context, arguments).await,
        DeviceCommand::Block(arguments) => {
            let reason = (!arguments.lift).then(|| arguments.reason.clone().unwrap_or_default());
            let done = if arguments.lift {
                "unblocked"
            } else {
                "blocked"
            };
            change(context, &arguments.device, done, async |store, device| {
                block(store, device, reason.as_deref(), context.clock.now()).await
            })
            .await
        }
        DeviceCommand::Transfer(arguments) => {
            change(
                context,
                &arguments.device,
                "transferred",
                async |store, device| {
                    transfer(store, device, &arguments.to, context.clock.now()).await
                },
            )
            .await
        }
        DeviceCommand::Release(arguments) => {
            change(
                context,
                &arguments.device,
                "released",
                async |store, device| {
                    release(store, device, arguments.unsold, context.clock.now()).await
                },
            )
            .await
        }
    }
}

async fn change(
    context: &Context,
    which: &OneArguments,
    done: &str,
    work: impl AsyncFnOnce(&Store, &Device) -> Result<(), Error>,
) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let issuer = issuer(which.issuer.as_ref())?;
        let device = find_device(store, &which.serial, issuer.as_deref()).await?;
        work(store, &device).await?;
        let device = find_device(store, &device.serial, Some(&device.issuer)).await?;
        let answer = json!({ "ok": true, "done": done, "device": device });
        context
            .format
            .print(&answer, |_| format!("{} is {done}", device.serial));
        Ok(Outcome::Yes)
    })
    .await
}

async fn try_device(context: &Context, arguments: &TryArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    with_store(context, async |config, store| {
        let (serial, url) = (&arguments.serial, arguments.masa_url.as_deref());
        let made = crate::trial_device(config, serial, url, &arguments.out, now)?;
        let row = ImportRow {
            serial: made.serial.clone(),
            issuer: Some(made.issuer.clone()),
            product: Some("trial".to_owned()),
            sold_to: arguments.sold_to.clone(),
            ..ImportRow::default()
        };
        let import = Import::prepare(&vec![Ok(row)], ImportOptions::default(), "trial");
        let report = import.run(store, now, |_| {}).await?;
        if let Some(RowOutcome::Refused(_, detail)) = report.outcomes.first() {
            return Err(Error::Usage(detail.clone()));
        }
        let answer = json!({ "ok": true, "device": made });
        context.format.print(&answer, |_| {
            format!(
                "made {} and {}\nMASA URL {}",
                made.idevid.display(),
                made.key.display(),
                made.masa_url
            )
        });
        Ok(Outcome::Yes)
    })
    .await
}

async fn import(context: &Context, arguments: &ImportArguments) -> Result<Outcome, Error> {
    let source = match arguments.form {
        Some(Form::Csv) => ImportSource::Csv,
        Some(Form::Json) => ImportSource::Json,
        Some(Form::Jsonl) => ImportSource::JsonLines,
        None => ImportSource::of(&arguments.file),
    };
    let issuer = match &arguments.issuer_ca {
        Some(path) => {
            let ca = pki::Certificate::load(path).map_err(|e| Error::malformed(path, e))?;
            ca.subject_key_id()
                .unwrap_or_else(|| ca.public_key().sha1_key_id().to_vec())
        }
        None => Vec::new(),
    };
    let options = ImportOptions {
        dry_run: arguments.dry_run,
        partial: arguments.partial,
        issuer,
    };
    let rows = read_rows(&arguments.file, source)?;
    let total = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let import = Import::prepare(&rows, options, &arguments.file.display().to_string());
    drop(rows);
    let report = with_store(context, async |_, store| {
        let progress = Progress::new(context.format, total, "devices");
        let bar = progress.clone();
        let report = import
            .run(store, context.clock.now(), move |count| bar.add(count))
            .await;
        progress.finish();
        report
    })
    .await?;
    if let Some(path) = &arguments.report {
        write_report(path, &report)?;
    }
    let refused: Vec<Value> = report
        .outcomes
        .iter()
        .enumerate()
        .filter_map(|(at, outcome)| match outcome {
            RowOutcome::Refused(code, detail) => {
                Some(json!({ "row": at + 1, "code": code, "detail": detail }))
            }
            _ => None,
        })
        .take(REFUSED_SHOWN_MAX)
        .collect();
    let ok = report.refused == 0 || (arguments.partial && report.written);
    let answer = json!({
        "ok": ok, "dry_run": arguments.dry_run, "written": report.written, "rows": report.rows,
        "created": report.created, "updated": report.updated, "unchanged": report.unchanged,
        "refused": report.refused, "refused_rows": refused,
    });
    context.format.print(&answer, |_| {
        let mut text = format!(
            "{} rows: {} new, {} changed, {} unchanged, {} refused",
            report.rows, report.created, report.updated, report.unchanged, report.refused
        );
        for row in &refused {
            text.push_str(&format!(
                "\n  row {}: {} [{}]",
                row["row"],
                row["detail"].as_str().unwrap_or_default(),
                row["code"].as_str().unwrap_or_default()
            ));
        }
        if report.refused > refused.len() {
            text.push_str("\n  … (all of them: --report FILE)");
        }
        if arguments.dry_run {
            text.push_str("\nnothing was written: dry run");
        } else if !report.written {
            text.push_str("\nnothing was written: mend the rows, or use --partial");
        }
        text
    });
    Ok(Outcome::of(ok))
}

fn write_report(path: &Path, report: &ImportReport) -> Result<(), Error> {
    let file = std::fs::File::create(path).map_err(|error| Error::file(path, error))?;
    let mut writer = csv::Writer::from_writer(std::io::BufWriter::new(file));
    let mut write = || -> Result<(), csv::Error> {
        writer.write_record(["row", "outcome", "code", "detail"])?;
        for (at, outcome) in report.outcomes.iter().enumerate() {
            let row = (at + 1).to_string();
            let (outcome, code, detail) = match outcome {
                RowOutcome::Created => ("created", "", ""),
                RowOutcome::Updated => ("updated", "", ""),
                RowOutcome::Unchanged => ("unchanged", "", ""),
                RowOutcome::Refused(code, detail) => ("refused", *code, detail.as_str()),
            };
            writer.write_record([row.as_str(), outcome, code, detail])?;
        }
        writer.flush().map_err(csv::Error::from)
    };
    write().map_err(|error| Error::malformed(path, error))
}

fn device_row(device: &Device) -> Vec<String> {
    let short = |hash: &Option<String>| {
        hash.as_ref()
            .map_or_else(String::new, |h| h.chars().take(12).collect())
    };
    vec![
        device.serial.clone(),
        hex::encode(&device.issuer).chars().take(12).collect(),
        device.product.clone(),
        device.sold_to.clone().unwrap_or_default(),
        device
            .holder_owner
            .clone()
            .unwrap_or_else(|| short(&device.holder_domain)),
        device.blocked.clone().unwrap_or_default(),
        show(device.changed),
    ]
}

const DEVICE_HEAD: [&str; 7] = [
    "serial", "issuer", "product", "sold to", "held by", "blocked", "changed",
];

async fn list(context: &Context, arguments: &ListArguments) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let filter = DeviceFilter {
            serial_prefix: arguments.serial.clone(),
            product: arguments.product.clone(),
            owner: arguments.owner.clone(),
            blocked: arguments.blocked,
            held: arguments.held,
            after: arguments.after.clone(),
            limit: arguments.limit.clamp(1, 100_000),
        };
        let devices = list_devices(store, &filter).await?;
        let answer = json!({ "ok": true, "devices": devices });
        context.format.print(&answer, |_| {
            table(
                &DEVICE_HEAD,
                &devices.iter().map(device_row).collect::<Vec<_>>(),
            )
        });
        Ok(Outcome::Yes)
    })
    .await
}

async fn show_device(context: &Context, arguments: &OneArguments) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let issuer = issuer(arguments.issuer.as_ref())?;
        let mut devices = find_devices(store, &arguments.serial).await?;
        devices.retain(|device| {
            issuer
                .as_ref()
                .is_none_or(|issuer| *issuer == device.issuer)
        });
        let events = timeline::list(store, Some(&arguments.serial), TIMELINE_SHOWN).await?;
        // A device that is not in the register may still have knocked: then that is shown.
        if devices.is_empty() && events.is_empty() {
            let name = arguments.serial.clone();
            return Err(Error::NotFound {
                what: "device",
                name,
            });
        }
        let alarms = alarms(store, &arguments.serial).await?;
        let vouchers = super::voucher::summaries(store, Some(&arguments.serial), None, 50).await?;
        let answer = json!({
            "ok": true, "known": !devices.is_empty(), "devices": devices, "vouchers": vouchers,
            "alarms": alarms, "timeline": events,
        });
        context.format.print(&answer, |_| {
            let mut text = if devices.is_empty() {
                format!("{} is not in the register", arguments.serial)
            } else {
                table(
                    &DEVICE_HEAD,
                    &devices.iter().map(device_row).collect::<Vec<_>>(),
                )
            };
            if !vouchers.is_empty() {
                text.push_str("\n\nvouchers\n");
                text.push_str(&super::voucher::table_of(&vouchers));
            }
            for alarm in &alarms {
                text.push_str(&format!(
                    "\n\nALARM {} by {}, {} times, last {}",
                    alarm["kind"].as_str().unwrap_or_default(),
                    alarm["asked"].as_str().unwrap_or_default(),
                    alarm["count"],
                    alarm["last"].as_str().unwrap_or_default()
                ));
            }
            text.push_str("\n\ntimeline\n");
            text.push_str(&timeline_table(&events));
            text
        });
        Ok(Outcome::of(!devices.is_empty()))
    })
    .await
}

async fn alarms(store: &Store, serial: &str) -> Result<Vec<Value>, Error> {
    let rows = store
        .fetch_all(
            "SELECT kind, asked, detail, first_us, last_us, count FROM alarm WHERE serial = $1 \
             ORDER BY last_us DESC LIMIT 100",
            params![serial],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(json!({
                "kind": row.text("kind")?, "asked": row.text("asked")?,
                "detail": serde_json::from_str::<Value>(&row.text("detail")?).unwrap_or_default(),
                "first": show(row.time("first_us")?), "last": show(row.time("last_us")?),
                "count": row.integer("count")?,
            }))
        })
        .collect()
}

fn timeline_table(events: &[Event]) -> String {
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            vec![
                show(event.at),
                event.serial.clone().unwrap_or_default(),
                event.operation.clone(),
                event.outcome.clone(),
                event.http.to_string(),
                event.code.clone(),
                event.peer.clone(),
                event.identity.clone(),
                event.next.clone(),
            ]
        })
        .collect();
    let head = [
        "time", "serial", "request", "outcome", "http", "code", "peer", "identity", "next",
    ];
    table(&head, &rows)
}

pub(super) async fn events(
    context: &Context,
    arguments: &EventsArguments,
) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let limit = arguments.limit.clamp(1, 10_000);
        let events = timeline::list(store, arguments.serial.as_deref(), limit).await?;
        let answer = json!({ "ok": true, "events": events });
        context.format.print(&answer, |_| timeline_table(&events));
        // Nothing more comes; a closed pipe is no failure.
        let _ = std::io::stdout().flush();
        Ok(Outcome::Yes)
    })
    .await
}
