//! Finding a path: depth first from the certificate upwards, the most promising issuer first, each
//! complete path judged by RFC 5280 §6.1 from the anchor downwards.
//!
//! The certificates come from a peer, so the search is bounded by [`super::PathLimits`]: how long a
//! path may be, and how many signatures are verified in all. No path holds a certificate twice, or
//! two certificates of one name and key (RFC 4158 §2.4.2).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use super::constraints::{self, Constraints, show_oid};
use super::policy::Policies;
use super::revocation::CrlView;
use super::view::{View, usage};
use super::{PathError, PathOptions, Reason, Revocation, purpose};
use crate::{Error, PublicKey};

/// A refusal without the certificate that it is about.
pub(super) type Fault = (Reason, String);

/// What a path is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Goal {
    /// To believe the certificate that the caller asked about.
    Target,
    /// To believe the signer of a CRL, under the anchor of the path that the CRL is for.
    CrlSigner { anchor: usize, depth: usize },
}

/// A path that holds: indices into the pool, leaf first, and the anchor's.
pub(super) struct Found {
    pub(super) below: Vec<usize>,
    pub(super) anchor: usize,
    pub(super) policies: BTreeSet<Vec<u8>>,
}

/// Everything that one validation works with.
pub(super) struct Search<'s, 'a> {
    pub(super) options: &'s PathOptions,
    /// The certificate in question first, then the others.
    pub(super) pool: &'s [View<'a>],
    pub(super) anchors: &'s [View<'a>],
    pub(super) crls: &'s [CrlView<'a>],
    pub(super) signatures_left: Cell<usize>,
    pub(super) name_comparisons_left: Cell<usize>,
    pub(super) steps_left: Cell<usize>,
    /// Results of signature verifications by certificate and issuer.
    pub(super) edges: RefCell<HashMap<(usize, Issuer), Result<(), Fault>>>,
    /// Results of finding the signer of a CRL, by CRL and anchor.
    pub(super) crl_signers: RefCell<HashMap<(usize, usize), Result<(), Fault>>>,
    /// Results of verifying CRLs, by CRL and the place of the signer's key in memory.
    pub(super) crl_signatures: RefCell<HashMap<(usize, usize), Result<(), Fault>>>,
    /// Signers of CRLs that are being validated, so that CRLs which depend on each other end.
    pub(super) signers_in_progress: RefCell<Vec<usize>>,
}

/// A node that a path can continue with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Issuer {
    Anchor(usize),
    Pool(usize),
}

/// The refusal that tells most. One at a complete path beats a signature that does not verify, and
/// that beats not having found an issuer; among equals the first, because the search goes by promise.
#[derive(Default)]
struct Best(Option<(u8, PathError)>);

impl Best {
    fn offer(&mut self, rank: u8, error: PathError) {
        if self.0.as_ref().is_none_or(|(best, _)| rank > *best) {
            self.0 = Some((rank, error));
        }
    }
}

/// Ranks for [`Best`].
const NO_ISSUER: u8 = 1;
const BAD_LINK: u8 = 2;
const BAD_PATH: u8 = 3;
const GIVEN_UP: u8 = 4;

impl<'s, 'a> Search<'s, 'a> {
    /// Searches a path for the certificate at `start` of the pool.
    pub(super) fn run(&self, start: usize, goal: Goal) -> Result<Found, PathError> {
        let Some(leaf) = self.pool.get(start) else {
            return Err(self.fault_at(None, (Reason::UnknownIssuer, "no certificate".into())));
        };
        let pinned = self
            .anchors
            .iter()
            .position(|anchor| anchor.certificate == leaf.certificate);
        if let Some(anchor) = pinned.filter(|&anchor| allows(goal, anchor)) {
            // The certificate itself is trusted: nothing stands above it.
            return self.judge(&[], anchor, goal);
        }
        let mut best = Best::default();
        let mut below = vec![start];
        if let Some(found) = self.extend(&mut below, goal, &mut best) {
            return Ok(found);
        }
        Err(best.0.map_or_else(
            || {
                self.fault_at(
                    Some(leaf),
                    (Reason::UnknownIssuer, "no issuer is known".into()),
                )
            },
            |(_, error)| error,
        ))
    }

