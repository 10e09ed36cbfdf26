//! The purchases that the demo loads: a CSV file of four columns, checked whole before any of it is used.
//!
//! ```text
//! date,customer,discs,cents
//! 1997-01-01,4,2,2933
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;

/// The purchases of the CDNOW shop; data/README.md has their origin.
const CDNOW: &[u8] = include_bytes!("../../../../data/cdnow-purchases.csv.zst");
const CDNOW_NAME: &str = "cdnow-purchases.csv";

const HEADER: &str = "date,customer,discs,cents";
const COLUMNS: usize = 4;
/// The longest line, without its end. The longest one that makes sense has 61 bytes.
const MAX_LINE_BYTES: usize = 256;
/// How many purchases are accepted: all of them are kept in memory until they are loaded.
const MAX_PURCHASES: usize = 5_000_000;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    pub date: Date,
    pub customer: u64,
    pub discs: u64,
    pub cents: u64,
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// What the purchases add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub purchases: u64,
    pub customers: u64,
    pub discs: u64,
    pub cents: u64,
}

/// All purchases of a file, in its order, and their totals.
#[derive(Debug, PartialEq, Eq)]
pub struct DataSet {
    /// What the report calls it.
    pub name: String,
    pub purchases: Vec<Purchase>,
    pub totals: Totals,
}

/// Why a file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{file}: cannot be read: {source}")]
    Read { file: String, source: io::Error },
    #[error("{file}:{line}: {reason}; nothing was loaded")]
    Row {
        file: String,
        line: usize,
        reason: RowError,
    },
    #[error("{file}: there are no purchases after the header")]
    Empty { file: String },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    #[error("the first line must be `{HEADER}`, it is {0}")]
    Header(String),
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotText,
    #[error("the line is empty")]
    Empty,
    #[error("the row has {0} columns instead of {COLUMNS} (`{HEADER}`)")]
    Columns(usize),
    #[error("{0} is not a date of the form 1997-01-31")]
    DateForm(String),
    #[error("{0} is not a day of the calendar")]
    NoSuchDay(String),
    #[error(
        "the column `{column}` must be a whole number without sign or leading zeros, it is {found}"
    )]
    Number { column: &'static str, found: String },
    #[error(
        "the column `{column}` is {found}, the largest number possible is {}",
        u64::MAX
    )]
    TooLarge { column: &'static str, found: String },
    #[error("the sum of the column `{column}` is larger than {}", u64::MAX)]
    Sum { column: &'static str },
    #[error("there are more than {MAX_PURCHASES} purchases")]
    TooMany,
}

impl DataSet {
    /// The purchases in `file`, or those that come with the program.
    pub fn load(file: Option<&Path>) -> Result<DataSet, DataError> {
        match file {
            None => {
                let failed = |source| DataError::Read {
                    file: CDNOW_NAME.into(),
                    source,
                };
                let csv = zstd::Decoder::new(CDNOW).map_err(failed)?;
                DataSet::parse(CDNOW_NAME, csv)
            }
            Some(path) => {
                let name = path.display().to_string();
                let csv = File::open(path).map_err(|source| DataError::Read {
                    file: name.clone(),
                    source,
                })?;
                DataSet::parse(&name, csv)
            }
        }
    }

    fn parse(file: &str, csv: impl Read) -> Result<DataSet, DataError> {
        let mut lines = Lines {
            input: BufReader::new(csv),
            line: Vec::new(),
            number: 0,
        };
        let mut rows = Rows::default();
        loop {
            match lines.next_into(&mut rows) {
                Ok(true) => {}
                Ok(false) => break,
                Err(LineError::Io(source)) => {
                    return Err(DataError::Read {
                        file: file.into(),
                        source,
                    });
                }
                Err(LineError::Row(reason)) => {
                    return Err(DataError::Row {
                        file: file.into(),
                        line: lines.number,
                        reason,
                    });
                }
            }
        }
        if rows.purchases.is_empty() {
            return Err(DataError::Empty { file: file.into() });
        }
        Ok(DataSet {
            name: file.into(),
            totals: rows.totals,
            purchases: rows.purchases,
        })
    }
}

enum LineError {
    Io(io::Error),
    Row(RowError),
}

impl From<RowError> for LineError {
    fn from(error: RowError) -> Self {
        LineError::Row(error)
    }
}

/// Reads line by line, and never more of a line than the limit.
struct Lines<R> {
    input: R,
    line: Vec<u8>,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    /// Adds the next line to `rows`; false at the end.
    fn next_into(&mut self, rows: &mut Rows) -> Result<bool, LineError> {
        self.line.clear();
        self.number += 1;
        let limit = MAX_LINE_BYTES + "\r\n".len();
        let read = self
            .input
            .by_ref()
            .take(limit as u64)
            .read_until(b'\n', &mut self.line)
            .map_err(LineError::Io)?;
        if read == 0 && self.number > 1 {
            return Ok(false);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err(RowError::TooLong.into());
        }
        let line = str::from_utf8(line).map_err(|_| RowError::NotText)?;
        if self.number == 1 {
            if line != HEADER {
                return Err(RowError::Header(quoted(line)).into());
            }
        } else {
            rows.add(line.parse()?)?;
        }
        Ok(true)
    }
}

#[derive(Default)]
struct Rows {
    purchases: Vec<Purchase>,
    customers: BTreeSet<u64>,
    totals: Totals,
}

impl Rows {
    fn add(&mut self, purchase: Purchase) -> Result<(), RowError> {
        if self.purchases.len() == MAX_PURCHASES {
            return Err(RowError::TooMany);
        }
        let sum =
            |column, total: u64, more| total.checked_add(more).ok_or(RowError::Sum { column });
        self.totals.purchases += 1;
        self.totals.customers += u64::from(self.customers.insert(purchase.customer));
        self.totals.discs = sum("discs", self.totals.discs, purchase.discs)?;
        self.totals.cents = sum("cents", self.totals.cents, purchase.cents)?;
        self.purchases.push(purchase);
        Ok(())
    }
}

impl std::str::FromStr for Purchase {
    type Err = RowError;

    fn from_str(line: &str) -> Result<Self, RowError> {
        if line.is_empty() {
            return Err(RowError::Empty);
        }
        let columns: Vec<&str> = line.split(',').collect();
        let [date, customer, discs, cents] = columns[..] else {
            return Err(RowError::Columns(columns.len()));
        };
        Ok(Purchase {
            date: date.parse()?,
            customer: number("customer", customer)?,
            discs: number("discs", discs)?,
            cents: number("cents", cents)?,
        })
    }
}

/// A number has one spelling, so that a customer cannot be counted under two.
fn number(column: &'static str, text: &str) -> Result<u64, RowError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(RowError::Number {
            column,
            found: quoted(text),
        });
    }
    text.parse().map_err(|_| RowError::TooLarge {
        column,
        found: quoted(text),
    })
}

