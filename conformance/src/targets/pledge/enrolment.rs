//! The device as a client of EST.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::csr::Csr;

use super::{
    Pledge, Run, Scene,
    scene::{World, cacerts, certificate_for, csr_of, csrattrs, enrolled_with, status_of},
};
use crate::{
    case::Case,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{cms::certs_only, der, key::Key},
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Came, Tls},
};

const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P384: &str = "1.3.132.0.34";
const P256: &str = "1.2.840.10045.3.1.7";
const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
const EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";
const CHALLENGE_PASSWORD: &str = "1.2.840.113549.1.9.7";
const ALT_NAME: &str = "2.5.29.17";
const TEMPLATE: &str = "1.2.840.113549.1.9.16.2.61";

type Answer = fn(&World, &Came, &[Came]) -> Action;

/// Answers that are unusual and right.
const GOOD: &[(&str, &str, &[&str], &str, Answer)] = &[
    (
        "rfc7030-4.1.3/order",
        "cacerts in another order, with another root among them, hinders nothing",
        &["EST-3.1-02", "EST-4.1.3-06"],
        "cacerts",
        |world, _, _| {
            let other = Key::generate().map(|key| {
                crate::forge::x509::Authority::root("Conformance Domain", "Old CA", key, world.at)
            });
            let mut bag = vec![world.domain.certificate().to_vec()];
            bag.extend(other.map(|other| other.certificate().to_vec()));
            bag.reverse();
            base64_of("application/pkcs7-mime", &unsorted(&bag), "\n")
        },
    ),
    (
        "rfc8951-3.1/one-line",
        "base64 in one line is read",
        &["EST8951-3.1-02", "EST8951-3.1-01"],
        "cacerts",
        |world, _, _| {
            base64_of(
                "application/pkcs7-mime",
                &certs_only(&[world.domain.certificate().to_vec()]),
                "",
            )
        },
    ),
    (
        "rfc8951-3.1/crlf",
        "base64 with CR LF is read",
        &["EST8951-3.1-01"],
        "cacerts",
        |world, _, _| {
            base64_of(
                "application/pkcs7-mime",
                &certs_only(&[world.domain.certificate().to_vec()]),
                "\r\n",
            )
        },
    ),
    (
        "rfc8951-3.1/tabs",
        "base64 with tabs and spaces is read",
        &["EST8951-3.1-01"],
        "cacerts",
        |world, _, _| {
            base64_of(
                "application/pkcs7-mime",
                &certs_only(&[world.domain.certificate().to_vec()]),
                " \t",
            )
        },
    ),
    (
        "rfc8951-3/no-transfer-encoding",
        "an answer without Content-Transfer-Encoding is read",
        &["EST8951-3-02", "BRSKI-6-03"],
        "cacerts",
        |world, _, _| {
            let body = STANDARD.encode(certs_only(&[world.domain.certificate().to_vec()]));
            Reply::new(200, "application/pkcs7-mime", body).into()
        },
    ),
    (
        "rfc8951-3/transfer-encoding-7bit",
        "Content-Transfer-Encoding: 7bit changes nothing",
        &["EST8951-3-02", "BRSKI-6-03"],
        "simpleenroll",
        |world, came, _| match world.issue(&came.body) {
            Ok(certificate) => Reply::new(
                200,
                "application/pkcs7-mime; smime-type=certs-only",
                STANDARD.encode(certs_only(&[certificate])),
            )
            .header("Content-Transfer-Encoding", "7bit")
            .into(),
            Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
        },
    ),
    (
        "rfc7030-4.5.2/csrattrs-204",
        "csrattrs that are answered 204 hinder nothing",
        &["EST-4.5.2-02"],
        "csrattrs",
        |_, _, _| Reply::bare(204).into(),
    ),
    (
        "rfc7030-4.5.2/csrattrs-404",
        "csrattrs that are answered 404 hinder nothing",
        &["EST-4.5.2-02"],
        "csrattrs",
        |_, _, _| Reply::bare(404).into(),
    ),
    (
        "rfc7030-4.5.2/csrattrs-unknown",
        "attributes that nobody knows are ignored",
        &["EST-4.5.2-03"],
        "csrattrs",
        |_, _, _| {
            csrattrs(&[
                der::oid("1.3.6.1.4.1.32473.7"),
                der::seq(&[
                    der::oid("1.3.6.1.4.1.32473.8"),
                    der::set(&[der::utf8("value"), der::int(3)]),
                ]),
            ])
            .into()
        },
    ),
    (
        "rfc7030-4.2.3/more-certificates",
        "more certificates than the one that was asked for hinder nothing",
        &["EST-4.2.3-03"],
        "simpleenroll",
        |world, came, _| match world.issue(&came.body) {
            Ok(certificate) => base64_of(
                "application/pkcs7-mime; smime-type=certs-only",
                &unsorted(&[
                    world.domain.certificate().to_vec(),
                    world.registrar.certificate().to_vec(),
                    certificate,
                ]),
                "",
            ),
            Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
        },
    ),
    (
        "rfc7030-4.2.3/later",
        "after 202 the device asks for its certificate again",
        &["EST-4.2.3-06"],
        "simpleenroll",
        |world, came, history| {
            let count = history
                .iter()
                .filter(|came| came.operation() == "simpleenroll")
                .count();
            if count < 2 {
                return Reply::bare(202).header("Retry-After", "3").into();
            }
            match world.issue(&came.body) {
                Ok(certificate) => enrolled_with(&[certificate]).into(),
                Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
            }
        },
    ),
    (
        "rfc7030-4.1.3/no-charset",
        "media types in upper case with parameters are read",
        &["EST-3.1-02"],
        "cacerts",
        |world, _, _| {
            let mut reply = cacerts(world);
            for (name, value) in &mut reply.headers {
                if name == "Content-Type" {
                    *value = "Application/PKCS7-MIME; smime-type=certs-only".into();
                }
            }
            reply.into()
        },
    ),
];

