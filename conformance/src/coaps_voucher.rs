//! Constrained vouchers and voucher requests: made by hand, and read twice.

use std::collections::BTreeMap;

use ciborium::Value;
use openssl::{hash::MessageDigest, sign::Verifier, x509::X509};

use crate::{
    forge::{cbor, cms::Signatory, cose::Cose},
    oracle,
    outcome::Finding,
};

/// The SID of a voucher.
pub const VOUCHER: i64 = 2451;
/// The SID of a voucher request.
pub const REQUEST: i64 = 2501;

/// Leaves of a voucher request, as differences to [`REQUEST`]. The first eight are the same in a
/// voucher.
pub mod leaf {
    /// assertion.
    pub const ASSERTION: i64 = 1;
    /// created-on.
    pub const CREATED_ON: i64 = 2;
    /// domain-cert-revocation-checks.
    pub const REVOCATION_CHECKS: i64 = 3;
    /// expires-on.
    pub const EXPIRES_ON: i64 = 4;
    /// idevid-issuer.
    pub const IDEVID_ISSUER: i64 = 5;
    /// last-renewal-date.
    pub const LAST_RENEWAL: i64 = 6;
    /// nonce.
    pub const NONCE: i64 = 7;
    /// pinned-domain-cert.
    pub const PINNED_CERT: i64 = 8;
    /// prior-signed-voucher-request.
    pub const PRIOR: i64 = 9;
    /// proximity-registrar-cert.
    pub const PROXIMITY_CERT: i64 = 10;
    /// proximity-registrar-pubk-sha256.
    pub const PROXIMITY_HASH: i64 = 11;
    /// proximity-registrar-pubk.
    pub const PROXIMITY_KEY: i64 = 12;
    /// serial-number.
    pub const SERIAL: i64 = 13;
    /// serial-number of a voucher.
    pub const VOUCHER_SERIAL: i64 = 11;
}

const NAMES: &[(&str, i64)] = &[
    ("assertion", leaf::ASSERTION),
    ("created-on", leaf::CREATED_ON),
    ("domain-cert-revocation-checks", leaf::REVOCATION_CHECKS),
    ("expires-on", leaf::EXPIRES_ON),
    ("idevid-issuer", leaf::IDEVID_ISSUER),
    ("last-renewal-date", leaf::LAST_RENEWAL),
    ("nonce", leaf::NONCE),
    ("pinned-domain-cert", leaf::PINNED_CERT),
    ("prior-signed-voucher-request", leaf::PRIOR),
    ("proximity-registrar-cert", leaf::PROXIMITY_CERT),
    ("proximity-registrar-pubk-sha256", leaf::PROXIMITY_HASH),
    ("proximity-registrar-pubk", leaf::PROXIMITY_KEY),
    ("serial-number", leaf::SERIAL),
];

/// Leaves in the order given: encoded keys and values, duplicates and all.
#[derive(Clone, Debug)]
pub struct Leaves {
    /// The key of the top level.
    pub top: Vec<u8>,
    /// The leaves.
    pub leaves: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Leaves {
    /// A pledge's request that names its registrar in one of the three ways.
    #[must_use]
    pub fn request(serial: &str, nonce: &[u8], proximity: (i64, &[u8])) -> Self {
        Self {
            top: cbor::int(REQUEST),
            leaves: Vec::new(),
        }
        .set(leaf::ASSERTION, cbor::int(2))
        .set(leaf::NONCE, cbor::bytes(nonce))
        .set(proximity.0, cbor::bytes(proximity.1))
        .set(leaf::SERIAL, cbor::text(serial))
    }

    /// Sets a leaf.
    #[must_use]
    pub fn set(mut self, delta: i64, value: Vec<u8>) -> Self {
        let key = cbor::int(delta);
        match self.leaves.iter_mut().find(|(found, _)| *found == key) {
            Some((_, found)) => *found = value,
            None => self.leaves.push((key, value)),
        }
        self
    }

    /// Takes a leaf out.
    #[must_use]
    pub fn unset(mut self, delta: i64) -> Self {
        let key = cbor::int(delta);
        self.leaves.retain(|(found, _)| *found != key);
        self
    }

    /// Adds anything.
    #[must_use]
    pub fn add(mut self, key: Vec<u8>, value: Vec<u8>) -> Self {
        self.leaves.push((key, value));
        self
    }

    /// The same leaves under names.
    #[must_use]
    pub fn named(&self) -> Self {
        let leaves = self
            .leaves
            .iter()
            .map(|(key, value)| {
                let name = NAMES
                    .iter()
                    .find(|(_, delta)| cbor::int(*delta) == *key)
                    .map_or_else(|| key.clone(), |(name, _)| cbor::text(name));
                (name, value.clone())
            })
            .collect();
        Self {
            top: cbor::text("ietf-voucher-request:voucher"),
            leaves,
        }
    }

    /// The CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::map(&[(self.top.clone(), cbor::map(&self.leaves))])
    }

