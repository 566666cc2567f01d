//! `usher bootstrap vouchers …`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::{Args, Subcommand};
use daemon::Outcome;
use daemon::cli::plain;
use pki::Certificate;
use serde_json::{Value, json};
use store::Store;
use time::Duration;

use super::devices::{FilterArguments, Outcomes, lock};
use super::text::{table, when_or};
use super::{Context, with_store};
use crate::register::live::reader;
use crate::register::{
    ListedVoucher, PinForm, VoucherFilter, VoucherListener, VoucherOptions, VoucherOutcome,
    file_name, import_vouchers, list_vouchers, prune_vouchers, request_list,
};
use crate::vendor::{Vendor, Vendors};
use crate::{Config, Error};

/// Vouchers that are read at once.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum VouchersCommand {
    /// The list that a manufacturer's portal wants: serial numbers and the certificate to pin.
    RequestList(RequestListArguments),
    /// Load vouchers: .vcj files, folders, tar.gz or zip archives of them.
    ///
    /// Each is checked before it is stored: signed by a manufacturer that is trusted here for
    /// vouchers, without a nonce, not ended, for a device of the register, and pinning a
    /// certificate that the owner certificate leads to.
    Import(ImportArguments),
    /// Vouchers that are stored, with their expiry.
    List(ListArguments),
    /// One voucher, decoded.
    Show(ShowArguments),
    /// Write vouchers as files, named after their serial numbers.
    Export(ExportArguments),
    /// Take away vouchers that have ended, used ones with a nonce, and those of devices that are
    /// gone.
    Prune(PruneArguments),
}

#[derive(Debug, Args)]
pub(super) struct RequestListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// JSON instead of CSV.
    #[arg(long = "as-json")]
    as_json: bool,
    /// How the certificate to pin is written.
    #[arg(long, value_enum, default_value = "base64")]
    pin_form: PinForm,
    /// The certificate to pin, if it is not the owner's CA.
    #[arg(long, value_name = "PEM")]
    pin: Option<PathBuf>,
    /// Write to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// Files, archives, or folders of them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The vendor whose anchors count; without it, any whose anchors fit.
    #[arg(long)]
    vendor: Option<String>,
    /// Check everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Store none if one is refused.
    #[arg(long)]
    all_or_nothing: bool,
    /// Take vouchers whose files are named after something else than their serial number.
    #[arg(long)]
    any_name: bool,
    /// Put devices into the register that are not there.
    #[arg(long)]
    add_devices: bool,
    /// Warn of vouchers that end within so many days.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    warn_days: u32,
    /// Write the outcome of every file to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Of this vendor.
    #[arg(long)]
    vendor: Option<String>,
    /// Of this device.
    #[arg(long)]
    serial: Option<String>,
    /// Of devices of this group.
    #[arg(long)]
    group: Option<String>,
    /// That end within so many days.
    #[arg(long, value_name = "DAYS")]
    ends_within: Option<u32>,
    /// Those with a nonce too.
    #[arg(long)]
    nonced: bool,
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// Serial number of the device.
    serial: String,
    /// Its vendor.
    #[arg(long)]
    vendor: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// The folder to write into; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Of this vendor.
    #[arg(long)]
    vendor: Option<String>,
    /// Of this device.
    #[arg(long)]
    serial: Option<String>,
    /// Of devices of this group.
    #[arg(long)]
    group: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PruneArguments {
    /// Only what ended, or was used, more than so many days ago.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    older_than: u32,
    /// Say how many, and take none away.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, command: &VouchersCommand) -> Result<Outcome, Error> {
    match command {
        VouchersCommand::RequestList(arguments) => list_out(context, arguments).await,
        VouchersCommand::Import(arguments) => import(context, arguments).await,
        VouchersCommand::List(arguments) => list(context, arguments).await,
        VouchersCommand::Show(arguments) => show(context, arguments).await,
        VouchersCommand::Export(arguments) => export(context, arguments).await,
        VouchersCommand::Prune(arguments) => prune(context, arguments).await,
    }
}

