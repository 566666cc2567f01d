//! CRLs by [RFC 5280 §6.3.3]: distribution points and their reasons, indirect CRLs, CRLs signed
//! with another key than the certificate, and delta CRLs. Nothing is fetched; the CRLs are given.
//!
//! [RFC 5280 §6.3.3]: https://www.rfc-editor.org/rfc/rfc5280.html#section-6.3.3

use time::OffsetDateTime;

use super::der::{self, Malformed, Reader, Result as DerResult};
use super::name::{DistinguishedName, GeneralName};
use super::search::{Fault, Goal, Search, signature_fault};
use super::view::{DistributionPoint, Extension, PointName, View, point_name, usage};
use super::{Reason, Revocation};
use crate::{Crl, Error};

/// All reasons of ReasonFlags, bit 0 being unused.
const ALL_REASONS: u16 = 0x7f80;
/// How far CRL signers may depend on CRLs of further signers.
const SIGNER_DEPTH_MAX: usize = 3;
/// removeFromCRL, which only delta CRLs use.
const REMOVE_FROM_CRL: u8 = 8;

/// issuingDistributionPoint: what a CRL covers.
#[derive(Clone, Debug, Default)]
struct Scope<'a> {
    name: Option<PointName<'a>>,
    only_user: bool,
    only_ca: bool,
    only_attribute: bool,
    reasons: Option<u16>,
    indirect: bool,
    /// The encoding, to compare the scopes of a base and a delta.
    encoding: &'a [u8],
}

/// A CRL as revocation checking sees it. Its entries stay encoded; most are never looked at.
#[derive(Clone, Debug)]
pub(super) struct CrlView<'a> {
    crl: &'a Crl,
    issuer: DistinguishedName<'a>,
    this_update: OffsetDateTime,
    next_update: Option<OffsetDateTime>,
    entries: &'a [u8],
    version_2: bool,
    number: Option<&'a [u8]>,
    /// Present in a delta: the number of the CRL that it starts from.
    base_number: Option<&'a [u8]>,
    scope: Scope<'a>,
    /// Why its silence about a certificate means nothing.
    defect: Option<&'static str>,
    /// The same where the rules for issuers are enforced.
    profile_defect: Option<&'static str>,
}

/// What a CRL says about one certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Entry {
    Absent,
    Removed,
    Revoked { reason: u8 },
}

impl<'a> CrlView<'a> {
    /// Decodes all but the entries.
    pub(super) fn of(crl: &'a Crl) -> DerResult<Self> {
        let mut outer = Reader::new(der::single(crl.der(), der::SEQUENCE)?);
        let mut reader = Reader::new(outer.expect(der::SEQUENCE)?.content);
        // RFC 5280 §5.1.2.1: the version is absent in version 1 CRLs, otherwise it MUST be v2.
        let version = reader.optional(der::INTEGER)?;
        if version.is_some_and(|version| version.content != [1]) {
            return Err(Malformed("an unknown version"));
        }
        let version_2 = version.is_some();
        reader.expect(der::SEQUENCE)?;
        let issuer = reader.expect(der::SEQUENCE)?;
        let this_update = der::time(reader.element()?)?;
        let next_update = match reader.optional(der::UTC_TIME)? {
            Some(time) => Some(time),
            None => reader.optional(der::GENERALIZED_TIME)?,
        };
        let entries = reader.optional(der::SEQUENCE)?;
        let extensions = reader.optional(der::context_constructed(0))?;
        reader.end()?;
        if !version_2 && extensions.is_some() {
            return Err(Malformed("extensions in version 1"));
        }
        // RFC 5280 §5.1.2.6: when there are no revoked certificates, the list MUST be absent.
        if entries.is_some_and(|entries| entries.content.is_empty()) {
            return Err(Malformed("an empty list of revoked certificates"));
        }
        let mut view = Self {
            crl,
            issuer: DistinguishedName::read(issuer.content, issuer.encoding)?,
            this_update,
            next_update: next_update.map(der::time).transpose()?,
            entries: entries.map_or(&[][..], |entries| entries.content),
            version_2,
            number: None,
            base_number: None,
            scope: Scope::default(),
            defect: None,
            profile_defect: None,
        };
        if let Some(extensions) = extensions {
            view.read_extensions(der::single(extensions.content, der::SEQUENCE)?)?;
        }
        // RFC 5280 §5.2.3: CRL issuers MUST include a CRL number in all CRLs (version 1 has none).
        if version_2 && view.number.is_none() {
            view.profile_defect = Some("it has no CRL number");
        }
        Ok(view)
    }

