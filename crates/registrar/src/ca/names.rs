//! The names in a certificate: the registrar's choice, by template.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use ::est::csrattrs::oids;
use der::asn1::{
    Any, AnyRef, Ia5String, Ia5StringRef, ObjectIdentifier, OctetString, PrintableStringRef,
    Utf8StringRef,
};
use der::{Decode, Encode, Tag};
use pki::Certificate;
use pki::issue::AltName;
use x509_cert::ext::pkix::name::{GeneralName, OtherName};
use x509_cert::name::Name;

use super::CaError;

/// What the templates can refer to.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `{serial}`: the serial number by the manufacturer's rule.
    pub serial: Option<String>,
    /// `{product}`
    pub product: Option<String>,
    /// `{vendor}`
    pub vendor: Option<String>,
    /// `{acp}`: the AcpNodeName that `[ca] acp_names` has for the serial number.
    pub acp: Option<String>,
    /// `{name}`: for enrolment without BRSKI the user or the common name of the client certificate.
    pub name: Option<String>,
}

impl Names {
    fn lookup(&self, variable: &str) -> Option<Option<&str>> {
        let value = match variable {
            "serial" => &self.serial,
            "product" => &self.product,
            "vendor" => &self.vendor,
            "name" => &self.name,
            "acp" => &self.acp,
            _ => return None,
        };
        Some(value.as_deref())
    }
}

