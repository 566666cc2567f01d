//! One page that a manager can read and an engineer can debug from. Nothing is loaded from
//! anywhere, so it can be mailed, archived and opened offline.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{CaseReport, Counts, Report, escape, style::STYLE};
use crate::{
    evidence::{Item, Way},
    outcome::Outcome,
};

/// Octets of a message that the page shows; the archive has all.
const HEX_SHOWN_MAX_BYTES: usize = 2048;
/// Characters of a decoded message that the page shows.
const DECODED_SHOWN_MAX: usize = 20_000;

/// The report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let (name, version) = report.implementation();
    let title = escape(&format!("{name} {version}: {} conformance", report.target));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n"
    );
    header(&mut page, report);
    tiles(&mut page, &report.counts);
    bad(&mut page, report);
    matrix(&mut page, report);
    all(&mut page, report);
    about(&mut page, report);
    page.push_str(SCRIPT);
    page.push_str("</body></html>\n");
    page
}

fn header(page: &mut String, report: &Report) {
    let (name, version) = report.implementation();
    let (good, all) = report.must();
    let (class, verdict) = match report.exit_code() {
        0 => ("pass", "conforms, as far as this suite sees"),
        1 => ("fail", "does not conform"),
        _ => (
            "could-not-test",
            "not decided: something could not be tested",
        ),
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        page,
        "<header><p class=\"dim\">{} {} against target <b>{}</b></p><h1>{} {}</h1>\
         <p class=\"verdict {class}\">{verdict}</p>\
         <p>{good} of {all} cases about a MUST that apply have passed. This is a self-test and not a \
         certification.</p></header>",
        escape(&report.suite.name),
        escape(&report.suite.version),
        escape(&report.target),
        escape(&name),
        escape(&version)
    );
}

fn tiles(page: &mut String, counts: &Counts) {
    let tiles = [
        ("pass", "pass", counts.pass),
        ("fail", "fail", counts.fail),
        ("fail", "unexpected pass", counts.unexpected_pass),
        ("could-not-test", "could not test", counts.could_not_test),
        ("warning", "warning", counts.warning),
        ("manual", "manual", counts.manual),
        (
            "not-applicable",
            "expected failure",
            counts.expected_failure,
        ),
        ("not-applicable", "not applicable", counts.not_applicable),
    ];
    page.push_str("<div class=\"tiles\">");
    for (class, label, count) in tiles {
        let _ = write!(
            page,
            "<div class=\"tile\"><b class=\"{class}\">{count}</b>{label}</div>"
        );
    }
    page.push_str("</div>\n");
}

/// What somebody has to act on, worst first and unfolded.
fn bad(page: &mut String, report: &Report) {
    let mut cases: Vec<&CaseReport> = report
        .cases
        .iter()
        .filter(|case| !case.is_good() || case.outcome == Outcome::Warning)
        .collect();
    if cases.is_empty() {
        return;
    }
    cases.sort_by_key(|case| std::cmp::Reverse((case.unexpected_pass, case.outcome)));
    page.push_str("<section id=\"findings\"><h2>What has to be looked at</h2>\n");
    for case in cases {
        write_case(page, case, case.outcome == Outcome::Fail);
    }
    page.push_str("</section>\n");
}

/// The columns of the matrix: what matters has to be seen on a phone without scrolling.
const COLUMNS: [Outcome; 6] = [
    Outcome::Pass,
    Outcome::Fail,
    Outcome::CouldNotTest,
    Outcome::Warning,
    Outcome::Manual,
    Outcome::NotApplicable,
];

fn matrix(page: &mut String, report: &Report) {
    type Row = BTreeMap<Outcome, usize>;
    let mut specs: BTreeMap<&str, BTreeMap<Section<'_>, Row>> = BTreeMap::new();
    for case in &report.cases {
        let Some(first) = case.requirements.first() else {
            continue;
        };
        *specs
            .entry(&first.spec)
            .or_default()
            .entry(Section(&first.section))
            .or_default()
            .entry(case.outcome)
            .or_default() += 1;
    }
    page.push_str(
        "<section><h2>By standard and section</h2><div class=\"scroll\"><table id=\"matrix\">\
         <thead><tr><th>Section</th>",
    );
    for outcome in COLUMNS {
        let _ = write!(
            page,
            "<th class=\"n\">{}</th>",
            outcome.label().to_lowercase()
        );
    }
    page.push_str("</tr></thead><tbody>\n");
    for (spec, sections) in specs {
        let _ = writeln!(
            page,
            "<tr class=\"spec\"><td colspan=\"7\">{}</td></tr>",
            escape(spec)
        );
        for (section, row) in sections {
            let _ = write!(page, "<tr><td>{}</td>", escape(section.0));
            for outcome in COLUMNS {
                let count = row.get(&outcome).copied().unwrap_or_default();
                if count == 0 {
                    page.push_str("<td class=\"n dim\">·</td>");
                } else {
                    let _ = write!(
                        page,
                        "<td class=\"n {}\"><b>{count}</b></td>",
                        outcome.name()
                    );
                }
            }
            page.push_str("</tr>\n");
        }
    }
    page.push_str("</tbody></table></div></section>\n");
}

/// A section, ordered as in its document: 5.10 comes after 5.9.
#[derive(PartialEq, Eq)]
struct Section<'a>(&'a str);

