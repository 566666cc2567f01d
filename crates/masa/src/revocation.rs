//! Whether the certificates of a registrar are revoked, by the CRLs that they name.
//!
//! A URL inside a certificate is chosen by whoever issued it. By default only those of registered
//! owners are fetched, so that a stranger cannot make the MASA connect to places of its choice.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration as StdDuration;

use brski::masa::{Domain, Revocation};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use net::client::{ClientConfig, ClientLimits, ServerTrust};
use pki::path::{self, Anchors, PathError, PathOptions, Purpose, Reason};
use pki::{Certificate, Crl};
use time::{Duration, OffsetDateTime};
use url::Url;

/// CRLs that are remembered.
const CACHE_MAX: usize = 1024;
/// A CRL is fetched again after this time, if it does not end before.
const KEEP: Duration = Duration::hours(1);
/// A failure is remembered for this time, so that a dead server does not slow every request.
const KEEP_FAILURE: Duration = Duration::seconds(60);
/// Largest CRL.
const CRL_SIZE_MAX_BYTES: usize = 8 * 1024 * 1024;
/// Time for one fetch.
const FETCH_TIME_MAX: StdDuration = StdDuration::from_secs(5);
/// URLs of one certificate that are tried.
const URLS_MAX: usize = 4;

#[derive(Clone)]
struct Kept {
    crl: Option<Crl>,
    until: OffsetDateTime,
}

/// Fetches CRLs and remembers them.
#[derive(Default)]
pub(crate) struct Checker {
    kept: Mutex<HashMap<String, Kept>>,
}

/// Whether any certificate of the chain names a CRL.
pub(crate) fn names_crls(domain: &Domain) -> bool {
    domain
        .chain()
        .iter()
        .any(|certificate| !certificate.crl_urls().is_empty())
}

impl Checker {
    /// Checks each certificate of the chain that names a CRL; `known` are certificates of the
    /// owner, which may have issued the topmost one.
    ///
    /// BRSKI-5.5.3-02: "If the domain CA's certificate ... lists a CRL distribution point, the
    /// MASA does revocation checks".
    pub(crate) async fn check(
        &self,
        domain: &Domain,
        known: &[Certificate],
        now: OffsetDateTime,
    ) -> Revocation {
        let mut result = Revocation::NotChecked;
        for certificate in domain.chain() {
            let urls = certificate.crl_urls();
            if urls.is_empty() {
                continue;
            }
            let issuers: Vec<&Certificate> = domain
                .chain()
                .iter()
                .chain(known)
                .filter(|issuer| {
                    issuer.subject_der() == certificate.issuer_der()
                        && certificate.verify_signature_by(issuer.public_key()).is_ok()
                })
                .collect();
            match self.one(certificate, &urls, &issuers, now).await {
                Revocation::Revoked => return Revocation::Revoked,
                Revocation::Good { until } => {
                    result = match result {
                        Revocation::Good { until: before } => Revocation::Good {
                            until: [before, until].into_iter().flatten().min(),
                        },
                        Revocation::NotChecked => Revocation::Good { until },
                        other => other,
                    };
                }
                Revocation::Unavailable | Revocation::NotChecked => {
                    result = Revocation::Unavailable;
                }
            }
        }
        result
    }

    async fn one(
        &self,
        certificate: &Certificate,
        urls: &[String],
        issuers: &[&Certificate],
        now: OffsetDateTime,
    ) -> Revocation {
        for url in urls.iter().take(URLS_MAX) {
            let Some(crl) = self.crl(url, now).await else {
                continue;
            };
            // The CRL has to be the issuer's own, and current.
            let genuine = crl.issuer_der() == certificate.issuer_der()
                && issuers
                    .iter()
                    .any(|one| crl.verify_signature_by(one.public_key()).is_ok());
            let current =
                crl.this_update() <= now && crl.next_update().is_none_or(|next| now < next);
            if !genuine || !current {
                tracing::warn!(url, genuine, current, "a CRL cannot be used");
                continue;
            }
            let until = crl.next_update();
            // Over a self-signed certificate there is no step that a path could judge.
            if certificate.subject_der() == certificate.issuer_der()
                && crl.revocation(certificate.serial_number()).is_some()
            {
                return Revocation::Revoked;
            }
            match verdict(certificate, issuers, crl, now) {
                Ok(()) => return Revocation::Good { until },
                Err(error) if error.reason == Reason::Revoked => return Revocation::Revoked,
                // RFC 5280 §6.3.3: a CRL for CA certificates only, for some reasons only, for
                // another distribution point, or a delta CRL does not clear this certificate.
                Err(error) => tracing::warn!(url, %error, "a CRL does not cover the certificate"),
            }
        }
        Revocation::Unavailable
    }

    async fn crl(&self, url: &str, now: OffsetDateTime) -> Option<Crl> {
        if let Some(kept) = self.lock().get(url).filter(|kept| now < kept.until) {
            return kept.crl.clone();
        }
        let crl = match fetch(url).await {
            Ok(crl) => Some(crl),
            Err(reason) => {
                tracing::warn!(url, reason, "a CRL could not be fetched");
                None
            }
        };
        let until = match &crl {
            Some(crl) => crl.next_update().unwrap_or(now + KEEP).min(now + KEEP),
            None => now + KEEP_FAILURE,
        };
        let mut all = self.lock();
        if all.len() >= CACHE_MAX {
            all.retain(|_, kept| now < kept.until);
            if all.len() >= CACHE_MAX {
                all.clear();
            }
        }
        all.insert(
            url.to_owned(),
            Kept {
                crl: crl.clone(),
                until,
            },
        );
        crl
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Kept>> {
        // The map is whole after every step, also if a thread panicked between two.
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What the CRL says about the certificate: the rules of path validation about its scope, over the
/// one step from the certificate to its issuer.
fn verdict(
    certificate: &Certificate,
    issuers: &[&Certificate],
    crl: Crl,
    now: OffsetDateTime,
) -> Result<(), PathError> {
    let anchors: Anchors = issuers.iter().map(|one| (*one).clone()).collect();
    let options = PathOptions {
        crls: vec![crl],
        revocation: path::Revocation::Required,
        tolerate_anchor_validity: true,
        ..PathOptions::new(Purpose::Any, now)
    };
    path::validate(certificate, &[], &anchors, &options).map(|_| ())
}

async fn fetch(url: &str) -> Result<Crl, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let config = ClientConfig {
        // A CRL is signed by its issuer; TLS adds nothing that is relied upon.
        trust: ServerTrust::Provisional,
        limits: ClientLimits {
            connect_time_max: FETCH_TIME_MAX,
            handshake_time_max: FETCH_TIME_MAX,
            response_time_max: FETCH_TIME_MAX,
            response_bytes_max: CRL_SIZE_MAX_BYTES,
        },
        ..ClientConfig::default()
    };
    let answer = net::client::fetch(&url, Method::GET, HeaderMap::new(), Bytes::new(), &config)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status != StatusCode::OK {
        return Err(format!("status {}", answer.status));
    }
    let parsed = match std::str::from_utf8(&answer.body) {
        Ok(text) if text.trim_start().starts_with("-----BEGIN") => Crl::from_pem(text),
        _ => Crl::from_der(&answer.body),
    };
    parsed.map_err(|error| error.to_string())
}
