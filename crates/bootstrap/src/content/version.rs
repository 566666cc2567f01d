//! Versions of operating systems in an order that their makers would recognise.
//!
//! `os-version` is a string without a format (RFC 8572 §7.3). Makers agree on little more than
//! this: runs of digits count as numbers, letters separate or continue them (`15.2(4)E`,
//! `21.4R3-S4`, `4.28.1F`), a final zero says nothing (`7.3` is `7.3.0`), and `rc`, `beta` and the
//! like stand before the release. The order is total, so rules over it decide the same way always.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// Letters that stand before a release and not after it.
const BEFORE_RELEASE: &[&str] = &["alpha", "beta", "dev", "pre", "preview", "rc"];

/// One run of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Run {
    /// `rc`, `beta` and the like; less than nothing.
    Before(String),
    /// Letters.
    Letters(String),
    /// Digits without leading zeros.
    Number(String),
}

impl Run {
    fn rank(run: Option<&Self>) -> u8 {
        match run {
            Some(Self::Before(_)) => 0,
            None => 1,
            Some(Self::Letters(_)) => 2,
            Some(Self::Number(_)) => 3,
        }
    }
}

/// A version, ready to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Vec<Run>);

impl Version {
    /// Reads any text; two texts that differ only in separators, in zeros that say nothing or in
    /// case are the same version.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut runs = Vec::new();
        let mut rest = text.trim();
        if let Some(after) = rest.strip_prefix(['v', 'V'])
            && after.starts_with(|c: char| c.is_ascii_digit())
        {
            rest = after;
        }
        while let Some(first) = rest.chars().next() {
            if first.is_ascii_digit() {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(rest.len());
                let (run, after) = rest.split_at(end);
                runs.push(Run::Number(run.trim_start_matches('0').to_owned()));
                rest = after;
            } else if first.is_alphabetic() {
                let end = rest
                    .find(|c: char| !c.is_alphabetic())
                    .unwrap_or(rest.len());
                let (run, after) = rest.split_at(end);
                let run = run.to_lowercase();
                runs.push(if BEFORE_RELEASE.contains(&run.as_str()) {
                    Run::Before(run)
                } else {
                    Run::Letters(run)
                });
                rest = after;
            } else {
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
        // From the end, so that of `1.0.0-rc1` both zeros go.
        let mut kept: Vec<Run> = Vec::with_capacity(runs.len());
        for run in runs.into_iter().rev() {
            let silent = matches!(&run, Run::Number(number) if number.is_empty());
            if silent && !matches!(kept.last(), Some(Run::Number(_))) {
                continue;
            }
            kept.push(run);
        }
        kept.reverse();
        Self(kept)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        for index in 0..self.0.len().max(other.0.len()) {
            let (a, b) = (self.0.get(index), other.0.get(index));
            let order = match (a, b) {
                (Some(Run::Number(a)), Some(Run::Number(b))) => {
                    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
                }
                (Some(Run::Before(a)), Some(Run::Before(b)))
                | (Some(Run::Letters(a)), Some(Run::Letters(b))) => a.cmp(b),
                _ => Run::rank(a).cmp(&Run::rank(b)),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Comparison {
    Ordered(Operator, Version),
    Like(Pattern),
}

/// A condition on a version: `17.9.4`, `17.9.*`, `>= 17.3, < 17.12`, `!= 17.6.1`.
///
/// What commas separate has to hold together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionRange {
    text: String,
    comparisons: Vec<Comparison>,
}

impl VersionRange {
    /// Reads a condition.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut comparisons = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let (operator, version) = [
                ("<=", Operator::LessOrEqual),
                (">=", Operator::GreaterOrEqual),
                ("!=", Operator::NotEqual),
                ("==", Operator::Equal),
                ("<", Operator::Less),
                (">", Operator::Greater),
                ("=", Operator::Equal),
            ]
            .into_iter()
            .find_map(|(sign, operator)| Some((Some(operator), part.strip_prefix(sign)?.trim())))
            .unwrap_or((None, part));
            if version.is_empty() || version.starts_with(['<', '>', '=', '!']) {
                return Err(format!("{part:?} is no comparison with a version"));
            }
            comparisons.push(if !version.contains(['*', '?']) {
                Comparison::Ordered(operator.unwrap_or(Operator::Equal), Version::new(version))
            } else if operator.is_none() {
                Comparison::Like(Pattern::new(version))
            } else {
                return Err(format!("{part:?} has both an operator and a wildcard"));
            });
        }
        Ok(Self {
            text: text.to_owned(),
            comparisons,
        })
    }

    /// Whether the version is in the range. `parsed` is `text`, read.
    #[must_use]
    pub fn contains(&self, text: &str, parsed: &Version) -> bool {
        self.comparisons.iter().all(|comparison| match comparison {
            Comparison::Like(pattern) => pattern.matches(text),
            Comparison::Ordered(operator, version) => {
                let order = parsed.cmp(version);
                match operator {
                    Operator::Equal => order == Ordering::Equal,
                    Operator::NotEqual => order != Ordering::Equal,
                    Operator::Less => order == Ordering::Less,
                    Operator::LessOrEqual => order != Ordering::Greater,
                    Operator::Greater => order == Ordering::Greater,
                    Operator::GreaterOrEqual => order != Ordering::Less,
                }
            }
        })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for VersionRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<VersionRange> for String {
    fn from(range: VersionRange) -> Self {
        range.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_their_makers() {
        // Each line ascends.
        let lines: &[&[&str]] = &[
            &["1.0.0-beta2", "1.0.0-rc1", "1.0", "1.0.1", "1.2", "1.10"],
            &[
                "16.12.4", "17.3.1", "17.03.1a", "17.9.4", "17.12", "17.12.1",
            ],
            &["7.3.1", "7.3.2", "7.5.2", "7.11.1", "24.1.1"],
            &["21.4R1", "21.4R3", "21.4R3-S4", "21.4R3-S4.9", "22.1R1"],
            &["15.2(4)E", "15.2(4)E10", "15.2(7)E"],
            &["4.28.1F", "4.28.10F", "4.29.0F"],
            &[
                "",
                "0.1",
                "99999999999999999999999998",
                "99999999999999999999999999",
            ],
        ];
        for line in lines {
            for (i, a) in line.iter().enumerate() {
                for (j, b) in line.iter().enumerate() {
                    let order = Version::new(a).cmp(&Version::new(b));
                    assert_eq!(order, i.cmp(&j), "{a} {b}");
                }
            }
        }
        for (a, b) in [
            ("7.3", "7.3.0"),
            ("17.09.04", "17.9.4"),
            ("v1.2", "V1.2.0.0"),
            ("1.0.0-rc1", "1-RC.1"),
        ] {
            assert_eq!(
                Version::new(a).cmp(&Version::new(b)),
                Ordering::Equal,
                "{a} {b}"
            );
        }
    }

    #[test]
    fn ranges_contain_what_they_say() {
        let cases = [
            ("17.9.4", "17.09.04", true),
            ("17.9.*", "17.9.4", true),
            ("17.9.*", "17.10.4", false),
            (">= 17.3, < 17.12", "17.9.4a", true),
            (">= 17.3, < 17.12", "17.12", false),
            ("<17.12", "17.12.0", false),
            ("<=17.12", "17.12.0", true),
            (">17.12", "17.12.1", true),
            ("!= 17.6.1", "17.6.1", false),
            ("!=17.6.1", "17.6.2", true),
            ("== 1", "1.0", true),
            ("= 1", "1.0", true),
        ];
        for (range, version, inside) in cases {
            let parsed = Version::new(version);
            assert_eq!(
                VersionRange::new(range).unwrap().contains(version, &parsed),
                inside,
                "{range} {version}"
            );
        }
        for bad in ["", "<", "< 1,", ">= <2", "< 1.*", "=> 1"] {
            assert!(VersionRange::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-9a-z.()-]{0,12}", b in "[0-9a-z.()-]{0,12}", c in "[0-9a-z.()-]{0,12}") {
            let (a, b, c) = (Version::new(&a), Version::new(&b), Version::new(&c));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn any_text_is_read(text in ".{0,40}") {
            let _ = Version::new(&text);
            let _ = VersionRange::new(&text);
        }
    }
}
