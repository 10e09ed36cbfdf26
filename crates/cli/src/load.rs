//! `folio load`: puts the rows of a dump into a file, all or none.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use folio_store::{Database, Error, Group, TableDefinition};
use indicatif::ProgressBar;
use xxhash_rust::xxh3::Xxh3Default;

use crate::dump::{EndLine, Head, MAGIC, RowLine, VERSION, part_check};
use crate::output::{self, grouped};
use crate::run::Failure;
use crate::verify::{progress_bar, show_progress};

/// How often progress is shown, in rows.
const SHOW_EVERY: u64 = 1024;

#[derive(Args)]
#[command(after_help = "\
Reads what `folio dump` wrote, in either form, and puts all of it into FILE in one transaction, or nothing if something
is wrong with it. FILE is created if there is none. Tables that FILE has must be empty and of the same types.

Do not start a node of the same cluster on it: it would take part in votes with a state that is not its own.

Examples:
  folio load new.folio --from node-1.jsonl
  folio dump old.folio --format binary | folio load new.folio

Exit codes: 0 success, 1 error, 3 the dump is damaged, or FILE is, 4 FILE is in use.")]
pub struct Arguments {
    /// The file to put the rows into
    file: PathBuf,
    /// The dump; standard input if there is none
    #[arg(long, value_name = "DUMP")]
    from: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let reader: Box<dyn Read> = match &arguments.from {
        None => Box::new(io::stdin().lock()),
        Some(path) => Box::new(File::open(path).map_err(|error| {
            Failure::Error(format!("{}: cannot open it: {error}", path.display()))
        })?),
    };
    let mut dump = Dump::begin(BufReader::new(reader))?;
    let exists = arguments.file.exists();
    let loaded = load(&arguments.file, &mut dump);
    if loaded.is_err() && !exists {
        // What an interrupted load leaves of a new file is an empty database, of no use.
        drop(std::fs::remove_file(&arguments.file));
    }
    let rows = loaded?;
    let tables = dump.head.tables.len() as u64;
    output::print(&format!(
        "{} rows in {} tables\n",
        grouped(rows),
        grouped(tables)
    ))
}

fn load(file: &Path, dump: &mut Dump) -> Result<u64, Failure> {
    let database = Database::builder().open_or_create(file)?;
    let transaction = database.begin_write()?;
    let bar = progress_bar();
    let total = dump
        .head
        .tables
        .iter()
        .fold(0u64, |sum, table| sum.saturating_add(table.rows));
    let mut rows = 0;
    let mut next = dump.next()?;
    for number in 0..dump.head.tables.len() {
        let (definition, expected) = dump.table(number)?;
        let mut table = transaction.untyped(&definition)?;
        if !table.is_empty()? {
            return Err(Failure::Error(format!(
                "{}: table `{}` has rows already; load into another file, or empty it first",
                file.display(),
                definition.name
            )));
        }
        let mut loader = table.loader()?;
        while let Some(row) = next.take_if(|row| row.table as usize == number) {
            loader
                .push(row.key.as_slice(), row.value.as_slice())
                .map_err(|error| match error {
                    Error::OutOfOrder { .. } => damaged(error.to_string()),
                    error => error.into(),
                })?;
            rows += 1;
            show(&bar, rows, total);
            next = dump.next()?;
        }
        if loader.finish()? != expected {
            return Err(damaged(format!(
                "table `{}` has another number of rows than the dump says",
                definition.name
            )));
        }
    }
    if next.is_some() {
        return Err(damaged("its rows are not in the order of its tables"));
    }
    bar.finish_and_clear();
    transaction.commit()?;
    database.close()?;
    Ok(rows)
}

fn show(bar: &ProgressBar, rows: u64, total: u64) {
    if rows.is_multiple_of(SHOW_EVERY) {
        show_progress(bar, "rows", rows, total);
    }
}

fn damaged(fault: impl std::fmt::Display) -> Failure {
    Failure::Corruption(Some(format!(
        "the dump cannot be used: {fault}; nothing was loaded"
    )))
}

struct Row {
    table: u32,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A dump that is being read. Takes the memory of what is really there, whatever lengths it names.
struct Dump {
    reader: BufReader<Box<dyn Read>>,
    head: Head,
    form: Form,
    rows: u64,
    ended: bool,
}

enum Form {
    Lines {
        check: Box<Xxh3Default>,
    },
    Parts {
        check: u128,
        part: Vec<u8>,
        at: usize,
    },
}

impl Dump {
    fn begin(mut reader: BufReader<Box<dyn Read>>) -> Result<Self, Failure> {
        let begins = reader.fill_buf().map_err(read_failure)?;
        let (line, form) = match begins.first() {
            Some(b'{') => {
                let mut check = Box::new(Xxh3Default::new());
                let line = read_line(&mut reader)?;
                check.update(&line);
                (line, Form::Lines { check })
            }
            _ => {
                if read(&mut reader, MAGIC.len() as u64)? != MAGIC {
                    return Err(damaged("it was not made by `folio dump`"));
                }
                let version = read_number(&mut reader, 4)?;
                if version > u64::from(VERSION) {
                    return Err(newer(version));
                }
                let mut check = 0;
                let line = read_part(&mut reader, &mut check)?;
                let (part, at) = (Vec::new(), 0);
                (line, Form::Parts { check, part, at })
            }
        };
        let version = serde_json::from_slice::<serde_json::Value>(&line)
            .ok()
            .and_then(|head| head["folio_dump"].as_u64());
        if let Some(version) = version.filter(|&version| version > u64::from(VERSION)) {
            return Err(newer(version));
        }
        let head = serde_json::from_slice(&line)
            .map_err(|error| damaged(format!("the list of its tables: {error}")))?;
        Ok(Self {
            reader,
            head,
            form,
            rows: 0,
            ended: false,
        })
    }

