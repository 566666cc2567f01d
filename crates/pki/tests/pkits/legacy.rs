//! SHA-1 and short RSA keys, made by OpenSSL because we cannot: refused, unless the switch for a
//! manufacturer's old devices is on.

use std::path::Path;
use std::process::Command;

use pki::path::{Anchors, PathOptions, Purpose, validate};
use pki::{Certificate, Coded as _};

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn world(digest: &str, ca_key: &str, leaf_key: &str) -> (Certificate, Certificate) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(folder, &format!("genpkey {ca_key} -out ca.key"));
    openssl(
        folder,
        &format!("req -x509 -new -key ca.key -{digest} -subj /CN=Old_CA -days 9000 -out ca.crt"),
    );
    openssl(folder, &format!("genpkey {leaf_key} -out leaf.key"));
    openssl(
        folder,
        "req -new -key leaf.key -sha256 -subj /CN=Old_Device -out leaf.csr",
    );
    std::fs::write(folder.join("extensions"), "authorityKeyIdentifier=keyid\n").unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -{digest} -days 9000 -set_serial 77 -extfile extensions -out leaf.crt"
        ),
    );
    (
        Certificate::load(folder.join("ca.crt")).unwrap(),
        Certificate::load(folder.join("leaf.crt")).unwrap(),
    )
}

#[test]
fn old_algorithms_need_the_switch() {
    const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    const SHORT: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:1024";
    let cases = [
        ("sha256", P256, P256, "valid"),
        ("sha256", RSA, P256, "valid"),
        ("sha1", RSA, P256, "path.weak-signature"),
        ("sha1", P256, P256, "path.weak-signature"),
        ("sha256", SHORT, P256, "path.weak-key"),
        ("sha256", RSA, SHORT, "path.weak-key"),
        ("sha1", SHORT, SHORT, "path.weak-key"),
    ];
    for (digest, ca, leaf, expected) in cases {
        let (ca, leaf) = world(digest, ca, leaf);
        let anchors = Anchors::from(ca);
        let options = PathOptions {
            purpose: Purpose::Idevid,
            ..PathOptions::default()
        };
        let answer = |options: &PathOptions| match validate(&leaf, &[], &anchors, options) {
            Ok(_) => "valid",
            Err(error) => error.code(),
        };
        assert_eq!(answer(&options), expected);
        let legacy = PathOptions {
            tolerate_legacy_algorithms: true,
            ..options
        };
        assert_eq!(answer(&legacy), "valid", "{expected}");
    }
}
