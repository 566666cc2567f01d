//! What a pledge makes of a voucher. Signatures are mostly taken on trust here (`pki::fuzz_mock`), or
//! nothing behind the first would ever run.
#![no_main]
#[path = "../world.rs"]
mod world;

use std::sync::{Arc, OnceLock};

use artifacts::{Assertion, Envelope, Tolerances};
use brski::SerialRule;
use brski::pledge::{Clock, Config, Expected, Procedure, ProximityForm, judge_voucher};
use libfuzzer_sys::fuzz_target;
use pki::{Identity, KeyKind, SoftwareKey};
use world::{NOW, envelope, world};

/// Judging signs nothing, so any key will do.
fn key() -> Arc<SoftwareKey> {
    static KEY: OnceLock<Arc<SoftwareKey>> = OnceLock::new();
    Arc::clone(KEY.get_or_init(|| Arc::new(SoftwareKey::generate(KeyKind::EcdsaP256).expect("a key"))))
}

fuzz_target!(|bytes: &[u8]| {
    let device = world().device(bytes);
    let chain = [world().registrar.clone(), world().domain.clone()];
    for (tolerances, clock) in
        [(Tolerances::strict(), Clock::Trusted), (Tolerances::lenient(), Clock::Untrusted)]
    {
        let config = Config {
            registrars: Vec::new(),
            idevid: Identity { chain: vec![device.idevid.clone()], signer: key() },
            serial: SerialRule::default(),
            masa_anchors: [world().manufacturer.clone(), world().voucher_signer.clone()].into_iter().collect(),
            envelope: envelope(bytes),
            proximity: match envelope(bytes) {
                Envelope::Cose => ProximityForm::PublicKeySha256,
                _ => ProximityForm::Certificate,
            },
            procedure: Procedure::Full,
            clock,
            nonceless: true,
            assertions: vec![Assertion::Verified, Assertion::Proximity, Assertion::Logged],
            tolerances,
            est_label: None,
            attempts_max: None,
            replay: None,
        };
        let expected = Expected {
            request: device.request,
            registrar_chain: &chain,
            envelope: envelope(bytes),
        };
        match judge_voucher(&config, bytes, expected, NOW) {
            Ok(voucher) => assert!(voucher.pins().next().is_some(), "a voucher that pins nothing"),
            Err(failure) => assert!(!failure.reason().is_empty()),
        }
    }
});
