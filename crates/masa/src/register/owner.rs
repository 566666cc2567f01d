//! Owners: who buys devices, and by which certificates their domains are recognised.

use std::sync::Arc;

use brski::DomainKey;
use brski::masa::Pin;
use futures::FutureExt as _;
use pki::Certificate;
use serde::Serialize;
use serde_json::json;
use store::{Connection, Row, Store, params};
use time::OffsetDateTime;

use super::{TEXT_LENGTH_MAX_BYTES, next_epoch, record};
use crate::Error;

/// Certificates that one owner may have.
const CERTIFICATES_MAX: i64 = 64;

/// An owner of the register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Its identifier.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whether it may have nonceless vouchers.
    pub nonceless: bool,
    /// Whether it gets no vouchers at all.
    pub blocked: bool,
    /// Which certificate is pinned for it; `None` for the MASA's policy.
    pub pin: Option<Pin>,
    /// When it came into the register.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Its certificates: subject and SHA-256 of the public key.
    pub certificates: Vec<OwnerCertificate>,
}

/// A certificate of an owner as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnerCertificate {
    /// Subject.
    pub subject: String,
    /// SHA-256 of the SubjectPublicKeyInfo, in hex.
    pub key_sha256: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Whether it is a CA.
    pub ca: bool,
}

/// What [`add_owner`] sets; `None` leaves what is there.
#[derive(Clone, Debug, Default)]
pub struct OwnerChange {
    /// What people call it.
    pub name: Option<String>,
    /// Whether it may have nonceless vouchers.
    pub nonceless: Option<bool>,
    /// Which certificate is pinned for it.
    pub pin: Option<Pin>,
    /// Certificates to add.
    pub certificates: Vec<Certificate>,
}

fn pin_name(pin: Pin) -> &'static str {
    match pin {
        Pin::EndEntity => "end-entity",
        Pin::Issuer => "issuer",
        Pin::TopOfChain => "top-of-chain",
    }
}

pub(crate) fn pin_from(name: &str) -> Option<Pin> {
    [Pin::EndEntity, Pin::Issuer, Pin::TopOfChain]
        .into_iter()
        .find(|pin| pin_name(*pin) == name)
}

fn owner_of(row: &Row) -> Result<Owner, Error> {
    Ok(Owner {
        id: row.text("id")?,
        name: row.text("name")?,
        nonceless: row.boolean("nonceless")?,
        blocked: row.boolean("blocked")?,
        pin: row.optional_text("pin")?.and_then(|name| pin_from(&name)),
        created: row.time("created_us")?,
        certificates: Vec::new(),
    })
}

/// The certificates of an owner.
pub(crate) async fn certificates_of(
    connection: &mut Connection,
    owner: &str,
) -> Result<Vec<Certificate>, Error> {
    let rows = connection
        .fetch_all(
            "SELECT certificate FROM owner_certificate WHERE owner = $1 \
             ORDER BY spki_sha256 LIMIT $2",
            params![owner, CERTIFICATES_MAX],
        )
        .await?;
    rows.iter()
        .map(|row| Ok(Certificate::from_der(&row.bytes("certificate")?)?))
        .collect()
}

async fn complete(connection: &mut Connection, mut owner: Owner) -> Result<Owner, Error> {
    for certificate in certificates_of(connection, &owner.id).await? {
        owner.certificates.push(OwnerCertificate {
            subject: certificate.subject(),
            key_sha256: DomainKey::of(&certificate).to_string(),
            not_after: certificate.not_after(),
            ca: certificate.is_ca(),
        });
    }
    Ok(owner)
}

/// An owner with its certificates.
///
/// # Errors
/// When there is none.
pub async fn find_owner(store: &Store, id: &str) -> Result<Owner, Error> {
    let mut snapshot = store.snapshot().await?;
    let row = snapshot
        .fetch_optional(
            "SELECT id, name, nonceless, blocked, pin, created_us FROM owner WHERE id = $1",
            params![id],
        )
        .await?
        .ok_or_else(|| Error::NotFound {
            what: "owner",
            name: id.to_owned(),
        })?;
    complete(&mut snapshot, owner_of(&row)?).await
}

/// Owners by identifier, after the given one.
///
/// # Errors
/// What the database said.
pub async fn list_owners(store: &Store, after: &str, limit: u32) -> Result<Vec<Owner>, Error> {
    let mut snapshot = store.snapshot().await?;
    let rows = snapshot
        .fetch_all(
            "SELECT id, name, nonceless, blocked, pin, created_us FROM owner WHERE id > $1 \
             ORDER BY id LIMIT $2",
            params![after, limit],
        )
        .await?;
    let mut owners = Vec::with_capacity(rows.len());
    for row in &rows {
        owners.push(complete(&mut snapshot, owner_of(row)?).await?);
    }
    Ok(owners)
}

/// Whether text can identify an owner: it stands in file names, command lines and logs.
pub(crate) fn is_owner_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && !id.starts_with(['-', '.'])
        && id
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
}

