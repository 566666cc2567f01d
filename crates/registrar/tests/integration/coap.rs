//! The resources over CoAP, without sockets: who asks is what a listener would say.

use std::collections::BTreeSet;

use coap::{Code, Request, Response, Via, format, link};
use est::client::DomainTrust;
use est::coaps::{self, Operation, client};
use pki::{Certificate, Csr, CsrBuilder, Identity, Signer as _};
use registrar::coap::{Asker, Resources};
use registrar::service::Caller;

use crate::enrolment::{ALLOW, edit, key, trust, vouchered};
use crate::harness::{Device, Lab};

/// The resources of a registrar that serves.
pub(crate) fn resources(lab: &Lab) -> Resources {
    Resources::open(lab.running().service()).unwrap()
}

/// The certificate that the registrar shows.
pub(crate) fn registrar(lab: &Lab) -> Certificate {
    lab.running().service().keys().identities[0].chain[0].clone()
}

/// Somebody behind a DTLS association, with that certificate.
pub(crate) fn asker(lab: &Lab, identity: Option<&Identity>) -> Asker {
    Asker {
        caller: Caller {
            address: "[fe80::1]:61616".parse().unwrap(),
            transport: "coaps".to_owned(),
            security: Some("DTLS 1.2".to_owned()),
            chain: Ok(identity.map(|own| own.chain.clone()).unwrap_or_default()),
            raw_leaf: None,
            own_certificate: Some(registrar(lab)),
            exporter: None,
        },
        via: Via::Secured,
        local: "[fe80::2]:5684".parse().unwrap(),
    }
}

pub(crate) fn said(response: &Response) -> String {
    String::from_utf8_lossy(&response.payload).into_owned()
}

