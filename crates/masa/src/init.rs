//! `usher masa init`: a folder with everything that a MASA needs to start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::config::IdentityConfig;
use daemon::folder::{Folder, certificate, escape, quoted, with_names};
use pki::issue::Profile;
use pki::{Certificate, Identity, KeyKind, Signer as _, SoftwareKey};
use serde::Serialize;
use store::Store;
use store::audit::NoteKey;
use time::{Duration, OffsetDateTime};

use crate::{Config, Error, SCHEMA};

/// Lifetime of the CAs.
const CA_LIFETIME: Duration = Duration::days(30 * 365);
/// Lifetime of the certificates that sign vouchers: a voucher is worth nothing without it.
const SIGNER_LIFETIME: Duration = Duration::days(10 * 365);
/// Lifetime of the TLS server's certificate.
const SERVER_LIFETIME: Duration = Duration::days(2 * 365);
/// What [`init`] makes.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The folder; it is made if it is not there.
    pub directory: PathBuf,
    /// The manufacturer, in the subjects of the CAs.
    pub manufacturer: String,
    /// DNS names and addresses of the MASA.
    pub names: Vec<String>,
    /// Where registrars connect.
    pub listen: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The database: `sqlite:FILE` or `postgres://…`.
    pub database: String,
    /// The kind of the CA's and the voucher keys.
    pub key: KeyKind,
    /// The kind of the TLS server's key.
    pub tls_key: KeyKind,
    /// PEM files with the CAs of the devices. Without any, a device CA is made for trials.
    pub device_anchors: Vec<PathBuf>,
    /// First line is the passphrase for the keys. Without it they are readable by their owner only.
    pub passphrase_file: Option<PathBuf>,
    /// Name of the audit log; by default the first name of the MASA with `/audit`.
    pub audit_origin: Option<String>,
}

impl InitOptions {
    /// P-256 keys, SQLite, a device CA for trials, loopback and free ports.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            manufacturer: "Usher Manufacturer".to_owned(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: "sqlite:masa.db".to_owned(),
            key: KeyKind::EcdsaP256,
            tls_key: KeyKind::EcdsaP256,
            device_anchors: Vec::new(),
            passphrase_file: None,
            audit_origin: None,
        }
    }
}

/// What was made, for whoever has to put it into firmware and registrars.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    /// The configuration.
    pub config: PathBuf,
    /// The CA of vouchers and of the TLS server: it goes into each device's firmware.
    pub masa_ca: PathBuf,
    /// SHA-256 of that certificate, in hex.
    pub masa_ca_sha256: String,
    /// CAs of the devices.
    pub device_anchors: Vec<PathBuf>,
    /// The public key of the audit log.
    pub audit_key: String,
    /// Whether the keys are encrypted.
    pub keys_encrypted: bool,
}

/// Makes the folder: keys, certificates, configuration, database.
///
/// # Errors
/// When something is there already or cannot be written.
pub async fn init(options: &InitOptions, now: OffsetDateTime) -> Result<Initialised, Error> {
    let directory = std::path::absolute(&options.directory)
        .map_err(|error| Error::file(&options.directory, error))?;
    let config = directory.join("masa.toml");
    if config.exists() {
        let name = config.display().to_string();
        let detail = "; nothing was changed".to_owned();
        return Err(Error::Exists {
            what: "file",
            name,
            detail,
        });
    }
    if options.listen == options.admin && options.listen.port() != 0 {
        let text = "registrars and operators need different addresses";
        return Err(Error::Usage(text.to_owned()));
    }
    let folder = Folder::make(&directory, options.passphrase_file.as_deref())?;
    let ca = root(&folder, options, "masa-ca", "MASA CA", now)?;
    let device_anchors = if options.device_anchors.is_empty() {
        root(&folder, options, "device-ca", "Device CA", now)?;
        vec![PathBuf::from("device-ca.pem")]
    } else {
        let absolute = |path: &PathBuf| {
            // Read them now: a wrong path is better found here than at the first device.
            Certificate::load_all(path).map_err(|error| Error::malformed(path, error))?;
            std::path::absolute(path).map_err(|error| Error::file(path, error))
        };
        options
            .device_anchors
            .iter()
            .map(absolute)
            .collect::<Result<_, Error>>()?
    };
    signer(&folder, options, &ca, "voucher", "Voucher Signer", now)?;
    signer(
        &folder,
        options,
        &ca,
        "voucher-nonceless",
        "Nonceless Voucher Signer",
        now,
    )?;
    server(&folder, options, &ca, now)?;
    let audit = SoftwareKey::generate(KeyKind::Ed25519)?;
    folder.write_key("audit.key", &audit)?;
    let origin = options.audit_origin.clone().unwrap_or_else(|| {
        format!(
            "{}/audit",
            options.names.first().map_or("masa", String::as_str)
        )
    });
    let audit_key = NoteKey::of(&origin, &audit)?.to_string();
    folder.write("audit.pub", format!("{audit_key}\n").as_bytes(), 0o644)?;
    let text = config_text(options, &folder, &device_anchors, &origin);
    let parsed = Config::parse(&text, &directory)?;
    Store::migrate(&parsed.database.url, &SCHEMA, now).await?;
    // The configuration comes last: with it there, the folder is complete.
    folder.write("masa.toml", text.as_bytes(), 0o640)?;
    Ok(Initialised {
        config,
        masa_ca: directory.join("masa-ca.pem"),
        masa_ca_sha256: ca
            .certificate()
            .map(|c| hex::encode(c.sha256()))
            .unwrap_or_default(),
        device_anchors: device_anchors
            .iter()
            .map(|path| directory.join(path))
            .collect(),
        audit_key,
        keys_encrypted: folder.is_encrypted(),
    })
}

