//! Signature and digest algorithms and their AlgorithmIdentifiers.

use const_oid::ObjectIdentifier;

use crate::public_key::Kind;
use crate::tlv::{self, Reader};
use crate::{Document, Error, PublicKey, oid};

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

/// What an AlgorithmIdentifier says: the algorithm and, for RSASSA-PSS, the length of the salt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Scheme {
    pub(crate) algorithm: SignatureAlgorithm,
    /// Absent: as long as the hash.
    pub(crate) salt_length: Option<u16>,
}

impl From<SignatureAlgorithm> for Scheme {
    fn from(algorithm: SignatureAlgorithm) -> Self {
        Self {
            algorithm,
            salt_length: None,
        }
    }
}

/// An AlgorithmIdentifier taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identifier<'a> {
    pub(crate) id: ObjectIdentifier,
    /// The parameters element, if there is one.
    pub(crate) parameters: Option<&'a [u8]>,
}

impl<'a> Identifier<'a> {
    /// Reads the content of the AlgorithmIdentifier's SEQUENCE.
    pub(crate) fn read(mut reader: Reader<'a, '_>) -> tlv::Result<Self> {
        let id = reader.oid()?;
        let parameters = if reader.is_empty() {
            None
        } else {
            Some(reader.any()?.raw)
        };
        reader.finish()?;
        Ok(Self { id, parameters })
    }

    /// Reads a DER AlgorithmIdentifier.
    pub(crate) fn from_der(der: &'a [u8]) -> tlv::Result<Self> {
        let mut reader = Reader::der(der);
        let inner = reader.enter(tlv::SEQUENCE)?;
        reader.finish()?;
        Self::read(inner)
    }

    fn parameters_absent_or_null(&self) -> bool {
        self.parameters
            .is_none_or(|parameters| parameters == [tlv::NULL, 0])
    }
}

impl Scheme {
    /// Reads a signature's AlgorithmIdentifier for the key that is to verify it.
    pub(crate) fn read(identifier: &Identifier<'_>, key: &PublicKey) -> Result<Self, Error> {
        use SignatureAlgorithm as A;
        let mismatch = || Error::AlgorithmKeyMismatch {
            algorithm: identifier.id.to_string(),
            key: key.describe(),
        };
        let absent = || match identifier.parameters {
            None => Ok(()),
            Some(_) => Err(Error::UnsupportedAlgorithm(format!(
                "{} with parameters",
                identifier.id
            ))),
        };
        let null = || {
            // RFC 4055 §5 demands NULL and has verifiers take absent parameters as well.
            if identifier.parameters_absent_or_null() {
                Ok(())
            } else {
                Err(Error::UnsupportedAlgorithm(format!(
                    "{} with parameters",
                    identifier.id
                )))
            }
        };
        let ecdsa = |digest| {
            // RFC 5758 §3.2 has no parameters; NULL is met in the field and says nothing else.
            null()?;
            A::ecdsa(key.kind_of(), digest).ok_or_else(mismatch)
        };
        let rsa = |algorithm| {
            null()?;
            match key.kind_of() {
                Kind::Rsa {
                    pss_only: false, ..
                } => Ok(algorithm),
                _ => Err(mismatch()),
            }
        };
        let pure = |kind, algorithm| {
            // RFC 8410 §3 and RFC 9881 §2: parameters are absent.
            absent()?;
            if key.kind_of() == kind {
                Ok(algorithm)
            } else {
                Err(mismatch())
            }
        };
        let algorithm = match identifier.id {
            oid::ECDSA_SHA1 => {
                null()?;
                match key.kind_of() {
                    Kind::P256 | Kind::P521 => A::EcdsaSha1,
                    _ => return Err(mismatch()),
                }
            }
            oid::ECDSA_SHA256 => ecdsa(DigestAlgorithm::Sha256)?,
            oid::ECDSA_SHA384 => ecdsa(DigestAlgorithm::Sha384)?,
            oid::ECDSA_SHA512 => ecdsa(DigestAlgorithm::Sha512)?,
            oid::RSA_SHA1 => rsa(A::RsaPkcs1Sha1)?,
            oid::RSA_SHA256 => rsa(A::RsaPkcs1Sha256)?,
            oid::RSA_SHA384 => rsa(A::RsaPkcs1Sha384)?,
            oid::RSA_SHA512 => rsa(A::RsaPkcs1Sha512)?,
            oid::RSA_PSS => {
                let Kind::Rsa { .. } = key.kind_of() else {
                    return Err(mismatch());
                };
                return pss(identifier.parameters);
            }
            oid::ED25519 => pure(Kind::Ed25519, A::Ed25519)?,
            oid::ML_DSA_44 => pure(Kind::MlDsa44, A::MlDsa44)?,
            oid::ML_DSA_65 => pure(Kind::MlDsa65, A::MlDsa65)?,
            oid::ML_DSA_87 => pure(Kind::MlDsa87, A::MlDsa87)?,
            other => return Err(Error::UnsupportedAlgorithm(other.to_string())),
        };
        Ok(algorithm.into())
    }
}

