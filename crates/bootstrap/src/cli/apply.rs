//! `usher bootstrap apply`, `check`, `history`, `rollback` and `show`.

use std::path::PathBuf;

use clap::Args;
use daemon::Outcome;
use serde_json::json;

use super::text::{table, when};
use super::{Context, with_store};
use crate::Error;
use crate::content::apply::{Extent, Options, Report, apply, check_served};
use crate::content::finding::Severity;
use crate::content::revision;
use crate::register::operator;

#[derive(Debug, Args)]
pub(super) struct ApplyArguments {
    /// The content folder, with content.toml in it.
    folder: PathBuf,
    /// Check only: nothing changes.
    #[arg(long)]
    dry_run: bool,
    /// For how many devices the configuration is made and checked: all, none, or a number.
    #[arg(long, default_value = "500", value_name = "all|none|NUMBER")]
    check: Extent,
    /// What this revision is about.
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// A content folder; without it, what is served.
    folder: Option<PathBuf>,
    /// For how many devices the configuration is made and checked: all, or a number.
    #[arg(long, default_value = "all", value_name = "all|NUMBER")]
    check: Extent,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArguments {
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The revision whose content is served again, as a new revision.
    revision: i64,
    /// Why.
    #[arg(long, default_value = "", value_name = "TEXT")]
    note: String,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The revision; without it, the one that is served.
    revision: Option<i64>,
}

fn report_text(report: &Report) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let errors = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    lines.push(match (report.ok, report.dry_run, report.revision) {
        (false, _, _) => format!("{errors} errors; nothing changes"),
        (true, false, Some(revision)) if report.new => format!("revision {revision} is served"),
        (true, false, Some(revision)) => {
            format!("revision {revision} is served already and says the same")
        }
        _ => "nothing is wrong".to_owned(),
    });
    lines.push(format!(
        "{} configurations were made and checked",
        report.devices_checked
    ));
    lines.join("\n")
}

pub(super) async fn run_apply(
    context: &Context,
    arguments: &ApplyArguments,
) -> Result<Outcome, Error> {
    let now = context.clock.now();
    with_store(context, async |config, store| {
        let options = Options {
            dry_run: arguments.dry_run,
            extent: arguments.check,
            author: operator(),
            note: arguments.note.clone(),
        };
        let report = apply(config, store, &arguments.folder, &options, now).await?;
        context.format.print(&report, report_text);
        Ok(Outcome::of(report.ok))
    })
    .await
}

pub(super) async fn run_check(
    context: &Context,
    arguments: &CheckArguments,
) -> Result<Outcome, Error> {
    let now = context.clock.now();
    with_store(context, async |config, store| {
        let report = match &arguments.folder {
            Some(folder) => {
                let options = Options {
                    dry_run: true,
                    extent: arguments.check,
                    ..Options::default()
                };
                apply(config, store, folder, &options, now).await?
            }
            None => check_served(config, store, arguments.check, now).await?,
        };
        context.format.print(&report, report_text);
        Ok(Outcome::of(report.ok))
    })
    .await
}

pub(super) async fn run_history(
    context: &Context,
    arguments: &HistoryArguments,
) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let revisions = revision::history(store, arguments.limit.clamp(1, 10_000)).await?;
        let answer = json!({ "ok": true, "revisions": revisions });
        context.format.print(&answer, |_| {
            let rows: Vec<Vec<String>> = revisions
                .iter()
                .map(|revision| {
                    vec![
                        revision.id.to_string(),
                        if revision.served { "served" } else { "" }.to_owned(),
                        when(revision.at),
                        revision.author.clone(),
                        daemon::cli::plain(&revision.note),
                    ]
                })
                .collect();
            table(&["revision", "", "at", "by", "note"], &rows)
        });
        Ok(Outcome::Yes)
    })
    .await
}

pub(super) async fn run_rollback(
    context: &Context,
    arguments: &RollbackArguments,
) -> Result<Outcome, Error> {
    let now = context.clock.now();
    with_store(context, async |_, store| {
        let note = if arguments.note.is_empty() {
            format!("back to revision {}", arguments.revision)
        } else {
            arguments.note.clone()
        };
        let stored = revision::rollback(store, arguments.revision, &operator(), &note, now).await?;
        let answer = json!({ "ok": true, "revision": stored.revision, "new": stored.new });
        context.format.print(&answer, |_| {
            if stored.new {
                format!(
                    "revision {} is served and says what revision {} said",
                    stored.revision, arguments.revision
                )
            } else {
                format!(
                    "revision {} is served already and says the same",
                    stored.revision
                )
            }
        });
        Ok(Outcome::Yes)
    })
    .await
}

pub(super) async fn run_show(
    context: &Context,
    arguments: &ShowArguments,
) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let id = match arguments.revision {
            Some(id) => id,
            None => revision::epoch(store).await?.1,
        };
        let document = revision::document(store, id).await?;
        let answer = json!({ "ok": true, "revision": id, "content": document });
        context.format.print(&answer, |_| {
            let mut lines = vec![format!("revision {id}")];
            for rule in &document.rules {
                lines.push(format!("rule {:?}: {}", rule.name, rule.target));
            }
            for (name, versions) in &document.bundles {
                let versions: Vec<&str> = versions.keys().map(String::as_str).collect();
                lines.push(format!("bundle {name}: {}", versions.join(", ")));
            }
            for (name, servers) in &document.redirects {
                let servers: Vec<&str> = servers.iter().map(|s| s.address.as_str()).collect();
                lines.push(format!("redirect {name}: {}", servers.join(", ")));
            }
            for (name, image) in &document.images {
                let digest = image.sha256.map_or_else(String::new, |d| format!(" {d}"));
                lines.push(format!("image {name}{digest}"));
            }
            for (name, plan) in &document.rollouts {
                let (bundle, from, to) = (&plan.bundle, &plan.from, &plan.to);
                lines.push(format!("rollout {name}: {bundle} from {from} to {to}"));
            }
            lines.push(format!("{} files", document.files.len()));
            lines.join("\n")
        });
        Ok(Outcome::Yes)
    })
    .await
}
