//! Staged rollout: a new version of a bundle to some devices first, and back when they fail.
//!
//! The plan stands in the content folder; how far it is stands in the database, under (bundle,
//! from, to), and outlives new revisions of the content. Who is in a percentage depends on nothing
//! but the device and the two versions, so a device stays in as the percentage grows.

use std::sync::Arc;

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::json;
use store::{AssertSqlSafe, Connection, Row, Store, params};
use time::OffsetDateTime;

use super::document::{Digest, Document, RolloutPlan, Stage};
use crate::Error;
use crate::register;

/// Where a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Devices of the stages so far get the new version.
    Running,
    /// Those who have it keep it, nobody else gets it.
    Paused,
    /// Too many failed: everybody gets the old version.
    Stopped,
    /// The operator ended it: everybody gets the old version.
    Aborted,
    /// Everybody gets the new version.
    Finished,
}

impl State {
    /// The word in the database and in lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
            Self::Finished => "finished",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Paused,
            Self::Stopped,
            Self::Aborted,
            Self::Finished,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// A rollout that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollout {
    /// Its number.
    #[serde(skip)]
    pub id: i64,
    /// Its name in the content when it was started.
    pub name: String,
    /// The bundle.
    pub bundle: String,
    /// The last good version.
    pub from: String,
    /// The new version.
    pub to: String,
    /// Where it is.
    pub state: State,
    /// The stage, counted from zero.
    pub stage: usize,
    /// Devices that were given the new version.
    pub served: i64,
    /// Of these, devices whose last report was bootstrap-complete.
    pub succeeded: i64,
    /// Of these, devices whose last report was an error.
    pub failed: i64,
    /// More failures than this share stop it.
    pub failures_percent_max: i64,
    /// Not before so many reports.
    pub reports_min: i64,
    /// Why it stopped.
    pub reason: String,
    /// When it was started.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it changed last.
    #[serde(with = "time::serde::rfc3339")]
    pub changed: OffsetDateTime,
}

const COLUMNS: &str = "id, name, bundle, from_version, to_version, state, stage, served, \
     succeeded, failed, failures_percent_max, reports_min, reason, created_us, changed_us";

fn rollout_of(row: &Row) -> Result<Rollout, Error> {
    let state = row.text("state")?;
    Ok(Rollout {
        id: row.integer("id")?,
        name: row.text("name")?,
        bundle: row.text("bundle")?,
        from: row.text("from_version")?,
        to: row.text("to_version")?,
        state: State::parse(&state).ok_or_else(|| {
            Error::Store(store::Error::Column {
                column: "state".to_owned(),
                detail: format!("{state:?} is not the state of a rollout"),
            })
        })?,
        stage: usize::try_from(row.integer("stage")?).unwrap_or_default(),
        served: row.integer("served")?,
        succeeded: row.integer("succeeded")?,
        failed: row.integer("failed")?,
        failures_percent_max: row.integer("failures_percent_max")?,
        reports_min: row.integer("reports_min")?,
        reason: row.text("reason")?,
        created: row.time("created_us")?,
        changed: row.time("changed_us")?,
    })
}

/// All rollouts that were ever started, the newest first.
///
/// # Errors
/// What the database said.
pub async fn list(store: &Store) -> Result<Vec<Rollout>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM rollout ORDER BY id DESC LIMIT 1000");
    let rows = store.fetch_all(AssertSqlSafe(sql), params![]).await?;
    rows.iter().map(rollout_of).collect()
}

/// Where a device stands among ten thousand.
#[must_use]
pub fn position(bundle: &str, to: &str, vendor: &str, serial: &str) -> u32 {
    let mut text = String::with_capacity(bundle.len() + to.len() + vendor.len() + serial.len() + 4);
    for part in [bundle, to, vendor, serial] {
        text.push_str(part);
        text.push('\0');
    }
    let Digest([a, b, c, d, ..]) = Digest::of(text.as_bytes());
    u32::from_be_bytes([a, b, c, d]) % 10_000
}

