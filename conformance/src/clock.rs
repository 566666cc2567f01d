//! The only place of the suite that asks for the time.

use time::OffsetDateTime;

/// Now, in UTC.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the suite is a program of its own and links no daemon"
)]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Now as RFC 3339 with whole seconds.
#[must_use]
pub fn now_text() -> String {
    text(now())
}

/// A time as RFC 3339 with whole seconds.
#[must_use]
pub fn text(at: OffsetDateTime) -> String {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_else(|_| at.to_string())
}
