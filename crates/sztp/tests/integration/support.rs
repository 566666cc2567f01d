//! What several test modules need.

use sztp::Oddity;

/// The names of the switches that were needed, each once, sorted.
pub(crate) fn names(oddities: &[Oddity]) -> Vec<&'static str> {
    let mut names: Vec<&str> = oddities.iter().map(|oddity| oddity.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}
