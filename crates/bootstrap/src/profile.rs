//! Device-type profiles: what a kind of device does differently from the model, by name.
//!
//! A profile is a data file. Those that come with the program stand in `crates/bootstrap/profiles`
//! and are compiled in; an operator's own stand in a folder and may extend or replace them. Each
//! peculiarity is a named [`Quirk`] with the reason for it. A quirk that breaks the model (RFC 8572,
//! RFC 8040 or the YANG modules) is off in every profile that comes with the program, also in the
//! profile of the device that needs it: whoever runs such devices turns it on by name.

pub mod cli;
mod file;
mod quirk;
mod render;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brski::SerialRule;
use pki::{Blame, Coded};
use serde::{Deserialize, Serialize};

pub use self::file::ProfileFile;
pub use self::quirk::Quirk;
pub use self::render::Unfit;

/// The profile of a device for which nothing else is said: the model, with no quirk at all.
pub const GENERIC: &str = "generic";

/// Profiles in a folder; more is a mistake.
const FILES_MAX: usize = 256;
/// Size of one file.
const FILE_SIZE_MAX_BYTES: u64 = 64 * 1024;

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The text is no profile.
    #[error("profile {file}: {detail}")]
    Malformed {
        /// The file, or the name of a built-in one.
        file: String,
        /// Why.
        detail: String,
    },
    /// A profile of that name is not there.
    #[error("there is no profile {name}; known are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A file or the folder cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Coded for ProfileError {
    fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "profile.malformed",
            Self::Unknown { .. } => "profile.unknown",
            Self::File { .. } => "profile.file",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Caller
    }
}

/// In which encoding the RESTCONF message goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OuterEncoding {
    /// As the request asks, by `Accept` or by its own encoding.
    #[default]
    AsAsked,
    /// JSON, whatever is asked.
    Json,
    /// XML, whatever is asked.
    Xml,
}

/// In which encoding the conveyed information is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerEncoding {
    /// The same as the message around it.
    #[default]
    AsOuter,
    /// JSON.
    Json,
    /// XML.
    Xml,
}

/// Which of the two listeners such a device can talk to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listener {
    /// The ordinary one.
    #[default]
    Device,
    /// The one for TLS 1.2, RSA PKCS#1 v1.5 and factory chains with SHA-1.
    Legacy,
}

/// How such a device reads DHCP option 143 or 136.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpForm {
    /// [RFC 8572 §8.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-8.3): length and URI
    /// without a path.
    #[default]
    Rfc,
    /// Plain text: the whole URL of the RPC.
    RpcUrl,
    /// Plain text: `host:port`.
    HostPort,
}

/// How such a device finds the RESTCONF root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootDiscovery {
    /// It asks each server for `/.well-known/host-meta`.
    #[default]
    HostMeta,
    /// It asks the first server only, and takes the same root at the servers it is redirected to.
    FirstServer,
    /// It is given the whole URL and asks nobody.
    Given,
}

/// How the files of a USB stick are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsbLayout {
    /// As [RFC 8572 §4.1](https://www.rfc-editor.org/rfc/rfc8572.html#section-4.1) describes it.
    #[default]
    Rfc8572,
    /// `EN9/<serial>/bootstrapping-data/…`
    IosXr,
    /// The device reads none.
    None,
}

/// When conveyed information is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// When the device asks for it with signed-data-preferred.
    #[default]
    WhenAsked,
    /// Always, redirect information too.
    Always,
    /// Never. A device that asks for signed data all the same is refused.
    Never,
}

/// Whether a quirk is on, and why it is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Whether it is on.
    pub on: bool,
    /// What the device does, and where that was seen.
    pub reason: String,
}

/// A profile, with what it extends worked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name, which a device's `device_type` says.
    pub name: String,
    /// For people.
    pub title: String,
    /// Where the knowledge comes from, and how far it goes.
    pub evidence: String,
    /// The file it came from; none for those that come with the program.
    pub file: Option<PathBuf>,
    /// Encoding of the RESTCONF message.
    pub outer_encoding: OuterEncoding,
    /// Encoding of the conveyed information.
    pub inner_encoding: InnerEncoding,
    /// Which listener such a device can talk to.
    pub listener: Listener,
    /// How it reads the DHCP option.
    pub dhcp: DhcpForm,
    /// How it finds the RESTCONF root.
    pub root: RootDiscovery,
    /// How its USB sticks are laid out.
    pub usb: UsbLayout,
    /// Where the serial number stands in its certificate, if that is not left to the vendor.
    pub serial_rule: Option<SerialRule>,
    /// The quirks that are known of such a device.
    pub quirks: BTreeMap<Quirk, Setting>,
}

