//! Takes leaves by their YANG types out of a JSON object (RFC 7951) or a CBOR map (RFC 9254),
//! strictly or with the named tolerances.

use pki::{Certificate, PublicKey};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::cbor::{Item, sid_name};
use crate::error::{Document, Error, Fault};
use crate::json::{shown, type_name};
use crate::leaf::{
    Assertion, IdevidIssuer, IdevidIssuerForm, Nonce, SerialNumber, decode_base64,
    decode_base64_leniently, encode_base64url,
};
use crate::tolerances::{Oddity, Tolerances};
use crate::{date, leaf};

/// A value as one of the encodings has it.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    Json(Value),
    Cbor(Item),
}

impl Leaf {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Json(value) => type_name(value),
            Self::Cbor(item) => item.type_name(),
        }
    }

    /// The value in JSON, or what comes nearest to it.
    pub(crate) fn into_json(self) -> Value {
        match self {
            Self::Json(value) => value,
            Self::Cbor(item) => item.to_json(),
        }
    }
}

/// The members of an object in their order.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<(String, Leaf)>);

impl Members {
    /// Adds a member, which the caller knows not to be there.
    pub(crate) fn push(&mut self, name: String, value: Leaf) {
        self.0.push((name, value));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Leaf> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Leaf> {
        let index = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(index).1)
    }
}

impl From<Map<String, Value>> for Members {
    fn from(members: Map<String, Value>) -> Self {
        let members = members.into_iter();
        Self(
            members
                .map(|(name, value)| (name, Leaf::Json(value)))
                .collect(),
        )
    }
}

/// An object whose members are taken one by one; what is left is unknown.
pub(crate) struct Reader<'t> {
    pub(crate) document: Document,
    pub(crate) members: Members,
    pub(crate) tolerances: &'t Tolerances,
    pub(crate) oddities: Vec<Oddity>,
}

