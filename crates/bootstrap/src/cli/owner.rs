//! `usher bootstrap owner …`: the owner certificate.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use daemon::Outcome;
use daemon::cli::plain;
use daemon::config::{Flags, KeyConfig};
use futures::FutureExt as _;
use pki::issue::Profile;
use pki::path::{Anchors, PathOptions, Purpose};
use pki::{Certificate, CsrBuilder, Signer};
use serde_json::{Value, json};
use store::params;
use time::{Duration, OffsetDateTime};

use super::text::{rfc3339, table, when};
use super::trust::replace_file;
use super::{Context, with_store};
use crate::config::OwnerConfig;
use crate::init::OWNER_LIFETIME;
use crate::register::rows::{is_name, is_value};
use crate::register::{operator, record};
use crate::{Config, Error};

/// An owner certificate that ends sooner than this is warned of.
const WARNING: Duration = Duration::days(90);

#[derive(Debug, Subcommand)]
pub(super) enum OwnerCommand {
    /// The owner certificate, what vouchers pin, and whether key and certificate belong together.
    Show,
    /// Install what the owner's CA issued for `owner.csr`.
    Install(InstallArguments),
    /// Write a request for the owner's CA, made with the owner's key.
    Csr(CsrArguments),
    /// Issue the next owner certificate from the owner's CA in this folder.
    ///
    /// Vouchers pin the CA, so they stay good.
    Renew(RenewArguments),
    /// Put somebody into the list of owners whose devices are in the register.
    Add(AddArguments),
    /// The list of owners.
    List,
}

