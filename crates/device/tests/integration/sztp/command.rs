//! `usher device sztp` as a command.

use std::{path::Path, process::Command};

use artifacts::bundle::BootstrappingData;
use clap::Parser;
use daemon::Outcome;
use pki::{
    Certificate, KeyKind, Signer, SoftwareKey,
    issue::{CertificateBuilder, Profile, name},
};
use sztp::usb::{Artefact, Layout};

use super::{server::Server, whole::giving};
use crate::sztp_world::{SERIAL, World, whole};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: device::cli::Command,
}

/// Runs the command on a thread of its own, because it has a runtime of its own.
async fn usher(arguments: &[&str]) -> Outcome {
    run(["device", "sztp"].iter().chain(arguments)).await
}

async fn run<'a>(arguments: impl Iterator<Item = &'a &'a str>) -> Outcome {
    let cli = Cli::try_parse_from(arguments).unwrap();
    tokio::task::spawn_blocking(move || cli.command.run())
        .await
        .unwrap()
}

pub(crate) fn write_stick(stick: &Path, layout: &Layout, data: &BootstrappingData) {
    let folder = stick.join(layout.folder(SERIAL).unwrap());
    std::fs::create_dir_all(&folder).unwrap();
    for (artefact, der) in [
        (
            Artefact::ConveyedInformation,
            Some(&data.conveyed_information),
        ),
        (Artefact::OwnerCertificate, data.owner_certificate.as_ref()),
        (Artefact::OwnershipVoucher, data.ownership_voucher.as_ref()),
    ] {
        let path = stick.join(layout.path(SERIAL, artefact).unwrap());
        match der {
            Some(der) => std::fs::write(path, der).unwrap(),
            None => {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// An IDevID with a key that can be written down.
fn identity(world: &World, folder: &Path) -> (String, String) {
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let ca = &world.pki.manufacturer_ca;
    let certificate = CertificateBuilder::new(
        Profile::Idevid,
        name("serialNumber=SN-1,CN=Device").unwrap(),
        key.public_key().clone(),
        testkit::serial().unwrap(),
        world.now - time::Duration::DAY,
        testkit::FOREVER,
    )
    .issue(ca.certificate().unwrap(), ca.signer.as_ref())
    .unwrap();
    let chain: String = std::iter::once(&certificate)
        .chain(&ca.chain)
        .map(Certificate::to_pem)
        .collect();
    let pem = key.to_pkcs8_pem().unwrap();
    (
        write(folder, "idevid.pem", chain.as_bytes()),
        write(folder, "idevid.key", pem.as_bytes()),
    )
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn the_command_bootstraps_and_resets() {
    let world = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), giving(whole())).await;
    let folder = tempfile::tempdir().unwrap();
    let (idevid, key) = identity(&world, folder.path());
    let anchors = write(
        folder.path(),
        "ca.pem",
        world.domain_ca().to_pem().as_bytes(),
    );
    let factory: String = world
        .pki
        .manufacturer_anchors()
        .iter()
        .map(Certificate::to_pem)
        .collect();
    let vouchers = write(folder.path(), "masa.pem", factory.as_bytes());
    let state = folder.path().join("state").display().to_string();
    let url = server.url("/");
    let mut arguments = vec![
        "--server",
        &url,
        "--idevid",
        &idevid,
        "--key",
        &key,
        "--voucher-anchors",
        &vouchers,
        "--state",
        &state,
        "--at",
        "2026-06-01T12:00:00Z",
        "--rounds",
        "1",
        "--json",
    ];
    // Without anchors for the server, unsigned information is of no use.
    assert_eq!(usher(&arguments).await, Outcome::No);
    arguments.extend(["--server-anchors", &anchors]);
    assert_eq!(usher(&arguments).await, Outcome::Yes);
    let count = server.with(|shared| shared.inputs.len());
    assert_eq!(usher(&arguments).await, Outcome::Yes, "switched off");
    assert_eq!(server.with(|shared| shared.inputs.len()), count);
    assert_eq!(
        usher(&["--factory-reset", "--state", &state]).await,
        Outcome::Yes
    );
    assert_eq!(usher(&arguments).await, Outcome::Yes);
    assert!(server.with(|shared| shared.inputs.len()) > count);
    server.stop().await;
}

/// Requirements: SZTP-8572-4.1-01
#[tokio::test]
async fn a_stick_by_itself() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let stick = tempfile::tempdir().unwrap();
    let (idevid, key) = identity(&world, folder.path());
    let factory: String = world
        .pki
        .manufacturer_anchors()
        .iter()
        .map(Certificate::to_pem)
        .collect();
    let vouchers = write(folder.path(), "masa.pem", factory.as_bytes());
    let stick_path = stick.path().display().to_string();
    let arguments = [
        "device",
        "usb",
        &stick_path,
        "--idevid",
        &idevid,
        "--key",
        &key,
        "--voucher-anchors",
        &vouchers,
        "--at",
        "2026-06-01T12:00:00Z",
        "--rounds",
        "1",
        "--json",
    ];
    assert_eq!(run(arguments.iter()).await, Outcome::No, "it is empty");
    write_stick(stick.path(), &Layout::IosXr, &world.signed(&whole()));
    assert_eq!(run(arguments.iter()).await, Outcome::Yes);
}

/// Mistakes that have nothing to do with a server.
#[tokio::test]
async fn misuse() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (idevid, key) = identity(&world, folder.path());
    let good = [
        "--idevid", &idevid, "--key", &key, "--rounds", "1", "--json",
    ];
    for (more, expect) in [
        (vec![], Outcome::No),
        (vec!["--server", "http://127.0.0.1/"], Outcome::CouldNotRun),
        (vec!["--server", "ftp://x/"], Outcome::CouldNotRun),
        (vec!["--tolerate", "anything-goes"], Outcome::CouldNotRun),
        (vec!["--assertion", "hearsay"], Outcome::CouldNotRun),
        (
            vec!["--voucher-anchors", "/no/such/file"],
            Outcome::CouldNotRun,
        ),
        (vec!["--ssh-host-key", &idevid], Outcome::CouldNotRun),
        (vec!["--trust-anchor-chain", &idevid], Outcome::CouldNotRun),
        (
            vec![
                "--tolerate",
                "lenient",
                "--csr",
                "--csr-key",
                "p256,rsa2048",
            ],
            Outcome::No,
        ),
    ] {
        let arguments: Vec<&str> = good.iter().copied().chain(more.iter().copied()).collect();
        assert_eq!(usher(&arguments).await, expect, "{more:?}");
    }
}

/// A host key as OpenSSH makes it is taken.
///
/// Requirements: SZTP-8572-7.3-20
#[test]
fn the_keys_of_openssh() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("host_key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path)
        .status();
    let line = match made {
        Ok(status) if status.success() => {
            std::fs::read_to_string(path.with_extension("pub")).unwrap()
        }
        // One that it made before.
        _ => "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUC6LZzGD9KnZoDbJXhGPV8pzo4hH8dLZ0Zl6TCUUzN x"
            .to_owned(),
    };
    let key = device::sztp::host_key(&line).unwrap();
    assert_eq!(key.algorithm, "ssh-ed25519");
    assert_eq!(key.key_data.len(), 51);
}
