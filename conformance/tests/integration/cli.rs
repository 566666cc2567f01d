//! The command line: exit codes, selection, the catalogue, known failures.

use std::path::Path;

use serde_json::Value;

use crate::support::harness::{SUITE, good, run, set};

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&good(SUITE, arguments, Path::new("."))).unwrap()
}

#[test]
fn each_case_names_rows_that_exist_and_has_an_id_of_its_own() {
    let rows = json(&["requirements", "--json"]);
    let ids: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    let cases = json(&["list", "--json"]);
    let mut seen = std::collections::BTreeSet::new();
    for case in cases.as_array().unwrap() {
        let id = case["id"].as_str().unwrap();
        assert!(seen.insert(id), "{id} is there twice");
        assert!(id.starts_with(case["target"].as_str().unwrap()), "{id}");
        assert!(!case["requirements"].as_array().unwrap().is_empty(), "{id}");
        for row in case["requirements"].as_array().unwrap() {
            assert!(ids.contains(&row.as_str().unwrap()), "{id}: {row}");
        }
    }
    assert!(seen.len() > 1000);
}

#[test]
fn the_catalogue_has_the_form_of_its_schema_and_the_page_is_not_stale() {
    let rows = json(&["requirements", "--json"]);
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler
        .add_resource("rows.json", json(&["schema", "requirements"]))
        .unwrap();
    let index = compiler.compile("rows.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(&rows, index) {
        panic!("{error:#}");
    }
    for row in rows.as_array().unwrap() {
        let covered = !row["cases"].as_array().unwrap().is_empty();
        assert!(
            !covered || row["untestable"].is_null(),
            "{} has a case and a reason why it has none",
            row["id"]
        );
    }
    let page = good(SUITE, &["requirements", "--markdown"], Path::new("."));
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance-coverage.md");
    assert!(
        std::fs::read_to_string(kept).unwrap() == page,
        "run `cargo run -p usher-conformance -- requirements --markdown > docs/conformance-coverage.md`"
    );
}

#[test]
fn selection() {
    let count = |arguments: &[&str]| json(arguments).as_array().unwrap().len();
    let all = count(&["list", "--target", "masa", "--json"]);
    let by_row = count(&[
        "list",
        "--target",
        "masa",
        "--select",
        "BRSKI-5.5.6",
        "--json",
    ]);
    let by_section = count(&[
        "list",
        "--target",
        "masa",
        "--select",
        "section:5.5.6",
        "--json",
    ]);
    let hostile = count(&[
        "list",
        "--target",
        "masa",
        "--select",
        "tag:hostile",
        "--json",
    ]);
    let tame = count(&[
        "list",
        "--target",
        "masa",
        "--skip",
        "tag:hostile",
        "--json",
    ]);
    assert!(by_row >= 2 && by_row <= by_section && by_section < all);
    assert_eq!(hostile + tame, all);
    assert_eq!(
        count(&[
            "list",
            "--select",
            "masa/rfc8995-5.5.6/inner-nonce-differs-cms",
            "--json"
        ]),
        1
    );
    assert!(count(&["list", "--select", "masa/*/inner-*", "--json"]) >= 5);
}

/// A verifier that accepts everything is caught; one that cannot run is not judged; known
/// failures are known until they pass or expire.
#[test]
fn exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let trial = folder.path().join("trial");
    good(
        SUITE,
        &[
            "prepare",
            "--target",
            "artifact",
            "--dir",
            trial.to_str().unwrap(),
        ],
        folder.path(),
    );
    let profile = trial.join("profile.toml");
    let suite = |more: &[&str]| {
        let mut arguments = vec![
            "run",
            "--target",
            "artifact",
            "--profile",
            "profile.toml",
            "--seed",
            "1",
        ];
        arguments.extend(more);
        run(SUITE, &arguments, &trial).status.code().unwrap()
    };
    let bad = ["--select", "artifact/vector/voucher-jws/alg-none"];
    let right = ["--select", "artifact/vector/voucher-jws/good"];
    // Whoever accepts everything.
    set(&profile, "verifier", "\"true\"");
    assert_eq!(suite(&bad), 1);
    assert_eq!(
        suite(&["--select", "artifact/vector/voucher-jws/good-eddsa"]),
        0
    );
    // Whoever refuses everything.
    set(&profile, "verifier", "\"false\"");
    assert_eq!(suite(&bad), 0);
    assert_eq!(suite(&right), 1);
    // Whoever does not know such files, and whoever fails.
    set(&profile, "verifier", "\"exit 127\"");
    assert_eq!(suite(&bad), 0);
    set(&profile, "verifier", "\"exit 5\"");
    assert_eq!(suite(&bad), 3);
    // Misuse.
    assert_eq!(suite(&["--select", "no/such/case"]), 2);
    assert_eq!(
        run(
            SUITE,
            &["run", "--target", "teapot", "--profile", "profile.toml"],
            &trial
        )
        .status
        .code(),
        Some(2)
    );
    assert_eq!(run(SUITE, &["run"], &trial).status.code(), Some(2));
    // Known failures.
    set(&profile, "verifier", "\"true\"");
    let known = |expires: &str| {
        let text = format!(
            "[[expected]]\ncase = \"artifact/vector/voucher-jws/alg-none\"\nreason = \"fixed in the next release\"\nexpires = \"{expires}\"\n"
        );
        std::fs::write(trial.join("expected-failures.toml"), text).unwrap();
    };
    let expected = [
        "--expected",
        "expected-failures.toml",
        "--select",
        "artifact/vector/voucher-jws/alg-none",
    ];
    let only = |suite: &dyn Fn(&[&str]) -> i32| {
        suite(
            &[
                &expected[..],
                &["--skip", "artifact/vector/voucher-jws/alg-none-signed"],
            ]
            .concat(),
        )
    };
    known("2999-01-01");
    assert_eq!(only(&suite), 0);
    known("2020-01-01");
    assert_eq!(only(&suite), 1);
    known("2999-01-01");
    set(&profile, "verifier", "\"false\"");
    assert_eq!(only(&suite), 1, "an unexpected pass fails the run");
    known("one day");
    assert_eq!(only(&suite), 2);
    // A claim that nobody knows.
    let text = std::fs::read_to_string(&profile)
        .unwrap()
        .replace("\"jws\"", "\"jsw\"");
    std::fs::write(&profile, text).unwrap();
    assert_eq!(suite(&bad), 2);
}
