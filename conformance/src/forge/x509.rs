//! Certificates and requests for them by hand.

use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    cms::Signatory,
    der,
    key::{Hash, Key},
};

/// id-kp-cmcRA.
pub const CMC_RA: &str = "1.3.6.1.5.5.7.3.28";
/// id-kp-serverAuth.
pub const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// id-kp-clientAuth.
pub const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
/// The end of an identity without a known end.
pub const FOREVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

const COMMON_NAME: &str = "2.5.4.3";
const SERIAL_NUMBER: &str = "2.5.4.5";
const ORGANIZATION: &str = "2.5.4.10";
const SUBJECT_KEY_ID: &str = "2.5.29.14";
const KEY_USAGE: &str = "2.5.29.15";
const ALT_NAME: &str = "2.5.29.17";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const AUTHORITY_KEY_ID: &str = "2.5.29.35";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const MASA_URL: &str = "1.3.6.1.5.5.7.1.32";

/// A name: organisation, common name and, for a device, serial number.
#[must_use]
pub fn name(organization: &str, common_name: &str, serial_number: Option<&str>) -> Vec<u8> {
    let mut parts = Vec::new();
    let part = |kind: &str, value: Vec<u8>| der::set(&[der::seq(&[der::oid(kind), value])]);
    if !organization.is_empty() {
        parts.push(part(ORGANIZATION, der::utf8(organization)));
    }
    if !common_name.is_empty() {
        parts.push(part(COMMON_NAME, der::utf8(common_name)));
    }
    if let Some(serial_number) = serial_number {
        // X520SerialNumber is a PrintableString.
        parts.push(part(SERIAL_NUMBER, der::printable(serial_number)));
    }
    der::seq(&parts)
}

/// One extension.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its identifier.
    pub id: String,
    /// Whether it has to be understood.
    pub critical: bool,
    /// The content of extnValue.
    pub value: Vec<u8>,
}

/// A certificate before it is signed.
#[derive(Clone)]
pub struct Certificate {
    /// 0 is version 1, 2 is version 3.
    pub version: u8,
    /// The certificate's serial number.
    pub serial: Vec<u8>,
    /// The issuer's name.
    pub issuer: Vec<u8>,
    /// The subject's name.
    pub subject: Vec<u8>,
    /// The beginning of validity.
    pub not_before: OffsetDateTime,
    /// The end of validity.
    pub not_after: OffsetDateTime,
    /// The key.
    pub spki: Vec<u8>,
    /// The extensions.
    pub extensions: Vec<Extension>,
    /// The hash of the signature, if not the key's own.
    pub hash: Option<Hash>,
    /// Another algorithm inside than outside.
    pub inner_algorithm: Option<Vec<u8>>,
}

impl Certificate {
    /// One without extensions. The serial number follows from the names, so it is the same each
    /// time.
    #[must_use]
    pub fn new(issuer: &[u8], subject: &[u8], spki: &[u8], at: OffsetDateTime) -> Self {
        let mut serial = Hash::Sha256.of(&[issuer, subject, spki].concat());
        serial.truncate(15);
        // A leading zero octet would not be minimal, and a leading one makes it positive.
        serial.insert(0, 1);
        Self {
            version: 2,
            serial,
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            not_before: at - Duration::days(1),
            not_after: at + Duration::days(3650),
            spki: spki.to_vec(),
            extensions: Vec::new(),
            hash: None,
            inner_algorithm: None,
        }
    }

    /// Changes it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Adds an extension.
    #[must_use]
    pub fn extension(mut self, id: &str, critical: bool, value: Vec<u8>) -> Self {
        self.extensions.push(Extension {
            id: id.to_owned(),
            critical,
            value,
        });
        self
    }

    /// Takes an extension out.
    #[must_use]
    pub fn without(mut self, id: &str) -> Self {
        self.extensions.retain(|extension| extension.id != id);
        self
    }

    /// Adds the extensions of a CA.
    #[must_use]
    pub fn ca(self, key_id: &[u8], path_length: Option<u8>) -> Self {
        let mut constraints = vec![der::boolean(true)];
        constraints.extend(path_length.map(der::int));
        // keyCertSign and cRLSign.
        self.extension(BASIC_CONSTRAINTS, true, der::seq(&constraints))
            .extension(KEY_USAGE, true, der::tlv(0x03, &[1, 0b0000_0110]))
            .extension(SUBJECT_KEY_ID, false, der::octets(key_id))
    }

