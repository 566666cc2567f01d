//! Input that is wrong: RFC 8040 section 7, RFC 7951, and RFC 9646.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Encoding, GET, REPORT, SztpServer, json_input, xml_input};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::{
        der,
        key::Key,
        sztp::{NAMESPACE, YANG_JSON, YANG_XML, base64},
        x509::{Request as Csr, name},
    },
    http::Answer,
    outcome::{Finding, OrCouldNotTest as _, must},
};

type Make = fn() -> Vec<u8>;

fn input(value: Value) -> Vec<u8> {
    json_input(&value)
}

/// Bodies that are answered 400.
const BAD: &[(&str, &str, &[&str], &str, Make)] = &[
    (
        "rfc8572-7.3/nonce-15",
        "a nonce of 15 octets",
        &["SZTP-8572-7.3-06"],
        GET,
        || input(json!({ "nonce": base64(&[1; 15]) })),
    ),
    (
        "rfc8572-7.3/nonce-33",
        "a nonce of 33 octets",
        &["SZTP-8572-7.3-06"],
        GET,
        || input(json!({ "nonce": base64(&[1; 33]) })),
    ),
    (
        "rfc7951-6.6/base64url",
        "a nonce in base64url",
        &["SZTP-7951-6.6-01", "SZTP-7950-9.8.2-01"],
        GET,
        || input(json!({ "nonce": "--__--__--__--__--__--__" })),
    ),
    (
        "rfc7951-6.6/number",
        "a nonce that is a number",
        &["SZTP-7951-6.6-01", "SZTP-7951-8-01"],
        GET,
        || input(json!({ "nonce": 7 })),
    ),
    (
        "rfc8572-7.3/preferred-true",
        "signed-data-preferred that is true",
        &["SZTP-8572-7.3-04", "SZTP-7951-6.9-01"],
        GET,
        || input(json!({ "signed-data-preferred": true })),
    ),
    (
        "rfc8572-7.3/preferred-null",
        "signed-data-preferred that is null",
        &["SZTP-8572-7.3-04", "SZTP-7951-6.9-01"],
        GET,
        || input(json!({ "signed-data-preferred": null })),
    ),
    (
        "rfc8572-7.3/preferred-text",
        "signed-data-preferred that is text",
        &["SZTP-8572-7.3-04", "SZTP-7951-6.9-01"],
        GET,
        || input(json!({ "signed-data-preferred": "" })),
    ),
    (
        "rfc8040-3.6.1/no-input",
        "a body without input",
        &["SZTP-8040-3.6.1-01"],
        GET,
        || b"{}".to_vec(),
    ),
    (
        "rfc8040-3.6.1/bare-input",
        "an input without the module's name",
        &["SZTP-8040-3.6.1-01", "SZTP-7951-4-01"],
        GET,
        || b"{\"input\":{}}".to_vec(),
    ),
    (
        "rfc8040-3.6.1/other-module",
        "an input of another module",
        &["SZTP-8040-3.6.1-01", "SZTP-7951-4-01"],
        GET,
        || b"{\"ietf-restconf:input\":{}}".to_vec(),
    ),
    (
        "rfc7951-4/unknown-leaf",
        "a leaf that does not exist",
        &["SZTP-7951-8-01", "SZTP-8040-7-01"],
        GET,
        || input(json!({ "conformance": "x" })),
    ),
    (
        "rfc7951-7/duplicate",
        "a leaf that is there twice",
        &["SZTP-7951-7-01"],
        GET,
        || {
            b"{\"ietf-sztp-bootstrap-server:input\":{\"hw-model\":\"a\",\"hw-model\":\"b\"}}"
                .to_vec()
        },
    ),
    (
        "rfc8040-5.2/not-utf-8",
        "a body that is no UTF-8",
        &["SZTP-8040-5.2-01"],
        GET,
        || b"{\"ietf-sztp-bootstrap-server:input\":{\"hw-model\":\"\xff\xfe\"}}".to_vec(),
    ),
    (
        "rfc8040-7/no-json",
        "a body that is no JSON",
        &["SZTP-8040-7-01", "SZTP-8040-3.6.3-01"],
        GET,
        || b"{\"ietf-sztp-bootstrap-server:input\":".to_vec(),
    ),
    (
        "rfc8040-7/list",
        "a body that is a list",
        &["SZTP-8040-3.6.3-01"],
        GET,
        || b"[]".to_vec(),
    ),
    (
        "rfc8040-7/nested",
        "a body nested ten thousand deep",
        &["SZTP-8040-12-02"],
        GET,
        || [b"[".repeat(10_000), b"]".repeat(10_000)].concat(),
    ),
    (
        "rfc8572-7.3/no-type",
        "a report without a type",
        &["SZTP-8572-7.3-14"],
        REPORT,
        || input(json!({ "message": "x" })),
    ),
    (
        "rfc8572-7.3/unknown-type",
        "a report of a type that does not exist",
        &["SZTP-8572-7.3-14"],
        REPORT,
        || input(json!({ "progress-type": "halfway" })),
    ),
    (
        "rfc8572-7.3/type-list",
        "a report with two types",
        &["SZTP-8572-7.3-14", "SZTP-7951-8-01"],
        REPORT,
        || input(json!({ "progress-type": ["informational", "bootstrap-complete"] })),
    ),
    (
        "rfc8572-7.3/keys-early",
        "a report with host keys before the end",
        &["SZTP-8572-7.3-17"],
        REPORT,
        || {
            input(
                json!({ "progress-type": "informational", "ssh-host-keys": { "ssh-host-key": [{ "algorithm": "ssh-ed25519", "key-data": "AAAA" }] } }),
            )
        },
    ),
    (
        "rfc8572-7.3/key-without-algorithm",
        "a report with a host key without its algorithm",
        &["SZTP-8572-7.3-19"],
        REPORT,
        || {
            input(
                json!({ "progress-type": "bootstrap-complete", "ssh-host-keys": { "ssh-host-key": [{ "key-data": "AAAA" }] } }),
            )
        },
    ),
    (
        "rfc8572-7.3/key-without-data",
        "a report with a host key without its data",
        &["SZTP-8572-7.3-19"],
        REPORT,
        || {
            input(
                json!({ "progress-type": "bootstrap-complete", "ssh-host-keys": { "ssh-host-key": [{ "algorithm": "ssh-ed25519" }] } }),
            )
        },
    ),
    (
        "rfc7951-5/keys-no-list",
        "a report whose host keys are no list",
        &["SZTP-7951-5-01"],
        REPORT,
        || {
            input(
                json!({ "progress-type": "bootstrap-complete", "ssh-host-keys": { "ssh-host-key": { "algorithm": "ssh-ed25519", "key-data": "AAAA" } } }),
            )
        },
    ),
    (
        "rfc9646-2.1/support-and-csr",
        "csr-support and a certification request at once",
        &["SZTP-9646-2.1-02"],
        GET,
        || {
            input(
                json!({ "ietf-sztp-csr:csr-support": support(), "ietf-sztp-csr:p10-csr": "MAA=" }),
            )
        },
    ),
    (
        "rfc9646-2.1/two-csrs",
        "two certification requests",
        &["SZTP-9646-2.1-03"],
        GET,
        || input(json!({ "ietf-sztp-csr:p10-csr": "MAA=", "ietf-sztp-csr:cmp-csr": "MAA=" })),
    ),
    (
        "rfc9646-3.2/no-format",
        "csr-support without a format",
        &["SZTP-9646-3.2-01"],
        GET,
        || input(json!({ "ietf-sztp-csr:csr-support": {} })),
    ),
    (
        "rfc9646-3.2/no-algorithm",
        "csr-support with key-generation and no algorithm",
        &["SZTP-9646-3.2-02"],
        GET,
        || {
            let mut support = support();
            support["key-generation"] =
                json!({ "supported-algorithms": { "algorithm-identifier": [] } });
            input(json!({ "ietf-sztp-csr:csr-support": support }))
        },
    ),
    (
        "rfc9646-3.2/bare-format",
        "csr-support with a format without its module",
        &["SZTP-9646-3.2-07", "SZTP-7951-6.8-01"],
        GET,
        || {
            let mut support = support();
            support["csr-generation"]["supported-formats"]["format-identifier"] =
                json!(["p10-csr"]);
            input(json!({ "ietf-sztp-csr:csr-support": support }))
        },
    ),
];

