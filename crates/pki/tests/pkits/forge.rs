//! Certificates and CRLs with anything in them, right or wrong. The encoder is this file's own, so that
//! a mistake in the crate's cannot hide itself.

use std::sync::Arc;

use pki::{Certificate, Crl, KeyKind, Signer, SoftwareKey};

pub(crate) const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
pub(crate) const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
pub(crate) const CMC_RA: &str = "1.3.6.1.5.5.7.3.28";

/// The time at which the tests validate lies between these.
const NOT_BEFORE: &str = "20250101000000Z";
const NOT_AFTER: &str = "20350101000000Z";

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(u8::try_from(length).unwrap()),
        length @ 0x80..=0xff => out.extend([0x81, u8::try_from(length).unwrap()]),
        length => {
            out.push(0x83);
            out.extend(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
            if out[2] == 0 {
                out.remove(2);
                out[1] = 0x82;
            }
        }
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    tlv(0x06, pki::ObjectIdentifier::new(dotted).unwrap().as_bytes())
}

fn string_attribute(kind: &str, text: &str) -> Vec<u8> {
    tlv(0x31, &seq(&[oid(kind), tlv(0x0c, text.as_bytes())]))
}

/// A name of common names, one RDN each; the empty text is the empty name.
pub(crate) fn name(text: &str) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = text
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            Some(("email", address)) => {
                let value = tlv(0x16, address.as_bytes());
                tlv(0x31, &seq(&[oid("1.2.840.113549.1.9.1"), value]))
            }
            Some(("serial", serial)) => string_attribute("2.5.4.5", serial),
            _ => string_attribute("2.5.4.3", part),
        })
        .collect();
    seq(&rdns)
}

pub(crate) fn dns(name: &str) -> Vec<u8> {
    tlv(0x82, name.as_bytes())
}

pub(crate) fn email(address: &str) -> Vec<u8> {
    tlv(0x81, address.as_bytes())
}

pub(crate) fn uri(uri: &str) -> Vec<u8> {
    tlv(0x86, uri.as_bytes())
}

pub(crate) fn ip(octets: &[u8]) -> Vec<u8> {
    tlv(0x87, octets)
}

pub(crate) fn directory(text: &str) -> Vec<u8> {
    tlv(0xa4, &name(text))
}

/// A hardwareModuleName of RFC 4108.
pub(crate) fn hardware_module(serial: &[u8]) -> Vec<u8> {
    let value = seq(&[oid("1.3.6.1.4.1.99999.1"), tlv(0x04, serial)]);
    tlv(
        0xa0,
        &[oid("1.3.6.1.5.5.7.8.4"), tlv(0xa0, &value)].concat(),
    )
}

/// A certificate in the making. All is public so that a test can break what it wants.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) version: Option<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) issuer: Option<Vec<u8>>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) extensions: Vec<(String, bool, Vec<u8>)>,
    pub(crate) kind: KeyKind,
    pub(crate) key: Option<Arc<SoftwareKey>>,
    pub(crate) authority_key_id: bool,
    pub(crate) subject_key_id: bool,
    pub(crate) break_signature: bool,
}

impl Spec {
    pub(crate) fn leaf(subject: &str) -> Self {
        Self {
            version: Some(2),
            serial: vec![0x11, 0x22, 0x33],
            subject: name(subject),
            issuer: None,
            not_before: NOT_BEFORE.into(),
            not_after: NOT_AFTER.into(),
            extensions: Vec::new(),
            kind: KeyKind::EcdsaP256,
            key: None,
            authority_key_id: true,
            subject_key_id: true,
            break_signature: false,
        }
    }

    pub(crate) fn ca(subject: &str) -> Self {
        Self::leaf(subject)
            .basic_constraints(Some(true), None)
            .key_usage(0x06, 1)
    }

    pub(crate) fn extension(mut self, id: &str, critical: bool, value: Vec<u8>) -> Self {
        self.extensions.retain(|(known, ..)| known != id);
        self.extensions.push((id.into(), critical, value));
        self
    }

    /// Adds an extension even if it is there already.
    pub(crate) fn another_extension(mut self, id: &str, critical: bool, value: Vec<u8>) -> Self {
        self.extensions.push((id.into(), critical, value));
        self
    }

