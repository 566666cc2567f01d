//! `usher registrar init`: everything that a first day needs, in one folder.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use daemon::Outcome;
use pki::issue::{AltName, CertificateBuilder, Profile};
use pki::{Certificate, KeyKind, Signer, SoftwareKey};
use store::Store;
use time::{Duration, OffsetDateTime};

use super::Context;
use crate::Error;

/// Lifetime of the domain CA.
const CA_LIFETIME: Duration = Duration::days(20 * 365);
/// Lifetime of the registrar's certificate.
const REGISTRAR_LIFETIME: Duration = Duration::days(2 * 365);
/// Certificates begin a little before now, for peers whose clock is late.
const BACKDATE: Duration = Duration::hours(1);

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
    folder.write_key("audit.key", &SoftwareKey::generate(KeyKind::Ed25519)?)?;
    // The configuration comes last: with it there, the folder is complete.
    let text = config_text(arguments, &pairs, folder.passphrase_file.as_deref());
    let config = crate::Config::parse(&text, &directory)?;
    Store::migrate(&config.database.url, &crate::schema::SCHEMA, now).await?;
    folder.write("registrar.toml", text.as_bytes(), 0o640)?;
    let answer = serde_json::json!({
        "ok": true,
        "config": config_file,
        "domain_ca": directory.join("domain-ca.pem"),
        "domain_ca_sha256": hex::encode(ca.certificate.sha256()),
        "vendors": directory.join("vendors.d"),
        "keys_encrypted": folder.passphrase.is_some(),
    });
    context.format.print(&answer, |_| {
        format!(
            "made {}\n\ndomain CA  {}\n           sha256 {}\n\nnext:\n  \
             usher registrar --config {config} trust import FILE --vendor NAME\n  \
             usher registrar --config {config} doctor\n  \
             usher registrar --config {config} serve",
            directory.display(),
            directory.join("domain-ca.pem").display(),
            hex::encode(ca.certificate.sha256()),
            config = config_file.display(),
        )
    });
    Ok(Outcome::Yes)
}

/// The folder that is being filled.
struct Folder {
    path: PathBuf,
    passphrase: Option<String>,
    passphrase_file: Option<PathBuf>,
}

impl Folder {
    fn make(path: &Path, passphrase_file: Option<&Path>) -> Result<Self, Error> {
        let vendors = path.join("vendors.d");
        std::fs::create_dir_all(&vendors).map_err(|error| Error::file(&vendors, &error))?;
        let passphrase_file = passphrase_file
            .map(|file| std::path::absolute(file).map_err(|error| Error::file(file, &error)))
            .transpose()?;
        let passphrase = match &passphrase_file {
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))?;
                let line = text.lines().next().unwrap_or_default().to_owned();
                if line.is_empty() {
                    return Err(Error::Config {
                        detail: format!("{}: the passphrase is empty", file.display()),
                    });
                }
                Some(line)
            }
            None => None,
        };
        Ok(Self {
            path: path.to_path_buf(),
            passphrase,
            passphrase_file,
        })
    }

    /// Writes a new file; one that is there is not overwritten, it may be somebody's only key.
    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let path = self.path.join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(|error| Error::file(&path, &error))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| Error::file(&path, &error))
    }

    fn write_key(&self, name: &str, key: &SoftwareKey) -> Result<(), Error> {
        let pem = match &self.passphrase {
            Some(passphrase) => key.to_encrypted_pkcs8_pem(passphrase)?,
            None => key.to_pkcs8_pem()?,
        };
        self.write(name, pem.as_bytes(), 0o600)
    }
}

struct Ca {
    certificate: Certificate,
    key: Arc<SoftwareKey>,
}

fn make_ca(folder: &Folder, arguments: &Arguments, now: OffsetDateTime) -> Result<Ca, Error> {
    let key = SoftwareKey::generate(arguments.key.into())?;
    let subject = pki::issue::name(&format!("CN={} CA", escape(&arguments.domain)))?;
    let certificate = CertificateBuilder::new(
        Profile::RootCa,
        subject,
        key.public_key().clone(),
        rand::random(),
        now - BACKDATE,
        now + CA_LIFETIME,
    )
    .self_sign(&key)?;
    folder.write("domain-ca.pem", certificate.to_pem().as_bytes(), 0o644)?;
    folder.write_key("domain-ca.key", &key)?;
    Ok(Ca {
        certificate,
        key: Arc::new(key),
    })
}

/// Makes a registrar's key and certificate, and gives the stem of their file names.
fn make_registrar(
    folder: &Folder,
    arguments: &Arguments,
    ca: &Ca,
    stem: &str,
    kind: KeyKind,
    now: OffsetDateTime,
) -> Result<String, Error> {
    let key = SoftwareKey::generate(kind)?;
    let first = arguments.names.first().map_or("registrar", String::as_str);
    let subject = pki::issue::name(&format!("CN={}", escape(first)))?;
    let mut builder = CertificateBuilder::new(
        Profile::Registrar,
        subject,
        key.public_key().clone(),
        rand::random(),
        now - BACKDATE,
        now + REGISTRAR_LIFETIME,
    );
    for name in &arguments.names {
        builder = match name.parse::<IpAddr>() {
            Ok(address) => builder.alt_name(AltName::Ip(address)),
            Err(_) => builder.dns_name(name),
        };
    }
    let certificate = builder.issue(&ca.certificate, ca.key.as_ref())?;
    folder.write(
        &format!("{stem}.pem"),
        certificate.to_pem().as_bytes(),
        0o644,
    )?;
    folder.write_key(&format!("{stem}.key"), &key)?;
    Ok(stem.to_owned())
}

/// A value in an RFC 4514 name.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for (index, c) in text.trim().chars().enumerate() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') || (index == 0 && c == '#') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn config_text(arguments: &Arguments, pairs: &[String], passphrase: Option<&Path>) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let secret = passphrase.map_or_else(String::new, |file| {
        format!(
            "passphrase_file = {}\n",
            quoted(&file.display().to_string())
        )
    });
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
    if let Some(address) = arguments.coaps {
        text.push_str(&format!(
            "[coap]\nlisten = [{}]\n\n",
            quoted(&address.to_string())
        ));
    }
    text.push_str(
        "# Who may join: nobody, until you say so. `ask` lets devices wait for\n\
         # `usher registrar device approve`; rules stand in [[policy.rule]].\n\
         [policy]\ndefault = \"deny\"\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape(" Plain GmbH "), "Plain GmbH");
        assert_eq!(escape("#1, Big+Co"), "\\#1\\, Big\\+Co");
    }
}
