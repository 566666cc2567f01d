//! Conveyed information: what a bootstrap server tells a device to do
//! ([RFC 8572 §3.1](https://www.rfc-editor.org/rfc/rfc8572.html#section-3.1) and
//! [§6](https://www.rfc-editor.org/rfc/rfc8572.html#section-6)).
//!
//! The content is JSON or XML by the YANG module `ietf-sztp-conveyed-info`; around it is CMS:
//! a bare ContentInfo when unsigned, SignedData when signed, EnvelopedData when encrypted. The
//! content's encoding is told by the CMS content type, never by the message that carries it.

mod cms;
mod json;
mod rules;
mod tree;
mod trust_anchor;
mod types;
mod xml;

pub use self::cms::{
    ContentType, ID_CT_SZTP_CONVEYED_INFO_JSON, ID_CT_SZTP_CONVEYED_INFO_XML, Parsed,
    SignedInformation, parse, sign, sign_with, unsigned, unsigned_with,
};
pub(crate) use self::cms::{is_content_type, oddities_of};
pub use self::trust_anchor::TrustAnchor;
pub use self::types::{
    BootImage, BootstrapServer, ConfigurationHandling, ConveyedInformation, HashAlgorithm,
    ImageVerification, OnboardingInformation, RedirectInformation,
};
use crate::Encoding;
pub use crate::enveloped::{encrypt, encrypt_with};
use crate::error::Error;
use crate::tolerances::{Oddity, Tolerances};

/// The YANG module, which qualifies names in JSON.
const MODULE: &str = "ietf-sztp-conveyed-info";
/// Its XML namespace.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info";

impl ConveyedInformation {
    /// Writes the document.
    ///
    /// # Errors
    /// If it breaks a rule of the YANG module.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, Error> {
        self.encode_with(encoding, &Tolerances::strict())
    }

    /// Writes the document for a device that wants the rules broken which `tolerances` names.
    ///
    /// # Errors
    /// If it breaks another rule of the YANG module.
    pub fn encode_with(
        &self,
        encoding: Encoding,
        tolerances: &Tolerances,
    ) -> Result<Vec<u8>, Error> {
        rules::encode(self, encoding, tolerances)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn decode(
        bytes: &[u8],
        encoding: Encoding,
        tolerances: &Tolerances,
    ) -> Result<Self, Error> {
        Self::decode_noting(bytes, encoding, tolerances).map(|(information, _)| information)
    }

    /// Reads a document and tells what was odd about it.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn decode_noting(
        bytes: &[u8],
        encoding: Encoding,
        tolerances: &Tolerances,
    ) -> Result<(Self, Vec<Oddity>), Error> {
        rules::decode(bytes, encoding, tolerances)
    }

    /// `redirect` or `onboarding`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Redirect(_) => "redirect",
            Self::Onboarding(_) => "onboarding",
        }
    }
}
