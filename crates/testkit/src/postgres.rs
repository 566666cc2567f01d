//! A PostgreSQL server of one's own: Debian's binaries, a fresh cluster in a temporary folder, a Unix socket
//! and no TCP port. It ends with the value, and also when the test process dies without dropping it.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The superuser of each temporary cluster.
const USER: &str = "usher";

/// What the guardian shell does. Its standard input is a pipe from the test process: end of file means that
/// the owner dropped it or died, and either way the server is stopped and the folder removed. That matters
/// because tests often keep a server in a `static`, and statics are never dropped.
const GUARDIAN: &str = r#"
set -e
umask 077
cd "$1"
"$2/initdb" -D data -U usher -A trust -E UTF8 --locale=C --no-sync >initdb.log 2>&1 || { cat initdb.log >&2; exit 1; }
mkdir socket
"$2/pg_ctl" -D data -w -t 60 -l server.log -o "-k '$1/socket' -p 5432 -c listen_addresses= -c max_connections=300 -c $3" start >start.log 2>&1 </dev/null || { cat start.log server.log >&2; exit 1; }
echo ready
cat >/dev/null || true
"$2/pg_ctl" -D data -w -m immediate stop >/dev/null 2>&1 || true
cd /
rm -rf "$1"/data "$1"/socket "$1"/*.log
"#;

/// Why no PostgreSQL could be started.
#[derive(Debug)]
pub struct PostgresError(String);

impl std::fmt::Display for PostgresError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PostgresError {}

impl From<io::Error> for PostgresError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A running server. Dropping it stops the server and removes its files.
pub struct TempPostgres {
    guardian: Child,
    bin: PathBuf,
    account: Option<(u32, u32)>,
    directory: TempDir,
    next_database: AtomicU32,
}

impl TempPostgres {
    /// Starts a server that does not wait for the disk, which is what nearly every test wants.
    ///
    /// # Errors
    /// When Debian's `postgresql` package is absent or the server does not start.
    pub fn start() -> Result<Self, PostgresError> {
        Self::start_with("fsync=off")
    }

    /// Starts a server that is durable as in production, for measurements.
    ///
    /// # Errors
    /// When Debian's `postgresql` package is absent or the server does not start.
    pub fn start_durable() -> Result<Self, PostgresError> {
        Self::start_with("fsync=on")
    }

    fn start_with(setting: &str) -> Result<Self, PostgresError> {
        let bin = binaries()?;
        let account = unprivileged_account()?;
        let directory = tempfile::Builder::new().prefix("usher-pg-").tempdir()?;
        if let Some((uid, gid)) = account {
            chown(directory.path(), Some(uid), Some(gid))?;
        }
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", GUARDIAN, "guardian"])
            .arg(directory.path())
            .arg(&bin)
            .arg(setting)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal must not reach the server before the guardian has stopped it.
            .process_group(0);
        become_account(&mut command, account);
        let mut guardian = command.spawn()?;

        let mut line = String::new();
        if let Some(stdout) = guardian.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let mut complaint = String::new();
            if let Some(mut stderr) = guardian.stderr.take() {
                stderr.read_to_string(&mut complaint)?;
            }
            guardian.wait()?;
            return Err(PostgresError(format!(
                "PostgreSQL did not start: {complaint}"
            )));
        }
        Ok(Self {
            guardian,
            bin,
            account,
            directory,
            next_database: AtomicU32::new(1),
        })
    }

    /// The `sqlx` URL of the database that exists from the start.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes an empty database and gives its `sqlx` URL, so that tests can share one server.
    ///
    /// # Errors
    /// When `createdb` fails.
    pub fn fresh_database(&self) -> Result<String, PostgresError> {
        let name = format!(
            "fresh{}",
            self.next_database.fetch_add(1, Ordering::Relaxed)
        );
        let mut command = Command::new(self.bin.join("createdb"));
        command
            .arg("-h")
            .arg(self.socket_directory())
            .args(["-p", "5432", "-U", USER, &name]);
        become_account(&mut command, self.account);
        let output = command.output()?;
        if !output.status.success() {
            return Err(PostgresError(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        Ok(self.url_of(&name))
    }

    /// The folder that holds the server's socket (`PGHOST` for `psql`).
    #[must_use]
    pub fn socket_directory(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn url_of(&self, database: &str) -> String {
        format!(
            "postgres://{USER}@localhost:5432/{database}?host={}",
            self.socket_directory().display()
        )
    }
}

impl Drop for TempPostgres {
    fn drop(&mut self) {
        // Closing the pipe is the order to stop; waiting keeps the folder until the server is out of it.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

/// Debian keeps each version's programs in a folder of its own, off the `PATH`. The newest wins.
fn binaries() -> Result<PathBuf, PostgresError> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .map_err(|error| {
            PostgresError(format!("/usr/lib/postgresql: {error}; install postgresql"))
        })?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, bin)| bin);
    newest.ok_or_else(|| PostgresError("no initdb under /usr/lib/postgresql".into()))
}

/// `initdb` refuses to run as root, so root borrows the account `postgres` or `nobody`.
fn unprivileged_account() -> Result<Option<(u32, u32)>, PostgresError> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for line in accounts.lines() {
            let mut fields = line.split(':');
            if fields.next() != Some(wanted) {
                continue;
            }
            let ids = (fields.nth(1).map(str::parse), fields.next().map(str::parse));
            if let (Some(Ok(uid)), Some(Ok(gid))) = ids {
                return Ok(Some((uid, gid)));
            }
        }
    }
    Err(PostgresError(
        "running as root, and neither postgres nor nobody is an account".into(),
    ))
}

fn become_account(command: &mut Command, account: Option<(u32, u32)>) {
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    command.current_dir(Path::new("/"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &TempPostgres, url: &str) -> String {
        let database = url.split('?').next().unwrap().rsplit('/').next().unwrap();
        let output = Command::new(server.bin.join("psql"))
            .arg("-h")
            .arg(server.socket_directory())
            .args([
                "-p",
                "5432",
                "-U",
                USER,
                "-d",
                database,
                "-Atc",
                "select current_database()",
            ])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn server_answers_on_its_socket_and_leaves_nothing_behind() {
        let server = TempPostgres::start().unwrap();
        let folder = server.directory.path().to_owned();
        assert_eq!(ask(&server, &server.url()), "postgres");
        let fresh = server.fresh_database().unwrap();
        assert_eq!(ask(&server, &fresh), "fresh1");
        assert!(server.fresh_database().unwrap() != fresh);
        drop(server);
        assert!(!folder.exists());
    }
}
