//! The machine in a world without sockets, disks and clocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use artifacts::{Encoding, bundle::BootstrappingData};
use pki::{Certificate, Identity, Signer, SoftwareKey};
use sztp::{
    Leniency,
    agent::{
        Authenticate, Bootstrapped, Config, Connect, Failure, Finding, Found, Input, KeyChoice,
        Machine, Note, ProgressType, Request, ScriptOutcome, State, Step, What,
    },
    discovery,
    message::{
        CsrInput, GetBootstrappingDataInput, GetBootstrappingDataOutput, ReportProgressInput,
        ReportingLevel,
    },
    negotiate,
    restconf::RestconfError,
};
use time::OffsetDateTime;

use super::world::World;

/// Steps after which a run has gone wrong.
const STEPS_MAX: u32 = 5000;

/// What a server is asked.
pub(crate) enum Ask {
    Data(GetBootstrappingDataInput),
    Report(ReportProgressInput),
}

/// What it answers.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The connection breaks instead.
    pub(crate) broken: bool,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: Vec::new(),
            broken: false,
        }
    }

    pub(crate) fn broken() -> Self {
        Self {
            broken: true,
            ..Self::status(0)
        }
    }

    pub(crate) fn json(status: u16, body: Vec<u8>) -> Self {
        Self {
            content_type: Some("application/yang-data+json".to_owned()),
            body,
            ..Self::status(status)
        }
    }

    pub(crate) fn data(data: &BootstrappingData) -> Self {
        Self::data_at(data, None)
    }

    pub(crate) fn data_at(data: &BootstrappingData, level: Option<ReportingLevel>) -> Self {
        let output = GetBootstrappingDataOutput {
            reporting_level: level,
            conveyed_information: data.conveyed_information.clone(),
            owner_certificate: data.owner_certificate.clone(),
            ownership_voucher: data.ownership_voucher.clone(),
        };
        Self::json(200, output.encode(Encoding::Json))
    }

    pub(crate) fn encoded(data: &BootstrappingData, encoding: Encoding) -> Self {
        let output = GetBootstrappingDataOutput {
            conveyed_information: data.conveyed_information.clone(),
            ..GetBootstrappingDataOutput::default()
        };
        Self {
            content_type: Some(negotiate::media_type(encoding).to_owned()),
            ..Self::json(200, output.encode(encoding))
        }
    }

    pub(crate) fn error(error: &RestconfError) -> Self {
        Self::json(error.status, error.encode(Encoding::Json))
    }
}

pub(crate) type Answer = Box<dyn FnMut(&Ask) -> Reply>;

pub(crate) struct SimServer {
    pub(crate) chain: Vec<Certificate>,
    pub(crate) answer: Answer,
    /// The body of host-meta; 404 without.
    pub(crate) host_meta: Option<Vec<u8>>,
    /// The path of the RPCs has to begin so.
    pub(crate) root: String,
}

impl SimServer {
    pub(crate) fn new(identity: &Identity, answer: impl FnMut(&Ask) -> Reply + 'static) -> Self {
        Self {
            chain: identity.chain.clone(),
            answer: Box::new(answer),
            host_meta: None,
            root: "/restconf".to_owned(),
        }
    }

    /// A server that gives the same data to everybody and takes every report.
    pub(crate) fn giving(identity: &Identity, data: BootstrappingData) -> Self {
        Self::new(identity, move |ask| match ask {
            Ask::Data(_) => Reply::data(&data),
            Ask::Report(_) => Reply::status(204),
        })
    }
}

/// What the device holds apart from its state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Disk {
    pub(crate) state: Option<State>,
    pub(crate) configuration: Vec<u8>,
    previous: Option<Vec<u8>>,
    /// What scripts left.
    pub(crate) sandbox: Vec<String>,
    pub(crate) images: BTreeSet<String>,
}

