use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ::coap::Config;
use pki::Identity;
use testkit::Pki;
use time::OffsetDateTime;

use super::*;
use crate::coap::CoapStatistics;
use crate::dtls::{ClientConfig, ServerConfig, Version};

mod schedule;
mod storm;

const VERSIONS: [Version; 2] = [Version::Dtls12, Version::Dtls13];

/// What a client of a test is to the shard: its address, and its header if there is a proxy.
type Seat = (SocketAddr, Option<Vec<u8>>);

struct Client {
    session: Session,
    endpoint: Endpoint<[u8; 1]>,
    answers: Vec<Response>,
}

impl Client {
    fn ask(&mut self, now: Moment, request: Request) {
        self.endpoint.request(now, &[0], request);
    }

    fn established(&self) -> bool {
        *self.session.state() == State::Established
    }
}

/// A shard, its clients, and a network between them that works.
struct World {
    shard: Shard,
    now: Moment,
    clients: BTreeMap<Seat, Client>,
    /// Whether the handler answers; what it was asked otherwise waits.
    answering: bool,
    asked: Vec<Asked>,
    /// Bytes to clients that there are none of.
    astray: usize,
    device: Identity,
    /// What clients speak.
    version: Version,
}

impl World {
    fn new(change: impl FnOnce(&mut CoapLimits)) -> Self {
        Self::speaking(Speech::Secured, change)
    }

    fn speaking(
        speech: impl FnOnce(Front) -> Speech,
        change: impl FnOnce(&mut CoapLimits),
    ) -> Self {
        let then = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
        let pki = Pki::p256(then).expect("identities");
        let device = pki.idevid("1").expect("a device");
        let config = ServerConfig::new(vec![pki.domain.registrar.clone()]);
        let front = Front::new(config, [7; 32]).expect("a front");
        let mut limits = CoapLimits::default();
        change(&mut limits);
        let shared = Arc::new(Shared {
            limits,
            counters: Counters::default(),
            origins: Origins::default(),
        });
        let mut number = 0_u64;
        let endpoint = Endpoint::new(Config::default(), move || {
            number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
            number
        });
        let local = address(0);
        Self {
            shard: Shard::new(shared, speech(front), local, endpoint),
            now: Duration::from_secs(1_000),
            clients: BTreeMap::new(),
            answering: true,
            asked: Vec::new(),
            astray: 0,
            device,
            version: Version::Dtls12,
        }
    }

    fn statistics(&self) -> CoapStatistics {
        self.shard.shared.counters.statistics()
    }

    /// A new client takes a seat, in place of the one that had it.
    fn seat(&mut self, seat: &Seat) {
        let config = self.client_config();
        self.seat_with(seat, &config);
    }

    fn seat_with(&mut self, seat: &Seat, config: &ClientConfig) {
        let session = Session::client(config, self.now).expect("a client");
        let mut number = self.clients.len() as u64;
        let endpoint = Endpoint::new(Config::default(), move || {
            number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
            number
        });
        let client = Client {
            session,
            endpoint,
            answers: Vec::new(),
        };
        self.clients.insert(seat.clone(), client);
    }

    fn client_config(&self) -> ClientConfig {
        ClientConfig {
            version: self.version,
            ..ClientConfig::new(Some(self.device.clone()))
        }
    }

    fn client(&mut self, seat: &Seat) -> &mut Client {
        self.clients.get_mut(seat).expect("someone has this seat")
    }

    fn ask(&mut self, seat: &Seat, path: &str) {
        let now = self.now;
        self.client(seat).ask(now, Request::get(path));
    }

    fn throw(&mut self, seat: &Seat, datagram: &[u8]) {
        let datagram = match &seat.1 {
            Some(header) => Jpy {
                header,
                content: datagram,
            }
            .encode(),
            None => datagram.to_vec(),
        };
        self.shard.receive(self.now, seat.0, Via::Open, &datagram);
    }

    /// What the clients have to say reaches the shard, where it may wait.
    fn clients_speak(&mut self) -> bool {
        let mut said = Vec::new();
        for (seat, client) in &mut self.clients {
            if client.established() {
                while let Some(transmit) = client.endpoint.transmit() {
                    client
                        .session
                        .send(self.now, &transmit.datagram)
                        .expect("sent");
                }
            }
            while let Some(datagram) = client.session.transmit() {
                said.push((seat.clone(), datagram));
            }
        }
        for (seat, datagram) in &said {
            self.throw(seat, datagram);
        }
        !said.is_empty()
    }

