//! Turns: what one peer sends does not hold up the others.
//!
//! Datagrams are read from the socket as fast as they come and wait here; each peer that has some
//! waiting gets one handled in its turn.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Bytes that a waiting datagram takes up besides its own.
const OVERHEAD: usize = 48;
/// When half of the room is taken, the rest is for peers of which nothing waits yet, and for
/// datagrams that are no longer than this: more than a link takes at once.
const LARGE: usize = 2048;

#[derive(Debug)]
pub(super) struct Fair<K> {
    waiting: HashMap<K, VecDeque<Vec<u8>>>,
    turns: VecDeque<K>,
    bytes: usize,
    per_peer_max: usize,
    bytes_max: usize,
}

impl<K: Clone + Eq + Hash> Fair<K> {
    pub(super) fn new(per_peer_max: usize, bytes_max: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            per_peer_max,
            bytes_max,
        }
    }

    /// Whether there was room for it.
    pub(super) fn push(&mut self, peer: &K, datagram: &[u8]) -> bool {
        let size = datagram.len() + OVERHEAD;
        if self.bytes + size > self.bytes_max {
            return false;
        }
        // A few peers that send large ones cannot keep all others out.
        let scarce = self.bytes + size > self.bytes_max / 2;
        if scarce && datagram.len() > LARGE {
            return false;
        }
        match self.waiting.get_mut(peer) {
            Some(queue) if scarce || queue.len() >= self.per_peer_max => return false,
            Some(queue) => queue.push_back(datagram.to_vec()),
            None => {
                let queue = VecDeque::from([datagram.to_vec()]);
                self.waiting.insert(peer.clone(), queue);
                self.turns.push_back(peer.clone());
            }
        }
        self.bytes += size;
        true
    }

    /// The first datagram of the peer whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(K, Vec<u8>)> {
        let peer = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&peer)?;
        let datagram = queue.pop_front()?;
        self.bytes -= datagram.len() + OVERHEAD;
        if queue.is_empty() {
            self.waiting.remove(&peer);
        } else {
            self.turns.push_back(peer.clone());
        }
        Some((peer, datagram))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_floods_waits_for_the_others() {
        let mut fair = Fair::new(32, usize::MAX);
        let taken = (0..10_000).filter(|_| fair.push(&"bad", b"x")).count();
        assert_eq!(taken, 32, "the rest is dropped");
        assert!(fair.push(&"good", b"1"));
        assert!(fair.push(&"better", b"2"));
        let first: Vec<&str> = (0..3)
            .filter_map(|_| fair.pop())
            .map(|(peer, _)| peer)
            .collect();
        assert_eq!(first, ["bad", "good", "better"]);
        let rest = std::iter::from_fn(|| fair.pop()).count();
        assert_eq!(rest, 31);
        assert!(fair.is_empty());
        assert_eq!(fair.bytes, 0);
        assert!(fair.waiting.is_empty());
    }

    #[test]
    fn a_few_with_large_ones_leave_room_for_the_others() {
        let mut fair = Fair::new(32, 1 << 20);
        for _ in 0..32 {
            for bad in 0..32 {
                fair.push(&bad, &[0; 60_000]);
                fair.push(&bad, &[0; 1_000]);
            }
        }
        let taken = (100..400)
            .filter(|good| fair.push(good, &[0; 1_000]))
            .count();
        assert_eq!(taken, 300);
        assert!(fair.bytes <= 1 << 20);
    }

    #[test]
    fn all_of_them_together_take_no_more_than_they_may() {
        let mut fair = Fair::new(32, 10 * (1 + OVERHEAD));
        let taken = (0..100).filter(|peer| fair.push(peer, b"x")).count();
        assert_eq!(taken, 10);
        let _ = fair.pop();
        assert!(fair.push(&1000, b"x"), "there is room again");
    }
}
