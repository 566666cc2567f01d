//! `usher bootstrap devices …`.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::{Args, Subcommand, ValueEnum};
use daemon::Outcome;
use daemon::cli::plain;
use serde::Serialize;
use serde_json::{Value, json};

use super::text::{table, when_or};
use super::{Context, show, with_store};
use crate::Error;
use crate::config::Config;
use crate::profile::Profiles;
use crate::register::rows::{COLUMNS, Form};
use crate::register::{
    DeviceChange, DeviceFilter, DeviceRow, Heard, ImportOptions, Listener, RowOutcome, State,
    count_devices, find_device, import, list_devices, list_groups, set_device,
};
use crate::vendor::Vendors;

/// Rows whose outcomes stand in the answer, refused ones besides; `--report` has all of them.
const OUTCOMES_MAX: usize = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum DevicesCommand {
    /// Bring devices in from CSV or JSON.
    ///
    /// All rows are written or none, and the same file again changes nothing: a device is known by
    /// vendor and serial number.
    Import(ImportArguments),
    /// Print an empty file for `import`.
    Template,
    /// Devices, with where they are on their way.
    List(ListArguments),
    /// Everything about a device: what it is, its vouchers, its timeline, what to do next.
    Show(show::ShowArguments),
    /// Peers that were refused because nobody here knows them, by the serial number that they gave.
    Strangers(show::StrangersArguments),
    /// Change what is known of a device.
    Set(SetArguments),
    /// Write the register as CSV or JSON lines, in the form that `import` reads.
    Export(ExportArguments),
    /// Groups, with how many devices each has.
    Groups,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// CSV with a header line, a JSON array, or JSON lines (by its ending).
    file: PathBuf,
    /// Say what would happen to each row, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Change devices that are there with other values.
    #[arg(long)]
    overwrite: bool,
    /// Import the good rows although others are refused.
    #[arg(long)]
    partial: bool,
    /// The vendor of rows that name none.
    #[arg(long)]
    vendor: Option<String>,
    /// Write the outcome of every row to this file, as JSON lines.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The form of the file, if its ending does not say it.
    #[arg(long, value_enum)]
    form: Option<FormName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormName {
    Csv,
    Json,
    JsonLines,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Csv => Self::Csv,
            FormName::Json => Self::Json,
            FormName::JsonLines => Self::JsonLines,
        }
    }
}

/// Which devices are meant.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct FilterArguments {
    /// Serial numbers that begin like this.
    #[arg(long, value_name = "PREFIX")]
    pub(super) serial: Option<String>,
    /// Of this vendor.
    #[arg(long)]
    pub(super) vendor: Option<String>,
    /// Of this group.
    #[arg(long)]
    pub(super) group: Option<String>,
    /// At this site.
    #[arg(long)]
    pub(super) site: Option<String>,
    /// Of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) device_type: Option<String>,
    /// In this state.
    #[arg(long, value_enum)]
    pub(super) state: Option<State>,
    /// Without a voucher that is valid now.
    #[arg(long)]
    pub(super) without_voucher: bool,
    /// Blocked ones only.
    #[arg(long)]
    pub(super) blocked: bool,
    /// Those that were released or replaced too.
    #[arg(long)]
    pub(super) gone: bool,
}