/// The same in XML.
const BAD_XML: &[(&str, &str, &[&str], &str, Make)] = &[
    (
        "rfc8040-7/no-xml",
        "a body that is no XML",
        &["SZTP-8040-3.6.3-01", "SZTP-8040-7-01"],
        GET,
        || b"<input".to_vec(),
    ),
    (
        "rfc8040-3.6.1/xml-namespace",
        "an input in no namespace",
        &["SZTP-8040-3.6.1-01"],
        GET,
        || b"<input><hw-model>x</hw-model></input>".to_vec(),
    ),
    (
        "rfc8572-7.3/xml-nonce-15",
        "a nonce of 15 octets in XML",
        &["SZTP-8572-7.3-06"],
        GET,
        || xml_input(&format!("<nonce>{}</nonce>", base64(&[1; 15]))),
    ),
    (
        "rfc8572-7.3/xml-preferred-text",
        "signed-data-preferred with text in XML",
        &["SZTP-8572-7.3-04"],
        GET,
        || xml_input("<signed-data-preferred>true</signed-data-preferred>"),
    ),
    (
        "rfc8572-7.3/xml-unknown-type",
        "a report of a type that does not exist in XML",
        &["SZTP-8572-7.3-14"],
        REPORT,
        || xml_input("<progress-type>halfway</progress-type>"),
    ),
    (
        "rfc8040-12/entities",
        "XML that defines entities",
        &["SZTP-8040-12-02"],
        GET,
        || {
            format!("<!DOCTYPE input [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]><input xmlns=\"{NAMESPACE}\"><hw-model>&b;</hw-model></input>").into_bytes()
        },
    ),
];

