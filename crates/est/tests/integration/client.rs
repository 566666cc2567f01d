//! What a client believes.

use std::time::Duration;

use est::body::{self, BodyTolerances};
use est::client::{
    self, CaCertificates, Facts, HttpAnswer, Outcome, RETRY_AFTER_DEFAULT, RETRY_AFTER_MAX,
    Redirect,
};
use est::csrattrs::Requirements;
use pki::{Certificate, Coded as _, Signer as _};
use time::macros::datetime;

use crate::support::{self, Ca, NOW};

const STRICT: BodyTolerances = BodyTolerances {
    binary_der: false,
    pem: false,
};

fn bag(certificates: &[Certificate]) -> Vec<u8> {
    body::encode(&pki::pkcs7::certs_only(certificates).unwrap())
}

fn ok<'a>(content_type: &'a str, body: &'a [u8]) -> HttpAnswer<'a> {
    HttpAnswer {
        status: 200,
        content_type: Some(content_type),
        body,
        ..HttpAnswer::default()
    }
}

/// Requirements: EST-3.1-02, EST-4.1.3-02, EST-4.1.3-06
#[test]
fn the_published_bag_is_read_in_any_order() {
    let text = include_bytes!("../data/rfc7030/A1-cacerts-response.b64");
    let answer = ok("application/pkcs7-mime", text);
    let Outcome::Done(found) = client::ca_certificates(&answer, &STRICT).unwrap() else {
        panic!()
    };
    let mut names: Vec<String> = found
        .certificates()
        .iter()
        .map(|certificate| certificate.subject())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "CN=estExampleCA NwN",
            "CN=estExampleCA NwO",
            "CN=estExampleCA OwN",
            "CN=estExampleCA OwO"
        ]
    );
    for (status, content_type, body, code) in [
        (204, None, &b""[..], "est.answer-status"),
        (404, None, b"", "est.answer-status"),
        (500, Some("text/plain"), b"oops", "est.answer-status"),
        (200, Some("text/html"), &text[..], "est.answer-media-type"),
        (200, None, &text[..], "est.answer-media-type"),
        (200, Some("application/pkcs7-mime"), b"", "est.body-empty"),
        (
            200,
            Some("application/pkcs7-mime"),
            b"AAAA",
            "pki.pkcs7-malformed",
        ),
    ] {
        let answer = HttpAnswer {
            status,
            content_type,
            body,
            ..HttpAnswer::default()
        };
        let error = client::ca_certificates(&answer, &STRICT).unwrap_err();
        assert_eq!(error.code(), code, "{status} {content_type:?}");
    }
}

/// Requirements: EST-4.1.3-04, EST-4.1.3-06
#[test]
fn a_root_rollover_is_followed() {
    let old = Ca::root("old", datetime!(2027-01-01 0:00 UTC));
    let new = Ca::root("new", datetime!(2037-01-01 0:00 UTC));
    let sub = new.sub("sub");
    let old_with_new = new.cross(&old);
    let new_with_old = old.cross(&new);
    let stranger = Ca::root("stranger", datetime!(2036-01-01 0:00 UTC));
    let bag = CaCertificates::new(vec![
        new_with_old.clone(),
        old.certificate.clone(),
        stranger.certificate.clone(),
        sub.certificate.clone(),
        old_with_new.clone(),
        new.certificate.clone(),
        new.certificate.clone(),
    ]);
    let registrar = sub.issue("registrar", &[], support::key().as_ref());
    // The pin may be the new root, the old one, the sub-CA or the registrar itself.
    for pin in [
        &new.certificate,
        &old.certificate,
        &sub.certificate,
        &registrar,
    ] {
        let trust = bag.judge(Some(pin), Some(NOW)).unwrap();
        assert_eq!(trust.anchor, new.certificate, "{}", pin.subject());
        assert_eq!(trust.former_anchors, [old.certificate.clone()]);
        assert!(trust.intermediates.contains(&sub.certificate));
        assert!(trust.intermediates.contains(&old_with_new));
        assert_eq!(trust.ignored, [stranger.certificate.clone()]);
    }
    // A pin of another domain leads to none of it.
    let foreign = Ca::root("foreign", datetime!(2036-01-01 0:00 UTC));
    let error = bag
        .judge(Some(&foreign.certificate), Some(NOW))
        .unwrap_err();
    assert_eq!(error.code(), "est.cacerts-unusable");
    // The stranger's own pin finds the stranger and nothing else.
    let trust = bag.judge(Some(&stranger.certificate), Some(NOW)).unwrap();
    assert_eq!(trust.anchor, stranger.certificate);
    assert!(trust.intermediates.is_empty() && trust.former_anchors.is_empty());
}

