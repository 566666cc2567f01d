//! RESTCONF as a device speaks it, errors of servers, and certification requests (RFC 9646).

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Asking, Run, Scene, SztpDevice, scene::input_of, unsigned_configuration};
use crate::{
    case::Case,
    evidence::Recorder,
    fake_masa::Reply,
    forge::{
        der,
        sztp::{YANG_JSON, base64},
    },
    outcome::{Finding, OrCouldNotTest as _, Told, must},
    stage::{Action, Came},
};

type Answer = fn(&Asking<'_>) -> Action;

/// Answers of a trusted server that are of no use. The device has to live on.
const USELESS: &[(&str, &str, &[&str], Answer)] = &[
    ("rfc8040-7/401", "401", &["SZTP-8572-5.3-15"], |asking| {
        asking.error(401, "access-denied", None)
    }),
    ("rfc8040-7/404", "404", &["SZTP-8572-5.3-15"], |asking| {
        asking.error(404, "invalid-value", None)
    }),
    ("rfc8040-7/500", "500", &["SZTP-8572-5.3-15"], |asking| {
        asking.error(500, "operation-failed", None)
    }),
    (
        "rfc8040-3.6.2/204",
        "204",
        &["SZTP-8572-7.3-08", "SZTP-8040-3.6.2-01"],
        |_| Reply::bare(204).into(),
    ),
    (
        "rfc8040-3.6.2/empty",
        "an empty body",
        &["SZTP-8572-7.3-08"],
        |_| Reply::new(200, YANG_JSON, "").into(),
    ),
    (
        "rfc8040-3.6.2/empty-output",
        "an output without conveyed-information",
        &["SZTP-8572-7.3-08"],
        |_| Reply::new(200, YANG_JSON, "{\"ietf-sztp-bootstrap-server:output\":{}}").into(),
    ),
    (
        "rfc8040-3.6.2/html",
        "a page of HTML",
        &["SZTP-8040-3.6.2-01"],
        |_| Reply::new(200, "text/html", "<html><body>welcome</body></html>").into(),
    ),
    (
        "rfc7951-6.6/base64url",
        "conveyed-information in base64url",
        &["SZTP-7951-6.6-01", "SZTP-7950-9.8.2-01"],
        |asking| {
            use base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let text = URL_SAFE_NO_PAD.encode(crate::forge::sztp::unsigned_json(
                &crate::forge::sztp::onboarding(asking.image()),
            ));
            let text = if text.contains(['-', '_']) || !text.len().is_multiple_of(4) {
                text
            } else {
                format!("{text}_")
            };
            Reply::new(
                200,
                YANG_JSON,
                json!({ "ietf-sztp-bootstrap-server:output": { "conveyed-information": text } })
                    .to_string(),
            )
            .into()
        },
    ),
    (
        "rfc7951-7/duplicate-output",
        "an output with conveyed-information twice",
        &["SZTP-7951-7-01"],
        |asking| {
            let text = base64(&crate::forge::sztp::unsigned_json(
                &crate::forge::sztp::onboarding(asking.image()),
            ));
            Reply::new(200, YANG_JSON, format!("{{\"ietf-sztp-bootstrap-server:output\":{{\"conveyed-information\":\"{text}\",\"conveyed-information\":\"{text}\"}}}}")).into()
        },
    ),
    (
        "rfc7951-4/wrapper",
        "an output in another module's namespace",
        &["SZTP-7951-4-01", "SZTP-8040-3.6.2-01"],
        |asking| {
            let text = base64(&crate::forge::sztp::unsigned_json(
                &crate::forge::sztp::onboarding(asking.image()),
            ));
            Reply::new(
                200,
                YANG_JSON,
                json!({ "ietf-restconf:output": { "conveyed-information": text } }).to_string(),
            )
            .into()
        },
    ),
    (
        "rfc8040-5.4/raw-garbage",
        "octets that are no HTTP",
        &["SZTP-8572-5.3-15"],
        |_| Action::Raw(b"\x00\xff garbage\r\n\r\n".to_vec()),
    ),
    (
        "rfc8040-5.4/raw-cut",
        "an answer that ends in the middle",
        &["SZTP-8572-5.3-15"],
        |_| {
            Action::Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/yang-data+json\r\nContent-Length: 5000\r\n\r\n{".to_vec())
        },
    ),
    (
        "rfc8040-5.4/raw-huge",
        "an answer that says that it is four thousand million octets long",
        &["SZTP-8572-5.3-15"],
        |_| {
            Action::Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/yang-data+json\r\nContent-Length: 4000000000\r\n\r\n{".to_vec())
        },
    ),
    (
        "rfc8040-5.4/closed",
        "a connection that is closed",
        &["SZTP-8572-5.3-15"],
        |_| Action::Close,
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(id, title, requirements, answer) in USELESS {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                format!("{title} from a trusted server bootstraps nothing"),
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    let run = kit.play(&record, Scene::trusted(&kit, answer)?).await?;
                    run.refused(title)
                },
            )
            .tags(&["hostile"]),
        );
    }
    cases.extend([
        Case::new("sztp-device/rfc8040-3.1/root", "the root that host-meta names is used", &["SZTP-8040-3.1-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, unsigned_configuration)?.with(|scene| scene.world.root = "/sztp/rc");
            let run = kit.play(&record, scene).await?;
            let came = run.call()?;
            must(came.path.starts_with("/sztp/rc/operations/"), format!("the device called {}", came.path))?;
            must(run.reports(0)?.iter().any(|kind| kind == "bootstrap-complete"), "the device did not come to an end")
        }),
        Case::new("sztp-device/rfc9646-4.1.4/no-csr-untrusted", "an untrusted server that demands a certification request gets none", &["SZTP-9646-4.1.4-01", "SZTP-9646-4.1.4-02"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::untrusted(&kit, |asking| wanted(asking, None))?;
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let given = run.server(0)?.requests.iter().any(|came| ["p10-csr", "cmc-csr", "cmp-csr"].iter().any(|name| input_of(came, name).is_some()));
            must(!given, "the device gave one")
        }).tags(&["hostile"]),
        csr("rfc9646-3.2/support", "csr-support names a format at least", &["SZTP-9646-3.2-01", "SZTP-9646-2.1-01", "SZTP-9646-3.2-02", "SZTP-9646-3.2-07"], |_, run| {
            let input = json_input(run.call()?)?;
            let support = input.get("ietf-sztp-csr:csr-support").ok_or_else(|| Finding::fail("ietf-sztp-csr:csr-support is missing"))?;
            let formats = support.pointer("/csr-generation/supported-formats/format-identifier").and_then(Value::as_array);
            let known = ["ietf-ztp-types:p10-csr", "ietf-ztp-types:cmc-csr", "ietf-ztp-types:cmp-csr"];
            must(formats.is_some_and(|formats| !formats.is_empty() && formats.iter().all(|format| format.as_str().is_some_and(|format| known.contains(&format)))), format!("the formats are {formats:?}"))?;
            for algorithm in algorithms(&input) {
                let octets = STANDARD.decode(&algorithm).map_err(|error| Finding::fail(format!("an algorithm-identifier: {error}")))?;
                must(octets.first() == Some(&0x30), "an algorithm-identifier is no DER SEQUENCE")?;
            }
            Ok(())
        }),
        csr("rfc9646-2.2/p10", "a certification request comes when it is asked for, in DER, and its signature holds", &["SZTP-9646-2.2-01", "SZTP-9646-3.2-13", "SZTP-9640-2-01", "SZTP-8791-2-01"], |_, run| {
            let requests = requests_of(run)?;
            let first = requests.first().ok_or_else(|| Finding::fail("there is no certification request"))?;
            let key = first.public_key().or_could_not_test("the key")?;
            let der = first.to_der().or_could_not_test("the request")?;
            let ours = pki::csr::Csr::from_der(&der).and_then(|csr| csr.verify());
            let theirs = first.verify(&key).unwrap_or(false);
            crate::oracle::both(ours.is_ok(), theirs, "its signature does not hold")
        }),
        csr("rfc9646-2.1/one-of", "csr-support and a certification request do not come together", &["SZTP-9646-2.1-02", "SZTP-9646-2.1-03"], |_, run| {
            run.call()?;
            for came in run.server(0)?.all("get-bootstrapping-data") {
                let count = ["csr-support", "p10-csr", "cmc-csr", "cmp-csr"].iter().filter(|name| input_of(came, name).is_some()).count();
                must(count <= 1, format!("{count} of them came at once"))?;
            }
            Ok(())
        }),
        csr("rfc9646-3.2/subject", "without cert-req-info the certification request has the subject of the IDevID", &["SZTP-9646-3.2-11"], |_, run| {
            let requests = requests_of(run)?;
            let first = requests.first().ok_or_else(|| Finding::fail("there is no certification request"))?;
            let idevid = run.call()?.client.first().and_then(|der| openssl::x509::X509::from_der(der).ok()).ok_or_else(|| Finding::could_not_test("there is no IDevID"))?;
            let same = first.subject_name().try_cmp(idevid.subject_name()).or_could_not_test("the names")? == std::cmp::Ordering::Equal;
            must(same, "the subject is another")
        }),
        Case::new("sztp-device/rfc9646-2.3/new-key", "a further csr-request brings a request with a new key", &["SZTP-9646-2.3-04", "SZTP-9646-4.1.3-01", "SZTP-9646-4.1.2-01"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| if asking.count < 2 { wanted(asking, first_algorithm(asking.came)) } else { asking.unsigned_configuration() })?;
            let run = kit.play(&record, scene).await?;
            let requests = requests_of(&run)?;
            let [first, second, ..] = requests.as_slice() else {
                return Err(Finding::fail(format!("there are {} certification requests", requests.len())));
            };
            let (first, second) = (first.public_key().or_could_not_test("a key")?, second.public_key().or_could_not_test("a key")?);
            must(!first.public_eq(&second), "the second request has the key of the first")
        }).needs(&["csr"]),
        Case::new("sztp-device/rfc9646-3.2/cert-req-info", "cert-req-info is used as it stands", &["SZTP-9646-3.2-09"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| {
                if asking.count > 0 { return asking.unsigned_configuration(); }
                let mut info = request(first_algorithm(asking.came).as_deref());
                let subject = crate::forge::x509::name("Conformance Owner", "as the server says", None);
                let spki = der::seq(&[der::seq(&[der::oid("1.2.840.10045.2.1"), der::oid("1.2.840.10045.3.1.7")]), der::bits(&[])]);
                let template = der::seq(&[der::int(0), subject, spki, der::tlv(0xa0, &[])]);
                info["ietf-sztp-csr:csr-request"]["cert-req-info"] = base64(&template).into();
                asking.error(400, "missing-attribute", Some(info))
            })?;
            let run = kit.play(&record, scene).await?;
            let requests = requests_of(&run)?;
            let first = requests.first().ok_or_else(|| Finding::fail("there is no certification request"))?;
            let wanted = crate::forge::x509::name("Conformance Owner", "as the server says", None);
            must(first.subject_name().to_der().or_could_not_test("the name")? == wanted, "the subject is another than cert-req-info has")
        }).needs(&["csr"]),
        Case::new("sztp-device/rfc9646-3.2/unknown-format", "a csr-request with a format that nobody knows is not answered with a request", &["SZTP-9646-3.2-08"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| {
                let mut info = request(first_algorithm(asking.came).as_deref());
                info["ietf-sztp-csr:csr-request"]["csr-generation"]["selected-format"]["format-identifier"] = "ietf-ztp-types:smoke-signals".into();
                asking.error(400, "missing-attribute", Some(info))
            })?;
            let run = kit.play(&record, scene).await?;
            run.call()?;
            must(requests_of(&run)?.is_empty(), "the device sent a certification request")
        }).tags(&["hostile"]).needs(&["csr"]),
        Case::new("sztp-device/rfc9646-4.1.3/other-certificate", "a certificate for another key is not taken for the device's", &["SZTP-9646-4.1.3-02"], |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| if asking.count == 0 { wanted(asking, first_algorithm(asking.came)) } else { asking.unsigned_configuration() })?;
            let run = kit.play(&record, scene).await?;
            run.call()?;
            let reports = run.reports(0)?;
            must(reports.iter().any(|kind| kind.ends_with("-warning") || kind.ends_with("-error")), format!("the device reported {reports:?} though the configuration holds no certificate for its request"))
        }).needs(&["csr"]),
    ]);
    cases
}

