//! Pledge, registrar and MASA against each other, in one process and on simulated time.

mod flow;
mod masa_refusals;
mod sim;
mod world;