    /// Adds key usage digitalSignature and the key identifier.
    #[must_use]
    pub fn end_entity(self, key_id: &[u8]) -> Self {
        self.extension(KEY_USAGE, true, der::tlv(0x03, &[7, 0b1000_0000]))
            .extension(SUBJECT_KEY_ID, false, der::octets(key_id))
    }

    /// Adds the issuer's key identifier.
    #[must_use]
    pub fn issued_by(self, key_id: &[u8]) -> Self {
        self.extension(
            AUTHORITY_KEY_ID,
            false,
            der::seq(&[der::implicit(0, key_id)]),
        )
    }

    /// Adds purposes.
    #[must_use]
    pub fn purposes(self, purposes: &[&str]) -> Self {
        let oids: Vec<_> = purposes.iter().map(|purpose| der::oid(purpose)).collect();
        self.extension(EXTENDED_KEY_USAGE, false, der::seq(&oids))
    }

    /// Adds host names and addresses.
    #[must_use]
    pub fn hosts(self, names: &[&str]) -> Self {
        let names: Vec<_> = names
            .iter()
            .map(|name| match name.parse::<std::net::IpAddr>() {
                Ok(std::net::IpAddr::V4(address)) => der::implicit(7, &address.octets()),
                Ok(std::net::IpAddr::V6(address)) => der::implicit(7, &address.octets()),
                Err(_) => der::implicit(2, name.as_bytes()),
            })
            .collect();
        self.extension(ALT_NAME, false, der::seq(&names))
    }

    /// Adds the address of the MASA.
    #[must_use]
    pub fn masa_url(self, url: &str) -> Self {
        self.extension(MASA_URL, false, der::ia5(url))
    }

    /// What is signed.
    #[must_use]
    pub fn tbs(&self, algorithm: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        if self.version > 0 {
            fields.push(der::explicit(0, &der::int(self.version)));
        }
        fields.push(der::tlv(0x02, &self.serial));
        fields.push(
            self.inner_algorithm
                .clone()
                .unwrap_or_else(|| algorithm.to_vec()),
        );
        fields.push(self.issuer.clone());
        fields.push(der::seq(&[
            der::time(self.not_before),
            der::time(self.not_after),
        ]));
        fields.push(self.subject.clone());
        fields.push(self.spki.clone());
        if !self.extensions.is_empty() {
            let extensions: Vec<_> = self.extensions.iter().map(encode_extension).collect();
            fields.push(der::explicit(3, &der::seq(&extensions)));
        }
        der::seq(&fields)
    }

    /// The certificate.
    #[must_use]
    pub fn sign(&self, key: &Key) -> Vec<u8> {
        let hash = self.hash.unwrap_or_else(|| key.hash());
        let algorithm = key.algorithm_with(hash);
        let tbs = self.tbs(&algorithm);
        let signature = key.sign_with(hash, &tbs);
        der::seq(&[tbs, algorithm, der::bits(&signature)])
    }
}

fn encode_extension(extension: &Extension) -> Vec<u8> {
    let mut fields = vec![der::oid(&extension.id)];
    if extension.critical {
        fields.push(der::boolean(true));
    }
    fields.push(der::octets(&extension.value));
    der::seq(&fields)
}

/// A CA: its certificate, key and name, and the certificates between it and its root.
#[derive(Clone)]
pub struct Authority {
    /// Certificate and key.
    pub signatory: Signatory,
    /// Its name.
    pub name: Vec<u8>,
    /// Its certificate and those above, without the root.
    pub above: Vec<Vec<u8>>,
}

impl Authority {
    /// A root.
    #[must_use]
    pub fn root(organization: &str, common_name: &str, key: Key, at: OffsetDateTime) -> Self {
        let name = name(organization, common_name, None);
        let key_id = key.key_id();
        let certificate = Certificate::new(&name, &name, key.spki(), at)
            .with(|root| root.not_after = FOREVER)
            .ca(&key_id, None)
            .issued_by(&key_id)
            .sign(&key);
        Self {
            signatory: Signatory { certificate, key },
            name,
            above: Vec::new(),
        }
    }

    /// A CA below.
    #[must_use]
    pub fn below(
        &self,
        organization: &str,
        common_name: &str,
        key: Key,
        at: OffsetDateTime,
    ) -> Self {
        let name = name(organization, common_name, None);
        let certificate = Certificate::new(&self.name, &name, key.spki(), at)
            .with(|ca| ca.not_after = FOREVER)
            .ca(&key.key_id(), Some(0))
            .issued_by(&self.key_id())
            .sign(&self.signatory.key);
        let mut above = vec![certificate.clone()];
        above.extend(self.above.iter().cloned());
        Self {
            signatory: Signatory { certificate, key },
            name,
            above,
        }
    }

