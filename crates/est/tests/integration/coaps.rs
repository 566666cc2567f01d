//! EST over CoAP: published examples, and each resource with what it takes and gives.

use coap::{Code, Request, Response, format};
use est::CsrAttrs;
use est::coaps::{self, Operation, accepted, client, multipart};
use est::csrattrs::oids;
use est::server::{Answer, ChannelBinding, Policy, Standing, Step, handle};
use pki::{Certificate, Coded as _, Csr, CsrBuilder, Signer};
use time::macros::datetime;
use x509_cert::name::Name;

use crate::support::{self, Ca};

macro_rules! published {
    ($name:literal) => {
        include_bytes!(concat!("../data/rfc9148/", $name)).as_slice()
    };
}

const A1_CRTS: &[u8] = published!("a1-crts-response-281.p7");
const A2_CSR: &[u8] = published!("a2-sen-request-286.csr.der");
const A2_SEN: &[u8] = published!("a2-sen-response-281.p7");
const A3_CSR: &[u8] = published!("a3-skg-request-286.csr.der");
const A3_SKG: &[u8] = published!("a3-skg-response-62.cbor");
const A3_KEY: &[u8] = published!("a3-skg-part284.pkcs8.der");
const A3_BAG: &[u8] = published!("a3-skg-part281.p7");
const A4_ATT: &[u8] = published!("a4-att-response-285.der");
const FIGURE_2: &[u8] = published!("fig2-multipart-284-281.cbor");

fn policy(certificates: &[Certificate]) -> Policy {
    Policy {
        ca_certificates: certificates.to_vec(),
        server_keygen: true,
        ..Policy::default()
    }
}

/// The answer of a server that issues to whoever may have it.
fn ask(
    operation: Operation,
    request: &Request,
    standing: &Standing,
    policy: &Policy,
    issue: impl Fn(&Csr) -> Answer,
) -> Response {
    let format = accepted(operation, request.accept);
    let wanted = coaps::request(operation, request, format, None);
    let answer = match handle(&wanted, standing, policy).unwrap() {
        Step::Reply(answer) => answer,
        Step::Issue(enrolment)
        | Step::Reenrol { enrolment, .. }
        | Step::GenerateKey { enrolment, .. } => issue(&enrolment.csr),
        Step::Defer { retry_after, .. } => Answer::accepted(retry_after),
        Step::Refuse(refusal) => Answer::refused(&refusal),
    };
    coaps::response(operation, format, &answer).unwrap()
}

fn nothing(_: &Csr) -> Answer {
    panic!("nothing was to be issued")
}

fn post(operation: Operation, der: &[u8]) -> Request {
    Request::post(&coaps::path(None, operation), format::PKCS10, der)
}

fn csr(key: &dyn Signer) -> Csr {
    let name = "CN=device".parse::<Name>().unwrap();
    CsrBuilder::new(name).sign(key).unwrap()
}

/// Requirements: ESC-061
#[test]
fn the_published_ca_certificates_are_what_we_would_send() {
    let response = Response::content(Code::CONTENT, format::PKCS7_CERTS_ONLY, A1_CRTS);
    let read = client::ca_certificates(&response).unwrap();
    let [root] = read.certificates() else {
        panic!("one certificate stands there")
    };
    assert!(root.verify_signature_by(root.public_key()).is_ok());
    let sent = ask(
        Operation::CaCerts,
        &Request::get(".well-known/est/crts"),
        &Standing::Known,
        &policy(&[root.clone()]),
        nothing,
    );
    // The example writes an empty set of revocation lists where we write none.
    assert_eq!(
        (sent.code, sent.content_format),
        (response.code, response.content_format)
    );
    assert_eq!(client::ca_certificates(&sent).unwrap(), read);
}

/// Requirements: ESC-018, ESC-019, ESC-020, ESC-031
#[test]
fn the_published_enrolment_goes_through() {
    let certificate = pki::pkcs7::parse_certs_only(A2_SEN).unwrap().remove(0);
    let asked = Csr::from_der(A2_CSR).unwrap();
    assert_eq!(asked.public_key(), certificate.public_key());
    let policy = Policy {
        // Its challengePassword was made for the connection of the example.
        channel_binding: ChannelBinding::Ignore,
        ..policy(&[])
    };
    let response = ask(
        Operation::SimpleEnroll,
        &post(Operation::SimpleEnroll, A2_CSR),
        &Standing::MayEnrol,
        &policy,
        |csr| {
            assert_eq!(csr.der(), A2_CSR);
            Answer::certificate(&certificate).unwrap()
        },
    );
    assert_eq!(
        (response.code, response.content_format),
        (Code::CHANGED, Some(format::PKCS7_CERTS_ONLY))
    );
    assert_eq!(
        pki::pkcs7::parse_certs_only(&response.payload).unwrap(),
        [certificate]
    );
}

