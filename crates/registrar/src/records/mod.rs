//! What the database holds about devices, and how it is read and written.
//!
//! Every function takes a [`store::Connection`] inside the caller's transaction, so that a
//! decision, its timeline and its audit entry are one commit.

mod admission;
mod device;
mod exchange;
mod offline;
mod retention;
mod timeline;

pub use admission::{Admission, admission, admissions, put_admission, remove_admission};
pub use device::{
    Bound, Decision, Device, DeviceFilter, Sighting, bind_key, decide, device, devices,
    find_devices, set_history, set_state, state_counts, touch,
};
pub use exchange::{
    ExchangeRow, exchange, exchange_by_nonce, exchanges, latest_exchange, put_exchange,
};
pub use offline::{
    OfflineVoucher, has_offline_voucher, offline_voucher, offline_vouchers, put_offline_voucher,
};
pub use retention::{Purged, purge};
pub(crate) use timeline::storable;
pub use timeline::{Entry, Outcome, Recorded, append, timeline};

use serde::{Deserialize, Serialize};

/// The states that an operator sees. There are few of them, and their names do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No vendor profile vouches for what it presented.
    Untrusted,
    /// Its last attempt was refused.
    Refused,
    /// A person said no.
    Denied,
    /// It waits for a decision.
    Pending,
    /// It may join, and has not finished its first step.
    Approved,
    /// Something failed that is not the device's fault; it tries again.
    Failed,
    /// It has its voucher.
    Vouchered,
    /// It has a certificate of this domain.
    Enrolled,
}

impl State {
    /// All states, in the order of a device's life.
    pub const ALL: [Self; 8] = [
        Self::Untrusted,
        Self::Refused,
        Self::Denied,
        Self::Pending,
        Self::Approved,
        Self::Failed,
        Self::Vouchered,
        Self::Enrolled,
    ];

    /// The word in the database and in lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Failed => "failed",
            Self::Vouchered => "vouchered",
            Self::Enrolled => "enrolled",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .unwrap_or(Self::Failed)
    }
}

/// What is known about the history of a device at its MASA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// The audit log was not looked at since the last voucher.
    Unknown,
    /// It was, and the policy is content, or its breach was only to be reported.
    Accepted,
    /// It breaks the policy.
    Violated,
    /// It could not be had.
    Unavailable,
}

impl History {
    const ALL: [Self; 4] = [
        Self::Unknown,
        Self::Accepted,
        Self::Violated,
        Self::Unavailable,
    ];

    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Accepted => "accepted",
            Self::Violated => "violated",
            Self::Unavailable => "unavailable",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|history| history.as_str() == text)
            .unwrap_or(Self::Unknown)
    }
}

/// A time as it stands in JSON answers.
pub(crate) fn rfc3339(time: time::OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| time.unix_timestamp().to_string())
}
