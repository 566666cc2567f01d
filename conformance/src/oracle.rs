//! The second opinion: parsers that nobody here wrote.
//!
//! A verdict that hangs on how something is encoded is given only when our codec and the one here
//! say the same. Where they differ the case is "could not test" and says so: either the message is
//! at the edge of a standard, or one of the two has a mistake, and neither may be held against the
//! implementation.

use openssl::{
    cms::{CMSOptions, CmsContentInfo},
    stack::Stack,
    x509::{
        X509, X509StoreContext,
        store::X509StoreBuilder,
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};
use time::OffsetDateTime;

use crate::outcome::{Finding, Told};

/// What OpenSSL makes of a CMS: its content, if the signature holds for a certificate that came
/// along or is among `extra`. It says nothing about trust.
///
/// # Errors
/// What OpenSSL says.
pub fn cms(octets: &[u8], extra: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let text = |error: openssl::error::ErrorStack| error.to_string();
    let mut parsed = CmsContentInfo::from_der(octets).map_err(text)?;
    let mut certificates = Stack::new().map_err(text)?;
    for der in extra {
        certificates
            .push(X509::from_der(der).map_err(text)?)
            .map_err(text)?;
    }
    let mut content = Vec::new();
    let store = X509StoreBuilder::new().map_err(text)?.build();
    parsed
        .verify(
            Some(&certificates),
            Some(&store),
            None,
            Some(&mut content),
            CMSOptions::NO_SIGNER_CERT_VERIFY | CMSOptions::BINARY,
        )
        .map_err(text)?;
    Ok(content)
}

/// What `x509-parser` makes of a certificate.
///
/// # Errors
/// What it says.
pub fn certificate(der: &[u8]) -> Result<(), String> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], _)) => Ok(()),
        Ok((rest, _)) => Err(format!("{} octets follow it", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// What OpenSSL makes of a chain: whether a path leads to one of the anchors.
///
/// # Errors
/// What OpenSSL says.
pub fn chain(
    leaf: &[u8],
    others: &[Vec<u8>],
    anchors: &[Vec<u8>],
    at: OffsetDateTime,
) -> Result<(), String> {
    let text = |error: openssl::error::ErrorStack| error.to_string();
    let mut store = X509StoreBuilder::new().map_err(text)?;
    for anchor in anchors {
        store
            .add_cert(X509::from_der(anchor).map_err(text)?)
            .map_err(text)?;
    }
    let mut param = X509VerifyParam::new().map_err(text)?;
    param.set_time(at.unix_timestamp());
    // An anchor need not be a root.
    param
        .set_flags(X509VerifyFlags::PARTIAL_CHAIN)
        .map_err(text)?;
    store.set_param(&param).map_err(text)?;
    let store = store.build();
    let mut untrusted = Stack::new().map_err(text)?;
    for der in others {
        untrusted
            .push(X509::from_der(der).map_err(text)?)
            .map_err(text)?;
    }
    let leaf = X509::from_der(leaf).map_err(text)?;
    let mut context = X509StoreContext::new().map_err(text)?;
    context
        .init(&store, &leaf, &untrusted, |context| {
            context.verify_cert().map(|_| context.error())
        })
        .map_err(text)
        .and_then(|result| {
            if result == openssl::x509::X509VerifyResult::OK {
                Ok(())
            } else {
                Err(result.error_string().to_owned())
            }
        })
}

/// What `ciborium` makes of CBOR: one item and nothing after it.
///
/// # Errors
/// What it says.
pub fn cbor(octets: &[u8]) -> Result<ciborium::Value, String> {
    let mut rest = octets;
    let value: ciborium::Value =
        ciborium::from_reader(&mut rest).map_err(|error| error.to_string())?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("{} octets follow it", rest.len()))
    }
}

/// Two opinions on the same octets. Both good is a pass, both bad is a failure with `why`.
///
/// # Errors
/// The failure, or "could not test" where they differ.
pub fn agree<A, B>(
    ours: Result<A, impl std::fmt::Display>,
    theirs: Result<B, impl std::fmt::Display>,
    why: &str,
) -> Result<(A, B), Finding> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Ok((ours, theirs)),
        (Err(ours), Err(theirs)) => Err(Finding::fail(format!(
            "{why}: {ours}; the second parser: {theirs}"
        ))),
        (Err(ours), Ok(_)) => Err(Finding::could_not_test(format!(
            "the two parsers of the suite differ: one says {ours}, the other accepts it"
        ))),
        (Ok(_), Err(theirs)) => Err(Finding::could_not_test(format!(
            "the two parsers of the suite differ: one accepts it, the other says {theirs}"
        ))),
    }
}

/// The same for a yes or no.
///
/// # Errors
/// The failure, or "could not test" where they differ.
pub fn both(ours: bool, theirs: bool, why: &str) -> Told {
    let opinion = |yes: bool| if yes { Ok(()) } else { Err("no") };
    agree(opinion(ours), opinion(theirs), why).map(|_| ())
}