    /// What the shard has to say reaches the clients.
    fn shard_speaks(&mut self) -> bool {
        let mut said = false;
        while let Some(asked) = self.shard.asked() {
            said = true;
            if self.answering {
                let response = Response::content(Code::CONTENT, 0, vec![b'x'; 2_000]);
                self.shard.answer(self.now, asked.ticket, response);
            } else {
                self.asked.push(asked);
            }
        }
        while let Some((to, datagram)) = self.shard.transmit() {
            said = true;
            let (seat, content) = match &self.shard.speech {
                Speech::Proxied(_) => {
                    let jpy = Jpy::decode(&datagram).expect("JPY");
                    ((to, Some(jpy.header.to_vec())), jpy.content.to_vec())
                }
                _ => ((to, None), datagram),
            };
            let Some(client) = self.clients.get_mut(&seat) else {
                self.astray += content.len();
                continue;
            };
            let _ = client.session.receive(self.now, &content);
            while let Some(message) = client.session.read() {
                client
                    .endpoint
                    .receive(self.now, &[0], Via::Secured, &message);
            }
            while let Some(event) = client.endpoint.event() {
                if let Event::Response { response, .. } = event {
                    client.answers.push(response);
                }
            }
        }
        said
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let clients = self.clients_speak();
            self.shard.work(self.now, usize::MAX);
            if !self.shard_speaks() && !clients {
                return;
            }
        }
    }

    fn later(&mut self, time: Duration) {
        self.now += time;
        self.shard.advance(self.now);
        self.settle();
    }

    /// Takes seats and makes handshakes.
    fn establish(&mut self, seats: impl IntoIterator<Item = Seat>) {
        for seat in seats {
            self.seat(&seat);
            self.settle();
            assert!(self.client(&seat).established(), "{seat:?}");
        }
    }

    /// The first ClientHello of somebody.
    fn hello(&self) -> Vec<u8> {
        let config = self.client_config();
        let mut session = Session::client(&config, self.now).expect("a client");
        session.transmit().expect("a ClientHello")
    }

    /// The second one, with the cookie that an address was given.
    fn hello_with_cookie(&mut self, seat: &Seat) -> Vec<u8> {
        let config = self.client_config();
        let mut session = Session::client(&config, self.now).expect("a client");
        let first = session.transmit().expect("a ClientHello");
        self.throw(seat, &first);
        self.shard.work(self.now, usize::MAX);
        let (_, answer) = self.shard.transmit().expect("a cookie");
        let answer = match &self.shard.speech {
            Speech::Proxied(_) => Jpy::decode(&answer).expect("JPY").content.to_vec(),
            _ => answer,
        };
        let _ = session.receive(self.now, &answer);
        session.transmit().expect("a ClientHello")
    }
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([192, 0, 2, 1]), 1_000 + number)
}

fn seat(number: u16) -> Seat {
    (address(number), None)
}

/// Another address for each number.
fn forged(number: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4((0x0a00_0000 + number).into()), 5_684)
}

/// Requirements: DTL-001, DTL-003, DTL-004
#[test]
fn a_flood_from_forged_addresses_leaves_nothing() {
    VERSIONS.into_iter().for_each(flood);
}

fn flood(version: Version) {
    let mut world = World::new(|_| {});
    world.version = version;
    let hello = world.hello();
    let stolen = world.hello_with_cookie(&seat(1));
    let mut sent = 0;
    for number in 0..10_000 {
        let datagram = match number % 4 {
            0 => hello.clone(),
            // The cookie is another address's.
            1 => stolen.clone(),
            2 => vec![22; 200],
            _ => vec![23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0],
        };
        sent += datagram.len();
        world.throw(&(forged(number), None), &datagram);
        let before = world.astray;
        world.settle();
        assert!(
            world.astray - before <= datagram.len(),
            "never more than came"
        );
    }
    assert!(world.astray < sent);
    let shard = &world.shard;
    assert!(shard.associations.is_empty() && shard.tenants.is_empty());
    assert!(shard.timers.is_empty() && shard.quiet.is_empty() && !shard.has_work());
    assert_eq!(shard.shared.origins.len(), 0);
    assert_eq!(shard.endpoint.peers(), 0);
    let statistics = world.statistics();
    assert_eq!(statistics.handshakes_begun, 0);
    assert!(statistics.cookies_sent > 2_500, "{statistics:?}");
    assert_eq!((statistics.peers_now, statistics.handshakes_now), (0, 0));

    world.establish([seat(1)]);
    world.ask(&seat(1), "large");
    world.settle();
    assert_eq!(world.client(&seat(1)).answers.len(), 1);
}

