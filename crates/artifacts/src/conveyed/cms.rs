//! The CMS around conveyed information
//! ([RFC 8572 §3.1](https://www.rfc-editor.org/rfc/rfc8572.html#section-3.1)).

use pki::cms::{self, CmsPolicy, ID_DATA, ID_ENVELOPED_DATA, ID_SIGNED_DATA, SignedData};
use pki::{
    Certificate, Identity, IncludeCertificates, ObjectIdentifier, SignOptions, VerifiedSigner,
};

use super::rules::{self, CONVEYED_SIZE_MAX_BYTES, fail};
use crate::Encoding;
use crate::envelope::{check_encoding, oddity_of_envelope};
use crate::enveloped::Enveloped;
use crate::error::{Error, Fault};
use crate::tolerances::{Oddity, Tolerances};

/// id-ct-sztpConveyedInfoXML of
/// [RFC 8572 §10.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-10.3).
pub const ID_CT_SZTP_CONVEYED_INFO_XML: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.42");
/// id-ct-sztpConveyedInfoJSON.
pub const ID_CT_SZTP_CONVEYED_INFO_JSON: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.43");

/// Which content type is written. Both are right; with id-data the reader has to find out the
/// encoding in another way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// The one registered for the encoding.
    #[default]
    Registered,
    /// id-data.
    IdData,
}

impl ContentType {
    /// Its object identifier for an encoding.
    #[must_use]
    pub fn oid(self, encoding: Encoding) -> ObjectIdentifier {
        match (self, encoding) {
            (Self::Registered, Encoding::Xml) => ID_CT_SZTP_CONVEYED_INFO_XML,
            (Self::Registered, Encoding::Json) => ID_CT_SZTP_CONVEYED_INFO_JSON,
            (Self::IdData, _) => ID_DATA,
        }
    }
}

/// The artefact, by its topmost content type.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// Neither signed nor encrypted: as good as the source that it comes from.
    Unsigned {
        /// The encoding of the content.
        encoding: Encoding,
        /// The content.
        content: Vec<u8>,
        /// What was odd and tolerated.
        oddities: Vec<Oddity>,
    },
    /// Signed.
    Signed(SignedInformation),
    /// Encrypted: [`Enveloped::decrypt`] gives the artefact inside, to be parsed again.
    Enveloped(Enveloped),
}

/// Signed conveyed information whose signature nobody has verified.
#[derive(Clone, Debug)]
pub struct SignedInformation {
    encoding: Encoding,
    signed: SignedData,
    content: Vec<u8>,
    oddities: Vec<Oddity>,
}

impl SignedInformation {
    /// The encoding of the content.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Looks at the content without believing it: for inspection.
    #[must_use]
    pub fn dangerous_peek(&self) -> &[u8] {
        &self.content
    }

    /// The CMS structure.
    #[must_use]
    pub fn signed_data(&self) -> &SignedData {
        &self.signed
    }

    /// What was odd about the encoding and tolerated.
    #[must_use]
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// Verifies the signature: mathematics, not trust. `known` is where the signer's certificate
    /// is looked for besides the message.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(
        &self,
        known: &[Certificate],
        tolerances: &Tolerances,
    ) -> Result<(&[u8], VerifiedSigner), Error> {
        let mut policy = CmsPolicy::strict(self.signed.content_type());
        policy.allow_ber = tolerances.ber;
        policy.allow_unsorted_signed_attributes = tolerances.ber;
        policy.allow_missing_pss_parameters = tolerances.ber;
        policy.allow_missing_signed_attributes = tolerances.no_signed_attributes;
        policy.allow_legacy_algorithms = tolerances.sha1;
        policy.allow_trailing_data = tolerances.trailing_bytes;
        let signer = self.signed.verify(&policy, known)?;
        Ok((&self.content, signer))
    }
}

/// An unsigned artefact with the registered content type: a ContentInfo around an OCTET STRING.
#[must_use]
pub fn unsigned(content: &[u8], encoding: Encoding) -> Vec<u8> {
    unsigned_with(content, encoding, ContentType::Registered)
}

/// The same with a choice of content type.
#[must_use]
pub fn unsigned_with(content: &[u8], encoding: Encoding, content_type: ContentType) -> Vec<u8> {
    cms::plain(content_type.oid(encoding), content)
}

/// Signs content with the owner certificate's key. The certificate itself comes along; its chain
/// is the owner certificate artefact's part.
///
/// # Errors
/// If the certificate may not sign, or signing fails.
pub fn sign(
    content: &[u8],
    encoding: Encoding,
    content_type: ContentType,
    signer: &Identity,
) -> Result<Vec<u8>, Error> {
    let options = SignOptions {
        include_certs: IncludeCertificates::Signer,
        ..SignOptions::default()
    };
    sign_with(content, encoding, content_type, signer, &options)
}

