//! Opening a registrar's voucher request: everything that needs no database.

use artifacts::{Assertion, Envelope, VoucherRequest};
use pki::{Certificate, path::Anchors};
use time::OffsetDateTime;

use super::{DeviceKey, Domain, Policy, Refusal};
use crate::identity::SerialRule;

/// A request as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The body.
    pub body: &'a [u8],
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Accept`.
    pub accept: Option<&'a str>,
}

/// The anchors under which this manufacturer's devices were made, and how they are named.
#[derive(Clone, Debug)]
pub struct Devices {
    /// Anchors of IDevIDs.
    pub anchors: Anchors,
    /// Intermediates that devices do not send along.
    pub intermediates: Vec<Certificate>,
    /// Where the serial number stands.
    pub serial: SerialRule,
}

/// A registrar's voucher request whose signatures are proven and whose fields are consistent.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) content: VoucherRequest,
    pub(crate) envelope: Envelope,
    pub(crate) formats: Vec<Envelope>,
    pub(crate) domain: Domain,
    pub(crate) device: DeviceKey,
    pub(crate) prior: Option<Prior>,
    pub(crate) body_digest: [u8; 32],
}

/// What the pledge's own request proved.
#[derive(Clone, Debug)]
pub struct Prior {
    /// The IDevID that signed it, validated against this manufacturer's anchors.
    pub idevid: Certificate,
    /// Whether the registrar that the pledge saw is the one that signed the outer request.
    pub proximity: bool,
}

impl Request {
    /// Which device it is about: from the validated IDevID if the pledge's own request is there,
    /// otherwise as the registrar claims.
    #[must_use]
    pub fn device_key(&self) -> &DeviceKey {
        &self.device
    }

    /// The domain that asks.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The nonce, as the opaque string that it is.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.content.nonce.as_ref().map(artifacts::Nonce::as_str)
    }

    /// What the pledge's own request proved, if it was there.
    #[must_use]
    pub fn prior(&self) -> Option<&Prior> {
        self.prior.as_ref()
    }

    /// The assertion that the request proves by itself: proximity or logged.
    #[must_use]
    pub fn proven_assertion(&self) -> Assertion {
        match &self.prior {
            Some(prior) if prior.proximity => Assertion::Proximity,
            _ => Assertion::Logged,
        }
    }

    /// The content of the request.
    #[must_use]
    pub fn content(&self) -> &VoucherRequest {
        &self.content
    }

    /// The envelope of the request.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        self.envelope
    }

    /// The same device, domain, nonce and format give the same fingerprint, also if the registrar
    /// signs its request again; nonceless requests differ by their bytes.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        todo!()
    }
}

/// Opens a voucher request: media type, envelope, signature, chain, purpose, fields, the pledge's
/// own request inside, in the order of [RFC 8995 §5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5).
///
/// # Errors
/// The first check that fails.
pub fn open_request(
    inbound: Inbound<'_>,
    devices: &Devices,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Request, Refusal> {
    let _ = (inbound, devices, policy, now);
    todo!()
}

/// Opens the same request when it is posted to `requestauditlog`: its age does not matter, because
/// a registrar may ask for the log at any later time.
///
/// # Errors
/// The first check that fails.
pub fn open_audit_request(
    inbound: Inbound<'_>,
    devices: &Devices,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Request, Refusal> {
    let _ = (inbound, devices, policy, now);
    todo!()
}
