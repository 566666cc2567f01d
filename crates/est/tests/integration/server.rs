//! What a server answers.

use std::time::Duration;

use est::Operation;
use est::body::{self, BodyTolerances};
use est::csrattrs::{Demand, KeyRequirement, oids};
use est::server::{
    Answer, ChannelBinding, Policy, Request, Standing, Step, Transport, challenge_password, handle,
};
use pki::{Certificate, Coded as _, Csr, CsrBuilder, Signer};
use time::macros::datetime;
use x509_cert::name::Name;

use crate::support::{self, Ca};

const BINDING: [u8; 32] = [0x42; 32];

fn enroll(operation: Operation, body: &[u8]) -> Request<'_> {
    Request {
        method: "POST",
        operation,
        content_type: Some("application/pkcs10"),
        body,
        transport: Transport::Https,
        channel_binding: Some(&BINDING),
    }
}

fn csr(key: &dyn Signer, names: &[&str], password: Option<String>) -> Csr {
    let mut builder = CsrBuilder::new("CN=device".parse::<Name>().unwrap());
    if !names.is_empty() {
        builder = builder.dns_names(names).unwrap();
    }
    if let Some(password) = password {
        builder = builder.challenge_password(password);
    }
    builder.sign(key).unwrap()
}

fn text(csr: &Csr) -> Vec<u8> {
    body::encode(csr.der())
}

struct Fixture {
    ca: Ca,
    key: std::sync::Arc<pki::SoftwareKey>,
    current: Certificate,
    policy: Policy,
}

fn fixture() -> Fixture {
    let ca = Ca::root("domain", datetime!(2036-01-01 0:00 UTC));
    let key = support::key();
    let current = ca.issue("device", &["a.example", "b.example"], key.as_ref());
    let policy = Policy {
        ca_certificates: vec![ca.certificate.clone()],
        server_keygen: true,
        ..Policy::default()
    };
    Fixture {
        ca,
        key,
        current,
        policy,
    }
}

fn refusal(step: Step) -> (u16, &'static str) {
    match step {
        Step::Refuse(refusal) => (refusal.status(), refusal.code()),
        other => panic!("not refused: {other:?}"),
    }
}

/// Requirements: EST-4.1.2-01, EST-4.1.3-01, EST-4.1.3-03, EST8951-3-01
#[test]
fn ca_certificates_are_for_anybody() {
    let Fixture { ca, policy, .. } = fixture();
    let request = Request {
        method: "GET",
        operation: Operation::CaCerts,
        content_type: None,
        body: b"",
        transport: Transport::Https,
        channel_binding: None,
    };
    let nobody = Standing::Anonymous {
        credentials_offered: false,
    };
    let Step::Reply(answer) = handle(&request, &nobody, &policy).unwrap() else {
        panic!()
    };
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.content_type.as_deref(),
        Some("application/pkcs7-mime")
    );
    let (der, _) = body::decode(&answer.body, 1 << 20, &BodyTolerances::default()).unwrap();
    assert_eq!(
        pki::pkcs7::parse_certs_only(&der).unwrap(),
        [ca.certificate]
    );
}

/// Requirements: EST-4.5-02, EST-4.5.2-01, EST-4.5.2-05, EST8951-4-01
#[test]
fn csr_attributes_are_200_or_204() {
    let Fixture { mut policy, .. } = fixture();
    let request = Request {
        method: "GET",
        operation: Operation::CsrAttrs,
        content_type: None,
        body: b"",
        transport: Transport::Https,
        channel_binding: None,
    };
    let nobody = Standing::Anonymous {
        credentials_offered: false,
    };
    let Step::Reply(answer) = handle(&request, &nobody, &policy).unwrap() else {
        panic!()
    };
    assert_eq!(
        (answer.status, answer.content_type, answer.body.len()),
        (204, None, 0)
    );

    policy.channel_binding = ChannelBinding::Require;
    let Step::Reply(answer) = handle(&request, &nobody, &policy).unwrap() else {
        panic!()
    };
    assert_eq!(answer.status, 200);
    assert_eq!(answer.content_type.as_deref(), Some("application/csrattrs"));
    // SEQUENCE { OID challengePassword }, with no PEM line around it.
    assert_eq!(answer.body, b"MAsGCSqGSIb3DQEJBw==");
}

