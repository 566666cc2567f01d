//! Every message that RFC 8572, RFC 9646 and RFC 8040 print: what is broken in them fails for
//! the right reason, and passes with the switch that is named for it.

use sztp::message::{
    CsrFormat, CsrInput, CsrRequest, CsrSupport, GetBootstrappingDataInput,
    GetBootstrappingDataOutput, ProgressType, ReportProgressInput, ReportingLevel, SshHostKey,
};
use sztp::negotiate::{body_encoding, request_encoding};
use sztp::restconf::{ErrorReport, Fault, RestconfError};
use sztp::{Encoding, Leniency, Oddity, discovery};

use crate::support::names;

/// One printed message, taken apart.
struct Message {
    status: Option<u16>,
    content_type: Option<String>,
    body: Vec<u8>,
}

fn message(text: &str) -> Message {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let content_type = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.trim().to_owned());
    Message {
        status: first
            .strip_prefix("HTTP/1.1 ")
            .map(|rest| rest[..3].parse().unwrap()),
        content_type,
        body: body.to_owned().into_bytes(),
    }
}

macro_rules! example {
    ($name:literal) => {
        message(include_str!(concat!("../data/", $name)))
    };
}

fn switches(names: &[&str]) -> Leniency {
    Leniency::from_names(names.iter().copied()).unwrap()
}

type Decoded<T> = Result<(T, Vec<Oddity>), RestconfError>;

/// Reads a body strictly, which must fail with this fault at this place, and then with the named
/// switches, each of which must have been needed.
fn broken<T: std::fmt::Debug>(
    decode: impl Fn(&[u8], Encoding, &Leniency) -> Decoded<T>,
    message: &Message,
    encoding: Encoding,
    fault: Fault,
    place: &str,
    needed: &[&str],
) -> T {
    let error = decode(&message.body, encoding, &Leniency::strict()).unwrap_err();
    assert_eq!(error.fault, fault, "{error}");
    assert_eq!(error.path.unwrap().to_string(), place);
    for left_out in needed {
        let others: Vec<&str> = needed.iter().copied().filter(|it| it != left_out).collect();
        decode(&message.body, encoding, &switches(&others)).unwrap_err();
    }
    let (value, oddities) = decode(&message.body, encoding, &switches(needed)).unwrap();
    assert_eq!(names(&oddities), needed);
    value
}

/// Requirements: SZTP-8572-7.2-01
#[test]
fn the_media_type_that_rfc_8572_prints_needs_its_switch() {
    for example in [
        example!("rfc8572/7.2-gbd-trusted.request.http"),
        example!("rfc8572/7.2-gbd-untrusted.request.http"),
        example!("rfc8572/7.2-report-progress.request.http"),
        example!("rfc8572/7.2-gbd-trusted.response.http"),
        example!("rfc8572/7.2-gbd-untrusted.response.http"),
    ] {
        let content_type = example.content_type.as_deref();
        assert_eq!(content_type, Some("application/yang.data+xml"));
        let error = request_encoding(content_type, &example.body, &Leniency::strict()).unwrap_err();
        assert_eq!(error.status, 415);
        let leniency = switches(&["content-type-legacy"]);
        let (encoding, oddities) = body_encoding(content_type, &example.body, &leniency).unwrap();
        assert_eq!(encoding, Encoding::Xml);
        assert_eq!(names(&oddities), ["content-type-legacy"]);
    }
}

