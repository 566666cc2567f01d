//! The suite's side when a device is under test: servers that do what a case wants, and the
//! starting of the device.
//!
//! A device comes by a command of the profile, once for each case with a folder of its own; by a
//! command that cuts its power; or by a person whom the suite asks.

mod launch;
mod server;

pub use launch::{Launcher, POWER_CYCLE, Presence, Ready};
pub use server::{Action, Came, Handler, Handshake, Seen, Server, Tls, mismatched};
