//! `usher device brski` as a command.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use clap::Parser;
use daemon::Outcome;
use pki::{
    Certificate, KeyKind, Pkcs11Key, Signer, SoftwareKey,
    issue::{CertificateBuilder, Profile, name},
};

use crate::{
    server::Server,
    world::{NOW, serial},
};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: device::cli::Command,
}

/// Runs the command on a thread of its own, because it has a runtime of its own.
async fn usher(arguments: Vec<String>) -> Outcome {
    let arguments = std::iter::once("device".to_owned()).chain(arguments);
    let cli = Cli::try_parse_from(arguments).unwrap();
    tokio::task::spawn_blocking(move || cli.command.run())
        .await
        .unwrap()
}

/// An IDevID for a key.
fn idevid(server: &Server, key: &dyn Signer) -> Vec<Certificate> {
    let ca = &server.manufacturer.ca;
    let certificate = CertificateBuilder::new(
        Profile::Idevid,
        name("serialNumber=SN-1,CN=Device").unwrap(),
        key.public_key().clone(),
        serial(),
        NOW - time::Duration::days(1),
        time::macros::datetime!(9999-12-31 23:59:59 UTC),
    )
    .masa_url("masa.example")
    .issue(&ca.certificate, ca.key.as_ref())
    .unwrap();
    vec![certificate]
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn arguments(server: &Server, folder: &Path, chain: &[Certificate], key: &str) -> Vec<String> {
    let chain: String = chain.iter().map(Certificate::to_pem).collect();
    let anchors = server.manufacturer.ca.certificate.to_pem();
    [
        "brski",
        "--registrar",
        server.origin.as_str(),
        "--idevid",
        &write(folder, "idevid.pem", chain),
        "--key",
        key,
        "--masa-anchors",
        &write(folder, "masa.pem", anchors),
        "--state",
        &folder.join("state").display().to_string(),
        "--at",
        "2026-06-01T12:00:00Z",
        "--attempts",
        "1",
        "--json",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Requirements: CBR-151
#[tokio::test]
async fn the_command_speaks_cose() {
    for proximity in ["certificate", "public-key", "public-key-sha256"] {
        let server = Server::start().await;
        let folder = tempfile::tempdir().unwrap();
        let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        let file = write(folder.path(), "idevid.key", pem.as_bytes());
        let mut chain = idevid(&server, &key);
        chain.push(server.manufacturer.ca.certificate.clone());
        let mut base = arguments(&server, folder.path(), &chain, &file);
        base.extend(["--format", "cose", "--proximity", proximity].map(str::to_owned));
        // The CA of the MASA alone is not enough: the signer's certificate does not travel.
        assert_eq!(usher(base.clone()).await, Outcome::No, "{proximity}");
        let signer = server.manufacturer.masa.chain[0].to_pem();
        let signer = write(folder.path(), "signer.pem", signer);
        base.extend(["--masa-anchors".to_owned(), signer]);
        assert_eq!(usher(base).await, Outcome::Yes, "{proximity}");
        assert!(folder.path().join("state/voucher.vch").is_file());
        server.stop().await;
    }
}

#[tokio::test]
async fn the_command_enrols_renews_and_refuses() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let pem = key.to_encrypted_pkcs8_pem("factory").unwrap();
    let file = write(folder.path(), "idevid.key", pem.as_bytes());
    let passphrase = write(folder.path(), "passphrase", "factory\n");
    let chain = idevid(&server, &key);
    let mut base = arguments(&server, folder.path(), &chain, &file);
    base.extend(["--passphrase-file".to_owned(), passphrase]);
    // Refused: what the device may accept is not what it gets.
    let mut strict = base.clone();
    strict.extend(["--assertion", "verified"].map(str::to_owned));
    assert_eq!(usher(strict).await, Outcome::No);
    assert_eq!(usher(base.clone()).await, Outcome::Yes);
    let state = folder.path().join("state");
    let first = Certificate::load(state.join("ldevid.pem")).unwrap();
    let mut renew = base.clone();
    renew.push("--renew".to_owned());
    assert_eq!(usher(renew).await, Outcome::Yes);
    let second = Certificate::load(state.join("ldevid.pem")).unwrap();
    assert_ne!(first, second);
    // Misuse.
    let mut misuse = base.clone();
    misuse.extend(["--tolerate", "everything"].map(str::to_owned));
    assert_eq!(usher(misuse).await, Outcome::CouldNotRun);
    let wrong = base
        .iter()
        .map(|one| one.replace("https://", "http://"))
        .collect();
    assert_eq!(usher(wrong).await, Outcome::CouldNotRun);
    server.stop().await;
}

const PLACES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
];

/// The module finds its tokens through an environment variable, which a process must not change
/// under its own feet: the test runs itself again in a process of its own.
#[tokio::test]
async fn an_idevid_in_a_token_enrols() {
    let Some(configured) = std::env::var_os("SOFTHSM2_CONF") else {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        let config: PathBuf = folder.path().join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\n", tokens.display());
        std::fs::write(&config, text).unwrap();
        let made = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", &config)
            .args([
                "--init-token",
                "--free",
                "--label",
                "usher",
                "--so-pin",
                "5678",
            ])
            .args(["--pin", "1234"])
            .status()
            .expect("softhsm2-util is installed");
        assert!(made.success());
        let run = Command::new(std::env::current_exe().unwrap())
            .env("SOFTHSM2_CONF", &config)
            .args([
                "--exact",
                "command::an_idevid_in_a_token_enrols",
                "--nocapture",
            ])
            .status()
            .unwrap();
        assert!(run.success());
        return;
    };
    drop(configured);
    let module = PLACES.into_iter().find(|place| Path::new(place).exists());
    let module = module.expect("package softhsm2 is there");
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let uri = "pkcs11:token=usher;object=idevid";
    let whole = format!("{uri}?module-path={module}");
    let key: Arc<dyn Signer> =
        Arc::new(Pkcs11Key::generate(&whole, "1234", KeyKind::EcdsaP256).unwrap());
    let chain = idevid(&server, key.as_ref());
    let mut arguments = arguments(&server, folder.path(), &chain, uri);
    let pin = write(folder.path(), "pin", "1234\n");
    arguments.extend(["--passphrase-file", &pin, "--module", module].map(str::to_owned));
    assert_eq!(usher(arguments).await, Outcome::Yes);
    server.stop().await;
}
