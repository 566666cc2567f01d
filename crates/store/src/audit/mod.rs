//! The audit log: append-only rows in a Merkle tree with signed checkpoints.
//!
//! An entry is a row written by [`append`] in the transaction of the decision it tells about. It
//! has no place in the tree yet, so replicas over one PostgreSQL do not queue for it. [`Log::seal`]
//! gives pending rows their places, one sealer at a time (the head row is the lock), and signs a
//! checkpoint over the new tree. From then on a changed, dropped, inserted or reordered row is
//! found by [`Log::verify`], and [`Log::prove`] writes a proof that anyone with the public key can
//! check offline.
//!
//! Formats: RFC 6962 hashing, C2SP
//! [signed-note](https://c2sp.org/signed-note), [tlog-checkpoint](https://c2sp.org/tlog-checkpoint),
//! [tlog-tiles](https://c2sp.org/tlog-tiles) and [tlog-proof](https://c2sp.org/tlog-proof).
//!
//! What it cannot see: a row dropped before it was sealed (seal often), and a database put back
//! whole to an earlier state together with everything that remembers a later one. The anchor file
//! of [`Log::with_anchor`], or any checkpoint kept elsewhere, finds the second.

mod export;
pub mod merkle;
mod note;
mod proof;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use pki::Signer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{Connection, Row, Store, micros, params};
use merkle::{Completed, Frontier, Hash};

pub use note::{Checkpoint, NoteKey};
pub use proof::{Inclusion, check_consistency};
pub use verify::{Problem, Verdict};

pub(crate) const SCHEMA: &str = "\
CREATE TABLE audit_entry (
  id {identity},
  leaf_index BIGINT UNIQUE,
  at_us BIGINT NOT NULL,
  kind TEXT NOT NULL,
  actor TEXT NOT NULL,
  subject TEXT NOT NULL,
  entry {blob} NOT NULL,
  leaf_hash {blob} NOT NULL
);
CREATE INDEX audit_entry_subject ON audit_entry (subject, id);
CREATE INDEX audit_entry_pending ON audit_entry (id) WHERE leaf_index IS NULL;
CREATE TABLE audit_node (
  level BIGINT NOT NULL,
  node_index BIGINT NOT NULL,
  hash {blob} NOT NULL,
  PRIMARY KEY (level, node_index)
);
CREATE TABLE audit_head (
  id BIGINT PRIMARY KEY,
  size BIGINT NOT NULL,
  frontier {blob} NOT NULL,
  sealed_size BIGINT NOT NULL,
  touched BIGINT NOT NULL
);
CREATE TABLE audit_checkpoint (
  size BIGINT PRIMARY KEY,
  root {blob} NOT NULL,
  at_us BIGINT NOT NULL,
  note TEXT NOT NULL
);
";

/// Largest encoded entry: tlog-tiles has 16 bits for its length.
pub const ENTRY_SIZE_MAX_BYTES: usize = 65_535;
/// Pending rows that one transaction gives places to.
const SEQUENCE_MAX: i64 = 4096;
/// Height of a tile; every 8th level of the tree is kept.
const TILE_HEIGHT: u32 = 8;

/// Why the audit log refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] crate::Error),
    /// The entry is longer than the format allows.
    #[error("an audit entry of {0} octets is longer than {ENTRY_SIZE_MAX_BYTES}")]
    EntryTooLarge(usize),
    /// The key cannot sign or verify this log.
    #[error("audit key: {0}")]
    Key(String),
    /// A checkpoint is malformed or not signed by the log's key.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// The rows do not fit what was signed before; nothing more is signed.
    #[error("the audit log was tampered with: {0}")]
    Tampered(String),
    /// The log has no such entry, or it is not sealed yet.
    #[error("no sealed audit entry {0}")]
    NoEntry(u64),
    /// A proof is malformed or does not prove.
    #[error("proof: {0}")]
    Proof(String),
    /// A file could not be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Stable code for logs, metrics and documentation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::EntryTooLarge(_) => "audit.entry-too-large",
            Self::Key(_) => "audit.key",
            Self::Checkpoint(_) => "audit.checkpoint-forged",
            Self::Tampered(_) => "audit.tampered",
            Self::NoEntry(_) => "audit.no-entry",
            Self::Proof(_) => "audit.proof-invalid",
            Self::File { .. } => "audit.file",
        }
    }

    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

impl pki::Coded for Error {
    fn code(&self) -> &'static str {
        self.code()
    }

    fn blame(&self) -> pki::Blame {
        match self {
            Self::Store(error) => error.blame(),
            Self::Key(_) | Self::NoEntry(_) | Self::EntryTooLarge(_) => pki::Blame::Caller,
            Self::Checkpoint(_) | Self::Tampered(_) | Self::Proof(_) => pki::Blame::PeerMisbehaved,
            Self::File { .. } => pki::Blame::Ours,
        }
    }
}

