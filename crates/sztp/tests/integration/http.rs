//! Negotiation of encodings, and what a server tells about itself.

use sztp::negotiate::{
    CACHE_CONTROL, accepts, body_encoding, media_type, request_encoding, response_encoding,
};
use sztp::restconf::Fault;
use sztp::server::Roles;
use sztp::{Encoding, Leniency, discovery};

use crate::support::names;

use Encoding::{Json, Xml};

/// Requirements: SZTP-8040-5.2-05, SZTP-8040-5.2-06, SZTP-8040-5.2-08
#[test]
fn accept() {
    // (Accept, the request's encoding, the response's)
    for (accept, request, wanted) in [
        (None, None, Some(Json)),
        (None, Some(Json), Some(Json)),
        (None, Some(Xml), Some(Xml)),
        (Some(""), Some(Xml), Some(Xml)),
        (Some("*/*"), Some(Xml), Some(Xml)),
        (Some("*/*"), None, Some(Json)),
        (Some("*"), Some(Xml), Some(Xml)),
        (Some("application/*"), Some(Xml), Some(Xml)),
        (Some("application/yang-data+json"), Some(Xml), Some(Json)),
        (Some("application/yang-data+xml"), Some(Json), Some(Xml)),
        (Some("Application/YANG-Data+XML"), Some(Json), Some(Xml)),
        (
            Some("application/yang-data+xml; charset=utf-8"),
            None,
            Some(Xml),
        ),
        (Some("application/yang.data+xml"), Some(Json), Some(Xml)),
        (Some("application/json"), Some(Xml), Some(Json)),
        (Some("application/xml"), Some(Json), Some(Xml)),
        (Some("text/xml"), Some(Json), Some(Xml)),
        (
            Some("application/yang-data+json, application/yang-data+xml"),
            Some(Xml),
            Some(Xml),
        ),
        (
            Some("*/*, application/yang-data+json;q=0.1, application/yang-data+xml"),
            Some(Json),
            Some(Xml),
        ),
        (
            Some("application/yang-data+json;q=0.1,application/yang-data+xml;q=0.2"),
            Some(Json),
            Some(Xml),
        ),
        (
            Some("application/yang-data+json;q=0.2,application/yang-data+xml;q=0.2"),
            Some(Xml),
            Some(Xml),
        ),
        (
            Some("application/yang-data+json; Q=0 , */*"),
            Some(Json),
            Some(Xml),
        ),
        (Some("application/yang-data+json;q=0.0"), Some(Json), None),
        (Some("*/*;q=0"), Some(Json), None),
        (
            Some("*/*;q=0, application/yang-data+xml"),
            Some(Json),
            Some(Xml),
        ),
        (Some("application/*;q=0, */*"), Some(Json), None),
        (Some("text/html"), Some(Json), None),
        (
            Some("text/html, application/xhtml+xml, */*;q=0.8"),
            Some(Xml),
            Some(Xml),
        ),
        (Some("application/yang-data+cbor"), Some(Json), None),
        (
            Some("application/yang-data+json;q=nonsense"),
            Some(Json),
            None,
        ),
        (Some("application/yang-data+json;q=1.1"), Some(Json), None),
        (
            Some("application/yang-data+json;q=0.0001"),
            Some(Json),
            None,
        ),
        (
            Some("application/yang-data+json;q=1.000"),
            Some(Xml),
            Some(Json),
        ),
        (Some(",,application/yang-data+json,"), Some(Xml), Some(Json)),
        // The registered name says more than a legacy one for the same encoding.
        (
            Some("application/json;q=0, application/yang-data+json"),
            Some(Json),
            Some(Json),
        ),
    ] {
        match (response_encoding(accept, request), wanted) {
            (Ok(found), Some(wanted)) => assert_eq!(found, wanted, "{accept:?} {request:?}"),
            (Err(error), None) => {
                assert_eq!(
                    (error.status, error.tag.as_str()),
                    (406, "invalid-value"),
                    "{accept:?}"
                );
            }
            (result, wanted) => panic!("{accept:?} {request:?}: {result:?}, not {wanted:?}"),
        }
    }
    // What is past the limit of a list is not looked at, and does no harm.
    let long = format!("{}application/yang-data+json", "text/html,".repeat(100_000));
    assert_eq!(
        response_encoding(Some(&long), None).unwrap_err().status,
        406
    );
    assert!(accepts(
        Some("application/xrd+xml"),
        &[discovery::HOST_META_TYPE]
    ));
    assert!(accepts(None, &[discovery::HOST_META_TYPE]));
    assert!(!accepts(Some("text/html"), &[discovery::HOST_META_TYPE]));
}

