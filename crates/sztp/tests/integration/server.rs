//! What a bootstrap server decides.

use pki::{Certificate, CsrBuilder, KeyKind, SoftwareKey};
use sztp::csr::{Asked, Device, KeyAlgorithm, Policy};
use sztp::message::{
    CsrFormat, CsrInput, CsrSupport, GetBootstrappingDataInput, ProgressType, ReportProgressInput,
    ReportingLevel, SshHostKey,
};
use sztp::restconf::Fault;
use sztp::server::{
    Enrolment, Facts, Kind, Live, Offer, Phase, ProgressStep, Protection, Roles, Staged, Step,
    Voucher, VoucherChoice, decide, decide_progress,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00 UTC);
const DEVICE: Device<'static> = Device {
    serial: "SN-1",
    identity: None,
};

fn offer(kind: Kind, unsigned: bool, signed: bool) -> Staged {
    Staged::Offer(Offer {
        kind,
        unsigned,
        signed,
        reporting_level: Some(ReportingLevel::Verbose),
    })
}

fn input(signed_data_preferred: bool, nonce: Option<u8>) -> GetBootstrappingDataInput {
    GetBootstrappingDataInput {
        signed_data_preferred,
        nonce: nonce.map(|octet| vec![octet; 16]),
        ..Default::default()
    }
}

fn facts(input: &GetBootstrappingDataInput, staged: Staged) -> Facts<'_> {
    Facts {
        staged,
        ..Facts::new(input, Roles::BOTH, DEVICE)
    }
}

fn voucher(nonce: Option<u8>, ends: Option<Duration>) -> Voucher {
    Voucher {
        nonce: nonce.map(|octet| vec![octet; 16]),
        expires_on: ends.map(|after| NOW + after),
    }
}

/// What came out, short enough for a table.
fn outcome(step: &Step) -> String {
    match step {
        Step::Look => "look".to_owned(),
        Step::AskForCsr { .. } => "ask for CSR".to_owned(),
        Step::Enrol(_) => "enrol".to_owned(),
        Step::FetchVoucher { nonce } => format!("fetch {}", nonce[0]),
        Step::Reply(reply) => match reply.protection {
            Protection::Unsigned => "unsigned".to_owned(),
            Protection::Signed(VoucherChoice::Live) => "signed, live".to_owned(),
            Protection::Signed(VoucherChoice::Stored(at)) => format!("signed, {at}"),
        },
        Step::Refuse(error) => format!("{} {}", error.status, error.code),
    }
}

/// Requirements: SZTP-8572-7.3-02, SZTP-8572-7.3-03, SZTP-8572-4.4-02, SZTP-8572-4.4-03, SZTP-8572-1.2-01, SZTP-9646-4.2.3-01, SZTP-8572-3.1-09
#[test]
fn signed_or_not() {
    use Kind::{Onboarding, Redirect};
    let stored = [voucher(None, None)];
    for (kind, unsigned, signed, preferred, has_voucher, wanted) in [
        // A device that trusts the server takes what is there, unsigned first: it is smaller.
        (Onboarding, true, true, false, true, "unsigned"),
        (Onboarding, true, false, false, false, "unsigned"),
        (Onboarding, false, true, false, true, "signed, 0"),
        (Onboarding, false, true, false, false, "409 sztp.no-voucher"),
        (
            Onboarding,
            false,
            false,
            false,
            true,
            "409 sztp.signed-unavailable",
        ),
        (Redirect, true, true, false, true, "unsigned"),
        (Redirect, false, true, false, true, "signed, 0"),
        // A device that asked for signed data never gets unsigned onboarding information.
        (Onboarding, true, true, true, true, "signed, 0"),
        (Onboarding, true, true, true, false, "409 sztp.no-voucher"),
        (
            Onboarding,
            true,
            false,
            true,
            true,
            "409 sztp.signed-unavailable",
        ),
        (
            Onboarding,
            true,
            false,
            true,
            false,
            "409 sztp.signed-unavailable",
        ),
        (Onboarding, false, true, true, true, "signed, 0"),
        // It may get unsigned redirect information, and signed where that can be had.
        (Redirect, true, true, true, true, "signed, 0"),
        (Redirect, true, true, true, false, "unsigned"),
        (Redirect, true, false, true, true, "unsigned"),
        (Redirect, false, true, true, false, "409 sztp.no-voucher"),
    ] {
        let input = input(preferred, None);
        let mut facts = facts(&input, offer(kind, unsigned, signed));
        facts.vouchers = if has_voucher { &stored } else { &[] };
        let step = decide(&facts, NOW);
        let case = format!(
            "{kind:?} unsigned={unsigned} signed={signed} preferred={preferred} voucher={has_voucher}"
        );
        assert_eq!(outcome(&step), wanted, "{case}");
    }
}

