//! The partly filled request of
//! [RFC 9908 §3.4](https://www.rfc-editor.org/rfc/rfc9908.html#section-3.4).
//!
//! ```text
//! CertificationRequestInfoTemplate ::= SEQUENCE {
//!     version       INTEGER { v1(0) } (v1, ... ),
//!     subject       NameTemplate OPTIONAL,
//!     subjectPKInfo [0] SubjectPublicKeyInfoTemplate OPTIONAL,
//!     attributes    [1] Attributes }
//! SingleAttributeTemplate ::= SEQUENCE { type OBJECT IDENTIFIER, value ANY OPTIONAL }
//! ExtensionTemplate ::= SEQUENCE {
//!     extnID OBJECT IDENTIFIER, critical BOOLEAN DEFAULT FALSE, extnValue OCTET STRING OPTIONAL }
//! ```
//!
//! Tags are IMPLICIT, as in the example of that section.

use der::{
    Encode, Tag, Tagged,
    asn1::{AnyRef, ObjectIdentifier},
};

use super::{Attribute, oids};
use crate::{Error, tlv};

/// A partly filled certification request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// The subject's RDNs, each a set of types with or without value. `None`: no requirement.
    pub subject: Option<Vec<Vec<RdnTemplate>>>,
    /// The key that is wanted. `None`: no requirement.
    pub key: Option<KeyTemplate>,
    /// Extensions that are wanted, with or without value.
    pub extensions: Vec<ExtensionTemplate>,
    /// Further attributes of the request.
    pub attributes: Vec<Attribute>,
}

/// One attribute of the subject's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RdnTemplate {
    /// The attribute's type, for example commonName.
    pub oid: ObjectIdentifier,
    /// The DER encoding to use, or `None` where the client is to fill in its own.
    pub value: Option<Vec<u8>>,
}

/// The kind of key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    /// The key's algorithm.
    pub algorithm: ObjectIdentifier,
    /// The DER encoding of the algorithm's parameters, for example the curve.
    pub parameters: Option<Vec<u8>>,
    /// For RSA the wanted length of the modulus.
    pub rsa_bits: Option<u32>,
}

/// One wanted extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionTemplate {
    /// The extension's type.
    pub oid: ObjectIdentifier,
    /// Whether it is to be marked critical.
    pub critical: bool,
    /// The content of extnValue to use, or `None` where the client is to fill in its own.
    pub value: Option<Vec<u8>>,
}

