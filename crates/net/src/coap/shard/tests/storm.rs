//! Everybody comes at once.

use super::*;

#[test]
fn who_is_here_is_served_before_who_comes() {
    let mut world = World::new(|limits| limits.requests_busy = 2);
    world.establish([seat(0), seat(1)]);
    world.answering = false;
    for number in [0, 1] {
        world.ask(&seat(number), "x");
    }
    world.settle();
    world.seat(&seat(2));
    world.settle();
    assert!(!world.client(&seat(2)).established());
    assert_eq!(
        world.statistics().cookies_sent,
        2,
        "it was not even looked at"
    );
    assert_eq!(world.statistics().handshakes_refused, 1);

    let asked = world.asked.remove(0);
    let response = Response::new(Code::VALID);
    world.shard.answer(world.now, asked.ticket, response);
    world.establish([seat(2)]);
}
