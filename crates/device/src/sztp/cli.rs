//! `usher device sztp`.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use artifacts::{Assertion, Encoding, Tolerances};
use brski::SerialRule;
use clap::{Args, ValueEnum};
use daemon::{Format, Outcome, config::IdentityConfig};
use net::HttpVersion;
use pki::{Certificate, KeyKind, SoftwareKey, path::Anchors};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use url::Url;

use super::{
    Clock, CsrAbility, IMAGE_SIZE_MAX_BYTES, Leniency, NonceUse, Options, Record, RunningOs,
    Scripts, Server, Verdict, event, factory_reset, host_key, run, trust_anchor_cert,
};
use crate::{Error, sources};

/// Arguments of `usher device sztp`.
#[derive(Debug, Args)]
pub struct SztpArguments {
    /// Bootstrap server of the manufacturer, https://host:port; several are tried in turn, after
    /// all other sources.
    #[arg(long, value_name = "URL")]
    server: Vec<Url>,
    /// The IDevID: PEM file, the device's certificate first, then intermediates.
    #[arg(long, value_name = "FILE", required_unless_present = "factory_reset")]
    idevid: Option<PathBuf>,
    /// The IDevID's key: PKCS#8 file, encrypted or not, or a pkcs11: URI.
    #[arg(
        long,
        value_name = "FILE|URI",
        required_unless_present = "factory_reset"
    )]
    key: Option<String>,
    /// File with the passphrase of the key file or the PIN of the token.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// The PKCS#11 module, unless the URI names it.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Anchors for ownership vouchers.
    #[arg(long, value_name = "PEM")]
    voucher_anchors: Vec<PathBuf>,
    /// Anchors for bootstrap servers. Without any, every server is untrusted until trusted
    /// redirect information names its anchor.
    #[arg(long, value_name = "PEM")]
    server_anchors: Vec<PathBuf>,
    /// Folder for the device's state; a later run goes on from there.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Set the device in --state back to how it left the factory, and stop.
    #[arg(long, requires = "state")]
    factory_reset: bool,
    /// Hardware model.
    #[arg(long, value_name = "TEXT")]
    hw_model: Option<String>,
    /// Name of the operating system that the device leaves the factory with.
    #[arg(long, value_name = "TEXT")]
    os_name: Option<String>,
    /// Its version.
    #[arg(long, value_name = "TEXT")]
    os_version: Option<String>,
    /// Encoding of RESTCONF messages.
    #[arg(long, value_enum, default_value_t = EncodingName::Json)]
    encoding: EncodingName,
    /// HTTP version: 1.1, 2 or 3.
    #[arg(long, value_name = "VERSION", default_value = "1.1")]
    http: HttpVersion,
    /// Believe that it is this time, whatever the machine's clock says.
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    at: Option<OffsetDateTime>,
    /// The device has no clock that it trusts: dates are not judged, a nonce is sent.
    #[arg(long)]
    no_clock: bool,
    /// How far the manufacturer's clock may be ahead of the device's when a voucher is made.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    clock_skew: u64,
    /// When a nonce is sent.
    #[arg(long, value_enum, default_value_t = NonceName::WithoutClock)]
    nonce: NonceName,
    /// Assertions of vouchers to accept; all without this.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    assertion: Vec<String>,
    /// Named departures from the standards to let pass, in artefacts and in messages.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tolerate: Vec<String>,
    /// Where the serial number stands in the IDevID.
    #[arg(long, value_enum, default_value_t = SerialName::SubjectSerialNumber)]
    serial_rule: SerialName,
    /// File with a password for HTTP Basic, shown to trusted servers only.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Offer to make certification requests (RFC 9646).
    #[arg(long)]
    csr: bool,
    /// Kinds of new key to offer with --csr; the factory key only without this.
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        value_delimiter = ',',
        requires = "csr"
    )]
    csr_key: Vec<KeyName>,
    /// Decrypt artefacts with the IDevID's key, which has to be in a file.
    #[arg(long)]
    decrypt: bool,
    /// Redirects to follow one below the other, at most 10.
    #[arg(long, value_name = "N", default_value_t = super::REDIRECTS_MAX)]
    redirects: u32,
    /// Give up after this many rounds over all sources.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Send every progress report, whatever the server asks for.
    #[arg(long)]
    verbose_reports: bool,
    /// SSH host key to report: an OpenSSH public key file.
    #[arg(long, value_name = "FILE")]
    ssh_host_key: Vec<PathBuf>,
    /// Chain to report, by which managers can authenticate the device: PEM, with its root.
    #[arg(long, value_name = "PEM")]
    trust_anchor_chain: Vec<PathBuf>,
    /// Run scripts, in a folder of their own; without this they are only shown.
    #[arg(long)]
    run_scripts: bool,
    /// How long a script may run.
    #[arg(long, value_name = "SECONDS", default_value_t = super::SCRIPT_TIME_MAX.as_secs())]
    script_time: u64,
    /// Anchors for servers of boot images; without any the fingerprint alone decides.
    #[arg(long, value_name = "PEM")]
    image_anchors: Vec<PathBuf>,
    /// Largest boot image in octets.
    #[arg(long, value_name = "N", default_value_t = IMAGE_SIZE_MAX_BYTES)]
    image_size_max: u64,
    /// Address of a host name, before any resolver is asked.
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = parse_host)]
    host: Vec<(String, IpAddr)>,
    /// Stop after this many seconds; a later run goes on.
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u64>,
    /// Stop dead at the disk write of this number.
    #[arg(long, value_name = "N", hide = true)]
    power_cut_at_write: Option<u32>,
    #[command(flatten)]
    output: Format,
    // Last, because its heading stands above all that follows.
    #[command(flatten)]
    sources: sources::Arguments,
}

