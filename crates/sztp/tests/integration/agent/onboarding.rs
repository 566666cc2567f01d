//! Processing onboarding information, and the reports about it.

use artifacts::bundle::BootstrappingData;
use artifacts::conveyed::{
    BootImage, ConfigurationHandling, ConveyedInformation, OnboardingInformation,
};
use sztp::{
    agent::{Found, ProgressType, ScriptOutcome},
    message::{ReportingLevel, SshHostKey},
};

use super::{
    sim::{Ask, End, Reply, Sim, SimServer},
    world::{World, at, image, onboarding, unsigned, whole, with_image},
};

/// A trusted server that gives this, at this level, and answers reports so.
fn sim(
    world: &World,
    information: &ConveyedInformation,
    level: Option<ReportingLevel>,
    status: impl Fn(ProgressType) -> u16 + 'static,
) -> Sim {
    let mut sim = Sim::new(world);
    sim.config.server_anchors = world.domain_anchors();
    let data = unsigned(information);
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(_) => Reply::data_at(&data, level),
        Ask::Report(report) => match status(report.progress) {
            0 => Reply::broken(),
            status => Reply::status(status),
        },
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.source("dhcp", vec![Found::Servers(vec![at("192.0.2.1")])]);
    sim
}

fn good(_: ProgressType) -> u16 {
    204
}

const VERBOSE: Option<ReportingLevel> = Some(ReportingLevel::Verbose);

/// What was done and reported after the data came.
fn deeds(sim: &Sim) -> Vec<&str> {
    sim.log
        .iter()
        .map(String::as_str)
        .skip_while(|line| !line.starts_with("get"))
        .skip(1)
        .collect()
}

/// Requirements: SZTP-8572-5.6-01, SZTP-8572-5.6-02, SZTP-8572-5.6-03, SZTP-8572-5.6-04,
/// SZTP-8572-7.3-11, SZTP-8572-7.3-22, SZTP-8572-5.3-15
#[test]
fn the_steps_come_in_order_and_are_reported_as_asked_for() {
    let world = World::new();
    let minimal = [
        "report bootstrap-initiated",
        "script Pre",
        "commit merge",
        "script Post",
        "report bootstrap-complete",
    ];
    let verbose = [
        "report bootstrap-initiated",
        "report parsing-initiated",
        "report parsing-complete",
        "report pre-script-initiated",
        "script Pre",
        "report pre-script-complete",
        "report config-initiated",
        "commit merge",
        "report config-complete",
        "report post-script-initiated",
        "script Post",
        "report post-script-complete",
        "report bootstrap-complete",
    ];
    for (level, own, expect) in [
        (None, false, &minimal[..]),
        (Some(ReportingLevel::Minimal), false, &minimal),
        (VERBOSE, false, &verbose),
        (None, true, &verbose),
    ] {
        let mut sim = sim(&world, &whole(), level, good);
        sim.config.verbose = own;
        assert!(matches!(sim.run(), End::Done(_)));
        assert_eq!(deeds(&sim), expect);
        assert_eq!(sim.disk.configuration, b"hostname x\nno sztp\n");
    }
}

/// Each part can be missing.
#[test]
fn what_is_not_there_is_not_done() {
    let world = World::new();
    let all = onboarding();
    for (information, expect) in [
        (
            OnboardingInformation {
                pre_configuration_script: all.pre_configuration_script.clone(),
                ..OnboardingInformation::default()
            },
            vec!["script Pre"],
        ),
        (
            OnboardingInformation {
                configuration: all.configuration.clone(),
                configuration_handling: Some(ConfigurationHandling::Replace),
                ..OnboardingInformation::default()
            },
            vec!["commit replace"],
        ),
        (
            OnboardingInformation {
                post_configuration_script: all.post_configuration_script.clone(),
                ..OnboardingInformation::default()
            },
            vec!["script Post"],
        ),
    ] {
        let information = ConveyedInformation::Onboarding(information);
        let mut sim = sim(&world, &information, None, good);
        assert!(matches!(sim.run(), End::Done(_)));
        let done: Vec<&str> = deeds(&sim)
            .into_iter()
            .filter(|line| !line.starts_with("report"))
            .collect();
        assert_eq!(done, expect);
    }
}

