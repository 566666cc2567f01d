//! Keeping count of connections, and watching that each of them makes progress.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Counters, Limits};

/// Counts connections, all together and by peer address.
pub(super) struct Gate {
    total_max: usize,
    per_address_max: usize,
    open: Mutex<Open>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Gate {
    pub(super) fn new(limits: &Limits, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            total_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            open: Mutex::default(),
            counters,
        })
    }

    /// A place for one more connection from this address, or `None` when a limit is reached.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let key = network_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&key).copied().unwrap_or(0);
        if open.total >= self.total_max || here >= self.per_address_max {
            Counters::add(&self.counters.connections_refused);
            return None;
        }
        open.total += 1;
        open.by_address.insert(key, here + 1);
        Counters::add(&self.counters.connections_accepted);
        Counters::add(&self.counters.connections_open);
        Some(Place {
            gate: Arc::clone(self),
            key,
        })
    }

    /// Whether more than half of all places are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
            > self.total_max / 2
    }
}

/// A counted connection; given back when dropped.
pub(super) struct Place {
    gate: Arc<Gate>,
    key: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate
            .counters
            .connections_open
            .fetch_sub(1, Ordering::Relaxed);
        let mut open = self
            .gate
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(count) = open.by_address.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_address.remove(&self.key);
            }
        }
    }
}

/// One IPv6 host has a whole /64 to call from, so that counts as one.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address @ IpAddr::V4(_) => address,
    }
}

/// What a connection is doing, shared by its socket and its requests.
pub(super) struct Activity(Mutex<State>);

struct State {
    in_progress: usize,
    idle_since: Instant,
    /// When the first byte of a request came whose header is not complete yet.
    header_since: Option<Instant>,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            in_progress: 0,
            idle_since: Instant::now(),
            header_since: None,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has begun; it ends when the value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        let mut state = self.lock();
        state.in_progress += 1;
        state.header_since = None;
        InProgress(Arc::clone(self))
    }

    fn bytes_came(&self) {
        let mut state = self.lock();
        if state.in_progress == 0 && state.header_since.is_none() {
            state.header_since = Some(Instant::now());
        }
    }

    /// Whether the connection is idle, or sending its header, for too long. With HTTP/2 bytes do
    /// not have to belong to a request, so only idleness counts.
    pub(super) fn is_overdue(&self, limits: &Limits, http1: bool) -> bool {
        let state = self.lock();
        if state.in_progress > 0 {
            return false;
        }
        let slow_header = state
            .header_since
            .is_some_and(|since| since.elapsed() >= limits.header_read_time_max);
        (http1 && slow_header) || state.idle_since.elapsed() >= limits.idle_time_max
    }
}

/// How often [`Activity::is_overdue`] is worth asking.
pub(super) fn watch_interval(limits: &Limits) -> Duration {
    let shortest = limits.header_read_time_max.min(limits.idle_time_max);
    (shortest / 4).clamp(Duration::from_millis(20), Duration::from_secs(5))
}

/// A request in progress.
pub(super) struct InProgress(Arc<Activity>);

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_progress = state.in_progress.saturating_sub(1);
        if state.in_progress == 0 {
            state.idle_since = Instant::now();
            state.header_since = None;
        }
    }
}

/// A socket that tells [`Activity`] about incoming bytes, and gives up on a peer that does not
/// take its answer.
pub(super) struct WatchedIo<T> {
    inner: T,
    activity: Arc<Activity>,
    stall_time_max: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> WatchedIo<T> {
    pub(super) fn new(inner: T, activity: Arc<Activity>, stall_time_max: Duration) -> Self {
        Self {
            inner,
            activity,
            stall_time_max,
            stalled: None,
        }
    }

    fn watch<R>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let limit = self.stall_time_max;
        let timer = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read",
        )))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WatchedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WatchedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.watch(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_peer() {
        let limits = Limits {
            connections_per_address_max: 1,
            connections_max: 2,
            ..Limits::default()
        };
        let counters = Arc::new(Counters::default());
        let gate = Gate::new(&limits, Arc::clone(&counters));
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let first = gate.enter(address("2001:db8::1")).expect("the first");
        assert!(gate.enter(address("2001:db8::2")).is_none(), "same /64");
        let _second = gate.enter(address("2001:db8:0:1::1")).expect("another /64");
        assert!(
            gate.enter(address("192.0.2.1")).is_none(),
            "all places taken"
        );
        drop(first);
        let mapped = gate
            .enter(address("::ffff:192.0.2.1"))
            .expect("a place was given back");
        drop(mapped);
        assert_eq!(counters.connections_refused.load(Ordering::Relaxed), 2);
        assert_eq!(counters.connections_open.load(Ordering::Relaxed), 1);
    }
}