/// Arguments of `usher device usb`.
#[derive(Debug, Args)]
pub struct UsbArguments {
    /// Folder where removable storage is mounted.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    sztp: SztpArguments,
}

impl UsbArguments {
    pub(crate) fn run(&self) -> Outcome {
        self.sztp.run_with(Some(&self.folder))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EncodingName {
    Json,
    Xml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NonceName {
    Always,
    WithoutClock,
    Never,
    Required,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SerialName {
    SubjectSerialNumber,
    HardwareModuleName,
    CommonName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyName {
    P256,
    P384,
    P521,
    Ed25519,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

impl KeyName {
    fn kind(self) -> KeyKind {
        match self {
            Self::P256 => KeyKind::EcdsaP256,
            Self::P384 => KeyKind::EcdsaP384,
            Self::P521 => KeyKind::EcdsaP521,
            Self::Ed25519 => KeyKind::Ed25519,
            Self::Rsa2048 => KeyKind::Rsa2048,
            Self::Rsa3072 => KeyKind::Rsa3072,
            Self::Rsa4096 => KeyKind::Rsa4096,
        }
    }
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|error| error.to_string())
}

fn parse_host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or_else(|| "NAME=ADDRESS is wanted".to_owned())?;
    let address = address
        .parse()
        .map_err(|error: std::net::AddrParseError| error.to_string())?;
    Ok((name.to_owned(), address))
}

impl SztpArguments {
    pub(crate) fn run(&self) -> Outcome {
        self.run_with(None)
    }

    /// Runs with another folder of removable storage before all other sources.
    fn run_with(&self, storage: Option<&Path>) -> Outcome {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => return self.output.problem("device.runtime", &error.to_string()),
        };
        let result = if self.factory_reset {
            self.reset()
        } else {
            self.options(storage)
                .and_then(|options| runtime.block_on(self.bootstrap(options)))
        };
        result.unwrap_or_else(|error| self.output.error(&error))
    }

    fn reset(&self) -> Result<Outcome, Error> {
        if let Some(folder) = &self.state {
            factory_reset(folder)?;
        }
        self.output
            .print(&json!({ "ok": true, "state": "factory" }), |_| {
                "as it left the factory".to_owned()
            });
        Ok(Outcome::Yes)
    }

    fn options(&self, storage: Option<&Path>) -> Result<Options, Error> {
        let (Some(idevid_file), Some(key)) = (&self.idevid, &self.key) else {
            return Err(Error::Config("--idevid and --key are wanted".to_owned()));
        };
        let identity = IdentityConfig {
            passphrase_file: self.passphrase_file.clone(),
            module: self.module.clone(),
            ..IdentityConfig::files(idevid_file, key)
        };
        let idevid = identity
            .load(Path::new("."))
            .map_err(|error| Error::Config(daemon::cli::chain_of(&error)))?;
        let starts_at = self.at.unwrap_or_else(|| daemon::Clock::system().now());
        let mut options = Options::new(idevid, anchors(&self.voucher_anchors)?, starts_at);
        options.serial = match self.serial_rule {
            SerialName::SubjectSerialNumber => SerialRule::SubjectSerialNumber,
            SerialName::HardwareModuleName => SerialRule::HardwareModuleName,
            SerialName::CommonName => SerialRule::CommonName,
        };
        let serial = options
            .idevid
            .certificate()
            .and_then(|certificate| options.serial.serial_of(certificate))
            .ok_or_else(|| Error::Config("the IDevID has no serial number".to_owned()))?;
        let mut sources = self.sources.clone();
        if let Some(storage) = storage {
            sources.usb.insert(0, storage.to_owned());
        }
        options.sources = sources
            .sources(&serial)
            .map_err(|error| Error::Config(error.to_string()))?;
        options.well_known = self.servers()?;
        options.server_anchors = anchors(&self.server_anchors)?;
        options.image_anchors = anchors(&self.image_anchors)?;
        options.image_folder = sources.usb.first().cloned();
        options.hw_model.clone_from(&self.hw_model);
        options.os = RunningOs {
            name: self.os_name.clone(),
            version: self.os_version.clone(),
            image_sha256: None,
        };
        options.encoding = match self.encoding {
            EncodingName::Json => Encoding::Json,
            EncodingName::Xml => Encoding::Xml,
        };
        options.http = self.http;
        options.clock_skew = Duration::from_secs(self.clock_skew);
        if self.no_clock {
            options.clock = Clock::Untrusted;
        }
        options.nonce = match self.nonce {
            NonceName::Always => NonceUse::Always,
            NonceName::WithoutClock => NonceUse::WithoutClock,
            NonceName::Never => NonceUse::Never,
            NonceName::Required => NonceUse::Required,
        };
        if !self.assertion.is_empty() {
            options.assertions = self.assertions()?;
        }
        (options.tolerances, options.leniency) = self.departures()?;
        if let Some(path) = &self.password_file {
            options.password = Some(read(path)?.trim_end_matches(['\r', '\n']).to_owned());
        }
        options.csr = self.csr.then(|| CsrAbility {
            keys: self.csr_key.iter().map(|key| key.kind()).collect(),
        });
        if self.decrypt {
            let passphrase = match &self.passphrase_file {
                Some(path) => Some(read(path)?),
                None => None,
            };
            let passphrase = passphrase.as_deref().map(str::trim_end);
            let key = SoftwareKey::load(key, passphrase)?;
            options.decryptor = Some(std::sync::Arc::new(key));
        }
        options.redirects_max = self.redirects;
        options.rounds_max = Some(self.rounds.max(1));
        options.verbose = self.verbose_reports;
        for path in &self.ssh_host_key {
            options.ssh_host_keys.push(host_key(&read(path)?)?);
        }
        for path in &self.trust_anchor_chain {
            let chain = Certificate::load_all(path)?;
            options.trust_anchor_certs.push(trust_anchor_cert(&chain)?);
        }
        if self.run_scripts {
            options.scripts = Scripts::Run {
                time_max: Duration::from_secs(self.script_time.max(1)),
            };
        }
        options.image_size_max_bytes = self.image_size_max;
        for (name, address) in &self.host {
            match options.hosts.iter_mut().find(|(known, _)| known == name) {
                Some((_, addresses)) => addresses.push(*address),
                None => options.hosts.push((name.clone(), vec![*address])),
            }
        }
        options.state_folder.clone_from(&self.state);
        options.time_max = self.time_limit.map(Duration::from_secs);
        options.power_cut_at_write = self.power_cut_at_write;
        Ok(options)
    }

    /// SZTP-8572-5.1-05: host or address, and an optional port.
    fn servers(&self) -> Result<Vec<Server>, Error> {
        let server = |url: &Url| {
            let host = match url.host() {
                Some(url::Host::Domain(name)) => name.to_owned(),
                Some(url::Host::Ipv4(address)) => address.to_string(),
                Some(url::Host::Ipv6(address)) => address.to_string(),
                None => String::new(),
            };
            if url.scheme() != "https" || host.is_empty() {
                return Err(Error::Config(format!("{url} is not an https address")));
            }
            Ok(Server::new(host, url.port()))
        };
        self.server.iter().map(server).collect()
    }

    fn assertions(&self) -> Result<Vec<Assertion>, Error> {
        let read = |name: &String| {
            Assertion::from_name(name)
                .ok_or_else(|| Error::Config(format!("there is no assertion named {name:?}")))
        };
        self.assertion.iter().map(read).collect()
    }

    /// A name is one of a switch for artefacts, of one for messages, or of both.
    fn departures(&self) -> Result<(Tolerances, Leniency), Error> {
        let mut tolerances = Tolerances::strict();
        let mut leniency = Leniency::strict();
        for name in &self.tolerate {
            let artefacts = Tolerances::from_names([name.as_str()]);
            let messages = Leniency::from_names([name.as_str()]);
            if artefacts.is_err() && messages.is_err() {
                return Err(Error::Config(format!(
                    "there is no tolerance named {name:?}"
                )));
            }
            if let Ok(more) = artefacts {
                tolerances = tolerances.union(&more);
            }
            if let Ok(more) = messages {
                leniency = leniency.union(&more);
            }
        }
        Ok((tolerances, leniency))
    }

    async fn bootstrap(&self, options: Options) -> Result<Outcome, Error> {
        let json = self.output.json;
        let mut observer = |record: &Record| {
            if !json {
                // Progress is for people and goes to stderr.
                eprintln!("{}", event::line(&record.event));
            }
        };
        let outcome = run(options, &mut observer).await?;
        self.output
            .print(&outcome.document(), |_| match &outcome.verdict {
                Verdict::Bootstrapped(bootstrapped) => format!(
                    "bootstrapped from {} in {} ms",
                    bootstrapped
                        .server
                        .as_deref()
                        .unwrap_or(&bootstrapped.source),
                    outcome.ms
                ),
                Verdict::Disabled => "SZTP is switched off; booting normally".to_owned(),
                Verdict::Failed(failure) => format!("not bootstrapped: {failure}"),
                Verdict::Unfinished { .. } => "not finished; run again to go on".to_owned(),
            });
        Ok(Outcome::of(matches!(
            outcome.verdict,
            Verdict::Bootstrapped(_) | Verdict::Disabled
        )))
    }
}

fn anchors(paths: &[PathBuf]) -> Result<Anchors, Error> {
    let mut anchors = Anchors::new();
    for path in paths {
        anchors.extend(Certificate::load_all(path)?);
    }
    Ok(anchors)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::State {
        path: path.to_owned(),
        source,
    })
}
