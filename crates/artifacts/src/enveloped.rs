//! Encrypted artefacts: EnvelopedData around the unencrypted form, to the key of the device's
//! identity certificate
//! ([RFC 8572 §3.4](https://www.rfc-editor.org/rfc/rfc8572.html#section-3.4)).

use pki::cms::{self, EnvelopOptions, EnvelopedData, ID_DATA, ID_ENVELOPED_DATA, ID_SIGNED_DATA};
use pki::{Certificate, Decryptor, ObjectIdentifier};
use zeroize::Zeroizing;

use crate::conveyed::is_content_type;
use crate::envelope::check_encoding;
use crate::error::{Document, Error, Fault};
use crate::tolerances::{Oddity, Tolerances};

/// An encrypted artefact.
#[derive(Clone, Debug)]
pub struct Enveloped {
    document: Document,
    data: EnvelopedData,
    oddities: Vec<Oddity>,
}

impl Enveloped {
    /// Reads an artefact whose topmost content type is id-envelopedData.
    ///
    /// # Errors
    /// If it is malformed, over a limit, or of another content type inside.
    pub fn parse(document: Document, der: &[u8], tolerances: &Tolerances) -> Result<Self, Error> {
        let data = EnvelopedData::parse(der)?;
        let oddities = check_encoding(document, data.oddities(), tolerances)?;
        let content_type = data.content_type();
        // SZTP-8572-3.1-04, SZTP-8572-3.1-06, SZTP-8572-3.2-06, SZTP-8572-3.3-03: which types may
        // be inside.
        let right = match document {
            Document::ConveyedInformation => {
                content_type == ID_SIGNED_DATA || is_content_type(content_type)
            }
            _ => {
                content_type == ID_SIGNED_DATA
                    || tolerances.enveloped_as_data && content_type == ID_DATA
            }
        };
        if !right {
            let detail = format!("the encrypted content type is {content_type}");
            return Err(Error::new(document, Fault::ContentType, detail));
        }
        Ok(Self {
            document,
            data,
            oddities,
        })
    }

    /// The content type of what is encrypted.
    #[must_use]
    pub fn content_type(&self) -> ObjectIdentifier {
        self.data.content_type()
    }

    /// The CMS structure.
    #[must_use]
    pub fn data(&self) -> &EnvelopedData {
        &self.data
    }

    /// Decrypts the artefact: what comes out is its unencrypted form, to be parsed. With a
    /// certificate, only the recipient that names it is tried.
    ///
    /// # Errors
    /// If it is for another device, or the content is none that may be encrypted.
    pub fn decrypt(
        &self,
        key: &dyn Decryptor,
        certificate: Option<&Certificate>,
        tolerances: &Tolerances,
    ) -> Result<(Zeroizing<Vec<u8>>, Vec<Oddity>), Error> {
        let mut oddities = self.oddities.clone();
        let content = self.data.decrypt(key, certificate)?;
        let content_type = self.data.content_type();
        if content_type == ID_SIGNED_DATA {
            // RFC 8572 section 3.4 encapsulates the unencrypted form, which is a ContentInfo; RFC
            // 5652 read to the letter has the SignedData without it. Both are met.
            return Ok((cms::signed_data_as_content_info(content), oddities));
        }
        if tolerances.enveloped_as_data
            && content_type == ID_DATA
            && matches!(cms::content_type_of(&content), Ok(inner) if inner != ID_ENVELOPED_DATA)
        {
            let detail = "an artefact encrypted as id-data";
            oddities.push(Oddity::new("enveloped-as-data", detail));
            return Ok((content, oddities));
        }
        if self.document != Document::ConveyedInformation {
            let detail = "the encrypted content is no CMS".to_owned();
            return Err(Error::new(self.document, Fault::ContentType, detail));
        }
        let plain = cms::plain(content_type, &content);
        Ok((Zeroizing::new(plain), oddities))
    }
}

/// Whether the topmost content type is id-envelopedData.
#[must_use]
pub fn is_enveloped(artefact: &[u8]) -> bool {
    matches!(cms::content_type_of(artefact), Ok(ID_ENVELOPED_DATA))
}

/// Encrypts any of the three artefacts to the key of a device's certificate.
///
/// # Errors
/// If it is no artefact, or encrypted already, or the certificate cannot be encrypted to.
pub fn encrypt(artefact: &[u8], recipient: &Certificate) -> Result<Vec<u8>, Error> {
    let recipients = std::slice::from_ref(recipient);
    encrypt_with(artefact, recipients, &EnvelopOptions::default())
}

/// The same for several certificates of a device, and with a choice of algorithms.
///
/// # Errors
/// If it is no artefact, or encrypted already, or a certificate cannot be encrypted to.
pub fn encrypt_with(
    artefact: &[u8],
    recipients: &[Certificate],
    options: &EnvelopOptions,
) -> Result<Vec<u8>, Error> {
    let outermost = cms::content_type_of(artefact)?;
    let enveloped = if outermost == ID_SIGNED_DATA {
        cms::envelop(artefact, ID_SIGNED_DATA, recipients, options)?
    } else {
        let (content_type, content, _) = cms::parse_plain(artefact, is_content_type)?;
        cms::envelop(&content, content_type, recipients, options)?
    };
    Ok(enveloped)
}
