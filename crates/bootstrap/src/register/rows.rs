//! Rows of a device file: CSV with a header line, a JSON array, or JSON lines.
//!
//! Rows come one after the other, so a file of a million rows needs no more memory than one row.
//! What is wrong with a row is said of that row; only a file that is no table is refused whole.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};

/// Rows in one file.
pub const ROWS_MAX: u64 = 5_000_000;
/// Octets of one row.
pub const ROW_SIZE_MAX_BYTES: u64 = 1024 * 1024;
/// Octets of one short value.
pub const VALUE_LENGTH_MAX_BYTES: usize = 256;
/// Octets of all variables of a device.
pub const VARIABLES_SIZE_MAX_BYTES: usize = 256 * 1024;
/// Variables of a device.
pub const VARIABLES_MAX: usize = 1000;

/// Form of a device file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// CSV with a header line.
    Csv,
    /// A JSON array of objects.
    Json,
    /// One JSON object a line.
    JsonLines,
}

impl Form {
    /// By the name of the file.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let ending = name.rsplit('.').next().unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "jsonl" | "ndjson" => Self::JsonLines,
            _ => Self::Csv,
        }
    }
}

/// A device as a file has it. An absent value leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ImportRow {
    /// Serial number.
    #[serde(alias = "serial-number", alias = "serial_number")]
    pub serial: String,
    /// The vendor, as in the vendors' profiles.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The group.
    #[serde(default)]
    pub group: Option<String>,
    /// The site.
    #[serde(default)]
    pub site: Option<String>,
    /// The type, which is the name of a device profile.
    #[serde(default, alias = "device_type", alias = "type")]
    pub device_type: Option<String>,
    /// What it is, as it will say itself.
    #[serde(default, alias = "hw_model", alias = "model")]
    pub hw_model: Option<String>,
    /// Its operating system.
    #[serde(default, alias = "os_name")]
    pub os_name: Option<String>,
    /// The version of it.
    #[serde(default, alias = "os_version")]
    pub os_version: Option<String>,
    /// Whose it is, where the server works for several owners.
    #[serde(default)]
    pub owner: Option<String>,
    /// The serial number of the device that this one is a part of (route processor, module).
    #[serde(default, alias = "alias_of", alias = "part-of", alias = "part_of")]
    pub alias_of: Option<String>,
    /// Variables for templates; in CSV the columns `var.NAME`, and `var.NAME:=` for JSON.
    #[serde(default)]
    pub variables: BTreeMap<String, serde_json::Value>,
}

/// The columns of CSV, without those for variables.
pub const COLUMNS: [&str; 10] = [
    "serial",
    "vendor",
    "group",
    "site",
    "device-type",
    "hw-model",
    "os-name",
    "os-version",
    "owner",
    "alias-of",
];

/// Why a row or a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The stable code.
    pub code: &'static str,
    /// In words.
    pub detail: String,
}

impl Refused {
    fn file(detail: impl Into<String>) -> Self {
        Self {
            code: "bootstrap.import-file",
            detail: detail.into(),
        }
    }

    fn row(detail: impl Into<String>) -> Self {
        Self {
            code: "bootstrap.import-row",
            detail: detail.into(),
        }
    }

    fn value(detail: impl Into<String>) -> Self {
        Self {
            code: "bootstrap.import-value",
            detail: detail.into(),
        }
    }
}

/// Gets the rows one after the other; says whether to go on.
pub type Sink<'a> = &'a mut dyn FnMut(Result<ImportRow, Refused>) -> bool;

/// Reads a device file and hands on its rows in order, each checked by itself.
///
/// # Errors
/// The file is no table, or has too many rows.
pub fn read<R: Read>(reader: R, form: Form, sink: Sink<'_>) -> Result<(), Refused> {
    let since = Rc::new(Cell::new(0));
    let reader = Metered {
        inner: reader,
        since: Rc::clone(&since),
    };
    let mut rows = 0_u64;
    let mut stopped = false;
    let mut push = |row: Result<ImportRow, Refused>| -> Result<bool, Refused> {
        since.set(0);
        rows += 1;
        if rows > ROWS_MAX {
            return Err(Refused::file(format!("more than {ROWS_MAX} rows")));
        }
        let row = row.and_then(checked);
        stopped = !sink(row);
        Ok(!stopped)
    };
    let result = match form {
        Form::Csv => read_csv(reader, &mut push),
        Form::Json => read_json(reader, &mut push),
        Form::JsonLines => read_lines(reader, &mut push),
    };
    if stopped { Ok(()) } else { result }
}

