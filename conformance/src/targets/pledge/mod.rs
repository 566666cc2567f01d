//! Target `pledge`: the suite is the registrar and the MASA of a device that speaks BRSKI over
//! HTTPS, and most of the time it is a bad one.

mod enrolment;
mod exchange;
mod observed;
mod scene;
mod telemetry;
mod transport;
mod vouchers;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use pki::Certificate;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use crate::{
    case::{Case, Kit},
    clock,
    evidence::Recorder,
    forge::{
        key::Key,
        x509::{Authority, Identity, name},
    },
    inspect::Envelope,
    outcome::{Finding, OrCouldNotTest as _},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    stage::Launcher,
    workshop::Workshop,
};

pub(crate) use scene::{Asked, Run, Scene};

/// The role.
pub static PLEDGE: PledgeRole = PledgeRole;

/// A device that speaks BRSKI over HTTPS.
pub struct PledgeRole;

/// The manufacturer whose device the suite makes.
const MAKER: &str = "Conformance Manufacturer";

const FEATURES: &[Feature] = &[
    Feature {
        name: "cms",
        means: "vouchers in CMS (RFC 8995)",
        usual: true,
    },
    Feature {
        name: "jws",
        means: "vouchers in JWS; the placeholder {format} of the command says which",
        usual: false,
    },
    Feature {
        name: "clock",
        means: "the device has a clock that it trusts, and judges dates",
        usual: true,
    },
    Feature {
        name: "no-clock",
        means: "the device has no clock that it trusts, and judges no dates",
        usual: false,
    },
    Feature {
        name: "nonceless",
        means: "vouchers without a nonce are accepted",
        usual: true,
    },
    Feature {
        name: "assertion-logged",
        means: "a voucher may assert logged",
        usual: true,
    },
    Feature {
        name: "retries",
        means: "after a failure the device tries again within a minute; {attempts} says how often",
        usual: true,
    },
    Feature {
        name: "restart",
        means: "the command started again with the same {state} is the same device",
        usual: true,
    },
    Feature {
        name: "redirects",
        means: "one redirect to another origin is followed",
        usual: true,
    },
    Feature {
        name: "csrattrs-keys",
        means: "csrattrs decides about key, signature algorithm and extensions",
        usual: true,
    },
    Feature {
        name: "csrattrs-template",
        means: "the template of RFC 9908 is understood",
        usual: true,
    },
    Feature {
        name: "channel-binding",
        means: "challengePassword is tls-unique in TLS 1.2 when csrattrs asks for it",
        usual: false,
    },
    Feature {
        name: "own-idevid",
        means: "the device has its manufacturer's identity and not one that the suite made",
        usual: false,
    },
];

impl Role for PledgeRole {
    fn target(&self) -> Target {
        Target::Pledge
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = observed::cases();
        cases.extend(telemetry::cases());
        cases.extend(vouchers::cases());
        cases.extend(exchange::cases());
        cases.extend(transport::cases());
        cases.extend(enrolment::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        let devices = workshop.make_root("device-ca", MAKER, "Device CA", now)?;
        workshop.make_root("voucher-ca", MAKER, "Voucher CA", now)?;
        let device = devices.device(
            MAKER,
            "CONF-PLEDGE-SAMPLE",
            Some(&format!("{}:{}", plan.suite_host, plan.suite_port)),
            &workshop.key("sample")?,
            now,
        );
        workshop.export("device", &device)?;
        let mut profile = Profile::new(Target::Pledge);
        profile.suite.listen = format!("0.0.0.0:{}", plan.suite_port);
        for (name, value) in [
            ("host", plan.suite_host.as_str()),
            ("device_anchors", "device-ca.pem"),
        ] {
            profile.settings.insert(name.into(), value.into());
        }
        let command: Vec<toml::Value> = COMMAND.iter().map(|&word| word.into()).collect();
        profile.settings.insert("command".into(), command.into());
        profile.settings.insert("quiet_seconds".into(), 15.into());
        Ok(Prepared {
            instructions: INSTRUCTIONS
                .replace("{host}", &plan.suite_host)
                .replace("{port}", &plan.suite_port.to_string()),
            profile,
        })
    }

    fn start(&self, setup: &Setup<'_>) -> Result<Kit> {
        Ok(Arc::new(Pledge::new(setup)?))
    }
}

const COMMAND: &[&str] = &[
    "usher",
    "device",
    "brski",
    "--registrar",
    "{url}",
    "--idevid",
    "{idevid}",
    "--key",
    "{key}",
    "--masa-anchors",
    "{anchors}",
    "--state",
    "{state}",
    "--format",
    "{format}",
    "--attempts",
    "{attempts}",
];

const INSTRUCTIONS: &str = "\
# Testing a device that speaks BRSKI

The suite is the registrar and the manufacturer's MASA. There are two ways.

**A program.** `settings.command` in `profile.toml` starts the device, once for each case, in a
folder of its own. These placeholders are filled in:

| placeholder | what |
|---|---|
| `{url}`, `{host}`, `{port}` | where the registrar is |
| `{idevid}`, `{key}` | PEM files: the device's certificate with its chain, and its key |
| `{anchors}` | PEM file: what MASA signatures chain up to |
| `{state}` | an empty folder for what the device remembers |
| `{serial}` | the serial number in the certificate |
| `{format}` | `cms` or `jws` |
| `{attempts}` | after how many failures it shall give up |

It has to end when it is enrolled or has given up; a device that goes on for ever works, and costs
`settings.quiet_seconds` a case.

**A box.** Empty `settings.command`. The device finds the registrar at `https://{host}:{port}` (by
whatever discovery it has, or a fixed address), has `voucher-ca.pem` as the anchor of its MASA, and
an IDevID of `device-ca.pem`: `device.pem` with `private/device.key`, or its own (then put its
issuer into `device-ca.pem` and claim `own-idevid`). Run with `--power-cycle CMD`, where CMD sets
it back to factory state and switches it off and on, or do that by hand when the suite asks.

Then set `implementation`, `claims` and `suite.listen` in `profile.toml` and run

