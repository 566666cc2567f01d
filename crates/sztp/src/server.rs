//! What a bootstrap server decides: `facts + now -> step`.
//!
//! The service carries a step out, adds what it learnt to the facts and asks again, until the
//! step is a reply or a refusal. Who the device is has been proven before this.

use time::OffsetDateTime;

use crate::csr::{self, Asked, Device, Policy};
use crate::message::{
    CsrInput, CsrRequest, GetBootstrappingDataInput, ProgressType, ReportProgressInput,
    ReportingLevel,
};
use crate::restconf::{Fault, RestconfError};

/// What a bootstrap server is: the features of ietf-sztp-bootstrap-server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Roles {
    /// It gives redirect information.
    pub redirect: bool,
    /// It gives onboarding information and takes progress reports.
    pub onboarding: bool,
}

impl Roles {
    /// Both.
    pub const BOTH: Self = Self {
        redirect: true,
        onboarding: true,
    };
    /// A redirect server, such as a manufacturer's.
    pub const REDIRECT: Self = Self {
        redirect: true,
        onboarding: false,
    };

    /// Whether such a server gives this kind of information.
    #[must_use]
    pub const fn gives(self, kind: Kind) -> bool {
        match kind {
            Kind::Redirect => self.redirect,
            Kind::Onboarding => self.onboarding,
        }
    }
}

/// The two kinds of conveyed information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Where to go on.
    Redirect,
    /// What to install.
    Onboarding,
}

/// What is staged for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which kind.
    pub kind: Kind,
    /// It may be given unsigned to a device that trusts the server; unsigned redirect
    /// information also to one that does not.
    pub unsigned: bool,
    /// It can be given signed, with the owner certificate.
    pub signed: bool,
    /// The reporting level to ask for.
    pub reporting_level: Option<ReportingLevel>,
}

/// What was found for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staged {
    /// Nobody looked yet.
    Unknown,
    /// There is nothing.
    Nothing,
    /// There is something.
    Offer(Offer),
}

/// A voucher of the device that pins this owner; serial number and pin were checked when it was
/// stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voucher {
    /// Its nonce.
    pub nonce: Option<Vec<u8>>,
    /// When it ends.
    pub expires_on: Option<OffsetDateTime>,
}

impl Voucher {
    fn is_alive(&self, now: OffsetDateTime) -> bool {
        self.expires_on.is_none_or(|end| now < end)
    }
}

/// Whether a voucher with the device's nonce can be had from the MASA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// No MASA is configured for this device.
    Unavailable,
    /// One can be asked for.
    Possible,
    /// One was asked for and came.
    Fetched(Voucher),
    /// One was asked for and did not come; why.
    Failed(String),
}

/// How far the certificate of RFC 9646 is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// The CA was not asked.
    NotAsked,
    /// The certificate is there and stands in what is staged.
    Issued,
    /// The CA refused or was out of reach; why.
    Failed(String),
}

/// Everything that the decision looks at.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What the device sent.
    pub input: &'a GetBootstrappingDataInput,
    /// What this server is.
    pub roles: Roles,
    /// What is staged.
    pub staged: Staged,
    /// The stored vouchers of the device.
    pub vouchers: &'a [Voucher],
    /// Vouchers from the MASA.
    pub live: Live,
    /// The device as its transport showed it.
    pub device: Device<'a>,
    /// Certificates for devices; `None` where they get none.
    pub csr_policy: Option<&'a Policy>,
    /// The request for a CSR that is open for the device.
    pub asked: Option<&'a Asked>,
    /// How far the certificate is.
    pub enrolment: Enrolment,
}

impl<'a> Facts<'a> {
    /// The facts before anything was looked up.
    #[must_use]
    pub fn new(input: &'a GetBootstrappingDataInput, roles: Roles, device: Device<'a>) -> Self {
        Self {
            input,
            roles,
            staged: Staged::Unknown,
            vouchers: &[],
            live: Live::Unavailable,
            device,
            csr_policy: None,
            asked: None,
            enrolment: Enrolment::NotAsked,
        }
    }
}

/// What the service does next.
#[derive(Debug)]
pub enum Step {
    /// Look up what is staged for the device, then ask again.
    Look,
    /// Keep this request for a CSR for the device, durably, and answer with the error.
    AskForCsr {
        /// What to keep.
        request: CsrRequest,
        /// What to answer.
        error: RestconfError,
    },
    /// Have the CA certify this, put the certificate into what is staged, then ask again.
    Enrol(csr::Checked),
    /// Ask the MASA for a voucher with this nonce, then ask again.
    FetchVoucher {
        /// The device's nonce.
        nonce: Vec<u8>,
    },
    /// Answer with what is staged.
    Reply(Reply),
    /// Answer with the error, and record it.
    Refuse(RestconfError),
}

/// How to answer with what is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Signed or not.
    pub protection: Protection,
    /// The reporting level to send, if any.
    pub reporting_level: Option<ReportingLevel>,
    /// What the timeline should say about the choice.
    pub notes: Vec<&'static str>,
}