impl Template {
    /// Reads the DER form.
    ///
    /// # Errors
    /// The bytes are not a template or break a MUST of RFC 9908 §3.4.
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        let whole = tlv::one(bytes).map_err(Error::csr_attrs)?;
        if whole.tag() != Tag::Sequence {
            return Err(Error::CsrAttrs("the template is not a SEQUENCE"));
        }
        let parts = tlv::children(whole).map_err(Error::csr_attrs)?;
        let mut parts = parts.into_iter().peekable();
        // CSRATTRS-3.4-02: "The 'version' field of the CertificationRequestInfoTemplate MUST
        // contain v1 (0)."
        let version = parts.next().map(|version| (version.tag(), version.value()));
        if version != Some((Tag::Integer, &[0])) {
            return Err(Error::CsrAttrs("the template's version is not v1"));
        }
        let mut template = Self::default();
        if let Some(subject) = parts.next_if(|part| part.tag() == Tag::Sequence) {
            template.subject = Some(parse_subject(subject)?);
        }
        if let Some(key) = parts.next_if(|part| part.tag() == tlv::context(0)) {
            template.key = Some(KeyTemplate::parse(key)?);
        }
        // Without any attribute the set is empty and still there.
        let Some(attributes) = parts.next_if(|part| part.tag() == tlv::context(1)) else {
            return Err(Error::CsrAttrs("the template has no attributes field"));
        };
        if parts.next().is_some() {
            return Err(Error::CsrAttrs("the template has a part too many"));
        }
        let mut extension_attributes = 0;
        for value in tlv::children(attributes).map_err(Error::csr_attrs)? {
            let attribute = Attribute::parse(value)?;
            if ![oids::EXTENSION_REQUEST, oids::EXTENSION_REQUEST_TEMPLATE]
                .contains(&attribute.oid())
            {
                template.attributes.push(attribute);
                continue;
            }
            extension_attributes += 1;
            let [extensions] = attribute.values() else {
                return Err(Error::CsrAttrs("extensions are not exactly one value"));
            };
            template.extensions = parse_extensions(extensions)?;
            if attribute.oid() == oids::EXTENSION_REQUEST
                && template
                    .extensions
                    .iter()
                    .any(|extension| extension.value.is_none())
            {
                return Err(Error::CsrAttrs(
                    "an extensionRequest has an extension without value",
                ));
            }
        }
        // CSRATTRS-3.4-03: "The 'attributes' field MUST NOT contain multiple
        // id-aa-extensionReqTemplate attributes and MUST NOT contain both id-ExtensionReq and
        // id-aa-extensionReqTemplate attributes."
        if extension_attributes > 1 {
            return Err(Error::CsrAttrs("the template asks for extensions twice"));
        }
        Ok(template)
    }

    /// Writes the DER form. Extensions go out as id-ExtensionReq when each has its value, else as
    /// id-aa-extensionReqTemplate.
    ///
    /// # Errors
    /// A value is too long for DER, or an extension is named twice.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        let mut parts = vec![tlv::wrap(Tag::Integer, &[0]).map_err(Error::csr_attrs)?];
        // CSRATTRS-3.4-04: the subject "MUST be present if the server places any requirements on
        // the RDNs of the subject name; otherwise, it MUST be absent."
        if let Some(subject) = self.subject.as_ref().filter(|subject| !subject.is_empty()) {
            parts.push(encode_subject(subject)?);
        }
        // CSRATTRS-3.4-05: "The field MUST be absent if the server places no requirements on the
        // key."
        if let Some(key) = &self.key {
            parts.push(key.to_der()?);
        }
        let mut attributes = self
            .attributes
            .iter()
            .map(Attribute::to_der)
            .collect::<Result<Vec<_>, _>>()?;
        if !self.extensions.is_empty() {
            let whole = self
                .extensions
                .iter()
                .all(|extension| extension.value.is_some());
            let oid = if whole {
                oids::EXTENSION_REQUEST
            } else {
                oids::EXTENSION_REQUEST_TEMPLATE
            };
            attributes
                .push(Attribute::new(oid, vec![encode_extensions(&self.extensions)?])?.to_der()?);
        }
        attributes.sort();
        parts.push(tlv::wrap(tlv::context(1), &attributes.concat()).map_err(Error::csr_attrs)?);
        tlv::sequence(&parts).map_err(Error::csr_attrs)
    }
}

impl KeyTemplate {
    fn parse(value: AnyRef<'_>) -> Result<Self, Error> {
        let parts = tlv::children(value).map_err(Error::csr_attrs)?;
        let (algorithm, placeholder) = match parts.as_slice() {
            [algorithm] => (*algorithm, None),
            [algorithm, key] if key.tag() == Tag::BitString => (*algorithm, Some(*key)),
            _ => return Err(Error::CsrAttrs("the key template is malformed")),
        };
        if algorithm.tag() != Tag::Sequence {
            return Err(Error::CsrAttrs("the key template has no algorithm"));
        }
        let (oid, parameters) = match tlv::children(algorithm)
            .map_err(Error::csr_attrs)?
            .as_slice()
        {
            [oid] => (*oid, None),
            [oid, parameters] => (
                *oid,
                Some(tlv::bytes(*parameters).map_err(Error::csr_attrs)?),
            ),
            _ => return Err(Error::CsrAttrs("the key template's algorithm is malformed")),
        };
        let algorithm = tlv::oid(oid).map_err(Error::csr_attrs)?;
        let rsa_bits = match placeholder {
            Some(key) if algorithm == oids::RSA_ENCRYPTION => Some(rsa_bits(key)?),
            // CSRATTRS-3.4-05: "Otherwise, the subjectPublicKey MUST be absent."
            Some(_) => {
                return Err(Error::CsrAttrs(
                    "a placeholder key for another type than RSA",
                ));
            }
            None => None,
        };
        Ok(Self {
            algorithm,
            parameters,
            rsa_bits,
        })
    }

