//! From a folder to what is served: read, checked against the devices of the register, stored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use artifacts::Encoding;
use serde::Serialize;
use store::{AssertSqlSafe, Store, params};
use time::OffsetDateTime;

use super::build::{Content, Plan, What};
use super::check::{Candidate, CheckError, Missing, Validator, well_formed};
use super::decide::subject;
use super::document::{Digest, Document, Format, Handling};
use super::engine::assemble;
use super::finding::{Finding, Findings, Severity};
use super::images::Images;
use super::load::{self, CONTENT_FILE, Folder};
use super::revision::{self, Stored};
use super::rules::Target;
use super::{Facts, IssuedCertificate, build};
use crate::Error;
use crate::config::Config;
use crate::profile::{OuterEncoding, Profile, Profiles};
use crate::register::{DEVICE_COLUMNS, DeviceRow, device_of};
use crate::vendor::Vendors;

/// Devices that are read at once.
const PAGE: i64 = 500;
/// Devices of one group and site that are looked at for one bundle, unless all are.
const ALIKE_MAX: u32 = 3;

/// For how many devices the configuration is made and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// For none.
    None,
    /// For so many, some of each bundle, group and site.
    Sample(u32),
    /// For all.
    All,
}

impl Default for Extent {
    fn default() -> Self {
        Self::Sample(500)
    }
}

impl std::str::FromStr for Extent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            number => number
                .parse()
                .map(Self::Sample)
                .map_err(|_| "all, none, or a number of devices".to_owned()),
        }
    }
}

/// How a folder is applied.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// For how many devices it is checked.
    pub extent: Extent,
    /// Who applies it.
    pub author: String,
    /// What they say about it.
    pub note: String,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether it is served, or would be.
    pub ok: bool,
    /// Whether nothing was to be changed.
    pub dry_run: bool,
    /// The revision that is served afterwards.
    pub revision: Option<i64>,
    /// Whether that is a new one.
    pub new: bool,
    /// Digest of what it says.
    pub digest: Option<String>,
    /// Devices whose configuration was made and checked.
    pub devices_checked: u64,
    /// Image files that were copied.
    pub images_copied: u64,
    /// What is wrong, and what somebody should look at.
    pub findings: Vec<Finding>,
}

/// Applies a folder: it is read and checked whole, and then served; or nothing changes.
///
/// # Errors
/// The database failed, or an image cannot be copied. What is wrong with the folder is no error
/// but in the report.
pub async fn apply(
    config: &Config,
    store: &Store,
    folder: &Path,
    options: &Options,
    now: OffsetDateTime,
) -> Result<Report, Error> {
    let path = folder.to_owned();
    let loaded = tokio::task::spawn_blocking(move || load::load(&path))
        .await
        .map_err(|error| Error::Content(error.to_string()))?;
    let Folder {
        document,
        bodies,
        images,
        findings: found,
        ..
    } = loaded;
    let mut findings = Findings::default();
    found.into_iter().for_each(|finding| findings.add(finding));
    surroundings(config, &document, &mut findings);
    let mut devices_checked = 0;
    // Devices are looked at when the folder by itself makes sense.
    if findings.passes() {
        let content = Arc::new(assemble(0, document.clone(), &bodies));
        devices_checked = check_devices(
            config,
            store,
            &content,
            &bodies,
            options.extent,
            now,
            &mut findings,
        )
        .await?;
    }
    let ok = findings.passes();
    let mut report = Report {
        ok,
        dry_run: options.dry_run,
        revision: None,
        new: false,
        digest: revision::digest_of(&document)
            .ok()
            .filter(|_| ok)
            .map(|digest| digest.to_string()),
        devices_checked,
        images_copied: 0,
        findings: findings.into_sorted(),
    };
    if !ok || options.dry_run {
        return Ok(report);
    }
    // Images first: a revision never names one that is not there.
    let place = Images::new(config.resolve(&config.content.images));
    for image in images {
        let place = place.clone();
        let copied =
            tokio::task::spawn_blocking(move || place.put(&image.path, &image.sha256, image.size))
                .await
                .map_err(|error| Error::Content(error.to_string()))??;
        report.images_copied += u64::from(copied);
    }
    let Stored { revision, new } = revision::store_revision(
        store,
        &document,
        &bodies,
        &options.author,
        &options.note,
        now,
    )
    .await?;
    report.revision = Some(revision);
    report.new = new;
    Ok(report)
}

