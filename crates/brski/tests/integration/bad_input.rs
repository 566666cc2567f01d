//! Broken octets. Whatever comes: an answer with a code of ours, never a 500, never a panic, and
//! never a voucher or a trust decision that differs from what the good octets would have given.

use artifacts::{Envelope, Voucher};
use brski::{
    masa::{Decision, Inbound, open_request},
    paths,
    pledge::{Input, Machine, Phase, Step},
};

use crate::{
    masa_refusals::Scene,
    sim::{Device, Response, Sim},
    world::NOW,
};

/// Good octets in bad shape: cut off, grown, with one octet turned at every `stride`-th place.
fn spoilt(good: &[u8], stride: usize) -> Vec<Vec<u8>> {
    let mut all = vec![
        Vec::new(),
        vec![0],
        b"{}".to_vec(),
        b"null".to_vec(),
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        vec![0x30; 100_000],
        vec![b'['; 100_000],
        b"{\"payload\":".repeat(20_000),
        vec![0xff; 2 * 1024 * 1024],
        [good, good].concat(),
        [good, b"\0"].concat(),
        est::body::encode(good),
    ];
    all.extend(
        (0..good.len())
            .step_by(stride * 4)
            .map(|end| good[..end].to_vec()),
    );
    for place in (0..good.len()).step_by(stride) {
        for flip in [0x01, 0x80] {
            let mut changed = good.to_vec();
            changed[place] ^= flip;
            all.push(changed);
        }
    }
    all
}

/// Requirements: BRSKI-5.6-03, BRSKI-5.5.3-01
#[test]
fn the_masa_answers_every_broken_request_with_a_reason() {
    for (envelope, stride) in [
        (Envelope::Cms, 13),
        (Envelope::Jws, 29),
        (Envelope::Cose, 5),
    ] {
        let mut scene = Scene::new();
        scene.envelope = envelope;
        scene.content_type = envelope.media_type().to_owned();
        if envelope == Envelope::Cose {
            // The device's certificates stand in the registrar's bag.
            scene.extra = scene.idevid.chain.clone();
        }
        let good = scene.grant();
        let keys: Vec<_> = scene.open().unwrap().domain().keys().collect();
        let body = scene.body();
        let (devices, policy) = (scene.masa.anchors(), scene.masa.policy.clone());
        let mut refused = 0;
        for bytes in spoilt(&body, stride) {
            let inbound = Inbound {
                body: &bytes,
                content_type: Some(envelope.media_type()),
                accept: None,
            };
            match open_request(inbound, &devices, &policy, NOW) {
                Err(refusal) => {
                    refused += 1;
                    assert!((400..500).contains(&refusal.http_status()), "{refusal}");
                    assert!(!refusal.body().contains('\u{0}'), "{refusal}");
                }
                // An octet in what no signature covers: the decision is the same.
                Ok(request) => {
                    let facts = scene.masa.facts(&request);
                    let decision = brski::masa::decide(&request, &facts, &policy, NOW);
                    if let Decision::Grant(grant) = decision {
                        assert_eq!(grant.voucher.serial_number, good.voucher.serial_number);
                        assert_eq!(grant.voucher.nonce, good.voucher.nonce);
                        // A CA certificate that was broken is no member of the chain any more:
                        // then the registrar's own certificate is what is left to pin.
                        assert!(keys.contains(&grant.audit.domain));
                    }
                }
            }
        }
        assert!(refused > 100, "{refused}");
    }
}

/// Requirements: BRSKI-5.3-03, BRSKI-5.6-04, BRSKI-5.7-11
#[test]
fn the_registrar_answers_every_broken_body_with_a_reason_and_goes_on() {
    for (envelope, stride) in [(Envelope::Cms, 17), (Envelope::Cose, 3)] {
        broken_bodies(envelope, stride);
    }
}

