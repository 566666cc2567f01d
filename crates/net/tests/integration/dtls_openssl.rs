//! `openssl s_client` and `s_server` as peers that are not ours. They are another OpenSSL than the
//! one that is built in.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net::dtls::{ClientConfig, Front, Hello, ServerConfig, Session, SessionPeer, State, Suite};
use pki::Identity;
use testkit::Pki;

use crate::dtls_support::{front_with, pki};

const LONG: Duration = Duration::from_secs(20);

/// Certificate chain and key of an identity as files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(identity: &Identity) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let chain: String = identity.chain.iter().map(|c| c.to_pem()).collect();
        let der = identity.signer.to_pkcs8().expect("a key");
        let key = pki::SoftwareKey::from_pkcs8_der(&der).expect("a key");
        std::fs::write(folder.path().join("chain.pem"), chain).expect("written");
        let pem = key.to_pkcs8_pem().expect("PEM");
        std::fs::write(folder.path().join("key.pem"), pem.as_bytes()).expect("written");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn arguments(&self) -> Vec<String> {
        let chain = self.path("chain.pem");
        [
            "-cert",
            &chain,
            "-cert_chain",
            &chain,
            "-key",
            &self.path("key.pem"),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// What the server saw of its one peer.
#[derive(Default)]
struct Seen {
    peer: Option<SessionPeer>,
    /// Lengths of the datagrams that were sent before the session was there, with the question's.
    answers: Vec<(usize, usize)>,
    /// Lengths of the datagrams of the session.
    sent: Vec<usize>,
    ended: Option<State>,
}

/// A server for one peer that sends back what it gets.
struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Server {
    fn start(front: Front) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&front, &socket, &stopped));
        Self {
            address,
            stop,
            thread,
        }
    }

    fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server")
    }
}

fn serve(front: &Front, socket: &UdpSocket, stop: &AtomicBool) -> Seen {
    let begin = Instant::now();
    let mut seen = Seen::default();
    let mut session: Option<(SocketAddr, Session)> = None;
    let mut buffer = [0; 65_536];
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    while !stop.load(Ordering::Relaxed) {
        let now = begin.elapsed();
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let datagram = &buffer[..length];
            match &mut session {
                Some((peer, session)) if *peer == from => {
                    let _ = session.receive(now, datagram);
                }
                _ => match front.receive(now, from.to_string().as_bytes(), datagram) {
                    Hello::Answer(answer) => {
                        seen.answers.push((length, answer.len()));
                        socket.send_to(&answer, from).expect("sent");
                    }
                    Hello::Accept(accepted) => session = Some((from, *accepted)),
                    Hello::Dropped(_) => {}
                },
            }
        }
        let Some((peer, session)) = &mut session else {
            continue;
        };
        session.advance(now);
        while let Some(plaintext) = session.read() {
            session.send(now, &plaintext).expect("sent");
        }
        while let Some(datagram) = session.transmit() {
            seen.sent.push(datagram.len());
            socket.send_to(&datagram, *peer).expect("sent");
        }
        if let Some(peer) = session.peer() {
            seen.peer = Some(peer.clone());
        }
        if session.is_closed() {
            seen.ended = Some(session.state().clone());
        }
    }
    seen
}

/// Reads lines until one has the text; everything read is given back.
fn read_until(lines: &mut impl BufRead, text: &str) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            panic!("no {text:?} in:\n{all}");
        }
        all.push_str(&line);
        if line.contains(text) {
            return all;
        }
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `s_client` sends a line and gets it back. What it printed up to there.
fn s_client(address: SocketAddr, arguments: &[String], line: &str) -> String {
    let child = Command::new("timeout")
        .args(["30", "openssl", "s_client", "-dtls1_2", "-connect"])
        .arg(address.to_string())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut child = Running(child);
    let mut input = child.0.stdin.take().expect("its input");
    let mut output = BufReader::new(child.0.stdout.take().expect("its output"));
    let mut text = read_until(&mut output, "Extended master secret");
    writeln!(input, "{line}").expect("written");
    text.push_str(&read_until(&mut output, line));
    drop(input);
    text
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|a| (*a).to_owned()).collect()
}

