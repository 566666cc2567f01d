//! House rules that neither the compiler nor clippy can see.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::requirements;

/// Beyond this a file holds more than one subject.
const FILE_LINES_MAX: usize = 800;

/// The layers, lowest first. Data flows one way: a crate depends on its own layer or a lower one,
/// but a service never on a service.
const LAYERS: &[&str] = &[
    "codec", "protocol", "adapter", "service", "tool", "dev only",
];

/// Crates that a crate without sockets, tasks, clock and randomness has no business with.
const IO_CRATES: &[&str] = &["axum", "hyper", "quinn", "rand", "rustls", "sqlx", "tokio"];

/// What may not stay in a source, and why.
const LEFTOVERS: &[(&str, &str)] = &[
    ("#[ignore", "a test that does not run proves nothing"),
    ("#[should_panic", "assert the error instead"),
    ("todo!(", "finish it or say that it is missing"),
    ("unimplemented!(", "finish it or say that it is missing"),
    ("TODO", "name an issue or do it"),
    ("FIXME", "name an issue or do it"),
    (
        "#![deny(warnings)]",
        "a newer compiler would break old tags; CI denies warnings",
    ),
];

/// The only file that may be different in a fuzz build.
const FUZZ_MOCK: &str = "crates/pki/src/fuzz_mock.rs";

/// Runs every check and fails with the whole list.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = layers(root)?;
    findings.extend(files(root)?);
    findings.extend(error_codes(root)?);
    findings.extend(requirements::findings(root)?);
    if findings.is_empty() {
        eprintln!("tidy: nothing to say");
        return Ok(());
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    bail!("{} findings", findings.len())
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    metadata: Option<serde_json::Value>,
    dependencies: Vec<Dependency>,
}

#[derive(serde::Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

fn layers(root: &Path) -> Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cargo metadata did not start")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let mut findings = Vec::new();
    let mut rank_of = BTreeMap::new();
    for package in &metadata.packages {
        let layer = package
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.pointer("/usher/layer"))
            .and_then(serde_json::Value::as_str);
        match layer.and_then(|layer| LAYERS.iter().position(|known| *known == layer)) {
            Some(rank) => {
                rank_of.insert(package.name.as_str(), rank);
            }
            None => findings.push(format!("{}: states no known layer", package.name)),
        }
    }
    let service = LAYERS.iter().position(|layer| *layer == "service");
    let adapter = LAYERS.iter().position(|layer| *layer == "adapter");
    for package in &metadata.packages {
        let Some(rank) = rank_of.get(package.name.as_str()).copied() else {
            continue;
        };
        for dependency in &package.dependencies {
            if dependency.kind.as_deref() == Some("dev") {
                continue;
            }
            if Some(rank) < adapter && IO_CRATES.contains(&dependency.name.as_str()) {
                findings.push(format!(
                    "{} is a {} crate and depends on {}",
                    package.name,
                    LAYERS.get(rank).copied().unwrap_or_default(),
                    dependency.name
                ));
            }
            let Some(below) = rank_of.get(dependency.name.as_str()).copied() else {
                continue;
            };
            let sideways = Some(rank) == service && Some(below) == service;
            if below > rank || sideways {
                findings.push(format!(
                    "{} depends on {}: up or sideways",
                    package.name, dependency.name
                ));
            }
        }
    }
    Ok(findings)
}

