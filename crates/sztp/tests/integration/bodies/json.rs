//! JSON bodies.

use sztp::message::GetBootstrappingDataInput;
use sztp::restconf::{ErrorReport, Fault};
use sztp::{Encoding, Leniency};

use super::{NONCE, Rpc, case, decode, json, xml};
use crate::support::names;

/// Requirements: SZTP-8040-3.6.1-01, SZTP-8040-5.2-01, SZTP-7951-7-01, SZTP-7951-8-01
#[test]
fn json_texts() {
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let wide = format!("[{}0]", "0,".repeat(10_000));
    let deep_object = "{\"a\":".repeat(100_000);
    let large = format!(
        "{{\"ietf-sztp-bootstrap-server:input\":{{\"hw-model\":\"{}\"}}}}",
        "x".repeat(300_000)
    );
    for (text, fault, switch) in [
        (&b" "[..], Fault::NotJson, ""),
        (b"null", Fault::WrongWrapper, ""),
        (b"[]", Fault::WrongWrapper, ""),
        (b"{}", Fault::WrongWrapper, ""),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":{}",
            Fault::NotJson,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":{}} x",
            Fault::NotJson,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":{},\"a\":1}",
            Fault::WrongWrapper,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":{\"hw-model\":\"a\",\"hw-model\":\"a\"}}",
            Fault::DuplicateMember,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":{},\"ietf-sztp-bootstrap-server:input\":{}}",
            Fault::DuplicateMember,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":{\"hw-model\":\"\xff\"}}",
            Fault::NotUtf8,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":[]}",
            Fault::WrongType,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:input\":null}",
            Fault::WrongType,
            "",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:output\":{}}",
            Fault::WrongWrapper,
            "",
        ),
        (b"{\"ietf-sztp-csr:input\":{}}", Fault::WrongWrapper, ""),
        (
            b"{\"input\":{}}",
            Fault::WrongWrapper,
            "names-qualification",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":{}}",
            Fault::WrongWrapper,
            "rpc-wrapper",
        ),
        (
            b"{\"ietf-sztp-bootstrap-server:report-progress\":{}}",
            Fault::WrongWrapper,
            "",
        ),
        (
            b"\xef\xbb\xbf{\"ietf-sztp-bootstrap-server:input\":{}}",
            Fault::ByteOrderMark,
            "byte-order-mark",
        ),
        (deep.as_bytes(), Fault::TooDeep, ""),
        (&deep_object.as_bytes()[..200_000], Fault::TooDeep, ""),
        (large.as_bytes(), Fault::TooLarge, ""),
        (wide.as_bytes(), Fault::TooMany, ""),
    ] {
        case(Rpc::Get, Encoding::Json, text, fault, switch);
    }
}

