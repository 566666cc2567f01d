//! What the strict readers refuse, with which fault, and which switch lets it pass.

mod json;
mod xml;

use sztp::message::{GetBootstrappingDataInput, GetBootstrappingDataOutput, ReportProgressInput};
use sztp::restconf::{ErrorTag, Fault};
use sztp::{Encoding, Leniency, Oddity};

use crate::support::names;

#[derive(Clone, Copy, Debug)]
enum Rpc {
    Get,
    Output,
    Report,
}

fn decode(
    rpc: Rpc,
    body: &[u8],
    encoding: Encoding,
    leniency: &Leniency,
) -> Result<Vec<Oddity>, sztp::restconf::RestconfError> {
    match rpc {
        Rpc::Get => GetBootstrappingDataInput::decode(body, encoding, leniency).map(|it| it.1),
        Rpc::Output => GetBootstrappingDataOutput::decode(body, encoding, leniency).map(|it| it.1),
        Rpc::Report => ReportProgressInput::decode(body, encoding, leniency).map(|it| it.1),
    }
}

/// Reads a body strictly and with every switch. `switch` is the one that lets it pass, or empty
/// where none does.
fn case(rpc: Rpc, encoding: Encoding, body: &[u8], fault: Fault, switch: &str) {
    let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    let error = decode(rpc, body, encoding, &Leniency::strict())
        .expect_err(&format!("{rpc:?} {encoding}: {shown}"));
    assert_eq!(error.fault, fault, "{rpc:?} {encoding}: {shown}: {error}");
    assert_eq!(error.status, fault.status());
    let lenient = Leniency::from_names(Leniency::NAMES.iter().copied()).unwrap();
    match switch {
        "" => {
            let result = decode(rpc, body, encoding, &lenient);
            assert!(result.is_err(), "{rpc:?} {encoding}: {shown}");
        }
        switch => {
            let only = Leniency::from_names([switch]).unwrap();
            let oddities = decode(rpc, body, encoding, &only)
                .unwrap_or_else(|error| panic!("{rpc:?} {encoding}: {shown}: {error}"));
            assert_eq!(names(&oddities), [switch], "{shown}");
            let others = Leniency::from_names(
                Leniency::NAMES
                    .iter()
                    .copied()
                    .filter(|name| *name != switch),
            )
            .unwrap();
            decode(rpc, body, encoding, &others).unwrap_err();
        }
    }
}

const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

fn json(rpc: Rpc, members: &str, fault: Fault, switch: &str) {
    let wrapper = match rpc {
        Rpc::Output => "output",
        Rpc::Get | Rpc::Report => "input",
    };
    let body = format!("{{\"ietf-sztp-bootstrap-server:{wrapper}\":{{{members}}}}}");
    case(rpc, Encoding::Json, body.as_bytes(), fault, switch);
}

const SVR: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server";

fn xml(rpc: Rpc, children: &str, fault: Fault, switch: &str) {
    let wrapper = match rpc {
        Rpc::Output => "output",
        Rpc::Get | Rpc::Report => "input",
    };
    let body = format!("<{wrapper} xmlns=\"{SVR}\">{children}</{wrapper}>");
    case(rpc, Encoding::Xml, body.as_bytes(), fault, switch);
}

/// Requirements: SZTP-8040-7-01
#[test]
fn every_fault_has_a_status_that_its_tag_allows() {
    for fault in Fault::ALL {
        // 415 stands in no row of the table; RFC 8040 section 5.2 demands it all the same.
        if fault.status() == 415 {
            assert_eq!(fault.tag(), ErrorTag::InvalidValue);
            continue;
        }
        assert!(
            fault.tag().statuses().contains(&fault.status()),
            "{}: {} with {}",
            fault.code(),
            fault.status(),
            fault.tag()
        );
        // Table row "(response) too-big" is not for requests.
        if fault.tag() == ErrorTag::TooBig {
            assert_eq!(fault.status(), 413);
        }
    }
    // The table as RFC 8040 section 7 prints it.
    let table: &[(&str, &[u16])] = &[
        ("in-use", &[409]),
        ("invalid-value", &[400, 404, 406]),
        ("too-big", &[413, 400]),
        ("missing-attribute", &[400]),
        ("bad-attribute", &[400]),
        ("unknown-attribute", &[400]),
        ("bad-element", &[400]),
        ("unknown-element", &[400]),
        ("unknown-namespace", &[400]),
        ("access-denied", &[401, 403]),
        ("lock-denied", &[409]),
        ("resource-denied", &[409]),
        ("rollback-failed", &[500]),
        ("data-exists", &[409]),
        ("data-missing", &[409]),
        ("operation-not-supported", &[405, 501]),
        ("operation-failed", &[412, 500]),
        ("partial-operation", &[500]),
        ("malformed-message", &[400]),
    ];
    assert_eq!(table.len(), ErrorTag::ALL.len());
    for (name, statuses) in table {
        assert_eq!(ErrorTag::parse(name).unwrap().statuses(), *statuses);
    }
}

/// Requirements: SZTP-8040-3.6.1-02, SZTP-8040-3.6.1-03, SZTP-8572-7.1-02
#[test]
fn an_absent_body_and_an_empty_input() {
    let strict = Leniency::strict();
    for encoding in [Encoding::Json, Encoding::Xml] {
        let (input, oddities) = GetBootstrappingDataInput::decode(b"", encoding, &strict).unwrap();
        assert_eq!(input, GetBootstrappingDataInput::default());
        assert!(oddities.is_empty());
        let error = ReportProgressInput::decode(b"", encoding, &Leniency::lenient()).unwrap_err();
        assert_eq!(error.fault, Fault::BodyMissing);
    }
    for (encoding, body) in [
        (
            Encoding::Json,
            "{\"ietf-sztp-bootstrap-server:input\":{}}".to_owned(),
        ),
        (Encoding::Xml, format!("<input xmlns=\"{SVR}\"/>")),
        (
            Encoding::Xml,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x --><s:input xmlns:s=\"{SVR}\">\n</s:input>\n"
            ),
        ),
    ] {
        let (input, _) =
            GetBootstrappingDataInput::decode(body.as_bytes(), encoding, &strict).unwrap();
        assert_eq!(input, GetBootstrappingDataInput::default());
    }
}
