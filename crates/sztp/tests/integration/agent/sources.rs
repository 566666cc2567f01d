//! The boot sequence and its sources.

use sztp::agent::{BACK_OFF_MAX, BACK_OFF_MIN, Failure, Found, State};

use super::{
    sim::{Ask, End, Reply, Sim, SimServer},
    world::{World, at, redirect, unsigned, whole},
};

/// Requirements: SZTP-8572-5.1-01, SZTP-8572-5.2-01
#[test]
fn a_device_bootstraps_as_long_as_it_is_switched_on() {
    let world = World::new();
    assert!(World::state().enabled, "as it leaves the factory");
    let mut sim = Sim::new(&world);
    sim.source("usb", vec![Found::Data(world.signed(&whole()))]);
    assert!(matches!(sim.run(), End::Done(_)));
    // The configuration switched it off: the next boot is a normal one.
    let state = sim.disk.state.clone().unwrap();
    assert!(!state.enabled);
    assert!(state.bootstrapped.is_some());
    sim.log.clear();
    assert_eq!(sim.run(), End::Disabled);
    assert!(sim.log.is_empty());
    // Switched on again, it bootstraps again.
    sim.disk.state = Some(State {
        enabled: true,
        ..state
    });
    assert!(matches!(sim.run(), End::Done(_)));
}

/// Requirements: SZTP-8572-5.2-01, SZTP-8572-5.3-15, SZTP-8572-4.2.1-01, SZTP-8572-4.2.1-02
#[test]
fn sources_are_asked_in_order_and_no_further_than_needed() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let broken = Found::Data(unsigned(&whole()));
    sim.source("usb", vec![broken]);
    sim.source(
        "dns",
        vec![
            Found::Servers(vec![at("absent.example")]),
            Found::Data(world.signed(&whole())),
            Found::Servers(vec![at("never.example")]),
        ],
    );
    sim.source("dhcp", vec![Found::Servers(vec![at("never.example")])]);
    let failure = Failure::new("usb.unreadable", "it does not mount");
    sim.sources[0].1.insert(0, Err(failure));
    let End::Done(bootstrapped) = sim.run() else {
        panic!("{:?}", sim.log)
    };
    assert_eq!(bootstrapped.source, "dns");
    assert!(!bootstrapped.reported);
    assert_eq!(
        sim.log,
        [
            "resolve absent.example",
            "script Pre",
            "commit merge",
            "script Post"
        ]
    );
}

/// Requirements: SZTP-8572-5.2-01
#[test]
fn rounds_follow_each_other_at_growing_distances() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    sim.config.rounds_max = Some(12);
    let End::GaveUp(failure) = sim.run() else {
        panic!()
    };
    assert_eq!(failure.code, "sztp.nothing-found");
    assert_eq!(sim.waits.len(), 11);
    let most = BACK_OFF_MAX.whole_seconds();
    for (index, wait) in sim.waits.iter().enumerate() {
        let full = (BACK_OFF_MIN.whole_seconds() << index).min(most);
        assert!(
            *wait <= full && *wait >= full * 3 / 4 - 1,
            "{:?}",
            sim.waits
        );
    }
    // One that helps in the third round is enough.
    let mut sim = Sim::new(&world);
    sim.config.rounds_max = None;
    let server = world.server(&["192.0.2.1"]);
    let mut asked = 0;
    let data = world.signed(&whole());
    let answer = move |ask: &Ask| match ask {
        Ask::Data(_) => {
            asked += 1;
            match asked {
                1 => Reply::status(404),
                2 => Reply::status(503),
                _ => Reply::data(&data),
            }
        }
        Ask::Report(_) => panic!("it is not trusted"),
    };
    sim.servers
        .insert("192.0.2.1".to_owned(), SimServer::new(&server, answer));
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    assert!(matches!(sim.run(), End::Done(_)));
    assert_eq!(sim.waits.len(), 2);
}

/// A pause survives a power cut, and a clock that is set back does not make it longer.
#[test]
fn the_distance_outlives_a_power_cut() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    sim.config.rounds_max = None;
    assert_eq!(sim.run_until(8), End::Cut);
    let waited = sim.waits.len();
    sim.log.clear();
    sim.now -= time::Duration::days(400);
    assert_eq!(sim.run_until(1), End::Cut);
    assert_eq!(sim.log, ["wait"]);
    assert!(sim.waits[waited] <= BACK_OFF_MAX.whole_seconds());
}

/// Requirements: SZTP-8572-4.1-01, SZTP-8572-4.2-01, SZTP-8572-2.2-01, SZTP-8572-5.3-16
#[test]
fn data_of_a_source_is_untrusted_unless_it_is_signed() {
    let world = World::new();
    let to = |anchor| redirect(&[("192.0.2.1", None, anchor)]);
    for (data, expect) in [
        (unsigned(&whole()), None),
        (
            world.signed(&whole()),
            Some(vec!["script Pre", "commit merge", "script Post"]),
        ),
        // Unsigned redirect information can be processed provisionally, without its anchor.
        (
            unsigned(&to(Some(world.anchor()))),
            Some(vec![
                "connect 192.0.2.1 nothing",
                "host-meta",
                "get signed-data-preferred",
                "script Pre",
                "commit merge",
                "script Post",
            ]),
        ),
    ] {
        let mut sim = Sim::new(&world);
        let server = SimServer::giving(&world.server(&["192.0.2.1"]), world.signed(&whole()));
        sim.servers.insert("192.0.2.1".to_owned(), server);
        sim.source("usb", vec![Found::Data(data)]);
        let end = sim.run();
        match expect {
            Some(expect) => {
                assert!(matches!(end, End::Done(_)), "{end:?}");
                assert_eq!(sim.log, expect);
            }
            None => {
                let End::GaveUp(failure) = end else {
                    panic!("{end:?}")
                };
                assert_eq!(failure.code, "bundle.untrusted-onboarding");
                assert!(sim.log.is_empty());
            }
        }
    }
}

/// Requirements: SZTP-8572-4.3-01, SZTP-8572-8.1-03, SZTP-8572-6.3-04, SZTP-8572-4.2.3-02
#[test]
fn servers_of_a_source_are_as_unsigned_redirect_information() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["192.0.2.1", "192.0.2.2"]);
    for address in ["192.0.2.1", "192.0.2.2"] {
        let data = unsigned(&whole());
        sim.servers
            .insert(address.to_owned(), SimServer::giving(&identity, data));
    }
    let mut second = at("192.0.2.2");
    second.port = Some(8443);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1"), second])]);
    assert!(matches!(sim.run(), End::GaveUp(_)));
    assert_eq!(
        sim.log,
        [
            "connect 192.0.2.1 nothing",
            "host-meta",
            "get signed-data-preferred",
            "connect 192.0.2.2:8443 nothing",
            "host-meta",
            "get signed-data-preferred",
        ]
    );
    assert_eq!(
        sim.left(),
        ["bundle.untrusted-onboarding", "bundle.untrusted-onboarding"]
    );
}

/// A source that never comes to an end does not keep the others from their turn.
#[test]
fn a_source_has_so_many_findings() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let failures = (0..10_000).map(|_| Err(Failure::new("dns.timeout", "no answer")));
    sim.sources.push(("dns".to_owned(), failures.collect()));
    sim.source("dhcp", vec![Found::Data(world.signed(&whole()))]);
    assert!(matches!(sim.run(), End::Done(_)));
}
