//! The voucher: a manufacturer's signed statement to its device about who owns it.
//!
//! Voucher data of [RFC 8366 §5](https://www.rfc-editor.org/rfc/rfc8366.html#section-5) with
//! the leaves that draft-ietf-anima-rfc8366bis adds, in the JSON encoding of RFC 7951 or in CBOR
//! with SIDs (RFC 9254).

use std::ops::Deref;

use pki::{Certificate, PublicKey};
use serde_json::Value;
use time::OffsetDateTime;

use crate::cbor;
use crate::envelope::Envelope;
use crate::error::{Document, Error, Fault};
use crate::json::{self, JSON_SIZE_MAX_BYTES, shown, type_name};
use crate::leaf::{Assertion, IdevidIssuer, Nonce, SerialNumber};
use crate::read::{Extension, Reader};
use crate::tolerances::{Oddity, Tolerances};
use crate::write::Writer;
use crate::{date, voucher_xml};

/// The top-level member of a voucher.
pub const VOUCHER_MEMBER: &str = "ietf-voucher:voucher";

/// The leaves of a voucher, each proven for itself; [`Voucher::new`] proves them together.
#[derive(Clone, Debug)]
pub struct VoucherFields {
    /// When it was made.
    pub created_on: Option<OffsetDateTime>,
    /// How the owner is known.
    pub assertion: Option<Assertion>,
    /// The device.
    pub serial_number: SerialNumber,
    /// Whose serial number that is, when the number alone is not unique.
    pub idevid_issuer: Option<IdevidIssuer>,
    /// The certificate to trust.
    pub pinned_domain_cert: Option<Certificate>,
    /// Or the key to trust.
    pub pinned_domain_pubk: Option<PublicKey>,
    /// Or the SHA-256 of the key to trust.
    pub pinned_domain_pubk_sha256: Option<[u8; 32]>,
    /// Whether the device must, or must not, check the pinned certificate's revocation.
    pub domain_cert_revocation_checks: Option<bool>,
    /// The nonce of the request it answers.
    pub nonce: Option<Nonce>,
    /// The last date of a renewal, for information.
    pub last_renewal_date: Option<OffsetDateTime>,
    /// When it ends.
    pub expires_on: Option<OffsetDateTime>,
    /// Where to enrol instead (BRSKI-CLOUD).
    pub est_domain: Option<String>,
    /// Where the manufacturer has more configuration (BRSKI-CLOUD).
    pub additional_configuration_url: Option<String>,
    /// What the manufacturer tells its own device, in its own encoding. In CBOR these are octets,
    /// which stand here in base64url.
    pub manufacturer_proprietary: Option<String>,
    /// Registered extensions.
    pub extensions: Vec<Extension>,
    /// Names of members that the standard does not know; they are ignored.
    pub unknown: Vec<String>,
}

