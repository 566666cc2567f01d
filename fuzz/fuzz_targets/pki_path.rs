//! `pki::path::validate`: whatever extensions a CA, a leaf and a CRL carry, under signatures that do
//! verify, the answer comes in bounded time, is the same in any order, and the default never refuses what
//! the strict profile accepts.
#![no_main]
#[allow(dead_code)]
#[path = "../../crates/pki/tests/pkits/forge.rs"]
mod forge;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forge::{Authority, CrlSpec, Spec};
use libfuzzer_sys::fuzz_target;
use pki::path::{Anchors, PathOptions, Purpose, Revocation, validate};
use pki::{Certificate, ObjectIdentifier};

/// Extensions of id-ce that path validation reads.
const KNOWN: [u8; 16] = [14, 15, 17, 18, 19, 20, 27, 28, 30, 31, 32, 33, 35, 36, 37, 54];

fn root() -> &'static Authority {
    static ROOT: OnceLock<Authority> = OnceLock::new();
    ROOT.get_or_init(|| Spec::ca("Root").root())
}

/// Takes one extension off the front: a byte for its kind and criticality, one for its length.
fn extension<'b>(bytes: &mut &'b [u8]) -> Option<(String, bool, &'b [u8])> {
    let (&[kind, length], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(length))?;
    *bytes = rest;
    let id = KNOWN[usize::from(kind & 0x0f)];
    Some((format!("2.5.29.{id}"), kind & 0x10 != 0, value))
}

fn fuzzed(mut spec: Spec, bytes: &mut &[u8], count: u8) -> Spec {
    spec.key = Some(Arc::clone(&root().key));
    for _ in 0..count & 0x03 {
        let Some((id, critical, value)) = extension(bytes) else { break };
        spec.subject_key_id &= id != "2.5.29.14";
        spec.authority_key_id &= id != "2.5.29.35";
        spec = spec.extension(&id, critical, value.to_vec());
    }
    spec
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&count, mut rest)) = bytes.split_first() else { return };
    let (ca, key) = fuzzed(Spec::ca("CA"), &mut rest, count).encode(Some(root()));
    let Ok(certificate) = Certificate::from_der(&ca) else { return };
    let ca = Authority { certificate, key };
    let (leaf, _) = fuzzed(Spec::leaf("Leaf/serial=1"), &mut rest, count >> 2).encode(Some(&ca));
    let Ok(leaf) = Certificate::from_der(&leaf) else { return };
    let mut crl = CrlSpec::new().revoke(&leaf);
    for _ in 0..count >> 4 & 0x01 {
        if let Some((id, critical, value)) = extension(&mut rest) {
            crl = crl.extension(&id, critical, value);
        }
    }
    // Within the validity of all that the forge makes.
    let at = root().certificate.not_before() + Duration::from_secs(500 * 24 * 3_600);
    let mut options = PathOptions::new(if count & 0x20 != 0 { Purpose::Server } else { Purpose::Any }, at);
    if count & 0x40 != 0 {
        options.crls = vec![crl.sign(&ca)];
        options.revocation = Revocation::Required;
    }
    if count & 0x80 != 0 {
        options.policies.initial = vec![ObjectIdentifier::new_unwrap("1.2.3")];
        options.policies.require_explicit = true;
    }
    let anchors = Anchors::from(root().certificate.clone());
    let others = [ca.certificate.clone(), root().certificate.clone(), leaf.clone()];
    let answer = validate(&leaf, &others, &anchors, &options).map(|path| path.certificates().len());
    let turned: Vec<Certificate> = others.iter().rev().cloned().collect();
    let again = validate(&leaf, &turned, &anchors, &options).map(|path| path.certificates().len());
    assert_eq!(answer, again, "the order of the others matters");
    options.strict_profile = true;
    if validate(&leaf, &others, &anchors, &options).is_ok() {
        assert!(answer.is_ok(), "the strict profile accepts more");
    }
});
