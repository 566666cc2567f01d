//! The certification request, filled in as the server asked.

use std::net::IpAddr;

use der::{
    Decode, Encode, Tag, Tagged,
    asn1::{
        AnyRef, Ia5StringRef, ObjectIdentifier, OctetString, PrintableStringRef, Utf8StringRef,
    },
};
use pki::{Certificate, Csr, CsrBuilder, SignatureAlgorithm, Signer};
use x509_cert::{ext::Extension, name::Name};

use crate::{
    Error,
    csrattrs::{ExtensionTemplate, RdnTemplate, Requirements, oids},
    server::challenge_password,
    tlv,
};

/// What a device can say about itself where the server leaves a place open.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The subject to use when the server does not give one, as DER: that of the IDevID.
    pub subject_der: Vec<u8>,
    /// For a commonName without value; the serial number stands in if there is none.
    pub common_name: Option<String>,
    /// For a serialNumber without value.
    pub serial_number: Option<String>,
    /// For a subjectAltName without value.
    pub dns_names: Vec<String>,
    /// For a subjectAltName without value, and for an empty iPAddress in one.
    pub addresses: Vec<IpAddr>,
}

/// Makes a request that follows `requirements` as far as the device can. Places that it cannot
/// fill are left out, and the server judges. `binding` is the channel binding of the connection
/// that the request will go over; it is used if the server asks for it.
///
/// # Errors
/// The key is of another kind than asked for, or encoding or signing failed.
pub fn request(
    requirements: &Requirements,
    facts: &Facts,
    binding: Option<&[u8]>,
    signer: &dyn Signer,
) -> Result<Csr, Error> {
    let subject = if requirements.subject.is_empty() {
        facts.subject_der.clone()
    } else {
        subject(&requirements.subject, facts)?
    };
    let mut builder = builder(&subject)?;
    for wanted in &requirements.extensions {
        if let Some(value) = extension_value(wanted, facts, &subject)? {
            // CSRATTRS-3.4-06: "If the 'critical' field is present, the client SHOULD use it in
            // the extension as well."
            builder = builder.extension(Extension {
                extn_id: wanted.oid,
                critical: wanted.critical,
                extn_value: OctetString::new(value).map_err(Error::csr_attrs)?,
            });
        }
    }
    if let (true, Some(binding)) = (requirements.challenge_password, binding) {
        builder = builder.challenge_password(challenge_password(binding));
    }
    sign(&builder, requirements.signature_algorithm, signer)
}

/// Makes a request to renew `current`: the same subject and the same subjectAltName, as
/// [RFC 7030 §4.2.2](https://www.rfc-editor.org/rfc/rfc7030.html#section-4.2.2) has it. What the
/// server demands beyond the names is followed.
///
/// # Errors
/// The key is of another kind than asked for, or encoding or signing failed.
pub fn reenrol_request(
    current: &Certificate,
    requirements: &Requirements,
    binding: Option<&[u8]>,
    signer: &dyn Signer,
) -> Result<Csr, Error> {
    // EST-4.2.2-01: "The request Subject field and SubjectAltName extension MUST be identical to
    // the corresponding fields in the certificate being renewed/rekeyed."
    let mut builder = builder(current.subject_der())?;
    if let Some(names) = current.extension(oids::SUBJECT_ALT_NAME) {
        builder = builder.extension(Extension {
            extn_id: oids::SUBJECT_ALT_NAME,
            critical: false,
            extn_value: OctetString::new(names).map_err(Error::csr_attrs)?,
        });
    }
    for wanted in &requirements.extensions {
        if wanted.oid == oids::SUBJECT_ALT_NAME {
            continue;
        }
        let facts = Facts {
            subject_der: current.subject_der().to_vec(),
            ..Facts::default()
        };
        if let Some(value) = extension_value(wanted, &facts, current.subject_der())? {
            builder = builder.extension(Extension {
                extn_id: wanted.oid,
                critical: wanted.critical,
                extn_value: OctetString::new(value).map_err(Error::csr_attrs)?,
            });
        }
    }
    if let (true, Some(binding)) = (requirements.challenge_password, binding) {
        builder = builder.challenge_password(challenge_password(binding));
    }
    sign(&builder, requirements.signature_algorithm, signer)
}

