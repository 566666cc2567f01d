//! The message format.

use coap::{Block, Code, Error, Kind, Message, Token, Via, option};
use proptest::prelude::*;

use crate::world::{PEER, World};

/// Requirements: COA-001, COA-002, COA-003, COA-004, COA-005, COA-006, COA-008, COA-037
#[test]
fn broken_messages_are_rejected_if_confirmable_and_else_ignored() {
    // The first byte is that of a confirmable message without token unless the row is about it.
    let cases: &[(&str, &[u8], bool)] = &[
        ("version 0", &[0x00, 0x01, 0, 9], false),
        ("version 2", &[0x80, 0x01, 0, 9], false),
        ("version 3", &[0xc0, 0x01, 0, 9], false),
        ("three bytes", &[0x40, 0x01, 0], false),
        ("nothing", &[], false),
        (
            "token of 9",
            &[0x49, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            true,
        ),
        (
            "token of 15",
            &[0x4f, 1, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            true,
        ),
        ("token cut off", &[0x44, 1, 0, 9, 1], true),
        ("marker without payload", &[0x40, 1, 0, 9, 0xff], true),
        ("delta 15", &[0x40, 1, 0, 9, 0xf1, 0], true),
        ("length 15", &[0x40, 1, 0, 9, 0x1f, 0], true),
        ("delta cut off", &[0x40, 1, 0, 9, 0xd0], true),
        ("length cut off", &[0x40, 1, 0, 9, 0x0e, 0], true),
        ("value cut off", &[0x40, 1, 0, 9, 0x03, 0], true),
        (
            "number above 65535",
            &[0x40, 1, 0, 9, 0xe0, 0xff, 0xff],
            true,
        ),
        ("empty with token", &[0x41, 0, 0, 9, 1], true),
        ("empty with payload", &[0x40, 0, 0, 9, 0xff, 1], true),
        ("reserved class 1", &[0x40, 0x21, 0, 9], true),
        ("reserved class 7", &[0x40, 0xe1, 0, 9], true),
    ];
    for (name, datagram, rejected) in cases {
        let mut world = World::new(coap::Config::default());
        let heard = world.say_as(PEER, Via::Secured, datagram);
        if *rejected {
            assert_eq!(heard, [Message::empty(Kind::Reset, 9)], "{name}");
        } else {
            assert_eq!(heard, [], "{name}");
        }
        // The same bytes as NON, ACK and RST, and to everyone, are not answered.
        for kind in [0x10, 0x20, 0x30] {
            let mut other = datagram.to_vec();
            if let Some(first) = other.first_mut() {
                *first |= kind;
            }
            assert_eq!(world.say_as(PEER, Via::Secured, &other), [], "{name}");
        }
        assert_eq!(world.say_as(PEER, Via::Multicast, datagram), [], "{name}");
        assert_eq!(world.endpoint.event(), None, "{name}");
    }
}

/// Requirements: COA-007
#[test]
fn ping_is_answered_with_reset() {
    let mut world = World::new(coap::Config::default());
    let heard = world.say_as(PEER, Via::Secured, &[0x40, 0, 0x12, 0x34]);
    assert_eq!(heard, [Message::empty(Kind::Reset, 0x1234)]);
    for stray in [[0x60, 0, 0, 1], [0x70, 0, 0, 1], [0x50, 0, 0, 1]] {
        assert_eq!(world.say_as(PEER, Via::Secured, &stray), []);
    }
}

#[test]
fn limits_on_options() {
    let mut many = Message::new(Kind::Confirmable, Code::GET, 1, Token::default());
    for _ in 0..=coap::OPTIONS_MAX {
        many.add(option::URI_PATH, *b"a");
    }
    let mut long = Message::new(Kind::Confirmable, Code::GET, 1, Token::default());
    long.add(option::PROXY_URI, vec![b'a'; coap::OPTION_LENGTH_MAX + 1]);
    for message in [many, long] {
        let datagram = message.encode().unwrap();
        assert!(matches!(Message::decode(&datagram), Err(Error::Limit(_))));
    }
}

#[test]
fn block_values() {
    // Number, more, exponent, the option's bytes.
    let cases: &[(u32, bool, u8, &[u8])] = &[
        (0, false, 0, &[]),
        (0, true, 6, &[0x0e]),
        (1, false, 2, &[0x12]),
        (4095, true, 4, &[0xff, 0xfc]),
        (1_048_575, false, 6, &[0xff, 0xff, 0xf6]),
    ];
    for (number, more, exponent, bytes) in cases {
        let block = Block::new(*number, *more, *exponent).unwrap();
        assert_eq!(block.encode(), *bytes);
        assert_eq!(Block::decode(bytes), Some(block));
    }
    assert_eq!(Block::new(1_048_576, false, 0), None);
    assert_eq!(Block::new(0, false, 7), None);
    assert_eq!(Block::decode(&[0x07]), None);
    assert_eq!(Block::decode(&[0, 0, 0, 0]), None);
}

#[test]
fn published_messages_decode_and_encode_to_the_same_bytes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/messages");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|ending| ending != "bin" && ending != "coap")
        {
            continue;
        }
        let datagram = std::fs::read(&path).unwrap();
        let message = Message::decode(&datagram).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert_eq!(message.encode().unwrap(), datagram, "{path:?}");
        seen += 1;
    }
    assert!(seen > 0, "no examples found");
}

fn messages() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        Just(Kind::Confirmable),
        Just(Kind::NonConfirmable),
        Just(Kind::Acknowledgement),
        Just(Kind::Reset),
    ];
    let token = proptest::collection::vec(any::<u8>(), 0..=8);
    let options = proptest::collection::vec(
        (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..300)),
        0..20,
    );
    let payload = proptest::collection::vec(any::<u8>(), 0..1200);
    (kind, 1_u8.., any::<u16>(), token, options, payload).prop_map(
        |(kind, code, id, token, options, payload)| {
            let token = Token::new(&token).unwrap();
            let mut message = Message::new(kind, Code(code), id, token);
            for (number, value) in options {
                message.add(number, value);
            }
            message.payload = payload;
            message
        },
    )
}

proptest! {
    /// A reader that is not ours finds in a message what we put there.
    #[test]
    fn another_reader_agrees(message in messages()) {
        let datagram = message.encode().unwrap();
        let packet = coap_lite::Packet::from_bytes(&datagram).unwrap();
        prop_assert_eq!(packet.header.message_id, message.id);
        prop_assert_eq!(packet.get_token(), message.token.as_bytes());
        prop_assert_eq!(&packet.payload, &message.payload);
        let theirs: Vec<_> = packet
            .options()
            .flat_map(|(number, values)| values.iter().map(|value| (*number, value.clone())))
            .collect();
        let ours: Vec<_> = message
            .options()
            .map(|(number, value)| (number, value.to_vec()))
            .collect();
        prop_assert_eq!(theirs, ours);
    }

    #[test]
    fn what_is_written_is_read(message in messages()) {
        let datagram = message.encode().unwrap();
        prop_assert_eq!(Message::decode(&datagram), Ok(message));
    }

    /// What is read from any bytes is written as the same bytes: the format has one form only.
    #[test]
    fn what_is_read_is_written(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&datagram) {
            prop_assert_eq!(message.encode(), Ok(datagram));
        }
    }
}
