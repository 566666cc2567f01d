//! Certificate revocation lists.

use std::sync::Arc;

use time::OffsetDateTime;
use x509_cert::crl::CertificateList;

use crate::{Error, PublicKey};

/// A CRL with its DER as received. Cheap to clone.
#[derive(Clone)]
pub struct Crl(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    list: CertificateList,
}

impl Crl {
    /// Parses a DER CRL.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let _ = der;
        todo!()
    }

    /// Parses the first CRL of a PEM text.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let _ = pem;
        todo!()
    }

    /// Reads a file with CRLs: PEM blocks, or one in DER.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load_all(path: impl AsRef<std::path::Path>) -> Result<Vec<Self>, Error> {
        let _ = path.as_ref();
        todo!()
    }

    /// The DER as received.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The CRL as PEM.
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// The decoded structure.
    pub fn list(&self) -> &CertificateList {
        &self.0.list
    }

    /// The issuer as an RFC 4514 string.
    pub fn issuer(&self) -> String {
        todo!()
    }

    /// The DER of the issuer as received.
    pub fn issuer_der(&self) -> &[u8] {
        todo!()
    }

    /// When it was issued.
    pub fn this_update(&self) -> OffsetDateTime {
        todo!()
    }

    /// When the next one is due.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        todo!()
    }

    /// When a certificate was revoked, by its serial number's content octets.
    pub fn revocation(&self, serial_number: &[u8]) -> Option<OffsetDateTime> {
        let _ = serial_number;
        todo!()
    }

    /// Verifies the CRL's signature under a public key: mathematics only.
    ///
    /// # Errors
    /// If it does not verify, or the algorithm is unsupported or legacy.
    pub fn verify_signature_by(&self, key: &PublicKey) -> Result<(), Error> {
        let _ = key;
        todo!()
    }
}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crl({})", self.issuer())
    }
}
