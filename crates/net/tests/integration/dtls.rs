//! DTLS without sockets: both ends in memory.

use std::time::Duration;

use net::dtls::{ClientConfig, ClientHello, Closed, Hello, Session, State, Suite};
use pki::{Certificate, Coded, Identity, KeyKind};
use testkit::{Pki, PkiOptions};
use time::OffsetDateTime;

use crate::dtls_support::{PEER, Pair, front_with, pki, records, with_extension};

const NOW: Duration = Duration::from_secs(1000);

fn ccm8(identity: &Identity) -> ClientConfig {
    let mut config = ClientConfig::new(Some(identity.clone()));
    config.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
    config
}

fn ders(chain: &[Certificate]) -> Vec<&[u8]> {
    chain.iter().map(Certificate::der).collect()
}

/// Requirements: CBR-009, CBR-010, CBR-020, ESC-001, ESC-004, ESC-058, DTL-034, CBR-116
#[test]
fn client_and_server_meet() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let idevid = pki.idevid("1234").expect("device");
    let mut pair = Pair::new(&front, &ccm8(&idevid)).established();
    pair.talk();

    let of_client = pair.server().peer().expect("peer").clone();
    assert_eq!(of_client.suite, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8");
    assert_eq!(of_client.version, "DTLS 1.2");
    assert_eq!(ders(&of_client.chain), ders(&idevid.chain));
    let of_server = pair.client.peer().expect("peer");
    let sent = ders(&pki.domain.registrar.chain);
    assert_eq!(ders(&of_server.chain), sent);
    assert_eq!(of_server.server_certificate_der, sent[0]);
    assert_eq!(of_client.server_certificate_der, sent[0]);
    assert!(of_client.exporter.is_some());
    assert_eq!(of_client.exporter, of_server.exporter);
    assert_ne!(pair.server().id(), pair.client.id());
}

/// Requirements: DTL-029, CBR-015
#[test]
fn keys_of_other_kinds() {
    let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    for kind in [KeyKind::EcdsaP384, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let pki = Pki::new(PkiOptions::new(now).with_kind(kind)).expect("identities");
        let front = front_with(&pki, |_| {});
        let device = pki.idevid("1").expect("device");
        let mut pair = Pair::new(&front, &ClientConfig::new(Some(device))).established();
        pair.talk();
        let peer = pair.server().peer().expect("peer");
        assert_eq!(peer.suite.contains("RSA"), kind == KeyKind::Rsa2048);
    }
}

/// What is wrong with a certificate is judged above; only the key is proven here.
#[test]
fn any_certificate_comes_through_with_its_chain() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    for device in [
        pki.forged_idevid("1").expect("device"),
        pki.self_signed_device("2").expect("device"),
    ] {
        let mut pair = Pair::new(&front, &ccm8(&device)).established();
        let peer = pair.server().peer().expect("peer");
        assert_eq!(ders(&peer.chain), ders(&device.chain));
    }
}

/// Requirements: DTL-036
#[test]
fn possession_is_proven() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let mut pair = Pair::new(&front, &ccm8(&pki.idevid("1").expect("device")));
    let mut changed = 0;
    loop {
        let mut quiet = true;
        while let Some(mut datagram) = pair.client.transmit() {
            quiet = false;
            let spans = records(&datagram);
            for span in spans {
                // CertificateVerify is handshake message 15; its last byte is of the signature.
                if datagram[span.start] == 22 && datagram[span.start + 13] == 15 {
                    datagram[span.end - 1] ^= 1;
                    changed += 1;
                }
            }
            pair.arrive_at_server(&datagram);
        }
        while let Some(datagram) = pair.server.as_mut().and_then(Session::transmit) {
            quiet = false;
            let _ = pair.client.receive(NOW, &datagram);
        }
        if quiet {
            break;
        }
    }
    assert_eq!(changed, 1);
    assert!(matches!(
        pair.server().state(),
        State::Closed(Closed::Handshake(_))
    ));
    assert!(matches!(
        pair.client.state(),
        State::Closed(Closed::Alert(_))
    ));
    assert!(pair.server().peer().is_none());
}

