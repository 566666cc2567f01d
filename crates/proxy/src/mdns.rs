//! Multicast DNS: service discovery of the proxy and of registrars,
//! [RFC 8995 appendix B](https://www.rfc-editor.org/rfc/rfc8995.html#appendix-B).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::relay::{is_link_local, is_link_local_v6};
use crate::server::{LinkState, Shared};
use crate::target::{Service, Target};
use crate::targets::is_host;

/// The port of multicast DNS.
const PORT: u16 = 5353;
/// Largest multicast DNS message
/// ([RFC 6762 §17](https://www.rfc-editor.org/rfc/rfc6762.html#section-17)).
const MESSAGE_MAX: usize = 9000;
/// How long answers of registrars are waited for: nobody may take longer than half a second, but
/// on a radio a message may have to be sent again.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// How long a socket that has an error is left alone.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Seconds for which others may keep our records, and one that asks as in unicast DNS.
const TTL: u32 = 120;
const LEGACY_TTL: u32 = 10;
/// How often, and how far apart, what is new is said unasked
/// ([RFC 6762 §8.3](https://www.rfc-editor.org/rfc/rfc6762.html#section-8.3)).
const ANNOUNCEMENTS: u32 = 2;
const NEWS_PERIOD: Duration = Duration::from_secs(1);
/// Questions of one message that are looked at.
const QUESTIONS_MAX: usize = 16;
/// Records of one answer that are looked at.
const RECORDS_MAX: usize = 64;

/// The names under which the join ports and the circuit port are found. The drafts do not agree on
/// one for UDP: cBRSKI §11.3 has the first, the join proxy draft §8.4 registers the second.
const UDP_SERVICES: [&str; 2] = ["_brski-proxy._udp.local.", "_brski-jp._udp.local."];
const TCP_SERVICES: [&str; 1] = ["_brski-proxy._tcp.local."];

/// The name under which registrars are found.
const fn registrar_service(service: Service) -> Option<&'static str> {
    match service {
        Service::Https => Some("_brski-registrar._tcp.local."),
        Service::Jpy => Some("_brski-rjp._udp.local."),
        Service::Coaps => None,
    }
}

/// The ports of one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Join ports.
    pub(crate) udp: Vec<u16>,
    /// Ports of the circuit proxy.
    pub(crate) tcp: Vec<u16>,
}

impl Ports {
    /// Each port with the name of its service.
    fn offers(&self) -> impl Iterator<Item = (&'static str, u16)> {
        let udp = UDP_SERVICES
            .iter()
            .flat_map(|service| self.udp.iter().map(|port| (*service, *port)));
        let tcp = TCP_SERVICES
            .iter()
            .flat_map(|service| self.tcp.iter().map(|port| (*service, *port)));
        udp.chain(tcp)
    }

    /// What of this is not in the other.
    fn without(&self, other: &Self) -> Self {
        let only = |ours: &[u16], theirs: &[u16]| {
            let ours = ours.iter().filter(|port| !theirs.contains(port));
            ours.copied().collect()
        };
        Self {
            udp: only(&self.udp, &other.udp),
            tcp: only(&self.tcp, &other.tcp),
        }
    }
}

/// The names of a service and of its instance at a port.
fn names(service: &str, port: u16) -> Option<(Name, Name)> {
    let service = Name::from_ascii(service).ok()?;
    let instance = Name::from_ascii(format!("usher-{port}"))
        .and_then(|name| name.append_domain(&service))
        .ok()?;
    Some((service, instance))
}

