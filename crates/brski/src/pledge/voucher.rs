//! The checks of a voucher
//! ([RFC 8995 §5.6.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6.1),
//! [§5.6.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6.2)).

use artifacts::{
    Document, Envelope, Fault, Nonce, PinnedDomainCert, SerialNumber, Voucher, VoucherRequest,
    open,
    verify::{
        CheckResult, ExpectedNonce, Outcome, Trust, VerifiedVoucher, VoucherContext, check_pin,
        verify_voucher,
    },
};
use pki::{
    Certificate,
    cms::{CmsPolicy, SignedData},
    path::Revocation,
};
use time::{Duration, OffsetDateTime};

use super::{Clock, Config, Failure, ProximityForm};
use crate::cause::Cause;

/// How far in the future a voucher's `created-on` may lie: clocks differ.
const CLOCK_SKEW_MAX: Duration = Duration::minutes(5);

/// What the pledge knows about the voucher that it waits for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request that it sent.
    pub request: &'a [u8],
    /// The registrar's chain as shown on the provisional connection, the leaf first.
    pub registrar_chain: &'a [Certificate],
    /// The envelope that was asked for.
    pub envelope: Envelope,
}

/// Judges a voucher and, by it, the registrar.
///
/// # Errors
/// The first check that fails.
pub fn judge_voucher(
    config: &Config,
    body: &[u8],
    expected: Expected<'_>,
    now: OffsetDateTime,
) -> Result<Voucher, Failure> {
    let tolerances = &config.tolerances;
    let signed = open(Document::Voucher, body, Some(expected.envelope), tolerances)
        .map_err(|error| Failure::VoucherMalformed(Cause::of(&error)))?;
    let idevid = config.idevid_certificate()?;
    let serial = config.serial_number()?;
    let request = own_request(config, expected.request)?;
    let nonce = request.nonce.as_ref().ok_or_else(|| {
        Failure::Internal(Cause::new(
            "request.nonce-missing",
            "our own request has no nonce",
        ))
    })?;
    // BRSKI-2.6.1-01: without a clock, no date in vouchers and certificates is judged; the nonce
    // stands in for it.
    let at = config.at(now);
    let context = VoucherContext {
        serial_number: Some(&serial),
        idevid: Some(idevid),
        nonce: if config.nonceless && !defects::seeded!("pledge-demands-a-nonce") {
            ExpectedNonce::ExactlyOrNonceless(nonce)
        } else {
            ExpectedNonce::Exactly(nonce)
        },
        request: Some(&request),
        accepted_assertions: Some(&config.assertions),
        registrar_chain: Some(expected.registrar_chain),
        ..VoucherContext::new(Trust::new(&config.masa_anchors, at))
    };
    let outcome = verify_voucher(&signed, &context, tolerances);
    if let Some(failure) = failure_of(&outcome) {
        if is_overlooked(&failure) {
            return stored_voucher(config, body);
        }
        return Err(failure);
    }
    let verified = outcome
        .into_result()
        .map_err(|error| Failure::VoucherMalformed(Cause::of(&error)))?;
    // BRSKI-2.6.1-02: with a trusted clock, created-on and the CMS signingTime are judged as well.
    if config.clock == Clock::Trusted {
        let signed_at = signed
            .dangerous_peek()
            .cms()
            .and_then(|cms| signing_time(cms, config));
        for (moment, what) in [
            (verified.voucher.created_on, "created"),
            (signed_at, "signed"),
        ] {
            if moment.is_some_and(|moment| moment - now > CLOCK_SKEW_MAX)
                && !defects::seeded!("pledge-takes-vouchers-from-the-future")
            {
                let text = format!("it was {what} in the future");
                return Err(Failure::VoucherTime(Cause::new(
                    "pledge.voucher-time",
                    text,
                )));
            }
        }
    }
    Ok(verified.voucher)
}

/// Whether a seeded defect lets the pledge overlook this failure.
fn is_overlooked(failure: &Failure) -> bool {
    match failure {
        Failure::VoucherSignature(_) => defects::seeded!("pledge-skips-signature"),
        Failure::VoucherUntrusted(_) => defects::seeded!("pledge-trusts-any-signer"),
        Failure::VoucherSerial(_) => defects::seeded!("pledge-skips-serial"),
        Failure::VoucherIssuer(_) => defects::seeded!("pledge-skips-issuer"),
        Failure::VoucherNonce(_) => defects::seeded!("pledge-skips-nonce"),
        Failure::VoucherTime(_) => defects::seeded!("pledge-skips-expiry"),
        Failure::VoucherAssertion(_) => defects::seeded!("pledge-takes-any-assertion"),
        Failure::PinMismatch(_) => defects::seeded!("pledge-ignores-pin"),
        _ => false,
    }
}

/// The signingTime of a CMS whose signature was verified before; this finds its signer again.
fn signing_time(cms: &SignedData, config: &Config) -> Option<OffsetDateTime> {
    let known: Vec<Certificate> = config.masa_anchors.iter().cloned().collect();
    let signer = cms.verify(&CmsPolicy::tolerant(None), &known).ok()?;
    signer.signing_time()
}

