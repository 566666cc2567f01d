//! The way that everybody hopes for.

use artifacts::{Assertion, Envelope};
use brski::{pledge::Step, registrar::Stage};

use crate::sim::{Device, Sim, stage};

/// Requirements: BRSKI-1.5-01, BRSKI-2.3-01, BRSKI-2.3.1-01, BRSKI-5.2-01, BRSKI-5.2-02,
/// BRSKI-5.2-05, BRSKI-5.5-01, BRSKI-5.6-02, BRSKI-5.6-25, BRSKI-5.7-01, BRSKI-5.9-01,
/// BRSKI-5.9-02, BRSKI-5.9.1-01, BRSKI-5.9.3-01, BRSKI-5.9.4-01, BRSKI-5.9.4-02, JWS-6.1-01,
/// JWS-6.1-02, BRSKI-5.8-01, VOUCHER-5-02
#[test]
fn a_device_enrols_over_cms_and_over_jws() {
    for envelope in [Envelope::Cms, Envelope::Jws] {
        let (mut sim, manufacturer) = Sim::new();
        let idevid = manufacturer.device("SN-1");
        sim.masa.register("SN-1");
        let mut config = Device::config(&idevid, &manufacturer);
        config.envelope = envelope;
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