    fn table(&self, number: usize) -> Result<(TableDefinition, u64), Failure> {
        let table = &self.head.tables[number];
        let group = Group::from_index(table.group)
            .ok_or_else(|| damaged(format!("there is no group {}", table.group)))?;
        let definition = TableDefinition {
            name: table.name.clone(),
            group,
            key_type: table.key_type.clone(),
            value_type: table.value_type.clone(),
        };
        Ok((definition, table.rows))
    }

    /// The next row; none when the dump is at its end, and whole.
    fn next(&mut self) -> Result<Option<Row>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let row = match self.form {
            Form::Lines { .. } => self.next_line()?,
            Form::Parts { .. } => self.next_in_part()?,
        };
        match row {
            Some(_) => self.rows += 1,
            None => {
                self.ended = true;
                if !self.reader.fill_buf().map_err(read_failure)?.is_empty() {
                    return Err(damaged("it goes on behind its end"));
                }
            }
        }
        Ok(row)
    }

    fn next_line(&mut self) -> Result<Option<Row>, Failure> {
        let line = read_line(&mut self.reader)?;
        let Form::Lines { check } = &mut self.form else {
            return Ok(None);
        };
        if line.starts_with(br#"{"end":"#) {
            let end: EndLine = serde_json::from_slice(&line)
                .map_err(|error| damaged(format!("its end: {error}")))?;
            let whole = end.end == self.rows && end.check == format!("{:032x}", check.digest128());
            return match whole {
                true => Ok(None),
                false => Err(damaged("its check does not match")),
            };
        }
        check.update(&line);
        let wrong = |error: &dyn std::fmt::Display| damaged(format!("row {}: {error}", self.rows));
        let row: RowLine = serde_json::from_slice(&line).map_err(|error| wrong(&error))?;
        Ok(Some(Row {
            table: row.t,
            key: STANDARD.decode(row.k).map_err(|error| wrong(&error))?,
            value: STANDARD.decode(row.v).map_err(|error| wrong(&error))?,
        }))
    }

    fn next_in_part(&mut self) -> Result<Option<Row>, Failure> {
        let Form::Parts { check, part, at } = &mut self.form else {
            return Ok(None);
        };
        if *at == part.len() {
            *part = read_part(&mut self.reader, check)?;
            *at = 0;
            if part.is_empty() {
                let rows = read_number(&mut self.reader, 8)?;
                let found = read(&mut self.reader, 16)?;
                let right = part_check(*check, &rows.to_le_bytes()).to_le_bytes();
                return match found == right && rows == self.rows {
                    true => Ok(None),
                    false => Err(damaged("its end does not match")),
                };
            }
        }
        let mut rest = &part[*at..];
        let mut take = |length: usize| {
            let (taken, later) = rest.split_at_checked(length)?;
            rest = later;
            Some(taken)
        };
        let mut number = || {
            let bytes = take(4)?.try_into().ok()?;
            Some(u32::from_le_bytes(bytes))
        };
        let lengths = (number(), number(), number());
        let (Some(table), Some(key), Some(value)) = lengths else {
            return Err(damaged("a part of it ends within a row"));
        };
        let (Some(key), Some(value)) = (take(key as usize), take(value as usize)) else {
            return Err(damaged("a part of it ends within a row"));
        };
        *at += 12 + key.len() + value.len();
        Ok(Some(Row {
            table,
            key: key.to_vec(),
            value: value.to_vec(),
        }))
    }
}

fn newer(version: u64) -> Failure {
    Failure::Error(format!(
        "the dump is of version {version}, and this folio reads up to {VERSION}; use a newer one"
    ))
}

fn read_failure(error: io::Error) -> Failure {
    Failure::Error(format!("cannot read the dump: {error}"))
}

/// A line with its end. It grows with what is read, so no length has to be believed.
fn read_line(reader: &mut impl BufRead) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).map_err(read_failure)?;
    match line.last() {
        Some(b'\n') => Ok(line),
        _ => Err(damaged("it ends early")),
    }
}

fn read(reader: &mut impl Read, length: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    reader
        .take(length)
        .read_to_end(&mut bytes)
        .map_err(read_failure)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(damaged("it ends early")),
    }
}

fn read_number(reader: &mut impl Read, length: u64) -> Result<u64, Failure> {
    let bytes = read(reader, length)?;
    let shifted = |number, &byte: &u8| number << 8 | u64::from(byte);
    Ok(bytes.iter().rev().fold(0, shifted))
}

fn read_part(reader: &mut impl Read, check: &mut u128) -> Result<Vec<u8>, Failure> {
    let length = read_number(reader, 8)?;
    let part = read(reader, length)?;
    *check = part_check(*check, &part);
    match read(reader, 16)? == check.to_le_bytes() {
        true => Ok(part),
        false => Err(damaged("a check in it does not match")),
    }
}
