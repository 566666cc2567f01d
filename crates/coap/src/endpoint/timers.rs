//! What is to happen when.
//!
//! A timer is never taken back: when it fires, whoever set it looks whether it still matters.

use std::collections::BTreeMap;

use super::{Exchange, Handle, Moment, Transmit};

/// What is to happen.
#[derive(Debug)]
pub(super) enum Timer<P> {
    Retransmit { peer: P, id: u16, round: u32 },
    Acknowledge(Exchange),
    Call { handle: Handle, round: u32 },
    Send(Transmit<P>),
    Sweep(P),
}

#[derive(Debug)]
pub(super) struct Timers<P> {
    set: BTreeMap<(Moment, u64), Timer<P>>,
    next: u64,
}

impl<P> Default for Timers<P> {
    fn default() -> Self {
        Self {
            set: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<P> Timers<P> {
    pub(super) fn set(&mut self, at: Moment, timer: Timer<P>) {
        self.next += 1;
        self.set.insert((at, self.next), timer);
    }

    pub(super) fn due(&mut self, now: Moment) -> Option<Timer<P>> {
        let first = self.set.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.set.first_key_value().map(|((at, _), _)| *at)
    }
}
