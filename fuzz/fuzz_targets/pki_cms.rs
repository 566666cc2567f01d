//! `pki::cms::SignedData::parse` and verification: BER and DER, any number of signers.
#![no_main]
use libfuzzer_sys::fuzz_target;
use pki::cms::{CmsPolicy, SignedData};

fuzz_target!(|bytes: &[u8]| {
    let Ok(signed) = SignedData::parse(bytes) else { return };
    let _ = (signed.content(), signed.signer_certificate(0, &[]), signed.oddities());
    let _ = signed.verify(&CmsPolicy::tolerant(None), &[]);
    let _ = signed.verify(&CmsPolicy::strict(signed.content_type()), &[]);
});
