//! Keys that stay inside a PKCS#11 token.

use crate::{Error, PublicKey, SignatureAlgorithm, Signer};

/// A private key in a PKCS#11 token.
pub struct Pkcs11Key {
    public_key: PublicKey,
    algorithm: SignatureAlgorithm,
}

impl Pkcs11Key {
    /// Opens the key that an RFC 7512 URI names. The URI has a `module-path` query attribute
    /// (or `module-name`), a token (`token`, `serial` or `slot-id`) and an object (`object` or
    /// `id`).
    ///
    /// # Errors
    /// [`Error::Pkcs11`] if the module, token, PIN or object is not usable.
    pub fn open(uri: &str, pin: &str) -> Result<Self, Error> {
        let _ = (uri, pin);
        todo!()
    }
}

impl Signer for Pkcs11Key {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let _ = message;
        todo!()
    }
}