pub(crate) struct Sim {
    pub(crate) config: Config,
    pub(crate) device: Identity,
    pub(crate) sources: Vec<(String, Vec<Result<Finding, Failure>>)>,
    cursors: Vec<usize>,
    pub(crate) servers: BTreeMap<String, SimServer>,
    pub(crate) names: BTreeMap<String, Vec<IpAddr>>,
    /// How scripts end: by their text.
    pub(crate) scripts: BTreeMap<String, (ScriptOutcome, String)>,
    /// Locations where images are.
    pub(crate) images: BTreeSet<String>,
    pub(crate) commit_fails: bool,
    pub(crate) keys: Vec<SoftwareKey>,
    pub(crate) disk: Disk,
    pub(crate) now: OffsetDateTime,
    pub(crate) log: Vec<String>,
    pub(crate) notes: Vec<Note>,
    pub(crate) waits: Vec<i64>,
    pub(crate) random: Random,
    /// One in so many exchanges is lost.
    pub(crate) loss: Option<u64>,
    connected: Option<String>,
    /// After the first connection, this is what every server shows.
    pub(crate) swap_after_first: Option<Vec<Certificate>>,
    connections: u32,
    /// When the power is cut, what was decided last is on the disk already.
    pub(crate) save_at_cut: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Done(Bootstrapped),
    Disabled,
    GaveUp(Failure),
    /// The power was cut.
    Cut,
}

