//! Conveyed information: the document in both encodings, and the CMS around it. What is read in
//! strict mode and can be written is read again as the same information.
#![no_main]
use artifacts::conveyed::{self, ConveyedInformation, Parsed};
use artifacts::{Encoding, Tolerances};
use libfuzzer_sys::fuzz_target;

fn document(content: &[u8], encoding: Encoding) {
    let _ = ConveyedInformation::decode(content, encoding, &Tolerances::lenient());
    let strict = Tolerances::strict();
    let Ok(information) = ConveyedInformation::decode(content, encoding, &strict) else { return };
    if let ConveyedInformation::Redirect(redirect) = &information {
        assert!(!redirect.bootstrap_servers.is_empty());
    }
    for encoding in Encoding::ALL {
        let Ok(written) = information.encode(encoding) else { continue };
        let again = ConveyedInformation::decode(&written, encoding, &strict);
        assert_eq!(again.expect("our own document"), information);
    }
}

fuzz_target!(|bytes: &[u8]| {
    for encoding in Encoding::ALL {
        document(bytes, encoding);
    }
    for tolerances in [Tolerances::strict(), Tolerances::lenient()] {
        match conveyed::parse(bytes, &tolerances) {
            Ok(Parsed::Unsigned { encoding, content, .. }) => document(&content, encoding),
            Ok(Parsed::Signed(signed)) => {
                let _ = signed.verify(&[], &tolerances);
                document(signed.dangerous_peek(), signed.encoding());
            }
            Ok(Parsed::Enveloped(_)) | Err(_) => {}
        }
    }
});
