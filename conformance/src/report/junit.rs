//! JUnit XML: the form that every CI reads.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{CaseReport, Report, escape};
use crate::outcome::Outcome;

/// The report as JUnit XML, a test suite for each standard's section.
#[must_use]
pub fn junit(report: &Report) -> String {
    let mut suites: BTreeMap<&str, Vec<&CaseReport>> = BTreeMap::new();
    for case in &report.cases {
        let suite = case
            .id
            .rsplit_once('/')
            .map_or(case.id.as_str(), |(suite, _)| suite);
        suites.entry(suite).or_default().push(case);
    }
    let (name, version) = report.implementation();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string does not fail.
    let _ = writeln!(
        xml,
        "<testsuites name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\">",
        escape(&format!(
            "{} {} {name} {version}",
            report.suite.name, report.target
        )),
        report.cases.len(),
        count(&report.cases, is_failure),
        count(&report.cases, is_error),
        count(&report.cases, is_skipped),
        seconds(report.cases.iter().map(|case| case.ms).sum()),
    );
    for (suite, cases) in suites {
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\" timestamp=\"{}\">",
            escape(suite),
            cases.len(),
            count(cases.iter().copied(), is_failure),
            count(cases.iter().copied(), is_error),
            count(cases.iter().copied(), is_skipped),
            seconds(cases.iter().map(|case| case.ms).sum()),
            escape(&report.started),
        );
        for case in cases {
            write_case(&mut xml, suite, case);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn write_case(xml: &mut String, suite: &str, case: &CaseReport) {
    let name = case
        .id
        .rsplit_once('/')
        .map_or(case.id.as_str(), |(_, name)| name);
    let _ = write!(
        xml,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
        escape(suite),
        escape(name),
        seconds(case.ms)
    );
    let detail = detail(case);
    let element = if is_failure(case) {
        Some("failure")
    } else if is_error(case) {
        Some("error")
    } else if is_skipped(case) {
        Some("skipped")
    } else {
        None
    };
    match element {
        Some("skipped") => {
            let why = case.expected.as_deref().unwrap_or(&case.why);
            let _ = writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(why));
        }
        Some(element) => {
            let why = if case.unexpected_pass {
                "expected-failures.toml lists it, and it passed"
            } else {
                &case.why
            };
            let _ = writeln!(
                xml,
                "><{element} type=\"{}\" message=\"{}\">{}</{element}></testcase>",
                case.outcome.name(),
                escape(why),
                escape(&detail)
            );
        }
        None if case.why.is_empty() => xml.push_str("/>\n"),
        None => {
            let _ = writeln!(
                xml,
                "><system-out>{}</system-out></testcase>",
                escape(&format!("{}: {}", case.outcome.name(), case.why))
            );
        }
    }
}

fn detail(case: &CaseReport) -> String {
    let mut text = format!("{}\n{}\n", case.title, case.why);
    for requirement in &case.requirements {
        let _ = writeln!(
            text,
            "{} ({} {} {}): {}",
            requirement.id,
            requirement.spec,
            requirement.section,
            requirement.level,
            requirement.requirement
        );
    }
    let _ = writeln!(text, "repeat: {}", case.repeat);
    text.push_str(&crate::run::transcript(&case.evidence));
    text
}

fn is_failure(case: &CaseReport) -> bool {
    case.unexpected_pass || (case.expected.is_none() && case.outcome == Outcome::Fail)
}

fn is_error(case: &CaseReport) -> bool {
    case.expected.is_none() && matches!(case.outcome, Outcome::CouldNotTest | Outcome::Manual)
}

fn is_skipped(case: &CaseReport) -> bool {
    case.expected.is_some() || case.outcome == Outcome::NotApplicable
}

fn count<'a>(
    cases: impl IntoIterator<Item = &'a CaseReport>,
    is: fn(&CaseReport) -> bool,
) -> usize {
    cases.into_iter().filter(|case| is(case)).count()
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
