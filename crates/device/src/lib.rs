//! The reference pledge: what a device vendor can build on, measure against, and test a registrar
//! with.
//!
//! [`brski::run`] carries out the steps of [`::brski::pledge::Machine`] over real connections and
//! keeps its state on disk, so that a power cut at any point costs at most one repeated request.

pub mod brski;
pub mod cli;
mod error;

pub use error::Error;
