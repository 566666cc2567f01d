//! What a device is to be given: by rule, by rollout, signed or not, encrypted or not.

use store::{Store, params};
use sztp::server::{self, Kind, Offer, Want};

use super::build::{Content, What};
use super::engine::{Live, Settings};
use super::rollout::{self, Choice};
use super::rules::{Encrypt, Subject, Target};
use super::{Facts, Refusal};
use crate::Error;
use crate::config::Role;
use crate::profile::{Quirk, Signing};
use crate::register::{self, VoucherRow};

/// How far the decision goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A device is given it.
    Serve,
    /// Nobody is given it; nothing is written down.
    Look,
    /// Nobody is given it yet; what was made is kept.
    Prebuild,
    /// It goes onto removable storage: signed, and no way to this server. Nothing is written down.
    Stick,
}

/// How a decision came about, line by line.
#[derive(Debug, Default)]
pub(crate) struct Trace(Option<Vec<String>>);

impl Trace {
    pub(crate) const fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            lines.push(line());
        }
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.0.unwrap_or_default()
    }
}

/// What rules look at: what the device says, and where it says nothing, what the register says.
pub(crate) fn subject(facts: &Facts) -> Subject<'_> {
    let device = &facts.device;
    let some = |text: &'_ str| -> bool { !text.is_empty() };
    Subject {
        vendor: &device.vendor,
        serial: &device.serial,
        group: Some(device.group.as_str()).filter(|text| some(text)),
        site: Some(device.site.as_str()).filter(|text| some(text)),
        device_type: Some(device.device_type.as_str()).filter(|text| some(text)),
        hw_model: facts.hw_model.as_deref().or(device.hw_model.as_deref()),
        os_name: facts.os_name.as_deref().or(device.os_name.as_deref()),
        os_version: facts.os_version.as_deref().or(device.os_version.as_deref()),
    }
}

/// What the rule's target is for this device, and the rollout that it then counts for.
pub(super) async fn target(
    store: &Store,
    facts: &Facts,
    live: &Live,
    target: &Target,
    trace: &mut Trace,
) -> Result<(What, Option<i64>), Refusal> {
    let (name, version) = match target {
        Target::Hold => {
            trace.say(|| "the rule holds the device back".to_owned());
            return Err(Refusal::Held);
        }
        Target::Redirect { name } => return Ok((What::Redirect(name.clone()), None)),
        Target::Bundle { name, version } => (name, version),
    };
    let bundle = |version: &str| What::Bundle {
        name: name.clone(),
        version: version.to_owned(),
    };
    if let Some(version) = version {
        return Ok((bundle(version), None));
    }
    let document = &live.content.document;
    let Some((_, plan)) = document.rollout_of(name) else {
        let versions = document.bundles.get(name);
        let only = versions.and_then(|versions| versions.keys().next());
        let only = only.ok_or_else(|| {
            Refusal::Unusable(format!("there is no bundle {name:?} in this revision"))
        })?;
        return Ok((bundle(only), None));
    };
    let rollout = live
        .rollouts
        .iter()
        .find(|r| r.bundle == plan.bundle && r.from == plan.from && r.to == plan.to);
    let device = &facts.device;
    let site = Some(device.site.as_str()).filter(|site| !site.is_empty());
    let choice = rollout::choose(plan, rollout, &device.vendor, &device.serial, site);
    let (version, enrol) = match choice {
        Choice::Old(why) => {
            trace.say(|| format!("version {}: {why}", plan.from));
            (&plan.from, None)
        }
        Choice::New => {
            trace.say(|| format!("version {}: the rollout has come to it", plan.to));
            (&plan.to, rollout.map(|rollout| rollout.id))
        }
        Choice::Everybody => {
            trace.say(|| format!("version {}: the rollout is finished", plan.to));
            (&plan.to, None)
        }
        Choice::IfEnrolled => {
            let id = rollout.map_or(0, |rollout| rollout.id);
            let enrolled = rollout::is_enrolled(store, id, device.id).await?;
            let version = if enrolled { &plan.to } else { &plan.from };
            trace.say(|| format!("version {version}: the rollout is paused"));
            (version, None)
        }
    };
    Ok((bundle(version), enrol))
}

/// Whether what is given is signed, and the voucher that goes with it.
pub(super) async fn sign_or_not(
    store: &Store,
    facts: &Facts,
    settings: &Settings,
    live: &Live,
    mut what: What,
    mode: Mode,
    trace: &mut Trace,
) -> Result<Decided, Refusal> {
    let signing = facts.profile.signing();
    let asked = facts.signed_data_preferred;
    let onboarding = matches!(what, What::Bundle { .. });
    let offer = Offer {
        kind: if onboarding {
            Kind::Onboarding
        } else {
            Kind::Redirect
        },
        unsigned: signing != Signing::Always,
        signed: signing != Signing::Never,
        reporting_level: None,
    };
    // SZTP-8572-7.3-02, SZTP-8572-7.3-03: signed data or unsigned redirect information for a
    // device that asked for signed data, and never unsigned onboarding information.
    let want = server::want(offer, asked || mode == Mode::Stick)
        .map_err(|_| Refusal::Unsigned("its profile says that such devices get none".to_owned()))?;
    if want == Want::Unsigned {
        trace.say(|| "unsigned: the device trusts this server".to_owned());
        return Ok(Decided {
            what,
            voucher: None,
        });
    }
    let voucher = voucher(store, facts, settings, mode, trace).await;
    match voucher {
        Ok(row) => {
            // SZTP-8572-9.6-04: an untrusted connection is promoted to a trusted one.
            if let Some(promotion) = &live.content.document.promotion
                && asked
                && mode != Mode::Stick
                && onboarding
                && settings.role != Role::Onboarding
            {
                trace.say(|| {
                    "promoted: a signed redirect to this server comes before anything else"
                        .to_owned()
                });
                what = What::Redirect(promotion.redirect.clone());
            }
            trace.say(|| format!("signed, with voucher {}", row.id));
            Ok(Decided {
                what,
                voucher: Some(row),
            })
        }
        // SZTP-8572-7.3-02: signed data or unsigned redirect information.
        Err(refusal @ (Refusal::Unsigned(_) | Refusal::NoVoucher(_)))
            if want == Want::SignedIfPossible =>
        {
            trace.say(|| format!("unsigned redirect information: {refusal}"));
            Ok(Decided {
                what,
                voucher: None,
            })
        }
        Err(refusal) => Err(refusal),
    }
}

