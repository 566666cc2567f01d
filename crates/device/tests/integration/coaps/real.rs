//! The device over real sockets, with DTLS.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ::coap::Request;
use device::{
    brski::Event,
    cli::summary,
    coaps::{Config, run},
};
use net::{
    CancellationToken,
    coap::{CoapListener, CoapPeer, CoapServer, serve},
    dtls::ServerConfig,
};
use testkit::{Impairment, LossyRelay};
use tokio::{net::UdpSocket, task::JoinHandle};

use super::fake::{Fake, handle};

/// A record of 512 bytes with its header and its authentication.
const SMALL_DATAGRAM_MAX: usize = 512 + 13 + 8 + 8;
/// Blocks of 256 bytes, as exponent.
const SMALL_BLOCK: u8 = 4;

struct Server {
    server: CoapServer,
    shutdown: CancellationToken,
    largest_block: Arc<AtomicUsize>,
}

impl Server {
    async fn start(fake: &Fake) -> Self {
        let identity = fake.with(|shared| shared.sim.registrars[0].identity.clone());
        let listen = "127.0.0.1:0".parse().unwrap();
        let listener = CoapListener::new(listen, ServerConfig::new(vec![identity]));
        let largest_block = Arc::new(AtomicUsize::new(0));
        let (shared, largest) = (Arc::clone(&fake.shared), Arc::clone(&largest_block));
        let handler = move |peer: Arc<CoapPeer>, request: Request| {
            let exponent = request.block_exponent.map_or(0, usize::from);
            largest.fetch_max(exponent, Ordering::Relaxed);
            let mut shared = shared.lock().unwrap();
            let response = handle(&mut shared.sim, peer.chain(), &request);
            async move { response }
        };
        let shutdown = CancellationToken::new();
        let server = serve(listener, Arc::new(handler), shutdown.clone())
            .await
            .unwrap();
        Self {
            server,
            shutdown,
            largest_block,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Passes datagrams on and keeps the size of the largest, each way.
struct Scales {
    address: SocketAddr,
    up: Arc<AtomicUsize>,
    down: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scales {
    async fn start(to: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let (up, down) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (largest_up, largest_down) = (Arc::clone(&up), Arc::clone(&down));
        let task = tokio::spawn(async move {
            let mut client: Option<(SocketAddr, UdpSocket)> = None;
            let (mut from_client, mut from_server) = (vec![0; 65_535], vec![0; 65_535]);
            loop {
                let back = client.as_ref();
                tokio::select! {
                    received = front.recv_from(&mut from_client) => {
                        let (length, from) = received.unwrap();
                        largest_up.fetch_max(length, Ordering::Relaxed);
                        if client.as_ref().is_none_or(|(known, _)| *known != from) {
                            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                            socket.connect(to).await.unwrap();
                            client = Some((from, socket));
                        }
                        let (_, socket) = client.as_ref().unwrap();
                        socket.send(&from_client[..length]).await.unwrap();
                    }
                    received = async {
                        match back {
                            Some((_, socket)) => socket.recv(&mut from_server).await,
                            None => std::future::pending().await,
                        }
                    } => {
                        let length = received.unwrap();
                        largest_down.fetch_max(length, Ordering::Relaxed);
                        let (to, _) = client.as_ref().unwrap();
                        front.send_to(&from_server[..length], to).await.unwrap();
                    }
                }
            }
        });
        Self {
            address,
            up,
            down,
            task,
        }
    }
}

impl Drop for Scales {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const SHORT: &str = "connect, rv 204, vs 204, key, sen 204, connect, es 204";

async fn enrol(config: &Config) -> String {
    let outcome = run(config, &mut |_: &Event| {}).await.unwrap();
    assert!(outcome.is_enrolled(), "{outcome:?}");
    summary(&outcome.steps)
}

/// The registrar's certificate bears none of the names by which it is reached.
///
/// Requirements: CBR-010, CBR-020, CBR-021, CBR-031, ESC-004, ESC-037
#[tokio::test]
async fn a_device_enrols_and_one_with_little_memory_stays_within_its_bounds() {
    let fake = Fake::new();
    fake.with(|shared| shared.sim.masa.register("SN-2"));
    let server = Server::start(&fake).await;
    for (serial, small) in [("SN-1", false), ("SN-2", true)] {
        let scales = Scales::start(server.address()).await;
        let idevid = fake.manufacturer.device(serial);
        let mut config = fake.config(&idevid);
        config.small = small;
        config.device.address = Some(scales.address);
        assert_eq!(enrol(&config).await, SHORT);
        let names = fake.with(|shared| shared.sim.registrars[0].identity.chain[0].dns_names());
        assert_eq!(names, ["registrar.example"]);
        let (up, down) = (
            scales.up.load(Ordering::Relaxed),
            scales.down.load(Ordering::Relaxed),
        );
        let limit = if small { SMALL_DATAGRAM_MAX } else { 1200 };
        assert!(
            up <= limit && down <= limit,
            "{small}: {up} up, {down} down"
        );
    }
    let largest = server.largest_block.load(Ordering::Relaxed);
    assert!(largest <= usize::from(SMALL_BLOCK), "{largest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_link_costs_time_only() {
    let mut runs = Vec::new();
    // One with much memory and one with little.
    for seed in [1, 2] {
        runs.push(async move {
            let fake = Fake::new();
            let server = Server::start(&fake).await;
            let relay = LossyRelay::start(server.address(), Impairment::lossy(seed, 0.2))
                .await
                .unwrap();
            let idevid = fake.manufacturer.device("SN-1");
            let mut config = fake.config(&idevid);
            config.small = seed % 2 == 0;
            config.device.address = Some(relay.address());
            let outcome = run(&config, &mut |_: &Event| {}).await.unwrap();
            assert!(outcome.is_enrolled(), "seed {seed}: {outcome:?}");
            let steps = summary(&outcome.steps);
            assert!(steps.ends_with("es 204"), "{steps}");
            let granted = fake.with(|shared| {
                let log = shared.sim.masa.log.iter();
                log.filter(|entry| *entry == "granted").count()
            });
            assert_eq!(granted, 1, "seed {seed}");
        });
    }
    futures::future::join_all(runs).await;
}
