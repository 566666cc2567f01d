//! `usher bootstrap events …`.

use clap::{Args, Subcommand};
use daemon::cli::{Doctor, plain};
use daemon::events::{self as sinks, SINK_TOPIC_PREFIX, Severity, TOPIC, sink_names};
use daemon::{Clock, Format, Outcome};
use futures::FutureExt as _;
use serde_json::{Value, json};
use store::outbox::{self, Waiting};
use store::{Connection, Store};
use time::format_description::well_known::Rfc3339;

use crate::{Config, Error};

/// Rows that are read at once.
const PAGE: i64 = 500;
/// An event that waits for longer than this waits too long.
const LATE: time::Duration = time::Duration::HOUR;

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// List the sinks, how many events wait for each, and the events that were given up.
    List(ListArguments),
    /// Send events again that were given up.
    Replay(ChoiceArguments),
    /// Remove events that were given up, for good.
    Discard(ChoiceArguments),
    /// Send a test event to a sink at once, past its queue.
    Test {
        /// The sink; without it, all of them.
        sink: Option<String>,
    },
    /// Remove all that waits for a sink that is no longer in the configuration.
    Forget {
        /// The sink.
        sink: String,
    },
}

/// Which events are listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Those that wait too, not only those that were given up.
    #[arg(long)]
    all: bool,
    /// Of this sink only.
    #[arg(long)]
    sink: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Which of the events that were given up are meant.
#[derive(Debug, Args)]
pub struct ChoiceArguments {
    /// Their numbers, as `events list` shows them.
    #[arg(required_unless_present = "all")]
    numbers: Vec<i64>,
    /// All of them.
    #[arg(long, conflicts_with = "numbers")]
    all: bool,
    /// Of this sink only.
    #[arg(long)]
    sink: Option<String>,
}

impl EventsCommand {
    /// Carries the command out on an open database.
    ///
    /// # Errors
    /// The database failed, or a sink is not configured as it has to be.
    pub async fn run(
        &self,
        format: Format,
        config: &Config,
        store: &Store,
        clock: &Clock,
    ) -> Result<Outcome, Error> {
        match self {
            Self::List(arguments) => list(format, config, store, arguments).await,
            Self::Replay(choice) => change(format, store, clock, choice, true).await,
            Self::Discard(choice) => change(format, store, clock, choice, false).await,
            Self::Test { sink } => test(format, config, store, clock, sink.as_deref()).await,
            Self::Forget { sink } => forget(format, config, store, sink).await,
        }
    }
}

/// What `doctor` says about sinks: whether they can be used, what they gave up, and what waits for
/// long.
pub(crate) async fn checkup(doctor: &mut Doctor, config: &Config, store: &Store, clock: &Clock) {
    let delivery = match super::delivery(config, store.clone(), clock.clone()) {
        Ok(delivery) => delivery,
        Err(error) => {
            doctor.fail("events", error.to_string(), "mend [events]");
            return;
        }
    };
    let read = async {
        let mut reader = store.reader().await?;
        let depths = outbox::depths(&mut reader).await?;
        let mut late = Vec::new();
        for name in delivery.sinks() {
            let topic = format!("{SINK_TOPIC_PREFIX}{name}");
            let oldest = outbox::list_topic(&mut reader, &topic, 1).await?;
            let limit = clock.now() - LATE;
            if oldest.first().is_some_and(|one| one.created < limit) {
                late.push(name.to_owned());
            }
        }
        Ok::<_, store::Error>((depths, late))
    };
    let (depths, late) = match read.await {
        Ok(found) => found,
        Err(error) => {
            doctor.fail("events", error.to_string(), "look at the database");
            return;
        }
    };
    for name in delivery.sinks() {
        let title = format!("events to {name}");
        let topic = format!("{SINK_TOPIC_PREFIX}{name}");
        let depth = depths.iter().find(|(found, ..)| *found == topic);
        let (waiting, dead) = depth.map_or((0, 0), |(_, waiting, dead)| (*waiting, *dead));
        let test = format!("usher bootstrap events test {name}");
        if dead > 0 {
            let fix = "usher bootstrap events list, then replay or discard";
            doctor.fail(title, format!("{dead} given up, {waiting} wait"), fix);
        } else if late.iter().any(|one| one == name) {
            let detail = format!("{waiting} wait, the oldest for more than an hour");
            doctor.fail(title, detail, test);
        } else {
            doctor.pass(title, format!("{waiting} wait"));
        }
    }
    for (topic, waiting, dead) in &depths {
        if let Some(name) = sink_of(topic).filter(|name| !delivery.sinks().any(|one| one == *name))
        {
            doctor.fail(
                format!("events to {name}"),
                format!(
                    "{} are kept for a sink that is no longer configured",
                    waiting + dead
                ),
                "configure it again, or let them be",
            );
        }
    }
}

