//! A device among hostile sources and servers: the input says what each of them does. Signatures
//! are mostly taken on trust here (`pki::fuzz_mock`).
#![no_main]
use std::net::IpAddr;
use std::sync::OnceLock;

use artifacts::bundle::BootstrappingData;
use artifacts::{Encoding, SerialNumber};
use libfuzzer_sys::fuzz_target;
use pki::issue::{AltName, CertificateBuilder, Profile, name};
use pki::path::Anchors;
use pki::{Certificate, KeyKind, Signer, SoftwareKey};
use sztp::Leniency;
use sztp::agent::{
    Authenticate, Clock, Config, CsrAbility, Failure, Finding, Found, Input, Machine, NonceUse,
    Note, Request, RunningOs, ScriptOutcome, Server, State, Step, What,
};
use sztp::message::{GetBootstrappingDataInput, GetBootstrappingDataOutput, ReportingLevel};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);
/// Rounds are bounded, and so is what happens in each.
const STEPS_MAX: u32 = 100_000;

struct World {
    manufacturer: Certificate,
    device: Certificate,
    owner_ca: Certificate,
    server: Vec<Certificate>,
    stranger: Vec<Certificate>,
    bundles: Vec<BootstrappingData>,
    /// For certification requests.
    key: SoftwareKey,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    let read = |der: &[u8]| Certificate::from_der(der).expect("a certificate of the world");
    WORLD.get_or_init(|| {
        let (owner_ca, server) = server();
        let (_, stranger) = self::server();
        World {
            manufacturer: read(include_bytes!("../world/sztp-manufacturer.der")),
            device: read(include_bytes!("../world/sztp-device.der")),
            owner_ca,
            server,
            stranger,
            key: SoftwareKey::generate(KeyKind::EcdsaP256).expect("a key"),
            bundles: vec![
                bundle(include_bytes!("../seeds/bundle/signed")),
                bundle(include_bytes!("../seeds/bundle/unsigned")),
                bundle(include_bytes!("../seeds/bundle/encrypted")),
            ],
        }
    })
}

/// A CA and a server below it that is at 192.0.2.1 and has the name a.example.
fn server() -> (Certificate, Vec<Certificate>) {
    let ca = SoftwareKey::generate(KeyKind::EcdsaP256).expect("a key");
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).expect("a key");
    let build = |profile, subject, key: &SoftwareKey, serial| {
        let subject = name(subject).expect("a name");
        let (from, to) = (NOW - Duration::DAY, NOW + Duration::DAY);
        CertificateBuilder::new(profile, subject, key.public_key().clone(), serial, from, to)
    };
    let root = build(Profile::RootCa, "CN=CA", &ca, [1; 16]).self_sign(&ca).expect("a CA");
    let leaf = build(Profile::TlsServer, "CN=server", &key, [2; 16])
        .dns_name("a.example")
        .alt_name(AltName::Ip([192, 0, 2, 1].into()))
        .issue(&root, &ca)
        .expect("a certificate");
    (root, vec![leaf])
}

fn bundle(mut bytes: &[u8]) -> BootstrappingData {
    let mut part = || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        bytes = rest;
        Some(part.to_vec()).filter(|part| !part.is_empty())
    };
    BootstrappingData {
        conveyed_information: part().expect("conveyed information"),
        owner_certificate: part(),
        ownership_voucher: part(),
    }
}

/// The input, octet by octet; zeros behind its end.
struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.octet()) << 4;
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }

    fn data(&mut self) -> BootstrappingData {
        match self.octet() % 5 {
            choice @ 0..3 => world().bundles[usize::from(choice)].clone(),
            _ => BootstrappingData {
                conveyed_information: self.piece().to_vec(),
                owner_certificate: Some(self.piece().to_vec()).filter(|it| !it.is_empty()),
                ownership_voucher: Some(self.piece().to_vec()).filter(|it| !it.is_empty()),
            },
        }
    }

    fn server(&mut self) -> Server {
        let address = match self.octet() % 4 {
            0 => "192.0.2.1".to_owned(),
            1 => "a.example".to_owned(),
            2 => String::from_utf8_lossy(self.piece()).into_owned(),
            _ => format!("192.0.2.{}", self.octet()),
        };
        Server::new(address, Some(self.octet().into()))
    }
}

