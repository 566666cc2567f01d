//! The steps of the constrained procedure, against a simulated registrar.

use std::time::{Duration, Instant};

use ::coap::{Code, Response, format};
use brski::pledge::{Failure, ProximityForm};
use device::{
    brski::{Event, Outcome, Verdict},
    cli::summary,
    coaps::{Config, origin_of, run_with},
};
use pki::{Certificate, Coded, Csr, issue::Profile};

use super::fake::{Fake, Trouble};
use crate::world::{self, Ca, Manufacturer};

async fn enrol(fake: &Fake, config: &Config) -> Outcome {
    let mut observer = |_: &Event| {};
    let run = run_with(config, fake.transport(), &mut observer);
    run.await.unwrap()
}

const SHORT: &str = "connect, rv 204, vs 204, key, sen 204, connect, es 204";

/// Requirements: CBR-001, CBR-010, CBR-029, CBR-044, CBR-045, CBR-046, CBR-059, CBR-064, ESC-008, ESC-029
#[tokio::test]
async fn a_device_enrols_in_four_exchanges_when_the_pin_is_the_root() {
    for small in [false, true] {
        let fake = Fake::new();
        let idevid = fake.manufacturer.device("SN-1");
        let mut config = fake.config(&idevid);
        config.small = small;
        let outcome = enrol(&fake, &config).await;
        let Verdict::Enrolled(enrolment) = &outcome.verdict else {
            panic!("{outcome:?}");
        };
        assert_eq!(summary(&outcome.steps), SHORT);
        assert!(enrolment.reported);
        assert_eq!(enrolment.assertion.as_deref(), Some("proximity"));
        let log = fake.with(|shared| shared.sim.registrars[0].log.clone());
        assert_eq!(log, ["enrollstatus true over LDevID"]);
        fake.with(|shared| {
            assert!(shared.small.iter().all(|one| *one == small));
            for request in &shared.requests {
                assert!(!request.non_confirmable);
                assert_eq!(request.block_exponent, small.then_some(4));
            }
        });
    }
}

/// Requirements: CBR-060, CBR-061
#[tokio::test]
async fn the_request_bears_the_name_of_the_device() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let outcome = enrol(&fake, &fake.config(&idevid)).await;
    assert!(outcome.is_enrolled(), "{outcome:?}");
    let sent = fake.with(|shared| {
        let mut requests = shared.requests.iter();
        requests.find(|one| one.path[2] == "sen").cloned().unwrap()
    });
    let csr = Csr::from_der(&sent.payload).unwrap();
    assert_eq!(csr.subject_der(), idevid.chain[0].subject_der());
    assert!(idevid.chain[0].subject().contains("SN-1"));
    assert_ne!(csr.public_key(), idevid.chain[0].public_key());
}

/// Of two join proxies the first is silent.
///
/// Requirements: JPX-047
#[tokio::test]
async fn another_proxy_is_tried_where_one_is_silent() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let proxies = ["192.0.2.8:8485", "192.0.2.1:5684"].map(|one| one.parse().unwrap());
    let mut config = fake.config(&idevid);
    config.addresses = proxies
        .iter()
        .map(|one| (origin_of(*one).unwrap(), *one))
        .collect();
    config.device.registrars = config.addresses.iter().map(|one| one.0.clone()).collect();
    config.device.attempts_max = Some(3);
    fake.with(|shared| shared.dead.push(proxies[0]));
    let outcome = enrol(&fake, &config).await;
    let Verdict::Enrolled(enrolment) = &outcome.verdict else {
        panic!("{outcome:?}");
    };
    assert_eq!(enrolment.origin, config.addresses[1].0);
    assert!(!outcome.steps[0].ok);
}

