//! What pledges report
//! ([RFC 8995 §5.7](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.7),
//! [§5.9.4](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.9.4)).

use artifacts::{TELEMETRY_VERSION, Tolerances, VoucherStatus};
use serde_json::Value;

use super::{Exchange, Refusal, Stage};
use crate::{cause::Cause, text::excerpt};

/// How much of a pledge's reason is kept.
const REASON_MAX_CHARS: usize = 500;

/// A status report as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportBody<'a> {
    /// JSON.
    Json(&'a [u8]),
    /// CBOR (draft-ietf-anima-constrained-voucher §6.5.1).
    Cbor(&'a [u8]),
    /// Of a media type that is neither.
    Other,
}

impl<'a> From<&'a [u8]> for ReportBody<'a> {
    fn from(json: &'a [u8]) -> Self {
        Self::Json(json)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for ReportBody<'a> {
    fn from(json: &'a [u8; N]) -> Self {
        Self::Json(json)
    }
}

/// A status report, for the timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether it went well.
    pub status: bool,
    /// The pledge's reason.
    pub reason: Option<String>,
    /// The pledge's context, not standardised.
    pub context: Option<Value>,
    /// Names of members that are not known.
    pub unknown_members: Vec<String>,
    /// Set if the version is later than ours: a human is to be told.
    pub newer_version: Option<u64>,
}

/// A report and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// The report.
    pub report: Report,
    /// The stage that the exchange reaches, if there is an exchange and the report moves it.
    pub stage: Option<Stage>,
    /// Whether the report came over a connection with a certificate that fits
    /// (BRSKI-5.9.4-06: to be captured in the log).
    pub matching_certificate: bool,
}

/// Reads a voucher status report.
///
/// # Errors
/// [`Refusal::TelemetryMalformed`] or [`Refusal::TelemetryMediaType`]; the exchange does not move.
pub fn voucher_status<'a>(
    body: impl Into<ReportBody<'a>>,
    exchange: Option<&Exchange>,
    tolerances: &Tolerances,
) -> Result<Reported, Refusal> {
    let report = read(body.into(), tolerances)?;
    // A report moves the exchange only from the point at which a voucher was handed out: a late or
    // repeated one must not undo what came after it.
    let stage = match exchange.map(|exchange| &exchange.stage) {
        Some(Stage::VoucherSent | Stage::VoucherAccepted) if report.status => {
            Some(Stage::VoucherAccepted)
        }
        Some(Stage::VoucherSent | Stage::VoucherAccepted) => Some(Stage::VoucherRefused {
            reason: report.reason.clone(),
        }),
        _ => None,
    };
    Ok(Reported {
        report,
        stage,
        matching_certificate: exchange.is_some(),
    })
}

/// Reads an enrolment status report; `matching_certificate` says whether the connection was
/// authenticated with the certificate that was issued in this exchange.
///
/// # Errors
/// [`Refusal::TelemetryMalformed`] or [`Refusal::TelemetryMediaType`]; the exchange does not move.
pub fn enrol_status<'a>(
    body: impl Into<ReportBody<'a>>,
    exchange: Option<&Exchange>,
    matching_certificate: bool,
    tolerances: &Tolerances,
) -> Result<Reported, Refusal> {
    let report = read(body.into(), tolerances)?;
    let stage = match exchange.map(|exchange| &exchange.stage) {
        Some(Stage::VoucherSent | Stage::VoucherAccepted | Stage::EnrolmentFailed { .. })
            if report.status =>
        {
            Some(Stage::Enrolled)
        }
        Some(Stage::VoucherSent | Stage::VoucherAccepted | Stage::EnrolmentFailed { .. }) => {
            Some(Stage::EnrolmentFailed {
                reason: report.reason.clone(),
            })
        }
        _ => None,
    };
    Ok(Reported {
        report,
        stage,
        matching_certificate,
    })
}

fn read(body: ReportBody<'_>, tolerances: &Tolerances) -> Result<Report, Refusal> {
    // BRSKI-5.7-11: malformed telemetry changes nothing.
    let (status, _) = match body {
        ReportBody::Json(json) => VoucherStatus::from_json(json, tolerances),
        // CBR-042: /vs and /es accept content-format 60 (CBOR).
        ReportBody::Cbor(cbor) => VoucherStatus::from_cbor(cbor, tolerances),
        ReportBody::Other => return Err(Refusal::TelemetryMediaType),
    }
    .map_err(|error| Refusal::TelemetryMalformed(Cause::of(&error)))?;
    if status.version > TELEMETRY_VERSION && defects::seeded!("registrar-refuses-later-reports") {
        return Err(Refusal::TelemetryMediaType);
    }
    if !status.unknown.is_empty() && defects::seeded!("registrar-refuses-unknown-members") {
        return Err(Refusal::TelemetryMediaType);
    }
    Ok(Report {
        status: status.status,
        reason: status
            .reason
            .map(|reason| excerpt(reason.as_bytes(), REASON_MAX_CHARS)),
        context: status.reason_context.map(Value::Object),
        // BRSKI-5.7-09: "A server that sees unknown fields should log them, but otherwise ignore
        // them."
        unknown_members: status.unknown,
        // BRSKI-5.7-10: "A registrar that receives a status message with a version larger than it
        // knows about SHOULD log the contents and alert a human."
        newer_version: (status.version > TELEMETRY_VERSION).then_some(status.version),
    })
}
