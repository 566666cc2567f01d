//! Group commit on SQLite: one writer, many decisions, one fsync.
//!
//! SQLite has one writer at a time and pays an fsync for each commit. Decisions that arrive while
//! the previous commit reaches the disk wait in a queue; the writer then runs all of them in one
//! transaction, each in a savepoint of its own, and commits once. A decision that fails rolls its
//! savepoint back and leaves its neighbours alone. Nobody is answered before the commit is
//! durable, the refused ones neither: a refusal may rest on a neighbour's row.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::connection::{Connection, Link};
use crate::local::{Access, Failure, Local, Place};
use crate::statistics::Statistics;

/// Most decisions that share one commit.
const BATCH_SIZE_MAX: usize = 256;
/// Most decisions that wait for the writer; more make the callers wait.
const QUEUE_LENGTH_MAX: usize = 4096;
/// Attempts of one batch before its callers get an error.
const ATTEMPTS_MAX: u32 = 5;

/// A decision whose result type is hidden from the writer.
pub(crate) trait Work: Send {
    /// The transaction's name.
    fn name(&self) -> &'static str;
    /// Runs the closure and keeps its result. True: keep the writes. False: roll them back.
    fn run<'c>(&'c mut self, connection: &'c mut Connection) -> BoxFuture<'c, bool>;
    /// Gives the kept result to the caller, or the error if the commit failed.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Decision<T, E, F> {
    name: &'static str,
    closure: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Work for Decision<T, E, F>
where
    F: for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + Sync,
    T: Send,
    E: From<Error> + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn run<'c>(&'c mut self, connection: &'c mut Connection) -> BoxFuture<'c, bool> {
        async move {
            let result = (self.closure)(connection).await;
            let keep = result.is_ok();
            self.result = Some(result);
            keep
        }
        .boxed()
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let result = match (failure, self.result) {
            (Some(error), _) => Err(E::from(error)),
            (None, Some(result)) => result,
            (None, None) => Err(E::from(Error::Closed)),
        };
        // A caller that went away does not undo a commit; nothing is left to do for it.
        let _ = self.reply.send(result);
    }
}

/// The queue to the one writer.
pub(crate) struct Writer {
    sender: mpsc::Sender<Box<dyn Work>>,
    /// The thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Writer {
    /// Starts it on a thread of its own, where every statement of a batch runs: nothing is handed
    /// from thread to thread but a decision and its answer.
    pub(crate) fn start(
        connection: Local,
        place: Place,
        closure_time_max: Duration,
        statistics: Arc<Statistics>,
    ) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        let (end, ended) = oneshot::channel();
        let failed = |error: std::io::Error| Error::Unavailable(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(failed)?;
        let task = Task {
            connection: Some(connection),
            place,
            closure_time_max,
            receiver,
            statistics,
        };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                runtime.block_on(task.run());
                // Whoever closes the store may be gone.
                let _ = end.send(());
            })
            .map_err(failed)?;
        Ok(Self { sender, ended })
    }

    pub(crate) async fn submit<T, E, F>(&self, name: &'static str, closure: F) -> Result<T, E>
    where
        F: for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let decision = Box::new(Decision {
            name,
            closure,
            result: None,
            reply,
        });
        if self.sender.send(decision).await.is_err() {
            return Err(E::from(Error::Closed));
        }
        answer.await.unwrap_or_else(|_| Err(E::from(Error::Closed)))
    }

    /// Finishes what is queued and closes the connection.
    pub(crate) async fn close(self) {
        drop(self.sender);
        let _ = self.ended.await;
    }
}

struct Task {
    connection: Option<Local>,
    place: Place,
    closure_time_max: Duration,
    receiver: mpsc::Receiver<Box<dyn Work>>,
    statistics: Arc<Statistics>,
}

impl Task {
    async fn run(mut self) {
        while let Some(first) = self.receiver.recv().await {
            let mut batch = VecDeque::from([first]);
            self.serve(&mut batch).await;
        }
    }