/// How many datagrams are handled until a peer has its answer, while another sends as it likes.
fn turns_until_answered(world: &mut World, flood: &[Vec<u8>]) -> usize {
    let (bad, good) = (seat(1), seat(2));
    for datagram in flood {
        world.throw(&bad, datagram);
    }
    world.ask(&good, "x");
    world.clients_speak();
    let mut turns = 0;
    while world.client(&good).answers.is_empty() {
        world.shard.work(world.now, 1);
        turns += 1;
        world.shard_speaks();
        world.clients_speak();
        assert!(turns < 10_000);
    }
    turns
}

#[test]
fn one_bad_peer_does_not_slow_another() {
    VERSIONS.into_iter().for_each(flood_beside);
}

fn flood_beside(version: Version) {
    let world = || {
        let mut world = World::new(|_| {});
        world.version = version;
        world.establish([seat(1), seat(2)]);
        world
    };
    let alone = turns_until_answered(&mut world(), &[]);

    let garbage: Vec<Vec<u8>> = (0..5_000_u32)
        .map(|number| {
            let mut record = vec![23, 254, 253, 0, 1, 0, 0];
            record.extend(number.to_be_bytes());
            record.extend([0, 20]);
            record.extend([0; 20]);
            record
        })
        .collect();
    let mut flooded = world();
    let turns = turns_until_answered(&mut flooded, &garbage);
    // Each turn of the good peer waits for one of the bad one at most.
    assert!(turns <= 2 * alone, "{turns} turns instead of {alone}");
    let statistics = flooded.statistics();
    assert!(statistics.datagrams_crowded > 4_900, "{statistics:?}");

    // What is well-formed and authentic costs no more turns.
    let mut flooded = world();
    let mut requests = Vec::new();
    for number in 0..1_000_u16 {
        let token = ::coap::Token::new(&[1]).expect("a token");
        let kind = ::coap::Kind::NonConfirmable;
        let message = ::coap::Message::new(kind, Code::GET, number, token);
        let now = flooded.now;
        let client = flooded.client(&seat(1));
        let message = message.encode().expect("encoded");
        client.session.send(now, &message).expect("sent");
        requests.push(client.session.transmit().expect("a datagram"));
    }
    let turns = turns_until_answered(&mut flooded, &requests);
    assert!(turns <= 2 * alone, "{turns} turns instead of {alone}");
}

#[test]
fn requests_of_one_peer_have_a_limit() {
    let mut world = World::new(|limits| limits.requests_per_peer_max = 2);
    world.answering = false;
    world.establish([seat(1), seat(2)]);
    for number in 0..20_u16 {
        let token = ::coap::Token::new(&number.to_be_bytes()).expect("a token");
        let kind = ::coap::Kind::NonConfirmable;
        let message = ::coap::Message::new(kind, Code::GET, number, token);
        let now = world.now;
        let client = world.client(&seat(1));
        let message = message.encode().expect("encoded");
        client.session.send(now, &message).expect("sent");
        world.settle();
    }
    assert_eq!(world.asked.len(), 2);
    assert_eq!(world.statistics().requests_refused, 18);
    world.ask(&seat(2), "x");
    world.settle();
    assert_eq!(world.asked.len(), 3, "another peer is not refused");
    world.answering = true;
    for asked in std::mem::take(&mut world.asked) {
        let response = Response::new(Code::VALID);
        world.shard.answer(world.now, asked.ticket, response);
    }
    world.settle();
    assert_eq!(world.statistics().requests_now, 0);
    assert_eq!(world.client(&seat(2)).answers.len(), 1);
}

/// Requirements: DTL-021, DTL-049, COA-039, COA-040
#[test]
fn a_new_association_takes_over_when_it_stands() {
    VERSIONS.into_iter().for_each(take_over);
}

