//! What goes over the wire, octet for octet where it matters.

use artifacts::{
    Assertion, Document, Envelope, Nonce, Tolerances, Voucher, VoucherRequest, open,
    verify::{PledgeRequestContext, ProximityTarget, Trust, verify_pledge_request},
};
use brski::{
    pledge::{Clock, EnrolStep, Failure, Input, Phase, Step, What},
    registrar::Stage,
};
use pki::{
    Identity, Signer,
    issue::{CertificateBuilder, Profile, name},
};
use time::Duration;

use crate::{
    sim::{Device, Response, Sim, stage},
    world::{Ca, NOW, key, serial},
};

fn payload(document: Document, body: &[u8]) -> Vec<u8> {
    let signed = open(document, body, None, &Tolerances::strict()).unwrap();
    signed.dangerous_peek().payload().unwrap().to_vec()
}

/// Requirements: BRSKI-3-01, BRSKI-3.4-07, BRSKI-3.4-08, BRSKI-5-01, BRSKI-5.2-03, BRSKI-5.2-06,
/// BRSKI-5.2-08, BRSKI-5.2-10, BRSKI-2.3.1-01, VOUCHERBIS-6.2-03, JWS-3.1-01
#[test]
fn the_pledges_request_is_signed_by_the_idevid_and_names_what_it_saw() {
    for (envelope, clock) in [
        (Envelope::Cms, Clock::Trusted),
        (Envelope::Jws, Clock::Untrusted),
    ] {
        let (sim, manufacturer) = Sim::new();
        let idevid = manufacturer.device("SN-1");
        let mut config = Device::config(&idevid, &manufacturer);
        config.envelope = envelope;
        config.clock = clock;
        let mut device = Device::new(config);
        assert!(matches!(
            device.give(&Input::Begin, NOW),
            Step::Connect { .. }
        ));
        let chain = sim.registrars[0].identity.chain.clone();
        let random = device.random();
        let step = device
            .machine
            .step(&Input::Connected { chain: &chain }, NOW, &random);
        let Step::Send(request) = step else {
            panic!("{step:?}")
        };
        assert_eq!(request.method, "POST");
        let strict = Tolerances::strict();
        let signed = open(Document::Request, &request.body, Some(envelope), &strict).unwrap();
        let anchors = manufacturer.ca.anchors();
        let context = PledgeRequestContext {
            peer: idevid.certificate(),
            proximity: ProximityTarget::ServerCertificate(&chain[..1]),
            ..PledgeRequestContext::new(Trust::new(&anchors, Some(NOW)))
        };
        let verified = verify_pledge_request(&signed, &context, &strict)
            .into_result()
            .unwrap();
        let content = verified.request;
        assert_eq!(content.assertion, Some(Assertion::Proximity));
        assert_eq!(content.proximity_registrar_cert.as_ref(), chain.first());
        assert_eq!(content.serial_number.as_str(), "SN-1");
        assert_eq!(
            content.nonce,
            Nonce::from_octets(&random),
            "the nonce is the random argument"
        );
        assert!(content.idevid_issuer.is_none());
        assert_eq!(content.created_on, (clock == Clock::Trusted).then_some(NOW));
    }
}

/// Requirements: VOUCHER-5.3-01, VOUCHER-5.3-02, VOUCHER-5.3-03, VOUCHER-5.3-04, VOUCHER-5.4-05,
/// SZTP-8366-5.3-01, SZTP-8366-5.4-02, VOUCHERBIS-7.1-06, BRSKI-3.4-06, BRSKI-9.1.1-02, BRSKI-11.6-01
#[test]
fn the_voucher_has_what_it_must_and_the_chain_of_its_signer() {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("0012345");
    let idevid = manufacturer.device("0012345");
    let mut device = Device::new(Device::config(&idevid, &manufacturer));
    assert_eq!(sim.run(&mut device), Step::Done);
    let Phase::Enrolled(enrolled) = &device.machine.state().phase else {
        panic!()
    };
    let json: serde_json::Value =
        serde_json::from_slice(&payload(Document::Voucher, &enrolled.voucher)).unwrap();
    let leaves = json["ietf-voucher:voucher"].as_object().unwrap();
    let names: Vec<&str> = leaves.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "created-on",
            "assertion",
            "serial-number",
            "pinned-domain-cert",
            "domain-cert-revocation-checks",
            "nonce",
        ]
    );
    assert_eq!(leaves["serial-number"], "0012345");
    assert_eq!(leaves["domain-cert-revocation-checks"], false);
    let signed = open(
        Document::Voucher,
        &enrolled.voucher,
        None,
        &Tolerances::strict(),
    )
    .unwrap();
    let certificates = signed.dangerous_peek().certificates();
    assert!(certificates.contains(&manufacturer.masa.chain[0]));
    assert!(
        certificates.contains(&manufacturer.ca.certificate),
        "up to the anchor"
    );
}

