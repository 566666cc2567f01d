//! What was sent and what came back, kept while a case runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};

/// Octets of one message that are kept; the rest is counted.
pub const MESSAGE_KEPT_MAX_BYTES: usize = 256 * 1024;
/// Messages of one case that are kept.
pub const ITEMS_MAX: usize = 400;

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From the suite to the implementation.
    Sent,
    /// From the implementation to the suite.
    Received,
    /// The suite's own remark.
    Note,
}

/// One message or remark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Milliseconds since the case began.
    pub ms: u64,
    /// Which way it went.
    pub way: Way,
    /// What it is.
    pub title: String,
    /// Its octets as hexadecimal, as far as they are kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hex: String,
    /// How many octets it has.
    #[serde(default)]
    pub length: usize,
    /// It, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub decoded: String,
}

/// Where a case writes what happened. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Recorder {
    begun: Instant,
    items: Arc<Mutex<Vec<Item>>>,
    /// A number that is this case's own, the same with the same `--seed`.
    pub seed: u64,
}

impl Recorder {
    /// An empty record.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            begun: Instant::now(),
            items: Arc::default(),
            seed,
        }
    }

    /// Something went to the implementation.
    pub fn sent(&self, title: impl Into<String>, bytes: &[u8], decoded: impl Into<String>) {
        self.add(Way::Sent, title.into(), bytes, decoded.into());
    }

    /// Something came from the implementation.
    pub fn received(&self, title: impl Into<String>, bytes: &[u8], decoded: impl Into<String>) {
        self.add(Way::Received, title.into(), bytes, decoded.into());
    }

    /// A remark, for example how a verdict was reached.
    pub fn note(&self, text: impl Into<String>) {
        self.add(Way::Note, text.into(), &[], String::new());
    }

    /// What happened in a run that several cases look at.
    pub fn adopt(&self, items: &[Item]) {
        let mut own = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let room = ITEMS_MAX.saturating_sub(own.len());
        own.extend(items.iter().take(room).cloned());
    }

    fn add(&self, way: Way, title: String, bytes: &[u8], decoded: String) {
        let kept = bytes.get(..MESSAGE_KEPT_MAX_BYTES).unwrap_or(bytes);
        let item = Item {
            ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            way,
            title,
            hex: hex::encode(kept),
            length: bytes.len(),
            decoded,
        };
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.len() < ITEMS_MAX {
            items.push(item);
        }
    }

    /// Everything so far.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        self.items
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
