//! SHA-256, for fingerprints of requests.

use aws_lc_rs::digest::{SHA256, digest};

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The digest of several fields: each is preceded by its length, so that no two lists of fields
/// give the same octets.
pub(crate) fn sha256_fields(fields: &[&[u8]]) -> [u8; 32] {
    let mut all = Vec::new();
    for field in fields {
        all.extend_from_slice(&(field.len() as u64).to_be_bytes());
        all.extend_from_slice(field);
    }
    sha256(&all)
}