/// Requirements: ESC-026, ESC-043, ESC-044, ESC-062
#[test]
fn the_published_generated_key_is_what_we_would_send() {
    let (key, certificates) = multipart::key_and_certificates(A3_SKG).unwrap();
    assert_eq!(key, A3_KEY);
    let key = pki::SoftwareKey::from_pkcs8_der(&key).unwrap();
    assert_eq!(key.public_key(), certificates[0].public_key());
    let response = ask(
        Operation::ServerKeyGen,
        &post(Operation::ServerKeyGen, A3_CSR),
        &Standing::MayEnrol,
        &policy(&[]),
        |_| Answer::key_and_certificate(A3_KEY, &certificates[0]).unwrap(),
    );
    assert_eq!(
        (response.code, response.content_format),
        (Code::CHANGED, Some(format::MULTIPART_CORE))
    );
    assert_eq!(
        multipart::key_and_certificates(&response.payload).unwrap(),
        (A3_KEY.to_vec(), certificates)
    );
    assert_eq!(
        multipart::write(&[
            (format::PKCS8, Some(A3_KEY)),
            (format::PKCS7_CERTS_ONLY, Some(A3_BAG)),
        ]),
        A3_SKG
    );
}

/// Requirements: ESC-025
#[test]
fn the_published_attributes_are_read() {
    let response = Response::content(Code::CONTENT, format::CSR_ATTRS, A4_ATT);
    assert_eq!(
        CsrAttrs::from_der(A4_ATT).unwrap().to_der().unwrap(),
        A4_ATT
    );
    client::csr_attrs(&response).unwrap();
    let other = Response::content(Code::CONTENT, format::CBOR, A4_ATT);
    assert_eq!(
        client::csr_attrs(&other).unwrap_err().code(),
        "est.answer-media-type"
    );
}

