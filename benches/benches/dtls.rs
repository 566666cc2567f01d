//! DTLS without sockets: what a server spends on a handshake, on a spoofed ClientHello and on a
//! record, and what an idle association takes up.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use net::dtls::{ClientConfig, Front, Hello, ServerConfig, Session, State, Suite};
use testkit::Pki;
use time::OffsetDateTime;

const NOW: Duration = Duration::from_secs(100);
const SUITES: [Suite; 2] = [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Gcm];

/// The associations that the memory of one is measured by.
const IDLE: u32 = 2000;

fn world() -> (Front, Vec<ClientConfig>) {
    let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let pki = Pki::p256(now).expect("identities");
    let device = pki.idevid("1").expect("a device");
    let server = ServerConfig::new(vec![pki.domain.registrar.clone()]);
    let clients = SUITES.map(|suite| {
        let mut config = ClientConfig::new(Some(device.clone()));
        config.suites = vec![suite];
        config
    });
    (
        Front::new(server, [1; 32]).expect("a front"),
        clients.into(),
    )
}

/// What one handshake cost.
struct Handshake {
    client: Session,
    server: Session,
    /// In the server alone.
    spent: Duration,
    bytes: usize,
    datagrams: usize,
}

fn handshake(front: &Front, config: &ClientConfig, key: &[u8]) -> Handshake {
    let mut client = Session::client(config, NOW).expect("a client");
    let mut server: Option<Session> = None;
    let (mut spent, mut bytes, mut datagrams) = (Duration::ZERO, 0, 0);
    loop {
        let mut quiet = true;
        while let Some(datagram) = client.transmit() {
            quiet = false;
            bytes += datagram.len();
            datagrams += 1;
            let begin = Instant::now();
            if let Some(server) = &mut server {
                server.receive(NOW, &datagram).expect("received");
                spent += begin.elapsed();
                continue;
            }
            let hello = front.receive(NOW, key, &datagram);
            spent += begin.elapsed();
            match hello {
                Hello::Answer(answer) => {
                    bytes += answer.len();
                    datagrams += 1;
                    client.receive(NOW, &answer).expect("received");
                }
                Hello::Accept(session) => server = Some(*session),
                Hello::Dropped(reason) => panic!("dropped: {reason}"),
            }
        }
        while let Some(datagram) = server.as_mut().and_then(Session::transmit) {
            quiet = false;
            bytes += datagram.len();
            datagrams += 1;
            client.receive(NOW, &datagram).expect("received");
        }
        if quiet {
            break;
        }
    }
    let server = server.expect("a server");
    assert_eq!(*server.state(), State::Established);
    Handshake {
        client,
        server,
        spent,
        bytes,
        datagrams,
    }
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_usize) * 4096
}

fn handshakes(criterion: &mut Criterion) {
    let (front, configs) = world();
    for config in &configs {
        let name = config.suites.first().map_or("", |suite| suite.name());
        let first = handshake(&front, config, b"peer");
        let kept: Vec<Session> = {
            let before = resident_bytes();
            let kept: Vec<Session> = (0..IDLE)
                .map(|number| handshake(&front, config, &number.to_be_bytes()).server)
                .collect();
            let each = resident_bytes().saturating_sub(before) / kept.len();
            println!(
                "{name}: {} bytes in {} datagrams; an idle association takes {each} bytes",
                first.bytes, first.datagrams
            );
            kept
        };
        drop(kept);
        criterion.bench_function(
            &format!("server's part of a handshake, {name}"),
            |bencher| {
                bencher.iter_custom(|count| {
                    (0..count)
                        .map(|number| handshake(&front, config, &number.to_be_bytes()).spent)
                        .sum()
                });
            },
        );
        let mut group = criterion.benchmark_group(format!("a record of 300 bytes, {name}"));
        group.throughput(Throughput::Elements(1));
        let Handshake {
            mut client,
            mut server,
            ..
        } = first;
        group.bench_function("sent and read", |bencher| {
            bencher.iter(|| {
                client.send(NOW, &[1; 300]).expect("sent");
                let datagram = client.transmit().expect("a datagram");
                server.receive(NOW, &datagram).expect("received");
                black_box(server.read())
            });
        });
    }
}

fn cookies(criterion: &mut Criterion) {
    let (front, configs) = world();
    let config = configs.first().expect("a configuration");
    let hello = Session::client(config, NOW)
        .expect("a client")
        .transmit()
        .expect("a ClientHello");
    criterion.bench_function("a ClientHello without cookie", |bencher| {
        bencher.iter(|| front.receive(NOW, black_box(b"peer"), black_box(&hello)));
    });
}

criterion_group!(benches, handshakes, cookies);
criterion_main!(benches);