fn address_record(host: &Name, ttl: u32, own: IpAddr) -> Record {
    let data = match own {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(host.clone(), ttl, data)
}

/// What is said unasked: where pledges are helped, or with a TTL of 0 where they are not any more.
fn announcement(ports: &Ports, own: IpAddr, ttl: u32) -> Option<Vec<u8>> {
    let host = host_name(own)?;
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    let record = |name: &Name, data| Record::from_rdata(name.clone(), ttl, data);
    for (service, port) in ports.offers() {
        let (service, instance) = names(service, port)?;
        let srv = RData::SRV(SRV::new(0, 0, port, host.clone()));
        let txt = RData::TXT(TXT::from_bytes(vec![b""]));
        message.add_answers([
            record(&service, RData::PTR(PTR(instance.clone()))),
            record(&instance, srv),
            record(&instance, txt),
        ]);
    }
    if message.answers.is_empty() {
        return None;
    }
    if ttl > 0 {
        message.add_answer(address_record(&host, ttl, own));
    }
    message.to_vec().ok()
}

/// What was said unasked, and how often it is to be said again.
#[derive(Default)]
struct News {
    told: Ports,
    left: u32,
}

impl News {
    /// What is to be said now; to be asked once a second.
    fn messages(&mut self, ports: Ports, own: IpAddr) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        if ports != self.told {
            messages.extend(announcement(&self.told.without(&ports), own, 0));
            self.told = ports;
            self.left = ANNOUNCEMENTS;
        }
        if self.left > 0 {
            self.left -= 1;
            messages.extend(announcement(&self.told, own, TTL));
        }
        messages
    }
}

/// What goes back.
struct Answer {
    message: Vec<u8>,
    /// Whether it goes to the one that asked alone, and not to the group.
    unicast: bool,
}

/// The answer to a message; nothing where nothing of it is ours.
fn answer(octets: &[u8], from_port: u16, ports: &Ports, own: IpAddr) -> Option<Answer> {
    let question = Message::from_vec(octets).ok()?;
    let header = &question.metadata;
    if header.message_type != MessageType::Query || header.op_code != OpCode::Query {
        return None;
    }
    let legacy = from_port != PORT;
    let id = if legacy { header.id } else { 0 };
    let mut answer = Message::new(id, MessageType::Response, OpCode::Query);
    answer.metadata.authoritative = true;
    let mut unicast = legacy;
    for query in question.queries.iter().take(QUESTIONS_MAX) {
        if query.query_class != DNSClass::IN {
            continue;
        }
        let (answers, additionals) = records(query, legacy, ports, own);
        if answers.is_empty() {
            continue;
        }
        unicast |= query.mdns_unicast_response;
        if legacy {
            answer.add_query(query.clone());
        }
        answer.add_answers(answers);
        answer.add_additionals(additionals);
    }
    // What the one that asks knows already is not said again.
    answer.answers.retain(|ours| {
        !question.answers.iter().any(|known| {
            known.name == ours.name && known.data == ours.data && known.ttl >= ours.ttl / 2
        })
    });
    if answer.answers.is_empty() {
        return None;
    }
    let message = answer.to_vec().ok()?;
    Some(Answer { message, unicast })
}

fn records(query: &Query, legacy: bool, ports: &Ports, own: IpAddr) -> (Vec<Record>, Vec<Record>) {
    let ttl = if legacy { LEGACY_TTL } else { TTL };
    let record = |name: &Name, data| Record::from_rdata(name.clone(), ttl, data);
    let wants = |kind| query.query_type == kind || query.query_type == RecordType::ANY;
    let Some(host) = host_name(own) else {
        return (Vec::new(), Vec::new());
    };
    let (mut answers, mut additionals) = (Vec::new(), Vec::new());
    for (service, port) in ports.offers() {
        let Some((service, instance)) = names(service, port) else {
            continue;
        };
        let srv = record(&instance, RData::SRV(SRV::new(0, 0, port, host.clone())));
        let txt = record(&instance, RData::TXT(TXT::from_bytes(vec![b""])));
        if query.name == service && wants(RecordType::PTR) {
            answers.push(record(&service, RData::PTR(PTR(instance))));
            additionals.extend([srv, txt]);
        } else if query.name == instance {
            answers.extend(wants(RecordType::SRV).then_some(srv));
            answers.extend(wants(RecordType::TXT).then_some(txt));
        }
    }
    let host_record = address_record(&host, ttl, own);
    if query.name == host && wants(host_record.record_type()) {
        answers.push(host_record);
    } else if !answers.is_empty() {
        additionals.push(host_record);
    }
    (answers, additionals)
}

