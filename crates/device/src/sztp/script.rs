//! Running a script.
//!
//! It gets a folder of its own as working directory and home, four variables and a search path for
//! an environment, nothing to read, a limit on the size of its files, and its time. It is a sandbox
//! against accidents, not against malice: the script runs as the device's own user and comes from
//! the device's owner.

use std::{
    fs,
    io::Write,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use sztp::agent::{Failure, ScriptOutcome, ScriptStage};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    task::JoinHandle,
};

use super::{
    SCRIPT_FILE_MAX_BYTES, SCRIPT_OUTPUT_MAX_BYTES,
    disk::{Disk, SANDBOX, create, failed, remove_folder},
};
use crate::Error;

/// The exit status by which a script says that it warns. 0 is success, anything else an error.
const WARNING_STATUS: i32 = 10;
/// Time that the pipes of a script that ended stay open, for children that it left behind.
const PIPE_TIME_MAX: Duration = Duration::from_secs(1);

/// How a script ended.
pub(super) struct Ended {
    pub(super) outcome: ScriptOutcome,
    pub(super) output: String,
}

/// Runs the script in a fresh folder of its own.
pub(super) async fn run(
    disk: &mut Disk,
    stage: ScriptStage,
    script: &[u8],
    serial_number: &str,
    time_max: Duration,
) -> Result<Result<Ended, Failure>, Error> {
    let name = match stage {
        ScriptStage::Pre => "pre",
        ScriptStage::Post => "post",
    };
    let folder = disk.path(SANDBOX).join(name);
    disk.tick()?;
    if folder.exists() {
        remove_folder(&folder)?;
    }
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let path = folder.join("script");
    let mut file = create(&path, 0o700)?;
    file.write_all(script).map_err(failed(&path))?;
    file.sync_all().map_err(failed(&path))?;
    drop(file);
    disk.tick()?;
    Ok(execute(&folder, script, name, serial_number, time_max).await)
}

async fn execute(
    folder: &Path,
    script: &[u8],
    stage: &str,
    serial_number: &str,
    time_max: Duration,
) -> Result<Ended, Failure> {
    // What names its interpreter is run by it, anything else by the shell.
    let start = if script.starts_with(b"#!") {
        "exec ./script"
    } else {
        "exec /bin/sh ./script"
    };
    let blocks = SCRIPT_FILE_MAX_BYTES / 512;
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("ulimit -c 0; ulimit -f {blocks}; {start}"))
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("SZTP_STAGE", stage)
        .env("SZTP_SERIAL_NUMBER", serial_number)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that it can be stopped with its children.
        .process_group(0)
        .kill_on_drop(true);
    let failed = |error: std::io::Error| Failure::new("device.script", error.to_string());
    let mut child = command.spawn().map_err(failed)?;
    // Children that are left go too: after a script that ended by itself, one whose time is over,
    // and when the whole run is stopped.
    let group = Group(child.id());
    let printed = Printed::default();
    let output = tokio::spawn(collect(child.stdout.take(), Arc::clone(&printed)));
    let errors = tokio::spawn(collect(child.stderr.take(), Arc::clone(&printed)));
    let ended = tokio::time::timeout(time_max, child.wait()).await;
    drop(group);
    let status = match ended {
        Ok(status) => Some(status.map_err(failed)?),
        Err(_) => {
            let _ = child.kill().await;
            None
        }
    };
    finished(output).await;
    finished(errors).await;
    let kept = printed.lock().unwrap_or_else(PoisonError::into_inner);
    let mut output = String::from_utf8_lossy(&kept).into_owned();
    drop(kept);
    let outcome = match status {
        Some(status) if status.success() => ScriptOutcome::Success,
        Some(status) if status.code() == Some(WARNING_STATUS) => ScriptOutcome::Warning,
        Some(status) => {
            output.push_str(&format!("\nthe script ended with {status}"));
            ScriptOutcome::Error
        }
        None => {
            output.push_str(&format!("\nthe script was stopped after {time_max:?}"));
            ScriptOutcome::Error
        }
    };
    Ok(Ended { outcome, output })
}

