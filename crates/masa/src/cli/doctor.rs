//! `usher masa doctor`.

use daemon::Outcome;
use daemon::cli::Doctor;
use daemon::config::Flags;
use pki::{Certificate, Identity};
use store::{Store, outbox};
use time::Duration;

use super::{Context, show};
use crate::register::counts;
use crate::{Config, Error, SCHEMA};

/// A certificate that ends sooner is reported.
const SOON: Duration = Duration::days(30);

pub(super) async fn run(context: &Context) -> Result<Outcome, Error> {
    let mut doctor = Doctor::new();
    let file = context.config_file()?;
    let config = match context.config(&Flags::new()) {
        Ok(config) => {
            doctor.pass("configuration", file.display().to_string());
            config
        }
        Err(error) => {
            doctor.fail(
                "configuration",
                error.to_string(),
                "see docs/samples/masa.toml",
            );
            return Ok(doctor.print(context.format));
        }
    };
    secrets(&mut doctor, &config);
    keys(&mut doctor, context, &config);
    devices(&mut doctor, context, &config);
    doctor.result(
        "policy",
        config.policy.policy().map(|policy| {
            format!(
                "unknown registrars: {}; first come: {}",
                policy.unknown_registrars, policy.first_come
            )
        }),
        "remove the unknown name from [policy] tolerances",
    );
    database(&mut doctor, context, &config).await;
    Ok(doctor.print(context.format))
}

fn secrets(doctor: &mut Doctor, config: &Config) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut files: Vec<&String> = config.identity.iter().map(|one| &one.key).collect();
    files.push(&config.signing.nonced.key);
    files.extend(config.signing.nonceless.as_ref().map(|one| &one.key));
    files.push(&config.audit.key);
    let open: Vec<String> = files
        .into_iter()
        .filter(|key| !key.starts_with("pkcs11:"))
        .map(|key| config.resolve(key.as_ref()))
        .filter(|path| {
            path.metadata()
                .is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
        })
        .map(|path| path.display().to_string())
        .collect();
    if open.is_empty() {
        doctor.pass("key files", "readable by their owner only");
    } else {
        let names = open.join(" ");
        doctor.fail(
            "key files",
            format!("readable by others: {names}"),
            format!("chmod 600 {names}"),
        );
    }
}

fn identity(doctor: &mut Doctor, context: &Context, name: &str, identity: &Identity) {
    let Some(leaf) = identity.certificate() else {
        return;
    };
    let (now, end) = (context.clock.now(), leaf.not_after());
    let text = format!("{} until {}", leaf.subject(), show(end));
    if end <= now {
        doctor.fail(
            name,
            format!("{text}: expired"),
            "replace certificate and key",
        );
    } else if end <= now + SOON {
        doctor.fail(
            name,
            format!("{text}: ends soon"),
            "replace it in time, then send SIGHUP",
        );
    } else {
        doctor.pass(name, text);
    }
}

fn keys(doctor: &mut Doctor, context: &Context, config: &Config) {
    match config.keys() {
        Ok(keys) => {
            identity(doctor, context, "voucher key", &keys.nonced);
            match &keys.nonceless {
                Some(one) => identity(doctor, context, "nonceless key", one),
                None => doctor.pass("nonceless key", "none: no nonceless vouchers"),
            }
        }
        Err(error) => doctor.fail("voucher key", error.to_string(), "see [signing]"),
    }
    match config.identities() {
        Ok(identities) if identities.is_empty() => {
            doctor.fail("TLS certificate", "there is none", "add an [[identity]]");
        }
        Ok(identities) => {
            for one in &identities {
                identity(doctor, context, "TLS certificate", one);
            }
        }
        Err(error) => doctor.fail("TLS certificate", error.to_string(), "see [[identity]]"),
    }
}

fn devices(doctor: &mut Doctor, context: &Context, config: &Config) {
    match config.device_pki() {
        Ok(devices) if devices.anchors.is_empty() => {
            doctor.fail(
                "device CAs",
                "there is none",
                "name them in [devices] anchors",
            );
        }
        Ok(devices) => {
            let now = context.clock.now();
            let expired = devices
                .anchors
                .iter()
                .filter(|one| one.not_after() <= now)
                .count();
            let names: Vec<String> = devices.anchors.iter().map(Certificate::subject).collect();
            // Devices outlive their CA's dates; that is no failure, only worth knowing.
            doctor.pass(
                "device CAs",
                format!("{} ({expired} past their end)", names.join("; ")),
            );
        }
        Err(error) => doctor.fail("device CAs", error.to_string(), "see [devices]"),
    }
}

async fn database(doctor: &mut Doctor, context: &Context, config: &Config) {
    let store = match Store::open(&config.database.url, &SCHEMA).await {
        Ok(store) => store,
        Err(error) => {
            doctor.fail("database", error.to_string(), "usher masa migrate");
            return;
        }
    };
    let counted = async {
        let mut snapshot = store.snapshot().await?;
        let (devices, held, blocked) = counts(&mut snapshot).await?;
        let (waiting, dead) = outbox::depth(&mut snapshot).await?;
        Ok::<_, Error>((devices, held, blocked, waiting, dead))
    };
    match counted.await {
        Ok((devices, held, blocked, waiting, dead)) => {
            doctor.pass(
                "register",
                format!("{devices} devices, {held} held, {blocked} blocked"),
            );
            doctor.pass(
                "alarms",
                format!("{waiting} messages wait, {dead} are dead"),
            );
        }
        Err(error) => doctor.fail("register", error.to_string(), "look at the database"),
    }
    match config.audit_log(&store) {
        Ok(log) => match log.seal(context.clock.now()).await {
            Ok(note) => {
                let size = note.and_then(|note| note.lines().nth(1).map(str::to_owned));
                doctor.pass(
                    "audit log",
                    format!(
                        "{} entries are sealed",
                        size.unwrap_or_else(|| "no".to_owned())
                    ),
                );
            }
            Err(error) => doctor.fail("audit log", error.to_string(), "usher masa audit verify"),
        },
        Err(error) => doctor.fail("audit log", error.to_string(), "see [audit]"),
    }
    store.close().await;
}