/// Requirements: SZTP-8572-7.1-01, SZTP-8572-7.3-04, SZTP-8040-3.6.1-01
#[test]
fn requests_of_rfc_8572() {
    let input = broken(
        GetBootstrappingDataInput::decode,
        &example!("rfc8572/7.2-gbd-trusted.request.http"),
        Encoding::Xml,
        Fault::BadBase64,
        "/ietf-sztp-bootstrap-server:input/nonce",
        &["base64-trailing-bits"],
    );
    assert_eq!(input.hw_model.as_deref(), Some("model-x"));
    assert_eq!(input.os_name.as_deref(), Some("vendor-os"));
    assert_eq!(input.os_version.as_deref(), Some("17.3R2.1"));
    assert_eq!(input.nonce.unwrap().len(), 20);
    assert!(!input.signed_data_preferred);

    let example = example!("rfc8572/7.2-gbd-untrusted.request.http");
    let (input, oddities) =
        GetBootstrappingDataInput::decode(&example.body, Encoding::Xml, &Leniency::strict())
            .unwrap();
    assert_eq!(
        input,
        GetBootstrappingDataInput {
            signed_data_preferred: true,
            ..Default::default()
        }
    );
    assert!(oddities.is_empty());

    let report = broken(
        ReportProgressInput::decode,
        &example!("rfc8572/7.2-report-progress.request.http"),
        Encoding::Xml,
        Fault::BadBase64,
        "/ietf-sztp-bootstrap-server:input/ssh-host-keys/ssh-host-key/key-data",
        &["base64-trailing-bits", "trust-anchor-not-cms"],
    );
    let key = |algorithm: &str| SshHostKey {
        algorithm: algorithm.to_owned(),
        key_data: report.ssh_host_keys[0].key_data.clone(),
    };
    assert_eq!(report.progress, ProgressType::BootstrapComplete);
    assert_eq!(report.message.as_deref(), Some("example message"));
    assert_eq!(report.ssh_host_keys, [key("ssh-rsa"), key("rsa-sha2-256")]);
    assert_eq!(report.trust_anchor_certs.len(), 1);
}

/// Requirements: SZTP-8040-3.6.2-01, SZTP-8040-3.6-02
#[test]
fn responses_of_rfc_8572() {
    let output = broken(
        GetBootstrappingDataOutput::decode,
        &example!("rfc8572/7.2-gbd-trusted.response.http"),
        Encoding::Xml,
        Fault::BadBase64,
        "/ietf-sztp-bootstrap-server:output/conveyed-information",
        &["base64-trailing-bits"],
    );
    assert_eq!(output.reporting_level, Some(ReportingLevel::Verbose));
    assert_eq!(output.owner_certificate, None);
    let output = broken(
        GetBootstrappingDataOutput::decode,
        &example!("rfc8572/7.2-gbd-untrusted.response.http"),
        Encoding::Xml,
        Fault::BadBase64,
        "/ietf-sztp-bootstrap-server:output/conveyed-information",
        &["base64-trailing-bits"],
    );
    assert_eq!(output.reporting_level, None);
    assert_eq!(
        output.owner_certificate.as_ref(),
        Some(&output.conveyed_information)
    );
    assert_eq!(
        output.ownership_voucher.as_ref(),
        Some(&output.conveyed_information)
    );
    let example = example!("rfc8572/7.2-report-progress.response.http");
    assert_eq!(example.status, Some(204));
    assert!(example.body.is_empty());
}

/// Requirements: SZTP-9646-2.1-01, SZTP-9646-3.2-07, SZTP-7951-4-01
#[test]
fn requests_of_rfc_9646() {
    let example = example!("rfc9646/2.2-ex-api-gbd-without-csr-rpc.http");
    let (encoding, oddities) = body_encoding(
        example.content_type.as_deref(),
        &example.body,
        &Leniency::strict(),
    )
    .unwrap();
    assert_eq!((encoding, oddities), (Encoding::Json, Vec::new()));
    let input = broken(
        GetBootstrappingDataInput::decode,
        &example,
        Encoding::Json,
        Fault::BadBase64,
        "/ietf-sztp-bootstrap-server:input/nonce",
        &["base64-trailing-bits"],
    );
    let value = |number: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD
            .decode(format!("BASE64VALUE{number}"))
            .unwrap()
    };
    assert_eq!(
        input.csr,
        Some(CsrInput::Support(CsrSupport {
            algorithms: Some(vec![value("1"), value("2"), value("3")]),
            formats: vec![CsrFormat::P10, CsrFormat::Cmc, CsrFormat::Cmp],
        }))
    );
    let input = broken(
        GetBootstrappingDataInput::decode,
        &example!("rfc9646/2.2-ex-api-gbd-with-csr-rpc.http"),
        Encoding::Json,
        Fault::BadBase64,
        "/ietf-sztp-bootstrap-server:input/nonce",
        &["base64-trailing-bits"],
    );
    assert_eq!(input.csr, Some(CsrInput::P10(value("="))));
}

