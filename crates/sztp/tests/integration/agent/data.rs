//! What bootstrapping data is worth, and what a trusted server hears of it.

use artifacts::{
    Assertion, Encoding, IdevidIssuer, SerialNumber, VoucherFields, bundle::BootstrappingData,
};
use sztp::agent::{Found, Note, ProgressType};
use time::Duration;

use super::{
    sim::{Ask, End, Reply, Sim, SimServer},
    world::{World, at, redirect, unsigned, whole},
};

fn giving(world: &World, data: BootstrappingData, trusted: bool) -> Sim {
    let mut sim = Sim::new(world);
    let identity = world.server(&["192.0.2.1"]);
    let server = SimServer::giving(&identity, data);
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    if trusted {
        sim.config.server_anchors = world.domain_anchors();
    }
    sim
}

type Change = fn(&mut VoucherFields);

/// Signed data that does not hold is of no use, whoever sends it, and a trusted server is told.
///
/// Requirements: SZTP-8572-5.3-09, SZTP-8572-5.4-01, SZTP-8572-5.4-03, SZTP-8572-5.4-04,
/// SZTP-8572-5.4-05, SZTP-8572-5.4-06, SZTP-8572-5.4-07, SZTP-8572-5.4-08, SZTP-8572-5.4-09,
/// SZTP-8572-5.4-10, SZTP-8572-5.4-11, SZTP-8572-5.4-12, SZTP-8572-5.4-13, SZTP-8572-5.6-10,
/// SZTP-8366-5.3-02, SZTP-8366-5.3-06, SZTP-8366-5.3-07
#[test]
fn signed_data_that_does_not_hold() {
    let world = World::new();
    let other = World::new();
    let voucher = |change: Change| world.signed_with(&whole(), world.voucher(change));
    let mut neither = world.signed(&whole());
    neither.ownership_voucher = None;
    neither.owner_certificate = None;
    let mut other_s_signature = other.signed(&whole());
    other_s_signature.ownership_voucher = world.signed(&whole()).ownership_voucher;
    let mut swapped = world.signed(&whole());
    swapped.conveyed_information = other.signed(&whole()).conveyed_information;
    let cases: Vec<(BootstrappingData, &str)> = vec![
        (neither, "grouping"),
        (other.signed(&whole()), "voucher-trust"),
        (
            voucher(|it| it.created_on = it.created_on.map(|at| at + Duration::DAY)),
            "voucher-created-on",
        ),
        (
            voucher(|it| {
                it.created_on = it.created_on.map(|at| at - Duration::DAY);
                it.expires_on = it.created_on.map(|at| at + Duration::HOUR);
            }),
            "voucher-expires-on",
        ),
        (
            voucher(|it| it.serial_number = SerialNumber::new("SN-2").unwrap()),
            "voucher-serial-number",
        ),
        (
            voucher(|it| it.idevid_issuer = IdevidIssuer::from_bytes(&[7; 20])),
            "voucher-idevid-issuer",
        ),
        (
            voucher(|it| it.assertion = Some(Assertion::Logged)),
            "voucher-assertion",
        ),
        (
            voucher(|it| it.domain_cert_revocation_checks = Some(true)),
            "owner-revocation",
        ),
        (other_s_signature, "owner-trust"),
        (swapped, "owner-signer"),
    ];
    for trusted in [true, false] {
        for (data, check) in &cases {
            let mut sim = giving(&world, data.clone(), trusted);
            sim.config.assertions = vec![Assertion::Verified];
            let end = sim.run();
            assert!(matches!(end, End::GaveUp(_)), "{check}");
            let failed: Vec<&str> = checks(&sim, "failed");
            assert_eq!(failed, [*check], "{trusted}");
            // No later step was taken: voucher, owner certificate, signature, content.
            let step = |name: &str| {
                let steps = [
                    "conveyed",
                    "grouping",
                    "voucher",
                    "owner",
                    "signature",
                    "content",
                ];
                steps
                    .iter()
                    .position(|step| name.starts_with(step))
                    .unwrap_or(steps.len())
            };
            for passed in checks(&sim, "passed") {
                assert!(step(passed) <= step(check), "{check}: {passed}");
            }
            let expect: &[&str] = if trusted {
                &["bootstrap-initiated", "parsing-error"]
            } else {
                &[]
            };
            assert_eq!(sim.reports(), expect, "{check}");
            if trusted {
                let said = sim.messages(ProgressType::ParsingError);
                assert!(!said[0].is_empty(), "{check}");
            }
            assert!(!sim.log.iter().any(|line| line.starts_with("script")));
            assert_eq!(sim.disk.configuration, b"factory\n");
        }
    }
}

fn checks(sim: &Sim, verdict: &str) -> Vec<&'static str> {
    sim.notes
        .iter()
        .filter_map(|note| match note {
            Note::Check(check) if check.verdict == verdict => Some(check.name),
            _ => None,
        })
        .collect()
}

/// Requirements: SZTP-8572-7.3-12, SZTP-8572-5.3-09
#[test]
fn a_redirect_that_does_not_hold_is_not_reported() {
    let world = World::new();
    let other = World::new();
    let data = other.signed(&redirect(&[("192.0.2.2", None, None)]));
    let mut sim = giving(&world, data, true);
    assert!(matches!(sim.run(), End::GaveUp(_)));
    assert!(sim.reports().is_empty());
    assert!(!sim.log.iter().any(|line| line.contains("192.0.2.2")));
}

