//! The registrar's own CA.

use std::path::Path;
use std::sync::Arc;

use futures::future::BoxFuture;
use pki::issue::{CertificateBuilder, CrlBuilder, Profile};
use pki::{Certificate, Crl, Signer};
use rand::RngCore;
use time::{Duration, OffsetDateTime};

use super::records::Revocation;
use super::{CaError, CertificateAuthority, Config, Issued, Order};

/// A CA whose key this process holds, in memory or in a token.
pub struct BuiltinCa {
    /// The issuing certificate first, the root last.
    chain: Vec<Certificate>,
    issuer: Certificate,
    signer: Arc<dyn Signer>,
    rollover: Vec<Certificate>,
    lifetime: Duration,
    backdate: Duration,
    crl_lifetime: Duration,
    crl_url: Option<String>,
}

impl std::fmt::Debug for BuiltinCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltinCa")
            .field("issuer", &self.issuer.subject())
            .finish_non_exhaustive()
    }
}

impl BuiltinCa {
    /// Reads the certificate chain and the key that the configuration names.
    ///
    /// # Errors
    /// A file or token cannot be used, key and certificate do not belong together, or the
    /// certificate is not that of a CA.
    pub fn open(config: &Config) -> Result<Self, CaError> {
        let unusable = |error: &dyn std::fmt::Display| CaError::Config(format!("[ca]: {error}"));
        let file = config
            .certificate
            .as_deref()
            .ok_or_else(|| CaError::Config("[ca] certificate is missing".to_owned()))?;
        let chain = Certificate::load_all(file).map_err(|error| unusable(&error))?;
        let signer = daemon::config::KeyConfig {
            key: config.key.clone().unwrap_or_default(),
            passphrase_file: config.passphrase_file.clone(),
            passphrase_env: None,
            module: None,
        }
        .load(Path::new("."))
        .map_err(|error| unusable(&error))?;
        let rollover = match &config.rollover {
            Some(file) => Certificate::load_all(file).map_err(|error| unusable(&error))?,
            None => Vec::new(),
        };
        Self::new(config, chain, signer, rollover)
    }

    /// A CA of this chain and key; validity and CRL settings are taken from `config`.
    ///
    /// # Errors
    /// Key and certificate do not belong together, or the certificate is not that of a CA.
    pub fn new(
        config: &Config,
        chain: Vec<Certificate>,
        signer: Arc<dyn Signer>,
        rollover: Vec<Certificate>,
    ) -> Result<Self, CaError> {
        let issuer = chain
            .first()
            .cloned()
            .ok_or_else(|| CaError::Config("[ca] certificate: the file is empty".to_owned()))?;
        if !issuer.is_ca() {
            return Err(CaError::Config(format!(
                "[ca] certificate: {} is not a CA certificate",
                issuer.subject()
            )));
        }
        if issuer.public_key() != signer.public_key() {
            return Err(CaError::Config(
                "[ca] key is not that of the certificate".to_owned(),
            ));
        }
        // EST-4.1.3-03: "The EST server MUST include the current root CA certificate in the
        // response", so the file has to hold it.
        let has_root = chain
            .iter()
            .any(|found| found.subject_der() == found.issuer_der());
        if !has_root {
            return Err(CaError::Config(
                "[ca] certificate: the file must hold the chain up to the root".to_owned(),
            ));
        }
        Ok(Self {
            issuer,
            chain,
            signer,
            rollover,
            lifetime: Duration::days(i64::from(config.lifetime_days)),
            backdate: Duration::minutes(i64::from(config.backdate_minutes)),
            crl_lifetime: Duration::hours(i64::from(config.crl_hours.max(1))),
            crl_url: config.crl_url.clone(),
        })
    }

    /// The issuing certificate.
    #[must_use]
    pub fn issuer(&self) -> &Certificate {
        &self.issuer
    }

    fn sign(&self, order: &Order, now: OffsetDateTime) -> Result<Certificate, CaError> {
        // X.509 times have no fractions.
        let now = now.replace_nanosecond(0).unwrap_or(now);
        let not_before = (now - self.backdate).max(self.issuer.not_before());
        let not_after = (now + self.lifetime).min(self.issuer.not_after());
        if not_after <= now {
            return Err(CaError::Config("[ca] certificate has expired".to_owned()));
        }
        let mut serial = [0_u8; 16];
        rand::rng().fill_bytes(&mut serial);
        let mut builder = CertificateBuilder::new(
            Profile::Ldevid,
            order.subject.clone(),
            order.public_key.clone(),
            serial,
            not_before,
            not_after,
        );
        for name in &order.alt_names {
            builder = builder.alt_name(name.clone());
        }
        if let Some(url) = &self.crl_url {
            builder = builder.crl_url(url);
        }
        // The builder lints the profile before it signs.
        Ok(builder.issue(&self.issuer, self.signer.as_ref())?)
    }
}

impl CertificateAuthority for BuiltinCa {
    fn kind(&self) -> &'static str {
        "builtin"
    }

    fn ca_certificates(&self) -> Vec<Certificate> {
        let mut all = self.chain.clone();
        all.extend(self.rollover.iter().cloned());
        all
    }

    fn issue<'a>(
        &'a self,
        order: &'a Order,
        now: OffsetDateTime,
    ) -> BoxFuture<'a, Result<Issued, CaError>> {
        // A signature by a key in memory takes tens of microseconds; by a token, some
        // milliseconds, for which the runtime has other workers.
        Box::pin(async move { self.sign(order, now).map(Issued::Certificate) })
    }

    fn takes_names_from_request(&self) -> bool {
        false
    }

    fn sign_crl(
        &self,
        number: u64,
        revoked: &[Revocation],
        now: OffsetDateTime,
    ) -> Result<Option<Crl>, CaError> {
        let now = now.replace_nanosecond(0).unwrap_or(now);
        let mut builder = CrlBuilder::new(number, now, now + self.crl_lifetime);
        for line in revoked {
            builder = builder.revoke(&line.serial_number, line.at, line.reason);
        }
        Ok(Some(builder.issue(&self.issuer, self.signer.as_ref())?))
    }
}