/// The sink in whose queue a message is; none for one that was not given to the sinks yet.
fn sink_of(topic: &str) -> Option<&str> {
    topic.strip_prefix(SINK_TOPIC_PREFIX)
}

/// Every event of a sink or of all, page by page, until `limit`.
async fn read(
    connection: &mut Connection,
    dead_only: bool,
    sink: Option<&str>,
    limit: usize,
) -> Result<Vec<Waiting>, Error> {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = outbox::list(connection, dead_only, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        after = last.id;
        for waiting in page {
            let of_events = waiting.topic == TOPIC || sink_of(&waiting.topic).is_some();
            if of_events && sink.is_none_or(|sink| sink_of(&waiting.topic) == Some(sink)) {
                found.push(waiting);
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
    }
}

async fn list(
    format: Format,
    config: &Config,
    store: &Store,
    arguments: &ListArguments,
) -> Result<Outcome, Error> {
    let mut snapshot = store.snapshot().await?;
    let depths = outbox::depths(&mut snapshot).await?;
    let events = read(
        &mut snapshot,
        !arguments.all,
        arguments.sink.as_deref(),
        arguments.limit,
    )
    .await?;
    drop(snapshot);
    let configured = sink_names(&config.events)?;
    let mut sinks: Vec<Value> = configured
        .iter()
        .map(|name| {
            let topic = format!("{SINK_TOPIC_PREFIX}{name}");
            let depth = depths.iter().find(|(found, ..)| *found == topic);
            let (waiting, dead) = depth.map_or((0, 0), |(_, waiting, dead)| (*waiting, *dead));
            json!({ "name": name, "configured": true, "waiting": waiting, "dead": dead })
        })
        .collect();
    for (topic, waiting, dead) in &depths {
        if let Some(name) = sink_of(topic).filter(|name| !configured.contains(name)) {
            sinks.push(
                json!({ "name": name, "configured": false, "waiting": waiting, "dead": dead }),
            );
        }
    }
    let undistributed = depths
        .iter()
        .find(|(topic, ..)| topic == TOPIC)
        .map_or(0, |(_, waiting, _)| *waiting);
    let rows: Vec<Value> = events.iter().map(row).collect();
    let value = json!({ "sinks": sinks, "undistributed": undistributed, "events": rows });
    format.print(&value, |value| {
        let mut text = String::new();
        for sink in value["sinks"].as_array().into_iter().flatten() {
            text.push_str(&format!(
                "{:<20} waiting {:>7}  given up {:>7}{}\n",
                sink["name"].as_str().unwrap_or_default(),
                sink["waiting"],
                sink["dead"],
                if sink["configured"] == true {
                    ""
                } else {
                    "  (no longer in the configuration)"
                }
            ));
        }
        if undistributed > 0 {
            text.push_str(&format!("{undistributed} not yet given to the sinks\n"));
        }
        for event in value["events"].as_array().into_iter().flatten() {
            let word = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            text.push_str(&format!(
                "{:>8} {} {:<20} {} {} [{} attempts] {}\n",
                event["number"],
                word("at"),
                word("sink"),
                plain(&word("kind")),
                plain(&word("subject")),
                event["attempts"],
                plain(&word("last_error")),
            ));
        }
        if text.is_empty() {
            text.push_str("there is no sink and no event\n");
        }
        text
    });
    Ok(Outcome::Yes)
}

fn row(waiting: &Waiting) -> Value {
    let event: Option<sinks::Event> = serde_json::from_slice(&waiting.payload).ok();
    let time = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    json!({
        "number": waiting.id,
        "sink": sink_of(&waiting.topic),
        "at": time(waiting.created),
        "due": time(waiting.due),
        "given_up": waiting.dead.map(time),
        "attempts": waiting.attempts,
        "last_error": waiting.last_error,
        "id": event.as_ref().map(|event| event.id.clone()),
        "kind": event.as_ref().map(|event| event.kind.clone()),
        "subject": event.as_ref().map(|event| event.subject.clone()),
        "summary": event.as_ref().map(|event| event.summary.clone()),
    })
}

async fn change(
    format: Format,
    store: &Store,
    clock: &Clock,
    choice: &ChoiceArguments,
    replay: bool,
) -> Result<Outcome, Error> {
    let now = clock.now();
    let numbers = if choice.all {
        let mut snapshot = store.snapshot().await?;
        read(&mut snapshot, true, choice.sink.as_deref(), usize::MAX)
            .await?
            .iter()
            .map(|waiting| waiting.id)
            .collect()
    } else {
        choice.numbers.clone()
    };
    let mut done = Vec::new();
    let mut missing = Vec::new();
    for part in numbers.chunks(500) {
        let part = part.to_vec();
        let results = store
            .transaction("events-change", move |connection| {
                let part = part.clone();
                async move {
                    let mut results = Vec::with_capacity(part.len());
                    for number in part {
                        let changed = if replay {
                            outbox::replay(connection, number, now).await?
                        } else {
                            outbox::discard(connection, number).await?
                        };
                        results.push((number, changed));
                    }
                    Ok::<_, Error>(results)
                }
                .boxed()
            })
            .await?;
        for (number, changed) in results {
            if changed {
                done.push(number);
            } else {
                missing.push(number);
            }
        }
    }
    let value = json!({ "ok": missing.is_empty(), "done": done, "not_found": missing });
    format.print(&value, |_| {
        let verb = if replay { "queued again" } else { "removed" };
        let mut text = format!("{} {verb}\n", done.len());
        for number in &missing {
            text.push_str(&format!("{number} is not among those given up\n"));
        }
        text
    });
    Ok(Outcome::of(missing.is_empty()))
}

async fn forget(
    format: Format,
    config: &Config,
    store: &Store,
    sink: &str,
) -> Result<Outcome, Error> {
    if sink_names(&config.events)?.contains(&sink) {
        return Err(Error::Usage(format!(
            "{sink} is in the configuration: what waits for it is on its way"
        )));
    }
    let topic = format!("{SINK_TOPIC_PREFIX}{sink}");
    let removed = store
        .transaction("events-forget", move |connection| {
            let topic = topic.clone();
            async move {
                let sql = "DELETE FROM outbox WHERE topic = $1";
                Ok::<_, Error>(connection.execute(sql, store::params![topic]).await?)
            }
            .boxed()
        })
        .await?;
    format.print(&json!({ "ok": true, "removed": removed }), |_| {
        format!("{removed} removed\n")
    });
    Ok(Outcome::Yes)
}

async fn test(
    format: Format,
    config: &Config,
    store: &Store,
    clock: &Clock,
    sink: Option<&str>,
) -> Result<Outcome, Error> {
    let delivery = super::delivery(config, store.clone(), clock.clone())?;
    let names: Vec<String> = match sink {
        Some(name) => vec![name.to_owned()],
        None => delivery.sinks().map(str::to_owned).collect(),
    };
    let mut results = Vec::new();
    for name in names {
        let event = sinks::Event::new(
            clock.now(),
            "test",
            Severity::Notice,
            "-",
            "a test of this sink; nothing happened",
        );
        let started = std::time::Instant::now();
        let result = delivery.test(&name, &event).await?;
        results.push(json!({
            "sink": name,
            "ok": result.is_ok(),
            "id": event.id,
            "ms": started.elapsed().as_millis(),
            "detail": result.err(),
        }));
    }
    let ok = !results.is_empty() && results.iter().all(|result| result["ok"] == true);
    let value = json!({ "ok": ok, "sinks": results });
    format.print(&value, |_| {
        let mut text = String::new();
        for result in &results {
            text.push_str(&format!(
                "{}: {}\n",
                result["sink"].as_str().unwrap_or_default(),
                result["detail"].as_str().map_or_else(
                    || format!("took it within {} ms", result["ms"]),
                    |detail| format!("failed: {}", plain(detail))
                )
            ));
        }
        if results.is_empty() {
            text.push_str("there is no sink\n");
        }
        text
    });
    Ok(Outcome::of(ok))
}