impl FilterArguments {
    /// The options as they were given.
    pub(super) fn words(&self) -> String {
        let state = self.state.map(|state| state.to_string());
        let valued = [
            ("--serial", &self.serial),
            ("--vendor", &self.vendor),
            ("--group", &self.group),
            ("--site", &self.site),
            ("--type", &self.device_type),
            ("--state", &state),
        ];
        let mut words: Vec<String> = valued
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)))
            .collect();
        words.extend(self.without_voucher.then(|| "--without-voucher".to_owned()));
        words.extend(self.blocked.then(|| "--blocked".to_owned()));
        words.join(" ")
    }

    pub(super) fn filter(&self, context: &Context) -> DeviceFilter {
        DeviceFilter {
            serial_prefix: self.serial.clone(),
            vendor: self.vendor.clone(),
            group: self.group.clone(),
            site: self.site.clone(),
            device_type: self.device_type.clone(),
            state: self.state,
            owner: None,
            blocked: self.blocked,
            without_voucher: self.without_voucher.then(|| context.clock.now()),
            gone: self.gone,
            after: 0,
            limit: 0,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    limit: u32,
    /// Only how many there are in each state.
    #[arg(long)]
    count: bool,
}

#[derive(Debug, Args)]
pub(super) struct SetArguments {
    /// Serial number, or VENDOR/SERIAL.
    serial: String,
    /// Its vendor, if several use the same number.
    #[arg(long)]
    vendor: Option<String>,
    /// The group; empty for none.
    #[arg(long)]
    group: Option<String>,
    /// The site.
    #[arg(long)]
    site: Option<String>,
    /// The type, which is the name of a device profile.
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// The owner; empty for none.
    #[arg(long)]
    owner: Option<String>,
    /// A note.
    #[arg(long)]
    note: Option<String>,
    /// A variable for templates: NAME=TEXT, or NAME:=JSON. Repeat it.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// Take a variable away. Repeat it.
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Give it nothing from now on, for this reason.
    #[arg(long, value_name = "REASON", conflicts_with = "unblock")]
    block: Option<String>,
    /// Lift the block.
    #[arg(long)]
    unblock: bool,
    /// Let it begin anew, as if it had not asked yet.
    #[arg(long)]
    reset: bool,
    /// Make a random password for HTTP Basic and print it, this once. The device's type has to
    /// allow Basic.
    #[arg(long, conflicts_with = "no_password")]
    password: bool,
    /// Read the password for HTTP Basic from standard input, where a device has one already.
    #[arg(long, conflicts_with_all = ["no_password", "password"])]
    password_stdin: bool,
    /// Take the password away.
    #[arg(long)]
    no_password: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Write to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// JSON lines instead of CSV.
    #[arg(long)]
    lines: bool,
}

pub(super) async fn run(context: &Context, command: &DevicesCommand) -> Result<Outcome, Error> {
    match command {
        DevicesCommand::Import(arguments) => run_import(context, arguments).await,
        DevicesCommand::Template => template(context),
        DevicesCommand::List(arguments) => list(context, arguments).await,
        DevicesCommand::Show(arguments) => show::show(context, arguments).await,
        DevicesCommand::Strangers(arguments) => show::strangers(context, arguments).await,
        DevicesCommand::Set(arguments) => set(context, arguments).await,
        DevicesCommand::Export(arguments) => export(context, arguments).await,
        DevicesCommand::Groups => groups(context).await,
    }
}

/// Keeps the outcomes that are shown, and writes all of them to a file.
#[derive(Default)]
pub(super) struct Outcomes {
    kept: Vec<Value>,
    /// What was refused has places of its own, so that a thousand good rows do not hide it.
    refused: Vec<Value>,
    left_out: u64,
    report: Option<(PathBuf, BufWriter<std::fs::File>)>,
    failure: Option<Error>,
}

impl Outcomes {
    pub(super) fn begin(&mut self, report: Option<&Path>) {
        self.kept.clear();
        self.refused.clear();
        self.left_out = 0;
        self.report = None;
        if let Some(path) = report {
            match std::fs::File::create(path) {
                Ok(file) => self.report = Some((path.to_owned(), BufWriter::new(file))),
                Err(error) => self.failure = Some(Error::file(path, error)),
            }
        }
    }

    /// `wanted` says whether it is worth a line on a terminal.
    pub(super) fn add(&mut self, outcome: &impl Serialize, wanted: bool) {
        // Our own types serialise.
        let Ok(value) = serde_json::to_value(outcome) else {
            return;
        };
        if let Some((path, file)) = &mut self.report
            && let Err(error) = writeln!(file, "{value}")
        {
            self.failure = Some(Error::file(path, error));
        }
        if wanted {
            let list = if value["outcome"] == "refused" {
                &mut self.refused
            } else {
                &mut self.kept
            };
            if list.len() < OUTCOMES_MAX {
                list.push(value);
            } else {
                self.left_out += 1;
            }
        }
    }

    pub(super) fn finish(&mut self) -> Result<(Vec<Value>, u64), Error> {
        if let Some((path, mut file)) = self.report.take() {
            file.flush().map_err(|error| Error::file(&path, error))?;
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => {
                let mut all = std::mem::take(&mut self.kept);
                all.append(&mut self.refused);
                Ok((all, self.left_out))
            }
        }
    }
}

/// The device types that there are.
fn types(config: &Config) -> Result<HashSet<String>, Error> {
    let folder = config.profiles.directory.as_deref();
    let folder = folder.map(|folder| config.resolve(folder));
    let profiles = Profiles::load(folder.as_deref())?;
    Ok(profiles.iter().map(|one| one.name.clone()).collect())
}

pub(super) fn vendor_names(config: &Config) -> Result<HashSet<String>, Error> {
    let mut names = HashSet::new();
    let folders = [
        Some(config.resolve(&config.vendors.directory)),
        config
            .legacy
            .as_ref()
            .map(|one| config.resolve(&one.vendors)),
    ];
    for folder in folders.into_iter().flatten() {
        let vendors = Vendors::load(&folder)?;
        names.extend(vendors.list.into_iter().map(|vendor| vendor.file.name));
    }
    Ok(names)
}

async fn run_import(context: &Context, arguments: &ImportArguments) -> Result<Outcome, Error> {
    let (config, store) = context.open().await?;
    let options = ImportOptions {
        dry_run: arguments.dry_run,
        partial: arguments.partial,
        overwrite: arguments.overwrite,
        vendor: arguments.vendor.clone(),
        vendors: vendor_names(&config)?,
        types: Some(types(&config)?),
        form: arguments.form.map(Form::from),
    };
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let listener: Listener = {
        let outcomes = Arc::clone(&outcomes);
        let report = arguments.report.clone();
        let all = arguments.dry_run;
        Arc::new(move |heard| {
            let mut outcomes = lock(&outcomes);
            match heard {
                Heard::Begin => outcomes.begin(report.as_deref()),
                Heard::Rows(rows) => {
                    for row in rows {
                        let refused = matches!(row.outcome, RowOutcome::Refused { .. });
                        outcomes.add(row, refused || all);
                    }
                }
            }
        })
    };
    let result = import(
        &store,
        &arguments.file,
        options,
        context.clock.now(),
        listener,
    )
    .await;
    store.close().await;
    let report = result?;
    let (rows, left_out) = lock(&outcomes).finish()?;
    let ok = report.refused == 0 || (arguments.partial && !arguments.dry_run);
    let answer = json!({
        "ok": ok, "dry_run": arguments.dry_run, "report": report,
        "outcomes": rows, "outcomes_left_out": left_out,
    });
    context.format.print(&answer, |_| {
        let mut lines: Vec<String> = rows.iter().map(row_text).collect();
        if left_out > 0 {
            lines.push(format!(
                "… and {left_out} more; --report FILE has all of them"
            ));
        }
        lines.push(format!(
            "{} rows: {} created, {} updated, {} unchanged, {} refused",
            report.rows, report.created, report.updated, report.unchanged, report.refused
        ));
        if arguments.dry_run {
            lines.push("nothing was written (--dry-run)".to_owned());
        } else if !report.written && report.refused > 0 {
            lines.push("nothing was written: all rows have to be good, or --partial".to_owned());
        }
        lines.join("\n")
    });
    Ok(Outcome::of(ok))
}

fn row_text(row: &Value) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = row.get("row").and_then(Value::as_u64).unwrap_or_default();
    let mut line = format!("row {number}: {}", text("outcome"));
    if !text("serial").is_empty() {
        let (vendor, serial) = (plain(text("vendor")), plain(text("serial")));
        line.push_str(&format!(" {vendor}/{serial}"));
    }
    if let Some(changed) = row.get("changed").and_then(Value::as_array) {
        let names: Vec<&str> = changed.iter().filter_map(Value::as_str).collect();
        line.push_str(&format!(" ({})", names.join(", ")));
    }
    if !text("code").is_empty() {
        line.push_str(&format!(": {} [{}]", plain(text("detail")), text("code")));
    }
    line
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn template(context: &Context) -> Result<Outcome, Error> {
    let text = format!(
        "{},var.hostname\n# FCW2129L0AB,acme,branch,berlin,generic,,,,,,br-berlin-1\n",
        COLUMNS.join(",")
    );
    let answer = json!({ "ok": true, "columns": COLUMNS, "csv": text });
    context.format.print(&answer, |_| text.clone());
    Ok(Outcome::Yes)
}

async fn list(context: &Context, arguments: &ListArguments) -> Result<Outcome, Error> {
    let mut filter = arguments.filter.filter(context);
    filter.limit = arguments.limit;
    let (counts, devices) = with_store(context, async |_, store| {
        let mut snapshot = store.snapshot().await?;
        let counts = count_devices(&mut snapshot, &filter).await?;
        let devices = if arguments.count {
            Vec::new()
        } else {
            list_devices(&mut snapshot, &filter).await?
        };
        Ok((counts, devices))
    })
    .await?;
    let total: i64 = counts.iter().map(|(_, number)| number).sum();
    let by_state: serde_json::Map<String, Value> = counts
        .iter()
        .map(|(state, number)| (state.to_string(), json!(number)))
        .collect();
    let answer = json!({ "total": total, "states": by_state, "devices": devices });
    context.format.print(&answer, |_| {
        let mut lines = Vec::new();
        if !arguments.count {
            let rows: Vec<Vec<String>> = devices.iter().map(list_row).collect();
            lines.push(table(
                &[
                    "SERIAL",
                    "VENDOR",
                    "GROUP",
                    "SITE",
                    "TYPE",
                    "STATE",
                    "PROGRESS",
                    "LAST SEEN",
                ],
                &rows,
            ));
        }
        let states: Vec<String> = counts
            .iter()
            .map(|(state, number)| format!("{number} {state}"))
            .collect();
        let separator = if states.is_empty() { "" } else { ": " };
        lines.push(format!("{total} devices{separator}{}", states.join(", ")));
        lines.join("\n")
    });
    Ok(Outcome::Yes)
}

fn list_row(device: &DeviceRow) -> Vec<String> {
    vec![
        plain(&device.serial),
        device.vendor.clone(),
        device.group.clone(),
        plain(&device.site),
        device.device_type.clone(),
        match &device.blocked {
            Some(_) => "blocked".to_owned(),
            None => device.state.to_string(),
        },
        device.last_progress.clone().unwrap_or_default(),
        when_or(device.last_seen, "never"),
    ]
}

async fn groups(context: &Context) -> Result<Outcome, Error> {
    let groups = with_store(context, async |_, store| list_groups(store).await).await?;
    let answer: Vec<Value> = groups
        .iter()
        .map(|(name, number)| json!({ "group": name, "devices": number }))
        .collect();
    context.format.print(&json!({ "groups": answer }), |_| {
        let rows: Vec<Vec<String>> = groups
            .iter()
            .map(|(name, number)| vec![name.clone(), number.to_string()])
            .collect();
        table(&["GROUP", "DEVICES"], &rows)
    });
    Ok(Outcome::Yes)
}

async fn set(context: &Context, arguments: &SetArguments) -> Result<Outcome, Error> {
    let mut variables = BTreeMap::new();
    for text in &arguments.variables {
        let (name, value) = variable(text)?;
        variables.insert(name, value);
    }
    let password = if arguments.password {
        Some(hex::encode(random::<16>()?))
    } else if arguments.password_stdin {
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| Error::file(Path::new("stdin"), error))?;
        let given = line.trim_end_matches(['\r', '\n']).to_owned();
        if given.is_empty() {
            return Err(Error::Usage("the password is empty".to_owned()));
        }
        Some(given)
    } else {
        None
    };
    let basic_hash = match &password {
        Some(password) => Some(Some(crate::auth::hash_password(password, &random::<16>()?))),
        None => arguments.no_password.then_some(None),
    };
    let change = DeviceChange {
        group: arguments.group.clone(),
        site: arguments.site.clone(),
        device_type: arguments.device_type.clone(),
        owner: arguments.owner.clone(),
        note: arguments.note.clone(),
        variables,
        unset: arguments.unset.clone(),
        block: arguments.block.clone(),
        unblock: arguments.unblock,
        basic_hash,
        reset: arguments.reset,
    };
    let now = context.clock.now();
    let (device, changed) = with_store(context, async |config, store| {
        if let Some(kind) = change.device_type.as_ref().filter(|kind| !kind.is_empty())
            && !types(config)?.contains(kind)
        {
            return Err(Error::NotFound {
                what: "device type",
                name: kind.clone(),
            });
        }
        let vendor = arguments.vendor.as_deref();
        let found = find_device(&mut *store.snapshot().await?, &arguments.serial, vendor).await?;
        let changed = set_device(store, found.id, change.clone(), now).await?;
        let device = find_device(
            &mut *store.snapshot().await?,
            &found.serial,
            Some(&found.vendor),
        )
        .await?;
        Ok((device, changed))
    })
    .await?;
    // What the operator gave itself is not said again.
    let password = password.filter(|_| arguments.password);
    let mut answer = json!({ "ok": true, "changed": changed, "device": device });
    if let (Some(password), Some(object)) = (&password, answer.as_object_mut()) {
        object.insert("password".to_owned(), password.as_str().into());
    }
    context.format.print(&answer, |_| {
        let word = if changed { "changed" } else { "unchanged" };
        let mut text = format!("{} {}: {word}", device.vendor, plain(&device.serial));
        if let Some(password) = &password {
            text.push_str(&format!("\npassword: {password}"));
        }
        text
    });
    Ok(Outcome::Yes)
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).map_err(|_| pki::Error::KeyGeneration)?;
    Ok(octets)
}

