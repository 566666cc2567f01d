//! The evidence as an archive: each message as it was on the wire, and a transcript. Keys are never
//! recorded, so none can be in it.

use std::io::{Cursor, Write as _};

use anyhow::Result;
use zip::write::SimpleFileOptions;

use super::Report;
use crate::evidence::Way;

pub(super) fn archive(report: &Report) -> Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    for case in &report.cases {
        let folder = case.id.replace(
            |c: char| !(c.is_ascii_alphanumeric() || "/-._".contains(c)),
            "_",
        );
        archive.start_file(format!("{folder}/transcript.txt"), options)?;
        let heading = format!(
            "{}\n{}\noutcome: {}\n{}\n\n",
            case.id,
            case.title,
            case.outcome.name(),
            case.why
        );
        archive.write_all(heading.as_bytes())?;
        archive.write_all(crate::run::transcript(&case.evidence).as_bytes())?;
        for (number, item) in case.evidence.iter().enumerate() {
            if item.hex.is_empty() {
                continue;
            }
            let way = match item.way {
                Way::Sent => "sent",
                Way::Received => "received",
                Way::Note => "note",
            };
            archive.start_file(format!("{folder}/{number:03}-{way}.bin"), options)?;
            archive.write_all(&hex::decode(&item.hex)?)?;
        }
    }
    Ok(archive.finish()?.into_inner())
}
