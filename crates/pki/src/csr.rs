//! PKCS#10 certification requests.

use const_oid::ObjectIdentifier;
use x509_cert::ext::Extension;
use x509_cert::name::Name;

use crate::{Error, PublicKey, SignatureAlgorithm, Signer};

/// A certification request as received. [`Csr::verify`] proves possession of the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Csr {
    der: Vec<u8>,
    public_key: PublicKey,
}

/// One attribute of a request, undecoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CsrAttribute {
    /// The attribute's type.
    pub id: ObjectIdentifier,
    /// Its values, each a DER element.
    pub values: Vec<Vec<u8>>,
}

impl Csr {
    /// Parses a DER request. The proof of possession is not checked yet.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let _ = der;
        todo!()
    }

    /// Parses a PEM request.
    ///
    /// # Errors
    /// If it is malformed or over a limit.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let _ = pem;
        todo!()
    }

    /// The DER as received.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The request as PEM.
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// Verifies the request's signature under its own key.
    ///
    /// # Errors
    /// [`Error::ProofOfPossession`] if it does not verify.
    pub fn verify(&self) -> Result<(), Error> {
        todo!()
    }

    /// The algorithm of the request's signature.
    ///
    /// # Errors
    /// If it is unsupported or does not go with the key.
    pub fn algorithm(&self) -> Result<SignatureAlgorithm, Error> {
        todo!()
    }

    /// The public key asked for.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The subject asked for.
    pub fn subject(&self) -> String {
        todo!()
    }

    /// The decoded subject.
    pub fn subject_name(&self) -> &Name {
        todo!()
    }

    /// The DER of the subject as received.
    pub fn subject_der(&self) -> &[u8] {
        todo!()
    }

    /// The X520SerialNumber attribute of the subject.
    pub fn subject_serial_number(&self) -> Option<String> {
        todo!()
    }

    /// All attributes, known or not, in the order received.
    pub fn attributes(&self) -> &[CsrAttribute] {
        todo!()
    }

    /// The challengePassword attribute.
    ///
    /// # Errors
    /// If it is there but malformed.
    pub fn challenge_password(&self) -> Result<Option<String>, Error> {
        todo!()
    }

    /// The extensions asked for by the extensionRequest attribute.
    ///
    /// # Errors
    /// If it is there but malformed.
    pub fn extension_request(&self) -> Result<Vec<Extension>, Error> {
        todo!()
    }

    /// The DER of the GeneralNames of the subjectAltName asked for.
    ///
    /// # Errors
    /// If the extension request is malformed.
    pub fn subject_alt_name_der(&self) -> Result<Option<Vec<u8>>, Error> {
        todo!()
    }

    /// The dNSNames of the subjectAltName asked for.
    ///
    /// # Errors
    /// If the extension request is malformed.
    pub fn dns_names(&self) -> Result<Vec<String>, Error> {
        todo!()
    }
}

/// Builds a certification request.
#[derive(Clone, Debug, Default)]
pub struct CsrBuilder {
    subject: Name,
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

    /// Starts with a subject in DER, for example the one of an existing certificate.
    ///
    /// # Errors
    /// If it is not a Name.
    pub fn with_subject_der(subject: &[u8]) -> Result<Self, Error> {
        let _ = subject;
        todo!()
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
        let _ = names;
        todo!()
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
        let _ = signer;
        todo!()
    }
}
