//! CMS SignedData by hand; every field can be wrong.

use time::OffsetDateTime;

use super::{
    der,
    key::{Hash, Key},
};

/// id-ct-animaJSONVoucher.
pub const ANIMA_JSON_VOUCHER: &str = "1.2.840.113549.1.9.16.1.40";
/// id-data.
pub const DATA: &str = "1.2.840.113549.1.7.1";
/// id-signedData.
pub const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
/// id-ct-sztpConveyedInfoJSON.
pub const SZTP_JSON: &str = "1.2.840.113549.1.9.16.1.43";
/// id-ct-sztpConveyedInfoXML.
pub const SZTP_XML: &str = "1.2.840.113549.1.9.16.1.42";
const CONTENT_TYPE: &str = "1.2.840.113549.1.9.3";
const MESSAGE_DIGEST: &str = "1.2.840.113549.1.9.4";
const SIGNING_TIME: &str = "1.2.840.113549.1.9.5";

/// A certificate and its key.
#[derive(Clone)]
pub struct Signatory {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: Key,
}

/// How the signer is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerId {
    /// Issuer and serial number of the certificate.
    IssuerAndSerial,
    /// Its subject key identifier.
    KeyId,
    /// These octets.
    Raw(Vec<u8>),
}

/// The signed attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// content-type, message-digest and signing-time.
    Usual,
    /// None: the signature is over the content.
    Absent,
    /// These, sorted or as they are.
    These {
        /// Encoded attributes.
        attributes: Vec<Vec<u8>>,
        /// Leave them as they are.
        unsorted: bool,
    },
}

/// What the octets of the signature are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// What the standard says.
    Right,
    /// The attributes with the tag that they have inside the message.
    ImplicitTag,
    /// The content, though there are attributes.
    Content,
}

/// A SignedData before it is encoded.
#[derive(Clone)]
pub struct Cms {
    /// The content.
    pub content: Vec<u8>,
    /// Its type, a dotted identifier.
    pub content_type: String,
    /// The type in the attributes.
    pub attribute_content_type: String,
    /// Who signs.
    pub signers: Vec<Signatory>,
    /// The certificates that come along.
    pub certificates: Vec<Vec<u8>>,
    /// Version of SignedData.
    pub version: u8,
    /// Version of SignerInfo; what the standard says, if none.
    pub signer_version: Option<u8>,
    /// How the signer is named.
    pub signer_id: SignerId,
    /// The signed attributes.
    pub attributes: Attributes,
    /// signing-time.
    pub signing_time: Option<OffsetDateTime>,
    /// Another message digest than the content's.
    pub message_digest: Option<Vec<u8>>,
    /// The digest algorithm; the key's own, if none.
    pub hash: Option<Hash>,
    /// An identifier of a signature algorithm that is not the key's.
    pub signature_algorithm: Option<Vec<u8>>,
    /// What is signed.
    pub over: Over,
    /// Leave the content out.
    pub detached: bool,
    /// Octets instead of the signature.
    pub signature: Option<Vec<u8>>,
    /// More fields within SignedData, such as `[1]` with revocation lists.
    pub extra: Vec<u8>,
    /// Unsigned attributes.
    pub unsigned: Vec<Vec<u8>>,
}

impl Cms {
    /// A right one.
    #[must_use]
    pub fn new(content: &[u8], content_type: &str, signer: &Signatory, at: OffsetDateTime) -> Self {
        Self {
            content: content.to_vec(),
            content_type: content_type.to_owned(),
            attribute_content_type: content_type.to_owned(),
            signers: vec![signer.clone()],
            certificates: vec![signer.certificate.clone()],
            version: if content_type == DATA { 1 } else { 3 },
            signer_version: None,
            signer_id: SignerId::IssuerAndSerial,
            attributes: Attributes::Usual,
            signing_time: Some(at),
            message_digest: None,
            hash: None,
            signature_algorithm: None,
            over: Over::Right,
            detached: false,
            signature: None,
            extra: Vec::new(),
            unsigned: Vec::new(),
        }
    }

    /// Changes it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The usual attributes, for making a wrong set of them.
    #[must_use]
    pub fn usual_attributes(&self, hash: Hash) -> Vec<Vec<u8>> {
        let digest = self
            .message_digest
            .clone()
            .unwrap_or_else(|| hash.of(&self.content));
        let mut attributes = vec![
            attribute(CONTENT_TYPE, &[der::oid(&self.attribute_content_type)]),
            attribute(MESSAGE_DIGEST, &[der::octets(&digest)]),
        ];
        if let Some(at) = self.signing_time {
            attributes.push(attribute(SIGNING_TIME, &[der::time(at)]));
        }
        attributes
    }

