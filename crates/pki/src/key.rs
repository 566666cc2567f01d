//! Private keys behind the [`Signer`] trait.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    self as lc, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, PqdsaKeyPair,
    PqdsaSigningAlgorithm, RsaKeyPair,
};
use zeroize::Zeroizing;

use crate::algorithm::Identifier;
use crate::limits::{PEM_SIZE_MAX_BYTES, RSA_MODULUS_MIN_BITS};
use crate::public_key::Kind;
use crate::tlv::{self, Reader};
use crate::{
    Certificate, Document, Error, KeyKind, PublicKey, SignatureAlgorithm, encrypted_key, oid, pem,
};

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
            algorithm: algorithm.to_string(),
            key: self.algorithm().to_string(),
        })
    }
    /// The key itself as PKCS#8 DER, for a library that signs on its own (OpenSSL for DTLS).
    /// `None` for a key that cannot leave its place, for example on a token.
    fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        None
    }
}

/// A private key in this process' memory.
pub struct SoftwareKey {
    pair: Pair,
    public_key: PublicKey,
    algorithm: SignatureAlgorithm,
}

enum Pair {
    /// The private key's own PKCS#8 is kept beside the pair only as long as it is being exported.
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SoftwareKey {
    /// Generates a key.
    ///
    /// # Errors
    /// If the library fails.
    pub fn generate(kind: KeyKind) -> Result<Self, Error> {
        let failed = |_| Error::KeyGeneration;
        let ecdsa = |algorithm| {
            EcdsaKeyPair::generate(algorithm)
                .map(Pair::Ecdsa)
                .map_err(failed)
        };
        let ml_dsa = |algorithm| {
            PqdsaKeyPair::generate(algorithm)
                .map(Pair::MlDsa)
                .map_err(failed)
        };
        let rsa = |size| RsaKeyPair::generate(size).map(Pair::Rsa).map_err(failed);
        let pair = match kind {
            KeyKind::EcdsaP256 => ecdsa(&lc::ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeyKind::EcdsaP384 => ecdsa(&lc::ECDSA_P384_SHA384_ASN1_SIGNING)?,
            KeyKind::EcdsaP521 => ecdsa(&lc::ECDSA_P521_SHA512_ASN1_SIGNING)?,
            KeyKind::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            KeyKind::Rsa2048 => rsa(rsa::KeySize::Rsa2048)?,
            KeyKind::Rsa3072 => rsa(rsa::KeySize::Rsa3072)?,
            KeyKind::Rsa4096 => rsa(rsa::KeySize::Rsa4096)?,
            KeyKind::MlDsa44 => ml_dsa(&lc::ML_DSA_44_SIGNING)?,
            KeyKind::MlDsa65 => ml_dsa(&lc::ML_DSA_65_SIGNING)?,
            KeyKind::MlDsa87 => ml_dsa(&lc::ML_DSA_87_SIGNING)?,
        };
        Self::from_pair(pair, None)
    }

    /// Reads an unencrypted PKCS#8 DER private key.
    ///
    /// # Errors
    /// If it is malformed or not supported.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, Error> {
        let malformed = |error| Error::malformed(Document::PrivateKey, error);
        let mut outer = Reader::der(der);
        let mut fields = outer.enter(tlv::SEQUENCE).map_err(malformed)?;
        fields.integer().map_err(malformed)?;
        let identifier = fields.enter(tlv::SEQUENCE).map_err(malformed)?;
        let identifier = Identifier::read(identifier).map_err(malformed)?;
        let rejected = |error: aws_lc_rs::error::KeyRejected| Error::KeyRejected(error.to_string());
        let pair = match identifier.id {
            oid::EC_PUBLIC_KEY => {
                let curve = identifier
                    .parameters
                    .and_then(|der| Reader::der(der).oid().ok());
                let algorithm = ecdsa_algorithm(curve)?;
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(rejected)?)
            }
            oid::ED25519 => {
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(rejected)?)
            }
            oid::RSA_ENCRYPTION => Pair::Rsa(RsaKeyPair::from_pkcs8(der).map_err(rejected)?),
            oid::ML_DSA_44 => ml_dsa_from_pkcs8(&lc::ML_DSA_44_SIGNING, der)?,
            oid::ML_DSA_65 => ml_dsa_from_pkcs8(&lc::ML_DSA_65_SIGNING, der)?,
            oid::ML_DSA_87 => ml_dsa_from_pkcs8(&lc::ML_DSA_87_SIGNING, der)?,
            other => return Err(Error::UnsupportedKey(other.to_string())),
        };
        Self::from_pair(pair, None)
    }

    /// Reads a PEM private key: PKCS#8, encrypted PKCS#8 (with a passphrase), or the traditional
    /// `EC PRIVATE KEY` and `RSA PRIVATE KEY`.
    ///
    /// # Errors
    /// [`Error::PassphraseWrong`] if the passphrase is missing or wrong.
    pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<Self, Error> {
        for block in pem::blocks(pem) {
            let block = block?;
            let der = Zeroizing::new(block.der);
            match block.label {
                "PRIVATE KEY" => return Self::from_pkcs8_der(&der),
                "ENCRYPTED PRIVATE KEY" => return Self::from_encrypted_pkcs8(&der, passphrase),
                "EC PRIVATE KEY" | "RSA PRIVATE KEY" => return Self::from_traditional_der(&der),
                _ => {}
            }
        }
        Err(Error::malformed(
            Document::PrivateKey,
            "there is no private key in the PEM text",
        ))
    }

    fn from_encrypted_pkcs8(der: &[u8], passphrase: Option<&str>) -> Result<Self, Error> {
        Self::from_pkcs8_der(&encrypted_key::open(der, passphrase)?)
    }

    /// Reads the traditional `ECPrivateKey` (RFC 5915) or `RSAPrivateKey` (RFC 8017).
    fn from_traditional_der(der: &[u8]) -> Result<Self, Error> {
        let rejected = |error: aws_lc_rs::error::KeyRejected| Error::KeyRejected(error.to_string());
        let malformed = |error| Error::malformed(Document::PrivateKey, error);
        let mut fields = Reader::der(der).enter(tlv::SEQUENCE).map_err(malformed)?;
        fields.integer().map_err(malformed)?;
        // After the version, RSA has an INTEGER and EC an OCTET STRING.
        let pair = if fields.peek() == Some(tlv::INTEGER) {
            Pair::Rsa(RsaKeyPair::from_der(der).map_err(rejected)?)
        } else {
            let algorithm = ecdsa_algorithm(sec1_curve(der))?;
            Pair::Ecdsa(EcdsaKeyPair::from_private_key_der(algorithm, der).map_err(rejected)?)
        };
        Self::from_pair(pair, None)
    }

    /// Reads a PEM or DER file.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load(path: impl AsRef<Path>, passphrase: Option<&str>) -> Result<Self, Error> {
        let bytes = Zeroizing::new(pem::read_file(path.as_ref())?);
        if bytes.len() > PEM_SIZE_MAX_BYTES {
            return Err(Error::LimitExceeded {
                document: Document::PrivateKey,
                what: "octets",
                limit: PEM_SIZE_MAX_BYTES,
            });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) if pem::is_pem(&bytes) => Self::from_pem(text, passphrase),
            _ if encrypted_key::is_encrypted(&bytes) => {
                Self::from_encrypted_pkcs8(&bytes, passphrase)
            }
            _ if is_traditional(&bytes) => Self::from_traditional_der(&bytes),
            _ => Self::from_pkcs8_der(&bytes),
        }
    }

    fn from_pair(pair: Pair, algorithm: Option<SignatureAlgorithm>) -> Result<Self, Error> {
        let spki = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::MlDsa(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        };
        let spki = spki.map_err(|_| Error::KeyRejected("it has no public half".to_owned()))?;
        let public_key = PublicKey::from_spki_der(spki.as_ref())?;
        let default = match public_key.kind_of() {
            Kind::P256 => SignatureAlgorithm::EcdsaP256Sha256,
            Kind::P384 => SignatureAlgorithm::EcdsaP384Sha384,
            Kind::P521 => SignatureAlgorithm::EcdsaP521Sha512,
            Kind::Ed25519 => SignatureAlgorithm::Ed25519,
            Kind::Rsa { bits, .. } if bits >= RSA_MODULUS_MIN_BITS => {
                SignatureAlgorithm::RsaPkcs1Sha256
            }
            Kind::MlDsa44 => SignatureAlgorithm::MlDsa44,
            Kind::MlDsa65 => SignatureAlgorithm::MlDsa65,
            Kind::MlDsa87 => SignatureAlgorithm::MlDsa87,
            Kind::Rsa { .. } | Kind::Other => {
                return Err(Error::UnsupportedKey(public_key.describe()));
            }
        };
        Ok(Self {
            pair,
            public_key,
            algorithm: algorithm.unwrap_or(default),
        })
    }

    /// Uses RSASSA-PSS (or PKCS#1 v1.5, the default) with an RSA key, or another hash with it.
    ///
    /// # Errors
    /// If the algorithm does not go with the key.
    pub fn with_algorithm(mut self, algorithm: SignatureAlgorithm) -> Result<Self, Error> {
        let fits = algorithm == self.algorithm
            || matches!(self.pair, Pair::Rsa(_)) && rsa_encoding(algorithm).is_some();
        if !fits {
            return Err(Error::AlgorithmKeyMismatch {
                algorithm: algorithm.to_string(),
                key: self.public_key.describe(),
            });
        }
        self.algorithm = algorithm;
        Ok(self)
    }

    /// Unencrypted PKCS#8 DER.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let failed = |_| Error::Encoding("private key as PKCS#8".to_owned());
        let document = match &self.pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::MlDsa(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
        };
        Ok(Zeroizing::new(document))
    }

    /// The private scalar of an EC key, at the length of its curve.
    pub(crate) fn ec_private_key(&self) -> Option<Zeroizing<Vec<u8>>> {
        let Pair::Ecdsa(pair) = &self.pair else {
            return None;
        };
        let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok()?;
        Some(Zeroizing::new(scalar.as_ref().to_vec()))
    }

    /// Unencrypted PKCS#8 PEM.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, Error> {
        Ok(Zeroizing::new(pem::encode(
            "PRIVATE KEY",
            &self.to_pkcs8_der()?,
        )))
    }

    /// PKCS#8 PEM encrypted by PBES2 (PBKDF2 with HMAC-SHA-256, AES-256-CBC).
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_encrypted_pkcs8_pem(&self, passphrase: &str) -> Result<Zeroizing<String>, Error> {
        let der = encrypted_key::seal(&self.to_pkcs8_der()?, passphrase)?;
        Ok(Zeroizing::new(pem::encode("ENCRYPTED PRIVATE KEY", &der)))
    }
}

