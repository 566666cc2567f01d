//! `usher bootstrap trust …`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use daemon::Outcome;
use daemon::cli::plain;
use daemon::config::Flags;
use pki::Certificate;
use serde::Serialize;
use serde_json::json;
use store::params;

use super::Context;
use super::text::{table, when};
use crate::register::rows::is_name;
use crate::vendor::{MasaConfig, Use, VendorFile, Vendors, imported_file};
use crate::{Config, Error};

/// An anchor that ends sooner than this is warned of.
const WARNING_DAYS: i64 = 90;

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Add trust anchors of a manufacturer; a vendor that is new gets a file in vendors.d.
    Import(ImportArguments),
    /// Anchors by vendor and use, with their expiry and how many devices each vendor has.
    List(ListArguments),
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// PEM bundle or DER certificate.
    file: PathBuf,
    /// Whose anchors they are.
    #[arg(long)]
    vendor: String,
    /// What they vouch for. Repeat it; without it, IDevIDs and vouchers.
    #[arg(long = "use", value_enum)]
    purposes: Vec<Use>,
    /// Where the vendor's MASA is, for a vendor that is new.
    #[arg(long, value_name = "URL")]
    masa: Option<String>,
    /// Say what would be added, and add nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Of this vendor only.
    #[arg(long)]
    vendor: Option<String>,
}

pub(super) async fn run(context: &Context, command: &TrustCommand) -> Result<Outcome, Error> {
    match command {
        TrustCommand::Import(arguments) => import(context, arguments),
        TrustCommand::List(arguments) => list(context, arguments).await,
    }
}

#[derive(Serialize)]
struct Imported {
    #[serde(rename = "use")]
    purpose: &'static str,
    subject: String,
    sha256: String,
    expires: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

fn import(context: &Context, arguments: &ImportArguments) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let now = context.clock.now();
    if !is_name(&arguments.vendor) {
        let text = format!("{:?} cannot be a vendor's name", arguments.vendor);
        return Err(Error::Usage(text));
    }
    let certificates = Certificate::load_all(&arguments.file)
        .map_err(|error| Error::malformed(&arguments.file, error))?;
    let directory = config.resolve(&config.vendors.directory);
    let vendors = Vendors::load(&directory)?;
    let purposes = if arguments.purposes.is_empty() {
        vec![Use::Idevid, Use::Voucher]
    } else {
        arguments.purposes.clone()
    };
    let mut report = Vec::new();
    for purpose in &purposes {
        let known = vendors
            .named(&arguments.vendor)
            .map(|vendor| vendor.certificates(*purpose).to_vec())
            .unwrap_or_default();
        let mut added: Vec<&Certificate> = Vec::new();
        for certificate in &certificates {
            let is_known = known.contains(certificate) || added.contains(&certificate);
            report.push(Imported {
                purpose: purpose.as_str(),
                subject: certificate.subject(),
                sha256: hex::encode(certificate.sha256()),
                expires: super::text::rfc3339(certificate.not_after()),
                outcome: if is_known { "known" } else { "added" },
                warnings: warnings(&vendors, arguments, *purpose, certificate, now),
            });
            if !is_known {
                added.push(certificate);
            }
        }
        if !arguments.dry_run && !added.is_empty() {
            let file = imported_file(&directory, &arguments.vendor, *purpose);
            append(&file, &added)?;
        }
    }
    if !arguments.dry_run && vendors.named(&arguments.vendor).is_none() {
        new_vendor(&directory, arguments)?;
    }
    let answer = json!({
        "ok": true, "vendor": arguments.vendor, "dry_run": arguments.dry_run,
        "certificates": report,
    });
    context.format.print(&answer, |_| {
        let mut lines = Vec::new();
        for one in &report {
            lines.push(format!(
                "{:5}  {:8}  {}  expires {}  sha256 {}",
                one.outcome,
                one.purpose,
                plain(&one.subject),
                one.expires,
                one.sha256
            ));
            let warnings = one.warnings.iter();
            lines.extend(warnings.map(|warning| format!("       warning: {warning}")));
        }
        if arguments.dry_run {
            lines.push("nothing was written (--dry-run)".to_owned());
        } else {
            lines.push("a server that runs takes them up on SIGHUP".to_owned());
        }
        lines.join("\n")
    });
    Ok(Outcome::Yes)
}

