//! EST alone: whom a client believes.

use device::coaps::EstClient;
use pki::{Coded, issue::Profile, path::Anchors};
use url::Url;

use super::fake::Fake;
use crate::world::{self, Ca, NOW};

/// Requirements: ESC-003, ESC-060, ESC-066
#[tokio::test]
async fn a_client_believes_who_is_marked_and_leads_to_its_anchors() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let mut config = fake.config(&idevid);
    config.device.address = Some("192.0.2.1:5684".parse().unwrap());
    let origin = Url::parse("coaps://server.example/").unwrap();
    let domain = fake.with(|shared| shared.sim.registrars[0].domain.clone());
    let key = world::key();
    let shown = |profile| {
        let builder = domain.builder(profile, "server", &key);
        let builder = builder.dns_name("server.example");
        domain.identity(&builder, std::sync::Arc::clone(&key)).chain
    };
    let other = Ca::root("Other");
    for (profile, anchors, refused) in [
        (Profile::Registrar, domain.anchors(), false),
        // Nothing to believe in.
        (Profile::Registrar, Anchors::new(), true),
        (Profile::Registrar, other.anchors(), true),
        // No registration authority, whatever name it has.
        (Profile::TlsServer, domain.anchors(), true),
    ] {
        fake.with(|shared| shared.shown = Some(shown(profile)));
        let client = EstClient::connect(&config, fake.transport(), &origin, idevid.clone())
            .await
            .unwrap();
        let judged = client.check_server(&anchors, Some(NOW));
        let code = judged.as_ref().err().map(Coded::code);
        assert_eq!(code, refused.then_some("pledge.registrar-chain"));
    }
    fake.with(|shared| shared.shown = Some(Vec::new()));
    let client = EstClient::connect(&config, fake.transport(), &origin, idevid)
        .await
        .unwrap();
    assert!(client.check_server(&domain.anchors(), Some(NOW)).is_err());
    client.close().await;
}
