//! Whom to trust, and the path to there.

use pki::path::{self, Anchors, PathOptions, Purpose};
use pki::{Certificate, Crl, VerifiedSigner};
use time::OffsetDateTime;

use crate::error::Error;
use crate::tolerances::Tolerances;

/// How many signatures are tried on the way to a temporary anchor. A chain has a handful of
/// certificates; many certificates with one name would otherwise make anybody's request cost
/// the square of their number.
const ANCHOR_SIGNATURES_MAX: usize = 64;

/// Explicit anchors, material for paths, and the time.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The only source of trust.
    pub anchors: &'a Anchors,
    /// Certificates to build paths with; they add no trust.
    pub intermediates: &'a [Certificate],
    /// Revocation lists.
    pub crls: &'a [Crl],
    /// The time; `None` when there is no clock, and then no validity period is judged.
    pub now: Option<OffsetDateTime>,
}

impl<'a> Trust<'a> {
    /// Anchors and a time, nothing else.
    #[must_use]
    pub fn new(anchors: &'a Anchors, now: Option<OffsetDateTime>) -> Self {
        Self {
            anchors,
            intermediates: &[],
            crls: &[],
            now,
        }
    }

    /// The path of a verified signer, its own certificate first, the anchor last.
    pub(super) fn path(
        &self,
        signer: &VerifiedSigner,
        purpose: Purpose,
        tolerances: &Tolerances,
    ) -> Result<Vec<Certificate>, Error> {
        let mut others = signer.candidates().to_vec();
        others.extend_from_slice(self.intermediates);
        let options = PathOptions {
            at: self.now,
            purpose,
            crls: self.crls.to_vec(),
            tolerate_legacy_algorithms: tolerances.sha1,
            ..PathOptions::default()
        };
        let path = path::validate(signer.certificate(), &others, self.anchors, &options)?;
        Ok(path.certificates().to_vec())
    }

    /// Where a signer's certificate may be found that did not come along.
    pub(super) fn known_certificates(&self) -> Vec<Certificate> {
        self.anchors
            .iter()
            .chain(self.intermediates)
            .cloned()
            .collect()
    }
}

/// The certificate farthest from `leaf` that its chain of signatures leads to within
/// `candidates`: the temporary anchor of
/// [RFC 8995 §5.5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5.2) for a domain
/// that the MASA does not know. It may be `leaf` itself. The work is bounded; where that ends the
/// search, the certificate that it came to stands.
#[must_use]
pub fn temporary_anchor(leaf: &Certificate, candidates: &[Certificate]) -> Certificate {
    let mut left = ANCHOR_SIGNATURES_MAX;
    farthest(leaf, candidates, |top, candidate| {
        let Some(rest) = left.checked_sub(1) else {
            return false;
        };
        left = rest;
        top.verify_signature_by(candidate.public_key()).is_ok()
    })
}

/// The same by names alone: right unless two certificates share a name, and cheaper, since the
/// path that is then validated checks each signature anyway.
pub(super) fn temporary_anchor_by_name(
    leaf: &Certificate,
    candidates: &[Certificate],
) -> Certificate {
    farthest(leaf, candidates, |_, _| true)
}

fn farthest(
    leaf: &Certificate,
    candidates: &[Certificate],
    mut signed_by: impl FnMut(&Certificate, &Certificate) -> bool,
) -> Certificate {
    let mut top = leaf.clone();
    // Each candidate can be used once, so it ends, whatever the names are.
    let mut left: Vec<_> = candidates
        .iter()
        .filter(|c| c.der() != leaf.der())
        .collect();
    while let Some(index) = left.iter().position(|candidate| {
        candidate.subject_der() == top.issuer_der()
            && candidate.is_ca()
            && signed_by(&top, candidate)
    }) {
        top = left.swap_remove(index).clone();
    }
    top
}

#[cfg(test)]
mod tests {
    use pki::issue::{CertificateBuilder, Profile, name};
    use pki::{KeyKind, Signer as _, SoftwareKey};
    use time::macros::datetime;

    use super::*;

    /// CA certificates that have two names among them, each signed by the one before it.
    fn namesakes(count: u8) -> Vec<Certificate> {
        let mut chain: Vec<Certificate> = Vec::new();
        let mut above: Option<SoftwareKey> = None;
        for number in 1..=count {
            let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
            let profile = if above.is_some() {
                Profile::SubCa { path_length: None }
            } else {
                Profile::RootCa
            };
            let builder = CertificateBuilder::new(
                profile,
                name(if number % 2 == 0 { "CN=A" } else { "CN=B" }).unwrap(),
                key.public_key().clone(),
                [number; 16],
                datetime!(2026-01-01 00:00 UTC),
                datetime!(2036-01-01 00:00 UTC),
            );
            let certificate = match (&above, chain.last()) {
                (Some(signer), Some(issuer)) => builder.issue(issuer, signer).unwrap(),
                _ => builder.self_sign(&key).unwrap(),
            };
            chain.push(certificate);
            above = Some(key);
        }
        chain
    }

    #[test]
    fn namesakes_do_not_cost_the_square_of_their_number() {
        let chain = namesakes(32);
        let (leaf, candidates) = chain.split_last().unwrap();
        // All the way up it would be some hundred signatures.
        assert_ne!(temporary_anchor(leaf, candidates), chain[0]);
        // What a domain really has is followed to its end.
        let (leaf, candidates) = chain[..8].split_last().unwrap();
        assert_eq!(temporary_anchor(leaf, candidates), chain[0]);
    }
}