    /// The ContentInfo.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        content_info(&self.signed_data())
    }

    /// The SignedData without the ContentInfo.
    #[must_use]
    pub fn signed_data(&self) -> Vec<u8> {
        let mut encapsulated = vec![der::oid(&self.content_type)];
        if !self.detached {
            encapsulated.push(der::explicit(0, &der::octets(&self.content)));
        }
        let mut digests = Vec::new();
        let mut infos = Vec::new();
        for signer in &self.signers {
            let hash = self.hash.unwrap_or_else(|| signer.key.hash());
            let algorithm = der::seq(&[der::oid(hash.oid())]);
            if !digests.contains(&algorithm) {
                digests.push(algorithm);
            }
            infos.push(self.signer_info(signer, hash));
        }
        let mut fields = vec![
            der::int(self.version),
            der::set(&digests),
            der::seq(&encapsulated),
        ];
        if !self.certificates.is_empty() {
            let mut sorted = self.certificates.clone();
            sorted.sort();
            fields.push(der::explicit(0, &sorted.concat()));
        }
        fields.push(self.extra.clone());
        fields.push(der::set(&infos));
        der::seq(&fields)
    }

    fn signer_info(&self, signer: &Signatory, hash: Hash) -> Vec<u8> {
        let (identifier, version) = match &self.signer_id {
            SignerId::IssuerAndSerial => (issuer_and_serial(&signer.certificate), 1),
            SignerId::KeyId => (der::implicit(0, &signer.key.key_id()), 3),
            SignerId::Raw(octets) => (octets.clone(), 1),
        };
        let attributes = match &self.attributes {
            Attributes::Usual => Some(sorted(self.usual_attributes(hash))),
            Attributes::Absent => None,
            Attributes::These {
                attributes,
                unsorted: true,
            } => Some(attributes.clone()),
            Attributes::These { attributes, .. } => Some(sorted(attributes.clone())),
        };
        let message = match (&attributes, self.over) {
            (None, _) | (_, Over::Content) => self.content.clone(),
            (Some(attributes), Over::Right) => der::tlv(0x31, &attributes.concat()),
            (Some(attributes), Over::ImplicitTag) => der::tlv(0xa0, &attributes.concat()),
        };
        let signature = self
            .signature
            .clone()
            .unwrap_or_else(|| signer.key.sign_with(hash, &message));
        let mut fields = vec![
            der::int(self.signer_version.unwrap_or(version)),
            identifier,
            der::seq(&[der::oid(hash.oid())]),
        ];
        if let Some(attributes) = attributes {
            fields.push(der::tlv(0xa0, &attributes.concat()));
        }
        fields.push(
            self.signature_algorithm
                .clone()
                .unwrap_or_else(|| signer.key.algorithm_with(hash)),
        );
        fields.push(der::octets(&signature));
        if !self.unsigned.is_empty() {
            fields.push(der::tlv(0xa1, &sorted(self.unsigned.clone()).concat()));
        }
        der::seq(&fields)
    }
}

/// A ContentInfo of type signedData around SignedData.
#[must_use]
pub fn content_info(signed_data: &[u8]) -> Vec<u8> {
    der::seq(&[der::oid(SIGNED_DATA), der::explicit(0, signed_data)])
}

/// A certs-only message.
#[must_use]
pub fn certs_only(certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut sorted = certificates.to_vec();
    sorted.sort();
    content_info(&der::seq(&[
        der::int(1),
        der::set(&[]),
        der::seq(&[der::oid(DATA)]),
        der::explicit(0, &sorted.concat()),
        der::set(&[]),
    ]))
}

/// One attribute.
#[must_use]
pub fn attribute(kind: &str, values: &[Vec<u8>]) -> Vec<u8> {
    der::seq(&[der::oid(kind), der::set_as_given(values)])
}

fn sorted(mut parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    parts.sort();
    parts
}

/// issuer and serialNumber as they stand in a certificate.
#[must_use]
pub fn issuer_and_serial(certificate: &[u8]) -> Vec<u8> {
    let tbs = der::inside(certificate)
        .map(der::elements)
        .and_then(|parts| parts.into_iter().next())
        .unwrap_or_default();
    let fields = der::inside(&tbs).map(der::elements).unwrap_or_default();
    // [0] version, serialNumber, signature, issuer; version is missing in v1.
    let skip = usize::from(fields.first().and_then(|field| field.first()) == Some(&0xa0));
    let serial = fields.get(skip).cloned().unwrap_or_default();
    let issuer = fields.get(skip + 2).cloned().unwrap_or_default();
    der::seq(&[issuer, serial])
}
