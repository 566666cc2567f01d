//! A content folder, read and understood: what a revision stores.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::rules::Rule;

/// Version of the stored form; a server refuses what it does not know.
pub const FORMAT: u32 = 1;

/// A SHA-256 digest, hexadecimal where it is stored or shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some octets.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
        Self::from_slice(digest.as_ref()).unwrap_or(Self([0; 32]))
    }

    /// A digest of 32 octets.
    #[must_use]
    pub fn from_slice(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }

    /// Reads hexadecimal, with or without colons.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut octets = [0; 32];
        hex::decode_to_slice(text.replace(':', ""), &mut octets).ok()?;
        Some(Self(octets))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256 digest"))
    }
}

/// Variables as templates see them.
pub type Variables = Map<String, Json>;

/// A boot image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `os-name` that a device with it reports.
    pub os_name: Option<String>,
    /// `os-version` that a device with it reports.
    pub os_version: Option<String>,
    /// Where it is, in the order in which a device tries.
    pub uris: Vec<String>,
    /// File name and size, where this server hosts it; its own address comes first then.
    pub hosted: Option<Hosted>,
    /// SHA-256 over the file.
    pub sha256: Option<Digest>,
}

/// An image that this server hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosted {
    /// Last part of its address.
    pub file_name: String,
    /// Octets.
    pub size: u64,
}

/// How the text of a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// JSON.
    Json,
    /// Commands or anything else: not looked into.
    Text,
    /// XML.
    Xml,
}

/// A configuration template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its file.
    pub file: String,
    /// What comes out of it.
    pub format: Format,
    /// The YANG modules that what comes out is checked against.
    pub yang: Option<String>,
}

/// A set of YANG modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yang {
    /// All module files, for imports.
    pub files: Vec<String>,
    /// Files of the modules that are implemented.
    pub modules: Vec<String>,
    /// `MODULE:FEATURE,…` as yanglint takes it.
    pub features: Vec<String>,
}

/// `configuration-handling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handling {
    /// Into the running configuration.
    Merge,
    /// In its place.
    Replace,
}

/// What onboarding information is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Name of the image.
    pub image: Option<String>,
    /// Name of the script before the configuration.
    pub pre_script: Option<String>,
    /// Name of the template.
    pub template: Option<String>,
    /// What the device does with the configuration.
    pub handling: Option<Handling>,
    /// Name of the script after the configuration.
    pub post_script: Option<String>,
}

/// One entry of redirect information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Host name or IP address.
    pub address: String,
    /// Port, 443 where absent.
    pub port: Option<u16>,
    /// Its trust anchor: a CMS with one chain up to a self-signed root.
    pub trust_anchor: Option<HexOctets>,
}

/// Octets that are stored as hexadecimal text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HexOctets(pub Vec<u8>);

impl Serialize for HexOctets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for HexOctets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not hexadecimal"))
    }
}

/// Who gets the new version at one stage of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// This share of all devices.
    Percent(u32),
    /// The devices of these sites, with those of the stages before.
    Sites(Vec<String>),
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent} %"),
            Self::Sites(sites) => write!(f, "sites {}", sites.join(", ")),
        }
    }
}

/// How a bundle gets from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// The bundle.
    pub bundle: String,
    /// The last good version.
    pub from: String,
    /// The new version.
    pub to: String,
    /// In their order; the last may be less than all devices.
    pub stages: Vec<Stage>,
    /// Stop when more than this share of the devices that reported has failed.
    pub failures_percent_max: u32,
    /// Not before so many devices reported.
    pub reports_min: u32,
}

/// A device that prefers signed data is sent to this server's own address once more, with the
/// trust anchor that it needs (RFC 8572 appendix B).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Name of the redirect that leads to this server.
    pub redirect: String,
}

/// A file of the folder that is stored with the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its digest, under which its octets are stored.
    pub sha256: Digest,
    /// Octets.
    pub size: u64,
}

/// `reporting-level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reporting {
    /// Only what is needed.
    #[default]
    Minimal,
    /// Everything.
    Verbose,
}

