//! Finding a device in the register, cheaply and never stale.
//!
//! Requests that wait at the same moment share one look at the database: it reads the epoch, and
//! only devices that are not known from the same epoch are read again. So a change by an operator
//! holds for every request that comes after its commit, and many requests of known devices cost
//! one small query together.

use std::collections::HashMap;
use std::sync::Arc;

use store::{AssertSqlSafe, Snapshot, Store, Value, params};
use tokio::sync::{mpsc, oneshot};

use super::Found;
use crate::Error;
use crate::register::{DEVICE_COLUMNS, device_by_id, device_of};

/// Requests that share one look.
const BATCH_MAX: usize = 256;
/// Requests that wait; more wait for a place to wait.
const QUEUE_LENGTH_MAX: usize = 8192;
/// Devices that are kept in memory; when there are more, all are forgotten.
const KEPT_MAX: usize = 32_768;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A device that proved its manufacturer.
    Proven {
        /// The manufacturer.
        vendor: String,
        /// The serial number.
        serial: String,
    },
    /// A device that gave a serial number only.
    Named(String),
}

/// What was found: the device, the fact that there is none, or that there are several.
pub(super) type Answer = Result<Option<Arc<Found>>, Error>;

struct Question {
    key: Key,
    answer: oneshot::Sender<Answer>,
}

/// Finds devices. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    sender: mpsc::Sender<Question>,
}

impl Lookup {
    /// Starts the task that looks.
    pub(super) fn start(store: Store) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        let task = Task {
            store,
            receiver,
            epoch: (-1, -1),
            known: HashMap::new(),
        };
        tokio::spawn(task.run());
        Self { sender }
    }

    /// The device, if there is exactly one.
    pub(super) async fn find(&self, key: Key) -> Answer {
        let (answer, wait) = oneshot::channel();
        if self.sender.send(Question { key, answer }).await.is_err() {
            return Err(store::Error::Closed.into());
        }
        wait.await
            .unwrap_or_else(|_| Err(store::Error::Closed.into()))
    }
}

struct Task {
    store: Store,
    receiver: mpsc::Receiver<Question>,
    epoch: (i64, i64),
    known: HashMap<Key, Arc<Found>>,
}

impl Task {
    async fn run(mut self) {
        let mut questions = Vec::new();
        while self.receiver.recv_many(&mut questions, BATCH_MAX).await > 0 {
            let batch = std::mem::take(&mut questions);
            match self.look(&batch).await {
                Ok(()) => {
                    for question in batch {
                        let found = self.known.get(&question.key).cloned();
                        // Whoever asked may be gone.
                        let _ = question.answer.send(Ok(found));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "devices cannot be looked up");
                    for question in batch {
                        let copy = store::Error::Database(error.to_string());
                        let _ = question.answer.send(Err(copy.into()));
                    }
                }
            }
            if self.known.len() >= KEPT_MAX {
                self.known.clear();
            }
        }
    }

    /// Makes sure that what is known of the devices asked for is of this moment.
    async fn look(&mut self, batch: &[Question]) -> Result<(), Error> {
        // The epoch is read first: a device that is newer than it is only read again the next time.
        let mut reader = self.store.reader().await?;
        let row = reader
            .fetch_one("SELECT value, revision FROM epoch WHERE id = 1", params![])
            .await?;
        let epoch = (row.integer("value")?, row.integer("revision")?);
        if epoch != self.epoch {
            self.known.clear();
            self.epoch = epoch;
        }
        let mut proven = Vec::new();
        for question in batch {
            if self.known.contains_key(&question.key) {
                continue;
            }
            match &question.key {
                Key::Proven { .. } => proven.push(question.key.clone()),
                Key::Named(serial) => {
                    if let Some(found) = self.named(&mut reader, serial).await? {
                        self.known.insert(question.key.clone(), found);
                    }
                }
            }
        }
        for keys in crate::timeline::parts(&proven) {
            self.proven(&mut reader, keys).await?;
        }
        Ok(())
    }

    async fn proven(&mut self, reader: &mut Snapshot, keys: &[Key]) -> Result<(), Error> {
        let mut sql = String::from("WITH wanted (v, s) AS (VALUES ");
        let mut values: Vec<Value> = Vec::with_capacity(keys.len() * 2);
        for key in keys {
            let Key::Proven { vendor, serial } = key else {
                continue;
            };
            let at = values.len();
            let comma = if at == 0 { "" } else { ", " };
            sql.push_str(&format!("{comma}(${}, ${})", at + 1, at + 2));
            values.extend(params![vendor, serial.replace('\0', "\u{fffd}")]);
        }
        sql.push_str(&format!(
            ") SELECT {DEVICE_COLUMNS} FROM wanted CROSS JOIN device \
             WHERE device.vendor = wanted.v AND device.serial = wanted.s"
        ));
        let rows = reader.fetch_all(AssertSqlSafe(sql), values).await?;
        for row in &rows {
            let device = device_of(row)?;
            let key = Key::Proven {
                vendor: device.vendor.clone(),
                serial: device.serial.clone(),
            };
            let device = match device.alias_of {
                // A second serial number of a device gets that device's data.
                Some(other) => match device_by_id(reader, other).await? {
                    Some(device) => device,
                    None => continue,
                },
                None => device,
            };
            let found = Arc::new(self.found(device));
            self.known.insert(key, found);
        }
        Ok(())
    }

    /// A serial number alone names a device only if no two manufacturers have given it away.
    async fn named(
        &self,
        reader: &mut Snapshot,
        serial: &str,
    ) -> Result<Option<Arc<Found>>, Error> {
        let sql = format!("SELECT {DEVICE_COLUMNS} FROM device WHERE serial = $1 LIMIT 2");
        let values = params![serial.replace('\0', "\u{fffd}")];
        let rows = reader.fetch_all(AssertSqlSafe(sql), values).await?;
        let [row] = rows.as_slice() else {
            return Ok(None);
        };
        Ok(Some(Arc::new(self.found(device_of(row)?))))
    }

    fn found(&self, device: crate::register::DeviceRow) -> Found {
        Found {
            device: Arc::new(device),
            epoch: self.epoch.0,
            revision: self.epoch.1,
        }
    }
}
