//! Who the device is, and what it asks for.

use artifacts::{
    Document, Envelope, Fault, Nonce, SerialNumber, VoucherRequest, open,
    verify::{
        CheckResult, Outcome, PledgeRequestContext, ProximityTarget, Trust, VerifiedPledgeRequest,
        verify_pledge_request,
    },
};
use pki::{
    Certificate,
    path::{self, PathOptions, Purpose, Reason},
};
use time::{Duration, OffsetDateTime};

use super::{Profiles, Refusal, VendorProfile};
pub use crate::masa::Inbound;
use crate::{
    cause::Cause,
    digest::sha256,
    identity::issuer_key_id,
    masa::DeviceKey,
    media::{self, Acceptable, CoseName},
};

/// How far in the future a pledge's `created-on` may lie before its clock is called wrong.
const CLOCK_SKEW_MAX: Duration = Duration::minutes(5);

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
    /// What the device showed on its connection, the IDevID first.
    pub shown: Vec<Certificate>,
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
    // BRSKI-5.1-06: the registrar requires a TLS client certificate for BRSKI-EST.
    let (leaf, others) = chain.split_first().ok_or(Refusal::NoClientCertificate)?;
    let mut invalid = None;
    for profile in profiles.iter() {
        let mut material = others.to_vec();
        material.extend_from_slice(&profile.intermediates);
        let options = PathOptions {
            // BRSKI-2.6.2-02: "registrars ... can be configured to ignore the expiry" of IDevIDs,
            // per manufacturer.
            at: (!profile.ignore_expiry).then_some(now),
            purpose: Purpose::Idevid,
            tolerate_legacy_algorithms: profile.tolerances.sha1,
            ..PathOptions::default()
        };
        // BRSKI-5.1-07: the IDevID chain is validated to a configured manufacturer trust anchor.
        match path::validate(leaf, &material, &profile.anchors, &options) {
            Ok(valid) => {
                let path = valid.certificates().to_vec();
                // BRSKI-2.3.1-04: the serial number is taken from the TLS client certificate.
                let serial = profile
                    .serial
                    .serial_of(leaf)
                    .ok_or(Refusal::SerialMissing)?;
                return Ok(Device {
                    key: DeviceKey {
                        issuer_key_id: issuer_key_id(&path),
                        serial,
                    },
                    certificate: leaf.clone(),
                    path,
                    shown: chain.to_vec(),
                    vendor: profile.name.clone(),
                });
            }
            Err(_) if defects::seeded!("registrar-trusts-any-device") => {
                return believed(chain, profile);
            }
            Err(error) if forged(leaf, profile, &error) => return believed(chain, profile),
            Err(error) => match error.reason {
                Reason::UnknownIssuer | Reason::NoAnchors => {}
                _ => {
                    invalid.get_or_insert_with(|| Cause::of(&error));
                }
            },
        }
    }
    Err(match invalid {
        Some(cause) => Refusal::IdevidInvalid(cause),
        None => Refusal::ManufacturerUnknown(Cause::new(
            "path.unknown-issuer",
            "no vendor profile's anchor issued it",
        )),
    })
}

/// For seeded defects: whether the issuer's name is all that is looked at.
fn forged(leaf: &Certificate, profile: &VendorProfile, error: &pki::path::PathError) -> bool {
    defects::seeded!("registrar-trusts-the-issuer-name")
        && error.reason != Reason::NoAnchors
        && profile
            .anchors
            .iter()
            .any(|anchor| anchor.subject_der() == leaf.issuer_der())
}

/// For seeded defects: a device as it says that it is.
fn believed(chain: &[Certificate], profile: &VendorProfile) -> Result<Device, Refusal> {
    let leaf = chain.first().ok_or(Refusal::NoClientCertificate)?;
    let serial = leaf.subject_serial_number();
    Ok(Device {
        key: DeviceKey {
            issuer_key_id: issuer_key_id(chain),
            serial: serial.ok_or(Refusal::SerialMissing)?,
        },
        certificate: leaf.clone(),
        path: chain.to_vec(),
        shown: chain.to_vec(),
        vendor: profile.name.clone(),
    })
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
    /// The name of COSE in the answer.
    pub cose_name: CoseName,
    /// The pledge's `Accept` header, to be handed on to the MASA.
    pub accept: Option<String>,
    /// What was odd about the request and let pass by a named tolerance.
    pub oddities: Vec<artifacts::Oddity>,
}