/// Templates for subject and subject alternative names, checked when the configuration is read.
#[derive(Clone, Debug)]
pub struct NamePlan {
    subject: Vec<(ObjectIdentifier, String)>,
    alt_names: Vec<(Kind, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Acp,
    Dns,
    Email,
    Uri,
}

/// Longest value of one name attribute: ub-common-name of RFC 5280 appendix A.
const VALUE_LENGTH_MAX_CHARS: usize = 64;

const TYPES: [(&str, ObjectIdentifier); 10] = [
    ("C", ObjectIdentifier::new_unwrap("2.5.4.6")),
    ("CN", ObjectIdentifier::new_unwrap("2.5.4.3")),
    (
        "DC",
        ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.25"),
    ),
    ("L", ObjectIdentifier::new_unwrap("2.5.4.7")),
    ("O", ObjectIdentifier::new_unwrap("2.5.4.10")),
    ("OU", ObjectIdentifier::new_unwrap("2.5.4.11")),
    ("SERIALNUMBER", ObjectIdentifier::new_unwrap("2.5.4.5")),
    ("ST", ObjectIdentifier::new_unwrap("2.5.4.8")),
    ("STREET", ObjectIdentifier::new_unwrap("2.5.4.9")),
    (
        "UID",
        ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1"),
    ),
];

impl NamePlan {
    /// Reads the templates.
    ///
    /// # Errors
    /// A type or a variable is unknown, or there is no subject at all.
    pub fn parse(subject: &str, alt_names: &[String]) -> Result<Self, CaError> {
        let mut parts = Vec::new();
        for part in split_commas(subject) {
            let (kind, value) = part.split_once('=').ok_or_else(|| {
                CaError::Config(format!("[ca] subject: {part:?} is not TYPE=value"))
            })?;
            let kind = kind.trim();
            let oid = TYPES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(kind))
                .map(|(_, oid)| *oid)
                .or_else(|| ObjectIdentifier::new(kind).ok())
                .ok_or_else(|| {
                    CaError::Config(format!("[ca] subject: {kind:?} is no attribute type"))
                })?;
            check_variables(value)?;
            parts.push((oid, value.trim().to_owned()));
        }
        if parts.is_empty() {
            return Err(CaError::Config("[ca] subject is empty".to_owned()));
        }
        let alt_names = alt_names
            .iter()
            .map(|text| {
                let (kind, value) = text.split_once(':').unwrap_or((text, ""));
                let kind = match kind {
                    "acp" => Kind::Acp,
                    "dns" => Kind::Dns,
                    "email" => Kind::Email,
                    "uri" => Kind::Uri,
                    _ => {
                        return Err(CaError::Config(format!(
                            "[ca] alt_names: {text:?} does not begin with dns:, uri:, email: or acp:"
                        )));
                    }
                };
                check_variables(value)?;
                Ok((kind, value.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            subject: parts,
            alt_names,
        })
    }

    /// Whether the names hold an AcpNodeName, which a device must ask for itself.
    #[must_use]
    pub fn has_acp_node_name(&self) -> bool {
        self.alt_names
            .iter()
            .any(|(kind, _)| matches!(kind, Kind::Acp))
    }

    /// The subject of one device.
    ///
    /// # Errors
    /// Nothing of the template has a value, or a value has no encoding.
    pub fn subject(&self, names: &Names) -> Result<Name, CaError> {
        let encoding = |error: der::Error| CaError::Name(error.to_string());
        let mut rdns = Vec::new();
        for (oid, template) in &self.subject {
            let Some(value) = fill(template, names) else {
                continue;
            };
            if value.chars().count() > VALUE_LENGTH_MAX_CHARS || value.contains(char::is_control) {
                return Err(CaError::Name(format!("{value:?} does not fit into a name")));
            }
            let value = match oid.to_string().as_str() {
                // countryName, serialNumber and dnQualifier are PrintableString in X.520.
                "2.5.4.5" | "2.5.4.6" | "2.5.4.46" => match PrintableStringRef::new(&value) {
                    Ok(text) => text.to_der(),
                    Err(_) => Utf8StringRef::new(&value).and_then(|text| text.to_der()),
                },
                "0.9.2342.19200300.100.1.25" => {
                    Ia5StringRef::new(&value).and_then(|text| text.to_der())
                }
                _ => Utf8StringRef::new(&value).and_then(|text| text.to_der()),
            }
            .map_err(encoding)?;
            let mut single = oid.to_der().map_err(encoding)?;
            single.extend(value);
            let single = wrap(Tag::Sequence, &single)?;
            rdns.extend(wrap(Tag::Set, &single)?);
        }
        if rdns.is_empty() {
            return Err(CaError::Name(
                "no part of [ca] subject has a value".to_owned(),
            ));
        }
        Name::from_der(&wrap(Tag::Sequence, &rdns)?).map_err(encoding)
    }

    /// The subject alternative names of one device.
    ///
    /// # Errors
    /// A value does not fit into its kind of name.
    pub fn alt_names(&self, names: &Names) -> Result<Vec<AltName>, CaError> {
        let mut all = Vec::new();
        for (kind, template) in &self.alt_names {
            let Some(value) = fill(template, names) else {
                continue;
            };
            let fits = match kind {
                Kind::Acp | Kind::Email if !value.contains('@') => false,
                Kind::Acp => value.starts_with("rfc8994") && value.is_ascii(),
                Kind::Dns => is_dns_name(&value),
                Kind::Email => value.is_ascii(),
                Kind::Uri => value.contains(':') && value.is_ascii(),
            } && !value.contains(|c: char| c.is_control() || c == ' ');
            if !fits {
                return Err(CaError::Name(format!("{value:?} is no name of its kind")));
            }
            all.push(match kind {
                Kind::Acp => AltName::Other(oids::ACP_NODE_NAME, ia5_string(&value)?),
                Kind::Dns => AltName::Dns(value.to_ascii_lowercase()),
                Kind::Email => AltName::Email(value),
                Kind::Uri => AltName::Uri(value),
            });
        }
        Ok(all)
    }
}

/// The subject alternative names of a certificate, to be given again.
pub(crate) fn alt_names_of(certificate: &Certificate) -> Result<Vec<AltName>, CaError> {
    alt_names_in(certificate.extension(SUBJECT_ALT_NAME))
}

/// The names in the DER of GeneralNames.
pub(super) fn alt_names_in(der: Option<&[u8]>) -> Result<Vec<AltName>, CaError> {
    let Some(der) = der else {
        return Ok(Vec::new());
    };
    let unusable = || CaError::Name("the subjectAltName cannot be given as it is".to_owned());
    let names = Vec::<GeneralName>::from_der(der).map_err(|_| unusable())?;
    names
        .into_iter()
        .map(|name| match name {
            GeneralName::DnsName(name) => Ok(AltName::Dns(name.to_string())),
            GeneralName::Rfc822Name(name) => Ok(AltName::Email(name.to_string())),
            GeneralName::UniformResourceIdentifier(name) => Ok(AltName::Uri(name.to_string())),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                <[u8; 4]>::try_from(octets)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
                    .map(AltName::Ip)
                    .map_err(|_| unusable())
            }
            GeneralName::OtherName(name) => name
                .value
                .to_der()
                .map(|value| AltName::Other(name.type_id, value))
                .map_err(|_| unusable()),
            _ => Err(unusable()),
        })
        .collect()
}

/// Whether two lists hold the same names; their order means nothing.
pub(super) fn same_names(one: &[AltName], other: &[AltName]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}

/// The names as GeneralNames in DER; `None` if there are none.
///
/// # Errors
/// A name has no encoding.
pub(crate) fn general_names_der(names: &[AltName]) -> Result<Option<Vec<u8>>, CaError> {
    if names.is_empty() {
        return Ok(None);
    }
    let encoding = |error: der::Error| CaError::Name(error.to_string());
    let ia5 = |text: &str| Ia5String::new(text).map_err(encoding);
    let mut all = Vec::new();
    for name in names {
        all.push(match name {
            AltName::Dns(name) => GeneralName::DnsName(ia5(name)?),
            AltName::Email(name) => GeneralName::Rfc822Name(ia5(name)?),
            AltName::Uri(name) => GeneralName::UniformResourceIdentifier(ia5(name)?),
            AltName::Ip(address) => {
                let octets = match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                GeneralName::IpAddress(OctetString::new(octets).map_err(encoding)?)
            }
            AltName::Other(type_id, value) => GeneralName::OtherName(OtherName {
                type_id: *type_id,
                value: Any::from_der(value).map_err(encoding)?,
            }),
            AltName::HardwareModule(_) => {
                return Err(CaError::Name(
                    "a hardware module is no name of an LDevID".to_owned(),
                ));
            }
        });
    }
    all.to_der().map(Some).map_err(encoding)
}

fn ia5_string(text: &str) -> Result<Vec<u8>, CaError> {
    Ia5StringRef::new(text)
        .and_then(|text| text.to_der())
        .map_err(|error| CaError::Name(error.to_string()))
}

/// The AcpNodeNames of a file, by serial number.
#[derive(Clone, Debug, Default)]
pub struct AcpNames(HashMap<String, String>);

impl AcpNames {
    /// Reads a file with lines `serial number,AcpNodeName`.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not of that form.
    pub fn load(path: &Path) -> Result<Self, CaError> {
        let place = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| CaError::Config(format!("[ca] acp_names {place}: {error}")))?;
        let mut names = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let pair = line
                .split_once(',')
                .map(|(serial, name)| (serial.trim(), name.trim()));
            let Some((serial, name)) = pair.filter(|(_, name)| name.starts_with("rfc8994")) else {
                return Err(CaError::Config(format!(
                    "[ca] acp_names {place} line {}: not SERIAL,rfc8994…@domain",
                    number + 1
                )));
            };
            names.insert(serial.to_owned(), name.to_owned());
        }
        Ok(Self(names))
    }

    /// The name for a serial number.
    #[must_use]
    pub fn name_of(&self, serial: &str) -> Option<String> {
        self.0.get(serial).cloned()
    }
}

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

