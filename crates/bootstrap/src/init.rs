//! `usher bootstrap init`: a folder with everything that a bootstrap server needs to start.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::config::KeyConfig;
use daemon::folder::{Folder, escape, quoted, with_names};
use pki::issue::{CertificateBuilder, Profile};
use pki::{Certificate, CsrBuilder, Identity, KeyKind, Signer, SoftwareKey};
use serde::Serialize;
use store::Store;
use store::audit::NoteKey;
use time::{Duration, OffsetDateTime};

use crate::{Config, Error, SCHEMA};

/// Lifetime of the CAs. Vouchers pin the owner's, and live no longer.
const CA_LIFETIME: Duration = Duration::days(20 * 365);
/// Lifetime of the owner certificate; `usher bootstrap owner renew` makes the next one.
pub(crate) const OWNER_LIFETIME: Duration = Duration::days(5 * 365);
/// Lifetime of the TLS servers' certificates.
const SERVER_LIFETIME: Duration = Duration::days(2 * 365);
/// What [`init`] makes.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The folder; it is made if it is not there.
    pub directory: PathBuf,
    /// The owner, in the subjects of the certificates.
    pub owner: String,
    /// DNS names and addresses of the server.
    pub names: Vec<String>,
    /// Where devices connect.
    pub listen: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The database: `sqlite:FILE` or `postgres://…`.
    pub database: String,
    /// The kind of the owner's keys and of the first TLS key.
    pub key: KeyKind,
    /// Make an RSA certificate for the server too, for devices that know nothing else.
    pub rsa: bool,
    /// The owner's CA is elsewhere: make requests for it instead of certificates.
    pub owner_csr: bool,
    /// The owner's key is an object in a token, which is there already.
    pub owner_key: Option<KeyConfig>,
    /// First line is the passphrase for the keys. Without it they are readable by their owner only.
    pub passphrase_file: Option<PathBuf>,
    /// Name of the audit log; by default the first name of the server with `/audit`.
    pub audit_origin: Option<String>,
}

impl InitOptions {
    /// P-256 and RSA keys, SQLite, an owner CA, loopback and free ports.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            owner: "Usher Owner".to_owned(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: "sqlite:bootstrap.db".to_owned(),
            key: KeyKind::EcdsaP256,
            rsa: true,
            owner_csr: false,
            owner_key: None,
            passphrase_file: None,
            audit_origin: None,
        }
    }
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    /// The configuration.
    pub config: PathBuf,
    /// The owner's CA, which vouchers pin; absent if it is elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_ca: Option<PathBuf>,
    /// SHA-256 of that certificate, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_ca_sha256: Option<String>,
    /// Requests for the owner's CA, if it is elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<PathBuf>,
    /// The CA of the TLS servers, for redirects and for devices that are given it.
    pub server_ca: PathBuf,
    /// SHA-256 of that certificate, in hex.
    pub server_ca_sha256: String,
    /// The folder with an example of content.
    pub content: PathBuf,
    /// The public key of the audit log.
    pub audit_key: String,
    /// Whether the keys are encrypted.
    pub keys_encrypted: bool,
}

/// Makes the folder: keys, certificates, configuration, database, example content.
///
/// # Errors
/// When something is there already or cannot be written.
pub async fn init(options: &InitOptions, now: OffsetDateTime) -> Result<Initialised, Error> {
    let directory = std::path::absolute(&options.directory)
        .map_err(|error| Error::file(&options.directory, error))?;
    let config = directory.join("bootstrap.toml");
    if config.exists() {
        return Err(Error::Exists {
            what: "file",
            name: config.display().to_string(),
            detail: "; nothing was changed".to_owned(),
        });
    }
    if options.listen == options.admin && options.listen.port() != 0 {
        let text = "devices and operators need different addresses";
        return Err(Error::Usage(text.to_owned()));
    }
    let folder = Folder::make(&directory, options.passphrase_file.as_deref())?;
    for name in ["vendors.d", "profiles.d", "images"] {
        folder.folder(name)?;
    }
    let owner_key = owner_key(&folder, options)?;
    let ra_key = SoftwareKey::generate(options.key)?;
    folder.write_key("ra.key", &ra_key)?;
    let mut owner_ca = None;
    let mut requests = Vec::new();
    if options.owner_csr {
        let each: [(&str, &str, &dyn Signer); 2] = [
            ("owner", "Owner Certificate", owner_key.as_ref()),
            ("ra", "Registration Authority", &ra_key),
        ];
        for (stem, common_name, key) in each {
            let file = format!("{stem}.csr");
            let name = pki::issue::name(&subject(options, common_name))?;
            let request = CsrBuilder::new(name).sign(key)?;
            folder.write(&file, request.to_pem().as_bytes(), 0o644)?;
            requests.push(directory.join(&file));
        }
    } else {
        let ca = root(&folder, options, "owner-ca", "Owner CA", now)?;
        let owner = certificate(
            options,
            // SZTP-8572-3.2-01: the key usage has digitalSignature; this profile has it, and no
            // extended purpose.
            Profile::Owner,
            "Owner Certificate",
            owner_key.as_ref(),
            now + OWNER_LIFETIME,
            now,
        )?;
        folder.issue(&ca, "owner", &owner)?;
        let ra = certificate(
            options,
            Profile::Registrar,
            "Registration Authority",
            &ra_key,
            now + OWNER_LIFETIME,
            now,
        )?;
        folder.issue(&ca, "ra", &ra)?;
        owner_ca = ca.certificate().cloned();
    }
    // Another CA than the owner's: who gets at a web server's key shall not be able to sign what
    // devices believe to come from their owner.
    let server_ca = root(&folder, options, "server-ca", "Bootstrap Server CA", now)?;
    server(&folder, options, &server_ca, "tls", options.key, now)?;
    if options.rsa {
        server(
            &folder,
            options,
            &server_ca,
            "tls-rsa",
            KeyKind::Rsa3072,
            now,
        )?;
    }
    let audit = SoftwareKey::generate(KeyKind::Ed25519)?;
    folder.write_key("audit.key", &audit)?;
    let first = options.names.first().map_or("bootstrap", String::as_str);
    let origin = options
        .audit_origin
        .clone()
        .unwrap_or_else(|| format!("{first}/audit"));
    let audit_key = NoteKey::of(&origin, &audit)?.to_string();
    folder.write("audit.pub", format!("{audit_key}\n").as_bytes(), 0o644)?;
    let server_pem = server_ca.certificate().map(Certificate::to_pem);
    crate::cli::example::write(
        &folder,
        first,
        options.listen.port(),
        &server_pem.unwrap_or_default(),
    )?;
    let text = config_text(options, &folder, &origin);
    let parsed = Config::parse(&text, &directory)?;
    Store::migrate(&parsed.database.url, &SCHEMA, now).await?;
    // The configuration comes last: with it there, the folder is complete.
    folder.write("bootstrap.toml", text.as_bytes(), 0o640)?;
    let hash = |certificate: &Certificate| hex::encode(certificate.sha256());
    Ok(Initialised {
        config,
        owner_ca_sha256: owner_ca.as_ref().map(hash),
        owner_ca: owner_ca.map(|_| directory.join("owner-ca.pem")),
        requests,
        server_ca: directory.join("server-ca.pem"),
        server_ca_sha256: server_ca.certificate().map(hash).unwrap_or_default(),
        content: directory.join("content"),
        audit_key,
        keys_encrypted: folder.is_encrypted(),
    })
}

