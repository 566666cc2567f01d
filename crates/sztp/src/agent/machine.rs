//! The boot sequence, the sources, and the recursion through redirects
//! ([RFC 8572 §5.2, §5.3, §5.5](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.2)). What is
//! said to a server is in `exchange.rs`, what onboarding information asks for in `onboarding.rs`.

use std::net::IpAddr;

use artifacts::conveyed::RedirectInformation;
use pki::{Certificate, path::Anchors};
use time::{Duration, OffsetDateTime};

use super::{
    ADDRESSES_PER_NAME_MAX, Authenticate, BACK_OFF_MAX, BACK_OFF_MIN, CONNECTIONS_MAX, Clock,
    Config, Connect, EXCERPT_CHARS_MAX, FINDINGS_PER_SOURCE_MAX, Failure, Finding, Found, Input,
    Note, Request, SERVERS_PER_LIST_MAX, Server, State, Step, TrustAnchor, TrustNote, excerpt,
    onboarding::Onboarding, trust,
};

/// The agent.
pub struct Machine {
    pub(super) config: Config,
    pub(super) state: State,
    /// The sources' names, in the order in which they are asked.
    sources: Vec<String>,
    pub(super) notes: Vec<Note>,
    pub(super) awaiting: Awaiting,
    /// The source that is being asked; one behind the last stands for the well-known servers.
    source: usize,
    /// Findings and errors of this source so far.
    findings: u32,
    /// Whether a source held anything in this round.
    found_any: bool,
    /// The lists of servers under way, one below the other.
    frames: Vec<Frame>,
    /// Connections since the finding.
    connections: u32,
    pub(super) link: Option<Link>,
    pub(super) onboarding: Option<Onboarding>,
}

/// What the machine waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Awaiting {
    #[default]
    Nothing,
    /// At the beginning: what a power cut left is taken back.
    RollBack,
    Rewind,
    Finding,
    Addresses,
    Connection,
    HostMeta,
    Data,
    Csr,
    Report,
    Image,
    Install,
    Script,
    Commit,
    /// After an error: what was done is taken back.
    Undo,
    Finish,
}

/// A list of servers.
#[derive(Debug)]
struct Frame {
    entries: Vec<Entry>,
    next: usize,
    current: Option<Entry>,
    /// Whether the list is redirect information, or as good as that.
    is_redirect: bool,
    addresses: Vec<IpAddr>,
    next_address: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    server: Server,
    trust: EntryTrust,
}

/// What a server of a list has to prove.
#[derive(Clone, Debug, PartialEq)]
enum EntryTrust {
    /// That it is who trusted redirect information said.
    Anchor(TrustAnchor),
    /// That it is one of the manufacturer's.
    WellKnown,
    /// Nothing.
    Provisional,
}

impl EntryTrust {
    fn name(&self) -> &'static str {
        match self {
            Self::Anchor(_) => "redirect-anchor",
            Self::WellKnown => "pre-configured-anchors",
            Self::Provisional => "nothing",
        }
    }
}

/// The connection to a server.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) server: String,
    address: Option<IpAddr>,
    connected: bool,
    /// RFC 8572's trust-state as far as the connection goes; `None` before the first handshake.
    pub(super) trusted: Option<bool>,
    /// The RESTCONF root.
    pub(super) root: Option<String>,
    /// Whether the server wants every report.
    pub(super) verbose: bool,
    /// The nonce that this server was given.
    pub(super) nonce: Option<Vec<u8>>,
    /// How often it asked for a certification request.
    pub(super) csr_requests: u32,
    /// The request whose answer is waited for.
    pub(super) outstanding: Option<(Awaiting, Request)>,
    /// Connections made again for it.
    pub(super) reconnects: u32,
}

/// The time and fresh random octets.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) now: OffsetDateTime,
    pub(super) random: &'a [u8; 32],
}

impl Machine {
    /// A device with these sources of bootstrapping data, in the order in which they are asked.
    /// The well-known servers come last.
    ///
    /// SZTP-8572-9.7: "it is RECOMMENDED that devices access local sources before accessing remote
    /// sources."
    #[must_use]
    pub fn new(config: Config, sources: Vec<String>, state: State) -> Self {
        Self {
            config,
            state,
            sources,
            notes: Vec::new(),
            awaiting: Awaiting::Nothing,
            source: 0,
            findings: 0,
            found_any: false,
            frames: Vec::new(),
            connections: 0,
            link: None,
            onboarding: None,
        }
    }

