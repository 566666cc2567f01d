//! The MASA's judgement of a registrar's request
//! ([RFC 8995 §5.5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5.2) to
//! [§5.5.6](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5.6)).

use pki::path::{Anchors, Purpose};
use pki::{Certificate, Unverified, VerifiedSigner};
use time::{Duration, OffsetDateTime};

use super::pledge_request::{
    PledgeRequestContext, ProximityTarget, SerialRule, VerifiedPledgeRequest, verify_pledge_request,
};
use super::trust::{temporary_anchor, temporary_anchor_by_name};
use super::voucher::same_nonce;
use super::{Check, CheckResult, Checks, Outcome, Trust};
use crate::date;
use crate::envelope::{Envelope, Signed, open};
use crate::error::{Document, Error, Fault};
use crate::leaf::{IdevidIssuer, Nonce, SerialNumber};
use crate::request::VoucherRequest;
use crate::tolerances::{Oddity, Tolerances};

/// How far in the future a request's date may lie: clocks differ.
const CLOCK_SKEW_MAX: Duration = Duration::minutes(5);

/// What a MASA knows when it judges a registrar's request.
#[derive(Clone, Copy)]
pub struct RegistrarRequestContext<'a> {
    /// Anchors of domains that are known. `None` lets the top of the chain that came along be
    /// a temporary anchor: the request is then consistent, its origin is not authenticated.
    pub domain: Option<Trust<'a>>,
    /// The manufacturer's anchors for IDevIDs. With `None` the request inside is only held against
    /// the outer one, and nothing is proven by it.
    pub pledge: Option<Trust<'a>>,
    /// The time, for a request from an unknown domain.
    pub now: Option<OffsetDateTime>,
    /// The certificate that the TLS client proved to have: the signer's, or another of the same
    /// domain.
    pub peer: Option<&'a Certificate>,
    /// The serial number that the request must be for, when it is known from elsewhere.
    pub serial_number: Option<&'a SerialNumber>,
    /// The nonce that the request must have, when it is known from elsewhere.
    pub nonce: Option<&'a Nonce>,
    /// The pledge's request that must be inside, when it is known from elsewhere.
    pub prior: Option<&'a [u8]>,
    /// The TLS server certificate that the pledge saw, when it is known from elsewhere.
    pub server_certificate: Option<&'a Certificate>,
    /// The device's IDevID, when it is known from elsewhere.
    pub idevid: Option<&'a Certificate>,
    /// How old a request may be; `None` does not judge its date.
    pub age_max: Option<Duration>,
    /// The manufacturer's rule to take a serial number from an IDevID; `None` takes the
    /// subject's serialNumber.
    pub serial_rule: Option<&'a SerialRule<'a>>,
}

impl<'a> RegistrarRequestContext<'a> {
    /// A domain that is not known, and a time.
    #[must_use]
    pub fn new(now: Option<OffsetDateTime>) -> Self {
        Self {
            domain: None,
            pledge: None,
            now,
            peer: None,
            serial_number: None,
            nonce: None,
            prior: None,
            server_certificate: None,
            idevid: None,
            age_max: None,
            serial_rule: None,
        }
    }

    /// The same with the manufacturer's anchors for IDevIDs.
    #[must_use]
    pub fn with_pledge(self, pledge: Trust<'a>) -> Self {
        Self {
            pledge: Some(pledge),
            ..self
        }
    }
}

impl std::fmt::Debug for RegistrarRequestContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrarRequestContext")
            .finish_non_exhaustive()
    }
}

/// A registrar's request that was judged good.
#[derive(Clone, Debug)]
pub struct VerifiedRegistrarRequest {
    /// The request.
    pub request: VoucherRequest,
    /// The path of the registrar's certificate, its own first. Only what is in it may be
    /// pinned (BRSKI-5.5.2-03).
    pub signer_path: Vec<Certificate>,
    /// Whether the path ends at an anchor that was known before.
    pub domain_known: bool,
    /// The pledge's own request, when there is one and it was judged good.
    pub prior: Option<VerifiedPledgeRequest>,
    /// Whether the pledge's request proves that it saw this registrar.
    pub proximity_proven: bool,
}

const CONTENT_CHECKS: [&str; 10] = [
    "registrar",
    "content",
    "created-on",
    "no-own-proximity",
    "idevid-issuer",
    "prior-signature",
    "prior-proximity",
    "prior-serial-number",
    "prior-idevid-issuer",
    "prior-nonce",
];

