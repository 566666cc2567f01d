//! Making the certification request that a bootstrap server asks for
//! ([RFC 9646](https://www.rfc-editor.org/rfc/rfc9646.html)).

use der::{Decode as _, Encode as _, asn1::BitString};
use pki::{Certificate, Csr, CsrBuilder, KeyKind, ObjectIdentifier, PublicKey, Signer};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::request::{CertReq, CertReqInfo};

use super::{CsrAbility, Failure};
use crate::message::{CsrFormat, CsrRequest, CsrSupport};

/// id-ce-subjectAltName.
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// What is to be made.
#[derive(Clone, PartialEq, Eq)]
pub struct CsrPlan {
    /// With which key.
    pub key: KeyChoice,
    /// The CertificationRequestInfo that the server wants signed, if it gave one. The key in it
    /// stands for the one that will be made.
    info: Option<Vec<u8>>,
    /// The IDevID, whose structure is kept without one.
    idevid: Certificate,
}

impl std::fmt::Debug for CsrPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CsrPlan")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// With which key a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// The IDevID's.
    Existing,
    /// A new one. One that was made for an earlier request is deleted first.
    New(KeyKind),
}

/// What the device tells about itself.
pub(super) fn support(ability: &CsrAbility) -> CsrSupport {
    // SZTP-9646-3.2-01, SZTP-9646-3.2-02: at least one format; at least one algorithm if there is
    // key generation at all.
    let algorithms: Vec<Vec<u8>> = ability
        .keys
        .iter()
        .filter_map(|kind| identifier(*kind))
        .collect();
    CsrSupport {
        algorithms: (!algorithms.is_empty()).then_some(algorithms),
        formats: vec![CsrFormat::P10],
    }
}

/// Judges what the server asks for.
pub(super) fn plan(
    request: &CsrRequest,
    ability: &CsrAbility,
    idevid: &Certificate,
) -> Result<CsrPlan, Failure> {
    if request.format != CsrFormat::P10 {
        return Err(Failure::new(
            "sztp.csr-format-not-offered",
            "the server asks for a format that was not offered",
        ));
    }
    let key = match &request.algorithm {
        None => KeyChoice::Existing,
        Some(wanted) => ability
            .keys
            .iter()
            .find(|kind| identifier(**kind).as_ref() == Some(wanted))
            .map(|kind| KeyChoice::New(*kind))
            .ok_or_else(|| {
                Failure::new(
                    "sztp.csr-algorithm-not-offered",
                    "the server asks for a key algorithm that was not offered",
                )
            })?,
    };
    if let Some(info) = &request.cert_req_info {
        let info = read_info(info)?;
        let said = info
            .public_key
            .algorithm
            .to_der()
            .map_err(|error| Failure::new("sztp.csr-info-unusable", error.to_string()))?;
        let expected = match key {
            KeyChoice::New(kind) => identifier(kind),
            KeyChoice::Existing => algorithm_of(idevid.public_key()),
        };
        // SZTP-9646-3.2-12: "If the 'AlgorithmIdentifier' field contained inside the certificate
        // 'SubjectPublicKeyInfo' field does not match the algorithm identified by the
        // 'selected-algorithm' node, then the client MUST reject the certificate and raise an
        // error."
        if expected.as_ref() != Some(&said) {
            return Err(Failure::new(
                "sztp.csr-info-unusable",
                "the key algorithm in cert-req-info is not the selected one",
            ));
        }
    }
    Ok(CsrPlan {
        key,
        info: request.cert_req_info.clone(),
        idevid: idevid.clone(),
    })
}

impl CsrPlan {
    /// Makes the request with the key.
    ///
    /// # Errors
    /// [`Failure`] if it cannot be encoded or signed.
    pub fn build(&self, signer: &dyn Signer) -> Result<Csr, Failure> {
        match &self.info {
            // SZTP-9646-3.2-09: "When provided, the ZTP-client MUST use this structure to generate
            // its CSR".
            Some(info) => sign_info(info, signer),
            // SZTP-9646-3.2-11: "When not provided, the ZTP-client SHOULD generate a CSR using the
            // same structure defined in its existing identity certificate".
            None => {
                let mut builder = CsrBuilder::with_subject_der(self.idevid.subject_der())
                    .map_err(|error| Failure::of(&error))?;
                let extensions = self.idevid.x509().tbs_certificate().extensions();
                for extension in extensions.into_iter().flatten() {
                    if extension.extn_id == SUBJECT_ALT_NAME {
                        builder = builder.extension(extension.clone());
                    }
                }
                builder.sign(signer).map_err(|error| Failure::of(&error))
            }
        }
    }
}

fn read_info(der: &[u8]) -> Result<CertReqInfo, Failure> {
    CertReqInfo::from_der(der)
        .map_err(|error| Failure::new("sztp.csr-info-unusable", format!("cert-req-info: {error}")))
}

/// Puts the device's own key into the server's structure and signs it. The server cannot know a
/// key that is made for this very request.
fn sign_info(info: &[u8], signer: &dyn Signer) -> Result<Csr, Failure> {
    let failed = |error: der::Error| Failure::new("sztp.csr-info-unusable", error.to_string());
    let mut info = read_info(info)?;
    info.public_key =
        SubjectPublicKeyInfoOwned::from_der(signer.public_key().spki_der()).map_err(failed)?;
    let signed = info.to_der().map_err(failed)?;
    let signature = signer.sign(&signed).map_err(|error| Failure::of(&error))?;
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned::from_der(&signer.algorithm().identifier())
            .map_err(failed)?,
        signature: BitString::from_bytes(&signature).map_err(failed)?,
    };
    let der = request.to_der().map_err(failed)?;
    Csr::from_der(&der).map_err(|error| Failure::of(&error))
}

/// The AlgorithmIdentifier of a key of this kind, as it stands in a SubjectPublicKeyInfo.
fn identifier(kind: KeyKind) -> Option<Vec<u8>> {
    let hex = match kind {
        // id-ecPublicKey with the curve.
        KeyKind::EcdsaP256 => "301306072a8648ce3d020106082a8648ce3d030107",
        KeyKind::EcdsaP384 => "301006072a8648ce3d020106052b81040022",
        KeyKind::EcdsaP521 => "301006072a8648ce3d020106052b81040023",
        KeyKind::Ed25519 => "300506032b6570",
        // rsaEncryption with NULL, which says nothing about the size.
        KeyKind::Rsa2048 | KeyKind::Rsa3072 | KeyKind::Rsa4096 => "300d06092a864886f70d0101010500",
        KeyKind::MlDsa44 => "300b0609608648016503040311",
        KeyKind::MlDsa65 => "300b0609608648016503040312",
        KeyKind::MlDsa87 => "300b0609608648016503040313",
        _ => return None,
    };
    hex::decode(hex).ok()
}

/// The AlgorithmIdentifier of a key.
fn algorithm_of(key: &PublicKey) -> Option<Vec<u8>> {
    SubjectPublicKeyInfoOwned::from_der(key.spki_der())
        .ok()?
        .algorithm
        .to_der()
        .ok()
}
