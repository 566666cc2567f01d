//! The suite is itself tested: every seeded defect has to be caught by the case that the table
//! names, and the same program without a defect has to be clean.
//!
//! `cargo xtask conformance defects [--all] [WORD…]`: a word chooses a target, or the defects whose
//! names begin with it; `--all` runs every case of the target for each defect and says which failed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::Value;

use crate::support::{
    bench::{Bench, SUBJECTS, subject},
    harness::{DEFECT, SUITE, good, program},
};

#[path = "../support/mod.rs"]
mod support;

/// Servers that run at the same time. Most of a run is waiting.
const WORKERS: usize = 3;

/// A line of the table.
#[derive(Clone, Debug)]
struct Defect {
    name: String,
    target: String,
    requirement: String,
    case: String,
}

/// What one worker does at a time.
#[derive(Clone, Debug)]
enum Job {
    /// The whole target without a defect.
    Clean(&'static str),
    /// One defect.
    Seeded(Defect),
}

fn main() -> ExitCode {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let all = flags.iter().any(|flag| flag == "--all");
    let table = table();
    let mut wrong = disagreements(&table);
    let chosen = |defect: &Defect| {
        words.is_empty()
            || words
                .iter()
                .any(|word| defect.target == *word || defect.name.starts_with(word.as_str()))
    };
    let mut jobs = VecDeque::new();
    for subject in SUBJECTS {
        if words.is_empty() || words.iter().any(|word| word == subject.target) {
            jobs.push_back(Job::Clean(subject.target));
        }
        let own = table.iter().filter(|one| one.target == subject.target);
        jobs.extend(own.filter(|one| chosen(one)).cloned().map(Job::Seeded));
    }
    let count = jobs.len();
    let jobs = Mutex::new(jobs);
    let found = Mutex::new(Vec::new());
    let begun = Instant::now();
    let program = program("usher-defective");
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| work(&program, &jobs, &found, all));
        }
    });
    wrong.extend(found.into_inner().unwrap_or_else(PoisonError::into_inner));
    println!(
        "{count} runs in {:.0} s, {} wrong",
        begun.elapsed().as_secs_f64(),
        wrong.len()
    );
    for line in &wrong {
        println!("  {line}");
    }
    ExitCode::from(u8::from(!wrong.is_empty()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table() -> Vec<Defect> {
    let file = root().join("conformance/defects.csv");
    let mut reader = csv::Reader::from_path(file).unwrap();
    let lines = reader.records().map(Result::unwrap);
    lines
        .map(|line| Defect {
            name: line[0].to_owned(),
            target: line[1].to_owned(),
            requirement: line[2].to_owned(),
            case: line[3].to_owned(),
        })
        .collect()
}

/// Where the table, the sources and the cases do not say the same.
fn disagreements(table: &[Defect]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    let mut lines = BTreeSet::new();
    let listed = good(SUITE, &["list", "--json"], &root());
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let cases: BTreeMap<&str, &Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|case| (case["id"].as_str().unwrap(), &case["requirements"]))
        .collect();
    for defect in table {
        let name = &defect.name;
        names.insert(name.clone());
        if !lines.insert((name, &defect.target)) {
            wrong.push(format!(
                "{name} is in the table twice for {}",
                defect.target
            ));
        }
        if SUBJECTS.iter().all(|one| one.target != defect.target) {
            wrong.push(format!("{name}: nothing is tested as {}", defect.target));
        }
        match cases.get(defect.case.as_str()) {
            Some(rows)
                if rows
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|row| *row == defect.requirement) => {}
            Some(_) => wrong.push(format!(
                "{name}: {} is not about {}",
                defect.case, defect.requirement
            )),
            None => wrong.push(format!("{name}: there is no case {}", defect.case)),
        }
    }
    let seeded = seeded();
    for name in names.difference(&seeded) {
        wrong.push(format!("{name} is in the table and in no source"));
    }
    for name in seeded.difference(&names) {
        wrong.push(format!(
            "{name} is in a source and not in conformance/defects.csv"
        ));
    }
    wrong
}

/// The names in the sources.
fn seeded() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && !path.starts_with(root().join("crates/defects"))
            {
                let text = std::fs::read_to_string(&path).unwrap();
                for call in text.split("seeded!(").skip(1) {
                    let arguments = call.split(')').next().unwrap();
                    let literals = arguments.split('"').skip(1).step_by(2);
                    names.extend(literals.map(str::to_owned));
                }
            }
        }
    }
    names
}

