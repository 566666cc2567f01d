//! EnvelopedData: `openssl cms` and this crate decrypt what the other encrypted, and what is
//! broken fails for the right reason.

use pki::cms::{
    ContentCipher, Decryptor, EnvelopOptions, EnvelopedData, ID_DATA, ID_SIGNED_DATA, KeyTransport,
    envelop,
};
use pki::{Certificate, Coded as _, KeyKind, ObjectIdentifier, Oddity, PublicKey, SoftwareKey};

use crate::support::{OpenSsl, Template, element, extension, identity, issue};

const CONTENT: &[u8] = b"{\n  \"ietf-sztp-conveyed-info:redirect-information\": {}\n}\n";
const JSON_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.43");
const KEYS: [(&str, &str); 4] = [
    ("p256", "ec -pkeyopt ec_paramgen_curve:P-256"),
    ("p384", "ec -pkeyopt ec_paramgen_curve:P-384"),
    ("p521", "ec -pkeyopt ec_paramgen_curve:P-521"),
    ("rsa", "rsa:2048"),
];

fn transports() -> [KeyTransport; 5] {
    [
        KeyTransport::Pkcs1,
        KeyTransport::OaepSha1,
        KeyTransport::OaepSha256,
        KeyTransport::OaepSha384,
        KeyTransport::OaepSha512,
    ]
}

fn recipient(openssl: &OpenSsl, name: &str, new_key: &str) -> (Certificate, SoftwareKey) {
    let certificate = openssl.identity(name, new_key);
    let key = SoftwareKey::load(openssl.path(&format!("{name}.key")), None).unwrap();
    (certificate, key)
}

fn key_and_certificate(kind: KeyKind) -> (Certificate, SoftwareKey) {
    let key = SoftwareKey::generate(kind).unwrap();
    let certificate = issue(&Template::default(), &key, &key);
    (certificate, key)
}

/// Requirements: SZTP-5652-6-01, SZTP-8572-3.4-03
#[test]
fn we_encrypt_and_openssl_decrypts() {
    let openssl = OpenSsl::new();
    for (name, new_key) in KEYS {
        let (certificate, key) = recipient(&openssl, name, new_key);
        for cipher in [ContentCipher::Aes256Cbc, ContentCipher::Aes128Cbc] {
            for key_transport in transports() {
                if name != "rsa" && key_transport != KeyTransport::default() {
                    continue;
                }
                for by_subject_key_id in [false, true] {
                    let options = EnvelopOptions {
                        cipher,
                        key_transport,
                        by_subject_key_id,
                        ..EnvelopOptions::default()
                    };
                    let recipients = std::slice::from_ref(&certificate);
                    let message = envelop(CONTENT, JSON_OID, recipients, &options).unwrap();
                    openssl.write("in", &message);
                    openssl.run(&format!(
                        "cms -decrypt -inform DER -in in -out out -recip {name}.crt \
                         -inkey {name}.key"
                    ));
                    assert_eq!(openssl.read("out"), CONTENT, "{name} {options:?}");

                    let parsed = EnvelopedData::parse(&message).unwrap();
                    assert_eq!(parsed.content_type(), JSON_OID);
                    assert_eq!(parsed.oddities(), [], "{name} {options:?}");
                    assert!(parsed.is_for(&certificate));
                    let content = parsed.decrypt(&key, Some(&certificate)).unwrap();
                    assert_eq!(*content, CONTENT);
                    assert_eq!(*parsed.decrypt(&key, None).unwrap(), CONTENT);
                }
            }
        }
    }
}

/// Requirements: SZTP-8572-5.3-07
#[test]
fn openssl_encrypts_and_we_decrypt() {
    let openssl = OpenSsl::new();
    openssl.write("in", CONTENT);
    for (name, new_key) in KEYS {
        let (certificate, key) = recipient(&openssl, name, new_key);
        let ways: &[&str] = if name == "rsa" {
            &[
                "",
                "-keyopt rsa_padding_mode:oaep",
                "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256",
                "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha384",
                "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha512",
            ]
        } else {
            &[
                "",
                "-keyopt ecdh_kdf_md:sha256",
                "-keyopt ecdh_kdf_md:sha384",
                "-keyopt ecdh_kdf_md:sha512",
            ]
        };
        for way in ways {
            for cipher in ["-aes-256-cbc", "-aes-192-cbc", "-aes-128-cbc"] {
                for form in ["", "-keyid", "-stream -indef"] {
                    // OpenSSL wraps with AES-192 where the content is in AES-192.
                    if cipher == "-aes-192-cbc" && name != "rsa" {
                        continue;
                    }
                    let command = format!(
                        "cms -encrypt -binary -in in -out out -outform DER {cipher} {form} \
                         -recip {name}.crt {way}"
                    );
                    openssl.run(&command);
                    let parsed = EnvelopedData::parse(&openssl.read("out"))
                        .unwrap_or_else(|error| panic!("{command}: {error}"));
                    assert_eq!(parsed.content_type(), ID_DATA);
                    let streamed = form.contains("indef");
                    assert_eq!(parsed.oddities().contains(&Oddity::Ber), streamed);
                    let content = parsed
                        .decrypt(&key, Some(&certificate))
                        .unwrap_or_else(|error| panic!("{command}: {error}"));
                    assert_eq!(*content, CONTENT, "{command}");
                }
            }
        }
    }
}