/// Judges a registrar's request as a MASA does.
#[must_use]
pub fn verify_registrar_request(
    signed: &Unverified<Signed>,
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) -> Outcome<VerifiedRegistrarRequest> {
    let mut checks = Checks::new(Document::Request);
    let value = judge(&mut checks, signed, context, tolerances);
    checks.finish(value)
}

fn judge(
    checks: &mut Checks,
    signed: &Unverified<Signed>,
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) -> Option<VerifiedRegistrarRequest> {
    let mut known = context
        .domain
        .map(|trust| trust.known_certificates())
        .unwrap_or_default();
    known.extend(context.peer.cloned());
    // BRSKI-5.5.3-01: the RVR CMS signature is verified.
    let Some((signer, payload)) = checks.signature(signed, tolerances, &known) else {
        checks.rest_not_made(&["trust", "peer"], "the signature does not verify");
        checks.rest_not_made(&CONTENT_CHECKS, "the signature does not verify");
        return None;
    };
    let cose = signed.dangerous_peek().cose();
    let bag = cose.is_some_and(|cose| !cose.names_signer());
    let (signer, (path, domain_known)) = trusted_signer(signer, bag, context, tolerances);
    let Some(signer_path) = checks.record("trust", path) else {
        checks.not_made("peer", "the signer is not trusted");
        checks.rest_not_made(&CONTENT_CHECKS, "the signer is not trusted");
        return None;
    };
    match context.peer {
        None => checks.not_made("peer", "no certificate of the peer was given"),
        Some(peer) => {
            let detail = "the peer is of another domain than the signer";
            checks.compare(
                "peer",
                same_domain(peer, &signer_path),
                Fault::SignerMismatch,
                detail,
            );
        }
    }
    // BRSKI-5.5.4-01: the id-kp-cmcRA extended key usage exists in the certificate of the
    // entity that signed the registrar voucher-request.
    let cmc_ra = signer.certificate().has_cmc_ra();
    let detail = "the signer's certificate does not have the key purpose cmcRA";
    let is_registrar = cmc_ra || defects::seeded!("masa-skips-cmcra");
    checks.compare("registrar", is_registrar, Fault::NotRegistrar, detail);

    let envelope = signed.dangerous_peek().envelope();
    let content = VoucherRequest::from_payload(payload, envelope, tolerances);
    let Some((request, mut oddities)) = checks.record("content", content) else {
        checks.rest_not_made(
            CONTENT_CHECKS.get(2..).unwrap_or_default(),
            "no request to look at",
        );
        return None;
    };
    checks.oddities.append(&mut oddities);
    created_on(checks, &request, context);
    known_leaves(checks, &request, context, tolerances);
    no_own_proximity(checks, &request, tolerances);
    idevid_issuer(checks, &request, context, tolerances);
    let (prior, proximity_proven) =
        prior(checks, &request, &signer, &signer_path, context, tolerances);
    Some(VerifiedRegistrarRequest {
        request,
        signer_path,
        domain_known,
        prior,
        proximity_proven,
    })
}

/// The signer's certificate and its path. In an unordered bag several certificates may have the
/// signer's key, a renewed one as a rule.
fn trusted_signer(
    signer: VerifiedSigner,
    bag: bool,
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) -> (VerifiedSigner, (Result<Vec<Certificate>, Error>, bool)) {
    let first = path(&signer, context, tolerances);
    // COS-017: the verifier must bind identity by other means than the bag, which nobody signed:
    // what counts is the certificate that leads to an anchor.
    if bag && first.0.is_err() {
        for other in signer.candidates().to_vec() {
            if let Some(signer) = signer.under(&other) {
                let another = path(&signer, context, tolerances);
                if another.0.is_ok() {
                    return (signer, another);
                }
            }
        }
    }
    (signer, first)
}

/// BRSKI-5.5.2-01: if the domain's CA is unknown to the MASA, then it is considered a
/// temporary trust anchor.
fn path(
    signer: &VerifiedSigner,
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) -> (Result<Vec<Certificate>, Error>, bool) {
    // A signer without cmcRA fails the check of that name, not the path.
    let registrar = signer.certificate().has_cmc_ra();
    let purpose = if registrar {
        Purpose::Registrar
    } else {
        Purpose::Any
    };
    match context.domain {
        Some(trust) => (trust.path(signer, purpose, tolerances), true),
        None => {
            let (leaf, candidates) = (signer.certificate(), signer.candidates());
            let by = |anchor: Certificate| {
                Trust::new(&anchor.into(), context.now).path(signer, purpose, tolerances)
            };
            let path = by(temporary_anchor_by_name(leaf, candidates))
                .or_else(|_| by(temporary_anchor(leaf, candidates)));
            (path, false)
        }
    }
}

