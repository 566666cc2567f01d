//! Keys whose signatures are the same each time: ECDSA as RFC 6979 makes it, Ed25519, RSA PKCS#1.
//!
//! So vectors are reproducible, and a message of a run can be made again from the run's folder.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use openssl::{
    hash::{MessageDigest, hash},
    pkey::{Id, PKey, Private},
    sign::Signer,
};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;

use super::der;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Broken, for refusal.
    Md5,
    /// Broken, for refusal.
    Sha1,
    /// The usual.
    Sha256,
    /// With P-384.
    Sha384,
    /// With Ed25519 in CMS.
    Sha512,
}

impl Hash {
    fn digest(self) -> MessageDigest {
        match self {
            Self::Md5 => MessageDigest::md5(),
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }

    /// The digest. A library without the hash function gives none.
    #[must_use]
    pub fn of(self, message: &[u8]) -> Vec<u8> {
        hash(self.digest(), message).map_or_else(|_| Vec::new(), |digest| digest.to_vec())
    }

    /// Its object identifier.
    #[must_use]
    pub fn oid(self) -> &'static str {
        match self {
            Self::Md5 => "1.2.840.113549.2.5",
            Self::Sha1 => "1.3.14.3.2.26",
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
            Self::Sha512 => "2.16.840.1.101.3.4.2.3",
        }
    }
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 bits; there is one such key, which the suite brings.
    Rsa2048,
}

/// A private key.
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    secret: Secret,
    pkey: PKey<Private>,
    spki: Vec<u8>,
}

enum Secret {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519,
    Rsa,
}

/// The RSA key of vectors: a fixed one, because making one takes luck.
const RSA: &[u8] = include_bytes!("../../keys/rsa2048.pk8");

impl Key {
    /// The key of this kind that goes with a label, the same each time.
    ///
    /// # Errors
    /// If the library fails.
    pub fn derive(kind: Kind, label: &str) -> Result<Self> {
        let text = format!("usher-conformance key {label}");
        match kind {
            Kind::P256 => Self::p256(&Hash::Sha256.of(text.as_bytes())),
            Kind::P384 => Self::p384(&Hash::Sha384.of(text.as_bytes())),
            Kind::Ed25519 => {
                let seed = Hash::Sha256.of(text.as_bytes());
                Self::from_pkey(PKey::private_key_from_raw_bytes(&seed, Id::ED25519)?)
            }
            Kind::Rsa2048 => Self::from_pkey(PKey::private_key_from_pkcs8(RSA)?),
        }
    }

    /// A new P-256 key.
    ///
    /// # Errors
    /// If the library fails.
    pub fn generate() -> Result<Self> {
        Self::p256(&rand::random::<[u8; 32]>())
    }

    fn p256(scalar: &[u8]) -> Result<Self> {
        let key =
            p256::ecdsa::SigningKey::from_slice(scalar).map_err(|error| anyhow!("{error}"))?;
        let point = key.verifying_key().to_sec1_bytes();
        let pkey = ec(CURVE_P256, scalar, &point)?;
        Self::with(Secret::P256(key), pkey)
    }

    fn p384(scalar: &[u8]) -> Result<Self> {
        let key =
            p384::ecdsa::SigningKey::from_slice(scalar).map_err(|error| anyhow!("{error}"))?;
        let point = key.verifying_key().to_sec1_bytes();
        let pkey = ec(CURVE_P384, scalar, &point)?;
        Self::with(Secret::P384(key), pkey)
    }

