//! What stands in a ClientHello, ours and others', and what a server makes of it.

use std::time::Duration;

use net::dtls::{ClientConfig, ClientHello, Front, Hello, Session, State, Suite, Version};
use pki::Identity;

use crate::dtls_support::{
    PEER, Pair, extensions, front_with, messages, pki, records, with_extension, with_extensions,
};

const NOW: Duration = Duration::from_secs(1000);

const SERVER_NAME: u16 = 0;
const POINT_FORMATS: u16 = 11;
const ALPN: u16 = 16;
const CLIENT_CERTIFICATE_TYPE: u16 = 19;
const SERVER_CERTIFICATE_TYPE: u16 = 20;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const COOKIE: u16 = 44;
const SUPPORTED_GROUPS: u16 = 10;
const KEY_SHARE: u16 = 51;

fn config(version: Version, identity: &Identity) -> ClientConfig {
    let mut config = ClientConfig::new(Some(identity.clone()));
    config.version = version;
    config
}

fn hello_of(config: &ClientConfig) -> Vec<u8> {
    let mut client = Session::client(config, NOW).expect("client");
    client.transmit().expect("a ClientHello")
}

fn answered(front: &Front, datagram: &[u8]) -> Vec<u8> {
    match front.receive(NOW, PEER, datagram) {
        Hello::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// The server's first flight to a ClientHello of DTLS 1.2 with these extensions.
fn flight_of_1_2(front: &Front, hello: &[u8], all: &[(u16, Vec<u8>)]) -> Result<Vec<Vec<u8>>, u8> {
    let first = with_extensions(hello, &[], 0, all);
    let answer = answered(front, &first);
    if answer[0] == 21 {
        return Err(answer[14]);
    }
    // Record and message header, version and the length of the cookie.
    let second = with_extensions(hello, &answer[28..], 1, all);
    match front.receive(NOW, PEER, &second) {
        Hello::Accept(mut session) => Ok(std::iter::from_fn(|| session.transmit()).collect()),
        Hello::Answer(answer) => Err(answer[14]),
        Hello::Dropped(reason) => panic!("{reason}"),
    }
}

/// The same with DTLS 1.3.
fn flight_of_1_3(front: &Front, hello: &[u8], all: &[(u16, Vec<u8>)]) -> Result<Vec<Vec<u8>>, u8> {
    let first = with_extensions(hello, &[], 0, all);
    let answer = answered(front, &first);
    if answer[0] == 21 {
        return Err(answer[14]);
    }
    // It ends with the cookie: a length of two bytes, and 32 bytes.
    let cookie = answer[answer.len() - 34..].to_vec();
    let mut all = all.to_vec();
    all.push((COOKIE, cookie));
    let second = with_extensions(hello, &[], 1, &all);
    match front.receive(NOW, PEER, &second) {
        Hello::Accept(mut session) => Ok(std::iter::from_fn(|| session.transmit()).collect()),
        Hello::Answer(answer) => Err(answer[14]),
        Hello::Dropped(reason) => panic!("{reason}"),
    }
}

/// What a device says of itself before it knows whom it talks to.
///
/// Requirements: CBR-029, DTL-040, DTL-042
#[test]
fn a_device_names_nobody_and_sends_nothing_early() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    for version in [Version::Dtls12, Version::Dtls13] {
        let datagram = hello_of(&config(version, &device));
        let hello = ClientHello::parse(&datagram).expect("a ClientHello");
        for absent in [SERVER_NAME, EARLY_DATA, PRE_SHARED_KEY, ALPN] {
            assert_eq!(hello.extension(absent), None, "{version:?} {absent}");
        }
        assert!(hello.session_id.is_empty(), "{version:?}");
    }
    let mut named = config(Version::Dtls12, &device);
    named.server_name = Some("registrar.example".to_owned());
    let datagram = hello_of(&named);
    let hello = ClientHello::parse(&datagram).expect("a ClientHello");
    assert!(hello.extension(SERVER_NAME).is_some());
}

/// Requirements: CBR-007
#[test]
fn whoever_has_both_versions_gets_the_newer_one() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    let hello = hello_of(&config(Version::Dtls13, &device));
    let mut all = extensions(&hello);
    for (number, content) in &mut all {
        if *number == SUPPORTED_VERSIONS {
            *content = vec![4, 0xFE, 0xFD, 0xFE, 0xFC];
        }
    }
    let both = with_extensions(&hello, &[], 0, &all);
    let parsed = ClientHello::parse(&both).expect("a ClientHello");
    assert!(parsed.has_dtls_1_2() && parsed.has_dtls_1_3());
    let front = front_with(&pki, |_| {});
    let answer = answered(&front, &both);
    // A HelloRetryRequest that chooses fe fc.
    assert_eq!(answer[13], 2);
    assert!(
        answer
            .windows(6)
            .any(|part| part == [0, 43, 0, 2, 0xFE, 0xFC])
    );
}

