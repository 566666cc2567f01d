//! `usher <role> doctor`: a list of checks, each with what to do about it.

use serde::Serialize;

use crate::{Format, Outcome};

/// One line of a doctor's report.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it, if it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// The report as it grows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Doctor {
    checks: Vec<Check>,
}

impl Doctor {
    /// No checks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Something is well.
    pub fn pass(&mut self, name: impl Into<String>, detail: impl Into<String>) {
        self.checks.push(Check {
            name: name.into(),
            ok: true,
            detail: detail.into(),
            fix: None,
        });
    }

    /// Something is not well.
    pub fn fail(
        &mut self,
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let fix = Some(fix.into());
        self.checks.push(Check {
            name: name.into(),
            ok: false,
            detail: detail.into(),
            fix,
        });
    }

    /// Takes a result: its value's text, or its error and the remedy.
    pub fn result<T: std::fmt::Display, E: std::fmt::Display>(
        &mut self,
        name: impl Into<String>,
        result: Result<T, E>,
        fix: impl Into<String>,
    ) {
        match result {
            Ok(value) => self.pass(name, value.to_string()),
            Err(error) => self.fail(name, error.to_string(), fix),
        }
    }

    /// The checks so far.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether all is well.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// Prints the report; [`Outcome::No`] if something is not well.
    pub fn print(&self, format: Format) -> Outcome {
        #[derive(Serialize)]
        struct Report<'a> {
            ok: bool,
            checks: &'a [Check],
        }
        let report = Report {
            ok: self.ok(),
            checks: &self.checks,
        };
        format.print(&report, |_| self.to_text());
        Outcome::of(self.ok())
    }

    fn to_text(&self) -> String {
        let width = self
            .checks
            .iter()
            .map(|check| check.name.chars().count())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for check in &self.checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            text.push_str(&format!(
                "{mark}  {:width$}  {}\n",
                check.name, check.detail
            ));
            if let Some(fix) = &check.fix {
                text.push_str(&format!("      {:width$}  -> {fix}\n", ""));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_to_do() {
        let mut doctor = Doctor::new();
        doctor.pass("database", "schema 3");
        doctor.result::<&str, _>("key", Err("passphrase wrong"), "set MASA_PIN");
        assert!(!doctor.ok());
        assert_eq!(
            doctor.to_text(),
            "ok    database  schema 3\nFAIL  key       passphrase wrong\n                -> set MASA_PIN\n"
        );
    }
}
