//! The algorithms of EnvelopedData and their identifiers.

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, Algorithm};
use aws_lc_rs::digest;
use aws_lc_rs::key_wrap::{self, AesBlockCipher};
use const_oid::ObjectIdentifier as Oid;
use zeroize::Zeroizing;

use super::{Cipher, ContentCipher, KeyTransport};
use crate::algorithm::Identifier;
use crate::tlv::{self, Reader, TlvError};
use crate::{Error, oid};

const AES_128_CBC: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.2");
const AES_192_CBC: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.22");
const AES_256_CBC: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.42");
const AES_128_WRAP: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.5");
const AES_256_WRAP: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.45");
const RSAES_OAEP: Oid = Oid::new_unwrap("1.2.840.113549.1.1.7");
const P_SPECIFIED: Oid = Oid::new_unwrap("1.2.840.113549.1.1.9");
/// dhSinglePass-stdDH-sha1kdf-scheme: what OpenSSL writes unless told otherwise.
const STD_DH_SHA1: Oid = Oid::new_unwrap("1.3.133.16.840.63.0.2");
const STD_DH_SHA256: Oid = Oid::new_unwrap("1.3.132.1.11.1");
const STD_DH_SHA384: Oid = Oid::new_unwrap("1.3.132.1.11.2");
const STD_DH_SHA512: Oid = Oid::new_unwrap("1.3.132.1.11.3");

fn unsupported(id: Oid) -> Error {
    Error::UnsupportedAlgorithm(id.to_string())
}

impl Cipher {
    pub(super) fn from_oid(id: Oid) -> Result<Self, Error> {
        match id {
            AES_128_CBC => Ok(Self::Aes128),
            AES_192_CBC => Ok(Self::Aes192),
            AES_256_CBC => Ok(Self::Aes256),
            other => Err(unsupported(other)),
        }
    }

    pub(super) fn oid(self) -> Oid {
        match self {
            Self::Aes128 => AES_128_CBC,
            Self::Aes192 => AES_192_CBC,
            Self::Aes256 => AES_256_CBC,
        }
    }

    pub(super) fn key_length_bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    pub(super) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128 => &AES_128,
            Self::Aes192 => &AES_192,
            Self::Aes256 => &AES_256,
        }
    }
}

impl From<ContentCipher> for Cipher {
    fn from(cipher: ContentCipher) -> Self {
        match cipher {
            ContentCipher::Aes128Cbc => Self::Aes128,
            ContentCipher::Aes256Cbc => Self::Aes256,
        }
    }
}

/// The cipher that wraps the content-encryption key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wrap {
    Aes128,
    Aes256,
}

impl Wrap {
    /// The one that is as strong as the content's cipher.
    pub(super) fn for_cipher(cipher: ContentCipher) -> Self {
        match cipher {
            ContentCipher::Aes128Cbc => Self::Aes128,
            ContentCipher::Aes256Cbc => Self::Aes256,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "AES-128",
            Self::Aes256 => "AES-256",
        }
    }

    pub(super) fn key_length_bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes256 => 32,
        }
    }

    pub(super) fn cipher(self) -> &'static AesBlockCipher {
        match self {
            Self::Aes128 => &key_wrap::AES_128,
            Self::Aes256 => &key_wrap::AES_256,
        }
    }

    /// RFC 3565 §2.3.2: parameters are absent.
    pub(super) fn identifier(self) -> Vec<u8> {
        let id = match self {
            Self::Aes128 => AES_128_WRAP,
            Self::Aes256 => AES_256_WRAP,
        };
        tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(id)])
    }

    pub(super) fn read(identifier: &Identifier<'_>) -> Result<Self, Error> {
        match identifier.id {
            AES_128_WRAP => Ok(Self::Aes128),
            AES_256_WRAP => Ok(Self::Aes256),
            other => Err(unsupported(other)),
        }
    }
}

