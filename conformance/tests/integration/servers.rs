//! Our own servers pass in strict mode, with no expected failures.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    bench::{BRSKI_DEVICE, Bench, subject},
    harness::{SUITE, good, program, run, set},
};

/// Runs the suite in strict mode and returns the report, which has to be good and to be about at
/// least so many cases.
fn conforms(folder: &Path, target: &str, cases_min: u64) -> Value {
    let output = run(
        SUITE,
        &[
            "run",
            "--target",
            target,
            "--profile",
            "profile.toml",
            "--strict",
            "--seed",
            "7",
            "--out",
            "report",
        ],
        folder,
    );
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let report = std::fs::read(folder.join("report/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert!(
        report["counts"]["pass"].as_u64().unwrap() >= cases_min,
        "{}",
        report["counts"]
    );
    assert_eq!(report["counts"]["could-not-test"], 0);
    report
}

/// An implementation of ours against the whole of its target.
fn ours(target: &str, cases_min: u64, more: impl FnOnce(&Path, &Value)) {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        folder: folder.path().to_owned(),
        program: program("usher"),
        defect: String::new(),
    };
    let subject = subject(target);
    (subject.prepare)(&bench);
    let _running = (subject.start)(&bench);
    let report = conforms(&bench.trial(), target, cases_min);
    more(&bench.trial(), &report);
}

#[test]
fn masa() {
    ours("masa", 140, |trial, report| {
        well_formed(trial, report);
        crate::page::looks_right(
            &trial.join("report/report.html"),
            report["cases"].as_array().unwrap().len(),
        );
    });
}

#[test]
fn est_server() {
    ours("est-server", 45, |_, _| ());
}

#[test]
fn registrar_over_https() {
    ours("registrar", 100, |_, _| ());
}

#[test]
fn pledge() {
    ours("pledge", 270, |_, _| ());
}

#[test]
fn pledge_without_a_clock() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        folder: folder.path().to_owned(),
        program: program("usher"),
        defect: String::new(),
    };
    (subject("pledge").prepare)(&bench);
    bench.start_device(&[BRSKI_DEVICE, &["--no-clock"]].concat());
    let profile = bench.trial().join("profile.toml");
    set(&profile, "claims", "[\"cms\", \"no-clock\"]");
    let clockless = ["--select", "pledge/*no-clock*"];
    let run_all = ["run", "--target", "pledge", "--profile", "profile.toml"];
    let said = good(
        SUITE,
        &[&run_all[..], &clockless[..]].concat(),
        &bench.trial(),
    );
    assert!(said.contains("2 cases: 2 pass"), "{said}");
}

/// Each form of a report is what its readers expect.
fn well_formed(folder: &Path, report: &Value) {
    let folder = folder.join("report");
    // The published schema, by a validator that is not ours.
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let schema = serde_json::from_str(&good(SUITE, &["schema", "report"], &folder)).unwrap();
    compiler.add_resource("report.json", schema).unwrap();
    let index = compiler.compile("report.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(report, index) {
        panic!("{error:#}");
    }
    // JUnit, by a parser that is not ours: every case is there once.
    let python = "import sys,xml.etree.ElementTree as e;print(len(e.parse(sys.argv[1]).getroot().findall('.//testcase')))";
    let count = good("python3", &["-c", python, "junit.xml"], &folder);
    assert_eq!(
        count.trim(),
        report["cases"].as_array().unwrap().len().to_string()
    );
    let svg = good(
        "python3",
        &[
            "-c",
            "import sys,xml.etree.ElementTree as e;print(e.parse(sys.argv[1]).getroot().tag)",
            "badge.svg",
        ],
        &folder,
    );
    assert!(svg.contains("svg"));
    // No key of the run is in what is handed on.
    let archive = "import sys,zipfile;z=zipfile.ZipFile(sys.argv[1]);assert z.testzip() is None;print(sum(b'PRIVATE KEY' in z.read(n) for n in z.namelist()),len(z.namelist()))";
    let said = good("python3", &["-c", archive, "evidence.zip"], &folder);
    let (keys, files) = said.trim().split_once(' ').unwrap();
    assert_eq!(keys, "0");
    assert!(files.parse::<usize>().unwrap() > 100);
}
