//! A link that loses, reorders and duplicates datagrams, the same way in every demo.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet};

use crate::demo::Failure;

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// Share of datagrams that arrive twice, and of those that are late.
const OTHERWISE: f64 = 0.1;
/// How much later than the others those are.
const DELAY: Duration = Duration::from_millis(30);

/// The link, between a device and this address.
pub(super) struct Relay {
    address: SocketAddr,
    counts: Arc<Counts>,
    // Ends with it.
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    all: AtomicU64,
    lost: AtomicU64,
    twice: AtomicU64,
    late: AtomicU64,
}

impl Relay {
    pub(super) async fn start(to: SocketAddr, loss: f64, seed: u64) -> Result<Self, Failure> {
        let front = Arc::new(socket().await?);
        let address = front.local_addr().map_err(ours)?;
        let counts = Arc::new(Counts::default());
        let mut task = JoinSet::new();
        task.spawn(run(front, to, loss, seed, Arc::clone(&counts)));
        Ok(Self {
            address,
            counts,
            _task: task,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened to the datagrams.
    pub(super) fn stop(self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "of {} datagrams {} were lost, {} came twice, {} late",
            count(&self.counts.all),
            count(&self.counts.lost),
            count(&self.counts.twice),
            count(&self.counts.late),
        )
    }
}

fn ours(error: std::io::Error) -> Failure {
    Failure::new("config.usage", &error)
}

async fn socket() -> Result<UdpSocket, Failure> {
    UdpSocket::bind("127.0.0.1:0").await.map_err(ours)
}

async fn run(front: Arc<UdpSocket>, to: SocketAddr, loss: f64, seed: u64, counts: Arc<Counts>) {
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut fates = Fates { loss, state: seed };
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((length, from)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let flow = match flows.get(&from) {
            Some(flow) => Arc::clone(flow),
            None => {
                let Ok(flow) = socket().await else { continue };
                if flow.connect(to).await.is_err() {
                    continue;
                }
                let flow = Arc::new(flow);
                flows.insert(from, Arc::clone(&flow));
                let fates = Fates {
                    loss,
                    state: seed.wrapping_add(u64::try_from(flows.len()).unwrap_or_default()),
                };
                let answers = (Arc::clone(&flow), Arc::clone(&front), from);
                back.spawn(return_way(answers, fates, Arc::clone(&counts)));
                flow
            }
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        for after in fates.decide(&counts) {
            deliver(after, Arc::clone(&flow), None, datagram.to_vec()).await;
        }
    }
}

async fn return_way(
    (flow, front, to): (Arc<UdpSocket>, Arc<UdpSocket>, SocketAddr),
    mut fates: Fates,
    counts: Arc<Counts>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok(length) = flow.recv(&mut buffer).await else {
            continue;
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        for after in fates.decide(&counts) {
            deliver(after, Arc::clone(&front), Some(to), datagram.to_vec()).await;
        }
    }
}

async fn deliver(
    after: Option<Duration>,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
    datagram: Vec<u8>,
) {
    let sending = async move {
        // A datagram that cannot be sent is lost like others.
        let _ = match to {
            Some(to) => socket.send_to(&datagram, to).await,
            None => socket.send(&datagram).await,
        };
    };
    match after {
        None => sending.await,
        Some(after) => {
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                sending.await;
            });
        }
    }
}

struct Fates {
    loss: f64,
    state: u64,
}

impl Fates {
    /// When a datagram arrives, once for each time it does.
    fn decide(&mut self, counts: &Counts) -> Vec<Option<Duration>> {
        let [lost, twice, late] = [(); 3].map(|()| self.fraction());
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&counts.all);
        if lost < self.loss {
            add(&counts.lost);
            return Vec::new();
        }
        let mut arrivals = vec![None];
        if late < OTHERWISE {
            add(&counts.late);
            arrivals = vec![Some(DELAY)];
        }
        if twice < OTHERWISE {
            add(&counts.twice);
            arrivals.push(None);
        }
        arrivals
    }

    /// The generator of Steele, Lea and Flood.
    fn fraction(&mut self) -> f64 {
        const BITS: u32 = 32;
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((z ^ (z >> 31)) >> BITS).unwrap_or_default();
        f64::from(high) / f64::from(u32::MAX)
    }
}
