//! What a device sends when nothing is wrong: to a server that it trusts, and to one that it does
//! not.

use std::sync::Arc;

use pki::{Certificate, path::Purpose};
use serde_json::Value;

use super::{
    Run, SztpDevice,
    scene::{input_of, progress},
};
use crate::{
    case::Case,
    evidence::Recorder,
    forge::sztp::{NAMESPACE, YANG_JSON, YANG_XML},
    inspect::trusted,
    outcome::{Finding, OrCouldNotTest as _, Told, must},
};

type Look = fn(&SztpDevice, &Run) -> Told;

/// Id, title, requirements, features and what is looked at.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Look,
);

/// Of an onboarding by a trusted server.
const TRUSTED: &[Row] = &[
    (
        "rfc8572-5.6/trusted",
        "unsigned onboarding information of a trusted server is carried out",
        &[
            "SZTP-8572-5.3-14",
            "SZTP-8572-2.1-02",
            "SZTP-8572-5.3-02",
            "SZTP-8572-5.1-01",
        ],
        &[],
        |_, run| {
            run.call()?;
            let reports = run.reports(0)?;
            must(
                reports.iter().any(|kind| kind == "bootstrap-complete"),
                format!("the device reported {reports:?}"),
            )
        },
    ),
    (
        "rfc8572-5.6/initiated-first",
        "bootstrap-initiated comes first and bootstrap-complete last",
        &["SZTP-8572-5.6-02", "SZTP-8572-5.6-22", "SZTP-8572-7.3-22"],
        &[],
        |_, run| {
            run.call()?;
            let reports = run.reports(0)?;
            must(
                reports
                    .first()
                    .is_some_and(|kind| kind == "bootstrap-initiated")
                    && reports
                        .last()
                        .is_some_and(|kind| kind == "bootstrap-complete"),
                format!("the device reported {reports:?}"),
            )
        },
    ),
    (
        "rfc8572-7.3/types",
        "every report is of a type that exists",
        &["SZTP-8572-7.3-15", "SZTP-8572-7.3-14"],
        &[],
        |_, run| {
            run.call()?;
            let unknown: Vec<String> = run
                .reports(0)?
                .into_iter()
                .filter(|kind| {
                    !crate::targets::sztp_server::PROGRESS_TYPES.contains(&kind.as_str())
                })
                .collect();
            must(unknown.is_empty(), format!("there is {unknown:?}"))
        },
    ),
    (
        "rfc8572-7.3/minimal",
        "without reporting-level there is no verbose report",
        &["SZTP-8572-7.3-11"],
        &[],
        |_, run| {
            run.call()?;
            let more: Vec<String> = run
                .reports(0)?
                .into_iter()
                .filter(|kind| {
                    kind.ends_with("-initiated") && kind != "bootstrap-initiated"
                        || kind == "config-complete"
                })
                .collect();
            // The standard allows more reports than were asked for.
            if more.is_empty() {
                Ok(())
            } else {
                Err(Finding::warning(format!("there is {more:?}")))
            }
        },
    ),
    (
        "rfc8572-7.3/messages",
        "warnings and errors say what is wrong",
        &["SZTP-8572-7.3-16"],
        &[],
        |_, run| {
            run.call()?;
            for came in run.server(0)?.all("report-progress") {
                let kind = progress(came).unwrap_or_default();
                let is_grave = kind.ends_with("-warning") || kind.ends_with("-error");
                let message = input_of(came, "message").unwrap_or_default();
                must(
                    !is_grave || !message.trim().is_empty(),
                    format!("{kind} has no message"),
                )?;
            }
            Ok(())
        },
    ),
    (
        "rfc8572-7.3/keys-at-the-end",
        "host keys and trust anchors come with bootstrap-complete alone",
        &["SZTP-8572-7.3-18"],
        &[],
        |_, run| {
            run.call()?;
            for came in run.server(0)?.all("report-progress") {
                let is_end = progress(came).as_deref() == Some("bootstrap-complete");
                let has = input_of(came, "ssh-host-keys").is_some()
                    || input_of(came, "trust-anchor-certs").is_some();
                must(is_end || !has, "they came with another report")?;
            }
            Ok(())
        },
    ),
    (
        "rfc8572-7.3/host-keys",
        "SSH host keys have the name of their algorithm, and it stands in the key as well",
        &["SZTP-8572-7.3-20"],
        &["host-keys"],
        host_keys,
    ),
    (
        "rfc8572-5.1/intermediates",
        "the device shows its certificate with all that lies between it and the root",
        &[
            "SZTP-8572-5.1-03",
            "SZTP-8572-5.3-06",
            "SZTP-8572-5.1-10",
            "SZTP-8572-9.2-01",
        ],
        &[],
        chain,
    ),
    (
        "rfc8040-3.6/post",
        "get-bootstrapping-data is a POST below the root that host-meta names",
        &["SZTP-8572-7.1-01"],
        &[],
        |_, run| {
            let came = run.call()?;
            must(came.method == "POST", format!("it is a {}", came.method))
        },
    ),
    (
        "rfc8040-5.2/content-type",
        "a body has Content-Type application/yang-data+json or +xml",
        &["SZTP-8040-5.2-03", "SZTP-8572-7.2-01"],
        &[],
        |_, run| {
            run.call()?;
            for came in &run.server(0)?.requests {
                let kind = came.media_type();
                must(
                    came.body.is_empty() || kind == YANG_JSON || kind == YANG_XML,
                    format!("{} has Content-Type {kind:?}", came.path),
                )?;
            }
            Ok(())
        },
    ),
    (
        "rfc8040-7.1/accept",
        "Accept names application/yang-data+json or +xml",
        &["SZTP-8040-7.1-04"],
        &[],
        |_, run| {
            let accept = run.call()?.header("accept").unwrap_or_default().to_owned();
            must(
                accept.contains(YANG_JSON) || accept.contains(YANG_XML),
                format!("Accept is {accept:?}"),
            )
        },
    ),
    (
        "rfc8040-3.6.1/input",
        "input stands in the namespace of ietf-sztp-bootstrap-server, and its leaves without",
        &["SZTP-8040-3.6.1-01", "SZTP-7951-4-01", "SZTP-8040-3.6.1-02"],
        &[],
        |_, run| {
            run.call()?;
            for operation in ["get-bootstrapping-data", "report-progress"] {
                for came in run.server(0)?.all(operation) {
                    input(came, operation == "report-progress")?;
                }
            }
            Ok(())
        },
    ),
    (
        "rfc8040-3.1/host-meta",
        "the root of the API is looked up in host-meta first",
        &["SZTP-8040-3.1-01"],
        &[],
        |_, run| {
            run.call()?;
            let first = run.server(0)?.requests.first();
            must(
                first.is_some_and(|came| came.path.starts_with("/.well-known/host-meta")),
                "the device did not ask for it first",
            )
        },
    ),
];

