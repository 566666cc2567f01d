//! The audit log: what the MASA shows, and what the registrar makes of it.

use artifacts::{Assertion, AuditLog, DomainId, Envelope, Tolerances, Truncation};
use brski::{
    DomainKey,
    masa::{self, AuditEvent, AuditTruncation, audit_log},
    registrar::{
        AuditFinding, AuditPolicy, Exchange, MasaAnswer, Pinned, Refusal, Stage, audit_answered,
        audit_call, may_enrol,
    },
};
use pki::Coded;
use time::Duration;

use crate::{
    masa_refusals::Scene,
    world::{Ca, NOW},
};

fn event(domain: &Ca, days: i64, nonce: Option<&str>) -> AuditEvent {
    AuditEvent {
        date: NOW + Duration::days(days),
        domain_id: DomainId::of(&domain.certificate).as_bytes().to_vec(),
        domain: DomainKey::of(&domain.certificate),
        nonce: nonce.map(str::to_owned),
        assertion: Assertion::Proximity,
    }
}

/// Requirements: BRSKI-5.8-03, BRSKI-5.8-04, BRSKI-5.8-10, BRSKI-5.8.2-01
#[test]
fn only_past_owners_see_the_log() {
    let mut scene = Scene::new();
    let body = scene.body();
    let inbound = masa::Inbound {
        body: &body,
        content_type: Some(Envelope::Cms.media_type()),
        accept: Some("application/json"),
    };
    // Never an owner so far.
    assert_eq!(scene.masa.audit(inbound, NOW).status, 404);
    assert_eq!(scene.send().status, 200);
    // The same bytes, also long after they were made.
    let later = NOW + Duration::days(30);
    let response = scene.masa.audit(inbound, later);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let (log, _) = AuditLog::from_json(&response.body, &Tolerances::strict()).unwrap();
    assert_eq!(log.events.len(), 1);
    assert_eq!(
        log.events[0].domain_id,
        DomainId::of(&scene.domain.certificate)
    );
    // One octet changed: the signature is checked here too.
    let mut changed = body.clone();
    *changed.last_mut().unwrap() ^= 1;
    let tampered = masa::Inbound {
        body: &changed,
        ..inbound
    };
    assert_eq!(scene.masa.audit(tampered, NOW).status, 403);
    // Another domain that copied the name is nobody.
    let mut rival = Scene {
        registrar: Ca::root("Domain").registrar("registrar"),
        ..scene
    };
    let own = rival.registrar.certificate().cloned();
    rival.inner().proximity_registrar_cert = own;
    let body = rival.body();
    assert_eq!(
        rival
            .masa
            .audit(
                masa::Inbound {
                    body: &body,
                    ..inbound
                },
                NOW
            )
            .status,
        404
    );
    // Nor does anybody have a log of a device that does not exist.
    rival.masa.events.clear();
    assert_eq!(
        rival
            .masa
            .audit(
                masa::Inbound {
                    body: &body,
                    ..inbound
                },
                NOW
            )
            .status,
        404
    );
}

/// Requirements: BRSKI-5.8.1-01, BRSKI-5.8.1-02, BRSKI-5.8.1-03, BRSKI-5.8.1-05, BRSKI-5.8.1-06,
/// BRSKI-5.8.1-07
#[test]
fn the_log_is_abridged_by_the_rules_and_says_so() {
    let (first, second) = (Ca::root("First"), Ca::root("Second"));
    let mut events = vec![event(&first, 0, Some("n0")), event(&first, 1, None)];
    events.extend((2..2000).map(|day| event(&second, day, Some("again"))));
    events.push(event(&first, 2000, Some("n1")));
    let log = audit_log(&events, AuditTruncation::default());
    let nonces: Vec<_> = log
        .events
        .iter()
        .map(|event| event.nonce.as_deref())
        .collect();
    assert_eq!(
        nonces,
        [Some("n1"), Some("again"), None],
        "the newest first"
    );
    assert_eq!(log.events[0].truncated, Some(1));
    assert_eq!(log.events[1].truncated, Some(1024), "counted up to 1024");
    assert_eq!(log.events[2].truncated, None);
    let expect = Truncation {
        nonced_duplicates: 1024,
        nonceless_duplicates: 0,
        arbitrary: 0,
    };
    assert_eq!(log.truncation, expect);
    // Nothing is left out unless it is said.
    let whole = audit_log(
        &events[..5],
        AuditTruncation {
            collapse: false,
            events_max: 100,
        },
    );
    assert_eq!(
        (whole.events.len(), whole.truncation),
        (5, Truncation::default())
    );
    let cut = audit_log(
        &events[..5],
        AuditTruncation {
            collapse: false,
            events_max: 2,
        },
    );
    assert_eq!((cut.events.len(), cut.truncation.arbitrary), (2, 3));
    let text = String::from_utf8(log.to_json()).unwrap();
    assert!(text.contains("\"nonce\":null"), "{text}");
}