/// Registers an owner, or changes one and adds certificates to it. True if it is new.
///
/// # Errors
/// When the identifier is not usable, or a certificate belongs to another owner.
pub async fn add_owner(
    store: &Store,
    id: &str,
    change: OwnerChange,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    if !is_owner_id(id) {
        let text = format!(
            "{id:?} cannot identify an owner: 1 to 64 letters, digits, '.', '_', '-' or '@'"
        );
        return Err(Error::Usage(text));
    }
    if change
        .name
        .as_ref()
        .is_some_and(|name| name.len() > TEXT_LENGTH_MAX_BYTES)
    {
        return Err(Error::Usage(format!(
            "a name has at most {TEXT_LENGTH_MAX_BYTES} octets"
        )));
    }
    let shared = Arc::new((id.to_owned(), change));
    store
        .transaction("owner-add", move |connection| {
            let shared = Arc::clone(&shared);
            async move { add(connection, &shared.0, &shared.1, now).await }.boxed()
        })
        .await
}

async fn add(
    connection: &mut Connection,
    id: &str,
    change: &OwnerChange,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let pin = change.pin.map(pin_name);
    let nonceless = change.nonceless.map(i64::from);
    let created = connection
        .execute(
            "INSERT INTO owner (id, name, nonceless, blocked, pin, created_us) \
             VALUES ($1, $2, $3, 0, $4, $5) ON CONFLICT (id) DO NOTHING",
            params![
                id,
                change.name.clone().unwrap_or_else(|| id.to_owned()),
                nonceless.unwrap_or(0),
                pin,
                now
            ],
        )
        .await?
        == 1;
    if !created {
        connection
            .execute(
                "UPDATE owner SET name = COALESCE($1, name), nonceless = COALESCE($2, nonceless), \
                 pin = COALESCE($3, pin) WHERE id = $4",
                params![change.name.clone(), nonceless, pin, id],
            )
            .await?;
    }
    let mut keys = Vec::new();
    for certificate in &change.certificates {
        let key = DomainKey::of(certificate);
        let row = connection
            .fetch_optional(
                "SELECT owner FROM owner_certificate WHERE spki_sha256 = $1",
                params![key.as_bytes()],
            )
            .await?;
        match row.map(|row| row.text("owner")).transpose()? {
            // One key, one owner: otherwise it could not be said who asks.
            Some(other) if other != id => {
                return Err(Error::Exists {
                    what: "certificate",
                    name: certificate.subject(),
                    detail: format!(": its key belongs to owner {other:?}"),
                });
            }
            Some(_) => continue,
            None => {}
        }
        let key_id = certificate
            .subject_key_id()
            .unwrap_or_else(|| certificate.public_key().sha1_key_id().to_vec());
        connection
            .execute(
                "INSERT INTO owner_certificate (spki_sha256, owner, subject_key_id, certificate) \
                 VALUES ($1, $2, $3, $4)",
                params![key.as_bytes(), id, key_id, certificate.der()],
            )
            .await?;
        keys.push(key.to_string());
    }
    next_epoch(connection).await?;
    let kind = if created {
        "owner-added"
    } else {
        "owner-changed"
    };
    let data = json!({
        "name": change.name, "nonceless": change.nonceless, "pin": pin, "keys_sha256": keys,
    });
    record(
        connection,
        kind,
        &super::operator(),
        &format!("owner:{id}"),
        data,
        now,
    )
    .await?;
    Ok(created)
}

/// Blocks an owner or lifts the block.
///
/// # Errors
/// When there is no such owner.
pub async fn block_owner(
    store: &Store,
    id: &str,
    blocked: bool,
    now: OffsetDateTime,
) -> Result<(), Error> {
    let id = id.to_owned();
    store
        .transaction("owner-block", move |connection| {
            let id = id.clone();
            async move {
                let rows = connection
                    .execute(
                        "UPDATE owner SET blocked = $1 WHERE id = $2",
                        params![blocked, &id],
                    )
                    .await?;
                if rows != 1 {
                    return Err(Error::NotFound {
                        what: "owner",
                        name: id,
                    });
                }
                next_epoch(connection).await?;
                let kind = if blocked {
                    "owner-blocked"
                } else {
                    "owner-unblocked"
                };
                let subject = format!("owner:{id}");
                record(
                    connection,
                    kind,
                    &super::operator(),
                    &subject,
                    json!({}),
                    now,
                )
                .await?;
                Ok(())
            }
            .boxed()
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_ids() {
        for good in ["acme", "Acme-1.example", "a@b", "0"] {
            assert!(is_owner_id(good), "{good}");
        }
        for bad in ["", "-x", ".x", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(!is_owner_id(bad), "{bad}");
        }
    }

    #[test]
    fn pins_have_names() {
        for pin in [Pin::EndEntity, Pin::Issuer, Pin::TopOfChain] {
            assert_eq!(pin_from(pin_name(pin)), Some(pin));
        }
    }
}
