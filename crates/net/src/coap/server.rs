//! The listener: sockets, each with a task that owns its peers.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use ::coap::{Code, Endpoint, Moment, Response, Via};
use futures::FutureExt;
use pki::Identity;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::counters::Counters;
use super::origins::Origins;
use super::peer::{Name, on_stack_of};
use super::shard::{Asked, Shard, Shared, Speech, Ticket};
use super::socket::Stack;
use super::{CoapListener, CoapStatistics, Handler, OpenConfig, socket};
use crate::Error;
use crate::dtls::{Front, ServerConfig};

/// Datagrams that are read before some are handled.
const READ_AT_ONCE: usize = 64;
/// Handshakes that are begun before others get their turns.
const BEGIN_AT_ONCE: usize = 4;
/// Datagrams that are handled before more are read.
const WORK_AT_ONCE: usize = 8;
/// Seconds after which to come back when an answer took too long.
const RETRY_AFTER: u32 = 30;

/// A listener that is up.
pub struct CoapServer {
    addresses: Vec<SocketAddr>,
    jpy_address: Option<SocketAddr>,
    open_addresses: Vec<SocketAddr>,
    fronts: Vec<Front>,
    shared: Arc<Shared>,
    tracker: TaskTracker,
}

impl std::fmt::Debug for CoapServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoapServer")
            .field("addresses", &self.addresses)
            .field("jpy_address", &self.jpy_address)
            .field("open_addresses", &self.open_addresses)
            .finish_non_exhaustive()
    }
}

impl CoapServer {
    /// The addresses for CoAP over DTLS, with their real ports, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address for stateless join proxies.
    #[must_use]
    pub fn jpy_address(&self) -> Option<SocketAddr> {
        self.jpy_address
    }

    /// The addresses in the clear.
    #[must_use]
    pub fn open_addresses(&self) -> &[SocketAddr] {
        &self.open_addresses
    }

    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> CoapStatistics {
        self.shared.counters.statistics()
    }

    /// Gives the same as [`Self::statistics`], and goes with whoever writes metrics.
    #[must_use]
    pub fn meter(&self) -> CoapMeter {
        CoapMeter(Arc::clone(&self.shared))
    }

    /// Replaces the certificates, and goes with whoever reads them again.
    #[must_use]
    pub fn identities(&self) -> CoapIdentities {
        CoapIdentities(self.fronts.clone())
    }

    /// Waits until the listener has stopped: `shutdown` was cancelled, and what was under way was
    /// answered or its time was up.
    pub async fn stopped(self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The certificates of a listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CoapIdentities(Vec<Front>);

impl CoapIdentities {
    /// Shows these from the next handshake on.
    ///
    /// # Errors
    /// An identity that cannot be used; then everything stays as it was.
    pub fn replace(&self, identities: &[Identity]) -> Result<(), Error> {
        for front in &self.0 {
            front.replace(identities)?;
        }
        Ok(())
    }
}

/// Reads the counters of a listener.
#[derive(Clone)]
pub struct CoapMeter(Arc<Shared>);

impl std::fmt::Debug for CoapMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CoapMeter")
    }
}

impl CoapMeter {
    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> CoapStatistics {
        self.0.counters.statistics()
    }
}