/// A process group that ends with its owner.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|group| i32::try_from(group).ok());
        if let Some(group) = group.and_then(Pid::from_raw) {
            // There is nobody left to stop in the usual case.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What is printed, as far as it goes.
type Printed = Arc<Mutex<Vec<u8>>>;

/// Waits for the end of a pipe, which a child that got away may keep open.
async fn finished(task: JoinHandle<()>) {
    let abort = task.abort_handle();
    if tokio::time::timeout(PIPE_TIME_MAX, task).await.is_err() {
        abort.abort();
    }
}

/// The beginning of what is printed; the rest is read and thrown away, so that the script does not
/// hang.
async fn collect<R: AsyncRead + Unpin>(pipe: Option<R>, printed: Printed) {
    let Some(mut pipe) = pipe else {
        return;
    };
    let mut buffer = [0; 8192];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        let mut kept = printed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SCRIPT_OUTPUT_MAX_BYTES.saturating_sub(kept.len());
        kept.extend(buffer.iter().take(count.min(room)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(script: &str, time_max: Duration) -> Ended {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(Some(folder.path()), None).unwrap();
        let stage = ScriptStage::Pre;
        let ended = run(&mut disk, stage, script.as_bytes(), "SN-1", time_max).await;
        ended.unwrap().unwrap()
    }

    /// Requirements: SZTP-8572-5.6-18, SZTP-8572-5.6-20
    #[tokio::test]
    async fn a_script_says_how_it_went() {
        let long = Duration::from_secs(20);
        for (script, expect, says) in [
            ("echo hello", ScriptOutcome::Success, "hello"),
            ("#!/bin/sh\necho hello >&2", ScriptOutcome::Success, "hello"),
            ("echo careful; exit 10", ScriptOutcome::Warning, "careful"),
            ("echo broken; exit 1", ScriptOutcome::Error, "broken"),
            ("if", ScriptOutcome::Error, ""),
            ("#!/no/such/interpreter\n", ScriptOutcome::Error, ""),
            (
                "echo $SZTP_STAGE $SZTP_SERIAL_NUMBER",
                ScriptOutcome::Success,
                "pre SN-1",
            ),
            ("basename \"$(pwd)\"", ScriptOutcome::Success, "pre"),
            ("kill -9 $$", ScriptOutcome::Error, "signal"),
            (
                "read line || echo nothing to read",
                ScriptOutcome::Success,
                "nothing",
            ),
        ] {
            let ended = outcome(script, long).await;
            assert_eq!(ended.outcome, expect, "{script}: {}", ended.output);
            assert!(ended.output.contains(says), "{script}: {}", ended.output);
        }
    }

    #[tokio::test]
    async fn a_script_gets_nothing_of_the_environment() {
        let ended = outcome("env", Duration::from_secs(20)).await;
        let names: Vec<&str> = ended
            .output
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            .collect();
        for name in names {
            let known = [
                "PATH",
                "HOME",
                "TMPDIR",
                "SZTP_STAGE",
                "SZTP_SERIAL_NUMBER",
                "PWD",
            ];
            assert!(known.contains(&name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_script_has_its_time_and_its_share_of_output() {
        let begun = std::time::Instant::now();
        let ended = outcome(
            "sleep 600 & echo started; sleep 600",
            Duration::from_millis(500),
        )
        .await;
        assert_eq!(ended.outcome, ScriptOutcome::Error);
        assert!(ended.output.contains("started"), "{}", ended.output);
        assert!(begun.elapsed() < Duration::from_secs(30));

        let ended = outcome(
            "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo 0123456789012345678901234567890123456789; done",
            Duration::from_secs(30),
        )
        .await;
        assert_eq!(ended.outcome, ScriptOutcome::Success);
        assert_eq!(ended.output.len(), SCRIPT_OUTPUT_MAX_BYTES);
    }
}