/// Whether a device is in one of the first stages, of which `stage` is the last.
#[must_use]
pub fn in_stages(
    plan: &RolloutPlan,
    stage: usize,
    vendor: &str,
    serial: &str,
    site: Option<&str>,
) -> bool {
    let mut place = None;
    plan.stages
        .iter()
        .take(stage.saturating_add(1))
        .any(|stage| match stage {
            Stage::Percent(percent) => {
                let place =
                    *place.get_or_insert_with(|| position(&plan.bundle, &plan.to, vendor, serial));
                place < percent.saturating_mul(100)
            }
            Stage::Sites(sites) => site.is_some_and(|site| sites.iter().any(|one| one == site)),
        })
}

/// Which version a device gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The old one, and why.
    Old(&'static str),
    /// The new one; the device counts.
    New,
    /// The new one, because everybody gets it.
    Everybody,
    /// The new one if the device has been given it before.
    IfEnrolled,
}

/// Decides without the database.
#[must_use]
pub fn choose(
    plan: &RolloutPlan,
    rollout: Option<&Rollout>,
    vendor: &str,
    serial: &str,
    site: Option<&str>,
) -> Choice {
    let Some(rollout) = rollout else {
        return Choice::Old("the rollout has not been started");
    };
    match rollout.state {
        State::Running if in_stages(plan, rollout.stage, vendor, serial, site) => Choice::New,
        State::Running => Choice::Old("the device is in none of the stages so far"),
        State::Paused => Choice::IfEnrolled,
        State::Stopped => Choice::Old("the rollout stopped because devices failed"),
        State::Aborted => Choice::Old("the rollout was aborted"),
        State::Finished => Choice::Everybody,
    }
}

/// Whether a device has been given the new version.
///
/// # Errors
/// What the database said.
pub async fn is_enrolled(store: &Store, rollout: i64, device: i64) -> Result<bool, Error> {
    let row = store
        .fetch_optional(
            "SELECT device FROM rollout_device WHERE rollout = $1 AND device = $2",
            params![rollout, device],
        )
        .await?;
    Ok(row.is_some())
}

/// Notes that a device is given the new version. Says whether the rollout still runs: if it does
/// not, the device must not be given it.
///
/// # Errors
/// What the database said.
pub async fn enrol(
    store: &Store,
    rollout: i64,
    device: i64,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    store
        .locking_transaction("rollout-enrol", move |connection| {
            async move {
                let new = connection
                    .execute(
                        "INSERT INTO rollout_device (rollout, device, outcome, at_us) \
                         SELECT id, $1, 'pending', $2 FROM rollout \
                         WHERE id = $3 AND state = 'running' \
                         ON CONFLICT (rollout, device) DO NOTHING",
                        params![device, now, rollout],
                    )
                    .await?;
                if new > 0 {
                    connection
                        .execute(
                            "UPDATE rollout SET served = served + 1 WHERE id = $1",
                            params![rollout],
                        )
                        .await?;
                    return Ok(true);
                }
                let running = connection
                    .fetch_optional(
                        "SELECT id FROM rollout WHERE id = $1 AND state = 'running'",
                        params![rollout],
                    )
                    .await?;
                Ok::<_, Error>(running.is_some())
            }
            .boxed()
        })
        .await
}

/// Counts the end of a device's bootstrapping for the rollouts that it is in, and stops one that
/// fails too often. Works in the transaction that records the report.
///
/// # Errors
/// What the database said.
pub async fn note_report(
    connection: &mut Connection,
    device: i64,
    failed: bool,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let rows = connection
        .fetch_all(
            "SELECT rollout_device.rollout FROM rollout_device JOIN rollout \
             ON rollout.id = rollout_device.rollout \
             WHERE rollout_device.device = $1 AND rollout.state IN ('running', 'paused')",
            params![device],
        )
        .await?;
    for row in rows {
        note_one(connection, row.integer("rollout")?, device, failed, now).await?;
    }
    Ok(())
}

