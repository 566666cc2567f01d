//! DNS: records of this very device, then records for all, each by multicast and then unicast.

use std::{
    collections::{HashSet, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use artifacts::bundle::BootstrappingData;
use pki::Coded;
use sztp::{
    agent::Server,
    dns::{
        Answer, Artefacts, LOCAL, MDNS_MESSAGE_MAX_BYTES, MESSAGE_MAX_BYTES, Question, Service,
        order,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout, timeout_at},
};

use crate::sztp::{Finding, Found, Next, Source, SourceError};

/// Most DNS servers that are asked.
const SERVERS_MAX: usize = 4;
/// Most domains in which records are looked for.
const DOMAINS_MAX: usize = 6;
/// How often a question is sent to each server.
const TRIES: u32 = 2;
/// How long a server has for an answer over UDP.
const UDP_WAIT: Duration = Duration::from_secs(2);
/// How long a server has for connection and answer over TCP.
const TCP_WAIT: Duration = Duration::from_secs(10);
/// Most datagrams that are looked at while an answer is awaited: others can send them too.
const DATAGRAMS_MAX: u32 = 200;
/// When a multicast question is sent again
/// ([RFC 6762 §5.2](https://www.rfc-editor.org/rfc/rfc6762.html#section-5.2): not within a
/// second).
const MULTICAST_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is sent.
const MULTICAST_TRIES: u32 = 3;
/// How long answers of more responders are collected after the first.
const MULTICAST_COLLECT: Duration = Duration::from_millis(150);
const MULTICAST_PORT: u16 = 5353;

/// Where multicast questions go out, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// The local address; its interface is the one that is used.
    pub bind: SocketAddr,
    /// The group.
    pub group: SocketAddr,
    /// How long answers are awaited before the question is sent again.
    pub interval: Duration,
}

impl Multicast {
    /// The group of multicast DNS, on the interface that has this address.
    #[must_use]
    pub fn on(interface: IpAddr) -> Self {
        let group = match interface {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb)),
        };
        Self {
            bind: (interface, 0).into(),
            group: (group, MULTICAST_PORT).into(),
            interval: MULTICAST_INTERVAL,
        }
    }
}

/// The records of a device's domains.
#[derive(Debug)]
pub struct DnsSource {
    serial: String,
    domains: Vec<String>,
    servers: Vec<SocketAddr>,
    multicast: Option<Multicast>,
    left: VecDeque<Question>,
}

impl DnsSource {
    /// Looks in these domains, by asking these servers.
    ///
    /// # Errors
    ///
    /// A domain that is no DNS name.
    pub fn new(
        serial: &str,
        domains: &[String],
        servers: Vec<SocketAddr>,
    ) -> Result<Self, SourceError> {
        for domain in domains {
            Question::service(domain).map_err(|error| coded(&error))?;
        }
        let mut source = Self {
            serial: serial.to_owned(),
            domains: domains.iter().take(DOMAINS_MAX).cloned().collect(),
            servers: servers.into_iter().take(SERVERS_MAX).collect(),
            multicast: None,
            left: VecDeque::new(),
        };
        source.left = source.questions();
        Ok(source)
    }

    /// Asks by multicast too.
    #[must_use]
    pub fn with_multicast(mut self, multicast: Multicast) -> Self {
        self.multicast = Some(multicast);
        self.left = self.questions();
        self
    }

    /// All questions in the order in which they are asked.
    fn questions(&self) -> VecDeque<Question> {
        // SZTP-8572-4.2.1-02: devices MUST first query using multicast DNS and then, only if
        // doing so does not result in a successful bootstrap, MUST query again using unicast DNS.
        let local = self.multicast.map(|_| LOCAL);
        let domains = || {
            local
                .into_iter()
                .chain(self.domains.iter().map(String::as_str))
        };
        // SZTP-8572-4.2.1-01: devices MUST first query for device-specific DNS records and then,
        // only if doing so does not result in a successful bootstrap, for device-independent ones.
        // A serial number that is no label has no records of its own.
        let specific = domains().filter_map(|domain| Question::device(&self.serial, domain).ok());
        let general = domains().filter_map(|domain| Question::service(domain).ok());
        specific.chain(general).collect()
    }

