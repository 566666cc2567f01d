//! Certificate requests inside the request for bootstrapping data (RFC 9646).
//!
//! A server that wants to give a device a certificate answers `csr-support` with an error that
//! says which CSR it wants ([`choose`]); the device's next request carries that CSR, and
//! [`check`] says whether it is the one, made with the key it names, by the device that sends
//! it. There is no transaction number: what was asked is kept for the device.

mod cmc;
mod cmp;
mod info;
mod names;
mod tlv;

use artifacts::Encoding;
use pki::{Csr, PublicKey};
use time::{Duration, OffsetDateTime};

use crate::message::{CsrFormat, CsrInput, CsrRequest, CsrSupport};
use crate::restconf::{Fault, RestconfError};

/// What the owner wants of the certificates that devices get.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Types of a new key, best first; empty when devices shall certify the key they have.
    pub algorithms: Vec<KeyAlgorithm>,
    /// Whether the key of the identity certificate may be certified when the device generates
    /// none of the types above.
    pub allow_identity_key: bool,
    /// Formats, best first.
    pub formats: Vec<CsrFormat>,
    /// Subject and attributes of the CSR; without it the device takes those of its identity
    /// certificate.
    pub template: Option<Template>,
    /// Refuse a device that offers nothing of the above, instead of going on without a
    /// certificate.
    pub required: bool,
    /// How long a request for a CSR may be answered.
    pub valid_for: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            algorithms: vec![
                KeyAlgorithm::EcP256,
                KeyAlgorithm::EcP384,
                KeyAlgorithm::Ed25519,
                KeyAlgorithm::Rsa,
            ],
            allow_identity_key: true,
            formats: vec![CsrFormat::P10],
            template: None,
            required: false,
            valid_for: Duration::minutes(10),
        }
    }
}

/// What the CSR shall contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// DER of the subject's Name.
    pub subject: Vec<u8>,
    /// The attributes, each the DER of an Attribute.
    pub attributes: Vec<Vec<u8>>,
}

/// A type of key as RFC 9646 names it: by the AlgorithmIdentifier of its
/// SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say all there is to say")]
#[non_exhaustive]
pub enum KeyAlgorithm {
    EcP256,
    EcP384,
    EcP521,
    Ed25519,
    Rsa,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl KeyAlgorithm {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::EcP256,
        Self::EcP384,
        Self::EcP521,
        Self::Ed25519,
        Self::Rsa,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// The DER AlgorithmIdentifier.
    #[must_use]
    pub fn identifier(self) -> &'static [u8] {
        info::identifier(self)
    }

    /// The type that an AlgorithmIdentifier names, its forms without parameters included.
    #[must_use]
    pub fn from_identifier(der: &[u8]) -> Option<Self> {
        info::algorithm(der)
    }

    /// The type of a key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Option<Self> {
        info::key_algorithm(key.spki_der()).and_then(Self::from_identifier)
    }

    /// The name in configuration files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::EcP521 => "ec-p521",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|algorithm| algorithm.as_str() == name)
    }
}

/// The device as its transport showed it.
#[derive(Clone, Debug)]
pub struct Device<'a> {
    /// Its serial number by the manufacturer's own rule.
    pub serial: &'a str,
    /// The certificate that authenticated it; `None` for a password.
    pub identity: Option<&'a pki::Certificate>,
}

/// A request for a CSR that this device was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was asked.
    pub request: CsrRequest,
    /// When.
    pub at: OffsetDateTime,
}

/// A CSR that is what was asked for.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The PKCS#10 request, out of its envelope where it had one.
    pub csr: Csr,
    /// The format it came in.
    pub format: CsrFormat,
    /// Whether the key is new, or that of the identity certificate.
    pub is_new_key: bool,
    /// What shows that it comes from the device.
    pub origin: Origin,
}

/// What shows that a CSR comes from the device that sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is signed with the key of the identity certificate.
    IdentityKey,
    /// Its envelope is signed with the key of the identity certificate.
    Envelope,
    /// The device authenticated itself on the connection, and nothing else shows it.
    Transport,
}

