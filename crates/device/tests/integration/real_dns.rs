//! Records of DNS servers that are not ours.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use ::sztp::dns::{Artefacts, service_zone, txt_zone};
use device::sources::DnsSource;
use tempfile::TempDir;
use testkit::Daemon;

use crate::sources::all_of;

/// A port that was free for UDP and TCP a moment ago: these servers cannot say which one they
/// took.
fn port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}

fn artefact(size: usize) -> Vec<u8> {
    let mut value = vec![0x30];
    value.extend((1..size).map(|n| n.to_le_bytes()[0]));
    value
}

/// What the source gives, once the server is up. Another test may take the port before the server
/// does, so what is not right is tried again on another one.
async fn found(start: impl Fn(u16) -> Daemon, want: &[&str]) -> Vec<String> {
    let domains = ["example.com".to_owned()];
    let mut last = Vec::new();
    for _ in 0..3 {
        let port = port();
        let _running = start(port);
        let server: SocketAddr = ([127, 0, 0, 1], port).into();
        for _ in 0..50 {
            let mut source = DnsSource::new("SN-1", &domains, vec![server]).unwrap();
            last = all_of(&mut source).await;
            if last == want {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    last
}

/// Requirements: SZTP-8572-4.2.2-02, SZTP-8572-4.2.2-03, SZTP-6763-6.3-01, SZTP-8572-4.2.4-02,
/// SZTP-8572-4.2.3-01, SZTP-8572-4.2.3-02
#[tokio::test]
async fn knot_serves_our_zone_file() {
    let folder = TempDir::new().unwrap();
    let artefacts = Artefacts {
        conveyed_information: Some(artefact(20_000)),
        owner_certificate: Some(artefact(3000)),
        ownership_voucher: Some(artefact(2000)),
    };
    let servers = [
        ("a.example.com".to_owned(), 443),
        ("b.example.com".to_owned(), 8443),
    ];
    let zone = format!(
        "example.com. 60 IN SOA ns.example.com. a.example.com. 1 60 60 60 60\n\
         example.com. 60 IN NS ns.example.com.\nns.example.com. 60 IN A 127.0.0.1\n{}{}",
        txt_zone("SN-1", "example.com", &artefacts).unwrap(),
        service_zone("example.com", &servers).unwrap()
    );
    fs::write(folder.path().join("zone"), zone).unwrap();
    let start = |port| {
        let configuration = knot_configuration(folder.path(), port);
        fs::write(folder.path().join("knot.conf"), configuration).unwrap();
        Daemon::spawn(
            Command::new("/usr/sbin/knotd")
                .args(["-c", "knot.conf"])
                .current_dir(folder.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
        .unwrap()
    };
    let want = [
        "data 20000 3000 2000",
        "a.example.com:443 b.example.com:8443",
    ];
    assert_eq!(found(start, &want).await, want);
}

fn knot_configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{folder}\"\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: \"{folder}\"\n\
         zone:\n  - domain: example.com\n    storage: \"{folder}\"\n    file: \"zone\"\n"
    )
}

/// Requirements: SZTP-8572-4.2.1-03, SZTP-8572-4.2.1-04, SZTP-8572-4.2.4-02
#[tokio::test]
async fn dnsmasq_serves_records_and_servers() {
    let record = |key: &str, size: usize| {
        let content = [key.as_bytes(), b"=", &artefact(size)].concat();
        let mut data = Vec::new();
        for string in content.chunks(255) {
            data.push(u8::try_from(string.len()).unwrap());
            data.extend_from_slice(string);
        }
        format!("--dns-rr=SN-1._sztp.example.com,16,{}", hex::encode(data))
    };
    let start = |port: u16| {
        Daemon::spawn(
            Command::new("/usr/sbin/dnsmasq")
                .args([
                    "--no-daemon",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                ])
                .args([
                    "--listen-address=127.0.0.1",
                    "--bind-interfaces",
                    "--no-negcache",
                    "--pid-file",
                ])
                .args(["--user=root", "--group=root"])
                .arg(format!("--port={port}"))
                .args([record("ci", 4000), record("oc", 1500), record("ov", 1000)])
                .arg("--srv-host=_sztp._tcp.example.com,b.example.com,8443,1,0")
                .arg("--srv-host=_sztp._tcp.example.com,a.example.com,443,0,0")
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
        .unwrap()
    };
    let want = [
        "data 4000 1500 1000",
        "a.example.com:443 b.example.com:8443",
    ];
    assert_eq!(found(start, &want).await, want);
}