/// Each refusal with its status and code, in the order in which they are checked.
/// Requirements: EST-3.2.2-02, EST-3.5-02, EST-4.2-02, EST-4.2.1-01, EST-4.2.1-02, EST-4.2.2-02,
/// EST-4.2.3-04, EST-4.3-01, EST-4.4.1-02
#[test]
fn refusals_have_their_status_and_code() {
    let Fixture {
        ca,
        key,
        current,
        policy,
    } = fixture();
    let good = text(&csr(key.as_ref(), &[], None));
    let named = text(&csr(key.as_ref(), &["b.example", "a.example"], None));
    let mut flipped = csr(key.as_ref(), &[], None).der().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let flipped = body::encode(&flipped);
    let bound = text(&csr(key.as_ref(), &[], Some(challenge_password(&BINDING))));
    let unbound = text(&csr(key.as_ref(), &[], Some("tls-unique?".to_owned())));
    let with = |oid: der::asn1::ObjectIdentifier| {
        let attribute = pki::csr::CsrAttribute {
            id: oid,
            values: vec![vec![4, 1, 7]],
        };
        let builder = CsrBuilder::new("CN=device".parse::<Name>().unwrap())
            .dns_names(&["a.example", "b.example"])
            .unwrap()
            .attribute(attribute);
        text(&builder.sign(key.as_ref()).unwrap())
    };
    let change = with(oids::CHANGE_SUBJECT_NAME);
    let symmetric = with(oids::DECRYPT_KEY_IDENTIFIER);
    let asymmetric = with(oids::ASYMMETRIC_DECRYPT_KEY_IDENTIFIER);
    let renamed = ca.issue("someone else", &["a.example", "b.example"], key.as_ref());
    let huge = vec![b'A'; policy.body_size_max_bytes + 1];
    let pem = csr(key.as_ref(), &[], None).to_pem().into_bytes();
    let der = csr(key.as_ref(), &[], None).der().to_vec();

    let nobody = Standing::Anonymous {
        credentials_offered: false,
    };
    let asked = Standing::Anonymous {
        credentials_offered: true,
    };
    let new = Standing::MayEnrol;
    let member = Standing::Member {
        current,
        may_enrol: false,
    };
    let other = Standing::Member {
        current: renamed,
        may_enrol: false,
    };
    let barred = Standing::Refused {
        code: "registrar.not-bootstrapped",
        reason: "no".to_owned(),
    };
    let p384 = Policy {
        demand: Demand {
            key: Some(KeyRequirement::Ec {
                curve: Some(oids::SECP384R1),
            }),
            ..Demand::default()
        },
        ..policy.clone()
    };
    let require = Policy {
        channel_binding: ChannelBinding::Require,
        ..policy.clone()
    };
    let no_keygen = Policy {
        server_keygen: false,
        ..policy.clone()
    };

    use Operation::{CaCerts, FullCmc, ServerKeyGen, SimpleEnroll, SimpleReenroll};
    let cases = [
        (
            "POST to cacerts",
            enroll(CaCerts, b""),
            &nobody,
            &policy,
            (405, "est.method-not-allowed"),
        ),
        (
            "GET simpleenroll",
            Request {
                method: "GET",
                ..enroll(SimpleEnroll, b"")
            },
            &new,
            &policy,
            (405, "est.method-not-allowed"),
        ),
        (
            "full CMC",
            enroll(FullCmc, &good),
            &new,
            &policy,
            (501, "est.full-cmc-unsupported"),
        ),
        (
            "no keygen",
            enroll(ServerKeyGen, &good),
            &new,
            &no_keygen,
            (404, "est.server-keygen-disabled"),
        ),
        (
            "nobody",
            enroll(SimpleEnroll, &good),
            &nobody,
            &policy,
            (403, "est.client-certificate-required"),
        ),
        (
            "nobody, Basic",
            enroll(SimpleEnroll, &good),
            &asked,
            &policy,
            (401, "est.credentials-required"),
        ),
        (
            "nobody renews",
            enroll(SimpleReenroll, &good),
            &nobody,
            &policy,
            (403, "est.client-certificate-required"),
        ),
        (
            "nobody, keygen",
            enroll(ServerKeyGen, &good),
            &nobody,
            &policy,
            (403, "est.client-certificate-required"),
        ),
        (
            "barred",
            enroll(SimpleEnroll, &good),
            &barred,
            &policy,
            (403, "registrar.not-bootstrapped"),
        ),
        (
            "renews nothing",
            enroll(SimpleReenroll, &good),
            &new,
            &policy,
            (403, "est.reenrol-certificate-missing"),
        ),
        (
            "enrols twice",
            enroll(SimpleEnroll, &good),
            &member,
            &policy,
            (403, "est.already-enrolled"),
        ),
        (
            "no media type",
            Request {
                content_type: None,
                ..enroll(SimpleEnroll, &good)
            },
            &new,
            &policy,
            (415, "est.media-type-unsupported"),
        ),
        (
            "other media type",
            Request {
                content_type: Some("application/pkcs7-mime"),
                ..enroll(SimpleEnroll, &good)
            },
            &new,
            &policy,
            (415, "est.media-type-unsupported"),
        ),
        (
            "empty",
            enroll(SimpleEnroll, b""),
            &new,
            &policy,
            (400, "est.body-empty"),
        ),
        (
            "too large",
            enroll(SimpleEnroll, &huge),
            &new,
            &policy,
            (413, "est.body-too-large"),
        ),
        (
            "not base64",
            enroll(SimpleEnroll, b"{}"),
            &new,
            &policy,
            (400, "est.body-not-base64"),
        ),
        (
            "PEM",
            enroll(SimpleEnroll, &pem),
            &new,
            &policy,
            (400, "est.body-pem"),
        ),
        (
            "plain DER",
            enroll(SimpleEnroll, &der),
            &new,
            &policy,
            (400, "est.body-binary-der"),
        ),
        (
            "cut off",
            enroll(SimpleEnroll, &good[..good.len() - 40]),
            &new,
            &policy,
            (400, "csr.malformed"),
        ),
        (
            "not a request",
            enroll(SimpleEnroll, b"MAMCAQE="),
            &new,
            &policy,
            (400, "csr.malformed"),
        ),
        (
            "a key of a size that no profile allows",
            enroll(
                SimpleEnroll,
                include_bytes!("../data/keys/rsa-8192.csr.b64"),
            ),
            &new,
            &policy,
            (400, "pki.key-unsupported"),
        ),
        (
            "flipped signature",
            enroll(SimpleEnroll, &flipped),
            &new,
            &policy,
            (400, "csr.proof-of-possession"),
        ),
        (
            "wrong binding",
            enroll(SimpleEnroll, &unbound),
            &new,
            &policy,
            (403, "est.channel-binding-mismatch"),
        ),
        (
            "binding of another connection",
            Request {
                channel_binding: Some(&[0; 32]),
                ..enroll(SimpleEnroll, &bound)
            },
            &new,
            &policy,
            (403, "est.channel-binding-mismatch"),
        ),
        (
            "nothing to bind to",
            Request {
                channel_binding: None,
                ..enroll(SimpleEnroll, &bound)
            },
            &new,
            &policy,
            (400, "est.channel-binding-unavailable"),
        ),
        (
            "binding missing",
            enroll(SimpleEnroll, &good),
            &new,
            &require,
            (400, "est.channel-binding-missing"),
        ),
        (
            "other key",
            enroll(SimpleEnroll, &good),
            &new,
            &p384,
            (400, "est.csr-key-kind"),
        ),
        (
            "other subject",
            enroll(SimpleReenroll, &named),
            &other,
            &policy,
            (400, "est.reenrol-subject-changed"),
        ),
        (
            "other names",
            enroll(SimpleReenroll, &good),
            &member,
            &policy,
            (400, "est.reenrol-san-changed"),
        ),
        (
            "wants another subject",
            enroll(SimpleReenroll, &change),
            &member,
            &policy,
            (403, "est.change-subject-name-refused"),
        ),
        (
            "unknown secret key",
            enroll(ServerKeyGen, &symmetric),
            &new,
            &policy,
            (400, "est.decrypt-key-unknown"),
        ),
        (
            "unknown public key",
            enroll(ServerKeyGen, &asymmetric),
            &new,
            &policy,
            (400, "est.decrypt-key-unknown"),
        ),
        (
            "keygen, other names",
            enroll(ServerKeyGen, &good),
            &member,
            &policy,
            (400, "est.reenrol-san-changed"),
        ),
    ];
    for (case, request, standing, policy, expected) in cases {
        let found = refusal(handle(&request, standing, policy).unwrap());
        assert_eq!(found, expected, "{case}");
    }
}

