//! Cases about vouchers in files.

use std::sync::Arc;

use super::Bench;
use crate::{
    case::Case,
    checks::voucher::{CHECKS, signer_is_trusted},
    clock,
    evidence::Recorder,
    inspect,
    outcome::{Finding, OrCouldNotTest as _, Outcome, Told},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = CHECKS
        .iter()
        .map(|check| {
            Case::new(
                format!("artifact/{}/{}", check.section, check.name),
                check.title,
                check.requirements,
                move |bench: Arc<Bench>, record| {
                    let told = each(&bench, &record, check.check);
                    async move { told }
                },
            )
            .tags(&["voucher"])
            .tags(check.tags)
            .needs(&["files"])
        })
        .collect();
    cases.push(
        Case::new(
            "artifact/rfc8995-9.1.1/signer-trusted",
            "the signer's path leads to a certificate that devices trust",
            &["BRSKI-9.1.1-02", "BRSKI-11.6-01"],
            |bench: Arc<Bench>, record| {
                let told = trusted(&bench, &record);
                async move { told }
            },
        )
        .tags(&["voucher", "path"])
        .needs(&["files"]),
    );
    cases
}

/// Applies a check to each file; the worst finding counts.
fn each(bench: &Bench, record: &Recorder, check: impl Fn(&inspect::Signed) -> Told) -> Told {
    if bench.files.is_empty() {
        return Err(Finding::could_not_test(
            "settings.files names no file that is there",
        ));
    }
    let known = match &bench.anchors {
        Some(path) => inspect::load(path)?,
        None => Vec::new(),
    };
    let mut worst: Option<Finding> = None;
    let mut applied = false;
    for path in &bench.files {
        let shown = path.strip_prefix(&bench.folder).unwrap_or(path).display();
        let octets = std::fs::read(path).or_could_not_test(&shown.to_string())?;
        let told = inspect::open_with(&octets, &known).and_then(|signed| check(&signed));
        match told {
            Ok(()) => {
                applied = true;
                record.note(format!("{shown}: good"));
            }
            Err(finding) if finding.outcome == Outcome::NotApplicable => {
                record.note(format!("{shown}: {}", finding.why));
            }
            Err(mut finding) => {
                applied = true;
                record.received(
                    format!("{shown}: {}", finding.why),
                    &octets,
                    crate::decode::describe(&octets),
                );
                finding.why = format!("{shown}: {}", finding.why);
                if worst
                    .as_ref()
                    .is_none_or(|worst| worst.outcome < finding.outcome)
                {
                    worst = Some(finding);
                }
            }
        }
    }
    match worst {
        Some(finding) => Err(finding),
        None if applied => Ok(()),
        None => Err(Finding::not_applicable("no file is of this kind")),
    }
}

fn trusted(bench: &Bench, record: &Recorder) -> Told {
    let Some(path) = &bench.anchors else {
        return Err(Finding::could_not_test(
            "settings.voucher_anchors is not set",
        ));
    };
    let anchors = inspect::load(path)?;
    let at = bench.at.unwrap_or_else(clock::now);
    each(bench, record, |signed| {
        signer_is_trusted(signed, &anchors, at)
    })
}
