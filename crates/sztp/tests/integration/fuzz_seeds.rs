//! The fuzz targets' seeds: published examples, and what both ends write. With
//! `USHER_WRITE_SEEDS=1` this writes them anew; otherwise it holds the ones that are there
//! against the readers.

use std::path::{Path, PathBuf};

use pki::{Certificate, CsrBuilder, Identity, KeyKind, SoftwareKey};
use sztp::csr::{Asked, Device, KeyAlgorithm, Policy, check};
use sztp::message::{
    CsrFormat, CsrInput, CsrRequest, CsrSupport, GetBootstrappingDataInput,
    GetBootstrappingDataOutput, ProgressType, ReportProgressInput, ReportingLevel, SshHostKey,
};
use sztp::restconf::{ErrorReport, Fault, RestconfError};
use sztp::{Encoding, Leniency, discovery};
use time::macros::datetime;

use crate::csr::envelopes::{pki_data, sign, tcr};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn write(name: &str, content: &[u8]) {
    let path = fuzz().join("seeds").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    std::fs::read_dir(fuzz().join("seeds").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

/// The device of the handlers' seeds.
fn device() -> Identity {
    let world = fuzz().join("world");
    let key = std::fs::read(world.join("sztp-device.p8")).unwrap();
    let certificate = Certificate::load(world.join("sztp-device.der")).unwrap();
    let key = SoftwareKey::from_pkcs8_der(&key).unwrap();
    Identity::new(vec![certificate], std::sync::Arc::new(key)).unwrap()
}

/// The target of an encoding.
fn folder(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "restconf_json",
        Encoding::Xml => "restconf_xml",
    }
}

fn error_seed(encoding: Encoding) -> String {
    format!("restconf_error/{encoding}").to_lowercase()
}

/// The first octet of a seed of target `csr`.
const P10: u8 = 0;
const CMC: u8 = 1;
const NEW_KEY: u8 = 0x42;

fn write_all() {
    for encoding in [Encoding::Json, Encoding::Xml] {
        let folder = folder(encoding);
        let inputs = [
            ("empty", GetBootstrappingDataInput::default()),
            (
                "full",
                GetBootstrappingDataInput {
                    signed_data_preferred: true,
                    hw_model: Some("model-x".to_owned()),
                    os_name: Some("vendor-os".to_owned()),
                    os_version: Some("17.3R2.1".to_owned()),
                    nonce: Some(vec![7; 16]),
                    csr: Some(CsrInput::P10(vec![0x30, 0])),
                },
            ),
            (
                "csr-support",
                GetBootstrappingDataInput {
                    csr: Some(CsrInput::Support(CsrSupport {
                        algorithms: Some(vec![KeyAlgorithm::EcP256.identifier().to_vec()]),
                        formats: CsrFormat::ALL.to_vec(),
                    })),
                    ..Default::default()
                },
            ),
        ];
        for (name, input) in inputs {
            write(&format!("{folder}/input-{name}"), &input.encode(encoding));
        }
        let output = GetBootstrappingDataOutput {
            reporting_level: Some(ReportingLevel::Verbose),
            conveyed_information: vec![0x30, 0],
            owner_certificate: Some(vec![0x30, 0]),
            ownership_voucher: Some(vec![0x30, 0]),
        };
        write(&format!("{folder}/output"), &output.encode(encoding));
        let mut report = ReportProgressInput::new(
            ProgressType::BootstrapComplete,
            Some("a <message> & \"more\"\r\n".to_owned()),
        );
        report.ssh_host_keys.push(SshHostKey {
            algorithm: "ssh-ed25519".to_owned(),
            key_data: vec![1, 2, 3],
        });
        report
            .trust_anchor_certs
            .push(pki::pkcs7::certs_only(&[]).unwrap());
        write(&format!("{folder}/report"), &report.encode(encoding));
        let error = RestconfError::new(Fault::CsrWanted, "send one").with_csr_request(CsrRequest {
            algorithm: Some(KeyAlgorithm::EcP256.identifier().to_vec()),
            format: CsrFormat::P10,
            cert_req_info: Some(vec![0x30, 0]),
        });
        write(&error_seed(encoding), &error.encode(encoding));
    }
    write(
        "restconf_error/host-meta",
        &discovery::host_meta("/restconf"),
    );
    write(
        "restconf_error/accept",
        b"*/*;q=0.1, application/yang-data+json;q=0.5, application/yang-data+xml",
    );

    let device = device();
    let subject = device.certificate().unwrap().subject_der();
    let own = CsrBuilder::with_subject_der(subject)
        .unwrap()
        .sign(device.signer.as_ref())
        .unwrap();
    let new = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let fresh = CsrBuilder::with_subject_der(subject)
        .unwrap()
        .sign(&new)
        .unwrap();
    write("csr/p10-own", &[&[P10], own.der()].concat());
    write("csr/p10-new", &[&[NEW_KEY], fresh.der()].concat());
    let cmc = sign(&pki_data(&tcr(&own), &[], &[]), &device);
    write("csr/cmc-own", &[&[CMC], &cmc[..]].concat());
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_messages_that_are_accepted() {
    if std::env::var_os("USHER_WRITE_SEEDS").is_some() {
        write_all();
    }
    let strict = Leniency::strict();
    for encoding in [Encoding::Json, Encoding::Xml] {
        for (name, body) in files(folder(encoding)) {
            let result = match name.split('-').next().unwrap() {
                "input" => GetBootstrappingDataInput::decode(&body, encoding, &strict).err(),
                "output" => GetBootstrappingDataOutput::decode(&body, encoding, &strict).err(),
                "report" => ReportProgressInput::decode(&body, encoding, &strict).err(),
                other => panic!("{other}"),
            };
            assert_eq!(result, None, "{name}");
        }
        let body = std::fs::read(fuzz().join("seeds").join(error_seed(encoding))).unwrap();
        let (report, _) = ErrorReport::decode(&body, encoding, &strict).unwrap();
        assert!(report.csr_request(400).is_some());
    }
    let device = device();
    let now = datetime!(2026-06-01 12:00:00 UTC);
    for (name, seed) in files("csr") {
        let (first, der) = seed.split_first().unwrap();
        let (input, format) = match first % 3 {
            0 => (CsrInput::P10(der.to_vec()), CsrFormat::P10),
            _ => (CsrInput::Cmc(der.to_vec()), CsrFormat::Cmc),
        };
        let asked = Asked {
            request: CsrRequest {
                algorithm: (first & 0x40 != 0).then(|| KeyAlgorithm::EcP256.identifier().to_vec()),
                format,
                cert_req_info: None,
            },
            at: now,
        };
        let device = Device {
            serial: "SN-1",
            identity: device.certificate(),
        };
        check(&input, Some(&asked), &Policy::default(), &device, now)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
