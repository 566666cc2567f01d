//! Distinguished names and alternative names, read from their DER.

use const_oid::ObjectIdentifier;

use crate::certificate::HardwareModuleName;
use crate::oid;
use crate::tlv::{self, Reader};

/// The X520SerialNumber of a Name. Two different ones in one name are ambiguous and count as none:
/// a device's identity must not depend on which of them a reader happens to pick.
pub(crate) fn serial_number(name_der: &[u8]) -> Option<String> {
    let mut found = None;
    let mut rdns = Reader::der(name_der).enter(tlv::SEQUENCE).ok()?;
    while !rdns.is_empty() {
        let mut rdn = rdns.enter(tlv::SET).ok()?;
        while !rdn.is_empty() {
            let mut attribute = rdn.enter(tlv::SEQUENCE).ok()?;
            if attribute.oid().ok()? != oid::X520_SERIAL_NUMBER {
                continue;
            }
            let value = tlv::text(&attribute.any().ok()?)?;
            match &found {
                Some(other) if *other != value => return None,
                _ => found = Some(value),
            }
        }
    }
    found
}

/// The dNSNames of a subjectAltName's extnValue.
pub(crate) fn dns_names(alternative_names: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(mut names) = Reader::der(alternative_names).enter(tlv::SEQUENCE) else {
        return found;
    };
    while let Ok(name) = names.any() {
        if name.tag == 0x82
            && name.value.is_ascii()
            && let Ok(text) = std::str::from_utf8(name.value)
        {
            found.push(text.to_owned());
        }
    }
    found
}

/// The hardwareModuleName (RFC 4108 §5) of a subjectAltName's extnValue.
pub(crate) fn hardware_module_name(alternative_names: &[u8]) -> Option<HardwareModuleName> {
    let mut names = Reader::der(alternative_names).enter(tlv::SEQUENCE).ok()?;
    while let Ok(name) = names.any() {
        if name.tag != 0xa0 {
            continue;
        }
        let mut other_name = names.inside(&name).ok()?;
        if other_name.oid().ok()? != oid::HARDWARE_MODULE_NAME {
            continue;
        }
        let mut fields = other_name.enter(0xa0).ok()?.enter(tlv::SEQUENCE).ok()?;
        let hardware_type: ObjectIdentifier = fields.oid().ok()?;
        let serial_number = fields.expect(tlv::OCTET_STRING).ok()?.value.to_vec();
        fields.finish().ok()?;
        return Some(HardwareModuleName {
            hardware_type,
            serial_number,
        });
    }
    None
}

/// A subjectAltName's extnValue with dNSNames.
pub(crate) fn encode_dns_names<S: AsRef<str>>(names: &[S]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names
        .iter()
        .map(|name| tlv::element(0x82, &[name.as_ref().as_bytes()]))
        .collect();
    let parts: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    tlv::element(tlv::SEQUENCE, &parts)
}