    fn extend(&self, below: &mut Vec<usize>, goal: Goal, best: &mut Best) -> Option<Found> {
        let &child_index = below.last()?;
        let child = self.pool.get(child_index)?;
        let Some(steps) = self.steps_left.get().checked_sub(1) else {
            let detail = "too many paths would have to be tried".into();
            best.offer(
                GIVEN_UP,
                self.fault_at(Some(child), (Reason::TooComplex, detail)),
            );
            return None;
        };
        self.steps_left.set(steps);
        let candidates = self.issuers(child, below, goal);
        if candidates.is_empty() {
            let detail = format!(
                "no certificate of its issuer {:?} is known",
                child.certificate.issuer()
            );
            best.offer(
                NO_ISSUER,
                self.fault_at(Some(child), (Reason::UnknownIssuer, detail)),
            );
        }
        for candidate in candidates {
            if let Err(fault) = self.signed_by(child_index, candidate) {
                let rank = if fault.0 == Reason::TooComplex {
                    GIVEN_UP
                } else {
                    BAD_LINK
                };
                best.offer(rank, self.fault_at(Some(child), fault));
                if rank == GIVEN_UP {
                    return None;
                }
                continue;
            }
            match candidate {
                Issuer::Anchor(anchor) => match self.judge(below, anchor, goal) {
                    Ok(found) => return Some(found),
                    Err(error) => {
                        let exhausted = error.reason == Reason::TooComplex;
                        best.offer(if exhausted { GIVEN_UP } else { BAD_PATH }, error);
                        if exhausted {
                            return None;
                        }
                    }
                },
                Issuer::Pool(index) => {
                    below.push(index);
                    if self.intermediates(below) > self.options.limits.intermediates_max {
                        below.pop();
                        let detail = "more intermediate certificates than are followed".into();
                        best.offer(
                            NO_ISSUER,
                            self.fault_at(Some(child), (Reason::PathLength, detail)),
                        );
                        continue;
                    }
                    let found = self.extend(below, goal, best);
                    below.pop();
                    if found.is_some() || best.0.as_ref().is_some_and(|(rank, _)| *rank == GIVEN_UP)
                    {
                        return found;
                    }
                }
            }
        }
        None
    }

    /// How many certificates above the first count as intermediates.
    fn intermediates(&self, below: &[usize]) -> usize {
        below
            .iter()
            .skip(1)
            .filter(|&&index| {
                self.pool
                    .get(index)
                    .is_some_and(|view| !view.is_self_issued())
            })
            .count()
            // Self-issued certificates are free in RFC 5280; a path of nothing else is not.
            .max(below.len().saturating_sub(1) / 2)
    }

