//! Certification requests (RFC 9646).

use std::{cell::RefCell, rc::Rc};

use pki::{Csr, CsrBuilder, KeyKind, Signer, SoftwareKey};
use sztp::{
    agent::{CSR_REQUESTS_MAX, CsrAbility, Found, NonceUse, ProgressType},
    message::{CsrFormat, CsrInput, CsrRequest, CsrSupport},
    restconf::{Fault, RestconfError},
};

use super::{
    sim::{Ask, End, Reply, Sim, SimServer, public_key},
    world::{World, at, unsigned, whole},
};

const P256: &str = "301306072a8648ce3d020106082a8648ce3d030107";
const P384: &str = "301006072a8648ce3d020106052b81040022";

fn algorithm(hex: &str) -> Option<Vec<u8>> {
    Some(hex::decode(hex).unwrap())
}

fn wanted(algorithm: Option<Vec<u8>>, info: Option<Vec<u8>>) -> CsrRequest {
    CsrRequest {
        algorithm,
        format: CsrFormat::P10,
        cert_req_info: info,
    }
}

/// The CertificationRequestInfo of a request.
fn info(csr: &Csr) -> Vec<u8> {
    let der = csr.der();
    // SEQUENCE { info, algorithm, signature }, each with a length of two octets or less.
    let header = |at: usize| match der[at + 1] {
        length if length < 0x80 => (2, usize::from(length)),
        0x81 => (3, usize::from(der[at + 2])),
        _ => (4, usize::from(der[at + 2]) << 8 | usize::from(der[at + 3])),
    };
    let (outer, _) = header(0);
    let (inner, length) = header(outer);
    der[outer..outer + inner + length].to_vec()
}

struct Run {
    sim: Sim,
    end: End,
    seen: Vec<CsrInput>,
    nonces: Vec<Option<Vec<u8>>>,
}

/// A trusted server that asks for these, one after the other, and then gives its data.
fn run(
    world: &World,
    requests: Vec<CsrRequest>,
    ability: Option<CsrAbility>,
    trusted: bool,
) -> Run {
    let mut sim = Sim::new(world);
    sim.config.csr = ability;
    sim.config.nonce = NonceUse::Always;
    if trusted {
        sim.config.server_anchors = world.domain_anchors();
    }
    let seen = Rc::new(RefCell::new((Vec::new(), Vec::new())));
    let log = Rc::clone(&seen);
    let mut requests = requests.into_iter();
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(input) => {
            let mut log = log.borrow_mut();
            log.0.extend(input.csr.clone());
            log.1.push(input.nonce.clone());
            match requests.next() {
                Some(request) => {
                    let error = RestconfError::new(Fault::CsrWanted, "Missing input parameter");
                    Reply::error(&error.with_csr_request(request))
                }
                None => Reply::data(&unsigned(&whole())),
            }
        }
        Ask::Report(_) => Reply::status(204),
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    let end = sim.run();
    let (seen, nonces) = seen.take();
    Run {
        sim,
        end,
        seen,
        nonces,
    }
}

fn keys(kinds: &[KeyKind]) -> Option<CsrAbility> {
    Some(CsrAbility {
        keys: kinds.to_vec(),
    })
}

fn p10(input: &CsrInput) -> Csr {
    let CsrInput::P10(der) = input else {
        panic!("{input:?}")
    };
    Csr::from_der(der).unwrap()
}

/// Requirements: SZTP-9646-1.1-01, SZTP-9646-2.1-01, SZTP-9646-2.2-01, SZTP-9646-3.2-01,
/// SZTP-9646-3.2-02, SZTP-9646-3.2-11, SZTP-9646-3.2-13, SZTP-9646-4.1.2-01, SZTP-9646-4.1.3-01
#[test]
fn a_request_for_a_certificate_is_made_with_a_new_key() {
    let world = World::new();
    let ability = keys(&[KeyKind::EcdsaP384, KeyKind::EcdsaP256]);
    let run = run(&world, vec![wanted(algorithm(P256), None)], ability, true);
    assert!(matches!(run.end, End::Done(_)), "{:?}", run.sim.log);
    let support = CsrSupport {
        algorithms: Some(vec![algorithm(P384).unwrap(), algorithm(P256).unwrap()]),
        formats: vec![CsrFormat::P10],
    };
    assert_eq!(run.seen[0], CsrInput::Support(support));
    let csr = p10(&run.seen[1]);
    csr.verify().unwrap();
    assert_eq!(csr.public_key().spki_der(), public_key(&run.sim.keys[0]));
    assert_ne!(
        csr.public_key(),
        world.device.certificate().unwrap().public_key()
    );
    // The structure is the factory certificate's.
    assert_eq!(
        csr.subject_der(),
        world.device.certificate().unwrap().subject_der()
    );
    // The nonce is repeated.
    assert!(run.nonces[0].is_some());
    assert_eq!(run.nonces[0], run.nonces[1]);
    assert!(
        run.sim
            .has("get hw-model os-name os-version nonce csr-support")
    );
    assert!(run.sim.has("get hw-model os-name os-version nonce p10-csr"));
}

/// Requirements: SZTP-9646-3.2-02
#[test]
fn a_device_that_makes_no_keys_offers_its_own() {
    let world = World::new();
    let run = run(&world, vec![wanted(None, None)], keys(&[]), true);
    assert!(matches!(run.end, End::Done(_)));
    let CsrInput::Support(support) = &run.seen[0] else {
        panic!()
    };
    assert_eq!(support.algorithms, None);
    let csr = p10(&run.seen[1]);
    csr.verify().unwrap();
    assert_eq!(
        csr.public_key(),
        world.device.certificate().unwrap().public_key()
    );
}

