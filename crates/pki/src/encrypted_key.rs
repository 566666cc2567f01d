//! Encrypted PKCS#8 (RFC 5958 with PBES2 of RFC 8018).
//!
//! PBKDF2 with AES-CBC, which is what everybody writes, runs in aws-lc; it is several times faster
//! there, and the number of rounds is chosen for an attacker who has that speed as well. The
//! rarer schemes are left to the `pkcs5` crate.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext,
    PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use der::{Decode as _, Encode as _};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Params, Pbkdf2Prf};
use zeroize::Zeroizing;

use crate::limits::{PBKDF2_ROUNDS_MAX, SCRYPT_MEMORY_MAX_BYTES, SCRYPT_PARALLEL_MAX};
use crate::{Document, Error};

/// PBKDF2 rounds of keys that we write: the figure that OWASP gives for HMAC-SHA-256.
const PBKDF2_ROUNDS: u32 = 600_000;

/// Whether the octets are an EncryptedPrivateKeyInfo.
pub(crate) fn is_encrypted(der: &[u8]) -> bool {
    EncryptedPrivateKeyInfoRef::from_der(der).is_ok()
}

/// Opens an EncryptedPrivateKeyInfo; the answer is the PKCS#8 inside.
pub(crate) fn open(der: &[u8], passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der)
        .map_err(|error| Error::malformed(Document::PrivateKey, error))?;
    let parameters = info.encryption_algorithm.pbes2();
    if let Some(parameters) = parameters {
        check_cost(&parameters.kdf)?;
    }
    let passphrase = passphrase.ok_or(Error::PassphraseWrong)?;
    if let Some((key, iv)) = parameters.and_then(|parameters| derive(parameters, passphrase)) {
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| Error::PassphraseWrong)?;
        let mut buffer = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let plain = key
            .decrypt(&mut buffer, context)
            .map_err(|_| Error::PassphraseWrong)?;
        return Ok(Zeroizing::new(plain.to_vec()));
    }
    let opened = info
        .decrypt(passphrase)
        .map_err(|_| Error::PassphraseWrong)?;
    Ok(Zeroizing::new(opened.as_bytes().to_vec()))
}

/// Encrypts PKCS#8 with PBKDF2 (HMAC-SHA-256) and AES-256-CBC.
pub(crate) fn seal(pkcs8: &[u8], passphrase: &str) -> Result<Vec<u8>, Error> {
    let failed = || Error::Encoding("private key as encrypted PKCS#8".to_owned());
    let mut random = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| failed())?;
    let (salt, iv) = random.split_at(16);
    let iv: [u8; 16] = iv.try_into().map_err(|_| failed())?;
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, salt, iv)
        .map_err(|_| failed())?;
    let (key, iv) = derive(&parameters, passphrase).ok_or_else(failed)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(|_| failed())?;
    let mut buffer = pkcs8.to_vec();
    key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(FixedLength::from(iv)))
        .map_err(|_| failed())?;
    let info = pkcs8::EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: parameters.into(),
        encrypted_data: der::asn1::OctetString::new(buffer).map_err(|_| failed())?,
    };
    info.to_der().map_err(|_| failed())
}

fn check_cost(kdf: &Kdf) -> Result<(), Error> {
    let over = |what, limit: u64| Error::LimitExceeded {
        document: Document::PrivateKey,
        what,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    match kdf {
        Kdf::Pbkdf2(kdf) if kdf.iteration_count > PBKDF2_ROUNDS_MAX => {
            Err(over("PBKDF2 rounds", u64::from(PBKDF2_ROUNDS_MAX)))
        }
        Kdf::Scrypt(kdf) => {
            let block = 128_u64.saturating_mul(u64::from(kdf.block_size));
            if block.saturating_mul(kdf.cost_parameter) > SCRYPT_MEMORY_MAX_BYTES {
                return Err(over("scrypt memory", SCRYPT_MEMORY_MAX_BYTES));
            }
            if kdf.parallelization > SCRYPT_PARALLEL_MAX {
                return Err(over(
                    "scrypt parallelization",
                    u64::from(SCRYPT_PARALLEL_MAX),
                ));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The cipher key and initialisation vector, if the scheme is PBKDF2 with AES-CBC.
fn derive(parameters: &Parameters, passphrase: &str) -> Option<(UnboundCipherKey, [u8; 16])> {
    let Kdf::Pbkdf2(kdf) = &parameters.kdf else {
        return None;
    };
    let (cipher, length, iv): (&'static Algorithm, usize, _) = match parameters.encryption {
        EncryptionScheme::Aes128Cbc { iv } => (&AES_128, 16, iv),
        EncryptionScheme::Aes192Cbc { iv } => (&AES_192, 24, iv),
        EncryptionScheme::Aes256Cbc { iv } => (&AES_256, 32, iv),
        _ => return None,
    };
    let mut key = Zeroizing::new([0_u8; 32]);
    let key = key.get_mut(..length)?;
    derive_pbkdf2(kdf, passphrase, key)?;
    Some((UnboundCipherKey::new(cipher, key).ok()?, iv))
}

fn derive_pbkdf2(kdf: &Pbkdf2Params, passphrase: &str, key: &mut [u8]) -> Option<()> {
    let algorithm = match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return None,
    };
    let rounds = NonZeroU32::new(kdf.iteration_count)?;
    pbkdf2::derive(
        algorithm,
        rounds,
        kdf.salt.as_ref(),
        passphrase.as_bytes(),
        key,
    );
    Some(())
}
