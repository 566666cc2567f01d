//! Which rule a device falls under: ordered, the first match wins, no database.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::version::{Version, VersionRange};

/// What a rule gives a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Onboarding information from this bundle; without a version, the one that is released.
    Bundle {
        /// Its name.
        name: String,
        /// A certain version.
        version: Option<String>,
    },
    /// Redirect information.
    Redirect {
        /// Its name.
        name: String,
    },
    /// Nothing for now; the device asks again.
    Hold,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bundle {
                name,
                version: Some(version),
            } => write!(f, "bundle {name}@{version}"),
            Self::Bundle {
                name,
                version: None,
            } => write!(f, "bundle {name}"),
            Self::Redirect { name } => write!(f, "redirect {name}"),
            Self::Hold => f.write_str("hold"),
        }
    }
}

/// Whether conveyed information is encrypted to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encrypt {
    /// Never.
    #[default]
    Never,
    /// Where the device's certificate allows it.
    Possible,
    /// Always; a device whose certificate does not allow it gets nothing.
    Always,
}

/// A rule. An empty list is no condition; all conditions have to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in answers and timelines.
    pub name: String,
    /// The manufacturer, as in the device's row.
    pub vendor: Vec<Pattern>,
    /// The serial number.
    pub serial: Vec<Pattern>,
    /// The device's group.
    pub group: Vec<Pattern>,
    /// The device's site.
    pub site: Vec<Pattern>,
    /// The device's type, which names its profile.
    pub device_type: Vec<Pattern>,
    /// `hw-model` as the device sent it.
    pub hw_model: Vec<Pattern>,
    /// `os-name` as the device sent it.
    pub os_name: Vec<Pattern>,
    /// `os-version` as the device sent it.
    pub os_version: Vec<VersionRange>,
    /// What it gives.
    pub target: Target,
    /// Whether that is encrypted.
    pub encrypt: Encrypt,
}

/// What rules look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The manufacturer.
    pub vendor: &'a str,
    /// The serial number.
    pub serial: &'a str,
    /// From the device's row.
    pub group: Option<&'a str>,
    /// From the device's row.
    pub site: Option<&'a str>,
    /// From the device's row.
    pub device_type: Option<&'a str>,
    /// What the device sent; else what its row says.
    pub hw_model: Option<&'a str>,
    /// What the device sent; else what its row says.
    pub os_name: Option<&'a str>,
    /// What the device sent; else what its row says.
    pub os_version: Option<&'a str>,
}

/// Why a rule does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Name of the condition.
    pub condition: &'static str,
    /// What the rule wants.
    pub wanted: String,
    /// What there is.
    pub found: Option<String>,
}

fn any(patterns: &[Pattern], text: Option<&str>) -> bool {
    patterns.is_empty()
        || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text)))
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(" or ")
}

impl Rule {
    /// Whether nothing but serial numbers without wildcards is asked for first.
    fn serials(&self) -> Option<impl Iterator<Item = &str>> {
        (!self.serial.is_empty() && self.serial.iter().all(|p| p.exact().is_some()))
            .then(|| self.serial.iter().filter_map(Pattern::exact))
    }

    /// Whether it matches every device.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.vendor.is_empty()
            && self.serial.is_empty()
            && self.group.is_empty()
            && self.site.is_empty()
            && self.device_type.is_empty()
            && self.hw_model.is_empty()
            && self.os_name.is_empty()
            && self.os_version.is_empty()
    }

    fn matches(&self, subject: &Subject<'_>, version: &mut Option<Version>) -> bool {
        any(&self.vendor, Some(subject.vendor))
            && any(&self.serial, Some(subject.serial))
            && any(&self.group, subject.group)
            && any(&self.site, subject.site)
            && any(&self.device_type, subject.device_type)
            && any(&self.hw_model, subject.hw_model)
            && any(&self.os_name, subject.os_name)
            && self.version_matches(subject.os_version, version)
    }

    fn version_matches(&self, text: Option<&str>, version: &mut Option<Version>) -> bool {
        if self.os_version.is_empty() {
            return true;
        }
        let Some(text) = text else { return false };
        let version = version.get_or_insert_with(|| Version::new(text));
        self.os_version
            .iter()
            .any(|range| range.contains(text, version))
    }

    /// The first condition that does not hold.
    #[must_use]
    pub fn mismatch(&self, subject: &Subject<'_>) -> Option<Mismatch> {
        let texts = [
            ("vendor", &self.vendor, Some(subject.vendor)),
            ("serial", &self.serial, Some(subject.serial)),
            ("group", &self.group, subject.group),
            ("site", &self.site, subject.site),
            ("device-type", &self.device_type, subject.device_type),
            ("hw-model", &self.hw_model, subject.hw_model),
            ("os-name", &self.os_name, subject.os_name),
        ];
        for (condition, patterns, found) in texts {
            if !any(patterns, found) {
                return Some(Mismatch {
                    condition,
                    wanted: list(patterns),
                    found: found.map(str::to_owned),
                });
            }
        }
        (!self.version_matches(subject.os_version, &mut None)).then(|| Mismatch {
            condition: "os-version",
            wanted: list(&self.os_version),
            found: subject.os_version.map(str::to_owned),
        })
    }
}

/// Rules in their order, with those for single devices found at once.
///
/// A network has a handful of rules for kinds of devices, but may have thousands for single ones.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Positions of the rules that name serial numbers.
    by_serial: HashMap<String, Vec<usize>>,
    /// Positions of all others.
    others: Vec<usize>,
}

