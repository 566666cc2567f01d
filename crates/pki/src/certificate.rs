//! X.509 certificates.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use const_oid::ObjectIdentifier;
use der::Decode as _;
use time::OffsetDateTime;

use crate::limits::{CERTIFICATE_SIZE_MAX_BYTES, CERTIFICATES_PER_FILE_MAX};
use crate::tlv::{self, Reader, Tlv, TlvError};
use crate::{Document, Error, PublicKey, names, oid, pem, public_key, times};

/// An X.509 certificate with its DER as received. Cheap to clone; two are equal if their DER is.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    x509: x509_cert::Certificate,
    public_key: PublicKey,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    layout: Layout,
    /// The key by which the signature was found to hold. It cannot stop holding, and the same
    /// certificate is judged several times for one request and for each request of a connection.
    verified_by: OnceLock<PublicKey>,
    /// The subject as text, once somebody asked: servers write it for each request of a connection.
    subject: OnceLock<String>,
}

/// Where the parts are in the DER, so that nothing is ever encoded again.
struct Layout {
    tbs: Range<usize>,
    inner_algorithm: Range<usize>,
    issuer: Range<usize>,
    not_before: Range<usize>,
    not_after: Range<usize>,
    subject: Range<usize>,
    spki: Range<usize>,
    outer_algorithm: Range<usize>,
    signature: Range<usize>,
}

/// hardwareModuleName of RFC 4108 §5, found in the subjectAltName of some IDevIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HardwareModuleName {
    /// The type of hardware module.
    pub hardware_type: ObjectIdentifier,
    /// Its serial number, an OCTET STRING.
    pub serial_number: Vec<u8>,
}

