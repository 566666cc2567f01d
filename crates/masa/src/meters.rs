//! The database's own counters, by the names of its transactions.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use store::{Counts, Store};

/// Tells what became of the transactions of a store.
#[derive(Debug)]
pub(crate) struct Transactions(pub(crate) Store);

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
        for (name, help, value) in [
            (
                "group_commits",
                "Commits of several decisions at once (SQLite)",
                report.batches,
            ),
            (
                "group_decisions",
                "Decisions in those commits",
                report.batched,
            ),
        ] {
            let counter = ConstCounter::new(value);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
