//! A certificate as path validation sees it: every field and extension that §6 speaks of, decoded once.

use std::collections::HashSet;

use time::OffsetDateTime;

use super::der::{self, Element, Malformed, Reader, Result};
use super::name::{DistinguishedName, GeneralName};
use crate::Certificate;

/// Entries of one policy extension. Bridge CAs have a few dozen; the work grows with the square.
const POLICIES_MAX: usize = 128;
/// Subtrees of one nameConstraints extension, and distribution points.
const SUBTREES_MAX: usize = 4_096;

pub(crate) const ANY_POLICY: &[u8] = &[0x55, 0x1d, 0x20, 0x00];

/// Bits of keyUsage as [`der::flags`] reads them.
pub(crate) mod usage {
    pub(crate) const DIGITAL_SIGNATURE: u16 = 0x8000;
    pub(crate) const KEY_ENCIPHERMENT: u16 = 0x2000;
    pub(crate) const KEY_AGREEMENT: u16 = 0x0800;
    pub(crate) const KEY_CERT_SIGN: u16 = 0x0400;
    pub(crate) const CRL_SIGN: u16 = 0x0200;
}

/// An extension's value and whether it is critical.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked<T> {
    pub(crate) critical: bool,
    pub(crate) value: T,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_length: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthorityKeyId<'a> {
    pub(crate) key_id: Option<&'a [u8]>,
}

/// The two lists of nameConstraints.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameConstraints<'a> {
    pub(crate) permitted: Vec<GeneralName<'a>>,
    pub(crate) excluded: Vec<GeneralName<'a>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PolicyConstraints {
    pub(crate) require_explicit: Option<u32>,
    pub(crate) inhibit_mapping: Option<u32>,
}

/// DistributionPointName.
#[derive(Clone, Debug)]
pub(crate) enum PointName<'a> {
    Full(Vec<GeneralName<'a>>),
    /// The encoding of a `[1] RelativeDistinguishedName`.
    Relative(&'a [u8]),
}

#[derive(Clone, Debug)]
pub(crate) struct DistributionPoint<'a> {
    pub(crate) name: Option<PointName<'a>>,
    /// `None` means all reasons.
    pub(crate) reasons: Option<u16>,
    pub(crate) crl_issuer: Vec<GeneralName<'a>>,
}

/// An issuerDomainPolicy and the subjectDomainPolicy that it is equivalent to.
pub(crate) type Mapping<'a> = (&'a [u8], &'a [u8]);

/// The decoded certificate.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) certificate: &'a Certificate,
    pub(crate) version: u32,
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: DistinguishedName<'a>,
    pub(crate) subject: DistinguishedName<'a>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) spki: &'a [u8],
    pub(crate) authority_key_id: Option<Marked<AuthorityKeyId<'a>>>,
    pub(crate) subject_key_id: Option<Marked<&'a [u8]>>,
    pub(crate) basic_constraints: Option<Marked<BasicConstraints>>,
    pub(crate) key_usage: Option<Marked<u16>>,
    pub(crate) extended_key_usage: Option<Marked<Vec<&'a [u8]>>>,
    pub(crate) subject_alt_name: Option<Marked<Vec<GeneralName<'a>>>>,
    pub(crate) name_constraints: Option<Marked<NameConstraints<'a>>>,
    pub(crate) policies: Option<Marked<Vec<&'a [u8]>>>,
    pub(crate) policy_mappings: Option<Marked<Vec<Mapping<'a>>>>,
    pub(crate) policy_constraints: Option<Marked<PolicyConstraints>>,
    pub(crate) inhibit_any_policy: Option<Marked<u32>>,
    pub(crate) distribution_points: Option<Marked<Vec<DistributionPoint<'a>>>>,
    pub(crate) information_access_critical: bool,
    /// The OID of a critical extension that is not understood.
    pub(crate) unknown_critical: Option<&'a [u8]>,
}

