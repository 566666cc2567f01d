//! Configuration: one TOML file per role, `USHER_<ROLE>_…` variables above it, flags above those.
//!
//! A variable names its key in capitals, with two underscores between levels:
//! `USHER_MASA_ADMIN__ADDRESS` is `address` in section `[admin]`. Secrets are never in the file;
//! it names the file or the variable that holds a passphrase or PIN.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use net::TlsVersions;
use net::server::{Limits, ListenerConfig, ServerIdentities};
use pki::{Certificate, Identity, Pkcs11Key, Signer, SoftwareKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A configuration and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// Relative paths in the file start here: the folder of the file, or the working folder.
    pub directory: PathBuf,
}

impl<T> Loaded<T> {
    /// A path from the configuration, made absolute or relative to the working folder.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}

/// Values from the command line, which stand above file and environment.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<(String, figment::value::Value)>);

impl Flags {
    /// No flags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key (`admin.address`) if the flag was given.
    ///
    /// # Errors
    /// [`Error::Config`] if the value has no form in a configuration.
    pub fn set(mut self, key: &str, value: Option<impl Serialize>) -> Result<Self, Error> {
        if let Some(value) = value {
            let value = figment::value::Value::serialize(value).map_err(|error| Error::Config {
                file: "command line".to_owned(),
                reason: error.to_string(),
            })?;
            self.0.push((key.to_owned(), value));
        }
        Ok(self)
    }
}

/// Reads a role's configuration. `role` is in lower case (`masa`); without a file, the variables
/// and flags alone have to be enough.
///
/// # Errors
/// [`Error::ConfigMissing`] if the file is not there, [`Error::Config`] with the key's name if
/// something in it is wrong.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    role: &str,
    flags: &Flags,
) -> Result<Loaded<T>, Error> {
    let mut figment = Figment::new();
    let mut directory = PathBuf::new();
    if let Some(file) = file {
        if !file.is_file() {
            return Err(Error::ConfigMissing(file.to_owned()));
        }
        figment = figment.merge(Toml::file_exact(file));
        directory = folder_of(file);
    }
    let prefix = format!("USHER_{}_", role.to_ascii_uppercase());
    // USHER_MASA_CONFIG names the file itself and is read by the command line.
    figment = figment.merge(Env::prefixed(&prefix).ignore(&["config"]).split("__"));
    for (key, value) in &flags.0 {
        figment = figment.merge(Serialized::default(key, value));
    }
    let value = figment.extract().map_err(|error| Error::Config {
        file: file.map_or_else(
            || "from variables".to_owned(),
            |file| file.display().to_string(),
        ),
        reason: explain(&error),
    })?;
    Ok(Loaded { value, directory })
}

/// The folder in which a file stands. That of a bare name is `.`: the empty path that `parent`
/// answers cannot be opened or made absolute.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Reads a configuration from TOML text, without variables: for samples and tests.
///
/// # Errors
/// [`Error::Config`] with the key's name if something in it is wrong.
pub fn parse<T: DeserializeOwned>(toml: &str) -> Result<T, Error> {
    Figment::from(Toml::string(toml))
        .extract()
        .map_err(|error| Error::Config {
            file: "text".to_owned(),
            reason: explain(&error),
        })
}

fn explain(error: &figment::Error) -> String {
    let each: Vec<String> = error
        .clone()
        .into_iter()
        .map(|one| {
            let source = one
                .metadata
                .as_ref()
                .filter(|metadata| metadata.name.contains("environment"))
                .map_or("", |_| " (from the environment)");
            match one.path.is_empty() {
                true => format!("{}{source}", one.kind),
                false => format!("{}: {}{source}", one.path.join("."), one.kind),
            }
        })
        .collect();
    each.join("; ")
}

