//! Waiting, coming back, going elsewhere, and losing power.

use brski::{
    paths,
    pledge::{Failure, Input, Phase, Step, What},
    registrar::{Stage, Verdict},
};
use pki::Coded;
use time::Duration;

use crate::{
    sim::{Device, Registrar, Response, Sim, origin, stage},
    world::{Ca, Manufacturer, NOW},
};

fn scene() -> (Sim, Manufacturer, Device) {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let device = Device::new(Device::config(&idevid, &manufacturer));
    (sim, manufacturer, device)
}

/// Requirements: BRSKI-5.6-07, BRSKI-5.6-08, BRSKI-5.6-11, BRSKI-5.6-12, BRSKI-5.6-31,
/// BRSKI-5-05
#[test]
fn a_202_is_waited_for_with_the_same_bytes_and_a_minute_at_most() {
    for (header, expect_s) in [
        (Some("5"), 5),
        (Some("60"), 60),
        (Some("3600"), 60),
        (Some("0"), 1),
        (Some("-5"), 60),
        (Some("soon"), 60),
        (Some("99999999999999999999999"), 60),
        (Some("Mon, 01 Jun 2026 12:00:20 GMT"), 20),
        (Some("Mon, 01 Jun 2020 12:00:20 GMT"), 1),
        (None, 30),
    ] {
        let (mut sim, _, mut device) = scene();
        let mut later = true;
        let mut hook = |request: &brski::pledge::Request, response: Response, _: &Device| {
            if request.what == What::RequestVoucher && std::mem::take(&mut later) {
                let answer = Response::new(202, "text/plain", "");
                return match header {
                    Some(value) => answer.with("retry-after", value),
                    None => answer,
                };
            }
            response
        };
        assert_eq!(
            sim.run_with(&mut device, &mut hook),
            Step::Done,
            "{header:?}"
        );
        assert_eq!(device.waits, [Duration::seconds(expect_s)], "{header:?}");
        let requests: Vec<_> = device
            .requests
            .iter()
            .filter(|one| one.what == What::RequestVoucher)
            .collect();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].body, requests[1].body);
    }
}

/// Requirements: BRSKI-5.6-10, BRSKI-5.6-32
#[test]
fn later_is_accepted_for_four_days() {
    let (mut sim, _, mut device) = scene();
    sim.registrars[0].verdict = Verdict::Ask;
    sim.registrars[0].request_age_max = None;
    sim.registrars[0].policy.retry_after = Duration::HOUR;
    let mut hook = |_: &brski::pledge::Request, response: Response, _: &Device| response;
    let step = sim.run_with(&mut device, &mut hook);
    assert_eq!(step, Step::GiveUp(Failure::PendingTooLong));
    let waited: Duration = device.waits.iter().sum();
    assert!(waited > Duration::days(4) && waited < Duration::days(4) + Duration::minutes(2));
    assert_eq!(stage(&sim.registrars[0], "SN-1"), Some(&Stage::Waiting));
}

/// Requirements: BRSKI-5.6-13, BRSKI-5.6-14
#[test]
fn one_redirect_to_another_origin_is_followed_and_no_more() {
    for hops in [1, 2] {
        let (mut sim, manufacturer, mut device) = scene();
        sim.registrars
            .push(Registrar::new(Ca::root("Second"), &manufacturer));
        let mut left = hops;
        let mut hook = |request: &brski::pledge::Request, response: Response, _: &Device| {
            if request.what != What::RequestVoucher || left == 0 {
                return response;
            }
            left -= 1;
            let to = format!(
                "{}.well-known/brski/requestvoucher",
                origin(left as usize % 2)
            );
            let to = if left == hops - 1 {
                to.replace("registrar-0", "registrar-1")
            } else {
                to
            };
            Response::new(307, "text/plain", "").with("location", &to)
        };
        // What the redirecting registrar did before it redirected is not held against the device.
        sim.masa.policy.first_come = true;
        let step = {
            // The first registrar does not ask the MASA.
            sim.registrars[0].verdict = Verdict::Ask;
            sim.run_with(&mut device, &mut hook)
        };
        let requests: Vec<_> = device
            .requests
            .iter()
            .filter(|one| one.what == What::RequestVoucher)
            .collect();
        if hops == 1 {
            assert_eq!(step, Step::Done);
            assert_eq!(requests.len(), 2);
            assert_ne!(
                requests[0].body, requests[1].body,
                "a request for the new connection"
            );
            assert_eq!(stage(&sim.registrars[1], "SN-1"), Some(&Stage::Enrolled));
        } else {
            let Step::GiveUp(failure) = step else {
                panic!("{step:?}")
            };
            assert_eq!(failure.code(), "pledge.redirect");
            assert_eq!(requests.len(), 2, "the second redirect was not followed");
        }
    }
}

