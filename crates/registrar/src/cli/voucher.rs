//! `usher registrar voucher …`: the offline plan.

use std::path::{Path, PathBuf};

use artifacts::verify::{Trust, VoucherContext, verify_voucher};
use artifacts::{Document, Envelope};
use clap::{Args, Subcommand};
use daemon::Outcome;
use pki::{Certificate, Coded as _};
use serde::Serialize;
use time::OffsetDateTime;

use super::{Context, plain, table};
use crate::Error;
use crate::records::{self, OfflineVoucher, rfc3339};
use crate::service::Keys;
use crate::vendor::{Vendor, Vendors};

/// The largest file that is read as a voucher.
const VOUCHER_SIZE_MAX_BYTES: u64 = 256 * 1024;
/// The most files of one import.
const FILES_MAX: usize = 1_000_000;

#[derive(Debug, Subcommand)]
pub(super) enum VoucherCommand {
    /// Load vouchers (.vcj, .vjj) for devices that will come when no MASA can be reached.
    ///
    /// Each is checked first: signed by a manufacturer that is trusted here, without a nonce, not
    /// expired, and for this domain.
    Import(ImportArguments),
    /// Vouchers that were loaded.
    List(ListArguments),
    /// Ask a manufacturer's MASA for vouchers without a nonce, and load them.
    ///
    /// The vendor's profile has to name the MASA, and the manufacturer has to allow it.
    Request(RequestArguments),
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// Files, or folders whose .vcj and .vjj files are meant.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The vendor whose anchors count; without it, any whose anchors fit.
    #[arg(long)]
    vendor: Option<String>,
    /// Check everything and load nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    /// Whose devices they are.
    #[arg(long)]
    vendor: String,
    /// Serial numbers.
    #[arg(required_unless_present = "serials")]
    serial: Vec<String>,
    /// File with serial numbers, one a line.
    #[arg(long, value_name = "FILE")]
    serials: Option<PathBuf>,
    /// Certificate of the CA that issued the IDevIDs, if the vendor has several.
    #[arg(long, value_name = "PEM")]
    issuer: Option<PathBuf>,
    /// Ask for JWS instead of CMS.
    #[arg(long)]
    jws: bool,
    /// Ask for COSE instead of CMS.
    #[arg(long, conflicts_with = "jws")]
    cose: bool,
}

pub(super) async fn run(context: &Context, command: &VoucherCommand) -> Result<Outcome, Error> {
    match command {
        VoucherCommand::Import(arguments) => import(context, arguments).await,
        VoucherCommand::List(arguments) => list(context, arguments).await,
        VoucherCommand::Request(arguments) => request(context, arguments).await,
    }
}

#[derive(Clone, Debug, Serialize)]
struct FileOutcome {
    file: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

async fn import(context: &Context, arguments: &ImportArguments) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let now = context.clock.now();
    let vendors = Vendors::load(&config.vendors.directory)?;
    let keys = Keys::load(&config)?;
    let chains: Vec<Vec<Certificate>> = keys
        .identities
        .iter()
        .map(|identity| identity.chain.clone())
        .collect();
    let candidates: Vec<&Vendor> = match &arguments.vendor {
        Some(name) => vec![vendors.named(name).ok_or_else(|| Error::Import {
            detail: format!("there is no vendor {name:?}"),
        })?],
        None => vendors.list.iter().collect(),
    };
    let mut outcomes = Vec::new();
    for file in files(&arguments.files)? {
        let shown = file.display().to_string();
        let outcome = match check(&file, &candidates, &chains, now) {
            Err(error) => failed(shown, &error),
            Ok(voucher) => {
                let is_new = if arguments.dry_run {
                    let known = records::has_offline_voucher(
                        &mut *store.snapshot().await?,
                        &voucher.voucher_id,
                    )
                    .await?;
                    !known
                } else {
                    load(&store, voucher.clone(), now).await?
                };
                FileOutcome {
                    file: shown,
                    outcome: if is_new { "loaded" } else { "known" },
                    serial: Some(voucher.serial),
                    vendor: Some(voucher.vendor),
                    expires: voucher.expires.map(rfc3339),
                    code: None,
                    detail: None,
                }
            }
        };
        outcomes.push(outcome);
    }
    let errors = outcomes.iter().filter(|one| one.outcome == "error").count();
    let answer = serde_json::json!({
        "ok": errors == 0, "dry_run": arguments.dry_run, "files": outcomes.len(),
        "errors": errors, "outcomes": outcomes,
    });
    context.format.print(&answer, |_| {
        let mut lines: Vec<String> = outcomes.iter().map(outcome_text).collect();
        lines.push(format!(
            "{} files, {errors} errors{}",
            outcomes.len(),
            if arguments.dry_run {
                "; nothing was loaded (--dry-run)"
            } else {
                ""
            }
        ));
        lines.join("\n")
    });
    Ok(Outcome::of(errors == 0))
}

