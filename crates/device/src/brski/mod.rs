//! A device that enrols by BRSKI over HTTPS.

mod clock;
mod key;
pub(crate) mod link;
mod renew;
mod run;
mod store;
mod trace;

pub(crate) use self::run::{ldevid, publish, run_over};
pub use clock::DeviceClock;
pub use renew::{Renewal, renew, renewal_due};
pub use run::{Enrolment, Event, Message, Outcome, StepRecord, Verdict, run};
pub use store::{Store, Stored, kind_of};

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ::brski::{
    SerialRule,
    pledge::{self, Clock, Procedure, ProximityForm},
};
use artifacts::{Assertion, Envelope, Tolerances};
use net::{HttpVersion, TlsVersions};
use pki::{Identity, KeyKind, path::Anchors};
use time::OffsetDateTime;
use url::Url;

/// A device and how it goes about enrolling.
#[derive(Clone)]
pub struct Config {
    /// Origins of registrars (`https://host:port/`), in the order of discovery.
    pub registrars: Vec<Url>,
    /// The IDevID: chain and key, from files or a token.
    pub idevid: Identity,
    /// The anchors of the manufacturer's MASA.
    pub masa_anchors: Anchors,
    /// Where the serial number stands in the IDevID.
    pub serial: SerialRule,
    /// The envelope of requests and vouchers.
    pub envelope: Envelope,
    /// How the device names the registrar that it saw.
    pub proximity: ProximityForm,
    /// The HTTP version to speak.
    pub http: HttpVersion,
    /// TLS versions on TCP.
    pub tls: TlsVersions,
    /// Whether the clock is trusted.
    pub clock: Clock,
    /// What the clock shows when the device starts, right or wrong.
    pub starts_at: OffsetDateTime,
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
    /// Give up after this many attempts.
    pub attempts_max: Option<u32>,
    /// Stop waiting after this time; the state stays, so that a later run goes on.
    pub time_max: Option<Duration>,
    /// Where the state is kept; `None` for a run that nobody resumes.
    pub state_folder: Option<PathBuf>,
    /// The passphrase under which the domain key is written.
    pub key_passphrase: Option<String>,
    /// The kind of domain key to make if the registrar does not say.
    pub key_kind: KeyKind,
    /// Connect here, whatever the registrar's name resolves to.
    pub address: Option<SocketAddr>,
    /// For rehearsals of an attack: send these bytes instead of a fresh voucher request.
    pub replay: Option<Vec<u8>>,
    /// For rehearsals of a power cut: stop dead before carrying out the step of this number,
    /// counted from 0.
    pub power_cut_before: Option<usize>,
}

impl Config {
    /// A device with the defaults: CMS, HTTP/1.1, a trusted clock, nonceless vouchers accepted as
    /// [RFC 8995 §7.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-7.2) asks, every
    /// assertion that BRSKI knows, nothing tolerated, three attempts, nothing on disk.
    #[must_use]
    pub fn new(
        registrars: Vec<Url>,
        idevid: Identity,
        masa_anchors: Anchors,
        starts_at: OffsetDateTime,
    ) -> Self {
        Self {
            registrars,
            idevid,
            masa_anchors,
            serial: SerialRule::default(),
            envelope: Envelope::Cms,
            proximity: ProximityForm::default(),
            http: HttpVersion::default(),
            tls: TlsVersions::default(),
            clock: Clock::Trusted,
            starts_at,
            nonceless: true,
            assertions: vec![Assertion::Verified, Assertion::Proximity, Assertion::Logged],
            tolerances: Tolerances::strict(),
            est_label: None,
            procedure: Procedure::Full,
            attempts_max: Some(3),
            time_max: None,
            state_folder: None,
            key_passphrase: None,
            key_kind: KeyKind::EcdsaP256,
            address: None,
            replay: None,
            power_cut_before: None,
        }
    }

    pub(crate) fn pledge(&self) -> pledge::Config {
        pledge::Config {
            registrars: self.registrars.clone(),
            idevid: self.idevid.clone(),
            serial: self.serial.clone(),
            masa_anchors: self.masa_anchors.clone(),
            envelope: self.envelope,
            proximity: self.proximity,
            clock: self.clock,
            nonceless: self.nonceless,
            assertions: self.assertions.clone(),
            tolerances: self.tolerances.clone(),
            est_label: self.est_label.clone(),
            procedure: self.procedure,
            attempts_max: self.attempts_max,
            replay: self.replay.clone(),
        }
    }
}
