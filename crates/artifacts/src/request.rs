//! The voucher request: of a pledge to a registrar, and of a registrar to the MASA.
//!
//! [RFC 8995 §3](https://www.rfc-editor.org/rfc/rfc8995.html#section-3) with the leaves that
//! draft-ietf-anima-rfc8366bis section 9 adds.

use std::ops::Deref;

use pki::{Certificate, PublicKey};
use time::OffsetDateTime;

use crate::cbor::{self, Item};
use crate::envelope::Envelope;
use crate::error::{Document, Error, Fault};
use crate::leaf::{Assertion, IdevidIssuer, Nonce, SerialNumber};
use crate::read::{Extension, Leaf, Reader};
use crate::tolerances::{Oddity, Tolerances};
use crate::voucher::top_level;
use crate::write::Writer;

/// The top-level member of a voucher request.
pub const REQUEST_MEMBER: &str = "ietf-voucher-request:voucher";

/// The leaves of a voucher request, each proven for itself.
#[derive(Clone, Debug)]
pub struct RequestFields {
    /// When it was made.
    pub created_on: Option<OffsetDateTime>,
    /// What the pledge asks for. A registrar's is ignored by the MASA.
    pub assertion: Option<Assertion>,
    /// The device.
    pub serial_number: SerialNumber,
    /// Whose serial number that is.
    pub idevid_issuer: Option<IdevidIssuer>,
    /// The nonce of this attempt.
    pub nonce: Option<Nonce>,
    /// When the wanted voucher ends, if the requester says.
    pub expires_on: Option<OffsetDateTime>,
    /// The pledge's signed request inside a registrar's.
    pub prior_signed_voucher_request: Option<Vec<u8>>,
    /// The registrar's TLS certificate, as the pledge saw it.
    pub proximity_registrar_cert: Option<Certificate>,
    /// Or its key.
    pub proximity_registrar_pubk: Option<PublicKey>,
    /// Or the SHA-256 of its key.
    pub proximity_registrar_pubk_sha256: Option<[u8; 32]>,
    /// What the registrar-agent signed (BRSKI-PRM), not looked into here.
    pub agent_signed_data: Option<Vec<u8>>,
    /// The registrar's certificate as the registrar-agent gave it (BRSKI-PRM).
    pub agent_provided_proximity_registrar_cert: Option<Certificate>,
    /// The registrar-agent's certificate and what is above it (BRSKI-PRM).
    pub agent_sign_cert: Vec<Certificate>,
    /// What the manufacturer's device tells its MASA, in its own encoding. In CBOR these are
    /// octets, which stand here in base64url.
    pub manufacturer_proprietary: Option<String>,
    /// Registered extensions.
    pub extensions: Vec<Extension>,
    /// Names of members that have no meaning in a request and are ignored.
    pub ignored: Vec<String>,
    /// Names of members that the standard does not know; they are ignored.
    pub unknown: Vec<String>,
}

