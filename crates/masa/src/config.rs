//! The MASA's configuration: one TOML file, `USHER_MASA_…` variables above it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifacts::Tolerances;
use brski::SerialRule;
use brski::masa::{AuditTruncation, Devices, Pin, Policy};
use daemon::admin::AdminConfig;
use daemon::config::{Flags, IdentityConfig, KeyConfig, ListenConfig};
use daemon::logging::LogConfig;
use pki::path::Anchors;
use pki::{Certificate, Identity, Signer};
use serde::{Deserialize, Serialize};
use store::Store;
use store::audit::{Log, NoteKey};
use time::Duration;

use crate::Error;

/// The configuration of a MASA.
///
/// ```
/// let config = masa::Config::parse(r#"
///     [database]
///     url = "sqlite:masa.db"
///     [listen]
///     address = "127.0.0.1:9443"
///     [[identity]]
///     certificate = "tls.pem"
///     key = "tls.key"
///     [signing.nonced]
///     certificate = "voucher.pem"
///     key = "voucher.key"
///     [devices]
///     anchors = ["device-ca.pem"]
///     [audit]
///     origin = "masa.example.com/audit"
///     key = "audit.key"
/// "#, std::path::Path::new("/etc/usher"))?;
/// assert_eq!(config.database.url, "sqlite:/etc/usher/masa.db");
/// # Ok::<(), masa::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the register is.
    pub database: DatabaseConfig,
    /// Where registrars connect.
    #[serde(default)]
    pub listen: ListenConfig,
    /// Where operators connect: health, readiness, metrics.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
    /// TLS server certificates, most wanted first.
    #[serde(default)]
    pub identity: Vec<IdentityConfig>,
    /// What vouchers are signed with.
    pub signing: SigningConfig,
    /// The devices of this manufacturer.
    pub devices: DevicesConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// How requests are decided.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// The timeline.
    #[serde(default)]
    pub events: EventsConfig,
    /// Where alarms go.
    #[serde(default)]
    pub alarms: AlarmsConfig,
    /// Relative paths start here.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// The `[database]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:FILE` or `postgres://…`. A password belongs into `USHER_MASA_DATABASE__URL` or
    /// `~/.pgpass`, not into the file.
    pub url: String,
    /// Connections at once.
    #[serde(default = "connections")]
    pub connections_max: u32,
}

fn connections() -> u32 {
    16
}

/// The `[signing]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningConfig {
    /// For vouchers with a nonce, which are worthless after one use.
    pub nonced: IdentityConfig,
    /// For nonceless ones, which live long: another key (RFC 8995 §11.6.2). Without it none are
    /// issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonceless: Option<IdentityConfig>,
}

/// The `[devices]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesConfig {
    /// PEM files with the CAs under which IDevIDs were made.
    pub anchors: Vec<PathBuf>,
    /// PEM files with certificates between those and the devices.
    #[serde(default)]
    pub intermediates: Vec<PathBuf>,
    /// Where the serial number stands in an IDevID.
    #[serde(default)]
    pub serial: SerialRule,
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
    /// See [`KeyConfig::module`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
    /// The newest checkpoint is kept here too, outside the database.
    #[serde(default = "anchor")]
    pub anchor: PathBuf,
    /// How often a checkpoint is signed, if there is something new.
    #[serde(default = "seal_seconds")]
    pub seal_seconds: u64,
}

impl AuditConfig {
    /// Where the key is.
    #[must_use]
    pub fn key_config(&self) -> KeyConfig {
        KeyConfig {
            key: self.key.clone(),
            passphrase_file: self.passphrase_file.clone(),
            passphrase_env: self.passphrase_env.clone(),
            module: self.module.clone(),
        }
    }
}

fn anchor() -> PathBuf {
    PathBuf::from("audit.checkpoint")
}

fn seal_seconds() -> u64 {
    5
}

/// Whether registrars have to show a TLS client certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificate {
    /// It is asked for, and used if it is shown (RFC 8995 §5.4).
    #[default]
    Optional,
    /// Without one nothing is answered.
    Required,
}

/// Whose certificates are looked up in the CRLs that they name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationCheck {
    /// Nobody's.
    Off,
    /// Those of registered owners.
    #[default]
    Owners,
    /// Everybody's: the MASA then connects to whatever place a stranger's certificate names.
    All,
}

/// The `[policy]` section. The defaults are those of [`Policy`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Whether registrars have to show a TLS client certificate.
    pub client_certificate: ClientCertificate,
    /// Which certificate is pinned for owners without a rule of their own.
    pub pin: Pin,
    /// The same for vouchers in COSE with a nonce.
    pub constrained_pin: Pin,
    /// Whether a pledge that names its registrar by key, or by its hash, gets just that pinned.
    pub key_pins: bool,
    /// Oldest `created-on` of a request, in seconds; 0 ignores it.
    pub request_age_seconds_max: u32,
    /// Whether registrars that no owner registered get nonced vouchers.
    pub unknown_registrars: bool,
    /// Whether a nonced request has to carry the pledge's own.
    pub prior_required: bool,
    /// Whether a device that nobody bought goes to the first domain that asks.
    pub first_come: bool,
    /// Lifetime of a nonceless voucher that a registrar asked for.
    pub voucher_lifetime_seconds: u32,
    /// Whose certificates are looked up in CRLs.
    pub revocation: RevocationCheck,
    /// Whether a registrar is refused whose CRL cannot be had.
    pub revocation_required: bool,
    /// Entries of a device's audit log that are sent at most.
    pub audit_events_max: usize,
    /// Names of tolerances towards registrars (see docs); empty is strict.
    pub tolerances: Vec<String>,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let policy = Policy::default();
        let seconds =
            |duration: Duration| u32::try_from(duration.whole_seconds()).unwrap_or(u32::MAX);
        Self {
            client_certificate: ClientCertificate::Optional,
            pin: policy.pin,
            constrained_pin: policy.constrained_pin,
            key_pins: policy.key_pins,
            request_age_seconds_max: policy.request_age_max.map_or(0, seconds),
            unknown_registrars: policy.unknown_registrars,
            prior_required: policy.prior_required,
            first_come: policy.first_come,
            voucher_lifetime_seconds: seconds(policy.voucher_lifetime),
            revocation: RevocationCheck::Owners,
            revocation_required: policy.revocation_required,
            audit_events_max: AuditTruncation::default().events_max,
            tolerances: Vec::new(),
        }
    }
}