/// The code of a refusal, without the correlation id behind it.
pub(crate) fn cause(response: &Response) -> String {
    said(response)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn csr(signer: &dyn pki::Signer, subject_der: &[u8]) -> Csr {
    CsrBuilder::with_subject_der(subject_der)
        .unwrap()
        .sign(signer)
        .unwrap()
}

/// A CSR as constrained devices make it: the subject of the IDevID, nothing else.
fn plain_csr(device: &Device, signer: &dyn pki::Signer) -> Csr {
    let idevid = &device.identity.as_ref().unwrap().chain[0];
    csr(signer, idevid.subject_der())
}

fn done<T: std::fmt::Debug>(outcome: client::Outcome<T>) -> T {
    match outcome {
        client::Outcome::Done(done) => done,
        client::Outcome::Wait { after } => panic!("to wait for {after:?}"),
    }
}

struct Enrolled {
    member: Identity,
    trust: DomainTrust,
}

/// Enrols a device over CoAP.
async fn enrolled(lab: &Lab, serial: &str) -> (Device, Enrolled) {
    let device = vouchered(lab, serial).await;
    let trust = trust(lab, &device).await;
    let key = key();
    let request = client::enrol_request(
        None,
        Operation::SimpleEnroll,
        &plain_csr(&device, key.as_ref()),
        format::PKIX_CERT,
    );
    let response = resources(lab)
        .answer(asker(lab, device.identity.as_ref()), request)
        .await;
    let now = Some(lab.clock.now());
    let enrolled = client::enrolled(&response, key.public_key(), &trust, now).unwrap();
    let member = Identity::new(done(enrolled).chain, key).unwrap();
    (device, Enrolled { member, trust })
}

/// Requirements: CBR-052, CBR-065, CBR-086, CBR-165, ESC-011, ESC-012, ESC-018, ESC-020, ESC-031,
/// ESC-042, COA-012
pub(crate) async fn a_device_enrols_once_however_often_it_asks() {
    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    let trust = trust(&lab, &device).await;
    let resources = resources(&lab);
    let who = asker(&lab, device.identity.as_ref());
    let key = key();
    let csr = plain_csr(&device, key.as_ref());
    let mut certificates = BTreeSet::new();
    for (path, accept, format) in [
        (".well-known/est/sen", None, 281),
        (".well-known/est/sen", Some(281), 281),
        ("e/sen", Some(287), 287),
        (".well-known/est/sen", Some(287), 287),
    ] {
        let request = Request {
            accept,
            ..Request::post(path, format::PKCS10, csr.der())
        };
        let response = resources.answer(who.clone(), request).await;
        assert_eq!(
            (response.code, response.content_format),
            (Code::CHANGED, Some(format)),
            "{path} {}",
            said(&response)
        );
        let now = Some(lab.clock.now());
        let enrolled = client::enrolled(&response, csr.public_key(), &trust, now).unwrap();
        let certificate = done(enrolled).certificate;
        assert_eq!(certificate.subject(), "SERIALNUMBER=SN-1");
        certificates.insert(certificate.der().to_vec());
    }
    assert_eq!(
        certificates.len(),
        1,
        "the same request, the same certificate"
    );
    let shown = lab.shown("SN-1").await;
    let lines = shown["timeline"].as_array().unwrap();
    let enrolments = lines.iter().filter(|line| line["step"] == "enrol").count();
    assert_eq!(enrolments, 4);
    let identity = lines
        .iter()
        .rev()
        .find(|line| line["step"] == "identity")
        .unwrap();
    assert_eq!(identity["detail"]["transport"], "coaps");
    lab.stop().await;
}

/// Requirements: CBR-071, CBR-076, ESC-065
pub(crate) async fn a_device_renews_with_its_own_certificate_only() {
    let lab = Lab::start(ALLOW).await;
    let resources = resources(&lab);
    let (device, Enrolled { member, trust }) = enrolled(&lab, "SN-1").await;
    let (_, other) = enrolled(&lab, "SN-2").await;
    let current = &member.chain[0];
    let renew = |identity: &Identity, request: &Csr| {
        let request = client::enrol_request(
            None,
            Operation::SimpleReenroll,
            request,
            format::PKCS7_CERTS_ONLY,
        );
        resources.answer(asker(&lab, Some(identity)), request)
    };
    let again = csr(member.signer.as_ref(), current.subject_der());
    let response = renew(&member, &again).await;
    let now = Some(lab.clock.now());
    let renewed = client::enrolled(&response, member.signer.public_key(), &trust, now).unwrap();
    let renewed = done(renewed).certificate;
    assert_ne!(renewed, *current);
    assert_eq!(renewed.subject(), current.subject());
    for (who, code, reason) in [
        // The factory's certificate renews nothing.
        (
            device.identity.as_ref().unwrap(),
            "4.03",
            "est.reenrol-certificate-missing",
        ),
        // Another device's certificate has another name.
        (&other.member, "4.00", "est.reenrol-subject-changed"),
    ] {
        let response = renew(who, &again).await;
        assert_eq!(response.code.to_string(), code);
        assert_eq!(cause(&response), reason);
    }
    // Its own certificate does not enrol anew.
    let anew = client::enrol_request(None, Operation::SimpleEnroll, &again, format::PKIX_CERT);
    let response = resources.answer(asker(&lab, Some(&member)), anew).await;
    assert_eq!(cause(&response), "est.already-enrolled");
    // A certificate that was revoked renews nothing.
    let serial = hex::encode(renewed.serial_number());
    let arguments = ["cert", "revoke", &serial, "--reason", "key-compromise"];
    assert_eq!(lab.run(&arguments).await, daemon::Outcome::Yes);
    let revoked = Identity::new(vec![renewed], member.signer.clone()).unwrap();
    let response = renew(&revoked, &again).await;
    assert_eq!(
        (
            response.code.to_string().as_str(),
            cause(&response).as_str()
        ),
        ("4.03", "est.certificate-revoked")
    );
    lab.stop().await;
}

/// Requirements: CBR-066, CBR-077, CBR-078, CBR-087, CBR-088, ESC-010, ESC-021, ESC-022,
/// ESC-023, ESC-025
pub(crate) async fn reading_is_for_known_devices() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[est]\nlabels = [\"factory\"]\n");
    let lab = lab.serving().await;
    let resources = resources(&lab);
    let device = lab.device("SN-1");
    let who = asker(&lab, device.identity.as_ref());
    let nobody = asker(&lab, None);
    let stranger = lab.pki.self_signed_device("SN-9").unwrap();
    let stranger = asker(&lab, Some(&stranger));
    let domain = lab.running().service().keys().domain[0].clone();
    for (path, format) in [
        (".well-known/est/crts", None),
        (".well-known/est/factory/crts", Some(281)),
        ("e/crts", Some(287)),
        ("e/crts", Some(62)),
    ] {
        let request = Request {
            accept: format,
            ..Request::get(path)
        };
        let response = resources.answer(who.clone(), request.clone()).await;
        assert_eq!(response.code, Code::CONTENT, "{path} {}", said(&response));
        assert_eq!(response.content_format, format.or(Some(281)));
        assert_eq!(response.etag.as_ref().map(Vec::len), Some(8));
        let read = client::ca_certificates(&response).unwrap();
        assert_eq!(read.certificates(), std::slice::from_ref(&domain));
        let response = resources.answer(nobody.clone(), request.clone()).await;
        assert_eq!(
            (response.code, cause(&response).as_str()),
            (Code::UNAUTHORIZED, "est.client-certificate-required")
        );
        let response = resources.answer(stranger.clone(), request).await;
        assert_eq!(
            (response.code, cause(&response).as_str()),
            (Code::FORBIDDEN, "registrar.manufacturer-unknown")
        );
    }
    let response = resources
        .answer(who.clone(), Request::get(".well-known/est/att"))
        .await;
    let asked = client::csr_attrs(&response).unwrap();
    assert_eq!(asked.subject.len(), 1, "the subject that it will get");
    for (path, code) in [
        (".well-known/est/other/crts", "4.04"),
        (".well-known/est/skg", "4.05"),
        (".well-known/est", "4.04"),
        (".well-known/est/cacerts", "4.04"),
        (".well-known/brski/requestvoucher", "4.04"),
        ("b/crts", "4.04"),
        ("", "4.04"),
        ("b", "4.04"),
        (".well-known/brski/rv/", "4.04"),
        // Where drafts before 2021 had it.
        ("e/rv", "4.04"),
        (".well-known/est/rv", "4.04"),
    ] {
        let response = resources.answer(who.clone(), Request::get(path)).await;
        assert_eq!(response.code.to_string(), code, "{path}");
    }
    lab.stop().await;

    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[coap]\nsingle_ca_certificate = false\nshort_paths = false\n"
    });
    let lab = lab.serving().await;
    let who = asker(&lab, lab.device("SN-1").identity.as_ref());
    let resources = self::resources(&lab);
    let one = client::ca_certificates_request(None, format::PKIX_CERT);
    let response = resources.answer(who.clone(), one).await;
    assert_eq!(response.code, Code::NOT_ACCEPTABLE);
    let all = client::ca_certificates_request(None, format::MULTIPART_CORE);
    assert_eq!(resources.answer(who.clone(), all).await.code, Code::CONTENT);
    let short = resources.answer(who, Request::get("e/crts")).await;
    assert_eq!(short.code, Code::NOT_FOUND);
    lab.stop().await;
}

