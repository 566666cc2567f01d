//! A device far away finds its server: the built binary on two hosts with a cable between them,
//! with DHCP server, DHCP client and DNS server that are not ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::{Daemon, NetworkLink};

const USHER: &str = env!("CARGO_BIN_EXE_usher");
const SERVER: &str = "https://192.0.2.1:9543";
const SERVER_V6: &str = "https://[2001:db8::1]:9543";

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn good(command: &mut Command) -> Vec<u8> {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A command in the folder, its words separated by blanks.
fn shell(folder: &Path, program: &str, words: &str) -> Vec<u8> {
    good(
        Command::new(program)
            .args(words.split(' '))
            .current_dir(folder),
    )
}

/// An owner with a manufacturer's MASA, and one device.
fn prepare(folder: &Path) {
    let usher = |words: &str| shell(folder, USHER, words);
    usher("masa init --dir masa --listen 127.0.0.1:0 --admin 127.0.0.1:0");
    usher("bootstrap init boot --name 192.0.2.1 --listen [::]:9543 --admin 127.0.0.1:0");
    fs::write(
        folder.join("ext"),
        "keyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid\n",
    )
    .unwrap();
    let openssl = |words: &str| shell(folder, "openssl", words);
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out device.key");
    openssl("req -new -key device.key -subj /O=Maker/serialNumber=SN-1 -out device.csr");
    openssl(
        "x509 -req -in device.csr -CA masa/device-ca.pem -CAkey masa/device-ca.key -days 3650 -extfile ext -out device.pem",
    );
    fs::write(folder.join("sold.csv"), "serial,sold-to\nSN-1,acme\n").unwrap();
    fs::write(folder.join("serials"), "SN-1\n").unwrap();
    fs::write(
        folder.join("devices.csv"),
        "serial,vendor,var.hostname\nSN-1,maker,router-1\n",
    )
    .unwrap();
    let masa = |words: &str| usher(&format!("masa -c masa/masa.toml {words}"));
    masa("owner add acme --certificate boot/owner-ca.pem --nonceless=true");
    masa("device import sold.csv");
    masa("voucher issue --owner acme --serials serials --out vouchers");
    let boot = |words: &str| usher(&format!("bootstrap -c boot/bootstrap.toml {words}"));
    boot("trust import masa/device-ca.pem --vendor maker");
    boot("trust import masa/masa-ca.pem --vendor maker --use voucher");
    boot("devices import devices.csv");
    boot("vouchers import vouchers/SN-1.vcj");
    boot("apply boot/content");
}

/// A factory-new device with these sources; its trace and its exit code.
fn device(link: &NetworkLink, sources: &[&str]) -> (Value, i32) {
    // A state that was there would go on from there.
    let _ = fs::remove_dir_all(link.folder().join("state"));
    let output = run(link
        .on_client(USHER)
        .args([
            "device",
            "sztp",
            "--json",
            "--rounds",
            "1",
            "--time-limit",
            "60",
        ])
        .args([
            "--idevid",
            "device.pem",
            "--key",
            "device.key",
            "--state",
            "state",
        ])
        .args(["--voucher-anchors", "masa/masa-ca.pem"])
        .args(["--hw-model", "M1", "--os-name", "OS", "--os-version", "1"])
        .args(sources));
    let text = String::from_utf8_lossy(&output.stdout);
    let document = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (document, output.status.code().unwrap())
}

#[track_caller]
fn booted(link: &NetworkLink, sources: &[&str], trace_has: &str) {
    let (document, code) = device(link, sources);
    assert_eq!(code, 0, "{sources:?}: {document:#}");
    assert!(
        document.to_string().contains(trace_has),
        "{trace_has}: {document:#}"
    );
}

/// The configuration that the server renders for this device, so that it is the right one.
fn configuration(folder: &Path) -> String {
    let mut found = String::new();
    let mut folders = vec![folder.join("state")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push_str(&String::from_utf8_lossy(&fs::read(entry.path()).unwrap()));
            }
        }
    }
    found
}