fn take_over(version: Version) {
    let mut world = World::new(|_| {});
    world.version = version;
    world.establish([seat(1)]);
    let first = world.shard.associations.keys().copied().collect::<Vec<_>>();

    // Somebody forges the address: a ClientHello, and one with a cookie of another address.
    let hello = world.hello();
    let stolen = world.hello_with_cookie(&seat(9));
    for datagram in [&hello, &stolen, &hello] {
        world.throw(&seat(1), datagram);
        world.settle();
    }
    world.ask(&seat(1), "x");
    world.settle();
    assert_eq!(world.client(&seat(1)).answers.len(), 1, "it still stands");
    assert_eq!(world.shard.associations.len(), 1);

    // Somebody on the path has a true cookie, and does not finish.
    let begun = world.hello_with_cookie(&seat(1));
    world.throw(&seat(1), &begun);
    world.settle();
    assert_eq!(world.shard.associations.len(), 2);
    world.ask(&seat(1), "x");
    world.settle();
    assert_eq!(world.client(&seat(1)).answers.len(), 2, "it still stands");

    // The device begins anew, with a request of before under way.
    world.answering = false;
    world.ask(&seat(1), "x");
    world.settle();
    world.answering = true;
    world.establish([seat(1)]);
    let second = world.shard.associations.keys().copied().collect::<Vec<_>>();
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    let asked = world.asked.remove(0);
    assert_eq!(asked.peer.id, first[0]);
    let response = Response::new(Code::VALID);
    world.shard.answer(world.now, asked.ticket, response);
    world.settle();
    assert!(
        world.client(&seat(1)).answers.is_empty(),
        "what the old association asked is not told to the new one"
    );
    world.ask(&seat(1), "x");
    world.settle();
    assert_eq!(world.client(&seat(1)).answers.len(), 1);
    let statistics = world.statistics();
    assert_eq!((statistics.peers_now, statistics.handshakes_now), (1, 0));
    assert_eq!(statistics.requests_now, 0);
}

#[test]
fn handshakes_have_limits() {
    let mut world = World::new(|limits| {
        limits.handshakes_max = 3;
        limits.handshake_time_max = Duration::from_secs(20);
    });
    for number in 0..5 {
        let from = (forged(number), None);
        let full = number >= 3;
        if full {
            let hello = world.hello();
            world.throw(&from, &hello);
        } else {
            let begun = world.hello_with_cookie(&from);
            world.throw(&from, &begun);
        }
        world.settle();
    }
    let statistics = world.statistics();
    assert_eq!(statistics.handshakes_now, 3);
    assert_eq!(statistics.handshakes_refused, 2);
    // Those that do not go on give way in the end.
    world.later(Duration::from_secs(19));
    assert_eq!(world.statistics().handshakes_now, 3);
    world.later(Duration::from_secs(1));
    assert_eq!(world.statistics().handshakes_now, 0);
    assert_eq!(world.statistics().handshakes_late, 3);
    assert!(world.shard.associations.is_empty() && world.shard.tenants.is_empty());
    world.establish([seat(1)]);
}

#[test]
fn one_network_cannot_take_all_handshakes() {
    let mut world = World::new(|limits| limits.handshakes_max = 8);
    let begin = |world: &mut World, from: &Seat| {
        let begun = world.hello_with_cookie(from);
        world.throw(from, &begun);
        world.shard.work(world.now, usize::MAX);
        while world.shard.transmit().is_some() {}
        world.statistics().handshakes_now
    };
    assert_eq!(
        [0, 1, 2, 3].map(|number| begin(&mut world, &seat(number))),
        [1, 2, 2, 2]
    );
    world.establish([(forged(1), None)]);

    // Others who do not go on either fill the rest. After a while the oldest gives way.
    for number in 2..8 {
        begin(&mut world, &(forged(number), None));
    }
    let honest = (forged(9), None);
    world.seat(&honest);
    world.settle();
    assert!(!world.client(&honest).established());
    world.now += Duration::from_secs(15);
    world.establish([honest]);
    // In the share of the first network too, once it is taken up again.
    begin(&mut world, &seat(2));
    let before = world.statistics().handshakes_now;
    world.establish([seat(4)]);
    assert_eq!(world.statistics().handshakes_now, before - 1);
    assert_eq!(world.statistics().handshakes_late, 2);
    world.later(Duration::from_secs(60));
    assert_eq!(world.statistics().handshakes_now, 0);
    assert!(world.shard.unfinished.is_empty());
}

#[test]
fn who_offers_nothing_that_is_served_is_counted_as_failed() {
    let mut world = World::new(|_| {});
    let config = ClientConfig {
        suites: vec![crate::dtls::Suite::EcdheRsaAes128Gcm],
        ..world.client_config()
    };
    world.seat_with(&seat(1), &config);
    world.settle();
    let statistics = world.statistics();
    assert_eq!(statistics.cookies_sent, 1);
    assert_eq!(statistics.handshakes_failed, 1);
    assert_eq!(statistics.handshakes_begun, 0);
}