impl Certificate {
    /// Parses one certificate.
    ///
    /// # Errors
    /// If it is not one well-formed DER certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        if der.len() > CERTIFICATE_SIZE_MAX_BYTES {
            return Err(Error::LimitExceeded {
                document: Document::Certificate,
                what: "octets",
                limit: CERTIFICATE_SIZE_MAX_BYTES,
            });
        }
        let (layout, not_before, not_after) =
            read_layout(der).map_err(|error| Error::malformed(Document::Certificate, error))?;
        let x509 = decode(der, &layout, not_before, not_after)?;
        // RFC 5280 §4.2: A certificate MUST NOT include more than one instance of a particular
        // extension. Which one counts would otherwise be the reader's choice.
        let extensions = x509
            .tbs_certificate()
            .extensions()
            .map_or(&[][..], Vec::as_slice);
        for (index, extension) in extensions.iter().enumerate() {
            if extensions
                .iter()
                .skip(index + 1)
                .any(|other| other.extn_id == extension.extn_id)
            {
                let detail = format!("extension {} appears twice", extension.extn_id);
                return Err(Error::malformed(Document::Certificate, detail));
            }
        }
        let public_key = PublicKey::from_spki_der(part(der, &layout.spki))?;
        let der = der.to_vec();
        Ok(Self(Arc::new(Inner {
            der,
            x509,
            public_key,
            not_before,
            not_after,
            layout,
            verified_by: OnceLock::new(),
            subject: OnceLock::new(),
        })))
    }

    /// Parses the first certificate of a PEM text.
    ///
    /// # Errors
    /// If there is none or it is malformed.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        for block in pem::blocks(pem) {
            let block = block?;
            if is_certificate(block.label) {
                return Self::from_der(&block.der);
            }
        }
        Err(Error::malformed(
            Document::Pem,
            "there is no certificate in it",
        ))
    }

    /// Reads a file with one certificate, PEM or DER.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let bytes = pem::read_file(path.as_ref())?;
        if pem::is_pem(&bytes) {
            Self::from_pem(&String::from_utf8_lossy(&bytes))
        } else {
            Self::from_der(&bytes)
        }
    }

    /// Reads a file of certificates: PEM blocks, or one DER certificate.
    ///
    /// # Errors
    /// If the file cannot be read, holds none, or one is malformed.
    pub fn load_all(path: impl AsRef<Path>) -> Result<Vec<Self>, Error> {
        let bytes = pem::read_file(path.as_ref())?;
        if pem::is_pem(&bytes) {
            Self::all_from_pem(&String::from_utf8_lossy(&bytes))
        } else {
            Ok(vec![Self::from_der(&bytes)?])
        }
    }

    /// Parses all certificates of a PEM text in order.
    ///
    /// # Errors
    /// If there is none or one is malformed.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for block in pem::blocks(pem) {
            let block = block?;
            if !is_certificate(block.label) {
                continue;
            }
            if all.len() == CERTIFICATES_PER_FILE_MAX {
                return Err(Error::LimitExceeded {
                    document: Document::Pem,
                    what: "certificates",
                    limit: CERTIFICATES_PER_FILE_MAX,
                });
            }
            all.push(Self::from_der(&block.der)?);
        }
        if all.is_empty() {
            return Err(Error::malformed(
                Document::Pem,
                "there is no certificate in it",
            ));
        }
        Ok(all)
    }

    /// The DER as received.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The certificate as PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.0.der)
    }

    /// The decoded structure. Times before 1970, which its types cannot hold, appear in it as the
    /// first second of 1970; [`Self::not_before`] and [`Self::not_after`] are exact.
    pub fn x509(&self) -> &x509_cert::Certificate {
        &self.0.x509
    }

    /// The DER of the TBSCertificate as received: what the signature covers.
    pub fn tbs_der(&self) -> &[u8] {
        self.part(&self.0.layout.tbs)
    }

    /// The subject's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The subject as an RFC 4514 string.
    pub fn subject(&self) -> String {
        let text = || self.0.x509.tbs_certificate().subject().to_string();
        self.0.subject.get_or_init(text).clone()
    }

    /// The issuer as an RFC 4514 string.
    pub fn issuer(&self) -> String {
        self.0.x509.tbs_certificate().issuer().to_string()
    }

    /// The DER of the subject as received.
    pub fn subject_der(&self) -> &[u8] {
        self.part(&self.0.layout.subject)
    }

    /// The DER of the issuer as received.
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.0.layout.issuer)
    }

    /// The certificate's serial number: the INTEGER's content octets.
    pub fn serial_number(&self) -> &[u8] {
        self.0.x509.tbs_certificate().serial_number().as_bytes()
    }

    /// The X520SerialNumber attribute of the subject: the device's serial number. A subject with
    /// two different ones has none.
    pub fn subject_serial_number(&self) -> Option<String> {
        names::serial_number(self.subject_der())
    }

    /// The subjectKeyIdentifier.
    pub fn subject_key_id(&self) -> Option<Vec<u8>> {
        let mut reader = Reader::der(self.extension(oid::SUBJECT_KEY_ID)?);
        let id = reader.expect(tlv::OCTET_STRING).ok()?.value.to_vec();
        reader.is_empty().then_some(id)
    }

    /// The keyIdentifier of the authorityKeyIdentifier.
    pub fn authority_key_id(&self) -> Option<Vec<u8>> {
        let mut fields = Reader::der(self.extension(oid::AUTHORITY_KEY_ID)?)
            .enter(tlv::SEQUENCE)
            .ok()?;
        Some(fields.optional(0x80).ok()??.value.to_vec())
    }

    /// The content of the authorityKeyIdentifier's extnValue.
    pub fn authority_key_id_extension(&self) -> Option<Vec<u8>> {
        self.extension(oid::AUTHORITY_KEY_ID).map(<[u8]>::to_vec)
    }

    /// The MASA URL extension of RFC 8995 §2.3.2.
    pub fn masa_url(&self) -> Option<String> {
        let mut reader = Reader::der(self.extension(oid::MASA_URL)?);
        let url = reader.any().ok()?;
        reader.finish().ok()?;
        // The extension is an IA5String; UTF8String is met in the field and means the same.
        match url.tag {
            tlv::IA5_STRING | tlv::UTF8_STRING if url.value.is_ascii() => tlv::text(&url),
            _ => None,
        }
    }

    /// The URLs of the cRLDistributionPoints, in their order; other forms of names are left out.
    pub fn crl_urls(&self) -> Vec<String> {
        const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
        let mut urls = Vec::new();
        let Some(extension) = self.extension(CRL_DISTRIBUTION_POINTS) else {
            return urls;
        };
        let Ok(mut points) = Reader::der(extension).enter(tlv::SEQUENCE) else {
            return urls;
        };
        while let Ok(mut point) = points.enter(tlv::SEQUENCE) {
            // distributionPoint [0] EXPLICIT, of it fullName [0] IMPLICIT GeneralNames.
            let names = point.enter(0xa0).and_then(|mut name| name.enter(0xa0));
            let Ok(mut names) = names else { continue };
            while let Ok(name) = names.any() {
                if name.tag == 0x86 && name.value.is_ascii() {
                    urls.extend(std::str::from_utf8(name.value).map(str::to_owned));
                }
            }
        }
        urls
    }

    /// The hardwareModuleName of the subjectAltName.
    pub fn hardware_module_name(&self) -> Option<HardwareModuleName> {
        names::hardware_module_name(self.extension(oid::SUBJECT_ALT_NAME)?)
    }

    /// The purposes of the extendedKeyUsage; empty if there is no such extension.
    pub fn extended_key_usages(&self) -> Vec<ObjectIdentifier> {
        let mut found = Vec::new();
        let Some(extension) = self.extension(oid::EXTENDED_KEY_USAGE) else {
            return found;
        };
        let Ok(mut purposes) = Reader::der(extension).enter(tlv::SEQUENCE) else {
            return found;
        };
        while let Ok(purpose) = purposes.oid() {
            found.push(purpose);
        }
        found
    }

    /// Whether the key may make signatures over other things than certificates: there is no
    /// keyUsage, or digitalSignature is in it.
    pub fn may_sign(&self) -> bool {
        self.has_key_usage(0x80)
    }

    /// Whether keys may be encrypted to the key: no keyUsage, or keyEncipherment in it.
    pub fn may_encipher_keys(&self) -> bool {
        self.has_key_usage(0x20)
    }

    /// Whether the key may be used to agree on keys: no keyUsage, or keyAgreement in it.
    pub fn may_agree_on_keys(&self) -> bool {
        self.has_key_usage(0x08)
    }

    /// Whether one of the first eight bits of keyUsage is set, or there is no such extension.
    fn has_key_usage(&self, bit: u8) -> bool {
        let Some(extension) = self.extension(oid::KEY_USAGE) else {
            return true;
        };
        // The first octet of a BIT STRING counts the unused bits at its end.
        let bits = Reader::der(extension).expect(tlv::BIT_STRING);
        bits.is_ok_and(|bits| bits.value.get(1).is_some_and(|octet| octet & bit != 0))
    }

    /// Whether extendedKeyUsage has id-kp-cmcRA.
    pub fn has_cmc_ra(&self) -> bool {
        self.extended_key_usages().contains(&oid::CMC_RA)
    }

    /// Whether basicConstraints says CA.
    pub fn is_ca(&self) -> bool {
        let constraints = self
            .extension(oid::BASIC_CONSTRAINTS)
            .and_then(|value| Reader::der(value).enter(tlv::SEQUENCE).ok());
        // cA is a BOOLEAN, DEFAULT FALSE; true is 0xff in DER.
        constraints.is_some_and(|fields| fields.rest().starts_with(&[0x01, 0x01, 0xff]))
    }

    /// The dNSNames of the subjectAltName.
    pub fn dns_names(&self) -> Vec<String> {
        self.extension(oid::SUBJECT_ALT_NAME)
            .map(names::dns_names)
            .unwrap_or_default()
    }

    /// Start of validity.
    pub fn not_before(&self) -> OffsetDateTime {
        self.0.not_before
    }

    /// End of validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.0.not_after
    }

    /// SHA-256 over the DER.
    pub fn sha256(&self) -> [u8; 32] {
        public_key::sha256(&self.0.der)
    }

    /// Whether subject and issuer are the same name. The signature is not looked at.
    pub fn is_self_issued(&self) -> bool {
        self.subject_der() == self.issuer_der()
    }

    /// The content octets of an extension's extnValue.
    pub fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let extensions = self.0.x509.tbs_certificate().extensions()?;
        let extension = extensions
            .iter()
            .find(|extension| extension.extn_id == id)?;
        Some(extension.extn_value.as_bytes())
    }

    /// Verifies the certificate's signature under a public key. This is mathematics only; whether
    /// the key may sign certificates is for path validation.
    ///
    /// # Errors
    /// If it does not verify, or the algorithm is unsupported or legacy.
    pub fn verify_signature_by(&self, key: &PublicKey) -> Result<(), Error> {
        self.verify_signature(key, false)
    }

    /// As [`Self::verify_signature_by`], legacy algorithms included.
    ///
    /// # Errors
    /// If it does not verify or the algorithm is unsupported.
    pub fn verify_signature_by_legacy(&self, key: &PublicKey) -> Result<(), Error> {
        self.verify_signature(key, true)
    }

    fn verify_signature(&self, key: &PublicKey, allow_legacy: bool) -> Result<(), Error> {
        if self.0.verified_by.get() == Some(key) {
            return Ok(());
        }
        let algorithm = self.part(&self.0.layout.outer_algorithm);
        // RFC 5280 §4.1.1.2: This field MUST contain the same algorithm identifier as the
        // signature field in the sequence tbsCertificate.
        if algorithm != self.part(&self.0.layout.inner_algorithm) {
            return Err(Error::malformed(
                Document::Certificate,
                "signature and signatureAlgorithm differ",
            ));
        }
        let signature = self.part(&self.0.layout.signature);
        key.verify_identified(algorithm, self.tbs_der(), signature, allow_legacy)
            .map_err(|error| match error {
                Error::SignatureInvalid(_) => Error::SignatureInvalid(Document::Certificate),
                // The same code says it for CMS; in a certificate it is just malformed.
                Error::CmsPssParameters => {
                    Error::malformed(Document::Certificate, "RSASSA-PSS parameters are missing")
                }
                other => other,
            })?;
        // A legacy algorithm is not remembered: where none is allowed it has to be refused again.
        if !allow_legacy {
            let _ = self.0.verified_by.set(key.clone());
        }
        Ok(())
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        part(&self.0.der, range)
    }
}