/// Whatever the facts are, unsigned onboarding information goes only to a device that did not
/// ask for signed data, and nothing goes out of role.
///
/// Requirements: SZTP-8572-7.3-03, SZTP-8572-1.2-01, SZTP-8572-7.3-10, SZTP-8572-7.3-12
#[test]
fn over_all_facts() {
    let mut replies = 0;
    let nonces = [None, Some(1), Some(2)];
    let lives = [
        Live::Unavailable,
        Live::Possible,
        Live::Failed("no".to_owned()),
        Live::Fetched(voucher(Some(1), None)),
        Live::Fetched(voucher(None, None)),
    ];
    let stores = [
        vec![],
        vec![voucher(None, None)],
        vec![voucher(Some(1), None)],
        vec![voucher(Some(2), Some(Duration::days(1)))],
        vec![voucher(None, Some(-Duration::days(1)))],
    ];
    for bits in 0..64_u8 {
        let is = |bit: u8| bits & (1 << bit) != 0;
        for nonce in nonces {
            for live in &lives {
                for store in &stores {
                    let input = input(is(0), nonce);
                    let kind = if is(1) {
                        Kind::Redirect
                    } else {
                        Kind::Onboarding
                    };
                    let mut facts = facts(&input, offer(kind, is(2), is(3)));
                    facts.roles = Roles {
                        redirect: is(4),
                        onboarding: is(5),
                    };
                    facts.live = live.clone();
                    facts.vouchers = store;
                    let Step::Reply(reply) = decide(&facts, NOW) else {
                        continue;
                    };
                    replies += 1;
                    assert!(if kind == Kind::Redirect { is(4) } else { is(5) });
                    match reply.protection {
                        Protection::Unsigned => {
                            assert!(is(2));
                            assert!(kind == Kind::Redirect || !is(0));
                        }
                        Protection::Signed(choice) => {
                            assert!(is(3));
                            let chosen = match choice {
                                VoucherChoice::Stored(at) => store[at].clone(),
                                VoucherChoice::Live => match live {
                                    Live::Fetched(voucher) => voucher.clone(),
                                    other => panic!("{other:?}"),
                                },
                            };
                            // Nobody's nonce but the request's own, and nothing expired.
                            assert!(chosen.nonce.is_none() || chosen.nonce == input.nonce);
                            assert!(chosen.expires_on.is_none_or(|end| NOW < end));
                        }
                    }
                    let is_reported = kind == Kind::Onboarding && !is(0);
                    assert_eq!(reply.reporting_level.is_some(), is_reported);
                }
            }
        }
    }
    assert!(replies > 500, "{replies}");
}