type Push<'a> = &'a mut dyn FnMut(Result<ImportRow, Refused>) -> Result<bool, Refused>;

/// Ends a row that does not end by itself, such as one after a stray quotation mark.
struct Metered<R> {
    inner: R,
    since: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.since
            .set(self.since.get().saturating_add(length as u64));
        if self.since.get() > ROW_SIZE_MAX_BYTES {
            return Err(std::io::Error::other(format!(
                "a row is longer than {ROW_SIZE_MAX_BYTES} octets; is there a stray quotation mark?"
            )));
        }
        Ok(length)
    }
}

fn read_csv<R: Read>(reader: R, push: Push<'_>) -> Result<(), Refused> {
    let mut reader = BufReader::new(reader);
    // Spreadsheets of half of Europe separate with semicolons.
    let first = reader
        .fill_buf()
        .map_err(|error| Refused::file(error.to_string()))?;
    let header = first.split(|octet| *octet == b'\n').next().unwrap_or(first);
    let semicolons = !header.contains(&b',') && header.contains(&b';');
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(false)
        .comment(Some(b'#'))
        .delimiter(if semicolons { b';' } else { b',' })
        .from_reader(reader);
    let headers = reader
        .headers()
        .map_err(|error| Refused::file(error.to_string()))?;
    let columns: Vec<Column> = headers
        .iter()
        .map(|name| Column::of(name.trim_start_matches('\u{feff}')))
        .collect::<Result<_, _>>()?;
    for (index, column) in columns.iter().enumerate() {
        if columns.iter().take(index).any(|other| other == column) {
            return Err(Refused::file(format!("two columns are named {column}")));
        }
    }
    if !columns.contains(&Column::Named("serial")) {
        return Err(Refused::file(format!(
            "no column is named serial; the columns are {}, and var.NAME",
            COLUMNS.join(", ")
        )));
    }
    let mut record = csv::StringRecord::new();
    loop {
        let row = match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => row_of(&columns, &record),
            Err(error) => match error.kind() {
                // The reader goes on after these; any other error ends the file.
                csv::ErrorKind::UnequalLengths {
                    expected_len, len, ..
                } => Err(Refused::row(format!(
                    "{len} values, and the header has {expected_len}"
                ))),
                csv::ErrorKind::Utf8 { .. } => Err(Refused::row("not UTF-8")),
                _ => return Err(Refused::file(error.to_string())),
            },
        };
        if !push(row)? {
            return Ok(());
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Named(&'static str),
    Variable(String),
    /// `var.NAME:=`, whose values are JSON.
    Json(String),
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Variable(name) => write!(f, "var.{name}"),
            Self::Json(name) => write!(f, "var.{name}:="),
        }
    }
}

impl Column {
    fn of(text: &str) -> Result<Self, Refused> {
        // Variables keep their case, everything else has none.
        if let Some(name) = text.strip_prefix("var.") {
            return Ok(match name.strip_suffix(":=") {
                Some(name) => Self::Json(name.to_owned()),
                None => Self::Variable(name.to_owned()),
            });
        }
        let name = text.to_ascii_lowercase().replace(['_', ' '], "-");
        let name = match name.as_str() {
            "serial-number" => "serial",
            "type" => "device-type",
            "model" => "hw-model",
            "part-of" => "alias-of",
            other => other,
        };
        COLUMNS
            .iter()
            .find(|column| **column == name)
            .map(|column| Self::Named(column))
            .ok_or_else(|| {
                Refused::file(format!(
                    "there is no column {text:?}; the columns are {}, and var.NAME",
                    COLUMNS.join(", ")
                ))
            })
    }
}

fn row_of(columns: &[Column], record: &csv::StringRecord) -> Result<ImportRow, Refused> {
    let mut row = ImportRow::default();
    for (column, value) in columns.iter().zip(record) {
        if value.is_empty() {
            continue;
        }
        let text = Some(value.to_owned());
        match column {
            Column::Variable(name) => {
                row.variables
                    .insert(name.clone(), serde_json::Value::String(value.to_owned()));
            }
            Column::Json(name) => {
                let value = serde_json::from_str(value)
                    .map_err(|error| Refused::value(format!("{column} is not JSON: {error}")))?;
                row.variables.insert(name.clone(), value);
            }
            Column::Named("serial") => row.serial = value.to_owned(),
            Column::Named("vendor") => row.vendor = text,
            Column::Named("group") => row.group = text,
            Column::Named("site") => row.site = text,
            Column::Named("device-type") => row.device_type = text,
            Column::Named("hw-model") => row.hw_model = text,
            Column::Named("os-name") => row.os_name = text,
            Column::Named("os-version") => row.os_version = text,
            Column::Named("owner") => row.owner = text,
            Column::Named("alias-of") => row.alias_of = text,
            Column::Named(other) => {
                return Err(Refused::row(format!("the column {other} is not read")));
            }
        }
    }
    Ok(row)
}

