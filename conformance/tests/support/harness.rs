//! Processes for a test: each in a folder of its own, on ports of its own, gone with the test.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

/// The suite.
pub(crate) const SUITE: &str = env!("CARGO_BIN_EXE_usher-conformance");

/// The variable that names the active defect.
pub(crate) const DEFECT: &str = "USHER_DEFECT";

/// A program of this workspace that is built beside the suite, by `cargo xtask test` or
/// `cargo xtask conformance`.
pub(crate) fn program(name: &str) -> PathBuf {
    let program = Path::new(SUITE).with_file_name(name);
    assert!(
        program.exists(),
        "{} is missing: run `cargo xtask test` or `cargo xtask conformance defects`",
        program.display()
    );
    program
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Runs a program to its end.
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str], folder: &Path) -> Output {
    Command::new(program.as_ref())
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a program that has to end well, and returns what it printed.
pub(crate) fn good(program: impl AsRef<Path>, arguments: &[&str], folder: &Path) -> String {
    let output = run(program, arguments, folder);
    assert!(
        output.status.success(),
        "{arguments:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A server that is killed when it goes out of scope.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts `PROGRAM ROLE serve` and waits until it says where it listens.
    pub(crate) fn start(program: &Path, role: &str, config: &Path, defect: &str) -> Self {
        const START_TIME_MAX: Duration = Duration::from_secs(60);
        let mut child = Command::new(program)
            .args([role, "serve", "--config"])
            .arg(config)
            .env(DEFECT, defect)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let address = serde_json::from_str::<serde_json::Value>(&line)
                    .ok()
                    .and_then(|line| line["device_address"].as_str().map(str::to_owned));
                if let Some(address) = address {
                    // Nobody listens after the first.
                    let _ = sender.send(address);
                }
            }
        });
        let address = receiver.recv_timeout(START_TIME_MAX).unwrap();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets a line `NAME = …` of a TOML file.
pub(crate) fn set(path: &Path, name: &str, value: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    let beginning = format!("{name} = ");
    assert!(
        text.lines().any(|line| line.starts_with(&beginning)),
        "{name}"
    );
    let changed: String = text
        .lines()
        .map(|line| {
            if line.starts_with(&beginning) {
                format!("{beginning}{value}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    std::fs::write(path, changed).unwrap();
}
