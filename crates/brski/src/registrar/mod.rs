//! The registrar's side of [RFC 8995 §5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5).
//!
//! A service calls, in this order:
//! 1. [`identify`] with the TLS client's chain: which device is this, by which vendor's rule.
//! 2. [`open_request`] with the body: everything that can be said about the pledge's request.
//! 3. its policy (allow list, human, webhook) and its database, then [`decide`]: reply, wait, use
//!    a voucher that was loaded before, or ask the MASA.
//! 4. [`masa_call`] builds the registrar's own request, [`masa_answered`] judges the reply.
//! 5. [`voucher_status`], [`audit_call`], [`audit_answered`], [`may_enrol`], [`enrol_status`].
//!
//! An [`Exchange`] is what has to be kept between these steps; it can be stored as JSON.

mod audit;
mod decide;
mod masa_call;
mod profile;
mod refusal;
mod request;
mod telemetry;

pub use audit::{AuditFinding, AuditPolicy, AuditVerdict, audit_answered, audit_call, may_enrol};
pub use decide::{Facts, Policy, Preloaded, Step, Verdict, decide, use_preloaded};
pub use masa_call::{
    ChainToSend, MasaAnswer, MasaCall, Nonceless, OwnersNonced, masa_answered, masa_call, masa_of,
    nonceless_call, owners_nonced_call, repeat_call,
};
pub use profile::{
    MASA_URL_LENGTH_MAX_BYTES, MasaUrlRule, ProfileSpec, Profiles, ProfilesSpec, VendorProfile,
    masa_base_url,
};
pub use refusal::Refusal;
pub use request::{Device, Inbound, PledgeRequest, identify, open_request};
pub use telemetry::{Report, ReportBody, Reported, enrol_status, voucher_status};

use artifacts::Envelope;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{domain::DomainKey, masa::DeviceKey, media::CoseName, stored};

/// What has to be kept of the exchange with one device between its requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Which device.
    pub device: DeviceKey,
    /// SHA-256 of the public key in its IDevID, in hexadecimal.
    pub idevid_key: String,
    /// The vendor profile by which it was recognised.
    pub vendor: String,
    /// SHA-256 of the pledge's request, in hexadecimal: the same bytes are the same exchange.
    pub request_digest: String,
    /// The nonce of the pledge's request.
    pub nonce: Option<String>,
    /// The format of the pledge's request.
    #[serde(with = "stored::envelope")]
    pub envelope: Envelope,
    /// The pledge's `Accept` header.
    pub accept: Option<String>,
    /// When the first request of this exchange came.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// The registrar's own request, once there is one.
    #[serde(
        default,
        with = "stored::bytes::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub registrar_request: Option<Vec<u8>>,
    /// The name of COSE in calls to the MASA.
    #[serde(default)]
    pub cose_name: CoseName,
    /// The address of the MASA, up to and including `/.well-known/brski`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masa: Option<String>,
    /// The voucher, once there is one.
    #[serde(
        default,
        with = "stored::bytes::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub voucher: Option<Vec<u8>>,
    /// The format of the voucher.
    #[serde(
        default,
        with = "stored::envelope::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub voucher_envelope: Option<Envelope>,
    /// Whether the voucher was loaded before the device came.
    #[serde(default)]
    pub preloaded: bool,
    /// The domain that the voucher pins, as far as the registrar could read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pinned>,
    /// How far the exchange got.
    pub stage: Stage,
}

/// The certificate that a voucher pins, as the audit log will call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The domainID.
    #[serde(with = "stored::bytes")]
    pub domain_id: Vec<u8>,
    /// The key.
    pub key: DomainKey,
}

/// How far an exchange got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// Waiting for a human or another policy decision.
    Waiting,
    /// The registrar's request is ready or on its way to the MASA.
    AskedMasa,
    /// The voucher was handed to the pledge.
    VoucherSent,
    /// The pledge accepted the voucher.
    VoucherAccepted,
    /// The pledge refused the voucher.
    VoucherRefused {
        /// Its reason.
        reason: Option<String>,
    },
    /// The pledge reported that it is enrolled.
    Enrolled,
    /// The pledge reported that enrolment failed.
    EnrolmentFailed {
        /// Its reason.
        reason: Option<String>,
    },
}

impl Stage {
    /// Whether the pledge is done with the nonce: a request that carries it now is a replay.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Waiting | Self::AskedMasa | Self::VoucherSent)
    }
}
