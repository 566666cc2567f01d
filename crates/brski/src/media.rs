//! Media types: what a body claims to be, and what the peer says it accepts.
//!
//! [RFC 8995 §5.2](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.2) asks registrars and
//! MASAs to be flexible here, so lists, quality values, wildcards, parameters and any case are
//! read, and a missing `Accept` means that everything is accepted.

use artifacts::{Envelope, OLD_COSE_MEDIA_TYPE};
use serde::{Deserialize, Serialize};

/// Entries of an `Accept` header beyond this count are ignored: a peer controls them.
pub const ACCEPT_ENTRIES_MAX: usize = 16;

/// The name under which COSE vouchers go.
///
/// draft-ietf-anima-constrained-voucher renamed it after -22; deployed registrars and MASAs speak
/// the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoseName {
    /// `application/voucher+cose`.
    #[default]
    Current,
    /// `application/voucher-cose+cbor`.
    Old,
}

impl CoseName {
    /// The media type of an envelope, in this wording.
    #[must_use]
    pub fn of(self, envelope: Envelope) -> &'static str {
        match (self, envelope) {
            (Self::Old, Envelope::Cose) => OLD_COSE_MEDIA_TYPE,
            _ => envelope.media_type(),
        }
    }

    /// The wording in which a peer asks: that of its `Accept`, or else of what it sent.
    #[must_use]
    pub fn asked_for(content_type: Option<&str>, accept: Option<&str>) -> Self {
        let names = |name: &str| {
            accept
                .unwrap_or_default()
                .split(',')
                .take(ACCEPT_ENTRIES_MAX)
                .any(|entry| essence(entry) == name && quality(entry) > 0)
        };
        let sent = essence(content_type.unwrap_or_default());
        let current = names(Envelope::Cose.media_type());
        if !current && (names(OLD_COSE_MEDIA_TYPE) || sent == OLD_COSE_MEDIA_TYPE) {
            Self::Old
        } else {
            Self::Current
        }
    }
}

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
    if wanted == OLD_COSE_MEDIA_TYPE {
        return Some(Envelope::Cose);
    }
    Envelope::ALL
        .into_iter()
        .find(|envelope| envelope.media_type() == wanted)
}

/// What an `Accept` header allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptable {
    /// One of these, best first. Never empty.
    These(Vec<Envelope>),
    /// Only voucher formats that the peer does not want.
    NoneOfOurs,
    /// Nothing in the header is a voucher format that we know of.
    NotUnderstood,
}

/// Reads an `Accept` header; `preferred` is what the server would send if it may choose.
///
/// COSE is for devices that read nothing else, and what else there is, is not for them: where the
/// peer leaves the choice, it is between COSE alone and the others.
#[must_use]
pub fn acceptable(accept: Option<&str>, preferred: Envelope) -> Acceptable {
    let (ours, on_request): (&[Envelope], &[Envelope]) = match preferred {
        Envelope::Cms => (&[Envelope::Cms, Envelope::Jws], &[Envelope::Cose]),
        Envelope::Jws => (&[Envelope::Jws, Envelope::Cms], &[Envelope::Cose]),
        // CBR-035: without Accept the voucher has the format of the request.
        Envelope::Cose => (&[Envelope::Cose], &[Envelope::Cms, Envelope::Jws]),
    };
    let Some(accept) = accept.filter(|value| !value.trim().is_empty()) else {
        return Acceptable::These(ours.to_vec());
    };
    let entries: Vec<(String, u32)> = accept
        .split(',')
        .take(ACCEPT_ENTRIES_MAX)
        .map(|entry| (essence(entry), quality(entry)))
        .collect();
    let named = |envelope: Envelope| {
        entries
            .iter()
            .find(|(name, _)| envelope_of(name) == Some(envelope))
    };
    let any = || {
        entries
            .iter()
            .find(|(name, _)| name == "application/*")
            .or_else(|| {
                entries
                    .iter()
                    .find(|(name, _)| name == "*/*" || name == "*")
            })
    };
    let mut scored: Vec<(u32, Envelope)> = Vec::new();
    // The most specific entry decides, whatever its place in the list (RFC 9110 §12.5.1).
    for &envelope in ours {
        let score = named(envelope)
            .or_else(any)
            .map_or(0, |(_, quality)| *quality);
        scored.push((score, envelope));
    }
    for &envelope in on_request {
        scored.push((named(envelope).map_or(0, |(_, quality)| *quality), envelope));
    }
    scored.retain(|(score, _)| *score > 0);
    // A stable sort keeps the server's preference among equals.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    if !scored.is_empty() {
        return Acceptable::These(scored.into_iter().map(|(_, envelope)| envelope).collect());
    }
    let known = entries.iter().any(|(name, _)| envelope_of(name).is_some());
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

    /// Requirements: BRSKI-5.2-17, VOUCHER-8.3-01, CBR-035
    #[test]
    fn accept_lists_wildcards_and_weights_are_read() {
        let both = Acceptable::These(vec![Envelope::Cms, Envelope::Jws]);
        let jws = Acceptable::These(vec![Envelope::Jws]);
        let cose = Acceptable::These(vec![Envelope::Cose]);
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
            (Some("application/voucher-cose+cbor"), cose.clone()),
            (Some("application/voucher+cose, */*;q=0.1"), {
                Acceptable::These(vec![Envelope::Cose, Envelope::Cms, Envelope::Jws])
            }),
            (
                Some("application/voucher-cms+json;q=0"),
                Acceptable::NoneOfOurs,
            ),
            (Some("text/html"), Acceptable::NotUnderstood),
        ] {
            assert_eq!(acceptable(accept, Envelope::Cms), expect, "{accept:?}");
        }
        for (accept, expect) in [
            (None, cose.clone()),
            (Some("*/*"), cose.clone()),
            (Some("application/voucher+cose"), cose.clone()),
            (Some("application/voucher-cose+cbor;q=0.5"), cose),
            (Some("application/voucher+cose;q=0"), Acceptable::NoneOfOurs),
            (
                Some("application/voucher-cms+json"),
                Acceptable::These(vec![Envelope::Cms]),
            ),
            (Some("text/html"), Acceptable::NotUnderstood),
        ] {
            assert_eq!(acceptable(accept, Envelope::Cose), expect, "{accept:?}");
        }
    }

    /// Requirements: CBR-092
    #[test]
    fn the_answer_is_named_as_the_peer_names_it() {
        let (current, old) = ("application/voucher+cose", "application/voucher-cose+cbor");
        for (content_type, accept, expect) in [
            (current, None, current),
            (old, None, old),
            (old, Some(old), old),
            (old, Some("*/*"), old),
            (old, Some(current), current),
            (current, Some(old), old),
            (current, Some("application/voucher-cose+cbor;q=0"), current),
            (
                old,
                Some("application/voucher+cose, application/voucher-cose+cbor"),
                current,
            ),
        ] {
            let name = CoseName::asked_for(Some(content_type), accept);
            assert_eq!(
                name.of(Envelope::Cose),
                expect,
                "{content_type}, {accept:?}"
            );
            assert_eq!(name.of(Envelope::Cms), "application/voucher-cms+json");
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
        for name in ["application/voucher+cose", "application/voucher-cose+cbor"] {
            assert_eq!(envelope_of(name), Some(Envelope::Cose));
        }
        assert_eq!(envelope_of("application/foo"), None);
    }
}