fn outcome_text(one: &FileOutcome) -> String {
    match (&one.serial, &one.detail) {
        (_, Some(detail)) => format!(
            "{:6}  {}: {} [{}]",
            one.outcome,
            one.file,
            plain(detail),
            one.code.as_deref().unwrap_or_default()
        ),
        (serial, None) => format!(
            "{:6}  {}: {} of {}, expires {}",
            one.outcome,
            one.file,
            plain(serial.as_deref().unwrap_or_default()),
            one.vendor.as_deref().unwrap_or_default(),
            one.expires.as_deref().unwrap_or("never"),
        ),
    }
}

fn failed(file: String, error: &Error) -> FileOutcome {
    let (code, detail) = match error {
        Error::VoucherNotLoaded { cause, detail } => (cause.clone(), detail.clone()),
        other => (other.code().to_owned(), other.to_string()),
    };
    FileOutcome {
        file,
        outcome: "error",
        serial: None,
        vendor: None,
        expires: None,
        code: Some(code),
        detail: Some(detail),
    }
}

/// The files that are meant, folders opened.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut list = Vec::new();
    for path in named {
        if !path.is_dir() {
            list.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| Error::file(path, &error))? {
            let file = entry.map_err(|error| Error::file(path, &error))?.path();
            if file.extension().is_some_and(|e| e == "vcj" || e == "vjj") {
                inside.push(file);
            }
        }
        inside.sort();
        list.extend(inside);
    }
    if list.len() > FILES_MAX {
        return Err(Error::Import {
            detail: format!("more than {FILES_MAX} files"),
        });
    }
    Ok(list)
}

