//! What a list of CSR attributes asks for, read by the side that is to follow it.

use der::{Decode, Tag, Tagged, asn1::ObjectIdentifier};

use super::{AttrOrOid, Attribute, CsrAttrs, ExtensionTemplate, RdnTemplate, oids, template};
use crate::{Error, tlv};

/// Where [`Requirements`] were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The unstructured list of RFC 7030.
    List,
    /// The template of RFC 9908.
    Template,
}

/// The kind of key that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRequirement {
    /// An elliptic curve key, on this curve if one is named.
    Ec {
        /// The curve.
        curve: Option<ObjectIdentifier>,
    },
    /// Another type by its own identifier, for example Ed25519 or ML-DSA.
    Other(ObjectIdentifier),
    /// An RSA key, of this size if one is named.
    Rsa {
        /// Bits of the modulus.
        bits: Option<u32>,
    },
}

/// What the server asks of a request. Elements that this crate does not know are in
/// [`Requirements::unknown`] and otherwise ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Which of the two forms was used.
    pub source: Source,
    /// The request is to carry the channel binding in challengePassword.
    pub challenge_password: bool,
    /// The key asked for.
    pub key: Option<KeyRequirement>,
    /// The algorithm of the request's own signature.
    pub signature_algorithm: Option<ObjectIdentifier>,
    /// RDNs of the subject, with or without value. From a template only.
    pub subject: Vec<Vec<RdnTemplate>>,
    /// Extensions, with or without value.
    pub extensions: Vec<ExtensionTemplate>,
    /// Whatever else was named.
    pub unknown: Vec<ObjectIdentifier>,
}

const KEY_TYPES: [ObjectIdentifier; 6] = [
    oids::EC_PUBLIC_KEY,
    oids::RSA_ENCRYPTION,
    oids::ED25519,
    oids::ML_DSA_44,
    oids::ML_DSA_65,
    oids::ML_DSA_87,
];

const SIGNATURE_ALGORITHMS: [ObjectIdentifier; 7] = [
    oids::ECDSA_SHA256,
    oids::ECDSA_SHA384,
    oids::ECDSA_SHA512,
    oids::RSA_SHA256,
    oids::RSA_SHA384,
    oids::RSA_SHA512,
    oids::RSA_PSS,
];

impl Requirements {
    /// Nothing is asked for.
    #[must_use]
    pub fn none() -> Self {
        Self {
            source: Source::List,
            challenge_password: false,
            key: None,
            signature_algorithm: None,
            subject: Vec::new(),
            extensions: Vec::new(),
            unknown: Vec::new(),
        }
    }

    pub(super) fn of(list: &CsrAttrs) -> Result<Self, Error> {
        // CSRATTRS-3.4-01: "Clients which understand both MUST use the template only, and ignore
        // all other CSRattrs elements."
        if let Some(template) = list.template()? {
            let mut requirements = Self {
                source: Source::Template,
                subject: template.subject.unwrap_or_default(),
                extensions: template.extensions,
                ..Self::none()
            };
            if let Some(key) = template.key {
                requirements.key = Some(match key.algorithm {
                    oids::EC_PUBLIC_KEY => KeyRequirement::Ec {
                        curve: key.parameters.as_deref().and_then(curve),
                    },
                    oids::RSA_ENCRYPTION => KeyRequirement::Rsa { bits: key.rsa_bits },
                    other => KeyRequirement::Other(other),
                });
            }
            for attribute in &template.attributes {
                requirements.add(attribute.oid());
            }
            return Ok(requirements);
        }
        let mut requirements = Self::none();
        for item in list.items() {
            match item {
                AttrOrOid::Oid(oid) => requirements.add(*oid),
                AttrOrOid::Attribute(attribute) => requirements.add_attribute(attribute)?,
                AttrOrOid::Other(_) => {}
            }
        }
        Ok(requirements)
    }

    fn add(&mut self, oid: ObjectIdentifier) {
        if oid == oids::CHALLENGE_PASSWORD {
            self.challenge_password = true;
        } else if SIGNATURE_ALGORITHMS.contains(&oid) {
            self.signature_algorithm.get_or_insert(oid);
        } else if KEY_TYPES.contains(&oid) {
            // The identifier of an EdDSA or ML-DSA key is that of its signature too.
            self.key.get_or_insert(match oid {
                oids::EC_PUBLIC_KEY => KeyRequirement::Ec { curve: None },
                oids::RSA_ENCRYPTION => KeyRequirement::Rsa { bits: None },
                other => KeyRequirement::Other(other),
            });
        } else {
            // EST-4.5.2-03: "The client MUST ignore any OID or attribute it does not recognize."
            self.unknown.push(oid);
        }
    }

    fn add_attribute(&mut self, attribute: &Attribute) -> Result<(), Error> {
        match attribute.oid() {
            oids::EXTENSION_REQUEST => {
                for value in attribute.values() {
                    // RFC 7030 and RFC 8951 print an example with a bare OID in this place, which
                    // RFC 9908 §5.2 calls wrong. It gives no value to use, so it is passed over.
                    let is_oid =
                        tlv::one(value).is_ok_and(|value| value.tag() == Tag::ObjectIdentifier);
                    if is_oid {
                        self.unknown.extend(tlv::one(value).and_then(tlv::oid).ok());
                        continue;
                    }
                    for extension in template::parse_extensions(value)? {
                        if extension.value.is_none() {
                            return Err(Error::CsrAttrs("a requested extension has no value"));
                        }
                        if !self
                            .extensions
                            .iter()
                            .any(|known| known.oid == extension.oid)
                        {
                            self.extensions.push(extension);
                        }
                    }
                }
            }
            oids::EC_PUBLIC_KEY => {
                let curve = attribute.values().iter().find_map(|value| curve(value));
                self.key.get_or_insert(KeyRequirement::Ec { curve });
            }
            oids::RSA_ENCRYPTION => {
                let bits = attribute
                    .values()
                    .iter()
                    .find_map(|value| u32::from_der(value).ok());
                self.key.get_or_insert(KeyRequirement::Rsa { bits });
            }
            other => self.add(other),
        }
        Ok(())
    }
}

fn curve(parameters: &[u8]) -> Option<ObjectIdentifier> {
    ObjectIdentifier::from_der(parameters).ok()
}
