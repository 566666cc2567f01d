//! What CMS and JWS have in common.

use time::OffsetDateTime;

use crate::{Certificate, Error, SignatureAlgorithm};

/// Which certificates travel with a signature.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IncludeCertificates {
    /// The whole chain of the identity.
    #[default]
    Chain,
    /// Only the signer's.
    Signer,
    /// None: the verifier has to know the signer.
    None,
}

/// How to sign.
#[derive(Clone, Debug, Default)]
pub struct SignOptions {
    /// CMS: the signingTime attribute. JWS has none.
    pub signing_time: Option<OffsetDateTime>,
    /// Which certificates of the identity to include.
    pub include_certs: IncludeCertificates,
    /// CMS: further certificates for the set, for example the TLS certificate of a registrar that
    /// signs with another key.
    pub extra_certs: Vec<Certificate>,
    /// CMS: name the signer by subjectKeyIdentifier instead of issuer and serial number.
    pub by_subject_key_id: bool,
}

/// Something unusual in a message that the policy tolerated, or that is legal but odd.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Oddity {
    /// BER instead of DER.
    Ber,
    /// eContentType id-data instead of the expected one.
    IdData,
    /// CMSVersion is not the one of RFC 5652 §5.1.
    CmsVersion {
        /// The version found.
        found: u8,
        /// The version that the standard demands.
        expected: u8,
    },
    /// SignerInfo version does not go with the form of the signer identifier.
    SignerInfoVersion,
    /// No signedAttrs.
    NoSignedAttributes,
    /// signedAttrs are not DER encoded.
    SignedAttributesNotDer,
    /// No signingTime.
    NoSigningTime,
    /// signingTime in GeneralizedTime before 2050, or otherwise not as RFC 5652 §11.3 demands.
    SigningTimeForm,
    /// RSASSA-PSS parameters are missing.
    PssParametersMissing,
    /// digestAlgorithm is not the signature's hash.
    AlgorithmMismatch,
    /// The digest algorithm is not in the SignedData's digestAlgorithms.
    DigestAlgorithmNotListed,
    /// The signer's certificate is not in the message.
    SignerCertificateElsewhere,
    /// Several signers.
    SeveralSigners(usize),
    /// The certificate set has members that are not X.509 certificates.
    OtherCertificates(usize),
    /// A certificate of the set does not parse and was left out.
    UnreadableCertificate,
    /// A SHA-1 signature or digest, or short RSA.
    LegacyAlgorithm,
    /// Bytes after the end of the message.
    TrailingData(usize),
    /// JWS: not the General but the Flattened JSON or Compact serialisation.
    NotGeneralSerialization,
    /// JWS: base64url with padding or the standard alphabet.
    Base64Form,
    /// JWS: x5c in base64url.
    CertificateBase64Form,
    /// JWS: certificates of x5c are not in order.
    CertificatesUnordered,
    /// COSE: no tag 18.
    Untagged,
    /// COSE: an array of one certificate, where one belongs by itself.
    ArrayOfOneCertificate,
    /// JWS: no typ.
    NoType,
    /// JWS: typ is not the one expected.
    WrongType(String),
    /// JWS: members that the standard does not know.
    UnknownMember(String),
}

/// A signer whose signature verifies over the content. Nothing is said about trust yet: that is
/// path validation's part.
#[derive(Clone, Debug)]
pub struct VerifiedSigner {
    pub(crate) certificate: Certificate,
    pub(crate) candidates: Vec<Certificate>,
    pub(crate) signing_time: Option<OffsetDateTime>,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) oddities: Vec<Oddity>,
}

impl VerifiedSigner {
    /// The signer's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The other certificates that came with the message, unordered: material for a path, never
    /// a source of trust.
    pub fn candidates(&self) -> &[Certificate] {
        &self.candidates
    }

    /// The same signature under another certificate for the same key, if one of the others is that.
    pub fn under(&self, other: &Certificate) -> Option<Self> {
        let same_key = other.public_key().spki_der() == self.certificate.public_key().spki_der();
        if !same_key || *other == self.certificate || !self.candidates.contains(other) {
            return None;
        }
        let mut candidates = self.candidates.clone();
        candidates.retain(|one| one != other);
        candidates.push(self.certificate.clone());
        Some(Self {
            certificate: other.clone(),
            candidates,
            ..self.clone()
        })
    }

    /// CMS: the signed signing time, as the signer claims it.
    pub fn signing_time(&self) -> Option<OffsetDateTime> {
        self.signing_time
    }

    /// The signature's algorithm.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// What was odd about the message and was tolerated.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }
}

/// What to do with more than one signature.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SeveralSigners {
    /// Refuse the message.
    #[default]
    Refuse,
    /// Every signature has to verify; the first signer is the answer.
    All,
    /// One signature has to verify; the first that does is the answer.
    Any,
}

/// The first signer that verifies, or why the first did not.
pub(crate) fn first_verified(
    results: Vec<Result<VerifiedSigner, Error>>,
    none: Error,
) -> Result<VerifiedSigner, Error> {
    let mut reason = none;
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(verified) => return Ok(verified),
            Err(error) if index == 0 => reason = error,
            Err(_) => {}
        }
    }
    Err(reason)
}
