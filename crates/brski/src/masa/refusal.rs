//! Every reason for which the MASA says no, with its code, its culprit and its HTTP status.

use artifacts::Assertion;
use pki::{Blame, Coded};

use crate::cause::Cause;

/// Why the MASA refused. The text is what the registrar's operator reads in the answer's body:
/// [RFC 8995 §5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6) wants it human readable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The body's media type is not a voucher request that we understand.
    #[error("the content type {0:?} is not a voucher request that this MASA understands")]
    MediaType(String),
    /// The `Accept` header names nothing that is understood.
    #[error("the Accept header {0:?} names no voucher format that this MASA understands")]
    AcceptNotUnderstood(String),
    /// The `Accept` header leaves no format that this MASA can produce.
    #[error("no voucher format in the Accept header {0:?} can be issued here")]
    NotAcceptable(String),
    /// The body is not a signed voucher request.
    #[error("the voucher request cannot be read: {0}")]
    RequestMalformed(Cause),
    /// The signature over the registrar's voucher request is wrong.
    #[error("the signature of the voucher request is not valid: {0}")]
    RequestSignature(Cause),
    /// The certificates in the request do not make a consistent domain PKI.
    #[error("the registrar's certificate chain is not consistent: {0}")]
    RegistrarChain(Cause),
    /// The signer is not marked as a registration authority.
    #[error("the signer's certificate lacks the extended key usage id-kp-cmcRA")]
    RegistrarNotRa,
    /// The registrar's certificate is revoked.
    #[error("the registrar's certificate is revoked")]
    RegistrarRevoked,
    /// Revocation has to be checked and could not be.
    #[error("the revocation status of the registrar's certificate could not be determined")]
    RevocationUnavailable,
    /// Policy admits registered owners only.
    #[error("the registrar's domain is not registered with this MASA")]
    RegistrarUnknown,
    /// The owner that this domain belongs to is blocked.
    #[error("the owner of this domain is blocked")]
    OwnerBlocked,
    /// The request carries a leaf that only a pledge may send.
    #[error("a registrar voucher request must not contain proximity-registrar-cert")]
    ProximityCertInRequest,
    /// The nonce has the wrong size.
    #[error("the nonce is not 8 to 32 bytes long")]
    NonceLength,
    /// The request is older than policy allows.
    #[error("the voucher request is stale: {0}")]
    RequestStale(Cause),
    /// The request claims to come from the future.
    #[error("the voucher request comes from the future: {0}")]
    RequestFromFuture(Cause),
    /// Policy wants the pledge's own request and it is not there.
    #[error("prior-signed-voucher-request is missing")]
    PriorMissing,
    /// The pledge's own request cannot be read.
    #[error("prior-signed-voucher-request cannot be read: {0}")]
    PriorMalformed(Cause),
    /// The pledge's own request is not signed correctly.
    #[error("the signature of prior-signed-voucher-request is not valid: {0}")]
    PriorSignature(Cause),
    /// The pledge's own request is not signed by a device of this manufacturer.
    #[error("prior-signed-voucher-request is not signed by a device of this manufacturer: {0}")]
    PriorNotOurDevice(Cause),
    /// The inner and the outer request speak of different devices.
    #[error("the serial-number differs from that of the device that signed the prior request")]
    PriorSerialMismatch,
    /// The inner and the outer request carry different nonces.
    #[error("the nonce differs from that of the prior request")]
    PriorNonceMismatch,
    /// The pledge did not say which registrar it saw.
    #[error("the prior request names no registrar (proximity-registrar-cert)")]
    ProximityMissing,
    /// The pledge saw another registrar than the one that signed the request.
    #[error("the pledge saw another registrar than the one that signed this request")]
    ProximityMismatch,
    /// rfc8366bis wants idevid-issuer in a registrar's request.
    #[error("a registrar voucher request must contain idevid-issuer")]
    IdevidIssuerMissing,
    /// idevid-issuer is not the issuer of the device that signed the prior request.
    #[error("idevid-issuer is not the issuer of the device's IDevID")]
    IdevidIssuerMismatch,
    /// A nonceless request without an authenticated registrar.
    #[error("a nonceless voucher is only issued to an authenticated registrar")]
    NoncelessUnauthenticated,
    /// A nonceless request from an owner who may not have that.
    #[error("this owner is not authorised for nonceless vouchers")]
    NoncelessNotAuthorised,
    /// The device is not in the register.
    #[error("the device is not known to this MASA")]
    SerialUnknown,
    /// The device is blocked.
    #[error("the device is blocked: {0}")]
    DeviceBlocked(String),
    /// The register says that somebody else bought the device.
    #[error("the device was sold to another owner")]
    NotTheOwner,
    /// Nobody bought the device, and policy does not give it to whoever asks first.
    #[error("the device has not been sold to anybody")]
    NotSold,
    /// The device's nonce already got a voucher, in a time of ownership that is over.
    #[error("this nonce of the device was answered with a voucher before")]
    NonceReplayed,
    /// Another domain holds the device.
    #[error("another domain has claimed the device and has not released it")]
    AlreadyOwned,
    /// Another IDevID key claims to be this device.
    #[error("another key was seen for this serial number")]
    CloneSuspected,
    /// The device cannot process the wanted format.
    #[error("the device cannot process a voucher of the wanted format")]
    FormatNotForDevice,
    /// The product demands a stronger relation than was proven.
    #[error("this product is only handed over with assertion {wanted:?}, {proven:?} was proven")]
    AssertionTooWeak {
        /// What the product demands.
        wanted: Assertion,
        /// What was proven.
        proven: Assertion,
    },
    /// The certificate to be pinned cannot be pinned.
    #[error("the certificate to be pinned cannot be used: {0}")]
    PinUnusable(Cause),
    /// The domain that asks for the audit log never owned the device.
    #[error("no audit log for this device and requester")]
    NeverOwner,
    /// The voucher could not be built; our fault.
    #[error("the voucher could not be built")]
    Internal(Cause),
}

