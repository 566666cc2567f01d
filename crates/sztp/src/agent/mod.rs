//! The device's side of [RFC 8572 §5](https://www.rfc-editor.org/rfc/rfc8572.html#section-5), with
//! the certification request of
//! [RFC 9646 §2](https://www.rfc-editor.org/rfc/rfc9646.html#section-2).
//!
//! [`Machine::step`] takes what happened and says what to do next. Sources are read, names are
//! resolved, connections made, images fetched, scripts run and configurations committed by whoever
//! drives the machine. What has to outlive a power cut is [`State`]: it is to be written down
//! before a step is carried out. A device that loses power begins its boot sequence anew, as RFC
//! 8572 §5.2 has it, and [`Step::RollBack`] takes back what an unfinished onboarding had done.

mod config;
mod csr;
mod exchange;
mod machine;
mod note;
mod onboarding;
mod report;
mod trust;

use std::net::IpAddr;

pub use artifacts::bundle::BootstrappingData;
use artifacts::conveyed::{ConfigurationHandling, ImageVerification};
use pki::{Certificate, Coded, Crl};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

pub use self::{
    config::{Clock, Config, CsrAbility, NonceUse},
    csr::{CsrPlan, KeyChoice},
    machine::Machine,
    note::{CheckNote, Note, TrustNote},
    trust::TrustAnchor,
};
pub use crate::message::ProgressType;

/// Redirects from server to server that are followed one below the other.
///
/// SZTP-8572-5.3-12: "the maximum number of recursive redirects allowed SHOULD be no more than
/// ten."
pub const REDIRECTS_MAX: u32 = 10;
/// Bootstrap servers of one list that are looked at. Together with [`CONNECTIONS_MAX`] it bounds
/// what hostile lists, each of which leads to more of them, can make a device do.
pub const SERVERS_PER_LIST_MAX: usize = 32;
/// Addresses of one host name that are tried.
pub const ADDRESSES_PER_NAME_MAX: usize = 16;
/// Connections to bootstrap servers in one round of the boot sequence, other than those made
/// again because they broke.
pub const CONNECTIONS_MAX: u32 = 128;
/// Findings of one source that are looked at in one round, and its errors.
pub const FINDINGS_PER_SOURCE_MAX: u32 = 32;
/// How often a connection is made again for a request that got no answer.
pub const RECONNECTS_MAX: u32 = 2;
/// Largest answer to `get-bootstrapping-data`.
pub const ANSWER_SIZE_MAX_BYTES: usize = crate::restconf::BODY_SIZE_MAX_BYTES;
/// Largest answer to anything else: host-meta, errors, reports.
pub const SMALL_ANSWER_SIZE_MAX_BYTES: usize = 64 * 1024;
/// Longest certificate chain of a bootstrap server.
pub const CHAIN_LENGTH_MAX: usize = 10;
/// How often one server may ask for a certification request within one attempt.
pub const CSR_REQUESTS_MAX: u32 = 3;
/// Boot images that are installed on the way to one successful bootstrap.
pub const INSTALLS_MAX: u32 = 3;
/// Locations of a boot image that are tried.
pub const DOWNLOAD_URIS_MAX: usize = 16;
/// How much of a script's output or of an error goes into a progress report.
pub const MESSAGE_CHARS_MAX: usize = 2000;
/// How much of a peer's text is kept in the trace.
pub const EXCERPT_CHARS_MAX: usize = 300;
/// The first pause after a round in which no source helped; it doubles from there.
pub const BACK_OFF_MIN: Duration = Duration::seconds(5);
/// The longest pause between rounds.
pub const BACK_OFF_MAX: Duration = Duration::minutes(10);

/// A bootstrap server as a source names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Server {
    /// A host name, or an IP address without brackets.
    pub address: String,
    /// SZTP-8572-6.3-04: "If no port is specified, the IANA-assigned port for 'https' (443) is
    /// used."
    pub port: Option<u16>,
}

impl Server {
    /// A server at the port, or at 443.
    pub fn new(address: impl Into<String>, port: Option<u16>) -> Self {
        Self {
            address: address.into(),
            port,
        }
    }

    /// The port that is connected to.
    #[must_use]
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(443)
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let port = self.effective_port();
        if self.address.contains(':') {
            write!(f, "[{}]:{port}", self.address)
        } else {
            write!(f, "{}:{port}", self.address)
        }
    }
}

