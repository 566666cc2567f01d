//! Issuing certificates and CRLs: profiles, the lint that runs before each signature, and the
//! builders.
//!
//! Nothing here reads a clock or draws random numbers: validity and the serial number's random
//! bytes are arguments. The structures are encoded directly, because the builder of `x509-cert`
//! wants the signing key as its own trait and not as a [`Signer`].

mod crl;
mod lint;

use std::net::IpAddr;
use std::str::FromStr as _;

use const_oid::ObjectIdentifier;
use der::Encode as _;
use time::OffsetDateTime;
use x509_cert::name::Name;

pub use self::crl::{CrlBuilder, RevocationReason};
pub use self::lint::{Finding, lint};
use crate::tlv;
use crate::{Certificate, Error, HardwareModuleName, PublicKey, Signer, oid, times};

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");

/// keyUsage values, as the content of the BIT STRING.
const DIGITAL_SIGNATURE: [u8; 2] = [0x07, 0x80];
const KEY_CERT_SIGN_AND_CRL_SIGN: [u8; 2] = [0x01, 0x06];

const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// What a certificate is for; it decides basicConstraints, keyUsage, extendedKeyUsage and the
/// extensions that must or must not be there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Profile {
    /// A self-signed CA.
    RootCa,
    /// A CA below another one.
    SubCa {
        /// How many further CAs may stand below it.
        path_length: Option<u8>,
    },
    /// A registrar: cmcRA, serverAuth and clientAuth.
    Registrar,
    /// A TLS server.
    TlsServer,
    /// A TLS client.
    TlsClient,
    /// A signer of vouchers.
    MasaSigner,
    /// An owner certificate of RFC 8572: signs conveyed information.
    Owner,
    /// A factory identity of a device, valid until the year 9999.
    Idevid,
    /// An identity of a device in the owner's domain.
    Ldevid,
}

impl Profile {
    pub(crate) fn is_ca(self) -> bool {
        matches!(self, Self::RootCa | Self::SubCa { .. })
    }

    /// The purposes that a certificate of this profile names; none for no extension.
    pub(crate) fn purposes(self) -> &'static [ObjectIdentifier] {
        match self {
            Self::Registrar => &[oid::CMC_RA, SERVER_AUTH, CLIENT_AUTH],
            Self::TlsServer => &[SERVER_AUTH],
            Self::TlsClient | Self::Ldevid => &[CLIENT_AUTH],
            Self::RootCa | Self::SubCa { .. } | Self::MasaSigner | Self::Owner | Self::Idevid => {
                &[]
            }
        }
    }
}

/// An entry of the subjectAltName.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AltName {
    /// dNSName.
    Dns(String),
    /// rfc822Name.
    Email(String),
    /// hardwareModuleName of RFC 4108.
    HardwareModule(HardwareModuleName),
    /// iPAddress.
    Ip(IpAddr),
    /// Any other otherName: its type and the DER of its value.
    Other(ObjectIdentifier, Vec<u8>),
    /// uniformResourceIdentifier.
    Uri(String),
}

impl AltName {
    fn encode(&self) -> Vec<u8> {
        let other = |id: ObjectIdentifier, value: &[u8]| {
            tlv::element(0xa0, &[&tlv::encode_oid(id), &tlv::element(0xa0, &[value])])
        };
        match self {
            Self::Dns(name) => tlv::element(0x82, &[name.as_bytes()]),
            Self::Email(address) => tlv::element(0x81, &[address.as_bytes()]),
            Self::HardwareModule(module) => {
                let serial = tlv::element(tlv::OCTET_STRING, &[&module.serial_number]);
                let kind = tlv::encode_oid(module.hardware_type);
                other(
                    oid::HARDWARE_MODULE_NAME,
                    &tlv::element(tlv::SEQUENCE, &[&kind, &serial]),
                )
            }
            Self::Ip(IpAddr::V4(address)) => tlv::element(0x87, &[&address.octets()]),
            Self::Ip(IpAddr::V6(address)) => tlv::element(0x87, &[&address.octets()]),
            Self::Other(id, value) => other(*id, value),
            Self::Uri(uri) => tlv::element(0x86, &[uri.as_bytes()]),
        }
    }
}

/// An extension beyond those of the profile.
#[derive(Clone, Debug)]
struct Extra {
    id: ObjectIdentifier,
    critical: bool,
    value: Vec<u8>,
}

/// Builds one certificate.
#[derive(Clone, Debug)]
pub struct CertificateBuilder {
    profile: Profile,
    serial: [u8; 16],
    subject: Name,
    public_key: PublicKey,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    alt_names: Vec<AltName>,
    masa_url: Option<String>,
    crl_urls: Vec<String>,
    purposes: Option<Vec<ObjectIdentifier>>,
    extra: Vec<Extra>,
}