#[derive(Debug, Args)]
pub(super) struct InstallArguments {
    /// PEM or DER file with the owner certificate and what is above it, in any order.
    chain: PathBuf,
    /// What vouchers pin, if it is not the topmost certificate of the chain.
    #[arg(long, value_name = "PEM")]
    pin: Option<PathBuf>,
    /// The same for `ra.csr`.
    #[arg(long, value_name = "CHAIN")]
    ra: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CsrArguments {
    /// The file to write; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The subject (RFC 4514); without it, that of the certificate that is there.
    #[arg(long)]
    subject: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RenewArguments {
    /// The key of the owner's CA.
    #[arg(long, value_name = "FILE", default_value = "owner-ca.key")]
    ca_key: String,
    /// File with its passphrase; without it, that of the owner's key.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct AddArguments {
    /// A short name.
    id: String,
    /// The whole name.
    #[arg(long, default_value = "")]
    name: String,
    /// A note.
    #[arg(long, default_value = "")]
    note: String,
}

pub(super) async fn run(context: &Context, command: &OwnerCommand) -> Result<Outcome, Error> {
    match command {
        OwnerCommand::Show => show(context),
        OwnerCommand::Install(arguments) => install(context, arguments).await,
        OwnerCommand::Csr(arguments) => csr(context, arguments),
        OwnerCommand::Renew(arguments) => renew(context, arguments).await,
        OwnerCommand::Add(arguments) => add(context, arguments).await,
        OwnerCommand::List => list(context).await,
    }
}

fn section(config: &Config) -> Result<&OwnerConfig, Error> {
    config.owner.as_ref().ok_or_else(|| {
        Error::Usage("the configuration has no [owner]; see docs/samples/bootstrap.toml".to_owned())
    })
}

/// What is wrong with an owner certificate, each with what to do.
pub(super) fn findings(
    chain: &[Certificate],
    ca: &[Certificate],
    key: &dyn Signer,
    now: OffsetDateTime,
) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut say = |what: String, fix: &str| list.push((what, fix.to_owned()));
    let Some((leaf, others)) = chain.split_first() else {
        say("there is no certificate".to_owned(), "`owner install`");
        return list;
    };
    if leaf.public_key() != key.public_key() {
        say(
            format!("{} has another key than [owner] key", leaf.subject()),
            "install the certificate that was issued for owner.csr",
        );
    }
    let anchors: Anchors = ca.iter().cloned().collect();
    if ca.is_empty() {
        say(
            "[owner] ca names no certificate that vouchers pin".to_owned(),
            "name it in the configuration",
        );
    } else if let Err(error) = pki::path::validate(
        leaf,
        others,
        &anchors,
        // SZTP-8572-3.2-01: no key usage, or one with digitalSignature; no extended purpose.
        &PathOptions::new(Purpose::Masa, now),
    ) {
        say(
            format!("it does not lead to what vouchers pin: {error}"),
            "install the whole chain",
        );
    }
    if leaf.not_after() - WARNING < now && leaf.not_after() > now {
        say(
            format!("it ends {}", when(leaf.not_after())),
            "`usher bootstrap owner renew`, or `owner csr` for your CA",
        );
    }
    for pin in ca {
        if pin.not_after() < now {
            say(
                format!("{} has expired", pin.subject()),
                "a new owner CA, and new vouchers",
            );
        }
    }
    list
}

fn described(certificate: &Certificate) -> Value {
    json!({
        "subject": certificate.subject(), "issuer": certificate.issuer(),
        "sha256": hex::encode(certificate.sha256()),
        "not_before": rfc3339(certificate.not_before()),
        "not_after": rfc3339(certificate.not_after()), "ca": certificate.is_ca(),
    })
}

fn show(context: &Context) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let owner = section(&config)?;
    let now = context.clock.now();
    let key = owner.identity().key_config().load(&config.directory)?;
    let path = config.resolve(&owner.certificate);
    let chain = match Certificate::load_all(&path) {
        Ok(chain) => chain,
        Err(_) if !path.exists() => Vec::new(),
        Err(error) => return Err(Error::malformed(&path, error)),
    };
    let ca = if chain.is_empty() {
        Vec::new()
    } else {
        config.certificates(&owner.ca)?
    };
    let findings = findings(&chain, &ca, key.as_ref(), now);
    let answer = json!({
        "ok": findings.is_empty(),
        "chain": chain.iter().map(described).collect::<Vec<_>>(),
        "pinned": ca.iter().map(described).collect::<Vec<_>>(),
        "key": hex::encode(key.public_key().sha256()),
        "findings": findings.iter().map(|(what, fix)| json!({ "what": what, "fix": fix }))
            .collect::<Vec<_>>(),
    });
    context.format.print(&answer, |_| {
        let mut lines = Vec::new();
        for (word, list) in [("owner", &chain), ("pinned", &ca)] {
            for certificate in list {
                lines.push(format!(
                    "{word:7} {}  until {}\n        sha256 {}",
                    plain(&certificate.subject()),
                    when(certificate.not_after()),
                    hex::encode(certificate.sha256())
                ));
            }
        }
        lines.push(format!(
            "key     sha256 {}",
            hex::encode(key.public_key().sha256())
        ));
        for (what, fix) in &findings {
            lines.push(format!("wrong   {}\n        -> {fix}", plain(what)));
        }
        if findings.is_empty() {
            lines.push("key, certificate and pin belong together".to_owned());
        }
        lines.join("\n")
    });
    Ok(Outcome::of(findings.is_empty()))
}

/// The chain from the certificate with this key upwards, whatever the order of the file.
fn ordered(path: &Path, key: &dyn Signer) -> Result<Vec<Certificate>, Error> {
    let mut rest = Certificate::load_all(path).map_err(|error| Error::malformed(path, error))?;
    let at = rest
        .iter()
        .position(|one| one.public_key() == key.public_key())
        .ok_or_else(|| Error::malformed(path, "no certificate in it is for our key"))?;
    let mut chain = vec![rest.swap_remove(at)];
    while let Some(last) = chain.last() {
        if last.issuer_der() == last.subject_der() {
            break;
        }
        let next = rest.iter().position(|one| {
            one.subject_der() == last.issuer_der()
                && last.verify_signature_by(one.public_key()).is_ok()
        });
        match next {
            Some(at) => chain.push(rest.swap_remove(at)),
            None => break,
        }
    }
    Ok(chain)
}

