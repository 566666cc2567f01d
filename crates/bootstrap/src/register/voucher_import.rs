//! Vouchers in from files: `.vcj` alone, folders, tar.gz and zip archives. Each is judged before it
//! is stored, and the outcome of each is told.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt as _;
use serde::Serialize;
use store::{Connection, Store};
use time::{Duration, OffsetDateTime};
use tokio::sync::mpsc;

use super::archive::{self, Found, Limits, Member, Refused};
use super::device::{device_by_key, find_device};
use super::import::{blank, insert};
use super::voucher::{Reader, refused, sha256, store_voucher};
use crate::Error;
use crate::vendor::Vendor;

/// Vouchers in one transaction.
const CHUNK: usize = 64;
/// Chunks that wait between the files and the database.
const QUEUE: usize = 4;
/// Files that are named or lie in a named folder.
const FILES_MAX: usize = 2_000_000;

/// How an import goes.
#[derive(Clone, Debug)]
pub struct VoucherOptions {
    /// Only say what would happen.
    pub dry_run: bool,
    /// One that is refused, and none is stored.
    pub all_or_nothing: bool,
    /// Take a voucher whose file is named after another serial number.
    pub any_name: bool,
    /// Put devices into the register that are not there.
    pub add_devices: bool,
    /// A voucher that ends sooner than this is warned of.
    pub warn: Duration,
}

/// What became, or would become, of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum VoucherOutcome {
    /// Judged good and stored.
    Stored,
    /// Was there already.
    Known,
    /// Not a voucher by its name.
    Skipped {
        /// Why.
        why: &'static str,
    },
    /// Refused.
    Refused {
        /// The stable code.
        code: &'static str,
        /// In words.
        detail: String,
    },
}

/// A file, or a member of an archive, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VoucherResult {
    /// The file.
    pub file: String,
    /// The member, if the file is an archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The vendor that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The serial number in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// When it ends.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<OffsetDateTime>,
    /// What is good to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: VoucherOutcome,
}

/// What became of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VoucherReport {
    /// Files and members.
    pub files: u64,
    /// Stored now.
    pub stored: u64,
    /// There already.
    pub known: u64,
    /// Not vouchers.
    pub skipped: u64,
    /// Refused.
    pub refused: u64,
    /// Whether anything was written.
    pub written: bool,
}

impl VoucherReport {
    fn count(&mut self, outcome: &VoucherOutcome) {
        self.files += 1;
        match outcome {
            VoucherOutcome::Stored => self.stored += 1,
            VoucherOutcome::Known => self.known += 1,
            VoucherOutcome::Skipped { .. } => self.skipped += 1,
            VoucherOutcome::Refused { .. } => self.refused += 1,
        }
    }
}

/// Hears of the outcomes. `None` says that it begins, or begins again: what was heard before does
/// not count.
pub type VoucherListener = Arc<dyn Fn(Option<&[VoucherResult]>) + Send + Sync>;

/// Imports vouchers from files, folders and archives.
///
/// # Errors
/// A file that was named is not there, or the database. What is wrong with one voucher is told of
/// that one.
pub async fn import_vouchers(
    store: &Store,
    files: &[PathBuf],
    reader: Reader,
    vendors: Vec<Vendor>,
    options: VoucherOptions,
    heard: VoucherListener,
) -> Result<VoucherReport, Error> {
    let files = Arc::new(files_of(files)?);
    let job = Arc::new(Job {
        reader,
        vendors,
        options,
    });
    let whole = job.options.all_or_nothing || job.options.dry_run;
    if whole {
        return import_whole(store, files, job, heard).await;
    }
    heard(None);
    let mut report = VoucherReport::default();
    let mut chunks = chunks_of(files);
    while let Some(chunk) = chunks.recv().await {
        let chunk = Arc::new(chunk);
        let job = Arc::clone(&job);
        let results = store
            .transaction("voucher-import", move |connection| {
                let (job, chunk) = (Arc::clone(&job), Arc::clone(&chunk));
                async move { job.chunk(connection, &chunk).await }.boxed()
            })
            .await?;
        results.iter().for_each(|one| report.count(&one.outcome));
        heard(Some(&results));
    }
    report.written = report.stored > 0;
    Ok(report)
}

/// Why a transaction was rolled back.
enum Undo {
    Report(VoucherReport),
    Error(Error),
}