/// Answers after which there may be no success.
const BAD: &[(&str, &str, &[&str], &str, Answer)] = &[
    (
        "rfc7030-4.2.3/garbage",
        "a certificate that is garbage",
        &["BRSKI-5.9.4-03", "EST-3.1-01"],
        "simpleenroll",
        |_, _, _| Reply::new(200, "application/pkcs7-mime", "Z2FyYmFnZQ==").into(),
    ),
    (
        "rfc7030-4.2.3/empty",
        "an empty answer to simpleenroll",
        &["BRSKI-5.9.4-03", "EST-3.1-01"],
        "simpleenroll",
        |_, _, _| Reply::new(200, "application/pkcs7-mime", "").into(),
    ),
    (
        "rfc7030-4.2.3/empty-bag",
        "an answer to simpleenroll without a certificate",
        &["BRSKI-5.9.4-03", "EST-3.1-01"],
        "simpleenroll",
        |_, _, _| enrolled_with(&[]).into(),
    ),
    (
        "rfc7030-4.2.3/stranger",
        "a certificate that somebody else's CA issued",
        &["EST-4.1.3-07"],
        "simpleenroll",
        |world, came, _| {
            let made = || -> Result<Vec<u8>, Finding> {
                let csr = csr_of(&came.body)?;
                let key = Key::generate().or_could_not_test("a key")?;
                let stranger =
                    crate::forge::x509::Authority::root("Somebody Else", "Their CA", key, world.at);
                let spki = csr
                    .public_key()
                    .and_then(|key| key.public_key_to_der())
                    .or_could_not_test("a key")?;
                let subject = csr.subject_name().to_der().or_could_not_test("a name")?;
                Ok(certificate_for(&stranger, &subject, &spki, world.at))
            };
            match made() {
                Ok(certificate) => enrolled_with(&[certificate]).into(),
                Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
            }
        },
    ),
    (
        "rfc7030-4.2.3/403",
        "simpleenroll that is answered 403",
        &["BRSKI-5.9.4-03"],
        "simpleenroll",
        |_, _, _| Reply::bare(403).into(),
    ),
    (
        "rfc7030-4.2.3/500",
        "simpleenroll that is answered 500",
        &["BRSKI-5.9.4-03"],
        "simpleenroll",
        |_, _, _| Reply::bare(500).into(),
    ),
    (
        "rfc7030-4.1.3/cacerts-204",
        "cacerts that are answered 204",
        &["EST-4.1.3-02"],
        "cacerts",
        |_, _, _| Reply::bare(204).into(),
    ),
    (
        "rfc7030-4.1.3/cacerts-404",
        "cacerts that are answered 404",
        &["EST-4.1.3-02"],
        "cacerts",
        |_, _, _| Reply::bare(404).into(),
    ),
    (
        "rfc7030-4.1.3/cacerts-garbage",
        "cacerts that are garbage",
        &["EST-4.1.3-02", "EST-3.1-02"],
        "cacerts",
        |_, _, _| Reply::new(200, "application/pkcs7-mime", "????").into(),
    ),
];

