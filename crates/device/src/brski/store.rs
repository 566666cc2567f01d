//! The device's state: one JSON file that is replaced as a whole, and the keys beside it.
//!
//! A file is written under another name, flushed to the disk, renamed over the old one, and the
//! folder is flushed too. After a power cut at any moment the state is the old one or the new one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use brski::pledge::State;
use pki::{Identity, KeyKind, Signer, SoftwareKey};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Version of the file's layout.
const VERSION: u32 = 1;
const STATE_FILE: &str = "state.json";
const LOCK_FILE: &str = "lock";

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    version: u32,
    /// Whose state it is: SHA-256 of the public key in the IDevID, in hexadecimal.
    #[serde(default)]
    device: String,
    /// The pledge's state.
    pub pledge: State,
    /// Which key file belongs to the domain certificate: `ldevid-<n>.key.pem`.
    pub key_generation: u32,
}

impl Stored {
    /// A device's state with its key.
    #[must_use]
    pub fn new(idevid: &Identity, pledge: State, key_generation: u32) -> Self {
        Self {
            version: VERSION,
            device: device_of(idevid),
            pledge,
            key_generation,
        }
    }
}

/// Where the state is kept: in a folder, or in memory for a run that nobody resumes.
#[derive(Debug)]
pub struct Store {
    folder: Option<PathBuf>,
    /// Keeps other processes out for as long as it is open.
    _lock: Option<File>,
    passphrase: Option<String>,
    /// The keys of a run in memory, as unencrypted PKCS#8 would be on disk.
    memory: Vec<(u32, std::sync::Arc<SoftwareKey>)>,
}

impl Store {
    /// A folder, made if it is not there. With a passphrase keys are written encrypted.
    ///
    /// # Errors
    /// [`Error::State`] if it cannot be made.
    pub fn open(folder: Option<PathBuf>, passphrase: Option<String>) -> Result<Self, Error> {
        let mut lock = None;
        if let Some(folder) = &folder {
            let failed = |source| Error::State {
                path: folder.clone(),
                source,
            };
            fs::create_dir_all(folder).map_err(failed)?;
            let file = File::create(folder.join(LOCK_FILE)).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => lock = Some(file),
                Err(TryLockError::WouldBlock) => return Err(Error::StateInUse(folder.clone())),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Ok(Self {
            folder,
            _lock: lock,
            passphrase,
            memory: Vec::new(),
        })
    }

    /// The state of this device, if there is one.
    ///
    /// # Errors
    /// If the file cannot be read, is not ours, or is another device's.
    pub fn load(&self, idevid: &Identity) -> Result<Option<Stored>, Error> {
        let Some(path) = self.path(STATE_FILE) else {
            return Ok(None);
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::State { path, source }),
        };
        let malformed = |reason: String| Error::StateMalformed {
            path: path.clone(),
            reason,
        };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if stored.version != VERSION {
            return Err(malformed(format!(
                "version {} is not known",
                stored.version
            )));
        }
        if !stored.device.is_empty() && stored.device != device_of(idevid) {
            return Err(Error::StateOfAnother(path));
        }
        Ok(Some(stored))
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, stored: &Stored) -> Result<(), Error> {
        let Some(path) = self.path(STATE_FILE) else {
            return Ok(());
        };
        let mut bytes =
            serde_json::to_vec_pretty(stored).map_err(|error| Error::StateMalformed {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        bytes.push(b'\n');
        replace(&path, &bytes)
    }

    /// The key of this generation: the one on disk, or a new one, which is on disk when this
    /// returns. A key that made a request is kept, so that a certificate that comes late still
    /// has its key.
    ///
    /// # Errors
    /// If it cannot be read, made or written.
    pub fn key(
        &mut self,
        generation: u32,
        kind: KeyKind,
    ) -> Result<std::sync::Arc<SoftwareKey>, Error> {
        if let Some(key) = self.existing_key(generation)? {
            return Ok(key);
        }
        self.keep_key(generation, SoftwareKey::generate(kind)?)
    }

    /// The key of this generation, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn existing_key(
        &self,
        generation: u32,
    ) -> Result<Option<std::sync::Arc<SoftwareKey>>, Error> {
        let Some(path) = self.path(&key_file(generation)) else {
            let found = self.memory.iter().find(|(known, _)| *known == generation);
            return Ok(found.map(|(_, key)| std::sync::Arc::clone(key)));
        };
        match fs::exists(&path) {
            Ok(true) => {
                let key = SoftwareKey::load(&path, self.passphrase.as_deref())?;
                Ok(Some(std::sync::Arc::new(key)))
            }
            Ok(false) => Ok(None),
            Err(source) => Err(Error::State { path, source }),
        }
    }

    /// Keeps a key that somebody else made as the one of this generation.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn adopt_key(
        &mut self,
        generation: u32,
        key: SoftwareKey,
    ) -> Result<std::sync::Arc<SoftwareKey>, Error> {
        self.forget_key(generation);
        self.keep_key(generation, key)
    }

