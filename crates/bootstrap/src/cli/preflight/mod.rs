//! `usher bootstrap preflight SN`: everything that a device needs, looked at before it is powered
//! on, with what to do about what is not right.

mod network;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use artifacts::bundle::{BootstrappingData, DeviceContext, judge};
use artifacts::conveyed::ConveyedInformation;
use artifacts::verify::CheckResult;
use artifacts::{Encoding, SerialNumber};
use clap::Args;
use daemon::Outcome;
use daemon::cli::plain;
use pki::Coded as _;
use pki::path::Anchors;
use serde::Serialize;
use store::Store;
use time::OffsetDateTime;

use super::Context;
use super::text::{when, when_or};
use crate::content::{Engine, Facts, Prepared, Refusal};
use crate::profile::{Profile, Profiles, Signing};
use crate::register::live::reader;
use crate::register::{DeviceRow, check_voucher, find_device, voucher_for};
use crate::vendor::{Use, Vendor};
use crate::{Config, Error};

/// No clock that is right shows less.
const EARLIEST: i64 = 1_750_000_000;
/// What ends sooner than this is warned of.
const WARNING: time::Duration = time::Duration::days(30);

#[derive(Debug, Args)]
pub(super) struct PreflightArguments {
    /// Serial number, or VENDOR/SERIAL.
    serial: String,
    /// Its vendor, if several use the same number.
    #[arg(long)]
    vendor: Option<String>,
    /// What the device will say that it is.
    #[arg(long)]
    hw_model: Option<String>,
    /// What it will say that it runs.
    #[arg(long)]
    os_name: Option<String>,
    /// The version of it.
    #[arg(long)]
    os_version: Option<String>,
    /// The URL of the DHCP option, if it is not [content] base_url.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Connect here, whatever the host name in the URL resolves to from this machine.
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Option<SocketAddr>,
    /// PEM file with what the device trusts for TLS; without it, the root of our own chain.
    #[arg(long, value_name = "PEM")]
    tls_anchors: Option<PathBuf>,
    /// Do not connect to anything.
    #[arg(long)]
    offline: bool,
    /// Do not read images to compute their hashes, only see whether they are there.
    #[arg(long)]
    no_download: bool,
    /// Warnings count as failures.
    #[arg(long)]
    strict: bool,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// As it should be.
    Pass,
    /// It works, and somebody should look at it.
    Warning,
    /// The device would not come up.
    Fail,
    /// It could not be looked at.
    NotMade,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) code: String,
    pub(crate) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// The checks of one device.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    pub(crate) vendor: String,
    pub(crate) serial: String,
    /// The rule that chose what it gets, and what that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    pub(crate) checks: Vec<Check>,
}

impl Report {
    fn add(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        code: &str,
        detail: impl Into<String>,
        fix: Option<String>,
    ) {
        self.checks.push(Check {
            name,
            verdict,
            code: code.to_owned(),
            detail: detail.into(),
            fix,
        });
    }

    fn pass(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Verdict::Pass, "ok", detail, None);
    }

    fn warn(&mut self, name: &'static str, code: &str, detail: impl Into<String>, fix: &str) {
        self.add(name, Verdict::Warning, code, detail, Some(fix.to_owned()));
    }

    fn fail(&mut self, name: &'static str, code: &str, detail: impl Into<String>, fix: &str) {
        self.add(name, Verdict::Fail, code, detail, Some(fix.to_owned()));
    }

    fn not_made(&mut self, name: &'static str, why: impl Into<String>) {
        self.add(
            name,
            Verdict::NotMade,
            "bootstrap.preflight-not-made",
            why,
            None,
        );
    }
}

pub(super) async fn run(
    context: &Context,
    arguments: &PreflightArguments,
) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let now = context.clock.now();
    let result = preflight(&config, &store, arguments, now).await;
    store.close().await;
    let mut report = result?;
    report.ok = report.checks.iter().all(|check| match check.verdict {
        Verdict::Pass | Verdict::NotMade => true,
        Verdict::Warning => !arguments.strict,
        Verdict::Fail => false,
    });
    context.format.print(&report, text);
    Ok(Outcome::of(report.ok))
}

