//! What all commands share: `--json`, exit codes, progress and the `doctor` list.

mod doctor;
mod progress;
mod service;
pub mod text;

use std::io::Write;
use std::process::ExitCode;

use pki::Coded;
use serde::Serialize;

pub use self::doctor::{Check, Doctor};
pub use self::progress::Progress;
pub use self::service::{block_on, config_file, migrated};
pub use self::text::{table, when};

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

/// What a peer said, fit for a terminal: nothing in it moves the cursor, turns the direction of
/// the text around it or is invisible.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            let unseen = matches!(
                c,
                '\u{ad}'
                    | '\u{61c}'
                    | '\u{180e}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
                    | '\u{fff9}'..='\u{fffb}'
                    | '\u{e0000}'..='\u{e007f}'
            );
            if c.is_control() || unseen {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn nothing_from_a_peer_moves_turns_or_hides_text() {
        let cases = [
            ("SN-1 é 路由器", "SN-1 é 路由器"),
            ("a\u{1b}[31m\r\n", "a\u{fffd}[31m\u{fffd}\u{fffd}"),
            ("\u{202e}gnirts", "\u{fffd}gnirts"),
            ("AC-\u{200b}1001\u{feff}", "AC-\u{fffd}1001\u{fffd}"),
            ("a\u{2028}b\u{9b}c", "a\u{fffd}b\u{fffd}c"),
        ];
        for (given, shown) in cases {
            assert_eq!(plain(given), shown, "{given:?}");
        }
    }
}
