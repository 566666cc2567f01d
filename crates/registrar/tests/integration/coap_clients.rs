//! CoAP clients that others wrote: libcoap's `coap-client`, built with OpenSSL and with GnuTLS,
//! and `openssl s_client`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use coap::jpy::Jpy;
use coap::link;
use est::client::CaCertificates;
use pki::{Certificate, Identity, Signer as _, SoftwareKey};

use crate::coap::registrar;
use crate::coap_vouchers::{constrained, small, voucher_of};
use crate::enrolment::{ALLOW, edit};
use crate::harness::{Lab, Script};

/// The two builds.
const CLIENTS: [&str; 2] = ["coap-client-openssl", "coap-client-gnutls"];

/// `{"version": 1, "status": true}`
const YES: &[u8] = b"\xa2\x67version\x01\x66status\xf5";

struct Client<'l> {
    lab: &'l Lab,
    program: &'static str,
    /// The file of its certificates, and that of its key.
    identity: Option<(PathBuf, PathBuf)>,
    /// Where it connects.
    address: SocketAddr,
}

impl<'l> Client<'l> {
    fn new(lab: &'l Lab, program: &'static str, identity: Option<&Identity>) -> Self {
        let identity = identity.map(|identity| {
            let name = hex::encode(&identity.chain[0].sha256()[..4]);
            let chain = lab.path(&format!("{name}.pem"));
            let pem: Vec<String> = identity.chain.iter().map(Certificate::to_pem).collect();
            std::fs::write(&chain, pem.concat()).unwrap();
            let file = lab.path(&format!("{name}.key"));
            let key = SoftwareKey::from_pkcs8_der(&identity.signer.to_pkcs8().unwrap()).unwrap();
            std::fs::write(&file, key.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
            (chain, file)
        });
        Self {
            lab,
            program,
            identity,
            address: lab.running().coap_addresses()[0],
        }
    }

    /// Runs the client against a path with these arguments, and gives what it wrote and said.
    async fn run(&self, path: &str, arguments: &[&str]) -> (Vec<u8>, String) {
        let out = self.lab.path("answer");
        let _ = std::fs::remove_file(&out);
        let address = self.address;
        let mut command = tokio::process::Command::new(self.program);
        command.args(["-n", "-B", "20", "-v", "4"]);
        if let Some((chain, key)) = &self.identity {
            command.arg("-c").arg(chain).arg("-j").arg(key);
        }
        let output: Output = command
            .args(arguments)
            .arg("-o")
            .arg(&out)
            .arg(format!("coaps://{address}/{path}"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        (std::fs::read(&out).unwrap_or_default(), said)
    }

    async fn get(&self, path: &str, arguments: &[&str]) -> Vec<u8> {
        let (body, said) = self.run(path, arguments).await;
        assert!(!body.is_empty(), "{} {path}: {said}", self.program);
        body
    }

    async fn post(&self, path: &str, body: &[u8], arguments: &[&str]) -> (Vec<u8>, String) {
        let file = self.lab.path("request");
        std::fs::write(&file, body).unwrap();
        let file = file.display().to_string();
        let mut all = vec!["-m", "post", "-f", &file];
        all.extend_from_slice(arguments);
        self.run(path, &all).await
    }
}

/// Writes a vendor profile with the CA that issues the devices: the OpenSSL build sends a client
/// certificate without those above it.
pub(crate) fn profile(lab: &Lab) {
    let ca = &lab.pki.manufacturer_ca.chain[0];
    std::fs::write(lab.path("vendors.d/device-ca.pem"), ca.to_pem()).unwrap();
    let text = "name = \"acme\"\nintermediates = [\"device-ca.pem\"]\n";
    std::fs::write(lab.path("vendors.d/acme.toml"), text).unwrap();
}

/// A CSR by OpenSSL, with its key.
async fn openssl_csr(lab: &Lab, name: &str, subject: &str) -> (Vec<u8>, SoftwareKey) {
    let key = lab.path(&format!("{name}.key"));
    let csr = lab.path(&format!("{name}.csr"));
    let script = format!(
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key} && \
         openssl req -new -key {key} -subj {subject} -outform DER -out {csr}",
        key = key.display(),
        csr = csr.display()
    );
    let made = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let key = std::fs::read_to_string(key).unwrap();
    let key = SoftwareKey::from_pem(&key, None).unwrap();
    (std::fs::read(csr).unwrap(), key)
}

/// Requirements: CBR-009, CBR-032, CBR-033, CBR-042, CBR-052, CBR-054, CBR-081, CBR-085, CBR-086,
/// CBR-149, ESC-001, ESC-008, ESC-018, ESC-030, ESC-036, COA-021, COA-061, COA-062, COA-063
pub(crate) async fn foreign_clients_walk_through_every_resource() {
    for program in CLIENTS {
        let lab = Lab::prepare(ALLOW).await;
        edit(&lab, |text| {
            text + "[est]\nserver_keygen = true\n[coap]\nlisten = [\"127.0.0.1:0\"]\n"
        });
        profile(&lab);
        let lab = lab.serving().await;
        let device = constrained(&lab, "SN-1");
        let pledge = Client::new(&lab, program, device.identity.as_ref());

        let links = pledge.get(".well-known/core?rt=brski*", &[]).await;
        let links = link::decode(std::str::from_utf8(&links).unwrap()).unwrap();
        assert_eq!(links.len(), 4, "{program}");

        // The request in blocks of 64 bytes, the voucher likewise.
        let request = device.sign(small(&lab, &device));
        let arguments = ["-t", "836", "-A", "836", "-b", "64"];
        let (body, said) = pledge
            .post(".well-known/brski/rv", &request, &arguments)
            .await;
        assert!(!body.is_empty(), "{program}: {said}");
        let voucher = voucher_of(&lab, &body);
        assert_eq!(voucher.serial_number.as_str(), "SN-1");
        let registrar = registrar(&lab);
        let pins = voucher.pins().count();
        assert_eq!(pins, 1);
        // The same request by the number of the path: the same voucher.
        let arguments = ["-t", "836", "-O", "13,0x0192"];
        let (again, said) = pledge.post("", &request, &arguments).await;
        assert_eq!(again, body, "{program}: {said}");

        let (_, said) = pledge.post("b/vs", YES, &["-t", "60"]).await;
        assert!(!said.contains("4.0"), "{program}: {said}");

        let bag = pledge.get(".well-known/est/crts", &["-b", "256"]).await;
        let bag = CaCertificates::new(pki::pkcs7::parse_certs_only(&bag).unwrap());
        let now = Some(lab.clock.now());
        let trust = bag.judge(Some(&registrar), now).unwrap();
        let single = pledge.get("e/crts", &["-A", "287"]).await;
        assert_eq!(Certificate::from_der(&single).unwrap(), trust.anchor);
        let several = pledge.get("e/crts", &["-A", "62", "-b", "32"]).await;
        assert_eq!(several[..4], [0x82, 0x19, 0x01, 0x1f]);
        pledge.get("e/att", &[]).await;

        let (csr, key) = openssl_csr(&lab, "first", "/serialNumber=SN-1").await;
        let arguments = ["-t", "286", "-A", "287", "-b", "128"];
        let (body, said) = pledge.post(".well-known/est/sen", &csr, &arguments).await;
        assert!(!body.is_empty(), "{program}: {said}");
        let certificate = Certificate::from_der(&body).unwrap();
        let enrolled = trust.accept(&[certificate], key.public_key(), now).unwrap();
        let (_, said) = pledge.post("b/es", YES, &["-t", "60"]).await;
        assert!(!said.contains("4.0"), "{program}: {said}");
        assert_eq!(lab.shown("SN-1").await["state"], "enrolled");

        let member = Identity::new(enrolled.chain, std::sync::Arc::new(key)).unwrap();
        let member = Client::new(&lab, program, Some(&member));
        let (csr, key) = openssl_csr(&lab, "second", "/serialNumber=SN-1").await;
        let (body, said) = member.post("e/sren", &csr, &["-t", "286"]).await;
        assert!(!body.is_empty(), "{program}: {said}");
        let renewed = pki::pkcs7::parse_certs_only(&body).unwrap();
        trust.accept(&renewed, key.public_key(), now).unwrap();
        for name in ["skg", "skc"] {
            let path = format!(".well-known/est/{name}");
            let (body, said) = member.post(&path, &csr, &["-t", "286", "-b", "512"]).await;
            assert!(!body.is_empty(), "{program}: {said}");
            let (key, certificates) = est::coaps::multipart::key_and_certificates(&body).unwrap();
            let key = SoftwareKey::from_pkcs8_der(&key).unwrap();
            trust.accept(&certificates, key.public_key(), now).unwrap();
        }
        lab.stop().await;
    }
}

/// Requirements: CBR-019, CBR-056, COA-016, COA-017, COA-018, ESC-010, ESC-039
pub(crate) async fn foreign_clients_wait_and_are_refused() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    profile(&lab);
    let lab = lab.serving().await;
    // Longer than the time after which a request is acknowledged without its answer.
    lab.masa
        .plays(Script::Late(std::time::Duration::from_millis(2_500)));
    for (serial, program) in [("SN-1", CLIENTS[0]), ("SN-2", CLIENTS[1])] {
        let device = constrained(&lab, serial);
        let pledge = Client::new(&lab, program, device.identity.as_ref());
        let request = device.sign(small(&lab, &device));
        let (body, said) = pledge.post("b/rv", &request, &["-t", "836"]).await;
        assert!(!body.is_empty(), "{program}: {said}");
        voucher_of(&lab, &body);
        for (path, arguments, expected) in [
            ("b/rv", &["-t", "50"][..], "4.15"),
            ("b/rv", &["-t", "836", "-A", "50"], "4.06"),
            ("e/sen", &["-t", "286"], "4.00"),
            ("e/nothing", &["-t", "286"], "4.04"),
            ("b/vs", &["-t", "60"], "4.00"),
            ("b/rv", &["-t", "836", "-O", "65001,x"], "4.02"),
        ] {
            let (_, said) = pledge.post(path, b"nonsense", arguments).await;
            assert!(
                said.contains(expected),
                "{program} {path} {arguments:?}: {said}"
            );
        }
        let nobody = Client::new(&lab, program, None);
        let (body, said) = nobody.run("e/crts", &[]).await;
        assert!(said.contains("4.01"), "{program}: {said}");
        assert!(!body.starts_with(b"\x30"));
    }
    lab.stop().await;
}

/// Requirements: CBR-140, COA-041, COA-045, JPX-038, JPX-039, JPX-040, JPX-042, JPX-050
pub(crate) async fn foreign_clients_find_the_registrar_in_the_clear() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[coap]\nlisten = [\"127.0.0.1:0\"]\njpy_listen = \"127.0.0.1:0\"\n\
                [coap.discovery]\nlisten = [\"127.0.0.1:0\"]\n"
    });
    let lab = lab.serving().await;
    let running = lab.running();
    let port = running.coap_addresses()[0].port();
    let jpy = running.jpy_address().unwrap().port();
    let open = running.discovery_addresses()[0];
    for (program, query, expected) in [
        (
            CLIENTS[0],
            "rt=brski.rjp",
            format!("<jpy://127.0.0.1:{jpy}>;rt=\"brski.rjp\""),
        ),
        (
            CLIENTS[1],
            "rt=brski",
            format!("<coaps://127.0.0.1:{port}/b>;rt=\"brski\""),
        ),
        (CLIENTS[0], "brski-jp=*", format!("<>;brski-jp={port}")),
        (CLIENTS[1], "rt=nothing", String::new()),
    ] {
        let out = clear(program, &format!("coap://{open}/.well-known/core?{query}")).await;
        assert_eq!(out.trim(), expected, "{program} {query}");
    }
    for path in ["b/rv", ".well-known/est/crts"] {
        let out = clear(CLIENTS[0], &format!("coap://{open}/{path}")).await;
        assert!(out.contains("4.01"), "{path}: {out}");
    }
    lab.stop().await;
}