/// A whole content folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: u32,
    /// How much devices report.
    pub reporting: Reporting,
    /// Variables of all devices.
    pub variables: Variables,
    /// Variables by group.
    pub groups: BTreeMap<String, Variables>,
    /// Variables by site.
    pub sites: BTreeMap<String, Variables>,
    /// Images by name.
    pub images: BTreeMap<String, Image>,
    /// Files of scripts by name.
    pub scripts: BTreeMap<String, String>,
    /// Templates by name.
    pub templates: BTreeMap<String, Template>,
    /// Files that templates may include.
    pub includes: BTreeSet<String>,
    /// YANG modules by name of the set.
    pub yang: BTreeMap<String, Yang>,
    /// Bundles by name and version.
    pub bundles: BTreeMap<String, BTreeMap<String, Bundle>>,
    /// Redirects by name.
    pub redirects: BTreeMap<String, Vec<Server>>,
    /// Rules in their order.
    pub rules: Vec<Rule>,
    /// Rollouts by name.
    pub rollouts: BTreeMap<String, RolloutPlan>,
    /// Whether untrusted connections are promoted.
    pub promotion: Option<Promotion>,
    /// Files by path.
    pub files: BTreeMap<String, FileEntry>,
}

impl Document {
    /// Nothing at all.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            format: FORMAT,
            reporting: Reporting::default(),
            variables: Variables::new(),
            groups: BTreeMap::new(),
            sites: BTreeMap::new(),
            images: BTreeMap::new(),
            scripts: BTreeMap::new(),
            templates: BTreeMap::new(),
            includes: BTreeSet::new(),
            yang: BTreeMap::new(),
            bundles: BTreeMap::new(),
            redirects: BTreeMap::new(),
            rules: Vec::new(),
            rollouts: BTreeMap::new(),
            promotion: None,
            files: BTreeMap::new(),
        }
    }

    /// The rollout of a bundle, if it has one.
    #[must_use]
    pub fn rollout_of(&self, bundle: &str) -> Option<(&str, &RolloutPlan)> {
        self.rollouts
            .iter()
            .find(|(_, plan)| plan.bundle == bundle)
            .map(|(name, plan)| (name.as_str(), plan))
    }

    /// Variables of a device: those of all devices, over them those of its group, its site, and
    /// its own. Tables are merged, anything else is replaced.
    #[must_use]
    pub fn variables_of(
        &self,
        group: Option<&str>,
        site: Option<&str>,
        own: &Variables,
    ) -> Variables {
        let mut variables = self.variables.clone();
        let layers = [
            group.and_then(|group| self.groups.get(group)),
            site.and_then(|site| self.sites.get(site)),
            Some(own),
        ];
        for layer in layers.into_iter().flatten() {
            overlay(&mut variables, layer);
        }
        variables
    }
}

fn overlay(below: &mut Variables, above: &Variables) {
    for (name, value) in above {
        match (below.get_mut(name), value) {
            (Some(Json::Object(below)), Json::Object(above)) => overlay(below, above),
            (Some(slot), value) => *slot = value.clone(),
            (None, value) => {
                below.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(json: Json) -> Variables {
        json.as_object().cloned().unwrap()
    }

    #[test]
    fn the_nearest_variable_wins() {
        let document = Document {
            variables: map(json!({ "ntp": { "server": "a", "key": 1 }, "dns": ["x", "y"] })),
            groups: [("leaf".to_owned(), map(json!({ "ntp": { "server": "b" } })))].into(),
            sites: [("bonn".to_owned(), map(json!({ "dns": ["z"] })))].into(),
            ..Document::empty()
        };
        let own = map(json!({ "ntp": { "key": 2 }, "name": "r1" }));
        assert_eq!(
            Json::Object(document.variables_of(Some("leaf"), Some("bonn"), &own)),
            json!({ "ntp": { "server": "b", "key": 2 }, "dns": ["z"], "name": "r1" })
        );
        assert_eq!(
            Json::Object(document.variables_of(Some("none"), None, &Variables::new())),
            json!({ "ntp": { "server": "a", "key": 1 }, "dns": ["x", "y"] })
        );
    }

    #[test]
    fn digests_are_read_with_and_without_colons() {
        let digest = Digest::of(b"abc");
        let plain = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), plain);
        let colons: Vec<&str> = (0..32)
            .filter_map(|i| plain.get(2 * i..2 * i + 2))
            .collect();
        assert_eq!(Digest::parse(&colons.join(":")), Some(digest));
        assert_eq!(Digest::parse("ba"), None);
    }
}
