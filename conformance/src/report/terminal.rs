//! The report on a terminal: what went wrong first, the summary last.

use std::fmt::Write as _;

use super::Report;
use crate::outcome::Outcome;

/// Everything but passes, one after the other, and then the summary.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for case in &report.cases {
        let label = match (&case.expected, case.unexpected_pass) {
            (Some(_), _) => "expected failure",
            (None, true) => "UNEXPECTED PASS",
            (None, false) => match case.outcome {
                Outcome::Pass | Outcome::NotApplicable => continue,
                outcome => outcome.label(),
            },
        };
        let _ = writeln!(text, "\n{label}  {}", case.id);
        let _ = writeln!(text, "    {}", case.title);
        for requirement in &case.requirements {
            let _ = writeln!(
                text,
                "    {} ({} {}, {}): {}",
                requirement.id,
                requirement.spec,
                requirement.section,
                requirement.level,
                requirement.requirement
            );
        }
        if !case.why.is_empty() {
            let _ = writeln!(text, "    why: {}", case.why);
        }
        if let Some(reason) = &case.expected {
            let _ = writeln!(text, "    expected: {reason}");
        }
        let _ = writeln!(text, "    repeat: {}", case.repeat);
    }
    let counts = &report.counts;
    let (good, all) = report.must();
    let (name, version) = report.implementation();
    let _ = writeln!(
        text,
        "\n{} {name} {version}, suite {}, seed {}{}",
        report.target,
        report.suite.version,
        report.seed,
        if report.strict { ", strict" } else { "" }
    );
    let _ = writeln!(
        text,
        "{} cases: {} pass, {} warning, {} FAIL, {} could not test, {} manual, {} not applicable, \
         {} expected failures, {} unexpected passes",
        counts.cases,
        counts.pass,
        counts.warning,
        counts.fail,
        counts.could_not_test,
        counts.manual,
        counts.not_applicable,
        counts.expected_failure,
        counts.unexpected_pass
    );
    let _ = writeln!(
        text,
        "{good} of {all} cases about a MUST that apply have passed: {}",
        match report.exit_code() {
            0 => "conforms as far as this suite sees (a self-test, not a certification)",
            1 => "does not conform",
            _ => "not decided, because something could not be tested",
        }
    );
    text
}
