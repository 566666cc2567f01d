//! Our own servers pass in strict mode, with no expected failures.

use std::path::Path;

use serde_json::Value;

use crate::support::{
    bench::{BRSKI_DEVICE, Bench, SZTP_DEVICE, subject},
    harness::{SUITE, free_port, good, program, run, set},
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
fn est_coaps_server() {
    ours("est-coaps-server", 150, |_, _| ());
}

#[test]
fn registrar_over_coaps() {
    ours("registrar-coaps", 275, |_, _| ());
}

#[test]
fn join_proxy() {
    ours("join-proxy", 28, |_, _| ());
}

/// A proxy that is told of no registrar asks the suite for one.
#[test]
fn join_proxy_that_finds_its_registrar() {
    for offer in ["both", "coaps"] {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench {
            folder: folder.path().to_owned(),
            program: program("usher"),
            defect: String::new(),
        };
        let [registrar, asked] = [free_port(), free_port()];
        let endpoint = format!("coap://127.0.0.1:{asked}");
        let suite = ["--suite-host", "127.0.0.1", "--endpoint", &endpoint];
        bench.prepare("join-proxy", &suite);
        let profile = bench.trial().join("profile.toml");
        set(&profile, "claims", r#"["finds-registrar", "discovery"]"#);
        set(&profile, "offer", &format!("{offer:?}"));
        for listen in ["jpy_listen", "coaps_listen"] {
            let place = format!("\"127.0.0.1:{}\"", free_port());
            set(&profile, listen, &place);
        }
        let place = format!("\"127.0.0.1:{registrar}\"");
        set(&profile, "discovery_listen", &place);
        let config = format!(
            "[pledges]\naddresses = [\"127.0.0.1\"]\n[registrar]\ngroups = [\"127.0.0.1\"]\n\
             group_port = {registrar}\ndiscover_seconds = 1\n[discovery]\ncoap_port = {asked}\n"
        );
        std::fs::write(folder.path().join("proxy.toml"), config).unwrap();
        let mut proxy = std::process::Command::new(&bench.program)
            .args(["proxy", "serve"])
            .current_dir(folder.path())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let run_all = ["run", "--target", "join-proxy", "--profile", "profile.toml"];
        let said = run(
            SUITE,
            &[&run_all[..], &["--strict"]].concat(),
            &bench.trial(),
        );
        proxy.kill().unwrap();
        proxy.wait().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        // Four about discovery, and three about finding what this registrar offers.
        assert!(said.contains("7 pass, 0 warning, 0 FAIL"), "{said}");
    }
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
fn sztp_server() {
    ours("sztp-server", 85, |_, _| ());
}

#[test]
fn sztp_device() {
    ours("sztp-device", 240, |_, _| ());
}

#[test]
fn sztp_device_with_a_nonce_and_no_clock() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        folder: folder.path().to_owned(),
        program: program("usher"),
        defect: String::new(),
    };
    (subject("sztp-device").prepare)(&bench);
    bench.start_device(&[SZTP_DEVICE, &["--no-clock", "--nonce", "always"]].concat());
    let profile = bench.trial().join("profile.toml");
    let claims = "[\"nonce\", \"no-clock\", \"boot-image\", \"dhcp\"]";
    set(&profile, "claims", claims);
    let chosen = ["--select", "*nonce-*", "*no-clock*"];
    let run_all = [
        "run",
        "--target",
        "sztp-device",
        "--profile",
        "profile.toml",
    ];
    let said = good(SUITE, &[&run_all[..], &chosen[..]].concat(), &bench.trial());
    assert!(said.contains(" 0 FAIL, 0 could not test"), "{said}");
    assert!(said.contains(": 8 pass"), "{said}");
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

/// A box is switched off and on by a command; it finds the suite at a fixed place, and cases wait
/// for one another.
#[test]
fn pledge_that_is_power_cycled() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench {
        folder: folder.path().to_owned(),
        program: program("usher"),
        defect: String::new(),
    };
    let port = free_port();
    bench.prepare("pledge", &["--suite-port", &port.to_string()]);
    let device = format!(
        "{} device brski --registrar https://localhost:{port} --idevid device.pem \
         --key private/device.key --masa-anchors voucher-ca.pem --state $(mktemp -d --tmpdir=.) \
         --attempts 1 > device.log 2>&1 &",
        bench.program.display()
    );
    let cases = [
        "pledge/rfc8995-1.5/whole-flow-cms",
        "pledge/rfc8995-5.6.1/nonce-bit-cms",
        "pledge/rfc8995-5.6.2/pin-end-entity",
        "pledge/rfc8995-5.2/nonce-fresh",
    ];
    let run_all = ["run", "--target", "pledge", "--profile", "profile.toml"];
    let cycled = ["--power-cycle", &device, "--select"];
    let said = good(
        SUITE,
        &[&run_all[..], &cycled[..], &cases[..]].concat(),
        &bench.trial(),
    );
    assert!(said.contains("4 cases: 4 pass"), "{said}");
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