/// Requirements: EST-4.2.1-02, EST-3.5-02, EST-3.5-04
#[test]
fn a_proper_request_is_issued() {
    let Fixture { key, policy, .. } = fixture();
    let require = Policy {
        channel_binding: ChannelBinding::Require,
        ..policy.clone()
    };
    let plain = csr(key.as_ref(), &[], None);
    let bound = csr(key.as_ref(), &[], Some(challenge_password(&BINDING)));
    for (csr, policy, expect_bound) in [
        (&plain, &policy, false),
        (&bound, &policy, true),
        (&bound, &require, true),
    ] {
        let body = text(csr);
        let step = handle(
            &enroll(Operation::SimpleEnroll, &body),
            &Standing::MayEnrol,
            policy,
        );
        let Step::Issue(enrolment) = step.unwrap() else {
            panic!()
        };
        assert_eq!(enrolment.csr.der(), csr.der());
        assert_eq!(enrolment.channel_bound, expect_bound);
        assert!(enrolment.oddities.is_empty());
    }
}

#[test]
fn tolerances_are_named_when_they_are_used() {
    let Fixture {
        key, mut policy, ..
    } = fixture();
    policy.tolerances = BodyTolerances::all();
    policy.channel_binding = ChannelBinding::Ignore;
    let csr = csr(key.as_ref(), &[], Some("shared secret".to_owned()));
    for (body, names) in [
        (
            csr.der().to_vec(),
            &["est-body-binary-der", "est-challenge-password-ignored"][..],
        ),
        (
            csr.to_pem().into_bytes(),
            &["est-body-pem", "est-challenge-password-ignored"],
        ),
        (text(&csr), &["est-challenge-password-ignored"]),
    ] {
        let step = handle(
            &enroll(Operation::SimpleEnroll, &body),
            &Standing::MayEnrol,
            &policy,
        );
        let Step::Issue(enrolment) = step.unwrap() else {
            panic!()
        };
        assert_eq!(enrolment.oddities, names);
        assert!(!enrolment.channel_bound);
    }
}

