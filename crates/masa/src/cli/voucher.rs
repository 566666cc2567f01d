//! `usher masa voucher …`.

use std::path::PathBuf;

use artifacts::Envelope;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use brski::masa::KeyPin;
use clap::{Args, Subcommand, ValueEnum};
use daemon::Outcome;
use daemon::cli::Progress;
use pki::{Certificate, PublicKey};
use serde_json::{Value, json};
use store::{AssertSqlSafe, Store, params};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{Context, show, table, with_store};
use crate::Error;
use crate::batch::{self, BatchOptions};

#[derive(Debug, Subcommand)]
pub(super) enum VoucherCommand {
    /// Issue nonceless vouchers for an owner's devices into a folder, with a manifest.
    Issue(IssueArguments),
    /// List vouchers, newest first.
    List(ListArguments),
    /// Show one voucher.
    Show(ShowArguments),
    /// Write a voucher's bytes into a file.
    Export(ExportArguments),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Cms,
    Jws,
    Cose,
}

#[derive(Debug, Args)]
pub(super) struct IssueArguments {
    /// The owner.
    #[arg(long)]
    owner: String,
    /// Serial numbers, one a line; or a CSV file with a column `serial` (and `issuer`).
    #[arg(long, value_name = "FILE")]
    serials: PathBuf,
    /// The folder for the vouchers and the manifest.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Format: `.vcj` for CMS, `.vjj` for JWS, `.vch` for COSE.
    #[arg(long, value_enum, default_value = "cms")]
    format: Form,
    /// Lifetime in days.
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    lifetime: u32,
    /// When the vouchers end, instead of a lifetime.
    #[arg(long, value_name = "RFC3339", conflicts_with = "lifetime")]
    expires_on: Option<String>,
    /// PEM file with the certificate of the owner to pin, if it has several.
    #[arg(long, value_name = "FILE")]
    pin: Option<PathBuf>,
    /// PEM file with a public key, or with a certificate, of the owner's registrar: the voucher pins
    /// this key instead of a certificate.
    #[arg(long, value_name = "FILE")]
    pin_key: Option<PathBuf>,
    /// Pin the SHA-256 of that key, which is smaller.
    #[arg(long, requires = "pin_key")]
    pin_hash: bool,
    /// Give devices that nobody bought to this owner.
    #[arg(long)]
    claim_unsold: bool,
    /// Sign new vouchers although valid ones were issued before.
    #[arg(long)]
    renew: bool,
    /// Only say what would happen.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// For this device.
    #[arg(long)]
    serial: Option<String>,
    /// For this owner.
    #[arg(long)]
    owner: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// Number of the voucher.
    id: i64,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Number of the voucher.
    id: i64,
    /// The file; it must not be there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) async fn run(context: &Context, command: &VoucherCommand) -> Result<Outcome, Error> {
    match command {
        VoucherCommand::Issue(arguments) => issue(context, arguments).await,
        VoucherCommand::List(arguments) => {
            with_store(context, async |_, store| {
                let limit = arguments.limit.clamp(1, 10_000);
                let (serial, owner) = (arguments.serial.as_deref(), arguments.owner.as_deref());
                let vouchers = summaries(store, serial, owner, limit).await?;
                let answer = json!({ "ok": true, "vouchers": vouchers });
                context.format.print(&answer, |_| table_of(&vouchers));
                Ok(Outcome::Yes)
            })
            .await
        }
        VoucherCommand::Show(arguments) => {
            with_store(context, async |_, store| {
                let (summary, body) = one(store, arguments.id).await?;
                let payload = payload(&body);
                let answer = json!({ "ok": true, "voucher": summary, "content": payload });
                context.format.print(&answer, |_| {
                    let content = serde_json::to_string_pretty(&payload).unwrap_or_default();
                    format!("{}\n\n{content}", table_of(std::slice::from_ref(&summary)))
                });
                Ok(Outcome::Yes)
            })
            .await
        }
        VoucherCommand::Export(arguments) => {
            with_store(context, async |_, store| {
                use std::io::Write as _;
                let (summary, body) = one(store, arguments.id).await?;
                let path = &arguments.out;
                std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(path)
                    .and_then(|mut file| file.write_all(&body))
                    .map_err(|error| Error::file(path, error))?;
                let answer = json!({ "ok": true, "voucher": summary, "file": path });
                context
                    .format
                    .print(&answer, |_| format!("wrote {}", path.display()));
                Ok(Outcome::Yes)
            })
            .await
        }
    }
}

