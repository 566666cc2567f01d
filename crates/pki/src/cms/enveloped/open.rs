//! Decrypting EnvelopedData.

use aws_lc_rs::cipher::{DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{AesKek, KeyWrap as _};
use zeroize::Zeroizing;

use super::{Decryptor, EnvelopedData, KeyTransport, Recipient, Way};
use crate::cms::verify::is_named;
use crate::public_key::Kind;
use crate::{Certificate, Error};

/// Decrypts the content with the first recipient whose key opens it.
pub(super) fn open(
    enveloped: &EnvelopedData,
    key: &dyn Decryptor,
    certificate: Option<&Certificate>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let is_rsa = match key.encryption_key().kind_of() {
        Kind::Rsa { .. } => true,
        Kind::P256 | Kind::P384 | Kind::P521 => false,
        _ => return Err(Error::UnsupportedKey(key.encryption_key().describe())),
    };
    let meant: Vec<_> = enveloped
        .recipients
        .iter()
        .filter(|recipient| matches!(recipient.way, Way::Transport(_)) == is_rsa)
        .filter(|recipient| {
            certificate.is_none_or(|certificate| is_named(&recipient.id, certificate))
        })
        .collect();
    let length = enveloped.cipher.key_length_bytes();
    let mut failure = Error::EnvelopedNoRecipient;
    let mut by_chance = None;
    for recipient in meant {
        let opened = content_key(recipient, key, length)
            .and_then(|(genuine, key)| Ok((genuine, decrypt(enveloped, &key)?)));
        match opened {
            Ok((true, content)) => return Ok(content),
            // Another recipient may still be the one.
            Ok((false, content)) => by_chance = by_chance.or(Some(content)),
            Err(error) => failure = error,
        }
    }
    by_chance.ok_or(failure)
}

/// The key of the content, and whether it is what was encrypted.
fn content_key(
    recipient: &Recipient,
    key: &dyn Decryptor,
    length: usize,
) -> Result<(bool, Zeroizing<Vec<u8>>), Error> {
    let failed = |_| Error::EnvelopedDecryption;
    match &recipient.way {
        Way::Transport(transport) => {
            let opened = key.unwrap_key(*transport, &recipient.encrypted_key);
            let opened = opened.ok().filter(|opened| opened.len() == length);
            match opened {
                Some(opened) => Ok((true, opened)),
                // RFC 3218 §2.3: whoever tries out encrypted keys must not learn from the answer
                // whether the padding was right, so the content is decrypted with a random key,
                // however many recipients there are: that number is the sender's choice.
                None if *transport == KeyTransport::Pkcs1 => {
                    let mut random = Zeroizing::new(vec![0; length]);
                    aws_lc_rs::rand::fill(&mut random).map_err(failed)?;
                    Ok((false, random))
                }
                None => Err(Error::EnvelopedDecryption),
            }
        }
        Way::Agreement {
            kdf,
            wrap,
            key_info,
            point,
            user_keying_material,
        } => {
            let secret = key.agree(point).map_err(|_| Error::EnvelopedDecryption)?;
            let material = user_keying_material.as_deref();
            let wrapping = kdf.derive(&secret, *wrap, key_info, material);
            let wrapping = AesKek::new(wrap.cipher(), &wrapping).map_err(failed)?;
            let mut opened = Zeroizing::new(vec![0; recipient.encrypted_key.len()]);
            let opened = wrapping
                .unwrap(&recipient.encrypted_key, &mut opened)
                .map_err(failed)?;
            if opened.len() != length {
                return Err(Error::EnvelopedDecryption);
            }
            Ok((true, Zeroizing::new(opened.to_vec())))
        }
    }
}

fn decrypt(enveloped: &EnvelopedData, content_key: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let failed = |_| Error::EnvelopedDecryption;
    let key = UnboundCipherKey::new(enveloped.cipher.algorithm(), content_key).map_err(failed)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(failed)?;
    let mut buffer = Zeroizing::new(enveloped.encrypted.clone());
    let context = DecryptionContext::Iv128(FixedLength::from(enveloped.iv));
    let length = key.decrypt(&mut buffer, context).map_err(failed)?.len();
    buffer.truncate(length);
    Ok(buffer)
}