async fn note_one(
    connection: &mut Connection,
    rollout: i64,
    device: i64,
    failed: bool,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let (outcome, other) = if failed {
        ("failed", "succeeded")
    } else {
        ("succeeded", "failed")
    };
    // Each update tells by itself what the device was before, so two replicas count it once.
    for before in ["pending", other] {
        let changed = connection
            .execute(
                "UPDATE rollout_device SET outcome = $1, at_us = $2 \
                 WHERE rollout = $3 AND device = $4 AND outcome = $5",
                params![outcome, now, rollout, device, before],
            )
            .await?;
        if changed == 0 {
            continue;
        }
        let sql = if before == "pending" {
            format!("UPDATE rollout SET {outcome} = {outcome} + 1 WHERE id = $1")
        } else {
            format!(
                "UPDATE rollout SET {outcome} = {outcome} + 1, {other} = {other} - 1 WHERE id = $1"
            )
        };
        connection
            .execute(AssertSqlSafe(sql), params![rollout])
            .await?;
        break;
    }
    if !failed {
        return Ok(());
    }
    let stopped = connection
        .execute(
            "UPDATE rollout SET state = 'stopped', changed_us = $1, \
             reason = 'too many of the devices that reported have failed' \
             WHERE id = $2 AND state IN ('running', 'paused') \
             AND succeeded + failed >= reports_min \
             AND failed * 100 > failures_percent_max * (succeeded + failed)",
            params![now, rollout],
        )
        .await?;
    if stopped > 0 {
        tracing::warn!(rollout, "a rollout stopped: too many devices failed");
        register::touch(connection).await?;
        let data = json!({ "rollout": rollout, "device": device });
        let subject = format!("rollout:{rollout}");
        register::record(connection, "rollout-stopped", "server", &subject, data, now).await?;
    }
    Ok(())
}

/// What an operator does to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin with the first stage, or go on to the next.
    Start,
    /// Begin with a certain stage, counted from zero.
    StartAt(usize),
    /// Give the new version to nobody else.
    Pause,
    /// Go on after a pause or a stop.
    Resume,
    /// Give everybody the old version.
    Abort,
    /// Give everybody the new version.
    Finish,
}

/// Does what the operator wants. `document` is the content that is served.
///
/// # Errors
/// There is no such rollout, the step is not possible in its state, or what the database said.
pub async fn act(
    store: &Store,
    document: &Document,
    name: &str,
    action: Action,
    author: &str,
    now: OffsetDateTime,
) -> Result<Rollout, Error> {
    let plan = document
        .rollouts
        .get(name)
        .cloned()
        .ok_or_else(|| Error::NotFound {
            what: "rollout",
            name: name.to_owned(),
        })?;
    let work = Arc::new((plan, name.to_owned(), author.to_owned()));
    store
        .transaction("rollout-act", move |connection| {
            let work = Arc::clone(&work);
            async move {
                let (plan, name, author) = &*work;
                let before = find(connection, plan).await?;
                let (state, stage) = step(plan, name, before.as_ref(), action)?;
                let stage_column = i64::try_from(stage).unwrap_or(i64::MAX);
                let values = params![
                    name,
                    &plan.bundle,
                    &plan.from,
                    &plan.to,
                    state.as_str(),
                    stage_column,
                    plan.failures_percent_max,
                    plan.reports_min,
                    now
                ];
                connection
                    .execute(
                        "INSERT INTO rollout (name, bundle, from_version, to_version, state, \
                         stage, failures_percent_max, reports_min, served, succeeded, failed, \
                         reason, created_us, changed_us) \
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, '', $9, $9) \
                         ON CONFLICT (bundle, from_version, to_version) DO UPDATE SET \
                         name = excluded.name, state = excluded.state, stage = excluded.stage, \
                         failures_percent_max = excluded.failures_percent_max, \
                         reports_min = excluded.reports_min, reason = '', \
                         changed_us = excluded.changed_us",
                        values,
                    )
                    .await?;
                // Whoever resumes after a stop gives the failed devices another chance.
                if before.is_some_and(|before| before.state == State::Stopped)
                    && state == State::Running
                {
                    forget_failures(connection, plan).await?;
                }
                register::touch(connection).await?;
                let rollout = find(connection, plan)
                    .await?
                    .ok_or_else(|| Error::NotFound {
                        what: "rollout",
                        name: name.clone(),
                    })?;
                let data = json!({
                    "rollout": name, "bundle": plan.bundle, "from": plan.from, "to": plan.to,
                    "state": state.as_str(), "stage": stage,
                });
                let subject = format!("rollout:{}", rollout.id);
                register::record(connection, "rollout-changed", author, &subject, data, now)
                    .await?;
                Ok::<_, Error>(rollout)
            }
            .boxed()
        })
        .await
}

