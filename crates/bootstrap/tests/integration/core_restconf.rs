//! RESTCONF around the two operations.

use serde_json::json;

use crate::harness::{GET, JSON, Lab, REPORT, XML};

/// Requirements: SZTP-8040-3.1-02, SZTP-8040-3.3-01, SZTP-8040-3.3.1-01, SZTP-8040-3.3.2-01,
/// SZTP-8040-3.3.3-01, SZTP-8040-4.1-01, SZTP-8040-4.2-01, SZTP-8040-5.5-01, SZTP-8040-10-01,
/// SZTP-6415-2-01, SZTP-6415-3-01, SZTP-8572-4.4-01
pub(crate) async fn the_server_says_what_it_is() {
    let lab = Lab::start("").await;
    let anybody = lab.anonymous();
    let cases = [
        (
            "/.well-known/host-meta",
            None,
            "application/xrd+xml",
            "rel='restconf'",
        ),
        (
            "/.well-known/host-meta",
            Some("application/xrd+xml"),
            "application/xrd+xml",
            "/restconf",
        ),
        (
            "/.well-known/host-meta",
            Some("application/json"),
            "application/json",
            "/restconf",
        ),
        // The Accept that a device's other requests have does not keep the root from it.
        (
            "/.well-known/host-meta",
            Some(JSON),
            "application/xrd+xml",
            "/restconf",
        ),
        (
            "/restconf/data/ietf-yang-library:modules-state?content=nonconfig",
            None,
            JSON,
            "2019-04-30",
        ),
        (
            "/.well-known/host-meta.json",
            None,
            "application/json",
            "/restconf",
        ),
        ("/restconf", None, JSON, "ietf-restconf:restconf"),
        (
            "/restconf",
            Some(XML),
            XML,
            "urn:ietf:params:xml:ns:yang:ietf-restconf",
        ),
        ("/restconf/data", None, JSON, "ietf-yang-library"),
        (
            "/restconf/operations",
            None,
            JSON,
            "ietf-sztp-bootstrap-server:report-progress",
        ),
        (
            "/restconf/operations",
            Some(XML),
            XML,
            "get-bootstrapping-data",
        ),
        ("/restconf/yang-library-version", None, JSON, "2019-01-04"),
        (
            "/restconf/yang-library-version",
            Some(XML),
            XML,
            "2019-01-04",
        ),
        (
            "/restconf/data/ietf-yang-library:yang-library",
            None,
            JSON,
            "onboarding-server",
        ),
        (
            "/restconf/data/ietf-yang-library:modules-state",
            None,
            JSON,
            "2019-04-30",
        ),
    ];
    for (path, accept, content_type, expected) in cases {
        let device = match accept {
            Some(accept) => anybody.clone().with("accept", accept),
            None => anybody.clone(),
        };
        let got = device.send("GET", path, None, "").await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        assert_eq!(got.header("content-type"), Some(content_type), "{path}");
        assert!(got.header("cache-control").is_some(), "{path}");
        let text = got.text().replace('"', "'");
        assert!(text.contains(expected), "{path}: {text}");
        let head = device.send("HEAD", path, None, "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), Some(content_type), "{path}");
        assert_eq!(
            head.header("content-length"),
            Some(got.body.len().to_string().as_str()),
            "{path}"
        );
        let options = device.send("OPTIONS", path, None, "").await;
        assert_eq!(options.status, 200, "{path}");
        assert_eq!(
            options.header("allow"),
            Some("GET, HEAD, OPTIONS"),
            "{path}"
        );
        assert!(options.header("cache-control").is_some(), "{path}");
    }
    for path in [GET, REPORT] {
        let options = anybody.send("OPTIONS", path, None, "").await;
        assert_eq!(
            (options.status, options.header("allow")),
            (200, Some("POST, OPTIONS"))
        );
    }
    let xrd = anybody
        .send("GET", "/.well-known/host-meta", None, "")
        .await;
    assert_eq!(xrd.text().matches("<Link").count(), 1);
    lab.stop().await;
}

/// Requirements: SZTP-8572-7.3-13, SZTP-8572-7.3-10
pub(crate) async fn a_redirect_server_takes_no_reports() {
    let lab = Lab::start("role = \"redirect\"").await;
    lab.register("RS-1").await;
    let device = lab.device("RS-1");
    let got = device
        .report(json!({ "progress-type": "informational" }))
        .await;
    assert_eq!(
        (got.refusal().0, got.refusal().1.as_str()),
        (404, "invalid-value")
    );
    let operations = device
        .send("GET", "/restconf/operations", None, "")
        .await
        .text();
    assert!(
        operations.contains("get-bootstrapping-data"),
        "{operations}"
    );
    assert!(!operations.contains("report-progress"), "{operations}");
    let library = device
        .send(
            "GET",
            "/restconf/data/ietf-yang-library:yang-library",
            None,
            "",
        )
        .await
        .text();
    assert!(library.contains("redirect-server"), "{library}");
    assert!(!library.contains("onboarding-server"), "{library}");
    lab.stop().await;
}

/// Each bad request has its status, its tag and its code, in the encoding it asked for, and leaves
/// a line.
///
/// Requirements: SZTP-8040-3.6-01, SZTP-8040-3.6.1-01, SZTP-8040-3.6.1-02, SZTP-8040-3.6.3-01,
/// SZTP-8040-4.3-01, SZTP-8040-4.3-02, SZTP-8040-5.1-01, SZTP-8040-5.2-01, SZTP-8040-5.2-04,
/// SZTP-8040-5.2-05, SZTP-8040-5.2-07, SZTP-8040-5.4-01, SZTP-8040-5.5-01, SZTP-8040-7-01,
/// SZTP-8040-7.1-01, SZTP-8040-7.1-02, SZTP-8040-7.1-03, SZTP-8040-12-02, SZTP-8572-7.1-01,
/// SZTP-8572-7.3-04, SZTP-8572-7.3-06, SZTP-8572-7.3-14, SZTP-8572-7.3-17, SZTP-8572-7.3-19,
/// SZTP-7951-7-01, SZTP-7951-8-01, SZTP-7950-9.8.2-01
pub(crate) async fn each_bad_request_has_its_status_and_its_line() {
    let lab = Lab::start("[listen]\nrequest_body_bytes_max = 20000\n").await;
    lab.register("BAD-1").await;
    let device = lab.device("BAD-1");
    let input = |inner: &str| format!("{{\"ietf-sztp-bootstrap-server:input\":{inner}}}");
    let nonce = |octets: usize| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(vec![7; octets]);
        input(&format!("{{\"nonce\":\"{text}\"}}"))
    };
    let other = "/restconf/operations/ietf-sztp-bootstrap-server:reboot";
    let wrong_module = "/restconf/operations/ietf-sztp-bootstrap:get-bootstrapping-data";
    type Case<'a> = (&'a str, &'a str, Option<&'a str>, String, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("GET", GET, None, String::new(), 405, "operation-not-supported"),
        ("PUT", GET, Some(JSON), input("{}"), 405, "operation-not-supported"),
        ("DELETE", REPORT, None, String::new(), 405, "operation-not-supported"),
        ("BREW", GET, None, String::new(), 405, "operation-not-supported"),
        ("POST", "/restconf", Some(JSON), "{}".into(), 405, "operation-not-supported"),
        ("PATCH", "/restconf/data", Some(JSON), "{}".into(), 405, "operation-not-supported"),
        ("GET", "/restconf/data/ietf-sztp-bootstrap-server:x", None, String::new(), 404, "invalid-value"),
        ("GET", "/", None, String::new(), 404, "invalid-value"),
        ("GET", "/restconf/", None, String::new(), 404, "invalid-value"),
        ("GET", "/../../etc/passwd", None, String::new(), 404, "invalid-value"),
        ("POST", other, Some(JSON), input("{}"), 404, "invalid-value"),
        ("POST", wrong_module, Some(JSON), input("{}"), 404, "invalid-value"),
        ("GET", "/restconf/data?depth=1", None, String::new(), 400, "invalid-value"),
        ("GET", "/restconf?content=all", None, String::new(), 400, "invalid-value"),
        ("GET", "/restconf/%zz", None, String::new(), 400, "invalid-value"),
        ("GET", "/restconf/%", None, String::new(), 400, "invalid-value"),
        ("GET", "/restconf/%ff%fe", None, String::new(), 400, "invalid-value"),
        ("POST", GET, Some("application/cbor"), input("{}"), 415, "invalid-value"),
        ("POST", GET, Some("text/plain"), input("{}"), 415, "invalid-value"),
        ("POST", GET, None, input("{}"), 415, "invalid-value"),
        ("POST", GET, Some(JSON), "{".into(), 400, "malformed-message"),
        ("POST", GET, Some(JSON), "null".into(), 400, "malformed-message"),
        ("POST", GET, Some(JSON), "{}".into(), 400, "malformed-message"),
        ("POST", GET, Some(JSON), "[".repeat(5000), 400, "malformed-message"),
        ("POST", GET, Some(JSON), input("{\"os-name\":\"a\",\"os-name\":\"b\"}"), 400, "malformed-message"),
        ("POST", GET, Some(JSON), input("{\"surprise\":1}"), 400, "unknown-element"),
        ("POST", GET, Some(JSON), input("{\"signed-data-preferred\":true}"), 400, "invalid-value"),
        ("POST", GET, Some(JSON), input("{\"signed-data-preferred\":null}"), 400, "invalid-value"),
        ("POST", GET, Some(JSON), input("{\"os-name\":7}"), 400, "invalid-value"),
        ("POST", GET, Some(JSON), nonce(15), 400, "invalid-value"),
        ("POST", GET, Some(JSON), nonce(33), 400, "invalid-value"),
        ("POST", GET, Some(JSON), input("{\"nonce\":\"AAAAAAAAAAAAAAAAAAAAA-==\"}"), 400, "invalid-value"),
        ("POST", GET, Some(XML), "<input".into(), 400, "malformed-message"),
        ("POST", GET, Some(XML), "<!DOCTYPE x [<!ENTITY a 'b'>]><input xmlns='urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server'>&a;</input>".into(), 400, "malformed-message"),
        ("POST", REPORT, None, String::new(), 400, "malformed-message"),
        ("POST", REPORT, Some(JSON), input("{}"), 400, "invalid-value"),
        ("POST", REPORT, Some(JSON), input("{\"progress-type\":\"bootstrap-done\"}"), 400, "invalid-value"),
        ("POST", REPORT, Some(JSON), input("{\"progress-type\":\"bootstrap-complete\",\"ssh-host-keys\":{\"ssh-host-key\":[{\"algorithm\":\"ssh-ed25519\"}]}}"), 400, "invalid-value"),
        ("POST", GET, Some(JSON), input(&format!("{{\"os-name\":\"{}\"}}", "x".repeat(30_000))), 413, "too-big"),
    ];
    for (method, path, content_type, body, status, tag) in cases {
        let shown = body.chars().take(80).collect::<String>();
        let title = format!("{method} {path} {content_type:?} {shown}");
        for (accept, expected) in [(JSON, JSON), (XML, XML)] {
            let got = device
                .clone()
                .with("accept", accept)
                .send(method, path, content_type, body.clone())
                .await;
            assert_eq!(got.status, status, "{title}: {}", got.text());
            assert_eq!(got.header("content-type"), Some(expected), "{title}");
            assert_eq!(got.header("cache-control"), Some("no-store"), "{title}");
            if status == 405 {
                assert!(got.header("allow").is_some(), "{title}");
            }
            if expected == JSON {
                assert_eq!(got.refusal().1, tag, "{title}: {}", got.text());
            } else {
                let text = got.text();
                assert!(
                    text.contains(&format!("<error-tag>{tag}</error-tag>")),
                    "{title}: {text}"
                );
            }
        }
    }
    // 7.3-17: keys come with bootstrap-complete only.
    let got = device
        .report(json!({
            "progress-type": "informational",
            "ssh-host-keys": { "ssh-host-key": [{ "algorithm": "ssh-ed25519", "key-data": "AAAA" }] },
        }))
        .await;
    assert_eq!(got.refusal().0, 400, "{}", got.text());
    // A compressed body is not taken for a broken one.
    let got = device
        .clone()
        .with("content-encoding", "gzip")
        .ask(json!({}))
        .await;
    assert_eq!(got.refusal().0, 415, "{}", got.text());
    // An Accept that allows neither encoding.
    let got = device
        .clone()
        .with("accept", "text/html")
        .ask(json!({}))
        .await;
    assert_eq!(
        (got.refusal().0, got.refusal().1.as_str()),
        (406, "invalid-value")
    );
    // Not even that which is refused below the operations goes unseen.
    let codes: Vec<String> = lab
        .lines(200)
        .await
        .into_iter()
        .map(|line| line.code)
        .collect();
    for code in [
        "restconf.not-json",
        "restconf.unsupported-media-type",
        "restconf.bad-length",
    ] {
        assert!(
            codes.iter().any(|found| found == code),
            "{code} in {codes:?}"
        );
    }
    lab.stop().await;
}