    fn to_der(&self) -> Result<Vec<u8>, Error> {
        let mut algorithm = vec![self.algorithm.to_der().map_err(Error::csr_attrs)?];
        algorithm.extend(self.parameters.clone());
        let mut content = tlv::sequence(&algorithm).map_err(Error::csr_attrs)?;
        if let Some(bits) = self.rsa_bits {
            content.extend(rsa_placeholder(bits)?);
        }
        tlv::wrap(tlv::context(0), &content).map_err(Error::csr_attrs)
    }
}

/// Reads how long the modulus of a placeholder RSA key is.
fn rsa_bits(key: AnyRef<'_>) -> Result<u32, Error> {
    match key.value() {
        [0, key @ ..] => rsa_modulus_bits(key),
        _ => Err(Error::CsrAttrs("the placeholder is not an RSA key")),
    }
}

/// Reads how long the modulus of an `RSAPublicKey` is.
pub(super) fn rsa_modulus_bits(key: &[u8]) -> Result<u32, Error> {
    let malformed = || Error::CsrAttrs("not an RSA key");
    let parts = tlv::one(key)
        .and_then(tlv::children)
        .map_err(Error::csr_attrs)?;
    let Some(modulus) = parts.first().filter(|part| part.tag() == Tag::Integer) else {
        return Err(malformed());
    };
    let digits: &[u8] = match modulus.value() {
        [0, digits @ ..] => digits,
        digits => digits,
    };
    let Some(first) = digits.first() else {
        return Err(malformed());
    };
    let bits = u32::try_from(digits.len())
        .map_err(|_| malformed())?
        .saturating_mul(8);
    bits.checked_sub(first.leading_zeros())
        .ok_or_else(malformed)
}

/// A BIT STRING with an RSA key of the given size whose modulus is a power of two plus one: large
/// enough to say the length, and no key anyone could take for a real one.
fn rsa_placeholder(bits: u32) -> Result<Vec<u8>, Error> {
    const RSA_BITS_MAX: u32 = 16_384;
    if !(512..=RSA_BITS_MAX).contains(&bits) || !bits.is_multiple_of(8) {
        return Err(Error::CsrAttrs("an RSA size out of range"));
    }
    let length =
        usize::try_from(bits / 8).map_err(|_| Error::CsrAttrs("an RSA size out of range"))?;
    let mut modulus = vec![0x00, 0x80];
    modulus.resize(length, 0x00);
    modulus.push(0x01);
    let modulus = tlv::wrap(Tag::Integer, &modulus).map_err(Error::csr_attrs)?;
    let exponent = tlv::wrap(Tag::Integer, &[0x01, 0x00, 0x01]).map_err(Error::csr_attrs)?;
    let key = tlv::sequence(&[modulus, exponent]).map_err(Error::csr_attrs)?;
    let mut content = vec![0x00];
    content.extend(key);
    tlv::wrap(Tag::BitString, &content).map_err(Error::csr_attrs)
}

