//! `usher registrar doctor`: what is wrong, and what to do about it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use daemon::Outcome;
use daemon::cli::Doctor;
use daemon::config::Flags;
use net::client::{Host, Target};
use pki::path::{PathOptions, Purpose};
use store::Store;
use time::{Duration, OffsetDateTime};

use super::Context;
use crate::records::rfc3339;
use crate::service::Keys;
use crate::vendor::{Use, Vendors};
use crate::{Config, Error};

/// No clock that is right shows less.
const EARLIEST: i64 = 1_750_000_000;
/// A certificate that ends sooner than this wants to be looked at.
const EXPIRY_WARNING: Duration = Duration::days(30);

pub(super) async fn run(context: &Context) -> Result<Outcome, Error> {
    let mut doctor = Doctor::new();
    let now = context.clock.now();
    let config = match context.config(&Flags::new()) {
        Ok(config) => {
            doctor.pass(
                "configuration",
                context.config_file()?.display().to_string(),
            );
            config
        }
        Err(error) => {
            doctor.fail("configuration", error.to_string(), "mend the file");
            return Ok(doctor.print(context.format));
        }
    };
    clock(&mut doctor, now);
    files(&mut doctor, &config);
    identity(&mut doctor, &config, now);
    constrained(&mut doctor, &config);
    ca(&mut doctor, &config, now);
    secret_in_url(&mut doctor, &config, &context.config_file()?);
    database(&mut doctor, &config).await;
    vendors(&mut doctor, &config, now).await;
    policy(&mut doctor, &config);
    port(&mut doctor, &config).await;
    Ok(doctor.print(context.format))
}

fn clock(doctor: &mut Doctor, now: OffsetDateTime) {
    if now.unix_timestamp() < EARLIEST {
        doctor.fail(
            "clock",
            rfc3339(now),
            "set the clock; certificates are judged by it",
        );
    } else {
        doctor.pass("clock", rfc3339(now));
    }
}

/// Keys and secrets that others can read are none.
fn files(doctor: &mut Doctor, config: &Config) {
    let mut secret: Vec<String> = vec![config.identity.audit_key.key.clone()];
    for pair in &config.identity.tls {
        secret.push(pair.key.clone());
        secret.extend(
            pair.passphrase_file
                .iter()
                .map(|path| path.display().to_string()),
        );
    }
    secret.extend(config.ca.key.clone());
    for file in secret.iter().filter(|file| !file.starts_with("pkcs11:")) {
        match std::fs::metadata(file) {
            Ok(meta) if meta.permissions().mode() & 0o077 != 0 => doctor.fail(
                "key file",
                format!(
                    "{file} can be read by others (mode {:o})",
                    meta.permissions().mode() & 0o777
                ),
                format!("chmod 600 {file}"),
            ),
            Ok(_) => doctor.pass("key file", file.clone()),
            Err(error) => doctor.fail("key file", format!("{file}: {error}"), "put it back"),
        }
    }
}

fn identity(doctor: &mut Doctor, config: &Config, now: OffsetDateTime) {
    let keys = match Keys::load(config) {
        Ok(keys) => keys,
        Err(error) => {
            doctor.fail("registrar keys", error.to_string(), "mend [identity]");
            return;
        }
    };
    for identity in &keys.identities {
        let Some((leaf, others)) = identity.chain.split_first() else {
            continue;
        };
        let subject = leaf.subject();
        let options = PathOptions::new(Purpose::Registrar, now);
        match pki::path::validate(leaf, others, &keys.anchors, &options) {
            Ok(path) => doctor.pass(
                "registrar certificate",
                format!(
                    "{subject}: {} certificates up to the domain CA",
                    path.certificates().len()
                ),
            ),
            Err(error) => doctor.fail(
                "registrar certificate",
                format!("{subject}: {error}"),
                "it needs cmcRA and has to lead to domain_ca",
            ),
        }
        // BRSKI-5.8.2-03: registrar certificates always include the SubjectKeyIdentifier.
        if leaf.subject_key_id().is_none() {
            doctor.fail(
                "registrar certificate",
                format!("{subject}: no subjectKeyIdentifier"),
                "issue it again with one; MASAs name this domain by it",
            );
        }
        expiry(
            doctor,
            "registrar certificate",
            &subject,
            leaf.not_after(),
            now,
            EXPIRY_WARNING,
        );
    }
    for certificate in &keys.domain {
        let subject = certificate.subject();
        expiry(
            doctor,
            "domain CA",
            &subject,
            certificate.not_after(),
            now,
            Duration::days(365),
        );
    }
}

/// What constrained devices need beyond the rest.
fn constrained(doctor: &mut Doctor, config: &Config) {
    if !config.coap.is_on() {
        return;
    }
    match Keys::load(config).and_then(|keys| crate::coap::dtls_identities(&keys)) {
        Ok(_) => doctor.pass("CoAP", format!("DTLS at {:?}", config.coap.listen)),
        Err(error) => doctor.fail(
            "CoAP",
            error.to_string(),
            "add one; a key in a token cannot be used with DTLS",
        ),
    }
}

fn expiry(
    doctor: &mut Doctor,
    name: &str,
    subject: &str,
    not_after: OffsetDateTime,
    now: OffsetDateTime,
    warning: Duration,
) {
    if not_after - warning < now {
        doctor.fail(name, format!("{subject} ends {not_after}"), "renew it");
    }
}

