//! The power goes at every write to the disk.

use std::path::Path;

use artifacts::conveyed::{
    BootImage, ConfigurationHandling, ConveyedInformation, HashAlgorithm, ImageVerification,
    OnboardingInformation,
};
use aws_lc_rs::digest;
use device::sztp::{Options, Scripts, Verdict};
use sztp::message::ProgressType;

use super::{
    server::{File, Server},
    whole::{bootstrap, giving, trusting},
};
use crate::sztp_world::{World, onboarding};

const FINAL: &[u8] = b"interface mgmt\nhostname x\nno sztp\n";

/// Another image, both scripts and a configuration to be merged.
fn information(server: &Server, image: &[u8]) -> ConveyedInformation {
    ConveyedInformation::Onboarding(OnboardingInformation {
        boot_image: Some(BootImage {
            os_name: None,
            os_version: Some("17.3".to_owned()),
            download_uris: vec![server.url("/image.bin")],
            image_verifications: vec![ImageVerification {
                algorithm: HashAlgorithm::Sha256,
                value: digest::digest(&digest::SHA256, image).as_ref().to_vec(),
            }],
        }),
        configuration_handling: Some(ConfigurationHandling::Merge),
        ..onboarding()
    })
}

fn device(world: &World, server: &Server, folder: &Path) -> Options {
    let mut options = trusting(world, server);
    options.state_folder = Some(folder.to_owned());
    options.scripts = Scripts::Run {
        time_max: std::time::Duration::from_secs(20),
    };
    options
}

fn configuration(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("configuration")).unwrap_or_default()
}

/// After every cut the device is one that can be started, and it ends where it would have ended.
/// What is not complete is never left active.
///
/// Requirements: SZTP-8572-5.6-08, SZTP-8572-5.6-19, SZTP-8572-5.2-01
#[tokio::test]
async fn a_power_cut_at_any_write_costs_nothing_but_time() {
    let world = World::new();
    let image = b"a boot image".repeat(1000);
    let server = Server::start(world.server(&["127.0.0.1"]), |_, _| {
        super::server::Reply::Status(404)
    })
    .await;
    let mut what = information(&server, &image);
    if let ConveyedInformation::Onboarding(information) = &mut what {
        information.pre_configuration_script = Some(b"echo pre".to_vec());
        information.post_configuration_script = Some(b"echo post".to_vec());
    }
    server.answers(giving(what));
    server.with(|shared| {
        let file = File {
            bytes: image.clone(),
            ..File::default()
        };
        shared.files.insert("/image.bin".to_owned(), file);
    });
    let factory = b"interface mgmt\n";
    let mut cuts = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("configuration"), factory).unwrap();
        server.with(|shared| shared.reports.clear());
        let mut options = device(&world, &server, folder.path());
        options.power_cut_at_write = Some(cuts);
        let outcome = bootstrap(options).await;
        let whole = outcome.is_bootstrapped();
        if !whole {
            assert!(
                matches!(outcome.verdict, Verdict::Unfinished { .. }),
                "{cuts}"
            );
            // The same once more, at another write of the way back.
            let mut options = device(&world, &server, folder.path());
            options.power_cut_at_write = Some(cuts % 5);
            bootstrap(options).await;
            let outcome = bootstrap(device(&world, &server, folder.path())).await;
            match outcome.verdict {
                Verdict::Bootstrapped(_) => {
                    assert_eq!(
                        server.reports().last(),
                        Some(&ProgressType::BootstrapComplete)
                    );
                }
                // The power went after the last write that counts.
                Verdict::Disabled => assert!(outcome.state.bootstrapped.is_some(), "{cuts}"),
                other => panic!("{cuts}: {other:?}"),
            }
        }
        assert_eq!(
            String::from_utf8_lossy(&configuration(folder.path())),
            String::from_utf8_lossy(FINAL),
            "{cuts}"
        );
        assert!(
            !folder.path().join("configuration.previous").exists(),
            "{cuts}"
        );
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.path().join("sztp.json")).unwrap())
                .unwrap();
        assert_eq!(state["agent"]["onboarding"], false);
        assert_eq!(state["agent"]["os"]["version"], "17.3");
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts}");
    server.stop().await;
}

/// What an onboarding that went well has left is what one that fails afterwards is taken back to,
/// wherever the power went between the two.
///
/// Requirements: SZTP-8572-5.6-08
#[tokio::test]
async fn a_later_failure_does_not_take_back_what_is_complete() {
    let world = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), |_, _| {
        super::server::Reply::Status(404)
    })
    .await;
    let configured = |configuration: &[u8], script: Option<&[u8]>| {
        ConveyedInformation::Onboarding(OnboardingInformation {
            configuration: Some(configuration.to_vec()),
            configuration_handling: Some(ConfigurationHandling::Replace),
            post_configuration_script: script.map(<[u8]>::to_vec),
            ..OnboardingInformation::default()
        })
    };
    let mut cuts = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("configuration"), b"factory\n").unwrap();
        server.answers(giving(configured(b"first\n", None)));
        let mut options = device(&world, &server, folder.path());
        options.power_cut_at_write = Some(cuts);
        let whole = bootstrap(options).await.is_bootstrapped();
        let state = std::fs::read_to_string(folder.path().join("sztp.json"));
        let complete = state.is_ok_and(|state| state.contains("\"reported\""));
        server.answers(giving(configured(b"second\n", Some(b"exit 1"))));
        let outcome = bootstrap(device(&world, &server, folder.path())).await;
        assert!(matches!(outcome.verdict, Verdict::Failed(_)), "{cuts}");
        let expect = if complete { "first\n" } else { "factory\n" };
        let found = configuration(folder.path());
        assert_eq!(String::from_utf8_lossy(&found), expect, "{cuts}");
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 5, "{cuts}");
    server.stop().await;
}

/// The state of one device is not another's, and not two processes' at once.
#[tokio::test]
async fn a_state_has_one_owner() {
    use pki::Coded as _;

    let world = World::new();
    let server = Server::start(world.server(&["127.0.0.1"]), |_, _| {
        super::server::Reply::Status(404)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    bootstrap(device(&world, &server, folder.path())).await;
    let other = World::new();
    let refused = device::sztp::run(device(&other, &server, folder.path()), &mut |_| {}).await;
    assert_eq!(refused.unwrap_err().code(), "pledge.state-of-another");
    let file = folder.path().join("sztp.json");
    for broken in ["", "{}", "null", r#"{"version":9,"device":"","agent":{}}"#] {
        std::fs::write(&file, broken).unwrap();
        let refused = device::sztp::run(device(&world, &server, folder.path()), &mut |_| {}).await;
        assert_eq!(
            refused.unwrap_err().code(),
            "pledge.state-malformed",
            "{broken}"
        );
    }
    server.stop().await;
}
