//! Owner certificates and the trust anchors of redirect information: degenerate SignedData with
//! chains and revocation lists.
#![no_main]
use artifacts::conveyed::TrustAnchor;
use artifacts::{Tolerances, owner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        if let Ok(artefact) = owner::decode_with(bytes, &tolerances) {
            assert!(!artefact.certificates().is_empty());
            let _ = (artefact.leaf(), artefact.owner_certificate().is_ok(), artefact.crls());
        }
        if let Ok(anchor) = TrustAnchor::decode(bytes, &tolerances) {
            assert!(anchor.issuer().is_some());
        }
    }
});
