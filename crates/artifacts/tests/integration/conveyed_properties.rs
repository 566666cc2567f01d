//! No reader of conveyed information panics, whatever it is given, and what is written is read
//! back in both encodings.

use std::sync::OnceLock;

use artifacts::conveyed::{
    self, BootImage, BootstrapServer, ConfigurationHandling, ConveyedInformation, HashAlgorithm,
    ImageVerification, OnboardingInformation, RedirectInformation,
};
use artifacts::{Encoding, Tolerances, owner};
use proptest::prelude::*;

use crate::conveyed::onboarding;
use crate::sztp::Sztp;

/// Text that a YANG string can hold.
fn text() -> impl Strategy<Value = String> {
    "[\\x20-\\x7e\\t\\r\\n\u{85}\u{a0}-\u{d7ff}\u{10000}-\u{10ffff}]{0,40}"
}

fn octets() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
}

fn image() -> impl Strategy<Value = BootImage> {
    let uris = prop::collection::hash_set("[a-z]{1,5}:[a-zA-Z0-9/?&=%._~:@-]{1,40}", 0..4);
    let hash = prop::option::of(prop::array::uniform32(any::<u8>()));
    let name = || prop::option::of(text());
    (name(), name(), uris, hash).prop_map(|(os_name, os_version, uris, hash)| {
        let download_uris: Vec<_> = uris.into_iter().collect();
        let hash = hash.filter(|_| !download_uris.is_empty());
        let verification = |hash: [u8; 32]| ImageVerification {
            algorithm: HashAlgorithm::Sha256,
            value: hash.to_vec(),
        };
        BootImage {
            os_name,
            os_version,
            download_uris,
            image_verifications: hash.map(verification).into_iter().collect(),
        }
    })
}

fn information() -> impl Strategy<Value = ConveyedInformation> {
    let server = (
        "[a-z][a-z0-9]{0,20}(\\.[a-z0-9]{1,10}){0,3}",
        any::<Option<u16>>(),
    );
    let redirect = prop::collection::vec(server, 1..6).prop_filter_map("twice", |servers| {
        let bootstrap_servers: Vec<_> = servers
            .into_iter()
            .map(|(address, port)| BootstrapServer {
                address,
                port,
                trust_anchor: None,
            })
            .collect();
        let mut names: Vec<_> = bootstrap_servers.iter().map(|one| &one.address).collect();
        names.sort_unstable();
        names.dedup();
        (names.len() == bootstrap_servers.len()).then_some(ConveyedInformation::Redirect(
            RedirectInformation { bootstrap_servers },
        ))
    });
    let configuration =
        prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..99)));
    let onboarding = (prop::option::of(image()), octets(), configuration, octets()).prop_map(
        |(boot_image, pre_configuration_script, configuration, post_configuration_script)| {
            let boot_image = boot_image.filter(|image| *image != BootImage::default());
            let (merge, configuration) = configuration.unzip();
            ConveyedInformation::Onboarding(OnboardingInformation {
                boot_image,
                pre_configuration_script,
                configuration_handling: merge.map(|merge| {
                    if merge {
                        ConfigurationHandling::Merge
                    } else {
                        ConfigurationHandling::Replace
                    }
                }),
                configuration,
                post_configuration_script,
            })
        },
    );
    let empty = ConveyedInformation::Onboarding(OnboardingInformation::default());
    prop_oneof![redirect, onboarding].prop_filter("nothing to say", move |one| *one != empty)
}

fn read_all(bytes: &[u8]) {
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        for encoding in Encoding::ALL {
            let _ = ConveyedInformation::decode(bytes, encoding, &tolerances);
        }
        let _ = conveyed::parse(bytes, &tolerances);
        let _ = owner::decode_with(bytes, &tolerances);
        let _ = conveyed::TrustAnchor::decode(bytes, &tolerances);
        let _ = artifacts::Voucher::from_content(bytes, &tolerances);
    }
}

fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let world = Sztp::new();
        let data = world.data();
        let mut samples = vec![
            world.signed(&onboarding(), Encoding::Xml),
            data.conveyed_information,
            data.owner_certificate.unwrap(),
            data.ownership_voucher.unwrap(),
        ];
        for encoding in Encoding::ALL {
            let content = onboarding().encode(encoding).unwrap();
            samples.push(conveyed::unsigned(&content, encoding));
            samples.push(content);
        }
        samples
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Requirements: SZTP-8572-3.1-02, SZTP-8572-6.3-15
    #[test]
    fn what_is_written_is_read(information in information()) {
        let strict = Tolerances::strict();
        for encoding in Encoding::ALL {
            let text = information.encode(encoding).unwrap();
            let back = ConveyedInformation::decode(&text, encoding, &strict);
            prop_assert_eq!(back.unwrap(), information.clone());
        }
    }

    #[test]
    fn arbitrary_octets(bytes in prop::collection::vec(any::<u8>(), 0..1024)) {
        read_all(&bytes);
    }

    #[test]
    fn xml_like_text(text in "(<[a-z:/!?\\[\\]\" =&;-]{0,12}>?|[a-z&;#x0-9<>\\[\\]]{0,8}){0,40}") {
        read_all(text.as_bytes());
    }

    #[test]
    fn damaged_artefacts(
        sample in 0_usize..8,
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = samples()[sample].clone();
        for (at, value) in damages {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_all(&bytes);
    }
}
