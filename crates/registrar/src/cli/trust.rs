//! `usher registrar trust …`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use daemon::Outcome;
use daemon::config::Flags;
use pki::Certificate;
use serde::Serialize;

use super::{Context, plain, table};
use crate::Error;
use crate::records::rfc3339;
use crate::vendor::{Profile, Use, Vendors, imported_file, is_vendor_name};

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Add trust anchors of a manufacturer; a vendor that is new gets a profile.
    Import(ImportArguments),
    /// Anchors by vendor and use, with their expiry.
    List(ListArguments),
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// PEM bundle or DER certificate.
    file: PathBuf,
    /// Whose anchors they are.
    #[arg(long)]
    vendor: String,
    /// What they vouch for.
    #[arg(long = "use", value_enum, default_value = "idevid")]
    purpose: Use,
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
    if !is_vendor_name(&arguments.vendor) {
        return Err(Error::Import {
            detail: format!("{:?} cannot be a vendor's name", arguments.vendor),
        });
    }
    let certificates = Certificate::load_all(&arguments.file).map_err(|error| Error::Import {
        detail: format!("{}: {error}", arguments.file.display()),
    })?;
    let vendors = Vendors::load(&config.vendors.directory)?;
    let known = vendors
        .named(&arguments.vendor)
        .map(|vendor| vendor.anchors(arguments.purpose).certificates.clone())
        .unwrap_or_default();
    let mut added: Vec<Certificate> = Vec::new();
    let mut report = Vec::new();
    for certificate in certificates {
        let is_known = known.contains(&certificate) || added.contains(&certificate);
        report.push(Imported {
            subject: certificate.subject(),
            sha256: hex::encode(certificate.sha256()),
            expires: rfc3339(certificate.not_after()),
            outcome: if is_known { "known" } else { "added" },
            warnings: warnings(&vendors, arguments, &certificate, now),
        });
        if !is_known {
            added.push(certificate);
        }
    }
    if !arguments.dry_run && !added.is_empty() {
        write(&config.vendors.directory, arguments, &added, &vendors)?;
    }
    let answer = serde_json::json!({
        "ok": true, "vendor": arguments.vendor, "use": arguments.purpose.as_str(),
        "dry_run": arguments.dry_run, "certificates": report,
    });
    context.format.print(&answer, |_| {
        let mut lines = Vec::new();
        for one in &report {
            lines.push(format!(
                "{:5}  {}  expires {}  sha256 {}",
                one.outcome,
                plain(&one.subject),
                one.expires,
                one.sha256
            ));
            lines.extend(
                one.warnings
                    .iter()
                    .map(|warning| format!("       warning: {warning}")),
            );
        }
        if arguments.dry_run {
            lines.push("nothing was written (--dry-run)".to_owned());
        } else if !added.is_empty() {
            lines.push("a server that runs takes them up within seconds".to_owned());
        }
        lines.join("\n")
    });
    Ok(Outcome::Yes)
}

fn warnings(
    vendors: &Vendors,
    arguments: &ImportArguments,
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
    if arguments.purpose == Use::Idevid && !certificate.is_ca() {
        warnings.push("it is no CA: it vouches for exactly one device".to_owned());
    }
    for vendor in &vendors.list {
        for purpose in Use::ALL {
            let elsewhere = vendor.profile.name != arguments.vendor || purpose != arguments.purpose;
            // TLS server and voucher signer of one MASA often share a CA, and that harms nobody.
            let harmless = purpose != Use::Idevid && arguments.purpose != Use::Idevid;
            if elsewhere && !harmless && vendor.anchors(purpose).certificates.contains(certificate)
            {
                // One anchor for two uses lets a factory pose as a MASA.
                warnings.push(format!(
                    "it is an anchor of {} for {} as well",
                    vendor.profile.name,
                    purpose.as_str()
                ));
            }
        }
    }
    warnings
}

fn write(
    directory: &Path,
    arguments: &ImportArguments,
    added: &[Certificate],
    vendors: &Vendors,
) -> Result<(), Error> {
    let file = imported_file(directory, &arguments.vendor, arguments.purpose);
    let folder = file.parent().unwrap_or(directory);
    std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, &error))?;
    let mut text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::file(&file, &error)),
    };
    for certificate in added {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&certificate.to_pem());
    }
    replace_file(&file, text.as_bytes())?;
    if vendors.named(&arguments.vendor).is_none() {
        let profile = Profile::named(&arguments.vendor);
        let text = toml::to_string(&profile).map_err(|error| Error::Config {
            detail: error.to_string(),
        })?;
        let text = format!(
            "# Made by `usher registrar trust import`. docs/samples/vendor.toml names every field.\n{text}"
        );
        replace_file(
            &directory.join(format!("{}.toml", arguments.vendor)),
            text.as_bytes(),
        )?;
    }
    Ok(())
}

/// Writes a file so that a reader sees the old text or the new one, and never half of it.
pub(super) fn replace_file(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    std::fs::write(&draft, bytes).map_err(|error| Error::file(&draft, &error))?;
    std::fs::rename(&draft, file).map_err(|error| Error::file(file, &error))
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
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let vendors = Vendors::load(&config.vendors.directory)?;
    let now = context.clock.now();
    let counts = device_counts(&config).await;
    let mut listed = Vec::new();
    for vendor in &vendors.list {
        if arguments
            .vendor
            .as_ref()
            .is_some_and(|name| *name != vendor.profile.name)
        {
            continue;
        }
        for purpose in Use::ALL {
            for certificate in &vendor.anchors(purpose).certificates {
                let days_left = (certificate.not_after() - now).whole_days();
                listed.push(Listed {
                    vendor: vendor.profile.name.clone(),
                    purpose: purpose.as_str(),
                    subject: certificate.subject(),
                    sha256: hex::encode(certificate.sha256()),
                    expires: rfc3339(certificate.not_after()),
                    days_left,
                    status: if certificate.not_after() < now {
                        "expired"
                    } else if days_left < i64::from(config.vendors.expiry_warning_days) {
                        "expires soon"
                    } else {
                        "ok"
                    },
                    devices: counts
                        .iter()
                        .find(|(name, _)| *name == vendor.profile.name)
                        .map_or(0, |(_, number)| *number),
                });
            }
        }
    }
    context
        .format
        .print(&serde_json::json!({ "anchors": listed }), |_| {
            let rows: Vec<Vec<String>> = listed
                .iter()
                .map(|one| {
                    vec![
                        one.vendor.clone(),
                        one.purpose.to_owned(),
                        plain(&one.subject),
                        one.expires.clone(),
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
async fn device_counts(config: &crate::Config) -> Vec<(String, i64)> {
    let Ok(store) = store::Store::open(&config.database.url, &crate::schema::SCHEMA).await else {
        return Vec::new();
    };
    let rows = store
        .fetch_all(
            "SELECT vendor, COUNT(*) AS number FROM device WHERE trusted = 1 GROUP BY vendor",
            store::params![],
        )
        .await
        .unwrap_or_default();
    rows.iter()
        .filter_map(|row| Some((row.text("vendor").ok()?, row.integer("number").ok()?)))
        .collect()
}