/// Reads RSASSA-PSS-params. Hash and mask hash have to be the same; SHA-1, the default of each
/// field, is not supported.
fn pss(parameters: Option<&[u8]>) -> Result<Scheme, Error> {
    let unsupported =
        |detail: &str| Error::UnsupportedAlgorithm(format!("RSASSA-PSS with {detail}"));
    let malformed = |_| unsupported("malformed parameters");
    let Some(parameters) = parameters else {
        return Err(Error::CmsPssParameters);
    };
    let mut reader = Reader::der(parameters);
    let mut fields = reader.enter(tlv::SEQUENCE).map_err(malformed)?;
    let mut hash = oid::SHA1;
    let mut mask_hash = oid::SHA1;
    let mut salt_length = 20_u16;
    if let Some(field) = fields.optional(0xa0).map_err(malformed)? {
        hash = Identifier::from_der(field.value).map_err(malformed)?.id;
    }
    if let Some(field) = fields.optional(0xa1).map_err(malformed)? {
        let mask = Identifier::from_der(field.value).map_err(malformed)?;
        if mask.id != oid::MGF1 {
            return Err(unsupported("a mask other than MGF1"));
        }
        let inner = mask
            .parameters
            .ok_or_else(|| unsupported("malformed parameters"))?;
        mask_hash = Identifier::from_der(inner).map_err(malformed)?.id;
    }
    if let Some(field) = fields.optional(0xa2).map_err(malformed)? {
        salt_length = match Reader::der(field.value).integer().map_err(malformed)? {
            [low] => u16::from(*low),
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => return Err(unsupported("a salt of that length")),
        };
        // A first octet with its high bit set is a negative number.
        if salt_length > 1024 {
            return Err(unsupported("a salt of that length"));
        }
    }
    if let Some(field) = fields.optional(0xa3).map_err(malformed)?
        && Reader::der(field.value).small_integer() != Ok(1)
    {
        return Err(unsupported("another trailer"));
    }
    fields.finish().map_err(malformed)?;
    if hash != mask_hash {
        return Err(unsupported("different hashes for message and mask"));
    }
    let algorithm = DigestAlgorithm::from_oid(hash)
        .and_then(SignatureAlgorithm::rsa_pss)
        .ok_or_else(|| unsupported(&format!("hash {hash}")))?;
    Ok(Scheme {
        algorithm,
        salt_length: Some(salt_length),
    })
}

impl SignatureAlgorithm {
    /// Reads a DER AlgorithmIdentifier. ECDSA identifiers do not name the curve, so the key that
    /// is to verify the signature is needed.
    ///
    /// # Errors
    /// If the algorithm is unknown, its parameters are wrong, or it does not go with the key.
    pub fn from_identifier(der: &[u8], key: &PublicKey) -> Result<Self, Error> {
        let identifier = Identifier::from_der(der)
            .map_err(|error| Error::malformed(Document::PublicKey, error))?;
        Ok(Scheme::read(&identifier, key)?.algorithm)
    }

    /// The DER AlgorithmIdentifier.
    pub fn identifier(self) -> Vec<u8> {
        self.identifier_der().to_vec()
    }

