//! The registrar's judgement of a pledge's request
//! ([RFC 8995 §5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.2) and
//! [§5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5)), which the MASA applies
//! again to the request inside a registrar's request.

use pki::path::Purpose;
use pki::{Certificate, Unverified};

use super::voucher::same_nonce;
use super::{Checks, Outcome, Trust};
use crate::envelope::{Envelope, Signed};
use crate::error::{Document, Fault};
use crate::leaf::{Assertion, IdevidIssuer, Nonce, SerialNumber};
use crate::request::VoucherRequest;
use crate::tolerances::{Oddity, Tolerances};

/// A manufacturer's rule to take a device's serial number from its IDevID.
pub type SerialRule<'a> = dyn Fn(&Certificate) -> Option<SerialNumber> + 'a;

/// What the pledge's evidence of proximity has to name.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum ProximityTarget<'a> {
    /// Not known: the check is not made.
    #[default]
    Unknown,
    /// The registrar's own TLS server certificates, one of which it showed to the pledge.
    ServerCertificate(&'a [Certificate]),
    /// One of the keys in the chain of the registrar's request.
    KeyInChain(&'a [Certificate]),
}

/// What a registrar knows when it judges a pledge's request.
#[derive(Clone, Copy)]
pub struct PledgeRequestContext<'a> {
    /// The manufacturer's anchors for IDevIDs, and the time.
    pub trust: Trust<'a>,
    /// The certificate that the TLS client proved to have.
    pub peer: Option<&'a Certificate>,
    /// The device's IDevID, when it is known from elsewhere: the signer's key must be its key.
    pub idevid: Option<&'a Certificate>,
    /// Where the certificates of the device may be that did not travel with the request, as in
    /// COSE: those that came with the registrar's request around it. They add no trust.
    pub candidates: &'a [Certificate],
    /// The nonce that the request must have, when it is known from elsewhere.
    pub nonce: Option<&'a Nonce>,
    /// The serial number that the manufacturer's rule took from `peer`. `None` asks
    /// `serial_rule`.
    pub serial_number: Option<&'a SerialNumber>,
    /// The manufacturer's rule, asked about the certificate that the signature proves. `None`
    /// takes the subject's serialNumber.
    pub serial_rule: Option<&'a SerialRule<'a>>,
    /// The device that it must be, when it is known from elsewhere.
    pub expected_serial_number: Option<&'a SerialNumber>,
    /// What the evidence of proximity has to name.
    pub proximity: ProximityTarget<'a>,
}

impl<'a> PledgeRequestContext<'a> {
    /// Nothing is known but whom to trust.
    #[must_use]
    pub fn new(trust: Trust<'a>) -> Self {
        Self {
            trust,
            peer: None,
            idevid: None,
            candidates: &[],
            nonce: None,
            serial_number: None,
            serial_rule: None,
            expected_serial_number: None,
            proximity: ProximityTarget::Unknown,
        }
    }
}

impl std::fmt::Debug for PledgeRequestContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PledgeRequestContext")
            .finish_non_exhaustive()
    }
}

/// A pledge's request that was judged good.
#[derive(Clone, Debug)]
pub struct VerifiedPledgeRequest {
    /// The request.
    pub request: VoucherRequest,
    /// The serial number as the IDevID has it.
    pub serial_number: SerialNumber,
    /// The path of the IDevID, its own certificate first.
    pub signer_path: Vec<Certificate>,
}

const CONTENT_CHECKS: [&str; 5] = [
    "content",
    "nonce",
    "serial-number",
    "idevid-issuer",
    "proximity",
];

/// Judges a pledge's request as a registrar does.
#[must_use]
pub fn verify_pledge_request(
    signed: &Unverified<Signed>,
    context: &PledgeRequestContext<'_>,
    tolerances: &Tolerances,
) -> Outcome<VerifiedPledgeRequest> {
    let mut checks = Checks::new(Document::Request);
    let value = judge(&mut checks, signed, context, tolerances);
    checks.finish(value)
}

