//! Which cases to run.
//!
//! A pattern is a case's id or the beginning of one, a requirement's id or the beginning of one,
//! `tag:WORD`, `level:must`, or `section:5.5.6`; `*` stands for anything in a case's id.

use crate::{case::Case, catalogue::Catalogue};

/// A pattern of `--select` or `--skip`.
#[derive(Clone, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// Takes any text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it means this case.
    #[must_use]
    pub fn matches(&self, case: &Case, catalogue: &Catalogue) -> bool {
        let text = self.0.as_str();
        if let Some(tag) = text.strip_prefix("tag:") {
            return case.tags.contains(&tag);
        }
        if let Some(level) = text.strip_prefix("level:") {
            return case.level_by(catalogue).name().eq_ignore_ascii_case(level);
        }
        if let Some(section) = text.strip_prefix("section:") {
            return case.requirements.iter().any(|id| {
                catalogue
                    .get(id)
                    .is_some_and(|row| begins_at_border(&row.section, section))
            });
        }
        if text.contains('*') {
            return glob(text.as_bytes(), case.id.as_bytes());
        }
        case.id.starts_with(text)
            || case
                .requirements
                .iter()
                .any(|id| begins_at_border(id, text))
    }
}

/// `5.5` means 5.5 and 5.5.6 and not 5.50.
fn begins_at_border(whole: &str, beginning: &str) -> bool {
    whole
        .strip_prefix(beginning)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            (0..=text.len()).any(|skipped| text.get(skipped..).is_some_and(|text| glob(rest, text)))
        }
        (Some((expected, pattern)), Some((found, text))) if expected == found => {
            glob(pattern, text)
        }
        _ => false,
    }
}

/// The cases that are meant: any of `select` (or all), and none of `skip`.
#[must_use]
pub fn choose(
    cases: Vec<Case>,
    select: &[Pattern],
    skip: &[Pattern],
    catalogue: &Catalogue,
) -> Vec<Case> {
    cases
        .into_iter()
        .filter(|case| {
            let meant = |patterns: &[Pattern]| {
                patterns
                    .iter()
                    .any(|pattern| pattern.matches(case, catalogue))
            };
            (select.is_empty() || meant(select)) && !meant(skip)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_end_at_a_border() {
        assert!(begins_at_border("5.5.6", "5.5"));
        assert!(begins_at_border("5.5", "5.5"));
        assert!(!begins_at_border("5.50", "5.5"));
        assert!(glob(
            b"masa/*/inner-*",
            b"masa/rfc8995-5.5.6/inner-nonce-differs"
        ));
        assert!(!glob(b"masa/*/inner", b"masa/x/inner-nonce"));
    }
}