/// Whether the certificate is the signer's or was signed by a CA of its path.
fn same_domain(peer: &Certificate, path: &[Certificate]) -> bool {
    path.iter().any(|one| one.der() == peer.der())
        || path.iter().skip(1).any(|issuer| {
            peer.issuer_der() == issuer.subject_der()
                && peer.verify_signature_by(issuer.public_key()).is_ok()
        })
}

/// What the caller knows of the request from elsewhere.
fn known_leaves(
    checks: &mut Checks,
    request: &VoucherRequest,
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) {
    match context.serial_number {
        None => checks.not_made("serial-number", "no serial number was given"),
        Some(known) => {
            let same = request.serial_number == *known;
            let detail = format!("the request is for {}, not {known}", request.serial_number);
            checks.compare("serial-number", same, Fault::SerialMismatch, &detail);
        }
    }
    match (context.nonce, &request.nonce) {
        (None, _) => checks.not_made("nonce", "no nonce was given"),
        (Some(_), None) => {
            checks.compare(
                "nonce",
                false,
                Fault::NonceMissing,
                "the request has no nonce",
            );
        }
        (Some(known), Some(found)) => {
            let same = same_nonce(found, known, tolerances, &mut checks.oddities);
            checks.compare(
                "nonce",
                same,
                Fault::NonceMismatch,
                "the nonce is another one",
            );
        }
    }
    match (context.prior, &request.prior_signed_voucher_request) {
        (None, _) => checks.not_made("prior", "no request of the pledge was given"),
        (Some(_), None) => checks.not_made("prior", "there is no request of the pledge inside"),
        (Some(known), Some(found)) => {
            // BRSKI-5.5-13: the entire CMS-signed structure is to be included.
            let detail = "the request inside is not the pledge's";
            checks.compare("prior", known == found, Fault::PriorMismatch, detail);
        }
    }
}

fn created_on(
    checks: &mut Checks,
    request: &VoucherRequest,
    context: &RegistrarRequestContext<'_>,
) {
    let now = context.domain.map_or(context.now, |trust| trust.now);
    let (Some(now), Some(age_max)) = (now, context.age_max) else {
        return checks.not_made("created-on", "no limit of age was given");
    };
    let Some(created_on) = request.created_on else {
        return checks.not_made("created-on", "the request has none");
    };
    let text = date::format(created_on);
    let result = if defects::seeded!("masa-skips-age") {
        Ok(())
    } else if created_on - now > CLOCK_SKEW_MAX {
        Err(checks.fail(Fault::InFuture, format!("the request is dated {text}")))
    } else if now - created_on > age_max {
        Err(checks.fail(Fault::Stale, format!("the request is dated {text}")))
    } else {
        Ok(())
    };
    checks.record("created-on", result);
}

fn no_own_proximity(checks: &mut Checks, request: &VoucherRequest, tolerances: &Tolerances) {
    // BRSKI-5.5-14: the proximity-registrar-cert field MUST NOT be present in the registrar
    // voucher-request. BRSKI-5.5-15: it is never evidence.
    let present = request.proximity().next().is_some();
    if present && tolerances.registrar_proximity {
        let detail = "the registrar's request names a registrar; it is ignored";
        checks
            .oddities
            .push(Oddity::new("registrar-proximity", detail));
    }
    let tolerated =
        tolerances.registrar_proximity || defects::seeded!("masa-believes-own-proximity");
    let holds = !present || tolerated;
    let detail = "a registrar's request must not have proximity-registrar-cert";
    checks.compare(
        "no-own-proximity",
        holds,
        Fault::ProximityNotAllowed,
        detail,
    );
}

