//! Enrolment, refusal and renewal over real connections.

use artifacts::Envelope;
use brski::{
    pledge::{Clock, Failure, ProximityForm, What},
    registrar::Verdict as Policy,
};
use device::brski::{Config, Event, Verdict, renew, renewal_due, run};
use net::HttpVersion;
use pki::{Coded, KeyKind, Signer, SoftwareKey};
use time::{Duration, OffsetDateTime};

use crate::{server::Server, sim::Response, world::Manufacturer};

fn names(outcome: &device::brski::Outcome) -> String {
    device::cli::summary(&outcome.steps)
}

const WHOLE: &str = "connect, requestvoucher 200, voucher_status 200, cacerts 200, csrattrs 404, \
                     key, simpleenroll 200, connect, enrollstatus 200";

/// Requirements: BRSKI-5-05, BRSKI-5.1-08, BRSKI-5.9.4-02, EST-4.5-01, JWS-6.1-01
#[tokio::test]
async fn a_device_enrols_over_each_http_version_with_each_envelope() {
    for http in [HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http3] {
        for envelope in [Envelope::Cms, Envelope::Jws] {
            let server = Server::start().await;
            let idevid = server.manufacturer.device("SN-1");
            let config = Config {
                http,
                envelope,
                ..server.config(&idevid)
            };
            let mut events = Vec::new();
            let outcome = run(&config, &mut |event| events.push(event.clone()))
                .await
                .unwrap();
            let Verdict::Enrolled(enrolment) = &outcome.verdict else {
                panic!("{http} {envelope:?}: {outcome:?}");
            };
            assert_eq!(names(&outcome), WHOLE, "{http} {envelope:?}");
            assert!(enrolment.reported);
            assert_eq!(enrolment.assertion.as_deref(), Some("proximity"));
            let registrar = server.with(|sim| sim.registrars[0].identity.certificate().cloned());
            assert_eq!(enrolment.registrar, registrar);
            let log = server.with(|sim| sim.registrars[0].log.clone());
            assert_eq!(log, ["enrollstatus true over LDevID"]);
            check_trace(&events, http, envelope);
            server.stop().await;
        }
    }
}

/// Requirements: CBR-001, CBR-020, CBR-131, CBR-151, CBR-154
#[tokio::test]
async fn a_device_enrols_with_cose_over_each_http_version_whatever_it_names_its_registrar_by() {
    for (http, proximity) in [
        (HttpVersion::Http1, ProximityForm::Certificate),
        (HttpVersion::Http2, ProximityForm::PublicKey),
        (HttpVersion::Http3, ProximityForm::PublicKeySha256),
    ] {
        let server = Server::start().await;
        let idevid = server.manufacturer.device("SN-1");
        let signer = server.manufacturer.masa.chain[0].clone();
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            http,
            proximity,
            envelope: Envelope::Cose,
            // No certificate travels with the voucher, so the device has its signer's built in.
            masa_anchors: signer.into(),
            // The registrar hands the device's chain on to the MASA, up to its root.
            idevid,
            state_folder: Some(folder.path().to_owned()),
            ..server.config(&server.manufacturer.device("SN-1"))
        };
        let mut events = Vec::new();
        let outcome = run(&config, &mut |event| events.push(event.clone()))
            .await
            .unwrap();
        let Verdict::Enrolled(enrolment) = &outcome.verdict else {
            panic!("{http} {proximity:?}: {outcome:?}");
        };
        assert_eq!(names(&outcome), WHOLE, "{http} {proximity:?}");
        assert_eq!(enrolment.assertion.as_deref(), Some("proximity"));
        check_trace(&events, http, Envelope::Cose);
        let file = folder.path().join("voucher.vch");
        assert_eq!(std::fs::read(file).unwrap(), enrolment.voucher);
        server.stop().await;
    }
}

