//! `usher registrar cert …`.

use std::path::PathBuf;

use daemon::cli::{Format, Outcome};
use pki::Certificate;
use store::Store;
use time::OffsetDateTime;

use super::records::{self as certificates, Filter, IssuedCertificate};
use super::{CaError, current_crl};
use crate::Error;
use crate::records::{self, Entry};

/// Certificates that went out through this registrar.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum CertCommand {
    /// Print the current CRL as PEM, or write it as DER.
    Crl {
        /// Write DER to this file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Print a certificate as PEM.
    Export {
        /// The beginning of its SHA-256 or serial number, or the serial number of the device.
        certificate: String,
        /// Write to this file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// List certificates, newest first.
    List {
        /// Those of the device with this serial number.
        #[arg(long)]
        serial: Option<String>,
        /// Revoked ones only.
        #[arg(long)]
        revoked: bool,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Revoke a certificate. The CRL that the registrar serves has it from the next request on.
    Revoke {
        /// The beginning of its SHA-256 or serial number, or the serial number of the device.
        certificate: String,
        /// Why, by the names of RFC 5280.
        #[arg(long, default_value = "unspecified", value_parser = reason_name)]
        reason: String,
    },
    /// Show a certificate.
    Show {
        /// The beginning of its SHA-256 or serial number, or the serial number of the device.
        certificate: String,
    },
}

fn reason_name(text: &str) -> Result<String, String> {
    certificates::reason(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            let known: Vec<&str> = certificates::REASONS
                .iter()
                .map(|(name, _)| *name)
                .collect();
            format!("one of {}", known.join(", "))
        })
}

impl CertCommand {
    /// Runs the command on the database of the configuration.
    ///
    /// # Errors
    /// The database or a file failed.
    pub async fn run(
        &self,
        config: &crate::Config,
        store: &Store,
        now: OffsetDateTime,
        format: Format,
    ) -> Result<Outcome, Error> {
        match self {
            Self::Crl { out } => crl(config, store, now, out.as_ref(), format).await,
            Self::Export { certificate, out } => {
                let Some(found) = one(store, certificate, format).await? else {
                    return Ok(Outcome::No);
                };
                let pem = Certificate::from_der(&found.der)?.to_pem();
                if let Some(path) = out {
                    std::fs::write(path, pem.as_bytes()).map_err(|e| Error::file(path, &e))?;
                }
                let value = serde_json::json!({ "ok": true, "certificate": found, "pem": pem });
                format.print(&value, |_| match out {
                    Some(path) => path.display().to_string(),
                    None => pem.trim_end().to_owned(),
                });
                Ok(Outcome::Yes)
            }
            Self::List {
                serial,
                revoked,
                limit,
            } => list(store, serial.as_deref(), *revoked, *limit, now, format).await,
            Self::Revoke {
                certificate,
                reason,
            } => {
                let Some(found) = one(store, certificate, format).await? else {
                    return Ok(Outcome::No);
                };
                revoke(store, found, reason, now, format).await
            }
            Self::Show { certificate } => {
                let Some(found) = one(store, certificate, format).await? else {
                    return Ok(Outcome::No);
                };
                let value = serde_json::json!({
                    "ok": true, "certificate": found, "status": found.status(now),
                });
                format.print(&value, |_| text(&found, now));
                Ok(Outcome::Yes)
            }
        }
    }
}

/// The one certificate that is meant. Says so if there is none, or more than one.
async fn one(
    store: &Store,
    name: &str,
    format: Format,
) -> Result<Option<IssuedCertificate>, Error> {
    let mut snapshot = store.snapshot().await?;
    // A device's serial number can look like the beginning of a certificate's; then both are meant.
    let mut found = certificates::find(&mut snapshot, name).await?;
    for device in records::find_devices(&mut snapshot, name, None).await? {
        let filter = Filter {
            holder: Some(device.device_id),
            limit: 1,
            ..Filter::default()
        };
        // The newest is the one that the device uses.
        for newest in certificates::list(&mut snapshot, &filter).await? {
            if !found
                .iter()
                .any(|known| known.certificate_id == newest.certificate_id)
            {
                found.push(newest);
            }
        }
    }
    drop(snapshot);
    match found.len() {
        0 => {
            format.problem(
                "registrar.certificate-unknown",
                &format!("no certificate {name}"),
            );
            Ok(None)
        }
        1 => Ok(found.pop()),
        count => {
            format.problem(
                "registrar.certificate-ambiguous",
                &format!("{name} is the beginning of {count} certificates"),
            );
            Ok(None)
        }
    }
}

async fn list(
    store: &Store,
    serial: Option<&str>,
    revoked: bool,
    limit: u32,
    now: OffsetDateTime,
    format: Format,
) -> Result<Outcome, Error> {
    let mut snapshot = store.snapshot().await?;
    let mut all = Vec::new();
    match serial {
        Some(serial) => {
            for device in records::find_devices(&mut snapshot, serial, None).await? {
                let filter = Filter {
                    holder: Some(device.device_id),
                    limit,
                    ..Filter::default()
                };
                all.extend(certificates::list(&mut snapshot, &filter).await?);
            }
            all.retain(|found| !revoked || found.revoked.is_some());
        }
        None => {
            let filter = Filter {
                revoked,
                limit,
                ..Filter::default()
            };
            all = certificates::list(&mut snapshot, &filter).await?;
        }
    }
    drop(snapshot);
    let rows: Vec<_> = all
        .iter()
        .map(|found| serde_json::json!({ "certificate": found, "status": found.status(now) }))
        .collect();
    format.print(
        &serde_json::json!({ "ok": true, "certificates": rows }),
        |_| {
            let mut lines = vec![format!(
                "{:<14} {:<10} {:<20} {}",
                "serial number", "status", "until", "subject"
            )];
            lines.extend(all.iter().map(|found| {
                format!(
                    "{:<14} {:<10} {:<20} {}",
                    found.serial_number.chars().take(12).collect::<String>(),
                    found.status(now),
                    records::rfc3339(found.not_after),
                    found.subject
                )
            }));
            lines.join("\n")
        },
    );
    Ok(Outcome::Yes)
}

fn text(found: &IssuedCertificate, now: OffsetDateTime) -> String {
    let mut lines = vec![
        format!("subject        {}", found.subject),
        format!("serial number  {}", found.serial_number),
        format!("SHA-256        {}", found.certificate_id),
        format!("status         {}", found.status(now)),
        format!("valid from     {}", records::rfc3339(found.not_before)),
        format!("valid until    {}", records::rfc3339(found.not_after)),
        format!(
            "issued         {} ({})",
            records::rfc3339(found.issued),
            found.origin
        ),
        format!("holder         {}", found.holder),
    ];
    if let Some(replaces) = &found.replaces {
        lines.push(format!("replaces       {replaces}"));
    }
    if let Some(at) = found.revoked {
        let reason = found.revocation_reason.as_deref().unwrap_or("unspecified");
        lines.push(format!(
            "revoked        {} ({reason})",
            records::rfc3339(at)
        ));
    }
    lines.join("\n")
}

async fn revoke(
    store: &Store,
    found: IssuedCertificate,
    reason: &str,
    now: OffsetDateTime,
    format: Format,
) -> Result<Outcome, Error> {
    let (certificate, why) = (found.clone(), reason.to_owned());
    let done: bool = store
        .transaction("registrar-revoke", move |connection| {
            let (found, reason) = (certificate.clone(), why.clone());
            Box::pin(async move {
                if !certificates::revoke(connection, &found.certificate_id, &reason, now).await? {
                    return Ok::<_, CaError>(false);
                }
                store::audit::append(
                    connection,
                    &store::audit::Entry {
                        at: now,
                        kind: "certificate-revoked".to_owned(),
                        actor: "operator".to_owned(),
                        subject: found.holder.clone(),
                        data: serde_json::json!({
                            "certificate": found.certificate_id,
                            "serial-number": found.serial_number,
                            "reason": reason,
                        }),
                    },
                )
                .await?;
                let entry = Entry::new(
                    now,
                    "revoke",
                    format!("certificate {} revoked ({reason})", found.serial_number),
                )
                .next_action("the device needs a new voucher exchange to enrol again");
                records::append(connection, &found.holder, "operator", &[entry]).await?;
                Ok(true)
            })
        })
        .await?;
    let value = serde_json::json!({
        "ok": true, "certificate": found.certificate_id, "changed": done, "reason": reason,
    });
    format.print(&value, |_| {
        if done {
            format!("{} is revoked", found.serial_number)
        } else {
            format!("{} was revoked already", found.serial_number)
        }
    });
    Ok(Outcome::Yes)
}

async fn crl(
    config: &crate::Config,
    store: &Store,
    now: OffsetDateTime,
    out: Option<&PathBuf>,
    format: Format,
) -> Result<Outcome, Error> {
    let ca = config.ca.open()?.ok_or(CaError::NotConfigured)?;
    let Some(der) = current_crl(store, &ca, now).await? else {
        format.problem(
            "registrar.crl-elsewhere",
            "this registrar does not sign its CA's CRL",
        );
        return Ok(Outcome::No);
    };
    let pem = pki::Crl::from_der(&der)?.to_pem();
    if let Some(path) = out {
        std::fs::write(path, &der).map_err(|error| Error::file(path, &error))?;
    }
    format.print(
        &serde_json::json!({ "ok": true, "crl": pem }),
        |_| match out {
            Some(path) => path.display().to_string(),
            None => pem.trim_end().to_owned(),
        },
    );
    Ok(Outcome::Yes)
}
