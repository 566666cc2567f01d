//! A device that provisions itself by SZTP
//! ([RFC 8572](https://www.rfc-editor.org/rfc/rfc8572.html)).
//!
//! [`run`] carries out the steps of [`sztp::agent::Machine`]: it reads sources, resolves names,
//! makes connections, fetches images, runs or shows scripts, and keeps a configuration in a
//! folder. What a server can make it do is bounded by the constants here and in the agent.

pub mod cli;
mod configuration;
mod csr;
mod disk;
mod event;
mod host_keys;
mod image;
mod run;
mod script;
mod source;

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use artifacts::{Assertion, Encoding, SerialNumber, Tolerances};
use brski::SerialRule;
use net::{HttpVersion, TlsVersions};
use pki::{Certificate, Decryptor, Identity, path::Anchors};
use time::OffsetDateTime;

pub use self::{
    event::{DeviceEvent, Event, Message, Record},
    host_keys::{host_key, trust_anchor_cert},
    run::{Outcome, Verdict, factory_reset, run},
    source::{Next, Source, SourceError},
};
pub use ::sztp::{
    Leniency,
    agent::{
        Bootstrapped, Clock, CsrAbility, Failure, Finding, Found, NonceUse, REDIRECTS_MAX,
        RunningOs, Server, State,
    },
    message::SshHostKey,
};

/// Largest boot image, unless the options say otherwise.
pub const IMAGE_SIZE_MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Largest configuration that the device holds.
pub const CONFIGURATION_SIZE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long a script may run, unless the options say otherwise.
pub const SCRIPT_TIME_MAX: Duration = Duration::from_secs(60);
/// How much of a script's output is kept.
pub const SCRIPT_OUTPUT_MAX_BYTES: usize = 64 * 1024;
/// Largest file that a script may write.
pub const SCRIPT_FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Time for one look at a source.
pub const SOURCE_TIME_MAX: Duration = Duration::from_secs(120);
/// Time from a request to the end of its answer.
pub const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);
/// Time from one piece of a boot image to the next.
pub const IMAGE_IDLE_MAX: Duration = Duration::from_secs(30);
/// Time for a boot image from one location, however often it is taken up again.
pub const IMAGE_TIME_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// How often a server is asked to go on with a boot image whose connection broke.
pub const IMAGE_RESUMES_MAX: u32 = 5;
/// How often the device reboots in one run.
pub const REBOOTS_MAX: u32 = 8;
/// Events that an outcome holds.
pub const EVENTS_MAX: usize = 10_000;

/// What is done with scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scripts {
    /// They are shown in the trace and count as having gone well.
    #[default]
    Show,
    /// They run in a folder of their own, with nothing of this process's environment.
    Run {
        /// How long.
        time_max: Duration,
    },
}

/// A device and how it goes about bootstrapping.
pub struct Options {
    /// The IDevID: chain and key. SZTP-8572-5.3-06: the whole chain is sent.
    pub idevid: Identity,
    /// Where the serial number stands in it.
    pub serial: SerialRule,
    /// The hardware model.
    pub hw_model: Option<String>,
    /// The operating system that the device leaves the factory with.
    pub os: RunningOs,
    /// The sources, in the order in which they are asked. The well-known servers follow.
    pub sources: Vec<Box<dyn Source>>,
    /// The manufacturer's bootstrap servers.
    pub well_known: Vec<Server>,
    /// Anchors for bootstrap servers.
    pub server_anchors: Anchors,
    /// Anchors for ownership vouchers.
    pub voucher_anchors: Anchors,
    /// Whether the clock is trusted.
    pub clock: Clock,
    /// What the clock shows when the device starts, right or wrong.
    pub starts_at: OffsetDateTime,
    /// How far the manufacturer's clock may be ahead when a voucher is made.
    pub clock_skew: Duration,
    /// When a nonce is sent.
    pub nonce: NonceUse,
    /// The assertions that are accepted.
    pub assertions: Vec<Assertion>,
    /// What decrypts artefacts, if anything does.
    pub decryptor: Option<Arc<dyn Decryptor>>,
    /// The encoding that is spoken over RESTCONF.
    pub encoding: Encoding,
    /// What is let pass in artefacts.
    pub tolerances: Tolerances,
    /// What is let pass in messages.
    pub leniency: Leniency,
    /// The password for HTTP Basic with trusted servers.
    pub password: Option<String>,
    /// Whether certification requests can be made.
    pub csr: Option<CsrAbility>,
    /// Redirects that are followed one below the other.
    pub redirects_max: u32,
    /// Give up after this many rounds over all sources.
    pub rounds_max: Option<u32>,
    /// Send every progress report.
    pub verbose: bool,
    /// SSH host keys to report at the end.
    pub ssh_host_keys: Vec<SshHostKey>,
    /// Chains to report at the end, each as a CMS ([`trust_anchor_cert`]).
    pub trust_anchor_certs: Vec<Vec<u8>>,
    /// What is done with scripts.
    pub scripts: Scripts,
    /// The folder that `file:` URIs of boot images are looked up in: the removable storage.
    pub image_folder: Option<PathBuf>,
    /// Anchors for servers of boot images. Without any their certificates are accepted blindly, as
    /// the fingerprint decides.
    pub image_anchors: Anchors,
    /// Largest boot image.
    pub image_size_max_bytes: u64,
    /// The HTTP version to speak.
    pub http: HttpVersion,
    /// TLS versions.
    pub tls: TlsVersions,
    /// Addresses of host names, before any resolver is asked.
    pub hosts: Vec<(String, Vec<IpAddr>)>,
    /// Where the state is kept; without a folder nothing is left when the run is over.
    pub state_folder: Option<PathBuf>,
    /// The passphrase under which a new key is written.
    pub key_passphrase: Option<String>,
    /// Stop after this time; a later run goes on.
    pub time_max: Option<Duration>,
    /// For rehearsals of a power cut: stop dead at the write to the disk of this number, counted
    /// from 0. Each write has two: before it, and when all but the last act is done.
    pub power_cut_at_write: Option<u32>,
}

