//! `usher bootstrap audit …`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use daemon::Outcome;
use daemon::cli::Progress;
use serde_json::{Value, json};
use store::audit::{self, Entry, Filter, Inclusion, Log, NoteKey};
use store::{Store, params};

use super::text::{table, when};
use super::{Context, with_store};
use crate::{Config, Error};

/// What a person has to know when only the database speaks for itself.
const UNANCHORED: &str = "\n  warning: no checkpoint outside the database was there to compare \
     with; a log that was set back whole would not be noticed";

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List entries, oldest first.
    List(ListArguments),
    /// Read the whole log again and compare it with everything that was signed.
    Verify(VerifyArguments),
    /// Write a proof that an entry is in the log, which can be checked offline.
    Prove(ProveArguments),
    /// Check a proof offline, with the log's public key alone.
    Check(CheckArguments),
    /// Write the log as JSON lines, or as a directory of tiles that any web server can serve.
    Export(ExportArguments),
    /// Print the log's public key.
    Key,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only entries about the device with this serial number, or about what is named in full
    /// (`device:VENDOR/SERIAL`, `owner:NAME`, `register`).
    #[arg(long)]
    subject: Option<String>,
    /// Entries after this number.
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// A checkpoint that was kept elsewhere; the log must continue it. Repeat it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The log's public key, or a file with it. Without it the one of the configuration's key.
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ProveArguments {
    /// Number of the entry, as `list` shows it.
    id: i64,
    /// The file to write; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The proof.
    file: PathBuf,
    /// The log's public key, or a file with it.
    #[arg(long, value_name = "KEY|FILE")]
    key: String,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// JSON lines into this file; `-` for standard output.
    #[arg(long, value_name = "FILE", required_unless_present = "tiles")]
    lines: Option<PathBuf>,
    /// Tiles (C2SP tlog-tiles) into this folder.
    #[arg(long, value_name = "DIR")]
    tiles: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, command: &AuditCommand) -> Result<Outcome, Error> {
    if let AuditCommand::Check(arguments) = command {
        // Needs no configuration: whoever checks is somebody else, somewhere else.
        return check(context, arguments);
    }
    with_store(context, async |config, store| match command {
        AuditCommand::List(arguments) => list(context, store, arguments).await,
        AuditCommand::Verify(arguments) => verify(context, config, store, arguments).await,
        AuditCommand::Prove(arguments) => prove(context, config, store, arguments).await,
        AuditCommand::Export(arguments) => export(context, config, store, arguments).await,
        AuditCommand::Key | AuditCommand::Check(_) => {
            let key = log_of(config, store)?.key().to_string();
            let answer = json!({ "ok": true, "key": key });
            context.format.print(&answer, |_| key.clone());
            Ok(Outcome::Yes)
        }
    })
    .await
}

/// A key, or the file that holds one.
fn key(text: &str) -> Result<NoteKey, Error> {
    if let Ok(key) = NoteKey::parse(text) {
        return Ok(key);
    }
    let path = Path::new(text);
    let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
    Ok(NoteKey::parse(&text)?)
}

async fn list(
    context: &Context,
    store: &Store,
    arguments: &ListArguments,
) -> Result<Outcome, Error> {
    let mut subjects = vec![None];
    if let Some(subject) = &arguments.subject {
        subjects = if subject.contains(':') || subject == "register" {
            vec![Some(subject.clone())]
        } else {
            // A serial number stands for each device that has it.
            let mut snapshot = store.snapshot().await?;
            crate::register::find_devices(&mut snapshot, subject, None)
                .await?
                .iter()
                .map(|device| Some(crate::register::subject(&device.vendor, &device.serial)))
                .collect()
        };
    }
    let mut entries = Vec::new();
    for subject in subjects {
        let limit = i64::from(arguments.limit.clamp(1, 100_000));
        let filter = Filter {
            subject,
            after: arguments.after,
            limit,
        };
        entries.extend(audit::list(store, &filter).await?);
    }
    let values: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "id": entry.id, "index": entry.index,
                "leaf_hash": hex::encode(&entry.leaf_hash),
                "entry": Entry::decode(&entry.octets),
            })
        })
        .collect();
    let answer = json!({ "ok": true, "entries": values });
    context.format.print(&answer, |_| {
        let rows: Vec<Vec<String>> = entries
            .iter()
            .map(|recorded| {
                let entry = Entry::decode(&recorded.octets);
                let text = |get: fn(&Entry) -> String| entry.as_ref().map(get).unwrap_or_default();
                vec![
                    recorded.id.to_string(),
                    recorded
                        .index
                        .map_or_else(|| "pending".to_owned(), |i| i.to_string()),
                    text(|entry| when(entry.at)),
                    text(|entry| entry.kind.clone()),
                    text(|entry| entry.subject.clone()),
                    text(|entry| entry.actor.clone()),
                ]
            })
            .collect();
        table(&["id", "leaf", "time", "what", "about", "by"], &rows)
    });
    Ok(Outcome::Yes)
}

