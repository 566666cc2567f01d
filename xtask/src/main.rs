//! What CI runs, as commands: `cargo xtask ci|test|tidy|requirements|conformance|fuzz`.
//!
//! A step that CI takes and a person cannot take by hand would be a step nobody can debug, so
//! `.ci/run` does nothing but `cargo xtask ci`.

mod conformance;
mod fuzz;
mod packages;
mod requirements;
mod tidy;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>
  ci                        format, clippy with warnings denied, tidy, tests, fuzz smoke run
  test [ARGS…]              install what the tests need (apt, when root), then cargo test
  tidy                      layers, file sizes, error codes, requirement ids, leftovers
  requirements              rewrite docs/requirements.csv from the ids that tests name
  conformance defects [--all] [WORD…]
                            each seeded defect is caught by the suite, and nothing else
  fuzz [SECONDS] [TARGET]   run each fuzz target for SECONDS (default 10)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((command, rest)) => match command.as_str() {
            "ci" => ci(),
            "test" => test(rest),
            "tidy" => tidy::run(&root()),
            "requirements" => requirements::write(&root()),
            "conformance" => conformance(rest),
            "fuzz" => fuzz::run(&root(), rest),
            other => Err(anyhow::anyhow!("unknown command {other}\n{USAGE}")),
        },
        None => Err(anyhow::anyhow!("{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace's manifest.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn ci() -> Result<()> {
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("tidy", || tidy::run(&root()))?;
    step("clippy", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ])
    })?;
    step("test", || test(&[]))?;
    step("seeded defects", || defects(&[]))?;
    step("fuzz smoke", || fuzz::run(&root(), &["3".to_owned()]))
}

fn test(arguments: &[String]) -> Result<()> {
    packages::ensure()?;
    // The binary is started by several crates' tests, so it is built before any of them runs.
    cargo(&["build", "--package", "usher"])?;
    let mut all = vec!["test"];
    if arguments.is_empty() {
        all.push("--workspace");
    }
    all.extend(arguments.iter().map(String::as_str));
    cargo(&all)
}

fn conformance(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((command, rest)) if command == "defects" => defects(rest),
        _ => bail!("{USAGE}"),
    }
}

/// Runs the suite against the roles with one defect at a time.
fn defects(arguments: &[String]) -> Result<()> {
    let program = "usher-defective";
    cargo(&["build", "--package", program, "--features", "seeded"])?;
    let mut all = vec![
        "test",
        "--package",
        "usher-conformance",
        "--test",
        "defects",
    ];
    if !arguments.is_empty() {
        all.push("--");
    }
    all.extend(arguments.iter().map(String::as_str));
    cargo(&all)
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("== {name}");
    let started = Instant::now();
    work().with_context(|| format!("step `{name}` failed"))?;
    eprintln!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs cargo in the workspace's root and fails when it fails.
fn cargo(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .status()
        .context("cargo did not start")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
