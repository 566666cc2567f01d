//! Signature and digest algorithms and their AlgorithmIdentifiers.

use crate::{Error, PublicKey};

/// A signature algorithm: key type, hash and, for RSA, padding.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    EcdsaP256Sha256,
    EcdsaP256Sha384,
    EcdsaP256Sha512,
    EcdsaP384Sha256,
    EcdsaP384Sha384,
    EcdsaP384Sha512,
    EcdsaP521Sha256,
    EcdsaP521Sha384,
    EcdsaP521Sha512,
    Ed25519,
    RsaPkcs1Sha256,
    RsaPkcs1Sha384,
    RsaPkcs1Sha512,
    RsaPssSha256,
    RsaPssSha384,
    RsaPssSha512,
    MlDsa44,
    MlDsa65,
    MlDsa87,
    /// Verified only by [`PublicKey::verify_legacy`].
    EcdsaSha1,
    /// Verified only by [`PublicKey::verify_legacy`].
    RsaPkcs1Sha1,
}

impl SignatureAlgorithm {
    /// Reads a DER AlgorithmIdentifier. ECDSA identifiers do not name the curve, so the key that
    /// is to verify the signature is needed.
    ///
    /// # Errors
    /// If the algorithm is unknown, its parameters are wrong, or it does not go with the key.
    pub fn from_identifier(der: &[u8], key: &PublicKey) -> Result<Self, Error> {
        let _ = (der, key);
        todo!()
    }

    /// The DER AlgorithmIdentifier.
    pub fn identifier(self) -> Vec<u8> {
        todo!()
    }

    /// The hash that is part of the algorithm; none for Ed25519 and ML-DSA, which hash inside.
    pub fn digest(self) -> Option<DigestAlgorithm> {
        todo!()
    }

    /// True for SHA-1.
    pub fn is_legacy(self) -> bool {
        matches!(self, Self::EcdsaSha1 | Self::RsaPkcs1Sha1)
    }
}

/// A hash function.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum DigestAlgorithm {
    /// Only behind the legacy switch.
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}
