//! Takes a signed artefact apart, twice.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use pki::{
    Certificate, Oddity,
    cms::{CmsPolicy, SignedData},
    jws::{Jws, JwsPolicy},
    path::{Anchors, PathOptions, Purpose},
};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    oracle,
    outcome::{Finding, OrCouldNotTest as _},
};

/// How an artefact is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// CMS SignedData.
    Cms,
    /// JSON Web Signature.
    Jws,
}

impl Envelope {
    /// The media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Cms => "application/voucher-cms+json",
            Self::Jws => "application/voucher-jws+json",
        }
    }
}

/// An artefact in its parts. The signature holds for [`Self::signer`] by both parsers.
#[derive(Clone, Debug)]
pub struct Signed {
    /// How it is signed.
    pub envelope: Envelope,
    /// All of it.
    pub octets: Vec<u8>,
    /// What is signed.
    pub content: Vec<u8>,
    /// What is signed, as JSON.
    pub json: Value,
    /// The certificates that came along.
    pub certificates: Vec<Certificate>,
    /// Whose key signed.
    pub signer: Certificate,
    /// What is unusual about the encoding.
    pub oddities: Vec<Oddity>,
    /// The CMS structure.
    pub cms: Option<SignedData>,
    /// The JWS structure.
    pub jws: Option<Jws>,
}

/// Octets that begin like DER are CMS, those that begin like JSON are JWS.
#[must_use]
pub fn guess(octets: &[u8]) -> Option<Envelope> {
    match octets.trim_ascii_start().first() {
        Some(0x30) => Some(Envelope::Cms),
        Some(b'{') => Some(Envelope::Jws),
        _ => None,
    }
}

/// Opens an artefact and checks the signature's mathematics with two libraries.
///
/// # Errors
/// A failure when both say that it is wrong, "could not test" when they differ.
pub fn open(octets: &[u8]) -> Result<Signed, Finding> {
    open_with(octets, &[])
}

/// The same when the signer's certificate may have been left out.
///
/// # Errors
/// A failure when both say that it is wrong, "could not test" when they differ.
pub fn open_with(octets: &[u8], known: &[Certificate]) -> Result<Signed, Finding> {
    match guess(octets) {
        Some(Envelope::Cms) => open_cms(octets, known),
        Some(Envelope::Jws) => open_jws(octets),
        None => Err(Finding::fail(
            "it is neither DER, as a CMS is, nor JSON, as a JWS is",
        )),
    }
}

fn open_cms(octets: &[u8], known: &[Certificate]) -> Result<Signed, Finding> {
    let ours = SignedData::parse(octets).and_then(|cms| {
        let verified = cms.verify(&CmsPolicy::tolerant(None), known)?;
        Ok((cms, verified))
    });
    let extra: Vec<Vec<u8>> = known.iter().map(|one| one.der().to_vec()).collect();
    let theirs = oracle::cms(octets, &extra);
    let ((cms, verified), content) =
        oracle::agree(ours, theirs, "the CMS or its signature is wrong")?;
    if cms.content() != Some(content.as_slice()) {
        return Err(Finding::could_not_test(
            "the two parsers of the suite differ about the content",
        ));
    }
    let json = json_of(&content)?;
    let mut oddities = cms.oddities().to_vec();
    for oddity in verified.oddities() {
        if !oddities.contains(oddity) {
            oddities.push(oddity.clone());
        }
    }
    Ok(Signed {
        envelope: Envelope::Cms,
        octets: octets.to_vec(),
        content,
        json,
        certificates: cms.certificates().to_vec(),
        signer: verified.certificate().clone(),
        oddities,
        cms: Some(cms),
        jws: None,
    })
}

fn open_jws(octets: &[u8]) -> Result<Signed, Finding> {
    let ours = Jws::parse(octets).and_then(|jws| {
        let verified = jws.verify(&JwsPolicy::tolerant(None), &[])?;
        Ok((jws, verified))
    });
    let theirs = jws_by_openssl(octets);
    let ((jws, verified), content) =
        oracle::agree(ours, theirs, "the JWS or its signature is wrong")?;
    if jws.payload() != content.as_slice() {
        return Err(Finding::could_not_test(
            "the two parsers of the suite differ about the payload",
        ));
    }
    let json = json_of(&content)?;
    let mut oddities = jws.oddities().to_vec();
    for oddity in verified.oddities() {
        if !oddities.contains(oddity) {
            oddities.push(oddity.clone());
        }
    }
    Ok(Signed {
        envelope: Envelope::Jws,
        octets: octets.to_vec(),
        content,
        json,
        certificates: jws.certificates(0).to_vec(),
        signer: verified.certificate().clone(),
        oddities,
        cms: None,
        jws: Some(jws),
    })
}

