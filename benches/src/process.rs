//! Child processes, and what the kernel says of them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Time that a server gets to become ready.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Clock ticks of `/proc/<pid>/stat` in a second; Linux has had this value everywhere since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server of ours, started as an operator starts it. Stopped when dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `usher <arguments>` with these variables and its log in a file.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(
        usher: &Path,
        arguments: &[&str],
        variables: &[(&str, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = std::fs::File::create(log)?;
        let child = Command::new(usher)
            .args(arguments)
            .envs(
                variables
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            )
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", usher.display()))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Waits until the admin listener at this address says that all is well.
    ///
    /// # Errors
    /// If the server ends, or is not ready in time; with its log.
    pub async fn ready(&mut self, admin: std::net::SocketAddr) -> anyhow::Result<()> {
        let url = format!("http://{admin}/ready").parse()?;
        let until = Instant::now() + READY_TIME_MAX;
        loop {
            let config = net::client::ClientConfig::default();
            let answer = net::client::fetch(
                &url,
                http::Method::GET,
                http::HeaderMap::new(),
                bytes::Bytes::new(),
                &config,
            );
            if answer.await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended ({status}): {}", self.log_text());
            }
            if Instant::now() > until {
                bail!("the server is not ready: {}", self.log_text());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// CPU time so far, user and kernel.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.child.id())
    }

    /// Memory in use (resident), in bytes.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn memory(&self) -> anyhow::Result<u64> {
        status_of(self.child.id(), "VmRSS:")
    }

    /// Most memory that was ever in use (resident), in bytes.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn memory_peak(&self) -> anyhow::Result<u64> {
        memory_peak_of(self.child.id())
    }
}

/// Most memory of this process that was ever in use (resident), in bytes.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn memory_peak_of(pid: u32) -> anyhow::Result<u64> {
    status_of(pid, "VmHWM:")
}

fn status_of(pid: u32, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .with_context(|| format!("no {name}"))?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("no figure")?
        .parse()?;
    Ok(kib * 1024)
}

impl Drop for Server {
    fn drop(&mut self) {
        // A graceful stop: the database is closed and its files can be removed.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `usher <arguments>` to its end.
///
/// # Errors
/// If it does not exit with 0; with what it printed.
pub fn run(usher: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(usher).args(arguments).output()?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "usher {}: {} {out} {error}",
            arguments.join(" "),
            output.status
        );
    }
    Ok(out)
}

fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets can hold anything; the figures come after the last bracket.
    let (_, figures) = text.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = figures.split_whitespace().collect();
    let ticks = |index: usize| -> anyhow::Result<f64> {
        Ok(fields.get(index).context("too short")?.parse::<f64>()?)
    };
    // utime and stime are fields 14 and 15 of the whole line, counted from 1.
    Ok(Duration::from_secs_f64(
        (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
    ))
}

/// CPU time of all processes whose command line has this text in it and of all that descend from
/// them, the processes that ended while we looked left out.
#[must_use]
pub fn cpu_of_all(text: &str) -> Duration {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Duration::ZERO;
    };
    let mut counted = Vec::new();
    let mut others = Vec::new();
    for entry in entries.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(text) && pid != std::process::id() {
            counted.push(pid);
        } else if let Some(parent) = parent_of(pid) {
            others.push((pid, parent));
        }
    }
    // The workers of PostgreSQL change their command line; they are known by their ancestors.
    loop {
        let (found, rest): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|(_, parent)| counted.contains(parent));
        others = rest;
        if found.is_empty() {
            break;
        }
        counted.extend(found.into_iter().map(|(pid, _)| pid));
    }
    counted.into_iter().filter_map(|pid| cpu_of(pid).ok()).sum()
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, figures) = text.rsplit_once(')')?;
    figures.split_whitespace().nth(1)?.parse().ok()
}
