//! A forwarder that counts what goes over a TCP connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::pledges::Traffic;

/// Bytes that are passed on at once.
const PIECE: usize = 16 * 1024;

#[derive(Default)]
struct Counters {
    up: AtomicU64,
    up_bytes: AtomicU64,
    down: AtomicU64,
    down_bytes: AtomicU64,
    turns: AtomicU64,
    answered: AtomicBool,
}

/// Stands between a client and a server. Ends when dropped.
pub struct Forward {
    address: SocketAddr,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Forward {
    /// Starts it.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        counters.answered.store(true, Ordering::Relaxed);
        let shared = Arc::clone(&counters);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counters = Arc::clone(&shared);
                // The opening of the connection is a round trip of its own.
                counters.turns.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    // When one side breaks off, so does the other.
                    let _ = pass(client, to, &counters).await;
                });
            }
        });
        Ok(Self {
            address,
            counters,
            task,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            up: now(&self.counters.up),
            up_bytes: now(&self.counters.up_bytes),
            down: now(&self.counters.down),
            down_bytes: now(&self.counters.down_bytes),
            turns: now(&self.counters.turns),
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, to: SocketAddr, counters: &Counters) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return to_server.shutdown().await;
            }
            if counters.answered.swap(false, Ordering::Relaxed) {
                counters.turns.fetch_add(1, Ordering::Relaxed);
            }
            counters.up.fetch_add(1, Ordering::Relaxed);
            let bytes = u64::try_from(length).unwrap_or_default();
            counters.up_bytes.fetch_add(bytes, Ordering::Relaxed);
            to_server
                .write_all(buffer.get(..length).unwrap_or_default())
                .await?;
        }
    };
    let down = async {
        let mut buffer = vec![0; PIECE];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return to_client.shutdown().await;
            }
            counters.answered.store(true, Ordering::Relaxed);
            counters.down.fetch_add(1, Ordering::Relaxed);
            let bytes = u64::try_from(length).unwrap_or_default();
            counters.down_bytes.fetch_add(bytes, Ordering::Relaxed);
            to_client
                .write_all(buffer.get(..length).unwrap_or_default())
                .await?;
        }
    };
    tokio::try_join!(up, down).map(|_: ((), ())| ())
}
