//! Lossy links and power cuts, over seeds.

use pki::KeyKind;
use sztp::agent::{CsrAbility, Found, NonceUse};

use super::{
    sim::{Ask, End, Random, Reply, Sim, SimServer},
    world::{World, at, image, redirect, unsigned, with_image},
};

const FINAL: &[u8] = b"hostname x\nno sztp\n";

/// Untrusted, signed redirect, trusted, another boot image, scripts and configuration.
fn whole_way(world: &World) -> Sim {
    let mut sim = Sim::new(world);
    sim.config.rounds_max = None;
    sim.config.nonce = NonceUse::Never;
    sim.config.csr = Some(CsrAbility {
        keys: vec![KeyKind::EcdsaP256],
    });
    let identity = world.server(&["192.0.2.1"]);
    let signed = world.signed(&redirect(&[("192.0.2.1", None, Some(world.anchor()))]));
    let data = unsigned(&with_image(image("17.3", &["https://x/"])));
    let server = SimServer::new(&identity, move |ask| match ask {
        Ask::Data(input) if input.signed_data_preferred => Reply::data(&signed),
        Ask::Data(_) => Reply::data(&data),
        Ask::Report(_) => Reply::status(204),
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.images = ["https://x/".to_owned()].into();
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    sim
}

fn check_end(sim: &Sim) {
    let state = sim.disk.state.as_ref().unwrap();
    assert_eq!(sim.disk.configuration, FINAL);
    assert!(!state.enabled && !state.onboarding && state.bootstrapped.is_some());
    assert_eq!(state.os.version.as_deref(), Some("17.3"));
    assert!(sim.has("report bootstrap-complete"));
}

/// The power goes at every step once.
///
/// Requirements: SZTP-8572-5.6-08, SZTP-8572-5.2-01
#[test]
fn a_power_cut_at_any_step_costs_nothing_but_time() {
    let world = World::new();
    let mut uncut = whole_way(&world);
    assert!(matches!(uncut.run(), End::Done(_)));
    check_end(&uncut);
    // Before what was decided is on the disk, and after that, before it is carried out.
    for saved in [false, true] {
        let mut cuts = 0;
        loop {
            let mut sim = whole_way(&world);
            sim.save_at_cut = saved;
            if sim.run_until(cuts) != End::Cut {
                break;
            }
            sim.log.push("power cut".to_owned());
            let state = sim.disk.state.clone().unwrap();
            let before = sim.log.len();
            let end = sim.run();
            if state.bootstrapped.is_some() {
                assert_eq!(end, End::Disabled, "{cuts}");
                check_end(&sim);
                cuts += 1;
                continue;
            }
            assert!(matches!(end, End::Done(_)), "{cuts}");
            // What was under way is taken back before anything else is done, and nothing
            // otherwise.
            assert_eq!(sim.log[before] == "roll-back", state.onboarding, "{cuts}");
            let complete = "report bootstrap-complete";
            let done = sim.log.iter().filter(|line| *line == complete).count();
            assert!((1..=2).contains(&done), "{cuts}");
            check_end(&sim);
            cuts += 1;
        }
        assert!(cuts > 25, "{cuts}");
    }
}

/// The link loses one exchange in three, and the power goes now and then.
#[test]
fn a_lossy_link_and_a_shaky_supply_lead_there_in_the_end() {
    let world = World::new();
    for seed in 0..60 {
        let mut sim = whole_way(&world);
        sim.random = Random(seed);
        sim.loss = Some(3 + seed % 5);
        let mut cuts = Random(seed ^ 0xdead_beef);
        let mut ended = false;
        for _ in 0..400 {
            let steps = 5 + u32::try_from(cuts.next() % 60).unwrap();
            match sim.run_until(steps) {
                End::Cut => {
                    let state = sim.disk.state.as_ref().unwrap();
                    // A configuration that is not complete is marked so, to be taken back.
                    if sim.disk.configuration == FINAL && state.bootstrapped.is_none() {
                        assert!(state.onboarding, "seed {seed}");
                    }
                }
                End::Done(_) => {
                    ended = true;
                    break;
                }
                // The power went between the success and the word of it.
                End::Disabled => {
                    ended = true;
                    break;
                }
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert!(ended, "seed {seed}");
        check_end(&sim);
    }
}