impl<'a> View<'a> {
    /// Decodes a certificate; one malformed extension is enough to refuse it.
    pub(crate) fn of(certificate: &'a Certificate) -> Result<Self> {
        let mut outer = Reader::new(der::single(certificate.der(), der::SEQUENCE)?);
        let tbs = outer.expect(der::SEQUENCE)?;
        let outer_algorithm = outer.expect(der::SEQUENCE)?;
        outer.expect(der::BIT_STRING)?;
        outer.end()?;

        let mut reader = Reader::new(tbs.content);
        let version = match reader.optional(der::context_constructed(0))? {
            Some(element) => der::count(der::single(element.content, der::INTEGER)?)?,
            None => 0,
        };
        let serial = der::integer(reader.expect(der::INTEGER)?.content)?;
        let inner_algorithm = reader.expect(der::SEQUENCE)?;
        if inner_algorithm.encoding != outer_algorithm.encoding {
            return Err(Malformed("the two signature algorithms differ"));
        }
        let issuer = reader.expect(der::SEQUENCE)?;
        let mut validity = Reader::new(reader.expect(der::SEQUENCE)?.content);
        let not_before = der::time(validity.element()?)?;
        let not_after = der::time(validity.element()?)?;
        validity.end()?;
        let subject = reader.expect(der::SEQUENCE)?;
        let spki = reader.expect(der::SEQUENCE)?;
        let issuer_id = reader.optional(der::context(1))?;
        let subject_id = reader.optional(der::context(2))?;
        let extensions = reader.optional(der::context_constructed(3))?;
        reader.end()?;
        if version > 2
            || (version < 2 && extensions.is_some())
            || (version < 1 && (issuer_id.is_some() || subject_id.is_some()))
        {
            return Err(Malformed("fields that its version does not have"));
        }

        let mut view = Self {
            certificate,
            version,
            serial,
            issuer: DistinguishedName::read(issuer.content, issuer.encoding)?,
            subject: DistinguishedName::read(subject.content, subject.encoding)?,
            not_before,
            not_after,
            spki: spki.encoding,
            authority_key_id: None,
            subject_key_id: None,
            basic_constraints: None,
            key_usage: None,
            extended_key_usage: None,
            subject_alt_name: None,
            name_constraints: None,
            policies: None,
            policy_mappings: None,
            policy_constraints: None,
            inhibit_any_policy: None,
            distribution_points: None,
            information_access_critical: false,
            unknown_critical: None,
        };
        if let Some(extensions) = extensions {
            view.read_extensions(der::single(extensions.content, der::SEQUENCE)?)?;
        }
        Ok(view)
    }

    fn read_extensions(&mut self, content: &'a [u8]) -> Result<()> {
        let mut reader = Reader::new(content);
        let mut seen = HashSet::new();
        if reader.is_empty() {
            return Err(Malformed("an empty list of extensions"));
        }
        while !reader.is_empty() {
            let extension = Extension::read(reader.element()?)?;
            // RFC 5280 §4.2: a certificate MUST NOT include more than one instance of an extension.
            if !seen.insert(extension.id) {
                return Err(Malformed("an extension that appears twice"));
            }
            self.read_extension(extension)?;
        }
        Ok(())
    }

