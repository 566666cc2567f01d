//! The two ways over UDP: stateless and stateful.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::relay::{FlowId, KEY_LENGTH, Keys, Moment, Pledge, Refusal, stateless};
use crate::server::{LinkState, Shared};
use crate::{Error, Way, icmp};

/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_535;
/// How often flows are looked at whose time may be over.
const FLOWS_PERIOD: Duration = Duration::from_millis(500);
/// How long a socket that has an error is left alone, so that errors cost no more than datagrams.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// A join port.
pub(crate) struct Joint {
    number: u16,
    link: Arc<LinkState>,
    socket: UdpSocket,
}

impl Joint {
    pub(crate) async fn bind(number: u16, link: Arc<LinkState>, port: u16) -> Result<Self, Error> {
        let address = link.link.at(port);
        let socket = UdpSocket::bind(address)
            .await
            .map_err(|source| Error::Bind { address, source })?;
        Ok(Self {
            number,
            link,
            socket,
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether a pledge's datagram is relayed.
    fn admit(&self, now: Moment, from: SocketAddr, length: usize) -> Result<Pledge, Refusal> {
        self.link.check(from.ip())?;
        self.link.limiter().admit(now, from, length)?;
        Ok(Pledge::new(self.number, from))
    }

    /// Tells a pledge that what it sent here did not arrive.
    fn tell(&self, code: icmp::Code, pledge: SocketAddr) {
        if let Ok(own) = self.address() {
            self.link.tell(code, own.port(), pledge);
        }
    }

    async fn give(&self, shared: &Shared, way: Way, pledge: Pledge, datagram: &[u8]) {
        let ip = pledge.address.ip();
        let allowed = self.link.limiter().answer(ip, datagram.len());
        if let Err(refusal) = allowed {
            shared.counters.refused(refusal);
            return;
        }
        let link = &self.link.link;
        let to = link.with(ip, pledge.address.port());
        // A pledge that is gone is no error of ours; the datagram is lost as on the air.
        if self.socket.send_to(datagram, to).await.is_ok() {
            shared.counters.down(way);
        } else {
            shared.counters.lost("proxy.unsent");
        }
    }
}

/// The port towards one registrar from which all JPY goes.
// JPX-021: The stateless proxy sends all JPY from one fixed source port.
pub(crate) struct Upstream {
    registrar: SocketAddr,
    socket: ArcSwap<UdpSocket>,
    moved: Notify,
    keys: RwLock<Keys>,
    joints: RwLock<HashMap<u16, Arc<Joint>>>,
}

impl Upstream {
    pub(crate) fn open(shared: &Shared, registrar: SocketAddr) -> Result<Arc<Self>, Error> {
        let header = &shared.config.header;
        let hours = Moment::from_secs(3600).saturating_mul(header.key_hours);
        let overlap = Moment::from_secs(60).saturating_mul(header.overlap_minutes);
        let keys = Keys::new(shared.now(), hours, overlap, &random_key()).ok_or(Error::Random)?;
        Ok(Arc::new(Self {
            registrar,
            // JPX-031: JPY messages are accepted only from the registrar address and port in use:
            // what comes from elsewhere does not reach a connected socket.
            socket: ArcSwap::from_pointee(towards(registrar, shared.config.registrar.source)?),
            moved: Notify::new(),
            keys: RwLock::new(keys),
            joints: RwLock::default(),
        }))
    }

    /// Takes another port where this host's address towards the registrar is another by now: what
    /// is sent to the one before does not arrive any more.
    pub(crate) fn follow(&self, shared: &Shared) {
        let Ok(fresh) = towards(self.registrar, shared.config.registrar.source) else {
            // There is no way to the registrar at the moment.
            return;
        };
        let address = |socket: &UdpSocket| socket.local_addr().map(|address| address.ip()).ok();
        let (before, now) = (address(&self.socket.load()), address(&fresh));
        if before != now {
            tracing::info!(registrar = %self.registrar, ?before, ?now, "our address towards a registrar is another");
            self.socket.store(Arc::new(fresh));
            self.moved.notify_one();
        }
    }

    /// Gives what the registrar answers to the pledges.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let socket = self.socket.load_full();
            let received = tokio::select! {
                received = socket.recv(&mut buffer) => received,
                () = self.moved.notified() => continue,
            };
            let Ok(length) = received else {
                // The registrar's port is closed at the moment.
                shared.counters.lost("proxy.registrar-away");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            };
            let message = buffer.get(..length).unwrap_or_default();
            match self.opened(shared.now(), message) {
                Ok((joint, pledge, content)) => {
                    joint.give(&shared, Way::Stateless, pledge, content).await;
                }
                Err(refusal) => shared.counters.refused(refusal),
            }
        }
    }

    fn opened<'a>(
        &self,
        now: Moment,
        message: &'a [u8],
    ) -> Result<(Arc<Joint>, Pledge, &'a [u8]), Refusal> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (pledge, content) = stateless::unwrap(&keys, now, message)?;
        let joints = self.joints.read().unwrap_or_else(PoisonError::into_inner);
        let joint = joints.get(&pledge.listener).ok_or(Refusal::Header)?;
        Ok((Arc::clone(joint), pledge, content))
    }