/// What the audit log remembers of one decision.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    /// When it was decided; kept to the microsecond.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What was decided, such as `voucher-issued`.
    pub kind: String,
    /// Who asked: a domain, an operator.
    pub actor: String,
    /// What it is about, such as a device.
    pub subject: String,
    /// The rest.
    pub data: serde_json::Value,
}

impl Entry {
    /// The octets that go into the tree.
    ///
    /// # Errors
    /// When they are more than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let whole = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros(self.at)) * 1_000)
            .unwrap_or(self.at);
        // An OffsetDateTime between the years 0 and 9999 always has an RFC 3339 form.
        let at = whole.format(&Rfc3339).unwrap_or_default();
        let json = serde_json::json!({
            "at": at, "kind": self.kind, "actor": self.actor, "subject": self.subject,
            "data": self.data,
        });
        let octets = json.to_string().into_bytes();
        if octets.len() > ENTRY_SIZE_MAX_BYTES {
            return Err(Error::EntryTooLarge(octets.len()));
        }
        Ok(octets)
    }

    /// Reads what [`Entry::encode`] wrote.
    #[must_use]
    pub fn decode(octets: &[u8]) -> Option<Self> {
        serde_json::from_slice(octets).ok()
    }
}

/// Appends an entry in the decision's own transaction and gives its number.
///
/// # Errors
/// When the entry is too large or the database fails.
pub async fn append(transaction: &mut Connection, entry: &Entry) -> Result<i64, Error> {
    let octets = entry.encode()?;
    let leaf = merkle::leaf_hash(&octets);
    let row = transaction
        .fetch_one(
            "INSERT INTO audit_entry (at_us, kind, actor, subject, entry, leaf_hash) \
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            params![
                entry.at,
                &entry.kind,
                &entry.actor,
                &entry.subject,
                octets,
                leaf
            ],
        )
        .await?;
    Ok(row.integer("id")?)
}

/// An entry as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Number of the row.
    pub id: i64,
    /// Place in the tree; `None` until it is sealed.
    pub index: Option<u64>,
    /// The octets in the tree.
    pub octets: Vec<u8>,
    /// The stored leaf hash.
    pub leaf_hash: Vec<u8>,
}

/// Which entries [`list`] gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only entries about this.
    pub subject: Option<String>,
    /// Only entries with a number above this.
    pub after: i64,
    /// At most so many.
    pub limit: i64,
}

fn recorded(row: &Row) -> Result<Recorded, Error> {
    Ok(Recorded {
        id: row.integer("id")?,
        index: row
            .optional_integer("leaf_index")?
            .map(|index| u64::try_from(index).unwrap_or(0)),
        octets: row.bytes("entry")?,
        leaf_hash: row.bytes("leaf_hash")?,
    })
}

/// Entries in the order of their numbers.
///
/// # Errors
/// What the database said.
pub async fn list(store: &Store, filter: &Filter) -> Result<Vec<Recorded>, Error> {
    const COLUMNS: &str = "SELECT id, leaf_index, entry, leaf_hash FROM audit_entry WHERE id > $1 ";
    let rows = match &filter.subject {
        Some(subject) => {
            let sql = format!("{COLUMNS} AND subject = $3 ORDER BY id LIMIT $2");
            let params = params![filter.after, filter.limit, subject];
            store.fetch_all(crate::AssertSqlSafe(sql), params).await?
        }
        None => {
            let sql = format!("{COLUMNS} ORDER BY id LIMIT $2");
            store
                .fetch_all(
                    crate::AssertSqlSafe(sql),
                    params![filter.after, filter.limit],
                )
                .await?
        }
    };
    rows.iter().map(recorded).collect()
}

/// A log: its rows, its name and the key that signs it.
#[derive(Clone)]
pub struct Log {
    store: Store,
    signer: Option<Arc<dyn Signer>>,
    key: NoteKey,
    anchor: Option<PathBuf>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("key", &self.key.to_string())
            .finish_non_exhaustive()
    }
}

/// The tree as the head row describes it.
struct Head {
    frontier: Frontier,
    sealed_size: u64,
}

fn unsigned(value: i64, what: &str) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::Tampered(format!("{what} is negative")))
}

fn signed(value: u64) -> i64 {
    // A tree beyond 2^63 leaves is not reachable.
    i64::try_from(value).unwrap_or(i64::MAX)
}

async fn head(connection: &mut Connection) -> Result<Head, Error> {
    let row = connection
        .fetch_optional(
            "SELECT size, frontier, sealed_size FROM audit_head WHERE id = 1",
            params![],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Head {
            frontier: Frontier::default(),
            sealed_size: 0,
        });
    };
    let size = unsigned(row.integer("size")?, "the size")?;
    let frontier = Frontier::from_parts(size, &row.bytes("frontier")?)
        .ok_or_else(|| Error::Tampered("the head row does not fit its size".to_owned()))?;
    let sealed_size = unsigned(row.integer("sealed_size")?, "the sealed size")?;
    Ok(Head {
        frontier,
        sealed_size,
    })
}

