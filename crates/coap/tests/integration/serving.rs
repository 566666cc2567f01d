//! What a server does with each message.

use std::time::Duration;

use coap::{Block, Code, Config, Kind, Message, Response, Via, option};

use crate::world::{PEER, SECOND, World, message, with_path};

fn get(id: u16, token: &[u8]) -> Message {
    with_path(message(Kind::Confirmable, Code::GET, id, token), "a")
}

fn block1(id: u16, number: u32, more: bool, exponent: u8, payload: &[u8]) -> Message {
    let mut message = with_path(message(Kind::Confirmable, Code::POST, id, &[id as u8]), "p");
    message.add_uint(option::CONTENT_FORMAT, 60);
    message.add(
        option::BLOCK1,
        Block::new(number, more, exponent).unwrap().encode(),
    );
    message.payload = payload.to_vec();
    message
}

fn block_of(message: &Message, number: u16) -> Block {
    Block::decode(message.value(number).expect("a block option")).unwrap()
}

/// Requirements: COA-012, COA-021, COA-010, COA-020, COA-013
#[test]
fn duplicates_are_answered_alike_and_asked_once() {
    for token in [&[][..], &[1], &[1, 2, 3, 4], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        let mut world = World::new(Config::default());
        let request = get(5, token);
        assert_eq!(world.say(&request), []);
        let (exchange, asked) = world.asked().unwrap();
        assert_eq!(asked.path(), "a");
        assert_eq!(world.say(&request), [], "nothing to repeat yet");
        let response = Response::content(Code::CONTENT, 0, *b"x");
        world.endpoint.respond(world.now, exchange, response);
        let heard = world.heard();
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].kind, Kind::Acknowledgement);
        assert_eq!((heard[0].id, heard[0].token.as_bytes()), (5, token));
        assert_eq!(world.say(&request), heard, "the same answer again");
        assert_eq!(world.asked(), None);

        let mut unreliable = request;
        unreliable.kind = Kind::NonConfirmable;
        unreliable.id = 6;
        assert_eq!(world.say(&unreliable), []);
        let (exchange, _) = world.asked().unwrap();
        world
            .endpoint
            .respond(world.now, exchange, Response::new(Code::CONTENT));
        assert_eq!(world.heard()[0].kind, Kind::NonConfirmable);
        assert_eq!(
            world.say(&unreliable),
            [],
            "a duplicate of a NON is ignored"
        );
        assert_eq!(world.asked(), None);
    }
}

/// Requirements: COA-012, COA-066
#[test]
fn what_is_kept_to_be_said_again_has_a_limit() {
    let mut world = World::new(Config::default());
    let mut said = Vec::new();
    for id in 1..=60 {
        world.say(&get(id, &[1]));
        let (exchange, _) = world.asked().unwrap();
        let response = Response::content(Code::CONTENT, 0, vec![7; 1000]);
        world.endpoint.respond(world.now, exchange, response);
        said.push(world.heard().remove(0));
    }
    let again: Vec<Vec<Message>> = (1..=60).map(|id| world.say(&get(id, &[1]))).collect();
    assert_eq!(world.asked(), None, "all of them are known");
    let bytes: usize = again
        .iter()
        .flatten()
        .map(|message| message.encode().unwrap().len())
        .sum();
    assert!((4096..=8192).contains(&bytes), "{bytes}");
    assert_eq!(again[59], [said[59].clone()], "the newest is said again");
    assert_eq!(again[0], [], "the oldest is not");
}

/// Requirements: COA-060
#[test]
fn a_message_id_comes_again_after_its_lifetime() {
    let mut world = World::new(Config::default());
    world.say(&get(5, &[1]));
    let (exchange, _) = world.asked().unwrap();
    world
        .endpoint
        .respond(world.now, exchange, Response::new(Code::CONTENT));
    world.say(&block1(6, 0, true, 2, &[0; 64]));
    assert_eq!(world.endpoint.held(), 64);
    world.later(248 * SECOND);
    world.later(248 * SECOND);
    assert_eq!((world.endpoint.peers(), world.endpoint.held()), (0, 0));
    world.say(&get(5, &[2]));
    assert!(world.asked().is_some());
}

