//! Target `join-proxy`: the suite is pledges on one side and the registrar on the other.

mod circuit;
mod ear;
mod finding;
mod lookup;
mod pledge;
mod stateful;
mod stateless;
mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    net::TcpListener,
    sync::{Mutex, OnceCell},
    time::Instant,
};

use self::{
    ear::{Ear, Side, Waiting},
    pledge::Pledge,
};
use crate::{
    case::{Case, Kit},
    evidence::Recorder,
    outcome::Finding,
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
};

/// The role.
pub static JOIN_PROXY: JoinProxyRole = JoinProxyRole;

/// A join proxy.
pub struct JoinProxyRole;

const FEATURES: &[Feature] = &[
    Feature {
        name: "stateless",
        means: "it sends JPY to settings.jpy_listen",
        usual: true,
    },
    Feature {
        name: "stateful",
        means: "it relays to settings.coaps_listen from a port for each pledge",
        usual: true,
    },
    Feature {
        name: "circuit",
        means: "it relays TCP connections from settings.circuit to settings.https_listen",
        usual: false,
    },
    Feature {
        name: "discovery",
        means: "it answers CoAP questions for join ports at endpoint.url",
        usual: true,
    },
    Feature {
        name: "sealed-header",
        means: "it encrypts the JPY header and protects its integrity",
        usual: true,
    },
    Feature {
        name: "icmp",
        means: "it tells pledges by ICMPv6 what did not arrive",
        usual: false,
    },
    Feature {
        name: "finds-registrar",
        means: "it is told of no registrar and asks settings.discovery_listen",
        usual: false,
    },
];

impl Role for JoinProxyRole {
    fn target(&self) -> Target {
        Target::JoinProxy
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = stateless::cases();
        cases.extend(stateful::cases());
        cases.extend(lookup::cases());
        cases.extend(finding::cases());
        cases.extend(circuit::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let port = |number: u16| match plan.suite_port {
            0 => 0,
            first => first.saturating_add(number),
        };
        let mut profile = Profile::new(Target::JoinProxy);
        profile.endpoint.url = Some(
            plan.endpoint
                .clone()
                .unwrap_or_else(|| "coap://[fe80::1%eth0]:5683".into()),
        );
        let host = &plan.suite_host;
        for (name, number) in [
            ("jpy_listen", 0),
            ("coaps_listen", 1),
            ("https_listen", 2),
            ("discovery_listen", 3),
        ] {
            let address = format!("0.0.0.0:{}", port(number));
            profile.settings.insert(name.into(), address.into());
        }
        for (name, value) in [("offer", "both"), ("suite_address", host), ("circuit", "")] {
            profile.settings.insert(name.into(), value.into());
        }
        for name in ["sources", "join_ports"] {
            let none = toml::Value::Array(Vec::new());
            profile.settings.insert(name.into(), none);
        }
        Ok(Prepared {
            instructions: INSTRUCTIONS
                .replace("{host}", host)
                .replace("{jpy}", &port(0).to_string())
                .replace("{coaps}", &port(1).to_string())
                .replace("{https}", &port(2).to_string())
                .replace("{discovery}", &port(3).to_string()),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(JoinProxy::new(setup)?))
    }
}

const INSTRUCTIONS: &str = "\
# Testing a join proxy

The suite is pledges on the proxy's link, and the registrar. Both sides run in one program, on a
host that has a leg on the link and one that the proxy can route to. Configure the proxy like this:

1. Registrar, JPY (claim `stateless`): jpy://{host}:{jpy}
2. Registrar, CoAP over DTLS (claim `stateful`): coaps://{host}:{coaps}. A proxy that works in one
   mode at a time is tested in two runs, each with one of the two claims.
3. For a circuit proxy (claim `circuit`): https://{host}:{https}, and its port towards pledges in
   settings.circuit as `[address%interface]:port`.
4. endpoint.url is where the proxy answers CoAP questions of pledges (claim `discovery`), with the
   interface: `coap://[fe80::1%eth0]:5683`. Without that claim put its join ports into
   settings.join_ports.
5. settings.sources are this host's addresses on the link that pledges speak from. One is enough to
   begin with; the limits of stateful mode need sixteen
   (`ip addr add fe80::a1/64 dev eth0 nodad`, and so on).
6. To see how it finds a registrar (claim `finds-registrar`), configure none, and let it ask by
   CoAP at {host} port {discovery}. settings.offer says what the suite answers: `both`, or `coaps`
   alone. settings.suite_address is the address in the answers.

The suite listens at 0.0.0.0; write `[::]` into the profile for a proxy that comes over IPv6.
Limits of the proxy on how fast one pledge may send have to allow 40 datagrams at once. The cases
of stateful mode take about a minute, because a state lives for 30 seconds.
";

/// How long a proxy may take to find a registrar.
const FINDING_TIME: Duration = Duration::from_secs(60);
/// How often it is asked for join ports until then.
const ASKING_PERIOD: Duration = Duration::from_secs(2);

/// What the cases share.
pub(crate) struct JoinProxy {
    jpy: Ear,
    coaps: Ear,
    https: Option<TcpListener>,
    circuit: Option<SocketAddr>,
    circuit_turn: Mutex<()>,
    offers: Option<finding::Offers>,
    waiting: Waiting,
    asked: Option<SocketAddr>,
    configured: Vec<SocketAddr>,
    sources: Vec<IpAddr>,
    next_source: AtomicUsize,
    next_mark: AtomicU64,
    ports: OnceCell<Ports>,
    scene: OnceCell<stateful::Scene>,
    told_of_icmp: bool,
    answer: Duration,
}

/// The join ports, by what is behind them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    all: Vec<SocketAddr>,
    jpy: Vec<SocketAddr>,
    coaps: Vec<SocketAddr>,
    deaf: Vec<SocketAddr>,
}

impl JoinProxy {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let profile = setup.profile;
        let waiting = Waiting::default();
        let addresses = |name: &str| -> Result<Vec<SocketAddr>> {
            profile
                .list(name)
                .iter()
                .map(|text| endpoint(text))
                .collect()
        };
        let sources: Vec<IpAddr> = profile
            .list("sources")
            .iter()
            .map(|text| {
                text.parse()
                    .with_context(|| format!("{text} is no address"))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            jpy: Ear::open(Side::Jpy, profile.needed("jpy_listen")?, &waiting)?,
            coaps: Ear::open(Side::Coaps, profile.needed("coaps_listen")?, &waiting)?,
            https: match profile.claims("circuit") {
                true => Some(listen(profile.needed("https_listen")?)?),
                false => None,
            },
            circuit: profile.text("circuit").map(endpoint).transpose()?,
            circuit_turn: Mutex::new(()),
            offers: match profile.claims("finds-registrar") {
                true => Some(finding::Offers::serve(profile)?),
                false => None,
            },
            waiting,
            asked: asked(profile)?,
            configured: addresses("join_ports")?,
            sources: match sources.is_empty() {
                true => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
                false => sources,
            },
            next_source: AtomicUsize::new(0),
            next_mark: AtomicU64::new(0),
            ports: OnceCell::new(),
            scene: OnceCell::new(),
            told_of_icmp: profile.claims("icmp"),
            answer: profile.timing.answer(),
        })
    }

