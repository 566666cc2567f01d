//! The profile of CMC Full PKI Requests (RFC 5272) that RFC 9646 section 3.2 lets a device send.

use pki::cms::{CmsPolicy, SignedData};
use pki::{Csr, ObjectIdentifier};

use super::tlv::{self, OID, Reader, SEQUENCE, malformed};
use super::{Device, p10};
use crate::restconf::{Fault, RestconfError};

const ID_SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const ID_AUTH_DATA: &[u8] = &[
    0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x02,
];
/// id-cct-PKIData.
const PKI_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.12.2");

/// What the envelope of a request shows about its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    /// It is signed with the key of the device's identity certificate.
    Signed,
    /// It is not protected.
    Bare,
}

/// The PKCS#10 request in a Full PKI Request that the device's identity certificate signed.
///
/// # Errors
/// It is malformed, outside the profile, or of another device; a shared secret is refused by
/// name.
pub(super) fn read(der: &[u8], device: &Device<'_>) -> Result<(Csr, Envelope), RestconfError> {
    refuse_shared_secret(der)?;
    let outer = signed(der)?;
    let Some(identity) = device.identity else {
        return Err(RestconfError::new(
            Fault::CsrOrigin,
            "a CMC request is signed with the key of an identity certificate, and none authenticated the device",
        ));
    };
    // SZTP-9646-3.2-14: the identity certificate's key signs what is outermost.
    let signer = outer
        .verify(&CmsPolicy::strict(PKI_DATA), std::slice::from_ref(identity))
        .map_err(|error| RestconfError::new(Fault::CsrOrigin, error.to_string()))?;
    if !signer
        .certificate()
        .public_key()
        .is_same_key(identity.public_key())
    {
        return Err(RestconfError::new(
            Fault::CsrOrigin,
            "the CMC request is signed with another key than that of the identity certificate",
        ));
    }
    let content = outer
        .content()
        .ok_or_else(|| malformed("the CMC request has no content"))?;
    match pki_data(content)? {
        Body::Request(csr) => Ok((p10(csr)?, Envelope::Signed)),
        Body::Nested(inner) => {
            refuse_shared_secret(inner)?;
            let inner = signed(inner)?;
            let content = inner
                .content()
                .ok_or_else(|| malformed("the inner CMC request has no content"))?;
            match pki_data(content)? {
                Body::Request(csr) => Ok((p10(csr)?, Envelope::Signed)),
                Body::Nested(_) => Err(malformed("CMC requests nested more than twice")),
            }
        }
    }
}

fn signed(der: &[u8]) -> Result<SignedData, RestconfError> {
    let data = SignedData::parse(der)
        .map_err(|error| RestconfError::new(Fault::CsrMalformed, error.to_string()))?;
    if data.content_type() != PKI_DATA {
        return Err(malformed("the CMC request holds no PKIData"));
    }
    Ok(data)
}

fn refuse_shared_secret(der: &[u8]) -> Result<(), RestconfError> {
    let info = tlv::whole(der, SEQUENCE, "a ContentInfo")?;
    let kind = Reader::new(info.value).expect(OID, "a content type")?.value;
    if kind == ID_AUTH_DATA {
        return Err(RestconfError::new(
            Fault::CsrFormat,
            "a CMC request that is authenticated with a shared secret (AuthenticatedData) is not supported",
        ));
    }
    if kind != ID_SIGNED_DATA {
        return Err(malformed("the CMC request is no SignedData"));
    }
    Ok(())
}

enum Body<'a> {
    /// A PKCS#10 request.
    Request(&'a [u8]),
    /// Another CMS.
    Nested(&'a [u8]),
}

/// The one request of a PKIData: one reqSequence or one cmsSequence element, nothing else.
fn pki_data(content: &[u8]) -> Result<Body<'_>, RestconfError> {
    let data = tlv::whole(content, SEQUENCE, "a PKIData")?;
    let mut fields = Reader::new(data.value);
    let _controls = fields.expect(SEQUENCE, "a controlSequence")?;
    let requests = fields.expect(SEQUENCE, "a reqSequence")?;
    let nested = fields.expect(SEQUENCE, "a cmsSequence")?;
    let others = fields.expect(SEQUENCE, "an otherMsgSequence")?;
    if !others.value.is_empty() || !fields.is_empty() {
        return Err(malformed("the PKIData has other messages"));
    }
    let mut requests = Reader::new(requests.value);
    let mut nested = Reader::new(nested.value);
    let body = if requests.is_empty() {
        // TaggedContentInfo ::= SEQUENCE { bodyPartID, contentInfo }
        let tagged = nested.expect(SEQUENCE, "a TaggedContentInfo")?;
        let mut tagged = Reader::new(tagged.value);
        tagged.expect(tlv::INTEGER, "a bodyPartID")?;
        Body::Nested(tagged.expect(SEQUENCE, "a ContentInfo")?.raw)
    } else {
        // TaggedRequest ::= CHOICE { tcr [0] IMPLICIT TaggedCertificationRequest, … }
        let tagged = requests.next()?;
        if tagged.tag != 0xa0 {
            return Err(RestconfError::new(
                Fault::CsrFormat,
                "a CMC request other than PKCS#10 (crm or orm) is not supported",
            ));
        }
        let mut tagged = Reader::new(tagged.value);
        tagged.expect(tlv::INTEGER, "a bodyPartID")?;
        Body::Request(tagged.expect(SEQUENCE, "a CertificationRequest")?.raw)
    };
    if !requests.is_empty() || !nested.is_empty() {
        return Err(malformed("the PKIData has more than one request"));
    }
    Ok(body)
}
