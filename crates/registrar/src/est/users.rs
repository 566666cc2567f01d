//! Users for enrolment without BRSKI: one line each, `name:$pbkdf2-sha256$rounds$salt$hash`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::pbkdf2;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use pki::Coded as _;
use tokio::sync::Semaphore;

use crate::Error;

/// Rounds of new entries: what OWASP gives for PBKDF2 with HMAC-SHA-256.
const ROUNDS: u32 = 600_000;
/// Most rounds that are worked through; the file is the operator's own.
const ROUNDS_MAX: u32 = 10_000_000;
const HASH_LENGTH_BYTES: usize = 32;

/// How many passwords are worked on at once: guessing must not take the machine from the others.
const CHECKS_AT_ONCE_MAX: usize = 2;

/// The users of a file, which is read again when it changes: who was taken out is out at once.
pub(super) struct Users {
    path: PathBuf,
    known: Mutex<Known>,
    checks: Semaphore,
}

/// The file as it was when it was read.
struct Known {
    stamp: Option<Stamp>,
    users: Vec<User>,
}

/// What tells one version of the file from another; each is a file of its own.
type Stamp = (SystemTime, u64, u64);

#[derive(Clone)]
struct User {
    name: String,
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Users {
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            known: Mutex::new(Known::read(path)?),
            checks: Semaphore::new(CHECKS_AT_ONCE_MAX),
        })
    }

    /// The user of that name, as the file has it now. A file that cannot be read has no users:
    /// to go on with those of before could let in somebody who was taken out.
    fn named(&self, name: &str) -> Option<User> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.path);
        if stamp.is_none() || stamp != known.stamp {
            *known = Known::read(&self.path).unwrap_or_else(|error| {
                tracing::error!(code = error.code(), %error, "nobody can sign in with a password");
                Known {
                    stamp: None,
                    users: Vec::new(),
                }
            });
        }
        known.users.iter().find(|user| user.name == name).cloned()
    }

    /// Whether that is the password of that user. Takes a good part of a second of CPU time, on a
    /// thread for such work; an unknown user takes the same time as a known one. `None` if too many
    /// others are being checked.
    pub(super) async fn check(&self, name: &str, password: &str) -> Option<bool> {
        let _turn = tokio::time::timeout(crate::service::TURN_WAIT_MAX, self.checks.acquire())
            .await
            .ok()?;
        let user = self.named(name);
        let password = password.to_owned();
        let work = tokio::task::spawn_blocking(move || match user {
            Some(user) => pbkdf2::verify(
                pbkdf2::PBKDF2_HMAC_SHA256,
                user.rounds,
                &user.salt,
                password.as_bytes(),
                &user.hash,
            )
            .is_ok(),
            None => {
                let mut hash = [0_u8; HASH_LENGTH_BYTES];
                derive(ROUNDS, b"nobody", &password, &mut hash);
                false
            }
        });
        work.await.ok()
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, Error> {
        // Before the text, so that a change between the two is seen the next time.
        let stamp = stamp(path);
        let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, &error))?;
        let mut users = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            users.push(User::parse(line).ok_or_else(|| Error::Config {
                detail: format!("{} line {}: not a user", path.display(), number + 1),
            })?);
        }
        Ok(Self { stamp, users })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}

impl User {
    fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once(':')?;
        let mut parts = rest.strip_prefix("$pbkdf2-sha256$")?.split('$');
        let rounds: u32 = parts.next()?.parse().ok()?;
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let hash = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        if parts.next().is_some() || name.is_empty() || rounds > ROUNDS_MAX || hash.len() < 16 {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            rounds: NonZeroU32::new(rounds)?,
            salt,
            hash,
        })
    }
}

fn derive(rounds: u32, salt: &[u8], password: &str, out: &mut [u8]) {
    let rounds = NonZeroU32::new(rounds).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt,
        password.as_bytes(),
        out,
    );
}

/// The line of the users' file for a name and a password.
#[must_use]
pub fn hash_password(name: &str, password: &str, salt: &[u8; 16]) -> String {
    let mut hash = [0_u8; HASH_LENGTH_BYTES];
    derive(ROUNDS, salt, password, &mut hash);
    format!(
        "{name}:$pbkdf2-sha256${ROUNDS}${}${}",
        STANDARD_NO_PAD.encode(salt),
        STANDARD_NO_PAD.encode(hash)
    )
}