#[test]
fn a_bag_without_a_usable_root_is_refused() {
    let root = Ca::root("root", datetime!(2026-02-01 0:00 UTC));
    let sub = root.sub("sub");
    for bag in [
        vec![],
        vec![sub.certificate.clone()],
        vec![root.certificate.clone()],
    ] {
        let error = CaCertificates::new(bag).judge(None, Some(NOW)).unwrap_err();
        assert_eq!(error.code(), "est.cacerts-unusable");
    }
    // A device without a clock cannot know that the root has expired.
    let bag = CaCertificates::new(vec![root.certificate.clone()]);
    assert_eq!(bag.judge(None, None).unwrap().anchor, root.certificate);
}

/// Requirements: EST-4.2.3-03
#[test]
fn only_a_certificate_for_our_key_under_our_ca_is_taken() {
    let root = Ca::root("root", datetime!(2036-01-01 0:00 UTC));
    let sub = root.sub("sub");
    let trust = CaCertificates::new(vec![root.certificate.clone(), sub.certificate.clone()])
        .judge(None, Some(NOW))
        .unwrap();
    let key = support::key();
    let other = support::key();
    let mine = sub.issue("device", &[], key.as_ref());
    let theirs = sub.issue("device", &[], other.as_ref());
    let foreign =
        Ca::root("root", datetime!(2036-01-01 0:00 UTC)).issue("device", &[], key.as_ref());
    let take = |certificates: &[Certificate]| {
        let body = bag(certificates);
        let answer = ok("application/pkcs7-mime; smime-type=certs-only", &body);
        client::enrolled(&answer, key.public_key(), &trust, Some(NOW), NOW, &STRICT)
    };
    let Ok(Outcome::Done(enrolled)) = take(&[mine.clone()]) else {
        panic!()
    };
    assert_eq!(enrolled.certificate, mine);
    assert_eq!(enrolled.chain, [mine.clone(), sub.certificate.clone()]);
    assert_eq!(enrolled.extra, 0);
    // Some servers send a chain along, in any order.
    let Ok(Outcome::Done(enrolled)) = take(&[
        root.certificate.clone(),
        sub.certificate.clone(),
        mine.clone(),
    ]) else {
        panic!()
    };
    assert_eq!((enrolled.certificate, enrolled.extra), (mine.clone(), 2));
    assert_eq!(
        take(&[theirs]).unwrap_err().code(),
        "est.certificate-key-mismatch"
    );
    assert_eq!(
        take(&[]).unwrap_err().code(),
        "est.certificate-key-mismatch"
    );
    assert_eq!(
        take(&[foreign]).unwrap_err().code(),
        "est.certificate-untrusted"
    );
}

/// Requirements: EST-4.4.2-01
#[test]
fn a_generated_key_must_fit_its_certificate() {
    let root = Ca::root("root", datetime!(2036-01-01 0:00 UTC));
    let trust = CaCertificates::new(vec![root.certificate.clone()])
        .judge(None, Some(NOW))
        .unwrap();
    let key = support::key();
    let certificate = root.issue("device", &[], key.as_ref());
    for (private, fits) in [(&key, true), (&support::key(), false)] {
        let answer = est::server::Answer::key_and_certificate(
            &private.to_pkcs8_der().unwrap(),
            &certificate,
        )
        .unwrap();
        let answer = ok(answer.content_type.as_deref().unwrap(), &answer.body);
        let result = client::generated(&answer, &trust, Some(NOW), NOW);
        assert_eq!(matches!(result, Ok(Outcome::Done(_))), fits);
    }
}

/// Requirements: EST-4.5.2-02, EST8951-4-02
#[test]
fn no_csr_attributes_have_three_forms() {
    let none = Requirements::none();
    for answer in [
        HttpAnswer {
            status: 204,
            ..HttpAnswer::default()
        },
        HttpAnswer {
            status: 404,
            body: b"nothing here",
            ..HttpAnswer::default()
        },
        ok("application/csrattrs", b"MAA=\r\n"),
    ] {
        assert_eq!(
            client::csr_attrs(&answer, &STRICT).unwrap(),
            Outcome::Done(none.clone())
        );
    }
    let answer = HttpAnswer {
        status: 503,
        ..HttpAnswer::default()
    };
    assert_eq!(
        client::csr_attrs(&answer, &STRICT).unwrap_err().code(),
        "est.answer-status"
    );
    let answer = ok("application/csrattrs", b"MAMCAQE=");
    assert_eq!(
        client::csr_attrs(&answer, &STRICT).unwrap_err().code(),
        "est.csrattrs-malformed"
    );
}

