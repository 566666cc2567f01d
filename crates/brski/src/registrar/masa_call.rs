//! The registrar's own request and the MASA's answer to it.

use artifacts::{
    ARTIFACT_SIZE_MAX_BYTES, Assertion, Document, DomainId, Envelope, IdevidIssuer, Nonce,
    PinnedDomainCert, RequestFields, SerialNumber, Tolerances, Voucher, VoucherRequest, open,
    sign_request_with, verify::check_pin,
};
use pki::{Certificate, Identity, IncludeCertificates, SignOptions, path::Revocation};
use time::OffsetDateTime;
use url::Url;

use super::{
    Device, Exchange, MasaUrlRule, Pinned, PledgeRequest, Refusal, Stage, Step, VendorProfile,
    masa_base_url,
};
use crate::{
    cause::Cause,
    domain::DomainKey,
    masa::DeviceKey,
    media::{self, Acceptable, CoseName},
    text::excerpt,
};

/// How much of a MASA's explanation is kept.
const EXPLANATION_MAX_CHARS: usize = 500;

/// How many certificates of a pledge go along with a request in COSE: there are readers that take
/// 32 in all.
const PLEDGE_CERTIFICATES_MAX: usize = 16;

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
    /// The MASA: its base address, see [`masa_base_url`].
    pub masa: Url,
    /// The wanted format.
    pub envelope: Envelope,
    /// The name under which the MASA knows COSE.
    pub cose_name: CoseName,
}

/// Where the MASA of a device is, by its vendor's profile: the base address.
///
/// Call it only for a device that [`super::identify`] accepted: BRSKI-11.5-01, the address in an
/// untrusted IDevID is never contacted.
///
/// # Errors
/// [`Refusal::MasaUrlMissing`] or [`Refusal::MasaUrlInvalid`].
pub fn masa_of(certificate: &Certificate, profile: &VendorProfile) -> Result<Url, Refusal> {
    let extension = certificate.masa_url();
    let text = match &profile.masa_url {
        // BRSKI-5.4-03: "A registrar MAY use configuration per manufacturer to override".
        MasaUrlRule::Pinned(url) => url.clone(),
        // BRSKI-2.8-02: as last fallback, a MASA configured for the manufacturer's anchor.
        MasaUrlRule::Fallback(url) => extension.unwrap_or_else(|| url.clone()),
        MasaUrlRule::Extension => extension.ok_or(Refusal::MasaUrlMissing)?,
    };
    masa_base_url(&text)
}

/// A resource below the base address of a MASA.
pub(super) fn resource(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    url
}

/// Builds and signs the registrar's request for an exchange, and notes it in the exchange.
///
/// `identity` has to be the one that the pledge saw on its TLS connection: the MASA compares the
/// pledge's proximity-registrar-cert with the chain of this signature.
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
    let base = masa_of(&device.certificate, profile)?;
    // BRSKI-5.5-10, BRSKI-5.5-11: "The registrar MUST NOT simply copy the serial-number field
    // from a pledge voucher-request as that field is claimed but not certified."
    let mut fields = RequestFields::new(serial_number(&device.key)?);
    fields.created_on = Some(now);
    fields.assertion = Some(Assertion::Proximity);
    // BRSKI-5.5-09: "nonce: This value, if present, is copied from the pledge voucher-request."
    fields.nonce = request.content.nonce.clone();
    // VOUCHERBIS-6.1-01, VOUCHERBIS-6.1-02: idevid-issuer is included, and comes from the
    // pledge's client certificate.
    fields.idevid_issuer = Some(IdevidIssuer::of(&device.certificate));
    if defects::seeded!("registrar-copies-issuer-from-request") {
        let claimed = request.content.idevid_issuer.clone();
        fields.idevid_issuer = claimed.or(fields.idevid_issuer);
    }
    // BRSKI-5.5-13: "The entire CMS-signed structure is to be included".
    fields.prior_signed_voucher_request = Some(request.bytes.clone());
    // BRSKI-5.5-14: proximity-registrar-cert stays out.
    spoil(&mut fields, request, identity);
    let body = sign(
        fields,
        exchange.envelope,
        identity,
        chain,
        &certificates_of(device, exchange.envelope),
        now,
    )?;
    exchange.cose_name = profile.cose_name;
    exchange.registrar_request = Some(body.clone());
    exchange.masa = Some(base.to_string());
    exchange.stage = Stage::AskedMasa;
    let mut content_type = exchange.cose_name.of(exchange.envelope);
    if defects::seeded!("registrar-sends-cms-as-pkcs7") {
        content_type = "application/pkcs7-mime";
    }
    Ok(MasaCall {
        url: resource(&base, "requestvoucher"),
        content_type,
        accept: accept_of(exchange),
        body,
    })
}