/// What the deployed registrars answer that is not what was asked for: a voucher under the name of
/// plain COSE, one CA certificate, a bag.
#[tokio::test]
async fn a_tolerant_device_takes_answers_in_other_formats() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let mut config = fake.config(&idevid);
    config.device.tolerances.old_cose_media_type = true;
    config.device.proximity = ProximityForm::PublicKey;
    let root = fake.with(|shared| {
        shared.voucher_format = format::COSE_SIGN1;
        shared.sim.registrars[0].domain.certificate.clone()
    });
    let single = Response::content(Code::CONTENT, format::PKIX_CERT, root.der());
    let bag = pki::pkcs7::certs_only(&[root]).unwrap();
    let bag = Response::content(Code::CONTENT, format::PKCS7_CERTS_ONLY, bag);
    for answer in [single, bag] {
        fake.trouble("crts", Trouble::Says(answer));
        let outcome = enrol(&fake, &config).await;
        assert!(outcome.is_enrolled(), "{outcome:?}");
    }
}

/// The CA certificates that come lead nowhere near the pin, over which the registrar was believed.
///
/// Requirements: ESC-056
#[tokio::test]
async fn ca_certificates_of_another_domain_are_refused() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let stranger = Ca::root("Stranger").certificate;
    let says = |code, certificate: &Certificate| {
        Trouble::Says(Response::content(
            code,
            format::PKIX_CERT,
            certificate.der(),
        ))
    };
    fake.trouble("sen", says(Code::CHANGED, &stranger));
    fake.trouble("crts", says(Code::CONTENT, &stranger));
    let outcome = enrol(&fake, &fake.config(&idevid)).await;
    assert_eq!(
        outcome.code(),
        Some("pledge.ca-certificates"),
        "{outcome:?}"
    );
    let log = fake.with(|shared| shared.sim.registrars[0].log.clone());
    assert_eq!(log, ["enrollstatus false over IDevID"]);
}

/// A pin that is not the root which issues: the CA certificates are needed.
///
/// Requirements: CBR-062, CBR-107, CBR-108
#[tokio::test]
async fn ca_certificates_are_fetched_where_the_pin_does_not_do() {
    for proximity in [ProximityForm::PublicKey, ProximityForm::PublicKeySha256] {
        let fake = Fake::new();
        let idevid = fake.manufacturer.device("SN-1");
        for ca_format in [
            format::MULTIPART_CORE,
            format::PKIX_CERT,
            format::PKCS7_CERTS_ONLY,
        ] {
            let mut config = fake.config(&idevid);
            config.device.proximity = proximity;
            config.ca_format = ca_format;
            let outcome = enrol(&fake, &config).await;
            assert!(outcome.is_enrolled(), "{proximity:?}: {outcome:?}");
            assert_eq!(
                summary(&outcome.steps),
                "connect, rv 204, vs 204, crts 205, key, sen 204, connect, es 204"
            );
        }
    }
}

/// The voucher pins a root, and another CA issues: the certificate that came is judged again with
/// the CA certificates, and no second one is asked for.
///
/// Requirements: CBR-062, CBR-063
#[tokio::test]
async fn a_certificate_of_another_root_is_judged_by_the_fetched_ones() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let stranger = Ca::root("Stranger");
    let foreign = Response::content(Code::CHANGED, format::PKIX_CERT, stranger.certificate.der());
    fake.trouble("sen", Trouble::Says(foreign));
    let outcome = enrol(&fake, &fake.config(&idevid)).await;
    assert_eq!(outcome.code(), Some("pledge.certificate"), "{outcome:?}");
    assert_eq!(
        summary(&outcome.steps),
        "connect, rv 204, vs 204, key, sen 204, crts 205, es 204"
    );
    // The failure was reported over the association of the enrolment.
    let log = fake.with(|shared| shared.sim.registrars[0].log.clone());
    assert_eq!(log, ["enrollstatus false over IDevID"]);

    let fake = Fake::new();
    let foreign = Response::content(Code::CHANGED, format::PKIX_CERT, stranger.certificate.der());
    fake.trouble("sen", Trouble::Says(foreign));
    fake.trouble("crts", Trouble::Says(Response::new(Code::NOT_FOUND)));
    let idevid = fake.manufacturer.device("SN-1");
    let outcome = enrol(&fake, &fake.config(&idevid)).await;
    assert_eq!(outcome.code(), Some("pledge.refused"), "{outcome:?}");
    let log = fake.with(|shared| shared.sim.registrars[0].log.clone());
    assert_eq!(log, ["enrollstatus false over IDevID"]);
}

