//! Progress reports ([RFC 8572 §5.6](https://www.rfc-editor.org/rfc/rfc8572.html#section-5.6) and
//! [§7.3](https://www.rfc-editor.org/rfc/rfc8572.html#section-7.3)).

use std::collections::VecDeque;

use super::{MESSAGE_CHARS_MAX, ProgressType, excerpt};

/// A report to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) progress: ProgressType,
    pub(super) message: Option<String>,
}

impl Report {
    /// Whether the device may not go on unless the report is taken.
    ///
    /// SZTP-8572-5.6-09, SZTP-8572-5.6-22: "It is an error if the device does not receive back the
    /// '204 No Content' HTTP status line."
    pub(super) fn must_be_accepted(&self) -> bool {
        matches!(
            self.progress,
            ProgressType::BootstrapInitiated | ProgressType::BootstrapComplete
        )
    }

    /// Whether it is sent at the level `minimal` too. Two things beyond what ends the exchange:
    /// that it began, and that something is wrong for which there is no other type.
    fn is_minimal(&self) -> bool {
        self.progress.is_last()
            || matches!(
                self.progress,
                ProgressType::BootstrapInitiated | ProgressType::BootstrapWarning
            )
    }
}

/// The reports to one trusted server.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Whether there is a trusted server at all.
    ///
    /// SZTP-8572-5.6-05, SZTP-8572-9.6-03: "the device MUST NOT send any progress reports" to an
    /// untrusted one.
    pub(super) wanted: bool,
    pub(super) verbose: bool,
    pub(super) queue: VecDeque<Report>,
}

impl Reports {
    /// Queues a report, if the server is to have it.
    pub(super) fn push(&mut self, progress: ProgressType, message: Option<&str>) {
        let message = message
            .map(|text| excerpt(text.as_bytes(), MESSAGE_CHARS_MAX))
            .filter(|text| !text.is_empty());
        let report = Report { progress, message };
        // SZTP-8572-5.6-03: verbose means all of them.
        let verbose = self.verbose && !defects::seeded!("sztp-device-is-never-verbose");
        if self.wanted && (verbose || report.is_minimal()) {
            self.queue.push_back(report);
        }
    }
}