/// Requirements: DTL-001, DTL-003, DTL-004, DTL-005, DTL-007
#[test]
fn a_cookie_is_for_one_peer_one_hello_and_a_short_time() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let mut client = Session::client(&ClientConfig::new(None), NOW).expect("client");
    let first = client.transmit().expect("a ClientHello");
    let Hello::Answer(answer) = front.receive(NOW, PEER, &first) else {
        panic!("no answer");
    };
    assert!(answer.len() < first.len());
    // Asked again, the answer is the same: nothing was kept.
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
                assert!(answer.len() <= datagram.len());
                // A HelloVerifyRequest.
                assert_eq!(answer[13], 3);
                false
            }
            Hello::Dropped(reason) => panic!("dropped: {reason}"),
        }
    };
    assert!(accepts(0, PEER, &second));
    assert!(accepts(60, PEER, &second), "the key before this one");
    assert!(!accepts(180, PEER, &second), "too old");
    assert!(!accepts(0, b"[2001:db8::2]:5684", &second), "another peer");
    assert!(
        !accepts(0, b"[2001:db8::1]:5684 header", &second),
        "behind another header of a join proxy"
    );
    let hello = ClientHello::parse(&second).expect("parses");
    let cookie = hello.cookie.to_vec();
    let place = second
        .windows(cookie.len())
        .position(|window| window == cookie)
        .expect("the cookie");
    for offset in 0..cookie.len() {
        let mut other = second.clone();
        other[place + offset] ^= 1;
        assert!(!accepts(0, PEER, &other), "cookie byte {offset}");
    }
    // A byte of the random.
    let mut other = second.clone();
    other[27] ^= 1;
    assert!(!accepts(0, PEER, &other));
    // Two servers do not share cookies.
    let elsewhere = net::dtls::Front::new(front.config().clone(), [8; 32]).expect("front");
    assert!(matches!(
        elsewhere.receive(NOW, PEER, &second),
        Hello::Answer(_)
    ));
}

/// Requirements: DTL-015, DTL-031, JPX-048
#[test]
fn a_hello_that_is_not_sound_is_dropped() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let mut client = Session::client(&ClientConfig::new(None), NOW).expect("client");
    let sound = client.transmit().expect("a ClientHello");
    let with = |offset: usize, bytes: &[u8]| {
        let mut datagram = sound.clone();
        datagram[offset..offset + bytes.len()].copy_from_slice(bytes);
        datagram
    };
    for (datagram, wanted) in [
        (Vec::new(), "no record"),
        (sound[..20].to_vec(), "no record"),
        (with(0, &[23]), "no handshake"),
        (with(1, &[3, 3]), "record version"),
        (with(3, &[0, 1]), "no handshake"),
        (with(5, &[0xFF; 6]), "record number"),
        (with(13, &[2]), "no ClientHello"),
        (with(14, &[0xFF; 3]), "ClientHello in fragments"),
        (with(17, &[0, 2]), "message number"),
        (with(19, &[0, 0, 1]), "ClientHello in fragments"),
        (with(59, &[33]), "compression methods"),
        (with(60, &[0xFF]), "cookie"),
        (with(61, &[0xFF, 0xFF]), "suites"),
    ] {
        match front.receive(NOW, PEER, &datagram) {
            Hello::Dropped(reason) => assert_eq!(reason, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    // Every cut is dropped, and nothing panics.
    for length in 0..sound.len() {
        assert!(matches!(
            front.receive(NOW, PEER, &sound[..length]),
            Hello::Dropped(_)
        ));
    }
}

/// A client that repeats its first ClientHello has record numbers that OpenSSL would not go on
/// with.
///
/// Requirements: DTL-013
#[test]
fn numbers_go_on_where_the_client_is() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let mut pair = Pair::new(&front, &ccm8(&pki.idevid("1").expect("device")));
    let first = pair.client.transmit().expect("a ClientHello");
    // The client repeats it with later numbers, and each is answered.
    let mut answers = Vec::new();
    for number in 35..40 {
        let mut again = first.clone();
        again[10] = number;
        let Hello::Answer(answer) = front.receive(NOW, PEER, &again) else {
            panic!("no answer");
        };
        assert_eq!(answer[10], number, "the question's number");
        answers.push(answer);
    }
    pair.client.receive(NOW, &answers[4]).expect("received");
    for answer in &answers {
        pair.client.receive(NOW, answer).expect("received");
    }
    let mut second = pair.client.transmit().expect("a ClientHello with cookie");
    // Later than what the client itself goes on with, so that no number is used twice.
    second[10] = 40;
    let Hello::Accept(mut session) = front.receive(NOW, PEER, &second) else {
        panic!("not accepted");
    };
    let flight = session.transmit().expect("a flight");
    assert_eq!(flight[10], 40, "the number of the ClientHello");
    assert!(session.began_with(&second));
    assert!(!session.began_with(&first));
    pair.client.receive(NOW, &flight).expect("received");
    pair.server = Some(*session);
    pair.established().talk();
}

/// Requirements: DTL-049, DTL-021
#[test]
fn a_second_hello_of_the_same_peer_is_another_beginning() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let config = ccm8(&pki.idevid("1").expect("device"));
    let mut old = Pair::new(&front, &config).established();
    let mut new = Session::client(&config, NOW).expect("client");
    let first = new.transmit().expect("a ClientHello");
    assert!(ClientHello::begins(&first));
    assert!(!old.server().began_with(&first));
    // Even if it reaches the old association, that lives on.
    old.arrive_at_server(&first);
    old.talk();
    assert!(matches!(front.receive(NOW, PEER, &first), Hello::Answer(_)));
    let again = Pair::new(&front, &config).established();
    drop(again);
    old.talk();
}

