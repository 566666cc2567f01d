//! X.509 certificates.

use std::path::Path;
use std::sync::Arc;

use const_oid::ObjectIdentifier;
use time::OffsetDateTime;

use crate::{Error, PublicKey};

/// An X.509 certificate with its DER as received. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    x509: x509_cert::Certificate,
    public_key: PublicKey,
}

/// hardwareModuleName of RFC 4108 §5, found in the subjectAltName of some IDevIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HardwareModuleName {
    /// The type of hardware module.
    pub hardware_type: ObjectIdentifier,
    /// Its serial number, an OCTET STRING.
    pub serial_number: Vec<u8>,
}

impl Certificate {
    /// Parses one certificate.
    ///
    /// # Errors
    /// If it is not one well-formed DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let _ = der;
        todo!()
    }

    /// Parses the first certificate of a PEM text.
    ///
    /// # Errors
    /// If there is none or it is malformed.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let _ = pem;
        todo!()
    }

    /// Reads a file with one certificate, PEM or DER.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let _ = path.as_ref();
        todo!()
    }

    /// Reads a file of certificates: PEM blocks, or one DER certificate.
    ///
    /// # Errors
    /// If the file cannot be read, holds none, or one is malformed.
    pub fn load_all(path: impl AsRef<Path>) -> Result<Vec<Self>, Error> {
        let _ = path.as_ref();
        todo!()
    }

    /// Parses all certificates of a PEM text in order.
    ///
    /// # Errors
    /// If there is none or one is malformed.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>, Error> {
        let _ = pem;
        todo!()
    }

    /// The DER as received.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as PEM.
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// The decoded structure.
    pub fn x509(&self) -> &x509_cert::Certificate {
        &self.0.x509
    }

    /// The DER of the TBSCertificate as received: what the signature covers.
    pub fn tbs_der(&self) -> &[u8] {
        todo!()
    }

    /// The subject's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The subject as an RFC 4514 string.
    pub fn subject(&self) -> String {
        todo!()
    }

    /// The issuer as an RFC 4514 string.
    pub fn issuer(&self) -> String {
        todo!()
    }

    /// The DER of the subject as received.
    pub fn subject_der(&self) -> &[u8] {
        todo!()
    }

    /// The DER of the issuer as received.
    pub fn issuer_der(&self) -> &[u8] {
        todo!()
    }

    /// The certificate's serial number: the INTEGER's content octets.
    pub fn serial_number(&self) -> &[u8] {
        todo!()
    }

    /// The X520SerialNumber attribute of the subject: the device's serial number.
    pub fn subject_serial_number(&self) -> Option<String> {
        todo!()
    }

    /// The subjectKeyIdentifier.
    pub fn subject_key_id(&self) -> Option<Vec<u8>> {
        todo!()
    }

    /// The keyIdentifier of the authorityKeyIdentifier.
    pub fn authority_key_id(&self) -> Option<Vec<u8>> {
        todo!()
    }

    /// The content of the authorityKeyIdentifier's extnValue.
    pub fn authority_key_id_extension(&self) -> Option<Vec<u8>> {
        todo!()
    }

    /// The MASA URL extension of RFC 8995 §2.3.2.
    pub fn masa_url(&self) -> Option<String> {
        todo!()
    }

    /// The hardwareModuleName of the subjectAltName.
    pub fn hardware_module_name(&self) -> Option<HardwareModuleName> {
        todo!()
    }

    /// The purposes of the extendedKeyUsage; empty if there is no such extension.
    pub fn extended_key_usages(&self) -> Vec<ObjectIdentifier> {
        todo!()
    }

    /// Whether extendedKeyUsage has id-kp-cmcRA.
    pub fn has_cmc_ra(&self) -> bool {
        todo!()
    }

    /// Whether basicConstraints says CA.
    pub fn is_ca(&self) -> bool {
        todo!()
    }

    /// The dNSNames of the subjectAltName.
    pub fn dns_names(&self) -> Vec<String> {
        todo!()
    }

    /// Start of validity.
    pub fn not_before(&self) -> OffsetDateTime {
        todo!()
    }

    /// End of validity.
    pub fn not_after(&self) -> OffsetDateTime {
        todo!()
    }

    /// SHA-256 over the DER.
    pub fn sha256(&self) -> [u8; 32] {
        todo!()
    }

    /// The content octets of an extension's extnValue.
    pub fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let _ = id;
        todo!()
    }

    /// Verifies the certificate's signature under a public key. This is mathematics only; whether
    /// the key may sign certificates is for path validation.
    ///
    /// # Errors
    /// If it does not verify, or the algorithm is unsupported or legacy.
    pub fn verify_signature_by(&self, key: &PublicKey) -> Result<(), Error> {
        let _ = key;
        todo!()
    }

    /// As [`Self::verify_signature_by`], legacy algorithms included.
    ///
    /// # Errors
    /// If it does not verify or the algorithm is unsupported.
    pub fn verify_signature_by_legacy(&self, key: &PublicKey) -> Result<(), Error> {
        let _ = key;
        todo!()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl std::hash::Hash for Certificate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}
