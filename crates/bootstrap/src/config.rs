//! The bootstrap server's configuration: one TOML file, `USHER_BOOTSTRAP_…` variables above it.
//!
//! Everything but the database has a default that is safe. No secret stands in the file: keys,
//! passphrases and passwords are named by path. Relative paths start at the folder of the file.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::admin::AdminConfig;
use daemon::config::{Flags, IdentityConfig, KeyConfig, ListenConfig};
use daemon::logging::LogConfig;
use pki::{Certificate, Identity};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The configuration of a bootstrap server.
///
/// ```
/// let config = bootstrap::Config::parse(r#"
///     [database]
///     url = "sqlite:bootstrap.db"
///     [listen]
///     address = "127.0.0.1:9543"
///     [[identity]]
///     certificate = "tls.pem"
///     key = "tls.key"
/// "#, std::path::Path::new("/etc/usher"))?;
/// assert_eq!(config.database.url, "sqlite:/etc/usher/bootstrap.db");
/// # Ok::<(), bootstrap::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What this server gives out.
    #[serde(default)]
    pub role: Role,
    /// Where everything is kept.
    pub database: DatabaseConfig,
    /// Where devices connect.
    #[serde(default)]
    pub listen: ListenConfig,
    /// A second listener for devices that cannot do better than TLS 1.2 with old signatures. Off
    /// if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyConfig>,
    /// Where operators connect: health, readiness, metrics.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
    /// TLS server certificates, most wanted first.
    #[serde(default)]
    pub identity: Vec<IdentityConfig>,
    /// The owner's certificate and key, which sign conveyed information. Without it, only unsigned
    /// data is given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerConfig>,
    /// The manufacturers whose devices are known.
    #[serde(default)]
    pub vendors: VendorsConfig,
    /// Device-type profiles beside the built-in ones.
    #[serde(default)]
    pub profiles: ProfilesConfig,
    /// What devices get.
    #[serde(default)]
    pub content: ContentConfig,
    /// How devices prove who they are.
    #[serde(default)]
    pub authentication: AuthenticationConfig,
    /// Where certificates for devices come from (RFC 9646). Off if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<CsrConfig>,
    /// How MASAs are asked for vouchers with a device's nonce. Off if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masa: Option<MasaConfig>,
    /// When a device counts as stuck.
    #[serde(default)]
    pub watch: WatchConfig,
    /// Where events go.
    #[serde(default)]
    pub events: crate::events::EventsConfig,
    /// The timeline.
    #[serde(default)]
    pub timeline: TimelineConfig,
    /// The audit log of what operators changed and what certificates were given out. Off if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditConfig>,
    /// Relative paths start here.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// What a server gives out ([RFC 8572 §1.2](https://www.rfc-editor.org/rfc/rfc8572.html#section-1.2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Both kinds of information.
    #[default]
    Both,
    /// Onboarding information only.
    Onboarding,
    /// Redirect information only: the server of a manufacturer that sends devices to their owners.
    Redirect,
}

impl Role {
    /// The same, as the protocol wants it.
    #[must_use]
    pub const fn roles(self) -> sztp::server::Roles {
        sztp::server::Roles {
            onboarding: self.onboards(),
            redirect: self.redirects(),
        }
    }

    /// Whether onboarding information is given out.
    #[must_use]
    pub const fn onboards(self) -> bool {
        matches!(self, Self::Both | Self::Onboarding)
    }

    /// Whether redirect information is given out.
    #[must_use]
    pub const fn redirects(self) -> bool {
        matches!(self, Self::Both | Self::Redirect)
    }
}

/// The `[database]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:FILE` or `postgres://…`. A password belongs into `USHER_BOOTSTRAP_DATABASE__URL` or
    /// `~/.pgpass`, not into the file.
    pub url: String,
    /// Connections at once.
    #[serde(default = "connections")]
    pub connections_max: u32,
}

fn connections() -> u32 {
    16
}

/// The `[legacy]` section: a listener of its own, whose weaker rules touch nobody else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LegacyConfig {
    /// Where those devices connect.
    #[serde(default)]
    pub listen: ListenConfig,
    /// TLS server certificates of this listener; RSA for devices that know nothing else.
    pub identity: Vec<IdentityConfig>,
    /// The folder of the manufacturers whose old devices may come here. Their anchors are believed
    /// on this listener only.
    pub vendors: PathBuf,
}

