//! What was granted and is taken away again: denied devices, revoked certificates, old rows.

use std::sync::Arc;
use std::time::Duration;

use daemon::Outcome;
use est::client;
use est::csrattrs::Requirements;
use futures::future::BoxFuture;
use pki::{Certificate, Crl, Identity, SoftwareKey};
use registrar::ca::{
    CaError, CertificateAuthority, Holder, Issued, NamePlan, Names, Order, Wanted, certify,
};
use registrar::records::{self, Sighting, State};
use time::OffsetDateTime;

use crate::enrolment::{ALLOW, certificate, enroll, facts, key, reenroll, vouchered};
use crate::harness::{Device, Lab};

/// A device that used its voucher, as itself and with its new identity.
async fn member(lab: &Lab, serial: &str) -> (Device, Device) {
    let device = vouchered(lab, serial).await;
    let key = key();
    let csr = client::request(&Requirements::none(), &facts(&device), None, key.as_ref());
    let issued = certificate(&enroll(&device, &csr.unwrap()).await);
    let mut member = device.clone();
    member.identity = Some(Identity::new(vec![issued], key).unwrap());
    (device, member)
}

fn renewal(member: &Device, key: &Arc<SoftwareKey>) -> pki::Csr {
    let current = &member.identity.as_ref().unwrap().chain[0];
    client::reenrol_request(current, &Requirements::none(), None, key.as_ref()).unwrap()
}

/// Requirements: EST-3.3.2-02
#[tokio::test]
async fn an_old_certificate_does_not_get_around_the_revocation_of_the_new_one() {
    let lab = Lab::start(ALLOW).await;
    let (_, old) = member(&lab, "SN-1").await;
    for _ in 0..2 {
        lab.hand.advance(Duration::from_secs(60));
        let csr = renewal(&old, &key());
        certificate(&reenroll(&old, &csr).await);
    }
    let revoke = ["cert", "revoke", "SN-1", "--reason", "key-compromise"];
    assert_eq!(lab.run(&revoke).await, Outcome::Yes);
    let got = reenroll(&old, &renewal(&old, &key())).await;
    assert_eq!(
        (got.status, got.code().as_str()),
        (403, "est.certificate-revoked")
    );
    lab.stop().await;
}

/// Requirements: BRSKI-5.9-01
#[tokio::test]
async fn the_list_and_the_rules_deny_also_after_the_voucher() {
    let rule =
        "[policy]\ndefault = \"allow\"\n[[policy.rule]]\nserial = \"SN-*\"\naction = \"allow\"\n";
    let lab = Lab::start(rule).await;
    let fresh = vouchered(&lab, "SN-1").await;
    let (_, enrolled) = member(&lab, "SN-2").await;
    let list = lab.path("stolen.csv");
    std::fs::write(&list, "serial,vendor,action\nSN-1,,deny\nSN-2,,deny\n").unwrap();
    let list = list.display().to_string();
    assert_eq!(lab.run(&["device", "import", &list]).await, Outcome::Yes);
    let csr = client::request(&Requirements::none(), &facts(&fresh), None, key().as_ref());
    for got in [
        enroll(&fresh, &csr.unwrap()).await,
        reenroll(&enrolled, &renewal(&enrolled, &key())).await,
    ] {
        assert_eq!(
            (got.status, got.code().as_str()),
            (403, "registrar.device-denied"),
            "{}",
            got.text()
        );
    }
    // A person who approves the very device stands above the list.
    assert_eq!(lab.run(&["device", "approve", "SN-2"]).await, Outcome::Yes);
    certificate(&reenroll(&enrolled, &renewal(&enrolled, &key())).await);
    lab.stop().await;
}

#[tokio::test]
async fn a_denied_device_cannot_report_itself_into_another_state() {
    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    assert_eq!(lab.run(&["device", "deny", "SN-1"]).await, Outcome::Yes);
    for path in [brski::paths::VOUCHER_STATUS, brski::paths::ENROL_STATUS] {
        let got = device.report(path, "{\"version\":1,\"status\":true}").await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert_eq!(lab.shown("SN-1").await["state"], "denied", "{path}");
    }
    lab.stop().await;
}

/// A CA that takes its time, in which an operator does something.
struct Slow {
    inner: Arc<dyn CertificateAuthority>,
    config: String,
    clock: daemon::Clock,
    meanwhile: Vec<&'static str>,
}

