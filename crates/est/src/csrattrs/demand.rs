//! What a server is configured to ask for: written as CSR attributes, and held against requests.

use der::{Decode, Encode, Tag, asn1::ObjectIdentifier};
use pki::Csr;

use super::{
    AttrOrOid, Attribute, CsrAttrs, ExtensionTemplate, KeyRequirement, KeyTemplate, RdnTemplate,
    Template, oids, template,
};
use crate::{Error, server::Refusal, tlv};

/// What the server demands of each request, said once for the answer and for the check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The request must carry the channel binding in challengePassword.
    pub challenge_password: bool,
    /// The key must be of this kind.
    pub key: Option<KeyRequirement>,
    /// The request must be signed by this algorithm.
    pub signature_algorithm: Option<ObjectIdentifier>,
    /// The request must carry these extensions; where a value stands, exactly that value.
    /// Extensions without value can be said in the template only.
    pub extensions: Vec<ExtensionTemplate>,
    /// The RDNs that the subject should have. Said in the template only and not enforced: the
    /// subject of the certificate is the registrar's choice, and older clients know no template.
    pub subject: Vec<Vec<RdnTemplate>>,
    /// Whether the RFC 9908 template is sent beside the list that older clients read.
    pub template: bool,
}

impl Demand {
    /// A subjectAltName with the AcpNodeName of
    /// [RFC 8994 §6.2.2](https://www.rfc-editor.org/rfc/rfc8994.html#section-6.2.2), critical as
    /// in the example of RFC 9908 §5.1.
    ///
    /// # Errors
    /// The name is not ASCII.
    pub fn acp_node_name(name: &str) -> Result<ExtensionTemplate, Error> {
        let text = der::asn1::Ia5StringRef::new(name).map_err(Error::csr_attrs)?;
        let text = tlv::wrap(tlv::context(0), &text.to_der().map_err(Error::csr_attrs)?)
            .map_err(Error::csr_attrs)?;
        let mut other_name = oids::ACP_NODE_NAME.to_der().map_err(Error::csr_attrs)?;
        other_name.extend(text);
        let other_name = tlv::wrap(tlv::context(0), &other_name).map_err(Error::csr_attrs)?;
        Ok(ExtensionTemplate {
            oid: oids::SUBJECT_ALT_NAME,
            critical: true,
            value: Some(tlv::sequence(&[other_name]).map_err(Error::csr_attrs)?),
        })
    }

