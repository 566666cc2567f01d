//! Any single changed octet of a signed artefact is found, or changes nothing that is said.

use artifacts::verify::{
    RegistrarRequestContext, VoucherContext, verify_registrar_request, verify_voucher,
};
use artifacts::{Document, Envelope, Tolerances, open};

use crate::common::{AT_8995, World};

/// Calls `judge` with every octet of `bytes` changed by each of `flips`, removed, and doubled.
/// It gives what an artefact says when it verifies; that must be `said`.
fn each_flip(bytes: &[u8], said: &[u8], flips: &[u8], judge: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    assert_eq!(judge(bytes).as_deref(), Some(said), "unchanged");
    for index in 0..bytes.len() {
        for flip in flips.iter().copied() {
            let mut changed = bytes.to_vec();
            changed[index] ^= flip;
            if let Some(found) = judge(&changed) {
                assert_eq!(found, said, "octet {index} flipped by {flip:#x}");
            }
        }
        let mut shorter = bytes.to_vec();
        shorter.remove(index);
        let mut longer = bytes.to_vec();
        longer.insert(index, bytes[index]);
        for changed in [shorter, longer] {
            if let Some(found) = judge(&changed) {
                assert_eq!(found, said, "octet {index} removed or doubled");
            }
        }
    }
    for end in 0..bytes.len() {
        assert_eq!(judge(&bytes[..end]), None, "cut at {end}");
    }
}

fn judge_voucher(world: &World, bytes: &[u8], tolerances: &Tolerances) -> Option<Vec<u8>> {
    let signed = open(Document::Voucher, bytes, None, tolerances).ok()?;
    let context = VoucherContext::new(world.vendor_trust());
    let judged = verify_voucher(&signed, &context, tolerances);
    judged
        .into_result()
        .ok()
        .map(|verified| verified.voucher.to_json())
}

fn judge_request(world: &World, bytes: &[u8], tolerances: &Tolerances) -> Option<Vec<u8>> {
    let signed = open(Document::Request, bytes, None, tolerances).ok()?;
    let context = RegistrarRequestContext {
        domain: Some(world.owner_trust()),
        ..RegistrarRequestContext::new(Some(AT_8995)).with_pledge(world.vendor_trust())
    };
    let judged = verify_registrar_request(&signed, &context, tolerances);
    judged
        .into_result()
        .ok()
        .map(|verified| verified.request.to_json())
}

/// Requirements: CMS-5.6-01, BRSKI-5.5.3-01, BRSKI-5.2-13, JWS-3.3-01
#[test]
fn no_flipped_octet_of_a_voucher_verifies_to_something_else() {
    let world = World::new();
    for envelope in Envelope::ALL {
        let bytes = world.voucher(envelope, world.voucher_fields());
        let said = judge_voucher(&world, &bytes, &Tolerances::strict()).unwrap();
        each_flip(&bytes, &said, &[0x01, 0x20, 0x80], |bytes| {
            judge_voucher(&world, bytes, &Tolerances::strict())
        });
    }
}

#[test]
fn nor_does_one_when_everything_is_tolerated() {
    let world = World::new();
    for envelope in Envelope::ALL {
        let bytes = world.voucher(envelope, world.voucher_fields());
        let said = judge_voucher(&world, &bytes, &Tolerances::strict()).unwrap();
        each_flip(&bytes, &said, &[0x01, 0x20, 0x80], |bytes| {
            judge_voucher(&world, bytes, &Tolerances::lenient())
        });
    }
}

#[test]
fn nor_does_one_of_a_registrars_request() {
    let world = World::new();
    for (inner, outer) in [
        (Envelope::Jws, Envelope::Cms),
        (Envelope::Cose, Envelope::Cose),
    ] {
        let pledge = world.pledge_request(inner, world.pledge_fields());
        let bytes = world.registrar_request(outer, world.registrar_fields(pledge));
        let said = judge_request(&world, &bytes, &Tolerances::strict()).unwrap();
        each_flip(&bytes, &said, &[0x01, 0x20, 0x80], |bytes| {
            judge_request(&world, bytes, &Tolerances::strict())
        });
    }
}
