//! The states of a device: few, visible, and their names do not change.

use serde::{Deserialize, Serialize};

/// Where a device is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the register, and has not asked yet.
    Registered,
    /// Has asked, and there was nothing for it.
    Waiting,
    /// Was sent to another bootstrap server.
    Redirected,
    /// Was given bootstrapping data, and has reported nothing yet.
    Started,
    /// Reports progress.
    InProgress,
    /// Reported bootstrap-complete.
    Complete,
    /// Reported an error.
    Failed,
    /// Began and was not heard of for too long.
    Stuck,
    /// No longer ours: it gets nothing.
    Released,
    /// Another device took its place: it gets nothing.
    Replaced,
}

impl State {
    /// All of them, in the order of a device's way.
    pub const ALL: [Self; 10] = [
        Self::Registered,
        Self::Waiting,
        Self::Redirected,
        Self::Started,
        Self::InProgress,
        Self::Complete,
        Self::Failed,
        Self::Stuck,
        Self::Released,
        Self::Replaced,
    ];

    /// The word in the database, in lists and in events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Waiting => "waiting",
            Self::Redirected => "redirected",
            Self::Started => "started",
            Self::InProgress => "in-progress",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stuck => "stuck",
            Self::Released => "released",
            Self::Replaced => "replaced",
        }
    }

    /// The state that the database has.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether such a device is still served.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        !matches!(self, Self::Released | Self::Replaced)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