/// Starts a listener. It is bound when this returns; cancelling `shutdown` stops it gracefully.
///
/// # Errors
/// [`Error::Bind`] when an address cannot be had, [`Error::Name`] when an interface does not
/// exist, [`Error::Identity`] when an identity cannot be used.
pub async fn serve(
    config: CoapListener,
    handler: Arc<dyn Handler>,
    shutdown: CancellationToken,
) -> Result<CoapServer, Error> {
    let sockets = config.sockets.max(1);
    let mut lines = Vec::new();
    let mut server = CoapServer {
        addresses: Vec::new(),
        jpy_address: None,
        open_addresses: Vec::new(),
        fronts: Vec::new(),
        shared: Arc::new(Shared {
            limits: config.limits,
            counters: Counters::default(),
            origins: Origins::default(),
        }),
        tracker: TaskTracker::new(),
    };
    if !config.listen.is_empty() {
        let front = front(config.dtls.as_ref(), 0)?;
        server.fronts.push(front.clone());
        for address in &config.listen {
            let bound = socket::bind(*address, sockets, Stack::of(&config.listen))?;
            server.addresses.push(local(&bound, *address)?);
            lines.extend(bound.into_iter().map(|socket| Line {
                socket,
                speech: Speech::Secured(front.clone()),
                group: None,
            }));
        }
    }
    if let Some(address) = config.jpy_listen {
        // JPX-027: Block size and DTLS flight sizes leave room for 38 bytes JPY overhead within
        // 1280-byte IPv6 MTU (UDP payload + 38 < MTU).
        let front = front(config.dtls.as_ref(), ::coap::jpy::OVERHEAD)?;
        server.fronts.push(front.clone());
        let bound = socket::bind(address, sockets, Stack::Both)?;
        server.jpy_address = Some(local(&bound, address)?);
        lines.extend(bound.into_iter().map(|socket| Line {
            socket,
            speech: Speech::Proxied(front.clone()),
            group: None,
        }));
    }
    if let Some(open) = &config.open {
        server.open_addresses = open_lines(open, &mut lines)?;
    }
    let mut coap = config.coap;
    // Each of them may hold its share.
    coap.held_max = server.shared.limits.bodies_bytes_max / lines.len().max(1);
    let start = Instant::now();
    for line in lines {
        let address = line.socket.local_addr().map_err(|source| Error::Bind {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            source,
        })?;
        let endpoint = Endpoint::<Name>::new(coap.clone(), rand::random::<u64>);
        let shard = Shard::new(Arc::clone(&server.shared), line.speech, address, endpoint);
        let task = Task {
            socket: line.socket,
            answers_from: line.group,
            shard,
            handler: Arc::clone(&handler),
            shared: Arc::clone(&server.shared),
            tracker: server.tracker.clone(),
            ended: CancellationToken::new(),
            start,
        };
        server.tracker.spawn(task.run(shutdown.clone()));
    }
    Ok(server)
}

/// A socket and how it is spoken to.
struct Line {
    socket: UdpSocket,
    speech: Speech,
    /// For a multicast group: the socket that answers go out from.
    group: Option<UdpSocket>,
}

fn front(config: Option<&ServerConfig>, overhead: usize) -> Result<Front, Error> {
    let Some(config) = config else {
        return Err(Error::Identity(
            "CoAP over DTLS needs an identity".to_owned(),
        ));
    };
    let mut config = config.clone();
    config.mtu = config.mtu.saturating_sub(overhead);
    Ok(Front::new(config, rand::random())?)
}

fn local(sockets: &[UdpSocket], address: SocketAddr) -> Result<SocketAddr, Error> {
    let first = sockets.first().map(UdpSocket::local_addr);
    match first {
        Some(Ok(local)) => Ok(local),
        Some(Err(source)) => Err(Error::Bind { address, source }),
        None => Ok(address),
    }
}

fn open_lines(open: &OpenConfig, lines: &mut Vec<Line>) -> Result<Vec<SocketAddr>, Error> {
    let mut bound = Vec::new();
    let mut unicast = Vec::new();
    for address in &open.listen {
        let socket = socket::bind_open(*address, Stack::of(&open.listen))?;
        bound.push(socket.local_addr().map_err(|source| Error::Bind {
            address: *address,
            source,
        })?);
        unicast.push(socket);
    }
    for group in &open.multicast {
        let same_kind = |address: &SocketAddr| address.is_ipv4() == group.is_ipv4();
        let Some(at) = bound.iter().position(same_kind) else {
            let source = std::io::Error::other("no address in the clear to answer from");
            return Err(Error::Bind {
                address: SocketAddr::new(*group, super::COAP_PORT),
                source,
            });
        };
        let port = bound.get(at).map_or(super::COAP_PORT, SocketAddr::port);
        let names: Vec<Option<&str>> = if open.interfaces.is_empty() {
            vec![None]
        } else {
            open.interfaces
                .iter()
                .map(|name| Some(name.as_str()))
                .collect()
        };
        for name in names {
            let socket = socket::bind_group(*group, port, name)?;
            let answers = unicast.get(at).map(clone_socket).transpose();
            let group = answers.map_err(|source| Error::Bind {
                address: SocketAddr::new(*group, port),
                source,
            })?;
            lines.push(Line {
                socket,
                speech: Speech::Open,
                group,
            });
        }
    }
    lines.extend(unicast.into_iter().map(|socket| Line {
        socket,
        speech: Speech::Open,
        group: None,
    }));
    Ok(bound)
}

/// Another handle of the same socket.
fn clone_socket(socket: &UdpSocket) -> std::io::Result<UdpSocket> {
    let clone = socket2::SockRef::from(socket).try_clone()?;
    UdpSocket::from_std(clone.into())
}

/// One socket with its peers.
struct Task {
    socket: UdpSocket,
    answers_from: Option<UdpSocket>,
    shard: Shard,
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    /// Nobody takes answers any more.
    ended: CancellationToken,
    start: Instant,
}

type Answer = (Ticket, Response);

