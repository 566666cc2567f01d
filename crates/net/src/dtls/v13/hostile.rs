//! Peers that finish their handshake and then send what they should not.

use std::time::Duration;

use pki::{Identity, KeyKind, Signer as _, SoftwareKey};
use testkit::Pki;
use time::OffsetDateTime;

use super::super::provider::{DISGUISE, FAILS};
use super::super::{Front, Hello, Session, State};
use super::*;

const NOW: Moment = Duration::from_secs(1000);
const PEER: &[u8] = b"[2001:db8::1]:5684";
const KEY_UPDATE: u8 = 24;

fn pki() -> Pki {
    Pki::p256(OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)).expect("identities")
}

fn front(pki: &Pki) -> Front {
    front_for(pki, 16 * 1024)
}

fn front_for(pki: &Pki, message_bytes_max: usize) -> Front {
    let mut config = ServerConfig::new(vec![pki.domain.registrar.clone()]);
    config.handshake_message_bytes_max = message_bytes_max;
    Front::new(config, [7; 32]).expect("front")
}

fn client(identity: Identity) -> Session {
    let mut config = ClientConfig::new(Some(identity));
    config.version = Version::Dtls13;
    config.mtu = 4096;
    Session::client(&config, NOW).expect("client")
}

/// Passes everything on until nobody has anything to send.
fn settle(front: &Front, client: &mut Session, server: &mut Option<Session>) {
    loop {
        let mut quiet = true;
        while let Some(datagram) = client.transmit() {
            quiet = false;
            if let Some(server) = server {
                let _ = server.receive(NOW, &datagram);
                continue;
            }
            match front.receive(NOW, PEER, &datagram) {
                Hello::Answer(answer) => {
                    let _ = client.receive(NOW, &answer);
                }
                Hello::Accept(session) => *server = Some(*session),
                Hello::Dropped(reason) => panic!("dropped: {reason}"),
            }
        }
        while let Some(datagram) = server.as_mut().and_then(Session::transmit) {
            quiet = false;
            let _ = client.receive(NOW, &datagram);
        }
        if quiet {
            return;
        }
    }
}

/// A message is as long as the limit says, whether or not it is encrypted. Within it, dimpl has
/// room for a certificate that is longer than a datagram: it panics where it has none.
///
/// Requirements: DTL-016
#[test]
fn an_encrypted_message_has_a_limit() {
    let pki = pki();
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).expect("a key");
    let mut builder = pki::issue::CertificateBuilder::new(
        pki::issue::Profile::TlsServer,
        pki::issue::name("CN=large").expect("a name"),
        key.public_key().clone(),
        [1; 16],
        OffsetDateTime::UNIX_EPOCH,
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000),
    );
    for number in 0..800 {
        builder = builder.dns_name(format!("a-name-of-two-and-thirty-by-{number:04}"));
    }
    let certificate = builder.self_sign(&key).expect("a certificate");
    assert!((20_000..36_000).contains(&certificate.der().len()));
    let identity = Identity {
        chain: vec![certificate],
        signer: std::sync::Arc::new(key),
    };
    for (limit, state) in [
        (16 * 1024, State::Handshaking),
        (64 * 1024, State::Established),
    ] {
        let front = front_for(&pki, limit);
        let (mut client, mut server) = (client(identity.clone()), None);
        settle(&front, &mut client, &mut server);
        let server = server.expect("a session");
        assert_eq!(*server.state(), state, "{limit}");
    }
}

/// dimpl keeps messages that are not due yet.
///
/// Requirements: DTL-016
#[test]
fn what_a_peer_has_held_back_has_a_limit() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    let (front, mut client, mut server) = (front(&pki), client(device), None);
    settle(&front, &mut client, &mut server);
    let mut server = server.expect("a session");
    assert_eq!(*server.state(), State::Established);
    let mut held = 0;
    for number in 1..=20_u8 {
        // The beginning of a message that never comes to its turn nor to its end.
        let mut message = vec![KEY_UPDATE, 0, 0x20, 0, 0, 100 + number, 0, 0, 0, 0, 0x10, 0];
        message.resize(12 + 0x1000, 0);
        DISGUISE.set(Some(HANDSHAKE));
        let sent = client.send(NOW, &message);
        DISGUISE.set(None);
        sent.expect("sent");
        while let Some(datagram) = client.transmit() {
            if server.receive(NOW, &datagram).is_ok() && !server.is_closed() {
                held += message.len();
            }
        }
    }
    assert!(held <= 16 * 1024, "{held}");
    assert!(server.is_closed());
}

/// Datagrams of more than a record are not for dimpl, whose buffers never shrink.
///
/// Requirements: DTL-016
#[test]
fn a_datagram_is_no_longer_than_a_record() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    let (front, mut client, mut server) = (front(&pki), client(device), None);
    settle(&front, &mut client, &mut server);
    let mut server = server.expect("a session");
    client.send(NOW, &[7; 1000]).expect("sent");
    let record = client.transmit().expect("a datagram");
    let mut long = record.clone();
    long.resize(60_000, 0);
    let _ = server.receive(NOW, &long);
    assert_eq!(server.read(), None);
    let _ = server.receive(NOW, &record);
    assert_eq!(server.read(), Some(vec![7; 1000]));
}

/// An association that brings dimpl to a panic ends, and whoever drives it goes on.
#[test]
fn a_panic_ends_one_association() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    let (front, mut client, mut server) = (front(&pki), client(device), None);
    settle(&front, &mut client, &mut server);
    let mut server = server.expect("a session");
    client.send(NOW, b"x").expect("sent");
    let datagram = client.transmit().expect("a datagram");
    FAILS.set(true);
    let _ = server.receive(NOW, &datagram);
    FAILS.set(false);
    assert!(matches!(server.state(), State::Closed(Closed::Library(_))));
    assert!(server.receive(NOW, &datagram).is_err());
    assert_eq!((server.read(), server.deadline()), (None, None));
    server.advance(NOW + Duration::from_secs(100));
    server.close();
}
