//! The metrics of one process, in the text format of OpenMetrics.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use net::server::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

/// The registry that all parts of a server share. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry whose metric names all start with this prefix, say `usher_masa`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix(prefix))))
    }

    /// Adds a metric and hands it back; clones of it count into the same one.
    #[must_use]
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .register(name, help, metric.clone());
        metric
    }

    /// Adds the counters of a listener under `<prefix>_<name>_…`.
    pub fn listener(&self, name: &str, counters: Arc<Counters>) {
        let collector = ListenerCollector {
            name: name.to_owned(),
            counters,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .register_collector(Box::new(collector));
    }

    /// Adds a collector, which is asked for its figures at each scrape.
    pub fn collector(&self, collector: Box<dyn Collector>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .register_collector(collector);
    }

    /// All metrics as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String fails only if a collector does, and then what it wrote still stands.
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            tracing::warn!("the metrics are not complete");
        }
        text
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct ListenerCollector {
    name: String,
    counters: Arc<Counters>,
}

impl Collector for ListenerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = &self.counters;
        let totals = [
            (
                "connections_accepted",
                "Connections taken",
                &counters.connections_accepted,
            ),
            (
                "connections_refused",
                "Connections beyond a limit",
                &counters.connections_refused,
            ),
            (
                "connections_shed",
                "Idle or slow connections closed",
                &counters.connections_shed,
            ),
            (
                "handshakes_failed",
                "Handshakes that failed",
                &counters.handshakes_failed,
            ),
            ("requests", "Requests served", &counters.requests),
            (
                "requests_refused",
                "Requests refused before a handler",
                &counters.requests_refused,
            ),
            ("panics", "Handlers that panicked", &counters.panics),
        ];
        for (metric, help, value) in totals {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            let name = format!("{}_{metric}", self.name);
            let encoder = encoder.encode_descriptor(&name, help, None, counter.metric_type())?;
            counter.encode(encoder)?;
        }
        let open = counters.connections_open.load(Ordering::Relaxed);
        let gauge = ConstGauge::new(i64::try_from(open).unwrap_or(i64::MAX));
        let name = format!("{}_connections_open", self.name);
        let encoder =
            encoder.encode_descriptor(&name, "Connections open now", None, gauge.metric_type())?;
        gauge.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn metrics_show_what_was_counted() {
        let metrics = Metrics::new("usher_masa");
        let issued = metrics.register(
            "vouchers_issued",
            "Vouchers issued",
            Counter::<u64>::default(),
        );
        issued.inc_by(3);
        let counters = Arc::new(Counters::default());
        counters.requests.fetch_add(7, Ordering::Relaxed);
        metrics.listener("device", counters);
        let text = metrics.encode();
        assert!(
            text.contains("usher_masa_vouchers_issued_total 3"),
            "{text}"
        );
        assert!(
            text.contains("usher_masa_device_requests_total 7"),
            "{text}"
        );
        assert!(
            text.contains("usher_masa_device_connections_open 0"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