/// The `[owner]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerConfig {
    /// PEM file with the owner certificate and what is between it and the pinned certificate,
    /// leaf first.
    pub certificate: PathBuf,
    /// The private key; see [`KeyConfig::key`].
    pub key: String,
    /// See [`KeyConfig::passphrase_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// See [`KeyConfig::passphrase_env`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// See [`KeyConfig::module`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// PEM files with the owner's CA: what vouchers pin.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// CRL files that travel with the owner certificate.
    #[serde(default)]
    pub crls: Vec<PathBuf>,
}

impl OwnerConfig {
    /// Certificate and key.
    #[must_use]
    pub fn identity(&self) -> IdentityConfig {
        IdentityConfig {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            passphrase_file: self.passphrase_file.clone(),
            passphrase_env: self.passphrase_env.clone(),
            module: self.module.clone(),
        }
    }
}

/// The `[vendors]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VendorsConfig {
    /// Each `*.toml` in this folder is one manufacturer.
    pub directory: PathBuf,
}

impl Default for VendorsConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("vendors.d"),
        }
    }
}

/// The `[profiles]` section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfilesConfig {
    /// Each `*.toml` in this folder is one device type; it hides a built-in one of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// The profile of devices whose type is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// The `[content]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentConfig {
    /// Boot images that this server hosts are kept here.
    pub images: PathBuf,
    /// `https://host:port` under which devices reach this server, for the URLs of hosted images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Folders with YANG modules that those of a content folder may import.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub yang: Vec<PathBuf>,
    /// The program that validates against YANG modules: Debian's libyang2-tools has it.
    pub yanglint: PathBuf,
    /// What becomes of content with YANG modules where that program is missing.
    pub yanglint_missing: crate::content::check::Missing,
    /// Memory for what was made for devices, in MiB. What does not fit is read or made again.
    pub cache_mib: u32,
    /// Whether what is signed is made for all devices as soon as content changes, and not only
    /// when a device asks for it.
    pub prebuild: bool,
}

impl Default for ContentConfig {
    fn default() -> Self {
        Self {
            images: PathBuf::from("images"),
            base_url: None,
            yang: Vec::new(),
            yanglint: PathBuf::from("yanglint"),
            yanglint_missing: crate::content::check::Missing::Refuse,
            cache_mib: 256,
            prebuild: true,
        }
    }
}

/// The `[authentication]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthenticationConfig {
    /// Addresses of TLS-terminating proxies whose `Client-Cert` header (RFC 9440) is believed.
    /// From everybody else that header is ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<IpAddr>,
    /// Wrong passwords that one address may send in a minute; after that it is told to wait.
    pub failures_per_minute_max: u32,
}

impl Default for AuthenticationConfig {
    fn default() -> Self {
        Self {
            proxies: Vec::new(),
            failures_per_minute_max: 10,
        }
    }
}

/// The `[csr]` section: certificates for devices by RFC 9646, from a registrar's EST.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsrConfig {
    /// `https://host:port` of the EST server.
    pub url: String,
    /// The label under which it answers, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Connect here, whatever the host name resolves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// PEM files: the anchors of that server and of the certificates that it issues.
    pub anchors: Vec<PathBuf>,
    /// PEM file with the certificate, with id-kp-cmcRA in it, that this server shows there.
    pub certificate: PathBuf,
    /// Its key; see [`KeyConfig::key`].
    pub key: String,
    /// See [`KeyConfig::passphrase_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// See [`KeyConfig::passphrase_env`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// See [`KeyConfig::module`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// Refuse devices that can make requests, but none that is allowed here, instead of serving
    /// them without a certificate.
    #[serde(default)]
    pub required: bool,
    /// Whether devices may make a new key. Without it the key of the IDevID is certified.
    #[serde(default = "yes")]
    pub new_key: bool,
    /// Whether the key of the IDevID may be certified.
    #[serde(default = "yes")]
    pub identity_key: bool,
    /// Types of a new key, best first, such as `ec-p256`; all that are known if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// Formats of a request, best first: `p10-csr`, `cmc-csr`, `cmp-csr`. The last two show by
    /// themselves which device made them. `p10-csr` alone if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Time for one exchange with the EST server.
    #[serde(default = "authority_seconds")]
    pub timeout_seconds: u64,
}