    fn keep_key(
        &mut self,
        generation: u32,
        key: SoftwareKey,
    ) -> Result<std::sync::Arc<SoftwareKey>, Error> {
        let key = std::sync::Arc::new(key);
        match self.path(&key_file(generation)) {
            Some(path) => {
                let pem = match &self.passphrase {
                    Some(passphrase) => key.to_encrypted_pkcs8_pem(passphrase)?,
                    None => key.to_pkcs8_pem()?,
                };
                replace(&path, pem.as_bytes())?;
            }
            None => self.memory.push((generation, std::sync::Arc::clone(&key))),
        }
        Ok(key)
    }

    /// Forgets a key that no certificate belongs to any more.
    pub fn forget_key(&mut self, generation: u32) {
        self.memory.retain(|(known, _)| *known != generation);
        if let Some(path) = self.path(&key_file(generation)) {
            // It is of no use to anybody; that it stays is no reason to fail.
            let _ = fs::remove_file(path);
        }
    }

    /// Writes a file for other programs: certificates in PEM.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.path(name) {
            Some(path) => replace(&path, bytes),
            None => Ok(()),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(name))
    }
}

/// What tells devices apart: their factory keys.
fn device_of(idevid: &Identity) -> String {
    hex::encode(idevid.signer.public_key().sha256())
}

/// The kind of key that fits a signer, for a renewal that keeps the kind.
#[must_use]
pub fn kind_of(key: &SoftwareKey) -> Option<KeyKind> {
    use pki::SignatureAlgorithm as Algorithm;
    Some(match key.algorithm() {
        Algorithm::EcdsaP256Sha256 => KeyKind::EcdsaP256,
        Algorithm::EcdsaP384Sha384 => KeyKind::EcdsaP384,
        Algorithm::EcdsaP521Sha512 => KeyKind::EcdsaP521,
        Algorithm::Ed25519 => KeyKind::Ed25519,
        Algorithm::MlDsa44 => KeyKind::MlDsa44,
        Algorithm::MlDsa65 => KeyKind::MlDsa65,
        Algorithm::MlDsa87 => KeyKind::MlDsa87,
        _ => return None,
    })
}

fn key_file(generation: u32) -> String {
    format!("ldevid-{generation}.key.pem")
}

/// Replaces a file as a whole, readable for its owner only.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::State { path, source }
    };
    let temporary = path.with_extension("new");
    // What a power cut left, or somebody put there, is not written into: it would keep its mode,
    // and a link would lead elsewhere.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed(&temporary)(error));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&temporary).map_err(failed(&temporary))?;
    file.write_all(bytes).map_err(failed(&temporary))?;
    file.sync_all().map_err(failed(&temporary))?;
    drop(file);
    fs::rename(&temporary, path).map_err(failed(path))?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        // Without this the rename itself could be lost.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed(folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_key_does_not_go_where_something_lay_before() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "as it was").expect("written");
        let path = folder.path().join("ldevid-1.key.pem");
        symlink(&elsewhere, path.with_extension("new")).expect("linked");
        replace(&path, b"a key").expect("replaced");
        assert_eq!(fs::read(&elsewhere).expect("read"), b"as it was");
        assert_eq!(fs::read(&path).expect("read"), b"a key");

        // Left for all to read.
        let left = path.with_extension("new");
        fs::write(&left, "half a k").expect("written");
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).expect("set");
        replace(&path, b"another key").expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
