//! The suite's own keys and certificates for a run, in the folder that `prepare` made.
//!
//! Keys stay in the sub-folder `private`; what the implementation has to trust lies beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use time::OffsetDateTime;

use crate::forge::{
    cms::Signatory,
    der,
    key::{Key, Kind},
    x509::{Authority, Identity, pem},
};

/// The folder.
#[derive(Clone, Debug)]
pub struct Workshop {
    folder: PathBuf,
    seed: String,
}

impl Workshop {
    /// A new one, with a secret that all its keys follow from.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        let private = folder.join("private");
        std::fs::create_dir_all(&private).with_context(|| private.display().to_string())?;
        let seed = hex::encode(rand::random::<[u8; 32]>());
        std::fs::write(private.join("seed"), &seed)?;
        Ok(Self {
            folder: folder.to_owned(),
            seed,
        })
    }

    /// The one that `prepare` made.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("private").join("seed");
        let seed = std::fs::read_to_string(&path)
            .with_context(|| format!("{}: `usher-conformance prepare` makes it", path.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            seed,
        })
    }

    /// Where a file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The key with this name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn key(&self, name: &str) -> Result<Key> {
        Key::derive(Kind::P256, &format!("{} {name}", self.seed))
    }

    /// Makes a root and writes its certificate to `NAME.pem`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn make_root(
        &self,
        name: &str,
        organization: &str,
        common_name: &str,
        at: OffsetDateTime,
    ) -> Result<Authority> {
        let authority = Authority::root(organization, common_name, self.key(name)?, at);
        self.write(
            &format!("{name}.pem"),
            pem("CERTIFICATE", authority.certificate()).as_bytes(),
        )?;
        Ok(authority)
    }

    /// A root that [`Self::make_root`] made.
    ///
    /// # Errors
    /// If its certificate is not there.
    pub fn root(&self, name: &str) -> Result<Authority> {
        let certificate = pki::Certificate::load(self.path(&format!("{name}.pem")))?;
        let name_der = certificate.subject_der().to_vec();
        Ok(Authority {
            signatory: Signatory {
                certificate: certificate.der().to_vec(),
                key: self.key(name)?,
            },
            name: name_der,
            above: Vec::new(),
        })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, octets: &[u8]) -> Result<()> {
        let path = self.path(name);
        std::fs::write(&path, octets).with_context(|| path.display().to_string())
    }

    /// Writes an identity as `NAME.pem` and `private/NAME.key`, for other tools to use.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn export(&self, name: &str, identity: &Identity) -> Result<()> {
        let chain: String = identity
            .chain()
            .iter()
            .map(|der| pem("CERTIFICATE", der))
            .collect();
        self.write(&format!("{name}.pem"), chain.as_bytes())?;
        self.write(
            &format!("private/{name}.key"),
            identity.key().to_pem()?.as_bytes(),
        )
    }
}

/// The key identifier extension's content that names a CA, for `idevid-issuer`.
#[must_use]
pub fn issuer_leaf(authority: &Authority) -> Vec<u8> {
    der::octets(&der::seq(&[der::implicit(0, &authority.key_id())]))
}