impl CertificateBuilder {
    /// A certificate of `profile` for `public_key`, with `serial` as 16 random bytes of which
    /// 127 bits are used.
    #[must_use]
    pub fn new(
        profile: Profile,
        subject: Name,
        public_key: PublicKey,
        serial: [u8; 16],
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Self {
        Self {
            profile,
            serial,
            subject,
            public_key,
            not_before,
            not_after,
            alt_names: Vec::new(),
            masa_url: None,
            crl_urls: Vec::new(),
            purposes: None,
            extra: Vec::new(),
        }
    }

    /// Adds a subject alternative name.
    #[must_use]
    pub fn alt_name(mut self, name: AltName) -> Self {
        self.alt_names.push(name);
        self
    }

    /// Adds a dNSName.
    #[must_use]
    pub fn dns_name(self, name: impl Into<String>) -> Self {
        self.alt_name(AltName::Dns(name.into()))
    }

    /// Adds the MASA URL extension of RFC 8995 §2.3.2.
    #[must_use]
    pub fn masa_url(mut self, url: impl Into<String>) -> Self {
        self.masa_url = Some(url.into());
        self
    }

    /// Adds a place where the CRL is published.
    #[must_use]
    pub fn crl_url(mut self, url: impl Into<String>) -> Self {
        self.crl_urls.push(url.into());
        self
    }

    /// Names other purposes in extendedKeyUsage than the profile does; none leaves the extension out.
    #[must_use]
    pub fn purposes(mut self, purposes: impl IntoIterator<Item = ObjectIdentifier>) -> Self {
        self.purposes = Some(purposes.into_iter().collect());
        self
    }

    /// Adds an extension that the profile does not know, with the DER of its value.
    #[must_use]
    pub fn extension(mut self, id: ObjectIdentifier, critical: bool, value: Vec<u8>) -> Self {
        self.extra.push(Extra {
            id,
            critical,
            value,
        });
        self
    }

    /// Lints, then signs under `issuer`'s name and key identifier.
    ///
    /// # Errors
    /// If `signer` does not hold the issuer's key, the issuer is no CA, the lint finds something, a
    /// value has no encoding, or signing fails.
    pub fn issue(&self, issuer: &Certificate, signer: &dyn Signer) -> Result<Certificate, Error> {
        check_issuer(issuer, signer)?;
        let key_id = key_id_of(issuer);
        self.sign(issuer.subject_der(), &key_id, signer)
    }

    /// Lints, then signs under the certificate's own name; `signer` holds its own key.
    ///
    /// # Errors
    /// If `signer` does not hold the certificate's key, the lint finds something, a value has no
    /// encoding, or signing fails.
    pub fn self_sign(&self, signer: &dyn Signer) -> Result<Certificate, Error> {
        if *signer.public_key() != self.public_key {
            return Err(Error::IdentityMismatch);
        }
        let subject = encode_name(&self.subject)?;
        self.sign(&subject, &self.public_key.sha1_key_id(), signer)
    }

    fn sign(
        &self,
        issuer: &[u8],
        key_id: &[u8],
        signer: &dyn Signer,
    ) -> Result<Certificate, Error> {
        let algorithm = signer.algorithm().identifier();
        let tbs = self.tbs(issuer, key_id, &algorithm)?;
        let assemble = |signature: &[u8]| {
            let signature = tlv::element(tlv::BIT_STRING, &[&[0], signature]);
            Certificate::from_der(&tlv::element(
                tlv::SEQUENCE,
                &[&tbs, &algorithm, &signature],
            ))
        };
        // Linted before it is signed: what was signed can only be revoked, not unsigned.
        let findings = lint(&assemble(&[0])?, self.profile);
        if !findings.is_empty() {
            let list: Vec<String> = findings
                .iter()
                .map(|found| format!("{}: {}", found.rule, found.detail))
                .collect();
            return Err(Error::ProfileLint(list.join("; ")));
        }
        assemble(&signer.sign(&tbs)?)
    }

    fn tbs(&self, issuer: &[u8], key_id: &[u8], algorithm: &[u8]) -> Result<Vec<u8>, Error> {
        let validity = tlv::element(
            tlv::SEQUENCE,
            &[
                &times::encode(self.not_before),
                &times::encode(self.not_after),
            ],
        );
        let extensions = self.extensions(key_id);
        let parts: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let extensions = tlv::element(0xa3, &[&tlv::element(tlv::SEQUENCE, &parts)]);
        Ok(tlv::element(
            tlv::SEQUENCE,
            &[
                // v3
                &[0xa0, 0x03, 0x02, 0x01, 0x02],
                &positive_integer(&self.serial),
                algorithm,
                issuer,
                &validity,
                &encode_name(&self.subject)?,
                self.public_key.spki_der(),
                &extensions,
            ],
        ))
    }

    fn extensions(&self, issuer_key_id: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        if self.profile.is_ca() {
            let length = match self.profile {
                Profile::SubCa {
                    path_length: Some(length),
                } => positive_integer(&[length]),
                _ => Vec::new(),
            };
            let constraints = tlv::element(tlv::SEQUENCE, &[&TRUE, &length]);
            all.push(extension(oid::BASIC_CONSTRAINTS, true, &constraints));
        }
        let usage = match self.profile {
            Profile::RootCa | Profile::SubCa { .. } => Some(KEY_CERT_SIGN_AND_CRL_SIGN),
            // BRSKI-2.3-02: the IDevID certificate SHOULD carry no keyUsage or extendedKeyUsage, so
            // that nothing restricts what the device may become.
            Profile::Idevid => None,
            _ => Some(DIGITAL_SIGNATURE),
        };
        if let Some(usage) = usage {
            let value = tlv::element(tlv::BIT_STRING, &[&usage]);
            all.push(extension(KEY_USAGE, true, &value));
        }
        let purposes = self
            .purposes
            .as_deref()
            .unwrap_or_else(|| self.profile.purposes());
        if !purposes.is_empty() {
            let purposes: Vec<Vec<u8>> = purposes.iter().copied().map(tlv::encode_oid).collect();
            let parts: Vec<&[u8]> = purposes.iter().map(Vec::as_slice).collect();
            let value = tlv::element(tlv::SEQUENCE, &parts);
            all.push(extension(oid::EXTENDED_KEY_USAGE, false, &value));
        }
        if !self.alt_names.is_empty() {
            let names: Vec<Vec<u8>> = self.alt_names.iter().map(AltName::encode).collect();
            let parts: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let value = tlv::element(tlv::SEQUENCE, &parts);
            // RFC 5280 §4.2.1.6: if the subject field contains an empty sequence, the issuing CA
            // MUST include a subjectAltName extension that is marked as critical.
            all.push(extension(
                oid::SUBJECT_ALT_NAME,
                self.subject.is_empty(),
                &value,
            ));
        }
        let key_id = tlv::element(tlv::OCTET_STRING, &[&self.public_key.sha1_key_id()]);
        all.push(extension(oid::SUBJECT_KEY_ID, false, &key_id));
        let value = tlv::element(tlv::SEQUENCE, &[&tlv::element(0x80, &[issuer_key_id])]);
        all.push(extension(oid::AUTHORITY_KEY_ID, false, &value));
        if let Some(url) = &self.masa_url {
            let value = tlv::element(tlv::IA5_STRING, &[url.as_bytes()]);
            all.push(extension(oid::MASA_URL, false, &value));
        }
        if !self.crl_urls.is_empty() {
            let names: Vec<Vec<u8>> = self
                .crl_urls
                .iter()
                .map(|url| tlv::element(0x86, &[url.as_bytes()]))
                .collect();
            let parts: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let name = tlv::element(0xa0, &[&tlv::element(0xa0, &parts)]);
            let points = tlv::element(tlv::SEQUENCE, &[&tlv::element(tlv::SEQUENCE, &[&name])]);
            all.push(extension(CRL_DISTRIBUTION_POINTS, false, &points));
        }
        all.extend(
            self.extra
                .iter()
                .map(|extra| extension(extra.id, extra.critical, &extra.value)),
        );
        all
    }
}

/// Parses a distinguished name in RFC 4514 form, for example `CN=Registrar,O=Example`; the empty text
/// is the empty name.
///
/// # Errors
/// If it is not one.
pub fn name(rfc4514: &str) -> Result<Name, Error> {
    if rfc4514.is_empty() {
        return Ok(Name::default());
    }
    Name::from_str(rfc4514)
        .map_err(|error| Error::Encoding(format!("distinguished name {rfc4514:?}: {error}")))
}

fn encode_name(name: &Name) -> Result<Vec<u8>, Error> {
    name.to_der()
        .map_err(|error| Error::Encoding(format!("distinguished name: {error}")))
}

/// The issuer must be a CA and the signer its key.
fn check_issuer(issuer: &Certificate, signer: &dyn Signer) -> Result<(), Error> {
    if signer.public_key() != issuer.public_key() {
        return Err(Error::IdentityMismatch);
    }
    if !issuer.is_ca() {
        return Err(Error::ProfileLint(format!(
            "issuer-is-ca: {} is no CA",
            issuer.subject()
        )));
    }
    Ok(())
}

fn key_id_of(issuer: &Certificate) -> Vec<u8> {
    issuer
        .subject_key_id()
        .unwrap_or_else(|| issuer.public_key().sha1_key_id().to_vec())
}

fn extension(id: ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &TRUE } else { &[] };
    let value = tlv::element(tlv::OCTET_STRING, &[value]);
    tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(id), critical, &value])
}

/// A positive INTEGER of the octets without their highest bit, so that 16 octets give 127 bits.
fn positive_integer(octets: &[u8]) -> Vec<u8> {
    let mut number = octets.to_vec();
    if let Some(first) = number.first_mut() {
        *first &= 0x7f;
    }
    let significant = number
        .iter()
        .position(|&octet| octet != 0)
        .unwrap_or(number.len());
    number.drain(..significant);
    // A zero in front keeps a number positive whose own first bit is set, and stands for zero.
    if number.first().is_none_or(|&first| first >= 0x80) {
        number.insert(0, 0);
    }
    tlv::element(tlv::INTEGER, &[&number])
}
