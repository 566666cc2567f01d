//! The rows of the demo: what was tried, whether it went as it should, how long it took.

use std::time::Duration;

use serde::Serialize;

/// One path or one refusal.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Names role, format and transport: `brski-cms-http3`.
    pub(crate) id: String,
    /// What happens, in a line.
    pub(crate) title: String,
    /// Whether it went as it should: enrolled, or refused for the right reason.
    pub(crate) ok: bool,
    /// Wall-clock time in milliseconds.
    pub(crate) ms: u64,
    /// What came of it: the steps, or the refusal with its code.
    pub(crate) detail: String,
}

/// All rows, as `usher demo --json` prints them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether every row is.
    pub(crate) ok: bool,
    /// The rows, in the order in which they ran.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        // A demo that ran nothing has shown nothing.
        let ok = !rows.is_empty() && rows.iter().all(|row| row.ok);
        Self { ok, rows }
    }

    /// The table for a person.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&Self::line(row, width));
            text.push('\n');
        }
        let green = self.rows.iter().filter(|row| row.ok).count();
        text.push_str(&format!(
            "{green} of {} rows as they should be",
            self.rows.len()
        ));
        text
    }

    fn line(row: &Row, width: usize) -> String {
        let mark = if row.ok { "ok  " } else { "FAIL" };
        format!(
            "{mark} {:width$} {:>6} ms  {}\n     {:width$}            {}",
            row.id, row.ms, row.title, "", row.detail
        )
    }
}

/// A duration as whole milliseconds, rounded up so that nothing takes no time.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
