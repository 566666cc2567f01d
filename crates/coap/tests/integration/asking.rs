//! What a client does with each answer.

use coap::{Block, Code, Config, Event, Failure, Kind, Message, Request, Response, option};

use crate::world::{PEER, SECOND, World, message};

fn answer(world: &mut World, request: &Message, code: Code) -> Message {
    let _ = world;
    let mut answer = message(Kind::Acknowledgement, code, request.id, &[]);
    answer.token = request.token;
    answer
}

fn ask(world: &mut World, request: Request) -> Message {
    world.endpoint.request(world.now, &PEER, request);
    world.heard().remove(0)
}

fn response(world: &mut World) -> Option<Response> {
    match world.endpoint.event()? {
        Event::Response { response, .. } => Some(response),
        other => panic!("{other:?}"),
    }
}

fn failure(world: &mut World) -> Option<Failure> {
    match world.endpoint.event()? {
        Event::Failed { failure, .. } => Some(failure),
        other => panic!("{other:?}"),
    }
}

/// Requirements: CBR-150, COA-017
#[test]
fn answers_come_with_the_acknowledgement_or_later() {
    let mut world = World::new(Config::default());
    let sent = ask(&mut world, Request::get("a"));
    let mut piggybacked = answer(&mut world, &sent, Code::CONTENT);
    piggybacked.payload = b"x".to_vec();
    assert_eq!(world.say(&piggybacked), []);
    assert_eq!(response(&mut world).unwrap().payload, b"x");
    assert_eq!(world.later(100 * SECOND), []);

    for kind in [Kind::Confirmable, Kind::NonConfirmable] {
        for acknowledged in [true, false] {
            let sent = ask(&mut world, Request::get("a"));
            if acknowledged {
                assert_eq!(
                    world.say(&Message::empty(Kind::Acknowledgement, sent.id)),
                    []
                );
                assert_eq!(world.later(60 * SECOND), [], "no retransmission");
            }
            let mut separate = message(kind, Code::CONTENT, world.now.as_secs() as u16, &[]);
            separate.token = sent.token;
            let heard = world.say(&separate);
            if kind == Kind::Confirmable {
                let ack = Message::empty(Kind::Acknowledgement, separate.id);
                assert_eq!(heard, std::slice::from_ref(&ack));
                assert_eq!(world.say(&separate), [ack], "and again for a duplicate");
            } else {
                assert_eq!(heard, []);
            }
            assert!(response(&mut world).is_some());
            assert_eq!(world.endpoint.event(), None);
            assert_eq!(world.later(60 * SECOND), []);
        }
    }
}

/// Requirements: COA-025, COA-030
#[test]
fn answers_that_do_not_count() {
    let mut world = World::new(Config::default());
    let sent = ask(&mut world, Request::get("a"));
    let mut stranger = answer(&mut world, &sent, Code::CONTENT);
    stranger.kind = Kind::Confirmable;
    stranger.token = coap::Token::new(b"other").unwrap();
    assert_eq!(world.say(&stranger), [Message::empty(Kind::Reset, sent.id)]);
    let mut critical = answer(&mut world, &sent, Code::CONTENT);
    critical.add(65_001, *b"x");
    world.say(&critical);
    assert_eq!(failure(&mut world), Some(Failure::BadOption(65_001)));

    let sent = ask(&mut world, Request::get("a"));
    world.say(&Message::empty(Kind::Reset, sent.id));
    assert_eq!(failure(&mut world), Some(Failure::Reset));

    ask(&mut world, Request::get("a"));
    while world.endpoint.event().is_none() {
        let at = world.endpoint.deadline().unwrap();
        let now = world.now;
        world.later(at.saturating_sub(now));
    }

    let sent = ask(&mut world, Request::get("a"));
    let odd = answer(&mut world, &sent, Code::of(4, 31));
    world.say(&odd);
    assert_eq!(response(&mut world).unwrap().code.class(), 4);
}

/// Requirements: COA-015, ESC-052
#[test]
fn one_request_at_a_time_to_one_peer() {
    let mut world = World::new(Config::default());
    for _ in 0..3 {
        world.endpoint.request(world.now, &PEER, Request::get("a"));
    }
    for _ in 0..3 {
        let heard = world.heard();
        assert_eq!(heard.len(), 1);
        let answer = answer(&mut world, &heard[0], Code::CONTENT);
        world.endpoint.receive(
            world.now,
            &PEER,
            coap::Via::Secured,
            &answer.encode().unwrap(),
        );
        assert!(response(&mut world).is_some());
    }
    assert_eq!(world.heard(), []);
}