/// Requirements: CBR-017, DTL-009, DTL-011, DTL-012
#[test]
fn forged_records_end_an_association_with_short_tags() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let forged = |number: u16| {
        let mut record = vec![23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 1];
        record.extend_from_slice(&number.to_be_bytes());
        record.extend_from_slice(&[0, 32]);
        record.extend_from_slice(&[0x5A; 32]);
        record
    };
    let mut pair = Pair::new(&front, &ccm8(&device)).established();
    for number in 0..127 {
        pair.arrive_at_server(&forged(number));
        assert!(pair.server().transmit().is_none(), "no answer to a forgery");
    }
    pair.talk();
    pair.arrive_at_server(&forged(127));
    assert_eq!(*pair.server().state(), State::Closed(Closed::Forgeries));
    let failed = pair.server().send(NOW, b"more").expect_err("closed");
    assert_eq!(failed.code(), "dtls.closed");

    let mut config = ClientConfig::new(Some(device));
    config.suites = vec![Suite::EcdheEcdsaAes128Gcm];
    let mut pair = Pair::new(&front, &config).established();
    for number in 0..1000 {
        pair.arrive_at_server(&forged(number));
    }
    pair.talk();
}

/// Requirements: DTL-009, DTL-010, DTL-019
#[test]
fn what_has_no_place_is_dropped() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let mut pair = Pair::new(&front, &ccm8(&pki.idevid("1").expect("device"))).established();
    pair.client.send(NOW, b"once").expect("sent");
    let datagram = pair.client.transmit().expect("a datagram");
    pair.arrive_at_server(&datagram);
    assert_eq!(pair.server().read().as_deref(), Some(&b"once"[..]));
    // A record twice, more often than forgeries are allowed.
    for _ in 0..300 {
        pair.arrive_at_server(&datagram);
        assert_eq!(pair.server().read(), None);
    }
    let clear = |content_type: u8, epoch: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).expect("short");
        let mut record = vec![
            content_type,
            0xFE,
            0xFD,
            0,
            epoch,
            0,
            0,
            0,
            0,
            9,
            9,
            0,
            length,
        ];
        record.extend_from_slice(body);
        record
    };
    for datagram in [
        Vec::new(),
        vec![0; 2000],
        clear(23, 0, b"in the clear"),
        clear(21, 0, &[2, 40]),
        clear(21, 0, &[1, 0]),
        clear(20, 0, &[1]),
        clear(20, 1, &[1]),
        clear(22, 0, &[20; 40]),
        clear(23, 2, &[1; 40]),
        clear(99, 1, &[1; 40]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        pair.arrive_at_server(&datagram);
        assert_eq!(pair.server().read(), None);
        assert!(pair.server().transmit().is_none());
    }
    pair.talk();
}

