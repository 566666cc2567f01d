//! The trust anchor of a bootstrap server in redirect information: a chain of certificates that
//! ends in a self-signed root, as a degenerate SignedData.

use pki::cms::SignedData;
use pki::{Certificate, Crl, Oddity as EnvelopeOddity, pkcs7};

use super::rules::fail;
use super::types::BootstrapServer;
use crate::error::{Error, Fault};
use crate::tolerances::{Oddity, Tolerances};

/// The chain that authenticates a bootstrap server.
#[derive(Clone, Debug)]
pub struct TrustAnchor {
    chain: Vec<Certificate>,
    crls: Vec<Crl>,
    oddities: Vec<Oddity>,
}

impl TrustAnchor {
    /// Makes the CMS of a chain, whose certificates may come in any order.
    ///
    /// # Errors
    /// If it is not one single chain that ends in a self-signed root.
    pub fn encode(chain: &[Certificate], crls: &[Crl]) -> Result<Vec<u8>, Error> {
        ordered(chain.to_vec(), true)?;
        Ok(pkcs7::certificates_and_crls(chain, crls)?)
    }

    /// Reads the CMS.
    ///
    /// # Errors
    /// If it is not a degenerate SignedData with one chain that ends in a self-signed root.
    pub fn decode(cms: &[u8], tolerances: &Tolerances) -> Result<Self, Error> {
        let wrong = |detail: String| fail(Fault::BadTrustAnchor, detail);
        let form = tolerances.trust_anchor_form;
        let bare = Certificate::from_der(cms)
            .or_else(|error| std::str::from_utf8(cms).map_or(Err(error), Certificate::from_pem));
        if let Ok(certificate) = bare {
            // SZTP-8572-6.3-05: the trust anchor is a degenerate SignedData, not a certificate.
            if !form {
                return Err(wrong("a certificate stands where a CMS belongs".to_owned()));
            }
            return Ok(Self {
                chain: vec![certificate],
                crls: Vec::new(),
                oddities: vec![Oddity::new("trust-anchor-form", "a bare certificate")],
            });
        }
        let signed = SignedData::parse(cms).map_err(|error| wrong(error.to_string()))?;
        if signed.signer_count() > 0 || signed.content().is_some() {
            return Err(wrong("the SignedData is not degenerate".to_owned()));
        }
        let is_ber = |oddity: &&EnvelopeOddity| {
            matches!(
                oddity,
                EnvelopeOddity::Ber | EnvelopeOddity::TrailingData(_)
            )
        };
        let mut oddities = Vec::new();
        if let Some(oddity) = signed.oddities().iter().find(is_ber) {
            if !tolerances.ber {
                return Err(wrong(format!("the CMS is not DER: {oddity:?}")));
            }
            oddities.push(Oddity::new("ber", "in trust-anchor"));
        }
        let has_root = signed.certificates().iter().any(is_root);
        if !has_root && form {
            oddities.push(Oddity::new("trust-anchor-form", "no self-signed root"));
        }
        let chain = ordered(signed.certificates().to_vec(), has_root || !form)?;
        let crls = signed.crls().iter();
        Ok(Self {
            chain,
            crls: crls.filter_map(|der| Crl::from_der(der).ok()).collect(),
            oddities,
        })
    }

    /// The certificates, the root last.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The certificate that the server's own has to be issued by: the lowest of the chain.
    #[must_use]
    pub fn issuer(&self) -> Option<&Certificate> {
        self.chain.first()
    }

    /// The CRLs that came along.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// What was odd and tolerated.
    #[must_use]
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }
}

impl BootstrapServer {
    /// The trust anchor, read. A device that does not trust the redirect information discards it
    /// instead.
    ///
    /// # Errors
    /// If there is one and it is none.
    pub fn anchor(&self, tolerances: &Tolerances) -> Result<Option<TrustAnchor>, Error> {
        let cms = self.trust_anchor.as_deref();
        cms.map(|cms| TrustAnchor::decode(cms, tolerances))
            .transpose()
    }
}

fn is_root(certificate: &Certificate) -> bool {
    certificate.issuer_der() == certificate.subject_der()
        && certificate
            .verify_signature_by(certificate.public_key())
            .is_ok()
}

/// Puts the certificates into the order of their chain, the root last. A set has no order of its
/// own.
fn ordered(mut left: Vec<Certificate>, with_root: bool) -> Result<Vec<Certificate>, Error> {
    let wrong = |detail: &str| fail(Fault::BadTrustAnchor, detail);
    let top = if with_root {
        left.iter().position(is_root)
    } else {
        left.iter().position(|certificate| {
            !left
                .iter()
                .any(|other| other.subject_der() == certificate.issuer_der())
        })
    };
    let Some(top) = top else {
        return Err(wrong("the chain has no self-signed root"));
    };
    let mut chain = vec![left.swap_remove(top)];
    while let Some(above) = chain.last() {
        let below = left.iter().position(|certificate| {
            certificate.issuer_der() == above.subject_der()
                && certificate.verify_signature_by(above.public_key()).is_ok()
        });
        match below {
            Some(below) => chain.push(left.swap_remove(below)),
            None => break,
        }
    }
    // SZTP-8572-6.3-05: the CMS holds one single chain.
    if !left.is_empty() {
        return Err(wrong("the certificates are not one single chain"));
    }
    chain.reverse();
    Ok(chain)
}