/// What vouchers should pin: the owner's CA.
pub(super) fn pin_of(config: &Config) -> Result<Certificate, Error> {
    let missing = || {
        Error::Usage(
            "the configuration names no [owner] ca, which vouchers pin; name the certificate with \
             --pin"
                .to_owned(),
        )
    };
    let owner = config.owner.as_ref().ok_or_else(missing)?;
    let files = config.certificates(&owner.ca)?;
    files.into_iter().next().ok_or_else(missing)
}

async fn list_out(context: &Context, arguments: &RequestListArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let filter = arguments.filter.filter(context);
    let list = with_store(context, async |config, store| {
        let pin = match &arguments.pin {
            Some(file) => Certificate::load(file).map_err(|e| Error::malformed(file, e))?,
            None => pin_of(config)?,
        };
        if pin.not_after() <= now {
            let text = format!("{} has expired: nothing can be pinned to it", pin.subject());
            return Err(Error::Usage(text));
        }
        request_list(store, filter.clone(), &pin, arguments.pin_form).await
    })
    .await?;
    let json_text =
        serde_json::to_string_pretty(&list).map_err(|error| Error::Usage(error.to_string()))?;
    if let Some(path) = &arguments.out {
        let text = if arguments.as_json {
            json_text.into_bytes()
        } else {
            list.to_csv()?
        };
        std::fs::write(path, text).map_err(|error| Error::file(path, error))?;
        let count = list.devices.len();
        let answer = json!({
            "ok": true, "devices": count, "file": path, "pinned_sha256": list.pinned_sha256,
        });
        context.format.print(&answer, |_| {
            format!(
                "{count} devices in {}; to be pinned: {} (sha256 {})",
                path.display(),
                plain(&list.pinned_subject),
                list.pinned_sha256
            )
        });
        return Ok(Outcome::Yes);
    }
    let csv = String::from_utf8_lossy(&list.to_csv()?).into_owned();
    context
        .format
        .print(&list, |_| if arguments.as_json { json_text } else { csv });
    Ok(Outcome::Yes)
}

/// The manufacturers whose vouchers count: those of the legacy listener too.
pub(super) fn vendors_of(config: &Config, named: Option<&str>) -> Result<Vec<Vendor>, Error> {
    let mut list = Vendors::load(&config.resolve(&config.vendors.directory))?.list;
    if let Some(legacy) = &config.legacy {
        list.extend(Vendors::load(&config.resolve(&legacy.vendors))?.list);
    }
    if let Some(name) = named {
        list.retain(|vendor| vendor.file.name == name);
        if list.is_empty() {
            return Err(Error::NotFound {
                what: "vendor",
                name: name.to_owned(),
            });
        }
    }
    Ok(list)
}

