//! The device's own idea of the time.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

/// A clock that starts somewhere, right or wrong, and goes on from there.
#[derive(Clone, Copy, Debug)]
pub struct DeviceClock {
    start: OffsetDateTime,
    since: Instant,
}

impl DeviceClock {
    /// A clock that shows this time now.
    #[must_use]
    pub fn starting_at(start: OffsetDateTime) -> Self {
        Self {
            start,
            since: Instant::now(),
        }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.start + self.since.elapsed()
    }

    /// How long until it shows `until`.
    #[must_use]
    pub fn until(&self, until: OffsetDateTime) -> Duration {
        Duration::try_from(until - self.now()).unwrap_or_default()
    }
}
