//! What all commands share: `--json`, exit codes, progress and the `doctor` list.

mod doctor;
mod progress;

use std::io::Write;
use std::process::ExitCode;

use pki::Coded;
use serde::Serialize;

pub use self::doctor::{Check, Doctor};
pub use self::progress::Progress;

/// How a command answers on stdout; flatten it into each command's arguments.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Format {
    /// Print one JSON document on stdout.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Format {
    /// Prints the answer: as JSON, or the text that `human` makes of it.
    pub fn print<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) {
        let text = if self.json {
            // Our own types have string keys and serialise; if one did not, say so in JSON too.
            serde_json::to_string_pretty(value)
                .unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
        } else {
            human(value)
        };
        print_line(&text);
    }

    /// Prints an error: on stdout as JSON with `--json`, else on stderr. Returns the outcome for
    /// a command that could not do its work.
    pub fn error(self, error: &(impl Coded + ?Sized)) -> Outcome {
        self.problem(error.code(), &chain_of(error))
    }

    /// As [`Self::error`], for a code and a sentence.
    pub fn problem(self, code: &str, detail: &str) -> Outcome {
        if self.json {
            let value = serde_json::json!({ "ok": false, "code": code, "detail": detail });
            print_line(&value.to_string());
        } else {
            // Nothing can be done if stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {detail} [{code}]");
        }
        Outcome::CouldNotRun
    }
}

/// An error and its causes in one line, each said once.
#[must_use]
pub fn chain_of(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn print_line(text: &str) {
    // A reader that went away (`| head`) is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n'));
}

/// What a command came to; the exit codes are a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0: yes, valid, done.
    Yes,
    /// Exit code 1: no, refused, invalid, failed.
    No,
    /// Exit code 2: misuse, or it could not run.
    CouldNotRun,
}

impl Outcome {
    /// [`Self::Yes`] or [`Self::No`].
    #[must_use]
    pub fn of(ok: bool) -> Self {
        if ok { Self::Yes } else { Self::No }
    }

    /// The number for the shell.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::CouldNotRun => 2,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Runs the body of a command and prints its error, if any.
pub fn finish<E: Coded>(format: Format, result: Result<Outcome, E>) -> Outcome {
    result.unwrap_or_else(|error| format.error(&error))
}
