//! The operator's list of devices that may join, or may not.

use serde::Serialize;
use store::{Connection, Error, Row, params};
use time::OffsetDateTime;

use crate::policy::Action;

/// One line of the list. An empty vendor stands for any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admission {
    /// The vendor profile.
    pub vendor: String,
    /// The serial number.
    pub serial: String,
    /// The product, for the reader.
    pub product: Option<String>,
    /// What is done with it.
    pub action: Action,
    /// Why, for the reader.
    pub note: Option<String>,
}

fn read(row: &Row) -> Result<Admission, Error> {
    Ok(Admission {
        vendor: row.text("vendor")?,
        serial: row.text("serial")?,
        product: row.optional_text("product")?,
        action: match row.text("action")?.as_str() {
            "allow" => Action::Allow,
            "ask" => Action::Ask,
            "webhook" => Action::Webhook,
            _ => Action::Deny,
        },
        note: row.optional_text("note")?,
    })
}

/// What the list says about a device: the line of its vendor before the line for any vendor.
///
/// # Errors
/// The database failed.
pub async fn admission(
    connection: &mut Connection,
    vendor: &str,
    serial: &str,
) -> Result<Option<Admission>, Error> {
    connection
        .fetch_optional(
            "SELECT vendor, serial, product, action, note FROM admission \
             WHERE serial = $1 AND (vendor = $2 OR vendor = '') ORDER BY vendor DESC LIMIT 1",
            params![serial, vendor],
        )
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// A page of the list, after the given vendor and serial number.
///
/// # Errors
/// The database failed.
pub async fn admissions(
    connection: &mut Connection,
    after: Option<(&str, &str)>,
    limit: u32,
) -> Result<Vec<Admission>, Error> {
    let (vendor, serial) = after.unwrap_or_default();
    connection
        .fetch_all(
            "SELECT vendor, serial, product, action, note FROM admission \
             WHERE vendor > $1 OR (vendor = $1 AND serial > $2) ORDER BY vendor, serial LIMIT $3",
            params![vendor, serial, limit],
        )
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Writes a line; says whether the list changed by it.
///
/// # Errors
/// The database failed.
pub async fn put_admission(
    connection: &mut Connection,
    admission: &Admission,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let old = connection
        .fetch_optional(
            "SELECT vendor, serial, product, action, note FROM admission \
             WHERE vendor = $1 AND serial = $2",
            params![&admission.vendor, &admission.serial],
        )
        .await?
        .as_ref()
        .map(read)
        .transpose()?;
    if old.as_ref() == Some(admission) {
        return Ok(false);
    }
    connection
        .execute(
            "INSERT INTO admission (vendor, serial, product, action, note, changed_us) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (vendor, serial) DO UPDATE SET \
             product = excluded.product, action = excluded.action, note = excluded.note, \
             changed_us = excluded.changed_us",
            params![
                &admission.vendor,
                &admission.serial,
                admission.product.clone(),
                admission.action.as_str(),
                admission.note.clone(),
                now
            ],
        )
        .await?;
    Ok(true)
}

/// Removes a line; says whether there was one.
///
/// # Errors
/// The database failed.
pub async fn remove_admission(
    connection: &mut Connection,
    vendor: &str,
    serial: &str,
) -> Result<bool, Error> {
    let removed = connection
        .execute(
            "DELETE FROM admission WHERE vendor = $1 AND serial = $2",
            params![vendor, serial],
        )
        .await?;
    Ok(removed > 0)
}
