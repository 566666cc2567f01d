//! The MASA over real sockets, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod alarms;
mod bad_input;
mod batch;
mod commands;
mod concurrency;
mod constrained;
mod register;
mod revocation;
mod support;
mod timeline;
mod vouchers;