/// Requirements: CBR-053, ESC-014, ESC-026, ESC-027, ESC-043, ESC-044, ESC-046
pub(crate) async fn keys_are_generated_where_that_is_on() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[est]\nserver_keygen = true\n");
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-1").await;
    let trust = trust(&lab, &device).await;
    let who = asker(&lab, device.identity.as_ref());
    let resources = resources(&lab);
    let key = key();
    let mut der = plain_csr(&device, key.as_ref()).der().to_vec();
    // Key and signature of the request count for nothing.
    *der.last_mut().unwrap() ^= 1;
    for operation in [Operation::ServerKeyGen, Operation::ServerKeyGenCertificate] {
        let request = Request::post(&coaps::path(None, operation), format::PKCS10, der.clone());
        let response = resources.answer(who.clone(), request).await;
        assert_eq!(response.code, Code::CHANGED, "{}", said(&response));
        let now = Some(lab.clock.now());
        let generated = done(client::generated(&response, &trust, now).unwrap());
        assert_ne!(generated.key.public_key(), key.public_key());
    }
    let links = resources
        .answer(who.clone(), Request::get(".well-known/core"))
        .await;
    assert!(said(&links).contains("ace.est.skc"));
    lab.stop().await;

    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    let who = asker(&lab, device.identity.as_ref());
    let resources = self::resources(&lab);
    let request = Request::post("e/skg", format::PKCS10, der);
    let response = resources.answer(who.clone(), request).await;
    assert_eq!(
        (response.code, cause(&response).as_str()),
        (Code::NOT_FOUND, "est.server-keygen-disabled")
    );
    let links = resources
        .answer(who, Request::get(".well-known/core"))
        .await;
    assert!(!said(&links).contains("ace.est.sk"));
    lab.stop().await;
}