fn text(report: &Report) -> String {
    let width = report.checks.iter().map(|check| check.name.len()).max();
    let width = width.unwrap_or_default();
    let mut lines = vec![format!("{}  {}", plain(&report.serial), report.vendor)];
    for check in &report.checks {
        let word = match check.verdict {
            Verdict::Pass => "ok",
            Verdict::Warning => "warn",
            Verdict::Fail => "FAIL",
            Verdict::NotMade => "-",
        };
        let code = match check.verdict {
            Verdict::Warning | Verdict::Fail => format!(" [{}]", check.code),
            Verdict::Pass | Verdict::NotMade => String::new(),
        };
        lines.push(format!(
            "{word:4}  {:width$}  {}{code}",
            check.name,
            plain(&check.detail)
        ));
        if let Some(fix) = &check.fix {
            lines.push(format!("      {:width$}  -> {}", "", plain(fix)));
        }
    }
    lines.push(
        if report.ok {
            "ready: power it on"
        } else {
            "not ready"
        }
        .to_owned(),
    );
    lines.join("\n")
}

async fn preflight(
    config: &Config,
    store: &Store,
    arguments: &PreflightArguments,
    now: OffsetDateTime,
) -> Result<Report, Error> {
    let mut snapshot = store.snapshot().await?;
    let named = arguments.vendor.as_deref();
    let device = find_device(&mut snapshot, &arguments.serial, named).await?;
    drop(snapshot);
    let mut report = Report {
        vendor: device.vendor.clone(),
        serial: device.serial.clone(),
        ..Report::default()
    };
    register(&mut report, &device);
    clock(&mut report, now);
    owner(&mut report, config, now);
    let vendors = super::vouchers::vendors_of(config, None)?;
    let vendor = vendors.iter().find(|one| one.file.name == device.vendor);
    trust(&mut report, vendor, &device, now);
    let profile = profile_of(config, vendor, &device)?;
    voucher(&mut report, config, store, vendor, &device, &profile, now).await?;
    content(
        &mut report,
        config,
        store,
        arguments,
        vendor,
        &device,
        &profile,
        now,
    )
    .await?;
    let url = arguments
        .url
        .clone()
        .or_else(|| config.content.base_url.clone());
    network::dhcp(&mut report, url.as_deref(), &profile);
    network::tls(&mut report, config, arguments, url.as_deref(), now).await;
    Ok(report)
}

fn register(report: &mut Report, device: &DeviceRow) {
    let serial = &device.serial;
    if !device.state.is_ours() {
        report.fail(
            "register",
            "bootstrap.device-released",
            format!("the device is {}", device.state),
            "import it again with --overwrite if it is ours after all",
        );
    } else if let Some(reason) = &device.blocked {
        report.fail(
            "register",
            "bootstrap.device-blocked",
            format!("blocked: {reason}"),
            &format!("`usher bootstrap devices set {serial} --unblock`"),
        );
    } else {
        let detail = format!(
            "{}, group {:?}, site {:?}, type {:?}",
            device.state, device.group, device.site, device.device_type
        );
        report.pass("register", detail);
    }
}

fn clock(report: &mut Report, now: OffsetDateTime) {
    if now.unix_timestamp() < EARLIEST {
        let fix = "set the clock; everything below is judged by it";
        report.fail("clock", "bootstrap.clock", when(now), fix);
    } else {
        report.pass("clock", when(now));
    }
}

fn owner(report: &mut Report, config: &Config, now: OffsetDateTime) {
    const NAME: &str = "owner certificate";
    match config.load_owner() {
        Ok(None) => report.warn(
            NAME,
            "bootstrap.owner-missing",
            "there is none: a device that does not trust this server gets nothing",
            "see [owner] in docs/samples/bootstrap.toml",
        ),
        Err(error) => report.fail(NAME, error.code(), error.to_string(), "`owner install`"),
        Ok(Some(owner)) => {
            let identity = &owner.identity;
            let key = identity.signer.as_ref();
            let list = super::owner::findings(&identity.chain, &owner.ca, key, now);
            for (what, fix) in &list {
                if what.starts_with("it ends") {
                    report.warn(NAME, "bootstrap.owner-ends-soon", what.clone(), fix);
                } else {
                    report.fail(NAME, "bootstrap.owner-unfit", what.clone(), fix);
                }
            }
            if list.is_empty()
                && let Some(leaf) = identity.certificate()
            {
                let until = when(leaf.not_after());
                let detail = format!("{} and its key, until {until}", leaf.subject());
                report.pass(NAME, detail);
            }
        }
    }
}

