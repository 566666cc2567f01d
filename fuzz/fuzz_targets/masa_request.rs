//! What a MASA makes of a registrar's request: opened, and decided with fixed facts. Signatures are
//! mostly taken on trust here (`pki::fuzz_mock`), or nothing behind the first would ever run.
#![no_main]
#[path = "../world.rs"]
mod world;

use artifacts::{Tolerances, Voucher};
use brski::masa::{
    Decision, DeviceRecord, Devices, Facts, Holder, IssuedVoucher, OwnerRecord, Policy, Revocation, decide,
    open_audit_request, open_request,
};
use brski::{DomainKey, SerialRule};
use libfuzzer_sys::fuzz_target;
use world::{NOW, inbound, world};

fn facts(number: u8, fingerprint: [u8; 32]) -> Facts {
    let domain = &world().domain;
    let holder = |key| Holder { domain: DomainKey::of(key), owner: None };
    let device = match number & 3 {
        0 => None,
        1 => Some(DeviceRecord::default()),
        2 => Some(DeviceRecord { holder: Some(holder(domain)), sold_to: Some("o".into()), ..DeviceRecord::default() }),
        _ => Some(DeviceRecord { holder: Some(holder(&world().manufacturer)), ..DeviceRecord::default() }),
    };
    let owner = OwnerRecord {
        id: "o".into(),
        certificates: vec![domain.clone()],
        nonceless: true,
        blocked: false,
        pin: None,
    };
    let issued = IssuedVoucher { fingerprint, issued_at: NOW, expires_on: None };
    Facts {
        device,
        owner: (number & 4 != 0).then_some(owner),
        issued: (number & 8 != 0).then_some(issued),
        nonce_spent: number & 16 != 0,
        revocation: Revocation::NotChecked,
        authenticated: number & 4 != 0,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let devices = Devices {
        anchors: world().manufacturer.clone().into(),
        intermediates: Vec::new(),
        serial: SerialRule::default(),
    };
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        let policy = Policy { tolerances, ..Policy::default() };
        let opened = open_request(inbound(bytes), &devices, &policy, NOW);
        let request = match opened {
            Ok(request) => request,
            Err(refusal) => {
                // A peer's input never yields a 500.
                assert!((400..500).contains(&refusal.http_status()), "{refusal}");
                assert!(refusal.body().starts_with(pki::Coded::code(&refusal)));
                continue;
            }
        };
        // What may have a voucher may have the log too: there only the age does not count.
        assert!(open_audit_request(inbound(bytes), &devices, &policy, NOW).is_ok());
        for number in 0..16 {
            match decide(&request, &facts(number, request.fingerprint()), &policy, NOW) {
                Decision::Grant(grant) => {
                    assert_ne!(number & 3, 0, "a voucher for a device that nobody knows");
                    assert_ne!(number & 3, 3, "a voucher for a device that another domain holds");
                    let written = grant.voucher.to_json();
                    Voucher::from_json(&written, &Tolerances::strict()).expect("our own voucher");
                }
                Decision::Again => assert_ne!(number & 8, 0, "nothing was issued"),
                Decision::Refuse { refusal, .. } => {
                    assert!((400..500).contains(&refusal.http_status()), "{refusal}");
                }
            }
        }
    }
});