#[test]
fn redirects_within_an_origin_keep_connection_and_request() {
    let (mut sim, _, mut device) = scene();
    let mut hook = |request: &brski::pledge::Request, response: Response, _: &Device| match request
        .path
        .as_str()
    {
        paths::REQUEST_VOUCHER => {
            Response::new(307, "text/plain", "").with("location", "/elsewhere")
        }
        "/elsewhere" => Response::new(307, "text/plain", "").with("location", "/elsewhere"),
        _ => response,
    };
    let Step::GiveUp(failure) = sim.run_with(&mut device, &mut hook) else {
        panic!()
    };
    assert_eq!(failure.code(), "pledge.redirect");
    assert_eq!(
        device.requests.len(),
        4,
        "three within the origin, then no more"
    );
}

/// Requirements: BRSKI-4.1-06, BRSKI-4.1-07, BRSKI-4.1-09, BRSKI-5.2-08, BRSKI-5.2-09,
/// BRSKI-5.6.2-05
#[test]
fn attempts_back_off_for_each_registrar_with_a_new_nonce_each_time() {
    let (mut sim, manufacturer, device) = scene();
    let mut config = device.machine.config().clone();
    config.registrars = vec![origin(0), origin(1)];
    config.attempts_max = Some(24);
    let mut device = Device::new(config);
    sim.registrars
        .push(Registrar::new(Ca::root("Second"), &manufacturer));
    for registrar in &mut sim.registrars {
        registrar.verdict = Verdict::DenyDevice("not ours".to_owned());
    }
    let begun = sim.now;
    let Step::GiveUp(Failure::Refused { status: 404, .. }) = sim.run(&mut device) else {
        panic!()
    };
    let mut bodies: Vec<_> = device.requests.iter().map(|one| one.body.clone()).collect();
    assert_eq!(bodies.len(), 24);
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 24, "each with a nonce of its own");
    let memory = &device.machine.state().registrars;
    assert_eq!((memory[0].failures, memory[1].failures), (12, 12));
    // 5 s doubled eleven times is above the hour; both registrars are tried in turn.
    assert!(device.waits.iter().all(|wait| *wait <= Duration::HOUR));
    assert!(
        device
            .waits
            .iter()
            .any(|wait| *wait > Duration::minutes(40))
    );
    let first = device.waits[0];
    assert!(
        first > Duration::seconds(3) && first <= Duration::seconds(5),
        "{first}"
    );
    assert!(sim.now - begun < Duration::hours(10));
}

/// Requirements: BRSKI-4.1-05, BRSKI-5.6.2-05, BRSKI-4.1-07
#[test]
fn the_next_registrar_is_tried_at_once() {
    let (mut sim, manufacturer, device) = scene();
    let mut config = device.machine.config().clone();
    config.registrars = vec![origin(7), origin(0), origin(1)];
    config.attempts_max = Some(5);
    let mut device = Device::new(config);
    sim.registrars[0].verdict = Verdict::DenyVendor("not ours".to_owned());
    sim.registrars
        .push(Registrar::new(Ca::root("Second"), &manufacturer));
    assert_eq!(sim.run(&mut device), Step::Done);
    assert_eq!(stage(&sim.registrars[1], "SN-1"), Some(&Stage::Enrolled));
    assert!(device.waits.is_empty());
}