/// What we sent, as we said it.
fn own_request(config: &Config, bytes: &[u8]) -> Result<VoucherRequest, Failure> {
    let internal = |cause| Failure::Internal(cause);
    let signed = open(
        Document::Request,
        bytes,
        Some(config.envelope),
        &config.tolerances,
    )
    .map_err(|error| internal(Cause::of(&error)))?;
    let payload = signed.dangerous_peek().payload().ok_or_else(|| {
        internal(Cause::new(
            "cms.content-missing",
            "our own request is empty",
        ))
    })?;
    VoucherRequest::from_payload(payload, config.envelope, &config.tolerances)
        .map(|(request, _)| request)
        .map_err(|error| internal(Cause::of(&error)))
}

/// The nonce of a request that we made.
pub(super) fn own_nonce(config: &Config, bytes: &[u8]) -> Result<String, Failure> {
    let request = own_request(config, bytes)?;
    Ok(request
        .nonce
        .as_ref()
        .map(Nonce::as_str)
        .unwrap_or_default()
        .to_owned())
}

fn failure_of(outcome: &Outcome<VerifiedVoucher>) -> Option<Failure> {
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
        ("signature", _) => Failure::VoucherSignature(cause),
        ("trust", _) => Failure::VoucherUntrusted(cause),
        // BRSKI-5.6.1-04: "The pledge MUST be prepared to parse and fail gracefully from a voucher
        // response that does not contain a pinned-domain-cert field."
        ("content" | "pin", Some(Fault::NoPin)) => Failure::VoucherNoPin(cause),
        ("assertion", _) => Failure::VoucherAssertion(cause),
        ("serial-number", _) => Failure::VoucherSerial(cause),
        ("idevid-issuer", _) => Failure::VoucherIssuer(cause),
        ("nonce", Some(Fault::NonceMissing)) => Failure::VoucherNonceless(cause),
        ("nonce", _) => Failure::VoucherNonce(cause),
        ("expires-on" | "created-on" | "signing-time", _) => Failure::VoucherTime(cause),
        ("pin", Some(Fault::RevocationUnknown)) => Failure::VoucherRevocation(cause),
        ("pin", _) => Failure::PinMismatch(cause),
        _ => Failure::VoucherMalformed(cause),
    })
}

/// What a stored voucher pins. It was verified before it was stored.
pub(super) fn stored_voucher(config: &Config, bytes: &[u8]) -> Result<Voucher, Failure> {
    let signed = open(Document::Voucher, bytes, None, &config.tolerances)
        .map_err(|error| Failure::Internal(Cause::of(&error)))?;
    let payload = signed.dangerous_peek().payload().ok_or_else(|| {
        Failure::Internal(Cause::new(
            "cms.content-missing",
            "the stored voucher is empty",
        ))
    })?;
    let envelope = signed.dangerous_peek().envelope();
    Voucher::from_payload(payload, envelope, &config.tolerances)
        .map(|(voucher, _)| voucher)
        .map_err(|error| Failure::Internal(Cause::of(&error)))
}

/// Which pin counts for this device.
pub(super) fn effective_pin<'v>(
    config: &Config,
    voucher: &'v Voucher,
) -> Option<PinnedDomainCert<'v>> {
    // VCB-033: If several pinned-* attributes are present the pledge uses the one corresponding to
    // the proximity-* form it sent and ignores the others.
    let asked_for = voucher.pins().find(|pin| {
        matches!(
            (pin, config.proximity),
            (PinnedDomainCert::Certificate(_), ProximityForm::Certificate)
                | (PinnedDomainCert::PublicKey(_), ProximityForm::PublicKey)
                | (
                    PinnedDomainCert::PublicKeySha256(_),
                    ProximityForm::PublicKeySha256
                )
        )
    });
    // VCB-034: otherwise the first understood of hash, key, certificate.
    asked_for.or_else(|| voucher.pins().next())
}

/// Whether a chain that is shown on a later connection leads to what the voucher pinned.
pub(super) fn chain_is_pinned(
    config: &Config,
    voucher: &Voucher,
    chain: &[Certificate],
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let pin = effective_pin(config, voucher)
        .ok_or_else(|| Failure::VoucherNoPin(Cause::new("voucher.no-pin", "nothing is pinned")))?;
    check_pin(&pin, chain, config.at(now), &[], Revocation::BestEffort)
        .map(|_| ())
        .map_err(|error| Failure::PinMismatch(Cause::of(&error)))
}

impl Config {
    /// The IDevID's certificate.
    pub(super) fn idevid_certificate(&self) -> Result<&Certificate, Failure> {
        self.idevid
            .certificate()
            .ok_or_else(|| Failure::Idevid(Cause::new("pledge.idevid", "there is no certificate")))
    }

    /// The device's serial number, from its IDevID.
    pub(super) fn serial_number(&self) -> Result<SerialNumber, Failure> {
        // BRSKI-2.3.1-01: the string form of the X520SerialNumber attribute of the IDevID.
        self.serial
            .serial_of(self.idevid_certificate()?)
            .and_then(SerialNumber::new)
            .ok_or_else(|| {
                Failure::Idevid(Cause::new(
                    "pledge.idevid",
                    "there is no serial number in it",
                ))
            })
    }

    /// The time to judge dates by.
    pub(super) fn at(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        match self.clock {
            Clock::Trusted => Some(now),
            Clock::Untrusted => None,
        }
    }
}
