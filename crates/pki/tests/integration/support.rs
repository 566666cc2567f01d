//! Certificates for tests, made without the crate's own issuing code, and OpenSSL as a peer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr as _;
use std::sync::Arc;

use der::Encode as _;
use pki::{Certificate, Identity, KeyKind, Signer, SoftwareKey};
use x509_cert::name::Name;

pub(crate) fn data(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn text(path: &str) -> String {
    String::from_utf8(data(path)).unwrap()
}

pub(crate) fn certificate(path: &str) -> Certificate {
    Certificate::from_pem(&text(path)).unwrap()
}

/// Encodes a DER element.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
    match length {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(crate) struct Template<'a> {
    pub(crate) subject: &'a str,
    pub(crate) issuer: &'a str,
    pub(crate) serial: u8,
    /// UTCTime or GeneralizedTime by length.
    pub(crate) not_before: &'a str,
    pub(crate) not_after: &'a str,
    pub(crate) key_id: Option<&'a [u8]>,
    /// Further extensions, encoded.
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Default for Template<'_> {
    fn default() -> Self {
        Self {
            subject: "CN=signer",
            issuer: "CN=issuer",
            serial: 7,
            not_before: "250101000000Z",
            not_after: "99991231235959Z",
            key_id: None,
            extensions: Vec::new(),
        }
    }
}

pub(crate) fn extension(id: &str, value: &[u8]) -> Vec<u8> {
    let id = pki::ObjectIdentifier::new_unwrap(id).to_der().unwrap();
    element(0x30, &[&id, &element(0x04, &[value])])
}

/// A certificate over `subject_key`, signed by `issuer_key`.
pub(crate) fn issue(
    template: &Template<'_>,
    subject_key: &dyn Signer,
    issuer_key: &dyn Signer,
) -> Certificate {
    Certificate::from_der(&issue_der(template, subject_key, issuer_key)).unwrap()
}

/// As [`issue`], not parsed.
pub(crate) fn issue_der(
    template: &Template<'_>,
    subject_key: &dyn Signer,
    issuer_key: &dyn Signer,
) -> Vec<u8> {
    let name = |text: &str| Name::from_str(text).unwrap().to_der().unwrap();
    let time = |text: &str| {
        let tag = if text.len() == 13 { 0x17 } else { 0x18 };
        element(tag, &[text.as_bytes()])
    };
    let mut extensions = template.extensions.clone();
    if let Some(id) = template.key_id {
        extensions.push(extension("2.5.29.14", &element(0x04, &[id])));
    }
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    let extensions = match extensions.as_slice() {
        [] => Vec::new(),
        some => element(0xa3, &[&element(0x30, some)]),
    };
    let algorithm = issuer_key.algorithm().identifier();
    let tbs = element(
        0x30,
        &[
            &[0xa0, 3, 2, 1, 2],
            &[2, 1, template.serial],
            &algorithm,
            &name(template.issuer),
            &element(
                0x30,
                &[&time(template.not_before), &time(template.not_after)],
            ),
            &name(template.subject),
            subject_key.public_key().spki_der(),
            &extensions,
        ],
    );
    let signature = issuer_key.sign(&tbs).unwrap();
    element(
        0x30,
        &[&tbs, &algorithm, &element(0x03, &[&[0], &signature])],
    )
}

/// A self-signed identity.
pub(crate) fn identity(kind: KeyKind) -> Identity {
    identity_of(SoftwareKey::generate(kind).unwrap())
}

pub(crate) fn identity_of(key: SoftwareKey) -> Identity {
    let key_id = key.public_key().sha1_key_id();
    let template = Template {
        subject: "CN=signer",
        issuer: "CN=signer",
        key_id: Some(&key_id),
        ..Template::default()
    };
    let certificate = issue(&template, &key, &key);
    Identity::new(vec![certificate], Arc::new(key)).unwrap()
}

/// A folder with files, and `openssl` run in it.
pub(crate) struct OpenSsl {
    folder: tempfile::TempDir,
}

impl OpenSsl {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs `openssl` with arguments separated by spaces; the answer is whether it succeeded, and
    /// what it said.
    pub(crate) fn try_run(&self, arguments: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .expect("openssl is installed");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    pub(crate) fn run(&self, arguments: &str) -> String {
        let (ok, said) = self.try_run(arguments);
        assert!(ok, "openssl {arguments}: {said}");
        said
    }

    /// A self-signed certificate `NAME.crt` and its key `NAME.key` made by OpenSSL.
    pub(crate) fn identity(&self, name: &str, new_key: &str) -> Certificate {
        self.run(&format!(
            "req -x509 -nodes -newkey {new_key} -keyout {name}.key -out {name}.crt -days 3650 \
             -subj /CN={name}"
        ));
        Certificate::load(self.path(&format!("{name}.crt"))).unwrap()
    }
}
