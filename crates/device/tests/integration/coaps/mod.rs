//! The device over CoAPs.

mod discovery;
mod est;
mod fake;
mod real;
mod renewal;
mod steps;
