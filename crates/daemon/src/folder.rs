//! The folder that `init` of a service fills: keys, certificates, and a configuration at the end.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::issue::{AltName, CertificateBuilder, Profile};
use pki::{Identity, KeyKind, PublicKey, Signer as _, SoftwareKey};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// Certificates begin a little before now, for peers whose clock is late.
pub const BACKDATE: Duration = Duration::hours(1);

/// A folder that is being filled. Nothing in it is ever overwritten: what is there may be
/// somebody's only key.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    passphrase: Option<Passphrase>,
}

struct Passphrase {
    file: PathBuf,
    text: String,
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passphrase")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Folder {
    /// Makes the folder, readable by its owner and group. Keys are encrypted with the first line of
    /// the passphrase's file, if there is one.
    ///
    /// # Errors
    /// If it cannot be made, or the passphrase not be read.
    pub fn make(path: &Path, passphrase_file: Option<&Path>) -> Result<Self, Error> {
        make(path)?;
        let passphrase = passphrase_file.map(passphrase).transpose()?;
        Ok(Self {
            path: path.to_owned(),
            passphrase,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the keys in it are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.passphrase.is_some()
    }

    /// The line for the keys of this folder in a configuration, with its end; empty if they are not
    /// encrypted.
    #[must_use]
    pub fn passphrase_line(&self) -> String {
        self.passphrase
            .as_ref()
            .map_or_else(String::new, |passphrase| {
                let file = quoted(&passphrase.file.display().to_string());
                format!("passphrase_file = {file}\n")
            })
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self, name: &str) -> Result<(), Error> {
        make(&self.path.join(name))
    }

    /// Writes a new file with these rights.
    ///
    /// # Errors
    /// If it is there already or cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Error> {
        let path = self.path.join(name);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|source| Error::File { path, source })
    }

    /// Writes a key that its owner alone can read.
    ///
    /// # Errors
    /// As [`Folder::write`].
    pub fn write_key(&self, name: &str, key: &SoftwareKey) -> Result<(), Error> {
        let pem = match &self.passphrase {
            Some(passphrase) => key.to_encrypted_pkcs8_pem(&passphrase.text)?,
            None => key.to_pkcs8_pem()?,
        };
        self.write(name, pem.as_bytes(), 0o600)
    }

    /// Makes a root CA: `STEM.pem` and `STEM.key`.
    ///
    /// # Errors
    /// As [`Folder::write`], or the subject is no name.
    pub fn root(
        &self,
        stem: &str,
        kind: KeyKind,
        subject: &str,
        until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Identity, Error> {
        let key = SoftwareKey::generate(kind)?;
        let builder = certificate(Profile::RootCa, subject, key.public_key(), until, now)?;
        let certificate = builder.self_sign(&key)?;
        let pem = certificate.to_pem();
        self.write(&format!("{stem}.pem"), pem.as_bytes(), 0o644)?;
        self.write_key(&format!("{stem}.key"), &key)?;
        Ok(Identity::new(vec![certificate], Arc::new(key))?)
    }

    /// Issues a certificate and writes `STEM.pem`, with the CA after it so that who gets the file
    /// can see and compare that too.
    ///
    /// # Errors
    /// As [`Folder::write`], or the CA cannot sign.
    pub fn issue(
        &self,
        ca: &Identity,
        stem: &str,
        builder: &CertificateBuilder,
    ) -> Result<(), Error> {
        let issuer = ca.certificate().ok_or(pki::Error::IdentityMismatch)?;
        let certificate = builder.issue(issuer, ca.signer.as_ref())?;
        let chain = format!("{}{}", certificate.to_pem(), issuer.to_pem());
        self.write(&format!("{stem}.pem"), chain.as_bytes(), 0o644)
    }
}

/// A certificate to be issued, from [`BACKDATE`] before now on, with a random serial number.
///
/// # Errors
/// If the subject is no name, or the system has no random numbers.
pub fn certificate(
    profile: Profile,
    subject: &str,
    key: &PublicKey,
    until: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<CertificateBuilder, Error> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| pki::Error::KeyGeneration)?;
    let subject = pki::issue::name(subject)?;
    let begin = now - BACKDATE;
    Ok(CertificateBuilder::new(
        profile,
        subject,
        key.clone(),
        serial,
        begin,
        until,
    ))
}

/// Adds the names and addresses of a server.
#[must_use]
pub fn with_names(mut builder: CertificateBuilder, names: &[String]) -> CertificateBuilder {
    for name in names {
        builder = match name.parse::<IpAddr>() {
            Ok(address) => builder.alt_name(AltName::Ip(address)),
            Err(_) => builder.dns_name(name),
        };
    }
    builder
}

/// A value in an RFC 4514 name.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for (index, c) in text.trim().chars().enumerate() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') || (index == 0 && c == '#') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A string in TOML.
#[must_use]
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn passphrase(file: &Path) -> Result<Passphrase, Error> {
    let failed = |source| Error::File {
        path: file.to_owned(),
        source,
    };
    let whole = std::fs::read_to_string(file).map_err(failed)?;
    let text = whole.lines().next().unwrap_or_default().to_owned();
    if text.is_empty() {
        return Err(Error::Secret {
            from: file.display().to_string(),
            reason: "the passphrase is empty".to_owned(),
        });
    }
    let file = std::path::absolute(file).map_err(failed)?;
    Ok(Passphrase { file, text })
}

fn make(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape(" Plain GmbH "), "Plain GmbH");
        assert_eq!(escape("#1, Big+Co"), "\\#1\\, Big\\+Co");
    }

    #[test]
    fn what_is_there_stays() {
        let parent = tempfile::tempdir().unwrap();
        let secret = parent.path().join("secret");
        std::fs::write(&secret, "s3cret \nnext").unwrap();
        let folder = Folder::make(&parent.path().join("a/b"), Some(&secret)).unwrap();
        let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
        folder.write_key("k", &key).unwrap();
        let first = std::fs::read(folder.path().join("k")).unwrap();
        let again = folder.write_key("k", &key);
        assert!(matches!(again, Err(Error::File { .. })));
        assert_eq!(std::fs::read(folder.path().join("k")).unwrap(), first);
        let pem = String::from_utf8(first).unwrap();
        assert!(SoftwareKey::from_pem(&pem, Some("s3cret ")).is_ok());
        assert!(!format!("{folder:?}").contains("s3cret "));
    }

    #[test]
    fn an_empty_passphrase_protects_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let secret = parent.path().join("secret");
        std::fs::write(&secret, "\nnext").unwrap();
        let made = Folder::make(&parent.path().join("a"), Some(&secret));
        assert!(matches!(made, Err(Error::Secret { .. })));
    }
}
