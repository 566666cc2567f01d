//! Those who mean harm: pledges that forge their addresses, registrars that answer badly, and
//! connections that hang. Each address below 127.0.0.0/8 is a host here.

use std::collections::{BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coap::jpy::Jpy;
use proxy::{Config, Running, Way};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

async fn start(text: &str) -> Running {
    let text = format!("{text}\n[discovery]\ncoap_port = 0\n");
    proxy::serve(Config::parse(&text).unwrap()).await.unwrap()
}

async fn udp_at(address: Ipv4Addr) -> UdpSocket {
    UdpSocket::bind((address, 0)).await.unwrap()
}

async fn udp() -> UdpSocket {
    udp_at(Ipv4Addr::LOCALHOST).await
}

/// A pledge of its own at 127.9.x.y, which speaks to one port.
async fn pledge(number: usize, to: SocketAddr) -> UdpSocket {
    let [high, low] = u16::try_from(number + 1).unwrap().to_be_bytes();
    let socket = udp_at(Ipv4Addr::new(127, 9, high, low)).await;
    socket.connect(to).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    arrived(socket).await.0
}

async fn arrived(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("nothing came").unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// Waits for what has to come.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn the(proxy: &Running, way: Way) -> SocketAddr {
    let addresses = proxy.addresses(way);
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    addresses[0]
}

fn header(message: &[u8]) -> Vec<u8> {
    Jpy::decode(message).unwrap().header.to_vec()
}

fn jpy(header: &[u8], content: &[u8]) -> Vec<u8> {
    Jpy { header, content }.encode()
}

/// Counts what comes.
fn count(socket: Arc<UdpSocket>) -> Arc<AtomicUsize> {
    let counter = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&counter);
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        while socket.recv(&mut buffer).await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    counter
}

/// Requirements: JPX-028
#[tokio::test]
async fn stateless_a_flood_of_forged_addresses_keeps_to_the_budget() {
    const FORGED: usize = 600;
    let registrar = Arc::new(udp().await);
    let proxy = start(&format!(
        "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\njpy = [\"{}\"]\n\
         [limits]\nlink_datagrams_per_second = 2\nlink_burst = 80\npledges_tracked = 10\n",
        registrar.local_addr().unwrap()
    ))
    .await;
    let join = the(&proxy, Way::Stateless);
    let honest = pledge(FORGED, join).await;
    honest.send(b"one").await.unwrap();
    let (message, from) = arrived(&registrar).await;
    let of_honest = header(&message);
    registrar
        .send_to(&jpy(&of_honest, b"answer"), from)
        .await
        .unwrap();
    assert_eq!(receive(&honest).await, b"answer");
    // From here on it has shown that it gets answers.
    honest.send(b"two").await.unwrap();
    assert_eq!(header(&receive(&registrar).await), of_honest);
    let began = Instant::now();
    let counter = count(Arc::clone(&registrar));
    for number in 0..FORGED {
        let forged = pledge(number, join).await;
        forged.send(b"flood").await.unwrap();
        if number % 50 == 49 {
            until("the end of a wave", || {
                let refused = usize::try_from(proxy.refusals("proxy.link-rate")).unwrap();
                refused + counter.load(Ordering::SeqCst) == number + 1
            })
            .await;
            assert!(proxy.tracked().iter().all(|count| *count <= 10));
        }
    }
    // Half of what may come at once, and what came to it since.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let relayed = counter.load(Ordering::SeqCst);
    assert!(relayed <= 40 + seconds, "{relayed} in {seconds} s");
    // The honest one is still heard.
    honest.send(b"three").await.unwrap();
    until("the honest pledge", || {
        counter.load(Ordering::SeqCst) > relayed
    })
    .await;
    assert_eq!(proxy.flows(), 0);
    proxy.stop().await;
}

/// Requirements: JPX-010, JPX-011, JPX-013, JPX-014
#[tokio::test]
async fn stateful_a_flood_of_forged_addresses_keeps_to_the_budget() {
    const FORGED: usize = 200;
    let registrar = udp().await;
    let proxy = start(&format!(
        "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\ncoaps = [\"{}\"]\n\
         [limits]\nstates_per_link = 4\nunanswered_seconds = 0\nstate_seconds = 2\n",
        registrar.local_addr().unwrap()
    ))
    .await;
    let join = the(&proxy, Way::Stateful);
    let mut sources = HashSet::new();
    for number in 0..FORGED {
        let forged = pledge(number, join).await;
        forged.send(b"flood").await.unwrap();
        if number < 4 {
            sources.insert(arrived(&registrar).await.1);
        }
        assert!(proxy.flows() <= 4);
    }
    assert_eq!(sources.len(), 4);
    until("the end of the flood", || {
        proxy.refusals("proxy.link-full") >= 150
    })
    .await;
    // When it is over the places are free again.
    let began = Instant::now();
    until("the end of the flows", || proxy.flows() == 0).await;
    assert!(began.elapsed() < Duration::from_secs(10));
    let late = pledge(FORGED, join).await;
    late.send(b"late").await.unwrap();
    let before = Instant::now();
    loop {
        // A few of the flood may have come in when places became free.
        if receive(&registrar).await == b"late" {
            break;
        }
    }
    // It is kept for as long as it is said, and no shorter.
    until("the end of the last flow", || proxy.flows() == 0).await;
    assert!(before.elapsed() > Duration::from_millis(1500));
    proxy.stop().await;
}

