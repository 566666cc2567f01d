//! Dates as RFC 3339 and `yang:date-and-time` write them.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Longest date text that is looked at.
const DATE_LENGTH_MAX_BYTES: usize = 64;

/// Reads any RFC 3339 date and time, with fractions and zone offsets.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    if text.len() > DATE_LENGTH_MAX_BYTES || !shape_is_right(text.as_bytes()) {
        return None;
    }
    // The parser wants capitals; RFC 3339 section 5.6 allows both.
    let parsed = OffsetDateTime::parse(&text.to_ascii_uppercase(), &Rfc3339).ok()?;
    parsed.checked_to_offset(UtcOffset::UTC)
}

/// `YYYY-MM-DDThh:mm:ss[.f…](Z|±hh:mm)`, so that nothing looser slips through the parser.
fn shape_is_right(text: &[u8]) -> bool {
    let pattern = b"dddd-dd-ddTdd:dd:dd";
    let Some((head, mut rest)) = text.split_at_checked(pattern.len()) else {
        return false;
    };
    let fits = head.iter().zip(pattern).all(|(byte, want)| match want {
        b'd' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        other => byte == other,
    });
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return false;
        }
        rest = fraction.split_at(digits).1;
    }
    let zone = match rest {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    fits && zone
}

/// Writes a date in UTC, with milliseconds only when there are any: what signs stays the
/// same bytes for the same instant.
pub(crate) fn format(date: OffsetDateTime) -> String {
    let date = date.to_offset(UtcOffset::UTC);
    let (year, month, day) = date.to_calendar_date();
    let (hour, minute, second, milli) = date.to_hms_milli();
    let month = u8::from(month);
    let base = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if milli == 0 {
        format!("{base}Z")
    } else {
        format!("{base}.{milli:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rfc_3339_allows_and_nothing_else() {
        for (text, want) in [
            (
                "2021-04-13T17:43:23.747-04:00",
                Some("2021-04-13T21:43:23.747Z"),
            ),
            ("2016-10-07T19:31:42Z", Some("2016-10-07T19:31:42Z")),
            ("2016-10-07t19:31:42z", Some("2016-10-07T19:31:42Z")),
            (
                "2016-10-07T19:31:42.123456789012Z",
                Some("2016-10-07T19:31:42.123Z"),
            ),
            ("2016-10-07T19:31:42-00:00", Some("2016-10-07T19:31:42Z")),
            ("2016-12-31T23:59:60Z", Some("2016-12-31T23:59:59.999Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59Z")),
            ("9999-12-31T23:59:59-23:00", None),
            ("2016-10-07 19:31:42Z", None),
            ("2016-10-07T19:31:42", None),
            ("2016-10-07T19:31Z", None),
            ("2016-10-07T19:31:42.Z", None),
            ("2016-13-07T19:31:42Z", None),
            ("2016-02-30T19:31:42Z", None),
            ("2016-10-07T25:31:42Z", None),
            ("+2016-10-07T19:31:42Z", None),
            ("1475868702", None),
            ("", None),
        ] {
            assert_eq!(parse(text).map(format).as_deref(), want, "{text}");
        }
    }
}
