//! PKCS#10 certification requests (RFC 2986).

use std::sync::Arc;

use const_oid::ObjectIdentifier;
use der::{Decode as _, Encode as _};
use x509_cert::ext::Extension;
use x509_cert::name::Name;

use crate::algorithm::{Identifier, Scheme};
use crate::limits::{ATTRIBUTES_MAX, CSR_SIZE_MAX_BYTES};
use crate::tlv::{self, Reader};
use crate::{Document, Error, PublicKey, SignatureAlgorithm, Signer, names, oid, pem};

/// A certification request as received. Cheap to clone. [`Csr::verify`] proves possession of the
/// key.
#[derive(Clone)]
pub struct Csr(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    info: Vec<u8>,
    subject_der: Vec<u8>,
    subject: Name,
    public_key: PublicKey,
    attributes: Vec<CsrAttribute>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

/// One attribute of a request, undecoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CsrAttribute {
    /// The attribute's type.
    pub id: ObjectIdentifier,
    /// Its values, each a DER element.
    pub values: Vec<Vec<u8>>,
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::malformed(Document::Csr, error)
}

impl Csr {
    /// Parses a DER request. The proof of possession is not checked yet.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > CSR_SIZE_MAX_BYTES {
            return Err(Error::LimitExceeded {
                document: Document::Csr,
                what: "octets",
                limit: CSR_SIZE_MAX_BYTES,
            });
        }
        let mut file = Reader::der(der);
        let mut outer = file.enter(tlv::SEQUENCE).map_err(malformed)?;
        file.finish().map_err(malformed)?;
        let info = outer.expect(tlv::SEQUENCE).map_err(malformed)?;
        let algorithm = outer.expect(tlv::SEQUENCE).map_err(malformed)?.raw.to_vec();
        let signature = outer.bit_string().map_err(malformed)?.to_vec();
        let mut fields = outer.inside(&info).map_err(malformed)?;
        outer.finish().map_err(malformed)?;

        // RFC 2986 §4.1: version "shall be 0 for this version of the standard".
        if fields.small_integer().map_err(malformed)? != 0 {
            return Err(malformed("version is not 0"));
        }
        let subject_der = fields
            .expect(tlv::SEQUENCE)
            .map_err(malformed)?
            .raw
            .to_vec();
        let subject = Name::from_der(&subject_der).map_err(malformed)?;
        let spki = fields.expect(tlv::SEQUENCE).map_err(malformed)?;
        let public_key = PublicKey::from_spki_der(spki.raw)?;
        // The attributes are not OPTIONAL, but some encoders leave an empty set out.
        let attributes = match fields.optional(0xa0).map_err(malformed)? {
            Some(set) => read_attributes(fields.inside(&set).map_err(malformed)?)?,
            None => Vec::new(),
        };
        fields.finish().map_err(malformed)?;
        Ok(Self(Arc::new(Inner {
            der: der.to_vec(),
            info: info.raw.to_vec(),
            subject_der,
            subject,
            public_key,
            attributes,
            algorithm,
            signature,
        })))
    }

    /// Parses a PEM request.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        for block in pem::blocks(pem) {
            let block = block?;
            if matches!(
                block.label,
                "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST"
            ) {
                return Self::from_der(&block.der);
            }
        }
        Err(Error::malformed(
            Document::Pem,
            "there is no certification request in it",
        ))
    }

    /// The DER as received.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The request as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE REQUEST", &self.0.der)
    }

    /// Verifies the request's signature under its own key.
    ///
    /// # Errors
    /// [`Error::ProofOfPossession`] if it does not verify.
    pub fn verify(&self) -> Result<(), Error> {
        self.verify_proof(false)
    }

    /// As [`Self::verify`], SHA-1 and short RSA included. Only behind an operator's named switch.
    ///
    /// # Errors
    /// [`Error::ProofOfPossession`] if it does not verify.
    pub fn verify_legacy(&self) -> Result<(), Error> {
        self.verify_proof(true)
    }

    fn verify_proof(&self, allow_legacy: bool) -> Result<(), Error> {
        let scheme = self.scheme()?;
        let inner = &self.0;
        inner
            .public_key
            .verify_scheme(scheme, &inner.info, &inner.signature, allow_legacy)
            .or_else(|error| match error {
                Error::SignatureInvalid(_) if defects::seeded!("est-skips-possession") => Ok(()),
                Error::SignatureInvalid(_) => Err(Error::ProofOfPossession),
                other => Err(other),
            })
    }

    /// The algorithm of the request's signature.
    ///
    /// # Errors
    /// If it is unsupported or does not go with the key.
    pub fn algorithm(&self) -> Result<SignatureAlgorithm, Error> {
        Ok(self.scheme()?.algorithm)
    }

    fn scheme(&self) -> Result<Scheme, Error> {
        let identifier = Identifier::from_der(&self.0.algorithm).map_err(malformed)?;
        Scheme::read(&identifier, &self.0.public_key).map_err(|error| match error {
            Error::CmsPssParameters => malformed("RSASSA-PSS parameters are missing"),
            other => other,
        })
    }

    /// The public key asked for.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The subject asked for.
    pub fn subject(&self) -> String {
        self.0.subject.to_string()
    }

    /// The decoded subject.
    pub fn subject_name(&self) -> &Name {
        &self.0.subject
    }

    /// The DER of the subject as received.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject_der
    }

    /// The X520SerialNumber attribute of the subject.
    pub fn subject_serial_number(&self) -> Option<String> {
        names::serial_number(&self.0.subject_der)
    }

    /// All attributes, known or not, in the order received.
    pub fn attributes(&self) -> &[CsrAttribute] {
        &self.0.attributes
    }

    /// The challengePassword attribute.
    ///
    /// # Errors
    /// If it is there but malformed.
    pub fn challenge_password(&self) -> Result<Option<String>, Error> {
        let Some(value) = self.single_value(oid::CHALLENGE_PASSWORD)? else {
            return Ok(None);
        };
        let mut reader = Reader::der(value);
        let text = reader.any().map_err(malformed)?;
        reader.finish().map_err(malformed)?;
        let text = tlv::text(&text).ok_or_else(|| malformed("challengePassword is no string"))?;
        Ok(Some(text))
    }

    /// The extensions asked for by the extensionRequest attribute.
    ///
    /// # Errors
    /// If it is there but malformed.
    pub fn extension_request(&self) -> Result<Vec<Extension>, Error> {
        let Some(value) = self.single_value(oid::EXTENSION_REQUEST)? else {
            return Ok(vec![]);
        };
        let extensions = Vec::<Extension>::from_der(value)
            .map_err(|error| malformed(format!("extensionRequest: {error}")))?;
        for (index, extension) in extensions.iter().enumerate() {
            if extensions
                .iter()
                .skip(index + 1)
                .any(|other| other.extn_id == extension.extn_id)
            {
                return Err(malformed(format!(
                    "extension {} is asked for twice",
                    extension.extn_id
                )));
            }
        }
        Ok(extensions)
    }

    /// The DER of the GeneralNames of the subjectAltName asked for.
    ///
    /// # Errors
    /// If the extension request is malformed.
    pub fn subject_alt_name_der(&self) -> Result<Option<Vec<u8>>, Error> {
        let extensions = self.extension_request()?;
        let found = extensions
            .iter()
            .find(|extension| extension.extn_id == oid::SUBJECT_ALT_NAME);
        Ok(found.map(|extension| extension.extn_value.as_bytes().to_vec()))
    }

    /// The dNSNames of the subjectAltName asked for.
    ///
    /// # Errors
    /// If the extension request is malformed.
    pub fn dns_names(&self) -> Result<Vec<String>, Error> {
        let names = self.subject_alt_name_der()?;
        Ok(names.map(|der| names::dns_names(&der)).unwrap_or_default())
    }

    /// The one value of an attribute that may be there once, with one value.
    fn single_value(&self, id: ObjectIdentifier) -> Result<Option<&[u8]>, Error> {
        let mut found = self
            .0
            .attributes
            .iter()
            .filter(|attribute| attribute.id == id);
        let Some(attribute) = found.next() else {
            return Ok(None);
        };
        match (attribute.values.as_slice(), found.next()) {
            ([value], None) => Ok(Some(value)),
            _ => Err(malformed(format!("attribute {id} has several values"))),
        }
    }
}