    /// What is to be stored before the next step is carried out.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was found, judged and decided since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Takes what happened, and says what to do next. `random` are fresh octets from a
    /// cryptographic generator, new ones for each call.
    pub fn step(&mut self, input: Input<'_>, now: OffsetDateTime, random: &[u8; 32]) -> Step {
        let turn = Turn { now, random };
        match (std::mem::take(&mut self.awaiting), input) {
            (_, Input::Begin) => self.begin(turn),
            (Awaiting::RollBack, Input::Done { .. }) => {
                self.state.onboarding = false;
                self.boot(turn)
            }
            (Awaiting::Rewind, Input::Done { .. }) => self.next_finding(turn),
            (Awaiting::Finding, Input::Found(found)) => self.found(found, turn),
            (Awaiting::Finding, Input::Failed(failure)) => {
                self.notes.push(Note::SourceFailed {
                    source: self.source_name(),
                    failure,
                });
                self.next_finding(turn)
            }
            (Awaiting::Addresses, Input::Resolved(addresses)) => self.resolved(addresses, turn),
            (Awaiting::Addresses, Input::Failed(failure)) => self.leave_server(failure, turn),
            (Awaiting::Connection, Input::Connected { chain }) => self.connected(chain, turn),
            (Awaiting::Connection, Input::Failed(failure)) => self.disconnected(failure, turn),
            (
                awaiting @ (Awaiting::HostMeta | Awaiting::Data | Awaiting::Report),
                Input::Answered {
                    status,
                    headers,
                    body,
                },
            ) => {
                if let Some(link) = &mut self.link {
                    link.outstanding = None;
                    link.reconnects = 0;
                }
                let answer = Answer {
                    status,
                    headers,
                    body,
                };
                match awaiting {
                    Awaiting::HostMeta => self.host_meta_answered(&answer, turn),
                    Awaiting::Data => self.data_answered(&answer, turn),
                    _ => self.report_answered(Some(status), turn),
                }
            }
            (Awaiting::HostMeta | Awaiting::Data | Awaiting::Report, Input::Failed(failure)) => {
                self.disconnected(failure, turn)
            }
            (Awaiting::Csr, Input::CsrMade { csr }) => self.csr_made(csr, turn),
            (Awaiting::Csr, Input::Failed(failure)) => self.csr_failed(failure, turn),
            (
                awaiting @ (Awaiting::Image
                | Awaiting::Install
                | Awaiting::Script
                | Awaiting::Commit
                | Awaiting::Undo
                | Awaiting::Finish),
                input,
            ) => self.onboarding_went_on(awaiting, input, turn),
            (awaiting, input) => {
                let text = format!("{awaiting:?} was waited for, and {input:?} came");
                let text = excerpt(text.as_bytes(), EXCERPT_CHARS_MAX);
                Step::GiveUp(Failure::new("sztp.internal", text))
            }
        }
    }

    fn begin(&mut self, turn: Turn<'_>) -> Step {
        self.frames.clear();
        self.link = None;
        self.onboarding = None;
        if self.state.onboarding {
            self.awaiting = Awaiting::RollBack;
            return Step::RollBack;
        }
        self.boot(turn)
    }

    /// SZTP-8572-5.2-01: the boot sequence, from its first step.
    fn boot(&mut self, turn: Turn<'_>) -> Step {
        // "If SZTP bootstrapping is not configured, then the device boots normally."
        if !self.state.enabled {
            return Step::Disabled;
        }
        if let Some(until) = soon(self.state.not_before, turn.now) {
            return Step::Wait {
                until,
                failure: self.last_failure(),
            };
        }
        self.source = 0;
        self.findings = 0;
        self.found_any = false;
        self.notes.push(Note::Round {
            round: self.state.rounds.saturating_add(1),
        });
        self.awaiting = Awaiting::Rewind;
        Step::RewindSources
    }

    pub(super) fn source_name(&self) -> String {
        self.sources
            .get(self.source)
            .cloned()
            .unwrap_or_else(|| "well-known".to_owned())
    }

