//! Artefacts as peers make them, good and bad, and the verdicts on them.

mod common;
mod flips;
mod properties;
mod schema;
mod vectors;
mod verdicts;