/// The log of the configuration.
fn log_of(config: &Config, store: &Store) -> Result<Log, Error> {
    config.audit_log(store)?.ok_or_else(|| {
        Error::Usage("the configuration has no [audit]: nothing is signed".to_owned())
    })
}

fn reader(config: &Config, store: &Store, named: Option<&String>) -> Result<Log, Error> {
    match (named, &config.audit) {
        (Some(text), Some(audit)) => {
            let log = Log::reader(store.clone(), key(text)?);
            Ok(log.with_anchor(config.resolve(&audit.anchor)))
        }
        (Some(text), None) => Ok(Log::reader(store.clone(), key(text)?)),
        (None, _) => log_of(config, store),
    }
}

async fn verify(
    context: &Context,
    config: &Config,
    store: &Store,
    arguments: &VerifyArguments,
) -> Result<Outcome, Error> {
    let log = reader(config, store, arguments.key.as_ref())?;
    let mut trusted = Vec::new();
    for path in &arguments.checkpoint {
        trusted.push(std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?);
    }
    let row = store
        .fetch_optional("SELECT COUNT(*) AS n FROM audit_entry", params![])
        .await?;
    let total = row.map(|row| row.integer("n")).transpose()?.unwrap_or(0);
    let progress = Progress::new(context.format, u64::try_from(total).unwrap_or(0), "entries");
    let mut done = 0;
    let verdict = log
        .verify(&trusted, |read| {
            progress.add(read - done);
            done = read;
        })
        .await;
    progress.finish();
    let verdict = verdict?;
    context.format.print(&verdict, |verdict| {
        let mut text = format!(
            "{}: {} entries, root {}\n{} checkpoints fit, the newest over {} entries; {} entries \
             are pending",
            if verdict.ok { "sound" } else { "TAMPERED" },
            verdict.size,
            verdict.root,
            verdict.checkpoints,
            verdict.sealed_size,
            verdict.pending
        );
        if verdict.kept_elsewhere == 0 {
            text.push_str(UNANCHORED);
        }
        for problem in &verdict.problems {
            let at = problem
                .index
                .map_or_else(String::new, |index| format!("entry {index}: "));
            text.push_str(&format!("\n  {at}{} [{}]", problem.detail, problem.code));
        }
        text
    });
    Ok(Outcome::of(verdict.ok))
}

async fn prove(
    context: &Context,
    config: &Config,
    store: &Store,
    arguments: &ProveArguments,
) -> Result<Outcome, Error> {
    let log = log_of(config, store)?;
    // A proof needs a place in the tree; the server may be down, so it is given here.
    log.seal(context.clock.now()).await?;
    let proof = log.prove_row(arguments.id).await?;
    let text = proof.to_string();
    if let Some(path) = &arguments.out {
        std::fs::write(path, &text).map_err(|error| Error::file(path, error))?;
    }
    let answer = json!({
        "ok": true, "index": proof.index, "key": log.key().to_string(), "proof": text,
        "file": arguments.out,
    });
    context.format.print(&answer, |_| match &arguments.out {
        Some(path) => format!(
            "wrote {}\ncheck it anywhere: usher bootstrap audit check {} --key '{}'",
            path.display(),
            path.display(),
            log.key()
        ),
        None => text.clone(),
    });
    Ok(Outcome::Yes)
}

fn check(context: &Context, arguments: &CheckArguments) -> Result<Outcome, Error> {
    let path = &arguments.file;
    let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
    let key = key(&arguments.key)?;
    let proof = Inclusion::parse(&text)?;
    let (entry, checkpoint) = proof.verify(&key)?;
    let answer = json!({
        "ok": true, "index": proof.index, "size": checkpoint.size, "origin": checkpoint.origin,
        "entry": entry,
    });
    context.format.print(&answer, |_| {
        let entry = serde_json::to_string_pretty(&entry).unwrap_or_default();
        format!(
            "proven: entry {} of {} in {}\n{entry}",
            proof.index, checkpoint.size, checkpoint.origin
        )
    });
    Ok(Outcome::Yes)
}

async fn export(
    context: &Context,
    config: &Config,
    store: &Store,
    arguments: &ExportArguments,
) -> Result<Outcome, Error> {
    let log = log_of(config, store)?;
    log.seal(context.clock.now()).await?;
    let mut entries = 0;
    if let Some(path) = &arguments.lines {
        if path == Path::new("-") {
            let mut output = Vec::new();
            log.export_lines(&mut output).await?;
            // A reader that went away is no reason to fail.
            let _ = std::io::stdout().write_all(&output);
            return Ok(Outcome::Yes);
        }
        let file = std::fs::File::create(path).map_err(|error| Error::file(path, error))?;
        let mut output = std::io::BufWriter::new(file);
        entries = log.export_lines(&mut output).await?;
        output.flush().map_err(|error| Error::file(path, error))?;
    }
    if let Some(directory) = &arguments.tiles {
        entries = log.export_tiles(directory).await?;
    }
    let answer = json!({
        "ok": true, "entries": entries, "lines": arguments.lines, "tiles": arguments.tiles,
    });
    context
        .format
        .print(&answer, |_| format!("exported {entries} entries"));
    Ok(Outcome::Yes)
}