/// wolfSSL does so with DTLS 1.3 to keep its first ClientHello small.
#[test]
fn a_device_that_sends_no_share_is_told_a_group() {
    let pki = pki();
    let device = pki.idevid("1").expect("device");
    let front = front_with(&pki, |_| {});
    let hello = hello_of(&config(Version::Dtls13, &device));
    let replaced = |number: u16, content: &[u8], all: &[(u16, Vec<u8>)]| {
        let mut all = all.to_vec();
        for one in all.iter_mut().filter(|one| one.0 == number) {
            one.1 = content.to_vec();
        }
        all
    };
    let share = extensions(&hello)
        .into_iter()
        .find_map(|(number, content)| (number == KEY_SHARE).then_some(content))
        .expect("a share");
    let group = [share[2], share[3]];
    let all = replaced(
        SUPPORTED_GROUPS,
        &[0, 4, 0x11, 0xEB, group[0], group[1]],
        &extensions(&hello),
    );
    let without = replaced(KEY_SHARE, &[0, 0], &all);
    let first = with_extensions(&hello, &[], 0, &without);
    let answer = answered(&front, &first);
    assert!(answer.len() <= first.len());
    let told = [0, 51, 0, 2, group[0], group[1], 0, 44];
    assert!(answer.windows(8).any(|part| part == told), "{answer:?}");

    let cookie = answer[answer.len() - 34..].to_vec();
    let second = |all: &[(u16, Vec<u8>)]| {
        // The share stands elsewhere than the empty list did.
        let mut all = all.to_vec();
        all.sort_by_key(|one| one.0 != KEY_SHARE);
        all.push((COOKIE, cookie.clone()));
        front.receive(NOW, PEER, &with_extensions(&hello, &[], 1, &all))
    };
    let Hello::Accept(mut session) = second(&all) else {
        panic!("refused");
    };
    let flight = session.transmit().expect("a flight");
    assert_eq!((flight[0], flight[13]), (22, 2), "a ServerHello");
    // It was told, and is not told again; and what it was told counts with these groups only.
    assert!(!matches!(second(&without), Hello::Accept(_)));
    let others = replaced(SUPPORTED_GROUPS, &[0, 2, group[0], group[1]], &all);
    assert!(!matches!(second(&others), Hello::Accept(_)));
    // A first ClientHello without a group that is here is for another version.
    let foreign = replaced(SUPPORTED_GROUPS, &[0, 2, 0x11, 0xEB], &without);
    let answer = answered(&front, &with_extensions(&hello, &[], 0, &foreign));
    assert_eq!((answer[0], answer[14]), (21, 70), "protocol_version");
}

/// Requirements: DTL-030, DTL-031
#[test]
fn no_suite_is_used_below_1_2() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let mut ccm8 = config(Version::Dtls12, &device);
    ccm8.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
    let mut hello = hello_of(&ccm8);
    assert_eq!(hello[25..27], [0xFE, 0xFD]);
    hello[26] = 0xFF;
    let answer = answered(&front, &hello);
    assert_eq!((answer[0], answer[14]), (21, 70), "protocol_version");
}

/// Requirements: CBR-152, DTL-028
#[test]
fn certificates_are_x_509_both_ways_or_there_are_none() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let own = pki.domain.registrar.chain[0].der();
    let hello_1_2 = hello_of(&ClientConfig::new(None));
    let device = pki.idevid("1").expect("device");
    let hello_1_3 = hello_of(&config(Version::Dtls13, &device));
    for (extension, content, taken) in [
        (SERVER_CERTIFICATE_TYPE, &[1, 0][..], true),
        (SERVER_CERTIFICATE_TYPE, &[2, 2, 0], true),
        (CLIENT_CERTIFICATE_TYPE, &[2, 0, 2], true),
        (SERVER_CERTIFICATE_TYPE, &[1, 2], false),
        (CLIENT_CERTIFICATE_TYPE, &[1, 2], false),
        (CLIENT_CERTIFICATE_TYPE, &[0], false),
        (SERVER_CERTIFICATE_TYPE, &[], false),
    ] {
        let with = |hello: &[u8]| {
            let mut all = extensions(hello);
            all.push((extension, content.to_vec()));
            all
        };
        let of_1_2 = flight_of_1_2(&front, &hello_1_2, &with(&hello_1_2));
        let of_1_3 = flight_of_1_3(&front, &hello_1_3, &with(&hello_1_3));
        if !taken {
            assert_eq!(of_1_2.expect_err("refused"), 43, "{extension} {content:?}");
            assert_eq!(of_1_3.expect_err("refused"), 43, "{extension} {content:?}");
            continue;
        }
        assert!(of_1_3.is_ok(), "{extension} {content:?}");
        let flight = messages(&of_1_2.expect("a flight"));
        let certificate = flight.iter().find(|(kind, ..)| *kind == 11).expect("11");
        // The list's length and the first certificate's.
        assert_eq!(&certificate.2[6..6 + own.len()], own);
        // RFC 7250 section 4.2: without the extension in the ServerHello it is X.509.
        let (_, _, server_hello) = &flight[0];
        let number = extension.to_be_bytes();
        assert!(!server_hello.windows(2).any(|part| part == number));
    }
}

