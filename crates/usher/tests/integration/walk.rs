//! The commands that a page of the documentation prints, run as they stand there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::NetworkLink;

const USHER: &str = env!("CARGO_BIN_EXE_usher");

/// The blocks of a page that a reader is to type, one after the other.
fn commands(page: &str) -> String {
    let mut commands = String::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line {
            "```sh" => is_inside = true,
            "```" => is_inside = false,
            line if is_inside => {
                commands.push_str(line);
                commands.push('\n');
            }
            _ => {}
        }
    }
    commands
}

#[test]
fn every_service_is_begun_in_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let services = ["masa", "registrar", "bootstrap", "proxy"];
    for service in services {
        // A join proxy has to know where it is to help.
        let more: &[&str] = match service {
            "proxy" => &["--address", "127.0.0.1"],
            _ => &[],
        };
        let output = Command::new(USHER)
            .args([service, "init", "--dir", service])
            .args(more)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{service}: {said}");
        let config = folder.path().join(service).join(format!("{service}.toml"));
        assert!(config.exists(), "{service}");
    }
}

/// A host of its own, so that the page may name the usual ports.
///
/// Requirements: CBR-009, CBR-042, CBR-086, ESC-001, JPX-016
#[test]
fn the_walk_of_the_constrained_page() {
    let Some(link) = NetworkLink::for_test("the_walk_of_the_constrained_page") else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/registrar-coaps.md")).unwrap();
    let samples = link.folder().join("docs/samples");
    fs::create_dir_all(&samples).unwrap();
    let script = "pledge-request.py";
    fs::copy(root.join("docs/samples").join(script), samples.join(script)).unwrap();
    let commands = commands(&page);
    assert!(commands.contains("est/sren") && commands.contains("usher proxy"));
    fs::write(
        link.folder().join("walk.sh"),
        format!(
            "set -e -o pipefail\nip link set lo up\n\
             trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{commands}"
        ),
    )
    .unwrap();
    let path = Path::new(USHER).parent().unwrap().display().to_string();
    let others = std::env::var("PATH").unwrap_or_default();
    let output = link
        .on_server("bash")
        .arg("walk.sh")
        .env("PATH", format!("{path}:{others}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    // coap-client ends with 0 whatever the answer is.
    for expected in [
        "state2/ldevid.pem: OK",
        "5.03 registrar.pending",
        "ldevid.pem: OK",
        "renewed.pem: OK",
        "meter-new.pem: OK",
        "rt=\"ace.est.crts\"",
        "voucher-status",
        "enrol-status",
        "reenrol",
    ] {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
}
