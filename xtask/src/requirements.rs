//! `docs/requirements.csv`: for each requirement in scope, whether a test holds the product to it.
//!
//! A row is `implemented` when a test names its id, `by design not` when
//! `docs/requirements-not.csv` gives a reason, and `not yet` otherwise. The file is generated, and
//! `tidy` fails when it is not what the tests say, so it cannot drift.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The catalogues that the product answers for today.
const IN_SCOPE: &[&str] = &[
    "base",
    "brski",
    "cbrski",
    "coap",
    "cose",
    "dtls",
    "est",
    "est-coaps",
    "join-proxy",
    "jws",
    "sztp-misc",
    "sztp-restconf-encoding",
    "sztp-rfc8366",
    "sztp-rfc8572",
    "sztp-rfc9646",
    "voucher",
    "voucher-cbor",
];

const TABLE: &str = "docs/requirements.csv";
const REASONS: &str = "docs/requirements-not.csv";

#[derive(serde::Deserialize)]
struct Row {
    id: String,
    section: String,
    level: String,
    role: String,
    priority: String,
}

#[derive(serde::Deserialize)]
struct Reason {
    id: String,
    reason: String,
}

/// Rewrites the table.
pub(crate) fn write(root: &Path) -> Result<()> {
    let table = render(root)?;
    fs::write(root.join(TABLE), &table)?;
    let count = |status: &str| table.lines().filter(|line| line.contains(status)).count();
    eprintln!(
        "{TABLE}: {} implemented, {} by design not, {} not yet",
        count(",implemented,"),
        count(",by design not,"),
        count(",not yet,")
    );
    Ok(())
}

/// What is wrong with the table, the reasons, or the ids that code and tests name.
pub(crate) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let every_id = every_id(root)?;
    let prefixes = prefixes(&every_id);
    for (path, text) in sources(root)? {
        for id in ids_in(&text, &prefixes) {
            if !every_id.contains(&id) {
                findings.push(format!("{}: {id} is not in the catalogue", path.display()));
            }
        }
    }
    findings.extend(super::conformance::findings(root, &every_id)?);
    let named = named_in_tests(root)?;
    for reason in reasons(root)? {
        if !every_id.contains(&reason.id) {
            findings.push(format!("{REASONS}: {} is not in the catalogue", reason.id));
        }
        if reason.reason.trim().len() < 10 {
            findings.push(format!("{REASONS}: {} gives no reason", reason.id));
        }
        if named.contains_key(&reason.id) {
            findings.push(format!(
                "{REASONS}: {} is named by a test all the same",
                reason.id
            ));
        }
    }
    if fs::read_to_string(root.join(TABLE)).unwrap_or_default() != render(root)? {
        findings.push(format!("{TABLE} is stale: run `cargo xtask requirements`"));
    }
    Ok(findings)
}

fn render(root: &Path) -> Result<String> {
    let named = named_in_tests(root)?;
    let reasons: BTreeMap<String, String> = reasons(root)?
        .into_iter()
        .map(|reason| (reason.id, reason.reason))
        .collect();
    let mut table = String::from("id,section,level,role,priority,status,where\n");
    for catalogue in IN_SCOPE {
        for row in rows(root, catalogue)? {
            let (status, place) = if let Some(path) = named.get(&row.id) {
                ("implemented", path.clone())
            } else if let Some(reason) = reasons.get(&row.id) {
                ("by design not", format!("\"{}\"", reason.replace('"', "'")))
            } else {
                ("not yet", String::new())
            };
            let section = if row.section.contains(',') {
                format!("\"{}\"", row.section)
            } else {
                row.section
            };
            writeln!(
                table,
                "{},{section},{},{},{},{status},{place}",
                row.id, row.level, row.role, row.priority
            )?;
        }
    }
    Ok(table)
}

fn rows(root: &Path, catalogue: &str) -> Result<Vec<Row>> {
    let path = root.join(format!("conformance/requirements/{catalogue}.csv"));
    csv::Reader::from_path(&path)
        .with_context(|| path.display().to_string())?
        .deserialize()
        .collect::<Result<_, _>>()
        .with_context(|| path.display().to_string())
}

fn reasons(root: &Path) -> Result<Vec<Reason>> {
    let path = root.join(REASONS);
    if !path.exists() {
        bail!("{REASONS} is missing");
    }
    Ok(csv::Reader::from_path(&path)?
        .deserialize()
        .collect::<Result<_, _>>()?)
}

fn every_id(root: &Path) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(root.join("conformance/requirements"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            for record in csv::Reader::from_path(&path)?.records() {
                ids.extend(record?.get(0).map(str::to_owned));
            }
        }
    }
    Ok(ids)
}

/// Each id that a test names, with the first file that does.
fn named_in_tests(root: &Path) -> Result<BTreeMap<String, String>> {
    let prefixes = prefixes(&every_id(root)?);
    let mut named = BTreeMap::new();
    for (path, text) in sources(root)? {
        let in_tests = path.file_stem().is_some_and(|stem| stem == "tests")
            || path.components().any(|part| part.as_os_str() == "tests");
        let test_text = if in_tests {
            text.as_str()
        } else {
            text.find("#[cfg(test)]").map_or("", |start| &text[start..])
        };
        for id in ids_in(test_text, &prefixes) {
            named
                .entry(id)
                .or_insert_with(|| path.display().to_string());
        }
    }
    Ok(named)
}

/// Every Rust source and every table of test cases, by its path below the root.
fn sources(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    for folder in ["benches", "conformance/src", "conformance/tests", "crates"] {
        for path in super::tidy::files_below(&root.join(folder))? {
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            let is_cases = path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.ends_with("cases.csv") || name.ends_with("cases.json")
            });
            if is_source || is_cases {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                found.insert(path.strip_prefix(root)?.to_path_buf(), text);
            }
        }
    }
    Ok(found)
}

/// The requirement ids in a text: words such as `BRSKI-5.5.1-01`, `EST8951-3.1-02` or `CBR-001`,
/// whose first part opens an id of the catalogue.
fn ids_in(text: &str, prefixes: &BTreeSet<String>) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))) {
        let word = word.trim_end_matches(['.', '-', '_']);
        let mut parts = word.split('-');
        let opens = parts.next().is_some_and(|first| prefixes.contains(first));
        // Without a section between them there are three digits.
        let digits = if parts.count() >= 2 { 2..=9 } else { 3..=3 };
        let numbered = word.rsplit_once('-').is_some_and(|(_, last)| {
            digits.contains(&last.len()) && last.bytes().all(|byte| byte.is_ascii_digit())
        });
        if opens && numbered {
            ids.insert(word.to_owned());
        }
    }
    ids
}

/// What stands before the first `-` of the catalogue's ids.
fn prefixes(every_id: &BTreeSet<String>) -> BTreeSet<String> {
    every_id
        .iter()
        .filter_map(|id| id.split_once('-'))
        .map(|(first, _)| first.to_owned())
        .collect()
}
