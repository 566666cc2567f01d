//! Producing EnvelopedData.

use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::cipher::{EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{AesKek, KeyWrap as _};
use aws_lc_rs::rsa::{OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use const_oid::ObjectIdentifier;
use zeroize::Zeroizing;

use super::algorithms::{Kdf, Wrap};
use super::key::curve;
use super::{Cipher, EnvelopOptions, ID_ENVELOPED_DATA};
use crate::limits::{RECIPIENTS_MAX, RSA_MODULUS_MAX_BITS, RSA_MODULUS_MIN_BITS};
use crate::public_key::Kind;
use crate::tlv;
use crate::{Certificate, Document, Error, oid};

/// Encrypts content to the keys of certificates, as a DER ContentInfo with EnvelopedData.
///
/// # Errors
/// If there is no recipient or one cannot be encrypted to.
pub fn envelop(
    content: &[u8],
    content_type: ObjectIdentifier,
    recipients: &[Certificate],
    options: &EnvelopOptions,
) -> Result<Vec<u8>, Error> {
    if recipients.is_empty() {
        return Err(Error::EnvelopedRecipient("there is none".to_owned()));
    }
    if recipients.len() > RECIPIENTS_MAX {
        return Err(Error::LimitExceeded {
            document: Document::Enveloped,
            what: "recipients",
            limit: RECIPIENTS_MAX,
        });
    }
    let failed = |_| Error::Encoding("EnvelopedData".to_owned());
    let cipher = Cipher::from(options.cipher);
    let mut content_key = Zeroizing::new(vec![0; cipher.key_length_bytes()]);
    aws_lc_rs::rand::fill(&mut content_key).map_err(failed)?;
    let mut iv = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut iv).map_err(failed)?;

    let mut infos = Vec::with_capacity(recipients.len());
    let mut version = 0;
    for recipient in recipients {
        let (info_version, info) = recipient_info(recipient, &content_key, options)?;
        if info_version != 0 {
            // RFC 5652 §6.1: 0 only if all recipients have version 0.
            version = 2;
        }
        infos.push(info);
    }

    let key = UnboundCipherKey::new(cipher.algorithm(), &content_key).map_err(failed)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
    let mut encrypted = content.to_vec();
    key.less_safe_encrypt(
        &mut encrypted,
        EncryptionContext::Iv128(FixedLength::from(iv)),
    )
    .map_err(failed)?;

    let algorithm = tlv::element(
        tlv::SEQUENCE,
        &[
            &tlv::encode_oid(cipher.oid()),
            &tlv::element(tlv::OCTET_STRING, &[&iv]),
        ],
    );
    let encrypted_info = tlv::element(
        tlv::SEQUENCE,
        &[
            &tlv::encode_oid(content_type),
            &algorithm,
            &tlv::element(0x80, &[&encrypted]),
        ],
    );
    let enveloped = tlv::element(
        tlv::SEQUENCE,
        &[
            &[tlv::INTEGER, 1, version],
            &tlv::set_of(tlv::SET, infos),
            &encrypted_info,
        ],
    );
    Ok(tlv::element(
        tlv::SEQUENCE,
        &[
            &tlv::encode_oid(ID_ENVELOPED_DATA),
            &tlv::element(0xa0, &[&enveloped]),
        ],
    ))
}

/// The version and the encoding of a RecipientInfo.
fn recipient_info(
    recipient: &Certificate,
    content_key: &[u8],
    options: &EnvelopOptions,
) -> Result<(u8, Vec<u8>), Error> {
    let unusable = |why: String| Error::EnvelopedRecipient(why);
    let key = recipient.public_key();
    let usage = |allowed: bool, name: &str| {
        if allowed || options.any_key_usage {
            return Ok(());
        }
        // RFC 5280 §4.2.1.3: the key is for these purposes only.
        let subject = recipient.subject();
        Err(unusable(format!("the key usage of {subject} lacks {name}")))
    };
    match key.kind_of() {
        Kind::Rsa { bits, pss_only } => {
            if pss_only || !(RSA_MODULUS_MIN_BITS..=RSA_MODULUS_MAX_BITS).contains(&bits) {
                return Err(unusable(format!("its key is {}", key.describe())));
            }
            usage(recipient.may_encipher_keys(), "keyEncipherment")?;
            transport(recipient, content_key, options)
        }
        Kind::P256 | Kind::P384 | Kind::P521 => {
            usage(recipient.may_agree_on_keys(), "keyAgreement")?;
            let info = agreement(recipient, content_key, options)?;
            Ok((3, info))
        }
        _ => Err(unusable(format!("its key is {}", key.describe()))),
    }
}

fn transport(
    recipient: &Certificate,
    content_key: &[u8],
    options: &EnvelopOptions,
) -> Result<(u8, Vec<u8>), Error> {
    let failed = |_| Error::Encoding("key transport".to_owned());
    let key = PublicEncryptingKey::from_der(recipient.public_key().spki_der())
        .map_err(|error| Error::EnvelopedRecipient(error.to_string()))?;
    let mut buffer = vec![0; key.key_size_bytes()];
    let length = match options.key_transport.oaep() {
        Some(algorithm) => {
            let key = OaepPublicEncryptingKey::new(key).map_err(failed)?;
            let encrypted = key.encrypt(algorithm, content_key, &mut buffer, None);
            encrypted.map_err(failed)?.len()
        }
        None => {
            let key = Pkcs1PublicEncryptingKey::new(key).map_err(failed)?;
            key.encrypt(content_key, &mut buffer).map_err(failed)?.len()
        }
    };
    buffer.truncate(length);
    let (version, id) = if options.by_subject_key_id {
        (2, tlv::element(0x80, &[&key_id(recipient)]))
    } else {
        (0, issuer_and_serial_number(recipient))
    };
    let info = tlv::element(
        tlv::SEQUENCE,
        &[
            &[tlv::INTEGER, 1, version],
            &id,
            &options.key_transport.identifier(),
            &tlv::element(tlv::OCTET_STRING, &[&buffer]),
        ],
    );
    Ok((version, info))
}

fn agreement(
    recipient: &Certificate,
    content_key: &[u8],
    options: &EnvelopOptions,
) -> Result<Vec<u8>, Error> {
    let failed = || Error::Encoding("key agreement".to_owned());
    let key = recipient.public_key();
    let kdf = match key.kind_of() {
        Kind::P384 => Kdf::Sha384,
        Kind::P521 => Kdf::Sha512,
        _ => Kdf::Sha256,
    };
    let curve = curve(key.kind_of()).ok_or_else(failed)?;
    let ephemeral = agreement::PrivateKey::generate(curve).map_err(|_| failed())?;
    let point = ephemeral.compute_public_key().map_err(|_| failed())?;
    let wrap = Wrap::for_cipher(options.cipher);
    let key_info = wrap.identifier();
    let peer = UnparsedPublicKey::new(curve, key.key_bits());
    let unusable = Error::EnvelopedRecipient("its key is not on its curve".to_owned());
    let wrapping = agreement::agree(&ephemeral, peer, unusable, |secret| {
        Ok(kdf.derive(secret, wrap, &key_info, None))
    })?;
    let wrapping = AesKek::new(wrap.cipher(), &wrapping).map_err(|_| failed())?;
    let mut wrapped = vec![0; content_key.len() + 8];
    let wrapped = wrapping
        .wrap(content_key, &mut wrapped)
        .map_err(|_| failed())?;

    // RFC 5753 §3.1.1: id-ecPublicKey, the parameters may be absent; no unused bits.
    let algorithm = tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(oid::EC_PUBLIC_KEY)]);
    let bits = tlv::element(tlv::BIT_STRING, &[&[0], point.as_ref()]);
    let originator = tlv::element(0xa0, &[&tlv::element(0xa1, &[&algorithm, &bits])]);
    let method = tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(kdf.oid()), &key_info]);
    let id = if options.by_subject_key_id {
        let id = tlv::element(tlv::OCTET_STRING, &[&key_id(recipient)]);
        tlv::element(0xa0, &[&id])
    } else {
        issuer_and_serial_number(recipient)
    };
    let encrypted_key = tlv::element(
        tlv::SEQUENCE,
        &[&id, &tlv::element(tlv::OCTET_STRING, &[wrapped])],
    );
    Ok(tlv::element(
        0xa1,
        &[
            &[tlv::INTEGER, 1, 3],
            &originator,
            &method,
            &tlv::element(tlv::SEQUENCE, &[&encrypted_key]),
        ],
    ))
}

fn key_id(certificate: &Certificate) -> Vec<u8> {
    certificate
        .subject_key_id()
        .unwrap_or_else(|| certificate.public_key().sha1_key_id().to_vec())
}

fn issuer_and_serial_number(certificate: &Certificate) -> Vec<u8> {
    let serial = tlv::element(tlv::INTEGER, &[certificate.serial_number()]);
    tlv::element(tlv::SEQUENCE, &[certificate.issuer_der(), &serial])
}
