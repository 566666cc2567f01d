//! The clock: the only place in the workspace that asks the operating system for the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

/// Where services take the time from. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Fixed(OffsetDateTime),
    Manual(ManualClock),
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still, as for published vectors whose certificates have expired.
    #[must_use]
    pub fn fixed(at: OffsetDateTime) -> Self {
        Self(Source::Fixed(at))
    }

    /// A clock that moves when it is told to, and the handle that moves it.
    #[must_use]
    pub fn manual(start: OffsetDateTime) -> (Self, ManualClock) {
        let manual = ManualClock(Arc::new(Mutex::new(start)));
        (Self(Source::Manual(manual.clone())), manual)
    }

    /// The time now, in UTC.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        match &self.0 {
            Source::System => system_now(),
            Source::Fixed(at) => *at,
            Source::Manual(manual) => manual.now(),
        }
    }

    /// The time now as stored in databases: microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        // Within the range of `OffsetDateTime` (years up to 9999) this fits in 64 bits.
        i64::try_from(self.now().unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Source::System => "Clock(system)",
            Source::Fixed(_) => "Clock(fixed)",
            Source::Manual(_) => "Clock(manual)",
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the system's time"
)]
fn system_now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Moves a [`Clock::manual`].
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<OffsetDateTime>>);

impl ManualClock {
    /// The time that the clock shows.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now += by;
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, to: OffsetDateTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let (clock, hand) = Clock::manual(datetime!(1970-01-01 00:00 UTC));
        assert_eq!(clock.now_us(), 0);
        hand.advance(Duration::from_secs(2));
        assert_eq!(clock.clone().now(), datetime!(1970-01-01 00:00:02 UTC));
        hand.set(datetime!(2030-05-01 00:00 UTC));
        assert_eq!(clock.now(), datetime!(2030-05-01 00:00 UTC));
    }

    #[test]
    fn a_fixed_clock_stands_still_and_the_system_clock_does_not_go_back() {
        let at = datetime!(2020-02-02 00:00 UTC);
        assert_eq!(Clock::fixed(at).now(), at);
        let clock = Clock::system();
        assert!(clock.now() <= clock.now());
    }
}
