//! `usher registrar init`: everything that a first day needs, in one folder.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use daemon::Outcome;
use daemon::folder::{Folder, certificate, escape, quoted, with_names};
use pki::issue::Profile;
use pki::{Identity, KeyKind, Signer as _, SoftwareKey};
use store::Store;
use store::audit::NoteKey;
use time::{Duration, OffsetDateTime};

use super::Context;
use crate::Error;

/// Lifetime of the domain CA.
const CA_LIFETIME: Duration = Duration::days(20 * 365);
/// Lifetime of the registrar's certificate.
const REGISTRAR_LIFETIME: Duration = Duration::days(2 * 365);
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder to make; it has to be empty or absent.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The name of the domain, in the subject of its CA.
    #[arg(long, default_value = "Usher Domain")]
    domain: String,
    /// DNS names and addresses of this registrar.
    #[arg(long = "name", value_name = "HOST", default_value = "localhost")]
    names: Vec<String>,
    /// Where devices connect.
    #[arg(long, default_value = "[::]:8443")]
    listen: SocketAddr,
    /// Where constrained devices connect, with CoAP over DTLS: `[::]:5684` is the usual address.
    #[arg(long, value_name = "ADDRESS")]
    coaps: Option<SocketAddr>,
    /// Where stateless join proxies hand on what constrained devices say (JPY); there is no usual
    /// port.
    #[arg(long, value_name = "ADDRESS")]
    jpy: Option<SocketAddr>,
    /// Where operators connect.
    #[arg(long, default_value = "127.0.0.1:8444")]
    admin: SocketAddr,
    /// The database: `sqlite:FILE` or `postgres://…`.
    #[arg(long, value_name = "URL", default_value = "sqlite:registrar.sqlite")]
    database: String,
    /// The kind of the keys.
    #[arg(long, value_enum, default_value = "p256")]
    key: Kind,
    /// Make an RSA certificate for the registrar too, for devices that know nothing else.
    #[arg(long)]
    rsa: bool,
    /// Encrypt the keys with the passphrase in this file. Without it they are readable by their
    /// owner only.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa3072,
    MlDsa65,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::EcdsaP256,
            Kind::P384 => Self::EcdsaP384,
            Kind::P521 => Self::EcdsaP521,
            Kind::Ed25519 => Self::Ed25519,
            Kind::Rsa3072 => Self::Rsa3072,
            Kind::MlDsa65 => Self::MlDsa65,
        }
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Error> {
    let now = context.clock.now();
    let directory =
        std::path::absolute(&arguments.dir).map_err(|error| Error::file(&arguments.dir, &error))?;
    let config_file = directory.join("registrar.toml");
    if config_file.exists() {
        return Err(Error::Config {
            detail: format!(
                "{} is there already; nothing was changed",
                config_file.display()
            ),
        });
    }
    if arguments.listen == arguments.admin && arguments.listen.port() != 0 {
        return Err(Error::Config {
            detail: "devices and operators need different addresses".to_owned(),
        });
    }
    let folder = Folder::make(&directory, arguments.passphrase_file.as_deref())?;
    folder.folder("vendors.d")?;
    let ca = make_ca(&folder, arguments, now)?;
    let mut pairs = vec![make_registrar(
        &folder,
        arguments,
        &ca,
        "registrar",
        arguments.key.into(),
        now,
    )?];
    if arguments.rsa {
        pairs.push(make_registrar(
            &folder,
            arguments,
            &ca,
            "registrar-rsa",
            KeyKind::Rsa3072,
            now,
        )?);
    }
    let audit = SoftwareKey::generate(KeyKind::Ed25519)?;
    folder.write_key("audit.key", &audit)?;
    // The configuration comes last: with it there, the folder is complete.
    let text = config_text(arguments, &pairs, &folder);
    let config = crate::Config::parse(&text, &directory)?;
    let audit_key = NoteKey::of(&config.identity.audit_origin, &audit)?.to_string();
    folder.write("audit.pub", format!("{audit_key}\n").as_bytes(), 0o644)?;
    Store::migrate(&config.database.url, &crate::schema::SCHEMA, now).await?;
    folder.write("registrar.toml", text.as_bytes(), 0o640)?;
    let domain_ca_sha256 = ca
        .certificate()
        .map(|certificate| hex::encode(certificate.sha256()))
        .unwrap_or_default();
    let answer = serde_json::json!({
        "ok": true,
        "config": config_file,
        "domain_ca": directory.join("domain-ca.pem"),
        "domain_ca_sha256": domain_ca_sha256,
        "audit_key": audit_key,
        "vendors": directory.join("vendors.d"),
        "keys_encrypted": folder.is_encrypted(),
    });
    context.format.print(&answer, |_| {
        format!(
            "made {}\n\ndomain CA  {}\n           sha256 {}\n\nnext:\n  \
             usher registrar --config {config} trust import FILE --vendor NAME\n  \
             usher registrar --config {config} doctor\n  \
             usher registrar --config {config} serve",
            directory.display(),
            directory.join("domain-ca.pem").display(),
            domain_ca_sha256,
            config = config_file.display(),
        )
    });
    Ok(Outcome::Yes)
}