/// Whether the conveyed information is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Conveyed information alone.
    Unsigned,
    /// With owner certificate and this voucher.
    Signed(VoucherChoice),
}

/// Which voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoucherChoice {
    /// The stored one at this place in [`Facts::vouchers`].
    Stored(usize),
    /// The one that the MASA just made.
    Live,
}

/// Decides how to answer get-bootstrapping-data.
#[must_use]
pub fn decide(facts: &Facts<'_>, now: OffsetDateTime) -> Step {
    match next(facts, now) {
        Ok(step) => step,
        Err(error) => Step::Refuse(error),
    }
}

fn next(facts: &Facts<'_>, now: OffsetDateTime) -> Result<Step, RestconfError> {
    let offer = match facts.staged {
        Staged::Unknown => return Ok(Step::Look),
        Staged::Nothing => {
            return Err(RestconfError::new(
                Fault::NothingStaged,
                "nothing is staged for this device",
            ));
        }
        Staged::Offer(offer) => offer,
    };
    // SZTP-8572-1.2-01: a redirect server only ever gives redirect information.
    if !facts.roles.gives(offer.kind) {
        return Err(RestconfError::new(
            Fault::RoleMismatch,
            "this server does not give the kind of information that is staged",
        ));
    }
    let mut notes = Vec::new();
    if let Some(step) = certificate(facts, offer, now, &mut notes)? {
        return Ok(step);
    }
    let is_untrusted = facts.input.signed_data_preferred;
    let want = want(offer, is_untrusted)?;
    let protection = match want {
        Want::Unsigned => Protection::Unsigned,
        Want::Signed | Want::SignedIfPossible => match voucher(facts, now, &mut notes) {
            Ok(Choice::Take(choice)) => Protection::Signed(choice),
            Ok(Choice::Fetch(nonce)) => return Ok(Step::FetchVoucher { nonce }),
            Err(_) if want == Want::SignedIfPossible => {
                notes.push("unsigned redirect information for want of a voucher");
                Protection::Unsigned
            }
            Err(error) => return Err(error),
        },
    };
    // Progress is not reported for redirect information, nor to a server that is not trusted.
    let is_reported = offer.kind == Kind::Onboarding && !is_untrusted;
    Ok(Step::Reply(Reply {
        protection,
        // SZTP-8572-7.3-10: only with the feature onboarding-server.
        reporting_level: offer
            .reporting_level
            .filter(|_| is_reported && facts.roles.onboarding),
        notes,
    }))
}

/// Whether what is staged is to be given signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Unsigned.
    Unsigned,
    /// Signed, and not at all without a voucher.
    Signed,
    /// Signed, or unsigned where there is no voucher: redirect information, which a device that
    /// does not trust the server takes either way.
    SignedIfPossible,
}

/// Whether an offer is given signed to a device that did or did not ask for signed data.
///
/// # Errors
/// The device asked for signed data, and there is unsigned onboarding information only; or the
/// offer may be given neither way.
pub fn want(offer: Offer, signed_data_preferred: bool) -> Result<Want, RestconfError> {
    // SZTP-8572-7.3-02, SZTP-8572-7.3-03: a device that asks for signed data gets signed data
    // or unsigned redirect information, and never unsigned onboarding information.
    let may_be_unsigned =
        offer.unsigned && (!signed_data_preferred || offer.kind == Kind::Redirect);
    let is_signed = offer.signed && (signed_data_preferred || !offer.unsigned);
    match (is_signed, may_be_unsigned) {
        (true, true) => Ok(Want::SignedIfPossible),
        (true, false) => Ok(Want::Signed),
        (false, true) => Ok(Want::Unsigned),
        (false, false) => Err(RestconfError::new(
            Fault::SignedUnavailable,
            "the device asked for signed data, and what is staged is unsigned onboarding information",
        )),
    }
}

enum Choice {
    Take(VoucherChoice),
    Fetch(Vec<u8>),
}

