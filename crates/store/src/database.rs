//! Opening a database and running transactions on it.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sqlx::SqlSafeStr;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use time::OffsetDateTime;
use tokio::sync::RwLock;

use crate::connection::{self, Connection, Link};
use crate::group::Writer;
use crate::local::{self, Access, Desk, Place};
use crate::schema::{self, Applied, Schema};
use crate::statistics::{Report, Statistics};
use crate::value::{Inner as RowInner, Row, Value};
use crate::{Engine, Error};

/// Attempts of one PostgreSQL transaction before its caller gets `store.conflict`.
const ATTEMPTS_MAX: u32 = 24;

/// How a store is opened. The defaults are right for a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections for reading (SQLite) or for everything (PostgreSQL).
    pub connections_max: u32,
    /// How long a statement waits for another process's write lock on SQLite.
    pub busy_time_max: Duration,
    /// How long a transaction's closure may take before it is rolled back.
    pub closure_time_max: Duration,
    /// How long we wait for a connection.
    pub connect_time_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 16,
            busy_time_max: Duration::from_secs(30),
            closure_time_max: Duration::from_secs(60),
            connect_time_max: Duration::from_secs(10),
        }
    }
}

/// A database that holds exactly the schema this program was built for. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Arc<Backend>,
    statistics: Arc<Statistics>,
    closure_time_max: Duration,
    connect_time_max: Duration,
}

enum Backend {
    Sqlite {
        writer: RwLock<Option<Writer>>,
        desk: Desk,
        readers: SqlitePool,
    },
    Postgres {
        pool: PgPool,
    },
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL can hold a password, so it is not kept and not shown.
        f.debug_struct("Store")
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

/// Isolation of one PostgreSQL transaction. SQLite's transactions are always serial.
#[derive(Clone, Copy)]
enum Isolation {
    Serializable,
    ReadCommitted,
}

enum Target {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

fn target(url: &str) -> Result<Target, Error> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path == ":memory:" {
            // Every connection of a pool would get a database of its own.
            return Err(Error::Url(url.to_owned()));
        }
        return Ok(Target::Sqlite(PathBuf::from(path)));
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        // The text of a bad URL is not repeated: it can hold a password.
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::Url("postgres: (could not be parsed)".to_owned()))?;
        return Ok(Target::Postgres(Box::new(
            options.application_name("usher"),
        )));
    }
    Err(Error::Url(
        url.split("://").next().unwrap_or_default().to_owned(),
    ))
}

fn sqlite_options(path: &Path, options: &Options) -> SqliteConnectOptions {
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.busy_time_max)
        .statement_cache_capacity(local::STATEMENTS_MAX);
    local::PRAGMAS
        .into_iter()
        .fold(connect, |connect, (name, value)| {
            connect.pragma(name, value)
        })
}

/// Creates the file with mode 0600 before SQLite would create it with the umask's.
fn create_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::file(path, error)),
    }
}

fn postgres_pool(options: &Options) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(options.connections_max)
        .acquire_timeout(options.connect_time_max)
}

impl Store {
    /// Opens a database whose schema is up to date.
    ///
    /// `sqlite:PATH` (also `sqlite://PATH`) or `postgres://…`. A Unix socket is named by
    /// `postgres:///database?host=/path`.
    ///
    /// # Errors
    /// When the database cannot be reached, or its schema is missing, older, newer, altered or
    /// another role's.
    pub async fn open(url: &str, schema: &Schema) -> Result<Self, Error> {
        Self::open_with(url, schema, &Options::default()).await
    }

