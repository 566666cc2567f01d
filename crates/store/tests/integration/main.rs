//! The store on both engines: each body runs once on SQLite and once on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod audit;
mod crash;
mod outbox;
mod schema;
mod support;
mod transactions;