    /// Takes any key of a kind that is known.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn from_pkey(pkey: PKey<Private>) -> Result<Self> {
        match pkey.id() {
            Id::ED25519 => Self::with(Secret::Ed25519, pkey),
            Id::RSA => Self::with(Secret::Rsa, pkey),
            Id::EC => {
                let ec = pkey.ec_key()?;
                let scalar = ec.private_key();
                match ec.group().degree() {
                    256 => Self::p256(&scalar.to_vec_padded(32)?),
                    384 => Self::p384(&scalar.to_vec_padded(48)?),
                    degree => bail!("no EC keys of {degree} bits"),
                }
            }
            id => bail!("no keys of type {id:?}"),
        }
    }

    /// Reads a PEM file's text.
    ///
    /// # Errors
    /// If it is no key.
    pub fn from_pem(pem: &str) -> Result<Self> {
        Self::from_pkey(PKey::private_key_from_pem(pem.as_bytes()).context("a private key in PEM")?)
    }

    fn with(secret: Secret, pkey: PKey<Private>) -> Result<Self> {
        let spki = pkey.public_key_to_der()?;
        Ok(Self(Arc::new(Inner { secret, pkey, spki })))
    }

    /// The SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// For TLS.
    #[must_use]
    pub fn pkey(&self) -> &PKey<Private> {
        &self.0.pkey
    }

    /// PKCS#8 PEM, for files of the run's folder and of vectors.
    ///
    /// # Errors
    /// If the library fails.
    pub fn to_pem(&self) -> Result<String> {
        Ok(String::from_utf8(self.0.pkey.private_key_to_pem_pkcs8()?)?)
    }

    /// SHA-1 over the public key's bits (RFC 5280 section 4.2.1.2, method 1).
    #[must_use]
    pub fn key_id(&self) -> Vec<u8> {
        let bits = der::inside(&self.0.spki)
            .map(der::elements)
            .and_then(|parts| parts.into_iter().nth(1))
            .unwrap_or_default();
        let bits = der::inside(&bits)
            .and_then(|bits| bits.get(1..))
            .unwrap_or_default();
        Hash::Sha1.of(bits)
    }

    /// The hash that goes with the key.
    #[must_use]
    pub fn hash(&self) -> Hash {
        match self.0.secret {
            Secret::P256(_) | Secret::Rsa => Hash::Sha256,
            Secret::P384(_) => Hash::Sha384,
            Secret::Ed25519 => Hash::Sha512,
        }
    }

    /// The AlgorithmIdentifier of a signature with the key's own hash.
    #[must_use]
    pub fn algorithm(&self) -> Vec<u8> {
        self.algorithm_with(self.hash())
    }

    /// The AlgorithmIdentifier of a signature with this hash.
    #[must_use]
    pub fn algorithm_with(&self, hash: Hash) -> Vec<u8> {
        let ecdsa = |hash| match hash {
            Hash::Sha1 | Hash::Md5 => "1.2.840.10045.4.1",
            Hash::Sha256 => "1.2.840.10045.4.3.2",
            Hash::Sha384 => "1.2.840.10045.4.3.3",
            Hash::Sha512 => "1.2.840.10045.4.3.4",
        };
        let rsa = |hash| match hash {
            Hash::Md5 => "1.2.840.113549.1.1.4",
            Hash::Sha1 => "1.2.840.113549.1.1.5",
            Hash::Sha256 => "1.2.840.113549.1.1.11",
            Hash::Sha384 => "1.2.840.113549.1.1.12",
            Hash::Sha512 => "1.2.840.113549.1.1.13",
        };
        match self.0.secret {
            Secret::P256(_) | Secret::P384(_) => der::seq(&[der::oid(ecdsa(hash))]),
            Secret::Ed25519 => der::seq(&[der::oid("1.3.101.112")]),
            Secret::Rsa => der::seq(&[der::oid(rsa(hash)), der::null()]),
        }
    }

    /// Signs with the key's own hash; ECDSA gives DER.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_with(self.hash(), message)
    }

    /// Signs with this hash; ECDSA gives DER. A library that refuses gives no octets, which no
    /// reader takes for a signature.
    #[must_use]
    pub fn sign_with(&self, hash: Hash, message: &[u8]) -> Vec<u8> {
        match &self.0.secret {
            Secret::P256(_) | Secret::P384(_) => {
                let raw = self.raw(hash, message);
                let (r, s) = raw.split_at(raw.len() / 2);
                der::seq(&[der::uint(r), der::uint(s)])
            }
            Secret::Ed25519 => Signer::new_without_digest(&self.0.pkey)
                .and_then(|mut signer| signer.sign_oneshot_to_vec(message))
                .unwrap_or_default(),
            Secret::Rsa => Signer::new(hash.digest(), &self.0.pkey)
                .and_then(|mut signer| signer.sign_oneshot_to_vec(message))
                .unwrap_or_default(),
        }
    }

    /// Signs with the key's own hash; ECDSA gives r and s side by side.
    #[must_use]
    pub fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        self.sign_raw_with(self.hash(), message)
    }

    /// Signs with this hash; ECDSA gives r and s side by side.
    #[must_use]
    pub fn sign_raw_with(&self, hash: Hash, message: &[u8]) -> Vec<u8> {
        match self.0.secret {
            Secret::P256(_) | Secret::P384(_) => self.raw(hash, message),
            Secret::Ed25519 | Secret::Rsa => self.sign_with(hash, message),
        }
    }

    fn raw(&self, hash: Hash, message: &[u8]) -> Vec<u8> {
        let mut digest = hash.of(message);
        // A digest shorter than the order counts as a number, so zeroes in front change nothing.
        let least = match self.0.secret {
            Secret::P384(_) => 48,
            _ => 32,
        };
        if digest.len() < least {
            let mut padded = vec![0; least - digest.len()];
            padded.extend(digest);
            digest = padded;
        }
        match &self.0.secret {
            Secret::P256(key) => key
                .sign_prehash(&digest)
                .map(|signature: p256::ecdsa::Signature| signature.to_bytes().to_vec())
                .unwrap_or_default(),
            Secret::P384(key) => key
                .sign_prehash(&digest)
                .map(|signature: p384::ecdsa::Signature| signature.to_bytes().to_vec())
                .unwrap_or_default(),
            Secret::Ed25519 | Secret::Rsa => Vec::new(),
        }
    }

    /// The name of the algorithm in JOSE.
    #[must_use]
    pub fn jose_name(&self) -> &'static str {
        match self.0.secret {
            Secret::P256(_) => "ES256",
            Secret::P384(_) => "ES384",
            Secret::Ed25519 => "EdDSA",
            Secret::Rsa => "RS256",
        }
    }

    /// The number of the algorithm in COSE.
    #[must_use]
    pub fn cose_number(&self) -> i64 {
        match self.0.secret {
            Secret::P256(_) => -7,
            Secret::P384(_) => -35,
            Secret::Ed25519 => -8,
            Secret::Rsa => -257,
        }
    }
}

