//! Which SID is which leaf, and how keys name them.

use super::{CBOR_SIZE_MAX_BYTES, Item, parse};
use crate::error::{Document, Error, Fault};
use crate::json::shown;
use crate::leaf::{Assertion, encode_base64};
use crate::read::{Leaf, Members, Reader};
use crate::request::REQUEST_MEMBER;
use crate::tolerances::{Oddity, Tolerances};
use crate::voucher::VOUCHER_MEMBER;

/// Tag of a SID that is absolute ([RFC 9254 §3.2](https://www.rfc-editor.org/rfc/rfc9254.html#section-3.2)).
const TAG_ABSOLUTE: u64 = 47;

/// A YANG structure and the SIDs of its leaves.
pub(crate) struct Schema {
    pub(crate) document: Document,
    /// The module, for names that are qualified with it.
    module: &'static str,
    /// The name of the structure.
    member: &'static str,
    /// The SID of the structure.
    sid: u64,
    /// The leaves: the first has the delta 1.
    leaves: &'static [&'static str],
}

// VCB-001: Voucher top-level key is SID 2451 or the name "ietf-voucher:voucher".
// VCB-003: the deltas of the voucher's leaves.
pub(crate) const VOUCHER: Schema = Schema {
    document: Document::Voucher,
    module: "ietf-voucher",
    member: VOUCHER_MEMBER,
    sid: 2451,
    leaves: &[
        "assertion",
        "created-on",
        "domain-cert-revocation-checks",
        "expires-on",
        "idevid-issuer",
        "last-renewal-date",
        "nonce",
        "pinned-domain-cert",
        "pinned-domain-pubk",
        "pinned-domain-pubk-sha256",
        "serial-number",
        "additional-configuration-url",
        "est-domain",
        "manufacturer-proprietary",
        "extensions",
    ],
};

// VCB-002: Voucher request top-level key is SID 2501 or "ietf-voucher-request:voucher".
// VCB-004: the deltas of the request's leaves.
pub(crate) const REQUEST: Schema = Schema {
    document: Document::Request,
    module: "ietf-voucher-request",
    member: REQUEST_MEMBER,
    sid: 2501,
    leaves: &[
        "assertion",
        "created-on",
        "domain-cert-revocation-checks",
        "expires-on",
        "idevid-issuer",
        "last-renewal-date",
        "nonce",
        "pinned-domain-cert",
        "prior-signed-voucher-request",
        "proximity-registrar-cert",
        "proximity-registrar-pubk-sha256",
        "proximity-registrar-pubk",
        "serial-number",
        "agent-provided-proximity-registrar-cert",
        "agent-sign-cert",
        "agent-signed-data",
        "pinned-domain-pubk",
        "pinned-domain-pubk-sha256",
        "additional-configuration-url",
        "est-domain",
        "extensions",
        "manufacturer-proprietary",
    ],
};

/// A leaf and its SID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidLeaf {
    /// The name of the structure: `ietf-voucher:voucher` or `ietf-voucher-request:voucher`.
    pub structure: &'static str,
    /// The SID of the structure.
    pub structure_sid: u64,
    /// The leaf.
    pub name: &'static str,
    /// Its SID.
    pub sid: u64,
}

/// Every leaf of vouchers and requests with its SID.
pub fn leaves_by_sid() -> impl Iterator<Item = SidLeaf> {
    [&VOUCHER, &REQUEST].into_iter().flat_map(|schema| {
        schema
            .leaves
            .iter()
            .zip(schema.sid + 1..)
            .map(|(name, sid)| SidLeaf {
                structure: schema.member,
                structure_sid: schema.sid,
                name,
                sid,
            })
    })
}

/// What a key means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Leaf(&'static str),
    Sid(i128),
    Name(String),
}

impl Schema {
    /// The delta of a leaf.
    pub(crate) fn delta(&self, name: &str) -> Option<u64> {
        let index = self.leaves.iter().position(|leaf| *leaf == name)?;
        u64::try_from(index).ok().map(|index| index + 1)
    }