async fn voucher(
    store: &Store,
    facts: &Facts,
    settings: &Settings,
    mode: Mode,
    trace: &mut Trace,
) -> Result<VoucherRow, Refusal> {
    let Some(owner) = &settings.owner else {
        return Err(Refusal::Unsigned(
            "this server has no owner certificate".to_owned(),
        ));
    };
    let nonce = facts.nonce.as_deref().filter(|_| mode != Mode::Prebuild);
    let mut reader = store.reader().await.map_err(Error::from)?;
    let id = facts.device.id;
    let mut row = register::voucher_for(&mut reader, id, nonce, facts.now).await?;
    if row.is_none() && facts.profile.has(Quirk::ModuleSerial) {
        let aliases = reader
            .fetch_all(
                "SELECT id FROM device WHERE alias_of = $1 ORDER BY id LIMIT 100",
                params![id],
            )
            .await
            .map_err(Error::from)?;
        for alias in aliases {
            let alias = alias.integer("id").map_err(Error::from)?;
            row = register::voucher_for(&mut reader, alias, nonce, facts.now).await?;
            if row.is_some() {
                trace.say(|| "the voucher is for another serial number of it".to_owned());
                break;
            }
        }
    }
    let row = row.ok_or_else(|| {
        Refusal::NoVoucher("no voucher for it is in the register, or all have ended".to_owned())
    })?;
    if !owner.pins.contains(&row.pin_sha256) {
        return Err(Refusal::NoVoucher(format!(
            "voucher {} pins another owner's certificate",
            row.id
        )));
    }
    Ok(row)
}

/// What it comes to.
pub(super) struct Decided {
    pub(super) what: What,
    pub(super) voucher: Option<VoucherRow>,
}

pub(super) fn explain_rules(content: &Content, subject: &Subject<'_>, trace: &mut Trace) {
    if trace.0.is_none() {
        return;
    }
    for (rule, mismatch) in content.rules.explain(subject) {
        trace.say(|| match mismatch {
            None => format!("rule {:?} matches: {}", rule.name, rule.target),
            Some(mismatch) => format!(
                "rule {:?} does not match: {} is {}, not {}",
                rule.name,
                mismatch.condition,
                mismatch.found.as_deref().unwrap_or("not known"),
                mismatch.wanted
            ),
        });
    }
}

pub(super) fn check_role(role: Role, what: &What) -> Result<(), Refusal> {
    // SZTP-8572-1.2-01, SZTP-8572-1.2-02.
    match (role, what) {
        (Role::Redirect, What::Bundle { .. }) => Err(Refusal::RoleMismatch(
            "a redirect server gives no onboarding information".to_owned(),
        )),
        (Role::Onboarding, What::Redirect(_)) => Err(Refusal::RoleMismatch(
            "an onboarding server gives no redirect information".to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(super) fn recipient(
    facts: &Facts,
    encrypt: Encrypt,
    trace: &mut Trace,
) -> Result<Option<pki::Certificate>, Refusal> {
    let identity = || {
        let certificate = facts.identity.as_ref()?;
        let able = certificate.may_encipher_keys() || certificate.may_agree_on_keys();
        able.then(|| certificate.clone())
    };
    match (encrypt, identity()) {
        (Encrypt::Never, _) => Ok(None),
        (Encrypt::Possible | Encrypt::Always, Some(certificate)) => {
            trace.say(|| format!("encrypted to {}", certificate.subject()));
            Ok(Some(certificate))
        }
        (Encrypt::Possible, None) => {
            trace.say(|| "not encrypted: no certificate of the device allows it".to_owned());
            Ok(None)
        }
        (Encrypt::Always, None) => Err(Refusal::Unusable(
            "the rule demands encryption, and no certificate of the device allows it".to_owned(),
        )),
    }
}

/// A device compares its version with that of the boot image (RFC 8572 §5.6). One that is not told
/// the version cannot, and would install the same image for ever.
pub(super) fn skips_image(
    content: &Content,
    what: &What,
    facts: &Facts,
    trace: &mut Trace,
) -> bool {
    let What::Bundle { name, version } = what else {
        return false;
    };
    let image = content
        .bundle(name, version)
        .and_then(|bundle| bundle.image.as_ref())
        .and_then(|image| content.document.images.get(image));
    let Some(image) = image else { return false };
    let same = |ours: &Option<String>, theirs: &Option<String>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => false,
    };
    let installed = same(&image.os_version, &facts.os_version)
        && (image.os_name.is_none()
            || facts.os_name.is_none()
            || same(&image.os_name, &facts.os_name));
    if !installed {
        return false;
    }
    // SZTP-8572-6.3-08: otherwise os-name and os-version let the device decide.
    if !facts.profile.has(Quirk::OmitOsNames) {
        trace.say(|| "the device runs this image already, and will see that itself".to_owned());
        return false;
    }
    trace.say(|| "the device runs this image already, so it is left out".to_owned());
    true
}