/// Requirements: SZTP-7951-4-01, SZTP-7951-4-02, SZTP-7951-5-01, SZTP-7951-6.6-01, SZTP-7951-6.9-01, SZTP-8572-7.3-04, SZTP-8572-7.3-06, SZTP-7950-9.8.2-01
#[test]
fn json_leafs_of_the_request() {
    use Rpc::Get;
    for (members, fault, switch) in [
        (
            "\"signed-data-preferred\":true",
            Fault::WrongType,
            "empty-type",
        ),
        (
            "\"signed-data-preferred\":null",
            Fault::WrongType,
            "empty-type",
        ),
        (
            "\"signed-data-preferred\":\"\"",
            Fault::WrongType,
            "empty-type",
        ),
        (
            "\"signed-data-preferred\":{}",
            Fault::WrongType,
            "empty-type",
        ),
        (
            "\"signed-data-preferred\":[]",
            Fault::WrongType,
            "empty-type",
        ),
        ("\"signed-data-preferred\":false", Fault::WrongType, ""),
        (
            "\"signed-data-preferred\":[null,null]",
            Fault::WrongType,
            "",
        ),
        ("\"signed-data-preferred\":[false]", Fault::WrongType, ""),
        ("\"signed-data-preferred\":0", Fault::WrongType, ""),
        ("\"hw-model\":7", Fault::WrongType, ""),
        ("\"hw-model\":null", Fault::WrongType, ""),
        ("\"hw-model\":[\"a\"]", Fault::WrongType, ""),
        ("\"hw-model\":\"a\\u0000b\"", Fault::BadValue, ""),
        ("\"hw-model\":\"\\u001b[2J\"", Fault::BadValue, ""),
        ("\"hw-model\":\"\\uffff\"", Fault::BadValue, ""),
        ("\"hw-model\":\"\\ud800\"", Fault::NotJson, ""),
        ("\"nonce\":\"\"", Fault::BadLength, "empty-nonce"),
        ("\"nonce\":\"AAAAAAAAAAAAAAAAAAAA\"", Fault::BadLength, ""),
        (
            "\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
            Fault::BadLength,
            "",
        ),
        (
            "\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAA\"",
            Fault::BadBase64,
            "base64-padding",
        ),
        (
            "\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAB==\"",
            Fault::BadBase64,
            "base64-trailing-bits",
        ),
        (
            "\"nonce\":\"AAAAAAAAAA\\nAAAAAAAAAAAA==\"",
            Fault::BadBase64,
            "base64-white-space",
        ),
        (
            "\"nonce\":\"AAAAAAAAAAAAAAAAAAAA_w==\"",
            Fault::BadBase64,
            "base64-url",
        ),
        (
            "\"nonce\":\"A_AAAAAAAAAAAAAAAAAA+w==\"",
            Fault::BadBase64,
            "",
        ),
        (
            "\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAA==AAAA\"",
            Fault::BadBase64,
            "",
        ),
        (
            "\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAA===\"",
            Fault::BadBase64,
            "",
        ),
        ("\"nonce\":\"!\"", Fault::BadBase64, ""),
        ("\"nonce\":16", Fault::WrongType, ""),
        (
            "\"ietf-sztp-bootstrap-server:hw-model\":\"a\"",
            Fault::UnknownElement,
            "names-qualification",
        ),
        (
            "\"hw-model\":\"a\",\"ietf-sztp-bootstrap-server:hw-model\":\"a\"",
            Fault::UnknownElement,
            "",
        ),
        (
            "\"hw_model\":\"a\"",
            Fault::UnknownElement,
            "unknown-members",
        ),
        (
            "\"example:hw-model\":\"a\"",
            Fault::UnknownNamespace,
            "unknown-members",
        ),
        (
            "\"@hw-model\":{}",
            Fault::UnknownAttribute,
            "unknown-members",
        ),
    ] {
        json(Get, members, fault, switch);
    }
    let body = format!(
        "{{\"ietf-sztp-bootstrap-server:input\":{{\"os-name\":\"\\ud83d\\ude00\\t\",\"nonce\":\"{NONCE}\",\"hw-model\":\"\"}}}}"
    );
    let (input, _) =
        GetBootstrappingDataInput::decode(body.as_bytes(), Encoding::Json, &Leniency::strict())
            .unwrap();
    assert_eq!(input.os_name.as_deref(), Some("\u{1f600}\t"));
    assert_eq!(input.hw_model.as_deref(), Some(""));
    assert_eq!(input.nonce.unwrap().len(), 16);
    // An empty nonce that is let pass is no nonce.
    let (input, _) = GetBootstrappingDataInput::decode(
        b"{\"ietf-sztp-bootstrap-server:input\":{\"nonce\":\"\"}}",
        Encoding::Json,
        &Leniency::from_names(["empty-nonce"]).unwrap(),
    )
    .unwrap();
    assert_eq!(input.nonce, None);
}