    /// Who may have issued `child`, the likeliest first.
    fn issuers(&self, child: &View<'a>, below: &[usize], goal: Goal) -> Vec<Issuer> {
        let mut found: Vec<(u8, Issuer)> = Vec::new();
        let mut consider = |view: &View<'a>, issuer: Issuer| {
            if view.subject != child.issuer {
                return;
            }
            let key = match child.key_id_matches(view) {
                Some(true) => 0,
                None => 1,
                Some(false) => 2,
            };
            let in_time = self
                .options
                .at
                .is_none_or(|at| view.not_before <= at && at <= view.not_after);
            let good = u8::from(!(view.is_ca() && view.may(usage::KEY_CERT_SIGN) && in_time));
            let place = u8::from(matches!(issuer, Issuer::Pool(_)));
            found.push((key * 4 + good * 2 + place, issuer));
        };
        for (index, anchor) in self.anchors.iter().enumerate() {
            if allows(goal, index) {
                consider(anchor, Issuer::Anchor(index));
            }
        }
        for (index, view) in self.pool.iter().enumerate() {
            let in_path = below
                .iter()
                .filter_map(|&index| self.pool.get(index))
                .any(|other| other.spki == view.spki && other.subject == view.subject);
            let is_anchor = self
                .anchors
                .iter()
                .any(|anchor| anchor.certificate == view.certificate);
            if !in_path && !is_anchor {
                consider(view, Issuer::Pool(index));
            }
        }
        found.sort_by_key(|&(promise, _)| promise);
        found.into_iter().map(|(_, issuer)| issuer).collect()
    }

    /// Verifies one certificate's signature, at most once for each pair.
    fn signed_by(&self, child: usize, issuer: Issuer) -> Result<(), Fault> {
        if let Some(known) = self.edges.borrow().get(&(child, issuer)) {
            return known.clone();
        }
        let (Some(view), Some(above)) = (self.pool.get(child), self.issuer(issuer)) else {
            return Err((Reason::UnknownIssuer, "no certificate".into()));
        };
        self.spend_signature()?;
        let key = above.certificate.public_key();
        let certificate = view.certificate;
        let result = if self.options.tolerate_legacy_algorithms {
            certificate.verify_signature_by_legacy(key)
        } else {
            certificate.verify_signature_by(key)
        };
        let result = result.map_err(|error| signature_fault(&error, key));
        self.edges
            .borrow_mut()
            .insert((child, issuer), result.clone());
        result
    }

    pub(super) fn spend_signature(&self) -> Result<(), Fault> {
        let left = self.signatures_left.get();
        if left == 0 {
            return Err((
                Reason::TooComplex,
                "too many signatures would have to be verified".into(),
            ));
        }
        self.signatures_left.set(left - 1);
        Ok(())
    }

    fn issuer(&self, issuer: Issuer) -> Option<&'s View<'a>> {
        match issuer {
            Issuer::Anchor(index) => self.anchors.get(index),
            Issuer::Pool(index) => self.pool.get(index),
        }
    }

    pub(super) fn fault_at(&self, view: Option<&View<'_>>, (reason, detail): Fault) -> PathError {
        let certificate = view
            .map(|view| view.certificate.subject())
            .unwrap_or_default();
        PathError {
            reason,
            certificate,
            detail,
        }
    }

    /// RFC 5280 §6.1 over one path; `below` is leaf first and empty if the anchor is the leaf.
    fn judge(&self, below: &[usize], anchor_index: usize, goal: Goal) -> Result<Found, PathError> {
        let Some(anchor) = self.anchors.get(anchor_index) else {
            return Err(self.fault_at(None, (Reason::UnknownIssuer, "no anchor".into())));
        };
        let at = |view: &View<'_>, fault: Fault| self.fault_at(Some(view), fault);

        // §6.1.1 (d): the anchor is a name and a key; what its certificate says besides narrows it.
        if !self.options.tolerate_anchor_validity {
            self.check_validity(anchor)
                .map_err(|fault| at(anchor, fault))?;
        }
        let path: Vec<&'s View<'a>> = below
            .iter()
            .rev()
            .filter_map(|&index| self.pool.get(index))
            .collect();
        let mut constraints = Constraints::default();
        let mut max_path_length = u32::MAX;
        if !path.is_empty() {
            self.check_issuing_anchor(anchor)
                .map_err(|fault| at(anchor, fault))?;
            if let Some(names) = &anchor.name_constraints {
                constraints
                    .add(&names.value)
                    .map_err(|refusal| at(anchor, name_fault(refusal)))?;
            }
            if let Some(basic) = &anchor.basic_constraints {
                max_path_length = basic.value.path_length.unwrap_or(u32::MAX);
            }
        }
        let mut policies = Policies::new(&self.options.policies, path.len());
        for (index, &view) in path.iter().enumerate() {
            let last = index + 1 == path.len();
            // §6.1.3 (a): signature and name chaining were checked when the path was built.
            check_form(view).map_err(|fault| at(view, fault))?;
            self.check_validity(view).map_err(|fault| at(view, fault))?;
            if !view.is_self_issued() || last {
                let mut budget = self.name_comparisons_left.get();
                let checked = constraints.check(view, &mut budget);
                self.name_comparisons_left.set(budget);
                checked.map_err(|refusal| at(view, name_fault(refusal)))?;
            }
            policies
                .process(view, last)
                .map_err(|detail| at(view, (Reason::Policy, detail.into())))?;
            // §6.1.4 (o) and §6.1.5 (e).
            check_critical(view).map_err(|fault| at(view, fault))?;
            if last {
                break;
            }
            policies
                .prepare(view)
                .map_err(|detail| at(view, (Reason::Policy, detail.into())))?;
            if let Some(names) = &view.name_constraints {
                constraints
                    .add(&names.value)
                    .map_err(|refusal| at(view, name_fault(refusal)))?;
            }
            check_ca(view).map_err(|fault| at(view, fault))?;
            // §6.1.4 (l) and (m).
            if !view.is_self_issued() {
                max_path_length = max_path_length.checked_sub(1).ok_or_else(|| {
                    at(
                        view,
                        (
                            Reason::PathLength,
                            "more CAs than a pathLenConstraint allows".into(),
                        ),
                    )
                })?;
            }
            if let Some(length) = view
                .basic_constraints
                .and_then(|basic| basic.value.path_length)
            {
                max_path_length = max_path_length.min(length);
            }
        }
        let leaf = path.last().copied().unwrap_or(anchor);
        if path.is_empty() {
            check_critical(anchor).map_err(|fault| at(anchor, fault))?;
        }
        if goal == Goal::Target {
            purpose::check(leaf, &path, self.options).map_err(|(view, fault)| at(view, fault))?;
        }
        let initial = self
            .options
            .policies
            .initial
            .iter()
            .map(|oid| oid.as_bytes().to_vec())
            .collect();
        let policies = if path.is_empty() {
            BTreeSet::new()
        } else {
            policies
                .wrap_up(leaf, &initial)
                .map_err(|detail| at(leaf, (Reason::Policy, detail.into())))?
        };
        self.check_profile(&path, anchor)?;
        self.check_revocation(&path, below, anchor_index, goal)?;
        Ok(Found {
            below: below.to_vec(),
            anchor: anchor_index,
            policies,
        })
    }

    /// §6.1.3 (a)(3), last because it can cost most.
    fn check_revocation(
        &self,
        path: &[&'s View<'a>],
        below: &[usize],
        anchor: usize,
        goal: Goal,
    ) -> Result<(), PathError> {
        if self.crls.is_empty() && self.options.revocation == Revocation::BestEffort {
            return Ok(());
        }
        let mut above = Issuer::Anchor(anchor);
        for (&view, &index) in path.iter().zip(below.iter().rev()) {
            let Some(issuer) = self.issuer(above) else {
                break;
            };
            self.revoked(view, issuer, anchor, goal)
                .map_err(|fault| self.fault_at(Some(view), fault))?;
            above = Issuer::Pool(index);
        }
        Ok(())
    }

    /// §6.1.3 (a)(2). RFC 5280 §4.1.2.5: the period includes both of its ends.
    fn check_validity(&self, view: &View<'_>) -> Result<(), Fault> {
        let Some(at) = self.options.at else {
            return Ok(());
        };
        let at = at.replace_nanosecond(0).unwrap_or(at);
        if at < view.not_before {
            return Err((
                Reason::NotYetValid,
                format!("it is valid from {}", view.not_before),
            ));
        }
        if at > view.not_after {
            return Err((
                Reason::Expired,
                format!("it was valid until {}", view.not_after),
            ));
        }
        Ok(())
    }

    /// An anchor that is to vouch for others must not itself say that it may not.
    fn check_issuing_anchor(&self, anchor: &View<'_>) -> Result<(), Fault> {
        // Version 1 and 2 certificates have no extensions to say so; as an anchor they are trusted
        // by decision of whoever configured them.
        if anchor.version >= 2 || self.options.strict_profile {
            check_ca(anchor)?;
        }
        Ok(())
    }

    /// The rules for issuers, after all rules of §6: of two faults the one that matters most is told.
    fn check_profile(&self, path: &[&'s View<'a>], anchor: &View<'a>) -> Result<(), PathError> {
        if !self.options.strict_profile {
            return Ok(());
        }
        if path.is_empty() {
            return profile::serial(anchor).map_err(|fault| self.fault_at(Some(anchor), fault));
        }
        check_critical(anchor)
            .and_then(|()| profile::ca(anchor))
            .and_then(|()| profile::anchor(anchor))
            .map_err(|fault| self.fault_at(Some(anchor), fault))?;
        let mut above = anchor;
        for &view in path {
            profile::any(view, above).map_err(|fault| self.fault_at(Some(view), fault))?;
            above = view;
        }
        Ok(())
    }
}