fn broken_bodies(envelope: Envelope, stride: usize) {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let mut config = Device::config(&idevid, &manufacturer);
    config.envelope = envelope;
    config
        .masa_anchors
        .extend([manufacturer.masa.chain[0].clone()]);
    let mut device = Device::new(config);
    let mut step = device.give(&Input::Begin, NOW);
    while !matches!(step, Step::Send(_)) {
        step = sim.carry_out(&mut device, step);
    }
    let Step::Send(good) = step.clone() else {
        panic!()
    };
    let client = device.client_chain();
    let Phase::Voucher(phase) = &device.machine.state().phase else {
        panic!()
    };
    let nonce = phase.nonce.clone();
    let mut accepted = 0;
    for bytes in spoilt(&good.body, stride) {
        for path in [
            paths::REQUEST_VOUCHER,
            paths::VOUCHER_STATUS,
            paths::ENROL_STATUS,
        ] {
            let mut request = good.clone();
            request.path = path.to_owned();
            request.body = bytes.clone();
            let response = sim.registrars[0].handle(&client, &request, &mut sim.masa, NOW);
            if response.status == 200 && path == paths::REQUEST_VOUCHER {
                // An octet in what no signature covers, such as the copy of the certificate that
                // the connection has shown already: the exchange is the same.
                let exchange = sim.registrars[0].exchanges.remove("SN-1").unwrap();
                assert_eq!(exchange.nonce.as_deref(), Some(nonce.as_str()));
                sim.registrars[0].nonces.clear();
                accepted += 1;
                continue;
            }
            let fine = (400..600).contains(&response.status) && !response.body.is_empty();
            assert!(
                fine,
                "{path}: {} for {} octets",
                response.status,
                bytes.len()
            );
            assert_ne!(response.status, 500, "{path}");
        }
    }
    assert!(accepted < 60, "{accepted}");
    // And the good one is served. What was sent under its nonce before is forgotten here: to the
    // registrar the good octets would be a replay of the broken ones.
    sim.registrars[0].exchanges.clear();
    sim.registrars[0].nonces.clear();
    let mut step = sim.carry_out(&mut device, step);
    while !matches!(step, Step::Done | Step::GiveUp(_)) {
        step = sim.carry_out(&mut device, step);
    }
    assert_eq!(step, Step::Done);
}

/// Requirements: BRSKI-5.1-11, BRSKI-11-02
#[test]
fn the_pledge_accepts_no_broken_voucher() {
    for (envelope, stride) in [(Envelope::Cms, 7), (Envelope::Jws, 19), (Envelope::Cose, 1)] {
        let (mut sim, manufacturer) = Sim::new();
        sim.masa.register("SN-1");
        let idevid = manufacturer.device("SN-1");
        let mut config = Device::config(&idevid, &manufacturer);
        config.envelope = envelope;
        config
            .masa_anchors
            .extend([manufacturer.masa.chain[0].clone()]);
        let mut device = Device::new(config.clone());
        let mut good = None;
        let mut before = None;
        let mut hook = |request: &brski::pledge::Request, response: Response, device: &Device| {
            if request.path == paths::REQUEST_VOUCHER {
                good = Some(response.body.clone());
                before = Some(device.machine.state().clone());
            }
            response
        };
        assert_eq!(sim.run_with(&mut device, &mut hook), Step::Done);
        let (good, before) = (good.unwrap(), before.unwrap());
        let content = |body: &[u8]| {
            let lenient = artifacts::Tolerances::lenient();
            let kind = artifacts::Document::Voucher;
            let signed = artifacts::open(kind, body, Some(envelope), &lenient).unwrap();
            let payload = signed.dangerous_peek().payload().unwrap().to_vec();
            let read = Voucher::from_payload(&payload, envelope, &lenient);
            read.unwrap().0.to_json()
        };
        let mut accepted = 0;
        for bytes in spoilt(&good, stride) {
            let mut other = Device::new(config.clone());
            other.machine = Machine::resume(config.clone(), before.clone());
            let chain = sim.registrars[0].identity.chain.clone();
            other.give(&Input::Begin, NOW);
            other.give(&Input::Connected { chain: &chain }, NOW);
            let headers = [("content-type".to_owned(), envelope.media_type().to_owned())];
            let answered = Input::Answered {
                status: 200,
                headers: &headers,
                body: &bytes,
            };
            let step = other.give(&answered, NOW);
            match &other.machine.state().phase {
                // What no signature covers was changed (a certificate that is not needed).
                Phase::Enrol(_) => {
                    accepted += 1;
                    assert_eq!(content(&bytes), content(&good));
                }
                // The report of the failure goes out; nothing was believed.
                Phase::Voucher(_) => assert!(matches!(step, Step::Send(_)), "{step:?}"),
                Phase::GivenUp => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(accepted < 200, "{accepted}");
        // What a device gets in COSE is under the signature to the last octet.
        assert!(envelope != Envelope::Cose || accepted == 0, "{accepted}");
    }
}
