//! What is counted, for `/metrics`.

use daemon::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StepLabels {
    /// The step, as in the timeline.
    pub step: String,
    /// The code, or `ok`.
    pub code: String,
}

/// A state of devices.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StateLabels {
    /// The state.
    pub state: String,
}

/// The counters of a registrar. Cheap to clone.
#[derive(Clone)]
pub struct Counters {
    steps: Family<StepLabels, Counter>,
    devices: Family<StateLabels, Gauge>,
    masa_seconds: Histogram,
}

impl Counters {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            steps: metrics.register(
                "steps",
                "Steps of devices by outcome; code is the stable error code, or ok",
                Family::default(),
            ),
            devices: metrics.register("devices", "Devices by state", Family::default()),
            masa_seconds: metrics.register(
                "masa_seconds",
                "Time that calls to MASAs took",
                Histogram::new(exponential_buckets(0.005, 2.0, 14)),
            ),
        }
    }

    /// One step ended.
    pub fn step(&self, step: &str, code: Option<&str>) {
        self.steps
            .get_or_create(&StepLabels {
                step: step.to_owned(),
                code: code.unwrap_or("ok").to_owned(),
            })
            .inc();
    }

    /// So many devices are in a state.
    pub fn devices(&self, state: crate::records::State, number: i64) {
        self.devices
            .get_or_create(&StateLabels {
                state: state.as_str().to_owned(),
            })
            .set(number);
    }

    /// A call to a MASA ended.
    pub fn masa_call(&self, duration: std::time::Duration) {
        self.masa_seconds.observe(duration.as_secs_f64());
    }
}
