//! The rows of a file, one by one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use folio_ledger::transaction::Operation;
use serde_json::{Map, Value};

use super::cannot;
use super::fields::Meaning;
use super::position::Place;
use crate::run::Failure;

/// No row is longer: the largest value, written in the longest way, fits with room to spare.
const MAX_ROW: u64 = 8 << 20;

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Titles, then rows, with commas between fields
    Csv,
    /// A JSON object a line
    Jsonl,
}

impl Shape {
    /// The shape of a file: what was asked for, or what its name says.
    pub fn of(asked: Option<Shape>, data: &Path) -> Result<Shape, Failure> {
        let extension = data.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        let named = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("csv") => Some(Shape::Csv),
            Some("jsonl" | "ndjson") => Some(Shape::Jsonl),
            _ => None,
        };
        asked.or(named).ok_or_else(|| {
            Failure::Usage(format!(
                "{}: its name does not say what it is: give --shape csv or --shape jsonl",
                data.display()
            ))
        })
    }
}

/// A row.
pub struct Row {
    /// The line it begins in, from 1.
    pub line: u64,
    /// As it stands in the file.
    pub text: Vec<u8>,
    /// What it asks for, or what is wrong with it.
    pub operation: Result<Operation, String>,
}

/// A file that is being read.
pub struct Rows {
    path: PathBuf,
    file: BufReader<File>,
    length: u64,
    place: Place,
    shape: Shape,
    /// The titles of a CSV file.
    titles: Option<Vec<String>>,
    meaning: Meaning,
}

impl Rows {
    pub fn open(path: &Path, shape: Shape, meaning: Meaning) -> Result<Self, Failure> {
        let failed = |error| cannot("read", path, &error);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut rows = Rows {
            path: path.to_owned(),
            file: BufReader::with_capacity(1 << 16, file),
            length,
            place: Place::default(),
            shape,
            titles: None,
            meaning,
        };
        if shape == Shape::Csv {
            let titles = rows.read()?.map(|line| split(&line)).transpose();
            let titles = titles.map_err(|reason| rows.wrong_titles(&reason))?;
            let titles = titles.ok_or_else(|| rows.wrong_titles("it is empty"))?;
            let known = titles.iter().map(String::as_str);
            let checked = rows.meaning.check(known);
            checked.map_err(|reason| rows.wrong_titles(&reason))?;
            rows.titles = Some(titles);
        }
        Ok(rows)
    }

    fn wrong_titles(&self, reason: &str) -> Failure {
        Failure::Error(format!("{}, line 1: {reason}", self.path.display()))
    }

    /// The length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where the next row begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Goes on at a place where a row began.
    pub fn go_to(&mut self, place: Place) -> Result<(), Failure> {
        let moved = self.file.seek(SeekFrom::Start(place.bytes));
        moved.map_err(|error| cannot("read", &self.path, &error))?;
        self.place = place;
        Ok(())
    }

    /// The next row; none at the end. Empty lines are no rows.
    pub fn next(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            let line = self.place.lines + 1;
            let Some(text) = self.read()? else {
                return Ok(None);
            };
            if !text.trim_ascii().is_empty() {
                let operation = self.fields(&text);
                let operation = operation.and_then(|row| self.meaning.operation(row));
                return Ok(Some(Row {
                    line,
                    text,
                    operation,
                }));
            }
        }
    }

    fn fields(&self, text: &[u8]) -> Result<Map<String, Value>, String> {
        let Some(titles) = &self.titles else {
            return serde_json::from_slice(text)
                .map_err(|error| format!("it is no JSON object: {error}"));
        };
        let fields = split(text)?;
        if fields.len() != titles.len() {
            return Err(format!(
                "it has {} fields, and there are {} titles",
                fields.len(),
                titles.len()
            ));
        }
        let fields = fields.into_iter().map(Value::String);
        Ok(titles.iter().cloned().zip(fields).collect())
    }

    /// Reads a line without its end, or in CSV several, if the end of the first is within quotes.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut text = Vec::new();
        let (mut lines, mut open) = (0, false);
        loop {
            let begins = text.len();
            let room = MAX_ROW - begins as u64;
            let read = (&mut self.file).take(room).read_until(b'\n', &mut text);
            let read = read.map_err(|error| cannot("read", &self.path, &error))?;
            lines += u64::from(read > 0);
            if self.shape == Shape::Csv {
                let quotes = text[begins..].iter().filter(|&&byte| byte == b'"');
                open ^= quotes.count() % 2 == 1;
            }
            let ended = text.last() == Some(&b'\n');
            if ended && !open || read == 0 {
                break;
            }
            if text.len() as u64 == MAX_ROW {
                return Err(Failure::Error(format!(
                    "{}, line {}: the row that begins there is longer than any can be{}",
                    self.path.display(),
                    self.place.lines + 1,
                    if open { "; is a quote not closed?" } else { "" }
                )));
            }
        }
        if text.is_empty() {
            return Ok(None);
        }
        self.place.bytes += text.len() as u64;
        self.place.lines += lines;
        while matches!(text.last(), Some(b'\n' | b'\r')) {
            text.pop();
        }
        Ok(Some(text))
    }
}

