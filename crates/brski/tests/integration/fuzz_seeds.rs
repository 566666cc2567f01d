//! The messages from which the fuzz targets of the request handlers start.
//!
//! They lie in `fuzz/seeds`, and the certificates that they are judged by in `fuzz/world`. With
//! `USHER_WRITE_SEEDS=1` this writes them anew; otherwise it holds the ones that are there against
//! the handlers, every signature verified: seeds that are refused at the door find nothing.

use std::{fs, path::PathBuf};

use artifacts::{Envelope, Tolerances};
use brski::{
    SerialRule, masa,
    pledge::{self, Step},
    registrar::{self, MasaUrlRule, Profiles, VendorProfile},
};
use pki::{Certificate, Identity, path::Anchors};
use time::Duration;

use crate::{
    sim::{Device, Sim},
    world::{NOW, key},
};

const ENVELOPES: [(&str, Envelope); 3] = [
    ("cms", Envelope::Cms),
    ("jws", Envelope::Jws),
    ("cose", Envelope::Cose),
];

/// A device that speaks COSE names its registrar by a hash.
fn proximity(envelope: Envelope) -> pledge::ProximityForm {
    match envelope {
        Envelope::Cose => pledge::ProximityForm::PublicKeySha256,
        Envelope::Cms | Envelope::Jws => pledge::ProximityForm::Certificate,
    }
}

/// A fuzzer changes little in a large input.
const SEED_SIZE_MAX_BYTES: usize = 8 * 1024;

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

fn certificate(name: &str) -> Certificate {
    Certificate::from_der(&read(&format!("world/{name}.der"))).unwrap()
}

fn write_all() {
    let (mut sim, manufacturer) = Sim::new();
    write("world/manufacturer.der", manufacturer.ca.certificate.der());
    let signer = manufacturer.masa.chain[0].clone();
    write("world/voucher-signer.der", signer.der());
    let registrar = &sim.registrars[0];
    write("world/domain.der", registrar.domain.certificate.der());
    write("world/registrar.der", registrar.identity.chain[0].der());
    for (name, envelope) in ENVELOPES {
        let serial = format!("SN-{name}");
        let idevid = manufacturer.device(&serial);
        sim.masa.register(&serial);
        let mut config = Device::config(&idevid, &manufacturer);
        config.envelope = envelope;
        config.proximity = proximity(envelope);
        config.masa_anchors.extend([signer.clone()]);
        let mut device = Device::new(config);
        assert_eq!(sim.run(&mut device), Step::Done);
        write(&format!("world/idevid-{name}.der"), idevid.chain[0].der());
        let asked = &device.requests[0].body;
        write(&format!("world/request-{name}"), asked);
        write(&format!("seeds/registrar_request/{name}"), asked);
        let forwarded = &sim.registrars[0].masa_calls[0].body;
        write(&format!("seeds/masa_request/{name}"), forwarded);
        sim.registrars[0].masa_calls.clear();
        let (_, (_, _, voucher)) = sim.masa.issued.drain().next().unwrap();
        write(&format!("seeds/pledge_voucher/{name}"), &voucher);
        let enrolment = device.requests.iter().find(|request| {
            let path = &request.path;
            path.ends_with("simpleenroll")
        });
        // The target `est_server` takes an operation and a switch from the front, and the length
        // of a content type from the back.
        for operation in 0..6 {
            let mut input = vec![operation, 1];
            input.extend_from_slice(&enrolment.unwrap().body);
            input.extend_from_slice(&[0, 0]);
            write(&format!("seeds/est_server/{operation}-{name}"), &input);
        }
    }
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_messages_that_are_accepted() {
    if std::env::var_os("USHER_WRITE_SEEDS").is_some() {
        write_all();
    }
    let manufacturer: Anchors = certificate("manufacturer").into();
    let own = [certificate("registrar"), certificate("domain")];
    for (name, envelope) in ENVELOPES {
        let inbound = |body| masa::Inbound {
            body,
            content_type: Some(envelope.media_type()),
            accept: None,
        };
        let idevid = certificate(&format!("idevid-{name}"));

        let devices = masa::Devices {
            anchors: manufacturer.clone(),
            intermediates: Vec::new(),
            serial: SerialRule::default(),
        };
        let body = read(&format!("seeds/masa_request/{name}"));
        assert!(body.len() < SEED_SIZE_MAX_BYTES, "{}", body.len());
        let policy = masa::Policy::default();
        let request = masa::open_request(inbound(&body), &devices, &policy, NOW).unwrap();
        assert!(request.prior().is_some_and(|prior| prior.proximity));

        let profile = VendorProfile {
            name: "acme".to_owned(),
            anchors: manufacturer.clone(),
            intermediates: Vec::new(),
            masa_anchors: Anchors::new(),
            serial: SerialRule::default(),
            masa_url: MasaUrlRule::Extension,
            ignore_expiry: false,
            cose_name: brski::media::CoseName::Current,
            tolerances: Tolerances::strict(),
        };
        let profiles = Profiles::new(vec![profile.clone()]);
        let device = registrar::identify(std::slice::from_ref(&idevid), &profiles, NOW).unwrap();
        let body = read(&format!("seeds/registrar_request/{name}"));
        let age_max = Some(Duration::minutes(15));
        let own_leaf = &own[..1];
        registrar::open_request(inbound(&body), &device, own_leaf, &profile, age_max, NOW).unwrap();

        // The target has no key of the device either: judging a voucher needs its certificate.
        let config = pledge::Config {
            registrars: Vec::new(),
            idevid: Identity {
                chain: vec![idevid],
                signer: key(),
            },
            serial: SerialRule::default(),
            masa_anchors: manufacturer
                .iter()
                .cloned()
                .chain([certificate("voucher-signer")])
                .collect(),
            envelope,
            clock: pledge::Clock::Trusted,
            nonceless: true,
            assertions: vec![artifacts::Assertion::Proximity],
            tolerances: Tolerances::strict(),
            est_label: None,
            procedure: pledge::Procedure::Full,
            proximity: proximity(envelope),
            attempts_max: None,
            replay: None,
        };
        let request = read(&format!("world/request-{name}"));
        let expected = pledge::Expected {
            request: &request,
            registrar_chain: &own,
            envelope,
        };
        let body = read(&format!("seeds/pledge_voucher/{name}"));
        pledge::judge_voucher(&config, &body, expected, NOW).unwrap();
    }
}