impl VoucherFields {
    /// No leaf but the serial number.
    #[must_use]
    pub fn new(serial_number: SerialNumber) -> Self {
        Self {
            created_on: None,
            assertion: None,
            serial_number,
            idevid_issuer: None,
            pinned_domain_cert: None,
            pinned_domain_pubk: None,
            pinned_domain_pubk_sha256: None,
            domain_cert_revocation_checks: None,
            nonce: None,
            last_renewal_date: None,
            expires_on: None,
            est_domain: None,
            additional_configuration_url: None,
            manufacturer_proprietary: None,
            extensions: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// What a voucher tells the device to trust.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PinnedDomainCert<'v> {
    /// A certificate: the registrar's, or any above it.
    Certificate(&'v Certificate),
    /// The registrar's public key.
    PublicKey(&'v PublicKey),
    /// The SHA-256 of the registrar's SubjectPublicKeyInfo.
    PublicKeySha256(&'v [u8; 32]),
}

/// A voucher whose leaves go together.
#[derive(Clone, Debug)]
pub struct Voucher(VoucherFields);

impl Deref for Voucher {
    type Target = VoucherFields;

    fn deref(&self) -> &VoucherFields {
        &self.0
    }
}

impl Voucher {
    /// Proves that the leaves go together: something is pinned, nonce and expires-on
    /// exclude each other, last-renewal-date comes with expires-on, expires-on is not beyond
    /// the pinned certificate.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn new(fields: VoucherFields) -> Result<Self, Error> {
        Self::prove(fields, &Tolerances::strict(), &mut Vec::new())
    }

    fn prove(
        fields: VoucherFields,
        tolerances: &Tolerances,
        oddities: &mut Vec<Oddity>,
    ) -> Result<Self, Error> {
        let fail = |fault, detail: &str| Error::new(Document::Voucher, fault, detail);
        // VOUCHER-5.3-05: expires-on and nonce never occur together in one voucher.
        if fields.nonce.is_some() && fields.expires_on.is_some() {
            if !(tolerances.nonce_and_expires_on || defects::seeded!("masa-expiry-beside-nonce")) {
                return Err(fail(
                    Fault::NonceAndExpiresOn,
                    "nonce and expires-on stand together",
                ));
            }
            oddities.push(Oddity::new("nonce-and-expires-on", "both are enforced"));
        }
        // VOUCHER-5.3-07: last-renewal-date does not occur without expires-on.
        if fields.last_renewal_date.is_some() && fields.expires_on.is_none() {
            let detail = "last-renewal-date without expires-on";
            if !tolerances.last_renewal_without_expires_on {
                return Err(fail(Fault::RenewalWithoutExpiry, detail));
            }
            oddities.push(Oddity::new("last-renewal-without-expires-on", detail));
        }
        // BRSKI-5.6.1-04: the pledge MUST be prepared to parse and fail gracefully from a
        // voucher response that does not contain a pinned-domain-cert field.
        if fields.pinned_domain_cert.is_none()
            && fields.pinned_domain_pubk.is_none()
            && fields.pinned_domain_pubk_sha256.is_none()
        {
            return Err(fail(
                Fault::NoPin,
                "no pinned-domain-cert and no pinned key",
            ));
        }
        // VOUCHER-5.3-10: the expires-on value MUST NOT exceed the expiration date of any of
        // the listed 'pinned-domain-cert' certificates.
        if let (Some(expires_on), Some(pinned)) = (fields.expires_on, &fields.pinned_domain_cert)
            && expires_on > pinned.not_after()
        {
            let detail = format!(
                "expires-on {} is after the pinned certificate's end {}",
                date::format(expires_on),
                date::format(pinned.not_after())
            );
            return Err(fail(Fault::ExpiresAfterPin, &detail));
        }
        Ok(Self(fields))
    }

    /// Reads voucher data: JSON, or XML where that is tolerated.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_content(
        bytes: &[u8],
        tolerances: &Tolerances,
    ) -> Result<(Self, Vec<Oddity>), Error> {
        if !tolerances.xml_voucher || !voucher_xml::is_xml(bytes) {
            return Self::from_json(bytes, tolerances);
        }
        let json = voucher_xml::to_json(bytes)?;
        let (voucher, mut oddities) = Self::from_json(&json, tolerances)?;
        oddities.push(Oddity::new("xml-voucher", "the voucher is in XML"));
        Ok((voucher, oddities))
    }

    /// Reads what is inside an envelope: CBOR within COSE, else as [`Voucher::from_content`].
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_payload(
        bytes: &[u8],
        envelope: Envelope,
        tolerances: &Tolerances,
    ) -> Result<(Self, Vec<Oddity>), Error> {
        match envelope {
            Envelope::Cms | Envelope::Jws => Self::from_content(bytes, tolerances),
            Envelope::Cose => Self::from_cbor(bytes, tolerances),
        }
    }

    /// Reads voucher data in JSON.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_json(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let reader = top_level(Document::Voucher, VOUCHER_MEMBER, bytes, tolerances)?;
        Self::read(reader, tolerances)
    }

    /// Reads voucher data in CBOR, with SIDs, names, or both as keys.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn from_cbor(bytes: &[u8], tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let reader = cbor::top_level(&cbor::VOUCHER, bytes, tolerances)?;
        Self::read(reader, tolerances)
    }

    fn read(mut reader: Reader<'_>, tolerances: &Tolerances) -> Result<(Self, Vec<Oddity>), Error> {
        let reader = &mut reader;
        let fields = VoucherFields {
            created_on: reader.date("created-on")?,
            assertion: reader.assertion("assertion")?,
            serial_number: reader.serial_number("serial-number")?,
            idevid_issuer: reader.idevid_issuer("idevid-issuer")?,
            pinned_domain_cert: reader.certificate("pinned-domain-cert")?,
            pinned_domain_pubk: reader.public_key("pinned-domain-pubk")?,
            pinned_domain_pubk_sha256: reader.sha256("pinned-domain-pubk-sha256")?,
            domain_cert_revocation_checks: reader.boolean("domain-cert-revocation-checks")?,
            nonce: reader.nonce("nonce")?,
            last_renewal_date: reader.date("last-renewal-date")?,
            expires_on: reader.date("expires-on")?,
            est_domain: reader.uri("est-domain")?,
            additional_configuration_url: reader.uri("additional-configuration-url")?,
            manufacturer_proprietary: reader.proprietary("manufacturer-proprietary")?,
            extensions: reader.extensions()?,
            // BRSKI-5.6.1-05: the pledge MUST be prepared to ignore additional fields that it
            // does not recognize.
            unknown: reader.unknown(),
        };
        let mut oddities = std::mem::take(&mut reader.oddities);
        let voucher = Self::prove(fields, tolerances, &mut oddities)?;
        Ok((voucher, oddities))
    }

    /// Writes what goes inside an envelope: CBOR within COSE, else JSON.
    #[must_use]
    pub fn to_payload(&self, envelope: Envelope) -> Vec<u8> {
        match envelope {
            Envelope::Cms | Envelope::Jws => self.to_json(),
            Envelope::Cose => self.to_cbor(),
        }
    }

    /// Writes voucher data: always the same octets for the same leaves. Unknown members are
    /// not written.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        self.write().to_json(VOUCHER_MEMBER)
    }

