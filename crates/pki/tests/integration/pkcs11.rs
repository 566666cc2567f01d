//! Keys in SoftHSM.
//!
//! The module reads its configuration's place from the environment, which a process must not
//! change under its own feet. So each test runs itself again in a process of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use pki::cms::{self, CmsPolicy, ID_DATA, SignedData};
use pki::{Coded as _, Identity, KeyKind, Pkcs11Key, SignOptions, SignatureAlgorithm, Signer};

use crate::support::{Template, issue};

const PLACES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
];
const PIN: &str = "1234";

fn module() -> &'static str {
    PLACES
        .into_iter()
        .find(|place| Path::new(place).exists())
        .expect("package softhsm2 is there")
}

/// Runs the named test again with a fresh token; true in that second run.
fn in_own_process(test: &str) -> bool {
    if std::env::var_os("SOFTHSM2_CONF").is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let config = folder.path().join("softhsm2.conf");
    std::fs::write(
        &config,
        format!("directories.tokendir = {}\n", tokens.display()),
    )
    .unwrap();
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &config)
        .args([
            "--init-token",
            "--free",
            "--label",
            "usher",
            "--so-pin",
            "5678",
            "--pin",
            PIN,
        ])
        .output()
        .expect("softhsm2-util is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let run = Command::new(std::env::current_exe().unwrap())
        .env("SOFTHSM2_CONF", &config)
        .args(["--exact", test, "--nocapture"])
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    false
}

fn uri(object: &str) -> String {
    format!(
        "pkcs11:token=usher;object={object}?module-path={}",
        module()
    )
}

#[test]
fn every_kind_signs() {
    if !in_own_process("pkcs11::every_kind_signs") {
        return;
    }
    let kinds = [
        ("p256", KeyKind::EcdsaP256),
        ("p384", KeyKind::EcdsaP384),
        ("p521", KeyKind::EcdsaP521),
        ("rsa", KeyKind::Rsa2048),
    ];
    for (name, kind) in kinds {
        let key = Pkcs11Key::generate(&uri(name), PIN, kind).unwrap();
        assert_eq!(key.public_key().kind(), Some(kind));
        let again = Pkcs11Key::open(&uri(name), PIN).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(
            Pkcs11Key::generate(&uri(name), PIN, kind)
                .unwrap_err()
                .code(),
            "pki.pkcs11",
            "a second key of the same name"
        );

        let key: Arc<dyn Signer> = Arc::new(again);
        let certificate = issue(&Template::default(), key.as_ref(), key.as_ref());
        certificate.verify_signature_by(key.public_key()).unwrap();
        let identity = Identity::new(vec![certificate], key).unwrap();
        let message = cms::sign(b"{}", ID_DATA, &identity, &SignOptions::default()).unwrap();
        let signed_data = SignedData::parse(&message).unwrap();
        signed_data
            .verify(&CmsPolicy::strict(ID_DATA), &[])
            .unwrap();
    }

    let rsa = Pkcs11Key::open(&uri("rsa"), PIN).unwrap();
    for algorithm in [
        SignatureAlgorithm::RsaPkcs1Sha256,
        SignatureAlgorithm::RsaPkcs1Sha512,
        SignatureAlgorithm::RsaPssSha256,
        SignatureAlgorithm::RsaPssSha384,
    ] {
        let signature = rsa.sign_with(algorithm, b"message").unwrap();
        rsa.public_key()
            .verify(algorithm, b"message", &signature)
            .unwrap();
    }
    let refused = rsa
        .sign_with(SignatureAlgorithm::EcdsaP256Sha256, b"message")
        .unwrap_err();
    assert_eq!(refused.code(), "pki.algorithm-key-mismatch");
    let shown = format!("{rsa:?}");
    assert!(!shown.contains(PIN), "{shown}");
}

#[test]
fn threads_share_a_key() {
    if !in_own_process("pkcs11::threads_share_a_key") {
        return;
    }
    let key = Pkcs11Key::generate(&uri("shared"), PIN, KeyKind::EcdsaP256).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let key = &key;
            scope.spawn(move || {
                for round in 0..20 {
                    let message = format!("{thread} {round}");
                    let signature = key.sign(message.as_bytes()).unwrap();
                    let algorithm = key.algorithm();
                    key.public_key()
                        .verify(algorithm, message.as_bytes(), &signature)
                        .unwrap();
                }
            });
        }
    });
}

#[test]
fn what_cannot_be_opened() {
    if !in_own_process("pkcs11::what_cannot_be_opened") {
        return;
    }
    let wrong_pin = Pkcs11Key::generate(&uri("key"), "0000", KeyKind::EcdsaP256).unwrap_err();
    assert!(
        wrong_pin.to_string().contains("PinIncorrect"),
        "{wrong_pin}"
    );
    let cases = [
        (uri("absent"), "no key matches"),
        (uri("key").replace("usher", "other"), "no token matches"),
        (
            uri("key").replace("softhsm", "hardhsm"),
            "loading the module",
        ),
        (
            uri("key").replace(";object=key", ""),
            "object or id is missing",
        ),
    ];
    for (uri, expected) in cases {
        let refused = Pkcs11Key::open(&uri, PIN).unwrap_err();
        assert_eq!(refused.code(), "pki.pkcs11");
        assert!(refused.to_string().contains(expected), "{uri}: {refused}");
    }
}