fn wrap(tag: Tag, content: &[u8]) -> Result<Vec<u8>, CaError> {
    AnyRef::new(tag, content)
        .and_then(|value| value.to_der())
        .map_err(|error| CaError::Name(error.to_string()))
}

fn is_dns_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// Splits at commas that no backslash stands before.
fn split_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        match character {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            ',' if !escaped => parts.push(String::new()),
            _ => {
                if let Some(last) = parts.last_mut() {
                    last.push(character);
                }
            }
        }
        escaped = false;
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

fn check_variables(template: &str) -> Result<(), CaError> {
    let mut rest = template;
    while let Some((_, tail)) = rest.split_once('{') {
        let (variable, tail) = tail
            .split_once('}')
            .ok_or_else(|| CaError::Config(format!("[ca] {template:?} has an open brace")))?;
        if Names::default().lookup(variable).is_none() {
            return Err(CaError::Config(format!(
                "[ca] {{{variable}}} is no known value"
            )));
        }
        rest = tail;
    }
    Ok(())
}

/// Puts the values in; `None` if one of them is unknown.
fn fill(template: &str, names: &Names) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        let (variable, tail) = tail.split_once('}')?;
        out.push_str(before);
        out.push_str(names.lookup(variable)??);
        rest = tail;
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(serial: &str) -> Names {
        Names {
            serial: Some(serial.to_owned()),
            ..Names::default()
        }
    }

    fn subject(template: &str, names: &Names) -> Result<String, CaError> {
        NamePlan::parse(template, &[])?
            .subject(names)
            .map(|name| name.to_string())
    }

    #[test]
    fn subjects_follow_the_template() {
        let cases = [
            ("CN={serial}", "CN=SN-1"),
            ("CN={serial},O=Example\\, Inc.", "O=Example\\, Inc.,CN=SN-1"),
            // A part without value is left out.
            ("CN={serial},OU={product}", "CN=SN-1"),
        ];
        for (template, expected) in cases {
            assert_eq!(
                subject(template, &names("SN-1")).unwrap(),
                expected,
                "{template}"
            );
        }
    }

    #[test]
    fn a_serial_number_cannot_break_out_of_its_part() {
        let evil = "A,CN=admin+O=\"x\\";
        let name = NamePlan::parse("CN={serial}", &[])
            .unwrap()
            .subject(&names(evil))
            .unwrap();
        assert_eq!(name.len(), 1);
        let value = name.iter().next().unwrap().value.value().to_vec();
        assert_eq!(value, evil.as_bytes());
    }

    #[test]
    fn templates_are_checked_when_they_are_read() {
        for (template, alt_names) in [
            ("", vec![]),
            ("CN", vec![]),
            ("XX=1", vec![]),
            ("CN={secret}", vec![]),
            ("CN={serial", vec![]),
            ("CN={serial}", vec!["{serial}".to_owned()]),
            ("CN={serial}", vec!["dns:{who}".to_owned()]),
        ] {
            let error = NamePlan::parse(template, &alt_names).unwrap_err();
            assert!(
                matches!(error, CaError::Config(_)),
                "{template} {alt_names:?}: {error}"
            );
        }
    }

    #[test]
    fn alternative_names_must_fit_their_kind() {
        let plan =
            NamePlan::parse("CN={serial}", &["dns:{serial}.example.com".to_owned()]).unwrap();
        assert_eq!(
            plan.alt_names(&names("SN-1")).unwrap(),
            [AltName::Dns("sn-1.example.com".to_owned())]
        );
        for serial in ["a b", "a..b", "*", "-a", "ä", &"a".repeat(64)] {
            assert!(plan.alt_names(&names(serial)).is_err(), "{serial}");
        }
        assert!(plan.alt_names(&Names::default()).unwrap().is_empty());
    }
}