/// Requirements: DTL-001, DTL-004, DTL-029, DTL-031, CBR-021
#[test]
fn s_client_of_each_suite() {
    let pki = pki();
    let device = pki.idevid("4711").expect("device");
    let files = Files::new(&device);
    for (cipher, name) in [
        (
            "ECDHE-ECDSA-AES128-CCM8@SECLEVEL=0",
            Suite::EcdheEcdsaAes128Ccm8,
        ),
        (
            "ECDHE-ECDSA-AES128-CCM@SECLEVEL=0",
            Suite::EcdheEcdsaAes128Ccm,
        ),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", Suite::EcdheEcdsaAes128Gcm),
        (
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            Suite::EcdheEcdsaChacha20Poly1305,
        ),
    ] {
        let server = Server::start(front_with(&pki, |_| {}));
        let mut arguments = files.arguments();
        arguments.extend(strings(&["-cipher", cipher]));
        let text = s_client(server.address, &arguments, "from the outside");
        assert!(text.contains("Extended master secret: yes"), "{text}");
        let seen = server.finish();
        let peer = seen.peer.expect("established");
        assert_eq!(peer.suite, name.name());
        assert_eq!(peer.chain.len(), device.chain.len());
        assert_eq!(peer.chain[0].der(), device.chain[0].der());
        assert!(!seen.answers.is_empty());
        for (question, answer) in seen.answers {
            assert!(answer <= question, "{answer} for {question}");
        }
        assert!(
            seen.sent.iter().all(|length| *length <= 1024),
            "{:?}",
            seen.sent
        );
    }
}

/// Requirements: DTL-025, CBR-021
#[test]
fn s_client_with_small_fragments() {
    let pki = pki();
    let device = pki.idevid("4711").expect("device");
    let files = Files::new(&device);
    for fragment in ["512", "1024"] {
        let server = Server::start(front_with(&pki, |_| {}));
        let mut arguments = files.arguments();
        arguments.extend(strings(&["-maxfraglen", fragment, "-mtu", "400"]));
        s_client(server.address, &arguments, "from the outside");
        let seen = server.finish();
        assert!(seen.peer.is_some());
        let limit: usize = fragment.parse().expect("a number");
        assert!(
            seen.sent.iter().all(|length| *length <= limit + 13 + 24),
            "{:?}",
            seen.sent
        );
    }
}

