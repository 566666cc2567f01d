//! Reading a JWS.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Jws, Signature};
use crate::json::{self, Limits, Refusal};
use crate::limits::{
    CERTIFICATES_PER_SET_MAX, JSON_DEPTH_MAX, JSON_MEMBERS_MAX, SIGNED_MESSAGE_SIZE_MAX_BYTES,
    SIGNERS_MAX,
};
use crate::{Certificate, Document, Error, Oddity};

/// Header parameters of RFC 7515 §4.1 that this crate uses or can leave aside.
const KNOWN_PARAMETERS: [&str; 11] = [
    "alg", "typ", "x5c", "kid", "x5t#S256", "x5t", "x5u", "jku", "jwk", "cty", "crit",
];

const LIMITS: Limits = Limits {
    depth: JSON_DEPTH_MAX,
    members: JSON_MEMBERS_MAX,
    values: usize::MAX,
};

/// Reads one JSON object.
///
/// RFC 7515 §4: the header parameter names within the JOSE header MUST be unique. A reader that
/// takes the last of two and one that takes the first would see different documents, so the same
/// is demanded of every object here.
fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let exceeded = |what, limit| Error::LimitExceeded {
        document: Document::Jws,
        what,
        limit,
    };
    match json::parse(bytes, &LIMITS) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::malformed(Document::Jws, "not a JSON object")),
        Err(refusal) => Err(match refusal {
            Refusal::DuplicateMember(name) => Error::JwsDuplicateMember(name),
            Refusal::NotJson(why) => Error::malformed(Document::Jws, format!("JSON: {why}")),
            Refusal::TooDeep => exceeded("JSON nesting", JSON_DEPTH_MAX),
            Refusal::TooManyElements => exceeded("JSON array elements", JSON_MEMBERS_MAX),
            Refusal::TooManyMembers => exceeded("JSON members", JSON_MEMBERS_MAX),
            Refusal::TooManyValues => exceeded("JSON values", usize::MAX),
        }),
    }
}

pub(super) fn parse(bytes: &[u8]) -> Result<Jws, Error> {
    if bytes.len() > SIGNED_MESSAGE_SIZE_MAX_BYTES {
        return Err(Error::LimitExceeded {
            document: Document::Jws,
            what: "octets",
            limit: SIGNED_MESSAGE_SIZE_MAX_BYTES,
        });
    }
    let first = bytes.iter().find(|octet| !octet.is_ascii_whitespace());
    if first != Some(&b'{') && bytes.iter().filter(|octet| **octet == b'.').count() == 2 {
        return parse_compact(bytes);
    }
    let mut top = object(bytes)?;
    let mut oddities = Vec::new();
    let payload_text = take_string(&mut top, "payload")?
        .ok_or_else(|| Error::JwsNotGeneral("payload is missing".to_owned()))?;
    let payload = decode("payload", &payload_text, &mut oddities)?;

    let mut signatures = Vec::new();
    match top.remove("signatures") {
        Some(Value::Array(members)) => {
            // RFC 7515 §7.2.2: the "signatures" member MUST NOT be present with the flattened
            // syntax, whose members would say the same thing a second time.
            if let Some(name) = ["signature", "protected", "header"]
                .iter()
                .find(|name| top.contains_key(**name))
            {
                return Err(Error::JwsNotGeneral(format!("{name} beside signatures")));
            }
            if members.len() > SIGNERS_MAX {
                return Err(Error::LimitExceeded {
                    document: Document::Jws,
                    what: "signatures",
                    limit: SIGNERS_MAX,
                });
            }
            for member in members {
                let Value::Object(member) = member else {
                    return Err(Error::JwsNotGeneral("signature is no object".to_owned()));
                };
                signatures.push(read_signature(member)?);
            }
        }
        Some(_) => return Err(Error::JwsNotGeneral("signatures is no array".to_owned())),
        None if top.contains_key("signature") => {
            oddities.push(Oddity::NotGeneralSerialization);
            let mut flattened = Map::new();
            for name in ["protected", "header", "signature"] {
                if let Some(value) = top.remove(name) {
                    flattened.insert(name.to_owned(), value);
                }
            }
            signatures.push(read_signature(flattened)?);
        }
        None => return Err(Error::JwsNotGeneral("signatures is missing".to_owned())),
    }
    // RFC 7515 §7.2.1: additional members that are not understood MUST be ignored.
    oddities.extend(top.into_iter().map(|(name, _)| Oddity::UnknownMember(name)));
    Ok(Jws {
        payload,
        payload_text,
        signatures,
        oddities,
    })
}

fn parse_compact(bytes: &[u8]) -> Result<Jws, Error> {
    let malformed = || Error::malformed(Document::Jws, "not a compact serialization");
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?.trim();
    let mut parts = text.split('.');
    let mut next = || parts.next().ok_or_else(malformed);
    let (protected, payload_text, signature) = (next()?, next()?, next()?);
    let mut oddities = vec![Oddity::NotGeneralSerialization];
    let payload = decode("payload", payload_text, &mut oddities)?;
    let mut member = Map::new();
    member.insert("protected".to_owned(), Value::from(protected));
    member.insert("signature".to_owned(), Value::from(signature));
    let signatures = vec![read_signature(member)?];
    Ok(Jws {
        payload,
        payload_text: payload_text.to_owned(),
        signatures,
        oddities,
    })
}