fn idevid_issuer(
    checks: &mut Checks,
    request: &VoucherRequest,
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) {
    let result = match (&request.idevid_issuer, context.idevid) {
        // VOUCHERBIS-6.1-01: the 'idevid-issuer' Attribute MUST be included in a Registrar
        // Voucher Request (RVR).
        (None, _) if !tolerances.idevid_issuer_missing => {
            let detail = "a registrar's request must have idevid-issuer";
            Err(checks.fail(Fault::IdevidIssuerMissing, detail))
        }
        (None, _) => {
            checks.oddities.push(Oddity::new(
                "idevid-issuer-missing",
                "in a registrar's request",
            ));
            Ok(())
        }
        (Some(found), Some(idevid)) if !found.matches(&IdevidIssuer::of(idevid)) => {
            let detail = "idevid-issuer is not that of the device's IDevID";
            Err(checks.fail(Fault::IdevidIssuerMismatch, detail))
        }
        (Some(_), _) => Ok(()),
    };
    checks.record("idevid-issuer", result);
}

/// The pledge's request inside.
fn prior(
    checks: &mut Checks,
    request: &VoucherRequest,
    signer: &VerifiedSigner,
    signer_path: &[Certificate],
    context: &RegistrarRequestContext<'_>,
    tolerances: &Tolerances,
) -> (Option<VerifiedPledgeRequest>, bool) {
    let names = CONTENT_CHECKS.get(5..).unwrap_or_default();
    let Some(bytes) = &request.prior_signed_voucher_request else {
        checks.rest_not_made(names, "there is no request of the pledge inside");
        return (None, false);
    };
    let opened = open(Document::Request, bytes, None, tolerances);
    let Ok(inner) = opened else {
        let detail = opened
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        let error = checks.fail(
            Fault::PriorInvalid,
            format!("the pledge's request: {detail}"),
        );
        checks.record::<()>("prior-signature", Err(error));
        checks.rest_not_made(
            names.get(1..).unwrap_or_default(),
            "the request does not open",
        );
        return (None, false);
    };
    // Without anchors the inner signer's own chain stands in for them, and that is not counted.
    let around = signer.candidates();
    let stand_in = context
        .pledge
        .is_none()
        .then(|| own_anchor(&inner, around, tolerances));
    let stand_in = stand_in.unwrap_or_default();
    let trust = context
        .pledge
        .unwrap_or_else(|| Trust::new(&stand_in, None));
    let chain = proximity_chain(signer, signer_path);
    let judged = verify_pledge_request(
        &inner,
        &PledgeRequestContext {
            trust,
            peer: None,
            idevid: context.idevid,
            // CBR-117: The MASA can verify the PVR from the IDevID chain found in the RVR x5bag up
            // to its own root.
            candidates: around,
            nonce: None,
            serial_number: None,
            serial_rule: context.serial_rule,
            expected_serial_number: None,
            proximity: ProximityTarget::KeyInChain(&chain),
        },
        tolerances,
    );
    let (list, oddities, result) = judged.into_parts();
    checks.oddities.extend(oddities);
    // BRSKI-5.5.5-01: the inner signature is verified with the pledge's IDevID chained to a
    // manufacturer's CA. BRSKI-5.5.5-02: the proximity is that of this registrar.
    let (proximity, others): (Vec<_>, Vec<_>) = list
        .into_iter()
        .partition(|check| check.name == "proximity");
    let failed = others
        .iter()
        .any(|check| matches!(check.result, CheckResult::Failed { .. }));
    if context.pledge.is_none() && !failed {
        checks.not_made("prior-signature", "no anchors for IDevIDs were given");
    } else {
        record_inner(checks, "prior-signature", Fault::PriorInvalid, &others);
    }
    record_inner(
        checks,
        "prior-proximity",
        Fault::ProximityMismatch,
        &proximity,
    );
    let Ok(prior) = result else {
        checks.rest_not_made(
            names.get(2..).unwrap_or_default(),
            "the pledge's request is not good",
        );
        return (None, false);
    };
    agree(checks, request, &prior, tolerances);
    if let Some(server) = context.server_certificate {
        let saw = prior
            .request
            .proximity()
            .next()
            .is_some_and(|seen| seen.names(server));
        let detail = "the pledge saw another server certificate";
        checks.compare("prior-server", saw, Fault::ProximityMismatch, detail);
    }
    let proven = context.pledge.is_some();
    (proven.then_some(prior), proven)
}