impl IssueArguments {
    fn key_pin(&self) -> Result<Option<KeyPin>, Error> {
        let Some(path) = &self.pin_key else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
        let body = text
            .split_once("-----BEGIN PUBLIC KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
            .map(|(body, _)| body.split_whitespace().collect::<String>());
        let key = if let Some(body) = body {
            let der = STANDARD
                .decode(body)
                .map_err(|error| Error::malformed(path, error))?;
            PublicKey::from_spki_der(&der).map_err(|error| Error::malformed(path, error))?
        } else {
            let certificate =
                Certificate::load(path).map_err(|error| Error::malformed(path, error))?;
            certificate.public_key().clone()
        };
        Ok(Some(if self.pin_hash {
            KeyPin::Sha256(key.sha256())
        } else {
            KeyPin::PublicKey(key)
        }))
    }
}

async fn issue(context: &Context, arguments: &IssueArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let expires_on = match &arguments.expires_on {
        Some(text) => OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|error| Error::Usage(format!("expires-on {text:?}: {error}")))?,
        None => now + Duration::days(i64::from(arguments.lifetime)),
    };
    let pin = arguments
        .pin
        .as_ref()
        .map(|path| Certificate::load(path).map_err(|error| Error::malformed(path, error)))
        .transpose()?;
    let options = BatchOptions {
        owner: arguments.owner.clone(),
        envelope: match arguments.format {
            Form::Cms => Envelope::Cms,
            Form::Jws => Envelope::Jws,
            Form::Cose => Envelope::Cose,
        },
        // Whole seconds: that is what people write and compare.
        expires_on: expires_on.replace_nanosecond(0).unwrap_or(expires_on),
        pin,
        key: arguments.key_pin()?,
        claim_unsold: arguments.claim_unsold,
        renew: arguments.renew,
        dry_run: arguments.dry_run,
    };
    let serials = batch::read_serials(&arguments.serials)?;
    let manifest = with_store(context, async |config, store| {
        let Some(identity) = config.keys()?.nonceless else {
            let text = "[signing.nonceless] is not configured: no nonceless vouchers";
            return Err(Error::Usage(text.to_owned()));
        };
        let total = u64::try_from(serials.len()).unwrap_or(u64::MAX);
        let progress = Progress::new(context.format, total, "vouchers");
        let bar = progress.clone();
        let result = batch::run(
            store,
            identity,
            options,
            serials,
            &arguments.out,
            now,
            |count| {
                bar.add(count);
            },
        )
        .await;
        progress.finish();
        result
    })
    .await?;
    let ok = manifest.refused == 0;
    let refused: Vec<_> = manifest
        .vouchers
        .iter()
        .filter(|row| row.outcome == "refused")
        .take(20)
        .collect();
    let answer = json!({
        "ok": ok, "dry_run": arguments.dry_run, "owner": manifest.owner,
        "format": manifest.format, "issued": manifest.issued, "again": manifest.again,
        "refused": manifest.refused, "refused_rows": refused, "directory": arguments.out,
        "manifest": arguments.out.join("manifest.json"),
    });
    context.format.print(&answer, |_| {
        let mut text = format!(
            "{} vouchers issued, {} again, {} refused",
            manifest.issued, manifest.again, manifest.refused
        );
        for row in &refused {
            text.push_str(&format!(
                "\n  {}: {} [{}]",
                row.serial, row.detail, row.code
            ));
        }
        if arguments.dry_run {
            text.push_str("\nnothing was written: dry run");
        } else {
            text.push_str(&format!(
                "\nsee {}",
                arguments.out.join("manifest.csv").display()
            ));
        }
        text
    });
    Ok(Outcome::of(ok))
}

const COLUMNS: &str = "id, serial, issuer, owner, domain, nonce, assertion, envelope, key_class, \
     issued_us, expires_us, renewal, batch";

fn summary(row: &store::Row) -> Result<Value, Error> {
    Ok(json!({
        "id": row.integer("id")?,
        "serial": row.text("serial")?,
        "issuer": hex::encode(row.bytes("issuer")?),
        "owner": row.optional_text("owner")?,
        "domain_key_sha256": hex::encode(row.bytes("domain")?),
        "nonce": row.optional_text("nonce")?,
        "assertion": row.text("assertion")?,
        "format": row.text("envelope")?,
        "key": row.text("key_class")?,
        "issued": show(row.time("issued_us")?),
        "expires_on": row.optional_time("expires_us")?.map(show),
        "renewal": row.boolean("renewal")?,
        "batch": row.optional_text("batch")?,
    }))
}

/// Vouchers without their bytes, newest first.
pub(super) async fn summaries(
    store: &Store,
    serial: Option<&str>,
    owner: Option<&str>,
    limit: u32,
) -> Result<Vec<Value>, Error> {
    let mut sql = format!("SELECT {COLUMNS} FROM voucher WHERE id > 0");
    let mut values = params![];
    for (column, wanted) in [("serial", serial), ("owner", owner)] {
        if let Some(wanted) = wanted {
            values.push(wanted.into());
            sql.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    }
    values.push(limit.into());
    sql.push_str(&format!(" ORDER BY id DESC LIMIT ${}", values.len()));
    let rows = store.fetch_all(AssertSqlSafe(sql), values).await?;
    rows.iter().map(summary).collect()
}

/// A table of [`summaries`].
pub(super) fn table_of(vouchers: &[Value]) -> String {
    let names = [
        "id",
        "serial",
        "owner",
        "assertion",
        "format",
        "key",
        "issued",
        "expires_on",
        "nonce",
    ];
    let rows: Vec<Vec<String>> = vouchers
        .iter()
        .map(|voucher| {
            let cell = |name: &&str| match &voucher[*name] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            names.iter().map(cell).collect()
        })
        .collect();
    table(&names, &rows)
}

async fn one(store: &Store, id: i64) -> Result<(Value, Vec<u8>), Error> {
    let sql = format!("SELECT {COLUMNS}, body FROM voucher WHERE id = $1");
    let row = store
        .fetch_optional(AssertSqlSafe(sql), params![id])
        .await?;
    let row = row.ok_or_else(|| Error::NotFound {
        what: "voucher",
        name: id.to_string(),
    })?;
    Ok((summary(&row)?, row.bytes("body")?))
}

/// The signed content, for people: CBOR is shown with the names of its leaves.
fn payload(body: &[u8]) -> Value {
    let tolerances = artifacts::Tolerances::lenient();
    let signed = artifacts::open(artifacts::Document::Voucher, body, None, &tolerances);
    signed
        .ok()
        .and_then(|signed| {
            let signed = signed.dangerous_peek();
            let payload = signed.payload()?;
            if signed.envelope() != Envelope::Cose {
                return serde_json::from_slice(payload).ok();
            }
            let (voucher, _) = artifacts::Voucher::from_cbor(payload, &tolerances).ok()?;
            serde_json::from_slice(&voucher.to_json()).ok()
        })
        .unwrap_or(Value::Null)
}