fn parse_subject(value: AnyRef<'_>) -> Result<Vec<Vec<RdnTemplate>>, Error> {
    let mut subject = Vec::new();
    for rdn in tlv::children(value).map_err(Error::csr_attrs)? {
        if rdn.tag() != Tag::Set {
            return Err(Error::CsrAttrs("an RDN of the template is not a SET"));
        }
        let singles = tlv::children(rdn)
            .map_err(Error::csr_attrs)?
            .into_iter()
            .map(|single| {
                if single.tag() != Tag::Sequence {
                    return Err(Error::CsrAttrs("an RDN of the template is malformed"));
                }
                match tlv::children(single).map_err(Error::csr_attrs)?.as_slice() {
                    [oid] => Ok(RdnTemplate {
                        oid: tlv::oid(*oid).map_err(Error::csr_attrs)?,
                        value: None,
                    }),
                    [oid, value] => Ok(RdnTemplate {
                        oid: tlv::oid(*oid).map_err(Error::csr_attrs)?,
                        value: Some(tlv::bytes(*value).map_err(Error::csr_attrs)?),
                    }),
                    _ => Err(Error::CsrAttrs("an RDN of the template is malformed")),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if singles.is_empty() {
            return Err(Error::CsrAttrs("an RDN of the template is empty"));
        }
        subject.push(singles);
    }
    Ok(subject)
}

fn encode_subject(subject: &[Vec<RdnTemplate>]) -> Result<Vec<u8>, Error> {
    let rdns = subject
        .iter()
        .map(|rdn| {
            let singles = rdn
                .iter()
                .map(|single| {
                    let mut parts = vec![single.oid.to_der().map_err(Error::csr_attrs)?];
                    parts.extend(single.value.clone());
                    tlv::sequence(&parts).map_err(Error::csr_attrs)
                })
                .collect::<Result<Vec<_>, _>>()?;
            tlv::set_of(&singles).map_err(Error::csr_attrs)
        })
        .collect::<Result<Vec<_>, _>>()?;
    tlv::sequence(&rdns).map_err(Error::csr_attrs)
}

/// Reads `Extensions` or `SEQUENCE OF ExtensionTemplate`.
pub(super) fn parse_extensions(bytes: &[u8]) -> Result<Vec<ExtensionTemplate>, Error> {
    let whole = tlv::one(bytes).map_err(Error::csr_attrs)?;
    if whole.tag() != Tag::Sequence {
        return Err(Error::CsrAttrs("extensions are not a SEQUENCE"));
    }
    let mut extensions: Vec<ExtensionTemplate> = Vec::new();
    for extension in tlv::children(whole).map_err(Error::csr_attrs)? {
        if extension.tag() != Tag::Sequence {
            return Err(Error::CsrAttrs("an extension is not a SEQUENCE"));
        }
        let parts = tlv::children(extension).map_err(Error::csr_attrs)?;
        let mut parts = parts.into_iter().peekable();
        let Some(oid) = parts.next() else {
            return Err(Error::CsrAttrs("an extension has no type"));
        };
        let oid = tlv::oid(oid).map_err(Error::csr_attrs)?;
        let critical = match parts.next_if(|part| part.tag() == Tag::Boolean) {
            Some(critical) => critical.decode_as::<bool>().map_err(Error::csr_attrs)?,
            None => false,
        };
        let value = parts
            .next_if(|part| part.tag() == Tag::OctetString)
            .map(|value| value.value().to_vec());
        if parts.next().is_some() {
            return Err(Error::CsrAttrs("an extension has a part too many"));
        }
        // CSRATTRS-3.2-03: "An Extensions structure [...] MUST NOT include more than one element
        // with a particular extnID."
        if extensions.iter().any(|known| known.oid == oid) {
            return Err(Error::CsrAttrs("an extension stands there twice"));
        }
        extensions.push(ExtensionTemplate {
            oid,
            critical,
            value,
        });
    }
    Ok(extensions)
}

/// Writes `Extensions` or `SEQUENCE OF ExtensionTemplate`.
pub(super) fn encode_extensions(extensions: &[ExtensionTemplate]) -> Result<Vec<u8>, Error> {
    let mut parts = Vec::new();
    for (index, extension) in extensions.iter().enumerate() {
        if extensions
            .iter()
            .skip(index + 1)
            .any(|other| other.oid == extension.oid)
        {
            return Err(Error::CsrAttrs("an extension stands there twice"));
        }
        let mut fields = vec![extension.oid.to_der().map_err(Error::csr_attrs)?];
        if extension.critical {
            fields.push(tlv::wrap(Tag::Boolean, &[0xff]).map_err(Error::csr_attrs)?);
        }
        if let Some(value) = &extension.value {
            fields.push(tlv::wrap(Tag::OctetString, value).map_err(Error::csr_attrs)?);
        }
        parts.push(tlv::sequence(&fields).map_err(Error::csr_attrs)?);
    }
    tlv::sequence(&parts).map_err(Error::csr_attrs)
}