/// Requirements: SZTP-9646-2.1-01, SZTP-9646-2.1-02, SZTP-9646-2.1-03, SZTP-9646-3.2-01, SZTP-9646-3.2-02, SZTP-9646-3.2-07, SZTP-7951-6.8-01, SZTP-7951-5-01
#[test]
fn json_of_rfc_9646() {
    let support = |key: &str, formats: &str| {
        format!(
            "\"ietf-sztp-csr:csr-support\":{{{key}\"csr-generation\":{{\"supported-formats\":{{{formats}}}}}}}"
        )
    };
    let p10 = "\"format-identifier\":[\"ietf-ztp-types:p10-csr\"]";
    let generation = |algorithms: &str| {
        format!("\"key-generation\":{{\"supported-algorithms\":{{{algorithms}}}}},")
    };
    for (members, fault, switch) in [
        (support("", ""), Fault::MissingElement, ""),
        (
            support("", "\"format-identifier\":[]"),
            Fault::MissingElement,
            "",
        ),
        (
            support("", "\"format-identifier\":[\"p10-csr\"]"),
            Fault::BadValue,
            "identity-unqualified",
        ),
        (
            support("", "\"format-identifier\":[\"ietf-sztp-csr:p10-csr\"]"),
            Fault::BadValue,
            "unknown-formats",
        ),
        (
            support("", "\"format-identifier\":[\"ietf-ztp-types:scep-csr\"]"),
            Fault::BadValue,
            "unknown-formats",
        ),
        (
            support("", "\"format-identifier\":\"ietf-ztp-types:p10-csr\""),
            Fault::WrongType,
            "list-without-array",
        ),
        (support(&generation(""), p10), Fault::MissingElement, ""),
        (
            support(&generation("\"algorithm-identifier\":[]"), p10),
            Fault::MissingElement,
            "",
        ),
        (
            support("\"key-generation\":{},", p10),
            Fault::MissingElement,
            "",
        ),
        (
            "\"ietf-sztp-csr:csr-support\":{}".to_owned(),
            Fault::MissingElement,
            "",
        ),
        (
            support("", p10).replace("ietf-sztp-csr:", ""),
            Fault::UnknownElement,
            "names-qualification",
        ),
        (
            support("", p10).replace("ietf-sztp-csr:", "ietf-ztp-types:"),
            Fault::UnknownElement,
            "unknown-members",
        ),
        (
            support("", p10).replace("csr-generation", "ietf-sztp-csr:csr-generation"),
            Fault::UnknownElement,
            "names-qualification",
        ),
        (
            "\"ietf-sztp-csr:csr\":{\"p10-csr\":\"AAAA\"}".to_owned(),
            Fault::UnknownElement,
            "unknown-members",
        ),
        (
            "\"p10-csr\":\"AAAA\"".to_owned(),
            Fault::UnknownElement,
            "names-qualification",
        ),
        (
            format!("{},\"ietf-sztp-csr:p10-csr\":\"AAAA\"", support("", p10)),
            Fault::NotTogether,
            "",
        ),
        (
            "\"ietf-sztp-csr:p10-csr\":\"AAAA\",\"ietf-sztp-csr:cmc-csr\":\"AAAA\"".to_owned(),
            Fault::NotTogether,
            "",
        ),
        (
            "\"ietf-sztp-csr:cmc-csr\":\"AAAA\",\"ietf-sztp-csr:cmp-csr\":\"AAAA\"".to_owned(),
            Fault::NotTogether,
            "",
        ),
    ] {
        json(Rpc::Get, &members, fault, switch);
    }
    let many = vec!["\"AAAA\""; 65].join(",");
    let members = support(
        &generation(&format!("\"algorithm-identifier\":[{many}]")),
        p10,
    );
    json(Rpc::Get, &members, Fault::TooMany, "");
}

/// Requirements: SZTP-8572-7.3-14, SZTP-8572-7.3-17, SZTP-8572-7.3-19, SZTP-8572-7.3-21
#[test]
fn json_reports() {
    let key = "\"ssh-host-keys\":{\"ssh-host-key\":[{\"algorithm\":\"a\",\"key-data\":\"AAAA\"}]}";
    for (members, fault, switch) in [
        ("".to_owned(), Fault::MissingElement, ""),
        ("\"message\":\"a\"".to_owned(), Fault::MissingElement, ""),
        ("\"progress-type\":\"done\"".to_owned(), Fault::BadValue, ""),
        ("\"progress-type\":\"Bootstrap-Complete\"".to_owned(), Fault::BadValue, ""),
        ("\"progress-type\":\"\"".to_owned(), Fault::BadValue, ""),
        ("\"progress-type\":[null]".to_owned(), Fault::WrongType, ""),
        (format!("\"progress-type\":\"informational\",{key}"), Fault::NotTogether, ""),
        (format!("\"progress-type\":\"bootstrap-error\",{key}"), Fault::NotTogether, ""),
        ("\"progress-type\":\"bootstrap-initiated\",\"ssh-host-keys\":{},\"trust-anchor-certs\":{}".to_owned(), Fault::NotTogether, "empty-containers"),
        ("\"progress-type\":\"bootstrap-complete\",\"ssh-host-keys\":{\"ssh-host-key\":[{\"algorithm\":\"a\"}]}".to_owned(), Fault::MissingElement, ""),
        ("\"progress-type\":\"bootstrap-complete\",\"ssh-host-keys\":{\"ssh-host-key\":[{\"key-data\":\"AAAA\"}]}".to_owned(), Fault::MissingElement, ""),
        ("\"progress-type\":\"bootstrap-complete\",\"ssh-host-keys\":{\"ssh-host-key\":{\"algorithm\":\"a\",\"key-data\":\"AAAA\"}}".to_owned(), Fault::WrongType, "list-without-array"),
        ("\"progress-type\":\"bootstrap-complete\",\"trust-anchor-certs\":{\"trust-anchor-cert\":[\"bXlzc2hwYXNz\"]}".to_owned(), Fault::BadValue, "trust-anchor-not-cms"),
        ("\"progress-type\":\"bootstrap-complete\",\"trust-anchor-certs\":[]".to_owned(), Fault::WrongType, ""),
    ] {
        json(Rpc::Report, &members, fault, switch);
    }
}