/// What registrars get wrong in their requests; nothing, unless a defect is seeded.
fn spoil(fields: &mut RequestFields, request: &PledgeRequest, identity: &Identity) {
    if defects::seeded!("registrar-copies-serial-from-request") {
        fields.serial_number = request.content.serial_number.clone();
    }
    if defects::seeded!("registrar-forgets-nonce") {
        fields.nonce = None;
    }
    if defects::seeded!("registrar-forgets-issuer") {
        fields.idevid_issuer = None;
    }
    if defects::seeded!("registrar-forgets-created-on") {
        fields.created_on = None;
    }
    if defects::seeded!("registrar-forgets-prior") {
        fields.prior_signed_voucher_request = None;
    }
    if defects::seeded!("registrar-unpacks-prior") {
        fields.prior_signed_voucher_request = Some(request.content.to_json());
    }
    if defects::seeded!("registrar-adds-proximity") {
        fields.proximity_registrar_cert = identity.chain.first().cloned();
    }
}

/// What the MASA is told that the pledge accepts.
fn accept_of(exchange: &Exchange) -> String {
    if defects::seeded!("registrar-asks-for-anything-else") {
        return "application/json".to_owned();
    }
    match (exchange.envelope, &exchange.accept) {
        // BRSKI-5.5-07: "This list SHOULD be the entire list presented to the registrar in the
        // pledge's original request".
        (Envelope::Cms | Envelope::Jws, Some(accept)) => accept.clone(),
        // CBR-091: The HTTP Accept header asks for the same media type as the PVR format.
        (envelope, _) => exchange.cose_name.of(envelope).to_owned(),
    }
}

/// What goes along of the pledge's own certificates: COSE requests of a pledge have none in them.
fn certificates_of(device: &Device, envelope: Envelope) -> Vec<Certificate> {
    match envelope {
        _ if defects::seeded!("registrar-sends-other-certificates") => device.path.clone(),
        Envelope::Cms | Envelope::Jws => Vec::new(),
        // CBR-116: The RVR x5bag also contains all certificates the pledge presented in DTLS,
        // IDevID EE and all CAs. What the pledge left out and its vendor's profile knows is no
        // secret to the vendor's MASA.
        Envelope::Cose => {
            let mut all: Vec<Certificate> = Vec::new();
            for certificate in device.shown.iter().chain(&device.path) {
                if !all.contains(certificate) && all.len() < PLEDGE_CERTIFICATES_MAX {
                    all.push(certificate.clone());
                }
            }
            all
        }
    }
}