/// Checks what is served against the devices of the register.
///
/// # Errors
/// The database failed.
pub async fn check_served(
    config: &Config,
    store: &Store,
    extent: Extent,
    now: OffsetDateTime,
) -> Result<Report, Error> {
    let (_, revision) = revision::epoch(store).await?;
    let document = revision::document(store, revision).await?;
    let wanted = document.files.values().map(|entry| entry.sha256).collect();
    let bodies = revision::bodies(store, &wanted).await?;
    let mut findings = Findings::default();
    surroundings(config, &document, &mut findings);
    check_images(config, &document, &mut findings);
    let digest = revision::digest_of(&document)?;
    let content = Arc::new(assemble(revision, document, &bodies));
    let devices_checked =
        check_devices(config, store, &content, &bodies, extent, now, &mut findings).await?;
    Ok(Report {
        ok: findings.passes(),
        dry_run: true,
        revision: Some(revision),
        new: false,
        digest: Some(digest.to_string()),
        devices_checked,
        images_copied: 0,
        findings: findings.into_sorted(),
    })
}

/// What the configuration of the server has to do with it.
fn surroundings(config: &Config, document: &Document, findings: &mut Findings) {
    if document.images.values().any(|image| image.hosted.is_some())
        && config.content.base_url.is_none()
    {
        findings.error(
            CONTENT_FILE,
            None,
            "content.base-url",
            "an image is hosted here, and content.base_url of the configuration does not say \
             under which address devices reach this server",
        );
    }
    let redirects = config.role.redirects();
    let onboards = config.role.onboards();
    for rule in &document.rules {
        let wrong = match &rule.target {
            Target::Bundle { .. } => !onboards,
            Target::Redirect { .. } => !redirects,
            Target::Hold => false,
        };
        if wrong {
            findings.error(
                CONTENT_FILE,
                None,
                "content.role",
                format!(
                    "rule {:?} gives a {}, which a server of this role never gives out",
                    rule.name, rule.target
                ),
            );
        }
    }
}

/// Whether the images that this server hosts are there and whole.
fn check_images(config: &Config, document: &Document, findings: &mut Findings) {
    let place = Images::new(config.resolve(&config.content.images));
    for (name, image) in &document.images {
        let (Some(hosted), Some(digest)) = (&image.hosted, &image.sha256) else {
            continue;
        };
        let sound = place.has(digest, hosted.size) && place.is_sound(digest).unwrap_or(false);
        if !sound {
            findings.error(
                CONTENT_FILE,
                None,
                "content.image-broken",
                format!(
                    "the file of image {name:?} is not there or not what it was; apply the folder \
                     again"
                ),
            );
        }
    }
}

/// The profile of a device, as the server chooses it.
#[must_use]
pub(crate) fn profile_of(
    config: &Config,
    profiles: &Profiles,
    vendors: &Vendors,
    device: &DeviceRow,
) -> Arc<Profile> {
    let own = Some(device.device_type.as_str()).filter(|name| !name.is_empty());
    let of_vendor = vendors
        .named(&device.vendor)
        .and_then(|vendor| vendor.file.profile.as_deref());
    profiles.choose(own, of_vendor.or(config.profiles.default.as_deref()))
}

/// Profiles and manufacturers of a configuration.
pub(crate) fn surroundings_of(config: &Config) -> Result<(Profiles, Vendors), Error> {
    let folder = config.profiles.directory.as_deref();
    let folder = folder.map(|folder| config.resolve(folder));
    let profiles = Profiles::load(folder.as_deref())?;
    let vendors = Vendors::load(&config.resolve(&config.vendors.directory))?;
    Ok((profiles, vendors))
}

/// The encoding that a device of this kind speaks, as far as that is known.
pub(crate) fn usual_encoding(profile: &Profile) -> Encoding {
    match profile.outer_encoding {
        OuterEncoding::Xml => Encoding::Xml,
        OuterEncoding::AsAsked | OuterEncoding::Json => Encoding::Json,
    }
}

/// What is waiting for libyang: who, from which template, and the configuration.
#[derive(Default)]
struct Waiting {
    whom: Vec<(String, String)>,
    candidates: Vec<Candidate>,
}

struct Checking<'a> {
    config: &'a Config,
    content: &'a Arc<Content>,
    bodies: &'a BTreeMap<Digest, Vec<u8>>,
    profiles: Profiles,
    vendors: Vendors,
    stand_in: Option<Arc<IssuedCertificate>>,
    now: OffsetDateTime,
    /// How many of each bundle, group and site were looked at.
    alike: HashMap<(String, String, String), u32>,
    waiting: BTreeMap<String, Waiting>,
    /// Whether libyang cannot be used; it is said once.
    without_libyang: bool,
    checked: u64,
}

