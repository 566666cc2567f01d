//! Carrying out the agent's steps.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use net::client::{ClientConfig, ClientLimits, Connection, Host, ServerTrust, Target};
use pki::{
    Certificate, Coded, SoftwareKey,
    path::{Anchors, PathOptions, Purpose},
};
use sztp::agent::{
    Authenticate, Bootstrapped, Connect, CsrPlan, Failure, Finding, Input, KeyChoice, Machine,
    Request, ScriptOutcome, ScriptStage, State, Step, What, excerpt,
};

use super::{
    EVENTS_MAX, Options, REBOOTS_MAX, RESPONSE_TIME_MAX, SOURCE_TIME_MAX, Scripts, configuration,
    csr,
    disk::{Disk, KEY_FILE},
    event::{self, DeviceEvent, Event, Message, Record},
    image, script,
};
use crate::{Error, brski::DeviceClock};

/// How much of a script is shown.
const SCRIPT_SHOWN_CHARS_MAX: usize = 4000;
/// The certificate that the configuration brought for the key of a certification request.
const CERTIFICATE_FILE: &str = "ldevid.pem";

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Bootstrapped, failed, or stopped before the end.
    pub verdict: Verdict,
    /// What is stored of the device.
    pub state: State,
    /// The running configuration.
    pub configuration: Option<Vec<u8>>,
    /// Everything that happened, the first [`EVENTS_MAX`] events of it.
    pub events: Vec<Record>,
    /// How long it took.
    pub ms: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device runs its new configuration.
    Bootstrapped(Bootstrapped),
    /// SZTP is switched off; the device booted normally.
    Disabled,
    /// No source helped, in as many rounds as there were to be.
    Failed(Failure),
    /// Time ran out, or the power was cut in rehearsal; a later run goes on.
    Unfinished {
        /// The last failure, if there was one.
        last_failure: Option<Failure>,
    },
}

impl Outcome {
    /// Whether the device was bootstrapped.
    #[must_use]
    pub fn is_bootstrapped(&self) -> bool {
        matches!(self.verdict, Verdict::Bootstrapped(_))
    }

    /// The code of the failure, if it failed.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Failed(failure) => Some(&failure.code),
            Verdict::Bootstrapped(_) | Verdict::Disabled | Verdict::Unfinished { .. } => None,
        }
    }

    /// What the agent found, judged and decided.
    pub fn notes(&self) -> impl Iterator<Item = &sztp::agent::Note> {
        self.events.iter().filter_map(|record| match &record.event {
            Event::Agent(note) => Some(note),
            Event::Device(_) => None,
        })
    }

    /// The types of the progress reports that were sent, with the answers' statuses.
    #[must_use]
    pub fn reports(&self) -> Vec<(&'static str, Option<u16>)> {
        self.notes()
            .filter_map(|note| match note {
                sztp::agent::Note::Report {
                    progress_type,
                    status,
                    ..
                } => Some((*progress_type, *status)),
                _ => None,
            })
            .collect()
    }

    /// The whole of it as one document.
    #[must_use]
    pub fn document(&self) -> serde_json::Value {
        let (ok, state, code, text) = match &self.verdict {
            Verdict::Bootstrapped(_) => (true, "bootstrapped", None, None),
            Verdict::Disabled => (true, "disabled", None, None),
            Verdict::Failed(failure) => (
                false,
                "failed",
                Some(failure.code.clone()),
                Some(failure.text.clone()),
            ),
            Verdict::Unfinished { last_failure } => (
                false,
                "unfinished",
                Some("device.unfinished".to_owned()),
                last_failure.as_ref().map(ToString::to_string),
            ),
        };
        serde_json::json!({
            "ok": ok,
            "state": state,
            "code": code,
            "detail": text,
            "ms": self.ms,
            "device": self.state,
            "configuration": self
                .configuration
                .as_ref()
                .map(|bytes| excerpt(bytes, SCRIPT_SHOWN_CHARS_MAX)),
            "trace": self.events,
        })
    }
}

