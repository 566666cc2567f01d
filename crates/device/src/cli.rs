//! `usher device …`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ::brski::{
    SerialRule,
    pledge::{Clock, ProximityForm},
};
use artifacts::{Assertion, Envelope, Tolerances};
use clap::{Args, Subcommand, ValueEnum};
use daemon::{Format, Outcome, cli::text::rfc3339, config::IdentityConfig};
use net::HttpVersion;
use pki::{Certificate, Coded, path::Anchors};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use url::Url;

use crate::{
    Error,
    brski::{self, Config, Event, Message, Outcome as Run, Renewal, StepRecord, Verdict},
    coaps::cli::CoapsArguments,
    sztp::cli::{SztpArguments, UsbArguments},
};

/// The reference device.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol with a registrar by BRSKI (RFC 8995): voucher, CA certificates, domain certificate.
    Brski(Box<BrskiArguments>),
    /// Enrol with a registrar by constrained BRSKI: COSE vouchers and EST over CoAP and DTLS.
    Coaps(Box<CoapsArguments>),
    /// Bootstrap by SZTP (RFC 8572): removable storage, DNS, DHCP, then the manufacturer's servers.
    Sztp(Box<SztpArguments>),
    /// Bootstrap by SZTP from removable storage first.
    Usb(Box<UsbArguments>),
}

/// Arguments of `usher device brski`.
#[derive(Debug, Args)]
pub struct BrskiArguments {
    /// Origin of a registrar, https://host:port; several are tried in turn.
    #[arg(long, value_name = "URL", required = true)]
    registrar: Vec<Url>,
    /// Envelope of requests and vouchers.
    #[arg(long, value_enum, default_value_t = FormatName::Cms)]
    format: FormatName,
    /// HTTP version: 1.1, 2 or 3.
    #[arg(long, value_name = "VERSION", default_value = "1.1")]
    http: HttpVersion,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What a device has and does, whatever its transport.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// The IDevID: PEM file, the device's certificate first, then intermediates.
    #[arg(long, value_name = "FILE", required = true)]
    idevid: PathBuf,
    /// The IDevID's key: PKCS#8 file, encrypted or not, or a pkcs11: URI.
    #[arg(long, value_name = "FILE|URI", required = true)]
    key: String,
    /// File with the passphrase of the key file or the PIN of the token.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The PKCS#11 module, unless the URI names it.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Anchors of the manufacturer's MASA; for COSE the certificate that signs vouchers itself.
    #[arg(long, value_name = "PEM", required = true)]
    masa_anchors: Vec<PathBuf>,
    /// Folder for the device's state; a later run goes on from there.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// How the registrar is named in the request, and so what the voucher is to pin.
    #[arg(long, value_enum, default_value_t = ProximityName::Certificate)]
    proximity: ProximityName,
    /// Believe that it is this time, whatever the machine's clock says.
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    at: Option<OffsetDateTime>,
    /// The device has no clock that it trusts: dates are not judged, the nonce stands in.
    #[arg(long)]
    no_clock: bool,
    /// Refuse vouchers without a nonce.
    #[arg(long)]
    refuse_nonceless: bool,
    /// Assertions to accept; all of BRSKI's without this.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    assertion: Vec<String>,
    /// Named departures from the standards to let pass.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tolerate: Vec<String>,
    /// Where the serial number stands in the IDevID.
    #[arg(long, value_enum, default_value_t = SerialName::SubjectSerialNumber)]
    serial_rule: SerialName,
    /// Label of the EST resources.
    #[arg(long, value_name = "LABEL")]
    est_label: Option<String>,
    /// Give up after this many attempts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    attempts: u32,
    /// Stop after this many seconds; a later run goes on.
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,
    /// Connect here, whatever the registrar's name resolves to.
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Option<SocketAddr>,
    /// Renew the certificate of an enrolled device.
    #[arg(long, requires = "state")]
    pub(crate) renew: bool,
    /// With --renew: only if half of the certificate's life is over.
    #[arg(long, requires = "renew")]
    if_due: bool,
    /// Send the voucher request in this file instead of a fresh one.
    #[arg(long, value_name = "FILE", hide = true)]
    replay: Option<PathBuf>,
    /// Write the voucher request that was sent to this file.
    #[arg(long, value_name = "FILE", hide = true)]
    keep_request: Option<PathBuf>,
    /// Stop dead before the step of this number.
    #[arg(long, value_name = "N", hide = true)]
    power_cut_before: Option<usize>,
    #[command(flatten)]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    Cms,
    Jws,
    Cose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProximityName {
    Certificate,
    PublicKey,
    #[value(name = "public-key-sha256")]
    PublicKeySha256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SerialName {
    SubjectSerialNumber,
    HardwareModuleName,
    CommonName,
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())
}

impl Command {
    /// Runs the command to its end.
    #[must_use]
    pub fn run(&self) -> Outcome {
        match self {
            Self::Brski(arguments) => arguments.run(),
            Self::Coaps(arguments) => arguments.run(),
            Self::Sztp(arguments) => arguments.run(),
            Self::Usb(arguments) => arguments.run(),
        }
    }
}

impl BrskiArguments {
    fn run(&self) -> Outcome {
        let device = &self.device;
        device.run(|| async {
            let mut config = device.config(self.origins()?)?;
            config.envelope = match self.format {
                FormatName::Cms => Envelope::Cms,
                FormatName::Jws => Envelope::Jws,
                FormatName::Cose => Envelope::Cose,
            };
            config.http = self.http;
            if device.renew {
                if device.not_due(&config)? {
                    return Ok(Outcome::Yes);
                }
                return Ok(device.renewed(&brski::renew(&config).await?));
            }
            let mut trace = Vec::new();
            let outcome = brski::run(&config, &mut |event| device.watch(event, &mut trace)).await?;
            device.ran(&outcome, trace)
        })
    }