impl Profile {
    /// The model, with no quirk.
    #[must_use]
    pub fn generic() -> Self {
        Self {
            name: GENERIC.to_owned(),
            title: "RFC 8572 as written".to_owned(),
            evidence: "the standard".to_owned(),
            file: None,
            outer_encoding: OuterEncoding::AsAsked,
            inner_encoding: InnerEncoding::AsOuter,
            listener: Listener::Device,
            dhcp: DhcpForm::Rfc,
            root: RootDiscovery::HostMeta,
            usb: UsbLayout::Rfc8572,
            serial_rule: None,
            quirks: BTreeMap::new(),
        }
    }

    /// Whether a quirk is on.
    #[must_use]
    pub fn has(&self, quirk: Quirk) -> bool {
        self.quirks.get(&quirk).is_some_and(|setting| setting.on)
    }

    /// The quirks that are on.
    pub fn enabled(&self) -> impl Iterator<Item = Quirk> + '_ {
        self.quirks
            .iter()
            .filter_map(|(quirk, setting)| setting.on.then_some(*quirk))
    }

    /// When conveyed information is signed.
    #[must_use]
    pub fn signing(&self) -> Signing {
        if self.has(Quirk::Unsigned) {
            Signing::Never
        } else if self.has(Quirk::AlwaysSigned) {
            Signing::Always
        } else {
            Signing::WhenAsked
        }
    }

    /// Whether HTTP Basic authentication counts as proof of identity.
    #[must_use]
    pub fn basic(&self) -> bool {
        self.has(Quirk::BasicAuthentication)
    }

    /// Encoding of the message, given what the request asks for.
    #[must_use]
    pub fn outer(&self, asked: artifacts::Encoding) -> artifacts::Encoding {
        match self.outer_encoding {
            OuterEncoding::AsAsked => asked,
            OuterEncoding::Json => artifacts::Encoding::Json,
            OuterEncoding::Xml => artifacts::Encoding::Xml,
        }
    }

    /// Encoding of the conveyed information inside a message of this encoding.
    #[must_use]
    pub fn inner(&self, outer: artifacts::Encoding) -> artifacts::Encoding {
        match self.inner_encoding {
            InnerEncoding::AsOuter => outer,
            InnerEncoding::Json => artifacts::Encoding::Json,
            InnerEncoding::Xml => artifacts::Encoding::Xml,
        }
    }

    /// What is tolerated in requests.
    #[must_use]
    pub fn leniency(&self) -> sztp::Leniency {
        let names = self
            .enabled()
            .filter(|quirk| quirk.reads())
            .map(Quirk::as_str);
        // Each name is one of the codec's own, so none can be unknown to it.
        sztp::Leniency::from_names(names).unwrap_or_default()
    }

    /// The eContentType of signed conveyed information.
    #[must_use]
    pub fn content_type(&self) -> artifacts::conveyed::ContentType {
        if self.has(Quirk::IdDataContentType) {
            artifacts::conveyed::ContentType::IdData
        } else {
            artifacts::conveyed::ContentType::Registered
        }
    }

    /// What contradicts itself in this profile, and what in it breaks the model.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut refuse = |detail: &str| {
            findings.push(Finding {
                severity: Severity::Wrong,
                quirk: None,
                detail: detail.to_owned(),
            });
        };
        if self.has(Quirk::Unsigned) && self.has(Quirk::AlwaysSigned) {
            refuse("`unsigned` and `always-signed` are both on");
        }
        if self.has(Quirk::PositionalImageVerification) && self.has(Quirk::SingleDownloadUri) {
            refuse("`positional-image-verification` and `single-download-uri` are both on");
        }
        if self.has(Quirk::AlwaysSigned) && self.has(Quirk::OmitOwnerArtefacts) {
            refuse("`always-signed` needs what `omit-owner-artefacts` leaves out");
        }
        if self.has(Quirk::WrappedConveyedInformation) && self.inner_encoding != InnerEncoding::Xml
        {
            refuse("`wrapped-conveyed-information` is about XML, and inner_encoding is not xml");
        }
        for (quirk, setting) in &self.quirks {
            if setting.reason.trim().is_empty() {
                findings.push(Finding {
                    severity: Severity::Wrong,
                    quirk: Some(*quirk),
                    detail: "gives no reason".to_owned(),
                });
            }
            if let (true, Some(rule)) = (setting.on, quirk.breaks()) {
                findings.push(Finding {
                    severity: Severity::BreaksTheModel,
                    quirk: Some(*quirk),
                    detail: rule.to_owned(),
                });
            }
        }
        findings
    }
}

/// Something about a profile that its reader should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which quirk it is about.
    pub quirk: Option<Quirk>,
    /// What it is.
    pub detail: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Devices with this profile get something that the standard forbids, as was asked for.
    BreaksTheModel,
    /// The profile cannot be meant so.
    Wrong,
}

/// All profiles, the operator's before those that come with the program.
#[derive(Clone, Debug)]
pub struct Profiles {
    by_name: BTreeMap<String, Arc<Profile>>,
    generic: Arc<Profile>,
}

impl Default for Profiles {
    /// Those that come with the program.
    fn default() -> Self {
        let by_name = file::builtin();
        let generic = by_name
            .get(GENERIC)
            .cloned()
            .unwrap_or_else(|| Arc::new(Profile::generic()));
        Self { by_name, generic }
    }
}