impl Refusal {
    /// The HTTP status of [RFC 8995 §5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6).
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::SerialUnknown if defects::seeded!("masa-403-for-unknown-device") => 403,
            Self::MediaType(_) if defects::seeded!("masa-400-for-media-type") => 400,
            Self::NeverOwner if defects::seeded!("masa-log-403-for-stranger") => 403,
            Self::RequestMalformed(_) | Self::NonceLength => 400,
            Self::RequestSignature(_)
            | Self::RegistrarChain(_)
            | Self::RegistrarNotRa
            | Self::RegistrarRevoked
            | Self::RegistrarUnknown
            | Self::OwnerBlocked
            | Self::ProximityCertInRequest
            | Self::RequestStale(_)
            | Self::RequestFromFuture(_)
            | Self::PriorMissing
            | Self::PriorMalformed(_)
            | Self::PriorSignature(_)
            | Self::PriorNotOurDevice(_)
            | Self::PriorSerialMismatch
            | Self::PriorNonceMismatch
            | Self::ProximityMissing
            | Self::ProximityMismatch
            | Self::IdevidIssuerMissing
            | Self::IdevidIssuerMismatch
            | Self::NoncelessUnauthenticated
            | Self::NoncelessNotAuthorised
            | Self::DeviceBlocked(_)
            | Self::NotTheOwner
            | Self::NotSold
            | Self::NonceReplayed
            | Self::AlreadyOwned
            | Self::CloneSuspected
            | Self::AssertionTooWeak { .. }
            | Self::PinUnusable(_) => 403,
            Self::SerialUnknown | Self::NeverOwner => 404,
            Self::NotAcceptable(_) | Self::FormatNotForDevice => 406,
            Self::MediaType(_) | Self::AcceptNotUnderstood(_) => 415,
            Self::Internal(_) => 500,
            Self::RevocationUnavailable => 503,
        }
    }

    /// The plain text for the answer's body: the code first, so that scripts can find it.
    #[must_use]
    pub fn body(&self) -> String {
        format!("{}: {self}\n", self.code())
    }
}