fn read_attributes(mut set: Reader<'_, '_>) -> Result<Vec<CsrAttribute>, Error> {
    let over = || Error::LimitExceeded {
        document: Document::Csr,
        what: "attributes",
        limit: ATTRIBUTES_MAX,
    };
    let mut attributes = Vec::new();
    while !set.is_empty() {
        if attributes.len() == ATTRIBUTES_MAX {
            return Err(over());
        }
        let mut fields = set.enter(tlv::SEQUENCE).map_err(malformed)?;
        let id = fields.oid().map_err(malformed)?;
        let mut members = fields.enter(tlv::SET).map_err(malformed)?;
        fields.finish().map_err(malformed)?;
        let mut values = Vec::new();
        while !members.is_empty() {
            if values.len() == ATTRIBUTES_MAX {
                return Err(over());
            }
            values.push(members.any().map_err(malformed)?.raw.to_vec());
        }
        attributes.push(CsrAttribute { id, values });
    }
    Ok(attributes)
}

impl PartialEq for Csr {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Csr {}

impl std::fmt::Debug for Csr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Csr({})", self.subject())
    }
}

/// Builds a certification request.
#[derive(Clone, Debug, Default)]
pub struct CsrBuilder {
    subject: Name,
    /// Comes before `subject`.
    subject_der: Option<Vec<u8>>,
    challenge_password: Option<String>,
    extensions: Vec<Extension>,
    attributes: Vec<CsrAttribute>,
}