fn support() -> Value {
    json!({ "csr-generation": { "supported-formats": { "format-identifier": ["ietf-ztp-types:p10-csr"] } } })
}

/// Statuses that go with a tag: RFC 8040 section 7.
const STATUS: &[(&str, &[u16])] = &[
    ("invalid-value", &[400, 404, 406]),
    ("too-big", &[400, 413]),
    ("missing-attribute", &[400]),
    ("bad-attribute", &[400]),
    ("unknown-attribute", &[400]),
    ("missing-element", &[400]),
    ("bad-element", &[400]),
    ("unknown-element", &[400]),
    ("unknown-namespace", &[400]),
    ("malformed-message", &[400]),
    ("access-denied", &[401, 403]),
    ("operation-not-supported", &[405, 501]),
    ("operation-failed", &[412, 500]),
];

/// An errors resource as RFC 8040 section 7.1 has it, with a status that goes with its tag.
pub(super) fn errors(answer: &Answer, encoding: Encoding) -> Result<String, Finding> {
    must(
        answer.media_type() == encoding.media_type(),
        format!("the error is of type {:?}", answer.media_type()),
    )?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let leaf: super::Leaf = match encoding {
        Encoding::Json => {
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| Finding::fail(format!("the error is no JSON: {error}")))?;
            let error = value
                .pointer("/ietf-restconf:errors/error")
                .and_then(Value::as_array)
                .and_then(|errors| errors.first())
                .cloned()
                .ok_or_else(|| Finding::fail("there is no list ietf-restconf:errors/error"))?;
            Box::new(move |name| error.get(name)?.as_str().map(str::to_owned))
        }
        Encoding::Xml => Box::new(move |name| crate::forge::sztp::element(&text, name)),
    };
    let kind = leaf("error-type").unwrap_or_default();
    must(
        ["transport", "rpc", "protocol", "application"].contains(&kind.as_str()),
        format!("error-type is {kind:?}"),
    )?;
    let tag = leaf("error-tag").unwrap_or_default();
    let statuses = STATUS
        .iter()
        .find(|(known, _)| *known == tag)
        .map(|(_, statuses)| *statuses)
        .ok_or_else(|| Finding::fail(format!("error-tag is {tag:?}")))?;
    must(
        statuses.contains(&answer.status),
        format!("{tag} does not go with {}", answer.status),
    )?;
    Ok(tag)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (table, encoding) in [(BAD, Encoding::Json), (BAD_XML, Encoding::Xml)] {
        for &(id, title, requirements, rpc, make) in table {
            let mut all = requirements.to_vec();
            for more in [
                "SZTP-8040-7.1-02",
                "SZTP-8040-7.1-03",
                "SZTP-8040-7.1-01",
                "SZTP-8040-5.4-01",
            ] {
                if !all.contains(&more) {
                    all.push(more);
                }
            }
            let case = Case::new(
                format!("sztp-server/{id}"),
                format!("{title} is refused with an error of RESTCONF"),
                &all,
                move |kit: Arc<SztpServer>, record: Recorder| async move {
                    let device = kit.device(5)?;
                    let answer = kit
                        .call_as(&record, device, rpc, encoding, Some(make()))
                        .await?;
                    must(
                        answer.is_refusal(),
                        format!("{title} was answered {}: {}", answer.status, answer.text()),
                    )?;
                    errors(&answer, encoding).map(|_| ())
                },
            )
            .tags(&["hostile"])
            .needs(&[encoding.feature()]);
            cases.push(if rpc == REPORT {
                case.needs(&["onboarding"])
            } else {
                case
            });
        }
    }
    cases.extend([
        Case::new(
            "sztp-server/rfc8040-3.6.1/report-without-body",
            "a report without a body is refused",
            &["SZTP-8040-3.6.1-02", "SZTP-8572-7.3-14"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let answer = kit
                    .call_as(&record, kit.device(5)?, REPORT, Encoding::Json, None)
                    .await?;
                super::refused(&answer, "a report without a body")
            },
        )
        .tags(&["hostile"])
        .needs(&["onboarding"]),
        Case::new(
            "sztp-server/rfc8040-7/status",
            "an error's status goes with its tag",
            &["SZTP-8040-7-01", "SZTP-8040-7.1-03"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let answer = kit
                    .call(&record, GET, Encoding::Json, Some(b"{".to_vec()))
                    .await?;
                let tag = errors(&answer, Encoding::Json)?;
                must(tag == "malformed-message", format!("error-tag is {tag}"))
            },
        )
        .needs(&["json"]),
        Case::new(
            "sztp-server/rfc9646-2.2/support-ignored-or-asked",
            "csr-support brings data or a csr-request",
            &["SZTP-9646-2.2-02", "SZTP-9646-2.1-01", "SZTP-9646-2.1-04"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let body = input(json!({ "ietf-sztp-csr:csr-support": support() }));
                let answer = kit
                    .call_as(&record, kit.device(3)?, GET, Encoding::Json, Some(body))
                    .await?;
                if answer.status == 200 {
                    return super::Output::of(&answer).map(|_| ());
                }
                asked(&answer).map(|_| ())
            },
        )
        .needs(&["json"]),
        Case::new(
            "sztp-server/rfc9646-2.3/csr-request",
            "a certification request is asked for with 400, missing-attribute and csr-request",
            &[
                "SZTP-9646-2.3-01",
                "SZTP-9646-2.1-04",
                "SZTP-8040-8-01",
                "SZTP-8791-2-01",
                "SZTP-9646-3.2-06",
            ],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let request = asked(
                    &kit.call_as(&record, kit.device(3)?, GET, Encoding::Json, Some(offer()))
                        .await?,
                )?;
                let format = request
                    .pointer("/csr-generation/selected-format/format-identifier")
                    .and_then(Value::as_str);
                must(
                    format == Some("ietf-ztp-types:p10-csr"),
                    format!("the format is {format:?}"),
                )
            },
        )
        .needs(&["json", "csr"]),
        Case::new(
            "sztp-server/rfc9646-3.2/selected",
            "the algorithm is the one that was offered",
            &["SZTP-9646-3.2-05", "SZTP-9646-3.2-04"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let request = asked(
                    &kit.call_as(&record, kit.device(3)?, GET, Encoding::Json, Some(offer()))
                        .await?,
                )?;
                let selected = request
                    .pointer("/key-generation/selected-algorithm/algorithm-identifier")
                    .and_then(Value::as_str);
                must(
                    selected.is_none_or(|selected| selected == base64(&algorithm())),
                    format!("the algorithm is {selected:?}"),
                )?;
                let plain = asked(
                    &kit.call_as(
                        &record,
                        kit.device(3)?,
                        GET,
                        Encoding::Json,
                        Some(input(json!({ "ietf-sztp-csr:csr-support": support() }))),
                    )
                    .await?,
                )?;
                must(
                    plain.get("key-generation").is_none(),
                    "key-generation is asked for though it was not offered",
                )
            },
        )
        .needs(&["json", "csr"]),
        Case::new(
            "sztp-server/rfc9646-4.2.1/possession",
            "a certification request whose signature does not hold gets no certificate",
            &["SZTP-9646-4.2.1-01", "SZTP-9646-4.1.5-01"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let device = kit.device(3)?;
                asked(
                    &kit.call_as(&record, device, GET, Encoding::Json, Some(offer()))
                        .await?,
                )?;
                let (key, other) = (
                    Key::generate().or_could_not_test("a key")?,
                    Key::generate().or_could_not_test("a key")?,
                );
                let csr = Csr::new(
                    &name(
                        "Conformance Manufacturer",
                        "Device",
                        Some(&super::serial(4)),
                    ),
                    &key,
                )
                .with(|csr| csr.signer = Some(other))
                .encode();
                let answer = kit
                    .call_as(
                        &record,
                        device,
                        GET,
                        Encoding::Json,
                        Some(input(json!({ "ietf-sztp-csr:p10-csr": base64(&csr) }))),
                    )
                    .await?;
                super::refused(
                    &answer,
                    "a certification request whose signature does not hold",
                )
            },
        )
        .tags(&["hostile"])
        .needs(&["json", "csr"]),
        Case::new(
            "sztp-server/rfc8040-5.2/no-content-type",
            "a body without Content-Type is answered without a server error",
            &["SZTP-8040-5.2-04"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let client = kit.client.with_identity(kit.device(0)?);
                let mut request = crate::http::Request::post(
                    kit.rpc(&record, GET).await?,
                    YANG_JSON,
                    input(json!({})),
                );
                request.headers.clear();
                let answer = client.send(&record, request).await?;
                must(
                    answer.is_refusal(),
                    format!("it was answered {}", answer.status),
                )
            },
        )
        .tags(&["hostile"]),
        Case::new(
            "sztp-server/rfc8040-7.1/xml-error",
            "an error is in XML where XML is asked for",
            &["SZTP-8040-7.1-02"],
            |kit: Arc<SztpServer>, record: Recorder| async move {
                let answer = kit
                    .call(&record, GET, Encoding::Xml, Some(b"<".to_vec()))
                    .await?;
                must(
                    answer.media_type() == YANG_XML,
                    format!("it is {}", answer.media_type()),
                )
            },
        )
        .needs(&["xml"]),
    ]);
    cases
}

fn algorithm() -> Vec<u8> {
    der::seq(&[
        der::oid("1.2.840.10045.2.1"),
        der::oid("1.2.840.10045.3.1.7"),
    ])
}

/// csr-support with a new key.
fn offer() -> Vec<u8> {
    let mut support = support();
    support["key-generation"] =
        json!({ "supported-algorithms": { "algorithm-identifier": [base64(&algorithm())] } });
    input(json!({ "ietf-sztp-csr:csr-support": support }))
}

/// The csr-request in an error.
fn asked(answer: &Answer) -> Result<Value, Finding> {
    must(
        answer.status == 400,
        format!("it was answered {}", answer.status),
    )?;
    let tag = errors(answer, Encoding::Json)?;
    must(tag == "missing-attribute", format!("error-tag is {tag}"))?;
    let value: Value = serde_json::from_slice(&answer.body).or_could_not_test("the error")?;
    value
        .pointer("/ietf-restconf:errors/error/0/error-info/ietf-sztp-csr:csr-request")
        .cloned()
        .ok_or_else(|| Finding::fail("error-info has no ietf-sztp-csr:csr-request"))
}