    /// Its key identifier.
    #[must_use]
    pub fn key_id(&self) -> Vec<u8> {
        self.signatory.key.key_id()
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.signatory.certificate
    }

    /// A certificate under it, with what `change` adds.
    #[must_use]
    pub fn issue(
        &self,
        subject: &[u8],
        key: &Key,
        at: OffsetDateTime,
        change: impl FnOnce(Certificate) -> Certificate,
    ) -> Identity {
        let base = Certificate::new(&self.name, subject, key.spki(), at)
            .end_entity(&key.key_id())
            .issued_by(&self.key_id());
        let certificate = change(base).sign(&self.signatory.key);
        Identity {
            signatory: Signatory {
                certificate,
                key: key.clone(),
            },
            above: self.above.clone(),
        }
    }

    /// A registrar: cmcRA, and TLS both ways.
    #[must_use]
    pub fn registrar(
        &self,
        common_name: &str,
        hosts: &[&str],
        key: &Key,
        at: OffsetDateTime,
    ) -> Identity {
        self.issue(&name("", common_name, None), key, at, |certificate| {
            certificate
                .purposes(&[SERVER_AUTH, CLIENT_AUTH, CMC_RA])
                .hosts(hosts)
        })
    }

    /// A device.
    #[must_use]
    pub fn device(
        &self,
        organization: &str,
        serial_number: &str,
        masa_url: Option<&str>,
        key: &Key,
        at: OffsetDateTime,
    ) -> Identity {
        let subject = name(organization, "Device", Some(serial_number));
        self.issue(&subject, key, at, |certificate| {
            let certificate = certificate.with(|idevid| idevid.not_after = FOREVER);
            match masa_url {
                Some(url) => certificate.masa_url(url),
                None => certificate,
            }
        })
    }
}

/// A certificate with its key and what lies between it and the root.
#[derive(Clone)]
pub struct Identity {
    /// Certificate and key.
    pub signatory: Signatory,
    /// The certificates above, without the root.
    pub above: Vec<Vec<u8>>,
}

impl Identity {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.signatory.certificate
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.signatory.key
    }

    /// Leaf first, without the root.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        let mut chain = vec![self.signatory.certificate.clone()];
        chain.extend(self.above.iter().cloned());
        chain
    }
}

/// A PKCS#10 request before it is signed.
#[derive(Clone)]
pub struct Request {
    /// The subject.
    pub subject: Vec<u8>,
    /// The key.
    pub key: Key,
    /// Encoded attributes.
    pub attributes: Vec<Vec<u8>>,
    /// The hash of the signature.
    pub hash: Option<Hash>,
    /// Signs instead of the key: no proof of possession.
    pub signer: Option<Key>,
}

impl Request {
    /// One without attributes.
    #[must_use]
    pub fn new(subject: &[u8], key: &Key) -> Self {
        Self {
            subject: subject.to_vec(),
            key: key.clone(),
            attributes: Vec::new(),
            hash: None,
            signer: None,
        }
    }

    /// Changes it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Asks for host names.
    #[must_use]
    pub fn hosts(mut self, names: &[&str]) -> Self {
        let names: Vec<_> = names
            .iter()
            .map(|name| der::implicit(2, name.as_bytes()))
            .collect();
        let extension = encode_extension(&Extension {
            id: ALT_NAME.to_owned(),
            critical: false,
            value: der::seq(&names),
        });
        let extensions = der::seq(&[extension]);
        self.attributes.push(super::cms::attribute(
            "1.2.840.113549.1.9.14",
            &[extensions],
        ));
        self
    }

    /// Adds challengePassword.
    #[must_use]
    pub fn challenge_password(mut self, password: &str) -> Self {
        self.attributes.push(super::cms::attribute(
            "1.2.840.113549.1.9.7",
            &[der::printable(password)],
        ));
        self
    }

    /// The request.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut attributes = self.attributes.clone();
        attributes.sort();
        let info = der::seq(&[
            der::int(0),
            self.subject.clone(),
            self.key.spki().to_vec(),
            der::tlv(0xa0, &attributes.concat()),
        ]);
        let signer = self.signer.as_ref().unwrap_or(&self.key);
        let hash = self.hash.unwrap_or_else(|| signer.hash());
        let signature = signer.sign_with(hash, &info);
        der::seq(&[info, signer.algorithm_with(hash), der::bits(&signature)])
    }
}

/// PEM.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(LINE) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