/// The information, what goes wrong, how reports are answered, the report and what it says.
type Case = (
    ConveyedInformation,
    Box<dyn Fn(&mut Sim)>,
    fn(ProgressType) -> u16,
    &'static str,
    &'static str,
);

/// Every error ends the matter, is reported with its own type and leaves nothing behind, and the
/// device goes on with the next server of the list.
///
/// Requirements: SZTP-8572-5.6-06, SZTP-8572-5.6-08, SZTP-8572-5.6-18, SZTP-8572-5.6-19,
/// SZTP-8572-5.6-20, SZTP-8572-6.3-17, SZTP-8572-7.3-16, SZTP-8572-7.3-23, SZTP-8572-5.6-17,
/// SZTP-8572-5.6-15, SZTP-8572-5.6-09, SZTP-8572-5.6-22
#[test]
fn errors() {
    type Change = fn(&mut Sim);
    let world = World::new();
    let fails = |script: &'static str| {
        move |sim: &mut Sim| {
            let ended = (ScriptOutcome::Error, format!("{script}: no such interface"));
            sim.scripts.insert(script.to_owned(), ended);
        }
    };
    let nothing: Change = |_| {};
    let no_location = BootImage {
        image_verifications: Vec::new(),
        ..image("17.3", &[])
    };
    let no_fingerprint = BootImage {
        image_verifications: Vec::new(),
        ..image("17.3", &["https://x/"])
    };
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        (whole(), Box::new(fails("pre")), good, "pre-script-error", "no such interface"),
        (whole(), Box::new(fails("post")), good, "post-script-error", "no such interface"),
        (whole(), Box::new(|sim: &mut Sim| sim.commit_fails = true), good, "config-error", "line 2"),
        (with_image(image("17.3", &["https://x/"])), Box::new(nothing), good, "boot-image-error", "not there"),
        (with_image(no_location), Box::new(nothing), good, "boot-image-error", "no location"),
        (with_image(no_fingerprint), Box::new(nothing), good, "boot-image-error", "no fingerprint"),
        (whole(), Box::new(nothing), |progress| {
            if progress == ProgressType::BootstrapInitiated { 200 } else { 204 }
        }, "bootstrap-error", "bootstrap-initiated was not taken: HTTP status 200"),
        (whole(), Box::new(nothing), |progress| {
            if progress == ProgressType::BootstrapComplete { 500 } else { 204 }
        }, "bootstrap-error", "bootstrap-complete was not taken: HTTP status 500"),
        (whole(), Box::new(nothing), |progress| {
            if progress == ProgressType::BootstrapComplete { 0 } else { 204 }
        }, "bootstrap-error", "there was no answer"),
        // A report that is not taken at the end does not keep the device from going on.
        (whole(), Box::new(fails("pre")), |progress| {
            if progress == ProgressType::PreScriptError { 0 } else { 204 }
        }, "pre-script-error", "no such interface"),
    ];
    for (information, change, status, report, says) in cases {
        let mut sim = sim(&world, &information, None, status);
        change(&mut sim);
        let (sources, _) = (&mut sim.sources, ());
        let second = sztp::agent::Finding {
            name: "second".to_owned(),
            found: Found::Servers(vec![at("192.0.2.2")]),
        };
        sources[0].1.push(Ok(second));
        let End::GaveUp(_) = sim.run() else {
            panic!("{report}: {:?}", sim.log)
        };
        let errors: Vec<&str> = sim
            .reports()
            .into_iter()
            .filter(|line| line.ends_with("-error"))
            .collect();
        // Sent once; twice or thrice if the connection breaks at it.
        assert!(
            !errors.is_empty() && errors.iter().all(|one| *one == report),
            "{errors:?}"
        );
        let progress = ProgressType::parse(report).unwrap();
        let messages = sim.messages(progress);
        assert!(messages[0].contains(says), "{report}: {messages:?}");
        assert_eq!(
            sim.reports().last(),
            Some(&report),
            "nothing after an error"
        );
        assert_eq!(sim.disk.configuration, b"factory\n", "{report}");
        assert!(sim.disk.sandbox.is_empty(), "{report}");
        assert!(sim.has("connect 192.0.2.2 nothing"), "{report}");
        let state = sim.disk.state.unwrap();
        assert!(state.enabled && !state.onboarding && state.bootstrapped.is_none());
    }
}

