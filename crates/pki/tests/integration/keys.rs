//! Private keys in files.

use pki::{Coded as _, Identity, KeyKind, Signer as _, SoftwareKey};

use crate::support::{OpenSsl, identity};

#[test]
fn pkcs8_round_trip_of_every_key() {
    let kinds = [
        KeyKind::EcdsaP256,
        KeyKind::EcdsaP384,
        KeyKind::EcdsaP521,
        KeyKind::Ed25519,
        KeyKind::Rsa2048,
        KeyKind::MlDsa44,
        KeyKind::MlDsa65,
        KeyKind::MlDsa87,
    ];
    for kind in kinds {
        let key = SoftwareKey::generate(kind).unwrap();
        assert_eq!(key.public_key().kind(), Some(kind));
        let again = SoftwareKey::from_pkcs8_der(&key.to_pkcs8_der().unwrap()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let again = SoftwareKey::from_pem(&key.to_pkcs8_pem().unwrap(), None).unwrap();
        let signature = again.sign(b"message").unwrap();
        key.public_key()
            .verify(key.algorithm(), b"message", &signature)
            .unwrap();
    }
}

#[test]
fn encrypted_keys_both_ways() {
    let openssl = OpenSsl::new();
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let pem = key.to_encrypted_pkcs8_pem("open sesame").unwrap();
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let again = SoftwareKey::from_pem(&pem, Some("open sesame")).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    for wrong in [None, Some(""), Some("open sesam")] {
        let refused = SoftwareKey::from_pem(&pem, wrong).unwrap_err();
        assert_eq!(refused.code(), "pki.passphrase-wrong");
    }
    openssl.write("key", pem.as_bytes());
    openssl.write("passphrase", "open sesame");
    openssl.run("pkey -in key -passin file:passphrase -pubout -outform DER -out public");
    assert_eq!(openssl.read("public"), key.public_key().spki_der());

    for options in [
        "-aes256",
        "-aes128 -v2prf hmacWithSHA512",
        "-scrypt -v2 aes-256-cbc",
    ] {
        let options = if options.starts_with("-aes") {
            options
                .replacen('-', "-v2 ", 1)
                .replace("aes256", "aes-256-cbc")
                .replace("aes128", "aes-128-cbc")
        } else {
            options.to_owned()
        };
        openssl.write("plain", key.to_pkcs8_pem().unwrap().as_bytes());
        openssl.run(&format!(
            "pkcs8 -topk8 -in plain -out theirs -passout file:passphrase {options}"
        ));
        let theirs = SoftwareKey::load(openssl.path("theirs"), Some("open sesame")).unwrap();
        assert_eq!(theirs.public_key(), key.public_key(), "{options}");
    }
}

#[test]
fn keys_from_openssl() {
    let openssl = OpenSsl::new();
    for command in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key",
        "genpkey -algorithm ED25519 -out key",
        "ecparam -name prime256v1 -genkey -out key",
        "genrsa -traditional -out key 2048",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -outform DER -out key",
    ] {
        openssl.run(command);
        let key = SoftwareKey::load(openssl.path("key"), None)
            .unwrap_or_else(|e| panic!("{command}: {e}"));
        let signature = key.sign(b"message").unwrap();
        key.public_key()
            .verify(key.algorithm(), b"message", &signature)
            .unwrap();
    }
}

#[test]
fn keys_that_are_refused() {
    let openssl = OpenSsl::new();
    for (command, code) in [
        (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out key",
            "pki.key-unsupported",
        ),
        ("genpkey -algorithm X25519 -out key", "pki.key-unsupported"),
        (
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out key",
            "pki.key-rejected",
        ),
    ] {
        openssl.run(command);
        let refused = SoftwareKey::load(openssl.path("key"), None).unwrap_err();
        assert_eq!(refused.code(), code, "{command}");
    }
    assert_eq!(
        SoftwareKey::from_pem("", None).unwrap_err().code(),
        "pki.private-key-malformed"
    );
    assert_eq!(
        SoftwareKey::from_pkcs8_der(&[]).unwrap_err().code(),
        "pki.private-key-malformed"
    );
}

/// A key file cannot stall the process.
#[test]
fn key_derivation_is_bounded() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let openssl = OpenSsl::new();
    openssl.write("plain", key.to_pkcs8_pem().unwrap().as_bytes());
    openssl.write("passphrase", "x");
    openssl
        .run("pkcs8 -topk8 -in plain -outform DER -out key -passout file:passphrase -iter 1000000");
    let mut der = openssl.read("key");
    let rounds = [2, 3, 0x0f, 0x42, 0x40];
    let at = der
        .windows(rounds.len())
        .position(|window| window == rounds)
        .unwrap();
    der[at + 2] = 0x7f;
    openssl.write("slow", &der);
    let slow = SoftwareKey::load(openssl.path("slow"), Some("x")).unwrap_err();
    assert_eq!(slow.code(), "pki.limit-exceeded");
}

#[test]
fn debug_shows_no_key() {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let secret = hex::encode(&*key.to_pkcs8_der().unwrap());
    let shown = format!("{key:?}");
    assert!(
        shown.contains("P-256") && !shown.contains(&secret[70..]),
        "{shown}"
    );
    let shown = format!("{:?}", identity(KeyKind::Ed25519));
    assert_eq!(shown, "Identity { chain: [Certificate(CN=signer)], .. }");
}

#[test]
fn an_identity_is_of_one_piece() {
    let one = identity(KeyKind::EcdsaP256);
    let two = identity(KeyKind::EcdsaP256);
    let refused = Identity::new(one.chain, two.signer).unwrap_err();
    assert_eq!(refused.code(), "pki.identity-mismatch");
}