fn judge(
    checks: &mut Checks,
    signed: &Unverified<Signed>,
    context: &PledgeRequestContext<'_>,
    tolerances: &Tolerances,
) -> Option<VerifiedPledgeRequest> {
    let envelope = signed.dangerous_peek().envelope();
    // BRSKI-5.2-13: the PVR CMS signature is verified.
    let verified = match (envelope, possible_signers(context)) {
        // CBR-123: x5bag/x5chain in a PVR is ignored: only the DTLS client certificate identifies
        // the pledge.
        (Envelope::Cose, Some(signers)) => checks.signature_by(signed, tolerances, &signers),
        _ => {
            let mut known = context.trust.known_certificates();
            known.extend(context.peer.cloned());
            checks.signature(signed, tolerances, &known)
        }
    };
    let Some((signer, payload)) = verified else {
        checks.rest_not_made(&["peer", "trust"], "the signature does not verify");
        checks.rest_not_made(&CONTENT_CHECKS, "the signature does not verify");
        return None;
    };
    // BRSKI-5.2-14: the PVR signer is the same IDevID as the TLS client certificate.
    match context.peer {
        None => checks.not_made("peer", "no certificate of the peer was given"),
        Some(peer) => {
            let same = peer.der() == signer.certificate().der()
                || defects::seeded!("registrar-skips-signer-is-peer");
            let detail = "signed with another certificate than that of the TLS client";
            checks.compare("peer", same, Fault::SignerMismatch, detail);
        }
    }
    if let Some(idevid) = context.idevid {
        let same = signer.certificate().public_key().spki_der() == idevid.public_key().spki_der();
        let detail = "signed with another key than the device's";
        checks.compare("idevid", same, Fault::SignerMismatch, detail);
    }
    let trust = context.trust;
    let mut intermediates = trust.intermediates.to_vec();
    if envelope == Envelope::Cose {
        intermediates.extend_from_slice(context.candidates);
    }
    let trust = Trust {
        intermediates: &intermediates,
        ..trust
    };
    let mut path = trust.path(&signer, Purpose::Idevid, tolerances);
    // Who compares no certificates does not find out that the signer is not the peer either.
    if defects::seeded!(
        "masa-trusts-any-device",
        "registrar-trusts-any-device",
        "registrar-skips-signer-is-peer"
    ) {
        path = path.or_else(|_| Ok(vec![signer.certificate().clone()]));
    }
    let Some(signer_path) = checks.record("trust", path) else {
        checks.rest_not_made(&CONTENT_CHECKS, "the signer is not trusted");
        return None;
    };
    let content = VoucherRequest::from_payload(payload, envelope, tolerances);
    let Some((request, mut oddities)) = checks.record("content", content) else {
        checks.rest_not_made(
            CONTENT_CHECKS.get(1..).unwrap_or_default(),
            "no request to look at",
        );
        return None;
    };
    checks.oddities.append(&mut oddities);
    nonce(checks, &request, context, tolerances);
    let serial_number = serial_number(checks, &request, signer.certificate(), context);
    idevid_issuer(checks, &request, signer.certificate());
    proximity(checks, &request, context, tolerances);
    let serial_number = serial_number?;
    Some(VerifiedPledgeRequest {
        request,
        serial_number,
        signer_path,
    })
}

/// Who can have signed, as far as the message is not asked: the peer, or the device that is
/// known, or one of the certificates around it.
pub(super) fn possible_signers(context: &PledgeRequestContext<'_>) -> Option<Vec<Certificate>> {
    if let Some(one) = context.peer.or(context.idevid) {
        // CBR-124: The PVR signature is verified with the public key of the DTLS client
        // certificate.
        return Some(vec![one.clone()]);
    }
    if context.candidates.is_empty() {
        return None;
    }
    // A device's certificate is no CA's and no registrar's, so those are tried last.
    let mut signers = context.candidates.to_vec();
    signers.sort_by_key(|one| (one.is_ca(), one.has_cmc_ra()));
    signers.extend(context.trust.known_certificates());
    Some(signers)
}

fn nonce(
    checks: &mut Checks,
    request: &VoucherRequest,
    context: &PledgeRequestContext<'_>,
    tolerances: &Tolerances,
) {
    // BRSKI-5.2-08: the PVR MUST contain a cryptographically strong nonce.
    let result = match (&request.nonce, context.nonce) {
        (None, _) => Err(checks.fail(Fault::NonceMissing, "a pledge's request must have a nonce")),
        (Some(found), Some(known))
            if !same_nonce(found, known, tolerances, &mut checks.oddities) =>
        {
            Err(checks.fail(Fault::NonceMismatch, "the nonce is another one"))
        }
        (Some(_), _) => Ok(()),
    };
    checks.record("nonce", result);
}