impl Coded for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::MediaType(_) => "masa.media-type",
            Self::AcceptNotUnderstood(_) => "masa.accept-not-understood",
            Self::NotAcceptable(_) => "masa.not-acceptable",
            Self::RequestMalformed(_) => "masa.request-malformed",
            Self::RequestSignature(_) => "masa.request-signature",
            Self::RegistrarChain(_) => "masa.registrar-chain",
            Self::RegistrarNotRa => "masa.registrar-not-ra",
            Self::RegistrarRevoked => "masa.registrar-revoked",
            Self::RevocationUnavailable => "masa.revocation-unavailable",
            Self::RegistrarUnknown => "masa.registrar-unknown",
            Self::OwnerBlocked => "masa.owner-blocked",
            Self::ProximityCertInRequest => "masa.proximity-cert-in-request",
            Self::NonceLength => "masa.nonce-length",
            Self::RequestStale(_) => "masa.request-stale",
            Self::RequestFromFuture(_) => "masa.request-from-future",
            Self::PriorMissing => "masa.prior-missing",
            Self::PriorMalformed(_) => "masa.prior-malformed",
            Self::PriorSignature(_) => "masa.prior-signature",
            Self::PriorNotOurDevice(_) => "masa.prior-not-our-device",
            Self::PriorSerialMismatch => "masa.prior-serial-mismatch",
            Self::PriorNonceMismatch => "masa.prior-nonce-mismatch",
            Self::ProximityMissing => "masa.proximity-missing",
            Self::ProximityMismatch => "masa.proximity-mismatch",
            Self::IdevidIssuerMissing => "masa.idevid-issuer-missing",
            Self::IdevidIssuerMismatch => "masa.idevid-issuer-mismatch",
            Self::NoncelessUnauthenticated => "masa.nonceless-unauthenticated",
            Self::NoncelessNotAuthorised => "masa.nonceless-not-authorised",
            Self::SerialUnknown => "masa.serial-unknown",
            Self::DeviceBlocked(_) => "masa.device-blocked",
            Self::NotTheOwner => "masa.not-the-owner",
            Self::NotSold => "masa.not-sold",
            Self::NonceReplayed => "masa.nonce-replayed",
            Self::AlreadyOwned => "masa.already-owned",
            Self::CloneSuspected => "masa.clone-suspected",
            Self::FormatNotForDevice => "masa.format-not-for-device",
            Self::AssertionTooWeak { .. } => "masa.assertion-too-weak",
            Self::PinUnusable(_) => "masa.pin-unusable",
            Self::NeverOwner => "masa.never-owner",
            Self::Internal(_) => "masa.internal",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::MediaType(_)
            | Self::AcceptNotUnderstood(_)
            | Self::NotAcceptable(_)
            | Self::FormatNotForDevice
            | Self::SerialUnknown
            | Self::NeverOwner
            | Self::RegistrarUnknown
            | Self::PriorMissing
            | Self::NoncelessNotAuthorised
            | Self::DeviceBlocked(_)
            | Self::OwnerBlocked
            | Self::NotSold
            | Self::AssertionTooWeak { .. }
            | Self::PinUnusable(_) => Blame::PeerIncompatible,
            Self::RequestMalformed(_)
            | Self::RequestSignature(_)
            | Self::RegistrarChain(_)
            | Self::RegistrarNotRa
            | Self::RegistrarRevoked
            | Self::ProximityCertInRequest
            | Self::NonceLength
            | Self::RequestStale(_)
            | Self::RequestFromFuture(_)
            | Self::PriorMalformed(_)
            | Self::PriorSignature(_)
            | Self::PriorNotOurDevice(_)
            | Self::PriorSerialMismatch
            | Self::PriorNonceMismatch
            | Self::ProximityMissing
            | Self::ProximityMismatch
            | Self::IdevidIssuerMissing
            | Self::IdevidIssuerMismatch
            | Self::NoncelessUnauthenticated
            | Self::NotTheOwner
            | Self::NonceReplayed
            | Self::AlreadyOwned
            | Self::CloneSuspected => Blame::PeerMisbehaved,
            Self::RevocationUnavailable | Self::Internal(_) => Blame::Ours,
        }
    }
}