/// `usher registrar est-user`: sets the password of a user for enrolment without BRSKI.
#[derive(Clone, Debug, clap::Args)]
pub struct UserCommand {
    /// The user's name.
    pub name: String,
    /// Take the user out instead.
    #[arg(long)]
    pub remove: bool,
    /// The users' file; by default the one of the configuration.
    #[arg(long)]
    pub file: Option<PathBuf>,
}

impl UserCommand {
    /// Runs the command; the password is the first line of `input`.
    ///
    /// # Errors
    /// There is no users' file, or it cannot be read or written.
    pub fn run(
        &self,
        config: &crate::Config,
        input: &mut dyn std::io::BufRead,
        format: daemon::cli::Format,
    ) -> Result<daemon::cli::Outcome, Error> {
        let configured = config
            .est
            .without_brski
            .as_ref()
            .and_then(|plain| plain.users_file.clone());
        let path = self
            .file
            .clone()
            .or(configured)
            .ok_or_else(|| Error::Config {
                detail: "[est.without_brski] users_file is not set".to_owned(),
            })?;
        if self.name.is_empty() || self.name.contains([':', '\n', '\r']) {
            return Err(Error::Config {
                detail: format!("{:?} cannot be a user", self.name),
            });
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::file(&path, &error)),
        };
        let prefix = format!("{}:", self.name);
        let mut lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with(&prefix))
            .collect();
        let known = lines.len() < text.lines().count();
        let new;
        if !self.remove {
            let mut password = String::new();
            input
                .read_line(&mut password)
                .map_err(|error| Error::file(Path::new("-"), &error))?;
            let password = password.trim_end_matches(['\n', '\r']);
            if password.is_empty() {
                return Err(Error::Config {
                    detail: "the password is read from standard input, and there is none"
                        .to_owned(),
                });
            }
            new = hash_password(&self.name, password, &rand::random());
            lines.push(&new);
        }
        let mut out = lines.join("\n");
        if !out.is_empty() {
            out.push('\n');
        }
        replace(&path, out.as_bytes()).map_err(|error| Error::file(&path, &error))?;
        let done = !self.remove || known;
        let what = if self.remove { "removed" } else { "set" };
        let value = serde_json::json!({ "ok": done, "user": self.name, "done": what });
        format.print(&value, |_| {
            if done {
                format!("{}: {what}", self.name)
            } else {
                format!("{}: unknown", self.name)
            }
        });
        Ok(daemon::cli::Outcome::of(done))
    }
}

/// Replaces the file as a whole, closed to all others: a hash is all that it takes to guess a
/// password at leisure. Owner and group of the old file stay, for a server with a user of its own.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
    let old = std::fs::metadata(path).ok();
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    if let Some(old) = old {
        // Only root may give a file away; anybody else is its owner already, or cannot help it.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        let mode = (old.mode() & 0o640) | 0o600;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let line = hash_password("alice", "correct horse", &[7; 16]);
        std::fs::write(&path, format!("# users\n\n{line}\n")).unwrap();
        let users = Users::load(&path).unwrap();
        assert_eq!(users.check("alice", "correct horse").await, Some(true));
        assert_eq!(users.check("alice", "correct horse ").await, Some(false));
        assert_eq!(users.check("alice", "").await, Some(false));
        assert_eq!(users.check("bob", "correct horse").await, Some(false));
    }

    #[tokio::test]
    async fn a_user_who_is_taken_out_is_out_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let line = hash_password("alice", "correct horse", &[7; 16]);
        replace(&path, line.as_bytes()).unwrap();
        let users = Users::load(&path).unwrap();
        assert_eq!(users.check("alice", "correct horse").await, Some(true));
        replace(&path, b"# nobody\n").unwrap();
        assert_eq!(users.check("alice", "correct horse").await, Some(false));
        replace(&path, line.as_bytes()).unwrap();
        assert_eq!(users.check("alice", "correct horse").await, Some(true));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(users.check("alice", "correct horse").await, Some(false));
    }

    #[test]
    fn a_line_that_is_no_user_is_an_error_and_no_gap() {
        for line in [
            "alice",
            "alice:secret",
            ":$pbkdf2-sha256$1$YQ$YQ",
            "a:$pbkdf2-sha256$0$YQ$YQ",
        ] {
            assert!(User::parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn the_file_of_the_users_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        replace(&path, b"# users\n").unwrap();
        assert_eq!(mode(), 0o600);
        // One that was made by hand, for all to read, is closed; a group keeps its right.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"# users\nalice:x\n").unwrap();
        assert_eq!(mode(), 0o640);
        assert_eq!(std::fs::read(&path).unwrap(), b"# users\nalice:x\n");
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left over");
    }
}