impl RuleSet {
    /// Takes the rules in their order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut set = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            if let Some(serials) = rule.serials() {
                for serial in serials {
                    let positions = set.by_serial.entry(serial.to_owned()).or_default();
                    if positions.last() != Some(&index) {
                        positions.push(index);
                    }
                }
            } else {
                set.others.push(index);
            }
        }
        set.rules = rules;
        set
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule that matches.
    #[must_use]
    pub fn choose(&self, subject: &Subject<'_>) -> Option<&Rule> {
        let mut version = None;
        let own = self
            .by_serial
            .get(subject.serial)
            .map_or(&[][..], Vec::as_slice);
        let (mut own, mut others) = (own.iter().peekable(), self.others.iter().peekable());
        loop {
            let next = match (own.peek(), others.peek()) {
                (Some(a), Some(b)) if a < b => own.next(),
                (_, Some(_)) => others.next(),
                (Some(_), None) => own.next(),
                (None, None) => return None,
            };
            let rule = next.and_then(|index| self.rules.get(*index))?;
            if rule.matches(subject, &mut version) {
                return Some(rule);
            }
        }
    }

    /// Each rule up to the first that matches, with the reason why it does not.
    #[must_use]
    pub fn explain(&self, subject: &Subject<'_>) -> Vec<(&Rule, Option<Mismatch>)> {
        let mut steps = Vec::new();
        for rule in &self.rules {
            let mismatch = rule.mismatch(subject);
            let done = mismatch.is_none();
            steps.push((rule, mismatch));
            if done {
                break;
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(name: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            vendor: Vec::new(),
            serial: Vec::new(),
            group: Vec::new(),
            site: Vec::new(),
            device_type: Vec::new(),
            hw_model: Vec::new(),
            os_name: Vec::new(),
            os_version: Vec::new(),
            target: Target::Hold,
            encrypt: Encrypt::Never,
        }
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text)).collect()
    }

    /// Requirements: SZTP-8572-7.3-05
    #[test]
    fn the_first_match_wins() {
        let set = RuleSet::new(vec![
            Rule {
                serial: patterns(&["SN-7", "SN-8"]),
                ..rule("two devices")
            },
            Rule {
                hw_model: patterns(&["C9300*"]),
                os_version: vec![VersionRange::new("< 17.9").unwrap()],
                ..rule("old switches")
            },
            Rule {
                hw_model: patterns(&["C9300*"]),
                ..rule("switches")
            },
            Rule {
                serial: patterns(&["SN-9"]),
                ..rule("late")
            },
            Rule {
                site: patterns(&["berlin", "bonn"]),
                ..rule("site")
            },
            Rule {
                serial: patterns(&["SN-9"]),
                ..rule("later")
            },
        ]);
        let subject = Subject {
            vendor: "example",
            serial: "SN-1",
            ..Subject::default()
        };
        let cases = [
            (subject, None),
            (
                Subject {
                    serial: "SN-8",
                    hw_model: Some("C9300-24T"),
                    ..subject
                },
                Some("two devices"),
            ),
            (
                Subject {
                    hw_model: Some("C9300-24T"),
                    os_version: Some("17.03.01"),
                    ..subject
                },
                Some("old switches"),
            ),
            // A version that was not sent is not below any other.
            (
                Subject {
                    hw_model: Some("C9300-24T"),
                    ..subject
                },
                Some("switches"),
            ),
            (
                Subject {
                    serial: "SN-9",
                    hw_model: Some("C9300-24T"),
                    ..subject
                },
                Some("switches"),
            ),
            (
                Subject {
                    serial: "SN-9",
                    site: Some("bonn"),
                    ..subject
                },
                Some("late"),
            ),
            (
                Subject {
                    site: Some("bonn"),
                    ..subject
                },
                Some("site"),
            ),
        ];
        for (subject, expected) in cases {
            let chosen = set.choose(&subject).map(|rule| rule.name.as_str());
            assert_eq!(chosen, expected, "{subject:?}");
        }
    }

    fn texts() -> impl Strategy<Value = Vec<Pattern>> {
        prop::collection::vec("[ab*?]{0,2}", 0..3)
            .prop_map(|texts| texts.iter().map(|text| Pattern::new(text)).collect())
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let one = (texts(), texts(), texts(), prop::option::of("[<>]?[0-9]")).prop_map(
            |(serial, group, hw_model, version)| Rule {
                serial,
                group,
                hw_model,
                os_version: version
                    .and_then(|text| VersionRange::new(&text).ok())
                    .into_iter()
                    .collect(),
                ..rule("")
            },
        );
        prop::collection::vec(one, 0..12).prop_map(|mut rules| {
            for (index, rule) in rules.iter_mut().enumerate() {
                rule.name = index.to_string();
            }
            rules
        })
    }

    proptest! {
        /// The index over serial numbers decides as a walk over all rules does, each time anew.
        #[test]
        fn the_decision_is_the_first_match_and_always_the_same(
            rules in rules(),
            serial in "[ab]{0,2}",
            group in prop::option::of("[ab]{0,2}"),
            model in prop::option::of("[ab]{0,2}"),
            version in prop::option::of("[0-9]"),
        ) {
            let subject = Subject {
                serial: &serial,
                group: group.as_deref(),
                hw_model: model.as_deref(),
                os_version: version.as_deref(),
                ..Subject::default()
            };
            let walk = rules.iter().find(|rule| rule.mismatch(&subject).is_none()).cloned();
            let set = RuleSet::new(rules);
            let chosen = set.choose(&subject).cloned();
            prop_assert_eq!(&chosen, &walk);
            prop_assert_eq!(set.choose(&subject).cloned(), chosen);
            let explained = set.explain(&subject);
            let last = explained.last().and_then(|(rule, why)| why.is_none().then(|| (*rule).clone()));
            prop_assert_eq!(last, walk);
        }
    }
}