/// Requirements: EST-4.2.2-02, EST-4.2.2-03
#[test]
fn the_same_key_renews_and_another_rekeys() {
    let Fixture {
        key,
        current,
        policy,
        ..
    } = fixture();
    let member = Standing::Member {
        current: current.clone(),
        may_enrol: false,
    };
    let other = support::key();
    for (key, rekeyed) in [(&key, false), (&other, true)] {
        // The order of the names means nothing.
        let body = text(&csr(key.as_ref(), &["b.example", "a.example"], None));
        let step = handle(&enroll(Operation::SimpleReenroll, &body), &member, &policy).unwrap();
        let Step::Reenrol {
            current: old,
            rekey,
            ..
        } = step
        else {
            panic!()
        };
        assert_eq!(old, current);
        assert_eq!(rekey, rekeyed);
    }
}

/// Requirements: EST-4.4.1-01
#[test]
fn key_generation_ignores_key_and_signature() {
    let Fixture {
        key, mut policy, ..
    } = fixture();
    policy.demand.key = Some(KeyRequirement::Ec {
        curve: Some(oids::SECP384R1),
    });
    let mut der = csr(key.as_ref(), &[], None).der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    let body = body::encode(&der);
    let request = enroll(Operation::ServerKeyGen, &body);
    let step = handle(&request, &Standing::MayEnrol, &policy).unwrap();
    assert!(matches!(step, Step::GenerateKey { current: None, .. }));
    // RFC 7030 appendix A.4 has a request with a challengePassword that nobody can verify now.
    policy.channel_binding = ChannelBinding::Ignore;
    let published = include_bytes!("../data/rfc7030/A4-serverkeygen-csr.b64");
    let request = enroll(Operation::ServerKeyGen, published);
    let step = handle(&request, &Standing::MayEnrol, &policy).unwrap();
    assert!(matches!(step, Step::GenerateKey { .. }));
}

