//! `usher bootstrap devices show` and `strangers`: what became of a device, and of peers that are
//! refused.

use clap::Args;
use daemon::Outcome;
use daemon::cli::plain;
use serde_json::{Value, json};
use store::Store;

use super::text::{table, when, when_or};
use super::{Context, with_store};
use crate::register::{DeviceRow, State, device_by_id, find_device};
use crate::timeline::Line;
use crate::{Error, timeline};

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// Serial number, or VENDOR/SERIAL. Of one that is not in the register, what was refused.
    serial: String,
    /// Its vendor, if several use the same number.
    #[arg(long)]
    vendor: Option<String>,
    /// Lines of the timeline.
    #[arg(long, default_value_t = 50)]
    lines: u32,
    /// Every line with the decoded request.
    #[arg(long)]
    detail: bool,
}

#[derive(Debug, Args)]
pub(super) struct StrangersArguments {
    /// The newest refusals that are looked at.
    #[arg(long, default_value_t = 1000)]
    lines: u32,
}

/// Everything that `show` shows.
struct Shown {
    device: DeviceRow,
    whole: Option<DeviceRow>,
    successor: Option<DeviceRow>,
    vouchers: Vec<Value>,
    progress: Vec<Value>,
    keys: Vec<Value>,
    certificates: Vec<Value>,
    lines: Vec<Line>,
    /// Of peers that gave its serial number and were not recognised as this device.
    strangers: Vec<Line>,
    next: String,
}

/// The answer to `show`.
enum Found {
    Device(Box<Shown>),
    /// It is not in the register, but somebody gave its serial number.
    Stranger(Vec<Line>),
}

pub(super) async fn show(context: &Context, arguments: &ShowArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let found = with_store(context, async |_, store| {
        gather(store, arguments, now).await
    })
    .await?;
    let shown = match found {
        Found::Device(shown) => shown,
        Found::Stranger(lines) => return Ok(show_stranger(context, arguments, &lines)),
    };
    let answer = json!({
        "device": shown.device,
        "part_of": shown.whole.as_ref().map(|one| &one.serial),
        "replaced_by": shown.successor.as_ref().map(|one| &one.serial),
        "next": shown.next, "vouchers": shown.vouchers, "progress": shown.progress,
        "keys": shown.keys, "certificates": shown.certificates, "timeline": shown.lines,
        "strangers": stranger_values(&shown.strangers),
    });
    context
        .format
        .print(&answer, |_| show_text(&shown, arguments.detail));
    Ok(Outcome::Yes)
}

/// Whether a certificate proved the serial number of a line.
fn proven(line: &Line) -> bool {
    line.vendor.is_some()
}

fn stranger_values(lines: &[Line]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| {
            let mut value = json!(line);
            if let Value::Object(members) = &mut value {
                members.insert("serial_proven".to_owned(), proven(line).into());
            }
            value
        })
        .collect()
}

fn show_stranger(context: &Context, arguments: &ShowArguments, lines: &[Line]) -> Outcome {
    let next = lines.first().map_or("", |line| line.next.as_str());
    let answer = json!({
        "device": null, "serial": arguments.serial, "next": next, "timeline": [],
        "strangers": stranger_values(lines),
    });
    context.format.print(&answer, |_| {
        let mut text = vec![format!(
            "{}  not in the register; refused {}",
            plain(&arguments.serial),
            times(lines.len())
        )];
        text.extend(stranger_text(lines, arguments.detail));
        text.push(format!("  next         {}", plain(next)));
        text.join("\n")
    });
    Outcome::No
}

fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// What was refused, oldest first, with the reason.
fn stranger_text(lines: &[Line], detail: bool) -> Vec<String> {
    let mut text = Vec::new();
    for line in lines.iter().rev() {
        text.push(line_text(line));
        let serial = if proven(line) {
            "serial number proven"
        } else {
            "serial number NOT proven"
        };
        text.push(format!("      {serial}: {}", plain(&line.identity)));
        if detail {
            text.push(format!("      {}", plain(&line.summary.to_string())));
        } else if let Some(reason) = line.summary["detail"].as_str() {
            text.push(format!("      {}", plain(reason)));
        }
    }
    text
}

fn line_text(line: &Line) -> String {
    let said = |name: &str| line.summary[name].as_str().map(plain);
    // What was reported or given says more than that the report was taken.
    let what = match (said("progress"), said("target")) {
        (Some(kind), _) => match said("message") {
            Some(message) => format!("{kind}: {message}"),
            None => kind,
        },
        (None, Some(target)) => target,
        (None, None) => String::new(),
    };
    let text = format!(
        "  {}  {:<9} {:<24} {:<4} {:<28} {what}",
        when(line.at),
        line.outcome,
        line.operation,
        line.code,
        plain(&line.peer)
    );
    text.trim_end().to_owned()
}

