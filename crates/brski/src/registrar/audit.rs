//! The device's audit log and what policy makes of it
//! ([RFC 8995 §5.8](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8)).

use time::OffsetDateTime;

use super::{Exchange, MasaAnswer, MasaCall, Refusal};

/// What a device's history may look like.
#[derive(Clone, Debug)]
pub struct AuditPolicy {
    /// Whether the history is ignored altogether.
    pub ignore: bool,
    /// Whether a log has to be had before the device may enrol.
    pub required: bool,
    /// domainIDs, besides our own, whose entries are expected.
    pub known_domains: Vec<Vec<u8>>,
    /// Whether entries of unknown domains are let pass.
    pub unknown_domains: bool,
    /// Whether nonceless entries of known domains, our own included, are let pass.
    pub nonceless: bool,
    /// Whether a log that was abridged arbitrarily is let pass.
    pub arbitrary_truncation: bool,
    /// Entries before this moment do not matter, for devices bought second-hand.
    pub since: Option<OffsetDateTime>,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self {
            ignore: false,
            required: true,
            known_domains: Vec::new(),
            unknown_domains: false,
            nonceless: false,
            arbitrary_truncation: false,
            since: None,
        }
    }
}

/// One thing that was noticed in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditFinding {
    /// Our own voucher is not in the log.
    OwnEventMissing,
    /// An unknown domain had the device.
    UnknownDomain {
        /// Its domainID in base64.
        domain: String,
        /// When.
        date: String,
    },
    /// A nonceless voucher exists.
    Nonceless {
        /// The domainID in base64.
        domain: String,
        /// When.
        date: String,
    },
    /// Entries were removed.
    Truncated {
        /// How many.
        arbitrary: u64,
    },
    /// The log is of a later version; known fields were read.
    NewerVersion(u64),
}

/// What the log means for the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Everything that was noticed, whether it matters or not.
    pub findings: Vec<AuditFinding>,
    /// Set if policy is violated: what a human reads.
    pub violation: Option<String>,
}

/// The same bytes as the voucher request, for `requestauditlog`.
///
/// # Errors
/// [`Refusal::ExchangeUnknown`] if no request was sent in this exchange.
pub fn audit_call(exchange: &Exchange) -> Result<MasaCall, Refusal> {
    let _ = exchange;
    todo!()
}

/// Judges the MASA's answer to an audit log request. A 201 with `Location` is followed by the
/// service, which then hands the answer of that GET in here.
///
/// # Errors
/// [`Refusal::AuditUnavailable`] if there is no log and policy wants one.
pub fn audit_answered(
    exchange: &Exchange,
    answer: &MasaAnswer<'_>,
    policy: &AuditPolicy,
) -> Result<AuditVerdict, Refusal> {
    let _ = (exchange, answer, policy);
    todo!()
}

/// Whether a device may use EST: it accepted a voucher of ours and its history is in order.
///
/// # Errors
/// [`Refusal::NotBootstrapped`] or [`Refusal::AuditViolation`].
pub fn may_enrol(
    exchange: Option<&Exchange>,
    audit: Option<&AuditVerdict>,
    policy: &AuditPolicy,
) -> Result<(), Refusal> {
    let _ = (exchange, audit, policy);
    todo!()
}
