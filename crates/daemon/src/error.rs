//! What can go wrong around a server rather than in it.

use std::path::PathBuf;

use pki::{Blame, Coded};

/// Errors of configuration and of the surroundings of a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The admin listener could not start.
    #[error(transparent)]
    Listen(#[from] net::Error),
    /// The configuration does not parse or says something impossible.
    #[error("configuration {file}: {reason}")]
    Config {
        /// The file, or where else the value came from.
        file: String,
        /// What is wrong, with the name of the key.
        reason: String,
    },
    /// The configuration file is not there.
    #[error("there is no configuration file {}", .0.display())]
    ConfigMissing(PathBuf),
    /// No configuration was named, and there is none where one is looked for.
    #[error(
        "there is no {0}.toml here or in /etc/usher; name one with --config, or make one with \
         `usher {0} init`"
    )]
    NoConfig(&'static str),
    /// A certificate or key named in the configuration cannot be used.
    #[error("{}: {reason}", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file or variable with a passphrase or PIN cannot be read.
    #[error("secret from {from}: {reason}")]
    Secret {
        /// The file or the variable; never the secret.
        from: String,
        /// Why.
        reason: String,
    },
    /// A file or folder cannot be read or written, or is there already.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key or certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// Logging was set up before, or the filter does not parse.
    #[error("logging: {0}")]
    Logging(String),
    /// Signals cannot be received.
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "config.invalid",
            Self::ConfigMissing(_) | Self::NoConfig(_) => "config.missing",
            Self::File { .. } => "config.file",
            Self::Identity { .. } => "config.identity",
            Self::Listen(error) => error.code(),
            Self::Logging(_) => "config.logging",
            Self::Pki(error) => error.code(),
            Self::Secret { .. } => "config.secret",
            Self::Signals(_) => "config.signals",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Listen(error) => error.blame(),
            Self::Pki(error) => error.blame(),
            Self::Config { .. }
            | Self::ConfigMissing(_)
            | Self::NoConfig(_)
            | Self::File { .. }
            | Self::Identity { .. }
            | Self::Logging(_)
            | Self::Secret { .. } => Blame::Caller,
            Self::Signals(_) => Blame::Ours,
        }
    }
}
