//! Trusted and untrusted servers, and the way from one to the other.

use artifacts::{Encoding, Tolerances, bundle::BootstrappingData, conveyed};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{
    KeyKind, Signer as _, SoftwareKey,
    issue::{AltName, CertificateBuilder, CrlBuilder, Profile, RevocationReason},
};
use sztp::{
    agent::{Clock, Found, NonceUse, Note, REDIRECTS_MAX, Server, TrustAnchor},
    discovery,
};
use testkit::issue_under;
use time::Duration;

use super::{
    sim::{Ask, End, Reply, Sim, SimServer},
    world::{World, at, nonce, redirect, unsigned, whole},
};

const ALL: &str = "get hw-model os-name os-version";
const ONBOARDED: [&str; 3] = ["script Pre", "commit merge", "script Post"];

/// A device with one server at 192.0.2.1, known from DHCP.
fn one(world: &World, server: SimServer) -> Sim {
    let mut sim = Sim::new(world);
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    sim
}

/// Requirements: SZTP-8572-5.1-05, SZTP-8572-5.3-02, SZTP-8572-5.6-02, SZTP-8572-5.3-14,
/// SZTP-8572-7.3-11
#[test]
fn a_well_known_server_is_trusted_by_the_anchors_of_the_factory() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["sztp.example"]);
    sim.config.well_known = vec![at("sztp.example")];
    sim.config.server_anchors = world.domain_anchors();
    sim.names.insert(
        "sztp.example".to_owned(),
        vec!["192.0.2.1".parse().unwrap()],
    );
    sim.servers.insert(
        "sztp.example".to_owned(),
        SimServer::giving(&identity, unsigned(&whole())),
    );
    let End::Done(bootstrapped) = sim.run() else {
        panic!("{:?}", sim.log)
    };
    assert!(bootstrapped.reported && !bootstrapped.signed);
    assert_eq!(
        sim.log,
        [
            "resolve sztp.example",
            "connect sztp.example@192.0.2.1 1 anchors",
            "host-meta",
            ALL,
            "report bootstrap-initiated",
            ONBOARDED[0],
            ONBOARDED[1],
            ONBOARDED[2],
            "report bootstrap-complete",
        ]
    );
}

/// Requirements: SZTP-8040-2.3-01, SZTP-8040-2.4-01, SZTP-5280-6-01
#[test]
fn a_well_known_server_that_is_not_what_it_says_gets_no_request() {
    let world = World::new();
    let other = World::new();
    for (identity, code) in [
        (other.server(&["192.0.2.1"]), "path.signature"),
        (world.server(&["192.0.2.9"]), "path.name-mismatch"),
        (world.device.clone_of(), "path.unknown-issuer"),
    ] {
        let mut sim = Sim::new(&world);
        sim.config.well_known = vec![at("192.0.2.1")];
        sim.config.server_anchors = world.domain_anchors();
        let server = SimServer::giving(&identity, unsigned(&whole()));
        sim.servers.insert("192.0.2.1".to_owned(), server);
        let End::GaveUp(failure) = sim.run() else {
            panic!("{:?}", sim.log)
        };
        assert_eq!(failure.code, code);
        assert_eq!(sim.log, ["connect 192.0.2.1 1 anchors"]);
    }
}

/// Why a server was refused is kept for good, and its certificate is anybody's to make.
#[test]
fn what_a_stranger_is_called_does_not_fill_the_state() {
    let world = World::new();
    let long = format!("CN={}\\1B[2J", "\\\"".repeat(15_000));
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let stranger = CertificateBuilder::new(
        Profile::RootCa,
        pki::issue::name(&long).unwrap(),
        key.public_key().clone(),
        [7; 16],
        world.now - Duration::DAY,
        world.now + Duration::DAY,
    )
    .self_sign(&key)
    .unwrap();
    let identity = pki::Identity::new(vec![stranger], std::sync::Arc::new(key)).unwrap();
    let mut sim = Sim::new(&world);
    sim.config.well_known = vec![at("192.0.2.1")];
    sim.config.server_anchors = world.domain_anchors();
    let server = SimServer::giving(&identity, unsigned(&whole()));
    sim.servers.insert("192.0.2.1".to_owned(), server);
    let End::GaveUp(failure) = sim.run() else {
        panic!("{:?}", sim.log)
    };
    assert_eq!(failure.code, "path.unknown-issuer");
    assert!(!failure.text.contains('\u{1b}'));
    let state = serde_json::to_vec(&sim.disk.state).unwrap();
    assert!(state.len() < 16 * 1024, "{} octets", state.len());
}

