//! SQLite on the thread that asks.
//!
//! A statement that finds its row by a key takes a few microseconds; to hand it to another thread
//! and to wait for the answer takes many times that. So the writer, which has a thread of its own,
//! and whoever looks up a few rows by their keys run their statements where they are.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value as Cell, ValueRef};
use rusqlite::{Connection, OpenFlags, Rows, Statement, ToSql};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;
use crate::value::Value;

/// What every connection to SQLite is told, after the journal's mode.
pub(crate) const PRAGMAS: [(&str, &str); 3] = [
    ("cache_size", "-32768"),
    ("temp_store", "memory"),
    ("trusted_schema", "off"),
];
/// Statements that stay prepared on each connection.
pub(crate) const STATEMENTS_MAX: usize = 256;
/// What SQLite says of a second row with the same primary key, and with the same unique key.
const CONSTRAINT_PRIMARY_KEY: i32 = 1555;
const CONSTRAINT_UNIQUE: i32 = 2067;
/// What it says when somebody else writes, or reads what is to be written.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;

/// Where a database is and how it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) busy_time_max: Duration,
}

/// Whether a connection may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Place {
    /// Opens a connection; a file that is not there is not made.
    pub(crate) fn open(&self, access: Access) -> Result<Local, Failure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        connection.busy_timeout(self.busy_time_max)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", "on")?;
        for (name, value) in PRAGMAS {
            connection.pragma_update(None, name, value)?;
        }
        if access == Access::Read {
            connection.pragma_update(None, "query_only", "on")?;
        }
        Ok(Local(connection))
    }
}

/// One connection.
pub(crate) struct Local(Connection);

/// What SQLite says when it does not do as asked.
#[derive(Debug)]
pub(crate) struct Failure(rusqlite::Error);

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}

impl Failure {
    fn code(&self) -> Option<i32> {
        match &self.0 {
            rusqlite::Error::SqliteFailure(error, _) => Some(error.extended_code),
            _ => None,
        }
    }

    /// Whether it asks for another attempt of the whole transaction.
    pub(crate) fn asks_for_retry(&self) -> bool {
        self.code()
            .is_some_and(|code| matches!(code & 0xff, BUSY | LOCKED))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let text = failure.0.to_string();
        match failure.code() {
            Some(CONSTRAINT_PRIMARY_KEY | CONSTRAINT_UNIQUE) => Self::Unique(text),
            _ => Self::Database(text),
        }
    }
}

impl Local {
    /// Runs a statement and says how many rows it touched.
    pub(crate) fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<u64, Failure> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = bound(&mut statement, &params)?;
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        Ok(self.0.changes())
    }

    /// Runs several statements without parameters.
    pub(crate) fn execute_script(&mut self, sql: &str) -> Result<(), Failure> {
        Ok(self.0.execute_batch(sql)?)
    }

    /// The rows of a query, at most so many.
    pub(crate) fn fetch(
        &mut self,
        sql: &str,
        params: Vec<Value>,
        at_most: usize,
    ) -> Result<Vec<LocalRow>, Failure> {
        let mut statement = self.0.prepare_cached(sql)?;
        let names: Arc<[String]> = statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let mut rows = bound(&mut statement, &params)?;
        let mut found = Vec::new();
        while found.len() < at_most
            && let Some(row) = rows.next()?
        {
            let cells = (0..names.len())
                .map(|index| row.get(index))
                .collect::<Result<_, _>>()?;
            found.push(LocalRow {
                names: Arc::clone(&names),
                cells,
            });
        }
        Ok(found)
    }

    /// Ends what was not ended.
    fn rest(&mut self) -> bool {
        self.0.is_autocommit() || self.0.execute_batch("ROLLBACK").is_ok()
    }
}

