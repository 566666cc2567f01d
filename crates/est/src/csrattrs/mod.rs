//! CSR attributes: what an EST server wants to see in a certification request.
//!
//! ```text
//! CsrAttrs  ::= SEQUENCE SIZE (0..MAX) OF AttrOrOID
//! AttrOrOID ::= CHOICE { oid OBJECT IDENTIFIER, attribute Attribute }
//! Attribute ::= SEQUENCE { type OBJECT IDENTIFIER, values SET OF ANY }
//! ```
//!
//! [RFC 8951 §4](https://www.rfc-editor.org/rfc/rfc8951.html#section-4) gives the syntax and
//! [RFC 9908 §3](https://www.rfc-editor.org/rfc/rfc9908.html#section-3) says how values are to be
//! put into it, and adds a [`Template`]. Reading keeps what it does not know; writing goes through
//! [`Demand`], which can only say what RFC 9908 allows.

mod demand;
mod requirements;
mod template;

pub use self::{
    demand::Demand,
    requirements::{KeyRequirement, Requirements, Source},
    template::{ExtensionTemplate, KeyTemplate, RdnTemplate, Template},
};

use der::{Tag, Tagged, asn1::AnyRef, asn1::ObjectIdentifier};

use crate::{Error, tlv};

/// Object identifiers that CSR attributes speak of.
pub mod oids {
    use der::asn1::ObjectIdentifier;

    /// PKCS#9 challengePassword.
    pub const CHALLENGE_PASSWORD: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.7");
    /// PKCS#9 extensionRequest, id-ExtensionReq.
    pub const EXTENSION_REQUEST: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
    /// id-aa-certificationRequestInfoTemplate of RFC 9908.
    ///
    /// The draft text has no number (TBD2). This one is what public code that cites RFC 9908 and
    /// its IANA table uses, among it pyasn1-alt-modules by one of the document's ASN.1 reviewers;
    /// one project used .63 before it corrected itself to .61. Not compared with the registry
    /// itself.
    pub const REQUEST_INFO_TEMPLATE: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.61");
    /// id-aa-extensionReqTemplate of RFC 9908. As sure as [`REQUEST_INFO_TEMPLATE`] (TBD3).
    pub const EXTENSION_REQUEST_TEMPLATE: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.62");
    /// id-ecPublicKey.
    pub const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    /// rsaEncryption.
    pub const RSA_ENCRYPTION: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    /// secp256r1, P-256.
    pub const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    /// secp384r1, P-384.
    pub const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    /// secp521r1, P-521.
    pub const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
    /// Ed25519.
    pub const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    /// ecdsa-with-SHA256.
    pub const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    /// ecdsa-with-SHA384.
    pub const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    /// ecdsa-with-SHA512.
    pub const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
    /// sha256WithRSAEncryption.
    pub const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
    /// sha384WithRSAEncryption.
    pub const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
    /// sha512WithRSAEncryption.
    pub const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
    /// id-RSASSA-PSS.
    pub const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
    /// id-ml-dsa-44.
    pub const ML_DSA_44: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17");
    /// id-ml-dsa-65.
    pub const ML_DSA_65: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
    /// id-ml-dsa-87.
    pub const ML_DSA_87: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19");
    /// X.520 commonName.
    pub const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    /// X.520 serialNumber.
    pub const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
    /// subjectAltName.
    pub const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
    /// keyUsage.
    pub const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
    /// basicConstraints.
    pub const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
    /// extKeyUsage.
    pub const EXT_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
    /// id-on-AcpNodeName of RFC 8994.
    pub const ACP_NODE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.10");
    /// ChangeSubjectName of RFC 6402.
    pub const CHANGE_SUBJECT_NAME: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.7.36");
    /// id-aa-decryptKeyID of RFC 4108.
    pub const DECRYPT_KEY_IDENTIFIER: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.37");
    /// id-aa-asymmDecryptKeyID of RFC 7030.
    pub const ASYMMETRIC_DECRYPT_KEY_IDENTIFIER: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.54");
    /// S/MIME capabilities.
    pub const SMIME_CAPABILITIES: ObjectIdentifier =
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.15");
}

/// Largest DER encoding of CSR attributes that is read.
pub const CSR_ATTRS_SIZE_MAX_BYTES: usize = 32 * 1024;

/// A list of CSR attributes as it stands on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrAttrs {
    items: Vec<AttrOrOid>,
}

/// One element of [`CsrAttrs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttrOrOid {
    /// A type and its values.
    Attribute(Attribute),
    /// A bare object identifier: the server wants to see this, and gives no value.
    Oid(ObjectIdentifier),
    /// A well-formed element whose object identifier cannot be represented here (2.999 in
    /// RFC 7030 appendix A.2), kept as it came. Nobody here knows it, so it is ignored.
    Other(Vec<u8>),
}

/// A type with the values that the server gives for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    oid: ObjectIdentifier,
    values: Vec<Vec<u8>>,
}

impl Attribute {
    /// An attribute; each value is one whole DER encoding.
    ///
    /// # Errors
    /// A value is not exactly one DER encoding.
    pub fn new(oid: ObjectIdentifier, values: Vec<Vec<u8>>) -> Result<Self, Error> {
        for value in &values {
            tlv::one(value).map_err(|_| Error::CsrAttrs("a value is not one DER encoding"))?;
        }
        Ok(Self { oid, values })
    }