impl Profiles {
    /// Those that come with the program, and the `*.toml` files of a folder. A folder that does not
    /// exist holds none.
    ///
    /// # Errors
    /// A file is no profile, extends one that is not there, or contradicts itself.
    pub fn load(folder: Option<&Path>) -> Result<Self, ProfileError> {
        let mut profiles = Self::default();
        let Some(folder) = folder else {
            return Ok(profiles);
        };
        let unreadable = |path: &Path, source| ProfileError::File {
            path: path.to_owned(),
            source,
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(profiles),
            Err(error) => return Err(unreadable(folder, error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                paths.push(path);
            }
            if paths.len() > FILES_MAX {
                return Err(ProfileError::Malformed {
                    file: folder.display().to_string(),
                    detail: format!("more than {FILES_MAX} files"),
                });
            }
        }
        paths.sort();
        let mut files: Vec<(PathBuf, ProfileFile)> = Vec::with_capacity(paths.len());
        for path in paths {
            let length = std::fs::metadata(&path)
                .map_err(|error| unreadable(&path, error))?
                .len();
            if length > FILE_SIZE_MAX_BYTES {
                return Err(ProfileError::Malformed {
                    file: path.display().to_string(),
                    detail: format!("larger than {FILE_SIZE_MAX_BYTES} bytes"),
                });
            }
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let file = ProfileFile::parse(&text, &path.display().to_string())?;
            if let Some((other, _)) = files.iter().find(|(_, other)| other.name == file.name) {
                return Err(ProfileError::Malformed {
                    file: path.display().to_string(),
                    detail: format!("{} is named {} too", other.display(), file.name),
                });
            }
            files.push((path, file));
        }
        profiles.add(files)?;
        Ok(profiles)
    }

    /// Works the operator's files in; one may extend another, whatever the order of the files.
    fn add(&mut self, files: Vec<(PathBuf, ProfileFile)>) -> Result<(), ProfileError> {
        let own: Vec<String> = files.iter().map(|(_, file)| file.name.clone()).collect();
        let mut waiting = files;
        while !waiting.is_empty() {
            let mut later = Vec::new();
            let before = waiting.len();
            for (path, file) in waiting {
                let shown = path.display().to_string();
                let parent = match file.extends.as_deref() {
                    None => None,
                    // A file may extend the built-in profile whose name it takes over.
                    Some(name) if name != file.name && own.iter().any(|own| own == name) => {
                        match self.by_name.get(name).filter(|found| found.file.is_some()) {
                            Some(found) => Some(Arc::clone(found)),
                            None => {
                                later.push((path, file));
                                continue;
                            }
                        }
                    }
                    Some(name) => Some(self.find(name)?),
                };
                let mut profile = file.resolve(parent.as_deref(), &shown)?;
                profile.file = Some(path);
                let wrong = profile
                    .findings()
                    .into_iter()
                    .find(|finding| finding.severity == Severity::Wrong);
                if let Some(finding) = wrong {
                    let quirk = finding.quirk.map_or("", Quirk::as_str);
                    return Err(ProfileError::Malformed {
                        file: shown,
                        detail: format!("{quirk} {}", finding.detail).trim().to_owned(),
                    });
                }
                let profile = Arc::new(profile);
                if profile.name == GENERIC {
                    self.generic = Arc::clone(&profile);
                }
                self.by_name.insert(profile.name.clone(), profile);
            }
            if later.len() == before {
                let (path, file) = later.swap_remove(0);
                return Err(ProfileError::Malformed {
                    file: path.display().to_string(),
                    detail: format!(
                        "extends {}, and that comes back to it",
                        file.extends.unwrap_or_default()
                    ),
                });
            }
            waiting = later;
        }
        Ok(())
    }

    /// The profile of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Profile>> {
        self.by_name.get(name)
    }

    /// The profile of that name, or which names there are.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`].
    pub fn find(&self, name: &str) -> Result<Arc<Profile>, ProfileError> {
        self.named(name)
            .cloned()
            .ok_or_else(|| ProfileError::Unknown {
                name: name.to_owned(),
                known: self
                    .by_name
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// The profile that follows the standard, [`GENERIC`].
    #[must_use]
    pub const fn standard(&self) -> &Arc<Profile> {
        &self.generic
    }

    /// The profile of a device: what its own record names, else what its vendor names, else
    /// [`GENERIC`]. A device type without a profile of that name is served by the next in this row,
    /// because a device type also serves for matching rules.
    #[must_use]
    pub fn choose(&self, device_type: Option<&str>, vendor: Option<&str>) -> Arc<Profile> {
        [device_type, vendor]
            .into_iter()
            .flatten()
            .find_map(|name| self.by_name.get(name))
            .map_or_else(|| Arc::clone(&self.generic), Arc::clone)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.by_name.values()
    }
}
