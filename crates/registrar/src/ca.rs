//! The certification authority behind the registrar.
//!
//! A [`CertificateAuthority`] signs an [`Order`], in which every name is the registrar's own
//! choice ([`NamePlan`]); the device contributes its public key and nothing else. [`certify`] is
//! the one way to a certificate: it answers a repeated request with the certificate of the first,
//! refuses a key that belongs to another device, and writes certificate, audit entry and timeline
//! in one transaction before anything leaves.

mod builtin;
mod certify;
mod cli;
mod crl;
mod names;
pub mod records;
mod upstream;

pub use self::{
    builtin::BuiltinCa,
    certify::{Certified, Holder, Wanted, certify},
    cli::CertCommand,
    crl::current_crl,
    names::{AcpNames, NamePlan, Names},
    upstream::{UpstreamCa, UpstreamConfig},
};

pub(crate) use self::names::{alt_names_of, general_names_der};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pki::issue::AltName;
use pki::{Blame, Certificate, Coded, Crl, Csr, PublicKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_cert::name::Name;

use crate::config::anchored;

/// The `[ca]` part of the configuration.
///
/// With `certificate` and `key` the registrar is its own CA; with `[ca.upstream]` another EST
/// server is; with neither there is no enrolment, and a device is told so.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// PEM file of the issuing CA: its certificate first, then those above it up to the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PKCS#8 PEM file, encrypted or readable by its owner only, or a `pkcs11:` URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// File that holds the passphrase of the key, or the PIN of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// PEM file of further certificates for `/cacerts`: OldWithOld, OldWithNew and NewWithOld
    /// while the root is exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollover: Option<PathBuf>,
    /// How long a device's certificate is valid. It never outlives its issuer.
    pub lifetime_days: u32,
    /// How far the beginning of validity lies before the issuance, for devices whose clock is late.
    pub backdate_minutes: u32,
    /// The subject of each certificate; `{serial}`, `{product}` and `{vendor}` are replaced, and a
    /// part whose value is unknown is left out.
    pub subject: String,
    /// Subject alternative names: `dns:…`, `uri:…`, `email:…` with the same replacements, and
    /// `acp:{acp}` for an AcpNodeName out of `acp_names`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// File with lines `serial number,AcpNodeName`, for networks with an Autonomic Control Plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acp_names: Option<PathBuf>,
    /// The URL written into certificates as their CRL distribution point. The registrar serves
    /// its CRL at `/crl` of the device listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_url: Option<String>,
    /// How long a CRL is valid. It is renewed after half of that, and at once after a revocation.
    pub crl_hours: u32,
    /// Another EST server as the CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            passphrase_file: None,
            rollover: None,
            lifetime_days: 365,
            backdate_minutes: 10,
            subject: "serialNumber={serial}".to_owned(),
            alt_names: Vec::new(),
            acp_names: None,
            crl_url: None,
            crl_hours: 48,
            upstream: None,
        }
    }
}

impl Config {
    /// Makes relative paths relative to the folder of the configuration file.
    pub(crate) fn anchor_paths(&mut self, base: &Path) {
        for path in [
            &mut self.certificate,
            &mut self.passphrase_file,
            &mut self.rollover,
            &mut self.acp_names,
        ] {
            *path = path.as_deref().map(|path| anchored(base, path));
        }
        if let Some(key) = &mut self.key
            && !key.starts_with("pkcs11:")
        {
            *key = anchored(base, Path::new(key.as_str()))
                .to_string_lossy()
                .into_owned();
        }
        if let Some(upstream) = &mut self.upstream {
            upstream.anchor_paths(base);
        }
    }

    /// Reads keys and certificates and makes the CA that the configuration names; `None` if it
    /// names none.
    ///
    /// # Errors
    /// A file or token cannot be used, or both kinds of CA are named.
    pub fn open(&self) -> Result<Option<Arc<dyn CertificateAuthority>>, CaError> {
        match (&self.certificate, &self.key, &self.upstream) {
            (None, None, None) => Ok(None),
            (Some(_), Some(_), None) => Ok(Some(Arc::new(BuiltinCa::open(self)?))),
            (None, None, Some(upstream)) => Ok(Some(Arc::new(UpstreamCa::open(upstream)?))),
            _ => Err(CaError::Config(
                "[ca] needs either certificate and key, or [ca.upstream]".to_owned(),
            )),
        }
    }
}

/// What is to be signed.
#[derive(Clone, Debug)]
pub struct Order {
    /// The device's request.
    pub csr: Csr,
    /// The key to certify: that of the request, or one that was generated here.
    pub public_key: PublicKey,
    /// The subject, by the registrar's choice.
    pub subject: Name,
    /// The subject alternative names, by the registrar's choice.
    pub alt_names: Vec<AltName>,
    /// The certificate that this one takes the place of.
    pub replaces: Option<Certificate>,
}

/// What came of an order.
#[derive(Clone, Debug)]
pub enum Issued {
    /// The certificate.
    Certificate(Certificate),
    /// The CA has not decided yet; the same order is to be placed again.
    Pending {
        /// When.
        retry_after: Duration,
    },
}

/// Something that signs certificates for devices.
pub trait CertificateAuthority: Send + Sync {
    /// What it is, for logs: `builtin` or `upstream`.
    fn kind(&self) -> &'static str;

