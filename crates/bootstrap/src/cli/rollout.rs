//! `usher bootstrap rollout …`.

use clap::{Args, Subcommand};
use daemon::Outcome;
use serde_json::json;

use super::text::{table, when};
use super::{Context, with_store};
use crate::Error;
use crate::content::revision;
use crate::content::rollout::{self, Action, Rollout};
use crate::register::operator;

#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Begin with the first stage, or go on to the next.
    Start(StartArguments),
    /// How far rollouts are.
    Status(StatusArguments),
    /// Give the new version to nobody else.
    Pause(NameArguments),
    /// Go on after a pause, or after it stopped by itself.
    Resume(NameArguments),
    /// Give everybody the old version.
    Abort(NameArguments),
    /// Give everybody the new version.
    Finish(NameArguments),
}

#[derive(Debug, Args)]
pub(super) struct StartArguments {
    /// The rollout, as content.toml names it.
    name: String,
    /// This stage, counted from 1.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    stage: Option<u16>,
}

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// One rollout only.
    name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct NameArguments {
    /// The rollout, as content.toml names it.
    name: String,
}

pub(super) async fn run(context: &Context, command: &RolloutCommand) -> Result<Outcome, Error> {
    let (name, action) = match command {
        RolloutCommand::Status(arguments) => return status(context, arguments).await,
        RolloutCommand::Start(arguments) => {
            let stage = arguments.stage.map(|stage| usize::from(stage) - 1);
            (
                &arguments.name,
                stage.map_or(Action::Start, Action::StartAt),
            )
        }
        RolloutCommand::Pause(arguments) => (&arguments.name, Action::Pause),
        RolloutCommand::Resume(arguments) => (&arguments.name, Action::Resume),
        RolloutCommand::Abort(arguments) => (&arguments.name, Action::Abort),
        RolloutCommand::Finish(arguments) => (&arguments.name, Action::Finish),
    };
    let now = context.clock.now();
    with_store(context, async |_, store| {
        let (_, served) = revision::epoch(store).await?;
        let document = revision::document(store, served).await?;
        let rollout = rollout::act(store, &document, name, action, &operator(), now).await?;
        let stage = document
            .rollouts
            .get(name)
            .and_then(|plan| plan.stages.get(rollout.stage))
            .map(ToString::to_string)
            .unwrap_or_default();
        let answer = json!({ "ok": true, "rollout": rollout, "devices": stage });
        context.format.print(&answer, |_| {
            format!(
                "{} is {}: {} from {} to {}, stage {} ({stage})",
                rollout.name,
                rollout.state.as_str(),
                rollout.bundle,
                rollout.from,
                rollout.to,
                rollout.stage + 1,
            )
        });
        Ok(Outcome::Yes)
    })
    .await
}

async fn status(context: &Context, arguments: &StatusArguments) -> Result<Outcome, Error> {
    with_store(context, async |_, store| {
        let (_, served) = revision::epoch(store).await?;
        let document = revision::document(store, served).await?;
        let started: Vec<Rollout> = rollout::list(store)
            .await?
            .into_iter()
            .filter(|one| arguments.name.as_ref().is_none_or(|name| *name == one.name))
            .collect();
        let waiting: Vec<&String> = document
            .rollouts
            .iter()
            .filter(|(name, plan)| {
                arguments.name.as_ref().is_none_or(|wanted| wanted == *name)
                    && !started.iter().any(|one| {
                        one.bundle == plan.bundle && one.from == plan.from && one.to == plan.to
                    })
            })
            .map(|(name, _)| name)
            .collect();
        if let Some(name) = &arguments.name
            && started.is_empty()
            && waiting.is_empty()
        {
            return Err(Error::NotFound {
                what: "rollout",
                name: name.clone(),
            });
        }
        let answer = json!({ "ok": true, "rollouts": started, "not_started": waiting });
        context.format.print(&answer, |_| {
            let mut rows: Vec<Vec<String>> = started
                .iter()
                .map(|one| {
                    vec![
                        one.name.clone(),
                        one.state.as_str().to_owned(),
                        format!("{} {} -> {}", one.bundle, one.from, one.to),
                        (one.stage + 1).to_string(),
                        one.served.to_string(),
                        one.succeeded.to_string(),
                        one.failed.to_string(),
                        when(one.changed),
                        one.reason.clone(),
                    ]
                })
                .collect();
            for name in &waiting {
                let plan = document.rollouts.get(*name);
                let what = plan.map_or_else(String::new, |plan| {
                    format!("{} {} -> {}", plan.bundle, plan.from, plan.to)
                });
                let mut row = vec![(*name).clone(), "not started".to_owned(), what];
                row.resize(9, String::new());
                rows.push(row);
            }
            table(
                &[
                    "rollout",
                    "state",
                    "bundle",
                    "stage",
                    "served",
                    "succeeded",
                    "failed",
                    "changed",
                    "",
                ],
                &rows,
            )
        });
        Ok(Outcome::Yes)
    })
    .await
}
