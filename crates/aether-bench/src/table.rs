//! Tables: rows of text, aligned for a terminal or as Markdown.

use std::fmt::{self, Write as _};

/// A header, and rows with the same number of cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|cell| (*cell).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty, and extra cells are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().chain(std::iter::repeat(String::new()));
        self.rows.push(cells.take(self.head.len()).collect());
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.head.len()));
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        line(&self.head) + &rule + &rows
    }
}

/// Aligned with spaces, for a terminal: the first column to the left, numbers to the right.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = std::iter::once(&self.head).chain(&self.rows).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let is_text = |column: usize| {
            self.rows.iter().any(|row| row[column].starts_with(|first: char| first.is_alphabetic()))
        };
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                if column > 0 {
                    line.push_str("  ");
                }
                if is_text(column) {
                    write!(line, "{cell:<width$}")?
                } else {
                    write!(line, "{cell:>width$}")?
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A human-readable latency: `870 us`, `12.3 ms`, `3.27 s`; a dash without a value.
#[must_use]
pub fn latency(microseconds: Option<f64>) -> String {
    match microseconds {
        None => "-".to_owned(),
        Some(us) if us < 999.5 => format!("{us:.0} us"),
        Some(us) if us < 9_995.0 => format!("{:.2} ms", us / 1e3),
        Some(us) if us < 99_950.0 => format!("{:.1} ms", us / 1e3),
        Some(us) if us < 999_500.0 => format!("{:.0} ms", us / 1e3),
        Some(us) => format!("{:.2} s", us / 1e6),
    }
}

/// A human-readable percentage that shows 100 only if it is exactly 100: `99.98 %`, `100 %`.
#[must_use]
pub fn percent(value: f64) -> String {
    if value <= 0.0 || value == 100.0 {
        return format!("{value:.0} %");
    }
    // Truncated instead of rounded: 99.996 is not 100.
    format!("{} %", (value * 100.0).floor() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_and_the_same_in_markdown() {
        let mut table = Table::new(&["load", "contestant", "p99"]);
        table.row(["0.5".to_owned(), "Aether".to_owned(), "120 us".to_owned()]);
        table.row(["10".to_owned(), "tokio mpsc".to_owned()]);
        assert_eq!(
            table.to_string(),
            "load  contestant     p99\n 0.5  Aether      120 us\n  10  tokio mpsc\n"
        );
        assert_eq!(
            table.markdown(),
            "| load | contestant | p99 |\n|---|---|---|\n| 0.5 | Aether | 120 us |\n| 10 | tokio mpsc |  |\n"
        );
    }

    #[test]
    fn numbers_are_written_for_people_and_no_share_is_called_whole_that_is_not() {
        let latencies = [None, Some(42.4), Some(999.6), Some(9_994.0), Some(50_000.0), Some(3_268_000.0)];
        assert_eq!(latencies.map(latency), ["-", "42 us", "1.00 ms", "9.99 ms", "50.0 ms", "3.27 s"]);
        let shares = [0.0, 9.0, 99.9, 99.9996, 100.0, 104.239];
        assert_eq!(shares.map(percent), ["0 %", "9 %", "99.9 %", "99.99 %", "100 %", "104.23 %"]);
    }
}
