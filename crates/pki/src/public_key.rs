//! Public keys (SubjectPublicKeyInfo) and signature verification.

use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as lc, VerificationAlgorithm};

use crate::algorithm::{Identifier, Scheme};
use crate::fuzz_mock::taken_on_trust;
use crate::limits::{CERTIFICATE_SIZE_MAX_BYTES, RSA_MODULUS_MAX_BITS, RSA_MODULUS_MIN_BITS};
use crate::tlv::{self, Reader};
use crate::{Document, Error, SignatureAlgorithm, oid};

/// The type, and for some types the size, of a key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
#[non_exhaustive]
pub enum KeyKind {
    EcdsaP256,
    EcdsaP384,
    EcdsaP521,
    Ed25519,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// The type of a public key as far as verification has to know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa { bits: usize, pss_only: bool },
    MlDsa44,
    MlDsa65,
    MlDsa87,
    Other,
}

/// A SubjectPublicKeyInfo. Cheap to clone; two are equal if their DER is.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    spki: Vec<u8>,
    /// Where the subjectPublicKey bits are in `spki`.
    bits: Range<usize>,
    kind: Kind,
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// If it is malformed. An unknown key type parses; it fails when a signature is to be verified.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > CERTIFICATE_SIZE_MAX_BYTES {
            return Err(Error::LimitExceeded {
                document: Document::PublicKey,
                what: "octets",
                limit: CERTIFICATE_SIZE_MAX_BYTES,
            });
        }
        Self::read(der).map_err(|error| Error::malformed(Document::PublicKey, error))
    }

    fn read(der: &[u8]) -> tlv::Result<Self> {
        let mut outer = Reader::der(der);
        let mut reader = outer.enter(tlv::SEQUENCE)?;
        outer.finish()?;
        let identifier = Identifier::read(reader.enter(tlv::SEQUENCE)?)?;
        let bits = reader.bit_string()?;
        reader.finish()?;
        let kind = kind(&identifier, bits);
        // The bits are the end of the structure.
        let range = der.len() - bits.len()..der.len();
        Ok(Self(Arc::new(Inner {
            spki: der.to_vec(),
            bits: range,
            kind,
        })))
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The subjectPublicKey bits.
    pub fn key_bits(&self) -> &[u8] {
        self.0.spki.get(self.0.bits.clone()).unwrap_or_default()
    }

    /// The kind of key, if it is one that [`crate::SoftwareKey`] can generate.
    pub fn kind(&self) -> Option<KeyKind> {
        match self.0.kind {
            Kind::P256 => Some(KeyKind::EcdsaP256),
            Kind::P384 => Some(KeyKind::EcdsaP384),
            Kind::P521 => Some(KeyKind::EcdsaP521),
            Kind::Ed25519 => Some(KeyKind::Ed25519),
            Kind::Rsa { bits: 2048, .. } => Some(KeyKind::Rsa2048),
            Kind::Rsa { bits: 3072, .. } => Some(KeyKind::Rsa3072),
            Kind::Rsa { bits: 4096, .. } => Some(KeyKind::Rsa4096),
            Kind::MlDsa44 => Some(KeyKind::MlDsa44),
            Kind::MlDsa65 => Some(KeyKind::MlDsa65),
            Kind::MlDsa87 => Some(KeyKind::MlDsa87),
            Kind::Rsa { .. } | Kind::Other => None,
        }
    }

    pub(crate) fn kind_of(&self) -> Kind {
        self.0.kind
    }

    /// The key's type and size in words, for messages.
    pub fn describe(&self) -> String {
        match self.0.kind {
            Kind::P256 => "EC P-256".to_owned(),
            Kind::P384 => "EC P-384".to_owned(),
            Kind::P521 => "EC P-521".to_owned(),
            Kind::Ed25519 => "Ed25519".to_owned(),
            Kind::Rsa { bits, .. } => format!("RSA {bits}"),
            Kind::MlDsa44 => "ML-DSA-44".to_owned(),
            Kind::MlDsa65 => "ML-DSA-65".to_owned(),
            Kind::MlDsa87 => "ML-DSA-87".to_owned(),
            Kind::Other => "of an unknown type".to_owned(),
        }
    }

    /// Whether this is a type of key that signatures can be verified with.
    pub(crate) fn is_supported(&self) -> bool {
        self.0.kind != Kind::Other
    }

    /// The length of an RSA key's modulus in bits; none for other keys.
    pub(crate) fn rsa_modulus_bits(&self) -> Option<usize> {
        match self.0.kind {
            Kind::Rsa { bits, .. } => Some(bits),
            _ => None,
        }
    }

    /// Whether it is the same key, though it may be written differently: an RSA key is one for
    /// RSASSA-PSS only by its identifier, not by its numbers.
    pub fn is_same_key(&self, other: &Self) -> bool {
        let is_rsa = |key: &Self| matches!(key.0.kind, Kind::Rsa { .. });
        self == other || is_rsa(self) && is_rsa(other) && self.key_bits() == other.key_bits()
    }

    /// SHA-256 over the SubjectPublicKeyInfo.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.0.spki)
    }

    /// SHA-1 over the subjectPublicKey bits: the key identifier of RFC 5280 §4.2.1.2 method 1.
    pub fn sha1_key_id(&self) -> [u8; 20] {
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.key_bits());
        // Unwrap safety is avoided: a SHA-1 hash always has 20 octets.
        hash.as_ref().try_into().unwrap_or_default()
    }

    /// Verifies a signature.
    ///
    /// # Errors
    /// [`Error::SignatureInvalid`] if it does not verify; other variants if algorithm and key do
    /// not go together, or the algorithm is a legacy one.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        self.verify_scheme(algorithm.into(), message, signature, false)
    }

    /// Verifies a signature, SHA-1 and RSA from 1024 bits included. Only behind an operator's
    /// named switch for a manufacturer's old devices.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_legacy(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        self.verify_scheme(algorithm.into(), message, signature, true)
    }

    /// Verifies a signature whose algorithm a DER AlgorithmIdentifier names, RSASSA-PSS salt
    /// length included.
    ///
    /// # Errors
    /// As [`Self::verify`], and if the identifier is malformed.
    pub fn verify_identified(
        &self,
        identifier: &[u8],
        message: &[u8],
        signature: &[u8],
        allow_legacy: bool,
    ) -> Result<(), Error> {
        let identifier = Identifier::from_der(identifier)
            .map_err(|error| Error::malformed(Document::PublicKey, error))?;
        let scheme = Scheme::read(&identifier, self)?;
        self.verify_scheme(scheme, message, signature, allow_legacy)
    }

    pub(crate) fn verify_scheme(
        &self,
        scheme: Scheme,
        message: &[u8],
        signature: &[u8],
        allow_legacy: bool,
    ) -> Result<(), Error> {
        let algorithm = scheme.algorithm;
        if let Kind::Rsa { bits, .. } = self.0.kind {
            if bits > RSA_MODULUS_MAX_BITS {
                return Err(Error::UnsupportedKey(self.describe()));
            }
            if bits < RSA_MODULUS_MIN_BITS && !allow_legacy {
                return Err(Error::LegacyAlgorithm(self.describe()));
            }
        }
        if algorithm.is_legacy() && !allow_legacy {
            return Err(Error::LegacyAlgorithm(algorithm.to_string()));
        }
        if taken_on_trust(signature) {
            return Ok(());
        }
        let invalid = |_| Error::SignatureInvalid(Document::PublicKey);
        let key = self.key_bits();
        if let Some(parameters) = self.pss_parameters(scheme) {
            return parameters
                .verify_sig(key, message, signature)
                .map_err(invalid);
        }
        let verifier = self.verifier(algorithm).ok_or_else(|| match self.0.kind {
            Kind::Other => Error::UnsupportedKey(self.describe()),
            _ => Error::AlgorithmKeyMismatch {
                algorithm: algorithm.to_string(),
                key: self.describe(),
            },
        })?;
        verifier
            .verify_sig(key, message, signature)
            .map_err(invalid)
    }

    /// RSASSA-PSS with a salt of another length than the hash.
    fn pss_parameters(&self, scheme: Scheme) -> Option<lc::RsaParameters> {
        let Kind::Rsa { .. } = self.0.kind else {
            return None;
        };
        let salt_length = scheme.salt_length?;
        let (parameters, hash_length) = match scheme.algorithm {
            SignatureAlgorithm::RsaPssSha256 => (lc::RSA_PSS_2048_8192_SHA256, 32),
            SignatureAlgorithm::RsaPssSha384 => (lc::RSA_PSS_2048_8192_SHA384, 48),
            SignatureAlgorithm::RsaPssSha512 => (lc::RSA_PSS_2048_8192_SHA512, 64),
            _ => return None,
        };
        (salt_length != hash_length)
            .then(|| parameters.with_pss_salt_length(lc::RsaPssSaltLength::Custom(salt_length)))
    }

    fn verifier(
        &self,
        algorithm: SignatureAlgorithm,
    ) -> Option<&'static dyn VerificationAlgorithm> {
        use SignatureAlgorithm as A;
        Some(match (self.0.kind, algorithm) {
            (Kind::P256, A::EcdsaP256Sha256) => &lc::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, A::EcdsaP256Sha384) => &lc::ECDSA_P256_SHA384_ASN1,
            (Kind::P256, A::EcdsaP256Sha512) => &lc::ECDSA_P256_SHA512_ASN1,
            (Kind::P256, A::EcdsaSha1) => &lc::ECDSA_P256_SHA1_ASN1,
            (Kind::P384, A::EcdsaP384Sha256) => &lc::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, A::EcdsaP384Sha384) => &lc::ECDSA_P384_SHA384_ASN1,
            (Kind::P384, A::EcdsaP384Sha512) => &lc::ECDSA_P384_SHA512_ASN1,
            (Kind::P521, A::EcdsaP521Sha256) => &lc::ECDSA_P521_SHA256_ASN1,
            (Kind::P521, A::EcdsaP521Sha384) => &lc::ECDSA_P521_SHA384_ASN1,
            (Kind::P521, A::EcdsaP521Sha512) => &lc::ECDSA_P521_SHA512_ASN1,
            (Kind::P521, A::EcdsaSha1) => &lc::ECDSA_P521_SHA1_ASN1,
            (Kind::Ed25519, A::Ed25519) => &lc::ED25519,
            (
                Kind::Rsa {
                    pss_only: false, ..
                },
                A::RsaPkcs1Sha1,
            ) => &lc::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (
                Kind::Rsa {
                    pss_only: false,
                    bits,
                },
                A::RsaPkcs1Sha256,
            ) => {
                if bits < RSA_MODULUS_MIN_BITS {
                    &lc::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY
                } else {
                    &lc::RSA_PKCS1_2048_8192_SHA256
                }
            }
            (
                Kind::Rsa {
                    pss_only: false, ..
                },
                A::RsaPkcs1Sha384,
            ) => &lc::RSA_PKCS1_2048_8192_SHA384,
            (
                Kind::Rsa {
                    pss_only: false,
                    bits,
                },
                A::RsaPkcs1Sha512,
            ) => {
                if bits < RSA_MODULUS_MIN_BITS {
                    &lc::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY
                } else {
                    &lc::RSA_PKCS1_2048_8192_SHA512
                }
            }
            (Kind::Rsa { .. }, A::RsaPssSha256) => &lc::RSA_PSS_2048_8192_SHA256,
            (Kind::Rsa { .. }, A::RsaPssSha384) => &lc::RSA_PSS_2048_8192_SHA384,
            (Kind::Rsa { .. }, A::RsaPssSha512) => &lc::RSA_PSS_2048_8192_SHA512,
            (Kind::MlDsa44, A::MlDsa44) => &lc::ML_DSA_44,
            (Kind::MlDsa65, A::MlDsa65) => &lc::ML_DSA_65,
            (Kind::MlDsa87, A::MlDsa87) => &lc::ML_DSA_87,
            _ => return None,
        })
    }
}

