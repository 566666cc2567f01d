//! Why a lower layer said no, kept as a value that can be stored, compared and shown.

use pki::Coded;
use serde::{Deserialize, Serialize};

/// The code and text of a lower layer's error.
///
/// Refusals are recorded in timelines and compared in tests, so they carry the lower layer's
/// stable code and its words instead of the error itself, which is neither `Clone` nor `Eq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The lower layer's stable dotted code.
    pub code: String,
    /// Its explanation in words.
    pub text: String,
}

impl Cause {
    /// A cause that this crate found itself.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }

    /// The cause that a coded error stands for.
    pub fn of<E: Coded>(error: &E) -> Self {
        Self {
            code: error.code().to_owned(),
            text: error.to_string(),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}
