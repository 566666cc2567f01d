//! Pledges over CoAP and DTLS: the reference pledge itself, each on a socket with an address of its
//! own, over a link that may lose datagrams, and counted.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use coap::{Endpoint, Event, Request, Response, Via};
use device::Error;
use device::brski::Verdict;
use device::coaps::{Config, Peer, Transport, run_with};
use hdrhistogram::Histogram;
use net::dtls::{ClientConfig, Session, State, Version};
use pki::Identity;
use pki::path::Anchors;
use serde::Serialize;
use testkit::{Fates, Impairment};
use time::OffsetDateTime;
use tokio::net::UdpSocket;

use super::{Seen, histogram};

/// Longest datagram.
const DATAGRAM_MAX: usize = 2 * 1024;
/// The name of the one peer of an endpoint.
const SERVER: [u8; 1] = [0];
/// Hosts in a network of the third byte of an address.
const HOSTS: usize = 250;

/// What went over the wire, as the pledges saw it: lost datagrams of theirs included, those of the
/// server not.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Traffic {
    /// Datagrams, or pieces of a TCP stream, to the server.
    pub up: u64,
    /// Bytes in them.
    pub up_bytes: u64,
    /// Datagrams or pieces from the server.
    pub down: u64,
    /// Bytes in them.
    pub down_bytes: u64,
    /// Times that the direction changed from the server's to the client's: round trips.
    pub turns: u64,
}

/// Counts of all pledges together.
#[derive(Debug, Default)]
pub struct Counters {
    up: AtomicU64,
    up_bytes: AtomicU64,
    down: AtomicU64,
    down_bytes: AtomicU64,
    turns: AtomicU64,
    associations: AtomicU64,
}

impl Counters {
    /// Now.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            up: now(&self.up),
            up_bytes: now(&self.up_bytes),
            down: now(&self.down),
            down_bytes: now(&self.down_bytes),
            turns: now(&self.turns),
        }
    }
}

/// How a pledge differs from the usual one.
pub type Adjust = fn(&mut Config);

/// The pledges of a load.
#[derive(Clone)]
pub struct Pledges {
    /// Where the registrar speaks CoAP over DTLS.
    pub to: SocketAddr,
    /// Factory identities.
    pub devices: Arc<Vec<Identity>>,
    /// The certificate that signs vouchers.
    pub anchors: Anchors,
    /// What the link does.
    pub impairment: Impairment,
    /// Their clock.
    pub now: OffsetDateTime,
    /// How they go about it.
    pub adjust: Adjust,
    /// Counts.
    pub counters: Arc<Counters>,
}

/// What came of pledges.
pub struct Enrolled {
    /// Time and latencies.
    pub seen: Seen,
    /// How many have a certificate.
    pub enrolled: usize,
    /// How many certificates those are.
    pub certificates: usize,
    /// Associations that were made.
    pub associations: u64,
    /// Why the first that failed did.
    pub first_failure: Option<String>,
}