fn is_certificate(label: &str) -> bool {
    matches!(label, "CERTIFICATE" | "X509 CERTIFICATE")
}

/// The ranges come from reading the same octets, so they are always inside.
fn part<'a>(der: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    der.get(range.clone()).unwrap_or_default()
}

fn read_layout(der: &[u8]) -> tlv::Result<(Layout, OffsetDateTime, OffsetDateTime)> {
    // Everything that is left to read ends where `der` ends, so positions follow from lengths.
    let mut file = Reader::der(der);
    let mut outer = file.enter(tlv::SEQUENCE)?;
    file.finish()?;
    // Positions are counted from the end: `rest` always reaches to the end of `der` for the outer
    // reader, and to the end of the TBSCertificate for the inner one.
    let range_in = |end: usize, reader: &Reader<'_, '_>, tlv: &Tlv<'_>| {
        let stop = end - reader.rest().len();
        stop - tlv.raw.len()..stop
    };
    let tbs_element = outer.expect(tlv::SEQUENCE)?;
    let tbs = range_in(der.len(), &outer, &tbs_element);
    let algorithm_element = outer.expect(tlv::SEQUENCE)?;
    let outer_algorithm = range_in(der.len(), &outer, &algorithm_element);
    let signature_bits = outer.bit_string()?;
    outer.finish()?;
    let signature = der.len() - signature_bits.len()..der.len();

    let end = tbs.end;
    let mut fields = outer.inside(&tbs_element)?;
    fields.optional(0xa0)?;
    fields.integer()?;
    let element = fields.expect(tlv::SEQUENCE)?;
    let inner_algorithm = range_in(end, &fields, &element);
    let element = fields.expect(tlv::SEQUENCE)?;
    let issuer = range_in(end, &fields, &element);
    let validity_element = fields.expect(tlv::SEQUENCE)?;
    let validity_end = range_in(end, &fields, &validity_element).end;
    let mut validity = fields.inside(&validity_element)?;
    let start_element = validity.any()?;
    let not_before = range_in(validity_end, &validity, &start_element);
    let end_element = validity.any()?;
    let not_after = range_in(validity_end, &validity, &end_element);
    validity.finish()?;
    let element = fields.expect(tlv::SEQUENCE)?;
    let subject = range_in(end, &fields, &element);
    let element = fields.expect(tlv::SEQUENCE)?;
    let spki = range_in(end, &fields, &element);
    let layout = Layout {
        tbs,
        inner_algorithm,
        issuer,
        not_before,
        not_after,
        subject,
        spki,
        outer_algorithm,
        signature,
    };
    Ok((
        layout,
        times::read(&start_element)?,
        times::read(&end_element)?,
    ))
}

/// Decodes the structure. Its time type starts in 1970; UTCTime reaches back to 1950, and such
/// certificates are legal. For them a copy with the first second of 1970 is decoded.
fn decode(
    der: &[u8],
    layout: &Layout,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> Result<x509_cert::Certificate, Error> {
    let malformed = |error: der::Error| Error::malformed(Document::Certificate, error);
    let early = |time: OffsetDateTime| time.unix_timestamp() < 0;
    if !early(not_before) && !early(not_after) {
        return x509_cert::Certificate::from_der(der).map_err(malformed);
    }
    let mut copy = der.to_vec();
    for (time, range) in [
        (not_before, &layout.not_before),
        (not_after, &layout.not_after),
    ] {
        if !early(time) {
            continue;
        }
        let epoch: &[u8] = match range.len() {
            15 => b"\x17\x0d700101000000Z",
            17 => b"\x18\x0f19700101000000Z",
            _ => return Err(Error::malformed(Document::Certificate, TlvError("time"))),
        };
        if let Some(slot) = copy.get_mut(range.clone()) {
            slot.copy_from_slice(epoch);
        }
    }
    x509_cert::Certificate::from_der(&copy).map_err(malformed)
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl std::hash::Hash for Certificate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}
