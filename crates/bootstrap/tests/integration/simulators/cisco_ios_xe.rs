//! IOS-XE 17.18.01 on a C9300: TLS 1.2 with a chip that signs RSA PKCS#1 v1.5 only, SHA-1 in the
//! factory's chain, XML around JSON in SignedData, a voucher for the module's serial number, no
//! report while the server is not trusted. The TLS of it is played by `openssl s_client`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::conveyed::ConveyedInformation;
use artifacts::verify::ExpectedNonce;
use artifacts::{SerialNumber, Tolerances};
use pki::KeyKind;
use pki::issue::{AltName, Profile};
use pki::path::Anchors;
use tokio::io::AsyncWriteExt as _;

use super::{MORE, Reply, content_by_openssl, content_type_by_openssl, element, post, unbase64};
use crate::content_world::{FOLDER, stage, voucher_pinning};
use crate::harness::{GET, Lab, issue_kind};

const LEGACY: &str = "[legacy]\nvendors = \"legacy.d\"\n[[legacy.identity]]\n\
     certificate = \"tls-rsa.pem\"\nkey = \"tls-rsa.key\"\n";

const BODY: &str = "<input xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\">\
     <signed-data-preferred/><hw-model>C9300-24T</hw-model><os-version>17.18.01</os-version>\
     </input>";

/// The serial number of the chassis, which its certificate has, and that of the module.
const CHASSIS: &str = "FCW2129L0AB";
const MODULE: &str = "FOC21281XYZ";

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split('|'))
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A factory CA and a device below it, RSA-2048, all signed with this digest.
fn factory(folder: &Path, stem: &str, digest: &str) {
    openssl(
        folder,
        &format!(
            "req|-x509|-newkey|rsa:2048|-nodes|-{digest}|-days|3650|-subj|/O=Factory {stem}/CN=CA|\
             -keyout|{stem}-ca.key|-out|{stem}-ca.pem"
        ),
    );
    openssl(
        folder,
        &format!(
            "req|-newkey|rsa:2048|-nodes|-subj|/CN=C9300-24T-A/serialNumber=PID:C9300-24T \
             SN:{CHASSIS}|-keyout|{stem}.key|-out|{stem}.csr"
        ),
    );
    std::fs::write(
        folder.join("device.cnf"),
        "keyUsage=critical,digitalSignature,keyEncipherment\nauthorityKeyIdentifier=keyid\n",
    )
    .unwrap();
    openssl(
        folder,
        &format!(
            "x509|-req|-in|{stem}.csr|-CA|{stem}-ca.pem|-CAkey|{stem}-ca.key|-CAcreateserial|\
             -{digest}|-days|3650|-extfile|device.cnf|-out|{stem}.pem"
        ),
    );
}

fn vendor_file(name: &str, anchor: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\nidevid_anchors = [\"../{anchor}\"]\n\
         voucher_anchors = [\"../vendors.d/voucher.pem\"]\n\
         profile = \"cisco-ios-xe\"\naccept_expired_idevid = true\n{more}\n"
    )
}

