//! A connection inside a transaction, whichever engine it belongs to.

use futures::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{Executor as _, SqlSafeStr, SqlStr, Transaction};

use crate::error::asks_for_retry;
use crate::local::{Failure, Lent, Local, LocalRow};
use crate::value::{Inner, Row, Value};
use crate::{Engine, Error};

/// A connection inside a transaction; what the closures of [`crate::Store::transaction`] get.
///
/// Statements use `$1`, `$2`, … on both engines. Octets are `BLOB` on SQLite and `BYTEA` on
/// PostgreSQL, integers are `BIGINT`, times are microseconds since the epoch.
pub struct Connection {
    inner: Link,
    /// Set when the engine asked for another attempt; the closure's own error type need not say.
    pub(crate) wants_retry: bool,
}

pub(crate) enum Link {
    /// The writer's, on its own thread.
    Local(Local),
    /// For look-ups, on the thread that asks.
    Lent(Lent),
    SqliteRead(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
    PostgresPooled(PoolConnection<Postgres>),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) const fn new(inner: Link) -> Self {
        Self {
            inner,
            wants_retry: false,
        }
    }

    pub(crate) fn into_link(self) -> Link {
        self.inner
    }

    /// Which engine this is, for the rare statement that cannot be portable.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        match self.inner {
            Link::Local(_) | Link::Lent(_) | Link::SqliteRead(_) => Engine::Sqlite,
            Link::Postgres(_) | Link::PostgresPooled(_) => Engine::Postgres,
        }
    }

    /// Runs a statement and says how many rows it touched.
    ///
    /// # Errors
    /// What the database said.
    pub async fn execute(
        &mut self,
        sql: impl SqlSafeStr,
        params: Vec<Value>,
    ) -> Result<u64, Error> {
        let sql = sql.into_sql_str();
        let result = match &mut self.inner {
            Link::Local(c) => return local(&mut self.wants_retry, c.execute(sql.as_str(), params)),
            Link::Lent(c) => {
                let done = c.local()?.execute(sql.as_str(), params);
                return local(&mut self.wants_retry, done);
            }
            Link::SqliteRead(c) => c
                .execute(sqlite(sql, params))
                .await
                .map(|r| r.rows_affected()),
            Link::Postgres(c) => c
                .execute(postgres(sql, params))
                .await
                .map(|r| r.rows_affected()),
            Link::PostgresPooled(c) => c
                .execute(postgres(sql, params))
                .await
                .map(|r| r.rows_affected()),
        };
        self.note(result)
    }

    /// Runs several statements without parameters, for migrations.
    pub(crate) async fn execute_script(&mut self, sql: SqlStr) -> Result<(), Error> {
        let script = || sqlx::raw_sql(sql.clone());
        let result = match &mut self.inner {
            Link::Local(c) => {
                return local(&mut self.wants_retry, c.execute_script(sql.as_str()));
            }
            Link::Lent(c) => {
                let done = c.local()?.execute_script(sql.as_str());
                return local(&mut self.wants_retry, done);
            }
            Link::SqliteRead(c) => c.execute(script()).await.map(|_| ()),
            Link::Postgres(c) => c.execute(script()).await.map(|_| ()),
            Link::PostgresPooled(c) => c.execute(script()).await.map(|_| ()),
        };
        self.note(result)
    }

    /// All rows of a query. The caller bounds their number with LIMIT.
    ///
    /// # Errors
    /// What the database said.
    pub async fn fetch_all(
        &mut self,
        sql: impl SqlSafeStr,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into_sql_str();
        let result = match &mut self.inner {
            Link::Local(c) => {
                let found = c.fetch(sql.as_str(), params, usize::MAX);
                return local(&mut self.wants_retry, found).map(rows);
            }
            Link::Lent(c) => {
                let found = c.local()?.fetch(sql.as_str(), params, usize::MAX);
                return local(&mut self.wants_retry, found).map(rows);
            }
            Link::SqliteRead(c) => {
                c.fetch(sqlite(sql, params))
                    .map_ok(|r| Row(Inner::Sqlite(r)))
                    .try_collect()
                    .await
            }
            Link::Postgres(c) => {
                c.fetch(postgres(sql, params))
                    .map_ok(|r| Row(Inner::Postgres(r)))
                    .try_collect()
                    .await
            }
            Link::PostgresPooled(c) => {
                c.fetch(postgres(sql, params))
                    .map_ok(|r| Row(Inner::Postgres(r)))
                    .try_collect()
                    .await
            }
        };
        self.note(result)
    }

    /// The first row of a query, if it has one.
    ///
    /// # Errors
    /// What the database said.
    pub async fn fetch_optional(
        &mut self,
        sql: impl SqlSafeStr,
        params: Vec<Value>,
    ) -> Result<Option<Row>, Error> {
        let sql = sql.into_sql_str();
        let result = match &mut self.inner {
            Link::Local(c) => {
                let found = c.fetch(sql.as_str(), params, 1);
                return local(&mut self.wants_retry, found).map(|found| rows(found).pop());
            }
            Link::Lent(c) => {
                let found = c.local()?.fetch(sql.as_str(), params, 1);
                return local(&mut self.wants_retry, found).map(|found| rows(found).pop());
            }
            Link::SqliteRead(c) => c
                .fetch_optional(sqlite(sql, params))
                .await
                .map(|row| row.map(|r| Row(Inner::Sqlite(r)))),
            Link::Postgres(c) => c
                .fetch_optional(postgres(sql, params))
                .await
                .map(|row| row.map(|r| Row(Inner::Postgres(r)))),
            Link::PostgresPooled(c) => c
                .fetch_optional(postgres(sql, params))
                .await
                .map(|row| row.map(|r| Row(Inner::Postgres(r)))),
        };
        self.note(result)
    }

    /// The first row of a query that always has one, such as a count.
    ///
    /// # Errors
    /// What the database said, or that there is no row.
    pub async fn fetch_one(
        &mut self,
        sql: impl SqlSafeStr,
        params: Vec<Value>,
    ) -> Result<Row, Error> {
        self.fetch_optional(sql, params)
            .await?
            .ok_or_else(|| Error::Database("a query that always has a row had none".to_owned()))
    }

    fn note<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, Error> {
        result.map_err(|error| {
            self.wants_retry |= asks_for_retry(&error);
            Error::from(error)
        })
    }
}

fn local<T>(wants_retry: &mut bool, result: Result<T, Failure>) -> Result<T, Error> {
    result.map_err(|failure| {
        *wants_retry |= failure.asks_for_retry();
        Error::from(failure)
    })
}

fn rows(found: Vec<LocalRow>) -> Vec<Row> {
    found
        .into_iter()
        .map(|row| Row(Inner::Local(row)))
        .collect()
}

pub(crate) fn sqlite(sql: SqlStr, params: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    params
        .into_iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        })
}

pub(crate) fn postgres(sql: SqlStr, params: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    params
        .into_iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        })
}