/// Each message is there in the open: the request's and the voucher's leaves, certificates.
fn check_trace(events: &[Event], http: HttpVersion, envelope: Envelope) {
    let Event::Connected {
        http: spoken,
        client,
        chain,
        ..
    } = &events[0]
    else {
        panic!()
    };
    assert_eq!(
        (spoken.as_str(), *client),
        (http.to_string().as_str(), "idevid")
    );
    assert_eq!(chain[0]["subject"], "CN=registrar");
    let Event::Exchanged(message) = &events[1] else {
        panic!("{:?}", events[1])
    };
    assert_eq!(
        message.request_line,
        "POST /.well-known/brski/requestvoucher"
    );
    assert_eq!(message.request["envelope"], envelope.name());
    let request = &message.request["payload"]["ietf-voucher-request:voucher"];
    let voucher = &message.answer["payload"]["ietf-voucher:voucher"];
    assert_eq!(request["serial-number"], "SN-1");
    assert_eq!(request["nonce"], voucher["nonce"]);
    assert_eq!(voucher["assertion"], "proximity");
    assert!(matches!(events.last(), Some(Event::Enrolled { .. })));
    // Everything can be written as JSON.
    assert!(
        serde_json::to_string(events)
            .unwrap()
            .contains("\"event\":\"exchanged\"")
    );
}

/// The demo's attackers: each refused for its own reason.
#[tokio::test]
async fn attackers_are_refused_and_learn_the_code() {
    let server = Server::start().await;
    let genuine = server.manufacturer.device("SN-1");
    let honest = run(&server.config(&genuine), &mut |_| {}).await.unwrap();
    assert!(honest.is_enrolled());

    let rogue = Manufacturer::new("Rogue").device("SN-1");
    let clone = server.manufacturer.device("SN-1");
    let replay = Config {
        replay: honest.voucher_request,
        ..server.config(&genuine)
    };
    for (config, status, code) in [
        (server.config(&rogue), 403, "registrar.manufacturer-unknown"),
        (server.config(&clone), 403, "registrar.clone-suspected"),
        (replay, 403, "registrar.request-replayed"),
    ] {
        let outcome = run(&config, &mut |_| {}).await.unwrap();
        assert_eq!(outcome.code(), Some("pledge.refused"), "{code}");
        let step = outcome.steps.last().unwrap();
        assert_eq!((step.status, step.ok), (Some(status), false), "{code}");
        assert!(step.detail.starts_with(code), "{code}: {}", step.detail);
        let Verdict::Refused(Failure::Refused {
            status: said, text, ..
        }) = &outcome.verdict
        else {
            panic!("{outcome:?}")
        };
        assert_eq!(*said, status);
        assert!(text.starts_with(code));
    }
    server.stop().await;
}

/// Requirements: BRSKI-2.6.1-01
#[tokio::test]
async fn a_device_that_believes_it_is_1970_enrols() {
    let server = Server::start().await;
    let idevid = server.manufacturer.device("SN-1");
    let config = Config {
        clock: Clock::Untrusted,
        starts_at: OffsetDateTime::UNIX_EPOCH,
        ..server.config(&idevid)
    };
    assert!(run(&config, &mut |_| {}).await.unwrap().is_enrolled());
    server.stop().await;
}

/// Requirements: BRSKI-5.6-08, BRSKI-5.6-11, BRSKI-5.6-12, BRSKI-5-05
#[tokio::test]
async fn the_device_waits_for_a_human_on_the_same_connection() {
    let server = Server::start().await;
    let idevid = server.manufacturer.device("SN-1");
    server.with(|sim| {
        sim.registrars[0].verdict = Policy::Ask;
        sim.registrars[0].policy.retry_after = Duration::SECOND;
    });
    let shared = std::sync::Arc::clone(&server.shared);
    let mut config = server.config(&idevid);
    config.time_max = Some(std::time::Duration::from_secs(30));
    let mut observer = |event: &Event| {
        if matches!(event, Event::Waiting { .. }) {
            // The human says yes while the device waits.
            shared.lock().unwrap().sim.registrars[0].verdict = Policy::Allow;
        }
    };
    let outcome = run(&config, &mut observer).await.unwrap();
    assert!(outcome.is_enrolled());
    let expect = WHOLE.replacen(
        "requestvoucher 200",
        "requestvoucher 202, wait, requestvoucher 200",
        1,
    );
    assert_eq!(names(&outcome), expect);
    server.stop().await;
}