impl Signer for SoftwareKey {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.to_pkcs8_der().ok()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |_| Error::Signing(self.algorithm.to_string());
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature).map_err(failed)?;
                signature.truncate(length);
                Ok(signature)
            }
            Pair::Rsa(pair) => sign_rsa(pair, self.algorithm, message),
        }
    }

    fn sign_with(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.pair {
            Pair::Rsa(pair) => sign_rsa(pair, algorithm, message),
            _ if algorithm == self.algorithm => self.sign(message),
            _ => Err(Error::AlgorithmKeyMismatch {
                algorithm: algorithm.to_string(),
                key: self.algorithm.to_string(),
            }),
        }
    }
}

fn sign_rsa(
    pair: &RsaKeyPair,
    algorithm: SignatureAlgorithm,
    message: &[u8],
) -> Result<Vec<u8>, Error> {
    let encoding = rsa_encoding(algorithm).ok_or_else(|| Error::Signing(algorithm.to_string()))?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
        .map_err(|_| Error::Signing(algorithm.to_string()))?;
    Ok(signature)
}

fn rsa_encoding(algorithm: SignatureAlgorithm) -> Option<&'static dyn lc::RsaEncoding> {
    Some(match algorithm {
        SignatureAlgorithm::RsaPkcs1Sha256 => &lc::RSA_PKCS1_SHA256,
        SignatureAlgorithm::RsaPkcs1Sha384 => &lc::RSA_PKCS1_SHA384,
        SignatureAlgorithm::RsaPkcs1Sha512 => &lc::RSA_PKCS1_SHA512,
        SignatureAlgorithm::RsaPssSha256 => &lc::RSA_PSS_SHA256,
        SignatureAlgorithm::RsaPssSha384 => &lc::RSA_PSS_SHA384,
        SignatureAlgorithm::RsaPssSha512 => &lc::RSA_PSS_SHA512,
        _ => return None,
    })
}

