//! Boot images: fetched in pieces, verified, installed.

use artifacts::conveyed::{
    BootImage, ConveyedInformation, HashAlgorithm, ImageVerification, OnboardingInformation,
};
use aws_lc_rs::digest;
use device::sztp::{Outcome, Verdict};
use sztp::{agent::Note, message::ProgressType};

use super::{
    server::{File, Reply, Server},
    whole::{bootstrap, giving, trusting},
};
use crate::sztp_world::{World, onboarding, unsigned};

fn bytes() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_be_bytes).collect()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn wanting(uris: Vec<String>, hash: Vec<u8>) -> ConveyedInformation {
    ConveyedInformation::Onboarding(OnboardingInformation {
        boot_image: Some(BootImage {
            os_name: Some("VendorOS".to_owned()),
            os_version: Some("17.3".to_owned()),
            download_uris: uris,
            image_verifications: vec![ImageVerification {
                algorithm: HashAlgorithm::Sha256,
                value: hash,
            }],
        }),
        ..onboarding()
    })
}

async fn server(world: &World) -> Server {
    Server::start(world.server(&["127.0.0.1"]), |_, _| Reply::Status(404)).await
}

fn image_failures(outcome: &Outcome) -> Vec<&str> {
    outcome
        .notes()
        .filter_map(|note| match note {
            Note::ImageFetched { refusal, .. } => refusal.as_ref().map(|one| one.code.as_str()),
            _ => None,
        })
        .collect()
}

/// Requirements: SZTP-8572-5.6-11, SZTP-8572-5.6-12, SZTP-8572-5.6-14, SZTP-8572-5.6-15,
/// SZTP-8572-5.6-16, SZTP-8572-6.3-09, SZTP-8572-6.3-10
#[tokio::test]
async fn an_image_is_fetched_in_spite_of_the_line() {
    let world = World::new();
    for no_ranges in [false, true] {
        let server = server(&world).await;
        let folder = tempfile::tempdir().unwrap();
        let image = bytes();
        server.with(|shared| {
            shared.files.insert(
                "/broken.bin".to_owned(),
                File {
                    bytes: image.clone(),
                    breaks_after: Some(500_000),
                    no_ranges,
                },
            );
            let whole = File {
                bytes: image.clone(),
                ..File::default()
            };
            shared.files.insert("/image.bin".to_owned(), whole);
        });
        let uris = vec![
            server.url("/absent.bin"),
            server.url("/broken.bin"),
            server.url("/image.bin"),
        ];
        server.with(|shared| {
            // A file server that says no.
            shared
                .files
                .insert("/absent.bin".to_owned(), File::default());
        });
        server.answers(giving(wanting(uris, sha256(&image))));
        let mut options = trusting(&world, &server);
        options.state_folder = Some(folder.path().to_owned());
        let outcome = bootstrap(options).await;
        assert!(outcome.is_bootstrapped(), "{:?}", outcome.verdict);
        assert_eq!(outcome.state.os.version.as_deref(), Some("17.3"));
        let reports = server.reports();
        let at = |progress| reports.iter().position(|one| *one == progress);
        let mismatch = at(ProgressType::BootImageMismatch).unwrap();
        let rebooting = at(ProgressType::BootImageInstalledRebooting).unwrap();
        let complete = at(ProgressType::BootImageComplete).unwrap();
        assert!(mismatch < rebooting && rebooting < complete);
        // The empty file is not the image; the line that breaks is asked to go on, and where that
        // is not understood the third location helps.
        let ranges = server.with(|shared| shared.ranges.clone());
        let resumed = ranges.iter().flatten().any(|range| range != "bytes=0-");
        assert!(resumed, "{ranges:?}");
        let name = format!("image-{}.bin", hex::encode(sha256(&image)));
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), image);
        server.stop().await;
    }
}

/// Requirements: SZTP-8572-5.6-15, SZTP-8572-5.6-17, SZTP-8572-5.6-08
#[tokio::test]
async fn an_image_that_is_not_right_is_not_installed() {
    let world = World::new();
    let server = server(&world).await;
    let image = bytes();
    server.with(|shared| {
        let file = File {
            bytes: image.clone(),
            ..File::default()
        };
        shared.files.insert("/image.bin".to_owned(), file);
    });
    let right = sha256(&image);
    for (uri, hash, size_max, code) in [
        (
            server.url("/image.bin"),
            vec![9; 32],
            u64::MAX,
            "device.image-hash",
        ),
        (
            server.url("/image.bin"),
            right.clone(),
            1_000_000,
            "device.image-too-large",
        ),
        (
            server.url("/none.bin"),
            right.clone(),
            u64::MAX,
            "device.image-fetch",
        ),
        (
            "ftp://127.0.0.1/image.bin".to_owned(),
            right.clone(),
            u64::MAX,
            "device.image-uri",
        ),
        (
            "file:///etc/passwd".to_owned(),
            right.clone(),
            u64::MAX,
            "device.image-uri",
        ),
        (
            "https://127.0.0.1:1/image.bin".to_owned(),
            right.clone(),
            u64::MAX,
            "net.connect",
        ),
    ] {
        server.with(|shared| shared.reports.clear());
        server.answers(giving(wanting(vec![uri.clone()], hash)));
        let folder = tempfile::tempdir().unwrap();
        let mut options = trusting(&world, &server);
        options.image_size_max_bytes = size_max;
        options.state_folder = Some(folder.path().to_owned());
        let outcome = bootstrap(options).await;
        assert_eq!(outcome.code(), Some(code), "{uri}");
        assert_eq!(image_failures(&outcome), [code]);
        assert_eq!(server.reports().last(), Some(&ProgressType::BootImageError));
        assert_eq!(outcome.state.os.version.as_deref(), Some("17.2"));
        assert_eq!(outcome.configuration, None);
        let whole: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".bin"))
            .collect();
        assert!(whole.is_empty(), "{whole:?}");
    }
    server.stop().await;
}

