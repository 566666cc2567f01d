//! The registrar's own request and the MASA's answer to it.

use artifacts::Envelope;
use pki::{Certificate, Identity};
use time::OffsetDateTime;
use url::Url;

use super::{Device, Exchange, PledgeRequest, Refusal, Step, VendorProfile};
use crate::masa::DeviceKey;

/// Which certificates go along with the registrar's request, and so what the MASA may pin
/// ([RFC 8995 §5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChainToSend {
    /// The registrar's certificate only: the tightest pin.
    EndEntity,
    /// The whole chain including the domain CA.
    #[default]
    Whole,
}

/// A POST to a MASA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasaCall {
    /// The resource.
    pub url: Url,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Accept`.
    pub accept: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What came back from a MASA.
#[derive(Clone, Debug)]
pub enum MasaAnswer<'a> {
    /// An HTTP answer.
    Http {
        /// Its status.
        status: u16,
        /// Its `Content-Type`.
        content_type: Option<&'a str>,
        /// Its body.
        body: &'a [u8],
    },
    /// No answer: why.
    Unreachable(&'a str),
}

/// A device for which a nonceless voucher is wanted ahead of time
/// ([RFC 8995 §5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5)).
#[derive(Clone, Debug)]
pub struct Nonceless {
    /// Issuer and serial number, from the sales channel.
    pub device: DeviceKey,
    /// The MASA.
    pub masa: Url,
    /// The wanted format.
    pub envelope: Envelope,
}

/// Where the MASA of a device is, by its vendor's profile.
///
/// # Errors
/// [`Refusal::MasaUrlMissing`] or [`Refusal::MasaUrlInvalid`].
pub fn masa_of(certificate: &Certificate, profile: &VendorProfile) -> Result<Url, Refusal> {
    let _ = (certificate, profile);
    todo!()
}

/// Builds and signs the registrar's request for an exchange, and notes it in the exchange.
///
/// # Errors
/// If there is no usable MASA address, or our own key fails.
pub fn masa_call(
    exchange: &mut Exchange,
    device: &Device,
    request: &PledgeRequest,
    identity: &Identity,
    chain: ChainToSend,
    profile: &VendorProfile,
    now: OffsetDateTime,
) -> Result<MasaCall, Refusal> {
    let _ = (exchange, device, request, identity, chain, profile, now);
    todo!()
}

/// Builds and signs a nonceless request for a device that is not there yet.
///
/// # Errors
/// If our own key fails.
pub fn nonceless_call(
    wanted: &Nonceless,
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<MasaCall, Refusal> {
    let _ = (wanted, identity, now);
    todo!()
}

/// Judges the MASA's answer: hands the voucher on byte for byte, or says why not.
///
/// `own_chain` is the chain that the pledge sees on its TLS connection.
#[must_use]
pub fn masa_answered(
    exchange: &Exchange,
    answer: &MasaAnswer<'_>,
    own_chain: &[Certificate],
    profile: &VendorProfile,
    now: OffsetDateTime,
) -> Step {
    let _ = (exchange, answer, own_chain, profile, now);
    todo!()
}