/// The voucher that this request can be answered with.
///
/// A voucher with a nonce answers the one request that carried it: a device without a clock
/// takes the nonce for the proof of freshness, so the nonce of another request never leaves.
fn voucher(
    facts: &Facts<'_>,
    now: OffsetDateTime,
    notes: &mut Vec<&'static str>,
) -> Result<Choice, RestconfError> {
    let alive = || {
        facts
            .vouchers
            .iter()
            .enumerate()
            .filter(|(_, voucher)| voucher.is_alive(now))
    };
    // The one that lasts longest; one without an end lasts longest of all.
    let nonceless = || {
        alive()
            .filter(|(_, voucher)| voucher.nonce.is_none())
            .max_by_key(|(_, voucher)| (voucher.expires_on.is_none(), voucher.expires_on))
            .map(|(at, _)| Choice::Take(VoucherChoice::Stored(at)))
    };
    let Some(nonce) = &facts.input.nonce else {
        return nonceless().ok_or_else(|| {
            RestconfError::new(
                Fault::NoVoucher,
                "there is no voucher without a nonce that is still valid",
            )
        });
    };
    if let Live::Fetched(voucher) = &facts.live {
        // SZTP-8572-7.3-07: the voucher that was fetched repeats the request's nonce.
        if voucher.nonce.as_ref() == Some(nonce) && voucher.is_alive(now) {
            return Ok(Choice::Take(VoucherChoice::Live));
        }
    }
    let stored = alive().find(|(_, voucher)| voucher.nonce.as_ref() == Some(nonce));
    if let Some((at, _)) = stored {
        return Ok(Choice::Take(VoucherChoice::Stored(at)));
    }
    if facts.live == Live::Possible {
        return Ok(Choice::Fetch(nonce.clone()));
    }
    if let Some(choice) = nonceless() {
        notes.push("a voucher without a nonce for a device that sent one");
        return Ok(choice);
    }
    match facts.live {
        Live::Unavailable | Live::Possible => Err(RestconfError::new(
            Fault::NoVoucher,
            "there is no voucher that is still valid for this nonce",
        )),
        Live::Fetched(_) | Live::Failed(_) => Err(RestconfError::new(
            Fault::VoucherUnavailable,
            "the voucher for this nonce could not be had; try again later",
        )),
    }
}

/// The certificate of RFC 9646; a step as long as there is something to do about it.
fn certificate(
    facts: &Facts<'_>,
    offer: Offer,
    now: OffsetDateTime,
    notes: &mut Vec<&'static str>,
) -> Result<Option<Step>, RestconfError> {
    let Some(input) = &facts.input.csr else {
        return Ok(None);
    };
    if facts.input.signed_data_preferred {
        // SZTP-9646-4.1.4-01: the error that asks for a CSR cannot be signed, so a device that
        // does not trust the server gets none.
        notes.push("no certificate for a device that does not trust the server");
        return Ok(None);
    }
    if offer.kind == Kind::Redirect {
        notes.push("no certificate with redirect information");
        return Ok(None);
    }
    match (input, facts.csr_policy) {
        // SZTP-9646-2.2-02: a server may ignore csr-support.
        (CsrInput::Support(_), None) => {
            notes.push("csr-support is ignored: devices get no certificates here");
            Ok(None)
        }
        (CsrInput::Support(support), Some(policy)) => {
            let Some(request) = csr::choose(support, policy, &facts.device)? else {
                notes.push("csr-support offers nothing that policy accepts");
                return Ok(None);
            };
            let error = csr::ask(&request);
            Ok(Some(Step::AskForCsr { request, error }))
        }
        (_, None) => Err(RestconfError::new(
            Fault::CsrNotSupported,
            "devices get no certificates here",
        )),
        (csr, Some(policy)) => match &facts.enrolment {
            // SZTP-9646-2.3-02: the answer to a CSR contains the certificate.
            Enrolment::NotAsked => {
                let checked = csr::check(csr, facts.asked, policy, &facts.device, now)?;
                Ok(Some(Step::Enrol(checked)))
            }
            Enrolment::Issued => Ok(None),
            Enrolment::Failed(_) => Err(RestconfError::new(
                Fault::CsrCa,
                "the certificate could not be had; try again later",
            )),
        },
    }
}

/// Where a device is, as its reports tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It works on the bootstrapping data.
    Working,
    /// It installed an image and will come again with a new request for bootstrapping data.
    Rebooting,
    /// It gave this server up.
    Failed,
    /// It is ready to be managed.
    Complete,
}

/// What to do with a report.
#[derive(Debug)]
pub enum ProgressStep {
    /// Record it under the device that authenticated itself, durably, and answer with 204.
    Record {
        /// Where the device is now; `None` when the report says nothing about that.
        phase: Option<Phase>,
        /// It is worth a person's look.
        is_warning: bool,
    },
    /// Answer with the error, and record it.
    Refuse(RestconfError),
}

/// Decides how to answer report-progress.
#[must_use]
pub fn decide_progress(input: &ReportProgressInput, roles: Roles) -> ProgressStep {
    // SZTP-8572-7.3-13: a redirect server does not have this RPC.
    if !roles.onboarding {
        return ProgressStep::Refuse(RestconfError::new(
            Fault::NotFound,
            "a redirect server takes no progress reports",
        ));
    }
    let progress = input.progress;
    let phase = match progress {
        ProgressType::BootstrapComplete => Some(Phase::Complete),
        ProgressType::BootImageInstalledRebooting => Some(Phase::Rebooting),
        // Additional information may come at any time.
        ProgressType::Informational => None,
        // SZTP-8572-7.3-23: every error means that this server is given up.
        progress if progress.is_error() => Some(Phase::Failed),
        _ => Some(Phase::Working),
    };
    ProgressStep::Record {
        phase,
        is_warning: progress.is_warning() || progress.is_error(),
    }
}