impl From<store::Error> for Undo {
    fn from(error: store::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<Error> for Undo {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn import_whole(
    store: &Store,
    files: Arc<Vec<PathBuf>>,
    job: Arc<Job>,
    heard: VoucherListener,
) -> Result<VoucherReport, Error> {
    let result = store
        .transaction("voucher-import", move |connection| {
            let (job, files) = (Arc::clone(&job), Arc::clone(&files));
            let heard = Arc::clone(&heard);
            async move {
                heard(None);
                let mut report = VoucherReport::default();
                let mut chunks = chunks_of(files);
                while let Some(chunk) = chunks.recv().await {
                    let results = job.chunk(connection, &chunk).await?;
                    results.iter().for_each(|one| report.count(&one.outcome));
                    heard(Some(&results));
                }
                if job.options.dry_run || report.refused > 0 {
                    return Err(Undo::Report(report));
                }
                report.written = report.stored > 0;
                Ok(report)
            }
            .boxed()
        })
        .await;
    match result {
        Ok(report) | Err(Undo::Report(report)) => Ok(report),
        Err(Undo::Error(error)) => Err(error),
    }
}

/// The files that are meant, folders opened.
fn files_of(named: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    const ENDINGS: [&str; 6] = [".vcj", ".b64", ".tar", ".tar.gz", ".tgz", ".zip"];
    let mut list = Vec::new();
    for path in named {
        let meta = std::fs::metadata(path).map_err(|error| Error::file(path, error))?;
        if !meta.is_dir() {
            list.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| Error::file(path, error))? {
            let entry = entry.map_err(|error| Error::file(path, error))?;
            let file = entry.path();
            let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
            let is_file = std::fs::metadata(&file).is_ok_and(|meta| meta.is_file());
            if is_file && ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                inside.push(file);
            }
        }
        inside.sort();
        list.extend(inside);
    }
    if list.len() > FILES_MAX {
        return Err(Error::Usage(format!("more than {FILES_MAX} files")));
    }
    Ok(list)
}

/// A file and what was found in it: a member, or why there was none (any more).
type Item = (Arc<str>, Result<Member, Refused>);

/// Reads the files on a thread of its own, a few chunks ahead.
fn chunks_of(files: Arc<Vec<PathBuf>>) -> mpsc::Receiver<Vec<Item>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut push = |item: Item| {
            chunk.push(item);
            if chunk.len() < CHUNK {
                return true;
            }
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
            sender.blocking_send(full).is_ok()
        };
        for path in files.iter() {
            let shown: Arc<str> = path.display().to_string().into();
            let result = read_file(path, &mut |member| push((Arc::clone(&shown), Ok(member))));
            if let Err(refused) = result
                && !push((Arc::clone(&shown), Err(refused)))
            {
                return;
            }
        }
        if !chunk.is_empty() {
            // Nobody listens any more if the transaction was rolled back.
            let _ = sender.blocking_send(chunk);
        }
    });
    receiver
}

fn read_file(path: &Path, sink: archive::Sink<'_>) -> Result<(), Refused> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = File::open(path).map_err(|error| refused("bootstrap.file", error.to_string()))?;
    archive::read(&name, BufReader::new(file), &Limits::default(), sink)
}

struct Job {
    reader: Reader,
    vendors: Vec<Vendor>,
    options: VoucherOptions,
}

impl Job {
    async fn chunk(
        &self,
        connection: &mut Connection,
        chunk: &[Item],
    ) -> Result<Vec<VoucherResult>, Error> {
        let vendors: Vec<&Vendor> = self.vendors.iter().collect();
        let mut results = Vec::with_capacity(chunk.len());
        for (file, item) in chunk {
            let mut result = VoucherResult {
                file: file.to_string(),
                member: None,
                vendor: None,
                serial: None,
                expires: None,
                warning: None,
                outcome: VoucherOutcome::Known,
            };
            result.outcome = match item {
                Err(refused) => refuse(refused),
                Ok(member) => {
                    let alone = file.ends_with(&member.name);
                    result.member = (!alone).then(|| member.name.clone());
                    match &member.found {
                        Found::Skipped(why) => VoucherOutcome::Skipped { why },
                        Found::Refused(refused) => refuse(refused),
                        Found::Voucher(der) => {
                            let source = match &result.member {
                                Some(member) => format!("{file}!{member}"),
                                None => file.to_string(),
                            };
                            let name = (!self.options.any_name).then_some(member.name.as_str());
                            self.voucher(connection, &vendors, der, name, &source, &mut result)
                                .await?
                        }
                    }
                }
            };
            results.push(result);
        }
        Ok(results)
    }