/// What a client says without DTLS.
async fn clear(program: &str, url: &str) -> String {
    let output = tokio::process::Command::new(program)
        .args(["-B", "20", "-v", "4", url])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The walk of docs/registrar-coaps.md, with its script that makes the request of a device.
///
/// Requirements: CBR-030, CBR-131, CBR-132
pub(crate) async fn the_documented_walk_ends_with_a_voucher() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    profile(&lab);
    let lab = lab.serving().await;
    let device = constrained(&lab, "SN-1");
    let pledge = Client::new(&lab, CLIENTS[0], device.identity.as_ref());
    let (chain, key) = pledge.identity.as_ref().unwrap();
    let script = format!(
        "set -e -o pipefail; \
         openssl s_client -dtls1_2 -connect {address} -cipher ECDHE-ECDSA-AES128-CCM8 \
           -cert {chain} -key {key} </dev/null 2>/dev/null | openssl x509 -out {seen}; \
         python3 {script} SN-1 {key} {seen} > {request}",
        address = lab.running().coap_addresses()[0],
        chain = chain.display(),
        key = key.display(),
        seen = lab.path("seen.pem").display(),
        script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/samples/pledge-request.py"
        ),
        request = lab.path("pvr.vch").display(),
    );
    let made = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let request = std::fs::read(lab.path("pvr.vch")).unwrap();
    let (body, said) = pledge.post("b/rv", &request, &["-t", "836"]).await;
    assert!(!body.is_empty(), "{said}");
    let voucher = voucher_of(&lab, &body);
    assert_eq!(voucher.serial_number.as_str(), "SN-1");
    lab.stop().await;
}