/// The newest checkpoint's note.
async fn newest(connection: &mut Connection) -> Result<Option<String>, Error> {
    let row = connection
        .fetch_optional(
            "SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1",
            params![],
        )
        .await?;
    Ok(row.map(|row| row.text("note")).transpose()?)
}

/// Gives places to pending rows; true if more wait.
async fn sequence(connection: &mut Connection) -> Result<bool, Error> {
    connection
        .execute(
            "INSERT INTO audit_head (id, size, frontier, sealed_size, touched) \
             VALUES (1, 0, $1, 0, 0) ON CONFLICT (id) DO NOTHING",
            params![Vec::<u8>::new()],
        )
        .await?;
    // The lock: a second sealer waits here and then sees what the first one did.
    connection
        .execute(
            "UPDATE audit_head SET touched = touched + 1 WHERE id = 1",
            params![],
        )
        .await?;
    let Head { mut frontier, .. } = head(connection).await?;
    let rows = connection
        .fetch_all(
            "UPDATE audit_entry SET leaf_index = placed.place + $1 \
             FROM (SELECT id AS pending_id, ROW_NUMBER() OVER (ORDER BY id) - 1 AS place \
                   FROM audit_entry WHERE leaf_index IS NULL ORDER BY id LIMIT $2) AS placed \
             WHERE audit_entry.id = placed.pending_id \
             RETURNING leaf_index, leaf_hash",
            params![signed(frontier.size()), SEQUENCE_MAX],
        )
        .await?;
    let more = i64::try_from(rows.len()).unwrap_or(0) == SEQUENCE_MAX;
    let mut leaves = Vec::with_capacity(rows.len());
    for row in &rows {
        leaves.push((row.integer("leaf_index")?, row.bytes("leaf_hash")?));
    }
    leaves.sort();
    let mut nodes: Vec<Completed> = Vec::new();
    for (index, leaf) in leaves {
        if index != signed(frontier.size()) {
            return Err(Error::Tampered(format!("leaf {index} is out of order")));
        }
        let leaf: Hash = leaf
            .try_into()
            .map_err(|_| Error::Tampered(format!("leaf {index} has no SHA-256 hash")))?;
        frontier.push(leaf, |node| {
            if node.height > 0 && node.height % TILE_HEIGHT == 0 {
                nodes.push(node);
            }
        });
    }
    for node in nodes {
        connection
            .execute(
                "INSERT INTO audit_node (level, node_index, hash) VALUES ($1, $2, $3)",
                params![
                    i64::from(node.height / TILE_HEIGHT),
                    signed(node.index),
                    node.hash
                ],
            )
            .await?;
    }
    connection
        .execute(
            "UPDATE audit_head SET size = $1, frontier = $2 WHERE id = 1",
            params![signed(frontier.size()), frontier.to_bytes()],
        )
        .await?;
    Ok(more)
}

/// Hash of a range of leaves, from the kept levels of the tree.
async fn range_hash(
    connection: &mut Connection,
    range: std::ops::Range<u64>,
) -> Result<Hash, Error> {
    let mut parts = Vec::new();
    for (height, index) in merkle::subtrees(range) {
        let level = height / TILE_HEIGHT;
        let spread = height % TILE_HEIGHT;
        let first = signed(index << spread);
        let width = 1_i64 << spread;
        let rows = if level == 0 {
            connection
                .fetch_all(
                    "SELECT leaf_hash AS hash FROM audit_entry \
                     WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index",
                    params![first, first + width],
                )
                .await?
        } else {
            connection
                .fetch_all(
                    "SELECT hash FROM audit_node \
                     WHERE level = $3 AND node_index >= $1 AND node_index < $2 ORDER BY node_index",
                    params![first, first + width, i64::from(level)],
                )
                .await?
        };
        if i64::try_from(rows.len()).unwrap_or(0) != width {
            return Err(Error::Tampered(format!(
                "nodes are missing at level {level}"
            )));
        }
        let mut hashes: Vec<Hash> = Vec::with_capacity(rows.len());
        for row in &rows {
            let hash = row.bytes("hash")?.try_into();
            hashes.push(hash.map_err(|_| Error::Tampered("a hash has a wrong size".to_owned()))?);
        }
        parts.push(merkle::complete_root(&hashes));
    }
    Ok(merkle::fold(&parts))
}

