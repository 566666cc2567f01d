//! CMS SignedData (RFC 5652): produced as DER, read tolerantly.
//!
//! The message is read once, without copying, and every octet that a digest or a signature covers
//! is the octet that was received. [`SignedData::verify`] is mathematics: it says which
//! certificate's key signed the content. The certificates of the set are material for a path and
//! never trusted for being there.

mod enveloped;
mod parse;
mod plain;
mod sign;
mod verify;

use const_oid::ObjectIdentifier;

pub use self::enveloped::{
    ContentCipher, Decryptor, EnvelopOptions, EnvelopedData, ID_ENVELOPED_DATA, ID_SIGNED_DATA,
    KeyTransport, envelop,
};
pub(crate) use self::parse::read_certificates;
pub use self::plain::{content_type_of, parse_plain, plain, signed_data_as_content_info};
pub(crate) use self::sign::content_info;
pub use self::sign::sign;
use crate::{Certificate, Error, Oddity, SeveralSigners, VerifiedSigner};

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

/// A parsed SignedData. Nothing in it is verified until [`SignedData::verify`] says so, and
/// nothing is trusted until the signer's path is validated.
#[derive(Clone, Debug)]
pub struct SignedData {
    content_type: ObjectIdentifier,
    content: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
    crls: Vec<Vec<u8>>,
    digest_algorithms: Vec<ObjectIdentifier>,
    signers: Vec<SignerInfo>,
    oddities: Vec<Oddity>,
}

/// One SignerInfo as received.
#[derive(Clone, Debug)]
struct SignerInfo {
    version: u8,
    sid: SignerIdentifier,
    digest_algorithm: ObjectIdentifier,
    /// The SET OF Attribute as it is signed: with its universal tag, in DER.
    signed_attributes: Option<SignedAttributes>,
    /// The DER AlgorithmIdentifier.
    signature_algorithm: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Clone, Debug)]
struct SignedAttributes {
    der: Vec<u8>,
    /// Whether the octets received were DER and sorted.
    received_as_der: bool,
}

#[derive(Clone, Debug)]
enum SignerIdentifier {
    IssuerAndSerialNumber {
        issuer: Vec<u8>,
        serial_number: Vec<u8>,
    },
    SubjectKeyIdentifier(Vec<u8>),
}

impl SignedData {
    /// Parses a ContentInfo with SignedData, DER or BER.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse::parse(bytes)
    }

    /// The eContentType.
    pub fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// The content octets, if they are there (not detached).
    pub fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }

    /// The certificates of the set.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The CRLs of the set, undecoded.
    pub fn crls(&self) -> &[Vec<u8>] {
        &self.crls
    }

    /// The number of SignerInfos.
    pub fn signer_count(&self) -> usize {
        self.signers.len()
    }

    /// What is odd about the message.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The certificate that a signer names, looked up in the set and in the caller's certificates.
    /// No signature is verified: this is for inspection, and to find out whom to ask.
    pub fn signer_certificate(
        &self,
        index: usize,
        extra_certs: &[Certificate],
    ) -> Option<Certificate> {
        let signer = self.signers.get(index)?;
        verify::named_certificates(signer, &self.certificates, extra_certs)
            .next()
            .map(|(certificate, _)| certificate.clone())
    }

    /// The certificates among `candidates` that a signer names. No signature is verified.
    pub fn signer_certificates_among(
        &self,
        index: usize,
        candidates: &[Certificate],
    ) -> Vec<Certificate> {
        let Some(signer) = self.signers.get(index) else {
            return Vec::new();
        };
        verify::named_certificates(signer, &[], candidates)
            .map(|(certificate, _)| certificate.clone())
            .collect()
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
        let several = match self.signers.len() {
            0 => return Err(Error::CmsNoSigner),
            1 => false,
            _ => true,
        };
        if several && policy.several_signers == SeveralSigners::Refuse {
            return Err(Error::CmsSeveralSigners(self.signers.len()));
        }
        let results = self.verify_each(policy, extra_certs);
        let mut verified = match policy.several_signers {
            SeveralSigners::Any => crate::signed::first_verified(results, Error::CmsNoSigner)?,
            SeveralSigners::All | SeveralSigners::Refuse => {
                let all = results.into_iter().collect::<Result<Vec<_>, _>>()?;
                all.into_iter().next().ok_or(Error::CmsNoSigner)?
            }
        };
        if several {
            verified
                .oddities
                .push(Oddity::SeveralSigners(self.signers.len()));
        }
        Ok(verified)
    }

    /// Verifies each signer for itself, in order; the number of signers is not judged.
    pub fn verify_each(
        &self,
        policy: &CmsPolicy,
        extra_certs: &[Certificate],
    ) -> Vec<Result<VerifiedSigner, Error>> {
        self.signers
            .iter()
            .map(|signer| verify::verify(self, signer, policy, extra_certs))
            .collect()
    }
}
