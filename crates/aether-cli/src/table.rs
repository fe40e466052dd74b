//! A plain table: lines of columns, for people and scripts.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// The rows as lines, the first of which has the heads. Columns are separated by at least two spaces; columns of
/// numbers are aligned to the right.
pub(crate) fn table<const COLUMNS: usize>(
    rows: &[[String; COLUMNS]],
    numbers: &RangeInclusive<usize>,
) -> String {
    let widths: [_; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (value, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a String cannot fail.
            let _ = match numbers.contains(&column) {
                true => write!(line, "{value:>width$}  "),
                false => write!(line, "{value:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