fn check_form(view: &View<'_>) -> Result<(), Fault> {
    // RFC 5280 §4.1.2.4: the issuer field MUST contain a non-empty distinguished name.
    if view.issuer.is_empty() {
        return Err((Reason::Malformed, "the issuer is empty".into()));
    }
    // RFC 5280 §4.2.1.10: the name constraints extension MUST be used only in a CA certificate.
    if view.name_constraints.is_some() && !view.is_ca() {
        let detail = "name constraints in a certificate that is no CA's";
        return Err((Reason::Malformed, detail.into()));
    }
    Ok(())
}

/// Whether the goal may end in this anchor.
fn allows(goal: Goal, index: usize) -> bool {
    match goal {
        Goal::Target => true,
        Goal::CrlSigner { anchor, .. } => anchor == index,
    }
}

/// §6.1.4 (k) and (n).
fn check_ca(view: &View<'_>) -> Result<(), Fault> {
    if !view.is_ca() {
        return Err((
            Reason::BasicConstraints,
            "its basicConstraints do not say CA".into(),
        ));
    }
    if !view.may(usage::KEY_CERT_SIGN) {
        return Err((
            Reason::KeyUsage,
            "its keyUsage does not include keyCertSign".into(),
        ));
    }
    Ok(())
}

/// RFC 5280 §4.2: a certificate-using system MUST reject the certificate if it encounters a critical
/// extension that it does not recognize.
fn check_critical(view: &View<'_>) -> Result<(), Fault> {
    match view.unknown_critical {
        Some(id) => Err((
            Reason::CriticalExtension,
            format!("critical extension {} is not understood", show_oid(id)),
        )),
        None => Ok(()),
    }
}