trait CloneOf {
    fn clone_of(&self) -> pki::Identity;
}

impl CloneOf for pki::Identity {
    fn clone_of(&self) -> pki::Identity {
        Self {
            chain: self.chain.clone(),
            signer: std::sync::Arc::clone(&self.signer),
        }
    }
}

/// Requirements: SZTP-8572-9.1-02
#[test]
fn without_a_clock_certificates_have_no_end() {
    let world = World::new();
    for (clock, trusted) in [(Clock::Trusted, false), (Clock::Untrusted, true)] {
        let mut sim = Sim::new(&world);
        sim.config.clock = clock;
        sim.config.nonce = NonceUse::Never;
        sim.config.well_known = vec![at("192.0.2.1")];
        sim.config.server_anchors = world.domain_anchors();
        sim.now += Duration::days(365 * 20);
        let identity = world.server(&["192.0.2.1"]);
        let server = SimServer::giving(&identity, unsigned(&whole()));
        sim.servers.insert("192.0.2.1".to_owned(), server);
        assert_eq!(matches!(sim.run(), End::Done(_)), trusted);
    }
}

/// Requirements: SZTP-8572-7.3-01, SZTP-8572-9.6-02, SZTP-8572-9.6-03, SZTP-8572-5.6-05,
/// SZTP-8572-9.5-01, SZTP-8572-5.3-01, SZTP-8572-5.3-13, SZTP-8572-5.3-08, SZTP-9646-4.1.4-02,
/// SZTP-9646-4.1.4-03
#[test]
fn an_untrusted_server_is_told_little_and_believed_only_what_is_signed() {
    let world = World::new();
    for (data, believed) in [(unsigned(&whole()), false), (world.signed(&whole()), true)] {
        let identity = world.server(&["192.0.2.1"]);
        let mut sim = one(&world, SimServer::giving(&identity, data));
        sim.config.csr = Some(sztp::agent::CsrAbility::default());
        sim.config.password = Some("secret".to_owned());
        sim.config.verbose = true;
        let end = sim.run();
        assert_eq!(matches!(end, End::Done(_)), believed, "{end:?}");
        assert!(sim.has("get signed-data-preferred"), "{:?}", sim.log);
        assert!(sim.reports().is_empty());
    }
}

/// Requirements: SZTP-8572-5.3-02
#[test]
fn any_server_that_leads_to_the_factory_s_anchors_is_trusted() {
    let world = World::new();
    let identity = world.server(&["192.0.2.1"]);
    let mut sim = one(&world, SimServer::giving(&identity, unsigned(&whole())));
    sim.config.server_anchors = world.domain_anchors();
    assert!(matches!(sim.run(), End::Done(_)));
    assert!(sim.has("connect 192.0.2.1 nothing"), "{:?}", sim.log);
    assert!(sim.has(ALL));
    assert_eq!(sim.reports(), ["bootstrap-initiated", "bootstrap-complete"]);
}

/// RFC 8572 appendix B.
///
/// Requirements: SZTP-8572-5.5-04, SZTP-8572-2.1-02, SZTP-8572-7.3-12
#[test]
fn a_connection_is_promoted_by_a_signed_redirect_to_the_same_server() {
    let world = World::new();
    let identity = world.server(&["192.0.2.1"]);
    let signed = world.signed(&redirect(&[("192.0.2.1", None, Some(world.anchor()))]));
    let server = SimServer::new(&identity, move |ask| match ask {
        Ask::Data(input) if input.signed_data_preferred => Reply::data(&signed),
        Ask::Data(_) => Reply::data(&unsigned(&whole())),
        Ask::Report(_) => Reply::status(204),
    });
    let mut sim = one(&world, server);
    let End::Done(bootstrapped) = sim.run() else {
        panic!("{:?}", sim.log)
    };
    assert!(bootstrapped.reported);
    assert_eq!(
        sim.log,
        [
            "connect 192.0.2.1 nothing",
            "host-meta",
            "get signed-data-preferred",
            "connect 192.0.2.1 1 anchors",
            "host-meta",
            ALL,
            "report bootstrap-initiated",
            ONBOARDED[0],
            ONBOARDED[1],
            ONBOARDED[2],
            "report bootstrap-complete",
        ]
    );
}

