//! Bringing the device to life for a case.

use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    process::{Child, Command},
    sync::{Mutex, OwnedMutexGuard},
};

use crate::{
    evidence::Recorder,
    outcome::{Finding, OrCouldNotTest as _},
    profile::Profile,
};

/// The setting that `--power-cycle` sets.
pub const POWER_CYCLE: &str = "power_cycle";

/// How long a device may be quiet before a case takes it that nothing more comes.
const QUIET_SECONDS: u64 = 15;

#[derive(Clone, Debug)]
enum Start {
    /// A program for each case; `{placeholders}` in its arguments are filled in.
    Command(Vec<String>),
    /// A shell command that sets the one device back and switches it off and on.
    PowerCycle(String),
    /// A person.
    Person,
}

/// Starts the device under test.
#[derive(Clone, Debug)]
pub struct Launcher {
    start: Start,
    folder: PathBuf,
    listen: SocketAddr,
    host: String,
    quiet: Duration,
    turn: Arc<Mutex<()>>,
}

/// A place for a case: an address, a folder, and the right to the only device where there is one.
pub struct Ready {
    /// Where the case's first server listens.
    pub listen: SocketAddr,
    /// Where further servers listen.
    pub beside: SocketAddr,
    /// The case's folder, which goes away with it.
    pub folder: PathBuf,
    /// Whether the suite makes the device's identity.
    pub own_identity: bool,
    is_command: bool,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // What remains is only untidy.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A device that was started.
pub struct Presence {
    child: Option<Child>,
    output: Option<PathBuf>,
    record: Recorder,
    quiet: Duration,
}

impl Launcher {
    /// By what the profile says: `settings.command`, `settings.power_cycle`, or a person.
    ///
    /// # Errors
    /// If the profile's addresses cannot be read.
    pub fn new(profile: &Profile, folder: &Path) -> Result<Self> {
        let command = profile.list("command");
        let start = match (command.is_empty(), profile.text(POWER_CYCLE)) {
            (false, _) => Start::Command(command),
            (true, Some(command)) => Start::PowerCycle(command.to_owned()),
            (true, None) => Start::Person,
        };
        let quiet = profile
            .settings
            .get("quiet_seconds")
            .and_then(toml::Value::as_integer)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(QUIET_SECONDS);
        Ok(Self {
            start,
            folder: folder.join("runs"),
            listen: profile
                .suite
                .listen
                .parse()
                .with_context(|| format!("suite.listen {}", profile.suite.listen))?,
            host: profile.text("host").unwrap_or("localhost").to_owned(),
            quiet: Duration::from_secs(quiet),
            turn: Arc::default(),
        })
    }

    /// The name or address under which the device reaches the suite.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether every case has a device of its own, started by a command.
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self.start, Start::Command(_))
    }

    /// Makes a place for a case. Where there is one device, cases wait for one another here.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub async fn ready(&self) -> Result<Ready, Finding> {
        let is_command = self.is_command();
        let turn = if is_command {
            None
        } else {
            Some(Arc::clone(&self.turn).lock_owned().await)
        };
        let folder = self.folder.join(format!("{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).or_could_not_test("a folder for the case")?;
        // The command of a profile need not run where the suite does.
        let folder = folder
            .canonicalize()
            .or_could_not_test("a folder for the case")?;
        let beside = SocketAddr::new(self.listen.ip(), 0);
        Ok(Ready {
            listen: if is_command { beside } else { self.listen },
            beside,
            folder,
            own_identity: is_command,
            is_command,
            _turn: turn,
        })
    }

    /// Starts the device. `fill` are the values of placeholders: `{url}` and so on.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub async fn start(
        &self,
        record: &Recorder,
        ready: &Ready,
        fill: &[(&str, String)],
    ) -> Result<Presence, Finding> {
        let mut child = None;
        let mut output = None;
        match &self.start {
            Start::Command(words) => {
                let words: Vec<String> =
                    words.iter().filter_map(|word| filled(word, fill)).collect();
                let (program, arguments) = words
                    .split_first()
                    .ok_or_else(|| Finding::could_not_test("settings.command is empty"))?;
                record.note(format!("starting {}", words.join(" ")));
                let path = ready
                    .folder
                    .join(format!("output-{:x}", rand::random::<u32>()));
                let file = std::fs::File::create(&path).or_could_not_test("a file")?;
                let again = file.try_clone().or_could_not_test("a file")?;
                child = Some(
                    Command::new(program)
                        .args(arguments)
                        .stdin(Stdio::null())
                        .stdout(file)
                        .stderr(again)
                        .kill_on_drop(true)
                        .spawn()
                        .or_could_not_test(program)?,
                );
                output = Some(path);
            }
            Start::PowerCycle(command) => {
                let mut command = command.clone();
                for (name, value) in fill {
                    command = command.replace(&format!("{{{name}}}"), value);
                }
                record.note(format!("setting the device back: {command}"));
                let status = Command::new("/bin/sh")
                    .args(["-c", &command])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .status()
                    .await
                    .or_could_not_test(&command)?;
                if !status.success() {
                    return Err(Finding::could_not_test(format!("{command}: {status}")));
                }
            }
            Start::Person => ask(record, fill).await?,
        }
        Ok(Presence {
            child,
            output,
            record: record.clone(),
            quiet: if ready.is_command {
                self.quiet
            } else {
                self.quiet * 2
            },
        })
    }
}

