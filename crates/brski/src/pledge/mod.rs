//! The pledge's side of [RFC 8995 §5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5), with
//! the EST requests that follow.
//!
//! [`Machine::step`] takes what happened and says what to do next. Between any two steps the
//! machine's [`State`] can be written to disk; [`Machine::resume`] goes on from there after a power
//! cut. Keys and certification requests are the device's own business: the machine asks for them
//! ([`Step::MakeRequest`]) and is told.

mod enrol;
mod failure;
mod machine;
mod voucher;

pub use failure::Failure;
pub use machine::Machine;
pub use voucher::{Expected, judge_voucher};

use artifacts::{Assertion, Envelope, Tolerances};
use pki::{Certificate, Identity, path::Anchors};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use url::Url;

use crate::{identity::SerialRule, stored};

/// The pledge honours `Retry-After` up to this time.
///
/// BRSKI-5.6-07: "the pledge MUST limit the Retry-After time to 60 seconds."
pub const RETRY_AFTER_MAX: Duration = Duration::seconds(60);
/// The same where the procedure is [`Procedure::Constrained`]: what is called Max-Age there is waited
/// out, up to the longest pause between attempts.
pub const MAX_AGE_MAX: Duration = Duration::hours(1);
/// The wait after a 202 whose `Retry-After` is missing or cannot be read.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::seconds(30);
/// How long "later" is accepted before the attempt is given up.
pub const PENDING_MAX: Duration = Duration::days(4);
/// The first pause after a failed attempt; it doubles from there.
pub const BACK_OFF_MIN: Duration = Duration::seconds(5);
/// The longest pause between attempts at one registrar.
pub const BACK_OFF_MAX: Duration = Duration::hours(1);
/// Largest answer that is looked at.
pub const ANSWER_SIZE_MAX_BYTES: usize = 256 * 1024;
/// Longest certificate chain of a registrar.
pub const CHAIN_LENGTH_MAX: usize = 10;
/// How much of a refusal's text is kept.
pub const REFUSAL_TEXT_MAX_CHARS: usize = 200;

/// Whether the device trusts its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// It has a real-time clock that was set in the factory: every date is judged.
    Trusted,
    /// It has none and believes whatever it booted with: dates of vouchers and certificates are
    /// ignored ([RFC 8995 §2.6.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-2.6.1)).
    #[default]
    Untrusted,
}

impl Clock {
    /// Whether dates are judged.
    #[must_use]
    pub fn is_trusted(self) -> bool {
        self == Self::Trusted
    }
}

/// In which steps a pledge enrols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Procedure {
    /// Those of RFC 8995.
    #[default]
    Full,
    /// Those of draft-ietf-anima-constrained-voucher §6.7.1, with fewer round trips: no attributes
    /// are asked for, and the CA certificates only if the voucher does not pin the root that
    /// issues. A registrar has to be marked as registration authority.
    Constrained,
}

/// How a pledge names the registrar that it saw in its voucher request, and so what it wants
/// pinned ([rfc8366bis §8](https://datatracker.ietf.org/doc/html/draft-ietf-anima-rfc8366bis#section-8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProximityForm {
    /// The registrar's certificate: `proximity-registrar-cert`.
    #[default]
    Certificate,
    /// Its public key: `proximity-registrar-pubk`.
    PublicKey,
    /// The SHA-256 of its public key: `proximity-registrar-pubk-sha256`, the smallest.
    PublicKeySha256,
}

