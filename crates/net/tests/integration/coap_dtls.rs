//! CoAP over DTLS on real sockets, both ends ours.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coap::jpy::Jpy;
use coap::{Code, Config, Request};
use net::Error;
use net::coap::CoapClient;
use net::dtls::{ClientConfig, Suite, Version};
use testkit::{Impairment, LossyRelay};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::coap_support::{LARGE, LONG, LOOPBACK, Server, TEXT, device, large, text};

/// Requirements: CBR-009, CBR-020, COA-016, COA-017, COA-018
#[tokio::test]
async fn a_device_is_known_by_its_chain() {
    let server = Server::start().await;
    let client = server
        .client_with(&ClientConfig::small(Some(device())))
        .await;
    let seen = client
        .request(Request::get("peer"))
        .await
        .expect("an answer");
    let seen = text(&seen);
    assert!(
        seen.starts_with("Secured TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8 "),
        "{seen}"
    );
    assert!(seen.ends_with("[CN=device | CN=manufacturer] 0"), "{seen}");
    let peer = client.peer().expect("DTLS");
    assert_eq!(peer.server_certificate_der, server.identity.chain[0].der());
    assert_eq!(peer.chain.len(), server.identity.chain.len());

    // It is acknowledged after a second, and answered in a message of its own.
    let slow = client.request(Request::get("slow")).await;
    assert_eq!(text(&slow.expect("an answer")), "late");
    assert_eq!(server.statistics().messages_retransmitted, 0);

    let got = client.request(Request::get("large")).await;
    assert_eq!(got.expect("an answer").payload, large());
    let posted = client.request(Request::post("echo", TEXT, large())).await;
    assert_eq!(posted.expect("an answer").payload, large());
    client.close().await;
    server
        .until("the place is free again", |s| s.peers_now == 0)
        .await;
    let statistics = server.statistics();
    assert_eq!(statistics.handshakes_completed, 1);
    assert_eq!(statistics.peers_closed, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_seen_as_that() {
    let server = Server::start().await;
    let client = server.client_with(&ClientConfig::new(None)).await;
    let seen = client
        .request(Request::get("peer"))
        .await
        .expect("an answer");
    assert!(text(&seen).ends_with("[] 0"), "{}", text(&seen));
    server.stop().await;
}

/// Requirements: CBR-004, CBR-011
#[tokio::test]
async fn both_versions_at_one_port() {
    let server = Server::start().await;
    for (version, name) in [(Version::Dtls12, "DTLS 1.2"), (Version::Dtls13, "DTLS 1.3")] {
        let mut config = ClientConfig::new(Some(device()));
        config.version = version;
        let client = server.client_with(&config).await;
        assert_eq!(client.peer().expect("DTLS").version, name);
        let seen = client
            .request(Request::get("peer"))
            .await
            .expect("an answer");
        assert!(text(&seen).contains("[CN=device"), "{}", text(&seen));
        let posted = client.request(Request::post("echo", TEXT, large())).await;
        assert_eq!(posted.expect("an answer").payload, large());
        client.close().await;
    }
    server
        .until("both said that they went", |s| s.peers_closed == 2)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn requests_of_several_tasks_share_a_client() {
    let server = Server::start().await;
    let client = std::sync::Arc::new(server.client().await);
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let client = std::sync::Arc::clone(&client);
        tasks.spawn(async move {
            let body = number.to_string();
            let response = client.request(Request::post("echo", TEXT, body.as_str()));
            assert_eq!(text(&response.await.expect("an answer")), body);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("answered");
    }
    server.stop().await;
}

#[tokio::test]
async fn why_there_is_no_association() {
    // Nobody listens there.
    let free = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let nobody = free.local_addr().expect("an address");
    drop(free);
    let config = ClientConfig::new(Some(device()));
    let error = CoapClient::connect(nobody, &config, Config::default()).await;
    assert!(matches!(error, Err(Error::Connect { .. })), "{error:?}");

    // Somebody listens who says nothing.
    let silent = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let to = silent.local_addr().expect("an address");
    let limit = Duration::from_millis(100);
    let error = CoapClient::connect_within(limit, to, &config, Config::default()).await;
    assert!(
        matches!(error, Err(Error::HandshakeTimeout(_))),
        "{error:?}"
    );

    // No suite in common.
    let server = Server::with(|config| {
        let dtls = config.dtls.as_mut().expect("DTLS");
        dtls.suites = vec![Suite::EcdheEcdsaAes256Gcm];
    })
    .await;
    let small = ClientConfig::small(Some(device()));
    let limit = Duration::from_secs(10);
    let to = server.address();
    let error = CoapClient::connect_within(limit, to, &small, Config::default()).await;
    let statistics = server.statistics();
    assert!(
        matches!(error, Err(Error::Handshake(_))),
        "{error:?} {statistics:?}"
    );
    assert_eq!(server.statistics().peers_now, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let server = Server::start().await;
    let client = server.client().await;
    let asked = client.request(Request::get("peer")).await;
    assert_eq!(asked.expect("an answer").code, Code::CONTENT);
    server.stop().await;
    let asked = tokio::time::timeout(LONG, client.request(Request::get("peer"))).await;
    let error = asked.expect("at once");
    assert!(matches!(error, Err(Error::Closed(_))), "{error:?}");
}

#[tokio::test]
async fn one_address_takes_ipv4_and_ipv6() {
    let all = SocketAddr::from(([0_u16; 8], 0));
    let server = Server::with(|config| {
        config.listen = vec![all];
        config.open.get_or_insert_default().listen = vec![all];
    })
    .await;
    let config = ClientConfig::new(Some(device()));
    for ip in ["127.0.0.1", "::1"] {
        let at = |port| SocketAddr::new(ip.parse().expect("an address"), port);
        let to = at(server.address().port());
        let secured = CoapClient::connect(to, &config, Config::default()).await;
        let open = CoapClient::open(at(server.open_address().port()), Config::default()).await;
        for client in [secured.expect("a handshake"), open.expect("a socket")] {
            let from = client.request(Request::get("from")).await;
            assert_eq!(
                text(&from.expect("an answer")),
                SocketAddr::new(to.ip(), client.local_address().port()).to_string()
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn several_sockets_share_the_peers() {
    let server = Server::with(|config| config.sockets = 4).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(server.client().await);
    }
    for client in &clients {
        let response = client.request(Request::get("large")).await;
        assert_eq!(response.expect("an answer").payload.len(), LARGE);
    }
    assert_eq!(server.statistics().peers_now, 16);
    server.stop().await;
}

/// Requirements: COA-009, COA-012, DTL-010, DTL-013
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_carried_out_once_over_a_bad_link() {
    const DEVICES: usize = 8;
    const REQUESTS: usize = 4;
    let server = Server::with(|config| config.coap.ack_timeout = Duration::from_millis(100)).await;
    let link = Impairment {
        corrupt: 0.01,
        ..Impairment::lossy(4, 0.2)
    };
    let relay = LossyRelay::start(server.address(), link)
        .await
        .expect("a relay");
    let to = relay.address();
    let mut tasks = JoinSet::new();
    for _ in 0..DEVICES {
        tasks.spawn(async move {
            let coap = Config {
                ack_timeout: Duration::from_millis(100),
                retransmissions_max: 8,
                ..Config::default()
            };
            let config = ClientConfig::new(Some(device()));
            // A handshake in which something was changed on its way fails, and rightly so; the
            // alert that says it may be lost.
            let patience = Duration::from_secs(10);
            let client = loop {
                match CoapClient::connect_within(patience, to, &config, coap.clone()).await {
                    Ok(client) => break client,
                    Err(Error::Handshake(_) | Error::HandshakeTimeout(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            for _ in 0..REQUESTS {
                let response = client.request(Request::post("echo", TEXT, large())).await;
                assert_eq!(response.expect("an answer").payload, large());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("all of it went through");
    }
    let carried_out = server.counted.load(Ordering::Relaxed);
    assert_eq!(carried_out, DEVICES * REQUESTS, "none twice, none lost");
    let relayed = relay.statistics();
    assert!(relayed.lost > 0 && relayed.duplicated > 0 && relayed.delayed > 0);
    assert!(server.statistics().messages_duplicate > 0);
    server.stop().await;
}

/// A stateless join proxy of the simplest kind: the header is the pledge's port.
async fn proxy(registrar: SocketAddr) -> SocketAddr {
    let inner = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let outer = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let address = inner.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut in_buffer, mut out_buffer) = (vec![0; 65_535], vec![0; 65_535]);
        loop {
            tokio::select! {
                Ok((length, from)) = inner.recv_from(&mut in_buffer) => {
                    let header = from.port().to_be_bytes();
                    let content = &in_buffer[..length];
                    let jpy = Jpy { header: &header, content }.encode();
                    assert!(jpy.len() + 48 <= 1_280, "IP packets of 1280 bytes do");
                    outer.send_to(&jpy, registrar).await.expect("sent");
                }
                Ok((length, _)) = outer.recv_from(&mut out_buffer) => {
                    assert!(length + 48 <= 1_280, "IP packets of 1280 bytes do");
                    let jpy = Jpy::decode(&out_buffer[..length]).expect("JPY");
                    let port = u16::from_be_bytes(jpy.header.try_into().expect("a port"));
                    let pledge = SocketAddr::new(address.ip(), port);
                    inner.send_to(jpy.content, pledge).await.expect("sent");
                }
            }
        }
    });
    address
}

/// Requirements: JPX-006, JPX-016, JPX-022, JPX-027, JPX-035
#[tokio::test]
async fn pledges_behind_a_stateless_proxy() {
    let server = Server::start().await;
    let address = proxy(server.running.jpy_address().expect("a port")).await;
    let config = ClientConfig::new(Some(device()));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = CoapClient::connect(address, &config, Config::default()).await;
        clients.push(client.expect("a handshake"));
    }
    for client in &clients {
        let seen = client
            .request(Request::get("peer"))
            .await
            .expect("an answer");
        assert!(text(&seen).ends_with("[CN=device | CN=manufacturer] 2"));
        let response = client.request(Request::get("large")).await;
        assert_eq!(response.expect("an answer").payload, large());
        let response = client.request(Request::post("echo", TEXT, large())).await;
        assert_eq!(response.expect("an answer").payload, large());
    }
    assert_eq!(server.statistics().peers_now, 4);
    server.stop().await;
}

/// A stateful proxy gives each pledge a port of its own at its one address.
///
/// Requirements: JPX-005
#[tokio::test]
async fn pledges_behind_a_stateful_proxy() {
    const PLEDGES: u64 = 12;
    let server = Server::start().await;
    let mut handshakes = JoinSet::new();
    for number in 0..PLEDGES {
        let address = server.address();
        let mut config = ClientConfig::new(Some(device()));
        if number % 2 == 1 {
            config.version = Version::Dtls13;
        }
        handshakes
            .spawn(async move { CoapClient::connect(address, &config, Config::default()).await });
    }
    let mut clients = Vec::new();
    while let Some(done) = handshakes.join_next().await {
        clients.push(done.expect("no panic").expect("a handshake"));
    }
    for (number, client) in clients.iter().enumerate() {
        let body = number.to_string();
        let response = client.request(Request::post("echo", TEXT, body.as_str()));
        assert_eq!(text(&response.await.expect("an answer")), body);
    }
    assert_eq!(server.statistics().peers_now, PLEDGES);
    server.stop().await;
}
