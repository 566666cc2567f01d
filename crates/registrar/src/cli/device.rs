//! `usher registrar device …`.

use clap::{Args, Subcommand};
use daemon::{Format, Outcome};
use serde::Serialize;
use store::Store;
use time::OffsetDateTime;

use super::{Context, import, plain, table};
use crate::Error;
use crate::records::{self, Decision, Device, DeviceFilter, Entry, Outcome as StepOutcome, State};

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
    /// Ask the MASA again for the history of a device, and judge it.
    History(Which),
    /// Read a list of devices that may join (or may not) from a CSV file.
    ///
    /// The first line names the columns: `serial`, and if wanted `vendor`, `product`, `action`
    /// (allow, deny, ask, webhook) and `note`. All rows are written, or none.
    Import(import::ImportArguments),
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
        DeviceCommand::History(which) => {
            store.close().await;
            history(context, config, which).await
        }
        DeviceCommand::Import(arguments) => {
            let vendors = crate::vendor::Vendors::load(&config.vendors.directory)?;
            import::import(context.format, &store, arguments, &vendors, now).await
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
            let mut rows: Vec<Vec<String>> = devices
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
                        short(&records::rfc3339(device.last_seen)),
                    ]
                })
                .collect();
            rows.sort();
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
        short(&records::rfc3339(device.first_seen))
    ));
    lines.push(format!(
        "  last seen    {}",
        short(&records::rfc3339(device.last_seen))
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
            "  {}  {:16}  {:8} {:16} {}{code}",
            short(&entry.at),
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

/// A time of the timeline for a person: to the millisecond, in columns.
fn short(at: &str) -> String {
    let (date, clock) = at.trim_end_matches('Z').split_once('T').unwrap_or((at, ""));
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let milliseconds: String = fraction.chars().chain("000".chars()).take(3).collect();
    format!("{date} {seconds}.{milliseconds}")
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

async fn history(
    context: &Context,
    config: crate::Config,
    which: &Which,
) -> Result<Outcome, Error> {
    let metrics = daemon::Metrics::new("usher_registrar");
    let service = crate::Service::open(config, context.clock.clone(), &metrics).await?;
    let mut snapshot = service.store().snapshot().await?;
    let mut found =
        records::find_devices(&mut snapshot, &which.serial, which.vendor.as_deref()).await?;
    drop(snapshot);
    found.retain(|device| device.trusted);
    let count = found.len();
    let device = match (found.pop(), count) {
        (Some(device), 1) => device,
        (None, _) => {
            return Err(Error::DeviceUnknown {
                serial: which.serial.clone(),
            });
        }
        (Some(_), count) => {
            return Err(Error::DeviceAmbiguous {
                serial: which.serial.clone(),
                count,
            });
        }
    };
    let judged = service.refresh_history(&device).await;
    let (history, code) = match &judged {
        Ok(history) => (history.as_str(), None),
        Err(error) => (
            "refused",
            Some((pki::Coded::code(error), error.to_string())),
        ),
    };
    let answer = serde_json::json!({
        "ok": judged.is_ok(), "serial": device.serial, "vendor": device.vendor,
        "history": history,
        "code": code.as_ref().map(|(code, _)| *code),
        "detail": code.as_ref().map(|(_, detail)| detail),
    });
    context.format.print(&answer, |_| match &code {
        None => format!("{} of {}: {history}", device.serial, device.vendor),
        Some((code, detail)) => {
            format!(
                "{} of {}: {} [{code}]",
                device.serial,
                device.vendor,
                plain(detail)
            )
        }
    });
    Ok(Outcome::of(judged.is_ok()))
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