/// Requirements: SZTP-8572-5.5-04, SZTP-8572-5.5-05, SZTP-8572-5.5-06, SZTP-8572-2.1-01,
/// SZTP-8572-9.12-01
#[test]
fn a_redirect_s_anchor_counts_if_the_redirect_is_trusted_and_for_its_entry_only() {
    let world = World::new();
    let other = World::new();
    let anchor = || Some(world.anchor());
    let both = |first, second| redirect(&[("192.0.2.2", None, first), ("192.0.2.3", None, second)]);
    let signed = |information| world.signed(&information);
    for (data, second_is, expect) in [
        // The server that the anchor is for is not there, another one is.
        (
            signed(redirect(&[("192.0.2.2", None, anchor())])),
            &other,
            vec!["connect 192.0.2.2 1 anchors"],
        ),
        // Without an anchor the connection is provisional, though the redirect is trusted; and the
        // first entry's anchor is not the second one's.
        (
            signed(both(anchor(), None)),
            &other,
            vec![
                "connect 192.0.2.2 1 anchors",
                "connect 192.0.2.3 nothing",
                "host-meta",
                "get signed-data-preferred",
            ],
        ),
        (
            signed(both(None, anchor())),
            &world,
            vec![
                "connect 192.0.2.2 nothing",
                "host-meta",
                "get signed-data-preferred",
                "connect 192.0.2.3 1 anchors",
                "host-meta",
                ALL,
            ],
        ),
        // An untrusted redirect's anchors are thrown away.
        (
            unsigned(&both(anchor(), anchor())),
            &world,
            vec![
                "connect 192.0.2.2 nothing",
                "host-meta",
                "get signed-data-preferred",
                "connect 192.0.2.3 nothing",
                "host-meta",
                "get signed-data-preferred",
            ],
        ),
        // An anchor that is none.
        (broken_anchor(&world), &world, vec![]),
    ] {
        let first = SimServer::giving(&world.server(&["192.0.2.1"]), data);
        let mut sim = one(&world, first);
        for address in ["192.0.2.2", "192.0.2.3"] {
            let server = SimServer::new(&second_is.server(&[address]), |ask| match ask {
                Ask::Data(_) => Reply::status(404),
                Ask::Report(_) => panic!("there is nothing to report"),
            });
            sim.servers.insert(address.to_owned(), server);
        }
        assert!(matches!(sim.run(), End::GaveUp(_)));
        let after: Vec<&str> = sim.log.iter().skip(3).map(String::as_str).collect();
        assert_eq!(after, expect);
    }
}

/// A signed redirect whose anchor is two chains in one CMS.
fn broken_anchor(world: &World) -> BootstrappingData {
    let chains = [world.domain_ca(), World::at(world.now).domain_ca()];
    let cms = pki::pkcs7::certs_only(&chains).unwrap();
    assert!(TrustAnchor::parse(&cms, None, &Tolerances::strict()).is_err());
    let good = redirect(&[("192.0.2.2", None, Some(world.anchor()))]);
    let content = String::from_utf8(good.encode(Encoding::Json).unwrap()).unwrap();
    let content = content.replace(&STANDARD.encode(world.anchor()), &STANDARD.encode(cms));
    world.signed_content(content.as_bytes(), world.voucher(|_| {}))
}

/// Requirements: SZTP-8572-5.3-10, SZTP-8572-5.3-11, SZTP-8572-5.3-12
#[test]
fn redirects_have_an_end() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["x"]);
    for hop in 1..=30_u8 {
        let next = format!("192.0.2.{}", hop + 1);
        let data = unsigned(&redirect(&[(&next, None, None)]));
        let server = SimServer::giving(&identity, data);
        sim.servers.insert(format!("192.0.2.{hop}"), server);
    }
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    let End::GaveUp(failure) = sim.run() else {
        panic!()
    };
    assert_eq!(failure.code, "sztp.redirect-limit");
    let connects = sim.log.iter().filter(|line| line.starts_with("connect"));
    assert_eq!(connects.count(), REDIRECTS_MAX as usize);
    assert_eq!(REDIRECTS_MAX, 10);
}

#[test]
fn a_circle_is_left_and_the_list_goes_on() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["x"]);
    let around = |next: &'static str| {
        let data = unsigned(&redirect(&[(next, None, None), ("192.0.2.9", None, None)]));
        SimServer::giving(&identity, data)
    };
    sim.servers
        .insert("192.0.2.1".to_owned(), around("192.0.2.2"));
    sim.servers
        .insert("192.0.2.2".to_owned(), around("192.0.2.1"));
    let last = SimServer::giving(&identity, world.signed(&whole()));
    sim.servers.insert("192.0.2.9".to_owned(), last);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    assert!(matches!(sim.run(), End::Done(_)));
    assert_eq!(sim.left(), ["sztp.redirect-loop"]);
}

