//! XML bodies.

use sztp::message::{GetBootstrappingDataInput, ReportProgressInput};
use sztp::restconf::Fault;
use sztp::{Encoding, Leniency};

use super::{NONCE, Rpc, SVR, case, xml};

/// Requirements: SZTP-7950-9.10.3-01, SZTP-7950-7.14.4-01
#[test]
fn xml_texts() {
    let deep = format!("<input xmlns=\"{SVR}\">{}", "<a>".repeat(60_000));
    let wide = format!("<input xmlns=\"{SVR}\">{}</input>", "<a/>".repeat(10_001));
    let attributes: String = (0..17)
        .map(|at| format!(" xmlns:p{at}=\"u:{at}\""))
        .collect();
    let attributes = format!("<input xmlns=\"{SVR}\"{attributes}/>");
    // Ten thousand elements with a namespace of 200 kB would take two gigabytes.
    let long = "u".repeat(2000);
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
            format!("<input xmlns=\"{long}\"><a/></input>"),
            Fault::TooLarge,
            "",
        ),
        (
            format!("{open}<a xmlns:p=\"{long}\">p:x</a></input>"),
            Fault::TooLarge,
            "",
        ),
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
