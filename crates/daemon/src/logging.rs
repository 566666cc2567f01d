//! Logs on stderr: JSON lines for machines, plain lines for a person at a terminal.
//!
//! Events carry the fields `request_id`, `device_id` and `code` where they have them; spans pass
//! their fields on, so that one search for a request finds everything about it.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::Error;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// [`Self::Human`] on a terminal, [`Self::Json`] otherwise.
    #[default]
    Auto,
    /// One line a person can read.
    Human,
    /// One JSON object a line.
    Json,
}

/// The `[log]` section of a configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What to log: a level, or `target=level` pairs separated by commas.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            filter: "info".to_owned(),
        }
    }
}

/// Sets up logging for the process. `RUST_LOG` stands above the configured filter.
///
/// # Errors
/// [`Error::Logging`] if the filter does not parse or logging is already set up.
pub fn init(config: &LogConfig) -> Result<(), Error> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => text,
        _ => config.filter.clone(),
    };
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    subscriber(
        &filter,
        json,
        std::io::stderr().is_terminal(),
        std::io::stderr,
    )?
    .try_init()
    .map_err(|error| Error::Logging(error.to_string()))
}

fn subscriber<W>(
    filter: &str,
    json: bool,
    colour: bool,
    writer: W,
) -> Result<impl tracing::Subscriber + Send + Sync, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter).map_err(|error| Error::Logging(error.to_string()))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn tracing_subscriber::Layer<_> + Send + Sync> = if json {
        Box::new(
            layer
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(true),
        )
    } else {
        Box::new(layer.with_ansi(colour).with_target(false))
    };
    Ok(tracing_subscriber::registry().with(filter).with(layer))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber =
            subscriber("info", json, false, move || writer.clone()).expect("a subscriber");
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", request_id = "r-1");
            let _entered = span.enter();
            tracing::info!(code = "masa.serial-unknown", device_id = "SN-1", "refused");
            tracing::debug!("not shown");
        });
        let bytes = buffer.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn json_lines_carry_code_device_and_request() {
        let text = logged(true);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["code"], "masa.serial-unknown");
        assert_eq!(line["device_id"], "SN-1");
        assert_eq!(line["message"], "refused");
        assert_eq!(line["span"]["request_id"], "r-1");
    }

    #[test]
    fn human_lines_say_the_same() {
        let text = logged(false);
        assert!(text.contains("refused"), "{text}");
        assert!(text.contains("masa.serial-unknown"), "{text}");
        assert!(text.contains("r-1"), "{text}");
    }

    #[test]
    fn a_filter_that_does_not_parse_is_refused() {
        assert!(subscriber("info,a=b=c", true, false, std::io::stderr).is_err());
    }
}