impl CertificateAuthority for Slow {
    fn kind(&self) -> &'static str {
        "builtin"
    }

    fn ca_certificates(&self) -> Vec<Certificate> {
        self.inner.ca_certificates()
    }

    fn issue<'a>(
        &'a self,
        order: &'a Order,
        now: OffsetDateTime,
    ) -> BoxFuture<'a, Result<Issued, CaError>> {
        Box::pin(async move {
            let mut command = self.meanwhile.clone();
            command.extend(["--config", self.config.as_str(), "--json"]);
            let done = crate::harness::command(&self.clock, &command).await;
            assert_eq!(done, Outcome::Yes);
            self.inner.issue(order, now).await
        })
    }

    fn takes_names_from_request(&self) -> bool {
        false
    }

    fn sign_crl(
        &self,
        number: u64,
        revoked: &[registrar::ca::records::Revocation],
        now: OffsetDateTime,
    ) -> Result<Option<Crl>, CaError> {
        self.inner.sign_crl(number, revoked, now)
    }
}

#[tokio::test]
async fn what_is_denied_or_revoked_while_the_ca_works_gets_no_certificate() {
    let lab = Lab::start(ALLOW).await;
    let (_, enrolled) = member(&lab, "SN-1").await;
    let current = enrolled.identity.as_ref().unwrap().chain[0].clone();
    let service = lab.running().service();
    let id = lab.shown("SN-1").await["device_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let plan = NamePlan::parse("serialNumber={serial}", &[]).unwrap();
    for (meanwhile, replaces, code) in [
        (
            vec!["cert", "revoke", "SN-1"],
            Some(&current),
            "est.certificate-revoked",
        ),
        // The revocation is there already; a first certificate is refused for it as well.
        (
            vec!["device", "show", "SN-1"],
            None,
            "est.certificate-revoked",
        ),
        (
            vec!["device", "deny", "SN-1"],
            None,
            "registrar.device-denied",
        ),
    ] {
        let csr = client::request(
            &Requirements::none(),
            &facts(&enrolled),
            None,
            key().as_ref(),
        );
        let csr = csr.unwrap();
        let holder = Holder {
            id: id.clone(),
            is_device: true,
            names_from_request: false,
            scope: "a scope".to_owned(),
            names: Names {
                serial: Some("SN-1".to_owned()),
                ..Names::default()
            },
        };
        let wanted = Wanted {
            csr: &csr,
            generated: None,
            replaces,
            correlation: "-",
            entries: Vec::new(),
            detail: serde_json::Value::Null,
        };
        let slow: Arc<dyn CertificateAuthority> = Arc::new(Slow {
            inner: Arc::clone(service.ca().unwrap()),
            config: lab.path("registrar.toml").display().to_string(),
            clock: lab.clock.clone(),
            meanwhile: meanwhile.clone(),
        });
        let now = lab.clock.now();
        let store = service.store();
        let error = certify(store, &slow, &plan, &holder, &wanted, now).await;
        let error = error.map(|_| ()).unwrap_err();
        assert_eq!(pki::Coded::code(&error), code, "{meanwhile:?}");
    }
    assert_eq!(lab.shown("SN-1").await["state"], "denied");
    lab.stop().await;
}

/// More strangers than one pass forgets, and a device that begins anew all the time.
#[tokio::test]
async fn one_housekeeping_catches_up_with_a_flood() {
    let lab = Lab::prepare(ALLOW).await;
    crate::enrolment::edit(&lab, |text| text + "[retention]\nuntrusted_devices = 10\n");
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-1").await;
    let id = lab.shown("SN-1").await["device_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let service = lab.running().service();
    let now = lab.clock.now();
    service
        .store()
        .transaction("flood", move |connection| {
            let id = id.clone();
            Box::pin(async move {
                for number in 0..2_500 {
                    let stranger = Sighting {
                        device_id: format!("stranger-{number}"),
                        trusted: false,
                        vendor: String::new(),
                        serial: String::new(),
                        issuer_key: String::new(),
                        product: None,
                        subject: String::new(),
                        idevid: None,
                        key: None,
                    };
                    let at = now - time::Duration::seconds(number);
                    records::touch(connection, &stranger, State::Untrusted, at).await?;
                }
                let known = records::latest_exchange(connection, &id).await?;
                let mut exchange = known.unwrap().exchange;
                for number in 1..=300 {
                    exchange.request_digest = format!("request-{number}");
                    exchange.begun_at = now - time::Duration::seconds(number);
                    records::put_exchange(connection, &id, &exchange, now).await?;
                }
                Ok::<_, registrar::Error>(())
            })
        })
        .await
        .unwrap();
    service.housekeeping().await.unwrap();
    let mut snapshot = service.store().snapshot().await.unwrap();
    let counts = records::state_counts(&mut snapshot).await.unwrap();
    let strangers = counts.iter().find(|(state, _)| *state == State::Untrusted);
    assert_eq!(strangers.map(|(_, number)| *number), Some(10));
    let id = lab.shown("SN-1").await["device_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let kept = records::exchanges(&mut snapshot, &id, 1_000).await.unwrap();
    assert_eq!(kept.len(), 200);
    drop(snapshot);
    // The newest is among them.
    let csr = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    certificate(&enroll(&device, &csr.unwrap()).await);
    lab.stop().await;
}
