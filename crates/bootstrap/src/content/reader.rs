//! Reading TOML so that every mistake is found in one pass, each with its line.
//!
//! serde stops at the first unknown key or wrong type. A folder is written by hand, so the reader
//! walks the parsed document itself: what it was asked for it takes out, and what is left over was
//! not known.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Findings;

/// How deep variables may be nested.
const DEPTH_MAX: usize = 32;

/// A TOML file while it is read.
#[derive(Debug)]
pub(super) struct Source<'t> {
    file: &'t str,
    /// Offset at which each line begins.
    lines: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t str, text: &str) -> Self {
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { file, lines }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|begin| *begin <= span.start)
    }
}

/// Something that was read, with the line that it stood on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

impl<T> At<T> {
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At {
            line: self.line,
            value: f(self.value),
        }
    }
}

/// One table of the file: keys are taken out, [`Reader::finish`] complains about the rest.
pub(super) struct Reader<'a, 'd> {
    source: &'a Source<'a>,
    findings: &'a mut Findings,
    table: &'a DeTable<'d>,
    /// The line that the table begins on.
    line: usize,
    /// What the table is, for messages.
    what: String,
    taken: BTreeSet<String>,
}

impl<'a, 'd> Reader<'a, 'd> {
    pub(super) fn new(
        source: &'a Source<'a>,
        findings: &'a mut Findings,
        table: &'a Spanned<DeTable<'d>>,
        what: String,
    ) -> Self {
        Self {
            source,
            findings,
            line: source.line(&table.span()),
            table: table.get_ref(),
            what,
            taken: BTreeSet::new(),
        }
    }

    pub(super) const fn line(&self) -> usize {
        self.line
    }

    pub(super) fn error(&mut self, line: usize, code: &'static str, message: impl Into<String>) {
        self.findings
            .error(self.source.file, Some(line), code, message);
    }

    pub(super) fn rename(&mut self, what: String) {
        self.what = what;
    }

    fn value(&mut self, key: &str) -> Option<&'a Spanned<DeValue<'d>>> {
        self.taken.insert(key.to_owned());
        self.table.get(key)
    }

    fn wrong(&mut self, key: &str, value: &Spanned<DeValue<'d>>, wanted: &str) {
        let line = self.source.line(&value.span());
        let message = format!(
            "{key} of {} is {wanted}, not a value of type {}",
            self.what,
            value.get_ref().type_str()
        );
        self.error(line, "content.wrong-type", message);
    }

    fn missing(&mut self, key: &str) {
        let message = format!("{} has no {key}", self.what);
        self.error(self.line, "content.missing-key", message);
    }