    fn fail(&self, fault: Fault, detail: String) -> Error {
        Error::new(self.document, fault, detail)
    }

    fn is_top(&self, key: &Item) -> Option<u64> {
        match key {
            Item::Unsigned(sid) if *sid == self.sid => Some(self.sid),
            Item::Tag(TAG_ABSOLUTE, inner) if **inner == Item::Unsigned(self.sid) => Some(self.sid),
            // VCB-008: Inside a map whose own key is a name, the reference SID is 0: bare integers
            // there are absolute SIDs.
            Item::Text(name) if name == self.member => {
                Some(if defects::seeded!("cbor-reads-numbers-under-names") {
                    self.sid
                } else {
                    0
                })
            }
            _ => None,
        }
    }

    fn key(&self, key: &Item, reference: u64) -> Result<Key, Error> {
        // VCB-010: Negative deltas and 64-bit values in keys are handled without overflow.
        let sid = match key {
            // VCB-006: Bare integer keys inside an SID-keyed map are deltas to the parent SID.
            Item::Unsigned(delta) => i128::from(reference) + i128::from(*delta),
            Item::Negative(below) => i128::from(reference) - 1 - i128::from(*below),
            // VCB-007: Keys tagged 47 are absolute SIDs.
            Item::Tag(TAG_ABSOLUTE, inner) => match **inner {
                Item::Unsigned(sid) => i128::from(sid),
                _ => {
                    let detail = format!("the key {} is no SID", shown(&key.to_string()));
                    return Err(self.fail(Fault::WrongType, detail));
                }
            },
            Item::Text(text) => {
                // VCB-009: Name keys inside the voucher map are simple names, optionally
                // module-qualified.
                let simple = text
                    .strip_prefix(self.module)
                    .and_then(|rest| rest.strip_prefix(':'))
                    .unwrap_or(text);
                let known = self.leaves.iter().find(|leaf| **leaf == simple);
                return Ok(known.map_or_else(|| Key::Name(text.clone()), |leaf| Key::Leaf(leaf)));
            }
            other => {
                let detail = format!("a key is {}", other.type_name());
                return Err(self.fail(Fault::WrongType, detail));
            }
        };
        let leaf = usize::try_from(sid - i128::from(self.sid) - 1)
            .ok()
            .and_then(|index| self.leaves.get(index));
        Ok(leaf.map_or(Key::Sid(sid), |leaf| Key::Leaf(leaf)))
    }
}

/// The name under which a SID that is no leaf stands among the members.
pub(crate) fn sid_name(sid: impl std::fmt::Display) -> String {
    format!("SID {sid}")
}