/// Requirements: SZTP-8572-6.3-16, SZTP-8572-7.3-16
#[test]
fn a_warning_is_passed_on_and_all_goes_on() {
    let world = World::new();
    for (script, progress) in [
        ("pre", ProgressType::PreScriptWarning),
        ("post", ProgressType::PostScriptWarning),
    ] {
        let mut sim = sim(&world, &whole(), VERBOSE, good);
        let text = "careful\u{1}\u{fffe}with\nthis ".to_owned() + &"x".repeat(10_000);
        sim.scripts
            .insert(script.to_owned(), (ScriptOutcome::Warning, text));
        assert!(matches!(sim.run(), End::Done(_)));
        let messages = sim.messages(progress);
        assert!(messages[0].starts_with("careful \u{fffd}with\nthis xx"));
        assert!(messages[0].chars().count() <= sztp::agent::MESSAGE_CHARS_MAX);
    }
}

/// What had to be tolerated is worth a warning.
///
/// Requirements: SZTP-8572-5.6-03, SZTP-8572-7.3-16
#[test]
fn what_is_tolerated_is_told() {
    let world = World::new();
    let mut sim = sim(&world, &whole(), VERBOSE, good);
    sim.config.tolerances = artifacts::Tolerances::lenient();
    let encoding = artifacts::Encoding::Json;
    let content = whole().encode(encoding).unwrap();
    let content_type = artifacts::conveyed::ContentType::IdData;
    let data = BootstrappingData {
        conveyed_information: artifacts::conveyed::unsigned_with(&content, encoding, content_type),
        ..BootstrappingData::default()
    };
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(_) => Reply::data_at(&data, VERBOSE),
        Ask::Report(_) => Reply::status(204),
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    assert!(matches!(sim.run(), End::Done(_)), "{:?}", sim.left());
    let messages = sim.messages(ProgressType::ParsingWarning);
    assert!(messages[0].starts_with("tolerated: "), "{messages:?}");
}

/// Requirements: SZTP-8572-5.6-21
#[test]
fn a_device_that_was_not_switched_over_says_so() {
    let world = World::new();
    let information = ConveyedInformation::Onboarding(OnboardingInformation {
        configuration: Some(b"hostname x\n".to_vec()),
        ..onboarding()
    });
    let mut sim = sim(&world, &information, None, good);
    assert!(matches!(sim.run(), End::Done(_)));
    assert_eq!(
        sim.reports(),
        [
            "bootstrap-initiated",
            "bootstrap-warning",
            "bootstrap-complete"
        ]
    );
    assert!(sim.disk.state.unwrap().enabled);
}

/// Requirements: SZTP-8572-7.3-18
#[test]
fn keys_and_chains_are_told_at_the_end_only() {
    let world = World::new();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut sim = sim(&world, &whole(), VERBOSE, good);
    let (data, reports) = (unsigned(&whole()), std::rc::Rc::clone(&seen));
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(_) => Reply::data_at(&data, VERBOSE),
        Ask::Report(report) => {
            reports.borrow_mut().push(report.clone());
            Reply::status(204)
        }
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    let key = SshHostKey {
        algorithm: "ssh-ed25519".to_owned(),
        key_data: b"\0\0\0\x0bssh-ed25519\0\0\0\x01x".to_vec(),
    };
    sim.config.ssh_host_keys = vec![key.clone()];
    sim.config.trust_anchor_certs = vec![world.anchor()];
    assert!(matches!(sim.run(), End::Done(_)));
    let seen = seen.borrow();
    let (last, before) = seen.split_last().unwrap();
    assert_eq!(last.progress, ProgressType::BootstrapComplete);
    assert_eq!(last.ssh_host_keys, [key]);
    assert_eq!(last.trust_anchor_certs, [world.anchor()]);
    assert!(before.len() > 5);
    for report in before {
        assert!(report.ssh_host_keys.is_empty() && report.trust_anchor_certs.is_empty());
    }
}

