//! `usher masa|registrar|bootstrap audit …`: the commands of every service with an audit log.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use store::audit::{self, Entry, Error, Filter, Inclusion, Log, NoteKey};
use store::{Store, params};
use time::OffsetDateTime;

use crate::cli::{Progress, table, when};
use crate::{Format, Outcome};

/// Entries that one `list` shows at most.
const LIST_MAX: u32 = 100_000;

/// What a person has to know when only the database speaks for itself.
const UNANCHORED: &str = "\n  warning: no checkpoint outside the database was there to compare \
     with; a log that was set back whole would not be noticed";

/// What one can ask an audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
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

/// Which entries.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only entries about the device with this serial number, or about what is named in full, such
    /// as `owner:NAME` or `register`.
    #[arg(long)]
    subject: Option<String>,
    /// Entries after this number.
    #[arg(long, default_value_t = 0)]
    after: i64,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// With what the log is compared.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// A checkpoint that was kept elsewhere; the log must continue it. Repeat it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The log's public key, or a file with it. Without it the one of the configuration's key.
    #[arg(long, value_name = "KEY|FILE")]
    key: Option<String>,
}

/// Which entry is proven, and where the proof goes.
#[derive(Debug, Args)]
pub struct ProveArguments {
    /// Number of the entry, as `list` shows it.
    id: i64,
    /// The file to write; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A proof and the key of its log.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The proof.
    file: PathBuf,
    /// The log's public key, or a file with it.
    #[arg(long, value_name = "KEY|FILE")]
    key: String,
}

/// Where the log is written.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// JSON lines into this file; `-` for standard output.
    #[arg(long, value_name = "FILE", required_unless_present = "tiles")]
    lines: Option<PathBuf>,
    /// Tiles (C2SP tlog-tiles) into this folder.
    #[arg(long, value_name = "DIR")]
    tiles: Option<PathBuf>,
}

/// The log that a command works on, and who asks.
#[derive(Debug)]
pub struct Place<'a> {
    /// The service's command, such as `usher masa`, for what a person is told to type.
    pub program: &'static str,
    /// How answers are printed.
    pub format: Format,
    /// The database.
    pub store: &'a Store,
    /// The log: with the configuration's key, or reading only with [`AuditCommand::key`].
    pub log: Log,
    /// The time, for what is sealed on the way.
    pub now: OffsetDateTime,
}

impl AuditCommand {
    /// Runs a command that needs neither configuration nor database: whoever checks a proof is
    /// somebody else, somewhere else. `None` for the others.
    #[must_use]
    pub fn offline(&self, format: Format) -> Option<Outcome> {
        match self {
            Self::Check(arguments) => Some(ended(format, check(format, arguments))),
            _ => None,
        }
    }

    /// The public key that the caller named to read the log with.
    ///
    /// # Errors
    /// If it is neither a key nor a file that holds one, by the caller's fault.
    pub fn key(&self) -> Result<Option<NoteKey>, Error> {
        match self {
            Self::Verify(arguments) => arguments.key.as_deref().map(key).transpose(),
            _ => Ok(None),
        }
    }

    /// What `list` is to be about: a serial number, or a subject in full.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::List(arguments) => arguments.subject.as_deref(),
            _ => None,
        }
    }

    /// Runs the command and says how it ended. `subjects` is what the service's register makes of
    /// [`AuditCommand::subject`]: a serial number stands for each device that has it.
    pub async fn run(&self, place: &Place<'_>, subjects: Option<Vec<String>>) -> Outcome {
        let result = match self {
            Self::List(arguments) => list(place, arguments, subjects).await,
            Self::Verify(arguments) => verify(place, arguments).await,
            Self::Prove(arguments) => prove(place, arguments).await,
            Self::Export(arguments) => export(place, arguments).await,
            Self::Check(arguments) => check(place.format, arguments),
            Self::Key => {
                let key = place.log.key().to_string();
                let answer = json!({ "ok": true, "key": key });
                place.format.print(&answer, |_| key.clone());
                Ok(Outcome::Yes)
            }
        };
        ended(place.format, result)
    }
}

/// A clear no is another exit code than a command that could not run.
fn ended(format: Format, result: Result<Outcome, Error>) -> Outcome {
    result.unwrap_or_else(|error| {
        let outcome = format.error(&error);
        match error {
            Error::NoEntry(_) | Error::Tampered(_) | Error::Proof(_) | Error::Checkpoint(_) => {
                Outcome::No
            }
            _ => outcome,
        }
    })
}

fn file(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        source,
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| file(path, error))
}