/// The same with a choice of what is signed and included.
///
/// # Errors
/// If the certificate may not sign, or signing fails.
pub fn sign_with(
    content: &[u8],
    encoding: Encoding,
    content_type: ContentType,
    signer: &Identity,
    options: &SignOptions,
) -> Result<Vec<u8>, Error> {
    if let Some(certificate) = signer.certificate() {
        crate::owner::check_key_usage(certificate)?;
    }
    Ok(cms::sign(
        content,
        content_type.oid(encoding),
        signer,
        options,
    )?)
}

/// Reads the artefact.
///
/// # Errors
/// If it is no CMS, malformed, over a limit, or of another content type.
pub fn parse(der: &[u8], tolerances: &Tolerances) -> Result<Parsed, Error> {
    // What is allowed inside, and the signature, certificates and key around it.
    if der.len() > CONVEYED_SIZE_MAX_BYTES {
        let detail = format!(
            "{} octets, the limit is {CONVEYED_SIZE_MAX_BYTES}",
            der.len()
        );
        return Err(fail(Fault::TooLarge, detail));
    }
    let outermost = cms::content_type_of(der)?;
    match outermost {
        ID_ENVELOPED_DATA => Ok(Parsed::Enveloped(Enveloped::parse(
            rules::DOCUMENT,
            der,
            tolerances,
        )?)),
        ID_SIGNED_DATA => signed(der, tolerances).map(Parsed::Signed),
        _ => {
            let (content_type, content, odd) = cms::parse_plain(der, is_content_type)?;
            let mut oddities = check_encoding(rules::DOCUMENT, &odd, tolerances)?;
            let encoding = encoding_of(content_type, &content, &mut oddities)?;
            Ok(Parsed::Unsigned {
                encoding,
                content,
                oddities,
            })
        }
    }
}

fn signed(der: &[u8], tolerances: &Tolerances) -> Result<SignedInformation, Error> {
    let signed = SignedData::parse(der)?;
    let mut oddities = check_encoding(rules::DOCUMENT, signed.oddities(), tolerances)?;
    // SZTP-8572-3.1-08, SZTP-8572-3.4-02: nothing but conveyed information is inside; signed and
    // then encrypted, never encrypted and then signed.
    if !is_content_type(signed.content_type()) {
        let detail = format!("eContentType is {}", signed.content_type());
        return Err(fail(Fault::ContentType, detail));
    }
    let content = signed.content().map(<[u8]>::to_vec);
    let content = content.ok_or(pki::Error::CmsContentMissing)?;
    if signed.signer_count() == 0 {
        // SZTP-8572-3.1-03: what is not signed is no SignedData.
        return Err(pki::Error::CmsNoSigner.into());
    }
    let encoding = encoding_of(signed.content_type(), &content, &mut oddities)?;
    Ok(SignedInformation {
        encoding,
        signed,
        content,
        oddities,
    })
}

pub(crate) fn is_content_type(oid: ObjectIdentifier) -> bool {
    [
        ID_DATA,
        ID_CT_SZTP_CONVEYED_INFO_JSON,
        ID_CT_SZTP_CONVEYED_INFO_XML,
    ]
    .contains(&oid)
}

/// The encoding by the content type; id-data says nothing, so the first character does.
fn encoding_of(
    content_type: ObjectIdentifier,
    content: &[u8],
    oddities: &mut Vec<Oddity>,
) -> Result<Encoding, Error> {
    let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let looks_like = match text.trim_ascii_start().first() {
        Some(b'{') => Some(Encoding::Json),
        Some(b'<') => Some(Encoding::Xml),
        _ => None,
    };
    // SZTP-8572-3.1_10.3-01: the parser is chosen by the content type's identifier.
    let told = match content_type {
        ID_CT_SZTP_CONVEYED_INFO_JSON => Some(Encoding::Json),
        ID_CT_SZTP_CONVEYED_INFO_XML => Some(Encoding::Xml),
        _ => None,
    };
    match (told, looks_like) {
        (Some(told), Some(looks_like)) if told != looks_like => {
            let detail = format!("the content type says {told}, it looks like {looks_like}");
            Err(fail(Fault::EncodingMismatch, detail))
        }
        (Some(told), _) => Ok(told),
        (None, Some(looks_like)) => {
            let detail = format!("the content looks like {looks_like}");
            oddities.push(Oddity::new("id-data", detail));
            Ok(looks_like)
        }
        (None, None) => Err(fail(Fault::Unrecognised, "neither JSON nor XML")),
    }
}

/// What was odd about a verified signature.
pub(crate) fn oddities_of(signer: &VerifiedSigner) -> Vec<Oddity> {
    // RFC 8572 says nothing of a signing time.
    let odd = signer.oddities().iter();
    odd.filter(|oddity| **oddity != pki::Oddity::NoSigningTime)
        .map(oddity_of_envelope)
        .collect()
}
