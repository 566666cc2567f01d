//! The identity of a device, taken from its verified IDevID by its manufacturer's own rule.
//!
//! Identity is the pair of issuer key and serial number. It never comes from a request.

use pki::Certificate;
use serde::{Deserialize, Serialize};

/// Longest serial number that is taken from a certificate.
pub const SERIAL_LENGTH_MAX_BYTES: usize = 256;

/// Where a manufacturer writes the serial number
/// ([RFC 8995 §2.3.1](https://www.rfc-editor.org/rfc/rfc8995.html#section-2.3.1)).
///
/// BRSKI-2.3.1-02: none of the rules reads the certificate's own serial number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SerialRule {
    /// The attribute serialNumber (2.5.4.5) of the subject: the standard's rule.
    #[default]
    SubjectSerialNumber,
    /// hwSerialNum of the subject alternative name hardwareModuleName (RFC 4108 §5).
    HardwareModuleName,
    /// The common name of the subject.
    CommonName,
    /// The part `{serial}` of the attribute serialNumber, for example `PID:* SN:{serial}`.
    SubjectSerialNumberTemplate(Template),
    /// The part `{serial}` of the common name.
    CommonNameTemplate(Template),
}

impl SerialRule {
    /// The serial number of a certificate by this rule.
    #[must_use]
    pub fn serial_of(&self, certificate: &Certificate) -> Option<String> {
        let serial = match self {
            Self::SubjectSerialNumber => certificate.subject_serial_number(),
            Self::HardwareModuleName => hardware_serial(certificate),
            Self::CommonName => common_name(certificate),
            Self::SubjectSerialNumberTemplate(template) => certificate
                .subject_serial_number()
                .and_then(|text| template.serial_in(&text)),
            Self::CommonNameTemplate(template) => {
                common_name(certificate).and_then(|text| template.serial_in(&text))
            }
        };
        serial.filter(|serial| !serial.is_empty() && serial.len() <= SERIAL_LENGTH_MAX_BYTES)
    }
}

/// hwSerialNum as text where it is printable, in hexadecimal where it is not.
fn hardware_serial(certificate: &Certificate) -> Option<String> {
    let name = certificate.hardware_module_name()?;
    let printable = |bytes: &[u8]| bytes.iter().all(|byte| (0x20..0x7f).contains(byte));
    match String::from_utf8(name.serial_number.clone()) {
        Ok(text) if printable(text.as_bytes()) => Some(text),
        _ => Some(hex::encode(&name.serial_number)),
    }
}

/// The first commonName (2.5.4.3) of the subject.
fn common_name(certificate: &Certificate) -> Option<String> {
    certificate
        .x509()
        .tbs_certificate()
        .subject()
        .iter()
        .find(|attribute| attribute.oid.to_string() == "2.5.4.3")
        .and_then(|attribute| String::from_utf8(attribute.value.value().to_vec()).ok())
}

/// The key identifier of the issuer: from the AuthorityKeyIdentifier of the IDevID, or else from
/// the issuer's certificate in the validated path.
#[must_use]
pub fn issuer_key_id(path: &[Certificate]) -> Option<Vec<u8>> {
    let leaf = path.first()?;
    leaf.authority_key_id().or_else(|| {
        let issuer = path.get(1)?;
        Some(
            issuer
                .subject_key_id()
                .unwrap_or_else(|| issuer.public_key().sha1_key_id().to_vec()),
        )
    })
}

/// A pattern with `*` for any text and one `{serial}` for the part that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
}

impl Template {
    const MARK: &'static str = "{serial}";

    /// The part of `text` that stands where the template says `{serial}`: up to the next literal
    /// text of the template, or up to the next blank if `*` follows, or to the end.
    #[must_use]
    pub fn serial_in(&self, text: &str) -> Option<String> {
        let (before, after) = self.text.split_once(Self::MARK)?;
        let rest = skip(before, text)?;
        let serial = match after.chars().next() {
            None => rest,
            Some('*') => rest.split_whitespace().next().unwrap_or_default(),
            Some(_) => {
                let literal = after.split('*').next().unwrap_or_default();
                let end = rest.find(literal)?;
                rest.get(..end)?
            }
        };
        let remainder = rest.get(serial.len()..)?;
        let matched = skip(after, remainder)?;
        (matched.is_empty() || after.ends_with('*')).then(|| serial.to_owned())
    }
}

/// What is left of `text` after the pattern matched its beginning; `*` matches as little as it can.
fn skip<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
    let mut rest = text;
    for (index, literal) in pattern.split('*').enumerate() {
        if index == 0 {
            rest = rest.strip_prefix(literal)?;
        } else if !literal.is_empty() {
            let at = rest.find(literal)?;
            rest = rest.get(at + literal.len()..)?;
        }
    }
    Some(rest)
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.matches(Self::MARK).count() == 1 {
            Ok(Self { text })
        } else {
            Err(format!(
                "the serial template {text:?} has to contain {} once",
                Self::MARK
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: BRSKI-2.3.1-03
    #[test]
    fn templates_pick_the_serial_out_of_a_longer_name() {
        for (template, text, expect) in [
            (
                "PID:* SN:{serial}",
                "PID:C9300-24T SN:FCW2129G03A",
                Some("FCW2129G03A"),
            ),
            (
                "PID:* SN:{serial}*",
                "PID:C9300 SN:FCW2129 REV:2",
                Some("FCW2129"),
            ),
            ("{serial}.example.com", "box-7.example.com", Some("box-7")),
            ("{serial}.example.com", "box-7.example.com.evil", None),
            ("SN:{serial}", "PID:1 SN:2", None),
            ("PID:* SN:{serial}", "nothing of the kind", None),
        ] {
            let template = Template::try_from(template.to_owned()).expect("template");
            assert_eq!(template.serial_in(text).as_deref(), expect, "{text}");
        }
        assert!(Template::try_from("no mark".to_owned()).is_err());
    }
}