fn exchange(own: &Ca) -> Exchange {
    Exchange {
        device: masa::DeviceKey {
            issuer_key_id: None,
            serial: "SN-1".to_owned(),
        },
        idevid_key: String::new(),
        vendor: "acme".to_owned(),
        request_digest: String::new(),
        nonce: Some("own".to_owned()),
        envelope: Envelope::Cms,
        accept: None,
        begun_at: NOW,
        registrar_request: Some(b"the request".to_vec()),
        cose_name: brski::media::CoseName::Current,
        masa: Some("https://masa.example/.well-known/brski".to_owned()),
        voucher: None,
        voucher_envelope: None,
        preloaded: false,
        pinned: Some(Pinned {
            domain_id: DomainId::of(&own.certificate).as_bytes().to_vec(),
            key: DomainKey::of(&own.certificate),
        }),
        stage: Stage::VoucherAccepted,
    }
}

/// Requirements: BRSKI-5.8-01
#[test]
fn the_log_is_asked_for_with_the_bytes_of_the_voucher_request() {
    let own = Ca::root("Own");
    let call = audit_call(&exchange(&own)).unwrap();
    assert_eq!(
        call.url.as_str(),
        "https://masa.example/.well-known/brski/requestauditlog"
    );
    assert_eq!(call.body, b"the request");
    assert_eq!(call.content_type, "application/voucher-cms+json");
    let mut nothing_sent = exchange(&own);
    nothing_sent.registrar_request = None;
    assert_eq!(
        audit_call(&nothing_sent).unwrap_err(),
        Refusal::ExchangeUnknown
    );
}

/// Requirements: BRSKI-5-09, BRSKI-5.8.1-08, BRSKI-5.8.2-02, BRSKI-5.8.3-01, BRSKI-5.8.3-02,
/// BRSKI-5.8.3-03, BRSKI-5.8.3-04, BRSKI-7.3-04
#[test]
fn the_history_is_held_against_policy() {
    let (own, other) = (Ca::root("Own"), Ca::root("Other"));
    let ours = || event(&own, 0, Some("own"));
    let log_of = |events: &[AuditEvent]| audit_log(events, AuditTruncation::default());
    type Adjust = fn(&mut AuditPolicy, &Ca);
    let rows: Vec<(&str, AuditLog, Adjust, bool)> = vec![
        ("only our own", log_of(&[ours()]), |_, _| {}, true),
        (
            "our own event is missing",
            log_of(&[event(&own, -1, Some("old"))]),
            |_, _| {},
            false,
        ),
        ("nothing at all", log_of(&[]), |_, _| {}, false),
        (
            "unknown domain",
            log_of(&[event(&other, -9, Some("x")), ours()]),
            |_, _| {},
            false,
        ),
        (
            "known domain",
            log_of(&[event(&other, -9, Some("x")), ours()]),
            |policy, other| {
                let id = DomainId::of(&other.certificate);
                policy.known_domains = vec![id.as_bytes().to_vec()];
            },
            true,
        ),
        (
            "unknown domains are let pass",
            log_of(&[event(&other, -9, Some("x")), ours()]),
            |policy, _| policy.unknown_domains = true,
            true,
        ),
        (
            "before the day of purchase",
            log_of(&[event(&other, -9, Some("x")), ours()]),
            |policy, _| policy.since = Some(NOW - Duration::days(1)),
            true,
        ),
        (
            "nonceless",
            log_of(&[event(&own, -9, None), ours()]),
            |_, _| {},
            false,
        ),
        (
            "nonceless is let pass",
            log_of(&[event(&own, -9, None), ours()]),
            |policy, _| policy.nonceless = true,
            true,
        ),
        (
            "ignored",
            log_of(&[event(&other, -9, None)]),
            |policy, _| policy.ignore = true,
            true,
        ),
        (
            "arbitrary truncation",
            AuditLog::new(
                log_of(&[ours()]).events,
                Truncation {
                    arbitrary: 3,
                    ..Truncation::default()
                },
            ),
            |_, _| {},
            false,
        ),
        (
            "arbitrary truncation is let pass",
            AuditLog::new(
                log_of(&[ours()]).events,
                Truncation {
                    arbitrary: 3,
                    ..Truncation::default()
                },
            ),
            |policy, _| policy.arbitrary_truncation = true,
            true,
        ),
        (
            "a later version",
            AuditLog {
                version: 2,
                ..log_of(&[ours()])
            },
            |_, _| {},
            true,
        ),
    ];
    for (name, log, adjust, good) in rows {
        let mut policy = AuditPolicy::default();
        adjust(&mut policy, &other);
        let body = log.to_json();
        let answer = MasaAnswer::Http {
            status: 200,
            content_type: Some("application/json"),
            body: &body,
        };
        let exchange = exchange(&own);
        let verdict = audit_answered(&exchange, &answer, &policy).unwrap();
        assert_eq!(verdict.violation.is_none(), good, "{name}: {verdict:?}");
        let enrol = may_enrol(Some(&exchange), Some(&verdict), &policy);
        assert_eq!(enrol.is_ok(), good, "{name}");
        if let Err(refusal) = enrol {
            assert_eq!(
                (refusal.code(), refusal.http_status()),
                ("registrar.audit-violation", 406)
            );
        }
        if log.version == 2 {
            assert_eq!(
                verdict.findings,
                [AuditFinding::NewerVersion { version: 2 }]
            );
        }
    }
}

