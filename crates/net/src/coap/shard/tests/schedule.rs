//! Whatever comes in whatever order: the books stay right.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const STEPS: usize = 600;
const SEATS: u16 = 6;

impl World {
    /// Every book says the same as the others.
    fn check(&self) {
        let shard = &self.shard;
        let statistics = self.statistics();
        let all = shard.associations.len();
        assert_eq!(statistics.peers_now, all as u64);
        assert_eq!(shard.quiet.len(), all);
        assert!(all <= shard.shared.limits.peers_max);
        let begun = shard.associations.values().filter(|a| a.peer.is_none());
        assert_eq!(statistics.handshakes_now, begun.count() as u64);
        let seated = shard.tenants.values();
        let seated: usize = seated.map(|t| 1 + usize::from(t.rival.is_some())).sum();
        assert_eq!(seated, all);
        for (id, association) in &shard.associations {
            assert!(shard.quiet.contains(&(association.heard, *id)));
            let timer = association.timer.expect("a timer");
            assert!(shard.timers.contains(&(timer, *id)));
        }
        assert_eq!(shard.timers.len(), all);
        let open: usize = shard.associations.values().map(|a| a.open).sum();
        assert!(open <= self.asked.len());
        assert_eq!(shard.answering, self.asked.len());
        assert_eq!(statistics.requests_now, self.asked.len() as u64);
    }
}

fn run(seed: u64, version: Version, proxied: bool) -> CoapStatistics {
    let mut random = StdRng::seed_from_u64(seed);
    let change = |limits: &mut CoapLimits| {
        limits.peers_max = 5;
        limits.idle_time_min = Duration::from_secs(1);
    };
    let mut world = if proxied {
        World::speaking(Speech::Proxied, change)
    } else {
        World::new(change)
    };
    world.version = version;
    let seat = |number: u16| {
        let header = proxied.then(|| vec![7; usize::from(number)]);
        (address(if proxied { 0 } else { number }), header)
    };
    // What was sent before, to be sent again by whoever likes.
    let mut heard: Vec<Vec<u8>> = vec![world.hello()];
    for _ in 0..STEPS {
        let who = seat(random.random_range(0..SEATS));
        match random.random_range(0..12) {
            0 | 1 => world.seat(&who),
            2..5 => {
                if world.clients.get(&who).is_some_and(Client::established) {
                    world.ask(&who, "x");
                }
            }
            5 => {
                if let Some(client) = world.clients.get_mut(&who) {
                    client.session.close();
                }
            }
            6 => world.answering = random.random(),
            7 => {
                let time = Duration::from_millis(random.random_range(0..200_000));
                world.now += time;
                world.shard.advance(world.now);
            }
            8 => {
                while let Some(asked) = world.asked.pop() {
                    let response = Response::content(Code::CONTENT, 0, "late");
                    world.shard.answer(world.now, asked.ticket, response);
                }
            }
            9 => {
                let hello = world.hello();
                heard.push(hello);
            }
            _ => {
                let at = random.random_range(0..heard.len());
                let mut datagram = heard[at].clone();
                let last = datagram.len() - 1;
                match random.random_range(0..3) {
                    0 => {}
                    1 => datagram[random.random_range(0..=last)] ^= 1 << random.random_range(0..8),
                    _ => datagram.truncate(random.random_range(0..=last)),
                }
                world.throw(&who, &datagram);
            }
        }
        if let Some(client) = world.clients.get_mut(&who)
            && let Some(datagram) = client.session.transmit()
        {
            world.throw(&who, &datagram);
            heard.push(datagram);
        }
        match random.random_range(0..16) {
            0 => world.settle(),
            1..8 => {
                world.shard.work(world.now, 1);
                world.shard_speaks();
            }
            _ => {}
        }
        world.check();
    }
    // In the end nothing is left.
    world.answering = true;
    while let Some(asked) = world.asked.pop() {
        let response = Response::new(Code::VALID);
        world.shard.answer(world.now, asked.ticket, response);
    }
    world.settle();
    world.clients.clear();
    world.later(Duration::from_secs(10_000));
    world.check();
    assert!(world.shard.associations.is_empty() && world.shard.tenants.is_empty());
    assert!(!world.shard.has_work() && !world.shard.is_answering());
    world.statistics()
}

#[test]
fn the_books_are_right_after_every_step() {
    let mut all = Vec::new();
    for seed in 0..2 {
        for version in VERSIONS {
            for proxied in [false, true] {
                all.push(run(seed, version, proxied));
            }
        }
    }
    // All of it happened.
    let sum = |of: fn(&CoapStatistics) -> u64| all.iter().map(of).sum::<u64>();
    assert!(sum(|s| s.handshakes_completed) > 100, "{all:?}");
    assert!(sum(|s| s.handshakes_late) > 10, "{all:?}");
    assert!(sum(|s| s.handshakes_refused) > 0, "{all:?}");
    assert!(sum(|s| s.requests_taken) > 100, "{all:?}");
    assert!(sum(|s| s.peers_evicted) > 0, "{all:?}");
    assert!(sum(|s| s.peers_replaced) > 10, "{all:?}");
    assert!(sum(|s| s.peers_closed) > 10, "{all:?}");
}
