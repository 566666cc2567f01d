//! [`Decryptor`] for keys in this process' memory.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, UnparsedPublicKey};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm, OaepPrivateDecryptingKey, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey,
};
use zeroize::Zeroizing;

use super::{Decryptor, KeyTransport};
use crate::public_key::Kind;
use crate::{Error, PublicKey, Signer as _, SoftwareKey};

impl KeyTransport {
    pub(super) fn oaep(self) -> Option<&'static OaepAlgorithm> {
        match self {
            Self::Pkcs1 => None,
            Self::OaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
            Self::OaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
            Self::OaepSha384 => Some(&OAEP_SHA384_MGF1SHA384),
            Self::OaepSha512 => Some(&OAEP_SHA512_MGF1SHA512),
        }
    }
}

/// The curve of an EC key.
pub(super) fn curve(kind: Kind) -> Option<&'static agreement::Algorithm> {
    match kind {
        Kind::P256 => Some(&ECDH_P256),
        Kind::P384 => Some(&ECDH_P384),
        Kind::P521 => Some(&ECDH_P521),
        _ => None,
    }
}

impl Decryptor for SoftwareKey {
    fn encryption_key(&self) -> &PublicKey {
        self.public_key()
    }

    fn unwrap_key(
        &self,
        transport: KeyTransport,
        encrypted_key: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let failed = |_| Error::EnvelopedDecryption;
        let pkcs8 = self.to_pkcs8_der()?;
        let key = PrivateDecryptingKey::from_pkcs8(&pkcs8)
            .map_err(|_| Error::UnsupportedKey(self.public_key().describe()))?;
        let mut buffer = Zeroizing::new(vec![0; key.key_size_bytes()]);
        let length = match transport.oaep() {
            Some(algorithm) => OaepPrivateDecryptingKey::new(key)
                .and_then(|key| {
                    let opened = key.decrypt(algorithm, encrypted_key, &mut buffer, None)?;
                    Ok(opened.len())
                })
                .map_err(failed)?,
            None => Pkcs1PrivateDecryptingKey::new(key)
                .and_then(|key| Ok(key.decrypt(encrypted_key, &mut buffer)?.len()))
                .map_err(failed)?,
        };
        buffer.truncate(length);
        Ok(buffer)
    }

    fn agree(&self, peer_point: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let unsupported = || Error::UnsupportedKey(self.public_key().describe());
        let curve = curve(self.public_key().kind_of()).ok_or_else(unsupported)?;
        let scalar = self.ec_private_key().ok_or_else(unsupported)?;
        let key =
            agreement::PrivateKey::from_private_key(curve, &scalar).map_err(|_| unsupported())?;
        agreement::agree(
            &key,
            UnparsedPublicKey::new(curve, peer_point),
            Error::EnvelopedDecryption,
            |secret| Ok(Zeroizing::new(secret.to_vec())),
        )
    }
}