#[tokio::test]
async fn nobody_gets_much_that_did_not_ask_for_it() {
    for way in [Way::Stateless, Way::Stateful] {
        let registrar = udp().await;
        let service = match way {
            Way::Stateless => "jpy",
            _ => "coaps",
        };
        let proxy = start(&format!(
            "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\n{service} = [\"{}\"]\n",
            registrar.local_addr().unwrap()
        ))
        .await;
        let victim = pledge(0, the(&proxy, way)).await;
        // As if somebody had forged its address.
        victim.send(&[1; 100]).await.unwrap();
        let (message, from) = arrived(&registrar).await;
        let answer = |content: &[u8]| match way {
            Way::Stateless => jpy(&header(&message), content),
            _ => content.to_vec(),
        };
        for length in [60, 1000, 200, 200, 1000, 40, 1] {
            let answer = answer(&vec![2; length]);
            registrar.send_to(&answer, from).await.unwrap();
        }
        // 60 + 200 + 40: three times what came.
        for length in [60, 200, 40] {
            assert_eq!(receive(&victim).await.len(), length, "{way:?}");
        }
        until("the last answer", || proxy.refusals("proxy.amplified") == 4).await;
        assert!(victim.try_recv(&mut [0]).is_err());
        // One that goes on speaking is there, and gets what it is sent.
        victim.send(b"here").await.unwrap();
        arrived(&registrar).await;
        registrar.send_to(&answer(&[3; 1200]), from).await.unwrap();
        assert_eq!(receive(&victim).await, [3; 1200]);
        proxy.stop().await;
    }
}

/// Requirements: JPX-029, JPX-031, JPX-033
#[tokio::test]
async fn what_registrars_answer_badly_reaches_nobody() {
    let registrars = [udp().await, udp().await];
    let proxy = start(&format!(
        "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\njpy = [\"{}\", \"{}\"]\n",
        registrars[0].local_addr().unwrap(),
        registrars[1].local_addr().unwrap()
    ))
    .await;
    let ports = proxy.ports();
    let join = |registrar: &UdpSocket| {
        let registrar = registrar.local_addr().unwrap();
        let port = ports.iter().find(|port| port.registrar == registrar);
        port.unwrap().address
    };
    let pledges = [
        pledge(0, join(&registrars[0])).await,
        pledge(1, join(&registrars[1])).await,
    ];
    let mut of = Vec::new();
    for pledge in &pledges {
        pledge.send(&[1; 500]).await.unwrap();
    }
    for registrar in &registrars {
        let (message, from) = arrived(registrar).await;
        of.push((header(&message), from));
    }
    let [(one, from_one), (two, from_two)] = [of[0].clone(), of[1].clone()];
    assert_ne!(from_one, from_two);
    let mut cases: Vec<(Vec<u8>, &'static str)> = vec![
        // The header of another registrar's pledge.
        (jpy(&two, b"bad"), "proxy.header"),
        (jpy(b"", b"bad"), "proxy.header"),
        (jpy(&one[1..], b"bad"), "proxy.header"),
        (
            jpy(&[one.as_slice(), b"x"].concat(), b"bad"),
            "proxy.header",
        ),
        (jpy(&[0; 60_000], b"bad"), "proxy.not-jpy"),
        (jpy(&one, b""), "proxy.empty"),
        (vec![0xff], "proxy.not-jpy"),
        (vec![0x82, 0x41], "proxy.not-jpy"),
        (vec![0x80], "proxy.not-jpy"),
        (vec![0x81, 0x41, 0], "proxy.not-jpy"),
        (vec![0x82, 0x61, 0x61, 0x41, 0], "proxy.not-jpy"),
        (b"bad".to_vec(), "proxy.not-jpy"),
        (vec![0x16; 1200], "proxy.not-jpy"),
        // A byte string that says that it is longer than there is memory.
        (
            [&[0x82, 0x5b], [0xff; 8].as_slice(), b"bad"].concat(),
            "proxy.not-jpy",
        ),
        // Arrays in arrays, without end.
        (vec![0x82; 50_000], "proxy.not-jpy"),
    ];
    for byte in 0..one.len() {
        let mut forged = one.clone();
        forged[byte] ^= 0x40;
        cases.push((jpy(&forged, b"bad"), "proxy.header"));
    }
    for (number, (message, code)) in cases.into_iter().enumerate() {
        let before = proxy.refusals(code);
        registrars[0].send_to(&message, from_one).await.unwrap();
        until(&format!("refusal {number}"), || {
            proxy.refusals(code) == before + 1
        })
        .await;
    }
    // The other registrar may not speak to the port that the first one uses.
    registrars[1]
        .send_to(&jpy(&one, b"bad"), from_one)
        .await
        .unwrap();
    registrars[0]
        .send_to(&jpy(&one, b"good"), from_one)
        .await
        .unwrap();
    registrars[1]
        .send_to(&jpy(&two, b"good too"), from_two)
        .await
        .unwrap();
    assert_eq!(receive(&pledges[0]).await, b"good");
    assert_eq!(receive(&pledges[1]).await, b"good too");
    proxy.stop().await;
}