impl Pledges {
    /// Enrols all, so many at a time.
    ///
    /// # Errors
    /// If a device's own surroundings fail.
    pub async fn enrol(&self, at_once: usize) -> anyhow::Result<Enrolled> {
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let before = self.counters.associations.load(Ordering::Relaxed);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..at_once.min(self.devices.len()) {
            let (pledges, next) = (self.clone(), Arc::clone(&next));
            tasks.spawn(async move {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(identity) = pledges.devices.get(number) else {
                        return anyhow::Ok(done);
                    };
                    let begun = Instant::now();
                    let outcome = pledges.enrol_one(number, identity.clone()).await?;
                    done.push((outcome, begun.elapsed()));
                }
            });
        }
        let mut latency = histogram()?;
        let mut serials = HashSet::new();
        let (mut enrolled, mut first_failure) = (0, None);
        while let Some(done) = tasks.join_next().await {
            for (verdict, time) in done?? {
                match verdict {
                    Verdict::Enrolled(one) => {
                        enrolled += 1;
                        let own = one.identity.certificate().context("a certificate")?;
                        serials.insert(own.serial_number().to_vec());
                        record(&mut latency, time);
                    }
                    Verdict::Refused(failure) => {
                        first_failure.get_or_insert_with(|| failure.to_string());
                    }
                    Verdict::Unfinished { last_failure } => {
                        let said = last_failure.map(|failure| failure.to_string());
                        first_failure
                            .get_or_insert_with(|| said.unwrap_or_else(|| "time".to_owned()));
                    }
                }
            }
        }
        Ok(Enrolled {
            seen: Seen {
                time: begun.elapsed(),
                latency,
            },
            enrolled,
            certificates: serials.len(),
            associations: self.counters.associations.load(Ordering::Relaxed) - before,
            first_failure,
        })
    }

    async fn enrol_one(&self, number: usize, identity: Identity) -> anyhow::Result<Verdict> {
        let mut config = Config::new(&[self.to], identity, self.anchors.clone(), self.now);
        (self.adjust)(&mut config);
        let outcome = run_with(&config, self.wire(number), &mut |_| {}).await?;
        Ok(outcome.verdict)
    }

    /// Makes an association for each device and ends it, so many at a time.
    ///
    /// # Errors
    /// A handshake fails.
    pub async fn shake_hands(&self, version: Version, at_once: usize) -> anyhow::Result<Seen> {
        let pledges = self.clone();
        super::spread(at_once, self.devices.len(), move |(), number| {
            let pledges = pledges.clone();
            async move {
                let mut wire = pledges.associate(version, number).await?;
                wire.close().await;
                Ok(())
            }
        })
        .await
    }

    /// Makes an association for each device, one after the other, and keeps them.
    ///
    /// # Errors
    /// A handshake fails.
    pub async fn hold(&self, version: Version) -> anyhow::Result<Held> {
        let mut held = Vec::with_capacity(self.devices.len());
        for number in 0..self.devices.len() {
            held.push(self.associate(version, number).await?);
        }
        Ok(Held(held))
    }

    async fn associate(&self, version: Version, number: usize) -> anyhow::Result<Wire> {
        let identity = self.devices.get(number).context("a device")?;
        let mut dtls = match version {
            Version::Dtls12 => ClientConfig::small(Some(identity.clone())),
            _ => ClientConfig::new(Some(identity.clone())),
        };
        dtls.version = version;
        dtls.server_name = None;
        let mut wire = self.wire(number);
        let coap = coap::Config::default();
        wire.connect(self.to, &dtls, &coap).await?;
        Ok(wire)
    }

    fn wire(&self, number: usize) -> Wire {
        let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
        let (high, low) = (number / HOSTS, number % HOSTS);
        let (a, b) = (1 + high / HOSTS, high % HOSTS);
        let flow = u64::try_from(number).unwrap_or_default();
        Wire {
            from: Ipv4Addr::new(127, byte(a), byte(b), byte(low + 1)).into(),
            up: self.impairment.fates(2 * flow),
            down: self.impairment.fates(2 * flow + 1),
            counters: Arc::clone(&self.counters),
            answered: true,
            line: None,
        }
    }
}

/// Associations that do nothing.
pub struct Held(Vec<Wire>);

impl Held {
    /// Ends them.
    pub async fn release(self) {
        for mut wire in self.0 {
            wire.close().await;
        }
    }
}

fn record(latency: &mut Histogram<u64>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    latency.saturating_record(micros.max(1));
}

/// The way from a pledge to the registrar.
struct Wire {
    from: IpAddr,
    up: Fates,
    down: Fates,
    counters: Arc<Counters>,
    answered: bool,
    line: Option<Line>,
}

struct Line {
    socket: UdpSocket,
    session: Session,
    endpoint: Endpoint<[u8; 1]>,
    start: tokio::time::Instant,
}

impl Line {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn advance(&mut self) {
        let now = self.now();
        if self.session.deadline().is_some_and(|at| at <= now) {
            self.session.advance(now);
        }
        self.endpoint.advance(now);
    }

