//! Opening a registrar's voucher request: everything that needs no database.

use artifacts::{
    Assertion, Document, Envelope, Fault, OLD_COSE_MEDIA_TYPE, Proximity, SerialNumber,
    VoucherRequest, open,
    verify::{
        CheckResult, Outcome, RegistrarRequestContext, Trust, VerifiedRegistrarRequest,
        verify_registrar_request,
    },
};
use pki::{Certificate, PublicKey, path::Anchors};
use time::OffsetDateTime;

use super::{DeviceKey, Domain, Policy, Refusal};
use crate::{
    cause::Cause,
    digest::sha256_fields,
    identity::{SerialRule, issuer_key_id},
    media::{self, Acceptable, CoseName},
};

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
    pub(crate) cose_name: CoseName,
    pub(crate) domain: Domain,
    pub(crate) device: DeviceKey,
    pub(crate) prior: Option<Prior>,
    pub(crate) oddities: Vec<artifacts::Oddity>,
}

/// What the pledge's own request proved.
#[derive(Clone, Debug)]
pub struct Prior {
    /// The IDevID that signed it, validated against this manufacturer's anchors.
    pub idevid: Certificate,
    /// Whether the registrar that the pledge saw is the one that signed the outer request.
    pub proximity: bool,
    /// The registrar's key, if the pledge named it by that and not by a certificate.
    pub seen_key: Option<KeyPin>,
}

/// A public key as requests name it and vouchers pin it.
#[derive(Clone, Debug)]
pub enum KeyPin {
    /// The key itself.
    PublicKey(PublicKey),
    /// The SHA-256 of its SubjectPublicKeyInfo.
    Sha256([u8; 32]),
}

impl KeyPin {
    /// The SHA-256 of the SubjectPublicKeyInfo, whichever form it is.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        match self {
            Self::PublicKey(key) => key.sha256(),
            Self::Sha256(hash) => *hash,
        }
    }
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
            // BRSKI-5.5.5-04: "If these checks succeed, the MASA updates the voucher and audit-log
            // assertion leafs with the proximity assertion".
            Some(prior) if prior.proximity && !defects::seeded!("masa-never-asserts-proximity") => {
                Assertion::Proximity
            }
            _ if defects::seeded!("masa-asserts-proximity-always") => Assertion::Proximity,
            _ if defects::seeded!("masa-asserts-what-is-claimed") => {
                self.content.assertion.unwrap_or(Assertion::Logged)
            }
            _ if defects::seeded!("masa-believes-own-proximity")
                && self.content.proximity().next().is_some() =>
            {
                Assertion::Proximity
            }
            // BRSKI-5.5.5-05: not without the pledge's own signed word.
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

    /// The voucher formats that may be sent, best first.
    #[must_use]
    pub fn formats(&self) -> &[Envelope] {
        &self.formats
    }

    /// The media type of an answer in this format: COSE has two names, and the answer bears the one
    /// in which the registrar asks.
    #[must_use]
    pub fn media_type_of(&self, envelope: Envelope) -> &'static str {
        self.cose_name.of(envelope)
    }

    /// What was odd about the request and let pass by a named tolerance.
    #[must_use]
    pub fn oddities(&self) -> &[artifacts::Oddity] {
        &self.oddities
    }

    /// The same device, domain, nonce and format give the same fingerprint, also if the registrar
    /// signs its request again. The nonce of a nonceless request is the empty string, which no
    /// nonce can be.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let key = |certificate: Option<&Certificate>| {
            certificate.map_or([0; 32], |certificate| certificate.public_key().sha256())
        };
        let format = self.formats.first().map_or("", |format| format.name());
        sha256_fields(&[
            b"usher voucher request 1",
            self.device.issuer_key_id.as_deref().unwrap_or_default(),
            self.device.serial.as_bytes(),
            &key(self.domain.chain.first()),
            &key(self.domain.chain.last()),
            self.nonce().unwrap_or_default().as_bytes(),
            format.as_bytes(),
        ])
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
    // BRSKI-5.6-19: "A 415 (Unsupported Media Type) response is appropriate for a request that has
    // a voucher-request or Accept value that is not understood."
    if inbound.body.is_empty() && defects::seeded!("masa-fails-on-empty-body") {
        return Err(Refusal::Internal(Cause::new("masa.internal", "nothing")));
    }
    let envelope = envelope(inbound, policy)?;
    let shown = || inbound.accept.unwrap_or_default().to_owned();
    let formats = match media::acceptable(inbound.accept, envelope) {
        Acceptable::These(formats) => formats,
        Acceptable::NotUnderstood if defects::seeded!("masa-ignores-accept") => vec![envelope],
        Acceptable::NoneOfOurs => return Err(Refusal::NotAcceptable(shown())),
        Acceptable::NotUnderstood => return Err(Refusal::AcceptNotUnderstood(shown())),
    };
    open_as(
        inbound,
        envelope,
        formats,
        devices,
        policy,
        policy.request_age_max,
        now,
    )
}

