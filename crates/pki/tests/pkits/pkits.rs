//! All of PKITS, from `tests/data/pkits/cases.csv`.

use std::path::{Path, PathBuf};

use pki::path::{Anchors, PathOptions, PolicyOptions, Revocation, validate};
use pki::{Certificate, Coded as _, Crl, ObjectIdentifier};
use time::macros::datetime;

struct Case {
    id: String,
    title: String,
    expect: String,
    /// What we answer: `valid` or a code. It differs from `expect` only where `note` says why.
    ours: String,
    note: String,
    chain: Vec<PathBuf>,
    crls: Vec<PathBuf>,
    policies: PolicyOptions,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pkits")
}

fn cases() -> Vec<Case> {
    let mut table = csv::Reader::from_path(data().join("cases.csv")).unwrap();
    let headers = table.headers().unwrap().clone();
    table
        .records()
        .map(|record| {
            let record = record.unwrap();
            let field = |name: &str| {
                let column = headers.iter().position(|header| header == name).unwrap();
                record[column].to_owned()
            };
            let files = |name: &str, folder: &str| {
                let list = field(name);
                list.split_whitespace()
                    .map(|file| data().join(folder).join(file))
                    .collect()
            };
            // NIST's test policies are 2.16.840.1.101.3.2.1.48.n.
            let policy = |number: &str| {
                ObjectIdentifier::new(&format!("2.16.840.1.101.3.2.1.48.{number}")).unwrap()
            };
            Case {
                id: field("id"),
                title: field("title"),
                expect: field("expect"),
                ours: field("ours"),
                note: field("note"),
                chain: files("chain", "certs"),
                crls: files("crls", "crls"),
                policies: PolicyOptions {
                    initial: field("policies").split_whitespace().map(policy).collect(),
                    require_explicit: field("explicit") == "yes",
                    inhibit_mapping: field("inhibit_mapping") == "yes",
                    inhibit_any: field("inhibit_any") == "yes",
                },
            }
        })
        .collect()
}

fn answer(case: &Case, reversed: bool) -> String {
    let mut chain: Vec<Certificate> = Vec::new();
    for file in &case.chain {
        match Certificate::load(file) {
            Ok(certificate) => chain.push(certificate),
            Err(error) => return error.code().to_owned(),
        }
    }
    let mut crls: Vec<Crl> = Vec::new();
    for file in &case.crls {
        match Crl::load_all(file) {
            Ok(more) => crls.extend(more),
            Err(error) => return error.code().to_owned(),
        }
    }
    let leaf = chain.pop().unwrap();
    let mut certificates = chain.into_iter();
    let anchors: Anchors = certificates.next().into_iter().collect();
    let mut others: Vec<Certificate> = certificates.collect();
    if reversed {
        others.reverse();
        crls.reverse();
    }
    let options = PathOptions {
        at: Some(datetime!(2020-06-01 0:00 UTC)),
        crls,
        revocation: Revocation::Required,
        policies: case.policies.clone(),
        ..PathOptions::default()
    };
    match validate(&leaf, &others, &anchors, &options) {
        Ok(_) => "valid".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

#[test]
fn every_case_of_pkits_gets_the_expected_answer() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert_eq!(cases.len(), 249);
    for case in &cases {
        for reversed in [false, true] {
            let answer = answer(case, reversed);
            if answer != case.ours {
                let Case {
                    id,
                    title,
                    expect,
                    ours,
                    ..
                } = case;
                wrong.push(format!(
                    "{id} {title}: {answer}, not {ours} (PKITS: {expect})"
                ));
            }
        }
        let agrees = (case.expect == "valid") == (case.ours == "valid");
        assert!(
            agrees || !case.note.is_empty(),
            "{} deviates without a note",
            case.id
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
