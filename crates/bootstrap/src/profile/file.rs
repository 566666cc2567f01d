//! The text of a profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use brski::SerialRule;
use serde::Deserialize;

use super::{
    DhcpForm, InnerEncoding, Listener, OuterEncoding, Profile, ProfileError, Quirk, RootDiscovery,
    Setting, UsbLayout,
};

/// Longest name.
const NAME_LENGTH_MAX: usize = 64;
/// Longest text for people.
const TEXT_LENGTH_MAX: usize = 4096;

/// The profiles that come with the program.
const BUILTIN: &[(&str, &str)] = &[
    ("arista", include_str!("../../profiles/arista.toml")),
    (
        "cisco-ios-xe",
        include_str!("../../profiles/cisco-ios-xe.toml"),
    ),
    (
        "cisco-ios-xr",
        include_str!("../../profiles/cisco-ios-xr.toml"),
    ),
    ("fl-sztp", include_str!("../../profiles/fl-sztp.toml")),
    ("generic", include_str!("../../profiles/generic.toml")),
    ("huawei", include_str!("../../profiles/huawei.toml")),
    ("juniper", include_str!("../../profiles/juniper.toml")),
    ("open-sztp", include_str!("../../profiles/open-sztp.toml")),
    ("opi-agent", include_str!("../../profiles/opi-agent.toml")),
];

/// One profile as it is written; what is not said comes from the profile that it extends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// Its name.
    pub name: String,
    /// The profile that this one begins as; none stands for the model.
    #[serde(default)]
    pub extends: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    evidence: Option<String>,
    #[serde(default)]
    outer_encoding: Option<OuterEncoding>,
    #[serde(default)]
    inner_encoding: Option<InnerEncoding>,
    #[serde(default)]
    listener: Option<Listener>,
    #[serde(default)]
    dhcp: Option<DhcpForm>,
    #[serde(default)]
    root: Option<RootDiscovery>,
    #[serde(default)]
    usb: Option<UsbLayout>,
    #[serde(default)]
    serial: Option<SerialRule>,
    /// Quirks of the extended profile that are turned on.
    #[serde(default)]
    enable: Vec<Quirk>,
    /// Quirks of the extended profile that are turned off.
    #[serde(default)]
    disable: Vec<Quirk>,
    #[serde(default)]
    quirks: BTreeMap<Quirk, Setting>,
}

impl ProfileFile {
    /// Reads the text of a profile. `file` is for the message.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`].
    pub fn parse(text: &str, file: &str) -> Result<Self, ProfileError> {
        let refuse = |detail: String| ProfileError::Malformed {
            file: file.to_owned(),
            detail,
        };
        let parsed: Self =
            toml::from_str(text).map_err(|error| refuse(error.to_string().trim().to_owned()))?;
        let name = &parsed.name;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.chars().all(plain) {
            return Err(refuse(format!(
                "a name has 1 to {NAME_LENGTH_MAX} lower-case letters, digits and hyphens, not {name:?}"
            )));
        }
        let texts = [&parsed.title, &parsed.evidence]
            .into_iter()
            .flatten()
            .chain(parsed.quirks.values().map(|setting| &setting.reason));
        for text in texts {
            if text.len() > TEXT_LENGTH_MAX {
                return Err(refuse(format!(
                    "a text is longer than {TEXT_LENGTH_MAX} bytes"
                )));
            }
        }
        let mut named: Vec<Quirk> = parsed
            .enable
            .iter()
            .chain(&parsed.disable)
            .copied()
            .collect();
        named.extend(parsed.quirks.keys());
        named.sort_unstable();
        if let Some(pair) = named.windows(2).find(|pair| pair.first() == pair.last()) {
            let quirk = pair.first().map_or("", |quirk| quirk.as_str());
            return Err(refuse(format!("`{quirk}` is set twice")));
        }
        Ok(parsed)
    }

