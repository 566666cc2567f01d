//! What pledges report
//! ([RFC 8995 §5.7](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.7),
//! [§5.9.4](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.9.4)).

use artifacts::Tolerances;
use serde_json::Value;

use super::{Exchange, Refusal, Stage};

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
/// [`Refusal::TelemetryMalformed`]; the exchange does not move.
pub fn voucher_status(
    body: &[u8],
    exchange: Option<&Exchange>,
    tolerances: &Tolerances,
) -> Result<Reported, Refusal> {
    let _ = (body, exchange, tolerances);
    todo!()
}

/// Reads an enrolment status report; `matching_certificate` says whether the connection was
/// authenticated with the certificate that was issued in this exchange.
///
/// # Errors
/// [`Refusal::TelemetryMalformed`]; the exchange does not move.
pub fn enrol_status(
    body: &[u8],
    exchange: Option<&Exchange>,
    matching_certificate: bool,
    tolerances: &Tolerances,
) -> Result<Reported, Refusal> {
    let _ = (body, exchange, matching_certificate, tolerances);
    todo!()
}
