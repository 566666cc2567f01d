//! A voucher for a device's nonce, from a MASA of this project.

use bootstrap::config::Config;
use bootstrap::register::live::{Live, fetch};
use bootstrap::vendor::Vendors;
use clap::Parser;
use daemon::Outcome;
use pki::Coded as _;
use pki::issue::Profile;
use serde_json::json;
use store::params;
use testkit::NOW;

use crate::harness::{Lab, issue};

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
    assert_eq!(cli.command.run_async(lab.clock.clone()).await, Outcome::Yes);
}

/// A MASA that sold SN-1 and SN-2 to us and SN-3 to somebody else; this server asks it.
async fn world(sold: bool) -> (Lab, masa::Running) {
    let mut lab = Lab::prepare("[masa]\ncertificate = \"ra.pem\"\nkey = \"ra.key\"\n").await;
    issue(lab.folder.path(), &lab.ca, "ra", Profile::Registrar, |ra| {
        ra.dns_name("ra.test")
    });
    // The MASA knows the IDevIDs of the manufacturer that the laboratory has.
    let anchor = lab.path("vendors.d/root.pem");
    let mut options = masa::InitOptions::new(lab.path("masa"));
    options.device_anchors = vec![anchor.clone()];
    masa::init(&options, NOW).await.unwrap();
    let ca = lab.path("owner-ca.pem").display().to_string();
    masa_command(&lab, &["owner", "add", "us", "--certificate", &ca]).await;
    let rival = lab.path("rival.pem");
    let certificate = lab.pki.other_domain("Rival").unwrap().ca.chain[0].clone();
    std::fs::write(&rival, certificate.to_pem()).unwrap();
    let rival = rival.display().to_string();
    masa_command(&lab, &["owner", "add", "rival", "--certificate", &rival]).await;
    let buyer = if sold { "us" } else { "" };
    let shipped = lab.path("shipped.csv");
    let text = format!("serial,sold-to\nSN-1,{buyer}\nSN-2,{buyer}\nSN-3,rival\n");
    std::fs::write(&shipped, text).unwrap();
    let shipped = shipped.display().to_string();
    let issuer = lab.pki.idevid("SN-0").unwrap().chain[1].clone();
    let issuer_file = lab.path("issuer.pem");
    std::fs::write(&issuer_file, issuer.to_pem()).unwrap();
    let issuer_file = issuer_file.display().to_string();
    let import = ["device", "import", &shipped, "--issuer-ca", &issuer_file];
    masa_command(&lab, &import).await;
    let flags = daemon::config::Flags::new();
    let config = masa::Config::load(&lab.path("masa/masa.toml"), &flags).unwrap();
    let masa = masa::serve(config, lab.clock.clone()).await.unwrap();
    let port = masa.device_address().port();
    std::fs::write(
        lab.path("vendors.d/acme.toml"),
        format!(
            "name = \"acme\"\nidevid_anchors = [\"root.pem\"]\n\
             voucher_anchors = [\"../masa/masa-ca.pem\"]\n[masa]\n\
             url = \"https://localhost:{port}\"\ntls_anchors = [\"../masa/masa-ca.pem\"]\n"
        ),
    )
    .unwrap();
    for serial in ["SN-1", "SN-2", "SN-3"] {
        lab.register(serial).await;
    }
    lab.serve().await;
    lab.stage(
        "[[rule]]\nname = \"all\"\nbundle = \"b\"\n[[bundle]]\nname = \"b\"\nversion = \"1\"\n\
         pre-script = \"s\"\n[[script]]\nname = \"s\"\nfile = \"templates/s.sh\"\n",
        &[("templates/s.sh", "#!/bin/sh\n")],
    )
    .await;
    (lab, masa)
}