/// What a source other than a bootstrap server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where exactly, for the trace: a file, a DNS name and transport, a DHCP option.
    pub name: String,
    /// What.
    pub found: Found,
}

/// What a source other than a bootstrap server holds. All of it is untrusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Bootstrap servers, in the order in which they are to be tried: DHCP options and SRV
    /// records. It is the same as unsigned redirect information.
    Servers(Vec<Server>),
    /// Artefacts: files and TXT records.
    Data(BootstrappingData),
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable dotted code.
    pub code: String,
    /// Why, in words.
    pub text: String,
}

impl Failure {
    /// A failure with its code. Of the text no more is kept than a report takes, and no control
    /// characters: peers have their share in it, if only by the names in their certificates.
    pub fn new(code: impl Into<String>, text: impl AsRef<str>) -> Self {
        Self {
            code: code.into(),
            text: excerpt(text.as_ref().as_bytes(), MESSAGE_CHARS_MAX),
        }
    }

    /// The failure that a coded error stands for.
    pub fn of<E: Coded>(error: &E) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

/// The operating system that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningOs {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// SHA-256 of the boot image in hexadecimal, if it was installed by bootstrapping.
    #[serde(default)]
    pub image_sha256: Option<String>,
}

/// What outlives a power cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// SZTP-8572-5.1-01: "a configurable variable that is used to enable/disable SZTP
    /// bootstrapping. This variable MUST be enabled by default".
    pub enabled: bool,
    /// Rounds over all sources in a row that did not help.
    pub rounds: u32,
    /// The next round does not begin before this moment.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub not_before: Option<OffsetDateTime>,
    /// The operating system that runs.
    pub os: RunningOs,
    /// Boot images that were installed since the last success.
    pub installs: u32,
    /// Whether onboarding information is being processed: after a power cut its effects are taken
    /// back.
    pub onboarding: bool,
    /// The success.
    pub bootstrapped: Option<Bootstrapped>,
    /// Why the last attempt failed.
    pub last_failure: Option<Failure>,
}

impl State {
    /// A device as it leaves the factory.
    #[must_use]
    pub fn factory(os: RunningOs) -> Self {
        Self {
            enabled: true,
            rounds: 0,
            not_before: None,
            os,
            installs: 0,
            onboarding: false,
            bootstrapped: None,
            last_failure: None,
        }
    }
}

/// How the device was bootstrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrapped {
    /// The source that began it.
    pub source: String,
    /// The server that gave the onboarding information, if one did.
    pub server: Option<String>,
    /// Whether that server was trusted, and so got reports.
    pub reported: bool,
    /// Whether the onboarding information was signed by the owner.
    pub signed: bool,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Begin, or go on after a pause, a power cut or a reboot.
    Begin,
    /// What the source holds next; `None` if there is no more.
    Found(Option<Finding>),
    /// The addresses of the host name.
    Resolved(Vec<IpAddr>),
    /// The connection is up; the server showed this chain, the leaf first.
    Connected {
        /// The chain.
        chain: &'a [Certificate],
    },
    /// The whole answer to the request.
    Answered {
        /// Status.
        status: u16,
        /// Header fields, names in lower case.
        headers: &'a [(String, String)],
        /// Body.
        body: &'a [u8],
    },
    /// The certification request that was planned, DER.
    CsrMade {
        /// The request.
        csr: &'a [u8],
    },
    /// The script came to an end, or is only shown.
    ScriptEnded {
        /// What it says of itself.
        outcome: ScriptOutcome,
        /// What it printed.
        output: &'a str,
    },
    /// The step was carried out.
    Done {
        /// Warnings, if there are any.
        warning: Option<&'a str>,
    },
    /// The configuration is committed.
    Committed {
        /// Warnings, if there are any.
        warning: Option<&'a str>,
        /// Whether it switches SZTP off.
        disables_sztp: bool,
    },
    /// The step could not be carried out: the source could not be read, the name not resolved, the
    /// connection not made, the connection broke, the image is not right…
    Failed(Failure),
}