impl Section<'_> {
    fn key(&self) -> Vec<(u32, &str)> {
        self.0
            .split(['.', ' '])
            .map(|part| (part.parse().unwrap_or(u32::MAX), part))
            .collect()
    }
}

impl Ord for Section<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Section<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

fn all(page: &mut String, report: &Report) {
    page.push_str(
        "<section><h2>All cases</h2><div class=\"filters\" role=\"group\" aria-label=\"Show\">",
    );
    page.push_str("<button type=\"button\" data-show=\"\" aria-pressed=\"true\">all</button>");
    for outcome in Outcome::ALL {
        if report.cases.iter().any(|case| case.outcome == outcome) {
            let _ = write!(
                page,
                "<button type=\"button\" data-show=\"{}\" aria-pressed=\"false\">{}</button>",
                outcome.name(),
                outcome.label().to_lowercase()
            );
        }
    }
    page.push_str("</div><div id=\"cases\">\n");
    for case in &report.cases {
        write_case(page, case, false);
    }
    page.push_str("</div></section>\n");
}

fn write_case(page: &mut String, case: &CaseReport, open: bool) {
    let label = match (&case.expected, case.unexpected_pass) {
        (Some(_), _) => "expected",
        (None, true) => "UNEXPECTED PASS",
        (None, false) => case.outcome.label(),
    };
    let _ = write!(
        page,
        "<details class=\"case\" data-outcome=\"{0}\"{1}><summary><span class=\"tag {0}\">{label}</span> \
         {2} <span class=\"dim\"><code>{3}</code> {4} ms</span></summary><div>",
        case.outcome.name(),
        if open { " open" } else { "" },
        escape(&case.title),
        escape(&case.id),
        case.ms
    );
    if !case.why.is_empty() {
        let _ = write!(
            page,
            "<p class=\"{}\"><b>{}</b></p>",
            case.outcome.name(),
            escape(&case.why)
        );
    }
    if let Some(reason) = &case.expected {
        let _ = write!(
            page,
            "<p>Listed in expected-failures.toml: {}</p>",
            escape(reason)
        );
    }
    page.push_str("<h3>What is required</h3>");
    for requirement in &case.requirements {
        let _ = write!(
            page,
            "<p><code>{}</code> <span class=\"dim\">{} section {}, {}</span><br>{}</p>",
            escape(&requirement.id),
            escape(&requirement.spec),
            escape(&requirement.section),
            escape(&requirement.level),
            escape(&requirement.requirement)
        );
    }
    if !case.evidence.is_empty() {
        page.push_str("<h3>What happened</h3>");
        for item in &case.evidence {
            write_item(page, item);
        }
    }
    let _ = writeln!(
        page,
        "<h3>Only this case again</h3><pre>{}</pre></div></details>",
        escape(&case.repeat)
    );
}

fn write_item(page: &mut String, item: &Item) {
    let (class, arrow) = match item.way {
        Way::Sent => ("sent", "sent"),
        Way::Received => ("received", "came back"),
        Way::Note => ("note", ""),
    };
    let _ = write!(
        page,
        "<div class=\"message {class}\"><span class=\"dim\">{} ms {arrow}</span> {}",
        item.ms,
        escape(&item.title)
    );
    if item.length > 0 {
        let _ = write!(page, " <span class=\"dim\">{} octets</span>", item.length);
    }
    if !item.decoded.is_empty() {
        let shown: String = item.decoded.chars().take(DECODED_SHOWN_MAX).collect();
        let _ = write!(page, "<pre>{}</pre>", escape(&shown));
    }
    if !item.hex.is_empty() {
        let shown = item.hex.get(..HEX_SHOWN_MAX_BYTES * 2).unwrap_or(&item.hex);
        let _ = write!(
            page,
            "<details><summary>octets</summary><div><pre>{}</pre></div></details>",
            hex_lines(shown)
        );
    }
    page.push_str("</div>");
}

/// 16 octets a line with their offset.
fn hex_lines(hex: &str) -> String {
    let mut text = String::new();
    for (number, line) in hex.as_bytes().chunks(32).enumerate() {
        let _ = write!(text, "{:04x} ", number * 16);
        for octet in line.chunks(2) {
            let _ = write!(text, " {}", String::from_utf8_lossy(octet));
        }
        text.push('\n');
    }
    text
}

fn about(page: &mut String, report: &Report) {
    let profile = serde_json::to_string_pretty(&report.profile).unwrap_or_default();
    let _ = writeln!(
        page,
        "<section><h2>How it was run</h2><p>{} to {}, seed {}, {}.</p><pre>{}</pre>\
         <details><summary>profile</summary><div><pre>{}</pre></div></details></section>",
        escape(&report.started),
        escape(&report.finished),
        report.seed,
        if report.strict {
            "strict: a SHOULD that is not kept is a failure"
        } else {
            "a SHOULD that is not kept is a warning"
        },
        escape(&report.command),
        escape(&profile)
    );
}

/// Without it the page shows everything; with it, what a button asks for.
const SCRIPT: &str = r##"<script>
"use strict";
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => {
    const wanted = button.dataset.show;
    for (const other of document.querySelectorAll("[data-show]"))
      other.setAttribute("aria-pressed", String(other === button));
    for (const item of document.querySelectorAll("#cases > .case"))
      item.classList.toggle("hidden", wanted !== "" && item.dataset.outcome !== wanted);
  });
}
</script>
"##;
