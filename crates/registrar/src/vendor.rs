//! Vendor profiles: which IDevIDs are believed, what identity is taken from them, and which MASA
//! answers for them.
//!
//! One TOML file for each vendor, in one folder. The anchors for IDevIDs, for the MASA's TLS
//! certificate and for the signer of vouchers are three separate sets: a factory CA must not be
//! able to pose as a MASA, nor the other way round
//! ([RFC 8995 §2.5.3](https://www.rfc-editor.org/rfc/rfc8995.html#section-2.5.3)).

use std::path::{Path, PathBuf};

use brski::SerialRule;
use brski::media::CoseName;
use brski::registrar::{MasaUrlRule, Profiles, VendorProfile};
use pki::Certificate;
use pki::path::Anchors;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::anchored;

/// The text of one profile.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name in policy, timelines and lists.
    pub name: String,
    /// Files: who signs this vendor's IDevIDs.
    #[serde(default)]
    pub idevid_anchors: Vec<PathBuf>,
    /// Files: intermediate certificates that the devices forget to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<PathBuf>,
    /// Files: who signs the TLS certificate of this vendor's MASA.
    #[serde(default)]
    pub masa_tls_anchors: Vec<PathBuf>,
    /// Files: who signs this vendor's vouchers, as CA or as the signer itself.
    #[serde(default)]
    pub voucher_anchors: Vec<PathBuf>,
    /// Where the serial number stands in the IDevID.
    #[serde(default)]
    pub serial: SerialRule,
    /// Where the product stands in the IDevID.
    #[serde(default)]
    pub product: ProductRule,
    /// Where the MASA is.
    #[serde(default)]
    pub masa: MasaRule,
    /// Tolerances towards this vendor's known peculiarities, by name.
    #[serde(default)]
    pub tolerances: Vec<String>,
    /// Whether the lifetime of an IDevID is ignored.
    #[serde(default)]
    pub accept_expired_idevid: bool,
}

impl Profile {
    /// A profile without anchors.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            idevid_anchors: Vec::new(),
            intermediates: Vec::new(),
            masa_tls_anchors: Vec::new(),
            voucher_anchors: Vec::new(),
            serial: SerialRule::default(),
            product: ProductRule::default(),
            masa: MasaRule::default(),
            tolerances: Vec::new(),
            accept_expired_idevid: false,
        }
    }

    /// The files with the anchors for one use.
    pub const fn files_mut(&mut self, purpose: Use) -> &mut Vec<PathBuf> {
        match purpose {
            Use::Idevid => &mut self.idevid_anchors,
            Use::MasaTls => &mut self.masa_tls_anchors,
            Use::Voucher => &mut self.voucher_anchors,
        }
    }
}

/// Where the product stands in the IDevID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProductRule {
    /// Nowhere, or not looked at.
    #[default]
    None,
    /// The common name of the subject.
    CommonName,
    /// The organizational unit of the subject.
    OrganizationalUnit,
    /// `PID:… SN:…` in the subject's serialNumber: what follows `PID:`.
    PidSn,
}

/// Where the MASA is, and how it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MasaRule {
    /// Called instead of what the IDevID says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Called if the IDevID names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_url: Option<String>,
    /// Hosts that the IDevID may name; none stands for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Call this MASA without presenting the registrar's certificate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_client_certificate: bool,
    /// The name under which this MASA knows COSE vouchers: `current` or `old`.
    #[serde(skip_serializing_if = "is_current")]
    pub cose_name: CoseName,
    /// User name for HTTP Basic authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_current(name: &CoseName) -> bool {
    *name == CoseName::Current
}

/// A profile with its anchors read.
#[derive(Clone, Debug)]
pub struct Vendor {
    /// The text.
    pub profile: Profile,
    /// The file it came from.
    pub file: PathBuf,
    /// Who signs IDevIDs.
    pub idevid: AnchorSet,
    /// Who signs the MASA's TLS certificate.
    pub masa_tls: AnchorSet,
    /// Who signs vouchers.
    pub voucher: AnchorSet,
    /// Tolerances and anchors as the protocol wants them.
    pub rules: VendorProfile,
}

/// Anchors with the certificates they were made of, for lists and expiry warnings.
#[derive(Clone, Debug)]
pub struct AnchorSet {
    /// The certificates.
    pub certificates: Vec<Certificate>,
    /// The same, for path validation.
    pub anchors: Anchors,
}

/// What the anchors of a profile are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
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

/// All vendors of a folder.
#[derive(Clone, Debug, Default)]
pub struct Vendors {
    /// Ordered by file name, in which order they are tried.
    pub list: Vec<Vendor>,
    /// The same, as the protocol wants them.
    pub profiles: Profiles,
}

