//! CMS SignedData (RFC 5652): produced as DER, read tolerantly.

use const_oid::ObjectIdentifier;

use crate::{Certificate, Error, Identity, Oddity, SeveralSigners, SignOptions, VerifiedSigner};

/// id-data.
pub const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// id-ct-animaJSONVoucher of RFC 8366.
pub const ID_CT_ANIMA_JSON_VOUCHER: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.40");

/// What to demand of a CMS message. The default is strict.
#[derive(Clone, Debug, Default)]
pub struct CmsPolicy {
    /// The eContentType that the content must have; `None` takes any.
    pub content_type: Option<ObjectIdentifier>,
    /// Take id-data in place of `content_type`.
    pub allow_id_data: bool,
    /// Take BER (indefinite lengths, constructed strings) in place of DER.
    pub allow_ber: bool,
    /// Take a SignerInfo without signedAttrs.
    pub allow_missing_signed_attributes: bool,
    /// Take signedAttrs that are not in DER order.
    pub allow_unsorted_signed_attributes: bool,
    /// Take RSASSA-PSS without parameters: hash and mask are then those of digestAlgorithm.
    pub allow_missing_pss_parameters: bool,
    /// Take a digestAlgorithm that is not the hash of the signature algorithm.
    pub allow_algorithm_mismatch: bool,
    /// Take SHA-1 and RSA from 1024 bits.
    pub allow_legacy_algorithms: bool,
    /// Take octets after the end of the message.
    pub allow_trailing_data: bool,
    /// What to do with more than one SignerInfo.
    pub several_signers: SeveralSigners,
}

impl CmsPolicy {
    /// Everything as the standards demand, with one expected content type.
    pub fn strict(content_type: ObjectIdentifier) -> Self {
        Self {
            content_type: Some(content_type),
            ..Self::default()
        }
    }

    /// Every tolerance that does not weaken what the signature says; no legacy algorithms.
    pub fn tolerant(content_type: Option<ObjectIdentifier>) -> Self {
        Self {
            content_type,
            allow_id_data: true,
            allow_ber: true,
            allow_missing_signed_attributes: true,
            allow_unsorted_signed_attributes: true,
            allow_missing_pss_parameters: true,
            allow_algorithm_mismatch: true,
            allow_legacy_algorithms: false,
            allow_trailing_data: true,
            several_signers: SeveralSigners::All,
        }
    }
}

/// Signs content as a DER ContentInfo with SignedData.
///
/// # Errors
/// If the identity is inconsistent or signing fails.
pub fn sign(
    content: &[u8],
    econtent_type: ObjectIdentifier,
    identity: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    let _ = (content, econtent_type, identity, options);
    todo!()
}

/// A parsed SignedData. Nothing in it is verified until [`SignedData::verify`] says so, and
/// nothing is trusted until the signer's path is validated.
#[derive(Clone, Debug)]
pub struct SignedData {
    certificates: Vec<Certificate>,
    oddities: Vec<Oddity>,
}

impl SignedData {
    /// Parses a ContentInfo with SignedData, DER or BER.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let _ = bytes;
        todo!()
    }

    /// The eContentType.
    pub fn content_type(&self) -> ObjectIdentifier {
        todo!()
    }

    /// The content octets, if they are there (not detached).
    pub fn content(&self) -> Option<&[u8]> {
        todo!()
    }

    /// The certificates of the set.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The number of SignerInfos.
    pub fn signer_count(&self) -> usize {
        todo!()
    }

    /// What is odd about the message.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The certificate that a signer names, looked up in the set and in the caller's certificates.
    pub fn signer_certificate(
        &self,
        index: usize,
        extra_certs: &[Certificate],
    ) -> Option<Certificate> {
        let _ = (index, extra_certs);
        todo!()
    }

    /// Verifies the signature (or signatures, by policy) over the content. `extra_certs` are
    /// looked at when the signer's certificate is not in the message.
    ///
    /// # Errors
    /// The first reason why the message is not acceptable.
    pub fn verify(
        &self,
        policy: &CmsPolicy,
        extra_certs: &[Certificate],
    ) -> Result<VerifiedSigner, Error> {
        let _ = (policy, extra_certs);
        todo!()
    }

    /// Verifies each signer for itself, in order; the number of signers is not judged.
    pub fn verify_each(
        &self,
        policy: &CmsPolicy,
        extra_certs: &[Certificate],
    ) -> Vec<Result<VerifiedSigner, Error>> {
        let _ = (policy, extra_certs);
        todo!()
    }
}
