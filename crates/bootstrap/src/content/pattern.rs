//! Patterns for the texts of a rule: `*` stands for any characters, `?` for one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text with `*` and `?`, matched against whole texts, in their case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, where it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        (!self.0.contains(['*', '?'])).then_some(self.0.as_str())
    }

    /// Whether the whole text fits. Takes time in proportion to both lengths at the worst, since a
    /// later `*` never needs what an earlier one tried.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.exact().is_some() {
            return self.0 == text;
        }
        let (mut pattern, mut rest) = (self.0.chars(), text.chars());
        let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let wanted = pattern.next();
            if wanted == Some('*') {
                retry = Some((pattern.clone(), rest.clone()));
                continue;
            }
            match (wanted, rest.next()) {
                (None, None) => return true,
                (Some('?'), Some(_)) => continue,
                (Some(a), Some(b)) if a == b => continue,
                _ => {}
            }
            // The last star takes one character more.
            let Some((after_star, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            pattern = after_star.clone();
            rest = from.clone();
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let cases = [
            ("C9300-24T", "C9300-24T", true),
            ("C9300-24T", "c9300-24t", false),
            ("C9300*", "C9300-24T", true),
            ("*-24T", "C9300-24T", true),
            ("C9?00-*T", "C9300-24T", true),
            ("C9?00", "C900", false),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*é?", "caféx", true),
        ];
        for (pattern, text, fits) in cases {
            assert_eq!(
                Pattern::new(pattern).matches(text),
                fits,
                "{pattern} {text}"
            );
        }
    }

    /// The definition, as slow as it is short.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                slow(rest, text) || (!text.is_empty() && slow(pattern, &text[1..]))
            }
            (['?', rest @ ..], [_, after @ ..]) => slow(rest, after),
            ([a, rest @ ..], [b, after @ ..]) if a == b => slow(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn fast_and_slow_agree(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let p: Vec<char> = pattern.chars().collect();
            let t: Vec<char> = text.chars().collect();
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), slow(&p, &t));
        }
    }
}
