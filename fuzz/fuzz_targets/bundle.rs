//! Bootstrapping data as a device judges it: three artefacts, each with its length in front.
//! Signatures are mostly taken on trust here (`pki::fuzz_mock`).
#![no_main]
use std::sync::OnceLock;

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::conveyed::ConveyedInformation;
use artifacts::verify::ExpectedNonce;
use artifacts::{Assertion, Nonce, SerialNumber, Tolerances};
use libfuzzer_sys::fuzz_target;
use pki::path::Anchors;
use pki::{Certificate, SoftwareKey};
use time::macros::datetime;

struct World {
    anchors: Anchors,
    device: Certificate,
    key: SoftwareKey,
    serial: SerialNumber,
    nonce: Nonce,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    let read = |der: &[u8]| Certificate::from_der(der).expect("a certificate of the world");
    WORLD.get_or_init(|| World {
        anchors: read(include_bytes!("../world/sztp-manufacturer.der")).into(),
        device: read(include_bytes!("../world/sztp-device.der")),
        key: SoftwareKey::from_pkcs8_der(include_bytes!("../world/sztp-device.p8"))
            .expect("the device's key"),
        serial: SerialNumber::new("JADA123456789").expect("a serial number"),
        nonce: Nonce::from_octets(&[7; 16]).expect("a nonce"),
    })
}

fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, after)) = rest.split_first_chunk::<2>() else {
        return std::mem::take(rest);
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
    let (part, after) = after.split_at(length);
    *rest = after;
    part
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let conveyed_information = part(&mut rest).to_vec();
    let mut optional = || Some(part(&mut rest).to_vec()).filter(|part| !part.is_empty());
    let data = BootstrappingData {
        conveyed_information,
        owner_certificate: optional(),
        ownership_voucher: optional(),
    };
    let world = world();
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        let context = DeviceContext {
            serial: Some(&world.serial),
            idevid: Some(&world.device),
            nonce: ExpectedNonce::ExactlyOrNonceless(&world.nonce),
            at: Some(datetime!(2026-06-01 12:00:00 UTC)),
            accepted_assertions: Some(&[Assertion::Verified, Assertion::Logged]),
            decryption_key: Some(&world.key),
            ..DeviceContext::new(&world.anchors, &tolerances)
        };
        let judgement = judge(&data, false, &context);
        assert!(judgement.checks.len() > 15, "a check is missing");
        match &judgement.result {
            Ok(information) => {
                assert_eq!(judgement.trusted, judgement.signed == Some(true));
                assert_eq!(judgement.owner_path.is_empty(), !judgement.trusted);
                match information {
                    ConveyedInformation::Onboarding(_) => assert!(judgement.trusted),
                    ConveyedInformation::Redirect(redirect) => {
                        let mut servers = redirect.bootstrap_servers.iter();
                        let anchored = servers.any(|server| server.trust_anchor.is_some());
                        assert!(judgement.trusted || !anchored);
                    }
                }
            }
            Err(_) => assert!(!judgement.trusted),
        }
    }
});