    usher-conformance run --target pledge --profile profile.toml --out report
";

/// What the cases share.
pub(crate) struct Pledge {
    pub(crate) launcher: Launcher,
    /// Who makes devices.
    pub(crate) devices: Authority,
    pub(crate) device_anchors: Vec<Certificate>,
    /// Who signs vouchers.
    pub(crate) masa: Authority,
    /// Has the same name as `masa` and another key.
    pub(crate) forger: Authority,
    /// The owner's CA.
    pub(crate) domain: Authority,
    /// Somebody else's CA.
    pub(crate) stranger: Authority,
    pub(crate) at: OffsetDateTime,
    pub(crate) patience: Duration,
    good: OnceCell<Result<Run, Finding>>,
    good_jws: OnceCell<Result<Run, Finding>>,
    bad: OnceCell<Result<Run, Finding>>,
}

impl Pledge {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let profile = setup.profile;
        let workshop = Workshop::open(setup.folder)?;
        let at = clock::now();
        let anchors = profile
            .file(setup.folder, "device_anchors")
            .context("the profile lacks settings.device_anchors")?;
        let masa = workshop.root("voucher-ca")?;
        let mut forger = masa.clone();
        forger.signatory.key = workshop.key("forger")?;
        let certificate = Authority::root(MAKER, "Voucher CA", forger.signatory.key.clone(), at);
        forger.signatory.certificate = certificate.certificate().to_vec();
        Ok(Self {
            launcher: Launcher::new(profile, setup.folder)?,
            devices: workshop.root("device-ca")?,
            device_anchors: Certificate::load_all(&anchors)
                .with_context(|| anchors.display().to_string())?,
            masa,
            forger,
            domain: Authority::root(
                "Conformance Domain",
                "Domain CA",
                workshop.key("domain")?,
                at,
            ),
            stranger: Authority::root("Somebody Else", "Their CA", workshop.key("stranger")?, at),
            at,
            patience: profile.timing.case().saturating_sub(Duration::from_secs(5)),
            good: OnceCell::new(),
            good_jws: OnceCell::new(),
            bad: OnceCell::new(),
        })
    }

    /// A registrar of a CA.
    pub(crate) fn registrar_of(&self, ca: &Authority) -> Result<Identity, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        Ok(ca.registrar(
            "Registrar",
            &[self.launcher.host(), "localhost"],
            &key,
            self.at,
        ))
    }

    /// Who signs vouchers below a CA.
    pub(crate) fn signer_of(&self, ca: &Authority) -> Result<Identity, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        Ok(ca.issue(&name(MAKER, "MASA", None), &key, self.at, |it| it))
    }

    /// An enrolment in which nothing is wrong. It happens once, and many cases look at it.
    pub(crate) async fn good(&self, record: &Recorder, envelope: Envelope) -> Result<Run, Finding> {
        let cell = match envelope {
            Envelope::Cms => &self.good,
            Envelope::Jws => &self.good_jws,
        };
        let is_known = cell.initialized();
        let run = cell
            .get_or_init(|| async { self.play(record, Scene::new(self, envelope)?).await })
            .await
            .clone();
        if let (Ok(run), true) = (&run, is_known) {
            run.show(record);
        }
        run
    }

    /// A voucher with another nonce. It happens once, and several cases look at it.
    pub(crate) async fn bad(&self, record: &Recorder) -> Result<Run, Finding> {
        let is_known = self.bad.initialized();
        let run = self
            .bad
            .get_or_init(|| async {
                let scene = Scene::new(self, Envelope::Cms)?
                    .voucher(|asked| asked.answer(asked.leaves().binary("nonce", &[0x55; 16])));
                self.play(record, scene).await
            })
            .await
            .clone();
        if let (Ok(run), true) = (&run, is_known) {
            run.show(record);
        }
        run
    }
}