/// Sets a device back to how it left the factory.
///
/// SZTP-9646-4.1.6-01: the certificate and the private key that were made for it go too.
///
/// # Errors
/// If something cannot be removed.
pub fn factory_reset(folder: &Path) -> Result<(), Error> {
    let mut disk = Disk::open(Some(folder), None)?;
    disk.clear_sandbox()?;
    // The state comes last: until then a reset that was cut short is begun again.
    for prefix in [
        KEY_FILE,
        CERTIFICATE_FILE,
        "configuration",
        "image-",
        "sztp.json",
    ] {
        for name in disk.names(prefix) {
            disk.remove(&name)?;
        }
    }
    Ok(())
}

/// Bootstraps the device, or goes on with a device whose power was cut, until it is bootstrapped,
/// gives up, or runs out of time. Whatever happens is told to `observer` as well.
///
/// # Errors
/// If the device's own surroundings fail: its disk, its random numbers, its configuration.
pub async fn run(
    mut options: Options,
    observer: &mut (dyn FnMut(&Record) + Send),
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    let mut disk = Disk::open(options.state_folder.as_deref(), options.power_cut_at_write)?;
    let state = disk.load(&options.idevid)?;
    let state = state.unwrap_or_else(|| State::factory(options.os.clone()));
    let names = options
        .sources
        .iter()
        .map(|source| source.name().to_owned())
        .collect();
    let machine = Machine::new(options.agent()?, names, state);
    let sources = std::mem::take(&mut options.sources);
    let mut device = Device {
        clock: DeviceClock::starting_at(options.starts_at),
        time_max: options.time_max,
        options,
        sources,
        machine,
        disk: &mut disk,
        connection: None,
        observer,
        events: Vec::new(),
        begun,
        key: None,
        certified: false,
        reboots: 0,
    };
    let result = match device.time_max {
        Some(limit) => match tokio::time::timeout(limit, device.drive()).await {
            Ok(result) => result,
            Err(_) => Ok(device.unfinished()),
        },
        None => device.drive().await,
    };
    let verdict = match result {
        Ok(verdict) => verdict,
        Err(Error::PowerCut) => device.unfinished(),
        Err(error) => return Err(error),
    };
    let state = device.machine.state().clone();
    let events = std::mem::take(&mut device.events);
    drop(device);
    Ok(Outcome {
        verdict,
        state,
        configuration: disk.configuration()?,
        events,
        ms: millis(begun),
    })
}

struct Device<'a> {
    options: Options,
    time_max: Option<std::time::Duration>,
    sources: Vec<Box<dyn super::Source>>,
    machine: Machine,
    disk: &'a mut Disk,
    clock: DeviceClock,
    connection: Option<(String, Connection)>,
    observer: &'a mut (dyn FnMut(&Record) + Send),
    events: Vec<Record>,
    begun: Instant,
    /// The key that was made for a certification request in this run.
    key: Option<Arc<SoftwareKey>>,
    /// Whether a certificate for it came.
    certified: bool,
    reboots: u32,
}

