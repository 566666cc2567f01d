//! Two hosts with a cable between them: network namespaces in which DHCP and DNS servers can have
//! their well-known ports and reach nobody else.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// What the guardian shell does. As with the database, the end of its standard input means that
/// the owner dropped it or died; then whatever still runs inside is ended and the hosts are gone.
const GUARDIAN: &str = r#"
set -e
undo() {
    for host in "$1" "$2"; do
        for pid in $(ip netns pids "$host" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del "$host" 2>/dev/null || true
    done
}
trap 'undo "$1" "$2"' EXIT
ip netns add "$1"
ip netns add "$2"
ip -n "$1" link add eth0 type veth peer name eth0 netns "$2"
for host in "$1" "$2"; do
    ip -n "$host" link set lo up
    ip -n "$host" link set eth0 up
done
ip -n "$1" addr add 192.0.2.1/24 dev eth0
ip -n "$1" addr add 2001:db8::1/64 dev eth0 nodad
echo ready
cat >/dev/null || true
"#;

/// Why there are no namespaces.
#[derive(Debug)]
pub struct NamespaceError(String);

impl std::fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NamespaceError {}

impl From<io::Error> for NamespaceError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Two hosts and the cable. The server has 192.0.2.1/24 and 2001:db8::1/64 on `eth0`; the client
/// has `eth0` without an address.
pub struct NetworkLink {
    guardian: Child,
    server: String,
    client: String,
    folder: TempDir,
}

/// A program that runs on one of the hosts; it ends with the value.
pub struct Daemon(Child);

impl NetworkLink {
    /// Makes the hosts. Without the right to do that it says on standard error which test is not
    /// run, and why, and gives nothing.
    ///
    /// # Panics
    ///
    /// As root, where the hosts cannot be made: then something is wrong with this machine, and a
    /// test that is passed over would hide it.
    #[must_use]
    pub fn for_test(name: &str) -> Option<Self> {
        if !is_root() {
            eprintln!("{name} is NOT RUN: network namespaces need root (try `sudo -E cargo test`)");
            return None;
        }
        match Self::new() {
            Ok(link) => Some(link),
            Err(error) => panic!("no network namespaces: {error}"),
        }
    }

    /// Makes the hosts.
    ///
    /// # Errors
    ///
    /// Where `ip` is missing or not allowed to.
    pub fn new() -> Result<Self, NamespaceError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let (server, client) = (format!("ushs{id}x{number}"), format!("ushc{id}x{number}"));
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "sh", &server, &client])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = guardian.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let mut reason = String::new();
            if let Some(mut errors) = guardian.stderr.take() {
                errors.read_to_string(&mut reason)?;
            }
            guardian.wait()?;
            return Err(NamespaceError(reason));
        }
        Ok(Self {
            guardian,
            server,
            client,
            folder: TempDir::new()?,
        })
    }

    /// A folder for configurations and leases; it is gone with the hosts.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command on the server's host.
    #[must_use]
    pub fn on_server(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.on(&self.server, program.as_ref())
    }

    /// A command on the client's host.
    #[must_use]
    pub fn on_client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.on(&self.client, program.as_ref())
    }

    fn on(&self, host: &str, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", host])
            .arg(program)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for NetworkLink {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        // Nothing is left to do if the guardian is gone already.
        let _ = self.guardian.wait();
    }
}

impl Daemon {
    /// Starts a command and keeps it running.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that ended by itself cannot be ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