fn base64_of(media_type: &str, der: &[u8], between: &str) -> Action {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let lines: Vec<String> = text
        .as_bytes()
        .chunks(LINE)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    Reply::new(200, media_type, lines.join(between))
        .header("Content-Transfer-Encoding", "base64")
        .into()
}

/// A certs-only message whose certificates are in the order given: BER, as RFC 5652 allows.
fn unsorted(certificates: &[Vec<u8>]) -> Vec<u8> {
    crate::forge::cms::content_info(&der::seq(&[
        der::int(1),
        der::set(&[]),
        der::seq(&[der::oid(crate::forge::cms::DATA)]),
        der::explicit(0, &certificates.concat()),
        der::set(&[]),
    ]))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(id, title, requirements, operation, answer) in GOOD {
        cases.push(
            Case::new(
                format!("pledge/{id}"),
                title,
                requirements,
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let scene = Scene::new(&kit, Envelope::Cms)?.on(operation, answer);
                    let run = kit.play(&record, scene).await?;
                    run.enrolled(title)?;
                    waited(&run)
                },
            )
            .needs(&["cms"]),
        );
    }
    for &(id, title, requirements, operation, answer) in BAD {
        cases.push(
            Case::new(
                format!("pledge/{id}"),
                format!("after {title} no success is reported"),
                requirements,
                move |kit: Arc<Pledge>, record: Recorder| async move {
                    let scene = Scene::new(&kit, Envelope::Cms)?.on(operation, answer);
                    let run = kit.play(&record, scene).await?;
                    run.came(operation)?;
                    must(
                        !run.seen
                            .all("enrollstatus")
                            .iter()
                            .any(|came| status_of(came) == Some(true)),
                        format!("after {title} the device reported success"),
                    )?;
                    must(
                        operation != "cacerts" || run.seen.first("simpleenroll").is_none(),
                        format!("after {title} the device went on to simpleenroll"),
                    )
                },
            )
            .tags(&["hostile"])
            .needs(&["cms"]),
        );
    }
    cases.extend([
        attributes("rfc9908-3.2/curve", "a request for a certificate has the curve that csrattrs demands", &["CSRATTRS-3.2-05"], &["csrattrs-keys"], || {
            vec![der::seq(&[der::oid(EC_PUBLIC_KEY), der::set(&[der::oid(P384)])])]
        }, |_, csr| curve_of(csr, openssl::nid::Nid::SECP384R1)),
        attributes("rfc9908-3.2/signature", "a request for a certificate is signed as csrattrs demands", &["CSRATTRS-3.2-07", "CSRATTRS-3.2-05"], &["csrattrs-keys"], || {
            vec![der::seq(&[der::oid(EC_PUBLIC_KEY), der::set(&[der::oid(P384)])]), der::oid(ECDSA_SHA384)]
        }, |_, csr| {
            let der = csr.to_der().or_could_not_test("the request")?;
            let wanted = der::oid(ECDSA_SHA384);
            must(der.windows(wanted.len()).any(|part| part == wanted), "it is signed otherwise")
        }),
        attributes("rfc9908-3.2/extension", "a request for a certificate has the extension that csrattrs gives", &["CSRATTRS-3.2-06"], &["csrattrs-keys"], || vec![extensions()], |_, csr| {
            let ours = Csr::from_der(&csr.to_der().or_could_not_test("the request")?).or_could_not_test("the request")?;
            let found = ours.subject_alt_name_der().or_could_not_test("the request")?;
            must(found == Some(alt_name()), "subjectAltName is missing or another")
        }),
        attributes("rfc9908-3.4/template", "a request for a certificate follows the template alone", &["CSRATTRS-3.4-01", "CSRATTRS-3.2-05"], &["csrattrs-template"], || {
            let template = der::seq(&[
                der::int(0),
                der::explicit(0, &der::seq(&[der::oid(EC_PUBLIC_KEY), der::oid(P384)])),
                der::explicit(1, &[]),
            ]);
            vec![
                der::seq(&[der::oid(EC_PUBLIC_KEY), der::set(&[der::oid(P256)])]),
                der::seq(&[der::oid(TEMPLATE), der::set(&[template])]),
            ]
        }, |_, csr| curve_of(csr, openssl::nid::Nid::SECP384R1)),
        Case::new("pledge/rfc7030-3.5/tls-unique", "in TLS 1.2 challengePassword is tls-unique when csrattrs asks for it", &["EST-3.5-01"], |kit: Arc<Pledge>, record: Recorder| async move {
            let version = openssl::ssl::SslVersion::TLS1_2;
            let scene = Scene::new(&kit, Envelope::Cms)?
                .with(|scene| scene.tls = scene.tls.clone().versions(version, version))
                .on("csrattrs", |_, _, _| csrattrs(&[der::oid(CHALLENGE_PASSWORD)]).into());
            let run = kit.play(&record, scene).await?;
            let came = run.came("simpleenroll")?;
            let wanted = STANDARD.encode(&came.tls_unique);
            let found = challenge(came)?;
            must(found.as_deref() == Some(wanted.as_str()), format!("challengePassword is {found:?} and not {wanted}"))
        }).needs(&["cms", "channel-binding"]).tags(&["tls"]),
        Case::new("pledge/rfc7030-3.5/tls-1.3", "a demand for challengePassword does not hinder an enrolment over TLS 1.3", &["EST-3.5-04"], |kit: Arc<Pledge>, record: Recorder| async move {
            let version = openssl::ssl::SslVersion::TLS1_3;
            let scene = Scene::new(&kit, Envelope::Cms)?
                .with(|scene| scene.tls = scene.tls.clone().versions(version, version))
                .on("csrattrs", |_, _, _| csrattrs(&[der::oid(CHALLENGE_PASSWORD)]).into());
            kit.play(&record, scene).await?.enrolled("challengePassword over TLS 1.3")
        }).needs(&["cms"]).tags(&["tls"]),
        Case::new("pledge/rfc7030-3.2.3/no-password", "a registrar that demands HTTP authentication before the voucher gets none", &["EST-3.2.3-03", "EST-4.1.1-02"], |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?.voucher(|_| {
                Reply::bare(401).header("WWW-Authenticate", "Basic realm=\"registrar\"").into()
            });
            let run = kit.play(&record, scene).await?;
            run.came("requestvoucher")?;
            must(run.seen.requests.iter().all(|came| came.header("authorization").is_none()), "the device sent a password to a registrar that it does not know")?;
            run.refused("a demand for a password")
        }).tags(&["hostile"]).needs(&["cms"]),
        Case::new("pledge/rfc7030-3.2.3/digest", "an enrolment that demands an authentication which the device has not ends there", &["EST-3.2.3-02"], |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?.on("simpleenroll", |_, _, _| {
                Reply::bare(401).header("WWW-Authenticate", "Digest realm=\"est\", nonce=\"1\"").into()
            });
            let run = kit.play(&record, scene).await?;
            run.came("simpleenroll")?;
            must(!run.seen.all("enrollstatus").iter().any(|came| status_of(came) == Some(true)), "the device reported success")
        }).needs(&["cms"]),
        Case::new("pledge/rfc7030-3.2.1/redirect", "an enrolment is not sent on to another origin", &["EST-3.2.1-02", "EST-3.2.1-03"], |kit: Arc<Pledge>, record: Recorder| async move {
            let elsewhere = Tls::new(&kit.registrar_of(&kit.stranger)?);
            let scene = Scene::new(&kit, Envelope::Cms)?
                .on("simpleenroll", |world, _, _| Reply::bare(307).header("Location", world.url(1, "/.well-known/est/simpleenroll")).into())
                .with(|scene| scene.others.push((elsewhere, |_| Arc::new(|_, _| Reply::bare(200).into()))));
            let run = kit.play(&record, scene).await?;
            run.came("simpleenroll")?;
            let other = run.others.first().ok_or_else(|| Finding::could_not_test("there is no other server"))?;
            must(other.requests.is_empty(), "the request for a certificate went to another origin whose certificate nobody pinned")
        }).tags(&["hostile"]).needs(&["cms"]),
        Case::new("pledge/rfc7030-4.2.3/wait", "after 202 the device waits as long as Retry-After says", &["EST-4.2.3-06"], |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?.on("simpleenroll", |world, came, history| {
                if history.iter().filter(|came| came.operation() == "simpleenroll").count() < 2 {
                    return Reply::bare(202).header("Retry-After", "4").into();
                }
                match world.issue(&came.body) {
                    Ok(certificate) => enrolled_with(&[certificate]).into(),
                    Err(finding) => Reply::new(400, "text/plain", finding.why).into(),
                }
            });
            let run = kit.play(&record, scene).await?;
            let [first, second, ..] = *run.seen.all("simpleenroll") else {
                return Err(Finding::fail("the device did not come again"));
            };
            let waited = second.at.duration_since(first.at);
            must(waited.as_millis() >= 3900, format!("it came again after {} ms", waited.as_millis()))
        }).needs(&["cms"]),
    ]);
    cases
}

