//! What is counted.

use daemon::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::Way;
use crate::relay::Refusal;

type Labels = Vec<(&'static str, &'static str)>;

/// The counters of a proxy.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    relayed: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    open: Family<Labels, Gauge>,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            relayed: metrics.register(
                "relayed",
                "Datagrams and connections relayed, by way and direction",
                Family::default(),
            ),
            refused: metrics.register(
                "refused",
                "Datagrams and connections not relayed, by code",
                Family::default(),
            ),
            open: metrics.register(
                "open",
                "Flows (stateful) and connections (circuit) at this moment",
                Family::default(),
            ),
        }
    }

    pub(crate) fn up(&self, way: Way) {
        self.relayed(way, "to_registrar").inc();
    }

    pub(crate) fn down(&self, way: Way) {
        self.relayed(way, "to_pledge").inc();
    }

    fn relayed(&self, way: Way, direction: &'static str) -> Counter {
        self.relayed
            .get_or_create_owned(&vec![("way", way.name()), ("direction", direction)])
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused
            .get_or_create(&vec![("code", refusal.code())])
            .inc();
    }

    pub(crate) fn lost(&self, code: &'static str) {
        self.refused.get_or_create(&vec![("code", code)]).inc();
    }

    pub(crate) fn open(&self, way: Way, change: i64) {
        self.open
            .get_or_create(&vec![("way", way.name())])
            .inc_by(change);
    }

    /// How many there are at this moment.
    pub(crate) fn opened(&self, way: Way) -> i64 {
        self.open.get_or_create(&vec![("way", way.name())]).get()
    }

    /// How often something was refused with this code.
    pub(crate) fn refusals(&self, code: &'static str) -> u64 {
        self.refused.get_or_create(&vec![("code", code)]).get()
    }
}