async fn install(context: &Context, arguments: &InstallArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let installed = with_store(context, async |config, store| {
        let owner = section(config)?;
        let key = owner.identity().key_config().load(&config.directory)?;
        let chain = ordered(&arguments.chain, key.as_ref())?;
        let pin = match &arguments.pin {
            Some(file) => Certificate::load(file).map_err(|e| Error::malformed(file, e))?,
            None => chain.last().cloned().ok_or(pki::Error::IdentityMismatch)?,
        };
        let wrong = findings(&chain, std::slice::from_ref(&pin), key.as_ref(), now);
        // That it ends soon is no reason not to take it.
        let fatal = wrong.iter().find(|(what, _)| !what.starts_with("it ends"));
        if let Some((what, fix)) = fatal {
            return Err(Error::malformed(&arguments.chain, format!("{what}; {fix}")));
        }
        let ca = owner.ca.first().ok_or_else(|| {
            Error::Usage("[owner] ca has to name the file that vouchers pin".to_owned())
        })?;
        let mut ra = None;
        if let Some(file) = &arguments.ra {
            let key = KeyConfig {
                key: "ra.key".to_owned(),
                ..owner.identity().key_config()
            };
            let key = key.load(&config.directory)?;
            let chain = ordered(file, key.as_ref())?;
            if !chain.first().is_some_and(Certificate::has_cmc_ra) {
                return Err(Error::malformed(file, "it lacks id-kp-cmcRA"));
            }
            ra = Some(chain);
        }
        replace_file(&config.resolve(&owner.certificate), pem(&chain).as_bytes())?;
        replace_file(&config.resolve(ca), pin.to_pem().as_bytes())?;
        if let Some(chain) = &ra {
            replace_file(&config.directory.join("ra.pem"), pem(chain).as_bytes())?;
        }
        note(store, "owner-installed", &chain, now).await?;
        Ok((chain, pin))
    })
    .await?;
    let (chain, pin) = installed;
    let answer = json!({
        "ok": true, "chain": chain.iter().map(described).collect::<Vec<_>>(),
        "pinned": described(&pin),
    });
    context.format.print(&answer, |_| {
        format!(
            "installed {} certificates; vouchers have to pin {}\n  sha256 {}\na server that runs \
             takes them up on SIGHUP",
            chain.len(),
            plain(&pin.subject()),
            hex::encode(pin.sha256())
        )
    });
    Ok(Outcome::Yes)
}

fn pem(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::to_pem).collect()
}

/// Writes an owner's change into the audit log. What is signed with the key changes, so the
/// artefacts that are kept do not fit any more.
async fn note(
    store: &store::Store,
    kind: &'static str,
    chain: &[Certificate],
    now: OffsetDateTime,
) -> Result<(), Error> {
    let hashes: Vec<String> = chain.iter().map(|one| hex::encode(one.sha256())).collect();
    store
        .transaction("owner-note", move |connection| {
            let hashes = hashes.clone();
            async move {
                crate::register::touch(connection).await?;
                let data = json!({ "chain_sha256": hashes });
                record(connection, kind, &operator(), "owner", data, now).await?;
                Ok::<_, Error>(())
            }
            .boxed()
        })
        .await
}

fn csr(context: &Context, arguments: &CsrArguments) -> Result<Outcome, Error> {
    let config = context.config(&Flags::new())?;
    let owner = section(&config)?;
    let key = owner.identity().key_config().load(&config.directory)?;
    let subject = match &arguments.subject {
        Some(subject) => subject.clone(),
        None => {
            let path = config.resolve(&owner.certificate);
            let leaf = Certificate::load(&path).map_err(|error| Error::malformed(&path, error))?;
            leaf.subject()
        }
    };
    let request = CsrBuilder::new(pki::issue::name(&subject)?).sign(key.as_ref())?;
    let text = request.to_pem();
    if let Some(path) = &arguments.out {
        std::fs::write(path, &text).map_err(|error| Error::file(path, error))?;
    }
    let answer = json!({ "ok": true, "subject": subject, "csr": text, "file": arguments.out });
    context.format.print(&answer, |_| match &arguments.out {
        Some(path) => format!("wrote {}", path.display()),
        None => text.clone(),
    });
    Ok(Outcome::Yes)
}