/// Requirements: CBR-057, ESC-041
#[tokio::test]
async fn later_is_waited_out_and_the_same_is_asked_again() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    let later = |seconds| {
        Trouble::Says(Response {
            max_age: seconds,
            ..Response::new(Code::SERVICE_UNAVAILABLE)
        })
    };
    fake.trouble("rv", later(Some(1)));
    fake.trouble("rv", later(Some(2)));
    fake.trouble("sen", later(Some(1)));
    let mut config = fake.config(&idevid);
    config.silence_max = Duration::from_millis(1500);
    let begun = Instant::now();
    let outcome = enrol(&fake, &config).await;
    assert!(outcome.is_enrolled(), "{outcome:?}");
    assert_eq!(
        summary(&outcome.steps),
        "connect, rv 503, wait, rv 503, wait, rv 204, vs 204, key, sen 503, wait, sen 204, \
         connect, es 204"
    );
    assert!(begun.elapsed() >= Duration::from_secs(4));
    fake.with(|shared| {
        let of = |name: &str| {
            let named = shared.requests.iter().filter(|one| one.path[2] == name);
            named.map(|one| one.payload.clone()).collect::<Vec<_>>()
        };
        let (vouchers, csrs) = (of("rv"), of("sen"));
        assert_eq!(vouchers.len(), 3);
        assert!(vouchers.iter().all(|one| *one == vouchers[0]));
        assert_eq!(csrs.len(), 2);
        assert_eq!(csrs[0], csrs[1]);
        // Behind a join proxy the way back is gone after a long silence, so there is a new
        // association after the second wait, and the last one is that of the new certificate.
        assert_eq!(shared.associations, 3);
    });
}

/// Requirements: CBR-028
#[tokio::test]
async fn a_registrar_that_is_no_registration_authority_is_refused() {
    let fake = Fake::new();
    let idevid = fake.manufacturer.device("SN-1");
    // One key, two certificates: the MASA sees the registrar's, the device the other.
    fake.with(|shared| {
        let registrar = &mut shared.sim.registrars[0];
        let key = world::key();
        let domain = &registrar.domain;
        let identity = |profile| {
            let builder = domain.builder(profile, "registrar", &key);
            let builder = builder.dns_name("registrar.example");
            domain.identity(&builder, std::sync::Arc::clone(&key))
        };
        shared.shown = Some(identity(Profile::TlsServer).chain);
        registrar.identity = identity(Profile::Registrar);
    });
    let mut config = fake.config(&idevid);
    config.device.proximity = ProximityForm::PublicKey;
    let outcome = enrol(&fake, &config).await;
    assert_eq!(
        outcome.code(),
        Some("pledge.registrar-chain"),
        "{outcome:?}"
    );
    let told = fake.with(|shared| shared.sim.registrars[0].log.clone());
    assert_eq!(told, ["voucher_status: pledge.registrar-chain"]);
}

/// Each attacker is refused for its own reason, and the device says with which code.
///
/// Requirements: CBR-139
#[tokio::test]
async fn attackers_are_refused_with_their_codes() {
    let fake = Fake::new();
    let genuine = fake.manufacturer.device("SN-1");
    let honest = enrol(&fake, &fake.config(&genuine)).await;
    assert!(honest.is_enrolled());

    let rogue = Manufacturer::new("Rogue").device("SN-1");
    let mut replay = fake.config(&genuine);
    replay.device.replay = honest.voucher_request;
    for (config, code) in [
        (fake.config(&rogue), "registrar.manufacturer-unknown"),
        (replay, "registrar.request-replayed"),
    ] {
        let outcome = enrol(&fake, &config).await;
        let Verdict::Refused(Failure::Refused { status, text, .. }) = &outcome.verdict else {
            panic!("{outcome:?}")
        };
        assert_eq!(*status, 403);
        assert!(text.starts_with(code), "{text}");
        let step = outcome.steps.last().unwrap();
        assert_eq!((step.what.as_str(), step.status), ("rv", Some(403)));
    }
}

