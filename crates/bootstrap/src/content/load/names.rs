//! Names: where they were used, and whether what they name is there.

use super::{CONTENT_FILE, Loading};
use crate::content::reader::At;
use crate::content::rules::Target;

/// Where each name was used, to be looked up when all definitions are known.
#[derive(Default)]
pub(super) struct Names {
    pub(super) images: Vec<At<String>>,
    pub(super) scripts: Vec<At<String>>,
    pub(super) templates: Vec<At<String>>,
    pub(super) yang: Vec<At<String>>,
    pub(super) redirects: Vec<At<String>>,
    /// Bundle and, where it was named, version.
    pub(super) bundles: Vec<At<(String, Option<String>)>>,
    /// Line of each rule, in their order.
    pub(super) rules: Vec<usize>,
    /// Name of each rollout.
    pub(super) rollouts: Vec<At<String>>,
}

fn used(uses: &[At<String>], name: &str) -> bool {
    uses.iter().any(|at| at.value == name)
}

impl Loading {
    /// Looks up what was named, and what was defined and never named.
    pub(super) fn resolve(&mut self) {
        let names = std::mem::take(&mut self.names);
        let mut unknown = self.unknown_names(&names);
        for at in &names.bundles {
            let (name, version) = &at.value;
            let versions = self.document.bundles.get(name);
            match (versions, version) {
                (None, _) => unknown.push((at.line, format!("there is no bundle {name:?}"))),
                (Some(versions), Some(version)) if !versions.contains_key(version) => {
                    unknown.push((at.line, format!("there is no bundle {name}@{version}")));
                }
                (Some(versions), None)
                    if versions.len() > 1 && self.document.rollout_of(name).is_none() =>
                {
                    let message = format!(
                        "{name:?} has {} versions and no rollout says which one is meant; write \
                         {name}@VERSION",
                        versions.len()
                    );
                    unknown.push((at.line, message));
                }
                _ => {}
            }
        }
        for (line, message) in unknown {
            self.findings
                .error(CONTENT_FILE, Some(line), "content.unknown-name", message);
        }
        self.unreachable(&names);
        self.unused(&names);
    }

    fn unknown_names(&self, names: &Names) -> Vec<(usize, String)> {
        let document = &self.document;
        let mut unknown = Vec::new();
        let mut look = |what: &str, uses: &[At<String>], known: &dyn Fn(&str) -> bool| {
            for at in uses.iter().filter(|at| !known(&at.value)) {
                unknown.push((at.line, format!("there is no {what} {:?}", at.value)));
            }
        };
        look("image", &names.images, &|n| document.images.contains_key(n));
        look("script", &names.scripts, &|n| {
            document.scripts.contains_key(n)
        });
        look("template", &names.templates, &|n| {
            document.templates.contains_key(n)
        });
        look("YANG set", &names.yang, &|n| document.yang.contains_key(n));
        look("redirect", &names.redirects, &|n| {
            document.redirects.contains_key(n)
        });
        unknown
    }

    fn unreachable(&mut self, names: &Names) {
        let mut open: Option<&str> = None;
        for (rule, line) in self.document.rules.iter().zip(&names.rules) {
            if let Some(before) = open {
                self.findings.warning(
                    CONTENT_FILE,
                    Some(*line),
                    "content.rule-unreachable",
                    format!("rule {before:?} takes every device before this one is asked"),
                );
            } else if rule.is_open() {
                open = Some(&rule.name);
            }
        }
    }

    fn unused(&mut self, names: &Names) {
        let document = &self.document;
        let images = document.images.keys();
        let scripts = document.scripts.keys();
        let templates = document.templates.keys();
        let bundles = document.bundles.keys();
        let redirects = document.redirects.keys();
        let mut unused: Vec<String> = Vec::new();
        let of_bundles = [
            ("image", images.collect::<Vec<_>>(), &names.images),
            ("script", scripts.collect(), &names.scripts),
            ("template", templates.collect(), &names.templates),
        ];
        for (what, defined, uses) in of_bundles {
            for name in defined.into_iter().filter(|name| !used(uses, name)) {
                unused.push(format!("no bundle has the {what} {name:?}"));
            }
        }
        for name in bundles.filter(|name| !names.bundles.iter().any(|at| at.value.0 == **name)) {
            unused.push(format!("no rule leads to the bundle {name:?}"));
        }
        for name in redirects.filter(|name| !used(&names.redirects, name)) {
            unused.push(format!("no rule leads to the redirect {name:?}"));
        }
        for message in unused {
            self.findings
                .warning(CONTENT_FILE, None, "content.unused", message);
        }
        for at in &names.rollouts {
            let Some(plan) = document.rollouts.get(&at.value) else {
                continue;
            };
            let reached = document.rules.iter().any(|rule| {
                matches!(&rule.target, Target::Bundle { name, version: None } if *name == plan.bundle)
            });
            if !reached {
                self.findings.warning(
                    CONTENT_FILE,
                    Some(at.line),
                    "content.unused",
                    format!(
                        "rollout {:?} moves nobody: no rule leads to {:?} without a version",
                        at.value, plan.bundle
                    ),
                );
            }
        }
    }
}
