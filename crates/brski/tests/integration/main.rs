//! Pledge, registrar and MASA against each other, in one process and on simulated time.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may fail it")]

mod audit_log;
mod bad_input;
mod constrained;
mod constrained_masa;
mod constrained_pledge;
mod flow;
mod fuzz_seeds;
mod lossy;
mod masa_refusals;
mod pledge_failures;
mod pledge_patience;
mod published;
mod registrar_refusals;
mod sim;
mod wire;
mod world;