    /// Commits a batch. If the commit fails, its decisions run again one by one, so that only the
    /// one that makes it fail is refused.
    async fn serve(&mut self, batch: &mut VecDeque<Box<dyn Work>>) {
        let mut done = Vec::new();
        let outcome = self.attempt(batch, &mut done, true).await;
        let Err(mut error) = outcome else {
            self.statistics.batch(done.len());
            done.into_iter().for_each(|work| work.answer(None));
            return;
        };
        tracing::warn!(code = error.code(), %error, decisions = done.len(), "group commit failed");
        batch.extend(done);
        while let Some(work) = batch.pop_front() {
            let name = work.name();
            let mut single = VecDeque::from([work]);
            let mut answered = false;
            for attempt in 1..=ATTEMPTS_MAX {
                let mut done = Vec::new();
                match self.attempt(&mut single, &mut done, false).await {
                    Ok(()) => {
                        self.statistics.batch(1);
                        done.into_iter().for_each(|work| work.answer(None));
                        answered = true;
                        break;
                    }
                    Err(next) => {
                        error = next;
                        single.extend(done);
                        self.statistics.retried(name);
                        tokio::time::sleep(Duration::from_millis(5 << attempt)).await;
                    }
                }
            }
            if !answered {
                let failure = match &error {
                    Error::Conflict { .. } => Error::Conflict {
                        name,
                        attempts: ATTEMPTS_MAX,
                    },
                    other => Error::Database(other.to_string()),
                };
                let mut failure = Some(failure);
                single
                    .into_iter()
                    .for_each(|work| work.answer(failure.take()));
            }
        }
    }

    /// One transaction over the batch and, if `more`, over what arrives meanwhile.
    async fn attempt(
        &mut self,
        batch: &mut VecDeque<Box<dyn Work>>,
        done: &mut Vec<Box<dyn Work>>,
        more: bool,
    ) -> Result<(), Error> {
        let mut raw = match self.connection.take() {
            Some(connection) => connection,
            None => self.place.open(Access::Write)?,
        };
        raw.execute("BEGIN IMMEDIATE", Vec::new()).map_err(given)?;
        let mut connection = Connection::new(Link::Local(raw));
        while let Some(mut work) = batch.pop_front() {
            let step = self.step(&mut connection, work.as_mut()).await;
            match step {
                Ok(None) => done.push(work),
                // The closure never gave a result: its writes are gone and it hears why.
                Ok(Some(error)) => work.answer(Some(error)),
                Err(error) => {
                    done.push(work);
                    abandon(connection);
                    return Err(error);
                }
            }
            if more
                && done.len() < BATCH_SIZE_MAX
                && let Ok(next) = self.receiver.try_recv()
            {
                batch.push_back(next);
            }
        }
        let Link::Local(mut raw) = connection.into_link() else {
            return Err(Error::Closed);
        };
        match raw.execute("COMMIT", Vec::new()) {
            Ok(_) => {
                self.connection = Some(raw);
                Ok(())
            }
            Err(failure) => {
                abandon(Connection::new(Link::Local(raw)));
                Err(given(failure))
            }
        }
    }

    /// One decision in its savepoint. `Err` spoils the whole batch, `Ok(Some)` only this one.
    async fn step(
        &self,
        connection: &mut Connection,
        work: &mut dyn Work,
    ) -> Result<Option<Error>, Error> {
        connection.wants_retry = false;
        connection.execute("SAVEPOINT decision", Vec::new()).await?;
        let name = work.name();
        let run = AssertUnwindSafe(work.run(connection)).catch_unwind();
        let (keep, error) = match tokio::time::timeout(self.closure_time_max, run).await {
            Ok(Ok(keep)) => (keep, None),
            Ok(Err(_panic)) => (false, Some(Error::Panicked(name))),
            Err(_elapsed) => (false, Some(Error::TimedOut(name))),
        };
        if connection.wants_retry {
            return Err(Error::Conflict { name, attempts: 1 });
        }
        if !keep {
            connection
                .execute("ROLLBACK TO decision", Vec::new())
                .await?;
        }
        connection.execute("RELEASE decision", Vec::new()).await?;
        Ok(error)
    }
}

/// Rolls back. SQLite may have done so by itself (disk full); then this reports an error that means
/// nothing. The connection is replaced in both cases: it is the safe state.
fn abandon(connection: Connection) {
    if let Link::Local(mut raw) = connection.into_link() {
        let _ = raw.execute("ROLLBACK", Vec::new());
    }
}

fn given(failure: Failure) -> Error {
    if failure.asks_for_retry() {
        Error::Conflict {
            name: "sqlite",
            attempts: 1,
        }
    } else {
        Error::from(failure)
    }
}