/// The first signature of a JWS by plain base64, `serde_json` and OpenSSL.
fn jws_by_openssl(octets: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: openssl::error::ErrorStack| error.to_string();
    let value: Value = serde_json::from_slice(octets).map_err(|error| error.to_string())?;
    let member = |value: &Value, name: &str| -> Result<String, String> {
        value
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("no member {name}"))
    };
    let payload = member(&value, "payload")?;
    let entry = value.pointer("/signatures/0").unwrap_or(&value);
    let protected = member(entry, "protected")?;
    let signature = URL_SAFE_NO_PAD
        .decode(member(entry, "signature")?)
        .map_err(|error| error.to_string())?;
    let header: Value = URL_SAFE_NO_PAD
        .decode(&protected)
        .map_err(|error| error.to_string())
        .and_then(|octets| serde_json::from_slice(&octets).map_err(|error| error.to_string()))?;
    let leaf = header
        .pointer("/x5c/0")
        .and_then(Value::as_str)
        .ok_or("no x5c")?;
    let leaf = STANDARD.decode(leaf).map_err(|error| error.to_string())?;
    let key = openssl::x509::X509::from_der(&leaf)
        .and_then(|leaf| leaf.public_key())
        .map_err(text)?;
    let digest = match header.get("alg").and_then(Value::as_str) {
        Some("ES256" | "RS256") => Some(openssl::hash::MessageDigest::sha256()),
        Some("ES384") => Some(openssl::hash::MessageDigest::sha384()),
        Some("ES512") => Some(openssl::hash::MessageDigest::sha512()),
        Some("EdDSA" | "Ed25519") => None,
        other => return Err(format!("algorithm {other:?}")),
    };
    let is_ecdsa = key.id() == openssl::pkey::Id::EC;
    let signature = if is_ecdsa {
        let (r, s) = signature.split_at(signature.len() / 2);
        let number = openssl::bn::BigNum::from_slice;
        openssl::ecdsa::EcdsaSig::from_private_components(
            number(r).map_err(text)?,
            number(s).map_err(text)?,
        )
        .and_then(|signature| signature.to_der())
        .map_err(text)?
    } else {
        signature
    };
    let mut verifier = match digest {
        Some(digest) => openssl::sign::Verifier::new(digest, &key),
        None => openssl::sign::Verifier::new_without_digest(&key),
    }
    .map_err(text)?;
    let input = format!("{protected}.{payload}");
    if !verifier
        .verify_oneshot(&signature, input.as_bytes())
        .map_err(text)?
    {
        return Err("the signature does not hold".into());
    }
    URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|error| error.to_string())
}

fn json_of(content: &[u8]) -> Result<Value, Finding> {
    serde_json::from_slice(content)
        .map_err(|error| Finding::fail(format!("what is signed is no JSON: {error}")))
}

impl Signed {
    /// The leaves under the only top-level member.
    ///
    /// # Errors
    /// If there is not exactly the member `top`.
    pub fn leaves(&self, top: &str) -> Result<&serde_json::Map<String, Value>, Finding> {
        let object = self
            .json
            .as_object()
            .ok_or_else(|| Finding::fail("what is signed is no JSON object"))?;
        if object.len() != 1 || !object.contains_key(top) {
            let names: Vec<_> = object.keys().map(String::as_str).collect();
            return Err(Finding::fail(format!(
                "the only top-level member has to be {top}; there are: {}",
                names.join(", ")
            )));
        }
        object
            .get(top)
            .and_then(Value::as_object)
            .ok_or_else(|| Finding::fail(format!("{top} is no object")))
    }

    /// Whether the signer is one whom these anchors make trustworthy, by two validators.
    ///
    /// # Errors
    /// A failure when neither finds a path.
    pub fn trusted(
        &self,
        anchors: &[Certificate],
        purpose: Purpose,
        at: OffsetDateTime,
    ) -> Result<(), Finding> {
        trusted(&self.signer, &self.certificates, anchors, purpose, at)
    }
}

/// Whether a path leads from a certificate to one of the anchors, by two validators.
///
/// # Errors
/// A failure when neither finds a path.
pub fn trusted(
    leaf: &Certificate,
    others: &[Certificate],
    anchors: &[Certificate],
    purpose: Purpose,
    at: OffsetDateTime,
) -> Result<(), Finding> {
    let set: Anchors = anchors.iter().cloned().collect();
    let ours = pki::path::validate(leaf, others, &set, &PathOptions::new(purpose, at));
    let octets = |certificates: &[Certificate]| -> Vec<Vec<u8>> {
        certificates.iter().map(|one| one.der().to_vec()).collect()
    };
    let theirs = oracle::chain(leaf.der(), &octets(others), &octets(anchors), at);
    let why = format!("no path leads from {} to an anchor", leaf.subject());
    oracle::agree(ours, theirs, &why).map(|_| ())
}

/// A binary leaf: base64 of RFC 4648 section 4 with padding, and nothing else.
///
/// # Errors
/// If it is anything else.
pub fn binary(name: &str, value: &Value) -> Result<Vec<u8>, Finding> {
    let text = value
        .as_str()
        .ok_or_else(|| Finding::fail(format!("{name} has to be a string of base64")))?;
    STANDARD.decode(text).map_err(|error| {
        Finding::fail(format!(
            "{name} is no base64 of RFC 4648 section 4: {error}"
        ))
    })
}

/// Certificates of a PEM or DER file.
///
/// # Errors
/// If it cannot be read.
pub fn load(path: &std::path::Path) -> Result<Vec<Certificate>, Finding> {
    Certificate::load_all(path).or_could_not_test(&path.display().to_string())
}
