//! The fuzz smoke run: every target of `fuzz/fuzz_targets`, for some seconds each.
//!
//! libFuzzer wants instrumented code, and the flags below are what `cargo fuzz` would pass without
//! a sanitizer: the workspace forbids unsafe code, so an address sanitizer would mostly watch
//! other people's code at three times the build time. `cargo fuzz run TARGET` works too, for a
//! long run.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
     -Ccodegen-units=1";

/// Inputs larger than this find little that smaller ones do not.
const INPUT_BYTES_MAX: u32 = 16 * 1024;

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let seconds: u32 = match arguments.first() {
        Some(seconds) => seconds.parse().context("SECONDS is a whole number")?,
        None => 10,
    };
    let only = arguments.get(1);
    let fuzz = root.join("fuzz");
    let target_folder = fuzz.join("target");
    let triple = host_triple()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--bins", "--target", &triple])
        .current_dir(&fuzz)
        .env("CARGO_TARGET_DIR", &target_folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", INSTRUMENTATION)
        .status()
        .context("cargo did not start")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(fuzz.join("fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.retain(|name| only.is_none_or(|only| only == name));
    if names.is_empty() {
        bail!("no such fuzz target");
    }
    for name in names {
        let corpus = fuzz.join("corpus").join(&name);
        let found = fuzz.join("artifacts").join(&name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        let mut command = Command::new(target_folder.join(&triple).join("release").join(&name));
        command.arg(&corpus);
        let seeds = fuzz.join("seeds").join(&name);
        if seeds.is_dir() {
            command.arg(&seeds);
        }
        let output = command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg("-rss_limit_mb=2048")
            .arg("-timeout=10")
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", found.display()))
            .output()
            .with_context(|| format!("{name} did not start"))?;
        let log = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            eprintln!("{log}");
            bail!(
                "fuzz target {name} failed; the input is in {}",
                found.display()
            );
        }
        let runs = log
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
            .map_or("?", str::trim);
        eprintln!("fuzz {name}: {runs} inputs in {seconds} s, none failed");
    }
    Ok(())
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("rustc did not start")?;
    String::from_utf8(output.stdout)?
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc -vV names no host")
}