    fn sealed(
        &self,
        now: Moment,
        joint: &Joint,
        pledge: &Pledge,
        datagram: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let due = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.is_due(now)
        };
        if due {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if keys.is_due(now) {
                keys.change(now, &random_key());
            }
        }
        let ip = pledge.address.ip();
        let began = joint.link.limiter().generation(ip);
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let (message, generation) = stateless::wrap(&keys, now, began, pledge, datagram)?;
        drop(keys);
        if began != Some(generation) {
            joint.link.limiter().set_generation(ip, generation);
        }
        Ok(message)
    }

    /// Gives what the pledges of one join port say to the registrar.
    pub(crate) async fn serve(self: Arc<Self>, shared: Arc<Shared>, joint: Arc<Joint>) {
        self.joints
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(joint.number, Arc::clone(&joint));
        let _end = End(&self, joint.number);
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let Ok((length, from)) = joint.socket.recv_from(&mut buffer).await else {
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let now = shared.now();
            if defects::seeded!("join-proxy-knows-dtls") && !matches!(datagram, [20..=63, ..]) {
                continue;
            }
            let message = joint
                .admit(now, from, length)
                .and_then(|pledge| self.sealed(now, &joint, &pledge, datagram));
            let message = match message {
                Ok(message) => message,
                Err(refusal) => {
                    shared.counters.refused(refusal);
                    continue;
                }
            };
            let socket = self.socket.load_full();
            if socket.send(&message).await.is_err() {
                shared.counters.lost("proxy.registrar-away");
                // The error may be of an earlier datagram, and then this one was not sent.
                if socket.send(&message).await.is_err() {
                    continue;
                }
            }
            shared.counters.up(Way::Stateless);
        }
    }
}

/// Takes the join port out when its task ends, also when it is aborted.
struct End<'a>(&'a Upstream, u16);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut joints = self
            .0
            .joints
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        joints.remove(&self.1);
    }
}

/// What is kept with a flow: the pledge's own socket towards the registrar.
pub(crate) struct Leg {
    socket: Arc<UdpSocket>,
    joint: Arc<Joint>,
    reader: AbortHandle,
    shared: Arc<Shared>,
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.reader.abort();
        self.shared.counters.open(Way::Stateful, -1);
    }
}

/// Ends the flows of a join port when its task ends, also when it is aborted.
struct LastFlow<'a>(&'a Shared, u16);

impl Drop for LastFlow<'_> {
    fn drop(&mut self) {
        let ended = self.0.flows().close_listener(self.1);
        // What is kept with them goes when nobody waits for the table.
        drop(ended);
    }
}