/// A server with both listeners and the device in its register.
async fn lab() -> Lab {
    let mut lab = Lab::prepare(&format!("{MORE}{LEGACY}")).await;
    let folder = lab.folder.path();
    issue_kind(
        folder,
        &lab.ca,
        "tls-rsa",
        Profile::TlsServer,
        KeyKind::Rsa2048,
        |server| {
            server
                .dns_name("localhost")
                .alt_name(AltName::Ip([127, 0, 0, 1].into()))
        },
    );
    factory(folder, "old", "sha1");
    factory(folder, "new", "sha256");
    std::fs::create_dir(lab.path("legacy.d")).unwrap();
    let old = vendor_file("cisco", "old-ca.pem", "tolerances = [\"sha1\"]");
    std::fs::write(lab.path("legacy.d/cisco.toml"), old).unwrap();
    // The ordinary listener shows the same RSA certificate beside its own: it is not for want of
    // a key that it refuses old devices.
    let file = lab.path("bootstrap.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more = "[[identity]]\ncertificate = \"tls-rsa.pem\"\nkey = \"tls-rsa.key\"\n";
    std::fs::write(&file, format!("{text}{more}")).unwrap();
    let id = lab.register_as("cisco", CHASSIS, "").await;
    lab.register_as("cisco", MODULE, "").await;
    lab.change(
        "UPDATE device SET alias_of = $1 WHERE serial = $2",
        store::params![id, MODULE],
    )
    .await;
    let module = lab.device_row(MODULE).await.integer("id").unwrap();
    let pin = lab.ca.chain[0].clone();
    voucher_pinning(&lab, module, MODULE, &pin, None, None).await;
    let everybody = "\n[[rule]]\nname = \"all\"\nbundle = \"shared\"\n";
    stage(&lab, &format!("{FOLDER}{everybody}")).await;
    lab.serve().await;
    lab
}

/// One request over `openssl s_client`, in a connection of its own. `Err` is what it said when
/// there was no answer.
async fn over_openssl(
    lab: &Lab,
    address: SocketAddr,
    stem: &str,
    options: &str,
    request: &[u8],
) -> Result<Reply, String> {
    let mut child = tokio::process::Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address.to_string()])
        .args([
            "-cert",
            &format!("{stem}.pem"),
            "-key",
            &format!("{stem}.key"),
        ])
        .args(["-cert_chain", &format!("{stem}-ca.pem")])
        .args(["-cipher", "ALL:@SECLEVEL=0"])
        .args(options.split(' '))
        .current_dir(lab.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may be gone before it has read all of it.
    let _ = stdin.write_all(request).await;
    let limit = std::time::Duration::from_secs(20);
    let output = tokio::time::timeout(limit, child.wait_with_output())
        .await
        .expect("it ends")
        .unwrap();
    drop(stdin);
    super::parse(&output.stdout).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// How the chip can shake hands: no PSS, no 1.3.
const OLD_TLS: &str = "-tls1_2 -sigalgs RSA+SHA256 -client_sigalgs RSA+SHA256";

fn request(address: SocketAddr) -> Vec<u8> {
    post(
        GET,
        &[
            ("Host", &address.to_string()),
            ("Content-Type", "application/yang-data+xml"),
            ("Accept", "application/yang-data+xml"),
            ("Content-Length", &BODY.len().to_string()),
            ("Connection", "close"),
        ],
        BODY,
    )
}

/// What the device accepts: XML with all three artefacts, SignedData with JSON under .43, and a
/// voucher for its module.
fn take(lab: &Lab, reply: &Reply) -> ConveyedInformation {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.content_type(), "application/yang-data+xml");
    let text = reply.text();
    let leaf = |name: &str| {
        let text = element(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"));
        unbase64(&text)
    };
    let data = BootstrappingData {
        conveyed_information: leaf("conveyed-information"),
        owner_certificate: Some(leaf("owner-certificate")),
        ownership_voucher: Some(leaf("ownership-voucher")),
    };
    let oid = content_type_by_openssl(lab, &data.conveyed_information);
    assert!(oid.contains("1.2.840.113549.1.9.16.1.43"), "{oid}");
    let content = content_by_openssl(lab, &data.conveyed_information).unwrap();
    assert_eq!(content.first(), Some(&b'{'));
    let mut anchors = Anchors::new();
    anchors.add(lab.pki.masa_signer.chain.last().unwrap().clone());
    let (strict, serial) = (Tolerances::strict(), SerialNumber::new(MODULE).unwrap());
    let mut context = DeviceContext::new(&anchors, &strict);
    context.serial = Some(&serial);
    context.at = Some(lab.clock.now());
    context.nonce = ExpectedNonce::Nonceless;
    let judgement = judge(&data, false, &context);
    judgement
        .result
        .unwrap_or_else(|error| panic!("{error}: {:?}", judgement.checks))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_served_signed_json_in_xml_on_the_legacy_listener() {
    let lab = lab().await;
    let address = lab.running().legacy_address().unwrap();
    let reply = over_openssl(&lab, address, "old", OLD_TLS, &request(address))
        .await
        .unwrap();
    assert!(matches!(
        take(&lab, &reply),
        ConveyedInformation::Onboarding(_)
    ));
    let line = lab.line().await;
    assert_eq!(
        (line.code.as_str(), line.serial.as_deref()),
        ("ok", Some(CHASSIS))
    );
    lab.stop().await;
}

/// Everybody else is as safe as without that listener: the ordinary one shakes no hands by PKCS#1
/// v1.5, knows none of the legacy anchors, and takes no SHA-1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ordinary_listener_serves_no_legacy_device() {
    let lab = lab().await;
    let address = lab.address();
    // Not even the handshake: neither side can sign.
    let refused = over_openssl(&lab, address, "old", OLD_TLS, &request(address))
        .await
        .unwrap_err();
    assert!(refused.contains("handshake failure"), "{refused}");
    // The server may sign with PSS, and the device with nothing else than PKCS#1.
    let half = "-tls1_2 -sigalgs RSA+SHA256:rsa_pss_rsae_sha256 -client_sigalgs RSA+SHA256";
    match over_openssl(&lab, address, "old", half, &request(address)).await {
        Err(said) => assert!(said.contains("alert") || said.contains("error"), "{said}"),
        Ok(reply) => assert_eq!(reply.status, 401),
    }
    // With PSS and TLS 1.3 the handshake is good, and the chain is not.
    for options in ["-tls1_3", "-tls1_2 -sigalgs rsa_pss_rsae_sha256"] {
        let reply = over_openssl(&lab, address, "old", options, &request(address))
            .await
            .unwrap();
        assert_eq!(reply.status, 401, "{options}");
    }
    lab.stop().await;
}

/// The legacy listener believes its own anchors only: neither those of the ordinary one, nor a
/// factory that nobody named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_legacy_listener_believes_its_own_anchors_only() {
    let lab = lab().await;
    let address = lab.running().legacy_address().unwrap();
    let reply = over_openssl(&lab, address, "new", OLD_TLS, &request(address))
        .await
        .unwrap();
    assert_eq!(reply.status, 401);
    lab.register("SN-1").await;
    let mut device = crate::harness::Device::new(address, Some(lab.pki.idevid("SN-1").unwrap()));
    let got = device.ask(serde_json::json!({})).await;
    assert_eq!(got.status, 401);
    device.address = lab.address();
    assert_eq!(device.ask(serde_json::json!({})).await.status, 200);
    // TLS 1.3 is not spoken there: whoever can do better belongs to the other listener.
    let refused = over_openssl(&lab, address, "old", "-tls1_3", &request(address)).await;
    assert!(refused.unwrap_err().contains("protocol version"));
    lab.stop().await;
}