    /// Goes on with the source, the next source, the well-known servers, the next round.
    fn next_finding(&mut self, turn: Turn<'_>) -> Step {
        self.connections = 0;
        self.findings = self.findings.saturating_add(1);
        if self.findings > FINDINGS_PER_SOURCE_MAX {
            self.next_source();
        }
        if self.source < self.sources.len() {
            self.awaiting = Awaiting::Finding;
            return Step::NextFinding {
                source: self.source,
            };
        }
        if self.source == self.sources.len() {
            let entries: Vec<Entry> = self
                .config
                .well_known
                .iter()
                .map(|server| Entry {
                    server: server.clone(),
                    trust: EntryTrust::WellKnown,
                })
                .collect();
            let found = !entries.is_empty();
            if found {
                self.found_any = true;
                self.notes.push(Note::Source {
                    source: self.source_name(),
                    finding: "pre-configured".to_owned(),
                    kind: "servers",
                });
                self.push_frame(entries, false);
            }
            self.source += 1;
            if found {
                return self.next_server(turn);
            }
        }
        self.round_failed(turn)
    }

    fn next_source(&mut self) {
        self.source += 1;
        self.findings = 0;
    }

    fn found(&mut self, found: Option<Finding>, turn: Turn<'_>) -> Step {
        let source = self.source_name();
        let Some(Finding { name, found }) = found else {
            self.notes.push(Note::SourceEmpty { source });
            self.next_source();
            return self.next_finding(turn);
        };
        self.found_any = true;
        let kind = match &found {
            Found::Servers(_) => "servers",
            Found::Data(_) => "data",
        };
        self.notes.push(Note::Source {
            source,
            finding: excerpt(name.as_bytes(), EXCERPT_CHARS_MAX),
            kind,
        });
        match found {
            // SZTP-8572-4.3-01, SZTP-8572-8.1-03, SZTP-8572-4.2.3-02: the same as unsigned
            // redirect information from an untrusted source.
            Found::Servers(servers) => {
                let entries = servers.into_iter().map(|server| Entry {
                    server,
                    trust: EntryTrust::Provisional,
                });
                let entries = entries.collect();
                self.push_frame(entries, true);
                self.next_server(turn)
            }
            // SZTP-8572-4.1-01, SZTP-8572-4.2-01: untrusted, whatever holds it.
            Found::Data(data) => self.judge(&data, false, turn),
        }
    }

    fn push_frame(&mut self, mut entries: Vec<Entry>, is_redirect: bool) {
        if entries.len() > SERVERS_PER_LIST_MAX {
            for entry in entries.drain(SERVERS_PER_LIST_MAX..) {
                self.notes.push(Note::ServerLeft {
                    server: entry.server.to_string(),
                    failure: Failure::new("sztp.too-many-servers", "the list is too long"),
                });
            }
        }
        self.frames.push(Frame {
            entries,
            next: 0,
            current: None,
            is_redirect,
            addresses: Vec::new(),
            next_address: 0,
        });
    }

