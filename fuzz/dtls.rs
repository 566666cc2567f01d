//! A client and a server of DTLS with a network between them that does what the input says.
//!
//! The fuzz target `dtls_datagram` runs it, and a test of `net` with numbers from a seed.

use std::collections::VecDeque;
use std::time::Duration;

use net::dtls::{
    ClientConfig, ClientHello, Front, Hello, ServerConfig, Session, State, Suite, Version,
};
use testkit::Pki;
use time::OffsetDateTime;

/// What is the same for every input.
pub(crate) struct World {
    front: Front,
    /// Of DTLS 1.2 and 1.3.
    configs: [ClientConfig; 2],
    server: Vec<u8>,
    device: Vec<u8>,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let pki = Pki::p256(now).expect("identities");
        let device = pki.idevid("1").expect("device");
        let registrar = pki.domain.registrar.clone();
        let first = |identity: &pki::Identity| {
            let leaf = identity.certificate().expect("a certificate");
            leaf.der().to_vec()
        };
        let configs = [Version::Dtls12, Version::Dtls13].map(|version| {
            let mut config = ClientConfig::new(Some(device.clone()));
            config.version = version;
            if version == Version::Dtls12 {
                config.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
            }
            config
        });
        Self {
            server: first(&registrar),
            device: first(&device),
            front: Front::new(ServerConfig::new(vec![registrar]), [1; 32]).expect("front"),
            configs,
        }
    }

    /// Whether both ends were established in the end. The first byte chooses the version.
    pub(crate) fn run(&self, input: &[u8]) -> bool {
        let (version, input) = input.split_first().unwrap_or((&0, &[]));
        let config = &self.configs[usize::from(*version) % 2];
        let mut network = Network {
            world: self,
            now: Duration::from_secs(100),
            client: Session::client(config, Duration::from_secs(100)).expect("client"),
            server: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            sent: 0,
        };
        let mut input = input.iter().copied();
        network.collect();
        for _ in 0..200 {
            let Some(order) = input.next() else {
                break;
            };
            network.step(order, &mut input);
            network.collect();
        }
        // Whatever is left arrives.
        for _ in 0..20 {
            network.step(0, &mut std::iter::empty());
            network.step(1, &mut std::iter::empty());
            network.collect();
        }
        network.is_established()
    }
}

struct Network<'a> {
    world: &'a World,
    now: Duration,
    client: Session,
    server: Option<Session>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    sent: u32,
}

impl Network<'_> {
    fn step(&mut self, order: u8, input: &mut impl Iterator<Item = u8>) {
        let upwards = order & 1 == 0;
        let queue = if upwards {
            &mut self.up
        } else {
            &mut self.down
        };
        match order >> 1 & 15 {
            // Lost.
            1 => drop(queue.pop_front()),
            // Twice.
            2 => queue.extend(queue.front().cloned().into_iter().collect::<Vec<_>>()),
            // Later.
            3 => queue.rotate_left(1.min(queue.len())),
            // A byte changed.
            4 => {
                let place = usize::from(input.next().unwrap_or(0)) * 5;
                let change = input.next().unwrap_or(1);
                if let Some(byte) = queue.front_mut().and_then(|d| d.get_mut(place)) {
                    *byte ^= change;
                }
            }
            // Cut.
            5 => {
                let length = usize::from(input.next().unwrap_or(0)) * 5;
                if let Some(datagram) = queue.front_mut() {
                    datagram.truncate(length);
                }
            }
            // Something else.
            6 => {
                let length = usize::from(input.next().unwrap_or(0));
                let datagram: Vec<u8> = input.by_ref().take(length).collect();
                queue.push_front(datagram);
            }
            // Something else in a record.
            7 => {
                let length = input.next().unwrap_or(0);
                let mut datagram = vec![input.next().unwrap_or(22), 0xFE, 0xFD, 0];
                datagram.push(input.next().unwrap_or(0) & 1);
                datagram.extend([0, 0, 0, 0, 1, length, 0, length]);
                datagram.extend(input.by_ref().take(usize::from(length)));
                queue.push_front(datagram);
            }
            8 => self.now += Duration::from_millis(u64::from(input.next().unwrap_or(0)) * 100),
            9 => {
                let text = self.sent.to_be_bytes();
                if self.client.send(self.now, &text).is_ok() {
                    self.sent += 1;
                }
            }
            _ => match queue.pop_front() {
                Some(datagram) if upwards => self.arrive_at_server(&datagram),
                Some(datagram) => drop(self.client.receive(self.now, &datagram)),
                None => {}
            },
        }
        self.client.advance(self.now);
        if let Some(server) = &mut self.server {
            server.advance(self.now);
        }
    }

    fn arrive_at_server(&mut self, datagram: &[u8]) {
        match &mut self.server {
            Some(server) if !ClientHello::begins(datagram) || server.began_with(datagram) => {
                let _ = server.receive(self.now, datagram);
            }
            _ => match self.world.front.receive(self.now, b"peer", datagram) {
                Hello::Answer(answer) => {
                    assert!(answer.len() <= datagram.len(), "amplified");
                    self.down.push_back(answer);
                }
                Hello::Accept(session) => self.server = Some(*session),
                Hello::Dropped(_) => {}
            },
        }
    }

    fn collect(&mut self) {
        while let Some(datagram) = self.client.transmit() {
            self.up.push_back(datagram);
        }
        let Some(server) = &mut self.server else {
            return;
        };
        while let Some(datagram) = server.transmit() {
            self.down.push_back(datagram);
        }
        while let Some(text) = server.read() {
            let number: [u8; 4] = text.as_slice().try_into().expect("what the client sent");
            assert!(u32::from_be_bytes(number) < self.sent, "never sent");
        }
        if let Some(peer) = server.peer() {
            let leaf = peer.chain.first().expect("a certificate");
            assert_eq!(leaf.der(), self.world.device);
        }
        if let Some(peer) = self.client.peer() {
            assert_eq!(peer.server_certificate_der, self.world.server);
        }
    }

    fn is_established(&self) -> bool {
        let up = |session: &Session| *session.state() == State::Established;
        up(&self.client) && self.server.as_ref().is_some_and(up)
    }
}
