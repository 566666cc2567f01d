//! CSR attributes: what is read can be written and means the same again.
#![no_main]
use est::csrattrs::CsrAttrs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(attributes) = CsrAttrs::from_der(bytes) else { return };
    let _ = (attributes.template(), attributes.requirements());
    let written = attributes.to_der().expect("attributes that were parsed");
    let again = CsrAttrs::from_der(&written).expect("our own attributes");
    assert_eq!(again.items().len(), attributes.items().len());
});