    fn redirects(&self) -> u32 {
        let count = self.frames.iter().filter(|frame| frame.is_redirect).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// SZTP-8572-5.5-01: "the device sequentially steps through the list of provided bootstrap
    /// servers until it can find one it can bootstrap from." After the list, it goes on with the
    /// enclosing one.
    pub(super) fn next_server(&mut self, turn: Turn<'_>) -> Step {
        self.link = None;
        self.onboarding = None;
        loop {
            let redirects = self.redirects();
            let Some((frame, above)) = self.frames.split_last_mut() else {
                return self.next_finding(turn);
            };
            let Some(entry) = frame.entries.get(frame.next).cloned() else {
                self.frames.pop();
                continue;
            };
            frame.next += 1;
            frame.addresses.clear();
            frame.next_address = 0;
            frame.current = Some(entry.clone());
            let server = entry.server.to_string();
            // It would say the same again. A server that sends the device back to itself to be
            // trusted (RFC 8572 appendix B) is another entry, as it comes with an anchor.
            if above
                .iter()
                .any(|frame| frame.current.as_ref() == Some(&entry))
            {
                self.notes.push(Note::ServerLeft {
                    server,
                    failure: Failure::new("sztp.redirect-loop", "the redirect leads in a circle"),
                });
                continue;
            }
            self.notes.push(Note::Server {
                server,
                redirects,
                authenticate: match &entry.trust {
                    EntryTrust::WellKnown if self.config.server_anchors.is_empty() => "nothing",
                    trust => trust.name(),
                },
            });
            // SZTP-8572-5.5-02: a name may stand for several addresses.
            if entry.server.address.parse::<IpAddr>().is_err() {
                self.awaiting = Awaiting::Addresses;
                return Step::Resolve {
                    host: entry.server.address,
                };
            }
            return self.connect(None, turn);
        }
    }

    fn resolved(&mut self, mut addresses: Vec<IpAddr>, turn: Turn<'_>) -> Step {
        let mut seen = Vec::new();
        addresses.retain(|address| {
            let new = !seen.contains(address);
            seen.push(*address);
            new
        });
        addresses.truncate(ADDRESSES_PER_NAME_MAX);
        if addresses.is_empty() {
            let failure = Failure::new("sztp.no-address", "the name has no address");
            return self.leave_server(failure, turn);
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.addresses = addresses;
        }
        self.next_address(None, turn)
    }

    /// SZTP-8572-5.5-02: "the device MUST attempt to connect to all of the DNS resolved addresses
    /// at least once, before moving on to the next bootstrap server."
    pub(super) fn next_address(&mut self, failure: Option<Failure>, turn: Turn<'_>) -> Step {
        let next = self.frames.last_mut().and_then(|frame| {
            let address = frame.addresses.get(frame.next_address).copied();
            frame.next_address += 1;
            address
        });
        match (next, failure) {
            (Some(address), failure) => {
                if let (Some(failure), Some(link)) = (failure, &self.link) {
                    let server = match link.address {
                        Some(address) => format!("{} at {address}", link.server),
                        None => link.server.clone(),
                    };
                    self.notes.push(Note::ServerLeft {
                        server,
                        failure: failure.clone(),
                    });
                    self.state.last_failure = Some(failure);
                }
                self.connect(Some(address), turn)
            }
            (None, failure) => {
                let failure = failure
                    .unwrap_or_else(|| Failure::new("sztp.no-address", "no address is left"));
                self.leave_server(failure, turn)
            }
        }
    }

    fn current(&self) -> Option<&Entry> {
        self.frames.last().and_then(|frame| frame.current.as_ref())
    }

    fn connect(&mut self, address: Option<IpAddr>, turn: Turn<'_>) -> Step {
        self.connections += 1;
        if self.connections > CONNECTIONS_MAX {
            // What this finding led to has no end; the next one may be better.
            self.frames.clear();
            let failure = Failure::new("sztp.too-many-connections", "too many servers were tried");
            return self.leave_server(failure, turn);
        }
        let server = self.current().map(|entry| entry.server.to_string());
        self.link = Some(Link {
            server: server.unwrap_or_default(),
            address,
            ..Link::default()
        });
        self.open(turn)
    }

    /// Opens the link's connection, for the first time or again.
    fn open(&mut self, turn: Turn<'_>) -> Step {
        let (Some(entry), Some(link)) = (self.current().cloned(), &mut self.link) else {
            return Step::GiveUp(Failure::new("sztp.internal", "there is no server"));
        };
        link.connected = false;
        let at = self.at(turn.now);
        let authenticate = match &entry.trust {
            // SZTP-8572-5.5-04: "the device MUST authenticate the specified bootstrap server's TLS
            // server certificate using X.509 certificate path validation […] to the specified
            // trust anchor."
            EntryTrust::Anchor(anchor) => Authenticate::Anchors {
                anchors: vec![anchor.anchor().clone()],
                crls: anchor.crls().to_vec(),
                at,
            },
            // SZTP-8040-2.3-01: a server that the manufacturer named has to be what it says.
            EntryTrust::WellKnown if !self.config.server_anchors.is_empty() => {
                Authenticate::Anchors {
                    anchors: self.config.server_anchors.iter().cloned().collect(),
                    crls: Vec::new(),
                    at,
                }
            }
            // SZTP-8572-5.5-05, SZTP-8572-5.5-06: "by blindly accepting its TLS server
            // certificate".
            EntryTrust::WellKnown | EntryTrust::Provisional => Authenticate::Nothing,
        };
        self.awaiting = Awaiting::Connection;
        Step::Connect(Connect {
            host: entry.server.address.clone(),
            address: self.link.as_ref().and_then(|link| link.address),
            port: entry.server.effective_port(),
            authenticate,
        })
    }

    fn connected(&mut self, chain: &[Certificate], turn: Turn<'_>) -> Step {
        let Some(entry) = self.current().cloned() else {
            return Step::GiveUp(Failure::new("sztp.internal", "there is no server"));
        };
        let (trusted, anchors, refusal) = self.judge_server(&entry, chain, turn.now);
        self.notes.push(Note::Trust(TrustNote {
            server: entry.server.to_string(),
            trusted,
            anchors: trusted.then_some(anchors),
            refusal: refusal.clone(),
        }));
        let must = match entry.trust {
            EntryTrust::Anchor(_) => true,
            EntryTrust::WellKnown => !self.config.server_anchors.is_empty(),
            EntryTrust::Provisional => false,
        };
        if must && let Some(refusal) = refusal {
            return self.disconnected(refusal, turn);
        }
        let Some(link) = &mut self.link else {
            return Step::GiveUp(Failure::new("sztp.internal", "there is no connection"));
        };
        if link.trusted.is_some_and(|before| before != trusted) {
            let failure = Failure::new("sztp.server-changed", "the server is another one now");
            return self.disconnected(failure, turn);
        }
        // SZTP-8572-5.3-02: "then the device MUST set trust-state to TRUE."
        link.trusted = Some(trusted);
        link.connected = true;
        match link.outstanding.take() {
            Some((awaiting, request)) => self.send(awaiting, request, turn),
            None => self.ask_host_meta(turn),
        }
    }

    fn judge_server(
        &self,
        entry: &Entry,
        chain: &[Certificate],
        now: OffsetDateTime,
    ) -> (bool, &'static str, Option<Failure>) {
        let at = self.at(now);
        let host = &entry.server.address;
        let (result, anchors) = match &entry.trust {
            EntryTrust::Anchor(anchor) => {
                let anchors = Anchors::from(anchor.anchor().clone());
                let result = trust::judge(chain, &anchors, anchor.crls(), at, host);
                (result, "redirect")
            }
            // SZTP-8572-5.3-02: to "one of the device's pre-configured trust anchors", however the
            // device came to know the server.
            EntryTrust::WellKnown | EntryTrust::Provisional
                if !self.config.server_anchors.is_empty() =>
            {
                let anchors = &self.config.server_anchors;
                let result = trust::judge(chain, anchors, &[], at, host);
                (result, "pre-configured")
            }
            EntryTrust::WellKnown | EntryTrust::Provisional => {
                let failure = Failure::new("sztp.no-anchor", "there is no anchor for the server");
                (Err(failure), "none")
            }
        };
        (result.is_ok(), anchors, result.err())
    }

    /// Sends a request over the connection, if it is open and the server on it was judged. After a
    /// failure there may be a stranger on it, so then it is made again first.
    pub(super) fn send(&mut self, awaiting: Awaiting, request: Request, turn: Turn<'_>) -> Step {
        let connected = self.link.as_mut().is_some_and(|link| {
            link.outstanding = Some((awaiting, request.clone()));
            link.connected
        });
        if !connected {
            return self.open(turn);
        }
        self.awaiting = awaiting;
        Step::Send(request)
    }

    /// The connection could not be made, or broke before the answer was there.
    fn disconnected(&mut self, failure: Failure, turn: Turn<'_>) -> Step {
        let Some(link) = &mut self.link else {
            return self.leave_server(failure, turn);
        };
        link.connected = false;
        if let Some((awaiting, _)) = &link.outstanding {
            // Servers close connections that are idle, and scripts take their time.
            if link.reconnects < super::RECONNECTS_MAX {
                link.reconnects += 1;
                return self.open(turn);
            }
            let was_report = *awaiting == Awaiting::Report;
            link.outstanding = None;
            link.reconnects = 0;
            if was_report {
                return self.report_answered(None, turn);
            }
        }
        self.next_address(Some(failure), turn)
    }

    /// SZTP-8572-5.6-06: "the device MUST return to the enclosing loop, not back to the very
    /// beginning."
    pub(super) fn leave_server(&mut self, failure: Failure, turn: Turn<'_>) -> Step {
        let server = self
            .current()
            .map_or_else(|| self.source_name(), |entry| entry.server.to_string());
        self.notes.push(Note::ServerLeft {
            server,
            failure: failure.clone(),
        });
        self.state.last_failure = Some(failure);
        self.next_server(turn)
    }

    /// SZTP-8572-5.3-10: "the device MUST, within limits of how many recursive loops the device
    /// allows, process the redirect information".
    pub(super) fn follow(
        &mut self,
        information: &RedirectInformation,
        trust_state: bool,
        turn: Turn<'_>,
    ) -> Step {
        self.link = None;
        // SZTP-8572-5.3-11: "Implementations MUST limit the maximum number of recursive redirects".
        if self.redirects() >= self.config.redirects_max
            && !defects::seeded!("sztp-device-follows-for-ever")
        {
            let failure = Failure::new("sztp.redirect-limit", "too many redirects");
            return self.leave_server(failure, turn);
        }
        let at = self.at(turn.now);
        let mut entries = Vec::new();
        for listed in &information.bootstrap_servers {
            let server = Server::new(listed.address.clone(), listed.port);
            let trust = match &listed.trust_anchor {
                Some(cms) if trust_state => {
                    match TrustAnchor::parse(cms, at, &self.config.tolerances) {
                        Ok(anchor) => EntryTrust::Anchor(anchor),
                        Err(failure) => {
                            self.notes.push(Note::ServerLeft {
                                server: server.to_string(),
                                failure: failure.clone(),
                            });
                            self.state.last_failure = Some(failure);
                            continue;
                        }
                    }
                }
                // SZTP-8572-2.1-01, SZTP-8572-5.5-06: "the device MUST discard any trust anchors
                // provided by the redirect information".
                // SZTP-8572-5.5-05: without an anchor the connection is provisional, "even if the
                // redirect itself was trusted".
                _ => EntryTrust::Provisional,
            };
            entries.push(Entry { server, trust });
        }
        self.push_frame(entries, true);
        self.next_server(turn)
    }

    /// SZTP-8572-5.2-01: "Otherwise, the device MUST loop back through the list of bootstrapping
    /// sources again."
    fn round_failed(&mut self, turn: Turn<'_>) -> Step {
        self.state.rounds = self.state.rounds.saturating_add(1);
        if !self.found_any {
            let failure = Failure::new("sztp.nothing-found", "no source holds anything");
            self.state.last_failure = Some(failure);
        }
        let failure = self.last_failure();
        if self
            .config
            .rounds_max
            .is_some_and(|most| self.state.rounds >= most)
        {
            self.state.rounds = 0;
            self.state.not_before = None;
            return Step::GiveUp(failure);
        }
        let until = turn.now + back_off(self.state.rounds, turn.random);
        self.state.not_before = Some(until);
        Step::Wait { until, failure }
    }

    fn last_failure(&self) -> Failure {
        self.state
            .last_failure
            .clone()
            .unwrap_or_else(|| Failure::new("sztp.nothing-found", "no source holds anything"))
    }

    /// The server that is talked to.
    pub(super) fn server(&self) -> Option<String> {
        self.link.as_ref().map(|link| link.server.clone())
    }

    /// The time for checks, if the clock is trusted.
    pub(super) fn at(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        (self.config.clock == Clock::Trusted).then_some(now)
    }
}

/// An answer of a server.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a [(String, String)],
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The moment to wait for, if it lies ahead. A clock that was set back must not make a pause
/// longer than it can ever be.
fn soon(not_before: Option<OffsetDateTime>, now: OffsetDateTime) -> Option<OffsetDateTime> {
    not_before
        .filter(|moment| *moment > now)
        .map(|moment| moment.min(now + BACK_OFF_MAX))
}

/// Doubles from [`BACK_OFF_MIN`] to [`BACK_OFF_MAX`], less up to a quarter by chance, so that a
/// building full of devices does not come back in step after a power cut.
fn back_off(rounds: u32, random: &[u8; 32]) -> Duration {
    let doublings = rounds.saturating_sub(1).min(16);
    let full = (BACK_OFF_MIN * (1_i32 << doublings)).min(BACK_OFF_MAX);
    let [.., last] = *random;
    full - full * (i32::from(last) % 64) / 256
}
