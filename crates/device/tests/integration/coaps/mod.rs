//! The device over CoAPs.

mod fake;
mod real;
mod renewal;
mod steps;