impl Reader<'_> {
    pub(crate) fn fail(&self, fault: Fault, detail: impl Into<String>) -> Error {
        Error::new(self.document, fault, detail)
    }

    fn wrong_type(&self, name: &str, want: &str, found: &Leaf) -> Error {
        let found = found.type_name();
        self.fail(
            Fault::WrongType,
            format!("{name} is {found}, it must be {want}"),
        )
    }

    pub(crate) fn odd(&mut self, name: &'static str, detail: impl Into<String>) {
        self.oddities.push(Oddity::new(name, detail));
    }

    /// The member's value; JSON null counts as a value unless wrong types are tolerated.
    pub(crate) fn take(&mut self, name: &str) -> Option<Leaf> {
        let value = self.members.remove(name)?;
        if matches!(value, Leaf::Json(Value::Null)) && self.tolerances.wrong_json_types {
            self.odd("wrong-json-types", format!("{name} is null"));
            return None;
        }
        Some(value)
    }

    pub(crate) fn missing(&self, name: &str) -> Error {
        self.fail(Fault::MissingMember, format!("{name} is missing"))
    }

    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Leaf::Json(Value::String(text)) | Leaf::Cbor(Item::Text(text))) => Ok(Some(text)),
            Some(Leaf::Json(Value::Number(number))) if self.tolerances.wrong_json_types => {
                self.odd("wrong-json-types", format!("{name} is a number"));
                Ok(Some(number.to_string()))
            }
            Some(other) => Err(self.wrong_type(name, "a string", &other)),
        }
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let spelt = match &value {
            Leaf::Json(Value::Bool(value)) => return Ok(Some(*value)),
            // VCB-014: boolean leaves are CBOR true/false.
            Leaf::Cbor(item) if item.as_bool().is_some() => return Ok(item.as_bool()),
            Leaf::Json(Value::String(text)) if self.tolerances.wrong_json_types => {
                match text.as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                }
            }
            _ => None,
        };
        match spelt {
            Some(spelt) => {
                self.odd("wrong-json-types", format!("{name} is a string"));
                Ok(Some(spelt))
            }
            None => Err(self.wrong_type(name, "true or false", &value)),
        }
    }

    pub(crate) fn unsigned(&mut self, name: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = match &value {
            Leaf::Json(value) => value.as_u64(),
            Leaf::Cbor(Item::Unsigned(number)) => Some(*number),
            Leaf::Cbor(_) => None,
        };
        if number.is_some() {
            return Ok(number);
        }
        let spelt = match &value {
            Leaf::Json(Value::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let spelt = spelt.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match spelt.and_then(|text| text.parse().ok()) {
            Some(number) if self.tolerances.wrong_json_types => {
                self.odd("wrong-json-types", format!("{name} is a string"));
                Ok(Some(number))
            }
            _ => Err(self.wrong_type(name, "an unsigned number", &value)),
        }
    }

    // VCB-015: date-and-time leaves are text strings in RFC 3339 form.
    pub(crate) fn date(&mut self, name: &str) -> Result<Option<OffsetDateTime>, Error> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        match date::parse(&text) {
            Some(date) => Ok(Some(date)),
            None => {
                let detail = format!("{name} \"{}\" is not an RFC 3339 date", shown(&text));
                Err(self.fail(Fault::BadDate, detail))
            }
        }
    }

    /// The octets of a CBOR member, which must be a byte string; none when it is JSON's.
    fn octets(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if !matches!(self.members.get(name), Some(Leaf::Cbor(_))) {
            return Ok(None);
        }
        match self.members.remove(name) {
            Some(Leaf::Cbor(Item::Bytes(bytes))) => Ok(Some(bytes)),
            // VCB-013: binary leaves are CBOR byte strings (never base64 text).
            Some(other) => Err(self.wrong_type(name, "a byte string", &other)),
            None => Ok(None),
        }
    }

    pub(crate) fn binary(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if let Some(bytes) = self.octets(name)? {
            return Ok(Some(bytes));
        }
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        if let Some(bytes) = decode_base64(&text) {
            return Ok(Some(bytes));
        }
        match decode_base64_leniently(&text) {
            Some(bytes) if self.tolerances.binary_base64url => {
                self.odd(
                    "binary-base64url",
                    format!("{name} is another base64 than RFC 4648 §4"),
                );
                Ok(Some(bytes))
            }
            _ => {
                let detail = format!("{name} is not base64 as RFC 4648 §4 has it");
                Err(self.fail(Fault::BadBase64, detail))
            }
        }
    }

    pub(crate) fn certificate(&mut self, name: &str) -> Result<Option<Certificate>, Error> {
        if self.tolerances.pem_certificate
            && let Some(Leaf::Json(Value::String(text))) = self.members.get(name)
            && let Ok(certificate) = Certificate::from_pem(text)
        {
            self.members.remove(name);
            self.odd("pem-certificate", format!("{name} is PEM text"));
            return Ok(Some(certificate));
        }
        let Some(bytes) = self.binary(name)? else {
            return Ok(None);
        };
        let error = match Certificate::from_der(&bytes) {
            Ok(certificate) => return Ok(Some(certificate)),
            Err(error) => error,
        };
        if self.tolerances.pem_certificate
            && let Ok(text) = std::str::from_utf8(&bytes)
            && let Ok(certificate) = Certificate::from_pem(text)
        {
            self.odd("pem-certificate", format!("{name} is base64 of PEM text"));
            return Ok(Some(certificate));
        }
        let detail = format!("{name} is not one DER certificate: {error}");
        Err(self.fail(Fault::BadCertificate, detail))
    }

    pub(crate) fn public_key(&mut self, name: &str) -> Result<Option<PublicKey>, Error> {
        let Some(bytes) = self.binary(name)? else {
            return Ok(None);
        };
        match PublicKey::from_spki_der(&bytes) {
            Ok(key) => Ok(Some(key)),
            Err(error) => {
                let detail = format!("{name} is not a SubjectPublicKeyInfo: {error}");
                Err(self.fail(Fault::BadPublicKey, detail))
            }
        }
    }

    pub(crate) fn sha256(&mut self, name: &str) -> Result<Option<[u8; 32]>, Error> {
        let Some(bytes) = self.binary(name)? else {
            return Ok(None);
        };
        match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(hash) => Ok(Some(hash)),
            Err(_) => {
                let detail = format!("{name} has {} octets, a SHA-256 has 32", bytes.len());
                Err(self.fail(Fault::BadPublicKey, detail))
            }
        }
    }

    pub(crate) fn uri(&mut self, name: &str) -> Result<Option<String>, Error> {
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        let fits = text.len() <= URI_LENGTH_MAX_BYTES
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&byte));
        if fits {
            Ok(Some(text))
        } else {
            let detail = format!("{name} \"{}\" is not a URI", shown(&text));
            Err(self.fail(Fault::BadUri, detail))
        }
    }

    pub(crate) fn serial_number(&mut self, name: &str) -> Result<SerialNumber, Error> {
        // VOUCHER-5.3-03: serial-number is present and is a JSON string even if all digits.
        let text = self.string(name)?.ok_or_else(|| self.missing(name))?;
        SerialNumber::new(text).ok_or_else(|| {
            let detail = format!(
                "{name} must be 1 to {} octets without control characters",
                leaf::SERIAL_NUMBER_LENGTH_MAX_BYTES
            );
            self.fail(Fault::BadSerialNumber, detail)
        })
    }

    pub(crate) fn nonce(&mut self, name: &str) -> Result<Option<Nonce>, Error> {
        if let Some(bytes) = self.octets(name)? {
            // VCB-027: nonce is 8 to 32 bytes.
            return match Nonce::from_octets(&bytes) {
                Some(nonce) => Ok(Some(nonce)),
                None => {
                    let detail = format!("{name} has {} octets, it must have 8 to 32", bytes.len());
                    Err(self.fail(Fault::BadNonce, detail))
                }
            };
        }
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        // VOUCHER-5.3-22: nonce is 8 to 32 bytes after decoding.
        if let Some(nonce) = Nonce::from_text(text.as_str()) {
            return Ok(Some(nonce));
        }
        match Nonce::from_opaque(&text) {
            Some(nonce)
                if self.tolerances.nonce_text && decode_base64_leniently(&text).is_none() =>
            {
                self.odd("nonce-text", format!("{name} is no base64"));
                Ok(Some(nonce))
            }
            _ => {
                let detail = format!(
                    "{name} \"{}\" is not base64 of 8 to 32 octets",
                    shown(&text)
                );
                Err(self.fail(Fault::BadNonce, detail))
            }
        }
    }

    pub(crate) fn assertion(&mut self, name: &str) -> Result<Option<Assertion>, Error> {
        match self.members.get(name) {
            None | Some(Leaf::Json(_)) => {}
            // VCB-012: assertion is an unsigned integer: 0 verified, 1 logged, 2 proximity, 3
            // agent-proximity; text strings rejected.
            Some(Leaf::Cbor(Item::Unsigned(number))) => {
                let number = *number;
                self.members.remove(name);
                return match Assertion::from_number(number) {
                    Some(assertion) => Ok(Some(assertion)),
                    None => {
                        let detail = format!("{name} {number} is not defined");
                        Err(self.fail(Fault::BadAssertion, detail))
                    }
                };
            }
            Some(other) => return Err(self.wrong_type(name, "an unsigned number", other)),
        }
        let Some(text) = self.string(name)? else {
            return Ok(None);
        };
        match Assertion::from_name(&text) {
            Some(assertion) => Ok(Some(assertion)),
            None => {
                let detail = format!("{name} \"{}\" is not defined", shown(&text));
                Err(self.fail(Fault::BadAssertion, detail))
            }
        }
    }

    pub(crate) fn idevid_issuer(&mut self, name: &str) -> Result<Option<IdevidIssuer>, Error> {
        let Some(bytes) = self.binary(name)? else {
            return Ok(None);
        };
        let issuer = IdevidIssuer::from_bytes(&bytes);
        // VOUCHERBIS-6.3-01: the entire Authority Key Identifier object from the certificate,
        // i.e. the 'extnValue' OCTET STRING is to be included.
        match issuer {
            Some(issuer) if issuer.form() == IdevidIssuerForm::ExtensionValue => Ok(Some(issuer)),
            Some(issuer) if self.tolerances.idevid_issuer_forms => {
                self.odd(
                    "idevid-issuer-forms",
                    format!("{name} is a {:?}", issuer.form()),
                );
                Ok(Some(issuer))
            }
            _ => {
                let detail = format!(
                    "{name} must be the whole extension value of the authority key identifier"
                );
                Err(self.fail(Fault::BadIdevidIssuer, detail))
            }
        }
    }

    /// What the manufacturer tells its device: any text in JSON, a byte string in CBOR.
    pub(crate) fn proprietary(&mut self, name: &str) -> Result<Option<String>, Error> {
        // VCB-018: In CBOR manufacturer-proprietary is a byte string containing CBOR.
        match self.octets(name)? {
            Some(bytes) => Ok(Some(encode_base64url(&bytes))),
            None => self.string(name),
        }
    }

    /// The names in `extensions` and the members that belong to them.
    pub(crate) fn extensions(&mut self) -> Result<Vec<Extension>, Error> {
        let items = match self.take("extensions") {
            None => return Ok(Vec::new()),
            Some(Leaf::Json(Value::Array(items))) => {
                items.into_iter().map(Leaf::Json).collect::<Vec<_>>()
            }
            Some(Leaf::Cbor(Item::Array(items))) => items.into_iter().map(Leaf::Cbor).collect(),
            Some(other) => return Err(self.wrong_type("extensions", "an array", &other)),
        };
        if items.len() > EXTENSION_COUNT_MAX {
            let detail = format!("over {EXTENSION_COUNT_MAX} extensions");
            return Err(self.fail(Fault::BadExtension, detail));
        }
        let mut extensions = Vec::<Extension>::new();
        for item in items {
            let (name, member) = match item {
                // VOUCHERBIS-8.6-01: the corresponding key is the name of the extension, prefixed
                // by the string "extension:".
                // RFC 7951 section 6.1: a uint64 is a string in JSON, so both types of the union
                // are.
                Leaf::Json(Value::String(name)) | Leaf::Cbor(Item::Text(name)) => {
                    let member = format!("extension:{name}");
                    (name, member)
                }
                // VCB-016: Extensions are listed in the extensions leaf-list as SID integers (or
                // strings) and the extension map key is the module SID with tag 47.
                Leaf::Cbor(Item::Unsigned(sid)) => (sid.to_string(), sid_name(sid)),
                other => {
                    let want = "a string, or a SID in CBOR";
                    return Err(self.wrong_type("an entry of extensions", want, &other));
                }
            };
            if extensions.iter().any(|extension| extension.name == name) {
                let detail = format!("extension \"{}\" is listed twice", shown(&name));
                return Err(self.fail(Fault::BadExtension, detail));
            }
            let data = self.members.remove(&member).map(|data| match data {
                Leaf::Json(value) => ExtensionData::Json(value),
                Leaf::Cbor(item) => ExtensionData::Cbor(item),
            });
            extensions.push(Extension { name, data });
        }
        Ok(extensions)
    }

    /// The names of the members that nobody took.
    pub(crate) fn unknown(&mut self) -> Vec<String> {
        std::mem::take(&mut self.members)
            .0
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }
}

