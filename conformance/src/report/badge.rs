//! A badge. It says that it is a self-test, because that is what it is.

use super::{Report, escape};

/// The badge as SVG.
#[must_use]
pub fn badge(report: &Report) -> String {
    const LETTER_WIDTH: usize = 7;
    let (good, all) = report.must();
    let left = format!("{} self-test", report.target);
    let right = format!("{good}/{all} MUST, suite {}", report.suite.version);
    // Darker than the usual badge colours: white text on them keeps a contrast of 4.5.
    let colour = match report.exit_code() {
        0 => "#1b7f3b",
        1 => "#b3261e",
        _ => "#8a5a00",
    };
    let left_width = left.chars().count() * LETTER_WIDTH + 12;
    let right_width = right.chars().count() * LETTER_WIDTH + 12;
    let width = left_width + right_width;
    let (name, version) = report.implementation();
    let title = escape(&format!(
        "{name} {version}: {left}, {right}; not a certification"
    ));
    let (left, right) = (escape(&left), escape(&right));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"22\" role=\"img\" aria-label=\"{title}\">\
         <title>{title}</title>\
         <rect width=\"{left_width}\" height=\"22\" fill=\"#3c4043\"/>\
         <rect x=\"{left_width}\" width=\"{right_width}\" height=\"22\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"6\" y=\"15\">{left}</text><text x=\"{}\" y=\"15\">{right}</text></g></svg>\n",
        left_width + 6
    )
}
