//! UTCTime and GeneralizedTime.

use time::{Date, Month, OffsetDateTime, Time};

use crate::tlv::{self, TlvError};

/// Reads the Time of RFC 5280 §4.1.2.5: UTCTime or GeneralizedTime in their DER forms.
pub(crate) fn read(tlv: &tlv::Tlv<'_>) -> tlv::Result<OffsetDateTime> {
    let malformed = TlvError("time is malformed");
    let digits = tlv.value.strip_suffix(b"Z").ok_or(malformed)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(malformed);
    }
    let mut pairs = digits
        .chunks_exact(2)
        // Two ASCII digits, so the number is at most 99.
        .map(|pair| {
            pair.iter()
                .fold(0_u8, |sum, digit| sum * 10 + (digit - b'0'))
        });
    let mut next = || pairs.next().ok_or(malformed);
    let year = match (tlv.tag, digits.len()) {
        (tlv::UTC_TIME, 12) => {
            let year = i32::from(next()?);
            // RFC 5280 §4.1.2.5.1: 50 and above are in the twentieth century.
            if year >= 50 { 1900 + year } else { 2000 + year }
        }
        (tlv::GENERALIZED_TIME, 14) => i32::from(next()?) * 100 + i32::from(next()?),
        _ => return Err(malformed),
    };
    let month = Month::try_from(next()?).map_err(|_| malformed)?;
    let date = Date::from_calendar_date(year, month, next()?).map_err(|_| malformed)?;
    let time = Time::from_hms(next()?, next()?, next()?).map_err(|_| malformed)?;
    Ok(OffsetDateTime::new_utc(date, time))
}

/// Encodes a time: UTCTime through 2049, GeneralizedTime before 1950 and from 2050 on, as
/// RFC 5280 §4.1.2.5 and RFC 5652 §11.3 demand.
pub(crate) fn encode(time: OffsetDateTime) -> Vec<u8> {
    let time = time.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if (1950..2050).contains(&year) {
        let text = format!("{:02}{rest}", year % 100);
        tlv::element(tlv::UTC_TIME, &[text.as_bytes()])
    } else {
        let text = format!("{year:04}{rest}");
        tlv::element(tlv::GENERALIZED_TIME, &[text.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn round_trip(time: OffsetDateTime, tag: u8) {
        let der = encode(time);
        let element = tlv::Reader::der(&der).any().unwrap();
        assert_eq!(element.tag, tag);
        assert_eq!(read(&element).unwrap(), time);
    }

    /// Requirements: CMS-11.3-01
    #[test]
    fn form_changes_with_the_year() {
        round_trip(datetime!(1949-12-31 23:59:59 UTC), tlv::GENERALIZED_TIME);
        round_trip(datetime!(1950-01-01 00:00:00 UTC), tlv::UTC_TIME);
        round_trip(datetime!(2049-12-31 23:59:59 UTC), tlv::UTC_TIME);
        round_trip(datetime!(2050-01-01 00:00:00 UTC), tlv::GENERALIZED_TIME);
        round_trip(datetime!(9999-12-31 23:59:59 UTC), tlv::GENERALIZED_TIME);
    }
}
