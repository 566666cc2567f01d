//! Certs-only PKCS#7 bags (degenerate SignedData), as EST answers them.

use std::cell::Cell;

use crate::cms::{ID_DATA, content_info, read_certificates};
use crate::limits::{CERTIFICATES_PER_SET_MAX, CRLS_PER_SET_MAX, PEM_SIZE_MAX_BYTES};
use crate::tlv::{self, Reader, TlvError};
use crate::{Certificate, Crl, Document, Error, oid, pem};

/// A DER certs-only SignedData, in the order of DER (a SET OF has no order of its own).
///
/// # Errors
/// If there are too many certificates.
pub fn certs_only(certificates: &[Certificate]) -> Result<Vec<u8>, Error> {
    certificates_and_crls(certificates, &[])
}

/// The same with revocation lists beside the certificates, which RFC 8572 calls stapling.
///
/// # Errors
/// If there are too many certificates or lists.
pub fn certificates_and_crls(certificates: &[Certificate], crls: &[Crl]) -> Result<Vec<u8>, Error> {
    if crls.len() > CRLS_PER_SET_MAX {
        return Err(Error::LimitExceeded {
            document: Document::Pkcs7,
            what: "CRLs",
            limit: CRLS_PER_SET_MAX,
        });
    }
    if certificates.len() > CERTIFICATES_PER_SET_MAX {
        return Err(over());
    }
    let members = certificates
        .iter()
        .map(|certificate| certificate.der().to_vec())
        .collect();
    let set = tlv::set_of(0xa0, members);
    // The set is OPTIONAL, so an empty one is left out.
    let crls = if crls.is_empty() {
        Vec::new()
    } else {
        tlv::set_of(0xa1, crls.iter().map(|crl| crl.der().to_vec()).collect())
    };
    // RFC 5652 §5.1: version 1; no digest algorithm, no content, no signer.
    let signed_data = tlv::element(
        tlv::SEQUENCE,
        &[
            &[tlv::INTEGER, 1, 1],
            &tlv::element(tlv::SET, &[]),
            &tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(ID_DATA)]),
            &set,
            &crls,
            &tlv::element(tlv::SET, &[]),
        ],
    );
    Ok(content_info(&signed_data))
}

/// The certificates of a certs-only SignedData: DER, BER or PEM. They are as untrusted as where
/// they came from. Signers, if there are any, are not looked at.
///
/// # Errors
/// If it is malformed or over a limit, or one of the certificates is malformed.
pub fn parse_certs_only(bytes: &[u8]) -> Result<Vec<Certificate>, Error> {
    if bytes.len() > PEM_SIZE_MAX_BYTES {
        return Err(Error::LimitExceeded {
            document: Document::Pkcs7,
            what: "octets",
            limit: PEM_SIZE_MAX_BYTES,
        });
    }
    if bytes.first() != Some(&tlv::SEQUENCE) && pem::is_pem(bytes) {
        for block in pem::blocks(&String::from_utf8_lossy(bytes)) {
            let block = block?;
            if matches!(block.label, "PKCS7" | "CMS") {
                return parse_certs_only(&block.der);
            }
        }
        return Err(Error::malformed(
            Document::Pkcs7,
            "there is no PKCS7 block in the PEM text",
        ));
    }
    let malformed = |error: TlvError| Error::malformed(Document::Pkcs7, error);
    let met = Cell::new(false);
    let set = find_set(Reader::ber(bytes, &met)).map_err(malformed)?;
    let mut certificates = Vec::new();
    let mut oddities = Vec::new();
    if let Some(set) = set {
        read_certificates(set, &mut certificates, &mut oddities).map_err(|error| match error {
            Error::Malformed { detail, .. } => Error::malformed(Document::Pkcs7, detail),
            Error::LimitExceeded { .. } => over(),
            other => other,
        })?;
    }
    if !oddities.is_empty() {
        return Err(Error::malformed(
            Document::Pkcs7,
            "a certificate is malformed",
        ));
    }
    Ok(certificates)
}

/// The content of the `certificates` field, if it is there.
fn find_set<'a, 'f>(mut file: Reader<'a, 'f>) -> tlv::Result<Option<Reader<'a, 'f>>> {
    let mut content_info = file.enter(tlv::SEQUENCE)?;
    if content_info.oid()? != oid::SIGNED_DATA {
        return Err(TlvError("content type is not SignedData"));
    }
    let mut fields = content_info.enter(0xa0)?.enter(tlv::SEQUENCE)?;
    fields.integer()?;
    fields.expect(tlv::SET)?;
    let mut encapsulated = fields.enter(tlv::SEQUENCE)?;
    encapsulated.oid()?;
    let set = match fields.optional(0xa0)? {
        Some(set) => Some(fields.inside(&set)?),
        None => None,
    };
    fields.optional(0xa1)?;
    fields.expect(tlv::SET)?;
    fields.finish()?;
    Ok(set)
}

fn over() -> Error {
    Error::LimitExceeded {
        document: Document::Pkcs7,
        what: "certificates",
        limit: CERTIFICATES_PER_SET_MAX,
    }
}
