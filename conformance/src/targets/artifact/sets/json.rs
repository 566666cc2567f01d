//! Audit logs and telemetry.

use serde_json::{Value, json};

use super::super::vectors::{Encoding, Kind, Vector};
use crate::forge::cbor::{array, boolean, int, map, text};

fn document(
    kind: Kind,
    id: &str,
    valid: bool,
    row: &'static str,
    reason: &str,
    text: String,
) -> Vector {
    Vector::new(
        format!("{}/{id}", kind.name()),
        (kind, Encoding::Json),
        valid,
        &[row],
        reason,
        move |_| text.clone().into_bytes(),
    )
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = audit_logs();
    vectors.extend(telemetry());
    vectors.extend(telemetry_cbor());
    vectors
}

fn telemetry_cbor() -> Vec<Vector> {
    let status = || (text("status"), boolean(true));
    let version = || (text("version"), int(1));
    let rows: Vec<(&str, bool, &'static str, &str, Vec<u8>)> = vec![
        (
            "good",
            true,
            "CBR-047",
            "a report as its CDDL has it",
            map(&[version(), status()]),
        ),
        (
            "good-false",
            true,
            "CBR-047",
            "a report of a failure with a reason",
            map(&[
                version(),
                (text("status"), boolean(false)),
                (text("reason"), text("no voucher")),
            ]),
        ),
        (
            "good-context",
            true,
            "CBR-047",
            "a report with a context",
            map(&[
                version(),
                status(),
                (text("reason-context"), map(&[(text("key"), text("value"))])),
            ]),
        ),
        (
            "good-extra",
            true,
            "CBR-047",
            "a further member, which is ignored",
            map(&[version(), status(), (text("later"), int(1))]),
        ),
        (
            "status-number",
            false,
            "CBR-047",
            "status is 1",
            map(&[version(), (text("status"), int(1))]),
        ),
        (
            "status-text",
            false,
            "CBR-047",
            "status is a text",
            map(&[version(), (text("status"), text("true"))]),
        ),
        (
            "version-text",
            false,
            "CBR-047",
            "version is a text",
            map(&[(text("version"), text("1")), status()]),
        ),
        (
            "version-negative",
            false,
            "CBR-047",
            "version is negative",
            map(&[(text("version"), int(-1)), status()]),
        ),
        (
            "number-keys",
            false,
            "CBR-047",
            "keys are numbers",
            map(&[(int(0), int(1)), (int(1), boolean(true))]),
        ),
        (
            "no-status",
            false,
            "CBR-047",
            "status is missing",
            map(&[version()]),
        ),
        (
            "no-version",
            false,
            "CBR-047",
            "version is missing",
            map(&[status()]),
        ),
        (
            "array",
            false,
            "CBR-047",
            "the report is an array",
            array(&[int(1), boolean(true)]),
        ),
        (
            "duplicate",
            false,
            "VCB-046",
            "status is there twice",
            map(&[version(), status(), status()]),
        ),
        (
            "trailing",
            false,
            "VCB-046",
            "an octet follows",
            [map(&[version(), status()]), vec![0]].concat(),
        ),
        ("cut", false, "VCB-046", "the last octet is missing", {
            let mut octets = map(&[version(), status()]);
            octets.pop();
            octets
        }),
    ];
    rows.into_iter()
        .map(|(id, valid, row, reason, octets)| {
            Vector::new(
                format!("telemetry-cbor/{id}"),
                (Kind::Telemetry, Encoding::Cbor),
                valid,
                &[row],
                reason,
                move |_| octets.clone(),
            )
        })
        .collect()
}

fn event() -> Value {
    json!({
        "date": "2026-05-30T17:04:17Z",
        "domainID": "BduJhdHPpfhQLyponf48JzXSGZ8=",
        "nonce": "nx5gKhHEd10DuJpA7i9xZg==",
        "assertion": "proximity",
    })
}

fn log() -> Value {
    json!({
        "version": 1,
        "events": [event()],
        "truncation": { "nonced duplicates": 0, "nonceless duplicates": 1, "arbitrary": 2 },
    })
}