/// Requirements: SZTP-9646-2.1-04, SZTP-9646-2.3-01, SZTP-9646-2.2-05, SZTP-8040-8-01, SZTP-8791-2-01
#[test]
fn responses_of_rfc_9646() {
    use base64::Engine as _;
    let value = base64::engine::general_purpose::STANDARD
        .decode("BASE64VALUE=")
        .unwrap();
    let example = example!("rfc9646/2.2-ex-api-gbd-without-csr-rpc-reply.http");
    let status = example.status.unwrap();
    let (report, oddities) =
        ErrorReport::decode(&example.body, Encoding::Json, &Leniency::strict()).unwrap();
    assert!(oddities.is_empty());
    let wanted = CsrRequest {
        algorithm: Some(value.clone()),
        format: CsrFormat::P10,
        cert_req_info: Some(value.clone()),
    };
    assert_eq!(report.csr_request(status), Some(&wanted));
    assert_eq!(report.csr_request(409), None);
    let inner =
        include_bytes!("../data/rfc9646/2.2-ex-api-gbd-without-csr-rpc-reply-inner-payload.json");
    assert_eq!(CsrRequest::decode(inner, Encoding::Json).unwrap(), wanted);
    // The client does not depend on the error-type, which the module does not fix.
    let text = String::from_utf8(example.body).unwrap();
    let text = text.replace("\"application\"", "\"protocol\"");
    let (report, _) =
        ErrorReport::decode(text.as_bytes(), Encoding::Json, &Leniency::strict()).unwrap();
    assert_eq!(report.csr_request(status), Some(&wanted));

    let example = example!("rfc9646/2.2-ex-api-gbd-with-csr-rpc-reply.http");
    let (output, _) =
        GetBootstrappingDataOutput::decode(&example.body, Encoding::Json, &Leniency::strict())
            .unwrap();
    assert_eq!(output.reporting_level, Some(ReportingLevel::Verbose));
    assert_eq!(output.conveyed_information, value);
}

/// Requirements: SZTP-8040-7.1-03
#[test]
fn errors_of_rfc_8040() {
    for (example, encoding, tag, error_type, path) in [
        (
            example!("rfc8040/3.6.3-errors-02.response.http"),
            Encoding::Xml,
            "invalid-value",
            "protocol",
            Some("/ops:input/ops:delay"),
        ),
        (
            example!("rfc8040/3.6.3-errors-03.response.http"),
            Encoding::Json,
            "invalid-value",
            "protocol",
            Some("/example-ops:input/delay"),
        ),
        (
            example!("rfc8040/7.1-errors-02.response.http"),
            Encoding::Json,
            "lock-denied",
            "protocol",
            None,
        ),
        (
            example!("rfc8040/7.1-errors-04.response.http"),
            Encoding::Xml,
            "data-exists",
            "protocol",
            Some("\\\n      /rc:restconf/rc:data/jbox:jukebox"),
        ),
    ] {
        let (report, oddities) =
            ErrorReport::decode(&example.body, encoding, &Leniency::strict()).unwrap();
        assert!(oddities.is_empty());
        let [error] = &report.errors[..] else {
            panic!("one error");
        };
        assert_eq!(
            (error.tag.as_str(), error.error_type.as_str()),
            (tag, error_type)
        );
        assert_eq!(error.path.as_deref().map(str::trim), path);
        assert_eq!(error.csr_request, None);
    }
    let example = example!("rfc8040/3.6.3-errors-01.request.http");
    let error = ReportProgressInput::decode(&example.body, Encoding::Xml, &Leniency::lenient())
        .unwrap_err();
    assert_eq!(error.fault, Fault::UnknownNamespace);
}

/// Requirements: SZTP-8040-3.1-01, SZTP-8040-3.1-02
#[test]
fn discovery_of_rfc_8040() {
    let example = example!("rfc8040/3.1-root-discovery-02.response.http");
    assert_eq!(
        example.content_type.as_deref(),
        Some(discovery::HOST_META_TYPE)
    );
    assert_eq!(
        discovery::parse_host_meta(&example.body).unwrap(),
        "/restconf"
    );
    let example = example!("rfc8040/3.1-root-discovery-04.response.http");
    assert_eq!(
        discovery::parse_host_meta(&example.body).unwrap(),
        "/top/restconf"
    );
    let example = example!("rfc8040/3.3.3-yang-library-version-02.response.http");
    let printed: String = String::from_utf8(example.body)
        .unwrap()
        .replace('\\', "")
        .split_whitespace()
        .collect();
    let ours: String = String::from_utf8(discovery::yang_library_version(Encoding::Xml))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        printed.replace("2016-06-21", discovery::YANG_LIBRARY_VERSION),
        ours
    );
}
