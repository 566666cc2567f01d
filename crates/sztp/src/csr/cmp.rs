//! The profile of CMP messages (RFC 4210) that RFC 9646 section 3.2 lets a device send.

use pki::Csr;

use super::cmc::Envelope;
use super::tlv::{self, BIT_STRING, INTEGER, Reader, SEQUENCE, malformed};
use super::{Device, p10};
use crate::restconf::{Fault, RestconfError};

/// id-PasswordBasedMac and id-DHBasedMac begin like this: a MAC with a shared secret.
const ENTRUST_MACS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf6, 0x7d, 0x07, 0x42];
/// PBMAC1.
const PBMAC1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e];

/// The PKCS#10 request in a PKIMessage of the device.
///
/// # Errors
/// It is malformed, outside the profile, or of another device; ir, cr and kur hold CRMF, which
/// no PKCS#10 can be made of, and are refused by name, as is a shared secret.
pub(super) fn read(der: &[u8], device: &Device<'_>) -> Result<(Csr, Envelope), RestconfError> {
    let message = tlv::whole(der, SEQUENCE, "a PKIMessage")?;
    let mut fields = Reader::new(message.value);
    let header = fields.expect(SEQUENCE, "a PKIHeader")?;
    let body = fields.next()?;
    let protection = fields.optional(0xa0)?;
    let _extra_certs = fields.optional(0xa1)?;
    if !fields.is_empty() {
        return Err(malformed("octets after the PKIMessage's fields"));
    }
    let protection_algorithm = protection_algorithm(header.value)?;
    let csr = match body.tag {
        0xa4 => p10(tlv::whole(body.value, SEQUENCE, "a CertificationRequest")?.raw)?,
        0xa0 | 0xa2 | 0xa7 => {
            return Err(RestconfError::new(
                Fault::CsrFormat,
                "a CMP request of type ir, cr or kur (CRMF) is not supported; p10cr is",
            ));
        }
        _ => return Err(malformed("the PKIMessage is none of ir, cr, kur and p10cr")),
    };
    let Some(protection) = protection else {
        // SZTP-9646-3.2-17: without protection the CSR itself is signed with the identity's
        // key; `check` compares the keys.
        return Ok((csr, Envelope::Bare));
    };
    let algorithm =
        protection_algorithm.ok_or_else(|| malformed("protection without protectionAlg"))?;
    let name = Reader::new(tlv::whole(algorithm, SEQUENCE, "an AlgorithmIdentifier")?.value)
        .expect(tlv::OID, "an algorithm")?
        .value;
    if name.starts_with(ENTRUST_MACS) || name == PBMAC1 {
        return Err(RestconfError::new(
            Fault::CsrFormat,
            "a CMP request that is protected with a shared secret (MAC) is not supported",
        ));
    }
    let Some(identity) = device.identity else {
        return Err(RestconfError::new(
            Fault::CsrOrigin,
            "a CMP request is protected with the key of an identity certificate, and none authenticated the device",
        ));
    };
    let bits = tlv::whole(protection.value, BIT_STRING, "a BIT STRING")?;
    let Some((&0, signature)) = bits.value.split_first() else {
        return Err(malformed("the protection has unused bits"));
    };
    // ProtectedPart ::= SEQUENCE { header, body }
    let protected = tlv::element(SEQUENCE, &[header.raw, body.raw]);
    identity
        .public_key()
        .verify_identified(algorithm, &protected, signature, false)
        .map_err(|error| {
            RestconfError::new(
                Fault::CsrOrigin,
                format!(
                    "the CMP request is not protected with the identity certificate's key: {error}"
                ),
            )
        })?;
    Ok((csr, Envelope::Signed))
}

/// Checks a PKIHeader as far as the profile goes, and gives its protectionAlg.
fn protection_algorithm(header: &[u8]) -> Result<Option<&[u8]>, RestconfError> {
    let mut fields = Reader::new(header);
    // SZTP-9646-3.2-15: pvno is cmp2000.
    if fields.expect(INTEGER, "a pvno")?.value != [2] {
        return Err(malformed("the PKIMessage's version is not cmp2000"));
    }
    let _sender = fields.next()?;
    let _recipient = fields.next()?;
    let _time = fields.optional(0xa0)?;
    let algorithm = fields.optional(0xa1)?;
    Ok(algorithm.map(|explicit| explicit.value))
}