/// Requirements: COA-016, COA-018, COA-019, COA-009, ESC-052
#[test]
fn a_slow_answer_comes_in_a_message_of_its_own() {
    let mut world = World::new(Config::default());
    let request = get(5, &[9]);
    world.say(&request);
    let (exchange, _) = world.asked().unwrap();
    let empty = Message::empty(Kind::Acknowledgement, 5);
    assert_eq!(world.later(SECOND), std::slice::from_ref(&empty));
    assert_eq!(
        world.say(&request),
        [empty],
        "a retransmission gets another empty ACK"
    );
    world.now += 10 * SECOND;
    world
        .endpoint
        .respond(world.now, exchange, Response::new(Code::CONTENT));
    let heard = world.heard();
    assert_eq!((heard.len(), heard[0].kind), (1, Kind::Confirmable));
    assert_eq!(heard[0].token.as_bytes(), [9]);

    // Four retransmissions, each after twice the time, the first after 2 to 3 s.
    let mut waits = Vec::new();
    let mut before = world.now;
    while waits.len() < 4 {
        let at = world.endpoint.deadline().unwrap();
        let again = world.later(at - world.now);
        if !again.is_empty() {
            assert_eq!(again, heard);
            waits.push(world.now - before);
            before = world.now;
        }
    }
    assert!((2 * SECOND..=3 * SECOND).contains(&waits[0]), "{waits:?}");
    for pair in waits.windows(2) {
        assert_eq!(pair[1], pair[0] * 2);
    }
    assert_eq!(world.later(100 * SECOND), []);
    assert_eq!(world.endpoint.statistics().retransmitted, 4);
}

/// Requirements: COA-019
#[test]
fn acknowledgement_or_reset_ends_retransmission() {
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        let mut world = World::new(Config::default());
        world.say(&get(5, &[9]));
        let (exchange, _) = world.asked().unwrap();
        world.later(SECOND);
        world
            .endpoint
            .respond(world.now, exchange, Response::new(Code::CONTENT));
        let id = world.heard()[0].id;
        assert_eq!(world.say(&Message::empty(kind, id)), []);
        assert_eq!(world.later(200 * SECOND), []);
    }
}