impl Sim {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            config: world.config(),
            device: Identity {
                chain: world.device.chain.clone(),
                signer: std::sync::Arc::clone(&world.device.signer),
            },
            sources: Vec::new(),
            cursors: Vec::new(),
            servers: BTreeMap::new(),
            names: BTreeMap::new(),
            scripts: BTreeMap::new(),
            images: BTreeSet::new(),
            commit_fails: false,
            keys: Vec::new(),
            disk: Disk {
                state: Some(World::state()),
                configuration: b"factory\n".to_vec(),
                ..Disk::default()
            },
            now: world.now,
            log: Vec::new(),
            notes: Vec::new(),
            waits: Vec::new(),
            random: Random(1),
            loss: None,
            connected: None,
            swap_after_first: None,
            connections: 0,
            save_at_cut: false,
        }
    }

    pub(crate) fn source(&mut self, name: &str, findings: Vec<Found>) {
        let findings = findings.into_iter().enumerate().map(|(index, found)| {
            Ok(Finding {
                name: format!("{name}-{index}"),
                found,
            })
        });
        self.sources.push((name.to_owned(), findings.collect()));
    }

    pub(crate) fn run(&mut self) -> End {
        self.run_until(STEPS_MAX)
    }

    /// Runs, through reboots, until the end or the step of this number.
    pub(crate) fn run_until(&mut self, cut: u32) -> End {
        let mut machine = self.machine();
        let mut step = self.advance(&mut machine, Input::Begin);
        for _ in 0..cut {
            self.disk.state = Some(machine.state().clone());
            step = match step {
                Step::Done(bootstrapped) => return End::Done(bootstrapped),
                Step::Disabled => return End::Disabled,
                Step::GiveUp(failure) => return End::GaveUp(failure),
                Step::Reboot => {
                    self.log.push("reboot".to_owned());
                    machine = self.machine();
                    self.advance(&mut machine, Input::Begin)
                }
                step => self.carry_out(&mut machine, step),
            };
        }
        assert!(cut < STEPS_MAX, "no end: {:?}", self.log.last());
        if self.save_at_cut {
            self.disk.state = Some(machine.state().clone());
        }
        End::Cut
    }

    fn machine(&mut self) -> Machine {
        self.cursors = vec![0; self.sources.len()];
        let names = self.sources.iter().map(|(name, _)| name.clone()).collect();
        Machine::new(self.config.clone(), names, self.disk.state.clone().unwrap())
    }

    fn advance(&mut self, machine: &mut Machine, input: Input<'_>) -> Step {
        let random = self.random.octets();
        let step = machine.step(input, self.now, &random);
        self.notes.extend(machine.take_notes());
        step
    }

    fn lost(&mut self) -> bool {
        self.loss
            .is_some_and(|one_in| self.random.next().is_multiple_of(one_in))
    }

    fn carry_out(&mut self, machine: &mut Machine, step: Step) -> Step {
        let done = Input::Done { warning: None };
        match step {
            Step::RollBack => {
                self.log.push("roll-back".to_owned());
                if let Some(previous) = self.disk.previous.take() {
                    self.disk.configuration = previous;
                }
                self.disk.sandbox.clear();
                self.advance(machine, done)
            }
            Step::RewindSources => {
                self.cursors.fill(0);
                self.advance(machine, done)
            }
            Step::NextFinding { source } => {
                let (_, findings) = &self.sources[source];
                let next = findings.get(self.cursors[source]).cloned();
                self.cursors[source] += 1;
                match next.transpose() {
                    Ok(found) => self.advance(machine, Input::Found(found)),
                    Err(failure) => self.advance(machine, Input::Failed(failure)),
                }
            }
            Step::Resolve { host } => {
                self.log.push(format!("resolve {host}"));
                match self.names.get(&host).cloned() {
                    Some(addresses) => self.advance(machine, Input::Resolved(addresses)),
                    None => {
                        let failure = Failure::new("sztp.no-address", "no such name");
                        self.advance(machine, Input::Failed(failure))
                    }
                }
            }
            Step::Connect(connect) => self.connect(machine, connect),
            Step::Send(request) => self.send(machine, &request),
            Step::MakeCsr(plan) => {
                self.log.push(format!("csr {:?}", plan.key));
                let built = match plan.key {
                    KeyChoice::Existing => plan.build(self.device.signer.as_ref()),
                    KeyChoice::New(kind) => {
                        let key = SoftwareKey::generate(kind).unwrap();
                        let built = plan.build(&key);
                        self.keys.push(key);
                        built
                    }
                };
                match built {
                    Ok(csr) => self.advance(machine, Input::CsrMade { csr: csr.der() }),
                    Err(failure) => self.advance(machine, Input::Failed(failure)),
                }
            }
            Step::FetchImage { uri, .. } => {
                self.log.push(format!("fetch {uri}"));
                if self.images.contains(&uri) {
                    self.disk.images.insert(uri);
                    self.advance(machine, done)
                } else {
                    let failure = Failure::new("device.image-fetch", "it is not there");
                    self.advance(machine, Input::Failed(failure))
                }
            }
            Step::InstallImage => {
                self.log.push("install".to_owned());
                self.advance(machine, done)
            }
            Step::RunScript { stage, script } => {
                let script = String::from_utf8(script).unwrap();
                self.log.push(format!("script {stage:?}"));
                self.disk.sandbox.push(script.clone());
                let (outcome, output) = self
                    .scripts
                    .get(&script)
                    .cloned()
                    .unwrap_or((ScriptOutcome::Success, String::new()));
                let output = &output;
                self.advance(machine, Input::ScriptEnded { outcome, output })
            }
            Step::Commit {
                configuration,
                handling,
            } => {
                self.log.push(format!("commit {}", handling.as_str()));
                if self.commit_fails {
                    let failure = Failure::new("device.configuration", "line 2 is wrong");
                    return self.advance(machine, Input::Failed(failure));
                }
                if self.disk.previous.is_none() {
                    self.disk.previous = Some(self.disk.configuration.clone());
                }
                let text = String::from_utf8_lossy(&configuration).into_owned();
                self.disk.configuration = configuration;
                let disables_sztp = text.contains("no sztp");
                self.advance(
                    machine,
                    Input::Committed {
                        warning: None,
                        disables_sztp,
                    },
                )
            }
            Step::Finish => {
                self.disk.previous = None;
                self.advance(machine, done)
            }
            Step::Wait { until, .. } => {
                self.waits.push((until - self.now).whole_seconds());
                self.log.push("wait".to_owned());
                self.now = until;
                self.advance(machine, Input::Begin)
            }
            Step::Reboot | Step::Done(_) | Step::Disabled | Step::GiveUp(_) => step,
        }
    }

    fn connect(&mut self, machine: &mut Machine, connect: Connect) -> Step {
        let how = match &connect.authenticate {
            Authenticate::Anchors { anchors, .. } => format!("{} anchors", anchors.len()),
            Authenticate::Nothing => "nothing".to_owned(),
        };
        let key = match connect.address {
            Some(address) => format!("{}@{address}", connect.host),
            None => connect.host.clone(),
        };
        let port = match connect.port {
            443 => String::new(),
            port => format!(":{port}"),
        };
        self.log.push(format!("connect {key}{port} {how}"));
        let chain = self
            .servers
            .get(&key)
            .or_else(|| self.servers.get(&connect.host))
            .map(|server| server.chain.clone());
        let there = if self.servers.contains_key(&key) {
            key
        } else {
            connect.host
        };
        match chain {
            Some(mut chain) if !self.lost() => {
                self.connections += 1;
                if let Some(other) = self
                    .swap_after_first
                    .clone()
                    .filter(|_| self.connections > 1)
                {
                    chain = other;
                }
                self.connected = Some(there);
                self.advance(machine, Input::Connected { chain: &chain })
            }
            _ => self.broken(machine),
        }
    }

    fn broken(&mut self, machine: &mut Machine) -> Step {
        let failure = Failure::new("net.closed", "nobody there");
        self.advance(machine, Input::Failed(failure))
    }

    fn send(&mut self, machine: &mut Machine, request: &Request) -> Step {
        let key = self.connected.clone().unwrap_or_default();
        let lost_before = self.lost();
        let lost_after = self.lost();
        let encoding = self.config.encoding;
        let line = match request.what {
            What::HostMeta => "host-meta".to_owned(),
            What::GetBootstrappingData => describe(&read_data(&request.body, encoding)),
            What::ReportProgress => {
                format!(
                    "report {}",
                    read_report(&request.body, encoding).progress.as_str()
                )
            }
        };
        let basic = request
            .headers
            .iter()
            .any(|(name, _)| *name == "authorization");
        self.log
            .push(if basic { format!("{line} basic") } else { line });
        let Some(server) = self.servers.get_mut(&key).filter(|_| !lost_before) else {
            return self.broken(machine);
        };
        let reply = match request.what {
            What::HostMeta => match &server.host_meta {
                Some(body) => Reply {
                    content_type: Some(discovery::HOST_META_TYPE.to_owned()),
                    body: body.clone(),
                    ..Reply::status(200)
                },
                None => Reply::status(404),
            },
            what => {
                assert_eq!(request.method, "POST");
                assert!(
                    request
                        .path
                        .starts_with(&format!("{}/operations/", server.root)),
                    "{}",
                    request.path
                );
                let ask = match what {
                    What::ReportProgress => Ask::Report(read_report(&request.body, encoding)),
                    _ => Ask::Data(read_data(&request.body, encoding)),
                };
                (server.answer)(&ask)
            }
        };
        if reply.broken || lost_after {
            return self.broken(machine);
        }
        let headers: Vec<(String, String)> = reply
            .content_type
            .iter()
            .map(|value| ("content-type".to_owned(), value.clone()))
            .collect();
        self.advance(
            machine,
            Input::Answered {
                status: reply.status,
                headers: &headers,
                body: &reply.body,
            },
        )
    }

    pub(crate) fn reports(&self) -> Vec<&str> {
        self.log
            .iter()
            .filter_map(|line| line.strip_prefix("report "))
            .collect()
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.log.iter().any(|one| one == line)
    }

    /// The codes for which servers were left.
    pub(crate) fn left(&self) -> Vec<&str> {
        self.notes
            .iter()
            .filter_map(|note| match note {
                Note::ServerLeft { failure, .. } => Some(failure.code.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The messages of the reports of this type.
    pub(crate) fn messages(&self, progress: ProgressType) -> Vec<String> {
        self.notes
            .iter()
            .filter_map(|note| match note {
                Note::Report {
                    progress_type,
                    message,
                    ..
                } if *progress_type == progress.as_str() => {
                    Some(message.clone().unwrap_or_default())
                }
                _ => None,
            })
            .collect()
    }
}

fn read_data(body: &[u8], encoding: Encoding) -> GetBootstrappingDataInput {
    let (input, oddities) =
        GetBootstrappingDataInput::decode(body, encoding, &Leniency::strict()).unwrap();
    assert!(oddities.is_empty());
    input
}

fn read_report(body: &[u8], encoding: Encoding) -> ReportProgressInput {
    let (input, _) = ReportProgressInput::decode(body, encoding, &Leniency::strict()).unwrap();
    input
}

fn describe(input: &GetBootstrappingDataInput) -> String {
    let mut words = vec!["get"];
    let mut word = |there: bool, word| {
        if there {
            words.push(word);
        }
    };
    word(input.signed_data_preferred, "signed-data-preferred");
    word(input.hw_model.is_some(), "hw-model");
    word(input.os_name.is_some(), "os-name");
    word(input.os_version.is_some(), "os-version");
    word(input.nonce.is_some(), "nonce");
    word(
        matches!(input.csr, Some(CsrInput::Support(_))),
        "csr-support",
    );
    word(matches!(input.csr, Some(CsrInput::P10(_))), "p10-csr");
    words.join(" ")
}

/// SplitMix64: the same on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn octets(&mut self) -> [u8; 32] {
        let mut octets = [0; 32];
        for chunk in octets.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes());
        }
        octets
    }
}

pub(crate) fn public_key(key: &SoftwareKey) -> Vec<u8> {
    key.public_key().spki_der().to_vec()
}