/// The hash of the key derivation of
/// [RFC 5753 §7.1.4](https://www.rfc-editor.org/rfc/rfc5753.html#section-7.1.4) with standard
/// ECDH.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kdf {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Kdf {
    pub(super) fn from_oid(id: Oid) -> Result<Self, Error> {
        match id {
            STD_DH_SHA1 => Ok(Self::Sha1),
            STD_DH_SHA256 => Ok(Self::Sha256),
            STD_DH_SHA384 => Ok(Self::Sha384),
            STD_DH_SHA512 => Ok(Self::Sha512),
            other => Err(unsupported(other)),
        }
    }

    pub(super) fn oid(self) -> Oid {
        match self {
            Self::Sha1 => STD_DH_SHA1,
            Self::Sha256 => STD_DH_SHA256,
            Self::Sha384 => STD_DH_SHA384,
            Self::Sha512 => STD_DH_SHA512,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    /// The key-encryption key from the shared secret: the X9.63 derivation over the secret, a
    /// counter, and ECC-CMS-SharedInfo.
    pub(super) fn derive(
        self,
        secret: &[u8],
        wrap: Wrap,
        key_info: &[u8],
        user_keying_material: Option<&[u8]>,
    ) -> Zeroizing<Vec<u8>> {
        let length = wrap.key_length_bytes();
        let entity = user_keying_material
            .map(|material| tlv::element(0xa0, &[&tlv::element(tlv::OCTET_STRING, &[material])]));
        // RFC 5753 §7.2: suppPubInfo is the length of the derived key in bits, in 32 bits.
        let bits = u32::try_from(length * 8).unwrap_or(u32::MAX).to_be_bytes();
        let shared_info = tlv::element(
            tlv::SEQUENCE,
            &[
                key_info,
                entity.as_deref().unwrap_or_default(),
                &tlv::element(0xa2, &[&tlv::element(tlv::OCTET_STRING, &[&bits])]),
            ],
        );
        let mut key = Zeroizing::new(Vec::with_capacity(64));
        let mut counter = 1_u32;
        while key.len() < length {
            let mut context = digest::Context::new(self.algorithm());
            context.update(secret);
            context.update(&counter.to_be_bytes());
            context.update(&shared_info);
            key.extend_from_slice(context.finish().as_ref());
            counter += 1;
        }
        key.truncate(length);
        key
    }
}

impl KeyTransport {
    fn hash(self) -> Option<Oid> {
        match self {
            Self::Pkcs1 => None,
            Self::OaepSha1 => Some(oid::SHA1),
            Self::OaepSha256 => Some(oid::SHA256),
            Self::OaepSha384 => Some(oid::SHA384),
            Self::OaepSha512 => Some(oid::SHA512),
        }
    }

    /// The DER AlgorithmIdentifier.
    pub(super) fn identifier(self) -> Vec<u8> {
        let null: &[u8] = &[tlv::NULL, 0];
        let Some(hash) = self.hash() else {
            let id = tlv::encode_oid(oid::RSA_ENCRYPTION);
            return tlv::element(tlv::SEQUENCE, &[&id, null]);
        };
        let hash = tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(hash), null]);
        let mask = tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(oid::MGF1), &hash]);
        // RFC 4055 §4.1: SHA-1 is the default of both and then left out.
        let parameters = if self == Self::OaepSha1 {
            tlv::element(tlv::SEQUENCE, &[])
        } else {
            let hash = tlv::element(0xa0, &[&hash]);
            let mask = tlv::element(0xa1, &[&mask]);
            tlv::element(tlv::SEQUENCE, &[&hash, &mask])
        };
        let id = tlv::encode_oid(RSAES_OAEP);
        tlv::element(tlv::SEQUENCE, &[&id, &parameters])
    }

    pub(super) fn read(identifier: &Identifier<'_>) -> Result<Self, Error> {
        match identifier.id {
            oid::RSA_ENCRYPTION => Ok(Self::Pkcs1),
            RSAES_OAEP => {
                let parameters = identifier.parameters.unwrap_or(&[tlv::SEQUENCE, 0]);
                let (hash, mask) = oaep(parameters)
                    .map_err(|error| Error::malformed(crate::Document::Enveloped, error))?;
                match hash {
                    _ if hash != mask => Err(Error::UnsupportedAlgorithm(format!(
                        "RSAES-OAEP with hash {hash} and mask {mask}"
                    ))),
                    oid::SHA1 => Ok(Self::OaepSha1),
                    oid::SHA256 => Ok(Self::OaepSha256),
                    oid::SHA384 => Ok(Self::OaepSha384),
                    oid::SHA512 => Ok(Self::OaepSha512),
                    other => Err(unsupported(other)),
                }
            }
            other => Err(unsupported(other)),
        }
    }
}

/// The hash and the mask's hash of RSAES-OAEP-params. A label is not supported.
fn oaep(parameters: &[u8]) -> tlv::Result<(Oid, Oid)> {
    let mut fields = Reader::der(parameters).enter(tlv::SEQUENCE)?;
    let mut hash = oid::SHA1;
    let mut mask = oid::SHA1;
    if let Some(explicit) = fields.optional(0xa0)? {
        hash = Identifier::from_der(explicit.value)?.id;
    }
    if let Some(explicit) = fields.optional(0xa1)? {
        let function = Identifier::from_der(explicit.value)?;
        if function.id != oid::MGF1 {
            return Err(TlvError("the mask generation function is not MGF1"));
        }
        if let Some(parameters) = function.parameters {
            mask = Identifier::from_der(parameters)?.id;
        }
    }
    if let Some(explicit) = fields.optional(0xa2)? {
        let source = Identifier::from_der(explicit.value)?;
        let empty: &[u8] = &[tlv::OCTET_STRING, 0];
        if source.id != P_SPECIFIED || source.parameters.is_some_and(|label| label != empty) {
            return Err(TlvError("RSAES-OAEP with a label"));
        }
    }
    fields.finish()?;
    Ok((hash, mask))
}
