//! What the commands of every service begin and end with.

use std::path::{Path, PathBuf};

use store::Applied;

use super::{Format, Outcome};
use crate::Error;

/// The configuration that a command works with: the file that was named, else `NAME.toml` here or
/// in /etc/usher.
///
/// # Errors
/// If none was named and there is none, by the caller's fault.
pub fn config_file(named: Option<&Path>, name: &'static str) -> Result<PathBuf, Error> {
    if let Some(file) = named {
        return Ok(file.to_owned());
    }
    let file = format!("{name}.toml");
    [PathBuf::from(&file), Path::new("/etc/usher").join(&file)]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or(Error::NoConfig(name))
}

/// Runs a command in a runtime of its own.
pub fn block_on(format: Format, command: impl Future<Output = Outcome>) -> Outcome {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => format.problem("config.runtime", &error.to_string()),
    }
}

/// Says what `migrate` did.
pub fn migrated(format: Format, applied: &[Applied]) -> Outcome {
    let names: Vec<String> = applied
        .iter()
        .map(|one| format!("{} {} ({})", one.component, one.version, one.name))
        .collect();
    let answer = serde_json::json!({ "ok": true, "applied": names });
    format.print(&answer, |_| {
        if names.is_empty() {
            "the database is up to date".to_owned()
        } else {
            format!("applied:\n  {}", names.join("\n  "))
        }
    });
    Outcome::Yes
}