/// Reads a voucher and makes every check that a device would make, as far as it can be made here.
fn check(
    file: &Path,
    vendors: &[&Vendor],
    chains: &[Vec<Certificate>],
    now: OffsetDateTime,
) -> Result<OfflineVoucher, Error> {
    let size = std::fs::metadata(file)
        .map_err(|error| Error::file(file, &error))?
        .len();
    if size > VOUCHER_SIZE_MAX_BYTES {
        return Err(not_loaded(
            "voucher.too-large",
            "the file is too large for a voucher",
        ));
    }
    let bytes = std::fs::read(file).map_err(|error| Error::file(file, &error))?;
    let mut first: Option<Error> = None;
    for vendor in vendors
        .iter()
        .filter(|vendor| !vendor.voucher.anchors.is_empty())
    {
        match check_for(&bytes, vendor, chains, now) {
            Ok(voucher) => {
                named_like(file, &voucher.serial)?;
                return Ok(voucher);
            }
            // The most telling reason is the one of a vendor that signed it at all.
            Err((trusted, error)) => {
                if first.is_none() || trusted {
                    first = Some(error);
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| {
        not_loaded(
            "registrar.voucher-anchors-missing",
            "no vendor has anchors for vouchers; `usher registrar trust import --use voucher`",
        )
    }))
}

/// A file that is named after a serial number has to hold that one: it was mixed up otherwise.
fn named_like(file: &Path, serial: &str) -> Result<(), Error> {
    let is_voucher_name = file.extension().is_some_and(|e| e == "vcj" || e == "vjj");
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    if is_voucher_name && stem != serial {
        return Err(not_loaded(
            "registrar.voucher-misnamed",
            &format!("the file is named {stem}, the voucher is for {serial}"),
        ));
    }
    Ok(())
}

fn not_loaded(cause: &str, detail: &str) -> Error {
    Error::VoucherNotLoaded {
        cause: cause.to_owned(),
        detail: detail.to_owned(),
    }
}

/// `Err` says whether the vendor's anchors fitted the signer at all.
fn check_for(
    bytes: &[u8],
    vendor: &Vendor,
    chains: &[Vec<Certificate>],
    now: OffsetDateTime,
) -> Result<OfflineVoucher, (bool, Error)> {
    let refuse = |trusted: bool| {
        move |error: artifacts::Error| (trusted, not_loaded(error.code(), &error.to_string()))
    };
    let tolerances = &vendor.rules.tolerances;
    let signed =
        artifacts::open(Document::Voucher, bytes, None, tolerances).map_err(refuse(false))?;
    let trust = Trust::new(&vendor.voucher.anchors, Some(now));
    let verified = verify_voucher(&signed, &VoucherContext::new(trust), tolerances)
        .into_result()
        .map_err(refuse(false))?;
    let voucher = &verified.voucher;
    if voucher.nonce.is_some() {
        return Err((
            true,
            not_loaded(
                "registrar.voucher-with-nonce",
                "it has a nonce: it answers one request of the device and no later one",
            ),
        ));
    }
    // A device accepts it only with a registrar that leads to its pin, and each of ours has to.
    for chain in chains {
        let context = VoucherContext {
            registrar_chain: Some(chain),
            ..VoucherContext::new(trust)
        };
        verify_voucher(&signed, &context, tolerances)
            .into_result()
            .map_err(refuse(true))?;
    }
    let plain_signed = signed.dangerous_peek();
    Ok(OfflineVoucher {
        voucher_id: hex::encode(aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            plain_signed.bytes(),
        )),
        vendor: vendor.profile.name.clone(),
        serial: voucher.serial_number.as_str().to_owned(),
        voucher: plain_signed.bytes().to_vec(),
        media_type: Envelope::media_type(plain_signed.envelope()).to_owned(),
        assertion: voucher.assertion.map(|a| a.to_string()).unwrap_or_default(),
        expires: voucher.expires_on,
    })
}

async fn load(
    store: &store::Store,
    voucher: OfflineVoucher,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    store
        .transaction("voucher-import", move |connection| {
            let voucher = voucher.clone();
            Box::pin(async move {
                let is_new = records::put_offline_voucher(connection, &voucher, now).await?;
                if is_new {
                    let entry = store::audit::Entry {
                        at: now,
                        kind: "voucher-loaded".to_owned(),
                        actor: "operator".to_owned(),
                        subject: format!("{}/{}", voucher.vendor, voucher.serial),
                        data: serde_json::json!({ "voucher_sha256": voucher.voucher_id }),
                    };
                    store::audit::append(connection, &entry).await?;
                }
                Ok::<_, Error>(is_new)
            })
        })
        .await
}

async fn request(context: &Context, arguments: &RequestArguments) -> Result<Outcome, Error> {
    let config = context.config(&daemon::config::Flags::new())?;
    let metrics = daemon::Metrics::new("usher_registrar");
    let service = crate::Service::open(config, context.clock.clone(), &metrics).await?;
    let vendors = service.vendors();
    let vendor = vendors
        .named(&arguments.vendor)
        .ok_or_else(|| Error::Import {
            detail: format!("there is no vendor {:?}", arguments.vendor),
        })?;
    let mut serials = arguments.serial.clone();
    if let Some(file) = &arguments.serials {
        let text = std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        serials.extend(lines.map(str::to_owned));
    }
    let issuer = match &arguments.issuer {
        Some(file) => Some(Certificate::load(file)?),
        None => match vendor.idevid.certificates.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
    };
    let issuer_key_id = issuer.and_then(|certificate| certificate.subject_key_id());
    let envelope = if arguments.jws {
        Envelope::Jws
    } else if arguments.cose {
        Envelope::Cose
    } else {
        Envelope::Cms
    };
    let progress = daemon::cli::Progress::new(context.format, serials.len() as u64, "vouchers");
    let mut outcomes = Vec::new();
    for serial in serials {
        let asked = service.request_nonceless(vendor, &serial, issuer_key_id.clone(), envelope);
        let outcome = match asked.await {
            Ok(bytes) => accept(context, &service, vendor, &serial, &bytes).await,
            Err(error) => Err(error),
        };
        outcomes.push(outcome.unwrap_or_else(|error| failed(serial, &error)));
        progress.add(1);
    }
    progress.finish();
    let errors = outcomes.iter().filter(|one| one.outcome == "error").count();
    let answer = serde_json::json!({
        "ok": errors == 0, "vouchers": outcomes.len(), "errors": errors, "outcomes": outcomes,
    });
    context.format.print(&answer, |_| {
        let mut lines: Vec<String> = outcomes.iter().map(outcome_text).collect();
        lines.push(format!("{} vouchers, {errors} errors", outcomes.len()));
        lines.join("\n")
    });
    Ok(Outcome::of(errors == 0))
}

/// Judges a voucher that a MASA gave, and loads it.
async fn accept(
    context: &Context,
    service: &crate::Service,
    vendor: &Vendor,
    serial: &str,
    bytes: &[u8],
) -> Result<FileOutcome, Error> {
    let now = context.clock.now();
    let keys = service.keys();
    let chains: Vec<Vec<Certificate>> = keys
        .identities
        .iter()
        .map(|identity| identity.chain.clone())
        .collect();
    if vendor.voucher.anchors.is_empty() {
        return Err(not_loaded(
            "registrar.voucher-anchors-missing",
            "the vendor has no anchors for vouchers; `usher registrar trust import --use voucher`",
        ));
    }
    let voucher = check_for(bytes, vendor, &chains, now).map_err(|(_, error)| error)?;
    if voucher.serial != serial {
        return Err(not_loaded(
            "registrar.voucher-misnamed",
            &format!("the MASA gave the voucher of {}", voucher.serial),
        ));
    }
    let is_new = load(service.store(), voucher.clone(), now).await?;
    Ok(FileOutcome {
        file: serial.to_owned(),
        outcome: if is_new { "loaded" } else { "known" },
        serial: Some(voucher.serial),
        vendor: Some(voucher.vendor),
        expires: voucher.expires.map(rfc3339),
        code: None,
        detail: None,
    })
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<Outcome, Error> {
    let (_, store) = context.open().await?;
    let now = context.clock.now();
    let mut snapshot = store.snapshot().await?;
    let vouchers = records::offline_vouchers(&mut snapshot, None, arguments.limit).await?;
    context
        .format
        .print(&serde_json::json!({ "vouchers": vouchers }), |_| {
            let rows: Vec<Vec<String>> = vouchers
                .iter()
                .map(|voucher| {
                    let expired = voucher.expires.is_some_and(|expires| expires <= now);
                    vec![
                        plain(&voucher.serial),
                        voucher.vendor.clone(),
                        voucher.assertion.clone(),
                        voucher.expires.map_or_else(|| "never".to_owned(), rfc3339),
                        if expired { "expired" } else { "ready" }.to_owned(),
                    ]
                })
                .collect();
            table(
                &["SERIAL", "VENDOR", "ASSERTION", "EXPIRES", "STATUS"],
                &rows,
            )
        });
    Ok(Outcome::Yes)
}