/// What the manufacturer built into the device.
#[derive(Clone)]
pub struct Config {
    /// Where registrars may be: the origins to try, in the order of discovery.
    pub registrars: Vec<Url>,
    /// The IDevID with its key.
    pub idevid: Identity,
    /// Where the device's serial number stands in it.
    pub serial: SerialRule,
    /// The anchors of the manufacturer's MASA.
    pub masa_anchors: Anchors,
    /// The envelope that the device speaks.
    pub envelope: Envelope,
    /// How it names the registrar that it saw.
    pub proximity: ProximityForm,
    /// Whether the clock is trusted.
    pub clock: Clock,
    /// Whether nonceless vouchers are accepted.
    pub nonceless: bool,
    /// The assertions that are accepted.
    pub assertions: Vec<Assertion>,
    /// What is let pass.
    pub tolerances: Tolerances,
    /// Label of the EST resources, if any.
    pub est_label: Option<String>,
    /// In which steps the device enrols.
    pub procedure: Procedure,
    /// Give up after this many attempts; `None` for never.
    pub attempts_max: Option<u32>,
    /// For rehearsals of an attack: send these bytes instead of a fresh voucher request.
    pub replay: Option<Vec<u8>>,
}

/// How far the device is, as written to disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The attempt under way or done.
    pub phase: Phase,
    /// What is remembered of each registrar.
    pub registrars: Vec<RegistrarMemory>,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub last_failure: Option<Failure>,
}

/// What the pledge remembers of one registrar (one proxy): back-off is per registrar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrarMemory {
    /// The origin.
    pub origin: Url,
    /// Failures in a row.
    pub failures: u32,
    /// Not before this moment.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub not_before: Option<OffsetDateTime>,
}

/// The phase of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// Nothing is under way.
    Discovery,
    /// A voucher was or is being asked for.
    Voucher(VoucherPhase),
    /// The voucher was accepted; EST is under way.
    Enrol(EnrolPhase),
    /// The device has its certificate.
    Enrolled(Enrolled),
    /// Given up.
    GivenUp,
}

/// A voucher request under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherPhase {
    /// Index into the registrars.
    pub registrar: usize,
    /// The origin that is talked to: the registrar's, or where it sent us.
    pub origin: Url,
    /// The path of `requestvoucher` there.
    pub path: String,
    /// Whether a redirect to another origin was followed already.
    pub redirected: bool,
    /// The registrar's certificates as shown on the provisional connection, the leaf first.
    #[serde(with = "stored::bytes::list")]
    pub registrar_chain: Vec<Vec<u8>>,
    /// The signed request: sent again byte for byte after a 202.
    #[serde(with = "stored::bytes")]
    pub request: Vec<u8>,
    /// Its nonce.
    pub nonce: String,
    /// When it was sent first.
    #[serde(with = "time::serde::rfc3339")]
    pub begun_at: OffsetDateTime,
    /// Not to be repeated before this moment.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub not_before: Option<OffsetDateTime>,
}

/// An enrolment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolPhase {
    /// Index into the registrars.
    pub registrar: usize,
    /// The origin that is talked to.
    pub origin: Url,
    /// The registrar's certificates, validated under the pinned one.
    #[serde(with = "stored::bytes::list")]
    pub registrar_chain: Vec<Vec<u8>>,
    /// The voucher.
    #[serde(with = "stored::bytes")]
    pub voucher: Vec<u8>,
    /// What the voucher asserts.
    pub assertion: Option<String>,
    /// The certificate that the voucher pins, if it pins one.
    #[serde(with = "stored::bytes::option", default)]
    pub pinned: Option<Vec<u8>>,
    /// The domain's CA certificates, once fetched.
    #[serde(with = "stored::bytes::list", default)]
    pub ca_certificates: Vec<Vec<u8>>,
    /// Whether they are only what the voucher pins, and not fetched yet.
    #[serde(default)]
    pub provisional: bool,
    /// The body of an answer to the enrolment that is judged once the CA certificates are there.
    #[serde(with = "stored::bytes::option", default)]
    pub issued: Option<Vec<u8>>,
    /// The CSR attributes (DER), once fetched and if there are any.
    #[serde(with = "stored::bytes::option", default)]
    pub attributes: Option<Vec<u8>>,
    /// The certification request, once made: sent again byte for byte after a 202.
    #[serde(with = "stored::bytes::option", default)]
    pub csr: Option<Vec<u8>>,
    /// When enrolment was asked for first.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub begun_at: Option<OffsetDateTime>,
    /// Not to be repeated before this moment.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub not_before: Option<OffsetDateTime>,
    /// What comes next.
    pub next: EnrolStep,
}