/// A key, or the file that holds one.
fn key(text: &str) -> Result<NoteKey, Error> {
    if let Ok(key) = NoteKey::parse(text) {
        return Ok(key);
    }
    NoteKey::parse(&read(Path::new(text))?)
}

async fn list(
    place: &Place<'_>,
    arguments: &ListArguments,
    subjects: Option<Vec<String>>,
) -> Result<Outcome, Error> {
    let subjects = match subjects {
        Some(subjects) => subjects.into_iter().map(Some).collect(),
        None => vec![None],
    };
    let mut entries = Vec::new();
    for subject in subjects {
        let limit = i64::from(arguments.limit.clamp(1, LIST_MAX));
        let filter = Filter {
            subject,
            after: arguments.after,
            limit,
        };
        entries.extend(audit::list(place.store, &filter).await?);
    }
    entries.sort_by_key(|entry| entry.id);
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
    place.format.print(&answer, |_| {
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

async fn verify(place: &Place<'_>, arguments: &VerifyArguments) -> Result<Outcome, Error> {
    let log = &place.log;
    let mut trusted = Vec::new();
    for path in &arguments.checkpoint {
        trusted.push(read(path)?);
    }
    let row = place
        .store
        .fetch_optional("SELECT COUNT(*) AS n FROM audit_entry", params![])
        .await?;
    let total = row.map(|row| row.integer("n")).transpose()?.unwrap_or(0);
    let progress = Progress::new(place.format, u64::try_from(total).unwrap_or(0), "entries");
    let mut done = 0;
    let verdict = log
        .verify(&trusted, |read| {
            progress.add(read - done);
            done = read;
        })
        .await;
    progress.finish();
    let verdict = verdict?;
    place.format.print(&verdict, |verdict| {
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

async fn prove(place: &Place<'_>, arguments: &ProveArguments) -> Result<Outcome, Error> {
    let log = &place.log;
    // A proof needs a place in the tree; the server may be down, so it is given here.
    log.seal(place.now).await?;
    let proof = log.prove_row(arguments.id).await?;
    let text = proof.to_string();
    if let Some(path) = &arguments.out {
        std::fs::write(path, &text).map_err(|error| file(path, error))?;
    }
    let answer = json!({
        "ok": true, "index": proof.index, "key": log.key().to_string(), "proof": text,
        "file": arguments.out,
    });
    place.format.print(&answer, |_| match &arguments.out {
        Some(path) => format!(
            "wrote {}\ncheck it anywhere: {} audit check {} --key '{}'",
            path.display(),
            place.program,
            path.display(),
            log.key()
        ),
        None => text.clone(),
    });
    Ok(Outcome::Yes)
}

fn check(format: Format, arguments: &CheckArguments) -> Result<Outcome, Error> {
    let path = &arguments.file;
    let text = read(path)?;
    let key = key(&arguments.key)?;
    let proof = Inclusion::parse(&text)?;
    let (entry, checkpoint) = proof.verify(&key)?;
    let answer = json!({
        "ok": true, "index": proof.index, "size": checkpoint.size, "origin": checkpoint.origin,
        "entry": entry,
    });
    format.print(&answer, |_| {
        let entry = serde_json::to_string_pretty(&entry).unwrap_or_default();
        format!(
            "proven: entry {} of {} in {}\n{entry}",
            proof.index, checkpoint.size, checkpoint.origin
        )
    });
    Ok(Outcome::Yes)
}

async fn export(place: &Place<'_>, arguments: &ExportArguments) -> Result<Outcome, Error> {
    let log = &place.log;
    log.seal(place.now).await?;
    let mut entries = 0;
    if let Some(path) = &arguments.lines {
        if path == Path::new("-") {
            let mut output = Vec::new();
            log.export_lines(&mut output).await?;
            // A reader that went away is no reason to fail.
            let _ = std::io::stdout().write_all(&output);
            return Ok(Outcome::Yes);
        }
        let created = std::fs::File::create(path).map_err(|error| file(path, error))?;
        let mut output = std::io::BufWriter::new(created);
        entries = log.export_lines(&mut output).await?;
        output.flush().map_err(|error| file(path, error))?;
    }
    if let Some(directory) = &arguments.tiles {
        entries = log.export_tiles(directory).await?;
    }
    let answer = json!({
        "ok": true, "entries": entries, "lines": arguments.lines, "tiles": arguments.tiles,
    });
    place
        .format
        .print(&answer, |_| format!("exported {entries} entries"));
    Ok(Outcome::Yes)
}