/// Requirements: SZTP-9646-3.2-09, SZTP-9646-3.2-12
#[test]
fn the_server_s_own_structure_is_used() {
    let world = World::new();
    let template = |kind| {
        let placeholder = SoftwareKey::generate(kind).unwrap();
        let subject = "CN=what the server wants".parse().unwrap();
        let csr = CsrBuilder::new(subject)
            .dns_names(&["wanted.example"])
            .unwrap()
            .challenge_password("really")
            .sign(&placeholder)
            .unwrap();
        info(&csr)
    };
    let ability = keys(&[KeyKind::EcdsaP256]);
    let right = template(KeyKind::EcdsaP256);
    let request = wanted(algorithm(P256), Some(right));
    let run_right = run(&world, vec![request], ability.clone(), true);
    assert!(matches!(run_right.end, End::Done(_)));
    let csr = p10(&run_right.seen[1]);
    csr.verify().unwrap();
    assert_eq!(csr.subject(), "CN=what the server wants");
    assert_eq!(csr.dns_names().unwrap(), ["wanted.example"]);
    assert_eq!(csr.challenge_password().unwrap().as_deref(), Some("really"));
    assert_eq!(
        csr.public_key().spki_der(),
        public_key(&run_right.sim.keys[0])
    );

    // What does not fit together is refused, and the server hears of it.
    for request in [
        wanted(algorithm(P256), Some(template(KeyKind::EcdsaP384))),
        wanted(algorithm(P256), Some(vec![0x30, 0x00])),
        wanted(algorithm(P384), None),
        CsrRequest {
            format: CsrFormat::Cmc,
            ..wanted(algorithm(P256), None)
        },
    ] {
        let refused = run(&world, vec![request], ability.clone(), true);
        assert!(matches!(refused.end, End::GaveUp(_)));
        assert_eq!(refused.sim.reports(), ["bootstrap-error"]);
        assert_eq!(refused.seen.len(), 1, "no request was made");
        let messages = refused.sim.messages(ProgressType::BootstrapError);
        assert!(messages[0].contains("sztp.csr-"), "{messages:?}");
    }
}

/// Requirements: SZTP-9646-2.3-04
#[test]
fn a_second_demand_gets_a_second_key_and_there_is_an_end() {
    let world = World::new();
    let ability = keys(&[KeyKind::EcdsaP256]);
    let demands = |count| vec![wanted(algorithm(P256), None); count];
    let twice = run(&world, demands(2), ability.clone(), true);
    assert!(matches!(twice.end, End::Done(_)));
    let [first, second] = twice.sim.keys.as_slice() else {
        panic!("{:?}", twice.sim.log)
    };
    assert_ne!(first.public_key(), second.public_key());
    assert_eq!(p10(&twice.seen[2]).public_key(), second.public_key());

    let endless = run(&world, demands(100), ability, true);
    assert!(matches!(endless.end, End::GaveUp(_)));
    assert_eq!(endless.sim.keys.len(), CSR_REQUESTS_MAX as usize);
    assert!(endless.sim.left().contains(&"sztp.csr-repeated"));
}

/// Requirements: SZTP-9646-4.1.4-01
#[test]
fn nobody_untrusted_gets_a_request() {
    let world = World::new();
    let ability = keys(&[KeyKind::EcdsaP256]);
    let demand = vec![wanted(algorithm(P256), None)];
    let untrusted = run(&world, demand.clone(), ability, false);
    assert!(matches!(untrusted.end, End::GaveUp(_)));
    assert!(untrusted.seen.is_empty());
    assert_eq!(untrusted.sim.left(), ["sztp.csr-untrusted"]);
    // Nor one who asks a device that did not offer.
    let unable = run(&world, demand, None, true);
    assert!(matches!(unable.end, End::GaveUp(_)));
    assert!(unable.seen.is_empty());
    assert_eq!(unable.sim.left(), ["sztp.refused"]);
}

/// Both sides of this crate: what the server chooses from the device's offer, its structure with
/// no key in it included, is what the device makes and the server then takes.
///
/// Requirements: SZTP-9646-2.2-01, SZTP-9646-3.2-09, SZTP-9646-3.2-10
#[test]
fn what_the_server_asks_for_is_what_the_device_makes() {
    use sztp::csr::{Asked, Device, Policy, Template, check, choose};

    let world = World::new();
    let identity = world.device.certificate();
    let device = Device {
        serial: "any",
        identity,
    };
    let model = CsrBuilder::new("CN=what the server wants".parse().unwrap())
        .sign(&SoftwareKey::generate(KeyKind::EcdsaP256).unwrap())
        .unwrap();
    let template = Template {
        subject: model.subject_der().to_vec(),
        attributes: Vec::new(),
    };
    for kinds in [
        &[KeyKind::EcdsaP256][..],
        &[KeyKind::EcdsaP384],
        &[KeyKind::Ed25519],
        &[KeyKind::Rsa2048],
        &[],
    ] {
        for template in [None, Some(template.clone())] {
            let policy = Policy {
                template,
                ..Policy::default()
            };
            let offer = run(&world, Vec::new(), keys(kinds), true);
            let CsrInput::Support(support) = &offer.seen[0] else {
                panic!("csr-support")
            };
            let request = choose(support, &policy, &device).unwrap().unwrap();
            assert_eq!(request.algorithm.is_none(), kinds.is_empty());
            let made = run(&world, vec![request.clone()], keys(kinds), true);
            assert!(matches!(made.end, End::Done(_)), "{kinds:?}");
            let now = time::macros::datetime!(2026-06-01 12:00:00 UTC);
            let asked = Asked { request, at: now };
            let checked = check(&made.seen[1], Some(&asked), &policy, &device, now).unwrap();
            assert_eq!(checked.is_new_key, !kinds.is_empty());
        }
    }
}
