//! The pledge's judgement of a voucher
//! ([RFC 8995 §5.6.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6.1) and
//! [§5.6.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.6.2)).

use pki::path::{self, Anchors, PathOptions, Purpose, Reason, Revocation};
use pki::{Certificate, Crl, Unverified};
use time::OffsetDateTime;

use super::{Checks, Outcome, Trust};
use crate::date;
use crate::envelope::Signed;
use crate::error::{Document, Error, Fault};
use crate::leaf::{Assertion, IdevidIssuer, Nonce, SerialNumber};
use crate::request::{Proximity, VoucherRequest};
use crate::tolerances::{Oddity, Tolerances};
use crate::voucher::{PinnedDomainCert, Voucher};

/// What is known about the nonce of the request.
#[derive(Clone, Copy, Debug, Default)]
pub enum ExpectedNonce<'a> {
    /// Nothing: the check is not made.
    #[default]
    Unknown,
    /// This one was sent. A voucher without a nonce is refused.
    Exactly(&'a Nonce),
    /// This one was sent. A voucher without a nonce is accepted too, as policy allows.
    ExactlyOrNonceless(&'a Nonce),
    /// None was sent: only a voucher without a nonce can be meant.
    Nonceless,
}

/// What a pledge knows when it judges a voucher.
#[derive(Clone, Debug)]
pub struct VoucherContext<'a> {
    /// The manufacturer's anchors for its MASA, and the time.
    pub trust: Trust<'a>,
    /// The device's serial number.
    pub serial_number: Option<&'a SerialNumber>,
    /// The device's IDevID, for idevid-issuer.
    pub idevid: Option<&'a Certificate>,
    /// The nonce that was sent.
    pub nonce: ExpectedNonce<'a>,
    /// The request that was sent: its way to name the registrar decides which pin counts.
    pub request: Option<&'a VoucherRequest>,
    /// The assertions that local policy accepts; `None` accepts all four and their absence.
    pub accepted_assertions: Option<&'a [Assertion]>,
    /// Accept expires-on unchecked when there is no clock.
    pub expires_on_without_clock: bool,
    /// The certificate chain of the TLS server, its own first.
    pub registrar_chain: Option<&'a [Certificate]>,
    /// A certificate of the domain that the voucher must be for.
    pub domain: Option<&'a Certificate>,
    /// The domain's CRLs, for a voucher that demands revocation checks.
    pub domain_crls: Option<&'a [Crl]>,
    /// Accept a voucher that demands revocation checks when there is no CRL, and say that it was
    /// not checked. A device never does; a tool that is given no CRL does.
    pub revocation_without_crls: bool,
}

impl<'a> VoucherContext<'a> {
    /// Nothing is known but whom to trust.
    #[must_use]
    pub fn new(trust: Trust<'a>) -> Self {
        Self {
            trust,
            serial_number: None,
            idevid: None,
            nonce: ExpectedNonce::Unknown,
            request: None,
            accepted_assertions: None,
            expires_on_without_clock: false,
            registrar_chain: None,
            domain: None,
            domain_crls: None,
            revocation_without_crls: false,
        }
    }
}

/// A voucher that was judged good.
#[derive(Clone, Debug)]
pub struct VerifiedVoucher {
    /// The voucher.
    pub voucher: Voucher,
    /// The path of the MASA's certificate, its own first.
    pub signer_path: Vec<Certificate>,
    /// The path of the registrar's certificate to the pin, when it was checked and the pin is
    /// a certificate.
    pub registrar_path: Option<Vec<Certificate>>,
}

const CONTENT_CHECKS: [&str; 8] = [
    "content",
    "assertion",
    "serial-number",
    "idevid-issuer",
    "nonce",
    "expires-on",
    "pin",
    "domain",
];

/// Judges a voucher as a pledge does.
#[must_use]
pub fn verify_voucher(
    signed: &Unverified<Signed>,
    context: &VoucherContext<'_>,
    tolerances: &Tolerances,
) -> Outcome<VerifiedVoucher> {
    let mut checks = Checks::new(Document::Voucher);
    let checks = &mut checks;
    let value = judge(checks, signed, context, tolerances);
    std::mem::replace(checks, Checks::new(Document::Voucher)).finish(value)
}