const fn yes() -> bool {
    true
}

const fn authority_seconds() -> u64 {
    20
}

impl CsrConfig {
    /// What this server shows to the EST server.
    #[must_use]
    pub fn identity(&self) -> IdentityConfig {
        IdentityConfig {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            passphrase_file: self.passphrase_file.clone(),
            passphrase_env: self.passphrase_env.clone(),
            module: self.module.clone(),
        }
    }
}

/// The `[masa]` section: what this server shows to the MASAs that vendors' files name, when it asks
/// for a voucher with the nonce of a device that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MasaConfig {
    /// PEM file with a registrar's certificate (id-kp-cmcRA) under the owner's CA, and what is
    /// between.
    pub certificate: PathBuf,
    /// Its key; see [`KeyConfig::key`].
    pub key: String,
    /// See [`KeyConfig::passphrase_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// See [`KeyConfig::passphrase_env`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// See [`KeyConfig::module`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// Time for the whole exchange, while the device waits.
    #[serde(default = "masa_seconds")]
    pub timeout_seconds: u64,
}

const fn masa_seconds() -> u64 {
    10
}

impl MasaConfig {
    /// What this server shows to MASAs.
    #[must_use]
    pub fn identity(&self) -> IdentityConfig {
        IdentityConfig {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            passphrase_file: self.passphrase_file.clone(),
            passphrase_env: self.passphrase_env.clone(),
            module: self.module.clone(),
        }
    }
}

/// The `[watch]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// A device that began and was silent for so many minutes is stuck.
    pub stuck_minutes: u32,
    /// How often it is looked for such devices.
    pub period_seconds: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            stuck_minutes: 60,
            period_seconds: 30,
        }
    }
}

/// The `[timeline]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimelineConfig {
    /// Lines that are kept; the oldest go first.
    pub rows_max: u64,
    /// Days after which a line goes.
    pub days_max: u32,
    /// Lines of peers that nobody knows that are written down in one second, all addresses
    /// together; the rest is only counted.
    pub strangers_per_second_max: u32,
    /// The same for one address.
    pub strangers_per_second_and_address_max: u32,
}

impl Default for TimelineConfig {
    fn default() -> Self {
        Self {
            rows_max: 5_000_000,
            days_max: 400,
            strangers_per_second_max: 100,
            strangers_per_second_and_address_max: 10,
        }
    }
}

/// The `[audit]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Name of the log, like a URL without a scheme.
    pub origin: String,
    /// Ed25519 key that signs the log's checkpoints and nothing else; see [`KeyConfig::key`].
    pub key: String,
    /// See [`KeyConfig::passphrase_file`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// See [`KeyConfig::passphrase_env`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// The newest checkpoint is kept here too, outside the database.
    #[serde(default = "anchor")]
    pub anchor: PathBuf,
}

fn anchor() -> PathBuf {
    PathBuf::from("audit.checkpoint")
}

/// The owner's keys and certificates.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The owner certificate with what is above it, and its key.
    pub identity: Arc<Identity>,
    /// What vouchers pin.
    pub ca: Vec<Certificate>,
    /// CRLs that travel with the owner certificate.
    pub crls: Vec<pki::Crl>,
}

impl Config {
    /// Reads a file and the variables.
    ///
    /// # Errors
    /// When the file is not there or something in it is wrong.
    pub fn load(file: &Path, flags: &Flags) -> Result<Self, Error> {
        let loaded = daemon::config::load::<Self>(Some(file), "bootstrap", flags)?;
        Ok(loaded.value.at(&loaded.directory))
    }

    /// Reads TOML text whose paths start at a folder.
    ///
    /// # Errors
    /// When something in it is wrong.
    pub fn parse(toml: &str, directory: &Path) -> Result<Self, Error> {
        Ok(daemon::config::parse::<Self>(toml)?.at(directory))
    }

