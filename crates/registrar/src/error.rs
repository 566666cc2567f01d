//! What can go wrong in the service, with a stable code and an owner for each cause.
//!
//! What the protocol refuses is a [`brski::registrar::Refusal`] and keeps its own code, status and
//! words; this module adds what only a running service can meet.

use std::path::Path;

use brski::registrar::Refusal;
use http::StatusCode;
use pki::{Blame, Coded};

/// The errors of the registrar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The body is larger than the limit.
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body did not arrive: the sender stopped, or was too slow.
    #[error("the body did not arrive: {detail}")]
    BodyUnreadable {
        /// What happened.
        detail: String,
    },
    /// The server has more work than it may take on.
    #[error("the registrar has more requests than it may work on at once")]
    Busy,
    /// The CA behind the registrar failed, or cannot be used.
    #[error("{0}")]
    Ca(#[from] crate::ca::CaError),
    /// The configuration cannot be used.
    #[error("configuration: {detail}")]
    Config {
        /// What is wrong.
        detail: String,
    },
    /// The audit log of this registrar failed.
    #[error("audit log: {0}")]
    Audit(#[from] store::audit::Error),
    /// Configuration, keys, logs or signals, as all servers have them.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// More than one device bears this serial number.
    #[error("{count} devices bear the serial number {serial}; name the vendor as well")]
    DeviceAmbiguous {
        /// What was asked for.
        serial: String,
        /// How many.
        count: usize,
    },
    /// No such device in the database.
    #[error("no device {serial} is known")]
    DeviceUnknown {
        /// What was asked for.
        serial: String,
    },
    /// EST says no.
    #[error(transparent)]
    Est(#[from] ::est::server::Refusal),
    /// A file cannot be read or written.
    #[error("{path}: {detail}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        detail: String,
    },
    /// A row of an import that does not fit.
    #[error("import refused: {detail}")]
    Import {
        /// How many rows, and the first reason.
        detail: String,
    },
    /// The TLS certificate of the MASA does not lead to the vendor's anchors or bears another name.
    #[error("the TLS certificate of the MASA at {url} is not trusted: {detail}")]
    MasaUntrusted {
        /// Where.
        url: String,
        /// In words.
        detail: String,
    },
    /// A listener or client failed.
    #[error("network: {0}")]
    Net(#[from] net::Error),
    /// No voucher for this device was loaded beforehand, and no MASA may be called.
    #[error("no voucher for {serial} was loaded beforehand")]
    OfflineVoucherMissing {
        /// The serial number.
        serial: String,
    },
    /// A request waited longer for a human than the policy allows.
    #[error("nobody decided about this device within {hours} h")]
    PendingExpired {
        /// The limit.
        hours: u32,
    },
    /// Keys or certificates of our own cannot be used.
    #[error("{0}")]
    Pki(#[from] pki::Error),
    /// The protocol or the policy says no.
    #[error("{0}")]
    Refused(Refusal),
    /// The database failed.
    #[error("database: {0}")]
    Store(#[from] store::Error),
    /// No vendor profile vouches for the device that is to be approved.
    #[error(
        "no vendor profile vouches for {serial}; import its manufacturer's anchors with \
         `usher registrar trust import` first"
    )]
    Untrusted {
        /// The serial number that it claims.
        serial: String,
    },
    /// A voucher that somebody wants to load does not fit.
    #[error("voucher not loaded: {detail} ({cause})")]
    VoucherNotLoaded {
        /// The code of the check that failed.
        cause: String,
        /// In words.
        detail: String,
    },
    /// The webhook refuses this device.
    #[error("the webhook refuses this device: {detail}")]
    WebhookDenied {
        /// Its reason.
        detail: String,
    },
    /// The webhook did not decide, and the policy refuses then.
    #[error("the webhook did not decide: {detail}")]
    WebhookFailed {
        /// Why.
        detail: String,
    },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Error {
    /// A file that cannot be read or written.
    #[must_use]
    pub fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            detail: error.to_string(),
        }
    }

    /// What the device gets. Total, so that a new cause cannot become a 500 by accident.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            // What only our own fault can cause stays retriable: a device that gets a 503 comes
            // back, and an operator has time to mend it.
            Self::Refused(Refusal::Internal(_))
            | Self::Audit(_)
            | Self::Busy
            | Self::Config { .. }
            | Self::Daemon(_)
            | Self::File { .. }
            | Self::Import { .. }
            | Self::Net(_)
            | Self::OfflineVoucherMissing { .. }
            | Self::Pki(_)
            | Self::Store(_)
            | Self::Untrusted { .. }
            | Self::VoucherNotLoaded { .. }
            | Self::WebhookFailed { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(refusal) => {
                StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::FORBIDDEN)
            }
            Self::Ca(error) => {
                StatusCode::from_u16(error.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Est(refusal) => {
                StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN)
            }
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyUnreadable { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::DeviceAmbiguous { .. } | Self::DeviceUnknown { .. } => StatusCode::NOT_FOUND,
            Self::MasaUntrusted { .. } => StatusCode::BAD_GATEWAY,
            Self::PendingExpired { .. } | Self::WebhookDenied { .. } => StatusCode::FORBIDDEN,
        }
    }

    /// Whether the same request may be sent again later, so that a Retry-After makes sense.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.status().as_u16(), 502..=504 | 408)
            && !matches!(self, Self::MasaUntrusted { .. })
    }

    /// Whether the device was refused, as opposed to something that failed around it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status().is_client_error() && self.blame() != Blame::Ours
    }

    /// The plain text for the device: the code, and the words where they betray nothing of the
    /// domain's inside to a stranger.
    #[must_use]
    pub fn device_text(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.body(),
            Self::BodyTooLarge { .. } | Self::BodyUnreadable { .. } | Self::Busy | Self::Est(_) => {
                format!("{}: {self}\n", self.code())
            }
            _ => format!("{}\n", self.code()),
        }
    }

    /// What an operator can do about it.
    #[must_use]
    pub const fn next_action(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refused_next_action(refusal),
            Self::BodyTooLarge { .. } | Self::BodyUnreadable { .. } => {
                "report the code to the manufacturer of the device"
            }
            Self::Audit(_) | Self::Busy | Self::Store(_) | Self::Net(_) => {
                "none: the device tries again by itself"
            }
            Self::Config { .. } | Self::Daemon(_) | Self::File { .. } | Self::Pki(_) => {
                "run `usher registrar doctor`"
            }
            Self::DeviceUnknown { .. } | Self::DeviceAmbiguous { .. } => {
                "look it up with `usher registrar device list`"
            }
            Self::Ca(error) => error.next_action(),
            Self::Est(_) => "report the code to the manufacturer of the device",
            Self::Import { .. } => "mend the file; `--dry-run` names every row",
            Self::MasaUntrusted { .. } => {
                "import the MASA's new anchor with `usher registrar trust import --use masa-tls`, if it changed rightly"
            }
            Self::OfflineVoucherMissing { .. } => {
                "load a voucher with `usher registrar voucher import`"
            }
            Self::PendingExpired { .. } => {
                "approve with `usher registrar device approve`, then restart the device"
            }
            Self::Untrusted { .. } => "`usher registrar trust import`",
            Self::VoucherNotLoaded { .. } => "ask the manufacturer for another voucher",
            Self::WebhookDenied { .. } | Self::WebhookFailed { .. } => "look at the webhook's log",
        }
    }
}