async fn import(context: &Context, arguments: &ImportArguments) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let owner = config.load_owner()?.ok_or_else(|| {
        Error::Usage("the configuration has no [owner]: vouchers have to pin it".to_owned())
    })?;
    let options = VoucherOptions {
        dry_run: arguments.dry_run,
        all_or_nothing: arguments.all_or_nothing,
        any_name: arguments.any_name,
        add_devices: arguments.add_devices,
        warn: Duration::days(i64::from(arguments.warn_days)),
    };
    let vendors = vendors_of(&config, arguments.vendor.as_deref())?;
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let listener: VoucherListener = {
        let outcomes = Arc::clone(&outcomes);
        let report = arguments.report.clone();
        Arc::new(move |heard| {
            let mut outcomes = lock(&outcomes);
            match heard {
                None => outcomes.begin(report.as_deref()),
                Some(results) => {
                    for result in results {
                        let skipped = matches!(result.outcome, VoucherOutcome::Skipped { .. });
                        outcomes.add(result, !skipped);
                    }
                }
            }
        })
    };
    let reader = reader(&owner, context.clock.now());
    let result =
        import_vouchers(&store, &arguments.files, reader, vendors, options, listener).await;
    store.close().await;
    let report = result?;
    let (files, left_out) = lock(&outcomes).finish()?;
    // A wrong folder has nothing wrong in it, and nothing else either.
    let none = report.stored + report.known + report.refused == 0;
    let ok = report.refused == 0 && !none;
    let answer = json!({
        "ok": ok, "dry_run": arguments.dry_run, "report": report,
        "outcomes": files, "outcomes_left_out": left_out,
    });
    context.format.print(&answer, |_| {
        let mut lines: Vec<String> = files.iter().map(file_text).collect();
        if left_out > 0 {
            lines.push(format!(
                "… and {left_out} more; --report FILE has all of them"
            ));
        }
        lines.push(format!(
            "{} files: {} stored, {} known, {} skipped, {} refused",
            report.files, report.stored, report.known, report.skipped, report.refused
        ));
        if none {
            lines.push(
                "there is no voucher in it: files named SERIAL.vcj are looked for".to_owned(),
            );
        } else if arguments.dry_run {
            lines.push("nothing was stored (--dry-run)".to_owned());
        } else if arguments.all_or_nothing && !ok {
            lines.push("nothing was stored (--all-or-nothing)".to_owned());
        }
        lines.join("\n")
    });
    Ok(Outcome::of(ok))
}

fn file_text(one: &Value) -> String {
    let text = |name: &str| plain(one.get(name).and_then(Value::as_str).unwrap_or_default());
    let mut line = format!("{:8} {}", text("outcome"), text("file"));
    if !text("member").is_empty() {
        line.push_str(&format!("!{}", text("member")));
    }
    if !text("serial").is_empty() {
        line.push_str(&format!(
            ": {}/{}, ends {}",
            text("vendor"),
            text("serial"),
            if text("expires").is_empty() {
                "never".to_owned()
            } else {
                text("expires")
            }
        ));
    }
    if !text("warning").is_empty() {
        line.push_str(&format!(" (warning: {})", text("warning")));
    }
    if !text("code").is_empty() {
        line.push_str(&format!(": {} [{}]", text("detail"), text("code")));
    }
    line
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let filter = VoucherFilter {
        vendor: arguments.vendor.clone(),
        serial: arguments.serial.clone(),
        group: arguments.group.clone(),
        ends_before: arguments
            .ends_within
            .map(|days| now + Duration::days(i64::from(days))),
        nonced: arguments.nonced,
        after: 0,
        limit: arguments.limit,
    };
    let vouchers = with_store(context, async |_, store| {
        list_vouchers(&mut *store.snapshot().await?, &filter).await
    })
    .await?;
    let status = |voucher: &ListedVoucher| match voucher.expires {
        _ if voucher.nonced => "nonced",
        Some(at) if at <= now => "expired",
        Some(at) if at < now + Duration::days(30) => "ends soon",
        _ => "ok",
    };
    let answer: Vec<Value> = vouchers
        .iter()
        .map(|voucher| {
            let mut value = json!(voucher);
            if let Some(object) = value.as_object_mut() {
                object.insert("status".to_owned(), status(voucher).into());
            }
            value
        })
        .collect();
    context.format.print(&json!({ "vouchers": answer }), |_| {
        let rows: Vec<Vec<String>> = vouchers
            .iter()
            .map(|voucher| {
                vec![
                    plain(&voucher.serial),
                    voucher.vendor.clone(),
                    voucher.assertion.clone(),
                    when_or(voucher.expires, "never"),
                    status(voucher).to_owned(),
                    plain(&voucher.source),
                ]
            })
            .collect();
        table(
            &[
                "SERIAL",
                "VENDOR",
                "ASSERTION",
                "EXPIRES",
                "STATUS",
                "SOURCE",
            ],
            &rows,
        )
    });
    Ok(Outcome::Yes)
}