/// Lists that lead to lists without end do not keep the device from its last source.
#[test]
fn a_hostile_tree_of_redirects_is_left() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["x", "192.0.2.200"]);
    // Each server redirects to forty new ones.
    let names: Vec<String> = (0..2000)
        .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
        .collect();
    for (index, name) in names.iter().enumerate() {
        let list: Vec<_> = (1..=40)
            .map(|n| (names[(index * 40 + n) % names.len()].as_str(), None, None))
            .collect();
        let server = SimServer::giving(&identity, unsigned(&redirect(&list)));
        sim.servers.insert(name.clone(), server);
    }
    sim.source("dhcp", vec![Found::Servers(vec![at(&names[0])])]);
    sim.config.well_known = vec![at("192.0.2.200")];
    let good = SimServer::giving(&identity, world.signed(&whole()));
    sim.servers.insert("192.0.2.200".to_owned(), good);
    assert!(matches!(sim.run(), End::Done(_)));
    assert!(sim.left().contains(&"sztp.too-many-connections"));
    assert!(sim.left().contains(&"sztp.too-many-servers"));
}

/// Requirements: SZTP-8572-5.5-01
#[test]
fn a_list_is_tried_in_its_order() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["x"]);
    let list: Vec<Server> = (1..=4).map(|n| at(&format!("192.0.2.{n}"))).collect();
    // The first is not there, the second has nothing, the third has something of no use.
    let nothing = SimServer::new(&identity, |_| Reply::status(404));
    sim.servers.insert("192.0.2.2".to_owned(), nothing);
    let useless = SimServer::giving(&identity, unsigned(&whole()));
    sim.servers.insert("192.0.2.3".to_owned(), useless);
    let good = SimServer::giving(&identity, world.signed(&whole()));
    sim.servers.insert("192.0.2.4".to_owned(), good);
    sim.source("dhcp", vec![Found::Servers(list)]);
    assert!(matches!(sim.run(), End::Done(_)));
    let connects: Vec<&String> = sim
        .log
        .iter()
        .filter(|line| line.starts_with("connect"))
        .collect();
    assert_eq!(
        connects,
        [
            "connect 192.0.2.1 nothing",
            "connect 192.0.2.2 nothing",
            "connect 192.0.2.3 nothing",
            "connect 192.0.2.4 nothing"
        ]
    );
}

/// Requirements: SZTP-8572-5.5-02, SZTP-8572-5.5-03
#[test]
fn every_address_of_a_name_is_tried_until_there_is_data() {
    let world = World::new();
    let mut sim = Sim::new(&world);
    let identity = world.server(&["bs.example"]);
    let addresses = [
        "192.0.2.1",
        "2001:db8::2",
        "192.0.2.1",
        "192.0.2.3",
        "192.0.2.4",
    ];
    sim.names.insert(
        "bs.example".to_owned(),
        addresses.iter().map(|one| one.parse().unwrap()).collect(),
    );
    // Nobody at the first, the second refuses, the third gives what is of no use, and with that
    // the name is done with.
    let refuses = SimServer::new(&identity, |_| Reply::status(401));
    sim.servers
        .insert("bs.example@2001:db8::2".to_owned(), refuses);
    for last in ["192.0.2.3", "192.0.2.4"] {
        let useless = SimServer::giving(&identity, unsigned(&whole()));
        sim.servers.insert(format!("bs.example@{last}"), useless);
    }
    let next = SimServer::giving(&identity, world.signed(&whole()));
    sim.servers.insert("192.0.2.9".to_owned(), next);
    let servers = vec![at("bs.example"), at("192.0.2.9")];
    sim.source("dhcp", vec![Found::Servers(servers)]);
    assert!(matches!(sim.run(), End::Done(_)));
    let connects: Vec<&String> = sim
        .log
        .iter()
        .filter(|line| line.starts_with("connect"))
        .collect();
    assert_eq!(
        connects,
        [
            "connect bs.example@192.0.2.1 nothing",
            "connect bs.example@2001:db8::2 nothing",
            "connect bs.example@192.0.2.3 nothing",
            "connect 192.0.2.9 nothing",
        ]
    );
}