#[tokio::test]
async fn nobody_there_is_a_failure_with_a_reason() {
    let server = Server::start().await;
    let idevid = server.manufacturer.device("SN-1");
    let config = server.config(&idevid);
    server.stop().await;
    let outcome = run(&config, &mut |_| {}).await.unwrap();
    assert_eq!(outcome.code(), Some("pledge.connection"));
}

/// Requirements: BRSKI-9.1.3-03, BRSKI-9.1.2-03
#[tokio::test]
async fn a_renewal_switches_key_and_certificate_together() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.state_folder = Some(folder.path().to_owned());
    config.key_passphrase = Some("open sesame".to_owned());
    config.key_kind = KeyKind::EcdsaP384;
    assert_eq!(
        renew(&config).await.unwrap_err().code(),
        "pledge.not-enrolled"
    );
    let outcome = run(&config, &mut |_| {}).await.unwrap();
    let Verdict::Enrolled(first) = outcome.verdict else {
        panic!("{:?}", outcome.steps)
    };

    assert!(!renewal_due(&config).unwrap(), "it is new");
    let mut later = config.clone();
    later.starts_at += Duration::days(46);
    assert!(renewal_due(&later).unwrap(), "46 of 90 days are over");

    let renewal = renew(&config).await.unwrap();
    let second = renewal.identity.expect("a new certificate");
    assert_eq!(Some(&renewal.previous), first.identity.certificate());
    let new = second.certificate().unwrap();
    assert_ne!(new.public_key(), renewal.previous.public_key(), "a new key");
    assert_eq!(
        new.subject_der(),
        renewal.previous.subject_der(),
        "the same name"
    );
    let key = folder.path().join("ldevid-2.key.pem");
    assert!(SoftwareKey::load(&key, None).is_err(), "encrypted");
    let key = SoftwareKey::load(&key, Some("open sesame")).unwrap();
    assert_eq!(key.public_key(), new.public_key());
    assert!(
        !folder.path().join("ldevid-1.key.pem").exists(),
        "the old key is gone"
    );
    let published = pki::Certificate::load(folder.path().join("ldevid.pem")).unwrap();
    assert_eq!(&published, new);

    // A refusal leaves the device as it is.
    server.hook(
        |request, response| match request.path.ends_with("simplereenroll") {
            true => Response::new(403, "text/plain", "no more"),
            false => response,
        },
    );
    let refused = renew(&config).await.unwrap();
    assert_eq!(refused.refusal, Some((403, "no more".to_owned())));
    assert_eq!(&refused.previous, new);
    // It is enrolled and says so, without asking anybody.
    let calls = server.with(|sim| sim.registrars[0].paths.len());
    let again = run(&config, &mut |_| {}).await.unwrap();
    let Verdict::Enrolled(now) = again.verdict else {
        panic!()
    };
    assert_eq!(now.identity.certificate(), Some(new));
    assert_eq!(server.with(|sim| sim.registrars[0].paths.len()), calls);
    server.stop().await;
}

/// A registrar of another PKI under the same address gets no renewal request.
#[tokio::test]
async fn a_renewal_is_asked_of_the_domain_only() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.state_folder = Some(folder.path().to_owned());
    assert!(run(&config, &mut |_| {}).await.unwrap().is_enrolled());
    let stranger = Server::start().await;
    let address = stranger.origin.socket_addrs(|| None).unwrap()[0];
    config.address = Some(address);
    let error = renew(&config).await.unwrap_err();
    assert_eq!(error.code(), "pledge.registrar-chain", "{error}");
    assert!(stranger.with(|sim| sim.registrars[0].paths.is_empty()));
    stranger.stop().await;
    server.stop().await;
}

