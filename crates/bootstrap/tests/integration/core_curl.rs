//! curl sends what RFC 8572 and RFC 9646 print, and the server answers as they print it.
//!
//! The requests are those of `crates/sztp/tests/data`; only their placeholders are replaced by
//! values that mean something, and the media type that RFC 8572 prints by the registered one.

use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::csr::CsrBuilder;
use pki::issue::{CertificateBuilder, Profile, name};
use pki::{Certificate, KeyKind, Signer as _, SoftwareKey};
use sztp::csr::KeyAlgorithm;
use testkit::{FOREVER, NOW};

use crate::content_world;
use crate::core_data::{CONTENT, FILES};
use crate::harness::Lab;

/// A request as it is printed: path, Content-Type and body.
struct Printed {
    path: String,
    content_type: String,
    body: String,
}

fn printed(name: &str) -> Printed {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../sztp/tests/data")
        .join(name);
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let content_type = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Type: "))
        .unwrap()
        .to_owned();
    Printed {
        path,
        content_type,
        body: body.to_owned(),
    }
}

/// Writes an IDevID with its key where curl finds it.
fn idevid(lab: &Lab, serial: &str) {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let ca = &lab.pki.manufacturer_ca;
    let certificate = CertificateBuilder::new(
        Profile::Idevid,
        name(&format!("serialNumber={serial},CN={serial}")).unwrap(),
        key.public_key().clone(),
        testkit::serial().unwrap(),
        NOW - time::Duration::DAY,
        FOREVER,
    )
    .issue(&ca.chain[0], ca.signer.as_ref())
    .unwrap();
    let mut pem = certificate.to_pem();
    pem.extend(ca.chain.iter().map(Certificate::to_pem));
    std::fs::write(lab.path("idevid.pem"), pem).unwrap();
    std::fs::write(
        lab.path("idevid.key"),
        key.to_pkcs8_pem().unwrap().as_bytes(),
    )
    .unwrap();
}

/// curl as a device that trusts the owner's CA. The status comes last, on a line of its own.
async fn curl(lab: &Lab, request: &Printed, more: &[&str]) -> (String, String) {
    let url = format!("https://localhost:{}{}", lab.address().port(), request.path);
    std::fs::write(lab.path("body"), &request.body).unwrap();
    let content_type = format!("Content-Type: {}", request.content_type);
    let output: Output = tokio::process::Command::new("curl")
        .current_dir(lab.folder.path())
        .args(["-sS", "--cacert", "owner-ca.pem", "--cert", "idevid.pem"])
        .args(["--key", "idevid.key", "-4", "-D", "head", "-X", "POST"])
        .args(["-H", content_type.as_str(), "--data-binary", "@body"])
        .args(["-w", "\n%{http_code}"])
        .args(more)
        .arg(&url)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    let head = std::fs::read_to_string(lab.path("head")).unwrap();
    assert!(
        head.to_ascii_lowercase()
            .contains("cache-control: no-store"),
        "{head}"
    );
    (status.to_owned(), body.to_owned())
}

