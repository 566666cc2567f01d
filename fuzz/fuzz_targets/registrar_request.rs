//! What a registrar makes of a device's voucher request. Signatures are mostly taken on trust here
//! (`pki::fuzz_mock`), or nothing behind the first would ever run.
#![no_main]
#[path = "../world.rs"]
mod world;

use artifacts::Tolerances;
use brski::SerialRule;
use brski::registrar::{MasaUrlRule, Profiles, VendorProfile, identify, open_request};
use libfuzzer_sys::fuzz_target;
use pki::path::Anchors;
use world::{NOW, inbound, world};

fuzz_target!(|bytes: &[u8]| {
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        let profile = VendorProfile {
            name: "acme".to_owned(),
            anchors: world().manufacturer.clone().into(),
            intermediates: Vec::new(),
            masa_anchors: Anchors::new(),
            serial: SerialRule::default(),
            masa_url: MasaUrlRule::Extension,
            ignore_expiry: false,
            cose_name: brski::media::CoseName::Current,
            tolerances,
        };
        let profiles = Profiles::new(vec![profile.clone()]);
        let idevid = &world().device(bytes).idevid;
        let device = identify(std::slice::from_ref(idevid), &profiles, NOW).expect("a good IDevID");
        let age_max = Some(time::Duration::minutes(15));
        let own = std::slice::from_ref(&world().registrar);
        match open_request(inbound(bytes), &device, own, &profile, age_max, NOW) {
            Ok(request) => {
                assert!(request.nonce().is_some(), "a request without a nonce");
                assert_eq!(request.content.serial_number.as_str(), device.key.serial);
                assert!(!request.formats.is_empty());
            }
            Err(refusal) => {
                // A peer's input never yields a 500.
                assert!((400..500).contains(&refusal.http_status()), "{refusal}");
                assert!(refusal.body().starts_with(pki::Coded::code(&refusal)));
            }
        }
    }
});
