//! JSON documents as indented text, for people.

use serde_json::Value;

/// Longest text that is shown in full.
const SHOWN_MAX_CHARS: usize = 160;

/// One member a line, nested members indented. Control characters of a peer's text do not
/// reach the terminal.
pub(super) fn tree(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

/// A verdict with its checks, one a line.
pub(super) fn verdict(value: &Value) -> String {
    let member = |value: &Value, name: &str| value.get(name).map(scalar_text).unwrap_or_default();
    let mut out = format!("{}: {}\n", member(value, "verdict"), member(value, "kind"));
    if value.get("code").is_some_and(Value::is_string) {
        let detail = member(value, "detail");
        out.push_str(&format!("  {} ({detail})\n", member(value, "code")));
    }
    let list = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for check in list("checks") {
        let (result, name) = (member(check, "result"), member(check, "name"));
        let detail = member(check, "detail");
        let line = format!("  {result:<9} {name:<20} {detail}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    for odd in list("oddities") {
        out.push_str(&format!(
            "  tolerated {}: {}\n",
            member(odd, "name"),
            member(odd, "detail")
        ));
    }
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                write_member(out, &clean(name), value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                write_member(out, "-", item, depth);
            }
        }
        scalar => write_line(out, depth, &scalar_text(scalar)),
    }
}

fn write_member(out: &mut String, name: &str, value: &Value, depth: usize) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            write_line(out, depth, name);
            write_value(out, value, depth + 1);
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            write_line(out, depth, name);
            write_value(out, value, depth + 1);
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(scalar_text).collect();
            write_line(out, depth, &format!("{name}: {}", items.join(", ")));
        }
        scalar => write_line(out, depth, &format!("{name}: {}", scalar_text(scalar))),
    }
}

fn write_line(out: &mut String, depth: usize, line: &str) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(line.trim_end());
    out.push('\n');
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        Value::Null => "none".to_owned(),
        Value::Object(_) => "(empty)".to_owned(),
        other => other.to_string(),
    }
}

fn clean(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(SHOWN_MAX_CHARS)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    let left = text.chars().skip(SHOWN_MAX_CHARS).count();
    if left > 0 {
        out.push_str(&format!("… ({left} more)"));
    }
    out
}