    fn origins(&self) -> Result<Vec<Url>, Error> {
        let origin = |url: &Url| {
            if url.scheme() != "https" || url.host().is_none() {
                return Err(Error::Config(format!("{url} is not an https address")));
            }
            // What stands below the origin is said by the standard.
            url.join("/")
                .map_err(|error| Error::Config(format!("{url}: {error}")))
        };
        self.registrar.iter().map(origin).collect()
    }
}

impl DeviceArguments {
    /// Runs a command on a thread of its own.
    pub(crate) fn run<F: Future<Output = Result<Outcome, Error>>>(
        &self,
        command: impl FnOnce() -> F,
    ) -> Outcome {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return self.output.problem("pledge.runtime", &error.to_string()),
        };
        runtime
            .block_on(command())
            .unwrap_or_else(|error| self.output.error(&error))
    }

    /// The device, with what does not depend on the transport.
    pub(crate) fn config(&self, origins: Vec<Url>) -> Result<Config, Error> {
        let here = PathBuf::from(".");
        let idevid = IdentityConfig {
            passphrase_file: self.passphrase_file.clone(),
            module: self.module.clone(),
            ..IdentityConfig::files(&self.idevid, &self.key)
        };
        let idevid = idevid
            .load(&here)
            .map_err(|error| Error::Config(daemon::cli::chain_of(&error)))?;
        let mut masa_anchors = Anchors::new();
        for path in &self.masa_anchors {
            masa_anchors.extend(Certificate::load_all(path)?);
        }
        let starts_at = self.at.unwrap_or_else(|| daemon::Clock::system().now());
        let mut config = Config::new(origins, idevid, masa_anchors, starts_at);
        config.serial = match self.serial_rule {
            SerialName::SubjectSerialNumber => SerialRule::SubjectSerialNumber,
            SerialName::HardwareModuleName => SerialRule::HardwareModuleName,
            SerialName::CommonName => SerialRule::CommonName,
        };
        config.proximity = match self.proximity {
            ProximityName::Certificate => ProximityForm::Certificate,
            ProximityName::PublicKey => ProximityForm::PublicKey,
            ProximityName::PublicKeySha256 => ProximityForm::PublicKeySha256,
        };
        config.clock = if self.no_clock {
            Clock::Untrusted
        } else {
            Clock::Trusted
        };
        config.nonceless = !self.refuse_nonceless;
        if !self.assertion.is_empty() {
            config.assertions = self.assertions()?;
        }
        config.tolerances = Tolerances::from_names(self.tolerate.iter().map(String::as_str))
            .map_err(|name| Error::Config(format!("there is no tolerance named {name:?}")))?;
        config.est_label.clone_from(&self.est_label);
        config.attempts_max = Some(self.attempts.max(1));
        config.time_max = self.time_limit.map(Duration::from_secs);
        config.state_folder.clone_from(&self.state);
        config.address = self.connect;
        config.power_cut_before = self.power_cut_before;
        if let Some(path) = &self.replay {
            let read = std::fs::read(path);
            config.replay = Some(read.map_err(|source| Error::State {
                path: path.clone(),
                source,
            })?);
        }
        Ok(config)
    }

