//! Certificates for devices, from a real registrar's EST.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use daemon::Outcome;
use pki::csr::CsrBuilder;
use pki::issue::{Profile, name};
use pki::{Certificate, KeyKind, Signer, SoftwareKey};
use serde_json::{Value, json};
use store::params;
use sztp::csr::KeyAlgorithm;

use crate::harness::{Got, JSON, Lab, issue};

const CONTENT: &str = r#"
[[template]]
name = "base"
file = "templates/base.cfg"
format = "text"

[[bundle]]
name = "access"
template = "base"
handling = "merge"

[[rule]]
name = "all"
bundle = "access"
"#;

const FILES: &[(&str, &str)] = &[(
    "templates/base.cfg",
    "hostname {{ device.serial }}\n{% if certificate is defined %}{{ certificate.pem }}{% endif %}",
)];

/// A bootstrap server that is a registration authority of a registrar of its own.
pub(crate) struct World {
    pub(crate) lab: Lab,
    registrar: Option<registrar::Running>,
}

impl World {
    pub(crate) async fn start(csr: &str) -> Self {
        let mut lab = Lab::prepare("").await;
        let dir = lab.path("registrar").display().to_string();
        run_registrar(&[
            "init",
            "--dir",
            &dir,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:1",
            "--database",
            "sqlite:registrar.db",
        ])
        .await;
        let file = lab.path("registrar/registrar.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        // The bootstrap server is known there by the CA of its own certificate.
        let text = format!(
            "{}\n[est.without_brski]\nclient_cas = [\"../owner-ca.pem\"]\n\
             registration_authorities = true\n",
            text.replace("127.0.0.1:1\"", "127.0.0.1:0\"")
        );
        std::fs::write(&file, &text).unwrap();
        let flags = daemon::config::Flags::new();
        let config = registrar::Config::load(&file, &flags).unwrap();
        let running = registrar::serve(config, lab.clock.clone()).await.unwrap();
        issue(lab.folder.path(), &lab.ca, "ra", Profile::Registrar, |ra| {
            ra.dns_name("localhost")
        });
        let file = lab.path("bootstrap.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = format!(
            "{text}[csr]\nurl = \"https://localhost:{}\"\naddress = \"{}\"\n\
             anchors = [\"registrar/domain-ca.pem\"]\ncertificate = \"ra.pem\"\nkey = \"ra.key\"\n{csr}\n",
            running.device_address().port(),
            running.device_address(),
        );
        std::fs::write(&file, text).unwrap();
        lab.serve().await;
        lab.register("CSR-1").await;
        lab.register("CSR-2").await;
        lab.stage(CONTENT, FILES).await;
        Self {
            lab,
            registrar: Some(running),
        }
    }

    pub(crate) async fn stop(mut self) {
        if let Some(registrar) = self.registrar.take() {
            registrar.stop().await;
        }
        self.lab.stop().await;
    }

    async fn certificates(&self, serial: &str) -> i64 {
        let sql = "SELECT COUNT(*) AS n FROM certificate JOIN device ON device.id = certificate.device \
                   WHERE device.serial = $1";
        self.lab
            .row(sql, params![serial])
            .await
            .integer("n")
            .unwrap()
    }
}

async fn run_registrar(arguments: &[&str]) {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        command: registrar::cli::Command,
    }
    let mut all = vec!["registrar"];
    all.extend_from_slice(arguments);
    let clock = daemon::Clock::fixed(testkit::NOW);
    let cli = Cli::try_parse_from(all).unwrap();
    assert_eq!(cli.command.run_async(clock).await, Outcome::Yes);
}

fn support(algorithms: &[KeyAlgorithm], formats: &[&str]) -> Value {
    let algorithms: Vec<String> = algorithms
        .iter()
        .map(|algorithm| STANDARD.encode(algorithm.identifier()))
        .collect();
    let formats: Vec<String> = formats
        .iter()
        .map(|format| format!("ietf-ztp-types:{format}"))
        .collect();
    let mut support = json!({
        "csr-generation": { "supported-formats": { "format-identifier": formats } },
    });
    if !algorithms.is_empty() {
        support["key-generation"] =
            json!({ "supported-algorithms": { "algorithm-identifier": algorithms } });
    }
    json!({ "ietf-sztp-csr:csr-support": support })
}

fn p10(key: &dyn Signer, subject: &str) -> Value {
    let csr = CsrBuilder::new(name(subject).unwrap()).sign(key).unwrap();
    json!({ "ietf-sztp-csr:p10-csr": STANDARD.encode(csr.der()) })
}

