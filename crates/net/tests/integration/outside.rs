//! curl and `openssl s_client` as peers that are not ours.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use pki::{Certificate, Identity};
use rcgen::{CertificateParams, KeyPair};

use crate::support::Server;

/// Files with a client certificate and key that outlive the process reading them.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// A device with its key in files: `device.pem` and `device.key`.
fn device_files() -> Files {
    let directory = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "device");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(directory.path().join("device.pem"), certificate.pem()).expect("written");
    std::fs::write(directory.path().join("device.key"), key.serialize_pem()).expect("written");
    Files { directory }
}

/// Common name of the server certificate that a client with these options is shown.
pub(crate) fn openssl_subject(address: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("subject="));
    line.unwrap_or_default()
        .trim_start_matches("subject=")
        .replace(' ', "")
}

/// `/peer` over two connections, the second resuming the session of the first.
pub(crate) fn openssl_resume(
    address: SocketAddr,
    _device: &Identity,
    version: &str,
) -> (serde_json::Value, serde_json::Value) {
    let files = device_files();
    let session = files.path("session");
    let ask = |arguments: &[&str]| {
        let mut child = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-connect",
                &address.to_string(),
                version,
            ])
            .args([
                "-cert",
                &files.path("device.pem"),
                "-key",
                &files.path("device.key"),
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl runs");
        let request = "GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(request.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("openssl ends");
        drop(stdin);
        let text = String::from_utf8_lossy(&output.stdout);
        let json = text.split("\r\n\r\n").nth(1).unwrap_or_else(|| {
            panic!(
                "no answer: {text} {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        serde_json::from_str(json).expect("JSON")
    };
    (ask(&["-sess_out", &session]), ask(&["-sess_in", &session]))
}

fn curl(server: &Server, arguments: &[&str]) -> (i32, String) {
    let output = Command::new("curl")
        .args(["-k", "-s", "-S", "--max-time", "20"])
        .args(arguments)
        .arg(format!("https://{}/peer", server.address))
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_with_and_without_a_certificate() {
    let server = Server::start().await;
    let files = device_files();
    let (certificate, key) = (files.path("device.pem"), files.path("device.key"));
    for (flag, http) in [("--http1.1", "http/1.1"), ("--http2", "http/2")] {
        let (code, text) = curl(&server, &[flag]);
        assert_eq!(code, 0, "{text}");
        let seen: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(seen["http"], http);
        assert_eq!(seen["chain"], serde_json::json!([]));

        let (code, text) = curl(&server, &[flag, "--cert", &certificate, "--key", &key]);
        assert_eq!(code, 0, "{text}");
        let seen: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(seen["chain"], serde_json::json!(["CN=device"]));

        let large = vec![b'x'; 400_000];
        let body = files.path("body");
        std::fs::write(&body, large).expect("written");
        let data = format!("@{body}");
        for expect in ["Expect: 100-continue", "Expect:"] {
            let (code, text) = curl(&server, &[flag, "-H", expect, "--data-binary", &data]);
            assert_eq!(code, 0, "{flag} {expect}: {text}");
            assert!(
                text.contains("net.body-too-large"),
                "{flag} {expect}: {text}"
            );
        }
    }
    server.stop().await;
}

/// The whole chain is sent, and no list of CA names narrows what a device may show.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_accepts_our_chain_and_gets_no_hints() {
    let issued = crate::support::Subject::default().issued();
    let ca = issued.chain.last().map(Certificate::to_pem).expect("a CA");
    let server = Server::with(std::slice::from_ref(&issued), |_| {}).await;
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, ca).expect("written");
    let output = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &server.address.to_string(),
            "-CAfile",
        ])
        .arg(&path)
        .args(["-verify_return_error", "-verify_ip", "127.0.0.1"])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    assert!(
        text.contains("No client certificate CA names sent"),
        "{text}"
    );
    server.stop().await;
}

/// Requirements: BRSKI-5.1-05
#[tokio::test(flavor = "multi_thread")]
async fn old_versions_are_not_spoken() {
    let server = Server::start().await;
    for (version, spoken) in [
        ("-tls1", false),
        ("-tls1_1", false),
        ("-tls1_2", true),
        ("-tls1_3", true),
    ] {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &server.address.to_string(), version])
            // Without this openssl would not even try the old ones.
            .args(["-cipher", "ALL:@SECLEVEL=0"])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.contains("subject="), spoken, "{version}: {text}");
        let errors = String::from_utf8_lossy(&output.stderr);
        // A TLS 1.0 hello also lacks what TLS 1.2 demands; rustls may complain of that first.
        let refused = errors.contains("protocol version") || errors.contains("handshake failure");
        assert!(spoken || refused, "{version}: {errors}");
    }
    server.stop().await;
}
