//! Several reports side by side: implementations down, roles across.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Report, escape, style::STYLE};

/// The matrix as a page.
#[must_use]
pub fn matrix(reports: &[(String, Report)]) -> String {
    let mut targets: Vec<&str> = reports
        .iter()
        .map(|(_, report)| report.target.as_str())
        .collect();
    targets.sort_unstable();
    targets.dedup();
    type Row<'a> = BTreeMap<&'a str, (&'a str, &'a Report)>;
    let mut rows: BTreeMap<(String, String), Row<'_>> = BTreeMap::new();
    for (file, report) in reports {
        rows.entry(report.implementation())
            .or_default()
            .insert(&report.target, (file, report));
    }
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Conformance matrix</title><style>{STYLE}</style></head><body>\
         <h1>Conformance matrix</h1><p class=\"dim\">Self-tests, not certifications. \
         A cell is: cases about a MUST passed of those that apply, failures, cases that could not be \
         tested.</p><div class=\"scroll\"><table><thead><tr><th>Implementation</th>"
    );
    for target in &targets {
        // Writing to a string does not fail.
        let _ = write!(page, "<th>{}</th>", escape(target));
    }
    page.push_str("</tr></thead><tbody>\n");
    for ((name, version), cells) in rows {
        let _ = write!(
            page,
            "<tr><td><b>{}</b> {}</td>",
            escape(&name),
            escape(&version)
        );
        for target in &targets {
            match cells.get(target) {
                Some((file, report)) => {
                    let (good, all) = report.must();
                    let class = match report.exit_code() {
                        0 => "pass",
                        1 => "fail",
                        _ => "could-not-test",
                    };
                    let _ = write!(
                        page,
                        "<td><a href=\"{}\"><b class=\"{class}\">{good}/{all}</b></a> \
                         <span class=\"dim\">{} failed, {} not tested, {} expected; {}suite {}</span></td>",
                        escape(file),
                        report.counts.fail + report.counts.unexpected_pass,
                        report.counts.could_not_test,
                        report.counts.expected_failure,
                        if report.strict { "strict, " } else { "" },
                        escape(&report.suite.version)
                    );
                }
                None => page.push_str("<td class=\"dim\">no report</td>"),
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div></body></html>\n");
    page
}
