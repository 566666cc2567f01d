//! ArcSight Common Event Format.

use serde_json::Value;

use super::Event;
use crate::cli::plain;

/// The event as one CEF record, without a syslog header.
///
/// In the header `\` and `|` are escaped; in the extension `\` and `=`. Nothing that a device said
/// can begin a new field or a new line.
#[must_use]
pub fn cef(event: &Event, product: &str, version: &str) -> String {
    let mut text = format!(
        "CEF:0|Usher|{}|{}|{}|{}|{}|",
        header(product),
        header(version),
        header(&event.kind),
        header(&event.summary),
        event.severity.cef()
    );
    let millis = event.at.unix_timestamp_nanos() / 1_000_000;
    text.push_str(&format!("rt={millis}"));
    let mut add = |key: &str, value: &str| {
        text.push_str(&format!(" {key}={}", extension(value)));
    };
    add("externalId", &event.id);
    add("deviceExternalId", &event.subject);
    // The keys that the format knows for this, where it has one.
    let known = [("peer", "src"), ("outcome", "outcome"), ("code", "reason")];
    for (name, key) in known {
        if let Some(Value::String(value)) = event.data.get(name) {
            add(key, value);
        }
    }
    // The format has six custom strings.
    let mut custom = 0;
    for (name, value) in &event.data {
        if known.iter().any(|(known, _)| known == name) {
            continue;
        }
        let value = match value {
            Value::String(value) => value.clone(),
            Value::Number(value) => value.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        custom += 1;
        if custom > 6 {
            break;
        }
        add(&format!("cs{custom}Label"), name);
        add(&format!("cs{custom}"), &value);
    }
    add("msg", &event.summary);
    text
}

/// A header field: `\` and `|` are escaped, and there is no new line in it.
fn header(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('|', "\\|")
}

/// A value of the extension: `\` and `=` are escaped, line ends are written as `\n`.
fn extension(text: &str) -> String {
    let lines: Vec<String> = text
        .replace("\r\n", "\n")
        .replace('\r', "\n")
        .split('\n')
        .map(|line| plain(line).replace('\\', "\\\\").replace('=', "\\="))
        .collect();
    lines.join("\\n")
}