async fn find(connection: &mut Connection, plan: &RolloutPlan) -> Result<Option<Rollout>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM rollout WHERE bundle = $1 AND from_version = $2 AND to_version = $3"
    );
    let values = params![&plan.bundle, &plan.from, &plan.to];
    let row = connection
        .fetch_optional(AssertSqlSafe(sql), values)
        .await?;
    row.as_ref().map(rollout_of).transpose()
}

async fn forget_failures(connection: &mut Connection, plan: &RolloutPlan) -> Result<(), Error> {
    const WHICH: &str = "SELECT id FROM rollout WHERE bundle = $1 AND from_version = $2 \
         AND to_version = $3";
    let sql = format!(
        "UPDATE rollout_device SET outcome = 'pending' WHERE outcome = 'failed' \
         AND rollout IN ({WHICH})"
    );
    let values = params![&plan.bundle, &plan.from, &plan.to];
    connection
        .execute(AssertSqlSafe(sql), values.clone())
        .await?;
    connection
        .execute(
            "UPDATE rollout SET failed = 0 WHERE bundle = $1 AND from_version = $2 \
             AND to_version = $3",
            values,
        )
        .await?;
    Ok(())
}

/// What comes of an action.
fn step(
    plan: &RolloutPlan,
    name: &str,
    before: Option<&Rollout>,
    action: Action,
) -> Result<(State, usize), Error> {
    let last = plan.stages.len().saturating_sub(1);
    let impossible = |what: &str| {
        let state = before.map_or("not started", |before| before.state.as_str());
        Err(Error::Rollout(format!(
            "rollout {name:?} is {state}: {what}"
        )))
    };
    let (state, stage) = match before {
        None => (None, 0),
        Some(before) => (Some(before.state), before.stage.min(last)),
    };
    match (action, state) {
        (Action::StartAt(stage), _) if stage > last => impossible("it has fewer stages"),
        (Action::Start, None | Some(State::Aborted)) => Ok((State::Running, 0)),
        (Action::Start, Some(State::Running)) if stage < last => Ok((State::Running, stage + 1)),
        (Action::Start, Some(State::Running)) => {
            impossible("this is its last stage; finish it, or add a stage to the content")
        }
        (Action::StartAt(stage), None | Some(State::Running | State::Aborted)) => {
            Ok((State::Running, stage))
        }
        (Action::Pause, Some(State::Running)) => Ok((State::Paused, stage)),
        (Action::Resume, Some(State::Paused | State::Stopped)) => Ok((State::Running, stage)),
        (
            Action::Abort,
            Some(State::Running | State::Paused | State::Stopped | State::Finished),
        ) => Ok((State::Aborted, stage)),
        (Action::Finish, Some(State::Running | State::Paused)) => Ok((State::Finished, stage)),
        (Action::Start | Action::StartAt(_), Some(State::Paused | State::Stopped)) => {
            impossible("resume it, or abort it")
        }
        _ => impossible("that cannot be done to it now"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(stages: Vec<Stage>) -> RolloutPlan {
        RolloutPlan {
            bundle: "access".to_owned(),
            from: "1".to_owned(),
            to: "2".to_owned(),
            stages,
            failures_percent_max: 10,
            reports_min: 10,
        }
    }

    #[test]
    fn a_percentage_is_about_that_share_of_all_devices() {
        let plan = plan(vec![Stage::Percent(5)]);
        let inside = (0..20_000)
            .filter(|n| in_stages(&plan, 0, "acme", &format!("SN-{n}"), None))
            .count();
        assert!((800..1_200).contains(&inside), "{inside} of 20000");
        let everybody = super::super::document::Stage::Percent(100);
        let plan = RolloutPlan {
            stages: vec![everybody],
            ..plan
        };
        assert!((0..1_000).all(|n| in_stages(&plan, 0, "acme", &format!("SN-{n}"), None)));
    }

    proptest! {
        /// Who is in stays in as the percentage grows and further stages come.
        #[test]
        fn a_device_stays_in_its_cohort(
            serial in "[A-Z0-9]{1,12}",
            site in prop::option::of("[ab]"),
            mut percents in prop::collection::vec(1_u32..=100, 1..5),
            sites in prop::collection::vec("[abc]", 0..3),
        ) {
            percents.sort_unstable();
            let mut stages: Vec<Stage> = percents.into_iter().map(Stage::Percent).collect();
            stages.insert(stages.len() / 2, Stage::Sites(sites));
            let plan = plan(stages);
            let mut was_in = false;
            for stage in 0..plan.stages.len() {
                let inside = in_stages(&plan, stage, "acme", &serial, site.as_deref());
                prop_assert!(inside || !was_in, "left at stage {stage}");
                prop_assert_eq!(inside, in_stages(&plan, stage, "acme", &serial, site.as_deref()));
                was_in = inside;
            }
        }
    }

    #[test]
    fn steps_are_possible_where_they_make_sense() {
        let plan = plan(vec![Stage::Percent(5), Stage::Sites(vec!["a".to_owned()])]);
        let rollout = |state, stage| Rollout {
            id: 1,
            name: "r".to_owned(),
            bundle: "access".to_owned(),
            from: "1".to_owned(),
            to: "2".to_owned(),
            state,
            stage,
            served: 0,
            succeeded: 0,
            failed: 0,
            failures_percent_max: 10,
            reports_min: 10,
            reason: String::new(),
            created: OffsetDateTime::UNIX_EPOCH,
            changed: OffsetDateTime::UNIX_EPOCH,
        };
        let cases = [
            (None, Action::Start, Some((State::Running, 0))),
            (None, Action::StartAt(1), Some((State::Running, 1))),
            (None, Action::StartAt(2), None),
            (None, Action::Finish, None),
            (None, Action::Pause, None),
            (
                Some((State::Running, 0)),
                Action::Start,
                Some((State::Running, 1)),
            ),
            (Some((State::Running, 1)), Action::Start, None),
            (
                Some((State::Running, 1)),
                Action::Pause,
                Some((State::Paused, 1)),
            ),
            (Some((State::Paused, 1)), Action::Start, None),
            (
                Some((State::Paused, 1)),
                Action::Resume,
                Some((State::Running, 1)),
            ),
            (
                Some((State::Stopped, 0)),
                Action::Resume,
                Some((State::Running, 0)),
            ),
            (Some((State::Stopped, 0)), Action::Finish, None),
            (
                Some((State::Stopped, 0)),
                Action::Abort,
                Some((State::Aborted, 0)),
            ),
            (
                Some((State::Aborted, 1)),
                Action::Start,
                Some((State::Running, 0)),
            ),
            (
                Some((State::Finished, 1)),
                Action::Abort,
                Some((State::Aborted, 1)),
            ),
            (Some((State::Finished, 1)), Action::Finish, None),
        ];
        for (before, action, expected) in cases {
            let before = before.map(|(state, stage)| rollout(state, stage));
            let found = step(&plan, "r", before.as_ref(), action).ok();
            assert_eq!(found, expected, "{:?} {action:?}", before.map(|b| b.state));
        }
    }
}
