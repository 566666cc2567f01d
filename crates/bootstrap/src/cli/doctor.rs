//! `usher bootstrap doctor`: what is wrong, and what to do about it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use daemon::cli::Doctor;
use daemon::config::{Flags, IdentityConfig};
use daemon::{Clock, Outcome};
use pki::Certificate;
use store::{Store, params};
use time::{Duration, OffsetDateTime};

use super::Context;
use super::text::when;
use crate::profile::Profiles;
use crate::register::live::Live;
use crate::vendor::{Use, Vendors};
use crate::{Config, Error, SCHEMA};

/// No clock that is right shows less.
const EARLIEST: i64 = 1_750_000_000;
/// A TLS certificate that ends sooner than this wants to be looked at.
const EXPIRY_WARNING: Duration = Duration::days(30);
/// The same for anchors and vouchers.
const TRUST_WARNING: Duration = Duration::days(90);

pub(super) async fn run(context: &Context) -> Result<Outcome, Error> {
    let mut doctor = Doctor::new();
    let now = context.clock.now();
    let config = match context.config(&Flags::new()) {
        Ok(config) => {
            let file = context.config_file()?;
            doctor.pass("configuration", file.display().to_string());
            config
        }
        Err(error) => {
            doctor.fail("configuration", error.to_string(), "mend the file");
            return Ok(doctor.print(context.format));
        }
    };
    clock(&mut doctor, now);
    key_files(&mut doctor, &config);
    servers(&mut doctor, &config, now);
    owner(&mut doctor, &config, now);
    vendors(&mut doctor, &config, now);
    profiles(&mut doctor, &config);
    masa(&mut doctor, &config);
    secret_in_url(&mut doctor, &config, &context.config_file()?);
    database(&mut doctor, &config, &context.clock).await;
    for (name, address) in [
        ("device port", Some(config.listen.address)),
        (
            "legacy port",
            config.legacy.as_ref().map(|one| one.listen.address),
        ),
    ] {
        if let Some(address) = address {
            port(&mut doctor, name, address).await;
        }
    }
    Ok(doctor.print(context.format))
}

fn clock(doctor: &mut Doctor, now: OffsetDateTime) {
    if now.unix_timestamp() < EARLIEST {
        doctor.fail(
            "clock",
            now.to_string(),
            "set the clock; vouchers are judged by it",
        );
    } else {
        doctor.pass("clock", when(now));
    }
}

/// Keys that others can read are none.
fn key_files(doctor: &mut Doctor, config: &Config) {
    let mut identities: Vec<IdentityConfig> = config.identity.clone();
    if let Some(legacy) = &config.legacy {
        identities.extend(legacy.identity.clone());
    }
    identities.extend(config.owner.as_ref().map(|one| one.identity()));
    identities.extend(config.csr.as_ref().map(|one| one.identity()));
    identities.extend(config.masa.as_ref().map(|one| one.identity()));
    let mut files: Vec<PathBuf> = Vec::new();
    for identity in &identities {
        if !identity.key.starts_with("pkcs11:") {
            files.push(config.resolve(Path::new(&identity.key)));
        }
        files.extend(
            identity
                .passphrase_file
                .iter()
                .map(|file| config.resolve(file)),
        );
    }
    if let Some(audit) = config
        .audit
        .as_ref()
        .filter(|one| !one.key.starts_with("pkcs11:"))
    {
        files.push(config.resolve(Path::new(&audit.key)));
    }
    // The owner's CA has no business on the server, but init leaves it here.
    let ca_key = config.directory.join("owner-ca.key");
    if ca_key.is_file() {
        files.push(ca_key);
    }
    files.sort();
    files.dedup();
    for file in files {
        let shown = file.display();
        match std::fs::metadata(&file) {
            Ok(meta) if meta.permissions().mode() & 0o077 != 0 => doctor.fail(
                "key file",
                format!(
                    "{shown} can be read by others (mode {:o})",
                    meta.permissions().mode() & 0o777
                ),
                format!("chmod 600 {shown}"),
            ),
            Ok(_) => doctor.pass("key file", shown.to_string()),
            Err(error) => doctor.fail("key file", format!("{shown}: {error}"), "put it back"),
        }
    }
}