/// Requirements: SZTP-8572-5.6-11, SZTP-8572-5.6-12, SZTP-8572-5.6-14, SZTP-8572-5.6-16,
/// SZTP-8572-6.3-09, SZTP-8572-7.3-22
#[test]
fn another_image_is_fetched_verified_installed_and_booted() {
    let world = World::new();
    let wanted = image("17.3", &["https://a/", "https://b/", "https://c/"]);
    let mut sim = sim(&world, &with_image(wanted), VERBOSE, good);
    sim.images = ["https://b/".to_owned(), "https://c/".to_owned()].into();
    assert!(matches!(sim.run(), End::Done(_)), "{:?}", sim.log);
    let deeds = deeds(&sim);
    let reboot = deeds.iter().position(|line| *line == "reboot").unwrap();
    assert_eq!(
        deeds[..=reboot],
        [
            "report bootstrap-initiated",
            "report parsing-initiated",
            "report parsing-complete",
            "report boot-image-initiated",
            "report boot-image-mismatch",
            "fetch https://a/",
            "fetch https://b/",
            "install",
            "report boot-image-installed-rebooting",
            "reboot",
        ]
    );
    // After the reboot all begins again, and the image is right.
    let after = &deeds[reboot + 1..];
    assert_eq!(
        after[..3],
        [
            "connect 192.0.2.1 nothing",
            "host-meta",
            "get hw-model os-name os-version"
        ]
    );
    assert!(after.contains(&"report boot-image-complete"));
    assert!(!after.iter().any(|line| line.starts_with("fetch")));
    let state = sim.disk.state.unwrap();
    assert_eq!(state.os.version.as_deref(), Some("17.3"));
    assert_eq!(state.installs, 0);
}

/// Requirements: SZTP-8572-5.6-11
#[test]
fn whether_the_running_image_will_do() {
    let world = World::new();
    let named = |name: Option<&str>, version: Option<&str>| BootImage {
        os_name: name.map(str::to_owned),
        os_version: version.map(str::to_owned),
        ..image("", &["https://x/"])
    };
    for (wanted, running_hash, fetched) in [
        (named(Some("VendorOS"), Some("17.2")), None, false),
        (named(Some("VendorOS"), None), None, false),
        (named(None, Some("17.2")), None, false),
        (named(Some("OtherOS"), Some("17.2")), None, true),
        (named(Some("VendorOS"), Some("17.20")), None, true),
        (named(None, None), Some("07".repeat(32)), false),
        (named(None, None), Some("08".repeat(32)), true),
        (named(None, None), None, true),
        (BootImage::default(), None, false),
    ] {
        let mut sim = sim(&world, &with_image(wanted.clone()), None, good);
        sim.images = ["https://x/".to_owned()].into();
        sim.disk.state.as_mut().unwrap().os.image_sha256 = running_hash;
        assert!(matches!(sim.run(), End::Done(_)), "{wanted:?}");
        assert_eq!(sim.has("fetch https://x/"), fetched, "{wanted:?}");
    }
}

/// A server whose image never is what it wants does not keep the device rebooting.
#[test]
fn an_image_that_never_is_right_comes_to_an_end() {
    let world = World::new();
    let mut version = 0;
    let mut sim = sim(&world, &whole(), None, good);
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(_) => {
            version += 1;
            let wanted = image(&format!("99.{version}"), &["https://x/"]);
            Reply::data(&unsigned(&with_image(wanted)))
        }
        Ask::Report(_) => Reply::status(204),
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    sim.images = ["https://x/".to_owned()].into();
    assert!(matches!(sim.run(), End::GaveUp(_)));
    let reboots = sim.log.iter().filter(|line| *line == "reboot").count();
    assert_eq!(reboots, sztp::agent::INSTALLS_MAX as usize);
    assert_eq!(sim.left(), ["sztp.image-loop"]);
}

/// A connection that a server closes while a script runs is made again for the report.
#[test]
fn a_report_gets_a_connection_of_its_own_if_need_be() {
    let world = World::new();
    let mut broke = false;
    let mut sim = sim(&world, &whole(), None, good);
    let data = unsigned(&whole());
    let server = SimServer::new(&world.server(&["192.0.2.1"]), move |ask| match ask {
        Ask::Data(_) => Reply::data(&data),
        Ask::Report(report) if report.progress == ProgressType::BootstrapComplete && !broke => {
            broke = true;
            Reply::broken()
        }
        Ask::Report(_) => Reply::status(204),
    });
    sim.servers.insert("192.0.2.1".to_owned(), server);
    assert!(matches!(sim.run(), End::Done(_)));
    assert_eq!(
        deeds(&sim)[4..],
        [
            "report bootstrap-complete",
            "connect 192.0.2.1 nothing",
            "report bootstrap-complete"
        ]
    );
}