/// Requirements: DTL-029
#[test]
fn s_client_without_certificate() {
    let pki = pki();
    let server = Server::start(front_with(&pki, |_| {}));
    s_client(server.address, &[], "nobody");
    assert!(server.finish().peer.expect("established").chain.is_empty());

    let server = Server::start(front_with(&pki, |config| {
        config.require_client_certificate = true;
    }));
    let output = Command::new("timeout")
        .args(["30", "openssl", "s_client", "-dtls1_2", "-connect"])
        .arg(server.address.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    assert!(!output.status.success());
    assert!(server.finish().peer.is_none());
}

/// Requirements: DTL-031
#[test]
fn s_client_of_dtls_1_0_is_refused() {
    let pki = pki();
    let server = Server::start(front_with(&pki, |_| {}));
    let output = Command::new("timeout")
        .args([
            "30",
            "openssl",
            "s_client",
            "-dtls1",
            "-cipher",
            "ALL@SECLEVEL=0",
        ])
        .args(["-connect", &server.address.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("protocol version"), "{text}");
    let seen = server.finish();
    assert!(seen.peer.is_none());
    assert!(
        seen.answers
            .iter()
            .all(|(question, answer)| answer <= question)
    );
}

/// Requirements: DTL-020
#[test]
fn s_client_cannot_renegotiate() {
    let pki = pki();
    let server = Server::start(front_with(&pki, |_| {}));
    let child = Command::new("timeout")
        .args(["30", "openssl", "s_client", "-dtls1_2", "-connect"])
        .arg(server.address.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut child = Running(child);
    let mut input = child.0.stdin.take().expect("its input");
    let mut output = BufReader::new(child.0.stdout.take().expect("its output"));
    let mut errors = BufReader::new(child.0.stderr.take().expect("its errors"));
    let text = read_until(&mut output, "Secure Renegotiation IS");
    assert!(text.contains("Secure Renegotiation IS supported"), "{text}");
    read_until(&mut output, "Extended master secret");
    writeln!(input, "R").expect("written");
    read_until(&mut errors, "no renegotiation");
    drop(input);
    assert!(server.finish().peer.is_some());
}

/// A session of one device, taken up again by another with its own certificate: nothing of the
/// first is left.
///
/// Requirements: DTL-046, DTL-047
#[test]
fn s_client_cannot_resume() {
    let pki = pki();
    let server = Server::start(front_with(&pki, |_| {}));
    let first = Files::new(&pki.idevid("1").expect("device"));
    let session = first.path("session.pem");
    let mut arguments = first.arguments();
    arguments.extend(strings(&["-sess_out", &session]));
    s_client(server.address, &arguments, "first");
    assert!(server.finish().peer.is_some());

    let server = Server::start(front_with(&pki, |_| {}));
    let device = pki.idevid("2").expect("device");
    let second = Files::new(&device);
    let mut arguments = second.arguments();
    if std::path::Path::new(&session).exists() {
        arguments.extend(strings(&["-sess_in", &session]));
    }
    let text = s_client(server.address, &arguments, "second");
    assert!(!text.contains("Reused"), "{text}");
    let peer = server.finish().peer.expect("established");
    assert_eq!(peer.chain[0].der(), device.chain[0].der());
}

/// A client of ours with `s_server`, which wants a cookie and a certificate.
fn with_s_server(pki: &Pki, arguments: &[&str], config: &ClientConfig) -> (SessionPeer, String) {
    let files = Files::new(&pki.domain.registrar);
    let child = Command::new("timeout")
        .args([
            "30",
            "openssl",
            "s_server",
            "-dtls1_2",
            "-accept",
            "127.0.0.1:0",
        ])
        .args(["-listen", "-Verify", "3"])
        .args(files.arguments())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut child = Running(child);
    let mut input = child.0.stdin.take().expect("its input");
    let mut output = BufReader::new(child.0.stdout.take().expect("its output"));
    let accept = read_until(&mut output, "ACCEPT");
    let address = accept.trim().rsplit(' ').next().expect("an address");

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(address).expect("connected");
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    let begin = Instant::now();
    let mut session = Session::client(config, begin.elapsed()).expect("client");
    let mut buffer = [0; 65_536];
    let mut asked = false;
    let mut text = String::new();
    let answer = loop {
        assert!(
            begin.elapsed() < LONG,
            "{:?} after:\n{text}",
            session.state()
        );
        while let Some(datagram) = session.transmit() {
            assert!(datagram.len() <= config.mtu);
            socket.send(&datagram).expect("sent");
        }
        if let Ok(length) = socket.recv(&mut buffer) {
            let _ = session.receive(begin.elapsed(), &buffer[..length]);
        }
        session.advance(begin.elapsed());
        if *session.state() == State::Established && !asked {
            asked = true;
            session
                .send(begin.elapsed(), b"from the inside\n")
                .expect("sent");
            while let Some(datagram) = session.transmit() {
                socket.send(&datagram).expect("sent");
            }
            text = read_until(&mut output, "from the inside");
            writeln!(input, "and back").expect("written");
        }
        if let Some(answer) = session.read() {
            break answer;
        }
    };
    assert_eq!(answer, b"and back\n");
    let peer = session.peer().expect("peer").clone();
    session.close();
    while let Some(datagram) = session.transmit() {
        socket.send(&datagram).expect("sent");
    }
    text.push_str(&read_until(&mut output, "DONE"));
    (peer, text)
}

/// Requirements: CBR-010, CBR-020, CBR-021, ESC-004, DTL-006
#[test]
fn s_server_of_each_suite() {
    let pki = pki();
    let device = pki.idevid("4711").expect("device");
    for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Gcm] {
        let mut config = ClientConfig::new(Some(device.clone()));
        config.suites = vec![suite];
        let ciphers = [
            "-cipher",
            "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0",
        ];
        let (peer, text) = with_s_server(&pki, &ciphers, &config);
        assert_eq!(peer.suite, suite.name());
        assert_eq!(peer.chain.len(), pki.domain.registrar.chain.len());
        assert_eq!(peer.chain[0].der(), pki.domain.registrar.chain[0].der());
        assert!(text.contains("4711"), "{text}");
    }
    let config = ClientConfig::small(Some(device));
    let (peer, _) = with_s_server(
        &pki,
        &["-cipher", "ALL:@SECLEVEL=0", "-mtu", "512"],
        &config,
    );
    assert_eq!(peer.suite, Suite::EcdheEcdsaAes128Ccm8.name());
}

/// A server's configuration that is not used elsewhere stays constructible from outside.
#[test]
fn an_identity_is_needed() {
    assert!(Front::new(ServerConfig::new(Vec::new()), [0; 32]).is_err());
}
