//! A link that loses, duplicates, reorders and corrupts datagrams, the same way for the same seed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, JoinSet};

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// What a link does to datagrams. Each share is between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairment {
    /// What the numbers begin with; the same seed gives the same fates.
    pub seed: u64,
    /// Share of datagrams that are lost.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplicate: f64,
    /// Share of datagrams that are overtaken by later ones: they take `delay` longer.
    pub reorder: f64,
    /// Share of datagrams that arrive with one bit changed.
    pub corrupt: f64,
    /// Time that a datagram takes which is overtaken.
    pub delay: Duration,
}

impl Impairment {
    /// A link that does no harm.
    pub const NONE: Self = Self {
        seed: 0,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        corrupt: 0.0,
        delay: Duration::from_millis(20),
    };

    /// A link that loses this share, and duplicates and reorders a tenth each.
    #[must_use]
    pub fn lossy(seed: u64, loss: f64) -> Self {
        Self {
            seed,
            loss,
            duplicate: 0.1,
            reorder: 0.1,
            ..Self::NONE
        }
    }

    /// The fates of the datagrams of one direction of one flow.
    #[must_use]
    pub fn fates(&self, flow: u64) -> Fates {
        // Flows must not be alike, nor shifted copies of each other.
        let mut seeds = SplitMix(self.seed ^ SplitMix(flow.wrapping_add(1)).next());
        Fates {
            impairment: *self,
            numbers: SplitMix(seeds.next()),
        }
    }
}

/// Decides over one datagram after the other; without I/O, for simulated time too.
#[derive(Clone, Debug)]
pub struct Fates {
    impairment: Impairment,
    numbers: SplitMix,
}

impl Fates {
    /// What arrives of a datagram, and after which time; nothing if it is lost.
    pub fn decide(&mut self, datagram: &[u8]) -> Vec<(Duration, Vec<u8>)> {
        let Impairment {
            loss,
            duplicate,
            reorder,
            corrupt,
            delay,
            ..
        } = self.impairment;
        // Every number is drawn every time, so that one share does not change the others' fates.
        let [lost, twice, first_late, second_late, broken] =
            [(); 5].map(|()| self.numbers.fraction());
        let bit = self.numbers.next();
        if lost < loss {
            return Vec::new();
        }
        let mut datagram = datagram.to_vec();
        if broken < corrupt && !datagram.is_empty() {
            let bits = datagram.len() as u64 * 8;
            let at = bit % bits;
            let byte = usize::try_from(at / 8).unwrap_or_default();
            if let Some(byte) = datagram.get_mut(byte) {
                *byte ^= 1 << (at % 8);
            }
        }
        let after = |late: f64| {
            if late < reorder {
                delay
            } else {
                Duration::ZERO
            }
        };
        let mut arrivals = vec![(after(first_late), datagram.clone())];
        if twice < duplicate {
            arrivals.push((after(second_late), datagram));
        }
        arrivals
    }
}

/// The generator of Steele, Lea and Flood: small, and the same everywhere.
#[derive(Clone, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a f64 holds")]
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What a relay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStatistics {
    /// Datagrams from clients.
    pub from_clients: u64,
    /// Datagrams from the server.
    pub from_server: u64,
    /// Bytes from clients.
    pub bytes_from_clients: u64,
    /// Bytes from the server.
    pub bytes_from_server: u64,
    /// Datagrams that were lost, both directions together.
    pub lost: u64,
    /// Datagrams that arrived twice.
    pub duplicated: u64,
    /// Datagrams that took longer.
    pub delayed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    from_clients: AtomicU64,
    from_server: AtomicU64,
    bytes_from_clients: AtomicU64,
    bytes_from_server: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    delayed: AtomicU64,
}

/// A UDP relay with a bad link behind it. Each client address has its own address towards the
/// server. It stops when it is dropped.
#[derive(Debug)]
pub struct LossyRelay {
    address: SocketAddr,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl LossyRelay {
    /// Starts a relay to a server on loopback.
    ///
    /// # Errors
    /// No socket is to be had.
    pub async fn start(target: SocketAddr, impairment: Impairment) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(loopback(target)).await?);
        let address = socket.local_addr()?;
        let counters = Arc::new(Counters::default());
        let relay = Relay {
            socket,
            target,
            impairment,
            counters: Arc::clone(&counters),
        };
        let task = tokio::spawn(relay.run());
        Ok(Self {
            address,
            counters,
            task,
        })
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    #[must_use]
    pub fn statistics(&self) -> RelayStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        RelayStatistics {
            from_clients: read(&counters.from_clients),
            from_server: read(&counters.from_server),
            bytes_from_clients: read(&counters.bytes_from_clients),
            bytes_from_server: read(&counters.bytes_from_server),
            lost: read(&counters.lost),
            duplicated: read(&counters.duplicated),
            delayed: read(&counters.delayed),
        }
    }
}

impl Drop for LossyRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn loopback(like: SocketAddr) -> SocketAddr {
    if like.is_ipv4() {
        SocketAddr::from(([127, 0, 0, 1], 0))
    } else {
        SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0))
    }
}

struct Relay {
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    impairment: Impairment,
    counters: Arc<Counters>,
}

/// One client.
struct Flow {
    upstream: Arc<UdpSocket>,
    fates: Fates,
}