/// Requirements: COA-039
pub(crate) async fn new_keys_are_shown_from_the_next_handshake_on() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    let lab = lab.serving().await;
    let address = lab.running().coap_addresses()[0];
    let seen = async || {
        let config = net::dtls::ClientConfig::new(lab.device("SN-1").identity.clone());
        let coap = coap::Config::default();
        let client = net::coap::CoapClient::connect(address, &config, coap)
            .await
            .unwrap();
        let der = client.peer().unwrap().server_certificate_der.clone();
        client.close().await;
        Certificate::from_der(&der).unwrap()
    };
    let before = seen().await;
    assert_eq!(before, registrar(&lab));
    let other = lab.pki.other_domain("Other").unwrap();
    let file = lab.path("registrar.pem");
    let pem: Vec<String> = other
        .registrar
        .chain
        .iter()
        .map(Certificate::to_pem)
        .collect();
    std::fs::write(file, pem.concat()).unwrap();
    let key = SoftwareKey::from_pkcs8_der(&other.registrar.signer.to_pkcs8().unwrap()).unwrap();
    std::fs::write(
        lab.path("registrar.key"),
        key.to_pkcs8_pem().unwrap().as_bytes(),
    )
    .unwrap();
    lab.running().service().reload().unwrap();
    assert_eq!(seen().await, other.registrar.chain[0]);
    lab.stop().await;
}

