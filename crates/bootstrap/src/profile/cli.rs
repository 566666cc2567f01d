//! `usher bootstrap profiles …`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use daemon::{Format, Outcome};
use pki::Coded as _;
use serde_json::{Value, json};

use super::{Finding, Profile, ProfileError, ProfileFile, Profiles, Quirk, Severity};

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfilesCommand {
    /// List them with the quirks that are on.
    List,
    /// Show one whole: each quirk, whether it is on, why it is there, what it breaks.
    Show {
        /// Its name.
        name: String,
    },
    /// List every quirk that a profile can name.
    Quirks,
    /// Check a profile, a file or the whole folder, and say what breaks the model.
    Check {
        /// A profile's name or a file; without it, all.
        what: Option<String>,
    },
}

impl ProfilesCommand {
    /// Carries the command out. `folder` holds the operator's own profiles.
    ///
    /// # Errors
    /// A profile cannot be read, or there is none of that name.
    pub fn run(&self, format: Format, folder: Option<&Path>) -> Result<Outcome, ProfileError> {
        match self {
            Self::List => {
                let profiles = Profiles::load(folder)?;
                let list: Vec<Value> = profiles.iter().map(|profile| summary(profile)).collect();
                format.print(&list, |_| table(&profiles));
                Ok(Outcome::Yes)
            }
            Self::Show { name } => {
                let profile = Profiles::load(folder)?.find(name)?;
                format.print(&whole(&profile), |_| page(&profile));
                Ok(Outcome::Yes)
            }
            Self::Quirks => {
                let list: Vec<Value> = Quirk::ALL
                    .iter()
                    .map(|quirk| {
                        json!({
                            "name": quirk,
                            "meaning": quirk.meaning(),
                            "breaks": quirk.breaks(),
                        })
                    })
                    .collect();
                format.print(&list, |_| {
                    let mut text = String::new();
                    for quirk in Quirk::ALL {
                        text.push_str(&format!("{quirk}\n  {}\n", quirk.meaning()));
                        if let Some(rule) = quirk.breaks() {
                            text.push_str(&format!("  breaks: {rule}\n"));
                        }
                    }
                    text
                });
                Ok(Outcome::Yes)
            }
            Self::Check { what } => Ok(check(format, folder, what.as_deref())),
        }
    }
}

/// A file is checked by itself, over the profiles of the folder that it may extend.
fn check_file(path: &Path, folder: Option<&Path>) -> Result<Profile, ProfileError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ProfileError::File {
        path: path.to_owned(),
        source,
    })?;
    let file = ProfileFile::parse(&text, &shown)?;
    let parent = match file.extends.as_deref() {
        Some(name) if name == file.name => Some(Profiles::default().find(name)?),
        Some(name) => Some(Profiles::load(folder)?.find(name)?),
        None => None,
    };
    let mut profile = file.resolve(parent.as_deref(), &shown)?;
    profile.file = Some(path.to_owned());
    Ok(profile)
}

fn check(format: Format, folder: Option<&Path>, what: Option<&str>) -> Outcome {
    let read = match what {
        Some(what) if what.ends_with(".toml") => {
            check_file(&PathBuf::from(what), folder).map(|profile| vec![profile])
        }
        Some(name) => Profiles::load(folder)
            .and_then(|profiles| profiles.find(name))
            .map(|profile| vec![(*profile).clone()]),
        None => Profiles::load(folder)
            .map(|profiles| profiles.iter().map(|profile| (**profile).clone()).collect()),
    };
    let checked = match read {
        Ok(checked) => checked,
        // A text that is no profile is an answer to this question, anything else is not.
        Err(error @ ProfileError::Malformed { .. }) => {
            let value = json!({ "ok": false, "code": error.code(), "detail": error.to_string() });
            format.print(&value, |_| format!("{error} [{}]", error.code()));
            return Outcome::No;
        }
        Err(error) => return format.error(&error),
    };
    let results: Vec<(String, Vec<Finding>)> = checked
        .into_iter()
        .map(|profile| {
            let findings = profile.findings();
            (profile.name, findings)
        })
        .collect();
    let ok = results
        .iter()
        .flat_map(|(_, findings)| findings)
        .all(|finding| finding.severity != Severity::Wrong);
    let value = json!({
        "ok": ok,
        "profiles": results
            .iter()
            .map(|(name, findings)| json!({ "name": name, "findings": findings }))
            .collect::<Vec<_>>(),
    });
    format.print(&value, |_| {
        let mut text = String::new();
        for (name, findings) in &results {
            if findings.is_empty() {
                text.push_str(&format!("{name}: within the model\n"));
            }
            for finding in findings {
                let kind = match finding.severity {
                    Severity::BreaksTheModel => "breaks the model",
                    Severity::Wrong => "wrong",
                };
                let quirk = finding.quirk.map_or("profile", Quirk::as_str);
                text.push_str(&format!("{name}: {kind}: {quirk}: {}\n", finding.detail));
            }
        }
        text
    });
    Outcome::of(ok)
}