/// Requirements: SZTP-8572-7.3-07
#[test]
fn which_voucher() {
    let day = Duration::days(1);
    let forever = voucher(None, None);
    let short = voucher(None, Some(day));
    let long = voucher(None, Some(2 * day));
    let past = voucher(None, Some(-day));
    let now = voucher(None, Some(Duration::ZERO));
    let one = voucher(Some(1), None);
    let failed = || Live::Failed("unreachable".to_owned());
    for (nonce, stored, live, wanted) in [
        // Without a nonce: one without a nonce, the longest, never an expired one.
        (
            None,
            vec![short.clone(), long.clone()],
            Live::Possible,
            "signed, 1",
        ),
        (
            None,
            vec![short.clone(), forever.clone(), long.clone()],
            Live::Possible,
            "signed, 1",
        ),
        (
            None,
            vec![past.clone(), short.clone()],
            Live::Possible,
            "signed, 1",
        ),
        (
            None,
            vec![past.clone()],
            Live::Possible,
            "409 sztp.no-voucher",
        ),
        (
            None,
            vec![now.clone()],
            Live::Possible,
            "409 sztp.no-voucher",
        ),
        // The nonce of another request is not replayed.
        (
            None,
            vec![one.clone()],
            Live::Possible,
            "409 sztp.no-voucher",
        ),
        (
            Some(2),
            vec![one.clone()],
            Live::Unavailable,
            "409 sztp.no-voucher",
        ),
        (Some(2), vec![one.clone()], Live::Possible, "fetch 2"),
        // With a nonce: the one that repeats it, else one from the MASA, else one without.
        (
            Some(1),
            vec![forever.clone(), one.clone()],
            Live::Possible,
            "signed, 1",
        ),
        (Some(1), vec![forever.clone()], Live::Possible, "fetch 1"),
        (
            Some(1),
            vec![forever.clone()],
            Live::Unavailable,
            "signed, 0",
        ),
        (Some(1), vec![forever.clone()], failed(), "signed, 0"),
        (Some(1), vec![], failed(), "409 sztp.voucher-unavailable"),
        (Some(1), vec![], Live::Unavailable, "409 sztp.no-voucher"),
        (Some(1), vec![], Live::Fetched(one.clone()), "signed, live"),
        // What the MASA sent is looked at.
        (
            Some(2),
            vec![],
            Live::Fetched(one.clone()),
            "409 sztp.voucher-unavailable",
        ),
        (
            Some(1),
            vec![],
            Live::Fetched(forever.clone()),
            "409 sztp.voucher-unavailable",
        ),
        (
            Some(1),
            vec![],
            Live::Fetched(voucher(Some(1), Some(-day))),
            "409 sztp.voucher-unavailable",
        ),
    ] {
        let input = input(true, nonce);
        let mut facts = facts(&input, offer(Kind::Onboarding, true, true));
        facts.vouchers = &stored;
        facts.live = live.clone();
        let step = decide(&facts, NOW);
        assert_eq!(outcome(&step), wanted, "{nonce:?} {stored:?} {live:?}");
    }
}

/// Requirements: SZTP-8572-7.3-10, SZTP-8572-7.3-12, SZTP-8572-1.2-01
#[test]
fn roles_and_what_is_not_staged() {
    let input = input(false, None);
    for (staged, roles, wanted) in [
        (Staged::Unknown, Roles::BOTH, "look"),
        (Staged::Nothing, Roles::BOTH, "404 sztp.nothing-staged"),
        (
            offer(Kind::Onboarding, true, true),
            Roles::REDIRECT,
            "409 sztp.role-mismatch",
        ),
        (
            offer(Kind::Redirect, true, true),
            Roles::REDIRECT,
            "unsigned",
        ),
        (
            offer(Kind::Redirect, true, true),
            Roles {
                redirect: false,
                onboarding: true,
            },
            "409 sztp.role-mismatch",
        ),
    ] {
        let mut facts = facts(&input, staged);
        facts.roles = roles;
        assert_eq!(
            outcome(&decide(&facts, NOW)),
            wanted,
            "{staged:?} {roles:?}"
        );
    }
    // The level goes with onboarding information for a device that trusts the server.
    let Step::Reply(reply) = decide(&facts(&input, offer(Kind::Onboarding, true, true)), NOW)
    else {
        panic!("a reply");
    };
    assert_eq!(reply.reporting_level, Some(ReportingLevel::Verbose));
}

fn support() -> CsrInput {
    CsrInput::Support(CsrSupport {
        algorithms: Some(vec![KeyAlgorithm::EcP256.identifier().to_vec()]),
        formats: vec![CsrFormat::P10],
    })
}

