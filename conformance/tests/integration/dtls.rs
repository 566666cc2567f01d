//! The suite's own DTLS against one that nobody here wrote: OpenSSL's.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use usher_conformance::{
    clock,
    dtls::{CCM, CCM_8, Client, GCM, Hello, NO_RENEGOTIATION, P256, SUPPORTED_GROUPS, X25519},
    evidence::Recorder,
    forge::{
        key::{Key, Kind},
        x509::{Authority, pem},
    },
};

/// A session with each suite and group, with fragments in disorder: `openssl s_server` takes the
/// client's certificate and prints what was sent.
#[test]
fn openssl_takes_the_handshake_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let key = |label: &str| Key::derive(Kind::P256, label).unwrap();
    let ca = Authority::root("Test", "CA", key("ca"), clock::now());
    let server = ca.registrar("server", &["localhost"], &key("server"), clock::now());
    let device = ca.device("Test", "SN-1", None, &key("device"), clock::now());
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = file("server.pem", pem("CERTIFICATE", server.certificate()));
    let private = file("server.key", server.key().to_pem().unwrap());
    let root = file("ca.pem", pem("CERTIFICATE", ca.certificate()));
    for (suite, name) in [
        (CCM_8, "ECDHE-ECDSA-AES128-CCM8"),
        (CCM, "ECDHE-ECDSA-AES128-CCM"),
        (GCM, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ] {
        for group in [P256, X25519] {
            let port = std::net::UdpSocket::bind("127.0.0.1:0")
                .and_then(|socket| socket.local_addr())
                .unwrap()
                .port();
            let mut child = Command::new("openssl")
                .args(["s_server", "-dtls1_2", "-listen", "-quiet", "-accept"])
                .arg(format!("127.0.0.1:{port}"))
                .arg("-cert")
                .arg(&certificate)
                .arg("-key")
                .arg(&private)
                .arg("-CAfile")
                .arg(&root)
                .args(["-verify_return_error", "-Verify", "2", "-cipher"])
                .arg(format!("{name}:@SECLEVEL=0"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let stdout = child.stdout.take().unwrap();
            let (sender, said) = mpsc::channel();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // Nobody listens after the first.
                    let _ = sender.send(line);
                }
            });
            let url = format!("coaps://127.0.0.1:{port}");
            let mut client = Client::new(&url, None, Duration::from_secs(20))
                .unwrap()
                .with_identity(&device)
                .with_tricks(|tricks| {
                    tricks.fragment = Some(120);
                    tricks.shuffled = true;
                });
            client.hello = Hello::usual()
                .suites(&[suite, NO_RENEGOTIATION])
                // The group of the certificate's key has to be there in any case.
                .set(
                    SUPPORTED_GROUPS,
                    vec![0, 4, 0, group.to_be_bytes()[1], 0, 23],
                );
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let record = Recorder::new(0);
                // A port that nobody listens on yet refuses at once.
                let session = loop {
                    match client.connect(&record).await {
                        Err(usher_conformance::dtls::DtlsError::Connect(_)) => {
                            tokio::task::yield_now().await;
                        }
                        other => break other,
                    }
                };
                let mut session = session.unwrap();
                assert_eq!(session.server.suite, suite);
                let leaf = session.chain.first().map(Vec::as_slice);
                assert_eq!(leaf, Some(server.certificate()));
                session.send(b"hello by hand\n").await.unwrap();
            });
            let line = said.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(line, "hello by hand", "{name} {group}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
