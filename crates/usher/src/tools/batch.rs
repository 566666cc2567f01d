//! One JSON object a line in, one a line out.

use std::io::{BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use daemon::Outcome;
use pki::Coded;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::input::Problem;

/// Longest line that is read.
const LINE_SIZE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Answers each line of standard input. A line that cannot be answered gets an object with
/// `"verdict":"error"`, and the next one is read.
///
/// The outcome is "yes" only if every line was answered with "valid".
pub(super) fn run<C: DeserializeOwned>(
    known_members: &[&str],
    mut answer: impl FnMut(C) -> Result<(Map<String, Value>, Outcome), Problem>,
) -> Outcome {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut all = Outcome::Yes;
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = input.by_ref().take(LINE_SIZE_MAX_BYTES);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Outcome::CouldNotRun,
        }
        if line.last() != Some(&b'\n') && limited.limit() == 0 {
            skip_line(&mut input);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (members, outcome) = one(&line, known_members, &mut answer);
        if outcome != Outcome::Yes {
            all = Outcome::No;
        }
        let text = Value::Object(members).to_string();
        // Each answer goes out at once: the other end may wait for it before it asks again.
        if writeln!(output, "{text}")
            .and_then(|()| output.flush())
            .is_err()
        {
            return Outcome::CouldNotRun;
        }
    }
    all
}

fn one<C: DeserializeOwned>(
    line: &[u8],
    known_members: &[&str],
    answer: &mut impl FnMut(C) -> Result<(Map<String, Value>, Outcome), Problem>,
) -> (Map<String, Value>, Outcome) {
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return error(Value::Null, "config.usage", "the line is no JSON object"),
        Err(e) => {
            return error(
                Value::Null,
                "config.usage",
                &format!("the line is no JSON: {e}"),
            );
        }
    };
    let id = value.get("id").cloned().unwrap_or_default();
    let ignored: Vec<_> = value
        .keys()
        .filter(|name| name.as_str() != "id" && !known_members.contains(&name.as_str()))
        .cloned()
        .collect();
    let case = match serde_json::from_value::<C>(Value::Object(value)) {
        Ok(case) => case,
        Err(e) => return error(id, "config.usage", &e.to_string()),
    };
    // A peer's octets must not stop a batch, whatever defect they find in us.
    let answered = catch_unwind(AssertUnwindSafe(|| answer(case)));
    match answered {
        Ok(Ok((members, outcome))) => {
            let mut out = Map::new();
            out.insert("id".to_owned(), id);
            out.extend(members);
            if !ignored.is_empty() {
                out.insert("ignored".to_owned(), ignored.into());
            }
            (out, outcome)
        }
        Ok(Err(problem)) => error(id, problem.code(), &problem.to_string()),
        Err(_) => error(
            id,
            "config.defect",
            "a defect of this program, please report it",
        ),
    }
}

fn error(id: Value, code: &str, detail: &str) -> (Map<String, Value>, Outcome) {
    let value = json!({
        "id": id,
        "verdict": "error",
        "code": code,
        "detail": detail,
        "error": { "code": code, "detail": detail },
    });
    let members = value.as_object().cloned().unwrap_or_default();
    (members, Outcome::CouldNotRun)
}

/// Drops the rest of a line that is too long.
fn skip_line(input: &mut impl BufRead) {
    loop {
        let Ok(buffer) = input.fill_buf() else { return };
        if buffer.is_empty() {
            return;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |index| index + 1);
        input.consume(used);
        if end.is_some() {
            return;
        }
    }
}