fn trust(report: &mut Report, vendor: Option<&Vendor>, device: &DeviceRow, now: OffsetDateTime) {
    const NAME: &str = "vendor";
    let Some(vendor) = vendor else {
        let fix = format!(
            "`usher bootstrap trust import FILE --vendor {}`",
            device.vendor
        );
        let detail = format!("{} is not known", device.vendor);
        report.fail(NAME, "bootstrap.vendor-unknown", detail, &fix);
        return;
    };
    let anchors = vendor.certificates(Use::Idevid);
    if anchors.is_empty() {
        let fix = format!(
            "`usher bootstrap trust import FILE --vendor {} --use idevid`",
            device.vendor
        );
        let detail = "no anchor for its IDevIDs: only a password could prove who it is";
        report.warn(NAME, "bootstrap.idevid-anchors", detail, &fix);
    } else if anchors.iter().all(|one| one.not_after() < now) {
        let detail = "all anchors for its IDevIDs have expired";
        report.fail(
            NAME,
            "path.expired",
            detail,
            "ask the manufacturer for the new ones",
        );
    } else {
        report.pass(NAME, format!("{} anchors for its IDevIDs", anchors.len()));
    }
}

/// The profile by which the server will answer this device.
pub(super) fn profile_of(
    config: &Config,
    vendor: Option<&Vendor>,
    device: &DeviceRow,
) -> Result<Arc<Profile>, Error> {
    let folder = config.profiles.directory.as_deref();
    let folder = folder.map(|folder| config.resolve(folder));
    let profiles = Profiles::load(folder.as_deref())?;
    let own = Some(device.device_type.as_str()).filter(|name| !name.is_empty());
    let of_vendor = vendor.and_then(|vendor| vendor.file.profile.as_deref());
    Ok(profiles.choose(own, of_vendor.or(config.profiles.default.as_deref())))
}

async fn voucher(
    report: &mut Report,
    config: &Config,
    store: &Store,
    vendor: Option<&Vendor>,
    device: &DeviceRow,
    profile: &Profile,
    now: OffsetDateTime,
) -> Result<(), Error> {
    const NAME: &str = "voucher";
    if profile.signing() == Signing::Never {
        report.not_made(NAME, "devices of this type take no signed data");
        return Ok(());
    }
    let row = voucher_for(&mut *store.snapshot().await?, device.id, None, now).await?;
    let (Some(row), Some(vendor)) = (row, vendor) else {
        let live = config.masa.is_some() && vendor.is_some_and(|one| one.file.masa.is_some());
        if live {
            report.warn(
                NAME,
                "bootstrap.voucher-missing",
                "none is stored; the MASA is asked when the device sends a nonce",
                "`usher bootstrap vouchers import` if it sends none",
            );
        } else {
            report.fail(
                NAME,
                "bootstrap.voucher-missing",
                "no valid voucher: a device that does not trust this server refuses what it gets",
                "`usher bootstrap vouchers request-list --without-voucher`, then `vouchers import`",
            );
        }
        return Ok(());
    };
    let Some(owner) = config.load_owner().ok().flatten() else {
        report.not_made(NAME, "there is no owner certificate to judge it by");
        return Ok(());
    };
    // The importer's own judgement, by the certificates and the time of now.
    let reader = reader(&owner, now);
    match check_voucher(&reader, &row.der, vendor, &device.serial, None) {
        Err(refused) => report.fail(
            NAME,
            refused.code,
            refused.detail,
            "get a new voucher from the manufacturer",
        ),
        Ok(checked) if checked.expires.is_some_and(|at| at < now + WARNING) => report.warn(
            NAME,
            "bootstrap.voucher-ends-soon",
            format!("good, and ends {}", when_or(checked.expires, "never")),
            "get the next one in time",
        ),
        Ok(checked) => report.pass(
            NAME,
            format!(
                "{} by {}, pins our chain, until {}",
                checked.assertion,
                vendor.file.name,
                when_or(checked.expires, "ever")
            ),
        ),
    }
    Ok(())
}