/// The certificate in the configuration that came.
fn certificate(got: &Got) -> Option<Certificate> {
    let output = crate::core_data::output(got);
    let artifacts::conveyed::ConveyedInformation::Onboarding(information) =
        crate::core_data::unsigned(&output)
    else {
        panic!("a redirect");
    };
    let text = String::from_utf8(information.configuration.unwrap()).unwrap();
    text.contains("BEGIN CERTIFICATE")
        .then(|| Certificate::from_pem(&text).unwrap())
}

/// Requirements: SZTP-9646-2.1-04, SZTP-9646-2.3-01, SZTP-9646-2.3-02, SZTP-9646-3.2-04,
/// SZTP-9646-3.2-05, SZTP-9646-3.2-06, SZTP-8040-8-01, SZTP-7951-4-01
pub(crate) async fn a_device_asks_makes_a_key_and_gets_its_certificate() {
    let world = World::start("").await;
    let device = world.lab.device("CSR-1");
    let offered = support(&[KeyAlgorithm::EcP384], &["p10-csr"]);
    let got = device.ask(offered).await;
    assert_eq!(got.status, 400);
    assert_eq!(got.header("content-type"), Some(JSON));
    let error = &got.json()["ietf-restconf:errors"]["error"][0];
    assert_eq!(error["error-tag"], "missing-attribute");
    let request = &error["error-info"]["ietf-sztp-csr:csr-request"];
    assert_eq!(
        request["key-generation"]["selected-algorithm"]["algorithm-identifier"],
        STANDARD.encode(KeyAlgorithm::EcP384.identifier()),
        "{error}"
    );
    assert_eq!(
        request["csr-generation"]["selected-format"]["format-identifier"],
        "ietf-ztp-types:p10-csr"
    );
    let line = world.lab.line().await;
    assert_eq!((line.outcome.as_str(), line.http), ("asked", 400));

    let key = SoftwareKey::generate(KeyKind::EcdsaP384).unwrap();
    let request = p10(&key, "serialNumber=CSR-1,CN=CSR-1");
    let first = certificate(&device.ask(request.clone()).await).unwrap();
    assert!(first.public_key().is_same_key(key.public_key()));
    assert!(first.subject().contains("CN=CSR-1"), "{}", first.subject());
    let ca = Certificate::load_all(world.lab.path("registrar/domain-ca.pem")).unwrap();
    first.verify_signature_by(ca[0].public_key()).unwrap();
    // The same request again, as after an answer that was lost, is the same certificate.
    let again = certificate(&device.ask(request).await).unwrap();
    assert_eq!(first, again);
    assert_eq!(world.certificates("CSR-1").await, 1);
    // A request that nobody asked for is not answered with another one.
    let key = SoftwareKey::generate(KeyKind::EcdsaP384).unwrap();
    let got = device.ask(p10(&key, "CN=CSR-1")).await;
    assert_eq!(got.refusal().2, "sztp.csr-not-requested");
    assert_eq!(world.certificates("CSR-1").await, 1);
    world.stop().await;
}

