//! Private keys behind the [`Signer`] trait.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{Certificate, Error, KeyKind, PublicKey, SignatureAlgorithm};

/// Something that signs with a private key: a file's key or a token's.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;
    /// The algorithm that [`Self::sign`] uses.
    fn algorithm(&self) -> SignatureAlgorithm;
    /// Signs the message (not a digest of it). ECDSA signatures are DER `ECDSA-Sig-Value`.
    ///
    /// # Errors
    /// If the library or the token fails.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;
    /// Signs with another algorithm that the same key can do. TLS needs it: an RSA identity signs
    /// RSASSA-PSS in TLS 1.3 and, with old clients, PKCS#1 in TLS 1.2. Keys of a type with one
    /// algorithm only can leave this default.
    ///
    /// # Errors
    /// If the key cannot do the algorithm, or the library or the token fails.
    fn sign_with(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
        if algorithm == self.algorithm() {
            return self.sign(message);
        }
        Err(Error::AlgorithmKeyMismatch {
            algorithm: format!("{algorithm:?}"),
            key: format!("{:?}", self.algorithm()),
        })
    }
}

/// A private key in this process' memory.
pub struct SoftwareKey {
    public_key: PublicKey,
    algorithm: SignatureAlgorithm,
}

impl SoftwareKey {
    /// Generates a key.
    ///
    /// # Errors
    /// If the library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, Error> {
        let _ = kind;
        todo!()
    }

    /// Reads an unencrypted PKCS#8 DER private key.
    ///
    /// # Errors
    /// If it is malformed or not supported.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let _ = der;
        todo!()
    }

    /// Reads a PEM private key: PKCS#8, encrypted PKCS#8 (with a passphrase), or the traditional
    /// `EC PRIVATE KEY` and `RSA PRIVATE KEY`.
    ///
    /// # Errors
    /// [`Error::PassphraseWrong`] if the passphrase is missing or wrong.
    pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<Self, Error> {
        let _ = (pem, passphrase);
        todo!()
    }

    /// Reads a PEM or DER file.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load(path: impl AsRef<Path>, passphrase: Option<&str>) -> Result<Self, Error> {
        let _ = (path.as_ref(), passphrase);
        todo!()
    }

    /// Uses RSASSA-PSS (or PKCS#1 v1.5, the default) with an RSA key, or another hash.
    ///
    /// # Errors
    /// If the algorithm does not go with the key.
    pub fn with_algorithm(self, algorithm: SignatureAlgorithm) -> Result<Self, Error> {
        let _ = algorithm;
        todo!()
    }

    /// Unencrypted PKCS#8 DER.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        todo!()
    }

    /// Unencrypted PKCS#8 PEM.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, Error> {
        todo!()
    }

    /// PKCS#8 PEM encrypted by PBES2 (PBKDF2 with HMAC-SHA-256, AES-256-CBC).
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_encrypted_pkcs8_pem(&self, passphrase: &str) -> Result<Zeroizing<String>, Error> {
        let _ = passphrase;
        todo!()
    }
}

impl Signer for SoftwareKey {
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

/// Shows the public half only.
impl std::fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftwareKey")
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

/// A certificate chain and the key of its first certificate.
#[derive(Clone)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<Certificate>,
    /// The leaf's key.
    pub signer: Arc<dyn Signer>,
}

impl Identity {
    /// Joins a chain with its key.
    ///
    /// # Errors
    /// [`Error::IdentityMismatch`] if the first certificate has another key, or there is none.
    pub fn new(chain: Vec<Certificate>, signer: Arc<dyn Signer>) -> Result<Self, Error> {
        match chain.first() {
            Some(leaf) if leaf.public_key() == signer.public_key() => Ok(Self { chain, signer }),
            _ => Err(Error::IdentityMismatch),
        }
    }

    /// The first certificate of the chain, if any.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.chain.first()
    }
}

/// Shows the certificates only.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}