/// Which CSR to ask a device for; `None` to go on without a certificate.
///
/// # Errors
/// The device offers nothing that the policy allows, and the policy wants a certificate.
pub fn choose(
    support: &CsrSupport,
    policy: &Policy,
    device: &Device<'_>,
) -> Result<Option<CsrRequest>, RestconfError> {
    let none = |detail: &str| match policy.required {
        true => Err(RestconfError::new(Fault::CsrNoneAcceptable, detail)),
        // SZTP-9646-2.2-02: a server may ignore csr-support.
        false => Ok(None),
    };
    // SZTP-9646-3.2-06: the format is one of those that were offered.
    let format = policy
        .formats
        .iter()
        .copied()
        .find(|format| support.formats.contains(format));
    let Some(format) = format else {
        return none("none of the offered formats is accepted");
    };
    // SZTP-9646-3.2-05: the algorithm is one of those that were offered, octet for octet.
    let offered = support.algorithms.as_deref().unwrap_or_default();
    let algorithm = policy.algorithms.iter().find_map(|wanted| {
        offered
            .iter()
            .find(|der| KeyAlgorithm::from_identifier(der) == Some(*wanted))
    });
    let identity_key = device.identity.map(pki::Certificate::public_key);
    // SZTP-9646-3.2-03, SZTP-9646-3.2-04: a new key only where key-generation was offered.
    if algorithm.is_none() && !(policy.allow_identity_key && identity_key.is_some()) {
        return none("none of the offered key algorithms is accepted");
    }
    let cert_req_info = policy
        .template
        .as_ref()
        .map(|template| match (algorithm, identity_key) {
            (Some(algorithm), _) => info::encode(template, &info::placeholder(algorithm)),
            (None, Some(key)) => info::encode(template, key.spki_der()),
            (None, None) => Vec::new(),
        });
    Ok(Some(CsrRequest {
        algorithm: algorithm.cloned(),
        format,
        cert_req_info,
    }))
}

/// The error by which a server asks for a CSR.
#[must_use]
pub fn ask(request: &CsrRequest) -> RestconfError {
    // SZTP-9646-2.3-01: 400, missing-attribute, csr-request in error-info.
    RestconfError::new(
        Fault::CsrWanted,
        "send the certificate request that error-info describes",
    )
    .with_csr_request(request.clone())
}

