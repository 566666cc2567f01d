//! The way that everybody hopes for.

use artifacts::{Assertion, Document, Envelope, Tolerances, open};
use brski::{
    DomainKey,
    pledge::{Phase, Step},
    registrar::Stage,
};
use pki::issue::Profile;

use crate::{
    sim::{Device, Sim, stage},
    world::{Ca, key},
};

/// Requirements: BRSKI-1.5-01, BRSKI-2.3-01, BRSKI-2.3.1-01, BRSKI-5.2-01, BRSKI-5.2-02,
/// BRSKI-5.2-05, BRSKI-5.5-01, BRSKI-5.6-02, BRSKI-5.6-25, BRSKI-5.7-01, BRSKI-5.9-01,
/// BRSKI-5.9-02, BRSKI-5.9.1-01, BRSKI-5.9.3-01, BRSKI-5.9.4-01, BRSKI-5.9.4-02, JWS-6.1-01,
/// JWS-6.1-02, BRSKI-5.8-01, VOUCHER-5-02
#[test]
fn a_device_enrols_in_each_envelope() {
    for envelope in Envelope::ALL {
        let (mut sim, manufacturer) = Sim::new();
        let idevid = manufacturer.device("SN-1");
        sim.masa.register("SN-1");
        let mut config = Device::config(&idevid, &manufacturer);
        config.envelope = envelope;
        let signer = manufacturer.masa.chain[0].clone();
        config.masa_anchors.extend([signer]);
        let mut device = Device::new(config);
        assert_eq!(sim.run(&mut device), Step::Done, "{envelope:?}");
        assert!(device.is_enrolled());
        let registrar = &sim.registrars[0];
        assert_eq!(stage(registrar, "SN-1"), Some(&Stage::Enrolled));
        assert_eq!(
            registrar.paths,
            [
                "/.well-known/brski/requestvoucher",
                "/.well-known/brski/voucher_status",
                "/.well-known/est/cacerts",
                "/.well-known/est/csrattrs",
                "/.well-known/est/simpleenroll",
                "/.well-known/brski/enrollstatus",
            ]
        );
        assert_eq!(registrar.log, ["enrollstatus true over LDevID"]);
        assert_eq!(sim.masa.log, ["granted"]);
        let events = &sim.masa.events["SN-1"];
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].assertion, Assertion::Proximity);
        assert_eq!(
            events[0].nonce.as_deref(),
            Some(registrar.nonces[0].1.as_str())
        );
        let call = &registrar.masa_calls[0];
        assert_eq!(
            call.url.as_str(),
            "https://masa.example:9443/.well-known/brski/requestvoucher"
        );
        assert_eq!(call.content_type, envelope.media_type());
        assert_eq!(call.accept, envelope.media_type());
    }
}

/// Requirements: BRSKI-11.6.2-02
#[test]
fn a_masa_signs_under_a_new_key_and_devices_that_know_its_ca_follow() {
    let (mut sim, manufacturer) = Sim::new();
    let fresh = key();
    let builder = manufacturer
        .ca
        .builder(Profile::MasaSigner, "MASA of next year", &fresh);
    let next = manufacturer.ca.identity(&builder, fresh);
    for (serial, signer) in [("SN-1", manufacturer.masa.clone()), ("SN-2", next)] {
        sim.masa.manufacturer.masa = signer.clone();
        sim.masa.register(serial);
        let idevid = manufacturer.device(serial);
        let mut device = Device::new(Device::config(&idevid, &manufacturer));
        assert_eq!(sim.run(&mut device), Step::Done, "{serial}");
        let Phase::Enrolled(enrolled) = &device.machine.state().phase else {
            panic!()
        };
        let strict = Tolerances::strict();
        let signed = open(Document::Voucher, &enrolled.voucher, None, &strict).unwrap();
        let certificates = signed.dangerous_peek().certificates();
        assert!(certificates.contains(&signer.chain[0]), "{serial}");
    }
}

/// Domains are told apart by SHA-256 of their keys, whatever their certificates call themselves.
///
/// Requirements: BRSKI-11.2-01
#[test]
fn a_domain_is_its_key() {
    let (first, second) = (Ca::root("Domain"), Ca::root("Domain"));
    let id = |ca: &Ca| serde_json::to_value(DomainKey::of(&ca.certificate)).unwrap();
    assert_ne!(id(&first), id(&second));
    let digest = first.certificate.public_key().sha256();
    let hexadecimal: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(id(&first), hexadecimal);
}
