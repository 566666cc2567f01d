//! The certification authority behind the registrar.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The `[ca]` part of the configuration.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}

impl Config {
    /// Makes relative paths relative to the folder of the configuration file.
    pub(crate) fn anchor_paths(&mut self, _base: &Path) {}
}