/// A name for an address, the same each time.
fn host_name(own: IpAddr) -> Option<Name> {
    let label = own.to_string().replace([':', '.'], "-");
    Name::from_ascii(format!("brski-proxy-{label}.local.")).ok()
}

/// A question for registrars; `None` where no name is registered.
fn question(service: Service, id: u16) -> Option<Vec<u8>> {
    let name = Name::from_ascii(registrar_service(service)?).ok()?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name, RecordType::PTR));
    message.to_vec().ok()
}

/// The places of an answer.
fn targets(octets: &[u8], service: Service, id: u16, from: SocketAddr) -> Vec<Target> {
    let (Ok(message), Some(wanted)) = (Message::from_vec(octets), registrar_service(service))
    else {
        return Vec::new();
    };
    let Ok(wanted) = Name::from_ascii(wanted) else {
        return Vec::new();
    };
    let header = &message.metadata;
    if header.message_type != MessageType::Response
        || !matches!(header.id, given if given == id || given == 0)
    {
        return Vec::new();
    }
    let mut instances = Vec::new();
    let mut services = Vec::new();
    let mut addresses: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    let records = message.answers.iter().chain(&message.additionals);
    for record in records.take(RECORDS_MAX) {
        match &record.data {
            RData::PTR(PTR(instance)) if record.name == wanted => instances.push(instance.clone()),
            RData::SRV(srv) => services.push((record.name.clone(), srv.target.clone(), srv.port)),
            RData::A(A(address)) => addresses
                .entry(record.name.clone())
                .or_default()
                .push(IpAddr::V4(*address)),
            RData::AAAA(AAAA(address)) => addresses
                .entry(record.name.clone())
                .or_default()
                .push(IpAddr::V6(*address)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (name, host, port) in services {
        if port == 0 || !instances.contains(&name) {
            continue;
        }
        // One address is enough; a routable one before one of the link.
        // Nobody on the link may send us, and pledges through us, to what only this host can reach.
        let mut of_host = addresses.get(&host).cloned().unwrap_or_default();
        of_host.retain(|address| match address {
            IpAddr::V6(v6) if is_link_local_v6(*v6) => true,
            other => is_host(*other),
        });
        of_host.sort_by_key(|address| is_link_local(*address));
        let Some(ip) = of_host.first().copied() else {
            continue;
        };
        let address = match (ip, from) {
            (IpAddr::V6(ip), SocketAddr::V6(from)) if is_link_local(IpAddr::V6(ip)) => {
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, from.scope_id()))
            }
            _ => SocketAddr::new(ip, port),
        };
        found.push(Target { service, address });
    }
    found
}

/// Answers on one link.
pub(crate) struct Responder {
    socket: UdpSocket,
    link: Arc<LinkState>,
}

impl Responder {
    /// Opens the socket. Others on this host may have one like it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(link: Arc<LinkState>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        let at = &link.link;
        if let Some(name) = at.interface() {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
        socket.join_multicast_v6(&GROUP, at.scope)?;
        socket.set_multicast_if_v6(at.scope)?;
        socket.set_multicast_hops_v6(255)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, link })
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, shared: Arc<Shared>) {
        let at = &self.link.link;
        let group = at.with(IpAddr::V6(GROUP), PORT);
        let mut buffer = vec![0; MESSAGE_MAX];
        let mut news = News::default();
        let mut timer = tokio::time::interval(NEWS_PERIOD);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                _ = timer.tick() => {
                    for message in news.messages(shared.ports_at(at), at.address) {
                        if self.socket.send_to(&message, group).await.is_err() {
                            shared.counters.lost("proxy.unsent");
                        }
                    }
                    continue;
                }
            };
            let Ok((length, from)) = received else {
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            };
            if self.link.check(from.ip()).is_err() {
                continue;
            }
            let ports = shared.ports_at(at);
            let question = buffer.get(..length).unwrap_or_default();
            let Some(answer) = answer(question, from.port(), &ports, at.address) else {
                continue;
            };
            // The questions of everybody on the link come by here; those that are answered count.
            let admitted = self.link.limiter().admit(shared.now(), from, length);
            if let Err(refusal) = admitted {
                shared.counters.refused(refusal);
                continue;
            }
            let to = if answer.unicast { from } else { group };
            if self.socket.send_to(&answer.message, to).await.is_err() {
                shared.counters.lost("proxy.unsent");
            }
        }
    }
}