impl PledgeRequest {
    /// The media type of an answer in this format: COSE has two names, and the answer bears the one
    /// in which the pledge asks.
    #[must_use]
    pub fn media_type_of(&self, envelope: Envelope) -> &'static str {
        self.cose_name.of(envelope)
    }

    /// The nonce, as the opaque string that it is.
    #[must_use]
    pub fn nonce(&self) -> Option<&str> {
        self.content.nonce.as_ref().map(Nonce::as_str)
    }
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
    let tolerances = &profile.tolerances;
    if inbound.accept.is_some_and(|accept| accept.contains(','))
        && defects::seeded!("registrar-reads-one-accept")
    {
        return Err(Refusal::NotAcceptable("a list".to_owned()));
    }
    let content_type = inbound.content_type.unwrap_or_default();
    // BRSKI-5.2-04: "Registrar implementations SHOULD anticipate future media types but, of
    // course, will simply fail the request if those types are not yet known."
    let (envelope, _) = Envelope::from_media_type(content_type, tolerances)
        .or_else(
            |error| match defects::seeded!("registrar-takes-any-media-type") {
                true => Envelope::from_media_type(Envelope::Cms.media_type(), tolerances),
                false => Err(error),
            },
        )
        .map_err(|_| Refusal::MediaType(content_type.to_owned()))?;
    let shown = || inbound.accept.unwrap_or_default().to_owned();
    let formats = match media::acceptable(inbound.accept, envelope) {
        // The MASA is asked in the format of the pledge and for that format only.
        Acceptable::These(formats)
            if envelope == Envelope::Cose && !formats.contains(&envelope) =>
        {
            return Err(Refusal::NotAcceptable(shown()));
        }
        Acceptable::These(formats) => formats,
        Acceptable::NoneOfOurs => return Err(Refusal::NotAcceptable(shown())),
        Acceptable::NotUnderstood => return Err(Refusal::AcceptNotUnderstood(shown())),
    };
    // BRSKI-5.3-03: "If the voucher-request is in an unknown format, then an HTTP 406 error code
    // is more appropriate."
    let signed = open(Document::Request, inbound.body, Some(envelope), tolerances)
        .map_err(|error| Refusal::RequestMalformed(Cause::of(&error)))?;
    let serial = SerialNumber::new(device.key.serial.clone()).ok_or(Refusal::SerialMissing)?;
    // The IDevID was validated when the device was identified, by the vendor's own rule about
    // expiry. Here it stands as the only possible signer, so it is the anchor.
    let anchors = device.certificate.clone().into();
    let context = PledgeRequestContext {
        peer: Some(&device.certificate),
        serial_number: Some(&serial),
        proximity: ProximityTarget::ServerCertificate(own),
        ..PledgeRequestContext::new(Trust::new(&anchors, None))
    };
    let outcome = verify_pledge_request(&signed, &context, tolerances);
    if let Some(refusal) = refusal_of(&outcome) {
        return Err(refusal);
    }
    let (_, oddities, result) = outcome.into_parts();
    let verified = result.map_err(|error| Refusal::RequestMalformed(Cause::of(&error)))?;
    if verified.request.created_on.is_none() && defects::seeded!("registrar-demands-created-on") {
        return Err(Refusal::RequestStale { age_s: 0 });
    }
    check_age(&verified.request, request_age_max, now)?;
    Ok(PledgeRequest {
        bytes: inbound.body.to_vec(),
        digest: hex::encode(sha256(inbound.body)),
        content: verified.request,
        envelope,
        formats,
        cose_name: CoseName::asked_for(inbound.content_type, inbound.accept),
        accept: inbound.accept.map(str::to_owned),
        oddities,
    })
}

/// A request that was made long ago is a replay. One without a date comes from a device without a
/// clock (BRSKI-5.2-07), as does one from the future; the nonce protects both.
fn check_age(
    request: &VoucherRequest,
    age_max: Option<Duration>,
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    let (Some(created_on), Some(age_max)) = (request.created_on, age_max) else {
        return Ok(());
    };
    let age = now - created_on;
    if age > age_max {
        return Err(Refusal::RequestStale {
            age_s: age.whole_seconds(),
        });
    }
    if -age > CLOCK_SKEW_MAX {
        return Err(Refusal::RequestFromFuture {
            ahead_s: (-age).whole_seconds(),
        });
    }
    Ok(())
}

/// The refusal for the first check that failed.
fn refusal_of(outcome: &Outcome<VerifiedPledgeRequest>) -> Option<Refusal> {
    let error = outcome.result().err()?;
    let name = outcome
        .checks()
        .iter()
        .find_map(|check| match &check.result {
            CheckResult::Failed { .. } => Some(check.name),
            CheckResult::Passed | CheckResult::NotMade { .. } => None,
        })?;
    let cause = Cause::of(error);
    Some(match (name, error.fault()) {
        ("signature", _) => Refusal::RequestSignature(cause),
        ("peer" | "trust", _) => Refusal::SignerMismatch,
        ("nonce", _) => Refusal::NonceMissing,
        ("serial-number", _) => Refusal::SerialMismatch,
        ("proximity", Some(Fault::ProximityMismatch)) => Refusal::ProximityMismatch,
        ("proximity", Some(Fault::AssertionNotProximity)) => Refusal::AssertionNotProximity,
        ("proximity", _) => Refusal::ProximityMissing,
        ("content", Some(Fault::BadNonce)) => Refusal::NonceLength,
        _ => Refusal::RequestMalformed(cause),
    })
}