    /// Whether the key stands there at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    pub(super) fn text(&mut self, key: &str) -> Option<At<String>> {
        let value = self.value(key)?;
        if let Some(text) = value.get_ref().as_str() {
            return Some(At {
                line: self.source.line(&value.span()),
                value: text.to_owned(),
            });
        }
        self.wrong(key, value, "a text");
        None
    }

    pub(super) fn needed_text(&mut self, key: &str) -> Option<At<String>> {
        if !self.has(key) {
            self.missing(key);
        }
        self.text(key)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        if let Some(flag) = value.get_ref().as_bool() {
            return Some(flag);
        }
        self.wrong(key, value, "true or false");
        None
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = self.value(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
        let Some(number) = number else {
            self.wrong(key, value, "a whole number");
            return None;
        };
        match u32::try_from(number) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let line = self.source.line(&value.span());
                let message = format!(
                    "{key} of {} is from {} to {}",
                    self.what,
                    range.start(),
                    range.end()
                );
                self.error(line, "content.out-of-range", message);
                None
            }
        }
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&mut self, key: &str) -> Vec<At<String>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        if let Some(text) = value.get_ref().as_str() {
            return vec![At {
                line: self.source.line(&value.span()),
                value: text.to_owned(),
            }];
        }
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value, "a text or a list of texts");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            if let Some(text) = item.get_ref().as_str() {
                texts.push(At {
                    line: self.source.line(&item.span()),
                    value: text.to_owned(),
                });
            } else {
                self.wrong(key, item, "a list of texts");
            }
        }
        texts
    }

    /// A list of tables (`[[key]]`), each read by `read`.
    pub(super) fn tables(&mut self, key: &str, mut read: impl FnMut(&mut Reader<'_, 'd>)) {
        let Some(value) = self.value(key) else {
            return;
        };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of tables");
            return;
        };
        for (index, item) in list.iter().enumerate() {
            let Some(table) = item.get_ref().as_table() else {
                self.wrong(key, item, "a list of tables");
                continue;
            };
            let mut reader = Reader {
                source: self.source,
                findings: &mut *self.findings,
                table,
                line: self.source.line(&item.span()),
                what: format!("{key} {}", index + 1),
                taken: BTreeSet::new(),
            };
            read(&mut reader);
            reader.finish();
        }
    }

    /// A table (`[key]`), read by `read`.
    pub(super) fn table(&mut self, key: &str, read: impl FnOnce(&mut Reader<'_, 'd>)) {
        let Some(value) = self.value(key) else {
            return;
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table");
            return;
        };
        let mut reader = Reader {
            source: self.source,
            findings: &mut *self.findings,
            table,
            line: self.source.line(&value.span()),
            what: key.to_owned(),
            taken: BTreeSet::new(),
        };
        read(&mut reader);
        reader.finish();
    }

    /// Tables by a name of the writer's (`[key.NAME]`).
    pub(super) fn named_tables(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &mut Reader<'_, 'd>),
    ) {
        self.table(key, |outer| {
            let names: Vec<String> = outer
                .table
                .iter()
                .map(|(name, _)| name.get_ref().to_string())
                .collect();
            for name in names {
                let label = format!("{key}.{name}");
                outer.table(&name, |inner| {
                    inner.rename(label);
                    read(&name, inner);
                });
            }
        });
    }

    /// A table of variables, which may hold anything.
    pub(super) fn variables(&mut self, key: &str) -> serde_json::Map<String, Json> {
        let Some(value) = self.value(key) else {
            return serde_json::Map::new();
        };
        if !value.get_ref().is_table() {
            self.wrong(key, value, "a table");
            return serde_json::Map::new();
        }
        match self.json(value, 0) {
            Some(Json::Object(map)) => map,
            _ => serde_json::Map::new(),
        }
    }

    fn json(&mut self, value: &Spanned<DeValue<'d>>, depth: usize) -> Option<Json> {
        let line = self.source.line(&value.span());
        if depth >= DEPTH_MAX {
            self.error(
                line,
                "content.too-deep",
                format!("variables are nested at most {DEPTH_MAX} deep"),
            );
            return None;
        }
        Some(match value.get_ref() {
            DeValue::String(text) => Json::from(text.as_ref()),
            DeValue::Boolean(flag) => Json::from(*flag),
            DeValue::Datetime(time) => Json::from(time.to_string()),
            DeValue::Integer(integer) => {
                if let Ok(number) = i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Json::from(number)
                } else {
                    self.error(line, "content.out-of-range", "the number has over 63 bits");
                    return None;
                }
            }
            DeValue::Float(float) => {
                let number = float.as_str().parse().ok();
                if let Some(number) = number.and_then(serde_json::Number::from_f64) {
                    Json::Number(number)
                } else {
                    self.error(line, "content.out-of-range", "the number is not finite");
                    return None;
                }
            }
            DeValue::Array(list) => Json::Array(
                list.iter()
                    .filter_map(|item| self.json(item, depth + 1))
                    .collect(),
            ),
            DeValue::Table(table) => {
                let mut map = serde_json::Map::new();
                for (name, item) in table.iter() {
                    if let Some(item) = self.json(item, depth + 1) {
                        map.insert(name.get_ref().to_string(), item);
                    }
                }
                Json::Object(map)
            }
        })
    }

    /// Complains about what was not asked for.
    pub(super) fn finish(&mut self) {
        let table = self.table;
        for (name, _) in table.iter() {
            if !self.taken.contains(name.get_ref().as_ref()) {
                let line = self.source.line(&name.span());
                let message = format!("{} has no key {:?}", self.what, name.get_ref());
                self.error(line, "content.unknown-key", message);
            }
        }
    }
}
