//! What one end writes the other end reads, in both encodings, strictly and without an oddity.

use proptest::prelude::*;
use sztp::message::{
    CsrRequest, GetBootstrappingDataInput, GetBootstrappingDataOutput, ReportProgressInput,
};
use sztp::restconf::{ErrorReport, Fault, RestconfError};
use sztp::{Encoding, Leniency};

use crate::messages;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Xml];

proptest! {
    /// Requirements: SZTP-7951-6.6-01, SZTP-7951-6.9-01, SZTP-7950-9.10.3-01
    #[test]
    fn requests(input in messages::input()) {
        for encoding in BOTH {
            let body = input.encode(encoding);
            let (read, oddities) =
                GetBootstrappingDataInput::decode(&body, encoding, &Leniency::strict()).unwrap();
            prop_assert_eq!(&read, &input);
            prop_assert!(oddities.is_empty());
        }
    }

    #[test]
    fn replies(output in messages::output()) {
        for encoding in BOTH {
            let body = output.encode(encoding);
            let (read, oddities) =
                GetBootstrappingDataOutput::decode(&body, encoding, &Leniency::strict()).unwrap();
            prop_assert_eq!(&read, &output);
            prop_assert!(oddities.is_empty());
        }
    }

    #[test]
    fn reports(report in messages::report()) {
        for encoding in BOTH {
            let body = report.encode(encoding);
            let (read, oddities) =
                ReportProgressInput::decode(&body, encoding, &Leniency::strict()).unwrap();
            prop_assert_eq!(&read, &report);
            prop_assert!(oddities.is_empty());
        }
    }

    /// Requirements: SZTP-9646-2.3-01, SZTP-8040-8-01
    #[test]
    fn errors(message in messages::text(), request in messages::request()) {
        let error = RestconfError::new(Fault::CsrWanted, message.as_str())
            .with_csr_request(request.clone());
        for encoding in BOTH {
            let body = error.encode(encoding);
            let (report, oddities) =
                ErrorReport::decode(&body, encoding, &Leniency::strict()).unwrap();
            prop_assert!(oddities.is_empty());
            prop_assert_eq!(report.csr_request(400), Some(&request));
            prop_assert_eq!(report.errors[0].message.as_ref(), Some(&message));
            prop_assert_eq!(report.errors[0].app_tag.as_deref(), Some("sztp.csr-wanted"));
            let alone = request.encode(encoding);
            prop_assert_eq!(&CsrRequest::decode(&alone, encoding).unwrap(), &request);
        }
    }

    /// Nothing that a peer sends makes a reader panic, and what is refused has a client error.
    #[test]
    fn any_text(text in "\\PC{0,60}", name in "(input|output|errors)") {
        let lenient = Leniency::from_names(Leniency::NAMES.iter().copied()).unwrap();
        let wrapped = format!("{{\"ietf-sztp-bootstrap-server:{name}\":{{{text}}}}}");
        let tagged = format!(
            "<{name} xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\">{text}</{name}>"
        );
        for body in [&text, &wrapped, &tagged] {
            for encoding in BOTH {
                for result in [
                    GetBootstrappingDataInput::decode(body.as_bytes(), encoding, &lenient).err(),
                    GetBootstrappingDataOutput::decode(body.as_bytes(), encoding, &lenient).err(),
                    ReportProgressInput::decode(body.as_bytes(), encoding, &lenient).err(),
                    ErrorReport::decode(body.as_bytes(), encoding, &lenient).err(),
                ] {
                    let status = result.map_or(400, |error| error.status);
                    prop_assert!((400..500).contains(&status));
                }
            }
        }
    }
}

/// What YANG has no character for is replaced when it is written, so that a script's output
/// with control characters does not make a report that servers refuse.
#[test]
fn control_characters_are_replaced() {
    let report = ReportProgressInput::new(
        sztp::message::ProgressType::PreScriptError,
        Some("\u{1b}[31mred\u{0}\u{ffff}".to_owned()),
    );
    for encoding in BOTH {
        let body = report.encode(encoding);
        let (read, _) = ReportProgressInput::decode(&body, encoding, &Leniency::strict()).unwrap();
        assert_eq!(
            read.message.as_deref(),
            Some("\u{fffd}[31mred\u{fffd}\u{fffd}")
        );
    }
}

/// Requirements: SZTP-8040-7.1-03, SZTP-8040-3.6.3-01
#[test]
fn the_place_of_a_fault_is_written_in_the_form_of_the_encoding() {
    let body = b"{\"ietf-sztp-bootstrap-server:input\":{\"ietf-sztp-csr:csr-support\":{\"key-generation\":{\"supported-algorithms\":{\"algorithm-identifier\":[\"-\"]}}}}}";
    let error =
        GetBootstrappingDataInput::decode(body, Encoding::Json, &Leniency::strict()).unwrap_err();
    let json = String::from_utf8(error.encode(Encoding::Json)).unwrap();
    assert!(
        json.contains("\"error-path\":\"/ietf-sztp-bootstrap-server:input/ietf-sztp-csr:csr-support/key-generation/supported-algorithms/algorithm-identifier\""),
        "{json}"
    );
    let xml = String::from_utf8(error.encode(Encoding::Xml)).unwrap();
    assert!(
        xml.contains(
            "<error-path xmlns:sztp-svr=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\" \
             xmlns:sztp-csr=\"urn:ietf:params:xml:ns:yang:ietf-sztp-csr\">/sztp-svr:input/sztp-csr:csr-support/\
             sztp-csr:key-generation/sztp-csr:supported-algorithms/sztp-csr:algorithm-identifier</error-path>"
        ),
        "{xml}"
    );
    assert!(xml.starts_with("<errors xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\"><error><error-type>protocol</error-type><error-tag>invalid-value</error-tag><error-app-tag>restconf.bad-base64</error-app-tag>"));
}
