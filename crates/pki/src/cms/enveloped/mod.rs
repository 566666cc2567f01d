//! CMS EnvelopedData ([RFC 5652 §6](https://www.rfc-editor.org/rfc/rfc5652.html#section-6)) to the
//! key of a certificate: RSA key transport or ECDH key agreement, AES-CBC content.

mod algorithms;
mod key;
mod open;
mod parse;
mod seal;

use const_oid::ObjectIdentifier;
use zeroize::Zeroizing;

use self::algorithms::{Kdf, Wrap};
pub use self::seal::envelop;
use super::SignerIdentifier;
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
    /// The public half: what is encrypted to.
    fn encryption_key(&self) -> &PublicKey;
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
    recipients: Vec<Recipient>,
    /// Recipients of kinds that no certificate's key opens, and with algorithms not known here.
    others: usize,
    cipher: Cipher,
    iv: [u8; 16],
    encrypted: Vec<u8>,
    oddities: Vec<Oddity>,
}

/// The ciphers of content that are read, all in CBC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cipher {
    Aes128,
    Aes192,
    Aes256,
}

/// One way to the content-encryption key.
#[derive(Clone, Debug)]
struct Recipient {
    /// Whose key opens it.
    id: SignerIdentifier,
    encrypted_key: Vec<u8>,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Transport(KeyTransport),
    Agreement {
        kdf: Kdf,
        wrap: Wrap,
        /// The DER AlgorithmIdentifier of the key wrap, which goes into the derivation.
        key_info: Vec<u8>,
        /// The sender's ephemeral point, uncompressed.
        point: Vec<u8>,
        user_keying_material: Option<Vec<u8>>,
    },
}

impl EnvelopedData {
    /// Parses a ContentInfo with EnvelopedData, DER or BER.
    ///
    /// # Errors
    /// If it is malformed, over a limit, something else, or in a cipher that is not supported.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse::parse(bytes)
    }

    /// The content type of what is encrypted, as it is told outside of the encryption.
    pub fn content_type(&self) -> ObjectIdentifier {
        self.content_type
    }

    /// What is odd about the message.
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// How many recipients there are, those that nobody here can be included.
    pub fn recipient_count(&self) -> usize {
        self.recipients.len() + self.others
    }

    /// Whether a recipient names this certificate.
    pub fn is_for(&self, certificate: &Certificate) -> bool {
        self.recipients
            .iter()
            .any(|recipient| super::verify::is_named(&recipient.id, certificate))
    }

    /// The cipher of the content and the way of the key to each recipient, in words.
    pub fn describe(&self) -> (String, Vec<String>) {
        let cipher = match self.cipher {
            Cipher::Aes128 => "AES-128-CBC",
            Cipher::Aes192 => "AES-192-CBC",
            Cipher::Aes256 => "AES-256-CBC",
        };
        let ways = self
            .recipients
            .iter()
            .map(|recipient| match &recipient.way {
                Way::Transport(KeyTransport::Pkcs1) => "RSA PKCS#1 v1.5".to_owned(),
                Way::Transport(KeyTransport::OaepSha1) => "RSA OAEP SHA-1".to_owned(),
                Way::Transport(KeyTransport::OaepSha256) => "RSA OAEP SHA-256".to_owned(),
                Way::Transport(KeyTransport::OaepSha384) => "RSA OAEP SHA-384".to_owned(),
                Way::Transport(KeyTransport::OaepSha512) => "RSA OAEP SHA-512".to_owned(),
                Way::Agreement { kdf, wrap, .. } => {
                    format!("ECDH, {} KDF, {} wrap", kdf.name(), wrap.name())
                }
            });
        (cipher.to_owned(), ways.collect())
    }

    /// Decrypts the content. With a certificate, only the recipient that names it is tried;
    /// without one, each that goes with the key's type.
    ///
    /// # Errors
    /// If no recipient is meant, or it does not decrypt.
    pub fn decrypt(
        &self,
        key: &dyn Decryptor,
        certificate: Option<&Certificate>,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        open::open(self, key, certificate)
    }
}
