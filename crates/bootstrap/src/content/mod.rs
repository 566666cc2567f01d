//! What devices get: images, scripts, templates, rules, and the artefacts made of them.

pub mod apply;
pub(crate) mod build;
pub mod check;
mod decide;
pub mod document;
mod engine;
pub mod explain;
pub mod finding;
pub mod images;
pub mod load;
mod meters;
pub mod pattern;
pub mod prebuild;
mod reader;
pub mod revision;
pub mod rollout;
pub mod rules;
pub mod template;
pub mod version;

use std::sync::Arc;

use artifacts::Encoding;
use bytes::Bytes;
use sztp::message::ReportingLevel;
use sztp::restconf::{Fault, RestconfError};
use time::OffsetDateTime;

use crate::Error;
use crate::profile::Profile;
use crate::register::DeviceRow;

pub use self::engine::{Engine, Work};
pub(crate) use self::meters::Meters;

/// What is known of a device and its request when its data is chosen.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The device in the register.
    pub device: Arc<DeviceRow>,
    /// The epoch of the register (`register::touch`): what was made under the same one is not
    /// old.
    pub epoch: i64,
    /// The revision of the content that is served.
    pub revision: i64,
    /// What the device says its hardware is.
    pub hw_model: Option<String>,
    /// What it says it runs.
    pub os_name: Option<String>,
    /// Its version.
    pub os_version: Option<String>,
    /// The nonce that its voucher has to carry.
    pub nonce: Option<Vec<u8>>,
    /// Whether it does not trust this server and so asks for signed data.
    pub signed_data_preferred: bool,
    /// The encoding of the answer around the conveyed information.
    pub outer: Encoding,
    /// Its device type.
    pub profile: Arc<Profile>,
    /// The certificate that it got for its request (RFC 9646), for the template.
    pub certificate: Option<Arc<IssuedCertificate>>,
    /// The IDevID that it showed: what is encrypted is encrypted to it.
    pub identity: Option<pki::Certificate>,
    /// The time.
    pub now: OffsetDateTime,
}

/// A certificate that was issued for a device's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificates in DER, the device's own first.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 of the request that it answers.
    pub csr_sha256: [u8; 32],
}

/// What a device gets.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The conveyed information, a CMS structure in DER.
    pub conveyed_information: Bytes,
    /// The owner certificate, a CMS structure in DER.
    pub owner_certificate: Option<Bytes>,
    /// The ownership voucher, a CMS structure in DER.
    pub ownership_voucher: Option<Bytes>,
    /// What the device is asked to report.
    pub reporting_level: Option<ReportingLevel>,
    /// Whether it is redirect information.
    pub redirect: bool,
    /// The rule that chose it.
    pub rule: String,
    /// What it chose.
    pub target: String,
    /// The revision of the content.
    pub revision: i64,
}

/// Why there is nothing for a device.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule matches.
    #[error("no rule matches this device")]
    NothingStaged,
    /// The rule that matches says so.
    #[error("the rule that matches this device holds it back")]
    Held,
    /// The device wants signed data, and there is none for it.
    #[error("the device asks for signed data, and {0}")]
    Unsigned(String),
    /// There is signed data, and no voucher that the device could accept.
    #[error("{0}")]
    NoVoucher(String),
    /// The voucher for the device's nonce could not be had at this moment.
    #[error("{0}")]
    VoucherUnavailable(String),
    /// What is staged is not what a server of this role gives out.
    #[error("{0}")]
    RoleMismatch(String),
    /// What the rule chose cannot be made into data for this device.
    #[error("{0}")]
    Unusable(String),
    /// Something behind us failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Refusal {
    /// What the device is told: nothing of what is inside.
    #[must_use]
    pub fn restconf(&self) -> RestconfError {
        let (fault, text) = match self {
            Self::NothingStaged | Self::Held | Self::Unusable(_) => {
                (Fault::NothingStaged, "nothing is staged for this device")
            }
            Self::Unsigned(_) => (
                Fault::SignedUnavailable,
                "there is no signed data for this device",
            ),
            Self::NoVoucher(_) => (Fault::NoVoucher, "there is no voucher for this device"),
            Self::VoucherUnavailable(_) => (
                Fault::VoucherUnavailable,
                "the voucher cannot be had at this moment",
            ),
            Self::RoleMismatch(_) => (
                Fault::RoleMismatch,
                "this server does not give what is staged for this device",
            ),
            Self::Failed(_) => (Fault::Busy, "the server cannot answer now"),
        };
        RestconfError::new(fault, text)
    }
}