impl PolicyConfig {
    /// As [`brski::masa`] wants it.
    ///
    /// # Errors
    /// When a tolerance is not known.
    pub fn policy(&self) -> Result<Policy, Error> {
        let tolerances = Tolerances::from_names(self.tolerances.iter().map(String::as_str))
            .map_err(|name| Error::Usage(format!("there is no tolerance {name:?}")))?;
        let age = i64::from(self.request_age_seconds_max);
        Ok(Policy {
            pin: self.pin,
            constrained_pin: self.constrained_pin,
            key_pins: self.key_pins,
            request_age_max: (age > 0).then(|| Duration::seconds(age)),
            unknown_registrars: self.unknown_registrars,
            prior_required: self.prior_required,
            first_come: self.first_come,
            voucher_lifetime: Duration::seconds(i64::from(self.voucher_lifetime_seconds)),
            revocation_required: self.revocation_required,
            tolerances,
        })
    }

    /// How a device's audit log is abridged.
    #[must_use]
    pub fn truncation(&self) -> AuditTruncation {
        AuditTruncation {
            events_max: self.audit_events_max,
            ..AuditTruncation::default()
        }
    }
}

/// The `[alarms]` section. Without a webhook, alarms wait in the database and are shown by
/// `usher masa device show` and `doctor`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmsConfig {
    /// An `https` URL that takes each alarm as a JSON POST and answers 2xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// PEM file with the CA of that server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchors: Option<PathBuf>,
    /// File whose first line is sent as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// The `[events]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Rows of the timeline that are kept; the oldest go first.
    pub rows_max: u64,
    /// Days after which a row goes.
    pub days_max: u32,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            rows_max: 1_000_000,
            days_max: 400,
        }
    }
}

/// What vouchers are signed with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For vouchers with a nonce.
    pub nonced: Arc<Identity>,
    /// For nonceless ones.
    pub nonceless: Option<Arc<Identity>>,
}

impl Config {
    /// Reads a file and the variables.
    ///
    /// # Errors
    /// When the file is not there or something in it is wrong.
    pub fn load(file: &Path, flags: &Flags) -> Result<Self, Error> {
        let loaded = daemon::config::load::<Self>(Some(file), "masa", flags)?;
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

    /// The keys that sign vouchers.
    ///
    /// # Errors
    /// When one cannot be read, or both classes share one key.
    pub fn keys(&self) -> Result<Keys, Error> {
        let nonced = self.signing.nonced.load(&self.directory)?;
        let nonceless = self
            .signing
            .nonceless
            .as_ref()
            .map(|one| one.load(&self.directory))
            .transpose()?;
        // BRSKI-11.6.2-01: "long-lived nonceless vouchers [are] signed with a different key".
        let shared = nonceless
            .as_ref()
            .is_some_and(|one| one.signer.public_key() == nonced.signer.public_key());
        if shared {
            let text = "[signing.nonceless] needs another key than [signing.nonced]";
            return Err(Error::Usage(text.to_owned()));
        }
        Ok(Keys {
            nonced: Arc::new(nonced),
            nonceless: nonceless.map(Arc::new),
        })
    }

    /// The TLS identities of the server.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn identities(&self) -> Result<Vec<Identity>, Error> {
        Ok(self
            .identity
            .iter()
            .map(|one| one.load(&self.directory))
            .collect::<Result<Vec<_>, _>>()?)
    }

    /// The device PKI.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn device_pki(&self) -> Result<Devices, Error> {
        let read = |paths: &[PathBuf]| -> Result<Vec<Certificate>, Error> {
            let mut all = Vec::new();
            for path in paths {
                let path = self.resolve(path);
                all.extend(Certificate::load_all(&path).map_err(|e| Error::malformed(&path, e))?);
            }
            Ok(all)
        };
        let anchors: Anchors = read(&self.devices.anchors)?.into_iter().collect();
        Ok(Devices {
            anchors,
            intermediates: read(&self.devices.intermediates)?,
            serial: self.devices.serial.clone(),
        })
    }

    /// The audit log over a database.
    ///
    /// # Errors
    /// When the key cannot be read or is not Ed25519.
    pub fn audit_log(&self, store: &Store) -> Result<Log, Error> {
        let signer: Arc<dyn Signer> = self.audit.key_config().load(&self.directory)?;
        let log = Log::new(store.clone(), &self.audit.origin, signer)?;
        Ok(log.with_anchor(self.resolve(&self.audit.anchor)))
    }

    /// The audit log for reading, with a public key of the caller's.
    #[must_use]
    pub fn audit_reader(&self, store: &Store, key: NoteKey) -> Log {
        Log::reader(store.clone(), key).with_anchor(self.resolve(&self.audit.anchor))
    }
}
