//! What is forgotten, so that neither time nor strangers fill the disk.

use store::{Connection, Error, params};
use time::{Duration, OffsetDateTime};

use crate::config::Retention;

/// The most rows that one pass removes; the next pass removes more.
const ROWS_PER_PASS_MAX: u32 = 5_000;

/// What a pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Timeline entries.
    pub entries: u64,
    /// Devices that no vendor vouches for.
    pub devices: u64,
}

/// Removes what the limits say.
///
/// # Errors
/// The database failed.
pub async fn purge(
    connection: &mut Connection,
    retention: &Retention,
    now: OffsetDateTime,
) -> Result<Purged, Error> {
    let mut purged = Purged::default();
    let oldest = now - Duration::days(i64::from(retention.timeline_days));
    purged.entries += connection
        .execute(
            "DELETE FROM timeline WHERE entry_id IN \
             (SELECT entry_id FROM timeline WHERE at_us < $1 LIMIT $2)",
            params![oldest, ROWS_PER_PASS_MAX],
        )
        .await?;
    let crowded = connection
        .fetch_all(
            "SELECT device_id FROM timeline GROUP BY device_id HAVING COUNT(*) > $1 LIMIT 100",
            params![retention.entries_per_device],
        )
        .await?;
    for row in &crowded {
        let device_id = row.text("device_id")?;
        let newest_lost = connection
            .fetch_optional(
                "SELECT entry_id FROM timeline WHERE device_id = $1 ORDER BY entry_id DESC \
                 LIMIT 1 OFFSET $2",
                params![&device_id, retention.entries_per_device],
            )
            .await?;
        if let Some(row) = newest_lost {
            purged.entries += connection
                .execute(
                    "DELETE FROM timeline WHERE device_id = $1 AND entry_id <= $2",
                    params![&device_id, row.integer("entry_id")?],
                )
                .await?;
        }
    }
    let strangers = connection
        .fetch_all(
            "SELECT device_id FROM device WHERE trusted = 0 AND decision IS NULL \
             ORDER BY last_seen_us DESC LIMIT 1000 OFFSET $1",
            params![retention.untrusted_devices],
        )
        .await?;
    for row in &strangers {
        let device_id = row.text("device_id")?;
        purged.entries += connection
            .execute(
                "DELETE FROM timeline WHERE device_id = $1",
                params![&device_id],
            )
            .await?;
        purged.devices += connection
            .execute(
                "DELETE FROM device WHERE device_id = $1",
                params![&device_id],
            )
            .await?;
    }
    Ok(purged)
}
