//! The registrar's one TOML file.
//!
//! Every field but the listeners' identity and the database has a safe default, so that new code
//! runs with an old file. Relative paths are relative to the folder the file stands in. No secret
//! stands in the file: keys, passphrases and passwords are named by path.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::admin::AdminConfig;
use daemon::config::{Flags, KeyConfig, ListenConfig};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::policy::PolicyConfig;

/// The whole configuration of a registrar.
///
/// The annotated sample in `docs/samples/registrar.toml` names every field.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where devices connect.
    #[serde(default)]
    pub listen: ListenConfig,
    /// The largest body of a voucher request or status report; a larger one is answered with 413.
    #[serde(default = "default_body_size_max_bytes")]
    pub body_size_max_bytes: usize,
    /// How many requests of devices are worked on at once. More wait, and are shed after a while.
    #[serde(default = "default_concurrency_max")]
    pub concurrency_max: usize,
    /// Where operators and monitoring connect.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Where the state is kept.
    pub database: Database,
    /// The certificates and keys of this registrar.
    pub identity: IdentityConfig,
    /// The folder of vendor profiles.
    #[serde(default)]
    pub vendors: Vendors,
    /// Who may join.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// How MASAs are called.
    #[serde(default)]
    pub masa: MasaClientConfig,
    /// What is asked of the history of a device.
    #[serde(default)]
    pub audit: AuditConfig,
    /// How long timelines are kept.
    #[serde(default)]
    pub retention: Retention,
    /// Switches for peers that follow older drafts. All are off.
    #[serde(default)]
    pub compatibility: Compatibility,
    /// What the server logs, and how.
    #[serde(default)]
    pub log: daemon::logging::LogConfig,
    /// The certification authority behind the registrar.
    #[serde(default)]
    pub ca: crate::ca::Config,
    /// The EST routes.
    #[serde(default)]
    pub est: crate::est::Config,
    /// Devices that speak CoAP over DTLS.
    #[serde(default)]
    pub coap: crate::coap::Config,
}

const fn default_body_size_max_bytes() -> usize {
    128 * 1024
}

const fn default_concurrency_max() -> usize {
    1024
}

/// The database.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:FILE` or `postgres://…`. A relative SQLite file is relative to the config file.
    pub url: String,
}

/// The certificates and keys of this registrar.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// Server identities, one for each kind of key. The one that a device saw signs the request to
    /// its MASA; the first one is shown to MASAs.
    pub tls: Vec<daemon::config::IdentityConfig>,
    /// Certificates of the domain: the anchors that LDevIDs and the registrar chain to.
    pub domain_ca: PathBuf,
    /// Which certificates of the chain travel in the voucher request, and so which can be pinned.
    #[serde(default)]
    pub pin: PinScope,
    /// Signs the checkpoints of the audit log; another key than those above. Made by `init`.
    pub audit_key: KeyConfig,
    /// The name of the audit log, as it stands in its checkpoints.
    #[serde(default = "default_audit_origin")]
    pub audit_origin: String,
    /// The newest checkpoint is kept in this file too, outside the database, so that a database
    /// that was set back is noticed.
    #[serde(default = "default_audit_anchor")]
    pub audit_anchor: PathBuf,
}

fn default_audit_anchor() -> PathBuf {
    PathBuf::from("audit.checkpoint")
}

fn default_audit_origin() -> String {
    "usher-registrar".to_owned()
}

/// Which certificates of the registrar's chain travel in the voucher request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinScope {
    /// The whole chain up to the domain CA: a voucher survives the renewal of the registrar's key.
    #[default]
    Chain,
    /// The registrar certificate only: the voucher is bound to this registrar.
    Registrar,
}

/// The folder of vendor profiles.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vendors {
    /// Each `*.toml` in it is one vendor.
    pub directory: PathBuf,
    /// Warn about a trust anchor this many days before it expires.
    pub expiry_warning_days: u32,
}

impl Default for Vendors {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("vendors.d"),
            expiry_warning_days: 90,
        }
    }
}

/// How MASAs are called.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MasaClientConfig {
    /// Time for name resolution, connection and TLS.
    pub connect_timeout_seconds: u64,
    /// Time for one whole exchange.
    pub timeout_seconds: u64,
    /// The largest answer that is read.
    pub response_size_max_bytes: usize,
    /// How many calls to one vendor's MASA run at once; one slow MASA holds back its own devices only.
    pub concurrency_max_per_vendor: usize,
    /// The Retry-After a device gets when its MASA could not be reached.
    pub retry_after_seconds: u32,
    /// Addresses of MASA hosts that the resolver does not know: `host = "address:port"`. The
    /// certificate is still checked against the host name.
    pub addresses: BTreeMap<String, SocketAddr>,
}

impl Default for MasaClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout_seconds: 10,
            timeout_seconds: 20,
            response_size_max_bytes: 512 * 1024,
            concurrency_max_per_vendor: 32,
            retry_after_seconds: 30,
            addresses: BTreeMap::new(),
        }
    }
}