impl Options {
    /// A device with the defaults: no source, a trusted clock, JSON over HTTP/1.1, scripts only
    /// shown, three rounds, nothing kept.
    #[must_use]
    pub fn new(idevid: Identity, voucher_anchors: Anchors, starts_at: OffsetDateTime) -> Self {
        Self {
            idevid,
            serial: SerialRule::default(),
            hw_model: None,
            os: RunningOs::default(),
            sources: Vec::new(),
            well_known: Vec::new(),
            server_anchors: Anchors::new(),
            voucher_anchors,
            clock: Clock::Trusted,
            starts_at,
            clock_skew: Duration::ZERO,
            nonce: NonceUse::default(),
            assertions: vec![Assertion::Verified, Assertion::Logged, Assertion::Proximity],
            decryptor: None,
            encoding: Encoding::Json,
            tolerances: Tolerances::strict(),
            leniency: Leniency::strict(),
            password: None,
            csr: None,
            redirects_max: REDIRECTS_MAX,
            rounds_max: Some(3),
            verbose: false,
            ssh_host_keys: Vec::new(),
            trust_anchor_certs: Vec::new(),
            scripts: Scripts::Show,
            image_folder: None,
            image_anchors: Anchors::new(),
            image_size_max_bytes: IMAGE_SIZE_MAX_BYTES,
            http: HttpVersion::default(),
            tls: TlsVersions::default(),
            hosts: Vec::new(),
            state_folder: None,
            key_passphrase: None,
            time_max: None,
            power_cut_at_write: None,
        }
    }

    fn agent(&self) -> Result<::sztp::agent::Config, crate::Error> {
        let no_serial = || crate::Error::Config("the IDevID has no serial number".to_owned());
        let idevid = self.idevid.certificate().ok_or_else(no_serial)?;
        let serial = self.serial.serial_of(idevid);
        let serial = serial.and_then(SerialNumber::new).ok_or_else(no_serial)?;
        let mut config = ::sztp::agent::Config::new(serial, Certificate::clone(idevid));
        config.hw_model.clone_from(&self.hw_model);
        config.well_known.clone_from(&self.well_known);
        config.server_anchors = self.server_anchors.clone();
        config.voucher_anchors = self.voucher_anchors.clone();
        config.clock = self.clock;
        config.clock_skew = self.clock_skew.try_into().unwrap_or(time::Duration::ZERO);
        config.nonce = self.nonce;
        config.assertions.clone_from(&self.assertions);
        config.decryptor.clone_from(&self.decryptor);
        config.encoding = self.encoding;
        config.tolerances = self.tolerances.clone();
        config.leniency = self.leniency.clone();
        config.password.clone_from(&self.password);
        config.csr.clone_from(&self.csr);
        // SZTP-8572-5.3-12: whatever was configured, there is an end.
        config.redirects_max = self.redirects_max.min(REDIRECTS_MAX);
        config.rounds_max = self.rounds_max;
        config.verbose = self.verbose;
        config.ssh_host_keys.clone_from(&self.ssh_host_keys);
        config
            .trust_anchor_certs
            .clone_from(&self.trust_anchor_certs);
        Ok(config)
    }
}