    pub(crate) fn identifier_der(self) -> &'static [u8] {
        // Each is SEQUENCE { OBJECT IDENTIFIER, parameters }, parameters absent or NULL, or
        // RSASSA-PSS-params with MGF1 over the same hash and a salt as long as the hash.
        const PSS_SHA256: [u8; 67] = pss_identifier(0x01, 0x20);
        const PSS_SHA384: [u8; 67] = pss_identifier(0x02, 0x30);
        const PSS_SHA512: [u8; 67] = pss_identifier(0x03, 0x40);
        match self {
            Self::EcdsaP256Sha256 | Self::EcdsaP384Sha256 | Self::EcdsaP521Sha256 => {
                b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
            }
            Self::EcdsaP256Sha384 | Self::EcdsaP384Sha384 | Self::EcdsaP521Sha384 => {
                b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
            }
            Self::EcdsaP256Sha512 | Self::EcdsaP384Sha512 | Self::EcdsaP521Sha512 => {
                b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"
            }
            Self::EcdsaSha1 => b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x04\x01",
            Self::Ed25519 => b"\x30\x05\x06\x03\x2b\x65\x70",
            Self::RsaPkcs1Sha1 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00",
            Self::RsaPkcs1Sha256 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
            Self::RsaPkcs1Sha384 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00",
            Self::RsaPkcs1Sha512 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00",
            Self::RsaPssSha256 => &PSS_SHA256,
            Self::RsaPssSha384 => &PSS_SHA384,
            Self::RsaPssSha512 => &PSS_SHA512,
            Self::MlDsa44 => b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x11",
            Self::MlDsa65 => b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x12",
            Self::MlDsa87 => b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03\x13",
        }
    }

    /// The hash that is part of the algorithm; none for Ed25519 and ML-DSA, which hash inside.
    pub fn digest(self) -> Option<DigestAlgorithm> {
        match self {
            Self::EcdsaP256Sha256
            | Self::EcdsaP384Sha256
            | Self::EcdsaP521Sha256
            | Self::RsaPkcs1Sha256
            | Self::RsaPssSha256 => Some(DigestAlgorithm::Sha256),
            Self::EcdsaP256Sha384
            | Self::EcdsaP384Sha384
            | Self::EcdsaP521Sha384
            | Self::RsaPkcs1Sha384
            | Self::RsaPssSha384 => Some(DigestAlgorithm::Sha384),
            Self::EcdsaP256Sha512
            | Self::EcdsaP384Sha512
            | Self::EcdsaP521Sha512
            | Self::RsaPkcs1Sha512
            | Self::RsaPssSha512 => Some(DigestAlgorithm::Sha512),
            Self::EcdsaSha1 | Self::RsaPkcs1Sha1 => Some(DigestAlgorithm::Sha1),
            Self::Ed25519 | Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => None,
        }
    }

    /// True for SHA-1.
    pub fn is_legacy(self) -> bool {
        matches!(self, Self::EcdsaSha1 | Self::RsaPkcs1Sha1)
    }

    pub(crate) fn is_ecdsa(self) -> bool {
        matches!(
            self,
            Self::EcdsaP256Sha256
                | Self::EcdsaP256Sha384
                | Self::EcdsaP256Sha512
                | Self::EcdsaP384Sha256
                | Self::EcdsaP384Sha384
                | Self::EcdsaP384Sha512
                | Self::EcdsaP521Sha256
                | Self::EcdsaP521Sha384
                | Self::EcdsaP521Sha512
        )
    }

    pub(crate) fn is_rsa_pkcs1(self) -> bool {
        matches!(
            self,
            Self::RsaPkcs1Sha1 | Self::RsaPkcs1Sha256 | Self::RsaPkcs1Sha384 | Self::RsaPkcs1Sha512
        )
    }

    pub(crate) fn is_rsa_pss(self) -> bool {
        matches!(
            self,
            Self::RsaPssSha256 | Self::RsaPssSha384 | Self::RsaPssSha512
        )
    }

    pub(crate) fn is_ml_dsa(self) -> bool {
        matches!(self, Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87)
    }

    fn ecdsa(kind: Kind, digest: DigestAlgorithm) -> Option<Self> {
        use DigestAlgorithm as D;
        Some(match (kind, digest) {
            (Kind::P256, D::Sha256) => Self::EcdsaP256Sha256,
            (Kind::P256, D::Sha384) => Self::EcdsaP256Sha384,
            (Kind::P256, D::Sha512) => Self::EcdsaP256Sha512,
            (Kind::P384, D::Sha256) => Self::EcdsaP384Sha256,
            (Kind::P384, D::Sha384) => Self::EcdsaP384Sha384,
            (Kind::P384, D::Sha512) => Self::EcdsaP384Sha512,
            (Kind::P521, D::Sha256) => Self::EcdsaP521Sha256,
            (Kind::P521, D::Sha384) => Self::EcdsaP521Sha384,
            (Kind::P521, D::Sha512) => Self::EcdsaP521Sha512,
            _ => return None,
        })
    }

    pub(crate) fn rsa_pkcs1(digest: DigestAlgorithm) -> Self {
        match digest {
            DigestAlgorithm::Sha1 => Self::RsaPkcs1Sha1,
            DigestAlgorithm::Sha256 => Self::RsaPkcs1Sha256,
            DigestAlgorithm::Sha384 => Self::RsaPkcs1Sha384,
            DigestAlgorithm::Sha512 => Self::RsaPkcs1Sha512,
        }
    }

    pub(crate) fn rsa_pss(digest: DigestAlgorithm) -> Option<Self> {
        match digest {
            DigestAlgorithm::Sha1 => None,
            DigestAlgorithm::Sha256 => Some(Self::RsaPssSha256),
            DigestAlgorithm::Sha384 => Some(Self::RsaPssSha384),
            DigestAlgorithm::Sha512 => Some(Self::RsaPssSha512),
        }
    }
}