impl Task {
    async fn run(mut self, shutdown: CancellationToken) {
        // Answers cannot pile up: requests in progress have a limit.
        let (answer, mut answers) = mpsc::unbounded_channel::<Answer>();
        let mut buffer = vec![0; socket::DATAGRAM_MAX];
        let mut draining: Option<Moment> = None;
        // A socket does not know that it can be written to before it was asked once; what goes
        // wrong with it shows when it is used.
        for socket in [Some(&self.socket), self.answers_from.as_ref()]
            .into_iter()
            .flatten()
        {
            let _ = socket.writable().await;
        }
        loop {
            let now = self.start.elapsed();
            let more = self.read(now, &mut buffer);
            self.shard.work(now, WORK_AT_ONCE);
            while let Ok((ticket, response)) = answers.try_recv() {
                self.shard.answer(now, ticket, response);
            }
            self.shard.advance(now);
            while let Some(asked) = self.shard.asked() {
                self.ask(asked, answer.clone());
            }
            self.write();
            if let Some(until) = draining
                && (now >= until || !self.shard.is_answering())
            {
                self.shard.close(now);
                self.write();
                self.ended.cancel();
                return;
            }
            if more || self.shard.has_work() {
                tokio::task::yield_now().await;
                continue;
            }
            let next = [self.shard.deadline(), draining]
                .into_iter()
                .flatten()
                .min();
            let timer = async {
                match next {
                    Some(next) => tokio::time::sleep_until(self.start + next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.socket.readable() => {}
                () = timer => {}
                Some((ticket, response)) = answers.recv() => {
                    self.shard.answer(self.start.elapsed(), ticket, response);
                }
                () = shutdown.cancelled(), if draining.is_none() => {
                    draining = Some(self.start.elapsed() + self.shared.limits.drain_time_max);
                }
            }
        }
    }

    /// Whether there may be more to read.
    fn read(&mut self, now: Moment, buffer: &mut [u8]) -> bool {
        let via = if self.answers_from.is_some() {
            Via::Multicast
        } else {
            Via::Open
        };
        let mut begun = 0;
        for _ in 0..READ_AT_ONCE {
            match self.socket.try_recv_from(buffer) {
                Ok((length, from)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    begun += usize::from(self.shard.receive(now, from, via, datagram));
                    if begun >= BEGIN_AT_ONCE {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                // What an earlier datagram met on its way; the next one may do better.
                Err(error) => debug!(%error, "a UDP socket could not be read"),
            }
        }
        true
    }

    fn write(&mut self) {
        let socket = self.answers_from.as_ref().unwrap_or(&self.socket);
        let ipv6 = self.shard.local().is_ipv6();
        while let Some((to, datagram)) = self.shard.transmit() {
            let to = on_stack_of(ipv6, to);
            if let Err(error) = socket.try_send_to(&datagram, to) {
                // As if it were lost on its way, which the protocols above expect.
                Counters::add(&self.shared.counters.datagrams_unsent);
                debug!(%error, %to, "a datagram was not sent");
            }
        }
    }

    fn ask(&self, asked: Asked, answer: mpsc::UnboundedSender<Answer>) {
        let handler = Arc::clone(&self.handler);
        let shared = Arc::clone(&self.shared);
        let ended = self.ended.clone();
        self.tracker.spawn(async move {
            let Asked {
                peer,
                ticket,
                request,
            } = asked;
            let work = async move { handler.handle(peer, request).await };
            let work = AssertUnwindSafe(work).catch_unwind();
            let work = tokio::time::timeout(shared.limits.request_time_max, work);
            let Some(result) = ended.run_until_cancelled(work).await else {
                return;
            };
            let response = match result {
                Ok(Ok(response)) => response,
                Ok(Err(_)) => {
                    Counters::add(&shared.counters.panics);
                    error!(code = "net.panic", "a CoAP handler panicked");
                    Response::new(Code::INTERNAL_SERVER_ERROR)
                }
                Err(_) => {
                    Counters::add(&shared.counters.requests_late);
                    Response {
                        max_age: Some(RETRY_AFTER),
                        ..Response::diagnostic(
                            Code::SERVICE_UNAVAILABLE,
                            "the answer took too long",
                        )
                    }
                }
            };
            // The socket's task is gone only when all of this has stopped.
            let _ = answer.send((ticket, response));
        });
    }
}

/// Addresses at which CoAP is spoken to all nodes of a link, of a realm, and of a site.
pub const ALL_COAP_NODES: [IpAddr; 3] = [
    IpAddr::V6(std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfd)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xff03, 0, 0, 0, 0, 0, 0, 0xfd)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xfd)),
];