fn audit_logs() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut add = |id: &str, valid: bool, row: &'static str, reason: &str, value: Value| {
        vectors.push(document(
            Kind::AuditLog,
            id,
            valid,
            row,
            reason,
            value.to_string(),
        ));
    };
    let with = |pointer: &str, value: Value| -> Value {
        let mut log = log();
        if let Some(place) = log.pointer_mut(pointer) {
            *place = value;
        }
        log
    };
    let without = |at: &str, member: &str| -> Value {
        let mut log = log();
        if let Some(Value::Object(members)) = log.pointer_mut(at) {
            members.shift_remove(member);
        }
        log
    };
    add(
        "good",
        true,
        "BRSKI-5.8.1-01",
        "a log as its CDDL has it",
        log(),
    );
    add(
        "good-no-events",
        true,
        "BRSKI-5.8.1-01",
        "a log without events",
        with("/events", json!([])),
    );
    add(
        "good-no-truncation",
        true,
        "BRSKI-5.8.1-04",
        "truncation is left out",
        without("", "truncation"),
    );
    add(
        "good-counter-missing",
        true,
        "BRSKI-5.8.1-04",
        "a counter is left out, which means zero",
        without("/truncation", "arbitrary"),
    );
    add(
        "good-nonceless",
        true,
        "BRSKI-5.8.1-03",
        "the nonce is null",
        with("/events/0/nonce", Value::Null),
    );
    for assertion in ["verified", "logged"] {
        add(
            &format!("good-{assertion}"),
            true,
            "BRSKI-5.8.1-02",
            &format!("an event with assertion {assertion}"),
            with("/events/0/assertion", json!(assertion)),
        );
    }
    add(
        "good-two-events",
        true,
        "BRSKI-5.8.1-01",
        "a log with two events",
        with("/events", json!([event(), event()])),
    );
    add(
        "good-version-2",
        true,
        "BRSKI-5.8.1-08",
        "a later version with a further member",
        {
            let mut log = with("/version", json!(2));
            log["later"] = json!({ "member": true });
            log
        },
    );
    add(
        "good-offset",
        true,
        "BRSKI-5.8.1-02",
        "a date with an offset",
        with("/events/0/date", json!("2026-05-30T19:04:17+02:00")),
    );
    for (id, value, reason) in [
        ("version-text", json!("1"), "version is a string"),
        ("version-negative", json!(-1), "version is negative"),
        ("version-fraction", json!(1.5), "version is a fraction"),
        ("version-null", Value::Null, "version is null"),
    ] {
        add(id, false, "BRSKI-5.8.1-01", reason, with("/version", value));
    }
    add(
        "version-missing",
        false,
        "BRSKI-5.8.1-01",
        "version is missing",
        without("", "version"),
    );
    add(
        "events-missing",
        false,
        "BRSKI-5.8.1-01",
        "events is missing",
        without("", "events"),
    );
    add(
        "events-object",
        false,
        "BRSKI-5.8.1-01",
        "events is an object",
        with("/events", json!({})),
    );
    add(
        "events-texts",
        false,
        "BRSKI-5.8.1-02",
        "events are strings",
        with("/events", json!(["event"])),
    );
    for member in ["date", "domainID", "assertion"] {
        add(
            &format!("no-{}", member.to_ascii_lowercase()),
            false,
            "BRSKI-5.8.1-02",
            &format!("an event has no {member}"),
            without("/events/0", member),
        );
    }
    for (id, pointer, value, reason) in [
        (
            "date-basic",
            "/events/0/date",
            json!("20260530T170417Z"),
            "a date in the basic format",
        ),
        (
            "date-number",
            "/events/0/date",
            json!(1_780_160_657),
            "a date is a number",
        ),
        (
            "domain-number",
            "/events/0/domainID",
            json!(7),
            "domainID is a number",
        ),
        (
            "domain-not-base64",
            "/events/0/domainID",
            json!("§§§"),
            "domainID is no base64",
        ),
        (
            "nonce-number",
            "/events/0/nonce",
            json!(7),
            "the nonce is a number",
        ),
        (
            "assertion-unknown",
            "/events/0/assertion",
            json!("foo"),
            "assertion is foo",
        ),
        (
            "truncation-array",
            "/truncation",
            json!([]),
            "truncation is an array",
        ),
        (
            "counter-negative",
            "/truncation/arbitrary",
            json!(-1),
            "a counter is negative",
        ),
        (
            "counter-true",
            "/truncation/arbitrary",
            json!(true),
            "a counter is a boolean",
        ),
    ] {
        let row = if pointer.starts_with("/truncation") {
            "BRSKI-5.8.1-01"
        } else {
            "BRSKI-5.8.1-02"
        };
        add(id, false, row, reason, with(pointer, value));
    }
    add(
        "array",
        false,
        "BRSKI-5.8.1-01",
        "the log is in an array",
        json!([log()]),
    );
    vectors.push(document(
        Kind::AuditLog,
        "cut",
        false,
        "BRSKI-5.8.1-01",
        "the last octet is missing",
        log().to_string().trim_end_matches('}').to_owned(),
    ));
    vectors.push(document(
        Kind::AuditLog,
        "duplicate",
        false,
        "BRSKI-5.8.1-01",
        "events is there twice",
        log().to_string().replacen('{', "{\"events\":[],", 1),
    ));
    vectors
}