    /// [`Store::open`] with options.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(url: &str, schema: &Schema, options: &Options) -> Result<Self, Error> {
        let statistics = Arc::new(Statistics::default());
        let backend = match target(url)? {
            Target::Sqlite(path) => {
                if !path.exists() {
                    return Err(Error::SchemaMissing);
                }
                let connect = sqlite_options(&path, options);
                let place = Place {
                    path,
                    busy_time_max: options.busy_time_max,
                };
                let writer = place.open(Access::Write)?;
                let readers = SqlitePoolOptions::new()
                    .max_connections(options.connections_max.clamp(1, 8))
                    .acquire_timeout(options.connect_time_max)
                    .test_before_acquire(false)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .connect_with(connect.pragma("query_only", "on"))
                    .await?;
                let writer = Writer::start(
                    writer,
                    place.clone(),
                    options.closure_time_max,
                    Arc::clone(&statistics),
                )?;
                Backend::Sqlite {
                    writer: RwLock::new(Some(writer)),
                    desk: Desk::new(place, options.connections_max),
                    readers,
                }
            }
            Target::Postgres(connect) => Backend::Postgres {
                pool: postgres_pool(options).connect_with(*connect).await?,
            },
        };
        let store = Self {
            backend: Arc::new(backend),
            statistics,
            closure_time_max: options.closure_time_max,
            connect_time_max: options.connect_time_max,
        };
        let mut snapshot = store.snapshot().await?;
        let checked = schema::check(&mut snapshot, schema).await;
        drop(snapshot);
        match checked {
            Ok(()) => Ok(store),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Brings a database to this program's schema, creating the SQLite file if there is none.
    ///
    /// All missing migrations are one transaction: the database is at the old version or at the
    /// new one, never between.
    ///
    /// # Errors
    /// When the database cannot be reached, is newer, altered or another role's.
    pub async fn migrate(
        url: &str,
        schema: &Schema,
        now: OffsetDateTime,
    ) -> Result<Vec<Applied>, Error> {
        let options = Options::default();
        match target(url)? {
            Target::Sqlite(path) => {
                create_private(&path)?;
                let place = Place {
                    path,
                    busy_time_max: options.busy_time_max,
                };
                let mut raw = place.open(Access::Write)?;
                raw.execute_script("BEGIN EXCLUSIVE")?;
                let mut connection = Connection::new(Link::Local(raw));
                let applied = schema::migrate(&mut connection, schema, now).await;
                let Link::Local(mut raw) = connection.into_link() else {
                    return Err(Error::Closed);
                };
                raw.execute_script(if applied.is_ok() {
                    "COMMIT"
                } else {
                    "ROLLBACK"
                })?;
                applied
            }
            Target::Postgres(connect) => {
                let pool = postgres_pool(&options)
                    .max_connections(1)
                    .connect_with(*connect)
                    .await?;
                let mut applied = migrate_postgres(&pool, schema, now).await;
                if matches!(applied, Err(Error::Unique(_))) {
                    // Two replicas made the very first table at once; PostgreSQL reports that as a
                    // duplicate in its own catalogue. The second look finds the table.
                    applied = migrate_postgres(&pool, schema, now).await;
                }
                pool.close().await;
                applied
            }
        }
    }

    /// Which engine is behind this store.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match *self.backend {
            Backend::Sqlite { .. } => Engine::Sqlite,
            Backend::Postgres { .. } => Engine::Postgres,
        }
    }

    /// Runs all writes of one decision.
    ///
    /// The closure can run more than once, so it does no I/O of its own and changes nothing but
    /// the database. `Ok` commits, `Err` rolls back. The answer comes when the commit is durable.
    /// The name is the label in the metrics. On PostgreSQL the isolation is SERIALIZABLE, with
    /// retries; SQLite runs one writer. So what the closure read is still true when it commits.
    ///
    /// # Errors
    /// The closure's own, or ours turned into it.
    pub async fn transaction<T, E, F>(&self, name: &'static str, closure: F) -> Result<T, E>
    where
        F: for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(name, Isolation::Serializable, closure).await
    }

    /// [`Store::transaction`] at READ COMMITTED on PostgreSQL, for hot paths.
    ///
    /// The first statement of the closure must lock the row that decides, by an UPDATE that
    /// touches it (`UPDATE device SET version = version + 1 WHERE …`): later statements then see
    /// what the previous holder committed. Unique keys must catch the rest.
    ///
    /// # Errors
    /// The closure's own, or ours turned into it.
    pub async fn locking_transaction<T, E, F>(&self, name: &'static str, closure: F) -> Result<T, E>
    where
        F: for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(name, Isolation::ReadCommitted, closure).await
    }

    async fn run<T, E, F>(
        &self,
        name: &'static str,
        isolation: Isolation,
        closure: F,
    ) -> Result<T, E>
    where
        F: for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let started = Instant::now();
        let result = match &*self.backend {
            Backend::Sqlite { writer, .. } => match &*writer.read().await {
                Some(writer) => writer.submit(name, closure).await,
                None => Err(E::from(Error::Closed)),
            },
            Backend::Postgres { pool } => {
                let statistics = Arc::clone(&self.statistics);
                let work = postgres(
                    pool.clone(),
                    name,
                    isolation,
                    closure,
                    self.closure_time_max,
                    statistics,
                );
                // A task of its own: a caller that goes away does not leave half a transaction.
                match tokio::spawn(work).await {
                    Ok(result) => result,
                    Err(_) => Err(E::from(Error::Panicked(name))),
                }
            }
        };
        self.statistics
            .finished(name, result.is_ok(), started.elapsed());
        result
    }

    /// A read-only transaction: every query in it sees the same state of the database.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let link = match &*self.backend {
            Backend::Sqlite { readers, .. } => Link::SqliteRead(readers.begin().await?),
            Backend::Postgres { pool } => Link::Postgres(
                pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    .await?,
            ),
        };
        Ok(Snapshot(Connection::new(link)))
    }

    /// The same for a few rows that are found by their keys, and not for whole tables: on SQLite the
    /// queries run on the calling thread.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn lookup(&self) -> Result<Snapshot, Error> {
        let Backend::Sqlite { desk, .. } = &*self.backend else {
            return self.snapshot().await;
        };
        let mut lent = desk.lend(self.connect_time_max).await?;
        lent.local()?.execute("BEGIN", Vec::new())?;
        Ok(Snapshot(Connection::new(Link::Lent(lent))))
    }

    /// A connection for several queries without a transaction around them: each sees the newest
    /// state. Cheaper than [`Store::snapshot`]; who writes on what was read has to check again.
    ///
    /// On SQLite the queries run on the calling thread, so they are for rows that are found by a
    /// key, and not for whole tables.
    ///
    /// # Errors
    /// When no connection is free in time.
    pub async fn reader(&self) -> Result<Snapshot, Error> {
        let link = match &*self.backend {
            Backend::Sqlite { desk, .. } => Link::Lent(desk.lend(self.connect_time_max).await?),
            Backend::Postgres { pool } => Link::PostgresPooled(pool.acquire().await?),
        };
        Ok(Snapshot(Connection::new(link)))
    }

    /// All rows of one query, outside any transaction. The caller bounds their number.
    ///
    /// # Errors
    /// What the database said.
    pub async fn fetch_all(
        &self,
        sql: impl SqlSafeStr,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into_sql_str();
        Ok(match &*self.backend {
            Backend::Sqlite { readers, .. } => connection::sqlite(sql, params)
                .fetch_all(readers)
                .await?
                .into_iter()
                .map(|row| Row(RowInner::Sqlite(row)))
                .collect(),
            Backend::Postgres { pool } => connection::postgres(sql, params)
                .fetch_all(pool)
                .await?
                .into_iter()
                .map(|row| Row(RowInner::Postgres(row)))
                .collect(),
        })
    }

    /// The first row of one query, outside any transaction.
    ///
    /// # Errors
    /// What the database said.
    pub async fn fetch_optional(
        &self,
        sql: impl SqlSafeStr,
        params: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        let sql = sql.into_sql_str();
        Ok(match &*self.backend {
            Backend::Sqlite { readers, .. } => connection::sqlite(sql, params)
                .fetch_optional(readers)
                .await?
                .map(|row| Row(RowInner::Sqlite(row))),
            Backend::Postgres { pool } => connection::postgres(sql, params)
                .fetch_optional(pool)
                .await?
                .map(|row| Row(RowInner::Postgres(row))),
        })
    }

    /// Whether the database answers; for `/ready`.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.fetch_optional("SELECT 1 AS one", Vec::new())
            .await
            .map(|_| ())
    }

    /// Counters since the store was opened.
    #[must_use]
    pub fn statistics(&self) -> Report {
        self.statistics.report()
    }

    /// Finishes queued transactions and closes all connections.
    pub async fn close(&self) {
        match &*self.backend {
            Backend::Sqlite {
                writer,
                desk,
                readers,
            } => {
                let writer = writer.write().await.take();
                desk.close().await;
                readers.close().await;
                if let Some(writer) = writer {
                    writer.close().await;
                }
            }
            Backend::Postgres { pool } => pool.close().await,
        }
    }
}

