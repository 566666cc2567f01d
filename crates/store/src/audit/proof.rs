//! Proofs that leave the house: inclusion in C2SP tlog-proof form, and consistency.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::merkle::{self, Hash};
use super::note::{Checkpoint, NoteKey};
use super::{Entry, Error, Log, head, newest, range_hash, signed, unsigned};
use crate::params;

const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof that is read: the largest entry in base64, 64 hashes and a checkpoint.
const PROOF_SIZE_MAX_BYTES: usize = 256 * 1024;

/// Proof that one entry is in the log, to be checked with nothing but the log's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The octets of the entry.
    pub octets: Vec<u8>,
    /// Its place in the tree.
    pub index: u64,
    /// Sibling hashes from the leaf up.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

impl std::fmt::Display for Inclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The extra data carries the entry itself, so that the proof needs no second file.
        writeln!(
            f,
            "{MAGIC}\nextra {}\nindex {}",
            STANDARD.encode(&self.octets),
            self.index
        )?;
        for hash in &self.hashes {
            writeln!(f, "{}", STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl Inclusion {
    /// Reads a proof. Nothing in it is proven before [`Inclusion::verify`].
    ///
    /// # Errors
    /// When the text is not a tlog-proof with the entry as its extra data.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Proof(why.to_owned());
        if text.len() > PROOF_SIZE_MAX_BYTES {
            return Err(bad("too long"));
        }
        let (proof, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| bad("no checkpoint"))?;
        let mut lines = proof.split('\n');
        if lines.next() != Some(MAGIC) {
            return Err(bad("not a tlog-proof of version 1"));
        }
        let octets = lines
            .next()
            .and_then(|line| line.strip_prefix("extra "))
            .and_then(|value| STANDARD.decode(value).ok())
            .ok_or_else(|| bad("no entry in the extra line"))?;
        let index_text = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .ok_or_else(|| bad("no index"))?;
        let index: u64 = index_text.parse().map_err(|_| bad("malformed index"))?;
        if index.to_string() != index_text {
            return Err(bad("malformed index"));
        }
        let hashes = lines
            .map(|line| {
                STANDARD
                    .decode(line)
                    .ok()
                    .and_then(|hash| Hash::try_from(hash).ok())
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| bad("malformed hash"))?;
        Ok(Self {
            octets,
            index,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Checks signature and path; what it returns is in the log that this key signs.
    ///
    /// # Errors
    /// When the checkpoint is not this key's or the path does not lead to its root.
    pub fn verify(&self, key: &NoteKey) -> Result<(Entry, Checkpoint), Error> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let leaf = merkle::leaf_hash(&self.octets);
        let (size, root) = (checkpoint.size, &checkpoint.root);
        if !merkle::verify_inclusion(&leaf, self.index, size, &self.hashes, root) {
            return Err(Error::Proof(
                "the path does not lead to the signed root".to_owned(),
            ));
        }
        let entry = Entry::decode(&self.octets)
            .ok_or_else(|| Error::Proof("the proven entry is not one of ours".to_owned()))?;
        Ok((entry, checkpoint))
    }
}

/// Whether a consistency proof shows that the newer checkpoint continues the older one.
///
/// # Errors
/// When a checkpoint is not this key's, or the newer one does not continue the older.
pub fn check_consistency(
    older: &str,
    newer: &str,
    proof: &[Hash],
    key: &NoteKey,
) -> Result<(Checkpoint, Checkpoint), Error> {
    let older = Checkpoint::open(older, key)?;
    let newer = Checkpoint::open(newer, key)?;
    if !merkle::verify_consistency(older.size, newer.size, proof, &older.root, &newer.root) {
        return Err(Error::Proof(
            "the newer checkpoint does not continue the older".to_owned(),
        ));
    }
    Ok((older, newer))
}

impl Log {
    /// Proves that the entry at this place is in the tree of the newest checkpoint.
    ///
    /// # Errors
    /// When there is no such sealed entry, or the rows do not fit the checkpoint.
    pub async fn prove(&self, index: u64) -> Result<Inclusion, Error> {
        let mut snapshot = self.store.snapshot().await?;
        let note = newest(&mut snapshot).await?.ok_or(Error::NoEntry(index))?;
        let checkpoint = Checkpoint::open(&note, &self.key)?;
        let ranges =
            merkle::inclusion_ranges(index, checkpoint.size).ok_or(Error::NoEntry(index))?;
        let row = snapshot
            .fetch_optional(
                "SELECT entry FROM audit_entry WHERE leaf_index = $1",
                params![signed(index)],
            )
            .await?
            .ok_or_else(|| Error::Tampered(format!("entry {index} is missing")))?;
        let octets = row.bytes("entry")?;
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            hashes.push(range_hash(&mut snapshot, range).await?);
        }
        let proof = Inclusion {
            octets,
            index,
            hashes,
            checkpoint: note,
        };
        // A proof that does not prove must not leave the house; it means that rows were changed.
        proof
            .verify(&self.key)
            .map_err(|error| Error::Tampered(error.to_string()))?;
        Ok(proof)
    }

    /// [`Log::prove`] by the number that [`super::append`] gave.
    ///
    /// # Errors
    /// As [`Log::prove`].
    pub async fn prove_row(&self, id: i64) -> Result<Inclusion, Error> {
        let row = self
            .store
            .fetch_optional(
                "SELECT leaf_index FROM audit_entry WHERE id = $1",
                params![id],
            )
            .await?;
        let index = row
            .map(|row| row.optional_integer("leaf_index"))
            .transpose()?
            .flatten();
        let index = index.ok_or_else(|| Error::NoEntry(u64::try_from(id).unwrap_or(0)))?;
        self.prove(unsigned(index, "the place")?).await
    }

    /// The hashes that show that the tree of size `new` continues the tree of size `old`.
    ///
    /// # Errors
    /// When the sizes are not those of this log.
    pub async fn prove_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        let mut snapshot = self.store.snapshot().await?;
        let size = head(&mut snapshot).await?.frontier.size();
        if new > size {
            return Err(Error::NoEntry(new));
        }
        let ranges = merkle::consistency_ranges(old, new)
            .ok_or_else(|| Error::Proof("the older size is larger".to_owned()))?;
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            hashes.push(range_hash(&mut snapshot, range).await?);
        }
        Ok(hashes)
    }
}
