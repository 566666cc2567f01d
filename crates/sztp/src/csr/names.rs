//! The names that a CSR asks for where nobody told the device which.

use pki::{Csr, ObjectIdentifier};

use super::Device;
use super::tlv::{self, OID, Reader, SEQUENCE, Tlv};

const SET: u8 = 0x31;
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// id-at-commonName and id-at-serialNumber.
const NAMING: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 5]];
/// UTF8String, PrintableString and IA5String, whose octets are those of the text.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// Whether all names are the device's own: its serial number as common name or serial number, and
/// whatever stands in its identity certificate.
///
/// # Errors
/// What is not.
pub(super) fn are_own(csr: &Csr, device: &Device<'_>) -> Result<(), &'static str> {
    let asked = attributes(csr.subject_der()).ok_or("the subject cannot be read")?;
    let own = device
        .identity
        .and_then(|identity| attributes(identity.subject_der()))
        .unwrap_or_default();
    let is_own = |attribute: &Attribute<'_>| {
        own.iter().any(|other| other.raw == attribute.raw)
            || NAMING.contains(&attribute.kind)
                && TEXTS.contains(&attribute.value.tag)
                && attribute.value.value == device.serial.as_bytes()
    };
    if !asked.iter().all(is_own) {
        return Err("the CSR's subject is not the device's own name");
    }
    let alt_names = csr
        .subject_alt_name_der()
        .map_err(|_| "the CSR's extensions cannot be read")?;
    let own = device
        .identity
        .and_then(|identity| identity.extension(SUBJECT_ALT_NAME));
    if alt_names.is_some() && alt_names.as_deref() != own {
        return Err("the CSR's subjectAltName is not that of the identity certificate");
    }
    Ok(())
}

struct Attribute<'a> {
    raw: &'a [u8],
    kind: &'a [u8],
    value: Tlv<'a>,
}

/// The attributes of a Name, whichever of its parts they stand in.
fn attributes(name: &[u8]) -> Option<Vec<Attribute<'_>>> {
    let mut found = Vec::new();
    let mut parts = Reader::new(tlv::whole(name, SEQUENCE, "a Name").ok()?.value);
    while !parts.is_empty() {
        let part = parts.expect(SET, "a RelativeDistinguishedName").ok()?.value;
        let mut part = Reader::new(part);
        while !part.is_empty() {
            let attribute = part.expect(SEQUENCE, "an attribute").ok()?;
            let mut fields = Reader::new(attribute.value);
            found.push(Attribute {
                raw: attribute.raw,
                kind: fields.expect(OID, "an attribute's type").ok()?.value,
                value: fields.next().ok()?,
            });
        }
    }
    Some(found)
}
