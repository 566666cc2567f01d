//! Certificate revocation lists.

use std::sync::Arc;

use der::Decode as _;
use time::OffsetDateTime;
use x509_cert::crl::CertificateList;

use crate::limits::CRL_SIZE_MAX_BYTES;
use crate::tlv::{self, Reader, TlvError};
use crate::{Document, Error, PublicKey, pem, times};

/// A CRL with its DER as received. Cheap to clone.
#[derive(Clone)]
pub struct Crl(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    list: CertificateList,
    tbs: Vec<u8>,
    inner_algorithm: Vec<u8>,
    outer_algorithm: Vec<u8>,
    signature: Vec<u8>,
    issuer: Vec<u8>,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
}

impl Crl {
    /// Parses a DER CRL.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > CRL_SIZE_MAX_BYTES {
            return Err(Error::LimitExceeded {
                document: Document::Crl,
                what: "octets",
                limit: CRL_SIZE_MAX_BYTES,
            });
        }
        let list = decode(der).map_err(|error| Error::malformed(Document::Crl, error))?;
        read(der, list).map_err(|error| Error::malformed(Document::Crl, error))
    }

    /// Parses the first CRL of a PEM text.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Self::all_from_pem(pem)?
            .into_iter()
            .next()
            .ok_or_else(|| Error::malformed(Document::Pem, "there is no CRL in it"))
    }

    /// Parses all CRLs of a PEM text in order.
    ///
    /// # Errors
    /// If one is malformed or over a limit.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for block in pem::blocks(pem) {
            let block = block?;
            if block.label == "X509 CRL" {
                all.push(Self::from_der(&block.der)?);
            }
        }
        Ok(all)
    }

    /// Reads a file with CRLs: PEM blocks, or one in DER.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load_all(path: impl AsRef<std::path::Path>) -> Result<Vec<Self>, Error> {
        let bytes = pem::read_file(path.as_ref())?;
        if bytes.first() != Some(&tlv::SEQUENCE) && pem::is_pem(&bytes) {
            Self::all_from_pem(&String::from_utf8_lossy(&bytes))
        } else {
            Ok(vec![Self::from_der(&bytes)?])
        }
    }

    /// The DER as received.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The CRL as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("X509 CRL", &self.0.der)
    }

    /// The decoded structure.
    pub fn list(&self) -> &CertificateList {
        &self.0.list
    }

    /// The issuer as an RFC 4514 string.
    pub fn issuer(&self) -> String {
        self.0.list.tbs_cert_list.issuer.to_string()
    }

    /// The DER of the issuer as received.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.issuer
    }

    /// When it was issued.
    pub fn this_update(&self) -> OffsetDateTime {
        self.0.this_update
    }

    /// When the next one is due.
    pub fn next_update(&self) -> Option<OffsetDateTime> {
        self.0.next_update
    }

    /// When a certificate was revoked, by its serial number's content octets. For direct CRLs:
    /// the certificateIssuer extension of indirect ones is not looked at.
    pub fn revocation(&self, serial_number: &[u8]) -> Option<OffsetDateTime> {
        let revoked = self.0.list.tbs_cert_list.revoked_certificates.as_deref()?;
        let entry = revoked
            .iter()
            .find(|entry| entry.serial_number.as_bytes() == serial_number)?;
        let seconds = entry.revocation_date.to_unix_duration().as_secs();
        // The type's last year is 9999, which both conversions hold.
        OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
    }

    /// Verifies the CRL's signature under a public key: mathematics only.
    ///
    /// # Errors
    /// If it does not verify, or the algorithm is unsupported or legacy.
    pub fn verify_signature_by(&self, key: &PublicKey) -> Result<(), Error> {
        self.verify_signature(key, false)
    }

    /// As [`Self::verify_signature_by`], legacy algorithms included.
    ///
    /// # Errors
    /// If it does not verify or the algorithm is unsupported.
    pub fn verify_signature_by_legacy(&self, key: &PublicKey) -> Result<(), Error> {
        self.verify_signature(key, true)
    }

    fn verify_signature(&self, key: &PublicKey, allow_legacy: bool) -> Result<(), Error> {
        let inner = &self.0;
        // RFC 5280 §5.1.1.2: This field MUST contain the same algorithm identifier as the
        // signature field in the sequence tbsCertList.
        if inner.outer_algorithm != inner.inner_algorithm {
            return Err(Error::malformed(
                Document::Crl,
                "signature and signatureAlgorithm differ",
            ));
        }
        let (tbs, signature) = (&inner.tbs, &inner.signature);
        key.verify_identified(&inner.outer_algorithm, tbs, signature, allow_legacy)
            .map_err(|error| match error {
                Error::SignatureInvalid(_) => Error::SignatureInvalid(Document::Crl),
                Error::CmsPssParameters => {
                    Error::malformed(Document::Crl, "RSASSA-PSS parameters are missing")
                }
                other => other,
            })
    }
}

/// Decodes the structure. `x509-cert` knows only CRLs that say their version, but RFC 5280 §5 requires
/// to process those of version 1 too, in which it is absent; for them it is put in.
fn decode(der: &[u8]) -> Result<CertificateList, der::Error> {
    match version_1(der) {
        Some(explicit) => CertificateList::from_der(&explicit),
        None => CertificateList::from_der(der),
    }
}

/// The CRL with its version written out, if it has none.
fn version_1(der: &[u8]) -> Option<Vec<u8>> {
    let mut outer = Reader::der(der).enter(tlv::SEQUENCE).ok()?;
    let tbs = outer.expect(tlv::SEQUENCE).ok()?;
    let algorithm = outer.any().ok()?.raw;
    let signature = outer.any().ok()?.raw;
    if outer.inside(&tbs).ok()?.peek() == Some(tlv::INTEGER) || outer.finish().is_err() {
        return None;
    }
    let tbs = tlv::element(tlv::SEQUENCE, &[&[tlv::INTEGER, 1, 0], tbs.value]);
    Some(tlv::element(tlv::SEQUENCE, &[&tbs, algorithm, signature]))
}

fn read(der: &[u8], list: CertificateList) -> tlv::Result<Crl> {
    let mut file = Reader::der(der);
    let mut outer = file.enter(tlv::SEQUENCE)?;
    file.finish()?;
    let tbs = outer.expect(tlv::SEQUENCE)?;
    let outer_algorithm = outer.expect(tlv::SEQUENCE)?.raw.to_vec();
    let signature = outer.bit_string()?.to_vec();
    let mut fields = outer.inside(&tbs)?;
    outer.finish()?;
    fields.optional(tlv::INTEGER)?;
    let inner_algorithm = fields.expect(tlv::SEQUENCE)?.raw.to_vec();
    let issuer = fields.expect(tlv::SEQUENCE)?.raw.to_vec();
    let this_update = times::read(&fields.any()?)?;
    let next_update = match fields.peek() {
        Some(tlv::UTC_TIME | tlv::GENERALIZED_TIME) => Some(times::read(&fields.any()?)?),
        _ => None,
    };
    if list.tbs_cert_list.next_update.is_some() != next_update.is_some() {
        return Err(TlvError("nextUpdate is malformed"));
    }
    Ok(Crl(Arc::new(Inner {
        der: der.to_vec(),
        list,
        tbs: tbs.raw.to_vec(),
        inner_algorithm,
        outer_algorithm,
        signature,
        issuer,
        this_update,
        next_update,
    })))
}

impl PartialEq for Crl {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Crl {}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crl({})", self.issuer())
    }
}