/// A factory's chain with SHA-1 is believed on the legacy listener by name, and the switch has no
/// place anywhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sha_1_is_a_switch_of_the_legacy_vendor_only() {
    let mut lab = Lab::prepare(&format!("{MORE}{LEGACY}")).await;
    let folder = lab.folder.path();
    issue_kind(
        folder,
        &lab.ca,
        "tls-rsa",
        Profile::TlsServer,
        KeyKind::Rsa2048,
        |server| server.dns_name("localhost"),
    );
    factory(folder, "old", "sha1");
    std::fs::create_dir(lab.path("legacy.d")).unwrap();
    let without = vendor_file("cisco", "old-ca.pem", "");
    std::fs::write(lab.path("legacy.d/cisco.toml"), without).unwrap();
    lab.register_as("cisco", CHASSIS, "").await;
    lab.serve().await;
    let address = lab.running().legacy_address().unwrap();
    let reply = over_openssl(&lab, address, "old", OLD_TLS, &request(address))
        .await
        .unwrap();
    assert_eq!(reply.status, 401);
    let line = lab.line().await;
    let why = line.summary["detail"].as_str().unwrap_or_default();
    assert!(why.contains("path.weak-signature"), "{line:?}");
    let with = vendor_file("cisco", "old-ca.pem", "tolerances = [\"sha1\"]");
    std::fs::write(lab.path("vendors.d/cisco.toml"), with).unwrap();
    let error = bootstrap::serve(lab.config(), lab.clock.clone())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("sha1"), "{error}");
    lab.stop().await;
}