impl Vendors {
    /// Reads every `*.toml` of a folder. A folder that does not exist holds no vendor.
    ///
    /// # Errors
    /// A profile or an anchor file cannot be read, or two profiles bear one name.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let mut files = Vec::new();
        match std::fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry
                        .map_err(|error| Error::file(directory, &error))?
                        .path();
                    if path
                        .extension()
                        .is_some_and(|extension| extension == "toml")
                    {
                        files.push(path);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(directory, &error)),
        }
        files.sort();
        let mut list: Vec<Vendor> = Vec::with_capacity(files.len());
        for file in files {
            let vendor = Vendor::load(&file)?;
            if list
                .iter()
                .any(|other| other.profile.name == vendor.profile.name)
            {
                return Err(Error::Config {
                    detail: format!(
                        "{}: another profile is already named {}",
                        file.display(),
                        vendor.profile.name
                    ),
                });
            }
            list.push(vendor);
        }
        let profiles = Profiles::new(list.iter().map(|vendor| vendor.rules.clone()).collect());
        Ok(Self { list, profiles })
    }

    /// The vendor of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Vendor> {
        self.list.iter().find(|vendor| vendor.profile.name == name)
    }
}

impl Vendor {
    /// Reads a profile and its anchors.
    ///
    /// # Errors
    /// The file is not a profile, or an anchor file cannot be read.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let mut profile = read_profile(file)?;
        let base = file.parent().unwrap_or_else(|| Path::new("."));
        for path in profile
            .idevid_anchors
            .iter_mut()
            .chain(&mut profile.intermediates)
            .chain(&mut profile.masa_tls_anchors)
            .chain(&mut profile.voucher_anchors)
        {
            *path = anchored(base, path);
        }
        profile.masa.password_file = profile
            .masa
            .password_file
            .as_deref()
            .map(|path| anchored(base, path));
        // What `trust import` writes stands beside the profile, so that it never edits a file that
        // a person wrote.
        for purpose in Use::ALL {
            let file = imported_file(base, &profile.name, purpose);
            let files = profile.files_mut(purpose);
            if file.is_file() && !files.contains(&file) {
                files.push(file);
            }
        }
        Self::build(profile, file)
    }

    fn build(profile: Profile, file: &Path) -> Result<Self, Error> {
        let wrong = |detail: String| Error::Config {
            detail: format!("{}: {detail}", file.display()),
        };
        if !is_vendor_name(&profile.name) {
            return Err(wrong(format!(
                "{:?} cannot be a vendor's name",
                profile.name
            )));
        }
        let tolerances =
            artifacts::Tolerances::from_names(profile.tolerances.iter().map(String::as_str))
                .map_err(|name| wrong(format!("there is no tolerance named {name}")))?;
        let masa_url = match (&profile.masa.url, &profile.masa.fallback_url) {
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "[masa] has both url and fallback_url; one of them is meant".into(),
                ));
            }
            (Some(url), None) => MasaUrlRule::Pinned(url.clone()),
            (None, Some(url)) => MasaUrlRule::Fallback(url.clone()),
            (None, None) => MasaUrlRule::Extension,
        };
        if let MasaUrlRule::Pinned(url) | MasaUrlRule::Fallback(url) = &masa_url {
            brski::registrar::masa_base_url(url).map_err(|refusal| wrong(refusal.to_string()))?;
        }
        if profile.masa.user.is_some() != profile.masa.password_file.is_some() {
            return Err(wrong("[masa] needs user and password_file together".into()));
        }
        let idevid = AnchorSet::load(&profile.idevid_anchors)?;
        let masa_tls = AnchorSet::load(&profile.masa_tls_anchors)?;
        let rules = VendorProfile {
            name: profile.name.clone(),
            anchors: idevid.anchors.clone(),
            intermediates: AnchorSet::load(&profile.intermediates)?.certificates,
            masa_anchors: masa_tls.anchors.clone(),
            serial: profile.serial.clone(),
            masa_url,
            ignore_expiry: profile.accept_expired_idevid,
            cose_name: profile.masa.cose_name,
            tolerances,
        };
        Ok(Self {
            voucher: AnchorSet::load(&profile.voucher_anchors)?,
            file: file.to_path_buf(),
            idevid,
            masa_tls,
            rules,
            profile,
        })
    }

    /// The anchors for one use.
    #[must_use]
    pub const fn anchors(&self, purpose: Use) -> &AnchorSet {
        match purpose {
            Use::Idevid => &self.idevid,
            Use::MasaTls => &self.masa_tls,
            Use::Voucher => &self.voucher,
        }
    }

    /// Whether a MASA on that host may be called for this vendor's devices.
    #[must_use]
    pub fn allows_masa_host(&self, host: &str) -> bool {
        let hosts = &self.profile.masa.hosts;
        hosts.is_empty()
            || hosts
                .iter()
                .any(|pattern| crate::policy::wildcard(pattern, host))
    }
}

