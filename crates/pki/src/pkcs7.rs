//! Certs-only PKCS#7 bags (degenerate SignedData), as EST answers them.

use crate::{Certificate, Error};

/// A DER certs-only SignedData, in the order of DER (a SET OF has no order of its own).
///
/// # Errors
/// If there are too many certificates.
pub fn certs_only(certificates: &[Certificate]) -> Result<Vec<u8>, Error> {
    let _ = certificates;
    todo!()
}

/// The certificates of a certs-only SignedData, DER or BER. They are as untrusted as where they
/// came from.
///
/// # Errors
/// If it is malformed or over a limit.
pub fn parse_certs_only(bytes: &[u8]) -> Result<Vec<Certificate>, Error> {
    let _ = bytes;
    todo!()
}
