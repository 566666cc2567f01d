//! Writes the leaves of vouchers and requests in either encoding.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::cbor::{Item, Schema, absolute, document};
use crate::date;
use crate::leaf::{Assertion, Nonce, decode_base64_leniently, encode_base64, encode_base64url};
use crate::read::Extension;

/// Leaves in the order of the calls, which is the order in JSON.
#[derive(Default)]
pub(crate) struct Writer {
    leaves: Vec<(&'static str, Leaf)>,
    extensions: Vec<Extension>,
}

enum Leaf {
    Assertion(Assertion),
    Binary(Vec<u8>),
    Boolean(bool),
    Nonce(Nonce),
    Proprietary(String),
    Text(String),
}

impl Writer {
    fn put(&mut self, name: &'static str, leaf: Option<Leaf>) {
        self.leaves.extend(leaf.map(|leaf| (name, leaf)));
    }

    pub(crate) fn text(&mut self, name: &'static str, text: Option<&str>) {
        self.put(name, text.map(|text| Leaf::Text(text.to_owned())));
    }

    pub(crate) fn binary(&mut self, name: &'static str, bytes: Option<&[u8]>) {
        self.put(name, bytes.map(|bytes| Leaf::Binary(bytes.to_vec())));
    }

    pub(crate) fn boolean(&mut self, name: &'static str, value: Option<bool>) {
        self.put(name, value.map(Leaf::Boolean));
    }

    pub(crate) fn assertion(&mut self, name: &'static str, assertion: Option<Assertion>) {
        self.put(name, assertion.map(Leaf::Assertion));
    }

    pub(crate) fn nonce(&mut self, name: &'static str, nonce: Option<&Nonce>) {
        self.put(name, nonce.cloned().map(Leaf::Nonce));
    }

    pub(crate) fn proprietary(&mut self, name: &'static str, text: Option<&str>) {
        self.put(name, text.map(|text| Leaf::Proprietary(text.to_owned())));
    }

    pub(crate) fn date(&mut self, name: &'static str, date: Option<OffsetDateTime>) {
        self.put(name, date.map(|date| Leaf::Text(date::format(date))));
    }

    pub(crate) fn extensions(&mut self, extensions: &[Extension]) {
        self.extensions = extensions.to_vec();
    }

    pub(crate) fn to_json(&self, member: &str) -> Vec<u8> {
        let mut members = Map::new();
        for (name, leaf) in &self.leaves {
            let value = match leaf {
                Leaf::Assertion(assertion) => assertion.as_str().into(),
                // BRSKI-3.3-01: binary leaves are base64 per RFC 4648 section 4.
                Leaf::Binary(bytes) if defects::seeded!("voucher-writes-base64url") => {
                    encode_base64url(bytes).into()
                }
                Leaf::Binary(bytes) => encode_base64(bytes).into(),
                // VOUCHER-5.3-21: emitted as a JSON boolean, not as a string.
                Leaf::Boolean(value) if defects::seeded!("voucher-writes-booleans-as-text") => {
                    value.to_string().into()
                }
                Leaf::Boolean(value) => Value::Bool(*value),
                Leaf::Nonce(nonce) => nonce.as_str().into(),
                Leaf::Proprietary(text) | Leaf::Text(text) => text.as_str().into(),
            };
            members.insert((*name).to_owned(), value);
        }
        if !self.extensions.is_empty() {
            let names = self.extensions.iter();
            let names: Vec<_> = names.map(|extension| extension.name.clone()).collect();
            members.insert("extensions".to_owned(), names.into());
        }
        for extension in &self.extensions {
            if let Some(data) = &extension.data {
                members.insert(format!("extension:{}", extension.name), data.to_json());
            }
        }
        if defects::seeded!("voucher-writes-unknown-leaf") {
            members.insert("extra".to_owned(), true.into());
        }
        let member = if defects::seeded!("voucher-writes-other-member") {
            "voucher"
        } else {
            member
        };
        json!({ member: Value::Object(members) })
            .to_string()
            .into_bytes()
    }

    pub(crate) fn to_cbor(&self, schema: &Schema) -> Vec<u8> {
        // VCB-006: Bare integer keys inside an SID-keyed map are deltas to the parent SID.
        let key = |name: &str| {
            schema
                .delta(name)
                .map_or_else(|| Item::Text(name.to_owned()), Item::Unsigned)
        };
        let mut entries = Vec::new();
        for (name, leaf) in &self.leaves {
            let item = match leaf {
                Leaf::Assertion(assertion) => Item::Unsigned(assertion.number()),
                Leaf::Binary(bytes) => Item::Bytes(bytes.clone()),
                Leaf::Boolean(value) => Item::boolean(*value),
                Leaf::Nonce(nonce) => Item::Bytes(nonce.octets()),
                // What is no base64url is octets all the same.
                Leaf::Proprietary(text) => Item::Bytes(
                    decode_base64_leniently(text).unwrap_or_else(|| text.as_bytes().to_vec()),
                ),
                Leaf::Text(text) => Item::Text(text.clone()),
            };
            entries.push((key(name), item));
        }
        if !self.extensions.is_empty() {
            let names = self
                .extensions
                .iter()
                .map(|extension| match extension.sid() {
                    Some(sid) => Item::Unsigned(sid),
                    None => Item::Text(extension.name.clone()),
                });
            entries.push((key("extensions"), Item::Array(names.collect())));
        }
        for extension in &self.extensions {
            if let Some(data) = &extension.data {
                let key = match extension.sid() {
                    Some(sid) => absolute(sid),
                    None => Item::Text(format!("extension:{}", extension.name)),
                };
                entries.push((key, data.to_cbor()));
            }
        }
        document(schema, entries)
    }
}