impl RequestFields {
    /// No leaf but the serial number.
    #[must_use]
    pub fn new(serial_number: SerialNumber) -> Self {
        Self {
            created_on: None,
            assertion: None,
            serial_number,
            idevid_issuer: None,
            nonce: None,
            expires_on: None,
            prior_signed_voucher_request: None,
            proximity_registrar_cert: None,
            proximity_registrar_pubk: None,
            proximity_registrar_pubk_sha256: None,
            agent_signed_data: None,
            agent_provided_proximity_registrar_cert: None,
            agent_sign_cert: Vec::new(),
            manufacturer_proprietary: None,
            extensions: Vec::new(),
            ignored: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// A voucher request whose leaves go together.
#[derive(Clone, Debug)]
pub struct VoucherRequest(RequestFields);

impl Deref for VoucherRequest {
    type Target = RequestFields;

    fn deref(&self) -> &RequestFields {
        &self.0
    }
}

/// The registrar that a pledge says it saw, in the order in which rfc8366bis section 9 has
/// a registrar and a MASA consider it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Proximity<'r> {
    /// The SHA-256 of its SubjectPublicKeyInfo.
    PublicKeySha256(&'r [u8; 32]),
    /// Its public key.
    PublicKey(&'r PublicKey),
    /// Its TLS certificate.
    Certificate(&'r Certificate),
}

impl Proximity<'_> {
    /// Whether this is the key of `certificate`.
    #[must_use]
    pub fn names_key_of(&self, certificate: &Certificate) -> bool {
        let key = certificate.public_key();
        match self {
            Self::PublicKeySha256(hash) => key.sha256() == **hash,
            Self::PublicKey(other) => key.spki_der() == other.spki_der(),
            Self::Certificate(other) => key.spki_der() == other.public_key().spki_der(),
        }
    }

    /// Whether this is `certificate`, or its key where only a key is named.
    #[must_use]
    pub fn names(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Certificate(other) => other.der() == certificate.der(),
            Self::PublicKey(_) | Self::PublicKeySha256(_) => self.names_key_of(certificate),
        }
    }
}

impl VoucherRequest {
    /// Proves that the leaves go together: nonce and expires-on exclude each other.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(fields: RequestFields) -> Result<Self, Error> {
        Self::prove(fields, &Tolerances::strict(), &mut Vec::new())
    }

    fn prove(
        fields: RequestFields,
        tolerances: &Tolerances,
        oddities: &mut Vec<Oddity>,
    ) -> Result<Self, Error> {
        if fields.nonce.is_some() && fields.expires_on.is_some() {
            if !tolerances.nonce_and_expires_on {
                let detail = "nonce and expires-on stand together";
                return Err(Error::new(
                    Document::Request,
                    Fault::NonceAndExpiresOn,
                    detail,
                ));
            }
            oddities.push(Oddity::new("nonce-and-expires-on", "in a request"));
        }
        Ok(Self(fields))
    }

    /// Reads what is inside an envelope: CBOR within COSE, else JSON.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_payload(
        bytes: &[u8],
        envelope: Envelope,
        tolerances: &Tolerances,
    ) -> Result<(Self, Vec<Oddity>), Error> {
        match envelope {
            Envelope::Cms | Envelope::Jws => Self::from_json(bytes, tolerances),
            Envelope::Cose => Self::from_cbor(bytes, tolerances),
        }
    }

    /// Reads the data of a voucher request in JSON.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_json(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let reader = top_level(Document::Request, REQUEST_MEMBER, bytes, tolerances)?;
        Self::read(reader, tolerances)
    }

