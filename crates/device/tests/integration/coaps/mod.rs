//! The device over CoAPs.

mod fake;
mod steps;