fn ecdsa_algorithm(
    curve: Option<const_oid::ObjectIdentifier>,
) -> Result<&'static EcdsaSigningAlgorithm, Error> {
    match curve {
        Some(oid::P256) => Ok(&lc::ECDSA_P256_SHA256_ASN1_SIGNING),
        Some(oid::P384) => Ok(&lc::ECDSA_P384_SHA384_ASN1_SIGNING),
        Some(oid::P521) => Ok(&lc::ECDSA_P521_SHA512_ASN1_SIGNING),
        Some(other) => Err(Error::UnsupportedKey(format!("EC curve {other}"))),
        None => Err(Error::UnsupportedKey("EC without a named curve".to_owned())),
    }
}

/// Whether the field after the version is not PKCS#8's AlgorithmIdentifier.
fn is_traditional(der: &[u8]) -> bool {
    let fields = Reader::der(der).enter(tlv::SEQUENCE);
    fields.is_ok_and(|mut fields| {
        fields.integer().is_ok() && matches!(fields.peek(), Some(tlv::INTEGER | tlv::OCTET_STRING))
    })
}

/// The curve in an RFC 5915 ECPrivateKey.
fn sec1_curve(der: &[u8]) -> Option<const_oid::ObjectIdentifier> {
    let mut fields = Reader::der(der).enter(tlv::SEQUENCE).ok()?;
    fields.integer().ok()?;
    fields.expect(tlv::OCTET_STRING).ok()?;
    Reader::der(fields.expect(0xa0).ok()?.value).oid().ok()
}

fn ml_dsa_from_pkcs8(algorithm: &'static PqdsaSigningAlgorithm, der: &[u8]) -> Result<Pair, Error> {
    PqdsaKeyPair::from_pkcs8(algorithm, der)
        .map(Pair::MlDsa)
        .map_err(|error| Error::KeyRejected(error.to_string()))
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
            Some(leaf) if leaf.public_key().is_same_key(signer.public_key()) => {
                Ok(Self { chain, signer })
            }
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
