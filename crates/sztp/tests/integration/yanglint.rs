//! Every message that either end can write, as libyang sees it.
//!
//! yanglint (Debian `libyang2-tools`) wants the name of the RPC where RESTCONF has `input` or
//! `output`, and reads no yang-data and no structures, so names are put in for those.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sztp::message::{
    CsrFormat, CsrInput, CsrRequest, CsrSupport, GetBootstrappingDataInput,
    GetBootstrappingDataOutput, ProgressType, ReportProgressInput, ReportingLevel, SshHostKey,
};
use sztp::restconf::{Fault, RestconfError};
use sztp::server::Roles;
use sztp::{Encoding, discovery};

use crate::messages;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Xml];
/// How many messages of each kind are made at random.
const RANDOM_COUNT: usize = 150;

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("yang")
}

/// Runs yanglint over files in a folder; `Err` is what it says.
fn lint(kind: &str, schemas: &[&str], folder: &Path, files: &[PathBuf]) -> Result<(), String> {
    let mut command = Command::new("yanglint");
    command.arg("-p").arg(modules()).arg("-p").arg(folder);
    if kind != "data" {
        command.args(["-t", kind]);
    }
    for schema in schemas {
        let here = folder.join(schema);
        command.arg(if here.exists() {
            here
        } else {
            modules().join(schema)
        });
    }
    let output = command
        .args(files)
        .output()
        .expect("yanglint is installed: see xtask/src/packages.rs");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The schemas of the two RPCs.
const RPCS: [&str; 3] = [
    "ietf-sztp-bootstrap-server@2019-04-30.yang",
    "ietf-sztp-csr@2024-10-10.yang",
    "ietf-ztp-types@2024-10-10.yang",
];

/// Bodies of one kind that are judged together.
struct Bodies {
    folder: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Bodies {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            files: Vec::new(),
        }
    }

    /// Adds a body with other names for its outermost element.
    fn add(&mut self, body: &[u8], encoding: Encoding, renames: &[(&str, &str)]) {
        let mut text = std::str::from_utf8(body).unwrap().to_owned();
        for (from, to) in renames {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, to);
        }
        let name = format!("{}.{encoding}", self.files.len());
        let file = self.folder.path().join(name.to_lowercase());
        std::fs::write(&file, text).unwrap();
        self.files.push(file);
    }

    /// Adds the body of an RPC.
    fn add_rpc(&mut self, body: &[u8], encoding: Encoding, wrapper: &str, rpc: &str) {
        let (from, to) = match encoding {
            Encoding::Json => (
                format!("{{\"ietf-sztp-bootstrap-server:{wrapper}\":"),
                format!("{{\"ietf-sztp-bootstrap-server:{rpc}\":"),
            ),
            Encoding::Xml => (format!("<{wrapper} xmlns="), format!("<{rpc} xmlns=")),
        };
        let mut renames = vec![(from, to)];
        if encoding == Encoding::Xml && body.ends_with(format!("</{wrapper}>").as_bytes()) {
            renames.push((format!("</{wrapper}>"), format!("</{rpc}>")));
        }
        let renames: Vec<(&str, &str)> = renames
            .iter()
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect();
        self.add(body, encoding, &renames);
    }

    fn schema(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// All of them have to be valid.
    fn judge(&self, kind: &str, schemas: &[&str]) {
        assert!(!self.files.is_empty());
        if lint(kind, schemas, self.folder.path(), &self.files).is_ok() {
            return;
        }
        for file in &self.files {
            let one = std::slice::from_ref(file);
            if let Err(error) = lint(kind, schemas, self.folder.path(), one) {
                let text = std::fs::read_to_string(file).unwrap();
                panic!("{text}\n{error}");
            }
        }
    }
}

fn random<S: Strategy>(strategy: &S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..RANDOM_COUNT)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect()
}

/// Requirements: SZTP-8572-7.1-02, SZTP-9646-2.1-01, SZTP-9646-3.2-07, SZTP-7951-4-01, SZTP-7951-6.8-01, SZTP-7951-6.9-01
#[test]
fn inputs_of_get_bootstrapping_data() {
    let mut table = random(&messages::input());
    table.push(GetBootstrappingDataInput::default());
    table.push(GetBootstrappingDataInput {
        signed_data_preferred: true,
        nonce: Some(vec![7; 32]),
        ..Default::default()
    });
    for formats in [&CsrFormat::ALL[..1], CsrFormat::ALL] {
        for algorithms in [None, Some(vec![vec![1, 2, 3], vec![4]])] {
            table.push(GetBootstrappingDataInput {
                csr: Some(CsrInput::Support(CsrSupport {
                    algorithms,
                    formats: formats.to_vec(),
                })),
                ..Default::default()
            });
        }
    }
    let mut bodies = Bodies::new();
    for input in &table {
        for encoding in BOTH {
            bodies.add_rpc(
                &input.encode(encoding),
                encoding,
                "input",
                "get-bootstrapping-data",
            );
        }
    }
    bodies.judge("rpc", &RPCS);
}

