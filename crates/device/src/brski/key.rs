//! The key for the domain certificate and the certification request.

use std::sync::Arc;

use brski::SerialRule;
use est::{
    CsrAttrs,
    client::{Facts, key_kind},
    csrattrs::Requirements,
};
use pki::{Csr, Identity, KeyKind, SoftwareKey};

use super::store::Store;
use crate::Error;

/// What the registrar demands.
pub(super) fn requirements(attributes: Option<&[u8]>) -> Result<Requirements, Error> {
    match attributes {
        Some(der) => Ok(CsrAttrs::from_der(der)?.requirements()?),
        None => Ok(Requirements::none()),
    }
}

/// Makes the certification request with the key of this generation.
pub(super) fn certification_request(
    store: &mut Store,
    generation: u32,
    preferred: KeyKind,
    attributes: Option<&[u8]>,
    idevid: &Identity,
    serial: &SerialRule,
    binding: Option<&[u8]>,
) -> Result<(Csr, Arc<SoftwareKey>), Error> {
    let requirements = requirements(attributes)?;
    let kind = key_kind(&requirements)?.unwrap_or(preferred);
    let mut key = store.key(generation, kind)?;
    if super::store::kind_of(&key).is_some_and(|found| found != kind) {
        // The registrar asks for another kind than at the last attempt; no certificate belongs to
        // the old key.
        store.forget_key(generation);
        key = store.key(generation, kind)?;
    }
    let certificate = idevid
        .certificate()
        .ok_or_else(|| Error::Config("the IDevID has no certificate".to_owned()))?;
    let serial = serial.serial_of(certificate);
    let facts = Facts {
        subject_der: certificate.subject_der().to_vec(),
        common_name: serial.clone(),
        serial_number: serial,
        ..Facts::default()
    };
    let csr = est::client::request(&requirements, &facts, binding, key.as_ref())?;
    Ok((csr, key))
}
