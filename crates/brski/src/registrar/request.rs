//! Who the device is, and what it asks for.

use artifacts::{Envelope, VoucherRequest};
use pki::Certificate;
use time::{Duration, OffsetDateTime};

use super::{Profiles, Refusal, VendorProfile};
use crate::masa::DeviceKey;
pub use crate::masa::Inbound;

/// A device whose IDevID is valid under a vendor profile and whose possession of the key the TLS
/// connection proved.
#[derive(Clone, Debug)]
pub struct Device {
    /// Issuer and serial number.
    pub key: DeviceKey,
    /// The IDevID.
    pub certificate: Certificate,
    /// The validated path, the IDevID first, the anchor last.
    pub path: Vec<Certificate>,
    /// The name of the vendor profile.
    pub vendor: String,
}

impl Device {
    /// SHA-256 of the public key in the IDevID, in hexadecimal.
    #[must_use]
    pub fn key_digest(&self) -> String {
        hex::encode(self.certificate.public_key().sha256())
    }
}

/// Finds the vendor profile under whose anchors the TLS client's chain is valid, and takes the
/// identity by that vendor's rule.
///
/// # Errors
/// [`Refusal::NoClientCertificate`], [`Refusal::ManufacturerUnknown`], [`Refusal::IdevidInvalid`]
/// or [`Refusal::SerialMissing`].
pub fn identify(
    chain: &[Certificate],
    profiles: &Profiles,
    now: OffsetDateTime,
) -> Result<Device, Refusal> {
    let _ = (chain, profiles, now);
    todo!()
}

/// A pledge's voucher request that is signed by the connected device and fits this registrar.
#[derive(Clone, Debug)]
pub struct PledgeRequest {
    /// The bytes, for prior-signed-voucher-request.
    pub bytes: Vec<u8>,
    /// SHA-256 over the bytes, in hexadecimal.
    pub digest: String,
    /// The content.
    pub content: VoucherRequest,
    /// The envelope.
    pub envelope: Envelope,
    /// The voucher formats that the pledge accepts, best first.
    pub formats: Vec<Envelope>,
    /// The pledge's `Accept` header, to be handed on to the MASA.
    pub accept: Option<String>,
}

/// Opens a pledge's voucher request: media type, envelope, signature, signer, serial number,
/// proximity, nonce, age.
///
/// `own` are the certificates with which this registrar may have answered the TLS handshake of
/// this connection: exactly one in the normal case.
///
/// # Errors
/// The first check that fails.
pub fn open_request(
    inbound: Inbound<'_>,
    device: &Device,
    own: &[Certificate],
    profile: &VendorProfile,
    request_age_max: Option<Duration>,
    now: OffsetDateTime,
) -> Result<PledgeRequest, Refusal> {
    let _ = (inbound, device, own, profile, request_age_max, now);
    todo!()
}