    /// Reads the data of a voucher request in CBOR, with SIDs, names, or both as keys.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_cbor(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let reader = cbor::top_level(&cbor::REQUEST, bytes, tolerances)?;
        Self::read(reader, tolerances)
    }

    fn read(mut reader: Reader<'_>, tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let reader = &mut reader;
        // BRSKI-3.4-01, BRSKI-3.4-02, BRSKI-3.4-03, VOUCHERBIS-9.2-01, VCB-036: any occurrence of
        // these in a voucher request MUST be ignored, so they are not even parsed.
        let ignored = [
            "pinned-domain-cert",
            "pinned-domain-pubk",
            "pinned-domain-pubk-sha256",
            "last-renewal-date",
            "domain-cert-revocation-checks",
            "est-domain",
            "additional-configuration-url",
        ];
        let ignored = ignored
            .into_iter()
            .filter(|name| reader.members.remove(name).is_some());
        let ignored = ignored.map(str::to_owned).collect();
        let fields = RequestFields {
            created_on: reader.date("created-on")?,
            assertion: reader.assertion("assertion")?,
            serial_number: reader.serial_number("serial-number")?,
            idevid_issuer: reader.idevid_issuer("idevid-issuer")?,
            nonce: reader.nonce("nonce")?,
            expires_on: reader.date("expires-on")?,
            prior_signed_voucher_request: reader.binary("prior-signed-voucher-request")?,
            proximity_registrar_cert: reader.certificate("proximity-registrar-cert")?,
            proximity_registrar_pubk: reader.public_key("proximity-registrar-pubk")?,
            proximity_registrar_pubk_sha256: reader.sha256("proximity-registrar-pubk-sha256")?,
            agent_signed_data: agent_signed_data(reader)?,
            agent_provided_proximity_registrar_cert: reader
                .certificate("agent-provided-proximity-registrar-cert")?,
            agent_sign_cert: agent_sign_cert(reader)?,
            manufacturer_proprietary: reader.proprietary("manufacturer-proprietary")?,
            extensions: reader.extensions()?,
            ignored,
            unknown: reader.unknown(),
        };
        let mut oddities = std::mem::take(&mut reader.oddities);
        let request = Self::prove(fields, tolerances, &mut oddities)?;
        Ok((request, oddities))
    }

    /// Writes what goes inside an envelope: CBOR within COSE, else JSON.
    #[must_use]
    pub fn to_payload(&self, envelope: Envelope) -> Vec<u8> {
        match envelope {
            Envelope::Cms | Envelope::Jws => self.to_json(),
            Envelope::Cose => self.to_cbor(),
        }
    }

    /// Writes the data of a request: always the same octets for the same leaves. What is
    /// unknown or ignored is not written.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        self.write().to_json(REQUEST_MEMBER)
    }

    /// Writes the data of a request in the deterministic encoding of CBOR, with SIDs as keys. What
    /// is unknown or ignored is not written.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        self.write().to_cbor(&cbor::REQUEST)
    }

    fn write(&self) -> Writer {
        let mut writer = Writer::default();
        writer.date("created-on", self.created_on);
        writer.assertion("assertion", self.assertion);
        writer.text("serial-number", Some(self.serial_number.as_str()));
        let issuer = self.idevid_issuer.as_ref();
        writer.binary("idevid-issuer", issuer.map(IdevidIssuer::as_bytes));
        writer.date("expires-on", self.expires_on);
        writer.nonce("nonce", self.nonce.as_ref());
        let prior = self.prior_signed_voucher_request.as_deref();
        writer.binary("prior-signed-voucher-request", prior);
        let certificate = self.proximity_registrar_cert.as_ref();
        writer.binary(
            "proximity-registrar-cert",
            certificate.map(Certificate::der),
        );
        let key = self.proximity_registrar_pubk.as_ref();
        writer.binary("proximity-registrar-pubk", key.map(PublicKey::spki_der));
        let hash = self.proximity_registrar_pubk_sha256.as_ref();
        let hash = hash.map(<[u8; 32]>::as_slice);
        writer.binary("proximity-registrar-pubk-sha256", hash);
        writer.binary("agent-signed-data", self.agent_signed_data.as_deref());
        let provided = self.agent_provided_proximity_registrar_cert.as_ref();
        let provided = provided.map(Certificate::der);
        writer.binary("agent-provided-proximity-registrar-cert", provided);
        let agent = self.agent_sign_cert.first();
        writer.binary("agent-sign-cert", agent.map(Certificate::der));
        let proprietary = self.manufacturer_proprietary.as_deref();
        writer.proprietary("manufacturer-proprietary", proprietary);
        writer.extensions(&self.extensions);
        writer
    }

    /// The registrar that the pledge says it saw, most preferred first.
    pub fn proximity(&self) -> impl Iterator<Item = Proximity<'_>> {
        // VOUCHERBIS-9-01: considered in the order pubk-sha256, pubk, cert.
        let hash = self
            .proximity_registrar_pubk_sha256
            .as_ref()
            .map(Proximity::PublicKeySha256);
        let key = self
            .proximity_registrar_pubk
            .as_ref()
            .map(Proximity::PublicKey);
        let certificate = self
            .proximity_registrar_cert
            .as_ref()
            .map(Proximity::Certificate);
        [hash, key, certificate].into_iter().flatten()
    }

    /// The fields, to make another request of them.
    #[must_use]
    pub fn into_fields(self) -> RequestFields {
        self.0
    }
}

/// The leaf is binary; BRSKI-PRM's examples name it with their module and carry text.
fn agent_signed_data(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, Error> {
    const DRAFT: &str = "ietf-voucher-request-prm:agent-signed-data";
    if reader.tolerances.top_level_names
        && reader.members.get("agent-signed-data").is_none()
        && let Some(value) = reader.members.remove(DRAFT)
    {
        reader.odd("top-level-names", DRAFT);
        reader.members.push("agent-signed-data".to_owned(), value);
    }
    reader.binary("agent-signed-data")
}

/// The leaf is one certificate; BRSKI-PRM has an array of them.
fn agent_sign_cert(reader: &mut Reader<'_>) -> Result<Vec<Certificate>, Error> {
    const NAME: &str = "agent-sign-cert";
    const COUNT_MAX: usize = 8;
    let items: Vec<Leaf> = match reader.members.get(NAME) {
        Some(Leaf::Json(serde_json::Value::Array(items)))
            if reader.tolerances.wrong_json_types && items.len() <= COUNT_MAX =>
        {
            items.iter().cloned().map(Leaf::Json).collect()
        }
        Some(Leaf::Cbor(Item::Array(items)))
            if reader.tolerances.wrong_json_types && items.len() <= COUNT_MAX =>
        {
            items.iter().cloned().map(Leaf::Cbor).collect()
        }
        _ => return Ok(reader.certificate(NAME)?.into_iter().collect()),
    };
    reader.members.remove(NAME);
    reader.odd("wrong-json-types", "agent-sign-cert is an array");
    let mut certificates = Vec::new();
    for item in items {
        reader.members.push(NAME.to_owned(), item);
        certificates.extend(reader.certificate(NAME)?);
    }
    Ok(certificates)
}
