//! The registrar over real sockets, with a scripted MASA.

mod bad_input;
mod commands;
mod harness;
mod onboarding;
mod policies;
mod refusals;