/// The POST for a request that was built and stored before: the same bytes again.
///
/// # Errors
/// [`Refusal::ExchangeUnknown`] if there is none.
pub fn repeat_call(exchange: &Exchange) -> Result<MasaCall, Refusal> {
    let mut call = super::audit_call(exchange)?;
    let base = exchange.masa.as_deref().unwrap_or_default();
    let base = Url::parse(base).map_err(|error| Refusal::MasaUrlInvalid(error.to_string()))?;
    call.url = resource(&base, "requestvoucher");
    call.accept = accept_of(exchange);
    Ok(call)
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
    let mut fields = RequestFields::new(serial_number(&wanted.device)?);
    fields.created_on = Some(now);
    // BRSKI-5.5-16: "In the case of a nonceless (offline) voucher-request, an appropriate value
    // needs to be configured from the same out-of-band source as the serial-number."
    fields.idevid_issuer = match &wanted.device.issuer_key_id {
        Some(key_id) => Some(idevid_issuer(key_id).ok_or_else(|| {
            Refusal::Internal(Cause::new(
                "request.bad-idevid-issuer",
                "the issuer's key id",
            ))
        })?),
        None => None,
    };
    // BRSKI-5.5: a registrar that seeks a nonceless voucher benefits from a less specific
    // certificate, because the registrar that uses it later may have another key.
    let body = sign(
        fields,
        wanted.envelope,
        identity,
        ChainToSend::Whole,
        &[],
        now,
    )?;
    let name = wanted.cose_name.of(wanted.envelope);
    Ok(MasaCall {
        url: resource(&wanted.masa, "requestvoucher"),
        content_type: name,
        accept: name.to_owned(),
        body,
    })
}

/// A device that its owner already has, for which a voucher with the nonce of its request is wanted
/// although the request itself is no voucher request: that of RFC 8572.
#[derive(Clone, Debug)]
pub struct OwnersNonced {
    /// Issuer and serial number.
    pub device: DeviceKey,
    /// The nonce that the device sent.
    pub nonce: Nonce,
    /// The MASA: its base address, see [`masa_base_url`].
    pub masa: Url,
    /// The wanted format.
    pub envelope: Envelope,
}

