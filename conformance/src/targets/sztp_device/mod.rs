//! Target `sztp-device`: the suite is the bootstrap servers of a device of RFC 8572, those that it
//! trusts and those that it does not.

mod observed;
mod onboarding;
mod redirects;
mod requests;
mod scene;
mod signed;
mod transport;

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
        x509::{Authority, Identity, SERVER_AUTH, name},
    },
    outcome::{Finding, OrCouldNotTest as _},
    profile::Profile,
    role::{Feature, Plan, Prepared, Role, Setup, Target},
    stage::{Launcher, Tls},
    workshop::Workshop,
};

pub(crate) use scene::{
    Asking, Data, Run, Scene, signed_image, unsigned_configuration, unsigned_image,
};

/// The role.
pub static SZTP_DEVICE: SztpDeviceRole = SztpDeviceRole;

/// A device of RFC 8572.
pub struct SztpDeviceRole;

const MAKER: &str = "Conformance Manufacturer";

const FEATURES: &[Feature] = &[
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
        name: "nonce",
        means: "the device sends a nonce, and takes no voucher with another",
        usual: false,
    },
    Feature {
        name: "dhcp",
        means: "the device takes the address of a server from DHCP: the placeholder {dhcp}",
        usual: true,
    },
    Feature {
        name: "xml",
        means: "conveyed information may be XML as well as JSON",
        usual: true,
    },
    Feature {
        name: "boot-image",
        means: "boot images are fetched over https",
        usual: true,
    },
    Feature {
        name: "os-version",
        means: "the device runs settings.os_name in settings.os_version and says so to servers it trusts",
        usual: true,
    },
    Feature {
        name: "scripts",
        means: "scripts are run; settings.failing_script is one that fails",
        usual: false,
    },
    Feature {
        name: "host-keys",
        means: "bootstrap-complete carries SSH host keys",
        usual: false,
    },
    Feature {
        name: "decrypt",
        means: "artefacts that are encrypted to the IDevID are decrypted",
        usual: false,
    },
    Feature {
        name: "csr",
        means: "certification requests with a new key (RFC 9646)",
        usual: false,
    },
    Feature {
        name: "rounds",
        means: "{rounds} says how often all sources are tried",
        usual: true,
    },
];

impl Role for SztpDeviceRole {
    fn target(&self) -> Target {
        Target::SztpDevice
    }

    fn features(&self) -> &'static [Feature] {
        FEATURES
    }

    fn cases(&self) -> Vec<Case> {
        let mut cases = observed::cases();
        cases.extend(signed::cases());
        cases.extend(redirects::cases());
        cases.extend(onboarding::cases());
        cases.extend(requests::cases());
        cases.extend(transport::cases());
        cases
    }

    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let now = clock::now();
        let workshop = Workshop::create(&plan.folder)?;
        let devices = workshop.make_root("device-ca", MAKER, "Device CA", now)?;
        workshop.make_root("voucher-ca", MAKER, "Voucher CA", now)?;
        workshop.make_root("server-ca", MAKER, "Server CA", now)?;
        let device = devices.device(
            MAKER,
            "CONF-SZTP-SAMPLE",
            None,
            &workshop.key("sample")?,
            now,
        );
        workshop.export("device", &device)?;
        let mut profile = Profile::new(Target::SztpDevice);
        profile.suite.listen = format!("0.0.0.0:{}", plan.suite_port);
        for (name, value) in [
            ("host", plan.suite_host.as_str()),
            ("device_anchors", "device-ca.pem"),
            ("os_name", "conformance-os"),
            ("os_version", "1.0"),
            ("failing_script", "#!/bin/sh\nexit 3\n"),
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
        Ok(Arc::new(SztpDevice::new(setup)?))
    }
}

const COMMAND: &[&str] = &[
    "usher",
    "device",
    "sztp",
    "--server={url}",
    "--dhcp-option={dhcp}",
    "--idevid",
    "{idevid}",
    "--key",
    "{key}",
    "--voucher-anchors",
    "{voucher_anchors}",
    "--server-anchors",
    "{server_anchors}",
    "--state",
    "{state}",
    "--os-name",
    "conformance-os",
    "--os-version",
    "1.0",
    "--rounds",
    "{rounds}",
];

const INSTRUCTIONS: &str = "\
# Testing a device of RFC 8572

The suite is bootstrap servers. There are two ways.

**A program.** `settings.command` in `profile.toml` starts the device, once for each case, in a
folder of its own. These placeholders are filled in:

| placeholder | what |
|---|---|
| `{url}`, `{host}`, `{port}` | the bootstrap server that the device knows from its manufacturer |
| `{dhcp}` | data of DHCP option 143 in hexadecimal, in cases in which the device learns of a server that way and `{url}` is empty |
| `{idevid}`, `{key}` | PEM files: the device's certificate with its chain, and its key |
| `{voucher_anchors}` | PEM file: what vouchers chain up to |
| `{server_anchors}` | PEM file: what bootstrap servers chain up to |
| `{state}` | an empty folder for what the device remembers |
| `{serial}` | the serial number in the certificate |
| `{rounds}` | after how many rounds over its sources it shall give up |

