//! TLS identities whose key never leaves a PKCS#11 token (SoftHSM), on both ends.

use std::process::Command;
use std::sync::Arc;

use net::{HttpVersion, TlsVersions};
use pki::{Certificate, Identity, KeyKind, Pkcs11Key, Signer};
use rcgen::{CertificateParams, DnType, PublicKeyData, SigningKey};
use serde_json::json;

use crate::support::{Server, client_with};

const CHILD: &str = "USHER_TEST_IN_CHILD";
const PIN: &str = "1234";

fn module() -> String {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    ];
    let place = places
        .iter()
        .find(|path| std::path::Path::new(path).exists());
    (*place.expect("Debian's package softhsm2 is installed")).to_owned()
}

/// SoftHSM finds its tokens by an environment variable, which a test must not change under the
/// others' feet. So the test runs itself again in a process that has it.
#[test]
fn keys_in_a_token_serve_and_authenticate() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(in_child());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).expect("a folder");
    let config = folder.path().join("softhsm2.conf");
    std::fs::write(
        &config,
        format!("directories.tokendir = {}\n", tokens.display()),
    )
    .expect("written");
    let initialised = Command::new("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            "usher",
            "--pin",
            PIN,
            "--so-pin",
            PIN,
        ])
        .env("SOFTHSM2_CONF", &config)
        .output()
        .expect("softhsm2-util runs");
    assert!(initialised.status.success(), "{initialised:?}");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "token::keys_in_a_token_serve_and_authenticate",
            "--nocapture",
        ])
        .env("SOFTHSM2_CONF", &config)
        .env(CHILD, "1")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

async fn in_child() {
    let kinds = [
        ("p256", KeyKind::EcdsaP256, &rcgen::PKCS_ECDSA_P256_SHA256),
        ("p384", KeyKind::EcdsaP384, &rcgen::PKCS_ECDSA_P384_SHA384),
        ("rsa", KeyKind::Rsa2048, &rcgen::PKCS_RSA_SHA256),
    ];
    for (name, kind, algorithm) in kinds {
        let uri = format!("pkcs11:token=usher;object={name}?module-path={}", module());
        let key = Pkcs11Key::generate(&uri, PIN, kind).expect("a key in the token");
        let identity = self_signed(name, Arc::new(key), algorithm);
        let server = Server::with(std::slice::from_ref(&identity), |_| {}).await;
        for (http, tls) in [
            (HttpVersion::Http1, TlsVersions::Only12),
            (HttpVersion::Http2, TlsVersions::Only13),
            (HttpVersion::Http3, TlsVersions::Only13),
        ] {
            let seen = server.ask(&client_with(http, tls, identity.clone())).await;
            assert_eq!(
                seen["chain"],
                json!([format!("CN={name}")]),
                "{name} {http}"
            );
        }
        server.stop().await;
    }
}

/// Lets rcgen make a certificate around a key that it cannot see.
struct Token {
    signer: Arc<dyn Signer>,
    bits: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

impl PublicKeyData for Token {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Token {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer
            .sign(message)
            .map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn self_signed(
    name: &str,
    signer: Arc<dyn Signer>,
    algorithm: &'static rcgen::SignatureAlgorithm,
) -> Identity {
    // The key's bits stand at the end of the SubjectPublicKeyInfo, after its BIT STRING's header.
    let spki = signer.public_key().spki_der();
    let length = match name {
        "p256" => 65,
        "p384" => 97,
        _ => 270,
    };
    let bits = spki[spki.len() - length..].to_vec();
    let token = Token {
        bits,
        signer: Arc::clone(&signer),
        algorithm,
    };
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&token).expect("a certificate");
    let certificate = Certificate::from_der(certificate.der()).expect("parses");
    Identity::new(vec![certificate], signer).expect("belong together")
}