    /// Signed, with nothing but the algorithm in the headers.
    #[must_use]
    pub fn signed(&self, signer: &Signatory) -> Vec<u8> {
        Cose::new(&self.encode(), signer).encode()
    }
}

/// A COSE_Sign1 in its parts.
#[derive(Clone, Debug)]
pub struct Signed {
    /// All of it.
    pub octets: Vec<u8>,
    /// Whether it has tag 18.
    pub is_tagged: bool,
    /// The protected header as it is signed.
    pub protected: Vec<u8>,
    /// The unprotected header.
    pub unprotected: Vec<(Value, Value)>,
    /// The payload.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// The key of the top level: its SID, or that of its name.
    pub top: i64,
    /// Whether every key is a number.
    pub is_numbered: bool,
    /// The leaves by their difference to the top level. What has no SID is left out.
    pub leaves: BTreeMap<i64, Value>,
    /// The certificates that came along, DER.
    pub certificates: Vec<Vec<u8>>,
}

fn integer(value: &Value) -> Option<i64> {
    value
        .as_integer()
        .and_then(|number| i64::try_from(i128::from(number)).ok())
}

/// Takes a message apart with `ciborium`.
///
/// # Errors
/// What is wrong with it.
pub fn parts(octets: &[u8]) -> Result<Signed, String> {
    let (is_tagged, value) = match oracle::cbor(octets)? {
        Value::Tag(18, inner) => (true, *inner),
        Value::Tag(other, _) => return Err(format!("it has tag {other}")),
        value => (false, value),
    };
    let Some([protected, unprotected, payload, signature]) = value.as_array().map(Vec::as_slice)
    else {
        return Err("it is no array of four".into());
    };
    let bytes = |value: &Value, what: &str| {
        value
            .as_bytes()
            .cloned()
            .ok_or_else(|| format!("{what} is no byte string"))
    };
    let mut signed = Signed {
        octets: octets.to_vec(),
        is_tagged,
        protected: bytes(protected, "the protected header")?,
        unprotected: unprotected
            .as_map()
            .cloned()
            .ok_or("the unprotected header is no map")?,
        payload: bytes(payload, "the payload")?,
        signature: bytes(signature, "the signature")?,
        top: 0,
        is_numbered: true,
        leaves: BTreeMap::new(),
        certificates: Vec::new(),
    };
    for label in [32, 33] {
        let Some(value) = signed.unprotected(label) else {
            continue;
        };
        let found: Vec<Vec<u8>> = match value {
            Value::Bytes(one) => vec![one.clone()],
            Value::Array(many) => many
                .iter()
                .map(|one| bytes(one, "a certificate"))
                .collect::<Result<_, _>>()?,
            _ => return Err("x5bag is neither a byte string nor an array".into()),
        };
        signed.certificates.extend(found);
    }
    let content = oracle::cbor(&signed.payload)?;
    let Some([(top, inner)]) = content.as_map().map(Vec::as_slice) else {
        return Err("what is signed is no map with one key".into());
    };
    signed.top = match (integer(top), top.as_text()) {
        (Some(number), _) => number,
        (_, Some(name)) => {
            signed.is_numbered = false;
            if name == "ietf-voucher:voucher" {
                VOUCHER
            } else if name == "ietf-voucher-request:voucher" {
                REQUEST
            } else {
                return Err(format!("the top level is {name}"));
            }
        }
        _ => return Err("the top level has neither number nor name".into()),
    };
    for (key, value) in inner.as_map().ok_or("there is no map of leaves")? {
        let delta = match key {
            Value::Tag(47, sid) => integer(sid).map(|sid| sid - signed.top),
            Value::Text(name) => {
                signed.is_numbered = false;
                let bare = name.rsplit(':').next().unwrap_or(name);
                NAMES
                    .iter()
                    .find(|(name, _)| *name == bare)
                    .map(|(_, delta)| *delta)
            }
            other => integer(other),
        };
        if let Some(delta) = delta {
            signed.leaves.insert(delta, value.clone());
        }
    }
    Ok(signed)
}