/// A TLS listener in a configuration.
///
/// ```
/// # #[derive(serde::Deserialize)] struct C { listen: daemon::config::ListenConfig }
/// let config: C = daemon::config::parse(r#"
///     [listen]
///     address = "[::]:8443"
///     http3 = true
///     tls = "1.2+1.3"
///     request_time_seconds = 60
///     connections_max = 20000
/// "#)?;
/// assert_eq!(config.listen.limits().connections_max, 20_000);
/// # Ok::<(), daemon::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Where to listen, TCP and UDP.
    pub address: SocketAddr,
    /// Whether HTTP/3 is served on UDP.
    pub http3: bool,
    /// TLS versions on TCP.
    pub tls: TlsChoice,
    /// Time for the TLS handshake.
    pub handshake_time_seconds: Option<u64>,
    /// Time for the header of a request.
    pub header_read_time_seconds: Option<u64>,
    /// Time for a whole request.
    pub request_time_seconds: Option<u64>,
    /// Time after which an idle connection is closed.
    pub idle_time_seconds: Option<u64>,
    /// Time that requests in progress get when the server stops.
    pub drain_time_seconds: Option<u64>,
    /// Size of a request's body.
    pub request_body_bytes_max: Option<usize>,
    /// Connections at once.
    pub connections_max: Option<usize>,
    /// Connections at once from one IPv4 address or IPv6 /64.
    pub connections_per_address_max: Option<usize>,
    /// Requests at once on one connection.
    pub streams_per_connection_max: Option<u32>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            http3: true,
            tls: TlsChoice::Both,
            handshake_time_seconds: None,
            header_read_time_seconds: None,
            request_time_seconds: None,
            idle_time_seconds: None,
            drain_time_seconds: None,
            request_body_bytes_max: None,
            connections_max: None,
            connections_per_address_max: None,
            streams_per_connection_max: None,
        }
    }
}

impl ListenConfig {
    /// The limits: the configured ones, and the defaults of [`net::server`] for the rest.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let seconds = |value: Option<u64>, into: &mut Duration| {
            if let Some(value) = value {
                *into = Duration::from_secs(value);
            }
        };
        seconds(self.handshake_time_seconds, &mut limits.handshake_time_max);
        seconds(
            self.header_read_time_seconds,
            &mut limits.header_read_time_max,
        );
        seconds(self.request_time_seconds, &mut limits.request_time_max);
        seconds(self.idle_time_seconds, &mut limits.idle_time_max);
        seconds(self.drain_time_seconds, &mut limits.drain_time_max);
        let count = |value: Option<usize>, into: &mut usize| {
            if let Some(value) = value {
                *into = value;
            }
        };
        count(
            self.request_body_bytes_max,
            &mut limits.request_body_bytes_max,
        );
        count(self.connections_max, &mut limits.connections_max);
        count(
            self.connections_per_address_max,
            &mut limits.connections_per_address_max,
        );
        if let Some(value) = self.streams_per_connection_max {
            limits.streams_per_connection_max = value;
        }
        limits
    }

    /// As `net::server::serve` wants it.
    #[must_use]
    pub fn listener(&self, identities: ServerIdentities) -> ListenerConfig {
        let mut listener = ListenerConfig::new(self.address, identities);
        listener.limits = self.limits();
        if let Some(tls) = &mut listener.tls {
            tls.versions = self.tls.into();
            tls.http3 = self.http3;
        }
        listener
    }
}

/// TLS versions as written in a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsChoice {
    /// Both.
    #[default]
    #[serde(rename = "1.2+1.3")]
    Both,
    /// TLS 1.2 only.
    #[serde(rename = "1.2")]
    Only12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    Only13,
}

impl From<TlsChoice> for TlsVersions {
    fn from(choice: TlsChoice) -> Self {
        match choice {
            TlsChoice::Both => Self::Both,
            TlsChoice::Only12 => Self::Only12,
            TlsChoice::Only13 => Self::Only13,
        }
    }
}

