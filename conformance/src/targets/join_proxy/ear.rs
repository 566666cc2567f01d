//! The suite as the registrar: one UDP port, at which each case hears what its own pledge said.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

/// Octets by which a case knows its own datagrams.
pub(super) const MARK_LENGTH: usize = 8;
/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_535;

/// What marks the datagrams of a pledge.
pub(super) type Mark = [u8; MARK_LENGTH];

/// A datagram that came.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// Which port of the suite it came to.
    pub(super) side: Side,
    /// Where from.
    pub(super) from: SocketAddr,
    /// It.
    pub(super) datagram: Vec<u8>,
}

/// A port of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The one for JPY.
    Jpy,
    /// The one for CoAP over DTLS.
    Coaps,
}

/// Who waits for what.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<HashMap<Mark, mpsc::UnboundedSender<Arrival>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<Mark, mpsc::UnboundedSender<Arrival>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything with this mark from now on.
    pub(super) fn wait_for(&self, mark: Mark) -> mpsc::UnboundedReceiver<Arrival> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().insert(mark, sender);
        receiver
    }

    fn tell(&self, arrival: Arrival) {
        let waiting = self.lock();
        let found = arrival
            .datagram
            .windows(MARK_LENGTH)
            .find_map(|part| waiting.get(part));
        if let Some(sender) = found {
            // The case may be over.
            let _ = sender.send(arrival);
        }
    }
}

/// One port, which can be closed and opened again.
pub(super) struct Ear {
    side: Side,
    address: SocketAddr,
    waiting: Waiting,
    open: Mutex<Option<(Arc<UdpSocket>, JoinHandle<()>)>>,
}

impl Ear {
    /// Opens a port.
    pub(super) fn open(side: Side, address: &str, waiting: &Waiting) -> Result<Self> {
        let address: SocketAddr = address
            .parse()
            .with_context(|| format!("{address} is no address with a port"))?;
        let mut ear = Self {
            side,
            address,
            waiting: waiting.clone(),
            open: Mutex::new(None),
        };
        ear.address = ear.reopen()?;
        Ok(ear)
    }

    fn place(&self) -> MutexGuard<'_, Option<(Arc<UdpSocket>, JoinHandle<()>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the port again.
    pub(super) fn reopen(&self) -> Result<SocketAddr> {
        let socket = std::net::UdpSocket::bind(self.address)
            .with_context(|| format!("the suite cannot listen at {}", self.address))?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let address = socket.local_addr()?;
        let (listening, waiting, side) = (Arc::clone(&socket), self.waiting.clone(), self.side);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_MAX];
            loop {
                // An error here is that of an answer that did not arrive.
                if let Ok((length, from)) = listening.recv_from(&mut buffer).await {
                    let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                    waiting.tell(Arrival {
                        side,
                        from,
                        datagram,
                    });
                }
            }
        });
        *self.place() = Some((socket, task));
        Ok(address)
    }

    /// Closes the port for a while.
    pub(super) async fn close(&self) {
        let open = self.place().take();
        if let Some((socket, task)) = open {
            task.abort();
            // It ends by being aborted; then nobody has the socket any more.
            let _ = task.await;
            drop(socket);
        }
    }

    /// Answers somebody.
    pub(super) async fn send(&self, datagram: &[u8], to: SocketAddr) -> std::io::Result<()> {
        let socket = self.place().as_ref().map(|(socket, _)| Arc::clone(socket));
        match socket {
            Some(socket) => socket.send_to(datagram, to).await.map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if let Some((_, task)) = self.place().take() {
            task.abort();
        }
    }
}