fn make_ca(folder: &Folder, arguments: &Arguments, now: OffsetDateTime) -> Result<Identity, Error> {
    let subject = format!("CN={} CA", escape(&arguments.domain));
    let until = now + CA_LIFETIME;
    Ok(folder.root("domain-ca", arguments.key.into(), &subject, until, now)?)
}

/// Makes a registrar's key and certificate, and gives the stem of their file names.
fn make_registrar(
    folder: &Folder,
    arguments: &Arguments,
    ca: &Identity,
    stem: &str,
    kind: KeyKind,
    now: OffsetDateTime,
) -> Result<String, Error> {
    let key = SoftwareKey::generate(kind)?;
    let first = arguments.names.first().map_or("registrar", String::as_str);
    let (subject, until) = (format!("CN={}", escape(first)), now + REGISTRAR_LIFETIME);
    let builder = certificate(Profile::Registrar, &subject, key.public_key(), until, now)?;
    let builder = with_names(builder, &arguments.names);
    let issuer = ca.certificate().ok_or(pki::Error::IdentityMismatch)?;
    let issued = builder.issue(issuer, ca.signer.as_ref())?;
    // Without the CA: every device gets this chain, over slow radio too.
    let pem = issued.to_pem();
    folder.write(&format!("{stem}.pem"), pem.as_bytes(), 0o644)?;
    folder.write_key(&format!("{stem}.key"), &key)?;
    Ok(stem.to_owned())
}

fn config_text(arguments: &Arguments, pairs: &[String], folder: &Folder) -> String {
    let secret = folder.passphrase_line();
    let mut text = format!(
        "# The registrar. docs/samples/registrar-annotated.toml names every field.\n\n\
         [listen]\naddress = {}\n\n\
         [admin]\naddress = {}\n\n\
         [database]\nurl = {}\n\n\
         [identity]\ndomain_ca = \"domain-ca.pem\"\n\n",
        quoted(&arguments.listen.to_string()),
        quoted(&arguments.admin.to_string()),
        quoted(&arguments.database),
    );
    for stem in pairs {
        text.push_str(&format!(
            "[[identity.tls]]\ncertificate = \"{stem}.pem\"\nkey = \"{stem}.key\"\n{secret}\n"
        ));
    }
    text.push_str(&format!(
        "[identity.audit_key]\nkey = \"audit.key\"\n{secret}\n"
    ));
    text.push_str(&format!(
        "[ca]\ncertificate = \"domain-ca.pem\"\nkey = \"domain-ca.key\"\n{secret}\n"
    ));
    let listen = |key: &str, value: String| format!("{key} = {value}\n");
    let coaps = arguments.coaps.map(|address| {
        let list = format!("[{}]", quoted(&address.to_string()));
        listen("listen", list)
    });
    let jpy = arguments
        .jpy
        .map(|address| listen("jpy_listen", quoted(&address.to_string())));
    if coaps.is_some() || jpy.is_some() {
        let lines: String = coaps.into_iter().chain(jpy).collect();
        text.push_str(&format!("[coap]\n{lines}\n"));
    }
    text.push_str(
        "# Who may join: nobody, until you say so. `ask` lets devices wait for\n\
         # `usher registrar device approve`; rules stand in [[policy.rule]].\n\
         [policy]\ndefault = \"deny\"\n",
    );
    text
}