const CURVE_P256: &str = "1.2.840.10045.3.1.7";
const CURVE_P384: &str = "1.3.132.0.34";

fn ec(curve: &str, scalar: &[u8], point: &[u8]) -> Result<PKey<Private>> {
    let private = der::seq(&[
        der::int(1),
        der::octets(scalar),
        der::explicit(1, &der::bits(point)),
    ]);
    let pkcs8 = der::seq(&[
        der::int(0),
        der::seq(&[der::oid("1.2.840.10045.2.1"), der::oid(curve)]),
        der::octets(&private),
    ]);
    Ok(PKey::private_key_from_pkcs8(&pkcs8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_verifies_what_each_kind_signs() {
        for kind in [Kind::P256, Kind::P384, Kind::Rsa2048, Kind::Ed25519] {
            let key = Key::derive(kind, "test").unwrap();
            let again = Key::derive(kind, "test").unwrap();
            assert_eq!(key.sign(b"message"), again.sign(b"message"), "{kind:?}");
            let public = PKey::public_key_from_der(key.spki()).unwrap();
            let signature = key.sign(b"message");
            let mut verifier = match kind {
                Kind::Ed25519 => openssl::sign::Verifier::new_without_digest(&public).unwrap(),
                _ => openssl::sign::Verifier::new(key.hash().digest(), &public).unwrap(),
            };
            assert!(
                verifier.verify_oneshot(&signature, b"message").unwrap(),
                "{kind:?}"
            );
        }
    }
}