async fn gather(
    store: &Store,
    arguments: &ShowArguments,
    now: time::OffsetDateTime,
) -> Result<Found, Error> {
    let mut snapshot = store.snapshot().await?;
    let vendor = arguments.vendor.as_deref();
    let device = match find_device(&mut snapshot, &arguments.serial, vendor).await {
        Ok(device) => device,
        Err(error @ Error::NotFound { .. }) => {
            drop(snapshot);
            let lines =
                timeline::strangers(store, Some(&arguments.serial), arguments.lines).await?;
            return if lines.is_empty() {
                Err(error)
            } else {
                Ok(Found::Stranger(lines))
            };
        }
        Err(error) => return Err(error),
    };
    let mut other = async |id: Option<i64>| match id {
        Some(id) => device_by_id(&mut snapshot, id).await,
        None => Ok(None),
    };
    let whole = other(device.alias_of).await?;
    let successor = other(device.replaced_by).await?;
    let vouchers: Vec<Value> = crate::register::vouchers_of(&mut snapshot, device.id)
        .await?
        .into_iter()
        .map(|voucher| {
            let ended = voucher.expires.is_some_and(|at| at <= now);
            json!({
                "sha256": hex::encode(voucher.sha256),
                "expires": voucher.expires.map(super::text::rfc3339),
                "assertion": voucher.assertion, "nonced": voucher.nonce.is_some(),
                "source": voucher.source, "valid": !ended,
            })
        })
        .collect();
    let id = store::params![device.id];
    let rows = snapshot
        .fetch_all(
            "SELECT at_us, type, message FROM progress WHERE device = $1 ORDER BY id DESC LIMIT \
             100",
            id.clone(),
        )
        .await?;
    let mut progress = Vec::new();
    for row in rows.iter().rev() {
        progress.push(json!({
            "at": super::text::rfc3339(row.time("at_us")?), "type": row.text("type")?,
            "message": row.optional_text("message")?,
        }));
    }
    let rows = snapshot
        .fetch_all(
            "SELECT kind, algorithm, sha256, at_us FROM device_key WHERE device = $1 ORDER BY \
             at_us LIMIT 100",
            id.clone(),
        )
        .await?;
    let mut keys = Vec::new();
    for row in &rows {
        keys.push(json!({
            "kind": row.text("kind")?, "algorithm": row.text("algorithm")?,
            "sha256": hex::encode(row.bytes("sha256")?),
            "at": super::text::rfc3339(row.time("at_us")?),
        }));
    }
    let rows = snapshot
        .fetch_all(
            "SELECT serial, not_after_us FROM certificate WHERE device = $1 ORDER BY id LIMIT 100",
            id,
        )
        .await?;
    let mut certificates = Vec::new();
    for row in &rows {
        certificates.push(json!({
            "serial": row.text("serial")?,
            "not_after": super::text::rfc3339(row.time("not_after_us")?),
        }));
    }
    drop(snapshot);
    let lines = timeline::list(store, Some(device.id), None, arguments.lines).await?;
    // What a wrong password says of the device is not said by the device.
    let (lines, mut strangers): (Vec<Line>, Vec<Line>) = lines.into_iter().partition(proven);
    strangers.append(&mut timeline::strangers(store, Some(&device.serial), arguments.lines).await?);
    strangers.sort_by_key(|line| std::cmp::Reverse(line.at));
    let has_voucher = vouchers
        .iter()
        .any(|one| one["valid"] == json!(true) && one["nonced"] == json!(false));
    let next = next_step(&device, has_voucher, lines.first(), strangers.first());
    Ok(Found::Device(Box::new(Shown {
        device,
        whole,
        successor,
        vouchers,
        progress,
        keys,
        certificates,
        lines,
        strangers,
        next,
    })))
}

/// What an operator would do now.
fn next_step(
    device: &DeviceRow,
    has_voucher: bool,
    last: Option<&Line>,
    stranger: Option<&Line>,
) -> String {
    let serial = &device.serial;
    if device.blocked.is_some() {
        return format!("`usher bootstrap devices set {serial} --unblock` when it may go on");
    }
    if let Some(line) = last.filter(|line| line.code != "ok" && !line.next.is_empty()) {
        return line.next.clone();
    }
    // A device that was never recognised may well be the one that was refused.
    if let Some(line) = stranger.filter(|line| {
        matches!(device.state, State::Registered | State::Stuck)
            && last.is_none_or(|last| last.at < line.at)
    }) {
        return format!(
            "a peer that gives this serial number was refused ({}): {}",
            line.code, line.next
        );
    }
    match device.state {
        State::Registered if !has_voucher => "get its voucher: `usher bootstrap vouchers \
             request-list --without-voucher`, then `vouchers import`"
            .to_owned(),
        State::Registered => {
            format!("`usher bootstrap preflight {serial}`, then power it on")
        }
        State::Waiting => {
            format!("it asked and got nothing: `usher bootstrap explain {serial}` says why")
        }
        State::Redirected => "it was sent on: the other server knows more".to_owned(),
        State::Started | State::InProgress => "wait: it is at work".to_owned(),
        State::Complete => "nothing: it is up".to_owned(),
        State::Failed => "read its last report below; it begins again by itself".to_owned(),
        State::Stuck => "look at its console: it began and is silent".to_owned(),
        State::Released => "nothing: it is no longer ours".to_owned(),
        State::Replaced => "nothing: another device took its place".to_owned(),
    }
}

