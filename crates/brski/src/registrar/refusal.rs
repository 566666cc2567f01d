//! Every reason for which the registrar says no, with its code, its culprit and its HTTP status.

use pki::{Blame, Coded};

use crate::cause::Cause;

/// Why the registrar refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The body's media type is not a voucher request that we understand.
    #[error("the content type {0:?} is not a voucher request that this registrar understands")]
    MediaType(String),
    /// The `Accept` header names nothing that is understood.
    #[error("the Accept header {0:?} names no voucher format that is understood")]
    AcceptNotUnderstood(String),
    /// The `Accept` header leaves no format that can be had.
    #[error("no voucher format in the Accept header {0:?} can be had here")]
    NotAcceptable(String),
    /// The peer showed no certificate.
    #[error("no TLS client certificate was presented")]
    NoClientCertificate,
    /// No vendor profile's anchors lead to the certificate.
    #[error("no configured manufacturer issued the IDevID: {0}")]
    ManufacturerUnknown(Cause),
    /// The manufacturer is known and the path is not valid.
    #[error("the IDevID is not valid: {0}")]
    IdevidInvalid(Cause),
    /// The manufacturer's rule finds no serial number in the IDevID.
    #[error("the IDevID has no serial number by the manufacturer's rule")]
    SerialMissing,
    /// The body is not a signed voucher request.
    #[error("the voucher request cannot be read: {0}")]
    RequestMalformed(Cause),
    /// The signature over the pledge's request is wrong.
    #[error("the signature of the voucher request is not valid: {0}")]
    RequestSignature(Cause),
    /// The request was signed by another certificate than that of the TLS connection.
    #[error("the voucher request was signed by another device than the one that is connected")]
    SignerMismatch,
    /// The request names another serial number than the IDevID.
    #[error("the serial-number in the voucher request is not that of the IDevID")]
    SerialMismatch,
    /// The request does not ask for the proximity assertion.
    #[error("the voucher request does not ask for the assertion proximity")]
    AssertionNotProximity,
    /// The request does not say which registrar the pledge saw.
    #[error("the voucher request names no registrar (proximity-registrar-cert)")]
    ProximityMissing,
    /// The pledge saw another registrar: somebody is in between.
    #[error("the pledge saw another registrar than this one")]
    ProximityMismatch,
    /// The request has no nonce.
    #[error("the voucher request has no nonce")]
    NonceMissing,
    /// The nonce has the wrong size.
    #[error("the nonce is not 8 to 32 bytes long")]
    NonceLength,
    /// The request is older than policy allows.
    #[error("the voucher request is stale: it was created {age_s} seconds ago")]
    RequestStale {
        /// Age in seconds.
        age_s: i64,
    },
    /// The request claims to come from the future.
    #[error("the voucher request was created {ahead_s} seconds in the future")]
    RequestFromFuture {
        /// Seconds ahead of our clock.
        ahead_s: i64,
    },
    /// The request's nonce belongs to an exchange that is over.
    #[error("the voucher request was used before")]
    RequestReplayed,
    /// Policy does not admit this vendor or product; an administrator could change that.
    #[error("this manufacturer or product is not admitted: {0}")]
    VendorDenied(String),
    /// Policy does not admit this device.
    #[error("this device is not admitted: {0}")]
    DeviceDenied(String),
    /// Another IDevID key was seen for this identity.
    #[error("another key was seen for this serial number")]
    CloneSuspected,
    /// There is no MASA to ask.
    #[error("the IDevID names no MASA and none is configured for its manufacturer")]
    MasaUrlMissing,
    /// The MASA's address cannot be used.
    #[error("the address of the MASA cannot be used: {0}")]
    MasaUrlInvalid(String),
    /// The MASA could not be reached or did not answer in time.
    #[error("the MASA could not be reached: {0}")]
    MasaUnreachable(String),
    /// The MASA refused.
    #[error("the MASA refused with HTTP status {status}: {text}")]
    MasaRefused {
        /// The status of its answer.
        status: u16,
        /// The beginning of its explanation.
        text: String,
    },
    /// The MASA wants a login that is not configured.
    #[error("the MASA asks for authentication")]
    MasaUnauthorised,
    /// The MASA's answer is not one.
    #[error("the answer of the MASA cannot be used: {0}")]
    MasaAnswer(Cause),
    /// The MASA's voucher is not for this exchange.
    #[error("the voucher from the MASA does not fit the request: {0}")]
    VoucherUnfit(Cause),
    /// The audit log violates policy.
    #[error("the device's audit log violates policy: {0}")]
    AuditViolation(String),
    /// The audit log could not be had and policy wants it.
    #[error("the device's audit log could not be had: {0}")]
    AuditUnavailable(Cause),
    /// Telemetry that is not the JSON it should be.
    #[error("the status report cannot be read: {0}")]
    TelemetryMalformed(Cause),
    /// Telemetry in neither JSON nor CBOR.
    #[error("the status report is neither JSON nor CBOR by its media type")]
    TelemetryMediaType,
    /// Telemetry from a device that has no exchange here.
    #[error("no exchange is known for this device")]
    ExchangeUnknown,
    /// An enrolment without a voucher exchange that went well.
    #[error("the device has not completed a voucher exchange with this registrar")]
    NotBootstrapped,
    /// The request could not be built; our fault.
    #[error("the registrar's own request could not be built")]
    Internal(Cause),
}