/// Requirements: SZTP-8572-4.4-04, SZTP-8572-7.3-08, SZTP-8572-7.3-09, SZTP-8572-7.3-10
#[test]
fn outputs_of_get_bootstrapping_data() {
    let mut table = random(&messages::output());
    for reporting_level in [
        None,
        Some(ReportingLevel::Minimal),
        Some(ReportingLevel::Verbose),
    ] {
        table.push(GetBootstrappingDataOutput {
            reporting_level,
            conveyed_information: vec![0x30, 0],
            ..Default::default()
        });
    }
    let mut bodies = Bodies::new();
    for output in &table {
        for encoding in BOTH {
            bodies.add_rpc(
                &output.encode(encoding),
                encoding,
                "output",
                "get-bootstrapping-data",
            );
        }
    }
    bodies.judge("reply", &RPCS);
}

/// Requirements: SZTP-8572-7.3-14, SZTP-8572-7.3-15, SZTP-8572-7.3-18, SZTP-8572-7.3-19
#[test]
fn inputs_of_report_progress() {
    let mut table = random(&messages::report());
    for progress in ProgressType::ALL {
        for message in [None, Some("what happened".to_owned())] {
            table.push(ReportProgressInput {
                // Written with bootstrap-complete only, whatever the caller put there.
                ssh_host_keys: vec![SshHostKey {
                    algorithm: "ssh-ed25519".to_owned(),
                    key_data: vec![0; 51],
                }],
                trust_anchor_certs: vec![vec![0x30, 0]],
                ..ReportProgressInput::new(*progress, message)
            });
        }
    }
    let mut bodies = Bodies::new();
    for report in &table {
        for encoding in BOTH {
            bodies.add_rpc(
                &report.encode(encoding),
                encoding,
                "input",
                "report-progress",
            );
        }
    }
    bodies.judge("rpc", &RPCS);
}

/// The name of a module and its namespace, put in for the real ones.
fn stand_in(encoding: Encoding, module: &str, check: &str, node: &str) -> (String, String) {
    match encoding {
        Encoding::Json => (
            format!("\"{module}:{node}\""),
            format!("\"{check}:{node}\""),
        ),
        Encoding::Xml => (
            format!("<{node} xmlns=\"urn:ietf:params:xml:ns:yang:{module}\""),
            format!("<{node} xmlns=\"urn:usher:{check}\""),
        ),
    }
}

/// A module with one top-level node, since yanglint reads no yang-data.
fn check_module(name: &str, imports: &str, body: &str) -> String {
    format!(
        "module {name} {{ yang-version 1.1; namespace \"urn:usher:{name}\"; prefix c; {imports} {body} }}"
    )
}

/// Requirements: SZTP-8040-7.1-03, SZTP-8040-8-01, SZTP-8791-2-01
#[test]
fn errors() {
    let mut table: Vec<RestconfError> = Fault::ALL
        .iter()
        .map(|fault| RestconfError::new(*fault, fault.code()))
        .collect();
    let requests = random(&messages::request());
    for request in &requests {
        table.push(
            RestconfError::new(Fault::CsrWanted, "<a & b>").with_csr_request(request.clone()),
        );
    }
    for text in random(&messages::text()) {
        table.push(RestconfError::new(Fault::BadValue, text));
    }
    let mut bodies = Bodies::new();
    for error in &table {
        for encoding in BOTH {
            let (from, to) = stand_in(encoding, "ietf-restconf", "check-errors", "errors");
            bodies.add(&error.encode(encoding), encoding, &[(&from, &to)]);
        }
    }
    bodies.schema(
        "check-errors.yang",
        &check_module(
            "check-errors",
            "import ietf-restconf { prefix rc; }",
            "uses rc:errors { refine errors { config false; } }",
        ),
    );
    bodies.judge("data", &["check-errors.yang", RPCS[1], RPCS[2]]);

    // What stands in error-info, which is any data to the module above.
    let mut bodies = Bodies::new();
    for request in &requests {
        for encoding in BOTH {
            let (from, to) = stand_in(encoding, "ietf-sztp-csr", "check-csr", "csr-request");
            bodies.add(
                &CsrRequest::encode(request, encoding),
                encoding,
                &[(&from, &to)],
            );
        }
    }
    bodies.schema(
        "check-csr.yang",
        &check_module(
            "check-csr",
            "import ietf-ztp-types { prefix zt; }",
            "container csr-request { uses zt:csr-request-grouping; }",
        ),
    );
    bodies.judge("data", &["check-csr.yang", RPCS[2]]);
}