fn judge(
    checks: &mut Checks,
    signed: &Unverified<Signed>,
    context: &VoucherContext<'_>,
    tolerances: &Tolerances,
) -> Option<VerifiedVoucher> {
    // BRSKI-5.6.1-01: the pledge MUST verify the voucher signature using the
    // manufacturer-installed trust anchor(s) associated with the manufacturer's MASA.
    let known = context.trust.known_certificates();
    let Some((signer, payload)) = checks.signature(signed, tolerances, &known) else {
        checks.not_made("trust", "the signature does not verify");
        checks.rest_not_made(&CONTENT_CHECKS, "the signature does not verify");
        return None;
    };
    let path = context.trust.path(&signer, Purpose::Masa, tolerances);
    let path = path.and_then(|path| {
        not_another(checks, signer.certificate(), tolerances)?;
        Ok(path)
    });
    let Some(signer_path) = checks.record("trust", path) else {
        checks.rest_not_made(&CONTENT_CHECKS, "the signer is not trusted");
        return None;
    };
    let envelope = signed.dangerous_peek().envelope();
    let content = Voucher::from_payload(payload, envelope, tolerances);
    let Some((voucher, mut oddities)) = checks.record("content", content) else {
        checks.rest_not_made(
            CONTENT_CHECKS.get(1..).unwrap_or_default(),
            "no voucher to look at",
        );
        return None;
    };
    checks.oddities.append(&mut oddities);
    assertion(checks, &voucher, context);
    serial_number(checks, &voucher, context);
    idevid_issuer(checks, &voucher, context);
    nonce(checks, &voucher, context, tolerances);
    expires_on(checks, &voucher, context);
    let registrar_path = pin(checks, &voucher, context);
    domain(checks, &voucher, context);
    Some(VerifiedVoucher {
        voucher,
        signer_path,
        registrar_path,
    })
}

/// Where one CA signs IDevIDs and the MASA's certificate (as in RFC 8995 appendix C), a
/// device that was opened could sign vouchers for all the others. An IDevID is recognised by
/// its MASA URL or its hardwareModuleName; a registrar by cmcRA.
fn not_another(
    checks: &mut Checks,
    signer: &Certificate,
    tolerances: &Tolerances,
) -> Result<(), Error> {
    let what = if signer.masa_url().is_some() || signer.hardware_module_name().is_some() {
        "an IDevID"
    } else if signer.has_cmc_ra() {
        "a registrar's"
    } else if is_for_tls_only(signer) {
        if tolerances.masa_tls_certificate {
            let detail = "the signer's certificate is for TLS only";
            checks
                .oddities
                .push(Oddity::new("masa-tls-certificate", detail));
            return Ok(());
        }
        "for TLS only"
    } else {
        return Ok(());
    };
    let detail = format!("the signer's certificate is {what}, not a MASA's");
    Err(checks.fail(Fault::SignerMismatch, detail))
}

/// A certificate with key purposes may be used for these only
/// ([RFC 5280 §4.2.1.12](https://www.rfc-editor.org/rfc/rfc5280.html#section-4.2.1.12)), so the
/// key of the MASA's web server, which is easier to get at, signs no vouchers.
fn is_for_tls_only(signer: &Certificate) -> bool {
    const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
    const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
    let usages = signer.extended_key_usages();
    !usages.is_empty()
        && usages
            .iter()
            .all(|usage| [SERVER_AUTH, CLIENT_AUTH].contains(&usage.to_string().as_str()))
}

fn assertion(checks: &mut Checks, voucher: &Voucher, context: &VoucherContext<'_>) {
    // VOUCHER-5.3-11: pledges MUST ensure that the assertion provided is acceptable, per local
    // policy, before processing the voucher.
    match (context.accepted_assertions, voucher.assertion) {
        (None, _) => checks.not_made("assertion", "no policy on assertions was given"),
        (Some(accepted), Some(found)) => {
            let detail = format!("assertion {found} is not accepted");
            checks.compare(
                "assertion",
                accepted.contains(&found),
                Fault::AssertionRefused,
                &detail,
            );
        }
        (Some(_), None) => {
            let detail = "the voucher has no assertion";
            checks.compare("assertion", false, Fault::AssertionRefused, detail);
        }
    }
}

fn serial_number(checks: &mut Checks, voucher: &Voucher, context: &VoucherContext<'_>) {
    let expected = context.serial_number;
    let expected = expected.or_else(|| context.request.map(|request| &request.serial_number));
    let Some(expected) = expected else {
        return checks.not_made("serial-number", "no serial number was given");
    };
    // BRSKI-5.6.1-02: the pledge MUST verify that the serial-number field of the signed voucher
    // matches the pledge's own serial-number. VOUCHER-5.3-14: the comparison is exact.
    let detail = format!("voucher for {}, this is {expected}", voucher.serial_number);
    let same = voucher.serial_number == *expected;
    checks.compare("serial-number", same, Fault::SerialMismatch, &detail);
}

fn idevid_issuer(checks: &mut Checks, voucher: &Voucher, context: &VoucherContext<'_>) {
    match (&voucher.idevid_issuer, context.idevid) {
        (None, Some(_)) => checks.not_made("idevid-issuer", "the voucher has none"),
        (_, None) => checks.not_made("idevid-issuer", "no IDevID was given"),
        (Some(found), Some(idevid)) => {
            // VOUCHER-5.3-15: a pledge MUST ensure that its IDevID Authority Key Identifier
            // matches this value.
            let same = found.matches(&IdevidIssuer::of(idevid));
            let detail = "idevid-issuer is not that of the device's IDevID";
            checks.compare("idevid-issuer", same, Fault::IdevidIssuerMismatch, detail);
        }
    }
}