    fn read_extensions(&mut self, content: &'a [u8]) -> DerResult<()> {
        let mut reader = Reader::new(content);
        let mut seen = std::collections::HashSet::new();
        while !reader.is_empty() {
            let Extension {
                id,
                critical,
                value,
            } = Extension::read(reader.element()?)?;
            if !seen.insert(id) {
                return Err(Malformed("an extension that appears twice"));
            }
            match id {
                [0x55, 0x1d, 20] => {
                    self.number = Some(der::integer(der::single(value, der::INTEGER)?)?);
                    // RFC 5280 §5.2.3: cRLNumber is a non-critical CRL extension.
                    if critical {
                        self.profile_defect = Some("its CRL number is critical");
                    }
                }
                [0x55, 0x1d, 27] => {
                    self.base_number = Some(der::integer(der::single(value, der::INTEGER)?)?);
                }
                [0x55, 0x1d, 28] => self.scope = scope(value)?,
                // authorityKeyIdentifier, issuerAltName, freshestCRL and authorityInfoAccess help to
                // find things and change no meaning.
                [0x55, 0x1d, 35 | 18 | 46] | [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 1] => {}
                _ if critical => self.defect = Some("a critical extension of it is not understood"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks a certificate up. Entries of an indirect CRL belong to the certificateIssuer that was
    /// named last (RFC 5280 §5.3.3).
    fn entry(&self, view: &View<'_>) -> DerResult<Entry> {
        let mut reader = Reader::new(self.entries);
        let mut ours = self.issuer == view.issuer;
        while !reader.is_empty() {
            let mut entry = Reader::new(reader.expect(der::SEQUENCE)?.content);
            let serial = entry.expect(der::INTEGER)?.content;
            der::time(entry.element()?)?;
            let mut reason = 0;
            if let Some(extensions) = entry.optional(der::SEQUENCE)? {
                if !self.version_2 {
                    return Err(Malformed("entry extensions in version 1"));
                }
                let mut extensions = Reader::new(extensions.content);
                while !extensions.is_empty() {
                    let Extension {
                        id,
                        critical,
                        value,
                    } = Extension::read(extensions.element()?)?;
                    match id {
                        [0x55, 0x1d, 21] => match der::single(value, der::ENUMERATED)? {
                            [code] => reason = *code,
                            _ => return Err(Malformed("a revocation reason of no known form")),
                        },
                        [0x55, 0x1d, 29] => {
                            let names = GeneralName::read_all(der::single(value, der::SEQUENCE)?)?;
                            ours = names.iter().any(|name| is_directory(name, &view.issuer));
                        }
                        _ if critical => {
                            return Err(Malformed("an entry with an unknown critical extension"));
                        }
                        _ => {}
                    }
                }
            }
            entry.end()?;
            if ours && serial == view.serial {
                return Ok(match reason {
                    REMOVE_FROM_CRL => Entry::Removed,
                    reason => Entry::Revoked { reason },
                });
            }
        }
        Ok(Entry::Absent)
    }

    /// §6.3.3 (b): whether this CRL answers for the certificate at this distribution point.
    fn covers(&self, view: &View<'_>, point: &DistributionPoint<'_>) -> bool {
        let by_issuer = if point.crl_issuer.is_empty() {
            self.issuer == view.issuer
        } else {
            self.scope.indirect
                && point
                    .crl_issuer
                    .iter()
                    .any(|name| is_directory(name, &self.issuer))
        };
        let scope = &self.scope;
        if !by_issuer
            || scope.only_attribute
            || (scope.only_user && view.is_ca())
            || (scope.only_ca && !view.is_ca())
        {
            return false;
        }
        let Some(name) = &scope.name else {
            return true;
        };
        let ours = full_names(name, &self.issuer);
        let theirs = match &point.name {
            Some(name) => {
                let base = match point.crl_issuer.as_slice() {
                    [GeneralName::Directory(name)] => name,
                    _ => &view.issuer,
                };
                full_names(name, base)
            }
            None => point.crl_issuer.clone(),
        };
        ours.iter().any(|name| theirs.contains(name))
    }

    fn is_stale(&self, at: Option<OffsetDateTime>) -> bool {
        at.is_some_and(|at| self.next_update.is_some_and(|next| at > next))
    }
}

impl<'s, 'a> Search<'s, 'a> {
    /// Asks the CRLs about one certificate of a path that ends in `anchor`.
    pub(super) fn revoked(
        &self,
        view: &'s View<'a>,
        issuer: &'s View<'a>,
        anchor: usize,
        goal: Goal,
    ) -> Result<(), Fault> {
        // Where the certificate names no distribution point, its issuer's name is one.
        let implied = DistributionPoint {
            name: Some(PointName::Full(vec![GeneralName::Directory(
                view.issuer.clone(),
            )])),
            reasons: None,
            crl_issuer: Vec::new(),
        };
        let points = view
            .distribution_points
            .as_ref()
            .map_or(&[][..], |points| &points.value);
        let mut covered = 0_u16;
        let mut problem: Option<Fault> = None;
        for point in points.iter().chain(std::iter::once(&implied)) {
            for (index, crl) in self.crls.iter().enumerate() {
                let reasons =
                    crl.scope.reasons.unwrap_or(ALL_REASONS) & point.reasons.unwrap_or(ALL_REASONS);
                let reasons = reasons & ALL_REASONS;
                if reasons == 0 || crl.base_number.is_some() || !crl.covers(view, point) {
                    continue;
                }
                if self.is_superseded(crl, issuer, anchor, goal) {
                    continue;
                }
                // Each one is asked, also when the others cover everything already, so that the
                // answer does not depend on the order in which they are given.
                match self.ask(view, issuer, (index, crl), anchor, goal) {
                    Ok(()) => covered |= reasons,
                    Err(fault) if fault.0 == Reason::Revoked || fault.0 == Reason::TooComplex => {
                        return Err(fault);
                    }
                    Err(fault) => problem = problem.or(Some(fault)),
                }
            }
        }
        if covered == ALL_REASONS || self.options.revocation == Revocation::BestEffort {
            return Ok(());
        }
        Err(problem.unwrap_or_else(|| {
            (
                Reason::CrlMissing,
                "no CRL covers this certificate for all reasons".into(),
            )
        }))
    }

    /// Whether another of the CRLs is a later issue of the same one. Certificates leave a CRL when a
    /// hold ends, so what an earlier issue lists no longer counts.
    fn is_superseded(
        &self,
        crl: &CrlView<'a>,
        issuer: &'s View<'a>,
        anchor: usize,
        goal: Goal,
    ) -> bool {
        let Some(number) = crl.number else {
            return false;
        };
        self.crls.iter().enumerate().any(|(index, other)| {
            other.base_number.is_none()
                && other.number.is_some_and(|other| is_less(number, other))
                && other.issuer == crl.issuer
                && other.scope.encoding == crl.scope.encoding
                && self.options.at.is_none_or(|at| other.this_update <= at)
                && self
                    .signer_is_trusted((index, other), issuer, anchor, goal)
                    .is_ok()
        })
    }

    /// §6.3.3 (c) to (l) for one complete CRL. An entry in a stale CRL still revokes; the silence of
    /// one says nothing.
    fn ask(
        &self,
        view: &'s View<'a>,
        issuer: &'s View<'a>,
        (index, crl): (usize, &CrlView<'a>),
        anchor: usize,
        goal: Goal,
    ) -> Result<(), Fault> {
        self.signer_is_trusted((index, crl), issuer, anchor, goal)?;
        let invalid = |error: Malformed| (Reason::CrlInvalid, format!("the CRL has {}", error.0));
        let mut entry = crl.entry(view).map_err(invalid)?;
        for (delta_index, delta) in self.crls.iter().enumerate() {
            if !extends(delta, crl) || delta.defect.is_some() || delta.is_stale(self.options.at) {
                continue;
            }
            if self
                .signer_is_trusted((delta_index, delta), issuer, anchor, goal)
                .is_ok()
            {
                match delta.entry(view).map_err(invalid)? {
                    Entry::Absent => {}
                    Entry::Removed => entry = Entry::Absent,
                    revoked @ Entry::Revoked { .. } => entry = revoked,
                }
            }
        }
        if let Entry::Revoked { reason } = entry {
            return Err((
                Reason::Revoked,
                format!("it is revoked: {}", reason_name(reason)),
            ));
        }
        let profile_defect = crl.profile_defect.filter(|_| self.options.strict_profile);
        if let Some(defect) = crl.defect.or(profile_defect) {
            return Err((
                Reason::CrlInvalid,
                format!("the CRL is not usable: {defect}"),
            ));
        }
        if self.options.at.is_some_and(|at| at < crl.this_update) {
            return Err((
                Reason::CrlInvalid,
                format!("the CRL is of {}, in the future", crl.this_update),
            ));
        }
        if crl.is_stale(self.options.at) {
            let due = crl
                .next_update
                .map(|due| due.to_string())
                .unwrap_or_default();
            return Err((Reason::CrlExpired, format!("the next CRL was due at {due}")));
        }
        Ok(())
    }

    /// §6.3.3 (f) and (g): the CRL is signed by the certificate's issuer, or by a certificate of the
    /// CRL issuer's name that has a path to the same anchor.
    fn signer_is_trusted(
        &self,
        (index, crl): (usize, &CrlView<'a>),
        issuer: &'s View<'a>,
        anchor: usize,
        goal: Goal,
    ) -> Result<(), Fault> {
        let mut problem = (
            Reason::CrlInvalid,
            "no certificate of the CRL's signer is known".to_owned(),
        );
        if crl.issuer == issuer.subject {
            match self.signed_crl(index, crl, issuer) {
                Ok(()) => return Ok(()),
                Err(fault) if fault.0 == Reason::TooComplex => return Err(fault),
                Err(fault) => problem = fault,
            }
        }
        if let Some(known) = self.crl_signers.borrow().get(&(index, anchor)) {
            return known.clone();
        }
        let depth = match goal {
            Goal::Target => 0,
            Goal::CrlSigner { depth, .. } => depth,
        };
        let result = self.find_signer((index, crl), anchor, depth, problem);
        self.crl_signers
            .borrow_mut()
            .insert((index, anchor), result.clone());
        result
    }

    fn find_signer(
        &self,
        (index, crl): (usize, &CrlView<'a>),
        anchor: usize,
        depth: usize,
        mut problem: Fault,
    ) -> Result<(), Fault> {
        let anchor_view = self
            .anchors
            .get(anchor)
            .filter(|view| view.subject == crl.issuer);
        if let Some(view) = anchor_view {
            match self.signed_crl(index, crl, view) {
                Ok(()) => return Ok(()),
                Err(fault) => problem = fault,
            }
        }
        if depth >= SIGNER_DEPTH_MAX {
            return Err(problem);
        }
        for (position, view) in self.pool.iter().enumerate() {
            if view.subject != crl.issuer {
                continue;
            }
            if let Err(fault) = self.signed_crl(index, crl, view) {
                if fault.0 == Reason::TooComplex {
                    return Err(fault);
                }
                problem = fault;
                continue;
            }
            // A CRL may cover the certificate of its own signer, which is being validated just now: its
            // path decides, and this CRL only has to not list it.
            if self.signers_in_progress.borrow().contains(&position) {
                return Ok(());
            }
            self.signers_in_progress.borrow_mut().push(position);
            let path = self.run(
                position,
                Goal::CrlSigner {
                    anchor,
                    depth: depth + 1,
                },
            );
            self.signers_in_progress.borrow_mut().pop();
            match path {
                Ok(_) => return Ok(()),
                Err(error) if error.reason == Reason::TooComplex => {
                    return Err((error.reason, error.detail));
                }
                Err(error) => {
                    problem = (
                        Reason::CrlInvalid,
                        format!("the CRL's signer is not trusted: {error}"),
                    );
                }
            }
        }
        Err(problem)
    }

    /// The mathematics, and the cRLSign bit where there is a keyUsage.
    fn signed_crl(&self, index: usize, crl: &CrlView<'a>, signer: &View<'_>) -> Result<(), Fault> {
        if !signer.may(usage::CRL_SIGN) {
            return Err((
                Reason::CrlInvalid,
                "the keyUsage of the CRL's signer does not include cRLSign".into(),
            ));
        }
        let known = (index, signer.spki.as_ptr() as usize);
        if let Some(known) = self.crl_signatures.borrow().get(&known) {
            return known.clone();
        }
        self.spend_signature()?;
        let key = signer.certificate.public_key();
        let verified = if self.options.tolerate_legacy_algorithms {
            crl.crl.verify_signature_by_legacy(key)
        } else {
            crl.crl.verify_signature_by(key)
        };
        let result = verified.map_err(|error| match error {
            Error::SignatureInvalid(_) => (
                Reason::CrlInvalid,
                "the signature of the CRL does not verify".to_owned(),
            ),
            error => (Reason::CrlInvalid, signature_fault(&error, key).1),
        });
        self.crl_signatures
            .borrow_mut()
            .insert(known, result.clone());
        result
    }
}

/// §6.3.3 (c): whether `delta` is a delta that applies to `base`.
fn extends(delta: &CrlView<'_>, base: &CrlView<'_>) -> bool {
    let (Some(delta_number), Some(from), Some(base_number)) =
        (delta.number, delta.base_number, base.number)
    else {
        return false;
    };
    delta.issuer == base.issuer
        && delta.scope.encoding == base.scope.encoding
        && !is_less(base_number, from)
        && is_less(base_number, delta_number)
}

/// Orders two non-negative minimal INTEGERs.
fn is_less(left: &[u8], right: &[u8]) -> bool {
    let strip = |number: &[u8]| match number {
        [0, rest @ ..] => rest.to_vec(),
        number => number.to_vec(),
    };
    let (left, right) = (strip(left), strip(right));
    (left.len(), &left) < (right.len(), &right)
}

fn is_directory(name: &GeneralName<'_>, wanted: &DistinguishedName<'_>) -> bool {
    matches!(name, GeneralName::Directory(name) if name == wanted)
}

/// The names of a distribution point, a relative one made whole.
fn full_names<'a>(name: &PointName<'a>, base: &DistinguishedName<'a>) -> Vec<GeneralName<'a>> {
    match name {
        PointName::Full(names) => names.clone(),
        PointName::Relative(rdn) => DistinguishedName::relative(base, rdn)
            .map(|name| vec![GeneralName::Directory(name)])
            .unwrap_or_default(),
    }
}

fn scope(value: &[u8]) -> DerResult<Scope<'_>> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let name = match reader.optional(der::context_constructed(0))? {
        Some(element) => Some(point_name(element.content)?),
        None => None,
    };
    let flag = |reader: &mut Reader<'_>, tag| match reader.optional(der::context(tag))? {
        Some(element) => der::boolean(element.content),
        None => Ok(false),
    };
    let only_user = flag(&mut reader, 1)?;
    let only_ca = flag(&mut reader, 2)?;
    let reasons = match reader.optional(der::context(3))? {
        Some(element) => Some(der::flags(element.content)?),
        None => None,
    };
    let indirect = flag(&mut reader, 4)?;
    let only_attribute = flag(&mut reader, 5)?;
    reader.end()?;
    // RFC 5280 §5.2.5: it MUST NOT be an empty sequence, and at most one of the three may be set.
    let kinds = [only_user, only_ca, only_attribute]
        .iter()
        .filter(|&&only| only)
        .count();
    if kinds > 1 || (kinds == 0 && name.is_none() && reasons.is_none() && !indirect) {
        return Err(Malformed("an issuing distribution point without sense"));
    }
    Ok(Scope {
        name,
        only_user,
        only_ca,
        only_attribute,
        reasons,
        indirect,
        encoding: value,
    })
}

fn reason_name(reason: u8) -> &'static str {
    match reason {
        1 => "keyCompromise",
        2 => "cACompromise",
        3 => "affiliationChanged",
        4 => "superseded",
        5 => "cessationOfOperation",
        6 => "certificateHold",
        9 => "privilegeWithdrawn",
        10 => "aACompromise",
        _ => "unspecified",
    }
}