/// Requirements: EST-3.2.3-02
#[test]
fn answers_that_are_no_certificate_say_what_to_do() {
    let root = Ca::root("root", datetime!(2036-01-01 0:00 UTC));
    let trust = CaCertificates::new(vec![root.certificate])
        .judge(None, Some(NOW))
        .unwrap();
    let key = support::key();
    let read = |answer: HttpAnswer<'_>| {
        client::enrolled(&answer, key.public_key(), &trust, Some(NOW), NOW, &STRICT)
    };
    let wait = |header| HttpAnswer {
        status: 202,
        retry_after: header,
        ..HttpAnswer::default()
    };
    for (header, after) in [
        (Some("120"), Duration::from_secs(120)),
        (Some(" 0 "), Duration::ZERO),
        (
            Some("Mon, 01 Jun 2026 12:05:00 GMT"),
            Duration::from_secs(300),
        ),
        (Some("Mon, 01 Jun 2026 11:00:00 GMT"), Duration::ZERO),
        (Some("soon"), RETRY_AFTER_DEFAULT),
        (Some(""), RETRY_AFTER_DEFAULT),
        (Some("-5"), RETRY_AFTER_DEFAULT),
        (None, RETRY_AFTER_DEFAULT),
        (Some("99999999999"), RETRY_AFTER_MAX),
        (Some("99999999999999999999999999"), RETRY_AFTER_MAX),
        (Some("Fri, 31 Dec 9999 23:59:59 GMT"), RETRY_AFTER_MAX),
    ] {
        assert_eq!(
            read(wait(header)).unwrap(),
            Outcome::Wait { after },
            "{header:?}"
        );
    }
    let moved = HttpAnswer {
        status: 307,
        location: Some("/x"),
        ..HttpAnswer::default()
    };
    assert_eq!(
        read(moved).unwrap(),
        Outcome::Redirect {
            location: "/x".to_owned()
        }
    );
    for (status, code) in [
        (401, "est.http-authentication-demanded"),
        (400, "est.answer-status"),
        (503, "est.answer-status"),
        (307, "est.answer-status"),
        (201, "est.answer-status"),
    ] {
        let answer = HttpAnswer {
            status,
            body: b"no \x1b[31m",
            ..HttpAnswer::default()
        };
        let error = read(answer).unwrap_err();
        assert_eq!(error.code(), code, "{status}");
        assert!(!error.to_string().contains('\x1b'));
    }
}

/// Requirements: EST-3.2.1-01, EST-3.2.1-02
#[test]
fn redirects_stay_at_home_unless_allowed() {
    let from = "https://registrar.example:8443/.well-known/est/simpleenroll";
    let same = |path: &str| {
        Some(Redirect::SameOrigin {
            path: path.to_owned(),
        })
    };
    let other = |url: &str| {
        Some(Redirect::OtherOrigin {
            url: url.to_owned(),
        })
    };
    for (method, location, allowed, expected) in [
        ("POST", "/other?x=1", false, same("/other?x=1")),
        (
            "POST",
            "https://registrar.example:8443/a",
            false,
            same("/a"),
        ),
        ("POST", "https://elsewhere.example/a", false, None),
        ("POST", "https://registrar.example/a", false, None),
        (
            "POST",
            "https://elsewhere.example/a",
            true,
            other("https://elsewhere.example/a"),
        ),
        (
            "GET",
            "https://elsewhere.example/a",
            false,
            other("https://elsewhere.example/a"),
        ),
        ("GET", "http://registrar.example:8443/a", true, None),
        ("GET", "//user@elsewhere.example/a", true, None),
        ("GET", "https://", true, None),
        ("GET", "file:///etc/passwd", true, None),
    ] {
        let found = client::redirect(from, method, location, allowed).ok();
        assert_eq!(found, expected, "{method} {location}");
    }
}

/// Requirements: EST-4.2.1-01, EST-4.2.1-03, EST-4.2.2-01
#[test]
fn requests_are_as_the_standard_has_them() {
    let root = Ca::root("root", datetime!(2036-01-01 0:00 UTC));
    let key = support::key();
    let current = root.issue("device", &["a.example"], key.as_ref());
    let fresh = support::key();
    let csr =
        client::reenrol_request(&current, &Requirements::none(), None, fresh.as_ref()).unwrap();
    csr.verify().unwrap();
    assert_eq!(csr.subject_der(), current.subject_der());
    assert_eq!(csr.dns_names().unwrap(), ["a.example"]);
    assert_eq!(csr.public_key(), fresh.public_key());

    let request = client::reenroll_request(Some("label"), &csr);
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/.well-known/est/label/simplereenroll");
    assert_eq!(request.content_type, Some("application/pkcs10"));
    assert_eq!(
        body::decode(&request.body, 8192, &STRICT).unwrap().0,
        csr.der()
    );
    let facts = Facts {
        subject_der: current.subject_der().to_vec(),
        ..Facts::default()
    };
    let csr = client::request(&Requirements::none(), &facts, None, key.as_ref()).unwrap();
    assert_eq!(csr.subject_der(), current.subject_der());
    assert!(csr.attributes().is_empty());
    assert_eq!(
        client::ca_certificates_request(None).path,
        "/.well-known/est/cacerts"
    );
    assert_eq!(client::csr_attrs_request(None).method, "GET");
}