/// Requirements: SZTP-8040-5.2-03, SZTP-8040-5.2-04, SZTP-8040-5.2-07, SZTP-8572-7.2-01
#[test]
fn content_type() {
    let strict = Leniency::strict();
    for (content_type, wanted, switch) in [
        (Some("application/yang-data+json"), Some(Json), ""),
        (Some("application/yang-data+xml"), Some(Xml), ""),
        (
            Some("APPLICATION/yang-data+XML ; charset=\"UTF-8\""),
            Some(Xml),
            "",
        ),
        (
            Some("application/yang.data+json"),
            Some(Json),
            "content-type-legacy",
        ),
        (
            Some("application/yang.data+xml"),
            Some(Xml),
            "content-type-legacy",
        ),
        (
            Some("application/json;charset=utf-8"),
            Some(Json),
            "content-type-legacy",
        ),
        (Some("application/xml"), Some(Xml), "content-type-legacy"),
        (Some("text/xml"), Some(Xml), "content-type-legacy"),
        (None, Some(Json), "content-type-missing"),
        (Some("application/cbor"), None, ""),
        (Some("application/yang-data+cbor"), None, ""),
        (Some("text/html"), None, ""),
        (Some("application/x-www-form-urlencoded"), None, ""),
        (Some(""), None, ""),
        (Some("application/yang-data"), None, ""),
    ] {
        let result = request_encoding(content_type, b"{}", &strict);
        match (&result, wanted.filter(|_| switch.is_empty())) {
            (Ok((found, oddities)), Some(wanted)) => {
                assert_eq!(*found, Some(wanted));
                assert!(oddities.is_empty());
            }
            (Err(error), None) => assert_eq!(error.status, 415, "{content_type:?}"),
            (result, _) => panic!("{content_type:?}: {result:?}"),
        }
        let lenient = request_encoding(content_type, b"{}", &Leniency::lenient());
        match wanted {
            Some(wanted) => {
                let (found, oddities) = lenient.unwrap();
                assert_eq!(found, Some(wanted));
                let expected: Vec<&str> =
                    [switch].into_iter().filter(|it| !it.is_empty()).collect();
                assert_eq!(names(&oddities), expected);
            }
            None => assert_eq!(lenient.unwrap_err().status, 415),
        }
        // Without a body nothing is said about a body.
        let (found, _) = request_encoding(content_type, b"", &strict).unwrap();
        assert_eq!(found, None);
    }
    let (found, _) = request_encoding(None, b" \n<input/>", &Leniency::lenient()).unwrap();
    assert_eq!(found, Some(Xml));
    let error = body_encoding(Some("application/yang-data+json"), b"", &strict).unwrap_err();
    assert_eq!(error.fault, Fault::BodyMissing);
}

/// Requirements: SZTP-8040-7.1-02, SZTP-8040-5.5-01
#[test]
fn headers_of_responses() {
    for (encoding, media) in [
        (Json, "application/yang-data+json"),
        (Xml, "application/yang-data+xml"),
    ] {
        assert_eq!(media_type(encoding), media);
        assert_eq!(
            response_encoding(Some(media_type(encoding)), None).unwrap(),
            encoding
        );
    }
    assert_eq!(CACHE_CONTROL, "no-store");
}

/// Requirements: SZTP-8040-3.1-01, SZTP-8040-3.1-02, SZTP-6415-3-01
#[test]
fn host_meta() {
    for root in ["/restconf", "/a/b", "/x&y<\">"] {
        let body = discovery::host_meta(root);
        assert_eq!(discovery::parse_host_meta(&body).unwrap(), root);
        let json: serde_json::Value =
            serde_json::from_slice(&discovery::host_meta_json(root)).unwrap();
        assert_eq!(json["links"][0]["rel"], "restconf");
        assert_eq!(json["links"][0]["href"], root);
        assert_eq!(json["links"].as_array().unwrap().len(), 1);
    }
    let xrd = "http://docs.oasis-open.org/ns/xri/xrd-1.0";
    let link = "<Link rel=\"restconf\" href=\"/r\"/>";
    let read = |inside: &str| {
        let body = format!("<XRD xmlns=\"{xrd}\">{inside}</XRD>");
        discovery::parse_host_meta(body.as_bytes()).map_err(|error| error.fault)
    };
    assert_eq!(read(link), Ok("/r".to_owned()));
    // Other relations and other elements do not matter.
    let others = format!("<Subject>x</Subject><Link rel=\"lrdd\" template=\"t\"/>{link}");
    assert_eq!(read(&others), Ok("/r".to_owned()));
    assert_eq!(read(""), Err(Fault::MissingElement));
    assert_eq!(read("<Link rel=\"restconf\"/>"), Err(Fault::MissingElement));
    assert_eq!(
        read("<Link rel=\"restconf\" template=\"/r\"/>"),
        Err(Fault::MissingElement)
    );
    assert_eq!(read(&format!("{link}{link}")), Err(Fault::DuplicateMember));
    assert_eq!(
        read("<Link xmlns=\"\" rel=\"restconf\" href=\"/r\"/>"),
        Err(Fault::MissingElement)
    );
    for (body, fault) in [
        (&b"<XRD/>"[..], Fault::WrongWrapper),
        (b"{}", Fault::NotXml),
        (b"", Fault::NotXml),
        (b"\xff", Fault::NotUtf8),
        (b"<!DOCTYPE XRD><XRD/>", Fault::Doctype),
        (&[b' '; 70_000], Fault::TooLarge),
    ] {
        assert_eq!(discovery::parse_host_meta(body).unwrap_err().fault, fault);
    }
}

