//! Distinguished names and the other name forms of subjectAltName.

use super::der::{self, Malformed, Reader, Result};

/// RDNs in one name. Real ones have fewer than ten.
const RDNS_MAX: usize = 64;
/// Entries of one GeneralNames. The name constraint budget bounds the work again.
const GENERAL_NAMES_MAX: usize = 8_192;

const EMAIL_ADDRESS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];

/// A distinguished name: as received, and in a form in which equal names are equal bytes.
#[derive(Clone, Debug)]
pub(crate) struct DistinguishedName<'a> {
    /// The RDNSequence as received.
    pub(crate) der: &'a [u8],
    /// Each RDN normalised by RFC 5280 §7.1.
    rdns: Vec<Vec<u8>>,
    /// The emailAddress attributes, as name constraints of that form apply to them.
    pub(crate) email_addresses: Vec<String>,
}

impl<'a> DistinguishedName<'a> {
    /// Reads a Name from the content of its SEQUENCE; `der` is the whole encoding.
    pub(crate) fn read(content: &'a [u8], der: &'a [u8]) -> Result<Self> {
        let mut rdns = Vec::new();
        let mut email_addresses = Vec::new();
        let mut reader = Reader::new(content);
        while !reader.is_empty() {
            let mut set = Reader::new(reader.expect(der::SET)?.content);
            let mut attributes = Vec::new();
            while !set.is_empty() {
                let mut attribute = Reader::new(set.expect(der::SEQUENCE)?.content);
                let kind = der::oid(attribute.expect(der::OID)?.content)?;
                let value = attribute.element()?;
                attribute.end()?;
                let text = directory_string(value);
                if kind == EMAIL_ADDRESS {
                    email_addresses.extend(text.clone());
                }
                attributes.push(normal_attribute(kind, value, text));
            }
            if attributes.is_empty() {
                return Err(Malformed("an empty RelativeDistinguishedName"));
            }
            attributes.sort();
            rdns.push(attributes.concat());
            if rdns.len() > RDNS_MAX {
                return Err(Malformed("a name of too many parts"));
            }
        }
        Ok(Self {
            der,
            rdns,
            email_addresses,
        })
    }

    /// Reads the Name that `bytes` consist of.
    pub(crate) fn from_der(bytes: &'a [u8]) -> Result<Self> {
        Self::read(der::single(bytes, der::SEQUENCE)?, bytes)
    }

