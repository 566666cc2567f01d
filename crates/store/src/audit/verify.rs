//! Reading the whole log again and comparing it with everything that was signed.

use std::collections::BTreeMap;

use super::merkle::{self, Frontier, Hash};
use super::note::Checkpoint;
use super::{Entry, Error, Log, TILE_HEIGHT, head, signed};
use crate::{Row, micros, params};

/// Rows that are read at once.
const PAGE: i64 = 2048;
/// Problems that are listed; one flipped bit can spoil many hashes.
const PROBLEMS_MAX: usize = 100;

/// One thing that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Stable code.
    pub code: &'static str,
    /// Place in the tree, if the problem has one.
    pub index: Option<u64>,
    /// What was found.
    pub detail: String,
}

/// What [`Log::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// True if nothing is wrong.
    pub ok: bool,
    /// Entries in the tree.
    pub size: u64,
    /// Root of the tree, recomputed, in hex.
    pub root: String,
    /// Entries that wait for their place.
    pub pending: u64,
    /// Size of the newest checkpoint that fits.
    pub sealed_size: u64,
    /// Checkpoints that were compared.
    pub checkpoints: u64,
    /// Checkpoints among them that were kept outside the database. Without one, a log that was set
    /// back or emptied whole looks like one that never grew.
    pub kept_elsewhere: u64,
    /// What is wrong, the first hundred.
    pub problems: Vec<Problem>,
}

struct Check {
    frontier: Frontier,
    problems: Vec<Problem>,
    roots: BTreeMap<u64, Option<Hash>>,
    nodes: Vec<(i64, i64, Hash)>,
}

impl Check {
    fn problem(&mut self, code: &'static str, index: Option<u64>, detail: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem {
                code,
                index,
                detail: detail.into(),
            });
        }
    }

    fn remember(&mut self) {
        let root = self.frontier.root();
        if let Some(slot) = self.roots.get_mut(&self.frontier.size()) {
            *slot = Some(root);
        }
    }

    /// Compares one row with its own hash and its columns with its content.
    fn row(&mut self, row: &Row, index: Option<u64>) -> Result<(), Error> {
        let octets = row.bytes("entry")?;
        let leaf = merkle::leaf_hash(&octets);
        if row.bytes("leaf_hash")? != leaf {
            self.problem(
                "audit.row-altered",
                index,
                "the entry does not have its leaf hash",
            );
        }
        let same = Entry::decode(&octets).is_some_and(|entry| {
            let column = |name| row.text(name).unwrap_or_default();
            entry.kind == column("kind")
                && entry.actor == column("actor")
                && entry.subject == column("subject")
                && row.integer("at_us").is_ok_and(|at| at == micros(entry.at))
        });
        if !same {
            self.problem(
                "audit.row-altered",
                index,
                "the columns differ from the entry",
            );
        }
        if index.is_some() {
            let nodes = &mut self.nodes;
            self.frontier.push(leaf, |node| {
                if node.height > 0 && node.height % TILE_HEIGHT == 0 {
                    let level = i64::from(node.height / TILE_HEIGHT);
                    nodes.push((level, signed(node.index), node.hash));
                }
            });
            self.remember();
        }
        Ok(())
    }
}

