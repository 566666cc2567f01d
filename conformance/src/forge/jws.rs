//! JWS in any serialisation by hand.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::cms::Signatory;

/// A JWS before it is encoded.
#[derive(Clone)]
pub struct Jws {
    /// The payload.
    pub payload: Vec<u8>,
    /// The protected header.
    pub header: Value,
    /// Who signs.
    pub signer: Signatory,
    /// Octets instead of the signature.
    pub signature: Option<Vec<u8>>,
    /// Another unprotected header.
    pub unprotected: Option<Value>,
}

impl Jws {
    /// A right one: `alg`, `typ`, and the chain in `x5c`.
    #[must_use]
    pub fn new(payload: &[u8], signer: &Signatory, chain: &[Vec<u8>]) -> Self {
        let x5c: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
        Self {
            payload: payload.to_vec(),
            header: json!({
                "alg": signer.key.jose_name(),
                "typ": "voucher-jws+json",
                "x5c": x5c,
            }),
            signer: signer.clone(),
            signature: None,
            unprotected: None,
        }
    }

    /// Changes it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The protected header as it is signed.
    #[must_use]
    pub fn protected(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.header.to_string())
    }

    /// The payload as it is signed.
    #[must_use]
    pub fn payload_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.payload)
    }

    /// The signature: r and s, or what the key makes.
    #[must_use]
    pub fn signature_octets(&self) -> Vec<u8> {
        self.signature.clone().unwrap_or_else(|| {
            let input = format!("{}.{}", self.protected(), self.payload_text());
            self.signer.key.sign_raw(input.as_bytes())
        })
    }

    /// General JSON serialisation.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        general(&self.payload_text(), &[self.entry()]).into_bytes()
    }

    /// One entry of `signatures`.
    #[must_use]
    pub fn entry(&self) -> Value {
        let mut entry = json!({
            "protected": self.protected(),
            "signature": URL_SAFE_NO_PAD.encode(self.signature_octets()),
        });
        if let Some(unprotected) = &self.unprotected {
            entry["header"] = unprotected.clone();
        }
        entry
    }

    /// Flattened JSON serialisation.
    #[must_use]
    pub fn flattened(&self) -> Vec<u8> {
        let mut entry = self.entry();
        entry["payload"] = self.payload_text().into();
        entry.to_string().into_bytes()
    }

    /// Compact serialisation.
    #[must_use]
    pub fn compact(&self) -> Vec<u8> {
        format!(
            "{}.{}.{}",
            self.protected(),
            self.payload_text(),
            URL_SAFE_NO_PAD.encode(self.signature_octets())
        )
        .into_bytes()
    }
}

/// General serialisation from its parts.
#[must_use]
pub fn general(payload: &str, entries: &[Value]) -> String {
    json!({ "payload": payload, "signatures": entries }).to_string()
}