/// Checks the CSR of a device against what it was asked for.
///
/// # Errors
/// What is wrong with it; where another attempt makes sense, with the request for a CSR again.
pub fn check(
    input: &CsrInput,
    asked: Option<&Asked>,
    policy: &Policy,
    device: &Device<'_>,
    now: OffsetDateTime,
) -> Result<Checked, RestconfError> {
    // There is no transaction number, so the device is what correlates the two requests.
    let Some(asked) = asked.filter(|asked| now <= asked.at + policy.valid_for) else {
        return Err(RestconfError::new(
            Fault::CsrNotRequested,
            "no request for a CSR is open for this device; send csr-support first",
        ));
    };
    let request = &asked.request;
    let again = |fault: Fault, detail: String| {
        RestconfError::new(fault, detail).with_csr_request(request.clone())
    };
    let (format, csr, envelope) = match input {
        CsrInput::Support(_) => {
            return Err(RestconfError::new(
                Fault::CsrMalformed,
                "csr-support is no certificate request",
            ));
        }
        CsrInput::P10(der) => (CsrFormat::P10, p10(der)?, None),
        CsrInput::Cmc(der) => {
            let (csr, envelope) = cmc::read(der, device)?;
            (CsrFormat::Cmc, csr, Some(envelope))
        }
        CsrInput::Cmp(der) => {
            let (csr, envelope) = cmp::read(der, device)?;
            (CsrFormat::Cmp, csr, Some(envelope))
        }
    };
    if format != request.format {
        let detail = format!("{format} came where {} was asked for", request.format);
        return Err(again(Fault::CsrMismatch, detail));
    }
    // SZTP-9646-4.2.1-01: signed with the key that it names.
    if let Err(error) = csr.verify() {
        return Err(RestconfError::new(Fault::CsrPossession, error.to_string()));
    }
    let identity = device.identity.map(pki::Certificate::public_key);
    let is_identity_key = identity.is_some_and(|key| key.is_same_key(csr.public_key()));
    match &request.algorithm {
        Some(algorithm) => {
            // SZTP-9646-4.1.3-01: a new key was asked for.
            if is_identity_key {
                let detail =
                    "the key of the identity certificate came where a new one was asked for";
                return Err(again(Fault::CsrMismatch, detail.to_owned()));
            }
            // SZTP-9646-3.2-05: of the type that was selected.
            if info::key_algorithm(csr.public_key().spki_der()) != Some(algorithm.as_slice()) {
                let detail = format!(
                    "a key {} came where another type was asked for",
                    csr.public_key().describe()
                );
                return Err(again(Fault::CsrMismatch, detail));
            }
        }
        // SZTP-9646-4.2.2-01: without key generation the key is that of the identity.
        None if !is_identity_key => {
            return Err(RestconfError::new(
                Fault::CsrOrigin,
                "the CSR is not made with the key of the identity certificate",
            ));
        }
        None => {}
    }
    // SZTP-9646-4.1.5-01: another device's CSR is refused, whoever brings it.
    if let Some(serial) = csr.subject_serial_number() {
        let is_identity_subject = device
            .identity
            .and_then(pki::Certificate::subject_serial_number)
            .is_some_and(|own| own == serial);
        let is_template_subject = policy
            .template
            .as_ref()
            .is_some_and(|template| template.subject == csr.subject_der());
        if serial != device.serial && !is_identity_subject && !is_template_subject {
            return Err(RestconfError::new(
                Fault::CsrOrigin,
                "the CSR names the serial number of another device",
            ));
        }
    }
    match &request.cert_req_info {
        // SZTP-9646-3.2-10: what cert-req-info gave is what comes back, the new key aside.
        Some(info) => {
            info::matches(info, &csr).map_err(|detail| again(Fault::CsrMismatch, detail.into()))?;
        }
        // The CA takes names from a registration authority as they are, so this is where a device
        // that would be somebody else is found out.
        None => names::are_own(&csr, device)
            .map_err(|detail| RestconfError::new(Fault::CsrOrigin, detail))?,
    }
    let origin = match envelope {
        _ if is_identity_key => Origin::IdentityKey,
        Some(cmc::Envelope::Signed) => Origin::Envelope,
        // SZTP-9646-4.2.2-02: a bare PKCS#10 with a new key has the transport only.
        _ => Origin::Transport,
    };
    Ok(Checked {
        csr,
        format,
        is_new_key: !is_identity_key,
        origin,
    })
}

/// Reads a DER PKCS#10 request.
fn p10(der: &[u8]) -> Result<Csr, RestconfError> {
    // SZTP-9646-3.2-13: DER, no PEM armour.
    Csr::from_der(der).map_err(|error| RestconfError::new(Fault::CsrMalformed, error.to_string()))
}

impl CsrRequest {
    /// The structure on its own, to be kept until the device answers it.
    #[must_use]
    pub fn encode(&self, encoding: Encoding) -> Vec<u8> {
        crate::schema::encode(&crate::schema::CSR_REQUEST_ALONE, &self.element(), encoding)
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// It is no csr-request, or one of an unknown format.
    pub fn decode(body: &[u8], encoding: Encoding) -> Result<Self, RestconfError> {
        let element = crate::schema::decode(
            &crate::schema::CSR_REQUEST_ALONE,
            body,
            encoding,
            &crate::Leniency::strict(),
            &mut Vec::new(),
        )?;
        Self::from_element(&element)
            .ok_or_else(|| RestconfError::new(Fault::BadValue, "a format that is not known"))
    }
}
