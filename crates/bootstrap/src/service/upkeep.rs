//! What the server does beside answering: looking for stuck devices, counting, forgetting.

use futures::FutureExt as _;
use serde_json::json;
use store::{AssertSqlSafe, params};
use time::Duration;

use super::Service;
use crate::Error;
use crate::events::{self, Event, Kind};
use crate::register::{DEVICE_COLUMNS, State, device_of};

/// Stuck devices that one transaction marks.
const STUCK_AT_ONCE: i64 = 500;

impl Service {
    /// Marks devices that began and have been silent for too long, and says so. Returns how many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn find_stuck(&self) -> Result<u64, Error> {
        let now = self.now();
        let minutes = self.config().watch.stuck_minutes;
        if minutes == 0 {
            return Ok(0);
        }
        let oldest = now - Duration::minutes(i64::from(minutes));
        let sinks = std::sync::Arc::new(self.config().events.clone());
        let mut total = 0;
        loop {
            let sinks = std::sync::Arc::clone(&sinks);
            let found = self
                .store()
                .locking_transaction("stuck", move |connection| {
                    let sinks = std::sync::Arc::clone(&sinks);
                    async move {
                        // The update decides who is stuck, so that of several servers only one
                        // says so.
                        let sql = format!(
                            "UPDATE device SET state = $1, waiting_since_us = NULL \
                             WHERE id IN (SELECT id FROM device \
                               WHERE waiting_since_us < $2 ORDER BY waiting_since_us LIMIT $3) \
                             AND waiting_since_us < $2 RETURNING {DEVICE_COLUMNS}"
                        );
                        let values = params![State::Stuck.as_str(), oldest, STUCK_AT_ONCE];
                        let rows = connection.fetch_all(AssertSqlSafe(sql), values).await?;
                        for row in &rows {
                            let device = device_of(row)?;
                            let event = Event {
                                at: now,
                                kind: Kind::Stuck,
                                device: device.id,
                                vendor: device.vendor,
                                serial: device.serial,
                                detail: json!({
                                    "minutes": minutes,
                                    "last_progress": device.last_progress,
                                }),
                            };
                            if event.wanted(&sinks) {
                                events::emit(connection, &event).await?;
                            }
                        }
                        Ok::<_, Error>(i64::try_from(rows.len()).unwrap_or(i64::MAX))
                    }
                    .boxed()
                })
                .await?;
            total += found.unsigned_abs();
            if found < STUCK_AT_ONCE {
                break;
            }
        }
        if total > 0 {
            tracing::warn!(devices = total, minutes, "devices are stuck");
        }
        Ok(total)
    }

    /// Removes what the limits of the timeline say, and counts devices by state.
    ///
    /// # Errors
    /// The database failed.
    pub async fn housekeeping(&self) -> Result<(), Error> {
        crate::timeline::prune(self.store(), &self.config().timeline, self.now()).await?;
        let rows = self
            .store()
            .fetch_all(
                "SELECT state, COUNT(*) AS number FROM device GROUP BY state",
                params![],
            )
            .await?;
        for state in State::ALL {
            let mut number = 0;
            for row in &rows {
                if row.text("state")? == state.as_str() {
                    number = row.integer("number")?;
                }
            }
            self.0.counters.devices(state, number);
        }
        Ok(())
    }
}
