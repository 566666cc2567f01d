//! The proxy on a host of its own, between pledges that have link-local addresses and a registrar
//! beyond a router.

use std::collections::HashSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use coap::jpy::Jpy;
use coap::{Code, Kind, Message, Token, link, option};
use hickory_proto::op::{Message as DnsMessage, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{AAAA, PTR, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proxy::{Config, Way};

use crate::hosts::{Host, Hosts};

const PATIENCE: Duration = Duration::from_secs(20);
const REGISTRAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
const CONFIG_VARIABLE: &str = "USHER_TEST_PROXY_CONFIG";
const PORTS_VARIABLE: &str = "USHER_TEST_PROXY_PORTS";

/// Not a test of its own: the process that runs on the proxy's host.
#[test]
fn proxy_process() {
    let (Ok(config), Ok(file)) = (
        std::env::var(CONFIG_VARIABLE),
        std::env::var(PORTS_VARIABLE),
    ) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let running = proxy::serve(Config::parse(&config).unwrap()).await.unwrap();
        loop {
            let text = serde_json::to_string(&running.ports()).unwrap();
            let fresh = format!("{file}.new");
            std::fs::write(&fresh, text).unwrap();
            std::fs::rename(&fresh, &file).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

struct Proxy {
    process: Child,
    folder: tempfile::TempDir,
}

impl Proxy {
    fn start(hosts: &Hosts, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = hosts
            .command(Host::Proxy, std::env::current_exe().unwrap())
            .args(["network::proxy_process", "--exact", "--nocapture"])
            .env(CONFIG_VARIABLE, config)
            .env(PORTS_VARIABLE, folder.path().join("ports"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, folder }
    }

    /// The ports, once there are that many.
    fn ports(&self, count: usize) -> Vec<(Way, u16, SocketAddr)> {
        let until = Instant::now() + PATIENCE;
        loop {
            let ports = read_ports(&self.folder.path().join("ports"));
            if ports.len() == count {
                return ports;
            }
            assert!(
                Instant::now() < until,
                "{count} ports were expected: {ports:?}"
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that ended by itself cannot be ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read_ports(file: &Path) -> Vec<(Way, u16, SocketAddr)> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let ports: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let ports = ports.as_array().cloned().unwrap_or_default();
    ports
        .iter()
        .map(|port| {
            let way = match port["way"].as_str().unwrap() {
                "stateless" => Way::Stateless,
                "stateful" => Way::Stateful,
                _ => Way::Circuit,
            };
            let address: SocketAddr = port["address"].as_str().unwrap().parse().unwrap();
            assert_eq!(address.ip().to_string(), "fe80::1");
            (
                way,
                address.port(),
                port["registrar"].as_str().unwrap().parse().unwrap(),
            )
        })
        .collect()
}

fn port_of(ports: &[(Way, u16, SocketAddr)], way: Way, registrar_port: u16) -> u16 {
    let found = ports
        .iter()
        .find(|(known, _, registrar)| *known == way && registrar.port() == registrar_port);
    found.unwrap().1
}

/// A socket of a pledge at `fe80::<host>`, connected to a port of the proxy.
fn pledge(hosts: &Hosts, host: u16, port: u16) -> UdpSocket {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host);
    pledge_at(hosts, address, port)
}

fn pledge_at(hosts: &Hosts, address: Ipv6Addr, port: u16) -> UdpSocket {
    hosts.on(Host::Pledge, || {
        let scope = scope("eth0");
        let own = match address.segments()[0] {
            0xfe80 => scope,
            _ => 0,
        };
        let socket = UdpSocket::bind(SocketAddrV6::new(address, 0, 0, own)).unwrap();
        let proxy = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        socket
            .connect(SocketAddrV6::new(proxy, port, 0, scope))
            .unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
}

/// The index of an interface of the host of this thread.
fn scope(name: &str) -> u32 {
    let list = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
    let line = list.lines().find(|line| line.ends_with(name)).unwrap();
    let index = line.split_ascii_whitespace().nth(1).unwrap();
    u32::from_str_radix(index, 16).unwrap()
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn bind(hosts: &Hosts, port: u16) -> UdpSocket {
    hosts.on(Host::Registrar, || {
        let socket = UdpSocket::bind((REGISTRAR, port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
}

/// A datagram at the registrar and where it came from.
fn arrived(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(length);
    (buffer, from)
}

const BOTH: &str = r#"
[pledges]
interfaces = ["radio0"]
[registrar]
mode = "both"
jpy = ["[2001:db8:2::2]:7634"]
coaps = ["[2001:db8:2::2]", "[2001:db8:2::2]:5999"]
https = ["[2001:db8:2::2]:8443"]
discover = []
[limits]
unanswered_seconds = 0
"#;

/// Requirements: JPX-009, JPX-021, JPX-022, JPX-028, JPX-029, JPX-031
#[test]
fn stateless_with_link_local_pledges_and_a_router() {
    let Some(hosts) = Hosts::for_test("stateless_with_link_local_pledges_and_a_router") else {
        return;
    };
    let registrar = bind(&hosts, 7634);
    let proxy = Proxy::start(&hosts, BOTH);
    let ports = proxy.ports(4);
    let port = port_of(&ports, Way::Stateless, 7634);
    let one = pledge(&hosts, 0xa1, port);
    let two = pledge(&hosts, 0xa2, port);
    let every_byte: Vec<u8> = (0..=255).cycle().take(1200).collect();
    one.send(&every_byte).unwrap();
    let (message, proxy_address) = arrived(&registrar);
    assert_eq!(proxy_address.ip().to_string(), "2001:db8:1::2");
    let jpy = Jpy::decode(&message).unwrap();
    assert_eq!(jpy.content, every_byte);
    assert!(jpy.header.len() <= 32);
    assert!(!jpy.header.ends_with(&[0xa1]));
    let of_one = jpy.header.to_vec();
    two.send(b"two").unwrap();
    let (message, from) = arrived(&registrar);
    assert_eq!(from, proxy_address);
    let of_two = Jpy::decode(&message).unwrap().header.to_vec();
    assert_ne!(of_one, of_two);
    one.send(b"again").unwrap();
    let (message, _) = arrived(&registrar);
    assert_eq!(Jpy::decode(&message).unwrap().header, of_one);
    let reply = |header: &[u8], content: &[u8]| Jpy { header, content }.encode();
    // What is forged, not JPY, or from elsewhere reaches nobody; the last one shows that the
    // others would have been here by now.
    let mut forged = of_one.clone();
    forged[5] ^= 1;
    registrar
        .send_to(&reply(&forged, b"forged"), proxy_address)
        .unwrap();
    registrar.send_to(b"not JPY", proxy_address).unwrap();
    registrar
        .send_to(&reply(&of_one, b""), proxy_address)
        .unwrap();
    let elsewhere = bind(&hosts, 7635);
    elsewhere
        .send_to(&reply(&of_one, b"elsewhere"), proxy_address)
        .unwrap();
    registrar
        .send_to(&reply(&of_one, &every_byte), proxy_address)
        .unwrap();
    registrar
        .send_to(&reply(&of_two, b"for two"), proxy_address)
        .unwrap();
    assert_eq!(receive(&one), every_byte);
    assert_eq!(receive(&two), b"for two");
    // A pledge with a routable address is not helped.
    let routable = pledge_at(&hosts, "2001:db8:9::a1".parse().unwrap(), port);
    routable.send(b"routable").unwrap();
    one.send(b"link-local").unwrap();
    let (message, _) = arrived(&registrar);
    assert_eq!(Jpy::decode(&message).unwrap().content, b"link-local");
}

/// Requirements: JPX-008, JPX-009, JPX-012, JPX-013, JPX-014, JPX-015
#[test]
fn stateful_with_link_local_pledges_and_a_router() {
    let Some(hosts) = Hosts::for_test("stateful_with_link_local_pledges_and_a_router") else {
        return;
    };
    let registrar = bind(&hosts, 5684);
    let proxy = Proxy::start(&hosts, BOTH);
    let ports = proxy.ports(4);
    let port = port_of(&ports, Way::Stateful, 5684);
    let every_byte: Vec<u8> = (0..=255).cycle().take(1200).collect();
    let mut pledges = Vec::new();
    let mut sources = HashSet::new();
    // Two from the first address, one from each of eight more.
    for host in [0xa1, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9] {
        let socket = pledge(&hosts, host, port);
        socket.send(&every_byte).unwrap();
        let (datagram, from) = arrived(&registrar);
        assert_eq!(datagram, every_byte);
        assert!(sources.insert(from), "{from} serves two pledges");
        registrar.send_to(&every_byte, from).unwrap();
        assert_eq!(receive(&socket), every_byte);
        pledges.push((socket, from));
    }
    // The third of one address and the eleventh of the link are told that it is prohibited.
    for host in [0xa1, 0xaa] {
        let socket = pledge(&hosts, host, port);
        socket.send(b"too many").unwrap();
        let error = socket.recv(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{host:x}");
    }
    // Whoever was there goes on with the port it had.
    for (socket, from) in &pledges {
        socket.send(b"more").unwrap();
        assert_eq!(arrived(&registrar), (b"more".to_vec(), *from));
    }
    // Nobody is at the other registrar's port: the pledge gets the same error.
    drop(proxy);
    let proxy = Proxy::start(&hosts, BOTH);
    let ports = proxy.ports(4);
    let port = port_of(&ports, Way::Stateful, 5999);
    let socket = pledge(&hosts, 0xa1, port);
    socket.send(b"hello").unwrap();
    let error = socket.recv(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Requirements: BRSKI-4-01, BRSKI-4-02
#[test]
fn circuit_with_link_local_pledges_and_a_router() {
    let Some(hosts) = Hosts::for_test("circuit_with_link_local_pledges_and_a_router") else {
        return;
    };
    let listener = hosts.on(Host::Registrar, || {
        TcpListener::bind((REGISTRAR, 8443)).unwrap()
    });
    let registrar = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        let mut got = Vec::new();
        // The pledge says that it sends no more, and still gets the answer.
        stream.read_to_end(&mut got).unwrap();
        got.reverse();
        stream.write_all(&got).unwrap();
        from
    });
    let proxy = Proxy::start(&hosts, BOTH);
    let port = port_of(&proxy.ports(4), Way::Circuit, 8443);
    let mut stream = hosts.on(Host::Pledge, || {
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        TcpStream::connect(SocketAddrV6::new(address, port, 0, scope("eth0"))).unwrap()
    });
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..=255).cycle().take(200_001).collect();
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got.reverse();
    assert!(
        got == sent,
        "{} of {} bytes came back",
        got.len(),
        sent.len()
    );
    let from = registrar.join().unwrap();
    assert_eq!(from.ip().to_string(), "2001:db8:1::2");
}

fn question(query: &str, token: u8) -> Vec<u8> {
    let token = Token::new(&[token]).unwrap();
    let mut message = Message::new(
        Kind::NonConfirmable,
        Code::GET,
        u16::from(token.as_bytes()[0]),
        token,
    );
    message.add(option::URI_PATH, ".well-known");
    message.add(option::URI_PATH, "core");
    message.add(option::URI_QUERY, query);
    message.encode().unwrap()
}

fn multicast(hosts: &Hosts, group: &str, port: u16) -> (UdpSocket, SocketAddr) {
    let group: Ipv6Addr = group.parse().unwrap();
    hosts.on(Host::Pledge, || {
        let scope = scope("eth0");
        let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa1);
        let socket = UdpSocket::bind(SocketAddrV6::new(own, 0, 0, scope)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = SocketAddr::V6(SocketAddrV6::new(group, port, 0, scope));
        (socket, to)
    })
}

/// A member of the group of multicast DNS on one link.
fn group_member(hosts: &Hosts, host: Host, interface: &str) -> UdpSocket {
    hosts.on(host, || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 5353)).unwrap();
        let group = "ff02::fb".parse().unwrap();
        socket.join_multicast_v6(&group, scope(interface)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
}

/// Requirements: JPX-044, JPX-045, JPX-051, JPX-052, CBR-146
#[test]
fn pledges_find_the_proxy_on_their_link() {
    let Some(hosts) = Hosts::for_test("pledges_find_the_proxy_on_their_link") else {
        return;
    };
    let heard = group_member(&hosts, Host::Pledge, "eth0");
    let proxy = Proxy::start(&hosts, BOTH);
    let ports = proxy.ports(4);
    let join: HashSet<u16> = ports
        .iter()
        .filter(|(way, _, _)| *way != Way::Circuit)
        .map(|(_, port, _)| *port)
        .collect();
    let (socket, group) = multicast(&hosts, "ff02::fd", 5683);
    socket.send_to(&question("rt=foo", 1), group).unwrap();
    socket.send_to(&question("brski-jp=*", 2), group).unwrap();
    let (answer, from) = arrived(&socket);
    assert_eq!(from.ip().to_string(), "fe80::1");
    assert_eq!(from.port(), 5683);
    let answer = Message::decode(&answer).unwrap();
    assert_eq!(answer.token.as_bytes(), [2]);
    assert_eq!(answer.uint(option::CONTENT_FORMAT), Some(40));
    let text = String::from_utf8(answer.payload).unwrap();
    let told: HashSet<u16> = link::decode(&text)
        .unwrap()
        .iter()
        .map(|link| {
            assert_eq!(link.target, "");
            link.attribute("brski-jp").unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(told, join);
    // The same by multicast DNS, unasked and asked.
    let mut unasked = HashSet::new();
    while unasked.len() < 3 {
        let message = DnsMessage::from_vec(&receive(&heard)).unwrap();
        unasked.extend(
            message
                .answers
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some(srv.port),
                    _ => None,
                }),
        );
    }
    assert!(join.is_subset(&unasked));
    for (name, way) in [
        ("_brski-proxy._udp.local.", None),
        ("_brski-jp._udp.local.", None),
        ("_brski-proxy._tcp.local.", Some(Way::Circuit)),
    ] {
        let (socket, group) = multicast(&hosts, "ff02::fb", 5353);
        let mut message = DnsMessage::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(
            Name::from_ascii(name).unwrap(),
            RecordType::PTR,
        ));
        socket.send_to(&message.to_vec().unwrap(), group).unwrap();
        let (answer, from) = arrived(&socket);
        assert_eq!(from.ip().to_string(), "fe80::1");
        let answer = DnsMessage::from_vec(&answer).unwrap();
        let told: HashSet<u16> = answer
            .additionals
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(srv.port),
                _ => None,
            })
            .collect();
        let expected = match way {
            None => join.clone(),
            Some(way) => HashSet::from([port_of(&ports, way, 8443)]),
        };
        assert_eq!(told, expected, "{name}");
    }
}

/// Answers questions for registrars at the group of the site, on the router: multicast routing is
/// not our business. Tells what was asked.
fn answer_on_router(
    hosts: &Hosts,
    answers: &'static [(&'static str, &'static str)],
) -> Receiver<String> {
    let socket = hosts.on(Host::Router, || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 5683)).unwrap();
        let group = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xfd);
        socket.join_multicast_v6(&group, scope("down0")).unwrap();
        socket
    });
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let asked = Message::decode(&buffer[..length]).unwrap();
            let query =
                String::from_utf8(asked.value(option::URI_QUERY).unwrap().to_vec()).unwrap();
            let found = answers.iter().find(|(known, _)| *known == query);
            if let Some((_, payload)) = found {
                let mut answer = Message::new(Kind::NonConfirmable, Code::CONTENT, 9, asked.token);
                answer.add_uint(option::CONTENT_FORMAT, 40);
                answer.payload = payload.as_bytes().to_vec();
                socket.send_to(&answer.encode().unwrap(), from).unwrap();
            }
            if tell.send(query).is_err() {
                return;
            }
        }
    });
    told
}

const SEARCHING: &str = r#"
[pledges]
interfaces = ["radio0"]
[registrar]
interfaces = ["up0"]
"#;

const JPY_OFFER: (&str, &str) = (
    "rt=brski.rjp",
    "<jpy://[2001:db8:2::2]:7634/ignored>;rt=brski.rjp,<jpy://[2001:db8:2::3]>;rt=brski.rjp",
);
const COAPS_OFFER: (&str, &str) = ("rt=brski", "<coaps://[2001:db8:2::2]/b>;rt=brski");

/// Requirements: JPX-001, JPX-002, JPX-023, JPX-024, JPX-037
#[test]
fn a_registrar_with_a_jpy_port_is_found() {
    let Some(hosts) = Hosts::for_test("a_registrar_with_a_jpy_port_is_found") else {
        return;
    };
    let asked = answer_on_router(&hosts, &[JPY_OFFER, COAPS_OFFER]);
    let registrar = bind(&hosts, 7634);
    let proxy = Proxy::start(&hosts, SEARCHING);
    let questions: HashSet<String> = (0..2)
        .map(|_| asked.recv_timeout(PATIENCE).unwrap())
        .collect();
    assert!(questions.contains("rt=brski.rjp") && questions.contains("rt=brski"));
    let ports = proxy.ports(1);
    let port = port_of(&ports, Way::Stateless, 7634);
    pledge(&hosts, 0xa1, port).send(b"hello").unwrap();
    assert_eq!(
        Jpy::decode(&arrived(&registrar).0).unwrap().content,
        b"hello"
    );
}

/// Requirements: JPX-001, JPX-003, JPX-004, JPX-041, JPX-043
#[test]
fn a_registrar_without_a_jpy_port_is_found() {
    let Some(hosts) = Hosts::for_test("a_registrar_without_a_jpy_port_is_found") else {
        return;
    };
    let registrar = bind(&hosts, 5684);
    let proxy = Proxy::start(&hosts, SEARCHING);
    // As long as nobody answers there is no port, and nothing is told.
    assert!(proxy.ports(0).is_empty());
    let _asked = answer_on_router(&hosts, &[COAPS_OFFER]);
    let ports = proxy.ports(1);
    let port = port_of(&ports, Way::Stateful, 5684);
    pledge(&hosts, 0xa1, port).send(b"hello").unwrap();
    assert_eq!(arrived(&registrar).0, b"hello");
}

/// Requirements: JPX-052
#[test]
fn a_registrar_is_found_by_multicast_dns() {
    let Some(hosts) = Hosts::for_test("a_registrar_is_found_by_multicast_dns") else {
        return;
    };
    let registrar = bind(&hosts, 7634);
    let group = group_member(&hosts, Host::Router, "down0");
    std::thread::spawn(move || {
        let names = [
            "_brski-rjp._udp.local.",
            "r._brski-rjp._udp.local.",
            "r.local.",
        ];
        let [service, instance, host] = names.map(|name| Name::from_ascii(name).unwrap());
        let mut buffer = [0; 9000];
        while let Ok((length, from)) = group.recv_from(&mut buffer) {
            let asked = DnsMessage::from_vec(&buffer[..length]).unwrap();
            if asked.queries.iter().all(|query| query.name != service) {
                continue;
            }
            let mut answer =
                DnsMessage::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            let record = |name: &Name, data| Record::from_rdata(name.clone(), 10, data);
            answer.add_answer(record(&service, RData::PTR(PTR(instance.clone()))));
            answer.add_additionals([
                record(&instance, RData::SRV(SRV::new(0, 0, 7634, host.clone()))),
                record(&host, RData::AAAA(AAAA(REGISTRAR))),
            ]);
            group.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    });
    let proxy = Proxy::start(
        &hosts,
        "[pledges]\ninterfaces = [\"radio0\"]\n\
         [registrar]\ndiscover = [\"mdns\"]\ninterfaces = [\"up0\"]\n",
    );
    let port = port_of(&proxy.ports(1), Way::Stateless, 7634);
    pledge(&hosts, 0xa1, port).send(b"hello").unwrap();
    assert_eq!(
        Jpy::decode(&arrived(&registrar).0).unwrap().content,
        b"hello"
    );
}

/// Requirements: JPX-021
#[test]
fn a_proxy_whose_address_changes_goes_on() {
    let Some(hosts) = Hosts::for_test("a_proxy_whose_address_changes_goes_on") else {
        return;
    };
    let registrar = bind(&hosts, 7634);
    let proxy = Proxy::start(&hosts, BOTH);
    let port = port_of(&proxy.ports(4), Way::Stateless, 7634);
    let pledge = pledge(&hosts, 0xa1, port);
    pledge.send(b"before").unwrap();
    let (message, from) = arrived(&registrar);
    assert_eq!(from.ip().to_string(), "2001:db8:1::2");
    let header = Jpy::decode(&message).unwrap().header.to_vec();
    for arguments in [
        ["addr", "add", "2001:db8:1::3/64", "dev", "up0", "nodad"].as_slice(),
        &["addr", "del", "2001:db8:1::2/64", "dev", "up0"],
    ] {
        let done = hosts.command(Host::Proxy, "ip").args(arguments).status();
        assert!(done.unwrap().success());
    }
    // The pledge asks again, as pledges do, until it is answered.
    pledge
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    registrar
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let until = Instant::now() + PATIENCE;
    let from = loop {
        assert!(Instant::now() < until, "the proxy does not move");
        pledge.send(b"after").unwrap();
        let mut buffer = [0; 2000];
        if let Ok((length, from)) = registrar.recv_from(&mut buffer) {
            let jpy = Jpy::decode(&buffer[..length]).unwrap();
            assert_eq!(
                (jpy.content, jpy.header),
                (b"after".as_slice(), &header[..])
            );
            if from.ip().to_string() == "2001:db8:1::3" {
                break from;
            }
        }
    };
    let answer = Jpy {
        header: &header,
        content: b"good",
    };
    registrar.send_to(&answer.encode(), from).unwrap();
    pledge.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(receive(&pledge), b"good");
}
