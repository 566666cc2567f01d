//! What is counted, for `/metrics`.

use daemon::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use store::{Counts, Store};

use crate::register::State;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    operation: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProgressLabels {
    kind: &'static str,
}

/// The counters of a bootstrap server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Counters {
    answers: Family<AnswerLabels, Counter>,
    progress: Family<ProgressLabels, Counter>,
    devices: Family<StateLabels, Gauge>,
    seconds: Histogram,
    pub(crate) unrecorded: Counter,
    pub(crate) identity_cache_hits: Counter,
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics, store: &Store) -> Self {
        let buckets = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
        ];
        metrics.collector(Box::new(Transactions(store.clone())));
        Self {
            answers: metrics.register(
                "answers",
                "Requests by operation and code; ok if nothing was wrong",
                Family::default(),
            ),
            progress: metrics.register(
                "progress",
                "Progress reports by their type",
                Family::default(),
            ),
            devices: metrics.register("devices", "Devices by state", Family::default()),
            seconds: metrics.register(
                "answer_seconds",
                "Time to an answer whose lines are durable",
                Histogram::new(buckets),
            ),
            unrecorded: metrics.register(
                "unrecorded",
                "Requests of strangers that were not written down because there were too many",
                Counter::default(),
            ),
            identity_cache_hits: metrics.register(
                "identity_cache_hits",
                "Certificate chains that were judged a moment before",
                Counter::default(),
            ),
        }
    }

    pub(crate) fn answer(&self, operation: &'static str, code: &'static str, seconds: f64) {
        self.answers
            .get_or_create(&AnswerLabels { operation, code })
            .inc();
        self.seconds.observe(seconds);
    }

    pub(crate) fn progress(&self, kind: &'static str) {
        self.progress.get_or_create(&ProgressLabels { kind }).inc();
    }

    pub(crate) fn devices(&self, state: State, number: i64) {
        let state = state.as_str();
        self.devices
            .get_or_create(&StateLabels { state })
            .set(number);
    }
}

/// Tells what became of the transactions of a store.
#[derive(Debug)]
struct Transactions(Store);

type Read = fn(&Counts) -> u64;

impl Collector for Transactions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let report = self.0.statistics();
        let totals: [(&str, &str, Read); 4] = [
            (
                "transactions_committed",
                "Transactions committed",
                |counts| counts.committed,
            ),
            (
                "transactions_refused",
                "Transactions rolled back",
                |counts| counts.refused,
            ),
            (
                "transactions_retried",
                "Attempts repeated after a conflict",
                |counts| counts.retried,
            ),
            (
                "transactions_time_us",
                "Microseconds to the answers",
                |counts| counts.time_us,
            ),
        ];
        for (name, help, read) in totals {
            let none = ConstCounter::new(0_u64);
            let mut family = encoder.encode_descriptor(name, help, None, none.metric_type())?;
            for (transaction, counts) in &report.transactions {
                let counter = ConstCounter::new(read(counts));
                counter.encode(family.encode_family(&[("name", *transaction)])?)?;
            }
        }
        Ok(())
    }
}