fn serial_number(
    checks: &mut Checks,
    request: &VoucherRequest,
    idevid: &Certificate,
    context: &PledgeRequestContext<'_>,
) -> Option<SerialNumber> {
    let certified = match (context.serial_number, context.serial_rule) {
        (Some(serial_number), _) => Some(serial_number.clone()),
        (None, Some(rule)) => rule(idevid),
        (None, None) => idevid.subject_serial_number().and_then(SerialNumber::new),
    };
    // BRSKI-5.5-10: the registrar MUST verify that the serial-number field it parsed matches
    // the serial-number field the pledge provided in its voucher-request.
    let result = match certified {
        None => Err(checks.fail(Fault::SerialMismatch, "the IDevID has no serial number")),
        Some(certified)
            if context
                .expected_serial_number
                .is_some_and(|expected| *expected != certified) =>
        {
            let detail = format!("the IDevID is {certified}, another one is expected");
            Err(checks.fail(Fault::SerialMismatch, detail))
        }
        Some(_)
            if defects::seeded!(
                "masa-skips-inner-serial",
                "registrar-copies-serial-from-request"
            ) =>
        {
            Ok(request.serial_number.clone())
        }
        Some(certified) if certified == request.serial_number => Ok(certified),
        Some(certified) => {
            let claimed = &request.serial_number;
            let detail = format!("the request is for {claimed}, the IDevID is {certified}");
            Err(checks.fail(Fault::SerialMismatch, detail))
        }
    };
    checks.record("serial-number", result)
}

fn idevid_issuer(checks: &mut Checks, request: &VoucherRequest, idevid: &Certificate) {
    // VOUCHERBIS-6.2-03: the pledge has no need to send it; if it does, it is its own.
    match &request.idevid_issuer {
        None => checks.not_made("idevid-issuer", "the request has none"),
        Some(found) => {
            let same = found.matches(&IdevidIssuer::of(idevid))
                || defects::seeded!("registrar-copies-issuer-from-request");
            let detail = "idevid-issuer is not that of the signer's certificate";
            checks.compare("idevid-issuer", same, Fault::IdevidIssuerMismatch, detail);
        }
    }
}

fn proximity(
    checks: &mut Checks,
    request: &VoucherRequest,
    context: &PledgeRequestContext<'_>,
    tolerances: &Tolerances,
) {
    if matches!(context.proximity, ProximityTarget::Unknown) {
        return checks.not_made("proximity", "no certificate of the registrar was given");
    }
    // BRSKI-5.2-11: a PVR lacking assertion proximity or proximity-registrar-cert is refused.
    let result = match (request.assertion, request.proximity().next()) {
        (Some(Assertion::Proximity), Some(seen)) => Ok(seen),
        (_, Some(seen)) if defects::seeded!("registrar-skips-assertion") => Ok(seen),
        (_, None) if defects::seeded!("registrar-skips-missing-proximity") => return,
        (None, Some(seen)) if tolerances.pledge_assertion_missing => {
            let detail = "the request names a registrar and has no assertion";
            checks
                .oddities
                .push(Oddity::new("pledge-assertion-missing", detail));
            Ok(seen)
        }
        (Some(Assertion::Proximity) | None, None) => {
            Err(checks.fail(Fault::ProximityMissing, "the request names no registrar"))
        }
        (found, _) => {
            let found = found.map_or("missing", Assertion::as_str);
            let detail = format!("assertion is {found}, it must be proximity");
            Err(checks.fail(Fault::AssertionNotProximity, detail))
        }
    };
    let result = result.and_then(|seen| {
        let holds = match context.proximity {
            // BRSKI-5.2-12: if proximity-registrar-cert is not the registrar's own TLS
            // certificate, the registrar answers HTTP 401 and closes the connection.
            ProximityTarget::ServerCertificate(own) => own.iter().any(|own| seen.names(own)),
            // BRSKI-5.5.5-02: the proximity-registrar-cert SPKI fingerprint exists within the
            // certificate chain of the registrar's signature.
            ProximityTarget::KeyInChain(chain) => chain.iter().any(|one| seen.names_key_of(one)),
            ProximityTarget::Unknown => false,
        };
        let detail = "the pledge saw another registrar";
        if holds || defects::seeded!("masa-skips-proximity", "registrar-skips-proximity") {
            Ok(())
        } else {
            Err(checks.fail(Fault::ProximityMismatch, detail))
        }
    });
    checks.record("proximity", result);
}
