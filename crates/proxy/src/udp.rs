//! The two ways over UDP: stateless and stateful.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::relay::{FlowId, KEY_LENGTH, Keys, Moment, Pledge, Refusal, Table, stateless};
use crate::server::{LinkState, Shared};
use crate::{Error, Way};

/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_535;
/// Answers of registrars that wait for their turn, for all flows of one join port together.
const ANSWERS_WAITING: usize = 1024;
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

    async fn give(&self, shared: &Shared, way: Way, pledge: Pledge, datagram: &[u8]) {
        self.link.limiter().answered(pledge.address.ip());
        let link = &self.link.link;
        let to = link.with(pledge.address.ip(), pledge.address.port());
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
    socket: UdpSocket,
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
            // JPX-031: JPY messages are accepted only from the registrar address and port in use:
            // what comes from elsewhere does not reach a connected socket.
            socket: towards(registrar, shared.config.registrar.source)?,
            keys: RwLock::new(keys),
            joints: RwLock::default(),
        }))
    }

    /// Gives what the registrar answers to the pledges.
    pub(crate) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else {
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
            let message = joint
                .admit(now, from, length)
                .and_then(|pledge| self.sealed(now, &joint, &pledge, datagram));
            match message {
                Ok(message) if self.socket.send(&message).await.is_ok() => {
                    shared.counters.up(Way::Stateless);
                }
                Ok(_) => shared.counters.lost("proxy.registrar-away"),
                Err(refusal) => shared.counters.refused(refusal),
            }
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

/// A pledge's own socket towards the registrar.
struct FlowSocket {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
    shared: Arc<Shared>,
}

impl Drop for FlowSocket {
    fn drop(&mut self) {
        self.reader.abort();
        self.shared.counters.open(Way::Stateful, -1);
    }
}

/// Relays for the pledges of one join port with a port for each of them.
pub(crate) async fn serve_stateful(shared: Arc<Shared>, joint: Arc<Joint>, registrar: SocketAddr) {
    let mut table: Table<FlowSocket> = Table::new(shared.config.limits.states());
    let (answers, mut waiting) = mpsc::channel(ANSWERS_WAITING);
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let deadline = table
            .deadline()
            .map(|at| shared.instant(at))
            .unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            received = joint.socket.recv_from(&mut buffer) => {
                let Ok((length, from)) = received else {
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                };
                let datagram = buffer.get(..length).unwrap_or_default();
                let now = shared.now();
                let flow = joint
                    .admit(now, from, length)
                    .map_err(Failed::Refused)
                    .and_then(|pledge| {
                        flow_of(&shared, &joint, &mut table, now, pledge, length, registrar, &answers)
                    });
                match flow {
                    Ok(socket) if socket.send(datagram).await.is_ok() => {
                        shared.counters.up(Way::Stateful);
                    }
                    Ok(_) => shared.counters.lost("proxy.registrar-away"),
                    Err(Failed::Refused(refusal)) => shared.counters.refused(refusal),
                    Err(Failed::Socket(error)) => {
                        tracing::warn!(code = error_code(&error), %error, "a pledge gets no port");
                        shared.counters.lost(error_code(&error));
                    }
                }
            }
            Some((id, datagram)) = waiting.recv() => {
                let datagram: Vec<u8> = datagram;
                match table.from_registrar(shared.now(), id, datagram.len()) {
                    Some(Ok(flow)) => {
                        let pledge = flow.pledge;
                        joint.give(&shared, Way::Stateful, pledge, &datagram).await;
                    }
                    Some(Err(refusal)) => shared.counters.refused(refusal),
                    None => {}
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                drop(table.advance(shared.now()));
            }
        }
    }
}

enum Failed {
    Refused(Refusal),
    Socket(Error),
}

fn error_code(error: &Error) -> &'static str {
    pki::Coded::code(error)
}

// JPX-008: Each pledge (IP_P:p_P) gets its own routable source IP:port towards the registrar.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one join port's loop, borrowed separately"
)]
fn flow_of(
    shared: &Arc<Shared>,
    joint: &Joint,
    table: &mut Table<FlowSocket>,
    now: Moment,
    pledge: Pledge,
    length: usize,
    registrar: SocketAddr,
    answers: &mpsc::Sender<(FlowId, Vec<u8>)>,
) -> Result<Arc<UdpSocket>, Failed> {
    if let Some(flow) = table.from_pledge(now, &pledge, length) {
        return Ok(Arc::clone(&flow.value.socket));
    }
    let link = joint.link.number;
    drop(
        table
            .make_room(now, link, &pledge)
            .map_err(Failed::Refused)?,
    );
    let socket = towards(registrar, shared.config.registrar.source).map_err(Failed::Socket)?;
    let socket = Arc::new(socket);
    table.begin(now, link, pledge, length, |id| {
        shared.counters.open(Way::Stateful, 1);
        FlowSocket {
            socket: Arc::clone(&socket),
            reader: tokio::spawn(read(
                Arc::clone(shared),
                Arc::clone(&socket),
                id,
                answers.clone(),
            )),
            shared: Arc::clone(shared),
        }
    });
    Ok(socket)
}

async fn read(
    shared: Arc<Shared>,
    socket: Arc<UdpSocket>,
    id: FlowId,
    answers: mpsc::Sender<(FlowId, Vec<u8>)>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                if answers.send((id, datagram)).await.is_err() {
                    return;
                }
            }
            Err(_) => {
                shared.counters.lost("proxy.registrar-away");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
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