/// Requirements: DTL-015, DTL-016
#[test]
fn handshake_messages_are_bounded() {
    let pki = pki();
    let front = front_with(&pki, |config| config.handshake_message_bytes_max = 4096);
    let mut pair = Pair::new(&front, &ccm8(&pki.idevid("1").expect("device")));
    let hello = pair.client.transmit().expect("a ClientHello");
    pair.arrive_at_server(&hello);
    let hello = pair.client.transmit().expect("a ClientHello");
    pair.arrive_at_server(&hello);
    for (length, offset, part) in [
        (0xFF_FFFF, 0, 10),
        (4097, 0, 10),
        (10, 8, 4),
        (10, 0xFF_FFFF, 1),
        (10, 0, 0xFF_FFFF),
    ] {
        let body = [
            &[11][..],
            &u32::to_be_bytes(length)[1..],
            &[0, 2],
            &u32::to_be_bytes(offset)[1..],
            &u32::to_be_bytes(part)[1..],
            &[0; 10],
        ]
        .concat();
        let mut record = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 40, 0];
        record.push(u8::try_from(body.len()).expect("short"));
        record.extend_from_slice(&body);
        pair.arrive_at_server(&record);
        assert!(!pair.server().is_closed());
    }
    pair.established().talk();

    // A chain longer than allowed never arrives.
    let front = front_with(&pki, |config| config.handshake_message_bytes_max = 300);
    let mut pair = Pair::new(&front, &ccm8(&pki.idevid("1").expect("device")));
    pair.settle();
    assert_eq!(*pair.server().state(), State::Handshaking);
}

/// Requirements: DTL-048
#[test]
fn both_ends_can_close() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let config = ccm8(&pki.idevid("1").expect("device"));
    let mut pair = Pair::new(&front, &config).established();
    pair.client.close();
    pair.settle();
    assert_eq!(*pair.client.state(), State::Closed(Closed::Ours));
    assert_eq!(*pair.server().state(), State::Closed(Closed::Peer));
    let mut pair = Pair::new(&front, &config).established();
    pair.server().close();
    pair.settle();
    assert_eq!(*pair.client.state(), State::Closed(Closed::Peer));
    assert!(pair.client.receive(NOW, b"").is_ok());
}

/// Requirements: DTL-045
#[test]
fn a_handshake_has_an_end() {
    let pki = pki();
    let front = front_with(&pki, |config| {
        config.handshake_time = Duration::from_secs(20)
    });
    let mut config = ccm8(&pki.idevid("1").expect("device"));
    config.handshake_time = Duration::from_secs(30);
    let mut pair = Pair::new(&front, &config);
    assert_eq!(pair.client.deadline(), Some(NOW + Duration::from_secs(1)));
    let hello = pair.client.transmit().expect("a ClientHello");
    pair.arrive_at_server(&hello);
    let hello = pair.client.transmit().expect("a ClientHello");
    pair.arrive_at_server(&hello);
    assert_eq!(pair.server().deadline(), Some(NOW + Duration::from_secs(1)));
    pair.server().advance(NOW + Duration::from_secs(20));
    assert_eq!(*pair.server().state(), State::Closed(Closed::HandshakeTime));
    assert_eq!(pair.server().deadline(), None);
    pair.client.advance(NOW + Duration::from_secs(30));
    assert_eq!(*pair.client.state(), State::Closed(Closed::HandshakeTime));
    assert_eq!(
        pair.client.send(NOW, b"x").expect_err("closed").code(),
        "dtls.closed"
    );
}

/// Requirements: CBR-021, DTL-044
#[test]
fn a_device_with_little_memory() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let config = ClientConfig::small(Some(pki.idevid("1").expect("device")));
    let mut pair = Pair::new(&front, &config).established();
    pair.talk();
    for (from_client, datagram) in &pair.wire {
        for span in records(datagram) {
            // Header, and eight bytes each of nonce and tag.
            assert!(span.len() <= 512 + 13 + 16, "{}", span.len());
        }
        if *from_client {
            assert!(datagram.len() <= 512);
        }
    }
    assert_eq!(pair.server().payload_max(), 512);
    let failed = pair.server().send(NOW, &[0; 513]).expect_err("too large");
    assert_eq!(failed.code(), "dtls.too-large");
    pair.server().send(NOW, &[7; 512]).expect("sent");
    pair.settle();
    assert_eq!(pair.client.read(), Some(vec![7; 512]));
}

