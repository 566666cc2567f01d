//! Each EST endpoint with what it should not get.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use axum::body::Bytes;
use est::body;
use est::client;
use est::csrattrs::Requirements;
use http::{HeaderMap, HeaderValue, Method, header};
use pki::{KeyKind, SoftwareKey};

use crate::enrolment::{ALLOW, certificate, edit, enroll, facts, key, vouchered};
use crate::harness::{Got, Lab};

/// Case, method, path, media type, body; status and code of the answer.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Vec<u8>,
    u16,
    &'static str,
);

/// The registrar answers with status and code, notes it, and goes on.
/// Requirements: EST-3.2.2-03, EST-4.2.3-04, EST-4.3-01, EST-4.3.1-01, EST-4.5.2-06, BRSKI-5.9-03
pub(crate) async fn bad_input_has_its_status_and_code() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[est]\nkey = \"ec-p256\"\nserver_keygen = true\nlabels = [\"one\"]\n"
    });
    let lab = lab.serving().await;
    let device = vouchered(&lab, "SN-1").await;
    let csr = client::request(&Requirements::none(), &facts(&device), None, key().as_ref());
    let csr = csr.unwrap();
    let good = body::encode(csr.der());
    let mut flipped = csr.der().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let p384 = SoftwareKey::generate(KeyKind::EcdsaP384).unwrap();
    let p384 = client::request(&Requirements::none(), &facts(&device), None, &p384).unwrap();
    let nested = [0x30_u8, 0x80].repeat(2000);
    let table: Vec<Row> = vec![
        (
            "unknown operation",
            "GET",
            "/.well-known/est/nothing",
            "",
            vec![],
            404,
            "est.operation-unknown",
        ),
        (
            "unknown label",
            "GET",
            "/.well-known/est/two/cacerts",
            "",
            vec![],
            404,
            "est.label-unknown",
        ),
        (
            "label is an operation",
            "GET",
            "/.well-known/est/cacerts/cacerts",
            "",
            vec![],
            404,
            "est.label-unknown",
        ),
        (
            "POST cacerts",
            "POST",
            "/.well-known/est/cacerts",
            "application/pkcs10",
            good.clone(),
            405,
            "est.method-not-allowed",
        ),
        (
            "POST csrattrs",
            "POST",
            "/.well-known/est/csrattrs",
            "application/pkcs10",
            good.clone(),
            405,
            "est.method-not-allowed",
        ),
        (
            "GET simpleenroll",
            "GET",
            "/.well-known/est/simpleenroll",
            "",
            vec![],
            405,
            "est.method-not-allowed",
        ),
        (
            "DELETE simpleenroll",
            "DELETE",
            "/.well-known/est/simpleenroll",
            "",
            vec![],
            405,
            "est.method-not-allowed",
        ),
        (
            "full CMC",
            "POST",
            "/.well-known/est/fullcmc",
            "application/pkcs7-mime",
            good.clone(),
            501,
            "est.full-cmc-unsupported",
        ),
        (
            "empty",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            vec![],
            400,
            "est.body-empty",
        ),
        (
            "no media type",
            "POST",
            "/.well-known/est/simpleenroll",
            "",
            good.clone(),
            415,
            "est.media-type-unsupported",
        ),
        (
            "wrong media type",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/json",
            good.clone(),
            415,
            "est.media-type-unsupported",
        ),
        (
            "JSON",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            b"{\"a\":[]}".to_vec(),
            400,
            "est.body-not-base64",
        ),
        (
            "plain DER",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            csr.der().to_vec(),
            400,
            "est.body-binary-der",
        ),
        (
            "PEM",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            csr.to_pem().into_bytes(),
            400,
            "est.body-pem",
        ),
        (
            "cut off",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            good[..200].to_vec(),
            400,
            "csr.malformed",
        ),
        (
            "nested",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            body::encode(&nested),
            400,
            "csr.malformed",
        ),
        (
            "flipped bit",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            body::encode(&flipped),
            400,
            "csr.proof-of-possession",
        ),
        (
            "wrong curve",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            body::encode(p384.der()),
            400,
            "est.csr-key-kind",
        ),
        (
            "too large",
            "POST",
            "/.well-known/est/simpleenroll",
            "application/pkcs10",
            vec![b'A'; 70_000],
            413,
            "est.body-too-large",
        ),
        (
            "renewal without",
            "POST",
            "/.well-known/est/simplereenroll",
            "application/pkcs10",
            good.clone(),
            403,
            "est.reenrol-certificate-missing",
        ),
        (
            "keygen, empty",
            "POST",
            "/.well-known/est/serverkeygen",
            "application/pkcs10",
            vec![],
            400,
            "est.body-empty",
        ),
        (
            "keygen, cut off",
            "POST",
            "/.well-known/est/serverkeygen",
            "application/pkcs10",
            good[..200].to_vec(),
            400,
            "csr.malformed",
        ),
    ];
    for (case, method, path, content_type, body, status, code) in table {
        let mut connection = device.connect().await;
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_str(content_type).unwrap(),
            );
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let response = connection
            .request(method, path, headers, Bytes::from(body))
            .await
            .unwrap();
        let got = Got {
            status: response.status.as_u16(),
            headers: response.headers,
            body: response.body,
        };
        assert_eq!(
            (got.status, got.code().as_str()),
            (status, code),
            "{case}: {}",
            got.text()
        );
        assert!(got.header("x-correlation-id").is_some(), "{case}");
    }
    let shown = lab.shown("SN-1").await;
    let codes: Vec<_> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|line| line["code"].as_str())
        .collect();
    for code in [
        "est.body-empty",
        "csr.proof-of-possession",
        "est.body-too-large",
    ] {
        assert!(codes.contains(&code), "{code} in {codes:?}");
    }
    // The device is none the worse for it.
    certificate(&enroll(&device, &csr).await);
    lab.stop().await;
}