/// Where `trust import` keeps the anchors of a vendor for one use.
#[must_use]
pub fn imported_file(directory: &Path, vendor: &str, purpose: Use) -> PathBuf {
    directory
        .join(vendor)
        .join(format!("{}.pem", purpose.as_str()))
}

/// Whether a vendor's name can be a file name: letters, digits, `-`, `_` and `.`, and not dots
/// alone.
#[must_use]
pub fn is_vendor_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !name.starts_with('.')
}

/// Reads a profile as it stands in its file.
///
/// # Errors
/// The file cannot be read, or is not a profile.
pub fn read_profile(file: &Path) -> Result<Profile, Error> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))?;
    toml::from_str(&text).map_err(|error| Error::Config {
        detail: format!("{}: {error}", file.display()),
    })
}

impl AnchorSet {
    /// Reads certificates from PEM or DER files.
    ///
    /// # Errors
    /// A file cannot be read or holds no certificate.
    pub fn load(files: &[PathBuf]) -> Result<Self, Error> {
        let mut certificates: Vec<Certificate> = Vec::new();
        for file in files {
            certificates.extend(Certificate::load_all(file).map_err(|error| Error::Config {
                detail: format!("{}: {error}", file.display()),
            })?);
        }
        Ok(Self {
            anchors: certificates.iter().cloned().collect(),
            certificates,
        })
    }
}

impl ProductRule {
    /// The product of a certificate.
    #[must_use]
    pub fn apply(self, certificate: &Certificate) -> Option<String> {
        match self {
            Self::None => None,
            Self::CommonName => attribute(&certificate.subject(), "CN"),
            Self::OrganizationalUnit => attribute(&certificate.subject(), "OU"),
            Self::PidSn => certificate
                .subject_serial_number()
                .and_then(|text| labelled(&text, "PID:").map(str::to_owned)),
        }
    }
}

/// The word after `label` in texts such as `PID:C9300-24T SN:FCW2129L0AB`.
fn labelled<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.split_whitespace()
        .find_map(|word| word.strip_prefix(label))
        .filter(|word| !word.is_empty())
}

/// The first attribute of that type in the RFC 4514 text of a subject.
fn attribute(subject: &str, key: &str) -> Option<String> {
    let mut rest = subject;
    while !rest.is_empty() {
        // An escaped comma or plus does not end an attribute.
        let mut end = rest.len();
        let mut escaped = false;
        for (index, c) in rest.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == ',' || c == '+' {
                end = index;
                break;
            }
        }
        let (part, tail) = rest.split_at(end);
        if let Some((name, value)) = part.split_once('=')
            && name.trim().eq_ignore_ascii_case(key)
        {
            return Some(value.replace('\\', ""));
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_found_where_the_rule_says() {
        let text = "PID:C9300-24T SN:FCW2129L0AB";
        assert_eq!(labelled(text, "PID:"), Some("C9300-24T"));
        assert_eq!(labelled("FCW2129L0AB", "PID:"), None);
        assert_eq!(labelled("PID:", "PID:"), None);
        let subject = "serialNumber=1,CN=Router\\, big+OU=X9,O=Acme";
        assert_eq!(attribute(subject, "CN").as_deref(), Some("Router, big"));
        assert_eq!(attribute(subject, "ou").as_deref(), Some("X9"));
        assert_eq!(attribute(subject, "C"), None);
    }

    #[test]
    fn a_profile_with_a_mistake_names_it() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [
            (
                "name = \"a\"\ntolerances = [\"nonsense\"]",
                "there is no tolerance named nonsense",
            ),
            ("name = \"../a\"", "cannot be a vendor's name"),
            ("name = \"a\"\ntolerance = []", "unknown field"),
            (
                "name = \"a\"\n[masa]\nurl = \"http://masa.example/\"",
                "not https",
            ),
            (
                "name = \"a\"\n[masa]\nurl = \"m\"\nfallback_url = \"m\"",
                "both url and fallback_url",
            ),
            (
                "name = \"a\"\n[masa]\nuser = \"u\"",
                "user and password_file together",
            ),
            (
                "name = \"a\"\nidevid_anchors = [\"absent.pem\"]",
                "absent.pem",
            ),
        ] {
            std::fs::write(folder.path().join("a.toml"), text).unwrap();
            let error = Vendors::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn two_profiles_cannot_share_a_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.toml"), "name = \"a\"").unwrap();
        assert_eq!(Vendors::load(folder.path()).unwrap().list.len(), 1);
        std::fs::write(folder.path().join("b.toml"), "name = \"a\"").unwrap();
        assert!(Vendors::load(folder.path()).is_err());
        assert_eq!(
            Vendors::load(&folder.path().join("absent"))
                .unwrap()
                .list
                .len(),
            0
        );
    }
}