/// Starts a statement. `$2` is the second parameter wherever it stands; to SQLite it is a name, and
/// names count in the order in which they come.
fn bound<'s>(statement: &'s mut Statement<'_>, params: &[Value]) -> rusqlite::Result<Rows<'s>> {
    let wanted = statement.parameter_count();
    for index in 1..=wanted {
        let number = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$')?.parse().ok())
            .unwrap_or(index);
        let value = params
            .get(number.wrapping_sub(1))
            .ok_or(rusqlite::Error::InvalidParameterCount(params.len(), wanted))?;
        statement.raw_bind_parameter(index, value)?;
    }
    Ok(statement.raw_query())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Integer(Some(value)) => ValueRef::Integer(*value),
            Self::Text(Some(value)) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(Some(value)) => ValueRef::Blob(value),
            Self::Integer(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// One row of an answer.
pub(crate) struct LocalRow {
    names: Arc<[String]>,
    cells: Vec<Cell>,
}

impl LocalRow {
    pub(crate) fn integer(&self, column: &str) -> Result<Option<i64>, Error> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            Cell::Integer(value) => Ok(Some(*value)),
            other => Err(wrong(column, "an integer", other)),
        }
    }

    pub(crate) fn text(&self, column: &str) -> Result<Option<String>, Error> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            Cell::Text(value) => Ok(Some(value.clone())),
            other => Err(wrong(column, "text", other)),
        }
    }

    pub(crate) fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            Cell::Blob(value) => Ok(Some(value.clone())),
            other => Err(wrong(column, "octets", other)),
        }
    }

    fn cell(&self, column: &str) -> Result<&Cell, Error> {
        self.names
            .iter()
            .zip(&self.cells)
            .find_map(|(name, cell)| (name == column).then_some(cell))
            .ok_or_else(|| Error::Column {
                column: column.to_owned(),
                detail: "there is no such column".to_owned(),
            })
    }
}

fn wrong(column: &str, wanted: &str, cell: &Cell) -> Error {
    Error::Column {
        column: column.to_owned(),
        detail: format!("is {} and not {wanted}", cell.data_type()),
    }
}

/// Connections for look-ups, opened when they are needed.
pub(crate) struct Desk {
    place: Place,
    size: u32,
    free: Arc<Semaphore>,
    waiting: Arc<Mutex<Vec<Local>>>,
}

/// One of them, until it is dropped.
pub(crate) struct Lent {
    local: Option<Local>,
    waiting: Arc<Mutex<Vec<Local>>>,
    /// Given back after the connection.
    _permit: OwnedSemaphorePermit,
}

impl Desk {
    pub(crate) fn new(place: Place, size: u32) -> Self {
        Self {
            place,
            size,
            free: Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(1))),
            waiting: Arc::default(),
        }
    }

    pub(crate) async fn lend(&self, time_max: Duration) -> Result<Lent, Error> {
        let permit = tokio::time::timeout(time_max, Arc::clone(&self.free).acquire_owned());
        let permit = match permit.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_closed)) => return Err(Error::Closed),
            Err(_elapsed) => {
                let text = "no connection is free".to_owned();
                return Err(Error::Unavailable(text));
            }
        };
        let known = lock(&self.waiting).pop();
        let local = match known {
            Some(local) => local,
            None => self.place.open(Access::Read)?,
        };
        Ok(Lent {
            local: Some(local),
            waiting: Arc::clone(&self.waiting),
            _permit: permit,
        })
    }

    /// Waits for those that are lent and closes all.
    pub(crate) async fn close(&self) {
        if let Ok(all) = self.free.acquire_many(self.size).await {
            all.forget();
        }
        self.free.close();
        lock(&self.waiting).clear();
    }
}

impl Lent {
    pub(crate) fn local(&mut self) -> Result<&mut Local, Error> {
        self.local.as_mut().ok_or(Error::Closed)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut local) = self.local.take()
            && local.rest()
        {
            lock(&self.waiting).push(local);
        }
    }
}

fn lock(waiting: &Mutex<Vec<Local>>) -> MutexGuard<'_, Vec<Local>> {
    // Nothing in here panics while it is held.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
