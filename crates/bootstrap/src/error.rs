//! What can go wrong in the bootstrap server beside a refusal, which is an answer and not an error.

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
    /// An artefact could not be built, signed or read.
    #[error(transparent)]
    Artifact(#[from] artifacts::Error),
    /// A listener, or a call to another server.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The registrar's EST answered what cannot be used.
    #[error(transparent)]
    Est(#[from] est::Error),
    /// A device-type profile.
    #[error(transparent)]
    Profile(#[from] crate::profile::ProfileError),
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
        /// Device, voucher, revision, bundle.
        what: &'static str,
        /// What was looked for.
        name: String,
    },
    /// Several devices have this serial number; the vendor has to be named.
    #[error("{count} devices have the serial number {serial:?}: name the vendor too")]
    Ambiguous {
        /// The serial number.
        serial: String,
        /// How many.
        count: usize,
    },
    /// It is there already and differs.
    #[error("{what} {name:?} exists already{detail}")]
    Exists {
        /// Device, voucher, file.
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
    /// A rollout is not in a state for what was asked.
    #[error("{0}")]
    Rollout(String),
    /// Content that devices could not use was not taken.
    #[error("{0}")]
    Content(String),
    /// A manufacturer's MASA gave no voucher that could be used.
    #[error("no voucher from the MASA of {vendor}: {detail}")]
    Masa {
        /// Its stable code.
        code: &'static str,
        /// The manufacturer.
        vendor: String,
        /// Why.
        detail: String,
    },
    /// The certification authority behind the registrar gave no certificate.
    #[error("no certificate from {server}: {detail}")]
    Authority {
        /// The EST server.
        server: String,
        /// What it said.
        detail: String,
    },
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
            Self::Est(error) => error.code(),
            Self::Profile(error) => error.code(),
            Self::File { .. } => "bootstrap.file",
            Self::Malformed { .. } => "bootstrap.file-malformed",
            Self::NotFound { .. } => "bootstrap.not-found",
            Self::Ambiguous { .. } => "bootstrap.serial-ambiguous",
            Self::Exists { .. } => "bootstrap.exists",
            Self::Usage(_) => "bootstrap.usage",
            Self::ImportRefused { .. } => "bootstrap.import-refused",
            Self::Rollout(_) => "content.rollout-state",
            Self::Content(_) => "bootstrap.content-invalid",
            Self::Masa { code, .. } => code,
            Self::Authority { .. } => "bootstrap.authority",
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
            Self::Est(error) => error.blame(),
            Self::Profile(error) => error.blame(),
            Self::File { .. } | Self::Masa { .. } | Self::Authority { .. } => Blame::Ours,
            Self::Malformed { .. }
            | Self::NotFound { .. }
            | Self::Ambiguous { .. }
            | Self::Exists { .. }
            | Self::Usage(_)
            | Self::ImportRefused { .. }
            | Self::Rollout(_)
            | Self::Content(_) => Blame::Caller,
        }
    }
}