#[test]
fn each_of_several_recipients_decrypts_and_nobody_else() {
    let (first, first_key) = key_and_certificate(KeyKind::EcdsaP256);
    let rsa = identity(KeyKind::Rsa2048);
    let rsa_certificate = rsa.chain[0].clone();
    let (stranger, stranger_key) = key_and_certificate(KeyKind::EcdsaP256);
    let recipients = [first.clone(), rsa_certificate.clone()];
    let message = envelop(
        CONTENT,
        ID_SIGNED_DATA,
        &recipients,
        &EnvelopOptions::default(),
    );
    let parsed = EnvelopedData::parse(&message.unwrap()).unwrap();
    assert_eq!(parsed.recipient_count(), 2);
    assert_eq!(*parsed.decrypt(&first_key, Some(&first)).unwrap(), CONTENT);
    assert_eq!(*parsed.decrypt(&first_key, None).unwrap(), CONTENT);
    // The template's issuer and serial number are the same, so it is the key that fails.
    let refused = parsed.decrypt(&stranger_key, Some(&stranger)).unwrap_err();
    assert_eq!(refused.code(), "enveloped.decryption-failed");
    let other = identity(KeyKind::EcdsaP256);
    let refused = parsed
        .decrypt(&stranger_key, Some(&other.chain[0]))
        .unwrap_err();
    assert_eq!(refused.code(), "enveloped.no-recipient");
    let only_rsa = envelop(
        CONTENT,
        ID_DATA,
        &[rsa_certificate],
        &EnvelopOptions::default(),
    );
    let parsed = EnvelopedData::parse(&only_rsa.unwrap()).unwrap();
    let refused = parsed.decrypt(&stranger_key, None).unwrap_err();
    assert_eq!(refused.code(), "enveloped.no-recipient");
}

#[test]
fn certificates_that_nothing_can_be_encrypted_to() {
    let key_usage = |bits: u8| extension("2.5.29.15", &element(0x03, &[&[0, bits]]));
    for (kind, bits, usable) in [
        (KeyKind::EcdsaP256, 0x80, false),
        (KeyKind::EcdsaP256, 0x08, true),
        (KeyKind::Rsa2048, 0x80, false),
        (KeyKind::Rsa2048, 0xa0, true),
        (KeyKind::Ed25519, 0xff, false),
    ] {
        let key = SoftwareKey::generate(kind).unwrap();
        let template = Template {
            extensions: vec![key_usage(bits)],
            ..Template::default()
        };
        let certificate = issue(&template, &key, &key);
        let options = EnvelopOptions::default();
        let result = envelop(
            CONTENT,
            ID_DATA,
            std::slice::from_ref(&certificate),
            &options,
        );
        let code = result.as_ref().map_err(pki::Error::code);
        if usable {
            assert!(result.is_ok(), "{kind:?} {bits:x}");
        } else {
            assert_eq!(
                code,
                Err("enveloped.recipient-unusable"),
                "{kind:?} {bits:x}"
            );
        }
        let any = EnvelopOptions {
            any_key_usage: true,
            ..options
        };
        let result = envelop(CONTENT, ID_DATA, &[certificate], &any);
        assert_eq!(result.is_ok(), kind != KeyKind::Ed25519);
    }
    let refused = envelop(CONTENT, ID_DATA, &[], &EnvelopOptions::default()).unwrap_err();
    assert_eq!(refused.code(), "enveloped.recipient-unusable");
}

/// Requirements: SZTP-5083-implied_by_8572_3.1_3.4-01
#[test]
fn authenticated_enveloped_data_is_refused_by_name() {
    let openssl = OpenSsl::new();
    openssl.write("in", CONTENT);
    recipient(&openssl, "rsa", "rsa:2048");
    openssl.run("cms -encrypt -binary -in in -out out -outform DER -aes-256-gcm -recip rsa.crt");
    let refused = EnvelopedData::parse(&openssl.read("out")).unwrap_err();
    assert_eq!(refused.code(), "enveloped.not-enveloped-data");
    assert!(refused.to_string().contains("1.2.840.113549.1.9.16.1.23"));
    openssl.run("cms -encrypt -binary -in in -out out -outform DER -des3 -recip rsa.crt");
    let refused = EnvelopedData::parse(&openssl.read("out")).unwrap_err();
    assert_eq!(refused.code(), "pki.algorithm-unsupported");
}