    pub(crate) fn without(mut self, id: &str) -> Self {
        self.extensions.retain(|(known, ..)| known != id);
        self
    }

    pub(crate) fn basic_constraints(self, ca: Option<bool>, length: Option<&[u8]>) -> Self {
        let ca = ca.map_or(Vec::new(), |ca| {
            tlv(0x01, if ca { &[0xff] } else { &[0x00] })
        });
        let length = length.map_or(Vec::new(), |length| tlv(0x02, length));
        self.extension("2.5.29.19", true, seq(&[ca, length]))
    }

    /// keyUsage from its octet and the number of unused bits.
    pub(crate) fn key_usage(self, bits: u8, unused: u8) -> Self {
        self.extension("2.5.29.15", true, tlv(0x03, &[unused, bits]))
    }

    pub(crate) fn digital_signature(self) -> Self {
        self.key_usage(0x80, 7)
    }

    pub(crate) fn purposes(self, purposes: &[&str]) -> Self {
        let purposes: Vec<Vec<u8>> = purposes.iter().map(|purpose| oid(purpose)).collect();
        self.extension("2.5.29.37", false, seq(&purposes))
    }

    pub(crate) fn alt_names(self, names: &[Vec<u8>]) -> Self {
        self.extension("2.5.29.17", false, seq(names))
    }

    pub(crate) fn dns_name(self, name: &str) -> Self {
        self.alt_names(&[dns(name)])
    }

