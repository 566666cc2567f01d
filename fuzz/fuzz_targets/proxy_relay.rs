//! The join proxy: what pledges and registrars send, in any order and at any time, opens no header
//! that was not sealed here, reaches nobody else, and makes no more flows than there may be.
#![no_main]
use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use proxy::relay::{
    FlowId, KEY_LENGTH, Keys, Limiter, Moment, Pledge, Rates, StateLimits, Table, stateless,
};

const PER_LINK: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    let day = Moment::from_secs(86_400);
    let Some(mut keys) = Keys::new(Moment::ZERO, day, day / 24, &[7; KEY_LENGTH]) else {
        return;
    };
    // What a network makes up is never a header.
    if let Ok((pledge, _)) = stateless::unwrap(&keys, Moment::ZERO, bytes) {
        panic!("a header was made up: {pledge:?}");
    }
    let rates = Rates {
        pledge_per_second: 5,
        pledge_burst: 5,
        link_per_second: 50,
        link_burst: 50,
        tracked_max: 8,
        datagram_max: 64,
    };
    let limits = StateLimits {
        per_pledge: 2,
        per_link: PER_LINK,
        idle: Moment::from_secs(30),
        unanswered: Some(Moment::from_secs(10)),
    };
    let mut limiter = Limiter::new(rates, Moment::ZERO);
    let mut table: Table<()> = Table::new(limits);
    let mut ids: Vec<FlowId> = Vec::new();
    let mut now = Moment::ZERO;
    for chunk in bytes.chunks(4) {
        let [what, host, port, length] = *chunk else {
            break;
        };
        let address = SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host % 32)], u16::from(port % 4)));
        let pledge = Pledge::new(u16::from(host), address);
        let length = usize::from(length);
        match what % 4 {
            0 => {
                if limiter.admit(now, address, length).is_err() {
                    continue;
                }
                let datagram = vec![port; length];
                let began = limiter.generation(address.ip());
                let Ok((message, generation)) =
                    stateless::wrap(&keys, now, began, &pledge, &datagram)
                else {
                    panic!("a header is always sealed");
                };
                limiter.set_generation(address.ip(), generation);
                assert!(message.len() <= datagram.len() + coap::jpy::OVERHEAD);
                assert_eq!(
                    stateless::unwrap(&keys, now, &message),
                    Ok((pledge, datagram.as_slice()))
                );
                let mut forged = message;
                let place = 3 + usize::from(what) % 30;
                if let Some(byte) = forged.get_mut(place) {
                    *byte ^= host | 1;
                    assert!(stateless::unwrap(&keys, now, &forged).is_err());
                }
            }
            1 => {
                if table.from_pledge(now, &pledge, length).is_none()
                    && table.make_room(now, 1, &pledge).is_ok()
                {
                    ids.push(table.begin(now, 1, pledge, length, |_| ()));
                }
            }
            2 => {
                if let Some(id) = ids.get(usize::from(host)) {
                    let _ = table.from_registrar(now, *id, length * 8);
                }
                let _ = limiter.answer(address.ip(), length * 8);
            }
            _ => {
                now += Moment::from_millis(u64::from(host) * 1000 * length as u64);
                table.advance(now);
                limiter.sweep(now);
                if keys.is_due(now) {
                    assert!(keys.change(now, &[port; KEY_LENGTH]));
                }
            }
        }
        assert!(table.len() <= PER_LINK && limiter.tracked() <= 8);
    }
});
