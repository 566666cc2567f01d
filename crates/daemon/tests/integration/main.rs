//! Configuration from file, variables and flags; the admin listener over a socket; signals; events
//! to receivers of every temper.

mod admin;
mod config;
mod events;
mod signals;