const fn pss_identifier(hash: u8, salt: u8) -> [u8; 67] {
    let mut der = *b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\
        \x30\x34\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
        \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
        \x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\
        \xa2\x03\x02\x01\x20";
    der[29] = hash;
    der[59] = hash;
    der[66] = salt;
    der
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

impl DigestAlgorithm {
    pub(crate) fn from_oid(id: ObjectIdentifier) -> Option<Self> {
        match id {
            oid::SHA1 => Some(Self::Sha1),
            oid::SHA256 => Some(Self::Sha256),
            oid::SHA384 => Some(Self::Sha384),
            oid::SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The DER AlgorithmIdentifier, parameters absent as RFC 5754 §2 wants them.
    pub(crate) fn identifier_der(self) -> &'static [u8] {
        match self {
            Self::Sha1 => b"\x30\x07\x06\x05\x2b\x0e\x03\x02\x1a",
            Self::Sha256 => b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01",
            Self::Sha384 => b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02",
            Self::Sha512 => b"\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03",
        }
    }

    /// The hash of a message.
    pub fn hash(self, message: &[u8]) -> Vec<u8> {
        use aws_lc_rs::digest;
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }
}

impl std::fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

impl std::fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EcdsaP256Sha256 => "ECDSA P-256 SHA-256",
            Self::EcdsaP256Sha384 => "ECDSA P-256 SHA-384",
            Self::EcdsaP256Sha512 => "ECDSA P-256 SHA-512",
            Self::EcdsaP384Sha256 => "ECDSA P-384 SHA-256",
            Self::EcdsaP384Sha384 => "ECDSA P-384 SHA-384",
            Self::EcdsaP384Sha512 => "ECDSA P-384 SHA-512",
            Self::EcdsaP521Sha256 => "ECDSA P-521 SHA-256",
            Self::EcdsaP521Sha384 => "ECDSA P-521 SHA-384",
            Self::EcdsaP521Sha512 => "ECDSA P-521 SHA-512",
            Self::Ed25519 => "Ed25519",
            Self::RsaPkcs1Sha256 => "RSA PKCS#1 SHA-256",
            Self::RsaPkcs1Sha384 => "RSA PKCS#1 SHA-384",
            Self::RsaPkcs1Sha512 => "RSA PKCS#1 SHA-512",
            Self::RsaPssSha256 => "RSA PSS SHA-256",
            Self::RsaPssSha384 => "RSA PSS SHA-384",
            Self::RsaPssSha512 => "RSA PSS SHA-512",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
            Self::EcdsaSha1 => "ECDSA SHA-1",
            Self::RsaPkcs1Sha1 => "RSA PKCS#1 SHA-1",
        })
    }
}