/// What is asked of the history of a device ([RFC 8995 §5.8.3](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8.3)).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// What happens with the result.
    pub mode: AuditMode,
    /// Whether the log is fetched before the voucher is handed on, or after the device's telemetry
    /// (and at the latest before it enrols).
    pub when: AuditWhen,
    /// Base64 domainIDs of earlier owners that are fine. Our own always is.
    pub known_domain_ids: Vec<String>,
    /// Entries before this date (RFC 3339) are not looked at: the purchase date, for example.
    pub ignore_before: Option<String>,
    /// Whether entries of other domains are fine whoever they are.
    pub allow_foreign_domains: bool,
    /// Whether vouchers without a nonce are fine, our own included.
    pub allow_nonceless: bool,
    /// Whether a log that was shortened arbitrarily is fine.
    pub allow_arbitrary_truncation: bool,
    /// What is done if the MASA does not give out its log, or gives out one that cannot be read.
    pub if_unavailable: AuditUnavailable,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            mode: AuditMode::Enforce,
            when: AuditWhen::Telemetry,
            known_domain_ids: Vec::new(),
            ignore_before: None,
            allow_foreign_domains: false,
            allow_nonceless: false,
            allow_arbitrary_truncation: false,
            if_unavailable: AuditUnavailable::Refuse,
        }
    }
}

/// What happens with a history that breaks the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditMode {
    /// The device is refused and an alarm raised.
    #[default]
    Enforce,
    /// The breach is recorded, and the device goes on.
    Report,
    /// The log is not fetched.
    Off,
}

/// When the audit log is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditWhen {
    /// Before the voucher reaches the device.
    BeforeVoucher,
    /// After the voucher status, at the latest before enrolment.
    #[default]
    Telemetry,
}

/// What is done when there is no readable audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditUnavailable {
    /// The device does not enrol until a log was seen.
    #[default]
    Refuse,
    /// The device enrols, and the gap is recorded.
    Accept,
}

/// How long timelines are kept. Devices, vouchers and certificates are not touched.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Timeline entries older than this are dropped.
    pub timeline_days: u32,
    /// The newest entries kept for one device.
    pub entries_per_device: u32,
    /// The newest identities kept that no vendor profile vouches for; a stranger can invent as
    /// many as it likes.
    pub untrusted_devices: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            timeline_days: 400,
            entries_per_device: 500,
            untrusted_devices: 10_000,
        }
    }
}

/// Switches for peers that follow older drafts.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Compatibility {
    /// Also serve BRSKI under `/.well-known/est/`, as drafts before RFC 8995 did.
    pub legacy_est_paths: bool,
}

impl Config {
    /// Reads a file, applies `USHER_REGISTRAR_…` variables and flags, and makes its paths absolute.
    ///
    /// # Errors
    /// The file is missing, is not TOML, or has an unknown or wrong field.
    pub fn load(path: &Path, flags: &Flags) -> Result<Self, Error> {
        let loaded: daemon::config::Loaded<Self> =
            daemon::config::load(Some(path), "registrar", flags)?;
        let mut config = loaded.value;
        let base = std::path::absolute(&loaded.directory)
            .map_err(|error| Error::file(&loaded.directory, &error))?;
        config.anchor_paths(&base);
        config.check()?;
        Ok(config)
    }

    /// Parses the text of a file whose relative paths are relative to `base`.
    ///
    /// # Errors
    /// The text is not TOML, or has an unknown or wrong field.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Error> {
        let mut config: Self = daemon::config::parse(text)?;
        config.anchor_paths(base);
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        if self.identity.tls.is_empty() {
            return Err(Error::Config {
                detail: "[identity] needs at least one [[identity.tls]] with certificate and key"
                    .to_owned(),
            });
        }
        self.policy.check()?;
        self.coap.check()?;
        self.audit_ignore_before()?;
        Ok(())
    }

    /// The date before which audit log entries are not looked at.
    ///
    /// # Errors
    /// The field is not a date.
    pub fn audit_ignore_before(&self) -> Result<Option<time::OffsetDateTime>, Error> {
        self.audit
            .ignore_before
            .as_deref()
            .map(|text| {
                time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
                    .map_err(|error| Error::Config {
                        detail: format!("[audit] ignore_before is not an RFC 3339 date: {error}"),
                    })
            })
            .transpose()
    }

    fn anchor_paths(&mut self, base: &Path) {
        for pair in &mut self.identity.tls {
            pair.certificate = anchored(base, &pair.certificate);
            pair.key = anchored_key(base, &pair.key);
            pair.passphrase_file = pair.passphrase_file.as_deref().map(|p| anchored(base, p));
        }
        let audit_key = &mut self.identity.audit_key;
        audit_key.key = anchored_key(base, &audit_key.key);
        audit_key.passphrase_file = audit_key
            .passphrase_file
            .as_deref()
            .map(|path| anchored(base, path));
        self.identity.domain_ca = anchored(base, &self.identity.domain_ca);
        self.identity.audit_anchor = anchored(base, &self.identity.audit_anchor);
        self.vendors.directory = anchored(base, &self.vendors.directory);
        if let Some(file) = self.database.url.strip_prefix("sqlite:") {
            let file = anchored(base, Path::new(file));
            self.database.url = format!("sqlite:{}", file.display());
        }
        self.policy.anchor_paths(base);
        self.ca.anchor_paths(base);
        self.est.anchor_paths(base);
    }

    /// The time one exchange with a MASA may take.
    #[must_use]
    pub const fn masa_timeout(&self) -> Duration {
        Duration::from_secs(self.masa.timeout_seconds)
    }
}