fn read_json<R: Read>(reader: R, push: Push<'_>) -> Result<(), Refused> {
    struct Rows<'a, 'b>(Push<'a>, &'b mut Option<Refused>);

    impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
        type Value = ();
        fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }

    impl<'de> Visitor<'de> for Rows<'_, '_> {
        type Value = ();
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an array of devices")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
            let stop = || serde::de::Error::custom("stopped");
            while let Some(value) = sequence.next_element::<serde_json::Value>()? {
                let row = serde_json::from_value(value).map_err(|e| Refused::row(e.to_string()));
                match (self.0)(row) {
                    Ok(true) => {}
                    Ok(false) => return Err(stop()),
                    Err(refused) => {
                        *self.1 = Some(refused);
                        return Err(stop());
                    }
                }
            }
            Ok(())
        }
    }

    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(reader));
    let result = Rows(push, &mut refused)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    match (refused, result) {
        (Some(refused), _) => Err(refused),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(Refused::file(error.to_string())),
    }
}

fn read_lines<R: Read>(reader: R, push: Push<'_>) -> Result<(), Refused> {
    for line in BufReader::new(reader).lines() {
        let line = line.map_err(|error| Refused::file(error.to_string()))?;
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            continue;
        }
        let row = serde_json::from_str(line).map_err(|error| Refused::row(error.to_string()));
        if !push(row)? {
            return Ok(());
        }
    }
    Ok(())
}

/// The row, if its values can be what they say.
fn checked(row: ImportRow) -> Result<ImportRow, Refused> {
    if !is_serial(&row.serial) {
        return Err(Refused::value(
            "the serial number is empty, too long or has control characters",
        ));
    }
    if row
        .alias_of
        .as_deref()
        .is_some_and(|serial| !is_serial(serial))
    {
        return Err(Refused::value("alias-of is not a serial number"));
    }
    if row.alias_of.as_deref() == Some(&row.serial) {
        return Err(Refused::value("a device is not a part of itself"));
    }
    for (name, value) in [
        ("vendor", &row.vendor),
        ("group", &row.group),
        ("device-type", &row.device_type),
        ("owner", &row.owner),
    ] {
        if value.as_deref().is_some_and(|value| !is_name(value)) {
            return Err(Refused::value(format!(
                "{name} has to be letters, digits, dots, dashes and underscores"
            )));
        }
    }
    for (name, value) in [
        ("site", &row.site),
        ("hw-model", &row.hw_model),
        ("os-name", &row.os_name),
        ("os-version", &row.os_version),
    ] {
        if value.as_deref().is_some_and(|value| !is_value(value)) {
            return Err(Refused::value(format!(
                "{name} is too long or has control characters"
            )));
        }
    }
    check_variables(&row.variables)?;
    Ok(row)
}

/// Whether a text can be the serial number of a device.
#[must_use]
pub fn is_serial(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= VALUE_LENGTH_MAX_BYTES
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

/// Whether a text can be the name of a group, a type, a vendor or an owner.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text.starts_with('.')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Whether a text can be a short value.
#[must_use]
pub fn is_value(text: &str) -> bool {
    text.len() <= VALUE_LENGTH_MAX_BYTES && !text.chars().any(char::is_control)
}

/// Whether variables can be used by a template.
///
/// # Errors
/// What is wrong with them.
pub fn check_variables(variables: &BTreeMap<String, serde_json::Value>) -> Result<(), Refused> {
    if variables.len() > VARIABLES_MAX {
        return Err(Refused::value(format!(
            "more than {VARIABLES_MAX} variables"
        )));
    }
    for name in variables.keys() {
        let first = name.chars().next().unwrap_or('0');
        let good = name.len() <= 64
            && (first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            return Err(Refused::value(format!(
                "{name:?} cannot be the name of a variable: letters, digits and underscores"
            )));
        }
    }
    let size = serde_json::to_vec(variables).map_or(usize::MAX, |text| text.len());
    if size > VARIABLES_SIZE_MAX_BYTES {
        return Err(Refused::value(format!(
            "the variables are larger than {VARIABLES_SIZE_MAX_BYTES} octets"
        )));
    }
    Ok(())
}