fn kind(identifier: &Identifier<'_>, bits: &[u8]) -> Kind {
    match identifier.id {
        oid::EC_PUBLIC_KEY => {
            let curve = identifier
                .parameters
                .and_then(|der| Reader::der(der).oid().ok());
            match curve {
                Some(oid::P256) => Kind::P256,
                Some(oid::P384) => Kind::P384,
                Some(oid::P521) => Kind::P521,
                _ => Kind::Other,
            }
        }
        oid::ED25519 => Kind::Ed25519,
        oid::RSA_ENCRYPTION => rsa_kind(bits, false),
        oid::RSA_PSS => rsa_kind(bits, true),
        oid::ML_DSA_44 => Kind::MlDsa44,
        oid::ML_DSA_65 => Kind::MlDsa65,
        oid::ML_DSA_87 => Kind::MlDsa87,
        _ => Kind::Other,
    }
}

fn rsa_kind(key: &[u8], pss_only: bool) -> Kind {
    let modulus = Reader::der(key)
        .enter(tlv::SEQUENCE)
        .and_then(|mut fields| fields.integer());
    match modulus {
        Ok([0, first, rest @ ..] | [first, rest @ ..]) if *first != 0 => {
            // The leading octet has at most eight bits.
            let leading = 8 - usize::try_from(first.leading_zeros()).unwrap_or(0);
            Kind::Rsa {
                bits: rest.len() * 8 + leading,
                pss_only,
            }
        }
        _ => Kind::Other,
    }
}

pub(crate) fn sha256(message: &[u8]) -> [u8; 32] {
    let hash = digest::digest(&digest::SHA256, message);
    // A SHA-256 hash always has 32 octets.
    hash.as_ref().try_into().unwrap_or_default()
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.spki.hash(state);
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PublicKey({}, {})",
            self.describe(),
            hex::encode(self.sha256())
        )
    }
}