fn owner_key(folder: &Folder, options: &InitOptions) -> Result<Arc<dyn Signer>, Error> {
    match &options.owner_key {
        Some(key) => Ok(key.load(folder.path())?),
        None => {
            let key = SoftwareKey::generate(options.key)?;
            folder.write_key("owner.key", &key)?;
            Ok(Arc::new(key))
        }
    }
}

fn subject(options: &InitOptions, common_name: &str) -> String {
    let owner = escape(&options.owner);
    format!("CN={},O={owner}", escape(common_name))
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

fn certificate(
    options: &InitOptions,
    profile: Profile,
    common_name: &str,
    key: &dyn Signer,
    not_after: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<CertificateBuilder, Error> {
    let subject = subject(options, common_name);
    let key = key.public_key();
    Ok(daemon::folder::certificate(
        profile, &subject, key, not_after, now,
    )?)
}

fn server(
    folder: &Folder,
    options: &InitOptions,
    ca: &Identity,
    stem: &str,
    kind: KeyKind,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let key = SoftwareKey::generate(kind)?;
    let first = options.names.first().map_or("bootstrap", String::as_str);
    let until = now + SERVER_LIFETIME;
    let builder = certificate(options, Profile::TlsServer, first, &key, until, now)?;
    folder.issue(ca, stem, &with_names(builder, &options.names))?;
    Ok(folder.write_key(&format!("{stem}.key"), &key)?)
}

fn config_text(options: &InitOptions, folder: &Folder, origin: &str) -> String {
    let path = |file: &Path| quoted(&file.display().to_string());
    let secret = folder.passphrase_line();
    let owner_key = match &options.owner_key {
        None => format!("key = \"owner.key\"\n{secret}"),
        Some(key) => {
            let mut text = format!("key = {}\n", quoted(&key.key));
            for (name, file) in [
                ("passphrase_file", &key.passphrase_file),
                ("module", &key.module),
            ] {
                if let Some(file) = file {
                    text.push_str(&format!("{name} = {}\n", path(file)));
                }
            }
            if let Some(name) = &key.passphrase_env {
                text.push_str(&format!("passphrase_env = {}\n", quoted(name)));
            }
            text
        }
    };
    let rsa = if options.rsa {
        format!("[[identity]]\ncertificate = \"tls-rsa.pem\"\nkey = \"tls-rsa.key\"\n{secret}\n")
    } else {
        String::new()
    };
    let first = options.names.first().map_or("localhost", String::as_str);
    let host = match first.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => first.to_owned(),
    };
    // A port that is chosen when the server starts cannot be announced.
    let base_url = match options.listen.port() {
        0 => "# base_url = \"https://HOST:PORT\"".to_owned(),
        port => format!("base_url = {}", quoted(&format!("https://{host}:{port}"))),
    };
    format!(
        "# The bootstrap server. docs/samples/bootstrap.toml names every field.\n\n\
         [database]\nurl = {database}\n\n\
         [listen]\naddress = {listen}\n\n\
         [admin]\naddress = {admin}\n\n\
         [[identity]]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n{secret}\n\
         {rsa}\
         # Signs what devices get. Vouchers pin the CA.\n\
         [owner]\ncertificate = \"owner.pem\"\nca = [\"owner-ca.pem\"]\n{owner_key}\n\
         [vendors]\ndirectory = \"vendors.d\"\n\n\
         [profiles]\ndirectory = \"profiles.d\"\n\n\
         [content]\nimages = \"images\"\n{base_url}\n\n\
         # What is shown to the MASAs that files in vendors.d name, for vouchers with a device's\n\
         # nonce. Take the marks away to use it.\n\
         # [masa]\n# certificate = \"ra.pem\"\n# key = \"ra.key\"\n\n\
         [audit]\norigin = {origin}\nkey = \"audit.key\"\n{secret}",
        database = quoted(&options.database),
        listen = quoted(&options.listen.to_string()),
        admin = quoted(&options.admin.to_string()),
        origin = quoted(origin),
    )
}
