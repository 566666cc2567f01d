//! Values that go into a statement and rows that come out of it, the same for both engines.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, ValueRef as _};

use crate::Error;
use crate::local::LocalRow;

/// One parameter of a statement.
///
/// `NULL` has a type on PostgreSQL, so each kind carries its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// BIGINT; also used for booleans (0 and 1) and times (microseconds since the epoch).
    Integer(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BLOB or BYTEA.
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(Some(i64::from(value)))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(Some(i64::from(value)))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<&Vec<u8>> for Value {
    fn from(value: &Vec<u8>) -> Self {
        Self::Bytes(Some(value.clone()))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Option<&[u8]>> for Value {
    fn from(value: Option<&[u8]>) -> Self {
        Self::Bytes(value.map(<[u8]>::to_vec))
    }
}

impl From<time::OffsetDateTime> for Value {
    fn from(value: time::OffsetDateTime) -> Self {
        Self::Integer(Some(micros(value)))
    }
}

impl From<Option<time::OffsetDateTime>> for Value {
    fn from(value: Option<time::OffsetDateTime>) -> Self {
        Self::Integer(value.map(micros))
    }
}

/// A time as the databases keep it: microseconds since the epoch.
///
/// [`time::OffsetDateTime`] ends at year 9999, far inside the range of an `i64` of microseconds.
#[must_use]
pub fn micros(time: time::OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The time that [`micros`] wrote. Out-of-range numbers become the nearest representable time.
#[must_use]
pub fn from_micros(micros: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

/// Parameters of a statement: `params![serial, now, &bytes]`.
#[macro_export]
macro_rules! params {
    () => { ::std::vec::Vec::<$crate::Value>::new() };
    ($($value:expr),+ $(,)?) => { ::std::vec![$($crate::Value::from($value)),+] };
}

/// One row of an answer; columns are read by name.
#[derive(Debug)]
pub struct Row(pub(crate) Inner);

pub(crate) enum Inner {
    Local(LocalRow),
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Columns can hold what does not belong in a log, so a row shows no content.
        f.write_str(match self {
            Self::Local(_) | Self::Sqlite(_) => "sqlite row",
            Self::Postgres(_) => "postgres row",
        })
    }
}

impl Row {
    /// An integer column that is never NULL.
    ///
    /// # Errors
    /// When the column is absent, NULL or of another type.
    pub fn integer(&self, column: &str) -> Result<i64, Error> {
        self.optional_integer(column)?.ok_or_else(|| null(column))
    }

    /// An integer column.
    ///
    /// # Errors
    /// When the column is absent or of another type.
    pub fn optional_integer(&self, column: &str) -> Result<Option<i64>, Error> {
        match &self.0 {
            Inner::Local(row) => return row.integer(column),
            Inner::Sqlite(row) => {
                if is_null_sqlite(row, column)? {
                    return Ok(None);
                }
                row.try_get_unchecked(column).map(Some)
            }
            Inner::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| wrong(column, &error))
    }

    /// A boolean kept as 0 or 1.
    ///
    /// # Errors
    /// When the column is absent, NULL or of another type.
    pub fn boolean(&self, column: &str) -> Result<bool, Error> {
        Ok(self.integer(column)? != 0)
    }

    /// A text column that is never NULL.
    ///
    /// # Errors
    /// When the column is absent, NULL or of another type.
    pub fn text(&self, column: &str) -> Result<String, Error> {
        self.optional_text(column)?.ok_or_else(|| null(column))
    }

    /// A text column.
    ///
    /// # Errors
    /// When the column is absent or of another type.
    pub fn optional_text(&self, column: &str) -> Result<Option<String>, Error> {
        match &self.0 {
            Inner::Local(row) => return row.text(column),
            Inner::Sqlite(row) => {
                if is_null_sqlite(row, column)? {
                    return Ok(None);
                }
                row.try_get_unchecked(column).map(Some)
            }
            Inner::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| wrong(column, &error))
    }

    /// A column of octets that is never NULL.
    ///
    /// # Errors
    /// When the column is absent, NULL or of another type.
    pub fn bytes(&self, column: &str) -> Result<Vec<u8>, Error> {
        self.optional_bytes(column)?.ok_or_else(|| null(column))
    }

    /// A column of octets.
    ///
    /// # Errors
    /// When the column is absent or of another type.
    pub fn optional_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, Error> {
        match &self.0 {
            Inner::Local(row) => return row.bytes(column),
            Inner::Sqlite(row) => {
                if is_null_sqlite(row, column)? {
                    return Ok(None);
                }
                row.try_get_unchecked(column).map(Some)
            }
            Inner::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| wrong(column, &error))
    }

    /// A time column that is never NULL.
    ///
    /// # Errors
    /// When the column is absent, NULL or of another type.
    pub fn time(&self, column: &str) -> Result<time::OffsetDateTime, Error> {
        self.integer(column).map(from_micros)
    }

    /// A time column.
    ///
    /// # Errors
    /// When the column is absent or of another type.
    pub fn optional_time(&self, column: &str) -> Result<Option<time::OffsetDateTime>, Error> {
        Ok(self.optional_integer(column)?.map(from_micros))
    }
}

fn is_null_sqlite(row: &SqliteRow, column: &str) -> Result<bool, Error> {
    row.try_get_raw(column)
        .map(|value| value.is_null())
        .map_err(|error| wrong(column, &error))
}

fn null(column: &str) -> Error {
    Error::Column {
        column: column.to_owned(),
        detail: "is NULL".to_owned(),
    }
}

fn wrong(column: &str, error: &sqlx::Error) -> Error {
    Error::Column {
        column: column.to_owned(),
        detail: error.to_string(),
    }
}