An argument with a placeholder that is empty in a case is left out: `--server={url}`. The program
has to end when it is bootstrapped or has given up; a device that goes on for ever works, and
costs `settings.quiet_seconds` a case. An install of a boot image counts as done when the program
says so over report-progress or ends; if it has to be started again, do that in the command.

**A box.** Empty `settings.command`. The device knows the bootstrap server `https://{host}:{port}`,
has `voucher-ca.pem` and `server-ca.pem` as anchors, and an IDevID of `device-ca.pem`: `device.pem`
with `private/device.key`, or its own (then put its issuer into `device-ca.pem`). Run with
`--power-cycle CMD`, where CMD sets it back to factory state and switches it off and on, or do that
by hand when the suite asks.

Whether a device believed what it was given shows in what it does next: most cases convey a boot
image that lies on the suite's server, and look whether it is fetched.

Then set `implementation`, `claims` and `suite.listen` in `profile.toml` and run

    usher-conformance run --target sztp-device --profile profile.toml --out report
";

/// What the cases share.
pub(crate) struct SztpDevice {
    pub(crate) launcher: Launcher,
    pub(crate) devices: Authority,
    pub(crate) device_anchors: Vec<Certificate>,
    /// Who signs vouchers.
    pub(crate) masa: Authority,
    /// Has the name of `masa` and another key.
    pub(crate) forger: Authority,
    /// Who issues to servers that the device trusts.
    pub(crate) web: Authority,
    /// The owner's CA, which vouchers pin.
    pub(crate) owner: Authority,
    /// Somebody else's CA.
    pub(crate) stranger: Authority,
    pub(crate) at: OffsetDateTime,
    pub(crate) patience: Duration,
    pub(crate) has_dhcp: bool,
    pub(crate) os: (String, String),
    pub(crate) failing_script: String,
    trusted: OnceCell<Result<Run, Finding>>,
    untrusted: OnceCell<Result<Run, Finding>>,
}

impl SztpDevice {
    fn new(setup: &Setup<'_>) -> Result<Self> {
        let profile = setup.profile;
        let workshop = Workshop::open(setup.folder)?;
        let at = clock::now();
        let anchors = profile
            .file(setup.folder, "device_anchors")
            .context("the profile lacks settings.device_anchors")?;
        let setting = |name: &str| profile.text(name).unwrap_or_default().to_owned();
        let root = |organization: &str, common_name: &str, key: &str| -> Result<Authority> {
            Ok(Authority::root(
                organization,
                common_name,
                workshop.key(key)?,
                at,
            ))
        };
        Ok(Self {
            launcher: Launcher::new(profile, setup.folder)?,
            devices: workshop.root("device-ca")?,
            device_anchors: Certificate::load_all(&anchors)
                .with_context(|| anchors.display().to_string())?,
            masa: workshop.root("voucher-ca")?,
            forger: root(MAKER, "Voucher CA", "forger")?,
            web: workshop.root("server-ca")?,
            owner: root("Conformance Owner", "Owner CA", "owner")?,
            stranger: root("Somebody Else", "Their CA", "stranger")?,
            at,
            patience: profile.timing.case().saturating_sub(Duration::from_secs(5)),
            has_dhcp: profile.claims("dhcp"),
            os: (setting("os_name"), setting("os_version")),
            failing_script: setting("failing_script"),
            trusted: OnceCell::new(),
            untrusted: OnceCell::new(),
        })
    }

    /// A server's certificate under a CA.
    pub(crate) fn server_of(&self, ca: &Authority) -> Result<Tls, Finding> {
        self.server_named(ca, &[self.launcher.host()])
    }

    /// The same for other names.
    pub(crate) fn server_named(&self, ca: &Authority, hosts: &[&str]) -> Result<Tls, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        let server = ca.issue(&name("", "Bootstrap Server", None), &key, self.at, |it| {
            it.purposes(&[SERVER_AUTH]).hosts(hosts)
        });
        Ok(Tls::new(&server))
    }

    /// Someone below a CA who may sign.
    pub(crate) fn signer_of(&self, ca: &Authority, common_name: &str) -> Result<Identity, Finding> {
        let key = Key::generate().or_could_not_test("a key")?;
        Ok(ca.issue(&name("", common_name, None), &key, self.at, |it| it))
    }

    /// Onboarding by a server that the device trusts. It happens once, and many cases look at it.
    pub(crate) async fn trusted(&self, record: &Recorder) -> Result<Run, Finding> {
        let is_known = self.trusted.initialized();
        let run = self
            .trusted
            .get_or_init(|| async {
                self.play(record, Scene::trusted(self, unsigned_configuration)?)
                    .await
            })
            .await
            .clone();
        if let (Ok(run), true) = (&run, is_known) {
            run.show(record);
        }
        run
    }

    /// Onboarding with signed data by a server that the device does not trust. It happens once.
    pub(crate) async fn untrusted(&self, record: &Recorder) -> Result<Run, Finding> {
        let is_known = self.untrusted.initialized();
        let run = self
            .untrusted
            .get_or_init(|| async {
                self.play(record, Scene::untrusted(self, signed_image)?)
                    .await
            })
            .await
            .clone();
        if let (Ok(run), true) = (&run, is_known) {
            run.show(record);
        }
        run
    }
}