    /// Writes voucher data in the deterministic encoding of CBOR, with SIDs as keys. Unknown
    /// members are not written.
    #[must_use]
    pub fn to_cbor(&self) -> Vec<u8> {
        self.write().to_cbor(&cbor::VOUCHER)
    }

    fn write(&self) -> Writer {
        let mut writer = Writer::default();
        writer.date("created-on", self.created_on);
        writer.assertion("assertion", self.assertion);
        writer.text("serial-number", Some(self.serial_number.as_str()));
        let issuer = self.idevid_issuer.as_ref();
        writer.binary("idevid-issuer", issuer.map(IdevidIssuer::as_bytes));
        let certificate = self.pinned_domain_cert.as_ref();
        writer.binary("pinned-domain-cert", certificate.map(Certificate::der));
        let key = self.pinned_domain_pubk.as_ref();
        writer.binary("pinned-domain-pubk", key.map(PublicKey::spki_der));
        let hash = self.pinned_domain_pubk_sha256.as_ref();
        writer.binary("pinned-domain-pubk-sha256", hash.map(<[u8; 32]>::as_slice));
        writer.boolean(
            "domain-cert-revocation-checks",
            self.domain_cert_revocation_checks,
        );
        writer.nonce("nonce", self.nonce.as_ref());
        writer.date("last-renewal-date", self.last_renewal_date);
        writer.date("expires-on", self.expires_on);
        writer.text("est-domain", self.est_domain.as_deref());
        let url = self.additional_configuration_url.as_deref();
        writer.text("additional-configuration-url", url);
        let proprietary = self.manufacturer_proprietary.as_deref();
        writer.proprietary("manufacturer-proprietary", proprietary);
        writer.extensions(&self.extensions);
        writer
    }

    /// What is pinned, in the order in which
    /// [rfc8366bis §8](https://datatracker.ietf.org/doc/html/draft-ietf-anima-rfc8366bis#section-8)
    /// has a device consider it: the hash, the key, the certificate.
    pub fn pins(&self) -> impl Iterator<Item = PinnedDomainCert<'_>> {
        let hash = self
            .pinned_domain_pubk_sha256
            .as_ref()
            .map(PinnedDomainCert::PublicKeySha256);
        let key = self
            .pinned_domain_pubk
            .as_ref()
            .map(PinnedDomainCert::PublicKey);
        let certificate = self
            .pinned_domain_cert
            .as_ref()
            .map(PinnedDomainCert::Certificate);
        [hash, key, certificate].into_iter().flatten()
    }

    /// The fields, to make another voucher of them.
    #[must_use]
    pub fn into_fields(self) -> VoucherFields {
        self.0
    }
}

/// Reads the outer object and takes the one member that holds the document.
pub(crate) fn top_level<'t>(
    document: Document,
    member: &str,
    bytes: &[u8],
    tolerances: &'t Tolerances,
) -> Result<Reader<'t>, Error> {
    let mut oddities = Vec::new();
    let fail = |fault, detail: String| Error::new(document, fault, detail);
    let value = json::parse(
        document,
        bytes,
        JSON_SIZE_MAX_BYTES,
        tolerances,
        &mut oddities,
    )?;
    let Value::Object(mut outer) = value else {
        let detail = format!(
            "the JSON text is {}, it must be an object",
            type_name(&value)
        );
        return Err(fail(Fault::WrongType, detail));
    };
    let mut inner = outer.shift_remove(member);
    if defects::seeded!("request-any-member") {
        inner = inner.or_else(|| outer.shift_remove(VOUCHER_MEMBER));
    }
    if inner.is_none() && tolerances.top_level_names && document == Document::Request {
        for name in REQUEST_MEMBERS_OF_DRAFTS {
            inner = inner.or_else(|| outer.shift_remove(*name));
        }
        if inner.is_some() {
            oddities.push(Oddity::new(
                "top-level-names",
                "the name of a draft's module",
            ));
        }
    }
    // BRSKI-3-03: voucher-request JSON uses the top-level member ietf-voucher-request:voucher,
    // vouchers use ietf-voucher:voucher.
    let Some(inner) = inner else {
        let found = outer
            .keys()
            .next()
            .map_or_else(|| "nothing".to_owned(), |name| shown(name));
        return Err(fail(
            Fault::TopLevelName,
            format!("{member} is missing, {found} is there"),
        ));
    };
    if let Some(other) = outer.keys().next() {
        let detail = format!("{} stands beside {member}", shown(other));
        if !tolerances.top_level_names {
            return Err(fail(Fault::TopLevelName, detail));
        }
        oddities.push(Oddity::new("top-level-names", detail));
    }
    match inner {
        Value::Object(members) => Ok(Reader {
            document,
            members: members.into(),
            tolerances,
            oddities,
        }),
        other => {
            let detail = format!("{member} is {}, it must be an object", type_name(&other));
            Err(fail(Fault::WrongType, detail))
        }
    }
}

const REQUEST_MEMBERS_OF_DRAFTS: &[&str] = &[
    "ietf-voucher-request-prm:voucher",
    "ietf-voucher-request-constrained:voucher",
    "ietf-voucher-request-async:voucher",
    "ietf-cwt-voucher-request:voucher",
];