fn ca(doctor: &mut Doctor, config: &Config, now: OffsetDateTime) {
    match config.ca.open() {
        Ok(Some(ca)) => {
            doctor.pass("CA", format!("{} CA behind the registrar", ca.kind()));
            for certificate in ca.ca_certificates() {
                let warning = Duration::days(i64::from(config.ca.lifetime_days));
                let subject = certificate.subject();
                expiry(
                    doctor,
                    "CA",
                    &subject,
                    certificate.not_after(),
                    now,
                    warning,
                );
            }
        }
        Ok(None) => doctor.fail(
            "CA",
            "there is none: devices get vouchers and no certificates",
            "set certificate and key, or [ca.upstream], in [ca]",
        ),
        Err(error) => doctor.fail("CA", error.to_string(), "mend [ca]"),
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
            "put it into ~/.pgpass (or PGPASSFILE), or the URL into USHER_REGISTRAR_DATABASE__URL",
        );
    }
}

async fn database(doctor: &mut Doctor, config: &Config) {
    match Store::open(&config.database.url, &crate::schema::SCHEMA).await {
        Ok(store) => {
            doctor.pass(
                "database",
                format!("{:?}, schema up to date", store.engine()),
            );
            match crate::service::open_audit(config, &store) {
                Ok(log) => doctor.pass("audit log key", log.key().to_string()),
                Err(error) => {
                    doctor.fail(
                        "audit log key",
                        error.to_string(),
                        "mend [identity.audit_key]",
                    );
                }
            }
            store.close().await;
        }
        Err(error) => {
            doctor.fail("database", error.to_string(), "usher registrar migrate");
        }
    }
}

async fn vendors(doctor: &mut Doctor, config: &Config, now: OffsetDateTime) {
    let vendors = match Vendors::load(&config.vendors.directory) {
        Ok(vendors) => vendors,
        Err(error) => {
            doctor.fail("vendors", error.to_string(), "mend the profile");
            return;
        }
    };
    if vendors.list.is_empty() {
        doctor.fail(
            "vendors",
            format!("no profile in {}", config.vendors.directory.display()),
            "usher registrar trust import FILE --vendor NAME",
        );
    }
    let warning = Duration::days(i64::from(config.vendors.expiry_warning_days));
    for vendor in &vendors.list {
        let name = format!("vendor {}", vendor.profile.name);
        for purpose in Use::ALL {
            let certificates = &vendor.anchors(purpose).certificates;
            if certificates.is_empty() {
                let fix = format!(
                    "usher registrar trust import FILE --vendor {} --use {}",
                    vendor.profile.name,
                    purpose.as_str()
                );
                doctor.fail(&name, format!("no anchor for {}", purpose.as_str()), fix);
            } else {
                doctor.pass(
                    &name,
                    format!("{} anchors for {}", certificates.len(), purpose.as_str()),
                );
            }
            for certificate in certificates {
                let subject = certificate.subject();
                expiry(
                    doctor,
                    &name,
                    &subject,
                    certificate.not_after(),
                    now,
                    warning,
                );
            }
        }
        let url = vendor
            .profile
            .masa
            .url
            .as_ref()
            .or(vendor.profile.masa.fallback_url.as_ref());
        if let Some(url) = url {
            resolve(doctor, &name, url, config).await;
        }
    }
}

/// Whether the name of a MASA leads to an address. No connection is made.
async fn resolve(doctor: &mut Doctor, name: &str, url: &str, config: &Config) {
    let target = brski::registrar::masa_base_url(url)
        .map_err(Error::from)
        .and_then(|url| Ok(Target::from_url(&url)?));
    let target = match target {
        Ok(target) => target,
        Err(error) => {
            doctor.fail(name, error.to_string(), "mend [masa] in the profile");
            return;
        }
    };
    let Host::Name(host) = &target.host else {
        return;
    };
    if config.masa.addresses.contains_key(host) {
        doctor.pass(name, format!("{host} is in [masa.addresses]"));
        return;
    }
    match tokio::net::lookup_host((host.as_str(), target.port)).await {
        Ok(mut addresses) => match addresses.next() {
            Some(address) => doctor.pass(name, format!("{host} is {address}")),
            None => doctor.fail(name, format!("{host} has no address"), "mend the DNS"),
        },
        Err(error) => doctor.fail(
            name,
            format!("{host}: {error}"),
            "mend the DNS, or name the address in [masa.addresses]",
        ),
    }
}

fn policy(doctor: &mut Doctor, config: &Config) {
    let policy = &config.policy;
    let text = format!(
        "default {}, {} rules",
        policy.default.as_str(),
        policy.rules.len()
    );
    doctor.pass("policy", text);
    let token = policy
        .webhook
        .as_ref()
        .and_then(|webhook| webhook.token_file.clone());
    if let Some(file) = token
        && !Path::new(&file).is_file()
    {
        doctor.fail(
            "webhook",
            format!("{} is missing", file.display()),
            "put the token there",
        );
    }
}

/// Whether the port can be had; a server that runs has it, and that is as good.
async fn port(doctor: &mut Doctor, config: &Config) {
    let address = config.listen.address;
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => doctor.pass("port", format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            doctor.pass("port", format!("{address} is in use: a server runs"));
        }
        Err(error) => doctor.fail(
            "port",
            format!("{address}: {error}"),
            "mend [listen] address",
        ),
    }
}