    fn at(mut self, directory: &Path) -> Self {
        self.directory = directory.to_owned();
        if let Some(path) = self.database.url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            self.database.url = format!("sqlite:{}", directory.join(path).display());
        }
        self
    }

    /// A path from the configuration.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// The TLS identities of the device listener.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn identities(&self) -> Result<Vec<Identity>, Error> {
        self.load_identities(&self.identity)
    }

    pub(crate) fn load_identities(&self, list: &[IdentityConfig]) -> Result<Vec<Identity>, Error> {
        Ok(list
            .iter()
            .map(|one| one.load(&self.directory))
            .collect::<Result<Vec<_>, _>>()?)
    }

    /// Certificates from several files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn certificates(&self, files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
        let mut all = Vec::new();
        for file in files {
            let path = self.resolve(file);
            all.extend(Certificate::load_all(&path).map_err(|e| Error::malformed(&path, e))?);
        }
        Ok(all)
    }

    /// The owner's keys and certificates, if this server signs.
    ///
    /// # Errors
    /// When a file cannot be read, or key and certificate do not belong together.
    pub fn load_owner(&self) -> Result<Option<Owner>, Error> {
        let Some(owner) = &self.owner else {
            return Ok(None);
        };
        let mut crls = Vec::new();
        for file in &owner.crls {
            let path = self.resolve(file);
            let bytes = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
            let crl = match std::str::from_utf8(&bytes) {
                Ok(text) if text.contains("-----BEGIN") => pki::Crl::from_pem(text),
                _ => pki::Crl::from_der(&bytes),
            };
            crls.push(crl.map_err(|error| Error::malformed(&path, error))?);
        }
        Ok(Some(Owner {
            identity: Arc::new(owner.identity().load(&self.directory)?),
            ca: self.certificates(&owner.ca)?,
            crls,
        }))
    }

    /// The audit log over a database, if there is one.
    ///
    /// # Errors
    /// When the key cannot be read or is not Ed25519.
    pub fn audit_log(&self, store: &store::Store) -> Result<Option<store::audit::Log>, Error> {
        let Some(audit) = &self.audit else {
            return Ok(None);
        };
        let key = KeyConfig {
            key: audit.key.clone(),
            passphrase_file: audit.passphrase_file.clone(),
            passphrase_env: audit.passphrase_env.clone(),
            module: None,
        };
        let signer = key.load(&self.directory)?;
        let log = store::audit::Log::new(store.clone(), &audit.origin, signer)?;
        Ok(Some(log.with_anchor(self.resolve(&audit.anchor))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../docs/samples/bootstrap.toml");

    /// The sample says that it shows the defaults; what it marks as an example is none.
    #[test]
    fn the_sample_is_a_configuration_and_shows_the_defaults() {
        let base = Path::new("/etc/usher");
        let sample = Config::parse(SAMPLE, base).unwrap();
        assert_eq!(sample.database.url, "sqlite:/etc/usher/bootstrap.db");
        let least = "[database]\nurl = \"sqlite:bootstrap.db\"\n";
        let least = Config::parse(least, base).unwrap();
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        assert_eq!(sample.role, least.role);
        assert_eq!(text(&sample.database), text(&least.database));
        assert_eq!(text(&sample.vendors), text(&least.vendors));
        assert_eq!(text(&sample.profiles), text(&least.profiles));
        assert_eq!(text(&sample.content), text(&least.content));
        assert_eq!(text(&sample.authentication), text(&least.authentication));
        assert_eq!(text(&sample.watch), text(&least.watch));
        assert_eq!(text(&sample.timeline), text(&least.timeline));
        assert_eq!(text(&sample.events), text(&least.events));
    }

    /// What is commented out in the sample can be switched on as it stands there.
    #[test]
    fn what_the_sample_has_in_comments_is_right_too() {
        let mut text = String::new();
        for line in SAMPLE.lines() {
            let open = line.strip_prefix("# ").filter(|rest| {
                let word = rest.split_whitespace().next().unwrap_or_default();
                rest.starts_with('[')
                    || (rest.split_whitespace().nth(1) == Some("=") && word.is_ascii())
            });
            text.push_str(open.unwrap_or(line));
            text.push('\n');
        }
        let config = Config::parse(&text, Path::new("/etc/usher")).unwrap();
        let csr = config.csr.unwrap();
        assert!(!csr.required && csr.new_key && csr.identity_key && csr.timeout_seconds == 20);
        assert_eq!(config.legacy.unwrap().listen.address.port(), 9545);
        assert_eq!(config.events.webhook.len(), 1);
    }
}