fn servers(doctor: &mut Doctor, config: &Config, now: OffsetDateTime) {
    match config.identities() {
        Ok(identities) if identities.is_empty() => doctor.fail(
            "server certificate",
            "there is none",
            "name certificate and key in [[identity]]",
        ),
        Ok(identities) => {
            for identity in &identities {
                let Some(leaf) = identity.certificate() else {
                    continue;
                };
                expiry(doctor, "server certificate", leaf, now, EXPIRY_WARNING);
                if leaf.dns_names().is_empty() {
                    // Addresses are good enough for a laboratory.
                    doctor.pass("server certificate", "it has addresses and no DNS names");
                }
            }
        }
        Err(error) => doctor.fail("server certificate", error.to_string(), "mend [[identity]]"),
    }
}

fn expiry(
    doctor: &mut Doctor,
    name: &str,
    certificate: &Certificate,
    now: OffsetDateTime,
    warning: Duration,
) {
    let until = when(certificate.not_after());
    let subject = certificate.subject();
    if certificate.not_after() < now {
        doctor.fail(name, format!("{subject} ended {until}"), "renew it");
    } else if certificate.not_after() - warning < now {
        doctor.fail(name, format!("{subject} ends {until}"), "renew it");
    } else if certificate.not_before() > now {
        doctor.fail(
            name,
            format!("{subject} is not valid yet"),
            "look at the clock",
        );
    } else {
        doctor.pass(name, format!("{subject}, until {until}"));
    }
}

fn owner(doctor: &mut Doctor, config: &Config, now: OffsetDateTime) {
    if config.owner.is_none() {
        doctor.fail(
            "owner certificate",
            "there is none: only unsigned data is given out, to devices that trust this server",
            "see [owner] in docs/samples/bootstrap.toml",
        );
        return;
    }
    match config.load_owner() {
        Ok(Some(owner)) => {
            let identity = &owner.identity;
            let key = identity.signer.as_ref();
            let list = super::owner::findings(&identity.chain, &owner.ca, key, now);
            for (what, fix) in &list {
                doctor.fail("owner certificate", what.clone(), fix.clone());
            }
            if list.is_empty()
                && let (Some(leaf), Some(pin)) = (identity.certificate(), owner.ca.first())
            {
                doctor.pass(
                    "owner certificate",
                    format!(
                        "{} under {}, until {}",
                        leaf.subject(),
                        pin.subject(),
                        when(leaf.not_after())
                    ),
                );
            }
        }
        Ok(None) => {}
        Err(error) => doctor.fail("owner certificate", error.to_string(), "`owner install`"),
    }
}

fn vendors(doctor: &mut Doctor, config: &Config, now: OffsetDateTime) {
    let directory = config.resolve(&config.vendors.directory);
    let vendors = match Vendors::load(&directory) {
        Ok(vendors) => vendors,
        Err(error) => {
            doctor.fail("vendors", error.to_string(), "mend the file");
            return;
        }
    };
    if vendors.list.is_empty() {
        doctor.fail(
            "vendors",
            format!("no vendor in {}", directory.display()),
            "usher bootstrap trust import FILE --vendor NAME",
        );
    }
    for vendor in &vendors.list {
        let name = format!("vendor {}", vendor.file.name);
        for purpose in Use::ALL {
            if purpose == Use::MasaTls && vendor.file.masa.is_none() {
                continue;
            }
            let certificates = vendor.certificates(purpose);
            if certificates.is_empty() {
                doctor.fail(
                    &name,
                    format!("no anchor for {}", purpose.as_str()),
                    format!(
                        "usher bootstrap trust import FILE --vendor {} --use {}",
                        vendor.file.name,
                        purpose.as_str()
                    ),
                );
            }
            for certificate in certificates {
                expiry(doctor, &name, certificate, now, TRUST_WARNING);
            }
        }
    }
}

fn profiles(doctor: &mut Doctor, config: &Config) {
    let folder = config.profiles.directory.as_deref();
    let folder = folder.map(|folder| config.resolve(folder));
    match Profiles::load(folder.as_deref()) {
        Ok(profiles) => doctor.pass("device types", format!("{}", profiles.iter().count())),
        Err(error) => doctor.fail("device types", error.to_string(), "mend the file"),
    }
}

fn masa(doctor: &mut Doctor, config: &Config) {
    match Live::load(config) {
        Ok(Some(_)) => doctor.pass("MASA", "vouchers with a nonce are asked for"),
        Ok(None) => doctor.pass("MASA", "none is asked: vouchers come as files"),
        Err(error) => doctor.fail("MASA", error.to_string(), "mend [masa]"),
    }
}

