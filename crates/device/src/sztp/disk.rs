//! The device's folder: state, configuration, images, key. Files are replaced as a whole, so that
//! after a power cut at any moment each is the old one or the new one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use pki::Identity;
use serde::{Deserialize, Serialize};
use sztp::agent::State;

use super::CONFIGURATION_SIZE_MAX_BYTES;
use crate::Error;

/// Version of the layout.
const VERSION: u32 = 1;
const STATE_FILE: &str = "sztp.json";
const LOCK_FILE: &str = "lock";
/// The running configuration.
pub(super) const CONFIGURATION_FILE: &str = "configuration";
/// What it was before the onboarding that is under way.
const PREVIOUS_FILE: &str = "configuration.previous";
/// The private key that was made for a certification request.
pub(super) const KEY_FILE: &str = "ldevid.key.pem";
/// Where scripts run.
pub(super) const SANDBOX: &str = "sandbox";
/// Largest state.
const STATE_SIZE_MAX_BYTES: u64 = 1024 * 1024;

/// What is written.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// Whose state it is: SHA-256 of the public key in the IDevID, in hexadecimal.
    device: String,
    agent: State,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// Keeps other processes out for as long as it is open.
    _lock: File,
    /// Removes the folder when the run is over, if nobody is to resume it.
    _temporary: Option<tempfile::TempDir>,
    /// Writes until the power is cut in rehearsal.
    writes_left: Option<u32>,
    /// The state as it was written last.
    written: Option<Vec<u8>>,
}

impl Disk {
    /// A folder, made if it is not there.
    pub(super) fn open(folder: Option<&Path>, power_cut: Option<u32>) -> Result<Self, Error> {
        let mut temporary = None;
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => {
                let made = tempfile::tempdir().map_err(failed(Path::new("temporary folder")))?;
                let path = made.path().to_owned();
                temporary = Some(made);
                path
            }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let lock = File::create(folder.join(LOCK_FILE)).map_err(failed(&folder))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::StateInUse(folder)),
            Err(TryLockError::Error(source)) => {
                return Err(Error::State {
                    path: folder,
                    source,
                });
            }
        }
        Ok(Self {
            folder,
            _lock: lock,
            _temporary: temporary,
            writes_left: power_cut,
            written: None,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// One act on the disk; in rehearsal the power fails before it.
    pub(super) fn tick(&mut self) -> Result<(), Error> {
        match &mut self.writes_left {
            Some(0) => Err(Error::PowerCut),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn load(&self, idevid: &Identity) -> Result<Option<State>, Error> {
        let path = self.path(STATE_FILE);
        let Some(bytes) = read(&path, STATE_SIZE_MAX_BYTES)? else {
            return Ok(None);
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
        if stored.device != device_of(idevid) {
            return Err(Error::StateOfAnother(path));
        }
        Ok(Some(stored.agent))
    }

    /// Replaces the state, if it is another one.
    pub(super) fn save(&mut self, idevid: &Identity, state: &State) -> Result<(), Error> {
        let stored = Stored {
            version: VERSION,
            device: device_of(idevid),
            agent: state.clone(),
        };
        let mut bytes =
            serde_json::to_vec_pretty(&stored).map_err(|error| Error::StateMalformed {
                path: self.path(STATE_FILE),
                reason: error.to_string(),
            })?;
        bytes.push(b'\n');
        if self.written.as_ref() == Some(&bytes) {
            return Ok(());
        }
        self.replace(STATE_FILE, &bytes)?;
        self.written = Some(bytes);
        Ok(())
    }

    /// Replaces a file as a whole, readable for its owner only.
    pub(super) fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        let temporary = self.path(&format!("{name}.new"));
        self.tick()?;
        remove(&temporary)?;
        let mut file = create(&temporary, 0o600)?;
        file.write_all(bytes).map_err(failed(&temporary))?;
        file.sync_all().map_err(failed(&temporary))?;
        drop(file);
        self.tick()?;
        fs::rename(&temporary, &path).map_err(failed(&path))?;
        self.sync()
    }

    /// Renames a file over another.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        self.tick()?;
        let to = self.path(to);
        fs::rename(self.path(from), &to).map_err(failed(&to))?;
        self.sync()
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        self.tick()?;
        remove(&path)?;
        self.sync()
    }

    /// Without this a rename or a removal could be lost.
    fn sync(&self) -> Result<(), Error> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed(&self.folder))
    }

    /// The running configuration.
    pub(super) fn configuration(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.path(CONFIGURATION_FILE), configuration_max())
    }

    /// SZTP-8572-5.6-19: the configuration is there whole, or not at all, and can be taken back
    /// until [`Self::settle`].
    pub(super) fn commit(&mut self, configuration: &[u8]) -> Result<(), Error> {
        if read(&self.path(PREVIOUS_FILE), configuration_max())?.is_none() {
            // The first octet tells nothing from an empty configuration.
            let before = match self.configuration()? {
                Some(bytes) => [b"1".as_slice(), &bytes].concat(),
                None => b"0".to_vec(),
            };
            self.replace(PREVIOUS_FILE, &before)?;
        }
        self.replace(CONFIGURATION_FILE, configuration)
    }

    /// Takes back what the onboarding under way has done. Doing it twice does no harm.
    pub(super) fn roll_back(&mut self) -> Result<(), Error> {
        if let Some(previous) = read(&self.path(PREVIOUS_FILE), configuration_max())? {
            match previous.split_first() {
                Some((b'1', configuration)) => {
                    let configuration = configuration.to_vec();
                    self.replace(CONFIGURATION_FILE, &configuration)?;
                }
                _ => self.remove(CONFIGURATION_FILE)?,
            }
            self.remove(PREVIOUS_FILE)?;
        }
        self.clear_sandbox()
    }

    /// Makes lasting what the onboarding has done.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.remove(PREVIOUS_FILE)
    }

    /// Removes what scripts have written.
    pub(super) fn clear_sandbox(&mut self) -> Result<(), Error> {
        let path = self.path(SANDBOX);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(());
        }
        self.tick()?;
        remove_folder(&path)
    }

    /// The names of the files that begin so.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect()
    }
}

