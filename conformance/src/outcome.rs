//! What can come of a case.

use serde::{Deserialize, Serialize};

/// The verdict on one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// What the requirement asks for was seen.
    Pass,
    /// The profile does not claim what the case is about.
    NotApplicable,
    /// A person has to look; nothing was judged.
    Manual,
    /// A SHOULD is not kept. With `--strict` this is a failure.
    Warning,
    /// The suite could not bring it about. This is not a pass.
    CouldNotTest,
    /// The requirement is broken.
    Fail,
}

impl Outcome {
    /// All, best first.
    pub const ALL: [Self; 6] = [
        Self::Pass,
        Self::NotApplicable,
        Self::Manual,
        Self::Warning,
        Self::CouldNotTest,
        Self::Fail,
    ];

    /// Its name in reports and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotApplicable => "not-applicable",
            Self::Manual => "manual",
            Self::Warning => "warning",
            Self::CouldNotTest => "could-not-test",
            Self::Fail => "fail",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::NotApplicable => "not applicable",
            Self::Manual => "manual",
            Self::Warning => "warning",
            Self::CouldNotTest => "could not test",
            Self::Fail => "FAIL",
        }
    }
}

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What came of it.
    pub outcome: Outcome,
    /// Why, in a sentence for the implementation's engineer.
    pub why: String,
}

impl Finding {
    /// The requirement is broken.
    pub fn fail(why: impl Into<String>) -> Self {
        Self::new(Outcome::Fail, why)
    }

    /// Something that is allowed and unwise, whatever the level of the case.
    pub fn warning(why: impl Into<String>) -> Self {
        Self::new(Outcome::Warning, why)
    }

    /// The suite did not get as far as judging.
    pub fn could_not_test(why: impl Into<String>) -> Self {
        Self::new(Outcome::CouldNotTest, why)
    }

    /// A person has to look.
    pub fn manual(why: impl Into<String>) -> Self {
        Self::new(Outcome::Manual, why)
    }

    /// The implementation does not have what this is about.
    pub fn not_applicable(why: impl Into<String>) -> Self {
        Self::new(Outcome::NotApplicable, why)
    }

    fn new(outcome: Outcome, why: impl Into<String>) -> Self {
        Self {
            outcome,
            why: why.into(),
        }
    }
}

/// What a case returns: nothing to say is a pass.
pub type Told = Result<(), Finding>;

/// Fails with `why` unless it `holds`.
///
/// # Errors
/// When it does not hold.
pub fn must(holds: bool, why: impl Into<String>) -> Told {
    if holds {
        Ok(())
    } else {
        Err(Finding::fail(why))
    }
}

/// Turns whatever hindered the suite into "could not test".
pub trait OrCouldNotTest<T> {
    /// The value, or a finding that says what was in the way.
    ///
    /// # Errors
    /// When there is no value.
    fn or_could_not_test(self, doing: &str) -> Result<T, Finding>;
}

impl<T, E: std::fmt::Display> OrCouldNotTest<T> for Result<T, E> {
    fn or_could_not_test(self, doing: &str) -> Result<T, Finding> {
        self.map_err(|error| Finding::could_not_test(format!("{doing}: {error}")))
    }
}
