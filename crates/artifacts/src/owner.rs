//! The owner certificate: a degenerate SignedData with the certificate that signs conveyed
//! information, its chain to the pinned certificate, and revocation lists
//! ([RFC 8572 §3.2](https://www.rfc-editor.org/rfc/rfc8572.html#section-3.2)).

use pki::cms::SignedData;
use pki::{Certificate, Crl, pkcs7};

use crate::conveyed::SignedInformation;
use crate::envelope::check_encoding;
use crate::error::{Document, Error, Fault};
use crate::tolerances::{Oddity, Tolerances};

fn fail(fault: Fault, detail: impl Into<String>) -> Error {
    Error::new(Document::OwnerCertificate, fault, detail)
}

/// An owner certificate artefact, read. Nothing in it is trusted for being there.
#[derive(Clone, Debug)]
pub struct OwnerCertificate {
    certificates: Vec<Certificate>,
    crls: Vec<Crl>,
    oddities: Vec<Oddity>,
}

impl OwnerCertificate {
    /// The certificates, in no meaningful order.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The revocation lists that came along.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// What was odd and tolerated.
    #[must_use]
    pub fn oddities(&self) -> &[Oddity] {
        &self.oddities
    }

    /// The certificates of the set that the signer of conveyed information names: the owner
    /// certificate is among them. A set has no order that would tell it.
    #[must_use]
    pub fn named_by(&self, signed: &SignedInformation) -> Vec<Certificate> {
        signed
            .signed_data()
            .signer_certificates_among(0, &self.certificates)
    }

    /// The certificate that issued none of the others: the owner certificate, when there is no
    /// signature to tell it. None when that leaves several.
    #[must_use]
    pub fn leaf(&self) -> Option<&Certificate> {
        let issues_none = |certificate: &&Certificate| {
            !self.certificates.iter().any(|other| {
                other != *certificate && other.issuer_der() == certificate.subject_der()
            })
        };
        let mut leaves = self.certificates.iter().filter(issues_none);
        match (leaves.next(), leaves.next()) {
            (Some(leaf), None) => Some(leaf),
            _ => None,
        }
    }
}

impl OwnerCertificate {
    /// [`Self::leaf`], and that it may sign.
    ///
    /// # Errors
    /// If it is not told apart from the others, or may not make signatures.
    pub fn owner_certificate(&self) -> Result<&Certificate, Error> {
        let leaf = self.leaf();
        let leaf = leaf.ok_or_else(|| {
            let detail = "several certificates issued none of the others";
            fail(Fault::SeveralLeaves, detail)
        })?;
        check_key_usage(leaf)?;
        Ok(leaf)
    }
}

/// Makes the artefact: the owner certificate, the certificates up to the pinned one, and lists
/// to staple.
///
/// # Errors
/// If there is no certificate, or the first one, which is the owner certificate, may not sign.
pub fn encode(chain: &[Certificate], crls: &[Crl]) -> Result<Vec<u8>, Error> {
    let owner = chain
        .first()
        .ok_or_else(|| fail(Fault::NoCertificates, "there is no certificate"))?;
    check_key_usage(owner)?;
    Ok(pkcs7::certificates_and_crls(chain, crls)?)
}

/// Reads the artefact strictly.
///
/// # Errors
/// If it is not a degenerate SignedData in DER with certificates.
pub fn decode(der: &[u8]) -> Result<OwnerCertificate, Error> {
    decode_with(der, &Tolerances::strict())
}

/// Reads the artefact.
///
/// # Errors
/// If it is not a degenerate SignedData with certificates.
pub fn decode_with(der: &[u8], tolerances: &Tolerances) -> Result<OwnerCertificate, Error> {
    let signed = SignedData::parse(der)?;
    let mut oddities = check_encoding(Document::OwnerCertificate, signed.oddities(), tolerances)?;
    // SZTP-8572-3.2-02: the degenerate form: no signers, certificates present.
    if signed.signer_count() > 0 {
        let detail = format!("it has {} signers", signed.signer_count());
        return Err(fail(Fault::NotDegenerate, detail));
    }
    // SZTP-5652-5.1-01: eContentType is id-data and eContent is absent.
    if signed.content().is_some() || signed.content_type() != pki::cms::ID_DATA {
        let detail = format!("it has content of type {}", signed.content_type());
        return Err(fail(Fault::NotDegenerate, detail));
    }
    if signed.certificates().is_empty() {
        return Err(fail(Fault::NoCertificates, "there is no certificate"));
    }
    let mut crls = Vec::new();
    for der in signed.crls() {
        match Crl::from_der(der) {
            Ok(crl) => crls.push(crl),
            // An OCSP response, or a list that does not parse: as good as none.
            Err(error) => oddities.push(Oddity::new("revocation-object", error.to_string())),
        }
    }
    Ok(OwnerCertificate {
        certificates: signed.certificates().to_vec(),
        crls,
        oddities,
    })
}

/// The owner certificate may make signatures.
pub(crate) fn check_key_usage(certificate: &Certificate) -> Result<(), Error> {
    // SZTP-8572-3.2-01: no Key Usage, or at least digitalSignature in it.
    if certificate.may_sign() {
        return Ok(());
    }
    let detail = format!(
        "the key usage of {} does not allow signatures",
        certificate.subject()
    );
    Err(fail(Fault::KeyUsage, detail))
}
