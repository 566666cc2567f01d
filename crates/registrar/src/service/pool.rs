//! Connections to MASAs that wait for their next request.
//!
//! A voucher needs one request, and an audit log another; a handshake for each would cost more
//! than both. What was trusted when a connection was opened is trusted for as long as it lives, so
//! it does not live long, and not beyond a reload of the anchors.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use net::client::Connection;

/// How long a connection may wait; MASAs close theirs after a while too.
const IDLE_TIME_MAX: Duration = Duration::from_secs(15);
/// How many may wait for one MASA of one vendor.
const WAITING_MAX: usize = 16;

/// Whose connection it is: vendor, host and port, and the reload that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) vendor: String,
    pub(super) target: String,
    pub(super) generation: u64,
}

/// The connections that wait.
#[derive(Default)]
pub(super) struct Pool {
    waiting: Mutex<HashMap<Key, Vec<(Connection, Instant)>>>,
}

impl Pool {
    /// The connection that waited for the shortest time, if there is one.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (connection, since) = waiting.get_mut(key)?.pop()?;
        (since.elapsed() < IDLE_TIME_MAX).then_some(connection)
    }

    /// Keeps a connection for the next request.
    pub(super) fn give(&self, key: Key, connection: Connection) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // The old ones go whenever somebody comes; there is no task of their own for that.
        waiting.retain(|other, list| {
            list.retain(|(_, since)| since.elapsed() < IDLE_TIME_MAX);
            other.generation == key.generation && !list.is_empty()
        });
        let list = waiting.entry(key).or_default();
        if list.len() < WAITING_MAX {
            list.push((connection, Instant::now()));
        }
    }
}
