//! The conformance suite and its catalogue, held against each other in both directions.
//!
//! The suite's own tests run it and compare; here files alone are read, so that this is quick and
//! needs no build: each row has a line in the coverage page, each case named there exists, and
//! each row without a case that gives a reason gives one.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

const PAGE: &str = "docs/conformance-coverage.md";
const UNTESTABLE: &str = "conformance/untestable.csv";
const VECTORS: &str = "conformance/vectors/index.json";

#[derive(serde::Deserialize)]
struct Reason {
    id: String,
    reason: String,
}

/// What is wrong.
pub(crate) fn findings(root: &Path, every_id: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let page = fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let mut code = fs::read_to_string(root.join(VECTORS)).context(VECTORS)?;
    for path in super::tidy::files_below(&root.join("conformance/src"))? {
        code.push_str(&fs::read_to_string(path)?);
    }
    let mut covered = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, id, _, _, _, _, cases, _] = cells.as_slice() else {
            continue;
        };
        if !every_id.contains(*id) {
            if !matches!(*id, "requirement" | "---") {
                findings.push(format!("{PAGE}: {id} is not in the catalogue"));
            }
            continue;
        }
        seen.insert((*id).to_owned());
        for case in cases.split('`').skip(1).step_by(2) {
            covered.insert((*id).to_owned());
            if !exists(case, &code) {
                findings.push(format!("{PAGE}: {id} names {case}, which no source has"));
            }
        }
    }
    for id in every_id.difference(&seen) {
        findings.push(format!("{PAGE}: {id} has no line"));
    }
    for reason in csv::Reader::from_path(root.join(UNTESTABLE))?.deserialize() {
        let Reason { id, reason } = reason.context(UNTESTABLE)?;
        if !every_id.contains(&id) {
            findings.push(format!("{UNTESTABLE}: {id} is not in the catalogue"));
        }
        if reason.trim().len() < 10 {
            findings.push(format!("{UNTESTABLE}: {id} gives no reason"));
        }
        if covered.contains(&id) {
            findings.push(format!("{UNTESTABLE}: {id} has a case all the same"));
        }
    }
    Ok(findings)
}

/// A case's name stands in a source, whole, or in the two parts from which it is made: a table's
/// line and the envelope, the number or the circumstance. Whether each case is really there the
/// suite's own tests find out, which compare the page with the cases.
fn exists(case: &str, code: &str) -> bool {
    let name = case.rsplit('/').next().unwrap_or(case);
    let name = ["-cms", "-jws"]
        .iter()
        .find_map(|envelope| name.strip_suffix(envelope))
        .unwrap_or(name);
    code.contains(name)
        || name.match_indices('-').any(|(at, _)| {
            let (first, last) = name.split_at(at);
            code.contains(first) && code.contains(last.trim_start_matches('-'))
        })
}