/// Requirements: EST-4.2.3-05
#[test]
fn a_proper_request_waits_for_a_human() {
    let Fixture { key, policy, .. } = fixture();
    let waiting = Standing::Pending {
        retry_after: Duration::from_secs(90),
    };
    let body = text(&csr(key.as_ref(), &[], None));
    let step = handle(&enroll(Operation::SimpleEnroll, &body), &waiting, &policy).unwrap();
    let Step::Defer { retry_after, .. } = step else {
        panic!()
    };
    let answer = Answer::accepted(retry_after);
    assert_eq!((answer.status, answer.retry_after_seconds), (202, Some(90)));
    // An improper one does not.
    let step = handle(&enroll(Operation::SimpleEnroll, b"AAAA"), &waiting, &policy).unwrap();
    assert_eq!(refusal(step).0, 400);
}

/// Requirements: EST-4.2.3-01, EST-4.2.3-02, EST-4.2.3-04, EST-4.4.2-01, EST-4.4.2-02,
/// EST8951-5-01
#[test]
fn answers_are_in_the_form_of_the_standard() {
    let Fixture { key, current, .. } = fixture();
    let answer = Answer::certificate(&current).unwrap();
    assert_eq!(
        answer.content_type.as_deref(),
        Some("application/pkcs7-mime; smime-type=certs-only")
    );
    let (der, _) = body::decode(&answer.body, 1 << 20, &BodyTolerances::default()).unwrap();
    assert_eq!(
        pki::pkcs7::parse_certs_only(&der).unwrap(),
        [current.clone()]
    );

    let answer = Answer::key_and_certificate(&key.to_pkcs8_der().unwrap(), &current).unwrap();
    let parts =
        est::multipart::read(answer.content_type.as_deref().unwrap(), &answer.body).unwrap();
    assert_eq!(parts.private_key_pkcs8, *key.to_pkcs8_der().unwrap());

    let answer = Answer::refused(&est::server::Refusal::CredentialsRequired);
    assert_eq!(
        answer.content_type.as_deref(),
        Some("text/plain; charset=utf-8")
    );
    assert!(answer.www_authenticate.is_some());
    assert!(answer.body.starts_with(b"est.credentials-required: "));
}

/// Requirements: EST-4.2.1-02
#[test]
fn the_published_request_is_read() {
    let Fixture { policy, .. } = fixture();
    let policy = Policy {
        channel_binding: ChannelBinding::Ignore,
        ..policy
    };
    let body = include_bytes!("../data/rfc7030/A3-simpleenroll-csr.b64");
    let step = handle(
        &enroll(Operation::SimpleEnroll, body),
        &Standing::MayEnrol,
        &policy,
    );
    // It is signed with SHA-1, which is refused by name; the request itself is read.
    assert_eq!(refusal(step.unwrap()), (400, "pki.algorithm-legacy"));
}