/// Most extensions in one voucher.
const EXTENSION_COUNT_MAX: usize = 64;
/// Longest URI.
const URI_LENGTH_MAX_BYTES: usize = 2048;

/// An extension by its registered module name, or by the module's SID in decimal digits, with its
/// data as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Extension {
    /// The name of the YANG module or its SID.
    pub name: String,
    /// The value of the member `extension:<name>`, or under the SID, when there is one.
    pub data: Option<ExtensionData>,
}

impl Extension {
    /// The SID, when the name is one.
    #[must_use]
    pub fn sid(&self) -> Option<u64> {
        let digits = self.name.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && !(self.name.len() > 1 && self.name.starts_with('0'));
        plain.then(|| self.name.parse().ok()).flatten()
    }
}

/// The data of an extension in the encoding in which it came.
#[derive(Clone, Debug, PartialEq)]
pub enum ExtensionData {
    /// JSON.
    Json(Value),
    /// CBOR.
    Cbor(Item),
}

impl ExtensionData {
    /// The data in JSON, or what comes nearest to it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Json(value) => value.clone(),
            Self::Cbor(item) => item.to_json(),
        }
    }

    /// The data in CBOR.
    #[must_use]
    pub fn to_cbor(&self) -> Item {
        match self {
            Self::Json(value) => Item::from_json(value),
            Self::Cbor(item) => item.clone(),
        }
    }
}