    pub(crate) fn constrained(self, permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Self {
        let subtrees = |tag, bases: &[Vec<u8>]| {
            let subtrees: Vec<Vec<u8>> = bases
                .iter()
                .map(|base| seq(std::slice::from_ref(base)))
                .collect();
            if bases.is_empty() {
                Vec::new()
            } else {
                tlv(tag, &subtrees.concat())
            }
        };
        let value = seq(&[subtrees(0xa0, permitted), subtrees(0xa1, excluded)]);
        self.extension("2.5.29.30", true, value)
    }

    pub(crate) fn policies(self, policies: &[&str]) -> Self {
        let policies: Vec<Vec<u8>> = policies.iter().map(|policy| seq(&[oid(policy)])).collect();
        self.extension("2.5.29.32", false, seq(&policies))
    }

    pub(crate) fn until(mut self, not_after: &str) -> Self {
        self.not_after = not_after.into();
        self
    }

    pub(crate) fn from(mut self, not_before: &str) -> Self {
        self.not_before = not_before.into();
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Signs itself.
    pub(crate) fn root(self) -> Authority {
        self.signed(None)
    }

    /// Signs under an authority.
    pub(crate) fn under(self, authority: &Authority) -> Authority {
        self.signed(Some(authority))
    }

    fn signed(self, authority: Option<&Authority>) -> Authority {
        let (der, key) = self.encode(authority);
        let certificate =
            Certificate::from_der(&der).unwrap_or_else(|error| panic!("{error}: {}", hex_of(&der)));
        Authority { certificate, key }
    }

    /// The DER and the subject's key, whether or not the crate takes it for a certificate.
    pub(crate) fn encode(self, authority: Option<&Authority>) -> (Vec<u8>, Arc<SoftwareKey>) {
        let key = self
            .key
            .clone()
            .unwrap_or_else(|| Arc::new(SoftwareKey::generate(self.kind).unwrap()));
        let signer = authority.map_or(&key, |authority| &authority.key);
        let issuer = self.issuer.clone().unwrap_or_else(|| {
            authority.map_or_else(
                || self.subject.clone(),
                |authority| authority.certificate.subject_der().to_vec(),
            )
        });
        let time = |text: &str| {
            let tag = if text.len() == 13 { 0x17 } else { 0x18 };
            tlv(tag, text.as_bytes())
        };
        let mut extensions = self.extensions.clone();
        if self.subject_key_id {
            let id = tlv(0x04, &key.public_key().sha1_key_id());
            extensions.push(("2.5.29.14".into(), false, id));
        }
        if self.authority_key_id {
            let id = tlv(0x80, &signer.public_key().sha1_key_id());
            extensions.push(("2.5.29.35".into(), false, seq(&[id])));
        }
        let extensions: Vec<Vec<u8>> = extensions
            .iter()
            .map(|(id, critical, value)| {
                let critical = if *critical {
                    tlv(0x01, &[0xff])
                } else {
                    Vec::new()
                };
                seq(&[oid(id), critical, tlv(0x04, value)])
            })
            .collect();
        let extensions = if extensions.is_empty() {
            Vec::new()
        } else {
            tlv(0xa3, &seq(&extensions))
        };
        let algorithm = signer.algorithm().identifier();
        let version = self
            .version
            .map_or(Vec::new(), |version| tlv(0xa0, &tlv(0x02, &[version])));
        let tbs = seq(&[
            version,
            tlv(0x02, &self.serial),
            algorithm.clone(),
            issuer,
            seq(&[time(&self.not_before), time(&self.not_after)]),
            self.subject.clone(),
            key.public_key().spki_der().to_vec(),
            extensions,
        ]);
        let signed = if self.break_signature {
            [&tbs[..], b"x"].concat()
        } else {
            tbs.clone()
        };
        let signature = signer.sign(&signed).unwrap();
        (
            seq(&[tbs, algorithm, tlv(0x03, &[&[0], &signature[..]].concat())]),
            key,
        )
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    pub(crate) key: Arc<SoftwareKey>,
}

/// A CRL in the making.
pub(crate) struct CrlSpec {
    pub(crate) this_update: String,
    pub(crate) next_update: String,
    pub(crate) revoked: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) number: Option<(bool, u8)>,
    pub(crate) version: Option<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl CrlSpec {
    pub(crate) fn new() -> Self {
        Self {
            this_update: "20260101000000Z".into(),
            next_update: "20270101000000Z".into(),
            revoked: Vec::new(),
            number: Some((false, 1)),
            version: Some(1),
            extensions: Vec::new(),
        }
    }

    pub(crate) fn revoke(mut self, certificate: &Certificate) -> Self {
        self.revoked
            .push((certificate.serial_number().to_vec(), Vec::new()));
        self
    }

    pub(crate) fn until(mut self, next_update: &str) -> Self {
        self.next_update = next_update.into();
        self
    }

    pub(crate) fn extension(mut self, id: &str, critical: bool, value: &[u8]) -> Self {
        let critical = if critical {
            tlv(0x01, &[0xff])
        } else {
            Vec::new()
        };
        self.extensions
            .push(seq(&[oid(id), critical, tlv(0x04, value)]));
        self
    }

    pub(crate) fn with_version(mut self, version: Option<u8>) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn with_number(mut self, number: u8) -> Self {
        self.number = Some((false, number));
        self
    }

    pub(crate) fn sign(self, signer: &Authority) -> Crl {
        let algorithm = signer.key.algorithm().identifier();
        let time = |text: &str| tlv(0x18, text.as_bytes());
        let entries: Vec<Vec<u8>> = self
            .revoked
            .iter()
            .map(|(serial, extensions)| {
                seq(&[
                    tlv(0x02, serial),
                    time("20260101000000Z"),
                    extensions.clone(),
                ])
            })
            .collect();
        let entries = if entries.is_empty() {
            Vec::new()
        } else {
            seq(&entries)
        };
        let mut extensions = self.extensions;
        if let Some((critical, number)) = self.number {
            let critical = if critical {
                tlv(0x01, &[0xff])
            } else {
                Vec::new()
            };
            let number = tlv(0x04, &tlv(0x02, &[number]));
            extensions.push(seq(&[oid("2.5.29.20"), critical, number]));
        }
        let extensions = if extensions.is_empty() {
            Vec::new()
        } else {
            tlv(0xa0, &seq(&extensions))
        };
        let version = self
            .version
            .map_or(Vec::new(), |version| tlv(0x02, &[version]));
        let tbs = seq(&[
            version,
            algorithm.clone(),
            signer.certificate.subject_der().to_vec(),
            time(&self.this_update),
            time(&self.next_update),
            entries,
            extensions,
        ]);
        let signature = signer.key.sign(&tbs).unwrap();
        let der = seq(&[tbs, algorithm, tlv(0x03, &[&[0], &signature[..]].concat())]);
        Crl::from_der(&der).unwrap()
    }
}