/// A stateless join proxy as small as it can be: a header for each device, and the device of each
/// header.
async fn stateless_proxy(registrar: SocketAddr) -> SocketAddr {
    let devices = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstream = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    upstream.connect(registrar).await.unwrap();
    let address = devices.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut down, mut up) = (vec![0; 2_048], vec![0; 2_048]);
        loop {
            tokio::select! {
                Ok((length, from)) = devices.recv_from(&mut down) => {
                    let header = from.to_string();
                    let jpy = Jpy {
                        header: header.as_bytes(),
                        content: &down[..length],
                    };
                    let _ = upstream.send(&jpy.encode()).await;
                }
                Ok(length) = upstream.recv(&mut up) => {
                    let jpy = Jpy::decode(&up[..length]).unwrap();
                    let to = std::str::from_utf8(jpy.header).unwrap();
                    let _ = devices.send_to(jpy.content, to).await;
                }
            }
        }
    });
    address
}

/// Requirements: JPX-006, JPX-016, JPX-017, JPX-018, JPX-020
pub(crate) async fn foreign_clients_come_through_a_stateless_join_proxy() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| {
        text + "[coap]\nlisten = [\"127.0.0.1:0\"]\njpy_listen = \"127.0.0.1:0\"\n"
    });
    profile(&lab);
    let lab = lab.serving().await;
    let proxy = stateless_proxy(lab.running().jpy_address().unwrap()).await;
    for (serial, program) in [("SN-1", CLIENTS[0]), ("SN-2", CLIENTS[1])] {
        let device = constrained(&lab, serial);
        let mut pledge = Client::new(&lab, program, device.identity.as_ref());
        pledge.address = proxy;
        let request = device.sign(small(&lab, &device));
        let (body, said) = pledge
            .post("b/rv", &request, &["-t", "836", "-b", "64"])
            .await;
        assert!(!body.is_empty(), "{program}: {said}");
        voucher_of(&lab, &body);
        let line = lab.line(serial, "identity").await;
        assert_eq!(line["detail"]["transport"], "coaps+jpy");
    }
    lab.stop().await;
}

/// Requirements: CBR-009, CBR-030, DTL-033, ESC-057
pub(crate) async fn whatever_name_and_group_is_asked_for_the_certificate_is_the_same() {
    let lab = Lab::prepare(ALLOW).await;
    edit(&lab, |text| text + "[coap]\nlisten = [\"127.0.0.1:0\"]\n");
    let lab = lab.serving().await;
    let address = lab.running().coap_addresses()[0];
    for (arguments, works) in [
        ("-noservername -cipher ECDHE-ECDSA-AES128-CCM8", true),
        ("-servername nonsense.example -groups P-256", true),
        ("-servername localhost -groups X25519:P-256", true),
        ("-cipher ECDHE-ECDSA-AES128-GCM-SHA256", true),
        ("-cipher AES128-SHA:DES-CBC3-SHA:PSK-AES128-CCM8", false),
        ("-cipher aNULL:eNULL", false),
    ] {
        let script = format!(
            "openssl s_client -dtls1_2 -connect {address} {arguments} </dev/null 2>/dev/null \
             | openssl x509 -outform DER"
        );
        let output = tokio::process::Command::new("bash")
            .args(["-c", &script])
            .output()
            .await
            .unwrap();
        let shown = Certificate::from_der(&output.stdout).ok();
        assert_eq!(shown, works.then(|| registrar(&lab)), "{arguments}");
    }
    lab.stop().await;
}