/// Requirements: BRSKI-5.1-10, BRSKI-5.6.2-02, BRSKI-5.5-06
#[test]
fn a_registrar_that_signed_its_own_certificate_is_pinned_directly() {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let key = key();
    let own = CertificateBuilder::new(
        Profile::Registrar,
        name("CN=lonely").unwrap(),
        key.public_key().clone(),
        serial(),
        NOW - Duration::days(1),
        NOW + Duration::days(30),
    )
    .dns_name("lonely.example")
    .self_sign(key.as_ref())
    .unwrap();
    sim.registrars[0].identity = Identity::new(vec![own.clone()], key).unwrap();
    let idevid = manufacturer.device("SN-1");
    let mut device = Device::new(Device::config(&idevid, &manufacturer));
    assert_eq!(sim.run(&mut device), Step::Done);
    let Phase::Enrolled(enrolled) = &device.machine.state().phase else {
        panic!()
    };
    let strict = Tolerances::strict();
    let json = payload(Document::Voucher, &enrolled.voucher);
    let (voucher, _) = Voucher::from_json(&json, &strict).unwrap();
    assert_eq!(voucher.pinned_domain_cert, Some(own));
}

/// Requirements: BRSKI-5.6.2-08, BRSKI-5.6.2-09
#[test]
fn another_server_of_the_domain_has_to_be_a_registrar() {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let mut device = Device::new(Device::config(&idevid, &manufacturer));
    let mut step = device.give(&Input::Begin, sim.now);
    while !matches!(&device.machine.state().phase, Phase::Enrol(phase) if phase.next == EnrolStep::Enrol)
    {
        step = sim.carry_out(&mut device, step);
    }
    assert!(matches!(step, Step::Send(_)));
    let domain = sim.registrars[0].domain.clone();
    let state = device.machine.state().clone();
    let config = device.machine.config().clone();
    let plain_key = key();
    let plain = domain
        .builder(Profile::TlsServer, "www", &plain_key)
        .dns_name("www.example");
    let plain = domain.identity(&plain, plain_key).chain;
    let second = domain.registrar("second").chain;
    let stranger = Ca::root("Domain").registrar("registrar").chain;
    for (chain, accepted) in [(second, true), (plain, false), (stranger, false)] {
        let mut again = Device::new(config.clone());
        again.machine = brski::pledge::Machine::resume(config.clone(), state.clone());
        assert!(matches!(
            again.give(&Input::Begin, NOW),
            Step::Connect { .. }
        ));
        let step = again.give(&Input::Connected { chain: &chain }, NOW);
        match step {
            Step::Send(request) if accepted => assert_eq!(request.what, What::Enrol),
            Step::GiveUp(Failure::RegistrarChanged | Failure::PinMismatch(_)) if !accepted => {}
            other => panic!("{}: {other:?}", chain[0].subject()),
        }
    }
}

/// Requirements: BRSKI-6-01, BRSKI-6-02, BRSKI-6-03
#[test]
fn brski_bodies_are_binary_and_est_bodies_are_base64_whatever_a_header_says() {
    let (mut sim, manufacturer) = Sim::new();
    sim.masa.register("SN-1");
    let idevid = manufacturer.device("SN-1");
    let mut device = Device::new(Device::config(&idevid, &manufacturer));
    let mut hook = |_: &brski::pledge::Request, response: Response, _: &Device| {
        response.with("content-transfer-encoding", "binary")
    };
    assert_eq!(sim.run_with(&mut device, &mut hook), Step::Done);
    for request in &device.requests {
        match request.what {
            What::RequestVoucher => assert_eq!(request.body.first(), Some(&0x30)),
            What::Enrol => {
                let strict = est::body::BodyTolerances::default();
                let (der, _) = est::body::decode(&request.body, 65536, &strict).unwrap();
                assert_eq!(der.first(), Some(&0x30));
            }
            _ => {}
        }
    }
    assert_eq!(stage(&sim.registrars[0], "SN-1"), Some(&Stage::Enrolled));
    let first = &device.requests[0].body;
    let strict = Tolerances::strict();
    assert!(VoucherRequest::from_json(&payload(Document::Request, first), &strict).is_ok());
}