impl std::str::FromStr for Date {
    type Err = RowError;

    fn from_str(text: &str) -> Result<Self, RowError> {
        let form = || RowError::DateForm(quoted(text));
        let bytes: &[u8; 10] = text.as_bytes().try_into().map_err(|_| form())?;
        let shaped = bytes.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if !shaped {
            return Err(form());
        }
        let value = |digits: &[u8]| {
            digits
                .iter()
                .fold(0u16, |value, digit| value * 10 + u16::from(digit - b'0'))
        };
        let (year, month, day) = (value(&bytes[..4]), value(&bytes[5..7]), value(&bytes[8..]));
        if day == 0 || day > days_in(year, month) {
            return Err(RowError::NoSuchDay(quoted(text)));
        }
        // Both are below 100: two digits each.
        Ok(Date {
            year,
            month: month as u8,
            day: day as u8,
        })
    }
}

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Days in a month; none in a month that does not exist.
fn days_in(year: u16, month: u16) -> u16 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

/// What was found, for an error message: on one line, quoted, and not too much of it.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().count() > SHOWN {
        "..."
    } else {
        ""
    };
    format!("{shown:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(csv: &str) -> Result<DataSet, DataError> {
        DataSet::parse("x.csv", csv.as_bytes())
    }

    #[test]
    fn the_data_of_the_program_is_that_of_its_readme() {
        let totals = DataSet::load(None)
            .expect("the data is part of the program")
            .totals;
        let published = Totals {
            purchases: 69_659,
            customers: 23_570,
            discs: 167_881,
            cents: 250_031_563,
        };
        assert_eq!(totals, published);
    }

    #[test]
    fn rows_are_added_up() {
        let data = parse("date,customer,discs,cents\r\n1997-01-01,4,2,2933\n1998-12-31,4,0,0\n2000-02-29,18446744073709551615,1,1")
            .expect("a good file");
        assert_eq!(
            data.totals,
            Totals {
                purchases: 3,
                customers: 2,
                discs: 3,
                cents: 2934
            }
        );
        assert_eq!(data.purchases[2].customer, u64::MAX);
        assert_eq!(data.purchases[1].date.to_string(), "1998-12-31");
    }

    #[test]
    fn a_bad_line_is_named_with_its_file_its_number_and_the_reason() {
        let long = "1".repeat(MAX_LINE_BYTES + 1);
        let cases = [
            (
                "",
                "x.csv:1: the first line must be `date,customer,discs,cents`, it is \"\"",
            ),
            ("customer,date\n", "x.csv:1: the first line must be"),
            (
                "\u{feff}date,customer,discs,cents\n",
                "x.csv:1: the first line must be",
            ),
            (
                "date,customer,discs,cents\n\n",
                "x.csv:2: the line is empty",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1\n",
                "x.csv:2: the row has 3 columns instead of 4",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1,1,\n",
                "x.csv:2: the row has 5 columns",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1,1\n1997-1-1,1,1,1\n",
                "x.csv:3: \"1997-1-1\" is not a date of",
            ),
            (
                "date,customer,discs,cents\n01.01.1997,1,1,1\n",
                "x.csv:2: \"01.01.1997\" is not a date of",
            ),
            (
                "date,customer,discs,cents\n1997-02-29,1,1,1\n",
                "x.csv:2: \"1997-02-29\" is not a day of the calendar",
            ),
            (
                "date,customer,discs,cents\n1900-02-29,1,1,1\n",
                "is not a day",
            ),
            (
                "date,customer,discs,cents\n1997-04-31,1,1,1\n",
                "is not a day",
            ),
            (
                "date,customer,discs,cents\n1997-13-01,1,1,1\n",
                "is not a day",
            ),
            (
                "date,customer,discs,cents\n1997-00-01,1,1,1\n",
                "is not a day",
            ),
            (
                "date,customer,discs,cents\n1997-01-00,1,1,1\n",
                "is not a day",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,,1,1\n",
                "the column `customer` must be a whole number",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,007,1,1\n",
                "without sign or leading zeros, it is \"007\"",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,+1,1\n",
                "the column `discs` must be a whole number",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1,-1\n",
                "the column `cents` must be a whole number",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1, 1\n",
                "the column `cents` must be a whole number",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1,1.5\n",
                "the column `cents` must be a whole number",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1,18446744073709551616\n",
                "the largest number possible is",
            ),
            (
                "date,customer,discs,cents\n1997-01-01,1,1,18446744073709551615\n1997-01-01,1,1,1\n",
                "x.csv:3: the sum of the column `cents` is larger than",
            ),
            (
                &format!("date,customer,discs,cents\n{long}\n"),
                "x.csv:2: the line is longer than 256 bytes",
            ),
            (&long, "x.csv:1: the line is longer than 256 bytes"),
            (
                "date,customer,discs,cents\n",
                "x.csv: there are no purchases after the header",
            ),
        ];
        for (csv, expected) in cases {
            let error = parse(csv).expect_err(csv).to_string();
            assert!(error.contains(expected), "{csv:?}: {error}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let error = DataSet::parse(
            "x.csv",
            &b"date,customer,discs,cents\n1997-01-01,1,\xff,1\n"[..],
        );
        assert!(
            matches!(
                error,
                Err(DataError::Row {
                    line: 2,
                    reason: RowError::NotText,
                    ..
                })
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_line_without_end_is_not_read_into_memory() {
        let endless = DataSet::parse("x.csv", io::repeat(b'1'));
        assert!(
            matches!(
                endless,
                Err(DataError::Row {
                    line: 1,
                    reason: RowError::TooLong,
                    ..
                })
            ),
            "{endless:?}"
        );
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error =
            DataSet::load(Some(Path::new("no/such/file.csv"))).expect_err("there is no such file");
        assert!(
            error
                .to_string()
                .starts_with("no/such/file.csv: cannot be read: "),
            "{error}"
        );
    }
}
