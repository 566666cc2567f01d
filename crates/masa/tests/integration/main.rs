//! The MASA over real sockets, on SQLite and on PostgreSQL.

mod bad_input;
mod batch;
mod commands;
mod concurrency;
mod register;
mod support;
mod vouchers;
