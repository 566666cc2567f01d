//! The registrar and the MASA of this project against each other.

use std::sync::Arc;

use artifacts::Envelope;
use clap::Parser;
use daemon::Outcome;
use pki::issue::Profile;
use pki::{Certificate, Identity, KeyKind, SoftwareKey};
use testkit::{NOW, PkiOptions};

use crate::harness::{Device, Lab};

const ALLOW: &str = "[policy]\ndefault = \"allow\"\n";
const GOOD: &str = "{\"version\":1,\"status\":true}";

/// Runs `usher masa` with these arguments.
async fn masa_command(lab: &Lab, arguments: &[&str]) {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        command: masa::cli::Command,
    }
    let config = lab.path("masa/masa.toml").display().to_string();
    let mut all = vec!["masa", "--config", &config, "--json"];
    all.extend_from_slice(arguments);
    let cli = Cli::try_parse_from(&all)
        .map_err(|error| error.to_string())
        .unwrap();
    assert_eq!(
        cli.command.run_async(lab.clock.clone()).await,
        Outcome::Yes,
        "{arguments:?}"
    );
}

/// Requirements: BRSKI-3.1-01, BRSKI-5.5-16, BRSKI-5.5-01, BRSKI-5.6-02, BRSKI-5.6-04, BRSKI-5.8-01, BRSKI-5.8.2-02, BRSKI-9.1.1-01
pub(crate) async fn a_real_masa_gives_its_owner_a_voucher_and_nobody_else() {
    let lab = Lab::prepare(ALLOW).await;
    let folder = lab.path("masa");
    let mut options = masa::InitOptions::new(&folder);
    options.manufacturer = "Acme".to_owned();
    masa::init(&options, NOW).await.unwrap();
    std::fs::write(
        lab.path("shipped.csv"),
        "serial,product,sold-to\nAC-1,Router,campus\nAC-2,Router,campus\nAC-3,Sensor,campus\nAC-9,Router,rival\n",
    )
    .unwrap();
    let shipped = lab.path("shipped.csv").display().to_string();
    let domain = lab.path("domain-ca.pem").display().to_string();
    let rival = lab.path("rival.pem");
    let rival_ca = lab.pki.other_domain("Rival").unwrap().ca.chain[0].clone();
    std::fs::write(&rival, rival_ca.to_pem()).unwrap();
    let rival = rival.display().to_string();
    masa_command(&lab, &["owner", "add", "campus", "--certificate", &domain]).await;
    masa_command(&lab, &["owner", "add", "rival", "--certificate", &rival]).await;
    masa_command(&lab, &["device", "import", &shipped]).await;
    let flags = daemon::config::Flags::new();
    let config = masa::Config::load(&folder.join("masa.toml"), &flags).unwrap();
    let masa = masa::serve(config, lab.clock.clone()).await.unwrap();

    // A vendor of its own, whose IDevIDs name that MASA.
    for (purpose, file) in [
        ("idevid", "device-ca.pem"),
        ("masa-tls", "masa-ca.pem"),
        ("voucher", "masa-ca.pem"),
    ] {
        let file = folder.join(file).display().to_string();
        let arguments = [
            "trust", "import", &file, "--vendor", "real", "--use", purpose,
        ];
        assert_eq!(lab.run(&arguments).await, Outcome::Yes);
    }
    let key = SoftwareKey::load(folder.join("device-ca.key"), None).unwrap();
    let chain = Certificate::load_all(folder.join("device-ca.pem")).unwrap();
    let ca = Identity::new(chain, Arc::new(key)).unwrap();
    let url = format!("localhost:{}", masa.device_address().port());
    let lab = lab.serving().await;
    let made = |serial: &str| {
        let options = PkiOptions::new(NOW);
        let subject = format!("serialNumber={serial},CN=Router");
        let kind = KeyKind::EcdsaP256;
        let identity =
            testkit::issue_under(&ca, &options, kind, Profile::Idevid, &subject, |builder| {
                builder.masa_url(&url)
            })
            .unwrap();
        Device::new(identity, serial, lab.address())
    };
    for (serial, envelope) in [
        ("AC-1", Envelope::Cms),
        ("AC-2", Envelope::Jws),
        ("AC-3", Envelope::Cose),
    ] {
        let mut device = made(serial);
        device.envelope = envelope;
        let got = device.ask().await;
        assert_eq!(got.status, 200, "{serial}: {}", got.text());
        assert_eq!(
            device
                .report(brski::paths::VOUCHER_STATUS, GOOD)
                .await
                .status,
            200
        );
        let line = lab.line(serial, "audit-log").await;
        assert_eq!(line["outcome"], "ok", "{line:#}");
        assert_eq!(lab.shown(serial).await["history"], "accepted");
    }
    // Sold to somebody else, and never made.
    for (serial, said) in [("AC-9", "masa."), ("AC-404", "masa.serial-unknown")] {
        let got = made(serial).ask().await;
        assert_eq!(
            got.code(),
            "registrar.masa-refused",
            "{serial}: {}",
            got.text()
        );
        let line = lab.line(serial, "masa-request").await;
        assert!(line["summary"].as_str().unwrap().contains(said), "{line:#}");
    }
    // Vouchers for devices that will come when nobody can be asked.
    masa_command(&lab, &["owner", "add", "campus", "--nonceless", "true"]).await;
    let profile = lab.path("vendors.d/real.toml");
    let text = std::fs::read_to_string(&profile).unwrap();
    std::fs::write(
        &profile,
        text.replace("[masa]", &format!("[masa]\nurl = \"{url}\"")),
    )
    .unwrap();
    let request = ["voucher", "request", "--vendor", "real", "AC-2"];
    assert_eq!(lab.run(&request).await, Outcome::Yes);
    assert_eq!(lab.run(&request).await, Outcome::Yes);
    let cose = ["voucher", "request", "--vendor", "real", "--cose", "AC-3"];
    assert_eq!(lab.run(&cose).await, Outcome::Yes);
    let refused = ["voucher", "request", "--vendor", "real", "AC-9", "AC-404"];
    assert_eq!(lab.run(&refused).await, Outcome::No);
    let mut snapshot = lab.running().service().store().snapshot().await.unwrap();
    let loaded = registrar::records::offline_vouchers(&mut snapshot, None, 10)
        .await
        .unwrap();
    assert_eq!(
        loaded
            .iter()
            .map(|voucher| (voucher.serial.as_str(), voucher.media_type.as_str()))
            .collect::<std::collections::BTreeSet<_>>(),
        [
            ("AC-2", Envelope::Cms.media_type()),
            ("AC-3", Envelope::Cose.media_type())
        ]
        .into()
    );
    drop(snapshot);
    lab.stop().await;
    masa.stop().await;
}