    /// Works this text into the profile that it extends.
    ///
    /// # Errors
    /// It turns a quirk on for which nobody gives a reason.
    pub fn resolve(&self, parent: Option<&Profile>, file: &str) -> Result<Profile, ProfileError> {
        let mut profile = parent.cloned().unwrap_or_else(Profile::generic);
        profile.name.clone_from(&self.name);
        profile.file = None;
        if let Some(title) = &self.title {
            profile.title.clone_from(title);
        }
        if let Some(evidence) = &self.evidence {
            profile.evidence.clone_from(evidence);
        }
        profile.outer_encoding = self.outer_encoding.unwrap_or(profile.outer_encoding);
        profile.inner_encoding = self.inner_encoding.unwrap_or(profile.inner_encoding);
        profile.listener = self.listener.unwrap_or(profile.listener);
        profile.dhcp = self.dhcp.unwrap_or(profile.dhcp);
        profile.root = self.root.unwrap_or(profile.root);
        profile.usb = self.usb.unwrap_or(profile.usb);
        if self.serial.is_some() {
            profile.serial_rule.clone_from(&self.serial);
        }
        profile.quirks.extend(self.quirks.clone());
        let switches = self
            .enable
            .iter()
            .map(|quirk| (quirk, true))
            .chain(self.disable.iter().map(|quirk| (quirk, false)));
        for (quirk, on) in switches {
            match profile.quirks.get_mut(quirk) {
                Some(setting) => setting.on = on,
                None => {
                    return Err(ProfileError::Malformed {
                        file: file.to_owned(),
                        detail: format!(
                            "`{quirk}` is not among the quirks of the profile that is extended; \
                             write [quirks.{quirk}] with `on` and a `reason`"
                        ),
                    });
                }
            }
        }
        Ok(profile)
    }
}

/// The profiles that come with the program. A test reads each of them strictly.
pub(super) fn builtin() -> BTreeMap<String, Arc<Profile>> {
    let mut profiles = BTreeMap::new();
    for (name, text) in BUILTIN {
        let read = ProfileFile::parse(text, name).and_then(|file| file.resolve(None, name));
        match read {
            Ok(profile) => {
                profiles.insert((*name).to_owned(), Arc::new(profile));
            }
            Err(error) => tracing::error!(%error, "a built-in profile cannot be read"),
        }
    }
    profiles
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn each_builtin_profile_is_read_and_breaks_nothing() {
        for (name, text) in BUILTIN {
            let file = ProfileFile::parse(text, name).unwrap();
            assert_eq!(file.name, *name);
            assert_eq!(file.extends, None);
            let profile = file.resolve(None, name).unwrap();
            assert_eq!(profile.findings(), [], "{name}");
            assert!(
                !profile.title.is_empty() && !profile.evidence.is_empty(),
                "{name}"
            );
        }
        assert_eq!(builtin().len(), BUILTIN.len());
    }

    #[test]
    fn the_builtin_generic_profile_is_the_model() {
        let generic = builtin().remove("generic").unwrap();
        assert_eq!(generic.quirks, BTreeMap::new());
        assert_eq!(
            Profile {
                title: generic.title.clone(),
                evidence: generic.evidence.clone(),
                ..Profile::generic()
            },
            *generic
        );
    }

    /// With every quirk that it names turned on, a profile says nothing against itself: what a
    /// device does is seen, so it is possible.
    #[test]
    fn each_builtin_profile_can_be_turned_on_whole() {
        for (name, profile) in builtin() {
            let mut profile = (*profile).clone();
            for (quirk, setting) in &mut profile.quirks {
                // These two are alternatives, of which the first keeps to the model.
                setting.on = *quirk != Quirk::SingleDownloadUri;
            }
            let wrong: Vec<_> = profile
                .findings()
                .into_iter()
                .filter(|finding| finding.severity == Severity::Wrong)
                .collect();
            assert_eq!(wrong, [], "{name}");
        }
    }
}
