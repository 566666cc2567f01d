//! What can go wrong around the pledge rather than in its exchange with the registrar.

use std::path::PathBuf;

use pki::{Blame, Coded};

/// Errors of the device's surroundings. Why an exchange failed is a
/// [`brski::pledge::Failure`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arguments do not go together. The caller's fault.
    #[error("{0}")]
    Config(String),
    /// A file of the device's state cannot be read or written. Our side's fault.
    #[error("{}: {source}", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the device's state is not what this program wrote. Our side's fault.
    #[error("{}: {reason}", .path.display())]
    StateMalformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another process works with this state. The caller's fault.
    #[error("{}: another process works with this state", .0.display())]
    StateInUse(PathBuf),
    /// The state belongs to a device with another IDevID. The caller's fault.
    #[error("{}: this is the state of another device", .0.display())]
    StateOfAnother(PathBuf),
    /// The device is not enrolled, so there is nothing to renew. The caller's fault.
    #[error("the device is not enrolled")]
    NotEnrolled,
    /// The server of a renewal is not the domain's. The peer's fault.
    #[error("the registrar is not the domain's: {0}")]
    Untrusted(String),
    /// A request over CoAP has no answer, or none that decides. The peer's fault.
    #[error("no answer to {what}: {reason}")]
    NoAnswer {
        /// The request.
        what: String,
        /// Why.
        reason: String,
    },
    /// The power was cut, in rehearsal. The caller's wish.
    #[error("the power was cut")]
    PowerCut,
    /// Random numbers could not be had. Our side's fault.
    #[error("no random numbers")]
    Random,
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The certification request could not be made, or an answer to a renewal cannot be used.
    #[error(transparent)]
    Est(#[from] est::Error),
    /// The connection for a renewal failed.
    #[error(transparent)]
    Net(#[from] net::Error),
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "pledge.config",
            Self::State { .. } => "pledge.state",
            Self::StateMalformed { .. } => "pledge.state-malformed",
            Self::StateInUse(_) => "pledge.state-in-use",
            Self::StateOfAnother(_) => "pledge.state-of-another",
            Self::NotEnrolled => "pledge.not-enrolled",
            Self::Untrusted(_) => "pledge.registrar-chain",
            Self::NoAnswer { .. } => "pledge.no-answer",
            Self::PowerCut => "device.power-cut",
            Self::Random => "pledge.random",
            Self::Pki(error) => error.code(),
            Self::Est(error) => error.code(),
            Self::Net(error) => error.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Config(_)
            | Self::StateInUse(_)
            | Self::StateOfAnother(_)
            | Self::NotEnrolled
            | Self::PowerCut => Blame::Caller,
            Self::State { .. } | Self::StateMalformed { .. } | Self::Random => Blame::Ours,
            Self::NoAnswer { .. } => Blame::PeerIncompatible,
            Self::Untrusted(_) => Blame::PeerMisbehaved,
            Self::Pki(error) => error.blame(),
            Self::Est(error) => error.blame(),
            Self::Net(error) => error.blame(),
        }
    }
}