/// Requirements: BRSKI-5.8.1-09, BRSKI-5.8.1-10, BRSKI-7.3-01
#[test]
fn an_answer_that_is_no_log_is_for_policy_to_judge() {
    let own = Ca::root("Own");
    let exchange = exchange(&own);
    let http = |status, body| MasaAnswer::Http {
        status,
        content_type: Some("application/json"),
        body,
    };
    for answer in [
        http(404, b"".as_slice()),
        http(200, b"{\"new\":true}"),
        http(200, b"nonsense"),
        http(500, b""),
        MasaAnswer::Unreachable("no route"),
    ] {
        let mut policy = AuditPolicy::default();
        let refusal = audit_answered(&exchange, &answer, &policy).unwrap_err();
        let expect = ("registrar.audit-unavailable", 503);
        assert_eq!(
            (refusal.code(), refusal.http_status()),
            expect,
            "{answer:?}"
        );
        policy.required = false;
        let verdict = audit_answered(&exchange, &answer, &policy).unwrap();
        assert_eq!(verdict.findings, [AuditFinding::NoLog]);
        assert_eq!(may_enrol(Some(&exchange), None, &policy), Ok(()));
    }
    // Figure 18 of RFC 8995 has numbers as strings; that takes a named tolerance.
    let figure = br#"{"version":"1","events":[{"date":"2026-06-01T12:00:00Z","domainID":"AAEC",
        "nonce":"x","assertion":"proximity","truncated":"0"}]}"#;
    let mut policy = AuditPolicy::default();
    assert!(audit_answered(&exchange, &http(200, figure), &policy).is_err());
    policy.tolerances = Tolerances::from_names(["wrong-json-types"]).unwrap();
    assert!(audit_answered(&exchange, &http(200, figure), &policy).is_ok());
}

/// Requirements: BRSKI-5.8-02, BRSKI-11-01, BRSKI-7.2-02
#[test]
fn nobody_enrols_without_a_voucher_and_a_checked_log() {
    let own = Ca::root("Own");
    let policy = AuditPolicy::default();
    let with = |stage| Exchange {
        stage,
        ..exchange(&own)
    };
    let refused = Stage::VoucherRefused { reason: None };
    for exchange in [
        None,
        Some(with(Stage::Waiting)),
        Some(with(Stage::AskedMasa)),
        Some(with(refused)),
    ] {
        let refusal = may_enrol(exchange.as_ref(), None, &policy).unwrap_err();
        assert_eq!(
            (refusal.code(), refusal.http_status()),
            ("registrar.not-bootstrapped", 403)
        );
    }
    // The voucher went out, and nobody looked at the log yet.
    let refusal = may_enrol(Some(&with(Stage::VoucherSent)), None, &policy).unwrap_err();
    assert_eq!(refusal.code(), "registrar.audit-unavailable");
}
