//! Every reason for which an attempt of the pledge ends without success.

use pki::{Blame, Coded};
use serde::{Deserialize, Serialize};

use crate::cause::Cause;

/// Why an attempt failed. It is stored with the state, so it is a plain value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "failure", content = "detail")]
#[non_exhaustive]
pub enum Failure {
    /// The registrar could not be reached, or the connection broke.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// The registrar showed no certificate, or too many.
    #[error("the registrar's certificate chain cannot be used: {0}")]
    RegistrarChain(Cause),
    /// A later connection showed another certificate than the first.
    #[error("the registrar's certificate changed between connections")]
    RegistrarChanged,
    /// The registrar answered with a status that ends the attempt.
    #[error("the registrar answered {what} with status {status}: {text}")]
    Refused {
        /// The request.
        what: String,
        /// The status.
        status: u16,
        /// The beginning of the explanation, from an unauthenticated peer.
        text: String,
    },
    /// More than one redirect to another origin, or one that cannot be followed.
    #[error("a redirect was not followed: {0}")]
    Redirect(String),
    /// The registrar said "later" for more than four days.
    #[error("the registrar did not decide within four days")]
    PendingTooLong,
    /// The answer is larger than the limit.
    #[error("the answer to {0} is too large")]
    AnswerTooLarge(String),
    /// The answer is not a voucher.
    #[error("the voucher cannot be read: {0}")]
    VoucherMalformed(Cause),
    /// The voucher has another media type than was asked for.
    #[error("the voucher's media type {0:?} was not asked for")]
    VoucherMediaType(String),
    /// The voucher's signature is wrong.
    #[error("the voucher's signature is not valid: {0}")]
    VoucherSignature(Cause),
    /// The voucher's signer is not our manufacturer's MASA.
    #[error("the voucher is not signed by our manufacturer: {0}")]
    VoucherUntrusted(Cause),
    /// The voucher is for another device.
    #[error("the voucher is for another device: {0}")]
    VoucherSerial(Cause),
    /// idevid-issuer is not ours.
    #[error("the voucher is for a device of another issuer: {0}")]
    VoucherIssuer(Cause),
    /// The voucher answers another request.
    #[error("the voucher answers another request: {0}")]
    VoucherNonce(Cause),
    /// A nonceless voucher against policy.
    #[error("nonceless vouchers are not accepted: {0}")]
    VoucherNonceless(Cause),
    /// The voucher's dates do not fit our clock.
    #[error("the voucher's dates do not fit: {0}")]
    VoucherTime(Cause),
    /// Policy wants another assertion.
    #[error("the voucher's assertion is not accepted: {0}")]
    VoucherAssertion(Cause),
    /// The voucher pins nothing.
    #[error("the voucher pins no domain: {0}")]
    VoucherNoPin(Cause),
    /// The voucher demands a revocation check that cannot be made.
    #[error("the voucher demands a revocation check: {0}")]
    VoucherRevocation(Cause),
    /// The registrar's certificate does not stand under the pinned one.
    #[error("the registrar's certificate does not lead to the pinned one: {0}")]
    PinMismatch(Cause),
    /// The CA certificates cannot be used.
    #[error("the CA certificates cannot be used: {0}")]
    CaCertificates(Cause),
    /// The CSR attributes cannot be used.
    #[error("the CSR attributes cannot be used: {0}")]
    CsrAttributes(Cause),
    /// The certificate that was issued cannot be used.
    #[error("the issued certificate cannot be used: {0}")]
    Certificate(Cause),
    /// The IDevID lacks what the protocol needs.
    #[error("the IDevID cannot be used: {0}")]
    Idevid(Cause),
    /// Our own side failed.
    #[error("the device failed: {0}")]
    Internal(Cause),
}

impl Failure {
    /// What telemetry says. The reader may be an attacker, so it names the rule and nothing else
    /// ([RFC 8995 §5.7](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.7)).
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.code()
    }
}

impl Coded for Failure {
    fn code(&self) -> &'static str {
        match self {
            Self::Connection(_) => "pledge.connection",
            Self::RegistrarChain(_) => "pledge.registrar-chain",
            Self::RegistrarChanged => "pledge.registrar-changed",
            Self::Refused { .. } => "pledge.refused",
            Self::Redirect(_) => "pledge.redirect",
            Self::PendingTooLong => "pledge.pending-too-long",
            Self::AnswerTooLarge(_) => "pledge.answer-too-large",
            Self::VoucherMalformed(_) => "pledge.voucher-malformed",
            Self::VoucherMediaType(_) => "pledge.voucher-media-type",
            Self::VoucherSignature(_) => "pledge.voucher-signature",
            Self::VoucherUntrusted(_) => "pledge.voucher-untrusted",
            Self::VoucherSerial(_) => "pledge.voucher-serial",
            Self::VoucherIssuer(_) => "pledge.voucher-issuer",
            Self::VoucherNonce(_) => "pledge.voucher-nonce",
            Self::VoucherNonceless(_) => "pledge.voucher-nonceless",
            Self::VoucherTime(_) => "pledge.voucher-time",
            Self::VoucherAssertion(_) => "pledge.voucher-assertion",
            Self::VoucherNoPin(_) => "pledge.voucher-no-pin",
            Self::VoucherRevocation(_) => "pledge.voucher-revocation",
            Self::PinMismatch(_) => "pledge.pin-mismatch",
            Self::CaCertificates(_) => "pledge.ca-certificates",
            Self::CsrAttributes(_) => "pledge.csr-attributes",
            Self::Certificate(_) => "pledge.certificate",
            Self::Idevid(_) => "pledge.idevid",
            Self::Internal(_) => "pledge.internal",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Connection(_) | Self::Refused { .. } | Self::PendingTooLong => {
                Blame::PeerIncompatible
            }
            Self::Idevid(_) | Self::Internal(_) => Blame::Ours,
            Self::RegistrarChain(_)
            | Self::RegistrarChanged
            | Self::Redirect(_)
            | Self::AnswerTooLarge(_)
            | Self::VoucherMalformed(_)
            | Self::VoucherMediaType(_)
            | Self::VoucherSignature(_)
            | Self::VoucherUntrusted(_)
            | Self::VoucherSerial(_)
            | Self::VoucherIssuer(_)
            | Self::VoucherNonce(_)
            | Self::VoucherNonceless(_)
            | Self::VoucherTime(_)
            | Self::VoucherAssertion(_)
            | Self::VoucherNoPin(_)
            | Self::VoucherRevocation(_)
            | Self::PinMismatch(_)
            | Self::CaCertificates(_)
            | Self::CsrAttributes(_)
            | Self::Certificate(_) => Blame::PeerMisbehaved,
        }
    }
}
