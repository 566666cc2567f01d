//! CMS EnvelopedData ([RFC 5652 §6](https://www.rfc-editor.org/rfc/rfc5652.html#section-6)) to the
//! key of a certificate: RSA key transport or ECDH key agreement, AES-CBC content.

use const_oid::ObjectIdentifier;
use zeroize::Zeroizing;

use crate::{Certificate, Error, Oddity, PublicKey};

/// id-envelopedData.
pub const ID_ENVELOPED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
/// id-signedData.
pub const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// How a content-encryption key travels to an RSA key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KeyTransport {
    /// RSAES-PKCS1-v1_5: old, and what old devices can do.
    Pkcs1,
    /// RSAES-OAEP with SHA-1 for hash and mask: OpenSSL's default OAEP.
    OaepSha1,
    /// RSAES-OAEP with SHA-256 for hash and mask.
    #[default]
    OaepSha256,
    /// RSAES-OAEP with SHA-384 for hash and mask.
    OaepSha384,
    /// RSAES-OAEP with SHA-512 for hash and mask.
    OaepSha512,
}

/// The cipher of the content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ContentCipher {
    /// AES-128-CBC.
    Aes128Cbc,
    /// AES-256-CBC.
    #[default]
    Aes256Cbc,
}

/// How to envelop. The default suits what RFC 8572 asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EnvelopOptions {
    /// The cipher of the content.
    pub cipher: ContentCipher,
    /// How the key travels to an RSA key; EC keys agree on one.
    pub key_transport: KeyTransport,
    /// Encrypt to a certificate whose key usage does not allow it, as IDevIDs often are.
    pub any_key_usage: bool,
    /// Name the recipient by subjectKeyIdentifier instead of issuer and serial number.
    pub by_subject_key_id: bool,
}

/// Something that decrypts with a private key.
pub trait Decryptor: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;
    /// Opens a key that was encrypted to an RSA key.
    ///
    /// # Errors
    /// If this is no RSA key or it does not open.
    fn unwrap_key(
        &self,
        transport: KeyTransport,
        encrypted_key: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error>;
    /// The ECDH shared secret with an uncompressed point on the key's own curve.
    ///
    /// # Errors
    /// If this is no EC key or the point is not on its curve.
    fn agree(&self, peer_point: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error>;
}

/// A parsed EnvelopedData.
#[derive(Clone, Debug)]
pub struct EnvelopedData {
    content_type: ObjectIdentifier,
    oddities: Vec<Oddity>,
}

impl EnvelopedData {
    /// Parses a ContentInfo with EnvelopedData, DER or BER.
    ///
    /// # Errors
    /// If it is malformed, over a limit, or something else.
    pub fn parse(_bytes: &[u8]) -> Result<Self, Error> {
        Err(Error::UnsupportedAlgorithm("EnvelopedData".to_owned()))
    }

    /// The content type of what is encrypted, as it is told outside of the encryption.
    pub fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// What is odd about the message.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// Decrypts the content. With a certificate, only the recipient that names it is tried;
    /// without one, each that goes with the key's type.
    ///
    /// # Errors
    /// If no recipient is meant, or it does not decrypt.
    pub fn decrypt(
        &self,
        _key: &dyn Decryptor,
        _certificate: Option<&Certificate>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        Err(Error::UnsupportedAlgorithm("EnvelopedData".to_owned()))
    }
}

/// Encrypts content to the keys of certificates, as a DER ContentInfo with EnvelopedData.
///
/// # Errors
/// If there is no recipient or one cannot be encrypted to.
pub fn envelop(
    _content: &[u8],
    _content_type: ObjectIdentifier,
    _recipients: &[Certificate],
    _options: &EnvelopOptions,
) -> Result<Vec<u8>, Error> {
    Err(Error::UnsupportedAlgorithm("EnvelopedData".to_owned()))
}