/// Requirements: COA-022, COA-023, COA-024, COA-026, COA-027, COA-029, COA-031, COA-049, COA-067,
/// COA-076, COA-078, COA-079, COA-083, COA-084, COA-074, COA-082
#[test]
fn options() {
    /// A name, options, and the code of the answer; `None` for a request that is asked.
    type Case<'a> = (&'a str, &'a [(u16, &'a [u8])], Option<Code>);
    let cases: &[Case<'_>] = &[
        ("unknown elective", &[(65_000, &[1])], None),
        (
            "unknown critical",
            &[(65_001, &[1])],
            Some(Code::BAD_OPTION),
        ),
        ("Q-Block1", &[(19, &[])], Some(Code::BAD_OPTION)),
        (
            "If-Match",
            &[(option::IF_MATCH, &[1])],
            Some(Code::BAD_OPTION),
        ),
        ("Observe", &[(option::OBSERVE, &[])], None),
        (
            "Accept of 3 bytes",
            &[(option::ACCEPT, &[0, 0, 1])],
            Some(Code::BAD_OPTION),
        ),
        (
            "Content-Format of 3 bytes",
            &[(option::CONTENT_FORMAT, &[0, 0, 1])],
            None,
        ),
        (
            "Block1 of 4 bytes",
            &[(option::BLOCK1, &[0; 4])],
            Some(Code::BAD_OPTION),
        ),
        (
            "Uri-Path of 256 bytes",
            &[(option::URI_PATH, &[b'a'; 256])],
            Some(Code::BAD_OPTION),
        ),
        (
            "Uri-Host of none",
            &[(option::URI_HOST, &[])],
            Some(Code::BAD_OPTION),
        ),
        (
            "two Accepts",
            &[(option::ACCEPT, &[60]), (option::ACCEPT, &[60])],
            Some(Code::BAD_OPTION),
        ),
        (
            "two Content-Formats",
            &[
                (option::CONTENT_FORMAT, &[60]),
                (option::CONTENT_FORMAT, &[0]),
            ],
            None,
        ),
        (
            "dot segment",
            &[(option::URI_PATH, b".")],
            Some(Code::BAD_OPTION),
        ),
        (
            "two dots",
            &[(option::URI_PATH, b"..")],
            Some(Code::BAD_OPTION),
        ),
        (
            "path not UTF-8",
            &[(option::URI_PATH, &[0xff])],
            Some(Code::BAD_OPTION),
        ),
        (
            "query not UTF-8",
            &[(option::URI_QUERY, &[0xff])],
            Some(Code::BAD_OPTION),
        ),
        (
            "Block1 of size 7",
            &[(option::BLOCK1, &[7])],
            Some(Code::BAD_REQUEST),
        ),
        (
            "Block2 of size 7",
            &[(option::BLOCK2, &[7])],
            Some(Code::BAD_REQUEST),
        ),
        (
            "Proxy-Uri",
            &[(option::PROXY_URI, b"coap://x")],
            Some(Code::PROXYING_NOT_SUPPORTED),
        ),
        (
            "Proxy-Scheme",
            &[(option::PROXY_SCHEME, b"coap")],
            Some(Code::PROXYING_NOT_SUPPORTED),
        ),
        (
            "abbreviation with path",
            &[(option::URI_PATH_ABBREV, &[])],
            Some(Code::BAD_OPTION),
        ),
        ("empty Echo", &[(option::ECHO, &[])], None),
        ("Echo of 41 bytes", &[(option::ECHO, &[1; 41])], None),
        (
            "two Request-Tags",
            &[(option::REQUEST_TAG, &[1]), (option::REQUEST_TAG, &[])],
            None,
        ),
    ];
    for (name, options, expected) in cases {
        for kind in [Kind::Confirmable, Kind::NonConfirmable] {
            let mut world = World::new(Config::default());
            let mut request = get(5, &[1]);
            request.kind = kind;
            for (number, value) in *options {
                request.add(*number, *value);
            }
            let heard = world.say(&request);
            match expected {
                None => {
                    let (_, asked) = world.asked().unwrap_or_else(|| panic!("{name}"));
                    assert_eq!(asked.echo, None, "{name}");
                    if *name == "Content-Format of 3 bytes" {
                        assert_eq!(asked.content_format, None);
                    }
                    if *name == "two Content-Formats" {
                        assert_eq!(asked.content_format, Some(60));
                    }
                }
                Some(code) => {
                    assert_eq!(heard.len(), 1, "{name}");
                    assert_eq!(heard[0].code, *code, "{name}");
                    assert_eq!(heard[0].token, request.token, "{name}");
                    assert_eq!(world.asked(), None, "{name}");
                    assert!(!heard[0].payload.is_empty(), "{name}: no diagnostic");
                    assert_eq!(heard[0].value(option::CONTENT_FORMAT), None, "{name}");
                }
            }
        }
    }
    for detail in 8..=31 {
        let mut world = World::new(Config::default());
        let mut request = get(5, &[1]);
        request.code = Code::of(0, detail);
        assert_eq!(world.say(&request)[0].code, Code::METHOD_NOT_ALLOWED);
    }
}

/// Requirements: COA-076, COA-077, COA-078, COA-081
#[test]
fn abbreviated_paths() {
    let cases: &[(&[u8], &str)] = &[
        (&[], ".well-known/core"),
        (&[1], ".well-known/rd"),
        (&[2], ".well-known/edhoc"),
        (&[0x01, 0x2d], ".well-known/est/crts"),
        (&[0x01, 0x2e], ".well-known/est/sen"),
        (&[0x01, 0x2f], ".well-known/est/sren"),
        (&[0x01, 0x30], ".well-known/est/skg"),
        (&[0x01, 0x31], ".well-known/est/skc"),
        (&[0x01, 0x32], ".well-known/est/att"),
        (&[0x01, 0x91], ".well-known/brski/es"),
        (&[0x01, 0x92], ".well-known/brski/rv"),
        (&[0x01, 0x93], ".well-known/brski/vs"),
    ];
    for (value, path) in cases {
        let mut world = World::new(Config::default());
        let mut request = message(Kind::Confirmable, Code::GET, 5, &[1]);
        request.add(option::URI_PATH_ABBREV, *value);
        world.say(&request);
        let (_, asked) = world.asked().unwrap();
        assert_eq!(
            (asked.path(), asked.abbreviated),
            ((*path).to_owned(), true)
        );
        world.say(&with_path(
            message(Kind::Confirmable, Code::GET, 6, &[1]),
            path,
        ));
        assert_eq!(world.asked().unwrap().1.path(), *path);
    }
    let mut world = World::new(Config::default());
    let mut request = message(Kind::Confirmable, Code::GET, 5, &[1]);
    request.add(option::URI_PATH_ABBREV, [3, 0xe7]);
    assert_eq!(world.say(&request)[0].code, Code::BAD_OPTION);
}

