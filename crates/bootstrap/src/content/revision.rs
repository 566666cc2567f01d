//! Revisions: content as the database keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt as _;
use serde::Serialize;
use serde_json::json;
use store::{AssertSqlSafe, Connection, Row, Store, Value, params};
use time::OffsetDateTime;

use super::document::{Digest, Document, FORMAT};
use crate::Error;
use crate::register;

/// Files that one query reads.
const FILES_PER_QUERY_MAX: usize = 64;

/// A revision of the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Revision {
    /// Its number.
    pub id: i64,
    /// When it was applied.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who applied it.
    pub author: String,
    /// What they said about it.
    pub note: String,
    /// Digest of what it says: two revisions with the same digest serve the same.
    pub digest: Digest,
    /// Whether it is the one that is served.
    pub served: bool,
}

/// What became of content that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The revision that is served now.
    pub revision: i64,
    /// Whether it is a new one.
    pub new: bool,
}

/// The digest of what a document says.
///
/// # Errors
/// It cannot be written as JSON.
pub fn digest_of(document: &Document) -> Result<Digest, Error> {
    text_of(document).map(|text| Digest::of(text.as_bytes()))
}

fn text_of(document: &Document) -> Result<String, Error> {
    serde_json::to_string(document).map_err(|error| Error::Content(error.to_string()))
}

/// Stores a document and its files as a new revision and serves it; all or nothing. The same as
/// what is served already makes no new revision.
///
/// # Errors
/// What the database said.
pub async fn store_revision(
    store: &Store,
    document: &Document,
    bodies: &BTreeMap<Digest, Vec<u8>>,
    author: &str,
    note: &str,
    now: OffsetDateTime,
) -> Result<Stored, Error> {
    let text = text_of(document)?;
    let digest = Digest::of(text.as_bytes());
    let needed: BTreeSet<Digest> = document.files.values().map(|entry| entry.sha256).collect();
    let bodies: Vec<(Digest, Vec<u8>)> = bodies
        .iter()
        .filter(|(digest, _)| needed.contains(digest))
        .map(|(digest, body)| (*digest, body.clone()))
        .collect();
    let work = Arc::new((text, bodies, author.to_owned(), note.to_owned()));
    store
        .transaction("content-apply", move |connection| {
            let work = Arc::clone(&work);
            async move {
                let (text, bodies, author, note) = &*work;
                let before = served(connection).await?;
                if let Some(before) = &before
                    && before.digest == digest
                {
                    return Ok(Stored {
                        revision: before.id,
                        new: false,
                    });
                }
                for (digest, body) in bodies {
                    connection
                        .execute(
                            "INSERT INTO content_file (sha256, body) VALUES ($1, $2) \
                             ON CONFLICT (sha256) DO NOTHING",
                            params![&digest.0, body],
                        )
                        .await?;
                }
                let revision = insert(connection, text, digest, author, note, now).await?;
                let data = json!({
                    "revision": revision, "digest": digest.to_string(), "note": note,
                });
                let subject = format!("content:{revision}");
                register::record(connection, "content-applied", author, &subject, data, now)
                    .await?;
                Ok::<_, Error>(Stored {
                    revision,
                    new: true,
                })
            }
            .boxed()
        })
        .await
}

/// Serves what an old revision said, as a new one.
///
/// # Errors
/// There is no such revision, or what the database said.
pub async fn rollback(
    store: &Store,
    to: i64,
    author: &str,
    note: &str,
    now: OffsetDateTime,
) -> Result<Stored, Error> {
    let names = Arc::new((author.to_owned(), note.to_owned()));
    store
        .transaction("content-rollback", move |connection| {
            let names = Arc::clone(&names);
            async move {
                let (author, note) = &*names;
                let row = connection
                    .fetch_optional(
                        "SELECT digest, document FROM revision WHERE id = $1",
                        params![to],
                    )
                    .await?
                    .ok_or_else(|| Error::NotFound {
                        what: "revision",
                        name: to.to_string(),
                    })?;
                let digest = digest_column(&row)?;
                if let Some(before) = served(connection).await?
                    && before.digest == digest
                {
                    return Ok(Stored {
                        revision: before.id,
                        new: false,
                    });
                }
                let text = row.text("document")?;
                let revision = insert(connection, &text, digest, author, note, now).await?;
                let data = json!({
                    "revision": revision, "digest": digest.to_string(), "back_to": to, "note": note,
                });
                let subject = format!("content:{revision}");
                register::record(
                    connection,
                    "content-rolled-back",
                    author,
                    &subject,
                    data,
                    now,
                )
                .await?;
                Ok::<_, Error>(Stored {
                    revision,
                    new: true,
                })
            }
            .boxed()
        })
        .await
}

