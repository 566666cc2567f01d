//! Media types: what a body claims to be, and what the peer says it accepts.
//!
//! [RFC 8995 §5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.2) asks registrars and
//! MASAs to be flexible here, so lists, quality values, wildcards, parameters and any case are
//! read, and a missing `Accept` means that everything is accepted.

use artifacts::Envelope;

/// Entries of an `Accept` header beyond this count are ignored: a peer controls them.
pub const ACCEPT_ENTRIES_MAX: usize = 16;

/// Voucher media types that exist and that this implementation does not produce here.
const KNOWN_ELSEWHERE: [&str; 2] = ["application/voucher-cose+cbor", "application/voucher+cose"];

/// The type and subtype of a media type, in lower case and without parameters.
#[must_use]
pub fn essence(value: &str) -> String {
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// The envelope that a `Content-Type` names, or `None` for one that is not understood.
#[must_use]
pub fn envelope_of(content_type: &str) -> Option<Envelope> {
    let wanted = essence(content_type);
    [Envelope::Cms, Envelope::Jws]
        .into_iter()
        .find(|envelope| envelope.media_type() == wanted)
}

/// What an `Accept` header allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptable {
    /// One of these, best first. Never empty.
    These(Vec<Envelope>),
    /// Only voucher formats that exist and that we cannot produce for this device.
    NoneOfOurs,
    /// Nothing in the header is a voucher format that we know of.
    NotUnderstood,
}

/// Reads an `Accept` header; `preferred` is what the server would send if it may choose.
#[must_use]
pub fn acceptable(accept: Option<&str>, preferred: Envelope) -> Acceptable {
    let ours = if preferred == Envelope::Cms {
        [Envelope::Cms, Envelope::Jws]
    } else {
        [Envelope::Jws, Envelope::Cms]
    };
    let Some(accept) = accept.filter(|value| !value.trim().is_empty()) else {
        return Acceptable::These(ours.to_vec());
    };
    let entries: Vec<(String, u32)> = accept
        .split(',')
        .take(ACCEPT_ENTRIES_MAX)
        .map(|entry| (essence(entry), quality(entry)))
        .collect();
    let mut scored: Vec<(u32, Envelope)> = Vec::new();
    for envelope in ours {
        // The most specific entry decides, whatever its place in the list (RFC 9110 §12.5.1).
        let score = entries
            .iter()
            .find(|(name, _)| name == envelope.media_type())
            .or_else(|| entries.iter().find(|(name, _)| name == "application/*"))
            .or_else(|| {
                entries
                    .iter()
                    .find(|(name, _)| name == "*/*" || name == "*")
            })
            .map_or(0, |(_, quality)| *quality);
        if score > 0 {
            scored.push((score, envelope));
        }
    }
    // A stable sort keeps the server's preference among equals.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    if !scored.is_empty() {
        return Acceptable::These(scored.into_iter().map(|(_, envelope)| envelope).collect());
    }
    let known = entries
        .iter()
        .any(|(name, _)| KNOWN_ELSEWHERE.contains(&name.as_str()) || envelope_of(name).is_some());
    if known {
        Acceptable::NoneOfOurs
    } else {
        Acceptable::NotUnderstood
    }
}

/// The `q` parameter in thousandths; 1000 when absent or unreadable.
fn quality(entry: &str) -> u32 {
    entry
        .split(';')
        .skip(1)
        .find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("q") {
                return None;
            }
            let value = value.trim();
            let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
            let whole: u32 = whole.parse().ok()?;
            let mut thousandths = String::from(fraction.get(..3).unwrap_or(fraction));
            while thousandths.len() < 3 {
                thousandths.push('0');
            }
            Some(
                whole
                    .checked_mul(1000)?
                    .saturating_add(thousandths.parse().ok()?)
                    .min(1000),
            )
        })
        .unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requirements: BRSKI-5.2-17, VOUCHER-8.3-01
    #[test]
    fn accept_lists_wildcards_and_weights_are_read() {
        let both = Acceptable::These(vec![Envelope::Cms, Envelope::Jws]);
        let jws = Acceptable::These(vec![Envelope::Jws]);
        for (accept, expect) in [
            (None, both.clone()),
            (Some(""), both.clone()),
            (Some("*/*"), both.clone()),
            (Some("application/*;q=0.1"), both),
            (Some("application/voucher-jws+json"), jws.clone()),
            (
                Some("APPLICATION/Voucher-JWS+JSON; charset=utf-8"),
                jws.clone(),
            ),
            (
                Some("application/voucher-cms+json;q=0, application/voucher-jws+json;q=0.5"),
                jws,
            ),
            (
                Some("application/voucher-cms+json;q=0.2, */*;q=0.9"),
                Acceptable::These(vec![Envelope::Jws, Envelope::Cms]),
            ),
            (
                Some("application/voucher-cose+cbor"),
                Acceptable::NoneOfOurs,
            ),
            (
                Some("application/voucher-cms+json;q=0"),
                Acceptable::NoneOfOurs,
            ),
            (Some("text/html"), Acceptable::NotUnderstood),
        ] {
            assert_eq!(acceptable(accept, Envelope::Cms), expect, "{accept:?}");
        }
    }

    /// Requirements: VOUCHER-8.3-01
    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        assert_eq!(
            envelope_of("APPLICATION/Voucher-CMS+JSON;charset=utf-8"),
            Some(Envelope::Cms)
        );
        assert_eq!(
            envelope_of("application/voucher-jws+json"),
            Some(Envelope::Jws)
        );
        assert_eq!(envelope_of("application/foo"), None);
    }
}
