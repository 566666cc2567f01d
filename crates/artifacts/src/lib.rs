//! Every signed document that crosses a company's border: voucher, voucher request, audit log, telemetry, and their envelopes.
//!
//! Reading is in two steps. [`open`] parses the envelope and gives an
//! [`Unverified`](pki::Unverified) artefact; a function of [`verify`] judges it against
//! explicit anchors, a given time and what else the caller knows, and only that yields a
//! [`Voucher`] or [`VoucherRequest`]. Strict is the default; each departure of a known peer
//! is a switch of [`Tolerances`] and is recorded as an [`Oddity`] when it was needed.
//!
//! Specifications: RFC 8366, RFC 8995, draft-ietf-anima-rfc8366bis (2026-08-19),
//! draft-ietf-anima-jws-voucher-16, draft-ietf-anima-constrained-voucher-31.

mod audit;
pub mod bundle;
pub mod cbor;
pub mod conveyed;
mod date;
mod encoding;
mod envelope;
pub mod enveloped;
mod error;
mod json;
mod leaf;
pub mod owner;
mod read;
mod request;
mod telemetry;
mod tolerances;
pub mod verify;
mod voucher;
mod voucher_xml;
mod write;
mod xml;

pub use crate::audit::{
    AUDIT_LOG_SIZE_MAX_BYTES, AUDIT_LOG_VERSION, AuditEvent, AuditLog, TRUNCATION_COUNT_MAX,
    Truncation,
};
pub use crate::encoding::Encoding;
pub use crate::envelope::{
    ARTIFACT_SIZE_MAX_BYTES, Envelope, OLD_COSE_MEDIA_TYPE, Signed, open, sign_request,
    sign_request_with, sign_voucher,
};
pub use crate::error::{Document, Error, Fault};
pub use crate::json::{JSON_DEPTH_MAX, JSON_SIZE_MAX_BYTES};
pub use crate::leaf::{
    Assertion, DomainId, IdevidIssuer, IdevidIssuerForm, NONCE_LENGTH_BYTES, Nonce,
    SERIAL_NUMBER_LENGTH_MAX_BYTES, SerialNumber,
};
pub use crate::read::{Extension, ExtensionData};
pub use crate::request::{Proximity, REQUEST_MEMBER, RequestFields, VoucherRequest};
pub use crate::telemetry::{
    EnrollStatus, TELEMETRY_SIZE_MAX_BYTES, TELEMETRY_VERSION, VoucherStatus,
};
pub use crate::tolerances::{Oddity, Tolerances};
pub use crate::voucher::{PinnedDomainCert, VOUCHER_MEMBER, Voucher, VoucherFields};