/// Reads the outer map and takes the one entry that holds the document.
pub(crate) fn top_level<'t>(
    schema: &Schema,
    bytes: &[u8],
    tolerances: &'t Tolerances,
) -> Result<Reader<'t>, Error> {
    let (item, _) = parse(schema.document, bytes, CBOR_SIZE_MAX_BYTES)?;
    let Item::Map(mut outer) = item else {
        let detail = format!("the CBOR is {}, it must be a map", item.type_name());
        return Err(schema.fail(Fault::WrongType, detail));
    };
    let mut tops = outer
        .iter()
        .enumerate()
        .filter_map(|(index, (key, _))| Some((index, schema.is_top(key)?)));
    let Some((index, reference)) = tops.next() else {
        let found = outer
            .first()
            .map_or_else(|| "nothing".to_owned(), |(key, _)| shown(&key.to_string()));
        let detail = format!(
            "{} ({}) is missing, {found} is there",
            schema.member, schema.sid
        );
        return Err(schema.fail(Fault::TopLevelName, detail));
    };
    if tops.next().is_some() {
        let detail = format!("{} stands twice, in two spellings", schema.member);
        return Err(schema.fail(Fault::DuplicateMember, detail));
    }
    let (_, inner) = outer.swap_remove(index);
    let mut oddities = Vec::new();
    if let Some((other, _)) = outer.first() {
        let detail = format!(
            "{} stands beside {}",
            shown(&other.to_string()),
            schema.member
        );
        if !tolerances.top_level_names {
            return Err(schema.fail(Fault::TopLevelName, detail));
        }
        oddities.push(Oddity::new("top-level-names", detail));
    }
    let Item::Map(entries) = inner else {
        let detail = format!(
            "{} is {}, it must be a map",
            schema.member,
            inner.type_name()
        );
        return Err(schema.fail(Fault::WrongType, detail));
    };
    let mut seen = std::collections::BTreeSet::new();
    let mut members = Members::default();
    for (key, value) in entries {
        let meaning = schema.key(&key, reference)?;
        let name = match &meaning {
            Key::Leaf(name) => (*name).to_owned(),
            Key::Sid(sid) => sid_name(sid),
            Key::Name(name) => name.clone(),
        };
        // VCB-011: The same attribute given twice (once as name, once as SID, or tag 47 and delta)
        // is rejected.
        if !seen.insert(meaning) {
            let detail = format!("{} stands twice", shown(&name));
            return Err(schema.fail(Fault::DuplicateMember, detail));
        }
        members.push(name, Leaf::Cbor(value));
    }
    Ok(Reader {
        document: schema.document,
        members,
        tolerances,
        oddities,
    })
}

/// Writes entries with deltas and, where there is none, absolute SIDs.
pub(crate) fn document(schema: &Schema, entries: Vec<(Item, Item)>) -> Vec<u8> {
    Item::Map(vec![(Item::Unsigned(schema.sid), Item::Map(entries))]).encode()
}

/// An absolute SID as a key.
pub(crate) fn absolute(sid: u64) -> Item {
    Item::Tag(TAG_ABSOLUTE, Box::new(Item::Unsigned(sid)))
}

/// Voucher data in CBOR with the names of its leaves, for people and for tools. Nothing of it is
/// checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name of the structure: `ietf-voucher:voucher` or `ietf-voucher-request:voucher`.
    pub structure: &'static str,
    /// The leaves in the order in which they came, and the octets that key and value take. A SID
    /// that is no leaf is named `SID` with its number.
    pub leaves: Vec<(String, Item, usize)>,
}

impl Named {
    /// Reads voucher data or request data, if it is one of them.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (item, _) = Item::parse(bytes).ok()?;
        let Item::Map(outer) = item else { return None };
        outer.into_iter().find_map(|(top, inner)| {
            let schemas = [&VOUCHER, &REQUEST].into_iter();
            let (schema, reference) = schemas
                .filter_map(|schema| Some((schema, schema.is_top(&top)?)))
                .next()?;
            let Item::Map(entries) = inner else {
                return None;
            };
            let leaves = entries.into_iter().map(|(key, value)| {
                let octets = key.encode().len() + value.encode().len();
                let name = match schema.key(&key, reference) {
                    Ok(Key::Leaf(name)) => name.to_owned(),
                    Ok(Key::Sid(sid)) => sid_name(sid),
                    Ok(Key::Name(name)) => name,
                    Err(_) => key.to_string(),
                };
                (name, value, octets)
            });
            Some(Self {
                structure: schema.member,
                leaves: leaves.collect(),
            })
        })
    }

    /// The same as JSON has it: assertions by name, octets in base64.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let members = self.leaves.iter().map(|(name, value, _)| {
            let assertion = match (name.as_str(), value) {
                ("assertion", Item::Unsigned(number)) => Assertion::from_number(*number),
                _ => None,
            };
            let value = match (assertion, value) {
                (Some(assertion), _) => assertion.as_str().into(),
                (None, Item::Bytes(bytes)) => encode_base64(bytes).into(),
                (None, other) => other.to_json(),
            };
            (name.clone(), value)
        });
        let members: serde_json::Map<_, _> = members.collect();
        serde_json::json!({ self.structure: members })
    }
}
