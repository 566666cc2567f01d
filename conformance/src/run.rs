//! Carries cases out and collects what came of them.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    case::{Case, Kit},
    catalogue::{Catalogue, Level},
    clock,
    evidence::{Item, Recorder},
    expected::Expected,
    outcome::{Finding, Outcome, Told},
    profile::Profile,
    report::{CaseReport, Counts, Report, RequirementReport, SuiteReport},
    role::{Role, Setup},
};

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// A broken SHOULD fails.
    pub strict: bool,
    /// The seed of everything that is chosen at random.
    pub seed: u64,
    /// Cases at the same time.
    pub parallel: usize,
    /// Known failures.
    pub expected: Expected,
    /// How a person repeats the run, without its selection.
    pub command: String,
}

/// Runs the cases in order, a few at a time, and tells `progress` of each that has ended.
///
/// # Errors
/// If the role cannot be set up; then nothing ran.
pub async fn run(
    role: &dyn Role,
    cases: Vec<Case>,
    profile: &Profile,
    folder: &Path,
    options: &Options,
    catalogue: &Catalogue,
    progress: &mut dyn FnMut(&CaseReport),
) -> Result<Report> {
    let started = clock::now();
    let setup = Setup {
        profile,
        folder,
        seed: options.seed,
    };
    let kit = role.start(&setup)?;
    let mut waiting = cases.into_iter().enumerate();
    let mut running: JoinSet<(usize, CaseReport)> = JoinSet::new();
    let mut done: BTreeMap<usize, CaseReport> = BTreeMap::new();
    let claims: Arc<Vec<String>> = Arc::new(profile.claims.clone());
    loop {
        while running.len() < options.parallel.max(1) {
            let Some((place, case)) = waiting.next() else {
                break;
            };
            let level = case.level_by(catalogue);
            let kit = Arc::clone(&kit);
            let claims = Arc::clone(&claims);
            let seed = seed_of(options.seed, &case.id);
            let time_max = profile.timing.case();
            running.spawn(async move {
                let report = one(case, level, kit, &claims, seed, time_max).await;
                (place, report)
            });
        }
        match running.join_next().await {
            Some(Ok((place, mut report))) => {
                judge(&mut report, options, catalogue);
                progress(&report);
                done.insert(place, report);
            }
            // `one` catches what a case does; nothing else ends a task.
            Some(Err(_)) => {}
            None => break,
        }
    }
    let cases: Vec<CaseReport> = done.into_values().collect();
    let finished = clock::now();
    Ok(Report {
        schema: Report::SCHEMA.to_owned(),
        suite: SuiteReport::this(),
        target: profile.target.name().to_owned(),
        profile: serde_json::to_value(profile)?,
        seed: options.seed,
        strict: options.strict,
        command: options.command.clone(),
        started: clock::text(started),
        finished: clock::text(finished),
        counts: Counts::of(&cases),
        ok: cases.iter().all(CaseReport::is_good),
        cases,
    })
}

/// A case's own seed: it does not depend on which other cases run.
fn seed_of(seed: u64, id: &str) -> u64 {
    // FNV-1a, then a finaliser, so that similar ids get unlike seeds.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
    for byte in id.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash.wrapping_mul(0xff51_afd7_ed55_8ccd)
}

async fn one(
    case: Case,
    level: Level,
    kit: Kit,
    claims: &[String],
    seed: u64,
    time_max: Duration,
) -> CaseReport {
    let begun = Instant::now();
    let record = Recorder::new(seed);
    let missing: Vec<&str> = case
        .needs
        .iter()
        .copied()
        .filter(|need| !claims.iter().any(|claim| claim == need))
        .collect();
    let told: Told = if missing.is_empty() {
        let task = tokio::spawn(case.begin(kit, record.clone()));
        let abort = task.abort_handle();
        match tokio::time::timeout(time_max, task).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => Err(Finding::could_not_test(format!(
                "the suite itself failed in this case: {error}"
            ))),
            Err(_) => {
                abort.abort();
                Err(Finding::could_not_test(format!(
                    "it took more than {} s",
                    time_max.as_secs()
                )))
            }
        }
    } else {
        Err(Finding::not_applicable(format!(
            "the profile does not claim {}",
            missing.join(", ")
        )))
    };
    let (outcome, why) = match told {
        Ok(()) => (Outcome::Pass, String::new()),
        Err(finding) => (finding.outcome, finding.why),
    };
    CaseReport {
        id: case.id,
        title: case.title,
        level,
        tags: case.tags.iter().map(|&tag| tag.to_owned()).collect(),
        requirements: case
            .requirements
            .into_iter()
            .map(RequirementReport::bare)
            .collect(),
        outcome,
        why,
        expected: None,
        unexpected_pass: false,
        ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        repeat: String::new(),
        evidence: record.items(),
    }
}

/// Applies level, `--strict` and the known failures.
fn judge(report: &mut CaseReport, options: &Options, catalogue: &Catalogue) {
    report.outcome = match (report.outcome, report.level) {
        (Outcome::Fail, Level::Should | Level::May) if !options.strict => Outcome::Warning,
        // A MAY cannot be broken, even in strict mode.
        (Outcome::Fail, Level::May) => Outcome::Warning,
        (Outcome::Warning, Level::Should) if options.strict => Outcome::Fail,
        (outcome, _) => outcome,
    };
    for requirement in &mut report.requirements {
        requirement.fill(catalogue);
    }
    report.repeat = format!("{} --select {}", options.command, report.id);
    if let Some(entry) = options.expected.get(&report.id, clock::now()) {
        match report.outcome {
            Outcome::Fail | Outcome::CouldNotTest | Outcome::Manual => {
                report.expected = Some(entry.reason.clone());
            }
            Outcome::Pass | Outcome::Warning => report.unexpected_pass = true,
            Outcome::NotApplicable => {}
        }
    }
}

/// Items of evidence as text, for the terminal and the archive.
#[must_use]
pub fn transcript(items: &[Item]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for item in items {
        let arrow = match item.way {
            crate::evidence::Way::Sent => "-->",
            crate::evidence::Way::Received => "<--",
            crate::evidence::Way::Note => "   ",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:>6} ms {arrow} {}", item.ms, item.title);
        if item.length > 0 {
            let _ = writeln!(text, "           {} octets", item.length);
        }
        for line in item.decoded.lines() {
            let _ = writeln!(text, "           {line}");
        }
    }
    text
}