    fn read_extension(&mut self, extension: Extension<'a>) -> Result<()> {
        let Extension {
            id,
            critical,
            value,
        } = extension;
        fn marked<T>(critical: bool, value: T) -> Option<Marked<T>> {
            Some(Marked { critical, value })
        }
        match id {
            // The arc id-ce is 2.5.29.
            [0x55, 0x1d, 14] => {
                self.subject_key_id = marked(critical, der::single(value, der::OCTET_STRING)?);
            }
            [0x55, 0x1d, 15] => {
                let flags = der::flags(der::single(value, der::BIT_STRING)?)?;
                // RFC 5280 §4.2.1.3: at least one of the bits MUST be set to 1.
                if flags == 0 {
                    return Err(Malformed("a keyUsage without any usage"));
                }
                self.key_usage = marked(critical, flags);
            }
            [0x55, 0x1d, 17] => {
                let names = GeneralName::read_all(der::single(value, der::SEQUENCE)?)?;
                self.subject_alt_name = marked(critical, names);
            }
            [0x55, 0x1d, 18] => {
                GeneralName::read_all(der::single(value, der::SEQUENCE)?)?;
            }
            [0x55, 0x1d, 19] => {
                self.basic_constraints = marked(critical, basic_constraints(value)?);
            }
            [0x55, 0x1d, 30] => {
                self.name_constraints = marked(critical, name_constraints(value)?);
            }
            [0x55, 0x1d, 31] => {
                self.distribution_points = marked(critical, distribution_points(value)?);
            }
            [0x55, 0x1d, 32] => {
                let (policies, all_known) = policies(value)?;
                self.policies = marked(critical, policies);
                // RFC 5280 §4.2.1.4: if this extension is critical, the path validation software MUST
                // be able to interpret it (including the optional qualifier) or reject the certificate.
                if critical && !all_known {
                    self.unknown_critical = Some(id);
                }
            }
            [0x55, 0x1d, 33] => self.policy_mappings = marked(critical, policy_mappings(value)?),
            [0x55, 0x1d, 35] => {
                self.authority_key_id = marked(critical, authority_key_id(value)?);
            }
            [0x55, 0x1d, 36] => {
                self.policy_constraints = marked(critical, policy_constraints(value)?);
            }
            [0x55, 0x1d, 37] => {
                self.extended_key_usage = marked(critical, key_purposes(value)?);
            }
            // freshestCRL: where deltas are. Nothing is fetched, so nothing is read from it.
            [0x55, 0x1d, 46] => {
                distribution_points(value)?;
            }
            [0x55, 0x1d, 54] => {
                let skip = der::count(der::single(value, der::INTEGER)?)?;
                self.inhibit_any_policy = marked(critical, skip);
            }
            // authorityInfoAccess and subjectInfoAccess only point to places; their form is checked.
            [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 1 | 11] => {
                access_descriptions(value)?;
                self.information_access_critical |= critical;
            }
            _ if critical => self.unknown_critical = Some(id),
            _ => {}
        }
        Ok(())
    }

    /// Issued under its own name, by whatever key.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.basic_constraints
            .is_some_and(|constraints| constraints.value.ca)
    }

    /// Whether keyUsage, if there is one, has one of these bits.
    pub(crate) fn may(&self, bits: u16) -> bool {
        self.key_usage.is_none_or(|usage| usage.value & bits != 0)
    }

    /// Whether this certificate's authority key identifier names `issuer`'s key; `None` if one of
    /// the two says nothing.
    pub(crate) fn key_id_matches(&self, issuer: &View<'_>) -> Option<bool> {
        let wanted = self.authority_key_id?.value.key_id?;
        Some(wanted == issuer.subject_key_id?.value)
    }
}

/// One Extension, of a certificate, a CRL or a CRL entry.
pub(crate) struct Extension<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

impl<'a> Extension<'a> {
    pub(crate) fn read(element: Element<'a>) -> Result<Self> {
        if element.tag != der::SEQUENCE {
            return Err(Malformed("an extension that is not a SEQUENCE"));
        }
        let mut reader = Reader::new(element.content);
        let id = der::oid(reader.expect(der::OID)?.content)?;
        // FALSE is the default and has no DER encoding of its own, but many issuers write it.
        let critical = match reader.optional(der::BOOLEAN)? {
            Some(flag) => der::boolean(flag.content)?,
            None => false,
        };
        let value = reader.expect(der::OCTET_STRING)?.content;
        reader.end()?;
        Ok(Self {
            id,
            critical,
            value,
        })
    }
}

