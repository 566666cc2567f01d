//! What a CoAP listener counts, for metrics.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tracing::debug;

use crate::dtls::State;

/// The type of a record with an alert.
const ALERT: u8 = 21;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened at a listener so far; `…_now` is how it stands.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CoapStatistics {
            $($(#[$doc])* pub $name: u64,)*
            /// Associations now, handshakes among them.
            pub peers_now: u64,
            /// Handshakes now.
            pub handshakes_now: u64,
            /// Requests over DTLS being answered now.
            pub requests_now: u64,
            /// Requests in the clear being answered now.
            pub open_requests_now: u64,
        }

        impl CoapStatistics {
            /// Each name with its value.
            #[must_use]
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("peers_now", self.peers_now),
                    ("handshakes_now", self.handshakes_now),
                    ("requests_now", self.requests_now),
                    ("open_requests_now", self.open_requests_now),
                ]
            }
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            pub(super) peers: AtomicUsize,
            pub(super) handshakes: AtomicUsize,
            pub(super) requests: AtomicUsize,
            pub(super) open_requests: AtomicUsize,
        }

        impl Counters {
            pub(super) fn statistics(&self) -> CoapStatistics {
                let now = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) as u64;
                CoapStatistics {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    peers_now: now(&self.peers),
                    handshakes_now: now(&self.handshakes),
                    requests_now: now(&self.requests),
                    open_requests_now: now(&self.open_requests),
                }
            }
        }
    };
}

counters! {
    /// Datagrams received.
    datagrams_received,
    /// Datagrams sent.
    datagrams_sent,
    /// Bytes received.
    bytes_received,
    /// Bytes sent.
    bytes_sent,
    /// Datagrams that no socket took.
    datagrams_unsent,
    /// Datagrams dropped because too many of their peer, or altogether, waited for their turn.
    datagrams_crowded,
    /// Datagrams dropped because they are neither of an association nor the beginning of one.
    datagrams_dropped,
    /// Datagrams at the port of join proxies that are no JPY.
    jpy_malformed,
    /// CoAP messages that break the format.
    messages_malformed,
    /// CoAP messages that were here before.
    messages_duplicate,
    /// CoAP messages sent again.
    messages_retransmitted,
    /// Answers to a ClientHello without a valid cookie.
    cookies_sent,
    /// Handshakes begun: a valid cookie came back.
    handshakes_begun,
    /// Handshakes that succeeded.
    handshakes_completed,
    /// Handshakes that failed, and ClientHellos that were answered with an alert.
    handshakes_failed,
    /// Handshakes that took too long.
    handshakes_late,
    /// Handshakes refused because of a limit on their number or on the number of associations.
    handshakes_refused,
    /// Associations that gave way to another because there were too many.
    peers_evicted,
    /// Associations that ended for being idle.
    peers_idle,
    /// Associations that the peer closed, or that broke.
    peers_closed,
    /// Associations replaced by a new one from the same place.
    peers_replaced,
    /// Requests handed to the handler.
    requests_taken,
    /// Requests refused because of a limit on their number.
    requests_refused,
    /// Requests whose answer took too long.
    requests_late,
    /// Handlers that panicked.
    panics,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A ClientHello was answered: with a cookie, or with an alert.
    pub(super) fn answered(&self, peer: SocketAddr, answer: &[u8]) {
        if answer.first() == Some(&ALERT) {
            Self::add(&self.handshakes_failed);
            let alert = answer.last();
            debug!(%peer, ?alert, "a ClientHello is refused: nothing it offers is served here");
        } else {
            Self::add(&self.cookies_sent);
        }
    }

    /// An association ended before its handshake was done.
    pub(super) fn failed(&self, peer: SocketAddr, state: &State) {
        Self::add(&self.handshakes_failed);
        debug!(%peer, ?state, "a DTLS handshake failed");
    }

    pub(super) fn add_many(counter: &AtomicU64, many: usize) {
        counter.fetch_add(many as u64, Ordering::Relaxed);
    }

    /// Takes a place if one is left of `max`.
    pub(super) fn take(places: &AtomicUsize, max: usize) -> bool {
        places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < max).then_some(taken + 1)
            })
            .is_ok()
    }

    pub(super) fn give_back(places: &AtomicUsize) {
        places.fetch_sub(1, Ordering::Relaxed);
    }
}
