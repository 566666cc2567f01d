//! `usher registrar audit …`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use daemon::Outcome;
use store::audit::{Inclusion, NoteKey};

use super::Context;
use crate::Error;

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Recompute the whole log and compare it with what was signed.
    Verify(VerifyArguments),
    /// Write a proof that an entry is in the log, or check one without any database.
    Prove(ProveArguments),
    /// Write the log as JSON lines, or as a folder of tiles.
    Export(ExportArguments),
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// A checkpoint that was kept elsewhere: the log has to continue it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ProveArguments {
    /// The place of the entry in the log, as `export` shows it.
    #[arg(required_unless_present = "check", conflicts_with = "check")]
    index: Option<u64>,
    /// Write the proof to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Check this proof instead of making one.
    #[arg(long, value_name = "PROOF", requires = "key")]
    check: Option<PathBuf>,
    /// The public key of the log, as `verify` prints it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Write tiles of C2SP tlog-tiles into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    tiles: Option<PathBuf>,
    /// Write JSON lines to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, command: &AuditCommand) -> Result<Outcome, Error> {
    match command {
        AuditCommand::Verify(arguments) => verify(context, arguments).await,
        AuditCommand::Prove(arguments) => match (&arguments.check, &arguments.key) {
            (Some(file), Some(key)) => check(context, file, key),
            _ => prove(context, arguments).await,
        },
        AuditCommand::Export(arguments) => export(context, arguments).await,
    }
}

async fn verify(context: &Context, arguments: &VerifyArguments) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let log = crate::service::open_audit(&config, &store)?;
    let mut trusted = Vec::new();
    for file in &arguments.checkpoint {
        trusted.push(std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))?);
    }
    let verdict = log.verify(&trusted, |_| {}).await?;
    let answer = serde_json::json!({
        "ok": verdict.ok, "key": log.key().to_string(), "verdict": verdict,
    });
    context.format.print(&answer, |_| {
        let mut lines: Vec<String> = verdict
            .problems
            .iter()
            .map(|problem| format!("{}: {}", problem.code, problem.detail))
            .collect();
        lines.push(format!(
            "{} entries, {} of them signed for, {} waiting; root {}",
            verdict.size, verdict.sealed_size, verdict.pending, verdict.root
        ));
        lines.push(format!("key {}", log.key()));
        if verdict.kept_elsewhere == 0 {
            lines.push(
                "warning: no checkpoint outside the database was there to compare with; a log that \
                 was set back whole would not be noticed"
                    .to_owned(),
            );
        }
        lines.push(
            if verdict.ok {
                "the log is whole"
            } else {
                "the log was changed"
            }
            .to_owned(),
        );
        lines.join("\n")
    });
    Ok(Outcome::of(verdict.ok))
}

async fn prove(context: &Context, arguments: &ProveArguments) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let log = crate::service::open_audit(&config, &store)?;
    let index = arguments.index.unwrap_or_default();
    let proof = log.prove(index).await?.to_string();
    match &arguments.out {
        Some(file) => {
            std::fs::write(file, &proof).map_err(|error| Error::file(file, &error))?;
            let answer = serde_json::json!({
                "ok": true, "index": index, "file": file, "key": log.key().to_string(),
            });
            context.format.print(&answer, |_| {
                format!("proof of entry {index} in {}", file.display())
            });
        }
        None => {
            let answer = serde_json::json!({
                "ok": true, "index": index, "proof": proof, "key": log.key().to_string(),
            });
            context.format.print(&answer, |_| proof.clone());
        }
    }
    Ok(Outcome::Yes)
}

/// Needs neither configuration nor database: that is what a proof is for.
fn check(context: &Context, file: &PathBuf, key: &str) -> Result<Outcome, Error> {
    let text = std::fs::read_to_string(file).map_err(|error| Error::file(file, &error))?;
    let key = NoteKey::parse(key)?;
    match Inclusion::parse(&text).and_then(|proof| proof.verify(&key)) {
        Ok((entry, checkpoint)) => {
            let answer = serde_json::json!({
                "ok": true, "entry": entry, "log_size": checkpoint.size,
            });
            context.format.print(&answer, |_| {
                format!(
                    "the entry is in the log of {} entries: {} {} {}",
                    checkpoint.size, entry.kind, entry.subject, entry.data
                )
            });
            Ok(Outcome::Yes)
        }
        Err(error) => {
            context.format.problem(error.code(), &error.to_string());
            Ok(Outcome::No)
        }
    }
}

async fn export(context: &Context, arguments: &ExportArguments) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let log = crate::service::open_audit(&config, &store)?;
    // With the server down nobody else seals, and an export holds what is signed only.
    log.seal(context.clock.now()).await?;
    if let Some(directory) = &arguments.tiles {
        let count = log.export_tiles(directory).await?;
        let answer = serde_json::json!({ "ok": true, "entries": count, "directory": directory });
        context.format.print(&answer, |_| {
            format!("{count} entries in {}", directory.display())
        });
        return Ok(Outcome::Yes);
    }
    let mut bytes = Vec::new();
    let count = log.export_lines(&mut bytes).await?;
    match &arguments.out {
        Some(file) => {
            std::fs::write(file, &bytes).map_err(|error| Error::file(file, &error))?;
            let answer = serde_json::json!({ "ok": true, "entries": count, "file": file });
            context.format.print(&answer, |_| {
                format!("{count} entries in {}", file.display())
            });
        }
        None if context.format.json => {
            let lines: Vec<serde_json::Value> = bytes
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect();
            context
                .format
                .print(&serde_json::json!({ "ok": true, "entries": lines }), |_| {
                    String::new()
                });
        }
        None => std::io::stdout()
            .write_all(&bytes)
            .map_err(|error| Error::File {
                path: "stdout".to_owned(),
                detail: error.to_string(),
            })?,
    }
    Ok(Outcome::Yes)
}