fn config(flags: u8) -> Config {
    let serial = SerialNumber::new("JADA123456789").expect("a serial number");
    let mut config = Config::new(serial, world().device.clone());
    config.voucher_anchors = world().manufacturer.clone().into();
    config.hw_model = Some("model".to_owned());
    config.password = Some("secret".to_owned());
    config.rounds_max = Some(2);
    if flags & 1 != 0 {
        config.server_anchors = Anchors::from(world().owner_ca.clone());
    }
    if flags & 2 != 0 {
        config.well_known = vec![Server::new("192.0.2.1", None)];
    }
    if flags & 4 != 0 {
        config.csr = Some(CsrAbility { keys: vec![KeyKind::EcdsaP256] });
    }
    if flags & 8 != 0 {
        config.clock = Clock::Untrusted;
    }
    if flags & 16 != 0 {
        config.nonce = NonceUse::Always;
    }
    if flags & 32 != 0 {
        config.encoding = Encoding::Xml;
    }
    if flags & 64 != 0 {
        config.leniency = Leniency::lenient();
        config.tolerances = artifacts::Tolerances::lenient();
    }
    config
}

/// What may be sent to whom.
fn check(request: &Request, trusted: bool, encoding: Encoding) {
    let secret = request.headers.iter().any(|(name, _)| *name == "authorization");
    assert!(trusted || !secret, "a password for an untrusted server");
    match request.what {
        What::ReportProgress => assert!(trusted, "a report to an untrusted server"),
        What::GetBootstrappingData => {
            let strict = Leniency::strict();
            let (input, _) = GetBootstrappingDataInput::decode(&request.body, encoding, &strict)
                .expect("what is sent can be read");
            let told = input.hw_model.is_some() || input.os_name.is_some() || input.csr.is_some();
            assert!(trusted || (input.signed_data_preferred && !told), "an untrusted server learns too much");
        }
        What::HostMeta => assert!(request.body.is_empty()),
    }
}

/// What an exchange came to.
enum Reply {
    Broken,
    Answer(u16, Vec<(String, String)>, Vec<u8>),
}