/// Requirements: SZTP-9646-3.2-03, SZTP-9646-4.2.1-01, SZTP-9646-4.2.2-01, SZTP-9646-4.2.2-02,
/// SZTP-9646-4.1.5-01, SZTP-9646-2.3-03, SZTP-9646-3.2-06
pub(crate) async fn requests_that_are_not_the_devices_own_are_refused() {
    let world = World::start("").await;
    let device = world.lab.device("CSR-1");
    let ask = || async {
        let offered = support(&[KeyAlgorithm::EcP256], &["p10-csr"]);
        assert_eq!(device.ask(offered).await.refusal().2, "sztp.csr-wanted");
    };
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    ask().await;
    // Another type of key than the one that was selected.
    let other = SoftwareKey::generate(KeyKind::EcdsaP384).unwrap();
    let got = device.ask(p10(&other, "CN=CSR-1")).await;
    assert_eq!(
        got.refusal(),
        (400, "missing-attribute".into(), "sztp.csr-mismatch".into())
    );
    assert!(got.text().contains("csr-request"), "{}", got.text());
    // Another device's name.
    for other in [
        "serialNumber=CSR-2,CN=CSR-2",
        "CN=CSR-2",
        "CN=registrar.example",
    ] {
        let got = device.ask(p10(&key, other)).await;
        assert_eq!(got.refusal().2, "sztp.csr-origin", "{other}");
    }
    // Another device that brings what was meant for this one.
    let got = world.lab.device("CSR-2").ask(p10(&key, "CN=CSR-1")).await;
    assert_eq!(got.refusal().2, "sztp.csr-not-requested");
    // Nobody in particular.
    assert_eq!(
        world
            .lab
            .anonymous()
            .ask(p10(&key, "CN=CSR-1"))
            .await
            .status,
        401
    );
    // A signature that does not hold.
    let csr = CsrBuilder::new(name("CN=CSR-1").unwrap())
        .sign(&key)
        .unwrap();
    let mut der = csr.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let got = device
        .ask(json!({ "ietf-sztp-csr:p10-csr": STANDARD.encode(&der) }))
        .await;
    let code = got.refusal().2;
    assert!(
        ["sztp.csr-possession", "sztp.csr-malformed"].contains(&code.as_str()),
        "{code}"
    );
    let got = device
        .ask(json!({ "ietf-sztp-csr:p10-csr": STANDARD.encode(b"no request") }))
        .await;
    assert_eq!(got.refusal().2, "sztp.csr-malformed");
    // Too late.
    world.lab.hand.advance(std::time::Duration::from_secs(3600));
    let got = device.ask(p10(&key, "CN=CSR-1")).await;
    assert_eq!(got.refusal().2, "sztp.csr-not-requested");
    // A device that makes no keys certifies the one that it has, and no other.
    let got = device.ask(support(&[], &["p10-csr"])).await;
    assert_eq!(got.refusal().2, "sztp.csr-wanted");
    assert!(!got.text().contains("key-generation"), "{}", got.text());
    let got = device.ask(p10(&key, "CN=CSR-1")).await;
    assert_eq!(got.refusal().2, "sztp.csr-origin");
    let own = device.identity.clone().unwrap();
    let got = device.ask(p10(own.signer.as_ref(), "CN=CSR-1")).await;
    assert!(certificate(&got).is_some());
    // A device that offers no format that is read gets its data without a certificate.
    let got = device
        .ask(support(&[KeyAlgorithm::EcP256], &["cmp-csr"]))
        .await;
    assert!(certificate(&got).is_none());
    assert_eq!(world.certificates("CSR-1").await, 1);
    assert_eq!(world.certificates("CSR-2").await, 0);
    world.stop().await;
}

/// Requirements: SZTP-9646-2.2-02
pub(crate) async fn a_server_without_a_ca_goes_on_without() {
    let lab = Lab::start("").await;
    lab.register("CSR-3").await;
    lab.stage(CONTENT, FILES).await;
    let device = lab.device("CSR-3");
    let got = device
        .ask(support(&[KeyAlgorithm::EcP256], &["p10-csr"]))
        .await;
    assert!(certificate(&got).is_none());
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let got = device.ask(p10(&key, "CN=CSR-3")).await;
    assert_eq!(got.refusal().2, "sztp.csr-not-supported");
    lab.stop().await;
}

/// A CA that is away is no reason for a 500, and the next attempt succeeds.
pub(crate) async fn a_ca_that_is_away_makes_the_device_come_again() {
    let mut world = World::start("timeout_seconds = 2").await;
    let device = world.lab.device("CSR-1");
    let offered = support(&[KeyAlgorithm::EcP256], &["p10-csr"]);
    assert_eq!(device.ask(offered).await.refusal().2, "sztp.csr-wanted");
    if let Some(registrar) = world.registrar.take() {
        registrar.stop().await;
    }
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let got = device.ask(p10(&key, "CN=CSR-1")).await;
    assert_eq!(
        got.refusal(),
        (409, "resource-denied".into(), "sztp.csr-ca".into())
    );
    assert_eq!(world.certificates("CSR-1").await, 0);
    world.stop().await;
}

/// A device that sends its request many times at once gets one certificate.
pub(crate) async fn the_same_request_at_once_is_one_certificate() {
    let world = World::start("").await;
    let device = world.lab.device("CSR-1");
    let offered = support(&[KeyAlgorithm::EcP256], &["p10-csr"]);
    assert_eq!(device.ask(offered).await.refusal().2, "sztp.csr-wanted");
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let request = p10(&key, "CN=CSR-1");
    let work = (0..8).map(|_| device.ask(request.clone()));
    let got = futures::future::join_all(work).await;
    let first = certificate(&got[0]).unwrap();
    for other in &got {
        assert_eq!(certificate(other).unwrap(), first);
    }
    assert_eq!(world.certificates("CSR-1").await, 1);
    world.stop().await;
}
