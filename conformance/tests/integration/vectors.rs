//! The vectors: reproducible, well indexed, and judged alike by libraries that are not ours and by
//! `usher`.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use usher_conformance::oracle;

use crate::support::harness::{SUITE, good, program};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn index() -> Vec<Value> {
    let text = std::fs::read(folder().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&text).unwrap();
    index["vectors"].as_array().unwrap().clone()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn they_are_the_same_each_time() {
    let again = tempfile::tempdir().unwrap();
    good(
        SUITE,
        &["vectors", "--write", again.path().to_str().unwrap()],
        again.path(),
    );
    let (kept, made) = (files(&folder()), files(again.path()));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&kept), names(&made));
    for (name, octets) in &made {
        assert!(
            kept[name] == *octets,
            "{}: run `usher-conformance vectors --write conformance/vectors`",
            name.display()
        );
    }
}

#[test]
fn the_index_has_the_form_of_its_schema() {
    let text = std::fs::read(folder().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&text).unwrap();
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let schema =
        serde_json::from_str(&good(SUITE, &["schema", "vectors"], Path::new("."))).unwrap();
    compiler.add_resource("index.json", schema).unwrap();
    let schema = compiler.compile("index.json", &mut schemas).unwrap();
    if let Err(error) = schemas.validate(&index, schema) {
        panic!("{error:#}");
    }
    let vectors = index["vectors"].as_array().unwrap();
    let bad = vectors
        .iter()
        .filter(|one| one["expect"] == "invalid")
        .count();
    assert!(
        vectors.len() >= 600 && bad * 2 >= vectors.len(),
        "{} {bad}",
        vectors.len()
    );
}

/// Every good message is good to a library that nobody here wrote.
#[test]
fn good_ones_are_good_to_other_libraries() {
    let mut checked = 0;
    for vector in index() {
        if vector["expect"] != "valid" {
            continue;
        }
        let id = vector["id"].as_str().unwrap();
        let octets = std::fs::read(folder().join(vector["file"].as_str().unwrap())).unwrap();
        match (
            vector["encoding"].as_str().unwrap(),
            vector["kind"].as_str().unwrap(),
        ) {
            ("cms", _) => {
                let content = oracle::cms(&octets, &[]).unwrap_or_else(|why| panic!("{id}: {why}"));
                let _: Value = serde_json::from_slice(&content).unwrap();
            }
            ("cose" | "cbor", _) => {
                oracle::cbor(&octets).unwrap_or_else(|why| panic!("{id}: {why}"));
            }
            ("der", "certificate") if octets.first() == Some(&0x30) => {
                oracle::certificate(&octets).unwrap_or_else(|why| panic!("{id}: {why}"));
            }
            ("der", "csr") => {
                let csr = openssl::x509::X509Req::from_der(&octets).unwrap();
                assert!(csr.verify(&csr.public_key().unwrap()).unwrap(), "{id}");
            }
            ("jws", _) => {
                usher_conformance::inspect::open(&octets)
                    .unwrap_or_else(|why| panic!("{id}: {why:?}"));
            }
            ("json", _) => {
                let _: Value = serde_json::from_slice(&octets).unwrap();
            }
            _ => continue,
        }
        checked += 1;
    }
    assert!(checked > 200, "{checked}");
}

/// What `usher artifact verify` does not judge and the reference pledge does: it takes a voucher
/// of a time to come for what it is at that time.
const TIME_TO_COME: &[&str] = &[
    "voucher-cms/leaf-created-on-future",
    "voucher-cms/signing-time-far",
    "voucher-jws/leaf-created-on-future",
];

#[test]
fn usher_says_what_the_index_says() {
    let place = |name: &Value| json!(folder().join(name.as_str().unwrap()));
    let places = |names: &Value| -> Value { names.as_array().unwrap().iter().map(place).collect() };
    let (mut artifacts, mut chains) = (String::new(), String::new());
    let vectors = index();
    for vector in &vectors {
        let mut line = json!({ "id": vector["id"], "at": vector["at"] });
        let mut copy = |name: &str, value: Value| line[name] = value;
        if vector["kind"] == "certificate" {
            let mut chain = vec![place(&vector["file"])];
            if let Some(more) = vector["intermediates"].as_array() {
                chain.extend(more.iter().map(place));
            }
            copy("chain", chain.into());
            copy("anchors", places(&vector["anchors"]));
            copy("purpose", vector["purpose"].clone());
            chains.push_str(&format!("{line}\n"));
            continue;
        }
        copy("file", place(&vector["file"]));
        copy("kind", vector["kind"].clone());
        for name in ["anchors", "intermediates", "domain", "registrar", "peer"] {
            if vector[name].is_array() {
                copy(name, places(&vector[name]));
            }
        }
        for name in ["idevid", "request"] {
            if vector[name].is_string() {
                copy(name, place(&vector[name]));
            }
        }
        for name in ["serial", "nonce"] {
            if vector[name].is_string() {
                copy(name, vector[name].clone());
            }
        }
        artifacts.push_str(&format!("{line}\n"));
    }
    let mut said = BTreeMap::new();
    for (command, lines) in [("artifact", artifacts), ("cert", chains)] {
        let mut child = Command::new(program("usher"))
            .args([command, "verify", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let verdict: Value = serde_json::from_str(line).unwrap();
            said.insert(verdict["id"].as_str().unwrap().to_owned(), verdict);
        }
    }
    let differ: Vec<String> = vectors
        .iter()
        .filter(|vector| {
            let id = vector["id"].as_str().unwrap();
            !TIME_TO_COME.contains(&id)
                && said
                    .get(id)
                    .is_none_or(|said| said["verdict"] != vector["expect"])
        })
        .map(|vector| {
            let id = vector["id"].as_str().unwrap();
            format!("{id}: {} {:?}", vector["reason"], said.get(id))
        })
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
