//! The running proxy: its links, its ports, and what keeps them up to date.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::{Admin, CancellationToken, Metrics};
use net::server::Listener;
use pki::Coded as _;
use serde::Serialize;
use tokio::task::{AbortHandle, JoinHandle};

use crate::circuit::Circuit;
use crate::counters::Counters;
use crate::link::{self, Link};
use crate::relay::{Gate, GateLimits, Limiter, Moment, Refusal, Table, is_link_local};
use crate::target::Service;
use crate::targets::{Search, Targets};
use crate::udp::{Joint, Leg, Upstream, end_flows, serve_stateful};
use crate::{Config, Error, Mode, announce, icmp, mdns};

/// How often interfaces are looked at: they come and go.
const LINKS_PERIOD: Duration = Duration::from_secs(2);
/// How often pledges that were quiet for long are forgotten.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);

/// How a pledge is helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// CoAPs; the state is in the header of each message.
    Stateless,
    /// CoAPs; a port for each pledge.
    Stateful,
    /// HTTPS; a connection for each connection.
    Circuit,
}

impl Way {
    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stateless => "stateless",
            Self::Stateful => "stateful",
            Self::Circuit => "circuit",
        }
    }
}

/// A port at which pledges are helped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The interface, or the configured address.
    pub link: String,
    /// How pledges are helped there.
    pub way: Way,
    /// Where they go.
    pub address: SocketAddr,
    /// The registrar behind it.
    pub registrar: SocketAddr,
}

/// What the parts of a proxy have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    start: tokio::time::Instant,
    flows: Mutex<Table<Leg>>,
    ports: Mutex<BTreeMap<Key, Active>>,
    links: Mutex<BTreeMap<Link, Arc<LinkState>>>,
}

impl Shared {
    pub(crate) fn new(config: Config, metrics: &Metrics) -> Self {
        Self {
            counters: Counters::new(metrics),
            start: tokio::time::Instant::now(),
            flows: Mutex::new(Table::new(config.limits.states())),
            ports: Mutex::default(),
            links: Mutex::default(),
            config,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.start.elapsed()
    }

    /// The flows of all stateful join ports: the limits are those of a link, not of a registrar.
    pub(crate) fn flows(&self) -> MutexGuard<'_, Table<Leg>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<Key, Active>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<Link, Arc<LinkState>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ports of one link.
    pub(crate) fn ports_at(&self, link: &Link) -> mdns::Ports {
        let mut ports = mdns::Ports::default();
        for (key, active) in self.ports().iter().filter(|(key, _)| key.link == *link) {
            let list = match key.way {
                Way::Circuit => &mut ports.tcp,
                Way::Stateless | Way::Stateful => &mut ports.udp,
            };
            list.push(active.address.port());
        }
        ports
    }

    /// The UDP ports of one link.
    pub(crate) fn join_ports_at(&self, link: &Link) -> Vec<SocketAddr> {
        self.ports()
            .iter()
            .filter(|(key, _)| key.link == *link && key.way != Way::Circuit)
            .map(|(_, active)| active.address)
            .collect()
    }
}

/// A link while it is there.
pub(crate) struct LinkState {
    pub(crate) link: Link,
    pub(crate) number: u32,
    limiter: Mutex<Limiter>,
    icmp: Option<icmp::Sender>,
    gate: Mutex<Gate>,
}

impl Link {
    /// Whether somebody with this address is on the link.
    pub(crate) fn check(&self, from: IpAddr) -> bool {
        !self.only_local || is_link_local(from)
    }
}

impl LinkState {
    pub(crate) fn new(link: Link, number: u32, shared: &Shared) -> Self {
        let limits = &shared.config.limits;
        let icmp = match link.address {
            IpAddr::V6(address) => icmp::Sender::new(address, link.scope),
            IpAddr::V4(_) => None,
        };
        Self {
            icmp,
            link,
            number,
            limiter: Mutex::new(Limiter::new(limits.rates(), shared.now())),
            gate: Mutex::new(Gate::new(GateLimits {
                per_pledge: limits.connections_per_pledge,
                per_link: limits.connections_per_link,
            })),
        }
    }

    pub(crate) fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses who is not on the link.
    pub(crate) fn check(&self, from: IpAddr) -> Result<(), Refusal> {
        if self.link.check(from) {
            Ok(())
        } else {
            Err(Refusal::NotLinkLocal)
        }
    }

    /// Tells a pledge that what it sent to this port of ours did not arrive.
    pub(crate) fn tell(&self, code: icmp::Code, port: u16, pledge: SocketAddr) {
        if let Some(sender) = &self.icmp {
            sender.send(code, port, pledge);
        }
    }

