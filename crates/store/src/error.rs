//! What can go wrong between a decision and its database.

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database URL names no engine we know (caller's fault).
    #[error("the database URL {0:?} is neither sqlite: nor postgres:")]
    Url(String),
    /// The database cannot be reached, or went away while we talked to it.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// The database has no schema yet: `migrate` was never run.
    #[error("the database has no schema; run the migrate command first")]
    SchemaMissing,
    /// The schema is older than this program.
    #[error(
        "schema {component} is at version {found}, this program needs {needed}; run the migrate command"
    )]
    SchemaOutdated {
        /// Which part of the schema.
        component: String,
        /// Version in the database.
        found: i64,
        /// Version this program was built for.
        needed: i64,
    },
    /// The schema is newer than this program: it was migrated by a later release.
    #[error(
        "schema {component} is at version {found}, this program knows only {needed}; use the newer program"
    )]
    SchemaNewer {
        /// Which part of the schema.
        component: String,
        /// Version in the database.
        found: i64,
        /// Version this program was built for.
        needed: i64,
    },
    /// A migration that was applied is not the one this program contains.
    #[error("migration {version} of {component} in the database differs from this program's")]
    SchemaAltered {
        /// Which part of the schema.
        component: String,
        /// The migration.
        version: i64,
    },
    /// The database belongs to another role.
    #[error("the database belongs to role {found:?}, not {needed:?}")]
    WrongRole {
        /// Role in the database.
        found: String,
        /// Role of this program.
        needed: String,
    },
    /// A uniqueness rule of the schema was broken; often an expected answer, not a fault.
    #[error("a row with this key exists already: {0}")]
    Unique(String),
    /// Another transaction was in the way more often than we retry.
    #[error("transaction {name} met conflicts {attempts} times and was given up")]
    Conflict {
        /// The transaction's name.
        name: &'static str,
        /// How often it was tried.
        attempts: u32,
    },
    /// The closure of a transaction panicked; it was rolled back.
    #[error("transaction {0} panicked and was rolled back")]
    Panicked(&'static str),
    /// The closure of a transaction took longer than the limit; it was rolled back.
    #[error("transaction {0} took too long and was rolled back")]
    TimedOut(&'static str),
    /// The store was closed while the transaction waited.
    #[error("the store is closed")]
    Closed,
    /// A column has not the type or the name that the program expects.
    #[error("column {column}: {detail}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The database refused a statement.
    #[error("database: {0}")]
    Database(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Stable code for logs, metrics and documentation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "store.url",
            Self::Unavailable(_) => "store.unavailable",
            Self::SchemaMissing => "store.schema-missing",
            Self::SchemaOutdated { .. } => "store.schema-outdated",
            Self::SchemaNewer { .. } => "store.schema-newer",
            Self::SchemaAltered { .. } => "store.schema-altered",
            Self::WrongRole { .. } => "store.wrong-role",
            Self::Unique(_) => "store.unique",
            Self::Conflict { .. } => "store.conflict",
            Self::Panicked(_) => "store.panicked",
            Self::TimedOut(_) => "store.timed-out",
            Self::Closed => "store.closed",
            Self::Column { .. } => "store.column",
            Self::Database(_) => "store.database",
            Self::File { .. } => "store.file",
        }
    }

    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(inner) if inner.is_unique_violation() => {
                Self::Unique(inner.message().to_owned())
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            sqlx::Error::PoolClosed => Self::Closed,
            _ => Self::Database(error.to_string()),
        }
    }
}

/// Whether the engine asks for another attempt of the whole transaction.
///
/// PostgreSQL: 40001 serialization failure, 40P01 deadlock. SQLite: BUSY (5, with its extended
/// forms such as BUSY_SNAPSHOT) and LOCKED (6).
pub(crate) fn asks_for_retry(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    let Some(code) = error.code() else {
        return false;
    };
    match code.as_ref() {
        "40001" | "40P01" => true,
        other => other.parse::<u32>().is_ok_and(|code| {
            // PostgreSQL's five-character codes can look like numbers; SQLite's are short.
            other.len() <= 4 && matches!(code & 0xff, 5 | 6)
        }),
    }
}

impl pki::Coded for Error {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn blame(&self) -> pki::Blame {
        match self {
            Self::Url(_)
            | Self::SchemaMissing
            | Self::SchemaOutdated { .. }
            | Self::SchemaNewer { .. }
            | Self::SchemaAltered { .. }
            | Self::WrongRole { .. }
            | Self::Unique(_) => pki::Blame::Caller,
            Self::Unavailable(_)
            | Self::Conflict { .. }
            | Self::Panicked(_)
            | Self::TimedOut(_)
            | Self::Closed
            | Self::Column { .. }
            | Self::Database(_)
            | Self::File { .. } => pki::Blame::Ours,
        }
    }
}