    /// The certificates for `/cacerts`: the issuing CA and all above it, and those of a rollover.
    fn ca_certificates(&self) -> Vec<Certificate>;

    /// Signs an order.
    fn issue<'a>(
        &'a self,
        order: &'a Order,
        now: OffsetDateTime,
    ) -> BoxFuture<'a, Result<Issued, CaError>>;

    /// Whether the names must stand in the request already, because the CA takes them from there.
    fn takes_names_from_request(&self) -> bool;

    /// What the CA itself demands of requests, as far as it said so.
    fn demands(&self) -> Option<Arc<::est::csrattrs::Requirements>> {
        None
    }

    /// Signs a CRL with the given number over the given revocations; `None` if this registrar
    /// does not sign the CRLs of its CA.
    ///
    /// # Errors
    /// Signing failed.
    fn sign_crl(
        &self,
        number: u64,
        revoked: &[records::Revocation],
        now: OffsetDateTime,
    ) -> Result<Option<Crl>, CaError>;
}

/// What can go wrong between a proper request and its certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The CA's answer is not what was ordered. The upstream CA's fault.
    #[error("the CA's answer cannot be used: {0}")]
    Answer(String),
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// The request asks for other names than the registrar would give, and the CA takes them
    /// from the request.
    #[error("the request must have the subject and subjectAltName that /csrattrs asks for")]
    CsrNames,
    /// The key belongs to another device. The peer's fault: a request was replayed by someone
    /// else, or a key copied.
    #[error("the key of the request belongs to another device")]
    KeyInUse,
    /// The name template gives no usable name for this device.
    #[error("no name for this device: {0}")]
    Name(String),
    /// There is no CA.
    #[error("no CA is configured, so there is no enrolment")]
    NotConfigured,
    /// The upstream CA said no.
    #[error("the CA refuses: {0}")]
    Refused(String),
    /// Our own CA cannot sign.
    #[error("the CA cannot sign: {0}")]
    Signing(#[from] pki::Error),
    /// The database failed.
    #[error("database: {0}")]
    Store(#[from] store::Error),
    /// The audit log failed.
    #[error("audit log: {0}")]
    Audit(#[from] store::audit::Error),
    /// The upstream CA cannot be reached or does not answer in time.
    #[error("the CA cannot be reached: {0}")]
    Unreachable(String),
    /// The device was denied, or its certificate revoked, while the CA worked; with the code of
    /// what happened.
    #[error("the right to the certificate was taken away while the CA worked")]
    Withdrawn(&'static str),
    /// The server at the upstream CA's address is not the one that the anchors vouch for.
    #[error("the server is not the CA's: {0}")]
    Untrusted(String),
}

impl CaError {
    /// What the device gets. Total, so that a new cause must choose its own.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::CsrNames => 400,
            Self::KeyInUse | Self::Refused(_) | Self::Withdrawn(_) => 403,
            // A device that gets a 503 comes back, and an operator has time to mend it.
            Self::Answer(_)
            | Self::Audit(_)
            | Self::Config(_)
            | Self::Name(_)
            | Self::NotConfigured
            | Self::Signing(_)
            | Self::Store(_)
            | Self::Unreachable(_)
            | Self::Untrusted(_) => 503,
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub const fn next_action(&self) -> &'static str {
        match self {
            Self::Answer(_) | Self::Refused(_) => "look at the upstream CA's own log",
            Self::Config(_) | Self::NotConfigured | Self::Signing(_) => {
                "run `usher registrar doctor`"
            }
            Self::CsrNames => "report the code to the manufacturer of the device",
            Self::KeyInUse => "find both devices; a key must be in one place only",
            Self::Withdrawn(_) => "none: it is as the operator wants it",
            Self::Name(_) => "change [ca] subject or alt_names",
            Self::Untrusted(_) => {
                "compare the server's certificate with [ca.upstream] url and tls_anchors"
            }
            Self::Audit(_) | Self::Store(_) | Self::Unreachable(_) => {
                "none: the device tries again by itself"
            }
        }
    }
}

impl Coded for CaError {
    fn code(&self) -> &'static str {
        match self {
            Self::Answer(_) => "registrar.ca-answer-invalid",
            Self::Audit(error) => error.code(),
            Self::Config(_) => "config.ca",
            Self::CsrNames => "est.csr-names",
            Self::KeyInUse => "est.key-in-use",
            Self::Withdrawn(code) => code,
            Self::Name(_) => "registrar.ca-name",
            Self::NotConfigured => "registrar.ca-not-configured",
            Self::Refused(_) => "registrar.ca-refused",
            Self::Signing(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Unreachable(_) => "registrar.ca-unreachable",
            Self::Untrusted(_) => "registrar.ca-untrusted",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::CsrNames | Self::KeyInUse | Self::Withdrawn(_) => Blame::PeerMisbehaved,
            Self::Config(_) => Blame::Caller,
            Self::Answer(_)
            | Self::Audit(_)
            | Self::Name(_)
            | Self::NotConfigured
            | Self::Refused(_)
            | Self::Signing(_)
            | Self::Store(_)
            | Self::Unreachable(_)
            | Self::Untrusted(_) => Blame::Ours,
        }
    }
}