fn nonce(
    checks: &mut Checks,
    voucher: &Voucher,
    context: &VoucherContext<'_>,
    tolerances: &Tolerances,
) {
    let expected = match (context.nonce, context.request) {
        (ExpectedNonce::Unknown, Some(request)) => match &request.nonce {
            Some(nonce) => ExpectedNonce::Exactly(nonce),
            None => ExpectedNonce::Nonceless,
        },
        (expected, _) => expected,
    };
    // BRSKI-5.6.1-03: if present, the nonce in the voucher must match the nonce the pledge
    // submitted; vouchers with no nonce can also be accepted (according to local policy).
    let result = match (expected, &voucher.nonce) {
        (ExpectedNonce::Unknown, Some(_)) => {
            return checks.not_made("nonce", "no nonce was given");
        }
        (ExpectedNonce::Unknown, None) => {
            return checks.not_made("nonce", "the voucher has none and none was given");
        }
        (ExpectedNonce::Exactly(sent) | ExpectedNonce::ExactlyOrNonceless(sent), Some(found)) => {
            same_nonce(found, sent, tolerances, &mut checks.oddities)
                .then_some(())
                .ok_or_else(|| checks.fail(Fault::NonceMismatch, "the nonce is another one"))
        }
        (ExpectedNonce::ExactlyOrNonceless(_) | ExpectedNonce::Nonceless, None) => Ok(()),
        (ExpectedNonce::Exactly(_), None) => Err(checks.fail(
            Fault::NonceMissing,
            "a nonce was sent, the voucher has none",
        )),
        (ExpectedNonce::Nonceless, Some(_)) => Err(checks.fail(
            Fault::NonceMismatch,
            "no nonce was sent, the voucher has one",
        )),
    };
    checks.record("nonce", result);
}

/// Nonces are compared as text, since they are copied as text.
pub(super) fn same_nonce(
    found: &Nonce,
    sent: &Nonce,
    tolerances: &Tolerances,
    oddities: &mut Vec<Oddity>,
) -> bool {
    if found == sent {
        return true;
    }
    let reencoded = tolerances.nonce_reencoded && found.octets() == sent.octets();
    if reencoded {
        oddities.push(Oddity::new(
            "nonce-reencoded",
            format!("{found} for {sent}"),
        ));
    }
    reencoded
}

fn expires_on(checks: &mut Checks, voucher: &Voucher, context: &VoucherContext<'_>) {
    let Some(expires_on) = voucher.expires_on else {
        return checks.not_made("expires-on", "the voucher has none");
    };
    // VOUCHER-5.3-08: if this field exists, then the pledges MUST ensure that the expires-on
    // time has not yet passed. A pledge without an accurate clock cannot meet this requirement.
    let result = match context.trust.now {
        Some(now) if now <= expires_on => Ok(()),
        Some(now) => {
            let ends = date::format(expires_on);
            let detail = format!("the voucher ended at {ends}, it is {}", date::format(now));
            Err(checks.fail(Fault::Expired, detail))
        }
        None if context.expires_on_without_clock => {
            return checks.not_made("expires-on", "there is no clock");
        }
        None => Err(checks.fail(
            Fault::ClockNeeded,
            "expires-on cannot be judged without a clock",
        )),
    };
    checks.record("expires-on", result);
}

fn pin(
    checks: &mut Checks,
    voucher: &Voucher,
    context: &VoucherContext<'_>,
) -> Option<Vec<Certificate>> {
    let unknown = matches!(context.domain_crls, None | Some([]));
    let open = unknown && context.revocation_without_crls;
    if voucher.domain_cert_revocation_checks == Some(true) && open {
        checks.not_made("revocation", "no CRL was given");
    }
    let Some(chain) = context.registrar_chain else {
        checks.not_made("pin", "no certificate of the registrar was given");
        return None;
    };
    let pin = effective_pin(voucher, context.request);
    // VOUCHER-5.3-19: true means that the pledge MUST verify the revocation status for the
    // pinned domain certificate; false that it MUST NOT.
    let crls = match (voucher.domain_cert_revocation_checks, context.domain_crls) {
        (Some(true), None | Some([])) if !open => {
            let detail = "the voucher demands revocation checks and there is no CRL";
            let error = checks.fail(Fault::RevocationUnknown, detail);
            checks.record::<()>("pin", Err(error));
            return None;
        }
        (Some(false), _) => &[][..],
        (_, crls) => crls.unwrap_or_default(),
    };
    let revocation = match voucher.domain_cert_revocation_checks {
        Some(true) if !open => Revocation::Required,
        Some(_) | None => Revocation::BestEffort,
    };
    let result = match pin {
        Some(pin) => check_pin(&pin, chain, context.trust.now, crls, revocation),
        None => Err(checks.fail(Fault::NoPin, "nothing is pinned")),
    };
    checks.record("pin", result).flatten()
}