/// A voucher that answers another request, one in another format, one that is none.
///
/// Requirements: CBR-048, CBR-139
#[tokio::test]
async fn a_voucher_that_is_not_the_answer_is_refused_and_reported() {
    let fake = Fake::new();
    let genuine = fake.manufacturer.device("SN-1");
    let honest = enrol(&fake, &fake.config(&genuine)).await;
    let Verdict::Enrolled(enrolment) = honest.verdict else {
        panic!("{honest:?}")
    };
    let old = enrolment.voucher;
    for (content_format, payload, code) in [
        (format::VOUCHER_COSE, old.clone(), "pledge.voucher-nonce"),
        (format::COSE_SIGN1, old.clone(), "pledge.voucher-media-type"),
        (format::CBOR, old.clone(), "pledge.voucher-media-type"),
        (format::VOUCHER_COSE, vec![0xd2], "pledge.voucher-malformed"),
        (format::VOUCHER_COSE, Vec::new(), "pledge.voucher-malformed"),
    ] {
        let answer = Response::content(Code::CHANGED, content_format, payload);
        fake.trouble("rv", Trouble::Says(answer));
        let before = fake.with(|shared| shared.sim.registrars[0].log.len());
        let outcome = enrol(&fake, &fake.config(&genuine)).await;
        assert_eq!(outcome.code(), Some(code), "{outcome:?}");
        let step = outcome.steps.last().unwrap();
        assert_eq!((step.what.as_str(), step.status), ("vs", Some(204)));
        let log = fake.with(|shared| shared.sim.registrars[0].log.clone());
        assert_eq!(log[before..], [format!("voucher_status: {code}")]);
    }
}

/// The association breaks before or after each answer; the device makes another one and asks
/// again, and nothing is issued twice.
#[tokio::test]
async fn broken_associations_cost_time_and_nothing_else() {
    let mut runs = Vec::new();
    for name in ["rv", "vs", "sen", "es"] {
        for trouble in [Trouble::RequestLost, Trouble::AnswerLost] {
            runs.push(async move {
                let fake = Fake::new();
                let idevid = fake.manufacturer.device("SN-1");
                fake.trouble(name, trouble.clone());
                let outcome = enrol(&fake, &fake.config(&idevid)).await;
                assert!(outcome.is_enrolled(), "{name} {trouble:?}: {outcome:?}");
                assert_eq!(granted(&fake), 1, "{name} {trouble:?}");
                let names = fake.names();
                let times = names.iter().filter(|one| *one == name).count();
                assert_eq!(times, 2, "{name} {trouble:?}: {names:?}");
            });
        }
    }
    futures::future::join_all(runs).await;
}

fn granted(fake: &Fake) -> usize {
    fake.with(|shared| {
        let log = shared.sim.masa.log.iter();
        log.filter(|entry| *entry == "granted").count()
    })
}

/// Power goes before each step; the state on disk goes on.
#[tokio::test]
async fn power_goes_before_each_step_and_the_next_run_goes_on() {
    let fake = Fake::new();
    let folder = tempfile::tempdir().unwrap();
    let idevid = fake.manufacturer.device("SN-1");
    let mut config = fake.config(&idevid);
    config.device.state_folder = Some(folder.path().to_owned());
    let mut cuts = 0;
    let enrolment = loop {
        config.device.power_cut_before = Some(cuts % 4 + 1);
        cuts += 1;
        assert!(cuts < 60, "no end");
        match enrol(&fake, &config).await.verdict {
            Verdict::Enrolled(enrolment) => break enrolment,
            Verdict::Unfinished { .. } => {}
            Verdict::Refused(failure) => panic!("after {cuts} cuts: {failure} {}", failure.code()),
        }
    };
    assert!(cuts > 4, "{cuts}");
    assert!(enrolment.reported);
    assert_eq!(
        granted(&fake),
        1,
        "one voucher, however often it was asked for"
    );
    // CBR-163: File extension of stored COSE vouchers is .vch.
    assert!(folder.path().join("voucher.vch").exists());
    assert!(folder.path().join("ldevid.pem").exists());
}
