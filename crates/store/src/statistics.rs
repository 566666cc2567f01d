//! Counters of transactions by name, for the metrics endpoint.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// What happened to the transactions of one name since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Committed.
    pub committed: u64,
    /// Rolled back because the closure said no.
    pub refused: u64,
    /// Attempts that were repeated because of a conflict.
    pub retried: u64,
    /// Sum of the time from the call to the answer, in microseconds.
    pub time_us: u64,
}

/// Snapshot of [`crate::Store::statistics`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By transaction name.
    pub transactions: BTreeMap<&'static str, Counts>,
    /// Group commits (SQLite only).
    pub batches: u64,
    /// Decisions in those group commits.
    pub batched: u64,
}

#[derive(Default)]
pub(crate) struct Statistics(Mutex<Report>);

impl Statistics {
    fn with<T>(&self, change: impl FnOnce(&mut Report) -> T) -> T {
        // A poisoned lock only means that a panic happened between two additions.
        let mut report = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut report)
    }

    pub(crate) fn finished(&self, name: &'static str, committed: bool, time: Duration) {
        self.with(|report| {
            let counts = report.transactions.entry(name).or_default();
            if committed {
                counts.committed += 1;
            } else {
                counts.refused += 1;
            }
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            counts.time_us = counts.time_us.saturating_add(micros);
        });
    }

    pub(crate) fn retried(&self, name: &'static str) {
        self.with(|report| report.transactions.entry(name).or_default().retried += 1);
    }

    pub(crate) fn batch(&self, decisions: usize) {
        self.with(|report| {
            report.batches += 1;
            report.batched += u64::try_from(decisions).unwrap_or(u64::MAX);
        });
    }

    pub(crate) fn report(&self) -> Report {
        self.with(|report| report.clone())
    }
}