/// Requirements: SZTP-8572-5.1-04, SZTP-8572-9.6-01, SZTP-8572-5.3-04
#[test]
fn a_password_is_for_trusted_servers() {
    let world = World::new();
    let identity = world.server(&["192.0.2.1"]);
    for (trusted, line) in [
        (true, "get hw-model os-name os-version basic"),
        (false, "get signed-data-preferred"),
    ] {
        let mut sim = one(&world, SimServer::giving(&identity, world.signed(&whole())));
        sim.config.password = Some("secret".to_owned());
        if trusted {
            sim.config.server_anchors = world.domain_anchors();
        }
        assert!(matches!(sim.run(), End::Done(_)));
        assert!(sim.has(line), "{:?}", sim.log);
        assert!(sim.has("host-meta"), "without a password");
    }
}

/// Requirements: SZTP-8366-5.3-15, SZTP-9646-4.1.2-02
#[test]
fn a_nonce_is_new_for_each_server_and_has_to_come_back() {
    let world = std::rc::Rc::new(World::new());
    // What the server makes of the nonce, whether it is taken, and by which policy.
    type Make = fn(&[u8]) -> Option<Vec<u8>>;
    let same: Make = |octets| Some(octets.to_vec());
    let other: Make = |_| Some(vec![9; 16]);
    let none: Make = |_| None;
    for (make, policy, taken) in [
        (same, NonceUse::Always, true),
        (other, NonceUse::Always, false),
        (none, NonceUse::Always, true),
        (same, NonceUse::Required, true),
        (none, NonceUse::Required, false),
        (other, NonceUse::Never, false),
        (none, NonceUse::Never, true),
    ] {
        let identity = world.server(&["192.0.2.1"]);
        let masa = std::rc::Rc::clone(&world);
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let nonces = std::rc::Rc::clone(&seen);
        let server = SimServer::new(&identity, move |ask| {
            let Ask::Data(input) = ask else { panic!() };
            nonces.borrow_mut().push(input.nonce.clone());
            let made = make(input.nonce.as_deref().unwrap_or_default());
            let voucher = masa.voucher(|fields| fields.nonce = made.as_deref().map(nonce));
            Reply::data(&masa.signed_with(&whole(), voucher))
        });
        let mut sim = one(&world, server);
        sim.config.nonce = policy;
        sim.config.rounds_max = Some(2);
        let end = sim.run();
        assert_eq!(
            matches!(end, End::Done(_)),
            taken,
            "{policy:?} {:?}",
            sim.left()
        );
        let seen = seen.borrow();
        assert_eq!(seen[0].is_some(), policy != NonceUse::Never);
        if let [Some(first), Some(second)] = seen.as_slice() {
            assert_ne!(first, second);
            assert!((16..=32).contains(&first.len()));
        }
    }
    // Nothing can carry a nonce to removable storage.
    let mut sim = Sim::new(&world);
    sim.config.nonce = NonceUse::Required;
    sim.source("usb", vec![Found::Data(world.signed(&whole()))]);
    assert!(matches!(sim.run(), End::GaveUp(_)));
    assert_eq!(sim.left(), ["sztp.nonce-required"]);
}

/// Requirements: SZTP-8040-3.1-01
#[test]
fn the_root_is_where_host_meta_says() {
    let world = World::new();
    let identity = world.server(&["192.0.2.1"]);
    for (body, root) in [
        (Some(discovery::host_meta("/here/is/it")), "/here/is/it"),
        (Some(discovery::host_meta("/")), ""),
        (None, "/restconf"),
        (Some(b"<html>no</html>".to_vec()), "/restconf"),
        (Some(discovery::host_meta("//evil.example/x")), "/restconf"),
        (
            Some(discovery::host_meta("https://evil.example/x")),
            "/restconf",
        ),
        (Some(discovery::host_meta("/a b")), "/restconf"),
        (
            Some(discovery::host_meta(&format!("/{}", "a".repeat(300)))),
            "/restconf",
        ),
        (Some(vec![b' '; 10_000_000]), "/restconf"),
    ] {
        let mut server = SimServer::giving(&identity, world.signed(&whole()));
        server.host_meta = body;
        server.root = root.to_owned();
        let mut sim = one(&world, server);
        let end = sim.run();
        assert!(matches!(end, End::Done(_)), "{root}: {end:?}");
    }
}

