//! What a device reports: RFC 8995 sections 5.7 and 5.9.4.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Pledge, Run, Scene,
    scene::{enrolled_with, status_of},
};
use crate::{
    case::Case,
    evidence::Recorder,
    fake_masa::Reply,
    inspect::Envelope,
    outcome::{Finding, Told, must},
    stage::Came,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let good = |id: &str, title: &str, requirements: &[&str], look: fn(&Run) -> Told| {
        Case::new(
            format!("pledge/{id}"),
            title,
            requirements,
            move |kit: Arc<Pledge>, record: Recorder| async move {
                look(&kit.good(&record, Envelope::Cms).await?)
            },
        )
        .needs(&["cms"])
    };
    let bad = |id: &str, title: &str, requirements: &[&str], look: fn(&Run) -> Told| {
        Case::new(
            format!("pledge/{id}"),
            title,
            requirements,
            move |kit: Arc<Pledge>, record: Recorder| async move { look(&kit.bad(&record).await?) },
        )
        .needs(&["cms"])
    };
    for (what, section, post, members, names, context) in [
        (
            "voucher_status",
            "rfc8995-5.7",
            &["BRSKI-5.7-01"],
            &["BRSKI-5.7-02"],
            &["BRSKI-5.7-03"],
            &["BRSKI-5.7-06"],
        ),
        (
            "enrollstatus",
            "rfc8995-5.9.4",
            &["BRSKI-5.9.4-01"],
            &["BRSKI-5.9.4-04"],
            &["BRSKI-5.7-03"],
            &["BRSKI-5.7-06"],
        ),
    ] {
        let look = move |check: fn(&Came) -> Told| {
            move |kit: Arc<Pledge>, record: Recorder| async move {
                let run = kit.good(&record, Envelope::Cms).await?;
                check(run.came(what)?)
            }
        };
        cases.extend([
            Case::new(
                format!("pledge/{section}/{what}-post"),
                format!("{what} is a POST of JSON below /.well-known/brski"),
                post,
                look(posted),
            ),
            Case::new(
                format!("pledge/{section}/{what}-members"),
                format!("{what} has version 1 as a number and status as a boolean"),
                members,
                look(members_of),
            ),
            Case::new(
                format!("pledge/{section}/{what}-lower-case"),
                format!("the members of {what} are in lower case"),
                names,
                look(lower_case),
            ),
            Case::new(
                format!("pledge/{section}/{what}-context"),
                format!(
                    "reason of {what} is a string and reason-context an object, if they are there"
                ),
                context,
                look(context_of),
            ),
        ]);
    }
    cases.extend([
        good(
            "rfc8995-5.7/status-true",
            "a good voucher is reported as such",
            &["BRSKI-5.7-02", "BRSKI-5.7-12"],
            |run| {
                must(
                    status_of(run.came("voucher_status")?) == Some(true),
                    "status is not true",
                )
            },
        ),
        bad(
            "rfc8995-5.6.2/status-false",
            "a bad voucher is reported as such before the device goes",
            &["BRSKI-5.6.2-04", "BRSKI-2.6.1-03"],
            |run| {
                must(
                    status_of(run.came("voucher_status")?) == Some(false),
                    "status is not false",
                )
            },
        ),
        bad(
            "rfc8995-5.6.2/status-false-connection",
            "the report on a bad voucher comes on the connection on which the voucher came",
            &["BRSKI-5.6.2-04"],
            |run| {
                must(
                    run.came("voucher_status")?.connection
                        == run.came("requestvoucher")?.connection,
                    "it came on another connection",
                )
            },
        ),
        bad(
            "rfc8995-5.7/reason",
            "the report on a bad voucher has a reason",
            &["BRSKI-5.7-04"],
            |run| has_reason(run.came("voucher_status")?),
        ),
        bad(
            "rfc8995-5.7/false-members",
            "the report on a bad voucher has version and status of the right types",
            &["BRSKI-5.7-02"],
            |run| members_of(run.came("voucher_status")?),
        ),
        bad(
            "rfc8995-5.7/false-lower-case",
            "the members of the report on a bad voucher are in lower case",
            &["BRSKI-5.7-03"],
            |run| lower_case(run.came("voucher_status")?),
        ),
        bad(
            "rfc8995-5.7/reason-is-discreet",
            "the reason names no files, addresses of code or keys",
            &["BRSKI-5.7-05"],
            |run| discreet(run.came("voucher_status")?),
        ),
        bad(
            "rfc8995-5.6.2/no-enrolment",
            "after a bad voucher there is no enrolment",
            &["BRSKI-5.6.2-03", "BRSKI-2.1-01"],
            |run| run.refused("a voucher with another nonce"),
        ),
        answered("rfc8995-5.7/answer-ignored-500", "voucher_status", 500),
        answered("rfc8995-5.7/answer-ignored-404", "voucher_status", 404),
        answered("rfc8995-5.9.4/answer-ignored-500", "enrollstatus", 500),
        failed(
            "rfc8995-5.9.4/failure-reported",
            "an enrolment that fails is reported, with a reason",
            &["BRSKI-5.9.4-03", "BRSKI-5.9.4-07"],
            |run| {
                let status = run.came("enrollstatus")?;
                must(status_of(status) == Some(false), "status is not false")?;
                has_reason(status)
            },
        ),
        failed(
            "rfc8995-5.9.4/failure-connection",
            "it is reported on the connection on which it failed",
            &["BRSKI-5.9.4-03"],
            |run| {
                must(
                    run.came("enrollstatus")?.connection == run.came("simpleenroll")?.connection,
                    "it came on another connection",
                )
            },
        ),
        failed(
            "rfc8995-5.9.4/failure-members",
            "the report has version and status of the right types",
            &["BRSKI-5.9.4-04"],
            |run| members_of(run.came("enrollstatus")?),
        ),
        Case::new(
            "pledge/rfc7030-4.2.3/other-key",
            "a certificate for another key is not taken, and that is reported",
            &["BRSKI-5.9.4-03"],
            |kit: Arc<Pledge>, record: Recorder| async move {
                let scene = Scene::new(&kit, Envelope::Cms)?.on("simpleenroll", |world, _, _| {
                    enrolled_with(&[world.registrar.certificate().to_vec()]).into()
                });
                let run = kit.play(&record, scene).await?;
                let status = run.came("enrollstatus")?;
                must(
                    status_of(status) == Some(false),
                    "the device reported a certificate for another key as good",
                )
            },
        )
        .tags(&["hostile"])
        .needs(&["cms"]),
    ]);
    cases
}