/// Asks for registrars on the link of this interface; 0 leaves it to the routing table.
///
/// # Errors
/// What the system says of the socket.
pub(crate) async fn find(service: Service, scope: u32) -> io::Result<Vec<Target>> {
    let id = rand::random();
    let Some(question) = question(service, id) else {
        return Ok(Vec::new());
    };
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_only_v6(true)?;
    socket.set_multicast_hops_v6(255)?;
    if scope != 0 {
        socket.set_multicast_if_v6(scope)?;
    }
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let group = SocketAddr::V6(SocketAddrV6::new(GROUP, PORT, 0, scope));
    socket.send_to(&question, group).await?;
    let until = Instant::now() + ANSWER_TIME;
    let mut found = Vec::new();
    let mut buffer = vec![0; MESSAGE_MAX];
    while let Ok(received) = timeout_at(until, socket.recv_from(&mut buffer)).await {
        let (length, from) = received?;
        found.extend(targets(
            buffer.get(..length).unwrap_or_default(),
            service,
            id,
            from,
        ));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports() -> Ports {
        Ports {
            udp: vec![8485],
            tcp: vec![8443],
        }
    }

    fn asked(name: &str, kind: RecordType, port: u16) -> Option<Answer> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        answer(
            &message.to_vec().unwrap(),
            port,
            &ports(),
            "fe80::1".parse().unwrap(),
        )
    }

    /// Requirements: JPX-052, CBR-146
    #[test]
    fn the_proxy_is_found_under_each_name() {
        for (name, port) in [
            ("_brski-proxy._udp.local.", 8485),
            ("_brski-jp._udp.local.", 8485),
            ("_brski-proxy._tcp.local.", 8443),
        ] {
            let found = asked(name, RecordType::PTR, 40_000).unwrap();
            assert!(found.unicast);
            let message = Message::from_vec(&found.message).unwrap();
            assert_eq!(
                (message.metadata.id, message.answers.len()),
                (7, 1),
                "{name}"
            );
            let port_said = message
                .additionals
                .iter()
                .find_map(|record| match &record.data {
                    RData::SRV(srv) => Some(srv.port),
                    _ => None,
                });
            assert_eq!(port_said, Some(port));
            assert!(message.additionals.iter().any(|record| matches!(
                &record.data,
                RData::AAAA(AAAA(address)) if address.to_string() == "fe80::1"
            )));
            let shared = asked(name, RecordType::PTR, PORT).unwrap();
            assert!(!shared.unicast);
            assert_eq!(Message::from_vec(&shared.message).unwrap().metadata.id, 0);
        }
        assert!(asked("_sztp._tcp.local.", RecordType::PTR, 1).is_none());
        assert!(asked("_brski-proxy._udp.local.", RecordType::TXT, 1).is_none());
        let srv = asked("usher-8485._brski-jp._udp.local.", RecordType::SRV, 1);
        assert_eq!(
            Message::from_vec(&srv.unwrap().message)
                .unwrap()
                .answers
                .len(),
            1
        );
    }

    /// Requirements: JPX-052
    #[test]
    fn what_is_new_is_said_unasked() {
        let own = "fe80::1".parse().unwrap();
        let mut news = News::default();
        let mut said = |ports: &Ports| -> Vec<(u32, usize)> {
            let messages = news.messages(ports.clone(), own);
            let read = |octets: &Vec<u8>| {
                let message = Message::from_vec(octets).unwrap();
                assert_eq!(message.metadata.message_type, MessageType::Response);
                (message.answers[0].ttl, message.answers.len())
            };
            messages.iter().map(read).collect()
        };
        assert_eq!(said(&Ports::default()), []);
        // Two names for UDP and one for TCP with three records each, and the address.
        assert_eq!(said(&ports()), [(TTL, 10)]);
        assert_eq!(said(&ports()), [(TTL, 10)]);
        assert_eq!(said(&ports()), []);
        let fewer = Ports {
            tcp: Vec::new(),
            ..ports()
        };
        assert_eq!(said(&fewer), [(0, 3), (TTL, 7)]);
        assert_eq!(said(&fewer), [(TTL, 7)]);
        assert_eq!(said(&Ports::default()), [(0, 6)]);
        assert_eq!(said(&Ports::default()), []);
    }

    /// Requirements: JPX-052
    #[test]
    fn registrars_are_found() {
        let service = Name::from_ascii("_brski-registrar._tcp.local.").unwrap();
        let instance = Name::from_ascii("r._brski-registrar._tcp.local.").unwrap();
        let host = Name::from_ascii("r.local.").unwrap();
        let at = |addresses: &[&str], id, port, with_pointer: bool| {
            let mut message = Message::new(id, MessageType::Response, OpCode::Query);
            if with_pointer {
                let data = RData::PTR(PTR(instance.clone()));
                message.add_answer(Record::from_rdata(service.clone(), 10, data));
            }
            let data = RData::SRV(SRV::new(0, 0, port, host.clone()));
            message.add_additionals([Record::from_rdata(instance.clone(), 10, data)]);
            for address in addresses {
                let data = match address.parse().unwrap() {
                    IpAddr::V4(v4) => RData::A(A(v4)),
                    IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
                };
                message.add_additionals([Record::from_rdata(host.clone(), 10, data)]);
            }
            message.to_vec().unwrap()
        };
        let build =
            |id, port, with_pointer| at(&["fe80::7", "2001:db8::7"], id, port, with_pointer);
        let from: SocketAddr = "[fe80::7%3]:5353".parse().unwrap();
        let found = |octets: &[u8], service| targets(octets, service, 9, from);
        let good = found(&build(9, 8443, true), Service::Https);
        assert_eq!(good.len(), 1);
        assert_eq!(good[0].address.to_string(), "[2001:db8::7]:8443");
        assert!(found(&build(8, 8443, true), Service::Https).is_empty());
        assert!(found(&build(9, 0, true), Service::Https).is_empty());
        assert!(found(&build(9, 8443, false), Service::Https).is_empty());
        assert!(found(&build(9, 8443, true), Service::Jpy).is_empty());
        let near = found(&at(&["fe80::7"], 9, 8443, true), Service::Https);
        assert_eq!(near[0].address.to_string(), "[fe80::7%3]:8443");
        // What only this host can reach, or what is no host.
        for own in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "ff02::1",
        ] {
            let found = found(&at(&[own], 9, 8443, true), Service::Https);
            assert!(found.is_empty(), "{own}");
        }
        assert!(question(Service::Https, 1).is_some() && question(Service::Coaps, 1).is_none());
    }

    proptest! {
        #[test]
        fn nothing_from_the_link_fails_badly(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = answer(&octets, 1, &ports(), "fe80::1".parse().unwrap());
            let _ = targets(&octets, Service::Https, 1, "[fe80::1]:1".parse().unwrap());
        }
    }
}