/// What [`trial_device`] made.
#[derive(Clone, Debug, Serialize)]
pub struct TrialDevice {
    /// Serial number.
    pub serial: String,
    /// The IDevID with the CA above it.
    pub idevid: PathBuf,
    /// Its key, not encrypted.
    pub key: PathBuf,
    /// The MASA URL inside.
    pub masa_url: String,
    /// Key identifier of its issuer, in hex.
    pub issuer: String,
}

/// Makes an IDevID under the device CA that [`init`] made for trials. A factory has its own CA and
/// makes its IDevIDs there.
///
/// # Errors
/// When there is no such CA in the configuration's folder, or a file is there already.
pub fn trial_device(
    config: &Config,
    serial_number: &str,
    masa_url: Option<&str>,
    directory: &Path,
    now: OffsetDateTime,
) -> Result<TrialDevice, Error> {
    let identity = IdentityConfig {
        certificate: "device-ca.pem".into(),
        key: "device-ca.key".to_owned(),
        ..config.signing.nonced.clone()
    };
    let ca = identity.load(&config.directory)?;
    let issuer = ca.certificate().ok_or(pki::Error::IdentityMismatch)?;
    let masa_url = match masa_url {
        Some(url) => url.to_owned(),
        None => {
            let server = config.identities()?;
            let names = server
                .first()
                .and_then(Identity::certificate)
                .map(Certificate::dns_names);
            let host = names.and_then(|names| names.into_iter().next());
            let host = host.unwrap_or_else(|| "localhost".to_owned());
            format!("{host}:{}", config.listen.address.port())
        }
    };
    let key = SoftwareKey::generate(KeyKind::EcdsaP256)?;
    let subject = format!("SERIALNUMBER={0},CN={0}", escape(serial_number));
    // BRSKI-2.3.1: no known end (RFC 5280 §4.1.2.5).
    let until = time::macros::datetime!(9999-12-31 23:59:59 UTC);
    let builder = certificate(Profile::Idevid, &subject, key.public_key(), until, now)?;
    let folder = Folder::make(directory, None)?;
    folder.issue(&ca, "idevid", &builder.masa_url(&masa_url))?;
    folder.write_key("idevid.key", &key)?;
    let issuer = issuer
        .subject_key_id()
        .unwrap_or_else(|| issuer.public_key().sha1_key_id().to_vec());
    Ok(TrialDevice {
        serial: serial_number.to_owned(),
        idevid: directory.join("idevid.pem"),
        key: directory.join("idevid.key"),
        masa_url,
        issuer: hex::encode(issuer),
    })
}

fn subject(options: &InitOptions, common_name: &str) -> String {
    let manufacturer = escape(&options.manufacturer);
    format!("CN={},O={manufacturer}", escape(common_name))
}

fn root(
    folder: &Folder,
    options: &InitOptions,
    stem: &str,
    common_name: &str,
    now: OffsetDateTime,
) -> Result<Identity, Error> {
    let subject = subject(options, common_name);
    Ok(folder.root(stem, options.key, &subject, now + CA_LIFETIME, now)?)
}

fn signer(
    folder: &Folder,
    options: &InitOptions,
    ca: &Identity,
    stem: &str,
    common_name: &str,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let key = SoftwareKey::generate(options.key)?;
    let (subject, until) = (subject(options, common_name), now + SIGNER_LIFETIME);
    let builder = certificate(Profile::MasaSigner, &subject, key.public_key(), until, now)?;
    folder.issue(ca, stem, &builder)?;
    Ok(folder.write_key(&format!("{stem}.key"), &key)?)
}

fn server(
    folder: &Folder,
    options: &InitOptions,
    ca: &Identity,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let key = SoftwareKey::generate(options.tls_key)?;
    let first = options.names.first().map_or("masa", String::as_str);
    let (subject, until) = (subject(options, first), now + SERVER_LIFETIME);
    let builder = certificate(Profile::TlsServer, &subject, key.public_key(), until, now)?;
    folder.issue(ca, "tls", &with_names(builder, &options.names))?;
    Ok(folder.write_key("tls.key", &key)?)
}

fn config_text(
    options: &InitOptions,
    folder: &Folder,
    device_anchors: &[PathBuf],
    origin: &str,
) -> String {
    let secret = folder.passphrase_line();
    let anchors: Vec<String> = device_anchors
        .iter()
        .map(|path| quoted(&path.display().to_string()))
        .collect();
    format!(
        "# The MASA. docs/samples/masa.toml names every field.\n\n\
         [database]\nurl = {database}\n\n\
         [listen]\naddress = {listen}\n\n\
         [admin]\naddress = {admin}\n\n\
         [[identity]]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n{secret}\n\
         # Vouchers with a nonce, and nonceless ones under another key.\n\
         [signing.nonced]\ncertificate = \"voucher.pem\"\nkey = \"voucher.key\"\n{secret}\n\
         [signing.nonceless]\ncertificate = \"voucher-nonceless.pem\"\n\
         key = \"voucher-nonceless.key\"\n{secret}\n\
         # The CAs under which IDevIDs are made.\n\
         [devices]\nanchors = [{anchors}]\n\n\
         [audit]\norigin = {origin}\nkey = \"audit.key\"\n{secret}",
        database = quoted(&options.database),
        listen = quoted(&options.listen.to_string()),
        admin = quoted(&options.admin.to_string()),
        anchors = anchors.join(", "),
        origin = quoted(origin),
    )
}
