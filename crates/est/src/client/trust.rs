//! CA certificates and issued certificates: which of them may be believed.

use pki::{
    Certificate, PublicKey,
    path::{Anchors, PathOptions},
};
use time::OffsetDateTime;

use crate::Error;

/// Most certificates of one bag that are looked at.
const CERTIFICATES_MAX: usize = 64;

/// The bag of `/cacerts`, in any order, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCertificates {
    all: Vec<Certificate>,
}

/// What a device believes after `/cacerts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainTrust {
    /// The explicit trust anchor: the most recent self-signed CA certificate of the bag.
    pub anchor: Certificate,
    /// CA certificates that lead to the anchor: sub-CAs, and the other certificates of a root
    /// rollover.
    pub intermediates: Vec<Certificate>,
    /// Earlier roots whose key a certificate under the anchor vouches for (OldWithOld by way of
    /// OldWithNew). Peers that know no other root yet are still believed by them.
    pub former_anchors: Vec<Certificate>,
    /// What stood in the bag and leads nowhere.
    pub ignored: Vec<Certificate>,
}

/// A certificate that was issued to this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The certificate.
    pub certificate: Certificate,
    /// The path from it to just below the anchor: what a TLS peer is to be shown, leaf first.
    pub chain: Vec<Certificate>,
    /// How many other certificates stood in the answer, against RFC 7030.
    pub extra: usize,
}

impl CaCertificates {
    /// The certificates of a bag; equal ones count once.
    #[must_use]
    pub fn new(certificates: Vec<Certificate>) -> Self {
        let mut all: Vec<Certificate> = Vec::new();
        for certificate in certificates.into_iter().take(CERTIFICATES_MAX) {
            if !all.contains(&certificate) {
                all.push(certificate);
            }
        }
        Self { all }
    }

    /// The certificates as they came.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.all
    }

    /// Finds the trust anchor and what leads to it
    /// ([RFC 7030 §4.1.3](https://www.rfc-editor.org/rfc/rfc7030.html#section-4.1.3)).
    ///
    /// The bag came from a server that the caller authorised. If that was by a pinned
    /// certificate, give it as `pinned`: the anchor then has to be the pin itself, its issuer
    /// further up, or share its key, so that a registrar cannot put another PKI beneath the
    /// voucher. `at` is the time to judge validity by, or `None` for a device without a clock.
    ///
    /// # Errors
    /// No usable anchor, or none that the pin leads to.
    pub fn judge(
        &self,
        pinned: Option<&Certificate>,
        at: Option<OffsetDateTime>,
    ) -> Result<DomainTrust, Error> {
        let in_date = |certificate: &&Certificate| {
            at.is_none_or(|at| certificate.not_before() <= at && at <= certificate.not_after())
        };
        let mut roots: Vec<&Certificate> = self
            .all
            .iter()
            .filter(|found| is_root(found))
            .filter(in_date)
            .collect();
        // EST-4.1.3-06: "The EST CA's most recent self-signed certificate (e.g., NewWithNew
        // certificate) is self-signed and has the latest NotAfter date."
        roots.sort_by_key(|root| std::cmp::Reverse((root.not_after(), root.not_before())));
        if roots.is_empty() {
            return Err(Error::CaCertificates(
                "no self-signed CA certificate that is in date",
            ));
        }
        let anchor = roots
            .into_iter()
            .find(|root| pinned.is_none_or(|pin| self.pin_leads_to(pin, root, at)))
            .ok_or(Error::CaCertificates(
                "the pinned certificate leads to none of the roots",
            ))?;

        let mut trust = DomainTrust {
            anchor: anchor.clone(),
            intermediates: Vec::new(),
            former_anchors: Vec::new(),
            ignored: Vec::new(),
        };
        // "all the other certificates MUST be validated using normal [RFC5280] certificate path
        // validation (using the most recent CA certificate as the TA) before they can be used".
        let (leading, rest): (Vec<&Certificate>, Vec<&Certificate>) = self
            .all
            .iter()
            .filter(|found| *found != anchor)
            .partition(|found| !is_root(found) && self.leads_to(found, anchor, at));
        for certificate in leading {
            trust.intermediates.push(certificate.clone());
        }
        for certificate in rest {
            let vouched = is_root(certificate)
                && trust.intermediates.iter().any(|other| {
                    other.public_key() == certificate.public_key()
                        && other.subject_der() == certificate.subject_der()
                });
            if vouched {
                trust.former_anchors.push(certificate.clone());
            } else {
                trust.ignored.push(certificate.clone());
            }
        }
        Ok(trust)
    }

    fn pin_leads_to(
        &self,
        pin: &Certificate,
        root: &Certificate,
        at: Option<OffsetDateTime>,
    ) -> bool {
        pin.public_key() == root.public_key()
            || self.leads_to(pin, root, at)
            // Rollover: the pin is the old root, and the new one is signed by it.
            || self.all.iter().any(|bridge| {
                bridge.public_key() == root.public_key()
                    && bridge.subject_der() == root.subject_der()
                    && bridge.verify_signature_by(pin.public_key()).is_ok()
            })
    }

    fn leads_to(
        &self,
        certificate: &Certificate,
        root: &Certificate,
        at: Option<OffsetDateTime>,
    ) -> bool {
        path(certificate, &self.all, root, at).is_ok()
    }
}

impl DomainTrust {
    /// All anchors, the current one first.
    pub fn anchors(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.anchor).chain(&self.former_anchors)
    }

    /// Takes the issued certificate out of an answer: the one for `key`, wherever it stands.
    ///
    /// # Errors
    /// There is none for the key, or it does not lead to the anchor.
    pub fn accept(
        &self,
        certificates: &[Certificate],
        key: &PublicKey,
        at: Option<OffsetDateTime>,
    ) -> Result<Enrolled, Error> {
        // EST-4.2.3-03: servers exist that send a chain along.
        let certificate = certificates
            .iter()
            .take(CERTIFICATES_MAX)
            .find(|certificate| certificate.public_key() == key)
            .ok_or(Error::CertificateKey)?;
        let mut others: Vec<Certificate> = self.intermediates.clone();
        others.extend(certificates.iter().take(CERTIFICATES_MAX).cloned());
        let mut failure = None;
        for anchor in self.anchors() {
            match path(certificate, &others, anchor, at) {
                Ok(mut chain) => {
                    // A peer that believes the anchor has it already.
                    chain.retain(|found| found != anchor);
                    return Ok(Enrolled {
                        certificate: certificate.clone(),
                        chain,
                        extra: certificates.len().saturating_sub(1),
                    });
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(Error::CertificateUntrusted(failure.unwrap_or_default()))
    }
}

/// A CA certificate that verifies under its own key.
fn is_root(certificate: &Certificate) -> bool {
    certificate.is_ca()
        && certificate.subject_der() == certificate.issuer_der()
        && certificate
            .verify_signature_by(certificate.public_key())
            .is_ok()
}

/// A path from `certificate` to `root`, both included.
fn path(
    certificate: &Certificate,
    others: &[Certificate],
    root: &Certificate,
    at: Option<OffsetDateTime>,
) -> Result<Vec<Certificate>, String> {
    let options = PathOptions {
        at,
        ..PathOptions::default()
    };
    pki::path::validate(certificate, others, &Anchors::from(root.clone()), &options)
        .map(|path| path.certificates().to_vec())
        .map_err(|error| error.to_string())
}
