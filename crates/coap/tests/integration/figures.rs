//! The exchanges that the RFCs print, and those that foreign clients were seen to have.

use coap::{Block, Code, Config, Event, Failure, Kind, Message, Request, Response, option};

use crate::world::{PEER, World, message, with_path};

fn blocks(message: &Message) -> Vec<String> {
    let of = |number: u16, name: u8| {
        let block = Block::decode(message.value(number)?)?;
        let more = u8::from(block.more());
        Some(format!("{name}:{}/{more}/{}", block.number(), block.size()))
    };
    [of(option::BLOCK2, 2), of(option::BLOCK1, 1)]
        .into_iter()
        .flatten()
        .collect()
}

/// RFC 7252 appendix A: figures 16, 17 and 22, whose octets follow from the text.
///
/// Requirements: COA-020, COA-021
#[test]
fn figures_of_rfc_7252() {
    let path = b"\xbbtemperature";
    let payload = b"\xff22.3 C";
    for (request, response, kind, id, token) in [
        (
            &b"\x40\x01\x7d\x34"[..],
            &b"\x60\x45\x7d\x34"[..],
            Kind::Confirmable,
            0x7d34,
            &[][..],
        ),
        (
            &b"\x41\x01\x7d\x35\x20"[..],
            &b"\x61\x45\x7d\x35\x20"[..],
            Kind::Confirmable,
            0x7d35,
            &[0x20],
        ),
        (
            &b"\x51\x01\x7d\x40\x75"[..],
            &b"\x51\x45\xad\x7d\x75"[..],
            Kind::NonConfirmable,
            0x7d40,
            &[0x75],
        ),
    ] {
        let request = [request, path].concat();
        let response = [response, payload].concat();
        let asked = with_path(message(kind, Code::GET, id, token), "temperature");
        assert_eq!(asked.encode().unwrap(), request);
        assert_eq!(Message::decode(&request).unwrap(), asked);
        let answered = Message::decode(&response).unwrap();
        assert_eq!(answered.code, Code::CONTENT);
        assert_eq!(answered.token.as_bytes(), token);
        assert_eq!(answered.payload, b"22.3 C");
        assert_eq!(answered.encode().unwrap(), response);
        // And as a server of ours says it.
        let mut world = World::new(Config::default());
        assert_eq!(world.say(&asked), []);
        let (exchange, _) = world.asked().unwrap();
        let content = Response {
            payload: b"22.3 C".to_vec(),
            ..Response::new(Code::CONTENT)
        };
        world.endpoint.respond(world.now, exchange, content);
        let mut said = world.heard().remove(0);
        if kind == Kind::NonConfirmable {
            // It has an id of its own.
            said.id = 0xad7d;
        }
        assert_eq!(said.encode().unwrap(), response);
    }
}