fn configuration_max() -> u64 {
    // One octet more in the file with the previous one.
    CONFIGURATION_SIZE_MAX_BYTES as u64 + 1
}

/// What tells devices apart: their factory keys.
fn device_of(idevid: &Identity) -> String {
    hex::encode(idevid.signer.public_key().sha256())
}

pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::State {
        path: path.clone(),
        source,
    }
}

/// A file that was not there before. What a power cut left, or somebody put there, is not written
/// into: it would keep its mode, and a link would lead elsewhere.
pub(super) fn create(path: &Path, mode: u32) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(mode);
    }
    options.open(path).map_err(failed(path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// A folder with all that is in it, whatever permissions a script has left there: what cannot be
/// taken back once could not be at any later start.
pub(super) fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path).map_err(failed(path))
        }
        other => other.map_err(failed(path)),
    }
}

/// Lets the owner into a folder and those below it, as far as that is to be had. Links are left
/// alone.
fn open_up(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What stays closed is told by the removal.
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let inside = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(inside.map(|entry| entry.path()));
    }
}

/// A file as a whole; `None` if it is not there.
fn read(path: &Path, size_max_bytes: u64) -> Result<Option<Vec<u8>>, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > size_max_bytes => Err(Error::StateMalformed {
            path: path.to_owned(),
            reason: "the file is too large".to_owned(),
        }),
        Ok(_) => fs::read(path).map(Some).map_err(failed(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// It shows where tests do not run as root, whom no permission keeps out.
    #[test]
    fn a_script_cannot_keep_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(Some(folder.path()), None).unwrap();
        let deep = disk.path(SANDBOX).join("pre/a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), b"x").unwrap();
        for (folder, mode) in [("pre/a/b", 0o000), ("pre/a", 0o500), ("pre", 0o100)] {
            let folder = disk.path(SANDBOX).join(folder);
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
        disk.roll_back().unwrap();
        assert!(!disk.path(SANDBOX).exists());
    }
}
