//! The JSON of vouchers and requests, and the wrong JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::clock;

/// Top-level member of a voucher.
pub const VOUCHER: &str = "ietf-voucher:voucher";
/// Top-level member of a request.
pub const REQUEST: &str = "ietf-voucher-request:voucher";

/// Leaves in the order given under one top-level member.
#[derive(Clone, Debug)]
pub struct Leaves {
    /// The top-level member.
    pub top: String,
    /// The leaves.
    pub leaves: Map<String, Value>,
}

impl Leaves {
    /// A voucher with a nonce.
    #[must_use]
    pub fn voucher(serial: &str, nonce: &[u8], pinned: &[u8], at: OffsetDateTime) -> Self {
        Self::of(
            VOUCHER,
            json!({
                "created-on": clock::text(at),
                "assertion": "proximity",
                "serial-number": serial,
                "nonce": STANDARD.encode(nonce),
                "pinned-domain-cert": STANDARD.encode(pinned),
                "domain-cert-revocation-checks": false,
            }),
        )
    }

    /// A pledge's request.
    #[must_use]
    pub fn pledge_request(
        serial: &str,
        nonce: &[u8],
        registrar: &[u8],
        at: Option<OffsetDateTime>,
    ) -> Self {
        let request = Self::of(
            REQUEST,
            json!({
                "assertion": "proximity",
                "serial-number": serial,
                "nonce": STANDARD.encode(nonce),
                "proximity-registrar-cert": STANDARD.encode(registrar),
            }),
        );
        match at {
            Some(at) => request.set("created-on", clock::text(at)),
            None => request,
        }
    }

    /// A registrar's request.
    #[must_use]
    pub fn registrar_request(
        serial: &str,
        nonce: &[u8],
        idevid_issuer: &[u8],
        prior: &[u8],
        at: OffsetDateTime,
    ) -> Self {
        Self::of(
            REQUEST,
            json!({
                "assertion": "proximity",
                "created-on": clock::text(at),
                "nonce": STANDARD.encode(nonce),
                "serial-number": serial,
                "idevid-issuer": STANDARD.encode(idevid_issuer),
                "prior-signed-voucher-request": STANDARD.encode(prior),
            }),
        )
    }

    /// Leaves from a JSON object.
    #[must_use]
    pub fn of(top: &str, leaves: Value) -> Self {
        Self {
            top: top.to_owned(),
            leaves: match leaves {
                Value::Object(leaves) => leaves,
                _ => Map::new(),
            },
        }
    }

    /// Sets a leaf.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.leaves.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a binary leaf.
    #[must_use]
    pub fn binary(self, name: &str, octets: &[u8]) -> Self {
        self.set(name, STANDARD.encode(octets))
    }

    /// Takes a leaf out.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.leaves.shift_remove(name);
        self
    }

    /// Under another top-level member.
    #[must_use]
    pub fn under(mut self, top: &str) -> Self {
        top.clone_into(&mut self.top);
        self
    }

    /// The JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        json!({ self.top.as_str(): self.leaves })
            .to_string()
            .into_bytes()
    }

    /// The JSON with a leaf once more at the end: a duplicate that no encoder makes.
    #[must_use]
    pub fn encode_with_duplicate(&self, name: &str, value: &Value) -> Vec<u8> {
        let text = json!({ self.top.as_str(): self.leaves }).to_string();
        let trimmed = text.strip_suffix("}}").unwrap_or(&text);
        format!("{trimmed},{}:{value}}}}}", Value::from(name)).into_bytes()
    }
}

/// The value of idevid-issuer for a device under this CA: the octets of the extension's value
/// with the OCTET STRING around them, as the documents' examples have it.
#[must_use]
pub fn idevid_issuer(key_id: &[u8]) -> Vec<u8> {
    use super::der;
    der::octets(&der::seq(&[der::implicit(0, key_id)]))
}