fn basic_constraints(value: &[u8]) -> Result<BasicConstraints> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let ca = match reader.optional(der::BOOLEAN)? {
        Some(flag) => der::boolean(flag.content)?,
        None => false,
    };
    let path_length = match reader.optional(der::INTEGER)? {
        Some(number) => Some(der::count(number.content)?),
        None => None,
    };
    reader.end()?;
    Ok(BasicConstraints { ca, path_length })
}

fn authority_key_id(value: &[u8]) -> Result<AuthorityKeyId<'_>> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let key_id = reader
        .optional(der::context(0))?
        .map(|element| element.content);
    let issuer = reader.optional(der::context_constructed(1))?;
    if let Some(issuer) = issuer {
        GeneralName::read_all(issuer.content)?;
    }
    let serial = reader.optional(der::context(2))?;
    reader.end()?;
    // RFC 5280 §4.2.1.1: both are present or both are absent.
    if issuer.is_some() != serial.is_some() {
        return Err(Malformed("an authority key identifier with half an issuer"));
    }
    Ok(AuthorityKeyId { key_id })
}

fn key_purposes(value: &[u8]) -> Result<Vec<&[u8]>> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let mut purposes = Vec::new();
    while !reader.is_empty() {
        purposes.push(der::oid(reader.expect(der::OID)?.content)?);
    }
    if purposes.is_empty() {
        return Err(Malformed("an empty extendedKeyUsage"));
    }
    Ok(purposes)
}

fn name_constraints(value: &[u8]) -> Result<NameConstraints<'_>> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let permitted = reader.optional(der::context_constructed(0))?;
    let excluded = reader.optional(der::context_constructed(1))?;
    reader.end()?;
    // RFC 5280 §4.2.1.10: either the permittedSubtrees field or the excludedSubtrees MUST be present.
    if permitted.is_none() && excluded.is_none() {
        return Err(Malformed("empty name constraints"));
    }
    Ok(NameConstraints {
        permitted: subtrees(permitted)?,
        excluded: subtrees(excluded)?,
    })
}

fn subtrees(list: Option<Element<'_>>) -> Result<Vec<GeneralName<'_>>> {
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    let mut reader = Reader::new(list.content);
    let mut bases = Vec::new();
    while !reader.is_empty() {
        let mut subtree = Reader::new(reader.expect(der::SEQUENCE)?.content);
        bases.push(GeneralName::read(subtree.element()?)?);
        // RFC 5280 §4.2.1.10: the minimum MUST be zero, and maximum MUST be absent. Zero is the
        // default, so in DER nothing follows the base.
        let minimum = subtree.optional(der::context(0))?;
        if minimum.is_some_and(|minimum| minimum.content != [0]) {
            return Err(Malformed("a name constraint with a minimum"));
        }
        subtree.end()?;
        if bases.len() > SUBTREES_MAX {
            return Err(Malformed("too many name constraints"));
        }
    }
    if bases.is_empty() {
        return Err(Malformed("an empty list of name constraints"));
    }
    Ok(bases)
}

/// The policies, and whether all their qualifiers are of a kind that is known.
fn policies(value: &[u8]) -> Result<(Vec<&[u8]>, bool)> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let mut policies = Vec::new();
    let mut all_known = true;
    while !reader.is_empty() {
        let mut policy = Reader::new(reader.expect(der::SEQUENCE)?.content);
        let id = der::oid(policy.expect(der::OID)?.content)?;
        if let Some(qualifiers) = policy.optional(der::SEQUENCE)? {
            let mut qualifiers = Reader::new(qualifiers.content);
            while !qualifiers.is_empty() {
                let mut qualifier = Reader::new(qualifiers.expect(der::SEQUENCE)?.content);
                let kind = der::oid(qualifier.expect(der::OID)?.content)?;
                // id-qt-cps and id-qt-unotice, which inform people and change nothing.
                all_known &= matches!(kind, [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x02, 1 | 2]);
            }
        }
        policy.end()?;
        // RFC 5280 §4.2.1.4: a certificate policy OID MUST NOT appear more than once.
        if policies.contains(&id) {
            return Err(Malformed("a certificate policy that appears twice"));
        }
        policies.push(id);
        if policies.len() > POLICIES_MAX {
            return Err(Malformed("too many certificate policies"));
        }
    }
    if policies.is_empty() {
        return Err(Malformed("an empty list of certificate policies"));
    }
    Ok((policies, all_known))
}

