//! What is wrong with a content folder, and where.

use std::fmt;

use serde::Serialize;

/// Whether a finding stops the folder from being applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The folder is not applied.
    Error,
    /// It is applied; somebody should look.
    Warning,
}

/// One thing that is wrong with a content folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Path of the file inside the folder.
    pub file: String,
    /// Line, counted from one, where one can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Whether it stops the folder.
    pub severity: Severity,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {} [{}]", self.message, self.code)
    }
}

/// More than so many findings say no more than the first ones did.
pub const FINDINGS_MAX: usize = 1_000;

/// The findings of one pass over a folder.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Notes something that stops the folder.
    pub fn error(
        &mut self,
        file: &str,
        line: Option<usize>,
        code: &'static str,
        message: impl Into<String>,
    ) {
        self.add(Finding {
            file: file.to_owned(),
            line,
            severity: Severity::Error,
            code,
            message: message.into(),
        });
    }

    /// Notes something that does not stop the folder.
    pub fn warning(
        &mut self,
        file: &str,
        line: Option<usize>,
        code: &'static str,
        message: impl Into<String>,
    ) {
        self.add(Finding {
            file: file.to_owned(),
            line,
            severity: Severity::Warning,
            code,
            message: message.into(),
        });
    }

    /// Notes a finding that was made elsewhere.
    pub fn add(&mut self, finding: Finding) {
        if self.0.len() < FINDINGS_MAX {
            self.0.push(finding);
        }
    }

    /// Whether nothing stops the folder.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.0.iter().all(|f| f.severity != Severity::Error)
    }

    /// All of them, by file and line, each once.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}
