//! What can go wrong in the proxy beside a datagram that is dropped, which is only counted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pki::{Blame, Coded};

/// Why a command or the proxy could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Configuration, logs, signals or the admin listener.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// A listener for questions of pledges.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No registrar is configured and none may be looked for.
    #[error(
        "no registrar is configured and discovery is off: name one in [registrar], or set discover"
    )]
    NoRegistrar,
    /// An address cannot be used.
    #[error("{address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The place of a registrar cannot be read.
    #[error("{text:?} is no place of a registrar: {reason}")]
    Place {
        /// What was given.
        text: String,
        /// Why.
        reason: &'static str,
    },
    /// The system's source of randomness failed.
    #[error("no random numbers can be had")]
    Random,
}

impl Error {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Daemon(error) => error.code(),
            Self::Net(error) => error.code(),
            Self::Usage(_) => "proxy.usage",
            Self::NoRegistrar => "proxy.no-registrar",
            Self::Bind { .. } => "proxy.bind",
            Self::File { .. } => "proxy.file",
            Self::Place { .. } => "proxy.place",
            Self::Random => "proxy.random",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Daemon(error) => error.blame(),
            Self::Net(error) => error.blame(),
            Self::Usage(_) | Self::NoRegistrar | Self::File { .. } | Self::Place { .. } => {
                Blame::Caller
            }
            Self::Bind { .. } | Self::Random => Blame::Ours,
        }
    }
}