/// Requirements: JPX-009
#[tokio::test]
async fn datagrams_of_every_size() {
    for way in [Way::Stateless, Way::Stateful] {
        let registrar = udp().await;
        let service = match way {
            Way::Stateless => "jpy",
            _ => "coaps",
        };
        let proxy = start(&format!(
            "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\n{service} = [\"{}\"]\n\
             [limits]\ndatagram_bytes = 1400\n",
            registrar.local_addr().unwrap()
        ))
        .await;
        let pledge = pledge(0, the(&proxy, way)).await;
        let bytes: Vec<u8> = (0..=255).cycle().take(65_507).collect();
        pledge.send(b"").await.unwrap();
        pledge.send(&bytes).await.unwrap();
        pledge.send(&bytes[..1401]).await.unwrap();
        for length in [1, 22, 23, 24, 254, 255, 256, 1280, 1399, 1400] {
            pledge.send(&bytes[..length]).await.unwrap();
            let (message, from) = arrived(&registrar).await;
            let (content, answer) = match way {
                Way::Stateless => {
                    let content = Jpy::decode(&message).unwrap().content.to_vec();
                    (content, jpy(&header(&message), &bytes[..length]))
                }
                _ => (message.clone(), message),
            };
            assert_eq!(content, bytes[..length], "{way:?}");
            registrar.send_to(&answer, from).await.unwrap();
            assert_eq!(receive(&pledge).await, bytes[..length], "{way:?}");
        }
        assert_eq!(proxy.refusals("proxy.empty"), 1);
        assert_eq!(proxy.refusals("proxy.too-large"), 2);
        proxy.stop().await;
    }
}

/// Requirements: JPX-036
#[tokio::test]
async fn many_links_do_not_stand_in_each_others_way() {
    const LINKS: u8 = 40;
    let registrars = [udp().await, udp().await, udp().await];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let links: Vec<String> = (1..=LINKS)
        .map(|link| format!("\"127.0.2.{link}\""))
        .collect();
    let places: Vec<String> = registrars
        .iter()
        .map(|registrar| format!("\"{}\"", registrar.local_addr().unwrap()))
        .collect();
    // There are more registrars than may be offered.
    let proxy = start(&format!(
        "[pledges]\naddresses = [{}]\n[registrar]\nmode = \"both\"\nregistrars_max = 2\n\
         jpy = [{}]\ncoaps = [{}]\nhttps = [\"{}\"]\n\
         [limits]\npledge_burst = 5\npledge_datagrams_per_second = 1\nlink_burst = 8\n\
         link_datagrams_per_second = 1\nstates_per_link = 1\nunanswered_seconds = 0\n",
        links.join(","),
        places.join(","),
        places.join(","),
        listener.local_addr().unwrap(),
    ))
    .await;
    let ports = proxy.ports();
    assert_eq!(ports.len(), usize::from(LINKS) * 5);
    let distinct: BTreeSet<(SocketAddr, bool)> = ports
        .iter()
        .map(|port| (port.address, port.way == Way::Circuit))
        .collect();
    assert_eq!(distinct.len(), ports.len());
    let port = |link: u8, way: Way| {
        let name = format!("127.0.2.{link}");
        let registrar = registrars[0].local_addr().unwrap();
        let mut of_link = ports.iter().filter(|port| port.link == name);
        let found = of_link
            .find(|port| port.way == way && (port.registrar == registrar || way == Way::Circuit));
        found.unwrap().address
    };
    // The first link is full: with flows, and with what may be sent.
    for number in 0..20 {
        pledge(number, port(1, Way::Stateful))
            .await
            .send(b"flood")
            .await
            .unwrap();
    }
    until("a full link", || {
        proxy.refusals("proxy.link-full") + proxy.refusals("proxy.link-rate") >= 19
    })
    .await;
    assert_eq!(proxy.flows(), 1);
    arrived(&registrars[0]).await;
    // The same pledges on the others are not asked to pay for it.
    for link in 2..=LINKS {
        let stateless = pledge(0, port(link, Way::Stateless)).await;
        stateless.send(&[link]).await.unwrap();
        let message = receive(&registrars[0]).await;
        assert_eq!(Jpy::decode(&message).unwrap().content, [link]);
        let stateful = pledge(0, port(link, Way::Stateful)).await;
        stateful.send(&[link; 2]).await.unwrap();
        assert_eq!(receive(&registrars[0]).await, [link; 2]);
    }
    assert_eq!(proxy.flows(), usize::from(LINKS));
    proxy.stop().await;
}