async fn insert(
    connection: &mut Connection,
    text: &str,
    digest: Digest,
    author: &str,
    note: &str,
    now: OffsetDateTime,
) -> Result<i64, Error> {
    let row = connection
        .fetch_one(
            "SELECT COALESCE(MAX(id), 0) + 1 AS next FROM revision",
            params![],
        )
        .await?;
    let revision = row.integer("next")?;
    connection
        .execute(
            "INSERT INTO revision (id, at_us, author, note, digest, document) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            params![revision, now, author, note, &digest.0, text],
        )
        .await?;
    // One statement makes it the one that is served.
    connection
        .execute(
            "UPDATE epoch SET value = value + 1, revision = $1 WHERE id = 1",
            params![revision],
        )
        .await?;
    Ok(revision)
}

fn digest_column(row: &Row) -> Result<Digest, Error> {
    Digest::from_slice(&row.bytes("digest")?).ok_or_else(|| {
        Error::Store(store::Error::Column {
            column: "digest".to_owned(),
            detail: "not a SHA-256 digest".to_owned(),
        })
    })
}

fn revision_of(row: &Row) -> Result<Revision, Error> {
    Ok(Revision {
        id: row.integer("id")?,
        at: row.time("at_us")?,
        author: row.text("author")?,
        note: row.text("note")?,
        digest: digest_column(row)?,
        served: row.integer("served")? == 1,
    })
}

const SELECT: &str = "SELECT revision.id, revision.at_us, revision.author, revision.note, \
     revision.digest, \
     CAST(CASE WHEN revision.id = epoch.revision THEN 1 ELSE 0 END AS BIGINT) AS served \
     FROM revision CROSS JOIN epoch WHERE epoch.id = 1";

/// The revision that is served.
///
/// # Errors
/// What the database said.
pub async fn served(connection: &mut Connection) -> Result<Option<Revision>, Error> {
    let sql = format!("{SELECT} AND revision.id = epoch.revision");
    let row = connection
        .fetch_optional(AssertSqlSafe(sql), params![])
        .await?;
    row.as_ref().map(revision_of).transpose()
}

/// The newest revisions, newest first.
///
/// # Errors
/// What the database said.
pub async fn history(store: &Store, limit: u32) -> Result<Vec<Revision>, Error> {
    let sql = format!("{SELECT} ORDER BY revision.id DESC LIMIT $1");
    let rows = store.fetch_all(AssertSqlSafe(sql), params![limit]).await?;
    rows.iter().map(revision_of).collect()
}

/// The document of a revision; nothing at all for revision 0, which is before the first.
///
/// # Errors
/// There is no such revision, this program does not know its form, or what the database said.
pub async fn document(store: &Store, revision: i64) -> Result<Document, Error> {
    if revision == 0 {
        return Ok(Document::empty());
    }
    let row = store
        .fetch_optional(
            "SELECT document FROM revision WHERE id = $1",
            params![revision],
        )
        .await?
        .ok_or_else(|| Error::NotFound {
            what: "revision",
            name: revision.to_string(),
        })?;
    let text = row.text("document")?;
    let unknown = |detail: String| {
        Error::Content(format!(
            "revision {revision} was written by another version of this program: {detail}"
        ))
    };
    let document: Document =
        serde_json::from_str(&text).map_err(|error| unknown(error.to_string()))?;
    if document.format != FORMAT {
        return Err(unknown(format!("form {}", document.format)));
    }
    Ok(document)
}

/// The octets of files.
///
/// # Errors
/// One is not there, or what the database said.
pub async fn bodies(
    store: &Store,
    wanted: &BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Vec<u8>>, Error> {
    let mut bodies = BTreeMap::new();
    let list: Vec<Digest> = wanted.iter().copied().collect();
    for part in list.chunks(FILES_PER_QUERY_MAX) {
        let marks: Vec<String> = (1..=part.len()).map(|index| format!("${index}")).collect();
        let sql = format!(
            "SELECT sha256 AS digest, body FROM content_file WHERE sha256 IN ({})",
            marks.join(", ")
        );
        let values = part.iter().map(|digest| Value::from(&digest.0)).collect();
        for row in store.fetch_all(AssertSqlSafe(sql), values).await? {
            bodies.insert(digest_column(&row)?, row.bytes("body")?);
        }
    }
    match wanted.iter().find(|digest| !bodies.contains_key(*digest)) {
        None => Ok(bodies),
        Some(missing) => Err(Error::NotFound {
            what: "content file",
            name: missing.to_string(),
        }),
    }
}

/// The number and epoch of what is served.
///
/// # Errors
/// What the database said.
pub async fn epoch(store: &Store) -> Result<(i64, i64), Error> {
    let row = store
        .fetch_optional("SELECT value, revision FROM epoch WHERE id = 1", params![])
        .await?
        .ok_or_else(|| Error::NotFound {
            what: "epoch",
            name: "1".to_owned(),
        })?;
    Ok((row.integer("value")?, row.integer("revision")?))
}
