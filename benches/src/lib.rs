//! What the load generator and the criterion benches share.
//!
//! The servers under load are child processes of the released binary, started as an operator
//! starts them, and everything goes over real sockets on loopback.

pub mod bootstrap;
pub mod coaps;
pub mod load;
pub mod process;
pub mod raw;
pub mod report;
pub mod servers;
pub mod world;