const fn refused_next_action(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::ManufacturerUnknown(_) => {
            "if the device is yours, import its manufacturer's anchors with `usher registrar trust import`"
        }
        Refusal::IdevidInvalid(_) => {
            "if only its lifetime is over: `accept_expired_idevid` in the vendor profile"
        }
        Refusal::SerialMissing => "set `serial` in the vendor profile",
        Refusal::VendorDenied(_) | Refusal::DeviceDenied(_) => {
            "approve with `usher registrar device approve`, or write a rule under [policy]"
        }
        Refusal::CloneSuspected => {
            "find both devices; `usher registrar device approve --rebind` accepts the new key"
        }
        Refusal::MasaUrlMissing | Refusal::MasaUrlInvalid(_) => "set [masa] in the vendor profile",
        Refusal::MasaUnreachable(_) => {
            "check the way to the MASA, or load a voucher with `usher registrar voucher import`"
        }
        Refusal::MasaRefused { .. } => "ask the manufacturer whether the device is sold to you",
        Refusal::MasaUnauthorised => "agree with the manufacturer on the registrar's credentials",
        Refusal::AuditViolation(_) => {
            "read the device's history; `usher registrar device approve --ignore-history` accepts it"
        }
        Refusal::AuditUnavailable(_) => "check that the MASA gives out its audit log",
        Refusal::NoClientCertificate => "the device has to present its IDevID",
        Refusal::ProximityMismatch => "find who stands between the device and the registrar",
        Refusal::RequestReplayed => "restart the device: it has to make a new nonce",
        Refusal::NotBootstrapped | Refusal::ExchangeUnknown => {
            "the device has to obtain a voucher here first"
        }
        Refusal::Internal(_) => "run `usher registrar doctor`",
        _ => "report the code to the manufacturer of the device",
    }
}

