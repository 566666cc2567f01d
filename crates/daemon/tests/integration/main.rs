//! Configuration from file, variables and flags; the admin listener over a socket; signals.

mod admin;
mod config;
mod signals;