    /// Whether nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.challenge_password
            && self.key.is_none()
            && self.signature_algorithm.is_none()
            && self.extensions.is_empty()
            && self.subject.is_empty()
    }

    /// The answer to `/csrattrs`.
    ///
    /// # Errors
    /// A value has no encoding, or an extension stands there twice.
    pub fn to_csr_attrs(&self) -> Result<CsrAttrs, Error> {
        let mut items = Vec::new();
        // EST-4.5.2-05: "If an EST server requires the linking of identity and POP information
        // [...], it MUST include the challengePassword OID in the CSR Attributes Response."
        if self.challenge_password {
            items.push(AttrOrOid::Oid(oids::CHALLENGE_PASSWORD));
        }
        // EST-4.5.2-04: "If the CA requires a particular cryptographic algorithm or use of a
        // particular signature scheme [...], it MUST provide that information in the CSR
        // Attribute Response."
        match &self.key {
            // CSRATTRS-3.2-04: "Include exactly one Attribute with the type field being the OID
            // specifying the type of the key".
            Some(KeyRequirement::Ec { curve }) => {
                let values = curve
                    .iter()
                    .map(|curve| curve.to_der())
                    .collect::<Result<_, _>>();
                items.push(AttrOrOid::Attribute(Attribute::new(
                    oids::EC_PUBLIC_KEY,
                    values.map_err(Error::csr_attrs)?,
                )?));
            }
            Some(KeyRequirement::Rsa { bits }) => {
                let values = bits
                    .iter()
                    .map(|bits| bits.to_der())
                    .collect::<Result<_, _>>();
                items.push(AttrOrOid::Attribute(Attribute::new(
                    oids::RSA_ENCRYPTION,
                    values.map_err(Error::csr_attrs)?,
                )?));
            }
            Some(KeyRequirement::Other(oid)) => {
                items.push(AttrOrOid::Attribute(Attribute::new(*oid, Vec::new())?));
            }
            None => {}
        }
        // CSRATTRS-3.2-01 and CSRATTRS-3.2-02: one attribute id-ExtensionReq, its values "a set
        // with exactly one element, and this element MUST be of type Extensions".
        let valued: Vec<_> = self
            .extensions
            .iter()
            .filter(|extension| extension.value.is_some())
            .cloned()
            .collect();
        if !valued.is_empty() {
            items.push(AttrOrOid::Attribute(Attribute::new(
                oids::EXTENSION_REQUEST,
                vec![template::encode_extensions(&valued)?],
            )?));
        }
        items.extend(self.signature_algorithm.map(AttrOrOid::Oid));
        if self.template {
            items.push(AttrOrOid::Attribute(Attribute::new(
                oids::REQUEST_INFO_TEMPLATE,
                vec![self.to_template()?.to_der()?],
            )?));
        }
        Ok(CsrAttrs::new(items))
    }

    fn to_template(&self) -> Result<Template, Error> {
        let key = self
            .key
            .as_ref()
            .map(|key| {
                Ok::<_, Error>(match key {
                    KeyRequirement::Ec { curve } => KeyTemplate {
                        algorithm: oids::EC_PUBLIC_KEY,
                        parameters: curve
                            .map(|curve| curve.to_der())
                            .transpose()
                            .map_err(Error::csr_attrs)?,
                        rsa_bits: None,
                    },
                    KeyRequirement::Rsa { bits } => KeyTemplate {
                        algorithm: oids::RSA_ENCRYPTION,
                        parameters: Some(tlv::wrap(Tag::Null, &[]).map_err(Error::csr_attrs)?),
                        rsa_bits: *bits,
                    },
                    KeyRequirement::Other(oid) => KeyTemplate {
                        algorithm: *oid,
                        parameters: None,
                        rsa_bits: None,
                    },
                })
            })
            .transpose()?;
        let attributes = if self.challenge_password {
            // The values of a template's attribute are for the client to fill in.
            vec![Attribute::new(oids::CHALLENGE_PASSWORD, Vec::new())?]
        } else {
            Vec::new()
        };
        Ok(Template {
            subject: (!self.subject.is_empty()).then(|| self.subject.clone()),
            key,
            extensions: self.extensions.clone(),
            attributes,
        })
    }

    /// Holds a request against the demand.
    ///
    /// BRSKI-5.9-03 and BRSKI-5.9.2-02: "The registrar MUST also confirm that the resulting CSR
    /// is formatted as indicated before forwarding the request to a CA."
    ///
    /// # Errors
    /// The first part of the demand that the request does not meet.
    pub fn check(&self, csr: &Csr) -> Result<(), Refusal> {
        self.check_key(csr)?;
        if let Some(wanted) = self.signature_algorithm {
            let algorithm = x509_cert::request::CertReq::from_der(csr.der())
                .map_err(|_| Refusal::SignatureAlgorithm)?
                .algorithm
                .oid;
            if algorithm != wanted {
                return Err(Refusal::SignatureAlgorithm);
            }
        }
        let requested = csr.extension_request()?;
        for extension in &self.extensions {
            let found = requested
                .iter()
                .find(|found| found.extn_id == extension.oid);
            let meets = found.is_some_and(|found| {
                extension
                    .value
                    .as_ref()
                    .is_none_or(|value| value.as_slice() == found.extn_value.as_bytes())
            });
            if !meets {
                return Err(Refusal::ExtensionMissing(extension.oid));
            }
        }
        if self.challenge_password && csr.challenge_password()?.is_none() {
            return Err(Refusal::ChannelBindingMissing);
        }
        Ok(())
    }

    /// The part of [`Demand::check`] that looks at the key. Left out for server-side key
    /// generation, where the request's key counts for nothing.
    fn check_key(&self, csr: &Csr) -> Result<(), Refusal> {
        let Some(wanted) = &self.key else {
            return Ok(());
        };
        let spki = spki::SubjectPublicKeyInfoRef::try_from(csr.public_key().spki_der())
            .map_err(|_| Refusal::KeyKind)?;
        let meets = match wanted {
            KeyRequirement::Ec { curve } => {
                spki.algorithm.oid == oids::EC_PUBLIC_KEY
                    && curve.is_none_or(|curve| {
                        spki.algorithm
                            .parameters_oid()
                            .is_ok_and(|found| found == curve)
                    })
            }
            KeyRequirement::Rsa { bits } => {
                spki.algorithm.oid == oids::RSA_ENCRYPTION
                    && bits.is_none_or(|bits| {
                        template::rsa_modulus_bits(spki.subject_public_key.raw_bytes())
                            .is_ok_and(|found| found == bits)
                    })
            }
            KeyRequirement::Other(oid) => spki.algorithm.oid == *oid,
        };
        if meets { Ok(()) } else { Err(Refusal::KeyKind) }
    }

    /// The same demand without what server-side key generation makes pointless: the key and the
    /// signature of the request are ignored there.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self {
            key: None,
            signature_algorithm: None,
            ..self.clone()
        }
    }
}