fn read_signature(mut member: Map<String, Value>) -> Result<Signature, Error> {
    let mut oddities = Vec::new();
    let protected_text = take_string(&mut member, "protected")?.unwrap_or_default();
    let signature_text = take_string(&mut member, "signature")?
        .ok_or_else(|| Error::JwsNotGeneral("signature is missing".to_owned()))?;
    let signature = decode("signature", &signature_text, &mut oddities)?;
    let header = match member.remove("header") {
        None => Map::new(),
        Some(Value::Object(header)) => header,
        Some(_) => return Err(Error::JwsNotGeneral("header is no object".to_owned())),
    };
    oddities.extend(
        member
            .into_iter()
            .map(|(name, _)| Oddity::UnknownMember(name)),
    );

    let mut protected = if protected_text.is_empty() {
        Map::new()
    } else {
        object(&decode("protected", &protected_text, &mut oddities)?)?
    };
    // RFC 7515 §7.2.1: the header parameter names in the two locations MUST be disjoint.
    if let Some(name) = header.keys().find(|name| protected.contains_key(*name)) {
        return Err(Error::JwsDuplicateMember(name.clone()));
    }
    // RFC 7515 §4.1.11: crit MUST be integrity protected, and an extension that is listed and not
    // understood makes the JWS invalid. No extension is understood here, and the list MUST NOT
    // be empty, so any crit refuses.
    if let Some(critical) = protected.get("crit").or_else(|| header.get("crit")) {
        return Err(Error::JwsCritical(critical.to_string()));
    }
    // JWS-3.2-01: the algorithm is named in the protected header. One that anybody on the way
    // can change decides nothing.
    if header.contains_key("alg") {
        return Err(Error::JwsAlgorithm("it is not protected".to_owned()));
    }
    let algorithm = take_string(&mut protected, "alg")?
        .ok_or_else(|| Error::JwsAlgorithm("it is missing".to_owned()))?;
    let typ = take_string(&mut protected, "typ")?;
    let key_id = take_string(&mut protected, "kid")?;
    let thumbprint = match take_string(&mut protected, "x5t#S256")? {
        Some(text) => Some(decode("x5t#S256", &text, &mut oddities)?),
        None => None,
    };
    let certificates = match protected.remove("x5c") {
        Some(list) => read_certificates(list, &mut oddities)?,
        None => Vec::new(),
    };
    // Unprotected parameters and unknown ones are never used; that they are there is odd.
    oddities.extend(
        header
            .into_iter()
            .map(|(name, _)| Oddity::UnknownMember(name)),
    );
    oddities.extend(
        protected
            .into_iter()
            .filter(|(name, _)| !KNOWN_PARAMETERS.contains(&name.as_str()))
            .map(|(name, _)| Oddity::UnknownMember(name)),
    );
    Ok(Signature {
        protected_text,
        signature_text,
        signature,
        algorithm,
        typ,
        key_id,
        thumbprint,
        certificates,
        oddities,
    })
}

/// RFC 7515 §4.1.6: each string is a base64 (not base64url) DER certificate; the first is the
/// signer's.
fn read_certificates(list: Value, oddities: &mut Vec<Oddity>) -> Result<Vec<Certificate>, Error> {
    let refused = |detail: String| Error::JwsCertificates(detail);
    let Value::Array(members) = list else {
        return Err(refused("it is no array".to_owned()));
    };
    if members.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    if members.len() > CERTIFICATES_PER_SET_MAX {
        return Err(Error::LimitExceeded {
            document: Document::Jws,
            what: "certificates",
            limit: CERTIFICATES_PER_SET_MAX,
        });
    }
    let mut certificates = Vec::with_capacity(members.len());
    for member in members {
        let Value::String(text) = member else {
            return Err(refused("a member is no string".to_owned()));
        };
        let der = match STANDARD.decode(&text) {
            Ok(der) => der,
            Err(_) => {
                let der = decode_any(&text)
                    .ok_or_else(|| refused("a member is not base64".to_owned()))?;
                if !oddities.contains(&Oddity::CertificateBase64Form) {
                    oddities.push(Oddity::CertificateBase64Form);
                }
                der
            }
        };
        let certificate =
            Certificate::from_der(&der).map_err(|error| refused(error.to_string()))?;
        certificates.push(certificate);
    }
    Ok(certificates)
}

fn take_string(object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Error> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::malformed(
            Document::Jws,
            format!("{name} is no string"),
        )),
    }
}

/// RFC 7515 §2: base64url with all trailing "=" omitted and without line breaks, white space or
/// other characters.
fn decode(name: &'static str, text: &str, oddities: &mut Vec<Oddity>) -> Result<Vec<u8>, Error> {
    if let Ok(octets) = URL_SAFE_NO_PAD.decode(text) {
        return Ok(octets);
    }
    let octets = decode_any(text).ok_or(Error::JwsBase64(name))?;
    if !oddities.contains(&Oddity::Base64Form) {
        oddities.push(Oddity::Base64Form);
    }
    Ok(octets)
}

fn decode_any(text: &str) -> Option<Vec<u8>> {
    [&URL_SAFE_NO_PAD, &URL_SAFE, &STANDARD, &STANDARD_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
}

/// Decodes a key identifier, which is written in either alphabet.
pub(super) fn decode_key_id(text: &str) -> Option<Vec<u8>> {
    decode_any(text)
}