async fn renew(context: &Context, arguments: &RenewArguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let chain = with_store(context, async |config, store| {
        let owner = section(config)?;
        let key = owner.identity().key_config().load(&config.directory)?;
        let path = config.resolve(&owner.certificate);
        let old = Certificate::load(&path).map_err(|error| Error::malformed(&path, error))?;
        let ca = config.certificates(&owner.ca)?;
        let ca = ca
            .first()
            .ok_or_else(|| Error::Usage("[owner] ca names no certificate".to_owned()))?;
        let ca_key = KeyConfig {
            key: arguments.ca_key.clone(),
            passphrase_file: arguments
                .passphrase_file
                .clone()
                .or_else(|| owner.passphrase_file.clone()),
            passphrase_env: owner.passphrase_env.clone(),
            module: owner.module.clone(),
        };
        let ca_key = ca_key.load(&config.directory)?;
        if ca_key.public_key() != ca.public_key() {
            let text = format!("{} is not the key of {}", arguments.ca_key, ca.subject());
            return Err(Error::Usage(text));
        }
        let until = (now + OWNER_LIFETIME).min(ca.not_after());
        let next = daemon::folder::certificate(
            Profile::Owner,
            &old.subject(),
            key.public_key(),
            until,
            now,
        )?
        .issue(ca, ca_key.as_ref())?;
        let chain = vec![next, ca.clone()];
        replace_file(&path, pem(&chain).as_bytes())?;
        note(store, "owner-renewed", &chain, now).await?;
        Ok(chain)
    })
    .await?;
    let until = chain.first().map(Certificate::not_after);
    let answer = json!({ "ok": true, "chain": chain.iter().map(described).collect::<Vec<_>>() });
    context.format.print(&answer, |_| {
        format!(
            "the owner certificate is good until {}; a server that runs takes it up on SIGHUP",
            super::text::when_or(until, "?")
        )
    });
    Ok(Outcome::Yes)
}

async fn add(context: &Context, arguments: &AddArguments) -> Result<Outcome, Error> {
    if !is_name(&arguments.id) || !is_value(&arguments.name) || !is_value(&arguments.note) {
        return Err(Error::Usage(
            "an owner needs a short name of letters, digits, dots, dashes and underscores"
                .to_owned(),
        ));
    }
    let now = context.clock.now();
    let values = (
        arguments.id.clone(),
        arguments.name.clone(),
        arguments.note.clone(),
    );
    let is_new = with_store(context, async |_, store| {
        let values = values.clone();
        store
            .transaction("owner-add", move |connection| {
                let (id, name, note) = values.clone();
                async move {
                    let sql = "INSERT INTO owner (id, name, note, created_us) VALUES ($1, $2, $3, \
                         $4) ON CONFLICT (id) DO NOTHING";
                    let count = connection
                        .execute(sql, params![&id, &name, &note, now])
                        .await?;
                    if count > 0 {
                        let subject = format!("owner:{id}");
                        let data = json!({ "name": name });
                        record(connection, "owner-added", &operator(), &subject, data, now).await?;
                    }
                    Ok::<_, Error>(count > 0)
                }
                .boxed()
            })
            .await
    })
    .await?;
    let answer = json!({ "ok": true, "id": arguments.id, "added": is_new });
    context.format.print(&answer, |_| {
        let word = if is_new { "added" } else { "known" };
        format!("{word} {}", arguments.id)
    });
    Ok(Outcome::Yes)
}

async fn list(context: &Context) -> Result<Outcome, Error> {
    let owners = with_store(context, async |_, store| {
        let rows = store
            .fetch_all(
                "SELECT owner.id, owner.name, owner.note, (SELECT COUNT(*) FROM device WHERE \
                 device.owner = owner.id) AS devices FROM owner ORDER BY owner.id LIMIT 10000",
                params![],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.text("id")?,
                    row.text("name")?,
                    row.text("note")?,
                    row.integer("devices")?,
                ))
            })
            .collect::<Result<Vec<_>, Error>>()
    })
    .await?;
    let answer: Vec<Value> = owners
        .iter()
        .map(|(id, name, note, devices)| {
            json!({ "id": id, "name": name, "note": note, "devices": devices })
        })
        .collect();
    context.format.print(&json!({ "owners": answer }), |_| {
        let rows: Vec<Vec<String>> = owners
            .iter()
            .map(|(id, name, note, devices)| {
                vec![id.clone(), plain(name), devices.to_string(), plain(note)]
            })
            .collect();
        table(&["ID", "NAME", "DEVICES", "NOTE"], &rows)
    });
    Ok(Outcome::Yes)
}