/// Requirements: CBR-042, CBR-043, CBR-050, CBR-051, CBR-149, COA-032
pub(crate) async fn reports_come_in_cbor_and_json() {
    let lab = Lab::start(ALLOW).await;
    let device = vouchered(&lab, "SN-1").await;
    let resources = resources(&lab);
    let who = asker(&lab, device.identity.as_ref());
    let report = |path: &str, content_format: Option<u16>, body: &[u8]| {
        let request = Request {
            content_format,
            ..Request::post(path, 0, body)
        };
        resources.answer(who.clone(), request)
    };
    // {"version": 1, "status": true}
    let yes = b"\xa2\x67version\x01\x66status\xf5";
    // {"version": 2, "status": true, "mood": "good"}
    let newer = b"\xa3\x67version\x02\x66status\xf5\x64mood\x64good";
    let json = br#"{"version":1,"status":true}"#;
    for (path, content_format, body, code, reason) in [
        ("b/vs", Some(60), &yes[..], "2.04", ""),
        (".well-known/brski/vs", Some(60), yes, "2.04", ""),
        ("b/vs", Some(50), json, "2.04", ""),
        ("b/vs", Some(60), newer, "2.04", ""),
        (
            "b/vs",
            Some(60),
            &yes[..8],
            "4.00",
            "registrar.telemetry-malformed",
        ),
        (
            "b/vs",
            Some(50),
            yes,
            "4.00",
            "registrar.telemetry-malformed",
        ),
        (
            "b/vs",
            Some(0),
            json,
            "4.15",
            "registrar.telemetry-media-type",
        ),
        ("b/vs", None, yes, "4.15", "registrar.telemetry-media-type"),
        ("b/es", None, yes, "4.15", "registrar.telemetry-media-type"),
        ("b/es", Some(60), yes, "2.04", ""),
        (
            "b/es",
            Some(60),
            b"",
            "4.00",
            "registrar.telemetry-malformed",
        ),
    ] {
        let response = report(path, content_format, body).await;
        assert_eq!(response.code.to_string(), code, "{path} {body:02x?}");
        assert_eq!(cause(&response), reason);
    }
    let line = lab.line("SN-1", "enrol-status").await;
    assert_eq!(line["code"], "registrar.telemetry-malformed");
    assert_eq!(lab.shown("SN-1").await["state"], "enrolled");
    // Whoever has no exchange here has nothing to report.
    let other = lab.device("SN-2");
    let request = Request::post("b/vs", format::CBOR, yes);
    let response = resources
        .answer(asker(&lab, other.identity.as_ref()), request)
        .await;
    assert_eq!(
        (response.code, cause(&response).as_str()),
        (Code::NOT_FOUND, "registrar.exchange-unknown")
    );
    lab.stop().await;
}

