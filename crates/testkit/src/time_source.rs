//! Time that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::macros::datetime;
use time::{Duration, OffsetDateTime};

/// The time at which tests play unless they have a reason for another one.
pub const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

/// A time that only moves when told to. Clones share it, so a server under test can hold one and the
/// test another: hand `{ let time = time.clone(); move || time.now() }` to whatever asks for a clock.
#[derive(Clone, Debug)]
pub struct ManualTime(Arc<AtomicI64>);

impl ManualTime {
    /// Starts at `now`, to the microsecond.
    #[must_use]
    pub fn new(now: OffsetDateTime) -> Self {
        Self(Arc::new(AtomicI64::new(microseconds(now))))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::microseconds(self.0.load(Ordering::SeqCst))
    }

    /// Moves it on, or back with a negative step.
    pub fn advance(&self, step: Duration) {
        let now = self.now() + step;
        self.0.store(microseconds(now), Ordering::SeqCst);
    }

    /// Sets it, for example to 1970 for a device that lost its clock.
    pub fn set(&self, now: OffsetDateTime) {
        self.0.store(microseconds(now), Ordering::SeqCst);
    }
}

impl Default for ManualTime {
    fn default() -> Self {
        Self::new(NOW)
    }
}

fn microseconds(time: OffsetDateTime) -> i64 {
    // Years up to 9999 fit into 64 bits of microseconds.
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_time() {
        let time = ManualTime::default();
        let other = time.clone();
        other.advance(Duration::hours(1));
        assert_eq!(time.now(), NOW + Duration::hours(1));
        time.set(OffsetDateTime::UNIX_EPOCH);
        assert_eq!(other.now(), OffsetDateTime::UNIX_EPOCH);
    }
}
