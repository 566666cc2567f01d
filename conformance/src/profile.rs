//! `profile.toml`: what the implementation is, what it claims, where it answers.
//!
//! It is declared before anything runs. What is claimed and fails is a failure; what is not claimed
//! is not applicable; nothing becomes "not applicable" because it failed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::role::{Role, Target};

/// The profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What kind of implementation it is.
    pub target: Target,
    /// Which implementation it is.
    pub implementation: Implementation,
    /// The features that it claims.
    #[serde(default)]
    pub claims: Vec<String>,
    /// Where it answers.
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Where the suite listens, for roles in which it serves.
    #[serde(default)]
    pub suite: Suite,
    /// How long things may take.
    #[serde(default)]
    pub timing: Timing,
    /// What the role needs beyond: files and values by name. `prepare` writes every one of them
    /// with a comment.
    #[serde(default)]
    pub settings: BTreeMap<String, toml::Value>,
}

/// Name and version for the report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Implementation {
    /// Product.
    pub name: String,
    /// Version. It has to be said: a report without one is about nothing.
    pub version: String,
}

/// Where the implementation answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `https://host:port`, `coaps://[address]:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address to connect to, where the name of the URL does not resolve here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Where the suite listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Suite {
    /// Address and port to bind.
    pub listen: String,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
        }
    }
}

/// How long things may take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// One answer.
    pub answer_seconds: u64,
    /// One case.
    pub case_seconds: u64,
    /// Cases that run at the same time.
    pub parallel: usize,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer_seconds: 15,
            case_seconds: 90,
            parallel: 4,
        }
    }
}

impl Timing {
    /// How long one answer may take.
    #[must_use]
    pub fn answer(&self) -> Duration {
        Duration::from_secs(self.answer_seconds)
    }

    /// How long one case may take.
    #[must_use]
    pub fn case(&self) -> Duration {
        Duration::from_secs(self.case_seconds)
    }
}

impl Profile {
    /// An empty profile of a target, for `prepare` to fill.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            implementation: Implementation {
                name: "name of the product".into(),
                version: "version".into(),
            },
            claims: Vec::new(),
            endpoint: Endpoint::default(),
            suite: Suite::default(),
            timing: Timing::default(),
            settings: BTreeMap::new(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it cannot be read or says something unknown.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Checks it against what a role knows: a claim that is misspelt would silently test less.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, role: &dyn Role) -> Result<()> {
        if self.target != role.target() {
            bail!(
                "the profile is of target {}, not {}",
                self.target.name(),
                role.target().name()
            );
        }
        let known = role.features();
        for claim in &self.claims {
            if !known.iter().any(|feature| feature.name == claim) {
                let names: Vec<_> = known.iter().map(|feature| feature.name).collect();
                bail!(
                    "claim {claim} is not known; there are: {}",
                    names.join(", ")
                );
            }
        }
        if self.implementation.version.trim().is_empty() {
            bail!("implementation.version has to be said");
        }
        Ok(())
    }

    /// Whether a feature is claimed.
    #[must_use]
    pub fn claims(&self, feature: &str) -> bool {
        self.claims.iter().any(|claim| claim == feature)
    }

    /// A setting that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.settings
            .get(name)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// A setting that is text and has to be there.
    ///
    /// # Errors
    /// If it is not there.
    pub fn needed(&self, name: &str) -> Result<&str> {
        self.text(name)
            .with_context(|| format!("the profile lacks settings.{name}"))
    }

    /// A setting that names a file, relative to the profile's folder.
    #[must_use]
    pub fn file(&self, folder: &Path, name: &str) -> Option<PathBuf> {
        self.text(name).map(|file| folder.join(file))
    }

    /// A setting that is a list of texts, or one text.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        match self.settings.get(name) {
            Some(toml::Value::String(one)) if !one.is_empty() => vec![one.clone()],
            Some(toml::Value::Array(many)) => many
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    }
}