/// Requirements: COA-056, COA-051, COA-061, COA-063, COA-062, COA-053, COA-055
#[test]
fn a_body_in_blocks_is_asked_once_and_answered_in_blocks() {
    let mut world = World::new(Config::default());
    let body: Vec<u8> = (0..150).collect();
    for (number, part) in body.chunks(64).enumerate() {
        let last = number == 2;
        let id = 10 + number as u16;
        let heard = world.say(&block1(id, number as u32, !last, 2, part));
        if !last {
            assert_eq!(heard[0].code, Code::CONTINUE);
            let echoed = block_of(&heard[0], option::BLOCK1);
            assert_eq!((echoed.number(), echoed.exponent()), (number as u32, 2));
            assert!(echoed.more());
            assert_eq!(world.asked(), None);
        }
    }
    let (exchange, asked) = world.asked().unwrap();
    assert_eq!(asked.payload, body);
    assert_eq!(world.endpoint.held(), 0);
    let answer: Vec<u8> = (0..200).rev().collect();
    let response = Response::content(Code::CHANGED, 836, answer.clone());
    world.endpoint.respond(world.now, exchange, response);
    let first = world.heard().remove(0);
    assert_eq!(first.code, Code::CHANGED);
    let echoed = block_of(&first, option::BLOCK1);
    assert_eq!((echoed.number(), echoed.more()), (2, false));
    assert_eq!(first.uint(option::SIZE2), Some(200));
    let etag = first.value(option::ETAG).unwrap().to_vec();
    let mut got = first.payload.clone();
    for number in 1..4 {
        let mut next = with_path(
            message(Kind::Confirmable, Code::POST, 20 + number, &[3]),
            "p",
        );
        next.add(
            option::BLOCK2,
            Block::new(u32::from(number), true, 2).unwrap().encode(),
        );
        let heard = world.say(&next).remove(0);
        let block = block_of(&heard, option::BLOCK2);
        assert_eq!(
            (block.number(), block.more()),
            (u32::from(number), number < 3)
        );
        assert_eq!(heard.value(option::ETAG), Some(etag.as_slice()));
        got.extend(&heard.payload);
    }
    assert_eq!(got, answer);
    assert_eq!(world.asked(), None, "the operation ran once");
}

