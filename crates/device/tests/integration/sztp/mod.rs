//! The SZTP agent over real connections.

mod command;
mod image;
mod power;
mod server;
mod whole;