/// Requirements: SZTP-8040-10-01, SZTP-8525-3-01, SZTP-8572-1.2-02
#[test]
fn yang_library() {
    let mut bodies = Bodies::new();
    for roles in [Roles::BOTH, Roles::REDIRECT] {
        for encoding in BOTH {
            // The newer revision wants both forms together.
            let library = discovery::yang_library(roles, encoding);
            let state = discovery::modules_state(roles, encoding);
            let both = match encoding {
                Encoding::Json => [&library[..library.len() - 1], b",", &state[1..]].concat(),
                Encoding::Xml => [library, state].concat(),
            };
            bodies.add(&both, encoding, &[]);
        }
    }
    bodies.judge(
        "data",
        &[
            "ietf-yang-library@2019-01-04.yang",
            "ietf-datastores@2018-02-14.yang",
        ],
    );
    // The older form, against the older revision too.
    let mut bodies = Bodies::new();
    for roles in [Roles::BOTH, Roles::REDIRECT] {
        for encoding in BOTH {
            bodies.add(&discovery::modules_state(roles, encoding), encoding, &[]);
        }
    }
    bodies.judge("data", &["ietf-yang-library@2016-06-21.yang"]);
}

/// Requirements: SZTP-8040-3.3-01, SZTP-8040-3.3.3-01
#[test]
fn the_root_resource() {
    let mut bodies = Bodies::new();
    for encoding in BOTH {
        let body = discovery::root_resource(Roles::BOTH, encoding);
        let (from, to) = stand_in(encoding, "ietf-restconf", "check-root", "restconf");
        // The leafs below `operations` are of another module than the grouping's.
        let leafs = match encoding {
            Encoding::Json => (
                "{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":[null],\"ietf-sztp-bootstrap-server:report-progress\":[null]}",
                "{}",
            ),
            Encoding::Xml => (
                "<get-bootstrapping-data xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/>\
                 <report-progress xmlns=\"urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server\"/>",
                "",
            ),
        };
        bodies.add(&body, encoding, &[(&from, &to), leafs]);
    }
    bodies.schema(
        "check-root.yang",
        &check_module(
            "check-root",
            "import ietf-restconf { prefix rc; }",
            "uses rc:restconf { refine restconf { config false; } }",
        ),
    );
    bodies.judge("data", &["check-root.yang"]);
}

/// yanglint refuses what this crate's readers refuse: the rules come from the modules and not
/// from this crate.
///
/// Requirements: SZTP-8572-7.3-06, SZTP-8572-7.3-17, SZTP-9646-3.2-01
#[test]
fn what_is_refused_here_is_refused_by_libyang() {
    for body in [
        "{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":{\"nonce\":\"AAAA\"}}",
        "{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":{\"signed-data-preferred\":true}}",
        "{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":{\"unknown\":\"a\"}}",
        "{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":{\"ietf-sztp-csr:p10-csr\":\"AAAA\",\"ietf-sztp-csr:cmp-csr\":\"AAAA\"}}",
        "{\"ietf-sztp-bootstrap-server:get-bootstrapping-data\":{\"ietf-sztp-csr:csr-support\":{\"key-generation\":{\"supported-algorithms\":{\"algorithm-identifier\":[\"AAAA\"]}}}}}",
        "{\"ietf-sztp-bootstrap-server:report-progress\":{\"progress-type\":\"informational\",\"ssh-host-keys\":{\"ssh-host-key\":[{\"algorithm\":\"a\",\"key-data\":\"AAAA\"}]}}}",
        "{\"ietf-sztp-bootstrap-server:report-progress\":{}}",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body.json");
        std::fs::write(&file, body).unwrap();
        lint("rpc", &RPCS, folder.path(), &[file]).expect_err(body);
    }
}