/// Of signed data from a server that the device does not trust.
const UNTRUSTED: &[Row] = &[
    (
        "rfc8572-5.3/signed",
        "signed onboarding information of an untrusted server is carried out",
        &[
            "SZTP-8572-5.3-08",
            "SZTP-8572-2.1-02",
            "SZTP-8572-3.3-02",
            "SZTP-8572-5.1-08",
            "SZTP-8572-3.2-07",
        ],
        &["boot-image"],
        |_, run| run.believed("signed data"),
    ),
    (
        "rfc8572-7.3/signed-data-preferred",
        "the device says to an untrusted server that it prefers signed data",
        &["SZTP-8572-7.3-01", "SZTP-9646-4.1.4-03", "SZTP-7951-6.9-01"],
        &[],
        |_, run| {
            let preferred = input_of(run.call()?, "signed-data-preferred");
            must(
                preferred.as_deref() == Some(""),
                format!(
                    "signed-data-preferred is {preferred:?}, where JSON says [null] and XML an empty element"
                ),
            )
        },
    ),
    (
        "rfc8572-9.6/nothing-else",
        "the device says nothing of itself to an untrusted server",
        &["SZTP-8572-9.6-02", "SZTP-9646-4.1.4-02"],
        &[],
        |_, run| {
            run.call()?;
            for came in run.server(0)?.all("get-bootstrapping-data") {
                for name in [
                    "hw-model",
                    "os-name",
                    "os-version",
                    "csr-support",
                    "p10-csr",
                    "cmc-csr",
                    "cmp-csr",
                ] {
                    must(
                        input_of(came, name).is_none(),
                        format!("it said its {name}"),
                    )?;
                }
            }
            Ok(())
        },
    ),
    (
        "rfc8572-5.6/no-report",
        "an untrusted server gets no report, though its data was signed",
        &["SZTP-8572-5.6-05", "SZTP-8572-9.6-03"],
        &[],
        |_, run| {
            run.call()?;
            let reports = run.reports(0)?;
            must(
                reports.is_empty(),
                format!("the device reported {reports:?}"),
            )
        },
    ),
    (
        "rfc8572-5.3/authenticates",
        "the device authenticates itself to an untrusted server too",
        &["SZTP-8572-5.3-03"],
        &[],
        |_, run| must(!run.call()?.client.is_empty(), "it showed no certificate"),
    ),
    (
        "rfc8572-9.6/no-password",
        "an untrusted server gets no password",
        &["SZTP-8572-9.6-01"],
        &[],
        |_, run| {
            run.call()?;
            let has = run
                .server(0)?
                .requests
                .iter()
                .any(|came| came.header("authorization").is_some());
            must(!has, "there is Authorization")
        },
    ),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(id, title, requirements, needs, look) in TRUSTED {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                title,
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    look(&kit, &kit.trusted(&record).await?)
                },
            )
            .needs(needs),
        );
    }
    for &(id, title, requirements, needs, look) in UNTRUSTED {
        cases.push(
            Case::new(
                format!("sztp-device/{id}"),
                title,
                requirements,
                move |kit: Arc<SztpDevice>, record: Recorder| async move {
                    look(&kit, &kit.untrusted(&record).await?)
                },
            )
            .needs(needs),
        );
    }
    cases
}