/// A connection for reading; see [`Store::snapshot`] and [`Store::reader`].
#[derive(Debug)]
pub struct Snapshot(Connection);

impl std::ops::Deref for Snapshot {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl std::ops::DerefMut for Snapshot {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

async fn postgres<T, E, F>(
    pool: PgPool,
    name: &'static str,
    isolation: Isolation,
    closure: F,
    closure_time_max: Duration,
    statistics: Arc<Statistics>,
) -> Result<T, E>
where
    F: for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let begin = match isolation {
        Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        Isolation::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
    };
    for attempt in 1..=ATTEMPTS_MAX {
        let transaction = pool.begin_with(begin).await.map_err(Error::from)?;
        let mut connection = Connection::new(Link::Postgres(transaction));
        let run = AssertUnwindSafe(closure(&mut connection)).catch_unwind();
        let result = match tokio::time::timeout(closure_time_max, run).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(E::from(Error::Panicked(name))),
            Err(_elapsed) => Err(E::from(Error::TimedOut(name))),
        };
        let mut again = connection.wants_retry;
        let Link::Postgres(transaction) = connection.into_link() else {
            return Err(E::from(Error::Closed));
        };
        if !again {
            match result {
                Ok(value) => match transaction.commit().await {
                    Ok(()) => return Ok(value),
                    Err(error) if crate::error::asks_for_retry(&error) => again = true,
                    Err(error) => return Err(E::from(Error::from(error))),
                },
                Err(error) => {
                    // A failed rollback closes the connection; the outcome is the same.
                    let _ = transaction.rollback().await;
                    return Err(error);
                }
            }
        } else {
            let _ = transaction.rollback().await;
        }
        if again {
            statistics.retried(name);
            tokio::time::sleep(pause(attempt)).await;
        }
    }
    Err(E::from(Error::Conflict {
        name,
        attempts: ATTEMPTS_MAX,
    }))
}

async fn migrate_postgres(
    pool: &PgPool,
    schema: &Schema,
    now: OffsetDateTime,
) -> Result<Vec<Applied>, Error> {
    let mut connection = Connection::new(Link::Postgres(pool.begin().await?));
    let applied = schema::migrate(&mut connection, schema, now).await?;
    if let Link::Postgres(transaction) = connection.into_link() {
        transaction.commit().await?;
    }
    Ok(applied)
}

/// Back-off with jitter, so that those who collided do not collide again.
fn pause(attempt: u32) -> Duration {
    let mut random = [0_u8; 2];
    // Without random numbers the pause is merely less well spread.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let ceiling = 2_000_u64 << attempt.min(7);
    Duration::from_micros(500 + u64::from(u16::from_be_bytes(random)) * ceiling / 65_536)
}