/// Requirements: COA-011, COA-075
#[test]
fn message_ids_and_tokens_do_not_come_again() {
    let mut world = World::new(Config {
        waiting_per_peer: 100_000,
        ..Config::default()
    });
    let mut ids = std::collections::HashSet::new();
    let mut tokens = std::collections::HashSet::new();
    let mut busy = 0;
    for _ in 0..70_000 {
        world.endpoint.request(world.now, &PEER, Request::get("a"));
        let Some(sent) = world.heard().pop() else {
            assert_eq!(failure(&mut world), Some(Failure::Busy));
            busy += 1;
            continue;
        };
        assert!(ids.insert(sent.id), "an id came again within a moment");
        assert!(tokens.insert(sent.token));
        let answer = answer(&mut world, &sent, Code::CONTENT);
        world.say(&answer);
        assert!(response(&mut world).is_some());
    }
    assert!(busy > 0);
    world.now += 248 * SECOND;
    ask(&mut world, Request::get("a"));
}

/// Requirements: COA-068, COA-069
#[test]
fn echo_is_given_back() {
    let mut world = World::new(Config::default());
    let sent = ask(&mut world, Request::get("a"));
    let mut challenge = answer(&mut world, &sent, Code::UNAUTHORIZED);
    challenge.add(option::ECHO, *b"here?");
    let again = world.say(&challenge).remove(0);
    assert_eq!(again.value(option::ECHO), Some(b"here?".as_slice()));
    assert_ne!(again.token, sent.token);
    let done = answer(&mut world, &again, Code::CONTENT);
    world.say(&done);
    assert!(response(&mut world).is_some());
    // The next request, to another peer, has none.
    world
        .endpoint
        .request(world.now, &[9; 4], Request::get("a"));
    assert_eq!(world.heard()[0].value(option::ECHO), None);
}

/// Requirements: COA-051, COA-056, COA-064
#[test]
fn a_body_is_sent_in_blocks_as_small_as_the_peer_wants() {
    let body: Vec<u8> = (0..=255).cycle().take(2500).collect();
    let mut world = World::new(Config::default());
    let mut sent = ask(&mut world, Request::post("a", 60, body.clone()));
    assert_eq!(sent.uint(option::SIZE1), Some(2500));
    let tag = sent.value(option::REQUEST_TAG).unwrap().to_vec();
    // 4.13 with a smaller size: from the beginning.
    let mut smaller = answer(&mut world, &sent, Code::REQUEST_ENTITY_TOO_LARGE);
    smaller.add(option::BLOCK1, Block::new(0, false, 5).unwrap().encode());
    sent = world.say(&smaller).remove(0);
    let mut got: Vec<u8> = Vec::new();
    let mut exponents = Vec::new();
    loop {
        let block = Block::decode(sent.value(option::BLOCK1).unwrap()).unwrap();
        assert_eq!(block.offset(), got.len());
        assert_eq!(sent.value(option::REQUEST_TAG), Some(tag.as_slice()));
        assert_eq!(sent.uint(option::CONTENT_FORMAT), Some(60));
        exponents.push(block.exponent());
        got.extend(&sent.payload);
        if !block.more() {
            break;
        }
        // From the second block on smaller ones yet.
        let exponent = if block.number() == 0 { 5 } else { 4 };
        let mut more = answer(&mut world, &sent, Code::CONTINUE);
        more.add(
            option::BLOCK1,
            Block::new(block.number(), true, exponent).unwrap().encode(),
        );
        sent = world.say(&more).remove(0);
    }
    assert_eq!(got, body);
    assert_eq!(exponents[..3], [5, 5, 4]);
}

