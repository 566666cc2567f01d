//! How commands show times and tables.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::plain;

/// A time for a person: UTC, without the fraction.
#[must_use]
pub fn when(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(format_description!(
            "[year]-[month]-[day] [hour]:[minute]:[second]"
        ))
        .unwrap_or_else(|_| at.to_string())
}

/// The same, or a word where there is none.
#[must_use]
pub fn when_or(at: Option<OffsetDateTime>, none: &str) -> String {
    at.map_or_else(|| none.to_owned(), when)
}

/// A time as RFC 3339 has it, for JSON.
#[must_use]
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Lines in columns that are as wide as their widest cell. What a peer sent into a cell does not
/// move the cursor of an operator's terminal ([`plain`]).
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines = vec![head.iter().map(|cell| plain(cell)).collect::<Vec<_>>()];
    lines.extend(
        rows.iter()
            .map(|row| row.iter().map(|cell| plain(cell)).collect()),
    );
    let mut widths = vec![0; head.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let lines: Vec<String> = lines
        .iter()
        .map(|line| {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(&format!("{cell:width$}  "));
            }
            text.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_cells_stay_in_their_line() {
        let rows = [["a", "bcd"], ["efghi\n", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            table(&["X", "Y"], &rows),
            "X       Y\na       bcd\nefghi\u{fffd}"
        );
    }
}
