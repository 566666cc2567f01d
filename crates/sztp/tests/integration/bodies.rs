//! What the strict readers refuse, with which fault, and which switch lets it pass.

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

/// Requirements: SZTP-8040-3.6.1-01, SZTP-8040-5.2-01, SZTP-7951-7-01, SZTP-7951-8-01
#[test]
fn json_texts() {
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
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
        (deep_object[..200_000].as_bytes(), Fault::TooDeep, ""),
        (large.as_bytes(), Fault::TooLarge, ""),
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

/// Requirements: SZTP-7950-9.10.3-01, SZTP-7950-7.14.4-01
#[test]
fn xml_texts() {
    let deep = format!("<input xmlns=\"{SVR}\">{}", "<a>".repeat(60_000));
    let wide = format!("<input xmlns=\"{SVR}\">{}</input>", "<a/>".repeat(10_001));
    let attributes: String = (0..17)
        .map(|at| format!(" xmlns:p{at}=\"u:{at}\""))
        .collect();
    let attributes = format!("<input xmlns=\"{SVR}\"{attributes}/>");
    let open = format!("<input xmlns=\"{SVR}\">");
    let doctype = |inside: &str, content: &str| {
        format!(
            "<!DOCTYPE input {inside}><input xmlns=\"{SVR}\"><hw-model>{content}</hw-model></input>"
        )
    };
    let billion = "[<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;\">]";
    for (text, fault, switch) in [
        (" ".to_owned(), Fault::NotXml, ""),
        ("x".to_owned(), Fault::NotXml, ""),
        ("{}".to_owned(), Fault::NotXml, ""),
        (open.clone(), Fault::NotXml, ""),
        (format!("{open}</output>"), Fault::NotXml, ""),
        (format!("{open}</input><input/>"), Fault::NotXml, ""),
        (format!("{open}</input>x"), Fault::NotXml, ""),
        (format!("x{open}</input>"), Fault::NotXml, ""),
        (format!("{open}</input>&#120;"), Fault::NotXml, ""),
        (format!("<![CDATA[x]]>{open}</input>"), Fault::NotXml, ""),
        (
            format!(" <?xml version=\"1.0\"?>{open}</input>"),
            Fault::NotXml,
            "",
        ),
        (
            format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{open}</input>"),
            Fault::NotUtf8,
            "",
        ),
        (
            format!("\u{feff}{open}</input>"),
            Fault::ByteOrderMark,
            "byte-order-mark",
        ),
        (
            "<input/>".to_owned(),
            Fault::UnknownNamespace,
            "namespace-spelling",
        ),
        (
            "<input xmlns=\"urn:other\"/>".to_owned(),
            Fault::UnknownNamespace,
            "",
        ),
        (
            format!("<output xmlns=\"{SVR}\"/>"),
            Fault::WrongWrapper,
            "",
        ),
        (
            format!("<get-bootstrapping-data xmlns=\"{SVR}\"/>"),
            Fault::WrongWrapper,
            "rpc-wrapper",
        ),
        (
            doctype("SYSTEM \"file:///etc/passwd\"", "x"),
            Fault::Doctype,
            "",
        ),
        (
            doctype("[<!ENTITY x SYSTEM \"file:///etc/passwd\">]", "&x;"),
            Fault::Doctype,
            "",
        ),
        (doctype(billion, "&c;"), Fault::Doctype, ""),
        (
            format!("{open}<hw-model>&x;</hw-model></input>"),
            Fault::Doctype,
            "",
        ),
        (format!("{open}<?php x?></input>"), Fault::Doctype, ""),
        (
            format!("<?xml-stylesheet href=\"x\"?>{open}</input>"),
            Fault::Doctype,
            "",
        ),
        (deep, Fault::TooDeep, ""),
        (wide, Fault::TooMany, ""),
        (attributes, Fault::TooMany, ""),
        (
            format!("<input xmlns=\"{SVR}\" xmlns=\"{SVR}\"/>"),
            Fault::NotXml,
            "",
        ),
        (
            format!("<p:input xmlns=\"{SVR}\"/>"),
            Fault::UnknownNamespace,
            "",
        ),
        (format!("<:input xmlns=\"{SVR}\"/>"), Fault::NotXml, ""),
        (
            format!("<input xmlns=\"{SVR}\" xmlns:p=\"\"/>"),
            Fault::NotXml,
            "",
        ),
        (
            format!("<input xmlns=\"{SVR}\" xmlns:xmlns=\"u:u\"/>"),
            Fault::NotXml,
            "",
        ),
        (
            format!("{open}<hw-model>&#0;</hw-model></input>"),
            Fault::NotXml,
            "",
        ),
        (
            format!("{open}<hw-model>a & b</hw-model></input>"),
            Fault::NotXml,
            "",
        ),
        (format!("{open}<!-- -- --></input>"), Fault::NotXml, ""),
        (
            format!("{open}<hw-model>{}</hw-model></input>", "x".repeat(300_000)),
            Fault::TooLarge,
            "",
        ),
    ] {
        case(Rpc::Get, Encoding::Xml, text.as_bytes(), fault, switch);
    }
    case(
        Rpc::Get,
        Encoding::Xml,
        b"<input>\xff</input>",
        Fault::NotUtf8,
        "",
    );
}

/// Requirements: SZTP-7950-9.8.2-01, SZTP-7950-9.10.3-01, SZTP-7951-6.6-01
#[test]
fn xml_leafs_of_the_request() {
    let csr = "urn:ietf:params:xml:ns:yang:ietf-sztp-csr";
    let zt = "urn:ietf:params:xml:ns:yang:ietf-ztp-types";
    let support = |format: &str| {
        format!(
            "<csr-support xmlns=\"{csr}\"><csr-generation><supported-formats>{format}</supported-formats></csr-generation></csr-support>"
        )
    };
    for (children, fault, switch) in [
        ("x".to_owned(), Fault::WrongType, ""),
        (
            "<signed-data-preferred>true</signed-data-preferred>".to_owned(),
            Fault::WrongType,
            "empty-type",
        ),
        (
            "<signed-data-preferred> </signed-data-preferred>".to_owned(),
            Fault::WrongType,
            "empty-type",
        ),
        (
            "<signed-data-preferred>false</signed-data-preferred>".to_owned(),
            Fault::WrongType,
            "",
        ),
        (
            "<signed-data-preferred/><signed-data-preferred/>".to_owned(),
            Fault::DuplicateMember,
            "",
        ),
        (
            "<hw-model>a</hw-model><hw-model>a</hw-model>".to_owned(),
            Fault::DuplicateMember,
            "",
        ),
        ("<hw-model><b/></hw-model>".to_owned(), Fault::WrongType, ""),
        ("<hw-model>\u{1}</hw-model>".to_owned(), Fault::BadValue, ""),
        (
            "<hw-model a=\"b\">x</hw-model>".to_owned(),
            Fault::UnknownAttribute,
            "unknown-members",
        ),
        (
            "<hw-model xmlns=\"\">x</hw-model>".to_owned(),
            Fault::UnknownNamespace,
            "namespace-spelling",
        ),
        (
            "<hw-model xmlns=\"u:u\">x</hw-model>".to_owned(),
            Fault::UnknownNamespace,
            "unknown-members",
        ),
        (
            "<hw_model>x</hw_model>".to_owned(),
            Fault::UnknownElement,
            "unknown-members",
        ),
        ("<nonce/>".to_owned(), Fault::BadLength, "empty-nonce"),
        (
            format!("<nonce>\n{NONCE}\n</nonce>"),
            Fault::BadBase64,
            "base64-white-space",
        ),
        (
            "<nonce>AAAAAAAAAAAAAAAAAAAAAB==</nonce>".to_owned(),
            Fault::BadBase64,
            "base64-trailing-bits",
        ),
        (
            "<csr-support/>".to_owned(),
            Fault::UnknownElement,
            "unknown-members",
        ),
        (
            support("<format-identifier>p10-csr</format-identifier>"),
            Fault::BadValue,
            "identity-unqualified",
        ),
        (
            support(&format!(
                "<format-identifier xmlns:z=\"{csr}\">z:p10-csr</format-identifier>"
            )),
            Fault::BadValue,
            "unknown-formats",
        ),
        (
            support(&format!(
                "<format-identifier xmlns:z=\"{zt}\">z:new-csr</format-identifier>"
            )),
            Fault::BadValue,
            "unknown-formats",
        ),
        (
            support("<format-identifier>zt:p10-csr</format-identifier>"),
            Fault::BadValue,
            "unknown-formats",
        ),
        (support(""), Fault::MissingElement, ""),
        (
            format!(
                "<p10-csr xmlns=\"{csr}\">AAAA</p10-csr><cmp-csr xmlns=\"{csr}\">AAAA</cmp-csr>"
            ),
            Fault::NotTogether,
            "",
        ),
    ] {
        xml(Rpc::Get, &children, fault, switch);
    }
    // Any order, any prefix, references, CDATA and line ends, the prefix on an ancestor.
    let body = format!(
        "<s:input xmlns:s=\"{SVR}\" xmlns:c=\"{csr}\" xmlns:q=\"{zt}\">\n\
         <c:csr-support><c:csr-generation><c:supported-formats>\
         <c:format-identifier>\n q:p10-csr </c:format-identifier>\
         <c:format-identifier xmlns=\"{zt}\">cmc-csr</c:format-identifier>\
         </c:supported-formats></c:csr-generation></c:csr-support>\
         <s:os-version>a&lt;&#x62;<!-- c --><![CDATA[<d>]]>\r\ne&#13;</s:os-version>\
         <s:hw-model/></s:input>"
    );
    let (input, oddities) =
        GetBootstrappingDataInput::decode(body.as_bytes(), Encoding::Xml, &Leniency::strict())
            .unwrap();
    assert!(oddities.is_empty());
    assert_eq!(input.os_version.as_deref(), Some("a<b<d>\ne\r"));
    assert_eq!(input.hw_model.as_deref(), Some(""));
    let Some(sztp::message::CsrInput::Support(support)) = input.csr else {
        panic!("csr-support");
    };
    assert_eq!(support.algorithms, None);
    assert_eq!(
        support.formats,
        [sztp::message::CsrFormat::P10, sztp::message::CsrFormat::Cmc]
    );
}

/// Requirements: SZTP-8572-7.3-17, SZTP-8572-7.3-19, SZTP-8572-7.3-14
#[test]
fn xml_reports() {
    let key = "<ssh-host-keys><ssh-host-key><key-data>AAAA</key-data><algorithm>a</algorithm></ssh-host-key></ssh-host-keys>";
    for (children, fault, switch) in [
        (String::new(), Fault::MissingElement, ""),
        ("<progress-type> informational</progress-type>".to_owned(), Fault::BadValue, ""),
        (format!("{key}<progress-type>informational</progress-type>"), Fault::NotTogether, ""),
        ("<progress-type>informational</progress-type><ssh-host-keys/>".to_owned(), Fault::NotTogether, "empty-containers"),
        ("<progress-type>bootstrap-complete</progress-type><ssh-host-keys><ssh-host-key><algorithm>a</algorithm></ssh-host-key></ssh-host-keys>".to_owned(), Fault::MissingElement, ""),
        ("<progress-type>bootstrap-complete</progress-type><trust-anchor-certs><trust-anchor-cert>AAAA</trust-anchor-cert></trust-anchor-certs>".to_owned(), Fault::BadValue, "trust-anchor-not-cms"),
    ] {
        xml(Rpc::Report, &children, fault, switch);
    }
    let body = format!(
        "<input xmlns=\"{SVR}\">{key}<progress-type>bootstrap-complete</progress-type></input>"
    );
    let (report, _) =
        ReportProgressInput::decode(body.as_bytes(), Encoding::Xml, &Leniency::strict()).unwrap();
    assert_eq!(report.ssh_host_keys.len(), 1);
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