fn reply(tape: &mut Tape<'_>, request: &Request, encoding: Encoding) -> Reply {
    let content_type = |encoding| {
        let text = match encoding {
            Encoding::Json => "application/yang-data+json",
            Encoding::Xml => "application/yang-data+xml",
        };
        vec![("content-type".to_owned(), text.to_owned())]
    };
    match tape.octet() % 8 {
        0 => Reply::Broken,
        1 => Reply::Answer(204, Vec::new(), Vec::new()),
        2 => Reply::Answer(400, content_type(encoding), tape.piece().to_vec()),
        3 => Reply::Answer(200, content_type(encoding), tape.piece().to_vec()),
        4 => Reply::Answer(tape.octet().into(), Vec::new(), tape.piece().to_vec()),
        _ if request.what == What::GetBootstrappingData => {
            let data = tape.data();
            let level = if tape.octet() & 1 == 0 { None } else { Some(ReportingLevel::Verbose) };
            let output = GetBootstrappingDataOutput {
                reporting_level: level,
                conveyed_information: data.conveyed_information,
                owner_certificate: data.owner_certificate,
                ownership_voucher: data.ownership_voucher,
            };
            Reply::Answer(200, content_type(encoding), output.encode(encoding))
        }
        _ => Reply::Answer(204, Vec::new(), Vec::new()),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut tape = Tape(bytes);
    let config = config(tape.octet());
    let encoding = config.encoding;
    let new = |state| Machine::new(config.clone(), vec!["dns".to_owned(), "dhcp".to_owned()], state);
    let mut machine = new(State::factory(RunningOs::default()));
    let (mut trusted, mut may_onboard) = (false, false);
    let mut now = NOW;
    let mut steps = 0;
    let failure = || Failure::new("net.closed", "gone");
    let mut step = machine.step(Input::Begin, now, &[1; 32]);
    loop {
        steps += 1;
        assert!(steps < STEPS_MAX, "no end");
        for note in machine.take_notes() {
            match note {
                Note::Trust(trust) => trusted = trust.trusted,
                Note::Verdict { kind, trust_state, signed, .. } => {
                    assert!(!trust_state || signed || trusted);
                    may_onboard = trust_state && kind == Some("onboarding-information");
                }
                _ => {}
            }
        }
        let random = [tape.octet(); 32];
        let mut advance = |input: Input<'_>| machine.step(input, now, &random);
        let done = Input::Done { warning: None };
        step = match step {
            Step::RewindSources | Step::RollBack | Step::Finish => advance(done),
            Step::NextFinding { .. } => match tape.octet() % 8 {
                0..3 => advance(Input::Found(None)),
                3 => advance(Input::Failed(failure())),
                4 => {
                    let found = Found::Data(tape.data());
                    advance(Input::Found(Some(Finding { name: "x".to_owned(), found })))
                }
                _ => {
                    trusted = false;
                    let servers = (0..tape.octet() % 4).map(|_| tape.server()).collect();
                    let found = Found::Servers(servers);
                    advance(Input::Found(Some(Finding { name: "x".to_owned(), found })))
                }
            },
            Step::Resolve { .. } => {
                let count = tape.octet() % 4;
                let addresses = (0..count).map(|_| IpAddr::from([192, 0, 2, tape.octet()]));
                let addresses = addresses.collect();
                advance(Input::Resolved(addresses))
            }
            Step::Connect(connect) => {
                trusted = false;
                if let Authenticate::Anchors { anchors, .. } = &connect.authenticate {
                    assert!(!anchors.is_empty(), "nobody could be believed");
                }
                match tape.octet() % 4 {
                    0 => advance(Input::Failed(failure())),
                    1 => advance(Input::Connected { chain: &world().stranger }),
                    2 => advance(Input::Connected { chain: &[] }),
                    _ => advance(Input::Connected { chain: &world().server }),
                }
            }
            Step::Send(request) => {
                check(&request, trusted, encoding);
                match reply(&mut tape, &request, encoding) {
                    Reply::Broken => advance(Input::Failed(failure())),
                    Reply::Answer(status, headers, body) => {
                        advance(Input::Answered { status, headers: &headers, body: &body })
                    }
                }
            }
            Step::MakeCsr(plan) => {
                assert!(trusted, "a certification request for an untrusted server");
                match plan.build(&world().key) {
                    Ok(csr) => advance(Input::CsrMade { csr: csr.der() }),
                    Err(failure) => advance(Input::Failed(failure)),
                }
            }
            Step::FetchImage { verifications, .. } => {
                assert!(may_onboard && !verifications.is_empty());
                if tape.octet() & 1 == 0 { advance(Input::Failed(failure())) } else { advance(done) }
            }
            Step::InstallImage => advance(done),
            Step::RunScript { .. } => {
                assert!(may_onboard, "an untrusted script");
                let outcome = match tape.octet() % 3 {
                    0 => ScriptOutcome::Error,
                    1 => ScriptOutcome::Warning,
                    _ => ScriptOutcome::Success,
                };
                let output = String::from_utf8_lossy(tape.piece()).into_owned();
                advance(Input::ScriptEnded { outcome, output: &output })
            }
            Step::Commit { .. } => {
                assert!(may_onboard, "an untrusted configuration");
                if tape.octet() & 1 == 0 {
                    advance(Input::Failed(failure()))
                } else {
                    advance(Input::Committed { warning: None, disables_sztp: true })
                }
            }
            Step::Wait { until, .. } => {
                assert!(until > now);
                now = until;
                machine.step(Input::Begin, now, &random)
            }
            Step::Reboot => {
                machine = new(machine.state().clone());
                machine.step(Input::Begin, now, &random)
            }
            Step::Done(_) => {
                assert!(!machine.state().onboarding && machine.state().bootstrapped.is_some());
                return;
            }
            Step::Disabled => return,
            Step::GiveUp(failure) => {
                assert_ne!(failure.code, "sztp.internal", "{failure}");
                assert!(!machine.state().onboarding, "something is left behind");
                return;
            }
        };
    }
});