    fn assertions(&self) -> Result<Vec<Assertion>, Error> {
        let read = |name: &String| {
            Assertion::from_name(name)
                .ok_or_else(|| Error::Config(format!("there is no assertion named {name:?}")))
        };
        self.assertion.iter().map(read).collect()
    }

    /// Tells an event, or keeps it for the document.
    pub(crate) fn watch(&self, event: &Event, trace: &mut Vec<Value>) {
        if self.output.json {
            trace.push(json!(event));
        } else {
            // Progress is for people and goes to stderr.
            eprintln!("{}", line(event));
        }
    }

    /// What a run came to.
    pub(crate) fn ran(&self, outcome: &Run, trace: Vec<Value>) -> Result<Outcome, Error> {
        if let (Some(path), Some(request)) = (&self.keep_request, &outcome.voucher_request) {
            std::fs::write(path, request).map_err(|source| Error::State {
                path: path.clone(),
                source,
            })?;
        }
        let mut document = match &outcome.verdict {
            Verdict::Enrolled(enrolment) => json!({
                "ok": true,
                "state": "enrolled",
                "certificate": enrolment.identity.certificate().map(Certificate::subject),
                "not_after": enrolment.identity.certificate().map(|one| rfc3339(one.not_after())),
                "anchor": enrolment.anchor.subject(),
                "registrar": enrolment.origin.as_str(),
                "assertion": enrolment.assertion,
                "reported": enrolment.reported,
            }),
            Verdict::Refused(failure) => json!({
                "ok": false,
                "state": "refused",
                "code": failure.code(),
                "detail": failure.to_string(),
            }),
            Verdict::Unfinished { last_failure } => json!({
                "ok": false,
                "state": "unfinished",
                "code": "pledge.unfinished",
                "detail": last_failure.as_ref().map(ToString::to_string),
            }),
        };
        if let Some(members) = document.as_object_mut() {
            members.insert("ms".to_owned(), json!(outcome.ms));
            members.insert("steps".to_owned(), json!(outcome.steps));
            members.insert("trace".to_owned(), json!(trace));
        }
        self.output.print(&document, |_| match &outcome.verdict {
            Verdict::Enrolled(enrolment) => {
                let subject = enrolment.identity.certificate().map(Certificate::subject);
                format!(
                    "enrolled as {} in {} ms",
                    subject.unwrap_or_default(),
                    outcome.ms
                )
            }
            Verdict::Refused(failure) => format!("not enrolled: {failure} [{}]", failure.code()),
            Verdict::Unfinished { .. } => "not finished; run again to go on".to_owned(),
        });
        Ok(Outcome::of(outcome.is_enrolled()))
    }

