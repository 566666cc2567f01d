//! The lines for DHCP servers and zone files, before the servers' own checkers.

use std::fs;
use std::path::Path;
use std::process::Command;

use sztp::dhcp::snippet::{Server, snippet};
use sztp::dhcp::{BootstrapUri, Family};
use sztp::dns::{Artefacts, service_zone, txt_zone};
use tempfile::TempDir;

fn uris(count: usize) -> Vec<BootstrapUri> {
    let mut all = vec![BootstrapUri::parse("https://[2001:db8::1]:8443").unwrap()];
    all.extend((1..count).map(|n| {
        let text = format!("https://bootstrap-{n}.example.net");
        BootstrapUri::parse(&text).unwrap()
    }));
    all
}

fn lines(server: Server, family: Family, count: usize) -> String {
    snippet(server, family, &uris(count)).unwrap().unwrap()
}

fn accepted(folder: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("KEA_LOCKFILE_DIR", folder)
        .env("KEA_PIDFILE_DIR", folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn kea_takes_the_lines() {
    let folder = TempDir::new().unwrap();
    for count in [1, 3, 20] {
        let v4 = lines(Server::Kea, Family::V4, count);
        let v6 = lines(Server::Kea, Family::V6, count);
        let v4 = format!(
            "{{ \"Dhcp4\": {{ \"subnet4\": [ {{ \"subnet\": \"192.0.2.0/24\", {v4} }} ] }} }}"
        );
        let v6 = format!("{{ \"Dhcp6\": {{ {v6} }} }}");
        fs::write(folder.path().join("v4.json"), v4).unwrap();
        fs::write(folder.path().join("v6.json"), v6).unwrap();
        accepted(folder.path(), "/usr/sbin/kea-dhcp4", &["-t", "v4.json"]);
        accepted(folder.path(), "/usr/sbin/kea-dhcp6", &["-t", "v6.json"]);
    }
}

#[test]
fn dhcpd_takes_the_lines() {
    let folder = TempDir::new().unwrap();
    for count in [1, 3, 20] {
        let v4 = lines(Server::IscDhcpd, Family::V4, count);
        let v6 = lines(Server::IscDhcpd, Family::V6, count);
        fs::write(
            folder.path().join("v4.conf"),
            format!("{v4}subnet 192.0.2.0 netmask 255.255.255.0 {{ }}\n"),
        )
        .unwrap();
        fs::write(
            folder.path().join("v6.conf"),
            format!("{v6}subnet6 2001:db8::/64 {{ }}\n"),
        )
        .unwrap();
        accepted(
            folder.path(),
            "/usr/sbin/dhcpd",
            &["-4", "-t", "-cf", "v4.conf"],
        );
        accepted(
            folder.path(),
            "/usr/sbin/dhcpd",
            &["-6", "-t", "-cf", "v6.conf"],
        );
    }
}

#[test]
fn dnsmasq_takes_the_lines() {
    let folder = TempDir::new().unwrap();
    for count in [1, 3] {
        for family in [Family::V4, Family::V6] {
            fs::write(
                folder.path().join("c"),
                lines(Server::Dnsmasq, family, count),
            )
            .unwrap();
            accepted(folder.path(), "/usr/sbin/dnsmasq", &["--test", "-C", "c"]);
        }
    }
    // What does not fit is not written.
    for family in [Family::V4, Family::V6] {
        assert_eq!(snippet(Server::Dnsmasq, family, &uris(20)), Ok(None));
    }
    assert_eq!(snippet(Server::CiscoIos, Family::V6, &uris(1)), Ok(None));
}

/// Requirements: SZTP-8572-4.2.2-02, SZTP-6763-6.3-01
#[test]
fn knot_takes_the_zone() {
    let folder = TempDir::new().unwrap();
    let mut value = vec![0x30];
    value.extend((0..9000_u32).map(|n| n.to_le_bytes()[0]));
    let artefacts = Artefacts {
        conveyed_information: Some(value.clone()),
        owner_certificate: Some(value.clone()),
        ownership_voucher: Some(value),
    };
    let servers = [("boot.example.com".to_owned(), 443)];
    let zone = format!(
        "example.com. 60 IN SOA ns.example.com. a.example.com. 1 60 60 60 60\n\
         example.com. 60 IN NS ns.example.com.\n\
         ns.example.com. 60 IN A 192.0.2.1\nboot.example.com. 60 IN A 192.0.2.1\n{}{}",
        txt_zone("PID:X SN.1\"", "example.com", &artefacts).unwrap(),
        service_zone("example.com", &servers).unwrap()
    );
    fs::write(folder.path().join("zone"), zone).unwrap();
    fs::write(
        folder.path().join("knot.conf"),
        knot_configuration(folder.path()),
    )
    .unwrap();
    accepted(
        folder.path(),
        "/usr/sbin/knotc",
        &["-c", "knot.conf", "zone-check", "example.com"],
    );
}

fn knot_configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "server:\n    rundir: \"{folder}\"\ndatabase:\n    storage: \"{folder}\"\n\
         zone:\n  - domain: example.com\n    storage: \"{folder}\"\n    file: \"zone\"\n    semantic-checks: on\n"
    )
}