/// Requirements: SZTP-9646-2.2-01, SZTP-9646-2.2-02, SZTP-9646-2.3-02, SZTP-9646-4.1.4-01
#[test]
fn certificates_on_the_way() {
    let pki = testkit::Pki::p256(NOW).unwrap();
    let idevid = pki.idevid("SN-1").unwrap();
    let certificate: &Certificate = idevid.certificate().unwrap();
    let device = Device {
        serial: "SN-1",
        identity: Some(certificate),
    };
    let policy = Policy::default();
    let key = SoftwareKey::generate(KeyKind::EcdsaP256).unwrap();
    let csr = CsrBuilder::with_subject_der(certificate.subject_der())
        .unwrap()
        .sign(&key)
        .unwrap();
    let p10 = CsrInput::P10(csr.der().to_vec());
    let with = |csr: &CsrInput, preferred| GetBootstrappingDataInput {
        csr: Some(csr.clone()),
        ..input(preferred, None)
    };
    let base = |input| Facts {
        device: device.clone(),
        csr_policy: Some(&policy),
        ..facts(input, offer(Kind::Onboarding, true, false))
    };

    // The whole exchange: what is kept from the first request answers the second.
    let first = with(&support(), false);
    let Step::AskForCsr { request, error } = decide(&base(&first), NOW) else {
        panic!("a request for a CSR");
    };
    assert_eq!((error.status, error.code), (400, "sztp.csr-wanted"));
    assert_eq!(error.info.as_deref(), Some(&request));
    let asked = Asked { request, at: NOW };
    let second = with(&p10, false);
    let facts = Facts {
        asked: Some(&asked),
        ..base(&second)
    };
    let Step::Enrol(checked) = decide(&facts, NOW) else {
        panic!("an enrolment");
    };
    assert_eq!(checked.csr.der(), csr.der());
    let facts = Facts {
        enrolment: Enrolment::Issued,
        ..facts
    };
    assert_eq!(outcome(&decide(&facts, NOW)), "unsigned");
    let facts = Facts {
        enrolment: Enrolment::Failed("down".to_owned()),
        ..facts
    };
    assert_eq!(outcome(&decide(&facts, NOW)), "409 sztp.csr-ca");

    // Off the path.
    let no_policy = Facts {
        csr_policy: None,
        ..base(&first)
    };
    assert_eq!(outcome(&decide(&no_policy, NOW)), "unsigned");
    let no_policy = Facts {
        csr_policy: None,
        ..base(&second)
    };
    assert_eq!(
        outcome(&decide(&no_policy, NOW)),
        "400 sztp.csr-not-supported"
    );
    assert_eq!(
        outcome(&decide(&base(&second), NOW)),
        "400 sztp.csr-not-requested"
    );
    let redirect = Facts {
        staged: offer(Kind::Redirect, true, false),
        ..base(&first)
    };
    assert_eq!(outcome(&decide(&redirect, NOW)), "unsigned");
    // A device that does not trust the server gets no request for a CSR: nobody could sign it.
    let untrusted = with(&support(), true);
    let vouchers = [voucher(None, None)];
    let facts = Facts {
        staged: offer(Kind::Onboarding, true, true),
        vouchers: &vouchers,
        ..base(&untrusted)
    };
    let Step::Reply(reply) = decide(&facts, NOW) else {
        panic!("a reply");
    };
    assert_eq!(
        reply.protection,
        Protection::Signed(VoucherChoice::Stored(0))
    );
    assert_eq!(reply.notes.len(), 1);
}

/// Requirements: SZTP-8572-7.3-13, SZTP-8572-7.3-15, SZTP-8572-7.3-23
#[test]
fn every_progress_type() {
    assert_eq!(ProgressType::ALL.len(), 27);
    for progress in ProgressType::ALL {
        let mut report = ReportProgressInput::new(*progress, Some("x".to_owned()));
        report.ssh_host_keys.push(SshHostKey {
            algorithm: "ssh-ed25519".to_owned(),
            key_data: vec![0; 51],
        });
        for encoding in [sztp::Encoding::Json, sztp::Encoding::Xml] {
            let body = report.encode(encoding);
            let (read, _) =
                ReportProgressInput::decode(&body, encoding, &sztp::Leniency::strict()).unwrap();
            assert_eq!(read.progress, *progress);
            let is_complete = *progress == ProgressType::BootstrapComplete;
            assert_eq!(read.ssh_host_keys.len(), usize::from(is_complete));
        }
        let ProgressStep::Record { phase, is_warning } = decide_progress(&report, Roles::BOTH)
        else {
            panic!("{progress}");
        };
        let name = progress.as_str();
        let wanted = match name {
            "bootstrap-complete" => Some(Phase::Complete),
            "boot-image-installed-rebooting" => Some(Phase::Rebooting),
            "informational" => None,
            error if error.ends_with("-error") => Some(Phase::Failed),
            _ => Some(Phase::Working),
        };
        assert_eq!(phase, wanted, "{name}");
        assert_eq!(
            is_warning,
            name.ends_with("-error") || name.ends_with("-warning")
        );
        assert_eq!(ProgressType::parse(name), Some(*progress));
        let ProgressStep::Refuse(error) = decide_progress(&report, Roles::REDIRECT) else {
            panic!("{progress}");
        };
        assert_eq!((error.status, error.fault), (404, Fault::NotFound));
    }
}
