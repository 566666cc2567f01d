//! The queues: one for each sink, each worked on by itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use net::CancellationToken;
use rand::Rng as _;
use serde_json::{Value, json};
use store::outbox::{self, Message};
use store::{Store, params};
use time::format_description::well_known::Rfc3339;

use super::config::{EventsConfig, refuse, sink_names, wanted};
use super::sink::{Format, Formats, Receiver, Sink, Status, syslog_sink, webhook_sink};
use super::syslog::{Failure, Transport};
use super::webhook::{Answer, Webhook};
use super::{Event, Severity, TOPIC};
use crate::{Clock, Error};

/// Events that are given to the sinks in one transaction.
const DISPATCH_BATCH: i64 = 256;
/// Events that a sink takes at once.
const DELIVERY_BATCH: i64 = 64;
/// Time that a delivery has to finish when the server stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest pause of one event between two attempts.
const EVENT_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// How often things are done. The defaults are right for a server.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often an idle queue is looked at.
    pub poll: Duration,
    /// First pause of a sink that cannot be reached; it doubles.
    pub pause_min: Duration,
    /// Longest pause of a sink.
    pub pause_max: Duration,
    /// First pause of an event that was refused; it doubles.
    pub event_pause_min: Duration,
    /// How long a claim holds. A worker that died is replaced after this time.
    pub lease: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(500),
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(300),
            event_pause_min: Duration::from_secs(2),
            lease: Duration::from_secs(300),
        }
    }
}

/// Works on the queues of all sinks.
pub struct Delivery {
    store: Store,
    clock: Clock,
    sinks: Vec<Sink>,
    timing: Timing,
    /// Tells this process's claims from those of others.
    worker: String,
}

/// What came of one event.
enum Fate {
    Delivered,
    /// Back into the queue; it did not count.
    Untried,
    /// It cost an attempt.
    Failed {
        reason: String,
        retry_after: Option<Duration>,
    },
}

impl Delivery {
    /// Sets up the sinks of a configuration. `base` is the folder where its relative paths start,
    /// `product` the name under which syslog sees the program.
    ///
    /// # Errors
    /// [`Error::Config`] when a sink cannot be used as it is written.
    pub fn new(
        store: Store,
        clock: Clock,
        config: &EventsConfig,
        base: &Path,
        product: &str,
        formats: &Formats,
    ) -> Result<Self, Error> {
        sink_names(config)?;
        let mut sinks = Vec::new();
        for one in &config.webhook {
            sinks.push(webhook_sink(one, base, formats)?);
        }
        for one in &config.syslog {
            sinks.push(syslog_sink(one, base, product)?);
        }
        let random: [u8; 8] = rand::rng().random();
        Ok(Self {
            store,
            clock,
            sinks,
            timing: Timing::default(),
            worker: format!("{product}-{}", hex::encode(random)),
        })
    }

    /// The same with another timing, for tests.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// How each sink does, by name.
    #[must_use]
    pub fn status(&self) -> BTreeMap<String, Status> {
        self.sinks
            .iter()
            .map(|sink| (sink.name.clone(), sink.state().status.clone()))
            .collect()
    }