/// Requirements: ESC-028, ESC-064
#[test]
fn multipart_is_read_in_any_order_and_strictly() {
    let parts = [
        (
            format::PKCS8,
            Some([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].as_slice()),
        ),
        (
            format::PKCS7_CERTS_ONLY,
            Some([0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10].as_slice()),
        ),
    ];
    assert_eq!(multipart::write(&parts), FIGURE_2);
    assert_eq!(multipart::read(FIGURE_2).unwrap(), parts);
    let swapped = multipart::write(&[
        (format::PKCS7_CERTS_ONLY, Some(A3_BAG)),
        (format::PKCS8, Some(A3_KEY)),
    ]);
    assert_eq!(
        multipart::key_and_certificates(&swapped).unwrap(),
        multipart::key_and_certificates(A3_SKG).unwrap()
    );
    // An absent representation, in an array whose end is marked.
    let open = [0x9f, 0x19, 0x01, 0x1c, 0xf6, 0x00, 0x41, 0x61, 0xff];
    assert_eq!(
        multipart::read(&open).unwrap(),
        [(format::PKCS8, None), (0, Some(b"a".as_slice()))]
    );
    for (wrong, what) in [
        (&b""[..], "cut off"),
        (b"\x81\x00", "a format without its representation"),
        (b"\x82\x00", "cut off"),
        (b"\x82\x00\x42\x61", "a representation is cut off"),
        (b"\x82\x00\x61\x61", "a representation is not a byte string"),
        (b"\x82\x41\x61\x41\x61", "a format is not a number"),
        (b"\x82\x1a\x00\x01\x00\x00\x40", "no such format"),
        (b"\x82\x00\x40\x00", "something follows the array"),
        (b"\xa1\x00\x40", "not an array"),
        (b"\x9f\x00\x40", "cut off"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xfe\x00\x40", "cut off"),
        (
            b"\x82\x00\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
            "a representation is cut off",
        ),
    ] {
        let error = multipart::read(wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("multipart answer: {what}"),
            "{wrong:02x?}"
        );
    }
    let twice = multipart::write(&[(format::PKCS8, Some(A3_KEY)), (format::PKCS8, Some(A3_KEY))]);
    assert!(multipart::key_and_certificates(&twice).is_err());
    let none = multipart::write(&[
        (format::PKCS8, None),
        (format::PKCS7_CERTS_ONLY, Some(A3_BAG)),
    ]);
    assert!(multipart::key_and_certificates(&none).is_err());
}

/// Requirements: ESC-022, ESC-023, ESC-054
#[test]
fn accept_chooses_among_the_formats_of_a_resource() {
    use Operation::{
        CaCerts, CsrAttrs, ServerKeyGen, ServerKeyGenCertificate, SimpleEnroll, SimpleReenroll,
    };
    for (operation, accept, format) in [
        (CaCerts, None, Some(281)),
        (CaCerts, Some(281), Some(281)),
        (CaCerts, Some(287), Some(287)),
        (CaCerts, Some(62), Some(62)),
        (CaCerts, Some(0), None),
        (CaCerts, Some(285), None),
        (SimpleEnroll, None, Some(281)),
        (SimpleEnroll, Some(287), Some(287)),
        (SimpleEnroll, Some(62), None),
        (SimpleReenroll, None, Some(281)),
        (SimpleReenroll, Some(287), Some(287)),
        (CsrAttrs, None, Some(285)),
        (CsrAttrs, Some(285), Some(285)),
        (CsrAttrs, Some(50), None),
        (ServerKeyGen, None, Some(62)),
        (ServerKeyGenCertificate, Some(62), Some(62)),
        (ServerKeyGenCertificate, Some(287), None),
    ] {
        assert_eq!(
            accepted(operation, accept),
            format,
            "{operation:?} {accept:?}"
        );
        assert_eq!(
            operation.resource_type(),
            format!("ace.est.{}", operation.name())
        );
    }
}

/// Requirements: ESC-011, ESC-012, ESC-016
#[test]
fn paths_lead_to_their_resources() {
    for operation in Operation::ALL {
        for label in [None, Some("floor-2")] {
            let path = coaps::path(label, operation);
            let request = Request::get(&path);
            let (root, below) = request.path.split_at(2);
            assert_eq!(root, coaps::ROOT);
            assert_eq!(coaps::split_path(below), Some((label, operation)));
        }
    }
    for stray in [
        &["cacerts"][..],
        &["crts", "crts"],
        &["", "crts"],
        &["a", "b", "crts"],
        &[],
    ] {
        let segments: Vec<String> = stray.iter().map(|&one| one.to_owned()).collect();
        assert_eq!(coaps::split_path(&segments), None, "{stray:?}");
    }
}

/// Requirements: ESC-021, CBR-077, CBR-078, CBR-087
#[test]
fn ca_certificates_come_in_three_formats() {
    let root = Ca::root("domain", datetime!(2036-01-01 0:00 UTC));
    let sub = root.sub("floor");
    let chain = [sub.certificate.clone(), root.certificate.clone()];
    for (format, expected) in [
        (format::PKCS7_CERTS_ONLY, &chain[..]),
        (format::MULTIPART_CORE, &chain[..]),
        (format::PKIX_CERT, &chain[..1]),
    ] {
        let response = ask(
            Operation::CaCerts,
            &client::ca_certificates_request(None, format),
            &Standing::Known,
            &policy(&chain),
            nothing,
        );
        assert_eq!(
            (response.code, response.content_format),
            (Code::CONTENT, Some(format))
        );
        let read = client::ca_certificates(&response).unwrap();
        let mut read = read.certificates().to_vec();
        if format == format::MULTIPART_CORE {
            assert_eq!(response.payload[..4], [0x84, 0x19, 0x01, 0x1f]);
            assert_eq!(read, expected, "the issuer first");
        }
        // A bag has no order of its own.
        read.sort_by(|one, other| one.der().cmp(other.der()));
        let mut expected = expected.to_vec();
        expected.sort_by(|one, other| one.der().cmp(other.der()));
        assert_eq!(read, expected);
    }
}

/// Requirements: CBR-079, CBR-080
#[test]
fn a_device_is_given_few_ca_certificates_in_the_order_that_it_needs() {
    let until = datetime!(2036-01-01 0:00 UTC);
    let (root, other, third) = (
        Ca::root("domain", until),
        Ca::root("other", until),
        Ca::root("third", until),
    );
    let middle = root.sub("site");
    let issuing = middle.sub("floor");
    let one = |ca: &Ca| ca.certificate.clone();
    let all = [&other, &root, &issuing, &third, &middle].map(one);
    let key = support::key();
    let member = issuing.issue("device", &[], key.as_ref());
    let way = [&issuing, &middle, &root].map(one);
    let limit = coaps::CA_CERTIFICATES_MAX;
    assert_eq!(limit, 3);
    assert_eq!(coaps::hierarchy(&all, Some(&member), limit), way);
    // The way up is never cut.
    assert_eq!(coaps::hierarchy(&all, Some(&member), 1), way);
    let more = coaps::hierarchy(&all, Some(&member), 4);
    assert_eq!((&more[..3], &more[3]), (&way[..], &one(&other)));
    // Who has no certificate yet gets the way from the CA that issues, the first of the list.
    let all = [&middle, &third, &root, &other].map(one);
    let given = coaps::hierarchy(&all, None, limit);
    assert_eq!(given, [&middle, &root, &third].map(one));
    let elsewhere = Ca::root("elsewhere", until).issue("device", &[], key.as_ref());
    assert_eq!(coaps::hierarchy(&all, Some(&elsewhere), limit), given);
}

/// Requirements: COA-028, ESC-010, ESC-023, ESC-024, ESC-032, ESC-033, ESC-034, ESC-035, ESC-046, ESC-065
#[test]
fn what_is_refused_and_how() {
    let key = support::key();
    let root = Ca::root("domain", datetime!(2036-01-01 0:00 UTC));
    let current = root.issue("device", &["a.example"], key.as_ref());
    let good = csr(key.as_ref()).der().to_vec();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let nobody = Standing::Anonymous {
        credentials_offered: false,
    };
    let denied = Standing::Refused {
        code: "registrar.device-denied",
        reason: "the operator denies it".into(),
    };
    let member = Standing::Member {
        current,
        may_enrol: false,
    };
    use Operation::{CaCerts, CsrAttrs, ServerKeyGen, SimpleEnroll, SimpleReenroll};
    let get = |operation| Request::get(&coaps::path(None, operation));
    let with = |request: Request, content_format, accept| Request {
        content_format,
        accept,
        ..request
    };
    let cases = [
        (
            "stranger reads",
            CaCerts,
            get(CaCerts),
            &nobody,
            "4.01",
            "est.client-certificate-required",
        ),
        (
            "stranger asks",
            CsrAttrs,
            get(CsrAttrs),
            &nobody,
            "4.01",
            "est.client-certificate-required",
        ),
        (
            "stranger enrols",
            SimpleEnroll,
            post(SimpleEnroll, &good),
            &nobody,
            "4.01",
            "est.client-certificate-required",
        ),
        (
            "denied reads",
            CaCerts,
            get(CaCerts),
            &denied,
            "4.03",
            "registrar.device-denied",
        ),
        (
            "no voucher",
            SimpleEnroll,
            post(SimpleEnroll, &good),
            &Standing::Known,
            "4.03",
            "est.not-authorised",
        ),
        (
            "method",
            CaCerts,
            post(CaCerts, b""),
            &Standing::Known,
            "4.05",
            "est.method-not-allowed",
        ),
        (
            "method",
            SimpleEnroll,
            get(SimpleEnroll),
            &Standing::MayEnrol,
            "4.05",
            "est.method-not-allowed",
        ),
        (
            "FETCH",
            CaCerts,
            Request {
                method: Some(Code::FETCH),
                ..get(CaCerts)
            },
            &Standing::Known,
            "4.05",
            "est.method-not-allowed",
        ),
        (
            "accept",
            CaCerts,
            with(get(CaCerts), None, Some(0)),
            &Standing::Known,
            "4.06",
            "est.not-acceptable",
        ),
        (
            "accept",
            SimpleEnroll,
            with(post(SimpleEnroll, &good), Some(286), Some(50)),
            &Standing::MayEnrol,
            "4.06",
            "est.not-acceptable",
        ),
        (
            "no format",
            SimpleEnroll,
            with(post(SimpleEnroll, &good), None, None),
            &Standing::MayEnrol,
            "4.15",
            "est.media-type-unsupported",
        ),
        (
            "format",
            SimpleEnroll,
            with(post(SimpleEnroll, &good), Some(281), None),
            &Standing::MayEnrol,
            "4.15",
            "est.media-type-unsupported",
        ),
        (
            "empty",
            SimpleEnroll,
            post(SimpleEnroll, b""),
            &Standing::MayEnrol,
            "4.00",
            "est.body-empty",
        ),
        (
            "base64",
            SimpleEnroll,
            post(SimpleEnroll, &est::body::encode(&good)),
            &Standing::MayEnrol,
            "4.00",
            "csr.malformed",
        ),
        (
            "cut off",
            SimpleEnroll,
            post(SimpleEnroll, &good[..40]),
            &Standing::MayEnrol,
            "4.00",
            "csr.malformed",
        ),
        (
            "forged",
            SimpleEnroll,
            post(SimpleEnroll, &forged),
            &Standing::MayEnrol,
            "4.00",
            "csr.signature",
        ),
        (
            "renews without",
            SimpleReenroll,
            post(SimpleReenroll, &good),
            &Standing::MayEnrol,
            "4.03",
            "est.reenrol-certificate-missing",
        ),
        (
            "other names",
            SimpleReenroll,
            post(SimpleReenroll, &good),
            &member,
            "4.00",
            "est.reenrol-san-changed",
        ),
        (
            "anew",
            SimpleEnroll,
            post(SimpleEnroll, &good),
            &member,
            "4.03",
            "est.already-enrolled",
        ),
        (
            "attributes",
            CsrAttrs,
            get(CsrAttrs),
            &Standing::Known,
            "4.04",
            "",
        ),
        (
            "keygen",
            ServerKeyGen,
            post(ServerKeyGen, &good[..40]),
            &Standing::MayEnrol,
            "4.00",
            "csr.malformed",
        ),
    ];
    for (what, operation, request, standing, code, cause) in cases {
        let response = ask(operation, &request, standing, &policy(&[]), nothing);
        assert_eq!(response.code.to_string(), code, "{what}");
        let said = String::from_utf8(response.payload).unwrap();
        if !cause.starts_with("csr.") {
            assert_eq!(said, cause, "{what}");
        }
        assert_eq!(response.content_format, None, "{what}");
    }
    let off = Policy {
        server_keygen: false,
        ..policy(&[])
    };
    let response = ask(
        ServerKeyGen,
        &post(ServerKeyGen, &good),
        &Standing::MayEnrol,
        &off,
        nothing,
    );
    assert_eq!(response.code, Code::NOT_FOUND);
}

/// Requirements: ESC-040, ESC-041
#[test]
fn a_wait_is_5_03_with_max_age() {
    let key = support::key();
    let pending = Standing::Pending {
        retry_after: std::time::Duration::from_secs(90),
    };
    let request = post(Operation::SimpleEnroll, csr(key.as_ref()).der());
    let response = ask(
        Operation::SimpleEnroll,
        &request,
        &pending,
        &policy(&[]),
        nothing,
    );
    assert_eq!(
        (response.code, response.max_age),
        (Code::SERVICE_UNAVAILABLE, Some(90))
    );
    let trust = trust();
    let outcome = client::enrolled(&response, key.public_key(), &trust, None).unwrap();
    let after = std::time::Duration::from_secs(90);
    assert_eq!(outcome, client::Outcome::Wait { after });
}

fn trust() -> est::client::DomainTrust {
    let root = Ca::root("domain", datetime!(2036-01-01 0:00 UTC));
    trust_in(&root)
}

fn trust_in(root: &Ca) -> est::client::DomainTrust {
    est::client::DomainTrust {
        anchor: root.certificate.clone(),
        intermediates: Vec::new(),
        former_anchors: Vec::new(),
        ignored: Vec::new(),
    }
}

/// Requirements: CBR-086, ESC-027, ESC-031
#[test]
fn both_ends_understand_each_other() {
    let root = Ca::root("domain", datetime!(2036-01-01 0:00 UTC));
    let trust = trust_in(&root);
    let key = support::key();
    let certificate = root.issue("device", &[], key.as_ref());
    let request = csr(key.as_ref());
    for format in [format::PKCS7_CERTS_ONLY, format::PKIX_CERT] {
        let sent = client::enrol_request(None, Operation::SimpleEnroll, &request, format);
        let response = ask(
            Operation::SimpleEnroll,
            &sent,
            &Standing::MayEnrol,
            &policy(&[]),
            |_| Answer::certificate(&certificate).unwrap(),
        );
        assert_eq!(response.content_format, Some(format));
        let outcome = client::enrolled(&response, key.public_key(), &trust, None).unwrap();
        let client::Outcome::Done(enrolled) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(enrolled.certificate, certificate);
    }
    let der = key.to_pkcs8_der().unwrap();
    for (operation, second) in [
        (Operation::ServerKeyGen, format::PKCS7_CERTS_ONLY),
        (Operation::ServerKeyGenCertificate, format::PKIX_CERT),
    ] {
        let sent = client::enrol_request(None, operation, &request, 0);
        let response = ask(operation, &sent, &Standing::MayEnrol, &policy(&[]), |_| {
            Answer::key_and_certificate(&der, &certificate).unwrap()
        });
        let parts = multipart::read(&response.payload).unwrap();
        assert_eq!((parts[0].0, parts[1].0), (format::PKCS8, second));
        let outcome = client::generated(&response, &trust, None).unwrap();
        let client::Outcome::Done(generated) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(generated.enrolled.certificate, certificate);
    }
    let no = Response::diagnostic(Code::FORBIDDEN, "est.already-enrolled");
    let error = client::enrolled(&no, key.public_key(), &trust, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 4.03: est.already-enrolled"
    );
}

/// A device that names the key under which the new one is to be encrypted, which nobody has.
///
/// Requirements: ESC-046
#[test]
fn a_key_that_was_to_be_encrypted_is_never_sent_bare() {
    let key = support::key();
    for attribute in [
        oids::DECRYPT_KEY_IDENTIFIER,
        oids::ASYMMETRIC_DECRYPT_KEY_IDENTIFIER,
    ] {
        let attribute = pki::csr::CsrAttribute {
            id: attribute,
            values: vec![vec![4, 1, 7]],
        };
        let csr = CsrBuilder::new("CN=device".parse::<Name>().unwrap())
            .attribute(attribute)
            .sign(key.as_ref())
            .unwrap();
        for operation in [Operation::ServerKeyGen, Operation::ServerKeyGenCertificate] {
            let response = ask(
                operation,
                &post(operation, csr.der()),
                &Standing::MayEnrol,
                &policy(&[]),
                nothing,
            );
            assert_eq!(response.code, Code::BAD_REQUEST);
            assert_eq!(response.payload, b"est.decrypt-key-unknown");
        }
    }
}

/// Requirements: ESC-053, ESC-063
#[test]
fn numbers_are_those_of_the_registry_and_of_the_examples() {
    for (number, name) in [
        (format::PKCS7_SERVER_GENERATED_KEY, 280),
        (format::PKCS7_CERTS_ONLY, 281),
        (format::PKCS8, 284),
        (format::CSR_ATTRS, 285),
        (format::PKCS10, 286),
        (format::PKIX_CERT, 287),
        (format::MULTIPART_CORE, 62),
        (format::VOUCHER_COSE, 836),
    ] {
        assert_eq!(number, name);
    }
    // RFC 9148 appendix B.1.
    for (octet, number, more) in [(0x0a, 0, true), (0x1a, 1, true), (0x92, 9, false)] {
        let block = coap::Block::decode(&[octet]).unwrap();
        assert_eq!(
            (block.number(), block.more(), block.size()),
            (number, more, 64)
        );
    }
}

/// Requirements: ESC-034, ESC-059
#[test]
fn no_length_in_a_request_leads_astray() {
    let key = support::key();
    let good = csr(key.as_ref()).der().to_vec();
    for at in 0..good.len() {
        for octet in [0x00, 0x7f, 0x80, 0x84, 0xff] {
            let mut bad = good.clone();
            bad[at] = octet;
            if bad == good {
                continue;
            }
            let response = ask(
                Operation::SimpleEnroll,
                &post(Operation::SimpleEnroll, &bad),
                &Standing::MayEnrol,
                &policy(&[]),
                nothing,
            );
            assert_eq!(response.code, Code::BAD_REQUEST, "octet {at}: {octet:02x}");
        }
        let response = ask(
            Operation::SimpleEnroll,
            &post(Operation::SimpleEnroll, &good[..at]),
            &Standing::MayEnrol,
            &policy(&[]),
            nothing,
        );
        assert_eq!(response.code, Code::BAD_REQUEST, "cut off at {at}");
    }
}
