//! The kinds of implementation that can be tested, and what each brings along.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    case::{Case, Kit},
    profile::Profile,
    targets,
};

/// What `--target` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Files: vouchers, requests, chains, or a program that judges such files.
    Artifact,
    /// A manufacturer's service.
    Masa,
    /// A registrar over HTTPS.
    Registrar,
    /// A registrar over CoAP and DTLS.
    RegistrarCoaps,
    /// An EST server.
    EstServer,
    /// An EST server over CoAP and DTLS.
    EstCoapsServer,
    /// A join proxy.
    JoinProxy,
    /// A bootstrap server of RFC 8572.
    SztpServer,
    /// A device that speaks BRSKI over HTTPS.
    Pledge,
    /// A device that speaks BRSKI over CoAP and DTLS.
    PledgeCoaps,
    /// A device of RFC 8572.
    SztpDevice,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Artifact,
        Self::Masa,
        Self::Registrar,
        Self::RegistrarCoaps,
        Self::EstServer,
        Self::EstCoapsServer,
        Self::JoinProxy,
        Self::SztpServer,
        Self::Pledge,
        Self::PledgeCoaps,
        Self::SztpDevice,
    ];

    /// Its name on the command line and at the beginning of its cases' ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Masa => "masa",
            Self::Registrar => "registrar",
            Self::RegistrarCoaps => "registrar-coaps",
            Self::EstServer => "est-server",
            Self::EstCoapsServer => "est-coaps-server",
            Self::JoinProxy => "join-proxy",
            Self::SztpServer => "sztp-server",
            Self::Pledge => "pledge",
            Self::PledgeCoaps => "pledge-coaps",
            Self::SztpDevice => "sztp-device",
        }
    }

    /// The target with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }
}

/// Something that a profile can claim.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name in `profile.toml`.
    pub name: &'static str,
    /// What claiming it means.
    pub means: &'static str,
    /// `prepare` writes it into the profile as claimed.
    pub usual: bool,
}

/// What `prepare` is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder to write to, which is the run's state folder afterwards.
    pub folder: PathBuf,
    /// The host name or address under which the implementation reaches the suite.
    pub suite_host: String,
    /// The port that the suite will listen on, for roles in which it serves.
    pub suite_port: u16,
    /// Where the implementation will answer.
    pub endpoint: Option<String>,
}

/// What `prepare` wrote: the roles write files, the frame writes these two.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The page of instructions, in Markdown.
    pub instructions: String,
    /// The beginning of a profile.
    pub profile: Profile,
}

/// What a role gets to set itself up for a run.
pub struct Setup<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// The folder that paths of the profile are relative to, and that `prepare` wrote to.
    pub folder: &'a Path,
    /// The run's seed.
    pub seed: u64,
}

/// A kind of implementation under test.
pub trait Role: Send + Sync {
    /// Which one.
    fn target(&self) -> Target;
    /// What a profile can claim.
    fn features(&self) -> &'static [Feature];
    /// Every case.
    fn cases(&self) -> Vec<Case>;
    /// Writes what the implementation has to trust and says what to configure.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn prepare(&self, plan: &Plan) -> Result<Prepared>;
    /// Reads what `prepare` wrote and starts the suite's own servers. It is called within the
    /// runtime; what it starts ends when the kit is dropped.
    ///
    /// # Errors
    /// If the profile or the folder lacks something.
    fn start(&self, setup: &Setup<'_>) -> Result<Kit>;
}

/// The role for a target, if the suite has cases for it.
#[must_use]
pub fn role(target: Target) -> Option<&'static dyn Role> {
    targets::ROLES
        .iter()
        .copied()
        .find(|role| role.target() == target)
}

/// Every case of every role.
#[must_use]
pub fn all_cases() -> Vec<Case> {
    targets::ROLES
        .iter()
        .flat_map(|role| role.cases())
        .collect()
}