fn warnings(
    vendors: &Vendors,
    arguments: &ImportArguments,
    purpose: Use,
    certificate: &Certificate,
    now: time::OffsetDateTime,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if certificate.not_after() < now {
        warnings.push("it has expired".to_owned());
    }
    if certificate.not_before() > now {
        warnings.push("it is not valid yet".to_owned());
    }
    if purpose == Use::Idevid && !certificate.is_ca() {
        warnings.push("it is no CA: it vouches for exactly one device".to_owned());
    }
    for vendor in &vendors.list {
        if vendor.file.name != arguments.vendor
            && vendor.certificates(purpose).contains(certificate)
        {
            // Serial numbers are unique within one manufacturer only.
            warnings.push(format!("it is an anchor of {} as well", vendor.file.name));
        }
    }
    warnings
}

fn append(file: &Path, added: &[&Certificate]) -> Result<(), Error> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    let mut text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::file(file, error)),
    };
    for certificate in added {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&certificate.to_pem());
    }
    replace_file(file, text.as_bytes())
}

fn new_vendor(directory: &Path, arguments: &ImportArguments) -> Result<(), Error> {
    let file = VendorFile {
        name: arguments.vendor.clone(),
        idevid_anchors: Vec::new(),
        intermediates: Vec::new(),
        serial: brski::SerialRule::default(),
        voucher_anchors: Vec::new(),
        masa: arguments.masa.clone().map(|url| MasaConfig {
            url,
            tls_anchors: Vec::new(),
            address: None,
        }),
        profile: None,
        accept_expired_idevid: false,
        tolerances: Vec::new(),
    };
    let text = toml::to_string(&file).map_err(|error| Error::Usage(error.to_string()))?;
    let text = format!(
        "# Made by `usher bootstrap trust import`; the anchors are in the folder beside it.\n{text}"
    );
    let path = directory.join(format!("{}.toml", arguments.vendor));
    replace_file(&path, text.as_bytes())
}

/// Writes a file so that a reader sees the old text or the new one, and never half of it.
pub(super) fn replace_file(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    std::fs::write(&draft, bytes).map_err(|error| Error::file(&draft, error))?;
    std::fs::rename(&draft, file).map_err(|error| Error::file(file, error))
}

#[derive(Serialize)]
struct Listed {
    vendor: String,
    #[serde(rename = "use")]
    purpose: &'static str,
    subject: String,
    sha256: String,
    expires: String,
    days_left: i64,
    status: &'static str,
    devices: i64,
    #[serde(skip)]
    ends: String,
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let vendors = Vendors::load(&config.resolve(&config.vendors.directory))?;
    let now = context.clock.now();
    let counts = device_counts(&config).await;
    let mut listed = Vec::new();
    for vendor in &vendors.list {
        let name = &vendor.file.name;
        if arguments
            .vendor
            .as_ref()
            .is_some_and(|wanted| wanted != name)
        {
            continue;
        }
        for purpose in Use::ALL {
            for certificate in vendor.certificates(purpose) {
                let days_left = (certificate.not_after() - now).whole_days();
                listed.push(Listed {
                    vendor: name.clone(),
                    purpose: purpose.as_str(),
                    subject: certificate.subject(),
                    sha256: hex::encode(certificate.sha256()),
                    expires: super::text::rfc3339(certificate.not_after()),
                    ends: when(certificate.not_after()),
                    days_left,
                    status: if certificate.not_after() < now {
                        "expired"
                    } else if days_left < WARNING_DAYS {
                        "expires soon"
                    } else {
                        "ok"
                    },
                    devices: counts
                        .iter()
                        .find(|(vendor, _)| vendor == name)
                        .map_or(0, |(_, number)| *number),
                });
            }
        }
    }
    context.format.print(&json!({ "anchors": listed }), |_| {
        let rows: Vec<Vec<String>> = listed
            .iter()
            .map(|one| {
                vec![
                    one.vendor.clone(),
                    one.purpose.to_owned(),
                    plain(&one.subject),
                    one.ends.clone(),
                    one.status.to_owned(),
                    one.devices.to_string(),
                ]
            })
            .collect();
        table(
            &["VENDOR", "USE", "SUBJECT", "EXPIRES", "STATUS", "DEVICES"],
            &rows,
        )
    });
    Ok(Outcome::Yes)
}

/// Devices of each vendor; none if the database cannot be read, since anchors are files.
async fn device_counts(config: &Config) -> Vec<(String, i64)> {
    let Ok(store) = store::Store::open(&config.database.url, &crate::SCHEMA).await else {
        return Vec::new();
    };
    let rows = store
        .fetch_all(
            "SELECT vendor, COUNT(*) AS number FROM device GROUP BY vendor",
            params![],
        )
        .await
        .unwrap_or_default();
    store.close().await;
    rows.iter()
        .filter_map(|row| Some((row.text("vendor").ok()?, row.integer("number").ok()?)))
        .collect()
}
