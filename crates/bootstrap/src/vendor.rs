//! Manufacturers: which IDevIDs are believed, what identity is taken from them, and who signs their
//! vouchers. One TOML file for each, in one folder.

use std::path::{Path, PathBuf};

use brski::SerialRule;
use brski::registrar::{MasaUrlRule, Profiles, VendorProfile};
use pki::Certificate;
use pki::path::Anchors;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The text of one manufacturer's file. Relative paths start at its folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VendorFile {
    /// The name in the register, in rules and in lists.
    pub name: String,
    /// Who signs this manufacturer's IDevIDs.
    #[serde(default)]
    pub idevid_anchors: Vec<PathBuf>,
    /// Intermediate certificates that the devices forget to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<PathBuf>,
    /// Where the serial number stands in the IDevID.
    #[serde(default)]
    pub serial: SerialRule,
    /// Who signs this manufacturer's vouchers, as CA or as the signer itself.
    #[serde(default)]
    pub voucher_anchors: Vec<PathBuf>,
    /// The MASA, for vouchers that are fetched live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masa: Option<MasaConfig>,
    /// The profile of this manufacturer's devices whose type is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Whether the validity period of the IDevIDs is ignored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accept_expired_idevid: bool,
    /// Tolerances towards this manufacturer's known peculiarities, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerances: Vec<String>,
}

/// Where a manufacturer's MASA is, and how it is called.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MasaConfig {
    /// `https://host:port`.
    pub url: String,
    /// Files: who signs its TLS certificate.
    #[serde(default)]
    pub tls_anchors: Vec<PathBuf>,
    /// Connect here, whatever the host name resolves to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::SocketAddr>,
}

/// A manufacturer with its anchors read.
#[derive(Clone, Debug)]
pub struct Vendor {
    /// The text.
    pub file: VendorFile,
    /// Where it stands.
    pub path: PathBuf,
    /// Who signs vouchers.
    pub voucher_anchors: Anchors,
    /// The anchors of the IDevIDs, for lists and expiry warnings.
    pub idevid_certificates: Vec<Certificate>,
    /// Who signs the TLS certificate of its MASA.
    pub masa_tls_anchors: Anchors,
    /// The certificates behind `voucher_anchors`, for lists and expiry warnings.
    pub voucher_certificates: Vec<Certificate>,
    /// The certificates behind `masa_tls_anchors`.
    pub masa_tls_certificates: Vec<Certificate>,
    /// What is let pass of this manufacturer.
    pub tolerances: artifacts::Tolerances,
}

/// What the anchors of a manufacturer are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Use {
    /// IDevIDs.
    Idevid,
    /// The TLS certificate of the MASA.
    MasaTls,
    /// Vouchers.
    Voucher,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Idevid, Self::MasaTls, Self::Voucher];

    /// The word in lists and file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idevid => "idevid",
            Self::MasaTls => "masa-tls",
            Self::Voucher => "voucher",
        }
    }
}

impl Vendor {
    /// The anchors for one use.
    #[must_use]
    pub fn certificates(&self, purpose: Use) -> &[Certificate] {
        match purpose {
            Use::Idevid => &self.idevid_certificates,
            Use::MasaTls => &self.masa_tls_certificates,
            Use::Voucher => &self.voucher_certificates,
        }
    }
}

/// Where `trust import` keeps the anchors of a manufacturer for one use: beside its file, so that
/// it never edits what a person wrote.
#[must_use]
pub fn imported_file(directory: &Path, vendor: &str, purpose: Use) -> PathBuf {
    directory
        .join(vendor)
        .join(format!("{}.pem", purpose.as_str()))
}

/// All manufacturers of a folder.
#[derive(Clone, Debug, Default)]
pub struct Vendors {
    /// Ordered by file name, in which order they are tried.
    pub list: Vec<Vendor>,
    profiles: Profiles,
}