fn name_fault(refusal: constraints::Refusal) -> Fault {
    match refusal {
        constraints::Refusal::Outside(detail) | constraints::Refusal::Malformed(detail) => {
            (Reason::NameConstraint, detail)
        }
        constraints::Refusal::TooComplex => (
            Reason::TooComplex,
            "too many names would have to be compared".into(),
        ),
    }
}

/// Puts a failed verification into a word of path validation.
pub(super) fn signature_fault(error: &Error, key: &PublicKey) -> Fault {
    let reason = match error {
        Error::LegacyAlgorithm(_) if purpose::is_short_rsa(key) => Reason::WeakKey,
        Error::LegacyAlgorithm(_) => Reason::WeakSignature,
        Error::UnsupportedAlgorithm(_) | Error::UnsupportedKey(_) => Reason::AlgorithmUnsupported,
        _ => Reason::Signature,
    };
    (reason, error.to_string())
}

/// The rules of RFC 5280 §4 for issuers, asked for in the strict profile.
mod profile {
    use super::{Fault, Reason, View, usage};

    /// Serial numbers have at most this many octets (RFC 5280 §4.1.2.2).
    const SERIAL_MAX_OCTETS: usize = 20;

    fn broken(detail: &str) -> Result<(), Fault> {
        Err((Reason::Profile, detail.into()))
    }

    fn key_identifier(detail: &str) -> Result<(), Fault> {
        Err((Reason::KeyIdentifier, detail.into()))
    }

    /// §4.1.2.2: the serial number MUST be a positive integer of at most 20 octets. That the same
    /// section asks users to be prepared for others, and PKITS tests it, is for the default depth.
    pub(super) fn serial(view: &View<'_>) -> Result<(), Fault> {
        let positive = view.serial != [0] && view.serial.first().is_some_and(|&first| first < 0x80);
        if !positive || view.serial.len() > SERIAL_MAX_OCTETS {
            return broken("the serial number is not positive or has over 20 octets");
        }
        Ok(())
    }

