//! Options that DHCP servers which are not ours hand out to DHCP clients which are not ours,
//! between two network namespaces.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use ::sztp::dhcp::{
    BootstrapUri, Family,
    snippet::{Server, snippet},
};
use device::sources::{DhcpInput, DhcpSource};
use testkit::{Daemon, NetworkLink};

use crate::sources::all_of;

fn uris(count: usize) -> Vec<BootstrapUri> {
    (0..count)
        .map(|n| BootstrapUri::parse(&format!("https://server-{n}.example.net:8443")).unwrap())
        .collect()
}

fn lines(server: Server, family: Family, count: usize) -> String {
    snippet(server, family, &uris(count)).unwrap().unwrap()
}

fn wanted(count: usize) -> Vec<String> {
    let all: Vec<_> = (0..count)
        .map(|n| format!("server-{n}.example.net:8443"))
        .collect();
    vec![all.join(" ")]
}

fn write(link: &NetworkLink, name: &str, text: &str) -> PathBuf {
    let path = link.folder().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn dnsmasq(link: &NetworkLink, count: usize) -> Daemon {
    let text = format!(
        "no-resolv\nno-hosts\nport=0\ninterface=eth0\nbind-interfaces\nno-ping\ndhcp-authoritative\n\
         dhcp-range=192.0.2.100,192.0.2.150,1h\ndhcp-range=2001:db8::100,2001:db8::1ff,1h\n\
         dhcp-leasefile={}\npid-file\nuser=root\ngroup=root\n{}{}",
        link.folder().join("dnsmasq.leases").display(),
        lines(Server::Dnsmasq, Family::V4, count),
        lines(Server::Dnsmasq, Family::V6, count)
    );
    let file = write(link, "dnsmasq.conf", &text);
    let mut command = link.on_server("/usr/sbin/dnsmasq");
    command
        .arg("--no-daemon")
        .arg(format!("--conf-file={}", file.display()));
    Daemon::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
}

fn kea(link: &NetworkLink, count: usize) -> Daemon {
    let text = format!(
        "{{ \"Dhcp4\": {{ \"interfaces-config\": {{ \"interfaces\": [ \"eth0\" ] }},\n\
         \"lease-database\": {{ \"type\": \"memfile\", \"persist\": false }},\n\
         \"subnet4\": [ {{ \"subnet\": \"192.0.2.0/24\", \"pools\": [ {{ \"pool\": \"192.0.2.10-192.0.2.20\" }} ] }} ],\n\
         {} }} }}",
        lines(Server::Kea, Family::V4, count)
    );
    let file = write(link, "kea.json", &text);
    let mut command = link.on_server("/usr/sbin/kea-dhcp4");
    command
        .arg("-c")
        .arg(file)
        .env("KEA_PIDFILE_DIR", link.folder())
        .env("KEA_LOCKFILE_DIR", link.folder());
    Daemon::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
}

/// The environment that udhcpc gives to its script, as a file.
async fn udhcpc(link: &NetworkLink) -> DhcpInput {
    let lease = link.folder().join("udhcpc.lease");
    let script = write(
        link,
        "udhcpc.sh",
        &format!(
            "#!/bin/sh\nif [ \"$1\" = bound ]; then env | grep '^opt' >'{}'; fi\n",
            lease.display()
        ),
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = link.on_client("/usr/sbin/udhcpc");
    command
        .args([
            "-i", "eth0", "-f", "-q", "-n", "-t", "20", "-T", "1", "-O", "143", "-s",
        ])
        .arg(script);
    let output = run(command).await;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    DhcpInput::Lease(lease)
}

/// A lease file of ISC's client. It asks once more where the server or the link-local address was
/// not ready.
async fn dhclient(link: &NetworkLink, family: Family) -> DhcpInput {
    let (version, configuration) = match family {
        Family::V4 => (
            "-4",
            "option sztp-redirect code 143 = string;\nalso request sztp-redirect;\n",
        ),
        Family::V6 => (
            "-6",
            "option dhcp6.sztp-redirect code 136 = string;\nalso request dhcp6.sztp-redirect;\n",
        ),
    };
    let configuration = write(link, "dhclient.conf", configuration);
    let lease = link.folder().join(format!("dhclient{version}.leases"));
    let pid = link.folder().join(format!("dhclient{version}.pid"));
    let mut last = None;
    for _ in 0..20 {
        let mut command = link.on_client("/usr/sbin/dhclient");
        command
            .args([version, "-1", "-d", "-cf"])
            .arg(&configuration);
        command
            .arg("-lf")
            .arg(&lease)
            .arg("-pf")
            .arg(&pid)
            .args(["-sf", "/bin/true", "eth0"]);
        let _client = Daemon::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let text = fs::read_to_string(&lease).unwrap_or_default();
            if text.contains("sztp-redirect") && text.trim_end().ends_with('}') {
                return DhcpInput::Lease(lease);
            }
            last = Some(text);
        }
    }
    panic!("no lease: {last:?}");
}

async fn run(mut command: std::process::Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Requirements: SZTP-8572-8.1-01, SZTP-8572-8.1-02, SZTP-8572-8.1-03, SZTP-8572-8.2-01,
/// SZTP-8572-8.2-02
#[tokio::test]
async fn dnsmasq_hands_our_option_to_clients_that_ask_for_it() {
    let Some(link) = NetworkLink::for_test("dnsmasq_hands_our_option_to_clients_that_ask_for_it")
    else {
        return;
    };
    let _server = dnsmasq(&link, 3);
    let mut source = DhcpSource::new(vec![udhcpc(&link).await]);
    assert_eq!(all_of(&mut source).await, wanted(3));
    let mut source = DhcpSource::new(vec![dhclient(&link, Family::V6).await]);
    assert_eq!(all_of(&mut source).await, wanted(3));
}

/// Requirements: SZTP-8572-8.1-05, SZTP-8572-8.1-06, SZTP-3396-6-01, SZTP-3396-7-01
#[tokio::test]
async fn kea_splits_a_long_list_and_the_client_puts_it_together() {
    let Some(link) =
        NetworkLink::for_test("kea_splits_a_long_list_and_the_client_puts_it_together")
    else {
        return;
    };
    let _server = kea(&link, 20);
    let mut source = DhcpSource::new(vec![dhclient(&link, Family::V4).await]);
    assert_eq!(all_of(&mut source).await, wanted(20));
}
