//! What is forgotten, so that neither time nor strangers fill the disk.

use store::{Connection, Error, params};
use time::{Duration, OffsetDateTime};

use crate::config::Retention;

/// The most rows that one pass removes; the next pass removes more.
const ROWS_PER_PASS_MAX: u32 = 5_000;

/// The most strangers that one pass removes.
const STRANGERS_PER_PASS_MAX: u32 = 1_000;
/// The most devices whose oldest rows one pass removes.
const CROWDED_PER_PASS_MAX: u32 = 100;
/// The newest voucher exchanges that are kept of one device. Each new request begins one, and a
/// device that is well needs one each time that it is reset.
const EXCHANGES_PER_DEVICE_MAX: u32 = 200;

/// What a pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Timeline entries.
    pub entries: u64,
    /// Devices that no vendor vouches for.
    pub devices: u64,
    /// Voucher exchanges.
    pub exchanges: u64,
    /// Whether there is more than one pass removes.
    pub more: bool,
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
    purged.more |= purged.entries >= u64::from(ROWS_PER_PASS_MAX);
    let crowded = connection
        .fetch_all(
            "SELECT device_id FROM timeline GROUP BY device_id HAVING COUNT(*) > $1 LIMIT $2",
            params![retention.entries_per_device, CROWDED_PER_PASS_MAX],
        )
        .await?;
    purged.more |= is_full(&crowded, CROWDED_PER_PASS_MAX);
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
             ORDER BY last_seen_us DESC LIMIT $1 OFFSET $2",
            params![STRANGERS_PER_PASS_MAX, retention.untrusted_devices],
        )
        .await?;
    purged.more |= is_full(&strangers, STRANGERS_PER_PASS_MAX);
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
    purge_exchanges(connection, &mut purged).await?;
    Ok(purged)
}

/// Removes the oldest exchanges of devices that begin one after the other. A request of so long
/// ago cannot be told from a new one then; nobody but the device itself could send it.
async fn purge_exchanges(connection: &mut Connection, purged: &mut Purged) -> Result<(), Error> {
    let crowded = connection
        .fetch_all(
            "SELECT device_id FROM exchange GROUP BY device_id HAVING COUNT(*) > $1 LIMIT $2",
            params![EXCHANGES_PER_DEVICE_MAX, CROWDED_PER_PASS_MAX],
        )
        .await?;
    purged.more |= is_full(&crowded, CROWDED_PER_PASS_MAX);
    for row in &crowded {
        let device_id = row.text("device_id")?;
        purged.exchanges += connection
            .execute(
                "DELETE FROM exchange WHERE device_id = $1 AND exchange_id NOT IN \
                 (SELECT exchange_id FROM exchange WHERE device_id = $2 \
                 ORDER BY created_us DESC, updated_us DESC LIMIT $3)",
                params![&device_id, &device_id, EXCHANGES_PER_DEVICE_MAX],
            )
            .await?;
    }
    Ok(())
}

fn is_full(rows: &[store::Row], limit: u32) -> bool {
    rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX)
}