/// Requirements: COA-050, COA-052, COA-057, COA-058, COA-073
#[test]
fn blocks_that_do_not_fit() {
    type Change = fn(&mut Message);
    let cases: &[(&str, u32, bool, usize, Change, Code)] = &[
        ("63 bytes with more", 1, true, 63, |_| {}, Code::BAD_REQUEST),
        ("65 bytes", 1, false, 65, |_| {}, Code::BAD_REQUEST),
        (
            "a block is missing",
            2,
            false,
            10,
            |_| {},
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "another format",
            1,
            false,
            10,
            |message| {
                message.remove(option::CONTENT_FORMAT);
                message.add_uint(option::CONTENT_FORMAT, 50);
            },
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "another tag",
            1,
            false,
            10,
            |message| message.add(option::REQUEST_TAG, *b"t"),
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "an empty tag is not none",
            1,
            false,
            10,
            |message| message.add(option::REQUEST_TAG, *b""),
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
        (
            "another path",
            1,
            false,
            10,
            |message| message.add(option::URI_PATH, *b"q"),
            Code::REQUEST_ENTITY_INCOMPLETE,
        ),
    ];
    for (name, number, more, length, change, code) in cases {
        let mut world = World::new(Config::default());
        world.say(&block1(1, 0, true, 2, &[1; 64]));
        let mut second = block1(2, *number, *more, 2, &vec![2; *length]);
        change(&mut second);
        let heard = world.say(&second);
        assert_eq!(heard[0].code, *code, "{name}");
        assert_eq!(world.asked(), None, "{name}");
    }
}

/// Requirements: COA-059, COA-058
#[test]
fn a_transfer_begins_anew_and_survives_a_block_that_comes_twice() {
    let mut world = World::new(Config::default());
    world.say(&block1(1, 0, true, 2, &[1; 64]));
    world.say(&block1(2, 1, true, 2, &[2; 64]));
    let again = world.say(&block1(3, 1, true, 2, &[2; 64]));
    assert_eq!(
        again[0].code,
        Code::CONTINUE,
        "the same block under another id"
    );
    let other = world.say(&block1(4, 1, true, 2, &[9; 64]));
    assert_eq!(other[0].code, Code::REQUEST_ENTITY_INCOMPLETE);
    world.say(&block1(5, 0, true, 2, &[3; 64]));
    world.say(&block1(6, 1, false, 2, &[4; 6]));
    let (_, asked) = world.asked().unwrap();
    assert_eq!(asked.payload, [[3; 64].as_slice(), &[4; 6]].concat());
}

/// Requirements: COA-035, COA-064, COA-065, COA-066
#[test]
fn quotas() {
    let config = Config {
        body_max: 200,
        assemblies_per_peer: 2,
        held_max: 600,
        ..Config::default()
    };
    let mut world = World::new(config);
    let mut huge = block1(1, 0, true, 2, &[1; 64]);
    huge.add_uint(option::SIZE1, u32::MAX);
    let heard = world.say(&huge);
    assert_eq!(heard[0].code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(heard[0].uint(option::SIZE1), Some(200));
    assert_eq!(world.endpoint.held(), 0, "a hint reserves nothing");

    for number in 0..4 {
        let heard = world.say(&block1(2 + number, u32::from(number), true, 2, &[1; 64]));
        let expected = if number < 3 {
            Code::CONTINUE
        } else {
            Code::REQUEST_ENTITY_TOO_LARGE
        };
        assert_eq!(heard[0].code, expected);
    }
    assert_eq!(world.endpoint.held(), 0, "what became too large is dropped");

    let mut whole = with_path(message(Kind::Confirmable, Code::POST, 9, &[]), "p");
    whole.payload = vec![0; 201];
    assert_eq!(world.say(&whole)[0].code, Code::REQUEST_ENTITY_TOO_LARGE);

    // A thousand half transfers of many peers hold no more than they may.
    let mut refused = 0;
    for peer in 0..1000_u16 {
        let mut request = block1(1, 0, true, 2, &[1; 64]);
        request.add(option::URI_PATH, peer.to_be_bytes().map(|byte| byte | 1));
        let [high, low] = (peer / 4).to_be_bytes();
        let heard = world.say_as([1, 1, high, low], Via::Secured, &request.encode().unwrap());
        // The four of one peer have one message id, so three of them are duplicates.
        if let Some(heard) = heard.first() {
            refused += usize::from(heard.code == Code::SERVICE_UNAVAILABLE);
            if heard.code == Code::SERVICE_UNAVAILABLE {
                assert!(heard.uint(option::MAX_AGE).is_some());
            }
        }
    }
    assert!(refused > 0);
    assert!(world.endpoint.held() <= 600, "{}", world.endpoint.held());

    let mut world = World::new(Config {
        assemblies_per_peer: 2,
        ..Config::default()
    });
    for id in 0..10 {
        let mut request = block1(id, 0, true, 2, &[1; 64]);
        request.add(option::URI_QUERY, id.to_string().into_bytes());
        world.say(&request);
        assert!(world.endpoint.held() <= 128);
    }
}

/// Requirements: COA-053, COA-054, COA-034, COA-065, CBR-082, ESC-038
#[test]
fn fetching_in_blocks() {
    let body = vec![7; 100];
    let ask = |world: &mut World, id, number, exponent, size2: bool| {
        let mut request = get(id, &[1]);
        request.add(
            option::BLOCK2,
            Block::new(number, false, exponent).unwrap().encode(),
        );
        if size2 {
            request.add_uint(option::SIZE2, 0);
        }
        let mut heard = world.say(&request);
        if let Some((exchange, _)) = world.asked() {
            let response = Response::content(Code::CONTENT, 0, vec![7; 100]);
            world.endpoint.respond(world.now, exchange, response);
            heard = world.heard();
        }
        heard.remove(0)
    };
    for exponent in 0..=6 {
        let mut world = World::new(Config::default());
        let first = ask(&mut world, 1, 0, exponent, true);
        assert_eq!(first.payload.len(), body.len().min(16 << exponent));
        assert_eq!(first.uint(option::SIZE2), Some(100));
        let block = block_of(&first, option::BLOCK2);
        assert_eq!(block.more(), (16 << exponent) < 100);
        assert_eq!(block.exponent(), exponent);
    }
    let mut world = World::new(Config::default());
    ask(&mut world, 1, 0, 2, false);
    for (id, number) in [(2, 2), (3, 7), (4, 1_048_575)] {
        let heard = ask(&mut world, id, number, 2, false);
        assert_eq!(heard.code, Code::BAD_REQUEST, "{number}");
    }
    // A server with smaller blocks answers in its own.
    let mut world = World::new(Config {
        block_exponent: 1,
        ..Config::default()
    });
    assert_eq!(ask(&mut world, 1, 0, 6, false).payload.len(), 32);

    // Of several ETags one is current.
    let mut world = World::new(Config::default());
    let mut request = get(1, &[1]);
    request.add(option::ETAG, *b"old");
    request.add(option::ETAG, *b"new");
    world.say(&request);
    let (exchange, _) = world.asked().unwrap();
    let response = Response {
        etag: Some(b"new".to_vec()),
        ..Response::content(Code::CONTENT, 0, vec![7; 100])
    };
    world.endpoint.respond(world.now, exchange, response);
    let heard = world.heard().remove(0);
    assert_eq!((heard.code, heard.payload.len()), (Code::VALID, 0));
    assert_eq!(heard.value(option::ETAG), Some(b"new".as_slice()));
}

/// Requirements: COA-042, COA-070, COA-071, COA-072, COA-067
#[test]
fn in_the_clear_nothing_is_kept_and_nothing_amplified() {
    let mut world = World::new(Config::default());
    let ask = |world: &mut World, peer, id, echo: Option<&[u8]>| {
        let mut request = get(id, &[1]);
        if let Some(echo) = echo {
            request.add(option::ECHO, echo);
        }
        let datagram = request.encode().unwrap();
        let mut heard = world.say_as(peer, Via::Open, &datagram);
        if let Some((exchange, _)) = world.asked() {
            let response = Response::content(Code::CONTENT, 40, vec![7; 300]);
            world.endpoint.respond(world.now, exchange, response);
            heard.extend(world.heard());
        }
        assert_eq!((world.endpoint.peers(), world.endpoint.held()), (0, 0));
        let length = heard[0].encode().unwrap().len();
        (heard.remove(0), length <= 3 * datagram.len())
    };
    let (challenge, small) = ask(&mut world, PEER, 1, None);
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    assert_eq!(challenge.kind, Kind::Acknowledgement);
    assert!(small);
    let echo = challenge.value(option::ECHO).unwrap().to_vec();
    assert!((1..=40).contains(&echo.len()));
    let (answer, _) = ask(&mut world, PEER, 2, Some(&echo));
    assert_eq!((answer.code, answer.payload.len()), (Code::CONTENT, 300));
    // Another address, another value, a value of yesterday.
    assert_eq!(
        ask(&mut world, [9; 4], 3, Some(&echo)).0.code,
        Code::UNAUTHORIZED
    );
    let mut forged = echo.clone();
    forged[11] ^= 1;
    assert_eq!(
        ask(&mut world, PEER, 4, Some(&forged)).0.code,
        Code::UNAUTHORIZED
    );
    world.now += Duration::from_secs(61);
    assert_eq!(
        ask(&mut world, PEER, 5, Some(&echo)).0.code,
        Code::UNAUTHORIZED
    );

    let half = block1(9, 0, true, 2, &[1; 64]).encode().unwrap();
    let heard = world.say_as(PEER, Via::Open, &half);
    assert_eq!(heard[0].code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!((world.endpoint.peers(), world.endpoint.held()), (0, 0));
}

/// Requirements: COA-036, COA-037, COA-038, COA-047
#[test]
fn answers_to_multicast_are_spread_and_errors_left_out() {
    let answers = [
        (Response::content(Code::CONTENT, 40, *b"<a>"), 1),
        (Response::content(Code::CONTENT, 40, *b""), 0),
        (Response::diagnostic(Code::NOT_FOUND, "no"), 0),
    ];
    for (response, expected) in answers {
        let mut world = World::new(Config::default());
        let mut request = get(1, &[1]);
        assert_eq!(
            world.say_as(PEER, Via::Multicast, &request.encode().unwrap()),
            []
        );
        assert_eq!(world.asked(), None, "a confirmable one is not asked");
        request.kind = Kind::NonConfirmable;
        let datagram = request.encode().unwrap();
        world.say_as(PEER, Via::Multicast, &datagram);
        let (exchange, _) = world.asked().unwrap();
        world.endpoint.respond(world.now, exchange, response);
        assert_eq!(world.heard(), [], "not at once");
        let mut heard = world.later(5 * SECOND);
        assert_eq!(heard.len(), expected);
        if let Some(heard) = heard.pop() {
            assert_eq!(
                (heard.kind, heard.token),
                (Kind::NonConfirmable, request.token)
            );
        }
        request.add(65_001, *b"x");
        request.id = 2;
        world.say_as(PEER, Via::Multicast, &request.encode().unwrap());
        assert_eq!(world.later(5 * SECOND), [], "no 4.02 to everyone");
    }
}

#[test]
fn a_flood_of_multicast_questions_fills_no_queue() {
    let mut world = World::new(Config::default());
    let ask = |world: &mut World, number: u16| {
        let request = message(Kind::NonConfirmable, Code::GET, number, &[1]);
        let [high, low] = number.to_be_bytes();
        world.say_as(
            [10, 9, high, low],
            Via::Multicast,
            &request.encode().unwrap(),
        );
        let (exchange, _) = world.asked().unwrap();
        let response = Response::content(Code::CONTENT, 40, vec![b'x'; 200]);
        world.endpoint.respond(world.now, exchange, response);
    };
    for number in 0..2_000 {
        ask(&mut world, number);
    }
    assert_eq!(world.later(5 * SECOND).len(), 256);
    ask(&mut world, 1);
    assert_eq!(world.later(5 * SECOND).len(), 1, "there is room again");
}

#[test]
fn large_bodies_that_do_not_end_leave_room_for_small_ones() {
    let mut world = World::new(Config {
        held_max: 400_000,
        ..Config::default()
    });
    // Ten peers take as much as each is given.
    for peer in 0..10 {
        for number in 0..60_u16 {
            let request = block1(number, u32::from(number), true, 6, &[1; 1024]);
            world.say_as([1, 1, 1, peer], Via::Secured, &request.encode().unwrap());
        }
    }
    assert!(
        world.endpoint.held() >= 300_000,
        "{}",
        world.endpoint.held()
    );
    // Twenty others have voucher requests of 2 KB.
    for peer in 0..20 {
        for number in 0..2 {
            let request = block1(number, u32::from(number), number < 1, 6, &[2; 1024]);
            let peer = [2, 2, 2, peer];
            let heard = world.say_as(peer, Via::Secured, &request.encode().unwrap());
            assert!(heard.iter().all(|heard| heard.code == Code::CONTINUE));
        }
        assert_eq!(world.asked().unwrap().1.payload.len(), 2048);
    }
    assert!(world.endpoint.held() <= 400_000);
}

/// Requirements: COA-039, COA-040
#[test]
fn a_new_session_is_another_peer() {
    let mut world = World::new(Config::default());
    world.say(&get(5, &[1]));
    let (old, _) = world.asked().unwrap();
    world.endpoint.forget(&PEER);
    world
        .endpoint
        .respond(world.now, old, Response::new(Code::CONTENT));
    assert_eq!(
        world.heard(),
        [],
        "an answer of the old session is not sent"
    );
    world.say(&get(5, &[1]));
    assert!(world.asked().is_some(), "the same id is no duplicate");
}

/// Requirements: COA-053
#[test]
fn blocks_asked_for_are_no_larger_than_the_peers_records() {
    let mut world = World::new(Config::default());
    world.endpoint.limit_blocks(&PEER, 4);
    let body: Vec<u8> = (0..2_000_u32).map(|at| at as u8).collect();
    world.say(&with_path(get(1, &[1]), "large"));
    let (exchange, _) = world.asked().unwrap();
    let response = Response::content(Code::CONTENT, 0, body.clone());
    world.endpoint.respond(world.now, exchange, response);
    let first = world.heard().remove(0);
    assert_eq!(first.payload, body[..256]);
    // Block 1 of 1024 begins where block 4 of 256 does.
    let mut next = with_path(get(2, &[1]), "large");
    let block = Block::new(1, false, 6).unwrap();
    next.add(option::BLOCK2, block.encode());
    let answer = world.say(&next).remove(0);
    assert_eq!(answer.payload, body[1_024..1_280]);
    let block = block_of(&answer, option::BLOCK2);
    assert_eq!(
        (block.number(), block.exponent(), block.more()),
        (4, 4, true)
    );
}
