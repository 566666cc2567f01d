//! Public keys (SubjectPublicKeyInfo) and signature verification.

use std::sync::Arc;

use crate::{Error, SignatureAlgorithm};

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

/// A SubjectPublicKeyInfo. Cheap to clone.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct PublicKey {
    spki: Arc<[u8]>,
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// If it is malformed. An unknown key type parses; it fails when a signature is to be verified.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, Error> {
        Ok(Self { spki: der.into() })
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 over the SubjectPublicKeyInfo.
    pub fn sha256(&self) -> [u8; 32] {
        todo!()
    }

    /// SHA-1 over the subjectPublicKey bits: the key identifier of RFC 5280 §4.2.1.2 method 1.
    pub fn sha1_key_id(&self) -> [u8; 20] {
        todo!()
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
        let _ = (algorithm, message, signature);
        todo!()
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
        let _ = (algorithm, message, signature);
        todo!()
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", hex::encode(self.sha256()))
    }
}