fn work(program: &Path, jobs: &Mutex<VecDeque<Job>>, found: &Mutex<Vec<String>>, all: bool) {
    // Each worker prepares a target once and copies that for each run.
    let mut prepared: BTreeMap<String, (tempfile::TempDir, Bench)> = BTreeMap::new();
    loop {
        let next = jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(job) = next else { return };
        let (target, defect) = match &job {
            Job::Clean(target) => (*target, ""),
            Job::Seeded(defect) => (defect.target.as_str(), defect.name.as_str()),
        };
        let (_, base) = prepared.entry(target.to_owned()).or_insert_with(|| {
            let folder = tempfile::tempdir().unwrap();
            let bench = Bench {
                folder: folder.path().to_owned(),
                program: program.to_owned(),
                defect: String::new(),
            };
            (subject(target).prepare)(&bench);
            (folder, bench)
        });
        let folder = tempfile::tempdir().unwrap();
        let bench = copy_of(base, &folder.path().join("bench"), defect);
        let begun = Instant::now();
        let told = match &job {
            Job::Clean(_) => clean(&bench, target),
            Job::Seeded(defect) => caught(&bench, defect, all),
        };
        let name = if defect.is_empty() { target } else { defect };
        let seconds = begun.elapsed().as_secs_f64();
        match told {
            Ok(text) => println!("ok    {name} ({seconds:.1} s) {text}"),
            Err(why) => {
                println!("WRONG {name} ({seconds:.1} s) {why}");
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push(format!("{name}: {why}"));
            }
        }
    }
}

/// Runs the suite and returns what failed, by id, and whether everything was good.
fn judge(
    bench: &Bench,
    target: &str,
    select: Option<&str>,
) -> Result<BTreeMap<String, Value>, String> {
    let _running = (subject(target).start)(bench);
    let mut command = Command::new(SUITE);
    command
        .args(["run", "--target", target, "--profile", "profile.toml"])
        .args(["--strict", "--seed", "7", "--json"])
        .current_dir(bench.trial())
        .env(DEFECT, &bench.defect)
        .stdin(Stdio::null());
    if let Some(case) = select {
        command.args(["--select", case]);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("no report: {error}: {said}")
    })?;
    let cases = report["cases"].as_array().ok_or("no cases")?;
    Ok(cases
        .iter()
        .map(|case| {
            (
                case["id"].as_str().unwrap_or_default().to_owned(),
                case.clone(),
            )
        })
        .collect())
}

fn clean(bench: &Bench, target: &str) -> Result<String, String> {
    let cases = judge(bench, target, None)?;
    let bad: Vec<String> = cases
        .iter()
        .filter(|(_, case)| {
            !["pass", "not-applicable"].contains(&case["outcome"].as_str().unwrap_or_default())
        })
        .map(|(id, case)| format!("{id}: {}", case["why"]))
        .collect();
    if bad.is_empty() {
        Ok(format!("clean, {} cases", cases.len()))
    } else {
        Err(bad.join("; "))
    }
}

fn caught(bench: &Bench, defect: &Defect, all: bool) -> Result<String, String> {
    let select = (!all).then_some(defect.case.as_str());
    let cases = judge(bench, &defect.target, select)?;
    let failed: Vec<&str> = cases
        .iter()
        .filter(|(_, case)| case["outcome"] == "fail")
        .map(|(id, _)| id.as_str())
        .collect();
    if failed.contains(&defect.case.as_str()) {
        return Ok(if all {
            format!("caught by {}", failed.join(", "))
        } else {
            format!("caught by {}", defect.case)
        });
    }
    let instead = if failed.is_empty() {
        cases.get(&defect.case).map_or_else(
            || "which did not run".to_owned(),
            |case| format!("{}: {}", case["outcome"], case["why"]),
        )
    } else {
        format!("but by {}", failed.join(", "))
    };
    Err(format!("not caught by {}, {instead}", defect.case))
}

/// A copy of everything in another folder, with another defect.
fn copy_of(bench: &Bench, folder: &Path, defect: &str) -> Bench {
    copy_folder(&bench.folder, folder);
    Bench {
        folder: folder.to_owned(),
        program: bench.program.clone(),
        defect: defect.to_owned(),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else {
            std::fs::copy(&path, &copy).unwrap();
        }
    }
}