/// subjectAltName with a name that nobody would choose.
fn alt_name() -> Vec<u8> {
    der::seq(&[der::implicit(2, b"conformance.example")])
}

fn extensions() -> Vec<u8> {
    let extension = der::seq(&[der::oid(ALT_NAME), der::octets(&alt_name())]);
    der::seq(&[
        der::oid(EXTENSION_REQUEST),
        der::set(&[der::seq(&[extension])]),
    ])
}

fn curve_of(csr: &openssl::x509::X509Req, wanted: openssl::nid::Nid) -> Told {
    let found = csr
        .public_key()
        .and_then(|key| key.ec_key())
        .ok()
        .and_then(|key| key.group().curve_name());
    must(found == Some(wanted), format!("its curve is {found:?}"))
}

fn challenge(came: &Came) -> Result<Option<String>, Finding> {
    let der = csr_of(&came.body)?
        .to_der()
        .or_could_not_test("the request")?;
    Csr::from_der(&der)
        .and_then(|csr| csr.challenge_password())
        .or_could_not_test("the request")
}

fn attributes(
    id: &str,
    title: &str,
    requirements: &[&str],
    needs: &[&'static str],
    make: fn() -> Vec<Vec<u8>>,
    judge: fn(&Run, &openssl::x509::X509Req) -> Told,
) -> Case {
    Case::new(
        format!("pledge/{id}"),
        title,
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?
                .on("csrattrs", move |_, _, _| csrattrs(&make()).into());
            let run = kit.play(&record, scene).await?;
            let csr = csr_of(&run.came("simpleenroll")?.body)?;
            judge(&run, &csr)?;
            run.enrolled("csrattrs")
        },
    )
    .needs(&["cms"])
    .needs(needs)
}

/// Where there was a 202, the same request came again.
fn waited(run: &Run) -> Told {
    match run.seen.all("simpleenroll").as_slice() {
        [first, second, ..] => must(
            first.body == second.body || csr_of(&second.body).is_ok(),
            "the second request is no request for a certificate",
        ),
        _ => Ok(()),
    }
}
