//! Where what devices were given came from, for `/metrics`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;

use super::Engine;

/// Tells how often each place had what a device was given.
#[derive(Debug)]
pub(crate) struct Meters(Engine);

impl Meters {
    pub(crate) const fn new(engine: Engine) -> Self {
        Self(engine)
    }
}

impl Collector for Meters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let work = self.0.work();
        let none = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "artefacts",
            "Where what devices were given came from",
            None,
            none.metric_type(),
        )?;
        for (place, count) in [
            ("remembered", work.remembered),
            ("memory", work.found),
            ("database", work.stored),
            ("made", work.built),
            ("signed", work.signed),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(family.encode_family(&[("place", place)])?)?;
        }
        Ok(())
    }
}