/// A circuit proxy between a pledge and whatever listens.
async fn circuit(registrar: SocketAddr, limits: &str) -> Running {
    start(&format!(
        "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\ndiscover = []\nhttps = [\"{registrar}\"]\n\
         [limits]\n{limits}\n"
    ))
    .await
}

/// What came until the other side was done; an abrupt end is an end.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection was not closed");
    bytes
}

#[tokio::test]
async fn circuits_that_hang_are_closed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = circuit(address, "connection_idle_seconds = 1").await;
    let began = Instant::now();
    let mut pledge = TcpStream::connect(the(&proxy, Way::Circuit)).await.unwrap();
    pledge.write_all(b"hello").await.unwrap();
    // The registrar takes the connection and never says a word.
    let (mut registrar, _) = listener.accept().await.unwrap();
    assert_eq!(rest(&mut pledge).await, b"");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(rest(&mut registrar).await, b"hello");
    until("the end", || proxy.connections() == 0).await;
    assert_eq!(proxy.refusals("proxy.idle"), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn circuits_that_trickle_are_closed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = circuit(address, "connection_seconds = 2").await;
    let pledge = TcpStream::connect(the(&proxy, Way::Circuit)).await.unwrap();
    let (mut registrar, _) = listener.accept().await.unwrap();
    let (mut from_proxy, mut to_proxy) = pledge.into_split();
    // One byte at a time keeps it from being idle, and not from ending.
    let trickle = tokio::spawn(async move {
        while to_proxy.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, from_proxy.read_to_end(&mut bytes))
        .await
        .expect("it goes on");
    assert!(rest(&mut registrar).await.len() > 1);
    timeout(PATIENCE, trickle).await.unwrap().unwrap();
    assert_eq!(proxy.refusals("proxy.too-long"), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn circuits_to_a_registrar_that_takes_no_connection_are_closed() {
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    // Its queue is full, so that it does not even refuse.
    let _listener = listener.listen(1).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue does not fill");
    }
    let proxy = circuit(address, "connect_seconds = 1").await;
    let mut pledge = TcpStream::connect(the(&proxy, Way::Circuit)).await.unwrap();
    assert_eq!(rest(&mut pledge).await, b"");
    assert_eq!(proxy.refusals("proxy.registrar-away"), 1);
    proxy.stop().await;
    // Nobody there at all.
    drop(waiting);
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let proxy = circuit(address, "").await;
    let mut pledge = TcpStream::connect(the(&proxy, Way::Circuit)).await.unwrap();
    assert_eq!(rest(&mut pledge).await, b"");
    assert_eq!(proxy.refusals("proxy.registrar-away"), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn one_pledge_does_not_take_all_circuits() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = "connections_per_pledge = 2\nconnections_per_link = 3";
    let proxy = circuit(address, limits).await;
    let join = the(&proxy, Way::Circuit);
    let connect = async |host: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((Ipv4Addr::new(127, 9, 0, host), 0).into())
            .unwrap();
        socket.connect(join).await.unwrap()
    };
    let mut held = Vec::new();
    for host in [1, 1, 2] {
        let mut stream = connect(host).await;
        let (mut registrar, _) = listener.accept().await.unwrap();
        stream.write_all(&[host]).await.unwrap();
        let mut byte = [0];
        registrar.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, [host]);
        held.push((stream, registrar));
    }
    // The link is full; with a place free on the link, the first pledge still has its share.
    let mut refused = connect(3).await;
    assert_eq!(rest(&mut refused).await, b"");
    assert_eq!(proxy.refusals("proxy.link-full"), 1);
    drop(held.pop());
    until("a free place", || proxy.connections() == 2).await;
    let mut refused = connect(1).await;
    assert_eq!(rest(&mut refused).await, b"");
    assert_eq!(proxy.refusals("proxy.pledge-full"), 1);
    let _third = connect(3).await;
    listener.accept().await.unwrap();
    // When the proxy stops, so do its connections.
    proxy.stop().await;
    for (mut stream, _) in held {
        assert_eq!(rest(&mut stream).await, b"");
    }
}