fn dnsmasq(link: &NetworkLink) -> Daemon {
    let option = |server: &str, family: &str| {
        let words = format!("dhcp encode {server} --family {family} --for dnsmasq");
        String::from_utf8(shell(link.folder(), USHER, &words)).unwrap()
    };
    let text = format!(
        "no-resolv\nno-hosts\nport=0\ninterface=eth0\nbind-interfaces\nno-ping\ndhcp-authoritative\n\
         dhcp-range=192.0.2.100,192.0.2.150,1h\ndhcp-range=2001:db8::100,2001:db8::1ff,1h\n\
         dhcp-leasefile={}\npid-file\nuser=root\ngroup=root\n{}{}",
        link.folder().join("dnsmasq.leases").display(),
        option(SERVER, "v4"),
        option(SERVER_V6, "v6")
    );
    let file = link.folder().join("dnsmasq.conf");
    fs::write(&file, text).unwrap();
    quiet(
        link.on_server("/usr/sbin/dnsmasq")
            .arg("--no-daemon")
            .arg(format!("--conf-file={}", file.display())),
    )
}

fn quiet(command: &mut Command) -> Daemon {
    Daemon::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
}

/// Runs udhcpc, which gives the host its address and leaves the options in `lease`.
fn udhcpc(link: &NetworkLink) {
    let script = link.folder().join("udhcpc.sh");
    fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev $interface scope global\n\
         ip addr add $ip/$mask dev $interface\nenv | grep '^opt' >lease\n",
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    good(
        link.on_client("/usr/sbin/udhcpc")
            .args([
                "-i", "eth0", "-f", "-q", "-n", "-t", "20", "-T", "1", "-O", "143", "-s",
            ])
            .arg(script),
    );
}