async fn check_devices(
    config: &Config,
    store: &Store,
    content: &Arc<Content>,
    bodies: &BTreeMap<Digest, Vec<u8>>,
    extent: Extent,
    now: OffsetDateTime,
    findings: &mut Findings,
) -> Result<u64, Error> {
    let most = match extent {
        Extent::None => return Ok(0),
        Extent::Sample(most) => u64::from(most),
        Extent::All => u64::MAX,
    };
    let (profiles, vendors) = surroundings_of(config)?;
    let mut checking = Checking {
        config,
        content,
        bodies,
        profiles,
        vendors,
        stand_in: stand_in(config),
        now,
        alike: HashMap::new(),
        waiting: BTreeMap::new(),
        without_libyang: false,
        checked: 0,
    };
    let mut after = 0;
    'devices: loop {
        let sql = format!(
            "SELECT {DEVICE_COLUMNS} FROM device WHERE id > $1 AND alias_of IS NULL \
             AND state NOT IN ('released', 'replaced') ORDER BY id LIMIT $2"
        );
        let rows = store
            .fetch_all(AssertSqlSafe(sql), params![after, PAGE])
            .await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let device = device_of(row)?;
            after = device.id;
            checking.device(device, extent, findings);
            if checking.checked >= most {
                break 'devices;
            }
        }
        checking.libyang(findings, false).await;
    }
    checking.libyang(findings, true).await;
    checking.unchecked(extent, findings);
    Ok(checking.checked)
}

/// A certificate in the place of the one that a device will get, so that templates which need one
/// can be tried.
fn stand_in(config: &Config) -> Option<Arc<IssuedCertificate>> {
    let identities = config.identities().ok()?;
    let chain = &identities.first()?.chain;
    Some(Arc::new(IssuedCertificate {
        chain: chain.iter().map(|c| c.der().to_vec()).collect(),
        csr_sha256: [0; 32],
    }))
}