fn files(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for folder in ["benches", "conformance", "crates", "docs", "fuzz", "xtask"] {
        for path in files_below(&root.join(folder))? {
            let shown = path.strip_prefix(root)?.display().to_string();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| shown.clone())?;
            let lines = text.lines().count();
            if lines > FILE_LINES_MAX {
                findings.push(format!("{shown}: {lines} lines, {FILE_LINES_MAX} at most"));
            }
            // A build with `cfg(fuzzing)` takes forged signatures for valid ones, which is why the
            // fuzzer gets behind them, and why one file alone may know of it.
            if shown != FUZZ_MOCK && !shown.starts_with("xtask") {
                for (number, line) in text.lines().enumerate() {
                    let code = line.split("//").next().unwrap_or_default();
                    if code.contains("fuzzing") {
                        findings.push(format!(
                            "{shown}:{}: cfg(fuzzing) outside of {FUZZ_MOCK}",
                            number + 1
                        ));
                    }
                }
            }
            // This file has to spell what it looks for.
            if shown == "xtask/src/tidy.rs" {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                for (leftover, why) in LEFTOVERS {
                    if line.contains(leftover) {
                        findings.push(format!("{shown}:{}: {leftover}: {why}", number + 1));
                    }
                }
            }
        }
    }
    Ok(findings)
}

/// Every dotted code that a crate can emit has a row in `docs/errors.md`, and no row is about a
/// code that nothing emits.
fn error_codes(root: &Path) -> Result<Vec<String>> {
    let mut emitted: BTreeMap<String, String> = BTreeMap::new();
    for path in files_below(&root.join("crates"))? {
        let in_source = path.components().any(|part| part.as_os_str() == "src");
        if !in_source || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let product = text
            .find("#[cfg(test)]")
            .map_or(text.as_str(), |end| &text[..end]);
        for code in codes_in(product) {
            emitted
                .entry(code)
                .or_insert(path.strip_prefix(root)?.display().to_string());
        }
    }
    let documented: BTreeSet<String> = fs::read_to_string(root.join("docs/errors.md"))
        .context("docs/errors.md")?
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .map(|(code, _)| code.to_owned())
        .collect();
    let mut findings = Vec::new();
    for (code, path) in &emitted {
        if !documented.contains(code) {
            findings.push(format!("docs/errors.md: no row for {code} of {path}"));
        }
    }
    for code in &documented {
        let cause = code.split_once('.').map_or("", |(_, cause)| cause);
        if !emitted.contains_key(code) && !FILE_ENDINGS.contains(&cause) {
            findings.push(format!("docs/errors.md: nothing emits {code}"));
        }
    }
    Ok(findings)
}

/// Literals with such a cause may as well be the name of a file.
const FILE_ENDINGS: &[&str] = &[
    "checkpoint",
    "crt",
    "csv",
    "der",
    "json",
    "key",
    "log",
    "pem",
    "pub",
    "sqlite",
    "toml",
];

/// String literals that have the form of an error code: `"masa.serial-unknown"`.
fn codes_in(text: &str) -> BTreeSet<String> {
    const AREAS: &[&str] = &[
        "audit",
        "bootstrap",
        "bundle",
        "ca",
        "cms",
        "coap",
        "config",
        "content",
        "conveyed",
        "cose",
        "crl",
        "csr",
        "device",
        "dhcp",
        "dns",
        "dtls",
        "enveloped",
        "est",
        "event",
        "http",
        "jws",
        "masa",
        "net",
        "owner",
        "path",
        "pki",
        "pledge",
        "policy",
        "profile",
        "proxy",
        "registrar",
        "request",
        "restconf",
        "store",
        "sztp",
        "telemetry",
        "usb",
        "voucher",
    ];
    let mut codes = BTreeSet::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        for literal in line.split('"').skip(1).step_by(2) {
            // A plain answer to a peer begins with its code: `"registrar.method: GET only"`.
            let code = literal.split(':').next().unwrap_or(literal);
            let Some((area, cause)) = code.split_once('.') else {
                continue;
            };
            let is_cause = !cause.is_empty()
                && cause
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte.is_ascii_digit());
            if is_cause && AREAS.contains(&area) && !FILE_ENDINGS.contains(&cause) {
                codes.insert(code.to_owned());
            }
        }
    }
    codes
}

/// Every file below a folder, build output left out; nothing when the folder is missing.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                if name != "target" && name != "corpus" && name != "artifacts-found" {
                    folders.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