#[test]
fn who_is_refused_for_lack_of_room_has_used_up_a_try() {
    let mut world = World::new(|limits| {
        limits.peers_per_address_max = 1;
        limits.handshakes_per_second_max = 2;
    });
    world.establish([seat(1)]);
    for number in 2..5 {
        let begun = world.hello_with_cookie(&seat(number));
        world.throw(&seat(number), &begun);
    }
    let before = world.statistics();
    let hello = world.hello();
    world.throw(&seat(5), &hello);
    assert_eq!(world.statistics().cookies_sent, before.cookies_sent);
}

#[test]
fn a_full_network_makes_room_among_many_idle_ones() {
    let mut world = World::new(|limits| limits.peers_per_address_max = 2);
    world.establish(
        (1..=u32::try_from(EVICTION_TRIES).expect("small") + 2).map(|n| (forged(n), None)),
    );
    world.establish([seat(0), seat(1)]);
    world.now += Duration::from_secs(5);
    world.establish([seat(2)]);
    assert_eq!(world.statistics().peers_evicted, 1);
}

#[test]
fn handshakes_of_one_network_come_at_a_rate() {
    let mut world = World::new(|limits| limits.handshakes_per_second_max = 2);
    world.establish((0..4).map(seat));
    world.seat(&seat(4));
    world.settle();
    assert!(!world.client(&seat(4)).established());
    assert_eq!(world.statistics().handshakes_refused, 1);
    let elsewhere = (forged(1), None);
    world.establish([elsewhere]);
    world.now += Duration::from_secs(1);
    world.establish([seat(5)]);
}

/// Requirements: DTL-048
#[test]
fn the_one_that_is_idle_longest_gives_way() {
    let mut world = World::new(|limits| {
        limits.peers_max = 3;
        limits.idle_time_min = Duration::from_secs(5);
        limits.idle_time_max = Duration::from_secs(100);
    });
    for number in 0..3 {
        world.establish([seat(number)]);
        world.later(Duration::from_secs(1));
    }
    // The oldest is waiting for an answer; the one after it was heard of again.
    world.answering = false;
    world.ask(&seat(0), "x");
    world.settle();
    world.now += Duration::from_secs(2);
    world.answering = true;
    world.ask(&seat(1), "x");
    world.settle();

    world.seat(&seat(3));
    world.settle();
    assert!(
        !world.client(&seat(3)).established(),
        "nobody was idle for long enough"
    );
    world.now += Duration::from_secs(4);
    world.establish([seat(3)]);
    assert_eq!(world.statistics().peers_evicted, 1);
    assert!(world.client(&seat(2)).session.is_closed(), "it was told");
    for number in [0, 1, 3] {
        assert!(world.client(&seat(number)).established(), "{number}");
    }
    // In the end all are idle but the one that waits for its answer.
    world.later(Duration::from_secs(101));
    assert_eq!(world.statistics().peers_idle, 2);
    assert_eq!(world.statistics().peers_now, 1);
    let asked = world.asked.remove(0);
    let response = Response::new(Code::VALID);
    world.shard.answer(world.now, asked.ticket, response);
    world.settle();
    world.later(Duration::from_secs(101));
    assert_eq!(world.statistics().peers_now, 0);
    assert!(world.shard.timers.is_empty() && world.shard.tenants.is_empty());
}

#[test]
fn a_network_that_is_full_makes_room_itself() {
    let mut world = World::new(|limits| limits.peers_per_address_max = 2);
    let elsewhere = (forged(1), None);
    world.establish([elsewhere.clone(), seat(0), seat(1)]);
    world.seat(&seat(2));
    world.settle();
    assert!(!world.client(&seat(2)).established());
    world.now += Duration::from_secs(5);
    world.establish([seat(2)]);
    assert!(world.client(&seat(0)).session.is_closed());
    assert!(world.client(&elsewhere).established(), "though it is older");
    assert_eq!(world.statistics().peers_now, 3);
}

/// Requirements: JPX-016, JPX-017, JPX-018, JPX-019, JPX-035, JPX-053
#[test]
fn one_socket_has_many_pledges_behind_many_proxies() {
    VERSIONS.into_iter().for_each(many_pledges);
}