impl Vendors {
    /// Reads every `*.toml` of a folder. A folder that does not exist holds none.
    ///
    /// # Errors
    /// A file cannot be read, or two bear one name.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let mut list: Vec<Vendor> = Vec::new();
        let mut profiles = Vec::new();
        for path in toml_files(directory)? {
            let (vendor, profile) = load(&path)?;
            if list.iter().any(|other| other.file.name == vendor.file.name) {
                let reason = format!("another file is already named {}", vendor.file.name);
                return Err(Error::malformed(&path, reason));
            }
            list.push(vendor);
            profiles.push(profile);
        }
        Ok(Self {
            list,
            profiles: Profiles::new(profiles),
        })
    }

    /// The manufacturer of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Vendor> {
        self.list.iter().find(|vendor| vendor.file.name == name)
    }

    /// The rule for the serial number that a manufacturer's file leaves open is taken from the
    /// profile that the file names.
    #[must_use]
    pub fn with_serial_rules(mut self, profiles: &crate::profile::Profiles) -> Self {
        let rules = self.profiles.iter().cloned().map(|mut rules| {
            let of_profile = self
                .named(&rules.name)
                .and_then(|vendor| vendor.file.profile.as_deref())
                .and_then(|name| profiles.named(name))
                .and_then(|profile| profile.serial_rule.clone());
            if let Some(serial) = of_profile.filter(|_| rules.serial == SerialRule::default()) {
                rules.serial = serial;
            }
            rules
        });
        self.profiles = Profiles::new(rules.collect());
        self
    }

    /// The same, as [`brski::registrar::identify`] wants them.
    #[must_use]
    pub const fn profiles(&self) -> &Profiles {
        &self.profiles
    }
}

/// The `*.toml` files of a folder in the order of their names; none if there is no folder.
///
/// # Errors
/// The folder cannot be read.
pub fn toml_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file(directory, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::file(directory, error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn load(path: &Path) -> Result<(Vendor, VendorProfile), Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
    let mut file: VendorFile =
        toml::from_str(&text).map_err(|error| Error::malformed(path, error))?;
    if file.name.is_empty() || file.name.len() > 64 {
        return Err(Error::malformed(path, "a name has 1 to 64 characters"));
    }
    let base = path.parent().unwrap_or_else(|| Path::new("."));
    let anchor = |files: &mut Vec<PathBuf>| {
        for file in files {
            *file = base.join(&*file);
        }
    };
    anchor(&mut file.idevid_anchors);
    anchor(&mut file.intermediates);
    anchor(&mut file.voucher_anchors);
    if let Some(masa) = &mut file.masa {
        anchor(&mut masa.tls_anchors);
    }
    let name = file.name.clone();
    let imported = |purpose: Use, files: &mut Vec<PathBuf>| {
        let found = imported_file(base, &name, purpose);
        if found.is_file() && !files.contains(&found) {
            files.push(found);
        }
    };
    imported(Use::Idevid, &mut file.idevid_anchors);
    imported(Use::Voucher, &mut file.voucher_anchors);
    let mut masa_tls = file
        .masa
        .as_ref()
        .map(|masa| masa.tls_anchors.clone())
        .unwrap_or_default();
    imported(Use::MasaTls, &mut masa_tls);
    let tolerances = artifacts::Tolerances::from_names(file.tolerances.iter().map(String::as_str))
        .map_err(|name| Error::malformed(path, format!("there is no tolerance {name:?}")))?;
    let idevid_certificates = certificates(&file.idevid_anchors)?;
    let masa_tls_certificates = certificates(&masa_tls)?;
    let masa_tls_anchors: Anchors = masa_tls_certificates.iter().cloned().collect();
    let voucher_certificates = certificates(&file.voucher_anchors)?;
    let profile = VendorProfile {
        name: file.name.clone(),
        anchors: idevid_certificates.iter().cloned().collect(),
        intermediates: certificates(&file.intermediates)?,
        masa_anchors: masa_tls_anchors.clone(),
        serial: file.serial.clone(),
        masa_url: MasaUrlRule::Extension,
        ignore_expiry: file.accept_expired_idevid,
        cose_name: brski::media::CoseName::Current,
        tolerances: tolerances.clone(),
    };
    let vendor = Vendor {
        voucher_anchors: voucher_certificates.iter().cloned().collect(),
        voucher_certificates,
        masa_tls_certificates,
        tolerances,
        path: path.to_owned(),
        idevid_certificates,
        masa_tls_anchors,
        file,
    };
    Ok((vendor, profile))
}

fn certificates(files: &[PathBuf]) -> Result<Vec<Certificate>, Error> {
    let mut all = Vec::new();
    for file in files {
        all.extend(Certificate::load_all(file).map_err(|error| Error::malformed(file, error))?);
    }
    Ok(all)
}