/// The requests of an enrolment, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrolStep {
    /// Report that the voucher is accepted.
    VoucherStatus,
    /// Fetch the CA certificates.
    CaCertificates,
    /// Fetch the attributes for the certification request.
    CsrAttributes,
    /// Make the key and the certification request.
    MakeRequest,
    /// Enrol.
    Enrol,
}

/// The device has a certificate of its domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The origin of the registrar.
    pub origin: Url,
    /// The certificate.
    #[serde(with = "stored::bytes")]
    pub certificate: Vec<u8>,
    /// What a TLS peer is shown: the certificate and what stands between it and the anchor.
    #[serde(with = "stored::bytes::list")]
    pub chain: Vec<Vec<u8>>,
    /// The domain's trust anchor.
    #[serde(with = "stored::bytes")]
    pub anchor: Vec<u8>,
    /// The domain's CA certificates.
    #[serde(with = "stored::bytes::list")]
    pub ca_certificates: Vec<Vec<u8>>,
    /// The registrar's certificates.
    #[serde(with = "stored::bytes::list")]
    pub registrar_chain: Vec<Vec<u8>>,
    /// The voucher that led here.
    #[serde(with = "stored::bytes")]
    pub voucher: Vec<u8>,
    /// What the voucher asserts.
    pub assertion: Option<String>,
    /// Whether success was reported.
    pub reported: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Begin, or go on after a pause or a power cut.
    Begin,
    /// The connection that was asked for is up; the registrar showed this chain.
    Connected {
        /// The leaf first.
        chain: &'a [Certificate],
    },
    /// The connection could not be made, or broke before the answer was complete.
    Disconnected {
        /// Why, in words.
        reason: &'a str,
    },
    /// The answer to the request that was to be sent.
    Answered {
        /// Status.
        status: u16,
        /// Header fields, names in lower case.
        headers: &'a [(String, String)],
        /// Body.
        body: &'a [u8],
    },
    /// The certification request that was asked for, DER.
    RequestMade {
        /// The request.
        csr: &'a [u8],
    },
    /// The certification request could not be made.
    RequestFailed {
        /// Why, in words.
        reason: &'a str,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Close any connection and open a new one.
    Connect {
        /// Where to.
        origin: Url,
        /// With which certificate.
        client: ClientCertificate,
    },
    /// Send this on the open connection.
    Send(Request),
    /// Make (or load) the key and a certification request by these attributes (the body of the
    /// `csrattrs` answer as DER, if there was one).
    MakeRequest {
        /// DER of CsrAttrs.
        attributes: Option<Vec<u8>>,
    },
    /// Close any connection and come back with [`Input::Begin`] at this moment.
    Wait {
        /// When.
        until: OffsetDateTime,
        /// Why.
        reason: WaitReason,
    },
    /// Keep the connection open and come back with [`Input::Begin`] at this moment.
    Pause {
        /// When.
        until: OffsetDateTime,
    },
    /// The device is enrolled.
    Done,
    /// The device gives up.
    GiveUp(Failure),
}

/// Why there is a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The last attempt failed.
    BackOff(Failure),
}

/// With which certificate the pledge authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// The manufacturer's.
    Idevid,
    /// The domain's.
    Ldevid,
}

/// A request to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is, for timelines.
    pub what: What,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path.
    pub path: String,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// The requests that a pledge makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// `requestvoucher`
    RequestVoucher,
    /// `voucher_status`
    VoucherStatus,
    /// `cacerts`
    CaCertificates,
    /// `csrattrs`
    CsrAttributes,
    /// `simpleenroll`
    Enrol,
    /// `enrollstatus`
    EnrolStatus,
}

impl What {
    /// The last segment of the path.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestVoucher => "requestvoucher",
            Self::VoucherStatus => "voucher_status",
            Self::CaCertificates => "cacerts",
            Self::CsrAttributes => "csrattrs",
            Self::Enrol => "simpleenroll",
            Self::EnrolStatus => "enrollstatus",
        }
    }
}