/// Requirements: SZTP-8572-5.6-10, SZTP-8572-3.1-08, SZTP-8572-3.1_10.3-01, SZTP-8572-7.3-23
#[test]
fn what_cannot_be_read_is_reported_to_a_trusted_server_once() {
    let world = World::new();
    let good = unsigned(&whole()).conveyed_information;
    let xml_in_json = artifacts::conveyed::unsigned(b"<x/>", artifacts::Encoding::Json);
    // id-ct 44 instead of 43.
    let mut other_type = good.clone();
    let place = other_type.iter().position(|octet| *octet == 43).unwrap();
    other_type[place] = 44;
    let garbage = vec![0x30, 0x03, 0x02, 0x01, 0x05];
    let cut = good[..good.len() - 1].to_vec();
    for conveyed_information in [xml_in_json, other_type, garbage, cut] {
        let data = BootstrappingData {
            conveyed_information,
            ..BootstrappingData::default()
        };
        for (trusted, expect) in [
            (true, &["bootstrap-initiated", "parsing-error"][..]),
            (false, &[][..]),
        ] {
            let mut sim = giving(&world, data.clone(), trusted);
            assert!(matches!(sim.run(), End::GaveUp(_)));
            assert_eq!(sim.reports(), expect);
        }
    }
}

/// The encoding of the information is said by its content type, whatever encoding is spoken.
///
/// Requirements: SZTP-8572-3.1_10.3-01
#[test]
fn inner_and_outer_encoding_are_two_things() {
    let world = World::new();
    for inner in Encoding::ALL {
        for outer in Encoding::ALL {
            let content = whole().encode(inner).unwrap();
            let data = BootstrappingData {
                conveyed_information: artifacts::conveyed::unsigned(&content, inner),
                ..BootstrappingData::default()
            };
            let mut sim = giving(&world, data.clone(), true);
            sim.config.encoding = outer;
            let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
                Ask::Data(_) => Reply::encoded(&data, outer),
                Ask::Report(_) => Reply::status(204),
            });
            sim.servers.insert("192.0.2.1".to_owned(), server);
            assert!(matches!(sim.run(), End::Done(_)), "{inner} in {outer}");
        }
    }
}

/// Requirements: SZTP-8572-3.3-02, SZTP-8572-3.3-04, SZTP-8572-3.2-07
#[test]
fn the_owner_certificate_itself_may_be_pinned() {
    let world = World::new();
    let owner = world.owner.certificate().unwrap().clone();
    let voucher = world.voucher(|it| it.pinned_domain_cert = Some(owner));
    let mut sim = giving(&world, world.signed_with(&whole(), voucher), false);
    assert!(matches!(sim.run(), End::Done(_)), "{:?}", sim.left());
}

/// Answers that are none.
#[test]
fn answers_that_are_none_lead_to_the_next_server() {
    let world = World::new();
    let identity = world.server(&["192.0.2.1"]);
    let good = || Reply::data(&unsigned(&whole()));
    type Make = Box<dyn Fn() -> Reply>;
    let cases: Vec<(Make, &str)> = vec![
        (Box::new(|| Reply::status(302)), "sztp.http-redirect"),
        (Box::new(|| Reply::status(204)), "sztp.refused"),
        (Box::new(|| Reply::status(401)), "sztp.refused"),
        (Box::new(|| Reply::status(500)), "sztp.refused"),
        (
            Box::new(|| Reply::json(200, Vec::new())),
            "sztp.answer-empty",
        ),
        (Box::new(|| Reply::json(200, b"{}".to_vec())), "restconf."),
        (
            Box::new(|| Reply::json(200, vec![b' '; 20_000_000])),
            "sztp.answer-too-large",
        ),
        (
            Box::new(move || Reply {
                content_type: Some("text/html".to_owned()),
                ..good()
            }),
            "restconf.",
        ),
    ];
    for (make, code) in cases {
        let mut sim = Sim::new(&world);
        sim.config.server_anchors = world.domain_anchors();
        let server = SimServer::new(&identity, move |ask| match ask {
            Ask::Data(_) => make(),
            Ask::Report(_) => Reply::status(204),
        });
        sim.servers.insert("192.0.2.1".to_owned(), server);
        let next = SimServer::giving(&world.server(&["192.0.2.2"]), unsigned(&whole()));
        sim.servers.insert("192.0.2.2".to_owned(), next);
        let list = vec![at("192.0.2.1"), at("192.0.2.2")];
        sim.source("dhcp", vec![Found::Servers(list)]);
        assert!(matches!(sim.run(), End::Done(_)), "{code}");
        assert!(sim.left()[0].starts_with(code), "{code}: {:?}", sim.left());
        // A 200 that cannot be read is worth a word to a trusted server.
        let unreadable = code.starts_with("restconf.") || code == "sztp.answer-empty";
        let told = sim.reports().contains(&"parsing-error");
        assert_eq!(told, unreadable, "{code}");
    }
}