fn variable(text: &str) -> Result<(String, Value), Error> {
    let wrong = || Error::Usage(format!("{text:?} is not NAME=TEXT or NAME:=JSON"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    match name.strip_suffix(':') {
        Some(name) => Ok((
            name.to_owned(),
            serde_json::from_str(value).map_err(|_| wrong())?,
        )),
        None => Ok((name.to_owned(), Value::String(value.to_owned()))),
    }
}

async fn export(context: &Context, arguments: &ExportArguments) -> Result<Outcome, Error> {
    let filter = arguments.filter.filter(context);
    let out: Box<dyn Write + Send> = match &arguments.out {
        Some(path) => Box::new(std::fs::File::create(path).map_err(|e| Error::file(path, e))?),
        None => Box::new(std::io::stdout()),
    };
    let lines = arguments.lines || (context.format.json && arguments.out.is_none());
    let count = with_store(context, async |_, store| {
        super::export::devices(store, filter, out, lines).await
    })
    .await?;
    if let Some(path) = &arguments.out {
        let answer = json!({ "ok": true, "devices": count, "file": path });
        context.format.print(&answer, |_| {
            format!("{count} devices in {}", path.display())
        });
    }
    Ok(Outcome::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_row_is_named_however_many_are_good() {
        let mut outcomes = Outcomes::default();
        outcomes.begin(None);
        for row in 0..2 * OUTCOMES_MAX {
            outcomes.add(&json!({ "row": row, "outcome": "created" }), true);
        }
        outcomes.add(&json!({ "row": 7, "outcome": "refused" }), true);
        let (rows, left_out) = outcomes.finish().unwrap();
        assert_eq!((rows.len(), left_out), (OUTCOMES_MAX + 1, 1000));
        assert_eq!(rows.last().unwrap()["outcome"], "refused");
    }
}
