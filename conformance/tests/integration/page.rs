//! The HTML report in a real browser.

use std::{path::Path, process::Command};

use serde_json::Value;

/// Within a frame as wide as a phone, in light and in dark: nothing sticks out, colours follow,
/// buttons filter.
pub(crate) fn looks_right(report: &Path, cases: usize) {
    let folder = report.parent().unwrap();
    let wrapper = folder.join("wrapper.html");
    std::fs::write(&wrapper, WRAPPER).unwrap();
    for (scheme, dark) in [("0", true), ("1", false)] {
        let seen = look(&wrapper, scheme);
        assert_eq!(seen["dark"], dark, "{seen}");
        assert_eq!(seen["cases"], cases, "{seen}");
        assert!(seen["scroll"].as_u64().unwrap() <= PHONE_WIDTH, "{seen}");
        assert_eq!(seen["shown"], seen["passed"], "{seen}");
        assert_eq!(seen["outside"], 0, "{seen}");
        let contrast = contrast(&seen["fg"], &seen["bg"]);
        assert!(contrast > 7.0, "{contrast} {seen}");
        assert_eq!(luminance(&seen["bg"]) < 0.2, dark, "{seen}");
        let verdict = self::contrast(&seen["verdict"], &seen["bg"]);
        assert!(verdict > 4.5, "{verdict} {seen}");
    }
}

const PHONE_WIDTH: u64 = 390;

const WRAPPER: &str = r##"<!doctype html><body>
<iframe id="frame" src="report.html" style="width:390px;height:800px;border:0"></iframe>
<script>
onload = () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  const style = element => view.getComputedStyle(element);
  const all = () => [...page.querySelectorAll("#cases > .case")];
  page.querySelector('[data-show="pass"]').click();
  const seen = {
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    scroll: page.documentElement.scrollWidth,
    bg: style(page.body).backgroundColor,
    fg: style(page.body).color,
    verdict: style(page.querySelector(".verdict")).color,
    cases: all().length,
    passed: all().filter(one => one.dataset.outcome === "pass").length,
    shown: all().filter(one => style(one).display !== "none").length,
    outside: page.querySelectorAll('[src^="http"],link[href],img').length,
  };
  const output = document.createElement("output");
  output.textContent = JSON.stringify(seen);
  document.body.append(output);
};
</script></body>"##;

fn look(wrapper: &Path, scheme: &str) -> Value {
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!(
            "--user-data-dir={}",
            wrapper.with_extension(scheme).display()
        ))
        .arg(format!("file://{}", wrapper.display()))
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = page.find("<output>").unwrap_or_else(|| panic!("{page}")) + "<output>".len();
    let end = page.find("</output>").unwrap();
    serde_json::from_str(&page[begin..end]).unwrap()
}

/// Relative luminance of WCAG 2.
fn luminance(colour: &Value) -> f64 {
    let text = colour.as_str().unwrap();
    let parts: Vec<f64> = text
        .trim_start_matches("rgb(")
        .trim_end_matches(')')
        .split(',')
        .map(|part| {
            let part = part.trim().parse::<f64>().unwrap() / 255.0;
            if part <= 0.03928 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        })
        .collect();
    0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
}

fn contrast(one: &Value, other: &Value) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}