/// Relays for the pledges of one join port with a port for each of them.
pub(crate) async fn serve_stateful(shared: Arc<Shared>, joint: Arc<Joint>, registrar: SocketAddr) {
    let _end = LastFlow(&shared, joint.number);
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((length, from)) = joint.socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(ERROR_PAUSE).await;
            continue;
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        let now = shared.now();
        let flow = joint
            .admit(now, from, length)
            .map_err(Failed::Refused)
            .and_then(|pledge| flow_of(&shared, &joint, now, pledge, length, registrar));
        match flow {
            // JPX-009: UDP payloads are relayed unchanged in both directions.
            Ok(socket) => {
                if let Err(error) = socket.send(datagram).await {
                    away(&shared, &joint, &error, from);
                    // The error may be of an earlier datagram, and then this one was not sent.
                    if socket.send(datagram).await.is_err() {
                        continue;
                    }
                }
                shared.counters.up(Way::Stateful);
            }
            Err(Failed::Refused(refusal)) => {
                shared.counters.refused(refusal);
                // JPX-015: A refused new connection is answered ICMPv6 type 1 code 1.
                if matches!(refusal, Refusal::PledgeFull | Refusal::LinkFull) {
                    joint.tell(icmp::Code::Prohibited, from);
                }
            }
            Err(Failed::Socket(error)) => {
                tracing::warn!(code = error_code(&error), %error, "a pledge gets no port");
                shared.counters.lost(error_code(&error));
                if let Error::Bind { source, .. } = &error
                    && let Some(code) = icmp::Code::of(source)
                {
                    joint.tell(code, from);
                }
            }
        }
    }
}

/// Ends the flows whose time is over, again and again.
pub(crate) async fn end_flows(shared: Arc<Shared>) {
    let mut timer = tokio::time::interval(FLOWS_PERIOD);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let ended = shared.flows().advance(shared.now());
        drop(ended);
    }
}

enum Failed {
    Refused(Refusal),
    Socket(Error),
}

fn error_code(error: &Error) -> &'static str {
    pki::Coded::code(error)
}

/// An error came back for a pledge's datagram, or kept it here.
fn away(shared: &Shared, joint: &Joint, error: &io::Error, pledge: SocketAddr) {
    shared.counters.lost("proxy.registrar-away");
    // JPX-012: An ICMP error from the registrar side is sent to the pledge with same type and
    // code.
    if let Some(code) = icmp::Code::of(error) {
        joint.tell(code, pledge);
    }
}

// JPX-008: Each pledge (IP_P:p_P) gets its own routable source IP:port towards the registrar.
fn flow_of(
    shared: &Arc<Shared>,
    joint: &Arc<Joint>,
    now: Moment,
    pledge: Pledge,
    length: usize,
    registrar: SocketAddr,
) -> Result<Arc<UdpSocket>, Failed> {
    let mut flows = shared.flows();
    if let Some(flow) = flows.from_pledge(now, &pledge, length) {
        return Ok(Arc::clone(&flow.value.socket));
    }
    let link = joint.link.number;
    let gone = flows
        .make_room(now, link, &pledge)
        .map_err(Failed::Refused)?;
    let socket = towards(registrar, shared.config.registrar.source).map_err(Failed::Socket)?;
    let socket = Arc::new(socket);
    flows.begin(now, link, pledge, length, |id| {
        shared.counters.open(Way::Stateful, 1);
        let reading = read(
            Arc::clone(shared),
            Arc::clone(&socket),
            Arc::clone(joint),
            id,
            pledge,
        );
        Leg {
            socket: Arc::clone(&socket),
            joint: Arc::clone(joint),
            reader: tokio::spawn(reading).abort_handle(),
            shared: Arc::clone(shared),
        }
    });
    drop(flows);
    drop(gone);
    Ok(socket)
}

