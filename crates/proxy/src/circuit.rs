//! The circuit proxy: TCP connections of pledges, relayed to a registrar.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::server::{LinkState, Shared};
use crate::{Error, Way};

/// Bytes that wait for their turn in one direction of a connection.
const BUFFER: usize = 16 * 1024;
/// How long the listener rests after an error, as when there are too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A port at which pledges connect.
pub(crate) struct Circuit {
    link: Arc<LinkState>,
    listener: TcpListener,
}

impl Circuit {
    pub(crate) async fn bind(link: Arc<LinkState>, port: u16) -> Result<Self, Error> {
        let address = link.link.at(port);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Bind { address, source })?;
        Ok(Self { link, listener })
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Relays to a registrar until it is dropped; its connections end with it.
    pub(crate) async fn serve(self, shared: Arc<Shared>, registrar: SocketAddr) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let Ok((stream, from)) = accepted else {
                        tokio::time::sleep(ERROR_PAUSE).await;
                        continue;
                    };
                    let entered = self
                        .link
                        .check(from.ip())
                        .and_then(|()| self.link.enter(from.ip()));
                    match entered {
                        Ok(place) => {
                            let shared = Arc::clone(&shared);
                            connections.spawn(async move {
                                connection(&shared, stream, registrar).await;
                                drop(place);
                            });
                        }
                        // The connection is closed without a word.
                        Err(refusal) => shared.counters.refused(refusal),
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(shared: &Shared, pledge: TcpStream, registrar: SocketAddr) {
    let limits = &shared.config.limits;
    let wait = Duration::from_secs(limits.connect_seconds.max(1));
    let connecting = connect(registrar, shared.config.registrar.source);
    let Ok(Ok(registrar)) = tokio::time::timeout(wait, connecting).await else {
        shared.counters.lost("proxy.registrar-away");
        return;
    };
    let _open = Open::new(shared);
    shared.counters.up(Way::Circuit);
    let _ = (pledge.set_nodelay(true), registrar.set_nodelay(true));
    let (from_pledge, to_pledge) = pledge.into_split();
    let (from_registrar, to_registrar) = registrar.into_split();
    let activity = AtomicU64::new(0);
    let start = tokio::time::Instant::now();
    let both = async {
        tokio::join!(
            pump(from_pledge, to_registrar, &activity, start),
            pump(from_registrar, to_pledge, &activity, start),
        )
    };
    let idle = Duration::from_secs(limits.connection_idle_seconds.max(1));
    let whole = Duration::from_secs(limits.connection_seconds.max(1));
    tokio::select! {
        _ = both => {}
        () = silence(&activity, start, idle) => shared.counters.lost("proxy.idle"),
        () = tokio::time::sleep(whole) => shared.counters.lost("proxy.too-long"),
    }
}

/// A connection that is counted, also where its task is ended from outside.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.counters.open(Way::Circuit, 1);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.open(Way::Circuit, -1);
    }
}

async fn connect(
    registrar: SocketAddr,
    source: Option<std::net::IpAddr>,
) -> std::io::Result<TcpStream> {
    let socket = match registrar {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(registrar).await
}

/// One direction, to its end; then the other side is told that nothing follows.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    activity: &AtomicU64,
    start: tokio::time::Instant,
) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        if defects::seeded!("join-proxy-knows-tls") && matches!(bytes.get(9), Some(4..)) {
            break;
        }
        if to.write_all(bytes).await.is_err() {
            break;
        }
        let now = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        activity.store(now, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

/// Comes when nothing went in either direction for so long.
async fn silence(activity: &AtomicU64, start: tokio::time::Instant, idle: Duration) {
    loop {
        let last = start + Duration::from_millis(activity.load(Ordering::Relaxed));
        let until = last + idle;
        if until <= tokio::time::Instant::now() {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}