fn chain(kit: &SztpDevice, run: &Run) -> Told {
    let came = run.call()?;
    let mut chain = came.client.iter().map(|der| Certificate::from_der(der));
    let leaf = chain
        .next()
        .ok_or_else(|| Finding::fail("the device showed no certificate"))?
        .or_could_not_test("the device's certificate")?;
    let others: Vec<Certificate> = chain.flatten().collect();
    trusted(&leaf, &others, &kit.device_anchors, Purpose::Any, kit.at)
}

fn input(came: &crate::stage::Came, is_needed: bool) -> Told {
    if came.body.is_empty() {
        return must(!is_needed, "report-progress has no body");
    }
    let text =
        String::from_utf8(came.body.clone()).map_err(|_| Finding::fail("the body is no UTF-8"))?;
    if text.trim_start().starts_with('<') {
        return must(
            text.contains("input") && text.contains(NAMESPACE),
            "there is no input in the namespace of the module",
        );
    }
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Finding::fail(format!("the body is no JSON: {error}")))?;
    let members: Vec<&String> = value
        .as_object()
        .map(|object| object.keys().collect())
        .unwrap_or_default();
    must(
        members == ["ietf-sztp-bootstrap-server:input"],
        format!("the members of the body are {members:?}"),
    )?;
    let inside = value
        .get("ietf-sztp-bootstrap-server:input")
        .and_then(Value::as_object)
        .ok_or_else(|| Finding::fail("input is no object"))?;
    let own = inside
        .keys()
        .find(|name| name.starts_with("ietf-sztp-bootstrap-server:"));
    must(
        own.is_none(),
        format!("{own:?} has the name of its parent's module"),
    )
}

fn host_keys(_: &SztpDevice, run: &Run) -> Told {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    run.call()?;
    let last = run
        .server(0)?
        .last("report-progress")
        .ok_or_else(|| Finding::fail("there is no report"))?;
    let text = String::from_utf8_lossy(&last.body);
    let mut pairs = Vec::new();
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        let keys = value.pointer("/ietf-sztp-bootstrap-server:input/ssh-host-keys/ssh-host-key");
        for key in keys.and_then(Value::as_array).into_iter().flatten() {
            let leaf = |name: &str| {
                key.get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            pairs.push((leaf("algorithm"), leaf("key-data")));
        }
    } else {
        let leaf = |name: &str| crate::forge::sztp::element(&text, name).unwrap_or_default();
        pairs.push((leaf("algorithm"), leaf("key-data")));
    }
    must(!pairs.is_empty(), "there are no host keys")?;
    for (algorithm, data) in pairs {
        let blob = STANDARD
            .decode(&data)
            .map_err(|error| Finding::fail(format!("key-data: {error}")))?;
        let (length, rest) = blob
            .split_at_checked(4)
            .ok_or_else(|| Finding::fail("key-data is too short"))?;
        let length = length
            .iter()
            .fold(0_usize, |length, octet| length << 8 | usize::from(*octet));
        let name = rest.get(..length).unwrap_or_default();
        must(
            name == algorithm.as_bytes(),
            format!(
                "algorithm is {algorithm:?}, the key says {:?}",
                String::from_utf8_lossy(name)
            ),
        )?;
    }
    Ok(())
}