impl Checking<'_> {
    /// Makes what the device would get, for each version of the bundle that it may fall to.
    fn device(&mut self, device: DeviceRow, extent: Extent, findings: &mut Findings) {
        let profile = profile_of(self.config, &self.profiles, &self.vendors, &device);
        let facts = Facts {
            outer: usual_encoding(&profile),
            profile,
            device: Arc::new(device),
            epoch: 0,
            revision: 0,
            hw_model: None,
            os_name: None,
            os_version: None,
            nonce: None,
            signed_data_preferred: false,
            certificate: self.stand_in.clone(),
            identity: None,
            now: self.now,
        };
        let content = Arc::clone(self.content);
        let Some(rule) = content.rules.choose(&subject(&facts)) else {
            return;
        };
        for what in targets(&content.document, &rule.target) {
            let device = &facts.device;
            let key = (what.to_string(), device.group.clone(), device.site.clone());
            let alike = self.alike.entry(key).or_default();
            *alike += 1;
            if extent != Extent::All && *alike > ALIKE_MAX {
                continue;
            }
            self.checked += 1;
            self.target(what, &facts, findings);
        }
    }

    fn target(&mut self, what: What, facts: &Facts, findings: &mut Findings) {
        let whom = format!("{}/{}", facts.device.vendor, facts.device.serial);
        let base_url = self.config.content.base_url.as_deref();
        let plan = Plan {
            what,
            signer: None,
            recipient: None,
            inner: facts.profile.inner(facts.outer),
            skip_image: false,
        };
        let unfit = |findings: &mut Findings, message: String| {
            findings.error(CONTENT_FILE, None, "content.device-unfit", message);
        };
        let inputs = match self.content.inputs(&plan, facts, base_url) {
            Ok(inputs) => inputs,
            Err(refusal) => return unfit(findings, format!("device {whom}: {refusal}")),
        };
        if let What::Bundle { name, version } = &plan.what
            && let Some(bundle) = self.content.bundle(name, version)
        {
            let template = bundle.template.as_ref();
            let template = template.and_then(|name| self.content.document.templates.get(name));
            match self.content.configuration(bundle, &inputs) {
                Err(error) => {
                    let file = error.file.unwrap_or_else(|| CONTENT_FILE.to_owned());
                    let message = format!("device {whom}: {}", error.message);
                    findings.error(&file, error.line, error.code, message);
                    return;
                }
                Ok(Some((octets, format))) => {
                    let Some(template) = template else { return };
                    let handling = bundle.handling.unwrap_or(Handling::Merge);
                    let file = template.file.clone();
                    let yang = template.yang.clone();
                    self.configuration(
                        whom.clone(),
                        file,
                        yang,
                        octets,
                        format,
                        handling,
                        findings,
                    );
                }
                Ok(None) => {}
            }
        }
        let made = self
            .content
            .information(&plan, &inputs, base_url)
            .and_then(|information| build::encode(information, plan.inner, &facts.profile));
        if let Err(refusal) = made {
            unfit(findings, format!("device {whom}, {}: {refusal}", plan.what));
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is another fact of one configuration, used once"
    )]
    fn configuration(
        &mut self,
        whom: String,
        file: String,
        yang: Option<String>,
        octets: Vec<u8>,
        format: Format,
        handling: Handling,
        findings: &mut Findings,
    ) {
        if let Err(flaw) = well_formed(&octets, format) {
            let at = flaw
                .line
                .map_or_else(String::new, |line| format!("line {line} of "));
            let message = format!("device {whom}: {at}the configuration: {}", flaw.message);
            findings.error(&file, None, flaw.code, message);
            return;
        }
        if let Some(yang) = yang {
            let waiting = self.waiting.entry(yang).or_default();
            waiting.whom.push((whom, file));
            waiting.candidates.push(Candidate {
                octets,
                format,
                handling,
            });
        }
    }

    /// Lets libyang judge what is waiting.
    async fn libyang(&mut self, findings: &mut Findings, last: bool) {
        if last {
            // Modules without a device that needs them are looked at all the same.
            for name in self.content.document.yang.keys() {
                self.waiting.entry(name.clone()).or_default();
            }
        }
        for (name, waiting) in std::mem::take(&mut self.waiting) {
            let Some(set) = self.content.document.yang.get(&name) else {
                continue;
            };
            if self.without_libyang {
                continue;
            }
            let validator = Validator {
                program: self.config.content.yanglint.clone(),
                folders: self
                    .config
                    .content
                    .yang
                    .iter()
                    .map(|folder| self.config.resolve(folder))
                    .collect(),
            };
            let document = &self.content.document;
            let judged = validator
                .judge(document, self.bodies, set, &waiting.candidates)
                .await;
            match judged {
                Ok(flaws) => {
                    for ((whom, file), flaws) in waiting.whom.iter().zip(flaws) {
                        for flaw in flaws {
                            let message = format!("device {whom}: {}", flaw.message);
                            findings.error(file, None, flaw.code, message);
                        }
                    }
                }
                Err(error) => self.no_libyang(&name, &error, findings),
            }
        }
    }

    fn no_libyang(&mut self, set: &str, error: &CheckError, findings: &mut Findings) {
        let severity = match (error, self.config.content.yanglint_missing) {
            (CheckError::Missing(_), Missing::Warn) => Severity::Warning,
            _ => Severity::Error,
        };
        let code = match error {
            CheckError::Missing(_) => "content.yanglint-missing",
            CheckError::Failed(_) => "content.yanglint-failed",
            CheckError::Modules(_) => "content.yang-modules",
        };
        self.without_libyang |= !matches!(error, CheckError::Modules(_));
        findings.add(Finding {
            file: CONTENT_FILE.to_owned(),
            line: None,
            severity,
            code,
            message: format!("YANG set {set:?}: {error}"),
        });
    }

    /// Says which templates nobody tried.
    fn unchecked(&self, extent: Extent, findings: &mut Findings) {
        if extent == Extent::None {
            return;
        }
        for (name, versions) in &self.content.document.bundles {
            for (version, bundle) in versions {
                let what = What::Bundle {
                    name: name.clone(),
                    version: version.clone(),
                };
                let what = what.to_string();
                let tried = self.alike.keys().any(|(one, _, _)| *one == what);
                if bundle.template.is_some() && !tried {
                    findings.warning(
                        CONTENT_FILE,
                        None,
                        "content.not-tried",
                        format!(
                            "no device of the register falls under {what}, so its template was \
                             not tried"
                        ),
                    );
                }
            }
        }
    }
}

/// Everything that a target can come to.
fn targets(document: &Document, target: &Target) -> Vec<What> {
    match target {
        Target::Hold => Vec::new(),
        Target::Redirect { name } => vec![What::Redirect(name.clone())],
        Target::Bundle { name, version } => {
            let versions: Vec<String> = match (version, document.rollout_of(name)) {
                (Some(version), _) => vec![version.clone()],
                (None, Some((_, plan))) => vec![plan.from.clone(), plan.to.clone()],
                (None, None) => document
                    .bundles
                    .get(name)
                    .map(|versions| versions.keys().cloned().collect())
                    .unwrap_or_default(),
            };
            versions
                .into_iter()
                .map(|version| What::Bundle {
                    name: name.clone(),
                    version,
                })
                .collect()
        }
    }
}