    async fn voucher(
        &self,
        connection: &mut Connection,
        vendors: &[&Vendor],
        der: &[u8],
        name: Option<&str>,
        source: &str,
        result: &mut VoucherResult,
    ) -> Result<VoucherOutcome, Error> {
        let checked = match self.reader.judge(der, vendors, None) {
            Ok(checked) => checked,
            Err(why) => return Ok(refuse(&why)),
        };
        result.vendor = Some(checked.vendor.clone());
        result.serial = Some(checked.serial.clone());
        result.expires = checked.expires;
        let now = self.reader.now;
        if checked
            .expires
            .is_some_and(|at| at < now + self.options.warn)
        {
            result.warning = Some("it ends soon".to_owned());
        }
        if let Some(name) = name.filter(|name| archive::is_voucher_name(name)) {
            let stem = archive::stem_of(name);
            if !is_name_of(stem, &checked.serial) {
                return Ok(refuse(&refused(
                    "bootstrap.voucher-misnamed",
                    format!(
                        "the file is named {stem} and the voucher is for {}; --any-name takes it",
                        checked.serial
                    ),
                )));
            }
        }
        let device = match device_by_key(connection, &checked.vendor, &checked.serial).await? {
            Some(device) if !device.state.is_ours() => {
                return Ok(refuse(&refused(
                    "bootstrap.device-released",
                    format!("the device was {}", device.state),
                )));
            }
            Some(device) => device,
            None if self.options.add_devices => {
                insert(connection, &[blank(&checked.vendor, &checked.serial, now)]).await?;
                find_device(connection, &checked.serial, Some(&checked.vendor)).await?
            }
            None => {
                return Ok(refuse(&refused(
                    "bootstrap.serial-unknown",
                    format!(
                        "{} of {} is not in the register; import the devices first, or \
                         --add-devices",
                        checked.serial, checked.vendor
                    ),
                )));
            }
        };
        let is_new = store_voucher(connection, &checked, device.id, source, now).await?;
        Ok(if is_new {
            VoucherOutcome::Stored
        } else {
            VoucherOutcome::Known
        })
    }
}

fn refuse(refused: &Refused) -> VoucherOutcome {
    VoucherOutcome::Refused {
        code: refused.code,
        detail: refused.detail.clone(),
    }
}

/// Whether a file name stands for a serial number, as it is or in the form that is safe on every
/// file system.
fn is_name_of(stem: &str, serial: &str) -> bool {
    let safe = file_name(serial);
    stem == serial
        || stem == safe
        // Batches of `usher masa` add a hash where two serial numbers differ in case only.
        || stem
            .strip_prefix(&safe)
            .and_then(|rest| rest.strip_prefix('~'))
            .is_some_and(|rest| rest.len() == 12 && rest.chars().all(|c| c.is_ascii_hexdigit()))
}

/// A name that is safe on every file system: letters, digits, `.`, `_`, `-`; the rest as `%XX`.
#[must_use]
pub fn file_name(serial: &str) -> String {
    /// Longest name without its ending.
    const LENGTH_MAX: usize = 120;
    let mut name = String::new();
    for (index, octet) in serial.bytes().enumerate() {
        let plain =
            octet.is_ascii_alphanumeric() || b"_-".contains(&octet) || (octet == b'.' && index > 0);
        if plain {
            name.push(char::from(octet));
        } else {
            name.push_str(&format!("%{octet:02X}"));
        }
    }
    if name.len() > LENGTH_MAX {
        let hash = hex::encode(sha256(serial.as_bytes()));
        name.truncate(LENGTH_MAX - 17);
        name.push('~');
        name.push_str(hash.get(..16).unwrap_or_default());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_serial_numbers() {
        for (stem, serial, fits) in [
            ("SN-1", "SN-1", true),
            ("SN-2", "SN-1", false),
            ("PID%3AX%20SN%3A1", "PID:X SN:1", true),
            ("PID:X SN:1", "PID:X SN:1", true),
            ("ab~0123456789ab", "ab", true),
            ("ab~0123", "ab", false),
            ("AB", "ab", false),
        ] {
            assert_eq!(is_name_of(stem, serial), fits, "{stem} {serial}");
        }
        assert_eq!(file_name("../../etc"), "%2E.%2F..%2Fetc");
        assert!(file_name(&"x".repeat(300)).len() <= 120);
    }
}