/// The fields of a row of CSV (RFC 4180).
fn split(text: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("it is no UTF-8: {error}"))?;
    let mut fields = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err("a quote is within a field that does not begin with one".to_owned());
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err("there is more behind the closing quote of a field".to_owned()),
        }
    }
}

/// A field behind its opening quote, and what follows the closing one.
fn unquote(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split_at_commas_outside_quotes() {
        for (text, fields) in [
            ("a,b", vec!["a", "b"]),
            ("", vec![""]),
            (",", vec!["", ""]),
            ("\"a,\"\"b\"\"\",c", vec!["a,\"b\"", "c"]),
            ("\"two\nlines\",", vec!["two\nlines", ""]),
            ("\u{feff}ä,ß", vec!["ä", "ß"]),
        ] {
            let expected: Vec<String> = fields.into_iter().map(str::to_owned).collect();
            assert_eq!(split(text.as_bytes()), Ok(expected), "{text}");
        }
        for wrong in [&b"\"a"[..], b"\"a\"b", b"a\"b\"", b"\xff"] {
            assert!(split(wrong).is_err(), "{wrong:?}");
        }
    }

    fn rows(text: &str, shape: Shape) -> Result<Rows, Failure> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("room");
        Rows::open(file.path(), shape, Meaning::default())
    }

    #[test]
    fn every_row_has_its_line_and_reading_goes_on_at_every_place() {
        let text = "key,value\r\na,1\n\n\"b\",\"2\n3\"\nc\nd,4";
        let mut whole = rows(text, Shape::Csv).expect("good titles");
        let mut places = vec![whole.place()];
        let mut lines = Vec::new();
        while let Some(row) = whole.next().expect("readable") {
            places.push(whole.place());
            lines.push((row.line, row.operation.is_ok()));
        }
        assert_eq!(lines, [(2, true), (4, true), (6, false), (7, true)]);
        for (skipped, &place) in places.iter().enumerate() {
            let mut part = rows(text, Shape::Csv).expect("good titles");
            part.go_to(place).expect("a file");
            let mut rest = Vec::new();
            while let Some(row) = part.next().expect("readable") {
                rest.push((row.line, row.operation.is_ok()));
            }
            assert_eq!(rest, lines[skipped..]);
        }
    }

    #[test]
    fn titles_that_mean_nothing_and_rows_without_an_end_are_refused() {
        for (text, word) in [
            ("", "empty"),
            ("resource,relation\n", "`subject`"),
            ("\"key\n", "quote"),
        ] {
            let refused = rows(text, Shape::Csv).map(|_| ()).expect_err(word);
            let message = refused.message().expect("it says why");
            assert!(
                message.contains(word) && message.contains("line 1"),
                "{message}"
            );
        }
        let endless = format!("key,value\na,\"{}", "x\n".repeat(5 << 20));
        let mut endless = rows(&endless, Shape::Csv).expect("good titles");
        let refused = endless.next().map(|_| ()).expect_err("no end");
        let message = refused.message().expect("it says why");
        assert!(
            message.contains("line 2") && message.contains("quote"),
            "{message}"
        );
    }
}