/// `path` seen from `base`, unless it is absolute.
#[must_use]
pub fn anchored(base: &Path, path: &Path) -> PathBuf {
    if path.is_absolute() {
        path.to_path_buf()
    } else {
        base.join(path)
    }
}

/// A key file seen from `base`; the URI of a token's key stays what it is.
#[must_use]
pub fn anchored_key(base: &Path, key: &str) -> String {
    if key.starts_with("pkcs11:") {
        return key.to_owned();
    }
    anchored(base, Path::new(key))
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASIC: &str = include_str!("../../../docs/samples/registrar.toml");
    const ANNOTATED: &str = include_str!("../../../docs/samples/registrar-annotated.toml");
    const VENDOR: &str = include_str!("../../../docs/samples/vendor.toml");

    #[test]
    fn samples_are_configurations() {
        let base = Path::new("/etc/usher");
        let basic = Config::parse(BASIC, base).unwrap();
        assert_eq!(basic.database.url, "sqlite:/etc/usher/registrar.sqlite");
        assert_eq!(basic.identity.tls[0].key, "/etc/usher/registrar.key");
        let full = Config::parse(ANNOTATED, base).unwrap();
        assert_eq!(
            full.identity.tls[1].key,
            "pkcs11:token=usher;object=registrar-rsa"
        );
        assert_eq!(full.policy.rules.len(), 3);
        let vendor: crate::vendor::Profile = toml::from_str(VENDOR).unwrap();
        assert_eq!(vendor.name, "acme");
        artifacts::Tolerances::from_names(vendor.tolerances.iter().map(String::as_str)).unwrap();
    }

    /// The annotated sample says that it shows the defaults; what it marks as an example is not one.
    #[test]
    fn the_annotated_sample_shows_the_defaults() {
        let base = Path::new("/etc/usher");
        let full = Config::parse(ANNOTATED, base).unwrap();
        let basic = Config::parse(BASIC, base).unwrap();
        assert_eq!(full.body_size_max_bytes, basic.body_size_max_bytes);
        assert_eq!(full.concurrency_max, basic.concurrency_max);
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        assert_eq!(text(&full.retention), text(&basic.retention));
        assert_eq!(text(&full.compatibility), text(&basic.compatibility));
        assert_eq!(text(&full.vendors), text(&basic.vendors));
        let masa = MasaClientConfig {
            addresses: BTreeMap::new(),
            ..full.masa
        };
        assert_eq!(text(&masa), text(&basic.masa));
        let audit = AuditConfig {
            known_domain_ids: Vec::new(),
            ignore_before: None,
            ..full.audit
        };
        assert_eq!(text(&audit), text(&basic.audit));
        let policy = PolicyConfig {
            rules: Vec::new(),
            webhook: None,
            request_age_max_minutes: None,
            ..full.policy
        };
        assert_eq!(text(&policy), text(&PolicyConfig::default()));
        assert_eq!(text(&full.coap), text(&basic.coap));
    }

    #[test]
    fn a_configuration_with_a_mistake_names_it() {
        let base = Path::new("/");
        for (change, expected) in [
            ("[policy]\ndefault = \"perhaps\"", "policy.default"),
            ("[policy]\ndefualt = \"deny\"", "defualt"),
            ("[policy]\ndefault = \"webhook\"", "no [policy.webhook]"),
            (
                "[policy.webhook]\nurl = \"http://policy.example/\"",
                "has to be https",
            ),
            (
                "[policy.webhook]\nurl = \"https://policy.example/\"",
                "needs anchors",
            ),
            ("[coap]\nblock_size = 1000", "block_size is"),
            (
                "[coap]\nanswer_within_seconds = 60",
                "a join proxy waits for 30 s",
            ),
            (
                "[coap.discovery]\nlisten = [\"[::]:5683\"]",
                "nothing to point at",
            ),
            ("[coap]\nca_certificates_max = 0", "at least 1"),
            (
                "[audit]\nignore_before = \"yesterday\"",
                "not an RFC 3339 date",
            ),
            ("[surprise]\n", "surprise"),
        ] {
            let (kept, _) = BASIC.split_once("[policy]").unwrap();
            let error = Config::parse(&format!("{kept}{change}\n"), base)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{change}: {error}");
        }
        let (kept, rest) = BASIC.split_once("[[identity.tls]]").unwrap();
        let (_, rest) = rest.split_once("[identity.audit_key]").unwrap();
        let text = format!("{kept}tls = []\n[identity.audit_key]{rest}");
        let error = Config::parse(&text, base).unwrap_err().to_string();
        assert!(error.contains("at least one"), "{error}");
    }
}