/// Whatever octet is another, nothing panics.
#[test]
fn a_flipped_bit_anywhere() {
    let (certificate, key) = key_and_certificate(KeyKind::EcdsaP256);
    let recipients = std::slice::from_ref(&certificate);
    let message = envelop(CONTENT, JSON_OID, recipients, &EnvelopOptions::default()).unwrap();
    for at in 0..message.len() {
        let mut broken = message.clone();
        broken[at] ^= 1;
        let Ok(parsed) = EnvelopedData::parse(&broken) else {
            continue;
        };
        // CBC has no integrity, so some of these decrypt: that is what the signature inside is
        // for. A key that was wrapped has.
        let _ = parsed.decrypt(&key, Some(&certificate));
    }
}

/// A key whose padding never is right.
struct NeverRight(SoftwareKey);

impl Decryptor for NeverRight {
    fn encryption_key(&self) -> &PublicKey {
        self.0.encryption_key()
    }

    fn unwrap_key(
        &self,
        _transport: KeyTransport,
        _encrypted_key: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, pki::Error> {
        Err(pki::Error::EnvelopedDecryption)
    }

    fn agree(&self, _peer_point: &[u8]) -> Result<zeroize::Zeroizing<Vec<u8>>, pki::Error> {
        Err(pki::Error::EnvelopedDecryption)
    }
}

/// A sender who adds a second recipient must not learn from it whether the padding of a key was
/// right: with a wrong one the content is decrypted with a random key, so it decrypts by chance.
#[test]
fn wrong_padding_shows_with_no_number_of_recipients() {
    let rsa = identity(KeyKind::Rsa2048);
    let key = NeverRight(SoftwareKey::generate(KeyKind::Rsa2048).unwrap());
    let options = EnvelopOptions {
        key_transport: KeyTransport::Pkcs1,
        ..EnvelopOptions::default()
    };
    for count in [1, 2, 3] {
        let recipients = vec![rsa.chain[0].clone(); count];
        let message = envelop(CONTENT, ID_DATA, &recipients, &options).unwrap();
        let parsed = EnvelopedData::parse(&message).unwrap();
        for certificate in [None, Some(&rsa.chain[0])] {
            let by_chance = (0..6000).filter(|_| parsed.decrypt(&key, certificate).is_ok());
            assert!(by_chance.count() > 0, "{count}");
        }
    }
}

#[test]
fn an_rsa_message_with_a_wrong_key_fails_like_one_with_wrong_padding() {
    let rsa = identity(KeyKind::Rsa2048);
    let key = SoftwareKey::generate(KeyKind::Rsa2048).unwrap();
    for key_transport in transports() {
        let options = EnvelopOptions {
            key_transport,
            ..EnvelopOptions::default()
        };
        let message = envelop(CONTENT, ID_DATA, &rsa.chain, &options).unwrap();
        let parsed = EnvelopedData::parse(&message).unwrap();
        // With a random key, CBC padding is right by chance once in 256 times; the content is
        // then random as well.
        match parsed.decrypt(&key, None) {
            Ok(content) => assert_ne!(*content, CONTENT),
            Err(error) => assert_eq!(error.code(), "enveloped.decryption-failed"),
        }
    }
}

#[test]
fn malformed_messages_have_their_codes() {
    let (certificate, _) = key_and_certificate(KeyKind::EcdsaP256);
    let recipients = std::slice::from_ref(&certificate);
    let message = envelop(CONTENT, ID_DATA, recipients, &EnvelopOptions::default()).unwrap();
    let mut longer = message.clone();
    longer.extend_from_slice(b"xyz");
    let parsed = EnvelopedData::parse(&longer).unwrap();
    assert_eq!(parsed.oddities(), [Oddity::TrailingData(3)]);
    for length in 0..message.len() {
        let refused = EnvelopedData::parse(&message[..length]).unwrap_err();
        assert_eq!(refused.code(), "enveloped.malformed", "{length} octets");
    }
    let too_many = vec![certificate; 17];
    let refused = envelop(CONTENT, ID_DATA, &too_many, &EnvelopOptions::default()).unwrap_err();
    assert_eq!(refused.code(), "enveloped.limit-exceeded");
    let refused = EnvelopedData::parse(&vec![0x30; 2 * 1024 * 1024]).unwrap_err();
    assert_eq!(refused.code(), "enveloped.limit-exceeded");
}
