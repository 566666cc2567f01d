//! Progress on stderr, for a person at a terminal only.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Format;

/// A progress bar; draws nothing with `--json` or when stderr is no terminal.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar towards `total`, named by what is counted (`devices`).
    #[must_use]
    pub fn new(format: Format, total: u64, what: &'static str) -> Self {
        let visible = !format.json && std::io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{bar:30} {pos}/{len} {msg} {per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    /// That many more are done.
    pub fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// How many are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.0.position()
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
