//! What can go wrong in the MASA beside a refusal, which is an answer and not an error.

use std::path::{Path, PathBuf};

use pki::{Blame, Coded};

/// Why a command or the server could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] store::audit::Error),
    /// Configuration, listeners and other surroundings.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// A certificate or key.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A voucher could not be built or signed.
    #[error(transparent)]
    Artifact(#[from] artifacts::Error),
    /// A listener.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The request was refused.
    #[error(transparent)]
    Refused(#[from] brski::masa::Refusal),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be understood.
    #[error("{}: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing of that name is in the register.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// Device, owner, voucher.
        what: &'static str,
        /// What was looked for.
        name: String,
    },
    /// Several devices have this serial number; the issuer has to be named.
    #[error("{count} devices have the serial number {serial:?}: name the issuer too")]
    Ambiguous {
        /// The serial number.
        serial: String,
        /// How many.
        count: usize,
    },
    /// It is there already and differs.
    #[error("{what} {name:?} exists already{detail}")]
    Exists {
        /// Device, owner, file.
        what: &'static str,
        /// Its name.
        name: String,
        /// What differs.
        detail: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Rows of an import were refused, so nothing was imported.
    #[error("{refused} of {rows} rows were refused; nothing was imported")]
    ImportRefused {
        /// Rows that were refused.
        refused: usize,
        /// Rows in the file.
        rows: usize,
    },
    /// The decision changed each time it was about to be written.
    #[error("the decision changed {0} times while it was being written")]
    Unsettled(u32),
}

impl Error {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Audit(error) => error.code(),
            Self::Daemon(error) => error.code(),
            Self::Pki(error) => error.code(),
            Self::Artifact(error) => error.code(),
            Self::Net(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::File { .. } => "masa.file",
            Self::Malformed { .. } => "masa.file-malformed",
            Self::NotFound { .. } => "masa.not-found",
            Self::Ambiguous { .. } => "masa.serial-ambiguous",
            Self::Exists { .. } => "masa.exists",
            Self::Usage(_) => "masa.usage",
            Self::ImportRefused { .. } => "masa.import-refused",
            Self::Unsettled(_) => "masa.unsettled",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Store(error) => error.blame(),
            Self::Audit(error) => error.blame(),
            Self::Daemon(error) => error.blame(),
            Self::Pki(error) => error.blame(),
            Self::Artifact(error) => error.blame(),
            Self::Net(error) => error.blame(),
            Self::Refused(refusal) => refusal.blame(),
            Self::File { .. } | Self::Unsettled(_) => Blame::Ours,
            Self::Malformed { .. }
            | Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::Exists { .. }
            | Self::Usage(_)
            | Self::ImportRefused { .. } => Blame::Caller,
        }
    }
}
