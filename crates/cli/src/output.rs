//! Printing: plain tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::run::Failure;

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON object, for programs
    Json,
}

/// Prints `text` to standard output. Whoever reads it may stop before the end; that is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Error(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Prints one JSON object.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(Failure::error)?;
    text.push('\n');
    print(&text)
}

/// Columns of text, aligned. In columns that may hold them, numbers go to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
    numbers_right: bool,
}

impl Table {
    pub fn new(titles: &[&str]) -> Self {
        let mut table = Table::figures();
        table.row(titles.iter().copied());
        table
    }

    /// Rows of figures, without titles.
    pub fn figures() -> Self {
        Table {
            rows: Vec::new(),
            numbers_right: true,
        }
    }

    /// Names and what they stand for.
    pub fn list() -> Self {
        Table {
            rows: Vec::new(),
            numbers_right: false,
        }
    }

    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .map(|row| cell(row, column).chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, &width) in widths.iter().enumerate() {
                let text = cell(row, column);
                let number = self.numbers_right && text.starts_with(|c: char| c.is_ascii_digit());
                let padded = if number {
                    format!("{text:>width$}  ")
                } else {
                    format!("{text:<width$}  ")
                };
                line.push_str(&padded);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How bars are drawn: in blocks and a colour on a terminal, and in characters that any program passes on elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Drawing {
    is_plain: bool,
}

impl Drawing {
    /// For what is printed to standard output. `NO_COLOR` wants it plain on a terminal, too.
    pub fn of_stdout() -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Drawing {
            is_plain: no_colour || !std::io::stdout().is_terminal(),
        }
    }

    /// A part of a whole as a bar of at most `width` characters; anything above nothing is seen. To stand last in its row: the
    /// codes of its colour have a length, too.
    pub fn bar(self, part: u64, whole: u64, width: u64) -> String {
        let eighths = u128::from(part) * u128::from(width) * 8 / u128::from(whole.max(1));
        let eighths = eighths.max(u128::from(part > 0)).min(u128::from(width) * 8) as usize;
        if self.is_plain {
            return "#".repeat(eighths.div_ceil(8));
        }
        const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let (full, part) = (eighths / 8, PARTS[eighths % 8]);
        format!("\x1b[36m{}{part}\x1b[0m", "█".repeat(full))
    }
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the unit that suits it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "bytes" {
        format!("{bytes} bytes")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1_000, 69_659, 250_031_563].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "69,659", "250,031,563"]);
    }

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        let texts = [0, 1023, 1024, 1536, 5 << 30, 1 << 50].map(size);
        assert_eq!(
            texts,
            [
                "0 bytes",
                "1023 bytes",
                "1.0 KiB",
                "1.5 KiB",
                "5.0 GiB",
                "1024.0 TiB"
            ]
        );
    }

    #[test]
    fn bars_are_as_long_as_their_part_and_what_is_there_is_seen() {
        let plain = Drawing { is_plain: true };
        for (part, whole, bar) in [
            (0, 100, ""),
            (1, 1_000_000, "#"),
            (50, 100, "#####"),
            (100, 100, "##########"),
            (u64::MAX, u64::MAX, "##########"),
            (7, 0, "##########"),
        ] {
            assert_eq!(plain.bar(part, whole, 10), bar, "{part} of {whole}");
        }
        let blocks = Drawing { is_plain: false };
        assert_eq!(blocks.bar(19, 80, 10), "\x1b[36m██▍\x1b[0m");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["node", "rows"]);
        table.row(["a", "1"]).row(["bcdefg", "12345"]);
        assert_eq!(
            table.to_string(),
            "node    rows\na           1\nbcdefg  12345\n"
        );
    }
}
