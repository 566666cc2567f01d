//! COSE artefacts, judged as a voucher, a pledge's request and a registrar's by the certificates of
//! draft-ietf-anima-constrained-voucher-31. Signatures are mostly taken on trust here
//! (`pki::fuzz_mock`), or nothing behind the first would ever run.
#![no_main]
use std::sync::OnceLock;

use artifacts::verify::{
    PledgeRequestContext, ProximityTarget, RegistrarRequestContext, Trust, VoucherContext,
    verify_pledge_request, verify_registrar_request, verify_voucher,
};
use artifacts::{Document, Envelope, Tolerances, open};
use libfuzzer_sys::fuzz_target;
use pki::Certificate;
use pki::path::Anchors;
use time::OffsetDateTime;
use time::macros::datetime;

/// When the certificates are valid.
const AT: OffsetDateTime = datetime!(2023-06-01 00:00 UTC);

struct World {
    manufacturer: Anchors,
    pledge: Certificate,
    registrar: [Certificate; 2],
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    let read = |der: &[u8]| Certificate::from_der(der).expect("a certificate of the draft");
    macro_rules! data {
        ($name:literal) => {
            include_bytes!(concat!("../../crates/artifacts/tests/data/cbrski-31/", $name))
        };
    }
    WORLD.get_or_init(|| World {
        manufacturer: read(data!("masa_ca.der")).into(),
        pledge: read(data!("pledge.der")),
        registrar: [read(data!("registrar.der")), read(data!("domain_ca.der"))],
    })
}

fuzz_target!(|bytes: &[u8]| {
    let world = world();
    let trust = Trust::new(&world.manufacturer, Some(AT));
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        let Ok(signed) = open(Document::Voucher, bytes, Some(Envelope::Cose), &tolerances) else {
            continue;
        };
        let peek = signed.dangerous_peek();
        if let Some(cose) = peek.cose() {
            let bare = cose.without_certificates().expect("what was read");
            let bare = open(Document::Voucher, &bare, None, &tolerances).expect("what was written");
            assert_eq!(bare.dangerous_peek().payload(), peek.payload());
        }
        let context = VoucherContext {
            registrar_chain: Some(&world.registrar),
            ..VoucherContext::new(trust)
        };
        let judged = verify_voucher(&signed, &context, &tolerances);
        if let Ok(verified) = judged.result() {
            assert!(verified.voucher.pins().next().is_some(), "a voucher that pins nothing");
        }
        for peer in [Some(&world.pledge), None] {
            let context = PledgeRequestContext {
                peer,
                proximity: ProximityTarget::ServerCertificate(&world.registrar[..1]),
                ..PledgeRequestContext::new(trust)
            };
            let judged = verify_pledge_request(&signed, &context, &tolerances);
            if let (Ok(verified), Some(peer)) = (judged.result(), peer) {
                assert_eq!(verified.signer_path.first(), Some(peer));
            }
        }
        for idevid in [Some(&world.pledge), None] {
            let context = RegistrarRequestContext {
                idevid,
                ..RegistrarRequestContext::new(Some(AT)).with_pledge(trust)
            };
            let _ = verify_registrar_request(&signed, &context, &tolerances);
        }
    }
});