    fn deadline(&self) -> impl Future<Output = ()> + use<> {
        let next = [self.session.deadline(), self.endpoint.deadline()];
        let next = next.into_iter().flatten().min();
        let next = next.map(|next| self.start + next);
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Wire {
    async fn flush(&mut self) {
        let Some(line) = &mut self.line else { return };
        let now = line.now();
        if *line.session.state() == State::Established {
            while let Some(transmit) = line.endpoint.transmit() {
                // What does not fit is lost, and the request ends in time.
                let _ = line.session.send(now, &transmit.datagram);
            }
        }
        while let Some(datagram) = line.session.transmit() {
            if std::mem::take(&mut self.answered) {
                self.counters.turns.fetch_add(1, Ordering::Relaxed);
            }
            self.counters.up.fetch_add(1, Ordering::Relaxed);
            let bytes = u64::try_from(datagram.len()).unwrap_or_default();
            self.counters.up_bytes.fetch_add(bytes, Ordering::Relaxed);
            for (_, arrives) in self.up.decide(&datagram) {
                let _ = line.socket.send(&arrives).await;
            }
        }
    }

    /// Waits until something happened. An error is the end of the association.
    async fn step(&mut self) -> Result<(), String> {
        self.flush().await;
        let Some(line) = &mut self.line else {
            return Err("there is no association".to_owned());
        };
        if let State::Closed(closed) = line.session.state() {
            return Err(closed.to_string());
        }
        let deadline = line.deadline();
        let mut buffer = [0; DATAGRAM_MAX];
        tokio::select! {
            received = line.socket.recv(&mut buffer) => {
                let Ok(length) = received else { return Ok(()) };
                self.answered = true;
                self.counters.down.fetch_add(1, Ordering::Relaxed);
                let bytes = u64::try_from(length).unwrap_or_default();
                self.counters.down_bytes.fetch_add(bytes, Ordering::Relaxed);
                let now = line.now();
                let datagram = buffer.get(..length).unwrap_or_default();
                for (_, arrives) in self.down.decide(datagram) {
                    // What is wrong with it shows in the state.
                    let _ = line.session.receive(now, &arrives);
                    while let Some(message) = line.session.read() {
                        line.endpoint.receive(now, &SERVER, Via::Secured, &message);
                    }
                }
            }
            () = deadline => line.advance(),
        }
        Ok(())
    }
}

impl Transport for Wire {
    async fn connect(
        &mut self,
        to: SocketAddr,
        dtls: &ClientConfig,
        coap: &coap::Config,
    ) -> Result<Peer, Error> {
        self.close().await;
        let lost = |error: std::io::Error| Error::Config(error.to_string());
        let socket = UdpSocket::bind((self.from, 0)).await.map_err(lost)?;
        socket.connect(to).await.map_err(lost)?;
        self.line = Some(Line {
            socket,
            session: Session::client(dtls, Duration::ZERO)
                .map_err(|error| Error::Config(error.to_string()))?,
            endpoint: Endpoint::new(coap.clone(), rand::random::<u64>),
            start: tokio::time::Instant::now(),
        });
        self.counters.associations.fetch_add(1, Ordering::Relaxed);
        loop {
            self.flush().await;
            let found = self
                .line
                .as_ref()
                .and_then(|line| match line.session.state() {
                    State::Established => line.session.peer(),
                    _ => None,
                });
            if let Some(peer) = found {
                return Ok(Peer {
                    chain: peer.chain.clone(),
                    security: peer.suite.to_owned(),
                    exporter: peer.exporter,
                });
            }
            self.step().await.map_err(Error::Config)?;
        }
    }

    async fn request(&mut self, request: Request) -> Result<Response, String> {
        let Some(line) = &mut self.line else {
            return Err("there is no association".to_owned());
        };
        let now = line.now();
        let handle = line.endpoint.request(now, &SERVER, request);
        loop {
            let Some(line) = &mut self.line else {
                return Err("there is no association".to_owned());
            };
            while let Some(event) = line.endpoint.event() {
                match event {
                    Event::Response {
                        handle: of,
                        response,
                        ..
                    } if of == handle => {
                        // Its acknowledgement.
                        self.flush().await;
                        return Ok(response);
                    }
                    Event::Failed {
                        handle: of,
                        failure,
                        ..
                    } if of == handle => return Err(failure.to_string()),
                    _ => {}
                }
            }
            self.step().await?;
        }
    }

    async fn close(&mut self) {
        if let Some(line) = &mut self.line {
            line.session.close();
        }
        self.flush().await;
        self.line = None;
    }
}
