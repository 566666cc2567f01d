//! Device-type profiles: any text is read or refused, over every built-in profile that it may
//! extend; and whatever a profile turns on, what it makes of a reply is a reply.
#![no_main]
use artifacts::conveyed::{
    BootImage, BootstrapServer, ConfigurationHandling, ConveyedInformation, HashAlgorithm,
    ImageVerification, OnboardingInformation, RedirectInformation,
};
use artifacts::{Encoding, Tolerances};
use bootstrap::profile::{Profile, ProfileFile, Profiles, Severity};
use libfuzzer_sys::fuzz_target;
use sztp::Leniency;
use sztp::message::GetBootstrappingDataOutput;

fn samples() -> [ConveyedInformation; 2] {
    [
        ConveyedInformation::Redirect(RedirectInformation {
            bootstrap_servers: vec![BootstrapServer {
                address: "b.example.net".to_owned(),
                port: None,
                trust_anchor: None,
            }],
        }),
        ConveyedInformation::Onboarding(OnboardingInformation {
            boot_image: Some(BootImage {
                os_name: Some("os".to_owned()),
                os_version: Some("1".to_owned()),
                download_uris: vec!["https://a/1".to_owned(), "https://b/1".to_owned()],
                image_verifications: vec![ImageVerification {
                    algorithm: HashAlgorithm::Sha256,
                    value: vec![7; 32],
                }],
            }),
            configuration_handling: Some(ConfigurationHandling::Replace),
            configuration: Some(b"<c/>".to_vec()),
            ..OnboardingInformation::default()
        }),
    ]
}

fn check(profile: &Profile) {
    for finding in profile.findings() {
        assert!(!finding.detail.is_empty());
        if finding.severity == Severity::BreaksTheModel {
            let quirk = finding.quirk.expect("a quirk breaks it");
            assert!(profile.has(quirk) && quirk.breaks().is_some());
        }
    }
    let strict = profile.enabled().all(|quirk| quirk.breaks().is_none());
    for sample in samples() {
        let Ok(shaped) = profile.shape(sample) else { continue };
        for encoding in [Encoding::Json, Encoding::Xml] {
            // Only what breaks the model may make of it what the model does not know.
            let Ok(content) = shaped.encode(encoding) else {
                assert!(!strict);
                continue;
            };
            let content = profile.finish_content(content, encoding);
            let read = ConveyedInformation::decode(&content, encoding, &Tolerances::strict());
            assert!(read.is_ok() || !strict);
        }
    }
    let output = GetBootstrappingDataOutput {
        conveyed_information: vec![1; 200],
        owner_certificate: Some(vec![2; 200]),
        ownership_voucher: Some(vec![3; 10]),
        ..GetBootstrappingDataOutput::default()
    };
    for encoding in [Encoding::Json, Encoding::Xml] {
        let body = profile.render(&output, encoding);
        let leniency = if strict { Leniency::strict() } else { Leniency::lenient() };
        let (read, _) = GetBootstrappingDataOutput::decode(&body, encoding, &leniency)
            .expect("our own reply");
        assert_eq!(read.conveyed_information, output.conveyed_information);
    }
}

fuzz_target!(|text: &str| {
    let Ok(file) = ProfileFile::parse(text, "fuzz") else { return };
    if let Ok(profile) = file.resolve(None, "fuzz") {
        check(&profile);
    }
    for parent in Profiles::default().iter() {
        if let Ok(profile) = file.resolve(Some(parent.as_ref()), "fuzz") {
            check(&profile);
        }
    }
});
