//! Whom to trust, and the path to there.

use pki::path::{self, Anchors, PathOptions, Purpose};
use pki::{Certificate, Crl, VerifiedSigner};
use time::OffsetDateTime;

use crate::error::Error;
use crate::tolerances::Tolerances;

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
/// that the MASA does not know. It may be `leaf` itself.
#[must_use]
pub fn temporary_anchor(leaf: &Certificate, candidates: &[Certificate]) -> Certificate {
    farthest(leaf, candidates, |top, candidate| {
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
    signed_by: impl Fn(&Certificate, &Certificate) -> bool,
) -> Certificate {
    let mut top = leaf.clone();
    // Each candidate can be used once, so the number of signatures checked is bounded by the
    // square of the set's limit, in practice by its length.
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
