//! The endpoint at its borders, and two of them against each other.
#![expect(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "numbers of a test are small, and a panic is its verdict"
)]

mod asking;
mod figures;
mod formats;
mod messages;
mod pair;
mod serving;
mod world;