/// Builds and signs an owner's request for a voucher with a nonce, without a pledge's request in
/// it: a registrar voucher request whose `prior-signed-voucher-request` is absent
/// ([RFC 8995 §5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5)). A MASA grants it to
/// the owner to whom it sold the device.
///
/// # Errors
/// If our own key fails.
pub fn owners_nonced_call(
    wanted: &OwnersNonced,
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<MasaCall, Refusal> {
    let mut fields = RequestFields::new(serial_number(&wanted.device)?);
    fields.created_on = Some(now);
    // BRSKI-5.5-09: the nonce is copied from the device's request.
    fields.nonce = Some(wanted.nonce.clone());
    fields.idevid_issuer = match &wanted.device.issuer_key_id {
        Some(key_id) => Some(idevid_issuer(key_id).ok_or_else(|| {
            Refusal::Internal(Cause::new(
                "request.bad-idevid-issuer",
                "the issuer's key id",
            ))
        })?),
        None => None,
    };
    let body = sign(
        fields,
        wanted.envelope,
        identity,
        ChainToSend::Whole,
        &[],
        now,
    )?;
    Ok(MasaCall {
        url: resource(&wanted.masa, "requestvoucher"),
        content_type: wanted.envelope.media_type(),
        accept: wanted.envelope.media_type().to_owned(),
        body,
    })
}

/// The form of [rfc8366bis §6.3](https://datatracker.ietf.org/doc/html/draft-ietf-anima-rfc8366bis#section-6.3):
/// OCTET STRING, SEQUENCE, keyIdentifier.
fn idevid_issuer(key_id: &[u8]) -> Option<IdevidIssuer> {
    let length = u8::try_from(key_id.len())
        .ok()
        .filter(|length| *length <= 64)?;
    let mut bytes = vec![0x04, length + 4, 0x30, length + 2, 0x80, length];
    bytes.extend_from_slice(key_id);
    IdevidIssuer::from_bytes(&bytes)
}

fn serial_number(device: &DeviceKey) -> Result<SerialNumber, Refusal> {
    SerialNumber::new(device.serial.clone()).ok_or(Refusal::SerialMissing)
}

fn sign(
    fields: RequestFields,
    envelope: Envelope,
    identity: &Identity,
    chain: ChainToSend,
    others: &[Certificate],
    now: OffsetDateTime,
) -> Result<Vec<u8>, Refusal> {
    let request =
        VoucherRequest::new(fields).map_err(|error| Refusal::Internal(Cause::of(&error)))?;
    // BRSKI-5.5-04: "it SHOULD include only certificates that are a part of the chain that it
    // wishes the MASA to pin."
    let options = SignOptions {
        signing_time: Some(now),
        include_certs: match chain {
            ChainToSend::EndEntity => IncludeCertificates::Signer,
            ChainToSend::Whole => IncludeCertificates::Chain,
        },
        // CBR-101: The RVR x5bag contains every certificate the MASA needs to build the chain of
        // the RVR signature.
        extra_certs: others.to_vec(),
        ..SignOptions::default()
    };
    sign_request_with(&request, envelope, identity, &options)
        .map_err(|error| Refusal::Internal(Cause::of(&error)))
}

/// Judges the MASA's answer: hands the voucher on, or says why not. It goes on byte for byte, but
/// for the certificates beside a COSE signature, which are for registrars only.
///
/// `own_chain` is the chain that the pledge sees on its TLS connection. The registrar cannot
/// vouch for the voucher's signature, that is between the MASA and its device
/// ([RFC 8995 §5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6)); it looks inside to
/// find a voucher that this pledge is bound to refuse, and to know its own domainID.
#[must_use]
pub fn masa_answered(
    exchange: &Exchange,
    answer: &MasaAnswer<'_>,
    own_chain: &[Certificate],
    profile: &VendorProfile,
    now: OffsetDateTime,
) -> Step {
    match judge(exchange, answer, own_chain, profile, now) {
        Ok((envelope, voucher, pinned)) => Step::Voucher {
            voucher: voucher.clone(),
            envelope,
            exchange: Exchange {
                voucher: Some(voucher),
                voucher_envelope: Some(envelope),
                pinned,
                stage: Stage::VoucherSent,
                ..exchange.clone()
            },
        },
        Err(refusal) => Step::Refuse(refusal),
    }
}

type Judged = (Envelope, Vec<u8>, Option<Pinned>);

fn judge(
    exchange: &Exchange,
    answer: &MasaAnswer<'_>,
    own_chain: &[Certificate],
    profile: &VendorProfile,
    now: OffsetDateTime,
) -> Result<Judged, Refusal> {
    let (status, content_type, body) = match *answer {
        MasaAnswer::Unreachable(why) => {
            return Err(Refusal::MasaUnreachable(excerpt(
                why.as_bytes(),
                EXPLANATION_MAX_CHARS,
            )));
        }
        MasaAnswer::Http {
            status,
            content_type,
            body,
        } => (status, content_type, body),
    };
    let handed_on = match status {
        200 => defects::seeded!("registrar-hands-anything-on"),
        _ => defects::seeded!("registrar-hands-anything-on", "registrar-hands-errors-on"),
    };
    if handed_on {
        return Ok((exchange.envelope, body.to_vec(), None));
    }
    match status {
        200 => {}
        // BRSKI-5.4-06: an unexpected 401 fails gracefully, with an administrative notification.
        401 => return Err(Refusal::MasaUnauthorised),
        _ => {
            return Err(Refusal::MasaRefused {
                status,
                text: excerpt(body, EXPLANATION_MAX_CHARS),
            });
        }
    }
    if body.len() > ARTIFACT_SIZE_MAX_BYTES {
        return Err(Refusal::MasaAnswer(Cause::new(
            "voucher.too-large",
            "the voucher",
        )));
    }
    let content_type = content_type.unwrap_or_default();
    // A MASA that was asked under the old name answers under it.
    let asked_so = media::essence(content_type) == exchange.cose_name.of(exchange.envelope);
    let envelope = if asked_so {
        exchange.envelope
    } else {
        Envelope::from_media_type(content_type, &profile.tolerances)
            .map_err(|error| Refusal::MasaAnswer(Cause::of(&error)))?
            .0
    };
    let wanted = media::acceptable(exchange.accept.as_deref(), exchange.envelope);
    if !matches!(wanted, Acceptable::These(formats) if formats.contains(&envelope)) {
        let text = format!("the pledge did not ask for {}", envelope.media_type());
        return Err(Refusal::MasaAnswer(Cause::new(
            "registrar.not-acceptable",
            text,
        )));
    }
    let voucher = read(body, envelope, &profile.tolerances).map_err(Refusal::MasaAnswer)?;
    let unfit = |code: &str, text: &str| Refusal::VoucherUnfit(Cause::new(code, text));
    if voucher.serial_number.as_str() != exchange.device.serial {
        return Err(unfit("voucher.serial-mismatch", "it is for another device"));
    }
    let nonce = voucher.nonce.as_ref().map(Nonce::as_str);
    if nonce.is_some() && nonce != exchange.nonce.as_deref() {
        return Err(unfit(
            "voucher.nonce-mismatch",
            "it answers another request",
        ));
    }
    // BRSKI-5.6.2-06: the registrar's TLS server certificate chains to the pinned-domain-cert.
    // Which of several pins counts is the pledge's to know.
    let mut fits = Ok(());
    for pin in voucher.pins() {
        match check_pin(&pin, own_chain, Some(now), &[], Revocation::BestEffort) {
            Ok(_) => {
                fits = Ok(());
                break;
            }
            Err(error) => fits = Err(Refusal::VoucherUnfit(Cause::of(&error))),
        }
    }
    fits?;
    let pinned = pinned_of(&voucher, own_chain);
    let voucher = for_pledge(body, envelope).map_err(Refusal::MasaAnswer)?;
    Ok((envelope, voucher, pinned))
}

/// A voucher as the pledge gets it.
pub(super) fn for_pledge(voucher: &[u8], envelope: Envelope) -> Result<Vec<u8>, Cause> {
    if envelope != Envelope::Cose {
        return Ok(voucher.to_vec());
    }
    let signed = open(
        Document::Voucher,
        voucher,
        Some(envelope),
        &Tolerances::lenient(),
    )
    .map_err(|error| Cause::of(&error))?;
    match signed.dangerous_peek().cose() {
        // CBR-083: Before forwarding a voucher to the pledge any unprotected x5bag (32) and x5chain
        // (33) header is removed.
        // CBR-084: Removing unprotected headers leaves protected bytes, payload and signature
        // unchanged.
        Some(cose) if !cose.certificates().is_empty() || !cose.is_tagged() => cose
            .without_certificates()
            .map_err(|error| Cause::of(&error)),
        _ => Ok(voucher.to_vec()),
    }
}

/// Looks inside a voucher without believing it.
fn read(body: &[u8], envelope: Envelope, tolerances: &Tolerances) -> Result<Voucher, Cause> {
    let signed = open(Document::Voucher, body, Some(envelope), tolerances)
        .map_err(|error| Cause::of(&error))?;
    let payload = signed
        .dangerous_peek()
        .payload()
        .ok_or_else(|| Cause::new("cms.content-missing", "there is no content"))?;
    Voucher::from_payload(payload, envelope, tolerances)
        .map(|(voucher, _)| voucher)
        .map_err(|error| Cause::of(&error))
}

/// What a voucher pins, as the audit log calls it. Of a key it is the certificate in the chain that
/// the pledge sees.
fn pinned_of(voucher: &Voucher, own_chain: &[Certificate]) -> Option<Pinned> {
    let pinned = voucher.pins().find_map(|pin| match pin {
        PinnedDomainCert::Certificate(certificate) => Some(certificate.clone()),
        PinnedDomainCert::PublicKey(_) | PinnedDomainCert::PublicKeySha256(_) => own_chain
            .first()
            .filter(|own| {
                let chain = std::slice::from_ref(*own);
                check_pin(&pin, chain, None, &[], Revocation::BestEffort).is_ok()
            })
            .cloned(),
        _ => None,
    });
    let certificate = &pinned?;
    Some(Pinned {
        domain_id: DomainId::of(certificate).as_bytes().to_vec(),
        key: DomainKey::of(certificate),
    })
}

/// What a voucher pins that was loaded before; `None` if it cannot be read.
pub(super) fn pinned_in(body: &[u8], envelope: Envelope) -> Option<Pinned> {
    pinned_of(&read(body, envelope, &Tolerances::lenient()).ok()?, &[])
}