    /// Rules for every certificate below the anchor.
    pub(super) fn any(view: &View<'_>, issuer: &View<'_>) -> Result<(), Fault> {
        serial(view)?;
        match &view.authority_key_id {
            None => return key_identifier("there is no authorityKeyIdentifier"),
            Some(id) if id.critical => return key_identifier("authorityKeyIdentifier is critical"),
            Some(id) if id.value.key_id.is_none() => {
                return key_identifier("authorityKeyIdentifier has no keyIdentifier");
            }
            Some(_) if view.key_id_matches(issuer) == Some(false) => {
                return key_identifier("authorityKeyIdentifier is not the issuer's key identifier");
            }
            Some(_) => {}
        }
        if view.subject_key_id.as_ref().is_some_and(|id| id.critical) {
            return key_identifier("subjectKeyIdentifier is critical");
        }
        if view.information_access_critical {
            return broken("authorityInfoAccess or subjectInfoAccess is critical");
        }
        if view.is_ca() {
            return ca(view);
        }
        // §4.2.1.9: if the cA boolean is not asserted, then the keyCertSign bit MUST NOT be asserted.
        if view
            .key_usage
            .is_some_and(|bits| bits.value & usage::KEY_CERT_SIGN != 0)
        {
            return broken("keyCertSign in a certificate that is no CA's");
        }
        if view.subject.is_empty()
            && view
                .subject_alt_name
                .as_ref()
                .is_none_or(|names| !names.critical)
        {
            return broken("the subject is empty and no critical subjectAltName replaces it");
        }
        Ok(())
    }

    /// §4.2.1.1: where a self-signed certificate has an authorityKeyIdentifier at all, it has to be its
    /// own. An anchor that is not self-signed may lack one: nothing above it is looked for.
    pub(super) fn anchor(view: &View<'_>) -> Result<(), Fault> {
        match &view.authority_key_id {
            Some(id) if id.value.key_id.is_none() => {
                key_identifier("authorityKeyIdentifier has no keyIdentifier")
            }
            Some(_) if view.is_self_issued() && view.key_id_matches(view) == Some(false) => {
                key_identifier("authorityKeyIdentifier of a self-signed CA is not its own")
            }
            _ => Ok(()),
        }
    }

    /// Rules for CA certificates, anchors too.
    pub(super) fn ca(view: &View<'_>) -> Result<(), Fault> {
        if view.subject.is_empty() {
            return broken("the subject of a CA is empty");
        }
        match &view.subject_key_id {
            None => return key_identifier("a CA without subjectKeyIdentifier"),
            Some(id) if id.critical => return key_identifier("subjectKeyIdentifier is critical"),
            Some(_) => {}
        }
        if view.authority_key_id.as_ref().is_some_and(|id| id.critical) {
            return key_identifier("authorityKeyIdentifier is critical");
        }
        let not_critical = [
            (
                view.basic_constraints.map(|extension| extension.critical),
                "basicConstraints",
            ),
            (
                view.name_constraints
                    .as_ref()
                    .map(|extension| extension.critical),
                "nameConstraints",
            ),
            (
                view.policy_constraints.map(|extension| extension.critical),
                "policyConstraints",
            ),
            (
                view.inhibit_any_policy.map(|extension| extension.critical),
                "inhibitAnyPolicy",
            ),
        ];
        for (critical, name) in not_critical {
            if critical == Some(false) {
                return broken(&format!("{name} of a CA is not critical"));
            }
        }
        // §4.2.1.9: CAs MUST NOT include the pathLenConstraint field unless keyCertSign is asserted.
        let length = view
            .basic_constraints
            .and_then(|basic| basic.value.path_length);
        if length.is_some() && !view.may(usage::KEY_CERT_SIGN) {
            return broken("a pathLenConstraint without keyCertSign");
        }
        Ok(())
    }
}