/// Brings back what the registrar sends on a flow, until the flow ends.
async fn read(
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    joint: Arc<Joint>,
    id: FlowId,
    pledge: Pledge,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let length = match socket.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                away(&shared, &joint, &error, pledge.address);
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        let allowed = shared
            .flows()
            .from_registrar(shared.now(), id, length)
            .map(|allowed| allowed.map(|flow| Arc::clone(&flow.value.joint)));
        match allowed {
            Some(Ok(joint)) => joint.give(&shared, Way::Stateful, pledge, datagram).await,
            Some(Err(refusal)) => shared.counters.refused(refusal),
            // The flow ended while this was under way.
            None => return,
        }
    }
}

/// A socket that talks to a registrar and nobody else.
fn towards(registrar: SocketAddr, source: Option<IpAddr>) -> Result<UdpSocket, Error> {
    let any = match registrar {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let address = SocketAddr::new(source.unwrap_or(any), 0);
    let open = || {
        let socket = std::net::UdpSocket::bind(address)?;
        socket.connect(registrar)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    open().map_err(|source| Error::Bind { address, source })
}

fn random_key() -> [u8; KEY_LENGTH] {
    rand::random()
}

#[cfg(test)]
mod tests {
    use coap::jpy::Jpy;
    use daemon::Metrics;

    use super::*;
    use crate::Config;
    use crate::link::Link;

    const HOUR: Moment = Moment::from_secs(3600);

    /// Requirements: JPX-028, JPX-029, JPX-030
    #[tokio::test]
    async fn keys_change_and_whoever_is_under_way_does_not_notice() {
        let text = "[pledges]\naddresses = [\"127.0.0.1\"]\n[header]\noverlap_minutes = 30";
        let shared = Shared::new(Config::parse(text).unwrap(), &Metrics::new("test"));
        let link = Link {
            name: "link".to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            scope: 0,
            only_local: false,
        };
        let link = Arc::new(LinkState::new(link, 0, &shared));
        let joint = Arc::new(Joint::bind(5, link, 0).await.unwrap());
        let registrar = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let upstream = Upstream::open(&shared, registrar).unwrap();
        upstream
            .joints
            .write()
            .unwrap()
            .insert(joint.number, Arc::clone(&joint));
        let speak = |now, host| {
            let from = SocketAddr::from(([127, 0, 0, host], 5000));
            let pledge = joint.admit(now, from, 5).unwrap();
            let message = upstream.sealed(now, &joint, &pledge, b"hello").unwrap();
            Jpy::decode(&message).unwrap().header.to_vec()
        };
        let reply = |header: &[u8]| {
            Jpy {
                header,
                content: b"x",
            }
            .encode()
        };
        let opens = |now, header: &[u8]| upstream.opened(now, &reply(header)).is_ok();
        let change = 24 * HOUR + HOUR / 60;
        let (one, two) = (speak(change - HOUR, 1), speak(change - HOUR, 2));
        assert_eq!(speak(change - HOUR / 2, 1), one);
        // The first one is still under way when the key changes; the third one comes then.
        let three = speak(change, 3);
        assert_eq!(speak(change + HOUR / 4, 1), one);
        assert!(three[0] != one[0] && two[0] == one[0]);
        for header in [&one, &two, &three] {
            assert!(opens(change + HOUR / 4, header));
        }
        // Later there is the new key only.
        let later = change + HOUR;
        assert!(!opens(later, &one) && !opens(later, &two) && opens(later, &three));
        assert_ne!(speak(later, 1), one);
        // What is sealed for a join port that is gone goes nowhere.
        upstream.joints.write().unwrap().clear();
        assert!(!opens(later, &three));
        // Another registrar's headers, and those of the proxy after a restart, have other keys.
        let other = Upstream::open(&shared, registrar).unwrap();
        other.joints.write().unwrap().insert(joint.number, joint);
        assert!(matches!(
            other.opened(later, &reply(&three)),
            Err(Refusal::Header)
        ));
    }
}
