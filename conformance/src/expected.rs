//! `expected-failures.toml`: known failures, each with a reason and a day on which it stops
//! counting. A case that is listed and passes fails the run, so the file cannot rot.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use time::{Date, OffsetDateTime, macros::format_description};

/// The file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(default)]
    expected: Vec<Entry>,
}

/// One known failure.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The case's id.
    pub case: String,
    /// Why it is known and not fixed.
    pub reason: String,
    /// The last day on which it counts, `YYYY-MM-DD`.
    pub expires: String,
}

impl Entry {
    fn last_day(&self) -> Result<Date> {
        Date::parse(&self.expires, format_description!("[year]-[month]-[day]"))
            .with_context(|| format!("{}: expires = {:?} is no date", self.case, self.expires))
    }
}

impl Expected {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// If it is malformed, or an entry lacks a reason.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// If it is malformed, or an entry lacks a reason.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Self = toml::from_str(text)?;
        for entry in &file.expected {
            entry.last_day()?;
            if entry.reason.trim().len() < 10 {
                bail!("{}: a reason has to be given", entry.case);
            }
        }
        Ok(file)
    }

    /// The entry for a case, unless it has expired.
    #[must_use]
    pub fn get(&self, case: &str, now: OffsetDateTime) -> Option<&Entry> {
        self.expected
            .iter()
            .find(|entry| entry.case == case)
            .filter(|entry| entry.last_day().is_ok_and(|day| now.date() <= day))
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn an_entry_needs_a_reason_and_expires() {
        let text = "[[expected]]\ncase = \"masa/a/b\"\nreason = \"vendor fixes it in 2.1\"\nexpires = \"2026-12-01\"\n";
        let file = Expected::parse(text).unwrap();
        assert!(
            file.get("masa/a/b", datetime!(2026-12-01 23:00 UTC))
                .is_some()
        );
        assert!(
            file.get("masa/a/b", datetime!(2026-12-02 00:00 UTC))
                .is_none()
        );
        assert!(
            file.get("masa/a/c", datetime!(2026-12-01 00:00 UTC))
                .is_none()
        );
        assert!(Expected::parse(&text.replace("vendor fixes it in 2.1", "")).is_err());
        assert!(Expected::parse(&text.replace("2026-12-01", "soon")).is_err());
    }
}
