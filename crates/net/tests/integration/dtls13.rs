//! DTLS 1.3, chosen by the ClientHello. Both ends are dimpl: no other implementation is at hand.

use std::time::Duration;

use net::dtls::{ClientConfig, ClientHello, Hello, Session, State, Suite, Version};
use pki::{Certificate, Identity};

use crate::dtls_support::{PEER, Pair, front_with, pki, with_extension};

const NOW: Duration = Duration::from_secs(1000);

fn of_1_3(identity: &Identity) -> ClientConfig {
    let mut config = ClientConfig::new(Some(identity.clone()));
    config.version = Version::Dtls13;
    config
}

/// Requirements: CBR-004, CBR-006, CBR-011, CBR-018, DTL-001, DTL-004, DTL-006
#[test]
fn the_hello_chooses_the_version() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1234").expect("device");
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305] {
        let mut config = of_1_3(&device);
        config.suites = vec![suite];
        let mut pair = Pair::new(&front, &config).established();
        pair.talk();
        let of_client = pair.server().peer().expect("peer").clone();
        assert_eq!(of_client.version, "DTLS 1.3");
        assert_eq!(of_client.suite, suite.name());
        assert_eq!(of_client.chain[0].der(), device.chain[0].der());
        let of_server = pair.client.peer().expect("peer");
        assert_eq!(of_server.suite, suite.name());
        let own = pki.domain.registrar.chain[0].der();
        assert_eq!(of_server.server_certificate_der, own);
        assert_eq!(of_client.server_certificate_der, own);
        // Until the cookie is back, never more than came.
        let question = pair.wire[0].1.len();
        assert!(pair.wire[0].0 && !pair.wire[1].0);
        assert!(pair.wire[1].1.len() <= question);
        let hello = ClientHello::parse(&pair.wire[0].1).expect("a ClientHello");
        assert!(hello.has_dtls_1_3() && !hello.has_dtls_1_2());
    }
    // And a client of DTLS 1.2 at the same front.
    let mut pair = Pair::new(&front, &ClientConfig::new(Some(device))).established();
    assert_eq!(pair.server().peer().expect("peer").version, "DTLS 1.2");
}

/// Requirements: CBR-005, CBR-006
#[test]
fn a_version_can_be_ruled_out() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    for (only, offered) in [
        (Version::Dtls13, Version::Dtls12),
        (Version::Dtls12, Version::Dtls13),
    ] {
        let front = front_with(&pki, |config| config.versions = vec![only]);
        let mut config = ClientConfig::new(Some(device.clone()));
        config.version = offered;
        let hello = Session::client(&config, NOW)
            .expect("client")
            .transmit()
            .expect("a ClientHello");
        let Hello::Answer(answer) = front.receive(NOW, PEER, &hello) else {
            panic!("no answer");
        };
        assert_eq!(answer[0], 21, "an alert");
        assert_eq!(answer[14], 70, "protocol_version");
    }
}

/// Requirements: DTL-002, DTL-005, DTL-007
#[test]
fn a_cookie_of_1_3_is_for_one_peer_one_hello_and_a_short_time() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let mut client = Session::client(&of_1_3(&device), NOW).expect("client");
    let first = client.transmit().expect("a ClientHello");
    let Hello::Answer(answer) = front.receive(NOW, PEER, &first) else {
        panic!("no answer");
    };
    assert!(matches!(
        front.receive(NOW, PEER, &first),
        Hello::Answer(again) if again == answer
    ));
    client.receive(NOW, &answer).expect("received");
    let second = client.transmit().expect("a ClientHello with cookie");
    let accepts = |after: u64, peer: &[u8], datagram: &[u8]| {
        let now = NOW + Duration::from_secs(after);
        match front.receive(now, peer, datagram) {
            Hello::Accept(_) => true,
            Hello::Answer(answer) => {
                assert_eq!((answer[0], answer[14]), (21, 47), "illegal_parameter");
                false
            }
            Hello::Dropped(reason) => panic!("dropped: {reason}"),
        }
    };
    assert!(accepts(0, PEER, &second));
    assert!(accepts(60, PEER, &second), "the key before this one");
    assert!(!accepts(180, PEER, &second), "too old");
    assert!(!accepts(0, b"[2001:db8::2]:5684", &second), "another peer");
    let more = with_extension(&second, &[], 1, 0xFFFE, &[]);
    assert!(!accepts(0, PEER, &more), "another ClientHello");
}

/// What came of the chain of a device whose certificate has an intermediate.
#[test]
fn chains_over_1_3() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let mut pair = Pair::new(&front, &of_1_3(&device)).established();
    let seen = pair.server().peer().expect("peer").chain.clone();
    let ders: Vec<&[u8]> = seen.iter().map(Certificate::der).collect();
    // dimpl shows the leaf only; what is shown is passed on.
    assert_eq!(ders, [device.chain[0].der()]);
}

/// Requirements: DTL-013, DTL-017, DTL-045
#[test]
fn lost_flights_of_1_3_are_repeated_on_simulated_time() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    // Each of the first datagrams is lost once.
    for lost in 0..8 {
        let mut pair = Pair::new(&front, &of_1_3(&device));
        let mut passed = 0;
        let mut at_the_end = 0;
        for _ in 0..200 {
            while let Some(datagram) = pair.client.transmit() {
                passed += 1;
                if passed != lost {
                    pair.arrive_at_server(&datagram);
                }
            }
            while let Some(datagram) = pair.server.as_mut().and_then(Session::transmit) {
                passed += 1;
                if passed != lost {
                    let _ = pair.client.receive(pair.now, &datagram);
                }
            }
            pair.now += Duration::from_millis(250);
            if pair.now < NOW + Duration::from_secs(10) {
                at_the_end = passed;
            }
            let now = pair.now;
            pair.client.advance(now);
            if let Some(server) = &mut pair.server {
                server.advance(now);
            }
        }
        assert_eq!(*pair.client.state(), State::Established, "{lost}");
        assert_eq!(*pair.server().state(), State::Established, "{lost}");
        // Everything is acknowledged, so nothing is repeated for ever.
        assert_eq!(passed, at_the_end, "{lost}");
        if lost == 0 {
            assert!(passed <= 12, "{passed} datagrams and none of them was lost");
        }
        pair.talk();
    }
}

/// Requirements: DTL-048, DTL-009, DTL-010
#[test]
fn records_of_1_3_are_dropped_and_associations_closed() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let mut pair = Pair::new(&front, &of_1_3(&device)).established();
    let now = pair.now;
    pair.client.send(now, &[7; 1500]).expect("sent");
    let datagram = pair.client.transmit().expect("a datagram");
    for _ in 0..100 {
        pair.arrive_at_server(&datagram);
    }
    assert_eq!(pair.server().read(), Some(vec![7; 1500]));
    assert_eq!(pair.server().read(), None);
    for datagram in [
        vec![],
        vec![0; 500],
        vec![0x2C; 60],
        b"GET / HTTP/1.1\r\n".to_vec(),
    ] {
        pair.arrive_at_server(&datagram);
        assert_eq!(pair.server().read(), None);
    }
    pair.talk();
    pair.client.close();
    pair.settle();
    assert!(pair.client.is_closed());
    assert!(pair.server().is_closed());
}