fn own_anchor(
    inner: &Unverified<Signed>,
    around: &[Certificate],
    tolerances: &Tolerances,
) -> Anchors {
    let inner = inner.dangerous_peek();
    let (signer, candidates) = match inner.envelope() {
        Envelope::Cms | Envelope::Jws => (inner.signer_certificate(), inner.certificates()),
        Envelope::Cose => {
            let signer = inner.check_signature_by(tolerances, around).ok();
            (signer.map(|signer| signer.certificate().clone()), around)
        }
    };
    match signer {
        Some(signer) => temporary_anchor(&signer, candidates).into(),
        None => Anchors::new(),
    }
}

/// Where the key that the pledge saw may be: the path of the registrar's signature, or a
/// registrar's certificate beside it that the same CA signed. The second is the registrar
/// that signs requests with another key than its TLS server's; any other certificate in the
/// set proves nothing, since whoever signed could have put it there.
fn proximity_chain(signer: &VerifiedSigner, path: &[Certificate]) -> Vec<Certificate> {
    let mut chain = path.to_vec();
    if let Some(issuer) = path.get(1) {
        let siblings = signer.candidates().iter().filter(|candidate| {
            candidate.has_cmc_ra()
                && path.iter().all(|one| one.der() != candidate.der())
                && candidate.issuer_der() == issuer.subject_der()
                && candidate.verify_signature_by(issuer.public_key()).is_ok()
        });
        chain.extend(siblings.cloned());
    }
    chain
}

/// One check that stands for several of the inner request.
fn record_inner(checks: &mut Checks, name: &'static str, fault: Fault, inner: &[Check]) {
    let failed = inner.iter().find_map(|check| match &check.result {
        CheckResult::Failed { code, detail } => Some((check.name, *code, detail)),
        CheckResult::Passed | CheckResult::NotMade { .. } => None,
    });
    let made = inner
        .iter()
        .any(|check| check.result == CheckResult::Passed);
    match failed {
        Some((inner, code, detail)) => {
            let fault = match inner {
                "serial-number" => Fault::PriorSerialMismatch,
                "proximity" if code.ends_with("proximity-missing") => Fault::ProximityMissing,
                "proximity" if code.ends_with("not-proximity") => Fault::AssertionNotProximity,
                _ => fault,
            };
            let error = checks.fail(fault, format!("in the pledge's request: {code}: {detail}"));
            checks.record::<()>(name, Err(error));
        }
        None if made => {
            checks.record(name, Ok(()));
        }
        None => checks.not_made(name, "the pledge's request is not good"),
    }
}

/// What both requests say must be the same.
fn agree(
    checks: &mut Checks,
    request: &VoucherRequest,
    prior: &VerifiedPledgeRequest,
    tolerances: &Tolerances,
) {
    // BRSKI-5.5.5-03: the voucher-request serial-number leaf MUST match the pledge
    // serial-number that the MASA extracts from the signing certificate of the
    // prior-signed-voucher-request.
    let same = request.serial_number == prior.serial_number
        || defects::seeded!("masa-copies-serial-from-request");
    let detail = format!(
        "{} outside, {} inside",
        request.serial_number, prior.serial_number
    );
    checks.compare(
        "prior-serial-number",
        same,
        Fault::PriorSerialMismatch,
        &detail,
    );

    match (&request.idevid_issuer, prior.signer_path.first()) {
        (Some(found), Some(idevid)) => {
            let same = found.matches(&IdevidIssuer::of(idevid))
                || defects::seeded!("masa-trusts-any-device");
            let detail = "idevid-issuer is not that of the pledge's IDevID";
            checks.compare(
                "prior-idevid-issuer",
                same,
                Fault::IdevidIssuerMismatch,
                detail,
            );
        }
        _ => checks.not_made("prior-idevid-issuer", "the request has none"),
    }

    // BRSKI-5.5.6-01: if the RVR contains a nonce and a prior-signed-voucher-request exists,
    // then the MASA MUST verify that the nonce is consistent.
    match (&request.nonce, &prior.request.nonce) {
        (None, _) => checks.not_made("prior-nonce", "the request has none"),
        (Some(outer), Some(inner)) => {
            let same = same_nonce(outer, inner, tolerances, &mut checks.oddities)
                || defects::seeded!("masa-skips-inner-nonce");
            let detail = "the nonces of the two requests differ";
            checks.compare("prior-nonce", same, Fault::PriorNonceMismatch, detail);
        }
        (Some(_), None) => {
            let detail = "the pledge's request has no nonce";
            checks.compare("prior-nonce", false, Fault::PriorNonceMismatch, detail);
        }
    }
}