fn many_pledges(version: Version) {
    let mut world = World::speaking(Speech::Proxied, |_| {});
    world.version = version;
    let headers: [&[u8]; 5] = [b"", b"\xff\x00", b"\x82", &[7; 32], &[9; 256]];
    let seats: Vec<Seat> = (0..2)
        .flat_map(|proxy| headers.map(|header| (address(proxy), Some(header.to_vec()))))
        .collect();
    // All at once.
    for seat in &seats {
        world.seat(seat);
    }
    world.settle();
    for seat in &seats {
        assert!(world.client(seat).established(), "{seat:?}");
        world.ask(seat, "x");
    }
    world.answering = false;
    world.settle();
    assert_eq!(world.shard.associations.len(), 10);
    assert_eq!(world.asked.len(), 10);
    for asked in std::mem::take(&mut world.asked) {
        let header = asked.peer.proxied.clone().expect("a header");
        let told = format!("{} {header:?}", asked.peer.address);
        let response = Response::content(Code::CONTENT, 0, told);
        world.shard.answer(world.now, asked.ticket, response);
    }
    world.settle();
    for seat in &seats {
        let header = Bytes::from(seat.1.clone().unwrap_or_default());
        let wanted = format!("{} {header:?}", seat.0);
        let answers = &world.client(seat).answers;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].payload, wanted.into_bytes());
    }
    assert_eq!(world.astray, 0);
}

/// Requirements: DTL-005, JPX-033, JPX-034, JPX-048
#[test]
fn what_a_proxy_mixes_up_or_makes_up_leads_to_nothing() {
    let mut world = World::speaking(Speech::Proxied, |_| {});
    let pledge = (address(1), Some(b"one".to_vec()));
    let other = (address(1), Some(b"two".to_vec()));
    let begun = world.hello_with_cookie(&pledge);
    world.throw(&other, &begun);
    world.throw(&(address(2), pledge.1.clone()), &begun);
    world.settle();
    assert_eq!(world.statistics().handshakes_begun, 0);

    let malformed: [&[u8]; 7] = [
        b"",
        &[0x80],
        &[0x81, 0x41, 0],
        &[0x82],
        &[0x82, 0x41, 0],
        &[0x82, 0x00, 0x41, 0],
        b"\x16\xfe\xfd no JPY at all",
    ];
    for datagram in malformed {
        world
            .shard
            .receive(world.now, address(1), Via::Open, datagram);
    }
    assert_eq!(world.statistics().jpy_malformed, 7);
    for content in [&b""[..], b"x", &[0x40, 1, 0, 1], &[22; 60_000]] {
        world.throw(&pledge, content);
    }
    let before = world.statistics();
    world.settle();
    assert_eq!(world.statistics().datagrams_sent, before.datagrams_sent);

    // A third element is passed over.
    let hello = world.hello();
    let mut three = Jpy {
        header: b"one",
        content: &hello,
    }
    .encode();
    three[0] = 0x83;
    three.push(0xf6);
    world
        .shard
        .receive(world.now, address(1), Via::Open, &three);
    assert!(world.shard.transmit().is_some());

    // A pledge whose proxy takes another header in between is another peer.
    world.establish([pledge.clone()]);
    let now = world.now;
    let client = world.client(&pledge);
    client.session.send(now, b"x").expect("sent");
    let record = client.session.transmit().expect("a datagram");
    let dropped = world.statistics().datagrams_dropped;
    world.throw(&other, &record);
    world.settle();
    assert_eq!(world.statistics().datagrams_dropped, dropped + 1);
    assert_eq!(world.shard.associations.len(), 1);
}

/// Requirements: CBR-024
#[test]
fn blocks_fit_the_records_of_a_small_device() {
    let mut world = World::new(|_| {});
    let config = ClientConfig::small(Some(world.device.clone()));
    world.seat_with(&seat(1), &config);
    world.settle();
    assert!(world.client(&seat(1)).established());
    world.ask(&seat(1), "large");
    world.settle();
    let answers = &world.client(&seat(1)).answers;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].payload.len(), 2_000);
}

#[test]
fn the_largest_block_is_one_whose_message_fits() {
    assert_eq!(block_exponent(16_384), None);
    assert_eq!(block_exponent(1_152), None);
    assert_eq!(block_exponent(1_024), Some(5));
    assert_eq!(block_exponent(512), Some(4));
    assert_eq!(block_exponent(64), Some(0));
}

#[test]
fn all_are_told_when_it_stops() {
    let mut world = World::new(|_| {});
    world.establish((0..3).map(seat));
    world.shard.close(world.now);
    world.settle();
    for number in 0..3 {
        assert!(world.client(&seat(number)).session.is_closed());
    }
    assert_eq!(world.statistics().peers_now, 0);
}