impl Coded for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::Audit(error) => error.code(),
            Self::BodyTooLarge { .. } => "registrar.body-too-large",
            Self::BodyUnreadable { .. } => "registrar.body-unreadable",
            Self::Busy => "registrar.busy",
            Self::Config { .. } => "config.registrar",
            Self::Daemon(error) => error.code(),
            Self::DeviceAmbiguous { .. } => "registrar.device-ambiguous",
            Self::DeviceUnknown { .. } => "registrar.device-unknown",
            Self::Ca(error) => error.code(),
            Self::Est(refusal) => refusal.code(),
            Self::File { .. } => "config.file",
            Self::Import { .. } => "registrar.import",
            Self::MasaUntrusted { .. } => "registrar.masa-untrusted",
            Self::Net(error) => error.code(),
            Self::OfflineVoucherMissing { .. } => "registrar.offline-voucher-missing",
            Self::PendingExpired { .. } => "registrar.pending-expired",
            Self::Pki(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::Store(error) => error.code(),
            Self::Untrusted { .. } => "registrar.device-untrusted",
            Self::VoucherNotLoaded { .. } => "registrar.voucher-not-loaded",
            Self::WebhookDenied { .. } => "registrar.webhook-denied",
            Self::WebhookFailed { .. } => "registrar.webhook-failed",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Ca(error) => error.blame(),
            Self::Est(refusal) => refusal.blame(),
            Self::Daemon(error) => error.blame(),
            Self::Net(error) => error.blame(),
            Self::Pki(error) => error.blame(),
            Self::Refused(refusal) => refusal.blame(),
            Self::Store(error) => error.blame(),
            Self::BodyTooLarge { .. }
            | Self::BodyUnreadable { .. }
            | Self::MasaUntrusted { .. }
            | Self::VoucherNotLoaded { .. } => Blame::PeerMisbehaved,
            Self::WebhookDenied { .. } => Blame::PeerIncompatible,
            Self::Audit(_)
            | Self::Busy
            | Self::OfflineVoucherMissing { .. }
            | Self::PendingExpired { .. }
            | Self::WebhookFailed { .. } => Blame::Ours,
            Self::Config { .. }
            | Self::DeviceAmbiguous { .. }
            | Self::DeviceUnknown { .. }
            | Self::File { .. }
            | Self::Import { .. }
            | Self::Untrusted { .. } => Blame::Caller,
        }
    }
}