    async fn ask(&self, question: &Question) -> Result<Option<Finding>, SourceError> {
        let (answer, from) = if question.is_multicast() {
            let Some(multicast) = self.multicast else {
                return Ok(None);
            };
            match ask_by_multicast(question, multicast).await {
                Ok(found) => found,
                Err(error) => return Err(failed(question, &error)),
            }
        } else {
            self.ask_servers(question).await?
        };
        let name = format!("{} {} from {from}", question.record_type(), question.name());
        Ok(match answer {
            Answer::Artefacts(artefacts) => data(artefacts).map(|data| Finding {
                name,
                found: Found::Data(data),
            }),
            Answer::Services(services) => {
                let servers = servers(services);
                (!servers.is_empty()).then_some(Finding {
                    name,
                    found: Found::Servers(servers),
                })
            }
            Answer::Nothing | Answer::Truncated => None,
        })
    }

    /// The first server that answers is believed: all are equal, and none is trusted.
    async fn ask_servers(&self, question: &Question) -> Result<(Answer, String), SourceError> {
        let mut last = SourceError::new("dns.no-server", "there is no DNS server to ask");
        for server in &self.servers {
            for _ in 0..TRIES {
                match ask_server(question, *server).await {
                    Ok((answer, transport)) => {
                        return Ok((answer, format!("{server} over {transport}")));
                    }
                    Err(Failed::Server(error)) => {
                        // It will say the same again.
                        last = SourceError::new(
                            error.code(),
                            format!("{} at {server}: {error}", question.name()),
                        );
                        break;
                    }
                    Err(Failed::Io(error)) => {
                        last = SourceError::new(
                            "dns.no-answer",
                            format!("{} at {server}: {error}", question.name()),
                        );
                    }
                }
            }
        }
        Err(last)
    }
}

impl Source for DnsSource {
    fn name(&self) -> &str {
        "dns"
    }

    fn next(&mut self) -> Next<'_> {
        Box::pin(async move {
            while let Some(question) = self.left.pop_front() {
                if let Some(finding) = self.ask(&question).await? {
                    return Ok(Some(finding));
                }
            }
            Ok(None)
        })
    }

    fn rewind(&mut self) {
        self.left = self.questions();
    }
}