    /// Lets a connection in, for as long as the place is kept.
    pub(crate) fn enter(self: &Arc<Self>, pledge: IpAddr) -> Result<Entered, Refusal> {
        self.gate().enter(pledge)?;
        Ok(Entered {
            link: Arc::clone(self),
            pledge,
        })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place of a connection.
pub(crate) struct Entered {
    link: Arc<LinkState>,
    pledge: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.link.gate().leave(self.pledge);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    link: Link,
    way: Way,
    registrar: SocketAddr,
}

struct Active {
    address: SocketAddr,
    // Ends with it.
    _task: Task,
}

/// A task that ends when it is forgotten.
struct Task(AbortHandle);

impl Task {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A proxy that serves.
pub struct Running {
    shared: Arc<Shared>,
    targets: Arc<Targets>,
    shutdown: CancellationToken,
    admin: Listener,
    admin_address: SocketAddr,
    discovery: Arc<Mutex<Vec<SocketAddr>>>,
    supervisor: JoinHandle<()>,
    _search: Task,
    _flows: Task,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("ports", &self.ports())
            .field("admin_address", &self.admin_address)
            .finish_non_exhaustive()
    }
}

/// Starts a join proxy. What can be served at once is served when this returns; interfaces and
/// registrars that come later are taken up when they come.
///
/// # Errors
/// The configuration makes no sense, or one of its addresses cannot be bound.
pub async fn serve(config: Config) -> Result<Running, Error> {
    config.check()?;
    let metrics = Metrics::new("usher_proxy");
    let targets = Arc::new(Targets::default());
    let search = Search::new(&config, Arc::clone(&targets))?;
    search.resolve().await;
    let shared = Arc::new(Shared::new(config, &metrics));
    let shutdown = CancellationToken::new();
    let discovery = Arc::new(Mutex::new(Vec::new()));
    let mut supervisor = Supervisor {
        shared: Arc::clone(&shared),
        targets: Arc::clone(&targets),
        shutdown: shutdown.clone(),
        upstreams: BTreeMap::new(),
        announcing: BTreeMap::new(),
        responding: BTreeMap::new(),
        discovery: Arc::clone(&discovery),
        numbers: AtomicU32::new(0),
    };
    // What is wrong with a configured address is said at once.
    supervisor.reconcile(true).await?;
    let (known, state) = (Arc::clone(&targets), Arc::clone(&shared));
    let admin = Admin::new(metrics)
        .check("registrar", move || {
            let known = Arc::clone(&known);
            async move {
                match known.is_empty() {
                    true => Err("no registrar is known".to_owned()),
                    false => Ok(()),
                }
            }
        })
        .check("ports", move || {
            let state = Arc::clone(&state);
            async move {
                match state.ports().is_empty() {
                    true => Err("no pledge can be helped: no link, or no registrar".to_owned()),
                    false => Ok(()),
                }
            }
        })
        .serve(&shared.config.admin, shutdown.clone())
        .await?;
    let admin_address = admin.address();
    tracing::info!(%admin_address, "the join proxy serves");
    Ok(Running {
        supervisor: tokio::spawn(supervisor.run()),
        _search: Task::spawn(search.run()),
        _flows: Task::spawn(end_flows(Arc::clone(&shared))),
        shared,
        targets,
        shutdown,
        admin,
        admin_address,
        discovery,
    })
}

impl Running {
    /// The ports at which pledges are helped at this moment.
    #[must_use]
    pub fn ports(&self) -> Vec<Port> {
        self.shared
            .ports()
            .iter()
            .map(|(key, active)| Port {
                link: key.link.name.clone(),
                way: key.way,
                address: active.address,
                registrar: key.registrar,
            })
            .collect()
    }

    /// Where pledges are helped in one way.
    #[must_use]
    pub fn addresses(&self, way: Way) -> Vec<SocketAddr> {
        self.ports()
            .into_iter()
            .filter(|port| port.way == way)
            .map(|port| port.address)
            .collect()
    }

    /// Where pledges ask for join ports by CoAP.
    #[must_use]
    pub fn discovery_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.discovery.lock();
        addresses.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where operators connect.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// How often something was not relayed, by the code of the reason.
    #[must_use]
    pub fn refusals(&self, code: &'static str) -> u64 {
        self.shared.counters.refusals(code)
    }

    /// How many pledges of each link are remembered for the limits.
    #[must_use]
    pub fn tracked(&self) -> Vec<usize> {
        let links: Vec<Arc<LinkState>> = self.shared.links().values().cloned().collect();
        links.iter().map(|link| link.limiter().tracked()).collect()
    }

    /// Flows of the stateful way at this moment.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.shared.flows().len()
    }

    /// Connections of the circuit proxy at this moment.
    #[must_use]
    pub fn connections(&self) -> i64 {
        self.shared.counters.opened(Way::Circuit)
    }

    /// The registrars' addresses that are known for a service.
    #[must_use]
    pub fn registrars(&self, service: Service) -> Vec<SocketAddr> {
        self.targets.of(service)
    }

    /// Cancelled when the proxy stops; cancel it to stop the proxy.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Stops: ports are closed and connections end.
    pub async fn stop(self) {
        self.shutdown.cancel();
        // It does not panic by itself; if it was aborted there is nothing left to stop.
        let _ = self.supervisor.await;
        self.shared.ports().clear();
        self.admin.stopped().await;
    }
}

struct Announcing {
    stop: CancellationToken,
    server: net::coap::CoapServer,
}

struct Supervisor {
    shared: Arc<Shared>,
    targets: Arc<Targets>,
    shutdown: CancellationToken,
    upstreams: BTreeMap<SocketAddr, (Arc<Upstream>, Task)>,
    announcing: BTreeMap<Link, Announcing>,
    responding: BTreeMap<Link, Task>,
    discovery: Arc<Mutex<Vec<SocketAddr>>>,
    numbers: AtomicU32,
}

impl Supervisor {
    async fn run(mut self) {
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = self.targets.changed() => {}
                () = tokio::time::sleep(LINKS_PERIOD) => {}
                _ = sweep.tick() => {
                    let now = self.shared.now();
                    for link in self.shared.links().values() {
                        link.limiter().sweep(now);
                    }
                    continue;
                }
            }
            if let Err(error) = self.reconcile(false).await {
                tracing::error!(code = error.code(), %error, "a port cannot be opened");
            }
        }
        for (_, announcing) in std::mem::take(&mut self.announcing) {
            announcing.stop.cancel();
            announcing.server.stopped().await;
        }
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens what is missing and closes what is not wanted any more.
    async fn reconcile(&mut self, strict: bool) -> Result<(), Error> {
        let present = link::present(&self.shared.config.pledges);
        self.take_up(&present);
        let wanted = self.wanted(&present);
        // Each task ends when its handle is dropped.
        self.shared
            .ports()
            .retain(|key, _| wanted.iter().any(|(known, _)| known == key));
        self.upstreams.retain(|registrar, _| {
            wanted
                .iter()
                .any(|(key, _)| key.way == Way::Stateless && key.registrar == *registrar)
        });
        for (upstream, _) in self.upstreams.values() {
            upstream.follow(&self.shared);
        }
        for (key, port) in wanted {
            if self.shared.ports().contains_key(&key) {
                continue;
            }
            match self.open(&key, port).await {
                Ok(active) => {
                    tracing::info!(link = key.link.name, way = key.way.name(), device_address = %active.address, registrar = %key.registrar, "pledges can come");
                    self.shared.ports().insert(key, active);
                }
                Err(error) if strict => return Err(error),
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, link = key.link.name, "a port cannot be opened yet");
                }
            }
        }
        self.respond(&present);
        self.announce(&present, strict).await
    }

    /// Forgets links that are gone, and begins with those that came.
    fn take_up(&self, present: &[Link]) {
        let mut links = self.shared.links();
        links.retain(|link, _| present.contains(link));
        for link in present {
            links.entry(link.clone()).or_insert_with(|| {
                tracing::info!(link = link.name, address = %link.address, "pledges are helped on this link");
                Arc::new(LinkState::new(link.clone(), self.number(), &self.shared))
            });
        }
    }

    /// Which ports there have to be, with the configured number of each.
    fn wanted(&self, links: &[Link]) -> Vec<(Key, u16)> {
        let pledges = &self.shared.config.pledges;
        let jpy = self.targets.of(Service::Jpy);
        let coaps = self.targets.of(Service::Coaps);
        let (stateless, stateful) = match self.shared.config.registrar.mode {
            // JPX-002: If any registrar with rt=brski.rjp is discovered the generic proxy uses
            // stateless mode.
            Mode::Auto if !jpy.is_empty() => (jpy, Vec::new()),
            // JPX-003: If no brski.rjp but rt=brski is discovered it uses stateful mode.
            Mode::Auto => (Vec::new(), coaps),
            Mode::Stateless => (jpy, Vec::new()),
            Mode::Stateful => (Vec::new(), coaps),
            Mode::Both => (jpy, coaps),
        };
        let udp = stateless
            .into_iter()
            .map(|registrar| (Way::Stateless, registrar))
            .chain(stateful.into_iter().map(|one| (Way::Stateful, one)));
        let udp = (0..)
            .zip(udp)
            .map(|(index, one)| (one, pledges.join_port, index));
        let tcp = self.targets.of(Service::Https);
        let tcp = (0..)
            .zip(tcp)
            .map(|(index, registrar)| ((Way::Circuit, registrar), pledges.circuit_port, index));
        let kinds: Vec<((Way, SocketAddr), u16, u16)> = udp.chain(tcp).collect();
        let mut wanted = Vec::new();
        for link in links {
            for ((way, registrar), first, index) in &kinds {
                let key = Key {
                    link: link.clone(),
                    way: *way,
                    registrar: *registrar,
                };
                let port = match first {
                    0 => 0,
                    first => first.saturating_add(*index),
                };
                wanted.push((key, port));
            }
        }
        wanted
    }

    async fn open(&mut self, key: &Key, port: u16) -> Result<Active, Error> {
        let link = self.shared.links().get(&key.link).cloned();
        let Some(link) = link else {
            return Err(Error::Usage(format!("{} is gone", key.link.name)));
        };
        let shared = Arc::clone(&self.shared);
        if key.way == Way::Circuit {
            let circuit = Circuit::bind(link, port).await?;
            let address = address_of(circuit.address(), key, port)?;
            let task = Task::spawn(circuit.serve(shared, key.registrar));
            return Ok(Active {
                address,
                _task: task,
            });
        }
        // The number is in the headers; 65,536 ports later one may come again, whose headers have
        // other keys by then.
        let number = u16::try_from(self.number() & 0xffff).unwrap_or_default();
        let joint = Arc::new(Joint::bind(number, link, port).await?);
        let address = address_of(joint.address(), key, port)?;
        let task = if key.way == Way::Stateless {
            let upstream = self.upstream(key.registrar)?;
            Task::spawn(upstream.serve(shared, joint))
        } else {
            Task::spawn(serve_stateful(shared, joint, key.registrar))
        };
        Ok(Active {
            address,
            _task: task,
        })
    }

    fn upstream(&mut self, registrar: SocketAddr) -> Result<Arc<Upstream>, Error> {
        if let Some((upstream, _)) = self.upstreams.get(&registrar) {
            return Ok(Arc::clone(upstream));
        }
        let upstream = Upstream::open(&self.shared, registrar)?;
        let task = Task::spawn(Arc::clone(&upstream).run(Arc::clone(&self.shared)));
        self.upstreams
            .insert(registrar, (Arc::clone(&upstream), task));
        Ok(upstream)
    }

    /// Answers questions by multicast DNS, on each interface.
    fn respond(&mut self, present: &[Link]) {
        if !self.shared.config.discovery.mdns {
            return;
        }
        self.responding.retain(|link, _| present.contains(link));
        for link in present.iter().filter(|link| link.interface().is_some()) {
            let state = self.shared.links().get(link).cloned();
            let Some(state) = state.filter(|_| !self.responding.contains_key(link)) else {
                continue;
            };
            match mdns::Responder::open(state) {
                Ok(responder) => {
                    let task = Task::spawn(responder.serve(Arc::clone(&self.shared)));
                    self.responding.insert(link.clone(), task);
                }
                Err(error) => {
                    tracing::debug!(%error, link = link.name, "no multicast DNS here yet");
                }
            }
        }
    }

    /// Answers pledges that ask for join ports, on each link.
    async fn announce(&mut self, present: &[Link], strict: bool) -> Result<(), Error> {
        if !self.shared.config.discovery.coap {
            return Ok(());
        }
        let gone: Vec<Link> = self
            .announcing
            .keys()
            .filter(|link| !present.contains(link))
            .cloned()
            .collect();
        for link in gone {
            if let Some(announcing) = self.announcing.remove(&link) {
                announcing.stop.cancel();
            }
        }
        for link in present {
            if self.announcing.contains_key(link) {
                continue;
            }
            let stop = self.shutdown.child_token();
            match announce::serve(&self.shared, link, stop.clone()).await {
                Ok(server) => {
                    let announcing = Announcing { stop, server };
                    self.announcing.insert(link.clone(), announcing);
                }
                Err(error) if strict => return Err(error),
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, link = link.name, "pledges cannot ask here yet");
                }
            }
        }
        let addresses = self
            .announcing
            .values()
            .flat_map(|announcing| announcing.server.open_addresses().to_vec())
            .collect();
        *self
            .discovery
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
        Ok(())
    }
}

fn address_of(
    address: std::io::Result<SocketAddr>,
    key: &Key,
    port: u16,
) -> Result<SocketAddr, Error> {
    address.map_err(|source| Error::Bind {
        address: key.link.at(port),
        source,
    })
}