    /// Whether a renewal was asked for only if it is due, and is not.
    pub(crate) fn not_due(&self, config: &Config) -> Result<bool, Error> {
        let not_due = self.if_due && !brski::renewal_due(config)?;
        if not_due {
            let document = json!({ "ok": true, "state": "not-due" });
            self.output
                .print(&document, |_| "half of its life is not over yet".to_owned());
        }
        Ok(not_due)
    }

    /// What a renewal came to.
    pub(crate) fn renewed(&self, renewal: &Renewal) -> Outcome {
        let ok = renewal.identity.is_some();
        let subject = |certificate: Option<&Certificate>| certificate.map(Certificate::subject);
        let serial = |certificate: Option<&Certificate>| {
            certificate.map(|one| hex::encode(one.serial_number()))
        };
        let new = renewal
            .identity
            .as_ref()
            .and_then(pki::Identity::certificate);
        let document = json!({
            "ok": ok,
            "state": if ok { "renewed" } else { "refused" },
            "certificate": subject(new),
            "serial": serial(new),
            "previous_serial": serial(Some(&renewal.previous)),
            "not_after": new.map(|one| rfc3339(one.not_after())),
            "status": renewal.refusal.as_ref().map(|(status, _)| *status),
            "detail": renewal.refusal.as_ref().map(|(_, text)| text.as_str()),
            "steps": renewal.steps,
        });
        self.output
            .print(&document, |_| match (&renewal.refusal, new) {
                (_, Some(certificate)) => format!(
                    "renewed as {}, valid until {}",
                    certificate.subject(),
                    rfc3339(certificate.not_after())
                ),
                (Some((status, text)), None) => {
                    format!("not renewed: status {status}: {text}")
                }
                (None, None) => "not renewed".to_owned(),
            });
        Outcome::of(ok)
    }
}

/// An event in a line.
fn line(event: &Event) -> String {
    match event {
        Event::Connected {
            origin,
            client,
            http,
            tls,
            chain,
        } => {
            let server = chain
                .first()
                .and_then(|one| one.get("subject"))
                .and_then(|s| s.as_str());
            format!(
                "connected to {origin} over {http}, {} as {client}; the server shows {}",
                tls.as_deref().unwrap_or("no TLS"),
                server.unwrap_or("nothing"),
            )
        }
        Event::Disconnected { origin, reason } => format!("no connection to {origin}: {reason}"),
        Event::Exchanged(Message {
            what,
            status,
            ms,
            answer,
            ..
        }) => {
            let text = answer
                .get("text")
                .and_then(|text| text.as_str())
                .unwrap_or_default();
            format!("{what}: {} in {ms} ms {text}", status_text(what, *status))
                .trim_end()
                .to_owned()
        }
        Event::RequestMade { key_sha256 } => {
            format!(
                "made the certification request for key {}",
                short(key_sha256)
            )
        }
        Event::Waiting { ms, reason } => format!("waiting {:.1} s: {reason}", *ms as f64 / 1000.0),
        Event::Enrolled { .. } => "enrolled".to_owned(),
        Event::GaveUp { code, .. } => format!("gave up: {code}"),
    }
}

/// A status as its transport writes it. Over CoAP the resources have short names, and 204 is 2.04.
fn status_text(what: &str, status: u16) -> String {
    const OVER_COAP: [&str; 9] = ["rv", "vs", "es", "crts", "att", "sen", "sren", "skg", "skc"];
    if OVER_COAP.contains(&what) {
        format!("{}.{:02}", status / 100, status % 100)
    } else {
        status.to_string()
    }
}

fn short(hex: &str) -> &str {
    hex.get(..16).unwrap_or(hex)
}

/// What a run did, for tables of tests and of the demo.
#[must_use]
pub fn summary(steps: &[StepRecord]) -> String {
    let word = |step: &StepRecord| match step.status {
        Some(status) => format!("{} {status}", step.what),
        None => step.what.clone(),
    };
    steps.iter().map(word).collect::<Vec<_>>().join(", ")
}