impl CsrBuilder {
    /// Starts with a subject, possibly empty.
    pub fn new(subject: Name) -> Self {
        Self {
            subject,
            ..Self::default()
        }
    }

    /// Starts with a subject in DER, for example the one of an existing certificate. It is used
    /// octet for octet.
    ///
    /// # Errors
    /// If it is not a Name.
    pub fn with_subject_der(subject: &[u8]) -> Result<Self, Error> {
        Name::from_der(subject).map_err(|error| Error::Encoding(error.to_string()))?;
        Ok(Self {
            subject_der: Some(subject.to_vec()),
            ..Self::default()
        })
    }

    /// Adds a challengePassword.
    #[must_use]
    pub fn challenge_password(mut self, password: impl Into<String>) -> Self {
        self.challenge_password = Some(password.into());
        self
    }

    /// Asks for an extension.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Asks for dNSNames in the subjectAltName.
    ///
    /// # Errors
    /// If a name is not an IA5String.
    pub fn dns_names<S: AsRef<str>>(self, names: &[S]) -> Result<Self, Error> {
        if let Some(name) = names.iter().find(|name| !name.as_ref().is_ascii()) {
            return Err(Error::Encoding(format!("{:?} as dNSName", name.as_ref())));
        }
        let value = der::asn1::OctetString::new(names::encode_dns_names(names))
            .map_err(|error| Error::Encoding(error.to_string()))?;
        let extension = Extension {
            extn_id: oid::SUBJECT_ALT_NAME,
            critical: false,
            extn_value: value,
        };
        Ok(self.extension(extension))
    }

    /// Adds any other attribute.
    #[must_use]
    pub fn attribute(mut self, attribute: CsrAttribute) -> Self {
        self.attributes.push(attribute);
        self
    }

    /// Signs the request with the key that it asks a certificate for.
    ///
    /// # Errors
    /// If encoding or signing fails.
    pub fn sign(&self, signer: &dyn Signer) -> Result<Csr, Error> {
        let mut attributes = Vec::new();
        if let Some(password) = &self.challenge_password {
            // RFC 2985 §5.4.1: PrintableString where it is possible, UTF8String otherwise.
            let printable = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
            let tag = if password.chars().all(printable) {
                tlv::PRINTABLE_STRING
            } else {
                tlv::UTF8_STRING
            };
            let value = tlv::element(tag, &[password.as_bytes()]);
            attributes.push(encode_attribute(oid::CHALLENGE_PASSWORD, vec![value]));
        }
        if !self.extensions.is_empty() {
            let value = self
                .extensions
                .to_der()
                .map_err(|error| Error::Encoding(error.to_string()))?;
            attributes.push(encode_attribute(oid::EXTENSION_REQUEST, vec![value]));
        }
        for attribute in &self.attributes {
            attributes.push(encode_attribute(attribute.id, attribute.values.clone()));
        }
        let subject = match &self.subject_der {
            Some(der) => der.clone(),
            None => self
                .subject
                .to_der()
                .map_err(|error| Error::Encoding(error.to_string()))?,
        };
        let info = tlv::element(
            tlv::SEQUENCE,
            &[
                &[tlv::INTEGER, 1, 0],
                &subject,
                signer.public_key().spki_der(),
                &tlv::set_of(0xa0, attributes),
            ],
        );
        let signature = signer.sign(&info)?;
        let der = tlv::element(
            tlv::SEQUENCE,
            &[
                &info,
                signer.algorithm().identifier_der(),
                &tlv::element(tlv::BIT_STRING, &[&[0], &signature]),
            ],
        );
        Csr::from_der(&der)
    }
}

fn encode_attribute(id: ObjectIdentifier, values: Vec<Vec<u8>>) -> Vec<u8> {
    tlv::element(
        tlv::SEQUENCE,
        &[&tlv::encode_oid(id), &tlv::set_of(tlv::SET, values)],
    )
}
