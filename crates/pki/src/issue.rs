//! Issuing certificates and CRLs: profiles, the lint that runs before each signature, and the
//! builders.
//!
//! Nothing here reads a clock or draws random numbers: validity and the serial number's random
//! bytes are arguments.

use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use time::OffsetDateTime;
use x509_cert::name::Name;

use crate::{Certificate, Crl, Error, HardwareModuleName, PublicKey, Signer};

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
    /// A factory identity of a device, valid until the year 9999.
    Idevid,
    /// An identity of a device in the owner's domain.
    Ldevid,
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
    crl_url: Option<String>,
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
            crl_url: None,
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

    /// Adds a CRL distribution point of RFC 5280 §4.2.1.13 with this URL as its full name.
    #[must_use]
    pub fn crl_url(mut self, url: impl Into<String>) -> Self {
        self.crl_url = Some(url.into());
        self
    }

    /// Lints, then signs under `issuer`'s name and key identifier.
    ///
    /// # Errors
    /// If the lint finds something, a value has no encoding, or signing fails.
    pub fn issue(&self, issuer: &Certificate, signer: &dyn Signer) -> Result<Certificate, Error> {
        let _ = (
            issuer,
            signer,
            &self.profile,
            &self.serial,
            &self.subject,
            &self.public_key,
        );
        let _ = (
            self.not_before,
            self.not_after,
            &self.alt_names,
            &self.masa_url,
            &self.crl_url,
        );
        todo!()
    }

    /// Lints, then signs under the certificate's own name; `signer` holds its own key.
    ///
    /// # Errors
    /// If the lint finds something, a value has no encoding, or signing fails.
    pub fn self_sign(&self, signer: &dyn Signer) -> Result<Certificate, Error> {
        let _ = signer;
        todo!()
    }
}

/// Parses a distinguished name in RFC 4514 form, for example `CN=Registrar,O=Example`.
///
/// # Errors
/// If it is not one.
pub fn name(rfc4514: &str) -> Result<Name, Error> {
    let _ = rfc4514;
    todo!()
}

/// Something that a certificate should not be signed with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The rule, for example `serial-entropy`.
    pub rule: &'static str,
    /// The particulars, for a person.
    pub detail: String,
}

/// Holds a certificate against its profile.
#[must_use]
pub fn lint(certificate: &Certificate, profile: Profile) -> Vec<Finding> {
    let _ = (certificate, profile);
    todo!()
}

/// Why a certificate was revoked, RFC 5280 §5.3.1.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the standard")]
pub enum RevocationReason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    PrivilegeWithdrawn,
}

/// Builds one CRL.
#[derive(Clone, Debug)]
pub struct CrlBuilder {
    number: u64,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    revoked: Vec<(Vec<u8>, OffsetDateTime, RevocationReason)>,
}

impl CrlBuilder {
    /// An empty CRL with its number, which must rise from one CRL to the next.
    #[must_use]
    pub fn new(number: u64, this_update: OffsetDateTime, next_update: OffsetDateTime) -> Self {
        Self {
            number,
            this_update,
            next_update,
            revoked: Vec::new(),
        }
    }

    /// Lists a certificate by its serial number's content octets.
    #[must_use]
    pub fn revoke(
        mut self,
        serial_number: &[u8],
        at: OffsetDateTime,
        reason: RevocationReason,
    ) -> Self {
        self.revoked.push((serial_number.to_vec(), at, reason));
        self
    }

    /// Signs under `issuer`'s name and key identifier.
    ///
    /// # Errors
    /// If the issuer may not sign CRLs, a value has no encoding, or signing fails.
    pub fn issue(&self, issuer: &Certificate, signer: &dyn Signer) -> Result<Crl, Error> {
        let _ = (
            issuer,
            signer,
            self.number,
            self.this_update,
            self.next_update,
            &self.revoked,
        );
        todo!()
    }
}