/// Opens the same request when it is posted to `requestauditlog`: its age does not matter, because
/// a registrar may ask for the log at any later time, and `Accept` speaks of the log.
///
/// # Errors
/// The first check that fails.
pub fn open_audit_request(
    inbound: Inbound<'_>,
    devices: &Devices,
    policy: &Policy,
    now: OffsetDateTime,
) -> Result<Request, Refusal> {
    let envelope = envelope(inbound, policy)?;
    open_as(
        inbound,
        envelope,
        vec![envelope],
        devices,
        policy,
        None,
        now,
    )
}

fn envelope(inbound: Inbound<'_>, policy: &Policy) -> Result<Envelope, Refusal> {
    let content_type = inbound.content_type.unwrap_or_default();
    if defects::seeded!("masa-takes-any-media-type") {
        return Ok(Envelope::Cms);
    }
    if defects::seeded!("masa-compares-media-type-octets")
        && !Envelope::ALL
            .iter()
            .any(|one| one.media_type() == content_type)
    {
        return Err(Refusal::MediaType(content_type.to_owned()));
    }
    // Deployed registrars know COSE vouchers by the old name only, and it says the same.
    if media::essence(content_type) == OLD_COSE_MEDIA_TYPE {
        return Ok(Envelope::Cose);
    }
    Envelope::from_media_type(content_type, &policy.tolerances)
        .map(|(envelope, _)| envelope)
        .map_err(|_| Refusal::MediaType(content_type.to_owned()))
}

fn open_as(
    inbound: Inbound<'_>,
    envelope: Envelope,
    formats: Vec<Envelope>,
    devices: &Devices,
    policy: &Policy,
    age_max: Option<time::Duration>,
    now: OffsetDateTime,
) -> Result<Request, Refusal> {
    let tolerances = &policy.tolerances;
    let signed = open(Document::Request, inbound.body, Some(envelope), tolerances)
        .map_err(|error| malformed(Cause::of(&error)))?;
    let now_or_never = (!defects::seeded!("masa-accepts-expired-registrar")).then_some(now);
    let rule = devices.serial.clone();
    let serial_of =
        move |certificate: &Certificate| rule.serial_of(certificate).and_then(SerialNumber::new);
    let context = RegistrarRequestContext {
        pledge: Some(Trust {
            intermediates: &devices.intermediates,
            // IDevIDs outlive their nominal validity in warehouses; the MASA knows its own devices
            // and judges them by the register instead.
            ..Trust::new(&devices.anchors, None)
        }),
        age_max,
        serial_rule: Some(&serial_of),
        ..RegistrarRequestContext::new(now_or_never)
    };
    let outcome = verify_registrar_request(&signed, &context, tolerances);
    if let Some(refusal) = refusal_of(&outcome) {
        return Err(refusal);
    }
    let (_, oddities, result) = outcome.into_parts();
    let verified = result.map_err(|error| Refusal::RequestMalformed(Cause::of(&error)))?;
    let mut verified = verified;
    if defects::seeded!("masa-pins-from-the-bag") {
        for one in signed.dangerous_peek().certificates() {
            if !verified.signer_path.contains(one) {
                verified.signer_path.push(one.clone());
            }
        }
    }
    let prior = verified.prior.as_ref().and_then(|prior| {
        let idevid = prior.signer_path.first()?.clone();
        Some(Prior {
            idevid,
            proximity: verified.proximity_proven,
            // VCB-035: the hash comes before the key, and the key before the certificate.
            seen_key: prior
                .request
                .proximity()
                .next()
                .and_then(|seen| match seen {
                    Proximity::PublicKeySha256(hash) => Some(KeyPin::Sha256(*hash)),
                    Proximity::PublicKey(key) => Some(KeyPin::PublicKey(key.clone())),
                    _ => None,
                }),
        })
    });
    let device = match &verified.prior {
        Some(prior) if defects::seeded!("masa-trusts-any-device") => DeviceKey {
            issuer_key_id: None,
            serial: prior.serial_number.as_str().to_owned(),
        },
        Some(prior) if defects::seeded!("masa-copies-serial-from-request") => DeviceKey {
            issuer_key_id: issuer_key_id(&prior.signer_path),
            serial: verified.request.serial_number.as_str().to_owned(),
        },
        Some(prior) => DeviceKey {
            issuer_key_id: issuer_key_id(&prior.signer_path),
            serial: prior.serial_number.as_str().to_owned(),
        },
        None => DeviceKey {
            issuer_key_id: verified
                .request
                .idevid_issuer
                .as_ref()
                .and_then(|issuer| issuer.key_id())
                .map(<[u8]>::to_vec),
            serial: verified.request.serial_number.as_str().to_owned(),
        },
    };
    let mut path = verified.signer_path.into_iter();
    let registrar = path.next().ok_or_else(|| {
        Refusal::RegistrarChain(Cause::new("path.unknown-issuer", "the path is empty"))
    })?;
    Ok(Request {
        content: verified.request,
        envelope,
        formats,
        cose_name: CoseName::asked_for(inbound.content_type, inbound.accept),
        domain: Domain::new(registrar, path),
        device,
        prior,
        oddities,
    })
}

