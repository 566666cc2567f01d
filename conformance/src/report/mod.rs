//! What a run came to, in every form that somebody wants.

mod badge;
mod evidence;
mod html;
mod junit;
mod matrix;
mod style;
mod terminal;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    catalogue::{Catalogue, Level},
    evidence::Item,
    outcome::Outcome,
};

pub use self::{badge::badge, html::html, junit::junit, matrix::matrix, terminal::summary};

/// The JSON Schema of a report.
pub const REPORT_SCHEMA: &str = include_str!("../../schema/report.schema.json");
/// The JSON Schema of `requirements --json`.
pub const REQUIREMENTS_SCHEMA: &str = include_str!("../../schema/requirements.schema.json");
/// The JSON Schema of `vectors/index.json`.
pub const VECTORS_SCHEMA: &str = include_str!("../../schema/vectors.schema.json");

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name and number of the schema.
    pub schema: String,
    /// The suite that ran.
    pub suite: SuiteReport,
    /// The target.
    pub target: String,
    /// The profile as it was used.
    pub profile: serde_json::Value,
    /// The seed.
    pub seed: u64,
    /// A broken SHOULD was a failure.
    pub strict: bool,
    /// How to run it again.
    pub command: String,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// How often each outcome came.
    pub counts: Counts,
    /// Nothing failed that was not expected to, nothing could not be tested, nothing passed that
    /// was expected to fail.
    pub ok: bool,
    /// The cases, in the order of the list.
    pub cases: Vec<CaseReport>,
}

/// The suite that ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SuiteReport {
    /// `usher-conformance`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl SuiteReport {
    pub(crate) fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// How often each outcome came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// All of them.
    pub cases: usize,
    /// Passed.
    pub pass: usize,
    /// A SHOULD is not kept.
    pub warning: usize,
    /// A requirement is broken, and nobody expected it.
    pub fail: usize,
    /// A requirement is broken or could not be tested, as expected-failures.toml says.
    pub expected_failure: usize,
    /// It passed, and expected-failures.toml says that it does not.
    pub unexpected_pass: usize,
    /// A person has to look.
    pub manual: usize,
    /// Not claimed.
    pub not_applicable: usize,
    /// The suite could not bring it about.
    pub could_not_test: usize,
}

impl Counts {
    /// Counts.
    #[must_use]
    pub fn of(cases: &[CaseReport]) -> Self {
        let mut counts = Self {
            cases: cases.len(),
            ..Self::default()
        };
        for case in cases {
            let place = if case.expected.is_some() {
                &mut counts.expected_failure
            } else if case.unexpected_pass {
                &mut counts.unexpected_pass
            } else {
                match case.outcome {
                    Outcome::Pass => &mut counts.pass,
                    Outcome::Warning => &mut counts.warning,
                    Outcome::Fail => &mut counts.fail,
                    Outcome::Manual => &mut counts.manual,
                    Outcome::NotApplicable => &mut counts.not_applicable,
                    Outcome::CouldNotTest => &mut counts.could_not_test,
                }
            };
            *place += 1;
        }
        counts
    }
}

/// One case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseReport {
    /// Its id.
    pub id: String,
    /// What it does.
    pub title: String,
    /// How a failure counts.
    pub level: Level,
    /// Words to select it by.
    pub tags: Vec<String>,
    /// What it covers.
    pub requirements: Vec<RequirementReport>,
    /// The verdict.
    pub outcome: Outcome,
    /// Why it is not a pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Why it was expected not to pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// It was expected not to pass, and did.
    #[serde(default)]
    pub unexpected_pass: bool,
    /// How long it took.
    pub ms: u64,
    /// The command that repeats only this case.
    pub repeat: String,
    /// What was sent and what came back.
    #[serde(default)]
    pub evidence: Vec<Item>,
}

impl CaseReport {
    /// It is no reason to fail the run.
    #[must_use]
    pub fn is_good(&self) -> bool {
        if self.unexpected_pass {
            return false;
        }
        self.expected.is_some()
            || matches!(
                self.outcome,
                Outcome::Pass | Outcome::Warning | Outcome::NotApplicable
            )
    }
}

/// A requirement as a report shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequirementReport {
    /// Its id.
    pub id: String,
    /// The document.
    pub spec: String,
    /// The section.
    pub section: String,
    /// The level.
    pub level: String,
    /// The sentence.
    pub requirement: String,
}

impl RequirementReport {
    pub(crate) fn bare(id: String) -> Self {
        Self {
            id,
            spec: String::new(),
            section: String::new(),
            level: String::new(),
            requirement: String::new(),
        }
    }

    pub(crate) fn fill(&mut self, catalogue: &Catalogue) {
        if let Some(row) = catalogue.get(&self.id) {
            self.spec.clone_from(&row.spec);
            self.section.clone_from(&row.section);
            self.level.clone_from(&row.level);
            self.requirement.clone_from(&row.requirement);
        }
    }
}

impl Report {
    /// Name and number of the schema.
    pub const SCHEMA: &'static str = "usher-conformance-report-1";

    /// Reads one from a file.
    ///
    /// # Errors
    /// If it is not a report.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let report: Self =
            serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        anyhow::ensure!(
            report.schema == Self::SCHEMA,
            "{}: schema {} instead of {}",
            path.display(),
            report.schema,
            Self::SCHEMA
        );
        Ok(report)
    }

    /// The exit code: 0 good, 1 something failed, 3 nothing failed and something could not be
    /// tested.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.counts.fail > 0 || self.counts.unexpected_pass > 0 {
            1
        } else if self.ok {
            0
        } else {
            3
        }
    }

    /// Product and version.
    #[must_use]
    pub fn implementation(&self) -> (String, String) {
        let text = |pointer: &str| {
            self.profile
                .pointer(pointer)
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        (
            text("/implementation/name"),
            text("/implementation/version"),
        )
    }

    /// How many cases about a MUST passed, of how many that apply.
    #[must_use]
    pub fn must(&self) -> (usize, usize) {
        let cases = self
            .cases
            .iter()
            .filter(|case| case.level == Level::Must && case.outcome != Outcome::NotApplicable);
        let (mut good, mut all) = (0, 0);
        for case in cases {
            all += 1;
            if matches!(case.outcome, Outcome::Pass | Outcome::Warning) {
                good += 1;
            }
        }
        (good, all)
    }

    /// Writes every form into a folder and returns the files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut written = Vec::new();
        let mut write = |name: &str, bytes: &[u8]| -> Result<()> {
            let path = folder.join(name);
            std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
            written.push(path);
            Ok(())
        };
        write("report.json", &serde_json::to_vec_pretty(self)?)?;
        write("report.html", html(self).as_bytes())?;
        write("junit.xml", junit(self).as_bytes())?;
        write("badge.svg", badge(self).as_bytes())?;
        write("evidence.zip", &evidence::archive(self)?)?;
        Ok(written)
    }
}

/// Text within HTML, SVG or XML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            // XML 1.0 has no way to write these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
