//! Renewing the certificate of an enrolled device.

use ::coap::{Code, Response, format};
use brski::pledge::Phase;
use device::{
    brski::{Event, Store},
    cli::summary,
    coaps::{Config, renew_with, run_with},
};
use pki::{Certificate, Coded, Identity, issue::Profile};

use super::fake::{Fake, Trouble};
use crate::world::{self, Ca};

struct Enrolled {
    fake: Fake,
    config: Config,
    idevid: Identity,
    _folder: tempfile::TempDir,
}

impl Enrolled {
    async fn new() -> Self {
        let fake = Fake::new();
        let folder = tempfile::tempdir().unwrap();
        let idevid = fake.manufacturer.device("SN-1");
        let mut config = fake.config(&idevid);
        config.device.state_folder = Some(folder.path().to_owned());
        let mut observer = |_: &Event| {};
        let run = run_with(&config, fake.transport(), &mut observer);
        assert!(run.await.unwrap().is_enrolled());
        fake.with(|shared| shared.requests.clear());
        Self {
            fake,
            config,
            idevid,
            _folder: folder,
        }
    }

    /// What is on the disk: certificate, anchor, and which key.
    fn state(&self) -> (Vec<u8>, Vec<u8>, u32) {
        let store = Store::open(self.config.device.state_folder.clone(), None).unwrap();
        let stored = store.load(&self.idevid).unwrap().unwrap();
        let Phase::Enrolled(enrolled) = stored.pledge.phase else {
            panic!("{:?}", stored.pledge.phase)
        };
        (enrolled.certificate, enrolled.anchor, stored.key_generation)
    }
}

/// Requirements: CBR-071
#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key_in_one_exchange() {
    let device = Enrolled::new().await;
    let before = device.state();
    let renewal = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap();
    assert_eq!(summary(&renewal.steps), "connect, sren 204");
    let client = device.fake.with(|shared| shared.client.clone());
    assert_eq!(client.as_ref(), Some(&renewal.previous));
    let new = renewal.identity.unwrap();
    let new = new.certificate().unwrap();
    assert_eq!(renewal.previous.der(), before.0);
    assert_ne!(new.public_key(), renewal.previous.public_key());
    assert_eq!(new.subject(), renewal.previous.subject());
    assert_eq!(device.state(), (new.der().to_vec(), before.1, before.2 + 1));
}

/// Requirements: CBR-073, CBR-074, CBR-075
#[tokio::test]
async fn a_certificate_that_leads_nowhere_changes_nothing_and_is_reported() {
    let device = Enrolled::new().await;
    let before = device.state();
    let stranger = Ca::root("Stranger").certificate;
    let foreign = Response::content(Code::CHANGED, format::PKIX_CERT, stranger.der());
    device.fake.trouble("sren", Trouble::Says(foreign));
    let error = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "est.certificate-key-mismatch", "{error}");
    assert_eq!(device.fake.names(), ["sren", "crts", "es"]);
    assert_eq!(device.state(), before);
    let log = device
        .fake
        .with(|shared| shared.sim.registrars[0].log.last().cloned());
    assert_eq!(log.as_deref(), Some("enrollstatus false over LDevID"));
    // It can be renewed all the same, by an honest answer.
    let renewal = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap();
    assert!(renewal.identity.is_some());
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let device = Enrolled::new().await;
    let before = device.state();
    let refusal = Response::diagnostic(Code::FORBIDDEN, "registrar.blocked");
    device.fake.trouble("sren", Trouble::Says(refusal));
    let renewal = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap();
    assert_eq!(renewal.refusal, Some((403, "registrar.blocked".to_owned())));
    assert_eq!(device.state(), before);
}

/// Requirements: CBR-072, ESC-060
#[tokio::test]
async fn nothing_is_asked_of_a_server_that_is_no_registration_authority() {
    let device = Enrolled::new().await;
    let key = world::key();
    for (ca, profile) in [
        (
            device
                .fake
                .with(|shared| shared.sim.registrars[0].domain.clone()),
            Profile::TlsServer,
        ),
        (Ca::root("Another domain"), Profile::Registrar),
    ] {
        let builder = ca.builder(profile, "registrar", &key);
        let builder = builder.dns_name("registrar.example");
        let chain = ca.identity(&builder, std::sync::Arc::clone(&key)).chain;
        device.fake.with(|shared| shared.shown = Some(chain));
        let error = renew_with(&device.config, device.fake.transport())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "pledge.registrar-chain", "{error}");
        assert!(device.fake.names().is_empty());
    }
}

/// The domain has changed its root: the renewed certificate leads to the new one, which counts from
/// then on, and the old one no longer.
///
/// Requirements: CBR-073, ESC-055
#[tokio::test]
async fn a_new_root_counts_from_the_next_connection_on() {
    let device = Enrolled::new().await;
    let new = Ca::root("New domain");
    let (old, before) = device.fake.with(|shared| {
        let registrar = &mut shared.sim.registrars[0];
        let old = std::mem::replace(&mut registrar.domain, new.clone());
        (old, registrar.identity.chain.clone())
    });
    let renewal = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap();
    assert_eq!(summary(&renewal.steps), "connect, sren 204, crts 205");
    let (certificate, anchor, _) = device.state();
    assert_eq!(anchor, new.certificate.der());
    let certificate = Certificate::from_der(&certificate).unwrap();
    assert_eq!(certificate.issuer(), new.certificate.subject());

    device.fake.with(|shared| {
        shared.requests.clear();
        shared.shown = Some(before);
    });
    let error = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "pledge.registrar-chain", "{error}");
    assert!(device.fake.names().is_empty());
    assert_ne!(old.certificate, new.certificate);
    let shown = new.registrar("registrar").chain;
    device.fake.with(|shared| shared.shown = Some(shown));
    let renewal = renew_with(&device.config, device.fake.transport())
        .await
        .unwrap();
    assert!(renewal.identity.is_some());
}