/// Requirements: DTL-041
#[test]
fn protocol_names_say_nothing() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    for names in [&b"\0\x05\x04coap"[..], b"\0\x0c\x02co\x08unknown!"] {
        let hello = hello_of(&ClientConfig::new(None));
        let mut all = extensions(&hello);
        all.push((ALPN, names.to_vec()));
        assert!(flight_of_1_2(&front, &hello, &all).is_ok());
        let hello = hello_of(&config(Version::Dtls13, &device));
        let mut all = extensions(&hello);
        all.push((ALPN, names.to_vec()));
        assert!(flight_of_1_3(&front, &hello, &all).is_ok());
    }
}

/// Requirements: ESC-002
#[test]
fn points_are_not_compressed() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let hello = hello_of(&ClientConfig::new(None));
    let own = extensions(&hello);
    let groups = own.iter().find(|(number, _)| *number == 10).expect("10");
    // P-256 stands first.
    assert_eq!(groups.1[2..4], [0, 23]);
    let formats = own.iter().find(|(number, _)| *number == POINT_FORMATS);
    assert!(formats.expect("11").1[1..].contains(&0));
    let only: Vec<_> = own
        .iter()
        .map(|(number, content)| match *number {
            POINT_FORMATS => (POINT_FORMATS, vec![1, 0]),
            _ => (*number, content.clone()),
        })
        .collect();
    for all in [own, only] {
        let flight = messages(&flight_of_1_2(&front, &hello, &all).expect("a flight"));
        let (_, _, server_hello) = &flight[0];
        let place = server_hello
            .windows(2)
            .position(|part| part == [0, 11])
            .expect("ec_point_formats");
        let formats = &server_hello[place + 5..][..usize::from(server_hello[place + 4])];
        assert!(formats.contains(&0), "{formats:?}");
        let (_, _, exchange) = flight.iter().find(|(kind, ..)| *kind == 12).expect("12");
        // A named curve, P-256, and a point of 65 bytes that begins with 4.
        assert_eq!(exchange[..5], [3, 0, 23, 65, 4]);
    }
}

/// A client that says both how long its records may be and its fragments gets neither exceeded.
///
/// Requirements: DTL-025, DTL-026
#[test]
fn of_two_limits_the_smaller_is_kept() {
    const FRAGMENT_LENGTH: u16 = 1;
    const RECORD_LIMIT: u16 = 28;
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let hello = hello_of(&ClientConfig::new(None));
    for (fragment, limit, wanted) in [
        (None, None, None),
        (Some(1), None, Some(512)),
        (None, Some(600), Some(600)),
        (Some(1), Some(600), Some(512)),
        (Some(2), Some(600), Some(600)),
    ] {
        let mut all = extensions(&hello);
        all.extend(fragment.map(|code: u8| (FRAGMENT_LENGTH, vec![code])));
        all.extend(limit.map(|limit: u16| (RECORD_LIMIT, limit.to_be_bytes().to_vec())));
        let datagram = with_extensions(&hello, &[], 0, &all);
        let parsed = ClientHello::parse(&datagram).expect("a ClientHello");
        assert_eq!(parsed.record_limit(), wanted, "{fragment:?} {limit:?}");
        let flight = flight_of_1_2(&front, &hello, &all).expect("a flight");
        for datagram in &flight {
            for span in records(datagram) {
                assert!(
                    span.len() - 13 <= wanted.unwrap_or(1024),
                    "{fragment:?} {limit:?}"
                );
            }
        }
    }
}

/// A server that asks for a second ClientHello twice.
///
/// Requirements: DTL-006
#[test]
fn who_is_asked_twice_to_begin_anew_gives_up() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let offer = config(Version::Dtls13, &device);
    let mut client = Session::client(&offer, NOW).expect("client");
    let first = client.transmit().expect("a ClientHello");
    let retry = answered(&front, &first);
    client.receive(NOW, &retry).expect("received");
    let second = client.transmit().expect("a ClientHello with cookie");
    assert!(
        ClientHello::parse(&second)
            .expect("a ClientHello")
            .message_sequence
            == 1
    );
    // The same once more, as the server's next message.
    let mut again = retry;
    again[10] += 1;
    again[18] = 1;
    let _ = client.receive(NOW, &again);
    while let Some(datagram) = client.transmit() {
        assert!(!ClientHello::begins(&datagram), "a third ClientHello");
    }
    assert!(client.is_closed(), "{:?}", client.state());
}