/// Requirements: COA-055, COA-062
#[test]
fn blocks_of_an_answer_must_fit_together() {
    type Change = fn(&mut Message);
    let cases: &[(&str, Change, bool)] = &[
        ("as it should be", |_| {}, true),
        (
            "another ETag",
            |m| {
                m.remove(option::ETAG);
                m.add(option::ETAG, *b"z");
            },
            false,
        ),
        ("no ETag", |m| m.remove(option::ETAG), false),
        (
            "another format",
            |m| m.add_uint(option::CONTENT_FORMAT, 60),
            false,
        ),
        (
            "another number",
            |m| {
                m.remove(option::BLOCK2);
                m.add(option::BLOCK2, [0x22]);
            },
            false,
        ),
        ("no block", |m| m.remove(option::BLOCK2), false),
        ("too long", |m| m.payload.extend([0; 60]), false),
    ];
    for (name, change, good) in cases {
        let mut world = World::new(Config::default());
        let sent = ask(&mut world, Request::post("a", 60, *b"q"));
        let mut first = answer(&mut world, &sent, Code::CHANGED);
        first.add(option::BLOCK2, Block::new(0, true, 2).unwrap().encode());
        first.add(option::ETAG, *b"e");
        first.payload = vec![1; 64];
        let next = world.say(&first).remove(0);
        assert_eq!(next.code, Code::POST);
        assert!(next.payload.is_empty());
        assert_eq!(next.value(option::BLOCK1), None);
        let mut second = answer(&mut world, &next, Code::CHANGED);
        second.add(option::BLOCK2, Block::new(1, false, 2).unwrap().encode());
        second.add(option::ETAG, *b"e");
        second.payload = vec![2; 5];
        change(&mut second);
        world.say(&second);
        match world.endpoint.event() {
            Some(Event::Response { response, .. }) => {
                assert!(*good, "{name}");
                assert_eq!(response.payload, [[1; 64].as_slice(), &[2; 5]].concat());
            }
            Some(Event::Failed { failure, .. }) => {
                assert!(!good, "{name}: {failure}");
                assert!(matches!(failure, Failure::Blocks(_)), "{name}: {failure}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn an_answer_without_end_is_cut() {
    let mut world = World::new(Config {
        body_max: 4096,
        ..Config::default()
    });
    let mut sent = ask(&mut world, Request::get("a"));
    for number in 0..5 {
        let mut part = answer(&mut world, &sent, Code::CONTENT);
        part.add(
            option::BLOCK2,
            Block::new(number, true, 6).unwrap().encode(),
        );
        part.payload = vec![1; 1024];
        match world.say(&part).pop() {
            Some(next) => sent = next,
            None => break,
        }
    }
    assert_eq!(failure(&mut world), Some(Failure::TooLarge));
}

#[test]
fn a_multicast_request_has_its_time_whoever_answers() {
    let mut world = World::new(Config {
        response_wait: 3 * SECOND,
        ..Config::default()
    });
    let group = [224, 0, 1, 187];
    world
        .endpoint
        .request_multicast(world.now, &group, Request::get("a"));
    let sent = world.heard().remove(0);
    assert_eq!(sent.kind, Kind::NonConfirmable);
    for number in 1..=2 {
        world.later(SECOND);
        let mut answer = message(Kind::NonConfirmable, Code::CONTENT, 9, &[]);
        answer.token = sent.token;
        let from = [10, 0, 0, number];
        world.say_as(from, coap::Via::Open, &answer.encode().unwrap());
        match world.endpoint.event() {
            Some(Event::Response { peer, .. }) => assert_eq!(peer, from),
            other => panic!("{other:?}"),
        }
    }
    world.later(SECOND);
    assert_eq!(failure(&mut world), Some(Failure::TimedOut));
}

#[test]
fn blocks_to_a_peer_with_small_records_are_small() {
    let mut world = World::new(Config::default());
    world.endpoint.limit_blocks(&PEER, 4);
    let sent = ask(&mut world, Request::post("a", 0, vec![b'x'; 600]));
    assert_eq!(sent.payload.len(), 256);
    let hint = sent.value(option::BLOCK1).and_then(Block::decode).unwrap();
    assert_eq!((hint.exponent(), hint.more()), (4, true));
    world.endpoint.forget(&PEER);
    world.heard();
    let sent = ask(&mut world, Request::post("a", 0, vec![b'x'; 600]));
    assert_eq!(sent.payload.len(), 600, "it holds for one session");
}

/// A server that gives a block a minute, and always one more.
///
/// Requirements: COA-066
#[test]
fn a_server_that_drips_is_given_up() {
    let mut world = World::new(Config::default());
    let begun = world.now;
    let mut sent = ask(&mut world, Request::get("a"));
    for number in 0..1000 {
        world.later(60 * SECOND);
        let mut block = answer(&mut world, &sent, Code::CONTENT);
        block.add(
            option::BLOCK2,
            Block::new(number, true, 0).unwrap().encode(),
        );
        block.payload = vec![7; 16];
        match world.say(&block).pop() {
            Some(next) => sent = next,
            None => break,
        }
        // The next one arrives; its answer does not, yet.
        world.say(&Message::empty(Kind::Acknowledgement, sent.id));
    }
    assert_eq!(failure(&mut world), Some(Failure::TimedOut));
    assert!(
        world.now - begun <= 3660 * SECOND,
        "{:?}",
        world.now - begun
    );
}