impl Log {
    /// Reads every row and compares rows, kept nodes, head and checkpoints with each other.
    /// `trusted` are checkpoints kept elsewhere; the anchor file is one of them without being
    /// asked for. `progress` hears how many rows were read.
    ///
    /// # Errors
    /// When the database fails. What was tampered with is in the verdict.
    pub async fn verify(
        &self,
        trusted: &[String],
        mut progress: impl FnMut(u64),
    ) -> Result<Verdict, Error> {
        let mut snapshot = self.store.snapshot().await?;
        let mut check = Check {
            frontier: Frontier::default(),
            problems: Vec::new(),
            roots: BTreeMap::new(),
            nodes: Vec::new(),
        };

        // What was signed: the checkpoints in the database and those remembered elsewhere.
        let rows = snapshot
            .fetch_all(
                "SELECT size, root, note FROM audit_checkpoint ORDER BY size",
                params![],
            )
            .await?;
        let mut signed_heads: Vec<(Checkpoint, &'static str)> = Vec::new();
        for row in &rows {
            let size = u64::try_from(row.integer("size")?).unwrap_or(0);
            match Checkpoint::open(&row.text("note")?, &self.key) {
                Ok(checkpoint)
                    if checkpoint.size == size && row.bytes("root")? == checkpoint.root =>
                {
                    signed_heads.push((checkpoint, "audit.checkpoint-mismatch"));
                }
                Ok(_) => check.problem(
                    "audit.checkpoint-forged",
                    None,
                    format!("the checkpoint stored for size {size} says something else"),
                ),
                Err(error) => {
                    check.problem(
                        "audit.checkpoint-forged",
                        None,
                        format!("size {size}: {error}"),
                    );
                }
            }
        }
        let anchored = match &self.anchor {
            Some(path) => match std::fs::read_to_string(path) {
                Ok(note) => vec![note],
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(Error::file(path, error)),
            },
            None => Vec::new(),
        };
        let kept_elsewhere = u64::try_from(trusted.len() + anchored.len()).unwrap_or(u64::MAX);
        for note in trusted.iter().chain(&anchored) {
            match Checkpoint::open(note, &self.key) {
                Ok(checkpoint) => signed_heads.push((checkpoint, "audit.rewound")),
                Err(error) => check.problem(
                    "audit.checkpoint-forged",
                    None,
                    format!("a trusted checkpoint: {error}"),
                ),
            }
        }
        for (checkpoint, _) in &signed_heads {
            check.roots.insert(checkpoint.size, None);
        }
        check.remember();

        // The rows.
        let mut next = 0_i64;
        loop {
            let rows = snapshot
                .fetch_all(
                    "SELECT leaf_index, at_us, kind, actor, subject, entry, leaf_hash \
                     FROM audit_entry WHERE leaf_index >= $1 ORDER BY leaf_index LIMIT $2",
                    params![next, PAGE],
                )
                .await?;
            for row in &rows {
                let index = row.integer("leaf_index")?;
                if index != next {
                    let at = u64::try_from(next).ok();
                    check.problem("audit.row-missing", at, format!("rows {next} to {index}"));
                }
                check.row(row, u64::try_from(index).ok())?;
                next = index + 1;
            }
            progress(check.frontier.size());
            if i64::try_from(rows.len()).unwrap_or(0) < PAGE {
                break;
            }
        }

        self.compare_nodes(&mut snapshot, &mut check).await?;
        let head = head(&mut snapshot).await;
        let size = check.frontier.size();
        match &head {
            Ok(head) if head.frontier == check.frontier => {}
            Ok(head) => check.problem(
                "audit.head-altered",
                None,
                format!(
                    "the head tells of {} rows, there are {size}",
                    head.frontier.size()
                ),
            ),
            Err(error) => check.problem("audit.head-altered", None, error.to_string()),
        }
        let newest = rows_newest(&signed_heads);
        if let Ok(head) = &head
            && head.sealed_size != newest
        {
            check.problem(
                "audit.checkpoint-missing",
                None,
                format!(
                    "{} rows were sealed, the newest checkpoint has {newest}",
                    head.sealed_size
                ),
            );
        }

        // Everything that was signed must be what the rows give now.
        let mut sealed_size = 0;
        for (checkpoint, code) in &signed_heads {
            match check.roots.get(&checkpoint.size).copied().flatten() {
                Some(root) if root == checkpoint.root => {
                    sealed_size = sealed_size.max(checkpoint.size);
                }
                Some(_) => check.problem(
                    code,
                    None,
                    format!(
                        "the first {} rows are not the ones that were signed",
                        checkpoint.size
                    ),
                ),
                None => check.problem(
                    code,
                    None,
                    format!("{} rows were signed, {size} are left", checkpoint.size),
                ),
            }
        }

        let pending = self.compare_pending(&mut snapshot, &mut check).await?;
        Ok(Verdict {
            kept_elsewhere,
            ok: check.problems.is_empty(),
            size,
            root: hex::encode(check.frontier.root()),
            pending,
            sealed_size,
            checkpoints: u64::try_from(signed_heads.len()).unwrap_or(u64::MAX),
            problems: check.problems,
        })
    }

    async fn compare_nodes(
        &self,
        snapshot: &mut crate::Connection,
        check: &mut Check,
    ) -> Result<(), Error> {
        let mut nodes = std::mem::take(&mut check.nodes);
        nodes.sort_unstable();
        let rows = snapshot
            .fetch_all(
                "SELECT level, node_index, hash FROM audit_node ORDER BY level, node_index",
                params![],
            )
            .await?;
        let mut kept = Vec::with_capacity(rows.len());
        for row in &rows {
            kept.push((
                row.integer("level")?,
                row.integer("node_index")?,
                row.bytes("hash")?,
            ));
        }
        let same = kept.len() == nodes.len()
            && kept
                .iter()
                .zip(&nodes)
                .all(|(a, b)| a.0 == b.0 && a.1 == b.1 && a.2 == b.2);
        if !same {
            check.problem(
                "audit.node-altered",
                None,
                "the kept nodes of the tree do not fit it",
            );
        }
        Ok(())
    }

    async fn compare_pending(
        &self,
        snapshot: &mut crate::Connection,
        check: &mut Check,
    ) -> Result<u64, Error> {
        let (mut after, mut pending) = (i64::MIN, 0);
        loop {
            let rows = snapshot
                .fetch_all(
                    "SELECT id, at_us, kind, actor, subject, entry, leaf_hash FROM audit_entry \
                     WHERE leaf_index IS NULL AND id > $1 ORDER BY id LIMIT $2",
                    params![after, PAGE],
                )
                .await?;
            for row in &rows {
                check.row(row, None)?;
                after = row.integer("id")?;
                pending += 1;
            }
            if i64::try_from(rows.len()).unwrap_or(0) < PAGE {
                return Ok(pending);
            }
        }
    }
}

/// Size of the newest checkpoint that the database itself holds.
fn rows_newest(heads: &[(Checkpoint, &'static str)]) -> u64 {
    heads
        .iter()
        .filter(|(_, code)| *code == "audit.checkpoint-mismatch")
        .map(|(checkpoint, _)| checkpoint.size)
        .max()
        .unwrap_or(0)
}
