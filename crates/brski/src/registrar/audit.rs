//! The device's audit log and what policy makes of it
//! ([RFC 8995 §5.8](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8)).

use artifacts::{AuditLog, DomainId, Tolerances};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use url::Url;

use super::{Exchange, MasaAnswer, MasaCall, Refusal, Stage, masa_call::resource};
use crate::cause::Cause;

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
    /// What is let pass in the log's encoding.
    pub tolerances: Tolerances,
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
            tolerances: Tolerances::strict(),
        }
    }
}

/// One thing that was noticed in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "finding")]
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
    NewerVersion {
        /// Its version.
        version: u64,
    },
    /// There is no log; policy does not need one.
    NoLog,
}

/// What the log means for the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    // BRSKI-5.8-01: "The registrar SHOULD HTTP POST the same registrar voucher-request as it did
    // when requesting a voucher (using the same Content-Type)."
    let (Some(body), Some(masa)) = (&exchange.registrar_request, &exchange.masa) else {
        return Err(Refusal::ExchangeUnknown);
    };
    let base = Url::parse(masa).map_err(|error| Refusal::MasaUrlInvalid(error.to_string()))?;
    Ok(MasaCall {
        url: resource(&base, "requestauditlog"),
        content_type: exchange.cose_name.of(exchange.envelope),
        accept: "application/json".to_owned(),
        body: body.clone(),
    })
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
    match read_log(answer, policy) {
        Ok(log) => Ok(judge(&log, exchange, policy)),
        Err(_) if policy.ignore || !policy.required => Ok(AuditVerdict {
            findings: vec![AuditFinding::NoLog],
            violation: None,
        }),
        Err(cause) => Err(Refusal::AuditUnavailable(cause)),
    }
}

fn read_log(answer: &MasaAnswer<'_>, policy: &AuditPolicy) -> Result<AuditLog, Cause> {
    match answer {
        MasaAnswer::Http {
            status: 200, body, ..
        } => AuditLog::from_json(body, &policy.tolerances)
            .map(|(log, _)| log)
            .map_err(|error| Cause::of(&error)),
        MasaAnswer::Http { status, .. } => Err(Cause::new(
            "registrar.masa-refused",
            format!("HTTP status {status}"),
        )),
        MasaAnswer::Unreachable(why) => Err(Cause::new("registrar.masa-unreachable", *why)),
    }
}

/// [RFC 8995 §5.8.3](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.8.3): known domains,
/// and every voucher with a nonce.
fn judge(log: &AuditLog, exchange: &Exchange, policy: &AuditPolicy) -> AuditVerdict {
    let mut findings = Vec::new();
    let mut violations = Vec::new();
    // BRSKI-5.8.1-08: a later version has more in it and nothing less.
    if log.version > 1 {
        findings.push(AuditFinding::NewerVersion {
            version: log.version,
        });
    }
    let own = exchange
        .pinned
        .as_ref()
        .map(|pinned| pinned.domain_id.as_slice());
    let nonce = if exchange.preloaded {
        None
    } else {
        exchange.nonce.as_deref()
    };
    // BRSKI-5.8.3-04: a log without the voucher that was just issued is not this device's log.
    let own_event = log
        .events
        .iter()
        .any(|event| Some(event.domain_id.as_bytes()) == own && event.nonce.as_deref() == nonce);
    if !own_event {
        findings.push(AuditFinding::OwnEventMissing);
        violations.push("our own voucher is not in the log".to_owned());
    }
    for event in &log.events {
        if policy.since.is_some_and(|since| event.date < since) {
            continue;
        }
        let domain = STANDARD.encode(event.domain_id.as_bytes());
        let date = event.date.format(&Rfc3339).unwrap_or_default();
        let is_own = Some(event.domain_id.as_bytes()) == own;
        let known = is_own
            || policy
                .known_domains
                .iter()
                .any(|known| DomainId::from_bytes(known.clone()) == event.domain_id);
        if !known {
            if !policy.unknown_domains {
                violations.push(format!("domain {domain} had the device on {date}"));
            }
            findings.push(AuditFinding::UnknownDomain {
                domain: domain.clone(),
                date: date.clone(),
            });
        }
        if event.nonce.is_none() {
            // The voucher of this very exchange may be a nonceless one that we asked for.
            let expected = is_own && exchange.preloaded;
            if !policy.nonceless && !expected {
                violations.push(format!("a nonceless voucher exists for domain {domain}"));
            }
            findings.push(AuditFinding::Nonceless { domain, date });
        }
    }
    if log.truncation.arbitrary > 0 {
        if !policy.arbitrary_truncation {
            violations.push(format!("{} entries were removed", log.truncation.arbitrary));
        }
        findings.push(AuditFinding::Truncated {
            arbitrary: log.truncation.arbitrary,
        });
    }
    let violation = (!policy.ignore && !violations.is_empty()).then(|| violations.join("; "));
    AuditVerdict {
        findings,
        violation,
    }
}

/// Whether a device may use EST: it was given a voucher of ours and its history is in order.
///
/// # Errors
/// [`Refusal::NotBootstrapped`], [`Refusal::AuditUnavailable`] or [`Refusal::AuditViolation`].
pub fn may_enrol(
    exchange: Option<&Exchange>,
    audit: Option<&AuditVerdict>,
    policy: &AuditPolicy,
) -> Result<(), Refusal> {
    match exchange.map(|exchange| &exchange.stage) {
        // A pledge whose status report was lost and which goes on to EST has accepted the voucher.
        Some(
            Stage::VoucherSent
            | Stage::VoucherAccepted
            | Stage::Enrolled
            | Stage::EnrolmentFailed { .. },
        ) => {}
        Some(Stage::Waiting | Stage::AskedMasa | Stage::VoucherRefused { .. }) | None => {
            return Err(Refusal::NotBootstrapped);
        }
    }
    if policy.ignore {
        return Ok(());
    }
    match audit {
        // BRSKI-5.8.3-02: if policy is violated, "the registrar MUST then refuse any EST actions".
        Some(AuditVerdict {
            violation: Some(violation),
            ..
        }) => Err(Refusal::AuditViolation(violation.clone())),
        Some(_) => Ok(()),
        // BRSKI-5.8-02: the log is verified also if no voucher status telemetry arrives.
        None if policy.required => Err(Refusal::AuditUnavailable(Cause::new(
            "registrar.audit-not-checked",
            "the audit log was not checked yet",
        ))),
        None => Ok(()),
    }
}
