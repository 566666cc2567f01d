//! The endpoint under a schedule that nobody planned: any datagrams from a few peers, in any way,
//! with answers, requests and jumps of time between them. What is kept stays within its limits.
#![no_main]
use std::time::Duration;

use coap::{Code, Config, Endpoint, Event, Request, Response, Via};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let config = Config {
        block_exponent: 2,
        body_max: 2048,
        held_max: 8192,
        ..Config::default()
    };
    let mut number = 1_u64;
    let random = move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        number
    };
    let mut endpoint = Endpoint::<[u8; 1]>::new(config, random);
    let mut now = Duration::ZERO;
    let mut rest = bytes;
    while let Some(([what, peer, length], after)) = rest.split_first_chunk().map(|(a, b)| (*a, b)) {
        let (datagram, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let peer = [peer % 4];
        match what % 8 {
            0 => now += Duration::from_millis(u64::from(length) * 100),
            1 => now += Duration::from_secs(u64::from(length)),
            2 => {
                endpoint.request(now, &peer, Request::post("a/b", 60, datagram));
            }
            3 => endpoint.forget(&peer),
            4 => endpoint.receive(now, &peer, Via::Open, datagram),
            5 => endpoint.receive(now, &peer, Via::Multicast, datagram),
            _ => endpoint.receive(now, &peer, Via::Secured, datagram),
        }
        endpoint.advance(now);
        while let Some(event) = endpoint.event() {
            if let Event::Request {
                exchange, request, ..
            } = event
                && what % 16 < 8
            {
                let body = request.payload.repeat(2);
                endpoint.respond(now, exchange, Response::content(Code::CHANGED, 60, body));
            }
        }
        while let Some(transmit) = endpoint.transmit() {
            assert!(coap::Message::decode(&transmit.datagram).is_ok());
        }
        // Two bodies each way for each of four peers, each at most twice as large as it may be sent.
        assert!(endpoint.held() <= 4 * 2 * (2048 + 4096) && endpoint.peers() <= 4);
    }
    for _ in 0..4 {
        now += Duration::from_secs(300);
        endpoint.advance(now);
    }
});