    /// Works until `shutdown`. What is on its way then is finished or left to the next start.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..self.sinks.len() {
            let (this, shutdown) = (Arc::clone(&self), shutdown.clone());
            tasks.spawn(async move {
                if let Some(sink) = this.sinks.get(index) {
                    this.work(sink, &shutdown).await;
                }
            });
        }
        while !shutdown.is_cancelled() {
            let more = match self.dispatch().await {
                Ok(count) => count >= DISPATCH_BATCH.unsigned_abs(),
                Err(error) => {
                    tracing::error!(
                        code = pki::Coded::code(&error),
                        %error,
                        "events cannot be read from the outbox"
                    );
                    false
                }
            };
            if !more {
                rest(self.timing.poll, &shutdown).await;
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn work(&self, sink: &Sink, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let delivering = self.deliver(sink);
            tokio::pin!(delivering);
            let result = tokio::select! {
                result = &mut delivering => result,
                () = shutdown.cancelled() => {
                    // What is cut off here goes out again when its claim has run out.
                    match tokio::time::timeout(STOP_TIME_MAX, delivering).await {
                        Ok(result) => result,
                        Err(_) => return,
                    }
                }
            };
            let more = match result {
                Ok(count) => count > 0,
                Err(error) => {
                    tracing::error!(
                        code = pki::Coded::code(&error),
                        %error,
                        sink = sink.name,
                        "the queue of a sink cannot be read"
                    );
                    false
                }
            };
            if !more {
                rest(self.timing.poll, shutdown).await;
            }
        }
    }

    /// Gives new events to the queues of the sinks that want them. Returns how many there were.
    ///
    /// # Errors
    /// What the database said.
    pub async fn dispatch(&self) -> Result<u64, store::Error> {
        let mut reader = self.store.reader().await?;
        let due = outbox::next_due(&mut reader, TOPIC).await?;
        drop(reader);
        if due.is_none() {
            return Ok(0);
        }
        let targets: Arc<Vec<(String, Vec<String>, Severity)>> = Arc::new(
            self.sinks
                .iter()
                .map(|sink| (sink.topic.clone(), sink.kinds.clone(), sink.severity_min))
                .collect(),
        );
        self.store
            .locking_transaction("event-dispatch", move |connection| {
                let targets = Arc::clone(&targets);
                async move {
                    // Two servers over one database: the row lock decides who moves an event.
                    let rows = connection
                        .fetch_all(
                            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox \
                             WHERE topic = $1 AND dead_us IS NULL ORDER BY due_us, id LIMIT $2) \
                             RETURNING id, payload, created_us",
                            params![TOPIC, DISPATCH_BATCH],
                        )
                        .await?;
                    let mut events = Vec::with_capacity(rows.len());
                    for row in &rows {
                        let id = row.integer("id")?;
                        events.push((id, row.bytes("payload")?, row.time("created_us")?));
                    }
                    events.sort_by_key(|(id, ..)| *id);
                    let count = events.len();
                    for (_, payload, created) in events {
                        let Ok(event) = serde_json::from_slice::<Event>(&payload) else {
                            continue;
                        };
                        for (topic, kinds, least) in targets.iter() {
                            if wanted(kinds, *least, &event.kind, event.severity) {
                                outbox::push(connection, topic, &payload, created).await?;
                            }
                        }
                    }
                    Ok(u64::try_from(count).unwrap_or(u64::MAX))
                }
                .boxed()
            })
            .await
    }

    /// Delivers what is due at one sink. Returns how many events left its queue.
    async fn deliver(&self, sink: &Sink) -> Result<usize, store::Error> {
        let now = self.clock.now();
        let cautious = {
            let state = sink.state();
            if state.paused_until.is_some_and(|until| now < until) {
                return Ok(0);
            }
            state.cautious
        };
        let mut reader = self.store.reader().await?;
        let due = outbox::next_due(&mut reader, &sink.topic).await?;
        drop(reader);
        if due.is_none_or(|due| due > now) {
            return Ok(0);
        }
        let limit = if cautious { 1 } else { DELIVERY_BATCH };
        let (worker, topic) = (self.worker.clone(), sink.topic.clone());
        let lease =
            time::Duration::try_from(self.timing.lease).unwrap_or(time::Duration::minutes(5));
        let messages = self
            .store
            .locking_transaction("event-claim", move |connection| {
                let (worker, topic) = (worker.clone(), topic.clone());
                async move {
                    outbox::claim_topic(connection, &worker, &topic, limit, lease, now).await
                }
                .boxed()
            })
            .await?;
        if messages.is_empty() {
            return Ok(0);
        }
        match &sink.receiver {
            Receiver::Webhook { webhook, format } => {
                self.deliver_webhook(sink, webhook, format.as_ref(), &messages)
                    .await
            }
            Receiver::Syslog { transport, .. } => {
                self.deliver_syslog(sink, transport, &messages).await
            }
        }
    }

    async fn deliver_webhook(
        &self,
        sink: &Sink,
        webhook: &Webhook,
        format: Option<&Format>,
        messages: &[Message],
    ) -> Result<usize, store::Error> {
        let mut session = match webhook.session(self.clock.now()) {
            Ok(session) => session,
            Err(reason) => {
                self.pause(sink, &reason, None);
                for message in messages {
                    self.settle(sink, message, Fate::Untried).await?;
                }
                return Ok(0);
            }
        };
        let mut left = 0;
        let mut stopped = false;
        for message in messages {
            if stopped {
                self.settle(sink, message, Fate::Untried).await?;
                continue;
            }
            let Ok(event) = serde_json::from_slice::<Event>(&message.payload) else {
                let reason = "it cannot be read".to_owned();
                let fate = Fate::Failed {
                    reason,
                    retry_after: None,
                };
                self.settle(sink, message, fate).await?;
                continue;
            };
            let body = match format {
                Some(format) => format(&event),
                None => Some(standard_body(&event)),
            };
            let Some(body) = body else {
                // The format has nothing to say about such an event.
                self.settle(sink, message, Fate::Delivered).await?;
                left += 1;
                continue;
            };
            let body = body.to_string().into_bytes();
            let fate = match session.post(&event.id, body, self.clock.now()).await {
                Answer::Taken => {
                    self.succeeded(sink);
                    left += 1;
                    Fate::Delivered
                }
                Answer::Unreachable(reason) => {
                    self.pause(sink, &reason, None);
                    stopped = true;
                    Fate::Untried
                }
                Answer::Refused {
                    reason,
                    retry_after,
                    busy,
                } => {
                    if busy {
                        self.pause(sink, &reason, retry_after);
                        stopped = true;
                    } else {
                        self.noted(sink, &reason);
                    }
                    Fate::Failed {
                        reason,
                        retry_after,
                    }
                }
            };
            self.settle(sink, message, fate).await?;
        }
        session.close().await;
        Ok(left)
    }

    async fn deliver_syslog(
        &self,
        sink: &Sink,
        transport: &Transport,
        messages: &[Message],
    ) -> Result<usize, store::Error> {
        let batch: Vec<Vec<u8>> = messages
            .iter()
            .filter_map(|message| serde_json::from_slice::<Event>(&message.payload).ok())
            .map(|event| sink.syslog(&event))
            .collect();
        let transport = transport.at(self.clock.now());
        match transport.send(&batch, sink.limit).await {
            Ok(()) => {
                self.succeeded(sink);
                for message in messages {
                    self.settle(sink, message, Fate::Delivered).await?;
                }
                Ok(messages.len())
            }
            Err(Failure::Unreachable(reason)) => {
                self.pause(sink, &reason, None);
                for message in messages {
                    self.settle(sink, message, Fate::Untried).await?;
                }
                Ok(0)
            }
            Err(Failure::Broken(reason)) => {
                self.pause(sink, &reason, None);
                sink.state().cautious = true;
                let alone = messages.len() == 1;
                for message in messages {
                    let fate = if alone {
                        Fate::Failed {
                            reason: reason.clone(),
                            retry_after: None,
                        }
                    } else {
                        Fate::Untried
                    };
                    self.settle(sink, message, fate).await?;
                }
                Ok(0)
            }
        }
    }

    /// Writes down what came of an event.
    async fn settle(&self, sink: &Sink, message: &Message, fate: Fate) -> Result<(), store::Error> {
        let now = self.clock.now();
        let (worker, id) = (self.worker.clone(), message.id);
        let (due, dead, reason) = match fate {
            Fate::Delivered => {
                self.store
                    .transaction("event-done", move |connection| {
                        let worker = worker.clone();
                        async move { outbox::done(connection, &worker, id).await }.boxed()
                    })
                    .await?;
                return Ok(());
            }
            Fate::Untried => {
                self.store
                    .transaction("event-release", move |connection| {
                        let worker = worker.clone();
                        async move { outbox::release(connection, &worker, id).await }.boxed()
                    })
                    .await?;
                return Ok(());
            }
            Fate::Failed {
                reason,
                retry_after,
            } => {
                let attempt = u32::try_from(message.attempt).unwrap_or(u32::MAX);
                let pause = doubled(self.timing.event_pause_min, attempt, EVENT_PAUSE_MAX);
                let pause = pause.max(retry_after.unwrap_or_default());
                let dead = (message.attempt >= sink.attempts_max).then_some(now);
                (now + pause, dead, reason)
            }
        };
        if dead.is_some() {
            tracing::error!(
                code = "event.dead",
                sink = sink.name,
                number = id,
                reason,
                "an event was given up and is kept; see `events list`"
            );
        }
        self.store
            .transaction("event-failed", move |connection| {
                let (worker, reason) = (worker.clone(), reason.clone());
                async move { outbox::postpone(connection, &worker, id, &reason, due, dead).await }
                    .boxed()
            })
            .await?;
        Ok(())
    }

    fn succeeded(&self, sink: &Sink) {
        let mut state = sink.state();
        state.status.delivered += 1;
        if state.status.failures_in_a_row > 0 {
            tracing::info!(sink = sink.name, "the sink takes events again");
        }
        state.status.failures_in_a_row = 0;
        state.status.last_error = None;
        state.paused_until = None;
        state.cautious = false;
    }

    fn noted(&self, sink: &Sink, reason: &str) {
        let mut state = sink.state();
        state.status.failed += 1;
        state.status.last_error = Some(reason.to_owned());
        tracing::warn!(
            code = "event.refused",
            sink = sink.name,
            reason,
            "a sink refused an event"
        );
    }

    /// Leaves a sink alone for a while, twice as long each time, and not exactly as long as others
    /// do that failed at the same moment.
    fn pause(&self, sink: &Sink, reason: &str, least: Option<Duration>) {
        let mut state = sink.state();
        state.status.failed += 1;
        state.status.failures_in_a_row = state.status.failures_in_a_row.saturating_add(1);
        state.status.last_error = Some(reason.to_owned());
        let pause = doubled(
            self.timing.pause_min,
            state.status.failures_in_a_row,
            self.timing.pause_max,
        )
        .max(least.unwrap_or_default());
        state.paused_until = Some(self.clock.now() + pause);
        // Once for each time that it goes away, and now and then while it is away.
        if state.status.failures_in_a_row.is_power_of_two() {
            tracing::warn!(
                code = "event.sink-unavailable",
                sink = sink.name,
                reason,
                failures = state.status.failures_in_a_row,
                "a sink takes no events; they wait"
            );
        }
    }

    /// Sends one event to one sink at once, past its queue.
    ///
    /// # Errors
    /// Why the sink did not take it; [`Error::Config`] if there is no sink of that name.
    pub async fn test(&self, name: &str, event: &Event) -> Result<Result<(), String>, Error> {
        let Some(sink) = self.sinks.iter().find(|sink| sink.name == name) else {
            return Err(refuse(format!("there is no sink {name}")));
        };
        let now = self.clock.now();
        Ok(match &sink.receiver {
            Receiver::Webhook { webhook, format } => {
                let body = format
                    .as_ref()
                    .and_then(|format| format(event))
                    .unwrap_or_else(|| standard_body(event));
                match webhook.session(now) {
                    Err(reason) => Err(reason),
                    Ok(mut session) => {
                        let body = body.to_string().into_bytes();
                        let answer = session.post(&event.id, body, now).await;
                        session.close().await;
                        match answer {
                            Answer::Taken => Ok(()),
                            Answer::Unreachable(reason) | Answer::Refused { reason, .. } => {
                                Err(reason)
                            }
                        }
                    }
                }
            }
            Receiver::Syslog { transport, .. } => {
                let message = sink.syslog(event);
                match transport.at(now).send(&[message], sink.limit).await {
                    Ok(()) => Ok(()),
                    Err(Failure::Unreachable(reason) | Failure::Broken(reason)) => Err(reason),
                }
            }
        })
    }

    /// The names of the sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &str> {
        self.sinks.iter().map(|sink| sink.name.as_str())
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("sinks", &self.sinks().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// `first` doubled with each further attempt, up to a limit, and between half of that and all.
fn doubled(first: Duration, attempt: u32, most: Duration) -> Duration {
    let exponent = attempt.clamp(1, 20) - 1;
    let whole = first.saturating_mul(1 << exponent).min(most);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

async fn rest(time: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = shutdown.cancelled() => {}
    }
}

/// The body of Standard Webhooks: type, timestamp and data.
fn standard_body(event: &Event) -> Value {
    json!({
        "type": event.kind,
        "timestamp": event.at.format(&Rfc3339).unwrap_or_default(),
        "data": {
            "id": event.id,
            "severity": event.severity,
            "subject": event.subject,
            "summary": event.summary,
            "details": event.data,
        },
    })
}