async fn ask(record: &Recorder, fill: &[(&str, String)]) -> Result<(), Finding> {
    if !std::io::stdin().is_terminal() {
        return Err(Finding::could_not_test(
            "somebody has to switch the device on: give settings.command, --power-cycle CMD, or a \
             terminal",
        ));
    }
    record.note("asking for the device to be set back and switched off and on");
    let url = fill
        .iter()
        .find(|(name, _)| *name == "url")
        .map(|(_, url)| url.clone())
        .unwrap_or_default();
    let asked = tokio::task::spawn_blocking(move || {
        let mut err = std::io::stderr();
        writeln!(
            err,
            "\nSet the device back to factory state and switch it off and on; it has to find {url}.\n\
             Press Enter when it starts."
        )?;
        std::io::stdin().read_line(&mut String::new())
    })
    .await
    .or_could_not_test("the terminal")?;
    asked.or_could_not_test("the terminal").map(|_| ())
}

/// Fills in placeholders. An argument with a placeholder that is empty in this case is left out:
/// `--server={url}`.
fn filled(word: &str, fill: &[(&str, String)]) -> Option<String> {
    let mut word = word.to_owned();
    for (name, value) in fill {
        let place = format!("{{{name}}}");
        if value.is_empty() && word.contains(&place) {
            return None;
        }
        word = word.replace(&place, value);
    }
    Some(word)
}

impl Presence {
    /// The device was told to wait, so that it is quiet does not mean anything.
    pub fn be_patient(&mut self) {
        const PATIENT: Duration = Duration::from_secs(75);
        self.quiet = self.quiet.max(PATIENT);
    }

    /// Waits until the device has ended, until `enough`, until it is quiet, or until time is up.
    /// `latest` says when it was heard last. Returns the exit code, if it ended by itself.
    pub async fn wait(
        &mut self,
        time_max: Duration,
        enough: impl Fn() -> bool,
        latest: impl Fn() -> Option<Instant>,
    ) -> Option<i32> {
        const STEP: Duration = Duration::from_millis(25);
        /// What is on its way when the device ends still arrives.
        const GRACE: Duration = Duration::from_millis(150);
        let begun = Instant::now();
        loop {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                tokio::time::sleep(GRACE).await;
                self.record.note(format!("the device ended: {status}"));
                self.remark();
                return Some(status.code().unwrap_or(-1));
            }
            if enough() {
                tokio::time::sleep(GRACE).await;
                return None;
            }
            let heard = latest();
            let quiet = heard.unwrap_or(begun).elapsed();
            // A device that needs a while to start is not quiet yet.
            let patience = if heard.is_some() {
                self.quiet
            } else {
                self.quiet * 2
            };
            if begun.elapsed() > time_max || quiet > patience {
                self.record.note(if heard.is_some() {
                    "the device is quiet"
                } else {
                    "the device did not come"
                });
                self.remark();
                return None;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// The end of what the device printed, for the record.
    fn remark(&self) {
        const SHOWN_MAX: usize = 3000;
        let Some(path) = &self.output else { return };
        let Ok(text) = std::fs::read_to_string(path) else {
            return;
        };
        let skip = text.chars().count().saturating_sub(SHOWN_MAX);
        let end: String = text.chars().skip(skip).collect();
        if !end.trim().is_empty() {
            self.record.note(format!("what it printed: {end}"));
        }
    }
}