/// Requirements: SZTP-8040-3.3-01, SZTP-8040-3.3.2-01, SZTP-8040-3.3.3-01, SZTP-8572-4.4-01, SZTP-8572-7.3-13
#[test]
fn resources_below_the_root() {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(
        text(discovery::root_resource(Roles::BOTH, Json)),
        "{\"ietf-restconf:restconf\":{\"data\":{},\"operations\":{\
         \"ietf-sztp-bootstrap-server:get-bootstrapping-data\":[null],\
         \"ietf-sztp-bootstrap-server:report-progress\":[null]},\
         \"yang-library-version\":\"2019-01-04\"}}"
    );
    assert_eq!(
        text(discovery::operations(Roles::REDIRECT, Json)),
        "{\"ietf-restconf:operations\":{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":[null]}}"
    );
    assert_eq!(
        text(discovery::operations(Roles::REDIRECT, Xml)),
        "<operations xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\"><get-bootstrapping-data \
         xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/></operations>"
    );
    assert_eq!(
        text(discovery::yang_library_version(Json)),
        "{\"ietf-restconf:yang-library-version\":\"2019-01-04\"}"
    );
    assert_eq!(
        text(discovery::yang_library_version(Xml)),
        "<yang-library-version xmlns=\"urn:ietf:params:xml:ns:yang:ietf-restconf\">2019-01-04</yang-library-version>"
    );
    let data: serde_json::Value =
        serde_json::from_slice(&discovery::data(Roles::BOTH, Json)).unwrap();
    let data = &data["ietf-restconf:data"];
    assert!(data["ietf-yang-library:yang-library"]["module-set"].is_array());
    assert!(data["ietf-yang-library:modules-state"]["module"].is_array());
}

/// Every module that is listed is one of those in `yang`, with its revision, and every module
/// there that this crate speaks is listed.
///
/// Requirements: SZTP-8040-10-01, SZTP-8572-1.2-02
#[test]
fn the_list_of_modules_is_that_of_the_files() {
    let document: serde_json::Value =
        serde_json::from_slice(&discovery::modules_state(Roles::BOTH, Json)).unwrap();
    let listed = document["ietf-yang-library:modules-state"]["module"]
        .as_array()
        .unwrap();
    let mut names: Vec<String> = listed
        .iter()
        .map(|it| {
            format!(
                "{}@{}.yang",
                it["name"].as_str().unwrap(),
                it["revision"].as_str().unwrap()
            )
        })
        .collect();
    names.sort();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("yang");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.ends_with(".yang"))
        // What stands in artefacts only, and the revision of yang-library before the one served.
        .filter(|it| {
            !it.contains("conveyed-info") && !it.contains("voucher") && !it.contains("2016-06-21")
        })
        .collect();
    files.sort();
    assert_eq!(names, files);
    for roles in [Roles::BOTH, Roles::REDIRECT] {
        let document: serde_json::Value =
            serde_json::from_slice(&discovery::yang_library(roles, Json)).unwrap();
        let library = &document["ietf-yang-library:yang-library"];
        let module = &library["module-set"][0]["module"][0];
        assert_eq!(module["name"], "ietf-sztp-bootstrap-server");
        let features: Vec<&str> = module["feature"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        let wanted = match roles.onboarding {
            true => vec!["redirect-server", "onboarding-server"],
            false => vec!["redirect-server"],
        };
        assert_eq!(features, wanted);
        assert_eq!(library["content-id"], discovery::content_id(roles));
    }
    assert_ne!(
        discovery::content_id(Roles::BOTH),
        discovery::content_id(Roles::REDIRECT)
    );
}