    /// The join ports: what the proxy says, or what the profile says, and what is behind each.
    async fn ports(&self, record: &Recorder) -> Result<&Ports, Finding> {
        self.ports
            .get_or_try_init(|| async {
                let until = Instant::now() + FINDING_TIME;
                loop {
                    let found = self.look_for_ports(record).await?;
                    // A proxy that still looks for its registrar has no ports yet.
                    if !found.all.is_empty() || self.offers.is_none() || Instant::now() > until {
                        return Ok(found);
                    }
                    tokio::time::sleep(ASKING_PERIOD).await;
                }
            })
            .await
    }

    async fn look_for_ports(&self, record: &Recorder) -> Result<Ports, Finding> {
        let mut ports = Ports {
            all: match self.asked {
                Some(asked) => lookup::join_ports(self, record, asked).await?,
                None => self.configured.clone(),
            },
            ..Ports::default()
        };
        // The last source is not used for what has limits.
        let source = self.sources.len() - 1;
        for port in &ports.all {
            let mut pledge = Pledge::new(self, record, *port, source).await?;
            let said = pledge.content(60);
            match pledge.ask(&said).await {
                Ok(arrival) if arrival.side == Side::Jpy => ports.jpy.push(*port),
                Ok(_) => ports.coaps.push(*port),
                Err(_) => ports.deaf.push(*port),
            }
        }
        record.note(format!("join ports: {ports:?}"));
        Ok(ports)
    }

    /// A join port behind which this side is.
    async fn port(&self, record: &Recorder, side: Side) -> Result<SocketAddr, Finding> {
        let ports = self.ports(record).await?;
        let (list, name) = match side {
            Side::Jpy => (&ports.jpy, "JPY"),
            Side::Coaps => (&ports.coaps, "plain datagrams"),
        };
        list.first().copied().ok_or_else(|| {
            Finding::fail(format!(
                "no join port leads to the suite's port for {name}; there are {:?}",
                ports.all
            ))
        })
    }

    /// A pledge that nobody knows yet, in front of the stateless way.
    async fn stateless<'a>(&'a self, record: &'a Recorder) -> Result<Pledge<'a>, Finding> {
        let port = self.port(record, Side::Jpy).await?;
        let source = self.next_source.fetch_add(1, Ordering::Relaxed) % self.sources.len();
        Pledge::new(self, record, port, source).await
    }
}

/// Where the proxy answers questions.
fn asked(profile: &Profile) -> Result<Option<SocketAddr>> {
    if !profile.claims("discovery") {
        return Ok(None);
    }
    let url = profile.endpoint.url.as_deref().unwrap_or_default();
    let address = url
        .strip_prefix("coap://")
        .context("endpoint.url has to be coap://address:port")?;
    endpoint(address.trim_end_matches('/')).map(Some)
}

fn listen(address: &str) -> Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| address.to_owned())?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// An address with a port, and maybe an interface.
fn endpoint(text: &str) -> Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    // The standard library reads an interface as a number only.
    let named = || {
        let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
        let (address, interface) = host.split_once('%')?;
        let list = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
        let line = list
            .lines()
            .find(|line| line.split_ascii_whitespace().next_back() == Some(interface))?;
        let index = line.split_ascii_whitespace().nth(1)?;
        Some(SocketAddr::V6(SocketAddrV6::new(
            address.parse().ok()?,
            port.parse().ok()?,
            0,
            u32::from_str_radix(index, 16).ok()?,
        )))
    };
    named().with_context(|| format!("{text} is no [address%interface]:port"))
}