/// Requirements: SZTP-8572-5.3-02
#[test]
fn a_server_that_becomes_another_one_is_left() {
    let world = World::new();
    let other = World::new();
    let mut sim = Sim::new(&world);
    sim.config.server_anchors = world.domain_anchors();
    let identity = world.server(&["192.0.2.1"]);
    let server = SimServer::new(&identity, |_| Reply::broken());
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    // Up to the request for data.
    assert_eq!(sim.run_until(5), End::Cut);
    assert!(
        sim.notes
            .iter()
            .any(|note| matches!(note, Note::Trust(trust) if trust.trusted))
    );
    // The same with a server whose second connection is somebody else's.
    let mut sim = Sim::new(&world);
    sim.config.server_anchors = world.domain_anchors();
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    let stranger = other.server(&["192.0.2.1"]);
    let mut first = SimServer::new(&identity, |_| Reply::broken());
    first.host_meta = None;
    sim.servers.insert("192.0.2.1".to_owned(), first);
    sim.swap_after_first = Some(stranger.chain.clone());
    assert!(matches!(sim.run(), End::GaveUp(_)));
    assert!(
        sim.left().contains(&"sztp.server-changed"),
        "{:?}",
        sim.left()
    );
    let asked = sim.log.iter().filter(|line| line.starts_with("get"));
    assert_eq!(
        asked.count(),
        1,
        "what a trusted server is told is for it alone"
    );
}

/// A report that nobody took leaves a connection on which nobody knows who is; the next report is
/// not sent over it.
///
/// Requirements: SZTP-8572-5.6-05, SZTP-8572-9.6-03, SZTP-8572-9.6-01
#[test]
fn nothing_is_sent_to_a_server_that_was_not_judged() {
    let world = World::new();
    let other = World::new();
    let mut sim = Sim::new(&world);
    sim.config.server_anchors = world.domain_anchors();
    sim.config.password = Some("secret".to_owned());
    let data = unsigned(&whole());
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(_) => Reply::data(&data),
        Ask::Report(_) => Reply::broken(),
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.swap_after_first = Some(other.server(&["192.0.2.1"]).chain);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    assert!(matches!(sim.run(), End::GaveUp(_)));
    // The one report went to the server that was trusted; every later one found a stranger.
    assert_eq!(sim.reports(), ["bootstrap-initiated basic"]);
    let after: Vec<&String> = sim
        .log
        .iter()
        .skip_while(|line| !line.starts_with("report"))
        .skip(1)
        .filter(|line| !line.starts_with("connect") && *line != "roll-back")
        .collect();
    assert!(after.is_empty(), "{after:?}");
}

/// The trust anchor is a chain: the server has to be issued below its last CA, and a revocation
/// list that comes along counts.
///
/// Requirements: SZTP-8572-5.5-04, SZTP-5280-6-01
#[test]
fn the_last_certificate_of_the_chain_is_what_counts() {
    let world = World::new();
    let options = world.pki.options();
    let kind = pki::KeyKind::EcdsaP256;
    let profile = Profile::SubCa {
        path_length: Some(0),
    };
    let root = &world.pki.domain.ca;
    let sub = issue_under(root, options, kind, profile, "CN=Sub CA", |it| it).unwrap();
    let below = |ca: &pki::Identity| {
        let address = "192.0.2.2".parse().unwrap();
        issue_under(ca, options, kind, Profile::TlsServer, "CN=Server", |it| {
            it.alt_name(AltName::Ip(address))
        })
        .unwrap()
    };
    let (good, besides) = (below(&sub), below(root));
    let chain = [world.domain_ca(), sub.certificate().unwrap().clone()];
    let serial = good.certificate().unwrap().serial_number();
    let list = CrlBuilder::new(1, world.now, world.now + Duration::DAY)
        .revoke(serial, world.now, RevocationReason::KeyCompromise)
        .issue(sub.certificate().unwrap(), sub.signer.as_ref())
        .unwrap();
    for (server, crls, code) in [
        (&good, vec![], None),
        (&besides, vec![], Some("path.unknown-issuer")),
        (&good, vec![list], Some("path.revoked")),
    ] {
        let anchor = conveyed::TrustAnchor::encode(&chain, &crls).unwrap();
        let data = world.signed(&redirect(&[("192.0.2.2", None, Some(anchor))]));
        let mut sim = one(&world, SimServer::giving(&world.server(&["x"]), data));
        let second = SimServer::giving(server, unsigned(&whole()));
        sim.servers.insert("192.0.2.2".to_owned(), second);
        let end = sim.run();
        match code {
            None => assert!(matches!(end, End::Done(_)), "{:?}", sim.left()),
            Some(code) => {
                assert!(matches!(end, End::GaveUp(_)));
                assert_eq!(sim.left().first(), Some(&code));
            }
        }
    }
}