enum Failed {
    Io(io::Error),
    Server(sztp::dns::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sztp::dns::Error> for Failed {
    fn from(error: sztp::dns::Error) -> Self {
        Self::Server(error)
    }
}

async fn ask_server(
    question: &Question,
    server: SocketAddr,
) -> Result<(Answer, &'static str), Failed> {
    match over_udp(question, server).await? {
        // SZTP-8572-4.2.4-02: DNS Transport over TCP will be required in order to return signed
        // data.
        Answer::Truncated => {
            let over = timeout(TCP_WAIT, over_tcp(question, server)).await;
            let answer = over.map_err(|_| timed_out())??;
            Ok((answer, "TCP"))
        }
        answer => Ok((answer, "UDP")),
    }
}

async fn over_udp(question: &Question, server: SocketAddr) -> Result<Answer, Failed> {
    let id = rand::random();
    let bind: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A port by chance and an answer from the server's address only.
    let socket = UdpSocket::bind(bind).await?;
    socket.connect(server).await?;
    socket.send(&question.ask(id)?).await?;
    let deadline = Instant::now() + UDP_WAIT;
    let mut buffer = vec![0; MESSAGE_MAX_BYTES];
    for _ in 0..DATAGRAMS_MAX {
        let received = timeout_at(deadline, socket.recv(&mut buffer)).await;
        let size = received.map_err(|_| timed_out())??;
        match question.read(id, buffer.get(..size).unwrap_or_default()) {
            // Somebody else's guess must not end the wait for the answer.
            Err(sztp::dns::Error::Malformed(_) | sztp::dns::Error::Unrelated) => {}
            answer => return Ok(answer?),
        }
    }
    Err(timed_out().into())
}

async fn over_tcp(question: &Question, server: SocketAddr) -> Result<Answer, Failed> {
    let id = rand::random();
    let message = question.ask(id)?;
    let mut stream = TcpStream::connect(server).await?;
    // Truncation safety: a question is a name and some octets.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let framed = [&length.to_be_bytes()[..], &message].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(question.read(id, &answer)?)
}

/// A one-shot question: answers come to the port that it was sent from
/// ([RFC 6762 §5.1](https://www.rfc-editor.org/rfc/rfc6762.html#section-5.1)).
async fn ask_by_multicast(
    question: &Question,
    multicast: Multicast,
) -> io::Result<(Answer, String)> {
    let id = rand::random();
    let message = question
        .ask(id)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let socket = UdpSocket::bind(multicast.bind).await?;
    let mut buffer = vec![0; MDNS_MESSAGE_MAX_BYTES];
    let mut services: Vec<Service> = Vec::new();
    let mut from = String::new();
    let mut looked_at = 0;
    for _ in 0..MULTICAST_TRIES {
        socket.send_to(&message, multicast.group).await?;
        let mut deadline = Instant::now() + multicast.interval;
        while looked_at < DATAGRAMS_MAX {
            let Ok(received) = timeout_at(deadline, socket.recv_from(&mut buffer)).await else {
                break;
            };
            let (size, peer) = received?;
            looked_at += 1;
            match question.read(id, buffer.get(..size).unwrap_or_default()) {
                Ok(Answer::Artefacts(found)) => {
                    return Ok((Answer::Artefacts(found), format!("{peer} by multicast")));
                }
                Ok(Answer::Services(found)) => {
                    if services.is_empty() {
                        deadline = deadline.min(Instant::now() + MULTICAST_COLLECT);
                        from = format!("{peer} by multicast");
                    }
                    services.extend(found);
                }
                // Others may still have the answer.
                Ok(Answer::Nothing | Answer::Truncated) | Err(_) => {}
            }
        }
        if !services.is_empty() {
            return Ok((Answer::Services(services), from));
        }
    }
    Ok((Answer::Nothing, from))
}

fn data(artefacts: Artefacts) -> Option<BootstrappingData> {
    Some(BootstrappingData {
        conveyed_information: artefacts.conveyed_information?,
        owner_certificate: artefacts.owner_certificate,
        ownership_voucher: artefacts.ownership_voucher,
    })
}

/// Servers in the order of their records. Those of multicast DNS come with addresses, because no
/// DNS server knows their names; all addresses of a host are tried.
fn servers(services: Vec<Service>) -> Vec<Server> {
    let ordered = order(services, |total| rand::random_range(0..=total));
    let mut seen = HashSet::new();
    ordered
        .into_iter()
        .flat_map(|service| {
            let port = Some(service.port);
            if service.addresses.is_empty() {
                return vec![Server::new(service.target, port)];
            }
            let addresses = service.addresses.into_iter();
            addresses
                .map(|address| Server::new(address.to_string(), port))
                .collect()
        })
        .filter(|server| seen.insert(server.clone()))
        .collect()
}

/// The DNS servers of a `resolv.conf`.
#[must_use]
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .take(SERVERS_MAX)
        .map(|address| (address, 53).into())
        .collect()
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

fn failed(question: &Question, error: &io::Error) -> SourceError {
    SourceError::new(
        "dns.no-answer",
        format!("{} by multicast: {error}", question.name()),
    )
}

fn coded(error: &sztp::dns::Error) -> SourceError {
    SourceError::new(error.code(), error.to_string())
}
