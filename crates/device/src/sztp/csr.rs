//! The key that is made for a certification request.

use std::sync::Arc;

use pki::{Identity, Signer, SoftwareKey};
use sztp::agent::{CsrPlan, Failure, KeyChoice};

use super::disk::{Disk, KEY_FILE};
use crate::Error;

/// What was made.
pub(super) struct Made {
    /// The request, DER.
    pub(super) csr: Vec<u8>,
    /// The key, if it is a new one.
    pub(super) key: Option<Arc<SoftwareKey>>,
}

/// Makes the key, if a new one is wanted, and the request.
///
/// A new key is on the disk before anybody hears of it. SZTP-9646-2.3-04: one that was made for an
/// earlier request is deleted.
pub(super) fn make(
    disk: &mut Disk,
    plan: &CsrPlan,
    idevid: &Identity,
    passphrase: Option<&str>,
) -> Result<Result<Made, Failure>, Error> {
    let key = match plan.key {
        KeyChoice::Existing => None,
        // SZTP-9646-4.1.2-01, SZTP-9646-4.1.3-01: really a new one.
        KeyChoice::New(kind) => {
            let key = match SoftwareKey::generate(kind) {
                Ok(key) => Arc::new(key),
                Err(error) => return Ok(Err(Failure::of(&error))),
            };
            disk.remove(KEY_FILE)?;
            // SZTP-9646-4.1.1-01: readable for the device only, encrypted where there is a
            // passphrase.
            let pem = match passphrase {
                Some(passphrase) => key.to_encrypted_pkcs8_pem(passphrase)?,
                None => key.to_pkcs8_pem()?,
            };
            disk.replace(KEY_FILE, pem.as_bytes())?;
            Some(key)
        }
    };
    let signer: &dyn Signer = match &key {
        Some(key) => key.as_ref(),
        None => idevid.signer.as_ref(),
    };
    Ok(plan.build(signer).map(|csr| Made {
        csr: csr.der().to_vec(),
        key,
    }))
}