fn summary(profile: &Profile) -> Value {
    json!({
        "name": profile.name,
        "title": profile.title,
        "file": profile.file,
        "listener": profile.listener,
        "on": profile.enabled().collect::<Vec<_>>(),
        "off": profile
            .quirks
            .iter()
            .filter_map(|(quirk, setting)| (!setting.on).then_some(quirk))
            .collect::<Vec<_>>(),
    })
}

fn whole(profile: &Profile) -> Value {
    let quirks: Vec<Value> = profile
        .quirks
        .iter()
        .map(|(quirk, setting)| {
            json!({
                "name": quirk,
                "on": setting.on,
                "reason": setting.reason,
                "meaning": quirk.meaning(),
                "breaks": quirk.breaks(),
            })
        })
        .collect();
    json!({
        "name": profile.name,
        "title": profile.title,
        "evidence": profile.evidence,
        "file": profile.file,
        "listener": profile.listener,
        "outer_encoding": profile.outer_encoding,
        "inner_encoding": profile.inner_encoding,
        "dhcp": profile.dhcp,
        "root": profile.root,
        "usb": profile.usb,
        "serial": profile.serial_rule,
        "quirks": quirks,
    })
}

fn table(profiles: &Profiles) -> String {
    let mut text = String::new();
    for profile in profiles.iter() {
        let off = profile
            .quirks
            .values()
            .filter(|setting| !setting.on)
            .count();
        let on: Vec<&str> = profile.enabled().map(Quirk::as_str).collect();
        text.push_str(&format!("{:<16} {}\n", profile.name, profile.title));
        if !on.is_empty() {
            text.push_str(&format!("{:<16}   on: {}\n", "", on.join(", ")));
        }
        if off > 0 {
            text.push_str(&format!(
                "{:<16}   {off} more known and off, see `profiles show {}`\n",
                "", profile.name
            ));
        }
    }
    text
}

fn page(profile: &Profile) -> String {
    let word = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => "as the vendor's".to_owned(),
        other => other.to_string(),
    };
    let mut text = format!(
        "{}: {}\n{}\n\n",
        profile.name, profile.title, profile.evidence
    );
    for (name, value) in [
        ("listener", json!(profile.listener)),
        ("outer encoding", json!(profile.outer_encoding)),
        ("inner encoding", json!(profile.inner_encoding)),
        ("DHCP option", json!(profile.dhcp)),
        ("RESTCONF root", json!(profile.root)),
        ("USB layout", json!(profile.usb)),
        ("serial number", json!(profile.serial_rule)),
    ] {
        text.push_str(&format!("{name:<15} {}\n", word(value)));
    }
    for (quirk, setting) in &profile.quirks {
        let state = if setting.on { "on" } else { "off" };
        text.push_str(&format!("\n{quirk} ({state})\n  {}\n", quirk.meaning()));
        text.push_str(&format!("  why: {}\n", setting.reason));
        if let Some(rule) = quirk.breaks() {
            text.push_str(&format!("  breaks: {rule}\n"));
        }
    }
    text
}