fn malformed(cause: Cause) -> Refusal {
    if defects::seeded!("masa-fails-on-garbage") {
        return Refusal::Internal(cause);
    }
    Refusal::RequestMalformed(cause)
}

/// The refusal for the first check that failed.
fn refusal_of(outcome: &Outcome<VerifiedRegistrarRequest>) -> Option<Refusal> {
    let error = outcome.result().err()?;
    let fault = error.fault();
    let (name, detail) = outcome
        .checks()
        .iter()
        .find_map(|check| match &check.result {
            CheckResult::Failed { detail, .. } => Some((check.name, detail.as_str())),
            CheckResult::Passed | CheckResult::NotMade { .. } => None,
        })?;
    let cause = Cause::of(error);
    Some(match (name, fault) {
        ("signature", _) => Refusal::RequestSignature(cause),
        ("trust" | "peer", _) => Refusal::RegistrarChain(cause),
        ("registrar", _) => Refusal::RegistrarNotRa,
        ("created-on", Some(Fault::InFuture)) => Refusal::RequestFromFuture(cause),
        ("created-on", _) => Refusal::RequestStale(cause),
        ("no-own-proximity", _) => Refusal::ProximityCertInRequest,
        ("idevid-issuer", Some(Fault::IdevidIssuerMissing)) => Refusal::IdevidIssuerMissing,
        ("idevid-issuer" | "prior-idevid-issuer", _) => Refusal::IdevidIssuerMismatch,
        ("prior-nonce", _) => Refusal::PriorNonceMismatch,
        ("prior-serial-number", _) | (_, Some(Fault::PriorSerialMismatch)) => {
            Refusal::PriorSerialMismatch
        }
        ("prior-proximity", Some(Fault::ProximityMismatch)) => Refusal::ProximityMismatch,
        ("prior-proximity", _) => Refusal::ProximityMissing,
        ("prior-signature", _) => prior_refusal(cause, detail),
        ("content", Some(Fault::BadNonce)) => Refusal::NonceLength,
        _ => Refusal::RequestMalformed(cause),
    })
}

/// The pledge's own request was judged as one check; its text begins with the code of the one that
/// failed inside.
fn prior_refusal(cause: Cause, detail: &str) -> Refusal {
    if detail.contains(": path.") {
        return Refusal::PriorNotOurDevice(cause);
    }
    let signature = ["signature-invalid", "digest", "signed-attributes", "signer"];
    if signature.iter().any(|part| detail.contains(part)) {
        return Refusal::PriorSignature(cause);
    }
    Refusal::PriorMalformed(cause)
}
