//! The artefacts from which the fuzz targets of conveyed information and bootstrapping data start.
//!
//! They lie in `fuzz/seeds`, and what they are judged by in `fuzz/world`. With
//! `USHER_WRITE_SEEDS=1` this writes them anew; otherwise it holds the ones that are there against
//! the judgement, every signature verified.

use std::{fs, path::PathBuf};

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::conveyed::{
    BootstrapServer, ContentType, ConveyedInformation, Parsed, RedirectInformation, TrustAnchor,
    encrypt, parse, sign, unsigned,
};
use artifacts::verify::ExpectedNonce;
use artifacts::{Encoding, SerialNumber, Tolerances, owner};
use pki::path::Anchors;
use pki::{Certificate, SoftwareKey};
use testkit::NOW;

use crate::conveyed::onboarding;
use crate::sztp::{SERIAL, Sztp, nonce};

fn fuzz() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn write(path: &str, bytes: &[u8]) {
    let path = fuzz().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn read(path: &str) -> Vec<u8> {
    fs::read(fuzz().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The target takes each artefact with its length in front, in two octets.
fn joined(data: &BootstrappingData) -> Vec<u8> {
    let empty = Vec::new();
    let parts = [
        &data.conveyed_information,
        data.owner_certificate.as_ref().unwrap_or(&empty),
        data.ownership_voucher.as_ref().unwrap_or(&empty),
    ];
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        all.extend_from_slice(part);
    }
    all
}

fn apart(input: &[u8]) -> BootstrappingData {
    let mut rest = input;
    let mut next = || {
        let (length, after) = rest.split_at(2);
        let length = usize::from(u16::from_be_bytes(length.try_into().unwrap()));
        let (part, after) = after.split_at(length);
        rest = after;
        part.to_vec()
    };
    let some = |part: Vec<u8>| (!part.is_empty()).then_some(part);
    BootstrappingData {
        conveyed_information: next(),
        owner_certificate: some(next()),
        ownership_voucher: some(next()),
    }
}

fn write_all() {
    let world = Sztp::new();
    let anchor = world.anchors.iter().next().unwrap();
    write("world/sztp-manufacturer.der", anchor.der());
    write("world/sztp-device.der", world.device.chain[0].der());
    write(
        "world/sztp-device.p8",
        &world.device_key.to_pkcs8_der().unwrap(),
    );
    let redirect = ConveyedInformation::Redirect(RedirectInformation {
        bootstrap_servers: vec![BootstrapServer {
            address: "a.example".to_owned(),
            port: Some(8443),
            trust_anchor: Some(TrustAnchor::encode(&world.root.chain, &[]).unwrap()),
        }],
    });
    let device = &world.device.chain[0];
    for (name, information) in [("redirect", redirect), ("onboarding", onboarding())] {
        for encoding in Encoding::ALL {
            let content = information.encode(encoding).unwrap();
            let name = format!("{name}-{}", encoding.name());
            write(&format!("seeds/conveyed/{name}"), &content);
            let artefact = unsigned(&content, encoding);
            write(&format!("seeds/conveyed/{name}-unsigned"), &artefact);
            let signed = sign(&content, encoding, ContentType::IdData, &world.owner).unwrap();
            write(&format!("seeds/conveyed/{name}-signed"), &signed);
            let encrypted = encrypt(&signed, device).unwrap();
            write(&format!("seeds/enveloped/{name}"), &encrypted);
        }
    }
    let crl = world.crl(&world.intermediate, &[]);
    let artefact = owner::encode(&world.owner.chain, &[crl]).unwrap();
    write("seeds/owner/chain", &artefact);
    let mut fields = world.voucher_fields();
    fields.nonce = Some(nonce(&[7; 16]));
    let mut data = world.data();
    data.ownership_voucher = Some(world.voucher(fields));
    data.owner_certificate = Some(artefact);
    write("seeds/bundle/signed", &joined(&data));
    data.conveyed_information = encrypt(&data.conveyed_information, device).unwrap();
    write("seeds/bundle/encrypted", &joined(&data));
    let content = onboarding().encode(Encoding::Xml).unwrap();
    let data = BootstrappingData {
        conveyed_information: unsigned(&content, Encoding::Xml),
        ..BootstrappingData::default()
    };
    write("seeds/bundle/unsigned", &joined(&data));
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_artefacts_that_are_accepted() {
    if std::env::var_os("USHER_WRITE_SEEDS").is_some() {
        write_all();
    }
    let strict = Tolerances::strict();
    let manufacturer = Certificate::from_der(&read("world/sztp-manufacturer.der")).unwrap();
    let anchors: Anchors = manufacturer.into();
    let key = SoftwareKey::from_pkcs8_der(&read("world/sztp-device.p8")).unwrap();
    let device = Certificate::from_der(&read("world/sztp-device.der")).unwrap();
    let serial = SerialNumber::new(SERIAL).unwrap();
    let sent = nonce(&[7; 16]);
    let context = DeviceContext {
        serial: Some(&serial),
        idevid: Some(&device),
        nonce: ExpectedNonce::Exactly(&sent),
        at: Some(NOW),
        decryption_key: Some(&key),
        decryption_certificate: Some(&device),
        ..DeviceContext::new(&anchors, &strict)
    };
    for name in ["signed", "encrypted", "unsigned"] {
        let data = apart(&read(&format!("seeds/bundle/{name}")));
        let judgement = judge(&data, name == "unsigned", &context);
        assert_eq!(judgement.result.unwrap(), onboarding(), "{name}");
    }
    assert!(owner::decode(&read("seeds/owner/chain")).is_ok());
    for kind in ["redirect", "onboarding"] {
        for encoding in Encoding::ALL {
            let name = format!("{kind}-{}", encoding.name());
            let content = read(&format!("seeds/conveyed/{name}"));
            assert!(ConveyedInformation::decode(&content, encoding, &strict).is_ok());
            for form in ["unsigned", "signed"] {
                let artefact = read(&format!("seeds/conveyed/{name}-{form}"));
                assert!(parse(&artefact, &strict).is_ok());
            }
            let artefact = read(&format!("seeds/enveloped/{name}"));
            let Parsed::Enveloped(enveloped) = parse(&artefact, &strict).unwrap() else {
                panic!("{name} is not encrypted")
            };
            let (artefact, _) = enveloped.decrypt(&key, Some(&device), &strict).unwrap();
            assert!(matches!(
                parse(&artefact, &strict).unwrap(),
                Parsed::Signed(_)
            ));
        }
    }
}