/// The facts of a request that nobody made yet.
pub(super) async fn facts_of(
    store: &Store,
    device: &DeviceRow,
    profile: &Arc<Profile>,
    signed: bool,
    outer: Encoding,
    now: OffsetDateTime,
) -> Result<Facts, Error> {
    let (epoch, revision) = crate::content::revision::epoch(store).await?;
    Ok(Facts {
        device: Arc::new(device.clone()),
        epoch,
        revision,
        hw_model: device.hw_model.clone(),
        os_name: device.os_name.clone(),
        os_version: device.os_version.clone(),
        nonce: None,
        signed_data_preferred: signed,
        outer,
        profile: Arc::clone(profile),
        certificate: None,
        identity: None,
        now,
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is another side of one request"
)]
async fn content(
    report: &mut Report,
    config: &Config,
    store: &Store,
    arguments: &PreflightArguments,
    vendor: Option<&Vendor>,
    device: &DeviceRow,
    profile: &Arc<Profile>,
    now: OffsetDateTime,
) -> Result<(), Error> {
    const NAME: &str = "content";
    let engine = match Engine::open(config, store) {
        Ok(engine) => engine,
        Err(error) => {
            let fix = "mend the configuration";
            report.fail(NAME, error.code(), error.to_string(), fix);
            return Ok(());
        }
    };
    let signed = profile.signing() != Signing::Never;
    let mut facts = facts_of(store, device, profile, signed, Encoding::Json, now).await?;
    for (given, into) in [
        (&arguments.hw_model, &mut facts.hw_model),
        (&arguments.os_name, &mut facts.os_name),
        (&arguments.os_version, &mut facts.os_version),
    ] {
        if given.is_some() {
            into.clone_from(given);
        }
    }
    let (mut result, _) = engine.look(&facts).await;
    let mut trusted = !signed;
    if signed && matches!(result, Err(Refusal::NoVoucher(_) | Refusal::Unsigned(_))) {
        // The voucher was complained of above; what a device gets that trusts this server is
        // worth a look all the same.
        facts.signed_data_preferred = false;
        let (unsigned, _) = engine.look(&facts).await;
        if unsigned.is_ok() {
            result = unsigned;
            trusted = true;
        }
    }
    let prepared = match result {
        Ok(prepared) => prepared,
        Err(refusal) => {
            let error = refusal.restconf();
            report.fail(
                NAME,
                error.code,
                refusal.to_string(),
                &format!("`usher bootstrap explain {}`", device.serial),
            );
            return Ok(());
        }
    };
    report.rule = Some(prepared.rule.clone());
    report.target = Some(prepared.target.clone());
    report.pass(
        NAME,
        format!(
            "rule {}: {}, revision {}, {} octets",
            prepared.rule,
            prepared.target,
            prepared.revision,
            prepared.conveyed_information.len()
        ),
    );
    let mut information = verdict(report, &prepared, trusted, vendor, device, now);
    if prepared.redirect && facts.signed_data_preferred {
        // Sent here once more with a trust anchor, it asks as a device that trusts this server.
        facts.signed_data_preferred = false;
        if let Ok(second) = engine.look(&facts).await.0
            && !second.redirect
        {
            report.pass(
                NAME,
                format!(
                    "then, trusting this server: {}, {} octets",
                    second.target,
                    second.conveyed_information.len()
                ),
            );
            information = verdict(report, &second, true, vendor, device, now);
        }
    }
    if let Some(ConveyedInformation::Onboarding(onboarding)) = &information {
        match &onboarding.boot_image {
            Some(image) => network::images(report, config, &engine, arguments, image).await,
            None => report.pass("image", "none is asked for"),
        }
    }
    Ok(())
}

/// What the device will make of it: the same judgement as the device's own.
fn verdict(
    report: &mut Report,
    prepared: &Prepared,
    trusted: bool,
    vendor: Option<&Vendor>,
    device: &DeviceRow,
    now: OffsetDateTime,
) -> Option<ConveyedInformation> {
    const NAME: &str = "device's verdict";
    let data = BootstrappingData {
        conveyed_information: prepared.conveyed_information.to_vec(),
        owner_certificate: prepared.owner_certificate.as_ref().map(|one| one.to_vec()),
        ownership_voucher: prepared.ownership_voucher.as_ref().map(|one| one.to_vec()),
    };
    let none = Anchors::default();
    let strict = artifacts::Tolerances::strict();
    let anchors = vendor.map_or(&none, |vendor| &vendor.voucher_anchors);
    let tolerances = vendor.map_or(&strict, |vendor| &vendor.tolerances);
    let serial = SerialNumber::new(device.serial.as_str());
    let mut context = DeviceContext::new(anchors, tolerances);
    context.serial = serial.as_ref();
    context.at = Some(now);
    let judgement = judge(&data, trusted, &context);
    let failed = judgement
        .checks
        .iter()
        .find_map(|check| match &check.result {
            CheckResult::Failed { code, detail } => Some((check.name, *code, detail.clone())),
            CheckResult::Passed | CheckResult::NotMade { .. } => None,
        });
    let made = judgement
        .checks
        .iter()
        .filter(|check| check.result == CheckResult::Passed)
        .count();
    match (judgement.result, failed) {
        (Ok(information), None) => {
            let word = if trusted {
                "a device that trusts this server accepts it"
            } else {
                "accepted without trust in this server"
            };
            report.pass(NAME, format!("{word}: {made} checks"));
            Some(information)
        }
        (_, Some((name, code, detail))) => {
            let detail = format!("{name}: {detail}");
            report.fail(NAME, code, detail, "see docs/errors.md for this code");
            None
        }
        (Err(error), None) => {
            let fix = "see docs/errors.md for this code";
            report.fail(NAME, error.code(), error.to_string(), fix);
            None
        }
    }
}