impl Relay {
    async fn run(self) {
        let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
        // Aborted together with this task.
        let mut tasks = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            // Errors are of datagrams that were sent earlier.
            let Ok((length, from)) = self.socket.recv_from(&mut buffer).await else {
                continue;
            };
            while tasks.try_join_next().is_some() {}
            let counters = &self.counters;
            add(&counters.from_clients, 1);
            add(&counters.bytes_from_clients, length as u64);
            if !flows.contains_key(&from) {
                let Ok(upstream) = self.upstream().await else {
                    continue;
                };
                let number = flows.len() as u64 * 2;
                tasks.spawn(downstream(
                    Arc::clone(&self.socket),
                    Arc::clone(&upstream),
                    from,
                    self.impairment.fates(number + 1),
                    Arc::clone(&self.counters),
                ));
                let fates = self.impairment.fates(number);
                flows.insert(from, Flow { upstream, fates });
            }
            let Some(flow) = flows.get_mut(&from) else {
                continue;
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            for (after, datagram) in judge(&mut flow.fates, datagram, counters) {
                let upstream = Arc::clone(&flow.upstream);
                deliver(&mut tasks, after, async move {
                    // A datagram that cannot be sent is lost.
                    let _ = upstream.send(&datagram).await;
                })
                .await;
            }
        }
    }

    async fn upstream(&self) -> io::Result<Arc<UdpSocket>> {
        let socket = UdpSocket::bind(loopback(self.target)).await?;
        socket.connect(self.target).await?;
        Ok(Arc::new(socket))
    }
}

async fn downstream(
    socket: Arc<UdpSocket>,
    upstream: Arc<UdpSocket>,
    client: SocketAddr,
    mut fates: Fates,
    counters: Arc<Counters>,
) {
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok(length) = upstream.recv(&mut buffer).await else {
            continue;
        };
        while tasks.try_join_next().is_some() {}
        add(&counters.from_server, 1);
        add(&counters.bytes_from_server, length as u64);
        let datagram = buffer.get(..length).unwrap_or_default();
        for (after, datagram) in judge(&mut fates, datagram, &counters) {
            let socket = Arc::clone(&socket);
            deliver(&mut tasks, after, async move {
                let _ = socket.send_to(&datagram, client).await;
            })
            .await;
        }
    }
}

/// At once or later.
async fn deliver(
    tasks: &mut JoinSet<()>,
    after: Duration,
    send: impl Future<Output = ()> + Send + 'static,
) {
    if after.is_zero() {
        send.await;
    } else {
        tasks.spawn(async move {
            tokio::time::sleep(after).await;
            send.await;
        });
    }
}

fn judge(fates: &mut Fates, datagram: &[u8], counters: &Counters) -> Vec<(Duration, Vec<u8>)> {
    let arrivals = fates.decide(datagram);
    match arrivals.len() {
        0 => add(&counters.lost, 1),
        1 => {}
        _ => add(&counters.duplicated, 1),
    }
    let late = arrivals.iter().filter(|(after, _)| !after.is_zero());
    add(&counters.delayed, late.count() as u64);
    arrivals
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_fates() {
        let link = Impairment {
            corrupt: 0.1,
            ..Impairment::lossy(7, 0.2)
        };
        let run = |link: Impairment, flow| {
            let mut fates = link.fates(flow);
            (0..1000_u32)
                .map(|number| fates.decide(&number.to_be_bytes()))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(link, 0), run(link, 0));
        assert_ne!(run(link, 0), run(link, 1));
        assert_ne!(run(link, 0), run(Impairment { seed: 8, ..link }, 0));
    }

    #[test]
    fn shares_are_what_they_say() {
        let link = Impairment {
            seed: 3,
            loss: 0.2,
            duplicate: 0.1,
            reorder: 0.05,
            corrupt: 0.3,
            delay: Duration::from_millis(1),
        };
        let mut fates = link.fates(0);
        let all: Vec<_> = (0..10_000).map(|_| fates.decide(&[0; 8])).collect();
        let share = |count: usize, of: usize, wanted: f64| {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let share = count as f64 / of as f64;
            assert!((share - wanted).abs() < 0.02, "{share} instead of {wanted}");
        };
        let arrived: Vec<_> = all.iter().filter(|arrivals| !arrivals.is_empty()).collect();
        share(all.len() - arrived.len(), all.len(), link.loss);
        let twice = arrived
            .iter()
            .filter(|arrivals| arrivals.len() == 2)
            .count();
        share(twice, arrived.len(), link.duplicate);
        let copies: Vec<_> = arrived
            .iter()
            .flat_map(|arrivals| arrivals.iter())
            .collect();
        let late = copies.iter().filter(|(after, _)| !after.is_zero()).count();
        share(late, copies.len(), link.reorder);
        let broken = copies
            .iter()
            .filter(|(_, datagram)| datagram.iter().any(|byte| *byte != 0))
            .count();
        share(broken, copies.len(), link.corrupt);
    }

    #[tokio::test]
    async fn a_relay_relays_both_ways() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let target = server.local_addr().expect("an address");
        let relay = LossyRelay::start(target, Impairment::NONE)
            .await
            .expect("a relay");
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        client.send_to(b"up", relay.address()).await.expect("sent");
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).await.expect("received");
        assert_eq!(&buffer[..length], b"up");
        server.send_to(b"down", from).await.expect("sent");
        let (length, from) = client.recv_from(&mut buffer).await.expect("received");
        assert_eq!(&buffer[..length], b"down");
        assert_eq!(from, relay.address());
        assert_eq!(relay.statistics().bytes_from_server, 4);
    }
}