/// The nonce that stands for the placeholder.
const NONCE: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// Requirements: SZTP-8040-2.1-02, SZTP-8040-2.2-01, SZTP-8572-7.1-01, SZTP-8572-5.4-02,
/// SZTP-8572-3.5-01, SZTP-8572-7.3-09, SZTP-8572-5.6-23
pub(crate) async fn what_rfc_8572_prints_is_answered() {
    let lab = Lab::start("").await;
    let device = lab.register("CURL-1").await;
    content_world::voucher(&lab, device, "CURL-1").await;
    lab.stage(CONTENT, FILES).await;
    idevid(&lab, "CURL-1");
    for http in ["--http1.1", "--http2"] {
        for tls in ["--tlsv1.3", "--tls-max=1.2"] {
            let tls: &[&str] = if tls == "--tls-max=1.2" {
                &["--tls-max", "1.2"]
            } else {
                &["--tlsv1.3"]
            };
            let more: Vec<&str> = tls.iter().copied().chain([http]).collect();
            let mut request = printed("rfc8572/7.2-gbd-trusted.request.http");
            // What is printed is the name that the type had before it was registered.
            assert_eq!(request.content_type, "application/yang.data+xml");
            assert_eq!(curl(&lab, &request, &more).await.0, "415");
            request.content_type = "application/yang-data+xml".to_owned();
            request.body = request.body.replace("extralongbase64encodedvalue=", NONCE);
            let (status, body) = curl(&lab, &request, &more).await;
            assert_eq!(status, "200", "{body}");
            assert!(body.contains("<conveyed-information>"), "{body}");
            assert!(!body.contains("<owner-certificate>"), "{body}");

            let mut request = printed("rfc8572/7.2-gbd-untrusted.request.http");
            request.content_type = "application/yang-data+xml".to_owned();
            let (status, body) = curl(&lab, &request, &more).await;
            assert_eq!(status, "200", "{body}");
            for leaf in [
                "conveyed-information",
                "owner-certificate",
                "ownership-voucher",
            ] {
                assert!(body.contains(&format!("<{leaf}>")), "{leaf}: {body}");
            }

            let mut request = printed("rfc8572/7.2-report-progress.request.http");
            request.content_type = "application/yang-data+xml".to_owned();
            let bag = pki::pkcs7::certs_only(&lab.ca.chain).unwrap();
            request.body = request
                .body
                .replace(
                    "<trust-anchor-cert>base64encodedvalue==",
                    &format!("<trust-anchor-cert>{}", STANDARD.encode(bag)),
                )
                .replace("base64encodedvalue==", "AAAAB3NzaC1yc2E=");
            let (status, body) = curl(&lab, &request, &more).await;
            assert_eq!((status.as_str(), body.as_str()), ("204", ""));
            assert_eq!(lab.state("CURL-1").await, "complete");
        }
    }
    lab.stop().await;
}

/// Plain HTTP gets no RESTCONF, and 0-RTT is not offered.
///
/// Requirements: SZTP-8040-2.1-01, SZTP-8572-9.16-01, SZTP-8040-12-01
pub(crate) async fn only_https_is_spoken() {
    let lab = Lab::start("").await;
    let port = lab.address().port();
    let script = format!(
        "curl -s -o /dev/null -m 5 http://localhost:{port}/restconf && echo spoken; \
         openssl s_client -connect localhost:{port} -CAfile owner-ca.pem -tls1_3 \
           -sess_out session </dev/null 2>/dev/null | grep -i 'early data'; true"
    );
    let output = tokio::process::Command::new("sh")
        .current_dir(lab.folder.path())
        .args(["-c", &script])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("spoken"), "{text}");
    assert!(
        !text.contains("Max Early Data: 1") && !text.contains("was accepted"),
        "{text}"
    );
    lab.stop().await;
}

/// Requirements: SZTP-9646-2.1-04, SZTP-9646-2.3-01, SZTP-9646-2.3-02
pub(crate) async fn what_rfc_9646_prints_is_answered() {
    let world = crate::core_csr::World::start("").await;
    let lab = &world.lab;
    idevid(lab, "CSR-1");
    let mut request = printed("rfc9646/2.2-ex-api-gbd-without-csr-rpc.http");
    assert_eq!(request.content_type, "application/yang-data+json");
    request.body = request.body.replace("extralongbase64encodedvalue=", NONCE);
    for (placeholder, algorithm) in [
        ("BASE64VALUE1", KeyAlgorithm::Rsa),
        ("BASE64VALUE2", KeyAlgorithm::EcP256),
        ("BASE64VALUE3", KeyAlgorithm::EcP384),
    ] {
        let der = STANDARD.encode(algorithm.identifier());
        request.body = request.body.replace(placeholder, &der);
    }
    let (status, body) = curl(lab, &request, &[]).await;
    assert_eq!(status, "400", "{body}");
    let error: serde_json::Value = serde_json::from_str(&body).unwrap();
    let error = &error["ietf-restconf:errors"]["error"][0];
    assert_eq!(error["error-tag"], "missing-attribute");
    assert!(
        error["error-info"]["ietf-sztp-csr:csr-request"].is_object(),
        "{error}"
    );

    let mut request = printed("rfc9646/2.2-ex-api-gbd-with-csr-rpc.http");
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let csr = CsrBuilder::new(name("CN=CSR-1").unwrap())
        .sign(&key)
        .unwrap();
    request.body = request
        .body
        .replace("extralongbase64encodedvalue=", NONCE)
        .replace("BASE64VALUE=", &STANDARD.encode(csr.der()));
    let (status, first) = curl(lab, &request, &[]).await;
    assert_eq!(status, "200", "{first}");
    // The same again is the same octets.
    let (status, again) = curl(lab, &request, &[]).await;
    assert_eq!((status.as_str(), again == first), ("200", true));
    world.stop().await;
}