/// Requirements: CBR-019, CBR-033, COA-029, COA-041
pub(crate) async fn what_is_asked_wrongly_is_refused() {
    let lab = Lab::start(ALLOW).await;
    let resources = resources(&lab);
    let nobody = asker(&lab, None);
    for (path, content_format) in [
        ("b/rv", format::VOUCHER_COSE),
        ("b/vs", format::CBOR),
        ("b/es", format::CBOR),
        ("e/sen", format::PKCS10),
        ("e/sren", format::PKCS10),
    ] {
        let request = Request::post(path, content_format, b"anything");
        let response = resources.answer(nobody.clone(), request.clone()).await;
        assert_eq!(
            response.code,
            Code::UNAUTHORIZED,
            "{path} {}",
            said(&response)
        );
        // In the clear there is nothing, and nobody is written down.
        let in_the_clear = Asker {
            via: Via::Open,
            ..asker(&lab, lab.device("SN-1").identity.as_ref())
        };
        let response = resources.answer(in_the_clear, request).await;
        assert_eq!(response.code, Code::UNAUTHORIZED, "{path}");
        for method in [Code::GET, Code::PUT, Code::DELETE, Code::FETCH, Code(7)] {
            let request = Request {
                method: Some(method),
                ..Request::get(path)
            };
            let response = resources.answer(nobody.clone(), request).await;
            assert_eq!(response.code, Code::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
    lab.stop().await;
}

fn targets(response: &Response) -> Vec<(String, Option<String>)> {
    assert_eq!(response.code, Code::CONTENT);
    assert_eq!(response.content_format, Some(format::LINK_FORMAT));
    link::decode(&said(response))
        .unwrap()
        .into_iter()
        .map(|link| {
            let kind = link.attribute("rt").map(str::to_owned);
            (link.target, kind)
        })
        .collect()
}

/// Requirements: CBR-040, CBR-140, CBR-159, CBR-164, CBR-166, COA-044, COA-045, ESC-013, ESC-015,
/// ESC-051, ESC-054,
/// JPX-038, JPX-039, JPX-040, JPX-050
pub(crate) async fn what_there_is_can_be_discovered() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[coap]\nlisten = [\"[::1]:0\"]\njpy_listen = \"[::1]:0\"\n[coap.discovery]\nlisten = [\"[::1]:0\"]\nannounce = \"2001:db8::52\"\n"
    });
    let lab = lab.serving().await;
    let resources = resources(&lab);
    let who = asker(&lab, lab.device("SN-1").identity.as_ref());
    let get = |query: &[&str]| Request {
        query: query.iter().map(|&argument| argument.to_owned()).collect(),
        ..Request::get(".well-known/core")
    };
    for (query, expected) in [
        (&["rt=brski"][..], &["/b"][..]),
        (&["rt=brski*"], &["/b", "/b/rv", "/b/vs", "/b/es"]),
        (&["rt=brski.rv"], &["/b/rv"]),
        (&["ct=836"], &["/b/rv"]),
        (&["rt=ace.est"], &["/e"]),
        (&["rt=ace.est.sen"], &["/e/sen"]),
        (
            &["rt=ace.est.*"],
            &["/e/crts", "/e/sen", "/e/sren", "/e/att"],
        ),
        (&["ct=287", "rt=ace.est.crts"], &["/e/crts"]),
        (&["href=/b/*"], &["/b/rv", "/b/vs", "/b/es"]),
        (&["rt=nonexistent"], &[]),
        (&["brski-jp=*"], &[]),
    ] {
        let response = resources.answer(who.clone(), get(query)).await;
        let found: Vec<String> = targets(&response)
            .into_iter()
            .map(|(link, _)| link)
            .collect();
        assert_eq!(found, expected, "{query:?}");
    }
    let all = resources.answer(who.clone(), get(&[])).await;
    assert_eq!(
        said(&all),
        "</b>;rt=\"brski\",</b/rv>;rt=\"brski.rv\";ct=836,</b/vs>;rt=\"brski.vs\";ct=\"50 60\",\
         </b/es>;rt=\"brski.es\";ct=\"50 60\",</e>;rt=\"ace.est\",\
         </e/crts>;rt=\"ace.est.crts\";ct=\"62 281 287\",</e/sen>;rt=\"ace.est.sen\";ct=\"281 287\",\
         </e/sren>;rt=\"ace.est.sren\";ct=\"281 287\",</e/att>;rt=\"ace.est.att\";ct=285"
    );
    let other = Request {
        accept: Some(format::CBOR),
        ..get(&[])
    };
    let response = resources.answer(who, other).await;
    assert_eq!(response.code, Code::NOT_ACCEPTABLE);
    lab.stop().await;
}