impl Signed {
    /// A value of the unprotected header.
    #[must_use]
    pub fn unprotected(&self, label: i64) -> Option<&Value> {
        self.unprotected
            .iter()
            .find(|(found, _)| integer(found) == Some(label))
            .map(|(_, value)| value)
    }

    /// A value of the protected header.
    #[must_use]
    pub fn protected(&self, label: i64) -> Option<Value> {
        let header = oracle::cbor(&self.protected).ok()?;
        header
            .as_map()?
            .iter()
            .find(|(found, _)| integer(found) == Some(label))
            .map(|(_, value)| value.clone())
    }

    /// A leaf that is a byte string.
    #[must_use]
    pub fn bytes(&self, delta: i64) -> Option<&[u8]> {
        self.leaves
            .get(&delta)
            .and_then(Value::as_bytes)
            .map(Vec::as_slice)
    }

    /// A leaf that is text.
    #[must_use]
    pub fn text(&self, delta: i64) -> Option<&str> {
        self.leaves.get(&delta).and_then(Value::as_text)
    }

    /// A leaf that is a number.
    #[must_use]
    pub fn number(&self, delta: i64) -> Option<i64> {
        self.leaves.get(&delta).and_then(integer)
    }

    /// What OpenSSL says of the signature under the key of a certificate.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify_by_openssl(&self, certificate: &[u8]) -> Result<(), String> {
        let text = |error: openssl::error::ErrorStack| error.to_string();
        let key = X509::from_der(certificate)
            .and_then(|certificate| certificate.public_key())
            .map_err(text)?;
        let digest = match self.protected(1).as_ref().and_then(integer) {
            Some(-7) => Some(MessageDigest::sha256()),
            Some(-35) => Some(MessageDigest::sha384()),
            Some(-36) => Some(MessageDigest::sha512()),
            Some(-8 | -19) => None,
            other => return Err(format!("algorithm {other:?}")),
        };
        let structure = cbor::array(&[
            cbor::text("Signature1"),
            cbor::bytes(&self.protected),
            cbor::bytes(&[]),
            cbor::bytes(&self.payload),
        ]);
        let signature = if key.id() == openssl::pkey::Id::EC {
            let (r, s) = self.signature.split_at(self.signature.len() / 2);
            let number = openssl::bn::BigNum::from_slice;
            openssl::ecdsa::EcdsaSig::from_private_components(
                number(r).map_err(text)?,
                number(s).map_err(text)?,
            )
            .and_then(|signature| signature.to_der())
            .map_err(text)?
        } else {
            self.signature.clone()
        };
        let mut verifier = match digest {
            Some(digest) => Verifier::new(digest, &key),
            None => Verifier::new_without_digest(&key),
        }
        .map_err(text)?;
        match verifier.verify_oneshot(&signature, &structure) {
            Ok(true) => Ok(()),
            Ok(false) => Err("the signature does not hold".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Opens a COSE_Sign1 with two parsers. The signature is not looked at.
///
/// # Errors
/// A failure when both say that it is wrong, "could not test" when they differ.
pub fn open(octets: &[u8]) -> Result<Signed, Finding> {
    let (ours, theirs) = oracle::agree(
        pki::cose::Sign1::parse(octets),
        parts(octets),
        "it is no COSE_Sign1 with a constrained voucher or request",
    )?;
    if ours.payload() != theirs.payload.as_slice() {
        return Err(Finding::could_not_test(
            "the two parsers of the suite differ about the payload",
        ));
    }
    Ok(theirs)
}

/// Whether a message is signed by the key of this certificate, by two libraries.
///
/// # Errors
/// A failure when both say that it is not, "could not test" when they differ.
pub fn is_signed_by(signed: &Signed, certificate: &[u8]) -> Result<(), Finding> {
    let ours = pki::Certificate::from_der(certificate).and_then(|certificate| {
        pki::cose::Sign1::parse(&signed.octets)?.verify_with_key(certificate.public_key())
    });
    oracle::agree(
        ours,
        signed.verify_by_openssl(certificate),
        "the signature is wrong",
    )
    .map(|_| ())
}

/// The serial number in a constrained voucher request.
#[must_use]
pub fn serial_of(octets: &[u8]) -> Option<String> {
    let signed = parts(octets).ok()?;
    signed.text(leaf::SERIAL).map(str::to_owned)
}