/// Runs dhclient until it has a lease, which gives the host its IPv6 address.
async fn dhclient_v6(link: &NetworkLink) {
    let write = |name: &str, text: &str| {
        let path = link.folder().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let configuration = write(
        "dhclient.conf",
        "option dhcp6.sztp-redirect code 136 = string;\nalso request dhcp6.sztp-redirect;\n",
    );
    let script = write(
        "dhclient.sh",
        "#!/bin/sh\n[ \"$reason\" = BOUND6 ] || exit 0\n\
         ip -6 addr add $new_ip6_address/64 dev $interface nodad\n",
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let lease = link.folder().join("lease6");
    // It gives up at once while its link-local address is not ready.
    for _ in 0..20 {
        let mut command = link.on_client("/usr/sbin/dhclient");
        command.args(["-6", "-1", "-d", "-pf", "dhclient.pid", "-cf"]);
        command.arg(&configuration).arg("-sf").arg(&script);
        command.arg("-lf").arg(&lease).arg("eth0");
        let _client = quiet(&mut command);
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let text = fs::read_to_string(&lease).unwrap_or_default();
            if text.contains("sztp-redirect") && text.trim_end().ends_with('}') {
                return;
            }
        }
    }
    panic!("no lease by DHCPv6");
}

/// A DNS server for the zone that `usher dns encode` writes of a stick's files.
fn knot(link: &NetworkLink) -> Daemon {
    let folder = link.folder();
    let files = "stick/sztp/maker/SN-1";
    let device = shell(
        folder,
        USHER,
        &format!(
            "dns encode --domain device.example --serial SN-1 --conveyed-information {files}/conveyed-information.cms \
             --owner-certificate {files}/owner-certificate.cms --ownership-voucher {files}/ownership-voucher.vcj"
        ),
    );
    let server = shell(
        folder,
        USHER,
        "dns encode --domain server.example --server https://boot.server.example:9543",
    );
    let mut configuration = format!(
        "server:\n    listen: 192.0.2.1@53\n    rundir: \"{0}\"\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
         database:\n    storage: \"{0}\"\nzone:\n",
        folder.display()
    );
    for (domain, records) in [("device.example", device), ("server.example", server)] {
        let zone = format!(
            "{domain}. 60 IN SOA ns.{domain}. a.{domain}. 1 60 60 60 60\n{domain}. 60 IN NS ns.{domain}.\n\
             ns.{domain}. 60 IN A 192.0.2.1\n{}",
            String::from_utf8(records).unwrap()
        );
        fs::write(folder.join(domain), zone).unwrap();
        configuration.push_str(&format!(
            "  - domain: {domain}\n    storage: \"{}\"\n    file: \"{domain}\"\n",
            folder.display()
        ));
    }
    fs::write(folder.join("knot.conf"), configuration).unwrap();
    quiet(link.on_server("/usr/sbin/knotd").args(["-c", "knot.conf"]))
}

fn responder(link: &NetworkLink, what: &[&str]) -> Daemon {
    quiet(
        link.on_server(USHER)
            .args(["dns", "respond", "--interface", "192.0.2.1"])
            .args(what),
    )
}

/// The address that DHCP gave.
fn client_address(link: &NetworkLink) -> String {
    let mut listing = link.on_client("ip");
    let text = good(listing.args(["-o", "-4", "addr", "show", "dev", "eth0"]));
    let text = String::from_utf8(text).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet");
    let address = words.nth(1).unwrap();
    address.split('/').next().unwrap().to_owned()
}

async fn await_port(link: &NetworkLink, port: u16) {
    await_socket(link, port, "-t").await;
}

async fn await_udp_port(link: &NetworkLink, port: u16) {
    await_socket(link, port, "-u").await;
}

/// Waits until something listens at a port of the server's host, ten seconds at most.
async fn await_socket(link: &NetworkLink, port: u16, kind: &str) {
    for _ in 0..100 {
        let mut listing = link.on_server("ss");
        let text = good(listing.args(["-H", kind, "-l", "-n"]));
        if String::from_utf8_lossy(&text).contains(&format!(":{port} ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing listens at port {port}");
}

/// Requirements: SZTP-8572-4.1-01, SZTP-8572-4.2-01, SZTP-8572-4.3-01, SZTP-8572-8.1-01,
/// SZTP-8572-8.1-03, SZTP-8572-4.2.1-03, SZTP-8572-4.2.3-02, SZTP-8572-4.1-02
#[tokio::test]
async fn a_device_boots_from_dhcp_dns_and_a_stick() {
    let Some(link) = NetworkLink::for_test("a_device_boots_from_dhcp_dns_and_a_stick") else {
        return;
    };
    let folder = link.folder();
    prepare(folder);
    let _server =
        quiet(
            link.on_server(USHER)
                .args(["bootstrap", "-c", "boot/bootstrap.toml", "serve"]),
        );
    let _dhcp = dnsmasq(&link);
    udhcpc(&link);
    await_port(&link, 9543).await;
    booted(&link, &["--dhcp-lease", "lease"], "option 143");
    assert!(configuration(folder).contains("router-1"));

    dhclient_v6(&link).await;
    booted(&link, &["--dhcp-lease", "lease6"], "DHCPv6 option 136");

    shell(
        folder,
        USHER,
        "bootstrap -c boot/bootstrap.toml usb export --dir stick SN-1",
    );
    booted(
        &link,
        &["--usb", "stick", "--usb-vendor", "maker"],
        "stick/sztp/maker/SN-1",
    );
    assert!(configuration(folder).contains("router-1"));

    let _dns = knot(&link);
    await_port(&link, 53).await;
    let dns = ["--dns-server", "192.0.2.1", "--dns-domain"];
    booted(
        &link,
        &[&dns[..], &["device.example"]].concat(),
        "TXT SN-1._sztp.device.example.",
    );
    let host = ["server.example", "--host", "boot.server.example=192.0.2.1"];
    booted(
        &link,
        &[&dns[..], &host].concat(),
        "SRV _sztp._tcp.server.example.",
    );

    let address = client_address(&link);
    let mdns = ["--mdns", "--mdns-interface", &address];
    let responder = responder(&link, &["--usb", "stick", "--vendor", "maker"]);
    await_udp_port(&link, 5353).await;
    booted(&link, &mdns, "TXT SN-1._sztp.local.");
    drop(responder);
    let _responder = self::responder(&link, &["--server", SERVER]);
    await_udp_port(&link, 5353).await;
    booted(&link, &mdns, "SRV _sztp._tcp.local.");

    // The first sources hold nothing, or something that does not help; the last one does.
    let option = format!("{:04x}{}", 17, hex::encode("http://192.0.2.1/"));
    let all = [
        "--usb",
        "nothing",
        "--dhcp-option",
        &option,
        "--dhcp-lease",
        "lease",
    ];
    booted(&link, &all, "dhcp.uri-http");
    let (document, code) = device(&link, &["--dhcp-option", &option]);
    assert_eq!(code, 1, "{document:#}");

    // A link of 96 kbit/s that drops what it cannot hold.
    let shape = "qdisc add dev eth0 root tbf rate 96kbit burst 3000 limit 6000";
    good(link.on_server("tc").args(shape.split(' ')));
    booted(&link, &["--dhcp-lease", "lease"], "option 143");
    booted(&link, &[&dns[..], &["device.example"]].concat(), "TXT SN-1");
    let counters = good(
        link.on_server("tc")
            .args(["-s", "qdisc", "show", "dev", "eth0"]),
    );
    let counters = String::from_utf8(counters).unwrap();
    assert!(
        !counters.contains("(dropped 0,"),
        "nothing was lost: {counters}"
    );
}