    /// The name that is `issuer` with one more RDN: nameRelativeToCRLIssuer.
    pub(crate) fn relative(issuer: &Self, rdn: &'a [u8]) -> Result<Self> {
        let mut set = rdn.to_vec();
        // The field is `[1] IMPLICIT RelativeDistinguishedName`; the SET's own tag is put back.
        if let Some(tag) = set.first_mut() {
            *tag = der::SET;
        }
        let last = DistinguishedName::read(&set, &[])?;
        let mut rdns = issuer.rdns.clone();
        rdns.extend(last.rdns);
        Ok(Self {
            der: issuer.der,
            rdns,
            email_addresses: Vec::new(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    /// Whether this name is `base` or lies below it.
    pub(crate) fn is_within(&self, base: &DistinguishedName<'_>) -> bool {
        self.rdns.starts_with(&base.rdns)
    }

    /// The normal form, to look names up by.
    pub(crate) fn key(&self) -> &[Vec<u8>] {
        &self.rdns
    }
}

impl PartialEq for DistinguishedName<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rdns == other.rdns
    }
}

/// An attribute so that equal ones are equal bytes, and no two parts can be taken for another split.
fn normal_attribute(kind: &[u8], value: der::Element<'_>, text: Option<String>) -> Vec<u8> {
    let mut normal = Vec::with_capacity(kind.len() + value.encoding.len() + 8);
    let mut part = |bytes: &[u8]| {
        normal.extend_from_slice(&bytes.len().to_be_bytes());
        normal.extend_from_slice(bytes);
    };
    part(kind);
    match text {
        Some(text) => {
            part(b"text");
            part(fold(&text).as_bytes());
        }
        None => {
            part(b"der");
            part(value.encoding);
        }
    }
    normal
}

/// Case-insensitive, white space trimmed and inner runs of it one space: the caseIgnoreMatch of
/// RFC 5280 §7.1 without Unicode normalisation, which only narrows what is equal.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

/// The text of any of the string types that names use; `None` for anything else.
fn directory_string(value: der::Element<'_>) -> Option<String> {
    match value.tag {
        // UTF8String.
        0x0c => std::str::from_utf8(value.content).ok().map(str::to_owned),
        // NumericString, PrintableString, IA5String.
        0x12 | 0x13 | 0x16 => std::str::from_utf8(value.content)
            .ok()
            .filter(|text| text.is_ascii())
            .map(str::to_owned),
        // TeletexString, in practice Latin-1.
        0x14 => Some(
            value
                .content
                .iter()
                .map(|&octet| char::from(octet))
                .collect(),
        ),
        // UniversalString.
        0x1c => value
            .content
            .chunks(4)
            .map(|chunk| char::from_u32(u32::from_be_bytes(chunk.try_into().ok()?)))
            .collect(),
        // BMPString.
        0x1e => {
            let units: Option<Vec<u16>> = value
                .content
                .chunks(2)
                .map(|chunk| Some(u16::from_be_bytes(chunk.try_into().ok()?)))
                .collect();
            String::from_utf16(&units?).ok()
        }
        _ => None,
    }
}

/// One GeneralName.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GeneralName<'a> {
    Directory(DistinguishedName<'a>),
    Dns(&'a str),
    Email(&'a str),
    Ip(&'a [u8]),
    /// The type and the whole content, type included.
    Other(&'a [u8], &'a [u8]),
    /// x400Address, ediPartyName and registeredID: the number of the choice and the content.
    Rare(u8, &'a [u8]),
    Uri(&'a str),
}

impl<'a> GeneralName<'a> {
    /// Reads one from its element.
    pub(crate) fn read(element: der::Element<'a>) -> Result<Self> {
        let ia5 = || {
            std::str::from_utf8(element.content)
                .ok()
                .filter(|text| text.is_ascii())
                .ok_or(Malformed("a general name that is not ASCII"))
        };
        match element.tag {
            0xa0 => {
                let mut reader = Reader::new(element.content);
                let kind = der::oid(reader.expect(der::OID)?.content)?;
                reader.expect(der::context_constructed(0))?;
                reader.end()?;
                Ok(Self::Other(kind, element.content))
            }
            0x81 => ia5().map(Self::Email),
            0x82 => ia5().map(Self::Dns),
            0xa3 => Ok(Self::Rare(3, element.content)),
            // A Name is a CHOICE, so its tag is explicit.
            0xa4 => DistinguishedName::from_der(element.content).map(Self::Directory),
            0xa5 => Ok(Self::Rare(5, element.content)),
            0x86 => ia5().map(Self::Uri),
            0x87 => Ok(Self::Ip(element.content)),
            0x88 => der::oid(element.content).map(|oid| Self::Rare(8, oid)),
            _ => Err(Malformed("a general name of no known form")),
        }
    }

    /// Reads GeneralNames from the content of their SEQUENCE; at least one is mandatory.
    pub(crate) fn read_all(content: &'a [u8]) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        let mut reader = Reader::new(content);
        while !reader.is_empty() {
            names.push(Self::read(reader.element()?)?);
            if names.len() > GENERAL_NAMES_MAX {
                return Err(Malformed("too many general names"));
            }
        }
        if names.is_empty() {
            return Err(Malformed("no general name"));
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CN with the given string type.
    fn name(tag: u8, text: &[u8]) -> Vec<u8> {
        let tlv = |tag: u8, content: &[u8]| {
            let mut out = vec![tag, u8::try_from(content.len()).unwrap()];
            out.extend_from_slice(content);
            out
        };
        let mut attribute = tlv(der::OID, &[0x55, 0x04, 0x03]);
        attribute.extend(tlv(tag, text));
        tlv(
            der::SEQUENCE,
            &tlv(der::SET, &tlv(der::SEQUENCE, &attribute)),
        )
    }

    #[test]
    fn string_type_case_and_spaces_do_not_matter() {
        let printable = name(0x13, b" Good  CA ");
        let utf8 = name(0x0c, b"good ca");
        let bmp = name(0x1e, b"\0g\0o\0o\0d\0 \0C\0A");
        let other = name(0x13, b"Good CB");
        let read = |der| DistinguishedName::from_der(der).unwrap();
        assert!(read(&printable) == read(&utf8));
        assert!(read(&printable) == read(&bmp));
        assert!(read(&printable) != read(&other));
    }

    #[test]
    fn broken_names_are_refused() {
        assert!(DistinguishedName::from_der(&[0x30, 0x02, 0x31, 0x00]).is_err());
        assert!(DistinguishedName::from_der(&[0x30, 0x00, 0x00]).is_err());
        assert!(
            DistinguishedName::from_der(&[0x30, 0x00])
                .unwrap()
                .is_empty()
        );
        assert!(GeneralName::read_all(&[]).is_err());
        assert!(GeneralName::read_all(&[0x82, 0x01, 0xe4]).is_err());
    }
}