/// The input of a call in JSON.
fn json_input(came: &Came) -> Result<Value, Finding> {
    let value: Value = serde_json::from_slice(&came.body)
        .map_err(|_| Finding::not_applicable("the device speaks XML"))?;
    value
        .get("ietf-sztp-bootstrap-server:input")
        .cloned()
        .ok_or_else(|| Finding::fail("there is no input"))
}

fn algorithms(input: &Value) -> Vec<String> {
    input
        .pointer(
            "/ietf-sztp-csr:csr-support/key-generation/supported-algorithms/algorithm-identifier",
        )
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

/// The first algorithm that the device offers.
fn first_algorithm(came: &Came) -> Option<String> {
    algorithms(&json_input(came).ok()?).into_iter().next()
}

/// csr-request for a PKCS#10.
fn request(algorithm: Option<&str>) -> Value {
    let mut request = json!({
        "csr-generation": { "selected-format": { "format-identifier": "ietf-ztp-types:p10-csr" } },
    });
    if let Some(algorithm) = algorithm {
        request["key-generation"] =
            json!({ "selected-algorithm": { "algorithm-identifier": algorithm } });
    }
    json!({ "ietf-sztp-csr:csr-request": request })
}

fn wanted(asking: &Asking<'_>, algorithm: Option<String>) -> Action {
    // A second request has no csr-support to choose from; the curve is the usual one then.
    let fallback = || {
        base64(&der::seq(&[
            der::oid("1.2.840.10045.2.1"),
            der::oid("1.2.840.10045.3.1.7"),
        ]))
    };
    let algorithm = algorithm.or_else(|| (asking.count > 0).then(fallback));
    asking.error(
        400,
        "missing-attribute",
        Some(request(algorithm.as_deref())),
    )
}

/// The certification requests of a run.
fn requests_of(run: &Run) -> Result<Vec<openssl::x509::X509Req>, Finding> {
    run.call()?;
    let mut found = Vec::new();
    for came in run.server(0)?.all("get-bootstrapping-data") {
        if let Some(text) = input_of(came, "p10-csr") {
            let der = STANDARD
                .decode(&text)
                .map_err(|error| Finding::fail(format!("p10-csr: {error}")))?;
            found.push(
                openssl::x509::X509Req::from_der(&der)
                    .map_err(|error| Finding::fail(format!("p10-csr: {error}")))?,
            );
        }
    }
    Ok(found)
}

/// A trusted server that asks for a certification request.
fn csr(id: &str, title: &str, requirements: &[&str], look: fn(&SztpDevice, &Run) -> Told) -> Case {
    Case::new(
        format!("sztp-device/{id}"),
        title,
        requirements,
        move |kit: Arc<SztpDevice>, record: Recorder| async move {
            let scene = Scene::trusted(&kit, |asking| {
                if asking.count == 0 {
                    wanted(asking, first_algorithm(asking.came))
                } else {
                    asking.unsigned_configuration()
                }
            })?;
            look(&kit, &kit.play(&record, scene).await?)
        },
    )
    .needs(&["csr"])
}