/// What came before the line broke, or the power went, is not fetched again by the next run.
///
/// Requirements: SZTP-8572-5.6-08
#[tokio::test]
async fn a_transfer_is_taken_up_by_the_next_run() {
    let world = World::new();
    let server = server(&world).await;
    let folder = tempfile::tempdir().unwrap();
    let image = bytes();
    let serves = |breaks_after| {
        server.with(|shared| {
            let file = File {
                bytes: image.clone(),
                breaks_after,
                no_ranges: false,
            };
            shared.files.insert("/image.bin".to_owned(), file);
        });
    };
    let uri = server.url("/image.bin");
    server.answers(giving(wanting(vec![uri], sha256(&image))));
    let options = || {
        let mut options = trusting(&world, &server);
        options.state_folder = Some(folder.path().to_owned());
        options
    };
    serves(Some(100_000));
    assert!(!bootstrap(options()).await.is_bootstrapped());
    let part = format!("image-part-{}", hex::encode(sha256(&image)));
    let there = std::fs::metadata(folder.path().join(&part)).unwrap().len();
    assert!(there > 0 && there < image.len() as u64);
    serves(None);
    server.with(|shared| shared.ranges.clear());
    assert!(bootstrap(options()).await.is_bootstrapped());
    let ranges = server.with(|shared| shared.ranges.clone());
    assert_eq!(ranges, [Some(format!("bytes={there}-"))]);

    // A part that is of something else does no harm.
    device::sztp::factory_reset(folder.path()).unwrap();
    std::fs::write(folder.path().join(&part), b"something else").unwrap();
    assert!(bootstrap(options()).await.is_bootstrapped());
}

/// A stick that holds the image too needs no network at all.
///
/// Requirements: SZTP-8572-4.1-01
#[tokio::test]
async fn an_image_comes_from_removable_storage() {
    let world = World::new();
    let stick = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let image = bytes();
    std::fs::create_dir(stick.path().join("images")).unwrap();
    std::fs::write(stick.path().join("images/os.bin"), &image).unwrap();
    std::fs::write(elsewhere.path().join("os.bin"), &image).unwrap();
    std::os::unix::fs::symlink(
        elsewhere.path().join("os.bin"),
        stick.path().join("link.bin"),
    )
    .unwrap();
    for (uri, found) in [
        ("file:///images/os.bin", true),
        // As IOS-XR names its drives.
        ("file:///disk2:/images/os.bin", true),
        ("file:///images/../../../../etc/passwd", false),
        ("file:///link.bin", false),
        ("file:///absent.bin", false),
    ] {
        let layout = sztp::usb::Layout::general("usher").unwrap();
        let data = world.signed(&wanting(vec![uri.to_owned()], sha256(&image)));
        write_stick(stick.path(), &layout, &data);
        let mut options = super::whole::options(&world);
        options.sources = vec![Box::new(device::sources::UsbSource::new(
            stick.path(),
            vec![layout],
            crate::sztp_world::SERIAL,
        ))];
        options.image_folder = Some(stick.path().to_owned());
        let outcome = bootstrap(options).await;
        assert_eq!(
            outcome.is_bootstrapped(),
            found,
            "{uri}: {:?}",
            outcome.verdict
        );
        if let Verdict::Bootstrapped(bootstrapped) = outcome.verdict {
            assert!(bootstrapped.signed && !bootstrapped.reported);
            assert_eq!(bootstrapped.source, "usb");
        }
    }
    // Unsigned, the same is of no use.
    let layout = sztp::usb::Layout::general("usher").unwrap();
    write_stick(
        stick.path(),
        &layout,
        &unsigned(&crate::sztp_world::whole()),
    );
    let mut options = super::whole::options(&world);
    options.sources = vec![Box::new(device::sources::UsbSource::new(
        stick.path(),
        vec![layout],
        crate::sztp_world::SERIAL,
    ))];
    let outcome = bootstrap(options).await;
    assert_eq!(outcome.code(), Some("bundle.untrusted-onboarding"));
}

fn write_stick(
    stick: &std::path::Path,
    layout: &sztp::usb::Layout,
    data: &artifacts::bundle::BootstrappingData,
) {
    super::command::write_stick(stick, layout, data);
}