/// The colon of `module:rpc` may come encoded, and nothing in the input is mandatory.
///
/// Requirements: SZTP-8040-5.1-01, SZTP-8572-7.1-02, SZTP-8040-3.6.1-03, SZTP-8040-2.1-02
pub(crate) async fn requests_that_are_right_reach_the_operation() {
    let lab = Lab::start("").await;
    lab.register("OK-1").await;
    let device = lab.device("OK-1");
    let encoded = GET.replace(':', "%3A");
    let xml = "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/>";
    for (path, content_type, body) in [
        (GET, None, ""),
        (GET, Some(JSON), "{\"ietf-sztp-bootstrap-server:input\":{}}"),
        (
            GET,
            Some("application/yang-data+json; charset=utf-8"),
            "{\"ietf-sztp-bootstrap-server:input\":{}}",
        ),
        (GET, Some(XML), xml),
        (encoded.as_str(), None, ""),
    ] {
        let got = device.send("POST", path, content_type, body).await;
        // Nothing is staged for it, which is what the operation says.
        assert_eq!(got.status, 404, "{path} {body}: {}", got.text());
        assert!(got.text().contains("sztp.nothing-staged"), "{}", got.text());
    }
    for http in [
        net::HttpVersion::Http1,
        net::HttpVersion::Http2,
        net::HttpVersion::Http3,
    ] {
        let mut device = lab.device("OK-1");
        device.http = http;
        let got = device.ask(json!({})).await;
        assert_eq!(got.refusal().2, "sztp.nothing-staged", "{http}");
    }
    assert_eq!(lab.state("OK-1").await, "waiting");
    lab.stop().await;
}