fn builder(subject_der: &[u8]) -> Result<CsrBuilder, Error> {
    if subject_der.is_empty() {
        return Ok(CsrBuilder::new(Name::default()));
    }
    Ok(CsrBuilder::with_subject_der(subject_der)?)
}

fn sign(
    builder: &CsrBuilder,
    algorithm: Option<ObjectIdentifier>,
    signer: &dyn Signer,
) -> Result<Csr, Error> {
    // CSRATTRS-3.2-07: a signature algorithm that the server names is the one of the request.
    let Some(wanted) = algorithm else {
        return Ok(builder.sign(signer)?);
    };
    let identifier = |algorithm: SignatureAlgorithm| {
        AnyRef::from_der(&algorithm.identifier())
            .and_then(tlv::children)
            .and_then(|parts| parts.first().map(|oid| tlv::oid(*oid)).transpose())
            .ok()
            .flatten()
    };
    if identifier(signer.algorithm()) == Some(wanted) {
        return Ok(builder.sign(signer)?);
    }
    for candidate in CANDIDATES {
        if identifier(candidate) != Some(wanted) {
            continue;
        }
        let other = OtherAlgorithm {
            signer,
            algorithm: candidate,
        };
        match builder.sign(&other) {
            Ok(csr) => return Ok(csr),
            // Several candidates share an identifier, one for each curve.
            Err(pki::Error::AlgorithmKeyMismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::KeyKind)
}

const CANDIDATES: [SignatureAlgorithm; 13] = [
    SignatureAlgorithm::EcdsaP256Sha256,
    SignatureAlgorithm::EcdsaP256Sha384,
    SignatureAlgorithm::EcdsaP256Sha512,
    SignatureAlgorithm::EcdsaP384Sha256,
    SignatureAlgorithm::EcdsaP384Sha384,
    SignatureAlgorithm::EcdsaP384Sha512,
    SignatureAlgorithm::EcdsaP521Sha256,
    SignatureAlgorithm::EcdsaP521Sha384,
    SignatureAlgorithm::EcdsaP521Sha512,
    SignatureAlgorithm::RsaPkcs1Sha256,
    SignatureAlgorithm::RsaPkcs1Sha384,
    SignatureAlgorithm::RsaPkcs1Sha512,
    SignatureAlgorithm::RsaPssSha256,
];

/// A signer's key with another of its algorithms.
struct OtherAlgorithm<'a> {
    signer: &'a dyn Signer,
    algorithm: SignatureAlgorithm,
}

impl Signer for OtherAlgorithm<'_> {
    fn public_key(&self) -> &pki::PublicKey {
        self.signer.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, pki::Error> {
        self.signer.sign_with(self.algorithm, message)
    }
}

/// CSRATTRS-3.4-04: a type with a value is taken over, a type without is filled in.
fn subject(template: &[Vec<RdnTemplate>], facts: &Facts) -> Result<Vec<u8>, Error> {
    let mut rdns = Vec::new();
    for rdn in template {
        let mut singles = Vec::new();
        for single in rdn {
            let value = match &single.value {
                Some(value) => Some(value.clone()),
                None => fact(single.oid, facts)?,
            };
            if let Some(value) = value {
                let oid = single.oid.to_der().map_err(Error::csr_attrs)?;
                singles.push(tlv::sequence(&[oid, value]).map_err(Error::csr_attrs)?);
            }
        }
        if !singles.is_empty() {
            rdns.push(tlv::set_of(&singles).map_err(Error::csr_attrs)?);
        }
    }
    tlv::sequence(&rdns).map_err(Error::csr_attrs)
}

fn fact(oid: ObjectIdentifier, facts: &Facts) -> Result<Option<Vec<u8>>, Error> {
    let text = match oid {
        oids::COMMON_NAME => facts.common_name.as_ref().or(facts.serial_number.as_ref()),
        oids::SERIAL_NUMBER => facts.serial_number.as_ref(),
        _ => None,
    };
    if let Some(text) = text {
        // serialNumber is a PrintableString in X.520; the other types take any text.
        let der = match PrintableStringRef::new(text) {
            Ok(text) if oid == oids::SERIAL_NUMBER => text.to_der(),
            _ => Utf8StringRef::new(text).and_then(|text| text.to_der()),
        };
        return der.map(Some).map_err(Error::csr_attrs);
    }
    // Otherwise the value of the same type in the device's own name.
    let Ok(name) = Name::from_der(&facts.subject_der) else {
        return Ok(None);
    };
    name.iter()
        .find(|attribute| attribute.oid == oid)
        .map(|attribute| attribute.value.to_der().map_err(Error::csr_attrs))
        .transpose()
}

fn extension_value(
    wanted: &ExtensionTemplate,
    facts: &Facts,
    subject: &[u8],
) -> Result<Option<Vec<u8>>, Error> {
    if let Some(value) = &wanted.value {
        if wanted.oid == oids::SUBJECT_ALT_NAME {
            return fill_names(value, facts, subject).map(Some);
        }
        return Ok(Some(value.clone()));
    }
    let value = match wanted.oid {
        oids::SUBJECT_ALT_NAME => {
            let mut names = Vec::new();
            for name in &facts.dns_names {
                let text = Ia5StringRef::new(name).map_err(Error::csr_attrs)?;
                names.push(
                    tlv::wrap(tlv::context_primitive(2), text.as_bytes())
                        .map_err(Error::csr_attrs)?,
                );
            }
            for address in &facts.addresses {
                names.push(address_name(*address)?);
            }
            if names.is_empty() {
                return Ok(None);
            }
            tlv::sequence(&names).map_err(Error::csr_attrs)?
        }
        // digitalSignature: 7 unused bits, then the first bit.
        oids::KEY_USAGE => tlv::wrap(Tag::BitString, &[0x07, 0x80]).map_err(Error::csr_attrs)?,
        oids::EXT_KEY_USAGE => {
            let client = const_oid::db::rfc5280::ID_KP_CLIENT_AUTH;
            tlv::sequence(&[client.to_der().map_err(Error::csr_attrs)?])
                .map_err(Error::csr_attrs)?
        }
        oids::BASIC_CONSTRAINTS => tlv::sequence(&[]).map_err(Error::csr_attrs)?,
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn address_name(address: IpAddr) -> Result<Vec<u8>, Error> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    tlv::wrap(tlv::context_primitive(7), &octets).map_err(Error::csr_attrs)
}

/// Takes over each name that has a value, and fills an empty iPAddress or directoryName
/// ([RFC 9908 §3.4](https://www.rfc-editor.org/rfc/rfc9908.html#section-3.4)).
fn fill_names(value: &[u8], facts: &Facts, subject: &[u8]) -> Result<Vec<u8>, Error> {
    let whole = tlv::one(value).map_err(Error::csr_attrs)?;
    let names = tlv::children(whole).map_err(Error::csr_attrs)?;
    let is_open = |name: &AnyRef<'_>| {
        (name.tag() == tlv::context_primitive(7) && name.value().is_empty())
            || (name.tag() == tlv::context(4) && name.value() == [0x30, 0x00])
    };
    if !names.iter().any(is_open) {
        // CSRATTRS-3.2-06: unchanged, octet for octet.
        return Ok(value.to_vec());
    }
    let mut filled = Vec::new();
    for name in names {
        if !is_open(&name) {
            filled.push(tlv::bytes(name).map_err(Error::csr_attrs)?);
        } else if name.tag() == tlv::context(4) {
            filled.push(tlv::wrap(name.tag(), subject).map_err(Error::csr_attrs)?);
        } else if let Some(address) = facts.addresses.first() {
            filled.push(address_name(*address)?);
        }
    }
    tlv::sequence(&filled).map_err(Error::csr_attrs)
}