fn policy_mappings(value: &[u8]) -> Result<Vec<Mapping<'_>>> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let mut mappings = Vec::new();
    while !reader.is_empty() {
        let mut mapping = Reader::new(reader.expect(der::SEQUENCE)?.content);
        let issuer = der::oid(mapping.expect(der::OID)?.content)?;
        let subject = der::oid(mapping.expect(der::OID)?.content)?;
        mapping.end()?;
        mappings.push((issuer, subject));
        if mappings.len() > POLICIES_MAX {
            return Err(Malformed("too many policy mappings"));
        }
    }
    if mappings.is_empty() {
        return Err(Malformed("an empty list of policy mappings"));
    }
    Ok(mappings)
}

fn policy_constraints(value: &[u8]) -> Result<PolicyConstraints> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let mut number = |tag| match reader.optional(der::context(tag)) {
        Ok(Some(element)) => der::count(element.content).map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    let constraints = PolicyConstraints {
        require_explicit: number(0)?,
        inhibit_mapping: number(1)?,
    };
    reader.end()?;
    // RFC 5280 §4.2.1.11: conforming CAs MUST NOT issue certificates where it is an empty sequence.
    if constraints.require_explicit.is_none() && constraints.inhibit_mapping.is_none() {
        return Err(Malformed("empty policy constraints"));
    }
    Ok(constraints)
}

/// Reads a DistributionPointName from the content of its explicit tag.
pub(crate) fn point_name(content: &[u8]) -> Result<PointName<'_>> {
    let mut reader = Reader::new(content);
    let element = reader.element()?;
    reader.end()?;
    match element.tag {
        0xa0 => GeneralName::read_all(element.content).map(PointName::Full),
        0xa1 => Ok(PointName::Relative(element.encoding)),
        _ => Err(Malformed("a distribution point name of no known form")),
    }
}

fn distribution_points(value: &[u8]) -> Result<Vec<DistributionPoint<'_>>> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    let mut points = Vec::new();
    while !reader.is_empty() {
        let mut point = Reader::new(reader.expect(der::SEQUENCE)?.content);
        let name = match point.optional(der::context_constructed(0))? {
            Some(element) => Some(point_name(element.content)?),
            None => None,
        };
        let reasons = match point.optional(der::context(1))? {
            Some(element) => Some(der::flags(element.content)?),
            None => None,
        };
        let crl_issuer = match point.optional(der::context_constructed(2))? {
            Some(element) => GeneralName::read_all(element.content)?,
            None => Vec::new(),
        };
        point.end()?;
        // RFC 5280 §4.2.1.13: it MUST NOT consist of only the reasons field.
        if name.is_none() && crl_issuer.is_empty() {
            return Err(Malformed("a distribution point without a place"));
        }
        points.push(DistributionPoint {
            name,
            reasons,
            crl_issuer,
        });
        if points.len() > SUBTREES_MAX {
            return Err(Malformed("too many distribution points"));
        }
    }
    if points.is_empty() {
        return Err(Malformed("an empty list of distribution points"));
    }
    Ok(points)
}

fn access_descriptions(value: &[u8]) -> Result<()> {
    let mut reader = Reader::new(der::single(value, der::SEQUENCE)?);
    if reader.is_empty() {
        return Err(Malformed("an empty list of access descriptions"));
    }
    while !reader.is_empty() {
        let mut description = Reader::new(reader.expect(der::SEQUENCE)?.content);
        der::oid(description.expect(der::OID)?.content)?;
        GeneralName::read(description.element()?)?;
        description.end()?;
    }
    Ok(())
}