/// A client's messages in fragments that overlap, backwards, each of them twice. The ClientHello
/// itself has to come whole: nothing is kept of a peer before its cookie.
///
/// Requirements: CBR-025, DTL-015
#[test]
fn fragments_come_in_any_order() {
    assert_eq!(fragmented(None), State::Established);
    // One of them says another length of the whole message.
    let ended = fragmented(Some(7));
    assert!(
        matches!(ended, State::Closed(_) | State::Handshaking),
        "{ended:?}"
    );
}

/// How the server's handshake ends, and whether it works. The piece with this number is wrong.
fn fragmented(wrong: Option<usize>) -> State {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let mut pair = Pair::new(&front, &config(Version::Dtls12, &device));
    for _ in 0..2 {
        let hello = pair.client.transmit().expect("a ClientHello");
        pair.arrive_at_server(&hello);
    }
    while let Some(datagram) = pair.server().transmit() {
        pair.client.receive(NOW, &datagram).expect("received");
    }
    let flight: Vec<Vec<u8>> = std::iter::from_fn(|| pair.client.transmit()).collect();
    let mut number: u16 = 100;
    let mut record = |kind: u8, body: &[u8]| {
        number += 1;
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        let header = [kind, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0];
        [&header[..], &number.to_be_bytes(), &length, body].concat()
    };
    let three = |value: usize| u32::try_from(value).expect("short").to_be_bytes()[1..].to_vec();
    let mut pieces = Vec::new();
    let all = messages(&flight);
    let kinds: Vec<u8> = all.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, [11, 16, 15], "certificate, key exchange, verify");
    for (kind, sequence, body) in all {
        for start in (0..body.len()).step_by(50) {
            let from = start.saturating_sub(20);
            let part = &body[from..body.len().min(start + 50)];
            let header = [
                vec![kind],
                three(body.len()),
                sequence.to_be_bytes().to_vec(),
                three(from),
                three(part.len()),
            ];
            pieces.push([header.concat(), part.to_vec()].concat());
        }
    }
    assert!(pieces.len() > 20, "{}", pieces.len());
    if let Some(wrong) = wrong {
        // The last byte of the length.
        pieces[wrong][3] ^= 1;
    }
    for piece in pieces.iter().rev().chain(&pieces) {
        let datagram = record(22, piece);
        pair.arrive_at_server(&datagram);
    }
    for datagram in &flight {
        for span in records(datagram) {
            let old = &datagram[span];
            match (old[0], &old[3..5]) {
                (22, [0, 0]) => {}
                (kind, [0, 0]) => pair.arrive_at_server(&record(kind, &old[13..])),
                _ => pair.arrive_at_server(old),
            }
        }
    }
    pair.settle();
    let state = pair.server().state().clone();
    if state == State::Established {
        pair.talk();
    }
    state
}

/// Requirements: DTL-018, DTL-042
#[test]
fn nothing_of_1_2_and_nothing_early_stands_in_1_3() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let device = pki.idevid("1").expect("device");
    let offer = config(Version::Dtls13, &device);
    let mut pair = Pair::new(&front, &offer).established();
    pair.talk();
    let mut server_hellos = 0;
    for (_, datagram) in &pair.wire {
        // Records in the clear stand before the others.
        let mut rest = datagram.as_slice();
        while rest.first().is_some_and(|kind| *kind < 32) {
            assert_ne!(rest[0], 20, "ChangeCipherSpec");
            let length = 13 + usize::from(u16::from_be_bytes([rest[11], rest[12]]));
            if rest[0] == 22 && rest[13] == 2 {
                server_hellos += 1;
                // Behind the headers, version and random: the session id is empty.
                assert_eq!(rest[13 + 12 + 34], 0);
            }
            rest = &rest[length..];
        }
    }
    assert_eq!(server_hellos, 2, "HelloRetryRequest and ServerHello");

    // A client that asks to send early data is answered like any other, and what it sends under
    // epoch 1 is dropped.
    let hello = hello_of(&offer);
    let early = with_extension(&hello, &[], 0, EARLY_DATA, &[]);
    assert_eq!(answered(&front, &early)[13], 2);
    let mut pair = Pair::new(&front, &offer);
    for _ in 0..2 {
        let hello = pair.client.transmit().expect("a ClientHello");
        pair.arrive_at_server(&hello);
    }
    for number in 0..4 {
        // The short header with number and length, epoch 1.
        let datagram = [&[0x2D, 0, number, 0, 40][..], &[0x5A; 40]].concat();
        pair.arrive_at_server(&datagram);
        assert_eq!(pair.server().read(), None);
    }
    pair.established().talk();
}