fn show_text(shown: &Shown, detail: bool) -> String {
    let device = &shown.device;
    let mut lines = vec![format!(
        "{}  {}  {}",
        plain(&device.serial),
        device.vendor,
        device.blocked.as_ref().map_or_else(
            || device.state.to_string(),
            |reason| format!("blocked: {}", plain(reason))
        )
    )];
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("  {name:<12} {}", plain(value)));
        }
    };
    field("group", &device.group);
    field("site", &device.site);
    field("type", &device.device_type);
    field("hw-model", device.hw_model.as_deref().unwrap_or_default());
    field("os-name", device.os_name.as_deref().unwrap_or_default());
    field(
        "os-version",
        device.os_version.as_deref().unwrap_or_default(),
    );
    field("owner", device.owner.as_deref().unwrap_or_default());
    field("note", &device.note);
    if let Some(whole) = &shown.whole {
        field("part of", &whole.serial);
    }
    if let Some(successor) = &shown.successor {
        field("replaced by", &successor.serial);
    }
    for (name, value) in &device.variables {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        field(&format!("var.{name}"), &text);
    }
    field("first seen", &when_or(device.first_seen, "never"));
    field("last seen", &when_or(device.last_seen, "never"));
    let text = |value: &Value, name: &str| {
        let value = value.get(name).cloned().unwrap_or_default();
        plain(
            &value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    };
    for voucher in &shown.vouchers {
        lines.push(format!(
            "  voucher      {}, ends {}, {}",
            text(voucher, "assertion"),
            text(voucher, "expires").replace("null", "never"),
            text(voucher, "source"),
        ));
    }
    for key in &shown.keys {
        lines.push(format!(
            "  key          {} {} sha256 {}",
            text(key, "kind"),
            text(key, "algorithm"),
            text(key, "sha256")
        ));
    }
    for certificate in &shown.certificates {
        lines.push(format!(
            "  certificate  {} until {}",
            text(certificate, "serial"),
            text(certificate, "not_after")
        ));
    }
    for line in shown.lines.iter().rev() {
        lines.push(line_text(line));
        if detail {
            lines.push(format!("      {}", plain(&line.identity)));
            lines.push(format!("      {}", plain(&line.summary.to_string())));
            if !line.next.is_empty() {
                lines.push(format!("      -> {}", plain(&line.next)));
            }
        }
    }
    if !shown.strangers.is_empty() {
        lines.push(format!(
            "  refused {} as somebody that gives this serial number:",
            times(shown.strangers.len())
        ));
        lines.extend(stranger_text(&shown.strangers, detail));
    }
    lines.push(format!("  next         {}", plain(&shown.next)));
    lines.join("\n")
}

pub(super) async fn strangers(
    context: &Context,
    arguments: &StrangersArguments,
) -> Result<Outcome, Error> {
    let lines = with_store(context, async |_, store| {
        timeline::strangers(store, None, arguments.lines).await
    })
    .await?;
    // Newest first, so the first of each is the one that says what to do.
    let mut found: Vec<(&Line, usize)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for line in &lines {
        let place = *places
            .entry((&line.serial, &line.vendor, &line.code))
            .or_insert(found.len());
        match found.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => found.push((line, 1)),
        }
    }
    let values: Vec<Value> = found
        .iter()
        .map(|(line, count)| {
            json!({
                "serial": line.serial, "serial_proven": proven(line), "vendor": line.vendor,
                "code": line.code, "count": count, "last": super::text::rfc3339(line.at),
                "peer": line.peer, "identity": line.identity, "next": line.next,
            })
        })
        .collect();
    context.format.print(&json!({ "strangers": values }), |_| {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|(line, count)| {
                vec![
                    plain(line.serial.as_deref().unwrap_or("-")),
                    if proven(line) { "yes" } else { "no" }.to_owned(),
                    line.code.clone(),
                    count.to_string(),
                    when(line.at),
                    plain(&line.peer),
                    line.next.clone(),
                ]
            })
            .collect();
        let header = ["SERIAL", "PROVEN", "CODE", "TIMES", "LAST", "PEER", "NEXT"];
        table(&header, &rows)
    });
    Ok(Outcome::Yes)
}