impl Device<'_> {
    async fn drive(&mut self) -> Result<Verdict, Error> {
        let mut step = self.advance(Input::Begin)?;
        loop {
            // Whatever the machine decided is on disk before it is carried out.
            self.disk.save(&self.options.idevid, self.machine.state())?;
            step = match step {
                Step::RollBack => {
                    self.disk.roll_back()?;
                    self.event(DeviceEvent::RolledBack);
                    self.advance(Input::Done { warning: None })?
                }
                Step::RewindSources => {
                    self.connection = None;
                    // Nothing is under way, so what a power cut kept from being settled is.
                    self.disk.settle()?;
                    for source in &mut self.sources {
                        source.rewind();
                    }
                    self.advance(Input::Done { warning: None })?
                }
                Step::NextFinding { source } => self.next_finding(source).await?,
                Step::Resolve { host } => self.resolve(&host).await?,
                Step::Connect(connect) => self.connect(connect).await?,
                Step::Send(request) => self.send(request).await?,
                Step::MakeCsr(plan) => self.make_csr(&plan)?,
                Step::FetchImage { uri, verifications } => {
                    let now = self.clock.now();
                    let fetched =
                        image::fetch(self.disk, &self.options, now, &uri, &verifications).await?;
                    match fetched {
                        Ok(()) => self.advance(Input::Done { warning: None })?,
                        Err(failure) => self.advance(Input::Failed(failure))?,
                    }
                }
                Step::InstallImage => {
                    // Which image runs after the next reboot is in the state, and the one that was
                    // fetched lies beside it.
                    if image::is_ready(self.disk) {
                        self.advance(Input::Done { warning: None })?
                    } else {
                        let failure = Failure::new("device.image-fetch", "the image is gone");
                        self.advance(Input::Failed(failure))?
                    }
                }
                Step::RunScript { stage, script } => self.run_script(stage, &script).await?,
                Step::Commit {
                    configuration,
                    handling,
                } => self.commit(&configuration, handling)?,
                Step::Finish => {
                    self.disk.settle()?;
                    image::tidy(self.disk, self.machine.state())?;
                    self.advance(Input::Done { warning: None })?
                }
                Step::Wait { until, failure } => {
                    self.connection = None;
                    let pause = self.clock.until(until);
                    self.event(DeviceEvent::Waiting {
                        wait_ms: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                        code: failure.code,
                        text: failure.text,
                    });
                    tokio::time::sleep(pause).await;
                    self.advance(Input::Begin)?
                }
                Step::Reboot => match self.reboot()? {
                    Some(step) => step,
                    None => {
                        let text = "the device does not come to an end of reboots";
                        return Ok(Verdict::Failed(Failure::new("device.reboots", text)));
                    }
                },
                Step::Done(bootstrapped) => return Ok(Verdict::Bootstrapped(bootstrapped)),
                Step::Disabled => {
                    self.disk.settle()?;
                    return Ok(Verdict::Disabled);
                }
                Step::GiveUp(failure) => return Ok(Verdict::Failed(failure)),
            };
        }
    }

    fn unfinished(&self) -> Verdict {
        Verdict::Unfinished {
            last_failure: self.machine.state().last_failure.clone(),
        }
    }

    fn advance(&mut self, input: Input<'_>) -> Result<Step, Error> {
        let mut random = [0; 32];
        // SZTP-9646-4.1.2-02: nonces are random.
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut random)
            .map_err(|_| Error::Random)?;
        let step = self.machine.step(input, self.clock.now(), &random);
        for note in self.machine.take_notes() {
            self.record(Event::Agent(note));
        }
        Ok(step)
    }

    fn event(&mut self, event: DeviceEvent) {
        self.record(Event::Device(event));
    }

    fn record(&mut self, event: Event) {
        let record = Record {
            ms: millis(self.begun),
            event,
        };
        (self.observer)(&record);
        if self.events.len() < EVENTS_MAX {
            self.events.push(record);
        }
    }

    async fn next_finding(&mut self, source: usize) -> Result<Step, Error> {
        self.connection = None;
        let result: Result<Option<Finding>, Failure> = match self.sources.get_mut(source) {
            Some(source) => match tokio::time::timeout(SOURCE_TIME_MAX, source.next()).await {
                Ok(found) => found.map_err(|error| Failure::new(error.code, error.reason)),
                Err(_) => {
                    let text = format!("nothing came within {SOURCE_TIME_MAX:?}");
                    Err(Failure::new("device.source-time", text))
                }
            },
            None => Ok(None),
        };
        match result {
            Ok(finding) => self.advance(Input::Found(finding)),
            Err(failure) => self.advance(Input::Failed(failure)),
        }
    }

    async fn resolve(&mut self, host: &str) -> Result<Step, Error> {
        let name = host.trim_end_matches('.');
        let known = self
            .options
            .hosts
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let result = match known {
            Some((_, addresses)) => Ok(addresses.clone()),
            None => {
                let limit = net::client::CONNECT_TIME_MAX;
                match tokio::time::timeout(limit, tokio::net::lookup_host((name, 0))).await {
                    Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect::<Vec<IpAddr>>()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("no answer in time".to_owned()),
                }
            }
        };
        match result {
            Ok(addresses) => {
                self.event(DeviceEvent::Resolved {
                    host: host.to_owned(),
                    addresses: addresses.iter().map(ToString::to_string).collect(),
                });
                self.advance(Input::Resolved(addresses))
            }
            Err(reason) => {
                let text = format!("{host} cannot be resolved: {reason}");
                self.advance(Input::Failed(Failure::new("sztp.no-address", text)))
            }
        }
    }

    async fn connect(&mut self, connect: Connect) -> Result<Step, Error> {
        if let Some((_, old)) = self.connection.take() {
            old.close().await;
        }
        let host = match connect.host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(connect.host.trim_end_matches('.').to_owned()),
        };
        let target = Target::new(host, connect.port);
        let server = target.to_string();
        let trust = match connect.authenticate {
            Authenticate::Anchors { anchors, crls, at } => {
                let options = PathOptions {
                    at,
                    purpose: Purpose::Server,
                    crls,
                    ..PathOptions::default()
                };
                let anchors: Anchors = anchors.into_iter().collect();
                ServerTrust::anchors(Arc::new(anchors), options)
            }
            Authenticate::Nothing => ServerTrust::Provisional,
        };
        let config = ClientConfig {
            trust,
            // SZTP-8572-5.3-03: on every connection, trusted or not.
            identity: Some(self.options.idevid.clone()),
            http: self.options.http,
            tls: self.options.tls,
            address: connect
                .address
                .map(|address| SocketAddr::new(address, connect.port)),
            limits: ClientLimits {
                response_time_max: RESPONSE_TIME_MAX,
                response_bytes_max: What::GetBootstrappingData.answer_size_max_bytes(),
                ..ClientLimits::default()
            },
            ..ClientConfig::default()
        };
        match Connection::open(&target, &config).await {
            Ok(connection) => {
                let chain = connection.peer_chain().to_vec();
                self.event(DeviceEvent::Connected {
                    server: server.clone(),
                    address: connection.remote_address().to_string(),
                    http: connection.http_version().to_string(),
                    tls: connection.tls_version().map(|version| version.to_string()),
                    chain: chain.iter().map(event::certificate).collect(),
                });
                self.connection = Some((server, connection));
                self.advance(Input::Connected { chain: &chain })
            }
            Err(error) => self.disconnected(server, &error),
        }
    }

    fn disconnected(&mut self, server: String, error: &net::Error) -> Result<Step, Error> {
        let text = daemon::cli::chain_of(error);
        // Why the certificate is not believed says more than that it is not.
        let code = match error {
            net::Error::Untrusted { code, .. } => code,
            error => error.code(),
        };
        self.event(DeviceEvent::Disconnected {
            server,
            code: code.to_owned(),
            text: text.clone(),
        });
        self.advance(Input::Failed(Failure::new(code, text)))
    }

    async fn send(&mut self, request: Request) -> Result<Step, Error> {
        let Some((server, connection)) = &mut self.connection else {
            let failure = Failure::new("sztp.no-connection", "there is no connection");
            return self.advance(Input::Failed(failure));
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let method = if request.method == "GET" {
            Method::GET
        } else {
            Method::POST
        };
        let begun = Instant::now();
        let body = Bytes::from(request.body.clone());
        let result = connection
            .request(method, &request.path, headers, body)
            .await;
        match result {
            Ok(response) => {
                let message = Message::new(&request, &response, millis(begun));
                self.event(DeviceEvent::Exchanged(message));
                let headers: Vec<(String, String)> = response
                    .headers
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
                    })
                    .collect();
                self.advance(Input::Answered {
                    status: response.status.as_u16(),
                    headers: &headers,
                    body: &response.body,
                })
            }
            Err(error) => {
                let server = server.clone();
                self.connection = None;
                self.disconnected(server, &error)
            }
        }
    }

    fn make_csr(&mut self, plan: &CsrPlan) -> Result<Step, Error> {
        self.key = None;
        let passphrase = self.options.key_passphrase.clone();
        let made = csr::make(self.disk, plan, &self.options.idevid, passphrase.as_deref())?;
        match made {
            Ok(csr::Made { csr, key }) => {
                let public = match &key {
                    Some(key) => pki::Signer::public_key(key.as_ref()).sha256(),
                    None => self.options.idevid.signer.public_key().sha256(),
                };
                self.event(DeviceEvent::CsrMade {
                    new_key: matches!(plan.key, KeyChoice::New(_)),
                    key_sha256: hex::encode(public),
                });
                self.key = key;
                self.advance(Input::CsrMade { csr: &csr })
            }
            Err(failure) => self.advance(Input::Failed(failure)),
        }
    }

    async fn run_script(&mut self, stage: ScriptStage, source: &[u8]) -> Result<Step, Error> {
        self.look_for_certificate(source)?;
        let runs = matches!(self.options.scripts, Scripts::Run { .. });
        self.event(DeviceEvent::ScriptShown {
            stage: match stage {
                ScriptStage::Pre => "pre-configuration",
                ScriptStage::Post => "post-configuration",
            },
            script: excerpt(source, SCRIPT_SHOWN_CHARS_MAX),
            runs,
        });
        let Scripts::Run { time_max } = self.options.scripts else {
            return self.advance(Input::ScriptEnded {
                outcome: ScriptOutcome::Success,
                output: "",
            });
        };
        let serial = self
            .options
            .idevid
            .certificate()
            .and_then(|idevid| self.options.serial.serial_of(idevid))
            .unwrap_or_default();
        match script::run(self.disk, stage, source, &serial, time_max).await? {
            Ok(ended) => self.advance(Input::ScriptEnded {
                outcome: ended.outcome,
                output: &ended.output,
            }),
            Err(failure) => self.advance(Input::Failed(failure)),
        }
    }

    fn commit(
        &mut self,
        new: &[u8],
        handling: artifacts::conveyed::ConfigurationHandling,
    ) -> Result<Step, Error> {
        let running = self.disk.configuration()?;
        let result = match configuration::apply(running.as_deref(), new, handling) {
            Ok(result) => result,
            Err(failure) => return self.advance(Input::Failed(failure)),
        };
        self.look_for_certificate(new)?;
        self.disk.commit(&result)?;
        let warning = (self.key.is_some() && !self.certified)
            .then_some("there is no certificate for the key of the certification request");
        self.advance(Input::Committed {
            warning,
            disables_sztp: configuration::disables_sztp(&result),
        })
    }

    /// SZTP-9646-4.1.3-02: the certificate has to be for the key that was made.
    fn look_for_certificate(&mut self, document: &[u8]) -> Result<(), Error> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        let public = pki::Signer::public_key(key.as_ref());
        let found = configuration::certificates_for(document, public);
        if let Some(certificate) = found.first() {
            let pem: String = found.iter().map(Certificate::to_pem).collect();
            self.disk.replace(CERTIFICATE_FILE, pem.as_bytes())?;
            self.certified = true;
            self.event(DeviceEvent::CertificateReceived {
                certificate: event::certificate(certificate),
            });
        }
        Ok(())
    }

    /// SZTP-8572-5.6-13: "Upon rebooting, the bootstrapping process runs again".
    fn reboot(&mut self) -> Result<Option<Step>, Error> {
        self.connection = None;
        self.reboots += 1;
        if self.reboots > REBOOTS_MAX {
            return Ok(None);
        }
        let state = self.machine.state().clone();
        image::tidy(self.disk, &state)?;
        self.event(DeviceEvent::Rebooting {
            os_name: state.os.name.clone(),
            os_version: state.os.version.clone(),
            image_sha256: state.os.image_sha256.clone(),
        });
        let names = self
            .sources
            .iter()
            .map(|source| source.name().to_owned())
            .collect();
        self.machine = Machine::new(self.options.agent()?, names, state);
        self.advance(Input::Begin).map(Some)
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
