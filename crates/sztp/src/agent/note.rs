//! What the machine decides, for the trace.

use artifacts::{
    Oddity,
    verify::{Check, CheckResult},
};
use serde::Serialize;

use super::{Failure, ScriptOutcome, ScriptStage};

/// Something that the machine found, judged or decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Note {
    /// A round over all sources begins.
    Round {
        /// Counted from 1.
        round: u32,
    },
    /// A source holds something.
    Source {
        /// The source.
        source: String,
        /// Where in it.
        finding: String,
        /// `servers` or `data`.
        kind: &'static str,
    },
    /// A source holds nothing more.
    SourceEmpty {
        /// The source.
        source: String,
    },
    /// A source could not be read.
    SourceFailed {
        /// The source.
        source: String,
        /// Why.
        #[serde(flatten)]
        failure: Failure,
    },
    /// A bootstrap server is tried.
    Server {
        /// Host and port.
        server: String,
        /// Redirects that led here.
        redirects: u32,
        /// What it has to prove.
        authenticate: &'static str,
    },
    /// A bootstrap server is not tried, or is left.
    ServerLeft {
        /// Host and port.
        server: String,
        /// Why.
        #[serde(flatten)]
        failure: Failure,
    },
    /// Whether a bootstrap server is trusted.
    Trust(TrustNote),
    /// Where the RESTCONF root is.
    Root {
        /// The path.
        root: String,
        /// Whether host-meta says so, or it is the default.
        discovered: bool,
    },
    /// The server departed from the standard in a way that is tolerated.
    Oddity {
        /// What.
        code: String,
        /// In words.
        detail: String,
    },
    /// A check of bootstrapping data.
    Check(CheckNote),
    /// Bootstrapping data was judged as a whole.
    Verdict {
        /// `redirect-information`, `onboarding-information` or nothing of use.
        kind: Option<&'static str>,
        /// Whether the owner signed it.
        signed: bool,
        /// RFC 8572's trust-state after the checks.
        trust_state: bool,
        /// Why it is of no use.
        refusal: Option<Failure>,
    },
    /// The server asks for a certification request.
    CsrRequested {
        /// Whether a new key is wanted.
        new_key: bool,
        /// Whether it says what is to stand in it.
        info: bool,
    },
    /// A progress report was sent.
    Report {
        /// Its type.
        progress_type: &'static str,
        /// Its message.
        message: Option<String>,
        /// The status of the answer; `None` if there was none.
        status: Option<u16>,
        /// Whether it was taken: 204.
        accepted: bool,
    },
    /// The running boot image was compared with the wanted one.
    BootImage {
        /// Whether it is what is wanted.
        satisfied: bool,
        /// In words.
        detail: String,
    },
    /// A boot image was fetched, or not.
    ImageFetched {
        /// From where.
        uri: String,
        /// Why not.
        refusal: Option<Failure>,
    },
    /// A script ended.
    Script {
        /// Which.
        stage: ScriptStage,
        /// How.
        outcome: ScriptOutcome,
        /// What it printed.
        output: String,
    },
    /// The configuration is committed.
    Committed {
        /// Merge or replace.
        handling: &'static str,
        /// Warnings.
        warning: Option<String>,
    },
    /// Onboarding came to an end without success.
    OnboardingFailed(Failure),
    /// The device runs its new configuration.
    Bootstrapped,
}

impl Note {
    pub(super) fn oddity(oddity: &Oddity) -> Self {
        Self::Oddity {
            code: oddity.name.to_owned(),
            detail: super::excerpt(oddity.detail.as_bytes(), super::EXCERPT_CHARS_MAX),
        }
    }
}

/// Whether a bootstrap server is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustNote {
    /// Host and port.
    pub server: String,
    /// RFC 8572's trust-state for the connection.
    pub trusted: bool,
    /// By which anchors: `redirect`, `pre-configured` or none.
    pub anchors: Option<&'static str>,
    /// Why it is not trusted.
    pub refusal: Option<Failure>,
}

/// A check of bootstrapping data and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckNote {
    /// The check.
    pub name: &'static str,
    /// `passed`, `failed`, `not-made`.
    pub verdict: &'static str,
    /// The code of the failure.
    pub code: Option<&'static str>,
    /// In words.
    pub detail: Option<String>,
}

impl CheckNote {
    pub(super) fn of(check: &Check) -> Self {
        let (verdict, code, detail) = match &check.result {
            CheckResult::Passed => ("passed", None, None),
            CheckResult::Failed { code, detail } => ("failed", Some(*code), Some(detail.clone())),
            CheckResult::NotMade { why } => ("not-made", None, Some((*why).to_owned())),
        };
        Self {
            name: check.name,
            verdict,
            code,
            detail,
        }
    }
}
