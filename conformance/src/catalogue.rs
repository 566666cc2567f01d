//! The requirements: rows in own words with ids that never change.
//!
//! The files under `conformance/requirements` are built in, so that a single binary works offline
//! anywhere and a report can say the sentence that was broken.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// One requirement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// Its id, which never changes.
    pub id: String,
    /// The document that it is from.
    pub spec: String,
    /// The section of that document.
    pub section: String,
    /// MUST, SHOULD and so on; STATED where the text has no keyword, DERIVED where it follows.
    pub level: String,
    /// Who has to keep it.
    pub role: String,
    /// It, in own words.
    pub requirement: String,
    /// A hint at how it can be seen from outside.
    pub how_to_test: String,
    /// 1 is most important.
    pub priority: u8,
}

/// How a broken requirement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Allowed; what is observed is reported.
    May,
    /// A warning, unless `--strict`.
    Should,
    /// A failure.
    Must,
}

impl Level {
    /// Reads a level of the catalogue. What follows from the text without a keyword counts like
    /// MUST: an implementation that does otherwise does not interoperate.
    #[must_use]
    pub fn of(text: &str) -> Self {
        if text.starts_with("SHOULD") || text.starts_with("RECOMMENDED") {
            Self::Should
        } else if text.starts_with("MAY") || text.starts_with("OPTIONAL") {
            Self::May
        } else {
            Self::Must
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::May => "MAY",
            Self::Should => "SHOULD",
            Self::Must => "MUST",
        }
    }
}

/// All rows, by id.
#[derive(Clone, Debug)]
pub struct Catalogue {
    rows: Vec<Row>,
    place: BTreeMap<String, usize>,
    untestable: BTreeMap<String, String>,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$( ($name, include_str!(concat!("../requirements/", $name, ".csv"))) ),*]
    };
}

const FILES: &[(&str, &str)] = built_in![
    "ae",
    "base",
    "brski",
    "cbrski",
    "cloud",
    "coap",
    "cose",
    "dtls",
    "est",
    "est-coaps",
    "join-proxy",
    "jws",
    "prm",
    "sztp-misc",
    "sztp-restconf-encoding",
    "sztp-rfc8366",
    "sztp-rfc8572",
    "sztp-rfc9646",
    "voucher",
    "voucher-cbor",
];

const UNTESTABLE: &str = include_str!("../untestable.csv");

#[derive(Deserialize)]
struct Reason {
    id: String,
    reason: String,
}

impl Catalogue {
    /// The catalogue that is built in.
    ///
    /// # Errors
    /// If a file of it is malformed.
    pub fn load() -> Result<Self> {
        let mut rows = Vec::new();
        for (name, text) in FILES {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            for row in reader.deserialize() {
                rows.push(row.with_context(|| format!("conformance/requirements/{name}.csv"))?);
            }
        }
        let place = rows
            .iter()
            .enumerate()
            .map(|(place, row): (usize, &Row)| (row.id.clone(), place))
            .collect();
        let mut untestable = BTreeMap::new();
        for reason in csv::Reader::from_reader(UNTESTABLE.as_bytes()).deserialize() {
            let reason: Reason = reason.context("conformance/untestable.csv")?;
            untestable.insert(reason.id, reason.reason);
        }
        Ok(Self {
            rows,
            place,
            untestable,
        })
    }

    /// Every row, in the order of the files.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Row> {
        self.rows.get(*self.place.get(id)?)
    }

    /// Why a row cannot be tested from outside, if it cannot.
    #[must_use]
    pub fn untestable(&self, id: &str) -> Option<&str> {
        self.untestable.get(id).map(String::as_str)
    }

    /// The ids for which there is such a reason.
    pub fn untestable_ids(&self) -> impl Iterator<Item = &str> {
        self.untestable.keys().map(String::as_str)
    }

    /// The level of the first of these requirements, which is the one that a case is about.
    #[must_use]
    pub fn level(&self, ids: &[&str]) -> Level {
        ids.first()
            .and_then(|id| self.get(id))
            .map_or(Level::Must, |row| Level::of(&row.level))
    }
}
