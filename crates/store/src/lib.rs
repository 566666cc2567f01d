//! Transactions, migrations, the Merkle audit log and the outbox, over SQLite and PostgreSQL.
//!
//! One set of portable SQL serves both engines. SQLite is the embedded default (WAL,
//! `synchronous=FULL`, group commit through one writer); PostgreSQL is for more than one machine.
//!
//! Invariants:
//! - A decision's writes are one [`Store::transaction`]; its caller hears of it when it is durable.
//! - [`Store::open`] refuses any schema but the one this program was built for.
//! - Nothing here needs LISTEN/NOTIFY or advisory locks.
//! - No clock: times are arguments.

mod connection;
mod database;
mod error;
mod group;
mod local;
mod schema;
mod statistics;
mod value;

pub mod audit;
pub mod outbox;

pub use connection::Connection;
pub use database::{Options, Snapshot, Store};
pub use error::Error;
pub use schema::{Applied, Migration, Schema};
pub use sqlx::AssertSqlSafe;
pub use statistics::{Counts, Report};
pub use value::{Row, Value, from_micros, micros};

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The embedded default.
    Sqlite,
    /// For more than one machine.
    Postgres,
}
