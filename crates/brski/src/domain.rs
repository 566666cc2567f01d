//! Who a domain is, as decisions see it.

use pki::Certificate;
use serde::{Deserialize, Serialize};

/// SHA-256 over the SubjectPublicKeyInfo of a certificate of a domain.
///
/// Decisions compare this value and never the domainID: a SubjectKeyIdentifier is chosen by
/// whoever writes the certificate, so a stranger can copy the domainID of somebody else's domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainKey([u8; 32]);

impl DomainKey {
    /// The key of a certificate.
    #[must_use]
    pub fn of(certificate: &Certificate) -> Self {
        Self(certificate.public_key().sha256())
    }

    /// From a stored fingerprint.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for DomainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for DomainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DomainKey({self})")
    }
}

impl From<DomainKey> for String {
    fn from(key: DomainKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for DomainKey {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}
