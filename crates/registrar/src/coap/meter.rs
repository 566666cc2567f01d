//! The figures of the CoAP listeners, for `/metrics`.

use std::fmt;

use net::coap::CoapMeter;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads the counters of a listener at each scrape.
#[derive(Debug)]
pub(super) struct Figures(pub(super) CoapMeter);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, value) in self.0.statistics().rows() {
            let metric = format!("coap_{name}");
            let help = format!("CoAP listener: {}", name.replace('_', " "));
            if name.ends_with("_now") {
                let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                let encoder =
                    encoder.encode_descriptor(&metric, &help, None, gauge.metric_type())?;
                gauge.encode(encoder)?;
            } else {
                let counter = ConstCounter::new(value);
                let encoder =
                    encoder.encode_descriptor(&metric, &help, None, counter.metric_type())?;
                counter.encode(encoder)?;
            }
        }
        Ok(())
    }
}