/// Requirements: SZTP-8572-7.3-07, SZTP-8366-5.3-03
pub(crate) async fn a_nonce_gets_a_voucher_of_its_own() {
    let (lab, masa) = world(true).await;
    let nonce = |octet: u8| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode([octet; 16])
    };
    let ask = |octet: u8| json!({ "signed-data-preferred": [null], "nonce": nonce(octet) });
    let device = lab.device("SN-1");
    let first = device.ask(ask(1)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let voucher = first.output("ownership-voucher").unwrap();
    let vendors = Vendors::load(&lab.path("vendors.d")).unwrap();
    let owner = lab.config().load_owner().unwrap().unwrap();
    let reader = bootstrap::register::live::reader(&owner, NOW);
    let check = |nonce: &[u8]| {
        let vendor = vendors.named("acme").unwrap();
        bootstrap::register::check_voucher(&reader, &voucher, vendor, "SN-1", Some(nonce))
    };
    let checked = check(&[1; 16]).unwrap();
    assert_eq!(checked.assertion, "verified");
    assert!(checked.expires.is_none());
    assert_eq!(check(&[2; 16]).unwrap_err().code, "voucher.nonce-mismatch");
    // The same request again gets the same voucher, and another nonce another one.
    let again = device.ask(ask(1)).await;
    assert_eq!(again.output("ownership-voucher").unwrap(), voucher);
    let other = device.ask(ask(2)).await;
    assert_ne!(other.output("ownership-voucher").unwrap(), voucher);
    // Without a nonce there is nothing, for nobody imported a voucher.
    let none = device.ask(json!({ "signed-data-preferred": [null] })).await;
    assert_eq!(none.status / 100, 4, "{}", none.text());
    // Sold to somebody else: the MASA's own words are in the timeline, and not in the answer.
    let got = lab.device("SN-3").ask(ask(3)).await;
    assert!(got.status >= 400, "{}", got.text());
    assert!(!got.text().contains("masa."), "{}", got.text());
    let line = lab.line().await;
    assert!(
        line.summary.to_string().contains("masa.not-the-owner"),
        "{line:?}"
    );
    // The MASA is away: the device comes again, and what was there is served.
    masa.stop().await;
    let got = lab.device("SN-2").ask(ask(4)).await;
    assert!(got.status >= 400, "{}", got.text());
    let line = lab.line().await;
    assert!(
        line.summary
            .to_string()
            .contains("bootstrap.masa-unreachable"),
        "{line:?}"
    );
    assert_eq!(device.ask(ask(2)).await.status, 200);
    lab.stop().await;
}

pub(crate) async fn a_masa_that_is_not_allowed_is_not_asked() {
    let (lab, masa) = world(false).await;
    let config = lab.config();
    let live = Live::load(&config).unwrap().unwrap();
    let vendors = Vendors::load(&lab.path("vendors.d")).unwrap();
    let mut vendor = vendors.named("acme").unwrap().clone();
    let mut snapshot = lab.store.snapshot().await.unwrap();
    let device = bootstrap::register::find_device(&mut snapshot, "SN-1", None)
        .await
        .unwrap();
    drop(snapshot);
    let idevid = lab.pki.idevid("SN-1").unwrap();
    let ask = async |vendor: &bootstrap::vendor::Vendor, octet: u8| {
        let nonce = [octet; 16];
        let leaf = idevid.certificate();
        fetch(&lab.store, &live, vendor, &device, &nonce, leaf, NOW)
            .await
            .map(|row| row.is_some())
            .map_err(|error| error.code())
    };
    // Sold to nobody, and the device itself said nothing.
    assert_eq!(ask(&vendor, 1).await, Err("bootstrap.masa-refused"));
    // Signed by somebody whose vouchers are not believed.
    masa_command(&lab, &["device", "transfer", "SN-1", "--to", "us"]).await;
    let good = vendor.voucher_anchors.clone();
    vendor.voucher_anchors = lab.pki.domain.anchors();
    assert_eq!(ask(&vendor, 2).await, Err("bootstrap.masa-voucher"));
    vendor.voucher_anchors = good;
    // Another server than the vendor's.
    let tls = vendor.masa_tls_anchors.clone();
    vendor.masa_tls_anchors = lab.pki.domain.anchors();
    assert_eq!(ask(&vendor, 3).await, Err("bootstrap.masa-unreachable"));
    vendor.masa_tls_anchors = tls;
    assert_eq!(ask(&vendor, 4).await, Ok(true));
    // Nothing that was refused was stored.
    let row = lab
        .row("SELECT COUNT(*) AS n FROM voucher", params![])
        .await;
    assert_eq!(row.integer("n").unwrap(), 1);
    // A device that asks again and again is not passed on for ever.
    assert_eq!(ask(&vendor, 5).await, Ok(true));
    assert_eq!(ask(&vendor, 6).await, Ok(true));
    assert_eq!(ask(&vendor, 7).await, Err("bootstrap.masa-too-often"));
    assert_eq!(ask(&vendor, 4).await, Ok(true));
    vendor.file.masa = None;
    assert_eq!(ask(&vendor, 8).await, Ok(false));
    // A certificate that is no registrar's is found at once.
    let text = std::fs::read_to_string(lab.path("bootstrap.toml")).unwrap();
    let text = text
        .replace("\"ra.pem\"", "\"owner.pem\"")
        .replace("\"ra.key\"", "\"owner.key\"");
    let config = Config::parse(&text, lab.folder.path()).unwrap();
    assert!(
        Live::load(&config)
            .unwrap_err()
            .to_string()
            .contains("cmcRA")
    );
    masa.stop().await;
    lab.stop().await;
}