/// Requirements: SZTP-8572-7.3-08, SZTP-8572-7.3-09, SZTP-8572-7.3-10
#[test]
fn replies() {
    for (members, fault, switch) in [
        ("", Fault::MissingElement, ""),
        (
            "\"conveyed-information\":\"AAAA\",\"owner-certificate\":\"AAAA\"",
            Fault::NotTogether,
            "",
        ),
        (
            "\"conveyed-information\":\"AAAA\",\"ownership-voucher\":\"AAAA\"",
            Fault::NotTogether,
            "",
        ),
        (
            "\"conveyed-information\":\"AAAA\",\"reporting-level\":\"loud\"",
            Fault::BadValue,
            "",
        ),
        (
            "\"conveyed-information\":\"AAAA\\nAAAA\"",
            Fault::BadBase64,
            "base64-white-space",
        ),
    ] {
        json(Rpc::Output, members, fault, switch);
    }
    let conveyed = "<conveyed-information>AAAA</conveyed-information>";
    xml(Rpc::Output, "", Fault::MissingElement, "");
    xml(
        Rpc::Output,
        &format!("{conveyed}<ownership-voucher>AAAA</ownership-voucher>"),
        Fault::NotTogether,
        "",
    );
    // What an Arista library serves: base64 with line feeds, and capitals in the namespace.
    let body = "<output xmlns=\"urn:ietf:params:xml:ns:yang:ietf-SZTP-bootstrap-server\">\
                <conveyed-information>AAAA\nAAAA\n</conveyed-information></output>";
    let error = decode(
        Rpc::Output,
        body.as_bytes(),
        Encoding::Xml,
        &Leniency::strict(),
    )
    .unwrap_err();
    assert_eq!(error.fault, Fault::UnknownNamespace);
    let oddities = decode(
        Rpc::Output,
        body.as_bytes(),
        Encoding::Xml,
        &Leniency::lenient(),
    )
    .unwrap();
    assert_eq!(
        names(&oddities),
        ["base64-white-space", "namespace-spelling"]
    );
}

/// A server that asks for a CSR in a format that is not known has not asked for one: strictly
/// its error is malformed, and read with every switch it holds no request.
///
/// Requirements: SZTP-9646-3.2-08
#[test]
fn a_csr_request_of_an_unknown_format() {
    let body = r#"{"ietf-restconf:errors":{"error":[{"error-type":"protocol","error-tag":"missing-attribute",
        "error-info":{"ietf-sztp-csr:csr-request":{"csr-generation":{"selected-format":{
        "format-identifier":"ietf-ztp-types:new-csr"}}},"example:other":{"deep":[1,{"a":null}]}}}]}}"#;
    let decode = |leniency| ErrorReport::decode(body.as_bytes(), Encoding::Json, &leniency);
    assert_eq!(
        decode(Leniency::strict()).unwrap_err().fault,
        Fault::BadValue
    );
    let (report, oddities) = decode(Leniency::lenient()).unwrap();
    assert_eq!(report.csr_request(400), None);
    assert_eq!(names(&oddities), ["unknown-formats"]);
    // Other data in error-info is none of our business.
    let known = body.replace("new-csr", "p10-csr");
    let (report, oddities) =
        ErrorReport::decode(known.as_bytes(), Encoding::Json, &Leniency::strict()).unwrap();
    assert!(report.csr_request(400).is_some());
    assert!(oddities.is_empty());
}
