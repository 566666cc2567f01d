//! Handshakes over links that lose, duplicate, reorder and corrupt, many at once.
//!
//! OpenSSL repeats flights by the real clock, so these handshakes take real seconds; they wait for
//! their deadlines and for nothing else.

use std::time::{Duration, Instant};

use net::dtls::{ClientConfig, ClientHello, Front, Hello, Session, State, Suite};
use testkit::{Fates, Impairment};

use crate::dtls_support::{front_with, pki};

struct Link {
    key: [u8; 8],
    client: Session,
    server: Option<Session>,
    up: Fates,
    down: Fates,
    /// When it arrives, whether at the server, and what.
    flying: Vec<(Duration, bool, Vec<u8>)>,
    sent: usize,
    done: Option<Duration>,
}

impl Link {
    fn new(number: u64, impairment: Impairment, config: &ClientConfig) -> Self {
        Self {
            key: number.to_be_bytes(),
            client: Session::client(config, Duration::ZERO).expect("client"),
            server: None,
            up: impairment.fates(2 * number),
            down: impairment.fates(2 * number + 1),
            flying: Vec::new(),
            sent: 0,
            done: None,
        }
    }

    fn run(&mut self, now: Duration, front: &Front) {
        loop {
            self.send(now);
            let arrived = self.flying.iter().position(|(due, ..)| *due <= now);
            let Some(arrived) = arrived else {
                break;
            };
            let (_, to_server, datagram) = self.flying.remove(arrived);
            if to_server {
                self.arrive(now, front, &datagram);
            } else {
                let _ = self.client.receive(now, &datagram);
            }
        }
        self.client.advance(now);
        if let Some(server) = &mut self.server {
            server.advance(now);
        }
        self.send(now);
        let up = |session: &Session| *session.state() == State::Established;
        if self.done.is_none() && up(&self.client) && self.server.as_ref().is_some_and(up) {
            self.done = Some(now);
        }
    }

    fn arrive(&mut self, now: Duration, front: &Front, datagram: &[u8]) {
        match &mut self.server {
            Some(server) if !ClientHello::begins(datagram) || server.began_with(datagram) => {
                let _ = server.receive(now, datagram);
            }
            _ => match front.receive(now, &self.key, datagram) {
                Hello::Answer(answer) => self.fly(now, false, &answer),
                Hello::Accept(session) => self.server = Some(*session),
                Hello::Dropped(_) => {}
            },
        }
    }

    fn send(&mut self, now: Duration) {
        while let Some(datagram) = self.client.transmit() {
            self.fly(now, true, &datagram);
        }
        while let Some(datagram) = self.server.as_mut().and_then(Session::transmit) {
            self.fly(now, false, &datagram);
        }
    }

    fn fly(&mut self, now: Duration, to_server: bool, datagram: &[u8]) {
        self.sent += 1;
        let fates = if to_server {
            &mut self.up
        } else {
            &mut self.down
        };
        for (after, datagram) in fates.decide(datagram) {
            self.flying.push((now + after, to_server, datagram));
        }
    }

    fn wakes(&self) -> Option<Duration> {
        let arrivals = self.flying.iter().map(|(due, ..)| *due);
        let server = self.server.as_ref().and_then(Session::deadline);
        arrivals.chain(self.client.deadline()).chain(server).min()
    }
}

/// Runs them all until each is done or closed.
async fn run(links: &mut [Link], front: &Front) {
    let begin = Instant::now();
    loop {
        let now = begin.elapsed();
        for link in links.iter_mut() {
            link.run(now, front);
        }
        let waiting = links
            .iter()
            .filter(|link| link.done.is_none() && !link.client.is_closed());
        let Some(next) = waiting.filter_map(Link::wakes).min() else {
            return;
        };
        if let Some(wait) = next.checked_sub(begin.elapsed()) {
            tokio::time::sleep(wait).await;
        }
    }
}

fn links(count: u64, impairment: Impairment) -> (Vec<Link>, Front) {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let links = (0..count)
        .map(|number| {
            // Every second one is a device with little memory.
            let mut config = ClientConfig::new(Some(device.clone()));
            config.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
            if number % 2 == 1 {
                config = ClientConfig::small(Some(device.clone()));
            }
            Link::new(number, impairment, &config)
        })
        .collect();
    (links, front)
}

/// Requirements: DTL-013, DTL-015
#[tokio::test]
async fn handshakes_get_through_a_bad_link() {
    let impairment = Impairment {
        reorder: 0.3,
        ..Impairment::lossy(77, 0.2)
    };
    let (mut links, front) = links(24, impairment);
    run(&mut links, &front).await;
    let mut times = Vec::new();
    let mut sent = 0;
    for (number, link) in links.iter_mut().enumerate() {
        let state = link.client.state().clone();
        times.push(link.done.unwrap_or_else(|| panic!("{number}: {state:?}")));
        sent += link.sent;
        let server = link.server.as_mut().expect("a session");
        let now = Duration::from_secs(60);
        link.client.send(now, b"through").expect("sent");
        let datagram = link.client.transmit().expect("a datagram");
        server.receive(now, &datagram).expect("received");
        assert_eq!(server.read().as_deref(), Some(&b"through"[..]));
    }
    times.sort();
    println!(
        "median {:?}, worst {:?}, {sent} datagrams",
        times[12], times[23]
    );
}

/// A changed bit may end a handshake, and must not do more.
///
/// Requirements: DTL-009
#[tokio::test]
async fn corrupted_handshakes_end_well_or_not_at_all() {
    let impairment = Impairment {
        corrupt: 0.3,
        ..Impairment::lossy(21, 0.0)
    };
    let (mut links, front) = links(100, impairment);
    let chain = {
        let config = ClientConfig::new(None);
        let mut clean = Link::new(0, Impairment::NONE, &config);
        clean.run(Duration::ZERO, &front);
        clean.client.peer().expect("peer").chain.clone()
    };
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(1500) {
        let now = begin.elapsed();
        for link in &mut links {
            link.run(now, &front);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let done: Vec<&Link> = links.iter().filter(|link| link.done.is_some()).collect();
    for link in &done {
        assert_eq!(link.client.peer().expect("peer").chain, chain);
    }
    println!("{} of {} done", done.len(), links.len());
    assert!(!done.is_empty());
}
