//! `usher demo` is green, says so as the contract has it, and leaves nothing behind.

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str], temporary: &std::path::Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_usher"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary)
        .output()
        .unwrap()
}

#[test]
fn every_row_is_green_and_nothing_is_left() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(&["--json"], temporary.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        assert_eq!(row["ok"], true, "{row}");
        assert!(row["ms"].as_u64().unwrap() > 0, "{row}");
        assert!(!row["title"].as_str().unwrap().is_empty(), "{row}");
        assert!(!row["detail"].as_str().unwrap().is_empty(), "{row}");
    }
    assert_eq!(report["ok"], true);
    assert_eq!(output.status.code(), Some(0));
    let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    for format in ["cms", "jws"] {
        for version in ["http1.1", "http2", "http3"] {
            assert!(
                ids.contains(&format!("brski-{format}-{version}").as_str()),
                "{ids:?}"
            );
        }
    }
    for refusal in [
        "rogue",
        "clone",
        "stolen-registrar",
        "replay",
        "sold-elsewhere",
    ] {
        assert!(
            ids.iter().any(|id| id.ends_with(refusal)),
            "{refusal}: {ids:?}"
        );
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_prefix_picks_rows_and_an_unknown_one_is_misuse() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(&["--json", "--only", "brski-cms-stolen"], temporary.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
    assert_eq!(output.status.code(), Some(0));
    let output = demo(&["--json", "--only", "nothing-like-it"], temporary.path());
    assert_eq!(output.status.code(), Some(2));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["code"], "config.usage");
}

#[test]
fn a_folder_that_holds_something_is_not_used() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("world");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("precious"), b"data").unwrap();
    let output = demo(
        &["--json", "--dir", folder.to_str().unwrap()],
        temporary.path(),
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}