/// One message of a transfer: what the client says, what the server says to it.
type Line = (&'static str, &'static [&'static str]);

/// RFC 7959 sections 3.1 and 3.3: the transfers of figures 2, 3, 4 and 10.
///
/// Requirements: COA-051, COA-053, COA-061
#[test]
fn figures_of_rfc_7959() {
    const FIGURE_2: &[Line] = &[
        ("", &["2:0/1/128"]),
        ("2:1/0/128", &["2:1/1/128"]),
        ("2:2/0/128", &["2:2/0/128"]),
    ];
    const FIGURE_3: &[Line] = &[
        ("2:0/0/64", &["2:0/1/64"]),
        ("2:1/0/64", &["2:1/1/64"]),
        ("2:2/0/64", &["2:2/1/64"]),
        ("2:3/0/64", &["2:3/1/64"]),
        ("2:4/0/64", &["2:4/1/64"]),
        ("2:5/0/64", &["2:5/0/64"]),
    ];
    const FIGURE_4: &[Line] = &[
        ("", &["2:0/1/128"]),
        ("2:2/0/64", &["2:2/1/64"]),
        ("2:3/0/64", &["2:3/1/64"]),
        ("2:4/0/64", &["2:4/1/64"]),
        ("2:5/0/64", &["2:5/0/64"]),
    ];
    const FIGURE_10: &[Line] = &[
        ("1:0/1/128", &["1:0/1/128"]),
        ("1:1/1/128", &["1:1/1/128"]),
        ("1:2/0/128", &["2:0/1/128", "1:2/0/128"]),
        ("2:1/0/128", &["2:1/1/128"]),
        ("2:2/0/128", &["2:2/1/128"]),
        ("2:3/0/128", &["2:3/0/128"]),
    ];
    for (name, lines, method, size) in [
        ("2", FIGURE_2, Code::GET, 300),
        ("3", FIGURE_3, Code::GET, 370),
        ("4", FIGURE_4, Code::GET, 370),
        ("10", FIGURE_10, Code::POST, 400),
    ] {
        let body: Vec<u8> = (0..size).map(|at: u16| at.to_be_bytes()[1]).collect();
        let mut world = World::new(Config {
            block_exponent: 3,
            ..Config::default()
        });
        let mut got = Vec::new();
        for (index, (says, answers)) in lines.iter().enumerate() {
            let id = 1234 + u16::try_from(index).unwrap();
            let request = with_path(message(Kind::Confirmable, method, id, &[1]), "status");
            let request = with_blocks(request, says);
            let mut heard = world.say(&request);
            if let Some((exchange, asked)) = world.asked() {
                assert_eq!(asked.payload.len(), if name == "10" { 384 } else { 0 });
                let code = if name == "10" {
                    Code::CHANGED
                } else {
                    Code::CONTENT
                };
                let response = Response::content(code, 0, body.clone());
                world.endpoint.respond(world.now, exchange, response);
                heard = world.heard();
            }
            let answer = heard.remove(0);
            assert_eq!((answer.kind, answer.id), (Kind::Acknowledgement, id));
            assert_eq!(&blocks(&answer), answers, "figure {name}, message {index}");
            let late = name == "4" && index == 1;
            assert!(!late || got.len() == 128);
            got.extend_from_slice(&answer.payload);
        }
        assert_eq!(got, body, "figure {name}");
    }
}

/// A request with the block options of a figure; where it brings a block it is full.
fn with_blocks(mut request: Message, options: &str) -> Message {
    for text in options.split(' ').filter(|text| !text.is_empty()) {
        let (kind, rest) = text.split_once(':').unwrap();
        let parts: Vec<u32> = rest.split('/').map(|part| part.parse().unwrap()).collect();
        let exponent = u8::try_from(parts[2].trailing_zeros() - 4).unwrap();
        let block = Block::new(parts[0], parts[1] == 1, exponent).unwrap();
        let number = match kind {
            "1" => option::BLOCK1,
            _ => option::BLOCK2,
        };
        if kind == "1" {
            request.payload = vec![7; parts[2] as usize];
        }
        request.add(number, block.encode());
    }
    request
}

/// RFC 9148 appendix B.1 prints the blocks 0, 1 and 9 of an answer. They are not whole, and the
/// client that is given them says so instead of putting them together.
///
/// Requirements: ESC-063
#[test]
fn the_printed_blocks_of_rfc_9148_are_not_all() {
    let part = |number: u32| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/blocks");
        std::fs::read(format!("{folder}/b1-block2-num{number}.part")).unwrap()
    };
    // The octets of the option are printed too.
    for (number, octet) in [(0, 0x0a), (1, 0x1a), (9, 0x92)] {
        let block = Block::new(number, number != 9, 2).unwrap();
        assert_eq!(block.encode(), [octet]);
    }
    // A ContentInfo of 0x27b bytes and its header, in blocks of 64.
    let whole = part(0);
    assert_eq!(whole[..4], [0x30, 0x82, 0x02, 0x7b]);
    assert_eq!(part(9).len(), 4 + 0x27b - 9 * 64);
    let mut world = World::new(Config::default());
    let get = Request::get(".well-known/est/crts");
    world.endpoint.request(world.now, &PEER, get);
    let mut sent = world.heard().remove(0);
    for number in [0, 1, 9] {
        let mut answer = message(Kind::Acknowledgement, Code::CONTENT, sent.id, &[]);
        answer.token = sent.token;
        answer.add_uint(option::CONTENT_FORMAT, 281);
        answer.add(
            option::BLOCK2,
            Block::new(number, number != 9, 2).unwrap().encode(),
        );
        answer.payload = part(number);
        let mut heard = world.say(&answer);
        if number == 9 {
            assert_eq!(heard, []);
            break;
        }
        sent = heard.remove(0);
        assert_eq!(blocks(&sent), [format!("2:{}/0/64", number + 1)]);
    }
    match world.endpoint.event() {
        Some(Event::Failed { failure, .. }) => {
            assert!(matches!(failure, Failure::Blocks(_)), "{failure}");
        }
        other => panic!("{other:?}"),
    }
}

/// What libcoap and aiocoap were seen to send with a body in blocks: another token for each block,
/// Size1 with every block or with the first alone, a Request-Tag or none, and the port.
///
/// Requirements: COA-056, COA-061
#[test]
fn blocks_as_foreign_clients_send_them() {
    struct Habits {
        token: fn(u16) -> Vec<u8>,
        size_always: bool,
        tag: bool,
        port: bool,
    }
    let libcoap = Habits {
        token: |index| match index {
            0 => vec![1],
            _ => [&[9; 5][..], &index.to_be_bytes()].concat(),
        },
        size_always: true,
        tag: true,
        port: true,
    };
    let aiocoap = Habits {
        token: |index| (0x1200 + index).to_be_bytes().to_vec(),
        size_always: false,
        tag: false,
        port: false,
    };
    for habits in [libcoap, aiocoap] {
        let body: Vec<u8> = (0..2500_u16).map(|at| at.to_be_bytes()[1]).collect();
        let mut world = World::new(Config::default());
        let mut asked = None;
        let count = body.chunks(1024).count();
        for (index, part) in body.chunks(1024).enumerate() {
            let number = u16::try_from(index).unwrap();
            let token = (habits.token)(number);
            let mut request = message(Kind::Confirmable, Code::POST, 100 + number, &token);
            if habits.port {
                request.add_uint(option::URI_PORT, 5684);
            }
            request = with_path(request, ".well-known/brski/rv");
            request.add_uint(option::CONTENT_FORMAT, 836);
            let block = Block::new(u32::from(number), index + 1 < count, 6).unwrap();
            request.add(option::BLOCK1, block.encode());
            if index == 0 || habits.size_always {
                request.add_uint(option::SIZE1, 2500);
            }
            if habits.tag {
                request.add(option::REQUEST_TAG, [1, 2, 3, 4]);
            }
            request.payload = part.to_vec();
            let heard = world.say(&request);
            if index + 1 < count {
                assert_eq!(heard[0].code, Code::CONTINUE);
                assert_eq!(heard[0].token.as_bytes(), token);
            }
            asked = world.asked().or(asked);
        }
        let (exchange, request) = asked.expect("the whole request");
        assert_eq!(request.payload, body);
        assert_eq!(request.path(), ".well-known/brski/rv");
        let response = Response::content(Code::CHANGED, 836, *b"voucher");
        world.endpoint.respond(world.now, exchange, response);
        let heard = world.heard().remove(0);
        let last = u16::try_from(count - 1).unwrap();
        assert_eq!(heard.token.as_bytes(), (habits.token)(last));
    }
}
