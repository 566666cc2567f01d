//! The log for others: JSON lines, and the directory layout of C2SP tlog-tiles.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::merkle::{self, Hash};
use super::note::Checkpoint;
use super::{Error, Log, newest, signed};
use crate::{Connection, params};

/// Hashes in a full tile, entries in a full bundle.
const TILE_WIDTH: u64 = 256;

/// `N` of tlog-tiles: groups of three digits, all but the last with an `x`.
fn tile_index(mut index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    index /= 1000;
    while index > 0 {
        path = format!("x{:03}/{path}", index % 1000);
        index /= 1000;
    }
    path
}

fn tile_path(directory: &Path, kind: &str, index: u64, width: usize) -> PathBuf {
    let mut path = format!("tile/{kind}/{}", tile_index(index));
    if width < 256 {
        path.push_str(&format!(".p/{width}"));
    }
    directory.join(path)
}

fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::file(parent, error))?;
    }
    std::fs::write(path, content).map_err(|error| Error::file(path, error))
}

async fn page(
    snapshot: &mut Connection,
    first: u64,
    end: u64,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
    let rows = snapshot
        .fetch_all(
            "SELECT entry, leaf_hash FROM audit_entry \
             WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index",
            params![signed(first), signed(end)],
        )
        .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        entries.push((row.bytes("entry")?, row.bytes("leaf_hash")?));
    }
    if u64::try_from(entries.len()).ok() != Some(end - first) {
        return Err(Error::Tampered(format!(
            "rows {first} to {end} are not all there"
        )));
    }
    Ok(entries)
}

impl Log {
    /// Writes each entry of the newest checkpoint as one JSON line
    /// `{"index":…,"leaf_hash":…,"entry":…}`. Returns how many.
    ///
    /// # Errors
    /// When the database or the writer fails.
    pub async fn export_lines(&self, output: &mut (impl Write + Send)) -> Result<u64, Error> {
        let mut snapshot = self.store.snapshot().await?;
        let Some(note) = newest(&mut snapshot).await? else {
            return Ok(0);
        };
        let size = Checkpoint::open(&note, &self.key)?.size;
        let mut first = 0;
        while first < size {
            let end = (first + TILE_WIDTH * 4).min(size);
            for ((octets, leaf), index) in page(&mut snapshot, first, end)
                .await?
                .into_iter()
                .zip(first..)
            {
                let entry: serde_json::Value =
                    serde_json::from_slice(&octets).unwrap_or(serde_json::Value::Null);
                let line = serde_json::json!({
                    "index": index, "leaf_hash": hex::encode(leaf), "entry": entry,
                });
                writeln!(output, "{line}").map_err(|e| Error::file(Path::new("output"), e))?;
            }
            first = end;
        }
        Ok(size)
    }

    /// Writes the tree of the newest checkpoint as tlog-tiles lays it out: `checkpoint`,
    /// `tile/<L>/<N>` and `tile/entries/<N>`. Any static web server can serve the directory.
    ///
    /// # Errors
    /// When the database or a file fails, or the rows do not fit the checkpoint.
    pub async fn export_tiles(&self, directory: &Path) -> Result<u64, Error> {
        let mut snapshot = self.store.snapshot().await?;
        let Some(note) = newest(&mut snapshot).await? else {
            return Ok(0);
        };
        let checkpoint = Checkpoint::open(&note, &self.key)?;
        let mut frontier = merkle::Frontier::default();
        let mut level: Vec<Hash> = Vec::new();
        let mut first = 0;
        while first < checkpoint.size {
            let end = (first + TILE_WIDTH).min(checkpoint.size);
            let (mut bundle, mut tile, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
            for (octets, _) in page(&mut snapshot, first, end).await? {
                let length =
                    u16::try_from(octets.len()).map_err(|_| Error::EntryTooLarge(octets.len()))?;
                bundle.extend_from_slice(&length.to_be_bytes());
                bundle.extend_from_slice(&octets);
                let leaf = merkle::leaf_hash(&octets);
                tile.extend_from_slice(&leaf);
                frontier.push(leaf, |_| {});
                hashes.push(leaf);
            }
            let index = first / TILE_WIDTH;
            write(
                &tile_path(directory, "entries", index, hashes.len()),
                &bundle,
            )?;
            write(&tile_path(directory, "0", index, hashes.len()), &tile)?;
            level.push(merkle::complete_root(&hashes));
            first = end;
        }
        if frontier.root() != checkpoint.root {
            return Err(Error::Tampered(
                "the rows do not give the signed root".to_owned(),
            ));
        }
        let mut rest = checkpoint.size;
        // A partial tile is not hashed into the level above.
        let mut number = 0;
        loop {
            let full = usize::try_from(rest / TILE_WIDTH).unwrap_or(usize::MAX);
            level.truncate(full);
            rest /= TILE_WIDTH;
            number += 1;
            if level.is_empty() {
                break;
            }
            let mut above = Vec::new();
            for (hashes, index) in level.chunks(256).zip(0..) {
                let path = tile_path(directory, &number.to_string(), index, hashes.len());
                write(&path, &hashes.concat())?;
                above.push(merkle::complete_root(hashes));
            }
            level = above;
        }
        // The checkpoint comes last: who sees it finds its tiles.
        write(&directory.join("checkpoint"), note.as_bytes())?;
        Ok(checkpoint.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_paths() {
        assert_eq!(tile_index(0), "000");
        assert_eq!(tile_index(1_234_067), "x001/x234/067");
        assert_eq!(tile_index(1000), "x001/000");
        let path = tile_path(Path::new("d"), "0", 5, 112);
        assert_eq!(path, Path::new("d/tile/0/005.p/112"));
        let path = tile_path(Path::new("d"), "entries", 5, 256);
        assert_eq!(path, Path::new("d/tile/entries/005"));
    }
}