fn json(came: &Came) -> Result<serde_json::Map<String, Value>, Finding> {
    serde_json::from_slice::<Value>(&came.body)
        .map_err(|error| Finding::fail(format!("it is no JSON: {error}")))?
        .as_object()
        .cloned()
        .ok_or_else(|| Finding::fail("it is no JSON object"))
}

fn posted(came: &Came) -> Told {
    must(
        came.method == "POST"
            && came.path == format!("/.well-known/brski/{}", came.operation())
            && came.media_type() == "application/json",
        format!(
            "it was {} {} of {:?}",
            came.method,
            came.path,
            came.media_type()
        ),
    )
}

fn members_of(came: &Came) -> Told {
    let json = json(came)?;
    must(
        json.get("version") == Some(&Value::from(1)),
        format!("version is {:?}", json.get("version")),
    )?;
    must(
        json.get("status").is_some_and(Value::is_boolean),
        format!("status is {:?}", json.get("status")),
    )
}

fn lower_case(came: &Came) -> Told {
    let json = json(came)?;
    let wrong: Vec<&String> = json
        .keys()
        .filter(|name| name.chars().any(char::is_uppercase))
        .collect();
    must(wrong.is_empty(), format!("there is {wrong:?}"))
}

fn context_of(came: &Came) -> Told {
    let json = json(came)?;
    must(
        json.get("reason").is_none_or(Value::is_string),
        "reason is no string",
    )?;
    must(
        json.get("reason-context").is_none_or(Value::is_object),
        "reason-context is no object",
    )
}

fn has_reason(came: &Came) -> Told {
    let json = json(came)?;
    let reason = json
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or_default();
    must(!reason.trim().is_empty(), "there is no reason")
}

fn discreet(came: &Came) -> Told {
    const TOLD: &[&str] = &[
        "/etc/", "/home/", "/var/", "0x", ".rs:", ".c:", "panicked", "BEGIN ",
    ];
    let text = String::from_utf8_lossy(&came.body).into_owned();
    match TOLD.iter().find(|told| text.contains(**told)) {
        Some(told) => Err(Finding::fail(format!("the reason has {told} in it"))),
        None => Ok(()),
    }
}

fn answered(id: &str, operation: &'static str, status: u16) -> Case {
    Case::new(
        format!("pledge/{id}"),
        format!("{operation} that is answered {status} hinders nothing"),
        &["BRSKI-5.7-08"],
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?
                .on(operation, move |_, _, _| Reply::bare(status).into());
            kit.play(&record, scene).await?.enrolled("the answer")
        },
    )
    .needs(&["cms"])
}

fn failed(id: &str, title: &str, requirements: &[&str], look: fn(&Run) -> Told) -> Case {
    Case::new(
        format!("pledge/{id}"),
        title,
        requirements,
        move |kit: Arc<Pledge>, record: Recorder| async move {
            let scene = Scene::new(&kit, Envelope::Cms)?.on("simpleenroll", |_, _, _| {
                Reply::new(400, "text/plain", "not this request").into()
            });
            let run = kit.play(&record, scene).await?;
            run.came("simpleenroll")?;
            look(&run)
        },
    )
    .needs(&["cms"])
}
