//! Telemetry in CBOR.

use super::*;

/// Requirements: CBR-047, CBR-049, CBR-050
#[test]
fn telemetry() {
    let strict = Tolerances::strict();
    let fault = |value: &Value| {
        VoucherStatus::from_cbor(&written(value), &strict)
            .err()
            .and_then(|error| error.fault())
    };
    let map = |entries: &[(&str, Value)]| {
        Value::Map(
            entries
                .iter()
                .map(|(key, value)| (text(key), value.clone()))
                .collect(),
        )
    };
    let (one, yes) = (int(1), Value::Bool(true));
    for (what, value, want) in [
        (
            "right",
            map(&[("version", one.clone()), ("status", yes.clone())]),
            None,
        ),
        (
            "newer, with what is unknown",
            map(&[
                ("version", int(2)),
                ("status", yes.clone()),
                ("new", Value::Null),
            ]),
            None,
        ),
        (
            "status 1",
            map(&[("version", one.clone()), ("status", one.clone())]),
            Some(Fault::WrongType),
        ),
        (
            "version true",
            map(&[("version", yes.clone()), ("status", yes.clone())]),
            Some(Fault::WrongType),
        ),
        (
            "version -1",
            map(&[("version", int(-1)), ("status", yes.clone())]),
            Some(Fault::WrongType),
        ),
        (
            "no status",
            map(&[("version", one.clone())]),
            Some(Fault::MissingMember),
        ),
        (
            "capitals",
            map(&[("Version", one.clone()), ("Status", yes.clone())]),
            Some(Fault::MissingMember),
        ),
        (
            "keys that are numbers",
            Value::Map(vec![(int(0), one.clone()), (int(1), yes.clone())]),
            Some(Fault::WrongType),
        ),
        (
            "context that is a text",
            map(&[
                ("version", one.clone()),
                ("status", yes.clone()),
                ("reason-context", text("x")),
            ]),
            Some(Fault::WrongType),
        ),
        (
            "reason that is octets",
            map(&[
                ("version", one.clone()),
                ("status", yes),
                ("reason", Value::Bytes(vec![1])),
            ]),
            Some(Fault::WrongType),
        ),
        ("an array", Value::Array(vec![]), Some(Fault::WrongType)),
    ] {
        assert_eq!(fault(&value), want, "{what}");
    }
    let cut = VoucherStatus::from_cbor(b"\xa2\x67version\x01\x66stat", &strict);
    assert_eq!(cut.unwrap_err().fault(), Some(Fault::NotCbor));
    let long = [&b"\x59\x50\x00"[..], &[0; 0x5000]].concat();
    let long = VoucherStatus::from_cbor(&long, &strict);
    assert_eq!(long.unwrap_err().fault(), Some(Fault::TooLarge));
    // OpenThread's device.
    let openthread = written(&map(&[
        ("version", one),
        ("status", Value::Bool(false)),
        ("reason-context", text("Additional information")),
    ]));
    let (report, oddities) = VoucherStatus::from_cbor(&openthread, &Tolerances::lenient()).unwrap();
    assert_eq!(
        report.reason_context.unwrap()["0"],
        "Additional information"
    );
    assert_eq!(oddities[0].name, "reason-context-text");
}

/// Requirements: CBR-047, CBR-049
#[test]
fn published_telemetry() {
    for (name, status, context) in [
        ("es-success", true, false),
        ("es-failure", false, false),
        ("vs-failure", false, true),
    ] {
        let bytes = file(&format!("cbrski-31/telemetry-{name}.cbor"));
        let diag = String::from_utf8(file(&format!("cbrski-31/telemetry-{name}.diag"))).unwrap();
        let (item, _) = Item::parse(&bytes).unwrap();
        assert_eq!(item.to_string(), diag.trim(), "{name}");
        let (report, oddities) = VoucherStatus::from_cbor(&bytes, &Tolerances::strict()).unwrap();
        assert_eq!((report.version, report.status), (1, status), "{name}");
        assert_eq!(report.reason.is_some(), !status, "{name}");
        assert_eq!(report.reason_context.is_some(), context, "{name}");
        assert!(oddities.is_empty() && report.unknown.is_empty(), "{name}");
        // What we write, ciborium reads as it reads the example, but for the context's key.
        let (again, _) =
            VoucherStatus::from_cbor(&report.to_cbor(), &Tolerances::strict()).unwrap();
        assert_eq!(again, report, "{name}");
        if !context {
            let sorted = |bytes: &[u8]| {
                let mut entries = foreign(bytes).into_map().unwrap();
                entries.sort_by_key(|(key, _)| written(key));
                entries
            };
            assert_eq!(sorted(&report.to_cbor()), sorted(&bytes), "{name}");
        }
    }
}