/// A configuration is shown around; a password in it goes along.
fn secret_in_url(doctor: &mut Doctor, config: &Config, file: &Path) {
    let has_password =
        url::Url::parse(&config.database.url).is_ok_and(|url| url.password().is_some());
    let text = std::fs::read_to_string(file).unwrap_or_default();
    if has_password && text.contains(&config.database.url) {
        doctor.fail(
            "database",
            "the password stands in the configuration file",
            "put it into ~/.pgpass (or PGPASSFILE), or the URL into USHER_BOOTSTRAP_DATABASE__URL",
        );
    }
}

async fn database(doctor: &mut Doctor, config: &Config, clock: &Clock) {
    let store = match Store::open(&config.database.url, &SCHEMA).await {
        Ok(store) => store,
        Err(error) => {
            doctor.fail("database", error.to_string(), "usher bootstrap migrate");
            return;
        }
    };
    doctor.pass(
        "database",
        format!("{:?}, schema up to date", store.engine()),
    );
    match config.audit_log(&store) {
        Ok(Some(log)) => doctor.pass("audit log key", log.key().to_string()),
        Ok(None) => doctor.fail(
            "audit log",
            "entries are written and not signed",
            "name a key in [audit]",
        ),
        Err(error) => doctor.fail("audit log key", error.to_string(), "mend [audit]"),
    }
    crate::events::cli::checkup(doctor, config, &store, clock).await;
    if let Err(error) = stock(doctor, &store, clock.now()).await {
        doctor.fail("register", error.to_string(), "look at the database");
    }
    store.close().await;
}

/// Devices without vouchers, and vouchers that end soon.
async fn stock(doctor: &mut Doctor, store: &Store, now: OffsetDateTime) -> Result<(), Error> {
    const OURS: &str = "state NOT IN ('released', 'replaced')";
    let count = async |sql: String, values: Vec<store::Value>| {
        let row = store
            .fetch_optional(store::AssertSqlSafe(sql), values)
            .await?;
        let number = row.map(|row| row.integer("number")).transpose()?;
        Ok::<_, Error>(number.unwrap_or_default())
    };
    let sql = format!("SELECT COUNT(*) AS number FROM device WHERE {OURS}");
    let devices = count(sql, params![]).await?;
    let sql = format!(
        "SELECT COUNT(*) AS number FROM device WHERE {OURS} AND NOT EXISTS (SELECT 1 FROM voucher \
         v WHERE v.device = device.id AND v.nonce IS NULL AND (v.expires_us IS NULL OR \
         v.expires_us > $1))"
    );
    let without = count(sql, params![now]).await?;
    if devices == 0 {
        doctor.fail(
            "register",
            "no devices",
            "usher bootstrap devices import devices.csv --dry-run",
        );
    } else if without > 0 {
        // Devices that trust this server need none.
        doctor.pass(
            "register",
            format!("{devices} devices, {without} of them without a valid voucher"),
        );
    } else {
        doctor.pass(
            "register",
            format!("{devices} devices, each with a valid voucher"),
        );
    }
    let sql = "SELECT COUNT(*) AS number FROM voucher WHERE nonce IS NULL AND expires_us > $1 AND \
         expires_us < $2";
    let ending = count(sql.to_owned(), params![now, now + TRUST_WARNING]).await?;
    if ending > 0 {
        doctor.fail(
            "vouchers",
            format!("{ending} end within {} days", TRUST_WARNING.whole_days()),
            "usher bootstrap vouchers list --ends-within 90",
        );
    }
    let sql = "SELECT revision AS number FROM epoch WHERE id = 1";
    let revision = count(sql.to_owned(), params![]).await?;
    if revision == 0 {
        doctor.fail(
            "content",
            "nothing was applied: devices get nothing",
            "usher bootstrap apply content",
        );
    } else {
        doctor.pass("content", format!("revision {revision}"));
    }
    Ok(())
}

/// Whether the port can be had; a server that runs has it, and that is as good.
async fn port(doctor: &mut Doctor, name: &str, address: std::net::SocketAddr) {
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => doctor.pass(name, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            doctor.pass(name, format!("{address} is in use: a server runs"));
        }
        Err(error) => doctor.fail(name, format!("{address}: {error}"), "mend [listen] address"),
    }
}