/// What a script says of itself
/// ([RFC 8572 §6.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-6.3), typedef script).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptOutcome {
    /// It went well.
    Success,
    /// A soft error "that the script believes will not affect manageability".
    Warning,
    /// A hard error.
    Error,
}

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptStage {
    /// Before the configuration.
    Pre,
    /// After it.
    Post,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Take back what an onboarding that came to no end has left: the configuration, what scripts
    /// wrote. Must do nothing where there is nothing to take back.
    RollBack,
    /// Start all sources from their beginnings. There is no answer but [`Input::Done`].
    RewindSources,
    /// Ask the source for what it holds next.
    NextFinding {
        /// Index into the sources.
        source: usize,
    },
    /// Find the addresses of a host name.
    Resolve {
        /// The name.
        host: String,
    },
    /// Close any connection and open a new one, with the IDevID as client certificate.
    Connect(Connect),
    /// Send this on the open connection.
    Send(Request),
    /// Make the key, if a new one is wanted, and the certification request.
    MakeCsr(CsrPlan),
    /// Fetch a boot image from this location and verify it. A part that was fetched before is of
    /// use: the fingerprint is over the whole.
    FetchImage {
        /// Where from.
        uri: String,
        /// The fingerprints; at least one.
        verifications: Vec<ImageVerification>,
    },
    /// Install the image that was fetched, so that it runs after the next reboot.
    InstallImage,
    /// Run a script, or show it.
    RunScript {
        /// Which.
        stage: ScriptStage,
        /// The script.
        script: Vec<u8>,
    },
    /// Commit the configuration, whole or not at all.
    Commit {
        /// The configuration.
        configuration: Vec<u8>,
        /// Merge or replace.
        handling: ConfigurationHandling,
    },
    /// Make lasting what was done: there is no way back from here.
    Finish,
    /// Close any connection and come back with [`Input::Begin`] at this moment.
    Wait {
        /// When.
        until: OffsetDateTime,
        /// Why the last round failed.
        failure: Failure,
    },
    /// Reboot into the image that was installed: a new machine goes on from [`State`].
    Reboot,
    /// The device runs its new configuration.
    Done(Bootstrapped),
    /// SZTP is switched off: boot normally.
    Disabled,
    /// The device gives up, because it was told how often to try.
    GiveUp(Failure),
}

/// A connection to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// The host as the source named it: for the name check and for the server name indication.
    pub host: String,
    /// The address, if the host is a name.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// What the server has to prove.
    pub authenticate: Authenticate,
}

/// What the server has to prove.
#[derive(Clone, Debug, PartialEq)]
pub enum Authenticate {
    /// Its certificate leads to one of these and names the host, or there is no connection.
    Anchors {
        /// The anchors.
        anchors: Vec<Certificate>,
        /// Revocation lists that came with them.
        crls: Vec<Crl>,
        /// At which time; `None` ignores validity periods.
        at: Option<OffsetDateTime>,
    },
    /// Nothing: the connection is provisional.
    Nothing,
}

/// A request to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is.
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

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The header fields may hold a password.
        f.debug_struct("Request")
            .field("what", &self.what)
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The requests that an agent makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// `/.well-known/host-meta`
    HostMeta,
    /// `get-bootstrapping-data`
    GetBootstrappingData,
    /// `report-progress`
    ReportProgress,
}

impl What {
    /// The name of the resource.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HostMeta => "host-meta",
            Self::GetBootstrappingData => "get-bootstrapping-data",
            Self::ReportProgress => "report-progress",
        }
    }

    /// The largest answer that is of use.
    #[must_use]
    pub fn answer_size_max_bytes(self) -> usize {
        match self {
            Self::GetBootstrappingData => ANSWER_SIZE_MAX_BYTES,
            Self::HostMeta | Self::ReportProgress => SMALL_ANSWER_SIZE_MAX_BYTES,
        }
    }
}

/// The beginning of somebody's text: no control characters but line feed and tab, nothing that is
/// not UTF-8.
#[must_use]
pub fn excerpt(bytes: &[u8], chars_max: usize) -> String {
    // A character has at most four bytes, so the rest need not be looked at.
    let bytes = bytes.get(..chars_max.saturating_mul(4)).unwrap_or(bytes);
    String::from_utf8_lossy(bytes)
        .chars()
        .take(chars_max)
        .map(|c| match c {
            '\n' | '\t' => c,
            // Neither XML nor a terminal takes these.
            '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect::<String>()
        .trim()
        .to_owned()
}