/// Which pin counts.
fn effective_pin<'v>(
    voucher: &'v Voucher,
    request: Option<&VoucherRequest>,
) -> Option<PinnedDomainCert<'v>> {
    // VOUCHERBIS-8-01: the Pledge SHALL prioritize the proximity entry which it used in its
    // voucher-request artifact, ignoring the others.
    let used = request.and_then(|request| request.proximity().next());
    let preferred = used.and_then(|used| {
        voucher.pins().find(|pin| {
            matches!(
                (pin, used),
                (PinnedDomainCert::Certificate(_), Proximity::Certificate(_))
                    | (PinnedDomainCert::PublicKey(_), Proximity::PublicKey(_))
                    | (
                        PinnedDomainCert::PublicKeySha256(_),
                        Proximity::PublicKeySha256(_)
                    )
            )
        })
    });
    // VOUCHERBIS-8-02: for nonceless vouchers the first understood of
    // pinned-domain-pubk-sha256, pinned-domain-pubk, pinned-domain-cert is used.
    preferred.or_else(|| voucher.pins().next())
}

/// Checks a registrar's TLS chain, its own certificate first, against what is pinned. The
/// path is returned when the pin is a certificate.
///
/// # Errors
/// [`Fault::PinMismatch`] or the error of the path.
pub fn check_pin(
    pin: &PinnedDomainCert<'_>,
    chain: &[Certificate],
    now: Option<OffsetDateTime>,
    crls: &[Crl],
    revocation: Revocation,
) -> Result<Option<Vec<Certificate>>, Error> {
    let mismatch = |detail: String| Error::new(Document::Voucher, Fault::PinMismatch, detail);
    let Some((leaf, others)) = chain.split_first() else {
        return Err(mismatch("the registrar showed no certificate".to_owned()));
    };
    let key = leaf.public_key();
    let same_key = match pin {
        PinnedDomainCert::PublicKeySha256(hash) => key.sha256() == **hash,
        PinnedDomainCert::PublicKey(pinned) => key.spki_der() == pinned.spki_der(),
        PinnedDomainCert::Certificate(pinned) => {
            // BRSKI-5.6.2-01: the public key from the pinned-domain-cert is the sole temporary
            // trust anchor for the retained registrar chain.
            // BRSKI-5.6.2-02: it may directly match the key of the end-entity certificate.
            let anchors: Anchors = if key.spki_der() == pinned.public_key().spki_der() {
                leaf.clone().into()
            } else {
                (*pinned).clone().into()
            };
            // The pin is a key; its certificate's validity period is not the pledge's to judge.
            let options = PathOptions {
                at: now,
                purpose: Purpose::Any,
                crls: crls.to_vec(),
                revocation,
                tolerate_anchor_validity: true,
                ..PathOptions::default()
            };
            return match path::validate(leaf, others, &anchors, &options) {
                Ok(path) => Ok(Some(path.certificates().to_vec())),
                Err(error) if is_about_revocation(error.reason) => Err(error.into()),
                Err(error) => Err(mismatch(format!(
                    "the registrar's chain does not lead to the pinned certificate: {error}"
                ))),
            };
        }
    };
    if same_key {
        Ok(None)
    } else {
        Err(mismatch("the registrar has another key".to_owned()))
    }
}

/// The pin is the right one, and its CA took the certificate back or does not say.
fn is_about_revocation(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Revoked | Reason::CrlExpired | Reason::CrlInvalid | Reason::CrlMissing
    )
}

fn domain(checks: &mut Checks, voucher: &Voucher, context: &VoucherContext<'_>) {
    let Some(domain) = context.domain else {
        return checks.not_made("domain", "no certificate of the domain was given");
    };
    let revocation = Revocation::BestEffort;
    // The pin may be the given certificate, one above it, or one below it.
    let holds = voucher.pins().all(|pin| match pin {
        PinnedDomainCert::Certificate(pinned) => {
            let chain = std::slice::from_ref(domain);
            let below = PinnedDomainCert::Certificate(domain);
            check_pin(&pin, chain, None, &[], revocation).is_ok()
                || check_pin(&below, std::slice::from_ref(pinned), None, &[], revocation).is_ok()
        }
        other => check_pin(&other, std::slice::from_ref(domain), None, &[], revocation).is_ok(),
    });
    let detail = "the voucher pins another domain";
    checks.compare("domain", holds, Fault::DomainMismatch, detail);
}
