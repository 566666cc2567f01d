//! `pki::cms::EnvelopedData`: any recipients, decrypted with the key of the seeds' device, and what
//! comes out parsed.
#![no_main]
use std::sync::OnceLock;

use artifacts::enveloped::Enveloped;
use artifacts::{Document, Tolerances, conveyed, owner};
use libfuzzer_sys::fuzz_target;
use pki::SoftwareKey;
use pki::cms::EnvelopedData;

fn key() -> &'static SoftwareKey {
    static KEY: OnceLock<SoftwareKey> = OnceLock::new();
    let pkcs8 = include_bytes!("../world/sztp-device.p8");
    KEY.get_or_init(|| SoftwareKey::from_pkcs8_der(pkcs8).expect("the device's key"))
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = EnvelopedData::parse(bytes) {
        let _ = (data.describe(), data.recipient_count(), data.oddities());
        let _ = data.decrypt(key(), None);
    }
    let lenient = Tolerances::lenient();
    for document in [Document::ConveyedInformation, Document::OwnerCertificate] {
        let Ok(enveloped) = Enveloped::parse(document, bytes, &lenient) else { continue };
        let Ok((artefact, _)) = enveloped.decrypt(key(), None, &lenient) else { continue };
        let _ = conveyed::parse(&artefact, &lenient);
        let _ = owner::decode_with(&artefact, &lenient);
    }
});