fn telemetry() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut add = |id: &str, valid: bool, row: &'static str, reason: &str, value: Value| {
        vectors.push(document(
            Kind::Telemetry,
            id,
            valid,
            row,
            reason,
            value.to_string(),
        ));
    };
    let good = json!({ "version": 1, "status": true, "reason": "validated", "reason-context": { "additional": "JSON" } });
    let with = |member: &str, value: Value| -> Value {
        let mut report = good.clone();
        report[member] = value;
        report
    };
    let without = |member: &str| -> Value {
        let mut report = good.clone();
        if let Some(members) = report.as_object_mut() {
            members.shift_remove(member);
        }
        report
    };
    add(
        "good",
        true,
        "BRSKI-5.7-07",
        "a report as its CDDL has it",
        good.clone(),
    );
    add(
        "good-false",
        true,
        "BRSKI-5.7-07",
        "a report of a failure",
        with("status", json!(false)),
    );
    add(
        "good-no-context",
        true,
        "BRSKI-5.7-07",
        "reason-context is left out",
        without("reason-context"),
    );
    add(
        "good-no-reason",
        true,
        "BRSKI-5.7-07",
        "reason is left out",
        without("reason"),
    );
    add(
        "good-empty-context",
        true,
        "BRSKI-5.7-07",
        "reason-context is empty",
        with("reason-context", json!({})),
    );
    add(
        "good-extra",
        true,
        "BRSKI-5.7-09",
        "a further member, which is ignored",
        with("later", json!(1)),
    );
    add(
        "good-version-2",
        true,
        "BRSKI-5.7-10",
        "a later version",
        with("version", json!(2)),
    );
    add(
        "good-unicode",
        true,
        "BRSKI-5.7-07",
        "a reason in another script",
        with("reason", json!("有効なバウチャー")),
    );
    for (id, member, value, reason) in [
        ("version-text", "version", json!("1"), "version is a string"),
        (
            "version-negative",
            "version",
            json!(-1),
            "version is negative",
        ),
        ("version-null", "version", Value::Null, "version is null"),
        ("status-text", "status", json!("true"), "status is a string"),
        ("status-number", "status", json!(1), "status is a number"),
        ("status-null", "status", Value::Null, "status is null"),
        ("reason-number", "reason", json!(7), "reason is a number"),
        (
            "reason-array",
            "reason",
            json!(["validated"]),
            "reason is an array",
        ),
        (
            "context-text",
            "reason-context",
            json!("text"),
            "reason-context is a string",
        ),
        (
            "context-array",
            "reason-context",
            json!([]),
            "reason-context is an array",
        ),
    ] {
        add(id, false, "BRSKI-5.7-11", reason, with(member, value));
    }
    add(
        "no-version",
        false,
        "BRSKI-5.7-11",
        "version is missing",
        without("version"),
    );
    add(
        "no-status",
        false,
        "BRSKI-5.7-11",
        "status is missing",
        without("status"),
    );
    add(
        "array",
        false,
        "BRSKI-5.7-11",
        "the report is in an array",
        json!([good]),
    );
    add(
        "null",
        false,
        "BRSKI-5.7-11",
        "the report is null",
        Value::Null,
    );
    for (id, reason, text) in [
        (
            "cut",
            "the last octet is missing",
            "{\"version\":1,\"status\":true",
        ),
        (
            "trailing",
            "something follows",
            "{\"version\":1,\"status\":true}{}",
        ),
        (
            "duplicate",
            "status is there twice",
            "{\"version\":1,\"status\":true,\"status\":false}",
        ),
        (
            "comment",
            "there is a comment",
            "{\"version\":1,/* yes */\"status\":true}",
        ),
        ("empty", "it is empty", ""),
        ("text", "it is no JSON", "status: true"),
    ] {
        vectors.push(document(
            Kind::Telemetry,
            id,
            false,
            "BRSKI-5.7-11",
            reason,
            text.to_owned(),
        ));
    }
    vectors
}