impl Refusal {
    /// The HTTP status towards the pledge, by RFC 8995
    /// [§5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.2),
    /// [§5.3](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.3) and
    /// [§5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6).
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::NonceMissing | Self::NonceLength | Self::TelemetryMalformed(_) => 400,
            Self::AssertionNotProximity | Self::ProximityMissing | Self::ProximityMismatch => 401,
            Self::NoClientCertificate
            | Self::ManufacturerUnknown(_)
            | Self::IdevidInvalid(_)
            | Self::SerialMissing
            | Self::RequestSignature(_)
            | Self::SignerMismatch
            | Self::SerialMismatch
            | Self::RequestStale { .. }
            | Self::RequestFromFuture { .. }
            | Self::RequestReplayed
            | Self::VendorDenied(_)
            | Self::CloneSuspected
            | Self::MasaUrlMissing
            | Self::MasaUrlInvalid(_)
            | Self::NotBootstrapped => 403,
            Self::DeviceDenied(_) | Self::ExchangeUnknown => 404,
            Self::RequestMalformed(_) | Self::NotAcceptable(_) | Self::AuditViolation(_) => 406,
            Self::MediaType(_) | Self::AcceptNotUnderstood(_) | Self::TelemetryMediaType => 415,
            Self::Internal(_) => 500,
            // The MASA's judgement about the request is handed on; its own troubles are a bad
            // gateway, because the pledge can do nothing about them but come back.
            Self::MasaRefused { status, .. } => match status {
                403 | 404 | 406 | 415 => *status,
                400..=499 => 403,
                _ => 502,
            },
            Self::MasaUnauthorised | Self::MasaAnswer(_) | Self::VoucherUnfit(_) => 502,
            Self::AuditUnavailable(_) => 503,
            Self::MasaUnreachable(_) => 504,
        }
    }

    /// Whether the connection has to be closed after the answer.
    ///
    /// BRSKI-5.2-12: "If this validation fails, then there is an on-path attacker (MITM), and the
    /// connection MUST be closed after the returning of an HTTP 401 error code."
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        let by_protocol = matches!(
            self,
            Self::AssertionNotProximity | Self::ProximityMissing | Self::ProximityMismatch
        );
        by_protocol && !defects::seeded!("registrar-keeps-connection-open")
    }

    /// The plain text for the answer's body. It names the rule and nothing of the domain's inside:
    /// the reader may be an unauthenticated stranger.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Internal(_)
            | Self::MasaRefused { .. }
            | Self::MasaUnreachable(_)
            | Self::MasaAnswer(_)
            | Self::VoucherUnfit(_)
            | Self::AuditUnavailable(_)
            | Self::AuditViolation(_)
            | Self::ManufacturerUnknown(_)
            | Self::VendorDenied(_)
            | Self::DeviceDenied(_)
            | Self::MasaUrlInvalid(_) => format!("{}\n", self.code()),
            _ => format!("{}: {self}\n", self.code()),
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::MediaType(_) => "registrar.media-type",
            Self::AcceptNotUnderstood(_) => "registrar.accept-not-understood",
            Self::NotAcceptable(_) => "registrar.not-acceptable",
            Self::NoClientCertificate => "registrar.no-client-certificate",
            Self::ManufacturerUnknown(_) => "registrar.manufacturer-unknown",
            Self::IdevidInvalid(_) => "registrar.idevid-invalid",
            Self::SerialMissing => "registrar.serial-missing",
            Self::RequestMalformed(_) => "registrar.request-malformed",
            Self::RequestSignature(_) => "registrar.request-signature",
            Self::SignerMismatch => "registrar.signer-mismatch",
            Self::SerialMismatch => "registrar.serial-mismatch",
            Self::AssertionNotProximity => "registrar.assertion-not-proximity",
            Self::ProximityMissing => "registrar.proximity-missing",
            Self::ProximityMismatch => "registrar.proximity-mismatch",
            Self::NonceMissing => "registrar.nonce-missing",
            Self::NonceLength => "registrar.nonce-length",
            Self::RequestStale { .. } => "registrar.request-stale",
            Self::RequestFromFuture { .. } => "registrar.request-from-future",
            Self::RequestReplayed => "registrar.request-replayed",
            Self::VendorDenied(_) => "registrar.vendor-denied",
            Self::DeviceDenied(_) => "registrar.device-denied",
            Self::CloneSuspected => "registrar.clone-suspected",
            Self::MasaUrlMissing => "registrar.masa-url-missing",
            Self::MasaUrlInvalid(_) => "registrar.masa-url-invalid",
            Self::MasaUnreachable(_) => "registrar.masa-unreachable",
            Self::MasaRefused { .. } => "registrar.masa-refused",
            Self::MasaUnauthorised => "registrar.masa-unauthorised",
            Self::MasaAnswer(_) => "registrar.masa-answer",
            Self::VoucherUnfit(_) => "registrar.voucher-unfit",
            Self::AuditViolation(_) => "registrar.audit-violation",
            Self::AuditUnavailable(_) => "registrar.audit-unavailable",
            Self::TelemetryMalformed(_) => "registrar.telemetry-malformed",
            Self::TelemetryMediaType => "registrar.telemetry-media-type",
            Self::ExchangeUnknown => "registrar.exchange-unknown",
            Self::NotBootstrapped => "registrar.not-bootstrapped",
            Self::Internal(_) => "registrar.internal",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::MediaType(_)
            | Self::AcceptNotUnderstood(_)
            | Self::NotAcceptable(_)
            | Self::NoClientCertificate
            | Self::ManufacturerUnknown(_)
            | Self::SerialMissing
            | Self::VendorDenied(_)
            | Self::DeviceDenied(_)
            | Self::MasaUrlMissing
            | Self::MasaUrlInvalid(_)
            | Self::TelemetryMediaType
            | Self::ExchangeUnknown
            | Self::NotBootstrapped
            | Self::AuditViolation(_)
            | Self::MasaRefused { .. } => Blame::PeerIncompatible,
            Self::IdevidInvalid(_)
            | Self::RequestMalformed(_)
            | Self::RequestSignature(_)
            | Self::SignerMismatch
            | Self::SerialMismatch
            | Self::AssertionNotProximity
            | Self::ProximityMissing
            | Self::ProximityMismatch
            | Self::NonceMissing
            | Self::NonceLength
            | Self::RequestStale { .. }
            | Self::RequestFromFuture { .. }
            | Self::RequestReplayed
            | Self::CloneSuspected
            | Self::MasaAnswer(_)
            | Self::VoucherUnfit(_)
            | Self::TelemetryMalformed(_) => Blame::PeerMisbehaved,
            Self::MasaUnreachable(_)
            | Self::MasaUnauthorised
            | Self::AuditUnavailable(_)
            | Self::Internal(_) => Blame::Ours,
        }
    }
}
