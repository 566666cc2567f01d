//! libcoap over DTLS, with OpenSSL and with GnuTLS below it, and `openssl s_client`: peers that
//! are not ours.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use pki::{Identity, SoftwareKey};

use crate::coap_support::{LARGE, Server, device, large};

/// A device with its chain and its key in files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(identity: &Identity) -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        let chain: String = identity.chain.iter().map(|one| one.to_pem()).collect();
        let key = identity.signer.to_pkcs8().expect("a key");
        let key = SoftwareKey::from_pkcs8_der(&key).expect("a key");
        let key = key.to_pkcs8_pem().expect("PEM");
        std::fs::write(files.path("chain.pem"), chain).expect("written");
        std::fs::write(files.path("key.pem"), key.as_bytes()).expect("written");
        std::fs::write(files.path("large"), large()).expect("written");
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

fn libcoap(program: &str, files: &Files, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(["-B", "20", "-n"])
        .args(["-c", &files.path("chain.pem"), "-j", &files.path("key.pem")])
        .args(arguments)
        .output()
        .expect("coap-client runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Requirements: COA-014, COA-061, COA-062, COA-074, DTL-029, DTL-031
#[test]
fn libcoap_reads_and_writes() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(Server::start());
    let files = Files::new(&device());
    let url = |path: &str| format!("coaps://{}/{path}", server.address());
    for program in ["coap-client-openssl", "coap-client-gnutls"] {
        let run = |arguments: &[&str]| libcoap(program, &files, arguments);
        let links = run(&[&url(".well-known/core")]);
        assert_eq!(links, "</peer>,</large>;sz=5000", "{program}");
        let seen = run(&[&url("peer")]);
        assert!(seen.contains("[CN=device"), "{program}: {seen}");
        assert_eq!(run(&[&url("large")]).len(), LARGE, "{program}");
        let before = server.counted.load(Ordering::Relaxed);
        for size in ["1024", "256", "64"] {
            let file = files.path("large");
            let said = run(&["-m", "post", "-b", size, "-f", &file, &url("echo")]);
            assert_eq!(said.as_bytes(), large(), "{program} {size}");
        }
        let after = server.counted.load(Ordering::Relaxed);
        assert_eq!(after - before, 3, "{program}: each once");
        let late = run(&[&url("slow")]);
        assert_eq!(late, "late", "{program}");
    }
    let statistics = server.statistics();
    assert_eq!(statistics.handshakes_completed, 14, "{statistics:?}");
    assert_eq!(statistics.handshakes_failed, 0, "{statistics:?}");
    runtime.block_on(server.stop());
}

/// Requirements: CBR-009, DTL-033
#[test]
fn openssl_has_the_suite_of_small_devices() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(Server::start());
    let files = Files::new(&device());
    let s_client = |cipher: &str| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-dtls1_2", "-cipher", cipher])
            .args(["-connect", &server.address().to_string()])
            .args(["-cert", &files.path("chain.pem")])
            .args(["-key", &files.path("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        // A CoAP ping, and the end.
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(&[0x40, 0, 1, 2]).expect("written");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for cipher in ["ECDHE-ECDSA-AES128-CCM8", "ECDHE-ECDSA-AES128-GCM-SHA256"] {
        let said = s_client(cipher);
        let chosen = format!("Cipher is {cipher}");
        assert!(said.contains(&chosen), "{said}");
    }
    let said = s_client("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0");
    assert!(said.contains("Cipher is (NONE)"), "{said}");
    assert_eq!(server.statistics().handshakes_completed, 2);
    runtime.block_on(server.stop());
}