/// Requirements: BRSKI-5.9.4-03
#[tokio::test]
async fn a_key_that_the_device_cannot_make_is_reported() {
    let server = Server::start().await;
    let idevid = server.manufacturer.device("SN-1");
    server.hook(|request, response| match request.what {
        What::CsrAttributes => {
            // ecPublicKey on brainpoolP256r1, which nobody here can make.
            let der = hex::decode("3018301606072a8648ce3d0201310b06092b2403030208010107");
            let der = der.unwrap();
            Response::new(200, "application/csrattrs", est::body::encode(&der))
        }
        _ => response,
    });
    let outcome = run(&server.config(&idevid), &mut |_| {}).await.unwrap();
    assert!(!outcome.is_enrolled());
    let last = outcome.steps.last().unwrap();
    assert_eq!(
        (last.what.as_str(), last.status),
        ("enrollstatus", Some(200))
    );
    server.stop().await;
}

/// A join proxy that knows nothing of what it carries, and cuts each connection after a while.
async fn circuit_proxy(
    to: std::net::SocketAddr,
    life: std::time::Duration,
) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut device, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut registrar = tokio::net::TcpStream::connect(to).await.unwrap();
                let carried = tokio::io::copy_bidirectional(&mut device, &mut registrar);
                let _ = tokio::time::timeout(life, carried).await;
            });
        }
    });
    address
}

/// Requirements: BRSKI-4.3-06, BRSKI-5.1-01, BRSKI-11.3-01
#[tokio::test]
async fn a_device_enrols_through_a_circuit_proxy() {
    let server = Server::start().await;
    let registrar = server.origin.socket_addrs(|| None).unwrap()[0];
    let proxy = circuit_proxy(registrar, std::time::Duration::from_secs(60)).await;
    let idevid = server.manufacturer.device("SN-1");
    let mut config = server.config(&idevid);
    config.registrars = vec![format!("https://{proxy}/").parse().unwrap()];
    let outcome = run(&config, &mut |_| {}).await.unwrap();
    let Verdict::Enrolled(enrolment) = &outcome.verdict else {
        panic!("{outcome:?}")
    };
    let registrar = server.with(|sim| sim.registrars[0].identity.certificate().cloned());
    assert_eq!(
        enrolment.registrar, registrar,
        "the registrar's own certificate, end to end"
    );
    // The same device from the same beginning: another nonce.
    let again = run(&config, &mut |_| {}).await.unwrap();
    assert_ne!(again.voucher_request, outcome.voucher_request);
    let nonces = server.with(|sim| sim.registrars[0].nonces.clone());
    assert_ne!(nonces[0].1, nonces[1].1);
    server.stop().await;
}

/// The connection does not live as long as the wait for a human; the request does.
///
/// Requirements: BRSKI-5-06, BRSKI-5.6-11
#[tokio::test]
async fn a_connection_that_is_lost_while_waiting_is_made_again() {
    for http in [HttpVersion::Http1, HttpVersion::Http2] {
        let server = Server::start().await;
        server.with(|sim| {
            sim.registrars[0].verdict = Policy::Ask;
            sim.registrars[0].policy.retry_after = Duration::SECOND;
        });
        let registrar = server.origin.socket_addrs(|| None).unwrap()[0];
        let proxy = circuit_proxy(registrar, std::time::Duration::from_millis(700)).await;
        let idevid = server.manufacturer.device("SN-1");
        let mut config = Config {
            http,
            ..server.config(&idevid)
        };
        config.registrars = vec![format!("https://{proxy}/").parse().unwrap()];
        config.time_max = Some(std::time::Duration::from_secs(60));
        let shared = std::sync::Arc::clone(&server.shared);
        let mut observer = |event: &Event| {
            if matches!(event, Event::Waiting { .. }) {
                shared.lock().unwrap().sim.registrars[0].verdict = Policy::Allow;
            }
        };
        let outcome = run(&config, &mut observer).await.unwrap();
        assert!(outcome.is_enrolled(), "{http}: {:?}", outcome.steps);
        let connections = outcome
            .steps
            .iter()
            .filter(|step| step.what == "connect" && step.ok);
        assert!(connections.count() >= 3, "{http}: {}", names(&outcome));
        assert_eq!(
            server.with(|sim| sim.registrars[0]
                .nonces
                .iter()
                .map(|one| &one.1)
                .collect::<std::collections::BTreeSet<_>>()
                .len()),
            1
        );
        server.stop().await;
    }
}