async fn show(context: &Context, arguments: &ShowArguments) -> Result<Outcome, Error> {
    let filter = VoucherFilter {
        vendor: arguments.vendor.clone(),
        serial: Some(arguments.serial.clone()),
        nonced: true,
        limit: PAGE,
        ..VoucherFilter::default()
    };
    let vouchers = with_store(context, async |_, store| {
        list_vouchers(&mut *store.snapshot().await?, &filter).await
    })
    .await?;
    if vouchers.is_empty() {
        return Err(Error::NotFound {
            what: "voucher",
            name: arguments.serial.clone(),
        });
    }
    let shown: Vec<Value> = vouchers
        .iter()
        .map(|voucher| {
            let mut value = json!(voucher);
            if let Some(object) = value.as_object_mut() {
                object.insert("content".to_owned(), content_of(&voucher.der));
            }
            value
        })
        .collect();
    context.format.print(&json!({ "vouchers": shown }), |_| {
        shown
            .iter()
            .map(|one| serde_json::to_string_pretty(one).unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n")
    });
    Ok(Outcome::Yes)
}

/// What a voucher says, for a person; it was judged when it was stored.
fn content_of(der: &[u8]) -> Value {
    let lenient = artifacts::Tolerances::lenient();
    artifacts::open(
        artifacts::Document::Voucher,
        der,
        Some(artifacts::Envelope::Cms),
        &lenient,
    )
    .ok()
    .and_then(|signed| serde_json::from_slice(signed.dangerous_peek().payload()?).ok())
    .unwrap_or(Value::Null)
}

async fn export(context: &Context, arguments: &ExportArguments) -> Result<Outcome, Error> {
    let filter = VoucherFilter {
        vendor: arguments.vendor.clone(),
        serial: arguments.serial.clone(),
        group: arguments.group.clone(),
        limit: PAGE,
        ..VoucherFilter::default()
    };
    let folder = arguments.dir.clone();
    std::fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
    let count = with_store(context, async |_, store| {
        write_vouchers(store, filter.clone(), &folder).await
    })
    .await?;
    let answer = json!({ "ok": true, "vouchers": count, "folder": folder });
    context.format.print(&answer, |_| {
        format!("{count} vouchers in {}", folder.display())
    });
    Ok(Outcome::Yes)
}

async fn write_vouchers(
    store: &Store,
    mut filter: VoucherFilter,
    folder: &Path,
) -> Result<u64, Error> {
    let mut snapshot = store.snapshot().await?;
    let mut count = 0;
    // Without regard to case: some file systems have none.
    let mut names = std::collections::HashSet::new();
    loop {
        let page = list_vouchers(&mut snapshot, &filter).await?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        filter.after = last.id;
        for voucher in &page {
            let name = file_name(&voucher.serial);
            let mut file = format!("{name}.vcj");
            if !names.insert(file.to_lowercase()) {
                let hash = voucher.sha256.get(..12).unwrap_or_default();
                file = format!("{name}~{hash}.vcj");
                names.insert(file.to_lowercase());
            }
            let path = folder.join(&file);
            std::fs::write(&path, &voucher.der).map_err(|error| Error::file(&path, error))?;
            count += 1;
        }
    }
}

async fn prune(context: &Context, arguments: &PruneArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let before = now - Duration::days(i64::from(arguments.older_than));
    let count = with_store(context, async |_, store| {
        prune_vouchers(store, before, arguments.dry_run, now).await
    })
    .await?;
    let answer = json!({ "ok": true, "dry_run": arguments.dry_run, "vouchers": count });
    context.format.print(&answer, |_| {
        if arguments.dry_run {
            format!("{count} vouchers would go")
        } else {
            format!("{count} vouchers are gone")
        }
    });
    Ok(Outcome::Yes)
}
