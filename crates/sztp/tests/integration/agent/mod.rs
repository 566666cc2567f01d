//! The device's side against simulated sources and servers.

mod certificate;
mod data;
mod onboarding;
mod power;
mod sim;
mod sources;
mod trust;
mod world;
