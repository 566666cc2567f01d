//! The suite as a device on the link.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    JoinProxy,
    ear::{Arrival, Mark, Side},
};
use crate::{
    evidence::Recorder,
    outcome::{Finding, OrCouldNotTest as _, Told},
};

/// How often a pledge says something again that nobody heard.
const REPEAT: Duration = Duration::from_secs(2);
/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_535;

/// A device on the link.
pub(super) struct Pledge<'a> {
    kit: &'a JoinProxy,
    record: &'a Recorder,
    socket: UdpSocket,
    /// Its address and port.
    pub(super) own: SocketAddr,
    /// What marks its datagrams.
    pub(super) mark: Mark,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

impl<'a> Pledge<'a> {
    /// One that speaks to a join port, at one of the suite's addresses.
    pub(super) async fn new(
        kit: &'a JoinProxy,
        record: &'a Recorder,
        port: SocketAddr,
        source: usize,
    ) -> Result<Self, Finding> {
        let own = match (kit.sources.get(source), port) {
            (Some(IpAddr::V6(address)), SocketAddr::V6(port)) => {
                let is_of_link = address.segments()[0] & 0xffc0 == 0xfe80;
                let scope = if is_of_link { port.scope_id() } else { 0 };
                SocketAddr::V6(SocketAddrV6::new(*address, 0, 0, scope))
            }
            (Some(IpAddr::V4(address)), SocketAddr::V4(_)) => SocketAddr::from((*address, 0)),
            (_, SocketAddr::V6(_)) => SocketAddr::from(([0_u16; 8], 0)),
            (_, SocketAddr::V4(_)) => SocketAddr::from(([0_u8; 4], 0)),
        };
        let socket = UdpSocket::bind(own)
            .await
            .or_could_not_test(&format!("a pledge at {own}"))?;
        socket
            .connect(port)
            .await
            .or_could_not_test(&format!("a way to {port}"))?;
        let own = socket.local_addr().or_could_not_test("a socket")?;
        let number = kit.next_mark.fetch_add(1, Ordering::Relaxed);
        let mark = (record.seed.rotate_left(17) ^ (number << 1 | 1)).to_be_bytes();
        Ok(Self {
            arrivals: kit.waiting.wait_for(mark),
            kit,
            record,
            socket,
            own,
            mark,
        })
    }

    /// Something to say, of this length: a DTLS record as far as one can see, with the mark in it.
    pub(super) fn content(&self, length: usize) -> Vec<u8> {
        let mut octets = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
        let body = length.saturating_sub(13).max(self.mark.len());
        octets.extend(u16::try_from(body).unwrap_or(u16::MAX).to_be_bytes());
        octets.extend(self.mark);
        let filler = (0_u8..=255).cycle();
        octets.extend(filler.take(length.saturating_sub(octets.len())));
        octets
    }

    /// Says something once.
    pub(super) async fn say(&self, octets: &[u8]) -> Told {
        let title = format!("pledge {} to the join port", self.own);
        self.record.sent(title, octets, "");
        self.socket
            .send(octets)
            .await
            .map(|_| ())
            .or_could_not_test("sending")
    }

    /// Says something until it arrives, as pledges do.
    pub(super) async fn ask(&mut self, octets: &[u8]) -> Result<Arrival, Finding> {
        let until = Instant::now() + self.kit.answer;
        loop {
            // A proxy may have told the pledge of an earlier datagram; that is no reason to stop.
            let _ = self.say(octets).await;
            let wait = (Instant::now() + REPEAT).min(until);
            if let Some(arrival) = self.arrived(wait).await {
                return Ok(arrival);
            }
            if Instant::now() >= until {
                return Err(Finding::fail(format!(
                    "what a pledge sent did not reach the registrar within {} s",
                    self.kit.answer.as_secs()
                )));
            }
        }
    }

    /// The next of its datagrams that arrives at the registrar.
    pub(super) async fn arrived(&mut self, until: Instant) -> Option<Arrival> {
        let arrival = timeout_at(until, self.arrivals.recv()).await.ok()??;
        let title = format!("at the registrar from {}", arrival.from);
        self.record.received(title, &arrival.datagram, "");
        Some(arrival)
    }

    /// What comes back within a time; an error is what ICMP said.
    pub(super) async fn hears(&self, wait: Duration) -> Option<std::io::Result<Vec<u8>>> {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let heard = timeout(wait, self.socket.recv(&mut buffer)).await.ok()?;
        Some(heard.map(|length| {
            buffer.truncate(length);
            let title = format!("pledge {} from the join port", self.own);
            self.record.received(title, &buffer, "");
            buffer
        }))
    }

    /// What comes back, which has to be these octets.
    pub(super) async fn must_hear(&self, octets: &[u8], what: &str) -> Told {
        match self.hears(self.kit.answer).await {
            Some(Ok(heard)) if heard == octets => Ok(()),
            Some(Ok(heard)) => Err(Finding::fail(format!(
                "{what}: the pledge got {} octets that are not the {} that the registrar sent",
                heard.len(),
                octets.len()
            ))),
            Some(Err(error)) => Err(Finding::fail(format!("{what}: the pledge got {error}"))),
            None => Err(Finding::fail(format!(
                "{what}: nothing came to the pledge within {} s",
                self.kit.answer.as_secs()
            ))),
        }
    }

    /// The registrar answers what arrived.
    pub(super) async fn answer(&self, octets: &[u8], to: &Arrival) -> Told {
        let title = format!("registrar to {}", to.from);
        self.record.sent(title, octets, "");
        let ear = match to.side {
            Side::Jpy => &self.kit.jpy,
            Side::Coaps => &self.kit.coaps,
        };
        ear.send(octets, to.from).await.or_could_not_test("sending")
    }
}