/// A certificate chain and the place of its key.
///
/// ```
/// let file: daemon::config::IdentityConfig = daemon::config::parse(r#"
///     certificate = "registrar.pem"
///     key = "registrar.key"
///     passphrase_file = "/run/secrets/registrar-key"
/// "#)?;
/// let token: daemon::config::IdentityConfig = daemon::config::parse(r#"
///     certificate = "registrar.pem"
///     key = "pkcs11:token=usher;object=registrar"
///     module = "/usr/lib/softhsm/libsofthsm2.so"
///     passphrase_env = "REGISTRAR_PIN"
/// "#)?;
/// # let _ = (file, token);
/// # Ok::<(), daemon::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// PEM file with the chain, leaf first.
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
}

impl IdentityConfig {
    /// A chain and an unencrypted key in two files.
    #[must_use]
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<String>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
            passphrase_file: None,
            passphrase_env: None,
            module: None,
        }
    }

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

    /// Reads chain and key; relative paths start at `directory`.
    ///
    /// # Errors
    /// [`Error::Identity`] or [`Error::Secret`] with the file that is at fault.
    pub fn load(&self, directory: &Path) -> Result<Identity, Error> {
        let path = directory.join(&self.certificate);
        let chain = Certificate::load_all(&path).map_err(|error| Error::Identity {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let signer = self.key_config().load(directory)?;
        Identity::new(chain, signer).map_err(|error| Error::Identity {
            path,
            reason: error.to_string(),
        })
    }
}

/// The place of a private key: a file, or an object in a PKCS#11 token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// A file (PKCS#8, encrypted or not, PEM or DER), or a `pkcs11:` URI of RFC 7512.
    pub key: String,
    /// File whose first line is the passphrase of the key file, or the token's PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// Environment variable that holds the passphrase or PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase_env: Option<String>,
    /// The PKCS#11 module (a shared library), unless the URI names it by `module-path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<PathBuf>,
}

impl KeyConfig {
    /// Opens the key; relative paths start at `directory`.
    ///
    /// # Errors
    /// [`Error::Identity`] or [`Error::Secret`] with the file that is at fault.
    pub fn load(&self, directory: &Path) -> Result<Arc<dyn Signer>, Error> {
        let secret = self.secret(directory)?;
        let refuse = |path: PathBuf| {
            move |error: pki::Error| Error::Identity {
                path,
                reason: error.to_string(),
            }
        };
        if self.key.starts_with("pkcs11:") {
            let uri = match &self.module {
                Some(module) if !self.key.contains("module-path=") => {
                    let joint = if self.key.contains('?') { '&' } else { '?' };
                    format!("{}{joint}module-path={}", self.key, module.display())
                }
                _ => self.key.clone(),
            };
            let key = Pkcs11Key::open(&uri, secret.as_deref().unwrap_or_default())
                .map_err(refuse(PathBuf::from(&self.key)))?;
            return Ok(Arc::new(key));
        }
        let path = directory.join(&self.key);
        let key = SoftwareKey::load(&path, secret.as_deref()).map_err(refuse(path.clone()))?;
        Ok(Arc::new(key))
    }

    /// The passphrase or PIN, if the configuration names one.
    ///
    /// # Errors
    /// [`Error::Secret`] if it is named and not there.
    pub fn secret(&self, directory: &Path) -> Result<Option<String>, Error> {
        if let Some(file) = &self.passphrase_file {
            let path = directory.join(file);
            let text = std::fs::read_to_string(&path).map_err(|error| Error::Secret {
                from: path.display().to_string(),
                reason: error.to_string(),
            })?;
            return Ok(Some(text.lines().next().unwrap_or_default().to_owned()));
        }
        let Some(name) = &self.passphrase_env else {
            return Ok(None);
        };
        std::env::var(name).map(Some).map_err(|_| Error::Secret {
            from: format!("variable {name}"),
            reason: "it is not set".to_owned(),
        })
    }
}
