//! Our own servers pass in strict mode, with no expected failures.

use std::path::Path;

use serde_json::Value;

use crate::harness::{SUITE, Server, free_port, good, run, set, usher};

/// Runs the suite in strict mode and returns the report, which has to be good and to be about at
/// least so many cases.
fn conforms(folder: &Path, target: &str, cases_min: u64) -> Value {
    let profile = folder.join("profile.toml");
    set(&profile, "name", "\"usher\"");
    set(&profile, "version", "\"under test\"");
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

/// Sets the endpoint of a profile that `prepare` wrote.
fn endpoint(folder: &Path, port: u16) {
    let url = format!("\"https://localhost:{port}\"");
    set(&folder.join("profile.toml"), "url", &url);
}

#[test]
fn masa() {
    let folder = tempfile::tempdir().unwrap();
    let trial = folder.path().join("trial");
    let trial_name = trial.to_str().unwrap();
    good(
        SUITE,
        &["prepare", "--target", "masa", "--dir", trial_name],
        folder.path(),
    );
    let ca = trial.join("manufacturer-ca.pem");
    good(
        usher(),
        &[
            "masa",
            "init",
            "--dir",
            "masa",
            "--name",
            "localhost",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--device-ca",
            ca.to_str().unwrap(),
        ],
        folder.path(),
    );
    let config = folder.path().join("masa/masa.toml");
    let owner = trial.join("domain-ca.pem");
    let devices = trial.join("devices.csv");
    for arguments in [
        vec![
            "owner",
            "add",
            "conformance",
            "--certificate",
            owner.to_str().unwrap(),
            "--nonceless",
            "true",
        ],
        vec!["device", "import", devices.to_str().unwrap()],
    ] {
        let mut all = vec!["masa", "--config", config.to_str().unwrap()];
        all.extend(arguments);
        good(usher(), &all, folder.path());
    }
    std::fs::copy(
        folder.path().join("masa/masa-ca.pem"),
        trial.join("voucher-anchors.pem"),
    )
    .unwrap();
    let server = Server::start("masa", &config);
    endpoint(&trial, server.port);
    let report = conforms(&trial, "masa", 140);
    well_formed(&trial, &report);
    crate::page::looks_right(
        &trial.join("report/report.html"),
        report["cases"].as_array().unwrap().len(),
    );
}

#[test]
fn est_server() {
    let folder = tempfile::tempdir().unwrap();
    let trial = folder.path().join("trial");
    let trial_name = trial.to_str().unwrap();
    good(
        SUITE,
        &["prepare", "--target", "est-server", "--dir", trial_name],
        folder.path(),
    );
    let config = registrar(folder.path());
    let made = config.parent().unwrap();
    std::fs::copy(trial.join("client-ca.pem"), made.join("client-ca.pem")).unwrap();
    append(
        &config,
        "[est.without_brski]\nclient_cas = [\"client-ca.pem\"]\nsubject = \"CN={name}\"\n",
    );
    std::fs::copy(made.join("domain-ca.pem"), trial.join("server-anchors.pem")).unwrap();
    let server = Server::start("registrar", &config);
    endpoint(&trial, server.port);
    conforms(&trial, "est-server", 45);
}

#[test]
fn registrar_over_https() {
    let folder = tempfile::tempdir().unwrap();
    let trial = folder.path().join("trial");
    let trial_name = trial.to_str().unwrap();
    let port = free_port().to_string();
    good(
        SUITE,
        &[
            "prepare",
            "--target",
            "registrar",
            "--dir",
            trial_name,
            "--suite-port",
            &port,
        ],
        folder.path(),
    );
    let config = registrar(folder.path());
    set(&config, "default", "\"deny\"");
    append(
        &config,
        "[[policy.rule]]\nname = \"conformance\"\nmanufacturer = \"conformance\"\nserial = \"CONF-REG-*\"\naction = \"allow\"\n",
    );
    for (file, usage) in [
        ("device-ca.pem", "idevid"),
        ("masa-tls-ca.pem", "masa-tls"),
        ("voucher-ca.pem", "voucher"),
    ] {
        let file = trial.join(file);
        good(
            usher(),
            &[
                "registrar",
                "--config",
                config.to_str().unwrap(),
                "trust",
                "import",
                file.to_str().unwrap(),
                "--vendor",
                "conformance",
                "--use",
                usage,
            ],
            folder.path(),
        );
    }
    let server = Server::start("registrar", &config);
    endpoint(&trial, server.port);
    conforms(&trial, "registrar", 100);
}

/// A registrar as `init` makes it, on ports that the system picks.
fn registrar(folder: &Path) -> std::path::PathBuf {
    good(
        usher(),
        &[
            "registrar",
            "init",
            "--dir",
            "registrar",
            "--name",
            "localhost",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ],
        folder,
    );
    folder.join("registrar/registrar.toml")
}

fn append(path: &Path, text: &str) {
    let mut config = std::fs::read_to_string(path).unwrap();
    config.push('\n');
    config.push_str(text);
    std::fs::write(path, config).unwrap();
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
