//! The store on both engines: each body runs once on SQLite and once on PostgreSQL.

mod audit;
mod crash;
mod outbox;
mod schema;
mod support;
mod transactions;