/// Requirements: DTL-025, DTL-026
#[test]
fn limits_of_records_have_a_range() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    for (extension, content, alert) in [
        (1_u8, &[5][..], Some(47)),
        (1, &[0], Some(47)),
        (1, &[1], None),
        (1, &[4], None),
        (28, &[0, 63], Some(47)),
        (28, &[64], Some(47)),
        (28, &[2, 0], None),
    ] {
        let mut client = Session::client(&ClientConfig::new(None), NOW).expect("client");
        let hello = client.transmit().expect("a ClientHello");
        let hello = with_extension(&hello, &[], 0, u16::from(extension), content);
        let Hello::Answer(verify) = front.receive(NOW, PEER, &hello) else {
            panic!("no HelloVerifyRequest");
        };
        let hello = client_again(&hello, &verify[28..]);
        match (front.receive(NOW, PEER, &hello), alert) {
            (Hello::Answer(answer), Some(alert)) => {
                assert_eq!(answer[0], 21, "an alert");
                assert_eq!(answer[14], alert, "{extension} {content:?}");
            }
            (Hello::Accept(mut session), None) => {
                let flight = session.transmit().expect("a flight");
                // The extension stands in the ServerHello.
                let length = u8::try_from(content.len()).expect("short");
                let wanted = [0, extension, 0, length];
                let found = flight.windows(4).any(|window| window == wanted);
                assert!(found, "{extension} {content:?}");
            }
            (other, _) => panic!("{extension} {content:?}: {other:?}"),
        }
    }
}

/// The same ClientHello with a cookie.
fn client_again(hello: &[u8], cookie: &[u8]) -> Vec<u8> {
    with_extension(hello, cookie, 1, 0xFFFE, &[])
}

#[test]
fn nothing_in_common() {
    let pki = pki();
    let front = front_with(&pki, |config| {
        config.suites = vec![Suite::EcdheEcdsaAes128Gcm];
    });
    let config = ccm8(&pki.idevid("1").expect("device"));
    let mut pair = Pair::new(&front, &config);
    pair.settle();
    assert!(pair.server.is_none());
    assert!(matches!(
        pair.client.state(),
        State::Closed(Closed::Alert(_))
    ));
}

#[test]
fn configurations_that_cannot_be() {
    let pki = pki();
    let registrar = &pki.domain.registrar;
    let codes = |change: &dyn Fn(&mut net::dtls::ServerConfig)| {
        let mut config = net::dtls::ServerConfig::new(vec![registrar.clone()]);
        change(&mut config);
        net::dtls::Front::new(config, [0; 32])
            .map(|_| ())
            .map_err(|error| error.code())
    };
    assert_eq!(codes(&|_| {}), Ok(()));
    assert_eq!(codes(&|c| c.identities.clear()), Err("dtls.config"));
    assert_eq!(codes(&|c| c.suites.clear()), Err("dtls.config"));
    assert_eq!(codes(&|c| c.mtu = 100), Err("dtls.config"));
    assert_eq!(codes(&|c| c.mtu = 9000), Err("dtls.config"));
    let twice = codes(&|c| c.identities.push(registrar.clone()));
    assert_eq!(twice, Err("dtls.identity"));
    let mixed = Identity {
        chain: registrar.chain.clone(),
        signer: pki.idevid("1").expect("device").signer,
    };
    let mut config = ClientConfig::new(Some(mixed));
    let failed = Session::client(&config, NOW).expect_err("another key");
    assert_eq!(failed.code(), "dtls.identity");
    config.identity = None;
    config.record_limit = Some(63);
    let failed = Session::client(&config, NOW).expect_err("too small");
    assert_eq!(failed.code(), "dtls.config");
}

/// A stranger's record with the highest number of all, before the handshake is over, makes nothing
/// else too old; and what came before then counts as seen.
///
/// Requirements: DTL-009, DTL-010
#[test]
fn forged_numbers_before_the_end_of_a_handshake() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let mut pair = Pair::new(&front, &ClientConfig::new(Some(device)));
    let mut forged = vec![
        23, 0xFE, 0xFD, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 40,
    ];
    forged.resize(13 + 40, 7);
    let mut sent = Vec::new();
    while *pair.client.state() != State::Established {
        while let Some(datagram) = pair.client.transmit() {
            if pair.server.is_some() {
                pair.arrive_at_server(&forged);
            }
            pair.arrive_at_server(&datagram);
            sent.push(datagram);
        }
        let mut quiet = true;
        while let Some(datagram) = pair.server.as_mut().and_then(Session::transmit) {
            quiet = false;
            pair.client.receive(pair.now, &datagram).expect("received");
        }
        assert!(pair.server.is_none() || !quiet, "nobody says anything");
    }
    assert_eq!(*pair.server().state(), State::Established);
    pair.talk();
    for datagram in sent {
        pair.arrive_at_server(&datagram);
    }
    assert_eq!(pair.server().read(), None);
    pair.talk();
}