/// Requirements: BRSKI-5-02, BRSKI-5-06
#[test]
fn power_may_go_at_any_moment() {
    // How many steps a whole run has.
    let (mut sim, _, mut device) = scene();
    let mut steps = 0;
    let mut step = device.give(&Input::Begin, sim.now);
    while step != Step::Done {
        step = sim.carry_out(&mut device, step);
        steps += 1;
    }
    assert!(steps > 8, "{steps}");
    // Before a step is carried out, and after it was carried out and before its outcome is known.
    for lost_answer in [false, true] {
        for cut in 0..steps {
            let (mut sim, _, mut device) = scene();
            let mut step = device.give(&Input::Begin, sim.now);
            for count in 0..200 {
                if count == cut {
                    if lost_answer {
                        let mut ghost = Device::new(device.machine.config().clone());
                        ghost.machine = brski::pledge::Machine::resume(
                            device.machine.config().clone(),
                            device.machine.state().clone(),
                        );
                        ghost.connected_to = device.connected_to;
                        ghost.client = device.client;
                        ghost.key = device.key.clone();
                        if !matches!(step, Step::Done | Step::GiveUp(_)) {
                            sim.carry_out(&mut ghost, step.clone());
                        }
                    }
                    device.power_cut();
                    step = device.give(&Input::Begin, sim.now);
                }
                if matches!(step, Step::Done | Step::GiveUp(_)) {
                    break;
                }
                step = sim.carry_out(&mut device, step);
            }
            assert_eq!(
                step,
                Step::Done,
                "cut before step {cut}, answer lost: {lost_answer}"
            );
            let Phase::Enrolled(enrolled) = &device.machine.state().phase else {
                panic!()
            };
            assert!(enrolled.reported);
            let events = &sim.masa.events["SN-1"];
            assert!(events.iter().all(|event| event.domain == events[0].domain));
            // Done is done: a device that is enrolled does not begin again.
            device.power_cut();
            assert_eq!(device.give(&Input::Begin, sim.now), Step::Done);
        }
    }
}

/// A state that was stored under a clock that was wrong does not make the device wait for years.
#[test]
fn a_clock_that_is_set_back_does_not_freeze_the_device() {
    let (mut sim, _, mut device) = scene();
    sim.registrars[0].verdict = Verdict::Ask;
    let mut step = device.give(&Input::Begin, sim.now);
    while !matches!(step, Step::Pause { .. }) {
        step = sim.carry_out(&mut device, step);
    }
    device.power_cut();
    let past = NOW - Duration::days(3000);
    let Step::Pause { until } = device.give(&Input::Begin, past) else {
        panic!()
    };
    assert!(until - past <= Duration::minutes(1));
}

/// The request of the second connection names what that connection showed, so an impostor behind a
/// redirect is found out as one in front of it would be.
///
/// Requirements: EST-3.2.1-03, BRSKI-5.2-12
#[test]
fn a_redirect_to_an_impostor_ends_there() {
    let (mut sim, manufacturer, mut device) = scene();
    sim.registrars
        .push(Registrar::new(Ca::root("Second"), &manufacturer));
    let shown = Ca::root("Second").registrar("registrar").chain;
    let mut step = device.give(&Input::Begin, sim.now);
    for _ in 0..20 {
        step = match step {
            Step::GiveUp(_) => break,
            Step::Connect { origin: to, client } if to == origin(1) => {
                device.client = client;
                device.connected_to = Some(1);
                device.give(&Input::Connected { chain: &shown }, sim.now)
            }
            Step::Send(request) if device.connected_to == Some(0) => {
                device.requests.push(request);
                let to = format!("{}.well-known/brski/requestvoucher", origin(1));
                let answer = Response::new(307, "text/plain", "").with("location", &to);
                sim.answer(&mut device, &answer)
            }
            other => sim.carry_out(&mut device, other),
        };
    }
    let Step::GiveUp(failure) = step else {
        panic!("{step:?}")
    };
    assert_eq!(failure.code(), "pledge.refused");
    assert_eq!(sim.registrars[1].log, ["registrar.proximity-mismatch"]);
    assert!(sim.masa.log.is_empty(), "the MASA was not asked");
}

/// Requirements: EST-4.2.3-06
#[test]
fn a_certificate_that_takes_its_time_is_asked_for_again_when_the_server_said() {
    let (mut sim, _, mut device) = scene();
    let mut left = 2;
    let mut hook = |request: &brski::pledge::Request, response: Response, _: &Device| {
        if request.what != What::Enrol || left == 0 {
            return response;
        }
        left -= 1;
        Response::new(202, "text/plain", "").with("retry-after", "40")
    };
    assert_eq!(sim.run_with(&mut device, &mut hook), Step::Done);
    assert!(device.waits.len() >= 2);
    assert_eq!(sim.now - NOW, Duration::seconds(80));
    let mut bodies = device
        .requests
        .iter()
        .filter(|one| one.what == What::Enrol)
        .map(|one| &one.body);
    let first = bodies.next().unwrap();
    assert_eq!(bodies.clone().count(), 2);
    assert!(bodies.all(|body| body == first), "the same request");
}
