//! A link that loses, doubles and replays messages, power that goes, and two domains that want the
//! same devices. Whatever the schedule: at most one owner, and every device ends enrolled or
//! refused with a reason.

use brski::{
    DomainKey,
    pledge::{self, Input, Phase, Step},
};
use pki::Coded;
use time::Duration;

use crate::{
    sim::{Device, Fault, Registrar, Sim, origin},
    world::Ca,
};

/// A small generator of our own: the schedule has to be the same in every run of a seed.
struct Dice(u64);

impl Dice {
    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.roll(count as u64)).unwrap()
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Link {
    dice: Dice,
    /// Requests that somebody on the way has recorded, with the origin that they went to.
    recorded: Vec<(usize, Vec<pki::Certificate>, pledge::Request)>,
    /// One in so many messages is disturbed.
    quiet: u64,
}

impl Link {
    fn carry(&mut self, sim: &mut Sim, device: &mut Device, step: Step) -> Step {
        if self.dice.roll(self.quiet * 4) == 0 {
            device.power_cut();
            return device.give(&Input::Begin, sim.now);
        }
        match step {
            Step::Connect { .. } if self.dice.roll(self.quiet) == 0 => {
                device.connected_to = None;
                device.give(&Input::Disconnected { reason: "refused" }, sim.now)
            }
            Step::Send(request) => self.send(sim, device, request),
            other => sim.carry_out(device, other),
        }
    }

    fn send(&mut self, sim: &mut Sim, device: &mut Device, request: pledge::Request) -> Step {
        let Some(index) = device.connected_to else {
            return device.give(
                &Input::Disconnected {
                    reason: "no connection",
                },
                sim.now,
            );
        };
        let client = device.client_chain();
        sim.registrars[index].masa_fault = match self.dice.roll(self.quiet * 2) {
            0 => Fault::RequestLost,
            1 => Fault::AnswerLost,
            2 => Fault::Twice,
            _ => Fault::None,
        };
        let now = sim.now;
        let deliver = |sim: &mut Sim, index: usize, client: &[_], request: &pledge::Request| {
            sim.registrars[index].handle(client, request, &mut sim.masa, now)
        };
        let lost = |device: &mut Device| {
            device.connected_to = None;
            device.give(&Input::Disconnected { reason: "lost" }, now)
        };
        match self.dice.roll(self.quiet) {
            0 => return lost(device),
            1 => {
                deliver(sim, index, &client, &request);
                return lost(device);
            }
            2 => {
                // Twice: the first answer is dropped on the way.
                deliver(sim, index, &client, &request);
            }
            3 if !self.recorded.is_empty() => {
                // Somebody who has recorded a request sends it once more. TLS keeps strangers from
                // doing this; here it happens all the same, under this device's identity and under
                // the one that it was recorded from.
                let pick = self.dice.pick(self.recorded.len());
                let (to, from, old) = self.recorded[pick].clone();
                deliver(sim, to, &from, &old);
                deliver(sim, index, &client, &old);
            }
            _ => {}
        }
        self.recorded.push((index, client.clone(), request.clone()));
        let response = deliver(sim, index, &client, &request);
        sim.answer(device, &response)
    }
}

/// Requirements: BRSKI-5.6-15, BRSKI-5.6-28, BRSKI-2.1-01
#[test]
fn at_most_one_owner_and_every_device_ends_with_a_reason() {
    let mut enrolled = 0;
    let mut refused = 0;
    for seed in 0..60 {
        let (mut sim, manufacturer) = Sim::new();
        sim.registrars
            .push(Registrar::new(Ca::root("Rival"), &manufacturer));
        let mut link = Link {
            dice: Dice(seed),
            recorded: Vec::new(),
            quiet: 4 + u64::from(seed % 3 == 0) * 20,
        };
        let serials = ["SN-1", "SN-2", "SN-3"];
        let mut devices: Vec<(Device, Option<Step>)> = serials
            .iter()
            .enumerate()
            .map(|(index, serial)| {
                sim.masa.register(serial);
                let idevid = manufacturer.device(serial);
                let mut config = Device::config(&idevid, &manufacturer);
                // Both domains are reachable, and both would take the device.
                config.registrars = vec![origin(index % 2), origin((index + 1) % 2)];
                config.attempts_max = Some(8);
                let mut device = Device::new(config);
                device.entropy = seed.wrapping_mul(1000) + index as u64;
                let step = device.give(&Input::Begin, sim.now);
                (device, Some(step))
            })
            .collect();
        // The devices take turns in an order that the dice decide.
        for _ in 0..3000 {
            let running: Vec<usize> = (0..devices.len())
                .filter(|index| devices[*index].1.is_some())
                .collect();
            if running.is_empty() {
                break;
            }
            let pick = running[link.dice.pick(running.len())];
            let (device, step) = &mut devices[pick];
            if let Some(next) = step.take()
                && !matches!(next, Step::Done | Step::GiveUp(_))
            {
                *step = Some(link.carry(&mut sim, device, next));
            }
            sim.now += Duration::milliseconds(10);
        }
        for (serial, (device, step)) in serials.iter().zip(&devices) {
            assert!(
                step.is_none(),
                "seed {seed}: {serial} is still at it: {step:?}"
            );
            let state = device.machine.state();
            let events = sim.masa.events.get(*serial).cloned().unwrap_or_default();
            let owners: std::collections::BTreeSet<DomainKey> =
                events.iter().map(|event| event.domain).collect();
            assert!(
                owners.len() <= 1,
                "seed {seed}: {serial} has {} owners",
                owners.len()
            );
            match &state.phase {
                Phase::Enrolled(enrolment) => {
                    enrolled += 1;
                    let anchor = pki::Certificate::from_der(&enrolment.anchor).unwrap();
                    let owner = DomainKey::of(&anchor);
                    assert_eq!(owners.first(), Some(&owner), "seed {seed}: {serial}");
                }
                Phase::GivenUp => {
                    refused += 1;
                    let failure = state.last_failure.as_ref().expect("a reason");
                    assert!(failure.code().starts_with("pledge."), "seed {seed}");
                }
                other => panic!("seed {seed}: {serial} ended in {other:?}"),
            }
        }
    }
    assert!(enrolled > 100, "{enrolled} enrolled, {refused} refused");
}