impl Log {
    /// A log with this origin, signed by an Ed25519 key that signs nothing else.
    ///
    /// # Errors
    /// When the key is of another kind or the origin cannot name a key.
    pub fn new(store: Store, origin: &str, signer: Arc<dyn Signer>) -> Result<Self, Error> {
        let key = NoteKey::of(origin, signer.as_ref())?;
        Ok(Self {
            store,
            signer: Some(signer),
            key,
            anchor: None,
        })
    }

    /// A log that can be read and verified with the public key alone, and not sealed.
    #[must_use]
    pub const fn reader(store: Store, key: NoteKey) -> Self {
        Self {
            store,
            signer: None,
            key,
            anchor: None,
        }
    }

    /// Keeps the newest checkpoint also in this file, outside the database, and signs nothing that
    /// does not continue it.
    #[must_use]
    pub fn with_anchor(mut self, path: PathBuf) -> Self {
        self.anchor = Some(path);
        self
    }

    /// The public key that verifies this log.
    #[must_use]
    pub const fn key(&self) -> &NoteKey {
        &self.key
    }

    fn anchored(&self) -> Result<Option<Checkpoint>, Error> {
        let Some(path) = &self.anchor else {
            return Ok(None);
        };
        match std::fs::read_to_string(path) {
            Ok(note) => Checkpoint::open(&note, &self.key).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(path, error)),
        }
    }

    /// Gives pending rows their places and signs a checkpoint if the tree has grown. Returns the
    /// newest checkpoint's note, if the log has entries at all.
    ///
    /// # Errors
    /// When the database or the key fails, or the rows do not continue what was signed before.
    pub async fn seal(&self, now: OffsetDateTime) -> Result<Option<String>, Error> {
        let Some(signer) = &self.signer else {
            return Err(Error::Key("sealing needs the private key".to_owned()));
        };
        while self
            .store
            .locking_transaction("audit-sequence", |connection| sequence(connection).boxed())
            .await?
        {}
        let mut snapshot = self.store.snapshot().await?;
        let head = head(&mut snapshot).await?;
        let last = newest(&mut snapshot).await?;
        let size = head.frontier.size();
        if size == 0 && last.is_none() && self.anchored()?.is_none() {
            return Ok(None);
        }
        let mut known = Vec::new();
        if let Some(note) = &last {
            known.push(Checkpoint::open(note, &self.key)?);
        }
        known.extend(self.anchored()?);
        // A log must not sign a checkpoint that does not continue each one it signed before.
        for old in &known {
            if old.size > size {
                return Err(Error::Tampered(format!(
                    "{} entries were sealed, only {size} are left",
                    old.size
                )));
            }
            if range_hash(&mut snapshot, 0..old.size).await? != old.root {
                return Err(Error::Tampered(format!(
                    "the first {} entries changed",
                    old.size
                )));
            }
        }
        if let (Some(note), Some(newest)) = (&last, known.first())
            && newest.size == size
        {
            return Ok(Some(note.clone()));
        }
        let root = head.frontier.root();
        if range_hash(&mut snapshot, 0..size).await? != root {
            return Err(Error::Tampered(
                "the head row does not fit the rows".to_owned(),
            ));
        }
        drop(snapshot);
        let checkpoint = Checkpoint {
            origin: self.key.name().to_owned(),
            size,
            root,
        };
        let note = checkpoint.sign(signer.as_ref())?;
        let kept = note.clone();
        self.store
            .locking_transaction("audit-checkpoint", move |connection| {
                let note = kept.clone();
                async move {
                    connection
                        .execute(
                            "UPDATE audit_head SET sealed_size = $1 \
                             WHERE id = 1 AND sealed_size < $1",
                            params![signed(size)],
                        )
                        .await?;
                    connection
                        .execute(
                            "INSERT INTO audit_checkpoint (size, root, at_us, note) \
                             VALUES ($1, $2, $3, $4) ON CONFLICT (size) DO NOTHING",
                            params![signed(size), root, now, note],
                        )
                        .await?;
                    Ok::<_, crate::Error>(())
                }
                .boxed()
            })
            .await?;
        if let Some(path) = &self.anchor {
            write_whole(path, note.as_bytes())?;
        }
        Ok(Some(note))
    }

    /// The newest checkpoint's note.
    ///
    /// # Errors
    /// What the database said.
    pub async fn checkpoint(&self) -> Result<Option<String>, Error> {
        newest(&mut *self.store.snapshot().await?).await
    }
}

/// Writes a file so that a reader sees the old content or the new, never a part.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    // A server and a command, or two tasks of one, may seal at the same time.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}-{number}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| Error::file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_write_a_file_at_once_do_not_take_it_from_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.checkpoint");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..100 {
                        write_whole(path, &[b'a' + writer; 1000]).unwrap();
                    }
                });
            }
        });
        let content = std::fs::read(&path).unwrap();
        assert!(content.len() == 1000 && content.iter().all(|byte| *byte == content[0]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