    /// The attribute's type.
    #[must_use]
    pub fn oid(&self) -> ObjectIdentifier {
        self.oid
    }

    /// The values, each one whole DER encoding.
    #[must_use]
    pub fn values(&self) -> &[Vec<u8>] {
        &self.values
    }

    fn parse(value: AnyRef<'_>) -> Result<Self, Error> {
        let parts = tlv::children(value).map_err(Error::csr_attrs)?;
        let [oid, set] = parts.as_slice() else {
            return Err(Error::CsrAttrs(
                "an attribute needs a type and a set of values",
            ));
        };
        if set.tag() != Tag::Set {
            return Err(Error::CsrAttrs("the values of an attribute are not a SET"));
        }
        // RFC 9908 §3.2 allows an empty set for a key type, against the SIZE (1..MAX) that it
        // leaves in the syntax, so emptiness is not an error here.
        let values = tlv::children(*set)
            .map_err(Error::csr_attrs)?
            .into_iter()
            .map(|value| tlv::bytes(value).map_err(Error::csr_attrs))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            oid: tlv::oid(*oid).map_err(Error::csr_attrs)?,
            values,
        })
    }

    fn to_der(&self) -> Result<Vec<u8>, Error> {
        let oid = der::Encode::to_der(&self.oid).map_err(Error::csr_attrs)?;
        let set = tlv::set_of(&self.values).map_err(Error::csr_attrs)?;
        tlv::sequence(&[oid, set]).map_err(Error::csr_attrs)
    }
}

impl CsrAttrs {
    /// A list of the given elements.
    #[must_use]
    pub fn new(items: Vec<AttrOrOid>) -> Self {
        Self { items }
    }

    /// Reads the DER form.
    ///
    /// # Errors
    /// The bytes are not a `CsrAttrs`, or larger than [`CSR_ATTRS_SIZE_MAX_BYTES`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > CSR_ATTRS_SIZE_MAX_BYTES {
            return Err(Error::CsrAttrs("larger than the limit"));
        }
        let whole = tlv::one(bytes).map_err(Error::csr_attrs)?;
        if whole.tag() != Tag::Sequence {
            return Err(Error::CsrAttrs("the whole is not a SEQUENCE"));
        }
        let items = tlv::children(whole)
            .map_err(Error::csr_attrs)?
            .into_iter()
            .map(Self::item)
            .collect::<Result<_, _>>()?;
        Ok(Self { items })
    }

    fn item(item: AnyRef<'_>) -> Result<AttrOrOid, Error> {
        let other = || {
            tlv::bytes(item)
                .map(AttrOrOid::Other)
                .map_err(Error::csr_attrs)
        };
        match item.tag() {
            Tag::ObjectIdentifier if tlv::is_unusual_oid(item) => other(),
            Tag::ObjectIdentifier => tlv::oid(item).map(AttrOrOid::Oid).map_err(Error::csr_attrs),
            Tag::Sequence => {
                let parts = tlv::children(item).map_err(Error::csr_attrs)?;
                if let [oid, set] = parts.as_slice()
                    && tlv::is_unusual_oid(*oid)
                    && set.tag() == Tag::Set
                {
                    return other();
                }
                Attribute::parse(item).map(AttrOrOid::Attribute)
            }
            _ => Err(Error::CsrAttrs(
                "an element is neither an OID nor an attribute",
            )),
        }
    }

    /// Writes the DER form.
    ///
    /// # Errors
    /// A value is too long for DER.
    pub fn to_der(&self) -> Result<Vec<u8>, Error> {
        let parts = self
            .items
            .iter()
            .map(|item| match item {
                AttrOrOid::Oid(oid) => der::Encode::to_der(oid).map_err(Error::csr_attrs),
                AttrOrOid::Attribute(attribute) => attribute.to_der(),
                AttrOrOid::Other(der) => Ok(der.clone()),
            })
            .collect::<Result<Vec<_>, _>>()?;
        tlv::sequence(&parts).map_err(Error::csr_attrs)
    }

    /// The elements in their order.
    #[must_use]
    pub fn items(&self) -> &[AttrOrOid] {
        &self.items
    }

    /// Whether the server says nothing, which equals a 204 or 404 answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The first attribute of type `oid`.
    #[must_use]
    pub fn attribute(&self, oid: ObjectIdentifier) -> Option<&Attribute> {
        self.items.iter().find_map(|item| match item {
            AttrOrOid::Attribute(attribute) if attribute.oid == oid => Some(attribute),
            _ => None,
        })
    }

    /// The request template, if the list holds one.
    ///
    /// # Errors
    /// The template is there but breaks RFC 9908 §3.4.
    pub fn template(&self) -> Result<Option<Template>, Error> {
        let Some(attribute) = self.attribute(oids::REQUEST_INFO_TEMPLATE) else {
            return Ok(None);
        };
        let [value] = attribute.values() else {
            return Err(Error::CsrAttrs(
                "a template attribute holds exactly one value",
            ));
        };
        Template::from_der(value).map(Some)
    }

    /// What the list asks of a request, from the template alone if there is one.
    ///
    /// # Errors
    /// A part that this crate knows is malformed. Unknown parts are ignored.
    pub fn requirements(&self) -> Result<Requirements, Error> {
        Requirements::of(self)
    }
}
